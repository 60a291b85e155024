"""HDR comes out as SDR: known signal levels give known grey levels, and hues stay."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.media.frame_reader import read_frames
from pipelines.media.tone_mapping import HLG, KNEE, PQ, is_hdr, map_to_sdr, roll_off
from tests.support.user_videos import ffmpeg


def grey(signal: float) -> np.ndarray:
    return np.full((2, 3, 3), round(signal * 65535), np.uint16)


def expected(nits: float) -> float:
    light = nits / 203
    above = max(light - 0.8, 0) / 0.2
    return 255 * (min(light, 0.8) + 0.2 * above / (1 + above)) ** (1 / 2.4)


# signal levels of ITU-R BT.2408, table 1: percent PQ or HLG of a grey of this luminance
@pytest.mark.parametrize(("signal", "nits"), [(0.38, 26), (0.44, 50.3), (0.508, 100), (0.581, 203), (0.7518, 1000)])
def test_levels_of_pq(signal, nits):
    mapped = map_to_sdr(grey(signal), PQ)
    assert mapped.shape == (2, 3, 3) and mapped.dtype == np.uint8 and len(np.unique(mapped)) == 1
    assert float(mapped[0, 0, 0]) == pytest.approx(expected(nits), abs=2)


@pytest.mark.parametrize(("signal", "nits"), [(0.38, 26), (0.75, 203), (1.0, 1000)])
def test_levels_of_hlg(signal, nits):
    assert float(map_to_sdr(grey(signal), HLG)[0, 0, 0]) == pytest.approx(expected(nits), abs=2)


def test_a_colour_keeps_its_hue_and_black_stays_black():
    assert map_to_sdr(grey(0), PQ).max() <= 1 and map_to_sdr(grey(1.0), PQ).min() >= 253
    signal = np.zeros((1, 2, 3), np.uint16)
    signal[0, :] = np.array([0.60, 0.50, 0.45]) * 65535
    red, green, blue = (float(v) for v in map_to_sdr(signal, PQ)[0, 0])
    assert red > green > blue and red > 200
    assert not is_hdr(1) and is_hdr(16) and is_hdr(18)


def test_light_below_the_knee_is_kept_and_above_it_never_cut():
    light = np.linspace(0, 50, 2000, dtype=np.float32)
    out = roll_off(light)
    np.testing.assert_array_equal(out[light < KNEE], light[light < KNEE])
    assert (np.diff(out) > 0).all() and out.max() < 1


@pytest.mark.parametrize(("transfer", "signal"), [("smpte2084", 0.508), ("arib-std-b67", 0.6296)])
def test_a_video_says_that_it_is_hdr(tmp_path, transfer, signal):
    """A grey of 100 cd/m² in 10 bits, limited range."""
    luma = round(64 + 876 * signal)
    source = f"color=black:s=64x64:r=10:d=0.3,format=yuv420p10le,geq=lum={luma}:cb=512:cr=512"
    colours = ("-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc", "-color_range", "tv")
    parameters = f"log-level=error:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:range=limited"
    coder = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "1", "-x265-params", parameters)
    ffmpeg("-f", "lavfi", "-i", source, *coder, *colours, tmp_path / "hdr.mp4")
    frames = [rgb for _, _, rgb in read_frames(tmp_path / "hdr.mp4")]
    assert len(frames) == 3 and np.abs(frames[1].astype(float) - expected(100)).max() <= 3
