"""Training and validation data of a stage, from a published snapshot, without Ray, Prefect, MLflow and DuckDB."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ffavatar_model.data.dataset import CorpusDataset, IdentityDataset, MultiviewDataset
from ffavatar_model.data.prefetch import ReadBlob
from ffavatar_model.training import TrainConfig
from mfhq.catalog import Snapshot, read_blob
from mfhq.store import Store

log = logging.getLogger(__name__)

HELD_OUT = 6
"""Every ``HELD_OUT``-th person of the split ``train`` is held out for validation if the split ``val`` is empty."""

DatasetPair = tuple[CorpusDataset, CorpusDataset]
"""Training and validation data."""


class NoPeopleError(ValueError):
    """Error of a snapshot that has nobody to train on."""


def open_datasets(
    config: TrainConfig, store: Store, snapshot: Snapshot, identity: str
) -> tuple[CorpusDataset, CorpusDataset | None]:
    """Open the training and validation data of a stage.

    The two have different people, except in stage personalize: there they have one person's images, and the driver
    images differ.

    Args:
        config: Training config; ``stage``, ``data`` and ``model.image_size`` are used.
        store: The corpus.
        snapshot: Snapshot of the corpus.
        identity: Id of the person, for stage personalize; ignored by other stages.

    Returns:
        Training data, and validation data, which is None if nobody is held out.

    Raises:
        NoPeopleError: The snapshot lacks data that the stage needs; the message names it.
    """
    name = f"{store.uri} {snapshot.version}"
    read = partial(_read_range, store)
    if config.stage == "multiview":
        training, validation = _open_captures(config, snapshot, read, name)
    elif config.stage == "personalize":
        training, validation = _open_person(config, snapshot, read, name, identity)
    else:
        training, validation = _open_identities(config, snapshot, read, name)
    log.info("%s: %d people to train on, %d held out", name, len(training), len(validation))
    if not len(training):
        raise NoPeopleError(f"{name}: nobody has two images to train on; mine more, or use another preset")
    return training, validation if len(validation) else None


def _open_captures(config: TrainConfig, snapshot: Snapshot, read: ReadBlob, name: str) -> DatasetPair:
    size, digest = config.model.image_size, snapshot.digest
    cameras = snapshot.table("cameras", ["capture_id", "camera_id", "world_to_camera"])
    identities = snapshot.table("identities", ["identity_id", "split"])
    views, held_out_views = _separate_held_out(snapshot.table("views", MultiviewDataset.COLUMNS), identities)
    captured = MultiviewDataset(config.data, size, digest, read, views=views, cameras=cameras, split=None)
    people = captured.people.person_ids
    trained, held_out = _divide_people(_split_of(people, views), bool(held_out_views.num_rows))
    if not trained.any():
        raise NoPeopleError(f"{name}: no calibrated views of two images a person; make some: ffavatar studio")
    held_out_people = people.filter(pa.array(held_out)).combine_chunks()
    validation_views = pa.concat_tables(
        [views.filter(pc.is_in(views["identity_id"], value_set=held_out_people)), held_out_views]
    )
    return captured.select(trained, config.data), MultiviewDataset(
        config.data.held_out(), size, digest, read, views=validation_views, cameras=cameras, split=None
    )


def _open_person(config: TrainConfig, snapshot: Snapshot, read: ReadBlob, name: str, identity: str) -> DatasetPair:
    faces, chosen = partial(snapshot.parts, "faces"), rank_person_faces(snapshot, identity)
    if len(chosen) < 2:
        raise NoPeopleError(f"{name}: identity {identity} has {len(chosen)} usable faces, 2 are needed")
    training, validation = (
        IdentityDataset(data, config.model.image_size, snapshot.digest, read, identity_faces=part, faces=faces)
        for data, part in zip(
            (config.data, config.data.held_out()), _hold_out_images(chosen, config.data.sources[1]), strict=True
        )
    )
    return training, validation


def _open_identities(config: TrainConfig, snapshot: Snapshot, read: ReadBlob, name: str) -> DatasetPair:
    everybody = IdentityDataset(
        config.data,
        config.model.image_size,
        snapshot.digest,
        read,
        faces=partial(snapshot.parts, "faces"),
        identity_faces=snapshot.table("identity_faces", ["identity_id", "face_id", "rank"]),
    )
    identities = snapshot.table("identities", ["identity_id", "split"])
    trained, held_out = _divide_people(_split_of(everybody.people.person_ids, identities))
    if not trained.any():
        raise NoPeopleError(f"{name}: nobody has two faces chosen for training; mine more, or use another preset")
    return everybody.select(trained, config.data), everybody.select(held_out, config.data.held_out())


def _read_range(store: Store, uri: str, offset: int, length: int) -> bytes:
    """Read an image's bytes. It is a module-level function, so that data sets can be sent to loader processes."""
    return read_blob(store, {"uri": uri, "offset": offset, "length": length})


def _separate_held_out(views: pa.Table, identities: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Split off the held-out segments of training people.

    Returns:
        The views without those segments, and the views of those segments that are in the split ``val``.
    """
    trained = identities.filter(pc.equal(identities["split"], "train"))["identity_id"].combine_chunks()
    out = pc.and_(pc.is_in(views["identity_id"], value_set=trained), pc.not_equal(views["split"], "train"))
    held_out = views.filter(out)
    return views.filter(pc.invert(out)), held_out.filter(pc.equal(held_out["split"], "val"))


def _split_of(people: pa.ChunkedArray, rows: pa.Table) -> pa.Array:
    """Return the published split of each of ``people``, from the last of ``rows`` with the person's ``identity_id``."""
    last = rows.group_by("identity_id", use_threads=False).aggregate([("split", "last")])
    index = pc.index_in(people, value_set=last["identity_id"].combine_chunks())
    return last["split_last"].take(index.combine_chunks())


def _divide_people(split: pa.ChunkedArray, has_held_out: bool = False) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Divide people, ordered by id, into training and held-out people, by their published split.

    In a small corpus a split may be empty. If ``train`` is empty, everybody is a training person. If ``val`` is empty
    and ``has_held_out`` is False, every ``HELD_OUT``-th training person is held out, and at least one of two people.

    Returns:
        Two (N,) arrays: True for each training person, and True for each held-out person.
    """
    trained, held_out = (pc.equal(split, name).fill_null(False).to_numpy() for name in ("train", "val"))
    if not trained.any():
        log.info("nobody is in the split train: all %d people are trained on", len(trained))
        trained, held_out = np.ones_like(trained), np.zeros_like(held_out)
    if not held_out.any() and not has_held_out and trained.sum() > 1:
        people = np.flatnonzero(trained)
        out = people[HELD_OUT - 1 :: HELD_OUT]
        held_out = np.isin(np.arange(len(trained)), out if len(out) else people[-1:])
    return trained & ~held_out, held_out


def rank_person_faces(snapshot: Snapshot, identity: str) -> pa.Table:
    """Rank every usable face of a person: the chosen faces first, then the others by id.

    Returns:
        One row per face, schema ``IDENTITY_FACES``.

    Raises:
        NoPeopleError: The snapshot has no such person.
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
    usable_ids: set[str] = set()
    for _, faces in snapshot.parts("faces", ["face_id", "track_id", "status"]):
        usable = pc.and_(pc.is_in(faces["track_id"], value_set=tracks), pc.equal(faces["status"], "ok"))
        usable_ids.update(faces["face_id"].filter(usable).to_pylist())
    first = chosen["face_id"].to_pylist()
    rest = sorted(usable_ids - set(first))
    rows = [
        {"identity_id": identity, "face_id": face, "rank": rank, "why": "" if rank >= len(first) else "chosen"}
        for rank, face in enumerate([*first, *rest])
    ]
    return pa.Table.from_pylist(rows, schema=chosen.schema)


def _hold_out_images(chosen: pa.Table, n_sources: int) -> tuple[pa.Table, pa.Table]:
    """Divide one person's images into training and validation images.

    The first ``n_sources`` images are sources in both. Every fourth of the other images is a driver image for
    validation; if there are at least three images, at least one is.
    """
    n_sources = min(n_sources, max(1, len(chosen) - 2))
    others = list(range(n_sources, len(chosen)))
    held_out = others[1::4] or (others[-1:] if len(chosen) > 2 else [])
    trained = [i for i in range(len(chosen)) if i not in held_out]
    return chosen.take(trained), chosen.take([*range(n_sources), *held_out])
