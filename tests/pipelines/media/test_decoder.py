"""Frames come out upright, numbered and timed, and damage costs a reason, not the run."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.media.decoder import DecoderCrashed, DecodeSummary, DecodeTimeout, ProcessDecoder
from pipelines.media.shot_features import shrink
from pipelines.media.survey import SurveyConfig
from tests.support.made_up_videos import N_FRAMES, VFR_TIMES_MS, moving_square, number_of
from tests.support.measured_frames import measure_frames


@pytest.fixture(scope="module")
def decoder() -> Iterator[ProcessDecoder]:
    shared = ProcessDecoder(silence_s=60)
    yield shared
    shared.close()


def test_every_frame_comes_once_in_order(decoder, videos):
    frames = list(decoder.frames(videos / "whole.mp4"))
    assert [f.frame_index for f in frames] == list(range(N_FRAMES)) == [number_of(f.rgb) for f in frames]
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(N_FRAMES) / 25, atol=1e-3)
    assert np.abs(frames[7].rgb.astype(int) - moving_square()[7]).mean() < 4
    assert decoder.summary == DecodeSummary(n_indexed=N_FRAMES, n_decoded=N_FRAMES) and decoder.summary.is_complete


def test_chosen_frames(decoder, videos):
    frames = list(decoder.frames(videos / "whole.mp4", indices=[0, 13, 14, 59, 400]))
    assert [(f.frame_index, number_of(f.rgb)) for f in frames] == [(0, 0), (13, 13), (14, 14), (59, 59)]
    every_tenth = decoder.frames(videos / "whole.mp4", step=10, size=(40, 24))
    assert [(f.frame_index, f.rgb.shape) for f in every_tenth] == [(i, (24, 40, 3)) for i in range(0, 60, 10)]


def test_rotation_is_obeyed(decoder, videos):
    (frame,) = decoder.frames(videos / "rotated.mp4", indices=[5])
    upright = np.rot90(moving_square()[5])  # the file asks for a turn of 90 degrees anticlockwise
    assert frame.rgb.shape == upright.shape == (160, 96, 3)
    assert np.abs(frame.rgb.astype(int) - upright).mean() < 4
    small = next(iter(decoder.frames(videos / "rotated.mp4", size=(64, 36))))
    assert small.rgb.shape == (36, 64, 3)
    facts = decoder.probe(videos / "rotated.mp4")
    assert (facts["width"], facts["height"], facts["rotation_deg"]) == (96, 160, 90)


def test_variable_frame_rate_keeps_its_times(decoder, videos):
    times = np.array(VFR_TIMES_MS) / 1000
    frames = list(decoder.frames(videos / "vfr.mp4", indices=[3, 41]))
    assert [number_of(f.rgb) for f in frames] == [3, 41]
    np.testing.assert_allclose([f.time_s for f in frames], times[[3, 41]], atol=2e-3)


def test_a_survey_gives_the_sampled_frames_and_the_features_of_all(decoder, videos):
    sampled = list(decoder.survey(videos / "whole.mp4", SurveyConfig(per_second=5)))
    assert [f.frame_index for f in sampled] == [number_of(f.rgb) for f in sampled] == list(range(0, N_FRAMES, 5))
    assert [f.after_cut for f in sampled] == [True] + [False] * 11
    assert decoder.summary.is_complete and decoder.features.index.tolist() == list(range(N_FRAMES))
    frames = decoder.frames(videos / "whole.mp4")
    again = measure_frames((f.frame_index, shrink(f.rgb)) for f in frames)
    assert decoder.features.to_bytes() == again.to_bytes()


def test_a_truncated_file_is_not_taken_for_whole(decoder, videos):
    frames = list(decoder.frames(videos / "truncated.mp4"))
    assert not decoder.summary.is_complete and decoder.summary.n_missing
    assert [number_of(f.rgb) for f in frames] == [f.frame_index for f in frames]
    assert 30 < len(frames) < N_FRAMES


def test_broken_packets_are_counted_and_the_rest_keeps_its_numbers(decoder, videos):
    frames = list(decoder.frames(videos / "broken.mp4"))
    summary = decoder.summary
    assert summary.n_corrupt and not summary.is_complete
    assert [number_of(f.rgb) for f in frames if f.frame_index < 15] == list(range(15))
    assert frames[-1].frame_index == N_FRAMES - 1


@pytest.mark.parametrize("name", ["empty", "text", "noindex", "sound"])
def test_what_is_no_video_gives_no_frame_and_says_so(decoder, videos, name):
    assert list(decoder.frames(videos / f"{name}.mp4")) == []
    assert decoder.summary.error
    assert list(decoder.survey(videos / f"{name}.mp4", SurveyConfig())) == []
    assert decoder.summary.error and len(decoder.features) == 0


def test_a_decoder_that_hangs_is_stopped_and_replaced(tmp_path: Path, videos):
    hangs = tmp_path / "hangs.mp4"
    os.mkfifo(hangs)  # opening it for reading waits for a writer, who never comes
    decoder = ProcessDecoder(silence_s=2.0)
    with pytest.raises(DecodeTimeout, match=r"hangs\.mp4: the decoder was silent for 2 s"):
        list(decoder.frames(hangs))
    decoder.silence_s = 60.0
    assert len(list(decoder.frames(videos / "whole.mp4"))) == N_FRAMES
    decoder.close()


def test_a_decoder_that_dies_is_replaced(videos):
    decoder = ProcessDecoder()
    frames = decoder.frames(videos / "whole.mp4")
    next(frames)
    os.kill(decoder._process.pid, signal.SIGKILL)
    with pytest.raises(DecoderCrashed, match=r"whole\.mp4.*status -9"):
        for _ in frames:
            pass
    assert len(list(decoder.frames(videos / "whole.mp4"))) == N_FRAMES
    decoder.close()


def test_leaving_early_disturbs_no_later_call(videos):
    decoder = pickle.loads(pickle.dumps(ProcessDecoder()))
    for frame in decoder.frames(videos / "whole.mp4"):
        if frame.frame_index == 3:
            break
    assert [number_of(f.rgb) for f in decoder.frames(videos / "vfr.mp4", indices=[9])] == [9]
    decoder.close()


def test_probe_says_what_the_container_promises(decoder, videos):
    facts = {path.stem: decoder.probe(path) for path in videos.glob("*.mp4")}
    reasons = {"empty": "empty_file", "text": "not_a_video", "noindex": "no_index", "sound": "no_video_stream"}
    assert {name: f["reason"] for name, f in facts.items() if f["reason"]} == reasons
    whole = facts["whole"]
    assert (whole["codec"], whole["width"], whole["height"], whole["n_frames"]) == ("h264", 160, 96, N_FRAMES)
    assert whole["fps"] == pytest.approx(25) and whole["duration_s"] == pytest.approx(2.4, abs=0.05)
    assert facts["truncated"]["n_frames"] == N_FRAMES


def test_frames_larger_and_smaller_share_one_memory(decoder, videos):
    """Frames of any number may be held: each is a copy. A larger frame moves the slots, a smaller one does not."""
    fresh = ProcessDecoder()
    sizes = [(40, 24), (96, 64), (32, 32)]
    held = [list(fresh.frames(videos / "whole.mp4", size=size)) for size in sizes]
    for frames, (width, height) in zip(held, sizes, strict=True):
        again = [frame.rgb for frame in decoder.frames(videos / "whole.mp4", size=(width, height))]
        assert len(frames) == N_FRAMES and frames[0].rgb.shape == (height, width, 3)
        np.testing.assert_array_equal([frame.rgb for frame in frames], again)
    fresh.close()
