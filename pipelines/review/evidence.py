"""Evidence for a reviewer: a person's tracks with a few faces each, and the decisions on them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mfhq.decisions import MERGE, SPLIT, Decision

if TYPE_CHECKING:
    from mfhq.fenced_connection import FencedConnection

MAX_TRACKS = 24
"""Upper bound on a person's tracks on the page: those without a decision come first, then the least similar."""
MAX_FACES = 4
"""Upper bound on the faces of a track on the page."""

NEW = "somebody new"
"""Name for the person of a track that was split off without naming another identity."""

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
class DecisionRecord:
    """Decision that is in force for a track or an identity: the person, the reviewer, the time."""

    identity_id: str
    reviewer: str
    made_at: datetime.datetime | None


def index_decisions(
    decisions: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, DecisionRecord], dict[str, DecisionRecord]]:
    """Find the decision that is in force for each track and each merged identity; a later one replaces an earlier one.

    Args:
        decisions: Rows of ``mfhq.schema.DECISIONS``, the earliest first.

    Returns:
        Track to decision, and identity that was merged into another one to decision.
    """
    tracks: dict[str, DecisionRecord] = {}
    merged: dict[str, DecisionRecord] = {}
    for row in decisions:
        signature = (row["reviewer"] or "", row["made_at"])
        if row["kind"] == MERGE:
            merged[row["other_id"]] = DecisionRecord(row["identity_id"], *signature)
            merged.pop(row["identity_id"], None)
        else:
            tracks[row["track_id"]] = DecisionRecord(
                _person_of(row["kind"], row["identity_id"], row["other_id"]), *signature
            )
            merged.pop(tracks[row["track_id"]].identity_id, None)
    return tracks, merged


def _person_of(kind: str, identity_id: str, other_id: str) -> str:
    """Return the person of a track according to a decision; ``NEW`` if the decision names none."""
    return (other_id or NEW) if kind == SPLIT else identity_id


def find_contradictions(
    fresh: Sequence[Decision],
    decisions: Sequence[Mapping[str, Any]],
    tracks_of: Mapping[str, Sequence[str]],
    reviewer: str,
) -> list[DecisionRecord]:
    """Find decisions of other reviewers that contradict fresh ones.

    Args:
        fresh: Decisions that are about to be saved.
        decisions: Rows of ``mfhq.schema.DECISIONS`` that are saved, the earliest first.
        tracks_of: Tracks of each person whom a fresh decision merges into another.
        reviewer: Name of the reviewer who made the fresh decisions.

    Returns:
        The contradicted decisions, the latest first.
    """
    tracks, merged = index_decisions(decisions)
    contradicting: list[DecisionRecord] = []
    for decision in fresh:
        if decision.kind == MERGE:
            contradicting += [
                tracks[t]
                for t in tracks_of.get(decision.other_id, ())
                if t in tracks and tracks[t].identity_id == decision.other_id
            ]
            continue
        target = _person_of(decision.kind, decision.identity_id, decision.other_id)
        standing = [tracks.get(decision.track_id), merged.get(decision.identity_id)]
        contradicting += [record for record in standing if record and record.identity_id != target]
    others = {record for record in contradicting if record.reviewer != reviewer}
    return sorted(others, key=lambda record: str(record.made_at), reverse=True)


def read_tracks_of_person(connection: FencedConnection, identity_id: str) -> list[dict[str, Any]]:
    """Read every track of a person, the least similar first: track_id, similarity, width_px, frame, uri."""
    names = ("track_id", "similarity", "width_px", "frame", "uri")
    return [dict(zip(names, row, strict=True)) for row in connection.execute(_TRACKS, [identity_id]).fetchall()]


def select_tracks(
    tracks: Sequence[Mapping[str, Any]], decided: Mapping[str, DecisionRecord]
) -> list[Mapping[str, Any]]:
    """Select at most ``MAX_TRACKS`` tracks; those without a decision come first."""
    return sorted(tracks, key=lambda track: track["track_id"] in decided)[:MAX_TRACKS]


def read_faces_of_tracks(connection: FencedConnection, track_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Read the best ``MAX_FACES`` faces of each track, sorted by frame: face_id, frame, crop (reference)."""
    rows = connection.execute(_FACES, [list(track_ids)]).fetchall()
    faces = {}
    for track_id, group in groupby(rows, key=lambda row: row[0]):
        best = [dict(zip(("face_id", "frame", "crop"), row[1:], strict=True)) for row in group][:MAX_FACES]
        faces[track_id] = sorted(best, key=lambda face: face["frame"])
    return faces
