"""Layouts of NeRSemble's files: v2 (videos), v1 (one image per timestep) and the benchmark's folders.

Names and path templates are those of the official kits, ``nersemble-data`` 0.0.6 and ``nersemble-benchmark`` 0.2.0;
those of v1 are from the paper's code (``NeRSembleDataManager``).
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from nersemble.errors import NersembleError

SERIALS = (
    "222200042",
    "222200044",
    "222200046",
    "222200040",
    "222200036",
    "222200048",
    "220700191",
    "222200041",
    "222200037",
    "222200038",
    "222200047",
    "222200043",
    "222200049",
    "222200039",
    "222200045",
    "221501007",
)
"""Serial numbers of the 16 cameras."""
FRONT_SERIAL = "222200037"
"""Serial number of the camera in front of the face, which the benchmark calls the centre camera."""
FULL_WIDTH, FULL_HEIGHT = 2200, 3208
"""Size of a camera's image, pixels, to which the data set's shared intrinsic matrix belongs."""
FPS = 73.0
"""Frames per second."""

BACKGROUND = "BACKGROUND"
"""Name of the folder with the images of the empty room."""
SEQUENCES = (
    "GLASSES",
    "EXP-1-head",
    "EXP-2-eyes",
    "EXP-3-cheeks+nose",
    "EXP-4-lips",
    "EXP-5-mouth",
    "EXP-6-tongue-1",
    "EXP-7-tongue-2",
    "EXP-8-jaw-1",
    "EXP-9-jaw-2",
    "HAIR",
    "FREE",
    "EMO-1-shout+laugh",
    "EMO-2-surprise+fear",
    "EMO-3-angry+sad",
    "EMO-4-disgust+happy",
    "SEN-01-cramp_small_danger",
    "SEN-02-same_phrase_thirty_times",
    "SEN-03-pluck_bright_rose",
    "SEN-04-two_plus_seven",
    "SEN-05-glow_eyes_sweet_girl",
    "SEN-06-problems_wise_chief",
    "SEN-07-fond_note_friend",
    "SEN-08-clothes_and_lodging",
    "SEN-09-frown_events_bad",
    "SEN-10-port_strong_smokey",
)
"""Names of the sequences; the benchmark spells one of them ``SEN-07-fond_note_fried``."""

PARTICIPANTS_CSV, SEQUENCES_CSV = "metadata_participants.csv", "metadata_sequences.csv"


class Layout(StrEnum):
    """Layout of a folder of NeRSemble data."""

    V2 = "v2"
    """``{id}/calibration/camera_params.json``, ``{id}/sequences/{SEQ}/images/cam_{serial}.mp4``."""
    V1 = "v1"
    """``{id}/camera_params.json``, ``{id}/sequences/{SEQ}/frame_{t}/images-2x*/cam_{serial}.png``."""
    BENCHMARK = "benchmark"
    """``{task}/{id}/…`` as in v2, with one intrinsic matrix per camera."""


TASKS = ("mono_flame_avatar", "nvs")
"""Names of the benchmark's tasks that consist of videos, which are also the names of their folders."""


def find_layout(root: Path) -> Layout:
    """Detect the layout of a folder.

    Args:
        root: Folder that holds the participants or the benchmark's tasks.

    Raises:
        NersembleError: The folder does not exist or has none of the layouts.
    """
    if not root.is_dir():
        raise NersembleError(f"{root}: no such folder; give the folder that holds the participants, such as {root}/018")
    if any((root / task).is_dir() for task in TASKS):
        return Layout.BENCHMARK
    people = [root / name for name in list_participants(root)]
    if any((person / "camera_params.json").is_file() for person in people):
        return Layout.V1
    if any((person / "calibration").is_dir() or (person / "sequences").is_dir() for person in people):
        return Layout.V2
    raise NersembleError(
        f"{root}: no NeRSemble data; expected {root}/018/calibration/camera_params.json (v2), "
        f"{root}/018/camera_params.json (v1) or {root}/nvs (benchmark)"
    )


def list_participants(root: Path) -> list[str]:
    """Return the names of the participants' folders (three digits), ascending."""
    return sorted(p.name for p in root.iterdir() if p.is_dir() and p.name.isdecimal() and len(p.name) == 3)


def calibration_path(person: Path, layout: Layout = Layout.V2) -> Path:
    """Return the path of the camera calibration in a participant's folder.

    Args:
        person: Folder of the participant.
        layout: Layout of the data.
    """
    return person / "camera_params.json" if layout is Layout.V1 else person / "calibration" / "camera_params.json"


def colour_path(person: Path) -> Path:
    """Return the path of the colour calibration in a participant's folder (v2)."""
    return person / "calibration" / "color_calibration.json"


def video_path(person: Path, sequence: str, serial: str) -> Path:
    """Return the path of a camera's video of a sequence.

    Args:
        person: Folder of the participant.
        sequence: Name of the sequence.
        serial: Serial number of the camera.
    """
    return person / "sequences" / sequence / "images" / f"cam_{serial}.mp4"


def alpha_path(person: Path, sequence: str, serial: str) -> Path:
    """Return the path of the video of mattes that the benchmark provides for a video.

    Args:
        person: Folder of the participant.
        sequence: Name of the sequence.
        serial: Serial number of the camera.
    """
    return person / "sequences" / sequence / "alpha_maps" / f"cam_{serial}.mp4"


def background_path(person: Path, serial: str) -> Path:
    """Return the path of a camera's image of the empty room.

    Args:
        person: Folder of the participant.
        serial: Serial number of the camera.
    """
    return person / "sequences" / BACKGROUND / f"image_{serial}.jpg"


def tracking_path(person: Path, sequence: str) -> Path:
    """Return the path of the benchmark's FLAME tracking of a sequence.

    Args:
        person: Folder of the participant.
        sequence: Name of the sequence.
    """
    return person / "sequences" / sequence / "tracking" / "flame2023_tracking_v2.npz"


def list_sequences(person: Path) -> list[str]:
    """Return the names of the sequences in a participant's folder, without ``BACKGROUND``."""
    folder = person / "sequences"
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name != BACKGROUND)


def list_serials(person: Path, sequence: str) -> list[str]:
    """Return the serial numbers of a sequence's videos, in the order of ``SERIALS``; unknown ones are last.

    Args:
        person: Folder of the participant.
        sequence: Name of the sequence.
    """
    folder = person / "sequences" / sequence / "images"
    serials = {p.stem.removeprefix("cam_") for p in folder.glob("cam_*.mp4")} if folder.is_dir() else set()
    return [s for s in SERIALS if s in serials] + sorted(serials - set(SERIALS))
