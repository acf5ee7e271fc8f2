"""Promise 9, case by case: what any program writes in plain SQL is what another device gets, to the bit."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest

from conftest import MakeEngine, send
from sqlite_sync import DatabaseError, Operation, RawText, SyncEngine

Value = int | float | str | bytes | None
Statement = str | tuple[str, Sequence[Value]]

PLAIN = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)"
TEXT_KEY = "CREATE TABLE t (id TEXT PRIMARY KEY, a, b)"
TYPED = "CREATE TABLE t (id INTEGER PRIMARY KEY, i INTEGER, r REAL, x TEXT, d BLOB, n NUMERIC)"
STRICT = "CREATE TABLE t (id INTEGER PRIMARY KEY, i INTEGER, r REAL, x TEXT, d BLOB, n ANY) STRICT"
FAMILY = (
    "CREATE TABLE parents (id INTEGER PRIMARY KEY, name TEXT);"
    "CREATE TABLE t (id INTEGER PRIMARY KEY, a, parent INTEGER REFERENCES parents ON DELETE {} ON UPDATE CASCADE)"
)
NON_FINITE = [float("inf"), float("-inf"), float("nan")]
REALS = [0.1 + 0.2, 1e308, 5e-324, 2.0**53, -(2.0**63), 2.0**63, 1.0, 0.0, -1.5, *NON_FINITE]
INTEGERS = [0, 1, -1, 2**63 - 1, -(2**63), 2**53 + 1, 2**31]
TEXTS = ["", "a", "A", " a ", "a\0b", "\0", "é", "e\u0301", "😀", "1", "1.0", "0x10", "1e3", "x" * 5000, "'\"`[]"]
BLOBS = [b"", b"\0", b"a", b"\xff\xfe", bytes(range(256)), b"1"]
EVERYTHING: list[Value] = [None, *INTEGERS, *REALS, *TEXTS, *BLOBS]


def exact(engine: SyncEngine, table: str = "t") -> list[tuple[tuple[str, object], ...]]:
    """Read a table so that 1 and 1.0, 0.0 and -0.0, text and blob are told apart."""
    connection = engine.connection
    factory = connection.text_factory
    connection.text_factory = lambda stored: ("text", stored)
    try:
        rows = connection.execute(f"SELECT * FROM main.{table}").fetchall()
    finally:
        connection.text_factory = factory
    return sorted((tuple(map(_exact, row)) for row in rows), key=repr)


def _exact(value: object) -> tuple[str, object]:
    if isinstance(value, float):
        return ("real", value.hex())
    return value if isinstance(value, tuple) else (type(value).__name__, value)


def write(engine: SyncEngine, statements: Iterable[Statement]) -> None:
    """Write from a connection of its own, as any other program would."""
    with closing(sqlite3.connect(engine.path, isolation_level=None)) as connection:
        for statement in statements:
            sql, parameters = (statement, ()) if isinstance(statement, str) else statement
            connection.execute(sql, parameters)


def assert_replays(
    make: MakeEngine,
    schema: str,
    statements: Sequence[Statement],
    tables: tuple[str, ...] = ("t",),
    keys: str | None = None,
) -> list[Operation]:
    """Run statements on one device; a peer gets them one by one, a newcomer all at once; return the operations."""
    source, peer, newcomer = (make(name, schema, tables, keys) for name in ("source", "peer", "newcomer"))
    with closing(sqlite3.connect(source.path, isolation_level=None)) as connection:
        for statement in statements:
            sql, parameters = (statement, ()) if isinstance(statement, str) else statement
            connection.execute(sql, parameters)
            if not connection.in_transaction:
                send(source, peer)
    send(source, newcomer)
    for table in tables:
        quoted = '"' + table.replace('"', '""') + '"'
        assert exact(peer, quoted) == exact(source, quoted)
        assert exact(newcomer, quoted) == exact(source, quoted)
    assert source.reconcile() == 0
    assert newcomer.reconcile() == 0
    assert newcomer.get_unresolved_conflicts() == []
    return list(newcomer.operations())


def kinds(operations: Iterable[Operation]) -> list[str]:
    return [operation.kind for operation in operations]


# --- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schema",
    [
        PLAIN,
        TYPED.replace("i INTEGER, r REAL", "a REAL, b BLOB"),
        TYPED.replace("i INTEGER, r REAL", "a TEXT, b NUMERIC"),
    ],
)
def test_every_value_of_every_storage_class_arrives_to_the_bit(make: MakeEngine, schema: str) -> None:
    rows = [("INSERT INTO t (id, a, b) VALUES (?, ?, ?)", (i, value, value)) for i, value in enumerate(EVERYTHING)]
    write_all: list[Statement] = ["BEGIN", *rows, "COMMIT"]

    operations = assert_replays(make, schema, write_all)

    assert len(operations) == len(EVERYTHING)


def test_every_value_can_be_changed_into_every_other(make: MakeEngine) -> None:
    """All pairs: a change of type alone is a change."""
    few: list[Value] = [
        None,
        0,
        1,
        1.0,
        0.0,
        "1",
        "1.0",
        b"1",
        "",
        b"",
        "a",
        "A",
        2**63 - 1,
        2.0**63,
        float("inf"),
        2**53 + 1,
        2.0**53,
    ]
    pairs = [(old, new) for old in few for new in few]
    statements: list[Statement] = ["BEGIN"]
    statements += [("INSERT INTO t (id, a) VALUES (?, ?)", (i, old)) for i, (old, _) in enumerate(pairs)]
    statements += ["COMMIT", "BEGIN"]
    statements += [("UPDATE t SET a = ? WHERE id = ?", (new, i)) for i, (_, new) in enumerate(pairs)]
    statements += ["COMMIT"]

    operations = assert_replays(make, PLAIN, statements)

    assert kinds(operations).count("update") == len(pairs) - len(few)


def test_values_of_another_type_than_declared_arrive_as_they_were_stored(make: MakeEngine) -> None:
    statements: list[Statement] = ["BEGIN"]
    for i, value in enumerate(EVERYTHING):
        statements.append(("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", (i, *[value] * 5)))
    for i, value in enumerate(EVERYTHING):
        statements.append(
            ("UPDATE t SET i = ?, r = ?, x = ?, d = ?, n = ? WHERE id = ?", (*[value] * 5, len(EVERYTHING) - 1 - i))
        )

    assert_replays(make, TYPED, [*statements, "COMMIT"])


def test_the_least_integer_and_the_equal_real_are_told_apart_in_numeric_columns(make: MakeEngine) -> None:
    """The one number that NUMERIC and INTEGER affinity keep in two types."""
    insert = ("INSERT INTO t (id, i, n) VALUES (1, ?, ?)", (-(2**63), -(2**63)))

    assert_replays(make, TYPED, [insert, ("UPDATE t SET i = ?, n = ?", (-(2.0**63), -(2.0**63)))])


@pytest.mark.parametrize("declared", ["INT", "NUMERIC", ""])
@pytest.mark.parametrize("options", ["", "WITHOUT ROWID"])
def test_the_least_integer_and_the_equal_real_are_told_apart_in_keys(
    make: MakeEngine, declared: str, options: str
) -> None:
    schema = f"CREATE TABLE t (id {declared} NOT NULL, part NOT NULL, x, PRIMARY KEY (id, part)) {options}"
    insert = ("INSERT INTO t VALUES (?, 1, 'first'), (1, 1, 'second')", (-(2**63),))

    assert_replays(make, schema, [insert, ("UPDATE t SET id = id - 1", ())])


def test_a_strict_table_arrives_to_the_bit(make: MakeEngine) -> None:
    statements: list[Statement] = [
        ("INSERT INTO t VALUES (1, ?, ?, ?, ?, ?)", (2**63 - 1, 5, "a\0b", b"\0", "1")),
        ("INSERT INTO t VALUES (2, ?, ?, ?, ?, ?)", (-(2**63), 0.1 + 0.2, "", b"", 1.0)),
        ("UPDATE t SET n = ?", (1,)),
        ("UPDATE t SET r = ?, n = ? WHERE id = 2", (float("inf"), b"x")),
    ]

    assert_replays(make, STRICT, statements)


def test_negative_zero_is_inserted_as_negative_zero(make: MakeEngine) -> None:
    assert_replays(make, PLAIN, [("INSERT INTO t VALUES (1, ?, ?)", (-0.0, 0.0))])


def test_not_a_number_is_null_as_sqlite_stores_it(make: MakeEngine) -> None:
    (operation,) = assert_replays(make, PLAIN, [("INSERT INTO t VALUES (1, ?, 0)", (float("nan"),))])

    assert operation.new == {"id": 1, "a": None, "b": 0}


def test_text_that_is_not_valid_utf8_arrives_byte_by_byte(make: MakeEngine) -> None:
    statements: list[Statement] = [
        ("INSERT INTO t VALUES (CAST(? AS TEXT), CAST(? AS TEXT), ?)", (b"\xff\x01", b"\xfe", b"\xfe")),
        ("UPDATE t SET a = b, b = a", ()),
        ("INSERT INTO t VALUES (CAST(? AS TEXT), 1, 2)", (b"\xc3",)),
        ("DELETE FROM t WHERE a = 1", ()),
    ]

    operations = assert_replays(make, TEXT_KEY, statements)

    assert operations[0].row_pk["id"] == RawText(b"\xff\x01")
    assert isinstance(operations[0].new["a"], RawText)


@pytest.mark.parametrize("declared", ["TEXT COLLATE NOCASE", "TEXT COLLATE RTRIM", "COLLATE NOCASE"])
def test_a_change_that_the_collation_does_not_see_is_captured(make: MakeEngine, declared: str) -> None:
    schema = f"CREATE TABLE t (id {declared} PRIMARY KEY, a {declared}, b)"
    statements: list[Statement] = [
        "INSERT INTO t VALUES ('key', 'value', 1)",
        "UPDATE t SET a = 'VALUE'" if "NOCASE" in declared else "UPDATE t SET a = 'value  '",
        "UPDATE t SET id = 'KEY'" if "NOCASE" in declared else "UPDATE t SET id = 'key  '",
        "UPDATE t SET b = 2",
    ]

    operations = assert_replays(make, schema, statements)

    assert kinds(operations) == ["insert", "update", "update", "update"]


@pytest.mark.parametrize("declared", ["", "BLOB", "ANY"])
def test_a_key_that_changes_its_type_alone_is_an_update_of_the_same_row(make: MakeEngine, declared: str) -> None:
    schema = f"CREATE TABLE t (id {declared} PRIMARY KEY, a)" + (" STRICT" if declared == "ANY" else "")
    schema = schema.replace(", a)", ", a ANY)") if declared == "ANY" else schema

    operations = assert_replays(
        make, schema, ["INSERT INTO t VALUES (1, 0)", "UPDATE t SET id = 1.0", "UPDATE t SET a = 1"]
    )

    assert kinds(operations) == ["insert", "update", "update"]


def test_an_update_that_changes_nothing_is_no_operation(make: MakeEngine) -> None:
    statements = [
        "INSERT INTO t VALUES ('k', 'v', NULL)",
        "UPDATE t SET a = a, b = b, id = id",
        "UPDATE t SET a = 'v'",
        "INSERT INTO t VALUES ('k', 'v', NULL) ON CONFLICT DO UPDATE SET a = excluded.a, b = excluded.b",
        "UPDATE t SET a = 'v' WHERE id = 'nobody'",
        "DELETE FROM t WHERE id = 'nobody'",
    ]

    assert kinds(assert_replays(make, TEXT_KEY, statements)) == ["insert"]


def test_an_update_lists_the_changed_columns_only(make: MakeEngine) -> None:
    _, update = assert_replays(make, TEXT_KEY, ["INSERT INTO t VALUES ('k', 1, 2)", "UPDATE t SET a = 1, b = NULL"])

    assert (update.row_pk, update.new, update.old) == ({"id": "k"}, {"b": None}, {"b": 2})


# --- names --------------------------------------------------------------------------------------------------------

NAMES = [
    "new",
    "old",
    "NEW",
    "select",
    "my table",
    'quo"te',
    "it's",
    "`tick`",
    "[brackets]",
    "ünï 表 😀",
    "a.b",
    "%d",
    "{x}",
    "?1",
    "excluded",
    "main",
    "t",
    "",
    "two\nlines",
]
COLUMNS = [
    "rowid",
    "oid",
    "_rowid_",
    "op",
    "hlc",
    "kind",
    "base",
    "table_no",
    "v0",
    "o0",
    "k0",
    "f",
    "o",
    "r",
    "t",
    "d",
    "new",
    "old",
    "key",
    "where",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_and_its_columns_may_have_any_name(make: MakeEngine, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    schema = f'CREATE TABLE {quoted} ({quoted} TEXT PRIMARY KEY, {quoted[:-1]} 2", "new" UNIQUE, "old")'
    if name.lower() in ("new", "old"):
        schema = f"CREATE TABLE {quoted} ({quoted} TEXT PRIMARY KEY, b UNIQUE, c)"
    statements: list[Statement] = [
        f"INSERT INTO {quoted} VALUES ('a', 1, 2), ('b', 2, 3)"
        if "b UNIQUE" in schema
        else f"INSERT INTO {quoted} VALUES ('a', 1, 2, 3), ('b', 2, 3, 4)",
        f"UPDATE {quoted} SET {quoted} = {quoted} || 'x'",
        f"DELETE FROM {quoted} WHERE {quoted} = 'bx'",
    ]

    assert_replays(make, schema, statements, (name,))


@pytest.mark.parametrize("key", ["INTEGER PRIMARY KEY", "TEXT PRIMARY KEY"])
def test_columns_may_have_the_names_that_the_log_uses(make: MakeEngine, key: str) -> None:
    names = ", ".join(f'"{column}"' for column in COLUMNS)
    statements: list[Statement] = [
        (f"INSERT INTO t VALUES (1, {', '.join('?' * len(COLUMNS))})", list(range(len(COLUMNS)))),
        "UPDATE t SET " + ", ".join(f'"{column}" = "{column}" + 1' for column in COLUMNS),
        "UPDATE t SET id = 2, rowid = 3",
        "DELETE FROM t",
    ]

    assert_replays(make, f"CREATE TABLE t (id {key}, {names})", statements)


def test_a_rowid_that_is_hidden_behind_a_column_still_changes_the_key_by_its_other_names(make: MakeEngine) -> None:
    schema = 'CREATE TABLE t (id INTEGER PRIMARY KEY, "rowid")'

    statements = [
        "INSERT INTO t VALUES (1, 2)",
        "UPDATE t SET oid = 5",
        "UPDATE t SET rowid = 9",
        "UPDATE t SET _rowid_ = _rowid_ + 1, rowid = 0",
    ]

    assert_replays(make, schema, statements)


def test_a_table_of_hundreds_of_columns_replays(make: MakeEngine) -> None:
    columns = ", ".join(f"c{i}" for i in range(400))
    schema = f"CREATE TABLE t (id TEXT PRIMARY KEY, {columns})"

    assert_replays(
        make,
        schema,
        [f"INSERT INTO t (id, {columns}) VALUES ('1', {', '.join('0' * 400)})", "UPDATE t SET c0 = 1, c399 = 2"],
    )


# --- keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["", "WITHOUT ROWID"])
@pytest.mark.parametrize(
    "keys",
    [
        ("TEXT", ["a", "b", "", "a\0b", "1"]),
        ("TEXT COLLATE NOCASE", ["a", "b", "É", "é", "z"]),
        ("TEXT COLLATE RTRIM", ["a  ", "b", "", " a", "c"]),
        ("BLOB", [b"a", "a", b"", 1, 1.5]),
        ("REAL", [0.5, 1, 1e308, float("inf"), "x"]),
        ("", [1, "1", b"1", 2.5, ""]),
        ("NUMERIC", [1, 2.5, "x", b"x", 2**53 + 1]),
        ("INT", [1, "x", 2.5, b"", -1]),
        ("DATETIME", ["2024-01-01", 5, 6.5, b"x", ""]),
    ],
    ids=lambda keys: keys[0] or "undeclared",
)
def test_a_key_may_have_any_type_and_collation(make: MakeEngine, keys: tuple[str, list[Value]], options: str) -> None:
    declared, values = keys
    schema = f"CREATE TABLE t (id {declared} PRIMARY KEY, a) {options}"
    statements: list[Statement] = [("INSERT INTO t VALUES (?, ?)", (value, i)) for i, value in enumerate(values)]
    statements += [
        "UPDATE t SET a = a + 10 WHERE a > 1",
        ("UPDATE t SET id = ? WHERE a = 0", ("moved",)),
        "DELETE FROM t WHERE a = 1",
    ]

    assert_replays(make, schema, statements)


@pytest.mark.parametrize("options", ["", "WITHOUT ROWID"])
def test_a_composite_key_in_another_order_than_its_columns_replays(make: MakeEngine, options: str) -> None:
    schema = f"CREATE TABLE t (a TEXT COLLATE NOCASE, x, b REAL, c BLOB, PRIMARY KEY (c, b, a)) {options}"
    statements: list[Statement] = [
        ("INSERT INTO t VALUES ('a', 1, 0.5, x'00'), ('b', 2, 1, 'c'), ('c', 3, 2, 1)", ()),
        "UPDATE t SET a = upper(a)",
        "UPDATE t SET b = b + 1 WHERE x > 1",
        "UPDATE t SET c = 1.0 WHERE x = 3",
        "UPDATE t SET x = NULL",
        "DELETE FROM t WHERE a = 'A'",
    ]

    assert_replays(make, schema, statements)


@pytest.mark.parametrize("name", ["id", "rowid", "oid", "_rowid_", "ROWID"])
def test_the_key_changes_by_every_name_of_the_rowid(make: MakeEngine, name: str) -> None:
    operations = assert_replays(
        make, PLAIN, ["INSERT INTO t VALUES (1, 'a', 'b')", f"UPDATE t SET {name} = 7, a = 'c'"]
    )

    assert kinds(operations) == ["insert", "delete", "insert"]
    assert operations[-1].row_pk == {"id": 7}


@pytest.mark.parametrize(
    "schema", [PLAIN, TEXT_KEY, TEXT_KEY + " WITHOUT ROWID", TEXT_KEY.replace("TEXT", "INTEGER") + " WITHOUT ROWID"]
)
def test_keys_that_move_through_each_other_in_one_statement_replay(make: MakeEngine, schema: str) -> None:
    """The descending shift runs over occupied keys only where SQLite itself allows it; a detour swaps the rest."""
    statements = [
        "INSERT INTO t VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3)",
        "UPDATE t SET id = id - 1",
        "BEGIN",
        "UPDATE t SET id = -1 WHERE id = 0",
        "UPDATE t SET id = 0 WHERE id = 1",
        "UPDATE t SET id = 1 WHERE id = -1",
        "COMMIT",
        "UPDATE OR REPLACE t SET id = CASE CAST(id AS INTEGER) WHEN 0 THEN 1 ELSE id END",
    ]

    assert_replays(make, schema, statements, keys="natural")


def test_a_key_of_null_is_refused_by_the_database_in_words(make: MakeEngine) -> None:
    engine = make("a", TEXT_KEY, ("t",))
    write(engine, ["INSERT INTO t VALUES ('k', 1, 2)"])

    for sql in (
        "INSERT INTO t VALUES (NULL, 1, 2)",
        "INSERT OR IGNORE INTO t VALUES (NULL, 1, 2)",
        "UPDATE t SET id = NULL",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="NULL in the primary key of t"):
            write(engine, [sql])

    assert kinds(engine.operations()) == ["insert"]


def test_automatic_keys_are_captured_as_they_were_given(make: MakeEngine) -> None:
    schema = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a)"

    operations = assert_replays(
        make,
        schema,
        ["INSERT INTO t (a) VALUES ('x'), ('y')", "DELETE FROM t WHERE id = 2", "INSERT INTO t (a) VALUES ('z')"],
    )

    assert [operation.row_pk["id"] for operation in operations] == [1, 2, 2, 3]


# --- statements ---------------------------------------------------------------------------------------------------

UNIQUE = "CREATE TABLE t (id TEXT PRIMARY KEY, a UNIQUE, b)"
FEW = "INSERT INTO t VALUES ('a', 1, 1), ('b', 2, 2), ('c', 3, 3)"

STATEMENTS: dict[str, tuple[str, list[Statement]]] = {
    "generated columns, stored and virtual": (
        "CREATE TABLE t (id TEXT PRIMARY KEY, g AS (a || 'v') VIRTUAL, a, s AS (a || 's') STORED, b)",
        ["INSERT INTO t (id, a, b) VALUES ('k', 1, 2)", "UPDATE t SET a = 2", "UPDATE t SET id = 'l'", "DELETE FROM t"],
    ),
    "generated columns that are left alone": (
        "CREATE TABLE t (id TEXT PRIMARY KEY, g AS (a || 'v') VIRTUAL, a, s AS (a || 's') STORED, b)",
        ["INSERT INTO t (id, a, b) VALUES ('k', 1, 2), ('l', 3, 4)", "UPDATE t SET b = 5"],
    ),
    "an upsert": (TEXT_KEY, [FEW, "INSERT INTO t VALUES ('a', 8, 9), ('d', 4, 4) ON CONFLICT (id) DO UPDATE SET a = excluded.a"]),
    "an upsert that changes the key": (TEXT_KEY, [FEW, "INSERT INTO t VALUES ('a', 8, 9) ON CONFLICT (id) DO UPDATE SET id = 'z', a = 7"]),
    "an upsert that does nothing": (TEXT_KEY, [FEW, "INSERT INTO t VALUES ('a', 8, 9), ('e', 1, 1) ON CONFLICT DO NOTHING"]),
    "an update from another table": (TEXT_KEY, [FEW, "UPDATE t SET a = s.b + 10 FROM (SELECT * FROM t) AS s WHERE s.id < t.id"]),
    "a common table expression": (
        PLAIN,
        ["WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500) INSERT INTO t SELECT i, i * 0.1, x'00' FROM n"],
    ),
    "returning": (TEXT_KEY, [FEW + " RETURNING *", "UPDATE t SET a = 5 RETURNING a", "DELETE FROM t WHERE id = 'a' RETURNING *"]),
    "a replace of the same key": (TEXT_KEY, [FEW, "REPLACE INTO t VALUES ('a', 9, 9)", "INSERT OR REPLACE INTO t VALUES ('b', 9, 9), ('b', 8, 8)"]),
    "a replace in the transaction of the insert": (TEXT_KEY, ["BEGIN", FEW, "REPLACE INTO t VALUES ('a', 9, 9)", "COMMIT"]),
    "a replace that deletes, with recursive triggers": (TEXT_KEY, ["PRAGMA recursive_triggers = ON", FEW, "REPLACE INTO t VALUES ('a', 9, 9)"]),
    "a replace of a key in another case": (
        "CREATE TABLE t (id TEXT PRIMARY KEY COLLATE NOCASE, a, b)",
        [FEW, "REPLACE INTO t VALUES ('A', 9, 9)", "UPDATE t SET b = 7"],
    ),
    "a replace that displaces another row": (UNIQUE, [FEW, "REPLACE INTO t VALUES ('d', 1, 9)", "UPDATE OR REPLACE t SET a = 3 WHERE id = 'b'"]),
    "a replace that displaces another row, with recursive triggers": (
        UNIQUE,
        ["PRAGMA recursive_triggers = ON", FEW, "REPLACE INTO t VALUES ('d', 1, 9)", "UPDATE OR REPLACE t SET a = 3 WHERE id = 'b'"],
    ),
    "a replace that the table itself declares": (
        "CREATE TABLE t (id TEXT PRIMARY KEY ON CONFLICT REPLACE, a UNIQUE ON CONFLICT REPLACE, b)",
        [FEW, "INSERT INTO t VALUES ('a', 2, 9)", "INSERT INTO t VALUES ('c', 4, 9)", "UPDATE t SET a = 2"],
    ),
    "a replace that displaces another row by the default of a column that cannot be null": (
        "CREATE TABLE t (id TEXT PRIMARY KEY, a TEXT NOT NULL DEFAULT 1, b NOT NULL DEFAULT 'x' UNIQUE, UNIQUE (a))",
        [
            "INSERT INTO t VALUES ('a', 1, 1), ('b', 2, 'x'), ('c', 3, 3)",
            "REPLACE INTO t VALUES ('d', NULL, 4)",
            "UPDATE OR REPLACE t SET b = NULL WHERE id = 'c'",
        ],
    ),
    "a replace that displaces another row by a default in an expression, or under a condition": (
        ("CREATE TABLE t (id TEXT PRIMARY KEY, a NOT NULL DEFAULT 'X', b INT NOT NULL DEFAULT 7);"
        "CREATE UNIQUE INDEX i ON t (lower(a)) WHERE b = 7"),
        ["INSERT INTO t VALUES ('a', 'x', 7), ('b', 'x', 2)", "REPLACE INTO t VALUES ('d', NULL, NULL)"],
    ),
    "an ignored insert": (UNIQUE, [FEW, "INSERT OR IGNORE INTO t VALUES ('a', 9, 9), ('x', 1, 9), ('y', 7, 7)", "UPDATE OR IGNORE t SET a = 1"]),
    "unique values that change places": (UNIQUE, [FEW, "UPDATE t SET a = -a", "UPDATE t SET a = CASE a WHEN -1 THEN 2 WHEN -2 THEN 1 ELSE a END"]),
    "unique values that change places over deletes and inserts": (
        UNIQUE,
        [FEW, "BEGIN", "DELETE FROM t WHERE id = 'a'", "UPDATE t SET a = 1 WHERE id = 'b'", "INSERT INTO t VALUES ('a', 2, 0)", "COMMIT"],
    ),
    "a row that comes and goes many times": (
        TEXT_KEY,
        ["BEGIN", FEW, "DELETE FROM t", FEW, "UPDATE t SET a = a + 1", "DELETE FROM t WHERE id = 'a'", "INSERT INTO t VALUES ('a', 0, 0)", "COMMIT"],
    ),
    "a savepoint rolled back": (
        TEXT_KEY,
        ["BEGIN", FEW, "SAVEPOINT s", "UPDATE t SET a = 9", "DELETE FROM t WHERE id = 'b'", "ROLLBACK TO s", "UPDATE t SET b = 8", "RELEASE s", "COMMIT"],
    ),
    "a transaction rolled back": (TEXT_KEY, [FEW, "BEGIN", "DELETE FROM t", "INSERT INTO t VALUES ('z', 1, 1)", "ROLLBACK", "UPDATE t SET a = 4"]),
    "a delete of everything": (TEXT_KEY, [FEW, "DELETE FROM t"]),
    "an attached file": (TEXT_KEY, ["ATTACH ':memory:' AS other", "CREATE TABLE other.t (id, a, b)", FEW, "INSERT INTO other.t SELECT * FROM main.t"]),
    "schemas that are not trusted": (UNIQUE, ["PRAGMA trusted_schema = OFF", FEW, "UPDATE t SET a = a + 10", "REPLACE INTO t VALUES ('d', 11, 0)"]),
    "like that minds the case": (TEXT_KEY, ["PRAGMA case_sensitive_like = ON", FEW, "UPDATE t SET a = 'x' WHERE id LIKE 'A'", "DELETE FROM t WHERE id LIKE 'b'"]),
    "the columns of a table in another order": (TEXT_KEY, ["INSERT INTO t (b, id, a) VALUES (1, 'k', 2)", "UPDATE t SET (b, a) = (SELECT a, b FROM t)"]),
    "an insert from the table itself": (PLAIN, ["INSERT INTO t VALUES (1, 'x', 'y')", *["INSERT INTO t (a, b) SELECT a, id FROM t"] * 5]),
    "null in columns that have a default": (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a DEFAULT 'd', b INTEGER DEFAULT 1, c TEXT NOT NULL DEFAULT 'c')",
        ["INSERT INTO t VALUES (1, NULL, NULL, 'x'), (2, 2, 2, '')", "INSERT INTO t (id) VALUES (3)", "UPDATE t SET a = NULL, b = NULL WHERE id > 1"],
    ),
    "null in columns that have a default, under a key of text": (
        "CREATE TABLE t (id TEXT PRIMARY KEY, a DEFAULT 'd', b INTEGER DEFAULT 1)",
        ["INSERT INTO t VALUES (1, NULL, NULL), (2, 2, 2)", "INSERT INTO t (id) VALUES (3)", "UPDATE t SET a = NULL, b = NULL WHERE id > 1"],
    ),
    "truncated by a limit": (TEXT_KEY, [FEW, "DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY a DESC LIMIT 1)"]),
}  # fmt: skip


@pytest.mark.parametrize("case", STATEMENTS.values(), ids=STATEMENTS.keys())
def test_a_second_device_gets_exactly_what_was_written_by(make: MakeEngine, case: tuple[str, list[Statement]]) -> None:
    schema, statements = case

    assert_replays(make, schema, statements)


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT"])
def test_foreign_key_actions_are_captured(make: MakeEngine, action: str) -> None:
    statements = [
        "PRAGMA foreign_keys = ON",
        "INSERT INTO parents VALUES (1, 'one'), (2, 'two'), (3, 'three')",
        "INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2), (3, 'z', NULL)",
        "UPDATE parents SET id = 10 WHERE id = 1",
        "DELETE FROM parents WHERE id IN (SELECT parent FROM t)"
        if action != "RESTRICT"
        else "DELETE FROM parents WHERE id = 3",
    ]

    assert_replays(make, FAMILY.format(action), statements, ("parents", "t"))


@pytest.mark.parametrize("child", ["INTEGER", "REAL", "TEXT", ""])
def test_a_parent_whose_child_has_another_type_is_captured_under_its_own_key(make: MakeEngine, child: str) -> None:
    """SQLite looks for children with the child's affinity, and leaves the parent's OLD so for the triggers."""
    schema = (
        "CREATE TABLE t (id TEXT PRIMARY KEY, a);"
        f"CREATE TABLE children (id TEXT PRIMARY KEY, parent {child} UNIQUE REFERENCES t ON DELETE CASCADE ON UPDATE CASCADE)"
    )
    statements = [
        "PRAGMA foreign_keys = ON",
        "INSERT INTO t VALUES ('007', 1), ('1', 2), ('2.50', 3), ('x', 4)",
        "UPDATE t SET id = '1', a = 5 WHERE id = '1'",
        "UPDATE t SET id = '008' WHERE id = '007'",
        "DELETE FROM t WHERE id = '2.50'",
    ]

    operations = assert_replays(make, schema, statements, ("t", "children"))

    assert [operation.row_pk["id"] for operation in operations[4:]] == ["1", "007", "008", "2.50"]


@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_a_parent_whose_child_has_another_type_may_have_unique_indexes_and_itself_as_child(
    make: MakeEngine, recursive: str
) -> None:
    schema = """
        CREATE TABLE t (id TEXT COLLATE NOCASE, n INTEGER, u UNIQUE, up INTEGER UNIQUE, PRIMARY KEY (id));
        CREATE TABLE children (id TEXT PRIMARY KEY, parent INTEGER UNIQUE REFERENCES t (id) ON DELETE CASCADE ON UPDATE CASCADE,
            parent_n TEXT UNIQUE REFERENCES t (u) ON DELETE SET NULL);
    """
    statements = [
        "PRAGMA foreign_keys = ON",
        f"PRAGMA recursive_triggers = {recursive}",
        "INSERT INTO t VALUES ('007', 1, 1, 1), ('1', 2, 2, 2), ('2.50', 3, 3, 3), ('x', 4, 4, 4), ('5', 5, 5, 5)",
        "UPDATE t SET id = id",
        "UPDATE t SET id = '01', n = 9 WHERE id = '1'",
        "UPDATE t SET id = 'X' WHERE id = 'x'",
        "UPDATE t SET id = '50', u = 50 WHERE id = '5'",
        "REPLACE INTO t VALUES ('09', 1, 3, 9)",
        "UPDATE OR IGNORE t SET id = '01' WHERE id = '09'",
        "DELETE FROM t WHERE id = '01'",
        "INSERT INTO t VALUES ('01', 1, 'again', 7)",
        "DELETE FROM t WHERE n = 4",
    ]

    assert_replays(make, schema, statements, ("t", "children"))


@pytest.mark.parametrize("rowid", ["", "WITHOUT ROWID"])
@pytest.mark.parametrize(
    ("key", "child", "target"),
    [
        ("TEXT", "INTEGER", "id"),
        ("TEXT", "INTEGER", "u"),
        ("INT", "TEXT", "id"),
        ("REAL", "TEXT", "u"),
        ("TEXT", "REAL", "id"),
    ],
)
def test_a_parent_whose_children_match_after_a_conversion_is_captured_as_it_is(
    make: MakeEngine, key: str, child: str, target: str, rowid: str
) -> None:
    """Where SQLite finds a child, it leaves OLD and NEW of the parent converted for the triggers."""
    schema = (
        f"CREATE TABLE t (id {key} PRIMARY KEY, a, u {key} UNIQUE, up {child} REFERENCES t ({target}) ON DELETE CASCADE) {rowid};"
        f"CREATE TABLE children (id TEXT PRIMARY KEY, parent {child} REFERENCES t ({target}) ON UPDATE CASCADE ON DELETE SET NULL);"
        "CREATE INDEX of_children ON children (parent); CREATE INDEX of_t ON t (up)"
    )
    statements = [
        "PRAGMA foreign_keys = OFF",
        "INSERT INTO children VALUES ('c1', '8'), ('c2', '7'), ('c3', 10), ('c4', '2.5'), ('c5', 9)",
        "PRAGMA foreign_keys = ON",
        "INSERT INTO t VALUES ('007', 1, '007', NULL), ('8', 2, '8', NULL), ('0010', 3, '0010', NULL), ('2.50', 4, '2.50', NULL)",
        "INSERT OR IGNORE INTO t SELECT '7', 5, '7', NULL",
        "UPDATE t SET a = 'x', id = id, u = u",
        "UPDATE t SET id = '008', u = '08' WHERE id = '8'",
        "UPDATE t SET a = a || 'y'",
        "UPDATE OR IGNORE t SET id = '0010' WHERE a LIKE 'x%'",
        "UPDATE t SET u = '0' || u WHERE u < '3'",
        "UPDATE OR REPLACE t SET u = '2.50', id = '9' WHERE id IN ('007', 7)",
        "REPLACE INTO t VALUES ('09', 'new', '9', NULL)",
        "DELETE FROM t WHERE id IN ('008', 8)",
        "UPDATE t SET id = '0' || id, a = 'last'",
        "DELETE FROM t WHERE a = 'last'",
        "INSERT INTO t VALUES ('1', 1, '1', NULL)",
    ]
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as plain:
        plain.executescript(schema)
        passing = []
        for statement in statements:  # what is refused for its foreign keys depends on the types
            with suppress(sqlite3.IntegrityError):
                plain.execute(statement)
                passing.append(statement)

    operations = assert_replays(make, schema, passing, ("t", "children"))

    if key == "TEXT":
        named = [{**one.row_pk, **one.new, **one.old} for one in operations if one.table_name == "t"]
        assert {type(row[name]) for row in named for name in ("id", "u") if name in row} == {str}


def test_children_that_are_deleted_with_their_parent_are_deleted_there_too(make: MakeEngine) -> None:
    source, target = (make(name, FAMILY.format("CASCADE"), ("parents", "t")) for name in "ab")
    for engine in (source, target):
        engine.connection.execute("PRAGMA foreign_keys = ON")
    write(source, ["INSERT INTO parents VALUES (1, 'p')", "INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 1)"])
    send(source, target)

    write(source, ["PRAGMA foreign_keys = ON", "DELETE FROM parents"])
    send(source, target)

    assert exact(target) == exact(source) == []
    assert target.connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_a_statement_that_fails_halfway_leaves_no_operation(make: MakeEngine) -> None:
    engine = make("a", UNIQUE, ("t",))
    write(engine, [FEW])

    for sql in (
        "INSERT INTO t VALUES ('x', 7, 7), ('y', 1, 1)",
        "UPDATE t SET a = 3",
        "INSERT INTO t VALUES ('x', 7, 7), (NULL, 8, 8)",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            write(engine, [sql])

    assert kinds(engine.operations()) == ["insert"] * 3
    assert engine.reconcile() == 0


def test_what_a_failing_statement_keeps_is_captured(make: MakeEngine) -> None:
    """OR FAIL keeps the rows before the one that fails; OR ROLLBACK takes back the whole transaction."""
    source, target = make("a", UNIQUE, ("t",)), make("b", UNIQUE, ("t",))
    with closing(sqlite3.connect(source.path, isolation_level=None)) as connection:
        connection.execute(FEW)
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("INSERT OR FAIL INTO t VALUES ('x', 7, 7), ('y', 1, 1)")
        connection.execute("BEGIN")
        connection.execute("DELETE FROM t WHERE id = 'a'")
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("INSERT OR ROLLBACK INTO t VALUES ('y', 2, 1)")
    send(source, target)

    assert exact(source) == exact(target)
    assert len(exact(target)) == 4
    assert source.reconcile() == 0


# --- writers ------------------------------------------------------------------------------------------------------


def test_an_application_sees_nothing_of_the_triggers(make: MakeEngine) -> None:
    """`changes`, `last_insert_rowid` and the errors of its statements are what they were."""
    engine = make("a", UNIQUE.replace("TEXT", "INTEGER"), ("t",))
    with closing(sqlite3.connect(":memory:")) as plain, closing(sqlite3.connect(engine.path)) as captured:
        plain.execute(UNIQUE.replace("TEXT", "INTEGER"))
        seen = []
        for connection in (plain, captured):
            outcome: list[object] = []
            for sql in (
                "INSERT INTO t (a) VALUES (1), (2)", "INSERT INTO t (a) VALUES (1)", "UPDATE t SET b = 1", "REPLACE INTO t VALUES (9, 1, 1)",
                "DELETE FROM t WHERE a = 2", "INSERT OR IGNORE INTO t VALUES (9, 5, 5)", "INSERT INTO t (id) VALUES ('x')",
            ):  # fmt: skip
                try:
                    cursor = connection.execute(sql)
                    outcome.append(
                        (cursor.rowcount, connection.execute("SELECT changes(), last_insert_rowid()").fetchall())
                    )
                except sqlite3.Error as error:
                    outcome.append(str(error))
            seen.append(outcome)

    assert seen[0] == seen[1]


@pytest.mark.parametrize("mode", ["DELETE", "WAL", "TRUNCATE", "MEMORY"])
def test_the_journal_mode_is_the_users_own(make: MakeEngine, mode: str) -> None:
    source, target = make("a", TEXT_KEY, ()), make("b", TEXT_KEY, ("t",))
    source.connection.execute(f"PRAGMA journal_mode = {mode}")
    source.enable_sync_for_table("t")
    source.connection.execute(FEW)

    send(source, target)

    assert exact(source) == exact(target)
    assert source.connection.execute("PRAGMA journal_mode").fetchone() == (mode.lower(),)


def test_a_file_attached_under_another_name_is_captured(make: MakeEngine) -> None:
    source, target = make("a", UNIQUE, ("t",)), make("b", UNIQUE, ("t",))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("CREATE TABLE sync_operations (x)")
        connection.execute("ATTACH ? AS other", (str(source.path),))
        connection.execute("INSERT INTO other.t VALUES ('a', 1, 1), ('b', 2, 2)")
        connection.execute("REPLACE INTO other.t VALUES ('c', 1, 3)")
        connection.execute("UPDATE other.t SET id = 'd' WHERE id = 'b'")
    send(source, target)

    assert exact(source) == exact(target)
    assert len(exact(target)) == 2


WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for i in range(40):
    connection.execute("INSERT INTO t VALUES (?, ?, 0)", (f"{sys.argv[2]}-{i}", i))
    connection.execute("UPDATE t SET b = b + 1 WHERE id = ?", (f"{sys.argv[2]}-{i // 2}",))
"""


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_several_processes_that_write_at_once_are_captured(make: MakeEngine, mode: str) -> None:
    source, target = make("a", TEXT_KEY, ("t",)), make("b", TEXT_KEY, ("t",))
    source.connection.execute(f"PRAGMA journal_mode = {mode}")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(source.path), name]) for name in "xyz"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]

    send(source, target)

    assert exact(source) == exact(target)
    assert source.get_vector_clock() == {source.device_id: 240}
    assert source.reconcile() == 0


def test_the_sqlite3_shell_is_captured(make: MakeEngine) -> None:
    shell = shutil.which("sqlite3")
    if shell is None:
        pytest.skip("there is no sqlite3 shell")
    source, target = make("a", UNIQUE, ("t",)), make("b", UNIQUE, ("t",))
    script = """
        PRAGMA foreign_keys = ON;
        INSERT INTO t VALUES ('a', x'00ff', 0.1 + 0.2), ('b', char(97, 0, 98), 9223372036854775807), ('c', 1e999, NULL);
        UPDATE t SET id = 'z', b = 'é' WHERE id = 'b';
        REPLACE INTO t VALUES ('d', 1e999, 1);
        BEGIN; DELETE FROM t; ROLLBACK;
    """
    subprocess.run([shell, "-batch", "-bail", str(source.path)], input=script, text=True, check=True, encoding="utf-8")

    send(source, target)

    assert exact(source) == exact(target)
    assert [row[0] for row in exact(target)] == [("text", b"a"), ("text", b"d"), ("text", b"z")]


NODE = """
const path = process.argv[1];
function opened() {
    try { return new (require("node:sqlite").DatabaseSync)(path); } catch {}
    try { return new (require("node-sqlite3-wasm").Database)(path); } catch {}
    process.exit(77);
}
const database = opened();
database.exec("PRAGMA foreign_keys = ON");
database.exec("INSERT INTO t VALUES ('a', x'00ff', 0.1 + 0.2), ('b', 'é', 9223372036854775807), ('c', 1e999, NULL)");
database.exec("UPDATE t SET id = 'z', b = -1 WHERE id = 'b'");
database.exec("REPLACE INTO t VALUES ('d', 1e999, 1)");
database.exec("BEGIN; DELETE FROM t; ROLLBACK");
database.close();
"""


def test_node_is_captured(make: MakeEngine) -> None:
    """With the module that Node has from 22.5 on, or one of the package registry's; each brings a SQLite of its own."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node")
    source, target = make("a", UNIQUE, ("t",)), make("b", UNIQUE, ("t",))
    ended = subprocess.run([node, "--no-warnings", "-e", NODE, str(source.path)], check=False)
    if ended.returncode == 77:
        pytest.skip("node has no module for SQLite: npm install node-sqlite3-wasm, and set NODE_PATH")
    assert ended.returncode == 0
    send(source, target)

    assert exact(source) == exact(target)
    assert [row[0] for row in exact(target)] == [("text", b"a"), ("text", b"d"), ("text", b"z")]


def test_several_threads_with_connections_of_their_own_are_captured(make: MakeEngine) -> None:
    source, target = make("a", TEXT_KEY, ("t",)), make("b", TEXT_KEY, ("t",))

    def write_some(name: str) -> None:
        with closing(sqlite3.connect(source.path, timeout=60, isolation_level=None)) as connection:
            for i in range(30):
                connection.execute("INSERT INTO t VALUES (?, ?, 0)", (f"{name}-{i}", i))
                connection.execute("UPDATE t SET b = b + 1 WHERE id = ?", (f"{name}-{i // 2}",))

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write_some, "xyz"))
    send(source, target)

    assert exact(source) == exact(target)
    assert source.get_vector_clock() == {source.device_id: 180}
    assert source.reconcile() == 0


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_writer_that_keeps_the_file_for_itself_is_captured_and_named_while_it_does(
    make: MakeEngine, mode: str
) -> None:
    make("a", TEXT_KEY, ("t",)).close()
    target = make("b", TEXT_KEY, ("t",))
    path = target.path.with_name("a.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as exclusive:
        exclusive.execute(f"PRAGMA journal_mode = {mode}")
        exclusive.execute("PRAGMA locking_mode = EXCLUSIVE")
        exclusive.execute(FEW)
        with SyncEngine(path, timeout=0) as engine, pytest.raises(DatabaseError, match="locked by another connection"):
            engine.initialize()
    with SyncEngine(path) as engine:
        engine.initialize()
        send(engine, target)
        assert exact(engine) == exact(target)
        assert len(exact(target)) == 3


def test_a_writer_that_trusts_no_schema_is_captured(make: MakeEngine) -> None:
    source, target = make("a", UNIQUE, ("t",)), make("b", UNIQUE, ("t",))
    with closing(sqlite3.connect(source.path, isolation_level=None)) as wary:
        wary.execute("PRAGMA trusted_schema = OFF")
        for sql in (
            FEW,
            "UPDATE t SET id = 'z' WHERE id = 'a'",
            "REPLACE INTO t VALUES ('y', 2, 0)",
            "DELETE FROM t WHERE a = 3",
        ):
            wary.execute(sql)
    send(source, target)

    assert exact(source) == exact(target)
    assert source.reconcile() == 0


def test_a_writer_that_takes_no_double_quotes_for_strings_and_tells_cases_apart_is_captured(make: MakeEngine) -> None:
    shell = shutil.which("sqlite3")
    if shell is None:
        pytest.skip("there is no sqlite3 shell")
    schema = UNIQUE + "; CREATE UNIQUE INDEX i ON t (lower(a)) WHERE b > 1"
    source, target = make("a", schema, ("t",)), make("b", schema, ("t",))
    script = f"""
        .dbconfig dqs_dml off
        .dbconfig dqs_ddl off
        PRAGMA case_sensitive_like = ON;
        {FEW};
        UPDATE t SET id = 'z' WHERE id = 'a';
        UPDATE t SET b = 2;
        REPLACE INTO t VALUES ('y', 2, 0);
        DELETE FROM t WHERE a = 3;
    """
    lines = "\n".join(line.strip() for line in script.splitlines())
    subprocess.run([shell, "-batch", "-bail", str(source.path)], input=lines, text=True, check=True)
    send(source, target)

    assert exact(source) == exact(target)
    assert source.reconcile() == 0


def test_triggers_use_nothing_that_an_old_sqlite_lacks(make: MakeEngine) -> None:
    """Functions of 3.8.3 or older, no row values, no upsert, no FILTER: whoever has the file open may be that old."""
    schema = UNIQUE + "; CREATE UNIQUE INDEX i ON t (a || b) WHERE b > 1"
    engine = make("a", schema, ("t",))
    engine.connection.execute("CREATE TRIGGER mine AFTER INSERT ON t BEGIN SELECT 1; END")
    texts = engine.connection.execute("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'sync%'")
    used = {
        word.lower() for (sql,) in texts for word in re.findall(r"\b(\w+) ?\(", re.sub(r"\"[^\"]*\"|'[^']*'", "", sql))
    }
    functions = {"max", "min", "julianday", "random", "typeof", "coalesce"}
    words = {"exists", "values", "cast", "raise", "and", "or", "not", "where", "from", "select", "when"}
    assert used <= functions | words | {"sync_operations", "sync_notes_1"}


def test_a_write_in_the_users_own_transaction_commits_with_it(make: MakeEngine) -> None:
    engine = make("a", TEXT_KEY, ("t",))
    with closing(sqlite3.connect(engine.path, isolation_level=None)) as reader:
        engine.connection.execute("BEGIN")
        engine.connection.execute(FEW)
        assert reader.execute("SELECT count(*) FROM sync_operations WHERE op > 0").fetchone() == (0,)
        engine.connection.execute("COMMIT")
        assert reader.execute("SELECT count(*) FROM sync_operations WHERE op > 0").fetchone() == (3,)


def test_rows_that_stood_in_the_table_arrive_to_the_bit(make: MakeEngine) -> None:
    source, target = make("a", PLAIN, ()), make("b", PLAIN, ("t",))
    write(source, [("INSERT INTO t VALUES (?, ?, ?)", (i, value, value)) for i, value in enumerate(EVERYTHING)])

    assert source.enable_sync_for_table("t") == len(EVERYTHING)
    send(source, target)

    assert exact(source) == exact(target)
    assert source.reconcile() == 0


def test_nothing_tells_the_two_zeros_apart() -> None:
    """Pinned, see SPEC.md, section 14: where a later SQLite can, capture should."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (?)", (-0.0,))
        tests = (
            "x IS 0.0",
            "quote(x) = '0.0'",
            "hex(x) = hex(0.0)",
            "printf('%f', x) = '0.000000'",
            "1.0 / x IS NULL",
            "typeof(x) = 'real'",
        )
        assert connection.execute(f"SELECT {', '.join(tests)} FROM t").fetchone() == (1,) * len(tests)


def test_any_before_trigger_lets_sqlite_find_a_wrong_type_before_a_null() -> None:
    """Pinned, see SPEC.md, section 14: it is the trigger's being there, whatever it does."""
    schema = "CREATE TABLE t (a REAL PRIMARY KEY, b INTEGER DEFAULT 'd') STRICT, WITHOUT ROWID"
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(schema)
        connection.execute("INSERT OR IGNORE INTO t (a) VALUES (NULL)")
        connection.execute("CREATE TRIGGER mine BEFORE INSERT ON t BEGIN SELECT 1; END")
        with pytest.raises(sqlite3.IntegrityError, match="cannot store TEXT"):
            connection.execute("INSERT OR IGNORE INTO t (a) VALUES (NULL)")


def test_rows_that_one_statement_displaces_are_logged_with_ascending_clocks(make: MakeEngine) -> None:
    engine = make("a", "CREATE TABLE t (id TEXT PRIMARY KEY, x UNIQUE, y UNIQUE, z UNIQUE)", ("t",))
    for turn in range(20):
        engine.connection.execute("INSERT INTO t VALUES ('1', 1, 1, 1), ('2', 2, 2, 2), ('3', 3, 3, 3)")
        engine.connection.execute("INSERT OR REPLACE INTO t VALUES ('4', 1, 2, 3)")
        engine.connection.execute("DELETE FROM t")
        assert len(list(engine.operations())) == 8 * (turn + 1)
    clocks = [hlc for (hlc,) in engine.connection.execute("SELECT hlc FROM sync_operations ORDER BY op")]
    assert clocks == sorted(set(clocks))


def test_a_row_that_replace_deletes_before_our_eyes_is_logged_once(make: MakeEngine) -> None:
    engine = make(schema="CREATE TABLE t (id TEXT PRIMARY KEY, a UNIQUE)", tables=("t",))
    engine.connection.execute("PRAGMA recursive_triggers = ON")
    engine.connection.execute("INSERT INTO t VALUES ('a', 1)")
    engine.connection.execute("REPLACE INTO t VALUES ('b', 1)")
    assert [operation.kind for operation in engine.operations()] == ["insert", "delete", "insert"]
