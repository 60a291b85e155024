"""Inventory of a corpus for take-downs: the person and the video of each track, published or not."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mfhq.ids import shard_of
from mfhq.manifest import Manifest, read_manifest, versions
from mfhq.paths import BIOMETRIC, SOURCES
from mfhq.store import Store

STEPS = ("steps/", f"{BIOMETRIC}steps/")
"""Prefixes of steps' outputs."""

CACHES = "cache/"


@dataclass
class Inventory:
    """Ids of a corpus and their relations, read from every snapshot, the sources and the caches."""

    video_of: dict[str, str] = field(default_factory=dict)
    """Track to video."""
    assigned: dict[str, str] = field(default_factory=dict)
    """Track to identity, in the newest snapshot."""
    formerly_assigned: dict[str, str] = field(default_factory=dict)
    """Track to identity, for tracks that the newest snapshot lacks: as in the latest snapshot that has them."""
    uris_of: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Video to every URI at which it was found."""
    person_of: dict[str, str] = field(default_factory=dict)
    """Capture to identity."""
    replaced_by: dict[str, str] = field(default_factory=dict)
    """Identity that is no longer used to the identity that replaced it."""
    manifests: dict[str, Manifest] = field(default_factory=dict)


def take_inventory(store: Store) -> Inventory:
    """Read the ids, but no images or vectors, from every snapshot, the sources and the caches."""
    inventory = Inventory()
    for number in versions(store):
        manifest = read_manifest(store, number)
        inventory.manifests[manifest.name] = manifest
    read: set[str] = set()
    for manifest in inventory.manifests.values():
        inventory.formerly_assigned |= inventory.assigned
        inventory.assigned = dict(read_columns(store, manifest, "assignments", "track_id", "identity_id"))
        inventory.person_of |= dict(read_columns(store, manifest, "captures", "capture_id", "identity_id", read))
        inventory.replaced_by |= dict(read_columns(store, manifest, "aliases", "identity_id", "now", read))
        inventory.video_of |= dict(read_columns(store, manifest, "tracks", "track_id", "video_id", read))
        for video, uri in read_columns(store, manifest, "videos", "video_id", "uri", read):
            inventory.uris_of[video].add(uri)
    inventory.formerly_assigned = {
        track: who for track, who in inventory.formerly_assigned.items() if track not in inventory.assigned
    }
    for path in [*store.list(SOURCES), *store.list(CACHES)]:
        if path.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(store.read(path)))
            if {"video_id", "uri"} <= set(table.column_names):
                for video, uri in zip(table["video_id"].to_pylist(), table["uri"].to_pylist(), strict=True):
                    inventory.uris_of[video].add(uri)
    return inventory


def read_columns(
    store: Store, manifest: Manifest, name: str, key: str, value: str, read: set[str] | None = None
) -> Iterator[tuple[str, str]]:
    """Yield the values of two columns of a published table, row by row.

    Args:
        store: The corpus.
        manifest: The snapshot.
        name: The table.
        key: The first column.
        value: The second column.
        read: Paths of files to skip, to which the paths of the files that are read are added. None skips no file.
    """
    entry = manifest.tables.get(name)
    for file in entry.files if entry else ():
        if read is not None and file.path in read:
            continue
        if read is not None:
            read.add(file.path)
        try:
            table = pq.read_table(io.BytesIO(store.read(file.path)), columns=[key, value])
        except FileNotFoundError:  # its prefix was deleted; readers skip such files, too
            continue
        yield from zip(table[key].to_pylist(), table[value].to_pylist(), strict=True)


def list_shard_folders(store: Store) -> dict[str, list[str]]:
    """Return each shard folder of each step's output, written with a final slash, with the files in it."""
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for prefix in STEPS:
        for path in store.list(prefix):
            folder, _, name = path.rpartition("/")
            if name != "step.json":
                folders[f"{folder}/"].append(path)
    return dict(folders)


def shard_number(folder: str) -> int:
    """Return the logical shard of a folder of a step's output; -1 if its name is not a number."""
    name = folder.rstrip("/").rpartition("/")[2]
    try:
        return int(name, 16)
    except ValueError:
        return -1


def list_steps_of_other_items(store: Store) -> list[str]:
    """Return the folders of steps whose items are neither videos nor captures, but parts of them."""
    steps = [path for prefix in STEPS for path in store.list(prefix) if path.endswith("/step.json")]
    keys = {path.removesuffix("step.json"): json.loads(store.read(path))["key"] for path in steps}
    return [folder for folder, key in keys.items() if key not in ("video_id", "capture_id")]


def find_dependents(
    store: Store, folders: Mapping[str, list[str]], manifests: Mapping[str, Manifest], owners: set[str], rows: set[str]
) -> set[str]:
    """Find the tracks, faces, views and work items that belong to the given videos, tracks or captures.

    Args:
        store: The corpus.
        folders: Shard folders of the steps, with their files.
        manifests: Snapshots by version.
        owners: Ids of the videos, tracks and captures.
        rows: Ids of the videos and captures whose rows are searched.

    Returns:
        Their ids.
    """
    items, found = pa.array(sorted(rows), pa.string()), set[str]()
    tables = {
        f.path
        for m in manifests.values()
        for n in ("tracks", "faces", "views")
        if n in m.tables
        for f in m.tables[n].files
    }
    other_steps = tuple(list_steps_of_other_items(store))
    more_paths = (
        [p for folder, paths in folders.items() if folder.startswith(other_steps) for p in paths] if other_steps else []
    )
    more_paths += list(store.list(SOURCES))
    for path in [*sorted(tables), *_rows_in(folders, rows), *(p for p in more_paths if p.endswith(".parquet"))]:
        try:
            table = pq.read_table(io.BytesIO(store.read(path)))
        except FileNotFoundError:
            continue
        keys = [name for name in ("video_id", "capture_id") if name in table.column_names]
        if keys:
            mask = pc.is_in(table[keys[0]], value_set=items)
            names = [f.name for f in table.schema if _holds_ids(f)]
            for row in table.select(names).filter(mask).to_pylist():
                _collect_dependents(row, owners, False, found)
    return found


def read_step_tracks(store: Store, folders: Mapping[str, list[str]], videos: set[str]) -> dict[str, str]:
    """Read every track that any step found in the given videos, published or not.

    Args:
        store: The corpus.
        folders: Shard folders of the steps, with their files.
        videos: Ids of the videos.

    Returns:
        Track to video.
    """
    items, found = pa.array(sorted(videos), pa.string()), dict[str, str]()
    for path in _rows_in(folders, videos):
        table = pq.read_table(io.BytesIO(store.read(path)))
        if {"video_id", "tracks"} <= set(table.column_names):
            rows = table.select(["video_id", "tracks"]).filter(pc.is_in(table["video_id"], value_set=items))
            for row in rows.to_pylist():
                found |= {track["track_id"]: row["video_id"] for track in row["tracks"] or ()}
    return found


def _rows_in(folders: Mapping[str, list[str]], items: set[str]) -> Iterator[str]:
    """Yield the Parquet files in the shards of these items."""
    shards = {shard_of(item) for item in items}
    for folder, paths in folders.items():
        if shard_number(folder) in shards:
            yield from (path for path in paths if path.endswith(".parquet"))


def _holds_ids(f: pa.Field) -> bool:
    nested = pa.types.is_list(f.type) and pa.types.is_struct(f.type.value_type)
    return nested or f.name in {"video_id", "track_id", "face_id", "capture_id", "view_id", "item_id"}


def _collect_dependents(value: Any, owners: set[str], inside: bool, found: set[str]) -> None:
    if isinstance(value, list):
        for element in value:
            _collect_dependents(element, owners, inside, found)
    elif isinstance(value, dict):
        inside = inside or any(value.get(name) in owners for name in ("video_id", "track_id", "capture_id"))
        if inside:
            found.update(value[name] for name in ("track_id", "face_id", "view_id", "item_id") if value.get(name))
        for child in value.values():
            if isinstance(child, list | dict):
                _collect_dependents(child, owners, inside, found)


@dataclass(frozen=True, eq=False)
class FaceEmbeddings:
    """Face embeddings of one model, kept only in memory, for a search. Biometric data."""

    tracks: list[str]
    """(N,) track of each face."""
    videos: list[str]
    """(N,) video of each face."""
    vectors: npt.NDArray[np.float32]
    """(N, D) unit vectors."""


def read_face_embeddings(store: Store, folders: Mapping[str, list[str]], model: str) -> FaceEmbeddings:
    """Read every face embedding of a model in the private steps' outputs, published or not.

    Args:
        store: The corpus.
        folders: Shard folders of the steps, with their files.
        model: The embedding model.
    """
    tracks, videos, vectors = list[str](), list[str](), list[npt.NDArray[np.float32]]()
    for folder, paths in folders.items():
        if not folder.startswith(BIOMETRIC):
            continue
        for path in (path for path in paths if path.endswith(".parquet")):
            table = pq.read_table(io.BytesIO(store.read(path)))
            if not {"video_id", "model", "faces"} <= set(table.column_names):
                continue
            table = table.select(["video_id", "model", "faces"]).filter(pc.equal(table["model"], model))
            for row in table.to_pylist():
                for face in row["faces"] or ():
                    tracks.append(face["track_id"])
                    videos.append(row["video_id"])
                    vectors.append(np.asarray(face["vector"], np.float32))
    return FaceEmbeddings(tracks, videos, np.stack(vectors) if vectors else np.zeros((0, 0), np.float32))
