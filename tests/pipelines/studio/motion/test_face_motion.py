"""Facial motion: every action is seen, lips meet, gaze leads the head, blinks shut both eyes, faces stay possible."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.studio.motion import (
    EXPRESSIONS,
    VISEMES,
    action_shares,
    blink_actions,
    expand_sides,
    gaze_actions,
    plan_motion,
    random_actions,
    random_expression,
    random_gaze,
    smooth_noise,
    speech,
)
from pipelines.studio.motion.gazing import plan_gaze
from pipelines.studio.motion.sides import face_actions, reconcile

GAZE = frozenset(gaze_actions(((0.0, 0.0), (0.0, 0.0))))
NAMES = tuple(sorted(face_actions() | GAZE))
TIMES = np.arange(0, 60, 1 / 30)


def test_the_actions_are_those_of_the_open_head(studio_head):
    assert set(NAMES) == set(studio_head.model.action_names)
    tables = [*EXPRESSIONS.values(), *(viseme.actions for viseme in VISEMES.values())]
    assert {side for table in tables for name in table for side in expand_sides(name)} <= face_actions()


def test_every_action_is_strong_often_enough_to_be_learned():
    shares = action_shares(np.random.default_rng(0), NAMES, 5000)
    assert set(shares) == set(NAMES)
    assert min(shares.values()) >= 0.02, min(shares.items(), key=lambda item: item[1])


def test_single_images_have_all_strengths_of_known_actions_alone():
    g = np.random.default_rng(1)
    drawn = [random_actions(g, NAMES) for _ in range(3000)]
    values = np.array([actions.get("mouthSmileLeft", 0.0) for actions in drawn])
    assert values.min() >= 0 and values.max() <= 1
    counts, _ = np.histogram(values[values > 0.05], bins=4, range=(0.05, 1))
    assert counts.min() > 20, counts
    both = np.array([[a.get(f"mouthSmile{side}", 0.0) for side in ("Left", "Right")] for a in drawn])
    assert 0.55 < np.corrcoef(both[both.max(1) > 0.1].T)[0, 1] < 0.95, "sides go together, but not exactly"
    assert not any(set(actions) & GAZE for actions in drawn)
    assert set(random_actions(g, ("jawOpen", "mouthPucker"))) <= {"jawOpen", "mouthPucker"}
    assert [random_actions(np.random.default_rng(5), NAMES)] == [random_actions(np.random.default_rng(5), NAMES)]


def test_actions_that_need_or_exclude_each_other():
    one = np.ones(1)
    found = reconcile({"mouthClose": 0.5 * one, "jawLeft": 0.7 * one, "jawRight": 0.2 * one, "tongueOut": one})
    assert found["jawOpen"] == 0.5 and found["jawLeft"] == pytest.approx(0.5) and found["jawRight"] == 0
    assert reconcile({"eyeWideLeft": one, "eyeBlinkLeft": one})["eyeWideLeft"] == 0
    assert reconcile({"cheekPuff": one, "jawOpen": one})["jawOpen"] == 0
    assert reconcile({"mouthSmileLeft": 1.4 * one}) == {"mouthSmileLeft": 1.0}


def test_speech_closes_the_lips_opens_the_jaw_and_rests():
    talk = speech(np.random.default_rng(2), TIMES)
    assert set(talk) <= face_actions() and all(v.min() >= 0 and v.max() <= 1 for v in talk.values())
    jaw, press, pucker = talk["jawOpen"], talk["mouthPressLeft"], talk["mouthPucker"]
    openings = ((jaw[1:] > 0.2) & (jaw[:-1] <= 0.2)).sum() / 60
    assert 1 < openings < 6 and np.ptp(jaw) > 0.3 and pucker.max() > 0.3
    assert press.max() > 0.25 and jaw[press > 0.25].mean() < 0.6 * jaw[jaw > 0.1].mean(), "lips meet over a shut jaw"
    assert (jaw < 0.02).mean() > 0.05, "there are pauses"
    assert np.abs(np.diff(jaw)).max() < 0.5, "shapes blend"
    assert talk["browInnerUp"].max() > 0.1


def test_frames_do_not_depend_on_the_distance_of_the_others():
    every, fourth = (plan_motion(np.random.default_rng(3), times, "free") for times in (TIMES, TIMES[::4]))
    assert all(len(v) == len(TIMES) for v in every.all_actions().values()) and set(every.all_actions()) <= set(NAMES)
    speaking = [speech(np.random.default_rng(3), np.append(times, 60.0))["jawOpen"] for times in (TIMES, TIMES[::4])]
    np.testing.assert_allclose(speaking[0][:-1:4], speaking[1][:-1], atol=1e-12)
    assert len(fourth.turns) == len(fourth.shifts) == len(fourth.eyes) == len(TIMES[::4])


def test_the_gaze_leads_and_the_eyes_turn_back_against_the_head():
    plan = plan_gaze(np.random.default_rng(4), TIMES, 0.6)
    across = plan.eyes[:, :, 0].mean(1) + plan.head[:, 0]
    lags = [np.corrcoef(np.diff(across)[: -lag or None], np.diff(plan.head[:, 0])[lag:])[0, 1] for lag in range(20)]
    assert 3 <= int(np.argmax(lags)) <= 15, "the head follows 0.1 to 0.5 s later"
    still = np.abs(np.diff(across)) < 1e-3
    moving = np.abs(np.diff(plan.head[:, 0])) > 2e-3
    eyes, head = np.diff(plan.eyes[:, 0, 0])[still & moving], np.diff(plan.head[:, 0])[still & moving]
    assert len(eyes) > 20 and np.corrcoef(eyes, head)[0, 1] < -0.95
    assert (plan.eyes[:, 1, 0] - plan.eyes[:, 0, 0] > 0).all(), "eyes meet in front of the face"
    (left, _), (right, _) = random_gaze(np.random.default_rng(4))
    assert 0 < right - left < 0.25


def test_blinks_shut_both_eyes_and_end():
    blink = blink_actions(np.random.default_rng(5), TIMES)
    left, right = blink["eyeBlinkLeft"], blink["eyeBlinkRight"]
    starts = ((left[1:] > 0.5) & (left[:-1] <= 0.5)).sum()
    assert 12 <= starts <= 32 and left.max() > 0.9 and (left == 0).mean() > 0.7
    assert np.corrcoef(left, right)[0, 1] > 0.95 and np.abs(left - right).max() > 0
    assert not blink_actions(np.random.default_rng(5), np.zeros(1))["eyeBlinkLeft"].any(), "a single frame has none"


@pytest.mark.parametrize("n", [1, 9])
def test_a_segment_shows_what_its_kind_says(n):
    times = np.arange(n) / 3
    g = np.random.default_rng(6)
    neutral, expression = plan_motion(g, times, "neutral"), plan_motion(g, times, "expression")
    assert set(neutral.actions) == {"eyeBlinkLeft", "eyeBlinkRight"} and not neutral.eyes.any()
    peak = max(expression.actions, key=lambda name: expression.actions[name].max())
    assert expression.actions[peak].argmax() == n // 2 and expression.actions[peak].max() > 0.25
    assert not any(name.startswith("eyeLook") for name in expression.actions)
    free = plan_motion(g, TIMES, "free")
    assert np.abs(free.turns).max() <= np.radians(30.01) and np.ptp(free.turns[:, 0]) > 0.3


def test_random_expressions_are_possible_and_noise_is_of_unit_size():
    g = np.random.default_rng(0)
    for _ in range(100):
        name, actions = random_expression(g)
        assert name in EXPRESSIONS and set(actions) <= set(NAMES)
        assert max(actions.values()) <= 1 and min(actions.values()) >= 0
    assert abs(np.std(smooth_noise(g, np.arange(0, 400, 0.1), 1.0)) - 1) < 0.3
