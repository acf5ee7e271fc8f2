"""Rows that a declared constraint does not let stand beside others (SPEC.md, section 4.6).

Which rows stand is a function of the shown heads of all rows. Each time, whatever was parked is tried again, together
with what could not be written, from the last in the total order to the first: a row stands if nothing later is in its
way, and what is earlier gives way to it. So it does not matter which rows happened to stand before. References come
after that: who hangs on a parked row, or on a parent that went while its child was written elsewhere, is parked too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlite_sync import app_triggers, catalog, conflicts, forks, hanging, log, references, versions
from sqlite_sync.codec import Row
from sqlite_sync.conflicts import Conflict
from sqlite_sync.database import Database
from sqlite_sync.errors import ConflictError, ConstraintError
from sqlite_sync.hanging import Hanging
from sqlite_sync.live_rows import LiveRow, LiveRows
from sqlite_sync.log import Contexts
from sqlite_sync.operation import op_id, ordinal_of, parked_id, seq_of
from sqlite_sync.references import Reference
from sqlite_sync.tables import Table, commas, mark
from sqlite_sync.verdict import Image

_TAKEN = {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID}
_MOST_NAMED = 5
_REFUSALS = {sqlite3.SQLITE_CONSTRAINT_CHECK: "check", sqlite3.SQLITE_CONSTRAINT_NOTNULL: "not_null"}

_OWN_REFUSALS = {"check": "a CHECK constraint", "not_null": "a NOT NULL constraint", "schema": "a type"}


@dataclass(frozen=True, slots=True)
class Parked:
    """A row that stands in no table: why, and the operation that is in its way."""

    row: LiveRow
    kind: str
    local: int
    beside: Image = None  # of the row that has its UNIQUE value


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is to do: rows that were refused or parked, or that show an older head again; parents that went."""

    tables: Mapping[int, Table]
    references: Sequence[Reference]
    refused: Sequence[tuple[Table, Row]]
    stored: Sequence[tuple[int, int, str, int]]  # fork, table number, kind, local operation
    returned: Mapping[int, Table]  # by fork


@dataclass(slots=True)
class Outcome:
    """What changed, by table number: conflicts opened, rows with an own last edit that are parked now, and how many.

    `absent` are the keys of all parked rows, each with whether it was parked before; `returned` of those that are back.
    """

    opened: dict[int, list[tuple[bytes, int, int]]] = field(default_factory=dict)
    overridden: dict[int, list[Row]] = field(default_factory=dict)
    parked: dict[int, int] = field(default_factory=dict)
    absent: dict[int, list[tuple[Row, bool]]] = field(default_factory=dict)
    returned: dict[int, list[Row]] = field(default_factory=dict)


def survey(database: Database, tables: Sequence[Table], refused: Sequence[tuple[Table, Row]]) -> Survey | None:
    """Look for what constraints may have to say about the ranges in temp.sync_new; None where they have nothing."""
    stored = _stored(database, tables)
    found = references.read(database, tables)
    lost = [hanging.find_lost(database, place, one) for place, one in enumerate(found)]
    returned = {fork: one.child for one in found for fork in hanging.find_returned(database, one)}
    if not (stored or refused or returned or any(lost)):
        hanging.drop_lost(database, found)
        return None
    return Survey({table.number: table for table in tables}, found, refused, stored, returned)


def settle(database: Database, work: Survey) -> Outcome:
    """Let stand what can, and park the rest, in the caller's transaction; capture is paused on all tables."""
    contexts = Contexts(database)
    rows = LiveRows(database, contexts)
    standing = _Standing(database, rows)
    again = []
    for fork, number, kind, local in work.stored:
        row = rows.of_fork(work.tables[number], fork)
        if row is not None:
            again.append((row, kind, local))
    refused = [rows.named(table, image) for table, image in work.refused]
    waiting = [row for row, _, _ in again if not standing.holds(row)]  # others were written with the new operations
    candidates = {row.fork: row for row in [*refused, *waiting]}
    for row in sorted(candidates.values(), key=lambda row: row.order, reverse=True):
        standing.enter(row)
    hung = Hanging(database, rows, contexts, work.references)
    hung.follow([one.row for one in standing.parked.values()])
    hung.follow_returned([(row, local if kind == "foreign_key" else None) for row, kind, local in again])
    older = (rows.of_fork(table, fork) for fork, table in work.returned.items())
    hung.follow_returned([(row, None) for row in older if row is not None])
    for row, local in hung.rows():
        standing.leave(Parked(row, "foreign_key", local))
    outcome = _store(database, work, standing.parked)
    for row, *_ in again:
        if row.fork not in standing.parked:
            outcome.returned.setdefault(row.table.number, []).append(row.key)
    standing.close()
    rows.close()
    hanging.drop_lost(database, work.references)
    return outcome


class _Standing:
    """The rows of the tables: enter, leave, and who is in the way."""

    def __init__(self, database: Database, rows: LiveRows) -> None:
        self._database = database
        self._rows = rows
        self._watched: set[int] = set()
        self.parked: dict[int, Parked] = {}

    def holds(self, row: LiveRow) -> bool:
        """Tell whether a row stands in its table."""
        return bool(self._database.one(f"SELECT 1 FROM {row.table.sql} AS t WHERE {_same_key(row)}", row.key))

    def enter(self, row: LiveRow) -> None:
        """Let a row stand, and park what is earlier and in its way; or park it."""
        try:
            self._insert(row.table.or_abort, row)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode not in _TAKEN:
                self.parked[row.fork] = Parked(row, _REFUSALS.get(error.sqlite_errorcode, "schema"), row.head)
                return
            self._enter_instead(row)

    def _enter_instead(self, row: LiveRow) -> None:
        """Let a row stand in the place of those in its way; or park it."""
        in_the_way = [self._rows.named(row.table, image) for image in self.in_the_way(row)]
        if not in_the_way:  # a trigger that fires on import writes what another table refuses
            self.parked[row.fork] = Parked(row, "schema", row.head)
            return
        last = max(in_the_way, key=lambda other: other.order)
        if last.order > row.order:
            self.parked[row.fork] = Parked(row, "unique", last.head, last.image)
            return
        self._database.execute("SAVEPOINT sync_enter")
        try:
            for other in in_the_way:
                self._delete(other)
            self._insert(row.table.or_abort, row)
        except sqlite3.IntegrityError:
            self._database.execute("ROLLBACK TO sync_enter")
            self.parked[row.fork] = Parked(row, "schema", row.head)
        else:
            self.parked |= {other.fork: Parked(other, "unique", row.head, row.image) for other in in_the_way}
            self.parked.pop(row.fork, None)  # what had its own key was written by a trigger that fires on import
        self._database.execute("RELEASE sync_enter")

    def leave(self, parked: Parked) -> None:
        """Take a row out of its table."""
        self._delete(parked.row)
        self.parked[parked.row.fork] = parked

    def close(self) -> None:
        """Remove what was made to watch the tables."""
        for number in self._watched:
            self._database.execute(f"DROP TRIGGER temp.sync_in_the_way_{number}")
            self._database.execute(f"DROP TABLE temp.sync_in_the_way_{number}")

    def _delete(self, row: LiveRow) -> None:
        app_triggers.write_to(self._database, row.table.name)
        self._database.execute(f"DELETE FROM {row.table.sql} AS t WHERE {_same_key(row)}", row.key)

    def _insert(self, otherwise: str, row: LiveRow) -> None:
        names = commas(column.sql for column in row.table.columns)
        app_triggers.write_to(self._database, row.table.name)
        self._database.execute(
            f"INSERT {otherwise}INTO {row.table.sql} ({names}) VALUES ({commas(map(mark, row.image))})", row.image
        )

    def in_the_way(self, row: LiveRow) -> list[Row]:
        """Ask SQLite which rows REPLACE would delete, whatever its indexes are made of; nothing is changed."""
        table = row.table
        self._watch(table)
        self._database.execute(f"DELETE FROM temp.sync_in_the_way_{table.number}")  # rows that were taken out since
        was_on = self._database.one("PRAGMA recursive_triggers")
        self._database.execute("SAVEPOINT sync_look")
        self._database.execute("PRAGMA recursive_triggers = ON")  # else REPLACE deletes without a word
        try:
            self._insert("OR REPLACE ", row)
            return self._database.execute(f"SELECT * FROM temp.sync_in_the_way_{table.number}").fetchall()
        except sqlite3.IntegrityError:  # a trigger that fires on import refuses it in any case
            return []
        finally:
            try:
                self._database.execute("ROLLBACK TO sync_look")
                self._database.execute("RELEASE sync_look")
            finally:
                self._database.put_right(f"PRAGMA recursive_triggers = {was_on}")

    def _watch(self, table: Table) -> None:
        if table.number in self._watched:
            return
        self._watched.add(table.number)
        name = f"sync_in_the_way_{table.number}"
        values = commas(f"OLD.{column.sql}" for column in table.columns)
        self._database.execute(f"CREATE TEMP TABLE {name} ({commas(f'c{i}' for i in range(len(table.columns)))})")
        self._database.execute(
            f"CREATE TEMP TRIGGER {name} AFTER DELETE ON {table.sql} BEGIN INSERT INTO {name} VALUES ({values}); END"
        )


def _same_key(row: LiveRow) -> str:
    return " AND ".join(f"t.{c.keyed} = {mark(value)}" for c, value in zip(row.table.key, row.key, strict=True))


def _stored(database: Database, tables: Sequence[Table]) -> list[tuple[int, int, str, int]]:
    """List the parked rows of these tables."""
    enabled = {table.number for table in tables}
    rows = database.execute(
        "SELECT f.fork, f.table_no, c.kind, c.local_op FROM main.sync_forks AS f "
        "CROSS JOIN main.sync_conflicts AS c USING (fork) "
        f"WHERE f.is_parked AND c.{forks.IS_PARKED} ORDER BY f.fork"
    )
    return [row for row in rows if row[1] in enabled]


def _store(database: Database, work: Survey, parked: Mapping[int, Parked]) -> Outcome:
    """Replace the records of parked rows; return what is new."""
    devices = log.device_ids(database)
    before, was_parked = _recorded(database, work)
    flags = [(fork in parked, fork) for fork in was_parked ^ parked.keys()]
    database.executemany("UPDATE main.sync_forks SET is_parked = ? WHERE fork = ?", flags)
    outcome, now = Outcome(), dict[bytes, Parked]()
    for one in parked.values():
        ops = [op_id(devices[ordinal_of(dot)], seq_of(dot)) for dot in (one.local, one.row.head)]
        now[parked_id(*ops)] = one
    for pair, (table, kind) in before.items():
        if pair not in now or now[pair].kind != kind:
            database.execute("DELETE FROM main.sync_conflicts WHERE conflict_id = ?", (pair,))
            versions.remove(database, table, [pair])
    for pair, one in now.items():
        table, fork = one.row.table, one.row.fork
        if pair not in before or before[pair][1] != one.kind:
            record = (pair, fork, one.kind, one.local, one.row.head, "")
            database.execute("INSERT INTO main.sync_conflicts VALUES (?, ?, ?, ?, ?, ?)", record)
            versions.put(database, table, [(pair, (None, one.beside, one.row.image))])
        if pair not in before:  # a row may be in the way of its own child: the kind changes, the conflict is the same
            outcome.opened.setdefault(table.number, []).append((pair, one.local, one.row.head))
        outcome.absent.setdefault(table.number, []).append((one.row.key, fork in was_parked))
        if fork not in was_parked:
            outcome.parked[table.number] = outcome.parked.get(table.number, 0) + 1
        if fork not in was_parked and ordinal_of(one.row.head) == 0:
            outcome.overridden.setdefault(table.number, []).append(one.row.key)
    return outcome


def _recorded(database: Database, work: Survey) -> tuple[dict[bytes, tuple[Table, str]], set[int]]:
    """Return the records of parked rows, each with its table and kind; and the forks that these rows are."""
    rows = database.execute(
        "SELECT c.conflict_id, f.table_no, c.kind, f.fork FROM main.sync_conflicts AS c "
        f"JOIN main.sync_forks AS f USING (fork) WHERE c.{forks.IS_PARKED}"
    ).fetchall()
    known = [row for row in rows if row[1] in work.tables]
    return {pair: (work.tables[number], kind) for pair, number, kind, _ in known}, {fork for *_, fork in known}


def parked_forks(database: Database) -> set[int]:
    """Return the forks that are parked."""
    return {fork for (fork,) in database.execute("SELECT fork FROM main.sync_forks WHERE is_parked")}


@dataclass(frozen=True, slots=True)
class Footing:
    """What stood before a resolution: the rows that it is about, the parked forks, the rows without a parent.

    `strays` are rows of all tables that refer to no row by what is no key: their parent's end parks none of them.
    """

    table: Table
    keys: Sequence[Row]
    parked: Collection[int]
    orphans: Collection[tuple[Row, str]]
    strays: Collection[tuple[str, Row, str]]


def footing(database: Database, table: Table, keys: Sequence[Row]) -> Footing:
    """Look at what stands, before these rows are resolved."""
    return Footing(table, keys, parked_forks(database), orphans(database, table, keys), _strays(database))


def require_footing(database: Database, before: Footing) -> None:
    """Refuse a resolution that parks a row, or lets one stand without its parent; ConstraintError names it."""
    new = parked_forks(database) - set(before.parked)
    if new:
        rows = [one for found in conflicts.by_fork(database, new).values() for one in found if one.is_parked]
        _require_own(before, rows)
        msg = (
            f"this resolution leaves no room for {_listed(rows)}: change or delete these rows first, or resolve "
            "otherwise; nothing was changed"
        )
        raise ConstraintError(msg)
    for key, parent in orphans(database, before.table, before.keys) - set(before.orphans):
        row = {column.name: value for column, value in zip(before.table.key, key, strict=True)}
        msg = (
            f"{before.table.name} {row} would refer to a row of {parent} that is not there: write that row first, or "
            "resolve otherwise; nothing was changed"
        )
        raise ConstraintError(msg)
    for child, key, parent in _strays(database) - set(before.strays):
        msg = (
            f"this resolution takes away the row of {parent} that {child} {key!r} refers to: change or delete that row "
            "first, or resolve otherwise; nothing was changed"
        )
        raise ConstraintError(msg)


def _require_own(before: Footing, parked: Sequence[Conflict]) -> None:
    """Refuse a resolution whose own row its table refuses, whatever else stands."""
    own = [one for one in parked if one.table_name == before.table.name and tuple(one.row_pk.values()) in before.keys]
    for one in own:
        if one.kind in _OWN_REFUSALS:
            msg = (
                f"{one.table_name} {dict(one.row_pk)} cannot be so, since {_OWN_REFUSALS[one.kind]} of its table "
                "refuses it: give other values; nothing was changed"
            )
            raise ConstraintError(msg)


def orphans(database: Database, table: Table, keys: Sequence[Row]) -> set[tuple[Row, str]]:
    """Find those of these rows that refer to no row, with the parent; none where foreign keys are not enforced."""
    if not database.enforces_foreign_keys:
        return set()
    found = [one for one in references.read(database, catalog.enabled(database)) if one.child.number == table.number]
    return {(key, one.parent_name) for one in found for key in keys if _is_orphan(database, one, key)}


def _strays(database: Database) -> set[tuple[str, Row, str]]:
    """Find the rows that refer, by what is no key, to no row: table, key, parent; where foreign keys are enforced."""
    if not database.enforces_foreign_keys:
        return set()
    return {
        (one.child.name, tuple(key), one.parent_name)
        for one in references.read(database, catalog.enabled(database))
        if one.parent is not None and set(one.parent_columns) != set(one.parent.key)
        for key in database.execute(
            f"SELECT {commas(f't.{c.sql}' for c in one.child.key)} FROM {one.child.sql} AS t WHERE {one.is_orphan}"
        ).fetchall()
    }


def _is_orphan(database: Database, reference: Reference, key: Row) -> bool:
    child = reference.child
    same = " AND ".join(f"t.{c.keyed} = {mark(value)}" for c, value in zip(child.key, key, strict=True))
    return bool(database.one(f"SELECT 1 FROM {child.sql} AS t WHERE {same} AND {reference.is_orphan}", key))


def in_the_way(database: Database, row: LiveRow) -> list[LiveRow]:
    """Return the rows that have a UNIQUE value of a parked row; capture is paused on its table."""
    rows = LiveRows(database, Contexts(database), has_ranges=False)
    standing = _Standing(database, rows)
    found = [rows.named(row.table, image) for image in standing.in_the_way(row)]
    standing.close()
    return found


def require_none_parked(database: Database) -> None:
    """Refuse to remove the log while it alone has the values of rows, which were parked when last settled."""
    parked = [one for one in conflicts.listed(database) if one.is_parked]
    if parked:
        msg = (
            f"{database.path} has parked rows, which stand in no table and would be lost with the log: "
            f"{_listed(parked)}. Resolve their conflicts first, or say that they may be discarded "
            "(discard_parked=True, --discard-parked); nothing was changed"
        )
        raise ConflictError(msg)


def _listed(parked: Sequence[Conflict]) -> str:
    named = ", ".join(f"{one.table_name} {dict(one.row_pk)} ({one.kind})" for one in parked[:_MOST_NAMED])
    return f"{named}{' and others' if len(parked) > _MOST_NAMED else ''}"
