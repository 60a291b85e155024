"""A vision transformer or DINOv2 with registers, behind one interface: images in, tokens of several layers out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffavatar_model.config import require

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Mlp(nn.Sequential):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int, out: int | None = None) -> None:
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out or width))


class TransformerBlock(nn.Module):
    """A transformer block: self-attention and MLP, both pre-normed and residual."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = Mlp(width, round(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (N, T, width) into tokens of the same shape."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


def grid_centres(side: int) -> Tensor:
    """Return the cell centres (x, y) of a square grid over -1 to 1, (side², 2), row by row, y down."""
    centres = (torch.arange(side) + 0.5) * (2 / side) - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack((x, y), -1).flatten(0, 1)


class Backbone(nn.Module):
    """A ViT of any size. It returns patch tokens; class and register tokens are used inside only."""

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Architecture and, for DINOv2, the source of its weights."""

        kind: Literal["vit", "dinov2"] = "vit"
        image_size: int = 128
        """Pixels along the edge to which images are resized."""
        patch: int = 8
        """Pixels along the edge of a patch."""
        stem: Literal["patch", "convolutions"] = "patch"
        """Layers from patches to tokens: ``patch`` is one linear layer; ``convolutions`` each halve the image.

        Convolutions need ``kind="vit"`` and a ``patch`` that is a power of two.
        """
        width: int = 128
        depth: int = 4
        heads: int = 4
        mlp_ratio: float = 4.0
        registers: int = 4
        """Number of register tokens."""
        weights: str = ""
        """Local folder, or name of a model for ``transformers`` (``dinov2`` only); empty for random weights."""

        def __post_init__(self) -> None:
            divisible = self.image_size % self.patch == 0
            require(divisible, "image_size", self.image_size, f"a multiple of patch={self.patch}")
            require(self.width % self.heads == 0, "width", self.width, f"a multiple of heads={self.heads}")
            require(self.depth >= 1, "depth", self.depth, "at least 1")
            stem_fits = self.stem == "patch" or (self.kind == "vit" and self.patch & (self.patch - 1) == 0)
            require(stem_fits, "stem", self.stem, "convolutions need kind='vit' and a patch that is a power of two")
            takes_weights = self.kind == "dinov2" or not self.weights
            require(takes_weights, "weights", self.weights, "only kind='dinov2' takes weights")

    mean: Tensor
    std: Tensor
    registers: Tensor
    position: Tensor

    def __init__(self, config: Backbone.Config) -> None:
        super().__init__()
        self.config = config
        self.side = config.image_size // config.patch
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        if config.kind == "dinov2":
            self.dino: Any = _dinov2(config)
        else:
            self.embed: nn.Module = nn.Conv2d(3, config.width, config.patch, config.patch)
            if config.stem == "convolutions":
                self.embed = _convolutions(config.width, config.patch)
            self.position = nn.Parameter(0.02 * torch.randn(self.side**2, config.width))
            self.registers = nn.Parameter(0.02 * torch.randn(config.registers, config.width))
            size = (config.width, config.heads, config.mlp_ratio)
            self.blocks = nn.ModuleList(TransformerBlock(*size) for _ in range(config.depth))
            self.norm = nn.LayerNorm(config.width)

    def forward(self, images: Tensor, layers: tuple[int, ...] = ()) -> list[Tensor]:
        """Compute the patch tokens of several layers.

        Args:
            images: (N, 3, H, W) RGB in 0 to 1; resized to ``image_size``.
            layers: Numbers of the layers, 0 for the patch embedding; empty for the last layer.

        Returns:
            Tokens (N, T, width) of each layer in ``layers``.
        """
        size = self.config.image_size
        if images.shape[-1] != size or images.shape[-2] != size:
            images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
        images = (images - self.mean) / self.std
        layers = layers or (self.config.depth,)
        if self.config.kind == "dinov2":
            states = self.dino(images, output_hidden_states=True).hidden_states
            return [self.dino.layernorm(states[i])[:, -(self.side**2) :] for i in layers]
        x = self.embed(images).flatten(2).transpose(1, 2) + self.position
        x = torch.cat((self.registers.expand(len(x), -1, -1), x), 1)
        states = [x]
        for block in self.blocks:
            x = block(x)
            states.append(x)
        states[-1] = self.norm(x)
        return [states[i][:, self.config.registers :] for i in layers]


def _convolutions(width: int, patch: int) -> nn.Sequential:
    """Build a stem of 3 x 3 convolutions of stride 2 and increasing width.

    It maps (N, 3, H, W) to (N, width, H / patch, W / patch). Training from random weights then needs far fewer steps
    (Xiao et al., "Early Convolutions Help Transformers See Better", 2021).
    """
    n = patch.bit_length() - 1
    widths = [3, *(max(24, width >> (n - i)) for i in range(1, n + 1))]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(1, after), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], width, 1))


def _dinov2(config: Backbone.Config) -> nn.Module:
    """Load DINOv2 with registers from a folder or by name, or build it with random weights of the configured size."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    if config.weights:
        if config.weights.startswith(("/", ".")) and not Path(config.weights).is_dir():
            raise ValueError(f"weights={config.weights!r}: no such folder; give one with a DINOv2 (registers) model")
        model = Dinov2WithRegistersModel.from_pretrained(config.weights)
        found = (model.config.hidden_size, model.config.num_hidden_layers, model.config.patch_size)
        expected = (config.width, config.depth, config.patch)
        if found != expected:
            raise ValueError(f"weights={config.weights!r}: width, depth, patch are {found}, configured {expected}")
        return model
    return Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            mlp_ratio=int(config.mlp_ratio),
            image_size=config.image_size,
            patch_size=config.patch,
            num_register_tokens=config.registers,
        )
    )
