"""Random changes of a training sample: the drivers' framing, and the light of the whole sample."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ffavatar_model.config import require

if TYPE_CHECKING:
    from ffavatar_model.data import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """Largest changes; 0 switches one off. Framing applies to pictures of unknown cameras alone."""

    turn: float = 0.0
    """Degrees in the picture."""
    zoom: float = 0.0
    """Natural logarithm of the scale."""
    shift: float = 0.0
    """Share of the picture's width."""
    light: float = 0.0
    """Natural logarithm of the gain of each colour, the same for all pictures of a sample: one person in one light."""

    def __post_init__(self) -> None:
        for name in ("turn", "zoom", "shift", "light"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


def augment(sample: Batch, config: Augment, background: tuple[float, ...], random: torch.Generator) -> Batch:
    """Change one sample (no leading B) at random."""

    def draw(limit: float, *shape: int) -> Tensor:
        return (2 * torch.rand(*shape, generator=random) - 1) * limit

    behind = torch.tensor(background)[:, None, None]
    if (config.turn or config.zoom or config.shift) and not bool(sample.known_camera.any()):
        n = len(sample.drivers)
        frames = similarities(draw(math.radians(config.turn), n), draw(config.zoom, n), draw(2 * config.shift, n, 2))
        grid = F.affine_grid(frames, [n, 4, *sample.drivers.shape[-2:]], align_corners=False)
        matted = torch.cat((sample.drivers - behind, sample.mattes), 1)
        drivers, mattes = F.grid_sample(matted, grid, align_corners=False).split((3, 1), 1)
        # The grid says where each new pixel comes from; landmarks go the other way.
        centred = 2 * sample.landmarks - 1 - frames[:, None, :, 2]
        landmarks = torch.linalg.solve(frames[:, None, :, :2], centred[..., None])[..., 0]
        sample = replace(sample, drivers=drivers + behind, mattes=mattes, landmarks=(landmarks + 1) / 2)
    if config.light:
        gain = (draw(config.light, 1, 1, 1) + draw(config.light / 3, 3, 1, 1)).exp()

        def relit(pictures: Tensor) -> Tensor:
            # Only what differs from the background: behind the head nothing changes.
            covered = 1 - ((pictures - behind).abs().amax(-3, keepdim=True) < 1e-3).float()
            return torch.lerp(pictures, (pictures * gain).clamp(0, 1), covered)

        drivers = behind * (1 - sample.mattes) + (sample.drivers - behind * (1 - sample.mattes)) * gain
        sample = replace(sample, sources=relit(sample.sources), drivers=drivers.clamp(0, 1))
    return sample


def similarities(turn: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """(N, 2, 3) from (N,) radians, (N,) log scales and (N, 2) shifts in half picture widths."""
    cosine, sine = turn.cos() * zoom.exp(), turn.sin() * zoom.exp()
    linear = torch.stack((cosine, -sine, sine, cosine), -1).unflatten(-1, (2, 2))
    return torch.cat((linear, shift[..., None]), -1)
