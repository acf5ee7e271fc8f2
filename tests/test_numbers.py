"""Mapped tables: integer keys that every file counts for itself (SPEC.md, section 4.7)."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from tests.conftest import MakeEngine, exchange, send

from sqlite_sync import (
    Adoption,
    BundleError,
    ConflictError,
    ConstraintError,
    SchemaError,
    SyncEngine,
    TableError,
    births,
    inspect_bundle,
)

SHOP = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, friend INTEGER REFERENCES customers);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id) ON DELETE CASCADE);
CREATE TABLE lines (order_id INTEGER REFERENCES orders (id) ON DELETE CASCADE, place INTEGER, title TEXT,
                    PRIMARY KEY (order_id, place)) WITHOUT ROWID;
CREATE TABLE notes (order_id INTEGER PRIMARY KEY REFERENCES orders (id) ON DELETE CASCADE, text TEXT);
CREATE TABLE tags (id INTEGER PRIMARY KEY AUTOINCREMENT, customer_id INTEGER, tag TEXT);
"""
SHOP_TABLES = ("customers", "orders", "lines", "notes", "tags")
NUMBERS = {  # which columns number rows of which table
    "customers": {"id": "customers", "friend": "customers"},
    "orders": {"id": "orders", "customer_id": "customers"},
    "lines": {"order_id": "orders"},
    "notes": {"order_id": "orders"},
    "tags": {"id": "tags", "customer_id": "customers"},
}
TODOS = "CREATE TABLE todos (id INTEGER PRIMARY KEY, title TEXT NOT NULL, done INTEGER DEFAULT 0)"
Named = list[tuple[object, ...]]


@pytest.fixture
def mapped(make: MakeEngine) -> MakeEngine:
    """Make engines whose tables are mapped where they can be."""

    def make_mapped(name: str, schema: str = TODOS, tables: tuple[str, ...] = ("todos",)) -> SyncEngine:
        engine = make(name, schema, ())
        for table in tables:
            engine.enable_sync_for_table(table, keys="mapped")
        return engine

    return make_mapped


def shop(mapped: MakeEngine, name: str) -> SyncEngine:
    engine = mapped(name, SHOP, ())
    engine.connection.execute("PRAGMA foreign_keys = ON")
    for table in SHOP_TABLES:
        keys = "natural" if table in ("lines", "notes") else "mapped"
        engine.enable_sync_for_table(table, keys=keys, references={"tags.customer_id": "customers"})
    return engine


def named(engine: SyncEngine, table: str, numbers: dict[str, str]) -> Named:
    """Return a table's content with every number written as the birth that it stands for."""
    cursor = engine.connection.execute(f"SELECT * FROM {table}")
    columns = [column for column, *_ in cursor.description]
    return sorted(
        (
            tuple(
                engine.birth_of(numbers[column], value) if column in numbers and isinstance(value, int) else value
                for column, value in zip(columns, row, strict=True)
            )
            for row in cursor.fetchall()
        ),
        key=repr,
    )


def content(engine: SyncEngine) -> dict[str, Named]:
    return {table: named(engine, table, NUMBERS[table]) for table in SHOP_TABLES}


def titles(engine: SyncEngine) -> list[tuple[int, str]]:
    return engine.connection.execute("SELECT id, title FROM todos ORDER BY id").fetchall()


def add(engine: SyncEngine, *added: str) -> None:
    engine.connection.executemany("INSERT INTO todos (title) VALUES (?)", [(title,) for title in added])


def test_two_devices_add_the_next_row(mapped: MakeEngine) -> None:
    a, b = mapped("a", TODOS), mapped("b", TODOS)
    add(a, "milk")
    add(b, "bread", "jam")
    exchange(a, b)
    assert titles(a) == [(1, "milk"), (2, "jam"), (3, "bread")]
    assert titles(b) == [(1, "bread"), (2, "jam"), (3, "milk")]
    assert not a.get_unresolved_conflicts()
    assert not b.get_unresolved_conflicts()
    assert a.birth_of("todos", 3) == (b.device_id, 1)
    assert a.number_of("todos", b.device_id, 1) == 3


def test_the_number_of_a_deleted_row_is_taken_again_on_both_devices(mapped: MakeEngine) -> None:
    """The example of SPEC.md, section 4.7."""
    a, b = mapped("a", TODOS), mapped("b", TODOS)
    add(a, "on a")
    add(b, "on b")
    exchange(a, b)
    for engine in (a, b):
        engine.connection.execute("DELETE FROM todos WHERE id = 2")
        add(engine, f"new on {engine.path.stem}")
    exchange(a, b)
    numbers = {"id": "todos"}
    assert {title for _, title in titles(a)} == {"new on a", "new on b"}
    assert named(a, "todos", numbers) == named(b, "todos", numbers)
    assert a.birth_of("todos", 2) == (a.device_id, -(2**62) - 1)
    assert not a.get_unresolved_conflicts()
    assert not b.get_unresolved_conflicts()


def test_a_deleted_row_that_another_device_edits_comes_back_beside_the_one_that_took_its_number(
    mapped: MakeEngine,
) -> None:
    a, b = mapped("a", TODOS), mapped("b", TODOS)
    add(a, "one", "two")
    exchange(a, b)
    a.connection.execute("DELETE FROM todos WHERE id = 2")
    add(a, "another")
    b.connection.execute("UPDATE todos SET title = 'two, edited' WHERE id = 2")
    exchange(a, b)
    assert {title for _, title in titles(a)} == {"one", "another", "two, edited"}
    assert named(a, "todos", {"id": "todos"}) == named(b, "todos", {"id": "todos"})
    assert [conflict.kind for conflict in a.get_unresolved_conflicts()] == ["update/delete"]


@pytest.mark.parametrize("counting", ["", "AUTOINCREMENT"])
def test_the_number_of_a_row_that_was_gone_before_it_arrived_is_no_row_of_both(
    mapped: MakeEngine, counting: str
) -> None:
    schema = f"CREATE TABLE todos (id INTEGER PRIMARY KEY {counting}, title TEXT)"
    a, b, c = (mapped(name, schema) for name in "abc")
    add(a, "one", "two", "three")
    a.connection.execute("DELETE FROM todos WHERE id > 1")
    exchange(a, b, c)
    for engine in (b, c):
        add(engine, f"on {engine.path.stem}")
    exchange(a, b, c)
    for engine in (a, b, c):
        assert {title for _, title in titles(engine)} == {"one", "on b", "on c"}
        assert engine.get_unresolved_conflicts() == []


def test_a_row_that_is_put_back_is_the_same_row(mapped: MakeEngine) -> None:
    a, b = mapped("a", TODOS), mapped("b", TODOS)
    add(a, "one", "two", "three")
    exchange(a, b)
    a.connection.execute("DELETE FROM todos WHERE id = 2")
    send(a, b)
    a.connection.execute("INSERT INTO todos VALUES (2, 'two, back', 0)")
    exchange(a, b)
    assert titles(b) == [(1, "one"), (2, "two, back"), (3, "three")]


def test_numbers_of_a_copied_file_are_recognised_and_those_of_its_former_id_stay(
    mapped: MakeEngine, tmp_path: Path
) -> None:
    a = mapped("a", TODOS)
    add(a, "one", "two")
    a.connection.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    with SyncEngine(tmp_path / "copy.db") as copy:
        copy.initialize()
        copy.renew_device()
        add(a, "three on a")
        add(copy, "three on the copy")
        exchange(a, copy)
        assert {title for _, title in titles(a)} == {"one", "two", "three on a", "three on the copy"}
        assert named(a, "todos", {"id": "todos"}) == named(copy, "todos", {"id": "todos"})
        assert not a.get_unresolved_conflicts()


def test_copies_of_one_file_have_the_same_rows_and_other_files_other_ones(mapped: MakeEngine) -> None:
    filled = f"{TODOS}; INSERT INTO todos (id, title) VALUES (1, 'one'), (5, 'five')"
    a, b, c = mapped("a", filled), mapped("b", filled), mapped("c", TODOS)
    exchange(a, b, c)
    assert titles(a) == titles(b) == titles(c) == [(1, "one"), (5, "five")]
    d = mapped("d", f"{TODOS}; INSERT INTO todos (id, title) VALUES (1, 'another')")
    d.adopt({"todos": "distinct"})
    exchange(a, d)
    assert len(titles(a)) == len(titles(d)) == 3


def test_rows_that_came_before_their_table_was_enabled_give_way(mapped: MakeEngine) -> None:
    a, b = mapped("a", TODOS), mapped("b", TODOS, ())
    add(a, "on a", "on a too")
    b.connection.execute("INSERT INTO todos (title) VALUES ('on b')")
    send(a, b)
    b.connection.execute("INSERT INTO todos (title) VALUES ('on b too')")
    b.enable_sync_for_table("todos", keys="mapped")
    exchange(a, b)
    assert titles(b)[:2] == [(1, "on b"), (2, "on b too")]
    assert titles(a)[:2] == [(1, "on a"), (2, "on a too")]
    assert named(a, "todos", {"id": "todos"}) == named(b, "todos", {"id": "todos"})


def test_the_same_when_the_table_was_disabled_for_a_while(mapped: MakeEngine) -> None:
    a, b = mapped("a", TODOS), mapped("b", TODOS)
    add(a, "first")
    exchange(a, b)
    b.disable_sync_for_table("todos")
    add(a, "on a")
    add(b, "on b")
    send(a, b)
    b.enable_sync_for_table("todos")
    exchange(a, b)
    assert {title for _, title in titles(b)} == {"first", "on a", "on b"}
    assert named(a, "todos", {"id": "todos"}) == named(b, "todos", {"id": "todos"})


def test_values_that_no_counter_gave_stand_for_themselves(mapped: MakeEngine) -> None:
    schema = f"{TODOS}; CREATE TABLE comments (id INTEGER PRIMARY KEY, todo_id REFERENCES todos (id))"
    a, b = mapped("a", schema, ("todos", "comments")), mapped("b", schema, ("todos", "comments"))
    add(b, "in the way")
    a.connection.execute("INSERT INTO todos (id, title) VALUES (-1, 'nobody'), (0, 'zero')")
    a.connection.executemany(
        "INSERT INTO comments (todo_id) VALUES (?)", [(-1,), (0,), (None,), ("none",), (99,), (1.5,)]
    )
    exchange(a, b)
    found = [value for (value,) in b.connection.execute("SELECT todo_id FROM comments ORDER BY id")]
    assert found[:4] == [-1, 0, None, "none"]
    assert found[5] == 1.5
    assert b.birth_of("todos", found[4]) == (a.device_id, 99)
    assert b.birth_of("todos", -1) == (None, -1)


def test_a_reference_finds_its_row_when_it_comes_later(mapped: MakeEngine) -> None:
    schema = f"{TODOS}; CREATE TABLE comments (id INTEGER PRIMARY KEY, todo_id REFERENCES todos (id))"
    a, b = mapped("a", schema, ("todos", "comments")), mapped("b", schema, ("todos", "comments"))
    a.connection.execute("INSERT INTO comments (todo_id) VALUES (1)")
    send(a, b)
    add(a, "at last")
    send(a, b)
    joined = "SELECT title FROM comments JOIN todos ON todos.id = todo_id"
    assert b.connection.execute(joined).fetchall() == [("at last",)]


def test_a_number_kept_free_for_another_row_is_a_new_row_here(mapped: MakeEngine) -> None:
    a, b = mapped("a", TODOS), mapped("b", TODOS)
    a.connection.execute("INSERT INTO todos (id, title) VALUES (1, 'one'), (9, 'nine')")
    send(a, b)
    b.connection.execute("INSERT INTO todos (id, title) VALUES (5, 'five on b')")
    a.connection.execute("INSERT INTO todos (id, title) VALUES (5, 'five on a')")
    exchange(a, b)
    assert {title for _, title in titles(a)} == {"one", "nine", "five on a", "five on b"}
    assert named(a, "todos", {"id": "todos"}) == named(b, "todos", {"id": "todos"})


def test_numbers_near_the_end_of_the_integers(mapped: MakeEngine) -> None:
    a, b = mapped("a", TODOS), mapped("b", TODOS)
    a.connection.execute("INSERT INTO todos (id, title) VALUES (9223372036854775807, 'last')")
    add(b, "first")
    exchange(a, b)
    add(b, "next")
    assert titles(b) == [(1, "first"), (2, "last"), (3, "next")]


def test_natural_keys_on_request(mapped: MakeEngine) -> None:
    a, b = mapped("a", TODOS, ()), mapped("b", TODOS, ())
    for engine in (a, b):
        engine.enable_sync_for_table("todos", keys="natural")
        add(engine, engine.path.stem)
    exchange(a, b)
    assert titles(a) == titles(b) == [(1, "b")]
    assert [conflict.kind for conflict in a.get_unresolved_conflicts()] == ["insert/insert"]
    with pytest.raises(TableError, match="no mapped table"):
        a.birth_of("todos", 1)


def test_devices_that_differ_are_told_so_and_nothing_changes(mapped: MakeEngine) -> None:
    a, b = mapped("a", TODOS), mapped("b", TODOS, ())
    b.enable_sync_for_table("todos", keys="natural")
    add(a, "one")
    with pytest.raises(SchemaError, match="Enable todos in the same way on both devices"):
        send(a, b)
    assert titles(b) == []
    c = mapped("c", TODOS, ())
    send(a, c)
    with pytest.raises(SchemaError, match="todos has mapped keys"):
        c.enable_sync_for_table("todos", keys="natural")
    c.enable_sync_for_table("todos")
    assert titles(c) == [(1, "one")]


def test_wishes_that_cannot_be(mapped: MakeEngine) -> None:
    a = mapped("a", f"{TODOS}; CREATE TABLE words (word TEXT PRIMARY KEY)", ())
    with pytest.raises(TableError, match="no INTEGER PRIMARY KEY"):
        a.enable_sync_for_table("words", keys="mapped")
    with pytest.raises(TableError, match="neither 'mapped' nor 'natural'"):
        a.enable_sync_for_table("todos", keys="other")
    with pytest.raises(TableError, match="no column nope"):
        a.enable_sync_for_table("todos", references={"todos.nope": "todos"})


COMMENTS = f"{TODOS}; CREATE TABLE comments (id INTEGER PRIMARY KEY, todo_id INTEGER)"


@pytest.mark.parametrize(
    ("references", "why"),
    [
        ({"comments.todo_id": "todo"}, "there is no table 'todo'"),
        ({"comments.todo_id": "todos.id"}, "there is no table 'todos.id'"),
        ({"comment.todo_id": "todos"}, "there is no table 'comment'"),
        ({"comments": "todos"}, "no column comments"),
        ({"comments.todo_id": 7}, "must say which column refers to which table"),
        (["comments.todo_id"], "must say which column refers to which table"),
        ("comments.todo_id", "must say which column refers to which table"),
    ],
)
def test_a_reference_that_would_not_be_translated_is_refused(mapped: MakeEngine, references: object, why: str) -> None:
    a = mapped("a", COMMENTS)
    for again in (False, True):  # for a table that is synced already, too
        with pytest.raises(TableError, match=why):
            a.enable_sync_for_table("comments", references=references)  # type: ignore[arg-type]
        if not again:
            assert not a.is_sync_enabled("comments")
            a.enable_sync_for_table("comments")


def test_a_reference_to_a_table_that_is_not_synced_yet_is_refused(mapped: MakeEngine) -> None:
    references = {"comments.todo_id": "todos"}
    a, b = mapped("a", COMMENTS, ()), mapped("b", COMMENTS, ())
    with pytest.raises(TableError, match="enable todos before comments"):
        a.enable_sync_for_table("comments", references=references)
    for engine in (a, b):
        for table in ("todos", "comments"):
            engine.enable_sync_for_table(table, references=references)
        add(engine, engine.path.stem)
        engine.connection.execute("INSERT INTO comments (todo_id) SELECT max(id) FROM todos")
    exchange(a, b)
    joined = "SELECT title FROM comments JOIN todos ON todos.id = todo_id ORDER BY title"
    assert a.connection.execute(joined).fetchall() == b.connection.execute(joined).fetchall() == [("a",), ("b",)]


def test_children_that_were_enabled_first_are_mapped_too(mapped: MakeEngine) -> None:
    schema = f"{TODOS}; CREATE TABLE comments (id INTEGER PRIMARY KEY, todo_id REFERENCES todos (id))"
    a, b = mapped("a", schema, ("comments", "todos")), mapped("b", schema, ("comments", "todos"))
    for engine in (a, b):
        add(engine, engine.path.stem)
        engine.connection.execute("INSERT INTO comments (todo_id) SELECT max(id) FROM todos")
    exchange(a, b)
    joined = "SELECT title FROM comments JOIN todos ON todos.id = todo_id ORDER BY title"
    assert a.connection.execute(joined).fetchall() == b.connection.execute(joined).fetchall() == [("a",), ("b",)]


ORDERS = "CREATE TABLE orders (id INTEGER PRIMARY KEY, title); "
LINES = {
    "natural": "CREATE TABLE lines (order_id REFERENCES orders, sku, n, PRIMARY KEY (order_id, sku))",
    "mapped": "CREATE TABLE lines (id INTEGER PRIMARY KEY, order_id INTEGER REFERENCES orders, sku, n)",
    "text": "CREATE TABLE lines (sku TEXT PRIMARY KEY, order_id INTEGER REFERENCES orders, n)",
}
JOINED = "SELECT title, sku, n FROM lines JOIN orders ON orders.id = order_id ORDER BY title"


@pytest.mark.parametrize("are_both_enabled", [False, True])
@pytest.mark.parametrize("child", LINES)
def test_equal_numbers_of_unlike_rows_are_no_common_baseline(
    mapped: MakeEngine, child: str, *, are_both_enabled: bool
) -> None:
    """Both files have a line (1, 'pen', 3), of an order 1 that is another one in each."""
    a, b = mapped("a", ORDERS + LINES[child], ()), mapped("b", ORDERS + LINES[child], ())
    for engine in (a, b):
        engine.connection.execute("INSERT INTO orders VALUES (1, ?)", (engine.path.stem,))
        engine.connection.execute("INSERT INTO lines (order_id, sku, n) VALUES (1, 'pen', 3)")
    for engine in (a, b) if are_both_enabled else (a,):
        for table in ("orders", "lines"):
            engine.enable_sync_for_table(table)
    same = {"orders": "distinct"} | ({"lines": "distinct"} if child == "mapped" else {})
    if not are_both_enabled:
        bundle = a.generate_bundle(None, a.path.with_suffix(".bundle"))
        assert bundle is not None
        b.import_bundle(bundle)
    b.adopt(same)
    b.enable_sync_for_table("lines")
    a.adopt(same)
    exchange(a, b)
    both = [("a", "pen", 3), ("b", "pen", 3)]
    found = a.connection.execute(JOINED).fetchall()
    assert found == b.connection.execute(JOINED).fetchall()
    if child == "text":  # one key, so one row, in conflict
        assert len(a.get_unresolved_conflicts()) == len(b.get_unresolved_conflicts()) == 1
        assert found in ([one] for one in both)
    else:
        assert found == both
    for engine in (a, b):
        assert engine.doctor(deep=True).level != "error"


@pytest.mark.parametrize("child", LINES)
def test_copies_with_references_have_a_common_baseline(mapped: MakeEngine, tmp_path: Path, child: str) -> None:
    """Also where one was written to between enabling the parents and the children, and where references dangle."""
    rows_of = "(1, 'pen', 3), (2, 'ink', 1), (9, 'none', 0)"
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.executescript(f"{ORDERS}{LINES[child]}; INSERT INTO orders VALUES (1, 'x'), (2, 'y'), (4, 'z');")
        connection.executescript(f"INSERT INTO lines (order_id, sku, n) VALUES {rows_of}")
    (tmp_path / "b.db").write_bytes((tmp_path / "a.db").read_bytes())
    a, b = mapped("a", "", ()), mapped("b", "", ())
    a.enable_sync_for_all_tables()
    b.enable_sync_for_table("orders")
    b.connection.execute("INSERT INTO orders VALUES (5, 'new')")
    b.connection.execute("DELETE FROM orders WHERE id = 4")
    b.enable_sync_for_table("lines")
    exchange(a, b)
    assert a.get_vector_clock() == b.get_vector_clock()
    assert len(a.get_vector_clock()) == len(("orders", "lines", "b"))
    every = "SELECT sku, n FROM lines ORDER BY sku"
    assert a.connection.execute(every).fetchall() == b.connection.execute(every).fetchall()


@pytest.mark.parametrize("child", LINES)
@pytest.mark.parametrize("orders", [("orders", "lines"), ("lines", "orders")])
def test_a_baseline_is_that_of_its_rows_whichever_table_is_enabled_first(
    mapped: MakeEngine, child: str, orders: tuple[str, str]
) -> None:
    """Copies meet as one file, and unlike files do not, though edits came between a table and its parent."""
    schema = ORDERS + LINES[child]
    a, b, other = (mapped(name, schema, ()) for name in ("a", "b", "other"))
    for engine in (a, b, other):
        title = "other" if engine is other else "same"
        engine.connection.execute("INSERT INTO orders VALUES (1, ?), (2, 'two')", (title,))
        engine.connection.execute("INSERT INTO lines (order_id, sku, n) VALUES (1, 'pen', 3), (2, 'ink', 1)")
    a.enable_sync_for_all_tables()
    for engine in (b, other):
        engine.enable_sync_for_table(orders[0])
        engine.connection.execute("UPDATE lines SET n = 7 WHERE sku = 'pen'")
        engine.connection.execute("UPDATE lines SET n = 3 WHERE sku = 'pen'")
        engine.enable_sync_for_table(orders[1])
        assert engine.reconcile() == 0

    def baselines(engine: SyncEngine) -> set[bytes]:
        return set(engine.get_vector_clock()) - {engine.device_id}

    assert baselines(a) == baselines(b)
    assert baselines(a) & baselines(other) == set()
    exchange(a, b)
    assert a.connection.execute(JOINED).fetchall() == b.connection.execute(JOINED).fetchall()
    assert len(a.connection.execute(JOINED).fetchall()) == 2


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_quick_start_over_a_folder(mapped: MakeEngine, tmp_path: Path, count: int) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    engines = [mapped(f"e{i}", TODOS) for i in range(count)]
    for engine in engines:
        add(engine, f"one on {engine.path.stem}", f"two on {engine.path.stem}")
    for _ in range(3):
        for engine in engines:
            engine.sync_folder(folder)
    found = [named(engine, "todos", {"id": "todos"}) for engine in engines]
    assert len(found[0]) == 2 * count
    assert all(one == other for one, other in pairwise(found))
    assert not any(engine.get_unresolved_conflicts() for engine in engines)


STATEMENTS = (
    "INSERT INTO customers (name, friend) VALUES (:text, (SELECT id FROM customers ORDER BY random() LIMIT 1))",
    "INSERT INTO customers (name) VALUES (:text)",
    "INSERT INTO orders (customer_id) SELECT id FROM customers ORDER BY random() LIMIT 1",
    "INSERT OR IGNORE INTO lines SELECT id, abs(random() % 4), :text FROM orders ORDER BY random() LIMIT 1",
    "INSERT OR REPLACE INTO notes SELECT id, :text FROM orders ORDER BY random() LIMIT 1",
    "INSERT INTO tags (customer_id, tag) SELECT id, :text FROM customers ORDER BY random() LIMIT 1",
    "UPDATE customers SET name = :text WHERE id = (SELECT id FROM customers ORDER BY random() LIMIT 1)",
    "UPDATE lines SET title = :text WHERE order_id = (SELECT id FROM orders ORDER BY random() LIMIT 1)",
    "UPDATE orders SET customer_id = (SELECT min(id) FROM customers) WHERE id = (SELECT max(id) FROM orders)",
    "UPDATE customers SET friend = NULL WHERE id = (SELECT max(id) FROM customers)",
    "DELETE FROM orders WHERE id = (SELECT max(id) FROM orders)",
    "DELETE FROM tags WHERE id = (SELECT max(id) FROM tags)",
    "DELETE FROM lines WHERE order_id = (SELECT max(order_id) FROM lines)",
)
ODD_STATEMENTS = (  # what an application may do with its numbers, too
    "UPDATE orders SET id = (SELECT max(id) + 1 FROM orders) WHERE id = (SELECT min(id) FROM orders)",
    "INSERT OR IGNORE INTO customers (id, name) VALUES (abs(random() % 12), :text)",
    "REPLACE INTO customers (id, name) SELECT max(id), :text FROM customers",
    "DELETE FROM customers WHERE id = (SELECT max(id) FROM customers)",
    "UPDATE OR IGNORE lines SET order_id = (SELECT min(id) FROM orders) WHERE place = abs(random() % 4)",
)


def act(engine: SyncEngine, chance: random.Random, statements: tuple[str, ...]) -> None:
    engine.connection.create_function("random", 0, lambda: chance.getrandbits(63) - (1 << 62))
    with suppress(sqlite3.IntegrityError):
        engine.connection.execute(chance.choice(statements), {"text": f"{engine.path.stem}{chance.random():.4f}"})


@pytest.mark.parametrize("seed", range(6))
def test_random_work_on_four_devices_converges_up_to_numbers(mapped: MakeEngine, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same work for the same seed
    engines = [shop(mapped, name) for name in "abcd"]
    for _ in range(60):
        act(chance.choice(engines), chance, STATEMENTS)
        if chance.random() < 0.25:
            source, target = chance.sample(engines, 2)
            send(source, target)
    exchange(*engines)
    exchange(*engines)
    found = [content(engine) for engine in engines]
    assert all(one == other for one, other in pairwise(found))
    conflicts = [sorted((one.kind, one.conflict_id) for one in engine.get_unresolved_conflicts()) for engine in engines]
    assert all(one == other for one, other in pairwise(conflicts))
    for engine in engines:
        assert engine.reconcile() == 0
        assert engine.connection.execute("PRAGMA foreign_key_check").fetchall() == []


def spoken(engine: SyncEngine) -> dict[bytes, object]:
    """Return the operations, with every number written as the birth that it stands for."""

    def born(table: str, image: Mapping[str, object]) -> dict[str, object]:
        numbers = NUMBERS[table]
        return {
            name: engine.birth_of(numbers[name], value) if name in numbers and isinstance(value, int) else value
            for name, value in image.items()
        }

    return {
        one.op_id: (
            one.kind,
            one.hlc,
            one.base_op_id,
            *(born(one.table_name, x) for x in (one.row_pk, one.new, one.old)),
        )
        for one in engine.operations()
    }


def do_something_rare(engine: SyncEngine, chance: random.Random, folder: Path) -> None:
    match chance.choices(["resolve", "visit", "toggle", "renew"], [6, 4, 2, 1])[0]:
        case "resolve":
            if found := engine.get_unresolved_conflicts():
                with suppress(ConflictError, ConstraintError):
                    engine.resolve(chance.choice(found), chance.choice(["local", "remote", None]))
        case "visit":
            engine.sync_folder(folder)
        case "toggle":
            table = chance.choice(SHOP_TABLES)
            change = engine.disable_sync_for_table if engine.is_sync_enabled(table) else engine.enable_sync_for_table
            change(table)
        case "renew":
            engine.renew_device()


@pytest.mark.parametrize("seed", range(int(os.environ.get("SQLITE_SYNC_EXAMPLES", "12")) // 4))
def test_whatever_is_done_with_numbers_all_devices_agree_up_to_them(
    mapped: MakeEngine, tmp_path: Path, seed: int
) -> None:
    """With conflicts and their resolutions, tables out of sync for a while, new device ids, a folder and a latecomer."""
    chance = random.Random(f"odd {seed}")  # noqa: S311 - the same work for the same seed
    (folder := tmp_path / "folder").mkdir()
    engines = [shop(mapped, f"e{number}") for number in range(chance.randint(2, 4))]

    for _ in range(80):
        engine = chance.choice(engines)
        if chance.random() < 0.2:
            send(engine, chance.choice([one for one in engines if one is not engine]))
        elif chance.random() < 0.15:
            do_something_rare(engine, chance, folder)
        else:
            act(engine, chance, STATEMENTS + ODD_STATEMENTS)
    engines.append(shop(mapped, "late"))
    for engine in engines:
        for table in SHOP_TABLES:
            engine.enable_sync_for_table(table)
    exchange(*engines)
    exchange(*engines)
    said = [spoken(engine) for engine in engines]
    assert all(one == other for one, other in pairwise(said))
    found = [content(engine) for engine in engines]
    assert all(one == other for one, other in pairwise(found))
    conflicts = [sorted((one.kind, one.conflict_id) for one in engine.get_unresolved_conflicts()) for engine in engines]
    assert all(one == other for one, other in pairwise(conflicts))
    for engine in engines:
        assert engine.reconcile() == 0
        assert [one for one in engine.doctor(deep=True).findings if one.level == "error"] == []


@pytest.mark.parametrize("seed", range(2))
def test_disjoint_work_makes_no_conflict(mapped: MakeEngine, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same work for the same seed
    engines = [shop(mapped, name) for name in "abcd"]
    inserting = tuple(statement for statement in STATEMENTS[:6] if "REPLACE" not in statement)
    for _ in range(80):
        act(chance.choice(engines), chance, inserting[:3] + inserting[4:])
    exchange(*engines)
    assert not any(engine.get_unresolved_conflicts() for engine in engines)
    assert all(content(one) == content(other) for one, other in pairwise(engines))


# --- files that had rows before they met -----------------------------------------------------------------------------

MAILS = "CREATE TABLE people (id INTEGER PRIMARY KEY, mail TEXT, name TEXT, boss INTEGER REFERENCES people); "
LETTERS = "CREATE TABLE letters (id INTEGER PRIMARY KEY, person_id INTEGER REFERENCES people, body TEXT);"
PEOPLE = ("people", "letters")


def old_file(make: MakeEngine, name: str, *statements: str) -> SyncEngine:
    """Make a file with rows of its own, in which nothing is enabled."""
    engine = make(name, MAILS + LETTERS, ())
    for statement in statements:
        engine.connection.execute(statement)
    return engine


def two_offices(make: MakeEngine) -> tuple[SyncEngine, SyncEngine]:
    """Two files that know two of three people both, under other numbers."""
    a = old_file(
        make,
        "a",
        "INSERT INTO people VALUES (1, 'ada@x', 'Ada', NULL), (2, 'bob@x', 'Bob', 1), (3, NULL, 'Nobody', NULL)",
        "INSERT INTO letters VALUES (1, 2, 'to Bob')",
    )
    b = old_file(
        make,
        "b",
        "INSERT INTO people VALUES (1, 'bob@x', 'Robert', 3), (2, 'cleo@x', 'Cleo', 1), (3, 'ada@x', 'Ada', NULL)",
        "INSERT INTO people VALUES (4, NULL, 'No one', NULL)",
        "INSERT INTO letters VALUES (1, 1, 'to Robert'), (2, 3, 'to Ada')",
    )
    for table in PEOPLE:
        a.enable_sync_for_table(table)
    return a, b


def people(engine: SyncEngine) -> list[tuple[object, ...]]:
    return engine.connection.execute(
        "SELECT p.mail, p.name, b.mail FROM people AS p LEFT JOIN people AS b ON b.id = p.boss ORDER BY 1, 2"
    ).fetchall()


def letters(engine: SyncEngine) -> list[tuple[object, ...]]:
    return engine.connection.execute(
        "SELECT mail, body FROM letters JOIN people ON people.id = person_id ORDER BY 1, 2"
    ).fetchall()


def test_rows_are_the_same_where_columns_have_equal_values(make: MakeEngine) -> None:
    a, b = two_offices(make)
    send(a, b)
    before = b.path.read_bytes()
    same = {"people": ("mail",), "letters": "distinct"}
    planned = b.adopt(same, dry_run=True)
    assert b.path.read_bytes() == before
    assert planned["people"] == Adoption(equal=1, differing=1, only_here=2, only_there=1, ambiguous=0)
    assert planned["letters"] == Adoption(equal=0, differing=0, only_here=2, only_there=1, ambiguous=0)
    assert b.adopt(same) == planned
    exchange(a, b)
    (conflict,) = b.get_unresolved_conflicts()
    assert conflict.kind == "insert/insert"
    assert conflict.row_pk == {"id": 1}
    assert {name for _, name, _ in people(a)} == {"Ada", "Nobody", "No one", "Cleo", b.images(conflict).local["name"]}
    b.resolve(conflict, {"name": "Bob"})
    exchange(a, b)
    for engine in (a, b):
        assert people(engine) == [
            (None, "No one", None),
            (None, "Nobody", None),
            ("ada@x", "Ada", None),
            ("bob@x", "Bob", "ada@x"),
            ("cleo@x", "Cleo", "bob@x"),
        ]
        assert letters(engine) == [("ada@x", "to Ada"), ("bob@x", "to Bob"), ("bob@x", "to Robert")]
        assert [one for one in engine.doctor(deep=True).findings if one.level == "error"] == []


def test_rows_that_several_have_in_common_stay_distinct(make: MakeEngine) -> None:
    a, b = (
        old_file(
            make, name, "INSERT INTO people (mail, name) VALUES ('same@x', 'One'), ('same@x', 'Two'), ('x@x', 'X')"
        )
        for name in "ab"
    )
    b.connection.execute("UPDATE people SET name = 'Y' WHERE mail = 'x@x'")
    for table in PEOPLE:
        a.enable_sync_for_table(table)
    send(a, b)
    found = b.adopt({"people": ("mail",)})["people"]
    assert found == Adoption(equal=0, differing=1, only_here=2, only_there=2, ambiguous=2)
    exchange(a, b)
    assert [len(people(engine)) for engine in (a, b)] == [5, 5]


def test_copies_that_differ_are_adopted_by_their_keys(make: MakeEngine) -> None:
    """A file and a copy that was edited before either was enabled: conflicts where they differ, no row twice."""
    rows = [f"INSERT INTO people VALUES ({i}, '{i}@x', 'n{i}', {max(i - 1, 1)})" for i in range(1, 6)]
    a, b = (old_file(make, name, *rows) for name in "ab")
    b.connection.execute("UPDATE people SET name = 'changed' WHERE id = 2")
    b.connection.execute("DELETE FROM people WHERE id = 4")
    b.connection.execute("INSERT INTO people VALUES (6, '6@x', 'new', 3)")
    for table in PEOPLE:
        a.enable_sync_for_table(table)
    send(a, b)
    found = b.adopt({"people": "key", "letters": "key"})
    assert found["people"] == Adoption(equal=3, differing=1, only_here=1, only_there=1, ambiguous=0)
    exchange(a, b)
    assert [one.row_pk for one in a.get_unresolved_conflicts()] == [{"id": 2}]
    numbers = {"id": "people", "boss": "people"}
    assert named(a, "people", numbers) == named(b, "people", numbers)
    assert [number for (number,) in b.connection.execute("SELECT id FROM people ORDER BY id")] == [1, 2, 3, 4, 5, 6]


def test_nobodys_rows_are_taken_twice_unasked(make: MakeEngine, tmp_path: Path) -> None:
    """Whichever comes first, the bundle or `enable`; the one who brings both together is asked, and nobody else."""
    a, b = two_offices(make)
    path = a.generate_bundle(b.device_id, tmp_path / "a.bundle")
    assert path is not None
    b.import_bundle(path)
    with pytest.raises(TableError, match=r'people has rows of its own.*adopt\(\{"people": "key"\}\)'):
        b.enable_sync_for_table("people")
    b.uninstall()
    b.initialize()
    for table in PEOPLE:
        b.enable_sync_for_table(table)
    path = a.generate_bundle(b.device_id, tmp_path / "again.bundle")
    assert path is not None
    before = people(b)
    with pytest.raises(BundleError, match="brings rows of people, letters that another file had before it met"):
        b.import_bundle(path)
    assert people(b) == before
    with pytest.raises(TableError, match=r"was enabled in .*b\.db already"):
        b.adopt({"people": "key"})
    b.adopt({"people": "distinct", "letters": "distinct"})
    exchange(a, b)
    assert [len(people(engine)) for engine in (a, b)] == [7, 7]
    c = make("c", MAILS + LETTERS, PEOPLE)
    exchange(a, b, c)
    assert people(c) == people(a)


def test_two_files_that_had_rows_are_put_together_over_a_folder(make: MakeEngine, tmp_path: Path) -> None:
    """Both wrote their bundles before anybody was asked; what others refuse is written anew by the one who decided."""
    (folder := tmp_path / "folder").mkdir()
    a, b = two_offices(make)
    for table in PEOPLE:
        b.enable_sync_for_table(table)
    assert [len(engine.sync_folder(folder).refused) for engine in (a, b, a)] == [0, 1, 1]
    b.adopt({"people": "distinct", "letters": "distinct"})
    results = [engine.sync_folder(folder) for engine in (b, a, b, a)]
    assert [(one.refused, one.waiting) for one in results] == [((), ())] * 4
    assert people(a) == people(b)
    assert len(people(a)) == 7


def test_a_file_begins_anew_in_a_folder_to_be_put_together(make: MakeEngine, tmp_path: Path) -> None:
    """The bundle of its former id stays refused until somebody deletes it, and keeps nothing back."""
    (folder := tmp_path / "folder").mkdir()
    a, b = two_offices(make)
    for table in PEOPLE:
        b.enable_sync_for_table(table)
    for engine in (a, b):
        engine.sync_folder(folder)
    former = folder / b.device_id.hex()
    b.uninstall()
    b.initialize()
    b.sync_folder(folder)
    b.adopt({"people": ("mail",), "letters": "distinct"})
    for engine in (b, a, b, a):
        result = engine.sync_folder(folder)
        assert not result.waiting
        assert {note.path.parent for note in result.refused} == {former}
    assert people(a) == people(b)
    assert letters(a) == letters(b)
    assert len(people(a)) == 5
    assert [one.kind for one in a.get_unresolved_conflicts()] == ["insert/insert"]


def test_what_cannot_be_adopted_is_said(make: MakeEngine) -> None:
    a, b = two_offices(make)
    with pytest.raises(TableError, match="nothing has arrived for people: import"):
        b.adopt({"people": "key"})
    send(a, b)
    for same, words in (
        ("mail", r"'mail' says nothing of people: give 'key', 'distinct', or column names"),
        ((), "says nothing of people"),
        (("nowhere",), "people has no column 'nowhere' that is synced: it has id, mail, name, boss"),
    ):
        with pytest.raises(TableError, match=words):
            b.adopt({"people": same})
    with pytest.raises(TableError, match="there is no table 'nowhere'"):
        b.adopt({"nowhere": "key"})
    assert b.synced_tables() == ()


def test_a_row_is_named_by_its_birth_where_two_devices_talk_of_it(mapped: MakeEngine, tmp_path: Path) -> None:
    a, b = mapped("a"), mapped("b")
    add(a, "on a")
    add(b, "on b")
    exchange(a, b)
    path = b.generate_bundle(None, tmp_path / "all")
    assert path is not None
    info = inspect_bundle(path)
    assert [table.is_mapped for table in info.tables] == [True]
    assert {(row.row_pk["id"], row.born_on) for row in info.rows()} == {(1, a.device_id), (1, b.device_id)}
    assert a.explain("todos", 2).birth == (b.device_id, 1) == b.explain("todos", 1).birth
    assert {operation.born_on for operation in a.operations()} == {None}


def test_so_many_runs_that_they_are_looked_up(mapped: MakeEngine) -> None:
    """Two devices that meet after every single row: no run is longer than one."""
    a, b = mapped("a", SHOP, ()), mapped("b", SHOP, ())
    for engine in (a, b):
        for table in ("customers", "orders"):
            engine.enable_sync_for_table(table)
    for turn in range(births.MOST_CASES + 6):
        for engine in (a, b):
            name = f"{engine.path.stem} {turn}"
            engine.connection.execute("INSERT INTO customers (name) VALUES (?)", (name,))
            engine.connection.execute("INSERT INTO orders (customer_id) SELECT max(id) FROM customers")
            engine.connection.execute(
                "INSERT INTO orders (customer_id) SELECT id FROM customers ORDER BY random() LIMIT 1"
            )
        exchange(a, b)
    assert a.connection.execute("SELECT count(*) FROM sync_births_1").fetchone()[0] > births.MOST_CASES
    c = mapped("c", SHOP, ("customers", "orders"))
    exchange(a, b, c)
    for table in ("customers", "orders"):
        assert named(a, table, NUMBERS[table]) == named(b, table, NUMBERS[table]) == named(c, table, NUMBERS[table])
    assert len(named(c, "orders", NUMBERS["orders"])) == 4 * (births.MOST_CASES + 6)
