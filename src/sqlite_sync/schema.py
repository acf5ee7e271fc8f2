"""Our tables in the user's file, made once and checked ever after, and the laws of the log (SPEC.md, section 5)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlite_sync.database import Database, new_uuid, resource
from sqlite_sync.errors import SchemaError

FORMAT = 1
LAWS = {
    "sync_operations_no_update": """
CREATE TRIGGER sync_operations_no_update BEFORE UPDATE ON sync_operations
BEGIN SELECT RAISE(ABORT, 'sync_operations is append-only'); END""",
    "sync_operations_no_delete": """
CREATE TRIGGER sync_operations_no_delete BEFORE DELETE ON sync_operations
BEGIN SELECT RAISE(ABORT, 'sync_operations is append-only'); END""",
    # REPLACE deletes without firing a delete trigger; an automatic rowid is -1 here, so capture does not pay a look-up.
    "sync_operations_no_replace": """
CREATE TRIGGER sync_operations_no_replace BEFORE INSERT ON sync_operations WHEN NEW.op <> -1
BEGIN
    SELECT RAISE(ABORT, 'sync_operations is append-only')
    WHERE EXISTS (SELECT 1 FROM sync_operations WHERE op = NEW.op);
END""",
}


@contextmanager
def open_log(database: Database) -> Iterator[None]:
    """Lift the log's laws inside a transaction, for bulk appends and for `renew_device`."""
    for name in LAWS:
        database.execute(f"DROP TRIGGER IF EXISTS main.{name}")
    yield
    for law in LAWS.values():
        database.create_trigger(law)


def lost_laws(database: Database) -> list[str]:
    """Name the triggers that keep the log append-only and are missing, or have another text."""
    rows = database.execute("SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger'")
    found = dict(rows.fetchall())
    return [name for name, law in LAWS.items() if found.get(name) != law.strip()]


def enact(database: Database) -> None:
    """Put lost laws of the log back, inside a transaction."""
    for name in lost_laws(database):
        database.execute(f"DROP TRIGGER IF EXISTS main.{name}")
        database.execute(LAWS[name])


def is_prepared(database: Database) -> bool:
    """Tell whether our tables are in the file."""
    return bool(database.one("SELECT 1 FROM main.sqlite_schema WHERE name = 'sync_state'"))


def prepare(database: Database) -> None:
    """Put our tables into the file, once; check their version ever after."""
    if is_prepared(database):
        _require_format(database)
        _require_whole(database)
        return
    with database.transaction():
        if is_prepared(database):  # another process was faster
            return
        _require_free_names(database)
        database.script(resource("schema.sql"))
        for law in LAWS.values():
            database.create_trigger(law)
        database.execute("INSERT INTO main.sync_state VALUES (?, 1, 0, 0)", (FORMAT,))  # 1 is the HLC of baselines
        database.execute("INSERT INTO main.sync_devices VALUES (0, ?, 0)", (new_uuid(),))


def _require_format(database: Database) -> None:
    columns = [row[0] for row in database.execute("SELECT name FROM pragma_table_info('sync_state', 'main')")]
    found = database.one("SELECT format FROM main.sync_state") if columns[:1] == ["format"] else None
    if found is None:
        msg = (
            f"{database.path} has a table sync_state that is not ours: the application uses names that "
            "sqlite_sync needs"
        )
        raise SchemaError(msg)
    if found != FORMAT:
        msg = (
            f"{database.path} has sync tables of format {found}, this version knows {FORMAT}: use a "
            "newer sqlite-sync-core"
        )
        raise SchemaError(msg)


def _require_whole(database: Database) -> None:
    lost = lost_tables(database)
    if lost:
        msg = (
            f"{database.path} has lost {', '.join(lost)}, which sqlite_sync keeps there: another program removed "
            "it. Restore a backup of the file, or begin anew with a copy from another device"
        )
        raise SchemaError(msg)


def lost_tables(database: Database) -> list[str]:
    """Name the tables of ours that a prepared file lacks."""
    found = _names(database)
    wanted = [name for name in our_names() if name not in LAWS]
    if "sync_columns" in found:
        rows = database.execute("SELECT DISTINCT table_no FROM main.sync_columns WHERE is_here ORDER BY table_no")
        wanted += [f"sync_keys_{number}" for (number,) in rows.fetchall()]
        rows = database.execute("SELECT table_no FROM main.sync_columns WHERE key_place = 1 AND mapped = table_no")
        wanted += [f"sync_births_{number}" for (number,) in rows.fetchall()]
    return [name for name in wanted if name not in found]


def taken_names(database: Database) -> list[str]:
    """Name what stands in an unprepared file under names that we need."""
    return sorted(_names(database).intersection(our_names()))


def _names(database: Database) -> set[str]:
    return {row[0].lower() for row in database.execute("SELECT name FROM main.sqlite_schema")}


def _require_free_names(database: Database) -> None:
    clash = taken_names(database)
    if clash:
        msg = (
            f"{database.path} already has {', '.join(clash)}: sqlite_sync needs these names; rename "
            "them in the application (or, if another program removed the table sync_state, restore a backup)"
        )
        raise SchemaError(msg)


def our_names() -> list[str]:
    """List what `prepare` creates, by running it in a scratch database."""
    scratch = sqlite3.connect(":memory:")
    try:
        scratch.executescript(resource("schema.sql"))
        names = [name for (name,) in scratch.execute("SELECT name FROM sqlite_schema")]
    finally:
        scratch.close()
    return [name.lower() for name in (*names, *LAWS) if not name.startswith("sqlite_")]
