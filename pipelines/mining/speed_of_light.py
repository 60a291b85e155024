"""Speed of light: the time that each stage of mining took, divided by the least time that this machine needs for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mfhq.store import Store

LIMITS = "limits/"
"""Prefix of the machines' limits in a corpus, one file per machine."""

STAGES = ("probe", "tracks", "scores", "embeddings")
"""The stages of mining, in their order; they are steps, as the ledger names them."""

WORK_QUERY = """
WITH pixels AS (SELECT video_id, n_frames_decoded * width * height / 1e6 AS megapixels FROM videos),
     candidates AS (SELECT video_id, count(*) AS faces FROM faces GROUP BY video_id)
SELECT step, host, count(*) AS items, sum(seconds) AS seconds, sum(bytes)::DOUBLE AS bytes,
       coalesce(sum(megapixels), 0) AS megapixels, coalesce(sum(faces), 0)::DOUBLE AS faces
FROM attempts
LEFT JOIN pixels ON pixels.video_id = item_id
LEFT JOIN candidates ON candidates.video_id = item_id
WHERE step IN ('probe', 'tracks', 'scores', 'embeddings')
GROUP BY step, host ORDER BY step, host"""
"""Work of each stage on each machine: attempts, their seconds and bytes, decoded megapixels and candidate faces."""


@dataclass(frozen=True, kw_only=True)
class MachineLimits:
    """Least times of one process that has the machine for itself."""

    megapixel_s: float
    """Time to decode a megapixel of the run's own videos to RGB, with the features for the shots, seconds."""
    score_s: float
    """Time of the mesh network (twice) and of the matte network for one face, seconds."""
    embed_s: float
    """Time of the embedding network for one face, seconds."""
    write_s: float
    """Time to write a small object to the corpus, seconds."""
    write_byte_s: float
    """Time to write a further byte of a large object, seconds."""


@dataclass(frozen=True, kw_only=True)
class StageSpeed:
    """One line of the table."""

    stage: str
    attempts: int
    """Number of attempts at items on measured machines."""
    unmeasured: int
    """Number of attempts on machines whose limits are not known; they are in no other number."""
    seconds: float
    """Worker time of the attempts."""
    limit: str
    """Kind of the limit: decode, network or store."""
    limit_s: float
    """Least worker time for the same work."""
    is_longest: bool
    """True for the stage with the most worker time: all stages share the workers, so it holds the rest up."""

    @property
    def ratio(self) -> float:
        """Worker time divided by the least worker time; 0 without any work."""
        return self.seconds / self.limit_s if self.limit_s > 0 else 0.0


def stage_speeds(work: Iterable[Mapping[str, Any]], limits: Mapping[str, MachineLimits]) -> list[StageSpeed]:
    """Compare the stages' worker time with the limits of the machines that did the work.

    Args:
        work: Rows of ``WORK_QUERY``: step, host, items, seconds, bytes, megapixels, faces.
        limits: Name of a machine (``attempts.host``) to its limits.

    Returns:
        One row for each stage with attempts on a machine whose limits are known, in the order of ``STAGES``.
    """
    rows = list(work)
    measured = [row for row in rows if row["host"] in limits]
    totals = {stage: sum(row["seconds"] for row in measured if row["step"] == stage) for stage in STAGES}
    longest = max(STAGES, key=lambda stage: totals[stage])
    speeds = []
    for stage in STAGES:
        own = [row for row in measured if row["step"] == stage]
        if not own:
            continue
        least = [_least_time(row, limits[row["host"]]) for row in own]
        speeds.append(
            StageSpeed(
                stage=stage,
                attempts=sum(row["items"] for row in own),
                unmeasured=sum(row["items"] for row in rows if row["step"] == stage) - sum(row["items"] for row in own),
                seconds=totals[stage],
                limit=least[0][0],
                limit_s=sum(seconds for _, seconds in least),
                is_longest=stage == longest,
            )
        )
    return speeds


def _least_time(row: Mapping[str, Any], limits: MachineLimits) -> tuple[str, float]:
    """Return the kind of a stage's limit, and the least time for its work on one machine, seconds."""
    if row["step"] == "tracks":
        return "decode", row["megapixels"] * limits.megapixel_s
    if row["step"] == "scores":
        return "network", row["faces"] * limits.score_s
    if row["step"] == "embeddings":
        return "network", row["faces"] * limits.embed_s
    return "store", row["items"] * limits.write_s + row["bytes"] * limits.write_byte_s


def describe_speed(speed: StageSpeed) -> str:
    """Describe a stage's speed in one line."""
    line = f"{speed.stage:<10} {speed.seconds:9.1f} s"
    if speed.limit_s > 0:
        line += f", {speed.ratio:.1f} times {speed.limit} alone ({speed.limit_s:.3g} s)"
    if speed.unmeasured:
        line += f", without {speed.unmeasured} attempts on other machines"
    return line + (": holds the rest up" if speed.is_longest else "")


def write_limits(store: Store, host: str, limits: MachineLimits) -> None:
    """Store the limits of a machine in the corpus; a later measurement replaces them.

    Args:
        store: The corpus.
        host: Name of the machine, as in ``attempts.host``.
        limits: Its limits.
    """
    store.write(f"{LIMITS}{host}.json", json.dumps(asdict(limits)).encode())


def read_limits(store: Store) -> dict[str, MachineLimits]:
    """Read the limits of all machines that a corpus has, by the name of the machine.

    Args:
        store: The corpus.
    """
    paths = [path for path in store.list(LIMITS) if path.endswith(".json")]
    return {
        path.removeprefix(LIMITS).removesuffix(".json"): MachineLimits(**json.loads(store.read(path))) for path in paths
    }
