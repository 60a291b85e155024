"""The chosen faces differ, do not depend on the rows' order, and say what they add; digests see content only."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest

from mfhq.schema import BLOB_REF, FACES
from pipelines.publishing.diversity import MOST_SAMPLED
from pipelines.publishing.diversity import measure_diversity as measure_batch
from pipelines.publishing.face_selection import REASONS, FaceFeatures, PeopleBatch
from pipelines.publishing.face_selection import choose_faces as choose_batch
from pipelines.publishing.publish_presets import SMALL
from pipelines.publishing.splits import split_of_identity
from pipelines.publishing.table_digest import table_digest


def faces(rows):
    base = {
        "track_id": "t",
        "video_id": "v",
        "frame_index": 0,
        "time_s": 0.0,
        "x0": 0.0,
        "x1": 100.0,
        "score": 0.9,
        "sharpness": 100.0,
        "yaw_deg": 0.0,
        "pitch_deg": 0.0,
        "roll_deg": 0.0,
        "status": "ok",
        "reason": "",
    }
    return pa.Table.from_pylist([{**base, "face_id": f"f{i:02d}", **row} for i, row in enumerate(rows)], schema=FACES)


def batch_of(table):
    """The faces of one person as a batch."""
    column = table["mesh468"].to_pylist()
    meshes = np.array([[np.nan] * 1404 if points is None else points for points in column], np.float32)
    return PeopleBatch.of(FaceFeatures.of(table, meshes), np.arange(table.num_rows)[None])


def choose_faces(table, most, min_difference):
    """[(face id, rank, why)] of one person."""
    table = table.sort_by("face_id")
    (places,), (why,) = choose_batch(batch_of(table), most, min_difference)
    ids = table["face_id"].to_pylist()
    return [
        (ids[place], rank, REASONS[w]) for rank, (place, w) in enumerate(zip(places, why, strict=True)) if place >= 0
    ]


def measure_diversity(table, chosen):
    table = table.sort_by("face_id")
    ids = table["face_id"].to_pylist()
    found = measure_batch(batch_of(table), np.isin(ids, chosen)[None], [ids[0]])
    return {name: float(value) for name, (value,) in found.items()}


def mesh(seed=0):
    return np.random.default_rng(seed).normal(size=(468, 3))


def test_best_first_then_what_differs_most():
    face, mouth = mesh(), mesh()
    mouth[:40, 1] += 1.0  # some points move: an expression
    rows = [
        {"mesh468": face.ravel(), "sharpness": 900.0},
        {"mesh468": face.ravel(), "yaw_deg": 2.0},
        {"mesh468": face.ravel(), "yaw_deg": 40.0},
        {"mesh468": mouth.ravel()},
        {"mesh468": face.ravel(), "video_id": "other"},
    ]
    chosen = choose_faces(faces(rows), 4, 0.02)
    assert chosen[0] == ("f00", 0, "best")
    assert {face: why for face, _, why in chosen[1:]} == {"f02": "pose", "f03": "expression", "f04": "time"}


def test_copies_of_a_face_are_not_chosen_twice():
    assert [face for face, _, _ in choose_faces(faces([{}] * 5), 8, 0.02)] == ["f00"]


def test_the_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(1)
    rows = [{"yaw_deg": float(rng.normal(0, 20)), "time_s": float(i)} for i in range(30)]
    table = faces(rows)
    shuffled = table.take(pa.array(rng.permutation(30)))
    assert choose_faces(table, 8, 0.02) == choose_faces(shuffled, 8, 0.02)
    assert len(choose_faces(table, 8, 0.02)) == 8


def test_a_mesh_is_the_same_wherever_the_head_is():
    face = mesh()
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    table = faces([{"mesh468": face.ravel()}, {"mesh468": (3 * face @ turn + 7).ravel()}, {"mesh468": None}])
    (distances,) = batch_of(table).mesh_distances(np.array([0]))
    assert np.allclose(distances, 0, atol=1e-6)
    other = mesh()
    other[:40, 1] += 1.0
    (distances,) = batch_of(faces([{"mesh468": m.ravel()} for m in (face, face @ turn, other)])).mesh_distances(
        np.array([0])
    )
    points = [m - m.mean(axis=0) for m in (face, other)]
    a, b = (m / np.sqrt((m**2).sum(axis=1).mean()) for m in points)
    u, _, vt = np.linalg.svd(b.T @ a)
    expected = np.sqrt(((a - b @ u @ vt) ** 2).sum(axis=1).mean())  # Kabsch's method, point by point
    assert distances[0, 2] == pytest.approx(expected, rel=1e-6) and distances[1, 2] == pytest.approx(expected, rel=1e-5)
    assert np.allclose(distances, distances.T, atol=1e-9) and distances.diagonal().sum() == 0


def sitting(n, seed=1):
    """Faces of somebody who mostly looks ahead, and now and then aside."""
    rng = np.random.default_rng(seed)
    yaws = np.where(np.arange(n) % 10 == 9, 40.0, 0.0) + rng.normal(0, 3, n)
    return faces([{"yaw_deg": float(yaw), "time_s": float(i), "mesh468": mesh().ravel()} for i, yaw in enumerate(yaws)])


def test_at_random_is_the_mean_over_every_draw():
    table = sitting(9)
    ids = table["face_id"].to_pylist()
    draws = [measure_diversity(table, list(draw)) for draw in itertools.combinations(ids, 4)]
    found = draws[0]
    assert found["distance_at_random"] == pytest.approx(np.mean([draw["distance"] for draw in draws]), abs=1e-4)
    assert found["nearest_at_random"] == pytest.approx(np.mean([draw["nearest"] for draw in draws]), rel=0.1)
    everything = measure_diversity(table, ids)
    for name in ("distance", "nearest"):
        assert everything[name] == everything[f"{name}_at_random"] > 0


def test_chosen_faces_differ_more_than_faces_drawn_at_random():
    table = sitting(MOST_SAMPLED + 36)
    chosen = [face for face, _, _ in choose_faces(table, 8, 0.02)]
    found = measure_diversity(table, chosen)
    assert found["distance"] > 1.2 * found["distance_at_random"] and found["nearest"] > 1.2 * found["nearest_at_random"]
    assert measure_diversity(table.take(pa.array(range(99, -1, -1))), chosen[::-1]) == found


def test_nobody_changes_split_and_the_shares_hold():
    splits = [split_of_identity(f"person {i}", SMALL) for i in range(4000)]
    assert splits.count("test") / 4000 == pytest.approx(SMALL.test_share, abs=0.02)
    assert splits.count("val") / 4000 == pytest.approx(SMALL.val_share, abs=0.02)


def test_a_digest_is_of_the_content():
    def table(uri="a", offset=0, sha="x", **changes):
        crop = {"uri": uri, "offset": offset, "length": 3, "sha256": sha}
        row = {"face_id": "f", "mesh": [1.0, 2.0], "name": None, "crop": crop} | changes
        schema = pa.schema(
            [("face_id", pa.string()), ("mesh", pa.list_(pa.float32(), 2)), ("name", pa.string()), ("crop", BLOB_REF)]
        )
        return pa.Table.from_pylist([row, {"face_id": "g", "mesh": None, "crop": None}], schema=schema)

    same = table_digest(table())
    assert table_digest(table(uri="b", offset=9)) == same
    assert table_digest(pa.concat_tables([table(), table()]).slice(1, 2)) == same
    for change in ({"sha": "y"}, {"mesh": [1.0, 3.0]}, {"name": ""}, {"face_id": "h"}, {"crop": None}):
        assert table_digest(table(**change)) != same, change
