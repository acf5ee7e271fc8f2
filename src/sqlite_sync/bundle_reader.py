"""Read a bundle whose author may lie: all of it is checked against SPEC.md, section 7, before anything is used."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlite_sync import bundle
from sqlite_sync.births import is_counted
from sqlite_sync.bundle import APPLICATION_ID, FORMAT, DeviceRange, Header, Part, TableDescription
from sqlite_sync.clock import MAX_HLC, MAX_SEQ
from sqlite_sync.codec import decode_text
from sqlite_sync.errors import BundleError
from sqlite_sync.operation import ID_BYTES, MAX_STRATEGY_CHARACTERS, ORDINAL_SHIFT, Kind
from sqlite_sync.tables import MAX_COLUMNS, fold, is_ours

_ENCODING_AT, _UTF_8 = 56, b"\0\0\0\1"  # in the header of a SQLite file
_MAX_ORDINAL = (1 << 22) - 1
_ATTRIBUTED = (
    f"(b.kind < {Kind.RESOLVE:d} OR b.o0 IS NULL "
    f"OR typeof(b.o0) = 'text' AND length(b.o0) BETWEEN 1 AND {MAX_STRATEGY_CHARACTERS})"
)
_FOREIGN_SCHEMA = "its schema is not that of a bundle"
_MOST_AHEAD_MS = 100 * 366 * 86_400_000  # what is further ahead would drag every clock along, for ever


@contextmanager
def opened(path: Path, *, only_header: bool = False) -> Iterator[tuple[Path, Header]]:
    """Verify a bundle; give a private copy of its database, and its header. BundleError if anything is wrong.

    With `only_header`, the digest and the header are verified, the operations not.
    """
    with _private_folder(path) as folder:
        copy = folder / "bundle.db"
        try:
            digest = bundle.copy_verified(path, copy)
        except OSError as error:
            raise _unreadable(path, error) from error
        header = replace(_verified_header(path, copy), digest=digest)
        if not only_header:
            require_valid(path, copy, header)
        yield copy, header


@contextmanager
def _private_folder(path: Path) -> Iterator[Path]:
    """Make a folder that nobody else may enter. What cannot be removed from it later is only left to the system."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="sqlite-sync-", ignore_cleanup_errors=True)
    except OSError as error:
        raise _unreadable(path, error) from error
    with folder as name:
        yield Path(name)


def _unreadable(path: Path, error: OSError) -> BundleError:
    return BundleError(
        f"cannot read {path}, of which a private copy is made among the temporary files "
        f"(TMPDIR says where): {error.strerror or error}"
    )


def read_header(path: Path) -> Header:
    """Return what a bundle says of itself; its digest is verified, its operations are when it is imported."""
    with opened(path, only_header=True) as (_, header):
        return header


@contextmanager
def reading(copy: Path) -> Iterator[sqlite3.Connection]:
    """Open a verified copy read-only, with SQLite on its guard."""
    connection = sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        connection.text_factory = decode_text
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        yield connection
    finally:
        connection.close()


def require_valid(path: Path, copy: Path, header: Header) -> None:
    """Verify the operations of a bundle whose header is verified."""
    with _judging(path), reading(copy) as connection:
        check = _Check(path, copy, connection)
        check.pages()
        check.rows(header)


def _verified_header(path: Path, copy: Path) -> Header:
    with _judging(path), reading(copy) as connection:
        check = _Check(path, copy, connection)
        check.format()
        header = check.header()
        check.schema(header)
        return header


@contextmanager
def _judging(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeError, OverflowError) as error:
        msg = f"{path} is not a valid bundle: {error}"
        raise BundleError(msg) from error
    except MemoryError as error:  # a value that is said to be longer than SQLite allows: nothing is allocated for it
        msg = f"{path} is not a valid bundle, or takes more memory to read than there is: ask its author for a new one"
        raise BundleError(msg) from error


class _Check:
    """Judges the content of a bundle whose digest is right but whose author may lie."""

    def __init__(self, path: Path, copy: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._copy = copy
        self._connection = connection
        self._now_ms = time.time_ns() // 1_000_000

    def _all(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()

    def require(self, holds: object, complaint: str) -> None:
        if not holds:
            msg = f"{self._path} is not a valid bundle: {complaint}; do not import it, ask its author for a new one"
            raise BundleError(msg)

    def format(self) -> None:
        [(application_id,)], [(version,)] = self._all("PRAGMA application_id"), self._all("PRAGMA user_version")
        self.require(application_id == APPLICATION_ID, "it is another application's file")
        if version > FORMAT:
            msg = f"{self._path} has bundle format {version}, this version reads {FORMAT}: use a newer sqlite-sync-core"
            raise BundleError(msg)
        self.require(version == FORMAT, f"it has bundle format {version}")
        with self._copy.open("rb") as file:  # SQLite reads an unknown encoding as UTF-8, and then will not attach it
            file.seek(_ENCODING_AT)
            self.require(file.read(4) == _UTF_8, "it is not in UTF-8")

    def pages(self) -> None:
        self.require(self._all("PRAGMA quick_check(1)") == [("ok",)], "its pages are damaged")
        [(count,)], [(size,)] = self._all("PRAGMA page_count"), self._all("PRAGMA page_size")
        self.require(count * size == self._copy.stat().st_size, "something stands after its last page")

    def header(self) -> Header:
        found = set(self._all("SELECT type, name, sql FROM sqlite_schema"))
        self.require(found >= set(bundle.fixed_schema()), _FOREIGN_SCHEMA)  # else it is read from who knows what
        rows = self._all("SELECT bundle_id, source_device_id, peer_device_id, created_at_ms FROM bundle LIMIT 2")
        self.require(len(rows) == 1, "it has not one header")
        bundle_id, source, peer, created_at_ms = rows[0]
        self.require(_is_id(bundle_id) and _is_id(source) and (peer is None or _is_id(peer)), "an id is not 16 bytes")
        self.require(isinstance(created_at_ms, int), "its time is not a number")
        header = Header(bundle_id, source, peer, created_at_ms, self._devices(), self._tables())
        self.require(header.devices and header.devices[0].device_id == source, "its source is not its device 0")
        return header

    def _devices(self) -> tuple[DeviceRange, ...]:
        rows = self._all(
            "SELECT ordinal, device_id, from_seq, from_hlc, to_seq, to_hlc, base_hlc FROM devices ORDER BY ordinal"
        )
        for ordinal, device_id, from_seq, from_hlc, to_seq, to_hlc, base_hlc in rows:
            self.require(0 <= ordinal <= _MAX_ORDINAL and _is_id(device_id), "a device id is not 16 bytes")
            numbers = (from_seq, from_hlc, to_seq, to_hlc, base_hlc)
            self.require(set(map(type, numbers)) == {int}, "a range is not in numbers")
            self.require(0 <= from_seq <= to_seq <= MAX_SEQ, "a range of operations runs backwards or too far")
            self.require(0 <= from_hlc <= to_hlc <= MAX_HLC, "a clock runs backwards or too far")
            self.require(0 <= base_hlc <= to_hlc, "clocks are counted from outside their range")
            self.require(bool(from_seq) == bool(from_hlc) and bool(to_seq) == bool(to_hlc), "a clock has no operation")
        devices = tuple(DeviceRange(*row) for row in rows)
        self.require(len({device.device_id for device in devices}) == len(devices), "a device is listed twice")
        self.require(devices and devices[0].ordinal == 0, "it does not list its source")
        return devices

    def _tables(self) -> tuple[TableDescription, ...]:
        columns: dict[int, list[tuple[str, int]]] = {}
        mapped: dict[int, dict[int, int]] = {}
        for number, position, name, place, parent in self._all(
            "SELECT table_no, position, name, key_place, mapped FROM columns ORDER BY table_no, position"
        ):
            if parent is not None:
                mapped.setdefault(number, {})[position] = parent
            own = columns.setdefault(number, [])
            self.require(position == len(own) and len(own) < MAX_COLUMNS, "column positions have gaps")
            self.require(isinstance(name, str) and isinstance(place, int) and place >= 0, "a column has no name")
            own.append((name, place))
        found = self._all("SELECT table_no, name FROM tables ORDER BY table_no")
        self.require(all(isinstance(number, int) for number in columns), "a table has no number")
        self.require([number for number, _ in found] == sorted(columns), "tables and columns do not match")
        described = tuple(
            TableDescription(number, name, tuple(columns[number]), mapped.get(number, {})) for number, name in found
        )
        numbered = {table.number for table in described if table.is_mapped}
        for table in described:
            self._table(table)
            self.require(numbered.issuperset(table.mapped.values()), f"{table.name} numbers rows of no mapped table")
        self.require(len({fold(table.name) for table in described}) == len(described), "a table is described twice")
        return described

    def _table(self, table: TableDescription) -> None:
        self.require(isinstance(table.name, str) and table.number > 0, "a table has no name")
        self.require(not is_ours(table.name), f"the table name {table.name} is not an application's")
        names = {fold(name) for name, _ in table.columns}
        self.require(len(names) == len(table.columns), f"{table.name} has a column twice")
        places = sorted(place for _, place in table.columns if place)
        self.require(places and places == list(range(1, len(places) + 1)), f"{table.name} has no proper key")

    def schema(self, header: Header) -> None:
        found = self._all("SELECT type, name, sql FROM sqlite_schema")
        parts = [("table", part.name, part.sql) for part in self._parts(header)]
        wanted = {*bundle.fixed_schema(), *parts}
        self.require(len(found) == len(wanted) and set(found) == wanted, _FOREIGN_SCHEMA)

    def rows(self, header: Header) -> None:
        ordinals = {device.ordinal for device in header.devices}
        for entry in self._all("SELECT ordinal, known_ordinal, seq, known_seq FROM contexts"):
            self.require(all(isinstance(number, int) for number in entry), "a context is not in numbers")
            ordinal, known_ordinal, seq, known_seq = entry
            self.require({ordinal, known_ordinal} <= ordinals and ordinal != known_ordinal, "a context names no device")
            self.require(0 < seq <= MAX_SEQ and 0 < known_seq <= MAX_SEQ, "a context is out of range")
        self._contexts(header)
        counted = sum(
            self._operations(table, part, ordinals) for table in header.tables for part in bundle.parts(table)
        )
        self.require(counted == header.total_operations, "it has not the operations that it says")
        self._last_clocks(header)

    def _last_clocks(self, header: Header) -> None:
        """Require of each device's last operation the HLC that the header gives: importers count on from there."""
        limit = (self._now_ms + _MOST_AHEAD_MS) << 16
        for device in header.devices:
            self.require(device.to_hlc <= limit, f"the clock of {device.device_id.hex()} is 100 years ahead")
            if device.to_seq == device.from_seq:
                self.require(device.to_hlc == device.from_hlc, "a clock has no operation")
        last = f"b.op = d.to_seq - (d.ordinal << {ORDINAL_SHIFT})"
        found = [
            row
            for part in self._parts(header)
            for row in self._all(
                f"SELECT d.ordinal, d.base_hlc + b.hlc FROM devices AS d CROSS JOIN {part.name} AS b ON {last} "
                "WHERE d.from_seq < d.to_seq"
            )
        ]
        wanted = [(device.ordinal, device.to_hlc) for device in header.devices if device.from_seq < device.to_seq]
        self.require(sorted(found) == wanted, "a clock is not that of the last operation")

    def _contexts(self, header: Header) -> None:
        reach = {device.ordinal: device for device in header.devices}
        last: dict[tuple[int, int], int] = {}
        for ordinal, seq, known_ordinal, known_seq in self._all(
            "SELECT ordinal, seq, known_ordinal, known_seq FROM contexts ORDER BY seq"
        ):
            device = reach[ordinal]
            self.require(device.from_seq < seq <= device.to_seq, "a context belongs to no operation in it")
            self.require(known_seq <= reach[known_ordinal].to_seq, "a context is from the future")
            self.require(known_seq > last.get((ordinal, known_ordinal), 0), "a context forgets")
            last[ordinal, known_ordinal] = known_seq

    def _parts(self, header: Header) -> list[Part]:
        return [part for table in header.tables for part in bundle.parts(table)]

    def _operations(self, table: TableDescription, part: Part, ordinals: Collection[int]) -> int:
        """Check the operations in one table as a set; return how many there are."""
        kind = part.read("kind")
        tests = [
            f"b.hlc BETWEEN d.low AND d.high AND typeof({kind} * 0 + b.hlc * 0) = 'integer'",  # 0 * x keeps x's type
            *(f"b.v{position} IS NOT NULL" for position in table.key),
            *([] if part.is_inserts else [f"b.kind BETWEEN 0 AND {max(Kind)}", _ATTRIBUTED]),
        ]
        shift = f"(ordinal << {ORDINAL_SHIFT})"
        [(valid, bases)] = self._all(
            f"WITH d AS MATERIALIZED (SELECT from_seq - {shift} AS after, to_seq - {shift} AS last, "
            "max(from_hlc, 1) - base_hlc AS low, to_hlc - base_hlc AS high FROM devices WHERE from_seq < to_seq) "
            f"SELECT count(*), count({part.read('base')}) FROM d CROSS JOIN {part.name} AS b "
            f"ON b.op > d.after AND b.op <= d.last WHERE {' AND '.join(tests)}"
        )
        self._births(table, part, ordinals)
        [(total,)] = self._all(f"SELECT count(*) FROM {part.name}")
        self.require(valid == total, f"an operation on {table.name} is malformed, or outside its range or its clock")
        if bases:
            strange = self._all(
                f"SELECT 1 FROM {part.name} WHERE base IS NOT NULL AND (typeof(base) <> 'integer' OR base = op "
                f"OR base <> 0 AND NOT EXISTS (SELECT 1 FROM devices WHERE base > -(ordinal << {ORDINAL_SHIFT}) "
                f"AND base <= to_seq - (ordinal << {ORDINAL_SHIFT}))) LIMIT 1"
            )
            self.require(not strange, f"an operation on {table.name} has a base that its source does not hold")
        return int(total)

    def _births(self, table: TableDescription, part: Part, ordinals: Collection[int]) -> None:
        """Check that each birth names a device and a number, and that no number of a counter is without one."""
        pairs = [(f"b.v{i}", f"b.b{i}") for i in part.mapped]
        pairs += [] if part.is_inserts else [(f"b.o{i}", f"b.a{i}") for i in part.mapped]
        last = max(ordinals)
        listed = f"BETWEEN 0 AND {last}" if last + 1 == len(ordinals) else "IN (SELECT ordinal FROM devices)"
        wrong = " OR ".join(
            f"iif({birth} IS NULL, {is_counted(value)}, NOT {is_counted(value)} OR typeof({birth}) <> 'integer' "
            f"OR NOT {birth} {listed})"
            for value, birth in pairs
        )
        strange = wrong and self._all(f"SELECT 1 FROM {part.name} AS b WHERE {wrong} LIMIT 1")
        self.require(not strange, f"an operation on {table.name} names a row that cannot be")


def _is_id(value: object) -> bool:
    return type(value) is bytes and len(value) == ID_BYTES
