"""Benchmark of the clustering and of the usual alternatives: ``ffavatar bench cluster``.

Each method runs in a process of its own, so ``peak_gb`` is the memory of this method, with the vectors. ``seconds`` is
the time of the clustering without drawing or reading the vectors. ``cpu_seconds`` is the processor time of all cores
together, which depends less on other work on the machine.
"""

from __future__ import annotations

import math
import multiprocessing
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
from infra.peak_memory import peak_resident_bytes
from pipelines.faces.pack import EMBEDDED_THRESHOLD
from pipelines.identity.bcubed import bcubed
from pipelines.identity.calibration import calibrate, labelled_pairs
from pipelines.identity.checks import check_vectors
from pipelines.identity.constraints import TrackSpans
from pipelines.identity.linkage import cluster_rows
from pipelines.identity.neighbours import label_components
from pipelines.samples.synthetic_tracks import draw_tracks

Labels = npt.NDArray[np.int64]
Tracks = dict[str, npt.NDArray[Any]]
"""Columns of N tracks: ``vectors`` (N, D), ``video``, ``start``, ``end`` (N,), and ``person`` (N,) if known."""

OURS = "ffavatar"
METHODS = (OURS, "faiss+components", "sklearn-average", "sklearn-hdbscan")
MAX_TRACKS: dict[str, int] = {"sklearn-average": 20_000, "sklearn-hdbscan": 20_000}
"""Most tracks that a method is run on: average linkage needs 8 bytes per pair, and HDBSCAN takes hours for more."""
CALIBRATION_TRACKS, CALIBRATION_SEED = 10_000, 7_777
"""Number and seed of the tracks for the threshold's calibration; they show other people than the clustered tracks."""


def bench_cluster(
    sizes: Sequence[int],
    widths: Sequence[int],
    methods: Sequence[str],
    seed: int,
    vectors: Path | None,
    threshold: float | None,
    new: int,
) -> None:
    """Print JSON lines: for each method and size, for the growth from each size to the next, and for added tracks.

    Args:
        sizes: Numbers of tracks.
        widths: Dimensions of the drawn vectors.
        methods: Some of ``METHODS``.
        seed: Seed of the drawn tracks.
        vectors: File of vectors to use instead of drawn vectors; None to draw.
        threshold: Cosine distance within a person; None for the calibrated threshold.
        new: Number of tracks that are added after all others have been clustered; 0 for none.

    Raises:
        CallError: ``vectors`` is not a file of vectors.
    """
    for width in widths if vectors is None else [0]:
        spent: dict[int, tuple[float, float]] = {}
        for n in sizes if vectors is None else [0]:
            with tempfile.TemporaryDirectory(prefix="bench-cluster-") as folder:
                path = vectors or _draw(Path(folder) / "tracks.npz", n, width, seed)
                n_tracks, n_dims = _read_shape(path)
                cut = threshold or (_calibrate(n_dims, n_tracks) if vectors is None else EMBEDDED_THRESHOLD)
                for method in methods:
                    if n_tracks > MAX_TRACKS.get(method, n_tracks):
                        err.print(
                            f"{method}: not run at {n_tracks} tracks; it can do {MAX_TRACKS[method]}", markup=False
                        )
                        continue
                    figure = _run_in_process(_measure, method, path, cut)
                    emit("cluster", method=method, tracks=n_tracks, width=n_dims, threshold=cut, **figure)
                    if method == OURS:
                        spent[n_tracks] = figure["seconds"], figure["cpu_seconds"]
                if 0 < new < n_tracks // 2:
                    figure = _new_joins(path, cut, n_tracks, new, f"{folder}/corpus")
                    emit("cluster-new", method=OURS, tracks=n_tracks, width=n_dims, new=new, threshold=cut, **figure)
        for small, large in zip(sorted(spent), sorted(spent)[1:], strict=False):
            wall, cpu = (
                round(math.log(more / less) / math.log(large / small), 3)
                for less, more in zip(spent[small], spent[large], strict=True)
            )
            emit("cluster-growth", method=OURS, width=width, start=small, end=large, exponent=wall, cpu_exponent=cpu)


def _draw(path: Path, n: int, width: int, seed: int) -> Path:
    tracks = draw_tracks(n, width, seed)
    columns = {name: getattr(tracks, name) for name in ("vectors", "person", "video", "start", "end")}
    np.savez(path, **columns)
    return path


def _calibrate(width: int, people: int) -> float:
    """Return the threshold that ``ffavatar calibrate`` would find for an embedding model with such vectors."""
    other = draw_tracks(CALIBRATION_TRACKS, width, CALIBRATION_SEED)
    return calibrate(*labelled_pairs(other.vectors, other.person), people).threshold


def _read_shape(path: Path) -> tuple[int, int]:
    """Return the number of vectors in a file, and their dimension.

    Raises:
        CallError: ``path`` is not a file of vectors.
    """
    try:
        loaded = np.load(path, mmap_mode="r")
        vectors = loaded if isinstance(loaded, np.ndarray) else loaded["vectors"]
    except (OSError, ValueError, KeyError) as error:
        raise CallError(f"{path}: no .npy of vectors, and no .npz with `vectors` in it ({error})") from error
    if vectors.ndim != 2 or not len(vectors):
        raise CallError(f"{path}: vectors of shape {vectors.shape}; they must be (tracks, width)")
    return len(vectors), vectors.shape[1]


def _load(path: Path) -> Tracks:
    """Load the columns of a file; if it has no column ``video``, each track gets a video of its own."""
    loaded = np.load(path)
    tracks = {"vectors": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    n = len(tracks["vectors"])
    tracks["vectors"] = check_vectors(tracks["vectors"], tracks["vectors"].shape[1], str(path))
    if "video" not in tracks:
        tracks |= {"video": np.arange(n), "start": np.zeros(n, np.int64), "end": np.ones(n, np.int64)}
    return tracks


def _run_in_process(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run a measurement in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def _measure(method: str, path: Path, threshold: float) -> dict[str, Any]:
    tracks = _load(path)
    methods: dict[str, Callable[[Tracks], Labels]] = {
        OURS: partial(_ours, threshold),
        "faiss+components": partial(_faiss, threshold),
        "sklearn-average": partial(_sklearn_average, threshold),
        "sklearn-hdbscan": _sklearn_hdbscan,
    }
    began, cpu_began = time.perf_counter(), time.process_time()
    labels = methods[method](tracks)
    cpu_seconds = round(time.process_time() - cpu_began, 2)
    return _score(labels, tracks, time.perf_counter() - began) | {"cpu_seconds": cpu_seconds}


def _new_joins(path: Path, threshold: float, n: int, new: int, corpus: str) -> dict[str, Any]:
    """Cluster a corpus of all tracks except the last ``new``, then add these tracks and cluster again.

    Returns:
        Figures of the second clustering with the number of ``joined`` tracks, and ``seconds_before``,
        ``peak_gb_before`` and ``f1_before`` of the first clustering.
    """
    figures = []
    for start, stop in ((0, n - new), (n - new, n)):
        _run_in_process(_fill, path, corpus, start, stop)
        figures.append(_run_in_process(_measure_corpus, path, threshold, corpus, stop))
    before, after = figures
    return after | {f"{name}_before": before[name] for name in ("seconds", "peak_gb", "f1")}


def _fill(path: Path, corpus: str, start: int, stop: int) -> dict[str, Any]:
    fill_corpus(corpus, _load(path), start, stop)
    return {}


def _measure_corpus(path: Path, threshold: float, corpus: str, n: int) -> dict[str, Any]:
    seconds, joined, labels = cluster_files(corpus, threshold)
    peak = _peak_gb()  # measured before the truth is read into memory
    tracks = {name: column[:n] for name, column in _load(path).items()}
    return _score(labels, tracks, seconds) | {"peak_gb": peak, "joined": joined}


def _score(labels: Labels, tracks: Tracks, seconds: float) -> dict[str, Any]:
    figure: dict[str, Any] = {"seconds": round(seconds, 2), "peak_gb": _peak_gb()}
    if "person" not in tracks:
        return figure | {"precision": None, "recall": None, "f1": None}
    score = bcubed(labels, tracks["person"])
    return figure | {name: round(getattr(score, name), 5) for name in ("precision", "recall", "f1")}


def _peak_gb() -> float:
    return round(peak_resident_bytes() / 1e9, 2)


def _ours(threshold: float, tracks: Tracks) -> Labels:
    spans = TrackSpans(tracks["video"], tracks["start"], tracks["end"])
    return cluster_rows(tracks["vectors"], spans, threshold)


def _faiss(threshold: float, tracks: Tracks) -> Labels:
    """Cluster by the usual recipe: 32 neighbours per track from an inverted file, then components of similar ones."""
    import faiss

    vectors = tracks["vectors"]
    n, width = vectors.shape
    lists = max(1, 4 * round(math.sqrt(n)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[np.random.default_rng(0).choice(n, min(n, 40 * lists), replace=False)])
    index.add(vectors)
    index.nprobe = 16
    i, j = [], []
    for start in range(0, n, 65_536):
        similarity, neighbours = index.search(vectors[start : start + 65_536], 32)
        row, column = np.nonzero((similarity >= 1 - threshold) & (neighbours >= 0))
        i.append(row + start)
        j.append(neighbours[row, column])
    return label_components(n, np.concatenate(i), np.concatenate(j)).astype(np.int64)


def _sklearn_average(threshold: float, tracks: Tracks) -> Labels:
    from sklearn.cluster import AgglomerativeClustering

    model = AgglomerativeClustering(None, metric="cosine", linkage="average", distance_threshold=threshold)
    return model.fit_predict(tracks["vectors"]).astype(np.int64)


def _sklearn_hdbscan(tracks: Tracks) -> Labels:
    """Cluster by HDBSCAN; each track that HDBSCAN labels as noise counts as a person of its own.

    For unit vectors, the Euclidean distance orders pairs as the cosine distance does.
    """
    from sklearn.cluster import HDBSCAN

    labels = HDBSCAN(min_cluster_size=2, copy=True).fit_predict(tracks["vectors"]).astype(np.int64)
    alone = np.flatnonzero(labels < 0)
    labels[alone] = labels.max() + 1 + np.arange(len(alone))
    return labels
