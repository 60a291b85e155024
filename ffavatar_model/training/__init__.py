"""Training: one loop for every stage; a stage is a recipe, a function that returns a configuration."""

from ffavatar_model.training.config import TrainConfig
from ffavatar_model.training.loop import Reporter, Result, Trainer, train
from ffavatar_model.training.recipes import RECIPES, configured, multiview, personalize, pretrain, recipe

__all__ = [
    "RECIPES",
    "Reporter",
    "Result",
    "TrainConfig",
    "Trainer",
    "configured",
    "multiview",
    "personalize",
    "pretrain",
    "recipe",
    "train",
]
