"""Sections of the report with images: people, poses, captures and refused items, each from the rows of a query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pipelines.report import formatting
from pipelines.report import report_queries as queries
from pipelines.report.thumbnails import Thumbnails

Row = dict[str, Any]


@dataclass(frozen=True)
class PoseTable:
    """Table of the poses that occur, laid out for drawing."""

    yaws: list[int]
    """Yaw of each column, degrees."""
    rows: list[tuple[int, list[Row | None]]]
    """Pitch (degrees) and cells of each row, from looking up to looking down; None for a pose that nobody has."""


def describe_people(rows: Iterable[Row], thumbnails: Thumbnails, mattes: bool) -> list[Row]:
    """Return one entry per identity, with its chosen faces in order.

    Args:
        rows: Rows of ``report_queries.IDENTITIES``.
        thumbnails: Maker of the images.
        mattes: Dim the background of the faces.
    """
    people = []
    for identity_id, group in groupby(rows, key=lambda row: row["identity_id"]):
        members = list(group)
        chosen = [row for row in members if row["face_id"] is not None]
        images = thumbnails.data_uris(
            [row["crop"] for row in chosen], [row["matte"] if mattes else None for row in chosen]
        )
        faces = [
            {
                "image": image,
                "label": f"{row['why']} · {formatting.number(row['yaw_deg'], 0)}°",
                "caption": f"rank {row['rank']}, {row['why']}: {_source_label(row)}, "
                f"yaw {formatting.number(row['yaw_deg'])}°, pitch {formatting.number(row['pitch_deg'])}°, "
                f"{_size_label(row)}",
            }
            for row, image in zip(chosen, images, strict=True)
        ]
        people.append(members[0] | {"short": identity_id[:12], "faces": faces})
    return people


def group_by_reason(rows: Iterable[Row], thumbnails: Thumbnails) -> list[Row]:
    """Return one entry per status and reason, with the number of its items and samples of them.

    Args:
        rows: Rows of ``report_queries.REJECTED_TRACKS`` or ``REJECTED_FACES``.
        thumbnails: Maker of the images.
    """
    groups = []
    for (status, reason), group in groupby(rows, key=lambda row: (row["status"], row["reason"])):
        members = list(group)
        samples = [
            {"image": image, "label": _size_label(row), "caption": f"{_source_label(row)}, {_size_label(row)}"}
            for row, image in zip(members, thumbnails.data_uris([row["crop"] for row in members]), strict=True)
        ]
        groups.append({"status": status, "reason": reason, "total": members[0]["total"], "samples": samples})
    most = max((group["total"] for group in groups), default=1)
    return [group | {"share": group["total"] / most} for group in groups]


def lay_out_poses(rows: Sequence[Row], thumbnails: Thumbnails) -> PoseTable | None:
    """Return the table of poses, with a face and a count in each cell; None if there are no faces.

    Args:
        rows: Rows of ``report_queries.POSES``.
        thumbnails: Maker of the images.
    """
    if not rows:
        return None
    most = max(row["faces"] for row in rows)
    images = thumbnails.data_uris([row["crop"] for row in rows])
    cells: dict[tuple[int, int], Row] = {
        (row["across"], row["up"]): {"faces": row["faces"], "image": image, "share": row["faces"] / most}
        for row, image in zip(rows, images, strict=True)
    }
    across, up = ([key[axis] for key in cells] for axis in (0, 1))
    columns = range(min(across), max(across) + 1)
    return PoseTable(
        [column * queries.YAW_STEP for column in columns],
        [
            (row * queries.PITCH_STEP, [cells.get((column, row)) for column in columns])
            for row in range(max(up), min(up) - 1, -1)
        ],
    )


def show_captures(rows: Iterable[Row], thumbnails: Thumbnails) -> list[Row]:
    """Return the captures with thumbnails of their first views.

    Args:
        rows: Rows of ``report_queries.CAPTURES``.
        thumbnails: Maker of the images.
    """
    return [row | {"images": thumbnails.data_uris(row["images"] or [])} for row in rows]


def _source_label(row: Mapping[str, Any]) -> str:
    return f"{formatting.basename(row['uri'] or '')} frame {row['frame_index']}"


def _size_label(row: Mapping[str, Any]) -> str:
    return f"{formatting.number(row['width_px'], 0)} px, {formatting.number(row['sharpness'], 0)}"
