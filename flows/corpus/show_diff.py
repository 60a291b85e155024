"""Command ``ffavatar diff``: print the differences between two snapshots as tables."""

from __future__ import annotations

from infra.console import print_table, say
from infra.storage import open_store
from mfhq.catalog import Catalog
from mfhq.diff import diff_snapshots


def diff_command(before: str, after: str, corpus: str) -> None:
    """Run ``ffavatar diff``: print the tables and columns that differ, and the rows whose outcome changed.

    Args:
        before: Name of the first snapshot.
        after: Name of the second snapshot.
        corpus: URI of the corpus.

    Raises:
        CatalogError: One of the snapshots does not exist.
    """
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
    print_table(f"{a.version} to {b.version}", columns, rows)
    moved = [(d.table, was, now, n) for d in diffs for (was, now), n in d.outcomes.items()]
    if moved:
        print_table("outcomes that moved", ("table", "before", "after", "rows"), moved)
    was, now = (snapshot.manifest.about.get("preset", {}) for snapshot in (a, b))
    settings = [(name, str(was.get(name)), str(value)) for name, value in now.items() if was.get(name) != value]
    if settings:
        print_table("settings that differ", ("setting", "before", "after"), settings)
