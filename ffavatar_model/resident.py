"""Training pictures that all lie on the device as bytes: a batch is an index, and its augmentation runs there too.

For data that fits (256 pixels: 4 picture sets of 1,000 people take about 6 GB). The order of samples follows the same
rule as ``ffavatar_model.data``: it depends on (seed, digest, cursor) alone, as long as no picture is added.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ffavatar_model.augment import similarities
from ffavatar_model.camera import virtual_intrinsics
from ffavatar_model.data import N_MESH, Batch, FewToMany, choose_around, choose_few, generator
from ffavatar_model.degrade import degrade, wear_mattes
from ffavatar_model.pictures import BACKGROUND

DEVICE = threading.RLock()
"""Held by who uses the device beside the thread that trains: while that one captures a graph, nothing else may run."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
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


class ResidentData:
    """A growing set of people's pictures on one device, read as the training loop reads a ``FewToMany``.

    ``add`` may be called from another thread while batches are drawn.
    """

    def __init__(
        self, config: FewToMany.Config, size: int, digest: str, capacity: int, device: torch.device | str = "cpu"
    ) -> None:
        """Room for ``capacity`` pictures of ``size`` pixels."""
        self.config, self.size, self.digest, self.device = config, size, digest, torch.device(device)
        self.groups: list[tuple[str, list[int], list[int], list[int]]] = []
        """(person, rows, their moments, rows that may be sources)."""
        self.ids: list[str] = []
        self._known: list[bool] = []
        shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "pixels": ((4, size, size), torch.uint8), "landmarks": ((N_MESH, 2), torch.float16),
            "has_landmarks": ((), torch.bool), "K": ((3, 3), torch.float32), "head_to_camera": ((3, 4), torch.float32),
            "known": ((), torch.bool), "moment": ((), torch.int64),
        }  # fmt: skip
        self._kept = {n: torch.zeros(capacity, *s, dtype=t, device=self.device) for n, (s, t) in shapes.items()}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """People."""
        return len(self.groups)

    def add(self, pictures: Pictures) -> None:
        """Take one person's pictures. Raises ``ValueError`` when there is no room, or for another size."""
        n, begin = len(pictures.ids), len(self.ids)
        if pictures.rgb.shape[-1] != self.size:
            raise ValueError(f"{pictures.person}: pictures of {pictures.rgb.shape[-1]} pixels, {self.size} are held")
        if begin + n > len(self._kept["pixels"]):
            raise ValueError(f"{begin} pictures are held, no room for {n} more: raise capacity")
        values = {
            "pixels": torch.cat((pictures.rgb, pictures.matte), 1), "landmarks": pictures.landmarks,
            "has_landmarks": pictures.has_landmarks,
            "K": virtual_intrinsics(self.size).expand(n, 3, 3) if pictures.K is None else pictures.K,
            "head_to_camera": torch.eye(3, 4).expand(n, 3, 4) if pictures.K is None else pictures.head_to_camera,
            "known": torch.full((n,), pictures.K is not None),
            "moment": torch.arange(n) if pictures.moment is None else pictures.moment,
        }  # fmt: skip
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

    def __getitem__(self, cursor: int) -> Batch:
        """One sample, without the leading dimension of people."""
        batch = self.batch([cursor])
        fields: dict[str, Any] = {name: value[0] for name, value in batch.tensors().items()}
        return replace(batch, **fields)

    def batch(self, cursors: Sequence[int]) -> Batch:
        """The samples at places in the endless order of people; one number of sources for all of them."""
        random = generator(self.config.seed, self.digest, "sources", cursors[0])
        low, high = self.config.sources
        n_sources = int(torch.randint(low, high + 1, (), generator=random))
        picks = [self._pick(cursor, n_sources) for cursor in cursors]
        with DEVICE:
            return self._assemble(picks, torch.Generator(self.device).manual_seed(random.initial_seed()))

    def _pick(self, cursor: int, n_sources: int) -> tuple[str, list[int], list[int]]:
        groups = self.groups
        epoch, place = divmod(cursor, len(groups))
        order = torch.randperm(len(groups), generator=generator(self.config.seed, self.digest, "epoch", epoch))
        person, rows, moments, sources = groups[int(order[place])]
        random = generator(self.config.seed, self.digest, "sample", cursor)
        if len(set(moments)) == len(moments):
            chosen, driving = choose_few(len(rows), n_sources, self.config, random)
        else:
            chosen, driving = choose_around(moments, n_sources, self.config, random, [r in set(sources) for r in rows])
        return person, [rows[chosen[i % len(chosen)]] for i in range(n_sources)], [rows[i] for i in driving]

    def _assemble(self, picks: list[tuple[str, list[int], list[int]]], random: torch.Generator) -> Batch:
        n_sources, kept = len(picks[0][1]), self._kept
        index = torch.tensor([[*sources, *drivers] for _, sources, drivers in picks])
        rows = index[:, n_sources:].to(self.device)
        pixels = kept["pixels"][index.to(self.device)].flatten(0, 1).float() / 255
        landmarks = kept["landmarks"][rows].float()
        known = all(self._known[i] for _, _, drivers in picks for i in drivers)
        pixels, landmarks = self._reframe(pixels, landmarks, index.shape, known, random)
        pixels = self._relight(pixels, index.shape, random)
        rgb, matte = pixels.split((3, 1), 1)
        behind = torch.tensor(BACKGROUND, device=self.device)[:, None, None]
        clean = torch.lerp(behind.expand_as(rgb), rgb, matte)
        seen = clean
        if self.config.degrade != type(self.config.degrade)():
            worn = wear_mattes(matte, self.config.degrade, random)
            seen = degrade(torch.lerp(behind.expand_as(rgb), rgb, worn), self.config.degrade, random)
        clean, seen, matte = (x.unflatten(0, index.shape) for x in (clean, seen, matte))
        return Batch(
            sources=seen[:, :n_sources], source_mask=torch.ones(len(picks), n_sources, dtype=torch.bool),
            drivers=clean[:, n_sources:], seen=seen[:, n_sources:], mattes=matte[:, n_sources:], landmarks=landmarks,
            has_landmarks=kept["has_landmarks"][rows], K=kept["K"][rows], head_to_camera=kept["head_to_camera"][rows],
            known_camera=kept["known"][rows], moment=kept["moment"][rows],
            ids=[[person, *(self.ids[i] for i in [*sources, *drivers])] for person, sources, drivers in picks],
            known=known, padded=False,
        )  # fmt: skip

    def _reframe(
        self, pixels: Tensor, landmarks: Tensor, shape: torch.Size, known: bool, random: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Turn, zoom and shift each picture; drivers of known cameras stay as they are."""
        c, n = self.config.augment, len(pixels)
        if not (c.turn or c.zoom or c.shift):
            return pixels, landmarks

        def draw(limit: float, *more: int) -> Tensor:
            return (2 * torch.rand(n, *more, generator=random, device=self.device) - 1) * limit

        frames = similarities(draw(math.radians(c.turn)), draw(c.zoom), draw(2 * c.shift, 2)).unflatten(0, shape)
        drivers = shape[1] - landmarks.shape[1]
        if known:
            frames[:, drivers:] = torch.eye(2, 3, device=self.device)
        grid = F.affine_grid(frames.flatten(0, 1), [n, 4, self.size, self.size], align_corners=False)
        pixels = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        # The grid says where each new pixel comes from; landmarks go the other way.
        moved = frames[:, drivers:]
        linear, shift = moved[..., :2], moved[:, :, None, :, 2]
        back = linear / linear.square().sum((-2, -1), keepdim=True) * 2  # of a similarity, transposed: its inverse
        turned = (2 * landmarks - 1 - shift) @ back
        return pixels, (turned + 1) / 2

    def _relight(self, pixels: Tensor, shape: torch.Size, random: torch.Generator) -> Tensor:
        """One gain of each colour for all pictures of a person."""
        limit = self.config.augment.light
        if not limit:
            return pixels
        grey, colour = (2 * torch.rand(shape[0], k, generator=random, device=self.device) - 1 for k in (1, 3))
        gain = (limit * grey + limit / 3 * colour).exp()
        gain = torch.cat((gain, torch.ones_like(grey)), 1).repeat_interleave(shape[1], 0)[..., None, None]
        return (pixels * gain).clamp(0, 1)
