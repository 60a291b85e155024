"""Benchmark of publishing: a first snapshot, one with other thresholds, and one after one per cent more videos."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flows.bench import emit
from flows.bench.published_corpus import DrawnPeople, draw_corpus
from infra.peak_memory import peak_resident_bytes
from infra.storage import FolderStore, open_store
from mfhq.catalog import Catalog
from mfhq.paths import BIOMETRIC
from pipelines.engine.state import fingerprints
from pipelines.mining.steps import AFTER, mining_steps
from pipelines.publishing.publish_presets import preset_named
from pipelines.publishing.publish_snapshot import publish_snapshot

_FOLDERS = ("tables/", f"{BIOMETRIC}tables/", "publishing/", "snapshots/")


def bench_publish(people: int, faces_per_person: int) -> None:
    """Print a JSON line per publication: minutes, peak memory, bytes written, and their share of the snapshot's.

    The corpus is drawn into a folder below ``TMPDIR``, which takes some 3.5 kB a face, and as much again is published.
    Drawing is not counted. Each publication runs in a process of its own, whose memory is measured.

    Args:
        people: Number of people; each is in two videos.
        faces_per_person: Number of faces of a person.
    """
    with tempfile.TemporaryDirectory(prefix="bench-publish-") as root:
        corpus, clustering = Path(root) / "corpus", Path(root) / "clustering"
        clustering.mkdir()
        run_fresh(draw_people, corpus, DrawnPeople(0, people, faces_per_person), clustering)
        for name, changes in (("first", {}), ("other thresholds", {"min_sharpness": 60.0, "max_yaw_deg": 50.0})):
            emit("publish", kind=name, people=people, **run_fresh(publish_drawn, corpus, clustering, changes))
        run_fresh(draw_people, corpus, DrawnPeople(people, max(1, people // 100), faces_per_person), clustering)
        changes = {"min_sharpness": 60.0, "max_yaw_deg": 50.0}
        emit("publish", kind="1 % more videos", people=people, **run_fresh(publish_drawn, corpus, clustering, changes))


def run_fresh(function: Any, *arguments: Any) -> Any:
    """Run a function in a fresh process, and return its result.

    Args:
        function: The function; it and its arguments are pickled.
        *arguments: Its arguments.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _open(corpus: Path) -> FolderStore:
    store = open_store(str(corpus))
    assert isinstance(store, FolderStore), "a folder"
    return store


def draw_people(corpus: Path, people: DrawnPeople, clustering: Path) -> None:
    """Draw people into a corpus and a clustering (``draw_corpus``).

    Args:
        corpus: Folder of the corpus.
        people: The people.
        clustering: Folder of the clustering.
    """
    draw_corpus(_open(corpus), people, clustering)


def publish_drawn(corpus: Path, clustering: Path, changes: dict[str, float]) -> dict[str, Any]:
    """Publish drawn people, and return the figures of the publication.

    Args:
        corpus: Folder of the corpus.
        clustering: Folder of the clustering.
        changes: Thresholds that differ from those of the preset ``small``.
    """
    store = _open(corpus)
    before = {path for folder in _FOLDERS for path in store.list(folder)}
    assignments, means = (
        pa.concat_tables([pq.read_table(path) for path in sorted(clustering.glob(f"{name}-*.parquet"))])
        for name in ("assignments", "means")
    )
    began = time.perf_counter()
    prints = fingerprints(mining_steps(), AFTER)
    preset = preset_named("small", name="bench", **changes)
    ref = publish_snapshot(store, prints, assignments, preset, track_embeddings=means, run_id="bench")
    minutes, peak = (time.perf_counter() - began) / 60, peak_resident_bytes() / 1e9
    tables = Catalog(store).open(ref.version).manifest.tables
    total = sum(file.n_bytes for table in tables.values() for file in table.files)
    written = sum(store.size(path) for folder in _FOLDERS for path in store.list(folder) if path not in before)
    return {
        "faces": ref.rows["faces"],
        "chosen": ref.rows["identity_faces"],
        "minutes": round(minutes, 2),
        "peak_gb": round(peak, 2),
        "written_gb": round(written / 1e9, 3),
        "share_written": round(written / total, 4),
        "files": sum(len(table.files) for table in tables.values()),
    }
