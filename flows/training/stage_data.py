"""Training and validation data of a stage from a published snapshot; needs none of Ray, Prefect, MLflow, DuckDB."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ffavatar_model.data.dataset import CorpusDataset, IdentityDataset, MultiviewDataset
from ffavatar_model.training import TrainConfig
from mfhq.catalog import Snapshot, read_blob
from mfhq.store import Store

log = logging.getLogger(__name__)

HELD_OUT = 6
"""Where nobody is in the split ``val``, every sixth person of ``train`` is held out for validation."""


class NoPeopleError(ValueError):
    """The snapshot has nobody to train on."""


def datasets(
    config: TrainConfig, store: Store, snapshot: Snapshot, identity: str
) -> tuple[CorpusDataset, CorpusDataset | None]:
    """Training and validation data of a stage: disjoint people, or one person's disjoint pictures.

    Raises:
        NoPeopleError: the snapshot lacks what the stage needs; the message says what.
    """
    where = f"{store.uri} {snapshot.version}"
    blob = partial(_read, store)
    size, digest = config.model.image_size, snapshot.digest
    settings = (config.data, config.data.held_out())
    parts: Sequence[CorpusDataset]
    if config.stage == "multiview":
        cameras = snapshot.table("cameras", ["capture_id", "camera_id", "world_to_camera"])
        identities = snapshot.table("identities", ["identity_id", "split"])
        views, held_out = _without_held_out(snapshot.table("views", MultiviewDataset.COLUMNS), identities)
        captured = MultiviewDataset(config.data, size, digest, blob, views=views, cameras=cameras, split=None)
        kept, held = _divide(_split_of(captured.groups.people, views), bool(held_out.num_rows))
        if not kept.any():
            raise NoPeopleError(f"{where}: no calibrated views of two pictures a person; make some: ffavatar studio")
        people = captured.groups.people.filter(pa.array(held)).combine_chunks()
        seen = pa.concat_tables([views.filter(pc.is_in(views["identity_id"], value_set=people)), held_out])
        parts = (
            captured.only(kept, settings[0]),
            MultiviewDataset(settings[1], size, digest, blob, views=seen, cameras=cameras, split=None),
        )
    elif config.stage == "personalize":
        faces, chosen = partial(snapshot.parts, "faces"), pictures_of(snapshot, identity)
        if len(chosen) < 2:
            raise NoPeopleError(f"{where}: identity {identity} has {len(chosen)} usable faces, 2 are needed")
        parts = [
            IdentityDataset(data, size, digest, blob, identity_faces=part, faces=faces)
            for data, part in zip(settings, _hold_out_pictures(chosen, config.data.sources[1]), strict=True)
        ]
    else:
        everybody = IdentityDataset(
            config.data,
            size,
            digest,
            blob,
            faces=partial(snapshot.parts, "faces"),
            identity_faces=snapshot.table("identity_faces", ["identity_id", "face_id", "rank"]),
        )
        identities = snapshot.table("identities", ["identity_id", "split"])
        kept, held = _divide(_split_of(everybody.groups.people, identities))
        if not kept.any():
            raise NoPeopleError(f"{where}: nobody has two faces chosen for training; mine more, or use another preset")
        parts = [everybody.only(people, data) for people, data in zip((kept, held), settings, strict=True)]
    log.info("%s: %d people to train on, %d held out", where, len(parts[0]), len(parts[1]))
    if not len(parts[0]):
        raise NoPeopleError(f"{where}: nobody has two pictures to train on; mine more, or use another preset")
    return parts[0], parts[1] if len(parts[1]) else None


def _read(store: Store, uri: str, offset: int, length: int) -> bytes:
    """A picture's bytes. A module's function, so that data sets travel to loader processes."""
    return read_blob(store, {"uri": uri, "offset": offset, "length": length})


def _without_held_out(views: pa.Table, identities: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Views without those of a training person's held-out segments; and of these the ones in val."""
    trained = identities.filter(pc.equal(identities["split"], "train"))["identity_id"].combine_chunks()
    out = pc.and_(pc.is_in(views["identity_id"], value_set=trained), pc.not_equal(views["split"], "train"))
    held_out = views.filter(out)
    return views.filter(pc.invert(out)), held_out.filter(pc.equal(held_out["split"], "val"))


def _split_of(people: pa.ChunkedArray, rows: pa.Table) -> pa.Array:
    """The published split of each of ``people``, by what ``rows`` say of ``identity_id`` (the last, if several do)."""
    last = rows.group_by("identity_id", use_threads=False).aggregate([("split", "last")])
    place = pc.index_in(people, value_set=last["identity_id"].combine_chunks())
    return last["split_last"].take(place.combine_chunks())


def _divide(split: pa.ChunkedArray, has_held_out: bool = False) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Who is trained on and who is for validation, of people in the order of their ids, by the published split.

    In a small corpus one of the splits may be empty: where ``train`` has nobody, everybody is trained on, and where
    ``val`` has nobody, every ``HELD_OUT``-th of those (at least one of two) is held out, unless something else is.
    """
    kept, held = (pc.equal(split, name).fill_null(False).to_numpy() for name in ("train", "val"))
    if not kept.any():
        log.info("nobody is in the split train: all %d people are trained on", len(kept))
        kept, held = np.ones_like(kept), np.zeros_like(held)
    if not held.any() and not has_held_out and kept.sum() > 1:
        people = np.flatnonzero(kept)
        out = people[HELD_OUT - 1 :: HELD_OUT]
        held = np.isin(np.arange(len(kept)), out if len(out) else people[-1:])
    return kept & ~held, held


def pictures_of(snapshot: Snapshot, identity: str) -> pa.Table:
    """Every usable face of a person as ``identity_faces`` rows: the chosen ones first, then the others by id.

    Raises:
        NoPeopleError: the snapshot has no such person.
    """
    known = snapshot.table("identities", ["identity_id"])["identity_id"]
    if not pc.any(pc.equal(known, identity)).as_py():
        some = ", ".join(known[:3].to_pylist()) or "nobody"
        raise NoPeopleError(
            f"identity {identity!r} is not in snapshot {snapshot.version}; it has {len(known)}: {some} ..."
        )
    chosen = snapshot.table("identity_faces")
    chosen = chosen.filter(pc.equal(chosen["identity_id"], identity)).sort_by("rank")
    assignments = snapshot.table("assignments", ["track_id", "identity_id"])
    tracks = assignments.filter(pc.equal(assignments["identity_id"], identity))["track_id"].combine_chunks()
    mine: set[str] = set()
    for _, faces in snapshot.parts("faces", ["face_id", "track_id", "status"]):
        usable = pc.and_(pc.is_in(faces["track_id"], value_set=tracks), pc.equal(faces["status"], "ok"))
        mine.update(faces["face_id"].filter(usable).to_pylist())
    first = chosen["face_id"].to_pylist()
    rest = sorted(mine - set(first))
    rows = [
        {"identity_id": identity, "face_id": face, "rank": rank, "why": "" if rank >= len(first) else "chosen"}
        for rank, face in enumerate([*first, *rest])
    ]
    return pa.Table.from_pylist(rows, schema=chosen.schema)


def _hold_out_pictures(chosen: pa.Table, n_sources: int) -> tuple[pa.Table, pa.Table]:
    """One person's pictures for training, and for validation the same sources with pictures of their own.

    The first ``n_sources`` are sources in both; of the others every fourth is held out, one at least
    where there are three pictures.
    """
    n_sources = min(n_sources, max(1, len(chosen) - 2))
    others = list(range(n_sources, len(chosen)))
    held = others[1::4] or (others[-1:] if len(chosen) > 2 else [])
    kept = [i for i in range(len(chosen)) if i not in held]
    return chosen.take(kept), chosen.take([*range(n_sources), *held])
