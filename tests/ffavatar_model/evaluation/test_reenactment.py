"""Reenactment on made-up people: what is known comes out."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.evaluation import (
    GroundTruth,
    Judges,
    Subject,
    cross_reenact,
    evaluate_estimator,
    self_reenact,
)
from ffavatar_model.evaluation.reenactment import driving_parameters, render_drivers
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters

SIZE = 32


@pytest.fixture
def subjects(model: FFAvatar) -> list[Subject]:
    """Two people whose drivers are the model's own renderings from their sources: a perfect model of them."""
    made = []
    for name in ("a", "b"):
        g = torch.Generator().manual_seed(ord(name))
        sources = torch.rand(2, 3, SIZE, SIZE, generator=g)
        blank = Subject(
            person=name,
            sources=sources,
            drivers=torch.rand(3, 3, SIZE, SIZE, generator=g),
            mattes=torch.ones(3, 1, SIZE, SIZE),
        )
        with torch.no_grad():
            parameters = driving_parameters(model, blank)
            shown = render_drivers(model, model.reconstruct(sources[None]), parameters, blank)
        given = DrivingParameters(*(x[0] for x in parameters))
        made.append(
            dataclasses.replace(blank, drivers=shown, parameters=given, notes=[{"azimuth": i} for i in range(3)])
        )
    return made


def test_a_model_that_is_right_scores_so_and_baselines_less(model: FFAvatar, subjects: list[Subject]) -> None:
    rows = list(self_reenact(model, subjects, views=(1, 2)))
    assert {(r["method"], r["views"]) for r in rows} == {
        (m, v) for v in (1, 2) for m in ("ours", "nearest", "mean_head", "mean_of_views")
    } - {("mean_of_views", 1)}
    ours = [r for r in rows if r["method"] == "ours" and r["views"] == 2]
    assert all(r["psnr"] > 60 and r["ssim"] > 0.999 for r in ours) and len(ours) == 6
    assert all(r["psnr"] < 30 for r in rows if r["method"] == "nearest")
    assert [r["azimuth"] for r in ours[:3]] == [0, 1, 2]


def test_judges_that_are_passed_in_are_asked(model: FFAvatar, subjects: list[Subject]) -> None:
    judges = Judges(
        embed=lambda image: image.mean((1, 2)),
        landmarks=lambda image: image.mean((1, 2))[:2].expand(4, 2),
        lpips=lambda a, b: (a - b).abs().mean((1, 2, 3)),
    )
    row = next(self_reenact(model, subjects, views=(2,), judges=judges, baselines=False))
    assert row["csim"] == pytest.approx(1, abs=1e-4) and row["akd"] == pytest.approx(0, abs=1e-4)
    assert row["lpips"] == pytest.approx(0, abs=1e-4) and row["aed"] == pytest.approx(0, abs=1e-4)
    cross = list(cross_reenact(model, subjects, views=2, judges=judges))
    assert [(r["person"], r["driver"]) for r in cross[::3]] == [("a", "b"), ("b", "a")]
    assert all(r["csim"] < 0.99999 and "psnr" not in r for r in cross)
    nobody = Judges(embed=lambda image: None)
    assert next(self_reenact(model, subjects, views=(2,), judges=nobody))["csim"] != 0  # not a number


def test_the_estimator_against_its_own_word_and_against_another(model: FFAvatar) -> None:
    g = torch.Generator().manual_seed(1)
    images = torch.rand(6, 3, SIZE, SIZE, generator=g)
    K = virtual_intrinsics(SIZE).expand(6, 3, 3)
    with torch.no_grad():
        found = DrivingParameters(*(x[0] for x in model.estimate(images[None])))
    true = GroundTruth(
        person="a",
        images=images,
        K=K,
        head_to_camera=pose_to_camera(found.pose, K, SIZE),
        expression=found.expression,
        rotations=found.rotations,
    )
    perfect = evaluate_estimator(model, [true])
    assert perfect["rotation_deg"].value < 0.1 and all(r > 0.999 for r in perfect["expression_r"])
    other = dataclasses.replace(true, expression=-true.expression)
    assert all(r < -0.999 for r in evaluate_estimator(model, [other])["expression_r"])
