"""Rows with more than one head: their operations, their images, and the open conflicts.

A fork keeps the image before its first listed operation, and its operations from there on, so that a row is judged
without reading the whole log. Forks stay after their conflict is closed: an operation written without knowing the
resolution may still come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from sqlite_sync import catalog, log, versions
from sqlite_sync.codec import Row, Value, pack_image, same, unpack_image
from sqlite_sync.database import Database
from sqlite_sync.log import Contexts
from sqlite_sync.operation import PARKED_KINDS, Kind, conflict_id, op_id, seq_of
from sqlite_sync.tables import Column, Table, commas, insert_rows, literal, logged, mark
from sqlite_sync.verdict import (
    UNTOLD,
    Image,
    MissingParentError,
    RowOperation,
    Told,
    Verdict,
    changed_columns,
    conflict_kind,
    judge,
)

IS_PARKED = f"kind IN ({commas(map(literal, PARKED_KINDS))})"
_TOLD = -1  # in a base image, in a column's place: a delete says so
_BATCH = 500  # parameters of one statement
_FIXED = 5  # columns of `operation_columns` before the values
_KINDS = tuple(Kind)  # by number: a look-up by value takes longer than all else about an operation
_UPDATE = Kind.UPDATE


@dataclass(slots=True)
class Fork:
    """A fork as it is to be stored; `number` is None for a new one, `others` are the heads it is in conflict with."""

    number: int | None
    key: Row
    base: Image
    operations: Sequence[RowOperation]
    verdict: Verdict
    others: Sequence[RowOperation] = field(init=False)

    def __post_init__(self) -> None:
        self.others = self.verdict.conflicting()


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


class Opened(NamedTuple):
    """A conflict that is new: its shown head and the other one, and the log positions in which they differ."""

    conflict_id: bytes
    kind: str
    local: RowOperation
    remote: RowOperation
    op_ids: tuple[bytes, bytes]
    differing: Sequence[int]

    @property
    def order(self) -> tuple[int, bytes, bytes]:
        """Its place in a listing of its table's conflicts."""
        return self.local.order[0], self.local.order[1], self.conflict_id


def store(database: Database, table: Table, forks: Sequence[Fork]) -> list[Opened]:
    """Store judged forks and their open conflicts; return those that are new."""
    before = _stored(database, forks)
    database.executemany("DELETE FROM main.sync_conflicts WHERE conflict_id = ?", [(pair,) for pair in before])
    versions.remove(database, table, before)
    _store_heads(database, table, forks)
    records: list[tuple[Any, ...]] = []
    images: list[tuple[bytes, Sequence[Image]]] = []
    opened: list[Opened] = []
    for fork in forks:
        verdict = fork.verdict
        shown = verdict.shown
        for other in fork.others:
            op_ids = id_of(shown), id_of(other)
            pair = conflict_id(*op_ids)
            kind, differing = conflict_kind(shown, other, verdict.images), _differing(table, verdict, other)
            records.append((pair, fork.number, kind, shown.dot, other.dot, " ".join(map(str, differing))))
            images.append((pair, _versions(table, verdict, other)))
            if pair not in before:
                opened.append(Opened(pair, kind, shown, other, op_ids, differing))
    records.sort()  # a table in the order of its key is filled fastest
    images.sort(key=itemgetter(0))
    database.executemany("INSERT INTO main.sync_conflicts VALUES (?, ?, ?, ?, ?, ?)", records)
    versions.put(database, table, images)
    return opened


def _stored(database: Database, forks: Sequence[Fork]) -> set[bytes]:
    """Return the ids of the open conflicts between versions of these rows."""
    select = f"SELECT conflict_id FROM main.sync_conflicts WHERE fork = ? AND NOT {IS_PARKED}"
    known = [fork.number for fork in forks if fork.number is not None]
    return {pair for number in known for (pair,) in database.execute(select, (number,))}


def _store_heads(database: Database, table: Table, forks: Sequence[Fork]) -> None:
    """Store everything about forks but their conflicts; new ones get their number."""
    number: int = database.one("SELECT coalesce(max(fork), 0) FROM main.sync_forks")
    known, new, keys = list[tuple[Any, ...]](), list[tuple[Any, ...]](), list[Row]()
    positions = [column.position for column in table.columns]
    for fork in forks:
        row = (pack_base(positions, fork.base), fork.verdict.shown.dot, int(bool(fork.others)))
        if fork.number is None:
            fork.number = number = number + 1
            new.append((*row, number))
            keys.append((*fork.key, number))
        else:
            known.append((*row, fork.number))
    database.executemany(
        "INSERT INTO main.sync_forks (base, shown, is_open, fork, table_no, is_parked) "
        f"VALUES (?, ?, ?, ?, {table.number}, 0)",
        new,
    )
    database.executemany("UPDATE main.sync_forks SET base = ?, shown = ?, is_open = ? WHERE fork = ?", known)
    insert_rows(database, f"main.sync_keys_{table.number}", keys)
    database.executemany(
        "INSERT INTO main.sync_fork_operations VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(fork.number, op.dot) for fork in forks for op in fork.operations],
    )


def list_unsettled(database: Database, entry: catalog.Entry) -> None:
    """List what this device wrote since the last settling with the forks of a table, without a look at it."""
    same_key = " AND ".join(f"k.k{i} = o.v{entry.columns.index(name)}" for i, name in enumerate(entry.key))
    database.execute(
        f"INSERT INTO main.sync_fork_operations SELECT k.fork, o.op FROM main.sync_operations AS o NOT INDEXED "
        f"JOIN main.sync_keys_{entry.number} AS k ON {same_key} "
        "WHERE o.op > (SELECT settled_seq FROM main.sync_state) AND o.table_no = ? ON CONFLICT DO NOTHING",
        (entry.number,),
    )


def renew_images(database: Database, table: Table) -> None:
    """Make the table of images and its view anew, as the table's shape asks for."""
    versions.create(database, table)
    contexts = Contexts(database)
    whole = catalog.whole(database, table)
    recorded = {pair for (pair,) in database.execute("SELECT conflict_id FROM main.sync_conflicts")}
    for _, base, operations in loaded_all(database, whole, open_forks(database, table)):
        verdict = judged(base, operations, contexts)
        for other in verdict.conflicting():
            pair = pair_id(verdict.shown, other)
            if pair not in recorded:  # one of its operations was only listed: judging the fork records it
                continue
            versions.put(database, table, [(pair, _versions(table, verdict, other))])
            database.execute(
                "UPDATE main.sync_conflicts SET differing = ? WHERE conflict_id = ?",
                (" ".join(map(str, _differing(table, verdict, other))), pair),
            )
    for fork, pair, kind, local in database.execute(
        "SELECT fork, c.conflict_id, c.kind, c.local_op FROM main.sync_conflicts AS c "
        f"JOIN main.sync_forks USING (fork) WHERE c.{IS_PARKED} AND table_no = ?",
        (table.number,),
    ).fetchall():
        in_the_way = "SELECT fork FROM main.sync_forks WHERE shown = ? AND table_no = ?"  # it may hang on this one
        taker = database.one(in_the_way, (local, table.number)) if kind == "unique" else None
        beside = None if taker is None else _shown_image(database, table, taker, contexts)
        versions.put(database, table, [(pair, (None, beside, _shown_image(database, table, fork, contexts)))])


def _shown_image(database: Database, table: Table, fork: int, contexts: Contexts) -> Image:
    base, operations = loaded(database, table, fork)
    return judged(base, operations, contexts).image


def _versions(table: Table, verdict: Verdict, other: RowOperation) -> Sequence[Image]:
    images = verdict.base_of((verdict.shown, other)), verdict.image, verdict.images[other.dot]
    return [None if image is None else image[: len(table.columns)] for image in images]


def _differing(table: Table, verdict: Verdict, other: RowOperation) -> list[int]:
    """List the log positions of the columns in which two live versions differ."""
    values = zip(table.columns, verdict.image or (), verdict.images[other.dot] or (), strict=False)
    return [column.position for column, one, another in values if one is not another and not same(one, another)]


def pack_base(positions: Sequence[int], image: Image) -> bytes | None:
    """Encode the base image of a fork, whose values have these positions in the log."""
    if image is None:
        return None
    told: dict[int, Value] = {_TOLD: 1} if type(image) is Told else {}
    return pack_image(told | dict(zip(positions, image, strict=image is not UNTOLD)))


def unpack_base(table: Table, packed: bytes | None) -> Image:
    """Decode the base image of a fork, for the columns that the table has now."""
    if packed is None:
        return None
    image = unpack_image(packed)
    if image.keys() == {_TOLD}:
        return UNTOLD
    values = tuple(image.get(column.position) for column in table.columns)
    return Told(values) if _TOLD in image else values


def loaded(database: Database, table: Table, fork: int) -> tuple[Image, list[RowOperation]]:
    """Read a fork: its base image, and its operations in the total order."""
    base = database.one("SELECT base FROM main.sync_forks WHERE fork = ?", (fork,))
    rows = database.execute(
        f"SELECT {operation_columns(table)} FROM main.sync_fork_operations AS f "
        f"JOIN main.sync_operations AS o ON o.op = f.op "
        f"{log.AUTHOR} WHERE f.fork = ? ORDER BY {log.TOTAL_ORDER}",
        (fork,),
    )
    return unpack_base(table, base), [*map(operation_reader(table), rows)]


def loaded_all(
    database: Database, table: Table, forks: Sequence[int]
) -> Iterator[tuple[int, Image, list[RowOperation]]]:
    """Read these forks: number, base image, operations in the total order."""
    read = operation_reader(table)
    for some in batches(forks):
        rows = database.execute(
            f"SELECT f.fork, s.base, {operation_columns(table)} FROM main.sync_fork_operations AS f "
            f"JOIN main.sync_forks AS s USING (fork) JOIN main.sync_operations AS o ON o.op = f.op {log.AUTHOR} "
            f"WHERE f.fork IN ({commas('?' * len(some))}) ORDER BY f.fork, {log.TOTAL_ORDER}",
            some,
        ).fetchall()
        for fork, group in groupby(rows, key=lambda row: row[0]):
            own = list(group)
            yield fork, unpack_base(table, own[0][1]), [read(row[2:]) for row in own]


def open_forks(database: Database, table: Table) -> list[int]:
    """List the forks of a table that are in conflict."""
    rows = database.execute("SELECT fork FROM main.sync_forks WHERE table_no = ? AND is_open", (table.number,))
    return [fork for (fork,) in rows]


def read_operation(database: Database, table: Table, dot: int) -> RowOperation:
    """Read one operation as its row sees it."""
    row = database.execute(
        f"SELECT {operation_columns(table)} FROM main.sync_operations AS o {log.AUTHOR} WHERE o.op = ?", (dot,)
    ).fetchone()
    return operation_reader(table)(row)


def history(database: Database, table: Table, op: RowOperation) -> list[RowOperation]:
    """Read all operations of the row of `op`; this scans the log."""
    return row_history(database, table, [op.values[table.columns.index(column)] for column in table.key])


def row_history(database: Database, table: Table, keys: Sequence[Value]) -> list[RowOperation]:
    """Read all operations of a row; this scans the log."""
    where = " AND ".join(
        f"o.{c.new} = {mark(value)} COLLATE {c.collation}" for c, value in zip(table.key, keys, strict=True)
    )
    rows = database.execute(
        f"SELECT {operation_columns(table)} FROM main.sync_operations AS o {log.AUTHOR} "
        f"WHERE o.table_no = {table.number} AND {where} ORDER BY {log.TOTAL_ORDER}",
        keys,
    )
    return [*map(operation_reader(table), rows)]


def judged(base: Image, operations: Sequence[RowOperation], contexts: Contexts) -> Verdict:
    """Judge a stored fork, as it was judged when it was stored."""
    try:
        return judge(base, operations, contexts.knows)
    except MissingParentError:
        return judge(base, operations, contexts.knows, is_whole=True)


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
    """Render the columns of the log and of `sync_devices` that `operation_reader` is for."""
    values = map(logged_value, table.columns)
    return commas(["o.op", "o.kind", "o.base", "o.hlc", "d.device_id", *values, *(f"o.{c.old}" for c in table.columns)])


def logged_value(column: Column) -> str:
    """Render the value that an operation writes; in an image that is older than the column, what stands for it."""
    return f"iif(o.kind = {Kind.UPDATE:d}, o.{column.new}, {logged(column)})" if column.fill else f"o.{column.new}"


def operation_reader(table: Table) -> Callable[[tuple[Any, ...]], RowOperation]:
    """Make the function that makes an operation of a line; it begins with the columns of `operation_columns`."""
    middle = _FIXED + len(table.columns)
    end = middle + len(table.columns)
    key = frozenset(table.key_indexes)

    def read(line: tuple[Any, ...]) -> RowOperation:
        op, number, base, hlc, device_id = line[:_FIXED]
        kind, values, old = _KINDS[number], line[_FIXED:middle], line[middle:end]
        changed = changed_columns(values, old, key) if kind is _UPDATE else ()
        return RowOperation(op, kind, base, (hlc, device_id, seq_of(op)), values, old, changed)

    return read


def named(table: Table, image: Image) -> dict[str, Value] | None:
    """Give an image its column names; columns that only other devices have stand behind the table's own, without."""
    if image is None:
        return None
    return {column.name: value for column, value in zip(table.columns, image, strict=False)}


def pair_id(one: RowOperation, other: RowOperation) -> bytes:
    """Return the id of the conflict between two heads."""
    return conflict_id(id_of(one), id_of(other))


def id_of(op: RowOperation) -> bytes:
    """Return an operation's op id."""
    _, device_id, seq = op.order
    return op_id(device_id, seq)


def fork_of(database: Database, table: Table, key: Sequence[Value]) -> int | None:
    """Return the fork that a row is, if it is one."""
    same = " AND ".join(f"k{i} = {mark(value)}" for i, value in enumerate(key))
    fork: int | None = database.one(f"SELECT fork FROM main.sync_keys_{table.number} WHERE {same}", key)
    return fork


def batches(things: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut what a statement is asked for into pieces that fit its parameters."""
    return (things[start : start + _BATCH] for start in range(0, len(things), _BATCH))
