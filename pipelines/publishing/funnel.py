"""The table ``funnel``: number and cost of the items of each stage, by outcome."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import pyarrow as pa

from mfhq.schema import FUNNEL, OK
from pipelines.publishing.publish_presets import Preset

STEP_OF_STAGE = {"videos": ("probe",), "shots": (), "tracks": ("tracks",), "faces": ("scores", "embeddings")}
"""Stage to the steps whose seconds are charged to it; step ``tracks`` also finds the shots.

The seconds that a step spent on a video are divided equally among the items that the step found in the video.
"""


def funnel_table(
    tables: Mapping[str, pa.Table], ledger: pa.Table, fingerprints: Mapping[str, str], preset: Preset
) -> pa.Table:
    """Build the table ``funnel``: items and seconds by stage and reason.

    If a step found nothing in a video, its seconds are charged to the video. So the column ``seconds`` adds up to the
    total processing time of these videos under these fingerprints, including attempts that failed or were lost.

    Args:
        tables: The snapshot's tables videos, shots, tracks, faces and identities.
        ledger: ``mfhq.schema.ATTEMPTS`` rows.
        fingerprints: Step name to fingerprint; attempts under other fingerprints do not count.
        preset: Identities below its ``min_faces_per_identity`` have the reason ``few_faces``.
    """
    spent: defaultdict[tuple[str, str], float] = defaultdict(float)
    columns = (ledger[name].to_pylist() for name in ("step", "fingerprint", "item_id", "seconds"))
    for step, fingerprint, item, time in zip(*columns, strict=True):
        if fingerprints.get(step) == fingerprint:
            spent[step, item] += time or 0.0
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    items: dict[str, Counter[str]] = {}
    for stage in ("shots", "tracks", "faces", "videos"):
        table = tables[stage]
        reasons = _reasons(table)
        items[stage] = Counter(reasons)
        videos = table["video_id"].to_pylist()
        siblings = Counter(videos)
        for step in STEP_OF_STAGE[stage]:
            for video, reason in zip(videos, reasons, strict=True):
                seconds[stage, reason] += spent.get((step, video), 0.0) / siblings[video]
            for video in siblings:
                spent.pop((step, video), None)
    for video, reason in zip(tables["videos"]["video_id"].to_pylist(), _reasons(tables["videos"]), strict=True):
        seconds["videos", reason] += sum(spent.pop((step, video), 0.0) for step in fingerprints)
    few = [n < preset.min_faces_per_identity for n in tables["identities"]["n_faces"].to_pylist()]
    items["identities"] = Counter("few_faces" if is_few else OK for is_few in few)
    rows = [
        {
            "stage": stage,
            "reason": reason,
            "items": count,
            "seconds": round(seconds[stage, reason], 3),
            "share": count / items[stage].total(),
        }
        for stage in ("videos", "shots", "tracks", "faces", "identities")
        for reason, count in sorted(items[stage].items(), key=lambda entry: (entry[0] != OK, -entry[1], entry[0]))
    ]
    return pa.Table.from_pylist(rows, schema=FUNNEL)


def _reasons(table: pa.Table) -> list[str]:
    """Return, for each row, ``ok`` if its status is ok, else its reason (its status if it has no reason)."""
    if "status" not in table.column_names:
        return [OK] * table.num_rows
    columns = zip(table["status"].to_pylist(), table["reason"].to_pylist(), strict=True)
    return [OK if status == OK else reason or status for status, reason in columns]
