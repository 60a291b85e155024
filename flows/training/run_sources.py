"""Sources of a training run: a table of its people and their source files, stored with the MLflow run."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from ffavatar_model.data.dataset import CorpusDataset
from mfhq.catalog import Snapshot

SOURCES_FILE = "data/seen.parquet"
"""Name of the table among the artifacts of the MLflow run."""
RUN_SOURCES = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False, metadata={"description": "train or held_out"}),
        pa.field("identity_id", pa.string(), nullable=False, metadata={"description": "the person"}),
        pa.field(
            "source", pa.string(), nullable=False, metadata={"description": "URI of the video, or id of the capture"}
        ),
        pa.field("pictures", pa.int64(), nullable=False, metadata={"description": "pictures of the person from there"}),
    ]
)


def list_run_sources(snapshot: Snapshot, training: CorpusDataset, validation: CorpusDataset | None) -> pa.Table:
    """List the people and the source files of a stage's data sets.

    Args:
        snapshot: The snapshot that the data sets were opened from.
        training: Training data.
        validation: Validation data, or None.

    Returns:
        One row per part, person and source file or capture, schema ``RUN_SOURCES``.
    """
    sources = _image_sources(snapshot)
    counts = []
    for part, data in (("train", training), ("held_out", validation)):
        if data is not None:
            images = data.people.image_ids()
            index = pc.index_in(images["id"], value_set=sources["id"].combine_chunks())
            source = sources["source"].take(index).fill_null("")
            rows = pa.table({"identity_id": images["person"], "source": source})
            rows = rows.group_by(["identity_id", "source"]).aggregate([([], "count_all")])
            rows = rows.rename_columns({"count_all": "pictures"})
            counts.append(rows.append_column("part", pa.repeat(part, len(rows))))
    table = pa.concat_tables(counts).select(RUN_SOURCES.names).cast(RUN_SOURCES)
    return table.sort_by([(name, "ascending") for name in ("part", "identity_id", "source")])


def _image_sources(snapshot: Snapshot) -> pa.Table:
    """Return one row per image: ``id`` of the face or the view, and ``source``, a video's URI or a capture's id."""
    tables = [pa.table({"id": pa.array([], pa.large_string()), "source": pa.array([], pa.string())})]
    videos = snapshot.table("videos", ["video_id", "uri"]).combine_chunks()
    for _, faces in snapshot.parts("faces", ["face_id", "video_id", "status"]):
        faces = faces.filter(pc.equal(faces["status"], "ok"))
        index = pc.index_in(faces["video_id"], value_set=videos["video_id"].combine_chunks())
        source = pc.coalesce(videos["uri"].take(index), faces["video_id"])
        tables.append(pa.table({"id": faces["face_id"].cast(pa.large_string()), "source": source}))
    for _, views in snapshot.parts("views", ["view_id", "capture_id"]):
        tables.append(pa.table({"id": views["view_id"].cast(pa.large_string()), "source": views["capture_id"]}))
    return pa.concat_tables(tables)
