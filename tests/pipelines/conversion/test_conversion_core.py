"""What both data sets share: crops whose K follows, flat tables, and publishing beside what is there."""

from __future__ import annotations

import cv2
import numpy as np
import pyarrow as pa
import pytest

from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.ids import digest
from mfhq.schema import BLOB_REF
from pipelines.conversion.capture_schemas import CONVERTED, camera_row, view_id, view_row
from pipelines.conversion.capture_tables import capture_tables, participants_table
from pipelines.conversion.conversion_config import ConversionConfig
from pipelines.conversion.head_crops import aligned_crop, resample, visible_share
from pipelines.conversion.publish_captures import publish_captures
from pipelines.engine.commits import BlobFile, pack_blobs, set_blob_uri
from pipelines.media.cameras import Camera, look_at
from pipelines.publishing.audits import AuditError

K = np.array([[900.0, 0, 101.0], [0, 905.0, 139.0], [0, 0, 1]])
CAMERA = Camera(K, look_at(np.array([0.2, 0.1, 1.3]), np.zeros(3)), 200, 280)
POSE = np.eye(3, 4)


def dots(camera, points):
    """A black image with a white disc at each projected point, drawn to a 1/16 of a pixel."""
    image = np.zeros((camera.height, camera.width, 3), np.uint8)
    for x, y in camera.project(points)[0]:
        centre = tuple(round((v - 0.5) * 16) for v in (x, y))
        cv2.circle(image, centre, 5 * 16, (255, 255, 255), -1, cv2.LINE_AA, shift=4)
    return image


def centroids(image, camera, points):
    """Where the disc nearest to each projected point really lies."""
    found = []
    grey = image[..., 0].astype(float)
    y, x = np.mgrid[0 : camera.height, 0 : camera.width] + 0.5
    for u, v in camera.project(points)[0]:
        near = (np.hypot(x - u, y - v) < 16) * grey
        found.append([(near * x).sum() / near.sum(), (near * y).sum() / near.sum()])
    return np.array(found)


@pytest.mark.parametrize("size", [64, 150, 256, 400])
def test_what_is_seen_lies_where_the_crops_K_says(size):
    points = np.array([[-0.05, 0.04, 0.0], [0.06, 0.02, -0.03], [0.0, -0.06, 0.02]])
    image = dots(CAMERA, points)
    crop = aligned_crop(CAMERA, POSE, size)
    seen = resample(image, CAMERA, crop)
    assert seen.shape == (size, size, 3)
    np.testing.assert_allclose(centroids(seen, crop, points), crop.project(points)[0], atol=0.12)


def test_a_crop_is_centred_on_the_head_and_spans_the_same_metres():
    turned = np.concatenate([cv2.Rodrigues(np.array([0.1, 0.4, 0.0]))[0], [[0.02], [0.01], [0.03]]], axis=1)
    crop = aligned_crop(CAMERA, turned, 128, span=0.3, centre=np.zeros(3))
    pixel, depth = crop.project(turned[:, 3][None])
    np.testing.assert_allclose(pixel[0], [64, 64], atol=1e-9)
    assert crop.K[0, 0] * 0.3 / depth[0] == pytest.approx(128)
    np.testing.assert_array_equal(crop.world_to_camera, CAMERA.world_to_camera)


def test_labels_are_never_mixed_and_the_outside_has_its_value():
    labels = np.zeros((280, 200), np.uint8)
    labels[100:200, 60:160] = 7
    crop = aligned_crop(CAMERA, POSE, 96, span=0.6)
    assert set(np.unique(resample(labels, CAMERA, crop, outside=3, nearest=True))) == {0, 3, 7}
    assert 0 < visible_share(CAMERA, crop) < 1
    assert visible_share(CAMERA, CAMERA.resized(10, 14)) == pytest.approx(1)


def test_a_resized_camera_sees_the_same():
    small = CAMERA.resized(100, 70)
    points = np.array([[0.03, 0.02, 0.01]])
    np.testing.assert_allclose(small.project(points)[0], CAMERA.project(points)[0] * (0.5, 0.25))


@pytest.mark.parametrize(
    ("setting", "message"), [({"size": 8}, "size=8"), ({"every": 0}, "every=0"), ({"quality": 101}, "quality=101")]
)
def test_a_wrong_setting_is_named(setting, message):
    with pytest.raises(ValueError, match=message):
        ConversionConfig(**setting)


def item(capture, camera, frames, *, person="p1", split="train", status="ok", held=()):
    views = [
        view_row(
            capture,
            camera,
            frame,
            segment="free" if frame in held else "neutral",
            split="val" if frame in held else split,
            image=b"i%d" % frame,
            matte=b"m",
            K=K,
            head_to_world=POSE,
        )
        for frame in frames
    ]
    views[-1] |= {"status": "rejected", "reason": "frame_absent", "image": None, "matte": None}
    return {
        "item_id": f"{capture}/{camera}/{frames[0]}",
        "status": status,
        "reason": "",
        "capture_id": capture,
        "identity_id": person,
        "dataset": "studio",
        "licence": "CC0-1.0",
        "split": split,
        "cameras": [camera_row(camera, CAMERA, np.zeros(4))],
        "views": views,
    }


def stored(store, rows):
    """Items as the engine stores them."""
    file = BlobFile()
    packed = pack_blobs(pa.Table.from_pylist(rows, schema=CONVERTED), file)
    name = digest(bytes(file.data).hex())
    store.write(name, bytes(file.data))
    return set_blob_uri(packed, name)


def test_items_of_one_capture_join(tmp_path):
    store = open_store(tmp_path)
    rows = [
        item("c1", "a", [0, 1, 2]),
        item("c1", "a", [3, 4]),
        item("c1", "b", [0, 1], held=(1,)),
        item("c2", "a", [0], status="failed"),
    ]
    tables = capture_tables(stored(store, rows))
    assert tables["captures"].select(["capture_id", "n_cameras", "n_frames"]).to_pylist() == [
        {"capture_id": "c1", "n_cameras": 2, "n_frames": 5}
    ]
    assert tables["cameras"].num_rows == 2 and tables["views"].num_rows == 7
    assert tables["views"].schema.field("image").type == BLOB_REF
    assert view_id("c1", "a", 3) in tables["views"]["view_id"].to_pylist()
    assert tables["identities"]["identity_id"].to_pylist() == ["p1"]
    assert tables["identities"]["split"].to_pylist() == ["train"]
    with pytest.raises(ValueError, match="images' bytes"):
        capture_tables(pa.Table.from_pylist(rows, schema=CONVERTED))
    with pytest.raises(ValueError, match="items of one capture differ"):
        capture_tables(stored(store, [item("c1", "a", [0]), item("c1", "b", [0], person="p2")]))


def test_a_second_conversion_stands_beside_the_first_and_the_same_one_replaces_it(tmp_path):
    store = open_store(tmp_path)
    first = publish_captures(store, capture_tables(stored(store, [item("c1", "a", [0, 1, 2])])))
    other = capture_tables(stored(store, [item("c2", "a", [0, 1], person="p2", split="val")]))
    both = publish_captures(store, other)
    assert (first.rows["views"], both.rows["views"], both.rows["identities"]) == (3, 5, 2)
    again = publish_captures(store, capture_tables(stored(store, [item("c1", "a", [0, 1], person="p3")])))
    people = Catalog(store).open(again.version).table("identities")["identity_id"].to_pylist()
    assert again.rows["views"] == 4 and people == ["p2", "p3"]


def test_what_a_data_set_says_of_people_is_published_replaced_and_gone_with_them(tmp_path):
    store = open_store(tmp_path)

    def publish(made, **said):
        tables = capture_tables(stored(store, [made]))
        if said:
            tables["participants"] = participants_table(said, tables["identities"])
        publish_captures(store, tables)
        rows = Catalog(store).open().query("SELECT identity_id, name, value FROM participants ORDER BY ALL").to_pylist()
        return [tuple(row.values()) for row in rows]

    words = {"age": "31", "glasses": ""}
    assert publish(item("c1", "a", [0], person="p1"), p1=words, p9=words) == [("p1", "age", "31")]
    assert publish(item("c2", "a", [0], person="p2"), p2={"age": "40"}) == [("p1", "age", "31"), ("p2", "age", "40")]
    assert publish(item("c1", "a", [0, 1], person="p1"), p1={"age": "32"})[0] == ("p1", "age", "32")
    assert publish(item("c1", "a", [0, 1], person="p3")) == [("p2", "age", "40")], "nobody's words stay alone"


def test_whole_segments_of_a_training_person_may_be_held_out_and_nothing_else(tmp_path):
    store = open_store(tmp_path)
    assert publish_captures(store, capture_tables(stored(store, [item("c1", "a", [0, 1, 2], held=(1,))]))).rows
    part = item("c2", "a", [0, 1, 2], person="p2")
    part["views"][0]["split"] = "val"
    with pytest.raises(AuditError, match=r"segment 'neutral' of capture 'c2'.*\['train', 'val'\]; hold out a whole"):
        publish_captures(store, capture_tables(stored(store, [part])))
    tested = item("c3", "a", [0, 1], person="p3", split="test")
    tested["views"][0] |= {"segment": "free", "split": "train"}
    with pytest.raises(AuditError, match="identity 'p3' is in the splits"):
        publish_captures(store, capture_tables(stored(store, [tested])))
