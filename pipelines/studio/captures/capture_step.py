"""The step ``render_capture``, which renders captures of studio people with several cameras, and their truth.

Every view is a square image centred on the head: a crop of its camera's full image at the known head pose. The crop is
rendered directly, so its ``K`` is that of the camera after cropping and resizing.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from mfhq.ids import digest, seed_of
from mfhq.schema import MATRIX_3X4, OK
from pipelines.conversion.capture_schemas import CAPTURE_FIELDS, camera_row, view_row
from pipelines.conversion.head_crops import HEAD_CENTRE, aligned_crop
from pipelines.engine.step import Resources, Step
from pipelines.media.cameras import Camera, aimed_camera, rotation_yxz
from pipelines.media.image_codec import encode_png, encode_webp
from pipelines.studio.captures.capture_studio import CaptureStudio, assets_digest, open_capture_studio
from pipelines.studio.captures.performance import SHOULDERS_STAY
from pipelines.studio.looks.dressed_people import PeopleName
from pipelines.studio.motion import plan_motion, random_expression, random_gaze
from pipelines.studio.motion.gazing import without_gaze
from pipelines.studio.people.figure import Pose
from pipelines.studio.rendering.choice import Choice

DATASET, LICENCE = "studio", "CC0-1.0"
"""Data set and licence of the studio's captures, which are rendered from CC0 data."""
FULL_SPAN, FULL_SCALE = 0.6, 2
"""Span of a camera's full image at the head, in metres, and its side in multiples of the views' ``size``."""
MAX_YAW, MAX_PITCH = np.radians(60), np.radians(20)
"""Largest yaw and pitch of the cameras, radians."""
N_ROTATION = 15
"""Number of rotation parameters: three for each of the five joints."""

PLAN = pa.schema(
    [
        pa.field("capture_id", pa.string(), nullable=False),
        pa.field("identity_id", pa.string(), nullable=False),
        pa.field("n_cameras", pa.int32(), nullable=False),
        pa.field("n_frames", pa.int32(), nullable=False),
        pa.field("size", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)
"""Captures to render, one row per capture; ``size`` is the side of a view in pixels."""

TRUTH = pa.struct(
    [
        pa.field("frame_index", pa.int64()),
        pa.field("expression", pa.list_(pa.float32())),
        pa.field("rotations", pa.list_(pa.float32(), N_ROTATION)),
        pa.field("head_to_world", MATRIX_3X4),
    ]
)
"""Truth of one timestep: expression coefficients, axis-angles of the five joints (radians) and head pose (metres).

People without the open head's coefficients have none here, nor a ``shape``.
"""
RENDERED = pa.schema(
    [
        pa.field("capture_id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        *(field for field in CAPTURE_FIELDS if field.name != "capture_id"),
        pa.field("truth", pa.list_(TRUTH)),
        pa.field("shape", pa.list_(pa.float32())),
    ]
)
"""Output of ``render_capture``: one nested row per capture, which ``pipelines.conversion.capture_tables`` flattens."""


def plan_captures(
    n_identities: int, n_cameras: int, n_frames: int, size: int, seed: int = 0, val_every: int = 5
) -> pa.Table:
    """Plan captures of several people, one per person.

    With the same seed, a larger plan contains the people of a smaller plan in the same splits.

    Args:
        n_identities: Number of people.
        n_cameras: Number of cameras per capture.
        n_frames: Number of timesteps per capture.
        size: Side of a view, pixels.
        seed: Another seed gives other people.
        val_every: Every ``val_every``-th person is held out; of these, every fourth is in test and the others are in
            val.

    Returns:
        Rows of ``PLAN``.

    Raises:
        ValueError: A number of cameras, frames or pixels, or ``val_every``, is not positive.
    """
    for name, value in {"n_cameras": n_cameras, "n_frames": n_frames, "size": size, "val_every": val_every}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    rows = []
    for i in range(n_identities):
        identity = digest(["studio", seed, i])
        held_out = i % val_every == val_every - 1
        split = "train" if not held_out else ("test" if i % (4 * val_every) == 4 * val_every - 1 else "val")
        capture = digest([identity, n_cameras, n_frames, size])
        rows.append(
            {
                "capture_id": capture,
                "identity_id": identity,
                "n_cameras": n_cameras,
                "n_frames": n_frames,
                "size": size,
                "split": split,
            }
        )
    return pa.Table.from_pylist(rows, schema=PLAN)


def render_capture_step(
    cache: Path,
    head_digest: str,
    people: PeopleName = "open",
    assets: Path | None = None,
    choice: Choice = "auto",
) -> Step:
    """Return the step ``render_capture``.

    Args:
        cache: Folder of the open head, which is built there if it is missing.
        head_digest: Digest of the head, which is part of the step's fingerprint.
        people: Name of the source of people.
        assets: Folder of a kit, or None.
        choice: Renderer.
    """
    return Step(
        name="render_capture",
        version=3,
        key="capture_id",
        input=PLAN,
        output=RENDERED,
        load=partial(open_capture_studio, cache, people, assets, choice),
        fn=render_capture_rows,
        resources=Resources(cpus=1, batch=1),
        config={"people": people},
        weights={"head": head_digest, **assets_digest(assets)},
    )


def render_capture_rows(studio: CaptureStudio, plan: pa.Table) -> pa.Table:
    """Render captures; all random numbers are seeded with the ids of the capture and the person.

    Args:
        studio: People, renderer and light.
        plan: Rows of ``PLAN``.

    Returns:
        Rows of ``RENDERED``, in the order of the plan.
    """
    return pa.Table.from_pylist([_render(studio, row) for row in plan.to_pylist()], schema=RENDERED)


def random_studio_cameras(g: np.random.Generator, n: int, size: int) -> list[Camera]:
    """Draw cameras around the head: the first nearly in front, the others spread over yaw ±60° and pitch ±20°.

    Args:
        g: Random generator.
        n: Number of cameras.
        size: Side of a view, pixels; the side of a full image is ``FULL_SCALE`` times as long.
    """
    yaws = (np.arange(n) + g.uniform(0.2, 0.8, n)) / n * 2 - 1
    yaws = MAX_YAW * yaws[np.argsort(np.abs(yaws), kind="stable")]
    cameras = []
    for i in range(n):
        pitch = g.uniform(-1, 1) * MAX_PITCH * (0.3 if i == 0 else 1)
        yaw = float(g.uniform(-0.1, 0.1)) if i == 0 else float(yaws[i])
        target = np.array([*g.normal(scale=0.005, size=2), 0.0]) + HEAD_CENTRE
        cameras.append(
            aimed_camera(
                yaw,
                pitch,
                distance=g.uniform(0.9, 1.4),
                target=target,
                span=FULL_SPAN,
                size=FULL_SCALE * size,
                roll=g.normal(scale=0.03),
            )
        )
    return cameras


def _poses(g: np.random.Generator, n: int) -> list[tuple[str, Pose]]:
    """Draw segment and pose of ``n`` timesteps: neutral first, speech at every third."""
    poses: list[tuple[str, Pose]] = []
    for frame in range(n):
        segment, actions, gaze = "neutral", {}, random_gaze(g)
        if frame % 3 == 2:
            spoken = plan_motion(g, np.array([0.0, 0.1]), "speech").actions
            segment, actions = "speech", {name: float(value[0]) for name, value in spoken.items()}
        elif frame:
            name, drawn = random_expression(g)
            segment, actions = f"expression-{name}", without_gaze(drawn)
        else:
            gaze = Pose().gaze
        turn = rotation_yxz(*np.clip(g.normal(scale=[0.16, 0.1, 0.08]), -0.35, 0.35))
        to_world = np.eye(4)
        to_world[:3, :3], to_world[:3, 3] = turn, g.normal(scale=0.01, size=3)
        x, y, z = cv2.Rodrigues(turn)[0][:, 0] * g.uniform(*SHOULDERS_STAY)
        poses.append((segment, Pose(actions, gaze, to_world, (float(x), float(y), float(z)))))
    return poses


def _render(studio: CaptureStudio, row: dict[str, Any]) -> dict[str, Any]:
    g = np.random.default_rng(seed_of(row["capture_id"]))
    figure, size = studio.source.person(row["identity_id"]), int(row["size"])
    cameras = {f"studio-{i:02d}": c for i, c in enumerate(random_studio_cameras(g, row["n_cameras"], size))}
    poses, scene = _poses(g, row["n_frames"]), studio.scene(g)
    views, truths, shape = [], [], None
    for frame, (segment, pose) in enumerate(poses):
        posed = figure.pose(pose)
        to_world, shape = pose.head_to_world[:3], posed.shape
        crops = [aligned_crop(camera, to_world, size) for camera in cameras.values()]
        images = studio.renderer.render_views(figure, posed, crops, scene, truth=False)
        for name, crop, image in zip(cameras, crops, images, strict=True):
            views.append(
                view_row(
                    row["capture_id"],
                    name,
                    frame,
                    segment=segment,
                    split=row["split"],
                    time_s=frame / 2,
                    image=encode_webp(image.rgb, 95),
                    matte=encode_png((image.matte * 255 + 0.5).astype(np.uint8)),
                    K=crop.K,
                    head_to_world=to_world,
                )
            )
        truths.append(
            {
                "frame_index": frame,
                "expression": posed.expression,
                "rotations": None if posed.rotations is None else posed.rotations.ravel(),
                "head_to_world": to_world.ravel(),
            }
        )
    return {
        "capture_id": row["capture_id"],
        "status": OK,
        "reason": "",
        "identity_id": row["identity_id"],
        "dataset": DATASET,
        "licence": LICENCE,
        "split": row["split"],
        "cameras": [camera_row(name, camera) for name, camera in cameras.items()],
        "views": views,
        "truth": truths,
        "shape": shape,
    }
