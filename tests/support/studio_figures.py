"""A figure of few triangles with every kind of material: skin with a normal map, wet eyes, hair as cards."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.part_classes import Part
from pipelines.studio.people.figure import Attributes, Material, Pose, PosedFigure, Surface
from pipelines.studio.rendering.wrinkles import STEP

Floats = NDArray[np.float32]


def sphere(
    radius: float, centre: tuple[float, float, float], rings: int = 24
) -> tuple[Floats, NDArray[np.int32], Floats]:
    """Return vertices, triangles and per-corner uv (v down) of a sphere, counter-clockwise seen from outside."""
    rows, columns = np.mgrid[0 : rings + 1, 0 : 2 * rings + 1]
    polar, turn = rows / rings * np.pi, columns / (2 * rings) * 2 * np.pi
    unit = np.stack([np.sin(polar) * np.sin(turn), np.cos(polar), np.sin(polar) * np.cos(turn)], -1)
    vertices = (unit * radius + np.array(centre)).reshape(-1, 3).astype(np.float32)
    uv = np.stack([columns / (2 * rings), rows / rings], -1).reshape(-1, 2).astype(np.float32)
    a = (rows[:-1, :-1] * (2 * rings + 1) + columns[:-1, :-1]).reshape(-1)
    b, c, d = a + 1, a + 2 * rings + 1, a + 2 * rings + 2
    triangles = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)]).astype(np.int32)
    return vertices, triangles, uv[triangles]


def _skin_texture(g: np.random.Generator) -> NDArray[np.uint8]:
    texture = np.full((64, 128, 4), 255, np.uint8)
    texture[..., :3] = np.array([200, 150, 120]) + g.normal(scale=12, size=(64, 128, 1)).clip(-30, 30)
    return texture


def _hair_texture() -> NDArray[np.uint8]:
    texture = np.full((64, 128, 4), (60, 40, 30, 255), np.uint8)
    fall = np.linspace(1.6, -0.9, 64).clip(0, 1)[:, None] * (0.6 + 0.4 * np.sin(np.arange(128) * 0.8))
    texture[..., 3] = (255 * fall.clip(0, 1)).astype(np.uint8)
    return texture


def _bumps() -> NDArray[np.uint8]:
    y, x = np.mgrid[0:64, 0:128]
    slope = np.stack([0.3 * np.sin(x * 0.7), 0.3 * np.cos(y * 0.6), np.ones((64, 128))], -1)
    slope /= np.linalg.norm(slope, axis=-1, keepdims=True)
    return (slope * 127 + 128).round().astype(np.uint8)


def _folds() -> NDArray[np.uint8]:
    """Return a wrinkle map with waves in two regions, which fade where they meet."""
    y, x = np.mgrid[0:64, 0:128]
    wave = 0.7 * np.sin(y * 0.8) * np.abs(np.sin(x * np.pi / 64))
    folds = np.stack([128 + 60 * wave, 128 + 127 * wave, np.where(x < 64, STEP, 2 * STEP)], -1)
    return folds.round().astype(np.uint8)


@dataclass(frozen=True)
class BallFigure:
    """A head that is a ball, with eyes and a cap of hair."""

    identity_id: str = "ball"
    attributes: Attributes = field(default_factory=lambda: Attributes("ball", None, None, None))

    @property
    def surfaces(self) -> tuple[Surface, ...]:
        g = np.random.default_rng(0)
        skin = Material(_skin_texture(g), _bumps(), _folds(), roughness=0.45, specular=0.028, subsurface=1.0)
        wet = Material(np.full((1, 1, 4), (90, 110, 130, 255), np.uint8), roughness=0.3, clearcoat=1.0)
        patched = np.full((8, 8, 4), (90, 110, 130, 255), np.uint8)
        patched[:, :2, 3] = 0
        cut = Material(patched, roughness=0.3, clearcoat=0.5, alpha_mode="cutout")
        hair = Material(_hair_texture(), roughness=0.4, alpha_mode="blend")
        shapes = self._shapes()
        return tuple(
            Surface(name, triangles, uv, part, material)
            for (_, triangles, uv), name, part, material in zip(
                shapes,
                ("skin", "eye_left", "eye_right", "hair"),
                (Part.BODY, Part.BODY, Part.BODY, Part.HAIR),
                (skin, wet, cut, hair),
                strict=True,
            )
        )

    def pose(self, pose: Pose) -> PosedFigure:
        turn = pose.head_to_world
        vertices = tuple((v @ turn[:3, :3].T + turn[:3, 3]).astype(np.float32) for v, _, _ in self._shapes())
        front = np.array([[0, 0, 0.1], [0, 0, -0.1], [np.nan] * 3], np.float32)
        landmarks = np.full((478, 3), np.nan, np.float32)
        landmarks[:3] = front @ turn[:3, :3].T + turn[:3, 3]
        gaze = np.tile(turn[:3, 2], (2, 1)).astype(np.float32)
        return PosedFigure(vertices, landmarks, gaze, normal_strength=dict(pose.actions))

    def _shapes(self) -> tuple[tuple[Floats, NDArray[np.int32], Floats], ...]:
        return (
            sphere(0.1, (0, 0, 0)),
            sphere(0.018, (0.035, 0.02, 0.088), 12),
            sphere(0.018, (-0.035, 0.02, 0.088), 12),
            sphere(0.108, (0, 0.006, -0.004)),
        )
