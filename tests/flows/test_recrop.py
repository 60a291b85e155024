"""``ffavatar recrop`` as a flow on Ray: a file that was replaced fails alone, and the other faces are published."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from flows.recrop import merge_crops, recrop_command
from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.schema import FACES, SHOTS, TRACKS, VIDEOS
from pipelines.media.image_codec import decode_image
from pipelines.media.video_writer import write_video
from pipelines.mining.recrop_step import RECROPPED
from pipelines.publishing.publish_tables import publish_tables
from tests.support.made_up_videos import moving_square

EYES_NOSE_MOUTH = [70.0, 40.0, 90.0, 40.0, 80.0, 52.0, 72.0, 62.0, 88.0, 62.0]


def rows(schema: pa.Schema, *given: dict) -> pa.Table:
    """Rows with the given values, and empty ones or null in all other columns."""
    empty = {
        f.name: None if f.nullable else pa.scalar(0).cast(f.type, safe=False).as_py()
        for f in schema
        if f.nullable or not pa.types.is_string(f.type)
    }
    text = {f.name: "" for f in schema if not f.nullable and pa.types.is_string(f.type)}
    return pa.Table.from_pylist([{**empty, **text, **row} for row in given], schema)


@pytest.fixture
def corpus(tmp_path):
    store, videos, tracks, faces = open_store(tmp_path / "corpus"), [], [], []
    for name in ("kept", "replaced"):
        path = tmp_path / f"{name}.mp4"
        write_video(path, moving_square(30 if name == "kept" else 31), 25)
        video = hashlib.sha256(path.read_bytes()).hexdigest()
        track, face = (
            hashlib.sha256(name.encode()).hexdigest()[:32],
            hashlib.sha256(b"f" + name.encode()).hexdigest()[:32],
        )
        common = {"video_id": video, "status": "ok", "reason": ""}
        videos.append(common | {"uri": str(path)})
        tracks.append(common | {"track_id": track, "shot_index": 0, "start_frame": 0, "end_frame": 30, "n_faces": 1})
        where = {"frame_index": 12, "time_s": 12 / 25, "x0": 60.0, "y0": 20.0, "x1": 100.0, "y1": 75.0, "score": 0.9}
        faces.append(common | where | {"face_id": face, "track_id": track, "landmarks5": EYES_NOSE_MOUTH})
    shots = [{"video_id": v["video_id"], "shot_index": 0, "end_frame": 30, "transition": "none"} for v in videos]
    tables = {
        "shots": rows(SHOTS, *shots),
        "videos": rows(VIDEOS, *videos),
        "tracks": rows(TRACKS, *tracks),
        "faces": rows(FACES, *faces),
    }
    publish_tables(store, tables)
    write_video(tmp_path / "replaced.mp4", moving_square(20), 25)
    return store


@pytest.mark.ray
def test_one_failed_video_does_not_stop_the_others(
    corpus, tmp_path, ray_session, prefect_server, settings, monkeypatch, capsys
):
    monkeypatch.setenv("FFAVATAR_HOME", str(settings.home))
    assert recrop_command(corpus.uri, 64) == 1
    out = capsys.readouterr().out
    assert f"failed {tmp_path / 'replaced.mp4'}: source_changed" in out and "1 faces at up to 64 px in v0002" in out
    snapshot = Catalog(corpus).open()
    faces = {row["video_id"]: row for row in snapshot.table("faces").to_pylist()}
    names = {row["video_id"]: row["uri"].split("/")[-1] for row in snapshot.table("videos").to_pylist()}
    crops = {names[video]: row["crop"] for video, row in faces.items()}
    assert crops["replaced.mp4"] is None, "never the image of another file"
    crop = crops["kept.mp4"]
    image = decode_image(corpus.read(crop["uri"])[crop["offset"] : crop["offset"] + crop["length"]])
    assert image.shape == (64, 64, 3) and np.ptp(image) > 20
    (replaced,) = [video for video, name in names.items() if name == "replaced.mp4"]
    assert (snapshot.manifest.about["recrop"], snapshot.manifest.about["recrop_kept"]) == (64, {replaced: 512})


def test_the_manifest_says_which_crops_have_another_size():
    faces = rows(FACES, *({"face_id": c, "track_id": c, "video_id": c, "landmarks5": EYES_NOSE_MOUTH} for c in "abc"))

    def cut(*videos: str) -> pa.Table:
        return rows(RECROPPED, *({"video_id": video, "status": "ok", "faces": []} for video in videos))

    about: dict = {"preset": "small"}
    _, about = merge_crops(faces, cut("a"), about, 256)
    assert about == {"preset": "small", "recrop": 256, "recrop_kept": {"b": 512, "c": 512}}
    _, about = merge_crops(faces, cut("a", "b"), about, 128)
    assert about["recrop_kept"] == {"c": 512}
    _, about = merge_crops(faces, cut("c"), about, 128)
    assert about["recrop_kept"] == {}
