"""Environment maps: what is read, what is refused, and the light that they give."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.studio.rendering.draws import face_light, find_environments, portrait_camera, random_look, random_scene
from pipelines.studio.rendering.environment import (
    EnvironmentMapError,
    environment_from_radiance,
    harmonic_basis,
    map_directions,
    read_environment,
)
from pipelines.studio.rendering.rooms import made_environment


def _write(path: Path, radiance: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), radiance[..., ::-1].astype(np.float32))
    return path


def test_a_map_is_read_as_it_was_written(tmp_path: Path) -> None:
    radiance = np.random.default_rng(0).uniform(0.1, 9, (16, 32, 3))
    read = read_environment(_write(tmp_path / "room.hdr", radiance))
    assert read.name == "room" and np.abs(read.radiance - radiance).max() < 0.07  # a step of RGBE at 8 to 16 is 1/16


@pytest.mark.parametrize("damage", ["missing", "text", "cut", "shape", "black"])
def test_a_damaged_map_is_one_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bad.hdr"
    noise = np.random.default_rng(0).uniform(0.1, 9, (16, 32, 3))
    if damage == "text":
        path.write_text("not a map")
    elif damage == "cut":
        path.write_bytes(_write(path, noise).read_bytes()[:700])
    elif damage == "shape":
        _write(path, noise[:, :20])
    elif damage == "black":
        _write(path, noise * 0)
    with pytest.raises(EnvironmentMapError) as error:
        read_environment(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_a_value_that_is_no_light_is_named(bad: float) -> None:
    radiance = np.ones((8, 16, 3), np.float32)
    radiance[2, 5, 1] = bad
    with pytest.raises(EnvironmentMapError, match=r"pixel \(5, 2\)"):
        environment_from_radiance("x", radiance)


def test_harmonics_equal_the_integral() -> None:
    environment = made_environment(np.random.default_rng(1))
    directions, solid_angle = map_directions(*environment.radiance.shape[:2])
    for normal in ([0, 1, 0], [0, 0, 1], [0.6, 0, -0.8]):
        cosine = (directions @ np.array(normal)).clip(0)
        exact = np.einsum("hw,hwc->c", cosine * solid_angle, environment.radiance) / np.pi
        approximate = harmonic_basis(np.array([normal], float)) @ environment.harmonics
        assert np.abs(approximate - exact).max() < 0.12 * exact.max()


def test_filtering_keeps_the_light() -> None:
    environment = made_environment(np.random.default_rng(1))
    _, solid_angle = map_directions(64, 128)
    energy = np.einsum("khwc,hw->k", environment.layers, solid_angle)
    assert np.abs(energy / energy[0] - 1).max() < 0.1
    assert (np.diff([layer.std() for layer in environment.layers]) < 0).all()


def test_a_kit_without_maps_says_so(tmp_path: Path) -> None:
    assert find_environments(None) == ()
    with pytest.raises(EnvironmentMapError, match="no environment map"):
        find_environments(tmp_path)


def test_scenes_expose_the_face_alike() -> None:
    g = np.random.default_rng(0)
    scenes = [random_scene(g) for _ in range(40)]
    assert len({scene.environment.name for scene in scenes}) == 2
    assert 0.3 < np.mean([scene.key is not None for scene in scenes]) < 0.7
    assert all(0 < scene.look.exposure < 20 for scene in scenes)


@pytest.mark.parametrize("focal", [24.0, 50.0, 135.0])
def test_the_focal_length_sets_the_distance(focal: float) -> None:
    camera = portrait_camera(0.3, 0.1, focal, 0.5, 256, np.zeros(3))
    distance = np.linalg.norm(camera.centre)
    assert distance == pytest.approx(max(0.5 * focal / 36, 0.3)) and camera.K[0, 0] / 256 == pytest.approx(focal / 36)


def test_the_white_balance_takes_most_of_the_lights_colour_away() -> None:
    orange = environment_from_radiance("orange", np.full((32, 64, 3), (1.5, 1.0, 0.5), np.float32))
    assert np.allclose(face_light(orange, 0.0), (1.5, 1.0, 0.5), rtol=0.03)
    g = np.random.default_rng(0)
    looks = [random_look(g, 1.0, np.array([1.5, 1.0, 0.5])) for _ in range(50)]
    ratios = [1.5 * look.white_balance[0] / (0.5 * look.white_balance[2]) for look in looks]
    assert 1.0 < np.mean(ratios) < 1.6 and max(ratios) < 2.4
