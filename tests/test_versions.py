"""The versions of rows in conflict, as any program reads them: by the sqlite3 module alone, with nothing of ours."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from conftest import MakeEngine, exchange, send
from sqlite_sync import RawText, SchemaError, SyncEngine, Value
from sqlite_sync.versions import view_name

TITLES = "SELECT base_title, local_title, remote_title FROM sync_conflicts_todos ORDER BY id"


def read(engine: SyncEngine, sql: str) -> list[tuple[object, ...]]:
    """Read with a plain connection that trusts nothing."""
    with closing(sqlite3.connect(f"file:{engine.path}?mode=ro", uri=True)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        return connection.execute(sql).fetchall()


def conflict_on(a: SyncEngine, b: SyncEngine, key: str = "k") -> None:
    """Let two devices disagree about a row that both know."""
    a.connection.execute("INSERT INTO todos (id, title) VALUES (?, 'base')", (key,))
    exchange(a, b)
    a.connection.execute("UPDATE todos SET title = 'a' WHERE id = ?", (key,))
    b.connection.execute("UPDATE todos SET title = 'b' WHERE id = ?", (key,))
    send(a, b)


def test_the_view_lays_the_three_versions_side_by_side(pair: tuple[SyncEngine, SyncEngine]) -> None:
    a, b = pair
    assert read(b, TITLES) == []
    conflict_on(a, b)
    (conflict,) = b.get_unresolved_conflicts()
    images = b.images(conflict)
    assert images.local is not None
    assert images.remote is not None
    assert read(b, TITLES) == [("base", images.local["title"], images.remote["title"])]
    assert conflict.columns == ("title",)
    fixed = "SELECT id, conflict_id, kind, local_device, remote_device, local_time < '2100' FROM sync_conflicts_todos"
    devices = (conflict.local_device_id.hex(), conflict.remote_device_id.hex())
    assert read(b, fixed) == [("k", conflict.conflict_id.hex(), "update/update", *devices, 1)]


def test_a_version_that_is_no_row_is_null_in_every_column(pair: tuple[SyncEngine, SyncEngine]) -> None:
    a, b = pair
    a.connection.execute("INSERT INTO todos VALUES ('k', 'base', 0)")
    exchange(a, b)
    a.connection.execute("DELETE FROM todos")
    b.connection.execute("UPDATE todos SET done = 1")
    send(a, b)
    (conflict,) = b.get_unresolved_conflicts()
    assert conflict.columns == ()
    assert read(b, "SELECT id, local_id, remote_id, remote_title FROM sync_conflicts_todos") == [("k", "k", None, None)]
    assert b.images(conflict).remote is None


def test_a_closed_conflict_leaves_no_image(pair: tuple[SyncEngine, SyncEngine]) -> None:
    a, b = pair
    conflict_on(a, b)
    b.resolve(b.get_unresolved_conflicts()[0], "local")
    assert read(b, TITLES) == []
    assert read(b, "SELECT * FROM sync_images_1") == []


def test_an_edit_during_the_conflict_is_seen_once_it_is_settled(pair: tuple[SyncEngine, SyncEngine]) -> None:
    a, b = pair
    conflict_on(a, b)
    b.connection.execute("UPDATE todos SET title = 'later'")
    b.get_unresolved_conflicts()
    [(base, local, remote)] = read(b, TITLES)
    assert (base, local) == ("base", "later")
    assert remote in {"a", "b"}
    assert len(read(b, "SELECT * FROM sync_images_1")) == 3


def test_three_heads_are_two_lines(make: MakeEngine) -> None:
    engines = [make(name) for name in "abc"]
    for engine in engines:
        engine.connection.execute("INSERT INTO todos VALUES ('k', ?, 0)", (engine.path.name,))
    exchange(*engines)
    for engine in engines:
        lines = read(engine, TITLES)
        assert len(lines) == 2
        assert len({local for _, local, _ in lines}) == 1
        assert {base for base, *_ in lines} == {None}
        assert {title for _, *titles in lines for title in titles} == {"a.db", "b.db", "c.db"}


@pytest.mark.parametrize(
    "value", [None, 1, 1.5, 0.1 + 0.2, 2**63 - 1, "a\0b", "", b"", b"\0\xff", RawText(b"\xff"), "'\";--"]
)
def test_values_are_what_they_were(make: MakeEngine, value: Value) -> None:
    a, b = (make(name, "CREATE TABLE t (id TEXT PRIMARY KEY, x)", ("t",)) for name in "ab")
    mark = "CAST(? AS TEXT)" if isinstance(value, RawText) else "?"
    plain = bytes(value) if isinstance(value, RawText) else value
    a.connection.execute(f"INSERT INTO t VALUES ('k', {mark})", (plain,))
    b.connection.execute("INSERT INTO t VALUES ('k', 'other')")
    send(a, b)
    (conflict,) = b.get_unresolved_conflicts()
    images = b.images(conflict)
    found = [image["x"] for image in (images.local, images.remote) if image]
    assert any(type(one) is type(value) and one == value for one in found)
    assert [(one, both) for one, both in b.each_conflict()] == [(conflict, images)]


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ('weird "name"\'; --', ('a "b"', "c'd", "select")),
        ("ÄÖÜ", ("é", "É", "日本")),
        ("order", ("kind", "conflict_id", "local_kind")),
        ("t", ("base_x", "x", "local_x")),
        ("forks", ("local_device", "remote_time", "rowid_")),
    ],
)
def test_any_identifier_has_a_view(make: MakeEngine, table: str, columns: tuple[str, ...]) -> None:
    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    names = [quoted(name) for name in columns]
    schema = f"CREATE TABLE {quoted(table)} ({names[0]} TEXT PRIMARY KEY, {names[1]} TEXT, {names[2]} TEXT)"
    a, b = (make(name, schema, (table,)) for name in "ab")
    for engine in (a, b):
        engine.connection.execute(f"INSERT INTO {quoted(table)} VALUES ('k', ?, 'same')", (engine.path.name,))
    send(a, b)
    [row] = read(b, f"SELECT * FROM {quoted(view_name(table))}")
    assert row.count("a.db") == row.count("b.db") == 1
    assert row.count("same") == 2
    assert row[0] == "k"
    assert b.get_unresolved_conflicts()[0].columns == (columns[1],)
    b.uninstall()
    assert read(b, "SELECT name FROM sqlite_schema WHERE name LIKE 'sync%'") == []


def test_a_very_wide_table_has_conflicts_but_no_view(make: MakeEngine) -> None:
    columns = ", ".join(f"c{place}" for place in range(700))
    a, b = (make(name, f"CREATE TABLE wide (id TEXT PRIMARY KEY, {columns})", ("wide",)) for name in "ab")
    for engine in (a, b):
        engine.connection.execute("INSERT INTO wide (id, c699) VALUES ('k', ?)", (engine.path.name,))
    send(a, b)
    (conflict,) = b.get_unresolved_conflicts()
    assert conflict.columns == ("c699",)
    remote = b.images(conflict).remote
    assert remote is not None
    assert remote["c699"] in {"a.db", "b.db"}
    assert read(b, "SELECT count(*) FROM sqlite_schema WHERE type = 'view' AND name LIKE 'sync_conflicts%'") == [(0,)]


def test_the_view_follows_a_new_column(pair: tuple[SyncEngine, SyncEngine]) -> None:
    a, b = pair
    conflict_on(a, b)
    for engine in (a, b):
        engine.connection.execute("ALTER TABLE todos ADD COLUMN note TEXT")
    b.connection.execute("UPDATE todos SET note = 'b'")
    assert len(b.get_unresolved_conflicts()) == 1
    [(local, remote)] = read(b, "SELECT local_note, remote_note FROM sync_conflicts_todos")
    assert (local, remote) == ("b", None)


@pytest.mark.parametrize("is_rebuilt", [True, False])
def test_a_migration_does_not_stumble_over_the_view(pair: tuple[SyncEngine, SyncEngine], *, is_rebuilt: bool) -> None:
    a, b = pair
    conflict_on(a, b)
    if is_rebuilt:
        b.connection.executescript(
            "BEGIN; CREATE TABLE fresh (id TEXT PRIMARY KEY, title TEXT NOT NULL, done INTEGER DEFAULT 0); "
            "INSERT INTO fresh SELECT * FROM todos; DROP TABLE todos; ALTER TABLE fresh RENAME TO todos; COMMIT;"
        )
    else:
        b.disable_sync_for_table("todos")
        b.connection.execute("ALTER TABLE todos DROP COLUMN done")
        assert read(b, "SELECT 1 FROM sqlite_schema WHERE name = 'sync_conflicts_todos'") == []
        b.enable_sync_for_table("todos")
    assert len(b.get_unresolved_conflicts()) == 1
    assert len(read(b, TITLES)) == 1


def test_a_view_of_the_applications_is_not_taken_over(make: MakeEngine) -> None:
    engine = make("a", "CREATE TABLE t (id TEXT PRIMARY KEY); CREATE VIEW Sync_Conflicts_T AS SELECT 1", ())
    with pytest.raises(SchemaError, match="sync_conflicts_t"):
        engine.enable_sync_for_table("t")
    assert not engine.is_sync_enabled("t")


def test_a_renewed_device_keeps_the_images(pair: tuple[SyncEngine, SyncEngine], tmp_path: Path) -> None:
    a, b = pair
    conflict_on(a, b)
    before = read(b, TITLES)
    b.connection.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
    with SyncEngine(tmp_path / "copy.db") as copy:
        copy.initialize()
        copy.renew_device()
        (conflict,) = copy.get_unresolved_conflicts()
        assert read(copy, TITLES) == before
        assert copy.images(conflict).base == {"id": "k", "title": "base", "done": 0}


def test_status_counts_conflicts_by_table_and_kind(make: MakeEngine) -> None:
    schema = "CREATE TABLE t (id TEXT PRIMARY KEY, x); CREATE TABLE u (id TEXT PRIMARY KEY, x);"
    a, b = (make(name, schema, ("t", "u")) for name in "ab")
    for engine in (a, b):
        for table, key in (("t", "1"), ("t", "2"), ("u", "1")):
            engine.connection.execute(f"INSERT INTO {table} VALUES (?, ?)", (key, engine.path.name))
    send(a, b)
    counted = [(each.table_name, each.kind, each.count) for each in b.status().conflicts]
    assert counted == [("t", "insert/insert", 2), ("u", "insert/insert", 1)]
