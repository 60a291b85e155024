"""Gaussians follow the head: means and rotations against finite differences, and what subdivision binds them to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ffavatar_model.head import HeadModel, axis_angle_to_matrix, pose_head, subdivide
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.networks.rig import Rig, local_rotations, unique_edges
from ffavatar_model.renderers.projection import rotation_matrices

JAW = 2


def with_correctives(head: HeadModel) -> HeadModel:
    g = torch.Generator().manual_seed(3)
    return replace(head, pose_correctives=0.002 * torch.randn(head.n_vertices, 3, 36, generator=g))


def identity_avatar(n: int) -> CanonicalAvatar:
    """Gaussians on the points themselves, unturned."""
    turn = torch.tensor([1.0, 0, 0, 0]).expand(1, n, 4)
    return CanonicalAvatar(torch.zeros(1, n, 3), turn, torch.ones(1, n, 3), torch.ones(1, n), torch.ones(1, n, 3))


def parameters(expression: Tensor, rotations: Tensor) -> DrivingParameters:
    return DrivingParameters(expression[None, None], rotations[None, None], torch.zeros(1, 1, 9).to(expression))


def some(scale: float = 0.3) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    rotations = scale * torch.randn(5, 3, generator=g)
    rotations[0] = 0
    return torch.randn(2, generator=g), rotations


def test_means_are_the_posed_head_where_nothing_is_offset(head: HeadModel):
    for level, model in enumerate((with_correctives(head), subdivide(with_correctives(head)))):
        rig, (expression, rotations) = Rig(model, 2), some()
        means, _ = rig.pose(identity_avatar(model.n_vertices), parameters(expression, rotations))
        posed = pose_head(model, torch.zeros(1, 0), expression[None], rotations[None])
        torch.testing.assert_close(means[0, 0], posed.vertices[0], atol=2e-6, rtol=1e-5, msg=f"level {level}")


def test_gradients_of_means_and_rotations_equal_finite_differences(head: HeadModel):
    small = with_correctives(head)
    rig = Rig(small, 2).double()
    n, (expression, rotations) = small.n_vertices, some()
    g = torch.Generator().manual_seed(2)
    offsets = (0.01 * torch.randn(1, n, 3, generator=g)).double().requires_grad_()
    turns = torch.nn.functional.normalize(torch.randn(1, n, 4, generator=g), dim=-1).double().requires_grad_()
    inputs = expression.double().requires_grad_(), rotations.double().requires_grad_(), offsets, turns
    probe = [torch.randn(1, 1, n, k, generator=g).double() for k in (3, 4)]

    def seen(expression: Tensor, rotations: Tensor, offsets: Tensor, turns: Tensor) -> Tensor:
        avatar = CanonicalAvatar(offsets, turns, offsets, offsets[..., 0], offsets)
        posed = rig.pose(avatar, parameters(expression, rotations))
        return torch.stack([(p * value).sum() for p, value in zip(probe, posed, strict=True)])

    assert torch.autograd.gradcheck(seen, inputs, eps=1e-6, atol=1e-5, fast_mode=True)
    jacobian = torch.autograd.functional.jacobian(lambda e, r: seen(e, r, offsets, turns), inputs[:2])
    for k, value in enumerate(inputs[:2]):
        for at in range(value.numel()):
            step = torch.zeros_like(value).flatten()
            step[at] = 1e-6
            ahead, behind = (
                [v + sign * step.view_as(v) if i == k else v for i, v in enumerate(inputs[:2])] for sign in (1, -1)
            )
            difference = (seen(*ahead, offsets, turns) - seen(*behind, offsets, turns)) / 2e-6
            torch.testing.assert_close(jacobian[k].flatten(1)[:, at], difference, atol=1e-5, rtol=1e-5)


def test_where_one_joint_holds_a_gaussian_it_turns_as_that_joint(head: HeadModel):
    bound = torch.nn.functional.one_hot(torch.full((head.n_vertices,), JAW), 5).float()
    rig, (_, rotations) = Rig(replace(head, skinning_weights=bound), 2), some()
    g = torch.Generator().manual_seed(4)
    avatar = identity_avatar(head.n_vertices)
    avatar = avatar._replace(rotations=torch.nn.functional.normalize(torch.randn(1, head.n_vertices, 4, generator=g)))
    _, turned = rig.pose(avatar, parameters(torch.zeros(2), rotations))
    neck, jaw = axis_angle_to_matrix(rotations[1:3])
    expected = neck @ jaw @ rotation_matrices(avatar.rotations[0])
    torch.testing.assert_close(rotation_matrices(turned[0, 0]), expected, atol=1e-5, rtol=0)


def surface_turn(before: Tensor, after: Tensor, edges: Tensor, point: int) -> Tensor:
    """(3, 3) the rotation that best takes the edges at a point to what became of them (Kabsch)."""
    both = torch.cat((edges, edges.flip(1)))
    near = both[both[:, 0] == point, 1]
    left, _, right = torch.linalg.svd((before[near] - before[point]).T @ (after[near] - after[point]))
    flip = torch.diag(torch.tensor([1.0, 1.0, float(torch.det(right.T @ left.T).sign())]).to(before))
    return right.T @ flip @ left.T


def angle(a: Tensor, b: Tensor) -> float:
    """Radians between two rotations."""
    return float(((torch.trace(a.T @ b) - 1) / 2).clamp(-1, 1).acos())


def test_under_expression_a_gaussian_turns_as_its_surroundings_do(head: HeadModel):
    """Finite differences of the surface itself; first order, so the error falls with the square of the coefficient."""
    rig, edges = Rig(head, 2), unique_edges(head.triangles)
    avatar = identity_avatar(head.n_vertices)
    moving = head.expression_directions[:, :, 0].norm(dim=1).topk(25).indices
    worst = {}
    for size in (0.1, 0.4):
        expression = torch.tensor([size, 0.0])
        means, turned = rig.pose(avatar, parameters(expression, torch.zeros(5, 3)))
        found = rotation_matrices(turned[0, 0].double())
        truth = [surface_turn(head.template.double(), means[0, 0].double(), edges, int(p)) for p in moving]
        angles = [angle(truth[i], torch.eye(3).double()) for i in range(len(moving))]
        errors = [angle(truth[i], found[p]) for i, p in enumerate(moving)]
        assert max(angles) > 0.1 * size, "the surface does turn"
        worst[size] = max(errors)
        assert worst[size] < 0.35 * max(angles), (worst[size], max(angles))
    assert worst[0.1] < 0.25 * worst[0.4] * 1.6, worst


def test_a_turn_of_the_whole_surface_is_found_but_for_the_damping(head: HeadModel):
    axis = torch.tensor([0.3, -0.5, 0.2])
    field = torch.linalg.cross(axis.expand_as(head.template), head.template)[..., None]
    found = local_rotations(head.template, unique_edges(head.triangles), field)[..., 0]
    torch.testing.assert_close(found, axis.expand_as(found), atol=1e-3, rtol=0)


@pytest.mark.parametrize("levels", [1, 2])
def test_a_new_point_of_a_subdivided_head_is_bound_to_what_its_edge_is_bound_to(head: HeadModel, levels: int):
    coarse = with_correctives(head)
    for _ in range(levels - 1):
        coarse = subdivide(coarse)
    fine, n = subdivide(coarse), coarse.n_vertices
    edges = unique_edges(coarse.triangles)
    assert fine.n_vertices == n + len(edges)
    torch.testing.assert_close(fine.skinning_weights.sum(1), torch.ones(fine.n_vertices), atol=1e-5, rtol=0)
    torch.testing.assert_close(fine.skinning_weights[n:], coarse.skinning_weights[edges].mean(1))
    expression, rotations = some()
    means, turned = Rig(fine, 2).pose(identity_avatar(fine.n_vertices), parameters(expression, rotations))
    plain, plain_turned = Rig(coarse, 2).pose(identity_avatar(n), parameters(expression, rotations))
    torch.testing.assert_close(means[0, 0, :n], plain[0, 0], atol=2e-6, rtol=1e-5)
    # Skinning is linear in the weights: where both ends hang on the joints alike, the new point is their middle.
    alike = (coarse.skinning_weights[edges[:, 0]] - coarse.skinning_weights[edges[:, 1]]).abs().sum(1) < 1e-4
    assert alike.sum() > 20
    torch.testing.assert_close(means[0, 0, n:][alike], plain[0, 0][edges[alike]].mean(1), atol=2e-5, rtol=1e-4)
    between = (turned[0, 0, n:] * plain_turned[0, 0][edges].mean(1)).sum(-1).abs()
    assert between.quantile(0.1) > 0.99, "its rotation lies between theirs"
