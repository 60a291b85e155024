"""Self- and cross-reenactment of held-out people, compared with simple baselines."""

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
"""Network: image (3, H, W) → face embedding (E,), or None if it finds no face."""
FindLandmarks = Callable[[Tensor], Tensor | None]
"""Network: image (3, H, W) → face-mesh points (L, 2) in image widths, or None if it finds no face."""
Lpips = Callable[[Tensor, Tensor], Tensor]
"""Network: two batches of images (N, 3, H, W) → distances (N,)."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One held-out person: source images, and driver images that are rendered."""

    person: str
    sources: Tensor
    """(S, 3, H, W) aligned crops, RGB in 0 to 1, over the background."""
    drivers: Tensor
    """(D, 3, H, W) aligned crops, RGB in 0 to 1, over the background."""
    mattes: Tensor
    """(D, 1, H, W) mattes of the drivers, 0 to 1."""
    K: Tensor | None = None
    """(D, 3, 3) intrinsics. If these and ``head_to_camera`` are given, the known cameras are rendered."""
    head_to_camera: Tensor | None = None
    """(D, 3, 4) transforms from head to camera, metres."""
    parameters: DrivingParameters | None = None
    """(D, ...) parameters to use instead of the estimator's."""
    shape: Tensor | None = None
    """(S,) known shape coefficients; with None, or a model that uses none, the model goes by the sources alone."""
    notes: list[dict[str, Any]] = field(default_factory=list)
    """For each driver, additional columns of its rows (azimuth, ...)."""

    def shape_for(self, model: FFAvatar) -> Tensor | None:
        """Return the known shape (1, S) on the model's device, or None if the model uses none."""
        shape = None if self.shape is None else self.shape[None].to(model.rig.points)
        return model.rig.known_shape(shape)


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Networks for metrics; a metric without its network is left out."""

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
    """Render each person's own driver images from their source images, and measure the renderings.

    Images and metrics stay on the model's device; only the final numbers are copied to the host.

    Args:
        model: The model to measure.
        subjects: Held-out people.
        views: Numbers of sources to evaluate.
        judges: Networks for metrics.
        baselines: True also measures ``nearest``, ``mean_head`` and ``mean_of_views`` (``protocol.PROTOCOL``).

    Yields:
        One row per image, method and number of sources; the method ``ours`` is the model.
    """
    judges, device = judges or Judges(), model.rig.points.device
    average = None
    if baselines:
        average = _mean_avatar(
            model,
            [
                model.features_and_shape(s.sources[None, : max(views)].to(device), None, s.shape_for(model))
                for s in subjects
            ],
        )
    for subject in subjects:
        sources, drivers, mattes = (x.to(device) for x in (subject.sources, subject.drivers, subject.mattes))
        parameters = driving_parameters(model, subject)
        shape = subject.shape_for(model)
        avatars = {
            s: model.reconstruct(sources[None, :s], None, shape) for s in sorted(set(views)) if s <= len(sources)
        }
        for s, avatar in avatars.items():
            methods: dict[str, Tensor] = {"ours": render_drivers(model, avatar, parameters, subject)}
            if average is not None:
                methods["nearest"] = _nearest(sources[:s], drivers, mattes)
                methods["mean_head"] = render_drivers(model, average, parameters, subject)
                if s > 1:
                    singles = _mean_avatar(
                        model, [model.features_and_shape(sources[:s, None], None, _repeated(shape, s))]
                    )
                    methods["mean_of_views"] = render_drivers(model, singles, parameters, subject)
            for method, rendered in methods.items():
                values = compute_metrics(model, rendered, drivers, mattes, judges)
                for i in range(len(drivers)):
                    notes = subject.notes[i] if subject.notes else {}
                    row = {name: float(value[i]) for name, value in values.items()}
                    yield {"person": subject.person, "method": method, "views": s, "picture": i, **notes, **row}


@torch.inference_mode()
def cross_reenact(
    model: FFAvatar, subjects: Sequence[Subject], views: int = 4, judges: Judges | None = None
) -> Iterator[dict[str, Any]]:
    """Render each person driven by the next person's driver images, and measure the renderings.

    There is no ground truth. Identity is compared with the first source (``csim``), and motion with the driver
    (``akd``, ``aed``, ``apd``).

    Args:
        model: The model to measure.
        subjects: Held-out people, two or more.
        views: Number of sources.
        judges: Networks for metrics.

    Yields:
        One row per image.
    """
    judges = judges or Judges()
    for subject, other in zip(subjects, [*subjects[1:], subjects[0]], strict=True):
        device = model.rig.points.device
        avatar = model.reconstruct(subject.sources[None, :views].to(device), None, subject.shape_for(model))
        drivers = other.drivers.to(device)
        rendered = render_drivers(model, avatar, driving_parameters(model, other), other)
        values = _motion_metrics(model, rendered, drivers, judges)
        if judges.embed is not None:
            first_source = subject.sources[:1].to(device).expand(len(rendered), -1, -1, -1)
            values["csim"] = embedding_similarity(judges.embed, rendered, first_source)
        for i in range(len(drivers)):
            row = {name: float(value[i]) for name, value in values.items()}
            yield {"person": subject.person, "driver": other.person, "method": "cross", "views": views, **row}


def driving_parameters(model: FFAvatar, subject: Subject) -> DrivingParameters:
    """Return the parameters (1, D, ...) of a subject's drivers: ``subject.parameters``, or estimates if it is None."""
    if subject.parameters is not None:
        return DrivingParameters(*(x.to(model.rig.points.device)[None] for x in subject.parameters))
    return model.estimate(subject.drivers.to(model.rig.points.device)[None])


def render_drivers(model: FFAvatar, avatar: CanonicalAvatar, parameters: DrivingParameters, subject: Subject) -> Tensor:
    """Render an avatar with the pose and expression of each of a subject's drivers.

    Args:
        model: The model.
        avatar: One avatar.
        parameters: (1, D, ...) from ``driving_parameters``.
        subject: Its cameras are rendered; if it has none, ``parameters.pose`` determines the camera.

    Returns:
        (D, 3, H, W) renderings in 0 to 1, of the drivers' size.
    """
    size, pose = subject.drivers.shape[-1], parameters.pose
    if subject.head_to_camera is None or subject.K is None:
        K = virtual_intrinsics(size, pose).expand(*pose.shape[:2], 3, 3)
        camera = pose_to_camera(pose, K, size)
    else:
        K, camera = subject.K[None].to(pose), subject.head_to_camera[None].to(pose)
    background = pose.new_tensor(BACKGROUND)
    return model.render(model.animate(avatar, parameters), camera, K, background, size).rgb[0].clamp(0, 1)


def compute_metrics(
    model: FFAvatar, rendered: Tensor, target: Tensor, mattes: Tensor, judges: Judges
) -> dict[str, Tensor]:
    """Compute all metrics of renderings compared with their targets.

    Args:
        model: Model whose estimator compares motion.
        rendered: (D, 3, H, W) renderings, 0 to 1.
        target: (D, 3, H, W) targets, 0 to 1.
        mattes: (D, 1, H, W) mattes of the targets.
        judges: Networks for metrics.

    Returns:
        Values (D,) by metric.
    """
    values = {
        "psnr": psnr(rendered, target, mattes),
        "ssim": ssim(rendered, target, mattes),
        "ms_ssim": ms_ssim(rendered, target, mattes),
    }
    if judges.lpips is not None:
        values["lpips"] = judges.lpips(rendered, target)
    if judges.embed is not None:
        values["csim"] = embedding_similarity(judges.embed, rendered, target)
    return values | _motion_metrics(model, rendered, target, judges)


def rotation_angle(rotation: Tensor) -> Tensor:
    """Return the angle (...) of rotations (..., 3, 3), degrees."""
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).acos())


def _motion_metrics(model: FFAvatar, rendered: Tensor, driver: Tensor, judges: Judges) -> dict[str, Tensor]:
    ours, theirs = model.estimate(rendered[None]), model.estimate(driver[None])
    turn = rotation_from_6d(ours.pose[..., :6])[0].transpose(-1, -2) @ rotation_from_6d(theirs.pose[..., :6])[0]
    values = {"aed": (ours.expression - theirs.expression).abs().mean(-1)[0], "apd": rotation_angle(turn)}
    if judges.landmarks is not None:
        values["akd"] = torch.stack(
            [_keypoint_distance(judges.landmarks, a, b) for a, b in zip(rendered, driver, strict=True)]
        )
    return values


def _keypoint_distance(find: FindLandmarks, a: Tensor, b: Tensor) -> Tensor:
    """Compute the mean distance of face-mesh points, in image widths; NaN if no face is found in an image."""
    ours, theirs = find(a), find(b)
    if ours is None or theirs is None:
        return torch.tensor(torch.nan)
    return (ours - theirs).norm(dim=-1).mean().cpu()


def embedding_similarity(embed: Embed, rendered: Tensor, target: Tensor) -> Tensor:
    """Compute the cosine similarities (D,) of face embeddings; NaN if no face is found in an image."""
    similarities = []
    for a, b in zip(rendered, target, strict=True):
        ours, theirs = embed(a), embed(b)
        if ours is None or theirs is None:
            similarities.append(torch.nan)
        else:
            similarities.append(float(torch.cosine_similarity(ours, theirs, dim=0)))
    return torch.tensor(similarities)


def _repeated(shape: Tensor | None, n: int) -> Tensor | None:
    return None if shape is None else shape.expand(n, -1)


def _nearest(sources: Tensor, drivers: Tensor, mattes: Tensor) -> Tensor:
    """Return for each driver the source with the highest PSNR to it, (D, 3, H, W)."""
    scores = torch.stack([psnr(s.expand_as(drivers), drivers, mattes) for s in sources])
    return sources[scores.argmax(0)]


def _mean_avatar(model: FFAvatar, people: Sequence[tuple[Tensor, Tensor | None]]) -> CanonicalAvatar:
    """Build one avatar from the means of raw values and shapes over ``people``, results of ``features_and_shape``."""
    raw = model.gaussians.raw(torch.cat([features for features, _ in people]))
    shapes = [shape for _, shape in people if shape is not None]
    avatar = model.gaussians.activate(raw.mean(0, keepdim=True))
    return avatar._replace(shape=torch.cat(shapes).mean(0, keepdim=True) if shapes else None)
