"""The story of a row."""

from __future__ import annotations

import pytest

from conftest import MakeEngine, exchange, tick
from sqlite_sync import Explanation, LastWriteWins, SyncEngine, TableError


def run(engine: SyncEngine, *statements: str) -> None:
    for statement in statements:
        tick()
        engine.connection.execute(statement)


def told(story: Explanation) -> list[tuple[str, list[str], int, int]]:
    """Give each event as (kind, kinds of what it superseded, conflicts opened, conflicts closed)."""
    kinds = {event.operation.op_id: event.operation.kind for event in story.events}
    return [
        (event.operation.kind, [kinds[one] for one in event.superseded], len(event.opened), len(event.closed))
        for event in story.events
    ]


def test_a_story_names_what_was_superseded_and_which_conflicts_came_and_went(make: MakeEngine) -> None:
    a, b = make("a"), make("b")
    run(a, "INSERT INTO todos VALUES ('x', 'first', 0)", "INSERT INTO todos VALUES ('y', 'another', 0)")
    exchange(a, b)
    run(a, "UPDATE todos SET title = 'a' WHERE id = 'x'")
    run(b, "UPDATE todos SET title = 'b' WHERE id = 'x'")
    exchange(a, b)
    run(b, "UPDATE todos SET done = 1 WHERE id = 'x'")
    exchange(a, b)
    (conflict,) = a.get_unresolved_conflicts()
    before = a.explain("todos", "x")

    assert told(before) == [
        ("insert", [], 0, 0),
        ("update", ["insert"], 0, 0),
        ("update", [], 1, 0),
        ("update", ["update"], 1, 1),
    ]
    assert before.open_conflicts == (conflict,)
    assert before.events[-1].opened == (conflict.conflict_id,)
    assert before.events[-1].image == {"id": "x", "title": "b", "done": 1}
    assert [event.is_head for event in before.events] == [False, True, False, True]
    tick()
    a.resolve_all(LastWriteWins())
    exchange(a, b)
    story = b.explain("todos", {"ID": "x"})
    assert story == a.explain("todos", "x")
    assert told(story)[-1] == ("resolve", ["update", "update"], 0, 1)
    assert story.events[-1].operation.strategy == "LastWriteWins"
    assert story.open_conflicts == ()


def test_the_story_of_a_parked_row_says_so(make: MakeEngine) -> None:
    a, b = (make(name, "CREATE TABLE t (id TEXT PRIMARY KEY, u UNIQUE)", ("t",)) for name in "ab")
    run(a, "INSERT INTO t VALUES ('a', 1)")
    run(b, "INSERT INTO t VALUES ('b', 1)")
    exchange(a, b)
    assert a.explain("t", "a").is_parked
    assert not a.explain("t", "b").is_parked


def test_the_story_of_a_row_names_those_that_it_keeps_out(make: MakeEngine) -> None:
    schema = "CREATE TABLE t (id TEXT PRIMARY KEY, u UNIQUE); CREATE TABLE c (id TEXT PRIMARY KEY, t REFERENCES t)"
    a, b = (make(name, schema, ("t", "c")) for name in "ab")
    run(a, "INSERT INTO t VALUES ('a', 1)", "INSERT INTO c VALUES ('x', 'a')")
    run(b, "INSERT INTO t VALUES ('b', 1)")
    exchange(a, b)
    child, parent = a.get_unresolved_conflicts()
    assert a.explain("t", "b").keeps_out == (parent,)
    assert a.explain("t", "a").keeps_out == (child,)
    assert a.explain("c", "x").keeps_out == ()
    a.resolve(parent, {"u": 2})
    assert a.explain("t", "a").keeps_out == a.explain("t", "b").keeps_out == ()


def test_a_wrong_table_or_key_is_an_error_that_says_what_to_give(make: MakeEngine) -> None:
    engine = make("a", "CREATE TABLE t (a INTEGER, b TEXT, x, PRIMARY KEY (a, b))", ("t",))
    run(engine, "INSERT INTO t VALUES (1, 'x', 2)")
    assert len(engine.explain("t", {"a": 1, "b": "x"}).events) == 1
    with pytest.raises(TableError, match="knows no row"):
        engine.explain("t", {"a": 1, "b": "y"})
    with pytest.raises(TableError, match="the key of t is a, b"):
        engine.explain("t", 1)
    for wrong in ({1: 2}, {"a": 1, "b": object()}, {"a": 2**70, "b": "x"}, {"a": 1, "b": "\ud800"}):
        with pytest.raises(TableError, match="key of t"):
            engine.explain("t", wrong)  # type: ignore[arg-type]
    with pytest.raises(TableError, match="is no table"):
        engine.explain("nothing", 1)
