"""Each stage's time is divided by the least time of the machines that did the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.storage import open_store
from pipelines.mining.config import MiningConfig
from pipelines.mining.machine_limits import measure_limits
from pipelines.mining.speed_of_light import (
    MachineLimits,
    describe_speed,
    read_limits,
    stage_speeds,
    write_limits,
)
from pipelines.mining.video_tools import video_tools

LIMITS = MachineLimits(megapixel_s=0.002, score_s=0.006, embed_s=0.015, write_s=0.001, write_byte_s=1e-9)
SLOW = MachineLimits(megapixel_s=0.004, score_s=0.012, embed_s=0.03, write_s=0.002, write_byte_s=2e-9)


def work(step: str, host: str, seconds: float, **counts: float) -> dict[str, Any]:
    return {
        "step": step,
        "host": host,
        "items": 10,
        "seconds": seconds,
        "bytes": 0,
        "megapixels": 0,
        "faces": 0,
    } | counts


def test_a_stage_is_compared_with_its_own_limit() -> None:
    rows = [
        work("embeddings", "a", 3.0, faces=100),
        work("tracks", "a", 12.0, megapixels=2000.0),
        work("scores", "a", 1.2, faces=100),
        work("probe", "a", 0.5, bytes=10_000_000),
    ]
    speeds = stage_speeds(rows, {"a": LIMITS})
    assert [(s.stage, s.limit, s.seconds) for s in speeds] == [
        ("probe", "store", 0.5),
        ("tracks", "decode", 12.0),
        ("scores", "network", 1.2),
        ("embeddings", "network", 3.0),
    ]
    assert [round(s.limit_s, 6) for s in speeds] == [0.02, 4.0, 0.6, 1.5]
    assert [round(s.ratio, 6) for s in speeds] == [25.0, 3.0, 2.0, 2.0]
    assert [s.stage for s in speeds if s.is_longest] == ["tracks"]
    assert describe_speed(speeds[1]) == "tracks          12.0 s, 3.0 times decode alone (4 s): holds the rest up"
    assert describe_speed(speeds[3]) == "embeddings       3.0 s, 2.0 times network alone (1.5 s)"


def test_machines_count_with_their_own_limits_and_unknown_ones_not_at_all() -> None:
    rows = [work("scores", host, 1.8, faces=100) for host in ("fast", "slow", "unknown")]
    (speed,) = stage_speeds(rows, {"fast": LIMITS, "slow": SLOW})
    assert (speed.attempts, speed.unmeasured, speed.seconds, round(speed.limit_s, 6)) == (20, 10, 3.6, 1.8)
    assert describe_speed(speed).endswith("alone (1.8 s), without 10 attempts on other machines: holds the rest up")


def test_without_measured_work_there_is_no_line_and_no_division() -> None:
    assert stage_speeds([], {"a": LIMITS}) == []
    assert stage_speeds([work("scores", "b", 1.0, faces=9)], {"a": LIMITS}) == []
    (speed,) = stage_speeds([work("embeddings", "a", 1.0)], {"a": LIMITS})
    assert speed.ratio == 0.0 and describe_speed(speed) == "embeddings       1.0 s: holds the rest up"


def test_the_limits_of_a_machine_are_measured_and_kept(tmp_path: Path, videos: Path) -> None:
    store = open_store(tmp_path / "corpus")
    tools = video_tools(MiningConfig())
    limits = measure_limits(
        store, [str(tmp_path / "gone.mp4"), str(videos / "sound.mp4"), str(videos / "vfr.mp4")], tools, None
    )
    tools.decoder.close()
    assert all(value > 0 for value in (limits.megapixel_s, limits.score_s, limits.embed_s, limits.write_s))
    write_limits(store, "a", limits)
    write_limits(store, "b", LIMITS)
    assert read_limits(store) == {"a": limits, "b": LIMITS}
