"""Copies among shots: hashes of frames and their parts, comparison over time, search, and choice of the original."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mfhq.sql_fence import open_database
from pipelines.duplicates import copy_search
from pipelines.duplicates.copy_search import Copy, CopySearch
from pipelines.duplicates.matching import HashedShot, ShotMatch, compare_shots
from pipelines.duplicates.originals import choose_originals
from pipelines.media.frame_hash import WINDOWS, FrameHashes, hash_frame


def frame(scene: int, moment: int = 0, height: int = 180, width: int = 320) -> np.ndarray:
    """A made-up picture: a smooth background, and blobs that move with the moment."""
    rng = np.random.default_rng(scene)
    picture = cv2.resize(rng.integers(40, 220, (9, 16, 3), dtype=np.uint8), (320, 180), interpolation=cv2.INTER_CUBIC)
    way = np.random.default_rng([scene, 1]).normal(0, 9, (400, 2)).cumsum(axis=0)[moment]
    for n in range(3):
        centre = (int(60 + 100 * n + way[0]) % 320, int(90 + way[1] * (n - 1)) % 180)
        cv2.circle(picture, centre, 40, (255 * (n % 2), 128, 30 * n), -1)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def bits(a: np.uint64, b: np.uint64) -> int:
    return int(np.bitwise_count(a ^ b))


def crop(picture: np.ndarray, left: float, upper: float, right: float, lower: float) -> np.ndarray:
    height, width = picture.shape[:2]
    return picture[round(upper * height) : round(lower * height), round(left * width) : round(right * width)]


def shot(scene: int, start: int, end: int, change=lambda picture: picture) -> HashedShot:
    hashes = [hash_frame(change(frame(scene, moment))) for moment in range(start, end)]
    return HashedShot(0.2 * np.arange(end - start), np.array(hashes, np.uint64))


@pytest.mark.parametrize("number", range(len(WINDOWS)))
def test_a_cropped_copy_has_the_hash_of_a_part(number):
    whole = hash_frame(frame(1))
    cropped = hash_frame(crop(frame(1), *WINDOWS[number]))
    assert bits(whole[number], cropped[0]) <= 3
    assert number == 0 or bits(whole[0], cropped[0]) > 3, "the part is needed"


def test_codec_size_bars_and_grading_change_few_bits_and_other_pictures_many():
    whole = hash_frame(frame(1))[0]
    jpeg = cv2.imdecode(cv2.imencode(".jpg", frame(1), [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_COLOR)
    small, barred = frame(1, height=60, width=90), np.pad(frame(1), ((40, 40), (0, 0), (0, 0)))
    dark = (255 * (frame(1) / 255) ** 1.4).astype(np.uint8)
    assert [bits(whole, hash_frame(copy)[0]) <= 4 for copy in (jpeg, small, barred, dark)] == [True] * 4
    assert min(bits(whole, part) for other in range(2, 12) for part in hash_frame(frame(other))) > 9
    assert bits(whole, hash_frame(frame(1)[:, ::-1])[0]) > 9, "a mirrored copy is not found"


def test_blank_frames_have_no_hash_and_a_shot_has_its_own_frames():
    found = FrameHashes()
    for index in range(6):
        found.add(SimpleNamespace(frame_index=index, time_s=index / 5, rgb=frame(1, index) * (index != 3)))
    fields = found.between(2, 5)
    assert fields["hash_times_s"] == [0.4, 0.8] and len(fields["hashes"]) == 2 * len(WINDOWS)
    assert np.array(fields["hashes"][:8], np.int64).view(np.uint64).tolist() == hash_frame(frame(1, 2)).tolist()


def test_a_part_of_a_shot_is_a_copy_and_its_other_half_is_none():
    whole = shot(1, 0, 60)
    part = shot(1, 15, 40, lambda picture: crop(picture, 0.1, 0.1, 0.9, 0.9))
    match = compare_shots(whole, part, [0.0, 2.0, 3.0, 4.0])
    assert match.is_copy and match.distance < 3 and match.share == 1.0 and match.n_frames == 25
    offsets = np.arange(-6, 6, 0.2)
    halves = compare_shots(shot(1, 0, 30), shot(1, 30, 60), offsets)
    assert not halves.is_copy and abs(halves.agreement) < 0.35
    assert not compare_shots(whole, shot(2, 0, 60), offsets).is_copy


def test_a_still_shot_needs_no_agreement():
    still = shot(1, 5, 6)
    still = HashedShot(0.2 * np.arange(10), np.repeat(still.hashes, 10, axis=0))
    assert compare_shots(still, still, [0.0]) == ShotMatch(0.0, 1.0, 1.0, 10)


def test_the_search_finds_the_pairs_that_are_copies(monkeypatch):
    shots = [shot(1, 0, 50), shot(2, 0, 50), shot(3, 0, 50), shot(1, 20, 45), shot(2, 0, 50, lambda p: p[:-27])]
    for most, expected in ((64, {(0, 3), (1, 4)}), (1, set())):
        monkeypatch.setattr(copy_search, "_MEETINGS", copy_search._MEETINGS.replace("AND 64", f"AND {most}"))
        with open_database() as connection:
            search = CopySearch(connection)
            search.add(range(3), shots[:3])
            search.add([3, 4], shots[3:])
            assert {(copy.one, copy.other) for copy in search.copies()} == expected


def test_a_copy_of_a_copy_is_no_duplicate_of_what_it_is_not_like():
    def pair(one, other, distance):
        return Copy(one, other, ShotMatch(distance, 1.0, 1.0, 9))

    copies = [pair(0, 1, 2.0), pair(1, 2, 3.0), pair(2, 3, 4.0), pair(0, 4, 2.0), pair(2, 4, 1.0)]
    found = choose_originals(copies, {n: n for n in range(5)})
    assert {n: [(c.one, c.other) for c in own] for n, own in found.items()} == {
        1: [(0, 1)],
        3: [(2, 3)],
        4: [(2, 4), (0, 4)],
    }
