"""The people of a snapshot: ``assignments``, ``identities``, ``identity_faces`` and ``diversity``, person by person.

DuckDB sorts the usable faces by person, on disk if need be; each block of people is then read with its meshes. The
meshes' files are sorted by person themselves (but for tracks whose person has changed since they were written), so a
block reads a few row groups of each file.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.parquet import StoredParquet
from mfhq.schema import ASSIGNMENTS, DIVERSITY, IDENTITIES, IDENTITY_FACES, TABLES
from mfhq.store import Store
from pipelines.identity.vector_lists import lists_to_vectors
from pipelines.publishing.diversity import MOST_SAMPLED, measure_diversity
from pipelines.publishing.face_selection import (
    BEST,
    MOST_CANDIDATES,
    REASONS,
    FaceFeatures,
    PeopleBatch,
    choose_faces,
)
from pipelines.publishing.identities import split_of_identity
from pipelines.publishing.identity_lookup import IdentityLookup
from pipelines.publishing.publish_presets import Preset
from pipelines.publishing.published_query import query_tables, scan
from pipelines.publishing.table_files import TableFiles, TableWriter, write_table

if TYPE_CHECKING:
    import duckdb

BLOCK_ROWS = 32_768
"""Number of faces or tracks of a block of people."""
_BATCH_FACES = 2048
_WORKERS = 2
_MESH_VALUES = 1404
_CACHED_GROUPS_BYTES = 640 << 20

_ASSIGNED = """CREATE TABLE assigned AS SELECT a.*, t.video_id FROM given a
JOIN (SELECT track_id, video_id FROM tracks WHERE status = 'ok') t USING (track_id)"""
_FACES = """SELECT a.identity_id, f.face_id, f.video_id, f.time_s, f.yaw_deg, f.pitch_deg, f.roll_deg, f.score,
f.sharpness, f.x0, f.x1, f.file_row_number + s.start AS place
FROM {faces} f JOIN assigned a USING (track_id) JOIN starts s ON parse_filename(f.filename) = s.file
WHERE f.status = 'ok' ORDER BY a.identity_id, f.face_id"""


def people_tables(
    store: Store, tables: Mapping[str, TableFiles], people: IdentityLookup, preset: Preset
) -> dict[str, TableFiles]:
    """Write the tables of the people, for the tracks that are ok.

    Args:
        store: The corpus.
        tables: Files of ``tracks``, ``faces`` and ``meshes``.
        people: The clustering.
        preset: Number of faces per person, their least difference, and the shares of the splits.
    """
    entries = {name: files.entry(name) for name, files in tables.items()}
    with query_tables(store, entries) as connection:
        connection.register("given", people.assignments)
        connection.execute(_ASSIGNED)
        connection.unregister("given")
        order = f"SELECT {', '.join(ASSIGNMENTS.names)} FROM assigned ORDER BY identity_id, track_id"
        assignments = write_table(store, "assignments", _stream(connection, order))
        chosen, diversity = TableWriter(store, "identity_faces"), TableWriter(store, "diversity")
        counts = [pa.table({"identity_id": pa.array([], pa.string()), "n": pa.array([], pa.int32())})]
        meshes = _Meshes(store, [file.path for file in tables["meshes"].files])

        def choose(faces: pa.Table) -> dict[str, pa.Table]:
            return choose_for_people(faces, meshes.read(faces["place"].to_numpy()), preset)

        for found in _in_order(choose, _usable_faces(store, connection, tables["faces"])):
            chosen.write(found["identity_faces"])
            diversity.write(found["diversity"])
            n = found["identity_faces"].group_by("identity_id", use_threads=False).aggregate([([], "count_all")])
            counts.append(n.rename_columns(["identity_id", "n"]).cast(counts[0].schema))
        n_faces = pa.concat_tables(counts)
        tracks = "SELECT identity_id, track_id, video_id FROM assigned ORDER BY identity_id, track_id"
        blocks = _blocks_of_people(_stream(connection, tracks))
        identities = write_table(store, "identities", (_identities(b, people, n_faces, preset) for b in blocks))
    return {
        "assignments": assignments,
        "identity_faces": chosen.close(),
        "diversity": diversity.close(),
        "identities": identities,
    }


def choose_for_people(faces: pa.Table, meshes: npt.NDArray[np.float32], preset: Preset) -> dict[str, pa.Table]:
    """Choose the faces of people and measure their diversity; a pure function.

    Args:
        faces: Ok faces, ``mfhq.schema.FACES`` columns and ``identity_id``, sorted by person and face id.
        meshes: (N, 1404) their meshes, NaN where there is none.
        preset: Number of faces per person, and their least difference.

    Returns:
        Rows of ``identity_faces`` and of ``diversity``.
    """
    features = FaceFeatures.of(faces, meshes)
    starts = _starts_of_people(faces["identity_id"])
    n_good = np.diff([*starts, faces.num_rows])
    members = [_candidates(features, start, n) for start, n in zip(starts.tolist(), n_good.tolist(), strict=True)]
    sizes = np.array([len(rows) for rows in members], np.int64)
    ids, names = faces["face_id"].to_pylist(), faces["identity_id"].take(pa.array(starts))
    chosen = np.full((len(starts), preset.faces_per_identity), -1, np.int64)
    why = np.full(chosen.shape, BEST, np.int64)
    metrics = np.zeros((len(starts), 4), np.float32)
    for n in np.unique(sizes).tolist():
        every = np.flatnonzero(sizes == n)
        for at in range(0, len(every), max(1, _BATCH_FACES // n)):
            own = every[at : at + max(1, _BATCH_FACES // n)]
            rows = np.stack([members[person] for person in own.tolist()])
            batch = PeopleBatch.of(features, rows)
            places, why[own] = choose_faces(batch, preset.faces_per_identity, preset.min_difference)
            chosen[own] = np.where(places < 0, -1, np.take_along_axis(rows, np.maximum(places, 0), 1))
            several = np.flatnonzero((places >= 0).sum(axis=1) > 1)
            if len(several):
                is_chosen = (places[several][:, :, None] == np.arange(n)).any(axis=1)
                part = batch if len(several) == len(own) else batch.take_people(several)
                found = measure_diversity(part, is_chosen, [ids[rows[person, 0]] for person in several])
                metrics[own[several]] = np.stack(list(found.values()), axis=1)
    person, rank = np.nonzero(chosen >= 0)
    chosen_table = {
        "identity_id": names.take(pa.array(person)),
        "face_id": faces["face_id"].take(pa.array(chosen[person, rank])),
        "rank": pa.array(rank.astype(np.int32)),
        "why": pa.array(REASONS).take(pa.array(why[person, rank])),
    }
    n_chosen = (chosen >= 0).sum(axis=1)
    several = np.flatnonzero(n_chosen > 1)
    names_of_metrics = [f.name for f in DIVERSITY][3:]
    diversity = {
        "identity_id": names.take(pa.array(several)),
        "n_good": pa.array(n_good[several].astype(np.int32)),
        "n_chosen": pa.array(n_chosen[several].astype(np.int32)),
        **{name: pa.array(metrics[several, column]) for column, name in enumerate(names_of_metrics)},
    }
    return {
        "identity_faces": pa.table([chosen_table[f.name] for f in IDENTITY_FACES], schema=IDENTITY_FACES).sort_by(
            [("identity_id", "ascending"), ("face_id", "ascending")]
        ),
        "diversity": pa.table([diversity[f.name] for f in DIVERSITY], schema=DIVERSITY),
    }


def _candidates(features: FaceFeatures, start: int, n: int) -> npt.NDArray[np.int64]:
    """Return the rows of a person's faces from which faces are chosen and drawn: the best, and the lowest ids."""
    rows = np.arange(start, start + n)
    if n <= MOST_CANDIDATES:
        return rows
    best = np.argsort(-features.quality[rows], kind="stable")[:MOST_CANDIDATES]
    return rows[np.union1d(best, np.arange(MOST_SAMPLED))]


def _identities(tracks: pa.Table, people: IdentityLookup, n_faces: pa.Table, preset: Preset) -> pa.Table:
    """Return the rows of ``identities`` for a block of people."""
    starts = _starts_of_people(tracks["identity_id"])
    names = tracks["identity_id"].take(pa.array(starts)).combine_chunks()
    videos = tracks.group_by(["identity_id", "video_id"], use_threads=False).aggregate([])
    n_videos = videos.group_by("identity_id", use_threads=False).aggregate([([], "count_all")])
    counts = [
        table[column].take(pc.index_in(names, value_set=table["identity_id"].combine_chunks()))
        for table, column in ((n_videos, "count_all"), (n_faces, "n"))
    ]
    columns = {
        "identity_id": names,
        "n_tracks": pa.array(np.diff([*starts, tracks.num_rows]).astype(np.int32)),
        "n_videos": counts[0].cast(pa.int32()),
        "n_faces": pc.fill_null(counts[1], 0),
        "cohesion": _cohesions(tracks, names, people),
        "split": pa.array([split_of_identity(name, preset) for name in names.to_pylist()]),
    }
    return pa.table([columns[f.name] for f in IDENTITIES], schema=IDENTITIES)


def _cohesions(tracks: pa.Table, names: pa.Array, people: IdentityLookup) -> pa.Array:
    """Return the mean cosine similarity of each person's tracks to their centroid; null without vectors."""
    found = np.full(len(names), np.nan, np.float32)
    means = people.means_of(tracks["track_id"])
    if means.num_rows:
        owner = pc.index_in(tracks["identity_id"], value_set=names)
        has_mean = pc.is_in(tracks["track_id"], value_set=means["track_id"].combine_chunks())
        person, vectors = owner.filter(has_mean).to_numpy(), lists_to_vectors(means)
        everyone, first, counts = np.unique(person, return_index=True, return_counts=True)
        for n in np.unique(counts).tolist():
            own = np.flatnonzero(counts == n)
            members = vectors[first[own, None] + np.arange(n)]
            centroid = members.mean(axis=1)
            centroid /= np.maximum(np.linalg.norm(centroid, axis=1, keepdims=True), 1e-9)
            found[everyone[own]] = np.round(np.einsum("bnd,bd->bn", members, centroid).mean(axis=1), 4)
    return pa.array(found, from_pandas=True)


def _usable_faces(store: Store, connection: duckdb.DuckDBPyConnection, faces: TableFiles) -> Iterator[pa.Table]:
    """Yield the ok faces of assigned tracks, by blocks of people, with ``place``: the row in all files of meshes."""
    if not faces.files:
        return
    starts = np.cumsum([0, *(file.rows for file in faces.files[:-1])])
    names = [PurePosixPath(file.path).name for file in faces.files]
    connection.execute("CREATE TABLE starts (file VARCHAR, start BIGINT)")
    connection.executemany("INSERT INTO starts VALUES (?, ?)", list(zip(names, starts.tolist(), strict=True)))
    files = scan(store, [file.path for file in faces.files], "file_row_number = true, filename = true")
    yield from _blocks_of_people(_stream(connection, _FACES.format(faces=files)))


def _stream(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[pa.Table]:
    for batch in connection.cursor().sql(query).to_arrow_reader(BLOCK_ROWS):
        yield pa.Table.from_batches([batch])


def _blocks_of_people(parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield rows that are sorted by person in blocks that hold all rows of their people."""
    waiting: list[pa.Table] = []
    for part in parts:
        last = _starts_of_people(part["identity_id"])[-1]
        if waiting and last and sum(table.num_rows for table in waiting) + last >= BLOCK_ROWS:
            yield pa.concat_tables([*waiting, part.slice(0, last)]).combine_chunks()
            waiting = [part.slice(last)]
        else:
            waiting.append(part)
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _starts_of_people(identities: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the first row of each person; the rows are sorted by person."""
    ids = identities.combine_chunks()
    differs = pc.not_equal(ids.slice(1), ids.slice(0, max(len(ids) - 1, 0))).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.flatnonzero(differs) + 1]).astype(np.int64)[: len(ids)]


class _Meshes:
    """Meshes by their row in all files; the row groups that were read last are kept."""

    def __init__(self, store: Store, paths: list[str]) -> None:
        files = [StoredParquet(store, path, TABLES["meshes"]) for path in paths]
        self._groups = [(file, group) for file in files for group in range(file.row_groups)]
        self._starts = np.cumsum([0, *(file.group_rows(group) for file, group in self._groups)])
        self._cached: OrderedDict[int, npt.NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the (N, 1404) meshes at these rows; NaN where there is none."""
        found = np.empty((len(places), _MESH_VALUES), np.float32)
        with self._lock:  # it is decoding that takes the time, and one block is chosen from while the next is decoded
            self._read_into(found, places)
        return found

    def _read_into(self, found: npt.NDArray[np.float32], places: npt.NDArray[np.int64]) -> None:
        group_of = np.searchsorted(self._starts, places, side="right") - 1
        order = np.argsort(group_of, kind="stable")
        groups, first = np.unique(group_of[order], return_index=True)
        for group, rows in zip(groups.tolist(), np.split(order, first[1:]), strict=True):
            found[rows] = self._group(group)[places[rows] - self._starts[group]]

    def _group(self, number: int) -> npt.NDArray[np.float32]:
        if number not in self._cached:
            file, group = self._groups[number]
            column = file.read(group, ["mesh468"])["mesh468"]
            points = np.full((len(column), _MESH_VALUES), np.nan, np.float32)
            valid = column.is_valid().to_numpy()
            points[valid] = pc.list_flatten(column).to_numpy().reshape(-1, _MESH_VALUES)
            self._cached[number] = points
            while sum(map(len, self._cached.values())) * _MESH_VALUES * 4 > _CACHED_GROUPS_BYTES:
                self._cached.popitem(last=False)
        self._cached.move_to_end(number)
        return self._cached[number]


def _in_order(
    choose: Callable[[pa.Table], dict[str, pa.Table]], blocks: Iterator[pa.Table]
) -> Iterator[dict[str, pa.Table]]:
    """Yield the result for each block, in their order; some are computed at the same time."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        waiting: deque[Future[dict[str, pa.Table]]] = deque()
        for block in blocks:
            waiting.append(pool.submit(choose, block))
            if len(waiting) > _WORKERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
