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

import numpy as np
import torch
from numpy.typing import NDArray

from ffavatar_model.data.images import head_matte
from ffavatar_model.data.resident import ResidentImages
from mfhq.ids import digest
from pipelines.studio.portraits import FRONTAL, PersonPictures, render_around, render_portraits
from pipelines.studio.studio_head import StudioHead, load_studio_head

log = logging.getLogger(__name__)

FACED = 75.0
"""Degrees of azimuth up to which a picture shows the face: it may be a source."""


@dataclass(frozen=True)
class RenderOrder:
    """One person to render."""

    person: str
    kind: Literal["portraits", "around"]
    moments: int
    cameras: int
    size: int

    @property
    def name(self) -> str:
        """Of the file that holds the pictures."""
        return f"{self.kind}-{digest([self.person, self.moments, self.cameras, self.size])}.npz"


Rendered = dict[str, NDArray[Any]]
"""Arrays of ``PersonPictures`` by name, but ``pixels`` (N, 4, S, S): RGB and the head's matte."""

_head: StudioHead | None = None


def _start(cache: str) -> None:
    """In each worker: one thread, the head loaded once, and the training process goes first."""
    global _head
    os.nice(5)
    torch.set_num_threads(1)
    _head = load_studio_head(Path(cache))


def _work(order: RenderOrder, folder: str) -> tuple[RenderOrder, str]:
    path = Path(folder) / order.name
    if not path.is_file():
        assert _head is not None
        part = path.with_suffix(f".{os.getpid()}")
        with part.open("wb") as stream:
            np.savez(stream, **render(_head, order))  # type: ignore[arg-type]
        part.replace(path)
    return order, str(path)


def render(head: StudioHead, order: RenderOrder) -> Rendered:
    """A person's pictures, the body below the chin faded out of the mattes as in every crop that the model sees."""
    if order.kind == "portraits":
        seen = render_portraits(head, order.person, order.moments, order.size)
    else:
        seen = render_around(head, order.person, order.moments, order.cameras, order.size)
    return {
        "pixels": np.concatenate([seen.rgb.transpose(0, 3, 1, 2), _head_mattes(seen)[:, None]], 1),
        "landmarks": seen.landmarks,
        "K": seen.K,
        "head_to_camera": seen.head_to_camera,
        "moment": seen.moment,
        "azimuth": seen.azimuth,
        "expression": seen.expression,
        "rotations": seen.rotations,
    }


def _head_mattes(seen: PersonPictures) -> NDArray[np.uint8]:
    faded = [
        head_matte(matte, torch.from_numpy(points)) for matte, points in zip(seen.matte, seen.landmarks, strict=True)
    ]
    return np.stack(faded)


def pictures(order: RenderOrder, seen: Rendered) -> ResidentImages:
    """What the training data takes: cameras are known for pictures from all round, unknown for portraits."""
    pixels, n, known = torch.from_numpy(seen["pixels"]), len(seen["pixels"]), order.kind == "around"
    azimuth = np.abs(seen["azimuth"])
    return ResidentImages(
        person=order.person,
        ids=[f"{order.person[:12]}-{order.kind}-{i}" for i in range(n)],
        rgb=pixels[:, :3],
        matte=pixels[:, 3:],
        landmarks=torch.from_numpy(seen["landmarks"]),
        has_landmarks=torch.from_numpy(azimuth <= np.degrees(FRONTAL)),
        K=torch.from_numpy(seen["K"]) if known else None,
        head_to_camera=torch.from_numpy(seen["head_to_camera"]) if known else None,
        moment=torch.from_numpy(seen["moment"]) if known else None,
        source=torch.from_numpy(azimuth <= FACED) if known else None,
    )


@contextmanager
def rendering(
    orders: Sequence[RenderOrder],
    take: Callable[[RenderOrder, Rendered], None],
    processes: int,
    cache: Path,
    folder: Path,
) -> Iterator[Callable[[], int]]:
    """Render in the background, handing each person to ``take`` as it is done, in about the given order.

    ``folder`` keeps what was rendered (another run reads it). Yields a function that says how many are done, and that
    raises what went wrong. Leaving the block ends the processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    state: dict[str, Any] = {"done": 0, "error": None}
    pool = context.Pool(processes, _start, (str(cache),))
    ended = threading.Event()

    def collect() -> None:
        try:
            waiting = [pool.apply_async(_work, (order, str(folder))) for order in orders]
            for result in waiting:
                while not result.ready() and not ended.is_set():
                    result.wait(0.5)
                if ended.is_set():
                    return
                order, path = result.get()
                with np.load(path) as seen:
                    take(order, dict(seen))
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
