"""Every container, stream and geometry gives the file's frames: each once, in order, upright, at its time."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipelines.media.decoder import DecodeSummary
from pipelines.media.frame_reader import DecodeCounts, read_frames
from pipelines.media.probe import NO_VIDEO_STREAM, probe_file
from tests.support.made_up_videos import N_FRAMES, moving_square, number_of
from tests.support.user_videos import ENCODED, GOP, MATRICES, X264, ffmpeg, make_streams, make_turned


@pytest.fixture(scope="module")
def folder(videos, tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("brought")
    for name, arguments in ENCODED.items():
        ffmpeg("-i", videos / "whole.mp4", *arguments, made / name)
    ffmpeg("-i", videos / "whole.mp4", *X264, *GOP, made / "gop.mp4")
    make_turned(videos / "whole.mp4", made)
    make_streams(videos / "whole.mp4", made)
    return made


def read(path: Path, **options) -> tuple[list[tuple[int, float, np.ndarray]], DecodeSummary]:
    counts = DecodeCounts()
    frames = list(read_frames(path, counts, **options))
    return frames, DecodeSummary(**vars(counts))


WHOLE = [
    *ENCODED,
    *(f"{name}.mp4" for name in MATRICES),
    *("cover_first.mp4", "cover_second.mp4", "small_first.mp4", "small_second.mp4", "attached.mkv"),
]


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_gives_each_of_its_frames_once(folder, name):
    frames, summary = read(folder / name)
    numbers = [number_of(rgb) for _, _, rgb in frames]
    assert [index for index, _, _ in frames] == numbers == list(range(N_FRAMES))
    np.testing.assert_allclose([time for _, time, _ in frames], np.arange(N_FRAMES) / 25, atol=1e-3)
    assert {rgb.shape for _, _, rgb in frames} == {(96, 160, 3)} and summary.is_complete
    assert np.abs(frames[7][2].astype(int) - moving_square()[7]).mean() < 8
    facts = probe_file(folder / name)
    assert (facts["reason"], facts["width"], facts["height"], facts["fps"]) == (
        "",
        160,
        96,
        pytest.approx(25, rel=0.01),
    )


@pytest.mark.parametrize("name", WHOLE)
def test_an_index_names_the_same_frame_when_it_is_sought(folder, name):
    for indices in ([33], [0, 19, 20, 21, 59], [41, 58]):
        frames, _ = read(folder / name, indices=[*indices, 400])
        assert [(index, number_of(rgb)) for index, _, rgb in frames] == [(i, i) for i in indices]


def test_the_rate_of_a_bare_stream_is_that_of_its_codec(videos, folder):
    ffmpeg("-r", "30", "-i", videos / "whole.mp4", *X264, folder / "thirty.h264")
    assert probe_file(folder / "thirty.h264")["fps"] == pytest.approx(30)
    frames, _ = read(folder / "thirty.h264")
    assert frames[-1][1] == pytest.approx(59 / 30, abs=1e-3)


def test_threads_change_nothing(folder):
    one, four = (read(folder / "plain.ts", threads=n)[0] for n in (1, 4))
    assert all(a[:2] == b[:2] and np.array_equal(a[2], b[2]) for a, b in zip(one, four, strict=True))


def test_sound_with_a_cover_is_no_video(folder):
    assert read(folder / "song.mp4") == ([], DecodeSummary(error="no video stream"))
    assert probe_file(folder / "song.mp4")["reason"] == NO_VIDEO_STREAM


def test_an_edit_list_is_obeyed(folder):
    ffmpeg("-ss", "1.2", "-i", folder / "gop.mp4", "-t", "1", "-c", "copy", folder / "cut.mp4")
    frames, summary = read(folder / "cut.mp4")
    numbers = [number_of(rgb) for _, _, rgb in frames]
    assert numbers == list(range(30, 30 + len(frames))) and 25 <= len(frames) <= 28 and summary.is_complete
    assert [index for index, _, _ in frames] == list(range(len(frames))) and summary.n_discarded >= 10
    assert frames[0][1] == 0 and frames[-1][1] == pytest.approx((len(frames) - 1) / 25, abs=1e-3)
    sought, _ = read(folder / "cut.mp4", indices=[3, 17])
    assert [number_of(rgb) for _, _, rgb in sought] == [33, 47]


def test_a_stream_that_begins_between_keyframes_says_what_is_lost(folder):
    data = (folder / "plain.ts").read_bytes()
    at = len(data) // 188 // 6 * 188
    (folder / "mid.ts").write_bytes(data[at:])
    frames, summary = read(folder / "mid.ts")
    assert [number_of(rgb) for _, _, rgb in frames] == list(range(20, N_FRAMES)) and not summary.is_complete
    first = frames[0][0]
    assert [index for index, _, _ in frames] == list(range(first, first + 40)) and summary.n_indexed == first + 40


def test_frames_of_another_size_keep_it(folder):
    ffmpeg("-i", folder / "gop.mp4", "-vf", "scale=80:48", *X264, *GOP, folder / "half.ts")
    (folder / "both.ts").write_bytes((folder / "plain.ts").read_bytes() + (folder / "half.ts").read_bytes())
    frames, _ = read(folder / "both.ts")
    assert [rgb.shape for _, _, rgb in frames] == [(96, 160, 3)] * N_FRAMES + [(48, 80, 3)] * N_FRAMES
    assert [index for index, _, _ in frames] == list(range(2 * N_FRAMES))
    times = [time for _, time, _ in frames]
    assert all(a < b for a, b in pairwise(times)) and times[-1] < 60, "the clock starts anew"


def test_an_avi_may_drop_frames_and_may_be_cut_off(folder):
    dropped = ("-vf", "select='not(eq(mod(n,5),3))'", "-fps_mode", "vfr", "-c:v", "mpeg4", "-q:v", "2")
    ffmpeg("-i", folder / "gop.mp4", *dropped, folder / "vfr.avi")
    frames, summary = read(folder / "vfr.avi")
    kept = [n for n in range(N_FRAMES) if n % 5 != 3]
    assert [number_of(rgb) for _, _, rgb in frames] == kept and summary.is_complete
    np.testing.assert_allclose([time for _, time, _ in frames], np.array(kept) / 25, atol=1e-3)
    data = (folder / "bframes.avi").read_bytes()
    (folder / "off.avi").write_bytes(data[: len(data) // 2])
    frames, summary = read(folder / "off.avi")
    assert 15 < len(frames) < 45 and summary.n_missing > 10 and not summary.is_complete
    numbers = [number_of(rgb) for _, _, rgb in frames]
    assert numbers[:-1] == list(range(len(frames) - 1)), "the last frame is shown after frames that are cut off"


def test_a_packed_avi_promises_more_than_it_has(folder):
    ffmpeg("-i", folder / "gop.mp4", "-c:v", "libxvid", "-q:v", "2", "-bf", "2", folder / "packed.avi")
    frames, summary = read(folder / "packed.avi")
    assert [number_of(rgb) for _, _, rgb in frames] == list(range(len(frames))) and len(frames) >= N_FRAMES - 2
    times = [time for _, time, _ in frames]
    assert times[0] == 0 and all(0 < b - a < 0.2 for a, b in pairwise(times)) and summary.is_complete
