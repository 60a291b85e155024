"""Rendered captures in the layouts of official data sets, with ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from infra.console import ProgressBar, say
from nersemble.layout import FULL_HEIGHT, FULL_WIDTH
from pipelines.faces.weight_cache import cache_dir
from pipelines.studio.ava256_layout import Ava256Spec, write_ava256
from pipelines.studio.nersemble_benchmark_layout import BenchmarkSpec, write_benchmark
from pipelines.studio.nersemble_layout import FIRST_PARTICIPANT, plan_session, write_sessions
from pipelines.studio.studio_head import StudioHead, load_studio_head

Writer = Callable[[StudioHead, Path, int, int, int, int, int], Iterator[Path]]
"""Function from (head, folder, identities, cameras, timesteps, image height in pixels, seed) to the capture folders."""


def layout_command(layout: str, identities: int, cameras: int, timesteps: int, size: int, seed: int, out: str) -> None:
    """Run ``ffavatar studio`` for an official layout.

    Args:
        layout: A key of ``LAYOUTS``.
        identities: Number of people, with one capture each.
        cameras: Number of cameras per capture.
        timesteps: Number of timesteps per capture.
        size: Height of an image, pixels; ignored for ``nersemble-benchmark``.
        seed: Seed of people, cameras and motion.
        out: Folder of the data set.
    """
    root = Path(out.removeprefix("file://"))
    head = load_studio_head(cache_dir())
    with ProgressBar(f"rendering {layout}") as progress:
        folders = LAYOUTS[layout](head, root, identities, cameras, timesteps, size, seed)
        for number, folder in enumerate(folders, 1):
            progress.update("captures", number, identities)
            say("{folder}", folder=folder)


def _ava256(
    head: StudioHead, root: Path, identities: int, cameras: int, timesteps: int, size: int, seed: int
) -> Iterator[Path]:
    return write_ava256(head, root, identities, Ava256Spec(n_cameras=cameras, frames=timesteps, height=size), seed)


def _nersemble(
    head: StudioHead, root: Path, identities: int, cameras: int, timesteps: int, size: int, seed: int
) -> Iterator[Path]:
    width = round(size * FULL_WIDTH / FULL_HEIGHT / 2) * 2
    people = range(FIRST_PARTICIPANT, FIRST_PARTICIPANT + identities)
    sessions = {p: plan_session(head, p, cameras, timesteps, width, seed) for p in people}
    return write_sessions(root, sessions)


def _nersemble_benchmark(
    head: StudioHead, root: Path, identities: int, cameras: int, timesteps: int, size: int, seed: int
) -> Iterator[Path]:
    """Write the benchmark's layout; the benchmark fixes the image sizes, so ``size`` is ignored."""
    return write_benchmark(
        head, root, BenchmarkSpec(identities=identities, frames=timesteps, cameras=cameras, seed=seed)
    )


LAYOUTS: dict[str, Writer] = {
    "ava256": _ava256,
    "nersemble": _nersemble,
    "nersemble-benchmark": _nersemble_benchmark,
}
"""Writer of each layout, by the name of the layout."""
