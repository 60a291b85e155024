"""What a reviewer sees of a person: tracks with a few faces each, and what has been said of them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mfhq.decisions import MERGE, SPLIT, Decision

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SHOWN_TRACKS, SHOWN_FACES = 24, 4
"""Of a person at a time, those without a word first, the least similar first; and faces of a track."""

NEW = "somebody new"
"""Where a track goes that is split off with no other identity named."""

_TRACKS = """
SELECT assignments.track_id, assignments.similarity, tracks.mean_width_px, tracks.start_frame, videos.uri
FROM assignments JOIN tracks USING (track_id) LEFT JOIN videos ON videos.video_id = tracks.video_id
WHERE assignments.identity_id = ?
ORDER BY assignments.similarity NULLS FIRST, assignments.track_id"""

_FACES = """
SELECT track_id, face_id, frame_index, crop
FROM faces WHERE track_id IN (SELECT unnest(?)) AND crop IS NOT NULL
ORDER BY track_id, status <> 'ok', score * ln(1 + greatest(sharpness, 0)) * (x1 - x0) DESC, face_id"""


@dataclass(frozen=True)
class Word:
    """A decision as it stands for a track: whose track it is, by whom, when."""

    identity_id: str
    reviewer: str
    made_at: datetime.datetime | None


def words(decisions: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Word], dict[str, Word]]:
    """(track -> its word, identity -> the one that it went up in) of rows in their order: the later holds."""
    tracks: dict[str, Word] = {}
    merged: dict[str, Word] = {}
    for row in decisions:
        said = (row["reviewer"] or "", row["made_at"])
        if row["kind"] == MERGE:
            merged[row["other_id"]] = Word(row["identity_id"], *said)
            merged.pop(row["identity_id"], None)
        else:
            tracks[row["track_id"]] = Word(_target(row["kind"], row["identity_id"], row["other_id"]), *said)
            merged.pop(tracks[row["track_id"]].identity_id, None)
    return tracks, merged


def _target(kind: str, identity_id: str, other_id: str) -> str:
    """Whose track a decision on one says that it is; ``NEW`` for nobody who is known."""
    return (other_id or NEW) if kind == SPLIT else identity_id


def contradictions(
    fresh: Sequence[Decision],
    decisions: Sequence[Mapping[str, Any]],
    tracks_of: Mapping[str, Sequence[str]],
    reviewer: str,
) -> list[Word]:
    """Words of other reviewers that do not go with fresh decisions, the latest first; ``tracks_of`` a person's."""
    tracks, merged = words(decisions)
    against: list[Word] = []
    for decision in fresh:
        if decision.kind == MERGE:
            against += [
                tracks[t]
                for t in tracks_of.get(decision.other_id, ())
                if t in tracks and tracks[t].identity_id == decision.other_id
            ]
            continue
        target = _target(decision.kind, decision.identity_id, decision.other_id)
        standing = [tracks.get(decision.track_id), merged.get(decision.identity_id)]
        against += [word for word in standing if word and word.identity_id != target]
    others = {word for word in against if word.reviewer != reviewer}
    return sorted(others, key=lambda word: str(word.made_at), reverse=True)


def tracks_of_person(connection: DuckDBPyConnection, identity_id: str) -> list[dict[str, Any]]:
    """Every track of a person, the least similar first: track_id, similarity, width_px, frame, uri."""
    names = ("track_id", "similarity", "width_px", "frame", "uri")
    return [dict(zip(names, row, strict=True)) for row in connection.execute(_TRACKS, [identity_id]).fetchall()]


def shown_tracks(tracks: Sequence[Mapping[str, Any]], said: Mapping[str, Word]) -> list[Mapping[str, Any]]:
    """At most ``SHOWN_TRACKS`` of them: those that no reviewer has spoken of come first."""
    return sorted(tracks, key=lambda track: track["track_id"] in said)[:SHOWN_TRACKS]


def faces_of_tracks(connection: DuckDBPyConnection, track_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The best ``SHOWN_FACES`` of each track, in the order of their frames: face_id, frame, crop (a place)."""
    rows = connection.execute(_FACES, [list(track_ids)]).fetchall()
    found = {}
    for track_id, group in groupby(rows, key=lambda row: row[0]):
        best = [dict(zip(("face_id", "frame", "crop"), row[1:], strict=True)) for row in group][:SHOWN_FACES]
        found[track_id] = sorted(best, key=lambda face: face["frame"])
    return found
