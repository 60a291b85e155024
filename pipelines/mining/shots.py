"""Step ``shots``: every frame decoded small; where the cuts are, and how many frames there really are."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from mfhq.schema import OK, REJECTED
from pipelines.media.decoder import DecoderCrashed, DecodeSummary, DecodeTimeout, ProcessDecoder
from pipelines.media.shot_features import FRAME_SIZE, ShotFeatures, shot_features
from pipelines.media.shots import ShotConfig, find_shots
from pipelines.mining.config import MiningConfig, settings
from pipelines.mining.schemas import PROBED, SHOTS_FOUND
from pipelines.mining.videos import VideoTools, video_tools
from pipelines.step import Resources, Step

DECODED_IN_PART = "decoded_in_part"
"""Fewer frames decode than the container promises; those that do are used."""
NO_FRAME_DECODED = "no_frame_decoded"
"""A container that opens, and not one frame of it decodes."""


def shots_step(config: MiningConfig, filesystem: Any = None) -> Step:
    """One probed video in (``PROBED``), its shots out (``SHOTS_FOUND``)."""
    return Step(
        name="shots",
        version=1,
        key="video_id",
        input=PROBED,
        output=SHOTS_FOUND,
        load=partial(video_tools, config, filesystem),
        fn=partial(shots_of_videos, config.shots),
        resources=Resources(cpus=1, batch=1),
        config=settings(config.shots),
    )


def shots_of_videos(config: ShotConfig, tools: VideoTools, probed: pa.Table) -> pa.Table:
    """Shots of each video. What decord does not give whole is decoded again by PyAV, which goes on after damage."""
    return pa.Table.from_pylist([_shots(config, tools, row) for row in probed.to_pylist()], schema=SHOTS_FOUND)


def _shots(config: ShotConfig, tools: VideoTools, row: dict[str, Any]) -> dict[str, Any]:
    promised = row["n_frames"]
    with tools.local(row["uri"]) as path:
        try:
            features, summary = _decode(tools.first, path)
            whole = summary.is_whole(promised)
        except (DecodeTimeout, DecoderCrashed):
            whole = False
        if not whole:
            features, summary = _decode(tools.second, path)
            whole = summary.is_whole(promised)
    out = {
        "video_id": row["video_id"],
        "uri": row["uri"],
        "n_frames": promised if promised is not None else summary.n_indexed,
        "n_frames_decoded": len(features),
    }
    if not len(features):
        return out | {"status": REJECTED, "reason": NO_FRAME_DECODED, "shots": []}
    shots = [{"shot_index": i, **asdict(shot)} for i, shot in enumerate(find_shots(features, config))]
    return out | {"status": OK, "reason": "" if whole else DECODED_IN_PART, "shots": shots}


def _decode(decoder: ProcessDecoder, path: Path) -> tuple[ShotFeatures, DecodeSummary]:
    features = shot_features((f.frame_index, f.rgb) for f in decoder.frames(path, size=FRAME_SIZE))
    return features, decoder.summary
