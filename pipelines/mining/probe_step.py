"""Step ``probe``: what the container promises."""

from __future__ import annotations

from functools import partial
from typing import Any

import pyarrow as pa

from mfhq.schema import FAILED, OK, REJECTED
from pipelines.engine.step import Resources, Step
from pipelines.mining.config import MiningConfig
from pipelines.mining.schemas import PROBED, SOURCES
from pipelines.mining.video_tools import VideoTools, video_tools

UNREACHABLE = "unreachable"
"""The source list names a file that could not be read."""


def probe_step(config: MiningConfig, filesystem: Any = None) -> Step:
    """One source in (``SOURCES``), its metadata out (``PROBED``); what is no video is rejected with its reason."""
    return Step(
        name="probe",
        version=1,
        key="video_id",
        input=SOURCES,
        output=PROBED,
        load=partial(video_tools, config, filesystem),
        fn=probe_videos,
        resources=Resources(cpus=1, batch=8),
    )


def probe_videos(tools: VideoTools, sources: pa.Table) -> pa.Table:
    """Metadata of each source; see ``pipelines.media.probe`` for the reasons."""
    return pa.Table.from_pylist([_probe(tools, row) for row in sources.to_pylist()], schema=PROBED)


def _probe(tools: VideoTools, source: dict[str, Any]) -> dict[str, Any]:
    kept = {name: source[name] for name in ("video_id", "uri", "licence", "consent")}
    if source["size"] < 0:
        return kept | {"status": FAILED, "reason": UNREACHABLE}
    with tools.local(source["uri"]) as path:
        facts = tools.second.probe(path)
    facts.pop("detail")
    return kept | facts | {"status": REJECTED if facts["reason"] else OK}
