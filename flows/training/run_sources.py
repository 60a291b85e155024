"""Which people, and which of whose files, a training run reads: kept with its MLflow run."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from ffavatar_model.data.dataset import CorpusDataset
from mfhq.catalog import Snapshot

SEEN_FILE = "data/seen.parquet"
"""Its name in the MLflow run."""
SEEN = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False, metadata={"description": "train or held_out"}),
        pa.field("identity_id", pa.string(), nullable=False, metadata={"description": "the person"}),
        pa.field(
            "source", pa.string(), nullable=False, metadata={"description": "URI of the video, or id of the capture"}
        ),
        pa.field("pictures", pa.int64(), nullable=False, metadata={"description": "pictures of the person from there"}),
    ]
)


def seen(snapshot: Snapshot, training: CorpusDataset, validation: CorpusDataset | None) -> pa.Table:
    """A row for each part, person and source file of the data sets of a stage; see ``SEEN``."""
    sources = _sources(snapshot)
    counted = []
    for part, data in (("train", training), ("held_out", validation)):
        if data is not None:
            listed = data.groups.listed()
            place = pc.index_in(listed["id"], value_set=sources["id"].combine_chunks())
            whose = pa.table({"identity_id": listed["person"], "source": sources["source"].take(place).fill_null("")})
            rows = whose.group_by(["identity_id", "source"]).aggregate([([], "count_all")])
            rows = rows.rename_columns({"count_all": "pictures"})
            counted.append(rows.append_column("part", pa.repeat(part, len(rows))))
    table = pa.concat_tables(counted).select(SEEN.names).cast(SEEN)
    return table.sort_by([(name, "ascending") for name in ("part", "identity_id", "source")])


def _sources(snapshot: Snapshot) -> pa.Table:
    """Where each picture is from: ``id`` of its face or its view, ``source``."""
    found = [pa.table({"id": pa.array([], pa.large_string()), "source": pa.array([], pa.string())})]
    videos = snapshot.table("videos", ["video_id", "uri"]).combine_chunks()
    for _, faces in snapshot.parts("faces", ["face_id", "video_id", "status"]):
        faces = faces.filter(pc.equal(faces["status"], "ok"))
        place = pc.index_in(faces["video_id"], value_set=videos["video_id"].combine_chunks())
        source = pc.coalesce(videos["uri"].take(place), faces["video_id"])
        found.append(pa.table({"id": faces["face_id"].cast(pa.large_string()), "source": source}))
    for _, views in snapshot.parts("views", ["view_id", "capture_id"]):
        found.append(pa.table({"id": views["view_id"].cast(pa.large_string()), "source": views["capture_id"]}))
    return pa.concat_tables(found)
