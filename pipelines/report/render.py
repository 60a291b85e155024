"""The corpus in pictures: one HTML page that works without a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.report import report_queries as queries
from pipelines.report import wording
from pipelines.report.charts import histogram
from pipelines.report.thumbnails import ReadBlob, Thumbnails

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PAGE = "report.html"

Row = dict[str, Any]


def render_report(
    connection: DuckDBPyConnection,
    read_blob: ReadBlob,
    out_dir: str | Path,
    *,
    version: str,
    digest: str = "",
    corpus: str = "",
    title: str = "Face corpus",
    mattes: bool = False,
) -> Path:
    """Write ``report.html`` into a folder and return its path.

    The page is one file: style and pictures are inside, it runs no script and loads nothing. What comes from data is
    escaped. Embeddings are not read. The same snapshot gives the same bytes.

    Args:
        connection: DuckDB with the views of ``mfhq.schema.TABLES`` (empty ones too).
        read_blob: (uri, offset, length) to the bytes of an encoded picture of the corpus.
        out_dir: made if it does not exist.
        version: the snapshot's name, for example ``v0003``.
        digest: the snapshot's digest.
        corpus: the corpus's URI, shown with the command that asks again.
        title: the page's heading.
        mattes: dim what the matte leaves out of the chosen faces.

    Raises:
        duckdb.Error: a view is missing or lacks a column.
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
            tiles=wording.tiles(headline),
            n_videos=headline["videos"],
            n_identities=headline["identities"],
            funnel=[list(rows) for _, rows in groupby(answers["funnel"], key=lambda row: row["stage"])],
            identities=_people(answers["identities"], thumbnails, mattes),
            diversity=answers["diversity"],
            splits=answers["splits"],
            captures=[
                row | {"pictures": [thumbnails.uri(image) for image in row["images"] or []]}
                for row in answers["captures"]
            ],
            charts=_charts(connection),
            rejected_tracks=_refused(answers["rejected_tracks"], thumbnails),
            rejected_faces=_refused(answers["rejected_faces"], thumbnails),
            videos=answers["videos"],
            rights=answers["rights"],
            attempts=answers["attempts"],
        )
    )
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / f".{PAGE}.part"
    whole.write_text(page, encoding="utf-8")
    return whole.replace(folder / PAGE)


_QUERIES: dict[str, queries.Query] = {
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
    )
}


def _environment() -> Environment:
    """Templates with escaping on for everything; a name that is not passed is an error."""
    environment = Environment(
        loader=PackageLoader("pipelines.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= wording.FILTERS
    return environment


def _rows(connection: DuckDBPyConnection, query: queries.Query) -> list[Row]:
    cursor = connection.execute(query.sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def _people(rows: Iterable[Row], thumbnails: Thumbnails, mattes: bool) -> list[Row]:
    """One entry an identity, with its chosen faces in order."""
    people = []
    for identity_id, group in groupby(rows, key=lambda row: row["identity_id"]):
        found = list(group)
        faces = [
            {
                "picture": thumbnails.uri(row["crop"], row["matte"] if mattes else None),
                "label": f"{row['why']} · {wording.number(row['yaw_deg'], 0)}°",
                "caption": f"rank {row['rank']}, {row['why']}: {_where(row)}, yaw {wording.number(row['yaw_deg'])}°, "
                f"pitch {wording.number(row['pitch_deg'])}°, {_size(row)}",
            }
            for row in found
            if row["face_id"] is not None
        ]
        people.append(found[0] | {"short": identity_id[:12], "faces": faces})
    return people


def _refused(rows: Iterable[Row], thumbnails: Thumbnails) -> list[Row]:
    """One entry a reason: how many items, and samples of them."""
    groups = []
    for reason, group in groupby(rows, key=lambda row: row["reason"]):
        found = list(group)
        samples = [
            {"picture": thumbnails.uri(row["crop"]), "label": _size(row), "caption": f"{_where(row)}, {_size(row)}"}
            for row in found
        ]
        groups.append({"reason": reason, "total": found[0]["total"], "samples": samples})
    return groups


def _charts(connection: DuckDBPyConnection) -> list[Row]:
    def chart(query: queries.Query, title: str, unit: str, step: float, **how: Any) -> Row:
        return {"chart": histogram(title, unit, _rows(connection, query), step, **how), "query": query}

    return [
        chart(queries.WIDTHS, "Face width", "px of the frame", 20),
        chart(queries.SHARPNESS, "Sharpness", "Laplacian variance, log scale", 0.5, label=lambda v: f"{2.0**v:.0f}"),
        chart(queries.YAWS, "Yaw", "degrees", 10),
    ]


def _where(row: Mapping[str, Any]) -> str:
    return f"{wording.basename(row['uri'] or '')} frame {row['frame_index']}"


def _size(row: Mapping[str, Any]) -> str:
    return f"{wording.number(row['width_px'], 0)} px, {wording.number(row['sharpness'], 0)}"
