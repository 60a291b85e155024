"""Recipes: for each of the three training stages, a function that returns a complete configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ffavatar_model.config import from_dict, override
from ffavatar_model.data.augment import Augment, Degrade
from ffavatar_model.data.sampling import SamplingConfig
from ffavatar_model.io.weights import read_header
from ffavatar_model.model import FFAvatar
from ffavatar_model.presets import find_preset
from ffavatar_model.training.config import Optimizer, TrainConfig
from ffavatar_model.training.objective import Objective

WILD_AUGMENT = Augment(turn=5.0, zoom=0.05, shift=0.02, light=0.3)
"""Augmentation for aligned crops of people in any light: their alignment is never exact."""
WILD_DEGRADE = Degrade(colour=0.2, blur=1.0, noise=0.03, matte=0.2)
"""Degradation for rendered images, which are cleaner than the images on which the model is used."""


def pretrain(size: str = "tiny") -> TrainConfig:
    """Return the recipe for in-the-wild crops of many people; poses and expressions are learned from pixels."""
    model = find_preset(size)
    if size == "tiny":
        return TrainConfig(
            stage="pretrain",
            model=model,
            steps=150,
            batch=2,
            data=SamplingConfig(sources=(1, 2), drivers=3, augment=WILD_AUGMENT),
            objective=Objective.Config(landmark=10.0, landmark_until=1.0, mask=0.5),
            optimizer=Optimizer(lr=1e-3, mean_head_lr=2e-2, warmup=10),
        )
    if size == "small":
        return TrainConfig(
            stage="pretrain",
            model=model,
            steps=20_000,
            batch=10,
            autocast="bf16",
            ema=0.999,
            loader_workers=10,
            data=SamplingConfig(sources=(1, 4), drivers=4, cache=0, augment=WILD_AUGMENT, degrade=WILD_DEGRADE),
            objective=Objective.Config(
                parts=10.0,
                motion=2.0,
                gaze=10.0,
                landmark_floor=0.3,
                standing=0.002,
                expression=1e-4,
                offset=0.05,
            ),
            optimizer=Optimizer(lr=5e-4, mean_head_lr=5e-3, warmup=200, final=0.02),
            validation_people=16,
            checkpoint_every=1000,
            log_every=50,
        )
    return TrainConfig(
        stage="pretrain",
        model=model,
        steps=100_000,
        batch=16,
        autocast="bf16",
        ema=0.999,
        loader_workers=8,
        data=SamplingConfig(sources=(1, 4), drivers=6, cache=0, augment=WILD_AUGMENT),
        validate_every=2000,
        validation_people=64,
        checkpoint_every=1000,
        log_every=50,
    )


def multiview(size: str = "tiny") -> TrainConfig:
    """Return the recipe for calibrated captures: at each timestep, views of one expression from known cameras."""
    model = find_preset(size)
    if size == "tiny":
        return TrainConfig(
            stage="multiview",
            model=model,
            steps=100,
            batch=2,
            data=SamplingConfig(sources=(1, 2), drivers=3),
            optimizer=Optimizer(lr=5e-4, mean_head_lr=1e-2, warmup=5),
        )
    if size == "small":
        return TrainConfig(
            stage="multiview",
            model=model,
            steps=6_000,
            batch=8,
            autocast="bf16",
            ema=0.999,
            loader_workers=10,
            data=SamplingConfig(sources=(1, 4), drivers=6, cache=0, augment=WILD_AUGMENT, degrade=WILD_DEGRADE),
            objective=Objective.Config(
                parts=5.0,
                motion=4.0,
                gaze=10.0,
                landmark_floor=0.3,
                known_landmark=1.0,
                standing=0.002,
                expression=1e-4,
                offset=0.05,
                agreement=0.05,
            ),
            optimizer=Optimizer(lr=1e-4, mean_head_lr=2e-3, warmup=100, final=0.02),
            validation_people=16,
            checkpoint_every=1000,
            log_every=50,
        )
    return TrainConfig(
        stage="multiview",
        model=model,
        steps=30_000,
        batch=16,
        autocast="bf16",
        ema=0.999,
        loader_workers=8,
        data=SamplingConfig(sources=(1, 4), drivers=8, cache=0),
        objective=Objective.Config(agreement=0.05),
        optimizer=Optimizer(lr=1e-4, mean_head_lr=1e-3, warmup=500),
        validate_every=2000,
        validation_people=64,
        checkpoint_every=1000,
        log_every=50,
    )


def personalize(size: str = "tiny") -> TrainConfig:
    """Return the recipe for one person, which trains the person's own Gaussians and the estimator.

    Encoder and query former are not trained and run only once.
    """
    return TrainConfig(
        stage="personalize",
        model=find_preset(size),
        steps=100 if size == "tiny" else 500,
        batch=1,
        data=SamplingConfig(sources=(4, 4), drivers=4, source_choice="first", driver_choice="any"),
        objective=Objective.Config(landmark=1.0, offset=0.02),
        optimizer=Optimizer(lr=2e-4, mean_head_lr=1e-2, warmup=5, weight_decay=0.0),
        moves=("personal.", "estimator."),
        autocast="off" if size in ("tiny", "small") else "bf16",
        validation_people=1,
    )


RECIPES: dict[str, Callable[[str], TrainConfig]] = {
    "pretrain": pretrain,
    "multiview": multiview,
    "personalize": personalize,
}


def recipe(stage: str, size: str = "tiny") -> TrainConfig:
    """Return the recipe of a stage.

    Args:
        stage: Key of ``RECIPES``.
        size: Preset of the model (``ffavatar_model.presets``).

    Raises:
        ValueError: There is no such stage; the message lists the stages.
    """
    if stage not in RECIPES:
        raise ValueError(f"stage={stage!r}: allowed are {', '.join(RECIPES)}")
    return RECIPES[stage](size)


def build_config(
    stage: str, overrides: Sequence[str], size: str = "tiny", init: Path | str | None = None
) -> TrainConfig:
    """Build a run's configuration: the recipe of a stage with some settings replaced.

    Args:
        stage: Key of ``RECIPES``.
        overrides: Replaced settings, ``a.b=value``.
        size: Preset of the model, used if there is no ``init``.
        init: Checkpoint with which the run begins; its model's configuration replaces the preset.

    Returns:
        The configuration. The path of LPIPS's weights is made absolute, because workers run in other folders.

    Raises:
        ValueError: The stage, a setting or the checkpoint is invalid.
    """
    config = recipe(stage, size)
    if init:
        config = replace(config, model=from_dict(FFAvatar.Config, read_header(Path(init))["model"]))
    config = override(config, overrides)
    if file := config.objective.lpips_file:
        config = replace(config, objective=replace(config.objective, lpips_file=str(Path(file).resolve())))
    return config
