"""The append-only log: the vector clock, contexts, and reading operations.

It has two writers: the capture triggers for local changes, and the importer, set by set, for those of other devices.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlite_sync.catalog import Entry, entries
from sqlite_sync.clock import VectorClock
from sqlite_sync.codec import Value
from sqlite_sync.database import Database
from sqlite_sync.operation import NO_OP_ID, ORDINAL_SHIFT, Kind, Operation, dot_number, op_id, ordinal_of, seq_of
from sqlite_sync.tables import commas
from sqlite_sync.verdict import RowOperation

AUTHOR = f"JOIN main.sync_devices AS d ON d.ordinal = -((o.op - 1) >> {ORDINAL_SHIFT})"  # of the operation o
TOTAL_ORDER = "o.hlc, d.device_id, o.op"
_BATCH = 500


class Contexts:
    """What each device knew at each of its operations; read from the file as far as it is asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pairs: dict[tuple[int, int], tuple[list[int], list[int]]] = {}

    def knows(self, later: RowOperation, earlier: RowOperation) -> bool:
        """Tell whether `earlier` happened before `later`."""
        return self.knows_dot(later.dot, earlier.dot)

    def knows_dot(self, later: int, earlier: int) -> bool:
        """Tell the same of two dot numbers."""
        mine, theirs = (later - 1) >> ORDINAL_SHIFT, (earlier - 1) >> ORDINAL_SHIFT  # the ordinals, negative
        if mine == theirs:
            return earlier < later
        seq, known_seq = later - (mine << ORDINAL_SHIFT), earlier - (theirs << ORDINAL_SHIFT)
        seqs, known_seqs = self._pairs.get((-mine, -theirs)) or self._load(-mine, -theirs)
        place = bisect_right(seqs, seq)
        return place > 0 and known_seq <= known_seqs[place - 1]

    def _load(self, ordinal: int, other: int) -> tuple[list[int], list[int]]:
        rows = self._database.execute(
            "SELECT seq, known_seq FROM main.sync_contexts WHERE ordinal = ? AND known_ordinal = ? ORDER BY seq",
            (ordinal, other),
        ).fetchall()
        pair = ([seq for seq, _ in rows], [known_seq for _, known_seq in rows])
        self._pairs[ordinal, other] = pair
        return pair


def clock(database: Database) -> dict[int, int]:
    """Return the vector clock, by ordinal."""
    return dict(database.execute("SELECT ordinal, seq FROM main.sync_clock").fetchall())


def device_ids(database: Database) -> dict[int, bytes]:
    """Return all known devices, by ordinal."""
    return dict(database.execute("SELECT ordinal, device_id FROM main.sync_devices").fetchall())


def vector_clock(database: Database) -> VectorClock:
    """Return the vector clock."""
    return VectorClock(dict(database.execute("SELECT device_id, seq FROM main.sync_clock").fetchall()))


def by_ordinal(database: Database, seqs: Mapping[bytes, int]) -> dict[int, int]:
    """Translate device ids into ordinals; devices that nobody here has heard of are left out."""
    return {ordinal: seqs[device] for ordinal, device in device_ids(database).items() if device in seqs}


def ordinal_for(database: Database, device_id: bytes) -> int:
    """Return a device's ordinal; a new device gets the next one."""
    database.execute(
        "INSERT INTO main.sync_devices (device_id, seq) VALUES (?, 0) ON CONFLICT DO NOTHING", (device_id,)
    )
    ordinal: int = database.one("SELECT ordinal FROM main.sync_devices WHERE device_id = ?", (device_id,))
    return ordinal


def ordinals_for(database: Database, wanted: Sequence[bytes]) -> dict[bytes, int]:
    """Return the ordinals of devices; each new one gets the next one, in this order."""
    known = {device_id: ordinal for ordinal, device_id in device_ids(database).items()}
    return {one: known[one] if one in known else ordinal_for(database, one) for one in wanted}


def hlcs_at(database: Database, dots: Sequence[int]) -> dict[int, int]:
    """Return the HLCs of operations, by dot number, as far as they are in the log."""
    found: dict[int, int] = {}
    for start in range(0, len(dots), _BATCH):
        batch = commas(map(str, dots[start : start + _BATCH]))
        found |= database.execute(f"SELECT op, hlc FROM main.sync_operations WHERE op IN ({batch})").fetchall()
    return found


def own_seq(database: Database) -> int:
    """Return the seq of this device's last operation."""
    seq: int = database.one("SELECT max(op) FROM main.sync_operations")
    return seq


def hlc_at(database: Database, ordinal: int, seq: int) -> int:
    """Return the HLC of an operation; 0 where there is none."""
    return (
        database.one("SELECT hlc FROM main.sync_operations WHERE op = ?", (dot_number(ordinal, seq),)) or 0
        if seq
        else 0
    )


def note_context(database: Database, learned: Mapping[int, int]) -> None:
    """Record that this device's operations from the next one on know `learned`, by ordinal."""
    seq = own_seq(database) + 1
    database.executemany(
        "INSERT INTO main.sync_contexts VALUES (0, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET known_seq = max(known_seq, excluded.known_seq)",
        [(ordinal, seq, known_seq) for ordinal, known_seq in learned.items()],
    )


def raise_floor(database: Database, hlc: int) -> None:
    """Let what this device writes from now on have a greater HLC than this one."""
    database.execute("UPDATE main.sync_state SET hlc_floor = max(hlc_floor, ?)", (hlc,))


def operations(database: Database, table: str | None, since: Mapping[int, int]) -> Iterator[Operation]:
    """Yield operations in the total order; those of one table if named, those after `since` per ordinal."""
    known = {one.number: one for one in entries(database)}
    devices = device_ids(database)
    ranges = ranges_after(clock(database), since)
    if not ranges:
        return
    low = commas(f"({first}, {last})" for first, last in ranges)
    wanted = "" if table is None else "WHERE o.table_no = (SELECT table_no FROM main.sync_tables WHERE name = ?)"
    for row in database.execute(
        f"WITH r(low, high) AS (VALUES {low}) SELECT o.* FROM r CROSS JOIN main.sync_operations AS o ON "
        "o.op BETWEEN r.low AND r.high "
        f"{AUTHOR} {wanted} ORDER BY {TOTAL_ORDER}",
        () if table is None else (table,),
    ):
        yield public(known[row[1]], devices, row)


def one_operation(database: Database, dot: int) -> Operation:
    """Read one operation."""
    row = database.execute("SELECT * FROM main.sync_operations WHERE op = ?", (dot,)).fetchone()
    known = {one.number: one for one in entries(database)}
    return public(known[row[1]], device_ids(database), row)


def public(table: Entry, devices: Mapping[int, bytes], row: Sequence[Any]) -> Operation:
    """Make the public value of a log row: op, table_no, kind, base, hlc, v0, o0, v1, o1, ..."""
    op, _, number, base, hlc, *pairs = row
    kind = Kind(number)
    new, old = pairs[0::2], pairs[1::2]
    written = _written(table, kind, new, old)
    return Operation(
        op_id=op_id(devices[ordinal_of(op)], seq_of(op)),
        device_id=devices[ordinal_of(op)],
        seq=seq_of(op),
        hlc=hlc,
        table_name=table.name,
        kind=kind.word,
        row_pk={name: new[table.columns.index(name)] for name in table.key},
        new={} if kind in (Kind.DELETE, Kind.RESOLVE_DELETE) else {table.columns[i]: new[i] for i in written},
        old={
            table.columns[i]: (new if kind == Kind.DELETE else old)[i]
            for i in written
            if kind in (Kind.UPDATE, Kind.DELETE)
        },
        base_op_id=_base_id(devices, base),
        strategy=old[0] if kind in (Kind.RESOLVE, Kind.RESOLVE_DELETE) and isinstance(old[0], str) else None,
    )


def _base_id(devices: Mapping[int, bytes], base: int | None) -> bytes | None:
    if not base:
        return None if base is None else NO_OP_ID
    return op_id(devices[ordinal_of(base)], seq_of(base))


def _written(table: Entry, kind: Kind, new: list[Value], old: list[Value]) -> list[int]:
    everything = range(len(table.columns))
    if kind != Kind.UPDATE:
        return list(everything)
    keys = {table.columns.index(name) for name in table.key}
    return [
        i for i in everything if (old[i] is not None if i in keys else (type(new[i]), new[i]) != (type(old[i]), old[i]))
    ]


def ranges_after(known: Mapping[int, int], low: Mapping[int, int]) -> list[tuple[int, int]]:
    """List the dot numbers (first, last) of all operations beyond `low`, ascending, by ordinal."""
    return sorted(
        (dot_number(ordinal, low.get(ordinal, 0)) + 1, dot_number(ordinal, seq))
        for ordinal, seq in known.items()
        if seq > low.get(ordinal, 0)
    )


def fill_ranges(database: Database, name: str, ranges: Iterable[tuple[int, int]]) -> None:
    """Make a temporary table of dot number ranges."""
    database.execute(f"CREATE TEMP TABLE {name} (low INTEGER, high INTEGER)")
    database.executemany(f"INSERT INTO temp.{name} VALUES (?, ?)", ranges)


def in_ranges(name: str, alias: str = "o") -> str:
    """Render the join of a table of ranges with the log; a WHERE follows it.

    NOT INDEXED leaves the dot number as the only way in: SQLite would index the whole log by `table_no` for it.
    """
    log = f"main.sync_operations AS {alias} NOT INDEXED"
    return f"temp.{name} AS r CROSS JOIN {log} ON {alias}.op BETWEEN r.low AND r.high"
