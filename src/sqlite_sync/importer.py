"""From a bundle into the log and the tables, in one transaction (SPEC.md, section 9)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from sqlite_sync import (
    appender,
    applier,
    arbiter,
    baselines,
    bundle,
    bundle_reader,
    catalog,
    conflicts,
    devices,
    log,
    peers,
    renumbering,
    settler,
    transcoder,
)
from sqlite_sync.appender import SCHEMA, Device, InvalidError
from sqlite_sync.applier import Todo
from sqlite_sync.bundle import Header
from sqlite_sync.catalog import Entry
from sqlite_sync.codec import Row, Value
from sqlite_sync.conflicts import Conflict
from sqlite_sync.contested import Plan
from sqlite_sync.database import Database
from sqlite_sync.decision import Deferred, Resolved, Strategy, require_strategy
from sqlite_sync.devices import Incoming
from sqlite_sync.errors import BundleError, GapError
from sqlite_sync.operation import Kind, is_baseline
from sqlite_sync.tables import Table, fold

MOST_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is: `stage` is verify, append or apply; `done` and `total` count operations."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class TableChange:
    """How many rows of a table an import inserted, updated and deleted.

    `parked` of them, or of the rows that were there, a constraint then took out of the table.
    """

    table_name: str
    inserted: int
    updated: int
    deleted: int
    parked: int = 0


class RowName(NamedTuple):  # by the ten thousand, as conflicts are
    """A row, by table and key."""

    table_name: str
    row_pk: Mapping[str, Value]


class RowChange(NamedTuple):
    """A row that a dry run would change; `change` is insert, update or delete."""

    table_name: str
    row_pk: Mapping[str, Value]
    change: str


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did.

    `applied_count` are the operations that were new and are no part of a conflict that this import opened;
    `overridden` are the rows whose shown version changed away from a local edit, which stands in an open conflict;
    `rows` are the rows that a dry run would change, at most 1,000. `resolved` and `deferred` are what became of
    `conflicts`, all those that this import opened, where a strategy was asked.
    """

    bundle_id: bytes
    source_device_id: bytes
    total_operations: int = 0
    applied_count: int = 0
    conflict_count: int = 0
    duplicate_count: int = 0
    held_count: int = 0
    skipped: bool = False
    dry_run: bool = False
    changes: tuple[TableChange, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    overridden: tuple[RowName, ...] = ()
    rows: tuple[RowChange, ...] = ()
    notes: tuple[str, ...] = ()
    resolved: tuple[Resolved, ...] = ()
    deferred: tuple[Deferred, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """How to import: undo everything in the end, whom to tell how far it is, what time it is, and who resolves."""

    dry_run: bool
    progress: Callable[[Progress], None]
    now_ms: int
    resolver: Strategy | None = None

    def __post_init__(self) -> None:
        """Refuse what is no strategy before anything is read."""
        if self.resolver is not None:
            require_strategy(self.resolver)


@dataclass(frozen=True, slots=True)
class _Done:
    """What was done, before it is told."""

    fresh: Sequence[Device]
    plans: Sequence[Plan]
    held_tables: Sequence[str]
    held_count: int
    is_dry: bool


def run(database: Database, path: Path, request: Request) -> ImportResult:
    """Import a bundle: all of it, or nothing."""
    request.progress(Progress("verify", 0, 0))
    before = _imported_before(database, path)
    if before:
        return before
    with bundle_reader.opened(path, only_header=True) as (copy, header):
        if peers.was_imported(database, header.bundle_id):
            return _skipped(header)
        bundle_reader.require_valid(path, copy, header)
        total = header.total_operations
        request.progress(Progress("verify", total, total))
        with (
            transcoder.reading(database, path, copy, SCHEMA),
            database.without_foreign_keys(),
            database.transaction(commit=not request.dry_run),
        ):
            try:
                return _import(database, path, header, request)
            except InvalidError as error:
                msg = f"{path} is not a valid bundle: {error}; ask its author for a new one"
                raise BundleError(msg) from error


def _imported_before(database: Database, path: Path) -> ImportResult | None:
    """Skip a bundle whose digest is known; it is verified all the same, but neither copied nor opened."""
    digest = bundle.claimed_digest(path)
    known = peers.imported(database, digest)
    if known is None:
        return None
    try:
        verified = bundle.copy_verified(path, None)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise BundleError(msg) from error
    return ImportResult(*known, skipped=True) if verified == digest else None


def _skipped(header: Header) -> ImportResult:
    return ImportResult(header.bundle_id, header.source_device_id, header.total_operations, skipped=True)


def _import(database: Database, path: Path, header: Header, request: Request) -> ImportResult:
    devices.require_peer(database, path, header)
    enabled = settler.settle(database)
    if peers.was_imported(database, header.bundle_id):
        return _skipped(header)
    found = _compare(database, path, header)
    fresh = [device for device in found if device.new_count]
    old = log.clock(database)
    total = sum(device.new_count for device in fresh)
    appender.append(database, header, found, enabled, lambda done: request.progress(Progress("append", done, total)))
    _require_related(database, path, found, fresh)
    applied, held = _split_tables(database, header, enabled) if fresh else ([], [])
    todo = Todo(
        new=sorted(device.new for device in fresh),
        window=_window(database, fresh, old),
        most_rows=MOST_ROWS if request.dry_run else 0,
    )
    plans = applier.apply(database, applied, todo, enabled)
    numbered = {fold(table.name) for table in header.tables if table.is_mapped}
    for table in applied:
        if fold(table.name) in numbered:
            renumbering.count_on(database, table)
    request.progress(Progress("apply", total, total))
    held_count = _hold(database, held, todo)
    _note(database, header, found, request.now_ms)
    done = _Done(fresh, plans, [entry.name for entry in held], held_count, request.dry_run)
    result = _result(database, header, done)
    if request.resolver is None or not result.conflicts:
        return result
    resolutions = arbiter.resolve(database, request.resolver, result.conflicts)
    return replace(result, resolved=resolutions.resolved, deferred=resolutions.deferred)


def _compare(database: Database, path: Path, header: Header) -> list[Device]:
    """Compare both frontiers, device by device; errors name the device."""
    clock, incoming = log.clock(database), Incoming(path, header, SCHEMA)
    ordinals = log.ordinals_for(database, [device.device_id for device in header.devices])
    found = [Device(one, o := ordinals[one.device_id], clock.get(o, 0)) for one in header.devices]
    dots = [device.last_common for device in found]
    hlcs = log.hlcs_at(database, dots)
    for one, dot in zip(found, dots, strict=True):
        device, ordinal, known = one.range, one.ordinal, one.known
        devices.require_own_history(incoming, device, ordinal, known)
        if known < device.from_seq:
            msg = (
                f"{path} starts after operation {device.from_seq} of device {device.device_id.hex()}, "
                f"but only {known} are known here: "
                f"operations {known + 1} to {device.from_seq} are missing. Import the bundles written "
                "before it first, or ask "
                f"{header.source_device_id.hex()} for a new one after sending it a bundle of yours"
            )
            raise GapError(msg)
        hlc = hlcs.get(dot, 0) if min(known, device.to_seq) else 0
        devices.require_same_history(database, incoming, device, known, hlc)
    return found


def _require_related(database: Database, path: Path, found: Sequence[Device], fresh: Sequence[Device]) -> None:
    """Refuse rows of another file's own beside this file's own, until somebody has said which of them are the same."""
    arrived = {d.ordinal for d in fresh if not d.known and is_baseline(d.range.device_id)}
    names = baselines.unrelated(database, arrived, {d.ordinal for d in found if d.range.to_seq}) if arrived else []
    if names:
        each = " ".join(f"{name}=distinct" for name in names)
        msg = (
            f"{path} brings rows of {', '.join(names)} that another file had before it met this one, which had rows of "
            "its own: nobody has said which of them are the same. If none are: adopt as "
            f'"distinct" (sqlite-sync adopt DB {each} --apply), then import again. Else, on one of the two devices: '
            "uninstall, initialize, import the other's bundle, and adopt (sqlite-sync adopt --help). If the device "
            "that wrote it was given up, delete the bundle"
        )
        raise BundleError(msg)


def _split_tables(database: Database, header: Header, enabled: Sequence[Table]) -> tuple[list[Table], list[Entry]]:
    """Tell tables that are enabled here from those whose operations are held."""
    named = [entry for table in header.tables if (entry := catalog.entry(database, table.name))]
    here = {table.number: table for table in enabled}
    return (
        [here[entry.number] for entry in named if entry.number in here],
        [entry for entry in named if entry.number not in here],
    )


def _window(database: Database, fresh: Sequence[Device], old: Mapping[int, int]) -> list[tuple[int, int]]:
    """Return the ranges of old operations that some new operation's author did not know."""
    low: dict[int, int] | None = None
    for device in fresh:  # contexts only grow, so a device's first new operation has its least
        rows = database.execute(
            "SELECT known_ordinal, max(known_seq) FROM main.sync_contexts WHERE ordinal = ? AND seq <= ? "
            "GROUP BY known_ordinal",
            (device.ordinal, device.known + 1),
        )
        context = {**dict(rows.fetchall()), device.ordinal: device.known}
        low = context if low is None else {o: min(seq, context.get(o, 0)) for o, seq in low.items()}
    return log.ranges_after(old, low or {}) if fresh else []


def _hold(database: Database, held: Iterable[Entry], todo: Todo) -> int:
    """Note which operations wait for their table; return how many."""
    count = 0
    for entry in held:
        rows = []
        for low, high in todo.new:
            here = database.one(
                "SELECT count(*) FROM main.sync_operations WHERE op BETWEEN ? AND ? AND table_no = ?",
                (low, high, entry.number),
            )
            rows += [(entry.number, low, high)] if here else []
            count += here
        database.executemany("INSERT INTO main.sync_held VALUES (?, ?, ?)", rows)
    return count


def _note(database: Database, header: Header, found: Sequence[Device], now_ms: int) -> None:
    """Note what this device knows now, what the source holds, and that this bundle was imported."""
    source = next(device for device in found if device.range.ordinal == 0)
    log.note_context(database, {d.ordinal: d.range.to_seq for d in found if d.new_count and d.ordinal != 0})
    peers.note(database, source.ordinal, header.bundle_id, {d.ordinal: d.range.to_seq for d in found})
    named = (header.bundle_id, header.total_operations, header.digest)
    peers.note_bundle(database, named, source.ordinal, now_ms)
    log.raise_floor(database, max(d.range.to_hlc for d in found))


def _named(table: Table, keys: Iterable[Row]) -> Iterator[dict[str, Value]]:
    """Give keys their column names."""
    names = [column.name for column in table.key]
    return (dict(zip(names, key, strict=True)) for key in keys)


def _changed_rows(plans: Sequence[Plan]) -> Iterator[RowChange]:
    for one in plans:
        keys = _named(one.table, (key for _, key in one.rows))
        for (change, _), key in zip(one.rows, keys, strict=True):
            yield RowChange(one.table.name, key, change)


def _result(database: Database, header: Header, done: _Done) -> ImportResult:
    fresh, plans = done.fresh, done.plans
    new = sum(device.new_count for device in fresh)
    pairs = [pair for one in plans for pair in one.opened]
    dots = sorted({dot for _, local, remote in pairs for dot in (local, remote)})
    ranges = [device.new for device in fresh]
    in_conflict = sum(bisect_right(dots, high) - bisect_left(dots, low) for low, high in ranges)
    opened = [one for plan in sorted(plans, key=lambda plan: fold(plan.table.name)) for one in plan.conflicts]
    if len(opened) < len(pairs):  # some are of parked rows
        opened = conflicts.by_ids(database, [pair for pair, _, _ in pairs])
    return ImportResult(
        bundle_id=header.bundle_id,
        source_device_id=header.source_device_id,
        total_operations=header.total_operations,
        applied_count=new - done.held_count - in_conflict,
        conflict_count=len(opened),
        duplicate_count=header.total_operations - new,
        held_count=done.held_count,
        dry_run=done.is_dry,
        changes=tuple(
            TableChange(
                p.table.name,
                p.count(Kind.INSERT, "I"),
                p.count(Kind.UPDATE, "U"),
                p.count(Kind.DELETE, "D"),
                p.parked,
            )
            for p in plans
            if p.simple or p.final or p.parked
        ),
        conflicts=tuple(opened),
        overridden=tuple([RowName(p.table.name, key) for p in plans for key in _named(p.table, p.overridden)]),
        rows=tuple(_changed_rows(plans))[:MOST_ROWS],
        notes=tuple(f"{name} is not enabled here: its operations are held until it is" for name in done.held_tables),
    )
