"""Glasses, hats, headphones and scarves of studio people."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pipelines.studio.people.attribute_counts import count_attributes
from pipelines.studio.people.figure import Attributes
from pipelines.studio.people.worn_accessories import (
    CENTRE,
    STYLES,
    choose_accessories,
    make_accessories,
    skull_radius,
    under_hat,
)

EYES = np.array([[0.032, 0.0, -0.012], [-0.032, 0.0, -0.012]])
RADII = np.array([0.075, 0.1, 0.09])


def ellipsoid(centre: np.ndarray, radii: np.ndarray, n: int = 4000) -> np.ndarray:
    """Return points spread evenly over an ellipsoid."""
    k = np.arange(n) + 0.5
    y, turn = 1 - 2 * k / n, k * np.pi * (1 + 5**0.5)
    ring = np.sqrt(1 - y * y)
    return (centre + radii * np.stack([ring * np.cos(turn), y, ring * np.sin(turn)], 1)).astype(np.float32)


EARS = np.array([[0.09, -0.01, -0.083], [-0.09, -0.01, -0.083]], np.float32)
HEAD = np.concatenate([ellipsoid(CENTRE, RADII), EARS])
BUST = ellipsoid(np.array([0.0, -0.15, -0.07]), np.array([0.06, 0.08, 0.06]))


@pytest.mark.parametrize(("kind", "style"), [(kind, style) for kind, styles in STYLES.items() for style in styles])
def test_every_accessory_is_near_the_head_and_outside_it(kind: str, style: str) -> None:
    made = make_accessories("person-7", {kind: style}, HEAD, EYES, BUST)
    assert made and made[0].name == kind
    for each in made:
        shape = each.shape
        assert len(shape.triangles) == len(shape.uv) < 4000 and shape.triangles.max() == len(shape.vertices) - 1
        assert np.isfinite(shape.vertices).all() and np.abs(shape.vertices).max() < 0.25
        inside = np.linalg.norm((shape.vertices - CENTRE) / RADII, axis=1) < 0.93
        assert inside.mean() < 0.05, (each.name, inside.mean())


def test_lenses_lie_before_the_eyes_and_frames_around_them() -> None:
    frame, lenses = make_accessories("person-1", {"glasses": "square"}, HEAD, EYES, BUST)
    assert lenses.material.alpha_mode == "blend" and lenses.material.clearcoat == 1.0
    for eye in EYES:
        near = np.linalg.norm(lenses.shape.vertices[:, :2] - eye[:2], axis=1) < 0.01
        assert near.any() and (lenses.shape.vertices[near, 2] > eye[2] + 0.012).all()
    low, high = frame.shape.vertices.min(0), frame.shape.vertices.max(0)
    assert low[0] < -0.06 and high[0] > 0.06 and low[2] < -0.08


def test_a_hat_presses_the_hair_that_it_covers_and_leaves_the_rest() -> None:
    hair = ellipsoid(CENTRE, RADII + 0.04)
    pressed = under_hat(hair, HEAD)
    above, below = hair[:, 1] > 0.09, hair[:, 1] < -0.01
    limit = skull_radius(HEAD, (pressed - CENTRE) / np.linalg.norm(pressed - CENTRE, axis=1, keepdims=True)) + 0.0031
    assert (np.linalg.norm(pressed - CENTRE, axis=1) <= limit)[above].all()
    assert np.allclose(pressed[below], hair[below], atol=1e-6)
    (hat,) = make_accessories("person-1", {"hat": "beanie"}, HEAD, EYES, BUST)
    assert hat.shape.vertices[:, 1].max() > pressed[:, 1].max()


def test_shares_of_styles_are_those_declared() -> None:
    n = 3000
    seen = Counter(style for k in range(n) for style in choose_accessories(f"share-{k}").items())
    for kind, styles in STYLES.items():
        for style, share in styles.items():
            assert abs(seen[kind, style] / n - share) < 4 * np.sqrt(share / n), (kind, style)


def test_attributes_are_counted_once_a_person() -> None:
    people = [
        Attributes("open", "female", "young", 3, styles={"hair": "bob01", "glasses": "round"}),
        Attributes("open", "male", "old", 9, True, {"hair": "short01"}),
        Attributes("ict", None, None, None, styles={"hair": "bob01"}),
    ]
    counts = count_attributes(people)
    assert counts["sex"] == {"female": 1, "male": 1, "unknown": 1} and counts["source"] == {"ict": 1, "open": 2}
    assert counts["skin tone"] == {"3": 1, "9": 1, "unknown": 1} and counts["shape"] == {"unusual": 1, "usual": 2}
    assert counts["hair"] == {"bob01": 2, "short01": 1} and counts["glasses"] == {"none": 2, "round": 1}
    assert all(sum(values.values()) == 3 for values in counts.values())
