"""The open head wrapped around ICT-FaceKit: each of its vertices gets a place on that surface, once for all people.

So people of ICT-FaceKit have the topology, skins, hair and face-mesh points of the open head. Landmarks that both
surfaces have bend the open head into place; then its vertices go to the nearest surface, step by step, together with
their neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.interpolate import RBFInterpolator
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from pipelines.studio.ict.ict_model import (
    INNER_SHELLS,
    LANDMARKS_68,
    LOWER_TEETH,
    SCLERAS,
    SKIN,
    UPPER_TEETH,
    IctModel,
    fit_sphere,
)
from pipelines.studio.people.nearest import nearest_on_mesh
from pipelines.studio.people.proxies import rigid_motion

if TYPE_CHECKING:
    from ffavatar_model.head import HeadModel

Array = NDArray[np.float64]
MESH_OF_68 = {
    **dict(zip(range(27, 36), (168, 197, 5, 4, 98, 97, 2, 326, 327), strict=True)),
    **dict(zip(range(36, 48), (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380), strict=True)),
    **dict(zip(range(48, 60), (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181), strict=True)),
    **dict(zip(range(60, 68), (78, 82, 13, 312, 308, 317, 14, 87), strict=True)),
    8: 152,
}
"""Landmark of Multi-PIE → point of the face mesh. Those of the brows are left out: they mark hair, not bone."""
STIFFNESS = (30.0, 10.0, 4.0, 2.0, 1.0, 0.5)
"""Weight of a vertex's neighbours against its own nearest place, at each step."""
REACH, FACING = 0.025, 0.3
"""Largest distance of a nearest place, metres, and least cosine of the angle between the normals."""
LOWER_FALLS = 0.4
"""Least share of the largest motion as the jaw opens for a triangle of the lower lip."""
MOUTH_TOP, DEEP = -0.02, 0.008
"""Height below which inner vertices are the mouth's, and depth at which they follow the teeth, metres."""
ROUGH = 1e-7
"""Smoothing of the bend by landmarks, which two people marked."""


@dataclass(frozen=True, eq=False)
class Wrap:
    """Places of the V vertices of the open head on ICT-FaceKit's neutral face."""

    position: Array
    """(V, 3) positions, metres."""
    corners: NDArray[np.int64]
    """(V, 3) vertices of ICT-FaceKit that carry each vertex."""
    weights: Array
    """(V, 3) their weights."""
    eye: NDArray[np.uint8]
    """(V,) 1 for vertices of the left eyeball, 2 for those of the right one, 0 for others, which the corners carry."""
    deep: Array
    """(V,) share of the teeth's motion in that of vertices in the mouth; 0 on the lips and on the skin."""
    jaw: Array
    """(V,) share of the lower teeth's motion in that."""
    upper_teeth: Array
    """(U, 3) upper teeth of the neutral face."""
    lower_teeth: Array
    """(L, 3) lower teeth of the neutral face."""


def wrap_head(head: HeadModel, model: IctModel) -> Wrap:
    """Wrap the open head around ICT-FaceKit's neutral face.

    Args:
        head: The open head, with landmarks.
        model: ICT-FaceKit.

    Raises:
        ValueError: The head has too few of the landmarks.
    """
    template, triangles = head.template.numpy().astype(np.float64), head.triangles.numpy()
    eye = np.select([head.region(f"{side}_eye").numpy() > 0.5 for side in ("left", "right")], [1, 2], 0)
    lips = head.region("lips").numpy() > 0.3
    inner = inner_vertices(head) & (eye == 0)
    lips &= ~inner
    from ffavatar_model.head.interface import JAW

    jaw = head.skinning_weights.numpy()[:, JAW].astype(np.float64)
    lower = jaw > 0.5
    groups = [(~inner & ~lips & (eye == 0), _skin_triangles(model, None))]
    groups += [(lips & (lower == side), _skin_triangles(model, side)) for side in (False, True)]
    position = _bend(head, template, model)
    laplacian = _laplacian(triangles, len(template))
    for stiffness in STIFFNESS:
        target, counts = position.copy(), np.zeros(len(position))
        normals = vertex_normals(position, triangles)
        for mask, surface in groups:
            place = _nearest(position[mask], model.neutral, surface)[0]
            target[mask] = place
            theirs = _normals_at(position[mask], model.neutral, surface)
            near = np.linalg.norm(place - position[mask], axis=1) < REACH
            counts[mask] = near & ((theirs * normals[mask]).sum(1) > FACING)
        system = splu(sparse.csc_matrix(sparse.diags(counts + 1e-6) + stiffness * laplacian))
        position = position + system.solve(counts[:, None] * (target - position))
    corners, weights = np.zeros((len(position), 3), np.int64), np.zeros((len(position), 3))
    everything = np.concatenate([_triangles_between(model.triangles, INNER_SHELLS), _skin_triangles(model, None)])
    for mask, surface in [*groups, (inner, everything)]:
        place, triangle, barycentric = _nearest(position[mask], model.neutral, surface)
        corners[mask], weights[mask] = surface[triangle], barycentric
    for side, sclera in enumerate(SCLERAS):
        ball = eye == side + 1
        centre, radius = fit_sphere(model.neutral[sclera])
        own, size = fit_sphere(template[ball])
        position[ball] = (template[ball] - own) * radius / size + centre
    inner &= template[:, 1] < MOUTH_TOP
    deep = np.where(inner, cKDTree(template[~inner]).query(template)[0] / DEEP, 0).clip(0, 1)
    teeth = [model.neutral[part].astype(np.float64) for part in (UPPER_TEETH, LOWER_TEETH)]
    return Wrap(position, corners, weights, eye.astype(np.uint8), deep, jaw, *teeth)


def carried(wrap: Wrap, offsets: NDArray[np.floating], eyes_turn: bool = False) -> NDArray[np.float32]:
    """Return the offsets (V, 3) of the open head's vertices for offsets (N, 3) of ICT-FaceKit's.

    Args:
        wrap: Places of the vertices.
        offsets: Offsets of an identity mode or an expression.
        eyes_turn: Leave the eyeballs where they are: an expression turns them, which a pose's gaze does.
    """
    moved = np.einsum("vk,vkc->vc", wrap.weights, offsets[wrap.corners])
    up, down = (
        _rigid_offsets(teeth, offsets[part], wrap.position)
        for teeth, part in ((wrap.upper_teeth, UPPER_TEETH), (wrap.lower_teeth, LOWER_TEETH))
    )
    inside = wrap.jaw[:, None] * down + (1 - wrap.jaw[:, None]) * up
    moved += wrap.deep[:, None] * (inside - moved)
    for side, sclera in enumerate(SCLERAS):
        moved[wrap.eye == side + 1] = 0.0 if eyes_turn else offsets[sclera].mean(0)
    return moved.astype(np.float32)


def _rigid_offsets(rest: Array, offsets: NDArray[np.floating], points: Array) -> Array:
    """Return the offsets (V, 3) of points that move rigidly as teeth (N, 3) with offsets (N, 3) do."""
    rotation, shift = rigid_motion(rest.astype(np.float32), (rest + offsets).astype(np.float32))
    return np.asarray(points @ rotation.T + shift - points, np.float64)


def vertex_normals(vertices: Array, triangles: NDArray[np.int64]) -> Array:
    """Return unit normals (V, 3)."""
    a, b, c = vertices[triangles.T]
    faces = np.cross(b - a, c - a)
    rows = triangles.reshape(-1)
    total = np.stack([np.bincount(rows, faces[:, k].repeat(3), len(vertices)) for k in range(3)], 1)
    return total / np.linalg.norm(total, axis=1, keepdims=True).clip(1e-12)


def _bend(head: HeadModel, template: Array, model: IctModel) -> Array:
    """Return the vertices (V, 3) bent by the landmarks of both surfaces, and by the skull's extent."""
    known = {int(point): row for row, point in enumerate(head.landmark_index.tolist())}
    pairs = [(known[point], LANDMARKS_68[mark]) for mark, point in MESH_OF_68.items() if point in known]
    if len(pairs) < 30:
        raise ValueError(f"head model {head.name!r} has {len(pairs)} of the landmarks that fit ICT-FaceKit; 30 needed")
    corners = template[head.triangles.numpy()[head.landmark_triangles.numpy()]]
    points = np.einsum("lk,lkc->lc", head.landmark_barycentric.numpy(), corners)
    own = points[[row for row, _ in pairs]]
    theirs = model.neutral[[vertex for _, vertex in pairs]].astype(np.float64)
    skull = template[:, 2] < -0.03
    skin = model.neutral[SKIN].astype(np.float64)
    for axis, end in ((1, "max"), (2, "min")):
        mine, other = template[skull | (axis == 1)], skin[(skin[:, 1] > -0.02)]
        row = getattr(np, f"arg{end}")
        own = np.append(own, mine[[row(mine[:, axis])]], 0)
        theirs = np.append(theirs, other[[row(other[:, axis])]], 0)
    bend = RBFInterpolator(own, theirs - own, kernel="thin_plate_spline", degree=1, smoothing=ROUGH)
    return template + bend(template)


def inner_vertices(head: HeadModel) -> NDArray[np.bool_]:
    """Return a mask (V,) of the vertices that are not in the largest chart of texture coordinates, the outer skin."""
    corners, triangles = head.uv_triangles.numpy(), head.triangles.numpy()
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]]])
    graph = sparse.csr_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(head.uvs),) * 2)
    chart = connected_components(graph, directed=False)[1][corners[:, 0]]
    outer = triangles[chart == np.bincount(chart).argmax()]
    return ~np.isin(np.arange(len(head.template)), outer)


def _skin_triangles(model: IctModel, lower: bool | None) -> NDArray[np.int64]:
    """Return triangles (T, 3) of the skin; ``lower`` leaves only those that the jaw moves, or does not move."""
    triangles = model.triangles[(model.triangles < SKIN.stop).all(1)]
    if lower is None:
        return triangles
    fall = np.linalg.norm(model.expressions["jawOpen"], axis=1)
    return triangles[(fall[triangles].mean(1) > LOWER_FALLS * fall.max()) == lower]


def _triangles_between(triangles: NDArray[np.int64], ranges: tuple[tuple[int, int], ...]) -> NDArray[np.int64]:
    inside = [((triangles >= low) & (triangles < high)).all(1) for low, high in ranges]
    return triangles[np.any(inside, axis=0)]


def _nearest(
    points: Array, vertices: NDArray[np.floating], triangles: NDArray[np.int64]
) -> tuple[Array, NDArray[np.int64], Array]:
    """Return the nearest places (P, 3), their triangles (P,) and barycentric coordinates (P, 3)."""
    triangle, weights = nearest_on_mesh(points, vertices, triangles)
    corners = vertices[triangles[triangle]].astype(np.float64)
    return np.einsum("pk,pkc->pc", weights, corners), triangle, weights.astype(np.float64)


def _normals_at(points: Array, vertices: NDArray[np.floating], triangles: NDArray[np.int64]) -> Array:
    """Return the normals (P, 3) of a surface at the places nearest to points."""
    triangle, _ = nearest_on_mesh(points, vertices, triangles)
    a, b, c = vertices[triangles[triangle]].transpose(1, 0, 2).astype(np.float64)
    normal = np.cross(b - a, c - a)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)


def _laplacian(triangles: NDArray[np.int64], n: int) -> sparse.csr_array:
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    rows, columns = np.concatenate([edges, edges[:, ::-1]]).T
    graph = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))
    graph.data[:] = 1.0
    return sparse.csr_array(sparse.diags(graph.sum(1)) - graph)
