"""Chosen faces of a corpus, found in a table that comes in parts and is never in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from ffavatar_model.groups import located, mapped

N_MESH = 468
ROWS = 1 << 22
"""Usable faces, some 400 MB, that are gathered before those that nobody chose are let go: a look-up of any number first
makes a table of all that are chosen."""

Parts = Callable[[Sequence[str], Collection[int] | None], Iterable[tuple[int, pa.Table]]]
"""(columns, numbers of the parts or None for all) → (number, part), the same parts at each call."""
Faces: TypeAlias = pa.Table | Parts


def chosen_faces(identity_faces: pa.Table, faces: Faces) -> pa.Table:
    """A row for each row of ``identity_faces`` whose face is ok and has a crop, in any order.

    Columns ``person``, ``rank``, ``id``, those of ``located`` of crop and matte, and where the face stands:
    ``part`` and ``row`` in it.
    """
    wanted = identity_faces["face_id"].combine_chunks()
    found, waiting, rows = [], [], 0
    for number, part in _parts(faces, ("face_id", "status", "crop", "matte"), None):
        standing = part.append_column("row", pa.array(np.arange(len(part), dtype=np.int32)))
        standing = standing.append_column("part", pa.array(np.full(len(part), number, np.int32)))
        usable = standing.filter(pc.and_(pc.equal(part["status"], "ok"), part["crop"].is_valid()))
        waiting.append(
            pa.table({
                "id": usable["face_id"], **located(usable["crop"], "crop"), **located(usable["matte"], "matte"),
                "part": usable["part"], "row": usable["row"],
            })
        )  # fmt: skip
        rows += len(usable)
        if rows >= ROWS:
            gathered = pa.concat_tables(waiting)
            found.append(gathered.filter(pc.is_in(gathered["id"], value_set=wanted)))
            waiting, rows = [], 0
    table = pa.concat_tables([*found, *waiting]).unify_dictionaries().combine_chunks()
    del found, waiting
    place = pc.index_in(wanted, value_set=table["id"].combine_chunks())
    there = place.is_valid()
    table = table.set_column(0, "id", table["id"].cast(pa.large_string())).take(place.filter(there))
    chosen = identity_faces.select(["identity_id", "rank"]).filter(there).rename_columns(["person", "rank"])
    return pa.table({**dict(zip(chosen.column_names, chosen.columns, strict=True)),
                     **dict(zip(table.column_names, table.columns, strict=True))})  # fmt: skip


def meshes_of(rows: pa.Table, faces: Faces) -> tuple[Tensor, pa.Array]:
    """Mesh points of rows that stand at ``part`` and ``row``, and which are whose.

    Returns:
        (n, 468, 2) float32, ``mapped``, in the order in which they stand, so that they are written one after another;
        (n,) int32 for each row its place there, null where a face has no mesh.

    Raises:
        ValueError: another face stands there now.
    """
    meshes = mapped((len(rows), N_MESH, 2), torch.float32)
    there = np.zeros(len(rows), bool)
    parts, standing = rows["part"].to_numpy(), rows["row"].to_numpy()
    turn = np.lexsort((standing, parts))
    numbers = parts[turn]
    for number, part in _parts(faces, ("face_id", "mesh468"), np.unique(numbers).tolist()):
        begin, end = np.searchsorted(numbers, [number, number + 1])
        if begin == end:
            continue
        mine = turn[begin:end]
        local, column = standing[mine], part["mesh468"]
        if not part["face_id"].take(local).cast(pa.large_string()).equals(rows["id"].take(mine)):
            raise ValueError("the faces of the snapshot changed while they were read; begin again")
        valid = column.is_valid().to_numpy()
        points = pc.list_flatten(column).to_numpy().reshape(-1, N_MESH, 3)  # of those that have some
        has = valid[local]
        meshes.numpy()[begin + np.flatnonzero(has)] = points[(valid.cumsum() - 1)[local[has]], :, :2]
        there[begin:end] = has
    place = np.empty(len(rows), np.int32)
    place[turn] = np.arange(len(rows))
    return meshes, pa.array(place, mask=~there[place])


def _parts(faces: Faces, columns: Sequence[str], numbers: Collection[int] | None) -> Iterator[tuple[int, pa.Table]]:
    if isinstance(faces, pa.Table):
        yield 0, faces.select(list(columns))
    else:
        yield from faces(columns, numbers)
