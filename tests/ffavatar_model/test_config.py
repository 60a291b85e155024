"""Settings: round trips, overrides, and errors that name the field."""

from __future__ import annotations

import pytest

from ffavatar_model.config import from_dict, override, to_dict
from ffavatar_model.model import FFAvatar
from ffavatar_model.presets import SIZES, find_preset
from ffavatar_model.training import RECIPES, TrainConfig, recipe


@pytest.mark.parametrize("name", SIZES)
def test_every_size_survives_json(name: str):
    assert from_dict(FFAvatar.Config, to_dict(find_preset(name))) == find_preset(name)


@pytest.mark.parametrize("stage", RECIPES)
@pytest.mark.parametrize("size", SIZES)
def test_every_recipe_survives_json(stage: str, size: str):
    config = recipe(stage, size)
    assert config.stage == stage
    assert from_dict(TrainConfig, to_dict(config)) == config


def test_overrides_reach_any_depth_and_leave_the_rest():
    config = override(
        recipe("pretrain"),
        ["optimizer.lr=1e-4", "model.encoder.backbone.kind=dinov2", "data.sources=[1,4]", 'moves=["encoder."]'],
    )
    assert config.optimizer.lr == 1e-4
    assert config.model.encoder.backbone.kind == "dinov2"
    assert config.data.sources == (1, 4) and config.moves == ("encoder.",)
    assert config.steps == recipe("pretrain").steps


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optimizer.lr", "name=value"),
        ("optimizer.rate=1", "optimizer.rate: no such setting; allowed here: lr"),
        ("steps=many", "steps='many': int is expected"),
        ("steps=0", "steps=0: at least 1"),
        ("autocast=fp16", "autocast='fp16': allowed are 'off', 'bf16'"),
        ("model.query_former.width=130", "width=130: a multiple of heads=4"),
        ("model.encoder.backbone.patch=7", "image_size=128: a multiple of patch=7"),
        ("data.sources=[3,1]", "sources=(3, 1)"),
        ("steps.more=1", "steps.more: no such setting"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(assignment: str, message: str):
    with pytest.raises(ValueError) as error:
        override(recipe("pretrain"), [assignment])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="model='huge': allowed are tiny, small, base, paper"):
        find_preset("huge")
    with pytest.raises(ValueError, match="stage='finetune': allowed are pretrain, multiview, personalize"):
        recipe("finetune")
