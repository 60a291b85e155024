"""Predictor of a person's shape: tokens of source views → shape coefficients of the head model."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ShapePredictor(nn.Module):
    """Pooled tokens of all source views, and a linear layer that starts at zero: untrained, it gives the mean head.

    The mean over tokens says what a view shows; a few channels kept for each token say where, as in the estimator.
    Views are averaged, so their order changes nothing.
    """

    LIMIT = 3.0
    """Largest coefficient, standard deviations of the population."""

    def __init__(self, width: int, tokens: int, n_shape: int) -> None:
        """Build the layers.

        Args:
            width: Size of a token.
            tokens: Number of tokens of a view.
            n_shape: Number of coefficients.
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
            tokens: (B, S, T, width) tokens of S source views.
            mask: (B, S) bool, False is padding; None where there is no padding.

        Returns:
            (B, n_shape), within ``LIMIT``.
        """
        tokens = self.norm(tokens)
        views = torch.cat((tokens.mean(2), self.places(self.pool(tokens).flatten(2))), -1)
        if mask is None:
            pooled = views.mean(1)
        else:
            pooled = (views * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
        return self.LIMIT * torch.tanh(self.head(pooled).float() / self.LIMIT)
