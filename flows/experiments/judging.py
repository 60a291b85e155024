"""Held-out studio people: the project's evaluation, and pictures to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ffavatar_model.camera import camera_to_pose
from ffavatar_model.data.images import composed
from ffavatar_model.evaluation import (
    PROTOCOL,
    Subject,
    Truth,
    cross_reenact,
    evaluate_estimator,
    self_reenact,
    summarise,
)
from ffavatar_model.evaluation.reenactment import driving, picture
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters
from flows.experiments.rendering import FACED, Rendered, RenderOrder

N_SOURCES = 4
METRICS = ("psnr", "ssim", "ms_ssim", "aed", "apd")
Held = Sequence[tuple[RenderOrder, Rendered]]


def subject(order: RenderOrder, seen: Rendered) -> Subject:
    """Portraits: the first four pictures are sources. All round: those of the first moment that show the face are, and
    the last moment's pictures are drivers, under their known cameras."""
    rgb, matte = composed(torch.from_numpy(seen["pixels"]))
    known, azimuth = order.kind == "around", seen["azimuth"]
    if known:
        first = np.flatnonzero((seen["moment"] == 0) & (np.abs(azimuth) <= FACED))
        sources, drivers = (
            first[np.argsort(np.abs(azimuth[first]))],
            np.flatnonzero(seen["moment"] == order.moments - 1),
        )
    else:
        sources, drivers = np.arange(N_SOURCES), np.arange(N_SOURCES, len(rgb))
    where = [torch.from_numpy(seen[name][drivers]) for name in ("K", "head_to_camera")] if known else [None, None]
    notes = [{"azimuth": float(a), "sector": _sector(float(a))} for a in azimuth[drivers]]
    return Subject(
        person=order.person,
        sources=rgb[sources[:N_SOURCES]],
        drivers=rgb[drivers],
        mattes=matte[drivers],
        K=where[0],
        head_to_camera=where[1],
        notes=notes,
    )


def with_truth(model: FFAvatar, given: Subject, seen: Rendered) -> Subject:
    """The same subject driven by its true parameters in place of the estimator's."""
    n = len(given.drivers)
    K, camera = (torch.from_numpy(seen[name][-n:]) for name in ("K", "head_to_camera"))
    pose = camera_to_pose(camera, K, given.drivers.shape[-1])
    expression = torch.from_numpy(seen["expression"][-n:, : model.estimator.n_expression])
    true = DrivingParameters(expression, torch.from_numpy(seen["rotations"][-n:]), pose)
    return dataclasses.replace(given, parameters=true)


def truth(order: RenderOrder, seen: Rendered) -> Truth:
    """A person's pictures with what moved the head."""
    K, camera, expression, rotations = (
        torch.from_numpy(seen[name]) for name in ("K", "head_to_camera", "expression", "rotations")
    )
    return Truth(
        person=order.person,
        pictures=composed(torch.from_numpy(seen["pixels"]))[0],
        K=K,
        head_to_camera=camera,
        expression=expression,
        rotations=rotations,
    )


def judge(model: FFAvatar, portraits: Held, around: Held) -> dict[str, Any]:
    """Every number, with the protocol: by number of views, baselines, true parameters, azimuth, estimator."""
    plain = [subject(*held) for held in portraits]
    found: dict[str, Any] = {"protocol": PROTOCOL}
    if plain:
        rows = list(self_reenact(model, plain, (1, 2, 4)))
        given = [with_truth(model, s, seen) for s, (_, seen) in zip(plain, portraits, strict=True)]
        rows += [row | {"method": "true_parameters"} for row in self_reenact(model, given, (4,), baselines=False)]
        found["self"] = _table(rows, ("method", "views"))
        found["gain_of_4_views_db"] = _paired(rows, ("ours", 1), ("ours", 4))
        found["over_nearest_db"] = _paired(rows, ("nearest", 4), ("ours", 4))
        found["cross"] = _table(list(cross_reenact(model, plain)), ("method", "views"))
        found["estimator"] = _plain(evaluate_estimator(model, [truth(*held) for held in portraits]))
    if around:
        rows = list(self_reenact(model, [subject(*held) for held in around], (1, 4)))
        found["around"] = _table(rows, ("method", "views"))
        found["around_gain_of_4_views_db"] = _paired(rows, ("ours", 1), ("ours", 4))
        found["around_by_azimuth"] = _table([r for r in rows if r["method"] == "ours"], ("views", "sector"))
    return found


@torch.inference_mode()
def sheet(model: FFAvatar, held: Held, people: int = 8, drivers: int = 6) -> NDArray[np.uint8]:
    """(H, W, 3): two rows a person: four sources and drivers; below the drivers what the model renders."""
    rows: list[Tensor] = []
    for order, seen in held[:people]:
        one = subject(order, seen)
        n, size = min(drivers, len(one.drivers)), one.drivers.shape[-1]
        avatar = model.reconstruct(one.sources[None].to(model.rig.points.device))
        rendered = picture(model, avatar, driving(model, one), one)[:n].cpu()
        blank = torch.ones(3, size, size)
        above = [*one.sources, *[blank] * (N_SOURCES - len(one.sources)), *one.drivers[:n]]
        rows.append(torch.cat([torch.cat(above, -1), torch.cat([*[blank] * N_SOURCES, *rendered], -1)], -2))
    return (torch.cat(rows, -2) * 255).round().byte().permute(1, 2, 0).numpy()


def _sector(azimuth: float) -> str:
    limits = (("front, under 30°", 30), ("30 to 60°", 60), ("60 to 90°", 90), ("90 to 135°", 135))
    return next((name for name, limit in limits if abs(azimuth) < limit), "back, over 135°")


def _table(rows: list[dict[str, Any]], by: tuple[str, ...]) -> list[dict[str, Any]]:
    return [_plain(row) for row in summarise(rows, by, METRICS)]


def _paired(rows: list[dict[str, Any]], a: tuple[str, int], b: tuple[str, int]) -> Any:
    """The difference in PSNR of two methods, a person at a time."""
    per_person: dict[str, dict[tuple[str, int], list[float]]] = {}
    for row in rows:
        per_person.setdefault(row["person"], {}).setdefault((row["method"], row["views"]), []).append(row["psnr"])
    gains = [
        {"person": person, "gain": float(np.mean(values[b]) - np.mean(values[a]))}
        for person, values in per_person.items()
        if a in values and b in values
    ]
    return _plain(summarise(gains, (), ("gain",))[0]["gain"]) if gains else None


def _plain(value: Any) -> Any:
    """Ready for JSON, numbers rounded."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value
