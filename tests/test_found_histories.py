"""Short histories that the machine of `run_verification.py` found, each with what must come of it."""

from __future__ import annotations

import pytest

from conftest import MakeEngine, exchange, rows, send, tick
from sqlite_sync import SchemaError, SyncEngine

PLAIN = "CREATE TABLE t (id TEXT PRIMARY KEY, x, y)"


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
