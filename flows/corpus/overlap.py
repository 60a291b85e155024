"""Search by embedding for people who are in two splits of a corpus, or also in another set of images."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from flows.corpus.calibrate import clustering_threshold
from flows.corpus.stills import embed_stills, stills_by_person
from infra.console import SOME_FAILED, CallError, print_table, say
from infra.storage import open_store
from mfhq.catalog import Catalog, Snapshot, read_blob
from mfhq.schema import OK
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.pack import FacePack, face_pack
from pipelines.identity.constraints import Vectors
from pipelines.identity.lookalikes import match_sets, match_splits, mean_directions
from pipelines.identity.vector_lists import lists_to_vectors
from pipelines.media.image_codec import decode_image

MAX_VIEWS = 8
"""Most views of a captured person that are embedded."""
MAX_ROWS = 50
"""Most matches that are printed."""


def overlap_command(source: str | None, corpus: str, pack: str | None) -> int:
    """Run ``ffavatar overlap``.

    Args:
        source: Folder of stills or URI of another corpus; None to compare the splits of ``corpus``.
        corpus: URI of the corpus.
        pack: Name or folder of the face pack; None for the embedded pack.

    Returns:
        The exit status: 1 if a person is in two splits, or in both sets; otherwise 0.

    Raises:
        CallError: The pack has no threshold, the corpus has no embeddings of the pack's model, or the source shows no
            face.
        CatalogError: The corpus has no published snapshot.
    """
    if source is not None and "://" not in source and not Path(source).is_dir():
        raise CallError(f"{source}: no such folder; give a folder of stills, or the URI of a corpus")
    used_pack, min_similarity = face_pack(pack), 1 - clustering_threshold(pack or "")
    snapshot = Catalog(open_store(corpus)).open()
    names, vectors = _clustered_people(snapshot, used_pack)
    if not names:
        raise CallError(
            f"{corpus}: {snapshot.version} has no track embeddings of {used_pack.model}; publish it with that pack"
        )
    splits = dict(zip(*(snapshot.table("identities")[c].to_pylist() for c in ("identity_id", "split")), strict=True))
    if source is None:
        matches = match_splits(names, vectors, [splits[name] for name in names], min_similarity)
        what = "in two splits"
    else:
        other_names, other_vectors = _people_of_source(source, used_pack)
        matches = match_sets(names, vectors, other_names, other_vectors, min_similarity)
        what = f"also in {source}"
    if matches:
        rows = [
            (m.one, splits.get(m.one, ""), m.other, splits.get(m.other, ""), m.similarity) for m in matches[:MAX_ROWS]
        ]
        print_table(f"people {what}", ("identity", "split", "the other", "its split", "similarity"), rows)
    say("{n} of {of} people are {what}", n=len({m.one for m in matches}), of=len(names), what=what)
    return SOME_FAILED if matches else 0


def _people_of_source(source: str, pack: FacePack) -> tuple[list[str], Vectors]:
    """Return the people in a folder of stills, a mined corpus or a corpus of captures, and their mean directions."""
    folder = Path(source)
    if folder.is_dir() and not (folder / "snapshots").is_dir():
        people = stills_by_person(folder)
        rows, vectors = embed_stills(FaceAnalyzer(pack), [path for stills in people.values() for path in stills])
        owners = [person for person, stills in people.items() for path in stills if path in rows]
        names, directions = mean_directions(owners, vectors)
    else:
        snapshot = Catalog(open_store(source)).open()
        clustered, captured = _clustered_people(snapshot, pack), _captured_people(snapshot, pack)
        names, directions = clustered[0] + captured[0], np.concatenate([clustered[1], captured[1]])
    if not names:
        raise CallError(f"{source}: no face in it; give a folder of stills, or a corpus of people")
    return names, directions


def _clustered_people(snapshot: Snapshot, pack: FacePack) -> tuple[list[str], Vectors]:
    """Return the people in a snapshot's assignments, and the mean directions of their tracks' embeddings."""
    rows = snapshot.table("embeddings")
    rows = rows.filter(pc.and_(pc.equal(rows["face_id"], ""), pc.equal(rows["model"], pack.model)))
    assigned = snapshot.table("assignments")
    identity_of = dict(zip(assigned["track_id"].to_pylist(), assigned["identity_id"].to_pylist(), strict=True))
    rows = rows.filter(pc.is_in(rows["track_id"], value_set=assigned["track_id"].combine_chunks()))
    if not rows.num_rows:
        return [], np.empty((0, pack.embedding_width), np.float32)
    return mean_directions(
        [identity_of[track] for track in rows["track_id"].to_pylist()], lists_to_vectors(rows, dtype=np.float32)
    )


def _captured_people(snapshot: Snapshot, pack: FacePack) -> tuple[list[str], Vectors]:
    """Return the people in a snapshot's captures, and the mean directions of the faces in some of their views."""
    views = snapshot.table("views", ["view_id", "identity_id", "status", "image"])
    by_person: defaultdict[str, list[dict[str, object]]] = defaultdict(list)
    for row in views.filter(pc.equal(views["status"], OK)).sort_by("view_id").to_pylist():
        if row["image"] is not None:
            by_person[row["identity_id"]].append(row["image"])
    analyzer = FaceAnalyzer(pack) if by_person else None
    owners, vectors = [], []
    for person, refs in sorted(by_person.items()):
        for ref in refs[:: max(1, len(refs) // MAX_VIEWS)][:MAX_VIEWS]:
            image = decode_image(read_blob(snapshot.store, ref))
            for face in analyzer.detect(image)[:1] if analyzer else ():
                owners.append(person)
                vectors.append(analyzer.embed(image, face.landmarks5) if analyzer else None)
    return mean_directions(owners, np.asarray(vectors, np.float32).reshape(len(owners), pack.embedding_width))
