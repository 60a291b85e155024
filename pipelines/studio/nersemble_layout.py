"""Rendered captures in NeRSemble's own layout (v2): calibration, colours, videos, empty room, tables, and the truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mfhq.ids import digest, seed_of
from mfhq.schema import MATRIX_3X4
from nersemble.camera_params import CameraParams, write_calibration, write_colours
from nersemble.layout import (
    FPS,
    FRONT_SERIAL,
    FULL_HEIGHT,
    FULL_WIDTH,
    SERIALS,
    background_path,
    calibration_path,
    colour_path,
    video_path,
)
from nersemble.metadata import write_tables
from pipelines.media.cameras import Array
from pipelines.media.video_writer import write_video
from pipelines.studio.camera_rig import RigCapture, RigSpec, RigView, plan_rig
from pipelines.studio.performance import Timestep
from pipelines.studio.renderer import decode_srgb, encode_srgb
from pipelines.studio.studio_head import StudioHead

Picture = NDArray[np.uint8]

FIRST_PARTICIPANT = 18
"""Participants are numbered from here; 18 to 59 are none of the benchmark's."""
PERFORMED = ("EXP-1-head", "EMO-1-shout+laugh", "SEN-04-two_plus_seven")
"""What the studio's people do."""
FRONT_FIRST = (FRONT_SERIAL, *(serial for serial in SERIALS if serial != FRONT_SERIAL))
CRF = 12
"""Of the videos: finer than most, so that tests see the converter's errors and not the codec's."""
TRUTH = "studio_truth.parquet"

TRUTH_SCHEMA = pa.schema(
    [
        pa.field("participant", pa.int32(), nullable=False),
        pa.field("sequence", pa.string(), nullable=False),
        pa.field("frame_index", pa.int64(), nullable=False),
        pa.field("identity_id", pa.string(), nullable=False),
        pa.field("shape", pa.list_(pa.float32()), nullable=False),
        pa.field("expression", pa.list_(pa.float32()), nullable=False),
        pa.field("rotations", pa.list_(pa.float32(), 15), nullable=False),
        pa.field("head_to_world", MATRIX_3X4, nullable=False),
        pa.field("vertices", pa.list_(pa.float32()), nullable=False),
    ]
)
"""A row a frame of each video: ``rotations`` are the five joints' axis-angles, ``vertices`` the head model's (V, 3),
in the head's frame, metres, without hair and glasses."""


def rig_spec(n_cameras: int, width: int) -> RigSpec:
    """A rig like NeRSemble's: cameras a metre away, within 55 degrees of the front, upright pictures."""
    height = round(width * FULL_HEIGHT / FULL_WIDTH / 2) * 2
    return RigSpec(
        n_cameras=n_cameras,
        width=width,
        height=height,
        max_yaw=float(np.radians(55)),
        pitch=(-0.35, 0.45),
        distance=(1.0, 1.12),
        span=0.56,
    )


def plan_session(
    head: StudioHead,
    participant: int,
    n_cameras: int,
    n_frames: int,
    width: int,
    seed: int,
    sequences: Sequence[str] = PERFORMED,
    fps: float = FPS,
) -> RigCapture:
    """A participant's recording session, all its cameras of one K, as the data set's.

    Raises ``ValueError`` for a number of cameras, frames or pixels that gives no video.
    """
    if not 2 <= n_cameras <= len(SERIALS) or n_frames < 1 or width < 64 or width % 2:
        raise ValueError(
            f"{n_cameras} cameras, {n_frames} frames, {width} px: 2 to 16 cameras, a frame, an even width from 64 on"
        )
    person = digest(["studio", seed, "nersemble", participant])
    capture = plan_rig(
        head,
        person,
        rig_spec(n_cameras, width),
        dict.fromkeys(sequences, n_frames),
        seed,
        camera_names=FRONT_FIRST[:n_cameras],
        fps=fps,
    )
    K = np.mean([camera.K for camera in capture.cameras.values()], axis=0)
    return replace(capture, cameras={name: replace(camera, K=K) for name, camera in capture.cameras.items()})


def write_session(root: Path, participant: int, capture: RigCapture) -> pa.Table:
    """Write a participant's folder; returns the truth, rows of ``TRUTH_SCHEMA``."""
    person = root / f"{participant:03d}"
    first = next(iter(capture.cameras.values()))
    full = np.diag([FULL_WIDTH / first.width, FULL_HEIGHT / first.height, 1.0]) @ first.K
    calibration = CameraParams(
        {name: camera.world_to_camera for name, camera in capture.cameras.items()},
        dict.fromkeys(capture.cameras, full),
        (FULL_WIDTH, FULL_HEIGHT),
        shared=True,
    )
    colours = camera_colours(participant, capture.cameras)
    write_calibration(calibration_path(person), calibration)
    write_colours(colour_path(person), colours)
    for serial in capture.cameras:
        empty = background_path(person, serial)
        empty.parent.mkdir(parents=True, exist_ok=True)
        picture = uncorrected(capture.empty(serial), colours[serial])
        empty.write_bytes(cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes())
    rows = []
    for sequence, moments in by_segment(capture.moments).items():
        views: dict[str, list[Picture]] = {serial: [] for serial in capture.cameras}
        for view in rendered(capture, moments):
            views[view.camera_id].append(uncorrected(view.rgb, colours[view.camera_id]))
        for serial, frames in views.items():
            write_video(video_path(person, sequence, serial), frames, FPS, CRF)
        rows += [truth_row(participant, capture, moment, i) for i, moment in enumerate(moments)]
    return pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA)


def write_sessions(root: Path, captures: Mapping[int, RigCapture]) -> Iterator[Path]:
    """Write participants' folders one by one, giving each back; after the last the data set's tables and ``TRUTH``."""
    root.mkdir(parents=True, exist_ok=True)
    truth = []
    for participant, capture in captures.items():
        truth.append(write_session(root, participant, capture))
        yield root / f"{participant:03d}"
    people = {p: {"wears_glasses": "x" if c.person.look.glasses else ""} for p, c in captures.items()}
    write_tables(root, people, {p: list(by_segment(c.moments)) for p, c in captures.items()})
    pq.write_table(pa.concat_tables(truth), root / TRUTH)


def by_segment(moments: Sequence[Timestep]) -> dict[str, list[Timestep]]:
    """Moments by the name of their segment, in order."""
    found: dict[str, list[Timestep]] = {}
    for moment in moments:
        found.setdefault(moment.segment, []).append(moment)
    return found


def rendered(capture: RigCapture, moments: Sequence[Timestep]) -> Iterator[RigView]:
    """Every camera's picture of every moment."""
    for moment in moments:
        yield from capture.render(moment)


def truth_row(participant: int, capture: RigCapture, moment: Timestep, frame: int) -> dict[str, object]:
    """A row of ``TRUTH_SCHEMA``; ``frame`` counts from the sequence's first."""
    return {
        "participant": participant,
        "sequence": moment.segment,
        "frame_index": frame,
        "identity_id": capture.person.identity_id,
        "shape": capture.person.shape,
        "expression": moment.expression,
        "rotations": moment.rotations.ravel(),
        "head_to_world": moment.head_to_world.ravel(),
        "vertices": capture.vertices(moment).ravel(),
    }


def camera_colours(participant: int, serials: Mapping[str, object]) -> dict[str, Array]:
    """A colour calibration a camera, (3, 10): raw colours are darker and tinted, each camera's its own way.

    Only the linear terms of the ten (Cheung 2004) are not zero, so that it can be inverted exactly.
    """
    found = {}
    for serial in serials:
        g = np.random.default_rng(seed_of(f"colours/{participant}/{serial}"))
        mix = np.diag(1.25 + 0.08 * g.normal(size=3)) + 0.03 * g.normal(size=(3, 3))
        found[serial] = np.concatenate([mix, np.zeros((3, 7))], axis=1)
    return found


def uncorrected(rgb: Picture, colours: Array) -> Picture:
    """What the camera would have recorded of a picture that its colour calibration corrects."""
    linear = decode_srgb(rgb / np.float32(255)) @ np.linalg.inv(colours[:, :3]).T.astype(np.float32)
    return encode_srgb(linear)
