"""Training samples from a published corpus: one person, a few sources, more drivers.

Both data sets take tables and a function that reads a byte range, so they know nothing of where the
corpus lies. Sample ``cursor``, with the random numbers of its augmentation, depends on (seed, snapshot digest, cursor)
alone: the order is the same on any number of workers, and goes on in the middle of an epoch. Pictures are handed over
as bytes; ``ffavatar_model.develop`` does the rest on the device.
"""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ffavatar_model.augment import Augment
from ffavatar_model.batch import Batch, RawBatch
from ffavatar_model.camera import compose, virtual_intrinsics
from ffavatar_model.chances import draw
from ffavatar_model.config import require
from ffavatar_model.degrade import Degrade
from ffavatar_model.develop import develop
from ffavatar_model.faces import N_MESH, Faces, chosen_faces, meshes_of
from ffavatar_model.groups import Groups, Pictures, Row, SharedTable, by_person, located
from ffavatar_model.pictures import decode, prepare
from ffavatar_model.reading import ReadBlob, Reader
from mfhq.schema import OK


def generator(seed: int, digest: str, *key: object) -> torch.Generator:
    """The random numbers that belong to a place in the order of a snapshot's samples."""
    text = repr((seed, digest, *key)).encode()
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text).digest()[:7], "big"))


class Order:
    """People in an endless sequence of epochs, each a permutation of them."""

    def __init__(self, seed: int, digest: str) -> None:
        self.seed, self.digest = seed, digest
        self._key: tuple[int, int] = (-1, 0)
        self._epoch = torch.zeros(0, dtype=torch.int64)

    def __call__(self, cursor: int, people: int) -> int:
        """Who of ``people`` is at a place."""
        epoch, place = divmod(cursor, people)
        if self._key != (epoch, people):
            random = generator(self.seed, self.digest, "epoch", epoch)
            self._key, self._epoch = (epoch, people), torch.randperm(people, generator=random)
        return int(self._epoch[place])


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
    pixels: Tensor
    """(4, S, S) uint8: see ``pictures.prepare``."""
    landmarks: Tensor | None
    K: Tensor
    head_to_camera: Tensor | None
    moment: int


class Sample(NamedTuple):
    """One person's pictures for a step, chosen and not yet read, with the numbers of ``ffavatar_model.chances``."""

    person: str
    sources: list[dict[str, Any]]
    drivers: list[dict[str, Any]]
    chances: Tensor
    light: Tensor
    seed: int


class FewToMany(Dataset[RawBatch], ABC):
    """What both data sets share: which pictures of a person are sources and which are drivers.

    Subclasses give ``groups`` (person id, the pictures that may meet in a sample) and ``_load``.
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
        self.groups: Sequence[tuple[str, Sequence[Row]]] = []
        self._order = Order(config.seed, digest)
        self._kept: OrderedDict[str, Face] = OrderedDict()

    def __len__(self) -> int:
        """People in an epoch."""
        return len(self.groups)

    def batch(self, cursors: Sequence[int]) -> Batch:
        """The samples at some places, made in this process on the CPU."""
        return develop(self[cursors], self.config.augment, self.config.degrade)

    def __getitem__(self, cursors: Sequence[int]) -> RawBatch:
        """The samples at places in the endless sequence of epochs; pictures of all of them are read ahead."""
        samples = [self.sample(cursor) for cursor in cursors]
        self.read_blob.ahead(
            (ref["uri"], ref["offset"], ref["length"])
            for sample in samples for row in (*sample.sources, *sample.drivers) if row["id"] not in self._kept
            for name in self.pictures if (ref := row[name]) is not None and ref["uri"]
        )  # fmt: skip
        n_sources, n_drivers = self.config.sources[1], self.config.drivers
        pixels = torch.empty(len(samples), n_sources + n_drivers, self.size, self.size, 4, dtype=torch.uint8)
        driving: list[list[Face]] = []
        for sample, places in zip(samples, pixels, strict=True):
            given = [self.face(row) for row in sample.sources]
            driving.append([self.face(row) for row in sample.drivers])
            for place, face in zip(places, given, strict=False):
                place.copy_(face.pixels.permute(1, 2, 0))
            places[len(given) : n_sources].zero_()
            for place, face in zip(places[n_sources:], driving[-1], strict=True):
                place.copy_(face.pixels.permute(1, 2, 0))
        mesh, rest = torch.zeros(N_MESH, 2), torch.eye(3, 4)
        counts = torch.tensor([len(sample.sources) for sample in samples])

        def stacked(of: Callable[[Face], Tensor]) -> Tensor:
            return torch.stack([of(f) for faces in driving for f in faces]).unflatten(0, (len(samples), n_drivers))

        known = torch.tensor([[f.head_to_camera is not None for f in faces] for faces in driving])
        return RawBatch(
            pixels=pixels.permute(0, 1, 4, 2, 3), source_mask=torch.arange(n_sources) < counts[:, None],
            landmarks=stacked(lambda f: mesh if f.landmarks is None else f.landmarks),
            has_landmarks=torch.tensor([[f.landmarks is not None for f in faces] for faces in driving]),
            K=stacked(lambda f: f.K), known_camera=known,
            head_to_camera=stacked(lambda f: rest if f.head_to_camera is None else f.head_to_camera),
            moment=torch.tensor([[f.moment for f in faces] for faces in driving]),
            chances=torch.stack([s.chances for s in samples]), light=torch.stack([s.light for s in samples]),
            seeds=[s.seed for s in samples],
            ids=[[s.person, *(row["id"] for row in (*s.sources, *s.drivers))] for s in samples],
            known=bool(known.all()), padded=bool((counts < n_sources).any()),
        )  # fmt: skip

    def sample(self, cursor: int) -> Sample:
        """What is at a place. Raises ``ValueError`` where there is nobody."""
        if not self.groups:
            raise ValueError(f"snapshot {self.digest[:12]} has no person with enough pictures for training")
        person, pictures = self.groups[self._order(cursor, len(self.groups))]
        random = generator(self.config.seed, self.digest, "sample", cursor)
        low, high = self.config.sources
        given, driving = self._choose(pictures, int(torch.randint(low, high + 1, (), generator=random)), random)
        chances = draw(high + len(driving), random)
        return Sample(person, [pictures[i] for i in given], [pictures[i] for i in driving], *chances)

    def _choose(self, pictures: Any, n_sources: int, random: torch.Generator) -> tuple[list[int], list[int]]:
        """Sources and drivers among a person's pictures; pictures repeat where there are too few."""
        return choose_few(len(pictures), n_sources, self.config, random)

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

    def _read(self, reference: dict[str, Any] | None, grey: bool = False) -> NDArray[np.uint8] | None:
        if reference is None or not reference["uri"]:
            return None
        return decode(self.read_blob(reference["uri"], reference["offset"], reference["length"]), grey)

    @abstractmethod
    def _load(self, row: dict[str, Any]) -> Face:
        """Read, decode and prepare a picture; ``ValueError`` says what is wrong with it."""


class CorpusDataset(FewToMany):
    """Everybody of a corpus, in tables that loader processes share."""

    groups: Groups

    def only(self, kept: NDArray[np.bool_], config: FewToMany.Config) -> Self:
        """The same for those of ``groups.people`` that a (n,) mask says; nothing is read or copied."""
        some = copy.copy(self)
        FewToMany.__init__(some, config, self.size, self.digest, self.read_blob.read_blob)
        some.groups = self.groups.only(kept)
        return some


class IdentityDataset(CorpusDataset):
    """Aligned crops of people from video: cameras unknown, every picture a moment of its own."""

    pictures = ("crop", "matte")

    def __init__(
        self, config: FewToMany.Config, size: int, digest: str, read_blob: ReadBlob, *,
        identity_faces: pa.Table, faces: Faces, identities: set[str] | None = None,
    ) -> None:  # fmt: skip
        """``identity_faces`` and ``faces`` as published; ``identities`` keeps only these people.

        ``faces`` is read twice where it comes in parts: for all but the meshes, then for the meshes of who is left.
        """
        super().__init__(config, size, digest, read_blob)
        self._K = virtual_intrinsics(size)
        if identities is not None:
            theirs = pa.array(sorted(identities), pa.string())
            identity_faces = identity_faces.filter(pc.is_in(identity_faces["identity_id"], value_set=theirs))
        people, rows = by_person(chosen_faces(identity_faces, faces), "rank", "id")
        self.meshes, mesh = meshes_of(rows, faces)
        """(pictures, 468, 2) pixels of the crop, as the corpus counts them."""
        kept = rows.drop_columns(["rank", "part", "row"]).append_column("mesh", mesh)
        del rows
        self.groups = Groups(SharedTable(people), SharedTable(kept))

    def _load(self, row: dict[str, Any]) -> Face:
        crop = self._read(row["crop"])
        if crop is None:
            raise ValueError("it has no crop")
        landmarks = None
        if row["mesh"] is not None:
            # Pixel centres are whole numbers in the corpus (OpenCV) and at +0.5 in the model.
            landmarks = (self.meshes[row["mesh"]] + 0.5) / crop.shape[1]
        pixels = prepare(crop, self._read(row["matte"], grey=True), landmarks, self.size)
        moment = int(hashlib.sha256(row["id"].encode()).hexdigest()[:12], 16)
        return Face(id=row["id"], pixels=pixels, landmarks=landmarks, K=self._K, head_to_camera=None, moment=moment)


class MultiviewDataset(CorpusDataset):
    """Calibrated views of captured people: sources from anywhere, drivers all around one moment."""

    pictures = ("image", "matte")
    COLUMNS = ("view_id", "capture_id", "identity_id", "camera_id", "frame_index", "image", "matte", "K",
               "head_to_world", "split", "status")  # fmt: skip
    """What is read of ``views``."""

    def __init__(
        self, config: FewToMany.Config, size: int, digest: str, read_blob: ReadBlob, *,
        views: pa.Table, cameras: pa.Table, split: str | None = "train", identities: set[str] | None = None,
    ) -> None:  # fmt: skip
        """``views`` and ``cameras`` as published; ``split`` (None: all) and ``identities`` say what is kept."""
        super().__init__(config, size, digest, read_blob)
        poses = pc.list_flatten(cameras["world_to_camera"]).to_numpy().astype("float32")
        self.cameras = torch.from_numpy(poses.reshape(-1, 3, 4))
        """(cameras, 3, 4) world to camera."""
        kept = _is_ok(views)
        for name in ("image", "K", "head_to_world"):
            kept = pc.and_(kept, views[name].is_valid())
        if split is not None:
            kept = pc.and_(kept, pc.equal(views["split"], split))
        if identities is not None:
            theirs = pa.array(sorted(identities), pa.string())
            kept = pc.and_(kept, pc.is_in(views["identity_id"], value_set=theirs))
        views = views.filter(kept)
        of_camera = (_pair(views["capture_id"], views["camera_id"]), _pair(cameras["capture_id"], cameras["camera_id"]))
        people, rows = by_person(
            pa.table({
                "person": views["identity_id"], "id": views["view_id"].cast(pa.large_string()),
                **{name: pc.dictionary_encode(views[name]) for name in ("capture_id", "camera_id")},
                "camera": pc.index_in(of_camera[0], value_set=of_camera[1].combine_chunks()),
                "frame_index": views["frame_index"], **located(views["image"], "image"),
                **located(views["matte"], "matte"), "K": views["K"], "head_to_world": views["head_to_world"],
            }), "id",
        )  # fmt: skip
        self.groups = Groups(SharedTable(people), SharedTable(rows))

    def _choose(self, pictures: Pictures, n_sources: int, random: torch.Generator) -> tuple[list[int], list[int]]:
        """Sources from any moment and camera; drivers are views of one moment, from as many cameras as there are."""
        moments = list(zip(pictures.column("capture_id"), pictures.column("frame_index"), strict=True))
        return choose_around(moments, n_sources, self.config, random)

    def _load(self, row: dict[str, Any]) -> Face:
        image = self._read(row["image"])
        if image is None:
            raise ValueError("it has no image")
        height, width = image.shape[:2]
        side = max(height, width)
        matte = self._read(row["matte"], grey=True)
        if height != width:  # squared by padding below or to the right, which leaves K as it is
            padding = ((0, side - height), (0, side - width))
            matte = np.pad(np.full((height, width), 255, np.uint8) if matte is None else matte, padding)
            image = np.pad(image, (*padding, (0, 0)))
        pixels = prepare(image, matte, None, self.size)
        K = torch.tensor(row["K"], dtype=torch.float32).view(3, 3).clone()
        K[:2] *= self.size / side
        if row["camera"] is None:
            raise ValueError(f"camera {row['camera_id']} of capture {row['capture_id']} is not in the cameras table")
        pose = compose(self.cameras[row["camera"]], torch.tensor(row["head_to_world"], dtype=torch.float32).view(3, 4))
        moment = int(row["frame_index"])
        return Face(id=row["id"], pixels=pixels, landmarks=None, K=K, head_to_camera=pose, moment=moment)


def _is_ok(table: pa.Table) -> pa.Array:
    return pc.equal(table["status"], OK)


def _pair(one: pa.ChunkedArray, other: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(one, other, "/")
