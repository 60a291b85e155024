"""Rows that a step has committed, passed on in memory to the steps that read them.

Within a process they stay where they are; between processes they travel as bytes through Ray's object store. A step
reads from the corpus whatever was not passed on: after an interruption, or if the rows were too large to be kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from mfhq.schema import OK
from pipelines.engine.commits import StepLocation

MAX_BYTES = 256 << 20
"""Upper bound on the bytes that are passed on of one task, images included."""


class Handover:
    """Committed rows of one task, with their images, by the step that made them."""

    def __init__(self, wanted: Collection[str] = (), max_bytes: int = MAX_BYTES) -> None:
        """Begin with no rows.

        Args:
            wanted: Names of the steps whose rows another step reads.
            max_bytes: Upper bound on the bytes that are kept.
        """
        self.wanted, self.room = frozenset(wanted), max_bytes
        self._tables: dict[str, list[pa.Table]] = {}

    def put(self, location: StepLocation, rows: pa.Table) -> None:
        """Keep the rows that a later step reads, if there is room.

        Args:
            location: The step that made them.
            rows: Rows of ``location.schema``, committed.
        """
        if location.name in self.wanted:
            rows = rows.filter(pc.equal(rows["status"], OK))
            if rows.num_rows and rows.nbytes <= self.room:
                self.room -= rows.nbytes
                self._tables.setdefault(location.name, []).append(rows)

    def take(self, location: StepLocation, keys: Sequence[str]) -> pa.Table:
        """Return the rows of these items that were passed on.

        Args:
            location: The step that made them.
            keys: Ids of the items.
        """
        tables = [location.schema.empty_table(), *self._tables.get(location.name, [])]
        rows = pa.concat_tables(tables)
        return rows.filter(pc.is_in(rows[location.key], value_set=pa.array(keys, pa.string())))

    def to_bytes(self, wanted: Collection[str]) -> dict[str, bytes]:
        """Return the rows as Arrow IPC streams, by step.

        Args:
            wanted: Names of the steps whose rows a step of another process reads.
        """
        streams = {}
        for name, tables in self._tables.items():
            if name in wanted:
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, tables[0].schema) as writer:
                    for table in tables:
                        writer.write_table(table)
                streams[name] = sink.getvalue().to_pybytes()
        return streams

    def add_bytes(self, streams: Sequence[tuple[str, bytes]]) -> None:
        """Add the rows of another process.

        Args:
            streams: Name of each step and its rows (``to_bytes``).
        """
        for name, data in streams:
            table = pa.ipc.open_stream(data).read_all()
            self.room -= table.nbytes
            self._tables.setdefault(name, []).append(table)
