"""Constraints that only the union of two devices' writes breaks: what stands, what is parked, and that both agree."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest

from conftest import MakeEngine, exchange, rows, send, tick
from sqlite_sync import (
    Callback,
    Conflict,
    ConflictError,
    ConstraintError,
    LastWriteWins,
    PreferRemote,
    SyncEngine,
    contested,
)

UNIQUE = "CREATE TABLE t (id TEXT PRIMARY KEY, u UNIQUE{}, x)"
FAMILY = (
    "CREATE TABLE parents (id TEXT PRIMARY KEY, name);"
    "CREATE TABLE t (id TEXT PRIMARY KEY, parent REFERENCES parents {})"
)
NAMES = ("t", "parents")


def run(engine: SyncEngine, *statements: str) -> None:
    for statement in statements:
        tick()
        engine.connection.execute(statement)


def kinds(engine: SyncEngine) -> list[tuple[str, str, dict[str, object]]]:
    """List the open conflicts as (kind, table, key)."""
    return [(one.kind, one.table_name, dict(one.row_pk)) for one in engine.get_unresolved_conflicts()]


def both(a: SyncEngine, b: SyncEngine, table: str = "t") -> list[tuple[object, ...]]:
    """Check that two devices hold the same, and return what a table holds."""
    assert rows(a, table) == rows(b, table)
    assert a.get_unresolved_conflicts() == b.get_unresolved_conflicts()
    for engine in (a, b):
        assert engine.connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert engine.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return [tuple(value for _, value in row) for row in rows(a, table)]


# UNIQUE


@pytest.mark.parametrize(
    "clause", ["", " ON CONFLICT REPLACE", " ON CONFLICT IGNORE", " ON CONFLICT FAIL", " ON CONFLICT ROLLBACK"]
)
def test_of_two_rows_that_took_one_value_the_later_stands_and_the_other_waits(make: MakeEngine, clause: str) -> None:
    a, b = (make(name, UNIQUE.format(clause), ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('a', 'same', 1), ('other', 2, 2)")
    run(b, "INSERT INTO t VALUES ('b', 'same', 1)")
    result = send(a, b)

    assert result is not None
    assert (result.applied_count, result.conflict_count) == (1, 1)
    assert [(one.inserted, one.parked) for one in result.changes] == [(2, 1)]
    exchange(a, b)
    assert both(a, b) == [("b", "same", 1), ("other", 2, 2)]
    assert kinds(a) == [("unique", "t", {"id": "a"})]

    run(b, "UPDATE t SET u = 'another' WHERE id = 'b'")
    exchange(a, b)
    assert both(a, b) == [("a", "same", 1), ("b", "another", 1), ("other", 2, 2)]
    assert kinds(a) == []


def test_a_row_that_is_parked_away_from_its_author_is_named(make: MakeEngine) -> None:
    a, b = (make(name, UNIQUE.format(""), ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('a', 'same', 1)")
    run(b, "INSERT INTO t VALUES ('b', 'same', 1)")
    result = send(b, a)

    assert result is not None
    assert [dict(one.row_pk) for one in result.overridden] == [{"id": "a"}]


def test_three_devices_that_took_one_value(make: MakeEngine) -> None:
    """The last one stands, and when it gives way the one before it."""
    a, b, c = (make(name, UNIQUE.format(""), ("t",)) for name in "abc")
    for engine, name in ((a, "a"), (b, "b"), (c, "c")):
        run(engine, f"INSERT INTO t VALUES ('{name}', 'same', 0)")
    exchange(c, a, b)
    assert both(a, b) == both(b, c) == [("c", "same", 0)]
    assert sorted(key["id"] for _, _, key in kinds(a)) == ["a", "b"]

    run(a, "DELETE FROM t")
    exchange(a, b, c)
    assert both(a, b) == both(b, c) == [("b", "same", 0)]
    assert kinds(c) == [("unique", "t", {"id": "a"})]


@pytest.mark.parametrize(
    ("schema", "first", "second"),
    [
        ("CREATE TABLE t (id TEXT PRIMARY KEY, u, x, UNIQUE (u, x))", "1, 2", "1, 2"),
        ("CREATE TABLE t (id TEXT PRIMARY KEY, u TEXT UNIQUE COLLATE NOCASE, x)", "'Ann', 2", "'ANN', 3"),
        ("CREATE TABLE t (id TEXT PRIMARY KEY, u, x); CREATE UNIQUE INDEX i ON t (u + x)", "1, 2", "2, 1"),
        ("CREATE TABLE t (id TEXT PRIMARY KEY, u, x); CREATE UNIQUE INDEX i ON t (u) WHERE x > 0", "1, 2", "1, 1"),
        ("CREATE TABLE t (id TEXT PRIMARY KEY, u, x, g AS (u || x) UNIQUE)", "1, 22", "12, 2"),
        ("CREATE TABLE t (id TEXT PRIMARY KEY, u UNIQUE, x UNIQUE) WITHOUT ROWID", "1, 2", "3, 2"),
    ],
)
def test_every_kind_of_unique_index(make: MakeEngine, schema: str, first: str, second: str) -> None:
    a, b = (make(name, schema, ("t",)) for name in "ab")
    run(a, f"INSERT INTO t (id, u, x) VALUES ('a', {first})")
    run(b, f"INSERT INTO t (id, u, x) VALUES ('b', {second})")
    exchange(a, b)

    assert [row[0] for row in both(a, b)] == ["b"]
    assert kinds(a) == [("unique", "t", {"id": "a"})]


def test_a_row_that_takes_two_values_parks_the_rows_that_had_them(make: MakeEngine) -> None:
    schema = "CREATE TABLE t (id TEXT PRIMARY KEY, u UNIQUE, x UNIQUE)"
    a, b = (make(name, schema, ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('1', 1, 10), ('2', 2, 20)")
    run(b, "INSERT INTO t VALUES ('3', 1, 20)")
    exchange(a, b)
    assert both(a, b) == [("3", 1, 20)]

    run(a, "UPDATE t SET u = 5")
    exchange(a, b)
    assert both(a, b) == [("1", 1, 10), ("3", 5, 20)]


def test_values_exchanged_while_the_other_side_takes_one(make: MakeEngine) -> None:
    a, b = (make(name, UNIQUE.format(""), ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('1', 1, 0), ('2', 2, 0)")
    exchange(a, b)
    run(a, "UPDATE t SET u = -u", "UPDATE t SET u = 3 + u")
    run(b, "INSERT INTO t VALUES ('3', 3, 0)", "UPDATE t SET u = 9 WHERE id = '3'", "INSERT INTO t VALUES ('4', 3, 0)")
    exchange(a, b)

    assert both(a, b) == [("1", 2, 0), ("2", 1, 0), ("3", 9, 0), ("4", 3, 0)]


def test_who_inserts_a_row_under_the_key_of_a_parked_one_supersedes_nothing(make: MakeEngine) -> None:
    """They had no such row in front of them: both stand in an open conflict."""
    a, b = (make(name, UNIQUE.format(""), ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('a', 'same', 1)")
    run(b, "INSERT INTO t VALUES ('b', 'same', 1)")
    exchange(a, b)
    run(a, "INSERT INTO t VALUES ('a', 'unseen', 2)", "UPDATE t SET x = 3 WHERE id = 'a'")
    exchange(a, b)

    assert both(a, b) == [("a", "unseen", 3), ("b", "same", 1)]
    (conflict,) = a.get_unresolved_conflicts()
    assert a.images(conflict).remote == {"id": "a", "u": "same", "x": 1}


def test_who_inserts_a_row_under_the_key_of_a_parked_one_supersedes_nothing_where_it_never_was(
    make: MakeEngine,
) -> None:
    """A third device hears of the insert, and of what had parked the row, at once; all of them knew the row before."""
    schema = "CREATE TABLE t (id TEXT PRIMARY KEY, parent REFERENCES t, x)"
    a, b, c = (make(name, schema, ("t",)) for name in "abc")
    run(a, "INSERT INTO t VALUES ('root', NULL, 0), ('parent', 'root', 0), ('child', 'parent', 0)")
    exchange(a, b, c)
    run(a, "DELETE FROM t WHERE id = 'root'")
    run(b, "UPDATE t SET x = 1 WHERE id = 'parent'")
    exchange(a, b)
    assert both(a, b) == []
    run(b, "INSERT INTO t VALUES ('child', NULL, 2)")
    send(b, a)
    send(b, c)

    assert both(a, b) == both(b, c) == [("child", None, 2)]
    assert kinds(c) == [("foreign_key", "t", {"id": "parent"}), ("insert/insert", "t", {"id": "child"})]


def test_an_edit_of_a_parked_row_by_a_device_that_still_shows_it(make: MakeEngine) -> None:
    a, b, c = (make(name, UNIQUE.format(""), ("t",)) for name in "abc")
    run(a, "INSERT INTO t VALUES ('a', 'same', 1)")
    exchange(a, c)
    run(b, "INSERT INTO t VALUES ('b', 'same', 1)")
    exchange(a, b)
    run(c, "UPDATE t SET x = 5")
    exchange(a, b, c)

    assert both(a, b) == both(b, c) == [("a", "same", 5)]
    assert kinds(a) == [("unique", "t", {"id": "b"})]


def test_what_is_in_the_way_of_its_own_parent_is_still_seen_after_a_reconcile(make: MakeEngine) -> None:
    schema = "CREATE TABLE t (id TEXT PRIMARY KEY, u UNIQUE, parent REFERENCES t)"
    a, b = (make(name, schema, ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('parent', 1, NULL), ('child', 2, 'parent')")
    send(a, b)
    run(b, "UPDATE t SET u = 3 WHERE id = 'parent'")
    run(a, "UPDATE t SET u = 3 WHERE id = 'child'")
    exchange(a, b)
    assert both(a, b) == []  # the child took the value, and hangs on the parent that so waits for it
    assert kinds(a) == [("unique", "t", {"id": "parent"}), ("foreign_key", "t", {"id": "child"})]
    images = [versions for _, versions in a.each_conflict()]
    assert images[0].local == {"id": "child", "u": 3, "parent": "parent"}

    assert a.reconcile() == 0
    assert [versions for _, versions in a.each_conflict()] == images


def test_reconcile_knows_that_a_parked_row_is_in_no_table(make: MakeEngine) -> None:
    a, b = (make(name, UNIQUE.format(""), ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('a', 'same', 1)")
    run(b, "INSERT INTO t VALUES ('b', 'same', 1)")
    exchange(a, b)

    assert [engine.reconcile() for engine in (a, b)] == [0, 0]
    for engine in (a, b):
        engine.disable_sync_for_table("t")
        assert engine.enable_sync_for_table("t") == 0
    exchange(a, b)
    assert both(a, b) == [("b", "same", 1)]
    assert kinds(a) == [("unique", "t", {"id": "a"})]


def test_a_row_that_goes_takes_no_row_along_whose_key_differs_by_the_keys_collation_only(make: MakeEngine) -> None:
    schema = "CREATE TABLE t (id TEXT COLLATE NOCASE, u UNIQUE, PRIMARY KEY (id COLLATE BINARY))"
    a, b = (make(name, schema, ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('A', 1), ('a', 2)")
    run(b, "INSERT INTO t VALUES ('b', 1)")
    exchange(a, b)
    assert both(a, b) == [("a", 2), ("b", 1)]
    assert kinds(a) == [("unique", "t", {"id": "A"})]

    run(b, "DELETE FROM t WHERE id = 'b'")
    exchange(a, b)
    assert both(a, b) == [("A", 1), ("a", 2)]


def test_parked_rows_come_back_with_the_migration_that_takes_the_constraint_away(make: MakeEngine) -> None:
    a, b = (
        make(name, "CREATE TABLE t (id TEXT PRIMARY KEY, u, x); CREATE UNIQUE INDEX i ON t (u)", ("t",))
        for name in "ab"
    )
    run(a, "INSERT INTO t VALUES ('a', 'same', 1)")
    run(b, "INSERT INTO t VALUES ('b', 'same', 2)")
    exchange(a, b)
    with a.migration():
        a.connection.execute("DROP INDEX i")
    b.connection.execute("DROP INDEX i")

    assert kinds(a) == kinds(b) == []
    assert both(a, b) == [("a", "same", 1), ("b", "same", 2)]


def test_a_row_that_a_trigger_refuses_on_import_waits(make: MakeEngine) -> None:
    """The application keeps values apart in a table of its own, which is not synced."""
    schema = (
        "CREATE TABLE t (id TEXT PRIMARY KEY, u UNIQUE, x); CREATE TABLE taken (x UNIQUE);"
        "CREATE TRIGGER take AFTER INSERT ON t BEGIN INSERT INTO taken VALUES (NEW.x); END;"
    )
    a, b = (make(name, schema, ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('a', 1, 'same'), ('fine', 3, 3), ('both', 4, 4)")
    run(b, "INSERT INTO t VALUES ('b', 2, 'same'), ('other', 4, 4)")
    send(a, b)

    assert [row[0][1] for row in rows(b, "t")] == ["b", "fine", "other"]
    assert sorted(kinds(b), key=repr) == [("schema", "t", {"id": "a"}), ("unique", "t", {"id": "both"})]
    send(b, a)
    assert [row[0][1] for row in rows(a, "t")] == ["a", "both", "fine"]
    assert sorted(kinds(a), key=repr) == [("schema", "t", {"id": "b"}), ("schema", "t", {"id": "other"})]
    assert a.connection.execute("PRAGMA recursive_triggers").fetchone() == (0,)


def test_looking_who_is_in_the_way_fires_no_trigger_that_must_rest(make: MakeEngine) -> None:
    refusing = "CREATE TRIGGER no BEFORE DELETE ON t BEGIN SELECT RAISE(ABORT, 'no deletes'); END;"
    a, b = (make(name, f"{UNIQUE.format('')}; {refusing}", ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('a', 'same', 1)")
    run(b, "INSERT INTO t VALUES ('b', 'same', 2)")
    exchange(a, b)
    (conflict,) = a.get_unresolved_conflicts()
    a.resolve(conflict, "remote")
    exchange(a, b)

    assert both(a, b) == [("a", "same", 1)]
    assert a.connection.execute("PRAGMA recursive_triggers").fetchone() == (0,)


# CHECK, NOT NULL, types


@pytest.mark.parametrize("clause", ["", " ON CONFLICT REPLACE", " ON CONFLICT IGNORE"])
def test_a_null_that_only_one_devices_table_refuses_waits_there(make: MakeEngine, clause: str) -> None:
    a = make("a", "CREATE TABLE t (id TEXT PRIMARY KEY, x)", ("t",))
    b = make("b", f"CREATE TABLE t (id TEXT PRIMARY KEY, x NOT NULL{clause})", ("t",))
    run(a, "INSERT INTO t VALUES ('fine', 1), ('bad', NULL)")
    send(a, b)

    assert [row[0] for row in rows(b, "t")] == [("str", "fine")]
    assert kinds(b) == [("not_null", "t", {"id": "bad"})]
    run(a, "UPDATE t SET x = 2 WHERE id = 'bad'")
    send(a, b)
    assert both(a, b) == [("bad", 2), ("fine", 1)]


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ("CREATE TABLE t (id TEXT PRIMARY KEY, x INTEGER CHECK (x < 5))", "check"),
        ("CREATE TABLE t (id TEXT PRIMARY KEY, x INTEGER) STRICT", "schema"),
    ],
)
def test_a_value_that_only_one_devices_table_refuses_waits_there(make: MakeEngine, schema: str, kind: str) -> None:
    a = make("a", "CREATE TABLE t (id TEXT PRIMARY KEY, x INTEGER)", ("t",))
    b = make("b", schema, ("t",))
    run(a, "INSERT INTO t VALUES ('fine', 1), ('bad', 'text')")
    send(a, b)

    assert [row[0] for row in rows(b, "t")] == [("str", "fine")]
    assert kinds(b) == [(kind, "t", {"id": "bad"})]


# FOREIGN KEY


def family(make: MakeEngine, targets: str = "(id)") -> tuple[SyncEngine, SyncEngine]:
    a, b = (make(name, FAMILY.format(targets), NAMES) for name in "ab")
    for engine in (a, b):
        engine.connection.execute("PRAGMA foreign_keys = ON")
    return a, b


@pytest.mark.parametrize("action", ["(id)", "", "(id) ON DELETE CASCADE", "(id) ON DELETE SET NULL"])
def test_a_child_whose_parent_went_waits_until_it_comes_back(make: MakeEngine, action: str) -> None:
    a, b = family(make, action)
    run(a, "INSERT INTO parents VALUES ('p', 1)")
    exchange(a, b)
    run(a, "DELETE FROM parents")
    run(b, "INSERT INTO t VALUES ('c', 'p')")
    exchange(a, b)
    assert both(a, b) == []
    assert kinds(a) == [("foreign_key", "t", {"id": "c"})]

    run(b, "INSERT INTO parents VALUES ('p', 2)")
    exchange(a, b)
    assert both(a, b) == [("c", "p")]
    assert kinds(a) == []


def test_what_hangs_on_a_parked_row_waits_with_it_and_comes_back(make: MakeEngine) -> None:
    schema = (
        "CREATE TABLE parents (id TEXT PRIMARY KEY, name UNIQUE);"
        "CREATE TABLE t (id TEXT PRIMARY KEY, parent REFERENCES parents, other REFERENCES t)"
    )
    a, b = (make(name, schema, NAMES) for name in "ab")
    for engine in (a, b):
        engine.connection.execute("PRAGMA foreign_keys = ON")
    run(a, "INSERT INTO parents VALUES ('pa', 'same')", "INSERT INTO t VALUES ('1', 'pa', NULL), ('2', NULL, '1')")
    run(b, "INSERT INTO parents VALUES ('pb', 'same')", "INSERT INTO t VALUES ('3', 'pb', NULL)")
    exchange(a, b)
    assert both(a, b) == [("3", "pb", None)]
    assert sorted(kinds(a), key=repr) == [
        ("foreign_key", "t", {"id": "1"}),
        ("foreign_key", "t", {"id": "2"}),
        ("unique", "parents", {"id": "pa"}),
    ]

    run(b, "UPDATE parents SET name = 'another'")
    exchange(a, b)
    assert both(a, b) == [("1", "pa", None), ("2", None, "1"), ("3", "pb", None)]
    assert kinds(b) == []


def test_a_circle_of_references_is_parked_and_comes_back_whole(make: MakeEngine) -> None:
    schema = (
        "CREATE TABLE parents (id TEXT PRIMARY KEY, name UNIQUE, first REFERENCES t DEFERRABLE INITIALLY DEFERRED);"
        "CREATE TABLE t (id TEXT PRIMARY KEY, parent REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
    )
    a, b = (make(name, schema, NAMES) for name in "ab")
    for engine, name in ((a, "a"), (b, "b")):
        engine.connection.execute("PRAGMA foreign_keys = ON")
        run(engine, "BEGIN", f"INSERT INTO parents VALUES ('p{name}', 'same', 't{name}')")
        run(engine, f"INSERT INTO t VALUES ('t{name}', 'p{name}')", "COMMIT")
    exchange(a, b)
    assert both(a, b) == [("tb", "pb")]

    run(a, "UPDATE parents SET name = 'another'")
    exchange(a, b)
    assert both(a, b) == [("ta", "pa"), ("tb", "pb")]
    assert kinds(a) == []


def test_an_orphan_that_stands_in_its_authors_own_file_stands_everywhere(make: MakeEngine) -> None:
    """SQLite does not enforce foreign keys unless it is asked to, and many applications never ask."""
    a, b = (make(name, FAMILY.format("(id)"), NAMES) for name in "ab")
    run(a, "INSERT INTO parents VALUES ('p', 1)", "INSERT INTO t VALUES ('c', 'p'), ('d', 'never there')")
    exchange(a, b)
    run(a, "DELETE FROM parents")
    exchange(a, b)
    run(b, "UPDATE t SET parent = 'nowhere' WHERE id = 'c'")
    exchange(a, b)

    assert rows(a, "t") == rows(b, "t")
    assert len(rows(a, "t")) == 2
    assert kinds(a) == kinds(b) == []


def test_a_parent_that_is_not_synced_must_be_there(make: MakeEngine) -> None:
    a, b = (make(name, FAMILY.format("(id)"), ("t",)) for name in "ab")
    run(a, "INSERT INTO parents VALUES ('p', 1)", "INSERT INTO t VALUES ('c', 'p')")
    send(a, b)
    assert rows(b, "t") == []
    assert kinds(b) == [("foreign_key", "t", {"id": "c"})]

    run(b, "INSERT INTO parents VALUES ('p', 1)", "INSERT INTO t VALUES ('d', NULL)")
    exchange(a, b)
    assert both(a, b) == [("c", "p"), ("d", None)]


@pytest.mark.parametrize("is_composite", [False, True])
def test_references_to_columns_that_are_no_key(make: MakeEngine, *, is_composite: bool) -> None:
    target = "(code, kind)" if is_composite else "(code)"
    schema = (
        f"CREATE TABLE parents (id TEXT PRIMARY KEY, code, kind, UNIQUE {target});"
        f"CREATE TABLE t (id TEXT PRIMARY KEY, c, k, FOREIGN KEY {target.replace('code', 'c').replace('kind', 'k')} "
        f"REFERENCES parents {target})"
    )
    a, b = (make(name, schema, NAMES) for name in "ab")
    run(a, "INSERT INTO parents VALUES ('p', 1, 2)")
    exchange(a, b)
    run(a, "UPDATE parents SET code = 7")
    run(b, "INSERT INTO t VALUES ('c', 1, 2)")
    exchange(a, b)
    assert both(a, b) == []

    run(a, "UPDATE parents SET code = 1")
    exchange(a, b)
    assert both(a, b) == [("c", 1, 2)]


@pytest.mark.parametrize("is_parked", [False, True])
@pytest.mark.parametrize("key", ["id TEXT PRIMARY KEY COLLATE NOCASE", "no PRIMARY KEY, id TEXT UNIQUE COLLATE NOCASE"])
def test_a_reference_is_followed_by_the_parents_collation(make: MakeEngine, key: str, *, is_parked: bool) -> None:
    schema = (
        f"CREATE TABLE parents ({key}, u UNIQUE); CREATE TABLE t (id TEXT PRIMARY KEY, p TEXT REFERENCES parents (id))"
    )
    a, b = (make(name, schema, NAMES) for name in "ab")
    for engine in (a, b):
        engine.connection.execute("PRAGMA foreign_keys = ON")
    columns = "(id, u)" if key.startswith("id") else "(no, id, u)"
    value = "'ann', 1" if key.startswith("id") else "1, 'ann', 1"
    run(a, f"INSERT INTO parents {columns} VALUES ({value})")
    if not is_parked:
        exchange(a, b)
        run(a, "DELETE FROM parents")
        run(b, "INSERT INTO t VALUES ('c', 'ANN')")
    else:
        run(a, "INSERT INTO t VALUES ('c', 'ANN')")
        run(b, f"INSERT INTO parents {columns} VALUES ({value.replace('ann', 'bob').replace('1, ', '2, ')})")
    exchange(a, b)

    assert both(a, b) == []
    assert ("foreign_key", "t", {"id": "c"}) in kinds(a)


@pytest.mark.parametrize("is_unique", [False, True])
def test_a_child_goes_on_waiting_while_its_parents_table_is_not_enabled(make: MakeEngine, *, is_unique: bool) -> None:
    a, b = (make(name, FAMILY.format("(id)").replace("name)", "name UNIQUE)"), NAMES) for name in "ab")
    run(a, "INSERT INTO parents VALUES ('p', 1)")
    if is_unique:
        run(a, "INSERT INTO t VALUES ('c', 'p')")
        run(b, "INSERT INTO parents VALUES ('q', 1)")
    else:
        exchange(a, b)
        run(a, "DELETE FROM parents")
        run(b, "INSERT INTO t VALUES ('c', 'p')")
    exchange(a, b)
    a.disable_sync_for_table("parents")
    run(b, "INSERT INTO t VALUES ('d', NULL)")
    exchange(a, b)
    assert both(a, b) == [("d", None)]
    a.enable_sync_for_table("parents")
    assert both(a, b) == [("d", None)]

    run(b, "DELETE FROM parents" if is_unique else "INSERT INTO parents VALUES ('p', 2)")
    exchange(a, b)
    assert both(a, b) == [("c", "p"), ("d", None)]


PARKED = (
    "CREATE TABLE parents (id TEXT PRIMARY KEY, name);"
    "CREATE TABLE t (id TEXT PRIMARY KEY, parent REFERENCES parents {}, u UNIQUE)"
)


def with_parked_child(make: MakeEngine, action: str = "", *, is_enforcing: bool = True) -> tuple[SyncEngine, ...]:
    """Make devices that all have a parent, with a child that is shown and one that is parked."""
    a, b = engines = [make(name, PARKED.format(action), NAMES) for name in "ab"]
    for engine in engines:
        engine.connection.execute(f"PRAGMA foreign_keys = {is_enforcing:d}")
    run(a, "INSERT INTO parents VALUES ('p', 1)")
    exchange(a, b)
    run(b, "INSERT INTO t VALUES ('parked', 'p', 'same')")
    run(a, "INSERT INTO t VALUES ('shown', 'p', 'same')")
    exchange(a, b)
    assert kinds(a) == [("unique", "t", {"id": "parked"})]
    return a, b


@pytest.mark.parametrize("is_enforcing", [False, True])
@pytest.mark.parametrize("action", ["", "ON DELETE CASCADE", "ON DELETE SET NULL"])
def test_a_parked_child_is_no_orphan_after_its_parent_was_deleted_where_it_was_parked(
    make: MakeEngine, action: str, *, is_enforcing: bool
) -> None:
    a, b = with_parked_child(make, action, is_enforcing=is_enforcing)
    run(a, "DELETE FROM t" if action.endswith("CASCADE") else "UPDATE t SET u = 'another', parent = NULL")
    run(a, "DELETE FROM parents")
    exchange(a, b)

    assert ("parked", "p", "same") not in both(a, b)
    assert kinds(a) == [("foreign_key", "t", {"id": "parked"})]
    assert [op.strategy for op in a.operations("parents")][-1] == "unseen children"

    (conflict,) = b.get_unresolved_conflicts()
    b.resolve(conflict, "remote")
    exchange(a, b)
    assert both(a, b, "parents") == [("p", 1)]
    assert ("parked", "p", "same") in both(a, b)


def test_a_delete_is_repeated_once_and_only_where_a_child_may_come_back(make: MakeEngine) -> None:
    a, b = with_parked_child(make, "ON DELETE CASCADE")
    run(a, "INSERT INTO parents VALUES ('q', 2), ('r', 3)")
    run(a, "DELETE FROM parents WHERE id = 'q'", "DELETE FROM parents WHERE id = 'p'", "DELETE FROM parents")
    for _ in range(2):
        a.get_unresolved_conflicts()
    exchange(a, b)

    repeated = [op.row_pk for op in b.operations("parents") if op.kind == "resolve-delete"]
    assert repeated == [{"id": "p"}]


def test_whoever_deletes_a_parent_under_a_child_that_stands_knows_it(make: MakeEngine) -> None:
    """Its foreign keys are not enforced: the parked child comes back as an orphan beside the other one."""
    a, b = with_parked_child(make, is_enforcing=False)
    run(a, "DELETE FROM parents", "UPDATE t SET u = 'another'")
    exchange(a, b)

    assert rows(a, "t") == rows(b, "t")
    assert len(rows(a, "t")) == 2
    assert kinds(a) == kinds(b) == []


def test_a_version_that_was_not_shown_is_no_orphan_after_its_parent_was_deleted(make: MakeEngine) -> None:
    a, b = family(make)
    run(a, "INSERT INTO parents VALUES ('p', 1)", "INSERT INTO t VALUES ('c', NULL)")
    exchange(a, b)
    run(b, "UPDATE t SET parent = 'p'")
    run(a, "UPDATE t SET id = 'C'", "INSERT INTO t VALUES ('c', NULL)")
    exchange(a, b)
    run(a, "DELETE FROM parents", "DELETE FROM t WHERE id = 'c'")
    exchange(a, b)

    assert both(a, b) == [("C", None)]
    assert ("foreign_key", "t", {"id": "c"}) in kinds(a)


def test_a_child_that_waited_for_a_value_waits_on_if_its_parent_went_meanwhile(make: MakeEngine) -> None:
    """The delete is older than all that an import brings, when the value is free at last."""
    a, b = (make(name, PARKED.format(""), NAMES) for name in "ab")
    for engine in (a, b):
        engine.connection.execute("PRAGMA foreign_keys = ON")
    run(a, "INSERT INTO parents VALUES ('p', 1)")
    exchange(a, b)
    run(b, "INSERT INTO t VALUES ('parked', 'p', 'same')")
    run(a, "DELETE FROM parents", "INSERT INTO t VALUES ('shown', NULL, 'same')")
    exchange(a, b)
    assert kinds(b) == [("unique", "t", {"id": "parked"})]
    run(a, "UPDATE t SET u = 'another'")
    exchange(a, b)

    assert both(a, b) == [("shown", None, "another")]
    assert kinds(a) == [("foreign_key", "t", {"id": "parked"})]


def test_a_version_that_is_shown_again_waits_if_its_parent_went_meanwhile(make: MakeEngine) -> None:
    a, b = family(make)
    run(a, "INSERT INTO parents VALUES ('p', 1)", "INSERT INTO t VALUES ('c', NULL)")
    exchange(a, b)
    run(b, "UPDATE t SET parent = 'p'")
    run(a, "DELETE FROM parents", "UPDATE t SET parent = NULL", "UPDATE t SET id = 'd'", "UPDATE t SET id = 'c'")
    exchange(a, b)
    assert both(a, b) == [("c", None)]
    run(b, "DELETE FROM t")
    exchange(a, b)

    assert both(a, b) == []
    assert sorted(kinds(a), key=repr) == [("foreign_key", "t", {"id": "c"}), ("update/delete", "t", {"id": "c"})]


def test_each_delete_of_a_parent_must_have_known_the_child(make: MakeEngine) -> None:
    """Of two deletes the child's author knew the one that is the parent's shown head, and not the other."""
    a, b, c, d = (make(name, FAMILY.format("(id)"), NAMES) for name in "abcd")
    for engine in (a, b, c, d):
        engine.connection.execute("PRAGMA foreign_keys = ON")
    run(b, "INSERT INTO parents VALUES ('p', 1)")
    exchange(a, b, c, d)
    run(b, "UPDATE parents SET name = 2")
    send(b, d)
    run(d, "DELETE FROM parents")
    run(a, "DELETE FROM parents")
    send(a, c)
    send(b, c)
    run(c, "INSERT INTO t VALUES ('c', 'p')")
    exchange(a, b, c, d)

    assert both(a, b) == both(c, d) == []
    assert kinds(a) == [("foreign_key", "t", {"id": "c"})]


def test_capture_goes_on_after_rows_were_parked(make: MakeEngine) -> None:
    """Our triggers and the application's stand as before, on the tables of the bundle and on those of the children."""
    a, b = family(make)
    for engine in (a, b):
        engine.connection.execute("CREATE TABLE seen (id)")
        engine.connection.execute("CREATE TRIGGER see AFTER INSERT ON t BEGIN INSERT INTO seen VALUES (NEW.id); END")
        engine.reconcile()
    run(a, "INSERT INTO parents VALUES ('p', 1)")
    exchange(a, b)
    run(a, "DELETE FROM parents")
    run(b, "INSERT INTO t VALUES ('c', 'p')")
    exchange(a, b)
    run(b, "INSERT INTO t VALUES ('d', NULL)")
    exchange(a, b)

    assert both(a, b) == [("d", None)]
    assert [engine.status().tables[0].problem for engine in (a, b)] == [None, None]


RELATED = (
    "CREATE TABLE parents (id TEXT PRIMARY KEY, name UNIQUE);"
    "CREATE TABLE t (id TEXT PRIMARY KEY, parent REFERENCES parents, x)"
)


def parked_with_children(make: MakeEngine) -> tuple[SyncEngine, SyncEngine]:
    """Make two devices on which a parent is parked, and its child with it."""
    a, b = (make(name, RELATED, NAMES) for name in "ab")
    for engine in (a, b):
        name = engine.path.stem
        run(engine, f"INSERT INTO parents VALUES ('p{name}', 1)", f"INSERT INTO t VALUES ('{name}', 'p{name}', 0)")
    exchange(a, b)
    assert len(kinds(a)) == 2
    return a, b


@pytest.mark.parametrize("verb", ["status", "generate", "import", "conflicts", "reconcile", "disable"])
def test_two_tables_that_change_while_rows_are_parked_are_both_mended(make: MakeEngine, verb: str) -> None:
    a, b = parked_with_children(make)
    bundle = b.generate_bundle(a.device_id, b.path.with_name("y.bundle"), acknowledge=True)
    assert bundle is not None
    for engine in (a, b):
        run(engine, "ALTER TABLE parents ADD COLUMN n", "ALTER TABLE t ADD COLUMN m")
    run(a, "UPDATE parents SET n = 'new'", "INSERT INTO t VALUES ('more', 'pb', 1, 'uncaptured')")
    {
        "status": a.status,
        "generate": lambda: a.generate_bundle(b.device_id, a.path.with_name("x.bundle")),
        "import": lambda: a.import_bundle(bundle),
        "conflicts": a.get_unresolved_conflicts,
        "reconcile": lambda: a.reconcile("parents"),
        "disable": lambda: a.disable_sync_for_table("parents"),
    }[verb]()
    if verb == "disable":
        a.enable_sync_for_table("parents")
    exchange(a, b)

    assert both(a, b, "parents") == [("pb", 1, "new")]
    assert both(a, b) == [("b", "pb", 0, None), ("more", "pb", 1, "uncaptured")]
    assert len(kinds(a)) == 2


@pytest.mark.parametrize("verb", ["enable", "reconcile"])
def test_what_one_verb_mends_hides_no_other_table_that_is_broken(make: MakeEngine, verb: str) -> None:
    a, b = parked_with_children(make)
    a.disable_sync_for_table("parents")
    triggers = a.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 't'")
    for (name,) in triggers.fetchall():
        a.connection.execute(f"DROP TRIGGER {name}")
    run(a, "UPDATE t SET x = 'uncaptured'")
    if verb == "reconcile":
        a.reconcile()
    a.enable_sync_for_table("parents")
    exchange(a, b)

    assert both(a, b) == [("b", "pb", "uncaptured")]


# Resolution


def torn(make: MakeEngine, rule: str = "") -> tuple[SyncEngine, SyncEngine, Conflict]:
    a, b = (make(name, UNIQUE.format("").replace("x)", f"x {rule})"), ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('a', 'same', 1)")
    run(b, "INSERT INTO t VALUES ('b', 'same', 2)")
    exchange(a, b)
    (conflict,) = a.get_unresolved_conflicts()
    return a, b, conflict


def test_the_versions_of_a_parked_row_can_be_seen(make: MakeEngine) -> None:
    a, b, conflict = torn(make)
    for engine in (a, b):
        images = engine.images(conflict)
        assert images.base is None
        assert images.local == {"id": "b", "u": "same", "x": 2}
        assert images.remote == {"id": "a", "u": "same", "x": 1}
        view = engine.connection.execute("SELECT kind, local_id, remote_id FROM sync_conflicts_t").fetchall()
        assert view == [("unique", "b", "a")]
        assert [(one.table_name, one.kind, one.count) for one in engine.status().conflicts] == [("t", "unique", 1)]


@pytest.mark.parametrize(
    ("choice", "left"),
    [
        ("local", [("b", "same", 2)]),
        (None, [("b", "same", 2)]),
        ("remote", [("a", "same", 1)]),
        ({"u": "another"}, [("a", "another", 1), ("b", "same", 2)]),
    ],
)
def test_a_conflict_over_a_unique_value_is_resolved_everywhere(make: MakeEngine, choice: object, left: object) -> None:
    a, b, conflict = torn(make)
    operation = a.resolve(conflict, choice)  # type: ignore[call-overload]

    assert operation.row_pk == {"id": "a"}
    assert kinds(a) == []
    exchange(a, b)
    assert both(a, b) == left
    assert kinds(b) == []


def test_a_resolution_parks_no_other_row(make: MakeEngine) -> None:
    a, b, conflict = torn(make)
    run(a, "INSERT INTO t VALUES ('c', 'taken', 3)")
    before = a.get_vector_clock()

    with pytest.raises(ConstraintError, match=r"leaves no room for t \{'id': 'c'\} \(unique\)"):
        a.resolve(conflict, {"u": "taken"})
    assert a.get_vector_clock() == before
    exchange(a, b)
    assert len(both(a, b)) == 2


def test_a_resolution_that_its_own_table_refuses_says_which_rule(make: MakeEngine) -> None:
    a, _, conflict = torn(make, "NOT NULL CHECK (x < 9)")
    before = a.get_vector_clock()
    for value, rule in ((None, "a NOT NULL constraint"), (9, "a CHECK constraint")):
        with pytest.raises(
            ConstraintError, match=rf"t \{{'id': 'a'\}} cannot be so, since {rule} of its table refuses"
        ):
            a.resolve(conflict, {"u": "free", "x": value})
    assert a.get_vector_clock() == before


def test_null_is_refused_where_a_column_that_cannot_be_null_has_a_default(make: MakeEngine) -> None:
    a, b = (make(name, "CREATE TABLE t (id TEXT PRIMARY KEY, x NOT NULL DEFAULT 7)", ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('a', 1)")
    send(a, b)
    run(a, "UPDATE t SET x = 2")
    run(b, "UPDATE t SET x = 3")
    exchange(a, b)
    (conflict,) = a.get_unresolved_conflicts()
    with pytest.raises(ConstraintError, match="cannot be so, since x cannot be NULL"):
        a.resolve(conflict, {"x": None})
    left = a.resolve_all(Callback(lambda _: {"x": None}))

    assert [one.conflict for one in left.deferred] == a.get_unresolved_conflicts() == [conflict]
    assert both(a, b) == [("a", 3)]


@pytest.mark.parametrize("value", [["a"], 2**63, "\ud800"])
def test_a_value_that_sqlite_cannot_store_is_refused_by_name(make: MakeEngine, value: object) -> None:
    a, _, conflict = torn(make)
    with pytest.raises(ConflictError, match=r"u of t \{'id': 'a'\} cannot be .*: give text, a number"):
        a.resolve(conflict, {"u": value})  # type: ignore[dict-item]


def test_a_dry_run_lists_what_becomes_of_rows_that_constraints_park(make: MakeEngine, tmp_path: Path) -> None:
    """One that arrives and is parked is no change; one that stood and gives way goes; one that comes back comes."""
    a, b = (make(name, "CREATE TABLE t (id TEXT PRIMARY KEY, u UNIQUE)", ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('early', 1), ('stands', 2)")
    exchange(a, b)
    run(a, "INSERT INTO t VALUES ('comes', 3)")
    run(b, "INSERT INTO t VALUES ('later', 3)", "UPDATE t SET u = 4 WHERE id = 'early'")
    path = a.generate_bundle(b.device_id, tmp_path / "a.bundle")
    assert path is not None
    assert b.import_bundle(path, dry_run=True).rows == ()  # 'comes' would be parked

    other = b.generate_bundle(a.device_id, tmp_path / "b.bundle")
    assert other is not None
    listed = {row.row_pk["id"]: row.change for row in a.import_bundle(other, dry_run=True).rows}
    assert listed == {"later": "insert", "early": "update", "comes": "delete"}
    a.import_bundle(other)
    b.import_bundle(path)
    run(b, "DELETE FROM t WHERE id = 'later'")
    back = b.generate_bundle(a.device_id, tmp_path / "back.bundle")
    assert back is not None
    listed = {row.row_pk["id"]: row.change for row in a.import_bundle(back, dry_run=True).rows}
    assert listed == {"later": "delete", "comes": "insert"}


def test_a_strategy_leaves_a_parked_row_to_people(make: MakeEngine) -> None:
    a, _, conflict = torn(make)
    assert a.resolve(conflict, LastWriteWins()) is None
    found = a.resolve_all(LastWriteWins())
    assert found.resolved == ()
    assert "by hand" in found.deferred[0].reason


@pytest.mark.parametrize(
    ("choice", "children", "parents"),
    [("local", [], []), ("remote", [("c", "p")], [("p", 1)]), ({"parent": None}, [("c", None)], [])],
)
def test_a_child_without_its_parent_is_resolved_everywhere(
    make: MakeEngine, choice: object, children: object, parents: object
) -> None:
    a, b = family(make)
    run(a, "INSERT INTO parents VALUES ('p', 1)")
    exchange(a, b)
    run(a, "DELETE FROM parents")
    run(b, "INSERT INTO t VALUES ('c', 'p')")
    exchange(a, b)
    (conflict,) = b.get_unresolved_conflicts()
    b.resolve(conflict, choice)  # type: ignore[call-overload]
    exchange(a, b)

    assert both(a, b) == children
    assert both(a, b, "parents") == parents
    assert kinds(a) == []


@pytest.mark.parametrize("unlinked", ["", "UPDATE t SET parent = 'C' WHERE id = 'C'"])
@pytest.mark.parametrize("targets", ["(id)", "(name)"])
def test_a_parent_does_not_come_back_without_its_own_parents(make: MakeEngine, targets: str, unlinked: str) -> None:
    """Four generations, and one that refers to itself; the eldest are deleted while one more child is written."""
    schema = f"""
    CREATE TABLE elders (id TEXT PRIMARY KEY, name TEXT UNIQUE);
    CREATE TABLE parents (id TEXT PRIMARY KEY, name TEXT UNIQUE, elder REFERENCES elders {targets} ON DELETE CASCADE);
    CREATE TABLE t (id TEXT PRIMARY KEY, name TEXT UNIQUE,
                    elder REFERENCES parents {targets} ON DELETE CASCADE, parent REFERENCES t (id) ON DELETE CASCADE)"""
    a, b = (make(name, schema, ("elders", "parents", "t")) for name in "ab")
    for engine in (a, b):
        engine.connection.execute("PRAGMA foreign_keys = ON")
    run(a, "INSERT INTO elders VALUES ('e', 'e')", "INSERT INTO parents VALUES ('p', 'p', 'e')")
    run(a, "INSERT INTO t VALUES ('C', 'C', 'p', NULL)", "INSERT INTO t VALUES ('c', 'c', 'p', 'C')", unlinked)
    exchange(a, b)
    run(a, "DELETE FROM elders")
    run(b, "INSERT INTO t VALUES ('d', 'd', NULL, 'c')")
    exchange(a, b)
    assert both(a, b) == []
    (conflict,) = b.get_unresolved_conflicts()
    b.resolve(conflict, "remote")
    exchange(a, b)

    parent = "C" if unlinked else None
    assert both(a, b) == [("C", "C", "p", parent), ("c", "c", "p", "C"), ("d", "d", None, "c")]
    assert both(a, b, "parents") == [("p", "p", "e")]
    assert both(a, b, "elders") == [("e", "e")]
    assert kinds(a) == []
    assert a.connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_parent_that_cannot_come_back_whole_stays_away(make: MakeEngine) -> None:
    schema = """
    CREATE TABLE elders (id TEXT PRIMARY KEY, name UNIQUE);
    CREATE TABLE parents (id TEXT PRIMARY KEY, elder REFERENCES elders ON DELETE CASCADE);
    CREATE TABLE t (id TEXT PRIMARY KEY, parent REFERENCES parents)"""
    a, b = (make(name, schema, ("elders", "parents", "t")) for name in "ab")
    for engine in (a, b):
        engine.connection.execute("PRAGMA foreign_keys = ON")
    run(a, "INSERT INTO elders VALUES ('e', 'name')", "INSERT INTO parents VALUES ('p', 'e')")
    exchange(a, b)
    run(b, "INSERT INTO t VALUES ('c', 'p')")
    run(a, "DELETE FROM elders", "INSERT INTO elders VALUES ('f', 'name')")
    exchange(a, b)
    (conflict,) = a.get_unresolved_conflicts()
    before = a.get_vector_clock()

    with pytest.raises(ConstraintError, match="leaves no room for elders"):
        a.resolve(conflict, "remote")
    assert a.get_vector_clock() == before
    assert both(a, b, "parents") == []


def test_a_row_that_others_hang_on_does_not_go_by_a_resolution(make: MakeEngine) -> None:
    schema = FAMILY.format("(id)").replace("name)", "name UNIQUE)")
    a, b = (make(name, schema, NAMES) for name in "ab")
    for engine in (a, b):
        name = engine.path.stem
        run(engine, f"INSERT INTO parents VALUES ('p{name}', 'same')", f"INSERT INTO t VALUES ('{name}', 'p{name}')")
    exchange(a, b)
    (unique,) = (one for one in a.get_unresolved_conflicts() if one.kind == "unique")

    with pytest.raises(ConstraintError, match=r"leaves no room for t \{'id': 'b'\} \(foreign_key\)"):
        a.resolve(unique, "remote")
    a.resolve(unique, {"name": "another"})
    exchange(a, b)
    assert both(a, b) == [("a", "pa"), ("b", "pb")]
    assert kinds(b) == []


@pytest.mark.parametrize("choice", ["remote", {"parent": "p"}, PreferRemote()])
def test_a_resolution_leaves_no_child_without_its_parent(make: MakeEngine, choice: object) -> None:
    a, b = family(make)
    run(a, "INSERT INTO parents VALUES ('p', 1), ('q', 2)", "INSERT INTO t VALUES ('c', NULL)")
    exchange(a, b)
    run(b, "UPDATE t SET parent = 'p'")
    run(a, "UPDATE t SET parent = 'q'")
    exchange(a, b)
    run(a, "DELETE FROM parents WHERE id = 'p'")
    (conflict,) = a.get_unresolved_conflicts()
    before = a.get_vector_clock()

    with pytest.raises(ConstraintError, match=r"t \{'id': 'c'\} .* parents"):
        a.resolve(conflict, choice)  # type: ignore[call-overload]
    assert a.get_vector_clock() == before
    assert a.resolve_all(PreferRemote()).resolved == ()
    exchange(a, b)
    assert both(a, b) == [("c", "q")]


@pytest.mark.parametrize("choice", [None, {"code": "y"}, "remote", PreferRemote()])
def test_a_resolution_takes_no_value_away_that_others_refer_to(make: MakeEngine, choice: object) -> None:
    schema = """
        CREATE TABLE parents (id TEXT PRIMARY KEY, code UNIQUE, name);
        CREATE TABLE t (id TEXT PRIMARY KEY, code REFERENCES parents (code));
    """
    a, b = (make(name, schema, NAMES) for name in "ab")
    for engine in (a, b):
        engine.connection.execute("PRAGMA foreign_keys = ON")
    run(a, "INSERT INTO parents VALUES ('p', 'x', 1)")
    exchange(a, b)
    run(b, "UPDATE parents SET code = 'z', name = 2")
    run(a, "UPDATE parents SET name = 3", "INSERT INTO t VALUES ('c', 'x')")
    exchange(a, b)
    (conflict,) = a.get_unresolved_conflicts()
    before = a.get_vector_clock()

    with pytest.raises(ConstraintError, match="takes away the row of parents that t"):
        a.resolve(conflict, choice)  # type: ignore[call-overload]
    assert a.get_vector_clock() == before
    if choice is not None:
        assert a.resolve_all(PreferRemote()).resolved == ()
    a.resolve(conflict, "local")
    exchange(a, b)
    assert both(a, b) == [("c", "x")]


def test_what_a_table_refuses_needs_other_values(make: MakeEngine) -> None:
    a = make("a", "CREATE TABLE t (id TEXT PRIMARY KEY, x)", ("t",))
    b = make("b", "CREATE TABLE t (id TEXT PRIMARY KEY, x CHECK (x < 5))", ("t",))
    run(a, "INSERT INTO t VALUES ('bad', 7)")
    send(a, b)
    (conflict,) = b.get_unresolved_conflicts()

    with pytest.raises(ConflictError, match="its table refuses it"):
        b.resolve(conflict, "remote")
    b.resolve(conflict, {"x": 4})
    exchange(a, b)
    assert both(a, b) == [("bad", 4)]


def test_rows_that_take_their_whole_history_are_judged_in_bulk(
    make: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a row holds in a column that only the other device has, only the log tells."""
    monkeypatch.setattr("sqlite_sync.contested._BATCH_ROWS", 3)
    monkeypatch.setattr("sqlite_sync.contested._MOST_WAITING", 4)
    read, passes = contested._Judge._histories, list[int]()
    monkeypatch.setattr(contested._Judge, "_histories", lambda self, n: passes.append(len(n)) or read(self, n))
    a = make("a", "CREATE TABLE t (id TEXT PRIMARY KEY, x, y)", ("t",))
    b = make("b", "CREATE TABLE t (id TEXT PRIMARY KEY, x)", ("t",))
    for key in range(19):
        a.connection.execute("INSERT INTO t VALUES (?, 0, 'kept')", (f"{key:02}",))
    exchange(a, b)
    for engine, value in ((a, 1), (b, 2)):
        tick()
        engine.connection.execute("UPDATE t SET x = ? WHERE id % 2 = 0 OR id > '12'", (value,))
        engine.connection.execute("UPDATE t SET x = 7 WHERE id = '03'")
    passes.clear()
    send(a, b)
    assert sum(passes) == 13 + 1
    assert [one for one in passes if one] == [4, 4, 4, 2]
    exchange(a, b)
    assert [one.row_pk["id"] for one in a.get_unresolved_conflicts()] == [
        one.row_pk["id"] for one in b.get_unresolved_conflicts()
    ]
    assert len(kinds(a)) == 13
    assert rows(b, "t") == [(key, x) for key, x, _ in rows(a, "t")]


# What only the log has


@pytest.mark.parametrize("is_written_by", ["a", "b"])
def test_uninstall_names_parked_rows_before_their_values_are_lost(make: MakeEngine, is_written_by: str) -> None:
    engine = dict(zip("ab", torn(make)[:2], strict=True))[is_written_by]
    with pytest.raises(ConflictError, match=r"would be lost with the log: t \{'id': 'a'\} \(unique\)\. Resolve"):
        engine.uninstall()
    assert len(kinds(engine)) == 1

    engine.uninstall(discard_parked=True)
    assert rows(engine, "t") == [(("str", "b"), ("str", "same"), ("int", 2))]
    assert engine.connection.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'sync%'").fetchall() == []


# The examples of SPEC.md, section 4.6


def op_ids(engine: SyncEngine) -> dict[object, bytes]:
    """Return the last operation of each row, by key."""
    return {one.row_pk["id"]: one.op_id for one in engine.operations()}


def pairs(engine: SyncEngine) -> set[tuple[str, bytes, bytes, bytes]]:
    found = engine.get_unresolved_conflicts()
    return {(one.kind, one.local_op_id, one.remote_op_id, one.conflict_id) for one in found}


def parked_pair(kind: str, local: bytes, remote: bytes) -> tuple[str, bytes, bytes, bytes]:
    return kind, local, remote, sha256(b"parked" + local + remote).digest()[:16]


def test_the_example_of_three_rows_with_one_address(make: MakeEngine) -> None:
    a, b, c = (make(name, "CREATE TABLE t (id INTEGER PRIMARY KEY, mail UNIQUE)", ("t",), "natural") for name in "abc")
    for number, engine in enumerate((a, b, c), 1):
        run(engine, f"INSERT INTO t VALUES ({number}, 'same')")
    exchange(a, b, c)
    ops = op_ids(a)
    assert both(a, b) == both(b, c) == [(3, "same")]
    assert pairs(a) == {parked_pair("unique", ops[3], ops[1]), parked_pair("unique", ops[3], ops[2])}

    run(b, "UPDATE t SET mail = 'another'")
    exchange(a, b, c)
    assert both(a, b) == both(b, c) == [(2, "same"), (3, "another")]
    assert pairs(c) == {parked_pair("unique", ops[2], ops[1])}


def test_the_example_of_a_parent_that_went(make: MakeEngine) -> None:
    a, b = family(make)
    run(a, "INSERT INTO parents VALUES ('p', 1)")
    exchange(a, b)
    run(a, "DELETE FROM parents")
    run(b, "INSERT INTO t VALUES ('c', 'p')")
    exchange(a, b)
    ops = op_ids(a)
    assert both(a, b) == []
    assert pairs(a) == pairs(b) == {parked_pair("foreign_key", ops["p"], ops["c"])}

    run(a, "INSERT INTO parents VALUES ('p', 1)")
    exchange(a, b)
    assert both(a, b) == [("c", "p")]
    assert pairs(a) == set()


def test_the_example_of_a_parent_that_went_while_its_child_was_parked(make: MakeEngine) -> None:
    a, b = with_parked_child(make, "ON DELETE CASCADE")
    run(a, "DELETE FROM parents")
    exchange(a, b)
    ops = op_ids(a)
    assert [op.kind for op in a.operations("parents")] == ["insert", "delete", "resolve-delete"]
    assert both(a, b) == []
    assert pairs(a) == pairs(b) == {parked_pair("foreign_key", ops["p"], ops["parked"])}

    run(b, "INSERT INTO parents VALUES ('p', 1)")
    exchange(a, b)
    assert both(a, b) == [("parked", "p", "same")]
    assert pairs(a) == set()
