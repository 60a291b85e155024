"""The whole chain, with no Ray, on clips of a portrait in the public domain (the astronaut) and on broken files."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import signal
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import skimage.data

from infra.storage import open_store
from mfhq.schema import FACES, OK
from pipelines.engine.step import Step, run_isolated
from pipelines.identity.assign import assign_identities
from pipelines.identity.config import ClusterConfig
from pipelines.media.decoder import ProcessDecoder
from pipelines.media.image_codec import decode_image
from pipelines.media.video_writer import write_video
from pipelines.mining.crops import share_inside
from pipelines.mining.digests import digest_sources
from pipelines.mining.recrop_step import TO_RECROP, faces_to_recrop, recrop_step
from pipelines.mining.source_listing import list_sources
from pipelines.mining.steps import AFTER, mining_steps
from tests.support.made_up_videos import moving_square

Tables = dict[str, pa.Table]


def portrait(n: int, left: float, top: float = 0.0, side: int = 400) -> list[np.ndarray]:
    """n frames of 200 x 200 that glide over the astronaut, whose face is at about (220, 110) of 512."""
    image = skimage.data.astronaut()
    padded = np.pad(image, ((200, 200), (200, 200), (0, 0)), mode="edge")
    frames = []
    for i in range(n):
        x, y = round(200 + left + i), round(200 + top)
        frames.append(padded[y : y + side : 2, x : x + side : 2])
    return frames


def run(steps: list[Step], sources: pa.Table, batch: int = 3) -> Tables:
    """Every step's output; what is not ok goes no further."""
    tables: Tables = {}
    for step in steps:
        rows = sources if step.name not in AFTER else tables[AFTER[step.name]]
        if "status" in rows.column_names:
            rows = rows.filter(pc.equal(rows["status"], OK))
        resource = step.load()
        batches = [rows.slice(i, batch) for i in range(0, rows.num_rows, batch)]
        parts = [out for part in batches for out, _ in run_isolated(step, resource, part)]
        tables[step.name] = pa.concat_tables(parts) if parts else step.output.empty_table()
    return tables


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> tuple[pa.Table, Tables]:
    folder = tmp_path_factory.mktemp("sources")
    write_video(folder / "portrait.mp4", portrait(30, 20), 25)
    write_video(folder / "cut.mp4", [*portrait(20, 30), *moving_square(20, 200, 200), *portrait(20, 0)], 25)
    write_video(folder / "border.mp4", portrait(10, 20, top=105), 25)
    for name in ("empty", "text", "noindex", "truncated", "vfr", "sound"):
        (folder / f"{name}.mp4").write_bytes((videos / f"{name}.mp4").read_bytes())
    (folder / "list.txt").write_text("\n".join([*(p.name for p in folder.glob("*.mp4")), "gone.mp4"]))
    sources = digest_sources(list_sources(folder / "list.txt"), open_store(folder / "corpus"))
    return sources, run(mining_steps(), sources)


def by_name(sources: pa.Table, table: pa.Table) -> dict[str, dict[str, Any]]:
    names = {row["video_id"]: Path(row["uri"]).stem for row in sources.to_pylist()}
    return {names[row["video_id"]]: row for row in table.to_pylist()}


def test_every_source_has_a_row_with_its_reason(mined):
    sources, tables = mined
    said = {name: (row["status"], row["reason"]) for name, row in by_name(sources, tables["probe"]).items()}
    assert len(said) == sources.num_rows == 10
    assert {name: s for name, s in said.items() if s != ("ok", "")} == {
        "empty": ("rejected", "empty_file"),
        "text": ("rejected", "not_a_video"),
        "noindex": ("rejected", "no_index"),
        "sound": ("rejected", "no_video_stream"),
        "gone": ("failed", "unreachable"),
    }
    tracks = by_name(sources, tables["tracks"])
    assert 30 < tracks["truncated"]["n_frames_decoded"] < tracks["truncated"]["n_frames"] == 60
    assert [(s["start_frame"], s["end_frame"]) for s in tracks["cut"]["shots"]] == [(0, 20), (20, 40), (40, 60)]
    faceless = {name for name, row in tracks.items() if (row["status"], row["reason"]) == ("rejected", "no_face")}
    assert faceless == {"truncated", "vfr"}


def test_tracks_follow_the_face_and_keep_its_best_images(mined):
    sources, tables = mined
    rows = by_name(sources, tables["tracks"])
    (track,) = rows["portrait"]["tracks"]
    assert (track["status"], track["start_frame"], track["end_frame"], track["n_faces"]) == ("ok", 0, 26, 6)
    assert len(track["faces"]) == 3 and {f["frame_index"] for f in track["faces"]} <= {0, 5, 10, 15, 20, 25}
    for face in track["faces"]:
        crop = decode_image(face["crop"])
        assert crop.shape[0] == crop.shape[1] <= 512
        points = np.reshape(face["landmarks5_crop"], (5, 2)) / crop.shape[0]
        assert points[0, 0] < 0.5 < points[1, 0] and (points[:2, 1] < points[2:, 1].min()).all()
        assert face["time_s"] == pytest.approx(face["frame_index"] / 25, abs=1e-3)
        assert face["sharpness"] > 25 and face["score"] > 0.8 and face["completeness"] == 1.0
    moved = [face["x0"] for face in track["faces"]]
    assert moved == sorted(moved, reverse=True)  # the window glides to the right, so the face goes left
    assert {t["shot_index"] for t in rows["cut"]["tracks"]} == {0, 2}


def test_a_face_cut_by_the_border_is_kept_and_rejected(mined):
    sources, tables = mined
    (track,) = by_name(sources, tables["tracks"])["border"]["tracks"]
    assert (track["status"], track["reason"]) == ("rejected", "cut_by_border")
    assert {(f["status"], f["reason"]) for f in track["faces"]} == {("rejected", "cut_by_border")}


def test_completeness_is_that_of_the_whole_face():
    frontal = np.array([[195.0, 220], [305, 220], [250, 290], [205, 347], [295, 347]])  # eyes 110 px apart
    assert share_inside(frontal, 500, 500) == 1.0
    left = share_inside(frontal - (250, 0), 500, 500)
    assert left == pytest.approx(0.5, abs=0.05)  # the frame ends at the nose
    assert share_inside(frontal - (0, 230), 500, 500) < 0.7 < share_inside(frontal - (0, 150), 500, 500)


def test_scores_and_embeddings_cover_every_candidate(mined):
    sources, tables = mined
    faces = {f["face_id"]: f for row in tables["tracks"].to_pylist() for t in row["tracks"] for f in t["faces"]}
    scores = {f["face_id"]: f for row in tables["scores"].to_pylist() for f in row["faces"]}
    vectors = {f["face_id"]: np.array(f["vector"]) for row in tables["embeddings"].to_pylist() for f in row["faces"]}
    assert set(faces) == set(scores) == set(vectors)
    (track,) = by_name(sources, tables["tracks"])["portrait"]["tracks"]
    for face in track["faces"]:
        score = scores[face["face_id"]]
        assert score["reason"] == "" and abs(score["yaw_deg"]) < 30 and score["occlusion"] < 0.2
        crop, matte = decode_image(face["crop"]), decode_image(score["matte"], grey=True)
        assert matte.shape == crop.shape[:2] and matte[matte.shape[0] // 2, matte.shape[1] // 2] > 200
        mesh = np.reshape(score["mesh468"], (468, 3))
        np.testing.assert_allclose(mesh[1, :2], np.reshape(face["landmarks5_crop"], (5, 2))[2], atol=0.08 * len(crop))
    np.testing.assert_allclose([np.linalg.norm(v) for v in vectors.values()], 1, atol=1e-3)


def test_she_is_one_person_in_both_videos(mined):
    _, tables = mined
    config = ClusterConfig(threshold=0.55, min_detections=2)
    clustering = assign_identities(tables["tracks"], tables["scores"], tables["embeddings"], config)
    assert clustering.assignments.num_rows == clustering.track_embeddings.num_rows == 3
    assert len(set(clustering.assignments["identity_id"].to_pylist())) == 1
    assert clustering.assignments["similarity"].to_numpy().min() > 0.7
    who = dict(zip(*(clustering.assignments[c].to_pylist() for c in ("track_id", "identity_id")), strict=True))
    backwards = {name: table.take(list(range(table.num_rows))[::-1]) for name, table in tables.items()}
    again = assign_identities(backwards["tracks"], backwards["scores"], backwards["embeddings"], config, who)
    assert again.version == clustering.version and again.assignments.equals(clustering.assignments)
    nobody = assign_identities(*(tables[s].slice(0, 0) for s in ("tracks", "scores", "embeddings")), config)
    assert nobody.assignments.num_rows == 0


def test_steps_travel_and_batches_change_nothing(mined):
    sources, tables = mined
    steps = pickle.loads(pickle.dumps(mining_steps()))
    assert [step.name for step in steps if step.private] == ["embeddings"]
    only = sources.filter(pc.match_substring(sources["uri"], "portrait"))
    again = run(steps, only, batch=1)
    for name, table in again.items():
        row = tables[name].filter(pc.equal(tables[name]["video_id"], only["video_id"][0]))
        assert row.to_pylist() == table.to_pylist(), name


def test_a_file_that_vanishes_fails_alone(mined, tmp_path):
    sources, _ = mined
    rows = sources.filter(pc.match_substring(sources["uri"], "portrait")).to_pylist()
    gone = rows[0] | {"uri": str(tmp_path / "gone.mp4"), "video_id": "0" * 64}
    probe = mining_steps()[0]
    parts = list(run_isolated(probe, probe.load(), pa.Table.from_pylist([gone, *rows], schema=probe.input)))
    said = [row for out, _ in parts for row in out.to_pylist()]
    assert [(r["status"], r["reason"]) for r in said] == [("failed", "FileNotFoundError"), ("ok", "")]
    assert "gone.mp4 is not there" in parts[0][1]["0" * 64]


@pytest.mark.clips
def test_real_clips_give_their_people(clips, tmp_path):
    """Two people in one frame, one of them again in a turned file, and a damaged file."""
    names = ["two_people", "rot90_meta", "truncated_faststart"]
    found = [source for name in names for source in list_sources(clips / f"{name}.mp4")]
    sources = digest_sources(found, open_store(tmp_path / "corpus"))
    tables = run(mining_steps(), sources)
    clustering = assign_identities(
        tables["tracks"], tables["scores"], tables["embeddings"], ClusterConfig(threshold=0.55)
    )
    who = dict(zip(*(clustering.assignments[c].to_pylist() for c in ("track_id", "identity_id")), strict=True))
    tracks = by_name(sources, tables["tracks"])
    people = {name: {who[t["track_id"]] for t in row["tracks"] if t["track_id"] in who} for name, row in tracks.items()}
    assert {name: len(found) for name, found in people.items()} == dict(zip(names, (2, 1, 1), strict=True))
    assert people["rot90_meta"] < people["two_people"]
    assert not people["truncated_faststart"] & people["two_people"]
    assert by_name(sources, tables["tracks"])["truncated_faststart"]["reason"] == "decoded_in_part"


def test_faces_are_cut_anew_at_another_size(mined):
    sources, tables = mined
    rows = by_name(sources, tables["tracks"])["portrait"]
    faces = [f | {"video_id": rows["video_id"], "status": "ok"} for t in rows["tracks"] for f in t["faces"]]
    table = pa.Table.from_pylist([{n: f.get(n) for n in FACES.names if n != "crop"} for f in faces], schema=FACES)
    wanted = faces_to_recrop(table, sources)
    step = recrop_step(wanted, 96)
    assert step.fingerprint() != recrop_step(wanted, 128).fingerprint()
    ((out, errors),) = run_isolated(step, step.load(), wanted)
    assert not errors and out["status"].to_pylist() == [OK]
    made = {f["face_id"]: f for f in out["faces"][0].as_py()}
    assert set(made) == {f["face_id"] for f in faces}
    for face in faces:
        small, crop = decode_image(made[face["face_id"]]["crop"]), decode_image(face["crop"])
        assert small.shape == (96, 96, 3) and made[face["face_id"]]["size"] == 96
        shrunk = cv2.resize(crop, (96, 96), interpolation=cv2.INTER_AREA)
        assert np.abs(shrunk.astype(int) - small).mean() < 6


def test_a_file_that_was_replaced_gives_a_reason_and_no_crop(mined, tmp_path):
    sources, tables = mined
    (row,) = [row for row in tables["probe"].to_pylist() if row["uri"].endswith("portrait.mp4")]
    track = by_name(sources, tables["tracks"])["portrait"]["tracks"][0]
    names = ("face_id", "frame_index", "time_s", "landmarks5")
    faces = [{name: face[name] for name in names} for face in track["faces"]]
    late = [face | {"time_s": face["time_s"] + 0.2} for face in faces]
    shutil.copy(row["uri"], tmp_path / "same.mp4")
    (tmp_path / "replaced.mp4").write_bytes((tmp_path / "same.mp4").read_bytes() + b"\0")
    cases = {"same": (faces, ""), "replaced": (faces, "source_changed"), "gone": (faces, "unreachable")}
    step = recrop_step(pa.Table.from_pylist([], TO_RECROP), 96)
    tools = step.load()
    for name, (wanted, reason) in (cases | {"moved": (late, "frame_missing")}).items():
        file = "same" if name == "moved" else name
        given = {"video_id": row["video_id"], "uri": str(tmp_path / f"{file}.mp4"), "faces": json.dumps(wanted)}
        ((out, _),) = run_isolated(step, tools, pa.Table.from_pylist([given], TO_RECROP))
        (found,) = out.to_pylist()
        assert (found["status"], found["reason"]) == ("failed" if reason else "ok", reason), name
        assert len(found["faces"] or ()) == (0 if reason else len(faces))
    replaced = row | {"uri": str(tmp_path / "replaced.mp4")}
    tracks = mining_steps()[1]
    ((out, _),) = run_isolated(tracks, tracks.load(), pa.Table.from_pylist([replaced], tracks.input))
    assert [(r["status"], r["reason"], r["tracks"]) for r in out.to_pylist()] == [("failed", "source_changed", None)]


class Stopped(ProcessDecoder):
    """Its process is stopped (it hangs) or killed (it crashed) while it works on files of some names."""

    signal_for: ClassVar[dict[str, int]] = {}

    def survey(self, path, config):
        self.what = self.signal_for.get(Path(path).stem)
        self.silence_s = 0.5 if self.what == signal.SIGSTOP else 60.0  # a process that starts needs its time
        return super().survey(path, config)

    def _running_process(self):
        process = super()._running_process()
        if self.what is not None:
            os.kill(process.pid, self.what)
        return process


def test_a_decoder_that_hangs_or_crashes_costs_its_row_at_most(mined, tmp_path, monkeypatch):
    _, tables = mined
    monkeypatch.setattr(Stopped, "signal_for", {"hangs": signal.SIGSTOP, "crashes": signal.SIGKILL})
    (portrait,) = [row for row in tables["probe"].to_pylist() if row["uri"].endswith("portrait.mp4")]
    rows = []
    for i, name in enumerate(("hangs", "crashes", "fine")):
        shutil.copy(portrait["uri"], tmp_path / f"{name}.mp4")
        with (tmp_path / f"{name}.mp4").open("ab") as stream:
            stream.write(b"\0\0\0\x0bfree%03d" % i)  # a box without meaning: each file has bytes of its own
        video_id = hashlib.sha256((tmp_path / f"{name}.mp4").read_bytes()).hexdigest()
        rows.append(portrait | {"uri": str(tmp_path / f"{name}.mp4"), "video_id": video_id})
    step = mining_steps()[1]
    tools = step.load()
    table = pa.Table.from_pylist(rows, schema=step.input)

    tools.videos.decoder = Stopped()
    parts = list(run_isolated(step, tools, table))
    outcomes = [(r["status"], r["reason"], len(r["tracks"] or ())) for out, _ in parts for r in out.to_pylist()]
    assert outcomes == [("failed", "DecodeTimeout", 0), ("failed", "DecoderCrashed", 0), ("ok", "", 1)]
