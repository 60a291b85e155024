"""Benchmark of mining, compared with decoding alone and with a plain loop over frames: ``ffavatar bench mine``."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pyarrow as pa

from flows.bench import emit
from flows.bench.plain_loop import PlainRun, PlainTrack, plain_loop
from infra.console import CallError
from infra.ray_session import ray_session
from infra.settings import load_settings
from infra.storage import open_store
from mfhq.store import Store
from pipelines.engine.commits import read_step
from pipelines.engine.progress import StepProgress
from pipelines.engine.ray_data import run_steps
from pipelines.engine.state import fingerprints
from pipelines.faces.pack import face_pack
from pipelines.identity.assign import assign_identities
from pipelines.identity.config import ClusterConfig
from pipelines.media.containers import check_container
from pipelines.mining.digests import digest_sources
from pipelines.mining.source_listing import list_sources
from pipelines.mining.steps import AFTER, mining_steps
from pipelines.mining.tracker import iou


def bench_mine(videos: Path | None, decode_minutes: float, plain_seconds: float) -> None:
    """Measure decoding alone, mining, and the plain loop on the same videos and cores, and print the figures.

    Args:
        videos: Folder of videos; videos that do not decode completely are left out. None for sample clips.
        decode_minutes: Time that decoding all videos once should take. The videos are copied until it is reached; each
            copy is re-muxed, so that it has a digest of its own.
        plain_seconds: Time after which the plain loop begins no further video. Its rate is measured on the videos that
            it finished.

    Raises:
        CallError: There is no such folder, or no video in it decodes completely.
    """
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="ffavatar-bench-") as scratch:
        decodable = [path for path in _list_videos(videos, Path(scratch)) if _decode(str(path)) > 0]
        if not decodable:
            raise CallError("decord decodes none of the videos to its end; name a folder of other videos")
        _, seconds = decode_all(decodable, cores, _decode)
        copies = max(1, round(60 * decode_minutes / seconds))
        sources = _copy_videos(decodable, copies, Path(scratch) / "sources")
        n_frames, decoding = decode_all(sources, cores, _decode)
        _, own_decoding = decode_all(sources, cores, _decode_as_mining)
        for decoder, wall_s in (("decord", decoding), ("pyav", own_decoding)):
            emit(
                "mine",
                what="decode",
                decoder=decoder,
                files=len(sources),
                copies=copies,
                frames=n_frames,
                wall_s=round(wall_s, 1),
                frames_per_s=round(n_frames / wall_s, 1),
            )
        ours = _mine(Path(scratch) / "sources", Path(scratch) / "corpus", decoding)
        ours["ratio_to_own_decode"] = round(ours["warm_wall_s"] / own_decoding, 2)
        plain = plain_loop(decodable, face_pack(None).root, face_pack(None).threshold or 0.0, plain_seconds)
        per_frame = plain.seconds / plain.frames
        comparison = _compare(plain, open_store(Path(scratch) / "corpus"), Path(scratch) / "sources")
        emit(
            "mine",
            what="ours",
            frames=n_frames,
            **ours,
            speedup_over_plain_loop=round(per_frame * n_frames / ours["warm_wall_s"], 2),
            **comparison["ours"],
        )
        emit(
            "mine",
            what="plain_loop",
            measured_on=f"{len(plain.videos)} of {len(decodable)} videos, each once",
            frames=plain.frames,
            wall_s=round(plain.seconds, 1),
            seconds_for_all_frames=round(per_frame * n_frames, 1),
            **comparison["plain"],
        )


def _list_videos(videos: Path | None, scratch: Path) -> list[Path]:
    if videos is None:
        from pipelines.samples.make import make_samples

        return make_samples(scratch / "samples", quick=True)
    if not videos.is_dir():
        raise CallError(f"--videos {videos}: no such folder; name a folder of videos, or leave it out for samples")
    return sorted(path for path in videos.iterdir() if path.suffix.lower() in (".mp4", ".mov", ".mkv", ".webm"))


def decode_all(videos: Sequence[Path], cores: int, decode: Callable[[str], int]) -> tuple[int, float]:
    """Decode every frame once to RGB, in one process per core; the processes are started before.

    Args:
        videos: The files.
        cores: Number of processes.
        decode: Function that decodes the file of this path, and returns its number of frames; it can be pickled.

    Returns:
        Number of frames, and seconds.
    """
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.map(decode, [str(videos[0])] * cores, chunksize=1)
        began = time.perf_counter()
        frames = sum(pool.imap_unordered(decode, map(str, videos)))
        return frames, time.perf_counter() - began


def _decode(path: str) -> int:
    """Decode a video with decord, and return its number of frames; 0 if decord fails on a frame."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        check_container(path)
        reader = decord.VideoReader(path, num_threads=1)
        for _ in range(len(reader)):
            reader.next().asnumpy()
    except Exception:  # a native decoder may raise anything on a bad file
        return 0
    return len(reader)


def _decode_as_mining(path: str) -> int:
    """Decode a video with the decoder that mining uses, and return its number of frames."""
    from pipelines.media.frame_reader import read_frames

    return sum(1 for _ in read_frames(path))


def _copy_videos(videos: Sequence[Path], copies: int, folder: Path) -> list[Path]:
    """Write each video ``copies`` times as files such as ``name.0003.mp4``, with the same packets."""
    folder.mkdir()
    targets = []
    for path in videos:
        for number in range(copies):
            target = folder / f"{path.stem}.{number:04d}{path.suffix}"
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-map", "0:v:0", "-c", "copy"]
            subprocess.run([*command, "-metadata", f"comment=copy {number}", str(target)], check=True)
            targets.append(target)
    return targets


def _mine(source: Path, corpus: Path, decoding_s: float) -> dict[str, Any]:
    """Mine with the engine, and return the figures.

    ``warm_wall_s`` is the wall time without the start of the workers: it is measured from the time when the first files
    have passed every step, and extrapolated to all files.
    """
    store, steps = open_store(corpus), mining_steps()
    sources = digest_sources(list_sources(source), store)
    first: list[tuple[float, int]] = []
    done: dict[str, int] = {}

    def on_progress(progress: StepProgress) -> None:
        done[progress.step] = progress.done
        if not first and progress.step == steps[-1].name and progress.done:
            first.append((time.perf_counter(), max(progress.done, done["tracks"])))

    with ray_session(load_settings()):
        began = time.perf_counter()
        summaries = run_steps(steps, sources, store, "bench", after=AFTER, on_progress=on_progress)
        ended = time.perf_counter()
    warm_from, before = first[0]
    share = 1 - before / len(sources)
    warm = (ended - warm_from) / share if share > 0 else ended - began
    return {
        "wall_s": round(ended - began, 1),
        "warm_wall_s": round(warm, 1),
        "ratio_to_decode": round(warm / decoding_s, 2),
        "ratio_cold": round((ended - began) / decoding_s, 2),
        "worker_s": {s.step: round(s.seconds, 1) for s in summaries},
        "failed": sum(s.failed for s in summaries),
    }


def _compare(plain: PlainRun, store: Store, sources: Path) -> dict[str, dict[str, Any]]:
    """Compare the plain loop's tracks of at least a second with the mined tracks in the first copy of each video."""
    prints = fingerprints(mining_steps(), AFTER)
    tables = {step: read_step(store, step, prints[step]) for step in ("probe", "tracks", "scores", "embeddings")}
    names = {row["video_id"]: Path(row["uri"]).name for row in tables["probe"].select(["video_id", "uri"]).to_pylist()}
    described = ("fps", "width", "height")
    probed = {names[row["video_id"]]: tuple(row[name] for name in described) for row in tables["probe"].to_pylist()}
    first_copy = {f"{Path(name).stem}.0000{Path(name).suffix}": name for name in plain.videos}
    compared = {video for video, name in names.items() if name in first_copy}
    own = {name: t.filter(pa.array([v in compared for v in t["video_id"].to_pylist()])) for name, t in tables.items()}
    config = ClusterConfig(threshold=face_pack(None).threshold or 0.0)
    clustering = assign_identities(own["tracks"], own["scores"], own["embeddings"], config)
    ours: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in own["tracks"].to_pylist():
        ours[first_copy[names[row["video_id"]]]] += row["tracks"] or []
    rate = {original: probed[copy][0] or 25.0 for copy, original in first_copy.items()}
    size = {original: probed[copy][1:] for copy, original in first_copy.items()}
    long = [t for t in plain.tracks if t.frames[-1] + 1 - t.frames[0] >= rate[t.video]]
    covering = [[i for i, track in enumerate(ours[t.video]) if covers_track(track, t, *size[t.video])] for t in long]
    covered = defaultdict(set)
    for number, (track, indices) in enumerate(zip(long, covering, strict=True)):
        for i in indices:
            covered[track.video, i].add(number)
    return {
        "ours": {
            "people": len(clustering.assignments["identity_id"].unique()),
            "tracks": sum(map(len, ours.values())),
            "plain_tracks_covered": f"{sum(map(bool, covering))} of {len(long)}",
            "breaks": sum(
                _count_breaks([ours[t.video][i] for i in hits]) for t, hits in zip(long, covering, strict=True)
            ),
        },
        "plain": {
            "people": plain.people,
            "tracks": len(plain.tracks),
            "breaks": sum(max(0, len(numbers) - 1) for numbers in covered.values()),
        },
    }


def _count_breaks(tracks: Sequence[dict[str, Any]]) -> int:
    """Count the surplus among the mined tracks that cover one track of the plain loop.

    The plain loop ignores cuts, so one mined track per shot is expected; more are surplus.
    """
    return len(tracks) - len({track["shot_index"] for track in tracks})


def covers_track(track: dict[str, Any], plain: PlainTrack, width: int, height: int) -> bool:
    """Return True if a mined track covers a plain track.

    It does if in more than half of the frames that both have, the boxes overlap by half (IoU) or more. The parts of the
    boxes inside the frame are compared: how far a detector extends a face that the frame cuts is no difference.

    Args:
        track: A track in the output of the step ``tracks``, with its candidate faces.
        plain: A track of the plain loop.
        width: Width of the frame, pixels.
        height: Height of the frame, pixels.
    """
    box_at = dict(zip(plain.frames, plain.boxes, strict=True))
    shared = [face for face in track["faces"] if face["frame_index"] in box_at]
    size = np.array([width, height, width, height])
    overlaps = [
        float(
            iou(
                np.clip([[f["x0"], f["y0"], f["x1"], f["y1"]]], 0, size),
                np.clip(box_at[f["frame_index"]][None], 0, size),
            )[0, 0]
        )
        for f in shared
    ]
    return bool(overlaps) and float(np.mean(np.array(overlaps) >= 0.5)) > 0.5
