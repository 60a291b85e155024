"""Bytes to a batch: images, mattes and landmarks change together, by the sample's own random numbers alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ffavatar_model.data.augment import PER_IMAGE, PER_PERSON, Augment, Degrade, draw_random, prepare_batch
from ffavatar_model.data.batch import RawBatch
from ffavatar_model.data.dataset import IdentityDataset, MultiviewDataset
from ffavatar_model.data.prefetch import load_batches
from ffavatar_model.data.sampling import SamplingConfig

CHANGED = Augment(turn=20, zoom=0.2, shift=0.1, light=0.4)
WORSE = Degrade(colour=0.3, blur=1.0, noise=0.1, matte=0.3)


@pytest.fixture
def crops(people, few_to_many: SamplingConfig) -> IdentityDataset:
    config = replace(few_to_many, augment=CHANGED, degrade=WORSE)
    return IdentityDataset(config, 32, "digest", people.read, identity_faces=people.identity_faces, faces=people.faces)


def row(raw: RawBatch, index: int, **changes: object) -> RawBatch:
    own = {name: value[index : index + 1] for name, value in raw.tensors().items()}
    return replace(raw, **own, seeds=raw.seeds[index : index + 1], ids=raw.ids[index : index + 1], **changes)


def test_a_dot_drawn_at_a_landmark_is_still_there_after_turn_zoom_and_shift(crops: IdentityDataset) -> None:
    raw, at = crops[[0, 1]], torch.tensor([0.55, 0.4])
    y, x = torch.meshgrid((torch.arange(64) + 0.5) / 64, (torch.arange(64) + 0.5) / 64, indexing="ij")
    dot = 1 - torch.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 0.03**2))
    pixels = torch.full((2, 5, 4, 64, 64), 255, dtype=torch.uint8)
    pixels[:, :, :3] = (dot * 255).byte()
    raw = replace(raw, pixels=pixels, landmarks=at.expand(2, 3, 468, 2))
    moved = prepare_batch(raw, Augment(turn=30, zoom=0.2, shift=0.1), Degrade())
    dark = 1 - moved.drivers[:, :, 0]
    total = dark.sum((-1, -2))
    centre = torch.stack(((dark * x).sum((-1, -2)) / total, (dark * y).sum((-1, -2)) / total), -1)
    torch.testing.assert_close(centre, moved.landmarks[:, :, 0], atol=0.01, rtol=0)
    assert (moved.landmarks[:, :, 0] - at).norm(dim=-1).max() > 0.04
    assert (moved.sources != prepare_batch(raw, Augment(), Degrade()).sources).any(), "sources are framed anew as well"


def test_known_cameras_keep_their_framing_whoever_else_is_in_the_batch(
    people, few_to_many: SamplingConfig, crops: IdentityDataset
) -> None:
    views = MultiviewDataset(few_to_many, 32, "digest", people.read, views=people.views, cameras=people.cameras)
    raw = views[[0, 1]]
    plain, framed = (prepare_batch(raw, a, Degrade()) for a in (Augment(), Augment(turn=20, zoom=0.1, shift=0.1)))
    torch.testing.assert_close(framed.drivers, plain.drivers, atol=1e-5, rtol=0)
    torch.testing.assert_close(framed.landmarks, plain.landmarks)
    mixed = replace(raw, known=False, known_camera=torch.tensor([[True] * 3, [False] * 3]))
    framed = prepare_batch(mixed, Augment(turn=20, zoom=0.1, shift=0.1), Degrade())
    torch.testing.assert_close(framed.drivers[0], plain.drivers[0], atol=1e-5, rtol=0)
    assert (framed.drivers[1] - plain.drivers[1]).abs().max() > 0.1


def test_light_changes_the_head_and_not_the_background(crops: IdentityDataset) -> None:
    raw = crops[[1]]
    plain, lit = (prepare_batch(raw, a, Degrade()) for a in (Augment(), Augment(light=0.5)))
    outside = plain.mattes.expand_as(plain.drivers) == 0
    torch.testing.assert_close(lit.drivers[outside], plain.drivers[outside])
    given = raw.source_mask[0]
    assert (lit.drivers - plain.drivers).abs().max() > 0.05
    assert (lit.sources - plain.sources)[0, given].abs().max() > 0.05


def test_only_what_the_networks_see_is_degraded(crops: IdentityDataset) -> None:
    raw = crops[[0, 1]]
    clean, worse = prepare_batch(raw, CHANGED, Degrade()), prepare_batch(raw, CHANGED, WORSE)
    assert clean.estimator_drivers is None and worse.estimator_drivers is not None
    for name in ("drivers", "mattes", "landmarks"):
        assert torch.equal(getattr(clean, name), getattr(worse, name)), name
    assert (worse.estimator_drivers - worse.drivers).abs().max() > 0.05 and (
        worse.sources - clean.sources
    ).abs().max() > 0.05
    assert worse.estimator_drivers.min() >= 0 and worse.estimator_drivers.max() <= 1


def test_a_shared_colour_is_that_of_every_image_of_a_sample(crops: IdentityDataset) -> None:
    raw = crops[[0, 1]]
    plain, own, shared = (
        prepare_batch(raw, Augment(), d) for d in (Degrade(), Degrade(colour=0.3), Degrade(colour=0.3, shared=True))
    )
    assert torch.equal(own.drivers, plain.drivers), "one draw an image is for the networks' inputs alone"
    torch.testing.assert_close(shared.estimator_drivers, shared.drivers)
    assert (shared.drivers - plain.drivers).abs().max() > 0.01, "the images that are compared have the colour, too"
    outside = plain.mattes.expand_as(plain.drivers) == 0
    assert (shared.drivers[outside] == 1).all(), "the background keeps its colour"


def test_a_person_s_images_are_the_same_for_any_number_of_workers(crops: IdentityDataset) -> None:
    """One worker with four people, two with two each, four with one: every tensor of every person is equal."""
    whole = crops.batch(range(8, 12))
    for share in (1, 2):
        for begin in range(0, 4, share):
            part = crops.batch(range(8 + begin, 8 + begin + share))
            assert part.ids == whole.ids[begin : begin + share]
            for name, value in part.tensors().items():
                assert torch.equal(value, whole.tensors()[name][begin : begin + share]), name
    assert not torch.equal(crops.batch([8]).sources, crops.batch([8 + len(crops)]).sources)


def test_loader_processes_hand_over_the_same_bytes(crops: IdentityDataset) -> None:
    cursors = [[2 * i, 2 * i + 1] for i in range(3)]
    for here, there in zip(load_batches(crops, cursors, 0), load_batches(crops, cursors, 1), strict=True):
        assert here.ids == there.ids and here.seeds == there.seeds and there.pixels.dtype == torch.uint8
        for name, value in here.tensors().items():
            assert torch.equal(value, there.tensors()[name]), name


def test_changes_are_drawn_for_each_sample_and_spread_evenly() -> None:
    draws, person, seed = draw_random(2000, torch.Generator().manual_seed(1))
    assert draws.shape == (2000, PER_IMAGE) and person.shape == (PER_PERSON,) and seed > 2**32
    assert draws.mean(0).abs().max() < 0.06 and (draws.var(0) - 1 / 3).abs().max() < 0.03
    assert abs(float(torch.corrcoef(draws.T).fill_diagonal_(0).abs().max())) < 0.12


def test_padding_is_background_and_is_masked(crops: IdentityDataset) -> None:
    raw = next(raw for i in range(20) if (raw := crops[[i]]).padded)
    batch = prepare_batch(raw, Augment(), Degrade())
    assert batch.source_mask.tolist() == [[True, False]] and (batch.sources[0, 1] == 1).all()
    again = row(crops[[0, 1]], 1)
    assert again.ids[0] == crops[[1]].ids[0]
