"""Rendered captures in NeRSemble's layout (v2): calibration, colours, videos, empty rooms, tables, and the truth."""

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
from nersemble.camera_params import CameraParams, write_camera_params, write_colours
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
from pipelines.media.srgb import decode_srgb, encode_srgb
from pipelines.media.video_writer import write_video
from pipelines.studio.captures.camera_rig import RigCapture, RigSpec, plan_rig
from pipelines.studio.captures.capture_studio import CaptureStudio
from pipelines.studio.captures.performance import Timestep

Image = NDArray[np.uint8]

FIRST_PARTICIPANT = 18
"""Number of the first participant; the benchmark has no participant from 18 to 59."""
STUDIO_SEQUENCES = ("EXP-1-head", "EMO-1-shout+laugh", "SEN-04-two_plus_seven")
"""Names of the sequences that the studio's people perform."""
FRONT_FIRST = (FRONT_SERIAL, *(serial for serial in SERIALS if serial != FRONT_SERIAL))
"""Serial numbers of the cameras, the front camera first."""
CRF = 12
"""Constant rate factor of the videos.

The quality is higher than usual, so that tests measure the errors of the converter and not those of the codec.
"""
TRUTH_FILE = "studio_truth.parquet"
"""Name of the file with the truth, whose schema is ``TRUTH_SCHEMA``."""

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
"""Truth of the captures: one row per frame of each sequence.

``rotations`` holds the axis-angles of the five joints (radians). ``vertices`` holds the head model's vertices (V, 3) in
the head's frame, metres, without hair and glasses.
"""


def rig_spec(n_cameras: int, width: int) -> RigSpec:
    """Return a rig like NeRSemble's: cameras about a metre away, within 55 degrees of the front, upright images.

    Args:
        n_cameras: Number of cameras.
        width: Width of the images, pixels; the height has the data set's ratio and is even.
    """
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
    studio: CaptureStudio,
    participant: int,
    n_cameras: int,
    n_frames: int,
    width: int,
    seed: int,
    sequences: Sequence[str] = STUDIO_SEQUENCES,
    fps: float = FPS,
) -> RigCapture:
    """Plan a participant's recording session; as in the data set, all cameras share one K.

    Args:
        studio: People, renderer and light.
        participant: Number of the participant.
        n_cameras: Number of cameras, 2 to 16.
        n_frames: Number of frames per sequence.
        width: Width of the images, pixels; an even number, at least 64.
        seed: Another seed gives other people.
        sequences: Names of the sequences.
        fps: Frames per second.

    Returns:
        The planned session.

    Raises:
        ValueError: The number of cameras, frames or pixels is out of range.
    """
    if not 2 <= n_cameras <= len(SERIALS) or n_frames < 1 or width < 64 or width % 2:
        raise ValueError(
            f"{n_cameras} cameras, {n_frames} frames, {width} px: 2 to 16 cameras, a frame, an even width from 64 on"
        )
    person = digest(["studio", seed, "nersemble", participant])
    capture = plan_rig(
        studio,
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
    """Render and write a participant's folder.

    Args:
        root: Folder of the data set.
        participant: Number of the participant.
        capture: The planned session.

    Returns:
        The truth with the schema ``TRUTH_SCHEMA``.
    """
    person = root / f"{participant:03d}"
    first = next(iter(capture.cameras.values()))
    full = np.diag([FULL_WIDTH / first.width, FULL_HEIGHT / first.height, 1.0]) @ first.K
    calibration = CameraParams(
        {name: camera.world_to_camera for name, camera in capture.cameras.items()},
        dict.fromkeys(capture.cameras, full),
        (FULL_WIDTH, FULL_HEIGHT),
        shared=True,
    )
    colours = random_colour_calibrations(participant, capture.cameras)
    write_camera_params(calibration_path(person), calibration)
    write_colours(colour_path(person), colours)
    for serial in capture.cameras:
        empty = background_path(person, serial)
        empty.parent.mkdir(parents=True, exist_ok=True)
        image = invert_colour_correction(capture.render_background(serial), colours[serial])
        empty.write_bytes(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes())
    rows = []
    for sequence, timesteps in group_by_segment(capture.timesteps).items():
        frames: dict[str, list[Image]] = {serial: [] for serial in capture.cameras}
        for timestep in timesteps:
            for view in capture.render_views(timestep):
                frames[view.camera_id].append(invert_colour_correction(view.rgb, colours[view.camera_id]))
        for serial, images in frames.items():
            write_video(video_path(person, sequence, serial), images, FPS, CRF)
        rows += [truth_row(participant, capture, timestep, i) for i, timestep in enumerate(timesteps)]
    return pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA)


def write_sessions(root: Path, captures: Mapping[int, RigCapture]) -> Iterator[Path]:
    """Write the folders of participants, then the data set's tables and ``TRUTH_FILE``.

    Args:
        root: Folder of the data set, which is made if it does not exist.
        captures: Number of the participant → planned session.

    Yields:
        Folder of each participant after it is written.
    """
    root.mkdir(parents=True, exist_ok=True)
    truth = []
    for participant, capture in captures.items():
        truth.append(write_session(root, participant, capture))
        yield root / f"{participant:03d}"
    people = {p: {"wears_glasses": "x" if "glasses" in c.figure.attributes.styles else ""} for p, c in captures.items()}
    write_tables(root, people, {p: list(group_by_segment(c.timesteps)) for p, c in captures.items()})
    pq.write_table(pa.concat_tables(truth), root / TRUTH_FILE)


def group_by_segment(timesteps: Sequence[Timestep]) -> dict[str, list[Timestep]]:
    """Return name of the segment → its timesteps, in order."""
    groups: dict[str, list[Timestep]] = {}
    for timestep in timesteps:
        groups.setdefault(timestep.segment, []).append(timestep)
    return groups


def truth_row(participant: int, capture: RigCapture, timestep: Timestep, frame: int) -> dict[str, object]:
    """Return a row of ``TRUTH_SCHEMA``.

    Args:
        participant: Number of the participant.
        capture: Session of the participant.
        timestep: A timestep of the session.
        frame: Index of the timestep in its sequence.
    """
    return {
        "participant": participant,
        "sequence": timestep.segment,
        "frame_index": frame,
        "identity_id": capture.identity_id,
        "shape": capture.shape,
        "expression": timestep.expression,
        "rotations": timestep.rotations.ravel(),
        "head_to_world": timestep.head_to_world.ravel(),
        "vertices": timestep.vertices.ravel(),
    }


def random_colour_calibrations(participant: int, serials: Mapping[str, object]) -> dict[str, Array]:
    """Draw a colour calibration per camera, for raw colours that are darker and tinted differently in each camera.

    Of the ten terms (Cheung 2004), only the linear ones are not zero, so that the calibration can be inverted exactly.

    Args:
        participant: Number of the participant.
        serials: Mapping whose keys are the cameras' serial numbers; its values are ignored.

    Returns:
        Serial number → matrix (3, 10).
    """
    calibrations = {}
    for serial in serials:
        g = np.random.default_rng(seed_of(f"colours/{participant}/{serial}"))
        mix = np.diag(1.25 + 0.08 * g.normal(size=3)) + 0.03 * g.normal(size=(3, 3))
        calibrations[serial] = np.concatenate([mix, np.zeros((3, 7))], axis=1)
    return calibrations


def invert_colour_correction(rgb: Image, colours: Array) -> Image:
    """Return the image that the camera would have recorded, given the image after colour correction.

    Args:
        rgb: (H, W, 3) sRGB.
        colours: (3, 10) colour calibration of the camera, with linear terms only.
    """
    linear = decode_srgb(rgb / np.float32(255)) @ np.linalg.inv(colours[:, :3]).T.astype(np.float32)
    return encode_srgb(linear)
