"""The weighted sum that training lowers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ffavatar_model import losses
from ffavatar_model.config import require
from ffavatar_model.data.batch import Batch
from ffavatar_model.data.images import BACKGROUND
from ffavatar_model.head.face_parts import PARTS, rows_of
from ffavatar_model.model import FFAvatar, Output, facing
from ffavatar_model.networks.lpips import LPIPS, MADE_BY, load_lpips


@dataclass(frozen=True, kw_only=True)
class Precomputed:
    """What is known before a step because nothing that it depends on moves; None has to be computed."""

    features: Tensor | None = None
    """(B, P, width + 4) see ``FFAvatar.features_of``: leaves encoder and query former out."""
    estimates: Tensor | None = None
    """(B, D, E + 21) the estimator's raw values for the drivers: leaves the estimator out."""

    def tensors(self) -> dict[str, Tensor]:
        """Those that are given, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def clone(self) -> Precomputed:
        """The same in memory of its own."""
        return Precomputed(**{name: value.clone() for name, value in self.tensors().items()})


class Objective(nn.Module):
    """The model and its loss in one module, so that data-parallel wrappers see one forward pass."""

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Weights of the terms; LAM's where the paper is silent, the landmark term's from a pilot run."""

        photometric: float = 1.0
        outside: float = 0.2
        """How much a pixel outside the matte counts."""
        structural: float = 0.2
        lpips: float = 0.0
        """Of LPIPS at about 256 pixels, of whole crops over the background; it takes ``lpips_file``."""
        lpips_file: str = ""
        """Weights of LPIPS on every worker's machine (``ffavatar_model.networks.lpips``); read where ``lpips`` is on."""
        mask: float = 1.0
        mask_final: float = 0.5
        offset: float = 0.1
        scale: float = 0.1
        landmark: float = 5.0
        landmark_until: float = 0.6
        """Share of the run after which the landmark term has faded out."""
        parts: float = 0.0
        """Of the landmarks of lips, lids and brows, each about its part's middle; it fades out with ``landmark``."""
        pose: float = 1.0
        """Where cameras are known: distance of landmarks under the estimated and the known pose, in picture widths."""
        expression: float = 1e-3
        joints: float = 1e-2
        standing: float = 0.0
        """Of what a person's drivers have in common; for unknown cameras alone: others share a moment."""
        agreement: float = 0.0
        """Where cameras are known: of how far apart the views of one moment are in what they say of the face."""

        def __post_init__(self) -> None:
            require(0 < self.landmark_until <= 1, "landmark_until", self.landmark_until, "above 0, at most 1")
            require(self.lpips >= 0, "lpips", self.lpips, "0 (off) or more")

        def load_lpips(self) -> LPIPS | None:
            """LPIPS with its weights; None where its weight is 0.

            Raises ``ValueError`` or ``FileNotFoundError``, one line, where it is on without weights that can be read.
            """
            if not self.lpips:
                return None
            if not self.lpips_file:
                raise ValueError(
                    f"objective.lpips={self.lpips}: LPIPS is asked for and no weights are given; name their file with "
                    f"--set objective.lpips_file=FILE ({MADE_BY}), or set objective.lpips=0"
                )
            return load_lpips(Path(self.lpips_file))

    background: Tensor

    def __init__(self, config: Objective.Config, model: FFAvatar) -> None:
        super().__init__()
        self.config, self.model, self.lpips = config, model, config.load_lpips()
        self.register_buffer("background", torch.tensor(BACKGROUND), persistent=False)
        parts = [rows_of(points, model.rig.landmark_index) for points in PARTS.values()]
        self._parts = [f"part_{i}" for i, rows in enumerate(parts) if len(rows) > 2]
        for i, rows in enumerate(parts):
            self.register_buffer(f"part_{i}", rows, persistent=False)

    def faded(self, progress: float) -> bool:
        """Whether the landmark terms have faded out at ``progress`` of the run."""
        return progress >= self.config.landmark_until

    def forward(
        self, batch: Batch, progress: float | Tensor, given: Precomputed | None = None, faded: bool | None = None
    ) -> tuple[Tensor, dict[str, Tensor], Output]:
        """The loss of a batch at ``progress`` (0 to 1) of the run; its terms, weighted and detached; what was rendered.

        A batch has known cameras for all drivers or for none. Where ``progress`` is a tensor, ``faded`` says what
        ``Objective.faded`` says of it, so that nothing is read back from the device.
        """
        given = given or Precomputed()
        c, model = self.config, self.model
        known = batch.known
        seen = batch.drivers if batch.seen is None else batch.seen
        output = model(
            batch.sources,
            batch.source_mask if batch.padded else None,
            seen,
            batch.K,
            head_to_camera=batch.head_to_camera if known else None,
            moment=batch.moment if known else None,
            features=given.features,
            estimates=given.estimates,
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
        if c.agreement and known:
            apart = losses.disagreement(output.each, output.parameters, facing(batch.head_to_camera))
            terms["agreement"] = c.agreement * apart.mean()
        if c.standing and not known:
            terms["standing"] = c.standing * losses.standing(output.parameters).mean()
        if c.structural or self.lpips is not None:
            rendering = losses.ssim_scale(rendered.rgb.float().flatten(0, 1))
            target = losses.ssim_scale(batch.drivers.float().flatten(0, 1))
            if c.structural:
                terms["structural"] = c.structural * losses.structural(rendering, target).mean()
            if self.lpips is not None:
                terms["lpips"] = c.lpips * losses.perceptual(self.lpips, rendering, target).mean()
        faded = self.faded(float(progress)) if faded is None else faded
        fading = 1 - progress / c.landmark_until
        if len(model.rig.landmark_index):
            found = batch.landmarks[:, :, model.rig.landmark_index]
            if known:
                miss = output.estimated_landmarks - output.landmarks.detach()
                terms["pose"] = c.pose * miss.square().sum(-1).clamp_min(1e-10).sqrt().mean()
            elif c.landmark and not faded:
                distance = losses.landmark(output.landmarks, found, batch.has_landmarks)
                terms["landmark"] = c.landmark * fading * distance.mean()
            if c.parts and self._parts and not faded:
                shapes = [
                    losses.part_shape(output.landmarks[..., rows, :], found[..., rows, :], batch.has_landmarks).mean()
                    for rows in map(self.get_buffer, self._parts)
                ]
                terms["parts"] = c.parts * fading * torch.stack(shapes).mean()
        total = torch.stack(list(terms.values())).sum()
        return total, {name: value.detach() for name, value in terms.items()}, output
