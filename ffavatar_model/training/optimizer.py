"""AdamW with one learning rate for layers and one for per-point values; warm-up and cosine."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ffavatar_model.training.config import Optimizer

PER_POINT = ("gaussians.mean_raw", "personal.raw")
"""Parameters that hold one row a head point: each row gets gradients from few pixels, so their rate is higher."""


def build_optimizer(config: Optimizer, model: nn.Module, graphed: bool = False) -> torch.optim.AdamW:
    """Build AdamW over the trainable parameters.

    There are three groups: matrices (with weight decay), vectors, and per-point values. ``peak`` in a group is its
    highest learning rate.

    Args:
        config: Rates, decay and betas.
        model: Parameters that require a gradient are trained.
        graphed: Build one that can be part of a CUDA graph (``training.cuda_graphs``), with rates in tensors.

    Raises:
        ValueError: No parameter is trainable.
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
        raise ValueError("no parameter is trainable: every one is frozen by moves")
    on_gpu = all(p.is_cuda for p in model.parameters())
    if graphed:  # rates in tensors: a graph reads them anew at each replay
        for group in settings:
            group["lr"] = torch.tensor(group["lr"], device=group["params"][0].device)
    return torch.optim.AdamW(settings, betas=config.betas, fused=on_gpu or None, capturable=graphed)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: Optimizer, step: int, progress: float) -> float:
    """Set every group's ``rate``, and its ``lr`` where that is a number.

    Linear warm-up over ``config.warmup`` steps, times a cosine over the run's progress down to ``config.final``.

    Args:
        optimizer: See ``build_optimizer``.
        config: ``warmup`` and ``final`` are read.
        step: Number of steps taken.
        progress: Share of the run that is done, 0 to 1.

    Returns:
        The rate of the first group.
    """
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    share = config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    for group in optimizer.param_groups:
        group["rate"] = group["peak"] * warm * share
        if not isinstance(group["lr"], torch.Tensor):  # a graphed step fills it in when it is launched
            group["lr"] = group["rate"]
    return float(optimizer.param_groups[0]["rate"])
