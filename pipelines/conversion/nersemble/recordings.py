"""What there is to convert in a folder of NeRSemble data, and what is listed and missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mfhq.ids import digest, seed_of
from nersemble.benchmark import (
    BY_NAME,
    HELD_OUT_PARTICIPANTS,
    MONO,
    MONO_TRAIN_SEQUENCES,
    NVS,
    NVS_SEQUENCES,
    NVS_TRAIN,
)
from nersemble.camera_params import read_calibration
from nersemble.errors import NersembleError
from nersemble.layout import (
    FULL_HEIGHT,
    FULL_WIDTH,
    SERIALS,
    Layout,
    alpha_path,
    background_path,
    calibration_path,
    colour_path,
    find_layout,
    participant_folders,
    sequence_names,
    serials_of,
    tracking_path,
    video_path,
)
from nersemble.metadata import read_participants, read_sequences
from pipelines.conversion.conversion_plan import Absent, CaptureSourceError, ConversionPlan
from pipelines.conversion.nersemble.config import NersembleConfig
from pipelines.conversion.nersemble.lockstep import chosen_frames
from pipelines.conversion.nersemble.nersemble_step import ITEM, ITEM_MOMENTS, nersemble_step
from pipelines.media.decoder import DecoderCrashed, DecodeTimeout, ProcessDecoder
from pipelines.media.local_files import is_remote, local_path

DATASET = "nersemble"
LICENCE = "NeRSemble: non-commercial research, by its own agreement"


def plan_nersemble(source: str, config: NersembleConfig, filesystem: Any = None) -> ConversionPlan:
    """The work of converting a folder: an item is a sequence of a participant with the cameras that are there, or
    ``ITEM_MOMENTS`` moments of a longer one.

    ``filesystem`` is not used: sixteen videos are open at once, so they lie on a local disk. Calibrations are read
    now, so that a camera that none of them has is listed and harms no other.

    Raises:
        CaptureSourceError: no folder of NeRSemble data, or nothing in it that is asked for.
    """
    if is_remote(source):
        raise CaptureSourceError(f"{source}: NeRSemble is converted from a local folder; copy or mount it")
    root = local_path(source)
    try:
        layout = find_layout(root)
        recorded, said = read_sequences(root), read_participants(root)
    except NersembleError as error:
        raise CaptureSourceError(str(error)) from error
    if layout is Layout.V1:
        raise CaptureSourceError(
            f"{root}: NeRSemble v1 (a picture a moment); v2 has replaced it: fetch that with nersemble-data"
        )
    items: list[dict[str, Any]] = []
    absent: list[Absent] = []
    for folder in _folders(root, layout):
        for item in _items(folder, layout, config, recorded, absent):
            items.append(item)
    if not items:
        why = f"; {absent[0].what}: {absent[0].reason}" if absent else ""
        raise CaptureSourceError(f"{root}: no sequence with two calibrated videos that is asked for{why}")
    about = {_identity(p): words for p, words in said.items()}
    table = pa.Table.from_pylist(items, schema=ITEM)
    return ConversionPlan(nersemble_step(config), table, tuple(sorted(set(absent))), about)


def split_of(participant: int, val_every: int) -> str:
    """train, val or test. The benchmark's held-out people, of any of its tasks, are always test."""
    if participant in HELD_OUT_PARTICIPANTS:
        return "test"
    return "val" if val_every and seed_of(f"{DATASET}/{participant}") % val_every == 0 else "train"


def _folders(root: Path, layout: Layout) -> Iterator[Path]:
    """Every participant's folder, of every task of the benchmark."""
    tops = [root / task for task in BY_NAME if (root / task).is_dir()] if layout is Layout.BENCHMARK else [root]
    for top in tops:
        yield from (top / name for name in participant_folders(top))


def _items(
    person: Path, layout: Layout, config: NersembleConfig, recorded: dict[int, tuple[str, ...]], absent: list[Absent]
) -> Iterator[dict[str, Any]]:
    participant = int(person.name)
    if config.participants and participant not in config.participants:
        return
    task = person.parent.name if layout is Layout.BENCHMARK else ""
    here = f"{task}/{person.name}" if task else person.name
    try:
        size = None if layout is Layout.BENCHMARK else (FULL_WIDTH, FULL_HEIGHT)
        calibrated = set(read_calibration(calibration_path(person), size).K)
    except NersembleError as error:
        reason = "camera_uncalibrated" if "missing" in str(error) else "calibration_invalid"
        absent.append(Absent(f"{here}/calibration/camera_params.json", reason))
        return
    names = sequence_names(person)
    wanted = [
        name
        for name in dict.fromkeys([*names, *_listed(participant, task, recorded)])
        if not config.sequences or name in config.sequences
    ]
    for sequence in wanted:
        # A test sequence of the benchmark comes with its tracking alone: nothing is missing there.
        if task == MONO.name and sequence not in MONO_TRAIN_SEQUENCES:
            continue
        found = serials_of(person, sequence)
        expected = _expected(task, calibrated)
        for serial in dict.fromkeys([*expected, *found]):
            what = f"{here}/sequences/{sequence}/images/cam_{serial}.mp4"
            if serial in found and serial not in calibrated:
                absent.append(Absent(what, "camera_uncalibrated"))
            elif serial not in found and (not config.cameras or serial in config.cameras):
                absent.append(Absent(what, "camera_absent"))
        serials = [s for s in found if s in calibrated and (not config.cameras or s in config.cameras)]
        if len(serials) >= 2 or (serials and tracking_path(person, sequence).is_file()):
            yield from _runs(person, participant, task, sequence, serials, config)


def _listed(participant: int, task: str, recorded: dict[int, tuple[str, ...]]) -> tuple[str, ...]:
    """The sequences that should be there."""
    if task == MONO.name:
        return MONO_TRAIN_SEQUENCES
    if task == NVS.name:
        return (NVS_SEQUENCES[participant],) if participant in NVS_SEQUENCES else ()
    return recorded.get(participant, ())


def _expected(task: str, calibrated: set[str]) -> list[str]:
    """The cameras of which a sequence should have a video."""
    if task == MONO.name:
        return [MONO.serials[0]]
    among = NVS_TRAIN if task == NVS.name else SERIALS
    return [serial for serial in among if serial in calibrated]


def _runs(
    person: Path, participant: int, task: str, sequence: str, serials: list[str], config: NersembleConfig
) -> Iterator[dict[str, Any]]:
    """Rows of ``ITEM``. Their ids hold names and sizes of what is read: another download is other items."""
    files = [calibration_path(person), colour_path(person), tracking_path(person, sequence)]
    for serial in serials:
        files += [video_path(person, sequence, serial), alpha_path(person, sequence, serial)]
        files.append(background_path(person, serial))
    sizes = [(str(path.relative_to(person)), path.stat().st_size) for path in files if path.is_file()]
    capture = "-".join([DATASET, *([task] if task else []), f"{participant:03d}", sequence])
    row = {
        "person": str(person),
        "participant": participant,
        "task": task,
        "sequence": sequence,
        "serials": ",".join(serials),
        "capture_id": capture,
        "identity_id": _identity(participant),
        "dataset": DATASET,
        "licence": LICENCE,
        "split": split_of(participant, config.val_every),
    }
    chosen = config.frames
    if not 0 < chosen <= ITEM_MOMENTS:
        chosen = len(chosen_frames(_length([video_path(person, sequence, s) for s in serials]), config.every, chosen))
    starts = range(0, max(chosen, 1), ITEM_MOMENTS)
    for first in starts:
        # The last one takes what is left: a camera that was not asked may have more frames.
        count = None if first == starts[-1] else ITEM_MOMENTS
        item = f"{capture}/{first:06d}-{digest([sizes, first, count], 12)}"
        yield row | {"item_id": item, "first": first, "count": count}


def _identity(participant: int) -> str:
    return f"{DATASET}-{participant:03d}"


def _length(videos: list[Path]) -> int:
    """Frames of the first video that says how many it has; 0 where none does."""
    decoder = ProcessDecoder()
    try:
        for video in videos:
            with contextlib.suppress(DecodeTimeout, DecoderCrashed):
                if n := decoder.probe(video).get("n_frames"):
                    return int(n)
    finally:
        decoder.close()
    return 0
