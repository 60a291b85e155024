"""``ffavatar overlap``: is somebody in two splits, or in another set of captures too? By embedding."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from flows.corpus.calibrate import clustering_threshold
from flows.corpus.stills import embed_stills, stills_by_person
from infra.console import CallError, say, table
from infra.storage import open_store
from mfhq.catalog import Catalog, Snapshot, read_blob
from mfhq.schema import OK
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.pack import FacePack, face_pack
from pipelines.identity.constraints import Vectors
from pipelines.identity.lookalikes import Match, across_splits, centres, in_both
from pipelines.media.image_codec import decode_picture
from pipelines.publishing.unnest import vectors_of

VIEWS = 8
"""Views of a captured person that are embedded."""


def overlap_command(source: str | None, corpus: str, pack: str | None) -> int:
    """``ffavatar overlap``: 1 where somebody is in two splits, or in both sets."""
    found, at_least = face_pack(pack), 1 - clustering_threshold(pack or "")
    snapshot = Catalog(open_store(corpus)).open()
    names, vectors = _clustered(snapshot, found)
    if not names:
        raise CallError(
            f"{corpus}: {snapshot.version} has no track embeddings of {found.model}; publish it with that pack"
        )
    splits = dict(zip(*(snapshot.table("identities")[c].to_pylist() for c in ("identity_id", "split")), strict=True))
    if source is None:
        matches = across_splits(names, vectors, [splits[name] for name in names], at_least)
        what = "in two splits"
    else:
        others, other_vectors = _people_of(source, found)
        matches = in_both(names, vectors, others, other_vectors, at_least)
        what = f"also in {source}"
    _tell(matches, splits, len(names), what)
    return 1 if matches else 0


def _tell(matches: list[Match], splits: dict[str, str], n: int, what: str) -> None:
    if matches:
        rows = [(m.one, splits.get(m.one, ""), m.other, splits.get(m.other, ""), m.likeness) for m in matches[:50]]
        table(f"people {what}", ("identity", "split", "the other", "its split", "likeness"), rows)
    say("{found} of {n} people are {what}", found=len({m.one for m in matches}), n=n, what=what)


def _people_of(source: str, pack: FacePack) -> tuple[list[str], Vectors]:
    """People of a folder of stills, of a mined corpus, or of a corpus of captures (Ava-256, NeRSemble).

    Raises:
        CallError: nobody is found in it.
    """
    folder = Path(source)
    if folder.is_dir() and not (folder / "snapshots").is_dir():
        people = stills_by_person(folder)
        rows, vectors = embed_stills(FaceAnalyzer(pack), [path for stills in people.values() for path in stills])
        owner = [person for person, stills in people.items() for path in stills if path in rows]
        found = centres(owner, vectors)
    else:
        snapshot = Catalog(open_store(source)).open()
        found = _clustered(snapshot, pack)
        captured = _captured(snapshot, pack)
        found = found[0] + captured[0], np.concatenate([found[1], captured[1]])
    if not found[0]:
        raise CallError(f"{source}: no face in it; give a folder of stills, or a corpus of people")
    return found


def _clustered(snapshot: Snapshot, pack: FacePack) -> tuple[list[str], Vectors]:
    """People of a snapshot's assignments, by the embeddings of their tracks."""
    rows = snapshot.table("embeddings")
    rows = rows.filter(pc.and_(pc.equal(rows["face_id"], ""), pc.equal(rows["model"], pack.model)))
    assigned = snapshot.table("assignments")
    who = dict(zip(assigned["track_id"].to_pylist(), assigned["identity_id"].to_pylist(), strict=True))
    rows = rows.filter(pc.is_in(rows["track_id"], value_set=assigned["track_id"].combine_chunks()))
    if not rows.num_rows:
        return [], np.empty((0, pack.embedding_width), np.float32)
    return centres([who[track] for track in rows["track_id"].to_pylist()], vectors_of(rows, dtype=np.float32))


def _captured(snapshot: Snapshot, pack: FacePack) -> tuple[list[str], Vectors]:
    """People of a snapshot's captures, by the faces on some of their views."""
    views = snapshot.table("views", ["view_id", "identity_id", "status", "image"])
    by_person: defaultdict[str, list[dict[str, object]]] = defaultdict(list)
    for row in views.filter(pc.equal(views["status"], OK)).sort_by("view_id").to_pylist():
        if row["image"] is not None:
            by_person[row["identity_id"]].append(row["image"])
    analyzer = FaceAnalyzer(pack) if by_person else None
    owner, vectors = [], []
    for person, images in sorted(by_person.items()):
        for image in images[:: max(1, len(images) // VIEWS)][:VIEWS]:
            picture = decode_picture(read_blob(snapshot.store, image))
            for face in analyzer.detect(picture)[:1] if analyzer else ():
                owner.append(person)
                vectors.append(analyzer.embed(picture, face.landmarks5) if analyzer else None)
    return centres(owner, np.asarray(vectors, np.float32).reshape(len(owner), pack.embedding_width))
