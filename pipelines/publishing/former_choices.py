"""Choices of faces that were published before, and are used again for people whose faces did not change.

A person is known by a key: a sum of hashes of all that the choice depends on, the usable faces and the files of their
meshes. A record below ``publishing/`` names the files of the newest publication with the same rules of choice, and a
file with the key and the number of rows of each person in them. There is no id in it: rows are found by their place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mfhq.ids import digest
from mfhq.parquet import StoredRows
from mfhq.schema import DIVERSITY, IDENTITY_FACES
from mfhq.store import Store
from pipelines.publishing.publish_presets import Preset
from pipelines.publishing.segment_records import read_record, write_record, write_rows
from pipelines.publishing.table_files import TableFiles

VERSION = 1
"""Version of the choice of faces and of its measures; raised when they come out otherwise."""

KEYS = pa.schema([("key", pa.uint64()), ("check", pa.uint64()), ("n_chosen", pa.int32())])
"""Schema of the file of the people, in the order of their rows in ``identity_faces`` and ``diversity``."""
MOUTHS = pa.schema([("mouth_open", pa.float32())])
"""Schema of the file with a column of the table ``chosen``, in the order of the rows of ``identity_faces``."""

_SCHEMAS = {"identity_faces": IDENTITY_FACES, "diversity": DIVERSITY, "keys": KEYS, "mouths": MOUTHS}

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class FormerChoices:
    """Choices of a publication with the same rules; none if there was none, or if one of its files is gone."""

    files: dict[str, StoredRows]
    """Rows by name of the file: ``identity_faces``, ``diversity``, ``keys`` and ``mouths``; empty for none."""
    n_people: int = 0

    @classmethod
    def read(cls, store: Store, preset: Preset, deep: bool = False) -> FormerChoices:
        """Find the choices.

        Args:
            store: The corpus.
            preset: The rules.
            deep: Compute the sha256 of large files too.
        """
        found = read_record(store, _record_key(preset), deep)
        if found is None:
            return cls({})
        paths = {name: [file.path for file in table.files] for name, table in found.tables.items()}
        files = {name: StoredRows(store, paths[name], schema) for name, schema in _SCHEMAS.items()}
        return cls(files, found.tables["keys"].sum.rows)

    def find(self, keys: Keys) -> npt.NDArray[np.int64]:
        """Return the place of each person among those of the publication; -1 if there is none with these faces.

        Args:
            keys: (N, 2) keys of people.
        """
        known, order = self._people
        if not len(order):
            return np.full(len(keys), -1, np.int64)
        place = order[np.minimum(np.searchsorted(known["key"], keys[:, 0], sorter=order), len(order) - 1)]
        same = (known["key"][place] == keys[:, 0]) & (known["check"][place] == keys[:, 1])
        return np.where(same, place, -1)

    def rows(self, places: npt.NDArray[np.int64]) -> dict[str, pa.Table]:
        """Return the rows of people in ``identity_faces`` (with ``mouth_open``) and ``diversity``.

        Args:
            places: (N,) places of people, ascending.
        """
        chosen = self._rows_of("identity_faces", "n_chosen", places)
        mouths = self._rows_of("mouths", "n_chosen", places)
        return {
            "identity_faces": chosen.append_column("mouth_open", mouths["mouth_open"]),
            "diversity": self._rows_of("diversity", "n_measured", places),
        }

    def _rows_of(self, name: str, counted: str, places: npt.NDArray[np.int64]) -> pa.Table:
        if not len(places):
            return _SCHEMAS[name].empty_table()
        counts, starts = (values[places] for values in self._ranges[counted])
        first = int(starts[0])
        rows = self.files[name].read(first, int(starts[-1] + counts[-1]) - first, _SCHEMAS[name].names)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return rows.take(pa.array(np.repeat(starts - first, counts) + within))

    @cached_property
    def _people(self) -> tuple[dict[str, npt.NDArray[np.generic]], npt.NDArray[np.int64]]:
        """Columns of ``KEYS``, and the order of the people by key."""
        table = self.files["keys"].read(0, self.n_people, KEYS.names) if self.files else KEYS.empty_table()
        columns = {name: table[name].to_numpy() for name in KEYS.names}
        return columns, np.argsort(columns["key"], kind="stable")

    @cached_property
    def _ranges(self) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Number of rows of each person, and the first of them; those of ``diversity`` are of two faces or more."""
        n_chosen = self._people[0]["n_chosen"].astype(np.int64)
        counts = {"n_chosen": n_chosen, "n_measured": (n_chosen > 1).astype(np.int64)}
        return {name: (n, np.cumsum(n) - n) for name, n in counts.items()}


def record_choices(
    store: Store,
    preset: Preset,
    tables: dict[str, TableFiles],
    people: list[pa.Table],
    mouths: list[pa.Table],
) -> None:
    """Record the choices of this publication for the next one.

    Args:
        store: The corpus.
        preset: The rules.
        tables: Files of ``identity_faces`` and ``diversity``.
        people: Rows of ``KEYS``, in the order of the people.
        mouths: Rows of ``MOUTHS``, in the order of ``identity_faces``.
    """
    named = {name: tables[name] for name in ("identity_faces", "diversity")}
    named |= {"keys": write_rows(store, KEYS, people), "mouths": write_rows(store, MOUTHS, mouths)}
    write_record(store, _record_key(preset), named)


def keys_of_people(hashes: Keys, mesh_files: Keys, starts: npt.NDArray[np.int64]) -> Keys:
    """Return the keys of people.

    Args:
        hashes: (N,) hash of each usable face with its person and what the choice depends on, sorted by person.
        mesh_files: (N,) number of the file with the face's mesh, which names its content.
        starts: (P,) first row of each person.

    Returns:
        (P, 2) keys.
    """
    if not len(starts):
        return np.empty((0, 2), np.uint64)
    rows = _mix(_mix(hashes) ^ mesh_files)
    return np.stack([np.add.reduceat(rows, starts), np.add.reduceat(_mix(~rows), starts)], axis=1)


def _mix(values: Keys) -> Keys:
    """Spread the bits of numbers (the last steps of MurmurHash3)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        values = (values ^ (values >> np.uint64(33))) * np.uint64(factor)
    return values ^ (values >> np.uint64(33))


def _record_key(preset: Preset) -> str:
    return digest([VERSION, "choices", preset.faces_per_identity, preset.min_difference])
