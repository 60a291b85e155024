"""Measures of the page's cost and accuracy for docs/avatars.md: ``pytest -s -m soak`` on this file prints them."""

from __future__ import annotations

import base64
import json
import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ffavatar_model.camera import pose_to_camera, rotation_to_6d, virtual_intrinsics
from ffavatar_model.head import HeadModel, actions_to_parameters, axis_angle_to_matrix, load_head, subdivide
from ffavatar_model.io.avatar import AvatarHeader, load_avatar
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from ffavatar_model.networks.rig import Rig
from ffavatar_model.renderers import render_gaussians
from ffavatar_model.viewer import avatar_page, pack_avatar
from flows.avatar.heads import prepare_head_file
from flows.bench.synthetic_model import stand_in_head

E = 100


def small() -> tuple[HeadModel, CanonicalAvatar, AvatarHeader]:
    """The open head: a trained avatar where FFAVATAR_MEASURED names one, made-up Gaussians otherwise."""
    head = load_head(prepare_head_file(None))
    if named := os.environ.get("FFAVATAR_MEASURED"):
        return head, *load_avatar(Path(named))
    return head, made_up(head), AvatarHeader(head=head.name, head_digest=head.digest, subdivisions=0)


def large() -> tuple[HeadModel, CanonicalAvatar, AvatarHeader]:
    """A mesh of FLAME's size with random directions, which hardly compress; subdivided once."""
    head = stand_in_head()
    return head, made_up(subdivide(head)), AvatarHeader(head=head.name, head_digest=head.digest, subdivisions=1)


def made_up(fine: HeadModel) -> CanonicalAvatar:
    """About as large as their spacing, mostly opaque."""
    g = torch.Generator().manual_seed(0)
    n = fine.n_vertices
    spacing = Rig(fine, 1).spacing[None, :, None]
    turns = torch.nn.functional.normalize(torch.randn(1, n, 4, generator=g), dim=-1)
    colours = (60 * fine.template).sin()[None] * 0.4 + 0.5
    scales = spacing * (0.4 + 0.3 * torch.rand(1, n, 3, generator=g))
    return CanonicalAvatar(torch.zeros(1, n, 3), turns, scales, 0.6 + 0.4 * torch.rand(1, n, generator=g), colours)


def poses(head: HeadModel, rig: Rig) -> list[DrivingParameters]:
    """At rest, and with the head turned and the face moving."""
    if head.action_names:
        moving, joints = actions_to_parameters(head, {"mouthSmileLeft": 1.0, "mouthSmileRight": 0.7, "jawOpen": 0.5})
    else:
        moving = torch.randn(1, E, generator=torch.Generator().manual_seed(1))
        joints = torch.tensor([[[0, 0, 0], [0, 0.2, 0], [0.2, 0, 0], [0, 0.2, 0], [0, 0.2, 0]]]).float()
    start = rig.start_pose
    pose = torch.cat((rotation_to_6d(axis_angle_to_matrix(torch.tensor([0.1, 0.45, 0.0]))), start[6:]))
    still = torch.zeros_like(moving)
    return [
        DrivingParameters(still[None], torch.zeros(1, 1, 5, 3), start[None, None]),
        DrivingParameters(moving[None], joints[None], pose[None, None]),
    ]


@pytest.mark.soak
@pytest.mark.parametrize("made", [small, large])
def test_sizes_errors_and_rates(browser: Any, made: Any, tmp_path: Path):
    from selenium.webdriver.support.ui import WebDriverWait

    head, avatar, header = made()
    fine = subdivide(head) if header.subdivisions else head
    rig = Rig(fine, min(E, head.n_expression))
    packed = pack_avatar(avatar, header, head, E)
    page = avatar_page(packed, made.__name__)
    (tmp_path / "page.html").write_text(page)
    browser.get((tmp_path / "page.html").as_uri())
    WebDriverWait(browser, 90).until(lambda b: b.execute_script("return !!window.ffavatar"))
    figures: dict[str, Any] = {
        "points": fine.n_vertices,
        "expressions": rig.directions.shape[0],
        "page_MB": round(len(page) / 1e6, 2),
        "packed_MB": round(len(packed) / 1e6, 2),
    }
    for size in (256, 512):
        errors = []
        for parameters in poses(head, rig):
            K = virtual_intrinsics(size)
            camera = pose_to_camera(parameters.pose[0, 0], K, size)
            means, turns = rig.pose(avatar, parameters)
            view = camera[None, None], K[None, None], size, size, torch.ones(3)
            truth = 255 * render_gaussians(means[:, 0], turns[:, 0], *avatar[2:5], *view).rgb[0, 0].permute(
                1, 2, 0
            ).clamp(0, 1)
            asked = dict(zip(("expression", "rotations", "pose"), (v[0, 0].tolist() for v in parameters), strict=True))
            text = browser.execute_script("return ffavatar.render(arguments[0])", asked | {"size": size})
            data = base64.b64decode(text)
            errors.append(np.abs(np.frombuffer(data, np.uint8).reshape(size, size, 4)[..., :3] - truth.numpy()))
        error = np.stack(errors)
        spent = browser.execute_script("return ffavatar.time(12, arguments[0])", asked | {"size": size})[2:]
        figures[f"at_{size}"] = {
            "mean_error": round(float(error.mean()), 3),
            "p99.9": round(float(np.quantile(error, 0.999)), 2),
            "max_error": round(float(error.max()), 2),
            **{name: round(statistics.median(s[name] for s in spent), 2) for name in spent[0]},
        }
        assert error.mean() < 0.35 and np.quantile(error, 0.999) < 2
    print(json.dumps(figures))
