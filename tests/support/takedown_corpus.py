"""A toy corpus that was mined, published twice, clustered and reviewed: what a take-down has to go through."""

from __future__ import annotations

import datetime
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfhq.catalog import Catalog
from mfhq.corpus_tables import record_run
from mfhq.decisions import ACCEPT, Decision, decision_rows, record_decisions
from mfhq.schema import DECISIONS
from pipelines.engine.sources import record_sources
from pipelines.engine.state import fingerprints
from pipelines.identity.clustering_store import record_clustering
from pipelines.mining.digests import CACHED
from pipelines.mining.recrop_step import faces_to_recrop
from pipelines.publishing.publish_presets import preset_named
from pipelines.publishing.publish_snapshot import publish_snapshot
from tests.support.mined_tables import mined_tables

N = 14
PAIR = ".and-1"


def sources(toy, make, n=N):
    """n videos; two more show two people each: persons 0 and 1, and 2 and 1."""
    rows = make(n).to_pylist()
    for number, person in ((100, 0), (101, 2)):
        rows.append(
            {
                "video_id": toy.digest(["video", number], 64),
                "licence": "CC0",
                "size": number,
                "uri": f"/videos/{number:05d}-good-{person}{PAIR}.mp4",
            }
        )
    return pa.Table.from_pylist(rows, schema=toy.SOURCES)


def cut(store, toy, **kwargs):
    """Publish what is mined; returns the snapshot's name."""
    prints = fingerprints(toy.toy_steps(), toy.AFTER)
    preset = preset_named("small", **kwargs)
    tables = mined_tables(store, prints, preset)
    record_clustering(store, toy.assign(tables))
    decisions = Catalog(store).open().table("decisions") if Catalog(store).versions() else DECISIONS.empty_table()
    return publish_snapshot(
        store,
        prints,
        toy.assign(tables),
        preset,
        track_embeddings=toy.means(tables),
        decisions=decisions,
        run_id="p",
    )


def build(store, toy, run_toy, monkeypatch, n=N):
    """Mine and publish v0001 and v0002 into an empty store, with decisions, caches and runs."""
    make = toy.sources
    monkeypatch.setattr(toy, "sources", lambda _: sources(toy, make, n))
    run_toy(store, n, batch=32)
    cut(store, toy)
    noon = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
    assigned = Catalog(store).open().table("assignments").to_pylist()
    record_decisions(
        store, decision_rows([Decision(ACCEPT, row["identity_id"], row["track_id"]) for row in assigned], "one", noon)
    )
    cut(store, toy, name="other", min_sharpness=210)
    newest = Catalog(store).open()  # as ``recrop`` does: ids of faces in a text
    record_sources(store, faces_to_recrop(newest.table("faces"), newest.table("videos")), "video_id")
    rows = [
        {"uri": row["uri"], "size": row["size"], "stamp": "1", "video_id": row["video_id"]}
        for row in toy.sources(n).to_pylist()
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=CACHED), buffer, compression="zstd")
    store.write("cache/digests/all.parquet", buffer.getvalue())
    record_run(store, "train-1", "pretrain", "v0001")
    record_run(store, "train-2", "multiview", "", parent_run_id="train-1")
    record_run(store, "made", "publish", "v0001")


def traces(store, toy, person=None, video=None):
    """(names, pieces) that a person or a video has in the corpus: every id, URI, crop, matte, mesh and vector."""
    snapshot = Catalog(store).open("v1")
    faces = snapshot.table("faces").to_pylist()
    who = {row["track_id"]: row["identity_id"] for row in snapshot.table("assignments").to_pylist()}
    uri = {row["video_id"]: row["uri"] for row in snapshot.table("videos").to_pylist()}
    if video is None:
        mine = [face for face in faces if who.get(face["track_id"]) == person]
        whole = {v for v in uri if PAIR not in uri[v]} & {face["video_id"] for face in mine}
    else:
        mine = [face for face in faces if face["video_id"] == video]
        whole = {video}
    names = {face[name] for face in mine for name in ("face_id", "track_id")} | whole | {uri[v] for v in whole}
    names |= {person} if person else set()
    vectors = [
        np.asarray(row["vector"], np.float32).tobytes()
        for row in snapshot.table("embeddings").to_pylist()
        if row["track_id"] in names
    ]
    pieces = [np.asarray(face["mesh468"], np.float32).tobytes() for face in mine] + vectors
    for face in mine:
        for place in (face["crop"], face["matte"]):
            pieces.append(store.read(place["uri"], place["offset"], place["length"]))
    assert len(vectors) == len(mine) + len({face["track_id"] for face in mine}) > 0
    return names, pieces
