"""A person is the same person in every container and geometry: same frames, same boxes, same embedding, no Ray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import skimage.data

from infra.storage import open_store
from mfhq.schema import OK
from pipelines.engine.step import run_isolated
from pipelines.media.image_codec import decode_image
from pipelines.media.video_writer import write_video
from pipelines.mining.digests import digest_sources
from pipelines.mining.source_listing import list_sources
from pipelines.mining.steps import AFTER, mining_steps
from tests.support.user_videos import GOP, X264, ffmpeg, set_matrix

HDR = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "10", "-x265-params")
PQ = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
TO_PQ = (
    "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv,zscale=t=linear:npl=203,"
    "format=gbrpf32le,zscale=p=bt2020:t=smpte2084:m=bt2020nc:r=tv:npl=203,format=yuv420p10le"
)

MADE: dict[str, tuple[str, ...]] = {
    "stream.ts": (*X264, *GOP),
    "program.mpg": ("-c:v", "mpeg2video", "-q:v", "2", "-g", "15", "-bf", "2"),
    "bframes.avi": ("-c:v", "mpeg4", "-q:v", "2", "-g", "20", "-bf", "2", "-vtag", "XVID"),
    "altref.webm": ("-c:v", "libvpx", "-b:v", "2M", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-cpu-used", "5"),
    "hybrid.mp4": (*X264, *GOP, "-movflags", "frag_keyframe"),
    "narrow.mp4": ("-vf", "scale=100:200,setsar=2/1", *X264),
    "mirrored.mp4": ("-vf", "hflip", *X264),
    "turned.mp4": ("-vf", "transpose=2", *X264),
    "hdr.mp4": (
        "-vf",
        TO_PQ,
        *HDR,
        f"log-level=error:{PQ}",
        *("-color_primaries", "bt2020", "-color_trc", "smpte2084"),
    ),
}


def glide(n: int) -> list[np.ndarray]:
    """n frames of 200 x 200 that glide over the astronaut's face."""
    image = skimage.data.astronaut()
    return [np.ascontiguousarray(image[:400:2, 20 + i : 420 + i : 2]) for i in range(n)]


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict]]:
    folder: Path = tmp_path_factory.mktemp("brought")
    write_video(folder / "control.mp4", glide(30), 25, crf=8)
    for name, arguments in MADE.items():
        ffmpeg("-i", folder / "control.mp4", *arguments, folder / name)
    set_matrix(folder / "mirrored.mp4", -1, 0, 0, 1)
    set_matrix(folder / "turned.mp4", 0, 1, -1, 0)
    sources = digest_sources(list_sources(folder), open_store(folder / "corpus"))
    name_of = {row["video_id"]: Path(row["uri"]).name for row in sources.to_pylist()}
    tables: dict[str, pa.Table] = {}
    for step in mining_steps():
        if step.name != "scores":
            rows = tables[AFTER[step.name]] if step.name in AFTER else sources
            tables[step.name] = pa.concat_tables([out for out, _ in run_isolated(step, step.load(), rows)])
    return {step: {name_of[row["video_id"]]: row for row in table.to_pylist()} for step, table in tables.items()}


@pytest.mark.parametrize("name", MADE)
def test_the_same_person_is_found_at_the_same_place(mined, name):
    probed, tracked = mined["probe"][name], mined["tracks"][name]
    assert (probed["width"], probed["height"], probed["reason"]) == (200, 200, "")
    assert (tracked["status"], tracked["reason"], tracked["n_frames_decoded"]) == (OK, "", 30)
    assert [(shot["start_frame"], shot["end_frame"]) for shot in tracked["shots"]] == [(0, 30)]
    (track,), (control,) = tracked["tracks"], mined["tracks"]["control.mp4"]["tracks"]
    assert (track["start_frame"], track["end_frame"], track["n_faces"]) == (0, 26, control["n_faces"])
    embedding, reference = (np.asarray(mined["embeddings"][n]["faces"][0]["vector"]) for n in (name, "control.mp4"))
    assert embedding @ reference > 0.85
    for face in track["faces"]:
        nearest = min(control["faces"], key=lambda other: abs(other["frame_index"] - face["frame_index"]))
        moved = (nearest["frame_index"] - face["frame_index"]) / 2  # the window glides half a pixel a frame
        assert face["time_s"] == pytest.approx(face["frame_index"] / 25, abs=1e-3)
        assert abs(face["x0"] - nearest["x0"] - moved) < 4 and abs(face["y1"] - nearest["y1"]) < 4
        colours = [decode_image(f["crop"]).mean(axis=(0, 1)) for f in (face, nearest)]
        np.testing.assert_allclose(colours[0], colours[1], atol=8)
