"""The fence around SQL that a user writes: one plain query, over the views of a snapshot and nothing else.

There are two checks, one behind the other. DuckDB's own parser gives the syntax tree of a query, and everything in it
that is not on a list here is refused: statements, tables, table functions. DuckDB itself may then open the snapshot's
files only, and its configuration is locked. The first is needed even so: DuckDB may also overwrite a file that it may
open.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""Kinds of query that only read; DuckDB 2 also takes INSERT, UPDATE, DELETE and COPY TO in a WITH clause."""

TABLE_REFS = frozenset(
    {"BASE_TABLE", "SUBQUERY", "JOIN", "TABLE_FUNCTION", "EXPRESSION_LIST", "EMPTY", "PIVOT", "SHOW_REF"}
)
"""Kinds of source that may stand in FROM."""

TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat", "json_each", "json_tree"})
"""Table functions that compute from their arguments alone."""

FILE_READERS = frozenset(
    {
        *("glob", "read_blob", "read_text", "sniff_csv", "read_csv", "read_csv_auto"),
        *("read_json", "read_json_auto", "read_json_objects", "read_json_objects_auto"),
        *("read_ndjson", "read_ndjson_auto", "read_ndjson_objects", "read_ndjson_objects_auto"),
        *("read_parquet", "parquet_scan", "parquet_schema", "parquet_metadata", "parquet_file_metadata"),
    }
)
"""Table functions that read files; for trusted queries only."""

BLOCKED_FUNCTIONS = frozenset(
    {
        *("getenv", "current_setting", "getvariable", "write_log"),  # the process, its settings and its log
        *("json_serialize_plan", "json_execute_serialized_sql"),  # SQL within a text, which nobody has checked
        *("pg_get_viewdef", "pg_get_constraintdef", "pg_get_expr"),  # definitions, which hold paths
        *("nextval", "currval", "setval"),
    }
)
"""Scalar functions that reach further than their arguments; those that begin with ``__internal`` are refused too."""

SHOWN = frozenset({"tables", "__show_tables_expanded"})
"""Names by which DuckDB's parser calls the list of views: SHOW TABLES, SHOW ALL TABLES, DESCRIBE."""

SYSTEM_PREFIXES = ("duckdb_", "pg_", "pragma_", "sqlite_")
"""Beginnings of the names of DuckDB's own views."""

_ONE_QUERY = (
    "a corpus answers one query (SELECT, WITH, VALUES, FROM, DESCRIBE, SUMMARIZE, SHOW, or EXPLAIN of one) at a time; "
    "--csv and --json print its rows"
)
_TRUSTED = "on your own machine, --trusted lets a query read other files"
_GAP = r"(?:\s|--[^\n]*\n|/\*(?:(?!/\*).)*?\*/)*"
"""Space and comments, but no comment within a comment."""
_EXPLAIN = re.compile(rf"{_GAP}EXPLAIN\b{_GAP}(ANALYZE\b)?{_GAP}(.*)", re.IGNORECASE | re.DOTALL)
_OPTIONS = re.compile(r"(\([\w\s,]*\))(.*)", re.DOTALL)


class RefusedSql(ValueError):
    """Error of SQL that the fence does not let through: one line that names the cause and the way out."""


@contextlib.contextmanager
def open_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty database in memory that installs and loads no extension, and close it after the block.

    Variables of the calling Python code are no tables. What does not fit into memory is spilled to a folder of its own,
    which only the user may read and which is removed with the database.
    """
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "allow_persistent_secrets": False,
        "python_enable_replacements": False,
    }
    with (
        tempfile.TemporaryDirectory(prefix="ffavatar-sql-", ignore_cleanup_errors=True) as spill,
        duckdb.connect(config=config) as connection,
    ):
        connection.execute(f"SET temp_directory = {_quote(spill)}")
        yield connection


def lock_database(
    connection: duckdb.DuckDBPyConnection, files: Sequence[str] = (), folders: Sequence[str] = (), trusted: bool = False
) -> None:
    """Forbid a database everything outside, but for some files, and lock its configuration.

    Args:
        connection: A connection of ``open_database``.
        files: Files that may be opened, as queries spell them.
        folders: Folders whose files may be opened.
        trusted: Forbid nothing, and lock the configuration alone.
    """
    if not trusted:
        for setting, names in (("allowed_paths", files), ("allowed_directories", folders)):
            if names:
                connection.execute(f"SET {setting} = [{', '.join(map(_quote, names))}]")
        connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def check_query(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    views: Collection[str],
    private: Collection[str] = (),
    trusted: bool = False,
) -> str:
    """Check that a text is one plain query over some views, and return the text to run.

    Args:
        connection: Any connection; nothing is run but DuckDB's parser.
        sql: The text.
        views: Names that may be read.
        private: Names that are refused with a hint at ``--biometric``.
        trusted: Also allow tables that are files, functions that read files, and DuckDB's own views.

    Returns:
        ``sql``, or for an EXPLAIN the same statement without comments before the query that it explains.

    Raises:
        RefusedSql: It is something else.
        duckdb.Error: It does not parse.
    """
    import duckdb

    _check_characters(sql)
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise RefusedSql(f"{len(statements) or 'no'} statements: {_ONE_QUERY}")
    kind, text = statements[0].type, sql
    if kind == duckdb.StatementType.EXPLAIN:
        head, text, kind = _split_explain(connection, sql)
        checked = f"{head} {text}"
    else:
        checked = sql
    if kind == duckdb.StatementType.MULTI:
        raise RefusedSql("PIVOT is refused while it looks for its columns itself: list them, PIVOT ... ON x IN (a, b)")
    if kind != duckdb.StatementType.SELECT:
        raise RefusedSql(f"{kind.name} is refused: {_ONE_QUERY}")
    trees = _parse(connection, text)
    if len(trees) != 1:
        raise RefusedSql(f"{len(trees)} statements: {_ONE_QUERY}")
    _check_tree(trees[0], {name.lower() for name in views}, {name.lower() for name in private}, trusted)
    return checked


def check_condition(connection: duckdb.DuckDBPyConnection, condition: str) -> None:
    """Check that a text is one SQL expression that reads columns and nothing else.

    Args:
        connection: Any connection; nothing is run but DuckDB's parser.
        condition: The text.

    Raises:
        RefusedSql: It is something else, or does not parse.
    """
    import duckdb

    _check_characters(condition)
    if any(kind == duckdb.token_type.comment for _, kind in duckdb.tokenize(condition)):
        raise RefusedSql("a comment; leave it out")
    try:
        trees = _parse(connection, f"SELECT {condition}")
    except duckdb.ParserException as error:
        raise RefusedSql(f"one SQL condition is needed; {error}") from error
    node = trees[0]["node"] if len(trees) == 1 else {}
    empty = ("where_clause", "group_expressions", "group_sets", "having", "sample", "qualify", "modifiers")
    simple = (
        node.get("type") == "SELECT_NODE"
        and len(node["select_list"]) == 1
        and not node["select_list"][0].get("alias")
        and node["from_table"]["type"] == "EMPTY"
        and not any(node[name] for name in empty)
        and not node["cte_map"]["map"]
    )
    if not simple:
        raise RefusedSql("one SQL condition is needed, and nothing after it")
    for part in _walk(node):
        if part.get("class") in ("SUBQUERY", "STAR"):
            raise RefusedSql(f"a {part['class'].lower()} in it; a condition compares columns with values")
    _check_tree(trees[0], set(), set(), False)


def _check_characters(sql: str) -> None:
    if "\x00" in sql or any("\ud800" <= character <= "\udfff" for character in sql):
        raise RefusedSql("a character that is no text; type it anew")


def _split_explain(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[str, str, duckdb.StatementType]:
    """Split an EXPLAIN into its head, the statement that it explains, and that one's type.

    The head is put together anew, so that a comment cannot hide where the statement begins.
    """
    import duckdb

    if not (found := _EXPLAIN.fullmatch(sql)):
        raise RefusedSql(f"EXPLAIN of something else than a query is refused: {_ONE_QUERY}")
    head = f"EXPLAIN {(found[1] or '').upper()}".rstrip()
    splits = [(head, found[2])]
    if options := _OPTIONS.fullmatch(found[2]):
        splits.append((f"{head} {options[1]}", options[2]))
    for start, rest in splits:
        with contextlib.suppress(duckdb.ParserException):
            if len(statements := connection.extract_statements(rest)) == 1:
                return start, rest, statements[0].type
    raise RefusedSql(f"EXPLAIN of something else than a query is refused: {_ONE_QUERY}")


def _parse(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    """Return the syntax trees of a text of SELECT statements, by DuckDB's parser."""
    import duckdb

    (text,) = connection.execute("SELECT CAST(json_serialize_sql(CAST($1 AS VARCHAR)) AS VARCHAR)", [sql]).fetchall()[0]
    try:
        tree = json.loads(text)
    except RecursionError as error:
        raise RefusedSql("nested too deeply to be checked; write a list with IN (...) in place of a chain") from error
    if tree["error"]:
        raise duckdb.ParserException(f"Parser Error: {tree['error_message']}")
    statements: list[dict[str, Any]] = tree["statements"]
    return statements


def words_of(connection: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    """Return every text of a query's syntax tree in lower case, among them the names of the views that it reads.

    Args:
        connection: Any connection; nothing is run but DuckDB's parser.
        sql: The query; not an EXPLAIN.

    Raises:
        duckdb.Error: It does not parse, or is no SELECT.
    """
    found, stack = set[str](), list[Any](_parse(connection, sql))
    while stack:
        part = stack.pop()
        if isinstance(part, str):
            found.add(part.lower().strip('"'))
        elif isinstance(part, dict | list):
            stack.extend(part.values() if isinstance(part, dict) else part)
    return found


def _walk(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a syntax tree."""
    stack = [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            yield part
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)


def _check_tree(tree: dict[str, Any], views: set[str], private: set[str], trusted: bool) -> None:
    """Raise ``RefusedSql`` for the first part of a syntax tree that is on no list."""
    parts = list(_walk(tree))
    named = {entry["key"].lower() for part in parts if "cte_map" in part for entry in part["cte_map"]["map"]}
    for name in sorted(named):
        if not name.isidentifier() or name.startswith(SYSTEM_PREFIXES):
            raise RefusedSql(f"WITH {name!r}: not a name for a part of a query; use letters, digits and _")
    table_functions = {id(part["function"]) for part in parts if part.get("type") == "TABLE_FUNCTION"}
    for part in parts:
        kind = str(part.get("type", ""))
        if "cte_map" in part or ("class" not in part and kind.endswith("_NODE")):
            if kind not in QUERY_NODES:
                raise RefusedSql(f"{kind.removesuffix('_QUERY_NODE')} in a WITH clause is refused: {_ONE_QUERY}")
        elif "info_type" in part:
            raise RefusedSql(f"{part['info_type']} is refused: {_ONE_QUERY}")
        elif "class" in part:
            if "function_name" in part and id(part) not in table_functions and not trusted:
                _check_function(part["function_name"].lower())
        elif "sample" in part and "alias" in part:
            _check_source(kind, part, views, private, named, trusted)


def _check_source(
    kind: str, part: dict[str, Any], views: set[str], private: set[str], named: set[str], trusted: bool
) -> None:
    """Raise ``RefusedSql`` for a source in FROM that is neither a view nor computed."""
    if kind not in TABLE_REFS:
        raise RefusedSql(f"{kind} in FROM is refused: {_ONE_QUERY}")
    *schema, name = (word.lower().strip('"') for word in part.get("qualified_name", {}).get("path") or [""])
    if kind == "TABLE_FUNCTION":
        *schema, name = (word.lower() for word in part["function"]["qualified_name"]["path"])
        if schema not in ([], ["main"], ["system", "main"]) or name not in TABLE_FUNCTIONS | (
            FILE_READERS if trusted else frozenset()
        ):
            raise RefusedSql(f"{name}() is refused: a query reads the snapshot's views; {_TRUSTED}")
    elif kind == "SHOW_REF":
        if (part["show_type"] == "SHOW_SPECIAL" and name in SHOWN) or part["query"] is not None:
            return
        if part["show_type"] != "SHOW" or schema or name not in views:
            raise RefusedSql(f"SHOW {name}: only SHOW TABLES and the names of views; `SELECT * FROM dictionary`")
    elif kind == "BASE_TABLE" and not (not schema and name in named):
        if name in private:
            raise RefusedSql(
                f"{name} identify people: the view is there with --biometric only (Snapshot.query(..., biometric=True))"
            )
        if trusted:
            return
        if name not in views or schema not in ([], ["main"], ["memory"], ["memory", "main"]):
            near = difflib.get_close_matches(name, views, 1)
            hint = f"did you mean {near[0]}?" if near else "`ffavatar sql` with no query lists the views"
            raise RefusedSql(f"no view {'.'.join([*schema, name])!r}; {hint}; {_TRUSTED}")


def _check_function(name: str) -> None:
    if name in BLOCKED_FUNCTIONS or name.startswith("__internal"):
        raise RefusedSql(f"{name}() is refused: a query reads the snapshot's views and nothing of the process")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
