"""Short histories that the machine of `run_verification.py` found, each with what must come of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

import pytest

from conftest import MakeEngine, exchange, rows, send, tick
from sqlite_sync import Conflict, ConflictError, Defer, PreferRemote, SchemaError, SyncEngine, SyncError

PLAIN = "CREATE TABLE t (id TEXT PRIMARY KEY, x, y)"
FAMILY = (
    "CREATE TABLE parents (id TEXT PRIMARY KEY, name);CREATE TABLE t (id TEXT PRIMARY KEY, parent REFERENCES parents)"
)


def run(engine: SyncEngine, *statements: str) -> None:
    for statement in statements:
        tick()
        engine.connection.execute(statement)


def values(engine: SyncEngine, table: str = "t") -> list[tuple[object, ...]]:
    return [tuple(value for _, value in row) for row in rows(engine, table)]


def both(a: SyncEngine, b: SyncEngine, table: str = "t") -> list[tuple[object, ...]]:
    """Check that two devices agree, each with its own log too; return what the table holds."""
    exchange(a, b)
    assert rows(a, table) == rows(b, table)
    assert a.get_unresolved_conflicts() == b.get_unresolved_conflicts()
    for engine in (a, b):
        diagnosis = engine.doctor(deep=True)
        findings = [*diagnosis.findings, *(one for each in diagnosis.tables for one in each.findings)]
        assert [one for one in findings if one.level == "error"] == []
    return values(a, table)


# Rows that were inserted uncaptured


def insert_uncaptured(engine: SyncEngine, statement: str) -> None:
    """Do what a program does that drops one trigger, so that what comes next is captured, and this is not."""
    engine.connection.execute("DROP TRIGGER sync_insert_1")
    run(engine, statement)


def test_the_delete_of_a_row_that_nobody_knows_changes_nothing(make: MakeEngine) -> None:
    a, b = (make(name, PLAIN, ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('kept', 1, 1)")
    insert_uncaptured(a, "INSERT INTO t VALUES ('p', 1, 1)")
    run(a, "DELETE FROM t WHERE id = 'p'", "UPDATE t SET x = 2")

    result = send(a, b)
    assert result is not None
    assert [operation.kind for operation in a.operations()] == ["insert", "delete", "update"]
    assert both(a, b) == [("kept", 2, 1)]


def test_the_update_of_a_row_that_nobody_knows_makes_no_row_until_its_author_reconciles(make: MakeEngine) -> None:
    a, b = (make(name, PLAIN, ("t",)) for name in "ab")
    insert_uncaptured(a, "INSERT INTO t VALUES ('p', 1, 1)")
    run(a, "UPDATE t SET x = 2")
    assert [operation.kind for operation in a.operations()] == ["update"]

    send(a, b)
    assert [operation.kind for operation in a.operations()] == ["update", "insert"]
    assert both(a, b) == [("p", 2, 1)]


def test_an_update_of_a_row_that_went_before_anybody_noticed_it_changes_nothing(make: MakeEngine) -> None:
    a, b = (make(name, PLAIN, ("t",)) for name in "ab")
    insert_uncaptured(a, "INSERT INTO t VALUES ('p', 1, 1)")
    run(a, "UPDATE t SET x = 2")
    a.connection.execute("DROP TRIGGER sync_delete_1")
    run(a, "DELETE FROM t")
    send(a, b)
    run(b, "INSERT INTO t VALUES ('p', 3, 3)")
    assert both(a, b) == [("p", 3, 3)]


def test_a_row_that_is_gone_uncaptured_is_not_brought_back_by_somebody_elses_update(make: MakeEngine) -> None:
    a, b = (make(name, PLAIN, ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('p', 1, 1)")
    exchange(a, b)
    [trigger] = b.connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'sync_delete_1'").fetchone()
    b.connection.execute("DROP TRIGGER sync_delete_1")
    run(b, "DELETE FROM t")
    b.connection.execute(trigger)  # whoever did it put all triggers back, so that only a comparison finds it
    others = b.connection.execute(
        "SELECT sql FROM sqlite_schema WHERE name LIKE 'sync!_%!_1' ESCAPE '!' AND type = 'trigger'"
    )
    assert len(others.fetchall()) == 4
    run(a, "UPDATE t SET x = 2")

    with pytest.raises(SchemaError, match="t does not hold what its log says: 1 of its rows are missing"):
        send(a, b)
    b.reconcile()
    assert both(a, b) == [("p", 2, 1)]
    assert [one.kind for one in a.get_unresolved_conflicts()] == ["update/delete"]


# Tables that are not enabled for a while


def kinds(engine: SyncEngine) -> list[tuple[str, str, dict[str, object]]]:
    return [(one.kind, one.table_name, dict(one.row_pk)) for one in engine.get_unresolved_conflicts()]


def test_a_child_that_was_written_while_its_table_was_disabled_waits_for_the_parent_that_went(make: MakeEngine) -> None:
    a, b = (make(name, FAMILY, ("parents", "t")) for name in "ab")
    run(a, "INSERT INTO parents VALUES ('p', 'first')")
    exchange(a, b)
    b.disable_sync_for_table("t")
    run(b, "INSERT INTO t VALUES ('c', 'p')")
    run(a, "INSERT INTO t VALUES ('other', 'p')", "DELETE FROM t", "DELETE FROM parents")
    send(a, b)

    b.enable_sync_for_table("t")
    assert kinds(b) == [("foreign_key", "t", {"id": "c"})]
    assert both(a, b) == []


def test_a_child_that_was_written_while_its_parents_delete_was_held_knew_it(make: MakeEngine) -> None:
    a, b = (make(name, FAMILY, ("parents", "t")) for name in "ab")
    run(a, "INSERT INTO parents VALUES ('p', 'first')")
    exchange(a, b)
    b.disable_sync_for_table("parents")
    run(a, "DELETE FROM parents")
    send(a, b)
    run(b, "INSERT INTO t VALUES ('c', 'p')")

    b.enable_sync_for_table("parents")
    assert both(a, b) == [("c", "p")]
    assert values(b, "parents") == []


def test_a_child_stands_when_the_table_of_its_parent_that_nobody_wrote_is_enabled(make: MakeEngine) -> None:
    a, b = make("a", FAMILY, ("parents", "t")), make("b", FAMILY, ("t",))
    run(a, "INSERT INTO t VALUES ('c', 'p')")
    send(a, b)
    assert kinds(b) == [("foreign_key", "t", {"id": "c"})]
    b.enable_sync_for_table("parents")
    assert values(b) == both(a, b) == [("c", "p")]


def test_a_parked_row_is_not_kept_out_by_its_other_reference_to_the_same_table(make: MakeEngine) -> None:
    schema = "CREATE TABLE t (id TEXT PRIMARY KEY, r REFERENCES t, s REFERENCES t)"
    a, b, c = (make(name, schema, ("t",)) for name in "abc")
    run(a, "INSERT INTO t VALUES ('p', NULL, 'q')")
    run(b, "INSERT INTO t VALUES ('p', 'nobody', NULL)")
    run(c, "INSERT INTO t VALUES ('q', NULL, NULL)", "INSERT INTO t VALUES ('c', 'nobody', 'p')")
    run(c, "DELETE FROM t WHERE id = 'q'")
    send(a, c)
    assert sorted(row["id"] for kind, _, row in kinds(c) if kind == "foreign_key") == ["c", "p"]
    send(b, c)
    assert [kind for kind, *_ in kinds(c)] == ["insert/insert"]
    exchange(a, b, c)
    assert both(a, c) == both(b, c) == [("c", "nobody", "p"), ("p", "nobody", None)]


def test_a_parked_row_stays_so_when_another_of_its_versions_arrives(make: MakeEngine) -> None:
    a, b = (make(name, FAMILY, ("parents", "t")) for name in "ab")
    run(a, "INSERT INTO parents VALUES ('p', 'first')", "INSERT INTO t VALUES ('c', NULL)")
    exchange(a, b)
    run(b, "DELETE FROM parents")
    early = b.generate_bundle(a.device_id, b.path.with_suffix(".early"))
    run(b, "DELETE FROM t")
    run(a, "UPDATE t SET parent = 'p'")
    assert early is not None
    a.import_bundle(early)
    assert kinds(a) == [("foreign_key", "t", {"id": "c"})]

    send(b, a)
    assert sorted(kind for kind, *_ in kinds(a)) == ["foreign_key", "update/delete"]
    assert both(a, b) == []


def two_versions(a: SyncEngine, b: SyncEngine) -> Conflict:
    """Let two devices insert one row, and one of them hear of it; return the conflict."""
    run(a, "INSERT INTO t VALUES ('p', 1, 1)")
    run(b, "INSERT INTO t VALUES ('p', 2, 2)")
    send(a, b)
    [conflict] = b.get_unresolved_conflicts()
    return conflict


def test_a_conflict_of_a_disabled_table_is_listed_and_cannot_be_resolved(make: MakeEngine) -> None:
    a, b = (make(name, PLAIN, ("t",)) for name in "ab")
    conflict = two_versions(a, b)
    b.disable_sync_for_table("t")
    assert b.get_unresolved_conflicts() == [conflict]
    for choice in ("local", "remote", None, {"x": 3}, PreferRemote()):
        with pytest.raises(ConflictError, match=r"t is not synced here, so its conflict on .* enable t first"):
            b.resolve(conflict, choice)
    result = b.resolve_all(PreferRemote())
    assert [one.reason for one in result.deferred] == ["t is not synced here: enable it first"]
    assert b.get_vector_clock()[b.device_id] == 1

    b.enable_sync_for_table("t")
    b.resolve(conflict, "remote")
    assert both(a, b) == [("p", 1, 1)]
    assert b.resolve_all(Defer()).deferred == ()


def test_a_parent_in_a_disabled_table_cannot_be_brought_back(make: MakeEngine) -> None:
    a, b = (make(name, FAMILY, ("parents", "t")) for name in "ab")
    run(a, "INSERT INTO parents VALUES ('p', 'first')")
    exchange(a, b)
    run(a, "DELETE FROM parents")
    run(b, "INSERT INTO t VALUES ('c', 'p')")
    send(a, b)
    b.disable_sync_for_table("parents")
    [conflict] = b.get_unresolved_conflicts()
    assert conflict.kind == "foreign_key"
    with pytest.raises(ConflictError, match="is in parents, which is not synced here: enable parents first"):
        b.resolve(conflict, "remote")

    b.enable_sync_for_table("parents")
    b.resolve(conflict, "remote")
    assert both(a, b) == [("c", "p")]
    assert values(b, "parents") == [("p", "first")]


# Columns that one device lacks


def test_a_device_without_a_column_lists_a_conflict_in_its_default_until_it_has_it(make: MakeEngine) -> None:
    a, b, c = (make(name, PLAIN, ("t",)) for name in "abc")
    column = "ALTER TABLE t ADD COLUMN later INTEGER NOT NULL DEFAULT 7"
    run(a, column)
    assert a.get_unresolved_conflicts() == []  # and so it is captured
    run(a, "INSERT INTO t VALUES ('p', 1, 1, 7)")
    run(b, "INSERT INTO t VALUES ('p', 1, 1)")
    exchange(a, b, c)
    assert [kinds(one) for one in (a, b, c)] == [[], *[[("insert/insert", "t", {"id": "p"})]] * 2]
    run(b, column)
    run(c, column)
    assert [kinds(one) for one in (a, b, c)] == [[], [], []]
    assert both(a, c) == both(b, c) == [("p", 1, 1, 7)]


# Deletes that do not say what stood there


def test_what_a_delete_does_not_know_of_a_column_stays_in_a_concurrent_edit(make: MakeEngine) -> None:
    a, b, c = (make(name, PLAIN, ("t",)) for name in "abc")
    run(a, "INSERT INTO t VALUES ('p', 1, 1)")
    run(a, "ALTER TABLE t ADD COLUMN later", "UPDATE t SET later = 5")
    run(c, "ALTER TABLE t ADD COLUMN later")
    exchange(a, b, c)
    run(b, "DELETE FROM t", "ALTER TABLE t ADD COLUMN later")
    run(a, "UPDATE t SET x = 2")
    send(b, c)  # it knows the delete before the edit
    send(a, b)
    send(a, c)
    assert values(b) == values(c) == [("p", 2, 1, 5)]
    assert both(a, b) == both(c, b) == [("p", 2, 1, 5)]


def test_what_a_delete_says_of_a_value_that_nobody_wrote_is_not_believed(make: MakeEngine) -> None:
    a, b, c = (make(name, PLAIN, ("t",)) for name in "abc")
    run(a, "INSERT INTO t VALUES ('p', 1, 1)")
    exchange(a, b, c)
    b.connection.execute("DROP TRIGGER sync_update_1")
    run(b, "UPDATE t SET y = 9", "DELETE FROM t")
    run(a, "UPDATE t SET x = 2")
    send(b, c)
    send(a, b)
    send(a, c)
    assert values(b) == values(c) == [("p", 2, 1)]
    assert both(a, b) == both(c, b) == [("p", 2, 1)]


def test_an_update_that_overwrote_what_nobody_logged_is_not_undone(make: MakeEngine) -> None:
    a, b, c = (make(name, PLAIN, ("t",)) for name in "abc")
    run(a, "INSERT INTO t VALUES ('p', 1, 1), ('q', 1, 1)")
    exchange(a, b, c)
    [sql] = b.connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'sync_update_1'").fetchone()
    b.connection.execute("DROP TRIGGER sync_update_1")
    b.connection.execute("DROP TRIGGER sync_delete_1")
    run(b, "UPDATE t SET x = 2 WHERE id = 'p'")
    b.connection.execute(sql)
    run(b, "UPDATE t SET x = 3")
    send(b, c)
    run(a, "UPDATE t SET y = 5")
    assert [one.kind for one in b.operations() if one.device_id == b.device_id] == ["update", "update", "insert"]
    assert b.reconcile() == 0
    send(a, b)
    send(a, c)
    assert values(b) == values(c) == [("p", 1, 5), ("q", 1, 5)]
    assert both(a, b) == both(c, b) == [("p", 1, 5), ("q", 1, 5)]


def test_a_fork_that_began_with_a_delete_takes_an_edit_as_it_was_written(make: MakeEngine) -> None:
    schema = f"{PLAIN}; CREATE TABLE s (id TEXT PRIMARY KEY, r REFERENCES t)"
    a, b, c = (make(name, schema, ("t", "s")) for name in "abc")
    run(a, "INSERT INTO t VALUES ('p', 1, 1)")
    exchange(a, b, c)
    b.connection.execute("DROP TRIGGER sync_update_1")
    run(b, "UPDATE t SET y = 9", "DELETE FROM t")
    run(c, "INSERT INTO s VALUES ('child', 'p')")
    send(c, b)  # the deleted row takes part in the child's conflict
    assert kinds(b) == [("foreign_key", "s", {"id": "child"})]
    run(a, "UPDATE t SET x = 2")
    send(a, b)
    assert values(b) == [("p", 2, 1)]
    exchange(a, b, c)
    assert both(a, b) == both(c, b) == [("p", 2, 1)]
    assert values(b, "s") == [("child", "p")]


# Copies


def test_what_was_written_before_a_copy_was_renewed_is_judged_though_another_table_is_broken(make: MakeEngine) -> None:
    schema = f"{PLAIN}; CREATE TABLE other (id TEXT PRIMARY KEY)"
    a, b = (make(name, schema, ("t", "other")) for name in "ab")
    conflict = two_versions(a, b)
    b.connection.execute("DROP TRIGGER sync_delete_2")
    run(b, "UPDATE t SET y = 3")
    b.renew_device()

    [after] = b.get_unresolved_conflicts()
    assert (after.conflict_id, after.local_op_id) != (conflict.conflict_id, conflict.local_op_id)
    assert dict(b.images(after).local or {}) == {"id": "p", "x": 2, "y": 3}
    assert both(a, b) == [("p", 2, 3)]


# Rows that refer to themselves

ITSELF = "PRAGMA foreign_keys = ON; CREATE TABLE t (id TEXT PRIMARY KEY, r REFERENCES t {})"
ITSELF_AND_UNIQUE = "PRAGMA foreign_keys = ON; CREATE TABLE t (id TEXT PRIMARY KEY, r REFERENCES t {}, u UNIQUE)"
BY_NUMBER = "PRAGMA foreign_keys = ON; CREATE TABLE t (id TEXT PRIMARY KEY, r INTEGER REFERENCES t {})"
ROUND = (
    "PRAGMA foreign_keys = ON; CREATE TABLE t (id TEXT PRIMARY KEY, r REFERENCES s ON DELETE CASCADE ON UPDATE CASCADE);"
    "CREATE TABLE s (id TEXT PRIMARY KEY REFERENCES t ON DELETE CASCADE ON UPDATE CASCADE)"
)


def replayed(make: MakeEngine, schema: str, *statements: str, tables: tuple[str, ...] = ("t",)) -> list[object]:
    """Run the statements on a captured table; check that its log says what it holds, and return that."""
    a, b = (make(name, schema, tables) for name in "ab")
    for engine in (a, b):
        engine.connection.execute("PRAGMA foreign_keys = ON")
    run(a, *statements)
    assert a.reconcile() == 0
    assert both(a, b) == values(a)
    return list(values(a))


@pytest.mark.parametrize(("action", "expected"), [("CASCADE", "b"), ("SET NULL", None), ("SET DEFAULT", None)])
def test_a_row_that_refers_to_itself_follows_its_own_key(make: MakeEngine, action: str, expected: object) -> None:
    schema = ITSELF.format(f"ON UPDATE {action}")
    statements = "INSERT INTO t VALUES ('a', 'a'), ('c', 'a')", "UPDATE t SET id = 'b' WHERE id = 'a'"
    assert replayed(make, schema, *statements) == [("b", expected), ("c", expected)]


def test_rows_that_refer_to_each_other_follow_their_keys(make: MakeEngine) -> None:
    rows_of_two = "INSERT INTO t VALUES ('a', NULL), ('b', 'a')", "UPDATE t SET r = 'b' WHERE id = 'a'"
    schema = ITSELF.format("ON UPDATE CASCADE")
    assert replayed(make, schema, *rows_of_two, "UPDATE t SET id = id || 'x'") == [("ax", "bx"), ("bx", "ax")]


def test_a_reference_of_another_type_follows_its_own_key(make: MakeEngine) -> None:
    statements = "INSERT INTO t VALUES ('7', NULL), ('x', 7)", "UPDATE t SET id = '8' WHERE id = '7'"
    assert replayed(make, BY_NUMBER.format("ON UPDATE CASCADE"), *statements) == [("8", None), ("x", 8)]


def test_a_key_that_comes_back_through_another_table_is_followed(make: MakeEngine) -> None:
    statements = "INSERT INTO t VALUES ('a', NULL)", "INSERT INTO s VALUES ('a')", "UPDATE t SET r = 'a'"
    assert replayed(make, ROUND, *statements, "UPDATE t SET id = 'b'", tables=("t", "s")) == [("b", "b")]


@pytest.mark.parametrize(
    ("schema", "statement"),
    [
        (ITSELF, "UPDATE OR REPLACE t SET id = 'b' WHERE id = 'a'"),
        (ITSELF_AND_UNIQUE, "UPDATE OR REPLACE t SET id = 'b' WHERE id = 'a'"),
        (ITSELF_AND_UNIQUE, "UPDATE OR REPLACE t SET u = 1 WHERE id = 'a'"),
        (ITSELF_AND_UNIQUE, "UPDATE OR REPLACE t SET u = 1, id = 'd' WHERE id = 'a'"),
        (BY_NUMBER.replace("TEXT", "BLOB"), "UPDATE OR REPLACE t SET id = 'b' WHERE id = 'a'"),
    ],
)
def test_a_row_that_displaces_the_one_it_hangs_on_goes_with_it(make: MakeEngine, schema: str, statement: str) -> None:
    columns = "(id, r, u)" if "UNIQUE" in schema else "(id, r)"
    extra = [", 1", ", 2", ", 3"] if "UNIQUE" in schema else [""] * 3
    inserts = [f"({row}{more})" for row, more in zip(("'b', NULL", "'a', 'b'", "'c', 'a'"), extra, strict=True)]
    insert = f"INSERT INTO t {columns} VALUES {', '.join(inserts)}"
    assert replayed(make, schema.format("ON DELETE CASCADE"), insert, statement) == []


def test_a_cascade_through_another_table_takes_the_row_that_displaces(make: MakeEngine) -> None:
    statements = (
        "INSERT INTO t VALUES ('b', NULL)",
        "INSERT INTO s VALUES ('b')",
        "INSERT INTO t VALUES ('a', 'b')",
        "UPDATE OR REPLACE t SET id = 'b' WHERE id = 'a'",
    )
    assert replayed(make, ROUND, *statements, tables=("t", "s")) == []


def test_a_note_that_came_to_nothing_is_no_delete(make: MakeEngine) -> None:
    statements = (
        "INSERT INTO t VALUES ('b', NULL), ('a', NULL), ('c', 'a')",
        "UPDATE OR IGNORE t SET id = 'b' WHERE id = 'a'",
        "UPDATE t SET r = 'b' WHERE id = 'b'",
        "DELETE FROM t WHERE id = 'c'",
        "UPDATE OR REPLACE t SET id = 'b' WHERE id = 'a'",
        "DELETE FROM t WHERE id = 'b'",
        "INSERT INTO t VALUES ('b', 'b')",
    )
    assert replayed(make, ITSELF.format("ON DELETE CASCADE"), *statements) == [("b", "b")]


# Imports that are broken off


def test_an_error_that_is_no_interrupt_is_raised_as_it_is(make: MakeEngine) -> None:
    class Failing(sqlite3.Connection):
        """A connection on which a PRAGMA that switches foreign keys on again fails, by an error without a code."""

        def cursor(self, factory: type[sqlite3.Cursor] = sqlite3.Cursor, /) -> sqlite3.Cursor:
            class Cursor(factory):  # type: ignore[misc, valid-type]
                def execute(self, sql: str, parameters: Iterable[object] = (), /) -> sqlite3.Cursor:
                    if sql == "PRAGMA foreign_keys = 0":
                        message = "the wrapper of an application failed"
                        raise sqlite3.OperationalError(message)
                    return super().execute(sql, parameters)  # type: ignore[no-any-return]

            return super().cursor(Cursor)

    a, b = make("a", PLAIN, ("t",)), make("b", PLAIN, ("t",))
    run(a, "INSERT INTO t VALUES ('p', 1, 1)")
    path = a.generate_bundle(b.device_id, a.path.with_suffix(".bundle"))
    assert path is not None
    with SyncEngine(b.path, connect=lambda name: sqlite3.connect(name, factory=Failing)) as engine:
        engine.initialize()
        with pytest.raises(sqlite3.OperationalError, match="the wrapper of an application failed"):
            engine.import_bundle(path)
    assert values(b) == [("p", 1, 1)]


@pytest.mark.parametrize("is_flag", [False, True], ids=["progress handler", "interrupt()"])
def test_an_import_that_is_broken_off_leaves_no_statement_unfinished(make: MakeEngine, *, is_flag: bool) -> None:
    a, b = (make(name, PLAIN, ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('p', 1, 1), ('q', 1, 1), ('r', 1, 1)")
    exchange(a, b)
    run(a, "UPDATE t SET x = 2")
    run(b, "UPDATE t SET y = 2")
    path = a.generate_bundle(b.device_id, a.path.with_suffix(".bundle"))
    assert path is not None
    b.connection.execute("PRAGMA foreign_keys = ON")
    held: list[BaseException] = []
    for place in range(5, 400, 7):
        left = iter(range(place))

        def break_off(left: Iterator[int] = left) -> int:
            is_due = next(left, None) is None
            if is_due and is_flag:
                b.connection.interrupt()
            return is_due and not is_flag

        b.connection.set_progress_handler(break_off, 20)
        try:
            b.import_bundle(path, dry_run=True)
        except (sqlite3.Error, SyncError) as error:
            held.append(error)  # as a debugger or a log does, with all its frames
        b.connection.set_progress_handler(None, 0)
        assert not b.connection.in_transaction
        assert b.connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
    assert len(held) > 10
    b.import_bundle(path)
    assert {name for _, name, _ in b.connection.execute("PRAGMA database_list")} <= {"main", "temp"}
    assert len(both(a, b)) == 3
