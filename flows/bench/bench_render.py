"""Benchmark of the renderer: ``ffavatar bench render``."""

from __future__ import annotations

from functools import partial

import torch

from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.model import FFAvatar
from flows.bench.model_fixture import (
    Figures,
    bench_avatar_model,
    bench_head,
    emit_figures,
    median_seconds,
    random_avatars,
)

SIZES_PX = (128, 256, 512)


def bench_render(size: str, head: str | None) -> None:
    """Measure the renderer's images per second at three image sizes, and print the figures.

    Args:
        size: Preset of the model.
        head: Head of the model, as ``flows.bench.model_fixture.bench_head`` takes it.
    """
    mesh = bench_head(head)
    emit_figures("render", size, mesh, _measure(bench_avatar_model(size, mesh)))


def _measure(model: FFAvatar) -> Figures:
    with torch.inference_mode():
        posed = model.animate(random_avatars(model), model.neutral_parameters())
        for size in SIZES_PX:
            K = virtual_intrinsics(size, model.rig.points)[None, None]
            camera = pose_to_camera(model.rig.start_pose, K[0, 0], size)[None, None]
            spent = median_seconds(partial(model.render, posed, camera, K, None, size))
            yield {"size_px": size, "gaussians": posed.means.shape[2], "ms": 1e3 * spent, "fps": 1 / spent}
