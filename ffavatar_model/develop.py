"""Bytes to what a step takes, on the device: framing, light, what cameras and matting do, the background.

The one place where training pictures are changed, for pictures that are loaded and for those that lie on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ffavatar_model.augment import Augment, framing, gains, reframe, reframe_points
from ffavatar_model.batch import Batch, RawBatch
from ffavatar_model.degrade import Degrade, degrade, wear_mattes
from ffavatar_model.pictures import over_background


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
        sources=sources, drivers=drivers, seen=seen, mattes=_parts(matte, shape, n_sources)[1], landmarks=landmarks,
        ids=raw.ids, known=raw.known, padded=raw.padded, **kept,
    )  # fmt: skip


def _parts(pictures: Tensor, shape: torch.Size, n_sources: int) -> tuple[Tensor, Tensor]:
    pictures = pictures.unflatten(0, shape)
    return pictures[:, :n_sources], pictures[:, n_sources:]


def _noise(raw: RawBatch, like: Tensor) -> Tensor:
    """(B (S + D), 3, H, W) from each person's own seed, so that it does not depend on who else is in the batch."""
    noise, random = torch.empty_like(like), torch.Generator(like.device)
    for seed, part in zip(raw.seeds, noise.chunk(len(raw.seeds)), strict=True):
        part.normal_(generator=random.manual_seed(seed))
    return noise
