"""Query-Former: every canonical head point asks the tokens of all source pictures what it looks like."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffavatar_model.config import require
from ffavatar_model.networks.backbone import Mlp


def fourier(points: Tensor, octaves: int) -> Tensor:
    """(..., C) in about -1 to 1 → (..., C (1 + 2 octaves)): the values, and sines and cosines of 2^k π times them."""
    scale = torch.pi * 2.0 ** torch.arange(octaves, device=points.device, dtype=points.dtype)
    phase = (points[..., None] * scale).flatten(-2)
    return torch.cat((points, phase.sin(), phase.cos()), -1)


class CrossAttention(nn.Module):
    """Multi-head attention of the queries to the tokens; q and k are RMS-normed.

    A query's and a token's *place* (both -1 to 1 in an aligned crop; a query's is where a frontal head shows
    its point) go through one shared random Fourier map, added to q and k. So attention starts as a soft look
    at the right part of the picture, and learning can move it anywhere.
    """

    def __init__(self, width: int, heads: int, token_width: int, place_bandwidth: float) -> None:
        super().__init__()
        self.heads, head_width = heads, width // heads
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(token_width, width), nn.Linear(token_width, width)
        self.out = nn.Linear(width, width)
        self.q_norm, self.k_norm = nn.RMSNorm(head_width, eps=1e-6), nn.RMSNorm(head_width, eps=1e-6)
        for layer in (self.q, self.k):
            nn.init.normal_(layer.weight, std=0.1 / layer.in_features**0.5)
        self.frequencies = nn.Parameter(place_bandwidth * torch.randn(2, width))
        self.phases = nn.Parameter(2 * torch.pi * torch.rand(width))

    def _place(self, places: Tensor) -> Tensor:
        """(..., 2) → (..., width) random Fourier features, whose products fall with distance as a Gaussian.

        Not a matrix product: under autocast that would round the phases to bfloat16.
        """
        x, y = places[..., :1], places[..., 1:]
        return (x * self.frequencies[0] + y * self.frequencies[1] + self.phases).cos()

    def keys_values(self, tokens: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """(B, M, token_width), (M, 2) → keys and values (B, heads, M, head width): what a view costs once."""
        k = (self.k(tokens) + self._place(places)).unflatten(-1, (self.heads, -1))
        return self.k_norm(k).transpose(1, 2), self.v(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, places: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """(B, P, width) queries at ``places (P, 2)`` → (B, P, width); ``mask (B, 1, 1, M)``: False hides a token."""
        q = self.q_norm((self.q(x) + self._place(places)).unflatten(-1, (self.heads, -1))).transpose(1, 2)
        return self.out(F.scaled_dot_product_attention(q, keys, values, attn_mask=mask).transpose(1, 2).flatten(2))


class QueryBlock(nn.Module):
    """Cross-attention to the tokens of all views, then an MLP, both pre-normed and residual."""

    def __init__(self, config: QueryFormer.Config, token_width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = CrossAttention(config.width, config.heads, token_width, config.place_bandwidth)
        self.mlp = Mlp(config.width, round(config.width * config.mlp_ratio))

    def forward(self, x: Tensor, places: Tensor, tokens: Tensor, token_places: Tensor, mask: Tensor | None) -> Tensor:
        """(B, P, width), (P, 2), (B, M, token_width), (M, 2) → (B, P, width)."""
        keys, values = self.attention.keys_values(tokens, token_places)
        x = x + self.attention(self.norm1(x), places, keys, values, mask)
        return x + self.mlp(self.norm2(x))


class QueryFormer(nn.Module):
    """Canonical points → Fourier embedding → queries → L blocks → one feature a point.

    Attention is a sum over tokens, and tokens carry no number of their view: the order of the views
    changes nothing.
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
        """Standard deviation of the place map's frequencies, rad per half picture: larger looks more narrowly."""

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
        self, points: Tensor, places: Tensor, tokens: Tensor, token_places: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Features of the canonical points.

        Args:
            points: (P, 3) canonical head points scaled to about -1 to 1.
            places: (P, 2) where a frontal aligned head shows each, -1 to 1.
            tokens: (B, S, T, token_width) of S source pictures.
            token_places: (T, 2) where each token lies in its picture.
            mask: (B, S) bool, False for padding; every row needs one True. None where nothing is padding.

        Returns:
            (B, P, width).
        """
        views, per_view = tokens.shape[1:3]
        x = self.embed(fourier(points, self.config.octaves)).expand(len(tokens), -1, -1)
        keys = self.token_norm(tokens).flatten(1, 2)
        attended = None if mask is None else mask.repeat_interleave(per_view, 1)[:, None, None]
        for block in self.blocks:
            x = block(x, places, keys, token_places.repeat(views, 1), attended)
        return self.norm(x)
