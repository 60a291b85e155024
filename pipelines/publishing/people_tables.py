"""The people of a snapshot: ``assignments``, ``identities``, ``identity_faces``, ``chosen`` and ``diversity``.

DuckDB sorts the usable faces by person, on disk if need be; each block of people is then read with its meshes. The
meshes' files are sorted by person themselves (but for tracks whose person has changed since they were written), so a
block reads a few row groups of each file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import ASSIGNMENTS, IDENTITIES
from mfhq.store import Store
from pipelines.identity.vector_lists import lists_to_vectors
from pipelines.publishing.former_choices import FormerChoices, record_choices
from pipelines.publishing.identity_lookup import IdentityLookup
from pipelines.publishing.people_choice import PeopleChooser, StoredMeshes, starts_of_people
from pipelines.publishing.publish_presets import Preset
from pipelines.publishing.published_query import query_tables, scan
from pipelines.publishing.splits import SplitGroups, split_of_identity
from pipelines.publishing.table_files import TableFiles, TableWriter, write_table

if TYPE_CHECKING:
    import duckdb

BLOCK_ROWS = 32_768
"""Number of faces or tracks of a block of people."""
_WORKERS = 2

_ASSIGNED = """CREATE TABLE assigned AS SELECT a.*, coalesce(d.duplicate_of, t.video_id) AS video_id FROM given a
JOIN (SELECT track_id, video_id, shot_index FROM tracks WHERE status = 'ok') t USING (track_id)
LEFT JOIN (FROM duplicates WHERE rank = 0) d ON d.video_id = t.video_id AND d.shot_index = t.shot_index
WHERE $count_duplicates OR d.duplicate_of IS NULL"""
_IMAGE = """CASE WHEN f.{0} IS NOT NULL THEN
struct_pack(uri := f.{0}.uri, "offset" := f.{0}."offset", length := f.{0}.length, sha256 := NULL::VARCHAR) END AS {0}"""
_FACES = f"""SELECT a.identity_id, f.face_id, f.track_id, f.video_id, f.frame_index, f.time_s, f.yaw_deg, f.pitch_deg,
f.roll_deg, f.score, f.sharpness, f.exposure, f.occlusion, f.x0, f.x1, {_IMAGE.format("crop")},
{_IMAGE.format("matte")}, hash(a.identity_id, f.face_id, f.video_id, f.time_s, f.yaw_deg, f.pitch_deg, f.roll_deg,
f.score, f.sharpness, f.x0, f.x1) AS hash, f.file_row_number + s.start AS place
FROM {{faces}} f JOIN assigned a USING (track_id) JOIN starts s ON parse_filename(f.filename) = s.file
WHERE f.status = 'ok' ORDER BY a.identity_id, f.face_id"""


def people_tables(
    store: Store, tables: Mapping[str, TableFiles], people: IdentityLookup, preset: Preset, deep: bool = False
) -> dict[str, TableFiles]:
    """Write the tables of the people, for the tracks that are ok.

    Args:
        store: The corpus.
        tables: Files of ``tracks``, ``duplicates``, ``faces`` and ``meshes``.
        people: The clustering.
        preset: Number of faces per person, their least difference, and the shares of the splits.
        deep: Compute the sha256 of large files before they are used again.
    """
    entries = {name: files.entry(name) for name, files in tables.items()}
    with query_tables(store, entries) as connection:
        connection.register("given", people.assignments)
        connection.execute(_ASSIGNED, {"count_duplicates": preset.count_duplicates})
        connection.unregister("given")
        order = f"SELECT {', '.join(ASSIGNMENTS.names)} FROM assigned ORDER BY identity_id, track_id"
        assignments = write_table(store, "assignments", _stream(connection, order))
        names = ("identity_faces", "diversity", "chosen")
        writers = {name: TableWriter(store, name) for name in names}
        keys, mouths = list[pa.Table](), list[pa.Table]()
        counts = [pa.table({"identity_id": pa.array([], pa.string()), "n": pa.array([], pa.int32())})]
        groups = SplitGroups.read(connection)

        def split_of(name: str) -> str:
            return split_of_identity(groups.of(name), preset)

        meshes, former = StoredMeshes(store, tables["meshes"]), FormerChoices.read(store, preset, deep)
        chooser = PeopleChooser(preset, meshes, former, split_of)
        for found in _in_order(chooser.choose, _usable_faces(store, connection, tables["faces"])):
            for name, writer in writers.items():
                writer.write(found[name])
            keys.append(found["keys"])
            mouths.append(found["mouths"])
            n = found["identity_faces"].group_by("identity_id", use_threads=False).aggregate([([], "count_all")])
            counts.append(n.rename_columns(["identity_id", "n"]).cast(counts[0].schema))
        written = {name: writer.close() for name, writer in writers.items()}
        record_choices(store, preset, written, keys, mouths)
        n_faces = pa.concat_tables(counts)
        tracks = "SELECT identity_id, track_id, video_id FROM assigned ORDER BY identity_id, track_id"
        blocks = _blocks_of_people(_stream(connection, tracks))
        rows = (_identities(block, people, n_faces, split_of) for block in blocks)
        identities = write_table(store, "identities", rows)
    return {"assignments": assignments, "identities": identities, **written}


def _identities(
    tracks: pa.Table, people: IdentityLookup, n_faces: pa.Table, split_of: Callable[[str], str]
) -> pa.Table:
    """Return the rows of ``identities`` for a block of people."""
    starts = starts_of_people(tracks["identity_id"])
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
        "split": pa.array([split_of(name) for name in names.to_pylist()]),
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
        last = starts_of_people(part["identity_id"])[-1]
        if waiting and last and sum(table.num_rows for table in waiting) + last >= BLOCK_ROWS:
            yield pa.concat_tables([*waiting, part.slice(0, last)]).combine_chunks()
            waiting = [part.slice(last)]
        else:
            waiting.append(part)
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


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
