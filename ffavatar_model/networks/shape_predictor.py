"""Predictor of a person's shape coefficients from the tokens of the source images."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ShapePredictor(nn.Module):
    """A linear layer on the pooled tokens of all source images.

    The layer is initialised with zeros, so the untrained predictor gives the mean head. A mean over tokens has no
    information on their positions; a few channels of each token add it, as in the estimator. Images are averaged, so
    their order does not matter.
    """

    LIMIT = 3.0
    """Largest absolute value of a coefficient, in standard deviations of the population."""

    def __init__(self, width: int, tokens: int, n_shape: int) -> None:
        """Build the layers.

        Args:
            width: Size of a token.
            tokens: Number of tokens per image.
            n_shape: Number of shape coefficients.
        """
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.pool = nn.Linear(width, 8)
        self.places = nn.Linear(8 * tokens, width)
        self.head = nn.Linear(2 * width, n_shape)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Predict the shape coefficients of B people.

        Args:
            tokens: (B, S, T, width) tokens of S source images.
            mask: (B, S) bool, False for padding; None if there is no padding.

        Returns:
            (B, n_shape) coefficients within ``LIMIT``.
        """
        tokens = self.norm(tokens)
        views = torch.cat((tokens.mean(2), self.places(self.pool(tokens).flatten(2))), -1)
        if mask is None:
            pooled = views.mean(1)
        else:
            pooled = (views * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        return self.LIMIT * torch.tanh(self.head(pooled).float() / self.LIMIT)
