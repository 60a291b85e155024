"""``ffavatar studio`` for the official layouts: rendered captures in files like those of the data sets, with truth."""

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
"""(head, folder, identities, cameras, frames, pixels of the picture's height, seed) → each capture's folder."""


def layout_command(layout: str, identities: int, cameras: int, moments: int, size: int, seed: int, out: str) -> None:
    """Write ``identities`` captures of ``moments`` frames each in an official layout."""
    root = Path(out.removeprefix("file://"))
    progress = ProgressBar(f"rendering {layout}")
    for number, folder in enumerate(
        LAYOUTS[layout](load_studio_head(cache_dir()), root, identities, cameras, moments, size, seed), 1
    ):
        progress.update("captures", number, identities)
        say("{folder}", folder=folder)
    progress.close()


def _ava256(
    head: StudioHead, root: Path, identities: int, cameras: int, moments: int, size: int, seed: int
) -> Iterator[Path]:
    return write_ava256(head, root, identities, Ava256Spec(n_cameras=cameras, frames=moments, height=size), seed)


def _nersemble(
    head: StudioHead, root: Path, identities: int, cameras: int, moments: int, size: int, seed: int
) -> Iterator[Path]:
    width = round(size * FULL_WIDTH / FULL_HEIGHT / 2) * 2
    people = range(FIRST_PARTICIPANT, FIRST_PARTICIPANT + identities)
    sessions = {p: plan_session(head, p, cameras, moments, width, seed) for p in people}
    return write_sessions(root, sessions)


def _nersemble_benchmark(
    head: StudioHead, root: Path, identities: int, cameras: int, moments: int, size: int, seed: int
) -> Iterator[Path]:
    """Pictures have the benchmark's own sizes, whatever ``size`` is."""
    return write_benchmark(head, root, BenchmarkSpec(identities=identities, frames=moments, cameras=cameras, seed=seed))


LAYOUTS: dict[str, Writer] = {
    "ava256": _ava256,
    "nersemble": _nersemble,
    "nersemble-benchmark": _nersemble_benchmark,
}
"""Name to the function that writes it."""
