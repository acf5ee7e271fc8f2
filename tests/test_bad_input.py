"""Bad input of every kind: a clear error, nothing changed, nothing left behind."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from conftest import TODOS, MakeEngine, exchange, rows, send
from sqlite_sync import (
    BundleError,
    Conflict,
    ConflictError,
    DatabaseError,
    DeviceError,
    GapError,
    LastWriteWins,
    SchemaError,
    StateError,
    SyncEngine,
    SyncError,
    TableError,
)

PEER = bytes(range(16))

Verb = Callable[[SyncEngine, Path], object]


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of our own, to see what stays in it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def tree(folder: Path) -> dict[str, bytes | None]:
    """Read everything in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@contextmanager
def refused(folder: Path, kind: type[SyncError], *words: str) -> Iterator[None]:
    """Expect an error that says these words, and that no byte of any file in the folder changes."""
    before = tree(folder)
    with pytest.raises(SyncError) as caught:
        yield
    assert type(caught.value) is kind
    message = str(caught.value)
    assert [word for word in words if word.lower() not in message.lower()] == [], message
    assert tree(folder) == before


def add(engine: SyncEngine, key: str, title: str = "x") -> None:
    engine.connection.execute("INSERT INTO todos VALUES (?, ?, 0)", (key, title))


# --- files that are no database -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "noise", [b"hello, world\n" * 100, b"SQLite format 2\0" + bytes(4080), os.urandom(5000), b"PK\x03\x04" + bytes(600)]
)
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, noise: bytes) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(noise)
    with refused(tmp_path, DatabaseError, "letter.txt", "not a SQLite database"), SyncEngine(path) as engine:
        engine.initialize()


def test_a_damaged_database_is_named_as_damaged(make: MakeEngine, tmp_path: Path) -> None:
    with make("a") as engine:
        add(engine, "1")
    whole = engine.path.read_bytes()
    engine.path.write_bytes(whole[:100] + bytes(len(whole) - 100))
    with refused(tmp_path, DatabaseError, "a.db", "damaged", "restore"), SyncEngine(engine.path) as again:
        again.initialize()


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with (
        refused(tmp_path, DatabaseError, str(tmp_path), "cannot be opened", "no folder"),
        SyncEngine(tmp_path) as engine,
    ):
        engine.initialize()


def test_a_database_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with (
        refused(tmp_path, DatabaseError, "nowhere", "its folder must exist"),
        SyncEngine(tmp_path / "nowhere" / "a.db") as engine,
    ):
        engine.initialize()


# --- names that are taken -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "taken",
    [
        "CREATE TABLE sync_operations (mine)",
        "CREATE TABLE sync_state (mine)",
        "CREATE TABLE sync_state (format)",
        "CREATE VIEW sync_state AS SELECT 1 AS mine",
        "CREATE VIEW sync_clock AS SELECT 1 AS mine",
        "CREATE TABLE SYNC_Devices (mine)",
        "CREATE TABLE mine (x); CREATE INDEX sync_peers ON mine (x)",
        "CREATE TABLE mine (x); CREATE TRIGGER sync_bundles AFTER INSERT ON mine BEGIN SELECT 1; END",
        "CREATE TABLE mine (x); CREATE TRIGGER sync_operations_no_update AFTER INSERT ON mine BEGIN SELECT 1; END",
    ],
)
def test_a_name_that_the_application_uses_is_named(tmp_path: Path, taken: str) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as plain:
        plain.executescript(taken)
    name = next(word for word in taken.lower().split() if word.startswith("sync_"))
    with refused(tmp_path, SchemaError, "a.db", name, "needs"), SyncEngine(path) as engine:
        engine.initialize()


@pytest.mark.parametrize(
    "taken",
    [
        "CREATE TABLE sync_keys_1 (precious)",
        "CREATE VIEW sync_keys_1 AS SELECT 1 AS precious",
        "CREATE INDEX sync_keys_1 ON todos (title)",
        "CREATE TABLE sync_insert_1 (precious)",
        "CREATE TRIGGER sync_insert_1 AFTER INSERT ON todos BEGIN SELECT 1; END",
        "CREATE TRIGGER sync_delete_1 AFTER INSERT ON todos BEGIN SELECT 1; END",
    ],
)
def test_a_name_that_is_needed_later_and_taken_by_then_is_named(make: MakeEngine, tmp_path: Path, taken: str) -> None:
    engine = make("a", tables=())
    engine.connection.executescript(taken)
    with refused(tmp_path, SchemaError, "a.db", taken.split()[2], "todos"):
        engine.enable_sync_for_table("todos")
    engine.uninstall()
    assert engine.connection.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'sync%'").fetchone() == (1,)


def test_tables_of_a_newer_version_are_left_alone(make: MakeEngine, tmp_path: Path) -> None:
    with make("a") as engine:
        engine.connection.execute("UPDATE sync_state SET format = 2")
    with refused(tmp_path, SchemaError, "a.db", "newer"), SyncEngine(engine.path) as again:
        again.initialize()


def test_an_uninstalled_file_is_named_as_such_by_an_engine_that_did_not_know(make: MakeEngine, tmp_path: Path) -> None:
    engine = make("a")
    add(engine, "1")
    with SyncEngine(engine.path) as other:
        other.initialize()
        other.uninstall()
    with refused(tmp_path, SchemaError, "a.db", "initialize"):
        engine.generate_bundle(PEER, tmp_path / "x.bundle")
    with refused(tmp_path, SchemaError, "a.db", "initialize"):
        engine.status()


@pytest.mark.parametrize(
    "law", ["sync_operations_no_update", "sync_operations_no_delete", "sync_operations_no_replace"]
)
def test_a_law_that_somebody_dropped_is_named_or_put_back(make: MakeEngine, law: str) -> None:
    a, b = make("a"), make("b")
    add(a, "1")
    b.connection.execute(f"DROP TRIGGER {law}")
    try:
        send(a, b)
    except SchemaError as error:
        said = str(error)
    else:
        said = law
        assert rows(a) == rows(b)
        assert b.connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = ?", (law,)).fetchone() == (1,)
    assert law in said
    b.uninstall()


def test_a_log_that_somebody_took_operations_out_of_is_not_sent(make: MakeEngine, tmp_path: Path) -> None:
    a = make("a")
    for key in "123":
        add(a, key)
    a.connection.executescript("DROP TRIGGER sync_operations_no_delete; DELETE FROM sync_operations WHERE op = 2")
    target = tmp_path / "x.bundle"
    with pytest.raises(SchemaError, match=r"a\.db lacks 1 operations .* restore a backup"):
        a.generate_bundle(PEER, target)
    assert not target.exists()


# --- tables that cannot be captured -------------------------------------------------------------------------------

ODD_TABLES = """
CREATE TABLE no_key (a, b);
CREATE TABLE null_key (id TEXT PRIMARY KEY, a);
INSERT INTO null_key VALUES (NULL, 1), (NULL, 2), ('x', 3);
CREATE TABLE null_part (a TEXT, b TEXT, PRIMARY KEY (a, b));
INSERT INTO null_part VALUES ('x', NULL);
CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT);
INSERT INTO counted VALUES (1);
CREATE VIRTUAL TABLE words USING fts5(word);
CREATE VIEW seen AS SELECT * FROM no_key;
CREATE TABLE sync_of_the_application (id INTEGER PRIMARY KEY);
"""


@pytest.mark.parametrize(
    ("table", "kind", "words"),
    [
        ("nowhere", TableError, ("nowhere", "no table", "no_key")),
        ("", TableError, ("no table",)),
        ("no_key; DROP TABLE no_key", TableError, ("no table",)),
        ("main.no_key", TableError, ("no table",)),
        ("no_key", TableError, ("no_key", "no primary key", "give it one")),
        ("NO_KEY", TableError, ("no_key", "no primary key")),
        ("null_key", TableError, ("null_key", "rows: 2", "NULL", "key first")),
        ("null_part", TableError, ("null_part", "rows: 1", "NULL")),
        ("words", TableError, ("words", "virtual table", "feeds")),
        ("words_data", TableError, ("words_data", "virtual table")),
        ("seen", TableError, ("seen", "view", "reads")),
        ("sqlite_sequence", TableError, ("sqlite_sequence", "SQLite")),
        ("sqlite_schema", TableError, ("sqlite_schema", "SQLite")),
        ("sync_operations", TableError, ("sync_operations", "sqlite_sync")),
        ("SYNC_STATE", TableError, ("sync_state", "sqlite_sync")),
    ],
)
def test_a_table_that_cannot_be_captured_says_why(
    make: MakeEngine, tmp_path: Path, table: str, kind: type[SyncError], words: tuple[str, ...]
) -> None:
    engine = make("a", schema=ODD_TABLES, tables=())
    with refused(tmp_path, kind, *words):
        engine.enable_sync_for_table(table)
    assert engine.synced_tables() == ()


def test_a_table_with_our_prefix_is_not_said_to_be_ours(make: MakeEngine) -> None:
    engine = make("a", schema=ODD_TABLES, tables=())
    with pytest.raises(TableError) as caught:
        engine.enable_sync_for_table("sync_of_the_application")
    assert "belongs to sqlite_sync" not in str(caught.value)


def test_a_table_of_too_many_columns_says_how_many_are_allowed(make: MakeEngine, tmp_path: Path) -> None:
    columns = ", ".join(f"c{i}" for i in range(900))
    engine = make("a", schema=f"CREATE TABLE wide (id TEXT PRIMARY KEY, {columns})", tables=())
    with refused(tmp_path, TableError, "wide", "901", "900"):
        engine.enable_sync_for_table("wide")


@pytest.mark.parametrize("verb", ["disable_sync_for_table", "reconcile"])
@pytest.mark.parametrize("table", ["todos", "nowhere"])
def test_what_is_not_synced_cannot_be_disabled_nor_reconciled(
    make: MakeEngine, tmp_path: Path, verb: str, table: str
) -> None:
    engine = make("a", tables=())
    with refused(tmp_path, TableError, table, "synced"):
        getattr(engine, verb)(table)


def test_a_trigger_that_is_not_there_cannot_be_decided_on(make: MakeEngine, tmp_path: Path) -> None:
    engine = make("a")
    with refused(tmp_path, TableError, "nowhere", "a.db"):
        engine.set_trigger_fires("nowhere", fires=True)
    with refused(tmp_path, TableError, "sync_insert_1", "of the application"):
        engine.set_trigger_fires("sync_insert_1", fires=True)
    engine.connection.execute("CREATE TRIGGER theirs AFTER INSERT ON todos BEGIN SELECT 1; END")
    with refused(tmp_path, TableError, "theirs", "True, False, or None", "'yes'"):
        engine.set_trigger_fires("theirs", fires="yes")  # type: ignore[arg-type]
    engine.set_trigger_fires("theirs", fires=True)


@pytest.mark.parametrize("same", [{}, [], None, ["todos"]])
def test_adopt_is_told_tables(make: MakeEngine, tmp_path: Path, same: object) -> None:
    engine = make("a", tables=())
    with refused(tmp_path, TableError, "adopt", "how their rows are the same"):
        engine.adopt(same)  # type: ignore[arg-type]


def test_a_connect_that_returns_nothing_is_named(tmp_path: Path) -> None:
    with refused(tmp_path, StateError, "a.db", "connect gave None"):
        SyncEngine(tmp_path / "a.db", connect=lambda _: None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO todos VALUES (NULL, 'x', 0)",
        "INSERT OR IGNORE INTO todos VALUES (NULL, 'x', 0)",
        "INSERT OR REPLACE INTO todos VALUES (NULL, 'x', 0)",
        "INSERT INTO todos (title) VALUES ('x')",
        "UPDATE todos SET id = NULL",
        "UPDATE OR IGNORE todos SET id = NULL",
        "INSERT INTO todos VALUES ('1', 'x', 0) ON CONFLICT DO UPDATE SET id = NULL",
    ],
)
def test_null_in_a_key_is_refused_by_the_database_itself(make: MakeEngine, tmp_path: Path, statement: str) -> None:
    engine = make("a")
    add(engine, "1")
    engine.close()
    before = tree(tmp_path)
    with closing(sqlite3.connect(engine.path)) as plain:
        with pytest.raises(sqlite3.IntegrityError, match="NULL in the primary key of todos"):
            plain.execute(statement)
        plain.rollback()
    assert tree(tmp_path) == before


# --- bundles that are none ----------------------------------------------------------------------------------------


@pytest.fixture
def met(make: MakeEngine, tmp_path: Path) -> tuple[SyncEngine, Path]:
    """A device, and a good bundle for it."""
    a, b = make("a"), make("b")
    add(a, "1")
    path = a.generate_bundle(b.device_id, tmp_path / "good.bundle")
    assert path is not None
    return b, path


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda _: b"", ("empty", "again")),
        (lambda _: b"\0", ("not a bundle",)),
        (lambda _: b"hello, world\n" * 100, ("not a bundle",)),
        (lambda whole: whole[:-56], ("cut",)),
        (lambda whole: whole[:5000], ("cut",)),
        (lambda whole: whole[:-1], ("cut",)),
        (lambda whole: whole + b"\0", ("extended",)),
        (lambda whole: whole[:4096] + whole[8192:], ("length", "again")),
        (lambda whole: whole[:5000] + bytes([whole[5000] ^ 4]) + whole[5001:], ("damaged", "again")),
    ],
)
def test_a_damaged_bundle_says_how_it_is_damaged(
    met: tuple[SyncEngine, Path], tmp_path: Path, damage: Callable[[bytes], bytes], words: tuple[str, ...]
) -> None:
    engine, path = met
    path.write_bytes(damage(path.read_bytes()))
    for verb in (engine.import_bundle, engine.renew_device):
        with refused(tmp_path, BundleError, "good.bundle", *words):
            verb(path)


def test_a_bundle_that_is_not_there_is_named(met: tuple[SyncEngine, Path], tmp_path: Path) -> None:
    engine, _ = met
    for path in (tmp_path / "none.bundle", tmp_path / "no folder" / "none.bundle"):
        with refused(tmp_path, BundleError, "none.bundle", "no file"):
            engine.import_bundle(path)


def test_a_folder_and_a_database_are_no_bundles(met: tuple[SyncEngine, Path], tmp_path: Path) -> None:
    engine, _ = met
    with refused(tmp_path, BundleError, str(tmp_path), "not a file"):
        engine.import_bundle(tmp_path)
    for database in (engine.path, tmp_path / "a.db"):
        with refused(tmp_path, BundleError, database.name, "some other SQLite file"):
            engine.import_bundle(database)


def test_our_own_bundle_is_refused(make: MakeEngine, tmp_path: Path) -> None:
    engine = make("a")
    add(engine, "1")
    path = engine.generate_bundle(PEER, tmp_path / "own.bundle")
    assert path is not None
    with refused(tmp_path, BundleError, "own.bundle", "this very device", "other one"):
        engine.import_bundle(path)


def test_a_gap_names_the_device_and_the_range(make: MakeEngine, tmp_path: Path) -> None:
    a, b = make("a"), make("b")
    add(a, "1")
    send(a, b)
    b.generate_bundle(a.device_id, tmp_path / "ack.bundle", acknowledge=True)
    for key in "234":
        add(a, key)
    lost = a.generate_bundle(b.device_id, tmp_path / "lost.bundle")
    assert lost is not None
    c = make("c")
    path = a.generate_bundle(c.device_id, tmp_path / "c.bundle")
    assert path is not None
    c.import_bundle(path)
    c.generate_bundle(a.device_id, tmp_path / "ack.bundle", acknowledge=True)
    a.import_bundle(tmp_path / "ack.bundle")
    add(a, "5")
    path = a.generate_bundle(c.device_id, tmp_path / "next.bundle")
    assert path is not None
    with refused(tmp_path, GapError, "next.bundle", a.device_id.hex(), "operations 2 to 4", "ask"):
        b.import_bundle(path)
    b.import_bundle(lost)
    b.import_bundle(path)
    assert rows(a) == rows(b)


@pytest.mark.parametrize("peer", [b"", b"x" * 15, b"x" * 17, "x" * 16, "0" * 32, 16, bytearray(16)])
def test_a_peer_id_that_is_none_is_refused(make: MakeEngine, tmp_path: Path, peer: object) -> None:
    engine = make("a")
    add(engine, "1")
    with refused(tmp_path, DeviceError, "16 bytes", "initialize()"):
        engine.generate_bundle(peer, tmp_path / "x.bundle")


def test_our_own_id_as_the_peer_is_refused(make: MakeEngine, tmp_path: Path) -> None:
    engine = make("a")
    add(engine, "1")
    with refused(tmp_path, DeviceError, "this very device"):
        engine.generate_bundle(engine.device_id, tmp_path / "x.bundle")


# --- where nothing can be written ---------------------------------------------------------------------------------


def test_a_target_in_a_folder_that_is_not_there_is_named(make: MakeEngine, tmp_path: Path) -> None:
    engine = make("a")
    add(engine, "1")
    with refused(tmp_path, BundleError, "nowhere", "no folder"):
        engine.generate_bundle(PEER, tmp_path / "nowhere" / "x.bundle")


def test_a_target_that_is_a_folder_is_named(make: MakeEngine, tmp_path: Path) -> None:
    engine = make("a")
    add(engine, "1")
    (tmp_path / "folder").mkdir()
    with refused(tmp_path, BundleError, "folder", "no ordinary file"):
        engine.generate_bundle(PEER, tmp_path / "folder")


def test_a_target_that_is_no_file_is_not_replaced(make: MakeEngine, tmp_path: Path) -> None:
    """A pipe or a device: the new bundle would be renamed into its place."""
    engine = make("a")
    add(engine, "1")
    os.mkfifo(tmp_path / "pipe")
    with refused(tmp_path, BundleError, "pipe", "no ordinary file"):
        engine.generate_bundle(PEER, tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_a_target_of_too_long_a_name_is_named(make: MakeEngine, tmp_path: Path) -> None:
    engine = make("a")
    add(engine, "1")
    with refused(tmp_path, BundleError, "xxxx", "cannot write"):
        engine.generate_bundle(PEER, tmp_path / ("x" * 400))


@pytest.mark.parametrize("target", ["a.db", "a.db-journal", "a.db-wal", "a.db-shm", "link/a.db", "./a.db", "hard.db"])
def test_a_bundle_is_never_written_over_the_database(
    make: MakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    engine = make("a")
    add(engine, "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "hard.db").hardlink_to(engine.path)
    with refused(tmp_path, BundleError, target.rpartition("/")[2], "database"):
        engine.generate_bundle(PEER, target)
    assert rows(engine) == [(("str", "1"), ("str", "x"), ("int", 0))]


def test_a_shared_folder_that_is_not_there_is_named(make: MakeEngine, tmp_path: Path) -> None:
    engine = make("a")
    with refused(tmp_path, BundleError, "nowhere", "no folder", "create it"):
        engine.sync_folder(tmp_path / "nowhere")
    with refused(tmp_path, BundleError, engine.path.name, "not a folder"):
        engine.sync_folder(engine.path)


def test_a_shared_folder_in_which_a_file_has_our_name_is_refused_in_words(make: MakeEngine, tmp_path: Path) -> None:
    engine = make("a")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / engine.device_id.hex()).write_bytes(b"")
    with refused(tmp_path, BundleError, engine.device_id.hex()):
        engine.sync_folder(shared)


def test_what_is_wrong_in_a_shared_folder_is_named_and_keeps_nothing_else_back(
    make: MakeEngine, tmp_path: Path
) -> None:
    a, b, c = make("a"), make("b"), make("c")
    shared = tmp_path / "shared"
    shared.mkdir()
    for engine in (b, a, c):  # b has gone before a comes
        add(engine, engine.path.stem)
        if engine is not c:
            engine.sync_folder(shared)
    of_a = shared / a.device_id.hex()
    for path in of_a.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    (of_a / "x.bundle").mkdir()
    (of_a / "y.part").write_bytes(b"half")
    (of_a / f"{'0' * 32}.bundle").write_bytes(b"")
    (shared / "letter.txt").write_bytes(b"hello")
    result = c.sync_folder(shared)
    assert {note.path.name for note in result.refused} > {f"{'0' * 32}.bundle"}
    assert {note.path.name for note in result.ignored} == {"x.bundle", "y.part", "letter.txt"}
    assert {row[0][1] for row in rows(c)} == {"b", "c"}
    assert (of_a / "y.part").exists()


# --- databases that cannot be written -----------------------------------------------------------------------------


def _read_only(path: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True)


def _query_only(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


CHANGING: dict[str, Verb] = {
    "import": lambda engine, folder: engine.import_bundle(folder / "good.bundle"),
    "enable": lambda engine, _: engine.enable_sync_for_table("other"),
    "disable": lambda engine, _: engine.disable_sync_for_table("todos"),
    "reconcile": lambda engine, _: engine.reconcile(),
    "renew": lambda engine, _: engine.renew_device(),
    "renew by a bundle": lambda engine, folder: engine.renew_device(folder / "good.bundle"),
    "uninstall": lambda engine, _: engine.uninstall(),
    "sync a folder": lambda engine, folder: engine.sync_folder(folder / "shared"),
}

READING: dict[str, Verb] = {
    "generate": lambda engine, folder: engine.generate_bundle(PEER, folder / "new.bundle"),
    "status": lambda engine, _: engine.status(),
    "conflicts": lambda engine, _: engine.get_unresolved_conflicts(),
    "clock": lambda engine, _: engine.get_vector_clock(),
    "operations": lambda engine, _: list(engine.operations()),
    "enabled": lambda engine, _: engine.is_sync_enabled("todos"),
    "tables": lambda engine, _: engine.synced_tables(),
    "dry run": lambda engine, folder: engine.import_bundle(folder / "good.bundle", dry_run=True),
}


@pytest.fixture
def prepared(make: MakeEngine, tmp_path: Path) -> Path:
    """A database with rows, a bundle for it, and a shared folder with something in it."""
    a, b = make("a"), make("b", TODOS + "; CREATE TABLE other (id TEXT PRIMARY KEY)")
    (tmp_path / "shared").mkdir()
    add(b, "0")
    b.generate_bundle(a.device_id, tmp_path / "first.bundle")
    a.import_bundle(tmp_path / "first.bundle")
    (tmp_path / "first.bundle").unlink()
    add(a, "1")
    a.sync_folder(tmp_path / "shared")
    add(b, "2")
    a.generate_bundle(b.device_id, tmp_path / "good.bundle")
    a.close()
    b.close()
    return b.path


@pytest.mark.parametrize("connect", [_read_only, _query_only])
@pytest.mark.parametrize("verb", CHANGING)
def test_a_read_only_database_is_refused_in_words(
    prepared: Path, connect: Callable[[str], sqlite3.Connection], verb: str
) -> None:
    with SyncEngine(prepared, connect=connect) as engine:
        engine.initialize()
        with refused(prepared.parent, DatabaseError, "b.db", "cannot be written", "permissions"):
            CHANGING[verb](engine, prepared.parent)


@pytest.mark.parametrize("verb", [verb for verb in READING if verb not in ("generate", "dry run")])
def test_a_read_only_database_can_be_looked_at(prepared: Path, verb: str) -> None:
    with SyncEngine(prepared, connect=_read_only) as engine:
        engine.initialize()
        READING[verb](engine, prepared.parent)


def test_a_read_only_database_that_was_never_prepared_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as plain:
        plain.executescript(TODOS)
    with refused(tmp_path, DatabaseError, "a.db", "cannot be written"), SyncEngine(path, connect=_read_only) as engine:
        engine.initialize()


@pytest.mark.parametrize("verb", CHANGING)
def test_a_database_that_is_locked_for_too_long_says_so(prepared: Path, verb: str) -> None:
    with closing(sqlite3.connect(prepared, isolation_level=None)) as other, SyncEngine(prepared, timeout=0) as engine:
        device_id = engine.initialize()
        other.execute("BEGIN IMMEDIATE")
        with refused(prepared.parent, DatabaseError, "b.db", "locked", "try again"):
            CHANGING[verb](engine, prepared.parent)
        other.execute("ROLLBACK")
        assert engine.device_id == device_id
        CHANGING[verb](engine, prepared.parent)


@pytest.mark.parametrize("verb", CHANGING)
def test_a_reader_that_keeps_the_commit_back_changes_nothing(prepared: Path, verb: str) -> None:
    with closing(sqlite3.connect(prepared, isolation_level=None)) as other, SyncEngine(prepared, timeout=0) as engine:
        engine.initialize()
        before = engine.connection.execute("SELECT * FROM sqlite_schema").fetchall()
        device_id = engine.device_id
        other.execute("BEGIN")
        other.execute("SELECT * FROM todos").fetchall()
        with pytest.raises(DatabaseError, match=r"b\.db.*locked"):
            CHANGING[verb](engine, prepared.parent)
        other.execute("ROLLBACK")
        assert engine.device_id == device_id
        assert engine.connection.execute("SELECT device_id FROM sync_devices WHERE ordinal = 0").fetchone() == (
            device_id,
        )
        assert engine.connection.execute("SELECT * FROM sqlite_schema").fetchall() == before
        CHANGING[verb](engine, prepared.parent)


@pytest.mark.parametrize("verb", [*CHANGING, "generate", "dry run"])
def test_an_open_transaction_of_the_users_is_refused_and_stays_open(prepared: Path, verb: str) -> None:
    with SyncEngine(prepared) as engine:
        engine.initialize()
        engine.connection.execute("BEGIN")
        add(engine, "3")
        with pytest.raises(StateError, match=r"transaction is open.*b\.db.*commit it or roll it back"):
            {**CHANGING, **READING}[verb](engine, prepared.parent)
        assert engine.connection.in_transaction
        engine.connection.execute("COMMIT")
        assert {row[0][1] for row in rows(engine)} == {"0", "2", "3"}
        assert {path.name for path in prepared.parent.iterdir()} == {"a.db", "b.db", "good.bundle", "scratch", "shared"}


@pytest.mark.parametrize("verb", [*CHANGING, *READING])
def test_an_unfinished_statement_of_the_users_is_harmless_or_named(prepared: Path, verb: str) -> None:
    """Somebody loops over a query and syncs inside the loop."""
    run = {**CHANGING, **READING}[verb]
    with SyncEngine(prepared) as engine:
        engine.initialize()
        add(engine, "3")
        add(engine, "4")
        cursor = engine.connection.execute("SELECT * FROM todos")
        cursor.fetchone()
        said = []
        try:
            run(engine, prepared.parent)
        except DatabaseError as error:
            said.append(str(error))
        cursor.close()
        assert all("cursors" in one for one in said)
        if said:
            run(engine, prepared.parent)
        attached = [name for _, name, _ in engine.connection.execute("PRAGMA database_list").fetchall()[1:]]
        assert set(attached) <= {"temp"}


# --- full disks ---------------------------------------------------------------------------------------------------


@pytest.fixture
def large(make: MakeEngine, tmp_path: Path) -> tuple[SyncEngine, SyncEngine, Path]:
    a, b = make("a"), make("b")
    a.connection.execute("BEGIN")
    for i in range(500):
        add(a, str(i), "x" * 500)
    a.connection.execute("COMMIT")
    add(b, "b")
    path = a.generate_bundle(b.device_id, tmp_path / "large.bundle")
    assert path is not None
    return a, b, path


def test_a_disk_that_is_full_on_import_changes_nothing(
    large: tuple[SyncEngine, SyncEngine, Path], tmp_path: Path
) -> None:
    _, b, path = large
    for more in (1, 5, 20, 60):
        (pages,) = b.connection.execute("PRAGMA page_count").fetchone()
        b.connection.execute(f"PRAGMA max_page_count = {pages + more}")
        with refused(tmp_path, DatabaseError, "b.db", "full", "free some room"):
            b.import_bundle(path)
        assert b.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    b.connection.execute(f"PRAGMA max_page_count = {2**31 - 1}")
    assert b.import_bundle(path).applied_count == 500


def test_a_disk_that_is_full_on_enable_changes_nothing(make: MakeEngine, tmp_path: Path) -> None:
    engine = make("a", tables=())
    engine.connection.executemany("INSERT INTO todos VALUES (?, ?, 0)", [(str(i), "x" * 500) for i in range(100)])
    (pages,) = engine.connection.execute("PRAGMA page_count").fetchone()
    engine.connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    with refused(tmp_path, DatabaseError, "a.db", "full"):
        engine.enable_sync_for_table("todos")


class Cramped(sqlite3.Connection):
    """A connection beside whose database there is room for one small file only."""

    def cursor(self, *arguments: object) -> sqlite3.Cursor:
        return super().cursor(CrampedCursor if not arguments else arguments[0])


class CrampedCursor(sqlite3.Cursor):
    def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
        if sql.startswith("INSERT INTO sync_bundle.bundle"):
            super().execute("PRAGMA sync_bundle.max_page_count = 20")
        return super().execute(sql, *parameters)


def test_a_disk_that_is_full_on_generate_is_said_of_the_bundle_and_leaves_the_old_one(
    large: tuple[SyncEngine, SyncEngine, Path], tmp_path: Path
) -> None:
    a, _, path = large
    with SyncEngine(a.path, connect=lambda name: sqlite3.connect(name, factory=Cramped)) as cramped:
        cramped.initialize()
        with refused(tmp_path, BundleError, "large.bundle", "full"):
            cramped.generate_bundle(PEER, path)


# --- at the wrong time --------------------------------------------------------------------------------------------

ANY_VERB: dict[str, Verb] = {
    **CHANGING,
    **READING,
    "resolve": lambda engine, _: engine.resolve(NO_CONFLICT, "local"),
    "images": lambda engine, _: engine.images(NO_CONFLICT),
    "trigger": lambda engine, _: engine.set_trigger_fires("x", fires=True),
    "device id": lambda engine, _: engine.device_id,
}
NO_CONFLICT = Conflict(
    bytes(16), "todos", {"id": "1"}, "update/update", bytes(16), bytes(16), bytes(16), bytes(16), 0, 0
)


@pytest.mark.parametrize("verb", ANY_VERB)
def test_before_initialize_every_verb_says_what_to_call(prepared: Path, verb: str) -> None:
    with SyncEngine(prepared) as engine, refused(prepared.parent, StateError, "b.db", "initialize() first"):
        ANY_VERB[verb](engine, prepared.parent)


@pytest.mark.parametrize("verb", [*ANY_VERB, "initialize", "connection"])
def test_after_close_every_verb_says_so(prepared: Path, verb: str) -> None:
    engine = SyncEngine(prepared)
    engine.initialize()
    engine.close()
    engine.close()
    more: dict[str, Verb] = {"initialize": lambda one, _: one.initialize(), "connection": lambda one, _: one.connection}
    with refused(prepared.parent, StateError, "b.db", "closed", "new one"):
        {**ANY_VERB, **more}[verb](engine, prepared.parent)


@pytest.mark.parametrize("verb", ANY_VERB)
def test_after_uninstall_every_verb_says_what_to_call(prepared: Path, verb: str) -> None:
    with SyncEngine(prepared) as engine:
        engine.initialize()
        engine.uninstall()
        with refused(prepared.parent, StateError, "b.db", "initialize() first"):
            ANY_VERB[verb](engine, prepared.parent)


def test_a_half_read_list_of_operations_says_that_the_engine_was_closed(make: MakeEngine) -> None:
    engine = make("a")
    add(engine, "1")
    add(engine, "2")
    operations = engine.operations()
    next(operations)
    engine.close()
    with pytest.raises(StateError, match="closed"):
        next(operations)


def test_a_conflict_that_is_not_open_is_named(make: MakeEngine, tmp_path: Path) -> None:
    engine = make("a")
    for run in (lambda: engine.resolve(NO_CONFLICT, "local"), lambda: engine.images(NO_CONFLICT)):
        with refused(tmp_path, ConflictError, "todos", "not open", "list the conflicts again"):
            run()


@pytest.mark.parametrize("choice", ["mine", "", 5, {"nowhere": 1}, {"id": "other"}, {"title": None}, {7: 1}, b"local"])
def test_an_impossible_resolution_is_refused(make: MakeEngine, tmp_path: Path, choice: object) -> None:
    a, b = make("a"), make("b")
    add(a, "1")
    exchange(a, b)
    for engine in (a, b):
        engine.connection.execute("UPDATE todos SET title = ?", (engine.path.stem,))
    send(a, b)
    (conflict,) = b.get_unresolved_conflicts()
    before = tree(tmp_path)
    with pytest.raises(SyncError) as caught:
        b.resolve(conflict, choice)
    assert "todos" in str(caught.value) or "resolve by" in str(caught.value)
    assert tree(tmp_path) == before
    b.resolve(conflict, "remote")


@pytest.mark.parametrize("given", ["conflict_id", "hex", None, ("todos", "1"), 7])
def test_what_is_no_conflict_is_refused(make: MakeEngine, tmp_path: Path, given: object) -> None:
    a, b = make("a"), make("b")
    for engine in (a, b):
        add(engine, "1", engine.path.stem)
    send(a, b)
    (conflict,) = b.get_unresolved_conflicts()
    given = {"conflict_id": conflict.conflict_id, "hex": conflict.conflict_id.hex()}.get(str(given), given)
    for run in (
        lambda: b.images(given),  # type: ignore[arg-type]
        lambda: b.resolve(given, "local"),  # type: ignore[call-overload]
        lambda: b.resolve(given, LastWriteWins()),  # type: ignore[call-overload]
    ):
        with refused(tmp_path, ConflictError, "is no Conflict", "get_unresolved_conflicts"):
            run()
    b.resolve(conflict, "local")


def test_an_error_in_the_progress_callback_undoes_the_import(met: tuple[SyncEngine, Path]) -> None:
    engine, path = met
    before = engine.path.read_bytes()

    def fail(_: object) -> None:
        if engine.connection.in_transaction:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.import_bundle(path, progress=fail)
    assert engine.path.read_bytes() == before
    assert engine.import_bundle(path).applied_count == 1


def test_an_open_transaction_of_the_connection_we_are_given_is_not_committed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as given:
        given.executescript(TODOS)
        given.execute("INSERT INTO todos VALUES ('unsure', 'x', 0)")
        with pytest.raises(StateError, match="transaction"):
            SyncEngine(path, connect=lambda _: given)
        given.rollback()
        assert given.execute("SELECT count(*) FROM todos").fetchone() == (0,)


def test_a_row_whose_key_is_no_valid_text_can_be_in_conflict_and_resolved(make: MakeEngine) -> None:
    a, b = make("a"), make("b")
    for engine in (a, b):
        engine.connection.execute("INSERT INTO todos VALUES (CAST(x'ff61' AS TEXT), ?, 0)", (engine.path.stem,))
    exchange(a, b)
    for engine in (a, b):
        engine.connection.execute("UPDATE todos SET title = title || '!'")
    exchange(a, b)
    (conflict,) = a.get_unresolved_conflicts()
    assert b.get_unresolved_conflicts() == [conflict]
    a.resolve(conflict, "remote")
    exchange(a, b)
    shown = "SELECT hex(id), title FROM todos"
    assert a.connection.execute(shown).fetchall() == b.connection.execute(shown).fetchall()
    assert b.get_unresolved_conflicts() == []
