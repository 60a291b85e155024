"""Samples from a corpus's tables."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import pickle
import threading
from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from ffavatar_model.camera import project_points
from ffavatar_model.data import prefetch as reading
from ffavatar_model.data.batch import Batch
from ffavatar_model.data.dataset import IdentityDataset, MultiviewDataset
from ffavatar_model.data.images import BACKGROUND, CHIN, FOREHEAD, compose_image, head_matte, prepare_image
from ffavatar_model.data.sampling import SamplingConfig
from ffavatar_model.head import HeadModel, landmark_points
from mfhq.image_bytes import decode_image


@pytest.fixture
def crops(people, few_to_many: SamplingConfig) -> IdentityDataset:
    return IdentityDataset(
        few_to_many, 32, "digest", people.read, identity_faces=people.identity_faces, faces=people.faces
    )


@pytest.fixture
def views(people, few_to_many: SamplingConfig) -> MultiviewDataset:
    return MultiviewDataset(few_to_many, 32, "digest", people.read, views=people.views, cameras=people.cameras)


def test_a_sample_holds_one_person_and_drivers_that_are_no_sources(crops: IdentityDataset):
    for cursor in range(28):
        sample = crops[[cursor]]
        person, *images = sample.ids[0]
        n = int(sample.source_mask.sum())
        assert all(p.startswith(person) for p in images)
        assert not set(images[:n]) & set(images[n:])
        assert len(set(images[n:])) == 3
    counts = {int(crops[[i]].source_mask.sum()) for i in range(28)}
    assert counts == {1, 2}


def test_sources_are_drivers_too_where_that_is_asked_for_but_not_held_out(people, few_to_many: SamplingConfig):
    config = replace(few_to_many, sources=(2, 2), source_choice="first", driver_choice="any")
    tables = {"identity_faces": people.identity_faces, "faces": people.faces}
    both = 0
    for settings, mixed in ((config, True), (config.held_out(), False)):
        data = IdentityDataset(settings, 32, "digest", people.read, **tables)
        for cursor in range(14):
            _, *images = data[[cursor]].ids[0]
            both = len(set(images[:2]) & set(images[2:]))
            assert mixed or not both
            if both:
                break
        assert bool(both) == mixed


def test_an_epoch_has_everyone_once_and_the_next_another_order(crops: IdentityDataset):
    first, second = ([crops[[e * len(crops) + i]].ids[0][0] for i in range(len(crops))] for e in (0, 1))
    assert sorted(first) == sorted(second) == sorted(person for person, _ in crops.people)
    assert first != second


def test_order_depends_on_seed_and_snapshot_alone(crops: IdentityDataset, people, few_to_many: SamplingConfig):
    one = [crops[[i]].ids for i in range(12)]
    two, three = copy.deepcopy(crops), copy.deepcopy(crops)  # as two loader processes have them
    taken = {i: (two if i // 2 % 2 else three)[[i]].ids for i in (10, 2, 7, 3, 0, 1, 11, 5, 4, 9, 8, 6)}
    assert [taken[i] for i in range(12)] == one
    tables = {"identity_faces": people.identity_faces, "faces": people.faces}
    other_seed = IdentityDataset(replace(few_to_many, seed=1), 32, "digest", people.read, **tables)
    other_snapshot = IdentityDataset(few_to_many, 32, "other", people.read, **tables)
    for other in (other_seed, other_snapshot):
        assert [other[[i]].ids for i in range(12)] != one


def test_landmarks_lie_where_the_image_shows_them(people, head: HeadModel, crops: IdentityDataset):
    """The corpus counts pixel centres from 0, the model from 0.5; both must name the same place."""
    row = people.views.to_pylist()[0]  # a face at rest
    camera, K = torch.tensor(row["head_to_world"]).view(3, 4).float(), torch.tensor(row["K"]).view(3, 3).float()
    face = crops.load_image(next(r for _, rows in crops.people for r in rows if r["id"] == row["view_id"]))
    expected = project_points(landmark_points(head, head.template[None])[0], camera, K) / 48
    assert face.landmarks is not None
    torch.testing.assert_close(face.landmarks[head.landmark_index], expected, atol=1e-4, rtol=0)


def test_a_face_without_a_mesh_leaves_the_others_theirs(people, crops: IdentityDataset):
    column = people.faces.schema.get_field_index("mesh468")
    field = people.faces.field(column)
    meshes = [None if i % 3 == 1 else mesh for i, mesh in enumerate(people.faces["mesh468"].to_pylist())]
    faces = people.faces.set_column(column, field, pa.array(meshes, field.type))
    some = {person for person, _ in crops.people[::2]}
    tables = {"identity_faces": people.identity_faces, "faces": faces, "identities": some}
    data = IdentityDataset(crops.config, 32, "digest", people.read, **tables)
    assert {person for person, _ in data.people} == some
    there = {face["face_id"]: mesh is not None for face, mesh in zip(people.faces.to_pylist(), meshes, strict=True)}
    whole = {row["id"]: row for _, rows in crops.people for row in rows}
    for row in data.people[0][1]:
        face, before = data.load_image(row), crops.load_image(whole[row["id"]])
        assert (face.landmarks is not None) == there[row["id"]]
        assert face.landmarks is None or torch.equal(face.landmarks, before.landmarks)


def test_calibrated_views_keep_their_camera_and_share_a_timestep(views: MultiviewDataset):
    sample = views[[0]]
    assert sample.known_camera.all() and len(set(sample.timestep.flatten().tolist())) == 1
    torch.testing.assert_close(sample.K[0, 0, 0, 0], torch.tensor(4.0 * 32))  # 4 widths, after the resize from 48 to 32


def test_image_that_does_not_decode_is_named(people, few_to_many: SamplingConfig):
    broken = IdentityDataset(
        few_to_many, 32, "digest", lambda *_: b"no image", identity_faces=people.identity_faces, faces=people.faces
    )
    with pytest.raises(ValueError, match=r"image \w+-\d: an image of \d+ bytes does not decode"):
        broken[[0]]


def test_rejected_faces_and_people_with_one_image_are_left_out(people, few_to_many: SamplingConfig):
    status = ["rejected" if i >= 7 else "ok" for i in range(len(people.faces))]
    faces = people.faces.set_column(people.faces.schema.get_field_index("status"), "status", pa.array(status))
    data = IdentityDataset(few_to_many, 32, "d", people.read, identity_faces=people.identity_faces, faces=faces)
    assert [len(rows) for _, rows in data.people] == [6]
    empty = IdentityDataset(few_to_many, 32, "d", people.read, identity_faces=people.identity_faces[:0], faces=faces)
    with pytest.raises(ValueError, match="no person with enough images"):
        empty[[0]]


def test_body_below_the_chin_fades_out():
    landmarks = torch.full((468, 2), 0.5)
    landmarks[FOREHEAD], landmarks[CHIN] = torch.tensor([0.5, 0.2]), torch.tensor([0.5, 0.6])
    kept = head_matte(np.full((100, 100), 255, np.uint8), landmarks)[:, 50]
    assert (kept[:65] == 255).all() and 0 < kept[70] < 255 and (kept[78:] == 0).all()
    rgb, matte = compose_image(prepare_image(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8), None, 32))
    assert (matte == 0).all() and torch.equal(rgb, torch.tensor(BACKGROUND)[:, None, None].expand(3, 32, 32))


def averaged(image: np.ndarray, size: int) -> torch.Tensor:
    """(H, W) or (H, W, 3) of bytes → (C, size, size): the mean of what each new pixel covers, in double precision."""
    whole = torch.tensor(image / 255.0).view(*image.shape[:2], -1).permute(2, 0, 1)
    fine = whole.repeat_interleave(size, 1).repeat_interleave(size, 2)
    return torch.nn.functional.avg_pool2d(fine, image.shape[0])


def test_bytes_give_what_floats_would(people):
    """The whole preparation again in floats, as one would write it down: equal within the rounding to bytes."""
    for row in people.faces.slice(0, 12).to_pylist():
        blobs = (people.read(ref["uri"], ref["offset"], ref["length"]) for ref in (row["crop"], row["matte"]))
        crop, matte = (np.asarray(Image.open(io.BytesIO(blob))) for blob in blobs)
        points = (torch.tensor(row["mesh468"]).view(468, 3)[:, :2] + 0.5) / 48
        axis = points[CHIN] - points[FOREHEAD]
        for size in (16, 24, 32, 48):
            y, x = torch.meshgrid(*[(torch.arange(size) + 0.5) / size] * 2, indexing="ij")
            below = ((torch.stack((x, y), -1) - points[CHIN]) @ axis) / axis.square().sum()
            mask = averaged(matte, size) * ((0.4 - below) / (0.4 - 0.15)).clamp(0, 1)
            wanted = averaged(crop, size) * mask + torch.tensor(BACKGROUND)[:, None, None] * (1 - mask)
            found, alpha = compose_image(prepare_image(crop, matte, points, size))
            for one, other in ((found, wanted), (alpha, mask)):
                assert (one - other).abs().mean() < 0.4 / 255 and (one - other).abs().max() < 2.1 / 255


def test_batches_move_as_a_whole(crops: IdentityDataset):
    batch = crops.batch([0, 1])
    assert isinstance(batch, Batch) and len(batch.ids) == 2
    moved = batch.to("meta")
    plain = {"ids", "known", "padded", "estimator_drivers", "irises", "shape"}  # the last three: tensors in others
    assert moved.tensors().keys() == {f.name for f in fields(Batch)} - plain
    assert all(value.device.type == "meta" for value in moved.tensors().values())


def test_decode_refuses_what_is_cut_off(people):
    row = people.faces["crop"][0].as_py()
    data = people.read(row["uri"], row["offset"], row["length"])
    assert decode_image(data).shape == (48, 48, 3)
    with pytest.raises(ValueError, match="does not decode"):
        decode_image(data[: len(data) // 2])


class SlowStore:
    """Ranges that wait for one another: as many as may be read at once have begun before any ends."""

    def __init__(self, people, at_once: int) -> None:
        self.people, self.barrier, self.threads = people, threading.Barrier(at_once), set()

    def read(self, uri: str, offset: int, length: int) -> bytes:
        self.threads.add(threading.get_ident())
        with contextlib.suppress(threading.BrokenBarrierError):
            self.barrier.wait(0.3)
        return self.people.read(uri, offset, length)


def test_a_sample_s_ranges_are_read_together_and_give_the_same_sample(people, monkeypatch):
    monkeypatch.setattr(reading, "GAP", -1)  # what lies side by side is one read otherwise
    tables = {"identity_faces": people.identity_faces, "faces": people.faces}
    config = SamplingConfig(sources=(2, 2), drivers=3, cache=0, readers=1)
    one = IdentityDataset(config, 32, "digest", people.read, **tables)
    slow = SlowStore(people, at_once=5)
    many = IdentityDataset(replace(config, readers=5), 32, "digest", slow.read, **tables)
    for name, value in one[[3]].tensors().items():
        assert torch.equal(value, many[[3]].tensors()[name]), name
    assert len(slow.threads) == 5 and not slow.barrier.broken, "five at once, in threads of their own"
    there = pickle.loads(pickle.dumps(IdentityDataset(replace(config, readers=5), 32, "digest", people.read, **tables)))
    assert there[[3]].ids == one[[3]].ids
    row = {**many.people[0][1][0], "crop": {"uri": "pack", "offset": 0, "length": 7}}
    with pytest.raises(ValueError, match=f"image {row['id']}: an image of 7 bytes does not decode"):
        many.load_image(row)


def test_a_damaged_image_is_named_and_not_trained_on(people):
    """One bit of a stored crop flips, in a place that still decodes: the digest tells."""
    crops = people.faces["crop"].to_pylist()
    for crop in crops:
        crop["sha256"] = hashlib.sha256(people.read(crop["uri"], crop["offset"], crop["length"])).hexdigest()
    schema = people.faces.schema
    column = pa.array(crops, schema.field("crop").type)
    faces = people.faces.set_column(schema.get_field_index("crop"), schema.field("crop"), column)

    def flip(uri: str, offset: int, length: int) -> bytes:
        data = people.read(uri, offset, length)
        return data[:-1] + bytes([data[-1] ^ 1])

    config = SamplingConfig(sources=(2, 2), drivers=3, cache=0, readers=1)
    tables = {"identity_faces": people.identity_faces, "faces": faces}
    assert len(IdentityDataset(config, 32, "digest", people.read, **tables)[[0]].ids) == 1
    damaged = IdentityDataset(config, 32, "digest", flip, **tables)
    with pytest.raises(ValueError, match=r"image .*bytes at \d+ are damaged .*ffavatar verify"):
        damaged.load_image(damaged.people[0][1][0])
