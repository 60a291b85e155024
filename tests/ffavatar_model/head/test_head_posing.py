"""Posing and skinning against a plain float64 numpy reference, finite differences and hand-made cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ffavatar_model.head import (
    PARENTS,
    HeadModel,
    axis_angle_to_matrix,
    axis_angle_to_quaternion,
    landmark_points,
    load_head,
    pose_head,
    pose_head_numpy,
    save_head,
    subdivide,
)
from ffavatar_model.head.skinning import apply_transforms, blend_quaternions, blend_transforms


def tiny_head(correctives: bool = True, seed: int = 0) -> HeadModel:
    """A random head-shaped model: a closed octahedron subdivided once, 4 shape and 6 expression directions."""
    g = np.random.default_rng(seed)
    corners = torch.tensor([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=torch.float32)
    faces = torch.tensor([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])

    def random(*shape: int, scale: float = 0.01) -> torch.Tensor:
        return torch.from_numpy(g.normal(scale=scale, size=shape).astype(np.float32))

    v = len(corners)
    regressor, weights = random(5, v, scale=1).softmax(1), random(v, 5, scale=2).softmax(1)
    return HeadModel(
        name="tiny",
        template=corners * 0.1,
        shape_directions=random(v, 3, 4),
        expression_directions=random(v, 3, 6),
        pose_correctives=random(v, 3, 36 if correctives else 0),
        joint_regressor=regressor,
        skinning_weights=weights,
        triangles=faces,
        uvs=random(v, 2),
        uv_triangles=faces,
        landmark_index=torch.tensor([5, 400]),
        landmark_triangles=torch.tensor([1, 6]),
        landmark_barycentric=torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]),
        regions=random(v, 1, scale=1).sigmoid(),
        region_names=("lips",),
        action_names=("jawOpen",),
        action_expression=random(1, 6),
        action_rotations=random(1, 5, 3),
    )


def reference(head: HeadModel, shape: np.ndarray, expression: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """The same in float64, one head, one vertex and one joint at a time, 4 x 4 matrices, a matrix exponential."""
    from scipy.linalg import expm

    def f64(t: torch.Tensor) -> np.ndarray:
        return t.numpy().astype(np.float64)

    def cross(r: np.ndarray) -> np.ndarray:
        return np.array([[0, -r[2], r[1]], [r[2], 0, -r[0]], [-r[1], r[0], 0]])

    shaped = f64(head.template) + f64(head.shape_directions) @ shape
    joints = f64(head.joint_regressor) @ shaped
    matrices = [expm(cross(r)) for r in rotations]
    rest = shaped + f64(head.expression_directions) @ expression
    if head.pose_correctives.shape[-1]:
        rest = rest + f64(head.pose_correctives) @ np.concatenate([(m - np.eye(3)).ravel() for m in matrices[1:]])
    world: list[np.ndarray] = []
    for j, parent in enumerate(PARENTS):
        local = np.eye(4)
        local[:3, :3] = matrices[j]
        local[:3, 3] = joints[j] - (joints[parent] if parent >= 0 else 0)
        world.append(local if parent < 0 else world[parent] @ local)
    out = np.zeros_like(rest)
    for i, p in enumerate(rest):
        for j in range(5):
            back = np.eye(4)
            back[:3, 3] = -joints[j]
            out[i] += float(head.skinning_weights[i, j]) * (world[j] @ back @ np.append(p, 1))[:3]
    return out


@pytest.mark.parametrize("correctives", [True, False])
def test_posing_equals_the_float64_reference(correctives):
    head, g = tiny_head(correctives), np.random.default_rng(1)
    shape, expression, rotations = g.normal(size=(3, 4)), g.normal(size=(3, 6)), g.normal(scale=0.7, size=(3, 5, 3))
    rotations[0] = 0
    vertices, _ = pose_head_numpy(head, shape, expression, rotations)
    for b in range(3):
        np.testing.assert_allclose(vertices[b], reference(head, shape[b], expression[b], rotations[b]), atol=2e-7)


def test_points_bound_to_the_surface_follow_it():
    head = tiny_head()
    parameters = torch.randn(2, 4), torch.randn(2, 6), 0.5 * torch.randn(2, 5, 3), torch.randn(2, 3)
    posed = pose_head(head, *parameters)
    again = apply_transforms(blend_transforms(head.skinning_weights, posed.joint_transforms), posed.rest)
    torch.testing.assert_close(again, posed.vertices)
    rigid = replace(head, skinning_weights=torch.nn.functional.one_hot(torch.full((6,), 2), 5).float())
    posed = pose_head(rigid, *parameters)
    quaternion = blend_quaternions(rigid.skinning_weights, posed.joint_quaternions)
    torch.testing.assert_close(quaternion_matrix(quaternion), posed.transforms[..., :3], atol=1e-5, rtol=0)


def quaternion_matrix(q: torch.Tensor) -> torch.Tensor:
    w, x, y, z = q.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


@pytest.mark.parametrize("scale", [0.0, 1e-5, 9e-4, 1.1e-3, 1.0, 3.1])
def test_rotations_and_their_gradients_near_and_far_from_zero(scale):
    vector = (torch.tensor([[0.6, -0.64, 0.48]], dtype=torch.float64) * scale).requires_grad_()
    assert torch.autograd.gradcheck(axis_angle_to_matrix, (vector,), eps=1e-7, atol=1e-5)
    assert torch.autograd.gradcheck(axis_angle_to_quaternion, (vector,), eps=1e-7, atol=1e-5)
    torch.testing.assert_close(axis_angle_to_matrix(vector), quaternion_matrix(axis_angle_to_quaternion(vector)))


def test_gradients_of_posing_equal_finite_differences():
    head = tiny_head()
    head64 = replace(head, **{k: v.double() for k, v in head.tensors().items() if v.is_floating_point()})
    inputs = [torch.randn(1, *s, dtype=torch.float64).mul(0.4).requires_grad_() for s in ((4,), (6,), (5, 3), (3,))]
    assert torch.autograd.gradcheck(lambda *p: pose_head(head64, *p).vertices, inputs, eps=1e-6, atol=1e-6)


def test_fewer_coefficients_mean_zeros_and_more_are_refused():
    head = tiny_head()
    rotations = torch.zeros(1, 5, 3)
    short = pose_head(head, torch.ones(1, 2), torch.zeros(1, 0), rotations).vertices
    padded = pose_head(head, torch.tensor([[1.0, 1, 0, 0]]), torch.zeros(1, 6), rotations).vertices
    torch.testing.assert_close(short, padded)
    with pytest.raises(ValueError, match="7 coefficients given, the head model has 6"):
        pose_head(head, torch.zeros(1, 4), torch.zeros(1, 7), rotations)
    with pytest.raises(ValueError, match=r"rotations have shape \(1, 15\)"):
        pose_head(head, torch.zeros(1, 4), torch.zeros(1, 6), torch.zeros(1, 15))


def test_subdividing_keeps_the_surface_the_joints_and_the_landmarks():
    head = tiny_head()
    fine = subdivide(head)
    assert fine.n_vertices == 6 + 12 and len(fine.triangles) == 32
    assert len({tuple(sorted(t)) for t in fine.triangles.tolist()}) == 32
    parameters = torch.randn(2, 4), torch.randn(2, 6), 0.3 * torch.randn(2, 5, 3)
    coarse_posed, fine_posed = pose_head(head, *parameters), pose_head(fine, *parameters)
    torch.testing.assert_close(fine_posed.vertices[:, :6], coarse_posed.vertices)
    torch.testing.assert_close(fine_posed.joints, coarse_posed.joints)
    torch.testing.assert_close(
        landmark_points(fine, fine.template[None]), landmark_points(head, head.template[None]), atol=1e-6, rtol=0
    )


def test_a_head_survives_its_file_and_the_bytes_are_the_same_each_time(tmp_path):
    head = tiny_head()
    save_head(head, tmp_path / "a.safetensors")
    save_head(tiny_head(), tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    loaded = load_head(tmp_path / "a.safetensors")
    assert loaded.digest == head.digest and loaded.action_names == ("jawOpen",) and loaded.region_names == ("lips",)
    moved = replace(head, template=head.template + 1e-6)
    unmarked = replace(head, **{n: t[:0] for n, t in head.tensors().items() if n.startswith("landmark_")})
    assert moved.digest != head.digest and unmarked.digest == head.digest


def test_bad_head_files_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such head model file"):
        load_head(tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    save_head(tiny_head(), broken)
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"broken\.safetensors: not a readable"):
        load_head(broken)
    with pytest.raises(ValueError, match="triangles points outside 0 to 5"):
        replace(tiny_head(), triangles=torch.tensor([[0, 1, 6]] * 8))
    with pytest.raises(ValueError, match=r"skinning_weights has shape \(5, 5\)"):
        replace(tiny_head(), skinning_weights=torch.ones(5, 5))
