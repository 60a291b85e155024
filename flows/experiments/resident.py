"""Training pictures that all lie on the device as bytes: a batch is an index.

For data that fits (256 pixels: 4 picture sets of 1,000 people take about 6 GB). The order of samples follows the same
rule as ``ffavatar_model.data.dataset``: it depends on (seed, digest, cursor) alone, as long as no picture is added.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ffavatar_model.camera import virtual_intrinsics
from ffavatar_model.data.augment import develop, draw
from ffavatar_model.data.batch import Batch, RawBatch
from ffavatar_model.data.dataset import N_MESH
from ffavatar_model.data.prefetch import DEVICE
from ffavatar_model.data.sampling import PermutedOrder, SamplingConfig, choose_around, choose_few, generator


@dataclass(frozen=True, kw_only=True)
class ResidentImages:
    """N pictures of one person, square, as they come from a reader or a renderer."""

    person: str
    ids: list[str]
    rgb: Tensor
    """(N, 3, H, W) uint8 over any background."""
    matte: Tensor
    """(N, 1, H, W) uint8, 255 is the head (``pictures.head_matte`` applied)."""
    landmarks: Tensor
    """(N, 468, 2) face-mesh points in picture widths."""
    has_landmarks: Tensor
    """(N,) bool."""
    K: Tensor | None = None
    """(N, 3, 3) where cameras are known."""
    head_to_camera: Tensor | None = None
    """(N, 3, 4) likewise."""
    moment: Tensor | None = None
    """(N,) int64 likewise."""
    source: Tensor | None = None
    """(N,) bool: which may be a source; None for all."""


class _Pick(NamedTuple):
    person: str
    rows: list[int]
    """Sources, then drivers."""
    chances: Tensor
    light: Tensor
    seed: int


class ResidentData:
    """A growing set of people's pictures on one device, read as the training loop reads a ``FewToMany``.

    ``add`` may be called from another thread while batches are drawn.
    """

    def __init__(
        self, config: SamplingConfig, size: int, digest: str, capacity: int, device: torch.device | str = "cpu"
    ) -> None:
        """Room for ``capacity`` pictures of ``size`` pixels."""
        self.config, self.size, self.digest, self.device = config, size, digest, torch.device(device)
        self.groups: list[tuple[str, list[int], list[int], list[int]]] = []
        """(person, rows, their moments, rows that may be sources)."""
        self.ids: list[str] = []
        self._known: list[bool] = []
        self._order = PermutedOrder(config.seed, digest)
        shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "pixels": ((4, size, size), torch.uint8),
            "landmarks": ((N_MESH, 2), torch.float16),
            "has_landmarks": ((), torch.bool),
            "K": ((3, 3), torch.float32),
            "head_to_camera": ((3, 4), torch.float32),
            "known": ((), torch.bool),
            "moment": ((), torch.int64),
        }
        self._kept = {n: torch.zeros(capacity, *s, dtype=t, device=self.device) for n, (s, t) in shapes.items()}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """People."""
        return len(self.groups)

    def add(self, pictures: ResidentImages) -> None:
        """Take one person's pictures. Raises ``ValueError`` when there is no room, or for another size."""
        n, begin = len(pictures.ids), len(self.ids)
        if pictures.rgb.shape[-1] != self.size:
            raise ValueError(f"{pictures.person}: pictures of {pictures.rgb.shape[-1]} pixels, {self.size} are held")
        if begin + n > len(self._kept["pixels"]):
            raise ValueError(f"{begin} pictures are held, no room for {n} more: raise capacity")
        values = {
            "pixels": torch.cat((pictures.rgb, pictures.matte), 1),
            "landmarks": pictures.landmarks,
            "has_landmarks": pictures.has_landmarks,
            "K": virtual_intrinsics(self.size).expand(n, 3, 3) if pictures.K is None else pictures.K,
            "head_to_camera": torch.eye(3, 4).expand(n, 3, 4) if pictures.K is None else pictures.head_to_camera,
            "known": torch.full((n,), pictures.K is not None),
            "moment": torch.arange(n) if pictures.moment is None else pictures.moment,
        }
        with DEVICE:
            for name, value in values.items():
                assert value is not None
                self._kept[name][begin : begin + n] = value.to(self.device)
        rows = list(range(begin, begin + n))
        sources = rows
        if pictures.source is not None:
            sources = [row for row, may in zip(rows, pictures.source.tolist(), strict=True) if may]
        with self._lock:
            self.ids.extend(pictures.ids)
            self._known.extend([pictures.K is not None] * n)
            self.groups.append((pictures.person, rows, values["moment"].tolist(), sources))  # type: ignore[union-attr]

    def batch(self, cursors: Sequence[int], people: int = 1) -> Batch:
        """The samples at places in the endless order of people; one number of sources for all of a step's.

        ``people`` is their number in a step on all workers together, where ``cursors`` are one worker's share of it.
        """
        random = generator(self.config.seed, self.digest, "sources", cursors[0] - cursors[0] % people)
        low, high = self.config.sources
        n_sources = int(torch.randint(low, high + 1, (), generator=random))
        picks = [self._pick(cursor, n_sources) for cursor in cursors]
        with DEVICE:
            return develop(self._raw(picks, n_sources), self.config.augment, self.config.degrade)

    def _pick(self, cursor: int, n_sources: int) -> _Pick:
        groups = self.groups
        person, rows, moments, sources = groups[self._order(cursor, len(groups))]
        random = generator(self.config.seed, self.digest, "sample", cursor)
        if len(set(moments)) == len(moments):
            chosen, driving = choose_few(len(rows), n_sources, self.config, random)
        else:
            chosen, driving = choose_around(moments, n_sources, self.config, random, [r in set(sources) for r in rows])
        taken = [rows[chosen[i % len(chosen)]] for i in range(n_sources)] + [rows[i] for i in driving]
        return _Pick(person, taken, *draw(len(taken), random))

    def _raw(self, picks: list[_Pick], n_sources: int) -> RawBatch:
        index = torch.tensor([pick.rows for pick in picks]).to(self.device)
        drivers, kept = index[:, n_sources:], self._kept
        chances, light = (torch.stack([getattr(pick, name) for pick in picks]) for name in ("chances", "light"))
        return RawBatch(
            pixels=kept["pixels"][index],
            chances=chances.to(self.device),
            light=light.to(self.device),
            seeds=[pick.seed for pick in picks],
            source_mask=torch.ones(len(picks), n_sources, dtype=torch.bool, device=self.device),
            landmarks=kept["landmarks"][drivers].float(),
            has_landmarks=kept["has_landmarks"][drivers],
            K=kept["K"][drivers],
            head_to_camera=kept["head_to_camera"][drivers],
            known_camera=kept["known"][drivers],
            moment=kept["moment"][drivers],
            ids=[[pick.person, *(self.ids[i] for i in pick.rows)] for pick in picks],
            known=all(self._known[i] for pick in picks for i in pick.rows[n_sources:]),
            padded=False,
        )
