"""``ffavatar diff``: what changed from one snapshot to another."""

from __future__ import annotations

from infra.console import say, table
from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.diff import diff_snapshots


def diff_command(before: str, after: str, corpus: str) -> None:
    """Print the tables that differ, in which columns, and which outcomes moved."""
    catalog = Catalog(open_store(corpus))
    a, b = catalog.open(before), catalog.open(after)
    diffs = diff_snapshots(a, b)
    if a.digest == b.digest:
        say("{a} and {b} hold the same", a=a.version, b=b.version)
        return
    rows = [
        (d.table, d.before, d.after, d.added, d.removed, d.changed, ", ".join(f"{c} {n}" for c, n in d.columns.items()))
        for d in diffs
        if not d.same
    ]
    columns = ("table", "rows before", "after", "added", "removed", "changed", "in the columns")
    table(f"{a.version} to {b.version}", columns, rows)
    moved = [(d.table, was, now, n) for d in diffs for (was, now), n in d.outcomes.items()]
    if moved:
        table("outcomes that moved", ("table", "before", "after", "rows"), moved)
    was, now = (snapshot.manifest.about.get("preset", {}) for snapshot in (a, b))
    settings = [(name, str(was.get(name)), str(value)) for name, value in now.items() if was.get(name) != value]
    if settings:
        table("settings that differ", ("setting", "before", "after"), settings)
