"""Mixed precision at inference: matrix products in bfloat16, everything else in float32."""

from __future__ import annotations

import torch
from torch import nn

from ffavatar_model.model import FFAvatar

_LOW_PRECISION_LAYERS = (nn.Linear, nn.Conv2d)


def for_inference(model: FFAvatar) -> FFAvatar:
    """Prepare a model for inference, in place: ``eval``, no gradients, and on CUDA layer weights in bfloat16.

    Norms, positions, the learned mean head and all geometry stay float32. Call the model under ``mixed_precision``,
    which casts the inputs of layers. Weights are cast here once, so that calls need not cast them.
    """
    model.eval().requires_grad_(False)
    if model.rig.points.is_cuda:
        for part in (model.encoder, model.query_former, model.estimator.backbone):
            for module in part.modules():
                if isinstance(module, _LOW_PRECISION_LAYERS):
                    module.to(torch.bfloat16)
    return model


def mixed_precision(device: torch.device) -> torch.autocast:
    """Return the context in which to call a model from ``for_inference``: bfloat16 autocast, on CUDA only."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
