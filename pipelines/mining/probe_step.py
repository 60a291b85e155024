"""Step ``probe``: metadata that the container of a video states."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

import pyarrow as pa

from mfhq.schema import FAILED, OK, REJECTED
from pipelines.engine.step import Former, Resources, Step
from pipelines.media.local_files import file_fault, is_remote, local_path
from pipelines.mining.config import MiningConfig
from pipelines.mining.schemas import PROBED, SOURCES
from pipelines.mining.video_tools import SOURCE_CHANGED, SourceChanged, VideoTools, video_tools

UNREACHABLE = "unreachable"
"""Reason: the source list names a file that could not be read."""


def probe_step(config: MiningConfig, filesystem: Any = None) -> Step:
    """Return the step from sources (``SOURCES``) to their metadata (``PROBED``).

    Args:
        config: Limits of the decoder that reads the containers.
        filesystem: fsspec, for sources that are not local; must be picklable.
    """
    return Step(
        name="probe",
        version=2,
        continues=(Former(version=1),),
        key="video_id",
        input=SOURCES,
        output=PROBED,
        load=partial(video_tools, config, filesystem),
        fn=probe_videos,
        resources=Resources(cpus=1, batch=8),
    )


def probe_videos(tools: VideoTools, sources: pa.Table) -> pa.Table:
    """Read the metadata of each source.

    Args:
        tools: The decoder.
        sources: ``SOURCES`` rows.

    Returns:
        ``PROBED`` rows; a file that is not a video is rejected with a reason code (``pipelines.media.probe``).
    """
    return pa.Table.from_pylist([_probe_source(tools, row) for row in sources.to_pylist()], schema=PROBED)


def _probe_source(tools: VideoTools, source: dict[str, Any]) -> dict[str, Any]:
    row = {name: source[name] for name in ("video_id", "uri", "licence", "consent")}
    if source["size"] < 0:
        return row | _describe_unread(source["uri"])
    known = source["video_id"] if is_remote(source["uri"]) else ""  # the copy that was digested
    try:
        with tools.local(source["uri"], known) as path:
            metadata = tools.decoder.probe(path)
    except SourceChanged:
        return row | {"status": FAILED, "reason": SOURCE_CHANGED}
    metadata.pop("detail")
    return row | metadata | {"status": REJECTED if metadata["reason"] else OK}


def _describe_unread(uri: str) -> dict[str, Any]:
    """Return status and reason of a file that was not read: it must not be opened, or it could not be."""
    with suppress(OSError, ValueError):
        fault = "" if is_remote(uri) else file_fault(local_path(uri))
        if fault:
            return {"status": REJECTED, "reason": fault}
    return {"status": FAILED, "reason": UNREACHABLE}
