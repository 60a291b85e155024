"""Look-up of the person of a track, and of a track's mean embedding, among millions."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class TrackIndex:
    """Rows of a table by track id, found by binary search: 8 bytes a row and the ids."""

    def __init__(self, table: pa.Table) -> None:
        """Index a table.

        Args:
            table: Rows with ``track_id``, each of another track.
        """
        ids = table["track_id"].to_numpy(zero_copy_only=False).astype(bytes) if table.num_rows else np.empty(0, "S1")
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]

    def rows(self, track_ids: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.int64]:
        """Return the row of each track; -1 if it has none.

        Args:
            track_ids: (N,) strings.
        """
        if not len(self._ids) or not len(track_ids):
            return np.full(len(track_ids), -1, np.int64)
        wanted = track_ids.to_numpy(zero_copy_only=False).astype(bytes)
        place = np.minimum(np.searchsorted(self._ids, wanted), len(self._ids) - 1)
        return np.where(self._ids[place] == wanted, self._order[place], -1)


class IdentityLookup:
    """Person of each track, and the mean embeddings from which the tracks were clustered."""

    def __init__(self, assignments: pa.Table, means: pa.Table) -> None:
        """Index a clustering.

        Args:
            assignments: ``mfhq.schema.ASSIGNMENTS`` rows.
            means: ``mfhq.schema.EMBEDDINGS`` rows, one per track.
        """
        self.assignments, self.means = assignments.combine_chunks(), means

    @cached_property
    def _assigned(self) -> TrackIndex:
        return TrackIndex(self.assignments)

    @cached_property
    def _mean_of(self) -> TrackIndex:
        return TrackIndex(self.means)

    def identities_of(self, track_ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return the person of each track, null for none."""
        rows = self._assigned.rows(track_ids)
        return self.assignments["identity_id"].take(pa.array(rows, mask=rows < 0))

    def means_of(self, track_ids: pa.ChunkedArray | pa.Array) -> pa.Table:
        """Return the mean embeddings of those of the tracks that have one."""
        rows = self._mean_of.rows(track_ids)
        return self.means.take(pa.array(rows[rows >= 0]))
