"""The training objective: a weighted sum of loss terms."""

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
from ffavatar_model.networks.efficientnet import EfficientNetDistance, load_efficientnet
from ffavatar_model.networks.lpips import LPIPS, LPIPS_FILE_HINT, load_lpips


@dataclass(frozen=True, kw_only=True)
class Precomputed:
    """Values of a forward pass that do not depend on trainable parameters; the pass computes those that are None."""

    features: Tensor | None = None
    """(B, P, width + 4) from ``FFAvatar.point_features``; encoder and query former are then not run."""
    estimates: Tensor | None = None
    """(B, D, E + 21) raw values of the drivers from ``FFAvatar.estimate_raw``; the estimator is then not run."""
    shape: Tensor | None = None
    """(B, S) shape coefficients of the same people as ``features``, if the model predicts them."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the precomputed tensors by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def clone(self) -> Precomputed:
        """Return a copy that shares no memory with this one."""
        return Precomputed(**{name: value.clone() for name, value in self.tensors().items()})


class Objective(nn.Module):
    """The model and its loss in one module, so that data-parallel wrappers see one forward pass."""

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Weights of the terms: the paper's, or else LAM's; that of the landmarks is from a pilot run."""

        photometric: float = 1.0
        """Weight of the absolute difference of images."""
        outside: float = 0.2
        """Weight of a pixel outside the matte in the photometric term."""
        structural: float = 0.2
        """Weight of 1 − SSIM."""
        lpips: float = 0.0
        """Weight of LPIPS of complete crops over the background, at about 256 pixels; it needs ``lpips_file``."""
        lpips_file: str = ""
        """File of LPIPS's weights on each worker's machine (see ``networks.lpips``); read if ``lpips`` is not 0."""
        perceptual: float = 0.0
        """Weight of the EfficientNet distance of crops, and of faces at twice the scale; it needs a package."""
        mask: float = 1.0
        """Weight of the difference of alpha and matte at the start of the run; it changes linearly."""
        mask_final: float = 0.5
        """Weight of the difference of alpha and matte at the end of the run."""
        offset: float = 0.1
        """Weight of the lengths of offsets."""
        scale: float = 0.1
        """Weight of the excess of standard deviations over 1.5 point spacings."""
        landmark: float = 5.0
        """Weight of the distances between projected and detected landmarks at the start, if cameras are unknown."""
        landmark_until: float = 0.6
        """Share of the run after which the weights of the landmark terms are 0."""
        landmark_floor: float = 0.0
        """Lower bound on the fading factor of the landmark terms (``landmark``, ``parts``); above 0, they never end."""
        known_landmark: float = 0.0
        """Weight of the distances between projected and detected landmarks if cameras are known; it does not fade."""
        parts: float = 0.0
        """Weight of the landmarks of lips, lids and brows, relative to their part's mean; fades like ``landmark``."""
        motion: float = 0.0
        """Weight of the motion of lips, lids and brows (``losses.motion``), for unknown cameras; it does not fade."""
        gaze: float = 0.0
        """Weight of the motion of irises, as ``motion``; 0 for batches without their positions."""
        shape: float = 1e-4
        """Weight of squared shape coefficients, if the model predicts them and they are not known."""
        known_shape: float = 0.05
        """Weight of the squared error of predicted shape coefficients, where they are known."""
        pose: float = 1.0
        """Weight of the distances between landmarks projected by estimated and known poses, if cameras are known."""
        expression: float = 1e-3
        """Weight of squared expression coefficients."""
        joints: float = 1e-2
        """Weight of squared joint rotations."""
        standing: float = 0.0
        """Weight of the squared mean parameters of a person's drivers, if cameras are unknown.

        With known cameras the drivers share a timestep, so their mean is an expression.
        """
        agreement: float = 0.0
        """Weight of the differences between the estimates of one timestep's views, if cameras are known."""

        def __post_init__(self) -> None:
            require(0 < self.landmark_until <= 1, "landmark_until", self.landmark_until, "above 0, at most 1")
            require(0 <= self.landmark_floor <= 1, "landmark_floor", self.landmark_floor, "0 to 1")
            for name in ("lpips", "perceptual", "motion", "gaze"):
                require(getattr(self, name) >= 0, name, getattr(self, name), "0 (off) or more")

        def load_lpips(self) -> LPIPS | None:
            """Load LPIPS; return None if ``lpips`` is 0.

            Raises:
                ValueError: ``lpips_file`` is empty or does not contain weights of LPIPS; the message is one line.
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

        def load_efficientnet(self) -> EfficientNetDistance | None:
            """Load the network of the EfficientNet distance; return None if ``perceptual`` is 0.

            Raises:
                ValueError: Its package is missing, damaged or of another version; the message is one line.
            """
            return load_efficientnet() if self.perceptual else None

    background: Tensor
    rigid: Tensor

    def __init__(self, config: Objective.Config, model: FFAvatar) -> None:
        super().__init__()
        self.config, self.model, self.lpips = config, model, config.load_lpips()
        self.efficientnet = config.load_efficientnet()
        self.register_buffer("background", torch.tensor(BACKGROUND), persistent=False)
        parts = [landmark_rows(points, model.rig.landmark_index) for points in PARTS.values()]
        self._parts = [f"part_{i}" for i, rows in enumerate(parts) if len(rows) > 2]
        for i, rows in enumerate(parts):
            self.register_buffer(f"part_{i}", rows, persistent=False)
        self.register_buffer("rigid", landmark_rows(RIGID, model.rig.landmark_index), persistent=False)

    def landmarks_faded(self, progress: float) -> bool:
        """Return True if the weights of the landmark terms are 0 at ``progress`` (0 to 1) of the run."""
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
            batch: The batch; cameras are used only if they are known for all drivers.
            progress: Completed share of the run, 0 to 1.
            precomputed: Values that are not computed again.
            landmarks_faded: Result of ``Objective.landmarks_faded``; needed if ``progress`` is a tensor, to avoid a
                copy from the device.

        Returns:
            The loss; its weighted terms, detached; and the model's output.
        """
        precomputed = precomputed or Precomputed()
        c, model, known = self.config, self.model, batch.known
        known_shape = model.rig.known_shape(batch.shape)
        output = model(
            batch.sources,
            batch.source_mask if batch.padded else None,
            batch.drivers if batch.estimator_drivers is None else batch.estimator_drivers,
            batch.K,
            head_to_camera=batch.head_to_camera if known else None,
            timestep=batch.timestep if known else None,
            features=precomputed.features,
            estimates=precomputed.estimates,
            shape=precomputed.shape if known_shape is None else known_shape,
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
        if known_shape is not None and output.predicted_shape is not None:
            terms["known_shape"] = c.known_shape * (output.predicted_shape - known_shape).square().mean()
        elif output.avatar.shape is not None:
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
        if self.efficientnet is not None:
            terms["perceptual"] = c.perceptual * self._perceptual(self.efficientnet, batch, rendered.rgb)
        if len(model.rig.landmark_index):
            faded = self.landmarks_faded(float(progress)) if landmarks_faded is None else landmarks_faded
            terms |= self._landmark_terms(batch, output, progress, faded)
        total = torch.stack(list(terms.values())).sum()
        return total, {name: value.detach() for name, value in terms.items()}, output

    def _perceptual(self, network: EfficientNetDistance, batch: Batch, rgb: Tensor) -> Tensor:
        """Compute the mean EfficientNet distance of complete crops and of faces."""
        rendering, target = (losses.ssim_scale(x.float().flatten(0, 1)) for x in (rgb, batch.drivers))
        points, valid = batch.landmarks.flatten(0, 1), batch.has_landmarks.flatten()
        complete, face = losses.efficientnet(network, rendering, target, points, valid)
        return complete.mean() + face.mean()

    def _landmark_terms(self, batch: Batch, output: Output, progress: float | Tensor, faded: bool) -> dict[str, Tensor]:
        """Compute the weighted landmark terms; if cameras are known, estimated poses are compared with them."""
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
        irises = batch.irises if len(self.model.rig.iris_points) and len(self.rigid) > 2 else None
        if c.gaze and irises is not None and not batch.known:
            points = torch.cat((output.landmarks, output.irises), -2)
            distance = losses.motion(points, torch.cat((detected, irises), -2), batch.has_landmarks, self.rigid)
            terms["gaze"] = c.gaze * distance[..., len(self.model.rig.landmark_index) :].mean()
        return terms
