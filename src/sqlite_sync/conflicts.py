"""Rows with more than one head: their operations, their images, and the open conflicts.

A fork keeps the image before its first listed operation, and its operations from there on, so that a row is judged
without reading the whole log. Forks stay after their conflict is closed: an operation written without knowing the
resolution may still come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlite_sync import catalog, log
from sqlite_sync.clock import hlc_time_ms
from sqlite_sync.codec import Row, Value, pack_image, unpack_image
from sqlite_sync.database import Database
from sqlite_sync.errors import ConflictError
from sqlite_sync.log import Contexts
from sqlite_sync.operation import Kind, conflict_id, op_id, ordinal_of, seq_of
from sqlite_sync.tables import Column, Table, commas, logged, mark
from sqlite_sync.verdict import Image, MissingParentError, RowOperation, Verdict, conflict_kind, judge


@dataclass(frozen=True, slots=True)
class Conflict:
    """An open conflict of one row: on every device, `local` is the version that the table shows, `remote` the other."""

    conflict_id: bytes
    table_name: str
    row_pk: Mapping[str, Value]
    kind: str
    local_op_id: bytes
    remote_op_id: bytes
    local_device_id: bytes
    remote_device_id: bytes
    local_time_ms: int
    remote_time_ms: int


@dataclass(frozen=True, slots=True)
class Images:
    """The three versions of a row in conflict, column name -> value; None where there is no row."""

    base: Mapping[str, Value] | None
    local: Mapping[str, Value] | None
    remote: Mapping[str, Value] | None


@dataclass(slots=True)
class Fork:
    """A fork as it is to be stored; `number` is None for a new one."""

    number: int | None
    key: Row
    base: Image
    operations: Sequence[RowOperation]
    verdict: Verdict
    opened: list[tuple[bytes, int, int]] = field(default_factory=list)


def create_keys(database: Database, table: Table) -> None:
    """Make the table that finds forks by their native key."""
    columns = commas(f"k{i} {c.affinity} COLLATE {c.collation} NOT NULL" for i, c in enumerate(table.key))
    names = commas(f"k{i}" for i in range(len(table.key)))
    database.execute(
        f"CREATE TABLE main.sync_keys_{table.number} ({columns}, fork INTEGER NOT NULL, "
        f"PRIMARY KEY ({names})) WITHOUT ROWID"
    )


def has_forks(database: Database, table: Table) -> bool:
    """Tell whether any row of a table is a fork."""
    return bool(database.one("SELECT EXISTS (SELECT 1 FROM main.sync_forks WHERE table_no = ?)", (table.number,)))


def store(database: Database, table: Table, fork: Fork, devices: Mapping[int, bytes]) -> None:
    """Store a judged fork and its open conflicts; `fork.opened` gets the new ones: (conflict id, local, remote)."""
    verdict = fork.verdict
    pairs = {_pair_id(devices, verdict.shown, other): other for other in verdict.conflicting()}
    values = (pack_base(table, fork.base), verdict.shown.dot, bool(pairs))
    if fork.number is None:
        fork.number = database.execute(
            "INSERT INTO main.sync_forks (table_no, base, shown, is_open) VALUES (?, ?, ?, ?)", (table.number, *values)
        ).lastrowid
        marks = commas(map(mark, (*fork.key, fork.number)))
        database.execute(f"INSERT INTO main.sync_keys_{table.number} VALUES ({marks})", (*fork.key, fork.number))
    else:
        database.execute(
            "UPDATE main.sync_forks SET base = ?, shown = ?, is_open = ? WHERE fork = ?", (*values, fork.number)
        )
    database.executemany(
        "INSERT INTO main.sync_fork_operations VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(fork.number, op.dot) for op in fork.operations],
    )
    before = {
        row[0] for row in database.execute("SELECT conflict_id FROM main.sync_conflicts WHERE fork = ?", (fork.number,))
    }
    fork.opened = [(pair, verdict.shown.dot, other.dot) for pair, other in pairs.items() if pair not in before]
    database.execute("DELETE FROM main.sync_conflicts WHERE fork = ?", (fork.number,))
    database.executemany(
        "INSERT INTO main.sync_conflicts VALUES (?, ?, ?, ?, ?)",
        [
            (pair, fork.number, conflict_kind(verdict.shown, other, verdict.images), verdict.shown.dot, other.dot)
            for pair, other in pairs.items()
        ],
    )


def pack_base(table: Table, image: Image) -> bytes | None:
    """Encode the base image of a fork."""
    if image is None:
        return None
    return pack_image({c.position: value for c, value in zip(table.columns, image, strict=True)})


def unpack_base(table: Table, packed: bytes | None) -> Image:
    """Decode the base image of a fork, for the columns that the table has now."""
    if packed is None:
        return None
    image = unpack_image(packed)
    return tuple(image.get(column.position) for column in table.columns)


def listed(database: Database, table: str | None = None) -> list[Conflict]:
    """List the open conflicts, by table and in the total order of the shown heads."""
    known = {one.number: one for one in catalog.entries(database)}
    devices = log.device_ids(database)
    rows = database.execute(
        "SELECT c.conflict_id, c.kind, c.remote_op, o.* FROM main.sync_conflicts AS c JOIN main.sync_operations "
        "AS o ON o.op = c.local_op "
        f"{log.AUTHOR} JOIN main.sync_tables AS t USING (table_no) "
        "WHERE ?1 IS NULL OR t.name = ?1 ORDER BY t.name, o.hlc, d.device_id, c.conflict_id",
        (table,),
    ).fetchall()
    return [_public(database, known[row[4]], devices, row) for row in rows]


def by_ids(database: Database, ids: Iterable[bytes]) -> list[Conflict]:
    """List these open conflicts."""
    wanted = set(ids)
    return [conflict for conflict in listed(database) if conflict.conflict_id in wanted] if wanted else []


def count(database: Database) -> int:
    """Count the open conflicts."""
    number: int = database.one("SELECT count(*) FROM main.sync_conflicts")
    return number


def images(database: Database, conflict: Conflict) -> Images:
    """Return the versions of a row in conflict; the base is what both sides started from."""
    table, fork, local, remote = located(database, conflict)
    contexts = Contexts(database)
    base, operations = loaded(database, table, fork)
    verdict = judged(base, operations, contexts, table)
    heads = {op.dot: op for op in operations}
    common = [op.dot for op in operations if contexts.knows(heads[local], op) and contexts.knows(heads[remote], op)]
    before = verdict.images[common[-1]] if common else base
    return Images(named(table, before), named(table, verdict.images[local]), named(table, verdict.images[remote]))


def located(database: Database, conflict: Conflict) -> tuple[Table, int, int, int]:
    """Find an open conflict: its table, fork, and the dot numbers of its local and remote head."""
    row = database.execute(
        "SELECT f.table_no, c.fork, c.local_op, c.remote_op FROM main.sync_conflicts AS c "
        "JOIN main.sync_forks AS f USING (fork) "
        "WHERE c.conflict_id = ?",
        (conflict.conflict_id,),
    ).fetchone()
    if row is None:
        where = f"{conflict.table_name} {dict(conflict.row_pk)}"
        msg = f"the conflict {conflict.conflict_id.hex()} on {where} is not open (any more): list the conflicts again"
        raise ConflictError(msg)
    [known] = [one for one in catalog.entries(database) if one.number == row[0]]
    return catalog.shape(database, known), *row[1:]


def loaded(database: Database, table: Table, fork: int) -> tuple[Image, list[RowOperation]]:
    """Read a fork: its base image, and its operations in the total order."""
    base = database.one("SELECT base FROM main.sync_forks WHERE fork = ?", (fork,))
    rows = database.execute(
        f"SELECT {operation_columns(table)} FROM main.sync_fork_operations AS f "
        f"JOIN main.sync_operations AS o ON o.op = f.op "
        f"{log.AUTHOR} WHERE f.fork = ? ORDER BY {log.TOTAL_ORDER}",
        (fork,),
    )
    return unpack_base(table, base), [row_operation(table, row) for row in rows]


def history(database: Database, table: Table, op: RowOperation) -> list[RowOperation]:
    """Read all operations of the row of `op`; this scans the log."""
    keys = [op.values[table.columns.index(column)] for column in table.key]
    where = " AND ".join(
        f"o.{c.new} = {mark(value)} COLLATE {c.collation}" for c, value in zip(table.key, keys, strict=True)
    )
    rows = database.execute(
        f"SELECT {operation_columns(table)} FROM main.sync_operations AS o {log.AUTHOR} "
        f"WHERE o.table_no = {table.number} AND {where} ORDER BY {log.TOTAL_ORDER}",
        keys,
    )
    return [row_operation(table, row) for row in rows]


def judged(base: Image, operations: Sequence[RowOperation], contexts: Contexts, table: Table) -> Verdict:
    """Judge a stored fork, as it was judged when it was stored."""
    try:
        return judge(base, operations, contexts.knows, table.key_indexes)
    except MissingParentError:
        return judge(base, operations, contexts.knows, table.key_indexes, is_whole=True)


def rebase(database: Database, table: Table) -> None:
    """Let every fork of a table start from its row's beginning, where columns appeared that its base does not have."""
    for (fork,) in database.execute("SELECT fork FROM main.sync_forks WHERE table_no = ?", (table.number,)).fetchall():
        _, operations = loaded(database, table, fork)
        database.execute("UPDATE main.sync_forks SET base = NULL WHERE fork = ?", (fork,))
        database.executemany(
            "INSERT INTO main.sync_fork_operations VALUES (?, ?) ON CONFLICT DO NOTHING",
            [(fork, op.dot) for op in history(database, table, operations[0])],
        )


def operation_columns(table: Table) -> str:
    """Render the columns of the log and of `sync_devices` that `row_operation` reads."""
    values = map(logged_value, table.columns)
    return commas(["o.op", "o.kind", "o.base", "o.hlc", "d.device_id", *values, *(f"o.{c.old}" for c in table.columns)])


def logged_value(column: Column) -> str:
    """Render the value that an operation writes; in an image that is older than the column, what stands for it."""
    return f"iif(o.kind = {Kind.UPDATE:d}, o.{column.new}, {logged(column)})" if column.fill else f"o.{column.new}"


def row_operation(table: Table, row: tuple[Any, ...]) -> RowOperation:
    """Make the value that a row is judged by."""
    op, kind, base, hlc, device_id, *values = row
    width = len(table.columns)
    return RowOperation(
        dot=op,
        kind=Kind(kind),
        base=base,
        order=(hlc, device_id, seq_of(op)),
        values=tuple(values[:width]),
        old=tuple(values[width:]),
    )


def named(table: Table, image: Image) -> dict[str, Value] | None:
    """Give an image its column names."""
    if image is None:
        return None
    return {column.name: value for column, value in zip(table.columns, image, strict=True)}


def _pair_id(devices: Mapping[int, bytes], one: RowOperation, other: RowOperation) -> bytes:
    ids = [op_id(devices[ordinal_of(op.dot)], seq_of(op.dot)) for op in (one, other)]
    return conflict_id(*ids)


def _public(database: Database, table: catalog.Entry, devices: Mapping[int, bytes], row: tuple[Any, ...]) -> Conflict:
    pair, kind, remote, *logged = row
    left = log.public(table, devices, tuple(logged))
    right_device = devices[ordinal_of(remote)]
    return Conflict(
        conflict_id=pair,
        table_name=table.name,
        row_pk=left.row_pk,
        kind=kind,
        local_op_id=left.op_id,
        remote_op_id=op_id(right_device, seq_of(remote)),
        local_device_id=left.device_id,
        remote_device_id=right_device,
        local_time_ms=left.time_ms,
        remote_time_ms=hlc_time_ms(log.hlc_at(database, ordinal_of(remote), seq_of(remote))),
    )
