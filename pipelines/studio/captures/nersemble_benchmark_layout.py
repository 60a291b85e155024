"""Rendered recordings in the layout of NeRSemble's benchmark: its public files, and next to them its hidden truth.

The tracking files hold the open head's parameters under the official keys and are marked accordingly
(``nersemble.flame_tracking.write_tracking``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mfhq.ids import digest
from nersemble.benchmark import (
    MONO,
    MONO_TEST_SEQUENCES,
    MONO_TRAIN,
    MONO_TRAIN_SEQUENCES,
    NVS,
    NVS_HELD_OUT,
    NVS_SEQUENCES,
    NVS_TRAIN,
    BenchmarkTask,
    write_metadata,
)
from nersemble.camera_params import CameraParams, write_camera_params
from nersemble.flame_tracking import N_EXPRESSION, N_SHAPE, FlameTracking, euler_xyz_from_rotations, write_tracking
from nersemble.layout import alpha_path, calibration_path, tracking_path, video_path
from pipelines.media.video_writer import write_video
from pipelines.studio.captures.camera_rig import RigCapture, RigSpec, plan_rig
from pipelines.studio.captures.capture_studio import CaptureStudio
from pipelines.studio.captures.nersemble_layout import TRUTH_FILE, TRUTH_SCHEMA, group_by_segment, rig_spec, truth_row
from pipelines.studio.captures.performance import Timestep

SCALE = 1.05
"""Scale of the tracking: metres of the world per metre of the head. It is not 1, so that code must apply it."""
HIDDEN = "hidden"
"""Folder of the videos that the organisers keep secret: ``hidden/{task}/{id}/{SEQ}/cam_{serial}.mp4``."""
CRF = 12
"""Constant rate factor of the videos."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkSpec:
    """Settings of the benchmark folder to render; the images have the sizes that the tasks define."""

    identities: int = 1
    """Number of participants per task, at most five."""
    frames: int = 2
    """Number of frames per video."""
    cameras: int = 4
    """Number of public cameras in the nvs task, at most thirteen."""
    train_sequences: tuple[str, ...] = MONO_TRAIN_SEQUENCES[:2]
    """Training sequences of the mono task."""
    test_sequences: tuple[str, ...] = MONO_TEST_SEQUENCES
    """Hidden sequences of the mono task."""
    tasks: tuple[BenchmarkTask, ...] = (MONO, NVS)
    """Tasks to render."""
    seed: int = 0
    """Seed of the people and performances."""

    def __post_init__(self) -> None:
        limits = {"identities": 5, "cameras": len(NVS_TRAIN), "frames": 10_000}
        for name, most in limits.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; the benchmark has 1 to {most}")


def write_benchmark(studio: CaptureStudio, root: Path, spec: BenchmarkSpec) -> Iterator[Path]:
    """Write a benchmark folder (``{task}/{id}/…``, ``{task}/metadata.json``), ``HIDDEN`` and ``TRUTH_FILE``.

    Args:
        studio: People, renderer and light.
        root: Folder of the benchmark.
        spec: Settings.

    Yields:
        Folder of each participant after it is written.
    """
    mark = {"name": studio.head.name, "digest": studio.head.digest}
    truth: list[dict[str, object]] = []
    for task in spec.tasks:
        participants = list(dict.fromkeys(p for p, _ in task.recordings))[: spec.identities]
        lengths: dict[tuple[int, str], int] = {}
        for participant in participants:
            capture, public = _plan(studio, task, participant, spec)
            person = root / task.name / f"{participant:03d}"
            write_camera_params(calibration_path(person), _calibration(capture))
            for sequence, timesteps in group_by_segment(capture.timesteps).items():
                has_hidden = (participant, sequence) in task.recordings
                if has_hidden:
                    lengths[participant, sequence] = len(timesteps)
                if task is MONO:
                    tracking = make_tracking(capture, timesteps)
                    write_tracking(tracking_path(person, sequence), tracking, mark)
                # The mono task hides complete recordings; the nvs task hides some cameras of its recordings.
                serials = () if task is MONO and has_hidden else tuple(n for n in capture.cameras if n in public)
                hidden = root / HIDDEN / task.name / f"{participant:03d}" / sequence if has_hidden else None
                _write_videos(task, person, sequence, capture, timesteps, serials, hidden)
                truth += [truth_row(participant, capture, timestep, i) for i, timestep in enumerate(timesteps)]
            yield person
        write_metadata(root, task, lengths)
    pq.write_table(pa.Table.from_pylist(truth, schema=TRUTH_SCHEMA), root / TRUTH_FILE)


def make_tracking(capture: RigCapture, timesteps: Sequence[Timestep]) -> FlameTracking:
    """Return the official tracking arrays of timesteps, in a world that is ``SCALE`` times the rig's.

    Args:
        capture: Recordings of a participant.
        timesteps: Timesteps of one sequence.
    """
    n = len(timesteps)
    turns = np.stack([t.head_to_world[:, :3] for t in timesteps])
    joints = np.stack([t.rotations for t in timesteps])
    return FlameTracking(
        shape=_padded(capture.shape[None], N_SHAPE),
        expression=_padded(np.stack([t.expression for t in timesteps]), N_EXPRESSION),
        rotation=euler_xyz_from_rotations(turns).astype(np.float32),
        rotation_matrices=turns.astype(np.float32),
        translation=(SCALE * np.stack([t.head_to_world[:, 3] for t in timesteps])).astype(np.float32),
        jaw=joints[:, 2].astype(np.float32),
        frames=3 * np.arange(n),
        scale=np.full((1, 1), SCALE, np.float32),
        neck=joints[:, 1].astype(np.float32),
        eyes=joints[:, 3:].reshape(n, 6).astype(np.float32),
    )


def _plan(
    studio: CaptureStudio, task: BenchmarkTask, participant: int, spec: BenchmarkSpec
) -> tuple[RigCapture, tuple[str, ...]]:
    """Plan a participant's recordings on a white background; return them and the public cameras' serial numbers."""
    person = digest(["studio", spec.seed, task.name, participant])
    if task is MONO:
        public: tuple[str, ...] = (MONO_TRAIN,)
        serials = task.serials
        rig = RigSpec(
            n_cameras=len(serials),
            width=task.width,
            height=task.height,
            max_yaw=float(np.radians(50)),
            pitch=(-0.2, 0.3),
            distance=(1.0, 1.12),
            span=0.4,
        )
        segments = dict.fromkeys((*spec.train_sequences, *spec.test_sequences), spec.frames)
    else:
        public = NVS_TRAIN[: spec.cameras]
        # The rig's first camera is nearly frontal, so it gets the name of the held-out centre camera.
        serials = (NVS_HELD_OUT[1], *public, NVS_HELD_OUT[0], NVS_HELD_OUT[2])
        rig = rig_spec(len(serials), task.width)
        segments = {NVS_SEQUENCES[participant]: spec.frames}
    capture = plan_rig(studio, person, rig, segments, spec.seed, camera_names=serials, fps=task.fps)
    return replace(capture, white=True), public


def _calibration(capture: RigCapture) -> CameraParams:
    poses = {n: c.world_to_camera * np.array([1, 1, 1, SCALE]) for n, c in capture.cameras.items()}
    return CameraParams(poses, {n: c.K for n, c in capture.cameras.items()}, None, shared=False)


def _write_videos(
    task: BenchmarkTask,
    person: Path,
    sequence: str,
    capture: RigCapture,
    timesteps: Sequence[Timestep],
    public: Sequence[str],
    hidden: Path | None,
) -> None:
    """Write videos and mattes of the cameras ``public``, and the task's held-out videos into the folder ``hidden``."""
    held_out = sorted(set(task.serials)) if hidden is not None else []
    capture = replace(capture, cameras={n: c for n, c in capture.cameras.items() if n in {*public, *held_out}})
    images: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in capture.cameras}
    mattes: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in capture.cameras}
    for timestep in timesteps:
        for view in capture.render_views(timestep):
            images[view.camera_id].append(view.rgb)
            grey = (view.alpha * 255 + 0.5).astype(np.uint8)
            mattes[view.camera_id].append(np.repeat(grey[..., None], 3, axis=-1))
    for name in public:
        write_video(video_path(person, sequence, name), images[name], task.fps, CRF)
        write_video(alpha_path(person, sequence, name), mattes[name], task.fps, CRF)
    for name in held_out:
        assert hidden is not None
        write_video(hidden / f"cam_{name}.mp4", images[name], task.fps, CRF)


def _padded(values: NDArray[np.floating], width: int) -> NDArray[np.float32]:
    return np.pad(np.asarray(values, np.float32), ((0, 0), (0, width - values.shape[1])))
