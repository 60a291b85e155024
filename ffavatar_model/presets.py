"""Model presets: for each size, a function that returns a complete configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.backbone import Backbone
from ffavatar_model.networks.encoder import ImageEncoder
from ffavatar_model.networks.estimator import Estimator
from ffavatar_model.networks.gaussians import GaussianHead
from ffavatar_model.networks.query_former import QueryFormer


def tiny() -> FFAvatar.Config:
    """Return a configuration for two CPU cores: 128 pixels, random weights, the head's own vertices as points."""
    return FFAvatar.Config(
        image_size=128,
        encoder=ImageEncoder.Config(
            backbone=Backbone.Config(image_size=128, patch=8, width=128, depth=3, heads=4), layers=(0, 3)
        ),
        query_former=QueryFormer.Config(width=128, depth=2, heads=4, mlp_ratio=2.0),
        gaussians=GaussianHead.Config(initial_opacity=0.8, initial_scale=0.5),
        estimator=Estimator.Config(
            backbone=Backbone.Config(image_size=96, patch=8, width=128, depth=2, heads=4, mlp_ratio=3.0),
            n_expression=30,
        ),
    )


def small() -> FFAvatar.Config:
    """Return a configuration of about 10 million parameters (20 MB in half precision): 256 pixels, subdivided head."""
    vit = Backbone.Config(image_size=256, patch=16, stem="convolutions", width=256, depth=5, heads=4)
    return FFAvatar.Config(
        image_size=256,
        subdivisions=1,
        encoder=ImageEncoder.Config(backbone=vit, layers=(0, 3, 5)),
        query_former=QueryFormer.Config(width=256, depth=3, heads=4, mlp_ratio=2.0, octaves=8, place_bandwidth=4.0),
        gaussians=GaussianHead.Config(initial_opacity=0.8, initial_scale=0.5),
        estimator=Estimator.Config(backbone=replace(vit, image_size=224), n_expression=52, expression_limit=8.0),
    )


def base() -> FFAvatar.Config:
    """Return a configuration for one GPU: 256 pixels, DINOv2 ViT-B/14 with registers, 8 blocks of width 768.

    The head is subdivided.
    """
    return FFAvatar.Config(
        image_size=256,
        subdivisions=1,
        encoder=ImageEncoder.Config(
            backbone=Backbone.Config(kind="dinov2", image_size=252, patch=14, width=768, depth=12, heads=12),
            layers=(3, 6, 9, 12),
        ),
        query_former=QueryFormer.Config(width=768, depth=8, heads=12, mlp_ratio=4.0, octaves=8),
        estimator=Estimator.Config(backbone=Backbone.Config(image_size=224, patch=16, width=384, depth=12, heads=6)),
    )


def paper() -> FFAvatar.Config:
    """Return the paper's configuration: 512 pixels, DINOv2 ViT-L/14 with registers, 10 blocks of width 1,024.

    LAM's sizes replace those that the paper does not give. The head is subdivided.
    """
    return FFAvatar.Config(
        image_size=512,
        subdivisions=1,
        encoder=ImageEncoder.Config(
            backbone=Backbone.Config(kind="dinov2", image_size=518, patch=14, width=1024, depth=24, heads=16),
            layers=(5, 12, 18, 24),
        ),
        query_former=QueryFormer.Config(width=1024, depth=10, heads=16, mlp_ratio=4.0, octaves=8),
        estimator=Estimator.Config(backbone=Backbone.Config(image_size=224, patch=16, width=768, depth=12, heads=12)),
    )


SIZES: dict[str, Callable[[], FFAvatar.Config]] = {"tiny": tiny, "small": small, "base": base, "paper": paper}


def find_preset(name: str) -> FFAvatar.Config:
    """Return the preset called ``name``.

    Raises:
        ValueError: There is no such preset; the message lists the presets.
    """
    if name not in SIZES:
        raise ValueError(f"model={name!r}: allowed are {', '.join(SIZES)}")
    return SIZES[name]()
