"""Landmark error and motion of reconstructed heads: ``python -m flows.experiments.following CHECKPOINT… --clip FILE…``.

One forward pass is measured, by part of the face, with its PSNR: on real clips (files that
``flows.experiments.clip_images`` wrote) and on held-out rendered people.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ffavatar_model.animation.landmark_fit import fit_landmarks
from ffavatar_model.camera import pose_to_camera, project_points, virtual_intrinsics
from ffavatar_model.data.dataset import LoadedImage
from ffavatar_model.data.images import compose_image
from ffavatar_model.evaluation import Embed, GroundTruth, Interval, Subject, bootstrap, psnr, sharpness_ratio, ssim
from ffavatar_model.evaluation.parameters import GROUPS, displacements
from ffavatar_model.evaluation.reenactment import driving_parameters, embedding_similarity, render_drivers
from ffavatar_model.head import load_head
from ffavatar_model.head.face_parts import PARTS, RIGID, landmark_rows
from ffavatar_model.head.interface import JAW, LEFT_EYE
from ffavatar_model.io.weights import load_model
from ffavatar_model.losses import efficientnet, fit_image_similarity
from ffavatar_model.model import FFAvatar
from ffavatar_model.networks.efficientnet import EfficientNetDistance, load_efficientnet
from ffavatar_model.networks.estimator import DrivingParameters
from ffavatar_model.networks.gaussians import CanonicalAvatar
from flows.experiments.clip_images import load_images
from flows.experiments.judging import ground_truth, make_subject, to_json
from flows.experiments.rendering import RenderedArrays, RenderOrder, plan_orders
from pipelines.faces.weight_cache import cache_dir

CROP_PX = 256
"""Landmark errors are in pixels of an aligned crop of this size."""
N_SOURCES = 4
Products = tuple[float, float, float]
"""Sums of products of a part's motion over one person, about the person's own means: estimated · true, estimated ·
estimated, true · true."""


@dataclass(frozen=True, kw_only=True)
class LandmarkedSubject:
    """One person to evaluate, with the landmarks of the driver images."""

    subject: Subject
    landmarks: Tensor
    """(D, 468, 2) face-mesh points in the drivers, in image widths."""
    source_landmarks: Tensor | None = None
    """(S, 468, 2) face-mesh points in the sources, from which the shape is fitted if the model uses one."""
    truth: GroundTruth | None = None
    """The drivers' true parameters, where they are known."""


def make_clip_subject(name: str, images: Sequence[LoadedImage]) -> LandmarkedSubject:
    """Take four sources from a clip's first two thirds, as ``personal`` does, and all other images as drivers.

    Args:
        name: Name of the person.
        images: The clip's images, in the order of time, each with landmarks. The last third is noted as ``held``.
    """
    earlier = images[: len(images) * 2 // 3]
    first = np.linspace(0, len(earlier) - 1, N_SOURCES).round().astype(int).tolist()
    others = [image for i, image in enumerate(images) if i not in first]
    sources, _ = compose_image(torch.stack([earlier[i].pixels for i in first]))
    drivers, mattes = compose_image(torch.stack([image.pixels for image in others]))
    notes = [{"held": image.timestep > earlier[-1].timestep} for image in others]
    subject = Subject(person=name, sources=sources, drivers=drivers, mattes=mattes, notes=notes)
    points = torch.stack([image.landmarks for image in others if image.landmarks is not None])
    in_sources = torch.stack([marks for i in first if (marks := earlier[i].landmarks) is not None])
    return LandmarkedSubject(subject=subject, landmarks=points, source_landmarks=in_sources)


def make_rendered_subject(order: RenderOrder, rendered: RenderedArrays) -> LandmarkedSubject:
    """Return a rendered person's portraits as a subject; the last images are the drivers."""
    subject, truth = make_subject(order, rendered), ground_truth(order, rendered)
    last = slice(-len(subject.drivers), None)
    truth = replace(
        truth,
        images=truth.images[last],
        K=truth.K[last],
        head_to_camera=truth.head_to_camera[last],
        expression=truth.expression[last],
        rotations=truth.rotations[last],
    )
    return LandmarkedSubject(subject=subject, landmarks=torch.from_numpy(rendered["landmarks"])[last], truth=truth)


def load_held_out(folder: Path, people: int, size: int) -> list[LandmarkedSubject]:
    """Read the held-out people whose portraits an experiment rendered.

    Args:
        folder: The experiment's folder of rendered people.
        people: Upper bound on their number.
        size: Pixels along an image's edge.
    """
    found = []
    for order in plan_orders("pretrain", range(0), people, 8, 1, size)[0]:
        path = folder / order.file_name
        if path.is_file():
            with np.load(path) as arrays:
                found.append(make_rendered_subject(order, dict(arrays)))
    return found


def load_network(device: torch.device | str) -> EfficientNetDistance | None:
    """Load the network of the EfficientNet distance; return None, with a line that says so, if it cannot be loaded."""
    try:
        return load_efficientnet().to(device)
    except ValueError as error:
        click.echo(f"left out: {error}", err=True)
        return None


@torch.inference_mode()
def evaluate_following(
    model: FFAvatar,
    people: Sequence[LandmarkedSubject],
    network: EfficientNetDistance | None = None,
    embed: Embed | None = None,
) -> dict[str, Any]:
    """Evaluate one forward pass from each person's sources.

    Args:
        model: The model to measure.
        people: People that it was not trained on.
        network: Network of the EfficientNet distance, on the model's device; None leaves that distance out.
        embed: Embedder of faces; None leaves ``csim`` out.

    Returns:
        Intervals over people, ready for JSON. ``landmark_px`` of all landmarks and by part: median over drivers of the
        mean error, pixels of ``CROP_PX``. ``psnr`` and ``hull_psnr`` (dB): inside the matte and inside the convex hull
        of the landmarks, of the drivers noted as ``held`` (all of them where none is). Of the same drivers:
        ``hull_ssim``; ``hull_sharpness`` (``sharpness_ratio``); ``csim``, the similarity of face embeddings where a
        face is found; ``efficientnet`` of the crop and ``efficientnet_face`` of the face at twice the scale.
        ``motion_…_r`` by part: the correlation of what expression and joints do to the model's landmarks in the image
        with what the detected ones do beside a head at rest in the same pose. Where the truth is known, ``true_…_r``
        and ``true_…_r2``: correlation and explained share of the displacement on the mean head by part, and of the
        gaze's nod and turn. Each person's own mean is subtracted from all motion.
    """
    index = model.rig.landmark_index
    rows = {name: torch.cat([landmark_rows(PARTS[p], index) for p in parts]) for name, parts in GROUPS.items()}
    values: dict[str, list[float]] = {}
    products: dict[str, list[Products]] = {}
    for person in people:
        person_values, person_products = _evaluate_person(model, person, rows, network, embed)
        for name, value in person_values.items():
            values.setdefault(name, []).append(value)
        for name, product in person_products.items():
            products.setdefault(name, []).append(product)
    report = {name: bootstrap(each) for name, each in values.items()}
    for name, each in products.items():
        report[f"{name}_r"] = pooled_interval(each, lambda s: s[0] / max((s[1] * s[2]) ** 0.5, 1e-12))
        if name.startswith("true_"):
            report[f"{name}_r2"] = pooled_interval(each, lambda s: 1 - (s[1] - 2 * s[0] + s[2]) / max(s[2], 1e-12))
    return {name: to_json(interval) for name, interval in report.items()}


def pooled_interval(products: Sequence[Products], statistic: Callable[[NDArray[np.float64]], float]) -> Interval:
    """Compute a statistic of sums over people, with a bootstrap interval that resamples people.

    Args:
        products: One row a person.
        statistic: Maps the sums (3,) over all people to a number.
    """
    table = np.asarray(products, np.float64)
    return bootstrap(list(range(len(table))), lambda people: statistic(table[np.asarray(people, int)].sum(0)))


def hull_matte(points: Tensor, size: int) -> Tensor:
    """Draw the convex hull of landmarks.

    Args:
        points: (468, 2) in image widths; points at zero are left out: the head lacks them.
        size: Pixels along the edge of the matte.

    Returns:
        (1, size, size), 1 inside the hull and 0 outside.
    """
    there = points[(points != 0).any(-1)].numpy()
    outline = cv2.convexHull((there * size).round().astype(np.int32))
    return torch.from_numpy(cv2.fillConvexPoly(np.zeros((size, size), np.float32), outline, 1.0))[None]


def with_fitted_shape(model: FFAvatar, person: LandmarkedSubject) -> Subject:
    """Return the subject with the shape that fits the landmarks of its sources, if the model uses one."""
    marks, subject = person.source_landmarks, person.subject
    if marks is None or not len(model.rig.shape_directions):
        return subject
    start = model.estimate(subject.sources[None, :N_SOURCES].to(model.rig.points.device))
    fit = fit_landmarks(model.rig, marks.to(model.rig.points.device), DrivingParameters(*(x[0] for x in start)))
    return replace(subject, shape=fit.shape)


def _evaluate_person(
    model: FFAvatar,
    person: LandmarkedSubject,
    rows: Mapping[str, Tensor],
    network: EfficientNetDistance | None,
    embed: Embed | None,
) -> tuple[dict[str, float], dict[str, Products]]:
    """One person's values and products; ``rows`` are the landmarks of each part."""
    device, subject = model.rig.points.device, with_fitted_shape(model, person)
    avatar = model.reconstruct(subject.sources[None, :N_SOURCES].to(device), None, subject.shape_for(model))
    parameters = driving_parameters(model, subject)
    size = subject.drivers.shape[-1]
    predicted = _project_landmarks(model, avatar, parameters, size)
    detected = person.landmarks.to(device)[:, model.rig.landmark_index]
    error = CROP_PX * (predicted - detected).norm(dim=-1)
    values = {"landmark_px": float(error.mean(-1).median())}
    values |= {f"landmark_px_{name}": float(error[:, part].mean(-1).median()) for name, part in rows.items()}
    # The same heads with a face at rest, laid onto the detected landmarks: the difference is what the face does.
    rotations = parameters.rotations.clone()
    rotations[..., JAW:, :] = 0
    resting = parameters._replace(expression=torch.zeros_like(parameters.expression), rotations=rotations)
    rest = _project_landmarks(model, avatar, resting, size)
    rigid = landmark_rows(RIGID, model.rig.landmark_index)
    matrix, shift = fit_image_similarity(rest[:, rigid], detected[:, rigid])
    moved, truly_moved = (predicted - rest) @ matrix, detected - (rest @ matrix + shift)
    products = {f"motion_{name}": _products(moved[:, part], truly_moved[:, part]) for name, part in rows.items()}
    rendered = render_drivers(model, avatar, parameters, subject)
    drivers, mattes = subject.drivers.to(device), subject.mattes.to(device)
    held = [i for i, note in enumerate(subject.notes) if note.get("held", True)] or list(range(len(drivers)))
    hulls = torch.stack([hull_matte(points, size) for points in person.landmarks]).to(device)
    values |= _compare_images(rendered[held], drivers[held], mattes[held], hulls[held])
    if embed is not None:
        similarity = embedding_similarity(embed, rendered[held], drivers[held])
        values |= {} if similarity.isnan().all() else {"csim": float(similarity.nanmean())}
    if network is not None:
        there = torch.ones(len(held), dtype=torch.bool, device=device)
        points = person.landmarks.to(device)[held]
        distances = efficientnet(network, rendered[held], drivers[held], points, there)
        values |= {n: float(d.mean()) for n, d in zip(("efficientnet", "efficientnet_face"), distances, strict=True)}
    if person.truth is not None:
        estimated, true = DrivingParameters(*(x[0] for x in parameters)), person.truth.driving_parameters(model)
        moved, truly_moved = displacements(model.rig, estimated), displacements(model.rig, true)
        products |= {f"true_{name}": _products(moved[:, part], truly_moved[:, part]) for name, part in rows.items()}
        for axis, name in enumerate(("gaze_nod", "gaze_turn")):
            gaze, true_gaze = (x.rotations[:, LEFT_EYE:, axis].mean(1) for x in (estimated, true))
            products[f"true_{name}"] = _products(gaze, true_gaze)
    return values, products


def _compare_images(rendered: Tensor, drivers: Tensor, mattes: Tensor, hulls: Tensor) -> dict[str, float]:
    """Mean image metrics inside the mattes and inside the hulls of the landmarks."""
    metrics = {
        "psnr": psnr(rendered, drivers, mattes),
        "hull_psnr": psnr(rendered, drivers, hulls),
        "hull_ssim": ssim(rendered, drivers, hulls),
        "hull_sharpness": sharpness_ratio(rendered, drivers, hulls),
    }
    return {name: float(value.mean()) for name, value in metrics.items()}


def _project_landmarks(model: FFAvatar, avatar: CanonicalAvatar, parameters: DrivingParameters, size: int) -> Tensor:
    """Landmarks (D, L, 2) of one avatar under (1, D) parameters and their own poses, in image widths."""
    means, _ = model.rig.pose(avatar, parameters)
    K = virtual_intrinsics(size, means).expand(*parameters.pose.shape[:2], 3, 3)
    return project_points(model.rig.landmarks(means), pose_to_camera(parameters.pose, K, size), K)[0] / size


def _products(estimated: Tensor, true: Tensor) -> Products:
    """``Products`` of values (D, ...), about their means over the D drivers."""
    a, b = (x.double() - x.double().mean(0) for x in (estimated, true))
    return float((a * b).sum()), float((a * a).sum()), float((b * b).sum())


@click.command(context_settings={"show_default": True})
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--clip", "clips", multiple=True, type=click.Path(path_type=Path, exists=True), help="A file of images.")
@click.option("--held", type=click.Path(path_type=Path, exists=True), help="Folder of rendered people.")
@click.option("--people", default=48, help="Held-out rendered people, at most.")
@click.option("--head", type=click.Path(path_type=Path), help="Cache folder that holds heads/open-head-v*.safetensors.")
@click.option("--csim", is_flag=True, help="Compare face embeddings, too (slow: on the CPU).")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="A JSON line a checkpoint and kind of people.")
def main(
    checkpoints: Sequence[Path],
    clips: Sequence[Path],
    held: Path | None,
    people: int,
    head: Path | None,
    csim: bool,
    out: Path | None,
) -> None:
    """Evaluate each of CHECKPOINTS on real clips and on held-out rendered people."""
    head_model = load_head(next(((head or cache_dir()) / "heads").glob("open-head-v*.safetensors")))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, embed = load_network(device), None
    if csim:  # detector and embedder are not needed where a model is trained
        from flows.evaluation.judges import open_judges

        embed = open_judges(None, None, torch.device(device)).embed
    for checkpoint in checkpoints:
        model = load_model(checkpoint, head_model, device)
        kinds = {"clips": [make_clip_subject(path.stem, load_images(path)) for path in clips]}
        kinds["studio"] = load_held_out(held, people, model.config.image_size) if held else []
        for kind, subjects in kinds.items():
            if not subjects:
                continue
            line = json.dumps(
                {"checkpoint": str(checkpoint), "people": kind, **evaluate_following(model, subjects, network, embed)}
            )
            click.echo(line)
            if out is not None:
                with out.open("a") as stream:
                    stream.write(line + "\n")


if __name__ == "__main__":
    main()
