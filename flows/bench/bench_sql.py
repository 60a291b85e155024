"""Benchmark of SQL: each named question beside the same one by hand in pyarrow, on a disk and from an S3 server."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from pyarrow import fs

import mfhq
from flows.bench import emit
from flows.bench.bench_publish import draw_people, publish_drawn, run_fresh
from flows.bench.local_s3 import BUCKET, local_s3
from flows.bench.published_corpus import DrawnPeople
from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.named_queries import named_queries
from mfhq.paths import LEDGER, RUNS

MILLION = (
    "SELECT face_id, track_id, video_id, frame_index, yaw_deg, pitch_deg, sharpness, status FROM faces LIMIT 1000000"
)
"""Query whose rows are written as CSV."""

_THREADS = 8


def bench_sql(people: int, faces_per_person: int, corpus: str | None = None, s3: bool = True) -> None:
    """Print a JSON line for the start, for each named question, and for a million rows as CSV.

    Each figure is taken in a process of its own. Questions are beside pyarrow over the same files where that is one
    scan of one table, or a scan and a join.

    Args:
        people: Number of drawn people; each is in two videos. They are drawn without meshes, so nobody opens the
            mouth in ``expression_coverage``, and published below ``TMPDIR``.
        faces_per_person: Number of faces of a person.
        corpus: URI of a published corpus to ask instead; None to draw one.
        s3: Ask a copy of the snapshot on a local S3 server too.
    """
    with tempfile.TemporaryDirectory(prefix="bench-sql-") as root:
        uri = corpus or _draw(Path(root), DrawnPeople(0, people, faces_per_person, meshes=False))
        _measure("disk" if "://" not in uri or uri.startswith("file:") else "s3", uri)
        if s3:
            with local_s3(root) as _:
                copy = f"s3://{BUCKET}/drawn"
                run_fresh(_copy_snapshot, uri, copy)
                _measure("local s3", copy)


def _draw(root: Path, people: DrawnPeople) -> str:
    clustering = root / "clustering"
    clustering.mkdir()
    run_fresh(draw_people, root / "corpus", people, clustering)
    run_fresh(publish_drawn, root / "corpus", clustering, {})
    return str(root / "corpus")


def _copy_snapshot(uri: str, to: str) -> None:
    """Copy what queries read of the newest snapshot."""
    source, target = open_store(uri), open_store(to)
    manifest = Catalog(source).open().manifest
    paths = [file.path for table in manifest.tables.values() for file in table.files]
    paths += [*source.list(LEDGER), *source.list(RUNS)]
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda path: target.write(path, source.read(path)), paths))
    target.write(f"snapshots/{manifest.name}.json", source.read(f"snapshots/{manifest.name}.json"))


def _measure(place: str, uri: str) -> None:
    rows = run_fresh(_count_rows, uri)
    emit("sql", place=place, question="start (SELECT 1)", **rows, **run_fresh(_command, uri, "SELECT 1", []))
    for name in named_queries():
        emit("sql", place=place, question=name, **rows, **run_fresh(_ask, uri, name), **run_fresh(_by_hand, uri, name))
    emit("sql", place=place, question="a million rows to csv", **rows, **run_fresh(_command, uri, MILLION, ["--csv"]))


def _count_rows(uri: str) -> dict[str, int]:
    tables = Catalog(open_store(uri)).open().manifest.tables
    return {name: tables[name].rows if name in tables else 0 for name in ("faces", "identities")}


def _command(uri: str, sql: str, words: list[str]) -> dict[str, Any]:
    """Run the command line, and return its seconds and its peak memory."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "flows.cli", "sql", sql, "--corpus", uri, *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"seconds": round(seconds, 2), "peak_mb": round(peak / 1024)}


def _ask(uri: str, name: str) -> dict[str, Any]:
    began = time.perf_counter()
    with mfhq.connect(uri) as connection:
        opened = time.perf_counter()
        rows = connection.ask(name).num_rows
        return {
            "open_seconds": round(opened - began, 2),
            "seconds": round(time.perf_counter() - opened, 2),
            "rows": rows,
        }


def _by_hand(uri: str, name: str) -> dict[str, float]:
    if name not in BY_HAND:
        return {}
    store = open_store(uri)
    tables = Catalog(store).open().manifest.tables

    def dataset(table: str) -> pads.Dataset:
        files = [store.url(file.path) for file in tables[table].files]
        return pads.dataset(files, filesystem=_arrow_filesystem(uri))

    if any(table not in tables for table in BY_HAND[name][0]):
        return {}
    began = time.perf_counter()
    BY_HAND[name][1](*map(dataset, BY_HAND[name][0]))
    return {"pyarrow_seconds": round(time.perf_counter() - began, 2)}


def _arrow_filesystem(uri: str) -> Any:
    """Return Arrow's own file system for a corpus, which is what one would use by hand."""
    if not uri.startswith("s3://"):
        return fs.LocalFileSystem()
    url = urllib.parse.urlparse(os.environ["FFAVATAR_S3_ENDPOINT"])
    return fs.S3FileSystem(endpoint_override=url.netloc, scheme=url.scheme, region="us-east-1")


def _rounded(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.round(pc.divide(values, 15.0))


def _pose_coverage(chosen: pads.Dataset) -> pa.Table:
    rows = chosen.to_table(["yaw_deg", "pitch_deg", "identity_id"])
    table = pa.table({"y": _rounded(rows["yaw_deg"]), "p": _rounded(rows["pitch_deg"]), "id": rows["identity_id"]})
    return table.group_by(["y", "p"]).aggregate([("id", "count"), ("id", "count_distinct")])


def _turned_people(chosen: pads.Dataset) -> pa.Table:
    rows = chosen.to_table(["identity_id"], filter=pc.greater(pc.abs(pc.field("yaw_deg")), 30.0))
    counted = rows.group_by("identity_id").aggregate([("identity_id", "count")])
    return counted.filter(pc.field("identity_id_count") >= 5)


def _rejections(faces: pads.Dataset, videos: pads.Dataset) -> pa.Table:
    counted = faces.to_table(["video_id", "status", "reason"])
    counted = counted.group_by(["video_id", "status", "reason"]).aggregate([([], "count_all")])
    placed = counted.join(videos.to_table(["video_id", "uri"]), "video_id")
    source = pc.replace_substring_regex(placed["uri"], "/[^/]*$", "")
    table = placed.append_column("source", source)
    return table.group_by(["source", "status", "reason"]).aggregate([("count_all", "sum")])


def _licences(videos: pads.Dataset, chosen: pads.Dataset) -> pa.Table:
    files = videos.to_table(["video_id", "licence", "consent", "duration_s"])
    used = chosen.to_table(["video_id", "identity_id"]).join(
        files.select(["video_id", "licence", "consent"]), "video_id"
    )
    people = used.group_by(["licence", "consent"]).aggregate([([], "count_all"), ("identity_id", "count_distinct")])
    return (
        files.group_by(["licence", "consent"]).aggregate([("duration_s", "sum")]).join(people, ["licence", "consent"])
    )


def _people_by_size(identities: pads.Dataset) -> pa.Table:
    rows = identities.to_table(["n_videos", "n_faces", "n_tracks"])
    return rows.group_by(["n_videos", "n_faces"]).aggregate([([], "count_all"), ("n_tracks", "sum")])


def _unused_videos(videos: pads.Dataset) -> pa.Table:
    unused = (pc.field("status") != "ok") | (pc.field("reason") != "")
    return videos.to_table(["uri", "status", "reason", "n_frames", "n_frames_decoded"], filter=unused)


BY_HAND: dict[str, tuple[tuple[str, ...], Callable[..., pa.Table]]] = {
    "licences": (("videos", "chosen"), _licences),
    "people_by_size": (("identities",), _people_by_size),
    "pose_coverage": (("chosen",), _pose_coverage),
    "rejections": (("faces", "videos"), _rejections),
    "turned_people": (("chosen",), _turned_people),
    "unused_videos": (("videos",), _unused_videos),
}
"""Question to the tables that it needs, and the same in pyarrow."""
