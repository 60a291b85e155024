"""Rendering of the report, one HTML page that works without a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.mining.speed_of_light import MachineLimits, stage_speeds
from pipelines.report import formatting
from pipelines.report import report_queries as queries
from pipelines.report.charts import histogram
from pipelines.report.history import SnapshotCounts, lay_out_trends
from pipelines.report.sections import (
    Row,
    describe_people,
    group_by_reason,
    lay_out_poses,
    show_captures,
)
from pipelines.report.thumbnails import ReadBlob, Thumbnails

if TYPE_CHECKING:
    from mfhq.fenced_connection import FencedConnection

PAGE = "report.html"
"""File name of the page."""


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
    history: Sequence[SnapshotCounts] = (),
    before: str = "",
    settings: Sequence[tuple[str, Any, Any]] = (),
) -> Path:
    """Write ``report.html`` into a folder.

    The page is one file that contains its style, images and script, and loads nothing; all of it can be read without
    the script. Values from the data are escaped. Embeddings are not read. The same snapshot gives the same bytes. Its
    size does not grow with the corpus: the numbers of people, samples and rows are bounded, and what is left out is
    said.

    Args:
        connection: Connection with a view for each table of ``mfhq.schema.TABLES``, also for empty ones; with
            ``before`` also ``before_funnel``.
        read_blob: Function that reads the bytes of an encoded image of the corpus, given (uri, offset, length).
        out_dir: Folder of the page; made if it does not exist.
        version: Name of the snapshot, for example ``v0003``.
        digest: Digest of the snapshot.
        corpus: URI of the corpus, which is shown in the command for running a query again.
        title: Heading of the page.
        mattes: Use the mattes to dim the background of the chosen faces.
        limits: Name of a machine to its limits, with which the stages' times are compared (``speed_of_light``).
        history: The snapshots up to this one, oldest first, for the trends.
        before: Name of the snapshot with which this one is compared; empty for none.
        settings: Settings that differ from that snapshot: name, former and present value.

    Returns:
        Path of the page.

    Raises:
        duckdb.Error: A view is missing or lacks a column.
    """
    asked = {name: query for name, query in _QUERIES.items() if _is_asked(name, before, limits)}
    answers = {name: _rows(connection, query) for name, query in asked.items()}
    headline, thumbnails, environment = answers["headline"][0], Thumbnails(read_blob), _environment()
    script = _read_template(environment, "report.js")
    page = environment.get_template("report.html.j2").render(
        title=title,
        version=version,
        digest=digest,
        corpus=corpus,
        script=script,
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        queries=asked,
        tiles=formatting.tiles(headline),
        n_videos=headline["videos"],
        n_identities=headline["identities"],
        funnel=[list(rows) for _, rows in groupby(answers["funnel"], key=lambda row: row["stage"])],
        history=history,
        trends=lay_out_trends(history),
        before=before,
        changes=answers.get("changes", []),
        settings=settings,
        identities=describe_people(answers["identities"], thumbnails, mattes),
        poses=lay_out_poses(answers["poses"], thumbnails),
        diversity=answers["diversity"],
        splits=answers["splits"],
        captures=show_captures(answers["captures"], thumbnails),
        n_captures=headline["captures"],
        charts=_charts(connection),
        rejected_tracks=group_by_reason(answers["rejected_tracks"], thumbnails),
        rejected_faces=group_by_reason(answers["rejected_faces"], thumbnails),
        videos=answers["videos"],
        rights=answers["rights"],
        costs=answers["costs"],
        speeds=stage_speeds(answers.get("work", []), limits or {}),
        images_left_out=thumbnails.left_out,
    )
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{PAGE}.part"
    part.write_text(page, encoding="utf-8")
    return part.replace(folder / PAGE)


def _is_asked(name: str, before: str, limits: Mapping[str, MachineLimits] | None) -> bool:
    """Return False for a query whose answer the page would not show."""
    return {"changes": bool(before), "work": bool(limits)}.get(name, True)


def _read_template(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


_QUERIES: dict[str, queries.ReportQuery] = {
    query.name: query
    for query in (
        queries.HEADLINE,
        queries.FUNNEL,
        queries.CHANGES,
        queries.IDENTITIES,
        queries.POSES,
        queries.DIVERSITY,
        queries.SPLITS,
        queries.CAPTURES,
        queries.REJECTED_TRACKS,
        queries.REJECTED_FACES,
        queries.VIDEOS,
        queries.RIGHTS,
        queries.COSTS,
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


def _charts(connection: FencedConnection) -> list[Row]:
    def chart(query: queries.ReportQuery, title: str, unit: str, step: float, **options: Any) -> Row:
        return {"chart": histogram(title, unit, _rows(connection, query), step, **options), "query": query}

    def exponential(value: float) -> str:
        return f"{2.0**value:.0f}"

    return [
        chart(queries.WIDTHS, "Face width", "px of the frame", 20),
        chart(queries.SHARPNESS, "Sharpness", "Laplacian variance, log scale", 0.5, label=exponential),
        chart(queries.YAWS, "Yaw", "degrees", 10),
        chart(queries.LENGTHS, "Length of a video", "seconds, log scale", 0.5, label=exponential, counted="videos"),
        chart(queries.FILES, "Videos of a person", "20: or more", 1, counted="people"),
        chart(queries.CHOICES, "Chosen faces of a person", "20: or more", 1, counted="people"),
    ]
