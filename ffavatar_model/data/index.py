"""People and their pictures as Arrow tables that loader processes share; a row is a dictionary once it is drawn.

Chosen faces of a corpus, found in a table that comes in parts and is never in memory as a whole.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

Row = dict[str, Any]


def mapped(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A tensor of zeros in a file without a name in ``TMPDIR``: processes that it is sent to map the same file.

    The file takes room where something is written, its pages leave memory when they are not used, and it ends with the
    last process that has it, however that ends. Shared memory would hold all of it, and containers have little.
    """
    size = math.prod(shape) * dtype.itemsize
    if not size:
        return torch.zeros(shape, dtype=dtype)
    with tempfile.TemporaryFile(prefix="ffavatar-") as file:
        file.truncate(size)
        # As torch opens what another process sent it; it has no public name for this.
        storage = torch.UntypedStorage._new_shared_fd_cpu(file.fileno(), size)  # type: ignore[attr-defined]
    return torch.empty(0, dtype=dtype).set_(storage).view(-1)[: math.prod(shape)].view(shape)


class SharedTable:
    """An Arrow table whose buffers lie in a ``mapped`` file. Names with a point are fields: ``crop.uri``."""

    def __init__(self, table: pa.Table) -> None:
        table = table.unify_dictionaries().combine_chunks()
        measured = pa.MockOutputStream()
        with pa.ipc.new_stream(measured, table.schema) as writer:
            writer.write_table(table)
        self._bytes = mapped((measured.size(),), torch.uint8)
        with pa.ipc.new_stream(pa.FixedSizeBufferWriter(pa.py_buffer(self._bytes.numpy())), table.schema) as writer:
            writer.write_table(table)
        self._open()

    def _open(self) -> None:
        self.table: pa.Table = pa.ipc.open_stream(pa.py_buffer(self._bytes.numpy())).read_all()
        self._columns = [
            (*name.partition(".")[::2], column.chunk(0))
            for name, column in zip(self.table.column_names, self.table.columns, strict=True)
            if column.num_chunks
        ]
        self._nested = sorted({whole for whole, part, _ in self._columns if part})

    def __getstate__(self) -> Tensor:
        return self._bytes

    def __setstate__(self, state: Tensor) -> None:
        self._bytes = state
        self._open()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def row(self, i: int) -> Row:
        """A row; one of fields that are all null is None."""
        found: Row = {}
        for whole, part, column in self._columns:
            value = column[i].as_py()
            if part:
                found.setdefault(whole, {})[part] = value
            else:
                found[whole] = value
        for whole in self._nested:
            if all(value is None for value in found[whole].values()):
                found[whole] = None
        return found


class ImageRows(Sequence[Row]):
    """The pictures of one person: ``length`` rows of a table from ``begin``."""

    def __init__(self, rows: SharedTable, begin: int, length: int) -> None:
        self._rows, self._begin, self._length = rows, begin, length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, i: int) -> Row: ...
    @overload
    def __getitem__(self, i: slice) -> list[Row]: ...
    def __getitem__(self, i: int | slice) -> Row | list[Row]:
        places = range(self._begin, self._begin + self._length)[i]
        return self._rows.row(places) if isinstance(places, int) else [self._rows.row(place) for place in places]

    def column(self, name: str) -> list[Any]:
        """One field of all of them."""
        return list(self._rows.table[name].slice(self._begin, self._length).to_pylist())


class Groups(Sequence[tuple[str, ImageRows]]):
    """(person, pictures) of everybody who has two pictures or more, by person."""

    def __init__(self, people: SharedTable, pictures: SharedTable) -> None:
        """``people``: columns ``person``, ``begin`` and ``length`` of the rows in ``pictures`` (one with ``id``)."""
        self._people, self._pictures = people, pictures

    def __len__(self) -> int:
        return len(self._people)

    @overload
    def __getitem__(self, i: int) -> tuple[str, ImageRows]: ...
    @overload
    def __getitem__(self, i: slice) -> list[tuple[str, ImageRows]]: ...
    def __getitem__(self, i: int | slice) -> tuple[str, ImageRows] | list[tuple[str, ImageRows]]:
        places = range(len(self))[i]
        return self._group(places) if isinstance(places, int) else [self._group(place) for place in places]

    def __iter__(self) -> Iterator[tuple[str, ImageRows]]:
        return map(self._group, range(len(self)))

    def _group(self, i: int) -> tuple[str, ImageRows]:
        row = self._people.row(i)
        return row["person"], ImageRows(self._pictures, row["begin"], row["length"])

    @property
    def people(self) -> pa.ChunkedArray:
        """Everybody's id, sorted."""
        return self._people.table["person"]

    def only(self, kept: NDArray[np.bool_]) -> Groups:
        """Those of ``people`` that a (n,) mask says; the pictures are shared."""
        return Groups(SharedTable(self._people.table.filter(pa.array(kept))), self._pictures)

    def listed(self) -> pa.Table:
        """``person`` and ``id`` of every picture."""
        begin, length = (self._people.table[name].to_numpy() for name in ("begin", "length"))
        rows = np.arange(length.sum()) + np.repeat(begin - (length.cumsum() - length), length)
        whose = np.repeat(np.arange(len(self)), length)
        return pa.table({"person": self.people.take(whose), "id": self._pictures.table["id"].take(rows)})


def by_person(rows: pa.Table, *order: str) -> tuple[pa.Table, pa.Table]:
    """Rows with a column ``person`` → the two tables of ``Groups``: the people, and their rows in the given order.

    Who has one row is left out. No Python object is made for a row.
    """
    rows = rows.unify_dictionaries().combine_chunks()
    coded = pc.dictionary_encode(_one(rows["person"]))
    sorted_ids = pc.sort_indices(coded.dictionary)
    place = np.empty(len(sorted_ids), np.int64)
    place[sorted_ids.to_numpy()] = np.arange(len(place))
    person = place[coded.indices.to_numpy()]
    length = np.bincount(person, minlength=len(place))
    kept = np.flatnonzero(length[person] > 1)
    keys = pa.table({"person": person, **{name: rows[name] for name in order}}).take(kept)
    turn = kept[pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names]).to_numpy()]
    length = np.where(length > 1, length, 0)
    people = pa.table(
        {
            "person": coded.dictionary.take(sorted_ids),
            "begin": length.cumsum() - length,
            "length": length,
        }
    )
    return people.filter(pa.array(length > 0)), rows.drop_columns("person").take(turn)


def located(column: pa.ChunkedArray, name: str) -> dict[str, pa.ChunkedArray]:
    """A column of ``mfhq.schema.BLOB_REF`` as columns of a ``SharedTable``, without the digests."""
    flat = {f"{name}.{part}": pc.struct_field(column, part) for part in ("uri", "offset", "length")}
    return {**flat, f"{name}.uri": pc.dictionary_encode(flat[f"{name}.uri"])}


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


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
            pa.table(
                {
                    "id": usable["face_id"],
                    **located(usable["crop"], "crop"),
                    **located(usable["matte"], "matte"),
                    "part": usable["part"],
                    "row": usable["row"],
                }
            )
        )
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
    return pa.table(
        {
            **dict(zip(chosen.column_names, chosen.columns, strict=True)),
            **dict(zip(table.column_names, table.columns, strict=True)),
        }
    )


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
