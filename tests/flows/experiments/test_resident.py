"""Images that lie on the device: the same rule of order, and images and landmarks change together."""

from __future__ import annotations

import threading

import pytest
import torch

from ffavatar_model.data.augment import Augment, Degrade
from ffavatar_model.data.sampling import SamplingConfig
from flows.experiments.device_images import ResidentData, ResidentImages
from flows.experiments.mixture import Mixture

SIZE = 64


def a_person(name: str, n: int = 5, around: bool = False, irises: bool = True) -> ResidentImages:
    """White dots on black, and their landmark."""
    g = torch.Generator().manual_seed(ord(name))
    at = torch.randint(22, 42, (n, 2), generator=g)
    rgb = torch.zeros(n, 3, SIZE, SIZE, dtype=torch.uint8)
    for i, (x, y) in enumerate(at.tolist()):
        rgb[i, :, y - 1 : y + 2, x - 1 : x + 2] = 255
    known = (
        {
            "K": torch.eye(3).expand(n, 3, 3),
            "head_to_camera": torch.eye(3, 4).expand(n, 3, 4),
            "timestep": torch.arange(n) // 2,
            "source": torch.arange(n) > 0,
        }
        if around
        else {}
    )
    landmarks = ((at + 0.5) / SIZE)[:, None].expand(n, 468, 2)
    return ResidentImages(
        person=name,
        ids=[f"{name}{i}" for i in range(n)],
        rgb=rgb,
        landmarks=landmarks,
        matte=torch.full((n, 1, SIZE, SIZE), 255, dtype=torch.uint8),
        has_landmarks=torch.ones(n, dtype=torch.bool),
        irises=landmarks[:, :2] if irises else None,
        **known,
    )


def data_of(*people: ResidentImages, **settings: object) -> ResidentData:
    config = SamplingConfig(**{"sources": (1, 2), "drivers": 2, **settings})  # type: ignore[arg-type]
    data = ResidentData(config, SIZE, "digest", 40)
    for person in people:
        data.add(person)
    return data


def test_a_dot_and_its_landmark_move_together() -> None:
    data = data_of(a_person("a"), augment=Augment(turn=25, zoom=0.2, shift=0.1))
    batch = data.batch([0, 1, 2])
    line = torch.arange(SIZE) + 0.5
    brightness = batch.drivers.mean(2)
    total = brightness.sum((-1, -2))
    x, y = (brightness.sum(-2) * line).sum(-1) / total / SIZE, (brightness.sum(-1) * line).sum(-1) / total / SIZE
    torch.testing.assert_close(torch.stack((x, y), -1), batch.landmarks[:, :, 0], atol=4e-3, rtol=0)
    assert batch.irises is not None
    torch.testing.assert_close(batch.irises, batch.landmarks[:, :, :2])
    assert data_of(a_person("a"), a_person("b", irises=False)).batch([0, 1]).irises is None
    assert batch.padded is False and batch.known is False and batch.source_mask.all()


def test_the_order_depends_on_the_cursor_alone() -> None:
    data = data_of(*map(a_person, "abcd"), augment=Augment(turn=5), degrade=Degrade(colour=0.2, noise=0.05))
    first, again = data.batch([4, 5]), data.batch([4, 5])
    assert first.ids == again.ids
    for name, value in first.tensors().items():
        assert torch.equal(value, again.tensors()[name]), name
    epoch = [data.batch([cursor]).ids[0][0] for cursor in range(4)]
    assert sorted(epoch) == ["a", "b", "c", "d"]
    for ids in data.batch(range(8)).ids:
        assert len(set(ids)) == len(ids), "a driver is no source"


def test_shares_of_workers_make_up_the_step() -> None:
    changes = {"augment": Augment(turn=5, light=0.2), "degrade": Degrade(colour=0.2, noise=0.05, matte=0.2)}
    data = data_of(*map(a_person, "abcdef"), sources=(1, 3), **changes)
    counts = set()
    for step in range(6):
        whole = data.batch(range(4 * step, 4 * step + 4), 4)
        counts.add(whole.sources.shape[1])
        for rank in (0, 1):
            own = slice(2 * rank, 2 * rank + 2)
            part = data.batch(range(4 * step, 4 * step + 4)[own], 4)
            assert part.ids == whole.ids[own]
            for name, value in part.tensors().items():
                assert torch.equal(value, whole.tensors()[name][own]), name
    assert len(counts) > 1


def test_only_what_the_networks_see_is_degraded() -> None:
    data = data_of(a_person("a"), degrade=Degrade(colour=0.5, blur=1.0, noise=0.1, matte=0.3))
    batch = data.batch([0])
    assert batch.estimator_drivers is not None and (batch.estimator_drivers - batch.drivers).abs().max() > 0.05
    plain = data_of(a_person("a")).batch([0])
    assert torch.equal(plain.drivers, batch.drivers) and plain.estimator_drivers is None


def test_known_cameras_keep_their_frames_and_sources_show_the_face() -> None:
    data = data_of(a_person("a", 6, around=True), augment=Augment(turn=25, shift=0.2))
    for cursor in range(6):
        batch = data.batch([cursor])
        assert batch.known and len(set(batch.timestep[0].tolist())) == 1
        n = batch.sources.shape[1]
        assert "a0" not in batch.ids[0][1 : 1 + n]
        line = torch.arange(SIZE) + 0.5
        brightness = batch.drivers[0].mean(1)
        x = (brightness.sum(-2) * line).sum(-1) / brightness.sum((-1, -2)) / SIZE
        torch.testing.assert_close(x, batch.landmarks[0, :, 0, 0], atol=1e-3, rtol=0)


def test_people_may_come_while_batches_are_drawn_and_full_is_full() -> None:
    data = data_of(a_person("a"))
    thread = threading.Thread(target=lambda: [data.add(a_person(name)) for name in "bcdefgh"])
    thread.start()
    for cursor in range(30):
        assert data.batch([cursor]).ids[0][0] in "abcdefgh"
    thread.join()
    assert len(data) == 8
    with pytest.raises(ValueError, match="no room for 5 more"):
        data.add(a_person("i"))
    with pytest.raises(ValueError, match="images of 64 pixels, 32 are held"):
        ResidentData(data.config, 32, "", 9).add(a_person("a"))


def test_a_mixture_takes_its_share_of_whole_batches_and_each_part_keeps_its_order() -> None:
    main, other = data_of(*(a_person(n, 6, around=True) for n in "abc")), data_of(*map(a_person, "xyz"))
    mixture = Mixture(main, other, 0.25, 4)
    batches = [mixture.batch(range(4 * i, 4 * i + 4)) for i in range(8)]
    assert [batch.known for batch in batches] == [True, True, True, False, True, True, True, False]
    own = [main.batch(range(4 * i, 4 * i + 4)).ids for i in range(6)]
    assert [batch.ids for batch in batches if batch.known] == own
    others = [other.batch(range(4 * i, 4 * i + 4)).ids for i in range(2)]
    assert [batch.ids for batch in batches if not batch.known] == others
    halves = mixture.batch([12, 13]).ids[0][0], mixture.batch([14, 15]).ids[0][0]
    assert halves == (batches[3].ids[0][0], batches[3].ids[2][0]), "on two workers each has its half of the same step"
    assert len(mixture) == 6
    with pytest.raises(ValueError, match=r"share=1\.0"):
        Mixture(main, other, 1.0, 4)
