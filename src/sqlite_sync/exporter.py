"""From the log to a bundle: what the peer lacks, of every device known here."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlite_sync import births, bundle, catalog, log, peers, transcoder
from sqlite_sync.bundle import Part, TableDescription
from sqlite_sync.catalog import Entry
from sqlite_sync.database import Database, new_uuid
from sqlite_sync.errors import BundleError, SchemaError
from sqlite_sync.numbering import Numbering
from sqlite_sync.operation import ORDINAL_SHIFT, Kind
from sqlite_sync.tables import commas

SCHEMA = "sync_bundle"
SMALL_PAGE_BYTES = 4096
LARGE_PAGE_BYTES = 16_384  # fewer pages are less work; but every table takes a page, so not in a small bundle
MANY_OPERATIONS = 10_000


@dataclass(frozen=True, slots=True)
class Order:
    """What to write: for whom (None: for anyone), from where, and whether also when nothing is new."""

    peer_device_id: bytes | None
    since: Mapping[int, int]
    acknowledge: bool


def write(database: Database, order: Order, target: Path, now_ms: int) -> Path | None:
    """Write a bundle; None, and no file, where there is nothing to send."""
    known = log.clock(database)
    count = sum(
        seq - order.since.get(ordinal, 0) for ordinal, seq in known.items() if seq > order.since.get(ordinal, 0)
    )
    if not count and not order.acknowledge:
        return None
    with bundle.created(target) as part:
        try:
            with transcoder.writing(database, part, SCHEMA):
                _prepare(database, count)
                with database.snapshot():
                    _fill(database, order, now_ms)
                database.bring_to_disk()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise
            msg = f"cannot write {target}: the disk is full; free some room and try again"
            raise BundleError(msg) from error
    return target


def _prepare(database: Database, operations: int) -> None:
    """Set the new file up; the name that it will have is not there before it is whole."""
    page_bytes = LARGE_PAGE_BYTES if operations > MANY_OPERATIONS else SMALL_PAGE_BYTES
    for pragma in (
        "journal_mode = OFF",
        "synchronous = OFF",
        "auto_vacuum = NONE",
        f"page_size = {page_bytes}",
        "cache_size = 20",  # a page is written while the processor's cache still has it
        f"application_id = {bundle.APPLICATION_ID}",
        f"user_version = {bundle.FORMAT}",
    ):
        database.execute(f"PRAGMA {SCHEMA}.{pragma}")


def _fill(database: Database, order: Order, now_ms: int) -> None:
    for statement in bundle.schema([]):
        _create(database, statement)
    source = database.device_id()
    database.execute(
        f"INSERT INTO {SCHEMA}.bundle VALUES (?, ?, ?, ?)", (new_uuid(), source, order.peer_device_id, now_ms)
    )
    _fill_devices(database, order.since)
    database.execute(
        f"INSERT INTO {SCHEMA}.contexts SELECT c.* FROM {SCHEMA}.devices AS d CROSS JOIN {SCHEMA}.devices AS k "
        "CROSS JOIN main.sync_contexts AS c ON c.ordinal = d.ordinal AND c.known_ordinal = k.ordinal "
        "AND c.seq > d.from_seq AND c.seq <= d.to_seq WHERE d.from_seq < d.to_seq"
    )
    _fill_tables(database)


def _create(database: Database, statement: str) -> None:
    database.execute(statement.replace("CREATE TABLE ", f"CREATE TABLE {SCHEMA}.", 1))


def _fill_devices(database: Database, since: Mapping[int, int]) -> None:
    known, ids = log.clock(database), log.device_ids(database)
    named = {0, *(ordinal for table in catalog.mapped(database) for ordinal in births.ordinals(database, table))}
    hlc = f"coalesce((SELECT o.hlc FROM main.sync_operations AS o WHERE o.op = {{}} - (?1 << {ORDINAL_SHIFT})), 0)"
    from_hlc, to_hlc = (f"iif({seq}, {hlc.format(seq)}, 0)" for seq in ("?3", "?4"))
    base_hlc = f"iif(?3 < ?4, {hlc.format('?3 + 1')}, 0)"
    database.executemany(
        f"INSERT INTO {SCHEMA}.devices VALUES (?1, ?2, ?3, {from_hlc}, ?4, {to_hlc}, {base_hlc})",
        [(o, ids[o], min(since.get(o, 0), seq), seq) for o, seq in known.items() if seq or o in named],
    )


def _fill_tables(database: Database) -> None:
    """Describe the tables that were written to, and copy the operations on them, one table after the other."""
    known = {one.number: one for one in catalog.entries(database)}
    left: int = database.one(f"SELECT sum(to_seq - from_seq) FROM {SCHEMA}.devices")
    sent: list[int] = []
    while left:
        other = f"o.table_no NOT IN ({commas(map(str, sent))})"
        number = database.one(f"SELECT o.table_no FROM {_SENT} WHERE {_IS_SENT} AND {other} LIMIT 1")
        if number not in known:
            msg = (
                f"the log in {database.path} lacks {left} operations that its clock counts, so something changed it "
                "from outside: restore a backup"
            )
            raise SchemaError(msg)
        table = _description(known[number])
        _describe(database, table)
        left -= _copy(database, table, left)
        sent.append(number)
    _describe_parents(database, known, sent)


def _describe_parents(database: Database, known: Mapping[int, Entry], sent: Sequence[int]) -> None:
    """Describe the tables whose rows the sent ones number, too, though nothing happened to them."""
    described = list(sent)
    for number in described:
        for parent in sorted({*known[number].numbers.values()}.difference(described)):
            table = _description(known[parent])
            _describe(database, table)
            _copy(database, table, 0)
            described.append(parent)


_SENT = (
    f"{SCHEMA}.devices AS d CROSS JOIN main.sync_operations AS o NOT INDEXED "
    f"ON o.op > d.from_seq - (d.ordinal << {ORDINAL_SHIFT}) AND o.op <= d.to_seq - (d.ordinal << {ORDINAL_SHIFT})"
)
_IS_SENT = "d.from_seq < d.to_seq"


def _description(entry: Entry) -> TableDescription:
    key = {name: place for place, name in enumerate(entry.key, start=1)}
    columns = tuple((name, key.get(name, 0)) for name in entry.columns)
    return TableDescription(entry.number, entry.name, columns, entry.numbers)


def _describe(database: Database, table: TableDescription) -> None:
    database.execute(f"INSERT INTO {SCHEMA}.tables VALUES (?, ?)", (table.number, table.name))
    database.executemany(
        f"INSERT INTO {SCHEMA}.columns VALUES (?, ?, ?, ?, ?)",
        [(table.number, i, name, place, table.mapped.get(i)) for i, (name, place) in enumerate(table.columns)],
    )


def _copy(database: Database, table: TableDescription, left: int) -> int:
    """Copy the operations on a table, and return how many there are; at most `left` are to be found."""
    copied = 0
    numberings = {number: births.load(database, number) for number in {*table.mapped.values()}}
    for part in bundle.parts(table):
        _create(database, part.sql)
        if copied < left:
            values = _values(table, part, numberings)
            is_plain = f"o.kind = {Kind.INSERT:d} AND o.base IS NULL"
            copied += database.execute(
                f"INSERT INTO {SCHEMA}.{part.name} ({commas(part.columns)}) SELECT {values} FROM {_SENT} "
                f"WHERE {_IS_SENT} AND o.table_no = {table.number} "
                f"AND {is_plain if part.is_inserts else f'NOT ({is_plain})'}"
            ).rowcount
    return copied


def _values(table: TableDescription, part: Part, numberings: Mapping[int, Numbering]) -> str:
    """Render the columns of a part from the log."""
    rendered = {column: f"o.{column}" for column in part.columns} | {"hlc": "o.hlc - d.base_hlc"}
    for position, number in table.mapped.items():
        for side, birth in (("v", "b"), ("o", "a")):
            column = f"{side}{position}"
            if column in rendered:
                value, ordinal = births.outward(f"o.{column}", number, numberings[number])
                rendered |= {column: value, f"{birth}{position}": ordinal}
    return commas(rendered[column] for column in part.columns)


def require_other_file(database: Path, target: Path) -> None:
    """Refuse to write a bundle over the database, or over a file that belongs to it."""
    own = [
        database.resolve().with_name(database.resolve().name + suffix) for suffix in ("", "-wal", "-shm", "-journal")
    ]
    with suppress(OSError):  # a name that cannot be: writing will say so
        own += [target.resolve()] if target.samefile(database) else []
    if target.resolve() in own:
        msg = f"{target} is the database itself, or belongs to it: write the bundle to another file"
        raise BundleError(msg)


def since_peer(database: Database, peer_device_id: bytes) -> dict[int, int]:
    """Return what a peer said it holds, by ordinal."""
    return peers.holds(database, peer_device_id)
