"""From the log to a bundle: what the peer lacks, of every device known here."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlite_sync import bundle, catalog, log, peers
from sqlite_sync.bundle import DeviceRange, TableDescription
from sqlite_sync.database import Database, new_uuid
from sqlite_sync.errors import BundleError
from sqlite_sync.tables import commas

SCHEMA = "sync_bundle"


@dataclass(frozen=True, slots=True)
class Order:
    """What to write: for whom (None: for anyone), from where, and whether also when nothing is new."""

    peer_device_id: bytes | None
    since: Mapping[int, int]
    acknowledge: bool


def write(database: Database, order: Order, target: Path, now_ms: int) -> Path | None:
    """Write a bundle; None, and no file, where there is nothing to send."""
    if not order.acknowledge and not log.ranges_after(log.clock(database), order.since):
        return None
    with bundle.created(target) as part, database.attached(part, SCHEMA):
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "auto_vacuum = NONE", "page_size = 4096",
                       f"application_id = {bundle.APPLICATION_ID}", f"user_version = {bundle.FORMAT}"):  # fmt: skip
            database.execute(f"PRAGMA {SCHEMA}.{pragma}")
        try:
            with database.snapshot():
                _fill(database, order, now_ms)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise
            msg = f"cannot write {target}: the disk is full; free some room and try again"
            raise BundleError(msg) from error
    return target


def _fill(database: Database, order: Order, now_ms: int) -> None:
    devices = _devices(database, order.since)
    known = {device.ordinal: device.to_seq for device in devices}
    log.fill_ranges(database, "sync_sent", log.ranges_after(known, order.since))
    tables = _tables(database)
    for statement in bundle.schema(tables):
        database.execute(statement.replace("CREATE TABLE ", f"CREATE TABLE {SCHEMA}.", 1))
    source = database.device_id()
    database.execute(
        f"INSERT INTO {SCHEMA}.bundle VALUES (?, ?, ?, ?)", (new_uuid(), source, order.peer_device_id, now_ms)
    )
    database.executemany(
        f"INSERT INTO {SCHEMA}.devices VALUES (?, ?, ?, ?, ?, ?)",
        [(d.ordinal, d.device_id, d.from_seq, d.from_hlc, d.to_seq, d.to_hlc) for d in devices],
    )
    database.execute(
        f"INSERT INTO {SCHEMA}.contexts SELECT c.* FROM {SCHEMA}.devices AS d JOIN main.sync_contexts "
        "AS c USING (ordinal) "
        "WHERE c.seq > d.from_seq AND c.seq <= d.to_seq"
    )
    for table in tables:
        _fill_table(database, table)
    database.execute("DROP TABLE temp.sync_sent")


def _fill_table(database: Database, table: TableDescription) -> None:
    database.execute(f"INSERT INTO {SCHEMA}.tables VALUES (?, ?)", (table.number, table.name))
    database.executemany(
        f"INSERT INTO {SCHEMA}.columns VALUES (?, ?, ?, ?)",
        [(table.number, position, name, place) for position, (name, place) in enumerate(table.columns)],
    )
    columns = ["op", "kind", "base", "hlc", *(f"{side}{i}" for i in range(len(table.columns)) for side in "vo")]
    database.execute(
        f"INSERT INTO {SCHEMA}.operations_{table.number} ({commas(columns)}) SELECT {log.selected(columns)} "
        f"FROM {log.in_ranges('sync_sent')} WHERE o.table_no = {table.number}"
    )


def _devices(database: Database, since: Mapping[int, int]) -> list[DeviceRange]:
    known, ids = log.clock(database), log.device_ids(database)
    ranges = [(ordinal, min(since.get(ordinal, 0), seq), seq) for ordinal, seq in sorted(known.items())]
    return [
        DeviceRange(o, ids[o], low, log.hlc_at(database, o, low), high, log.hlc_at(database, o, high))
        for o, low, high in ranges
        if high or o == 0
    ]


def _tables(database: Database) -> list[TableDescription]:
    wanted = set(log.tables_in(database, "sync_sent"))
    return bundle.describe(
        [
            (one.number, one.name, [(name, one.key.index(name) + 1 if name in one.key else 0) for name in one.columns])
            for one in catalog.entries(database)
            if one.number in wanted
        ]
    )


def since_peer(database: Database, peer_device_id: bytes) -> dict[int, int]:
    """Return what a peer said it holds, by ordinal."""
    return peers.holds(database, peer_device_id)
