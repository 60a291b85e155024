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
    """Settings of AdamW with linear warm-up and a cosine schedule of the learning rate."""

    lr: float = 4e-4
    """Peak learning rate."""
    mean_head_lr: float = 4e-3
    """Peak learning rate of parameters with one row per point: the learned mean head and a person's own Gaussians."""
    shape_lr: float = 1.0
    """Factor of the learning rate of the shape predictor's layers."""
    final: float = 0.05
    """Learning rate at the end of the run, as a share of the peak."""
    decay_from: float = 0.0
    """Completed share of the run at which the cosine schedule begins; the rate is constant until then.

    In a chain of runs, ``final=1`` keeps the rate constant in all runs but the last.
    """
    warmup: int = 3000
    """Number of steps over which the learning rate grows to its peak."""
    weight_decay: float = 0.05
    """Weight decay of matrices; vectors and per-point values have no decay."""
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    """Norm to which larger gradients are clipped."""

    def __post_init__(self) -> None:
        for name in ("lr", "mean_head_lr", "shape_lr", "clip"):
            require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        require(self.warmup >= 0, "warmup", self.warmup, "0 or more steps")
        require(0 <= self.final <= 1, "final", self.final, "0 to 1")
        require(0 <= self.decay_from < 1, "decay_from", self.decay_from, "0 to below 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Settings of a complete training run; ``ffavatar_model.training.recipes`` makes them."""

    stage: Literal["pretrain", "multiview", "personalize"]
    model: FFAvatar.Config = field(default_factory=FFAvatar.Config)
    data: SamplingConfig = field(default_factory=SamplingConfig)
    objective: Objective.Config = field(default_factory=Objective.Config)
    optimizer: Optimizer = field(default_factory=Optimizer)
    adversary: Adversary.Config = field(default_factory=Adversary.Config)
    """Adversarial term of the loss. If its weight is not 0, steps do not use CUDA graphs."""
    steps: int = 1000
    """Number of optimizer steps."""
    max_seconds: float = 0.0
    """Seconds after which the schedule ends at the latest; 0 sets no limit. A limited run is not exactly repeatable."""
    batch: int = 2
    """Number of people per step, summed over all training workers."""
    accumulate: int = 1
    """Number of micro-batches into which a worker's share of the batch is divided."""
    moves: tuple[str, ...] = ()
    """Prefixes of the names of trainable parameters; empty makes all parameters trainable."""
    autocast: Literal["off", "bf16"] = "off"
    graphs: bool = True
    """True makes each step a CUDA graph (``training.cuda_graphs``), if there is a CUDA device."""
    ema: float = 0.0
    """Decay of the averaged weights, which are validated and saved for inference; 0 averages no weights."""
    seed: int = 0
    loader_workers: int = 0
    """Number of loader processes, which read and decode images; 0 loads in the training process."""
    log_every: int = 10
    validate_every: int = 0
    """Number of steps between validations; 0 validates only at the start and at the end."""
    validation_people: int = 8
    checkpoint_every: int = 0
    """Number of steps between checkpoints; 0 saves only at the end."""
    keep: int = 2
    """Number of newest checkpoints to keep in the run's folder."""
    keep_best: int = 1
    """Number of further checkpoints to keep: those with the highest PSNR on held-out people."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "log_every", "validation_people", "keep"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("max_seconds", "validate_every", "checkpoint_every", "loader_workers", "keep_best"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(0 <= self.ema < 1, "ema", self.ema, "0 to below 1")
