"""Teeth for a head that has none: two rows behind the lips. The upper row is fixed, and the lower row follows the jaw.

FLAME does not model the inside of the mouth, so an avatar with open lips has no Gaussians between them. LAM and
GaussianAvatars add teeth to the mesh for that reason. The teeth here are built from the landmarks of the inner lips and
need no file.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ffavatar_model.head.face_parts import landmark_rows
from ffavatar_model.head.interface import JAW, NECK, HeadModel
from ffavatar_model.head.landmarks import landmark_points

UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
"""Face-mesh points of the inner lower lip, like ``UPPER_LIP`` from the head's right mouth corner to its left one."""
COLUMNS, ROWS = 15, 3
MIN_LANDMARKS = 7
"""Smallest number of landmarks required on each inner lip."""

WIDTH, BACK, ARCH = 0.85, 0.1, 0.22
"""Width of a row, distance of its middle behind the lips, and additional distance of its ends, in mouth widths."""
UPPER, LOWER = (0.14, -0.07), (-0.08, -0.2)
"""Heights of the top and bottom of each row, measured upwards from the line between the lips, in mouth widths."""
UV_SPAN = 0.01
"""Side of the square in the texture's lower left corner that the teeth use, in texture coordinates."""


def with_teeth(head: HeadModel) -> HeadModel:
    """Return a copy of the head with teeth: ``2 · COLUMNS · ROWS`` more vertices, in a region ``teeth``.

    ``+teeth`` is appended to the head's name. Shape coefficients move the teeth together with the lips in front of
    them; expression coefficients do not move the teeth. The jaw rotates the lower row, if the head's jaw rotates.

    Raises:
        ValueError: The head has teeth already, or too few landmarks on the lips.
    """
    if "teeth" in head.region_names:
        raise ValueError(f"head model {head.name!r} has teeth already")
    n = head.n_vertices
    rows = [_lip_weights(head, points) for points in (UPPER_LIP, LOWER_LIP)]
    corners = head.triangles[head.landmark_triangles]
    barycentric = head.landmark_barycentric[..., None, None]
    landmark_directions = (head.shape_directions[corners] * barycentric).sum(1)  # (L, 3, S)
    lips = landmark_points(head, head.template[None])[0]
    ends = torch.stack([weights @ lips for weights in rows])  # (2, COLUMNS, 3)
    middle = ends[:, COLUMNS // 2].mean(0)
    width = (ends[0, -1] - ends[0, 0]).norm()
    across = torch.linspace(-1, 1, COLUMNS)
    new_rows: list[dict[str, Tensor]] = []
    rotates = bool(head.skinning_weights[:, JAW].any())
    for weights, (top, bottom), joint in zip(rows, (UPPER, LOWER), (NECK, JAW if rotates else NECK), strict=True):
        height = torch.linspace(top, bottom, ROWS)[:, None].expand(ROWS, COLUMNS)
        template = torch.stack(
            (
                (middle[0] + 0.5 * width * WIDTH * across).expand(ROWS, COLUMNS),
                middle[1] + width * height,
                (middle[2] - width * (BACK + ARCH * across.square())).expand(ROWS, COLUMNS),
            ),
            -1,
        )
        directions = torch.einsum("cl,lds->cds", weights, landmark_directions)
        skinning = torch.zeros(ROWS * COLUMNS, head.skinning_weights.shape[1])
        skinning[:, joint] = 1
        new_rows.append(
            {
                "template": template.flatten(0, 1),
                "shape_directions": directions[None].expand(ROWS, -1, -1, -1).flatten(0, 1),
                "skinning_weights": skinning,
            }
        )
    extra = {name: torch.cat([row[name] for row in new_rows]) for name in new_rows[0]}
    m = 2 * ROWS * COLUMNS
    grid = _grid()
    triangles = torch.cat((grid, grid + ROWS * COLUMNS))
    uvs, uv_triangles = head.uvs, head.uv_triangles
    if len(uvs):
        uv_triangles = torch.cat((uv_triangles, triangles + len(uvs)))
        grid_uvs = torch.cartesian_prod(torch.linspace(1, 0, 2 * ROWS), torch.linspace(0, 1, COLUMNS)).flip(-1)
        uvs = torch.cat((uvs, grid_uvs * UV_SPAN))
    regions = torch.cat((head.regions, torch.zeros(m, head.regions.shape[1])))
    return replace(
        head,
        name=f"{head.name}+teeth",
        template=torch.cat((head.template, extra["template"])),
        shape_directions=torch.cat((head.shape_directions, extra["shape_directions"])),
        expression_directions=torch.cat((head.expression_directions, torch.zeros(m, 3, head.n_expression))),
        pose_correctives=torch.cat((head.pose_correctives, torch.zeros(m, 3, head.pose_correctives.shape[-1]))),
        joint_regressor=torch.cat((head.joint_regressor, torch.zeros(len(head.joint_regressor), m)), 1),
        skinning_weights=torch.cat((head.skinning_weights, extra["skinning_weights"])),
        triangles=torch.cat((head.triangles, triangles + n)),
        uvs=uvs,
        uv_triangles=uv_triangles,
        regions=torch.cat((regions, (torch.arange(n + m) >= n).float()[:, None]), 1),
        region_names=(*head.region_names, "teeth"),
    )


def _lip_weights(head: HeadModel, points: tuple[int, ...]) -> Tensor:
    """Return weights (COLUMNS, L) that interpolate landmark values at equally spaced positions along an inner lip."""
    index = landmark_rows(points, head.landmark_index)
    if len(index) < MIN_LANDMARKS:
        raise ValueError(
            f"head model {head.name!r}: {len(index)} of {len(points)} inner-lip landmarks, {MIN_LANDMARKS} are needed; "
            "find its landmarks first (any command that takes --head does)"
        )
    position = torch.linspace(0, len(index) - 1, COLUMNS)
    left = position.floor().long().clamp_max(len(index) - 2)
    weights = torch.zeros(COLUMNS, head.n_landmarks)
    column = torch.arange(COLUMNS)
    weights[column, index[left]] = 1 - (position - left)
    weights[column, index[left + 1]] += position - left
    return weights


def _grid() -> Tensor:
    """Return the triangles (F, 3) of one row of teeth, facing forward."""
    r, c = torch.meshgrid(torch.arange(ROWS - 1), torch.arange(COLUMNS - 1), indexing="ij")
    a = (r * COLUMNS + c).flatten()
    below, right = a + COLUMNS, a + 1
    return torch.cat((torch.stack((a, below, below + 1), 1), torch.stack((a, below + 1, right), 1)))
