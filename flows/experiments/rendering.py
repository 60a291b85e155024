"""Studio people rendered by a pool of processes, straight into the training data on the device."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ffavatar_model.data.images import head_matte
from flows.experiments.device_images import ResidentImages
from mfhq.ids import digest, seed_of
from pipelines.studio.captures.capture_studio import CaptureStudio, open_capture_studio
from pipelines.studio.captures.portraits import (
    FRONTAL,
    render_all_round_views,
    render_portraits,
)
from pipelines.studio.rendering.draws import find_environments

log = logging.getLogger(__name__)

LANDMARK_NOISE = (0.0015, 0.0015, 0.005)
"""Standard deviations of a landmark's error across, up and in depth, metres. Errors of neighbours are alike, so each of
some 430 landmarks counts for less than one that errs by itself."""
PRIOR_SPREAD = 0.6
"""Standard deviation of the shape coefficients of people."""
FACED = 75.0
"""Degrees of azimuth up to which an image shows the face: it may be a source."""


@dataclass(frozen=True)
class RenderOrder:
    """One person to render: ``timesteps`` expressions from ``cameras`` cameras each, at ``size`` pixels."""

    person: str
    kind: Literal["portraits", "around"]
    timesteps: int
    cameras: int
    size: int

    @property
    def file_name(self) -> str:
        """Name of the file that holds the images."""
        return f"{self.kind}-{digest([self.person, self.timesteps, self.cameras, self.size])}.npz"


RenderedArrays = dict[str, NDArray[Any]]
"""Arrays of ``PersonImages`` by name, but ``pixels`` (N, 4, S, S): RGB and the head's matte."""

_studio: CaptureStudio | None = None


def _start_worker(cache: str, assets: str | None) -> None:
    """Use one thread, open the studio once, and give way to the training process."""
    global _studio
    os.nice(15)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    _studio = open_capture_studio(Path(cache), assets=Path(assets) if assets else None)


def _render_to_file(order: RenderOrder, folder: str) -> tuple[RenderOrder, str]:
    path = Path(folder) / order.file_name
    if not path.is_file():
        assert _studio is not None
        part = path.with_suffix(f".{os.getpid()}")
        with part.open("wb") as stream:
            np.savez(stream, **render_person(_studio, order))  # type: ignore[arg-type]
        part.replace(path)
    return order, str(path)


def render_person(studio: CaptureStudio, order: RenderOrder) -> RenderedArrays:
    """Render a person's images, with the body below the chin faded out of the mattes as in every crop of a corpus."""
    if order.kind == "portraits":
        images = render_portraits(studio, order.person, order.timesteps, order.size)
    else:
        images = render_all_round_views(studio, order.person, order.timesteps, order.cameras, order.size)
    mattes = [
        head_matte(matte, torch.from_numpy(points))
        for matte, points in zip(images.matte, images.landmarks, strict=True)
    ]
    return {
        "pixels": np.concatenate([images.rgb.transpose(0, 3, 1, 2), np.stack(mattes)[:, None]], 1),
        "landmarks": images.landmarks,
        "irises": images.irises,
        "K": images.K,
        "head_to_camera": images.head_to_camera,
        "moment": images.timestep,
        "azimuth": images.azimuth,
        "expression": images.expression,
        "rotations": images.rotations,
        "shape": observe_shape(studio, images.shape[0], np.random.default_rng([seed_of(order.person), 60])),
    }


def observe_shape(studio: CaptureStudio, shape: NDArray[np.float32], g: np.random.Generator) -> NDArray[np.float32]:
    """Return a shape (S,) as a fit to detected landmarks would see it: by the face alone, and not its depth.

    It is the maximum a posteriori of the landmarks at rest, displaced by noise of ``LANDMARK_NOISE``.

    Args:
        studio: Studio of the open head.
        shape: (S,) true coefficients.
        g: Random generator.
    """
    head = studio.head
    corners = head.triangles[head.landmark_triangles]
    directions = torch.einsum("lcxs,lc->lxs", head.shape_directions[corners], head.landmark_barycentric).numpy()
    scaled = (directions / np.array(LANDMARK_NOISE)[:, None]).reshape(-1, directions.shape[-1])[:, : len(shape)]
    seen = scaled @ shape + g.normal(size=len(scaled))
    precision = scaled.T @ scaled + np.eye(len(shape)) / PRIOR_SPREAD**2
    return np.linalg.solve(precision, scaled.T @ seen).astype(np.float32)


def to_resident_images(order: RenderOrder, rendered: RenderedArrays) -> ResidentImages:
    """Return a rendered person as training data; cameras are known for images from all round, unknown for portraits."""
    pixels, n, known = torch.from_numpy(rendered["pixels"]), len(rendered["pixels"]), order.kind == "around"
    azimuth = np.abs(rendered["azimuth"])
    return ResidentImages(
        person=order.person,
        ids=[f"{order.person[:12]}-{order.kind}-{i}" for i in range(n)],
        rgb=pixels[:, :3],
        matte=pixels[:, 3:],
        landmarks=torch.from_numpy(rendered["landmarks"]),
        irises=torch.from_numpy(rendered["irises"]),
        shape=torch.from_numpy(rendered["shape"]) if "shape" in rendered else None,
        has_landmarks=torch.from_numpy(azimuth <= np.degrees(FRONTAL)),
        K=torch.from_numpy(rendered["K"]) if known else None,
        head_to_camera=torch.from_numpy(rendered["head_to_camera"]) if known else None,
        timestep=torch.from_numpy(rendered["moment"]) if known else None,
        source=torch.from_numpy(azimuth <= FACED) if known else None,
    )


@contextmanager
def render_in_background(
    orders: Sequence[RenderOrder],
    take: Callable[[RenderOrder, RenderedArrays], None],
    processes: int,
    cache: Path,
    folder: Path,
    assets: Path | None = None,
) -> Iterator[Callable[[], int]]:
    """Render people in processes, handing each one on as it is done, in about the given order.

    Args:
        orders: The people to render.
        take: Gets each person's arrays, in a thread of this process.
        processes: Number of processes; they end when the context is left.
        cache: Cache folder of the open head.
        folder: Rendered people are stored here, and read from here by another run.
        assets: Kit of skins, hair and environment maps; None for plain people.

    Yields:
        A function that returns how many people are done, and that raises the error of rendering.

    Raises:
        EnvironmentMapError: The kit has no environment map.
    """
    find_environments(assets)  # says what a kit lacks before any process starts
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    state: dict[str, Any] = {"done": 0, "error": None}
    pool = context.Pool(processes, _start_worker, (str(cache), str(assets) if assets else None))
    ended = threading.Event()

    def collect() -> None:
        try:
            results = [pool.apply_async(_render_to_file, (order, str(folder))) for order in orders]
            for result in results:
                while not result.ready() and not ended.is_set():
                    result.wait(0.5)
                if ended.is_set():
                    return
                order, path = result.get()
                with np.load(path) as arrays:
                    take(order, dict(arrays))
                state["done"] += 1
        except BaseException as error:
            state["error"] = error

    def done() -> int:
        if state["error"] is not None:
            raise RuntimeError(f"rendering stopped: {state['error']}") from state["error"]
        return int(state["done"])

    thread = threading.Thread(target=collect, name="rendering", daemon=True)
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        pool.terminate()
        thread.join(10)


def plan_orders(
    stage: str, people: range, held: int, timesteps: int, cameras: int, size: int
) -> tuple[list[RenderOrder], list[RenderOrder]]:
    """Plan the people to render.

    Args:
        stage: ``pretrain`` trains on portraits, another on images from all round.
        people: Numbers of the people to train on.
        held: Number of held-out people.
        timesteps: Expressions a person.
        cameras: Cameras a person, all round.
        size: Pixels along an image's edge.

    Returns:
        Orders for held-out people, of every kind that the stage is evaluated on, and for people to train on.
    """

    def order(group: str, i: int, kind: Any, n: int, c: int) -> RenderOrder:
        return RenderOrder(digest(["studio experiment", group, i]), kind, n, c, size)

    held_out = [order("held", i, "portraits", 8, 1) for i in range(held)]
    if stage == "pretrain":
        return held_out, [order("train", i, "portraits", timesteps, 1) for i in people]
    held_out += [order("held", i, "around", 2, 12) for i in range(max(1, held // 3))]
    return held_out, [order("around", i, "around", timesteps, cameras) for i in people]
