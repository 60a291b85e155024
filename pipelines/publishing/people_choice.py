"""Choice of the faces of a block of people, from their usable faces and the files of meshes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mfhq.parquet import StoredParquet
from mfhq.schema import CHOSEN, DIVERSITY, IDENTITY_FACES, TABLES
from mfhq.store import Store
from pipelines.publishing.diversity import MOST_SAMPLED, measure_diversity
from pipelines.publishing.face_selection import (
    BEST,
    MOST_CANDIDATES,
    N_POINTS,
    REASONS,
    FaceFeatures,
    PeopleBatch,
    choose_faces,
)
from pipelines.publishing.former_choices import KEYS, MOUTHS, FormerChoices, keys_of_people
from pipelines.publishing.publish_presets import Preset
from pipelines.publishing.table_files import TableFiles

_BATCH_FACES = 2048
_MESH_VALUES = 3 * N_POINTS
_CACHED_GROUPS_BYTES = 640 << 20
_CHOICE = pa.schema([*IDENTITY_FACES, *MOUTHS])
_LIPS, _CORNERS = (13, 14), (61, 291)
"""Mesh points: inner edge of the upper and of the lower lip; corners of the mouth."""


@dataclass(frozen=True)
class PeopleChooser:
    """Choice of faces under one preset; what was chosen of the same faces before is taken from there."""

    preset: Preset
    meshes: StoredMeshes
    former: FormerChoices
    split_of: Callable[[str], str]
    """Function that returns the split of a person."""

    def choose(self, faces: pa.Table) -> dict[str, pa.Table]:
        """Choose the faces of people.

        Args:
            faces: The rows of the query in ``people_tables``: ok faces of complete people, sorted by person and face.

        Returns:
            Rows of ``identity_faces``, ``diversity`` and ``chosen``, and of ``former_choices.KEYS`` and ``MOUTHS``.
        """
        starts, places = starts_of_people(faces["identity_id"]), faces["place"].to_numpy()
        keys = keys_of_people(faces["hash"].to_numpy(), self.meshes.file_numbers(places), starts)
        known = self.former.find(keys)
        is_fresh = np.repeat(known < 0, np.diff([*starts, faces.num_rows]))
        found = self.former.rows(known[known >= 0])
        if is_fresh.any():
            fresh = choose_for_people(faces.filter(pa.array(is_fresh)), self.meshes.read(places[is_fresh]), self.preset)
            found = {name: _merge(found[name], fresh[name]) for name in found}
        rows = found["identity_faces"]
        owners = pc.index_in(
            rows["identity_id"], value_set=faces["identity_id"].take(pa.array(starts)).combine_chunks()
        )
        n_chosen = np.bincount(owners.to_numpy(), minlength=len(starts)).astype(np.int32)
        return {
            "identity_faces": rows.select(IDENTITY_FACES.names),
            "diversity": found["diversity"],
            "chosen": chosen_rows(faces, rows, self.split_of),
            "keys": pa.table([keys[:, 0], keys[:, 1], n_chosen], schema=KEYS),
            "mouths": rows.select(MOUTHS.names),
        }


def _merge(former: pa.Table, fresh: pa.Table) -> pa.Table:
    order = [(name, "ascending") for name in ("identity_id", "face_id") if name in fresh.column_names]
    return pa.concat_tables([former, fresh]).sort_by(order)


def chosen_rows(faces: pa.Table, choice: pa.Table, split_of: Callable[[str], str]) -> pa.Table:
    """Return rows of the table ``chosen``.

    Args:
        faces: Usable faces, with the columns of ``mfhq.schema.CHOSEN`` that are the face's.
        choice: Rows of ``identity_faces`` with ``mouth_open``, of these faces.
        split_of: Function that returns the split of a person.
    """
    choice = choice.sort_by([("identity_id", "ascending"), ("rank", "ascending")])
    own = faces.take(pc.index_in(choice["face_id"], value_set=faces["face_id"].combine_chunks()))
    people = choice["identity_id"].combine_chunks().dictionary_encode()
    splits = pa.array([split_of(name) for name in people.dictionary.to_pylist()], pa.string())
    columns = {name: own[name] for name in own.column_names} | {name: choice[name] for name in choice.column_names}
    columns |= {"split": splits.take(people.indices), "width_px": pc.subtract(own["x1"], own["x0"])}
    return pa.table({f.name: columns[f.name] for f in CHOSEN})


def choose_for_people(faces: pa.Table, meshes: npt.NDArray[np.float32], preset: Preset) -> dict[str, pa.Table]:
    """Choose the faces of people and measure their diversity; a pure function.

    Args:
        faces: Ok faces, ``mfhq.schema.FACES`` columns and ``identity_id``, sorted by person and face id.
        meshes: (N, 1404) their meshes, NaN where there is none.
        preset: Number of faces per person, and their least difference.

    Returns:
        Rows of ``identity_faces``, with ``mouth_open`` (``mfhq.schema.CHOSEN``), and of ``diversity``.
    """
    features = FaceFeatures.of(faces, meshes)
    starts = starts_of_people(faces["identity_id"])
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
        "mouth_open": mouths_open(meshes[chosen[person, rank]]),
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
        "identity_faces": pa.table([chosen_table[f.name] for f in _CHOICE], schema=_CHOICE).sort_by(
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


def mouths_open(meshes: npt.NDArray[np.float32]) -> pa.Array:
    """Return how far mouths are open: the distance of the lips' inner edges as a share of the mouth's width.

    Args:
        meshes: (N, 1404) meshes, NaN where there is none.

    Returns:
        (N,) float32; null where there is no mesh.
    """
    points = meshes.reshape(len(meshes), N_POINTS, 3)
    gap, width = (np.linalg.norm(points[:, a] - points[:, b], axis=1) for a, b in (_LIPS, _CORNERS))
    return pa.array(np.round(gap / np.maximum(width, 1e-6), 4).astype(np.float32), from_pandas=True)


def starts_of_people(identities: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the first row of each person.

    Args:
        identities: (N,) person of each row, sorted.

    Returns:
        (P,) row numbers.
    """
    ids = identities.combine_chunks()
    differs = pc.not_equal(ids.slice(1), ids.slice(0, max(len(ids) - 1, 0))).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.flatnonzero(differs) + 1]).astype(np.int64)[: len(ids)]


class StoredMeshes:
    """Meshes by their row in all files; the row groups that were read last are kept."""

    def __init__(self, store: Store, files: TableFiles) -> None:
        """Open the files.

        Args:
            store: The corpus.
            files: Files of the table ``meshes``.
        """
        paths = [file.path for file in files.files]
        self._file_starts = np.cumsum([0, *(file.rows for file in files.files)])
        self._file_numbers = np.array([int(PurePosixPath(path).stem[:16], 16) for path in paths] or [0], np.uint64)
        opened = [StoredParquet(store, path, TABLES["meshes"]) for path in paths]
        self._groups = [(file, group) for file in opened for group in range(file.row_groups)]
        self._starts = np.cumsum([0, *(file.group_rows(group) for file, group in self._groups)])
        self._cached: OrderedDict[int, npt.NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def file_numbers(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """Return the number of the file with each mesh: the beginning of its name, which names its content.

        Args:
            places: (N,) rows in all files.
        """
        return self._file_numbers[np.searchsorted(self._file_starts, places, side="right") - 1]

    def read(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return meshes; NaN where there is none.

        Args:
            places: (N,) rows in all files.

        Returns:
            (N, 1404) float32.
        """
        found = np.empty((len(places), _MESH_VALUES), np.float32)
        with self._lock:  # and not two at once: threads that read one file through Arrow were seen to hang
            self._read_into(found, places)
        return found

    def _read_into(self, found: npt.NDArray[np.float32], places: npt.NDArray[np.int64]) -> None:
        group_of = np.searchsorted(self._starts, places, side="right") - 1
        order = np.argsort(group_of, kind="stable")
        groups, first = np.unique(group_of[order], return_index=True)
        for number, rows in zip(groups.tolist(), np.split(order, first[1:]), strict=True):
            points = self._decode(number)
            found[rows] = points[places[rows] - self._starts[number]]
            self._cached[number] = points
            self._cached.move_to_end(number)
            while sum(map(len, self._cached.values())) * _MESH_VALUES * 4 > _CACHED_GROUPS_BYTES:
                self._cached.popitem(last=False)

    def _decode(self, number: int) -> npt.NDArray[np.float32]:
        """Return the meshes of a row group, from the cache or from its file."""
        if number in self._cached:
            return self._cached[number]
        file, group = self._groups[number]
        column = file.read(group, ["mesh468"])["mesh468"]
        flat = pc.list_flatten(column).to_numpy().reshape(-1, _MESH_VALUES)
        if not column.null_count:
            return flat
        points = np.full((len(column), _MESH_VALUES), np.nan, np.float32)
        points[column.is_valid().to_numpy()] = flat
        return points
