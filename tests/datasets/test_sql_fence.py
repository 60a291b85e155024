"""SQL of a user reads the snapshot's views and nothing else, whatever it is wrapped in; honest queries go through."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli import main
from infra.storage import open_store
from mfhq.catalog import Catalog, CatalogError, Snapshot
from mfhq.named_queries import named_queries
from mfhq.schema import EMBEDDINGS, FACES, VIDEOS
from mfhq.sql_fence import BLOCKED_FUNCTIONS, FILE_READERS, TABLE_FUNCTIONS, RefusedSql
from mfhq.where import rows_where
from pipelines.publishing.publish_tables import publish_tables
from pipelines.publishing.thresholds import apply_where
from tests.support.raw_views import raw_views

GOLDEN = Path(__file__).parents[1] / "golden" / "format_1"
SECRET = "hunter2-9f31"
"""Text of files, of a variable of the process and of a Python variable that no query may reach."""

WRITES = (
    "COPY (SELECT 1 AS a) TO '{table}' (FORMAT parquet)",
    "COPY (SELECT 'x' AS a) TO '{tmp}/corpus/snapshots/v0001.json'",
    "COPY faces TO '{tmp}/faces.csv'",
    "COPY (FROM faces) TO '{tmp}/parts' (FORMAT parquet, PARTITION_BY (track_id))",
    "EXPORT DATABASE '{tmp}/exported'",
    "CREATE TABLE x AS SELECT 1",
    "CREATE OR REPLACE VIEW funnel AS SELECT 1",
    "CREATE MACRO f(x) AS x",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "INSERT INTO funnel VALUES (1)",
    "UPDATE funnel SET items = 0",
    "DELETE FROM funnel",
    "DROP VIEW funnel",
    "ALTER VIEW funnel RENAME TO x",
    "MERGE INTO funnel USING faces ON true WHEN MATCHED THEN DELETE",
)
"""Statements that write; each is also tried behind EXPLAIN."""

WRAPPED = (
    *WRITES,
    *(f"EXPLAIN {statement}" for statement in WRITES),
    *(f"EXPLAIN ANALYZE {statement}" for statement in WRITES),
    *(f"-- a query\nEXPLAIN /* of a query */ ANALYZE {statement}" for statement in WRITES[:3]),
    *(f"EXPLAIN (ANALYZE, FORMAT json) {statement}" for statement in WRITES[:3]),
    *(f"/* /* */ EXPLAIN SELECT 1 -- */ EXPLAIN ANALYZE {statement}" for statement in WRITES[:3]),
    *(f"SELECT 1; {statement}" for statement in WRITES[:3]),
    *(f"PREPARE p AS {statement}" for statement in WRITES[:2]),
    "WITH x AS (COPY (SELECT 1 AS a) TO '{table}' (FORMAT parquet)) SELECT 1",
    "FROM (WITH x AS (COPY (SELECT 1 AS a) TO '{tmp}/a.csv') SELECT 1)",
    "SELECT (WITH x AS (COPY (SELECT 1 AS a) TO '{tmp}/a.csv') SELECT 1)",
    "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1 AS a) TO '{tmp}/a.csv') SELECT 1",
    "WITH x AS (DELETE FROM funnel RETURNING *) FROM x",
    "WITH x AS (INSERT INTO funnel VALUES (1) RETURNING *) FROM x",
    "EXPLAIN ANALYZE INSERT INTO funnel SELECT 1",
)

READS = (
    "SELECT content FROM read_text('{tmp}/secret.csv')",
    "SELECT content FROM read_blob('{tmp}/secret.csv')",
    "SELECT content FROM read_text('/proc/self/environ')",
    "FROM read_csv('{tmp}/secret.csv')",
    "FROM read_csv_auto('{tmp}/secret.csv')",
    "FROM read_json('{tmp}/secret.json')",
    "FROM read_parquet('{tmp}/secret.parquet')",
    "FROM main.read_parquet('{tmp}/secret.parquet')",
    "FROM parquet_metadata('{tmp}/secret.parquet')",
    "FROM parquet_kv_metadata('{table}')",
    "FROM sniff_csv('{tmp}/secret.csv')",
    "FROM glob('{tmp}/*')",
    "FROM '{tmp}/secret.parquet'",
    "FROM '{tmp}/secret.csv'",
    'FROM "{tmp}/secret.parquet"',
    "FROM '{table}'",
    "FROM read_parquet('{table}')",
    "DESCRIBE '{tmp}/secret.parquet'",
    "SUMMARIZE '{tmp}/secret.parquet'",
    "EXPLAIN ANALYZE FROM read_text('{tmp}/secret.csv')",
    "SUMMARIZE SELECT * FROM read_csv('{tmp}/secret.csv')",
    "SELECT * FROM faces WHERE track_id IN (SELECT content FROM read_text('{tmp}/secret.csv'))",
    "SELECT (SELECT content FROM read_text('{tmp}/secret.csv'))",
    "WITH a AS (FROM read_text('{tmp}/secret.csv')) FROM a",
    "SELECT 1 UNION ALL SELECT content FROM read_text('{tmp}/secret.csv')",
    "SELECT 1 ORDER BY (SELECT content FROM read_text('{tmp}/secret.csv'))",
    "FROM faces f, LATERAL (SELECT content FROM read_text('{tmp}/secret.csv'))",
    "PIVOT (FROM read_text('{tmp}/secret.csv')) ON filename IN ('a') USING max(content)",
    "FROM query('SELECT content FROM read_text(''{tmp}/secret.csv'')')",
    "FROM query_table('{tmp}/secret.parquet')",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT json_serialize_plan('FROM read_csv(''{tmp}/secret.csv'')')",
    """WITH "{table}" AS (SELECT 1) FROM (FROM '{table}')""",
    "SELECT getenv('FENCE_SECRET')",
    "SELECT current_setting('allowed_paths')",
    "SHOW VARIABLES",
    "SHOW DATABASES",
    "SHOW TABLES FROM system",
    "FROM duckdb_settings()",
    "FROM duckdb_secrets()",
    "FROM duckdb_views()",
    "FROM duckdb_views",
    "FROM information_schema.views",
    "FROM pg_catalog.pg_settings",
    "FROM system.main.duckdb_views",
    "WITH a AS (FROM duckdb_views), duckdb_views AS (SELECT 1) FROM a",
    "FROM sqlite_master",
    "FROM a_python_table",
    "FROM read_csv('http://127.0.0.1:9/x.csv')",
    "FROM 's3://bucket/x.parquet'",
    "ATTACH '{tmp}/new.db'",
    "ATTACH ':memory:' AS m",
    "EXPLAIN ANALYZE ATTACH '{tmp}/new.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{tmp}/evil.duckdb_extension'",
    "PRAGMA database_list",
    "PRAGMA import_database('{tmp}')",
    "CALL pragma_version()",
    "CALL enable_logging()",
    "FROM enable_logging()",
    "SET enable_external_access = true",
    "SET threads = 1",
    "RESET lock_configuration",
    "USE memory",
    "EXECUTE p",
    "BEGIN",
    "CHECKPOINT",
    "VACUUM",
    "SELECT 1; SELECT 2",
    "SELECT 1 \x00",
    "SELECT '\udcff'",
    "SELECT " + "NOT " * 900 + "true",
    "",
    "-- nothing",
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a corpus in ``corpus``, secrets beside it, and an empty working directory."""
    with zipfile.ZipFile(GOLDEN / "corpus.zip") as packed:
        packed.extractall(tmp_path / "corpus")
    (tmp_path / "secret.csv").write_text(f"a,b\n1,{SECRET}\n")
    (tmp_path / "secret.json").write_text(json.dumps({"a": SECRET}))
    pq.write_table(pa.table({"a": [SECRET]}), tmp_path / "secret.parquet")
    (tmp_path / "evil.duckdb_extension").write_bytes(b"evil")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("FENCE_SECRET", SECRET)
    monkeypatch.setenv("FFAVATAR_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def snapshot(root: Path) -> Snapshot:
    return Catalog(open_store(root / "corpus")).open()


def state(root: Path) -> dict[str, str]:
    """Digest of every file but the command's own logs."""
    files = [path for path in root.rglob("*") if path.is_file() and "home" not in path.relative_to(root).parts]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def spell(attack: str, root: Path) -> str:
    (table,) = (root / "corpus" / "tables" / "funnel").iterdir()
    return attack.replace("{tmp}", str(root)).replace("{table}", str(table))


@pytest.mark.parametrize("attack", [*WRAPPED, *READS])
def test_an_attack_reads_and_writes_nothing(attack: str, root: Path, snapshot: Snapshot) -> None:
    a_python_table = pa.table({"a": [SECRET]})
    before = state(root)
    with pytest.raises(CatalogError, match=r"^SQL: ") as refused:
        snapshot.query(spell(attack, root))
    assert "\n" not in str(refused.value) and SECRET not in str(refused.value)
    assert state(root) == before and a_python_table.num_rows == 1


@pytest.mark.parametrize("attack", WRAPPED)
def test_a_trusted_query_writes_nothing_either(attack: str, root: Path, snapshot: Snapshot) -> None:
    before = state(root)
    with pytest.raises(CatalogError, match=r"^SQL: "):
        snapshot.query(spell(attack, root), biometric=True, trusted=True)
    assert state(root) == before


@pytest.mark.parametrize(
    ("attack", "named"),
    [
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO '{tmp}/a.csv'", "COPY is refused: a corpus answers one query"),
        ("WITH x AS (COPY (SELECT 1) TO '{tmp}/a.csv') SELECT 1", "COPY in a WITH clause is refused"),
        ("ATTACH '{tmp}/new.db'", "ATTACH is refused.*--csv and --json print its rows"),
        ("FROM read_text('/etc/passwd')", r"read_text\(\) is refused.*--trusted"),
        ("FROM fases", "no view 'fases'; did you mean faces"),
        ("PIVOT funnel ON stage USING sum(items)", "list them, PIVOT ... ON x IN"),
    ],
)
def test_a_refusal_names_the_statement_and_the_way_out(attack: str, named: str, root: Path, snapshot: Snapshot) -> None:
    with pytest.raises(CatalogError, match=named):
        snapshot.query(spell(attack, root))


@pytest.mark.parametrize(
    "statement",
    [
        "FROM read_text('{tmp}/secret.csv')",
        "FROM read_parquet('{tmp}/corpus/cache/digests/*.parquet')",
        "FROM read_parquet('{tmp}/corpus/tables/funnel/../../../secret.parquet')",
        "COPY (SELECT 1) TO '{tmp}/a.csv'",
        "COPY (SELECT 1) TO '{tmp}/corpus/snapshots/v0001.json'",
        "ATTACH '{tmp}/new.db'",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "SET python_enable_replacements = true",
        "SET threads = 1",
        "INSTALL httpfs",
        "LOAD '{tmp}/evil.duckdb_extension'",
        "FROM a_python_table",
    ],
)
def test_duckdb_itself_opens_nothing_but_the_snapshot(statement: str, root: Path, snapshot: Snapshot) -> None:
    """The second check holds without the first: what the parser let through would still find no file."""
    a_python_table = pa.table({"a": [SECRET]})
    before = state(root)
    with raw_views(snapshot) as connection:
        with pytest.raises(duckdb.Error):
            connection.execute(spell(statement, root)).fetchall()
        assert connection.execute("SELECT count(*) FROM faces").fetchall()[0][0] > 0
    assert state(root) == before and a_python_table.num_rows == 1


def test_a_variable_of_python_is_no_table_and_settings_stay_locked_when_trusted(snapshot: Snapshot) -> None:
    a_python_table = pa.table({"a": [SECRET]})
    with raw_views(snapshot, trusted=True) as connection:
        for statement in ("FROM a_python_table", "SET python_enable_replacements = true"):
            with pytest.raises(duckdb.Error):
                connection.execute(statement).fetchall()
    assert a_python_table.num_rows == 1


@pytest.mark.parametrize("biometric", [False, True])
def test_a_connection_for_code_of_ones_own_has_both_halves_of_the_fence(
    root: Path, snapshot: Snapshot, biometric: bool
) -> None:
    """DuckDB may overwrite a file that it may open: what the connection runs is checked as a query is."""
    before = state(root)
    file = snapshot.store.url(snapshot.manifest.tables["faces"].files[0].path)
    with snapshot.connect(biometric=biometric) as connection:
        for statement in (
            f"COPY (SELECT 1 AS a) TO '{file}' (FORMAT parquet)",
            f"EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{file}' (FORMAT parquet)",
            f"WITH a AS (COPY (SELECT 1) TO '{file}') FROM a",
            f"FROM read_parquet('{file}')",
            "CREATE TABLE a AS SELECT 1",
            "SELECT 1; SELECT 2",
            "SET threads = 1",
            "SELECT getenv('HOME')",
        ):
            with pytest.raises((RefusedSql, duckdb.Error)):
                connection.execute(statement)
        rows = connection.execute("SELECT count(*) AS n FROM faces WHERE score > ?", [0.0])
        assert [column[0] for column in rows.description] == ["n"] and rows.fetchall()[0][0] > 0
        assert connection.table("SELECT 1 AS a").to_pylist() == [{"a": 1}]
        assert not [name for name in ("sql", "query", "cursor", "read_csv", "register") if hasattr(connection, name)]
    assert state(root) == before


HONEST = (
    "SELECT identity_id, v.uri FROM assignments JOIN tracks t USING (track_id) JOIN videos v USING (video_id)",
    "SELECT face_id, row_number() OVER (PARTITION BY track_id ORDER BY score DESC) AS r FROM faces QUALIFY r = 1",
    "WITH a AS (FROM faces), b AS (FROM a WHERE status = 'ok') SELECT count(*) FROM b",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) FROM r",
    "SELECT table_name, column_name, unit FROM dictionary WHERE table_name = 'faces'",
    "FROM memory.main.Faces",
    "TABLE funnel",
    "VALUES (1, 'a -- b; c')",
    "DESCRIBE faces",
    "DESCRIBE",
    "SUMMARIZE identities",
    "SHOW TABLES",
    "SHOW faces",
    "EXPLAIN SELECT * FROM faces",
    "EXPLAIN ANALYZE SELECT * FROM faces",
    "EXPLAIN (FORMAT json) WITH a AS (FROM faces) FROM a",
    "-- ü: who\nEXPLAIN /* b */ (SELECT 1)",
    "PIVOT funnel ON stage IN ('videos', 'tracks') USING sum(items)",
    "SELECT i, unnest([1, 2]) FROM range(3) t(i), generate_series(1, 2) g, json_each('[1]') j",
    "SELECT COLUMNS('n_.*'), list_transform([1, 2], lambda x: x + 1) FROM identities",
    "SELECT {'class': 1, 'type': 'COPY_QUERY_NODE', 'info_type': 2, 'function_name': 'getenv'} AS s",
    "SELECT count(*) FROM attempts JOIN runs USING (run_id) WHERE EXISTS (FROM faces)",
    "SELECT * FROM faces f ASOF JOIN tracks t ON f.track_id = t.track_id AND f.frame_index >= t.start_frame",
    "SELECT stage, sum(items) FROM funnel GROUP BY ROLLUP (stage) ORDER BY ALL LIMIT 5;",
)


@pytest.mark.parametrize("sql", HONEST)
def test_an_honest_query_works(sql: str, snapshot: Snapshot) -> None:
    answer = snapshot.query(sql)
    assert answer.num_columns and (answer.num_rows or "runs" in sql)
    assert snapshot.query(sql, trusted=True).num_rows == answer.num_rows


def test_every_named_query_works(snapshot: Snapshot) -> None:
    for name in named_queries():
        assert snapshot.query(f"@{name}").num_columns, name
    assert snapshot.query("@people").num_rows == 1


def test_a_large_query_spills_to_a_folder_that_is_removed(root: Path, snapshot: Snapshot) -> None:
    with raw_views(snapshot) as connection:
        (spill,) = connection.execute("SELECT current_setting('temp_directory')").fetchall()[0]
        assert Path(spill).stat().st_mode & 0o777 == 0o700
    assert not Path(spill).exists() and not list((root / "cwd").iterdir())


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A snapshot with an embedding, in a folder whose name has wildcards in it; for tests that only ask."""
    root = tmp_path_factory.mktemp("embedded") / "people [1]*"
    with zipfile.ZipFile(GOLDEN / "corpus.zip") as packed:
        packed.extractall(root)
    store = open_store(root)
    track = Catalog(store).open().table("tracks")["track_id"][0].as_py()
    embedding = {"track_id": track, "face_id": "", "model": "m", "vector": [0.6, 0.8] + [0.0] * 510}
    publish_tables(store, {"embeddings": pa.Table.from_pylist([embedding], schema=EMBEDDINGS)})
    return Catalog(store).open()


@pytest.mark.parametrize(
    "sql",
    [
        "FROM embeddings",
        "FROM main.EMBEDDINGS",
        "DESCRIBE embeddings",
        "SUMMARIZE embeddings",
        "EXPLAIN ANALYZE FROM embeddings",
        "SELECT (SELECT max(vector[1]) FROM embeddings)",
        "WITH a AS (FROM embeddings), embeddings AS (SELECT 1) FROM a",
        "WITH a AS (FROM embeddings) FROM a",
        "FROM '{file}'",
        "FROM read_parquet('{file}')",
    ],
)
def test_embeddings_are_read_with_biometric_alone(sql: str, embedded: Snapshot) -> None:
    (file,) = embedded.manifest.tables["embeddings"].files
    sql = sql.replace("{file}", embedded.store.url(file.path))
    with pytest.raises(CatalogError, match=r"--biometric|refused|no view|name embeddings does not exist") as refused:
        embedded.query(sql)
    assert "0.8" not in str(refused.value)
    with raw_views(embedded) as connection, pytest.raises(duckdb.Error):
        connection.execute(sql).fetchall()


def test_biometric_opens_embeddings_and_no_file(embedded: Snapshot) -> None:
    sql = "SELECT v.vector[1] AS x FROM embeddings v JOIN tracks USING (track_id) JOIN assignments USING (track_id)"
    assert embedded.query(sql, biometric=True)["x"].to_pylist() == [pytest.approx(0.6)]
    (file,) = embedded.manifest.tables["embeddings"].files
    for source in (f"read_parquet('{embedded.store.url(file.path)}')", "read_text('/etc/passwd')"):
        with pytest.raises(CatalogError, match="refused"):
            embedded.query(f"FROM {source}", biometric=True)
    with pytest.raises(CatalogError, match="--biometric"):
        embedded.query("FROM embeddings", trusted=True)
    assert "embeddings" not in embedded.query("SHOW TABLES")["name"].to_pylist()


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, list[str]]:
    """Exit status, standard output, and the lines on standard error."""
    status = 0
    try:
        main([str(word) for word in words])
    except SystemExit as ended:
        status = int(ended.code or 0)
    written = capsys.readouterr()
    return status, written.out, written.err.strip().splitlines()


@pytest.mark.parametrize(
    "attack",
    [
        "EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{table}' (FORMAT parquet)",
        "WITH x AS (COPY (SELECT 1 AS a) TO '{table}' (FORMAT parquet)) SELECT 1",
        "SELECT content FROM read_text('{tmp}/secret.csv')",
        "INSTALL httpfs",
        "SELECT vector FROM embeddings",
        "SELECT 1; SELECT 2",
    ],
)
def test_the_command_refuses_an_attack_in_one_line(attack: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = state(root)
    status, out, lines = run(capsys, "sql", "--corpus", root / "corpus", "--json", spell(attack, root))
    assert (status, out, len(lines)) == (2, "", 1) and lines[0].startswith("ffavatar: SQL: "), lines
    assert state(root) == before


def test_the_command_with_biometric_and_trusted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = ("sql", "--corpus", root / "corpus", "--json")
    status, out, lines = run(capsys, *sql, "--biometric", "SELECT count(*) AS n FROM embeddings")
    assert (status, json.loads(out), lines) == (0, {"n": 0}, [])
    status, out, lines = run(capsys, *sql, "--trusted", f"SELECT b FROM '{root}/secret.csv'")
    assert (status, json.loads(out)) == (0, {"b": SECRET})
    assert len(lines) == 1 and lines[0].startswith("--trusted: this query may read every file"), lines


CLOSING = (
    "true) OR (SELECT true",
    "true) OR (true",
    "(true",
    "true)",
    "true; DROP TABLE rows",
    "true;",
    "true -- and more",
    "true /* and more */",
    "true, false",
    "true FROM rows",
    "true AS a",
    "true ORDER BY 1",
    "true LIMIT 1",
    "true UNION ALL SELECT true",
    "true WINDOW w AS ()",
    "DISTINCT true",
    "*",
    "COLUMNS('.*')",
    "a IN (SELECT a FROM rows)",
    "EXISTS (FROM read_text('/etc/passwd'))",
    "(SELECT content FROM read_text('/etc/passwd')) LIKE '%root%'",
    "getenv('FENCE_SECRET') = 'x'",
    "current_setting('threads') = 1",
    "count(*) > 1",
    "row_number() OVER () = 1",
    "a",
    "a + 1",
    "'true'",
    "",
    "\x00",
    "a = '\udcff'",
    "a = $1",
    "NOT " * 900 + "true",
    "unnest([true])",
)


@pytest.mark.parametrize("condition", CLOSING)
def test_a_condition_is_one_expression(condition: str) -> None:
    with pytest.raises(CatalogError, match=r"^--where .*the columns are a, b$") as refused:
        rows_where(pa.table({"a": [1, 2], "b": ["x", "y"]}), condition, "--where")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a > 1", [False, True]),
        ("a IN (1, 7) AND b LIKE '%--;x'", [True, False]),
        ("regexp_matches(b, 'y') OR a IS NULL", [False, True]),
        ("(CASE WHEN a = 1 THEN true ELSE NULL END)", [True, False]),
        ("true", [True, True]),
        ("\n  a BETWEEN 2 AND 3\n", [False, True]),
    ],
)
def test_an_honest_condition_works(condition: str, expected: list[bool]) -> None:
    rows = pa.table({"a": [1, 2], "b": ["--;x", "y"]})
    assert rows_where(rows, condition, "--where").to_pylist() == expected


def test_publish_and_retry_refuse_what_closes_a_condition(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    closing = "true) OR (SELECT content LIKE '%a%' FROM read_text('/etc/passwd')"
    before = state(root)
    for command in ("retry", "publish"):
        status, out, lines = run(capsys, command, "--corpus", root / "corpus", "--where", closing)
        assert (status, out, len(lines)) == (2, "", 1) and lines[0].startswith("ffavatar: --where"), lines
    with pytest.raises(CatalogError, match="--where"):
        apply_where(FACES.empty_table(), VIDEOS.empty_table(), closing)
    assert state(root) == before


def test_functions_of_this_duckdb_were_looked_over() -> None:
    """A newer DuckDB with functions that reach further fails here; decide on them in ``mfhq.sql_fence``."""
    sql = (
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN ('scalar', 'macro') "
        "AND (has_side_effects OR stability = 'VOLATILE' "
        "OR regexp_matches(function_name, '^read_|^write_|getenv|setting|variable|secret|file_|execute'))"
    )
    reaching = {name for (name,) in duckdb.connect().execute(sql).fetchall()} - BLOCKED_FUNCTIONS
    assert reaching <= {
        *("current_connection_id", "current_query", "current_query_id", "current_transaction_id", "error"),
        *("gen_random_uuid", "random", "setseed", "sleep_ms", "stats", "uuid", "uuidv4", "uuidv7", "vector_type"),
    }, sorted(reaching)
    assert not TABLE_FUNCTIONS & FILE_READERS
