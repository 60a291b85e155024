"""Benchmark of the renderers of studio people: ``ffavatar bench studio``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from flows.bench import emit
from pipelines.faces.weight_cache import cache_dir
from pipelines.studio.assets.kit import open_kit
from pipelines.studio.people.figure import Figure, PeopleSource, Pose, PosedFigure
from pipelines.studio.people.open_source import open_source
from pipelines.studio.rendering.choice import Choice, open_renderer
from pipelines.studio.rendering.draws import find_environments, random_portrait_camera, random_scene
from pipelines.studio.rendering.image import Renderer
from pipelines.studio.rendering.scene import StudioScene
from pipelines.studio.studio_head import load_studio_head

SEED = 7
"""Seed of people, scenes and cameras."""
CAMERAS = 16
"""Number of cameras through which the benchmark goes."""
AIM = np.array([0.0, -0.03, -0.04])
"""Point at which the cameras look, metres in the head's frame."""


def bench_open_people(assets: Path | None, renderers: Sequence[Choice], size: int, people: int) -> None:
    """Run ``bench_studio`` with people of the open head.

    Args:
        assets: Folder of a kit with skins, hair and environment maps; None for plain people.
        renderers: Renderers to measure.
        size: Side of the images, pixels.
        people: Number of people.
    """
    source = open_source(cache_dir(), lambda cache: load_studio_head(cache).model, open_kit(assets) if assets else None)
    bench_studio(source, assets, renderers, size, people)


def bench_studio(
    source: PeopleSource,
    assets: Path | None,
    renderers: Sequence[Choice] = ("gl", "cpu"),
    size: int = 512,
    people: int = 2,
    seconds: float = 8.0,
) -> None:
    """Measure images per second, and where their time goes, and print the figures.

    Args:
        source: Source of the people.
        assets: Folder of a kit with environment maps; None makes environments.
        renderers: Renderers to measure.
        size: Side of the images, pixels.
        people: Number of people.
        seconds: Time over which each figure is measured.
    """
    figures = [source.person(f"bench-{index}") for index in range(people)]
    poses = [_poses(figure) for figure in figures]
    scene = random_scene(np.random.default_rng(SEED), find_environments(assets))
    for choice in renderers:
        renderer = open_renderer(choice)
        common: dict[str, Any] = {"renderer": renderer.name, "size_px": size, "source": source.name}
        first = _first_image_seconds(renderer, figures, poses, scene, size)
        emit("studio", part="a person's first image", seconds=round(first, 3), **common)
        emit("studio", part="pose", seconds=round(_pose_seconds(figures[0]), 4), **common)
        for views, truth in ((1, False), (8, False), (8, True)):
            rate = _rate(renderer, figures, poses, scene, size, views, truth, seconds)
            emit("studio", part="images", views_a_pose=views, truth=truth, images_per_s=round(rate, 1), **common)
        renderer.close()


def _poses(figure: Figure) -> list[PosedFigure]:
    return [figure.pose(Pose({"jawOpen": strength})) for strength in (0.0, 0.3, 0.6)]


def _pose_seconds(figure: Figure, repeats: int = 5) -> float:
    start = time.perf_counter()
    for index in range(repeats):
        figure.pose(Pose({"jawOpen": index / repeats}))
    return (time.perf_counter() - start) / repeats


def _first_image_seconds(
    renderer: Renderer,
    figures: Sequence[Figure],
    poses: Sequence[Sequence[PosedFigure]],
    scene: StudioScene,
    size: int,
) -> float:
    """Return the mean time of the first image of each person, which uploads the figure and bakes its occlusion."""
    camera = random_portrait_camera(np.random.default_rng(SEED), size, AIM)
    start = time.perf_counter()
    for figure, posed in zip(figures, poses, strict=True):
        renderer.render(figure, posed[0], camera, scene, False)
    return (time.perf_counter() - start) / len(figures)


def _rate(
    renderer: Renderer,
    figures: Sequence[Figure],
    poses: Sequence[Sequence[PosedFigure]],
    scene: StudioScene,
    size: int,
    views: int,
    truth: bool,
    seconds: float,
) -> float:
    """Return images per second of people who take turns, each in another pose, ``views`` cameras a pose."""
    g = np.random.default_rng(SEED)
    cameras = [random_portrait_camera(g, size, AIM) for _ in range(CAMERAS)]
    turns = cycle([(figure, posed) for figure, those in zip(figures, poses, strict=True) for posed in those])
    done, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        figure, posed = next(turns)
        used = [cameras[(done + k) % CAMERAS] for k in range(views)]
        done += len(renderer.render_views(figure, posed, used, scene, truth))
    return done / spent
