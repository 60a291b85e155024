"""``ffavatar calibrate`` and ``ffavatar overlap`` with the real face models, on a photograph that a package ships."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import insightface
import numpy as np
import pyarrow as pa
import pytest

from flows.cli import main
from infra.storage import open_store
from mfhq.schema import ASSIGNMENTS, EMBEDDINGS, IDENTITIES, SHOTS, TABLES, TRACKS, VIDEOS
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.pack import WeightsError, embedded_pack, face_pack
from pipelines.media.image_codec import decode_image, encode_png
from pipelines.publishing.publish_tables import publish_tables


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six people, six stills each: their faces from one photograph, turned, mirrored, darker."""
    folder = tmp_path_factory.mktemp("stills")
    path = Path(insightface.__file__).parent / "data" / "images" / "t1.jpg"
    photo = np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])
    for number, face in enumerate(FaceAnalyzer(embedded_pack()).detect(photo)):
        x, y, side = *(face.box[:2] + face.box[2:]) / 2, float(max(face.box[2:] - face.box[:2])) * 0.9
        (folder / f"person{number}").mkdir()
        for turn in range(6):
            move = cv2.getRotationMatrix2D((float(x), float(y)), 5 * turn - 12, 90 / side)
            move[:, 2] += 100 - np.array([x, y])
            made = cv2.warpAffine(photo, move, (200, 200))
            made = made[:, ::-1] if turn % 2 else made
            made = np.ascontiguousarray((made * (1 - 0.1 * turn)).astype(np.uint8))
            (folder / f"person{number}" / f"{turn}.png").write_bytes(encode_png(made))
    (folder / "person0" / "grey.png").write_bytes(encode_png(np.full((64, 64, 3), 90, np.uint8)))
    return folder


@pytest.fixture
def own_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pack of the user's that is not calibrated."""
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in embedded_pack().files:
        shutil.copy(embedded_pack().root / name, folder)
    return folder


def fails(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_a_pack_is_calibrated_by_folders_or_pairs_and_refuses_without(own_pack, stills, tmp_path, capsys):
    refused = fails(capsys, "cluster", "--corpus", tmp_path / "corpus", "--pack", own_pack)
    assert "ffavatar calibrate" in refused and str(own_pack) in refused
    main(["calibrate", str(stills), "--pack", str(own_pack), "--people", "100"])
    said = json.loads((own_pack / "calibration.json").read_text())
    assert (said["same_pairs"], said["other_pairs"], said["people"]) == (6 * 15, 15 * 36, 100)
    assert said["model"] == face_pack(own_pack).model and face_pack(own_pack).threshold == said["threshold"]
    assert said["other_mean"] < 1 - said["threshold"] < said["same_mean"] and "no_face:1" in capsys.readouterr().out
    with (stills / "pairs.csv").open("w", newline="") as opened:
        rows = [
            (f"person{a}/{i}.png", f"person{b}/{j}.png", int(a == b))
            for a in range(6)
            for b in range(a, 6)
            for i in range(6)
            for j in range(i + 1, 6)
        ]
        csv.writer(opened).writerows([("a", "b", "same"), *rows])
    main(["calibrate", str(stills / "pairs.csv"), "--pack", str(own_pack)])
    listed = json.loads((own_pack / "calibration.json").read_text())
    assert (listed["same_pairs"], listed["other_pairs"], listed["people"]) == (6 * 15, 15 * 15, 10_000)
    assert listed["threshold"] < said["threshold"], "more people, a stricter one"
    (own_pack / "calibration.json").write_text(json.dumps(listed | {"model": "other/1"}))
    with pytest.raises(WeightsError, match="measured for other/1"):
        face_pack(own_pack)


def test_bad_pairs_are_one_line(own_pack, tmp_path, capsys):
    table = tmp_path / "pairs.csv"
    assert "not there" in fails(capsys, "calibrate", tmp_path / "nowhere", "--pack", own_pack)
    table.write_text("a,b\nx,y\n")
    assert "needs a, b (files) and same" in fails(capsys, "calibrate", table, "--pack", own_pack)
    table.write_text("a,b,same\nx,y,perhaps\n")
    assert "line 2: same is 'perhaps'" in fails(capsys, "calibrate", table, "--pack", own_pack)
    table.write_text("a,b,same\nx.png,y.png,1\n")
    assert "x.png" in fails(capsys, "calibrate", table, "--pack", own_pack)
    assert "no stills" in fails(capsys, "calibrate", own_pack, "--pack", own_pack)
    assert not (own_pack / "calibration.json").exists()


def test_people_in_two_splits_or_in_other_captures_are_found(stills, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    pack = embedded_pack()
    analyzer, tables = (
        FaceAnalyzer(pack),
        {name: [] for name in ("videos", "shots", "tracks", "assignments", "embeddings")},
    )
    splits = ["train", "val", "train", "test"]
    for number in range(4):  # the fourth is the first person again, under another name and in another split
        image = decode_image((stills / f"person{number % 3}" / f"{number // 3 + 1}.png").read_bytes())
        video, track = f"v{number}", f"t{number}"
        said = {"status": "ok", "reason": ""}
        tables["videos"].append({"video_id": video, "uri": video, **said})
        span = {"video_id": video, "shot_index": 0, "start_frame": 0, "end_frame": 9}
        tables["shots"].append(span | {"transition": "none"})
        tables["tracks"].append(span | {"track_id": track, "n_faces": 3, **said})
        tables["assignments"].append(
            {"track_id": track, "identity_id": f"p{number}", "cluster_version": "c", "source": "clustering"}
        )
        vector = analyzer.embed(image, analyzer.detect(image)[0].landmarks5)
        tables["embeddings"].append({"track_id": track, "face_id": "", "model": pack.model, "vector": vector})
    people = [
        {"identity_id": f"p{n}", "n_tracks": 1, "n_videos": 1, "n_faces": 0, "split": split}
        for n, split in enumerate(splits)
    ]
    schemas = {"videos": VIDEOS, "shots": SHOTS, "tracks": TRACKS, "assignments": ASSIGNMENTS, "embeddings": EMBEDDINGS}
    made = {name: pa.Table.from_pylist(rows, schema=schemas[name]) for name, rows in tables.items()}
    publish_tables(
        open_store(tmp_path / "corpus"), made | {"identities": pa.Table.from_pylist(people, schema=IDENTITIES)}
    )
    corpus = str(tmp_path / "corpus")

    def overlap(*words: str) -> tuple[int, str]:
        try:
            main(["overlap", *words, "--corpus", corpus])
        except SystemExit as ended:
            return int(ended.code or 0), capsys.readouterr().out
        return 0, capsys.readouterr().out

    status, said = overlap()
    assert status == 1 and "1 of 4 people are in two splits" in said and "p0" in said and "p3" in said
    few = tmp_path / "others"
    shutil.copytree(stills / "person1", few / "somebody")
    shutil.copytree(stills / "person5", few / "stranger")
    status, said = overlap(str(few))
    assert status == 1 and "1 of 4 people are also in" in said and "somebody" in said and "stranger" not in said
    shutil.rmtree(few / "somebody")
    status, said = overlap(str(few))
    assert status == 0 and "0 of 4 people" in said
    status, said = overlap(corpus)
    assert status == 1 and "4 of 4 people are also in" in said
    status, said = overlap(captured(tmp_path / "captures", {"mcd-1": stills / "person2", "mcd-2": stills / "person4"}))
    assert status == 1 and "1 of 4 people are also in" in said and "mcd-1" in said and "mcd-2" not in said


def captured(root: Path, people: dict[str, Path]) -> str:
    """URI of a corpus of captures, as a conversion publishes it: a person's stills are the views of one capture."""
    store, blob, rows = open_store(root), b"", []
    for person, folder in people.items():
        for number, path in enumerate(sorted(folder.glob("[0-9].png"))[:3]):
            data = path.read_bytes()
            place = {"uri": "pictures.bin", "offset": len(blob), "length": len(data)}
            blob += data
            rows.append(
                {
                    "view_id": f"{person}-{number}",
                    "capture_id": person,
                    "identity_id": person,
                    "camera_id": str(number),
                    "frame_index": 0,
                    "image": place,
                    "split": "train",
                    "status": "ok",
                    "reason": "",
                }
            )
    rows.append(rows[-1] | {"view_id": "failed", "image": None, "status": "failed"})
    store.write("pictures.bin", blob)
    captures = [
        {"capture_id": person, "identity_id": person, "dataset": "ava256", "n_cameras": 3, "n_frames": 1}
        for person in people
    ]
    cameras = [
        {
            "capture_id": row["capture_id"],
            "camera_id": row["camera_id"],
            "K": [1.0] * 9,
            "distortion": [],
            "world_to_camera": [0.0] * 12,
            "width": 200,
            "height": 200,
        }
        for row in rows[:-1]
    ]
    people_rows = [{"identity_id": p, "n_tracks": 0, "n_videos": 0, "n_faces": 0, "split": "train"} for p in people]
    tables = {"views": rows, "captures": captures, "cameras": cameras, "identities": people_rows}
    publish_tables(store, {n: pa.Table.from_pylist(found, schema=TABLES[n]) for n, found in tables.items()})
    return store.uri
