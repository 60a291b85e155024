"""Data sets of training samples. A sample is one person's images: a few sources and more drivers.

The data sets of a published corpus take tables and a function that reads a byte range, so they do not depend on where
the corpus is stored. ``PhotoDataset`` holds its photos in memory.

A cursor is a position in the endless sequence of samples. The sample there, with the random numbers of its
augmentation, depends on (seed, snapshot digest, cursor) alone. So the order of samples is the same for any number of
workers, and training can resume in the middle of an epoch. Loaded images are uint8; ``ffavatar_model.data.augment``
augments them and converts them to floats on the device.
"""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ffavatar_model.camera import compose_rigid, virtual_intrinsics
from ffavatar_model.data.augment import draw_random, prepare_batch
from ffavatar_model.data.batch import Batch, RawBatch
from ffavatar_model.data.images import prepare_image
from ffavatar_model.data.index import (
    N_MESH,
    Faces,
    ImageRows,
    PeopleIndex,
    Row,
    SharedTable,
    blob_columns,
    join_faces,
    share_meshes,
    sort_by_person,
)
from ffavatar_model.data.prefetch import RangeReader, ReadBlob, load_batches, to_device_batch
from ffavatar_model.data.sampling import PermutedOrder, SamplingConfig, choose_around, choose_few, seeded_generator
from mfhq.image_bytes import decode_image
from mfhq.schema import OK


@dataclass(frozen=True, kw_only=True)
class LoadedImage:
    """One image of one person, decoded and prepared."""

    id: str
    pixels: Tensor
    """(4, S, S) uint8, RGB and matte: see ``images.prepare_image``."""
    landmarks: Tensor | None
    """(468, 2) face-mesh points in image widths; None if the image has none."""
    K: Tensor
    """(3, 3) intrinsics for an image of S x S pixels, in pixels."""
    head_to_camera: Tensor | None
    """(3, 4) transform from head to camera, metres; None if the camera is unknown."""
    timestep: int
    """Number of the timestep of a capture that the image shows; not used if the camera is unknown."""


class Sample(NamedTuple):
    """One person's chosen images, not yet read, with the random numbers for their augmentation."""

    person: str
    sources: list[Row]
    drivers: list[Row]
    draws: Tensor
    """(images, ``PER_IMAGE``) random numbers for each image: see ``augment.draw_random``."""
    light: Tensor
    """(``PER_PERSON``,) random numbers for the person's light."""
    seed: int
    """Seed of the augmentation's noise."""


class FewToManyDataset(Dataset[RawBatch], ABC):
    """Base class of the data sets: it chooses which images of a person are sources and which are drivers.

    Subclasses set ``people`` and define ``_load``.
    """

    image_columns: tuple[str, ...] = ()
    """Columns of an image's row that hold references to its files: uri, offset and length."""

    def __init__(self, config: SamplingConfig, size: int, digest: str, read_blob: ReadBlob) -> None:
        """Start without people; subclasses set ``people``.

        Args:
            config: Number of images per sample, their augmentation, and how they are read.
            size: Pixels along the edge of the prepared images.
            digest: The snapshot's digest; together with the seed it determines the order of samples.
            read_blob: Reads a byte range of the corpus.
        """
        self.config, self.size, self.digest = config, size, digest
        self.read_blob = RangeReader(read_blob, config.readers)
        self.people: Sequence[tuple[str, Sequence[Row]]] = []
        """For each person the id, and the images from which a sample is drawn."""
        self._order = PermutedOrder(config.seed, digest)
        self._cache: OrderedDict[str, LoadedImage] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of people in an epoch."""
        return len(self.people)

    def batch(self, cursors: Sequence[int]) -> Batch:
        """Load the samples at ``cursors`` in this process and prepare them on the CPU."""
        return prepare_batch(self[cursors], self.config.augment, self.config.degrade)

    def batches(
        self, cursors: Sequence[list[int]], *, people: int, workers: int, device: torch.device
    ) -> Iterator[Batch]:
        """Yield a batch for each list of cursors: see ``TrainingData``. The loader processes start immediately."""
        raw = load_batches(self, cursors, workers)
        return (to_device_batch(each, self.config, device) for each in raw)

    def __getitem__(self, cursors: Sequence[int]) -> RawBatch:
        """Load the samples at ``cursors``; the byte ranges of all of them are read concurrently."""
        samples = [self.choose_sample(cursor) for cursor in cursors]
        self.read_blob.begin(
            (ref["uri"], ref["offset"], ref["length"])
            for sample in samples
            for row in (*sample.sources, *sample.drivers)
            if row["id"] not in self._cache
            for name in self.image_columns
            if (ref := row[name]) is not None and ref["uri"]
        )
        n_sources, n_drivers = self.config.sources[1], self.config.drivers
        pixels = torch.empty(len(samples), n_sources + n_drivers, self.size, self.size, 4, dtype=torch.uint8)
        drivers: list[list[LoadedImage]] = []
        for sample, slots in zip(samples, pixels, strict=True):
            sources = [self.load_image(row) for row in sample.sources]
            drivers.append([self.load_image(row) for row in sample.drivers])
            for slot, image in zip(slots, sources, strict=False):
                slot.copy_(image.pixels.permute(1, 2, 0))
            slots[len(sources) : n_sources].zero_()
            for slot, image in zip(slots[n_sources:], drivers[-1], strict=True):
                slot.copy_(image.pixels.permute(1, 2, 0))
        no_mesh, no_pose = torch.zeros(N_MESH, 2), torch.eye(3, 4)
        counts = torch.tensor([len(sample.sources) for sample in samples])

        def stack(field: Callable[[LoadedImage], Tensor]) -> Tensor:
            stacked = torch.stack([field(image) for images in drivers for image in images])
            return stacked.unflatten(0, (len(samples), n_drivers))

        known = torch.tensor([[image.head_to_camera is not None for image in images] for images in drivers])
        return RawBatch(
            pixels=pixels.permute(0, 1, 4, 2, 3),
            source_mask=torch.arange(n_sources) < counts[:, None],
            landmarks=stack(lambda image: no_mesh if image.landmarks is None else image.landmarks),
            has_landmarks=torch.tensor([[image.landmarks is not None for image in images] for images in drivers]),
            K=stack(lambda image: image.K),
            known_camera=known,
            head_to_camera=stack(lambda image: no_pose if image.head_to_camera is None else image.head_to_camera),
            timestep=torch.tensor([[image.timestep for image in images] for images in drivers]),
            draws=torch.stack([s.draws for s in samples]),
            light=torch.stack([s.light for s in samples]),
            seeds=[s.seed for s in samples],
            ids=[[s.person, *(row["id"] for row in (*s.sources, *s.drivers))] for s in samples],
            known=bool(known.all()),
            padded=bool((counts < n_sources).any()),
        )

    def choose_sample(self, cursor: int) -> Sample:
        """Choose the person and the images of the sample at ``cursor``.

        Raises:
            ValueError: The data set has no people.
        """
        if not self.people:
            raise ValueError(f"snapshot {self.digest[:12]} has no person with enough images for training")
        person, images = self.people[self._order(cursor, len(self.people))]
        random = seeded_generator(self.config.seed, self.digest, "sample", cursor)
        low, high = self.config.sources
        sources, drivers = self._choose(images, int(torch.randint(low, high + 1, (), generator=random)), random)
        changes = draw_random(high + len(drivers), random)
        return Sample(person, [images[i] for i in sources], [images[i] for i in drivers], *changes)

    def _choose(self, images: Any, n_sources: int, random: torch.Generator) -> tuple[list[int], list[int]]:
        """Choose sources and drivers among a person's images; drivers repeat if there are too few images."""
        return choose_few(len(images), n_sources, self.config, random)

    def load_image(self, row: Row) -> LoadedImage:
        """Return an image from the cache, or read and decode it.

        Raises:
            ValueError: The image is missing or does not decode; the message names it.
        """
        image = self._cache.pop(row["id"], None)
        if image is None:
            try:
                image = self._load(row)
            except ValueError as error:
                raise ValueError(f"image {row['id']}: {error}") from None
        if self.config.cache:
            self._cache[row["id"]] = image
            while len(self._cache) > self.config.cache:
                self._cache.popitem(last=False)
        return image

    def _read_pixels(self, reference: dict[str, Any] | None, grey: bool = False) -> NDArray[np.uint8] | None:
        if reference is None or not reference["uri"]:
            return None
        data = self.read_blob(reference["uri"], reference["offset"], reference["length"])
        expected = reference.get("sha64")
        if expected is not None and int(hashlib.sha256(data).hexdigest()[:16], 16) != expected:
            raise ValueError(
                f"{reference['uri']}: the {len(data)} bytes at {reference['offset']} are damaged (sha256 differs); "
                "`ffavatar verify` says what to do"
            )
        return decode_image(data, grey=grey)

    @abstractmethod
    def _load(self, row: Row) -> LoadedImage:
        """Read, decode and prepare an image.

        Raises:
            ValueError: The image is not usable; the message states the reason.
        """


class CorpusDataset(FewToManyDataset):
    """A data set of a corpus's people, in tables that the loader processes share."""

    people: PeopleIndex

    def select(self, mask: NDArray[np.bool_], config: SamplingConfig) -> Self:
        """Return a data set of a subset of the people; no image is read, and the images' table is shared.

        Args:
            mask: (n,) True for the people to keep, in the order of ``people.person_ids``.
            config: Settings of the new data set.
        """
        selected = copy.copy(self)
        FewToManyDataset.__init__(selected, config, self.size, self.digest, self.read_blob.read_blob)
        selected.people = self.people.select(mask)
        return selected


class IdentityDataset(CorpusDataset):
    """Aligned crops of people from video: cameras are unknown, and every image is its own timestep."""

    image_columns = ("crop", "matte")

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
        """Index the chosen faces.

        Args:
            config: Number of images per sample, their augmentation, and how they are read: see ``FewToManyDataset``.
            size: Pixels along the edge of the prepared images.
            digest: The snapshot's digest.
            read_blob: Reads a byte range of the corpus.
            identity_faces: The chosen faces, schema ``IDENTITY_FACES``.
            faces: All faces, schema ``FACES``. If given as ``FaceParts``, they are read twice: first all columns
                except meshes, then the meshes of the faces used.
            identities: Ids of the people to keep; None keeps all.
        """
        super().__init__(config, size, digest, read_blob)
        self._K = virtual_intrinsics(size)
        if identities is not None:
            kept_ids = pa.array(sorted(identities), pa.string())
            identity_faces = identity_faces.filter(pc.is_in(identity_faces["identity_id"], value_set=kept_ids))
        people, rows = sort_by_person(join_faces(identity_faces, faces), "rank", "id")
        self.meshes, mesh = share_meshes(rows, faces)
        """(468, 2) each: crop pixels, with pixel centres at whole numbers."""
        images = rows.drop_columns(["rank", "part", "row"]).append_column("mesh", mesh)
        del rows
        self.people = PeopleIndex(SharedTable(people), SharedTable(images))

    def _load(self, row: Row) -> LoadedImage:
        crop = self._read_pixels(row["crop"])
        if crop is None:
            raise ValueError("it has no crop")
        landmarks = None
        if row["mesh"] is not None:
            # Pixel centres are at whole numbers in the corpus (as in OpenCV) and at +0.5 in the model.
            landmarks = (self.meshes[row["mesh"]] + 0.5) / crop.shape[1]
        pixels = prepare_image(crop, self._read_pixels(row["matte"], grey=True), landmarks, self.size)
        timestep = int(hashlib.sha256(row["id"].encode()).hexdigest()[:12], 16)
        return LoadedImage(
            id=row["id"], pixels=pixels, landmarks=landmarks, K=self._K, head_to_camera=None, timestep=timestep
        )


class MultiviewDataset(CorpusDataset):
    """Calibrated views of people: sources from any timestep, drivers from different cameras at one timestep."""

    image_columns = ("image", "matte")
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
    """Columns of the table ``views`` that are read."""

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
        """Index the usable views.

        Args:
            config: Number of images per sample, their augmentation, and how they are read: see ``FewToManyDataset``.
            size: Pixels along the edge of the prepared images.
            digest: The snapshot's digest.
            read_blob: Reads a byte range of the corpus.
            views: The snapshot's table ``views``, with at least ``COLUMNS``.
            cameras: The snapshot's table ``cameras``.
            split: The published split to keep; None keeps all.
            identities: Ids of the people to keep; None keeps all.
        """
        super().__init__(config, size, digest, read_blob)
        poses = pc.list_flatten(cameras["world_to_camera"]).to_numpy().astype("float32")
        self.cameras = torch.from_numpy(poses.reshape(-1, 3, 4))
        """(cameras, 3, 4) transform from world to camera of each row of ``cameras``, metres."""
        usable = pc.equal(views["status"], OK)
        for name in ("image", "K", "head_to_world"):
            usable = pc.and_(usable, views[name].is_valid())
        if split is not None:
            usable = pc.and_(usable, pc.equal(views["split"], split))
        if identities is not None:
            kept_ids = pa.array(sorted(identities), pa.string())
            usable = pc.and_(usable, pc.is_in(views["identity_id"], value_set=kept_ids))
        views = views.filter(usable)
        view_camera, camera_key = (
            pc.binary_join_element_wise(table["capture_id"], table["camera_id"], "/") for table in (views, cameras)
        )
        people, rows = sort_by_person(
            pa.table(
                {
                    "person": views["identity_id"],
                    "id": views["view_id"].cast(pa.large_string()),
                    **{name: pc.dictionary_encode(views[name]) for name in ("capture_id", "camera_id")},
                    "camera": pc.index_in(view_camera, value_set=camera_key.combine_chunks()),
                    "frame_index": views["frame_index"],
                    **blob_columns(views["image"], "image"),
                    **blob_columns(views["matte"], "matte"),
                    "K": views["K"],
                    "head_to_world": views["head_to_world"],
                }
            ),
            "id",
        )
        self.people = PeopleIndex(SharedTable(people), SharedTable(rows))

    def _choose(self, images: ImageRows, n_sources: int, random: torch.Generator) -> tuple[list[int], list[int]]:
        """Choose sources from any timestep and camera.

        The drivers are of one timestep, from different cameras, repeated if there are too few.
        """
        timesteps = list(zip(images.column("capture_id"), images.column("frame_index"), strict=True))
        return choose_around(timesteps, n_sources, self.config, random)

    def _load(self, row: Row) -> LoadedImage:
        image = self._read_pixels(row["image"])
        if image is None:
            raise ValueError("it has no image")
        height, width = image.shape[:2]
        side = max(height, width)
        matte = self._read_pixels(row["matte"], grey=True)
        if height != width:  # padded below or to the right to a square, which leaves K unchanged
            padding = ((0, side - height), (0, side - width))
            matte = np.pad(np.full((height, width), 255, np.uint8) if matte is None else matte, padding)
            image = np.pad(image, (*padding, (0, 0)))
        pixels = prepare_image(image, matte, None, self.size)
        K = torch.tensor(row["K"], dtype=torch.float32).view(3, 3).clone()
        K[:2] *= self.size / side
        if row["camera"] is None:
            raise ValueError(f"camera {row['camera_id']} of capture {row['capture_id']} is not in the cameras table")
        pose = compose_rigid(
            self.cameras[row["camera"]], torch.tensor(row["head_to_world"], dtype=torch.float32).view(3, 4)
        )
        timestep = int(row["frame_index"])
        return LoadedImage(id=row["id"], pixels=pixels, landmarks=None, K=K, head_to_camera=pose, timestep=timestep)


class PhotoDataset(FewToManyDataset):
    """One person's prepared photos, in memory; ``SamplingConfig`` determines which are sources and drivers."""

    def __init__(self, photos: Sequence[LoadedImage], config: SamplingConfig) -> None:
        """Keep the photos in memory.

        Args:
            photos: Photos prepared at the model's size; the sources come first.
            config: Settings of sampling, such as the numbers of sources and drivers.

        Raises:
            ValueError: ``photos`` is empty.
        """
        if not photos:
            raise ValueError("no photo to personalize on; give at least one")
        super().__init__(config, photos[0].pixels.shape[-1], " ".join(photo.id for photo in photos), _read_nothing)
        self._photos = {photo.id: photo for photo in photos}
        self.people = [("photos", [{"id": photo.id} for photo in photos])]

    def _load(self, row: Row) -> LoadedImage:
        return self._photos[row["id"]]


def photo_sampling(n: int, drivers: int) -> SamplingConfig:
    """Return settings in which all photos are sources, and each sample draws some of them as drivers, too.

    Args:
        n: Number of photos; their order is kept.
        drivers: Upper bound on the number of drivers per sample.
    """
    return SamplingConfig(sources=(n, n), drivers=min(drivers, n), source_choice="first", driver_choice="any")


def _read_nothing(uri: str, offset: int, length: int) -> NoReturn:
    raise ValueError(f"{uri}: photos are in memory")
