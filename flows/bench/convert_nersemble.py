"""NeRSemble's half of ``ffavatar bench convert``: full-size H.264 videos, converted and plainly rewritten in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from nersemble.layout import FPS, FULL_WIDTH, video_path
from pipelines.conversion.nersemble.config import NersembleConfig
from pipelines.conversion.nersemble.plan import plan_nersemble
from pipelines.faces.cache import cache_dir
from pipelines.media.decoder import ProcessDecoder
from pipelines.media.video_writer import write_video
from pipelines.studio.nersemble import PERFORMED, plan_session, write_sessions
from pipelines.studio.studio_head import load_studio_head

PERSON, SERIALS_SHOWN, N_FRAMES = 18, 3, 12
NOISE = 2.0
"""Standard deviation of the pictures' noise, grey levels."""
REPEATS = 6
"""Each rendered frame is shown so often, with other noise each time."""


def measure(
    size: int, side_by_side: Callable[[dict[str, Callable[[], Any]]], dict[str, float]]
) -> Iterator[dict[str, Any]]:
    """Figures of converting a sequence into crops of ``size`` pixels, beside decoding the same frames and encoding them
    again whole; then resident memory after one and after several times as many frames."""
    with tempfile.TemporaryDirectory(prefix="ffavatar-bench-") as folder:
        root = Path(folder) / "data"
        _write(root)
        plan = plan_nersemble(str(root), NersembleConfig(size=size, frames=N_FRAMES))
        tools = plan.step.load()
        videos = [
            video_path(root / f"{PERSON:03d}", PERFORMED[0], s) for s in plan.items["serials"][0].as_py().split(",")
        ]
        views = N_FRAMES * len(videos)
        decoder = ProcessDecoder()
        ways: dict[str, Callable[[], Any]] = {
            "ours": partial(plan.step.fn, tools, plan.items),
            "plain": partial(_rewrite, decoder, videos, Path(folder) / "again.mp4"),
        }
        spent = side_by_side(ways)
        decoder.close()
        yield {
            "codec": "H.264", "picture": "2200 x 3208", "views": views,
            **{f"{name}_ms": round(1e3 * seconds / views, 1) for name, seconds in spent.items()},
            "ratio": round(spent["ours"] / spent["plain"], 2),
        }  # fmt: skip
        process, memory = psutil.Process(), []
        for frames in (2, N_FRAMES):
            longer = plan_nersemble(str(root), NersembleConfig(size=size, frames=frames))
            longer.step.fn(tools, longer.items)
            memory.append(round(process.memory_info().rss / 2**20))
        yield {"codec": "H.264", "frames": [2, N_FRAMES], "memory_mb": memory}


def _rewrite(decoder: ProcessDecoder, videos: list[Path], again: Path) -> None:
    """Decode each video's frames at full size and encode them again, H.264 as well."""
    for video in videos:
        write_video(again, (frame.rgb for frame in decoder.frames(video)), FPS)


def _write(root: Path) -> None:
    """One sequence, rendered small, then enlarged to the official size with noise."""
    import cv2

    g = np.random.default_rng(0)
    capture = plan_session(
        load_studio_head(cache_dir()), PERSON, SERIALS_SHOWN, N_FRAMES // REPEATS, 550, 0, PERFORMED[:1]
    )
    for _ in write_sessions(root, {PERSON: capture}):
        pass
    decoder = ProcessDecoder("pyav")
    for serial in capture.cameras:
        path = video_path(root / f"{PERSON:03d}", PERFORMED[0], serial)
        small = [frame.rgb for frame in decoder.frames(path)]

        def full(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
            large = cv2.resize(picture, (FULL_WIDTH, round(FULL_WIDTH * picture.shape[0] / picture.shape[1])))
            noise = g.normal(scale=NOISE, size=(*large.shape[:2], 1)).astype(np.float32)
            return np.asarray(np.clip(large + noise, 0, 255), np.uint8)

        write_video(path, (full(picture) for picture in small for _ in range(REPEATS)), FPS)
    decoder.close()
