"""The split of a person: train, val or test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipelines.publishing.publish_presets import Preset

if TYPE_CHECKING:
    import duckdb

TRAIN, VAL, TEST = "train", "val", "test"


def split_of_identity(identity_id: str, preset: Preset) -> str:
    """Return the split of a person: train, val or test.

    The split depends on a hash of the id alone, so it stays the same when people are added.

    Args:
        identity_id: The person.
        preset: Shares of val and test.
    """
    share = int(hashlib.sha256(b"split:" + identity_id.encode()).hexdigest()[:12], 16) / 16**12
    if share < preset.test_share:
        return TEST
    return VAL if share < preset.test_share + preset.val_share else TRAIN


_JOINED = """WITH placed AS (SELECT DISTINCT t.video_id, t.shot_index, a.identity_id FROM assigned a
JOIN (SELECT track_id, video_id, shot_index FROM tracks) t USING (track_id)),
copied AS (SELECT row_number() OVER () AS n, * FROM duplicates),
seen AS (SELECT n, identity_id FROM copied c JOIN placed p ON p.video_id = c.video_id AND p.shot_index = c.shot_index
UNION ALL SELECT n, identity_id FROM copied c JOIN placed p
ON p.video_id = c.duplicate_of AND p.shot_index = c.original_shot)
SELECT list_sort(list(DISTINCT identity_id)) AS people FROM seen GROUP BY n HAVING count(DISTINCT identity_id) > 1
ORDER BY people"""


@dataclass(frozen=True)
class SplitGroups:
    """Groups of people who are in one split, because one shot or its copies show them."""

    _first_of: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, connection: duckdb.DuckDBPyConnection) -> SplitGroups:
        """Join the people of each shot that has a copy, and of the copy.

        Args:
            connection: A connection with ``assigned`` (track to person), ``tracks`` and ``duplicates``.
        """
        groups = cls()
        for (people,) in connection.execute(_JOINED).fetchall():
            for person in people[1:]:
                groups.join(people[0], person)
        return groups

    def join(self, one: str, other: str) -> None:
        """Join the groups of two people."""
        first, last = sorted((self.of(one), self.of(other)))
        if first != last:
            self._first_of[last] = first

    def of(self, identity_id: str) -> str:
        """Return the lowest id of a person's group, whose split all have."""
        while identity_id in self._first_of:
            identity_id = self._first_of[identity_id]
        return identity_id
