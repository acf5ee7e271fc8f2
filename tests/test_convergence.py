"""Two to five devices write, exchange, forget, repeat and resolve, in any order; the oracle says what each must hold.

`SQLITE_SYNC_EXAMPLES=500 pytest tests/test_convergence.py` runs longer than the suite does.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, fields
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from model import Clash, Model, Row, RowName, Write, same
from sqlite_sync import BundleError, Conflict, GapError, ImportResult, Operation, RawText, SyncEngine, inspect_bundle
from strategies import TABLES, Quarrel, Statement, Table, cell_values, on_row, quarrels, quote, statements

EXAMPLES = int(os.environ.get("SQLITE_SYNC_EXAMPLES", "25"))
STEPS = int(os.environ.get("SQLITE_SYNC_STEPS", "40"))
NAMES = [table.name for table in TABLES]
EPOCH = 2440587.5  # 1970-01-01 as a Julian day

any_device = st.integers(0, 4)
any_clock = st.sampled_from([0, 1, 2, 10**6, 10**12, 4 * 10**12, -(10**12)])
choices = st.sampled_from(["local", "remote", None]) | st.dictionaries(
    st.sampled_from(["title", "done", "name", "weight"]), cell_values
)
scripts = st.lists(statements(), min_size=1, max_size=4)
endings = st.sampled_from(["AUTOCOMMIT", "AUTOCOMMIT", "COMMIT", "ROLLBACK", "ROLLBACK TO"])
incidents = st.sampled_from([
    *["a table is disabled", "a table is enabled again"] * 3,
    "the clock is set",
    "the program is started again",
    "a file of the folder is lost",
    "a key is NULL",
])  # fmt: skip


@dataclass
class Device:
    """A replica, and what the test knows of it."""

    number: int
    path: Path
    now_ms: int
    engine: SyncEngine = field(init=False)
    seen: dict[bytes, int] = field(default_factory=dict)  # its vector clock when the test last looked
    settled: dict[bytes, int] = field(default_factory=dict)  # and when it was last settled
    disabled: set[str] = field(default_factory=set)
    imported: set[bytes] = field(default_factory=set)

    @property
    def connection(self) -> sqlite3.Connection:
        return self.engine.connection

    @property
    def enabled(self) -> list[str]:
        return [name for name in NAMES if name not in self.disabled]

    @property
    def operations(self) -> int:
        return sum(self.seen.values())

    def open(self) -> None:
        self.engine = SyncEngine(self.path, connect=self.connect)
        self.engine.initialize()

    def connect(self, path: str) -> sqlite3.Connection:
        """Open the file with this device's own idea of the time, no chance, and no waiting for the disk."""
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        connection.create_function("julianday", 1, lambda _: EPOCH + self.now_ms / 86400000.0)
        connection.create_function("random", 0, lambda: 0)
        return connection

    @contextmanager
    def outsider(self, *, is_outside: bool) -> Iterator[sqlite3.Connection]:
        """Give the connection of another program, or the engine's own."""
        if not is_outside:
            yield self.connection
            return
        with closing(self.connect(str(self.path))) as connection:
            yield connection


@dataclass(frozen=True)
class Parcel:
    """A bundle under way; it may arrive anywhere, at any time, again, or never."""

    path: Path
    bundle_id: bytes
    source: bytes
    devices: tuple[tuple[bytes, int, int], ...]
    total: int


class Devices(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="convergence-"))
        self.shared = self.folder / "shared"
        self.shared.mkdir()
        self.devices: list[Device] = []
        self.pool: list[Parcel] = []
        self.model = Model()
        self.written: dict[bytes, tuple[Operation, Write]] = {}
        self.meets_in_folder = False
        self.chance = patch("uuid_utils.uuid7", side_effect=map(counted_uuid, count(1)))
        self.chance.start()

    @initialize(
        clocks=st.lists(any_clock, min_size=2, max_size=4),
        common_rows=scripts,
        first_rows=st.lists(scripts, max_size=3),
        meets_in_folder=st.booleans(),
    )
    def start(
        self,
        clocks: list[int],
        common_rows: list[Statement],
        first_rows: list[list[Statement]],
        *,
        meets_in_folder: bool,
    ) -> None:
        self.meets_in_folder = meets_in_folder
        for number, now_ms in enumerate(clocks):
            own_rows = first_rows[number] if number < len(first_rows) else []
            self._join(now_ms, [*common_rows, *own_rows], is_reversed=number == 1)

    def _join(self, now_ms: int, first_rows: list[Statement], *, is_reversed: bool) -> None:
        number = len(self.devices)
        device = Device(number, self.folder / f"{number}.db", now_ms)
        device.open()
        for table in TABLES:
            device.connection.execute(table.create(is_reversed=is_reversed))
        run(device.connection, *first_rows)
        for name in NAMES:
            device.engine.enable_sync_for_table(name, keys="natural")
        self.devices.append(device)
        self._harvest(device)

    def _device(self, number: int) -> Device:
        return self.devices[number % len(self.devices)]

    # --- what happens ---------------------------------------------------------------------------------------------

    @rule(number=any_device, script=scripts, is_outside=st.booleans(), ending=endings)
    def a_program_writes(self, number: int, script: list[Statement], ending: str, *, is_outside: bool) -> None:
        device = self._device(number)
        with device.outsider(is_outside=is_outside) as connection:
            if ending == "AUTOCOMMIT":
                run(connection, *script)
            else:
                self._run_transaction(connection, script, ending)
        before = device.operations
        self._harvest(device)
        assert ending != "ROLLBACK" or device.operations == before

    @rule(number=any_device, script=scripts, others=st.sets(any_device, min_size=1))
    def several_devices_do_the_same(self, number: int, script: list[Statement], others: set[int]) -> None:
        for device in {one.number: one for one in map(self._device, {number, *others})}.values():
            run(device.connection, *script)
            self._harvest(device)

    @rule(number=any_device, peer=any_device, quarrel=quarrels, is_sent=st.booleans())
    def two_devices_write_the_same_row(self, number: int, peer: int, quarrel: Quarrel, *, is_sent: bool) -> None:
        pair = self._device(number), self._device(peer)
        for device, script in zip(pair, quarrel, strict=True):
            run(device.connection, *script)
            self._harvest(device)
        if is_sent:
            self._send(*pair)

    @precondition(lambda self: self._in_conflict())
    @rule(place=st.integers(0, 20), data=st.data())
    def a_row_in_conflict_is_edited(self, place: int, data: st.DataObject) -> None:
        found = self._in_conflict()
        device, row = found[place % len(found)]
        operation, _ = self.written[row.shown.op_id]
        table = next(table for table in TABLES if table.name == operation.table_name)
        run(
            device.connection,
            *data.draw(st.lists(on_row(table, tuple(operation.row_pk.values())), min_size=1, max_size=3)),
        )
        self._harvest(device)

    @precondition(lambda self: self._in_conflict())
    @rule(place=st.integers(0, 20), choice=choices)
    def a_conflict_is_resolved(self, place: int, choice: str | Mapping[str, object] | None) -> None:
        found = self._in_conflict()
        device = found[place % len(found)][0]
        open_here = [one for one in self._look(device) if one.table_name in device.enabled]
        if open_here:  # the last edit may have closed it
            self._resolve(device, open_here[place % len(open_here)], choice)

    @rule(number=any_device, peer=any_device)
    def one_device_sends_to_another(self, number: int, peer: int) -> None:
        self._send(self._device(number), self._device(peer))

    @rule(number=any_device, peer=any_device, acknowledge=st.booleans())
    def a_bundle_is_written(self, number: int, peer: int, *, acknowledge: bool) -> None:
        self._write_parcel(self._device(number), self._device(peer), acknowledge=acknowledge)

    @precondition(lambda self: self.pool)
    @rule(place=st.integers(0, 200), number=any_device, is_dry_run=st.booleans())
    def a_bundle_arrives(self, place: int, number: int, *, is_dry_run: bool) -> None:
        parcel, device = self.pool[-1 - place % len(self.pool)], self._device(number)
        if not is_dry_run:
            self._deliver(parcel, device)
            return
        before = everything(device)
        with suppress(BundleError):
            device.engine.import_bundle(parcel.path, dry_run=True)
        assert everything(device) == before

    @rule(number=any_device)
    def a_device_visits_the_folder(self, number: int) -> None:
        self._visit(self._device(number))

    @rule(number=any_device)
    def a_device_is_looked_at(self, number: int) -> None:
        self._look(self._device(number))

    @precondition(lambda self: len(self.devices) < 5)
    @rule(now_ms=any_clock, first_rows=scripts, is_reversed=st.booleans())
    def a_device_joins_late(self, now_ms: int, first_rows: list[Statement], *, is_reversed: bool) -> None:
        self._join(now_ms, first_rows, is_reversed=is_reversed)

    @rule(number=any_device, incident=incidents, now_ms=any_clock, place=st.integers(0, 20))
    def something_rare_happens(self, number: int, incident: str, now_ms: int, place: int) -> None:
        device = self._device(number)
        match incident:
            case "the clock is set":
                device.now_ms = now_ms
            case "the program is started again":
                device.engine.close()
                device.open()
            case "a file of the folder is lost":
                files = sorted(self.shared.glob("*/*.bundle"))
                if files:
                    files[place % len(files)].unlink()
            case "a key is NULL":
                if "notes" in device.enabled:
                    with pytest.raises(sqlite3.IntegrityError, match="NULL"):
                        device.connection.execute("INSERT INTO notes (id) VALUES (NULL)")
            case "a table is disabled":
                self._disable(device, NAMES[place % len(NAMES)])
            case "a table is enabled again":
                if device.disabled:
                    self._enable(device, min(device.disabled))

    # --- how ------------------------------------------------------------------------------------------------------

    def _write_parcel(self, source: Device, target: Device, *, acknowledge: bool = False) -> Parcel | None:
        if source is target:
            return None
        path = self.folder / f"{len(self.pool)}.bundle"
        written = source.engine.generate_bundle(target.engine.device_id, path, acknowledge=acknowledge)
        self._harvest(source, is_settled=True)
        if written is None:
            assert not path.exists()
            return None
        info = inspect_bundle(path)
        assert info.source_device_id == source.engine.device_id
        assert {device: high for device, _, high in info.devices if high} == source.seen
        assert info.total_operations == sum(high - low for _, low, high in info.devices)
        self.pool.append(Parcel(path, info.bundle_id, info.source_device_id, info.devices, info.total_operations))
        return self.pool[-1]

    def _send(self, source: Device, target: Device) -> None:
        parcel = self._write_parcel(source, target)
        if parcel is not None:
            self._deliver(parcel, target)

    def _run_transaction(self, connection: sqlite3.Connection, script: list[Statement], ending: str) -> None:
        connection.execute("BEGIN")
        run(connection, script[0])
        connection.execute("SAVEPOINT middle")
        run(connection, *script[1:])
        if ending == "ROLLBACK TO":
            connection.execute("ROLLBACK TO middle")
        connection.execute("ROLLBACK" if ending == "ROLLBACK" else "COMMIT")

    def _in_conflict(self) -> list[tuple[Device, Row]]:
        """List the rows in conflict on each device, as far as it knows."""
        return [
            (device, row)
            for device in self.devices
            for _, row in self.model.rows(device.seen, device.enabled)
            if row.conflicts
        ]

    def _deliver(self, parcel: Parcel, device: Device) -> None:
        """Import a bundle and check the result, or the refusal, against what is known of both sides."""
        gaps = [low for peer, low, _ in parcel.devices if device.seen.get(peer, 0) < low]
        before = everything(device)
        if parcel.source == device.engine.device_id:
            with pytest.raises(BundleError, match="very device"):
                device.engine.import_bundle(parcel.path)
            assert everything(device) == before
        elif gaps and parcel.bundle_id not in device.imported:
            with pytest.raises(GapError):
                device.engine.import_bundle(parcel.path)
            assert everything(device) == before
        else:
            known = dict(device.seen)
            conflicts = self._clashes(device)
            result = device.engine.import_bundle(parcel.path)
            self._harvest(device, is_settled=True)
            self._check_result(device, parcel, known, conflicts, result)
            self._look(device)

    def _check_result(
        self, device: Device, parcel: Parcel, known: dict[bytes, int], before: dict[bytes, Clash], result: ImportResult
    ) -> None:
        assert result.bundle_id == parcel.bundle_id
        assert result.source_device_id == parcel.source
        assert result.skipped == (parcel.bundle_id in device.imported)
        if result.skipped:
            assert device.seen == known
            assert (result.applied_count, result.conflict_count, result.duplicate_count) == (0, 0, 0)
            return
        device.imported.add(parcel.bundle_id)
        merged = {peer: max(known.get(peer, 0), high) for peer, _, high in parcel.devices}
        assert device.seen == {peer: seq for peer, seq in {**known, **merged}.items() if seq}
        new = [
            write
            for _, write in self.written.values()
            if known.get(write.device, 0) < write.seq <= device.seen.get(write.device, 0)
        ]
        held = [write for write in new if write.table in device.disabled]
        opened = [clash for clash_id, clash in self._clashes(device).items() if clash_id not in before]
        parts = {op_id for clash in opened for op_id in (clash.local, clash.remote)}
        assert result.total_operations == parcel.total
        assert result.duplicate_count == parcel.total - len(new)
        assert result.held_count == len(held)
        assert result.conflict_count == len(opened) == len(result.conflicts)
        assert {one.conflict_id for one in result.conflicts} == {one.conflict_id for one in opened}
        assert result.applied_count == len([write for write in new if write not in held and write.op_id not in parts])

    def _visit(self, device: Device) -> None:
        result = device.engine.sync_folder(self.shared)
        assert not result.refused
        assert not result.ignored
        device.imported.update(one.bundle_id for one in result.imported)
        self._harvest(device, is_settled=True)
        self._look(device)

    def _resolve(self, device: Device, conflict: Conflict, choice: str | Mapping[str, object] | None) -> None:
        name = conflict.table_name, fold(conflict.table_name, conflict.row_pk)
        row = self.model.row(name, device.seen)
        assert row is not None
        table = next(one for one in TABLES if one.name == conflict.table_name)
        images = device.engine.images(conflict)
        assert same(images.local, row.images[conflict.local_op_id])
        assert same(images.remote, row.images[conflict.remote_op_id])
        if isinstance(choice, Mapping):
            choice = {column: value for column, value in choice.items() if column in table.payload}
        expected = {"local": images.local, "remote": images.remote}.get(choice) if isinstance(choice, str) else None
        if isinstance(choice, Mapping):
            expected = {**row.image, **choice} if row.image is not None else None
        operation = device.engine.resolve(conflict, choice)
        self._harvest(device, is_settled=True)
        assert operation.kind == ("resolve-delete" if expected is None else "resolve")
        after = self.model.row(name, device.seen)
        assert after is not None
        assert list(after.heads) == [operation.op_id]
        if not isinstance(choice, Mapping):
            assert same(after.image, expected)
        assert conflict.conflict_id not in {one.conflict_id for one in self._look(device)}

    def _disable(self, device: Device, name: str) -> None:
        if name in device.enabled:
            device.engine.disable_sync_for_table(name)
            device.disabled.add(name)
            self._harvest(device, is_settled=True)

    def _enable(self, device: Device, name: str) -> None:
        device.engine.enable_sync_for_table(name, keys="natural")
        device.disabled.discard(name)
        self._harvest(device, is_settled=None)
        self._look(device)

    # --- what is known, and what must hold ------------------------------------------------------------------------

    def _harvest(self, device: Device, *, is_settled: bool | None = False) -> None:
        """Read what is new in a device's log; what it wrote itself, nobody can have seen before."""
        clock = dict(device.engine.get_vector_clock())
        own = device.engine.device_id
        for operation in device.engine.operations(since=device.seen):
            known = self.written.get(operation.op_id)
            if known is not None:
                assert spelled(operation) == spelled(known[0])
                continue
            author = operation.device_id
            if author == own:
                context = {peer: seq for peer, seq in clock.items() if peer != own}
            else:  # a baseline, or what was written while a table was disabled
                context = stored_context(device.connection, author, operation.seq)
            write = written_by(operation, context)
            assert write.op_id == operation.op_id
            if is_settled is not None and author == own and not write.is_resolution:
                before = self.model.row((write.table, write.row), device.settled)
                assert write.base == (before.shown.op_id if before and before.conflicts else None), (
                    f"wrong base: {write}"
                )
            self.written[operation.op_id] = operation, write
            self.model.add(write)
        device.seen = clock
        if is_settled:
            device.settled = clock

    def _clashes(self, device: Device) -> dict[bytes, Clash]:
        rows = self.model.rows(device.seen, device.enabled)
        return {clash.conflict_id: clash for _, row in rows for clash in row.conflicts}

    def _look(self, device: Device) -> list[Conflict]:
        """Settle, and compare conflicts and content with the model's."""
        found = device.engine.get_unresolved_conflicts()
        self._harvest(device, is_settled=True)
        here = [one for one in found if one.table_name in device.enabled]
        listed = {Clash(one.conflict_id, one.kind, one.local_op_id, one.remote_op_id) for one in here}
        expected = set(self._clashes(device).values())
        assert listed == expected, f"conflicts of device {device.number}"
        assert len(here) == len(listed)
        self._check_content(device, {name: row.image for name, row in self.model.rows(device.seen, device.enabled)})
        return found

    def _check_content(self, device: Device, expected: dict[RowName, Mapping[str, object] | None]) -> None:
        for table in TABLES:
            if table.name in device.enabled:
                found = content(device.connection, table)
                wanted = {
                    name: image for name, image in expected.items() if name[0] == table.name and image is not None
                }
                assert found.keys() == wanted.keys(), f"rows of {table.name} on device {device.number}"
                for name, image in found.items():
                    assert same(image, wanted[name]), f"device {device.number}, {name}: {image} is not {wanted[name]}"

    @invariant()
    def each_table_shows_what_was_written_last(self) -> None:
        """Check the content without settling: the own writes since then, and below them the settled rows."""
        for device in self.devices:
            expected: dict[RowName, Mapping[str, object] | None] = {}
            for name, row in self.model.rows(device.seen, device.enabled):
                later = [
                    one
                    for one in row.writes.values()
                    if one.seq > device.settled.get(one.device, 0) and one.device == device.engine.device_id
                ]
                settled = self.model.row(name, device.settled)
                if later:
                    expected[name] = row.images[max(later, key=lambda one: one.seq).op_id]
                else:
                    expected[name] = settled.image if settled else row.image
            self._check_content(device, expected)

    def teardown(self) -> None:
        try:
            if self.devices and sys.exception() is None:
                self._meet()
                self._agree()
        finally:
            for device in self.devices:
                device.engine.close()
            shutil.rmtree(self.folder)
            self.chance.stop()

    def _meet(self) -> None:
        """Enable all, then exchange until nothing is new anywhere."""
        for device in self.devices:
            for name in sorted(device.disabled):
                self._enable(device, name)
        for _ in range(3):
            for source in self.devices:
                if self.meets_in_folder:
                    self._visit(source)
                    continue
                for target in self.devices:
                    self._send(source, target)
        for place, parcel in enumerate(self.pool):  # late and again: nothing may change
            self._deliver(parcel, self.devices[place % len(self.devices)])

    def _agree(self) -> None:
        assert not (wrong := list(self.model.misjudged())), wrong
        everywhere = {
            device: max(one.seq for _, one in self.written.values() if one.device == device)
            for device in {one.device for _, one in self.written.values()}
        }
        in_order = sorted(self.written.values(), key=lambda pair: pair[1].order)
        for place, (_, write) in enumerate(in_order):
            assert not any(later.happened_before(write) for _, later in in_order[place:]), (
                "the order contradicts causality"
            )
        for device in self.devices:
            self._look(device)
            assert device.seen == everywhere
            assert [spelled(one) for one in device.engine.operations()] == [spelled(one) for one, _ in in_order]
            for _, write in in_order:
                if write.device != device.engine.device_id:
                    assert stored_context(device.connection, write.device, write.seq) == {
                        k: v for k, v in write.context.items() if v
                    }
        assert not (lost := list(self.model.lost(everywhere))), lost


def counted_uuid(number: int) -> UUID:
    """Make the UUIDs of a run, always the same ones: Hypothesis must be able to repeat it."""
    return UUID(int=(number << 80) | (7 << 76) | (2 << 62) | number)


def run(connection: sqlite3.Connection, *script: Statement) -> None:
    """Run statements; a constraint may refuse each."""
    for statement in script:
        with suppress(sqlite3.IntegrityError):
            connection.execute(*statement.bound())


def fold(table: str, key: Mapping[str, object]) -> Hashable:
    """Name a row by its key: equal numbers are one key, and `source` of links is NOCASE."""
    parts = []
    for column, value in key.items():
        is_nocase = isinstance(value, str) and (table, column) == ("links", "source")
        parts.append((isinstance(value, RawText), value.encode().lower() if is_nocase else value))
    return tuple(parts)


def spelled(operation: Operation) -> list[tuple[str, str]]:
    """Spell an operation out, to the bit; the columns in no order."""
    parts = ((one.name, getattr(operation, one.name)) for one in fields(operation))
    return [(name, repr(sorted(part.items()) if isinstance(part, Mapping) else part)) for name, part in parts]


def written_by(operation: Operation, context: Mapping[bytes, int]) -> Write:
    return Write(
        device=operation.device_id,
        seq=operation.seq,
        hlc=operation.hlc,
        table=operation.table_name,
        row=fold(operation.table_name, operation.row_pk),
        kind=operation.kind,
        new=operation.new,
        base=operation.base_op_id,
        context=context,
    )


def stored_context(connection: sqlite3.Connection, device: bytes, seq: int) -> dict[bytes, int]:
    """Read an operation's context from the file, as SPEC.md, section 3 says."""
    rows = connection.execute(
        "SELECT k.device_id, c.known_seq FROM sync_contexts AS c JOIN sync_devices AS d USING (ordinal) "
        "JOIN sync_devices AS k ON k.ordinal = c.known_ordinal WHERE d.device_id = ? AND c.seq <= ? ORDER BY c.seq",
        (device, seq),
    )
    return {known: known_seq for known, known_seq in rows if known_seq}


def decode(stored: bytes) -> str | RawText:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return RawText(stored)


@contextmanager
def texts(connection: sqlite3.Connection, factory: Callable[[bytes], Any]) -> Iterator[None]:
    former, connection.text_factory = connection.text_factory, factory
    yield
    connection.text_factory = former


def content(connection: sqlite3.Connection, table: Table) -> dict[RowName, dict[str, object]]:
    """Read a table: row name -> image."""
    names = [name for name, _ in table.columns]
    with texts(connection, decode):
        rows = connection.execute(f"SELECT {', '.join(map(quote, names))} FROM {table.name}").fetchall()
    images = [dict(zip(names, row, strict=True)) for row in rows]
    return {(table.name, fold(table.name, {name: image[name] for name in table.key})): image for image in images}


def everything(device: Device) -> dict[str, list[str]]:
    """Read the whole file, ours and theirs."""
    connection = device.connection
    with texts(connection, bytes):
        names = [
            name.decode()
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        ]
        found = {name: sorted(map(repr, connection.execute(f"SELECT * FROM {quote(name)}"))) for name in names}
        found[""] = sorted(map(repr, connection.execute("SELECT type, name, sql FROM sqlite_schema")))
    return found


TestConvergence = Devices.TestCase
TestConvergence.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
