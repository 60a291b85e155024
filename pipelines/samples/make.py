"""Making of the sample clips, which are the same bytes every time, and of their truth in ``samples.json``."""

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
    from pipelines.studio.captures.capture_studio import CaptureStudio

TRUTH_FILE = "samples.json"
"""Name of the file with the truth."""
RECIPE = 4
"""Version of the clips' recipe; clips of another version are made again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SampleClip:
    """Truth of a sample clip, one entry of ``samples.json``."""

    file: str
    """File name of the clip."""
    person: str
    """Anonymous label of the person, the same for all clips of that person."""
    kind: str
    """Origin of the images: photograph or rendered."""
    licence: str
    """Licence of the clip."""
    width: int
    """Width of the frames, pixels."""
    height: int
    """Height of the frames, pixels."""
    n_frames: int
    """Number of frames."""
    fps: float
    """Frames per second."""
    mirrored: bool
    """True if the photograph is mirrored."""
    sha256: str = ""
    """Hexadecimal digest of the file; empty before the clip is made."""


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
    """Make the sample clips that a folder lacks, two per person.

    The same versions of the packages give the same bytes. A clip is kept if ``samples.json`` lists it with the current
    recipe and the right digest. A clip is added to the folder, and then to ``samples.json``, only after it is complete.
    Incomplete files of a killed call are removed.

    Args:
        directory: Folder of the clips; made if it does not exist.
        quick: Make clips of three to four seconds instead of four to five.
        people: Labels of the people whose clips are made; all by default.
        head_cache: Folder of the open head, by default the project's cache; the head is built there once, in a minute.

    Returns:
        The paths of all clips, sorted.

    Raises:
        FileNotFoundError: A package no longer contains a photograph that is needed.
        ValueError: ``people`` contains an unknown label.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    open_studio = cache(lambda: _open_studio(head_cache))
    jobs = _jobs(quick, open_studio)
    if people is not None:
        known = {job.clip.person for job in jobs}
        if unknown := sorted(set(people) - known):
            raise ValueError(f"no sample clip shows {', '.join(unknown)}; there are {', '.join(sorted(known))}")
        jobs = [job for job in jobs if job.clip.person in people]
    finished = {clip.file: clip for clip in read_truth(folder) if _is_intact(folder, clip)}
    missing = [job for job in jobs if not _is_same(finished.get(job.clip.file), job.clip)]
    if missing:
        for leftover in folder.glob(".video-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        log.info("making %d sample clips in %s", len(missing), folder)
        for clip in _make_all(folder, missing):
            finished[clip.file] = clip
            _write_truth(folder, finished)
    return sorted(folder / job.clip.file for job in jobs)


def read_truth(directory: str | Path) -> list[SampleClip]:
    """Read the clips listed in a folder's ``samples.json``; empty if the file is missing or of another recipe.

    Args:
        directory: Folder of the clips.
    """
    path = Path(directory) / TRUTH_FILE
    if not path.is_file():
        return []
    truth = json.loads(path.read_text())
    return [SampleClip(**entry) for entry in truth["clips"]] if truth.get("recipe") == RECIPE else []


def _jobs(quick: bool, open_studio: Callable[[], CaptureStudio]) -> list[_Job]:
    """List all clips, first those of photographs, then the rendered ones."""
    return [
        _photograph_job(face, letter, take)
        for face in SAMPLE_FACES
        for letter, take in zip("ab", make_takes(face.person, quick=quick), strict=True)
    ] + [
        _rendered_job(person, take, quick, open_studio) for person in rendered.rendered_people(quick) for take in (0, 1)
    ]


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


def _rendered_job(person: str, take: int, quick: bool, open_studio: Callable[[], CaptureStudio]) -> _Job:
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
    return _Job(clip, lambda: rendered.film_rendered(open_studio(), person, take, quick))


def _open_studio(head_cache: Path | None) -> CaptureStudio:
    """Open the studio in the calling thread; rays on the CPU give the same bytes on any machine."""
    from pipelines.faces.weight_cache import cache_dir
    from pipelines.studio.captures.capture_studio import open_capture_studio

    return open_capture_studio(head_cache or cache_dir(), choice="cpu")


def _make_all(folder: Path, jobs: Iterable[_Job]) -> Iterator[SampleClip]:
    """Make clips in two threads, one for photographs and one for rendering; yield each clip after it is complete."""
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
