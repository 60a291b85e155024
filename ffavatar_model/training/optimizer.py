"""AdamW with one learning rate for layers and another for per-point values, with warm-up and a cosine schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ffavatar_model.training.config import Optimizer

PER_POINT = ("gaussians.mean_raw", "personal.raw")
"""Names of parameters with one row per head point.

Each row gets gradients from few pixels, so the learning rate of these parameters is higher.
"""


def build_optimizer(config: Optimizer, model: nn.Module, graphed: bool = False) -> torch.optim.AdamW:
    """Build AdamW over the trainable parameters.

    There are three groups of parameters: matrices (with weight decay), vectors, and per-point values. If the shape
    predictor has a learning rate of its own, its parameters are a fourth. A group's ``peak`` is its peak learning rate.

    Args:
        config: Settings of the optimizer.
        model: Model whose parameters that require a gradient are trained.
        graphed: True builds an optimizer for CUDA graphs (``training.cuda_graphs``), with learning rates in tensors.

    Raises:
        ValueError: No parameter requires a gradient.
    """
    groups: dict[str, list[nn.Parameter]] = {"matrices": [], "vectors": [], "points": [], "shape": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = "points" if name in PER_POINT else "matrices" if parameter.ndim > 1 else "vectors"
            if config.shape_lr != 1 and name.startswith("identity."):
                kind = "shape"
            groups[kind].append(parameter)
    rates = {"matrices": config.lr, "vectors": config.lr, "points": config.mean_head_lr}
    rates["shape"] = config.shape_lr * config.lr
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
    if graphed:  # learning rates in tensors, which a graph reads at each replay
        for group in settings:
            group["lr"] = torch.tensor(group["lr"], device=group["params"][0].device)
    return torch.optim.AdamW(settings, betas=config.betas, fused=on_gpu or None, capturable=graphed)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: Optimizer, step: int, progress: float) -> float:
    """Set the current learning rate as each group's ``rate``, and as its ``lr`` unless that is a tensor.

    The rate is the group's peak, times a linear warm-up over ``config.warmup`` steps, times a cosine over the run's
    progress after ``config.decay_from``, from 1 to ``config.final``.

    Args:
        optimizer: Result of ``build_optimizer``.
        config: Only ``warmup``, ``decay_from`` and ``final`` are read.
        step: Number of steps taken so far.
        progress: Completed share of the run, 0 to 1.

    Returns:
        Learning rate of the first group.
    """
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    decayed = max(0.0, min(1.0, (progress - config.decay_from) / (1 - config.decay_from)))
    share = config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * decayed))
    for group in optimizer.param_groups:
        group["rate"] = group["peak"] * warm * share
        if not isinstance(group["lr"], torch.Tensor):  # the launch of a graphed step fills a tensor
            group["lr"] = group["rate"]
    return float(optimizer.param_groups[0]["rate"])
