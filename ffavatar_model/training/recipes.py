"""The three stages as functions that return a full configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ffavatar_model.config import from_dict, override
from ffavatar_model.data.augment import Augment, Degrade
from ffavatar_model.data.sampling import SamplingConfig
from ffavatar_model.io.weights import read_header
from ffavatar_model.model import FFAvatar
from ffavatar_model.presets import by_name
from ffavatar_model.training.config import Optimizer, TrainConfig
from ffavatar_model.training.objective import Objective

WILD = Augment(turn=5.0, zoom=0.05, shift=0.02, light=0.3)
"""Aligned crops are never quite aligned; people come in every light."""


SEEN = Degrade(colour=0.2, blur=1.0, noise=0.03, matte=0.2)
"""Rendered pictures are cleaner than those that the model will be used on."""


def pretrain(size: str = "tiny") -> TrainConfig:
    """In-the-wild crops of many people: cameras unknown, poses and expressions learned from pixels."""
    model = by_name(size)
    if size == "tiny":
        return TrainConfig(
            stage="pretrain",
            model=model,
            steps=150,
            batch=2,
            data=SamplingConfig(sources=(1, 2), drivers=3, augment=WILD),
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
            data=SamplingConfig(sources=(1, 4), drivers=4, cache=0, augment=WILD, degrade=SEEN),
            objective=Objective.Config(parts=10.0, expression=1e-4, offset=0.05, standing=0.05),
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
        data=SamplingConfig(sources=(1, 4), drivers=6, cache=0, augment=WILD),
        validate_every=2000,
        validation_people=64,
        checkpoint_every=1000,
        log_every=50,
    )


def multiview(size: str = "tiny") -> TrainConfig:
    """Calibrated captures: one expression a moment, seen from all around; the estimator keeps to the known poses."""
    model = by_name(size)
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
            data=SamplingConfig(sources=(1, 4), drivers=6, cache=0, augment=WILD, degrade=SEEN),
            objective=Objective.Config(parts=5.0, expression=1e-4, offset=0.05, agreement=0.05),
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
    """One person: encoder and query former run once; the person's own part and the estimator move."""
    return TrainConfig(
        stage="personalize",
        model=by_name(size),
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
    """A recipe by its stage's name. Raises ``ValueError`` naming the stages there are."""
    if stage not in RECIPES:
        raise ValueError(f"stage={stage!r}: allowed are {', '.join(RECIPES)}")
    return RECIPES[stage](size)


def configured(stage: str, overrides: Sequence[str], size: str = "tiny", init: Path | str | None = None) -> TrainConfig:
    """The recipe of a stage, with the model of the checkpoint that it begins with, and with settings replaced.

    The file of LPIPS's weights is named in full: workers run in folders of their own.
    """
    config = recipe(stage, size)
    if init:
        config = replace(config, model=from_dict(FFAvatar.Config, read_header(Path(init))["model"]))
    config = override(config, overrides)
    if file := config.objective.lpips_file:
        config = replace(config, objective=replace(config.objective, lpips_file=str(Path(file).resolve())))
    return config
