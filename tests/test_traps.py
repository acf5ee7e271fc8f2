"""Traps that were measured on SQLite, where no other test stands for them alone."""

from __future__ import annotations

import pytest

from conftest import MakeEngine, exchange, rows, send

UNIQUE = "CREATE TABLE t (id TEXT PRIMARY KEY, u, x)"


@pytest.mark.parametrize("how", ["IGNORE", "REPLACE", "FAIL", "ABORT", "ROLLBACK"])
def test_the_outer_statements_conflict_clause_drops_and_overwrites_no_operation(make: MakeEngine, how: str) -> None:
    """It overrides the clauses of statements inside triggers: the log has nothing that an insert could hit."""
    a, b = (make(name, UNIQUE, ("t",)) for name in "ab")
    for i in range(3):
        a.connection.execute(f"INSERT OR {how} INTO t VALUES ('{i}', {i}, 0)")
        a.connection.execute(f"UPDATE OR {how} t SET x = x + 1")
    send(a, b)

    assert [operation.seq for operation in a.operations()] == list(range(1, 10))
    assert rows(a, "t") == rows(b, "t")


@pytest.mark.parametrize(
    ("index", "taken"),
    [
        ("t (lower(u))", "A"),
        ("t (u) WHERE x = 1", "a"),
        ("t (u COLLATE NOCASE)", "A"),
        ("t (substr(u, 1) COLLATE NOCASE)", "A"),
        ("t (x, u)", "a"),
        ("t (g)", "A"),
        ("t (g || '')", "A"),
    ],
)
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_replace_displaces_through_any_unique_index_and_is_captured_once(
    make: MakeEngine, index: str, taken: str, recursive: str
) -> None:
    schema = UNIQUE.replace("x)", "x, g AS (lower(u)))")
    a, b = (make(name, f"{schema}; CREATE UNIQUE INDEX i ON {index}", ("t",)) for name in "ab")
    a.connection.execute(f"PRAGMA recursive_triggers = {recursive}")
    a.connection.execute("INSERT INTO t VALUES ('1', 'a', 1), ('2', 'b', 1), ('3', 'c', 1)")
    assert a.connection.execute("SELECT count(*) FROM sync_notes_1").fetchone() == (0,)  # none was in another's way
    a.connection.execute("REPLACE INTO t VALUES ('4', ?, 1)", (taken,))
    a.connection.execute("UPDATE OR REPLACE t SET u = 'b' WHERE id = '3'")
    send(a, b)

    assert [row[0][1] for row in rows(b, "t")] == ["3", "4"]
    assert rows(a, "t") == rows(b, "t")
    assert [operation.kind for operation in a.operations()].count("delete") == 2


@pytest.mark.parametrize("keys", ["natural", "mapped"])
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_the_row_minus_1_is_displaced_by_one_that_is_given_no_key(make: MakeEngine, keys: str, recursive: str) -> None:
    schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, u UNIQUE, x)"
    a, b = (make(name, schema, ("t",), keys) for name in "ab")
    a.connection.execute(f"PRAGMA recursive_triggers = {recursive}")
    a.connection.execute("INSERT INTO t VALUES (-1, 'a', 1)")
    a.connection.execute("REPLACE INTO t (u, x) VALUES ('a', 2)")  # before it, NEW.id is -1
    send(a, b)

    assert [operation.kind for operation in a.operations()].count("delete") == 1
    assert len(rows(b, "t")) == 1
    assert rows(a, "t") == rows(b, "t")
    assert not b.get_unresolved_conflicts()
    a.connection.execute("REPLACE INTO t VALUES (-1, 'b', 1), (-1, 'b', 2)")
    assert a.reconcile() == 0


def test_a_note_outlives_what_an_applications_trigger_does_to_the_same_table_meanwhile(make: MakeEngine) -> None:
    schema = UNIQUE.replace("u,", "u UNIQUE,") + (
        "; CREATE TRIGGER more BEFORE INSERT ON t WHEN NEW.x = 'first' BEGIN INSERT INTO t VALUES (NEW.id || '+', NEW.id, 'second'); END"
    )
    a, b = (make(name, schema, ("t",)) for name in "ab")
    a.connection.execute("INSERT INTO t VALUES ('1', 'a', 0), ('2', 'b', 0)")
    a.connection.execute("REPLACE INTO t VALUES ('3', 'a', 'first')")
    send(a, b)

    assert [row[0][1] for row in rows(a, "t")] == ["2", "3", "3+"]
    assert rows(a, "t") == rows(b, "t")
    assert a.reconcile() == 0


def test_a_note_outlives_another_one_that_an_applications_trigger_makes_meanwhile(make: MakeEngine) -> None:
    schema = UNIQUE.replace("u,", "u UNIQUE,") + (
        "; CREATE TRIGGER more BEFORE INSERT ON t WHEN NEW.x = 'first' BEGIN INSERT INTO t VALUES (NEW.id || '+', 'b', 'second'); END"
    )
    a, b = (make(name, schema, ("t",)) for name in "ab")
    a.connection.execute("INSERT INTO t VALUES ('1', 'a', 0), ('2', 'b', 0)")
    a.connection.execute("REPLACE INTO t VALUES ('3', 'a', 'first')")
    send(a, b)

    assert [row[0][1] for row in rows(a, "t")] == ["3", "3+"]
    assert rows(a, "t") == rows(b, "t")
    assert a.reconcile() == 0


def test_what_a_lost_bundle_carried_is_sent_again_until_the_peer_says_that_it_has_it(make: MakeEngine) -> None:
    a, b = (make(name, UNIQUE, ("t",)) for name in "ab")
    for i in range(3):
        a.connection.execute("INSERT INTO t VALUES (?, ?, 0)", (str(i), i))
        lost = a.generate_bundle(b.device_id, a.path.with_suffix(".lost"))
        assert lost is not None
        lost.unlink()
    send(a, b)

    assert rows(a, "t") == rows(b, "t")
    assert len(rows(b, "t")) == 3
    word = b.generate_bundle(a.device_id, b.path.with_suffix(".bundle"), acknowledge=True)
    assert word is not None
    assert send(a, b) is not None  # b has it, but has not said so
    a.import_bundle(word)
    assert send(a, b) is None


def test_a_row_that_is_born_again_does_not_take_in_late_edits_of_the_old_one(make: MakeEngine) -> None:
    a, b = (make(name, UNIQUE, ("t",)) for name in "ab")
    a.connection.execute("INSERT INTO t VALUES ('1', 'old', 'old')")
    exchange(a, b)
    a.connection.execute("DELETE FROM t")
    a.connection.execute("INSERT INTO t VALUES ('1', 'new', 'new')")
    b.connection.execute("UPDATE t SET x = 'late'")
    exchange(a, b)

    assert rows(a, "t") == rows(b, "t")
    (conflict,) = a.get_unresolved_conflicts()
    images = a.images(conflict)
    whole = [tuple(image.values()) for image in (images.local, images.remote) if image]
    assert sorted(map(repr, whole)) == sorted(map(repr, [("1", "new", "new"), ("1", "old", "late")]))
