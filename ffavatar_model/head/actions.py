"""Conversion of named facial actions (jawOpen, eyeBlinkLeft ...) to a head model's own parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ffavatar_model.head.interface import HeadModel


def actions_to_parameters(head: HeadModel, actions: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Convert strengths of facial actions to expression coefficients and joint rotations.

    If several actions rotate one joint, their axis-angle vectors are added, which is accurate for small rotations.

    Args:
        head: The head model.
        actions: Strength of each action by name, 0 (rest) to 1 (full): a tensor or array (B,), or a number.

    Returns:
        Expression coefficients (B, E) and joint rotations (B, 5, 3), axis-angle, radians.

    Raises:
        ValueError: The head has no action of a given name; the message lists its actions.
    """
    unknown = [name for name in actions if name not in head.action_names]
    if unknown:
        raise ValueError(f"head model {head.name!r} has no action {unknown[0]!r}; it has {list(head.action_names)}")
    rows = [head.action_names.index(name) for name in actions]
    values = [torch.as_tensor(v, dtype=torch.float32, device=head.template.device) for v in actions.values()]
    if not values:
        return head.action_expression.new_zeros(1, head.n_expression), head.action_rotations.new_zeros(1, 5, 3)
    strength = torch.stack(torch.broadcast_tensors(*(v.reshape(-1) for v in values)), -1)
    return strength @ head.action_expression[rows], torch.einsum("ba,ajc->bjc", strength, head.action_rotations[rows])
