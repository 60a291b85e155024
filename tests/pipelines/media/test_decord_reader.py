"""decord reads what can be checked against the packets; all other files give PyAV's frames."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.media import decord_reader
from pipelines.media.decoder import DecodeSummary, ProcessDecoder
from pipelines.media.frame_reader import DecodeCounts, read_frames
from tests.support.made_up_videos import N_FRAMES, number_of
from tests.support.user_videos import GOP, X264, ffmpeg, make_turned


@pytest.fixture(scope="module")
def folder(videos, tmp_path_factory):
    made = tmp_path_factory.mktemp("decord")
    ffmpeg("-i", videos / "whole.mp4", *X264, *GOP, made / "gop.mp4")
    ffmpeg("-i", made / "gop.mp4", "-c", "copy", made / "plain.ts")
    ffmpeg("-ss", "1.2", "-i", made / "gop.mp4", "-t", "1", "-c", "copy", made / "cut.mp4")
    ffmpeg("-i", made / "gop.mp4", "-c:v", "mpeg4", "-bf", "2", made / "bframes.avi")
    make_turned(videos / "whole.mp4", made)
    for name in ("whole", "vfr", "broken", "truncated", "sound"):
        (made / f"{name}.mp4").write_bytes((videos / f"{name}.mp4").read_bytes())
    return made


WHOLE = ("whole.mp4", "vfr.mp4", "gop.mp4", "broken.mp4")
"""Files that decord decodes; PyAV decodes the others."""
OTHERS = ("plain.ts", "cut.mp4", "bframes.avi", "mirror_x.mp4", "rot90.mp4", "truncated.mp4", "sound.mp4")


@pytest.mark.parametrize(("name", "own"), [*((name, True) for name in WHOLE), *((name, False) for name in OTHERS)])
def test_its_frames_are_those_of_pyav(folder, name, own, monkeypatch):
    used = []
    decode = decord_reader._decode
    monkeypatch.setattr(decord_reader, "_decode", lambda *args: used.append(1) or decode(*args))
    for options in ({}, {"step": 7}, {"indices": [0, 13, 21, 59, 400]}):
        pyav, decord = DecodeCounts(), DecodeCounts()
        expected = list(read_frames(folder / name, pyav, **options))
        found = list(decord_reader.read_frames_by_decord(folder / name, decord, **options))
        assert [frame[0] for frame in found] == [frame[0] for frame in expected]
        np.testing.assert_allclose([f[1] for f in found], [f[1] for f in expected], atol=1e-6)
        for a, b in zip(found, expected, strict=True):
            assert a[2].shape == b[2].shape and np.abs(a[2].astype(int) - b[2]).mean() < 2
        if not options:
            complete = [DecodeSummary(**vars(counts)).is_complete for counts in (decord, pyav)]
            assert complete[0] == complete[1]
    assert bool(used) == own


def test_it_is_a_backend_of_the_decoding_process(folder):
    decoder = ProcessDecoder(backend="decord")
    for name in ("whole.mp4", "plain.ts"):
        assert [number_of(frame.rgb) for frame in decoder.frames(folder / name)] == list(range(N_FRAMES))
        assert decoder.summary.is_complete
    decoder.close()
