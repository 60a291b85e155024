"""What cameras, codecs and matting do to a picture: random changes of what the networks see, never of what they must
render."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ffavatar_model.chances import BLUR, COLOUR, NOISE, UNEVEN, WORN
from ffavatar_model.config import require


@dataclass(frozen=True, kw_only=True, slots=True)
class Degrade:
    """Largest changes, drawn for each picture by itself; 0 switches one off."""

    colour: float = 0.0
    """Natural logarithm of the gain of each colour, and of the exponent of a gamma curve."""
    blur: float = 0.0
    """Natural logarithm of the factor by which a picture loses resolution."""
    noise: float = 0.0
    """Standard deviation, of the full range."""
    matte: float = 0.0
    """By how much a matte's edge moves, of its full range after it is smoothed: background shows, or hair is lost."""

    def __post_init__(self) -> None:
        for name in ("colour", "blur", "noise", "matte"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


def degrade(pictures: Tensor, config: Degrade, chances: Tensor, noise: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) in 0 to 1 with other colours, less sharpness and noise.

    ``chances (N, PER_PICTURE)``; ``noise`` as the pictures, of mean 0 and deviation 1.
    """
    each = chances[..., None, None]
    if config.colour:
        gamma, gain = (each[:, COLOUR][:, :1] * config.colour).exp(), (each[:, COLOUR][:, 1:] * config.colour / 2).exp()
        pictures = (pictures.clamp_min(1e-4) ** gamma * gain).clamp(0, 1)
    if config.blur:
        size = pictures.shape[-1]
        smallest = max(8, round(size * 2.718281828**-config.blur))
        small = F.interpolate(pictures, smallest, mode="area")
        soft = F.interpolate(small, size, mode="bilinear", align_corners=False)
        pictures = torch.lerp(pictures, soft, each[:, BLUR, None].clamp_min(0))
    if config.noise:
        pictures = (pictures + each[:, NOISE, None].abs() * config.noise * noise).clamp(0, 1)
    return pictures


def wear_mattes(mattes: Tensor, config: Degrade, chances: Tensor) -> Tensor:
    """Mattes (N, 1, H, W) in 0 to 1 as a matting network gives them, seven of ten: soft, too wide or too narrow.

    ``chances (N, PER_PICTURE)``.
    """
    if not config.matte:
        return mattes
    size = mattes.shape[-1]
    soft = F.interpolate(F.interpolate(mattes, size // 6, mode="area"), size, mode="bilinear", align_corners=False)
    uneven = chances[:, None, UNEVEN].unflatten(-1, (6, 6))
    uneven = F.interpolate(uneven, size, mode="bicubic", align_corners=False)
    worn = ((soft - 0.5) * 2.5 + 0.5 + 2.5 * config.matte * uneven).clamp(0, 1)
    return torch.where(chances[:, WORN, None, None, None] < 0.4, worn, mattes)
