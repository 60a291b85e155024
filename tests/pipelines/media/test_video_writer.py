"""Videos come out whole, in the colours that went in, or not at all."""

from __future__ import annotations

import av
import numpy as np
import pytest

from pipelines.media.video_writer import write_video


def two_colours(height: int, width: int) -> np.ndarray:
    frame = np.empty((height, width, 3), np.uint8)
    frame[:, : width // 2], frame[:, width // 2 :] = (200, 50, 20), (20, 180, 220)
    return frame


def test_frames_rate_and_colours_survive(tmp_path):
    path = tmp_path / "with space" / "é.mp4"
    assert write_video(path, (two_colours(65, 99) for _ in range(10)), 24.3) == 10
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.width, stream.height) == (10, 98, 64)
        assert float(stream.average_rate) == pytest.approx(24.3)
        image = next(container.decode(stream)).to_ndarray(format="rgb24")
    np.testing.assert_allclose(image[30, [10, 80]], [(200, 50, 20), (20, 180, 220)], atol=4)
    assert [p.name for p in path.parent.iterdir()] == ["é.mp4"]


@pytest.mark.parametrize(
    ("frames", "fps", "says"),
    [
        ([], 25, "no frames to write"),
        ([two_colours(64, 64)], 0, "fps is 0; it must be positive"),
        ([two_colours(64, 64), two_colours(64, 32)], 25, r"frame 1 is \(64, 32, 3\) where the first is \(64, 64, 3\)"),
        ([two_colours(64, 64).astype(np.float32)], 25, "frame 0 is float32"),
        ([two_colours(1, 64)], 25, "at least 2 x 2"),
    ],
)
def test_what_cannot_be_written_leaves_what_was_there(tmp_path, frames, fps, says):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=says):
        write_video(path, frames, fps)
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


def test_a_source_that_fails_half_way_leaves_nothing(tmp_path):
    def frames():
        yield two_colours(64, 64)
        raise RuntimeError("the renderer broke")

    with pytest.raises(RuntimeError, match="the renderer broke"):
        write_video(tmp_path / "video.mp4", frames(), 25)
    assert not list(tmp_path.iterdir())
