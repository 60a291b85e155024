"""Benchmark of the reconstruction, from photos to an avatar: ``ffavatar bench reconstruct``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ffavatar_model.model import FFAvatar
from ffavatar_model.precision import mixed_precision
from flows.bench.model_fixture import (
    Figures,
    bench_avatar_model,
    bench_head,
    emit_figures,
    median_seconds,
    photos_to_model,
    random_photos,
)

PHOTO_PX = 512
N_PHOTOS = (1, 4, 16)


def bench_reconstruct(size: str, head: str | None) -> None:
    """Measure the time from 1, 4 and 16 photos to an avatar, on a GPU by part too, and print the figures.

    Args:
        size: Preset of the model.
        head: See ``flows.bench.model_fixture.bench_head``.
    """
    mesh = bench_head(head)
    emit_figures("reconstruct", size, mesh, _measure(bench_avatar_model(size, mesh)))


def _measure(model: FFAvatar) -> Figures:
    for n in N_PHOTOS:
        photos = random_photos(n, PHOTO_PX)

        def run(photos: Tensor = photos) -> list[Tensor]:
            with torch.inference_mode(), mixed_precision(model.rig.points.device):
                avatar = model.reconstruct(photos_to_model(model, photos)[None])
                return [value.cpu() for value in avatar.tensors().values()]

        yield {"photos": n, "size_px": PHOTO_PX, "gaussians": len(model.rig.points), "ms": 1e3 * median_seconds(run)}
    if model.rig.points.is_cuda:
        yield from _measure_parts(model, random_photos(4, PHOTO_PX))


def _measure_parts(model: FFAvatar, photos: Tensor) -> Figures:
    """Measure each part of the reconstruction."""
    with torch.inference_mode(), mixed_precision(model.rig.points.device):
        sources = photos_to_model(model, photos)[None]
        encoded, features = model.encode_sources(sources), model.point_features(sources)
        parts: dict[str, Callable[[], Any]] = {
            "photos to the device": partial(photos_to_model, model, photos),
            "encoder": lambda: model.encoder(sources[0]),
            "lifted colours (the estimator's poses)": lambda: model._lift_colours(sources, None),
            "query former": lambda: model.query_points(encoded),
            "Gaussians": lambda: model.decode_avatar(features),
            "avatar to the host": lambda: [value.cpu() for value in model.decode_avatar(features).tensors().values()],
        }
        for name, run in parts.items():
            yield {"part": name, "photos": len(photos), "ms": 1e3 * median_seconds(run)}
