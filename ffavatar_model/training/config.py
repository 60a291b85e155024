"""Configuration of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ffavatar_model.config import require
from ffavatar_model.data.sampling import SamplingConfig
from ffavatar_model.model import FFAvatar
from ffavatar_model.training.adversary import Adversary
from ffavatar_model.training.objective import Objective


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer:
    """Settings of AdamW with linear warm-up and a cosine schedule."""

    lr: float = 4e-4
    """Highest learning rate."""
    mean_head_lr: float = 4e-3
    """Highest learning rate of the learned mean head and of a person's own Gaussians, one row a point."""
    final: float = 0.05
    """Share of the learning rate left at the end."""
    warmup: int = 3000
    """Steps."""
    weight_decay: float = 0.05
    """Decay of matrices; vectors and per-point values have none."""
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    """Largest norm of the gradient."""

    def __post_init__(self) -> None:
        for name in ("lr", "mean_head_lr", "clip"):
            require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        require(self.warmup >= 0, "warmup", self.warmup, "0 or more steps")
        require(0 <= self.final <= 1, "final", self.final, "0 to 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Settings of a complete run; ``ffavatar_model.training.recipes`` makes them."""

    stage: Literal["pretrain", "multiview", "personalize"]
    model: FFAvatar.Config = field(default_factory=FFAvatar.Config)
    data: SamplingConfig = field(default_factory=SamplingConfig)
    objective: Objective.Config = field(default_factory=Objective.Config)
    optimizer: Optimizer = field(default_factory=Optimizer)
    adversary: Adversary.Config = field(default_factory=Adversary.Config)
    """While it is on, steps are not CUDA graphs."""
    steps: int = 1000
    max_seconds: float = 0.0
    """The schedule ends at this time at the latest (0: no limit); such a run cannot be repeated step for step."""
    batch: int = 2
    """Number of people in a step, on all workers together."""
    accumulate: int = 1
    """Number of micro-batches that a worker's share of the batch is cut into."""
    moves: tuple[str, ...] = ()
    """Trainable parameters: beginnings of their names; empty for all."""
    autocast: Literal["off", "bf16"] = "off"
    graphs: bool = True
    """On one CUDA device a step is one CUDA graph (``training.cuda_graphs``); False launches kernel by kernel."""
    ema: float = 0.0
    """Decay of the averaged weights that are validated and saved for use; 0 for none."""
    seed: int = 0
    loader_workers: int = 0
    """Number of processes that read and decode; 0 does it in the loop's own."""
    log_every: int = 10
    validate_every: int = 0
    """Steps; 0 validates at the start and at the end alone."""
    validation_people: int = 8
    checkpoint_every: int = 0
    """Steps; 0 saves at the end alone."""
    keep: int = 2
    """Number of the newest checkpoints that stay in the run's folder."""
    keep_best: int = 1
    """Number of checkpoints of the highest PSNR on held-out people that stay, too."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "log_every", "validation_people", "keep"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("max_seconds", "validate_every", "checkpoint_every", "loader_workers", "keep_best"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(0 <= self.ema < 1, "ema", self.ema, "0 to below 1")
