"""The open head in the form that the studio needs: numpy arrays, and samples of its surface for painting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.studio.mesh import Mesh, grid_points, vertex_normals
from pipelines.studio.renderer import build_scene

if TYPE_CHECKING:
    from ffavatar_model.head import HeadModel

Floats = NDArray[np.float32]
ORDER = 6
"""Order of the studio's mesh colours; on the face, grid points are 0.5 to 1 mm apart."""
NECK, JAW, LEFT_EYE, RIGHT_EYE = 1, 2, 3, 4
"""Indices of the joints, as in ``ffavatar_model.head``."""


@dataclass(frozen=True)
class StudioHead:
    """A head model, with its template's surface sampled at the G grid points of each of F triangles."""

    model: HeadModel
    """The head model."""
    template: Floats
    """(V, 3) vertices, metres: origin between the eyes, x to the head's left, y up, z out of the face."""
    normals: Floats
    """(V, 3) unit normals of the template."""
    triangles: NDArray[np.int64]
    """(F, 3) indices of vertices, counter-clockwise seen from outside."""
    weights: Floats
    """(V, 5) skinning weights."""
    eye_centres: Floats
    """(2, 3) centres of the left and the right eyeball, metres."""
    irises: NDArray[np.int64]
    """(2,) vertices at the centres of the left and the right iris."""
    points: Floats
    """(F, G, 3) positions of the grid points on the template, metres."""
    regions: dict[str, Floats]
    """Name of the region → soft mask (F, G)."""
    openness: Floats
    """(F, G) share of directions in which the surface is not blocked: 0 in the mouth, 1 on the forehead."""

    def parameters(self, actions: Mapping[str, NDArray[np.floating]]) -> tuple[Floats, Floats]:
        """Convert named actions to the head model's parameters.

        Args:
            actions: Action → strengths (B,).

        Returns:
            Expression coefficients (B, E) and axis-angles of the joints (B, 5, 3), radians.
        """
        from ffavatar_model.head import actions_to_parameters

        strengths = {name: np.asarray(values, np.float32) for name, values in actions.items()}
        expression, rotations = actions_to_parameters(self.model, strengths)
        return expression.numpy(), rotations.numpy()

    def pose(self, shape: Floats, expression: Floats, rotations: Floats) -> tuple[Floats, Floats]:
        """Pose the head model.

        Args:
            shape: (B, S) shape coefficients.
            expression: (B, E) expression coefficients.
            rotations: (B, 5, 3) axis-angles of the joints, radians.

        Returns:
            Vertices (B, V, 3), metres, and joint transforms (B, 5, 3, 4).
        """
        from ffavatar_model.head import pose_head_numpy

        return pose_head_numpy(self.model, shape, expression, rotations)


def load_studio_head(cache: Path) -> StudioHead:
    """Load the studio's head from the open head in a cache folder, where it is built if it is missing."""
    from ffavatar_model.head.open_head import build_open_head

    return make_studio_head(build_open_head(cache))


def make_studio_head(model: HeadModel) -> StudioHead:
    """Sample a head model's template for painting and rendering.

    Args:
        model: The head model.

    Raises:
        ValueError: The head model lacks regions that painting needs.
    """
    from ffavatar_model.head import iris_vertices

    needed = {"lips", "eyelids", "ears", "mouth_interior", "left_eye", "right_eye", "tongue"}
    if missing := sorted(needed - set(model.region_names)):
        raise ValueError(f"head model {model.name!r} lacks the regions {missing}: the studio renders the open head")
    template, triangles = model.template.numpy(), model.triangles.numpy()
    normals = vertex_normals(template, triangles)
    per_vertex = np.concatenate(
        [template, model.regions.numpy(), _openness(template, triangles, normals)[:, None]], axis=1
    )
    grid = grid_points(per_vertex, triangles, ORDER)
    joints = (model.joint_regressor @ model.template).numpy()
    return StudioHead(
        model=model,
        template=template,
        normals=normals,
        triangles=triangles,
        weights=model.skinning_weights.numpy(),
        eye_centres=joints[[LEFT_EYE, RIGHT_EYE]],
        irises=iris_vertices(model).numpy(),
        points=grid[..., :3],
        regions={name: grid[..., 3 + i] for i, name in enumerate(model.region_names)},
        openness=grid[..., -1],
    )


def _openness(template: Floats, triangles: NDArray[np.int64], normals: Floats, n_rays: int = 64) -> Floats:
    """Return the share (V,) of the cosine-weighted hemisphere over each vertex that is not blocked within 8 cm."""
    g = np.random.default_rng(0)
    scene = build_scene(Mesh(template, triangles, np.zeros((len(triangles), 3, 4), np.float32), 1))
    free = np.zeros(len(template), np.float32)
    for _ in range(n_rays):
        direction = g.normal(size=3)
        rays = normals + np.float32(direction / np.linalg.norm(direction))
        rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-6)
        distance = scene.embree.run(
            np.ascontiguousarray(template + 1e-3 * normals), np.ascontiguousarray(rays), query="DISTANCE"
        )
        free += distance > 0.08
    return (free / n_rays).astype(np.float32)
