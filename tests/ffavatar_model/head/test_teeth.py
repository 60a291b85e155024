"""Teeth that are added to a head."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ffavatar_model.head import HeadModel, pose_head, subdivide, with_landmarks
from ffavatar_model.head.interface import JAW, NECK
from ffavatar_model.head.teeth import COLUMNS, LOWER_LIP, ROWS, UPPER_LIP, with_teeth

EACH = ROWS * COLUMNS


@pytest.fixture
def lipped(head: HeadModel) -> HeadModel:
    """The egg with inner lips: a line across its front, the corners of the mouth farther back."""
    points = dict.fromkeys((*UPPER_LIP, *LOWER_LIP))
    across = {p: i for curve in (UPPER_LIP, LOWER_LIP) for i, p in enumerate(curve)}
    centres = head.template[head.triangles].mean(1)
    front = centres[:, 2] > -0.05
    triangles = []
    for point in points:
        wanted = torch.tensor([(across[point] / 10 - 0.5) * 0.06, -0.07])
        miss = (centres[:, :2] - wanted).norm(dim=-1).masked_fill(~front, torch.inf)
        triangles.append(int(miss.argmin()))
    return with_landmarks(head, list(points), triangles, torch.full((len(triangles), 3), 1 / 3))


def test_teeth_lie_behind_the_lips_and_leave_the_rest_as_it_was(lipped: HeadModel):
    toothed, n = with_teeth(lipped), lipped.n_vertices
    assert toothed.n_vertices == n + 2 * EACH and toothed.name == f"{lipped.name}+teeth"
    assert toothed.digest != lipped.digest
    assert torch.equal(toothed.template[:n], lipped.template)
    teeth = toothed.template[n:]
    lips = lipped.template[lipped.triangles[lipped.landmark_triangles]].mean(1)
    assert teeth[:, 2].max() < lips[:, 2].max() and teeth[:, 0].abs().max() < lips[:, 0].abs().max()
    assert teeth[:EACH, 1].mean() > teeth[EACH:, 1].mean(), "the first row is the upper one"
    a, b, c = toothed.template[toothed.triangles[len(lipped.triangles) :]].unbind(1)
    assert (torch.linalg.cross(b - a, c - a)[:, 2] > 0).all(), "they face forward"
    assert torch.equal(toothed.region("teeth"), (torch.arange(n + 2 * EACH) >= n).float())
    assert subdivide(toothed).n_vertices > toothed.n_vertices


def test_the_jaw_moves_the_lower_row_alone_and_expressions_move_neither(lipped: HeadModel):
    toothed, n = with_teeth(lipped), lipped.n_vertices
    shape, expression = torch.zeros(1, toothed.n_shape), torch.ones(1, toothed.n_expression)
    rotations = torch.zeros(1, 5, 3)
    at_rest = pose_head(toothed, shape, expression * 0, rotations).vertices[0, n:]
    smiling = pose_head(toothed, shape, expression, rotations).vertices[0, n:]
    torch.testing.assert_close(smiling, at_rest)
    rotations[0, JAW, 0] = 0.4
    opened = pose_head(toothed, shape, expression * 0, rotations).vertices[0, n:]
    torch.testing.assert_close(opened[:EACH], at_rest[:EACH])
    assert (opened[EACH:] - at_rest[EACH:]).norm(dim=-1).min() > 0.003
    distances = [torch.cdist(rows.double(), rows.double()) for rows in (opened[EACH:], at_rest[EACH:])]
    torch.testing.assert_close(*distances, atol=1e-6, rtol=1e-4)


def test_shape_moves_teeth_with_the_lips(lipped: HeadModel):
    wider = lipped.shape_directions.clone()
    wider[..., 0] = 0.2 * lipped.template

    toothed, n = with_teeth(replace(lipped, shape_directions=wider)), lipped.n_vertices
    moved = toothed.shape_directions[n:, 0, 0]
    assert moved[COLUMNS - 1] > 0.003 and moved[0] < -0.003, "a wider mouth has wider rows"


def test_a_jaw_that_does_not_rotate_keeps_both_rows_still(lipped: HeadModel):

    weights = lipped.skinning_weights.clone()
    weights[:, NECK] += weights[:, JAW]
    weights[:, JAW] = 0
    toothed = with_teeth(replace(lipped, skinning_weights=weights))
    assert not toothed.skinning_weights[:, JAW].any()


def test_what_cannot_have_teeth_is_said(head: HeadModel, lipped: HeadModel):
    with pytest.raises(ValueError, match="inner-lip landmarks, 7 are needed"):
        with_teeth(head)
    with pytest.raises(ValueError, match="has teeth already"):
        with_teeth(with_teeth(lipped))
