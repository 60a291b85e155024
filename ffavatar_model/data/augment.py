"""Augmentation on the device: conversion of a loaded uint8 batch to the tensors of a training step.

``Augment`` also changes the targets of renderings: the framing of each image, and the light of a sample. ``Degrade``
changes only the inputs of the networks, as cameras, codecs and matting do. (With ``shared``, colours are an exception.)
``draw_random`` draws the random numbers on the CPU, sample by sample. So they are the same on any device, for any
number of workers, and in any batch. All changes of training images are made here.
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

FRAME = slice(0, 4)
"""Columns of an image's random numbers for its framing: turn, zoom, shift to the right, shift down."""
COLOUR = slice(4, 8)
"""Columns for the gamma, and for the gains of red, green and blue."""
BLUR, NOISE, MATTE = 8, 9, 10
"""Columns for the strength of the blur, the strength of the noise, and the choice if the matte is degraded."""
UNEVEN = slice(11, 47)
"""Columns for a 6 x 6 grid over the matte, the local displacements of its edge."""
PER_IMAGE = 47
"""Number of random numbers per image."""
PER_PERSON = 4
"""Number of random numbers for a person's light: brightness, red, green and blue."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """Largest changes of framing and light; 0 turns a change off. Drivers with known cameras keep their framing."""

    turn: float = 0.0
    """Largest rotation in the image plane, degrees."""
    zoom: float = 0.0
    """Largest natural logarithm of the scale factor."""
    shift: float = 0.0
    """Largest shift along each axis, as a share of the image's width."""
    light: float = 0.0
    """Largest natural logarithm of the brightness (a third of it per colour), shared by all images of a sample."""

    def __post_init__(self) -> None:
        for name in ("turn", "zoom", "shift", "light"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")

    @property
    def reframes(self) -> bool:
        """True if images are turned, zoomed or shifted."""
        return bool(self.turn or self.zoom or self.shift)


@dataclass(frozen=True, kw_only=True, slots=True)
class Degrade:
    """Largest losses of quality; each image draws its own, and 0 turns a loss off."""

    colour: float = 0.0
    """Largest natural logarithm of a gamma curve's exponent; that of each colour's gain is half as large."""
    shared: bool = False
    """True draws the change of colours once per sample, and applies it to all its images, including the targets.

    The colours of another camera cannot be predicted from the sources.
    """
    blur: float = 0.0
    """Natural logarithm of the factor by which the resolution of a fully blurred image is reduced."""
    noise: float = 0.0
    """Largest standard deviation of the noise, as a share of the full range."""
    matte: float = 0.0
    """Largest change of a smoothed matte, as a share of its full range; it shows background or removes hair."""

    def __post_init__(self) -> None:
        for name in ("colour", "blur", "noise", "matte"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


def draw_random(images: int, random: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """Draw the random numbers for the augmentation of a sample.

    Args:
        images: Number of images in the sample.
        random: The sample's own generator.

    Returns:
        Numbers for the images (images, ``PER_IMAGE``) and for the light (``PER_PERSON``,), uniform over -1 to 1, and
        the seed of the noise.
    """
    numbers = 2 * torch.rand(images * PER_IMAGE + PER_PERSON, generator=random) - 1
    seed = int(torch.randint(2**62, (), generator=random))
    return numbers[PER_PERSON:].view(images, PER_IMAGE), numbers[:PER_PERSON], seed


def prepare_batch(raw: RawBatch, augment: Augment, degrade: Degrade) -> Batch:
    """Convert a loaded batch to the tensors of a training step, on the device of ``raw``.

    A person's images depend on the person's own row of ``raw`` alone. The targets of renderings are augmented. The
    inputs of the networks (sources, and drivers for the estimator) are augmented and degraded.

    Args:
        raw: Loaded batch.
        augment: Largest changes of framing and light.
        degrade: Largest losses of quality.
    """
    shape, n_sources = raw.pixels.shape[:2], raw.source_mask.shape[1]

    def split(images: Tensor) -> tuple[Tensor, Tensor]:
        """Split images (B (S + D), ...) into sources (B, S, ...) and drivers (B, D, ...)."""
        images = images.unflatten(0, shape)
        return images[:, :n_sources], images[:, n_sources:]

    pixels, landmarks, irises = raw.pixels.flatten(0, 1).contiguous().float() / 255, raw.landmarks, raw.irises
    draws = raw.draws.flatten(0, 1)
    if augment.reframes:
        frames = framing_transforms(augment, raw.draws)
        unchanged = torch.eye(2, 3, device=frames.device)
        frames[:, n_sources:] = torch.where(raw.known_camera[..., None, None], unchanged, frames[:, n_sources:])
        pixels = reframe(pixels, frames.flatten(0, 1))
        landmarks = reframe_points(landmarks, frames[:, n_sources:])
        irises = None if irises is None else reframe_points(irises, frames[:, n_sources:])
    rgb, matte = pixels.split((3, 1), 1)
    if augment.light:
        gains = (augment.light * raw.light[:, :1] + augment.light / 3 * raw.light[:, 1:]).exp()
        rgb = (rgb * gains.repeat_interleave(shape[1], 0)[..., None, None]).clamp(0, 1)
    if degrade.colour and degrade.shared:
        first = raw.draws[:, :1].expand(-1, shape[1], -1).flatten(0, 1)
        rgb = change_colours(rgb, degrade, first)
    sources, drivers = split(over_background(rgb, matte))
    estimator_drivers = None
    if degrade != Degrade():
        rough = over_background(rgb, degrade_mattes(matte, degrade, draws))
        sources, estimator_drivers = split(degrade_images(rough, degrade, draws, _noise(raw, rgb)))
    unchanged_fields = raw.tensors()
    for name in ("pixels", "landmarks", "irises", "draws", "light"):
        unchanged_fields.pop(name, None)
    return Batch(
        sources=sources,
        drivers=drivers,
        estimator_drivers=estimator_drivers,
        mattes=split(matte)[1],
        landmarks=landmarks,
        irises=irises,
        ids=raw.ids,
        known=raw.known,
        padded=raw.padded,
        **unchanged_fields,
    )


def framing_transforms(config: Augment, draws: Tensor) -> Tensor:
    """Return for each image the similarity from its new to its old pixels.

    Args:
        config: Largest turn, zoom and shift.
        draws: (..., ``PER_IMAGE``) random numbers.

    Returns:
        (..., 2, 3) in half image widths from the middle, for ``torch.nn.functional.affine_grid``.
    """
    turn, zoom, right, down = draws[..., FRAME].unbind(-1)
    turn, scale = turn * math.radians(config.turn), (zoom * config.zoom).exp()
    shift = torch.stack((right, down), -1) * (2 * config.shift)
    cosine, sine = turn.cos() * scale, turn.sin() * scale
    linear = torch.stack((cosine, -sine, sine, cosine), -1).unflatten(-1, (2, 2))
    return torch.cat((linear, shift[..., None]), -1)


def reframe(pixels: Tensor, frames: Tensor) -> Tensor:
    """Resample images (N, C, H, W) by ``frames`` (N, 2, 3); pixels outside the old image repeat those at its edge."""
    grid = F.affine_grid(frames, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def reframe_points(points: Tensor, frames: Tensor) -> Tensor:
    """Return the positions of points (..., P, 2), in image widths, after ``reframe`` with ``frames`` (..., 2, 3)."""
    linear, shift = frames[..., :2], frames[..., None, :, 2]
    # Frames map new to old pixels; points need the inverse. That of a similarity is its scaled transpose.
    back = linear / linear.square().sum((-2, -1), keepdim=True) * 2
    return ((2 * points - 1 - shift) @ back + 1) / 2


def degrade_images(images: Tensor, config: Degrade, draws: Tensor, noise: Tensor) -> Tensor:
    """Change the colours of images (unless ``config.shared``), blur the images and add noise.

    Args:
        images: (N, 3, H, W) in 0 to 1.
        config: Largest losses of quality.
        draws: (N, ``PER_IMAGE``) random numbers.
        noise: (N, 3, H, W) noise of mean 0 and standard deviation 1.

    Returns:
        (N, 3, H, W) in 0 to 1.
    """
    each = draws[..., None, None]
    if config.colour and not config.shared:
        images = change_colours(images, config, draws)
    if config.blur:
        size = images.shape[-1]
        smallest = max(8, round(size * 2.718281828**-config.blur))
        small = F.interpolate(images, smallest, mode="area")
        soft = F.interpolate(small, size, mode="bilinear", align_corners=False)
        images = torch.lerp(images, soft, each[:, BLUR, None].clamp_min(0))
    if config.noise:
        images = (images + each[:, NOISE, None].abs() * config.noise * noise).clamp(0, 1)
    return images


def change_colours(images: Tensor, config: Degrade, draws: Tensor) -> Tensor:
    """Apply a gamma curve, and a gain to each colour.

    Args:
        images: (N, 3, H, W) in 0 to 1.
        config: Only ``colour`` is read.
        draws: (N, ``PER_IMAGE``) random numbers.

    Returns:
        (N, 3, H, W) in 0 to 1.
    """
    gamma, gain = draws[:, COLOUR, None, None].split((1, 3), 1)
    gamma, gain = (gamma * config.colour).exp(), (gain * config.colour / 2).exp()
    return (images.clamp_min(1e-4) ** gamma * gain).clamp(0, 1)


def degrade_mattes(mattes: Tensor, config: Degrade, draws: Tensor) -> Tensor:
    """Degrade seven of ten mattes to those of a matting network: soft, too wide or too narrow.

    Args:
        mattes: (N, 1, H, W) in 0 to 1.
        config: Only ``matte`` is read.
        draws: (N, ``PER_IMAGE``) random numbers.

    Returns:
        (N, 1, H, W) in 0 to 1.
    """
    if not config.matte:
        return mattes
    size = mattes.shape[-1]
    soft = F.interpolate(F.interpolate(mattes, size // 6, mode="area"), size, mode="bilinear", align_corners=False)
    uneven = draws[:, None, UNEVEN].unflatten(-1, (6, 6))
    uneven = F.interpolate(uneven, size, mode="bicubic", align_corners=False)
    rough = ((soft - 0.5) * 2.5 + 0.5 + 2.5 * config.matte * uneven).clamp(0, 1)
    return torch.where(draws[:, MATTE, None, None, None] < 0.4, rough, mattes)


def _noise(raw: RawBatch, like: Tensor) -> Tensor:
    """Draw noise (B (S + D), 3, H, W) from each person's seed, so it does not depend on the rest of the batch."""
    noise, random = torch.empty_like(like), torch.Generator(like.device)
    for seed, part in zip(raw.seeds, noise.chunk(len(raw.seeds)), strict=True):
        part.normal_(generator=random.manual_seed(seed))
    return noise
