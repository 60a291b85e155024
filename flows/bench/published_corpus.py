"""Drawn corpus of people in the form that mining and clustering write, to measure publishing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flows.bench.clustered_corpus import build_structs, equal_lists
from infra.storage import FolderStore
from mfhq.ids import shard_of
from mfhq.parquet import to_parquet
from mfhq.schema import ASSIGNMENTS, BLOB_REF, EMBEDDINGS, schema_hash
from pipelines.engine.commits import Marker, describe_step
from pipelines.engine.sources import record_sources
from pipelines.engine.state import BoundStep, bind_steps
from pipelines.identity.vector_lists import vectors_to_lists
from pipelines.mining.schemas import SOURCES
from pipelines.mining.steps import AFTER, mining_steps

TRACKS_PER_VIDEO = 2
"""Number of people in a video; each has one track in it."""
WIDTH = 128
"""Dimensions of the embeddings, as those of the embedded pack."""
CROP_BYTES, MATTE_BYTES = 15_000, 4_000
"""Bytes of a crop and of its matte; the packed files are holes of the right size, since nothing reads them."""
_VIDEOS_PER_PART = 1_000


@dataclass(frozen=True)
class DrawnPeople:
    """Range of people to draw: each is in two videos, with half of the faces in each."""

    first: int
    n: int
    faces_per_person: int
    meshes: bool = True
    """True draws the 468 points of each face, which take most of the time and of the space."""

    @property
    def faces_per_track(self) -> int:
        """Number of faces of a track."""
        return max(1, self.faces_per_person // TRACKS_PER_VIDEO)


def draw_corpus(store: FolderStore, people: DrawnPeople, clustering: Path) -> None:
    """Write the steps' outputs for people's videos, one video per person, and the clustering of their tracks.

    Args:
        store: The corpus.
        people: The people.
        clustering: Folder of the clustering, which gets one more file of assignments and one of mean embeddings.
    """
    rng = np.random.default_rng(people.first)
    videos = _draw_ids(rng, people.n, 32)
    shards = np.fromiter((shard_of(video.decode()) for video in videos.tolist()), np.int64, people.n)
    template = rng.integers(2_000, 20_000, 1404) if people.meshes else None
    assigned: list[pa.Table] = []
    writer = pq.ParquetWriter(clustering / f"means-{people.first}.parquet", EMBEDDINGS)
    bound = bind_steps(mining_steps(), AFTER)
    for b in bound:
        describe_step(store, b.location, b.step, b.upstream.name if b.upstream else "")
    for shard in np.unique(shards).tolist():
        own = np.flatnonzero(shards == shard)
        first_part = sum(1 for _ in store.list(bound[0].location.shard_folder(shard))) // 2
        for part, at in enumerate(range(0, len(own), _VIDEOS_PER_PART), first_part):
            rows = own[at : at + _VIDEOS_PER_PART]
            drawn = _draw_part(rng, store, bound, (shard, part), videos[rows], people.faces_per_track, template)
            # video i shows person i and person i + 17
            person = (rows[:, None] + np.array([0, 17])) % people.n + people.first
            assigned.append(_assignments(drawn.track_ids, person.reshape(-1)))
            writer.write_table(_means(drawn))
    writer.close()
    pq.write_table(pa.concat_tables(assigned), clustering / f"assignments-{people.first}.parquet")
    uris = [f"/videos/{video.decode()[:16]}.mp4" for video in videos.tolist()]
    columns = {"video_id": videos.astype(str), "uri": uris, "size": 1, "licence": "CC BY", "consent": None}
    table = pa.table(
        {n: pa.array(v) if not np.isscalar(v) and v is not None else [v] * people.n for n, v in columns.items()}
    )
    record_sources(store, table.cast(SOURCES), "video_id")


@dataclass(frozen=True)
class _DrawnPart:
    track_ids: npt.NDArray[np.bytes_]
    vectors: npt.NDArray[np.float32]
    """(tracks, faces per track, WIDTH) unit vectors."""


def _draw_part(
    rng: np.random.Generator,
    store: FolderStore,
    bound: list[BoundStep],
    place: tuple[int, int],
    videos: npt.NDArray[np.bytes_],
    each: int,
    template: npt.NDArray[np.int64] | None,
) -> _DrawnPart:
    """Draw and commit one part of each step; ``each`` is the number of faces of a track, ``template`` the mesh."""
    n_tracks = len(videos) * TRACKS_PER_VIDEO
    n = n_tracks * each
    tracks, faces = _draw_ids(rng, n_tracks, 16), _draw_ids(rng, n, 16)
    of_face = np.repeat(tracks, each)
    vectors = rng.normal(size=(n_tracks, 1, WIDTH)) + 0.4 * rng.normal(size=(n_tracks, each, WIDTH))
    vectors = (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)
    folder = bound[0].location.shard_folder(place[0])
    crops = _hole(store, f"{folder}{place[1]:04d}-crops.blobs", n * CROP_BYTES)
    mattes = _hole(store, f"{folder}{place[1]:04d}-mattes.blobs", n * MATTE_BYTES)
    width = rng.uniform(60, 500, n)
    corner = rng.uniform(0, 600, (2, n))
    candidates = {
        "face_id": faces,
        "track_id": of_face,
        "frame_index": np.tile(np.arange(each) * 20, n_tracks),
        "time_s": np.tile(np.arange(each) * 0.8, n_tracks),
        "x0": corner[0],
        "y0": corner[1],
        "x1": corner[0] + width,
        "y1": corner[1] + 1.3 * width,
        "score": rng.uniform(0.7, 0.96, n).round(4),
        "landmarks5": _fixed(rng.uniform(0, 900, (n, 10)).round(2)),
        "landmarks5_crop": _fixed(rng.uniform(0, 224, (n, 10)).round(2)),
        "sharpness": rng.lognormal(5, 0.8, n).round(2),
        "completeness": 1.0,
        "compression": rng.uniform(0, 0.8, n).round(4),
        "status": "ok",
        "crop": _references(rng, crops, n, CROP_BYTES),
    }
    scores = {
        "face_id": faces,
        "mesh468": None if template is None else _draw_meshes(rng, template, n_tracks, each),
        "yaw_deg": rng.normal(0, 22, n).round(2),
        "pitch_deg": rng.normal(0, 12, n).round(2),
        "roll_deg": rng.normal(0, 6, n).round(2),
        "exposure": rng.uniform(0.3, 1, n).round(3),
        "occlusion": rng.uniform(0, 0.35, n).round(3),
        "matte": _references(rng, mattes, n, MATTE_BYTES),
    }
    embedded = {"track_id": of_face, "face_id": faces, "vector": equal_lists(pa.array(vectors.reshape(-1)), WIDTH)}
    tracked = {
        "track_id": tracks,
        "shot_index": 0,
        "start_frame": 0,
        "end_frame": 20 * each,
        "n_faces": 4 * each,
        "status": "ok",
        "mean_width_px": 200.0,
        "mean_sharpness": 150.0,
    }
    shots = {"shot_index": 0, "start_frame": 0, "end_frame": 250, "transition": "none"}
    nested: dict[str, Mapping[str, pa.Array]] = {}
    schemas = {b.step.name: b.location.stored_schema for b in bound}
    track_type = schemas["tracks"].field("tracks").type.value_type
    tracked["faces"] = equal_lists(build_structs(track_type.field("faces").type.value_type, candidates, n), each)
    per_video = TRACKS_PER_VIDEO * each
    nested["tracks"] = {
        "tracks": equal_lists(build_structs(track_type, tracked, n_tracks), TRACKS_PER_VIDEO),
        "shots": equal_lists(build_structs(schemas["tracks"].field("shots").type.value_type, shots, len(videos)), 1),
    }
    for step, values in (("scores", scores), ("embeddings", embedded)):
        structs = build_structs(schemas[step].field("faces").type.value_type, values, n)
        nested[step] = {"faces": equal_lists(structs, per_video)}
    plain = {"status": "ok", "model": "drawn", "_attempt": 1, "n_frames": 250, "n_frames_decoded": 250, "uri": "/v"}
    plain |= {"codec": "h264", "width": 1280, "height": 720, "fps": 25.0, "duration_s": 10.0}
    for b in bound:
        values = {**plain, "video_id": videos, **nested.get(b.step.name, {})}
        rows = build_structs(pa.struct(list(b.location.stored_schema)), values, len(videos))
        _commit(store, b, place, pa.Table.from_struct_array(rows))
    return _DrawnPart(tracks, vectors)


def _draw_meshes(rng: np.random.Generator, template: npt.NDArray[np.int64], n_tracks: int, each: int) -> pa.Array:
    """Return a mesh for each face: the template, changed by track and by face."""
    meshes = (template + rng.integers(-300, 300, (n_tracks, 1404)).repeat(each, axis=0)).astype(np.float32)
    meshes += rng.integers(-150, 150, (n_tracks * each, 1404), dtype=np.int16)
    return _fixed((meshes / 100).round(2))


def _commit(store: FolderStore, b: BoundStep, place: tuple[int, int], rows: pa.Table) -> None:
    """Commit a part whose references name their packed files already."""
    data = to_parquet(rows)
    sha, stem = hashlib.sha256(data).hexdigest(), f"{b.location.shard_folder(place[0])}{place[1]:04d}"
    path = f"{stem}-{sha[:16]}.parquet"
    store.write(path, data)
    marker = Marker(
        shard=place[0],
        part=place[1],
        data=path,
        rows=rows.num_rows,
        n_bytes=len(data),
        sha256=sha,
        schema_hash=schema_hash(b.location.stored_schema),
        inputs=(),
        blobs="",
        blobs_n_bytes=0,
        blobs_sha256="",
        run_id="bench",
    )
    store.create(f"{stem}.json", marker.to_json())


def _hole(store: FolderStore, path: str, size: int) -> str:
    """Write a packed file that takes no space on the disk."""
    store.write(path, b"")
    with Path(store.url(path)).open("r+b") as file:
        file.truncate(size)
    return path


def _references(rng: np.random.Generator, uri: str, n: int, size: int) -> pa.Array:
    columns = [pa.repeat(pa.scalar(uri), n), np.arange(n) * size, np.full(n, size), _draw_ids(rng, n, 32).astype(str)]
    arrays = [pa.array(values, f.type) for values, f in zip(columns, BLOB_REF, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=list(BLOB_REF))


def _fixed(values: npt.NDArray[np.float64] | npt.NDArray[np.float32]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).reshape(-1)), values.shape[1])


def _draw_ids(rng: np.random.Generator, n: int, n_bytes: int) -> npt.NDArray[np.bytes_]:
    """Return n random ids of 2 × ``n_bytes`` hexadecimal characters."""
    return np.frombuffer(rng.bytes(n * n_bytes).hex().encode(), f"S{2 * n_bytes}")


def _assignments(tracks: npt.NDArray[np.bytes_], person: npt.NDArray[np.int64]) -> pa.Table:
    names = [hashlib.sha256(b"%d" % number).hexdigest()[:24] for number in person.tolist()]
    values: dict[str, Any] = {
        "track_id": tracks,
        "identity_id": names,
        "cluster_version": "drawn",
        "similarity": 0.9,
        "source": "clustering",
    }
    return pa.Table.from_struct_array(build_structs(pa.struct(list(ASSIGNMENTS)), values, len(tracks))).cast(
        ASSIGNMENTS
    )


def _means(drawn: _DrawnPart) -> pa.Table:
    means = drawn.vectors.mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    ids, n = pa.array(drawn.track_ids.astype(str)), len(means)
    vectors = vectors_to_lists(means.round(6))
    return pa.table([ids, pa.repeat("", n), pa.repeat("drawn", n), vectors], schema=EMBEDDINGS)
