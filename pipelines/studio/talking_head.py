"""Talking-head videos with truth: one camera, and a head that turns, talks, looks around and blinks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mfhq.ids import seed_of
from mfhq.schema import MATRIX_3X4
from pipelines.conversion.head_crops import HEAD_CENTRE
from pipelines.media.cameras import Camera, aimed_camera, rotation_yxz
from pipelines.media.video_writer import write_video
from pipelines.studio.motion import blinks, gaze, smooth_noise, speech
from pipelines.studio.performance import turn_about_neck
from pipelines.studio.person import StudioPerson, make_person
from pipelines.studio.renderer import render_mesh
from pipelines.studio.scenes import lighting_in_head_frame, random_background, random_lighting
from pipelines.studio.studio_head import StudioHead

Floats = NDArray[np.float64]
SPAN = 0.5
"""Length that the image spans at the head, metres; as in a video call, the face takes about a third of its width."""
MAX_YAW, MAX_PITCH, MAX_ROLL = np.radians([30.0, 15.0, 10.0])
"""Largest rotations of the head, radians."""

TRUTH = pa.schema(
    [
        pa.field("frame_index", pa.int64(), nullable=False),
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("identity_id", pa.string(), nullable=False),
        pa.field("yaw_deg", pa.float32(), nullable=False),
        pa.field("pitch_deg", pa.float32(), nullable=False),
        pa.field("roll_deg", pa.float32(), nullable=False),
        pa.field("head_to_world", MATRIX_3X4, nullable=False),
        pa.field("expression", pa.list_(pa.float32()), nullable=False),
        pa.field("rotations", pa.list_(pa.float32(), 15), nullable=False),
        pa.field("shape", pa.list_(pa.float32()), nullable=False),
    ]
)
"""Truth of a video, one row per frame.

As in ``mfhq.schema.FACES``, positive yaw is to the image's right, positive pitch is up, and positive roll is clockwise.
"""


@dataclass(frozen=True)
class TalkingHead:
    """A planned video without its images, which ``frames`` renders one by one."""

    person: StudioPerson
    """Person who is shown."""
    camera: Camera
    """Camera of the video."""
    fps: float
    """Frames per second."""
    truth: pa.Table
    """Truth of the frames, with the schema ``TRUTH``."""
    seed: int
    """Seed of lighting and background."""

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Render the frames in order, as RGB images (size, size, 3)."""
        g = np.random.default_rng([self.seed, 1])
        lighting, background = random_lighting(g), random_background(g, self.camera.width)
        for row in self.truth.select(["expression", "rotations", "head_to_world"]).to_pylist():
            pose = np.array(row["head_to_world"]).reshape(3, 4)
            mesh = self.person.meshes(
                np.array(row["expression"], np.float32)[None], np.array(row["rotations"], np.float32).reshape(1, 5, 3)
            )[0]
            yield render_mesh(mesh, self.camera.moved(pose), lighting_in_head_frame(lighting, pose), background).rgb


def render_talking_head(
    head: StudioHead, identity_id: str, duration_s: float, fps: float, size: int, take: int = 0
) -> TalkingHead:
    """Plan a video of a studio person.

    Args:
        head: The studio's head.
        identity_id: Id of the person.
        duration_s: Duration of the video, seconds.
        fps: Frames per second.
        size: Side of the images, pixels; at least 32.
        take: Number of the take; another take has another performance, lighting and background.

    Returns:
        The planned video.

    Raises:
        ValueError: The video would have no frame, or ``size`` is below 32.
    """
    n = round(duration_s * fps)
    if n < 1 or size < 32:
        raise ValueError(f"{duration_s} s at {fps} frames/s and {size} px give no video: at least 1 frame, 32 px")
    seed = seed_of(f"{identity_id}/take/{take}")
    g, times = np.random.default_rng([seed, 0]), np.arange(n) / fps
    yaw = np.clip(0.55 * MAX_YAW * smooth_noise(g, times, 4.0), -MAX_YAW, MAX_YAW)
    pitch = np.clip(0.4 * MAX_PITCH * smooth_noise(g, times, 3.0), -MAX_PITCH, MAX_PITCH)
    roll = np.clip(0.4 * MAX_ROLL * smooth_noise(g, times, 5.0), -MAX_ROLL, MAX_ROLL)
    drift = 0.012 * np.stack([smooth_noise(g, times, 5.0) for _ in range(3)], 1)
    expression, rotations = head.parameters(_actions(g, times))
    poses = [turn_about_neck(rotation_yxz(y, p, r), d) for y, p, r, d in zip(yaw, pitch, roll, drift, strict=True)]
    person = make_person(head, identity_id)
    camera = aimed_camera(
        float(g.normal(scale=0.05)),
        float(g.normal(scale=0.05)),
        distance=g.uniform(0.9, 1.3),
        target=HEAD_CENTRE + g.normal(scale=0.01, size=3),
        span=SPAN * g.uniform(0.85, 1.1),
        size=size,
    )
    truth = pa.Table.from_pydict(
        {
            "frame_index": np.arange(n),
            "time_s": times,
            "identity_id": [identity_id] * n,
            # Seen from the front, the head's left is the image's right; a rotation about +X nods down.
            "yaw_deg": np.degrees(yaw),
            "pitch_deg": -np.degrees(pitch),
            "roll_deg": -np.degrees(roll),
            "head_to_world": [pose.ravel().tolist() for pose in poses],
            "expression": expression.tolist(),
            "rotations": rotations.reshape(n, 15).tolist(),
            "shape": [person.shape.tolist()] * n,
        },
        schema=TRUTH,
    )
    return TalkingHead(person, camera, fps, truth, seed)


def write_talking_head(video: TalkingHead, path: Path) -> Path:
    """Render and write a video, and write its truth (``TRUTH``) next to it as ``<name>.truth.parquet``.

    Args:
        video: The planned video.
        path: The mp4 file to write.

    Returns:
        Path of the file with the truth.
    """
    import pyarrow.parquet as pq

    write_video(path, video.frames(), video.fps)
    truth = path.with_suffix(".truth.parquet")
    pq.write_table(video.truth, truth)
    return truth


def _actions(g: np.random.Generator, times: Floats) -> dict[str, Floats]:
    """Draw action → strengths (T,) over time: speech, blinks, and a gaze that rests and jumps."""
    actions = speech(g, times)
    blink = blinks(g, times)
    actions |= {"eyeBlinkLeft": blink, "eyeBlinkRight": blink}
    rest = np.floor(times / g.uniform(0.7, 1.4)).astype(int)
    targets = g.normal(scale=[0.3, 0.15], size=(rest.max() + 1, 2))[rest]
    gazes = [gaze(float(across), float(up)) for across, up in targets]
    return actions | {name: np.array([strengths[name] for strengths in gazes]) for name in gazes[0]}
