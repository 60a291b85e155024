"""Execution of a take-down: record it, remove its content from every file, check the corpus, mark it as done."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from mfhq.paths import CLUSTERINGS, LEDGER
from mfhq.store import Store
from mfhq.takedowns import DenyList, Takedown, done_path, read_deny_list, read_takedowns, record_path
from pipelines.engine.ledger import end_compactions
from pipelines.takedown.inventory import STEPS, list_shard_folders, list_steps_of_other_items, shard_number
from pipelines.takedown.redaction import TABLE_FOLDERS, list_published_image_files, redact_snapshots
from pipelines.takedown.rewrite import Changes, rewrite_folder, rewrite_in_place, rewrite_renamed

log = logging.getLogger(__name__)

MAX_PASSES = 4
"""Upper bound on the passes over the corpus; the second changes nothing, unless others write at the same time."""

_MAX_TEXT_BYTES = 64 << 20
"""Upper bound on the size of a file, neither table nor packed images, that is searched for ids."""


@dataclass(frozen=True)
class SweepReport:
    """Result of a sweep."""

    changes: Changes
    left: tuple[str, ...]
    """Messages on places that may still hold content of the take-downs, each with the remedy."""

    @property
    def is_clean(self) -> bool:
        """True if no file of the corpus holds content that a take-down on record names."""
        return not self.left


def record_takedown(store: Store, takedown: Takedown) -> None:
    """Put a take-down on record: from now on readers and publishers leave out everything that it names."""
    store.create(record_path(takedown.takedown_id), takedown.to_json())


def sweep(store: Store, names: Collection[str] = ()) -> SweepReport:
    """Remove everything that the take-downs on record name from every file of the corpus.

    Repeating the call finishes an interrupted one. Nothing should be mined or published during the sweep: denied
    content that a run commits meanwhile is never shown, but only the next sweep removes it.

    Args:
        store: The corpus.
        names: The ids and URIs that the take-downs name, if the caller has them. Files that are neither tables nor
            packed images are searched for them.
    """
    end_compactions(store)
    changes = Changes()
    for _ in range(MAX_PASSES):
        denied = read_deny_list(store)
        done = _sweep_once(store, denied)
        changes.add(done)
        if not done:
            break
    else:
        return SweepReport(changes, (f"{store.uri}: others write to it; run the same again when nothing is mined",))
    left = tuple(_find_quotes(store, names))
    if reason := store.purge():
        left += (reason,)
    if not left:
        for takedown in read_takedowns(store, unfinished=True):
            store.write(done_path(takedown.takedown_id), json.dumps({"takedown_id": takedown.takedown_id}).encode())
    return SweepReport(changes, left)


def _sweep_once(store: Store, denied: DenyList) -> Changes:
    # a sum over a person's tracks cannot be pruned; the next clustering computes all sums anew
    for path in list(store.list(CLUSTERINGS)):
        store.delete(path)
    done = redact_snapshots(store, denied)
    everywhere = list_steps_of_other_items(store)
    unfinished = read_takedowns(store, unfinished=True) or denied.takedowns
    touched = {shard for takedown in unfinished for shard in takedown.shards}
    published = cache(lambda: list_published_image_files(store))
    for folder, paths in list_shard_folders(store).items():
        if shard_number(folder) in touched or folder.startswith(tuple(everywhere)):
            done.add(rewrite_folder(store, paths, denied, published))
    for path in list(store.list("")):
        if not path.endswith(".parquet") or path.startswith((*STEPS, *TABLE_FOLDERS)):
            continue
        rewrite = rewrite_renamed if path.startswith(LEDGER) else rewrite_in_place
        done.add(rewrite(store, path, denied))
    return done


def _find_quotes(store: Store, names: Collection[str]) -> Iterator[str]:
    """Yield a message on each file that contains one of the names and is neither a table nor packed images."""
    needles: Sequence[bytes] = [name.encode() for name in names if len(name) >= 4]
    if not needles:
        return
    for path in store.list(""):
        if path.endswith((".parquet", ".blobs")) or store.size(path) > _MAX_TEXT_BYTES:
            continue
        data = store.read(path)
        if any(name in data for name in needles):
            yield f"{store.uri}/{path} names it, and is no file that a take-down rewrites; delete it"
