"""Benchmark of the conversion, compared with decoding and encoding the same images: ``ffavatar bench convert``.

A few images are rendered at the official size and repeated under many frame numbers. They have noise like a sensor's,
because a codec spends most of its time on noise. The ways run in turns in this process, on one thread, and read the
same zips.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from ava256.camera_calibration import CalibratedCamera
from ava256.reader import Ava256Capture, ListedFrame, find_captures
from ava256.values import encode_avif
from ava256.writer import CaptureWriter
from flows.bench import emit
from mfhq.ids import digest
from pipelines.conversion.ava256_config import Ava256Config
from pipelines.conversion.ava256_step import ITEM_FRAMES, plan_ava256
from pipelines.faces.weight_cache import cache_dir
from pipelines.media.cameras import compose
from pipelines.media.image_codec import encode_png, encode_webp
from pipelines.studio.captures.ava256_layout import (
    HEAD_FRAME,
    Ava256Spec,
    RegisteredSurface,
    calibrated_camera,
    capture_name,
    plan_capture,
)
from pipelines.studio.captures.camera_rig import invert_rigid
from pipelines.studio.captures.capture_studio import open_capture_studio

ROUNDS = 4
"""Number of timed runs of each way."""
NOISE = 3.0
"""Standard deviation of the images' noise, grey levels (0 to 255)."""
OFFICIAL = {"cameras": 80, "frames": 5000}
"""Numbers of cameras and frames of one subject in the smaller release of Ava-256."""
Figures = Iterator[dict[str, Any]]


def bench_convert(dataset: str, size: int) -> None:
    """Measure the conversion of a data set into head-centred crops, and print the figures.

    Args:
        dataset: A key of ``MEASURES``.
        size: Pixels per side of a crop.
    """
    for figure in MEASURES[dataset](size):
        emit("convert", **{"dataset": dataset, "size_px": size, **figure})


def _ava256(size: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="ffavatar-bench-") as folder:
        source = Path(folder)
        write_bench_capture(source, n_frames=8 * ITEM_FRAMES)
        for crop, pixels in (("head", size), ("full", 1024)):
            config = Ava256Config(size=pixels, crop=crop)  # type: ignore[arg-type]
            plan = plan_ava256(str(source), config)
            captures = plan.step.load()
            item = plan.items.slice(0, 1)
            (decoder,) = find_captures(str(source), LocalFileSystem()).values()
            frames = [frame.frame for frame in Ava256Capture(decoder, LocalFileSystem()).frames[:ITEM_FRAMES]]
            ways: dict[str, Callable[[], Any]] = {
                "ours": partial(plan.step.fn, captures, item),
                "plain": partial(_rewrite, decoder, frames, None),
                "plain_cut": partial(_rewrite, decoder, frames, pixels),
            }
            spent = time_in_turns(ways)
            per_view = {f"{name}_ms": round(1e3 * seconds / len(frames), 2) for name, seconds in spent.items()}
            views = OFFICIAL["cameras"] * OFFICIAL["frames"]
            yield {
                "codec": "AVIF",
                "crop": crop,
                "size_px": pixels,
                "picture": "667 x 1024",
                "views": len(frames),
                **per_view,
                "ratio": round(spent["ours"] / spent["plain"], 2),
                "ratio_cut": round(spent["ours"] / spent["plain_cut"], 2),
                "core_hours_per_subject": round(views * spent["ours"] / len(frames) / 3600, 1),
            }
            if crop == "head":
                yield {"codec": "AVIF", **_memory(plan, captures)}


def time_in_turns(ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Measure functions, which run in turns ``ROUNDS`` times after a warm-up, on one thread.

    Args:
        ways: The functions by name.

    Returns:
        Median seconds of each function, by name.
    """
    import cv2
    from PIL import AvifImagePlugin

    threads = cv2.getNumThreads(), AvifImagePlugin.DEFAULT_MAX_THREADS
    cv2.setNumThreads(1)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:
                times[name].append(time.perf_counter() - began)
    cv2.setNumThreads(threads[0])
    AvifImagePlugin.DEFAULT_MAX_THREADS = threads[1]
    return {name: statistics.median(spent) for name, spent in times.items()}


def _rewrite(decoder: str, frames: list[int], pixels: int | None) -> None:
    """Decode images and segmentations, and encode their upper left square of ``pixels`` per side; None for all."""
    capture = Ava256Capture(decoder, LocalFileSystem())
    for frame in frames:
        image, parts = capture.image("400940", frame), capture.parts("400940", frame)
        assert image is not None and parts is not None
        encode_webp(np.ascontiguousarray(image[:pixels, :pixels]), 95)
        encode_png(np.ascontiguousarray(parts[:pixels, :pixels]))
    capture.close()


def _memory(plan: Any, captures: Any) -> dict[str, Any]:
    """Measure resident memory after the first item of a capture, and the most over all its items."""
    process = psutil.Process()
    plan.step.fn(captures, plan.items.slice(0, 1))
    after_one, most = process.memory_info().rss, 0
    for i in range(plan.items.num_rows):
        plan.step.fn(captures, plan.items.slice(i, 1))
        most = max(most, process.memory_info().rss)
    return {
        "frames": [ITEM_FRAMES, ITEM_FRAMES * plan.items.num_rows],
        "memory_mb": [round(after_one / 2**20), round(most / 2**20)],
    }


def write_bench_capture(root: Path, n_frames: int, height: int = 1024) -> None:
    """Write a capture with one camera in the official layout: two rendered timesteps with noise, repeated.

    Args:
        root: Folder of the captures.
        n_frames: Number of frames of the capture.
        height: Height of the images, pixels; 1024 gives images of 667 x 1024.
    """
    studio = open_capture_studio(cache_dir())
    identity, spec = digest(["studio", "bench"]), Ava256Spec(n_cameras=1, frames=2, height=height)
    capture = plan_capture(studio, identity, spec)
    (name, camera), *_ = capture.cameras.items()
    cameras: dict[str, CalibratedCamera] = {name: calibrated_camera(camera)}
    frames = [ListedFrame("EXP_bench", frame) for frame in range(n_frames)]
    surface, g = RegisteredSurface(studio.head), np.random.default_rng(0)
    with CaptureWriter(root, capture_name(identity), cameras, frames) as out:
        views = [next(iter(capture.render_views(timestep))) for timestep in capture.timesteps]
        images = [[_add_noise(view.rgb, g) for view in views] for _ in range(2)]
        encoded = [[encode_avif(image) for image in row] for row in images]
        for listed in frames:
            which = listed.frame % 2
            out.head_pose(listed.frame, compose(capture.timesteps[which].head_to_world, invert_rigid(HEAD_FRAME)))
            out.add_image(name, listed.frame, encoded[listed.frame // 2 % 2][which])
            out.parts(name, listed.frame, views[which].parts)
        out.vertices(0, surface.vertices(capture.timesteps[0].vertices))


def _add_noise(image: NDArray[np.uint8], g: np.random.Generator) -> NDArray[np.uint8]:
    return np.clip(image + g.normal(scale=NOISE, size=image.shape), 0, 255).astype(np.uint8)


def _nersemble(size: int) -> Figures:
    from flows.bench.convert_nersemble import measure_nersemble

    return measure_nersemble(size, time_in_turns)


MEASURES: dict[str, Callable[[int], Figures]] = {"ava256": _ava256, "nersemble": _nersemble}
"""Measurement of each data set's conversion, by the data set's name; its argument is the pixels per side of a crop."""
