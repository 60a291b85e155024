"""Query-Former: a transformer in which each canonical head point attends to the tokens of all source images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffavatar_model.config import require
from ffavatar_model.networks.backbone import Mlp


def fourier(points: Tensor, octaves: int) -> Tensor:
    """Embed values x by sin(2^k π x) and cos(2^k π x).

    Args:
        points: (..., C) values, about -1 to 1.
        octaves: Number of frequencies, k = 0, 1, ...

    Returns:
        (..., C (1 + 2 octaves)): the values, then sines, then cosines.
    """
    scale = torch.pi * 2.0 ** torch.arange(octaves, device=points.device, dtype=points.dtype)
    phase = (points[..., None] * scale).flatten(-2)
    return torch.cat((points, phase.sin(), phase.cos()), -1)


class CrossAttention(nn.Module):
    """Multi-head attention from queries to tokens; queries and keys are RMS-normed.

    Queries and tokens have positions, -1 to 1 in an aligned crop; a query's position is where its head point appears on
    a frontal head. One random Fourier map embeds both, and the embeddings are added to queries and keys. So attention
    starts near the matching part of the image, and training can move it anywhere.
    """

    def __init__(self, width: int, heads: int, token_width: int, bandwidth: float) -> None:
        super().__init__()
        self.heads, head_width = heads, width // heads
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(token_width, width), nn.Linear(token_width, width)
        self.out = nn.Linear(width, width)
        self.q_norm, self.k_norm = nn.RMSNorm(head_width, eps=1e-6), nn.RMSNorm(head_width, eps=1e-6)
        for layer in (self.q, self.k):
            nn.init.normal_(layer.weight, std=0.1 / layer.in_features**0.5)
        self.frequencies = nn.Parameter(bandwidth * torch.randn(2, width))
        self.phases = nn.Parameter(2 * torch.pi * torch.rand(width))

    def _embed(self, positions: Tensor) -> Tensor:
        """Return random Fourier features (..., width) of positions (..., 2).

        The product of two positions' features is about a Gaussian of their distance. The phases are not computed by a
        matrix product, because autocast would round that to bfloat16.
        """
        x, y = positions[..., :1], positions[..., 1:]
        return (x * self.frequencies[0] + y * self.frequencies[1] + self.phases).cos()

    def keys_values(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, heads, M, head width) of tokens (B, M, token_width) at positions (M, 2)."""
        k = (self.k(tokens) + self._embed(positions)).unflatten(-1, (self.heads, -1))
        return self.k_norm(k).transpose(1, 2), self.v(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, positions: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attend to the tokens.

        Args:
            x: (B, P, width) queries.
            positions: (P, 2) positions of the queries.
            keys: (B, heads, M, head width) from ``keys_values``.
            values: (B, heads, M, head width) from ``keys_values``.
            mask: (B, 1, 1, M) bool, False hides a token; None hides none.

        Returns:
            (B, P, width) values to add to the queries.
        """
        q = self.q_norm((self.q(x) + self._embed(positions)).unflatten(-1, (self.heads, -1))).transpose(1, 2)
        return self.out(F.scaled_dot_product_attention(q, keys, values, attn_mask=mask).transpose(1, 2).flatten(2))


class QueryBlock(nn.Module):
    """Cross-attention to the tokens of all source images, then an MLP, both pre-normed and residual."""

    def __init__(self, config: QueryFormer.Config, token_width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = CrossAttention(config.width, config.heads, token_width, config.place_bandwidth)
        self.mlp = Mlp(config.width, round(config.width * config.mlp_ratio))

    def forward(
        self, x: Tensor, positions: Tensor, tokens: Tensor, token_positions: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Update the queries.

        Args:
            x: (B, P, width) queries.
            positions: (P, 2) positions of the queries.
            tokens: (B, M, token_width) tokens of all source images.
            token_positions: (M, 2) positions of the tokens.
            mask: (B, 1, 1, M) bool, False hides a token; None hides none.

        Returns:
            (B, P, width) updated queries.
        """
        keys, values = self.attention.keys_values(tokens, token_positions)
        x = x + self.attention(self.norm1(x), positions, keys, values, mask)
        return x + self.mlp(self.norm2(x))


class QueryFormer(nn.Module):
    """A transformer from canonical points to one feature per point: Fourier embedding, queries, then blocks.

    The order of the source images does not matter: attention is a sum over tokens, and a token does not contain the
    number of its image.
    """

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Size of the query former."""

        width: int = 128
        depth: int = 2
        heads: int = 4
        mlp_ratio: float = 2.0
        octaves: int = 6
        place_bandwidth: float = 3.0
        """Standard deviation of the position map's frequencies, rad per half image; larger is narrower attention."""

        def __post_init__(self) -> None:
            require(self.width % self.heads == 0, "width", self.width, f"a multiple of heads={self.heads}")
            require(self.depth >= 1, "depth", self.depth, "at least 1")

    def __init__(self, config: QueryFormer.Config, token_width: int) -> None:
        super().__init__()
        self.config = config
        self.embed = Mlp(3 * (1 + 2 * config.octaves), config.width, config.width)
        self.token_norm = nn.LayerNorm(token_width)
        self.blocks = nn.ModuleList(QueryBlock(config, token_width) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(
        self, points: Tensor, positions: Tensor, tokens: Tensor, token_positions: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Compute one feature for each canonical point.

        Args:
            points: (P, 3) canonical head points scaled to about -1 to 1.
            positions: (P, 2) position of each point on a frontal aligned head, -1 to 1.
            tokens: (B, S, T, token_width) tokens of S source images.
            token_positions: (T, 2) position of each token in its image, -1 to 1.
            mask: (B, S) bool, False for padding; every row needs at least one True. None if there is no padding.

        Returns:
            (B, P, width) features of the points.
        """
        views, per_view = tokens.shape[1:3]
        x = self.embed(fourier(points, self.config.octaves)).expand(len(tokens), -1, -1)
        keys = self.token_norm(tokens).flatten(1, 2)
        attended = None if mask is None else mask.repeat_interleave(per_view, 1)[:, None, None]
        for block in self.blocks:
            x = block(x, positions, keys, token_positions.repeat(views, 1), attended)
        return self.norm(x)
