"""Plain mining loop, as users write it: insightface on every frame, boxes linked by overlap, average linkage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.media.containers import check_container
from pipelines.mining.tracker import iou

MIN_IOU = 0.5
"""Least intersection over union at which a box continues a track."""
GAP = 5
"""Most frames from a track's last box to the next one; after a longer gap the track ends."""


@dataclass
class PlainTrack:
    """Face boxes that are linked from frame to frame."""

    video: str
    """File name of the video."""
    frames: list[int] = field(default_factory=list)
    """Frame index of each box."""
    boxes: list[npt.NDArray[np.float64]] = field(default_factory=list)
    """(4,) boxes x0, y0, x1, y1, pixels."""
    vectors: list[npt.NDArray[np.float32]] = field(default_factory=list)
    """Embedding of the face in each box."""


@dataclass
class PlainRun:
    """Result of the loop on some videos."""

    tracks: list[PlainTrack]
    """Tracks of all videos."""
    frames: int
    """Number of frames of all videos."""
    seconds: float
    """Time that the loop took, seconds."""
    people: int
    """Number of people (``count_people``)."""
    videos: list[str]
    """File names of the videos."""


def plain_loop(videos: Sequence[Path], pack_root: Path, threshold: float, limit_s: float) -> PlainRun:
    """Run the loop on videos in order, on all cores, until the time limit.

    Args:
        videos: The files.
        pack_root: Folder of the insightface pack.
        threshold: Cosine distance within a person.
        limit_s: Seconds after which no further video is begun; at least one video is processed.
    """
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
        check_container(video)
        reader = decord.VideoReader(str(video))
        running: list[PlainTrack] = []
        for index in range(len(reader)):
            faces = analysis.get(reader.next().asnumpy()[:, :, ::-1])
            boxes = np.array([face.bbox for face in faces], np.float64).reshape(-1, 4)
            running = [track for track in running if index - track.frames[-1] <= GAP]
            overlap = iou(np.array([t.boxes[-1] for t in running]).reshape(-1, 4), boxes)
            pairs = list(_match(overlap))
            for row, column in pairs:
                _extend(running[row], index, boxes[column], faces[column].normed_embedding)
            matched = {column for _, column in pairs}
            for column in sorted(set(range(len(boxes))) - matched):
                running.append(PlainTrack(video.name))
                tracks.append(running[-1])
                _extend(running[-1], index, boxes[column], faces[column].normed_embedding)
        n_frames += len(reader)
        done.append(video.name)
    return PlainRun(tracks, n_frames, time.perf_counter() - began, count_people(tracks, threshold), done)


def _match(overlap: npt.NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Yield (track, box) pairs in order of decreasing overlap; each track and each box is used once."""
    overlap = overlap.copy()
    while overlap.size and overlap.max() >= MIN_IOU:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        yield int(row), int(column)
        overlap[row], overlap[:, column] = -1, -1


def _extend(track: PlainTrack, index: int, box: npt.NDArray[np.float64], vector: npt.NDArray[np.float32]) -> None:
    track.frames.append(index)
    track.boxes.append(box)
    track.vectors.append(vector)


def count_people(tracks: Sequence[PlainTrack], threshold: float, min_frames: int = 25) -> int:
    """Count the clusters that average linkage of the tracks' mean embeddings gives.

    Args:
        tracks: The tracks.
        threshold: Cosine distance within a cluster.
        min_frames: Least number of frames of a track that counts.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    means = [np.mean(track.vectors, axis=0) for track in tracks if len(track.frames) >= min_frames]
    if len(means) < 2:
        return len(means)
    return int(fcluster(linkage(np.array(means), "average", metric="cosine"), threshold, "distance").max())
