"""Close the conflict of a parked row: it goes, it changes, or what is in its way gives way (SPEC.md, section 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sqlite_sync import (
    applier,
    catalog,
    conflicts,
    forks,
    log,
    parking,
    references,
    resolutions,
    resolver,
    settler,
    unseen,
)
from sqlite_sync.codec import Row, Value
from sqlite_sync.conflicts import Conflict
from sqlite_sync.database import Database
from sqlite_sync.errors import ConflictError
from sqlite_sync.hanging import Hanging
from sqlite_sync.live_rows import LiveRow, LiveRows
from sqlite_sync.log import Contexts
from sqlite_sync.operation import Kind, Operation
from sqlite_sync.resolutions import Outcome
from sqlite_sync.resolver import Choice
from sqlite_sync.tables import Table


def resolve(database: Database, conflict: Conflict, choice: Choice) -> Operation:
    """Write what was chosen as resolutions, in the caller's transaction; return the parked row's.

    "local" (or None) deletes the parked row; "remote" lets it stand, and the row that has its UNIQUE value goes, or its
    parent comes back; values are laid over the parked row.
    """
    settler.settle(database)
    table, fork, local, _ = conflicts.to_close(database, conflict)
    row = LiveRows(database, Contexts(database), has_ranges=False).of_fork(table, fork)
    if row is None:  # not so: what is parked is live
        msg = f"{table.name} {dict(conflict.row_pk)} is no row any more: list the conflicts again"
        raise ConflictError(msg)
    before = parking.footing(database, table, [row.key])
    match choice:
        case "local" | None:
            image = None
        case "remote":
            _make_room(database, conflict, row, local)
            image = _named(table, row.image)
        case Mapping():
            image = resolver.given(database, table, conflict, conflicts.images(database, conflict), choice)
        case _:
            raise resolver.impossible(choice)
    resolutions.append(database, table, Outcome(fork, row.head, row.head, image))
    seq = log.own_seq(database)
    settler.settle(database)
    if image is not None:  # it must stand now
        before = replace(before, parked=set(before.parked) - {fork})
    parking.require_footing(database, before)
    return log.one_operation(database, seq)


def _make_room(database: Database, conflict: Conflict, row: LiveRow, local: int) -> None:
    match conflict.kind:
        case "unique":
            with applier.quiet(database, [row.table], [row.table]):
                in_the_way = parking.in_the_way(database, row)
            for other in in_the_way:
                resolutions.append(database, other.table, Outcome(other.fork, other.head, other.head, None))
        case "foreign_key" if local != row.head:
            _bring_back(database, conflict, local)
        case _:
            why = "its parent is not synced" if conflict.kind == "foreign_key" else "its table refuses it"
            msg = (
                f"{conflict.table_name} {dict(conflict.row_pk)} cannot stand as it is, {why} ({conflict.kind}): give "
                "other values, or 'local' to delete it"
            )
            raise ConflictError(msg)


def _bring_back(database: Database, conflict: Conflict, loss: int) -> None:
    """Resolve a parent that was deleted to the image before that, and so on with what it refers to itself."""
    ahead = [(f"{conflict.table_name} {dict(conflict.row_pk)}", loss)]
    for child, one in ahead:
        parent = _undelete(database, child, one)
        if parent is not None:
            name = f"{parent.table.name} {_key(parent.table, parent.key)}"
            ahead += [(name, lost) for lost in _lost_parents(database, parent)]


def _undelete(database: Database, child: str, loss: int) -> LiveRow | None:
    """Bring back the row that `loss` deleted; the error names the row that refers to it."""
    number = database.one("SELECT table_no FROM main.sync_operations WHERE op = ?", (loss,))
    parent = next((table for table in catalog.enabled(database) if table.number == number), None)
    if parent is None:  # disabled since its row went
        [name] = [entry.name for entry in catalog.entries(database) if entry.number == number]
        msg = (
            f"the parent of {child} is in {name}, which is not synced here: "
            f"enable {name} first, or give other values, or 'local' to delete the row"
        )
        raise ConflictError(msg)
    rows = LiveRows(database, Contexts(database), has_ranges=False)
    op = forks.read_operation(database, parent, unseen.repeated(database, parent, loss))
    key: Row = tuple(op.values[parent.columns.index(column)] for column in parent.key)
    if op.kind != Kind.DELETE:
        why = "is in conflict itself" if op.kind in (Kind.INSERT, Kind.UPDATE) else "was deleted by a resolution"
        msg = (
            f"the parent of {child}, {parent.name} {_key(parent, key)}, {why}: resolve its "
            "conflict first, or write it again, or give other values"
        )
        raise ConflictError(msg)
    fork = rows.fork_of_absent(parent, key)
    resolutions.append(database, parent, Outcome(fork, loss, loss, _named(parent, op.values)))
    settler.settle(database)
    return rows.of_fork(parent, fork)


def _lost_parents(database: Database, row: LiveRow) -> list[int]:
    """List the operations that took away what a row in its table refers to."""
    contexts = Contexts(database)
    rows = LiveRows(database, contexts, has_ranges=False)
    declared = references.read(database, catalog.enabled(database))
    return Hanging(database, rows, contexts, declared).losses(row)


def _key(table: Table, key: Row) -> Mapping[str, Value]:
    return {column.name: value for column, value in zip(table.key, key, strict=True)}


def _named(table: Table, image: Row) -> Mapping[str, Value]:
    return {column.name: value for column, value in zip(table.columns, image, strict=True)}
