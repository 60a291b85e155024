"""The step ``render_capture``: one studio person, several calibrated cameras, several moments, with the truth beside.

Every view is a square picture aligned with the head: cut from its camera's full image by where the head is known to
be, and rendered at that crop directly, so that its ``K`` is the camera's after crop and resize.
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
from pipelines.studio.person import make_identity
from pipelines.studio.renderer import build_scene, render_mesh
from pipelines.studio.scenes import random_background, random_lighting, seen_from_head
from pipelines.studio.studio_head import StudioHead, load_studio_head

DATASET, LICENCE = "studio", "CC0-1.0"
"""What the studio renders is made of CC0 data."""
FULL_SPAN, FULL_SCALE = 0.6, 2
"""A camera's full image spans ``FULL_SPAN`` metres and has ``FULL_SCALE`` x ``size`` pixels a side."""
MAX_YAW, MAX_PITCH = np.radians(60), np.radians(20)
N_ROTATION = 15

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
"""A capture to render: which person, how many cameras and moments, pixels a side."""

TRUTH = pa.struct(
    [
        pa.field("frame_index", pa.int64()),
        pa.field("expression", pa.list_(pa.float32())),
        pa.field("rotations", pa.list_(pa.float32(), N_ROTATION)),
        pa.field("head_to_world", MATRIX_3X4),
    ]
)
"""Expression coefficients, axis-angle of the five joints (radians) and head pose of a moment."""
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
"""``render_capture``: everything about a capture, nested; ``pipelines.conversion.capture_tables`` flattens it."""


def plan_captures(
    n_identities: int, n_cameras: int, n_frames: int, size: int, seed: int = 0, val_every: int = 5
) -> pa.Table:
    """One capture for each of ``n_identities`` people, rows of ``PLAN``.

    A larger plan of the same seed holds the smaller one's people, in the same splits: every ``val_every``-th person
    is held out, as val, and each fourth of those as test. Raises ``ValueError`` for a number that is not positive.
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
    """The step. ``cache`` is the folder that holds the open head (built there where it is missing); ``head_digest``,
    the head's, stands in the fingerprint."""
    return Step(
        name="render_capture",
        version=2,
        key="capture_id",
        input=PLAN,
        output=RENDERED,
        load=partial(load_studio_head, cache),
        fn=render_captures,
        resources=Resources(cpus=1, batch=batch),
        weights={"head": head_digest},
    )


def render_captures(head: StudioHead, plan: pa.Table) -> pa.Table:
    """Rows of ``PLAN`` to rows of ``RENDERED``; everything random depends on the capture's and the person's id."""
    return pa.Table.from_pylist([_render(head, row) for row in plan.to_pylist()], schema=RENDERED)


def studio_cameras(g: np.random.Generator, n: int, size: int) -> list[Camera]:
    """``n`` cameras round the head: the first near the front, the others spread over yaw ±60° and pitch ±20°."""
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


def _moments(head: StudioHead, g: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Segment, expression, rotations and head pose of ``n`` moments; the first is neutral, every third one speaks."""
    moments: list[dict[str, Any]] = []
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
        place = np.concatenate([turn, g.normal(scale=0.01, size=(3, 1))], axis=1)
        moments.append(
            {"segment": segment, "expression": expression[0], "rotations": rotations[0], "head_to_world": place}
        )
    return moments


def _render(head: StudioHead, row: dict[str, Any]) -> dict[str, Any]:
    g = np.random.default_rng(seed_of(row["capture_id"]))
    person, size = make_identity(head, row["identity_id"]), int(row["size"])
    cameras = {f"studio-{i:02d}": c for i, c in enumerate(studio_cameras(g, row["n_cameras"], size))}
    moments = _moments(head, g, row["n_frames"])
    lighting = random_lighting(g)
    backgrounds = {name: random_background(g, size) for name in cameras}
    meshes = person.meshes(np.stack([m["expression"] for m in moments]), np.stack([m["rotations"] for m in moments]))
    views = []
    for frame, (moment, mesh) in enumerate(zip(moments, meshes, strict=True)):
        place = moment["head_to_world"]
        lights, scene = seen_from_head(lighting, place), build_scene(mesh)
        for name, camera in cameras.items():
            crop = aligned_crop(camera, place, size)
            seen = render_mesh(scene, crop.moved(place), lights, backgrounds[name])
            views.append(
                view_row(
                    row["capture_id"],
                    name,
                    frame,
                    segment=moment["segment"],
                    split=row["split"],
                    time_s=frame / 2,
                    image=encode_webp(seen.rgb, 95),
                    matte=encode_png((seen.alpha * 255 + 0.5).astype(np.uint8)),
                    K=crop.K,
                    head_to_world=place,
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
                "expression": m["expression"],
                "rotations": m["rotations"].ravel(),
                "head_to_world": m["head_to_world"].ravel(),
            }
            for frame, m in enumerate(moments)
        ],
        "shape": person.shape,
    }
