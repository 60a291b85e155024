"""The chosen faces differ, do not depend on the rows' order, and say what they add; digests see content only."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest

from mfhq.schema import BLOB_REF, FACES
from pipelines.publishing.diversity import MOST_SAMPLED, measure_diversity
from pipelines.publishing.face_selection import aligned_meshes, choose_faces
from pipelines.publishing.identities import split_of_identity
from pipelines.publishing.publish_presets import SMALL
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
    assert [(c.face_id, c.rank) for c in chosen[:1]] == [("f00", 0)] and chosen[0].why == "best"
    assert {c.face_id: c.why for c in chosen[1:]} == {"f02": "pose", "f03": "expression", "f04": "time"}


def test_copies_of_a_face_are_not_chosen_twice():
    assert [c.face_id for c in choose_faces(faces([{}] * 5), 8, 0.02)] == ["f00"]


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
    first, second, missing = aligned_meshes(table)
    assert np.allclose(first, second, atol=1e-4) and np.isnan(missing).all()


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
    chosen = [choice.face_id for choice in choose_faces(table, 8, 0.02)]
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
    assert table_digest(pa.concat_tables([table(), table()]).slice(1, 2).take(pa.array([1, 0]))) == same
    for change in ({"sha": "y"}, {"mesh": [1.0, 3.0]}, {"name": ""}, {"face_id": "h"}, {"crop": None}):
        assert table_digest(table(**change)) != same, change
