"""The application's own triggers: which of them fire during import, and that what they write is never captured then."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from conftest import MakeEngine, exchange, rows, send
from sqlite_sync import AppTrigger, KeepBoth, SyncEngine, TableError

NOTES = "CREATE TABLE notes (id INTEGER PRIMARY KEY, title TEXT, body TEXT);"
SEARCH = """
    CREATE VIRTUAL TABLE found USING fts5(title, body, content='notes', content_rowid='id');
    CREATE TRIGGER notes_ai AFTER INSERT ON notes BEGIN
        INSERT INTO found (rowid, title, body) VALUES (new.id, new.title, new.body);
    END;
    CREATE TRIGGER notes_ad AFTER DELETE ON notes BEGIN
        INSERT INTO found (found, rowid, title, body) VALUES ('delete', old.id, old.title, old.body);
    END;
    CREATE TRIGGER notes_au AFTER UPDATE ON notes BEGIN
        INSERT INTO found (found, rowid, title, body) VALUES ('delete', old.id, old.title, old.body);
        INSERT INTO found (rowid, title, body) VALUES (new.id, new.title, new.body);
    END;
"""
AUDIT = """
    CREATE TABLE audit (what, id);
    CREATE TRIGGER audit_insert AFTER INSERT ON notes BEGIN INSERT INTO audit VALUES ('insert', NEW.id); END;
    CREATE TRIGGER audit_update BEFORE UPDATE ON notes BEGIN INSERT INTO audit VALUES ('update', OLD.id); END;
    CREATE TRIGGER audit_delete AFTER DELETE ON notes BEGIN INSERT INTO audit VALUES ('delete', OLD.id); END;
"""
COUNTER = """
    CREATE TABLE counts (name TEXT PRIMARY KEY, n INTEGER);
    INSERT INTO counts VALUES ('notes', 0);
    CREATE TRIGGER count_up AFTER INSERT ON notes BEGIN UPDATE counts SET n = n + 1; END;
    CREATE TRIGGER count_down AFTER DELETE ON notes BEGIN UPDATE counts SET n = n - 1; END;
"""
GUARD = """
    CREATE TRIGGER guard BEFORE INSERT ON notes WHEN NEW.title = 'forbidden'
    BEGIN SELECT RAISE(ABORT, 'this title is forbidden'); END;
"""
BOTH = """
    CREATE TABLE seen (id);
    CREATE TABLE counts (name TEXT PRIMARY KEY, n INTEGER);
    CREATE TRIGGER both AFTER INSERT ON notes BEGIN
        INSERT INTO seen VALUES (NEW.id);
        INSERT INTO counts VALUES (NEW.title, 1) ON CONFLICT (name) DO UPDATE SET n = n + 1;
    END;
"""


def trigger(engine: SyncEngine, name: str) -> AppTrigger:
    (found,) = (one for one in engine.status().triggers if one.name == name)
    return found


def search(engine: SyncEngine, words: str) -> list[int]:
    return [
        rowid
        for (rowid,) in engine.connection.execute(
            "SELECT rowid FROM found WHERE found MATCH ? ORDER BY rowid", (words,)
        )
    ]


def index_is_sound(engine: SyncEngine) -> bool:
    """FTS5 itself compares its index with the content table, and fails where they differ."""
    engine.connection.execute("INSERT INTO found (found, rank) VALUES ('integrity-check', 1)")
    return True


def app_triggers(engine: SyncEngine) -> list[str]:
    """Name the application's triggers in the order in which SQLite reads them from the file."""
    found = engine.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger' ORDER BY rowid")
    return [name for (name,) in found if not name.startswith("sync_")]


# --- what fires ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clause", ["IGNORE", "REPLACE"])
def test_a_trigger_that_fires_may_ignore_or_replace_what_it_meets(make: MakeEngine, clause: str) -> None:
    cache = f"""
        CREATE TABLE titles (title PRIMARY KEY, id);
        CREATE TRIGGER keep_new AFTER INSERT ON notes BEGIN
            INSERT OR {clause} INTO titles VALUES (NEW.title, NEW.id);
        END;
        CREATE TRIGGER keep_changed AFTER UPDATE ON notes BEGIN
            INSERT OR {clause} INTO titles VALUES (NEW.title, NEW.id);
        END;
    """
    a, b = (make(name, NOTES + cache, ("notes",), keys="natural") for name in "ab")
    a.connection.execute("INSERT INTO notes VALUES (1, 'milk', ''), (2, 'milk', ''), (3, 'tea', '')")
    send(a, b)
    a.connection.execute("UPDATE notes SET title = 'milk' WHERE id = 3")
    b.connection.execute("UPDATE notes SET body = 'buy some' WHERE id = 3")
    exchange(a, b)
    b.resolve_all(KeepBoth())
    exchange(a, b)

    assert rows(a, "notes") == rows(b, "notes")
    assert len(rows(b, "notes")) == 4
    assert b.get_unresolved_conflicts() == []
    assert b.connection.execute("SELECT title, count(*) FROM titles GROUP BY 1").fetchall() == [("milk", 1), ("tea", 1)]


@pytest.mark.parametrize("enabled", ["after the triggers", "before the triggers"])
def test_a_full_text_index_is_maintained_by_import(make: MakeEngine, enabled: str) -> None:
    a, b = (make(name, NOTES if enabled.startswith("before") else NOTES + SEARCH, ("notes",)) for name in "ab")
    if enabled.startswith("before"):
        a.connection.executescript(SEARCH)
        b.connection.executescript(SEARCH)
    a.connection.execute(
        "INSERT INTO notes VALUES (1, 'milk', 'buy some'), (2, 'bread', 'bake some'), (3, 'tea', 'drink it')"
    )
    send(a, b)
    assert search(b, "some") == [1, 2]

    a.connection.execute("UPDATE notes SET body = 'buy none' WHERE id = 1")
    a.connection.execute("DELETE FROM notes WHERE id = 2")
    a.connection.execute("UPDATE notes SET id = 9 WHERE id = 3")
    send(a, b)

    assert (search(b, "some"), search(b, "none"), search(b, "tea")) == ([], [1], [9])
    assert index_is_sound(b)
    assert rows(a, "notes") == rows(b, "notes")
    assert trigger(b, "notes_au").fires
    assert b.device_id not in b.get_vector_clock()


def test_a_full_text_index_is_right_after_a_conflict(make: MakeEngine) -> None:
    a, b = (make(name, NOTES + SEARCH, ("notes",)) for name in "ab")
    a.connection.execute("INSERT INTO notes VALUES (1, 'one', 'both')")
    send(a, b)
    a.connection.execute("UPDATE notes SET body = 'alpha'")
    b.connection.execute("UPDATE notes SET body = 'beta'")
    send(a, b)
    send(b, a)

    for engine in (a, b):
        (conflict,) = engine.get_unresolved_conflicts()
        assert index_is_sound(engine)
        assert (search(engine, "alpha"), search(engine, "beta")) == ([], [1])
    a.resolve(conflict, "remote")
    send(a, b)

    for engine in (a, b):
        assert index_is_sound(engine)
        assert search(engine, "alpha") == [1]


def test_an_audit_into_an_unsynced_table_fires(make: MakeEngine) -> None:
    a, b = (make(name, NOTES + AUDIT, ("notes",)) for name in "ab")
    a.connection.execute("INSERT INTO notes VALUES (1, 'x', NULL), (2, 'y', NULL)")
    send(a, b)
    a.connection.execute("UPDATE notes SET title = 'z' WHERE id = 1")
    a.connection.execute("DELETE FROM notes WHERE id = 2")
    send(a, b)

    assert sorted(b.connection.execute("SELECT * FROM audit")) == [
        ("delete", 2),
        ("insert", 1),
        ("insert", 2),
        ("update", 1),
    ]
    assert trigger(b, "audit_insert") == AppTrigger(
        "audit_insert", "notes", ("audit",), fires=True, reason="it writes only what is not synced"
    )


def test_a_counter_in_a_synced_table_does_not_count_twice(make: MakeEngine) -> None:
    a, b = (make(name, NOTES + COUNTER, ("notes", "counts")) for name in "ab")
    a.connection.execute("INSERT INTO notes VALUES (1, 'x', NULL), (2, 'y', NULL), (3, 'z', NULL)")
    a.connection.execute("DELETE FROM notes WHERE id = 2")
    send(a, b)

    assert b.connection.execute("SELECT n FROM counts").fetchall() == [(2,)]
    assert rows(a, "counts") == rows(b, "counts")
    assert not trigger(b, "count_up").fires
    assert send(b, a) is None
    assert b.device_id not in b.get_vector_clock()


def test_a_counter_that_is_not_synced_counts_on_each_device(make: MakeEngine) -> None:
    a, b = (make(name, NOTES + COUNTER, ("notes",)) for name in "ab")
    a.connection.execute("INSERT INTO notes VALUES (1, 'x', NULL), (2, 'y', NULL)")
    send(a, b)

    assert b.connection.execute("SELECT n FROM counts").fetchall() == [(2,)]


def test_a_trigger_that_only_raises_does_not_fire(make: MakeEngine) -> None:
    """The author's device has let the row in: refusing it here would stop every import."""
    a, b = make("a", NOTES, ("notes",)), make("b", NOTES + GUARD, ("notes",))
    a.connection.execute("INSERT INTO notes VALUES (1, 'forbidden', NULL)")
    send(a, b)

    assert rows(a, "notes") == rows(b, "notes")
    assert not trigger(b, "guard").fires
    with pytest.raises(sqlite3.IntegrityError, match="forbidden"):
        b.connection.execute("INSERT INTO notes VALUES (2, 'forbidden', NULL)")


def test_a_trigger_that_does_both_is_reported_and_does_not_fire(make: MakeEngine) -> None:
    a, b = (make(name, NOTES + BOTH, ("notes", "counts")) for name in "ab")
    a.connection.execute("INSERT INTO notes VALUES (1, 'x', NULL), (2, 'x', NULL)")
    send(a, b)

    found = trigger(b, "both")
    assert (found.fires, found.writes) == (False, ("counts", "seen"))
    assert "say whether it fires" in found.reason
    assert b.connection.execute("SELECT count(*) FROM seen").fetchone() == (0,)
    assert rows(a, "counts") == rows(b, "counts")


def test_the_users_word_on_a_trigger_overrules_the_rule(make: MakeEngine) -> None:
    a, b = (make(name, NOTES + AUDIT + BOTH, ("notes",)) for name in "ab")
    b.set_trigger_fires("BOTH", fires=False)
    b.set_trigger_fires("audit_insert", fires=False)
    a.connection.execute("INSERT INTO notes VALUES (1, 'x', NULL)")
    send(a, b)
    assert b.connection.execute("SELECT (SELECT count(*) FROM seen) + (SELECT count(*) FROM audit)").fetchone() == (0,)
    assert "you said so" in trigger(b, "both").reason

    b.set_trigger_fires("both", fires=None)
    b.set_trigger_fires("audit_insert", fires=True)
    a.connection.execute("INSERT INTO notes VALUES (2, 'y', NULL)")
    send(a, b)
    assert b.connection.execute("SELECT * FROM seen").fetchall() == [(2,)]
    assert b.connection.execute("SELECT * FROM audit").fetchall() == [("insert", 2)]


def test_what_a_trigger_writes_when_the_user_lets_it_fire_is_not_captured(make: MakeEngine) -> None:
    """It writes a synced table: the rows that arrive for it win, and nothing new goes back."""
    a, b = (make(name, NOTES + BOTH, ("notes", "counts")) for name in "ab")
    b.set_trigger_fires("both", fires=True)
    a.connection.execute("INSERT INTO notes VALUES (1, 'x', NULL)")
    before = b.get_vector_clock().get(b.device_id)

    send(a, b)

    assert b.connection.execute("SELECT * FROM seen").fetchall() == [(1,)]
    assert b.get_vector_clock().get(b.device_id) == before
    assert rows(b, "counts") == rows(a, "counts")
    assert b.get_unresolved_conflicts() == []


def test_what_a_trigger_writes_is_left_out_also_where_the_same_bundle_writes_that_table(make: MakeEngine) -> None:
    """Rows that arrive for `counts` are updated and deleted while the trigger would write others there."""
    a, b = (make(name, NOTES + BOTH, ("notes", "counts")) for name in "ab")
    b.set_trigger_fires("both", fires=True)
    for sql in (
        "INSERT INTO notes VALUES (1, 'x', NULL), (2, 'y', NULL), (3, 'x', NULL)",
        "INSERT INTO notes VALUES (4, 'x', NULL), (5, 'z', NULL)",
        "INSERT INTO counts VALUES ('own', 9)",
        "UPDATE counts SET n = 7 WHERE name = 'y'",
        "DELETE FROM counts WHERE name = 'x'",
    ):
        a.connection.execute(sql)
        if "own" in sql:
            send(a, b)
    b.connection.execute("INSERT INTO notes VALUES (6, 'mine', NULL)")
    send(a, b)
    send(b, a)

    assert rows(a, "counts") == rows(b, "counts")
    assert rows(a, "notes") == rows(b, "notes")
    assert sorted(b.connection.execute("SELECT id FROM seen")) == [(1,), (2,), (3,), (4,), (5,), (6,)]
    assert [engine.reconcile() for engine in (a, b)] == [0, 0]


def test_a_trigger_that_writes_its_own_table_cannot_be_let_fire(make: MakeEngine) -> None:
    own = """
        CREATE TABLE seen (id);
        CREATE TRIGGER own AFTER INSERT ON notes
        BEGIN INSERT INTO seen VALUES (NEW.id); UPDATE notes SET body = 'own' WHERE id = NEW.id; END;
    """
    a, b = (make(name, NOTES + own, ("notes",)) for name in "ab")
    b.set_trigger_fires("own", fires=True)
    a.connection.execute("INSERT INTO notes VALUES (1, 'x', NULL)")
    send(a, b)

    assert not trigger(b, "own").fires
    assert trigger(b, "own").reason == "it writes notes itself, so it cannot fire while that is written"
    assert rows(a, "notes") == rows(b, "notes")


@pytest.mark.parametrize("on", ["notes", "main.notes"])
def test_a_temporary_trigger_is_judged_like_any_other(make: MakeEngine, on: str) -> None:
    """It stands on one connection only, and that is the one through which bundles come in."""
    a, b = (make(name, NOTES + "CREATE TABLE audit (x)", ("notes",)) for name in "ab")
    b.connection.execute("CREATE TEMP TABLE cache (id)")
    b.connection.execute(
        f"CREATE TEMP TRIGGER outside AFTER INSERT ON {on} BEGIN INSERT INTO cache VALUES (NEW.id); END"
    )
    b.connection.execute(f"CREATE TEMP TRIGGER inside AFTER INSERT ON {on} BEGIN UPDATE notes SET body = 'again'; END")
    a.connection.execute("INSERT INTO notes VALUES (1, 'x', NULL)")
    send(a, b)

    assert [(trigger(b, name).fires, trigger(b, name).is_temporary) for name in ("outside", "inside")] == [
        (True, True),
        (False, True),
    ]
    assert b.connection.execute("SELECT * FROM cache").fetchall() == [(1,)]
    assert rows(a, "notes") == rows(b, "notes")
    assert b.connection.execute("SELECT count(*) FROM sqlite_temp_schema WHERE type = 'trigger'").fetchone() == (2,)


def test_a_word_on_a_trigger_that_is_not_there_is_refused(make: MakeEngine) -> None:
    with pytest.raises(TableError, match="no trigger 'nobody'"):
        make().set_trigger_fires("nobody", fires=True)


def test_a_chain_of_triggers_is_followed_to_its_end(make: MakeEngine) -> None:
    """`first` writes an unsynced table, whose trigger writes a synced one."""
    schema = """
        CREATE TABLE middle (x); CREATE TABLE last (x TEXT PRIMARY KEY);
        CREATE TRIGGER first AFTER INSERT ON notes BEGIN INSERT INTO middle VALUES (NEW.title); END;
        CREATE TRIGGER second AFTER INSERT ON middle BEGIN INSERT INTO last VALUES (NEW.x); END;
    """
    a, b = (make(name, NOTES + schema, ("notes", "last")) for name in "ab")
    a.connection.execute("INSERT INTO notes VALUES (1, 'x', NULL)")
    send(a, b)

    assert (trigger(b, "first").writes, trigger(b, "first").fires) == (("last", "middle"), False)
    assert rows(b, "last") == rows(a, "last")
    assert len(rows(b, "last")) == 1


def test_what_a_synced_tables_own_triggers_maintain_is_no_question_to_those_that_write_it(make: MakeEngine) -> None:
    """A line takes from the stock; the notes' index follows the stock on each device, by its own triggers."""
    lines = """
        CREATE TABLE lines (id TEXT PRIMARY KEY, note INTEGER);
        CREATE TRIGGER take AFTER INSERT ON lines BEGIN
            UPDATE notes SET body = body || ' taken' WHERE id = NEW.note;
        END;
    """
    a, b = (make(name, NOTES + SEARCH + lines, ("notes", "lines"), "natural") for name in "ab")
    one = trigger(a, "take")
    assert (one.writes, one.fires, one.is_undecided) == (("notes",), False, False)
    assert one.reason == "what it writes to notes arrives as operations"
    a.connection.execute("INSERT INTO notes VALUES (1, 'pen', 'blue')")
    a.connection.execute("INSERT INTO lines VALUES ('x', 1)")
    send(a, b)
    assert search(b, "taken") == search(a, "taken") == [1]
    assert index_is_sound(b)
    assert b.connection.execute("SELECT body FROM notes").fetchall() == [("blue taken",)]


def test_a_cache_that_is_kept_by_an_upsert_on_a_unique_index_fires(make: MakeEngine) -> None:
    schema = """
        CREATE TABLE words (word, n); CREATE UNIQUE INDEX words_word ON words (word);
        CREATE TRIGGER count_words AFTER INSERT ON notes
        BEGIN INSERT INTO words VALUES (NEW.title, 1) ON CONFLICT (word) DO UPDATE SET n = n + 1; END;
    """
    a, b = (make(name, NOTES + schema, ("notes",)) for name in "ab")
    a.connection.execute("INSERT INTO notes VALUES (1, 'x', NULL), (2, 'x', NULL)")
    send(a, b)

    assert trigger(b, "count_words").writes == ("words",)
    assert b.connection.execute("SELECT * FROM words").fetchall() == [("x", 2)]


def test_a_trigger_that_writes_through_a_view_is_understood(make: MakeEngine) -> None:
    schema = """
        CREATE TABLE journal (x); CREATE VIEW entries AS SELECT x FROM journal;
        CREATE TRIGGER write_entries INSTEAD OF INSERT ON entries BEGIN INSERT INTO journal VALUES (NEW.x); END;
        CREATE TRIGGER note_entry AFTER INSERT ON notes BEGIN INSERT INTO entries VALUES (NEW.id); END;
    """
    a, b = (make(name, NOTES + schema, ("notes",)) for name in "ab")
    a.connection.execute("INSERT INTO notes VALUES (7, 'x', NULL)")
    send(a, b)

    assert "journal" in trigger(b, "note_entry").writes
    assert b.connection.execute("SELECT * FROM journal").fetchall() == [(7,)]


def test_writes_through_an_instead_of_trigger_are_captured(make: MakeEngine) -> None:
    schema = """
        CREATE VIEW titles AS SELECT id, title FROM notes;
        CREATE TRIGGER titles_insert INSTEAD OF INSERT ON titles BEGIN INSERT INTO notes VALUES (NEW.id, NEW.title, 'view'); END;
        CREATE TRIGGER titles_update INSTEAD OF UPDATE ON titles BEGIN UPDATE notes SET title = NEW.title WHERE id = OLD.id; END;
        CREATE TRIGGER titles_delete INSTEAD OF DELETE ON titles BEGIN DELETE FROM notes WHERE id = OLD.id; END;
    """
    a, b = (make(name, NOTES + schema, ("notes",)) for name in "ab")
    for sql in (
        "INSERT INTO titles VALUES (1, 'x'), (2, 'y')",
        "UPDATE titles SET title = 'z' WHERE id = 1",
        "DELETE FROM titles WHERE id = 2",
    ):
        a.connection.execute(sql)
        send(a, b)

    assert rows(a, "notes") == rows(b, "notes") == [(("int", 1), ("str", "z"), ("str", "view"))]
    assert a.status().triggers == ()


# --- what only the application has --------------------------------------------------------------------------------


def connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.create_function("shout", 1, lambda text: f"{text}!", deterministic=True)
    connection.create_collation(
        "unicase", lambda one, other: (one.casefold() > other.casefold()) - (one.casefold() < other.casefold())
    )
    return connection


@pytest.fixture
def libraries(tmp_path: Path) -> Iterator[tuple[SyncEngine, SyncEngine]]:
    """Two devices of an application with functions and collations of its own."""
    schema = """
        CREATE TABLE books (
            title TEXT COLLATE unicase PRIMARY KEY, price, loud AS (shout(title)) STORED, CHECK (shout(price) <> 'no!')
        );
        CREATE INDEX books_loud ON books (shout(price));
        CREATE TABLE names (name TEXT COLLATE unicase UNIQUE);
        CREATE TRIGGER names_insert AFTER INSERT ON books BEGIN INSERT INTO names VALUES (shout(NEW.title)); END;
        CREATE TRIGGER price_insert AFTER INSERT ON books WHEN NEW.price IS NULL
        BEGIN UPDATE books SET price = shout('free') WHERE title = NEW.title; END;
    """
    with SyncEngine(tmp_path / "a.db", connect=connect) as a, SyncEngine(tmp_path / "b.db", connect=connect) as b:
        for engine in (a, b):
            engine.initialize()
            engine.connection.executescript(schema)
            engine.enable_sync_for_table("books")
        yield a, b


def test_functions_and_collations_that_only_the_application_has_do_not_hide_what_a_trigger_writes(
    libraries: tuple[SyncEngine, SyncEngine],
) -> None:
    a, b = libraries
    assert (trigger(b, "names_insert").writes, trigger(b, "names_insert").fires) == (("names",), True)
    assert (trigger(b, "price_insert").writes, trigger(b, "price_insert").fires) == (("books",), False)

    a.connection.execute("INSERT INTO books (title, price) VALUES ('Ärger', 1), ('Zorn', NULL)")
    send(a, b)
    a.connection.execute("UPDATE books SET title = 'ÄRGER' WHERE title = 'ärger'")
    send(a, b)

    assert rows(a, "books") == rows(b, "books")
    assert sorted(b.connection.execute("SELECT name FROM names")) == [("Zorn!",), ("Ärger!",)]


def test_a_row_whose_key_has_a_collation_of_the_application_conflicts_as_one_row(
    libraries: tuple[SyncEngine, SyncEngine],
) -> None:
    a, b = libraries
    a.connection.execute("INSERT INTO books (title, price) VALUES ('Ärger', 1)")
    send(a, b)
    a.connection.execute("UPDATE books SET price = 2")
    b.connection.execute("UPDATE books SET title = 'äRGER', price = 3")
    send(a, b)
    send(b, a)

    assert rows(a, "books") == rows(b, "books")
    for engine in libraries:
        assert [conflict.kind for conflict in engine.get_unresolved_conflicts()] == ["update/update"]
        assert engine.reconcile() == 0


# --- where triggers stand -----------------------------------------------------------------------------------------


def test_the_applications_triggers_stand_in_their_own_order_after_an_import(make: MakeEngine) -> None:
    """SQLite fires the newest first, so the order is part of what the application does."""
    schema = """
        CREATE TABLE counts (name TEXT PRIMARY KEY, n INTEGER); CREATE TABLE audit (x);
        CREATE TRIGGER quiet_1 AFTER INSERT ON notes BEGIN INSERT INTO counts VALUES (NEW.title || 1, 1); END;
        CREATE TRIGGER loud_1 AFTER INSERT ON notes BEGIN INSERT INTO audit SELECT count(*) FROM counts; END;
        CREATE TRIGGER quiet_2 AFTER INSERT ON notes BEGIN INSERT INTO counts VALUES (NEW.title || 2, 1); END;
        CREATE TRIGGER loud_2 AFTER INSERT ON notes BEGIN INSERT INTO audit SELECT -count(*) FROM counts; END;
    """
    a, b = (make(name, NOTES + schema, ("notes", "counts")) for name in "ab")
    before = app_triggers(b)
    a.connection.execute("INSERT INTO notes VALUES (1, 'x', NULL)")
    send(a, b)

    assert app_triggers(b) == before
    b.connection.execute("DELETE FROM audit")
    b.connection.execute("INSERT INTO notes VALUES (2, 'y', NULL)")
    assert b.connection.execute("SELECT x FROM audit").fetchall() == [(-2,), (3,)]


def test_the_applications_triggers_are_as_they_were_after_rows_were_parked(make: MakeEngine) -> None:
    a, b = (
        make(name, NOTES.replace("title TEXT", "title TEXT UNIQUE") + COUNTER + GUARD, ("notes", "counts"))
        for name in "ab"
    )
    a.connection.execute("INSERT INTO notes VALUES (1, 'same', NULL)")
    b.connection.execute("INSERT INTO notes VALUES (2, 'same', NULL)")
    texts = "SELECT name, sql, rowid FROM sqlite_schema WHERE type = 'trigger' ORDER BY rowid"
    before = b.connection.execute(texts).fetchall()

    send(a, b)

    assert [conflict.kind for conflict in b.get_unresolved_conflicts()] == ["unique"]
    after = b.connection.execute(texts).fetchall()
    theirs = [[(name, sql) for name, sql, _ in found if not name.startswith("sync_")] for found in (before, after)]
    assert theirs[0] == theirs[1]
    assert b.status().tables[0].problem is None


@pytest.mark.parametrize("enabled", ["after the triggers", "before the triggers"])
def test_a_trigger_that_completes_its_own_row_replays(make: MakeEngine, enabled: str) -> None:
    completes = """
        CREATE TRIGGER complete AFTER INSERT ON notes WHEN NEW.body IS NULL
        BEGIN UPDATE notes SET body = upper(NEW.title) WHERE id = NEW.id; END;
        CREATE TRIGGER again AFTER UPDATE OF body ON notes WHEN NEW.title = 'x'
        BEGIN UPDATE notes SET title = NEW.title || NEW.body WHERE id = NEW.id; END;
    """
    a, b = (make(name, NOTES if enabled.startswith("before") else NOTES + completes, ("notes",)) for name in "ab")
    if enabled.startswith("before"):
        a.connection.executescript(completes)
        b.connection.executescript(completes)
        assert [engine.reconcile() for engine in (a, b)] == [0, 0]
    a.connection.execute("INSERT INTO notes VALUES (1, 'x', NULL), (2, 'y', 'kept'), (3, 'z', NULL)")
    send(a, b)

    assert rows(a, "notes") == rows(b, "notes")
    assert rows(a, "notes")[0] == (("int", 1), ("str", "xX"), ("str", "X"))
    assert [engine.reconcile() for engine in (a, b)] == [0, 0]


def test_a_trigger_that_is_made_after_enabling_is_found_and_put_behind_ours(make: MakeEngine) -> None:
    a, b = (make(name, NOTES, ("notes",)) for name in "ab")
    a.connection.executescript("""
        CREATE TRIGGER complete AFTER INSERT ON notes WHEN NEW.body IS NULL
        BEGIN UPDATE notes SET body = upper(NEW.title) WHERE id = NEW.id; END;
    """)
    (table,) = a.status().tables
    assert "complete" in (table.problem or "")
    a.connection.execute("INSERT INTO notes VALUES (1, 'before', NULL)")
    send(a, b)
    assert rows(a, "notes") == rows(b, "notes")

    a.connection.execute("INSERT INTO notes VALUES (2, 'after', NULL)")
    send(a, b)

    assert a.status().tables[0].is_capturing
    assert rows(a, "notes") == rows(b, "notes")


def test_a_trigger_that_deletes_and_inserts_in_the_same_table_replays(make: MakeEngine) -> None:
    schema = """
        CREATE TRIGGER keep_three AFTER INSERT ON notes
        BEGIN DELETE FROM notes WHERE id <= NEW.id - 3; INSERT OR IGNORE INTO notes VALUES (0, 'last', NEW.id); END;
    """
    a, b = (make(name, NOTES + schema, ("notes",)) for name in "ab")
    a.connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10) INSERT INTO notes SELECT i, 't', NULL FROM n"
    )
    send(a, b)

    assert rows(a, "notes") == rows(b, "notes")
    assert a.reconcile() == 0


def test_other_programs_go_on_writing_after_an_import(make: MakeEngine) -> None:
    a, b = (make(name, NOTES + SEARCH + AUDIT, ("notes",)) for name in "ab")
    a.connection.execute("INSERT INTO notes VALUES (1, 'x', 'y')")
    send(a, b)
    with closing(sqlite3.connect(b.path, isolation_level=None)) as other:
        other.execute("UPDATE notes SET body = 'changed'")
        assert other.execute("SELECT rowid FROM found WHERE found MATCH 'changed'").fetchall() == [(1,)]
    send(b, a)

    assert rows(a, "notes") == rows(b, "notes")
    assert search(a, "changed") == [1]
