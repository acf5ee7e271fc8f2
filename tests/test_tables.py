"""The user's tables: how their shape is read, and how rows are written into them whatever they declare."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import MakeEngine, exchange, rows, send
from sqlite_sync import SyncEngine, tables
from sqlite_sync.tables import Table, counts_up

DECLARED = [
    "", "INTEGER", "INT", "TINYINT", "UNSIGNED BIG INT", "CHARINT", "TEXT", "CHARACTER(20)", "VARCHAR(9)", "NVARCHAR(100)", "CLOB", "BLOB",
    "REAL", "DOUBLE PRECISION", "FLOAT", "NUMERIC", "DECIMAL(10,5)", "BOOLEAN", "DATE", "DATETIME", "STRING", "FLOATING POINT", "ANY", "JSON",
]  # fmt: skip


def shape(engine: SyncEngine, name: str) -> Table:
    return tables.read(engine._database, name, 1, {})


def run(engine: SyncEngine, *statements: str) -> None:
    for statement in statements:
        engine.connection.execute(statement)


# --- names --------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_a_quoted_name_and_a_literal_mean_what_they_quote(text: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(f"CREATE TABLE {tables.quote('t' + text)} (x)")

    assert connection.execute(f"SELECT name, {tables.literal(text)} FROM sqlite_schema").fetchall() == [
        ("t" + text, text)
    ]
    connection.close()


def test_names_are_folded_as_sqlite_folds_them_in_ascii_alone() -> None:
    assert tables.fold("ÀbC_İ") == "Àbc_İ"


def test_a_table_is_found_in_any_case_and_named_as_the_schema_spells_it(make: MakeEngine) -> None:
    engine = make("a", "CREATE TABLE ToDo (id TEXT PRIMARY KEY, Title)", ())
    engine.enable_sync_for_table("TODO")
    run(engine, "INSERT INTO todo VALUES ('k', 1)")

    assert engine.synced_tables() == ("ToDo",)
    assert engine.is_sync_enabled("todo")
    assert [(operation.table_name, dict(operation.new)) for operation in engine.operations("tOdO")] == [
        ("ToDo", {"id": "k", "Title": 1})
    ]
    assert engine.enable_sync_for_table("todo") == 0


def test_a_table_that_is_spelt_otherwise_on_the_other_device_is_the_same_table(make: MakeEngine) -> None:
    a = make("a", "CREATE TABLE ToDo (Id TEXT PRIMARY KEY, Title)", ("todo",))
    b = make("b", "CREATE TABLE todo (id TEXT PRIMARY KEY, TITLE)", ("todo",))
    run(a, "INSERT INTO todo VALUES ('k', 1)", "UPDATE todo SET title = 2")
    run(b, "INSERT INTO todo VALUES ('l', 3)")
    exchange(a, b)

    assert rows(a, "todo") == rows(b, "todo")
    assert len(rows(a, "todo")) == 2


def test_a_temporary_table_of_the_same_name_is_not_mistaken_for_it(make: MakeEngine) -> None:
    a, b = (
        make("a", "CREATE TABLE t (id TEXT PRIMARY KEY, x UNIQUE)", ("t",)),
        make("b", "CREATE TABLE t (id TEXT PRIMARY KEY, x UNIQUE)", ()),
    )
    run(b, "CREATE TEMP TABLE t (y)")
    b.enable_sync_for_table("t")
    run(a, "INSERT INTO t VALUES ('k', 1)")
    send(a, b)

    assert b.connection.execute("SELECT * FROM main.t").fetchall() == [("k", 1)]
    assert b.connection.execute("SELECT * FROM temp.t").fetchall() == []


# --- shape --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", DECLARED)
def test_affinity_is_what_sqlite_makes_of_the_declared_type(make: MakeEngine, declared: str) -> None:
    engine = make("a", f"CREATE TABLE t (id TEXT PRIMARY KEY, x {declared})", ())
    run(engine, "INSERT INTO t VALUES ('1', '1'), ('2', 1), ('3', 1.0)")
    stored = tuple(kind for (kind,) in engine.connection.execute("SELECT typeof(x) FROM t ORDER BY id"))
    expected = {
        "INTEGER": ("integer",) * 3,
        "NUMERIC": ("integer",) * 3,
        "REAL": ("real",) * 3,
        "TEXT": ("text",) * 3,
        "BLOB": ("text", "integer", "real"),
    }

    assert expected[tables.affinity(declared)] == stored


@pytest.mark.parametrize(
    "definition",
    [
        "id INTEGER PRIMARY KEY, x",
        "x, id integer primary key autoincrement",
        "id INTEGER, x, PRIMARY KEY (id)",
        "id INTEGER, x, PRIMARY KEY (id DESC)",
        "id INTEGER PRIMARY KEY DESC, x",
        "id INT PRIMARY KEY, x",
        "id BIGINT PRIMARY KEY, x",
        "id, x, PRIMARY KEY (id)",
    ],
)
def test_the_rowid_is_the_key_exactly_where_sqlite_says_so(make: MakeEngine, definition: str) -> None:
    engine = make("a", f"CREATE TABLE t ({definition})", ())
    table = shape(engine, "t")
    run(engine, "INSERT INTO t (x) VALUES ('x')")

    assert engine.connection.execute("SELECT rowid IS id FROM t").fetchone() == (table.has_rowid_key,)


def test_the_key_is_read_in_its_own_order_and_generated_columns_left_out(make: MakeEngine) -> None:
    table = shape(make("a", "CREATE TABLE t (g AS (x) STORED, a, x, b, v AS (x), PRIMARY KEY (b, a))", ()), "t")

    assert [column.name for column in table.key] == ["b", "a"]
    assert [column.name for column in table.columns] == ["a", "x", "b"]
    assert [column.name for column in table.payload] == ["x"]


def test_an_integer_key_of_a_table_without_rowid_is_no_alias(make: MakeEngine) -> None:
    assert not shape(make("a", "CREATE TABLE t (id INTEGER PRIMARY KEY, x) WITHOUT ROWID", ()), "t").has_rowid_key


def test_collations_of_the_key_are_those_of_its_index(make: MakeEngine) -> None:
    schema = "CREATE TABLE t (a TEXT COLLATE NOCASE, b TEXT COLLATE NOCASE, c TEXT, PRIMARY KEY (c COLLATE RTRIM, b, a COLLATE BINARY))"
    table = shape(make("a", schema, ()), "t")

    assert [(column.name, column.collation) for column in table.key] == [
        ("c", "RTRIM"),
        ("b", "NOCASE"),
        ("a", "BINARY"),
    ]


def test_a_key_with_collations_of_its_own_replays(make: MakeEngine) -> None:
    """The index says which keys are the same; the columns say how they compare elsewhere."""
    schema = "CREATE TABLE t (a TEXT COLLATE NOCASE, c TEXT, x, PRIMARY KEY (c COLLATE NOCASE, a COLLATE BINARY))"
    a, b, c = (make(name, schema, ("t",)) for name in "abc")
    run(a, "INSERT INTO t VALUES ('a', 'c', 1), ('A', 'c', 2), ('b', 'd', 3)")
    send(a, b)
    run(
        a,
        "UPDATE t SET c = 'C' WHERE x = 1",
        "UPDATE t SET a = 'B' WHERE x = 3",
        "UPDATE t SET x = 9 WHERE x = 2",
        "DELETE FROM t WHERE x = 3",
    )
    exchange(a, b, c)

    assert rows(a, "t") == rows(b, "t") == rows(c, "t")
    assert [engine.reconcile() for engine in (a, b, c)] == [0, 0, 0]
    run(a, "UPDATE t SET x = 'A' WHERE x = 1")
    run(b, "UPDATE t SET x = 'B' WHERE x = 1")
    exchange(a, b, c)

    assert rows(a, "t") == rows(b, "t") == rows(c, "t")
    assert [len(engine.get_unresolved_conflicts()) for engine in (a, b, c)] == [1, 1, 1]


# --- what the tables declare --------------------------------------------------------------------------------------

UNIQUE = "CREATE TABLE t (id TEXT PRIMARY KEY, u UNIQUE{}, x)"


def test_unique_values_that_go_round_in_a_circle_arrive(make: MakeEngine) -> None:
    a, b = (make(name, UNIQUE.format(""), ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('1', 1, 'x'), ('2', 2, 'x'), ('3', 3, 'x'), ('4', 4, 'x')")
    exchange(a, b)
    run(a, "UPDATE t SET u = -u", "UPDATE t SET u = CASE u WHEN -1 THEN 2 WHEN -2 THEN 3 WHEN -3 THEN 1 ELSE 4 END")
    run(b, "UPDATE t SET x = 'y' WHERE id = '4'")
    exchange(a, b)

    assert rows(a, "t") == rows(b, "t")


def test_replace_is_no_obstacle_to_an_import(make: MakeEngine) -> None:
    """Its log is an insert over an insert, and a delete of the row that it displaced."""
    a, b = (make(name, UNIQUE.format(""), ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('1', 1, 0)", "REPLACE INTO t VALUES ('1', 1, 1)", "REPLACE INTO t VALUES ('2', 1, 2)")
    send(a, b)
    run(
        a, "REPLACE INTO t VALUES ('2', 2, 3)", "REPLACE INTO t VALUES ('3', 2, 4)", "REPLACE INTO t VALUES ('2', 5, 5)"
    )
    send(a, b)

    assert rows(a, "t") == rows(b, "t")
    assert len(rows(b, "t")) == 2


def test_a_row_that_a_failed_statement_might_have_displaced_is_deleted_once(make: MakeEngine) -> None:
    schema = UNIQUE.format("") + "; CREATE UNIQUE INDEX both ON t (u, id)"
    a, b = (make(name, schema, ("t",)) for name in "ab")
    run(
        a,
        "INSERT INTO t VALUES ('1', 1, 0), ('2', 2, 0)",
        "UPDATE OR IGNORE t SET u = 1",
        "UPDATE t SET id = '3' WHERE id = '1'",
    )
    send(a, b)

    assert [operation.kind for operation in a.operations()] == ["insert", "insert", "delete", "insert"]
    assert rows(a, "t") == rows(b, "t")


FAMILY = "CREATE TABLE parents (id TEXT PRIMARY KEY, name); CREATE TABLE t (id TEXT PRIMARY KEY, parent REFERENCES parents {})"


def test_children_may_arrive_before_their_parents_in_one_bundle(make: MakeEngine) -> None:
    a, b = (make(name, FAMILY.format("(id)"), ("t", "parents")) for name in "ab")
    b.connection.execute("PRAGMA foreign_keys = ON")
    run(a, "INSERT INTO t VALUES ('c', 'p')", "INSERT INTO parents VALUES ('p', 1)")
    send(a, b)

    assert rows(a, "t") == rows(b, "t")
    assert b.connection.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize(
    "reference", ["(name)", "(missing)", ""], ids=["a column that is not unique", "a column that is not there", "fine"]
)
def test_a_reference_that_sqlite_itself_cannot_check_does_not_stop_an_import(make: MakeEngine, reference: str) -> None:
    a, b = (make(name, FAMILY.format(reference), ("t", "parents")) for name in "ab")
    run(a, "INSERT INTO parents VALUES ('p', 'p')", "INSERT INTO t VALUES ('c', 'p')")
    exchange(a, b)

    assert rows(a, "t") == rows(b, "t")


def test_a_reference_to_a_table_that_is_not_there_does_not_stop_an_import(make: MakeEngine) -> None:
    a, b = (make(name, "CREATE TABLE t (id TEXT PRIMARY KEY, x REFERENCES nowhere (id))", ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('c', NULL)", "INSERT INTO t VALUES ('d', 'p')")
    exchange(a, b)

    assert rows(a, "t") == rows(b, "t")


def test_a_table_that_refers_to_itself_arrives_in_any_order(make: MakeEngine) -> None:
    schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, parent REFERENCES t (id) ON DELETE CASCADE)"
    a, b = (make(name, schema, ("t",)) for name in "ab")
    for engine in (a, b):
        engine.connection.execute("PRAGMA foreign_keys = ON")
    run(a, "INSERT INTO t VALUES (1, NULL), (2, 1), (3, 2), (4, 3), (5, NULL)")
    send(a, b)
    run(a, "UPDATE t SET parent = 5 WHERE id = 3", "DELETE FROM t WHERE id = 1")
    exchange(a, b)

    assert (
        rows(a, "t")
        == rows(b, "t")
        == [
            ((kind, i), ("NoneType", None) if p is None else (kind, p))
            for kind, i, p in [("int", 3, 5), ("int", 4, 3), ("int", 5, None)]
        ]
    )


# --- a guest in somebody's file -----------------------------------------------------------------------------------


def test_uninstall_leaves_no_trace_but_the_users_data(make: MakeEngine) -> None:
    schema = (
        UNIQUE.format("")
        + "; CREATE INDEX x ON t (x); CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END; CREATE VIEW v AS SELECT 1"
    )
    a, b = (make(name, schema, ("t",)) for name in "ab")
    before = a.connection.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sync%' AND tbl_name NOT LIKE 'sync%' ORDER BY name"
    ).fetchall()
    run(a, "INSERT INTO t VALUES ('1', 1, 1)", "REPLACE INTO t VALUES ('2', 1, 1)")
    run(b, "INSERT INTO t VALUES ('2', 3, 3)")
    exchange(a, b)
    content = rows(a, "t")

    a.uninstall()

    assert a.connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall() == before
    assert rows(a, "t") == content
    run(a, "REPLACE INTO t VALUES ('9', 9, 9)")


def test_the_settings_of_the_file_stay_as_they_were(make: MakeEngine) -> None:
    engine = make("a", "PRAGMA user_version = 7; PRAGMA application_id = 99; PRAGMA journal_mode = WAL", ())
    run(engine, "CREATE TABLE t (id TEXT PRIMARY KEY, x)")
    pragmas = [
        "user_version",
        "application_id",
        "journal_mode",
        "page_size",
        "encoding",
        "auto_vacuum",
        "foreign_keys",
        "recursive_triggers",
    ]
    before = [engine.connection.execute(f"PRAGMA {pragma}").fetchone() for pragma in pragmas]
    other = make("b", "CREATE TABLE t (id TEXT PRIMARY KEY, x)", ("t",))
    engine.enable_sync_for_table("t")
    run(engine, "INSERT INTO t VALUES ('k', 1)")
    run(other, "INSERT INTO t VALUES ('k', 2)")
    exchange(engine, other)
    engine.resolve(engine.get_unresolved_conflicts()[0], "local")
    engine.disable_sync_for_table("t")

    assert [engine.connection.execute(f"PRAGMA {pragma}").fetchone() for pragma in pragmas] == before


@pytest.mark.parametrize(
    ("schema", "counts"),
    [
        ("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, x)", True),
        ("CREATE TABLE t (id integer primary key asc autoincrement)", True),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY, \"AUTOINCREMENT\" DEFAULT 'AUTOINCREMENT') -- AUTOINCREMENT", False),
        ("CREATE TABLE t (id INTEGER PRIMARY KEY /* not\nAUTOINCREMENT */, [AUTOINCREMENT])", False),
    ],
)
def test_whether_a_key_counts_up(make: MakeEngine, schema: str, *, counts: bool) -> None:
    engine = make("a", schema, ())
    assert counts_up(engine._database, "t") == counts
    assert (
        bool(engine.connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'").fetchone())
        == counts
    )
