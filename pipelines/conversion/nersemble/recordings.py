"""The plan of a conversion of NeRSemble: the sequences in a folder, and the listed files that are missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mfhq.ids import digest, seed_of
from nersemble.benchmark import (
    HELD_OUT_PARTICIPANTS,
    MONO,
    MONO_TRAIN_SEQUENCES,
    NVS,
    NVS_SEQUENCES,
    NVS_TRAIN,
    TASKS_BY_NAME,
)
from nersemble.camera_params import read_camera_params
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
    list_participants,
    list_sequences,
    list_serials,
    tracking_path,
    video_path,
)
from nersemble.metadata import read_participants, read_sequences
from pipelines.conversion.conversion_plan import CaptureSourceError, ConversionPlan, MissingItem
from pipelines.conversion.nersemble.camera_videos import select_frame_indices
from pipelines.conversion.nersemble.nersemble_config import NersembleConfig
from pipelines.conversion.nersemble.nersemble_step import ITEM, ITEM_TIMESTEPS, nersemble_step
from pipelines.media.decoder import DecoderCrashed, DecodeTimeout, ProcessDecoder
from pipelines.media.local_files import is_remote, local_path

DATASET = "nersemble"
LICENCE = "NeRSemble: non-commercial research, by its own agreement"


def plan_nersemble(source: str, config: NersembleConfig, filesystem: Any = None) -> ConversionPlan:
    """Plan the conversion of a folder.

    An item is a sequence of a participant with the available cameras, or ``ITEM_TIMESTEPS`` timesteps of a longer
    sequence. Calibrations are read during planning, so that a camera without calibration is listed as missing and does
    not affect the others.

    Args:
        source: A local folder.
        config: Settings.
        filesystem: Not used, because sixteen videos are open at once and must lie on a local disk.

    Returns:
        The plan.

    Raises:
        CaptureSourceError: The folder holds no NeRSemble data, or the settings select none of it.
    """
    if is_remote(source):
        raise CaptureSourceError(f"{source}: NeRSemble is converted from a local folder; copy or mount it")
    root = local_path(source)
    try:
        layout = find_layout(root)
        recorded, facts = read_sequences(root), read_participants(root)
    except NersembleError as error:
        raise CaptureSourceError(str(error)) from error
    if layout is Layout.V1:
        raise CaptureSourceError(
            f"{root}: NeRSemble v1 (one image file a timestep); v2 has replaced it: fetch that with nersemble-data"
        )
    items: list[dict[str, Any]] = []
    missing: list[MissingItem] = []
    # The benchmark has one folder of participants per task.
    roots = [root / task for task in TASKS_BY_NAME if (root / task).is_dir()] if layout is Layout.BENCHMARK else [root]
    for folder in roots:
        for name in list_participants(folder):
            items += _items(folder / name, layout, config, recorded, missing)
    if not items:
        why = f"; {missing[0].name}: {missing[0].reason}" if missing else ""
        raise CaptureSourceError(f"{root}: no sequence with two calibrated videos among the requested ones{why}")
    table = pa.Table.from_pylist(items, schema=ITEM)
    participants = {_identity(number): values for number, values in facts.items()}
    return ConversionPlan(nersemble_step(config), table, tuple(sorted(set(missing))), participants)


def split_of_participant(participant: int, val_every: int) -> str:
    """Return the split of a participant: train, val or test.

    Args:
        participant: Number of the participant. People whom any task of the benchmark holds out are always in test.
        val_every: Rate of the split val: about one in ``val_every`` of the other participants is in it; 0 for none.

    Returns:
        Name of the split.
    """
    if participant in HELD_OUT_PARTICIPANTS:
        return "test"
    return "val" if val_every and seed_of(f"{DATASET}/{participant}") % val_every == 0 else "train"


def _items(
    person: Path,
    layout: Layout,
    config: NersembleConfig,
    recorded: dict[int, tuple[str, ...]],
    missing: list[MissingItem],
) -> Iterator[dict[str, Any]]:
    """Yield the items of a participant, rows of ``ITEM``; listed files that do not exist are added to ``missing``."""
    participant = int(person.name)
    if config.participants and participant not in config.participants:
        return
    task = person.parent.name if layout is Layout.BENCHMARK else ""
    location = f"{task}/{person.name}" if task else person.name
    try:
        size = None if layout is Layout.BENCHMARK else (FULL_WIDTH, FULL_HEIGHT)
        calibrated = set(read_camera_params(calibration_path(person), size).K)
    except NersembleError as error:
        reason = "camera_uncalibrated" if "missing" in str(error) else "calibration_invalid"
        missing.append(MissingItem(f"{location}/calibration/camera_params.json", reason))
        return
    for sequence in dict.fromkeys([*list_sequences(person), *_listed_sequences(participant, task, recorded)]):
        if config.sequences and sequence not in config.sequences:
            continue
        # The benchmark publishes only the tracking of a test sequence, so none of its videos is missing.
        if task == MONO.name and sequence not in MONO_TRAIN_SEQUENCES:
            continue
        available = list_serials(person, sequence)
        for serial in dict.fromkeys([*_expected_serials(task, calibrated), *available]):
            name = f"{location}/sequences/{sequence}/images/cam_{serial}.mp4"
            if serial in available and serial not in calibrated:
                missing.append(MissingItem(name, "camera_uncalibrated"))
            elif serial not in available and (not config.cameras or serial in config.cameras):
                missing.append(MissingItem(name, "camera_absent"))
        serials = [s for s in available if s in calibrated and (not config.cameras or s in config.cameras)]
        if len(serials) >= 2 or (serials and tracking_path(person, sequence).is_file()):
            yield from _runs(person, participant, task, sequence, serials, config)


def _listed_sequences(participant: int, task: str, recorded: dict[int, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the sequences that the data set lists for a participant."""
    if task == MONO.name:
        return MONO_TRAIN_SEQUENCES
    if task == NVS.name:
        return (NVS_SEQUENCES[participant],) if participant in NVS_SEQUENCES else ()
    return recorded.get(participant, ())


def _expected_serials(task: str, calibrated: set[str]) -> list[str]:
    """Return the serial numbers of the cameras whose videos a sequence should have."""
    if task == MONO.name:
        return [MONO.serials[0]]
    serials = NVS_TRAIN if task == NVS.name else SERIALS
    return [serial for serial in serials if serial in calibrated]


def _runs(
    person: Path, participant: int, task: str, sequence: str, serials: list[str], config: NersembleConfig
) -> Iterator[dict[str, Any]]:
    """Yield the rows of ``ITEM`` of a sequence; changed files give new ids, which hash names and sizes of the files."""
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
        "split": split_of_participant(participant, config.val_every),
    }
    n_timesteps = config.frames
    if not 0 < n_timesteps <= ITEM_TIMESTEPS:
        n_frames = _count_frames([video_path(person, sequence, serial) for serial in serials])
        n_timesteps = len(select_frame_indices(n_frames, config.every, n_timesteps))
    starts = range(0, max(n_timesteps, 1), ITEM_TIMESTEPS)
    for first in starts:
        # The last item takes all remaining timesteps, because a video that was not probed may have more frames.
        count = None if first == starts[-1] else ITEM_TIMESTEPS
        item = f"{capture}/{first:06d}-{digest([sizes, first, count], 12)}"
        yield row | {"item_id": item, "first": first, "count": count}


def _identity(participant: int) -> str:
    return f"{DATASET}-{participant:03d}"


def _count_frames(videos: list[Path]) -> int:
    """Return the number of frames of the first video whose header states it; 0 if no header does."""
    decoder = ProcessDecoder()
    try:
        for video in videos:
            with contextlib.suppress(DecodeTimeout, DecoderCrashed):
                if n := decoder.probe(video).get("n_frames"):
                    return int(n)
    finally:
        decoder.close()
    return 0
