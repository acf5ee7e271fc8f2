"""Triggers on and off for a table; paused while we write it ourselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sqlite_sync.database import Database
from sqlite_sync.tables import Table, commas
from sqlite_sync.triggers import VERBS, Renderer


def install(database: Database, table: Table) -> None:
    """Put a table's triggers in place, newest of all triggers, so that they fire before the application's."""
    remove(database, table.number)
    if table.needs_notes:
        names = {c.new: c for c in table.columns}
        names |= {f"n{i}": c for i, c in enumerate(table.key)} if table.has_mistyped_children else {}
        columns = commas(f"{name} COLLATE {c.collation}" for name, c in names.items())
        database.execute(f"DROP TABLE IF EXISTS main.sync_notes_{table.number}")
        database.execute(f"CREATE TABLE main.sync_notes_{table.number} ({columns})")
    for sql in _wanted(database, table).values():
        database.create_trigger(sql)


def remove(database: Database, number: int) -> None:
    """Take a table's triggers away, if they are there."""
    names = commas(f"'sync_{verb}_{number}'" for verb in VERBS)
    rows = database.execute(
        f"SELECT name FROM main.sqlite_schema WHERE type = 'trigger' AND name COLLATE NOCASE IN ({names})"
    )
    for (name,) in rows.fetchall():
        database.execute(f"DROP TRIGGER main.{name}")


@contextmanager
def paused(database: Database, tables: Iterable[Table]) -> Iterator[None]:
    """Capture nothing on these tables inside this block of a transaction."""
    tables = list(tables)
    for table in tables:
        remove(database, table.number)
    yield
    for table in tables:  # not in a finally: when it fails, the transaction is rolled back
        install(database, table)


def problem(database: Database, table: Table) -> str | None:
    """Say what is wrong with a table's triggers; None when every change is captured."""
    unknown = [column.name for column in table.columns if column.position < 0]
    if unknown:
        return f"{table.name} has the new column {', '.join(unknown)}, which is not captured"
    wanted, found = _wanted(database, table), _found(database, table)
    ours = {name: sql for name, (_, sql) in found.items() if name in wanted}
    missing = sorted(wanted.keys() - ours.keys())
    if missing:
        return f"{table.name} has lost its triggers {', '.join(missing)} (its table was rebuilt, or they were dropped)"
    notes = f"sync_notes_{table.number}"
    if table.needs_notes and not database.one("SELECT 1 FROM main.sqlite_schema WHERE name = ?", (notes,)):
        return f"{table.name} has lost the table {notes}, which its triggers write: another program removed it"
    if wanted != ours:
        return f"{table.name} has changed since its triggers were made"
    first = min(place for name, (place, _) in found.items() if name in wanted)
    newer = sorted(name for name, (place, _) in found.items() if name not in wanted and place > first)
    if newer:
        return (
            f"{table.name} has got the trigger {', '.join(newer)}, which fires before ours, so that "
            "its writes are logged out of order"
        )
    return None


def _wanted(database: Database, table: Table) -> dict[str, str]:
    is_contested = database.one(
        "SELECT EXISTS (SELECT 1 FROM main.sync_forks WHERE table_no = ? AND (is_open OR is_parked))", (table.number,)
    )
    return Renderer(table, bool(is_contested)).render()


def _found(database: Database, table: Table) -> dict[str, tuple[int, str]]:
    """Return all triggers on a table: name -> (place among all triggers, text)."""
    rows = database.execute(
        "SELECT name, rowid, sql FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE",
        (table.name,),
    )
    return {name: (place, sql) for name, place, sql in rows}
