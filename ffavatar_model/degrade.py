"""What cameras, codecs and matting do to a picture: random changes of what the networks see, never of what they must
render."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

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


def degrade(pictures: Tensor, config: Degrade, random: torch.Generator) -> Tensor:
    """Pictures (N, 3, H, W) in 0 to 1 with other colours, less sharpness and noise; ``random`` on their device."""
    n, device = len(pictures), pictures.device

    def draw(*shape: int) -> Tensor:
        return 2 * torch.rand(n, *shape, generator=random, device=device) - 1

    if config.colour:
        gamma, gain = (draw(1, 1, 1) * config.colour).exp(), (draw(3, 1, 1) * config.colour / 2).exp()
        pictures = (pictures.clamp_min(1e-4) ** gamma * gain).clamp(0, 1)
    if config.blur:
        size = pictures.shape[-1]
        smallest = max(8, round(size * 2.718281828**-config.blur))
        small = F.interpolate(pictures, smallest, mode="area")
        soft = F.interpolate(small, size, mode="bilinear", align_corners=False)
        pictures = torch.lerp(pictures, soft, draw(1, 1, 1).clamp_min(0))
    if config.noise:
        level = draw(1, 1, 1).abs() * config.noise
        noise = torch.randn(pictures.shape, generator=random, device=device)
        pictures = (pictures + level * noise).clamp(0, 1)
    return pictures


def wear_mattes(mattes: Tensor, config: Degrade, random: torch.Generator) -> Tensor:
    """Mattes (N, 1, H, W) in 0 to 1 as a matting network gives them: soft, and too wide here or too narrow there."""
    if not config.matte:
        return mattes
    n, size, device = len(mattes), mattes.shape[-1], mattes.device
    soft = F.interpolate(F.interpolate(mattes, size // 6, mode="area"), size, mode="bilinear", align_corners=False)
    uneven = 2 * torch.rand(n, 1, 6, 6, generator=random, device=device) - 1
    uneven = F.interpolate(uneven, size, mode="bicubic", align_corners=False)
    worn = ((soft - 0.5) * 2.5 + 0.5 + 2.5 * config.matte * uneven).clamp(0, 1)
    return torch.where(torch.rand(n, 1, 1, 1, generator=random, device=device) < 0.7, worn, mattes)
