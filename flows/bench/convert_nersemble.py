"""NeRSemble's half of ``ffavatar bench convert``: full-size H.264 videos, converted and plainly rewritten in turns."""

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
from pipelines.conversion.nersemble.config import NersembleConfig
from pipelines.conversion.nersemble.nersemble_step import ITEM_MOMENTS
from pipelines.conversion.nersemble.recordings import plan_nersemble
from pipelines.faces.weight_cache import cache_dir
from pipelines.media.decoder import ProcessDecoder
from pipelines.media.video_writer import write_video
from pipelines.studio.nersemble_layout import PERFORMED, plan_session, write_sessions
from pipelines.studio.studio_head import load_studio_head

PERSON = 18
N_CAMERAS, N_FRAMES = 16, 6
"""The official rig's, and a few frames of each."""
FEW_CAMERAS, LONG = 3, 5 * ITEM_MOMENTS
"""Of the sequence over which memory is watched: several items."""
SMALL_WIDTH = 550
"""Pixels across of its pictures, and of the rendered ones that the full-size videos are enlarged from."""
PASSED = 12
"""Of the frames that are decoded and passed over, one in so many is taken."""
NOISE = 2.0
"""Standard deviation of the pictures' noise, grey levels."""
Ways = dict[str, Callable[[], Any]]


def measure(size: int, side_by_side: Callable[[Ways], dict[str, float]]) -> Iterator[dict[str, Any]]:
    """Figures of memory after one item and at most over several; of converting a sequence to crops of ``size`` pixels,
    beside decoding the same frames and encoding them again whole; of a frame that is decoded and passed over."""
    with tempfile.TemporaryDirectory(prefix="ffavatar-bench-") as folder:
        root = Path(folder) / "long"
        write_videos(root, FEW_CAMERAS, LONG, SMALL_WIDTH)
        yield {"codec": "H.264", **_memory(plan_nersemble(str(root), NersembleConfig(size=size, frames=0)))}
        root, decoder = Path(folder) / "full", ProcessDecoder("pyav")
        videos = write_videos(root, N_CAMERAS, N_FRAMES, FULL_WIDTH)
        plan = plan_nersemble(str(root), NersembleConfig(size=size, frames=N_FRAMES))
        tools, views = plan.step.load(), N_FRAMES * len(videos)
        ways: Ways = {
            "ours": partial(plan.step.fn, tools, plan.items),
            "plain": partial(_rewrite, decoder, videos, Path(folder) / "again.mp4"),
        }
        spent = side_by_side(ways)
        yield {
            "codec": "H.264",
            "picture": f"{FULL_WIDTH} x {FULL_HEIGHT}",
            "cameras": N_CAMERAS,
            "views": views,
            **{f"{name}_ms": round(1e3 * seconds / views, 1) for name, seconds in spent.items()},
            "ratio": round(spent["ours"] / spent["plain"], 2),
        }
        yield {"codec": "H.264", "picture": f"{FULL_WIDTH} x {FULL_HEIGHT}", **_passing(decoder, root, videos[0])}
        decoder.close()


def _rewrite(decoder: ProcessDecoder, videos: list[Path], again: Path) -> None:
    """Decode each video's frames at full size and encode them again, H.264 as well."""
    for video in videos:
        write_video(again, (frame.rgb for frame in decoder.frames(video)), FPS)


def _passing(decoder: ProcessDecoder, root: Path, video: Path) -> dict[str, Any]:
    """Milliseconds of a frame when one in ``PASSED`` is wanted, at half the size: with few moments of a long video this
    is most of the work."""
    n = 6 * PASSED
    frames = [frame.rgb for frame in decoder.frames(video, indices=range(N_FRAMES // 2))]  # one moment: no scene's cut
    write_video(root / "passed.mp4", (frames[i % len(frames)] for i in range(n)), FPS)
    half = (FULL_WIDTH // 2, FULL_HEIGHT // 2)
    began = time.perf_counter()
    taken = sum(1 for _ in decoder.frames(root / "passed.mp4", indices=range(0, n, PASSED), size=half))
    return {"frames": n, "taken": taken, "passed_ms": round(1e3 * (time.perf_counter() - began) / n, 1)}


def _memory(plan: ConversionPlan) -> dict[str, Any]:
    """Resident memory of this process, and of its decoders' together, after the first item and at most after one."""
    worker, decoders, tools = [], [], plan.step.load()
    for i in range(plan.items.num_rows):
        plan.step.fn(tools, plan.items.slice(i, 1))
        process = psutil.Process()
        worker.append(process.memory_info().rss / 2**20)
        decoders.append(sum(child.memory_info().rss for child in process.children()) / 2**20)
    return {
        "cameras": FEW_CAMERAS,
        "frames": [ITEM_MOMENTS, ITEM_MOMENTS * plan.items.num_rows],
        "memory_mb": [round(worker[0]), round(max(worker))],
        "decoders_mb": [round(decoders[0]), round(max(decoders))],
    }


def write_videos(root: Path, n_cameras: int, n_frames: int, width: int) -> list[Path]:
    """One sequence, two moments rendered small, then each shown enlarged to ``width`` pixels
    across for half of the frames, with other noise in each."""
    import cv2

    g, decoder = np.random.default_rng(0), ProcessDecoder("pyav")
    head = load_studio_head(cache_dir())
    capture = plan_session(head, PERSON, n_cameras, 2, SMALL_WIDTH, 0, PERFORMED[:1])
    list(write_sessions(root, {PERSON: capture}))

    def shown(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        large = cv2.resize(picture, (width, round(width * picture.shape[0] / picture.shape[1])))
        noise = g.normal(scale=NOISE, size=(*large.shape[:2], 1)).astype(np.float32)
        return np.asarray(np.clip(large + noise, 0, 255), np.uint8)

    paths = [video_path(root / f"{PERSON:03d}", PERFORMED[0], serial) for serial in capture.cameras]
    for path in paths:
        small = [frame.rgb for frame in decoder.frames(path)]
        write_video(path, (shown(small[2 * i // n_frames]) for i in range(n_frames)), FPS)
    decoder.close()
    return paths
