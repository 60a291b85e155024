"""A file is what its bytes say: what names other files is refused, whatever its name."""

from __future__ import annotations

import subprocess

import imageio_ffmpeg
import pytest

from pipelines.media.containers import (
    FRAME_TOO_LARGE,
    MAX_FRAME_PIXELS,
    NOT_A_VIDEO,
    PLAYLIST,
    ContainerRefused,
    FrameTooLarge,
    check_container,
    check_frame,
)
from pipelines.media.decoder import ProcessDecoder
from pipelines.media.probe import probe_file
from pipelines.media.video_writer import write_video
from tests.support.made_up_videos import moving_square

PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\nwhole.ts\n#EXT-X-ENDLIST\n",
    "hls after a mark": "\ufeff#EXTM3U\n#EXTINF:1.0,\nwhole.ts\n",
    "concat": "ffconcat version 1.0\nfile whole.mp4\n",
    "concat without header": "file 'whole.mp4'\n",
    "dash": '<?xml version="1.0"?>\n<!-- x -->\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>',
    "smooth": '<?xml version="1.0"?><SmoothStreamingMedia MajorVersion="2"/>',
    "imf": '<?xml version="1.0"?><cpl:CompositionPlaylist xmlns:cpl="x"/>',
    "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n",
    "pls": "[playlist]\nFile1=whole.mp4\n",
    "asx": "<ASX version='3'><entry><ref href='whole.mp4'/></entry></ASX>",
    "vobsub": "# VobSub index file, v7\n",
}
NO_VIDEOS = {
    "ass": "[Script Info]\nTitle: x\n[Events]\nDialogue: 0,0:00:00.00,0:00:01.00,*Default,NTP,0,0,0,,Hi\n",
    "srt": "1\n00:00:00,000 --> 00:00:01,000\nhello\n",
    "prose": "nothing to be seen here\n" * 40,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("containers")
    write_video(root / "whole.mp4", moving_square(10), 25)
    arguments = ["-i", str(root / "whole.mp4"), "-c", "copy", str(root / "whole.ts")]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *arguments], check=True)
    return root


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".m3u8", ""])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_is_refused_under_every_name(folder, kind, suffix):
    path = folder / f"list{suffix}"
    path.write_text(PLAYLISTS[kind])
    assert probe_file(path)["reason"] == PLAYLIST
    with pytest.raises(ContainerRefused, match=PLAYLIST):
        check_container(path)


@pytest.mark.parametrize("kind", NO_VIDEOS)
def test_other_texts_are_no_videos(folder, kind):
    path = folder / "text.mp4"
    path.write_text(NO_VIDEOS[kind])
    assert probe_file(path)["reason"] == NOT_A_VIDEO


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_no_decoder_gives_a_frame_of_a_playlist(folder, backend):
    decoder = ProcessDecoder(backend=backend)
    for name, text in {"hls.mp4": PLAYLISTS["hls"], "concat.mp4": PLAYLISTS["concat"]}.items():
        (folder / name).write_text(text)
        assert list(decoder.frames(folder / name)) == [] and decoder.summary.error
    assert len(list(decoder.frames(folder / "whole.mp4"))) == 10
    decoder.close()


def test_a_movie_whose_data_lie_in_another_file_gives_no_frame_of_it(folder):
    data = (folder / "whole.mp4").read_bytes()
    at = data.index(b"url \x00\x00\x00\x01")  # a data reference: "the data are in this file"
    named = data[: at + 4] + b"\0\0\0\0" + data[at + 8 :]  # "the data are in the file of this name"
    moov = named[named.index(b"moov") - 4 :]
    path = folder / "reference.mov"
    path.write_bytes(named[: named.index(b"mdat") - 4] + moov)
    decoder = ProcessDecoder()
    assert list(decoder.frames(path)) == []
    decoder.close()


def test_a_picture_named_like_a_video_is_none(folder):
    arguments = ["-i", str(folder / "whole.mp4"), "-frames:v", "1", "-f", "image2", str(folder / "still.mp4")]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *arguments], check=True)
    assert probe_file(folder / "still.mp4")["reason"] == NOT_A_VIDEO


def test_a_frame_has_a_largest_size(folder):
    check_frame(8192, MAX_FRAME_PIXELS // 8192)
    with pytest.raises(FrameTooLarge, match="8192 x 8193"):
        check_frame(8192, MAX_FRAME_PIXELS // 8192 + 1)
    source = ["-f", "lavfi", "-i", "color=s=16000x16000:r=1", "-frames:v", "1"]
    path = folder / "huge.mp4"
    coder = ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-threads", "1"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *source, *coder, str(path)], check=True)
    for backend in ("pyav", "decord"):
        decoder = ProcessDecoder(backend=backend)
        assert decoder.probe(path)["reason"] == FRAME_TOO_LARGE
        assert list(decoder.frames(path)) == [] and "16000 x 16000 pixels" in decoder.summary.error
        decoder.close()
