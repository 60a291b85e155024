"""Aliases of identities across clusterings: an id that is no longer used leads to the id that replaced it."""

from __future__ import annotations

import pyarrow as pa

from mfhq.schema import ALIASES


def extend_aliases(previous: pa.Table, fresh: pa.Table, assignments: pa.Table) -> pa.Table:
    """Add the aliases of a clustering to those on record.

    If the target of an alias on record became an alias itself, the alias on record then points to the new target. An id
    that is assigned again is no longer an alias.

    Args:
        previous: The aliases on record (``mfhq.schema.ALIASES``).
        fresh: The aliases of this clustering, same schema.
        assignments: The track assignments of this clustering (``mfhq.schema.ASSIGNMENTS``).

    Returns:
        Rows of ``mfhq.schema.ALIASES``: those on record first.
    """
    target_of = dict(zip(fresh["identity_id"].to_pylist(), fresh["now"].to_pylist(), strict=True))
    used = {*assignments["identity_id"].to_pylist(), *target_of}
    unused = [row for row in previous.to_pylist() if row["identity_id"] not in used]
    redirected = [row | {"now": target_of.get(row["now"], row["now"])} for row in unused]
    return pa.concat_tables([pa.Table.from_pylist(redirected, schema=ALIASES), fresh.cast(ALIASES)])
