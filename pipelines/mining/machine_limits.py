"""Measurement of a machine's limits, in a few seconds: decoding alone, each network alone, the store alone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mfhq.store import Store
from pipelines.faces.align import ARCFACE_112
from pipelines.media.decoder import DecoderCrashed, DecodeTimeout
from pipelines.media.survey import SurveyConfig
from pipelines.mining.embeddings_step import load_embedder
from pipelines.mining.scores_step import load_score_tools
from pipelines.mining.speed_of_light import LIMITS, MachineLimits
from pipelines.mining.video_tools import VideoTools

DECODE_SECONDS = 2.0
"""Time after which no further video is decoded for the measurement."""
REPEATS = 7
"""Number of runs of a network and of writes, of which the fastest counts: other work only makes them slower."""
LARGE_OBJECT = 4 << 20
"""Bytes of the object whose writing shows the store's throughput."""


def measure_limits(store: Store, uris: Iterable[str], videos: VideoTools, pack_name: str | None) -> MachineLimits:
    """Measure the limits of this machine; nothing else should run meanwhile.

    Args:
        store: The corpus, below whose ``limits/`` objects are written.
        uris: Videos of the run, of which the first ones are decoded.
        videos: Access to the videos, and their decoder.
        pack_name: Name or folder of the face pack; None for ``embedded``.
    """
    scores, embedder = load_score_tools(), load_embedder(pack_name)
    mesh, matte = (
        _fastest(partial(model.run, _blank(model.side))) for model in (scores.mesh.model, scores.matte.model)
    )
    small, large = (_fastest(partial(_write, store, bytes(size))) for size in (1 << 10, LARGE_OBJECT))
    return MachineLimits(
        megapixel_s=_decode(uris, videos),
        score_s=2 * mesh + matte,  # the mesh network runs twice
        embed_s=_fastest(partial(embedder.embed, _blank(112), ARCFACE_112)),
        write_s=small,
        write_byte_s=max(0.0, large - small) / LARGE_OBJECT,
    )


def _blank(side: int) -> npt.NDArray[np.uint8]:
    return np.full((side, side, 3), 128, np.uint8)


def _write(store: Store, data: bytes) -> None:
    store.write(f"{LIMITS}probe", data)


def _fastest(call: Callable[[], object]) -> float:
    """Return the seconds of the fastest of ``REPEATS`` calls."""
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _decode(uris: Iterable[str], videos: VideoTools) -> float:
    """Return the seconds per megapixel of decoding; 0 if no video decodes."""
    megapixels = seconds = 0.0
    for uri in uris:
        if seconds >= DECODE_SECONDS:
            break
        with contextlib.suppress(DecodeTimeout, DecoderCrashed, OSError), videos.local(uri) as path:
            videos.decoder.probe(path)  # starts the process, and the file is read before the time counts
            began = time.perf_counter()
            megapixels += _decode_for(path, videos, DECODE_SECONDS - seconds)
            seconds += time.perf_counter() - began
    return seconds / megapixels if megapixels else 0.0


def _decode_for(path: Path, videos: VideoTools, limit_s: float) -> float:
    """Decode a video for a time, and return the number of decoded megapixels."""
    began, frames, pixels = time.perf_counter(), 0, 0
    for frame in videos.decoder.survey(path, SurveyConfig(per_second=1.0)):
        frames, pixels = frame.frame_index + 1, frame.rgb.shape[0] * frame.rgb.shape[1]
        if time.perf_counter() - began >= limit_s:
            return frames * pixels / 1e6
    return len(videos.decoder.features) * pixels / 1e6
