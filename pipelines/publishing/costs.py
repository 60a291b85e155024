"""The table ``costs``: what each step spent, by the outcome of the attempts; and the ledger as SQL reads it."""

from __future__ import annotations

import pyarrow as pa

from mfhq.corpus_tables import ledger_files
from mfhq.schema import ATTEMPTS, COSTS
from mfhq.store import Store
from mfhq.takedowns import DenyList, read_takedowns, token_sql
from mfhq.views import sql_type
from pipelines.publishing.published_query import query_tables, scan

_RETRIED = """CREATE TABLE retried AS SELECT step, fingerprint, item_id, max(attempt) AS latest FROM {ledger}
WHERE attempt > 1 GROUP BY ALL"""
_COSTS = """SELECT step, fingerprint, status, reason,
count(*) FILTER (latest IS NULL OR attempt >= latest) AS items, count(*) AS attempts,
round(fsum(coalesce(seconds, 0)), 6) AS seconds, CAST(sum(coalesce(bytes, 0)) AS BIGINT) AS bytes
FROM {ledger} LEFT JOIN retried USING (step, fingerprint, item_id) GROUP BY ALL ORDER BY ALL"""


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
