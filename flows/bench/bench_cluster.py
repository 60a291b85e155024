"""``ffavatar bench cluster``: how well and how fast people are told apart, beside what one would take instead.

Each method runs in a process of its own, so that ``peak_gb`` is its own (the vectors are part of it); ``seconds`` are
those of the clustering, without drawing or reading the vectors; ``cpu_seconds`` are those of all cores together, which
other work on the machine moves less.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.bench import emit
from flows.bench.clustered_corpus import cluster_files, fill_corpus
from infra.console import CallError, err
from pipelines.faces.pack import EMBEDDED_THRESHOLD
from pipelines.identity.bcubed import bcubed
from pipelines.identity.calibration import calibrate, labelled_pairs
from pipelines.identity.checks import checked_vectors
from pipelines.identity.constraints import TrackSpans
from pipelines.identity.linkage import cluster_rows, connected
from pipelines.samples.track_embeddings import draw_tracks

log = logging.getLogger(__name__)

Labels = npt.NDArray[np.int64]
Tracks = dict[str, npt.NDArray[Any]]

OURS = "ffavatar"
METHODS = (OURS, "faiss+components", "sklearn-average", "sklearn-hdbscan")
MOST: dict[str, int] = {"sklearn-average": 20_000, "sklearn-hdbscan": 20_000}
"""Tracks up to which a method is run: beyond, average linkage needs 8 bytes a pair and HDBSCAN hours."""
CALIBRATION_TRACKS, CALIBRATION_SEED = 10_000, 7_777
"""The threshold is calibrated on other people than those who are clustered."""


def bench_cluster(
    sizes: Sequence[int],
    widths: Sequence[int],
    methods: Sequence[str],
    seed: int,
    vectors: Path | None,
    threshold: float | None,
    new: int,
) -> None:
    """Print a JSON line a method and size, one for each growth from size to size, and one for new tracks joining."""
    for width in widths if vectors is None else [0]:
        took: dict[int, tuple[float, float]] = {}
        for n in sizes if vectors is None else [0]:
            with tempfile.TemporaryDirectory(prefix="bench-cluster-") as folder:
                path = vectors or _drawn(Path(folder) / "tracks.npz", n, width, seed)
                shape = _shape(path)
                cut = threshold or (_calibrated(shape[1], shape[0]) if vectors is None else EMBEDDED_THRESHOLD)
                for method in methods:
                    if shape[0] > MOST.get(method, shape[0]):
                        err.print(f"{method}: not run at {shape[0]} tracks; it can do {MOST[method]}", markup=False)
                        continue
                    figure = _apart(_measure, method, path, cut)
                    emit("cluster", method=method, tracks=shape[0], width=shape[1], threshold=cut, **figure)
                    if method == OURS:
                        took[shape[0]] = figure["seconds"], figure["cpu_seconds"]
                if 0 < new < shape[0] // 2:
                    figure = _new_joins(path, cut, shape[0], new, f"{folder}/corpus")
                    emit("cluster-new", method=OURS, tracks=shape[0], width=shape[1], new=new, threshold=cut, **figure)
        for small, large in zip(sorted(took), sorted(took)[1:], strict=False):
            wall, cpu = (
                round(math.log(more / less) / math.log(large / small), 3)
                for less, more in zip(took[small], took[large], strict=True)
            )
            emit("cluster-growth", method=OURS, width=width, start=small, end=large, exponent=wall, cpu_exponent=cpu)


def _drawn(path: Path, n: int, width: int, seed: int) -> Path:
    tracks = draw_tracks(n, width, seed)
    columns = {name: getattr(tracks, name) for name in ("vectors", "person", "video", "start", "end")}
    np.savez(path, **columns)
    return path


def _calibrated(width: int, people: int) -> float:
    """What ``ffavatar calibrate`` would say of an embedding model like this, for so many people."""
    other = draw_tracks(CALIBRATION_TRACKS, width, CALIBRATION_SEED)
    return calibrate(*labelled_pairs(other.vectors, other.person), people).threshold


def _shape(path: Path) -> tuple[int, int]:
    """(tracks, width) of a file of vectors.

    Raises:
        CallError: it is none.
    """
    try:
        found = np.load(path, mmap_mode="r")
        vectors = found if isinstance(found, np.ndarray) else found["vectors"]
    except (OSError, ValueError, KeyError) as error:
        raise CallError(f"{path}: no .npy of vectors, and no .npz with `vectors` in it ({error})") from error
    if vectors.ndim != 2 or not len(vectors):
        raise CallError(f"{path}: vectors of shape {vectors.shape}; they must be (tracks, width)")
    return len(vectors), vectors.shape[1]


def _load(path: Path) -> Tracks:
    """Vectors, and where the file has them: ``person`` (the truth), ``video``, ``start``, ``end``."""
    found = np.load(path)
    tracks = {"vectors": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    n = len(tracks["vectors"])
    tracks["vectors"] = checked_vectors(tracks["vectors"], tracks["vectors"].shape[1], str(path))
    if "video" not in tracks:
        tracks |= {"video": np.arange(n), "start": np.zeros(n, np.int64), "end": np.ones(n, np.int64)}
    return tracks


def _apart(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run a measurement in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def _measure(method: str, path: Path, threshold: float) -> dict[str, Any]:
    tracks = _load(path)
    run = _method(method, threshold)
    began, busy = time.perf_counter(), time.process_time()
    labels = run(tracks)
    took = {"cpu_seconds": round(time.process_time() - busy, 2)}
    return _scored(labels, tracks, time.perf_counter() - began) | took


def _new_joins(path: Path, threshold: float, n: int, new: int, corpus: str) -> dict[str, Any]:
    """A corpus of all tracks but the last ``new`` is clustered, then those come: figures of the second clustering,
    ``joined`` tracks of it, and ``seconds_before``, ``peak_gb_before``, ``f1_before`` of the first."""
    before = _measure_corpus_apart(path, threshold, corpus, 0, n - new)
    after = _measure_corpus_apart(path, threshold, corpus, n - new, n)
    kept = {f"{name}_before": before[name] for name in ("seconds", "peak_gb", "f1")}
    return after | kept


def _measure_corpus_apart(path: Path, threshold: float, corpus: str, start: int, stop: int) -> dict[str, Any]:
    _apart(_fill, path, corpus, start, stop)
    return _apart(_measure_corpus, path, threshold, corpus, stop)


def _fill(path: Path, corpus: str, start: int, stop: int) -> dict[str, Any]:
    fill_corpus(corpus, _load(path), start, stop)
    return {}


def _measure_corpus(path: Path, threshold: float, corpus: str, n: int) -> dict[str, Any]:
    seconds, joined, labels = cluster_files(corpus, threshold)
    peak = _peak_gb()  # before the truth is read
    tracks = {name: column[:n] for name, column in _load(path).items()}
    return _scored(labels, tracks, seconds) | {"peak_gb": peak, "joined": joined}


def _scored(labels: Labels, tracks: Tracks, seconds: float) -> dict[str, Any]:
    figure: dict[str, Any] = {
        "seconds": round(seconds, 2),
        "peak_gb": _peak_gb(),
    }
    if "person" not in tracks:
        return figure | {"precision": None, "recall": None, "f1": None}
    score = bcubed(labels, tracks["person"])
    return figure | {name: round(getattr(score, name), 5) for name in ("precision", "recall", "f1")}


def _peak_gb() -> float:
    """The most memory this process had resident. Linux counts it anew for a new program, ``getrusage`` does not."""
    status = Path("/proc/self/status")
    if status.exists():
        return round(int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e9, 2)
    scale = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9, 2)


def _seen(tracks: Tracks) -> TrackSpans:
    return TrackSpans(tracks["video"], tracks["start"], tracks["end"])


def _ours(threshold: float, tracks: Tracks) -> Labels:
    return cluster_rows(tracks["vectors"], _seen(tracks), threshold)


def _method(name: str, threshold: float) -> Callable[[Tracks], Labels]:
    """A clustering of tracks, by one of ``METHODS``."""
    methods: dict[str, Callable[[Tracks], Labels]] = {
        OURS: partial(_ours, threshold),
        "faiss+components": partial(_faiss, threshold),
        "sklearn-average": partial(_sklearn_average, threshold),
        "sklearn-hdbscan": _sklearn_hdbscan,
    }
    return methods[name]


def _faiss(threshold: float, tracks: Tracks) -> Labels:
    """The usual recipe: an inverted file, 32 neighbours a track, an edge where they are near, connected components."""
    import faiss

    vectors = tracks["vectors"]
    n, width = vectors.shape
    lists = max(1, 4 * round(math.sqrt(n)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[np.random.default_rng(0).choice(n, min(n, 40 * lists), replace=False)])
    index.add(vectors)
    index.nprobe = 16
    i, j = [], []
    for at in range(0, n, 65_536):
        likeness, found = index.search(vectors[at : at + 65_536], 32)
        row, place = np.nonzero((likeness >= 1 - threshold) & (found >= 0))
        i.append(row + at)
        j.append(found[row, place])
    return connected(n, np.concatenate(i), np.concatenate(j)).astype(np.int64)


def _sklearn_average(threshold: float, tracks: Tracks) -> Labels:
    from sklearn.cluster import AgglomerativeClustering

    model = AgglomerativeClustering(None, metric="cosine", linkage="average", distance_threshold=threshold)
    return model.fit_predict(tracks["vectors"]).astype(np.int64)


def _sklearn_hdbscan(tracks: Tracks) -> Labels:
    """On unit vectors Euclidean distance orders as cosine does; its noise counts as people of their own."""
    from sklearn.cluster import HDBSCAN

    labels = HDBSCAN(min_cluster_size=2, copy=True).fit_predict(tracks["vectors"]).astype(np.int64)
    alone = np.flatnonzero(labels < 0)
    labels[alone] = labels.max() + 1 + np.arange(len(alone))
    return labels
