"""Which people, and which of whose files, a training run reads: kept with its MLflow run."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from ffavatar_model.data import FewToMany
from mfhq.catalog import Snapshot

SEEN_FILE = "data/seen.parquet"
"""Its name in the MLflow run."""
SEEN = pa.schema([
    pa.field("part", pa.string(), nullable=False, metadata={"description": "train or held_out"}),
    pa.field("identity_id", pa.string(), nullable=False, metadata={"description": "the person"}),
    pa.field("source", pa.string(), nullable=False, metadata={"description": "URI of the video, or id of the capture"}),
    pa.field("pictures", pa.int64(), nullable=False, metadata={"description": "pictures of the person from there"}),
])  # fmt: skip


def seen(snapshot: Snapshot, training: FewToMany, validation: FewToMany | None) -> pa.Table:
    """A row for each part, person and source file of the data sets of a stage; see ``SEEN``."""
    source_of = _sources(snapshot)
    counts: Counter[tuple[str, str, str]] = Counter()
    for part, data in (("train", training), ("held_out", validation)):
        for person, pictures in data.groups if data is not None else ():
            counts.update((part, person, source_of.get(picture["id"], "")) for picture in pictures)
    rows = sorted(counts.items())
    columns = [*zip(*(key for key, _ in rows), strict=True), [n for _, n in rows]] if rows else [[]] * len(SEEN)
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, SEEN, strict=True)], schema=SEEN)


def _sources(snapshot: Snapshot) -> dict[str, str]:
    """Where each picture is from, by the id of its face or its view."""
    videos = snapshot.table("videos", ["video_id", "uri"])
    uri_of = dict(zip(videos["video_id"].to_pylist(), videos["uri"].to_pylist(), strict=True))
    found: dict[str, str] = {}
    faces = snapshot.table("faces", ["face_id", "video_id", "status"])
    faces = faces.filter(pc.equal(faces["status"], "ok"))
    for face, video in zip(faces["face_id"].to_pylist(), faces["video_id"].to_pylist(), strict=True):
        found[face] = uri_of.get(video, video)
    views = snapshot.table("views", ["view_id", "capture_id"])
    found |= dict(zip(views["view_id"].to_pylist(), views["capture_id"].to_pylist(), strict=True))
    return found
