"""Rendered captures in the layouts of official data sets, with ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from infra.console import ProgressBar, say
from nersemble.layout import FULL_HEIGHT, FULL_WIDTH
from pipelines.faces.weight_cache import cache_dir
from pipelines.studio.captures.ava256_layout import Ava256Spec, write_ava256
from pipelines.studio.captures.capture_studio import CaptureStudio, open_capture_studio
from pipelines.studio.captures.nersemble_benchmark_layout import BenchmarkSpec, write_benchmark
from pipelines.studio.captures.nersemble_layout import FIRST_PARTICIPANT, plan_session, write_sessions
from pipelines.studio.looks.dressed_people import PeopleName

Writer = Callable[[CaptureStudio, Path, int, int, int, int, int], Iterator[Path]]
"""Function from (studio, folder, identities, cameras, timesteps, image height in pixels, seed) to captures' folders."""


def layout_command(
    layout: str,
    identities: int,
    cameras: int,
    timesteps: int,
    size: int,
    seed: int,
    out: str,
    people: PeopleName = "open",
    assets: Path | None = None,
) -> None:
    """Run ``ffavatar studio`` for an official layout.

    Args:
        layout: A key of ``LAYOUTS``.
        identities: Number of people, with one capture each.
        cameras: Number of cameras per capture.
        timesteps: Number of timesteps per capture.
        size: Height of an image, pixels; ignored for ``nersemble-benchmark``.
        seed: Seed of people, cameras and motion.
        out: Folder of the data set.
        people: Name of the source of people.
        assets: Folder of a kit, or None.

    Raises:
        ValueError: The people cannot be in these layouts, or their assets are missing or damaged.
    """
    root = Path(out.removeprefix("file://"))
    studio = open_capture_studio(cache_dir(), people, assets)
    with ProgressBar(f"rendering {layout}") as progress:
        folders = LAYOUTS[layout](studio, root, identities, cameras, timesteps, size, seed)
        for number, folder in enumerate(folders, 1):
            progress.update("captures", number, identities)
            say("{folder}", folder=folder)


def _ava256(
    studio: CaptureStudio, root: Path, identities: int, cameras: int, timesteps: int, size: int, seed: int
) -> Iterator[Path]:
    return write_ava256(studio, root, identities, Ava256Spec(n_cameras=cameras, frames=timesteps, height=size), seed)


def _nersemble(
    studio: CaptureStudio, root: Path, identities: int, cameras: int, timesteps: int, size: int, seed: int
) -> Iterator[Path]:
    width = round(size * FULL_WIDTH / FULL_HEIGHT / 2) * 2
    people = range(FIRST_PARTICIPANT, FIRST_PARTICIPANT + identities)
    sessions = {p: plan_session(studio, p, cameras, timesteps, width, seed) for p in people}
    return write_sessions(root, sessions)


def _nersemble_benchmark(
    studio: CaptureStudio, root: Path, identities: int, cameras: int, timesteps: int, size: int, seed: int
) -> Iterator[Path]:
    """Write the benchmark's layout; the benchmark fixes the image sizes, so ``size`` is ignored."""
    return write_benchmark(
        studio, root, BenchmarkSpec(identities=identities, frames=timesteps, cameras=cameras, seed=seed)
    )


LAYOUTS: dict[str, Writer] = {
    "ava256": _ava256,
    "nersemble": _nersemble,
    "nersemble-benchmark": _nersemble_benchmark,
}
"""Writer of each layout, by the name of the layout."""
