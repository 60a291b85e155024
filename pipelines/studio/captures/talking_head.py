"""Talking-head videos with truth: one camera, and a head that turns, talks, looks around and blinks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mfhq.ids import seed_of
from mfhq.schema import MATRIX_3X4
from pipelines.conversion.head_crops import HEAD_CENTRE
from pipelines.media.cameras import Camera, aimed_camera
from pipelines.media.video_writer import write_video
from pipelines.studio.captures.capture_studio import CaptureStudio
from pipelines.studio.captures.performance import SHOULDERS_STAY, turned_pose
from pipelines.studio.motion import plan_motion, smooth_noise
from pipelines.studio.people.figure import Figure, Pose
from pipelines.studio.rendering.scene import StudioScene

SPAN = 0.5
"""Length that the image spans at the head, metres; as in a video call, the face takes about a third of its width."""
TURN_AROUND = np.radians([16.0, 6.0, 4.0])
"""Standard deviations of the slow turns that are added to those of speech: yaw, pitch, roll, radians."""
MAX_TURN = np.radians([30.0, 15.0, 10.0])
"""Largest yaw, pitch and roll, radians."""

TRUTH = pa.schema(
    [
        pa.field("frame_index", pa.int64(), nullable=False),
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("identity_id", pa.string(), nullable=False),
        pa.field("yaw_deg", pa.float32(), nullable=False),
        pa.field("pitch_deg", pa.float32(), nullable=False),
        pa.field("roll_deg", pa.float32(), nullable=False),
        pa.field("head_to_world", MATRIX_3X4, nullable=False),
        pa.field("expression", pa.list_(pa.float32())),
        pa.field("rotations", pa.list_(pa.float32(), 15)),
        pa.field("shape", pa.list_(pa.float32())),
    ]
)
"""Truth of a video, one row per frame.

People without the open head's coefficients have none here. As in ``mfhq.schema.FACES``, positive yaw is to the image's
right, positive pitch is up, and positive roll is clockwise.
"""


@dataclass(frozen=True)
class TalkingHead:
    """A planned video without its images, which ``frames`` renders one by one."""

    studio: CaptureStudio
    """People, renderer and light."""
    figure: Figure
    """Person who is shown."""
    camera: Camera
    """Camera of the video."""
    fps: float
    """Frames per second."""
    scene: StudioScene
    """Light and background."""
    poses: tuple[Pose, ...]
    """Pose of each frame."""
    truth: pa.Table
    """Truth of the frames, with the schema ``TRUTH``."""

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Render the frames in order, as RGB images (size, size, 3)."""
        for index, pose in enumerate(self.poses):
            scene = replace(self.scene, noise_seed=self.scene.noise_seed + index)
            posed = self.figure.pose(pose)
            yield self.studio.renderer.render(self.figure, posed, self.camera, scene, truth=False).rgb


def render_talking_head(
    studio: CaptureStudio, identity_id: str, duration_s: float, fps: float, size: int, take: int = 0
) -> TalkingHead:
    """Plan a video of a studio person.

    Args:
        studio: People, renderer and light.
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
    motion, figure = plan_motion(g, times, "speech"), studio.source.person(identity_id)
    slow = np.stack([smooth_noise(g, times, seconds) for seconds in (4.0, 3.0, 5.0)], 1)
    turns = np.clip(motion.turns + TURN_AROUND * slow, -MAX_TURN, MAX_TURN)
    poses, stays = [], float(g.uniform(*SHOULDERS_STAY))
    for frame, (turn, shift) in enumerate(zip(turns, motion.shifts, strict=True)):
        actions = {name: float(strengths[frame]) for name, strengths in motion.actions.items()}
        poses.append(turned_pose(actions, motion.eyes[frame], turn, shift, stays))
    posed = [figure.pose(pose) for pose in poses]
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
            "yaw_deg": np.degrees(turns[:, 0]),
            "pitch_deg": -np.degrees(turns[:, 1]),
            "roll_deg": -np.degrees(turns[:, 2]),
            "head_to_world": [pose.head_to_world[:3].ravel() for pose in poses],
            "expression": [p.expression for p in posed],
            "rotations": [None if p.rotations is None else p.rotations.ravel() for p in posed],
            "shape": [p.shape for p in posed],
        },
        schema=TRUTH,
    )
    scene = studio.scene(np.random.default_rng([seed, 1]))
    return TalkingHead(studio, figure, camera, fps, scene, tuple(poses), truth)


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
