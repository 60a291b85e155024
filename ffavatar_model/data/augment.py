"""Augmentation: from a loaded batch of bytes to the tensors of a training step, with random changes, on the device.

Three kinds of change are made. ``Augment`` changes what a rendering must look like: each image's framing, and the light
of a whole sample. ``Degrade`` changes what the networks see alone: what cameras, codecs and matting do to an image.
``draw_random`` draws the numbers of a sample's changes, on the CPU and with the sample: they are the same on every
device, for any number of workers, and whatever else is in its batch. This is the one place where training images are
changed, whether they were loaded or lie on the device already.
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
"""Columns of an image's random numbers: turn, zoom, and shift to the right and down."""
COLOUR = slice(4, 8)
"""Columns of the gamma, and of the gain of each colour."""
BLUR, NOISE, MATTE = 8, 9, 10
"""Columns of the blur's and the noise's strength, and of whether the matte is degraded."""
UNEVEN = slice(11, 47)
"""Columns of a 6 x 6 grid over the matte: by how much its edge moves."""
PER_IMAGE = 47
PER_PERSON = 4
"""Random numbers of a person's light: grey, and each colour."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """Largest changes of framing and light; 0 switches one off. Drivers of known cameras keep their framing."""

    turn: float = 0.0
    """Degrees in the image plane."""
    zoom: float = 0.0
    """Natural logarithm of the scale."""
    shift: float = 0.0
    """Share of the image's width."""
    light: float = 0.0
    """Natural logarithm of the gain of each colour, the same for all images of a sample: one person in one light."""

    def __post_init__(self) -> None:
        for name in ("turn", "zoom", "shift", "light"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")

    @property
    def reframes(self) -> bool:
        """Images are turned, zoomed or shifted."""
        return bool(self.turn or self.zoom or self.shift)


@dataclass(frozen=True, kw_only=True, slots=True)
class Degrade:
    """Largest losses of quality, drawn for each image by itself; 0 switches one off."""

    colour: float = 0.0
    """Natural logarithm of the gain of each colour, and of the exponent of a gamma curve."""
    shared: bool = False
    """True to draw the colour once a sample, for all its images, those that a rendering is compared with included: the
    colours of another camera cannot be predicted from the sources."""
    blur: float = 0.0
    """Natural logarithm of the factor by which an image loses resolution."""
    noise: float = 0.0
    """Standard deviation, of the full range."""
    matte: float = 0.0
    """By how much a matte's edge moves, of its full range after it is smoothed: background shows, or hair is lost."""

    def __post_init__(self) -> None:
        for name in ("colour", "blur", "noise", "matte"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


def draw_random(images: int, random: torch.Generator) -> tuple[Tensor, Tensor, int]:
    """Draw the random numbers of a sample's changes.

    Args:
        images: Number of images of the sample.
        random: The sample's own generator.

    Returns:
        (images, ``PER_IMAGE``) and (``PER_PERSON``,) numbers, uniform over -1 to 1, and the seed of the noise.
    """
    numbers = 2 * torch.rand(images * PER_IMAGE + PER_PERSON, generator=random) - 1
    seed = int(torch.randint(2**62, (), generator=random))
    return numbers[PER_PERSON:].view(images, PER_IMAGE), numbers[:PER_PERSON], seed


def prepare_batch(raw: RawBatch, augment: Augment, degrade: Degrade) -> Batch:
    """Turn a loaded batch into the tensors of a training step, on the device where ``raw`` lies.

    A person's images depend on their own row of ``raw`` alone. Images that a rendering is compared with are augmented;
    those that the networks see (sources, and drivers for the estimator) are degraded besides.

    Args:
        raw: A loaded batch.
        augment: Largest changes of framing and light.
        degrade: Largest losses of quality.
    """
    shape, n_sources = raw.pixels.shape[:2], raw.source_mask.shape[1]

    def split(images: Tensor) -> tuple[Tensor, Tensor]:
        """Return sources and drivers of (B (S + D), ...) images."""
        images = images.unflatten(0, shape)
        return images[:, :n_sources], images[:, n_sources:]

    pixels, landmarks = raw.pixels.flatten(0, 1).contiguous().float() / 255, raw.landmarks
    draws = raw.draws.flatten(0, 1)
    if augment.reframes:
        frames = framing_transforms(augment, raw.draws)
        unchanged = torch.eye(2, 3, device=frames.device)
        frames[:, n_sources:] = torch.where(raw.known_camera[..., None, None], unchanged, frames[:, n_sources:])
        pixels = reframe(pixels, frames.flatten(0, 1))
        landmarks = reframe_points(landmarks, frames[:, n_sources:])
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
    for name in ("pixels", "landmarks", "draws", "light"):
        del unchanged_fields[name]
    return Batch(
        sources=sources,
        drivers=drivers,
        estimator_drivers=estimator_drivers,
        mattes=split(matte)[1],
        landmarks=landmarks,
        ids=raw.ids,
        known=raw.known,
        padded=raw.padded,
        **unchanged_fields,
    )


def framing_transforms(config: Augment, draws: Tensor) -> Tensor:
    """Return the similarity of each image that says where its new pixels come from.

    Args:
        config: Largest turn, zoom and shift.
        draws: (..., ``PER_IMAGE``) random numbers.

    Returns:
        (..., 2, 3) in half image widths from the middle, as ``torch.nn.functional.affine_grid`` takes them.
    """
    turn, zoom, right, down = draws[..., FRAME].unbind(-1)
    turn, scale = turn * math.radians(config.turn), (zoom * config.zoom).exp()
    shift = torch.stack((right, down), -1) * (2 * config.shift)
    cosine, sine = turn.cos() * scale, turn.sin() * scale
    linear = torch.stack((cosine, -sine, sine, cosine), -1).unflatten(-1, (2, 2))
    return torch.cat((linear, shift[..., None]), -1)


def reframe(pixels: Tensor, frames: Tensor) -> Tensor:
    """Resample images (N, C, H, W) by ``frames`` (N, 2, 3); outside the image, the nearest edge's pixels are taken."""
    grid = F.affine_grid(frames, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def reframe_points(points: Tensor, frames: Tensor) -> Tensor:
    """Return points (..., P, 2), in image widths, as they lie after ``reframe`` with ``frames`` (..., 2, 3)."""
    linear, shift = frames[..., :2], frames[..., None, :, 2]
    # Frames say where new pixels come from, points go the other way: a similarity's inverse is its transpose, scaled.
    back = linear / linear.square().sum((-2, -1), keepdim=True) * 2
    return ((2 * points - 1 - shift) @ back + 1) / 2


def degrade_images(images: Tensor, config: Degrade, draws: Tensor, noise: Tensor) -> Tensor:
    """Change the colours of images (unless a sample shares them), blur them and add noise.

    Args:
        images: (N, 3, H, W) in 0 to 1.
        config: Largest losses of quality.
        draws: (N, ``PER_IMAGE``) random numbers.
        noise: (N, 3, H, W) of mean 0 and deviation 1.

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
    """Apply a gamma curve and a gain of each colour.

    Args:
        images: (N, 3, H, W) in 0 to 1.
        config: ``colour`` is read.
        draws: (N, ``PER_IMAGE``) random numbers.

    Returns:
        (N, 3, H, W) in 0 to 1.
    """
    gamma, gain = draws[:, COLOUR, None, None].split((1, 3), 1)
    gamma, gain = (gamma * config.colour).exp(), (gain * config.colour / 2).exp()
    return (images.clamp_min(1e-4) ** gamma * gain).clamp(0, 1)


def degrade_mattes(mattes: Tensor, config: Degrade, draws: Tensor) -> Tensor:
    """Make seven of ten mattes as a matting network gives them: soft, too wide or too narrow.

    Args:
        mattes: (N, 1, H, W) in 0 to 1.
        config: ``matte`` is read.
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
    """(B (S + D), 3, H, W) from each person's own seed, so that it does not depend on who else is in the batch."""
    noise, random = torch.empty_like(like), torch.Generator(like.device)
    for seed, part in zip(raw.seeds, noise.chunk(len(raw.seeds)), strict=True):
        part.normal_(generator=random.manual_seed(seed))
    return noise
