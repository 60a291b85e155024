"""The objective: the weighted sum of loss terms that training lowers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ffavatar_model import losses
from ffavatar_model.config import require
from ffavatar_model.data.batch import Batch
from ffavatar_model.data.images import BACKGROUND
from ffavatar_model.head.face_parts import PARTS, RIGID, landmark_rows
from ffavatar_model.model import FFAvatar, Output, face_visibility
from ffavatar_model.networks.lpips import LPIPS, LPIPS_FILE_HINT, load_lpips


@dataclass(frozen=True, kw_only=True)
class Precomputed:
    """Values of a forward pass that depend on no trainable parameter; None has to be computed."""

    features: Tensor | None = None
    """(B, P, width + 4) see ``FFAvatar.query_points``: leaves encoder and query former out."""
    estimates: Tensor | None = None
    """(B, D, E + 21) the estimator's raw values for the drivers: leaves the estimator out."""
    shape: Tensor | None = None
    """(B, S) shape coefficients that belong to ``features``, where the model predicts them."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the precomputed tensors by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def clone(self) -> Precomputed:
        """Return the same values in memory of their own."""
        return Precomputed(**{name: value.clone() for name, value in self.tensors().items()})


class Objective(nn.Module):
    """The model and its loss in one module, so that data-parallel wrappers see one forward pass."""

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Weights of the terms; LAM's where the paper gives none, the landmark term's from a pilot run."""

        photometric: float = 1.0
        outside: float = 0.2
        """Weight of a pixel outside the matte."""
        structural: float = 0.2
        lpips: float = 0.0
        """Weight of LPIPS at about 256 pixels, of complete crops over the background; it takes ``lpips_file``."""
        lpips_file: str = ""
        """LPIPS's weights on every worker's machine (``ffavatar_model.networks.lpips``); read where ``lpips`` is on."""
        mask: float = 1.0
        mask_final: float = 0.5
        offset: float = 0.1
        scale: float = 0.1
        landmark: float = 5.0
        landmark_until: float = 0.6
        """Share of the run after which the landmark term has faded out."""
        landmark_floor: float = 0.0
        """Share of the landmark terms (``landmark``, ``parts``) that never fades out."""
        known_landmark: float = 0.0
        """Where cameras are known: weight of the distance of landmarks; it never fades out."""
        parts: float = 0.0
        """Weight of the landmarks of lips, lids and brows, each relative to its part's middle; fades out with
        ``landmark``."""
        motion: float = 0.0
        """Where cameras are unknown: weight of how lips, lids and brows move between a person's drivers, in a
        face-rigid frame (``losses.motion``); it never fades out."""
        shape: float = 1e-4
        """Weight of squared shape coefficients, where the model predicts them."""
        pose: float = 1.0
        """Where cameras are known: distance of landmarks under the estimated and the known pose, in image widths."""
        expression: float = 1e-3
        joints: float = 1e-2
        standing: float = 0.0
        """Weight of the mean parameters of a person's drivers. For unknown cameras alone: with known ones, the drivers
        share a timestep."""
        agreement: float = 0.0
        """Where cameras are known: weight of the disagreement between the views of one timestep about the face."""

        def __post_init__(self) -> None:
            require(0 < self.landmark_until <= 1, "landmark_until", self.landmark_until, "above 0, at most 1")
            require(0 <= self.landmark_floor <= 1, "landmark_floor", self.landmark_floor, "0 to 1")
            require(self.lpips >= 0, "lpips", self.lpips, "0 (off) or more")

        def load_lpips(self) -> LPIPS | None:
            """Load LPIPS with its weights; None where its weight in the loss is 0.

            Raises:
                ValueError: It is on and no file is named, or the file holds no weights of LPIPS; one line.
                FileNotFoundError: There is no such file.
            """
            if not self.lpips:
                return None
            if not self.lpips_file:
                raise ValueError(
                    f"objective.lpips={self.lpips}: LPIPS is on and no weights are given; name their file with "
                    f"--set objective.lpips_file=FILE ({LPIPS_FILE_HINT}), or set objective.lpips=0"
                )
            return load_lpips(Path(self.lpips_file))

    background: Tensor
    rigid: Tensor

    def __init__(self, config: Objective.Config, model: FFAvatar) -> None:
        super().__init__()
        self.config, self.model, self.lpips = config, model, config.load_lpips()
        self.register_buffer("background", torch.tensor(BACKGROUND), persistent=False)
        parts = [landmark_rows(points, model.rig.landmark_index) for points in PARTS.values()]
        self._parts = [f"part_{i}" for i, rows in enumerate(parts) if len(rows) > 2]
        for i, rows in enumerate(parts):
            self.register_buffer(f"part_{i}", rows, persistent=False)
        self.register_buffer("rigid", landmark_rows(RIGID, model.rig.landmark_index), persistent=False)

    def landmarks_faded(self, progress: float) -> bool:
        """Return True once the landmark terms have faded out, at ``progress`` (0 to 1) of the run, if they ever do."""
        return progress >= self.config.landmark_until and not self.config.landmark_floor

    def forward(
        self,
        batch: Batch,
        progress: float | Tensor,
        precomputed: Precomputed | None = None,
        landmarks_faded: bool | None = None,
    ) -> tuple[Tensor, dict[str, Tensor], Output]:
        """Compute the loss of a batch.

        Args:
            batch: Cameras are known for all drivers or for none.
            progress: Share of the run that is done, 0 to 1.
            precomputed: Values that need not be computed.
            landmarks_faded: The value of ``Objective.landmarks_faded``, needed where ``progress`` is a tensor, so that
                nothing is read back from the device.

        Returns:
            The loss; its terms, weighted and detached; the model's output.
        """
        precomputed = precomputed or Precomputed()
        c, model, known = self.config, self.model, batch.known
        output = model(
            batch.sources,
            batch.source_mask if batch.padded else None,
            batch.drivers if batch.estimator_drivers is None else batch.estimator_drivers,
            batch.K,
            head_to_camera=batch.head_to_camera if known else None,
            timestep=batch.timestep if known else None,
            features=precomputed.features,
            estimates=precomputed.estimates,
            shape=precomputed.shape,
            background=self.background,
        )
        rendered = output.rendered
        difference = losses.photometric(rendered.rgb, batch.drivers, batch.mattes, c.outside)
        mask_weight = c.mask + (c.mask_final - c.mask) * progress
        terms = {
            "photometric": c.photometric * difference.mean(),
            "mask": mask_weight * losses.coverage(rendered.alpha, batch.mattes).mean(),
            "offset": c.offset * losses.offset_size(output.avatar).mean(),
            "scale": c.scale * losses.scale_excess(output.avatar, model.rig.spacing).mean(),
            "expression": c.expression * losses.expression_size(output.parameters).mean(),
            "joints": c.joints * losses.joint_size(output.parameters).mean(),
        }
        if output.avatar.shape is not None:
            terms["shape"] = c.shape * output.avatar.shape.square().mean()
        if c.agreement and known:
            visibility = face_visibility(batch.head_to_camera)
            disagreement = losses.disagreement(output.estimated_parameters, output.parameters, visibility)
            terms["agreement"] = c.agreement * disagreement.mean()
        if c.standing and not known:
            terms["standing"] = c.standing * losses.person_mean(output.parameters).mean()
        if c.structural or self.lpips is not None:
            rendering = losses.ssim_scale(rendered.rgb.float().flatten(0, 1))
            target = losses.ssim_scale(batch.drivers.float().flatten(0, 1))
            if c.structural:
                terms["structural"] = c.structural * losses.structural(rendering, target).mean()
            if self.lpips is not None:
                terms["lpips"] = c.lpips * losses.perceptual(self.lpips, rendering, target).mean()
        if len(model.rig.landmark_index):
            faded = self.landmarks_faded(float(progress)) if landmarks_faded is None else landmarks_faded
            terms |= self._landmark_terms(batch, output, progress, faded)
        total = torch.stack(list(terms.values())).sum()
        return total, {name: value.detach() for name, value in terms.items()}, output

    def _landmark_terms(self, batch: Batch, output: Output, progress: float | Tensor, faded: bool) -> dict[str, Tensor]:
        """Weighted terms of the landmarks: of the pose where cameras are known, of the detected ones elsewhere."""
        c, terms = self.config, {}
        detected = batch.landmarks[:, :, self.model.rig.landmark_index]
        fading = 1 - progress / c.landmark_until
        if c.landmark_floor:
            fading = fading.clamp_min(c.landmark_floor) if isinstance(fading, Tensor) else max(fading, c.landmark_floor)
        if batch.known:
            distance = output.estimated_landmarks - output.landmarks.detach()
            terms["pose"] = c.pose * distance.square().sum(-1).clamp_min(1e-10).sqrt().mean()
            if c.known_landmark:
                distance = losses.landmark(output.landmarks, detected, batch.has_landmarks)
                terms["landmark"] = c.known_landmark * distance.mean()
        elif c.landmark and not faded:
            distance = losses.landmark(output.landmarks, detected, batch.has_landmarks)
            terms["landmark"] = c.landmark * fading * distance.mean()
        if c.parts and self._parts and not faded:
            shapes = [
                losses.part_shape(output.landmarks[..., rows, :], detected[..., rows, :], batch.has_landmarks).mean()
                for rows in map(self.get_buffer, self._parts)
            ]
            terms["parts"] = c.parts * fading * torch.stack(shapes).mean()
        if c.motion and self._parts and len(self.rigid) > 2 and not batch.known:
            distance = losses.motion(output.landmarks, detected, batch.has_landmarks, self.rigid)
            of_parts = [distance[..., rows].mean() for rows in map(self.get_buffer, self._parts)]
            terms["motion"] = c.motion * torch.stack(of_parts).mean()
        return terms
