"""Training images that all lie on the device as bytes: making a batch is indexing.

For data that fits (256 pixels: 4 image sets of 1,000 people take about 6 GB). The order of samples follows the same
rule as ``ffavatar_model.data.dataset``: it depends on (seed, digest, cursor) alone, as long as no image is added.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ffavatar_model.camera import virtual_intrinsics
from ffavatar_model.data.augment import draw_random, prepare_batch
from ffavatar_model.data.batch import Batch, RawBatch
from ffavatar_model.data.index import N_MESH
from ffavatar_model.data.prefetch import DEVICE
from ffavatar_model.data.sampling import PermutedOrder, SamplingConfig, choose_around, choose_few, seeded_generator


@dataclass(frozen=True, kw_only=True)
class ResidentImages:
    """N images of one person, square, as they come from a reader or a renderer."""

    person: str
    ids: list[str]
    rgb: Tensor
    """(N, 3, H, W) uint8 over any background."""
    matte: Tensor
    """(N, 1, H, W) uint8, 255 is the head (``images.head_matte`` applied)."""
    landmarks: Tensor
    """(N, 468, 2) face-mesh points in image widths."""
    has_landmarks: Tensor
    """(N,) bool."""
    irises: Tensor | None = None
    """(N, 2, 2) centres of the irises in image widths, where they are known."""
    shape: Tensor | None = None
    """(S,) shape coefficients of the person's head, up to ``N_SHAPE``, where they are known."""
    K: Tensor | None = None
    """(N, 3, 3) where cameras are known."""
    head_to_camera: Tensor | None = None
    """(N, 3, 4) likewise."""
    timestep: Tensor | None = None
    """(N,) int64 likewise."""
    source: Tensor | None = None
    """(N,) bool: which may be a source; None for all."""


N_SHAPE = 60
"""Largest number of shape coefficients that are held."""


class _Person(NamedTuple):
    name: str
    rows: list[int]
    timesteps: list[int]
    may_be_source: list[bool]


class _Pick(NamedTuple):
    person: str
    rows: list[int]
    """Sources, then drivers."""
    draws: Tensor
    light: Tensor
    seed: int


class ResidentData:
    """A growing set of people's images on one device; it fulfils ``TrainingData``.

    ``add`` may be called from another thread while batches are drawn.
    """

    def __init__(
        self, config: SamplingConfig, size: int, digest: str, capacity: int, device: torch.device | str = "cpu"
    ) -> None:
        """Reserve memory.

        Args:
            config: Images a sample, and their random changes.
            size: Pixels along an image's edge.
            digest: With the seed it says the order of samples.
            capacity: Number of images that there is room for.
            device: Where images lie and batches are made.
        """
        self.config, self.size, self.digest, self.device = config, size, digest, torch.device(device)
        self.people: list[_Person] = []
        self.ids: list[str] = []
        self._known: list[bool] = []
        self._irises_known = self._shapes_known = True
        self._order = PermutedOrder(config.seed, digest)
        shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "pixels": ((4, size, size), torch.uint8),
            "landmarks": ((N_MESH, 2), torch.float16),
            "has_landmarks": ((), torch.bool),
            "irises": ((2, 2), torch.float16),
            "shape": ((N_SHAPE,), torch.float32),
            "K": ((3, 3), torch.float32),
            "head_to_camera": ((3, 4), torch.float32),
            "known": ((), torch.bool),
            "timestep": ((), torch.int64),
        }
        self._stored = {n: torch.zeros(capacity, *s, dtype=t, device=self.device) for n, (s, t) in shapes.items()}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of people."""
        return len(self.people)

    def add(self, images: ResidentImages) -> None:
        """Store one person's images.

        Raises:
            ValueError: There is no room, or the images have another size.
        """
        n, begin = len(images.ids), len(self.ids)
        if images.rgb.shape[-1] != self.size:
            raise ValueError(f"{images.person}: images of {images.rgb.shape[-1]} pixels, {self.size} are held")
        if begin + n > len(self._stored["pixels"]):
            raise ValueError(f"{begin} images are held, no room for {n} more: raise capacity")
        timestep = torch.arange(n) if images.timestep is None else images.timestep
        values = {
            "pixels": torch.cat((images.rgb, images.matte), 1),
            "landmarks": images.landmarks,
            "has_landmarks": images.has_landmarks,
            "irises": torch.zeros(n, 2, 2) if images.irises is None else images.irises,
            "shape": torch.zeros(n, N_SHAPE) if images.shape is None else _padded(images.shape).expand(n, -1),
            "K": virtual_intrinsics(self.size).expand(n, 3, 3) if images.K is None else images.K,
            "head_to_camera": torch.eye(3, 4).expand(n, 3, 4) if images.K is None else images.head_to_camera,
            "known": torch.full((n,), images.K is not None),
            "timestep": timestep,
        }
        with DEVICE:
            for name, value in values.items():
                assert value is not None
                self._stored[name][begin : begin + n] = value.to(self.device)
        may_be_source = [True] * n if images.source is None else images.source.tolist()
        with self._lock:
            self.ids.extend(images.ids)
            self._known.extend([images.K is not None] * n)
            self._irises_known &= images.irises is not None
            self._shapes_known &= images.shape is not None
            rows = list(range(begin, begin + n))
            self.people.append(_Person(images.person, rows, timestep.tolist(), may_be_source))

    def batch(self, cursors: Sequence[int], people: int = 1) -> Batch:
        """Return the samples at ``cursors`` in the endless order of people; a step's have one number of sources.

        Args:
            cursors: Places of the samples.
            people: Number of people in a step on all workers together, where ``cursors`` are one worker's share of it.
        """
        random = seeded_generator(self.config.seed, self.digest, "sources", cursors[0] - cursors[0] % people)
        low, high = self.config.sources
        n_sources = int(torch.randint(low, high + 1, (), generator=random))
        picks = [self._pick(cursor, n_sources) for cursor in cursors]
        with DEVICE:
            return prepare_batch(self._gather(picks, n_sources), self.config.augment, self.config.degrade)

    def batches(
        self, cursors: Sequence[list[int]], *, people: int, workers: int, device: torch.device
    ) -> Iterator[Batch]:
        """Yield a batch for each list of cursors: see ``TrainingData``. No worker is needed to index."""
        return (self.batch(each, people) for each in cursors)

    def _pick(self, cursor: int, n_sources: int) -> _Pick:
        people = self.people
        person = people[self._order(cursor, len(people))]
        random = seeded_generator(self.config.seed, self.digest, "sample", cursor)
        if len(set(person.timesteps)) == len(person.timesteps):
            sources, drivers = choose_few(len(person.rows), n_sources, self.config, random)
        else:
            sources, drivers = choose_around(person.timesteps, n_sources, self.config, random, person.may_be_source)
        rows = [person.rows[sources[i % len(sources)]] for i in range(n_sources)]
        rows += [person.rows[i] for i in drivers]
        return _Pick(person.name, rows, *draw_random(len(rows), random))

    def _gather(self, picks: list[_Pick], n_sources: int) -> RawBatch:
        index = torch.tensor([pick.rows for pick in picks]).to(self.device)
        drivers, stored = index[:, n_sources:], self._stored
        draws, light = (torch.stack([getattr(pick, name) for pick in picks]) for name in ("draws", "light"))
        return RawBatch(
            pixels=stored["pixels"][index],
            draws=draws.to(self.device),
            light=light.to(self.device),
            seeds=[pick.seed for pick in picks],
            source_mask=torch.ones(len(picks), n_sources, dtype=torch.bool, device=self.device),
            landmarks=stored["landmarks"][drivers].float(),
            has_landmarks=stored["has_landmarks"][drivers],
            irises=stored["irises"][drivers].float() if self._irises_known else None,
            shape=stored["shape"][index[:, 0]] if self._shapes_known else None,
            K=stored["K"][drivers],
            head_to_camera=stored["head_to_camera"][drivers],
            known_camera=stored["known"][drivers],
            timestep=stored["timestep"][drivers],
            ids=[[pick.person, *(self.ids[i] for i in pick.rows)] for pick in picks],
            known=all(self._known[i] for pick in picks for i in pick.rows[n_sources:]),
            padded=False,
        )


def _padded(shape: Tensor) -> Tensor:
    """Return shape coefficients (S,) with zeros behind them, (``N_SHAPE``,)."""
    return torch.nn.functional.pad(shape, (0, N_SHAPE - len(shape)))
