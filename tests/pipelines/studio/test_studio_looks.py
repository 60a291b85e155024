"""Skins and hair of studio people: tones, details and colours."""

from __future__ import annotations

import cv2
import numpy as np

from pipelines.studio.looks.dress import dress
from pipelines.studio.looks.eye_textures import CENTRES, IRIS, PUPIL, eye_texture
from pipelines.studio.looks.hair_colours import COLOURS, draw_hair_colour, recolour
from pipelines.studio.looks.skin_paint import paint_skin
from pipelines.studio.looks.skin_textures import N_TONES, encode_skin, skin_colours, tone_colour
from pipelines.studio.looks.wrinkle_maps import wrinkle_map
from pipelines.studio.people.figure import Attributes
from pipelines.studio.people.hair_shapes import hang_hair, part_fringe
from pipelines.studio.people.shoulders import turn_shoulders
from pipelines.studio.rendering.wrinkles import REGIONS, STEP

WHOLE = (slice(None), slice(None))


def lightness(texture: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(texture[..., :3].astype(np.float32) / 255, cv2.COLOR_RGB2LAB))[..., 0]


def test_tones_step_evenly_in_lightness() -> None:
    steps = np.diff([tone_colour(t)[0] for t in range(N_TONES)])
    assert np.allclose(steps, steps[0]) and steps[0] < -5


def test_skin_takes_the_tone_and_loses_baked_shading() -> None:
    shaded = np.full((512, 512, 4), 255, np.uint8)
    shaded[..., :3] = np.linspace(90, 220, 512)[:, None, None]
    for tone in (1, 8):
        skin = skin_colours(shaded, WHOLE, tone, np.random.default_rng(0))
        made = lightness(encode_skin(skin, shaded[..., 3:]))
        assert abs(np.median(made) - tone_colour(tone)[0]) < 3
        before = np.ptp(lightness(shaded)[::100].mean(1))
        assert np.ptp(made[::100].mean(1)) < 0.75 * before


def test_the_same_id_gives_the_same_skin_and_another_another() -> None:
    facts = Attributes("open", "female", "young", 3)
    first, again, other = (dress(i, facts, None)["skin"].base_colour for i in ("a", "a", "b"))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_hair_takes_a_colour_and_keeps_alpha() -> None:
    g = np.random.default_rng(0)
    strands = g.integers(40, 120, (64, 64, 4)).astype(np.uint8)
    strands[..., 3] = 255
    strands[:8, :, 3] = 7
    made = recolour(strands, COLOURS["blond"])
    assert np.array_equal(made[..., 3], strands[..., 3]) and abs(lightness(made)[8:].mean() - 62) < 2


def test_old_people_are_mostly_grey_and_dark_skin_has_dark_hair() -> None:
    g = np.random.default_rng(0)
    old = [draw_hair_colour(g, 2, "old") for _ in range(300)]
    assert 0.6 < np.mean([name in ("grey", "white") for name in old]) < 0.8
    assert {draw_hair_colour(g, 8, "young") for _ in range(300)} <= {"black", "dark brown", "grey", "white"}


def test_a_fringe_is_swept_from_the_eyes_and_hair_at_the_sides_stays() -> None:
    g = np.random.default_rng(0)
    hair = g.uniform([-0.11, -0.2, -0.12], [0.11, 0.15, 0.05], (2000, 3)).astype(np.float32)
    parted = part_fringe(hair)
    before_eyes = (np.abs(hair[:, 0]) < 0.045) & (hair[:, 2] > 0) & (np.abs(hair[:, 1]) < 0.02)
    assert before_eyes.sum() > 20 and parted[before_eyes, 1].min() > 0.029
    sides = (np.abs(hair[:, 0]) > 0.072) | (hair[:, 2] < -0.03) | (hair[:, 1] > 0.075)
    assert np.array_equal(parted[sides], hair[sides])


def test_long_hair_stays_on_the_shoulders_when_the_head_turns() -> None:
    hair = np.array([[0.08, 0.05, -0.05], [0.1, -0.25, -0.05]], np.float32)
    hung = hang_hair(hair, (0.0, 0.5, 0.0))
    assert np.array_equal(hung[0], hair[0])
    expected = turn_shoulders(hair[1:], np.ones(1, np.float32), (0.0, 0.5, 0.0))[0]
    assert np.allclose(hung[1], expected) and np.linalg.norm(hung[1] - hair[1]) > 0.03


def test_irises_have_a_persons_own_size_and_whites_stay() -> None:
    side = 512
    texture = np.full((side, side, 4), 255, np.uint8)
    texture[..., :3] = 170
    for across, down in CENTRES:
        centre = (round(across * side), round(down * side))
        cv2.circle(texture, centre, round(IRIS * side), (60, 110, 90, 255), -1)
        cv2.circle(texture, centre, round(PUPIL * side), (10, 10, 10, 255), -1)
    sizes = set()
    for seed in range(4):
        made = eye_texture(texture, "green_eye", 2.0, np.random.default_rng(seed))
        row = made[round(CENTRES[0][1] * side), : side // 2, :3].astype(int)
        coloured, pupil = (row[:, 1] - row[:, 0] > 3).sum() / 2, (row.max(1) < 35).sum() / 2
        assert 0.2 < pupil / (IRIS * side) < 0.6, pupil
        sizes.add((int(coloured), int(pupil)))
        assert 140 < made[5, side // 2, :3].min() <= made[5, side // 2, :3].max() < 172
    assert len(sizes) == 4


def test_beards_and_make_up_stay_where_they_belong() -> None:
    y, x = np.mgrid[0.13:-0.12:-0.001, -0.09:0.09:0.001].astype(np.float32)
    face = np.stack([x, y, np.where(np.hypot(x, y) < 0.085, 0.01, -0.06)], -1)
    skin = np.full((*y.shape, 3), (60, 12, 15), np.float32)
    painted = {
        name: np.abs(paint_skin(skin, face, styles, (12, 1, 1), np.random.default_rng(1)) - skin).max(-1)
        for name, styles in {
            "full": {"beard": "full"},
            "lips": {"make_up": "lips"},
            "hair": {"hair": "short01"},
        }.items()
    }
    eyes, chin, lips = np.abs(y) < 0.015, (y < -0.09) & (np.abs(x) < 0.02), np.hypot(x / 0.02, (y + 0.067) / 0.006) < 1
    assert painted["full"][chin].mean() > 25 and painted["full"][eyes & (np.abs(x) < 0.05)].max() < 1
    assert painted["lips"][lips].mean() > 8 and painted["lips"][eyes & (np.abs(x) < 0.03)].max() < 2
    assert painted["hair"][(y > 0.1)].mean() > 25 and painted["hair"][(y < 0.05) & (np.abs(x) < 0.05)].max() < 1


def test_folds_deepen_with_age_and_are_flat_where_regions_meet() -> None:
    y, x = np.mgrid[0.13:-0.12:-0.001, -0.09:0.09:0.001].astype(np.float32)
    face = np.stack([x, y, np.full_like(x, 0.01)], -1)
    maps = {age: wrinkle_map(face, age, np.random.default_rng(2)).astype(int) for age in ("young", "old")}
    slopes = {age: np.abs(made[..., :2] - 128).max(-1) for age, made in maps.items()}
    assert set(np.unique(maps["old"][..., 2])) == {number * STEP for number in range(len(REGIONS))}
    for number in range(1, len(REGIONS)):
        here = maps["old"][..., 2] == number * STEP
        assert slopes["old"][here].sum() > 2 * slopes["young"][here].sum() > 0
    region = maps["old"][..., 2]
    edges = (region != np.roll(region, 1, 0)) | (region != np.roll(region, 1, 1))
    assert slopes["old"][edges].max() <= 12 and slopes["old"][region == 0].max() <= 12
