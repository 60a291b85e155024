"""AdamW with one learning rate for layers and one for per-point values; warm-up and cosine."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ffavatar_model.training.config import Optimizer

PER_POINT = ("gaussians.mean_raw", "personal.raw")
"""Parameters that hold one row a head point: each row sees few pixels, so they move faster."""


def build_optimizer(config: Optimizer, model: nn.Module, graphed: bool = False) -> torch.optim.AdamW:
    """Groups: matrices (decayed), vectors, per-point values. ``peak`` in a group is its highest learning rate.

    ``graphed`` makes one that can be part of a CUDA graph (``training.graphed``).
    """
    groups: dict[str, list[nn.Parameter]] = {"matrices": [], "vectors": [], "points": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = "points" if name in PER_POINT else "matrices" if parameter.ndim > 1 else "vectors"
            groups[kind].append(parameter)
    rates = {"matrices": config.lr, "vectors": config.lr, "points": config.mean_head_lr}
    settings: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": rates[kind],
            "peak": rates[kind],
            "weight_decay": config.weight_decay if kind == "matrices" else 0.0,
        }
        for kind, parameters in groups.items()
        if parameters
    ]
    if not settings:
        raise ValueError("no parameter is trained: every one is frozen by moves")
    on_gpu = all(p.is_cuda for p in model.parameters())
    if graphed:  # rates in tensors: a graph reads them anew at each replay
        for group in settings:
            group["lr"] = torch.tensor(group["lr"], device=group["params"][0].device)
    return torch.optim.AdamW(settings, betas=config.betas, fused=on_gpu or None, capturable=graphed)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: Optimizer, step: int, progress: float) -> float:
    """Linear warm-up over ``config.warmup`` steps, times a cosine over the run's progress down to ``config.final``.

    Every group's ``rate`` is set, and its ``lr`` where that is a number; returns that of the first group.
    """
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    share = config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    for group in optimizer.param_groups:
        group["rate"] = group["peak"] * warm * share
        if not isinstance(group["lr"], torch.Tensor):  # a graphed step fills it in when it is launched
            group["lr"] = group["rate"]
    return float(optimizer.param_groups[0]["rate"])
