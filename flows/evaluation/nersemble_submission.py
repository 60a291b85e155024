"""Command ``ffavatar evaluate --nersemble-benchmark``: render submissions to the NeRSemble benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffavatar_model.head.flame import load_flame, read_origin
from ffavatar_model.model import FFAvatar
from flows.avatar.load_models import open_model
from flows.avatar.photos import FaceAligner
from flows.evaluation.nersemble_rendering import (
    DriverFrames,
    Participant,
    estimate_frames,
    find_tasks,
    open_participant,
    read_tracked_frames,
    render_camera,
)
from flows.evaluation.submission_zip import SubmissionWriter
from infra.console import SOME_FAILED, CallError, ProgressBar, say
from nersemble.benchmark import MONO, BenchmarkTask, SubmissionVideo, read_frame_counts
from nersemble.errors import NersembleError
from nersemble.flame_tracking import read_head_mark, read_tracking
from nersemble.layout import list_serials, tracking_path
from pipelines.conversion.head_finder import HeadFinder
from pipelines.media.cameras import Array


def benchmark_command(checkpoint: Path, benchmark: Path, head: Path | None, pack: str | None, out: Path) -> int:
    """Run ``ffavatar evaluate --nersemble-benchmark``.

    Args:
        checkpoint: A model file, or a folder that contains one.
        benchmark: Folder of the benchmark's data.
        head: The FLAME file that the model was made with; None if the data has no parameters of FLAME.
        pack: Name or folder of the detector's face pack; None for the embedded pack.
        out: Folder in which the submissions are written.

    Returns:
        The exit status: ``SOME_FAILED`` if a submission is incomplete, otherwise 0.
    """
    complete = render_submissions(checkpoint, benchmark, out, head=head, pack=pack)
    return 0 if all(complete.values()) else SOME_FAILED


def render_submissions(
    checkpoint: Path, benchmark: Path, out: Path, *, head: Path | None = None, pack: str | None = None
) -> dict[Path, bool]:
    """Render every recording of a benchmark folder's tasks into ``out/{task}.zip``.

    Args:
        checkpoint: A model file, or a folder that contains one.
        benchmark: Folder of the benchmark's data.
        out: Folder in which the submissions are written.
        head: The FLAME file that the model was made with; required if the data has parameters of FLAME.
        pack: Name or folder of the detector's face pack; None for the embedded pack.

    Returns:
        For each submission file, True if it is complete.

    Raises:
        CallError: The folder has no benchmark data, the task's parameters belong to another head model, or no source
            image shows a face.
        NersembleError: A file of the benchmark is missing or not valid.
    """
    tasks = find_tasks(benchmark)
    lengths = {task.name: read_frame_counts(benchmark, task) for task in tasks}
    trackings = _list_trackings(benchmark, lengths[MONO.name]) if MONO in tasks else []
    model, _ = open_model(checkpoint)
    origins = find_head_origins(model, trackings, head)
    aligner = FaceAligner(pack)
    done: dict[Path, bool] = {}
    for task in tasks:
        path = out / f"{task.name}.zip"
        videos = _list_recordings(benchmark, task, lengths[task.name])
        person = None
        with (
            ProgressBar(f"rendering {task.name}") as progress,
            SubmissionWriter(path, task, lengths[task.name]) as writer,
        ):
            for number, (participant, sequence) in enumerate(videos):
                folder = benchmark / task.name / f"{participant:03d}"
                if person is None or person.folder != folder:
                    person = open_participant(model, aligner, task, folder, sequence)
                driven = _read_driver_frames(
                    model, aligner, person, sequence, lengths[task.name][participant, sequence], origins
                )
                for serial in task.serials:
                    video = SubmissionVideo(participant, sequence, serial)
                    if serial not in person.cameras:
                        raise NersembleError(f"{folder}: the calibration lacks camera {serial}; fetch it again")
                    writer.add(video, render_camera(model, person, driven, serial))
                progress.update(task.name, number + 1, len(videos), {})
            missing = writer.missing
        done[path] = not missing
        if not videos:
            say("{task}: nothing in {folder} that is to be rendered", task=task.name, folder=benchmark)
        elif missing:
            say(
                "{path}: {n} of {all} videos; the first missing: {first}",
                path=path,
                n=len(list(task.videos())) - len(missing),
                all=len(list(task.videos())),
                first=missing[0].member,
            )
        else:
            say("{path}: complete, {n} videos", path=path, n=len(list(task.videos())))
    return done


def find_head_origins(model: FFAvatar, trackings: Sequence[Path], head: Path | None) -> dict[Path, Array]:
    """Find the origin of the model's head in the frame of the tracked head.

    Official parameters are those of FLAME 2023, so the model must have been made with this file. The file is needed
    again here, because a head file does not contain the origin. Rendered data names its own head
    (``nersemble.flame_tracking.read_head_mark``).

    Args:
        model: Model that is rendered.
        trackings: Tracking files of the mono task.
        head: The FLAME file that the model was made with, or None.

    Returns:
        The (3,) origin for each tracking file.

    Raises:
        CallError: The parameters belong to another head than the model's.
    """
    origins: dict[Path, Array] = {}
    flame: Array | None = None
    for path in trackings:
        mark = read_head_mark(path)
        if mark is None:
            flame = _flame_origin(model, path, head) if flame is None else flame
            origins[path] = flame
        elif mark.get("digest") == model.head_digest:
            origins[path] = np.zeros(3)
        else:
            raise CallError(
                f"{path}: parameters of the head {mark.get('name')} {mark.get('digest')}, and the checkpoint is "
                f"made with {model.head_name} {model.head_digest}; render the benchmark again"
            )
    return origins


def _flame_origin(model: FFAvatar, tracking: Path, head: Path | None) -> Array:
    if model.head_name == "open":
        raise CallError(
            f"{tracking}: FLAME's parameters, and the checkpoint is made with the open head; "
            "train with --head flame2023.pkl"
        )
    if head is None:
        raise CallError(
            f"{tracking}: FLAME's parameters; give the FLAME file that the model was made with: --head FILE"
        )
    if load_flame(head).digest != model.head_digest:
        raise CallError(f"--head {head}: not the file that the checkpoint was made with ({model.head_name})")
    return read_origin(head)


def _read_driver_frames(
    model: FFAvatar, aligner: FaceAligner, person: Participant, sequence: str, n: int, origins: dict[Path, Array]
) -> DriverFrames:
    if person.task is not MONO:
        return estimate_frames(model, aligner, HeadFinder.load(), person, sequence, n)
    return read_tracked_frames(model, person.folder, sequence, origins[tracking_path(person.folder, sequence)])


def _list_trackings(benchmark: Path, lengths: dict[tuple[int, str], int]) -> list[Path]:
    """List the existing tracking files of the mono task's test sequences.

    Raises:
        NersembleError: A file has another number of frames than the task's ``metadata.json`` states.
    """
    trackings = []
    for participant, sequence in _list_recordings(benchmark, MONO, lengths):
        path = tracking_path(benchmark / MONO.name / f"{participant:03d}", sequence)
        n, expected = len(read_tracking(path)), lengths[participant, sequence]
        if n != expected:
            raise NersembleError(f"{path}: {n} frames, and the task's metadata.json says {expected}")
        trackings.append(path)
    return trackings


def _list_recordings(
    benchmark: Path, task: BenchmarkTask, lengths: dict[tuple[int, str], int]
) -> list[tuple[int, str]]:
    """List the recordings of a task for which the benchmark folder has everything that rendering needs."""
    recordings = []
    for participant, sequence in task.recordings:
        folder = benchmark / task.name / f"{participant:03d}"
        ready = tracking_path(folder, sequence).is_file() if task is MONO else bool(list_serials(folder, sequence))
        if ready and (participant, sequence) in lengths:
            recordings.append((participant, sequence))
    return recordings
