"""Batches: images as bytes as the loader hands them over, and as tensors as a training step takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class _BatchFields:
    """Fields of both kinds of batch: B people with S sources and D drivers each."""

    source_mask: Tensor
    """(B, S) bool; False is padding."""
    landmarks: Tensor
    """(B, D, 468, 2) face-mesh points in image widths."""
    has_landmarks: Tensor
    """(B, D) bool."""
    K: Tensor
    """(B, D, 3, 3) intrinsics for the images at the size that they have here."""
    head_to_camera: Tensor
    """(B, D, 3, 4) metres; the identity where ``known_camera`` is False."""
    known_camera: Tensor
    """(B, D) bool."""
    timestep: Tensor
    """(B, D) int64: drivers of one timestep of a capture have the same number."""
    ids: list[list[str]]
    """For each person: the person's id, then the ids of sources and drivers."""
    known: bool
    """Every driver's camera is known, as ``known_camera`` says: a plain value, so that no step waits for the device."""
    padded: bool
    """Some source is padding."""

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor by its field's name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def with_tensors(self, values: dict[str, Any]) -> Self:
        """Return a copy in which the named fields are replaced by ``values``."""
        return replace(self, **values)

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device; the copy from pinned memory does not wait."""
        return self.with_tensors({name: x.to(device, non_blocking=True) for name, x in self.tensors().items()})

    def clone(self) -> Self:
        """Return the batch in memory of its own."""
        return self.with_tensors({name: x.clone() for name, x in self.tensors().items()})

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory, which a CUDA device copies without the processor."""
        return self.with_tensors({name: x.pin_memory() for name, x in self.tensors().items()})


@dataclass(frozen=True, kw_only=True)
class RawBatch(_BatchFields):
    """A batch of images as bytes, as it is loaded; ``ffavatar_model.data.augment`` makes a ``Batch`` of it."""

    pixels: Tensor
    """(B, S + D, 4, H, W) uint8, sources first: RGB over any background, and the head's matte (255 is the head)."""
    draws: Tensor
    """(B, S + D, ``PER_IMAGE``) random numbers of each image, -1 to 1: see ``augment.draw_random``."""
    light: Tensor
    """(B, ``PER_PERSON``) random numbers of each person's light, -1 to 1."""
    seeds: list[int]
    """One seed a person, for the noise of their images."""


@dataclass(frozen=True, kw_only=True)
class Batch(_BatchFields):
    """A batch of images as a training step takes them."""

    sources: Tensor
    """(B, S, 3, H, W) RGB in 0 to 1, over the background."""
    drivers: Tensor
    """(B, D, 3, H, W) likewise: the targets that renderings are compared with."""
    mattes: Tensor
    """(B, D, 1, H, W) 0 to 1; 1 is the head."""
    estimator_drivers: Tensor | None = None
    """(B, D, 3, H, W) the drivers as the estimator gets them, degraded; None where these are ``drivers``."""


class TrainingData(Protocol):
    """A data set as the training loop reads it: an endless sequence of samples, each at a cursor."""

    def __len__(self) -> int:
        """Return the number of people in an epoch."""
        ...

    def batch(self, cursors: Sequence[int]) -> Batch:
        """Return the samples at ``cursors``, made in this process."""
        ...

    def batches(
        self, cursors: Sequence[list[int]], *, people: int, workers: int, device: torch.device
    ) -> Iterator[Batch]:
        """Yield a batch for each list of cursors.

        Args:
            cursors: For each batch the places of its samples in the sequence.
            people: Number of people in a step on all training workers together; a list may hold a worker's share.
            workers: Number of loader processes; 0 loads in this one.
            device: Where loaded batches are put.
        """
        ...
