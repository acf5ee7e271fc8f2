"""Whether the log is sound, and whether a table holds what its log says; changes nothing but temporary tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace

from sqlite_sync import catalog, reconciler
from sqlite_sync.clock import MAX_HLC, MAX_SEQ
from sqlite_sync.codec import Value
from sqlite_sync.database import Database
from sqlite_sync.findings import Finding
from sqlite_sync.operation import Kind, dot_number
from sqlite_sync.tables import Table, commas

_NAMED_ROWS = 3
_RESTORE = "restore a backup, or begin anew with a copy from another device; then renew_device"


def log(database: Database) -> Iterator[Finding]:
    """Check that each device's operations are all there, in the order of their clocks, and mean something."""
    found = [*_devices(database), *_contexts(database), *_meaning(database)]
    yield from found
    if not found:
        count = database.one("SELECT count(*) - 1 FROM main.sync_operations")
        yield Finding(
            "ok", "log", f"the log is sound: {count:,} operations, none missing, clocks and contexts in order"
        )


def table(database: Database, entry: catalog.Entry, shape: Table) -> Finding:
    """Compare a table with the replay of its log."""
    known = replace(shape, columns=tuple(column for column in shape.columns if column.position >= 0))
    held = database.execute("SELECT low, high FROM main.sync_held WHERE table_no = ?", (entry.number,)).fetchall()
    try:
        reconciler.replay(database, known, held)
        differences = reconciler.compare(database, known)
        if not differences:
            rows = database.one(f"SELECT count(*) FROM temp.sync_replay_{known.number}")
            return Finding("ok", "agreement", f"log and table agree; rows: {rows:,}")
        return _disagreement(database, known)
    except sqlite3.OperationalError as error:
        remedy = "open the file as the application does: connect=..."
        return Finding("warning", "agreement", f"log and table could not be compared ({error})", remedy)
    finally:
        for kind, name in (
            ("TABLE", "difference"),
            ("VIEW", f"step_{known.number}"),
            ("TABLE", f"replay_{known.number}"),
        ):
            database.execute(f"DROP {kind} IF EXISTS temp.sync_{name}")


def _disagreement(database: Database, shape: Table) -> Finding:
    counts = dict(database.execute("SELECT kind, count(*) FROM temp.sync_difference GROUP BY kind").fetchall())
    words = {Kind.INSERT: "more", Kind.DELETE: "fewer", Kind.UPDATE: "changed"}
    told = commas(f"{counts[kind]:,} {word}" for kind, word in words.items() if kind in counts)
    keys = database.execute(
        f"SELECT {commas(c.new for c in shape.key)} FROM temp.sync_difference LIMIT {_NAMED_ROWS}"
    ).fetchall()
    named = "; ".join(commas(f"{c.name} {_brief(v)}" for c, v in zip(shape.key, key, strict=True)) for key in keys)
    more = "; ..." if sum(counts.values()) > len(keys) else ""
    message = f"the table holds other rows than its log says ({told}): {named}{more}"
    return Finding("error", "disagreement", message, "reconcile: it logs the difference as written on this device")


def _brief(value: Value) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"  # noqa: PLR2004 - what one reads at a glance


def _ranges(database: Database) -> list[tuple[bytes, int, int, int]]:
    """Return for each device: id, the seq that is known, and its range of dot numbers."""
    rows = database.execute("SELECT device_id, seq, ordinal FROM main.sync_clock ORDER BY ordinal").fetchall()
    return [(device, seq, dot_number(n, 1), dot_number(n, MAX_SEQ)) for device, seq, n in rows]


def _devices(database: Database) -> Iterator[Finding]:
    """Check each device's operations: one after the other, as many as are known, with ascending clocks."""
    wrong = f"typeof(o.hlc) <> 'integer' OR o.hlc NOT BETWEEN 1 AND {MAX_HLC}"
    late = "o.hlc <= p.hlc AND NOT (o.hlc = 1 AND p.hlc = 1)"  # 1: a baseline's
    for device, seq, first, last in _ranges(database):
        [(found, unclear)] = database.execute(  # in one pass: a log of wide rows is long
            f"SELECT count(*), count(*) FILTER (WHERE {wrong}) + count(*) FILTER (WHERE {late}) "
            "FROM main.sync_operations AS o LEFT JOIN main.sync_operations AS p ON p.op = o.op - 1 AND p.op >= ?1 "
            "WHERE o.op BETWEEN ?1 AND ?2",
            (first, last),
        ).fetchall()
        if found != seq:
            message = f"of device {device.hex()} {seq:,} operations should be here, {found:,} are"
            yield Finding("error", "log-gap", message, _RESTORE)
        if unclear:
            message = f"{unclear:,} operations of device {device.hex()} have a time that does not follow the one before"
            yield Finding("error", "log-clock", message, _RESTORE)


def _contexts(database: Database) -> Iterator[Finding]:
    unknown = database.one(
        "SELECT count(*) FROM main.sync_contexts AS c LEFT JOIN main.sync_clock AS k ON k.ordinal = c.known_ordinal "
        "LEFT JOIN main.sync_devices AS d ON d.ordinal = c.ordinal "
        "WHERE d.ordinal IS NULL OR c.known_seq > coalesce(k.seq, -1) OR c.ordinal = c.known_ordinal OR c.seq < 1"
    )
    backward = database.one(
        "SELECT count(*) FROM (SELECT known_seq, lag(known_seq, 1, 0) OVER "
        "(PARTITION BY ordinal, known_ordinal ORDER BY seq) AS earlier FROM main.sync_contexts) "
        "WHERE known_seq < earlier"
    )
    against = database.one(
        "SELECT count(*) FROM main.sync_contexts AS c "
        "JOIN main.sync_operations AS o ON o.op = c.seq - (c.ordinal << 40) "
        "JOIN main.sync_operations AS k ON k.op = c.known_seq - (c.known_ordinal << 40) "
        "WHERE c.known_seq > 0 AND k.hlc >= o.hlc AND NOT (k.hlc = 1 AND o.hlc = 1)"
    )
    for count, what in (
        (unknown, "know operations that are not here"),
        (backward, "know less than the ones before them"),
        (against, "are older than what they know"),
    ):
        if count:
            yield Finding("error", "log-context", f"{count:,} contexts are wrong: their operations {what}", _RESTORE)


def _meaning(database: Database) -> Iterator[Finding]:
    kinds = commas(f"{kind:d}" for kind in Kind)
    stray = database.one(
        f"SELECT count(*) FROM main.sync_operations AS o WHERE o.op <> 0 AND (o.kind NOT IN ({kinds}) "
        "OR NOT EXISTS (SELECT 1 FROM main.sync_tables AS t WHERE t.table_no = o.table_no))"
    )
    if stray:
        yield Finding("error", "log-stray", f"{stray:,} operations are on no table, or of no kind", _RESTORE)
