"""What a corpus holds, as far as a take-down must know it: whose track is in which video, published or not."""

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
from mfhq.manifest import Manifest, versions
from mfhq.paths import BIOMETRIC, SOURCES, snapshot_path
from mfhq.store import Store

STEPS = ("steps/", f"{BIOMETRIC}steps/")
"""Where steps' outputs lie."""

CACHES = "cache/"


@dataclass
class Inventory:
    """Ids and what belongs to what, from every snapshot, the sources and the caches."""

    video_of: dict[str, str] = field(default_factory=dict)
    """Track to video."""
    assigned: dict[str, str] = field(default_factory=dict)
    """Track to identity, in the newest snapshot."""
    once: dict[str, str] = field(default_factory=dict)
    """Track to identity in the latest snapshot that has it, where that is not the newest."""
    uris_of: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Video to every URI that it was found at."""
    person_of: dict[str, str] = field(default_factory=dict)
    """Capture to identity."""
    stands_for: dict[str, str] = field(default_factory=dict)
    """Retired identity to the one that stands for it."""
    manifests: dict[str, Manifest] = field(default_factory=dict)


def take_inventory(store: Store) -> Inventory:
    """Read ids, and no picture or vector, from every snapshot, the sources and the caches."""
    found = Inventory()
    for number in versions(store):
        manifest = Manifest.from_json(store.read(snapshot_path(number)))
        found.manifests[manifest.name] = manifest
    read: set[str] = set()
    for manifest in found.manifests.values():
        found.once |= found.assigned
        found.assigned = dict(rows_of(store, manifest, "assignments", "track_id", "identity_id"))
        found.person_of |= dict(rows_of(store, manifest, "captures", "capture_id", "identity_id", read))
        found.stands_for |= dict(rows_of(store, manifest, "aliases", "identity_id", "now", read))
        found.video_of |= dict(rows_of(store, manifest, "tracks", "track_id", "video_id", read))
        for video, uri in rows_of(store, manifest, "videos", "video_id", "uri", read):
            found.uris_of[video].add(uri)
    found.once = {track: who for track, who in found.once.items() if track not in found.assigned}
    for path in [*store.list(SOURCES), *store.list(CACHES)]:
        if path.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(store.read(path)))
            if {"video_id", "uri"} <= set(table.column_names):
                for video, uri in zip(table["video_id"].to_pylist(), table["uri"].to_pylist(), strict=True):
                    found.uris_of[video].add(uri)
    return found


def rows_of(
    store: Store, manifest: Manifest, name: str, key: str, value: str, read: set[str] | None = None
) -> Iterator[tuple[str, str]]:
    """(key, value) of a published table's rows; files that ``read`` names are passed over, and named from then on."""
    entry = manifest.tables.get(name)
    for file in entry.files if entry else ():
        if read is not None and file.path in read:
            continue
        if read is not None:
            read.add(file.path)
        try:
            table = pq.read_table(io.BytesIO(store.read(file.path)), columns=[key, value])
        except FileNotFoundError:  # deleted with its prefix: readers go on without it, too
            continue
        yield from zip(table[key].to_pylist(), table[value].to_pylist(), strict=True)


def shard_folders(store: Store) -> dict[str, list[str]]:
    """Every shard folder of every step's output (with a slash at its end), with the files in it."""
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for prefix in STEPS:
        for path in store.list(prefix):
            folder, _, name = path.rpartition("/")
            if name != "step.json":
                folders[f"{folder}/"].append(path)
    return dict(folders)


def shard_number(folder: str) -> int:
    """The logical shard of a folder of a step's output; -1 where its name is none."""
    name = folder.rstrip("/").rpartition("/")[2]
    try:
        return int(name, 16)
    except ValueError:
        return -1


def keyed_otherwise(store: Store) -> list[str]:
    """Folders of steps whose items are neither videos nor captures, but pieces of them."""
    steps = [path for prefix in STEPS for path in store.list(prefix) if path.endswith("/step.json")]
    keys = {path.removesuffix("step.json"): json.loads(store.read(path))["key"] for path in steps}
    return [folder for folder, key in keys.items() if key not in ("video_id", "capture_id")]


def belonging(
    store: Store, folders: Mapping[str, list[str]], manifests: Mapping[str, Manifest], owners: set[str], rows: set[str]
) -> set[str]:
    """Ids of the tracks, faces, views and items of work that belong to ``owners`` (videos, tracks, captures).

    ``rows`` are the videos and captures whose rows can hold some.
    """
    wanted, found = pa.array(sorted(rows), pa.string()), set[str]()
    tables = {
        f.path
        for m in manifests.values()
        for n in ("tracks", "faces", "views")
        if n in m.tables
        for f in m.tables[n].files
    }
    otherwise = tuple(keyed_otherwise(store))
    more = [p for folder, paths in folders.items() if folder.startswith(otherwise) for p in paths] if otherwise else []
    more += list(store.list(SOURCES))
    for path in [*sorted(tables), *_rows_in(folders, rows), *(p for p in more if p.endswith(".parquet"))]:
        try:
            table = pq.read_table(io.BytesIO(store.read(path)))
        except FileNotFoundError:
            continue
        keys = [name for name in ("video_id", "capture_id") if name in table.column_names]
        if keys:
            mask = pc.is_in(table[keys[0]], value_set=wanted)
            names = [f.name for f in table.schema if _is_wanted(f)]
            for row in table.select(names).filter(mask).to_pylist():
                _belonging(row, owners, False, found)
    return found


def step_tracks(store: Store, folders: Mapping[str, list[str]], videos: set[str]) -> dict[str, str]:
    """Track to video of every track that some step found in these videos, published or not."""
    wanted, found = pa.array(sorted(videos), pa.string()), dict[str, str]()
    for path in _rows_in(folders, videos):
        table = pq.read_table(io.BytesIO(store.read(path)))
        if {"video_id", "tracks"} <= set(table.column_names):
            rows = table.select(["video_id", "tracks"]).filter(pc.is_in(table["video_id"], value_set=wanted))
            for row in rows.to_pylist():
                found |= {track["track_id"]: row["video_id"] for track in row["tracks"] or ()}
    return found


def _rows_in(folders: Mapping[str, list[str]], items: set[str]) -> Iterator[str]:
    """Files of rows in the shards of these items."""
    shards = {shard_of(item) for item in items}
    for folder, paths in folders.items():
        if shard_number(folder) in shards:
            yield from (path for path in paths if path.endswith(".parquet"))


def _is_wanted(f: pa.Field) -> bool:
    nested = pa.types.is_list(f.type) and pa.types.is_struct(f.type.value_type)
    return nested or f.name in {"video_id", "track_id", "face_id", "capture_id", "view_id", "item_id"}


def _belonging(value: Any, owners: set[str], inside: bool, found: set[str]) -> None:
    if isinstance(value, list):
        for element in value:
            _belonging(element, owners, inside, found)
    elif isinstance(value, dict):
        inside = inside or any(value.get(name) in owners for name in ("video_id", "track_id", "capture_id"))
        if inside:
            found.update(value[name] for name in ("track_id", "face_id", "view_id", "item_id") if value.get(name))
        for child in value.values():
            if isinstance(child, list | dict):
                _belonging(child, owners, inside, found)


@dataclass(frozen=True, eq=False)
class Embedded:
    """Face embeddings of one model, in memory for a search and nowhere else. Biometric data."""

    tracks: list[str]
    videos: list[str]
    vectors: npt.NDArray[np.float32]
    """(N, D), unit."""


def embedded_faces(store: Store, folders: Mapping[str, list[str]], model: str) -> Embedded:
    """Every face embedding of a model in the private steps' outputs, published or not."""
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
    return Embedded(tracks, videos, np.stack(vectors) if vectors else np.zeros((0, 0), np.float32))
