"""Speed of light at the end of a run: each stage's time divided by the least time that this machine needs."""

from __future__ import annotations

import platform

from flows.corpus.remote_filesystem import remote_filesystem
from infra.console import say
from mfhq.catalog import Snapshot
from mfhq.store import Store
from pipelines.mining.config import MiningConfig
from pipelines.mining.machine_limits import measure_limits
from pipelines.mining.speed_of_light import (
    WORK_QUERY,
    StageSpeed,
    describe_speed,
    read_limits,
    stage_speeds,
    write_limits,
)
from pipelines.mining.video_tools import video_tools

SAMPLE_VIDEOS = 5
"""Number of the run's videos from which those to be decoded are taken."""


def report_speed(store: Store, snapshot: Snapshot, run_id: str, source: str, pack: str) -> dict[str, float]:
    """Measure this machine's limits, and print a line for each stage that the run worked in.

    Args:
        store: The corpus, which keeps the limits for its report.
        snapshot: The snapshot that the run published.
        run_id: The run.
        source: The run's source.
        pack: Name or folder of the face pack; empty for the embedded pack.

    Returns:
        Metrics by name: for each stage the ratio of its time to the limit; empty if the run worked on nothing.
    """
    own = f"SELECT * FROM attempts WHERE run_id = '{run_id}'"
    query = WORK_QUERY.replace("FROM attempts", f"FROM ({own}) AS attempts")
    work = snapshot.query(query).to_pylist()
    if not work:
        return {}
    sample = f"""SELECT uri FROM videos WHERE status = 'ok' AND video_id IN (SELECT item_id FROM ({own}))
                 ORDER BY abs(n_frames - (SELECT median(n_frames) FROM videos WHERE status = 'ok')), uri
                 LIMIT {SAMPLE_VIDEOS}"""
    uris = snapshot.query(sample)["uri"].to_pylist()
    tools = video_tools(MiningConfig(), remote_filesystem(source))
    write_limits(store, platform.node(), measure_limits(store, uris, tools, pack or None))
    return print_speeds(stage_speeds(work, read_limits(store)))


def print_speeds(speeds: list[StageSpeed]) -> dict[str, float]:
    """Print a line for each stage.

    Args:
        speeds: Rows of ``stage_speeds``.

    Returns:
        Metrics by name: ``{stage}/times_the_limit``.
    """
    for speed in speeds:
        say("  {line}", line=describe_speed(speed))
    return {f"{speed.stage}/times_the_limit": round(speed.ratio, 3) for speed in speeds}
