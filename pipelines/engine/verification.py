"""Verification of a corpus: every file is compared with what is recorded of it, published or not.

Quickly: manifests, markers and small files by their seals, all others by their sizes. Deeply: the sha256 of every file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from mfhq.integrity import check_file
from mfhq.manifest import FormatError, read_manifest, versions
from mfhq.parquet import explain_damage
from mfhq.paths import BIOMETRIC, CARDS, SNAPSHOTS
from mfhq.seals import DamagedFileError, check_parquet, open_json
from mfhq.store import Store, StoreError
from pipelines.engine.commits import Marker

_STEPS = ("steps/", f"{BIOMETRIC}steps/")
_TABLES = ("tables/", f"{BIOMETRIC}tables/")
_THREADS = 4

_BY_FOLDER = {
    "sources/": ("the next publication", "delete it and mine the same source again, which records its rows anew"),
    "ledger/": ("the view attempts", "delete it; its attempts are lost, and nothing else"),
    "decisions/": ("every later clustering", "restore it from a copy; without one, delete it and review again"),
    "takedowns/": ("all readers", "restore it from a copy, or delete it and take the same down again"),
    "runs/": ("the view runs", "delete it; the tracking server still has the run"),
    CARDS: ("the data card", "restore it from a copy, or publish again"),
    "publishing/": ("nothing", "delete it; the next publication makes it anew"),
    "clusterings/": ("the ids of the next clustering", "delete it; people then keep the ids of an older clustering"),
    f"{BIOMETRIC}clusterings/": ("the next clustering", "delete the folder; the next clustering computes it anew"),
    "cache/": ("nothing", "delete it; it is made anew"),
    "steps/": ("the step", "delete it and mine the same source again"),
    f"{BIOMETRIC}steps/": ("the step", "delete it and mine the same source again"),
}
"""Folder → what needs its sealed files, and what to do if one is damaged."""


@dataclass(frozen=True)
class Damage:
    """Damaged or missing file."""

    path: str
    """Path of the file in the corpus."""
    problem: str
    needed_by: str
    """Name of the data that cannot be read, or not be made, without it."""
    remedy: str


@dataclass(frozen=True)
class _Check:
    """A file that is to be checked; ``run`` raises an error if it is damaged."""

    path: str
    needed_by: str
    remedy: str
    run: Callable[[], object]


def verify_corpus(
    store: Store, deep: bool = False, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Damage]:
    """Check the snapshots, manifests, steps' outputs, markers, packed images, ledger, clusterings and records.

    Args:
        store: The corpus.
        deep: Compute the sha256 of every file; otherwise tables, parts and packed images are checked by size.
        progress: Called with the number of files that are checked, and of all files.

    Returns:
        The damaged and missing files, by path.
    """
    planned = list(_plan(store, deep))
    checks = [check for check in planned if isinstance(check, _Check)]
    found = [damage for damage in planned if isinstance(damage, Damage)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for done, damage in enumerate(pool.map(_run, checks), 1):
            found += [damage] if damage else []
            progress(done, len(checks))
    return sorted(set(found), key=lambda damage: damage.path)


def _run(check: _Check) -> Damage | None:
    problem, remedy = "", check.remedy
    try:
        check.run()
    except FileNotFoundError:
        problem = "is missing"
    except FormatError:
        problem, remedy = "was written by a newer version", "install a newer ffavatar"
    except StoreError as error:
        problem = str(error).partition(": ")[2].partition(";")[0] or str(error)
    return Damage(check.path, problem, check.needed_by, remedy) if problem else None


def _plan(store: Store, deep: bool) -> Iterator[_Check | Damage]:
    yield from _plan_snapshots(store, deep)
    paths = list(store.list(""))
    for path in paths:
        if path.startswith(_STEPS) and path.endswith(".json") and not path.endswith("/step.json"):
            yield from _plan_part(store, path, deep)
        elif not path.startswith((*_TABLES, SNAPSHOTS)) and path.endswith((".json", ".done")):
            yield _Check(path, *_dependents(path), _json_check(store, path))
        elif path.endswith(".parquet") and not path.startswith((*_STEPS, *_TABLES)):
            yield _Check(path, *_dependents(path), _parquet_check(store, path))


def _plan_snapshots(store: Store, deep: bool) -> Iterator[_Check | Damage]:
    """Yield a check of each published file, and the damaged manifests."""
    users: dict[tuple[str, int, str], dict[str, list[str]]] = {}
    for number in versions(store):
        check = _Check(
            f"{SNAPSHOTS}v{number:04d}.json",
            f"snapshot v{number:04d}",
            "delete it and publish again; other snapshots stay readable",
            lambda number=number: read_manifest(store, number),  # type: ignore[misc]
        )
        if damage := _run(check):
            yield damage
            continue
        manifest = read_manifest(store, number)
        for name, entry in manifest.tables.items():
            for file in entry.files:
                users.setdefault((file.path, file.n_bytes, file.sha256), {}).setdefault(name, []).append(manifest.name)
        for card in manifest.about.get("cards", {}).values():
            key = (card["path"], card["n_bytes"], card["sha256"])
            users.setdefault(key, {}).setdefault("the data card", []).append(manifest.name)
    deleted = {path for path, _, _ in users if path.startswith(BIOMETRIC)}
    if deleted and not any(map(store.exists, deleted)):  # the whole prefix may be deleted for privacy
        users = {key: value for key, value in users.items() if key[0] not in deleted}
    for (path, n_bytes, sha256), names in users.items():
        tables = "; ".join(f"{name} of {', '.join(snapshots)}" for name, snapshots in names.items())
        remedy = "publish again, which makes anew what comes from the steps' outputs; else restore it from a copy"
        yield _Check(path, tables, remedy, _file_check(store, path, n_bytes, sha256, deep))


def _plan_part(store: Store, path: str, deep: bool) -> Iterator[_Check | Damage]:
    """Yield checks of a part's rows and images, or its damaged marker."""
    step = path.removeprefix(BIOMETRIC).split("/")[1]
    remedy = f"delete {path} and run `ffavatar mine` or `convert` again, which makes the part anew, then publish"
    needed = f"step {step} and the snapshots from it"
    if damage := _run(_Check(path, needed, remedy, lambda: Marker.read(store, path))):
        yield damage
        return
    marker = Marker.read(store, path)
    yield _Check(marker.data, needed, remedy, _file_check(store, marker.data, marker.n_bytes, marker.sha256, deep))
    if marker.blobs:
        check = _file_check(store, marker.blobs, marker.blobs_n_bytes, marker.blobs_sha256, deep)
        yield _Check(marker.blobs, f"images of {needed}", remedy, check)


def _file_check(store: Store, path: str, n_bytes: int, sha256: str, deep: bool) -> Callable[[], None]:
    def check() -> None:
        if deep:
            check_file(store, path, n_bytes, sha256)
        elif (size := store.size(path)) != n_bytes:
            raise DamagedFileError(f"{store.uri}/{path}: is damaged ({size} bytes, {n_bytes} were written)")

    return check


def _json_check(store: Store, path: str) -> Callable[[], object]:
    return lambda: open_json(store.read(path), f"{store.uri}/{path}", "")


def _parquet_check(store: Store, path: str) -> Callable[[], None]:
    def check() -> None:
        where = f"{store.uri}/{path}"
        with explain_damage(where, ""):
            data = check_parquet(store.read(path), where, "")
            pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True).read()

    return check


def _dependents(path: str) -> tuple[str, str]:
    known = [value for folder, value in _BY_FOLDER.items() if path.startswith(folder)]
    return known[0] if known else ("unknown", "no file of a corpus; look at it, and delete it")
