"""The NeRSemble benchmark's held-out recordings, and the videos of a submission.

Ids, sequences, cameras, sizes, frame rates, the encoder setting and the names inside the zip are taken from
``nersemble-benchmark`` 0.2.0 (``constants.py``, ``data/submission_data.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nersemble.errors import NersembleError
from nersemble.layout import SERIALS, TASKS

CRF = 14
"""Constant rate factor of x264 for all submitted videos."""

NVS_SEQUENCES = {388: "GLASSES", 422: "EXP-2-eyes", 443: "FREE", 445: "EXP-6-tongue-1", 475: "HAIR"}
"""Participant → sequence of the novel-view-synthesis task."""
NVS_HELD_OUT = ("222200046", "222200037", "222200039")
"""Serial numbers of the cameras that the novel-view-synthesis task hides."""
NVS_TRAIN = tuple(serial for serial in SERIALS if serial not in NVS_HELD_OUT)
"""Serial numbers of the public cameras of the novel-view-synthesis task."""

MONO_PARTICIPANTS = (393, 404, 461, 477, 486)
"""Participants of the monocular avatar task."""
MONO_TRAIN_SEQUENCES = (
    "EXP-1-head",
    "EXP-2-eyes",
    "EXP-3-cheeks+nose",
    "EXP-4-lips",
    "EXP-5-mouth",
    "EXP-8-jaw-1",
    "EXP-9-jaw-2",
    "EMO-2-surprise+fear",
    "EMO-3-angry+sad",
    "EMO-4-disgust+happy",
    "SEN-01-cramp_small_danger",
    "SEN-02-same_phrase_thirty_times",
    "SEN-03-pluck_bright_rose",
    "SEN-04-two_plus_seven",
    "SEN-05-glow_eyes_sweet_girl",
    "SEN-06-problems_wise_chief",
    "SEN-07-fond_note_fried",
    "SEN-08-clothes_and_lodging",
)
"""Public sequences of the monocular avatar task."""
MONO_TEST_SEQUENCES = ("FREE", "EMO-1-shout+laugh", "SEN-09-frown_events_bad", "SEN-10-port_strong_smokey")
"""Hidden sequences of the monocular avatar task."""
MONO_TRAIN = "222200037"
"""Serial number of the public camera of the monocular avatar task."""
MONO_HELD_OUT = ("222200046", "220700191", "222200039")
"""Serial numbers of the hidden cameras of the monocular avatar task."""

SVFR_PARTICIPANTS = (
    17,
    60,
    71,
    102,
    112,
    123,
    133,
    139,
    175,
    178,
    183,
    194,
    215,
    226,
    256,
    266,
    289,
    310,
    320,
    372,
)
"""Participants of the single-view face reconstruction task."""

HELD_OUT_PARTICIPANTS = frozenset({*NVS_SEQUENCES, *MONO_PARTICIPANTS, *SVFR_PARTICIPANTS})
"""Participants in the hidden truth of the three tasks, who are never in the split train."""


class SubmissionVideo(NamedTuple):
    """One video of a submission."""

    participant: int
    """Number of the participant."""
    sequence: str
    """Name of the sequence."""
    serial: str
    """Serial number of the camera."""

    @property
    def member(self) -> str:
        """Name of the video inside the zip."""
        return f"{self.participant:03d}/{self.sequence}/cam_{self.serial}.mp4"


@dataclass(frozen=True)
class BenchmarkTask:
    """A task of the benchmark whose submission consists of videos."""

    name: str
    """Name of the task, which is also its folder."""
    fps: float
    """Frames per second."""
    width: int
    """Width of the videos, pixels."""
    height: int
    """Height of the videos, pixels."""
    recordings: tuple[tuple[int, str], ...]
    """(participant, sequence) of each recording that is to be rendered."""
    serials: tuple[str, ...]
    """Serial numbers of the cameras for which recordings are rendered."""

    def videos(self) -> Iterator[SubmissionVideo]:
        """Yield all videos of a complete submission."""
        for participant, sequence in self.recordings:
            for serial in self.serials:
                yield SubmissionVideo(participant, sequence, serial)


MONO = BenchmarkTask(
    "mono_flame_avatar",
    24.3,
    512,
    512,
    tuple((p, s) for p in MONO_PARTICIPANTS for s in MONO_TEST_SEQUENCES),
    (MONO_TRAIN, *MONO_HELD_OUT),
)
NVS = BenchmarkTask("nvs", 73.0, 1100, 1604, tuple(NVS_SEQUENCES.items()), NVS_HELD_OUT)
TASKS_BY_NAME = {task.name: task for task in (MONO, NVS)}
if tuple(TASKS_BY_NAME) != TASKS:
    raise AssertionError("layout.TASKS must name the tasks")


def read_frame_counts(folder: Path, task: BenchmarkTask) -> dict[tuple[int, str], int]:
    """Read the number of frames of a task's recordings from ``{folder}/{task}/metadata.json``.

    The official kit reads the same file from the benchmark's server.

    Args:
        folder: Folder of the benchmark.
        task: The task.

    Returns:
        (participant, sequence) → number of frames, for the task's recordings that the file lists.

    Raises:
        NersembleError: The file is missing or has another form.
    """
    path = folder / task.name / "metadata.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if task is NVS:
            counts = {(int(p), s["sequence_name"]): len(s["timesteps"]) for p, s in content["sequences"].items()}
        else:
            counts = {
                (int(p), sequence): int(facts["n_frames"])
                for p, person in content["participants_metadata"].items()
                for sequence, facts in person["sequences_metadata"].items()
            }
    except FileNotFoundError:
        raise NersembleError(
            f"{path}: missing; fetch {task.name}/metadata.json from the address in your access mail"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NersembleError(f"{path}: no {task.name} metadata ({type(error).__name__}: {error})") from error
    return {recording: n for recording, n in counts.items() if recording in task.recordings}


def write_metadata(folder: Path, task: BenchmarkTask, frames: dict[tuple[int, str], int]) -> None:
    """Write a task's ``metadata.json``.

    Args:
        folder: Folder of the benchmark.
        task: The task.
        frames: (participant, sequence) → number of frames.
    """
    if task is NVS:
        content: dict[str, object] = {
            "sequences": {str(p): {"sequence_name": s, "timesteps": list(range(n))} for (p, s), n in frames.items()}
        }
    else:
        people: dict[str, dict[str, dict[str, dict[str, int]]]] = {}
        for (p, s), n in frames.items():
            people.setdefault(str(p), {"sequences_metadata": {}})["sequences_metadata"][s] = {"n_frames": n}
        content = {"participants_metadata": people}
    path = folder / task.name / "metadata.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
