"""Facts of a data card, collected by queries on a snapshot: counts and shares, and nothing that names a person."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from mfhq.catalog import Snapshot
from mfhq.fenced_connection import FencedConnection
from pipelines.sharing.rights import judge_rights

Row = dict[str, Any]

LEAST_PEOPLE = 5
"""Smallest number of people of whom a declared attribute is counted in a card; fewer could be recognised by it."""

ATTRIBUTES = ("age", "age_group", "sex", "gender", "skin_tone", "hair", "hair_colour", "glasses", "beard", "ethnicity")
"""Names of declared attributes (``participants.name``) that a card counts; others may be free text."""

_COUNTS = """
SELECT (SELECT count(*) FROM videos) AS videos,
       (SELECT count(*) FROM videos WHERE status = 'ok') AS videos_used,
       (SELECT coalesce(sum(duration_s), 0) FROM videos WHERE status = 'ok') AS seconds_used,
       (SELECT count(*) FROM faces) AS candidate_faces,
       (SELECT count(*) FROM identities) AS people,
       (SELECT count(*) FROM identities WHERE n_videos > 1) AS people_in_several_videos,
       (SELECT count(*) FROM identity_faces) AS chosen_faces,
       (SELECT count(*) FROM captures) AS captures,
       (SELECT count(*) FROM views WHERE status = 'ok') AS views,
       (SELECT count(*) FROM takedowns) AS takedowns"""

_SPLITS = """
SELECT split, count(*) AS people, sum(n_faces) AS faces FROM identities
GROUP BY split ORDER BY list_position(['train', 'val', 'test'], split), split"""

_RIGHTS = """
WITH of_video AS (SELECT video_id, count(*) AS faces FROM chosen GROUP BY video_id)
SELECT licence, consent, count(*) AS videos, coalesce(sum(faces), 0) AS faces
FROM videos LEFT JOIN of_video USING (video_id) GROUP BY licence, consent"""

_SOURCES = """
SELECT CASE WHEN uri LIKE '%://%' THEN lower(split_part(uri, '://', 1)) ELSE 'file' END AS kind,
       coalesce(codec, 'unknown') AS codec, count(*) AS videos
FROM videos GROUP BY ALL ORDER BY videos DESC, kind, codec LIMIT 12"""

_CAPTURES = """
SELECT dataset, coalesce(licence, 'not stated') AS licence, count(DISTINCT identity_id) AS people, count(*) AS captures
FROM captures GROUP BY ALL ORDER BY captures DESC, dataset, licence LIMIT 12"""

_MEASURED = """
SELECT quantile_disc(width_px, [0.1, 0.5, 0.9]) AS width_px, quantile_disc(sharpness, [0.1, 0.5, 0.9]) AS sharpness,
       avg((abs(yaw_deg) < 15)::INT) AS frontal, avg((abs(yaw_deg) BETWEEN 15 AND 30)::INT) AS turned,
       avg((abs(yaw_deg) > 30)::INT) AS far_turned, avg((abs(pitch_deg) > 15)::INT) AS nodded,
       avg((mouth_open > 0.3)::INT) AS mouth_open
FROM chosen"""

_DECLARED = f"""
SELECT name, value, count(DISTINCT identity_id) AS people FROM participants
WHERE lower(name) IN {ATTRIBUTES} GROUP BY name, value ORDER BY name, people DESC, value LIMIT 60"""

_REJECTED = """
SELECT stage, reason, items, share FROM funnel
WHERE reason <> 'ok' AND stage IN ('videos', 'tracks', 'faces') ORDER BY share DESC, stage, reason LIMIT 8"""


@dataclass(frozen=True)
class RightsCount:
    """Number of source files with the same rights."""

    licence: str
    """Name of the licence (``rights``)."""
    consent: str
    refusal: str
    """Reason for which their faces are not exported; empty if they may be."""
    videos: int
    """Number of source files."""
    faces: int
    """Number of faces that are chosen from them."""


@dataclass(frozen=True)
class CardFacts:
    """Facts of a snapshot; the same snapshot gives the same facts."""

    snapshot: Snapshot
    counts: Row
    splits: list[Row]
    rights: list[RightsCount]
    sources: list[Row]
    """Numbers of files by the kind of place and the codec; neither hosts nor paths."""
    captures: list[Row]
    measured: Row
    """Deciles and shares over the chosen faces; None where nothing was measured."""
    declared: list[Row]
    """Attributes of people that their data set declares, each of ``LEAST_PEOPLE`` people or more."""
    withheld: int
    """Number of attribute values that fewer people have."""
    rejected: list[Row]
    """The most frequent reasons of rejection."""


def collect_facts(snapshot: Snapshot) -> CardFacts:
    """Collect the facts of a data card.

    Args:
        snapshot: The snapshot; it need not be committed yet.
    """
    with snapshot.connect() as connection:
        declared = _rows(connection, _DECLARED)
        return CardFacts(
            snapshot=snapshot,
            counts=_rows(connection, _COUNTS)[0],
            splits=_rows(connection, _SPLITS),
            rights=_count_rights(_rows(connection, _RIGHTS)),
            sources=_rows(connection, _SOURCES),
            captures=_rows(connection, _CAPTURES),
            measured=_rows(connection, _MEASURED)[0],
            declared=[row for row in declared if row["people"] >= LEAST_PEOPLE],
            withheld=sum(row["people"] < LEAST_PEOPLE for row in declared),
            rejected=_rows(connection, _REJECTED),
        )


def _rows(connection: FencedConnection, sql: str) -> list[Row]:
    return list(connection.table(sql).to_pylist())


def _count_rights(rows: list[Row]) -> list[RightsCount]:
    videos, faces = defaultdict[Any, int](int), defaultdict[Any, int](int)
    for row in rows:
        rights = judge_rights(row["licence"], row["consent"])
        videos[rights] += int(row["videos"])
        faces[rights] += int(row["faces"])
    ordered = sorted(videos, key=lambda r: (-videos[r], r.licence, r.consent))
    return [RightsCount(r.licence, r.consent, r.refusal, videos[r], faces[r]) for r in ordered]
