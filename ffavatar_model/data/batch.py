"""Batches of training samples: ``RawBatch`` as the loader returns it, and ``Batch`` as a training step takes it."""

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
    """(B, S) bool, False for padding."""
    landmarks: Tensor
    """(B, D, 468, 2) face-mesh points in image widths; zeros if ``has_landmarks`` is False."""
    has_landmarks: Tensor
    """(B, D) bool, True for drivers with face-mesh points."""
    K: Tensor
    """(B, D, 3, 3) intrinsics for this batch's image size, in pixels."""
    head_to_camera: Tensor
    """(B, D, 3, 4) transforms from head to camera, metres; the identity if ``known_camera`` is False."""
    known_camera: Tensor
    """(B, D) bool, True for drivers whose camera is known."""
    timestep: Tensor
    """(B, D) int64: drivers of one person that show the same timestep of a capture have the same number."""
    ids: list[list[str]]
    """For each person: the person's id, then the ids of sources and drivers."""
    known: bool
    """True if ``known_camera`` is True for all drivers: a plain bool, so reading it does not wait for the device."""
    padded: bool
    """True if at least one source is padding."""
    irises: Tensor | None = None
    """(B, D, 2, 2) centres of the irises in image widths, the head's own left first; None if they are not known."""
    shape: Tensor | None = None
    """(B, S) shape coefficients of the people's heads; None if they are not known."""

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by field name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def with_tensors(self, values: dict[str, Any]) -> Self:
        """Return a copy with the fields in ``values`` replaced."""
        return replace(self, **values)

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on a device; copying from page-locked memory does not block."""
        return self.with_tensors({name: x.to(device, non_blocking=True) for name, x in self.tensors().items()})

    def clone(self) -> Self:
        """Return a copy of the batch that shares no memory with it."""
        return self.with_tensors({name: x.clone() for name, x in self.tensors().items()})

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory, from which copies to a CUDA device do not block."""
        return self.with_tensors({name: x.pin_memory() for name, x in self.tensors().items()})


@dataclass(frozen=True, kw_only=True)
class RawBatch(_BatchFields):
    """A batch as loaded, with uint8 images; ``ffavatar_model.data.augment`` turns it into a ``Batch``."""

    pixels: Tensor
    """(B, S + D, 4, H, W) uint8, sources first: RGB over any background, and the matte (255 inside the head)."""
    draws: Tensor
    """(B, S + D, ``PER_IMAGE``) random numbers for each image, -1 to 1: see ``augment.draw_random``."""
    light: Tensor
    """(B, ``PER_PERSON``) random numbers for each person's light, -1 to 1."""
    seeds: list[int]
    """Seeds of the augmentation's noise, one per person."""


@dataclass(frozen=True, kw_only=True)
class Batch(_BatchFields):
    """A batch as a training step takes it, with float images on the device."""

    sources: Tensor
    """(B, S, 3, H, W) RGB in 0 to 1, over the background."""
    drivers: Tensor
    """(B, D, 3, H, W) RGB in 0 to 1, over the background: the targets that renderings are compared with."""
    mattes: Tensor
    """(B, D, 1, H, W) in 0 to 1, 1 inside the head."""
    estimator_drivers: Tensor | None = None
    """(B, D, 3, H, W) degraded drivers, the estimator's input; None if the estimator gets ``drivers``."""


class TrainingData(Protocol):
    """Interface of a data set for the training loop: an endless sequence of samples.

    A cursor is a position in that sequence.
    """

    def __len__(self) -> int:
        """Return the number of people in an epoch."""
        ...

    def batch(self, cursors: Sequence[int]) -> Batch:
        """Return a batch of the samples at ``cursors``, loaded in this process."""
        ...

    def batches(
        self, cursors: Sequence[list[int]], *, people: int, workers: int, device: torch.device
    ) -> Iterator[Batch]:
        """Yield a batch for each list of cursors.

        Args:
            cursors: For each batch the cursors of its samples.
            people: Number of people per step, summed over all training workers; each list of cursors may be only one
                worker's share.
            workers: Number of loader processes; 0 loads in this process.
            device: Device of the batches.
        """
        ...
