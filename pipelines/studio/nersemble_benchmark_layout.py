"""Rendered recordings in the layout of NeRSemble's benchmark: what it gives out, and its hidden truth beside it.

The tracking carries the open head's parameters under the official keys, and is marked as such
(``nersemble.flame_tracking.write_tracking``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from nersemble.camera_params import CameraParams, write_calibration
from nersemble.flame_tracking import N_EXPRESSION, N_SHAPE, FlameTracking, euler_xyz_of, write_tracking
from nersemble.layout import alpha_path, calibration_path, tracking_path, video_path
from pipelines.media.video_writer import write_video
from pipelines.studio.camera_rig import RigCapture, RigSpec, plan_rig
from pipelines.studio.nersemble_layout import TRUTH, TRUTH_SCHEMA, by_segment, rendered, rig_spec, truth_row
from pipelines.studio.performance import Timestep
from pipelines.studio.studio_head import StudioHead

SCALE = 1.05
"""The world's metres for one of the head's: tracking has a scale, and nothing may work by its being 1."""
HIDDEN = "hidden"
"""Folder of what the organisers keep: ``hidden/{task}/{id}/{SEQ}/cam_{serial}.mp4``."""
CRF = 12


@dataclass(frozen=True, kw_only=True)
class BenchmarkSpec:
    """How much of the benchmark is rendered, at its official sizes."""

    identities: int = 1
    """People of each task, at most five."""
    frames: int = 2
    """Of each video."""
    cameras: int = 4
    """Cameras of the nvs task that are given out, at most thirteen."""
    train_sequences: tuple[str, ...] = MONO_TRAIN_SEQUENCES[:2]
    test_sequences: tuple[str, ...] = MONO_TEST_SEQUENCES
    tasks: tuple[BenchmarkTask, ...] = (MONO, NVS)
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {"identities": 5, "cameras": len(NVS_TRAIN), "frames": 10_000}
        for name, most in limits.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; the benchmark has 1 to {most}")


def write_benchmark(head: StudioHead, root: Path, spec: BenchmarkSpec) -> Iterator[Path]:
    """Write a benchmark folder (``{task}/{id}/…``, ``{task}/metadata.json``), ``HIDDEN`` and ``TRUTH``.

    Gives back each participant's folder when it is written.
    """
    mark = {"name": head.model.name, "digest": head.model.digest}
    truth: list[dict[str, object]] = []
    for task in spec.tasks:
        people = list(dict.fromkeys(p for p, _ in task.recordings))[: spec.identities]
        lengths: dict[tuple[int, str], int] = {}
        for participant in people:
            capture, given = _plan(head, task, participant, spec)
            person = root / task.name / f"{participant:03d}"
            write_calibration(calibration_path(person), _calibration(capture))
            for sequence, moments in by_segment(capture.moments).items():
                hidden = (participant, sequence) in task.recordings
                if hidden:
                    lengths[participant, sequence] = len(moments)
                if task is MONO:
                    tracked = tracking_of(capture, moments)
                    write_tracking(tracking_path(person, sequence), tracked, mark)
                shown = _shown(task, hidden, given, capture.cameras)
                keep = root / HIDDEN / task.name / f"{participant:03d}" / sequence if hidden else None
                _write_videos(task, person, sequence, capture, moments, shown, keep)
                truth += [truth_row(participant, capture, moment, i) for i, moment in enumerate(moments)]
            yield person
        write_metadata(root, task, lengths)
    pq.write_table(pa.Table.from_pylist(truth, schema=TRUTH_SCHEMA), root / TRUTH)


def tracking_of(capture: RigCapture, moments: Sequence[Timestep]) -> FlameTracking:
    """The official arrays for a capture's moments, in a world that is ``SCALE`` times the rig's."""
    n = len(moments)
    turns = np.stack([m.head_to_world[:, :3] for m in moments])
    joints = np.stack([m.rotations for m in moments])
    return FlameTracking(
        shape=_padded(capture.person.shape[None], N_SHAPE),
        expression=_padded(np.stack([m.expression for m in moments]), N_EXPRESSION),
        rotation=euler_xyz_of(turns).astype(np.float32),
        rotation_matrices=turns.astype(np.float32),
        translation=(SCALE * np.stack([m.head_to_world[:, 3] for m in moments])).astype(np.float32),
        jaw=joints[:, 2].astype(np.float32),
        frames=3 * np.arange(n),
        scale=np.full((1, 1), SCALE, np.float32),
        neck=joints[:, 1].astype(np.float32),
        eyes=joints[:, 3:].reshape(n, 6).astype(np.float32),
    )


def _plan(
    head: StudioHead, task: BenchmarkTask, participant: int, spec: BenchmarkSpec
) -> tuple[RigCapture, tuple[str, ...]]:
    """A participant's recordings before white, and the cameras that are given out."""
    person = digest(["studio", spec.seed, task.name, participant])
    if task is MONO:
        given: tuple[str, ...] = (MONO_TRAIN,)
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
        given = NVS_TRAIN[: spec.cameras]
        # The rig's first camera stands in front: the held-out centre one; the others are spread in their order.
        serials = (NVS_HELD_OUT[1], *given, NVS_HELD_OUT[0], NVS_HELD_OUT[2])
        rig = rig_spec(len(serials), task.width)
        segments = {NVS_SEQUENCES[participant]: spec.frames}
    capture = plan_rig(head, person, rig, segments, spec.seed, camera_names=serials, fps=task.fps)
    white = {name: np.ones_like(background) for name, background in capture.backgrounds.items()}
    return replace(capture, backgrounds=white), given


def _calibration(capture: RigCapture) -> CameraParams:
    poses = {n: c.world_to_camera * np.array([1, 1, 1, SCALE]) for n, c in capture.cameras.items()}
    return CameraParams(poses, {n: c.K for n, c in capture.cameras.items()}, None, shared=False)


def _shown(task: BenchmarkTask, hidden: bool, given: Sequence[str], cameras: Mapping[str, object]) -> tuple[str, ...]:
    """The cameras whose videos are given out for a sequence."""
    if task is MONO:
        return () if hidden else tuple(given)
    return tuple(name for name in cameras if name in given)


def _write_videos(
    task: BenchmarkTask,
    person: Path,
    sequence: str,
    capture: RigCapture,
    moments: Sequence[Timestep],
    shown: Sequence[str],
    keep: Path | None,
) -> None:
    """Videos and mattes of the cameras that are shown, and the hidden ones into ``keep``."""
    hidden = set(task.serials) if keep is not None else set()
    wanted = {*shown, *hidden}
    only = replace(capture, cameras={n: c for n, c in capture.cameras.items() if n in wanted})
    pictures: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in only.cameras}
    mattes: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in only.cameras}
    for view in rendered(only, moments):
        pictures[view.camera_id].append(view.rgb)
        grey = (view.alpha * 255 + 0.5).astype(np.uint8)
        mattes[view.camera_id].append(np.repeat(grey[..., None], 3, axis=-1))
    for name in shown:
        write_video(video_path(person, sequence, name), pictures[name], task.fps, CRF)
        write_video(alpha_path(person, sequence, name), mattes[name], task.fps, CRF)
    for name in sorted(hidden):
        if keep is not None:
            write_video(keep / f"cam_{name}.mp4", pictures[name], task.fps, CRF)


def _padded(values: NDArray[np.floating], width: int) -> NDArray[np.float32]:
    return np.pad(np.asarray(values, np.float32), ((0, 0), (0, width - values.shape[1])))
