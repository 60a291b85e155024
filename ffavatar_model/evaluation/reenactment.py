"""Self- and cross-reenactment of held-out people, against the baselines that a sceptic would ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ffavatar_model.camera import pose_to_camera, rotation_from_6d, virtual_intrinsics
from ffavatar_model.data.images import BACKGROUND
from ffavatar_model.evaluation.image_metrics import ms_ssim, psnr, ssim
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar

Embed = Callable[[Tensor], Tensor | None]
"""A picture (3, H, W) → a face embedding (E,), or None where no face is found."""
FindLandmarks = Callable[[Tensor], Tensor | None]
"""A picture (3, H, W) → face-mesh points (L, 2) in picture widths, or None."""
Lpips = Callable[[Tensor, Tensor], Tensor]
"""Two batches of pictures (N, 3, H, W) → distances (N,)."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One held-out person: sources, and other pictures to render."""

    person: str
    sources: Tensor
    """(S, 3, H, W) as the model takes them."""
    drivers: Tensor
    """(D, 3, H, W) likewise."""
    mattes: Tensor
    """(D, 1, H, W)."""
    K: Tensor | None = None
    """(D, 3, 3) with ``head_to_camera``: render under the known cameras."""
    head_to_camera: Tensor | None = None
    """(D, 3, 4)."""
    parameters: DrivingParameters | None = None
    """(D, ...) given parameters in place of the estimator's."""
    notes: list[dict[str, Any]] = field(default_factory=list)
    """For each driver: what its row also says (azimuth, ...)."""


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Networks that are passed in; a metric without its judge is left out."""

    embed: Embed | None = None
    landmarks: FindLandmarks | None = None
    lpips: Lpips | None = None


@torch.inference_mode()
def self_reenact(
    model: FFAvatar,
    subjects: Sequence[Subject],
    views: Sequence[int] = (1, 4),
    judges: Judges | None = None,
    baselines: bool = True,
) -> Iterator[dict[str, Any]]:
    """A row a picture, method and number of sources: the person's own other pictures rendered.

    Methods: ``ours``; with ``baselines`` also ``nearest``, ``mean_head``, ``mean_of_views`` (``protocol.PROTOCOL``).
    Pictures, and rows, stay on the model's device until they are numbers.
    """
    judges, device = judges or Judges(), model.rig.points.device
    everybody = [model.features(s.sources[None, : max(views)].to(device)) for s in subjects] if baselines else []
    average = _mean_avatar(model, torch.cat(everybody)) if baselines else None
    for subject in subjects:
        sources, drivers, mattes = (x.to(device) for x in (subject.sources, subject.drivers, subject.mattes))
        parameters = driving(model, subject)
        cached = {s: model.reconstruct(sources[None, :s]) for s in sorted(set(views)) if s <= len(sources)}
        for s, avatar in cached.items():
            methods: dict[str, Tensor] = {"ours": picture(model, avatar, parameters, subject)}
            if baselines and average is not None:
                methods["nearest"] = _nearest(sources[:s], drivers, mattes)
                methods["mean_head"] = picture(model, average, parameters, subject)
                if s > 1:
                    singles = _mean_avatar(model, model.features(sources[:s, None]))
                    methods["mean_of_views"] = picture(model, singles, parameters, subject)
            for method, rendered in methods.items():
                values = compare(model, rendered, drivers, mattes, judges)
                for i in range(len(drivers)):
                    notes = subject.notes[i] if subject.notes else {}
                    row = {name: float(value[i]) for name, value in values.items()}
                    yield {"person": subject.person, "method": method, "views": s, "picture": i, **notes, **row}


@torch.inference_mode()
def cross_reenact(
    model: FFAvatar, subjects: Sequence[Subject], views: int = 4, judges: Judges | None = None
) -> Iterator[dict[str, Any]]:
    """A row a picture: each person driven by the next one's pictures. There is no true picture: identity is compared
    with the first source (``csim``), what moves with the driver (``akd``, ``aed``, ``apd``)."""
    judges = judges or Judges()
    for subject, other in zip(subjects, [*subjects[1:], subjects[0]], strict=True):
        device = model.rig.points.device
        avatar = model.reconstruct(subject.sources[None, :views].to(device))
        drivers = other.drivers.to(device)
        rendered = picture(model, avatar, driving(model, other), other)
        values = _moved(model, rendered, drivers, judges)
        if judges.embed is not None:
            values["csim"] = _csim(
                judges.embed, rendered, subject.sources[:1].to(device).expand(len(rendered), -1, -1, -1)
            )
        for i in range(len(drivers)):
            row = {name: float(value[i]) for name, value in values.items()}
            yield {"person": subject.person, "driver": other.person, "method": "cross", "views": views, **row}


def driving(model: FFAvatar, subject: Subject) -> DrivingParameters:
    """(1, D, ...) what moves the head in a subject's drivers: given, or estimated."""
    if subject.parameters is not None:
        return DrivingParameters(*(x.to(model.rig.points.device)[None] for x in subject.parameters))
    return model.estimate(subject.drivers.to(model.rig.points.device)[None])


def picture(model: FFAvatar, avatar: CanonicalAvatar, parameters: DrivingParameters, subject: Subject) -> Tensor:
    """(D, 3, H, W) an avatar under parameters, by the subject's cameras or, without them, the estimated pose."""
    size, pose = subject.drivers.shape[-1], parameters.pose
    if subject.head_to_camera is None or subject.K is None:
        K = virtual_intrinsics(size, pose).expand(*pose.shape[:2], 3, 3)
        camera = pose_to_camera(pose, K, size)
    else:
        K, camera = subject.K[None].to(pose), subject.head_to_camera[None].to(pose)
    background = pose.new_tensor(BACKGROUND)
    return model.render(model.animate(avatar, parameters), camera, K, background, size).rgb[0].clamp(0, 1)


def compare(model: FFAvatar, rendered: Tensor, target: Tensor, mattes: Tensor, judges: Judges) -> dict[str, Tensor]:
    """Every metric (D,) of renderings (D, 3, H, W) against their targets."""
    values = {
        "psnr": psnr(rendered, target, mattes),
        "ssim": ssim(rendered, target, mattes),
        "ms_ssim": ms_ssim(rendered, target, mattes),
    }
    if judges.lpips is not None:
        values["lpips"] = judges.lpips(rendered, target)
    if judges.embed is not None:
        values["csim"] = _csim(judges.embed, rendered, target)
    return values | _moved(model, rendered, target, judges)


def _moved(model: FFAvatar, rendered: Tensor, driver: Tensor, judges: Judges) -> dict[str, Tensor]:
    ours, theirs = model.estimate(rendered[None]), model.estimate(driver[None])
    turn = rotation_from_6d(ours.pose[..., :6])[0].transpose(-1, -2) @ rotation_from_6d(theirs.pose[..., :6])[0]
    values = {"aed": (ours.expression - theirs.expression).abs().mean(-1)[0], "apd": angle(turn)}
    if judges.landmarks is not None:
        values["akd"] = torch.stack([_akd(judges.landmarks, a, b) for a, b in zip(rendered, driver, strict=True)])
    return values


def angle(rotation: Tensor) -> Tensor:
    """(...) degrees that (..., 3, 3) rotations turn."""
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).acos())


def _akd(find: FindLandmarks, a: Tensor, b: Tensor) -> Tensor:
    ours, theirs = find(a), find(b)
    if ours is None or theirs is None:
        return torch.tensor(torch.nan)
    return (ours - theirs).norm(dim=-1).mean().cpu()


def _csim(embed: Embed, rendered: Tensor, target: Tensor) -> Tensor:
    found = []
    for a, b in zip(rendered, target, strict=True):
        ours, theirs = embed(a), embed(b)
        both = ours is not None and theirs is not None
        found.append(float(torch.cosine_similarity(ours, theirs, dim=0)) if both else torch.nan)  # type: ignore[arg-type]
    return torch.tensor(found)


def _nearest(sources: Tensor, drivers: Tensor, mattes: Tensor) -> Tensor:
    """For each driver the source with the highest PSNR to it."""
    scores = torch.stack([psnr(s.expand_as(drivers), drivers, mattes) for s in sources])
    return sources[scores.argmax(0)]


def _mean_avatar(model: FFAvatar, features: Tensor) -> CanonicalAvatar:
    """One avatar of the mean raw values of N sets of features (N, P, width + 4)."""
    return model.gaussians.activate(model.gaussians.raw(features).mean(0, keepdim=True))
