"""Files that changed since they were written are never read as if they had not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.storage import open_store
from mfhq.catalog import Catalog, CatalogError
from mfhq.integrity import check_opened
from mfhq.manifest import FORMAT, FileEntry, FormatError, Manifest
from mfhq.parquet import StoredParquet, from_parquet, to_parquet
from mfhq.schema import IDENTITIES
from mfhq.seals import DamagedFileError, check_parquet, has_seal, open_json, seal_json
from pipelines.engine.state import fingerprints
from pipelines.engine.verification import verify_corpus
from pipelines.publishing.publish_tables import publish_tables
from tests.support import bit_flips, takedown_corpus
from tests.support.toy_mining import AFTER, toy_steps
from tests.support.toy_run import run_toy

ROWS = pa.table({"id": [f"{i:04d}" for i in range(900)], "value": [float(i) for i in range(900)]})


@pytest.fixture(scope="module")
def mined(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("flipped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        run_toy(open_store(root), 12, batch=32)
        takedown_corpus.cut(open_store(root), toy)
    return root


def count_silent(root: Path, n: int, seed: int) -> list[tuple[str, Path, int, str]]:
    """Flip n bits, one at a time, and return those after which an answer is another one, and no error."""
    asked = bit_flips.answers(root, dict(fingerprints(toy_steps(), AFTER)))
    before = {name: bit_flips.ask(question) for name, question in asked.items()}
    assert not any(isinstance(answer, str) for answer in before.values())
    silent = []
    for kind, path, bit in bit_flips.flips(root, n, seed):
        bit_flips.flip(path, bit)
        after = {name: bit_flips.ask(question) for name, question in asked.items()}
        silent += [(kind, path, bit, name) for name in asked if bit_flips.differs(before[name], after[name])]
        bit_flips.flip(path, bit)
    return silent


def test_no_flipped_bit_gives_a_wrong_answer(mined: Path) -> None:
    assert count_silent(mined, 7, 3) == []


@pytest.mark.soak
def test_no_flipped_bit_of_150_gives_a_wrong_answer(mined: Path) -> None:
    assert count_silent(mined, 150, 7) == []


def test_a_damaged_table_spoils_only_the_queries_that_need_it(mined: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(mined, tmp_path / "corpus"))
    snapshot = Catalog(open_store(root)).open()
    videos, faces = (root / snapshot.manifest.tables[name].files[0].path for name in ("videos", "faces"))
    n_tracks = snapshot.table("tracks").num_rows
    bit_flips.flip(videos, 200)
    faces.unlink()
    for name, damage in (("videos", "is damaged"), ("faces", "missing")):
        with pytest.raises((CatalogError, DamagedFileError), match=rf"tables/{name}/\w+\.parquet.*{damage}"):
            snapshot.query(f"SELECT * FROM {name}")
    assert snapshot.query("SELECT count(*) n FROM tracks")["n"].to_pylist() == [n_tracks]
    with snapshot.connect() as connection:
        assert connection.execute("SELECT count(*) FROM tracks").fetchall() == [(n_tracks,)]
        for name in ("videos", "faces"):
            with pytest.raises(Exception, match=f"tables/{name}/"):
                connection.execute(f"SELECT * FROM {name}").fetchall()


def test_publishing_again_heals_what_the_steps_still_have(mined: Path, toy: Any, tmp_path: Path) -> None:
    root = Path(shutil.copytree(mined, tmp_path / "corpus"))
    store = open_store(root)
    before = {name: Catalog(store).open().table(name) for name in ("faces", "tracks", "shots", "identities")}
    for name in before:
        for file in Catalog(store).open().manifest.tables[name].files:
            bit_flips.flip(root / file.path, 99)
    takedown_corpus.cut(store, toy)
    assert all(Catalog(store).open().table(name).equals(table) for name, table in before.items())
    assert Catalog(store).versions() == ["v0001"], "the same rows are the same snapshot"


def test_damage_is_not_carried_to_the_next_snapshot(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    row = {"identity_id": "a", "n_tracks": 1, "n_videos": 1, "n_faces": 2, "cohesion": 1.0, "split": "train"}
    publish_tables(store, {"identities": pa.Table.from_pylist([row], schema=IDENTITIES)})
    bit_flips.flip(tmp_path / Catalog(store).open().manifest.tables["identities"].files[0].path, 300)
    with pytest.raises(DamagedFileError, match="the next snapshot would carry it on"):
        publish_tables(store, {"shots": Catalog(store).open().table("shots")})
    assert Catalog(store).versions() == ["v0001"]


def test_every_bit_of_a_sealed_file_counts() -> None:
    data = to_parquet(ROWS)
    assert has_seal(data) and to_parquet(from_parquet(data, ROWS.schema)) == data
    for position in range(0, len(data), 7):
        changed = bytearray(data)
        changed[position] ^= 4
        try:
            table = from_parquet(bytes(changed), ROWS.schema, None, "here", "do this")
        except DamagedFileError as error:
            assert "here: is damaged" in str(error) and str(error).endswith("do this")
        else:
            assert table.equals(ROWS), "only the key or the length of the seal itself may change unseen"
    document = seal_json({"rows": 3, "names": ("a", "b")})
    assert open_json(document, "here", "") == {"rows": 3, "names": ["a", "b"]}
    with pytest.raises(DamagedFileError, match="here"):
        open_json(document.replace(b": 3", b": 2"), "here", "")
    assert open_json(b'{"rows": 3}', "here", "") == {"rows": 3}, "files of earlier versions have no seal"
    assert check_parquet(b"PAR1", "here", "") == b"PAR1"


def test_a_large_file_is_checked_by_its_footer_and_the_pages_that_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    data = to_parquet(ROWS, 300)
    store.write("a.parquet", data)
    entry = FileEntry.of("a.parquet", 900, data)
    monkeypatch.setattr("mfhq.integrity.LARGE_BYTES", 10)
    monkeypatch.setattr("mfhq.integrity.digest_stored", lambda *_: pytest.fail("it is not read as a whole"))
    check_opened(store, entry)
    bit_flips.flip(tmp_path / "a.parquet", 8 * (len(data) - 40))
    with pytest.raises(DamagedFileError, match="another footer"):
        check_opened(store, entry)
    store.write("a.parquet", data)
    bit_flips.flip(tmp_path / "a.parquet", 8 * 200)
    check_opened(store, entry)
    stored = StoredParquet(store, "a.parquet", ROWS.schema)
    assert stored.read(1, ["id", "value"]).equals(ROWS.slice(300, 300).combine_chunks())
    with pytest.raises(DamagedFileError, match=r"a\.parquet: is damaged"):
        stored.read(0, ["id", "value"])


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"format": FORMAT + 1}, f"format {FORMAT + 1}"), ({"requires": ["meshes", "splines"]}, "splines")],
)
def test_a_newer_manifest_is_one_line(changed: dict[str, Any], named: str) -> None:
    row = json.loads(Manifest(1, "d" * 64, {}, 0, "2026-01-01", "").to_json()) | changed
    row.pop("seal")
    with pytest.raises(FormatError, match=rf"corpus/v1: was written by a newer version \({named}.*install"):
        Manifest.from_json(seal_json({**row, "unknown": 1}), "corpus/v1")


def test_a_manifest_of_the_first_format_is_read() -> None:
    row = json.loads(Manifest(1, "d" * 64, {}, 0, "2026-01-01", "").to_json())
    for name in ("seal", "format", "requires"):
        row.pop(name)
    assert (read := Manifest.from_json(json.dumps(row).encode())).format == 1 and read.requires == ()


def test_verify_names_every_damaged_file_what_needs_it_and_what_to_do(mined: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(mined, tmp_path / "corpus"))
    store = open_store(root)
    assert verify_corpus(store) == verify_corpus(store, deep=True) == []
    damaged = {kind: bit_flips.files_of(root, kind)[0] for kind in bit_flips.KINDS}
    for path in damaged.values():
        bit_flips.flip(path, 8 * (path.stat().st_size // 2))
    names = {str(path.relative_to(root)) for path in damaged.values()}
    # a damaged marker or manifest hides what it alone names
    found = {damage.path: damage for damage in verify_corpus(store, deep=True)}
    hidden = {str(damaged[kind].relative_to(root)) for kind in ("snapshot", "part", "images")}
    assert names - hidden <= set(found) <= names and all(d.problem and d.needed_by and d.remedy for d in found.values())
    by_size = {damage.path for damage in verify_corpus(store)}
    assert str(damaged["marker"].relative_to(root)) in by_size
    bit_flips.flip(damaged["manifest"], 8 * (damaged["manifest"].stat().st_size // 2))
    table = str(damaged["snapshot"].relative_to(root))
    assert "of v0001" in {d.path: d.needed_by for d in verify_corpus(store, deep=True)}[table]
    damaged["snapshot"].unlink()
    assert {d.path: d.problem for d in verify_corpus(store)}[table] == "is missing"
