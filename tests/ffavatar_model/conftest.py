"""A small head, small models, and a corpus of synthetic people, for the tests of the model."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace

import pyarrow as pa
import pytest
import torch
from PIL import Image
from scipy.spatial import ConvexHull
from torch import Tensor

from ffavatar_model.camera import aligned_pose, pose_to_camera, project_points, rotation_to_6d, virtual_intrinsics
from ffavatar_model.data.sampling import SamplingConfig
from ffavatar_model.head import HeadModel, axis_angle_to_matrix, landmark_points
from ffavatar_model.head.interface import LEFT_EYE, N_JOINTS, RIGHT_EYE
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.backbone import Backbone
from ffavatar_model.networks.encoder import ImageEncoder
from ffavatar_model.networks.estimator import Estimator
from ffavatar_model.networks.gaussians import GaussianHead
from ffavatar_model.networks.query_former import QueryFormer
from ffavatar_model.renderers import render_gaussians
from mfhq.schema import CAMERAS, FACES, IDENTITY_FACES, VIEWS

SIZE = 32


def make_head(n: int = 400) -> HeadModel:
    """An egg with eyes, jaw and neck: its lower front opens with expression 0, its sides widen with 1."""
    k = torch.arange(n) + 0.5
    polar, turn = torch.arccos(1 - 2 * k / n), torch.pi * (1 + 5**0.5) * k
    ball = torch.stack((polar.sin() * turn.cos(), polar.cos(), polar.sin() * turn.sin()), -1)
    template = ball * torch.tensor([0.075, 0.11, 0.09]) + torch.tensor([0.0, -0.02, -0.07])
    hull = torch.from_numpy(ConvexHull(ball.numpy()).simplices).long()
    a, b, c = ball[hull].unbind(1)
    inward = (torch.linalg.cross(b - a, c - a) * a).sum(-1) < 0
    hull[inward] = hull[inward].flip(1)
    front = (template[:, 2] > -0.05).float()
    mouth = torch.exp(-(((template[:, 1] + 0.08) / 0.03) ** 2)) * front
    directions = torch.zeros(n, 3, 2)
    directions[:, 1, 0], directions[:, 0, 1] = -0.01 * mouth, 0.1 * template[:, 0] * front
    eyes = torch.tensor([[0.032, 0.0, 0.0], [-0.032, 0.0, 0.0]])
    spine = torch.tensor([[0.0, -0.12, -0.08], [0.0, -0.1, -0.08], [0.0, -0.04, -0.06]])
    positions = torch.cat((spine, eyes))
    # Joints are affine combinations of all vertices: the smallest weights that give their positions.
    system = torch.cat((template.T, torch.ones(1, n)))
    regressor = torch.linalg.lstsq(system, torch.cat((positions.T, torch.ones(1, 5)))).solution.T
    weights = torch.zeros(n, 5)
    weights[:, 2] = 0.8 * mouth
    weights[:, 0] = (-(template[:, 1] + 0.1) / 0.02).sigmoid() * (1 - weights[:, 2])
    weights[:, 1] = 1 - weights[:, 0] - weights[:, 2]
    visible = torch.where(template[hull].mean(1)[:, 2] > -0.04)[0][:40]
    return HeadModel(
        name="egg",
        template=template,
        shape_directions=torch.zeros(n, 3, 1),
        expression_directions=directions,
        pose_correctives=torch.zeros(n, 3, 0),
        joint_regressor=regressor,
        skinning_weights=weights,
        triangles=hull,
        uvs=torch.zeros(0, 2),
        uv_triangles=torch.zeros(0, 3, dtype=torch.int64),
        landmark_index=torch.arange(len(visible)),
        landmark_triangles=visible,
        landmark_barycentric=torch.full((len(visible), 3), 1 / 3),
        regions=torch.zeros(n, 0),
        action_expression=torch.zeros(0, 2),
        action_rotations=torch.zeros(0, 5, 3),
    )


def make_config(**changes: object) -> FFAvatar.Config:
    """The real classes at the smallest sizes."""
    small = {"width": 32, "depth": 1, "heads": 2, "mlp_ratio": 2.0}
    settings: dict[str, object] = {
        "image_size": SIZE,
        "encoder": ImageEncoder.Config(backbone=Backbone.Config(image_size=SIZE, patch=8, **small), layers=(0, 1)),
        "query_former": QueryFormer.Config(octaves=4, **small),
        "gaussians": GaussianHead.Config(initial_opacity=0.7, initial_scale=0.6),
        "estimator": Estimator.Config(backbone=Backbone.Config(image_size=SIZE, patch=8, **small), n_expression=2),
    }
    return FFAvatar.Config(**{**settings, **changes})


@dataclass
class People:
    """A corpus in memory, with the tables of a snapshot."""

    identity_faces: pa.Table
    faces: pa.Table
    views: pa.Table
    cameras: pa.Table
    blob: bytes

    def read(self, uri: str, offset: int, length: int) -> bytes:
        """Bytes of the one packed file."""
        assert uri == "pack"
        return self.blob[offset : offset + length]


def make_people(head: HeadModel, n_people: int, n_faces: int, size: int = 48) -> People:
    """Eggs of different colours that turn and talk, rendered with our Gaussians; each image has both kinds of row."""
    random = torch.Generator().manual_seed(11)
    K = virtual_intrinsics(size)
    rows: dict[str, list[dict[str, object]]] = {"faces": [], "identity_faces": [], "views": [], "cameras": []}
    blob = bytearray()

    def pack(values: Tensor) -> dict[str, object]:
        pixels = (values.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
        reference = {"uri": "pack", "offset": len(blob), "length": buffer.tell()}
        blob.extend(buffer.getvalue())
        return reference

    start = aligned_pose(0.064)
    for p in range(n_people):
        person = hashlib.sha256(f"person {p}".encode()).hexdigest()[:16]
        skin, hair = 0.3 + 0.6 * torch.rand(3, generator=random), 0.6 * torch.rand(3, generator=random)
        colours = torch.where(head.template[:, 1:2] > 0.035, hair, skin)
        colours = torch.where(head.template[:, 1:2].abs() < 0.012, 1 - skin, colours)
        camera_row = {"capture_id": person, "camera_id": "0", "K": K.flatten().tolist(), "distortion": []}
        world = torch.eye(3, 4).flatten().tolist()
        rows["cameras"].append({**camera_row, "world_to_camera": world, "width": size, "height": size})
        for f in range(n_faces):
            expression = (2 * torch.rand(2, generator=random) - 0.5) * min(f, 1)  # the first face is at rest
            vertices = head.template + (head.expression_directions * expression).sum(-1)
            turn = axis_angle_to_matrix(0.7 * (torch.rand(3, generator=random) - 0.5) * torch.tensor([0.5, 1, 0.3]))
            pose = torch.cat((rotation_to_6d(turn), start[6:] + 0.1 * (torch.rand(3, generator=random) - 0.5)))
            camera = pose_to_camera(pose, K, size)
            n = len(vertices)
            rendering = render_gaussians(
                vertices[None],
                torch.tensor([1.0, 0, 0, 0]).expand(1, n, 4),
                torch.full((1, n, 3), 0.005),
                torch.full((1, n), 0.95),
                colours[None],
                camera[None, None],
                K[None, None],
                size,
                size,
            )
            face_id = f"{person}-{f}"
            mesh = torch.zeros(468, 3)
            pixels = project_points(landmark_points(head, vertices[None])[0], camera, K)
            mesh[head.landmark_index, :2] = pixels - 0.5  # the corpus: pixel centres are whole numbers
            shared = {"status": "ok", "reason": "", "matte": pack(rendering.alpha[0, 0])}
            image = pack(rendering.rgb[0, 0])
            rows["faces"].append(
                {
                    "face_id": face_id,
                    "track_id": person,
                    "video_id": person,
                    "crop": image,
                    "mesh468": mesh.flatten().tolist(),
                    **shared,
                }
            )
            rows["identity_faces"].append({"identity_id": person, "face_id": face_id, "rank": f, "why": "best"})
            rows["views"].append(
                {
                    "view_id": face_id,
                    "capture_id": person,
                    "identity_id": person,
                    "camera_id": "0",
                    "frame_index": f // 2,
                    "image": image,
                    "K": K.flatten().tolist(),
                    "split": "train",
                    "head_to_world": camera.flatten().tolist(),
                    **shared,
                }
            )
    schemas = {"faces": FACES, "identity_faces": IDENTITY_FACES, "views": VIEWS, "cameras": CAMERAS}
    tables = {name: pa.Table.from_pylist(rows[name], schema=schema) for name, schema in schemas.items()}
    return People(**tables, blob=bytes(blob))


@pytest.fixture(scope="session")
def head() -> HeadModel:
    return make_head()


@pytest.fixture(scope="session")
def shaped_head(head: HeadModel) -> HeadModel:
    """The egg with two shape directions, and with eyeballs: what lies near an eye's centre follows that eye alone."""
    random = torch.Generator().manual_seed(3)
    zeros = torch.zeros(head.n_vertices)
    wide = torch.stack((0.1 * head.template[:, 0], zeros, zeros), -1)
    other = 0.002 * torch.randn(head.n_vertices, 3, generator=random)
    weights, centres = head.skinning_weights.clone(), head.joint_regressor @ head.template
    for joint in (LEFT_EYE, RIGHT_EYE):
        ball = (head.template[:, :2] - centres[joint, :2]).norm(dim=-1) < 0.015
        ball &= head.template[:, 2] > -0.05
        weights[ball] = torch.eye(N_JOINTS)[joint]
    return replace(head, shape_directions=torch.stack((wide, other), -1), skinning_weights=weights)


@pytest.fixture(scope="session")
def model_config() -> FFAvatar.Config:
    return make_config()


@pytest.fixture
def model(head: HeadModel, model_config: FFAvatar.Config) -> FFAvatar:
    torch.manual_seed(0)
    model = FFAvatar(model_config, head)
    with torch.no_grad():  # away from the neutral start, so that every part matters
        for name in ("estimator.head.weight", "gaussians.linear.weight"):
            model.get_parameter(name).normal_(std=0.05)
    return model.eval()


@pytest.fixture(scope="session")
def people(head: HeadModel) -> People:
    return make_people(head, n_people=14, n_faces=6)


@pytest.fixture(scope="session")
def few_to_many() -> SamplingConfig:
    return SamplingConfig(sources=(1, 2), drivers=3)
