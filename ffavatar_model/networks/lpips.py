"""LPIPS: perceptual distance between two images from a network's features, for the loss and for evaluation.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018), version 0.1. The features
of five layers of AlexNet or VGG-16 are scaled to unit length at each position. Their squared differences are weighted
by channel, averaged over positions and summed over layers. The project contains no weights: the user supplies a file
with the state dict of the package ``lpips``.
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
"""Mean and standard deviation of the trunks' training images, for RGB in -1 to 1 (``ScalingLayer`` of ``lpips``)."""
LPIPS_FILE_HINT = "torch.save(lpips.LPIPS(net='vgg').state_dict(), FILE), with the package lpips, makes one"
"""Explanation, for error messages, of how to make a file of weights."""


class Convolution(NamedTuple):
    """A convolutional layer of a trunk; a ReLU follows it."""

    position: int
    """Index of the layer in torchvision's ``features``, which is part of its weights' names."""
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int


class Trunk(NamedTuple):
    """A network of five slices of convolutions; LPIPS compares the output of each slice."""

    slices: tuple[tuple[Convolution, ...], ...]
    pooled: tuple[int, ...]
    """Indices of the slices that begin with max-pooling."""
    window: int
    """Side of the pooling windows, pixels; their stride is 2."""

    @property
    def first_shape(self) -> tuple[int, ...]:
        """Shape of the first layer's weights, by which ``load_lpips`` recognises the trunk of a file."""
        c = self.slices[0][0]
        return c.outputs, c.inputs, c.kernel, c.kernel


def _plain(indices: tuple[int, ...], inputs: int, outputs: int) -> tuple[Convolution, ...]:
    """Return a slice of 3 x 3 convolutions of stride 1."""
    return tuple(Convolution(n, inputs if i == 0 else outputs, outputs, 3, 1, 1) for i, n in enumerate(indices))


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
    """A network without trainable parameters that computes image distances with a trunk, ``vgg`` or ``alex``."""

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

    def features(self, images: Tensor) -> list[Tensor]:
        """Compute the features of each slice, with unit length at each position.

        Args:
            images: (N, 3, H, W) RGB in 0 to 1.

        Returns:
            (N, C, h, w) features of each slice, float32.
        """
        x = (2 * images - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        features = []
        for i, part in enumerate(self.slices):
            if i in self.trunk.pooled:
                x = F.max_pool2d(x, self.trunk.window, 2)
            for convolution in part.children():
                x = convolution(x).relu()
            exact = x if x.dtype == torch.float64 else x.float()
            # clamped, so that the gradient of the square root is finite if all features are zero
            features.append(exact / exact.square().sum(1, keepdim=True).clamp_min(1e-20).sqrt())
        return features

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distance between the two images of each pair.

        Under autocast the convolutions run in the type of autocast; all other operations run in float32.

        Args:
            a: (N, 3, H, W) RGB in 0 to 1, at least 32 pixels along each edge.
            b: (N, 3, H, W) images that ``a`` is compared with.

        Returns:
            (N,) float32 distances.
        """
        distances = []
        for features_a, features_b, weight in zip(self.features(a), self.features(b), self.weights, strict=True):
            with torch.autocast(a.device.type, enabled=False):
                difference = (features_a - features_b).square()
                distances.append(torch.einsum("nchw,c->nhw", difference, weight).mean((1, 2)))
        return torch.stack(distances).sum(0)


def load_lpips(path: Path) -> LPIPS:
    """Load LPIPS with weights from a state dict of the package ``lpips``, written by ``torch.save``.

    No code from the file is executed.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: The file cannot be read, or its weights do not fit; the message names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"LPIPS weights {path}: no such file; {LPIPS_FILE_HINT}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"LPIPS weights {path}: not readable ({reason}); {LPIPS_FILE_HINT}") from None
    first = state.get("net.slice1.0.weight") if isinstance(state, Mapping) else None
    shape = tuple(first.shape) if isinstance(first, Tensor) else None
    trunk = next((name for name, each in TRUNKS.items() if each.first_shape == shape), None)
    if trunk is None:
        raise ValueError(f"LPIPS weights {path}: no net.slice1.0.weight of VGG-16 or AlexNet in it; {LPIPS_FILE_HINT}")
    model = LPIPS(trunk)
    with torch.no_grad():
        for name, parameter in parameters_by_file_name(model).items():
            value = state.get(name)
            if not isinstance(value, Tensor) or value.numel() != parameter.numel():
                there = "missing" if value is None else f"of shape {tuple(getattr(value, 'shape', ()))}"
                raise ValueError(
                    f"LPIPS weights {path}: {name} is {there}, {tuple(parameter.shape)} needed; {LPIPS_FILE_HINT}"
                )
            parameter.copy_(value.view_as(parameter))
    return model


def parameters_by_file_name(model: LPIPS) -> dict[str, nn.Parameter]:
    """Return the model's parameters by their names in the package ``lpips``."""
    parameters: dict[str, nn.Parameter] = {}
    for i, (part, weight) in enumerate(zip(model.trunk.slices, model.weights, strict=True)):
        for j, convolution in enumerate(part):
            for kind in ("weight", "bias"):
                name = f"net.slice{i + 1}.{convolution.position}.{kind}"
                parameters[name] = model.get_parameter(f"slices.{i}.{j}.{kind}")
        parameters[f"lin{i}.model.1.weight"] = weight
    return parameters
