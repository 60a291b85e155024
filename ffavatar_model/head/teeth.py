"""Teeth for a head that has none: two rows behind the lips, the upper one still, the lower one on the jaw.

FLAME has no mouth's inside: between open lips an avatar can only stretch the lips' own Gaussians. LAM and
GaussianAvatars add teeth to the mesh for that reason. These are made from the inner lips' landmarks and need no file.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ffavatar_model.head.interface import JAW, NECK, HeadModel
from ffavatar_model.head.landmarks import landmark_points

UPPER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
"""Face-mesh points of the inner lips, from the head's right corner of the mouth to its left one."""
COLUMNS, ROWS = 15, 3
FEWEST = 7
"""Landmarks that each inner lip has to have."""

WIDTH, BACK, ARCH = 0.85, 0.1, 0.22
"""Of the mouth's width: how wide a row is, how far behind the lips its middle lies, and how much farther its ends."""
UPPER, LOWER = (0.14, -0.07), (-0.08, -0.2)
"""Upper and lower end of each row above the line between the lips, of the mouth's width."""
UV_SPAN = 0.01
"""Teeth lie in the texture's lower left corner, in a square of this side."""


def with_teeth(head: HeadModel) -> HeadModel:
    """The head with ``2 · COLUMNS · ROWS`` vertices more and a region ``teeth``, under another name.

    The shape of the mouth moves the teeth as it moves the lips before them; expressions do not, the jaw moves the lower
    row (a head whose jaw does not rotate has it still).

    Raises:
        ValueError: the head has teeth already, or too few landmarks on the lips.
    """
    if "teeth" in head.region_names:
        raise ValueError(f"head model {head.name!r} has teeth already")
    n = head.n_vertices
    rows = [_places(head, points) for points in (UPPER_LIP, LOWER_LIP)]
    corners = head.triangles[head.landmark_triangles]
    of_landmarks = (head.shape_directions[corners] * head.landmark_barycentric[..., None, None]).sum(1)  # (L, 3, S)
    lips = landmark_points(head, head.template[None])[0]
    ends = torch.stack([weights @ lips for weights in rows])  # (2, COLUMNS, 3)
    middle = ends[:, COLUMNS // 2].mean(0)
    width = (ends[0, -1] - ends[0, 0]).norm()
    across = torch.linspace(-1, 1, COLUMNS)
    made: list[dict[str, Tensor]] = []
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
        directions = torch.einsum("cl,lds->cds", weights, of_landmarks)
        skinning = torch.zeros(ROWS * COLUMNS, head.skinning_weights.shape[1])
        skinning[:, joint] = 1
        made.append(
            {
                "template": template.flatten(0, 1),
                "shape_directions": directions[None].expand(ROWS, -1, -1, -1).flatten(0, 1),
                "skinning_weights": skinning,
            }
        )
    extra = {name: torch.cat([row[name] for row in made]) for name in made[0]}
    m = 2 * ROWS * COLUMNS
    grid = _grid()
    triangles = torch.cat((grid, grid + ROWS * COLUMNS))
    uvs, uv_triangles = head.uvs, head.uv_triangles
    if len(uvs):
        uv_triangles = torch.cat((uv_triangles, triangles + len(uvs)))
        places = torch.cartesian_prod(torch.linspace(1, 0, 2 * ROWS), torch.linspace(0, 1, COLUMNS)).flip(-1)
        uvs = torch.cat((uvs, places * UV_SPAN))
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


def _places(head: HeadModel, points: tuple[int, ...]) -> Tensor:
    """(COLUMNS, L) weights that take values at the landmarks to values at even steps along an inner lip."""
    row_of = {int(point): row for row, point in enumerate(head.landmark_index.tolist())}
    there = [row_of[point] for point in points if point in row_of]
    if len(there) < FEWEST:
        raise ValueError(
            f"head model {head.name!r}: {len(there)} of {len(points)} inner-lip landmarks, {FEWEST} are needed; find "
            "its landmarks first (any command that takes --head does)"
        )
    position = torch.linspace(0, len(there) - 1, COLUMNS)
    left = position.floor().long().clamp_max(len(there) - 2)
    weights = torch.zeros(COLUMNS, head.n_landmarks)
    column = torch.arange(COLUMNS)
    index = torch.tensor(there)
    weights[column, index[left]] = 1 - (position - left)
    weights[column, index[left + 1]] += position - left
    return weights


def _grid() -> Tensor:
    """(F, 3) triangles of one row of teeth, facing forward."""
    r, c = torch.meshgrid(torch.arange(ROWS - 1), torch.arange(COLUMNS - 1), indexing="ij")
    a = (r * COLUMNS + c).flatten()
    below, right = a + COLUMNS, a + 1
    return torch.cat((torch.stack((a, below, below + 1), 1), torch.stack((a, below + 1, right), 1)))
