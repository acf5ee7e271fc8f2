"""We are a guest in somebody's file: nothing that the application sees is other than without us."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from conftest import send
from sqlite_sync import DatabaseError, SchemaError, SyncEngine, SyncError
from sqlite_sync.schema import our_names

PEER = bytes(range(16))

APPLICATION = """
CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT NOT NULL CHECK (length(title) < 20), tag TEXT, made timestamp DEFAULT 0);
CREATE UNIQUE INDEX notes_tag ON notes (tag) WHERE tag IS NOT NULL;
CREATE INDEX notes_title ON notes (title COLLATE NOCASE, abs(made));
CREATE TABLE parts (note INTEGER REFERENCES notes (id) ON DELETE CASCADE, n INT, body BLOB, PRIMARY KEY (note, n)) WITHOUT ROWID;
CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, x);
CREATE TABLE cache (id INTEGER PRIMARY KEY, words);
CREATE VIRTUAL TABLE found USING fts5(title);
CREATE VIEW overview AS SELECT id, title FROM notes;
CREATE TRIGGER notes_found AFTER INSERT ON notes BEGIN INSERT INTO found (rowid, title) VALUES (NEW.id, NEW.title); END;
CREATE TRIGGER "notes; odd ""name" AFTER UPDATE OF title ON notes WHEN NEW.tag IS NULL BEGIN
    INSERT INTO cache (words) VALUES (NEW.title); -- a comment; with a semicolon
END;
CREATE TRIGGER notes_parts AFTER INSERT ON notes WHEN NEW.title = 'with part' BEGIN INSERT INTO parts VALUES (NEW.id, 1, x'00'); END;
CREATE TRIGGER notes_kept BEFORE DELETE ON notes WHEN OLD.title = 'kept' BEGIN SELECT RAISE(ABORT, 'this one is kept'); END;
CREATE TRIGGER overview_write INSTEAD OF INSERT ON overview BEGIN INSERT INTO notes (title) VALUES (NEW.title); END;
INSERT INTO notes (title, tag) VALUES ('first', 'one'), ('second', NULL), ('kept', NULL), ('with part', NULL);
INSERT INTO counted (x) VALUES (1), (2);
DELETE FROM counted WHERE id = 2;
"""
TABLES = ("notes", "parts", "counted")


def applied(path: Path, *before: str) -> Path:
    """Make the application's file, as it was before we came."""
    with closing(sqlite3.connect(path, isolation_level=None)) as plain:
        for statement in before:
            plain.execute(statement)
        plain.executescript(APPLICATION)
    return path


def enabled(path: Path, connect: Callable[[str], sqlite3.Connection] | None = None) -> SyncEngine:
    engine = SyncEngine(path, connect=connect)
    engine.initialize()
    for table in TABLES:
        engine.enable_sync_for_table(table)
    return engine


# --- settings of the file and of the connection -------------------------------------------------------------------

FILE_PRAGMAS = (
    "journal_mode",
    "page_size",
    "user_version",
    "application_id",
    "encoding",
    "auto_vacuum",
    "max_page_count",
)
CONNECTION_PRAGMAS = (
    "foreign_keys", "count_changes", "recursive_triggers", "synchronous", "locking_mode", "busy_timeout", "cache_size", "temp_store", "query_only",
    "defer_foreign_keys", "ignore_check_constraints", "legacy_alter_table", "trusted_schema", "cell_size_check", "automatic_index",
    "reverse_unordered_selects", "secure_delete", "journal_size_limit", "wal_autocheckpoint", "read_uncommitted", "mmap_size",
)  # fmt: skip


def settings(connection: sqlite3.Connection) -> dict[str, object]:
    cursor = connection.cursor()
    cursor.row_factory = None
    found: dict[str, object] = {
        name: cursor.execute(f"PRAGMA {name}").fetchall() for name in (*FILE_PRAGMAS, *CONNECTION_PRAGMAS)
    }
    found["attached"] = [row[1] for row in cursor.execute("PRAGMA database_list") if row[1] not in ("temp", b"temp")]
    found["temporary"] = cursor.execute("SELECT name FROM sqlite_temp_schema").fetchall()
    found["factories"] = (connection.row_factory, connection.text_factory, connection.isolation_level)
    found["in transaction"] = connection.in_transaction
    return found


def every_verb(engine: SyncEngine, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield every verb with work to do, in an order in which each works; then some that fail."""
    peer = enabled(applied(folder / "peer.db"))
    with peer:
        peer.connection.execute("INSERT INTO notes (title, tag) VALUES ('from the peer', 'p')")
        peer.connection.execute("UPDATE notes SET title = 'peer''s' WHERE id = 1")
        incoming = peer.generate_bundle(engine.device_id, folder / "in.bundle")
        assert incoming is not None
        (folder / "shared").mkdir()
        peer.sync_folder(folder / "shared")
    engine.connection.execute("UPDATE main.notes SET title = 'ours' WHERE id = 1")
    yield "initialize", engine.initialize
    yield "dry run", lambda: engine.import_bundle(incoming, dry_run=True)
    yield "import", lambda: engine.import_bundle(incoming)
    yield "import again", lambda: engine.import_bundle(incoming)
    yield "conflicts", engine.get_unresolved_conflicts
    yield "images", lambda: engine.images(engine.get_unresolved_conflicts()[0])
    yield "resolve", lambda: engine.resolve(engine.get_unresolved_conflicts()[0], "remote")
    yield "generate", lambda: engine.generate_bundle(PEER, folder / "out.bundle")
    yield "folder", lambda: engine.sync_folder(folder / "shared")
    yield "operations", lambda: list(engine.operations())
    yield "status", engine.status
    yield "clock", engine.get_vector_clock
    yield "reconcile", engine.reconcile
    yield "fires", lambda: engine.set_trigger_fires("notes_parts", fires=True)
    yield "disable", lambda: engine.disable_sync_for_table("parts")
    yield "enable", lambda: engine.enable_sync_for_table("parts")
    yield "renew", engine.renew_device
    yield "renew by a bundle", lambda: engine.renew_device(incoming)
    yield "no bundle", lambda: engine.import_bundle(engine.path)
    yield "no table", lambda: engine.enable_sync_for_table("nowhere")
    yield "no folder", lambda: engine.generate_bundle(PEER, folder / "nowhere" / "x.bundle")
    yield "uninstall", engine.uninstall
    yield "too late", engine.status


CONNECTIONS: dict[str, Callable[[sqlite3.Connection], object]] = {
    "as it comes": lambda _: None,
    "foreign keys on": lambda c: c.execute("PRAGMA foreign_keys = ON"),
    "recursive triggers": lambda c: c.execute("PRAGMA recursive_triggers = ON"),
    "rows as Row": lambda c: setattr(c, "row_factory", sqlite3.Row),
    "rows as dicts": lambda c: setattr(
        c, "row_factory", lambda cursor, row: {d[0]: v for d, v in zip(cursor.description, row, strict=True)}
    ),
    "rows as lists": lambda c: setattr(c, "row_factory", lambda _, row: list(row)),
    "texts as bytes": lambda c: setattr(c, "text_factory", bytes),
    "texts in Latin-1": lambda c: setattr(c, "text_factory", lambda stored: stored.decode("latin-1")),
    "in reverse": lambda c: c.execute("PRAGMA reverse_unordered_selects = ON"),
    "writes that return a count": lambda c: c.execute("PRAGMA count_changes = ON"),
    "LIKE by case": lambda c: c.execute("PRAGMA case_sensitive_like = ON"),
    "old ALTER TABLE": lambda c: c.execute("PRAGMA legacy_alter_table = ON"),
    "no trusted schema": lambda c: c.execute("PRAGMA trusted_schema = OFF").execute(
        "DROP TRIGGER notes_found"
    ),  # no FTS then
    "locked for itself": lambda c: c.execute("PRAGMA locking_mode = EXCLUSIVE"),
    "temporary files in memory": lambda c: c.execute("PRAGMA temp_store = MEMORY"),
    "an attached file": lambda c: c.execute("ATTACH ':memory:' AS other").execute("CREATE TABLE other.notes (id)"),
    "a temporary view of a synced name": lambda c: c.execute("CREATE TEMP VIEW parts AS SELECT 1 AS mine"),
    "a temporary table of a synced name": lambda c: c.execute("CREATE TEMP TABLE notes (id, title, mine)").execute(
        "INSERT INTO temp.notes VALUES (1, 2, 3)"
    ),
    "temporary tables of names of ours": lambda c: [
        c.execute(f"CREATE TEMP TABLE {name} (mine)") for name in (*our_names(), "sync_keys_1", "sync_notes_1")
    ],
    "temporary views of names of ours": lambda c: [
        c.execute(f"CREATE TEMP VIEW {name} AS SELECT 1 AS mine") for name in our_names()
    ],
    "a temporary trigger": lambda c: c.execute(
        "CREATE TEMP TRIGGER seen AFTER UPDATE ON parts BEGIN INSERT INTO cache (words) VALUES ('seen'); END"
    ),
    "a function": lambda c: c.create_function("upper", 1, lambda _: "mine", deterministic=True),
}


@pytest.mark.filterwarnings("ignore:The default")
@pytest.mark.parametrize("special", CONNECTIONS)
def test_every_verb_works_on_any_connection_and_leaves_its_settings(tmp_path: Path, special: str) -> None:
    path = applied(tmp_path / "a.db", "PRAGMA user_version = 42", "PRAGMA application_id = 77")
    made: list[sqlite3.Connection] = []

    def connect(name: str) -> sqlite3.Connection:
        made.append(sqlite3.connect(name, detect_types=sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES))
        return made[0]

    with SyncEngine(path, connect=connect) as engine:
        CONNECTIONS[special](made[0])
        before = settings(made[0])
        engine.initialize()
        for table in TABLES:
            engine.enable_sync_for_table(table)
        assert settings(made[0]) == before
        for name, verb in every_verb(engine, tmp_path):
            with suppress(SyncError):
                verb()
                assert name not in ("no bundle", "no table", "no folder", "too late")
            assert settings(made[0]) == before, name


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "memory", "wal", "off"])
@pytest.mark.parametrize("page_size", [512, 65536])
def test_the_file_keeps_its_journal_mode_and_its_pages(tmp_path: Path, mode: str, page_size: int) -> None:
    special = [f"PRAGMA page_size = {page_size}", "PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA user_version = -5"]
    path = applied(tmp_path / "a.db", *special, f"PRAGMA journal_mode = {mode}")
    with enabled(path) as engine:
        engine.connection.execute(f"PRAGMA journal_mode = {mode}")
        before = settings(engine.connection)
        assert before["journal_mode"] == [(mode,)]
        for name, verb in every_verb(engine, tmp_path):
            with suppress(SyncError):
                verb()
            assert settings(engine.connection) == before, name
        assert engine.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_authorizer_and_the_trace_of_the_user_stay_in_place(tmp_path: Path) -> None:
    asked: list[str | None] = []
    traced: list[str] = []

    def authorize(_: int, first: str | None, *__: str | None) -> int:
        asked.append(first)
        return sqlite3.SQLITE_OK

    with enabled(applied(tmp_path / "a.db")) as engine:
        engine.connection.set_authorizer(authorize)
        engine.connection.set_trace_callback(traced.append)
        for _, verb in every_verb(engine, tmp_path):
            with suppress(SyncError):
                verb()
        asked.clear()
        traced.clear()
        engine.connection.execute("SELECT title FROM notes").fetchall()
        assert "notes" in asked
        assert traced == ["SELECT title FROM notes"]


@pytest.mark.parametrize("name", ["notes", "sync_operations", "sync_state", "sync_devices"])
def test_a_temporary_table_hides_nothing_from_us(tmp_path: Path, name: str) -> None:
    with enabled(applied(tmp_path / "a.db")) as a, enabled(applied(tmp_path / "b.db")) as b:
        for engine in (a, b):
            engine.connection.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM main.{name}")
        hidden = b.connection.execute(f"SELECT * FROM temp.{name}").fetchall()
        a.connection.execute("UPDATE main.notes SET title = 'ours' WHERE id = 1")
        send(a, b)
        assert b.connection.execute("SELECT title FROM main.notes WHERE id = 1").fetchone() == ("ours",)
        assert [engine.reconcile() for engine in (a, b)] == [0, 0]
        assert b.connection.execute(f"SELECT * FROM temp.{name}").fetchall() == hidden


@pytest.mark.parametrize("name", ["sync_new", "sync_contested_1"])
def test_a_temporary_table_in_the_way_of_ours_is_named(tmp_path: Path, name: str) -> None:
    with enabled(applied(tmp_path / "a.db")) as a, enabled(applied(tmp_path / "b.db")) as b:
        b.connection.execute(f"CREATE TEMP TABLE {name} (mine)")
        a.connection.execute("UPDATE notes SET title = 'ours' WHERE id = 1")
        with pytest.raises(SchemaError, match=f"temporary {name}.*rename it"):
            send(a, b)
        b.connection.execute(f"DROP TABLE temp.{name}")
        send(a, b)


def test_what_an_unfinished_select_held_is_let_go_when_it_ends(tmp_path: Path) -> None:
    """SQLite lets a file go only when no statement reads any more; the bundle is away at the next look."""
    with enabled(applied(tmp_path / "a.db")) as a, enabled(applied(tmp_path / "b.db")) as b:
        a.connection.execute("UPDATE notes SET title = 'ours' WHERE id = 1")
        cursor = b.connection.execute("SELECT * FROM notes")
        cursor.fetchone()
        with pytest.raises(DatabaseError, match="finish or close its cursors"):
            send(a, b)
        cursor.close()
        assert [row[1] for row in b.connection.execute("PRAGMA database_list")] == ["main", "temp"]


# --- the application's statements ---------------------------------------------------------------------------------

STATEMENTS = [
    "INSERT INTO notes (title) VALUES ('a'), ('b'), ('c')",
    "INSERT INTO notes (title, tag) VALUES ('d', 'two') RETURNING id, title",
    "INSERT INTO notes VALUES (100, 'hundred', NULL, 0)",
    "INSERT INTO notes (title) VALUES ('with part')",
    "INSERT INTO notes (title, tag) VALUES ('twin', 'one')",
    "INSERT OR IGNORE INTO notes (title, tag) VALUES ('twin', 'one'), ('other', 'three')",
    "INSERT OR FAIL INTO notes (title, tag) VALUES ('kept by FAIL', 'four'), ('twin', 'one'), ('never', 'five')",
    "INSERT OR REPLACE INTO notes (title, tag) VALUES ('replaces by tag', 'one')",
    "REPLACE INTO notes VALUES (100, 'replaces by key', NULL, 1)",
    "INSERT INTO notes VALUES (100, 'upsert', 'x', 2) ON CONFLICT (id) DO UPDATE SET title = 'upserted'",
    "INSERT INTO notes VALUES (100, 'upsert', 'x', 2) ON CONFLICT DO NOTHING",
    "INSERT INTO notes (title) VALUES (NULL)",
    "INSERT INTO notes (title) VALUES ('a title of more than twenty letters')",
    "INSERT INTO notes (id, title) VALUES ('no number', 'x')",
    "INSERT INTO notes (nowhere) VALUES (1)",
    "INSERT INTO notes VALUES (1)",
    "INSERT INTO overview (title) VALUES ('through a view')",
    "INSERT INTO counted (x) VALUES ('next'), ('after')",
    "INSERT INTO counted VALUES (1, 'again')",
    "INSERT INTO counted DEFAULT VALUES",
    "INSERT INTO parts VALUES (1, 1, x'01'), (1, 2, zeroblob(10))",
    "INSERT INTO parts VALUES (999, 1, NULL)",
    "INSERT INTO parts VALUES (1, 1, NULL)",
    "UPDATE notes SET title = title",
    "UPDATE notes SET title = upper(title) WHERE id < 4 RETURNING *",
    "UPDATE notes SET tag = 'one'",
    "UPDATE OR IGNORE notes SET tag = 'one'",
    "UPDATE OR REPLACE notes SET tag = 'one' WHERE id > 1",
    "UPDATE notes SET title = NULL",
    "UPDATE notes SET id = id + 1000",
    "UPDATE notes SET id = 1",
    "UPDATE notes SET rowid = 5000 WHERE title = 'kept'",
    "UPDATE notes SET title = c.x FROM counted AS c WHERE c.id = notes.id",
    "UPDATE parts SET n = n + 10",
    "UPDATE notes SET nowhere = 1",
    "DELETE FROM notes WHERE title = 'kept'",
    "DELETE FROM notes WHERE id = 1",
    "DELETE FROM counted",
    "DELETE FROM notes WHERE title <> 'kept' RETURNING id",
    "DELETE FROM nowhere",
    "CREATE TABLE later (id INTEGER PRIMARY KEY)",
    "CREATE INDEX later_index ON counted (x)",
    "ALTER TABLE counted ADD COLUMN y DEFAULT 7",
    "INSERT INTO counted (x, y) VALUES (1, 2)",
    "ALTER TABLE counted RENAME COLUMN x TO z",
    "UPDATE counted SET z = 5",
    "ALTER TABLE counted DROP COLUMN y",
    "ALTER TABLE counted RENAME TO numbered",
    "INSERT INTO numbered (z) VALUES (1)",
    "ANALYZE",
    "REINDEX",
    "DROP INDEX later_index",
    "DROP TABLE later",
    "DROP TABLE parts",
    "PRAGMA integrity_check",
    "PRAGMA foreign_key_check",
]


def said(connection: sqlite3.Connection, statement: str) -> tuple[object, ...]:
    """Run a statement as an application does, and return everything that it sees of it."""
    answer: object
    cursor = connection.cursor()
    try:
        answer = cursor.execute(statement).fetchall()
    except sqlite3.Error as error:
        answer = type(error), str(error), error.sqlite_errorname
    (last, changes) = connection.execute("SELECT last_insert_rowid(), changes()").fetchone()
    tables = [
        name for name in ("notes", "parts", "counted", "numbered", "cache", "found") if _is_there(connection, name)
    ]
    return (
        answer,
        last,
        changes,
        connection.in_transaction,
        [connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables],
    )


def _is_there(connection: sqlite3.Connection, name: str) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (name,)).fetchone() is not None


@pytest.mark.parametrize("foreign_keys", ["ON", "OFF"])
@pytest.mark.parametrize("recursive_triggers", ["ON", "OFF"])
@pytest.mark.parametrize("through", ["the engine", "another connection"])
def test_an_application_sees_no_difference_in_any_statement(
    tmp_path: Path, foreign_keys: str, recursive_triggers: str, through: str
) -> None:
    with (
        closing(sqlite3.connect(applied(tmp_path / "plain.db"), isolation_level=None)) as plain,
        enabled(applied(tmp_path / "a.db")) as engine,
    ):
        synced = engine.connection if through == "the engine" else sqlite3.connect(engine.path, isolation_level=None)
        for connection in (plain, synced):
            connection.execute(f"PRAGMA foreign_keys = {foreign_keys}")
            connection.execute(f"PRAGMA recursive_triggers = {recursive_triggers}")
        differing = {}
        for statement in STATEMENTS:
            one, other = said(plain, statement), said(synced, statement)
            if one != other:
                differing[statement] = one[:4], other[:4]
        assert differing == {}
        if synced is not engine.connection:
            synced.close()


@pytest.mark.parametrize("with_conflict", [False, True])
def test_the_same_with_transactions_savepoints_and_open_conflicts(tmp_path: Path, *, with_conflict: bool) -> None:
    script = [
        "INSERT INTO cache (words) VALUES ('start')", "BEGIN", *STATEMENTS[:12], "SAVEPOINT s", *STATEMENTS[20:34], "ROLLBACK TO s", "RELEASE s", *STATEMENTS[34:38], "COMMIT",
        "BEGIN IMMEDIATE", *STATEMENTS[:5], "INSERT OR ROLLBACK INTO notes VALUES (100, 'x', NULL, 0), (100, 'x', NULL, 0)", "ROLLBACK",
    ]  # fmt: skip
    with enabled(applied(tmp_path / "a.db")) as a, enabled(applied(tmp_path / "b.db")) as b:
        if with_conflict:
            a.connection.execute("UPDATE notes SET title = 'a'")
            b.connection.execute("UPDATE notes SET title = 'b'")
            send(a, b)
            send(b, a)
            assert len(a.get_unresolved_conflicts()) == 4
        with closing(sqlite3.connect(tmp_path / "plain.db", isolation_level=None)) as plain:
            a.connection.backup(plain)
            a.uninstall() if not with_conflict else None
            _strip(plain)
            with enabled(tmp_path / "a.db") if not with_conflict else a as synced:
                differing = {}
                for statement in script:
                    one, other = said(plain, statement), said(synced.connection, statement)
                    if one != other:
                        differing[statement] = one[:4], other[:4]
                assert differing == {}


def _strip(plain: sqlite3.Connection) -> None:
    """Take our triggers away by hand, so that the application is alone."""
    names = [
        name
        for (name,) in plain.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'sync%'"
        ).fetchall()
    ]
    for name in names:
        plain.execute(f'DROP TRIGGER "{name}"')


def test_the_order_of_the_applications_triggers_survives_an_import(tmp_path: Path) -> None:
    """SQLite fires the newest first, and applications have come to rely on it."""
    with enabled(applied(tmp_path / "a.db")) as a, enabled(applied(tmp_path / "b.db")) as b:
        select = "SELECT tbl_name, name FROM sqlite_schema WHERE type = 'trigger' AND name NOT LIKE 'sync%' ORDER BY tbl_name, rowid"
        before = b.connection.execute(select).fetchall()
        a.connection.execute("INSERT INTO notes (title) VALUES ('with part')")
        a.connection.execute("UPDATE notes SET title = 'changed' WHERE id = 2")
        send(a, b)
        assert b.connection.execute(select).fetchall() == before


@pytest.mark.parametrize("name", ["sync_found", "sync_insert_found", "SYNC_notes"])
def test_a_trigger_of_the_applications_that_has_our_prefix_is_its_own(tmp_path: Path, name: str) -> None:
    for path in (applied(tmp_path / "a.db"), applied(tmp_path / "b.db")):
        with closing(sqlite3.connect(path)) as plain:
            plain.execute(
                f"CREATE TRIGGER {name} AFTER UPDATE ON counted BEGIN INSERT INTO cache (words) VALUES ('x'); END"
            )
    with enabled(tmp_path / "a.db") as a, enabled(tmp_path / "b.db") as b:
        assert [table.problem for table in b.status().tables] == [None, None, None]
        a.connection.execute("UPDATE counted SET x = 'changed'")
        send(a, b)
        assert b.connection.execute("SELECT words FROM cache").fetchall() == [
            ("x",)
        ]  # it writes only what is not synced
        b.uninstall()
        assert b.connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = ?", (name,)).fetchone() == (1,)


# --- leaving ------------------------------------------------------------------------------------------------------


def everything(path: Path) -> tuple[object, ...]:
    """Return the schema in its order, and all rows with their rowids where they have one."""
    with closing(sqlite3.connect(path)) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        schema = plain.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
        return schema, list(plain.iterdump()), settings(plain)["user_version"], settings(plain)["application_id"]


def test_uninstall_leaves_no_trace(tmp_path: Path) -> None:
    path = applied(tmp_path / "a.db", "PRAGMA user_version = 42", "PRAGMA application_id = 77")
    before = everything(path)
    with enabled(path) as engine:
        engine.uninstall()
    assert everything(path) == before


def test_uninstall_leaves_no_trace_but_the_data_after_everything_was_done(tmp_path: Path) -> None:
    path = applied(tmp_path / "a.db", "PRAGMA user_version = 42", "PRAGMA application_id = 77")
    schema_before = everything(path)[0]
    with enabled(path) as engine:
        for name, verb in every_verb(engine, tmp_path):
            if name == "uninstall":
                engine.connection.execute("ANALYZE")
                alone = tmp_path / "alone.db"
                with closing(sqlite3.connect(alone)) as copy:
                    engine.connection.backup(copy)
                verb()
                break
            with suppress(SyncError):
                verb()
        assert engine.connection.execute("SELECT count(*) FROM sqlite_stat1 WHERE tbl LIKE 'sync%'").fetchone() == (0,)
    schema_after = [row for row in everything(path)[0] if not row[1].startswith("sqlite_stat")]
    assert sorted(schema_after, key=repr) == sorted(schema_before, key=repr)
    for table in (*TABLES, "cache", "found", "sqlite_sequence"):
        with closing(sqlite3.connect(path)) as plain, closing(sqlite3.connect(alone)) as with_us:
            select = f"SELECT * FROM {table}"
            assert plain.execute(select).fetchall() == with_us.execute(select).fetchall()


def test_after_uninstall_one_can_begin_again(tmp_path: Path) -> None:
    with enabled(applied(tmp_path / "a.db")) as engine:
        former = engine.device_id
        for _ in range(2):
            engine.uninstall()
            assert engine.initialize() != former
            assert [engine.enable_sync_for_table(table) for table in TABLES] == [4, 1, 1]
        assert engine.status().open_conflicts == 0


def test_opening_a_file_without_initialize_changes_nothing_in_it(tmp_path: Path) -> None:
    path = applied(tmp_path / "a.db")
    before = path.read_bytes()
    with SyncEngine(path) as engine:
        engine.connection.execute("SELECT * FROM notes").fetchall()
    assert path.read_bytes() == before


def test_opening_a_prepared_file_changes_nothing_in_it(tmp_path: Path) -> None:
    path = applied(tmp_path / "a.db")
    enabled(path).close()
    before = path.read_bytes()
    with enabled(path) as engine:
        engine.status()
        engine.get_unresolved_conflicts()
        list(engine.operations())
    assert path.read_bytes() == before
