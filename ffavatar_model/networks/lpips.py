"""LPIPS: how unlike two pictures look, by the features of a network; for loss and evaluation.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018), version 0.1: features of
five layers of AlexNet or VGG-16, each position's of unit length: squared differences, weighted by channel, averaged
over positions, summed over layers. No weights come with the project: the user's file holds what the package ``lpips``
keeps in memory, under its names.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Mean and deviation of what the trunks were trained on, for RGB in -1 to 1 (the package's ``ScalingLayer``)."""
MADE_BY = "torch.save(lpips.LPIPS(net='vgg').state_dict(), FILE), with the package lpips, makes one"


class Convolution(NamedTuple):
    """One layer of a trunk; ReLU follows it."""

    place: int
    """In torchvision's ``features``: part of the weights' names."""
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int


class Trunk(NamedTuple):
    """Five slices of convolutions; each slice's output is compared."""

    slices: tuple[tuple[Convolution, ...], ...]
    pooled: tuple[int, ...]
    """Slices that begin with max-pooling."""
    window: int
    """Side of the pooling windows, two apart."""

    @property
    def first_shape(self) -> tuple[int, ...]:
        """Of the first weights, which tell the trunks apart."""
        c = self.slices[0][0]
        return c.outputs, c.inputs, c.kernel, c.kernel


def _plain(places: tuple[int, ...], inputs: int, outputs: int) -> tuple[Convolution, ...]:
    return tuple(Convolution(p, inputs if i == 0 else outputs, outputs, 3, 1, 1) for i, p in enumerate(places))


TRUNKS: Mapping[str, Trunk] = {
    "vgg": Trunk(
        (
            _plain((0, 2), 3, 64),
            _plain((5, 7), 64, 128),
            _plain((10, 12, 14), 128, 256),
            _plain((17, 19, 21), 256, 512),
            _plain((24, 26, 28), 512, 512),
        ),
        pooled=(1, 2, 3, 4),
        window=2,
    ),
    "alex": Trunk(
        (
            (Convolution(0, 3, 64, 11, 4, 2),),
            (Convolution(3, 64, 192, 5, 1, 2),),
            _plain((6,), 192, 384),
            _plain((8,), 384, 256),
            _plain((10,), 256, 256),
        ),
        pooled=(1, 2),
        window=3,
    ),
}


class LPIPS(nn.Module):
    """Distances of pictures by the features of a trunk, ``vgg`` or ``alex``; nothing in it is trained."""

    def __init__(self, trunk: str) -> None:
        super().__init__()
        self.trunk = TRUNKS[trunk]
        self.slices = nn.ModuleList(
            nn.Sequential(*(nn.Conv2d(c.inputs, c.outputs, c.kernel, c.stride, c.padding) for c in part))
            for part in self.trunk.slices
        )
        self.weights = nn.ParameterList(torch.ones(part[-1].outputs) for part in self.trunk.slices)
        for name, values in (("shift", SHIFT), ("scale", SCALE)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """(N, 3, H, W) RGB in 0 to 1 → (N, C, h, w) of each slice, of unit length at each position, float32."""
        x = (2 * pictures - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        found = []
        for i, part in enumerate(self.slices):
            if i in self.trunk.pooled:
                x = F.max_pool2d(x, self.trunk.window, 2)
            for convolution in part.children():
                x = convolution(x).relu()
            whole = x if x.dtype == torch.float64 else x.float()
            # The root's gradient is finite where nothing is felt at all.
            found.append(whole / whole.square().sum(1, keepdim=True).clamp_min(1e-20).sqrt())
        return found

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(N,) distances of pictures (N, 3, H, W), RGB in 0 to 1, at least 32 pixels a side, in float32.

        Under autocast the convolutions run in its type, what is compared and summed does not.
        """
        distances = []
        for ours, theirs, weight in zip(self.features(a), self.features(b), self.weights, strict=True):
            with torch.autocast(a.device.type, enabled=False):
                distances.append(torch.einsum("nchw,c->nhw", (ours - theirs).square(), weight).mean((1, 2)))
        return torch.stack(distances).sum(0)


def load_lpips(path: Path) -> LPIPS:
    """LPIPS with the weights in a file that ``torch.save`` wrote, under the names of the package ``lpips``.

    Nothing in the file is executed. Raises ``ValueError`` or ``FileNotFoundError``, one line that names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"LPIPS weights {path}: no such file; {MADE_BY}")
    try:
        given = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"LPIPS weights {path}: not readable ({reason}); {MADE_BY}") from None
    first = given.get("net.slice1.0.weight") if isinstance(given, Mapping) else None
    shape = tuple(first.shape) if isinstance(first, Tensor) else None
    trunk = next((name for name, each in TRUNKS.items() if each.first_shape == shape), None)
    if trunk is None:
        raise ValueError(f"LPIPS weights {path}: no net.slice1.0.weight of VGG-16 or AlexNet in it; {MADE_BY}")
    model = LPIPS(trunk)
    with torch.no_grad():
        for name, parameter in named(model).items():
            value = given.get(name)
            if not isinstance(value, Tensor) or value.numel() != parameter.numel():
                there = "missing" if value is None else f"of shape {tuple(getattr(value, 'shape', ()))}"
                raise ValueError(f"LPIPS weights {path}: {name} is {there}, {tuple(parameter.shape)} needed; {MADE_BY}")
            parameter.copy_(value.view_as(parameter))
    return model


def named(model: LPIPS) -> dict[str, nn.Parameter]:
    """The parameters by the names that they have in the package ``lpips``."""
    found: dict[str, nn.Parameter] = {}
    for i, (part, weight) in enumerate(zip(model.trunk.slices, model.weights, strict=True)):
        for j, convolution in enumerate(part):
            for kind in ("weight", "bias"):
                found[f"net.slice{i + 1}.{convolution.place}.{kind}"] = model.get_parameter(f"slices.{i}.{j}.{kind}")
        found[f"lin{i}.model.1.weight"] = weight
    return found
