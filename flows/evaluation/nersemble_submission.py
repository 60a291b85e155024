"""``ffavatar evaluate --nersemble-benchmark``: submissions to the NeRSemble benchmark, rendered with a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffavatar_model.head.flame import load_flame, origin_of
from ffavatar_model.model import FFAvatar
from flows.avatar.photos import FaceAligner
from flows.avatar.reconstruct import open_model
from flows.evaluation.nersemble_rendering import (
    DriverFrames,
    Participant,
    driven_by_tracking,
    driven_by_views,
    open_person,
    pictures_of,
    tasks_of,
)
from flows.evaluation.submission_zip import SubmissionWriter
from infra.console import SOME_FAILED, CallError, ProgressBar, say
from nersemble.benchmark import MONO, BenchmarkTask, Video, n_frames
from nersemble.errors import NersembleError
from nersemble.flame_tracking import head_of, read_tracking
from nersemble.layout import serials_of, tracking_path
from pipelines.conversion.head_finder import HeadFinder
from pipelines.media.cameras import Array


def benchmark_command(checkpoint: Path, benchmark: Path, head: Path | None, pack: str | None, out: Path) -> int:
    """``ffavatar evaluate --nersemble-benchmark``: returns the exit status, 1 for a submission that is not whole."""
    complete = write_submissions(checkpoint, benchmark, out, head=head, pack=pack)
    return 0 if all(complete.values()) else SOME_FAILED


def write_submissions(
    checkpoint: Path, benchmark: Path, out: Path, *, head: Path | None = None, pack: str | None = None
) -> dict[Path, bool]:
    """Render every recording of a benchmark folder's tasks into ``out/{task}.zip``; says of each whether it is whole.

    Raises:
        CallError: no benchmark data; a head model that the task's parameters do not belong to; no face in what the
            avatar is to be made from.
        NersembleError: a file that is not what the benchmark's are.
    """
    tasks = tasks_of(benchmark)
    lengths = {task.name: n_frames(benchmark, task) for task in tasks}
    trackings = _trackings(benchmark, lengths[MONO.name]) if MONO in tasks else []
    model, _ = open_model(checkpoint)
    origins = head_origins(model, trackings, head)
    maker = FaceAligner(pack)
    done: dict[Path, bool] = {}
    for task in tasks:
        path = out / f"{task.name}.zip"
        videos = _there(benchmark, task, lengths[task.name])
        progress, person = ProgressBar(f"rendering {task.name}"), None
        with SubmissionWriter(path, task, lengths[task.name]) as writer:
            for number, (participant, sequence) in enumerate(videos):
                folder = benchmark / task.name / f"{participant:03d}"
                if person is None or person.folder != folder:
                    person = open_person(model, maker, task, folder, sequence)
                driven = _driven(model, maker, person, sequence, lengths[task.name][participant, sequence], origins)
                for serial in task.serials:
                    video = Video(participant, sequence, serial)
                    if serial not in person.cameras:
                        raise NersembleError(f"{folder}: the calibration lacks camera {serial}; fetch it again")
                    writer.add(video, pictures_of(model, person, driven, serial))
                progress.update(task.name, number + 1, len(videos), {})
            missing = writer.missing
        progress.close()
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
            say("{path}: whole, {n} videos", path=path, n=len(list(task.videos())))
    return done


def head_origins(model: FFAvatar, trackings: Sequence[Path], head: Path | None) -> dict[Path, Array]:
    """(3,) for each tracking file: where the model's head has its origin in the frame of the head that was tracked.

    Official parameters are FLAME 2023's: the model must be made with that file, which is asked for again, since a head
    file keeps no origin. Rendered data is marked with its own head (``nersemble.flame_tracking.head_of``).

    Raises:
        CallError: the parameters belong to another head than the model's.
    """
    found: dict[Path, Array] = {}
    flame: Array | None = None
    for path in trackings:
        mark = head_of(path)
        if mark is None:
            flame = _flame_origin(model, path, head) if flame is None else flame
            found[path] = flame
        elif mark.get("digest") == model.head_digest:
            found[path] = np.zeros(3)
        else:
            raise CallError(
                f"{path}: parameters of the head {mark.get('name')} {mark.get('digest')}, and the checkpoint is "
                f"made with {model.head_name} {model.head_digest}; render the benchmark again"
            )
    return found


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
    return origin_of(head)


def _driven(
    model: FFAvatar, maker: FaceAligner, person: Participant, sequence: str, n: int, origins: dict[Path, Array]
) -> DriverFrames:
    if person.task is not MONO:
        return driven_by_views(model, maker, HeadFinder.load(), person, sequence, n)
    return driven_by_tracking(model, person.folder, sequence, origins[tracking_path(person.folder, sequence)])


def _trackings(benchmark: Path, lengths: dict[tuple[int, str], int]) -> list[Path]:
    """The tracking files of the mono task's test sequences that are there, each as long as the task says."""
    found = []
    for participant, sequence in _there(benchmark, MONO, lengths):
        path = tracking_path(benchmark / MONO.name / f"{participant:03d}", sequence)
        n, wanted = len(read_tracking(path)), lengths[participant, sequence]
        if n != wanted:
            raise NersembleError(f"{path}: {n} frames, and the task's metadata.json says {wanted}")
        found.append(path)
    return found


def _there(benchmark: Path, task: BenchmarkTask, lengths: dict[tuple[int, str], int]) -> list[tuple[int, str]]:
    """The recordings that the folder has what it takes to render."""
    found = []
    for participant, sequence in task.recordings:
        folder = benchmark / task.name / f"{participant:03d}"
        has = tracking_path(folder, sequence).is_file() if task is MONO else bool(serials_of(folder, sequence))
        if has and (participant, sequence) in lengths:
            found.append((participant, sequence))
    return found
