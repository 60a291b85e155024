"""The tables ``funnel`` (items of each stage, by outcome) and ``costs`` (attempts of each step, by outcome)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import pyarrow as pa

from mfhq.corpus_tables import ledger_files
from mfhq.manifest import TableEntry
from mfhq.schema import ATTEMPTS, COSTS, FUNNEL, OK
from mfhq.store import Store
from mfhq.takedowns import DenyList, read_takedowns, token_sql
from mfhq.views import sql_type
from pipelines.engine.commits import locate_step
from pipelines.publishing.publish_presets import Preset
from pipelines.publishing.published_query import query_tables, scan

STEPS_OF_STAGE = {"videos": ("probe",), "shots": (), "tracks": ("tracks",), "faces": ("scores", "embeddings")}
"""Stage to the steps whose seconds are charged to it; step ``tracks`` also finds the shots.

The seconds that a step spent on a video are divided equally among the items that the step found in the video.
"""

_OUTCOME = "CASE WHEN status = 'ok' THEN 'ok' WHEN reason = '' THEN status ELSE reason END"
_CHARGED = """SELECT c.reason, sum(s.seconds * c.n / t.n) FROM
(SELECT video_id, {outcome} AS reason, count(*) AS n FROM {stage} GROUP BY ALL) c
JOIN (SELECT video_id, count(*) AS n FROM {stage} GROUP BY ALL) t USING (video_id)
JOIN spent s ON s.item_id = c.video_id WHERE list_contains([{steps}], s.step) GROUP BY ALL"""
_LEFT_OVER = """SELECT {outcome}, sum(s.seconds) FROM videos v JOIN spent s ON s.item_id = v.video_id
WHERE list_contains([{steps}], s.step) AND v.video_id NOT IN (SELECT video_id FROM {stage}) GROUP BY ALL"""
_RETRIED = """CREATE TABLE retried AS SELECT step, fingerprint, item_id, max(attempt) AS latest FROM {ledger}
WHERE attempt > 1 GROUP BY ALL"""
_COSTS = """SELECT step, fingerprint, status, reason,
count(*) FILTER (latest IS NULL OR attempt >= latest) AS items, count(*) AS attempts,
round(fsum(coalesce(seconds, 0)), 6) AS seconds, CAST(sum(coalesce(bytes, 0)) AS BIGINT) AS bytes
FROM {ledger} LEFT JOIN retried USING (step, fingerprint, item_id) GROUP BY ALL ORDER BY ALL"""


def funnel_table(
    store: Store, entries: Mapping[str, TableEntry], fingerprints: Mapping[str, str], preset: Preset
) -> pa.Table:
    """Build the table ``funnel``: items and seconds by stage and reason.

    If a step found nothing in a video, its seconds are charged to the video. So the column ``seconds`` adds up to the
    total processing time of these videos under these fingerprints, including attempts that failed or were lost.

    Args:
        store: The corpus, whose ledger is read.
        entries: The snapshot's tables videos, shots, tracks, faces and identities.
        fingerprints: Step name to fingerprint; attempts under others do not count, but for those that it continues.
        preset: Identities below its ``min_faces_per_identity`` have the reason ``few_faces``.
    """
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    items: dict[str, dict[str, int]] = {}
    with query_tables(store, entries) as connection:
        connection.execute(f"CREATE TABLE spent AS {_spent(store, fingerprints)}")
        for stage, steps in STEPS_OF_STAGE.items():
            outcome = f"'{OK}'" if stage == "shots" else _OUTCOME
            counted = connection.execute(f"SELECT {outcome}, count(*) FROM {stage} GROUP BY ALL").fetchall()
            items[stage] = {reason: n for reason, n in counted if n}
            listed = ", ".join(f"'{step}'" for step in steps)
            if not steps:
                continue
            for reason, spent in connection.execute(
                _CHARGED.format(outcome=outcome, stage=stage, steps=listed)
            ).fetchall():
                seconds[stage, reason] += spent
            if stage != "videos":
                left = _LEFT_OVER.format(outcome=_OUTCOME, stage=stage, steps=listed)
                for reason, spent in connection.execute(left).fetchall():
                    seconds["videos", reason] += spent
        few = f"CASE WHEN n_faces < {preset.min_faces_per_identity} THEN 'few_faces' ELSE '{OK}' END"
        counted = connection.execute(f"SELECT {few}, count(*) FROM identities GROUP BY ALL").fetchall()
        items["identities"] = {reason: n for reason, n in counted if n}
    rows = [
        {
            "stage": stage,
            "reason": reason,
            "items": count,
            "seconds": round(seconds[stage, reason], 3),
            "share": count / sum(items[stage].values()),
        }
        for stage in ("videos", "shots", "tracks", "faces", "identities")
        for reason, count in sorted(items[stage].items(), key=lambda entry: (entry[0] != OK, -entry[1], entry[0]))
    ]
    return pa.Table.from_pylist(rows, schema=FUNNEL)


def _spent(store: Store, fingerprints: Mapping[str, str]) -> str:
    """Return the query for the seconds spent on each item by each step (step, item_id, seconds)."""
    steps = " OR ".join(
        f"(step = '{step}' AND fingerprint = '{location.fingerprint}')"
        for step, fingerprint in fingerprints.items()
        for location in locate_step(store, step, fingerprint).family
    )
    columns = "step, item_id, sum(coalesce(seconds, 0)) AS seconds"
    return f"SELECT {columns} FROM {ledger_sql(store)} WHERE {steps} GROUP BY ALL"


def costs_table(store: Store) -> pa.Table:
    """Build the table ``costs`` from the ledger; attempts at what a take-down withdrew are left out.

    Args:
        store: The corpus.
    """
    with query_tables(store, {}) as connection:
        ledger = ledger_sql(store)
        connection.execute(_RETRIED.format(ledger=ledger))
        found = connection.sql(_COSTS.format(ledger=ledger)).to_arrow_table()
    return found.select(COSTS.names).cast(COSTS)


def ledger_sql(store: Store) -> str:
    """Return the attempts in the ledger as a table expression of DuckDB, without those at withdrawn items.

    Args:
        store: The corpus.
    """
    paths = ledger_files(store)
    if not paths:
        columns = ", ".join(f'CAST(NULL AS {sql_type(f.type)}) AS "{f.name}"' for f in ATTEMPTS)
        return f"(SELECT {columns} FROM (SELECT 1) WHERE false)"
    withdrawn = DenyList(tuple(read_takedowns(store, unfinished=True))).tokens
    tokens = ", ".join(f"'{token}'" for token in sorted(withdrawn))
    allowed = f"{token_sql('item_id')} NOT IN ({tokens})" if tokens else "true"
    return f"(SELECT * FROM {scan(store, paths)} WHERE {allowed})"
