"""Evaluation of held-out studio people by the project's protocol, and sheets of renderings to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ffavatar_model.camera import camera_to_pose
from ffavatar_model.data.images import compose_image
from ffavatar_model.evaluation import (
    PROTOCOL,
    GroundTruth,
    Subject,
    cross_reenact,
    evaluate_estimator,
    self_reenact,
    summarise,
)
from ffavatar_model.evaluation.reenactment import driving_parameters, render_drivers
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters
from flows.experiments.rendering import FACED, RenderedArrays, RenderOrder

N_SOURCES = 4
METRICS = ("psnr", "ssim", "ms_ssim", "aed", "apd")
HeldOut = Sequence[tuple[RenderOrder, RenderedArrays]]
"""Rendered people that the model was not trained on."""


def make_subject(order: RenderOrder, rendered: RenderedArrays) -> Subject:
    """Choose a person's sources and drivers.

    Portraits: the first four images are sources, the others drivers. All round: those of the first timestep that show
    the face are sources, the frontmost first, and all images of the last timestep are drivers, under known cameras.
    """
    rgb, matte = compose_image(torch.from_numpy(rendered["pixels"]))
    known, azimuth = order.kind == "around", rendered["azimuth"]
    if known:
        first = np.flatnonzero((rendered["moment"] == 0) & (np.abs(azimuth) <= FACED))
        sources = first[np.argsort(np.abs(azimuth[first]))]
        drivers = np.flatnonzero(rendered["moment"] == order.timesteps - 1)
    else:
        sources, drivers = np.arange(N_SOURCES), np.arange(N_SOURCES, len(rgb))
    K, head_to_camera = (
        torch.from_numpy(rendered[name][drivers]) if known else None for name in ("K", "head_to_camera")
    )
    return Subject(
        person=order.person,
        sources=rgb[sources[:N_SOURCES]],
        drivers=rgb[drivers],
        mattes=matte[drivers],
        K=K,
        head_to_camera=head_to_camera,
        shape=torch.from_numpy(rendered["shape"]) if "shape" in rendered else None,
        notes=[{"azimuth": float(a), "sector": _sector(float(a))} for a in azimuth[drivers]],
    )


def with_true_parameters(model: FFAvatar, subject: Subject, rendered: RenderedArrays) -> Subject:
    """Return a subject that is driven by its true parameters in place of the estimator's.

    Args:
        model: Says how many expression coefficients there are.
        subject: Its drivers are the last images of ``rendered``.
        rendered: The person's arrays.
    """
    n = len(subject.drivers)
    K, camera = (torch.from_numpy(rendered[name][-n:]) for name in ("K", "head_to_camera"))
    pose = camera_to_pose(camera, K, subject.drivers.shape[-1])
    expression = torch.from_numpy(rendered["expression"][-n:, : model.estimator.n_expression])
    true = DrivingParameters(expression, torch.from_numpy(rendered["rotations"][-n:]), pose)
    return dataclasses.replace(subject, parameters=true)


def ground_truth(order: RenderOrder, rendered: RenderedArrays) -> GroundTruth:
    """Return a person's images with the parameters that they were rendered from."""
    K, camera, expression, rotations = (
        torch.from_numpy(rendered[name]) for name in ("K", "head_to_camera", "expression", "rotations")
    )
    return GroundTruth(
        person=order.person,
        images=compose_image(torch.from_numpy(rendered["pixels"]))[0],
        K=K,
        head_to_camera=camera,
        expression=expression,
        rotations=rotations,
    )


def evaluate_model(model: FFAvatar, portraits: HeldOut, around: HeldOut) -> dict[str, Any]:
    """Compute every metric: by number of views, baselines, true parameters, azimuth, and of the estimator.

    Args:
        model: The model to measure.
        portraits: Held-out people as portraits; metrics of portraits are left out where there are none.
        around: Held-out people from all round, likewise.

    Returns:
        Metrics and the protocol, ready for JSON.
    """
    report: dict[str, Any] = {"protocol": PROTOCOL}
    if portraits:
        subjects = [make_subject(*person) for person in portraits]
        rows = list(self_reenact(model, subjects, (1, 2, 4)))
        true = [with_true_parameters(model, s, rendered) for s, (_, rendered) in zip(subjects, portraits, strict=True)]
        rows += [row | {"method": "true_parameters"} for row in self_reenact(model, true, (4,), baselines=False)]
        report["self"] = _summary(rows, ("method", "views"))
        report["gain_of_4_views_db"] = _paired_gain(rows, ("ours", 1), ("ours", 4))
        report["over_nearest_db"] = _paired_gain(rows, ("nearest", 4), ("ours", 4))
        report["cross"] = _summary(list(cross_reenact(model, subjects)), ("method", "views"))
        report["estimator"] = to_json(evaluate_estimator(model, [ground_truth(*person) for person in portraits]))
    if around:
        rows = list(self_reenact(model, [make_subject(*person) for person in around], (1, 4)))
        report["around"] = _summary(rows, ("method", "views"))
        report["around_gain_of_4_views_db"] = _paired_gain(rows, ("ours", 1), ("ours", 4))
        report["around_by_azimuth"] = _summary([r for r in rows if r["method"] == "ours"], ("views", "sector"))
    return report


@torch.inference_mode()
def render_sheet(model: FFAvatar, held_out: HeldOut, people: int = 8, n_drivers: int = 6) -> NDArray[np.uint8]:
    """Render a sheet with two rows a person: four sources and drivers; below the drivers their renderings.

    Args:
        model: The model to look at.
        held_out: Held-out people.
        people: Upper bound on the number of people.
        n_drivers: Upper bound on the number of drivers of each.

    Returns:
        (H, W, 3) RGB.
    """
    rows: list[Tensor] = []
    for order, rendered in held_out[:people]:
        subject = make_subject(order, rendered)
        n, size = min(n_drivers, len(subject.drivers)), subject.drivers.shape[-1]
        shape = subject.shape_for(model)
        avatar = model.reconstruct(subject.sources[None].to(model.rig.points.device), None, shape)
        renderings = render_drivers(model, avatar, driving_parameters(model, subject), subject)[:n].cpu()
        blank = torch.ones(3, size, size)
        above = [*subject.sources, *[blank] * (N_SOURCES - len(subject.sources)), *subject.drivers[:n]]
        rows.append(torch.cat([torch.cat(above, -1), torch.cat([*[blank] * N_SOURCES, *renderings], -1)], -2))
    return (torch.cat(rows, -2) * 255).round().byte().permute(1, 2, 0).numpy()


def _sector(azimuth: float) -> str:
    limits = (("front, under 30°", 30), ("30 to 60°", 60), ("60 to 90°", 90), ("90 to 135°", 135))
    return next((name for name, limit in limits if abs(azimuth) < limit), "back, over 135°")


def _summary(rows: list[dict[str, Any]], by: tuple[str, ...]) -> list[dict[str, Any]]:
    return [to_json(row) for row in summarise(rows, by, METRICS)]


def _paired_gain(rows: list[dict[str, Any]], a: tuple[str, int], b: tuple[str, int]) -> Any:
    """The difference in PSNR of two methods, a person at a time."""
    per_person: dict[str, dict[tuple[str, int], list[float]]] = {}
    for row in rows:
        per_person.setdefault(row["person"], {}).setdefault((row["method"], row["views"]), []).append(row["psnr"])
    gains = [
        {"person": person, "gain": float(np.mean(values[b]) - np.mean(values[a]))}
        for person, values in per_person.items()
        if a in values and b in values
    ]
    return to_json(summarise(gains, (), ("gain",))[0]["gain"]) if gains else None


def to_json(value: Any) -> Any:
    """Make a value ready for JSON: dataclasses become dictionaries, and numbers are rounded to four digits."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_json(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {name: to_json(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value
