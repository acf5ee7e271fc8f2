"""The application's own triggers: what each of them writes, and whether it fires while a bundle is imported.

The author's device ran them already. What they wrote there to synced tables arrives as operations; what they maintain
outside (a full-text index, a cache) must be maintained here. So a trigger fires iff everything it writes, directly or
through other triggers, is outside the synced tables.

SQLite itself says what a trigger writes: its compiler asks an authorizer. It is asked in a scratch database with the
same schema, so that the authorizer of the user's connection stays in place.
"""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sqlite_sync.database import Database
from sqlite_sync.tables import commas, fold, is_ours, quote

_WRITES = {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
_MISSING = re.compile(r"no such (function|collation sequence|module): (\S+)")


@dataclass(frozen=True, slots=True)
class AppTrigger:
    """A trigger of the application on a synced table, and the decision on it; `writes` is what it writes in the end."""

    name: str
    table_name: str
    writes: tuple[str, ...]
    fires: bool
    reason: str


def decide(database: Database, synced: Collection[str]) -> list[AppTrigger]:
    """Decide on every trigger of the application on the tables named in `synced`."""
    found = _triggers(database)
    folded = {fold(name) for name in synced}
    if not any(fold(table) in folded for table, _ in found.values()):
        return []
    direct = _direct_writes(database, found)
    words = dict(database.execute("SELECT name, fires FROM main.sync_app_triggers").fetchall())
    chosen = {fold(name): bool(fires) for name, fires in words.items()}
    return [
        _decision(name, table, _closure(name, found, direct), folded, chosen=chosen.get(fold(name)))
        for name, (table, _) in sorted(found.items())
        if fold(table) in folded
    ]


@contextmanager
def silenced(database: Database, triggers: Iterable[AppTrigger]) -> Iterator[None]:
    """Take triggers away inside this block of a transaction, and put them back in the order in which they were made."""
    silent = {trigger.name for trigger in triggers}
    tables = {trigger.table_name for trigger in triggers}
    rows = database.execute(
        "SELECT name, tbl_name, sql FROM main.sqlite_schema WHERE type = 'trigger' ORDER BY rowid"
    ).fetchall()
    every = [(name, sql) for name, table, sql in rows if table in tables and not is_ours(name)]
    first = next((place for place, (name, _) in enumerate(every) if name in silent), len(every))
    for name, _ in every:
        if name in silent:
            database.execute(f"DROP TRIGGER main.{quote(name)}")
    yield
    for name, sql in every[first:]:  # those that fired are made anew too, for the order in which they fire
        database.execute(f"DROP TRIGGER IF EXISTS main.{quote(name)}")
        database.create_trigger(sql)


def _decision(
    name: str, table: str, writes: frozenset[str] | None, synced: Collection[str], *, chosen: bool | None
) -> AppTrigger:
    fires, reason = _rule(writes, synced)
    if chosen is not None:
        fires, reason = chosen, f"you said so (the rule: {reason})"
    return AppTrigger(name, table, tuple(sorted(writes or ())), fires, reason)


def _rule(writes: frozenset[str] | None, synced: Collection[str]) -> tuple[bool, str]:
    if writes is None:
        return False, "what it writes could not be found out: say whether it fires"
    inside = {table for table in writes if table in synced}
    if not writes:
        return False, "it writes nothing"
    if not inside:
        return True, "it writes only what is not synced"
    if inside == writes:
        return False, f"what it writes to {commas(sorted(inside))} arrives as operations"
    return False, f"it writes {commas(sorted(inside))}, which is synced, and also what is not: say whether it fires"


def _triggers(database: Database) -> dict[str, tuple[str, str]]:
    rows = database.execute("SELECT name, tbl_name, sql FROM main.sqlite_schema WHERE type = 'trigger'").fetchall()
    return {name: (table, sql) for name, table, sql in rows if not is_ours(name)}


def _closure(
    name: str, triggers: Mapping[str, tuple[str, str]], direct: Mapping[str, frozenset[str] | None]
) -> frozenset[str] | None:
    """Follow what a trigger writes through the triggers of the tables it writes."""
    by_table = defaultdict(set)
    for trigger, (table, _) in triggers.items():
        by_table[fold(table)].add(trigger)
    seen, ahead, writes = {name}, [name], set[str]()
    while ahead:
        step = direct[ahead.pop()]
        if step is None:
            return None
        writes |= step
        reached = set().union(*(by_table[table] for table in step)) - seen
        seen |= reached
        ahead.extend(reached)
    return frozenset(writes)


def _direct_writes(database: Database, triggers: Mapping[str, tuple[str, str]]) -> dict[str, frozenset[str] | None]:
    scratch = _scratch(database)
    try:
        return {name: _ask(scratch, name, table, sql) for name, (table, sql) in triggers.items()}
    finally:
        scratch.close()


def _ask(scratch: sqlite3.Connection, name: str, table: str, sql: str) -> frozenset[str] | None:
    """Compile what would fire a trigger and note the tables that the compiler says it writes; None if it cannot be."""
    writes: set[str] = set()

    def authorize(action: int, first: str | None, _second: str | None, _schema: str | None, source: str | None) -> int:
        if action in _WRITES and first and source == name:
            writes.add(fold(first))
        return sqlite3.SQLITE_OK

    if not _attempt(scratch, sql):
        return None
    scratch.set_authorizer(authorize)
    try:
        columns = [row[1] for row in scratch.execute(f"PRAGMA table_info({quote(table)})")]
        assignments = commas(f"{quote(column)} = {quote(column)}" for column in columns)
        for statement in (
            f"INSERT INTO {quote(table)} DEFAULT VALUES",
            f"UPDATE {quote(table)} SET {assignments}",
            f"DELETE FROM {quote(table)}",
        ):
            if not _attempt(scratch, f"EXPLAIN {statement}"):
                return None
    finally:
        scratch.set_authorizer(None)
        _attempt(scratch, f"DROP TRIGGER IF EXISTS {quote(name)}")
    return frozenset(writes - {fold("sqlite_master"), fold("sqlite_schema")})


def _scratch(database: Database) -> sqlite3.Connection:
    """Build the schema again in memory; shadow tables come with their virtual table, or not at all."""
    scratch = sqlite3.connect(":memory:", isolation_level=None)
    for (sql,) in database.execute(
        "SELECT sql FROM main.sqlite_schema WHERE type IN ('table', 'view', 'index') AND sql IS NOT NULL AND "
        "name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
        "ORDER BY sql LIKE 'CREATE VIRTUAL%' DESC, rowid"
    ).fetchall():
        _attempt(scratch, sql)
    return scratch


def _attempt(scratch: sqlite3.Connection, sql: str) -> bool:
    """Run a statement; supply functions and collations that only the application has, as stand-ins."""
    tried: set[tuple[str, str]] = set()
    while True:
        try:
            scratch.execute(sql).fetchall()
        except sqlite3.Error as error:
            missing = _MISSING.search(str(error))
            if not missing or missing.groups() in tried:
                return "already exists" in str(error)
            tried.add((missing[1], missing[2]))
            _supply(scratch, missing[1], missing[2])
        else:
            return True


def _supply(scratch: sqlite3.Connection, what: str, name: str) -> None:
    if what == "function":
        scratch.create_function(name, -1, lambda *_: None, deterministic=True)
    elif what == "collation sequence":
        scratch.create_collation(name, lambda left, right: (left > right) - (left < right))
