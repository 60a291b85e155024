"""What a training step takes, and what the loader hands over to make it from."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class _BatchOfPeople:
    """B people with S sources and D drivers each: what of them does not depend on how their pictures are held."""

    source_mask: Tensor
    """(B, S) bool; False is padding."""
    landmarks: Tensor
    """(B, D, 468, 2) face-mesh points in picture widths."""
    has_landmarks: Tensor
    """(B, D) bool."""
    K: Tensor
    """(B, D, 3, 3) intrinsics for the pictures as they are here."""
    head_to_camera: Tensor
    """(B, D, 3, 4) metres; the identity where ``known_camera`` is False."""
    known_camera: Tensor
    """(B, D) bool."""
    moment: Tensor
    """(B, D) int64: drivers of one moment share their number."""
    ids: list[list[str]]
    """For each person: the person's id, then the ids of sources and drivers."""
    known: bool
    """Every driver's camera is known, as ``known_camera`` says: a plain value, so that no step waits for the device."""
    padded: bool
    """Some source is padding."""

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its field's name."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    def with_tensors(self, values: dict[str, Any]) -> Self:
        """The same with other tensors."""
        return replace(self, **values)

    def to(self, device: torch.device | str) -> Self:
        """The same on a device."""
        return self.with_tensors({name: x.to(device, non_blocking=True) for name, x in self.tensors().items()})

    def clone(self) -> Self:
        """The same in memory of its own."""
        return self.with_tensors({name: x.clone() for name, x in self.tensors().items()})

    def pin_memory(self) -> Self:
        """The same in memory that a CUDA device reads by itself."""
        return self.with_tensors({name: x.pin_memory() for name, x in self.tensors().items()})


@dataclass(frozen=True, kw_only=True)
class RawBatch(_BatchOfPeople):
    """Pictures as bytes, as they are loaded; ``ffavatar_model.data.augment`` makes a ``Batch`` of it."""

    pixels: Tensor
    """(B, S + D, 4, H, W) uint8, sources first: RGB over any background, and the head's matte (255 is the head)."""
    chances: Tensor
    """(B, S + D, ``chances.PER_PICTURE``) and (B, ``chances.PER_PERSON``): see ``ffavatar_model.data.augment``."""
    light: Tensor
    seeds: list[int]
    """A person's own, for the noise of their pictures."""


@dataclass(frozen=True, kw_only=True)
class Batch(_BatchOfPeople):
    """Pictures as a training step takes them."""

    sources: Tensor
    """(B, S, 3, H, W) RGB in 0 to 1, over the background."""
    drivers: Tensor
    """(B, D, 3, H, W) likewise: what a rendering is compared with."""
    mattes: Tensor
    """(B, D, 1, H, W) 0 to 1; 1 is the head."""
    seen: Tensor | None = None
    """(B, D, 3, H, W) the drivers as the estimator sees them, where that is not what a rendering is compared with."""
