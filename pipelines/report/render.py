"""Rendering of the report, one HTML page that works without a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.mining.speed_of_light import MachineLimits, stage_speeds
from pipelines.report import formatting
from pipelines.report import report_queries as queries
from pipelines.report.charts import histogram
from pipelines.report.thumbnails import ReadBlob, Thumbnails

if TYPE_CHECKING:
    from mfhq.fenced_connection import FencedConnection

PAGE = "report.html"
"""File name of the page."""

Row = dict[str, Any]


def render_report(
    connection: FencedConnection,
    read_blob: ReadBlob,
    out_dir: str | Path,
    *,
    version: str,
    digest: str = "",
    corpus: str = "",
    title: str = "Face corpus",
    mattes: bool = False,
    limits: Mapping[str, MachineLimits] | None = None,
) -> Path:
    """Write ``report.html`` into a folder.

    The page is one file that contains its style and images, runs no script and loads nothing. Values from the data are
    escaped. Embeddings are not read. The same snapshot gives the same bytes.

    Args:
        connection: Connection with a view for each table of ``mfhq.schema.TABLES``, also for empty ones.
        read_blob: Function that reads the bytes of an encoded image of the corpus, given (uri, offset, length).
        out_dir: Folder of the page; made if it does not exist.
        version: Name of the snapshot, for example ``v0003``.
        digest: Digest of the snapshot.
        corpus: URI of the corpus, which is shown in the command for running a query again.
        title: Heading of the page.
        mattes: Use the mattes to dim the background of the chosen faces.
        limits: Name of a machine to its limits, with which the stages' times are compared (``speed_of_light``).

    Returns:
        Path of the page.

    Raises:
        duckdb.Error: A view is missing or lacks a column.
    """
    thumbnails = Thumbnails(read_blob)
    answers = {name: _rows(connection, query) for name, query in _QUERIES.items()}
    headline = answers["headline"][0]
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            version=version,
            digest=digest,
            corpus=corpus,
            queries=_QUERIES,
            tiles=formatting.tiles(headline),
            n_videos=headline["videos"],
            n_identities=headline["identities"],
            funnel=[list(rows) for _, rows in groupby(answers["funnel"], key=lambda row: row["stage"])],
            identities=_describe_people(answers["identities"], thumbnails, mattes),
            diversity=answers["diversity"],
            splits=answers["splits"],
            captures=[
                row | {"images": [thumbnails.data_uri(image) for image in row["images"] or []]}
                for row in answers["captures"]
            ],
            charts=_charts(connection),
            rejected_tracks=_group_by_reason(answers["rejected_tracks"], thumbnails),
            rejected_faces=_group_by_reason(answers["rejected_faces"], thumbnails),
            videos=answers["videos"],
            rights=answers["rights"],
            attempts=answers["attempts"],
            speeds=stage_speeds(answers["work"], limits or {}),
        )
    )
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{PAGE}.part"
    part.write_text(page, encoding="utf-8")
    return part.replace(folder / PAGE)


_QUERIES: dict[str, queries.ReportQuery] = {
    query.name: query
    for query in (
        queries.HEADLINE,
        queries.FUNNEL,
        queries.IDENTITIES,
        queries.DIVERSITY,
        queries.SPLITS,
        queries.CAPTURES,
        queries.REJECTED_TRACKS,
        queries.REJECTED_FACES,
        queries.VIDEOS,
        queries.RIGHTS,
        queries.ATTEMPTS,
        queries.WORK,
    )
}


def _environment() -> Environment:
    """Set up the templates: all values are escaped, and a name that is not passed is an error."""
    environment = Environment(
        loader=PackageLoader("pipelines.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= formatting.FILTERS
    return environment


def _rows(connection: FencedConnection, query: queries.ReportQuery) -> list[Row]:
    cursor = connection.execute(query.sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def _describe_people(rows: Iterable[Row], thumbnails: Thumbnails, mattes: bool) -> list[Row]:
    """Return one entry per identity, with its chosen faces in order."""
    people = []
    for identity_id, group in groupby(rows, key=lambda row: row["identity_id"]):
        members = list(group)
        faces = [
            {
                "image": thumbnails.data_uri(row["crop"], row["matte"] if mattes else None),
                "label": f"{row['why']} · {formatting.number(row['yaw_deg'], 0)}°",
                "caption": f"rank {row['rank']}, {row['why']}: {_source_label(row)}, "
                f"yaw {formatting.number(row['yaw_deg'])}°, pitch {formatting.number(row['pitch_deg'])}°, "
                f"{_size_label(row)}",
            }
            for row in members
            if row["face_id"] is not None
        ]
        people.append(members[0] | {"short": identity_id[:12], "faces": faces})
    return people


def _group_by_reason(rows: Iterable[Row], thumbnails: Thumbnails) -> list[Row]:
    """Return one entry per reason, with the number of its items and samples of them."""
    groups = []
    for reason, group in groupby(rows, key=lambda row: row["reason"]):
        members = list(group)
        samples = [
            {
                "image": thumbnails.data_uri(row["crop"]),
                "label": _size_label(row),
                "caption": f"{_source_label(row)}, {_size_label(row)}",
            }
            for row in members
        ]
        groups.append({"reason": reason, "total": members[0]["total"], "samples": samples})
    return groups


def _charts(connection: FencedConnection) -> list[Row]:
    def chart(query: queries.ReportQuery, title: str, unit: str, step: float, **options: Any) -> Row:
        return {"chart": histogram(title, unit, _rows(connection, query), step, **options), "query": query}

    return [
        chart(queries.WIDTHS, "Face width", "px of the frame", 20),
        chart(queries.SHARPNESS, "Sharpness", "Laplacian variance, log scale", 0.5, label=lambda v: f"{2.0**v:.0f}"),
        chart(queries.YAWS, "Yaw", "degrees", 10),
    ]


def _source_label(row: Mapping[str, Any]) -> str:
    return f"{formatting.basename(row['uri'] or '')} frame {row['frame_index']}"


def _size_label(row: Mapping[str, Any]) -> str:
    return f"{formatting.number(row['width_px'], 0)} px, {formatting.number(row['sharpness'], 0)}"
