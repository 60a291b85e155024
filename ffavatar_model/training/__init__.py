"""Training: one loop for all stages. Each stage is a recipe, which is a function that returns a configuration."""

from ffavatar_model.training.config import TrainConfig
from ffavatar_model.training.loop import Reporter, Trainer, TrainOutcome, train
from ffavatar_model.training.recipes import RECIPES, build_config, multiview, personalize, pretrain, recipe

__all__ = [
    "RECIPES",
    "Reporter",
    "TrainConfig",
    "TrainOutcome",
    "Trainer",
    "build_config",
    "multiview",
    "personalize",
    "pretrain",
    "recipe",
    "train",
]
