"""The index of people and their images: Arrow tables in files that all loader processes memory-map.

A row becomes a Python dictionary only when a sample needs it. The chosen faces of a corpus are looked up in a table
that is read part by part, so it is never completely in memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

Row = dict[str, Any]

N_MESH = 468
"""Number of points of a face mesh."""
GATHERED_ROWS = 1 << 22
"""Number of usable faces (about 400 MB) that are collected before those that were not chosen are dropped.

Many faces are looked up at once, because each look-up first builds a hash table of all chosen faces.
"""
WRITTEN_ROWS = 1 << 14
"""Number of meshes (about 60 MB) written at once."""

FaceParts = Callable[[Sequence[str], Collection[int] | None], Iterable[tuple[int, pa.Table]]]
"""Reader of a table in parts: (columns, part numbers or None for all parts) → (part number, part) for each part.

A part number means the same part at each call.
"""
Faces: TypeAlias = pa.Table | FaceParts

_PREFIX, _SUFFIX = "ffavatar-", ".arrow"
_ABANDONED_S = 3600


class _SharedFile:
    """An Arrow IPC file in ``TMPDIR`` that several processes memory-map.

    The system can drop unused pages of a file from memory. Shared memory would keep all pages, and containers have
    little of it. ``multiprocessing`` sends only the path to another process of this machine. Any other pickle contains
    the content, which is written to a new file when it is unpickled.

    The process that wrote the file owns it, and removes it when this object is deleted or the process exits. Mappings
    in other processes stay readable. A lock shows that the owner is alive. If the owner was killed, its file is removed
    when a later ``_SharedFile`` is written in ``TMPDIR``.
    """

    def __init__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        _remove_abandoned()
        descriptor, path = tempfile.mkstemp(prefix=_PREFIX, suffix=_SUFFIX)
        with contextlib.suppress(OSError):  # on network file systems without locks, abandoned files stay
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        weakref.finalize(self, _remove, path, descriptor, os.getpid())
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        self._map(path)

    def _map(self, path: str) -> None:
        self.path, self.memory = path, pa.memory_map(path)
        self.reader = pa.ipc.open_file(self.memory)

    @classmethod
    def open(cls, path: str) -> _SharedFile:
        """Memory-map a file that another object owns."""
        file = cls.__new__(cls)
        file._map(path)
        return file

    @classmethod
    def from_bytes(cls, data: bytes) -> _SharedFile:
        """Write the content of another shared file to a new file that this process owns."""
        reader = pa.ipc.open_file(data)
        return cls(reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches)))

    def __reduce__(self) -> tuple[Any, ...]:
        self.memory.seek(0)
        return _SharedFile.from_bytes, (self.memory.read(),)

    def __deepcopy__(self, memo: dict[int, Any]) -> _SharedFile:
        return self


ForkingPickler.register(_SharedFile, lambda file: (_SharedFile.open, (file.path,)))


def _remove(path: str, descriptor: int, owner: int) -> None:
    """Remove a file and close its descriptor; a fork of the owner only closes the descriptor."""
    if os.getpid() == owner:
        Path(path).unlink(missing_ok=True)
    os.close(descriptor)


def _remove_abandoned() -> None:
    """Remove the files of owners that were killed; files younger than an hour stay, as they may not be locked yet."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*{_SUFFIX}"):
        try:
            with path.open("rb") as file:
                if time.time() - os.fstat(file.fileno()).st_mtime > _ABANDONED_S:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
        except OSError:  # the owner is alive, or the file is another user's or already removed
            continue


class SharedTable:
    """An Arrow table in a file that several processes memory-map.

    A column name with a point names a field of a nested value: ``crop.uri`` is field ``uri`` of ``crop``.
    """

    def __init__(self, table: pa.Table) -> None:
        table = table.unify_dictionaries().combine_chunks()
        self._open(_SharedFile(table.schema, table.to_batches()))

    def _open(self, file: _SharedFile) -> None:
        self._file = file
        self.table: pa.Table = file.reader.read_all()
        self._columns = [
            (*name.partition(".")[::2], column.chunk(0))
            for name, column in zip(self.table.column_names, self.table.columns, strict=True)
            if column.num_chunks
        ]
        self._nested = sorted({name for name, field, _ in self._columns if field})

    def __getstate__(self) -> _SharedFile:
        return self._file

    def __setstate__(self, file: _SharedFile) -> None:
        self._open(file)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def row(self, i: int) -> Row:
        """Return a row with nested fields as dictionaries; None replaces a dictionary whose fields are all null."""
        row: Row = {}
        for name, field, column in self._columns:
            value = column[i].as_py()
            if field:
                row.setdefault(name, {})[field] = value
            else:
                row[name] = value
        for name in self._nested:
            if all(value is None for value in row[name].values()):
                row[name] = None
        return row


class SharedMeshes(Sequence[Tensor]):
    """Face meshes in a file that several processes memory-map."""

    def __init__(self, chunks: Iterable[NDArray[np.float32]]) -> None:
        """Write the meshes chunk by chunk.

        Args:
            chunks: Arrays (n, 468, 2) of n meshes each; meshes are numbered in this order.
        """
        kind = pa.list_(pa.float32(), 2 * N_MESH)
        schema = pa.schema([pa.field("mesh", kind)])
        arrays = (pa.FixedSizeListArray.from_arrays(pa.array(chunk.reshape(-1)), type=kind) for chunk in chunks)
        self._open(_SharedFile(schema, (pa.record_batch([array], schema=schema) for array in arrays)))

    def _open(self, file: _SharedFile) -> None:
        self._file = file
        columns = [file.reader.get_batch(i).column(0) for i in range(file.reader.num_record_batches)]
        self._chunks = [column.values.to_numpy().reshape(-1, N_MESH, 2) for column in columns]
        self._ends = np.cumsum([len(chunk) for chunk in self._chunks], dtype=np.int64)

    def __getstate__(self) -> _SharedFile:
        return self._file

    def __setstate__(self, file: _SharedFile) -> None:
        self._open(file)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, i: int) -> Tensor: ...
    @overload
    def __getitem__(self, i: slice) -> list[Tensor]: ...
    def __getitem__(self, i: int | slice) -> Tensor | list[Tensor]:
        """Return the points (468, 2) of one mesh, or a list of such tensors for a slice."""
        if isinstance(i, slice):
            return [self[each] for each in range(len(self))[i]]
        i = range(len(self))[i]
        chunk = int(np.searchsorted(self._ends, i, side="right"))
        # a negative index, counted from the end of the chunk
        return torch.from_numpy(self._chunks[chunk][i - int(self._ends[chunk])].copy())


class ImageRows(Sequence[Row]):
    """The images of one person: ``length`` consecutive rows of a table, the first at ``begin``."""

    def __init__(self, rows: SharedTable, begin: int, length: int) -> None:
        self._rows, self._begin, self._length = rows, begin, length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, i: int) -> Row: ...
    @overload
    def __getitem__(self, i: slice) -> list[Row]: ...
    def __getitem__(self, i: int | slice) -> Row | list[Row]:
        index = range(self._begin, self._begin + self._length)[i]
        return self._rows.row(index) if isinstance(index, int) else [self._rows.row(each) for each in index]

    def column(self, name: str) -> list[Any]:
        """Return a column's values for all images of the person."""
        return list(self._rows.table[name].slice(self._begin, self._length).to_pylist())


class PeopleIndex(Sequence[tuple[str, ImageRows]]):
    """A sequence of (person's id, images) of all people with at least two images, ordered by id."""

    def __init__(self, people: SharedTable, images: SharedTable) -> None:
        """Join the two tables of ``sort_by_person``.

        Args:
            people: Columns ``person``, and ``begin`` and ``length`` of the person's rows in ``images``.
            images: One row per image, with a column ``id``.
        """
        self._people, self._images = people, images

    def __len__(self) -> int:
        return len(self._people)

    @overload
    def __getitem__(self, i: int) -> tuple[str, ImageRows]: ...
    @overload
    def __getitem__(self, i: slice) -> list[tuple[str, ImageRows]]: ...
    def __getitem__(self, i: int | slice) -> tuple[str, ImageRows] | list[tuple[str, ImageRows]]:
        index = range(len(self))[i]
        return self._person(index) if isinstance(index, int) else [self._person(each) for each in index]

    def __iter__(self) -> Iterator[tuple[str, ImageRows]]:
        return map(self._person, range(len(self)))

    def _person(self, i: int) -> tuple[str, ImageRows]:
        row = self._people.row(i)
        return row["person"], ImageRows(self._images, row["begin"], row["length"])

    @property
    def person_ids(self) -> pa.ChunkedArray:
        """Ids of all people, sorted."""
        return self._people.table["person"]

    def select(self, mask: NDArray[np.bool_]) -> PeopleIndex:
        """Return an index of the people whose entry of ``mask`` (n,) is True; it shares the images' table."""
        return PeopleIndex(SharedTable(self._people.table.filter(pa.array(mask))), self._images)

    def image_ids(self) -> pa.Table:
        """Return a table with one row per image, columns ``person`` and ``id``."""
        begin, length = (self._people.table[name].to_numpy() for name in ("begin", "length"))
        rows = np.arange(length.sum()) + np.repeat(begin - (length.cumsum() - length), length)
        person = np.repeat(np.arange(len(self)), length)
        return pa.table({"person": self.person_ids.take(person), "id": self._images.table["id"].take(rows)})


def sort_by_person(rows: pa.Table, *order: str) -> tuple[pa.Table, pa.Table]:
    """Sort rows by person into the two tables of a ``PeopleIndex``; people with one row are left out.

    Args:
        rows: One row per image, with a column ``person``.
        order: Columns by which the rows of one person are sorted.

    Returns:
        The table of people (``person``, ``begin``, ``length``), and the sorted rows without the column ``person``.
    """
    rows = rows.unify_dictionaries().combine_chunks()
    encoded = pc.dictionary_encode(rows["person"].combine_chunks())
    sorted_ids = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(sorted_ids), np.int64)
    rank[sorted_ids.to_numpy()] = np.arange(len(rank))
    person = rank[encoded.indices.to_numpy()]
    length = np.bincount(person, minlength=len(rank))
    several = np.flatnonzero(length[person] > 1)
    keys = pa.table({"person": person, **{name: rows[name] for name in order}}).take(several)
    turn = several[pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names]).to_numpy()]
    length = np.where(length > 1, length, 0)
    people = pa.table(
        {
            "person": encoded.dictionary.take(sorted_ids),
            "begin": length.cumsum() - length,
            "length": length,
        }
    )
    return people.filter(pa.array(length > 0)), rows.drop_columns("person").take(turn)


def blob_columns(column: pa.ChunkedArray, name: str) -> dict[str, pa.ChunkedArray]:
    """Flatten a column of type ``mfhq.schema.BLOB_REF`` into columns for a ``SharedTable``.

    Column ``crop`` becomes ``crop.uri``, ``crop.offset``, ``crop.length`` and ``crop.sha64``, the first 64 bits of the
    digest (uint64, null where the writer gave none): enough to notice damage, at a quarter of the memory.
    """
    flat = {f"{name}.{field}": pc.struct_field(column, field) for field in ("uri", "offset", "length")}
    first_bits = _first_64_bits(pc.struct_field(column, "sha256"))
    return {**flat, f"{name}.uri": pc.dictionary_encode(flat[f"{name}.uri"]), f"{name}.sha64": first_bits}


def _first_64_bits(digests: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert hexadecimal digests to their first 64 bits as uint64; null stays null."""
    heads = pc.utf8_slice_codeunits(pc.fill_null(digests, "0" * 16), 0, 16).cast(pa.large_string()).combine_chunks()
    bits = np.frombuffer(bytes.fromhex("".join(heads.to_pylist())), ">u8").astype(np.uint64)
    return pa.chunked_array([pa.array(bits, mask=digests.is_null().to_numpy())])


def join_faces(identity_faces: pa.Table, faces: Faces) -> pa.Table:
    """Find the chosen faces that are usable: status ``ok``, with a crop.

    Args:
        identity_faces: One row per chosen face, schema ``IDENTITY_FACES``.
        faces: All faces, schema ``FACES``, as one table or as ``FaceParts``.

    Returns:
        One row for each row of ``identity_faces`` whose face is usable, in the same order. Columns: ``person``,
        ``rank``, ``id``, ``blob_columns`` of crop and matte, and the face's position in ``faces``: number of its
        ``part`` and ``row`` in that part.
    """
    chosen_ids = identity_faces["face_id"].combine_chunks()
    found, waiting, rows = [], [], 0
    for number, part in _read_parts(faces, ("face_id", "status", "crop", "matte"), None):
        positioned = part.append_column("row", pa.array(np.arange(len(part), dtype=np.int32)))
        positioned = positioned.append_column("part", pa.array(np.full(len(part), number, np.int32)))
        usable = positioned.filter(pc.and_(pc.equal(part["status"], "ok"), part["crop"].is_valid()))
        waiting.append(
            pa.table(
                {
                    "id": usable["face_id"],
                    **blob_columns(usable["crop"], "crop"),
                    **blob_columns(usable["matte"], "matte"),
                    "part": usable["part"],
                    "row": usable["row"],
                }
            )
        )
        rows += len(usable)
        if rows >= GATHERED_ROWS:
            gathered = pa.concat_tables(waiting)
            found.append(gathered.filter(pc.is_in(gathered["id"], value_set=chosen_ids)))
            waiting, rows = [], 0
    table = pa.concat_tables([*found, *waiting]).unify_dictionaries().combine_chunks()
    del found, waiting
    index = pc.index_in(chosen_ids, value_set=table["id"].combine_chunks())
    is_usable = index.is_valid()
    table = table.set_column(0, "id", table["id"].cast(pa.large_string())).take(index.filter(is_usable))
    chosen = identity_faces.select(["identity_id", "rank"]).filter(is_usable).rename_columns(["person", "rank"])
    return pa.table(
        {
            **dict(zip(chosen.column_names, chosen.columns, strict=True)),
            **dict(zip(table.column_names, table.columns, strict=True)),
        }
    )


def share_meshes(rows: pa.Table, faces: Faces) -> tuple[SharedMeshes, pa.Array]:
    """Write the face meshes of the chosen faces to a shared file, reading ``faces`` part by part.

    Args:
        rows: Table from ``join_faces``; columns ``id``, ``part`` and ``row`` are read.
        faces: All faces, schema ``FACES``, as one table or as ``FaceParts``; only parts with chosen faces are read.

    Returns:
        The meshes (x and y of each point), and for each row the number of its mesh, (n,) int32; null if the face has
        no mesh.

    Raises:
        ValueError: The faces changed since ``join_faces`` read them: another face is at a row's position.
    """
    index = np.full(len(rows), -1, np.int32)
    parts, local_rows = rows["part"].to_numpy(), rows["row"].to_numpy()
    turn = np.lexsort((local_rows, parts))
    numbers = parts[turn]

    def chunks() -> Iterator[NDArray[np.float32]]:
        written = 0
        for number, part in _read_parts(faces, ("face_id", "mesh468"), np.unique(numbers).tolist()):
            begin, end = np.searchsorted(numbers, [number, number + 1])
            if begin == end:
                continue
            positions = turn[begin:end]
            local, column = local_rows[positions], part["mesh468"]
            if not part["face_id"].take(local).cast(pa.large_string()).equals(rows["id"].take(positions)):
                raise ValueError("the faces of the snapshot changed while they were read; begin again")
            valid = column.is_valid().to_numpy()
            points = pc.list_flatten(column).to_numpy().reshape(-1, N_MESH, 3)  # only of faces with a mesh
            has_mesh = valid[local]
            chosen = (valid.cumsum() - 1)[local[has_mesh]]
            index[positions[has_mesh]] = np.arange(written, written + len(chosen))
            written += len(chosen)
            for first in range(0, len(chosen), WRITTEN_ROWS):
                yield np.ascontiguousarray(points[chosen[first : first + WRITTEN_ROWS], :, :2])

    meshes = SharedMeshes(chunks())
    return meshes, pa.array(index, mask=index < 0)


def _read_parts(
    faces: Faces, columns: Sequence[str], numbers: Collection[int] | None
) -> Iterator[tuple[int, pa.Table]]:
    if isinstance(faces, pa.Table):
        yield 0, faces.select(list(columns))
    else:
        yield from faces(columns, numbers)
