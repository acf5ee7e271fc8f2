"""What is in a bundle, without a database to import it into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sqlite_sync import bundle, bundle_reader, log
from sqlite_sync.bundle import Header, TableDescription
from sqlite_sync.catalog import Entry
from sqlite_sync.operation import Kind, Operation


@dataclass(frozen=True, slots=True)
class TableInfo:
    """The operations of a bundle on one table, counted by kind; `is_mapped`: rows are named by where they were born."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    is_mapped: bool
    inserts: int
    updates: int
    deletes: int
    resolutions: int


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """What is in a bundle; `devices` are (device id, from seq, to seq) of every device that its source knows."""

    path: Path
    bundle_id: bytes
    source_device_id: bytes
    peer_device_id: bytes | None
    created_at_ms: int
    format_version: int
    devices: tuple[tuple[bytes, int, int], ...]
    tables: tuple[TableInfo, ...]
    total_operations: int
    size_bytes: int

    def rows(self, limit: int = 100) -> Iterator[Operation]:
        """Yield its first operations, in the total order."""
        with bundle_reader.opened(self.path) as (copy, header):
            yield from _operations(copy, header, limit)


def inspect_bundle(path: str | Path) -> BundleInfo:
    """Verify a bundle and say what is in it."""
    path = Path(path)
    with bundle_reader.opened(path) as (copy, header), bundle_reader.reading(copy) as connection:
        counted = {
            table.number: dict(
                connection.execute(
                    f"SELECT kind, count(*) FROM (SELECT kind FROM operations_{table.number} "
                    f"UNION ALL SELECT {Kind.INSERT:d} FROM inserts_{table.number}) GROUP BY kind"
                ).fetchall()
            )
            for table in header.tables
        }
    return BundleInfo(
        path=path,
        bundle_id=header.bundle_id,
        source_device_id=header.source_device_id,
        peer_device_id=header.peer_device_id,
        created_at_ms=header.created_at_ms,
        format_version=bundle.FORMAT,
        devices=tuple((device.device_id, device.from_seq, device.to_seq) for device in header.devices),
        tables=tuple(_table(table, counted[table.number]) for table in header.tables),
        total_operations=header.total_operations,
        size_bytes=path.stat().st_size,
    )


def _table(table: TableDescription, counted: dict[int, int]) -> TableInfo:
    entry = _entry(table)
    return TableInfo(
        name=table.name,
        columns=entry.columns,
        key=entry.key,
        is_mapped=table.is_mapped,
        inserts=counted.get(Kind.INSERT, 0),
        updates=counted.get(Kind.UPDATE, 0),
        deletes=counted.get(Kind.DELETE, 0),
        resolutions=counted.get(Kind.RESOLVE, 0) + counted.get(Kind.RESOLVE_DELETE, 0),
    )


def _operations(copy: Path, header: Header, limit: int) -> Iterator[Operation]:
    devices = {device.ordinal: device.device_id for device in header.devices}
    found: list[Operation] = []
    with bundle_reader.reading(copy) as connection:
        for table, part in ((one, part) for one in header.tables for part in bundle.parts(one)):
            pairs = ", ".join(part.read(f"{side}{i}") for i in range(part.width) for side in "vo")
            born = f"b.b{table.key[0]}" if table.is_mapped else "NULL"
            rows = connection.execute(
                f"SELECT {born}, b.op, {table.number}, {part.read('kind')}, {part.read('base')}, d.base_hlc + b.hlc, "
                f"{pairs} FROM {bundle.range_of(part)} WHERE true ORDER BY 6, 2 LIMIT ?",
                (limit,),
            )
            found += [
                replace(log.public(_entry(table), devices, row), born_on=devices.get(ordinal)) for ordinal, *row in rows
            ]
    yield from sorted(found, key=lambda op: (op.hlc, op.device_id, op.seq))[:limit]


def _entry(table: TableDescription) -> Entry:
    names = tuple(name for name, _ in table.columns)
    return Entry(table.number, table.name, is_enabled=False, columns=names, key=tuple(names[i] for i in table.key))
