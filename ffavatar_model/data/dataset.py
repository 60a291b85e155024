"""Training samples from a published corpus: one person, a few sources, more drivers.

Both data sets take tables and a function that reads a byte range, so they know nothing of where the
corpus lies. Sample ``cursor``, with the random numbers of its augmentation, depends on (seed, snapshot digest, cursor)
alone: the order is the same on any number of workers, and goes on in the middle of an epoch. ImageRows are handed over
as bytes; ``ffavatar_model.data.augment`` does the rest on the device.

A person's own photos as a training set.
"""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ffavatar_model.camera import compose, virtual_intrinsics
from ffavatar_model.data.augment import develop, draw
from ffavatar_model.data.batch import Batch, RawBatch
from ffavatar_model.data.images import decode, prepare
from ffavatar_model.data.index import (
    N_MESH,
    Faces,
    Groups,
    ImageRows,
    Row,
    SharedTable,
    by_person,
    chosen_faces,
    located,
    meshes_of,
)
from ffavatar_model.data.prefetch import ReadBlob, Reader
from ffavatar_model.data.sampling import PermutedOrder, SamplingConfig, choose_around, choose_few, generator
from mfhq.schema import OK


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
    """One person's pictures for a step, chosen and not yet read, with the numbers of ``ffavatar_model.data.augment``."""

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

    def __init__(self, config: SamplingConfig, size: int, digest: str, read_blob: ReadBlob) -> None:
        self.config, self.size, self.digest, self.read_blob = config, size, digest, Reader(read_blob, config.readers)
        self.groups: Sequence[tuple[str, Sequence[Row]]] = []
        self._order = PermutedOrder(config.seed, digest)
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
            for sample in samples
            for row in (*sample.sources, *sample.drivers)
            if row["id"] not in self._kept
            for name in self.pictures
            if (ref := row[name]) is not None and ref["uri"]
        )
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
            pixels=pixels.permute(0, 1, 4, 2, 3),
            source_mask=torch.arange(n_sources) < counts[:, None],
            landmarks=stacked(lambda f: mesh if f.landmarks is None else f.landmarks),
            has_landmarks=torch.tensor([[f.landmarks is not None for f in faces] for faces in driving]),
            K=stacked(lambda f: f.K),
            known_camera=known,
            head_to_camera=stacked(lambda f: rest if f.head_to_camera is None else f.head_to_camera),
            moment=torch.tensor([[f.moment for f in faces] for faces in driving]),
            chances=torch.stack([s.chances for s in samples]),
            light=torch.stack([s.light for s in samples]),
            seeds=[s.seed for s in samples],
            ids=[[s.person, *(row["id"] for row in (*s.sources, *s.drivers))] for s in samples],
            known=bool(known.all()),
            padded=bool((counts < n_sources).any()),
        )

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

    def only(self, kept: NDArray[np.bool_], config: SamplingConfig) -> Self:
        """The same for those of ``groups.people`` that a (n,) mask says; nothing is read or copied."""
        some = copy.copy(self)
        FewToMany.__init__(some, config, self.size, self.digest, self.read_blob.read_blob)
        some.groups = self.groups.only(kept)
        return some


class IdentityDataset(CorpusDataset):
    """Aligned crops of people from video: cameras unknown, every picture a moment of its own."""

    pictures = ("crop", "matte")

    def __init__(
        self,
        config: SamplingConfig,
        size: int,
        digest: str,
        read_blob: ReadBlob,
        *,
        identity_faces: pa.Table,
        faces: Faces,
        identities: set[str] | None = None,
    ) -> None:
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
    COLUMNS = (
        "view_id",
        "capture_id",
        "identity_id",
        "camera_id",
        "frame_index",
        "image",
        "matte",
        "K",
        "head_to_world",
        "split",
        "status",
    )
    """What is read of ``views``."""

    def __init__(
        self,
        config: SamplingConfig,
        size: int,
        digest: str,
        read_blob: ReadBlob,
        *,
        views: pa.Table,
        cameras: pa.Table,
        split: str | None = "train",
        identities: set[str] | None = None,
    ) -> None:
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
            pa.table(
                {
                    "person": views["identity_id"],
                    "id": views["view_id"].cast(pa.large_string()),
                    **{name: pc.dictionary_encode(views[name]) for name in ("capture_id", "camera_id")},
                    "camera": pc.index_in(of_camera[0], value_set=of_camera[1].combine_chunks()),
                    "frame_index": views["frame_index"],
                    **located(views["image"], "image"),
                    **located(views["matte"], "matte"),
                    "K": views["K"],
                    "head_to_world": views["head_to_world"],
                }
            ),
            "id",
        )
        self.groups = Groups(SharedTable(people), SharedTable(rows))

    def _choose(self, pictures: ImageRows, n_sources: int, random: torch.Generator) -> tuple[list[int], list[int]]:
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


class PhotoDataset(FewToMany):
    """One person's photos, prepared, in memory; ``SamplingConfig`` says which are sources and which are drivers."""

    def __init__(self, photos: Sequence[Face], config: SamplingConfig) -> None:
        """``photos`` at the model's size, those that are sources first.

        Raises:
            ValueError: there is no photo.
        """
        if not photos:
            raise ValueError("no photo to personalize on; give at least one")
        super().__init__(config, photos[0].pixels.shape[-1], " ".join(photo.id for photo in photos), _nowhere)
        self._photos = {photo.id: photo for photo in photos}
        self.groups = [("photos", [{"id": photo.id} for photo in photos])]

    def _load(self, row: dict[str, Any]) -> Face:
        return self._photos[row["id"]]


def every_photo(n: int, drivers: int) -> SamplingConfig:
    """All ``n`` photos are sources, in their order; up to ``drivers`` of them, drawn anew each time, are drivers."""
    return SamplingConfig(sources=(n, n), drivers=min(drivers, n), source_choice="first", driver_choice="any")


def _nowhere(uri: str, offset: int, length: int) -> NoReturn:
    raise ValueError(f"{uri}: photos are in memory")
