"""Training and validation data of a stage from a published snapshot; needs none of Ray, Prefect, MLflow, DuckDB."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from ffavatar_model.data import FewToMany, IdentityDataset, MultiviewDataset
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
) -> tuple[FewToMany, FewToMany | None]:
    """Training and validation data of a stage: disjoint people, or one person's disjoint pictures.

    Raises:
        NoPeopleError: the snapshot lacks what the stage needs; the message says what.
    """
    where = f"{store.uri} {snapshot.version}"
    blob = partial(_read, store)
    size, digest = config.model.image_size, snapshot.digest
    settings = (config.data, config.data.held_out())
    everybody: FewToMany
    parts: list[FewToMany]
    if config.stage == "multiview":
        cameras = snapshot.table("cameras")
        views, held_out = _without_held_out(snapshot.table("views"), snapshot.table("identities"))
        everybody = MultiviewDataset(config.data, size, digest, blob, views=views, cameras=cameras, split=None)
        of_split = dict(zip(views["identity_id"].to_pylist(), views["split"].to_pylist(), strict=True))
        kept, held = _divide([person for person, _ in everybody.groups], of_split, bool(held_out.num_rows))
        if not kept:
            raise NoPeopleError(f"{where}: no calibrated views of two pictures a person; make some: ffavatar studio")
        seen = views.filter(pc.is_in(views["identity_id"], value_set=pa.array(sorted(held), pa.string())))
        parts = [
            MultiviewDataset(data, size, digest, blob, views=part, cameras=cameras, split=None, identities=people)
            for data, part, people in (
                (settings[0], views, kept), (settings[1], pa.concat_tables([seen, held_out]), None),
            )
        ]  # fmt: skip
    elif config.stage == "personalize":
        faces, chosen = snapshot.table("faces"), pictures_of(snapshot, identity)
        if len(chosen) < 2:
            raise NoPeopleError(f"{where}: identity {identity} has {len(chosen)} usable faces, 2 are needed")
        parts = [
            IdentityDataset(data, size, digest, blob, identity_faces=part, faces=faces)
            for data, part in zip(settings, _hold_out_pictures(chosen, config.data.sources[1]), strict=True)
        ]
    else:
        faces, chosen = snapshot.table("faces"), snapshot.table("identity_faces")
        identities = snapshot.table("identities")
        of_split = dict(zip(identities["identity_id"].to_pylist(), identities["split"].to_pylist(), strict=True))
        everybody = IdentityDataset(config.data, size, digest, blob, identity_faces=chosen, faces=faces)
        kept, held = _divide([person for person, _ in everybody.groups], of_split)
        if not kept:
            raise NoPeopleError(f"{where}: nobody has two faces chosen for training; mine more, or use another preset")
        parts = [
            IdentityDataset(data, size, digest, blob, identity_faces=chosen, faces=faces, identities=people)
            for data, people in zip(settings, (kept, held), strict=True)
        ]
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


def _divide(people: list[str], of_split: Mapping[str, str], has_held_out: bool = False) -> tuple[set[str], set[str]]:
    """(train, validation) by the published split.

    In a small corpus one of the splits may be empty: where ``train`` has nobody, everybody is trained on, and where
    ``val`` has nobody, every ``HELD_OUT``-th of those (at least one of two) is held out, unless something else is.
    """
    kept = sorted(p for p in people if of_split[p] == "train")
    held = {p for p in people if of_split[p] == "val"}
    if not kept:
        log.info("nobody is in the split train: all %d people are trained on", len(people))
        kept, held = sorted(people), set()
    if not held and not has_held_out and len(kept) > 1:
        held = set(kept[HELD_OUT - 1 :: HELD_OUT]) or {kept[-1]}
    return set(kept) - held, held


def pictures_of(snapshot: Snapshot, identity: str) -> pa.Table:
    """Every usable face of a person as ``identity_faces`` rows: the chosen ones first, then the others by id.

    Raises:
        NoPeopleError: the snapshot has no such person.
    """
    known = snapshot.table("identities")["identity_id"].to_pylist()
    if identity not in known:
        some = ", ".join(known[:3]) or "nobody"
        raise NoPeopleError(
            f"identity {identity!r} is not in snapshot {snapshot.version}; it has {len(known)}: {some} ..."
        )
    chosen = snapshot.table("identity_faces")
    chosen = chosen.filter(pc.equal(chosen["identity_id"], identity)).sort_by("rank")
    assignments, faces = snapshot.table("assignments"), snapshot.table("faces")
    tracks = assignments.filter(pc.equal(assignments["identity_id"], identity))["track_id"]
    mine = faces.filter(pc.and_(pc.is_in(faces["track_id"], tracks), pc.equal(faces["status"], "ok")))
    first = chosen["face_id"].to_pylist()
    rest = sorted(set(mine["face_id"].to_pylist()) - set(first))
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
