"""Making of the sample clips: the same bytes every time, with the truth beside them in ``samples.json``."""

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
from pipelines.samples.photographs import SAMPLE_FACES, SampleFace, load_photograph
from pipelines.samples.takes import FPS, Take, film_photograph, make_takes

if TYPE_CHECKING:
    from pipelines.studio.studio_head import StudioHead

TRUTH_FILE = "samples.json"
RECIPE = 3
"""Version of the clips: those of another recipe are made again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SampleClip:
    """Truth of a sample clip: one entry of ``samples.json``."""

    file: str
    person: str
    """Anonymous label; clips of the same person have the same one."""
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
    """Make the sample clips that a folder lacks, two of each person.

    The same versions of the packages give the same bytes. Clips that ``samples.json`` lists with their recipe and
    digest are left alone. A clip appears when it is complete, and only then in ``samples.json``; the files of a killed
    call are removed.

    Args:
        directory: Folder of the clips; made if it does not exist.
        quick: Make clips of three to four seconds; four to five otherwise.
        people: Labels of the people to make clips of; all by default.
        head_cache: Folder of the open head, which is built there once, in a minute; the project's cache by default.

    Returns:
        The paths of all clips, sorted.

    Raises:
        FileNotFoundError: A package no longer ships a photograph that a clip is made from.
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
    finished = {clip.file: clip for clip in read_truth(folder) if _is_intact(folder, clip)}
    missing = [job for job in jobs if not _is_same(finished.get(job.clip.file), job.clip)]
    if missing:
        for leftover in folder.glob(".*_[ab].mp4.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        log.info("making %d sample clips in %s", len(missing), folder)
        for clip in _make_all(folder, missing):
            finished[clip.file] = clip
            _write_truth(folder, finished)
    return sorted(folder / job.clip.file for job in jobs)


def read_truth(directory: str | Path) -> list[SampleClip]:
    """Read the clips that ``samples.json`` of a folder lists; none where it is missing or of another recipe.

    Args:
        directory: Folder of the clips.
    """
    path = Path(directory) / TRUTH_FILE
    if not path.is_file():
        return []
    truth = json.loads(path.read_text())
    return [SampleClip(**entry) for entry in truth["clips"]] if truth.get("recipe") == RECIPE else []


def _jobs(quick: bool, load_head: Callable[[], StudioHead]) -> list[_Job]:
    """List every clip to be made, in the order of the people."""
    return [
        _photograph_job(face, letter, take)
        for face in SAMPLE_FACES
        for letter, take in zip("ab", make_takes(face.person, quick=quick), strict=True)
    ] + [_rendered_job(person, take, quick, load_head) for person in rendered.rendered_people(quick) for take in (0, 1)]


def _photograph_job(face: SampleFace, letter: str, take: Take) -> _Job:
    clip = SampleClip(
        file=f"{face.person}_{letter}.mp4",
        person=face.person,
        kind="photograph",
        licence=face.photograph.licence,
        width=take.width,
        height=take.height,
        n_frames=take.n_frames,
        fps=FPS,
        mirrored=take.mirrored,
    )
    return _Job(clip, lambda: film_photograph(load_photograph(face.photograph), face, take))


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
        n_frames=round(rendered.clip_seconds(quick) * rendered.FPS),
    )
    return _Job(clip, lambda: rendered.film_rendered(load_head(), person, take, quick))


def _load_head(head_cache: Path | None) -> StudioHead:
    from pipelines.faces.weight_cache import cache_dir
    from pipelines.studio.studio_head import load_studio_head

    return load_studio_head(head_cache or cache_dir())


def _make_all(folder: Path, jobs: Iterable[_Job]) -> Iterator[SampleClip]:
    """Make clips of photographs and rendered ones at the same time, one thread each; yield each when it is complete."""
    with ThreadPoolExecutor(1) as filming, ThreadPoolExecutor(1) as rendering:
        pools = {"photograph": filming, "rendered": rendering}
        try:
            for finished in as_completed([pools[job.clip.kind].submit(_make, folder, job) for job in jobs]):
                yield finished.result()
        finally:
            filming.shutdown(wait=False, cancel_futures=True)
            rendering.shutdown(wait=False, cancel_futures=True)


def _make(folder: Path, job: _Job) -> SampleClip:
    path = folder / job.clip.file
    write_video(path, job.frames(), job.clip.fps)
    return replace(job.clip, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def _is_intact(folder: Path, clip: SampleClip) -> bool:
    path = folder / clip.file
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == clip.sha256


def _is_same(clip: SampleClip | None, expected: SampleClip) -> bool:
    return clip is not None and replace(clip, sha256="") == expected


def _write_truth(folder: Path, clips: dict[str, SampleClip]) -> None:
    """Replace ``samples.json`` atomically."""
    entries = [asdict(clips[file]) for file in sorted(clips)]
    text = json.dumps({"recipe": RECIPE, "clips": entries}, indent=1) + "\n"
    part = folder / f".{TRUTH_FILE}.part"
    part.write_text(text)
    part.replace(folder / TRUTH_FILE)
