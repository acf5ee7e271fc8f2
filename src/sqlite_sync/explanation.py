"""The whole story of one row: who wrote what, when, over what, and which conflict that opened or closed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlite_sync import births, catalog, conflicts, forks, log
from sqlite_sync.codec import Row, Value
from sqlite_sync.conflicts import Conflict
from sqlite_sync.database import Database
from sqlite_sync.errors import TableError
from sqlite_sync.log import Contexts
from sqlite_sync.operation import Operation
from sqlite_sync.tables import Table, commas, fold, mark
from sqlite_sync.verdict import Step, steps

Key = Mapping[str, Value] | Value


@dataclass(frozen=True, slots=True)
class Event:
    """One operation on a row; events come in the order that all devices share.

    `image` is the row as this operation left it, None where it is deleted; `superseded` are the op ids of the heads
    that it covers; `opened` and `closed` the ids of the conflicts between versions that come or go with it.
    """

    operation: Operation
    image: Mapping[str, Value] | None
    superseded: tuple[bytes, ...]
    opened: tuple[bytes, ...]
    closed: tuple[bytes, ...]
    is_head: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """The story of a row, and the conflicts that are open in the end; the last of its heads is the shown one.

    `keeps_out` are the conflicts of other rows, parked because of this one: it has their UNIQUE value, or was their
    parent. `birth` names a row of a mapped table to other devices: the device where it was born, and its number there.
    """

    table_name: str
    row_pk: Mapping[str, Value]
    birth: tuple[bytes, int] | None
    events: tuple[Event, ...]
    open_conflicts: tuple[Conflict, ...]
    keeps_out: tuple[Conflict, ...] = ()

    @property
    def is_parked(self) -> bool:
        """Whether a constraint keeps the row out of its table."""
        return any(one.is_parked for one in self.open_conflicts)


def read(database: Database, table_name: str, key: Key) -> Explanation:
    """Tell the story of a row, given by its key: column name -> value, or the value where the key is one column."""
    table = _table(database, table_name)
    values = _key_values(database, table, key)
    operations = forks.row_history(database, catalog.whole(database, table), values)
    if not operations:
        named = {column.name: value for column, value in zip(table.key, values, strict=True)}
        msg = f"the log of {database.path} knows no row {named!r} of {table.name}: check the key, and the types in it"
        raise TableError(msg)
    told = list(steps(None, operations, Contexts(database).knows, is_whole=True))
    events = tuple(_events(database, table, told))
    fork = forks.fork_of(database, table, values)
    listed = [] if fork is None else conflicts.by_fork(database, [fork]).get(fork, [])
    row_pk = events[-1].operation.row_pk
    kept_out = conflicts.because_of(database, told[-1].shown.dot)
    return Explanation(table.name, row_pk, _birth(database, table, values), events, tuple(listed), tuple(kept_out))


def _birth(database: Database, table: Table, key: Row) -> tuple[bytes, int] | None:
    if table.number not in catalog.mapped(database) or not isinstance(key[0], int):
        return None
    device_id, number = births.birth(database, table.number, key[0])
    return None if device_id is None else (device_id, number)


def _events(database: Database, table: Table, told: Sequence[Step]) -> Iterator[Event]:
    heads = {head.dot for head in told[-1].heads}
    before: dict[bytes, None] = {}
    for step in told:
        now = dict.fromkeys(_pairs(step))
        yield Event(
            operation=log.one_operation(database, step.op.dot),
            image=forks.named(table, step.images[step.op.dot]),
            superseded=tuple(forks.id_of(head) for head in step.superseded),
            opened=tuple(pair for pair in now if pair not in before),
            closed=tuple(pair for pair in before if pair not in now),
            is_head=step.op.dot in heads,
        )
        before = now


def _pairs(step: Step) -> list[bytes]:
    """Return the ids of the conflicts that stand after a step."""
    return [forks.pair_id(step.shown, other) for other in step.conflicting()]


def _table(database: Database, name: str) -> Table:
    entry = catalog.entry(database, name)
    if entry is None or not catalog.exists(database, entry) or not catalog.was_enabled(database, entry.number):
        msg = f"{name} is no table of {database.path} that is or was synced: see status for those that are"
        raise TableError(msg)
    return catalog.shape(database, entry)


def _key_values(database: Database, table: Table, key: Key) -> Row:
    names = [column.name for column in table.key]
    if not isinstance(key, Mapping):
        key = {names[0]: key} if len(names) == 1 else {}
    given = {fold(str(name)): value for name, value in key.items()}
    if given.keys() != {fold(name) for name in names}:
        msg = f"the key of {table.name} is {', '.join(names)}: give a value for each, by name"
        raise TableError(msg)
    values = tuple(given[fold(name)] for name in names)
    try:
        database.execute(f"SELECT {commas(map(mark, values))}", values)
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError, OverflowError, UnicodeEncodeError) as error:
        msg = f"{key!r} cannot be a key of {table.name}: give text, a number of at most 64 bits, bytes or None"
        raise TableError(msg) from error
    return values
