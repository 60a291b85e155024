"""Measurement of NeRSemble's conversion for ``ffavatar bench convert``: full-size H.264 videos."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from nersemble.layout import FPS, FULL_HEIGHT, FULL_WIDTH, video_path
from pipelines.conversion.conversion_plan import ConversionPlan
from pipelines.conversion.nersemble.nersemble_config import NersembleConfig
from pipelines.conversion.nersemble.nersemble_step import ITEM_TIMESTEPS
from pipelines.conversion.nersemble.recordings import plan_nersemble
from pipelines.faces.weight_cache import cache_dir
from pipelines.media.decoder import ProcessDecoder
from pipelines.media.video_writer import write_video
from pipelines.studio.captures.capture_studio import open_capture_studio
from pipelines.studio.captures.nersemble_layout import STUDIO_SEQUENCES, plan_session, write_sessions

PERSON = 18
"""Number of the participant."""
N_CAMERAS, N_FRAMES = 16, 6
"""Numbers of cameras (those of the official rig) and of frames per camera, for the time of a conversion."""
FEW_CAMERAS, LONG = 3, 5 * ITEM_TIMESTEPS
"""Numbers of cameras and of frames of the sequence on which memory is measured; the frames are several items."""
SMALL_WIDTH = 550
"""Width (pixels) of this sequence's images, and of the rendered images that are enlarged for the full-size videos."""
STRIDE = 12
"""Distance in frames from one converted frame to the next, for the time of a skipped frame."""
NOISE = 2.0
"""Standard deviation of the images' noise, grey levels (0 to 255)."""
Ways = dict[str, Callable[[], Any]]


def measure_nersemble(size: int, time_in_turns: Callable[[Ways], dict[str, float]]) -> Iterator[dict[str, Any]]:
    """Measure memory over several items, the time of a conversion, and the time of a skipped frame.

    Args:
        size: Pixels per side of a crop.
        time_in_turns: Function that measures the functions in a dictionary, as ``bench_convert.time_in_turns``.

    Yields:
        One figure each for memory, conversion and skipped frames.
    """
    with tempfile.TemporaryDirectory(prefix="ffavatar-bench-") as folder:
        root = Path(folder) / "long"
        write_videos(root, FEW_CAMERAS, LONG, SMALL_WIDTH)
        yield {"codec": "H.264", **_measure_memory(plan_nersemble(str(root), NersembleConfig(size=size, frames=0)))}
        root, decoder = Path(folder) / "full", ProcessDecoder()
        videos = write_videos(root, N_CAMERAS, N_FRAMES, FULL_WIDTH)
        plan = plan_nersemble(str(root), NersembleConfig(size=size, frames=N_FRAMES))
        tools, views = plan.step.load(), N_FRAMES * len(videos)
        ways: Ways = {
            "ours": partial(plan.step.fn, tools, plan.items),
            "plain": partial(_rewrite, decoder, videos, Path(folder) / "again.mp4"),
        }
        spent = time_in_turns(ways)
        yield {
            "codec": "H.264",
            "picture": f"{FULL_WIDTH} x {FULL_HEIGHT}",
            "cameras": N_CAMERAS,
            "views": views,
            **{f"{name}_ms": round(1e3 * seconds / views, 1) for name, seconds in spent.items()},
            "ratio": round(spent["ours"] / spent["plain"], 2),
        }
        yield {
            "codec": "H.264",
            "picture": f"{FULL_WIDTH} x {FULL_HEIGHT}",
            **_measure_skipping(decoder, root, videos[0]),
        }
        decoder.close()


def _rewrite(decoder: ProcessDecoder, videos: list[Path], again: Path) -> None:
    """Decode each video's frames at full size and encode them again as H.264."""
    for video in videos:
        write_video(again, (frame.rgb for frame in decoder.frames(video)), FPS)


def _measure_skipping(decoder: ProcessDecoder, root: Path, video: Path) -> dict[str, Any]:
    """Measure the milliseconds per frame of decoding when one frame in ``STRIDE`` is kept, at half the size.

    If few timesteps of a long video are converted, this is most of the work.
    """
    n = 6 * STRIDE
    frames = [frame.rgb for frame in decoder.frames(video, indices=range(N_FRAMES // 2))]  # one timestep: no cut
    write_video(root / "passed.mp4", (frames[i % len(frames)] for i in range(n)), FPS)
    half = (FULL_WIDTH // 2, FULL_HEIGHT // 2)
    began = time.perf_counter()
    taken = sum(1 for _ in decoder.frames(root / "passed.mp4", indices=range(0, n, STRIDE), size=half))
    return {"frames": n, "taken": taken, "passed_ms": round(1e3 * (time.perf_counter() - began) / n, 1)}


def _measure_memory(plan: ConversionPlan) -> dict[str, Any]:
    """Measure the resident memory of this process, and of all its decoders, after the first item and at most."""
    worker, decoders, tools = [], [], plan.step.load()
    for i in range(plan.items.num_rows):
        plan.step.fn(tools, plan.items.slice(i, 1))
        process = psutil.Process()
        worker.append(process.memory_info().rss / 2**20)
        decoders.append(sum(child.memory_info().rss for child in process.children()) / 2**20)
    return {
        "cameras": FEW_CAMERAS,
        "frames": [ITEM_TIMESTEPS, ITEM_TIMESTEPS * plan.items.num_rows],
        "memory_mb": [round(worker[0]), round(max(worker))],
        "decoders_mb": [round(decoders[0]), round(max(decoders))],
    }


def write_videos(root: Path, n_cameras: int, n_frames: int, width: int) -> list[Path]:
    """Write the videos of one sequence: two rendered timesteps, enlarged, with new noise in every frame.

    The first timestep fills the first half of the frames, the second timestep the second half.

    Args:
        root: Folder of the data set.
        n_cameras: Number of cameras.
        n_frames: Number of frames of each video.
        width: Width of a frame, pixels.

    Returns:
        Path of each camera's video.
    """
    import cv2

    g, decoder = np.random.default_rng(0), ProcessDecoder()
    studio = open_capture_studio(cache_dir())
    capture = plan_session(studio, PERSON, n_cameras, 2, SMALL_WIDTH, 0, STUDIO_SEQUENCES[:1])
    list(write_sessions(root, {PERSON: capture}))

    def enlarge(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        large = cv2.resize(image, (width, round(width * image.shape[0] / image.shape[1])))
        noise = g.normal(scale=NOISE, size=(*large.shape[:2], 1)).astype(np.float32)
        return np.asarray(np.clip(large + noise, 0, 255), np.uint8)

    paths = [video_path(root / f"{PERSON:03d}", STUDIO_SEQUENCES[0], serial) for serial in capture.cameras]
    for path in paths:
        small = [frame.rgb for frame in decoder.frames(path)]
        write_video(path, (enlarge(small[2 * i // n_frames]) for i in range(n_frames)), FPS)
    decoder.close()
    return paths
