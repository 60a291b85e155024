"""``ffavatar bench {render,reconstruct,animate,train}``: the model's speed. Needs the model and its head alone.

Random weights: they time the same as trained ones, but for the renderer, whose speed depends on the Gaussians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from ffavatar_model.camera import pose_to_camera, virtual_intrinsics
from ffavatar_model.estimator import DrivingParameters
from ffavatar_model.head import load_head
from ffavatar_model.model import FFAvatar
from ffavatar_model.presets import by_name
from flows.bench import emit
from flows.heads import head_file

SECONDS = 5.0
"""Each figure is measured for about so long, after a warm-up."""


def bench_model(what: str, size: str = "tiny") -> None:
    """Measure ``what`` (render, reconstruct, animate, train) on a model of a preset's size and print the figures."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = FFAvatar(by_name(size), load_head(head_file(None))).to(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else ""
    for figure in {"render": _render, "reconstruct": _reconstruct, "animate": _animate, "train": _train}[what](model):
        emit(what, name, model=size, **figure)


def _render(model: FFAvatar) -> Iterator[dict[str, Any]]:
    model.eval()
    with torch.inference_mode():
        avatar = model.reconstruct(_pictures(model, 1))
        parameters = _neutral(model)
        posed = model.animate(avatar, parameters)
        for size in (128, 256):
            K = virtual_intrinsics(size, model.rig.points)[None, None]
            camera = _camera(model, size)
            spent = _median(partial(model.render, posed, camera, K, None, size))
            yield {"size_px": size, "gaussians": posed.means.shape[2], "ms": 1e3 * spent, "fps": 1 / spent}


def _reconstruct(model: FFAvatar) -> Iterator[dict[str, Any]]:
    model.eval()
    for n in (1, 4, 16):
        sources = _pictures(model, n)
        with torch.inference_mode():
            spent = _median(partial(model.reconstruct, sources))
        yield {"photos": n, "size_px": model.config.image_size, "ms": 1e3 * spent}


def _animate(model: FFAvatar) -> Iterator[dict[str, Any]]:
    model.eval()
    size = model.config.image_size
    driver = _pictures(model, 1)
    K, camera = virtual_intrinsics(size, model.rig.points)[None, None], _camera(model, size)
    with torch.inference_mode():
        avatar = model.reconstruct(_pictures(model, 1))
        still = _neutral(model)
        ways: dict[str, Callable[[], Any]] = {
            "pixels": lambda: model.render(model.animate(avatar, model.estimate(driver)), camera, K, None, size),
            "parameters": lambda: model.render(model.animate(avatar, still), camera, K, None, size),
        }
        for driven_by, frame in ways.items():
            spent = _median(frame)
            yield {"driven_by": driven_by, "size_px": size, "ms": 1e3 * spent, "fps": 1 / spent}


def _train(model: FFAvatar) -> Iterator[dict[str, Any]]:
    model.train()
    n, drivers = 2, 3
    sources, targets = _pictures(model, 2, n), _pictures(model, drivers, n)
    K = virtual_intrinsics(model.config.image_size, model.rig.points).expand(n, drivers, 3, 3)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        output = model(sources, None, targets, K)
        (output.rendered.rgb - targets).abs().mean().backward()

    spent = _median(step)
    yield {"people": n, "sources": 2, "drivers": drivers, "ms": 1e3 * spent, "images_per_s": n * drivers / spent}


def _pictures(model: FFAvatar, n: int, people: int = 1) -> torch.Tensor:
    size = model.config.image_size
    generator = torch.Generator().manual_seed(0)
    return torch.rand(people, n, 3, size, size, generator=generator).to(model.rig.points.device)


def _neutral(model: FFAvatar) -> DrivingParameters:
    points = model.rig.points
    return DrivingParameters(
        points.new_zeros(1, 1, model.estimator.n_expression),
        points.new_zeros(1, 1, 5, 3),
        model.rig.start_pose[None, None],
    )


def _camera(model: FFAvatar, size: int) -> torch.Tensor:
    K = virtual_intrinsics(size, model.rig.points)
    return pose_to_camera(model.rig.start_pose, K, size)[None, None]


def _median(run: Callable[[], Any]) -> float:
    """Median seconds of a call, the device's work included."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    run()
    wait()
    times: list[float] = []
    while sum(times) < SECONDS or len(times) < 3:
        began = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
