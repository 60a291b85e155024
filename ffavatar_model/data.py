"""Training samples from a published corpus: one person, a few sources, more drivers.

Both data sets take tables and a function that reads a byte range, so they know nothing of where the
corpus lies. Sample ``cursor`` depends on (seed, snapshot digest, cursor) alone: the order is the same on any
number of workers, and goes on in the middle of an epoch.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ffavatar_model.augment import Augment, augment
from ffavatar_model.camera import compose, virtual_intrinsics
from ffavatar_model.config import require
from ffavatar_model.degrade import Degrade
from ffavatar_model.pictures import BACKGROUND, decode, prepare
from ffavatar_model.reading import ReadBlob, Reader
from mfhq.schema import OK

N_MESH = 468


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Tensors of B people with S sources and D drivers each; a single sample has no B."""

    sources: Tensor
    """(B, S, 3, H, W) RGB in 0 to 1, over the background."""
    source_mask: Tensor
    """(B, S) bool; False is padding."""
    drivers: Tensor
    """(B, D, 3, H, W) likewise: what the estimator sees, and what the rendering is compared with."""
    mattes: Tensor
    """(B, D, 1, H, W) 0 to 1; 1 is the head."""
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
    seen: Tensor | None = None
    """(B, D, 3, H, W) the drivers as the estimator sees them, where that is not what a rendering is compared with."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        moved: dict[str, Any] = {name: x.to(device, non_blocking=True) for name, x in self.tensors().items()}
        return replace(self, **moved)

    def clone(self) -> Batch:
        """The same batch in memory of its own."""
        copied: dict[str, Any] = {name: x.clone() for name, x in self.tensors().items()}
        return replace(self, **copied)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by its field's name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}


def collate(samples: Sequence[Batch]) -> Batch:
    """Samples of one person each → a batch."""
    values: dict[str, Any] = {name: torch.stack([s.tensors()[name] for s in samples]) for name in samples[0].tensors()}
    known, padded = all(s.known for s in samples), any(s.padded for s in samples)
    return Batch(**values, ids=[s.ids[0] for s in samples], known=known, padded=padded)


def generator(seed: int, digest: str, *key: object) -> torch.Generator:
    """The random numbers that belong to a place in the order of a snapshot's samples."""
    text = repr((seed, digest, *key)).encode()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:7], "big"))


def choose_few(
    n: int, n_sources: int, config: FewToMany.Config, random: torch.Generator
) -> tuple[list[int], list[int]]:
    """Indices of sources and of drivers among a person's ``n`` pictures; drivers repeat where there are too few."""
    others = config.driver_choice == "others"
    n_sources = min(n_sources, max(1, n - 1) if others else n)
    order = torch.randperm(n, generator=random).tolist()
    given = list(range(n_sources)) if config.source_choice == "first" else order[:n_sources]
    rest = ([i for i in order if i not in given] if others else order) or order
    return given, [rest[i % len(rest)] for i in range(config.drivers)]


def choose_around(
    moments: Sequence[object], n_sources: int, config: FewToMany.Config, random: torch.Generator,
    sources: Sequence[bool] | None = None,
) -> tuple[list[int], list[int]]:  # fmt: skip
    """Drivers are views of one moment, sources any other pictures (of those that ``sources`` allows)."""
    order = torch.randperm(len(moments), generator=random).tolist()
    around = [i for i, moment in enumerate(moments) if moment == moments[order[-1]]]
    turn = torch.randperm(len(around), generator=random).tolist()
    drivers = [around[turn[i % len(turn)]] for i in range(config.drivers)]
    allowed = [i for i in order if sources is None or sources[i]] or order
    free = [i for i in allowed if i not in set(drivers)] or allowed
    return free[:n_sources], drivers


@dataclass(frozen=True, kw_only=True)
class Face:
    """One picture of one person, prepared."""

    id: str
    rgb: Tensor
    matte: Tensor
    landmarks: Tensor | None
    K: Tensor
    head_to_camera: Tensor | None
    moment: int


class FewToMany(Dataset[Batch], ABC):
    """What both data sets share: which pictures of a person are sources and which are drivers.

    Subclasses give ``groups`` (person id → the pictures that may meet in a sample) and ``_load``.
    """

    pictures: tuple[str, ...] = ()
    """The fields of a picture's row that say where its bytes are."""

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """How many pictures a sample holds, and in which order people come."""

        sources: tuple[int, int] = (1, 2)
        """Fewest and most sources; the number is drawn for each sample."""
        drivers: int = 3
        seed: int = 0
        cache: int = 4096
        """Decoded pictures kept in memory by each worker."""
        readers: int = 8
        """Byte ranges that each worker reads at once."""
        source_choice: Literal["random", "first"] = "random"
        """first: always the best-ranked pictures, as in use."""
        driver_choice: Literal["others", "any"] = "others"
        """any: sources are drivers, too, as where a person's few pictures are all that there is."""
        augment: Augment = field(default_factory=Augment)
        degrade: Degrade = field(default_factory=Degrade)

        def __post_init__(self) -> None:
            low, high = self.sources
            require(1 <= low <= high, "sources", self.sources, "two numbers, 1 <= fewest <= most")
            require(self.drivers >= 1, "drivers", self.drivers, "at least 1")
            require(self.cache >= 0, "cache", self.cache, "0 or more")
            require(self.readers >= 1, "readers", self.readers, "at least 1")

        @property
        def fixed(self) -> bool:
            """A picture is the same each time it is drawn."""
            return self.augment == Augment() and self.degrade == Degrade()

        def held_out(self) -> FewToMany.Config:
            """The same for validation: nothing is augmented, and no source is a driver."""
            return replace(self, augment=Augment(), degrade=Degrade(), driver_choice="others")

    def __init__(self, config: FewToMany.Config, size: int, digest: str, read_blob: ReadBlob) -> None:
        self.config, self.size, self.digest, self.read_blob = config, size, digest, Reader(read_blob, config.readers)
        self.groups: list[tuple[str, list[dict[str, Any]]]] = []
        self._kept: OrderedDict[str, Face] = OrderedDict()

    def __len__(self) -> int:
        """People in an epoch."""
        return len(self.groups)

    def _generator(self, *key: object) -> torch.Generator:
        return generator(self.config.seed, self.digest, *key)

    def __getitem__(self, cursor: int) -> Batch:
        """The sample at a place in the endless sequence of epochs, each a permutation of the people."""
        if not self.groups:
            raise ValueError(f"snapshot {self.digest[:12]} has no person with enough pictures for training")
        epoch, place = divmod(cursor, len(self.groups))
        index = int(torch.randperm(len(self.groups), generator=self._generator("epoch", epoch))[place])
        random = self._generator("sample", cursor)
        return augment(self.sample(index, random), self.config.augment, BACKGROUND, random)

    def sample(self, index: int, random: torch.Generator) -> Batch:
        """A few sources and ``drivers`` other pictures of person ``index``; pictures repeat where there are too few."""
        person, pictures = self.groups[index]
        low, high = self.config.sources
        n_sources = int(torch.randint(low, high + 1, (), generator=random))
        given, driving = choose_few(len(pictures), n_sources, self.config, random)
        return self._assemble(person, [pictures[i] for i in given], [pictures[i] for i in driving])

    def _assemble(self, person: str, sources: list[dict[str, Any]], drivers: list[dict[str, Any]]) -> Batch:
        self.read_blob.ahead(
            (ref["uri"], ref["offset"], ref["length"])
            for row in (*sources, *drivers) if row["id"] not in self._kept
            for name in self.pictures if (ref := row[name]) is not None and ref["uri"]
        )  # fmt: skip
        given, driving = [self.face(row) for row in sources], [self.face(row) for row in drivers]
        padding = [torch.zeros_like(given[0].rgb)] * (self.config.sources[1] - len(given))
        mesh = torch.zeros(N_MESH, 2)
        rest = torch.eye(3, 4)
        return Batch(
            sources=torch.stack([f.rgb for f in given] + padding),
            source_mask=torch.arange(len(given) + len(padding)) < len(given),
            drivers=torch.stack([f.rgb for f in driving]),
            mattes=torch.stack([f.matte for f in driving]),
            landmarks=torch.stack([mesh if f.landmarks is None else f.landmarks for f in driving]),
            has_landmarks=torch.tensor([f.landmarks is not None for f in driving]),
            K=torch.stack([f.K for f in driving]),
            head_to_camera=torch.stack([rest if f.head_to_camera is None else f.head_to_camera for f in driving]),
            known_camera=torch.tensor([f.head_to_camera is not None for f in driving]),
            moment=torch.tensor([f.moment for f in driving]),
            ids=[[person, *(f.id for f in given), *(f.id for f in driving)]],
            known=all(f.head_to_camera is not None for f in driving),
            padded=bool(padding),
        )

    def face(self, row: dict[str, Any]) -> Face:
        """A picture from the cache, or read and decoded."""
        face = self._kept.pop(row["id"], None)
        if face is None:
            try:
                face = self._load(row)
            except ValueError as error:
                raise ValueError(f"picture {row['id']}: {error}") from None
        if self.config.cache:
            self._kept[row["id"]] = face
            while len(self._kept) > self.config.cache:
                self._kept.popitem(last=False)
        return face

    def _read(self, reference: dict[str, Any] | None, grey: bool = False) -> Tensor | None:
        if reference is None or not reference["uri"]:
            return None
        return decode(self.read_blob(reference["uri"], reference["offset"], reference["length"]), grey)

    @abstractmethod
    def _load(self, row: dict[str, Any]) -> Face:
        """Read, decode and prepare a picture; ``ValueError`` says what is wrong with it."""


class IdentityDataset(FewToMany):
    """Aligned crops of people from video: cameras unknown, every picture a moment of its own."""

    pictures = ("crop", "matte")

    def __init__(
        self, config: FewToMany.Config, size: int, digest: str, read_blob: ReadBlob, *,
        identity_faces: pa.Table, faces: pa.Table, identities: set[str] | None = None,
    ) -> None:  # fmt: skip
        """``identity_faces`` and ``faces`` as published; ``identities`` keeps only these people."""
        super().__init__(config, size, digest, read_blob)
        wanted = ["face_id", "crop", "matte", "mesh468"]
        by_id = {row["face_id"]: row for row in faces.filter(_is_ok(faces)).select(wanted).to_pylist()}
        people: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for row in identity_faces.to_pylist():
            face, person = by_id.get(row["face_id"]), row["identity_id"]
            if face is not None and face["crop"] is not None and (identities is None or person in identities):
                people.setdefault(person, []).append((row["rank"], {"id": row["face_id"], **face}))
        for person in sorted(people):
            ranked = sorted(people[person], key=lambda pair: (pair[0], pair[1]["id"]))
            if len(ranked) > 1:
                self.groups.append((person, [row for _, row in ranked]))

    def _load(self, row: dict[str, Any]) -> Face:
        crop = self._read(row["crop"])
        if crop is None:
            raise ValueError("it has no crop")
        mesh = row["mesh468"]
        landmarks = None
        if mesh is not None:
            # Pixel centres are whole numbers in the corpus (OpenCV) and at +0.5 in the model.
            landmarks = (torch.tensor(mesh).view(N_MESH, 3)[:, :2] + 0.5) / crop.shape[-1]
        rgb, matte = prepare(crop, self._read(row["matte"], grey=True), landmarks, self.size, BACKGROUND)
        moment = int(hashlib.sha256(row["id"].encode()).hexdigest()[:12], 16)
        K = virtual_intrinsics(self.size)
        return Face(id=row["id"], rgb=rgb, matte=matte, landmarks=landmarks, K=K, head_to_camera=None, moment=moment)


class MultiviewDataset(FewToMany):
    """Calibrated views of captured people: sources from anywhere, drivers all around one moment."""

    pictures = ("image", "matte")

    def __init__(
        self, config: FewToMany.Config, size: int, digest: str, read_blob: ReadBlob, *,
        views: pa.Table, cameras: pa.Table, split: str | None = "train", identities: set[str] | None = None,
    ) -> None:  # fmt: skip
        """``views`` and ``cameras`` as published; ``split`` (None: all) and ``identities`` say what is kept."""
        super().__init__(config, size, digest, read_blob)
        self.cameras = {
            (row["capture_id"], row["camera_id"]): torch.tensor(row["world_to_camera"], dtype=torch.float32).view(3, 4)
            for row in cameras.to_pylist()
        }
        people: dict[str, list[dict[str, Any]]] = {}
        for row in views.filter(_is_ok(views)).to_pylist():
            known = row["image"] is not None and row["K"] is not None and row["head_to_world"] is not None
            if known and (split is None or row["split"] == split):
                people.setdefault(row["identity_id"], []).append({"id": row["view_id"], **row})
        for person in sorted(people):
            rows = sorted(people[person], key=lambda row: row["id"])
            if len(rows) > 1 and (identities is None or person in identities):
                self.groups.append((person, rows))

    def sample(self, index: int, random: torch.Generator) -> Batch:
        """Sources from any moment and camera; drivers are views of one moment, from as many cameras as there are."""
        person, pictures = self.groups[index]
        low, high = self.config.sources
        n_sources = int(torch.randint(low, high + 1, (), generator=random))
        moments = [_moment(row) for row in pictures]
        given, driving = choose_around(moments, n_sources, self.config, random)
        return self._assemble(person, [pictures[i] for i in given], [pictures[i] for i in driving])

    def _load(self, row: dict[str, Any]) -> Face:
        image = self._read(row["image"])
        if image is None:
            raise ValueError("it has no image")
        height, width = image.shape[-2:]
        side = max(height, width)
        matte = self._read(row["matte"], grey=True)
        if height != width:  # squared by padding below or to the right, which leaves K as it is
            padding = (0, side - width, 0, side - height)
            matte = torch.full((1, height, width), 255, dtype=torch.uint8) if matte is None else matte
            image, matte = (torch.nn.functional.pad(x, padding) for x in (image, matte))
        rgb, mask = prepare(image, matte, None, self.size, BACKGROUND)
        K = torch.tensor(row["K"], dtype=torch.float32).view(3, 3).clone()
        K[:2] *= self.size / side
        camera = self.cameras.get((row["capture_id"], row["camera_id"]))
        if camera is None:
            raise ValueError(f"camera {row['camera_id']} of capture {row['capture_id']} is not in the cameras table")
        pose = compose(camera, torch.tensor(row["head_to_world"], dtype=torch.float32).view(3, 4))
        return Face(
            id=row["id"], rgb=rgb, matte=mask, landmarks=None, K=K, head_to_camera=pose, moment=int(row["frame_index"])
        )


def _moment(row: dict[str, Any]) -> tuple[str, int]:
    return row["capture_id"], row["frame_index"]


def _is_ok(table: pa.Table) -> pa.Array:
    return pc.equal(table["status"], OK)
