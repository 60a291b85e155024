"""The step ``render_capture``, which renders captures of studio people with several cameras, and their truth.

Every view is a square image centred on the head: a crop of its camera's full image at the known head pose. The crop is
rendered directly, so its ``K`` is that of the camera after cropping and resizing.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mfhq.ids import digest, seed_of
from mfhq.schema import MATRIX_3X4, OK
from pipelines.conversion.capture_schemas import CAPTURE_FIELDS, camera_row, view_row
from pipelines.conversion.head_crops import HEAD_CENTRE, aligned_crop
from pipelines.engine.step import Resources, Step
from pipelines.media.cameras import Camera, aimed_camera, rotation_yxz
from pipelines.media.image_codec import encode_png, encode_webp
from pipelines.studio.motion import random_expression, speech
from pipelines.studio.person import make_person
from pipelines.studio.renderer import build_scene, render_mesh
from pipelines.studio.scenes import lighting_in_head_frame, random_background, random_lighting
from pipelines.studio.studio_head import StudioHead, load_studio_head

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
"""Truth of one timestep: expression coefficients, axis-angles of the five joints (radians) and head pose (metres)."""
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


def render_capture_step(cache: Path, head_digest: str, batch: int = 1) -> Step:
    """Return the step ``render_capture``.

    Args:
        cache: Folder of the open head, which is built there if it is missing.
        head_digest: Digest of the head, which is part of the step's fingerprint.
        batch: Number of captures that are rendered per call.
    """
    return Step(
        name="render_capture",
        version=2,
        key="capture_id",
        input=PLAN,
        output=RENDERED,
        load=partial(load_studio_head, cache),
        fn=render_capture_rows,
        resources=Resources(cpus=1, batch=batch),
        weights={"head": head_digest},
    )


def render_capture_rows(head: StudioHead, plan: pa.Table) -> pa.Table:
    """Render captures; all random numbers are seeded with the ids of the capture and the person.

    Args:
        head: The studio's head.
        plan: Rows of ``PLAN``.

    Returns:
        Rows of ``RENDERED``, in the order of the plan.
    """
    return pa.Table.from_pylist([_render(head, row) for row in plan.to_pylist()], schema=RENDERED)


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


def _timesteps(head: StudioHead, g: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Draw segment, expression, rotations and head pose of ``n`` timesteps: neutral first, speech at every third."""
    timesteps: list[dict[str, Any]] = []
    for frame in range(n):
        if frame == 0:
            segment, actions = "neutral", {}
        elif frame % 3 == 2:
            talk = speech(g, np.array([0.0, 0.1]))
            segment, actions = "speech", {name: float(value[0]) for name, value in talk.items()}
        else:
            name, actions = random_expression(g)
            segment = f"expression-{name}"
        expression, rotations = head.parameters({k: np.array([v]) for k, v in actions.items()})
        rotations = rotations.copy()
        rotations[0, 1] += g.normal(scale=0.06, size=3)
        turn = rotation_yxz(*np.clip(g.normal(scale=[0.16, 0.1, 0.08]), -0.35, 0.35))
        pose = np.concatenate([turn, g.normal(scale=0.01, size=(3, 1))], axis=1)
        timesteps.append(
            {"segment": segment, "expression": expression[0], "rotations": rotations[0], "head_to_world": pose}
        )
    return timesteps


def _render(head: StudioHead, row: dict[str, Any]) -> dict[str, Any]:
    g = np.random.default_rng(seed_of(row["capture_id"]))
    person, size = make_person(head, row["identity_id"]), int(row["size"])
    cameras = {f"studio-{i:02d}": c for i, c in enumerate(random_studio_cameras(g, row["n_cameras"], size))}
    timesteps = _timesteps(head, g, row["n_frames"])
    lighting = random_lighting(g)
    backgrounds = {name: random_background(g, size) for name in cameras}
    meshes = person.meshes(*(np.stack([t[name] for t in timesteps]) for name in ("expression", "rotations")))
    views = []
    for frame, (timestep, mesh) in enumerate(zip(timesteps, meshes, strict=True)):
        pose = timestep["head_to_world"]
        lighting_in_head, scene = lighting_in_head_frame(lighting, pose), build_scene(mesh)
        for name, camera in cameras.items():
            crop = aligned_crop(camera, pose, size)
            rendered = render_mesh(scene, crop.moved(pose), lighting_in_head, backgrounds[name])
            views.append(
                view_row(
                    row["capture_id"],
                    name,
                    frame,
                    segment=timestep["segment"],
                    split=row["split"],
                    time_s=frame / 2,
                    image=encode_webp(rendered.rgb, 95),
                    matte=encode_png((rendered.alpha * 255 + 0.5).astype(np.uint8)),
                    K=crop.K,
                    head_to_world=pose,
                )
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
        "truth": [
            {
                "frame_index": frame,
                "expression": timestep["expression"],
                "rotations": timestep["rotations"].ravel(),
                "head_to_world": timestep["head_to_world"].ravel(),
            }
            for frame, timestep in enumerate(timesteps)
        ],
        "shape": person.shape,
    }
