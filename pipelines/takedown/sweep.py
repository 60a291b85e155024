"""A take-down carried out: on record first, then out of every file, then checked, then said to be done."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from mfhq.paths import CLUSTERINGS, LEDGER
from mfhq.store import Store
from mfhq.takedowns import Denied, Takedown, denied_by_all, done_path, read_takedowns, record_path
from pipelines.takedown.inventory import STEPS, keyed_otherwise, shard_folders, shard_number
from pipelines.takedown.redaction import FOLDERS, published_pictures, redact_snapshots
from pipelines.takedown.rewrite import Changes, rewrite_folder, rewrite_in_place, rewrite_renamed

log = logging.getLogger(__name__)

PASSES = 4
"""Most sweeps over the corpus: a second one changes nothing, unless others write at the same time."""

_TEXTS = 64 << 20
"""Largest file that is no table and no pictures in which ids are looked for."""


@dataclass(frozen=True)
class Swept:
    """What came of it."""

    changes: Changes
    left: tuple[str, ...]
    """What may still hold something of it, each with the way out."""

    @property
    def is_clean(self) -> bool:
        """Whether all that is on record is gone from the corpus."""
        return not self.left


def put_on_record(store: Store, takedown: Takedown) -> None:
    """From here on no reader and no publisher shows what it names."""
    store.create(record_path(takedown.takedown_id), takedown.to_json())


def sweep(store: Store, names: Collection[str] = ()) -> Swept:
    """Take what all take-downs on record name out of every file of the corpus; the same call finishes one cut off.

    ``names`` are the ids and URIs themselves where the caller has them: files that are neither tables nor pictures are
    searched for them. Nothing should be mined or published meanwhile: what a run commits behind the sweep's back is
    never shown, and goes at the next sweep.
    """
    changes = Changes()
    for _ in range(PASSES):
        denied = denied_by_all(store)
        done = _sweep_once(store, denied)
        changes.add(done)
        if not done:
            break
    else:
        return Swept(changes, (f"{store.uri}: others write to it; run the same again when nothing is mined",))
    left = tuple(_quoting(store, names))
    if kept := store.purge():
        left += (kept,)
    if not left:
        for takedown in read_takedowns(store, unfinished=True):
            store.write(done_path(takedown.takedown_id), json.dumps({"takedown_id": takedown.takedown_id}).encode())
    return Swept(changes, left)


def _sweep_once(store: Store, denied: Denied) -> Changes:
    for path in list(store.list(CLUSTERINGS)):  # sums over people's tracks cannot be pruned; they are made anew
        store.delete(path)
    done = redact_snapshots(store, denied)
    everywhere = keyed_otherwise(store)
    unfinished = read_takedowns(store, unfinished=True) or denied.takedowns
    touched = {shard for takedown in unfinished for shard in takedown.shards}
    published = cache(lambda: published_pictures(store))
    for folder, paths in shard_folders(store).items():
        if shard_number(folder) in touched or folder.startswith(tuple(everywhere)):
            done.add(rewrite_folder(store, paths, denied, published))
    for path in list(store.list("")):
        if not path.endswith(".parquet") or path.startswith((*STEPS, *FOLDERS)):
            continue
        rewrite = rewrite_renamed if path.startswith(LEDGER) else rewrite_in_place
        done.add(rewrite(store, path, denied))
    return done


def _quoting(store: Store, names: Collection[str]) -> Iterator[str]:
    """Files that are neither tables nor packed pictures and hold one of the names."""
    wanted: Sequence[bytes] = [name.encode() for name in names if len(name) >= 4]
    if not wanted:
        return
    for path in store.list(""):
        if path.endswith((".parquet", ".blobs")) or store.size(path) > _TEXTS:
            continue
        data = store.read(path)
        if any(name in data for name in wanted):
            yield f"{store.uri}/{path} names it, and is no file that a take-down rewrites; delete it"
