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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlite_sync.database import Database, in_schema
from sqlite_sync.errors import TableError
from sqlite_sync.indexes import tokens
from sqlite_sync.tables import commas, fold, is_ours, literal, quote

_EVENTS = {"insert": sqlite3.SQLITE_INSERT, "update": sqlite3.SQLITE_UPDATE, "delete": sqlite3.SQLITE_DELETE}
_SCHEMAS = ("sqlite_master", "sqlite_schema", "temp.sqlite_temp_master")  # the compiler reads them, it seems to write
_SAY = "say whether it fires"
_MISSING = re.compile(r"no such (function|collation sequence|module): (\S+)")


@dataclass(frozen=True, slots=True)
class AppTrigger:
    """A trigger of the application on a synced table, and the decision on it; `writes` is what it writes in the end.

    `is_undecided` says that the rule cannot tell, and the user has not; `is_temporary`, that it is the connection's.
    """

    name: str
    table_name: str
    writes: tuple[str, ...]
    fires: bool
    reason: str
    is_undecided: bool = False
    is_temporary: bool = False


class Scratch(sqlite3.Connection):
    """A database in memory with the application's schema; `stand_ins` are what only the application has, by kind."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - whatever sqlite3 hands on
        super().__init__(*arguments, **named)
        self.stand_ins: set[tuple[str, str]] = set()


@dataclass(frozen=True, slots=True)
class _Trigger:
    """A trigger as it stands in the file, or in the connection's temporary schema; `event` is what it fires on."""

    schema: str
    name: str
    table: str
    event: int
    sql: str


Write = tuple[int, str]  # insert, update or delete, and the folded name of the table


def decide(database: Database, synced: Collection[str]) -> list[AppTrigger]:
    """Decide on every trigger of the application on the tables named in `synced`."""
    found = _triggers(database)
    folded = {fold(name) for name in synced}
    if not any(fold(one.table) in folded for one in found):
        return []
    views = {fold(name) for (name,) in database.execute("SELECT name FROM main.sqlite_schema WHERE type = 'view'")}
    direct = _direct_writes(database, found, views)
    chosen = {fold(name): bool(fires) for name, fires in _words(database).items()}
    decided = []
    for one in found:
        if fold(one.table) in folded:
            writes = _closure(one, found, direct, folded)
            tables = None if writes is None else frozenset(table for _, table in writes) - views
            decided.append(_decision(one, tables, folded, chosen=chosen.get(fold(one.name))))
    return decided


def _words(database: Database) -> dict[str, int]:
    if not database.one("SELECT 1 FROM main.sqlite_schema WHERE name = 'sync_app_triggers'"):
        return {}  # not prepared yet
    return dict(database.execute("SELECT name, fires FROM main.sync_app_triggers").fetchall())


def say(database: Database, trigger: str, fires: bool | None) -> None:  # noqa: FBT001
    """Note the user's word on a trigger; None takes it back."""
    _require_choice(database, trigger, fires)
    database.execute("DELETE FROM main.sync_app_triggers WHERE name = ?", (trigger,))
    if fires is not None:
        database.execute("INSERT INTO main.sync_app_triggers VALUES (?, ?)", (trigger, fires))


def _require_choice(database: Database, name: str, fires: object) -> None:
    """Refuse a choice about what is no trigger of the application, or that is none."""
    sql = "SELECT name FROM main.sqlite_schema WHERE type = 'trigger' AND name = ? COLLATE NOCASE"
    found = database.one(sql, (name,))
    if found is None or is_ours(found):
        msg = f"there is no trigger {name!r} of the application in {database.path}: status names those on synced tables"
        raise TableError(msg)
    if not isinstance(fires, bool | None):
        msg = f"whether {name} fires is True, False, or None for the rule, not {fires!r}"
        raise TableError(msg)


@contextmanager
def silenced(database: Database, triggers: Iterable[AppTrigger]) -> Iterator[None]:
    """Take triggers away inside this block of a transaction, and put them back in the order in which they were made."""
    silent = {(trigger.is_temporary, trigger.name) for trigger in triggers}
    tables = {trigger.table_name for trigger in triggers}
    rows = database.execute(
        "SELECT 'main', name, tbl_name, sql, rowid AS place FROM main.sqlite_schema WHERE type = 'trigger' UNION ALL "
        "SELECT 'temp', name, tbl_name, sql, rowid FROM sqlite_temp_schema WHERE type = 'trigger' ORDER BY 1, place"
    ).fetchall()
    every = [(schema, name, sql) for schema, name, table, sql, _ in rows if table in tables and not is_ours(name)]
    is_silent = [(schema == "temp", name) in silent for schema, name, _ in every]
    first = is_silent.index(True) if True in is_silent else len(every)
    for (schema, name, _), is_off in zip(every, is_silent, strict=True):
        if is_off:
            database.execute(f"DROP TRIGGER {schema}.{quote(name)}")
    yield
    for schema, name, sql in every[first:]:  # those that fired are made anew too, for the order in which they fire
        database.execute(f"DROP TRIGGER IF EXISTS {schema}.{quote(name)}")
        database.execute(in_schema(sql, schema))


GUARD = """
CREATE TEMP TRIGGER sync_guard_{n} BEFORE {event} ON main.{table}
WHEN (SELECT name FROM temp.sync_writing) IS NOT {name}
BEGIN SELECT RAISE(IGNORE); END"""


@contextmanager
def guarded(database: Database, tables: Iterable[str]) -> Iterator[None]:
    """Let nothing but `write_to` change these synced tables: what a trigger writes there arrives as operations."""
    database.execute("CREATE TEMP TABLE sync_writing (name)")
    database.execute("INSERT INTO temp.sync_writing VALUES (NULL)")
    events = [(table, event) for table in tables for event in ("INSERT", "UPDATE", "DELETE")]
    for n, (table, event) in enumerate(events):
        database.execute(GUARD.format(n=n, event=event, table=quote(table), name=literal(table)))
    yield
    for n in range(len(events)):
        database.execute(f"DROP TRIGGER temp.sync_guard_{n}")
    database.execute("DROP TABLE temp.sync_writing")


def write_to(database: Database, table: str) -> None:
    """Say which table is written next."""
    database.execute("UPDATE temp.sync_writing SET name = ?", (table,))


def _decision(
    one: _Trigger, writes: frozenset[str] | None, synced: Collection[str], *, chosen: bool | None
) -> AppTrigger:
    fires, reason = _rule(writes, synced)
    is_undecided = chosen is None and reason.endswith(_SAY)
    if chosen and writes is not None and fold(one.table) in writes:
        fires, reason = False, f"it writes {one.table} itself, so it cannot fire while that is written"
    elif chosen is not None:
        fires, reason = chosen, f"you said so; the rule says: {reason}"
    return AppTrigger(
        one.name, one.table, tuple(sorted(writes or ())), fires, reason, is_undecided, one.schema == "temp"
    )


def _rule(writes: frozenset[str] | None, synced: Collection[str]) -> tuple[bool, str]:
    if writes is None:
        return False, f"what it writes could not be found out: {_SAY}"
    inside = {table for table in writes if table in synced}
    if not writes:
        return False, "it writes nothing"
    if not inside:
        return True, "it writes only what is not synced"
    if inside == writes:
        return False, f"what it writes to {commas(sorted(inside))} arrives as operations"
    return False, f"it writes {commas(sorted(inside))}, which is synced, and also what is not: {_SAY}"


def _triggers(database: Database) -> list[_Trigger]:
    rows = database.execute(
        "SELECT 'main', name, tbl_name, sql FROM main.sqlite_schema WHERE type = 'trigger' "
        "UNION ALL SELECT 'temp', name, tbl_name, sql FROM sqlite_temp_schema WHERE type = 'trigger' ORDER BY name"
    )
    return [_Trigger(schema, name, table, _event(sql), sql) for schema, name, table, sql in rows if not is_ours(name)]


def _event(sql: str) -> int:
    """Read what a trigger fires on: the first such word after its name."""
    words = [part.lower() for part, _ in tokens(sql) if not part.isspace()][3:]
    return next(_EVENTS[word] for word in words if word in _EVENTS)


def _closure(
    one: _Trigger,
    triggers: Sequence[_Trigger],
    direct: Mapping[_Trigger, frozenset[Write] | None],
    synced: Collection[str],
) -> frozenset[Write] | None:
    """Follow what a trigger writes through the triggers that these writes fire.

    Not through those of synced tables: what it writes there arrives as operations, and these fire by their own rule.
    """
    fired = defaultdict(set)
    for trigger in triggers:
        fired[trigger.event, fold(trigger.table)].add(trigger)
    seen, ahead, writes = {one}, [one], set[Write]()
    while ahead:
        step = direct[ahead.pop()]
        if step is None:
            return None
        writes |= step
        reached = set().union(*(fired[write] for write in step if write[1] not in synced)) - seen
        seen |= reached
        ahead.extend(reached)
    return frozenset(writes)


def _direct_writes(
    database: Database, triggers: Sequence[_Trigger], views: Collection[str]
) -> dict[_Trigger, frozenset[Write] | None]:
    """Ask for each trigger alone; those on views stay, for without them a view cannot be written."""
    scratch = scratch_of(database)
    on_views = {one for one in triggers if fold(one.table) in views}
    try:
        for one in on_views:
            attempt(scratch, in_schema(one.sql, one.schema))
        return {one: _ask(scratch, one, is_on_view=one in on_views) for one in triggers}
    finally:
        scratch.close()


def _ask(scratch: Scratch, one: _Trigger, *, is_on_view: bool) -> frozenset[Write] | None:
    """Compile what would fire a trigger and note what the compiler says that it writes; None if it cannot be."""
    writes: set[Write] = set()

    def authorize(action: int, first: str | None, _second: str | None, schema: str | None, source: str | None) -> int:
        if action in _EVENTS.values() and first and source == one.name:
            writes.add((action, fold(first) if schema == "main" else f"{schema}.{first}"))
        return sqlite3.SQLITE_OK

    if not attempt(scratch, in_schema(one.sql, one.schema)):
        return None
    scratch.set_authorizer(authorize)
    try:
        is_clear = attempt(scratch, f"EXPLAIN {writing(scratch, one.table)[one.event]}")
    finally:
        scratch.set_authorizer(None)
        if not is_on_view:
            attempt(scratch, f"DROP TRIGGER IF EXISTS {one.schema}.{quote(one.name)}")
    return frozenset(write for write in writes if write[1] not in _SCHEMAS) if is_clear else None


def writing(scratch: Scratch, table_name: str) -> dict[int, str]:
    """Render statements that fire every trigger of a table, by what they do."""
    table = f"main.{quote(table_name)}"
    columns = [row[1] for row in scratch.execute(f"PRAGMA main.table_info({quote(table_name)})")]
    assignments = commas(f"{quote(column)} = {quote(column)}" for column in columns)
    return {
        sqlite3.SQLITE_INSERT: f"INSERT INTO {table} DEFAULT VALUES",
        sqlite3.SQLITE_UPDATE: f"UPDATE {table} SET {assignments}",
        sqlite3.SQLITE_DELETE: f"DELETE FROM {table}",
    }


def scratch_of(database: Database) -> Scratch:
    """Build the schema again in memory; shadow tables come with their virtual table, or not at all."""
    scratch = sqlite3.connect(":memory:", isolation_level=None, factory=Scratch)
    for (sql,) in database.execute(
        "SELECT sql FROM main.sqlite_schema WHERE type IN ('table', 'view', 'index') AND sql IS NOT NULL AND "
        "name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
        "ORDER BY sql LIKE 'CREATE VIRTUAL%' DESC, rowid"
    ).fetchall():
        attempt(scratch, sql)
    for (sql,) in database.execute("SELECT sql FROM sqlite_temp_schema WHERE type IN ('table', 'view')").fetchall():
        attempt(scratch, sql.replace("CREATE ", "CREATE TEMP ", 1))
    return scratch


def attempt(scratch: Scratch, sql: str) -> bool:
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
            scratch.stand_ins.add((missing[1], missing[2]))
            _supply(scratch, missing[1], missing[2])
        else:
            return True


def _supply(scratch: Scratch, what: str, name: str) -> None:
    if what == "function":
        scratch.create_function(name, -1, lambda *_: None, deterministic=True)
    elif what == "collation sequence":
        scratch.create_collation(name, lambda left, right: (left > right) - (left < right))
