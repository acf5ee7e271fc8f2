"""A few devices that write and exchange bundles, and a record of who wrote what, knowing what.

The record is kept here and not asked from the devices: what a device must know is the union of what it wrote and of
what was delivered to it. `tests/model.py` makes of it what each device must show.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from model import Model, Write
from sqlite_sync import Conflict, Operation, SyncEngine, inspect_bundle
from verification.search import require
from verification.steps import (
    KEYS,
    PAYLOAD,
    SCHEMA,
    Arrive,
    Change,
    Meet,
    Post,
    Resolve,
    RowName,
    Send,
    SetClock,
    Step,
    row_name,
    statement,
)

EPOCH_DAY = 2440587.5  # 1970-01-01 as a Julian day
DAY_MS = 86_400_000

# --- devices ------------------------------------------------------------------------------------------------------


@dataclass
class Device:
    """A replica, and what it must know: its own writes and what was delivered to it."""

    number: int
    path: Path
    now_ms: int | None = None
    clock: dict[bytes, int] = field(default_factory=dict)
    engine: SyncEngine = field(init=False)

    def open(self) -> Device:
        """Open the file and initialize it."""
        self.engine = SyncEngine(self.path, connect=self._connect)
        self.engine.initialize()
        return self

    def _connect(self, path: str) -> sqlite3.Connection:
        """Give the device its own idea of the time, and no waiting for the disk."""
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA synchronous = OFF")
        if self.now_ms is not None:
            connection.create_function("julianday", 1, lambda _: EPOCH_DAY + (self.now_ms or 0) / DAY_MS)
        return connection

    def conflicts(self) -> dict[RowName, list[Conflict]]:
        """Return the open conflicts by row; the table is settled then."""
        found: dict[RowName, list[Conflict]] = {}
        for conflict in self.engine.get_unresolved_conflicts():
            found.setdefault(row_name(conflict.table_name, tuple(conflict.row_pk.values())), []).append(conflict)
        return found

    def content(self) -> dict[RowName, dict[str, object]]:
        """Read what the tables show, by row."""
        found = {}
        for table, keys in KEYS.items():
            names = (*keys, *PAYLOAD[table])
            for row in self.engine.connection.execute(f"SELECT {', '.join(names)} FROM {table}"):
                found[row_name(table, row[: len(keys)])] = dict(zip(names, row, strict=True))
        return found


@dataclass(frozen=True)
class Parcel:
    """A bundle under way, and what its source knew when it wrote it."""

    path: Path
    source: int
    target: int
    clock: Mapping[bytes, int]
    starts: Mapping[bytes, int]


class Observer(Protocol):
    """Somebody who looks over the shoulder of whoever writes."""

    def before_change(self, device: Device, change: Change) -> Change:
        """Look before a statement, and perhaps exchange its values."""

    def after_change(self, device: Device, change: Change) -> None:
        """Look after a statement."""

    def before_resolution(self, device: Device, conflict: Conflict, choice: str | None) -> None:
        """Look before a resolution."""

    def after_resolution(self, device: Device) -> None:
        """Look after a resolution."""


class World:
    """Devices, bundles under way, and the record of all that was written."""

    def __init__(self, size: int, tried: Counter[str], first_rows: Sequence[Change] = ()) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.folder = Path(self._folder.name)
        self.devices: list[Device] = []
        self.parcels: list[Parcel] = []
        self.model = Model()
        self.writes: dict[bytes, Write] = {}
        self.tried = tried
        self.observer: Observer | None = None
        self.tried["histories"] += 1
        for number in range(size):
            self._join(number, [change for change in first_rows if change.device % size == number])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for device in self.devices:
            device.engine.close()
        self._folder.cleanup()

    def _join(self, number: int, first_rows: Sequence[Change]) -> None:
        """Make a device; what stands in a table when it is enabled was written by nobody who knew anything."""
        device = Device(number, self.folder / f"{number}.db", 10**12).open()
        self.devices.append(device)
        device.engine.connection.executescript(SCHEMA)
        for change in first_rows:
            device.engine.connection.execute(*statement(change))
        for table in KEYS:
            device.engine.enable_sync_for_table(table, keys="natural")
        for operation in device.engine.operations():
            self._note(operation, {})
            device.clock[operation.device_id] = operation.seq

    def play(self, history: list[Step]) -> None:
        """Let these steps happen."""
        for step in history:
            self.step(step)

    def step(self, step: Step) -> None:
        """Let one step happen; one that makes no sense here is left out."""
        match step:
            case Change():
                self.change(self._at(step.device), step)
            case Send():
                if parcel := self.post(self._at(step.source), self._at(step.target)):
                    self.deliver(parcel, self._at(step.target))
            case Meet():
                self.play([Send(step.one, step.other), Send(step.other, step.one)])
            case Post():
                if parcel := self.post(self._at(step.source), self._at(step.target)):
                    self.parcels.append(parcel)
            case Arrive() if self.parcels:
                parcel = self.parcels.pop(step.place % len(self.parcels))
                self.deliver(parcel, self._at(parcel.target))
            case Resolve():
                self._resolve(self._at(step.device), step)
            case SetClock():
                self._at(step.device).now_ms = step.now_ms

    def _at(self, number: int) -> Device:
        return self.devices[number % len(self.devices)]

    def change(self, device: Device, change: Change) -> None:
        """Run a statement on a device, and note the operations that it made."""
        if self.observer:
            change = self.observer.before_change(device, change)
        device.engine.connection.execute(*statement(change))
        self.note_writes(device)
        if self.observer:
            self.observer.after_change(device, change)

    def note_writes(self, device: Device) -> None:
        """Note what a device wrote: its context is what the device knew until now."""
        own = device.engine.device_id
        context = {known: seq for known, seq in device.clock.items() if known != own}
        for operation in device.engine.operations(since=device.clock):
            require(operation.device_id == own, f"device {device.number} has what nobody sent it: {operation}")
            self._note(operation, context)
            device.clock[own] = operation.seq

    def _note(self, operation: Operation, context: Mapping[bytes, int]) -> None:
        if operation.op_id in self.writes:  # two devices began with the same rows
            return
        write = Write(
            device=operation.device_id,
            seq=operation.seq,
            hlc=operation.hlc,
            table=operation.table_name,
            row=row_name(operation.table_name, tuple(operation.row_pk.values()))[1],
            kind=operation.kind,
            new=operation.new,
            base=operation.base_op_id,
            context=context,
        )
        self.tried["operations"] += 1
        self.writes[operation.op_id] = write
        self.model.add(write)

    def known(self, device: Device) -> list[Write]:
        """Return the writes that a device must know."""
        return [write for write in self.writes.values() if write.seq <= device.clock.get(write.device, 0)]

    def post(self, source: Device, target: Device) -> Parcel | None:
        """Write a bundle for a device; None where there is nothing to send."""
        if source is target:
            return None
        path = self.folder / f"{self.tried['bundles']}.bundle"
        if source.engine.generate_bundle(target.engine.device_id, path) is None:
            return None
        self.tried["bundles"] += 1
        starts = {device: low for device, low, _ in inspect_bundle(path).devices}
        return Parcel(path, source.number, target.number, dict(source.clock), starts)

    def deliver(self, parcel: Parcel, target: Device) -> None:
        """Import a bundle; the device then knows what its source knew."""
        self.tried["imports"] += 1
        target.engine.import_bundle(parcel.path)
        target.clock = {d: max(target.clock.get(d, 0), parcel.clock.get(d, 0)) for d in target.clock | parcel.clock}

    def meet(self) -> None:
        """Let everybody meet the first device, twice."""
        hub, *others = self.devices
        for device in others:
            self.step(Send(device.number, hub.number))
        for device in others:
            self.step(Send(hub.number, device.number))

    def _resolve(self, device: Device, step: Resolve) -> None:
        found = device.engine.get_unresolved_conflicts()
        if found:
            conflict = found[step.place % len(found)]
            if self.observer:
                self.observer.before_resolution(device, conflict, step.choice)
            device.engine.resolve(conflict, step.choice)  # type: ignore[arg-type]
            self.note_writes(device)
            if self.observer:
                self.observer.after_resolution(device)
