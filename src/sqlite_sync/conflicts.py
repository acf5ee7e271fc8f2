"""The open conflicts: listed, counted, and their versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlite_sync import catalog, forks, log, versions
from sqlite_sync.clock import hlc_time_ms
from sqlite_sync.codec import Value
from sqlite_sync.database import Database
from sqlite_sync.errors import ConflictError
from sqlite_sync.forks import Opened
from sqlite_sync.operation import PARKED_KINDS, op_id, ordinal_of, seq_of
from sqlite_sync.tables import Table, commas

_FIXED = 9  # columns that are read of a conflict before its key


class Conflict(NamedTuple):  # made by the ten thousand, as operations are
    """An open conflict of one row: on every device, `local` is the version that the table shows, `remote` the other.

    Where a constraint does not let the row stand, it is `remote`, and `local` is what it cannot stand beside: the row
    that has its UNIQUE value, or the operation that took its parent away. `kind` is insert/insert, update/update or
    update/delete; of such a parked row unique, foreign_key, check, not_null or schema. `columns` are those in which
    the two differ, none where one of them is no row.
    """

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
    columns: tuple[str, ...] = ()

    @property
    def is_parked(self) -> bool:
        """Whether a constraint keeps the row out of its table."""
        return self.kind in PARKED_KINDS


def require_conflict(given: object) -> None:
    """Refuse what is no conflict, such as the id of one."""
    if not isinstance(given, Conflict):
        msg = f"{given!r} is no Conflict: give one that get_unresolved_conflicts() lists, whole; its id is conflict_id"
        raise ConflictError(msg)


@dataclass(frozen=True, slots=True)
class Images:
    """The three versions of a row in conflict, column name -> value; None where there is no row."""

    base: Mapping[str, Value] | None
    local: Mapping[str, Value] | None
    remote: Mapping[str, Value] | None


def listed(database: Database, table: str | None = None) -> list[Conflict]:
    """List the open conflicts, by table and in the total order of the shown heads."""
    return [conflict for _, conflict in _listed(database, "?1 IS NULL OR t.name = ?1", (table,))]


def by_ids(database: Database, ids: Iterable[bytes]) -> list[Conflict]:
    """List these open conflicts."""
    found: list[Conflict] = []
    for some in forks.batches(sorted(set(ids))):
        found += [one for _, one in _listed(database, f"c.conflict_id IN ({commas('?' * len(some))})", some)]
    return found


def made(known: catalog.Entry, table: Table, opened: Iterable[Opened]) -> list[Conflict]:
    """Make what `listed` would read of conflicts of a table that were just stored."""
    key = [(name, table.columns.index(column)) for name, column in zip(known.key, table.key, strict=True)]
    return [
        Conflict(
            conflict_id=one.conflict_id,
            table_name=known.name,
            row_pk={name: one.local.values[place] for name, place in key},
            kind=one.kind,
            local_op_id=one.op_ids[0],
            remote_op_id=one.op_ids[1],
            local_device_id=one.local.order[1],
            remote_device_id=one.remote.order[1],
            local_time_ms=hlc_time_ms(one.local.order[0]),
            remote_time_ms=hlc_time_ms(one.remote.order[0]),
            columns=tuple([known.columns[position] for position in one.differing]),
        )
        for one in opened
    ]


def by_fork(database: Database, wanted: Iterable[int]) -> dict[int, list[Conflict]]:
    """List the open conflicts of these forks."""
    found: dict[int, list[Conflict]] = {}
    for some in forks.batches(sorted(set(wanted))):
        for fork, conflict in _listed(database, f"c.fork IN ({commas('?' * len(some))})", some):
            found.setdefault(fork, []).append(conflict)
    return found


def because_of(database: Database, dot: int) -> list[Conflict]:
    """List the conflicts of rows that are parked because of another row, by the shown head of that one."""
    where = f"c.{forks.IS_PARKED} AND c.local_op = ?1 AND c.remote_op <> ?1"
    return [one for _, one in _listed(database, where, (dot,))]


def forks_of(database: Database, ids: Iterable[bytes]) -> dict[bytes, int]:
    """Return the forks that these conflicts belong to."""
    found: dict[bytes, int] = {}
    for some in forks.batches(sorted(set(ids))):
        marks = commas("?" * len(some))
        rows = database.execute(
            f"SELECT conflict_id, fork FROM main.sync_conflicts WHERE conflict_id IN ({marks})", some
        )
        found.update(rows.fetchall())
    return found


def _listed(database: Database, where: str, parameters: Sequence[Any]) -> list[tuple[int, Conflict]]:
    """List (fork, conflict)."""
    known = {one.number: one for one in catalog.entries(database)}
    devices = log.device_ids(database)
    keys = {number: [one.columns.index(name) for name in one.key] for number, one in known.items()}
    places = {position: _FIXED + i for i, position in enumerate(sorted({p for key in keys.values() for p in key}))}
    rows = database.execute(
        "SELECT c.conflict_id, c.fork, c.kind, c.local_op, l.hlc, c.remote_op, r.hlc, c.differing, o.table_no"
        f"{''.join(f', o.v{position}' for position in places)} "
        "FROM main.sync_conflicts AS c JOIN main.sync_operations AS l ON l.op = c.local_op "
        "JOIN main.sync_operations AS r ON r.op = c.remote_op "
        f"JOIN main.sync_operations AS o ON o.op = CASE WHEN c.{forks.IS_PARKED} THEN c.remote_op ELSE c.local_op END "
        f"{log.AUTHOR} JOIN main.sync_tables AS t ON t.table_no = o.table_no "
        f"WHERE {where} ORDER BY t.name, o.hlc, d.device_id, c.conflict_id",
        parameters,
    )
    named = {
        number: [(name, places[p]) for name, p in zip(known[number].key, key, strict=True)]
        for number, key in keys.items()
    }
    found = []
    for row in rows:
        pair, fork, kind, local, local_hlc, remote, remote_hlc, differing, number = row[:_FIXED]
        here, there = devices[ordinal_of(local)], devices[ordinal_of(remote)]
        columns = known[number].columns
        conflict = Conflict(
            conflict_id=pair,
            table_name=known[number].name,
            row_pk={name: row[place] for name, place in named[number]},
            kind=kind,
            local_op_id=op_id(here, seq_of(local)),
            remote_op_id=op_id(there, seq_of(remote)),
            local_device_id=here,
            remote_device_id=there,
            local_time_ms=hlc_time_ms(local_hlc),
            remote_time_ms=hlc_time_ms(remote_hlc),
            columns=tuple([columns[int(position)] for position in differing.split()]),
        )
        found.append((fork, conflict))
    return found


def count(database: Database) -> int:
    """Count the open conflicts."""
    number: int = database.one("SELECT count(*) FROM main.sync_conflicts")
    return number


def counts(database: Database) -> list[tuple[str, str, int]]:
    """Count the open conflicts by (table, kind)."""
    return database.execute(
        "SELECT t.name, c.kind, count(*) FROM main.sync_conflicts AS c JOIN main.sync_forks AS f USING (fork) "
        "JOIN main.sync_tables AS t USING (table_no) GROUP BY t.name, c.kind ORDER BY t.name, c.kind"
    ).fetchall()


def images(database: Database, conflict: Conflict) -> Images:
    """Return the versions of a row in conflict; the base is what both sides started from."""
    table, *_ = located(database, conflict)
    return _images(database, table, conflict.conflict_id)


def each_with_images(database: Database, table: str | None = None) -> Iterator[tuple[Conflict, Images]]:
    """Yield the open conflicts with their versions."""
    shapes: dict[str, Table] = {}
    for conflict in listed(database, table):
        if conflict.table_name not in shapes:
            shapes[conflict.table_name] = located(database, conflict)[0]
        yield conflict, _images(database, shapes[conflict.table_name], conflict.conflict_id)


def _images(database: Database, table: Table, conflict_id: bytes) -> Images:
    found = versions.read(database, table, conflict_id)
    return Images(*(forks.named(table, found.get(version)) for version in versions.VERSIONS))


def to_close(database: Database, conflict: Conflict) -> tuple[Table, int, int, int]:
    """Find an open conflict as `located` does; ConflictError where its table is not captured, so cannot be written."""
    found = located(database, conflict)
    if found[0].number not in {entry.number for entry in catalog.entries(database) if entry.is_enabled}:
        msg = (
            f"{conflict.table_name} is not synced here, so its conflict on {dict(conflict.row_pk)} cannot be closed: "
            f"enable {conflict.table_name} first; nothing was changed"
        )
        raise ConflictError(msg)
    return found


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
