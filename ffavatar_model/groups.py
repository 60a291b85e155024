"""People and their pictures as Arrow tables that loader processes share; a row is a dictionary once it is drawn."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, overload

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
            for name, column in zip(self.table.column_names, self.table.columns, strict=True) if column.num_chunks
        ]  # fmt: skip
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


class Pictures(Sequence[Row]):
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


class Groups(Sequence[tuple[str, Pictures]]):
    """(person, pictures) of everybody who has two pictures or more, by person."""

    def __init__(self, people: SharedTable, pictures: SharedTable) -> None:
        """``people``: columns ``person``, ``begin`` and ``length`` of the rows in ``pictures`` (one with ``id``)."""
        self._people, self._pictures = people, pictures

    def __len__(self) -> int:
        return len(self._people)

    @overload
    def __getitem__(self, i: int) -> tuple[str, Pictures]: ...
    @overload
    def __getitem__(self, i: slice) -> list[tuple[str, Pictures]]: ...
    def __getitem__(self, i: int | slice) -> tuple[str, Pictures] | list[tuple[str, Pictures]]:
        places = range(len(self))[i]
        return self._group(places) if isinstance(places, int) else [self._group(place) for place in places]

    def __iter__(self) -> Iterator[tuple[str, Pictures]]:
        return map(self._group, range(len(self)))

    def _group(self, i: int) -> tuple[str, Pictures]:
        row = self._people.row(i)
        return row["person"], Pictures(self._pictures, row["begin"], row["length"])

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
    people = pa.table({
        "person": coded.dictionary.take(sorted_ids), "begin": length.cumsum() - length, "length": length,
    })  # fmt: skip
    return people.filter(pa.array(length > 0)), rows.drop_columns("person").take(turn)


def located(column: pa.ChunkedArray, name: str) -> dict[str, pa.ChunkedArray]:
    """A column of ``mfhq.schema.BLOB_REF`` as columns of a ``SharedTable``, without the digests."""
    flat = {f"{name}.{part}": pc.struct_field(column, part) for part in ("uri", "offset", "length")}
    return {**flat, f"{name}.uri": pc.dictionary_encode(flat[f"{name}.uri"])}


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
