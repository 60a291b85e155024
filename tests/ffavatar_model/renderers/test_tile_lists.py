"""Tile lists of a fixed capacity hold what a plain loop finds; images and gradients are those of gsplat's own."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from ffavatar_model.camera import virtual_intrinsics
from ffavatar_model.renderers import render_gaussians
from ffavatar_model.renderers.gsplat_tile_lists import TILE_PX, tile_lists

WIDTH, HEIGHT = 70, 50


def by_hand(means: Tensor, radii: Tensor, depths: Tensor) -> dict[tuple[int, int, int], list[int]]:
    """(image, row, column) → flat indices of its Gaussians, nearest first."""
    found: dict[tuple[int, int, int], list[tuple[float, int]]] = {}
    columns, rows = math.ceil(WIDTH / TILE_PX), math.ceil(HEIGHT / TILE_PX)
    n = depths.shape[1]
    for image in range(len(depths)):
        for i in range(n):
            (x, y), (rx, ry) = means[image, i].tolist(), radii[image, i].tolist()
            if rx <= 0 or ry <= 0:
                continue
            for row in range(rows):
                for column in range(columns):
                    across = x - rx < (column + 1) * TILE_PX and x + rx > column * TILE_PX
                    if across and y - ry < (row + 1) * TILE_PX and y + ry > row * TILE_PX:
                        found.setdefault((image, row, column), []).append((float(depths[image, i]), image * n + i))
    return {place: [index for _, index in sorted(entries)] for place, entries in found.items()}


def scene(n_images: int = 3, n: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(5)
    means = torch.rand(n_images, n, 2, generator=random) * torch.tensor([WIDTH + 30.0, HEIGHT + 30.0]) - 15
    radii = torch.randint(0, 14, (n_images, n, 2), generator=random, dtype=torch.int32)
    depths = torch.rand(n_images, n, generator=random) + 0.5
    for place, unwritten in enumerate((float("nan"), -1.0)):  # what is culled is left unwritten
        means[1, place], radii[1, place], depths[1, place] = float("nan"), 0, unwritten
    return means, radii, depths


@pytest.mark.parametrize("n_images", [1, 3])
@pytest.mark.parametrize("spare", [0, 1, 1000])
def test_lists_are_those_of_a_plain_loop(spare: int, n_images: int) -> None:
    means, radii, depths = (value[-n_images:] for value in scene())
    expected = by_hand(means, radii, depths)
    total = sum(len(entries) for entries in expected.values())
    lists = tile_lists(means, radii, depths, WIDTH, HEIGHT, total + spare)
    assert int(lists.crossings) == total
    ends = [*lists.offsets.flatten().tolist(), total + spare]
    rows, columns = lists.offsets.shape[1:]
    for tile, (begin, end) in enumerate(itertools.pairwise(ends)):
        place = (tile // (rows * columns), tile // columns % rows, tile % columns)
        assert lists.members[begin:end].tolist() == expected.get(place, []), place


def test_too_little_room_is_told() -> None:
    means, radii, depths = scene()
    total = sum(len(entries) for entries in by_hand(means, radii, depths).values())
    lists = tile_lists(means, radii, depths, WIDTH, HEIGHT, total // 2)
    assert int(lists.crossings) == total and len(lists.members) == total // 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_images_and_gradients_are_gsplats_own() -> None:
    from ffavatar_model.renderers.gsplat_cuda import FixedLists, fixed_lists

    random = torch.Generator().manual_seed(2)
    values = (
        0.1 * torch.randn(3, 2000, 3, generator=random),
        torch.randn(3, 2000, 4, generator=random),
        0.01 * torch.rand(3, 2000, 3, generator=random),
        torch.rand(3, 2000, generator=random),
        torch.rand(3, 2000, 3, generator=random),
    )
    camera = torch.cat((torch.eye(3), torch.tensor([[0.0], [0.0], [1.0]])), 1).expand(3, 2, 3, 4).cuda()
    K = virtual_intrinsics(100).expand(3, 2, 3, 3).cuda()
    weight = torch.rand(3, 2, 3, 100, 100, generator=random).cuda()

    def run() -> tuple[Tensor, list[Tensor]]:
        inputs = [value.cuda().requires_grad_() for value in values]
        rgb = render_gaussians(*inputs, camera, K, 100, 100).rgb
        (rgb * weight).sum().backward()
        return rgb.detach(), [value.grad for value in inputs]

    own, own_gradients = run()
    with fixed_lists(FixedLists(500_000)) as lists:
        fixed, gradients = run()
    assert 0 < int(lists.crossings[0]) < 500_000
    torch.testing.assert_close(fixed, own, rtol=0, atol=1e-5)
    for one, other in zip(gradients, own_gradients, strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-4
