"""Random changes of a training sample: each picture's framing, and the light of the whole sample.

What cameras, codecs and matting do to a picture: random changes of what the networks see, never of what they must
render.

Bytes to what a step takes, on the device: framing, light, what cameras and matting do, the background.

The one place where training pictures are changed, for pictures that are loaded and for those that lie on the device.

The random numbers of a sample's changes, drawn on the CPU with the sample: the same on every device, for any number
of workers, and whatever else is in its batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ffavatar_model.config import require
from ffavatar_model.data.batch import Batch, RawBatch
from ffavatar_model.data.images import over_background


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """Largest changes; 0 switches one off. Drivers of known cameras keep their framing."""

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

    @property
    def reframes(self) -> bool:
        """Pictures are turned, zoomed or shifted."""
        return bool(self.turn or self.zoom or self.shift)


def framing(config: Augment, chances: Tensor) -> Tensor:
    """(..., 2, 3) where each picture's new pixels come from, of (..., ``PER_PICTURE``) numbers."""
    turn, zoom, right, down = chances[..., FRAME].unbind(-1)
    shift = torch.stack((right, down), -1) * (2 * config.shift)
    return similarities(turn * math.radians(config.turn), zoom * config.zoom, shift)


def similarities(turn: Tensor, zoom: Tensor, shift: Tensor) -> Tensor:
    """(..., 2, 3) from (...) radians, (...) log scales and (..., 2) shifts in half picture widths."""
    cosine, sine = turn.cos() * zoom.exp(), turn.sin() * zoom.exp()
    linear = torch.stack((cosine, -sine, sine, cosine), -1).unflatten(-1, (2, 2))
    return torch.cat((linear, shift[..., None]), -1)


def reframe(pixels: Tensor, frames: Tensor) -> Tensor:
    """Pictures (N, C, H, W) seen through ``frames (N, 2, 3)``; what comes from outside is the nearest edge's."""
    grid = F.affine_grid(frames, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def reframe_points(points: Tensor, frames: Tensor) -> Tensor:
    """Points (..., P, 2) in picture widths after ``reframe`` with ``frames (..., 2, 3)``."""
    linear, shift = frames[..., :2], frames[..., None, :, 2]
    # Frames say where new pixels come from, points go the other way: a similarity's inverse is its transpose, scaled.
    back = linear / linear.square().sum((-2, -1), keepdim=True) * 2
    return ((2 * points - 1 - shift) @ back + 1) / 2


def gains(config: Augment, light: Tensor) -> Tensor:
    """(B, 3) factors of the colours, of (B, ``PER_PERSON``) numbers."""
    return (config.light * light[:, :1] + config.light / 3 * light[:, 1:]).exp()


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


def develop(raw: RawBatch, augment: Augment, degraded: Degrade) -> Batch:
    """The batch, where ``raw`` lies. A person's pictures depend on their own row of ``raw`` alone.

    What a rendering is compared with is augmented; what the networks see is degraded besides.
    """
    shape, n_sources = raw.pixels.shape[:2], raw.source_mask.shape[1]
    pixels, landmarks = raw.pixels.flatten(0, 1).contiguous().float() / 255, raw.landmarks
    chances = raw.chances.flatten(0, 1)
    if augment.reframes:
        frames = framing(augment, raw.chances)
        still = torch.eye(2, 3, device=frames.device)
        frames[:, n_sources:] = torch.where(raw.known_camera[..., None, None], still, frames[:, n_sources:])
        pixels = reframe(pixels, frames.flatten(0, 1))
        landmarks = reframe_points(landmarks, frames[:, n_sources:])
    rgb, matte = pixels.split((3, 1), 1)
    if augment.light:
        gain = gains(augment, raw.light).repeat_interleave(shape[1], 0)[..., None, None]
        rgb = (rgb * gain).clamp(0, 1)
    clean = over_background(rgb, matte)
    sources, drivers = _parts(clean, shape, n_sources)
    seen = None
    if degraded != Degrade():
        worn = wear_mattes(matte, degraded, chances)
        worse = degrade(over_background(rgb, worn), degraded, chances, _noise(raw, rgb))
        sources, seen = _parts(worse, shape, n_sources)
    kept = raw.tensors()
    for name in ("pixels", "landmarks", "chances", "light"):
        del kept[name]
    return Batch(
        sources=sources,
        drivers=drivers,
        seen=seen,
        mattes=_parts(matte, shape, n_sources)[1],
        landmarks=landmarks,
        ids=raw.ids,
        known=raw.known,
        padded=raw.padded,
        **kept,
    )


def _parts(pictures: Tensor, shape: torch.Size, n_sources: int) -> tuple[Tensor, Tensor]:
    pictures = pictures.unflatten(0, shape)
    return pictures[:, :n_sources], pictures[:, n_sources:]


def _noise(raw: RawBatch, like: Tensor) -> Tensor:
    """(B (S + D), 3, H, W) from each person's own seed, so that it does not depend on who else is in the batch."""
    noise, random = torch.empty_like(like), torch.Generator(like.device)
    for seed, part in zip(raw.seeds, noise.chunk(len(raw.seeds)), strict=True):
        part.normal_(generator=random.manual_seed(seed))
    return noise


FRAME = slice(0, 4)
"""Columns of a picture's numbers: turn, zoom, and shift to the right and down."""
COLOUR = slice(4, 8)
"""Gamma, and the gain of each colour."""
BLUR, NOISE, WORN = 8, 9, 10
UNEVEN = slice(11, 47)
"""6 x 6, over the matte."""
PER_PICTURE = 47
PER_PERSON = 4
"""Of the light: grey, and each colour."""


def draw(pictures: int, random: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """(pictures, ``PER_PICTURE``) and (``PER_PERSON``,) numbers, even over -1 to 1, and the seed of the noise."""
    numbers = 2 * torch.rand(pictures * PER_PICTURE + PER_PERSON, generator=random) - 1
    seed = int(torch.randint(2**62, (), generator=random))
    return numbers[PER_PERSON:].view(pictures, PER_PICTURE), numbers[:PER_PERSON], seed
