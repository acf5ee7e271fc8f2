"""Devices on copies of one template, bundles under way, and the record of every write for the oracle."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self
from unittest.mock import patch
from uuid import UUID

from model import Model, Write
from sqlite_sync import Operation, SyncEngine, inspect_bundle
from verification.compare import spelled
from verification.fitting import Fitting
from verification.naming import Image, RowName, content, row_of
from verification.search import require
from verification.subject import Subject, quote
from verification.transcript import Transcript

EPOCH_DAY = 2440587.5  # 1970-01-01 as a Julian day
DAY_MS = 86_400_000
START_MS = 1_700_000_000_000
STEP_MS = 10


@dataclass
class Device:
    """A replica, and what the fleet knows of it."""

    number: int
    path: Path
    fleet: Fleet
    is_enforcing: bool
    engine: SyncEngine = field(init=False)
    offset_ms: int = 0
    luck: int = 0  # the random step of its HLCs
    clock: dict[bytes, int] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)
    imported: set[bytes] = field(default_factory=set)
    is_intact: bool = True  # nothing was written past the capture since it was last looked at

    def open(self) -> Device:
        """Open the file and initialize it."""
        self.engine = SyncEngine(self.path, connect=self.connect)
        self.engine.initialize()
        return self

    def connect(self, path: str | Path) -> sqlite3.Connection:
        """Open the file as this device's application does: with its idea of the time, and no waiting for the disk."""
        connection = self.fleet.subject.connect(path)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA foreign_keys = {self.is_enforcing:d}")
        connection.create_function("julianday", 1, lambda _: EPOCH_DAY + self.now_ms / DAY_MS)
        connection.create_function("random", 0, lambda: self.luck)  # a run can be repeated
        return connection

    @property
    def now_ms(self) -> int:
        """What its clock says."""
        return START_MS + self.fleet.ticks * STEP_MS + self.offset_ms

    @property
    def enabled(self) -> list[str]:
        """The tables that are captured."""
        return [table.name for table in self.fleet.subject.tables if table.name not in self.disabled]

    @contextmanager
    def program(self, *, is_outside: bool) -> Iterator[sqlite3.Connection]:
        """Give the connection of another program, or the engine's own."""
        if not is_outside:
            yield self.engine.connection
            return
        with closing(self.connect(self.path)) as connection:
            yield connection

    def content(self) -> dict[str, dict[RowName, Image]]:
        """Read what the tables show."""
        subject = self.fleet.subject
        return {table.name: content(subject, self.engine.connection, table.name) for table in subject.tables}


@dataclass(frozen=True)
class Parcel:
    """A bundle under way; it may arrive anywhere, at any time, again, or never."""

    path: Path
    bundle_id: bytes
    source_device: bytes
    ranges: tuple[tuple[bytes, int, int], ...]
    total: int


class Fleet:
    """The devices of one history."""

    def __init__(self, fitting: Fitting, tried: Counter[str]) -> None:
        self.fitting = fitting
        self.subject: Subject = fitting.subject
        self.tried = tried
        self.transcript = Transcript(self.subject)
        self.devices: list[Device] = []
        self.parcels: list[Parcel] = []
        self.model = Model()
        self.written: dict[bytes, tuple[Operation, Write]] = {}
        self.bundles = 0
        self.ticks = 0
        self._around = ExitStack()
        self.folder = Path(self._around.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
        self.shared = self.folder / "shared"
        self.shared.mkdir()

    def __enter__(self) -> Self:
        self._around.enter_context(patch("uuid_utils.uuid7", side_effect=map(_counted_uuid, count(1))))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for device in self.devices:
            device.engine.close()
        self._around.close()

    def at(self, number: int) -> Device:
        """Return a device."""
        return self.devices[number % len(self.devices)]

    # --- devices --------------------------------------------------------------------------------------------------

    def add(self, *, is_enforcing: bool) -> Device:
        """Bring a device on a copy of the template."""
        number = len(self.devices)
        device = Device(number, self.folder / f"{number}.db", self, is_enforcing)
        shutil.copyfile(self.subject.template, device.path)
        device.open()
        self.transcript.say(f"device {number}{', which enforces foreign keys' if is_enforcing else ''}")
        self.transcript.copy("template.db", f"{number}.db")
        self.transcript.sync(number, "init")
        self.devices.append(device)
        return device

    def enable(self, device: Device) -> None:
        """Capture all tables of a new device."""
        for table in self.subject.tables:
            device.engine.enable_sync_for_table(table.name, keys="natural")
        self.transcript.sync(device.number, "enable", *(table.name for table in self.subject.tables))
        self.harvest(device)

    def add_copy(self, source: Device) -> Device:
        """Bring a device on a copy of another's file, under an id of its own."""
        number = len(self.devices)
        device = Device(number, self.folder / f"{number}.db", self, source.is_enforcing)
        source.engine.close()
        shutil.copyfile(source.path, device.path)
        source.open()
        device.open()
        device.engine.renew_device()
        device.clock, device.offset_ms = dict(source.clock), source.offset_ms
        device.disabled, device.imported = set(source.disabled), set(source.imported)
        device.is_intact = source.is_intact
        self.transcript.copy(f"{source.number}.db", f"{number}.db")
        self.transcript.sync(number, "renew")
        self.devices.append(device)
        self.harvest(device)
        return device

    # --- the record -----------------------------------------------------------------------------------------------

    def harvest(self, device: Device, *, is_mixed: bool = False) -> list[Operation]:
        """Note what is new in a device's log; return what it wrote itself.

        Its context is what the device knew so far, unless it also learned something in the same step (`is_mixed`).
        """
        clock, own = dict(device.engine.get_vector_clock()), device.engine.device_id
        news = []
        for operation in device.engine.operations(since=device.clock):
            if operation.device_id == own:
                news.append(operation)
            known = self.written.get(operation.op_id)
            if known is not None:
                require(
                    self.spelled(operation) == self.spelled(known[0]),
                    f"device {device.number} has another operation under one op id: {operation}, {known[0]}",
                )
                self.tried["2 contexts"] += 1
                lacking = [one for one, seq in known[1].context.items() if seq > clock.get(one, 0)]
                require(not lacking, f"device {device.number} has {operation} before what its author had seen")
                continue
            is_clear = operation.device_id == own and not is_mixed
            context = dict(device.clock) if is_clear else stored_context(device, operation)
            self._note(operation, {one: seq for one, seq in context.items() if one != operation.device_id})
        require(
            all(clock.get(one, 0) >= seq for one, seq in device.clock.items()),
            f"device {device.number} forgot operations: its clock was {device.clock}, and is {clock}",
        )
        device.clock = clock
        return news

    def _note(self, operation: Operation, context: Mapping[bytes, int]) -> None:
        is_whole = operation.kind in ("insert", "resolve")
        lacking = {name: value for name, value in self._later(operation).items() if operation.new.get(name) is None}
        write = Write(
            device=operation.device_id,
            seq=operation.seq,
            hlc=operation.hlc,
            table=operation.table_name,
            row=row_of(self.subject, operation)[1],
            kind=operation.kind,
            new={**operation.new, **lacking} if is_whole else operation.new,
            base=operation.base_op_id,
            context=context,
        )
        self.tried["operations"] += 1
        self.written[operation.op_id] = operation, write
        self.model.add(write)

    def _later(self, operation: Operation) -> dict[str, object]:
        return {one.column: one.default for one in self.subject.later if one.table == operation.table_name}

    def spelled(self, operation: Operation) -> list[tuple[str, str]]:
        """Spell an operation out, but for what a device says where the author's table lacked a column."""
        later = self._later(operation)

        def said(values: Mapping[str, object]) -> dict[str, object]:
            return {
                name: value for name, value in values.items() if name not in later or value not in (None, later[name])
            }

        return spelled(replace(operation, new=said(operation.new), old=said(operation.old)))  # type: ignore[arg-type]

    # --- bundles --------------------------------------------------------------------------------------------------

    def post(self, source: Device, target: Device, *, acknowledge: bool = False) -> Parcel | None:
        """Write a bundle for a device; None where there is nothing to send."""
        if source is target:
            return None
        self.bundles += 1
        path = self.folder / f"{self.bundles}.bundle"
        written = source.engine.generate_bundle(target.engine.device_id, path, acknowledge=acknowledge)
        self.transcript.bundle(source.number, target.number, path.name, acknowledge=acknowledge)
        source.is_intact = True
        self.harvest(source)
        if written is None:
            require(not path.exists(), "there was nothing to send, but a file was written")
            return None
        self.tried["bundles"] += 1
        info = inspect_bundle(path)
        held = {device: high for device, _, high in info.devices if high}
        require(held == source.clock, f"a bundle says that its source holds {held}, which holds {source.clock}")
        parcel = Parcel(path, info.bundle_id, info.source_device_id, info.devices, info.total_operations)
        self.parcels.append(parcel)
        return parcel


def stored_context(device: Device, operation: Operation) -> dict[bytes, int]:
    """Read an operation's context from the file, as SPEC.md, section 3 says."""
    rows = device.engine.connection.execute(
        "SELECT k.device_id, c.known_seq FROM sync_contexts AS c JOIN sync_devices AS d USING (ordinal) "
        "JOIN sync_devices AS k ON k.ordinal = c.known_ordinal WHERE d.device_id = ? AND c.seq <= ? ORDER BY c.seq",
        (operation.device_id, operation.seq),
    )
    return {known: seq for known, seq in rows if seq}


def has_column(device: Device, table: str, column: str) -> bool:
    """Tell whether a device's table has a column."""
    columns = device.engine.connection.execute(f"PRAGMA table_info({quote(table)})").fetchall()
    return any(row[1] == column for row in columns)


def _counted_uuid(number: int) -> UUID:
    """Make the UUIDs of a history, always the same ones: a run can be repeated."""
    return UUID(int=(number << 80) | (7 << 76) | (2 << 62) | number)
