"""The sample clips: made once, the same bytes every time, with the truth beside them in ``samples.json``."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.media.video_writer import write_video
from pipelines.samples import rendered
from pipelines.samples.photographs import PORTRAITS, Portrait, load_photograph
from pipelines.samples.takes import FPS, Take, film, takes_of

if TYPE_CHECKING:
    from pipelines.studio.studio_head import StudioHead

TRUTH_FILE = "samples.json"
RECIPE = 3
"""Raised when the clips change: clips of another recipe are made anew."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SampleClip:
    """What a sample clip shows: one entry of ``samples.json``."""

    file: str
    person: str
    """Anonymous label: clips of the same person have the same one."""
    kind: str
    """photograph or rendered."""
    licence: str
    width: int
    height: int
    n_frames: int
    fps: float
    mirrored: bool
    sha256: str = ""


@dataclass(frozen=True)
class _Job:
    clip: SampleClip
    frames: Callable[[], Iterator[np.ndarray]]


def make_samples(
    directory: str | Path,
    quick: bool = True,
    people: Collection[str] | None = None,
    head_cache: Path | None = None,
) -> list[Path]:
    """Make what is missing of the sample clips in a folder, two of each person; returns every clip's path, sorted.

    Deterministic: with the same versions installed, the same bytes. Idempotent: clips that stand in
    ``samples.json`` with their recipe and digest are left alone. A clip appears when it is whole, and stands in
    ``samples.json`` only after that; what a killed call left is removed.

    Args:
        directory: where the clips go; made if it does not exist.
        quick: clips of three to four seconds; four to five otherwise.
        people: labels of the only people wanted; all by default.
        head_cache: where the open head lies, or is built (once, in a minute); the project's cache by default.

    Raises:
        FileNotFoundError: a package no longer ships a photograph that a clip is made from.
        ValueError: ``people`` names someone who is in no clip.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    load_head = cache(lambda: _load_head(head_cache))
    jobs = _jobs(quick, load_head)
    if people is not None:
        known = {job.clip.person for job in jobs}
        if unknown := sorted(set(people) - known):
            raise ValueError(f"no sample clip shows {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        jobs = [job for job in jobs if job.clip.person in people]
    done = {clip.file: clip for clip in read_truth(folder) if _is_whole(folder, clip)}
    missing = [job for job in jobs if not _same(done.get(job.clip.file), job.clip)]
    if missing:
        for left in folder.glob(".*_[ab].mp4.*"):
            shutil.rmtree(left, ignore_errors=True)
        log.info("making %d sample clips in %s", len(missing), folder)
        for clip in _make_all(folder, missing):
            done[clip.file] = clip
            _write_truth(folder, done)
    return sorted(folder / job.clip.file for job in jobs)


def read_truth(directory: str | Path) -> list[SampleClip]:
    """The clips that ``samples.json`` of a folder names; none where there is no such file or another recipe's."""
    path = Path(directory) / TRUTH_FILE
    if not path.is_file():
        return []
    truth = json.loads(path.read_text())
    return [SampleClip(**entry) for entry in truth["clips"]] if truth.get("recipe") == RECIPE else []


def _jobs(quick: bool, load_head: Callable[[], StudioHead]) -> list[_Job]:
    """Every clip to be made, in the order of the people."""
    return [
        _photograph_job(portrait, letter, take)
        for portrait in PORTRAITS
        for letter, take in zip("ab", takes_of(portrait.person, quick=quick), strict=True)
    ] + [_rendered_job(person, take, quick, load_head) for person in rendered.rendered_people(quick) for take in (0, 1)]


def _photograph_job(portrait: Portrait, letter: str, take: Take) -> _Job:
    clip = SampleClip(
        file=f"{portrait.person}_{letter}.mp4",
        person=portrait.person,
        kind="photograph",
        licence=portrait.photograph.licence,
        width=take.width,
        height=take.height,
        n_frames=take.n_frames,
        fps=FPS,
        mirrored=take.mirrored,
    )
    return _Job(clip, lambda: film(load_photograph(portrait.photograph), portrait, take))


def _rendered_job(person: str, take: int, quick: bool, load_head: Callable[[], StudioHead]) -> _Job:
    clip = SampleClip(
        file=f"{person}_{'ab'[take]}.mp4",
        person=person,
        kind="rendered",
        licence=rendered.LICENCE,
        width=rendered.SIZES[take],
        height=rendered.SIZES[take],
        fps=rendered.FPS,
        mirrored=False,
        n_frames=round(rendered.seconds_of(quick) * rendered.FPS),
    )
    return _Job(clip, lambda: rendered.film_rendered(load_head(), person, take, quick))


def _load_head(head_cache: Path | None) -> StudioHead:
    from pipelines.faces.weight_cache import cache_dir
    from pipelines.studio.studio_head import load_studio_head

    return load_studio_head(head_cache or cache_dir())


def _make_all(folder: Path, jobs: Iterable[_Job]) -> Iterator[SampleClip]:
    """Make clips, photographs beside rendered ones (one thread each), and hand each over when it is whole."""
    with ThreadPoolExecutor(1) as filming, ThreadPoolExecutor(1) as rendering:
        pools = {"photograph": filming, "rendered": rendering}
        try:
            for made in as_completed([pools[job.clip.kind].submit(_make, folder, job) for job in jobs]):
                yield made.result()
        finally:
            filming.shutdown(wait=False, cancel_futures=True)
            rendering.shutdown(wait=False, cancel_futures=True)


def _make(folder: Path, job: _Job) -> SampleClip:
    path = folder / job.clip.file
    write_video(path, job.frames(), job.clip.fps)
    return replace(job.clip, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def _is_whole(folder: Path, clip: SampleClip) -> bool:
    path = folder / clip.file
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == clip.sha256


def _same(made: SampleClip | None, wanted: SampleClip) -> bool:
    return made is not None and replace(made, sha256="") == wanted


def _write_truth(folder: Path, clips: dict[str, SampleClip]) -> None:
    """Replace ``samples.json`` in one go."""
    entries = [asdict(clips[file]) for file in sorted(clips)]
    text = json.dumps({"recipe": RECIPE, "clips": entries}, indent=1) + "\n"
    whole = folder / f".{TRUTH_FILE}.part"
    whole.write_text(text)
    whole.replace(folder / TRUTH_FILE)
