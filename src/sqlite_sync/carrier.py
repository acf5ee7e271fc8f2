"""References to a row of which a version was kept under another key (SPEC.md, section 10.3).

Two devices gave one key to two rows, and rows that refer to the key mean the one or the other: the one that their
author had in front of them when they wrote the reference. Which one that was, the contexts tell.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

from sqlite_sync import app_triggers, capture, catalog, forks, log
from sqlite_sync.codec import Row, Value, same
from sqlite_sync.database import Database
from sqlite_sync.errors import ConstraintError
from sqlite_sync.log import Contexts
from sqlite_sync.operation import Kind
from sqlite_sync.tables import Column, Table, commas, fold, mark, same_native
from sqlite_sync.verdict import RowOperation, Verdict, judge


@dataclass(frozen=True, slots=True)
class Kept:
    """A version of a row that was given another key: the key it had, its new values, and how to tell who meant it.

    `own` are the operations that the kept version has and the shown one has not; `shown` are those of the shown one.
    """

    table: Table
    key: Row
    changed: Mapping[str, Value]
    own: tuple[RowOperation, ...]
    shown: tuple[RowOperation, ...]

    def is_meant_by(self, op: RowOperation, contexts: Contexts) -> bool:
        """Tell whether the author of a reference had this version in front of them, and not the shown one."""
        return any(contexts.knows(op, one) for one in self.own) and not any(
            contexts.knows(op, one) for one in self.shown
        )


@dataclass(frozen=True, slots=True)
class _Reference:
    """A declared reference to a primary key: the child's columns, in the order of that key."""

    child: Table
    parent: Table
    columns: tuple[Column, ...]


def lineage(verdict: Verdict, operations: Iterable[RowOperation], dot: int) -> list[RowOperation]:
    """List a head and the operations that it covers."""
    covered = verdict.covered.get(dot)
    return [op for op in operations if covered is None or op.dot == dot or op.dot in covered]


def kept(
    table: Table, verdict: Verdict, operations: Sequence[RowOperation], dot: int, image: Mapping[str, Value]
) -> Kept:
    """Describe the copy of the head `dot`, whose image with its new key is given."""
    before = forks.named(table, verdict.images[dot]) or {}
    mine, theirs = ({one, *verdict.covered[one]} for one in (dot, verdict.shown.dot))
    return Kept(
        table=table,
        key=tuple(before[column.name] for column in table.key),
        changed={name: image[name] for name in before if not same(image[name], before[name])},
        own=tuple(op for op in operations if op.dot in mine - theirs),
        shown=tuple(op for op in operations if op.dot in theirs - mine),
    )


def carry(database: Database, copies: Sequence[Kept]) -> None:
    """Let rows that refer to the kept versions refer to their new keys; capture logs it."""
    if not copies:
        return
    parent, contexts = copies[0].table, Contexts(database)
    for child in catalog.enabled(database):
        for reference in _references(database, child):
            if fold(reference.parent.name) == fold(parent.name):
                found = list(_meant(database, reference, copies, contexts))
                with quiet(database, child, is_busy=bool(found)):
                    for key, one in found:
                        _refer(database, reference, key, one)


class Registry:
    """The versions that got new keys so far, by their table and former key."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._found: dict[tuple[str, Row], list[Kept]] = {}
        self._contexts = Contexts(database)
        self._references: dict[int, list[_Reference]] = {}

    def add(self, copies: Iterable[Kept]) -> None:
        """Note copies that were written."""
        for one in copies:
            self._found.setdefault((fold(one.table.name), one.key), []).append(one)

    def with_more(self, copies: Iterable[Kept]) -> Registry:
        """Return one that knows these too."""
        more = Registry(self._database)
        more._found = {key: list(found) for key, found in self._found.items()}
        more.add(copies)
        return more

    def references(self, table: Table, image: Mapping[str, Value], history: Sequence[RowOperation]) -> dict[str, Value]:
        """Return the new values of columns of a version, with these operations, that refer to a version kept so."""
        found: dict[str, Value] = {}
        if not self._found:
            return found
        if table.number not in self._references:
            self._references[table.number] = list(_references(self._database, table))
        for reference in self._references[table.number]:
            values = tuple(image[column.name] for column in reference.columns)
            copies = self._found.get((fold(reference.parent.name), values), [])
            writer = _writer(table, reference, history) if copies else None
            if copies and writer is None:  # it lies before the fork
                whole = forks.history(self._database, table, history[0])
                writer = _writer(table, reference, [op for op in whole if op.order < history[0].order])
            for one in copies:
                is_same = writer is not None and all(map(same, values, one.key))
                if writer is not None and is_same and one.is_meant_by(writer, self._contexts):
                    found |= _new_values(reference, one)
        return found


@contextmanager
def quiet(database: Database, table: Table, *, is_busy: bool = True) -> Iterator[None]:
    """Write to a table by SQL, captured, while the application's triggers fire by the rule of an import."""
    if not is_busy:
        yield
        return
    names = [one.name for one in catalog.enabled(database)]
    silent = [one for one in app_triggers.decide(database, names) if one.table_name == table.name and not one.fires]
    with app_triggers.silenced(database, silent):
        yield
    if silent:  # they are newer than ours now
        capture.install(database, table)


def _references(database: Database, child: Table) -> Iterator[_Reference]:
    """Yield the declared references of a table to the whole primary keys of synced tables."""
    rows = database.execute(
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id, seq', (child.name,)
    ).fetchall()
    for _, group in groupby(rows, key=lambda row: row[0]):
        listed = list(group)
        entry = catalog.entry(database, listed[0][1])
        if entry is None or not entry.is_enabled or not catalog.exists(database, entry):
            continue
        parent = catalog.shape(database, entry)
        by_name = {fold(column.name): column for column in child.columns}
        named = [column.name for column in parent.key] if listed[0][3] is None else [row[3] for row in listed]
        targets = {fold(to): by_name.get(fold(row[2])) for to, row in zip(named, listed, strict=False)}
        columns = [targets.get(fold(column.name)) for column in parent.key]
        if len(targets) == len(parent.key) and all(columns):
            yield _Reference(child, parent, tuple(column for column in columns if column is not None))


def _meant(
    database: Database, reference: _Reference, copies: Sequence[Kept], contexts: Contexts
) -> Iterator[tuple[Row, Kept]]:
    """Yield the rows, by key, that refer to a kept version's former key and meant that version."""
    child, parent = reference.child, reference.parent
    typed = commas(f"k{i} {c.affinity} COLLATE {c.collation}" for i, c in enumerate(parent.key))
    database.execute(f"CREATE TEMP TABLE sync_kept (place INTEGER PRIMARY KEY, {typed})")
    for place, one in enumerate(copies):
        database.execute(f"INSERT INTO temp.sync_kept VALUES (?, {commas(map(mark, one.key))})", (place, *one.key))
    keys = commas(f"k{i} {c.affinity} COLLATE {c.collation}" for i, c in enumerate(child.key))
    database.execute(f"CREATE TEMP TABLE sync_referring (row INTEGER PRIMARY KEY, place, {keys})")
    same_values = " AND ".join(f"k.k{i} = t.{column.sql}" for i, column in enumerate(reference.columns))
    database.execute(
        f"INSERT INTO temp.sync_referring SELECT NULL, k.place, {commas(f't.{c.sql}' for c in child.key)} "
        f"FROM {child.sql} AS t JOIN temp.sync_kept AS k ON {same_values} ORDER BY k.place"
    )
    rows = database.execute(
        f"SELECT c.row, c.place, {forks.operation_columns(child)} FROM temp.sync_referring AS c "
        f"JOIN main.sync_operations AS o ON o.table_no = {child.number} AND {same_native('c', child, 'o')} "
        f"{log.AUTHOR} ORDER BY c.row, {log.TOTAL_ORDER}"
    ).fetchall()
    for name in ("kept", "referring"):
        database.execute(f"DROP TABLE temp.sync_{name}")
    read = forks.operation_reader(child)
    for _, group in groupby(rows, key=lambda row: row[0]):
        found = list(group)
        operations = [read(row[2:]) for row in found]
        verdict = judge(None, operations, contexts.knows, is_whole=True)
        writer = _writer(child, reference, lineage(verdict, operations, verdict.shown.dot))
        one = copies[found[0][1]]
        if writer is not None and verdict.image is not None and one.is_meant_by(writer, contexts):
            yield tuple(verdict.image[child.columns.index(column)] for column in child.key), one


def _writer(table: Table, reference: _Reference, history: Sequence[RowOperation]) -> RowOperation | None:
    """Find the last of these operations that wrote a reference."""
    places = [table.columns.index(column) for column in reference.columns]
    wrote = (
        op
        for op in reversed(history)
        if op.kind in (Kind.INSERT, Kind.RESOLVE) or any(place in op.changed for place in places)
    )
    return next(wrote, None)


def _new_values(reference: _Reference, one: Kept) -> dict[str, Value]:
    pairs = zip(reference.columns, reference.parent.key, strict=True)
    return {column.name: one.changed[key.name] for column, key in pairs if key.name in one.changed}


def _refer(database: Database, reference: _Reference, key: Row, one: Kept) -> None:
    table, values = reference.child, _new_values(reference, one)
    by_name = {column.name: column for column in table.columns}
    assignments = commas(f"{by_name[name].sql} = {mark(value)}" for name, value in values.items())
    where = " AND ".join(f"{c.sql} = {mark(value)}" for c, value in zip(table.key, key, strict=True))
    try:
        update = f"UPDATE {table.or_abort}{table.sql} SET {assignments} WHERE {where}"
        database.execute(update, (*values.values(), *key))
    except sqlite3.IntegrityError as error:
        row = dict(zip((column.name for column in table.key), key, strict=True))
        msg = (
            f"{error}: {table.name} {row} cannot refer to the version of {one.table.name} that is kept under a new "
            "key. Resolve this conflict another way"
        )
        raise ConstraintError(msg) from error
