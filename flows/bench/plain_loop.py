"""What a user would write, no pipeline: insightface on every frame, boxes linked by overlap, average linkage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.mining.tracker import iou

MIN_IOU = 0.5
"""A box continues the track whose last box it overlaps by so much."""
GAP = 5
"""Frames after which a track that found no box has ended."""


@dataclass
class PlainTrack:
    """Boxes linked from frame to frame."""

    video: str
    frames: list[int] = field(default_factory=list)
    boxes: list[npt.NDArray[np.float64]] = field(default_factory=list)
    vectors: list[npt.NDArray[np.float32]] = field(default_factory=list)


@dataclass
class PlainRun:
    """What the loop found in some videos, and how long it took."""

    tracks: list[PlainTrack]
    frames: int
    seconds: float
    people: int
    videos: list[str]


def plain_loop(videos: Sequence[Path], pack_root: Path, threshold: float, limit_s: float) -> PlainRun:
    """Run the loop on the videos, in order, until ``limit_s`` is over (whole videos; one at least), on all cores."""
    import decord
    from insightface.app import FaceAnalysis

    decord.logging.set_level(decord.logging.QUIET)
    analysis = FaceAnalysis(str(pack_root), allowed_modules=["detection", "recognition"])
    analysis.prepare(ctx_id=0, det_size=(640, 640))
    tracks: list[PlainTrack] = []
    n_frames, done, began = 0, list[str](), time.perf_counter()
    for video in videos:
        if done and time.perf_counter() - began > limit_s:
            break
        reader = decord.VideoReader(str(video))
        open_: list[PlainTrack] = []
        for index in range(len(reader)):
            faces = analysis.get(reader.next().asnumpy()[:, :, ::-1])
            found = np.array([face.bbox for face in faces], np.float64).reshape(-1, 4)
            open_ = [track for track in open_ if index - track.frames[-1] <= GAP]
            overlap = iou(np.array([t.boxes[-1] for t in open_]).reshape(-1, 4), found)
            for row, column in _pairs(overlap):
                _extend(open_[row], index, found[column], faces[column].normed_embedding)
            taken = {column for _, column in _pairs(overlap)}
            for column in sorted(set(range(len(found))) - taken):
                open_.append(PlainTrack(video.name))
                tracks.append(open_[-1])
                _extend(open_[-1], index, found[column], faces[column].normed_embedding)
        n_frames += len(reader)
        done.append(video.name)
    return PlainRun(tracks, n_frames, time.perf_counter() - began, count_people(tracks, threshold), done)


def _pairs(overlap: npt.NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """(track, box) pairs, the best overlap first, each of both once."""
    overlap = overlap.copy()
    while overlap.size and overlap.max() >= MIN_IOU:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        yield int(row), int(column)
        overlap[row], overlap[:, column] = -1, -1


def _extend(track: PlainTrack, index: int, box: npt.NDArray[np.float64], vector: npt.NDArray[np.float32]) -> None:
    track.frames.append(index)
    track.boxes.append(box)
    track.vectors.append(vector)


def count_people(tracks: Sequence[PlainTrack], threshold: float, shortest: int = 25) -> int:
    """Clusters of the tracks of ``shortest`` frames and more, by average linkage of their mean embeddings."""
    from scipy.cluster.hierarchy import fcluster, linkage

    means = [np.mean(track.vectors, axis=0) for track in tracks if len(track.frames) >= shortest]
    if len(means) < 2:
        return len(means)
    return int(fcluster(linkage(np.array(means), "average", metric="cosine"), threshold, "distance").max())
