"""Devices write under a schema that is drawn, exchange and resolve in every way: what was refused, decided and agreed on.

`SQLITE_SYNC_EXAMPLES=500 pytest tests/test_resolution_histories.py` runs longer than the suite does, and another seed
(`--hypothesis-seed=1`) runs other histories. What SPEC.md, section 14, does not promise is allowed where it is named.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

import pytest
from hypothesis import HealthCheck, event, given, settings

from conftest import unchanging_schema
from drawn_schemas import MOST_DEVICES, Action, Plan, Table, plans
from model import Image, Model, Row, RowName, Write, same
from sqlite_sync import (
    Conflict,
    ConflictError,
    ConstraintError,
    GapError,
    Operation,
    Resolutions,
    Strategy,
    SyncEngine,
    Value,
)

EXAMPLES = int(os.environ.get("SQLITE_SYNC_EXAMPLES", "20"))
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - nothing waits for a disk there, and the names in it are random

Orphan = tuple[str, str, int, int | None]  # table, parent, number of the foreign key, rowid
State = tuple[dict[str, list[object]], list[tuple[object, ...]]]  # what stands, and what is in conflict


@dataclass
class Device:
    """A replica with a clock of its own, and what the test knows of it."""

    number: int
    engine: SyncEngine
    now_ms: list[int]
    seen: dict[bytes, int] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Make the files that every history begins with."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as name:
        numbered = (UUID(int=0x01900000_0000_7000_8000_000000000000 + n) for n in count(1))
        with patch("uuid_utils.uuid7", side_effect=lambda: next(numbered)):
            for number in range(MOST_DEVICES + 1):
                with SyncEngine(Path(name, str(number))) as engine:
                    engine.initialize()
            with patch.object(tempfile, "tempdir", name):  # copies of bundles
                yield Path(name)


class History:
    """The devices, the bundles under way, and in which context each operation was written."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan, self.tables = folder, plan, plan.schema.tables
        self.pool: list[tuple[Path, int]] = []
        self.contexts: dict[tuple[bytes, int], dict[bytes, int]] = {}
        self.authored: set[tuple[str, str, int]] = set()
        self.is_toggled = any(action[0] == "toggle" for action in plan.actions)
        self.devices = [self._open(number, is_enforcing) for number, is_enforcing in enumerate(plan.enforcing)]

    def _open(self, number: int, is_enforcing: bool) -> Device:
        path = self.folder / f"{number}.db"
        shutil.copyfile(self.folder / str(number), path)
        now_ms = [1_000_000]

        def connect(name: str) -> sqlite3.Connection:
            connection = sqlite3.connect(name)
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute(f"PRAGMA foreign_keys = {is_enforcing:d}")
            connection.create_function("julianday", 1, lambda _: 2440587.5 + now_ms[0] / 86400000.0)
            connection.create_function("random", 0, lambda: 0)
            return connection

        device = Device(number, SyncEngine(path, connect=connect), now_ms)
        device.engine.initialize()
        device.engine.connection.executescript(self.plan.schema.sql)
        for table in self.tables:
            self.enable(device, table)
        return device

    def enable(self, device: Device, table: str) -> None:
        device.engine.enable_sync_for_table(table, keys="natural" if self.tables[table].is_natural else None)
        device.disabled.discard(table)
        self.note(device)

    def close(self) -> None:
        for device in self.devices:
            device.engine.close()
        for path in (*self.folder.glob("*.db*"), *self.folder.glob("*.bundle")):
            path.unlink()

    # --- what happens -------------------------------------------------------------------------------------------

    def run(self, place: int, action: Action) -> None:
        verb, *parts = action
        device = self.devices[parts[0]] if parts and isinstance(parts[0], int) else self.devices[0]
        device.now_ms[0] += self.plan.clocks[place % len(self.plan.clocks)]
        match verb, *parts[1:]:
            case "write", [*script], bool(is_transaction):
                self.write(device, [str(sql) for sql in script], is_transaction=is_transaction)
            case "send", int(peer), (None | Strategy()) as strategy:
                self.send(device, self.devices[peer], strategy)
            case "pack", int(peer) if peer != device.number:
                self.pack(device, self.devices[peer])
            case "deliver", int(which) if self.pool:
                path, source = self.pool[-1 - which % len(self.pool)]
                self.take_in(device, path, source)
            case (("resolve" | "values" | "ask"), int(which), choice):
                self.resolve(device, which, choice)
            case "ask of all", Strategy() as strategy:
                self.attempt(device, lambda: device.engine.resolve_all(strategy))
            case "toggle", str(table):
                self.toggle(device, table)
            case ("ask apart",):
                self.resolve_apart(parts[0])  # type: ignore[arg-type]
            case ("meet",):
                self.meet()

    def write(self, device: Device, script: list[str], *, is_transaction: bool) -> None:
        connection = device.engine.connection
        if is_transaction:
            connection.execute("BEGIN")
        for sql in script:
            with suppress(sqlite3.IntegrityError):
                connection.execute(sql)
        if is_transaction:
            try:
                connection.execute("COMMIT")
            except sqlite3.IntegrityError:
                connection.execute("ROLLBACK")
        self.note(device)
        if self.plan.enforcing[device.number] and (orphans := self.orphans(device)):
            # SPEC 14, "Referring to what one displaces": SQLite leaves such rows, and the next reconcile logs them
            self.authored |= {orphan[:3] for orphan in orphans}
            self.settle(device)
            device.engine.reconcile()
            self.note(device)

    def send(self, source: Device, target: Device, resolver: Strategy | None = None) -> None:
        if source is not target:
            self.settle(source)
            path = source.engine.generate_bundle(target.engine.device_id, self.folder / "sent.bundle")
            if path is not None:
                self.take_in(target, path, source.number, resolver)

    def pack(self, source: Device, target: Device) -> None:
        """Write a bundle that may arrive late, again, elsewhere or never."""
        self.settle(source)
        path = source.engine.generate_bundle(target.engine.device_id, self.folder / f"{len(self.pool)}.bundle")
        self.pool += [] if path is None else [(path, source.number)]

    def take_in(self, device: Device, path: Path, source: int, resolver: Strategy | None = None) -> None:
        if device.number == source:
            return
        self.settle(device)
        before, orphans = content(device), self.orphans(device)
        try:
            device.engine.import_bundle(path, resolver=resolver)
        except GapError:
            event("gap")
            assert content(device) == before
        else:
            self.note(device, dict(device.engine.get_vector_clock()))  # what it writes comes after all that it took in
            self.check(device, orphans)

    def toggle(self, device: Device, table: str) -> None:
        self.settle(device)
        if table in device.disabled:
            self.enable(device, table)
        else:
            device.engine.disable_sync_for_table(table)
            device.disabled.add(table)
            self.note(device)

    def resolve(self, device: Device, which: int, choice: object) -> None:
        found = device.engine.get_unresolved_conflicts()
        self.note(device)
        if not found:
            return
        conflict = found[which % len(found)]
        images, table = device.engine.images(conflict), self.tables[conflict.table_name]
        if isinstance(choice, list):
            choice = self.values(device, table, choice)
        done = self.attempt(device, lambda: device.engine.resolve(conflict, choice))  # type: ignore[call-overload]
        if not isinstance(done, Operation):
            return
        event(f"resolved {conflict.kind}")
        assert conflict.conflict_id not in {one.conflict_id for one in device.engine.get_unresolved_conflicts()}
        if choice in ("local", "remote", None):
            local = None if conflict.is_parked else images.local
            wanted = images.remote if choice == "remote" else local if choice == "local" else None
            assert same(in_table(device, table, conflict), wanted)

    def values(self, device: Device, table: Table, picks: list[int]) -> dict[str, Value]:
        found = {}
        for column, value in (picks[:2], picks[2:]):
            name = table.free[column % len(table.free)]
            texts = table.columns[name].values
            found[name] = device.engine.connection.execute(f"SELECT {texts[value % len(texts)]}").fetchone()[0]
        return found

    def attempt(self, device: Device, resolve: Callable[[], object]) -> object:
        """Do it, or be told why not: what is refused changes nothing, and what is done breaks no constraint."""
        self.settle(device)
        before, orphans = content(device), self.orphans(device)
        try:
            done = resolve()
        except (ConflictError, ConstraintError) as error:
            done = error
        if isinstance(done, Exception):
            event(f"refused: {type(done).__name__}")
            assert content(device) == before, done
        else:
            self.note(device)
            self.check(device, orphans)
        return done

    def resolve_apart(self, strategy: Strategy) -> None:
        """Let all that hold the same decide by one strategy: alike, and no conflict is left when they meet."""
        self.meet()
        if any(device.disabled for device in self.devices):
            return
        done = [self.attempt(device, lambda one=device: one.engine.resolve_all(strategy)) for device in self.devices]  # type: ignore[misc]
        if (
            isinstance(done[0], Resolutions) and len(set(self.plan.enforcing)) == 1
        ):  # else one refuses what another does
            assert all(outcomes(one) == outcomes(done[0]) for one in done)
            states = [self.state(device) for device in self.devices]
            self.meet()
            states.append(self.state(self.devices[0]))
            assert all(stands == states[0][0] for stands, _ in states)
            # each has resolutions of its own, so conflicts with other ids: the rows are the same
            assert len({repr([one[:3] for one in conflicts]) for _, conflicts in states}) == 1

    def meet(self) -> None:
        """Let everybody hear of everything, and agree."""
        first, *others = self.devices
        for device in others:
            self.send(device, first)
        for device in others:
            self.send(first, device)
        if any(device.seen != first.seen for device in others):  # a delete was repeated meanwhile
            self.meet()
        elif not any(device.disabled for device in self.devices):
            held = self.state(first)
            for device in others:
                assert self.state(device) == held

    # --- what must hold -----------------------------------------------------------------------------------------

    def note(self, device: Device, context: Mapping[bytes, int] | None = None) -> None:
        """Note in which context a device wrote what nobody wrote before: its own, and that of unseen ones (6.5)."""
        clock, known = dict(device.engine.get_vector_clock()), context or device.seen
        for author, last in clock.items():
            others = {one: seq for one, seq in known.items() if one != author}
            for seq in range(device.seen.get(author, 0) + 1, last + 1):
                self.contexts.setdefault((author, seq), others)
        device.seen = clock

    def settle(self, device: Device) -> None:
        device.engine.get_unresolved_conflicts()
        self.note(device)

    def orphans(self, device: Device) -> set[Orphan]:
        found = device.engine.connection.execute("PRAGMA foreign_key_check").fetchall()
        return {(table, parent, number, rowid) for table, rowid, parent, number in found}

    def check(self, device: Device, before: set[Orphan]) -> None:
        """Look for rows that have lost their parent by an import or a resolution.

        Where all files enforce foreign keys and capture all tables always: what did not, stands as its author left it
        (SPEC.md, 4.6, 2; in section 14 "Orphans of a file ...", "Held operations are known", "Parked children, and a file
        ..."). References that name no key: section 14, "Constraint conflicts", "Parked children of a value that is no key".
        """
        if all(self.plan.enforcing) and not self.is_toggled:
            for orphan in self.orphans(device) - before:
                link = self.tables[orphan[0]].links[-1 - orphan[2]]  # SQLite numbers the last one declared 0
                assert orphan[:3] in self.authored or not link.is_to_key, orphan

    def state(self, device: Device) -> State:
        """Return what stands and what is in conflict, every number of a mapped table by the birth that it stands for."""
        self.settle(device)
        engine = device.engine
        numbers = {table.name: dict(table.numbers) for table in engine.status().tables}
        for name, table in self.tables.items():
            numbers[name] |= {"id": name} if table.is_mapped else {}

        def named(table: str, image: Image) -> object:
            return image and sorted(
                (column, type(value).__name__, engine.birth_of(numbers[table][column], value))
                if column in numbers[table] and isinstance(value, int)
                else (column, type(value).__name__, value)
                for column, value in image.items()
            )

        stands = {name: sorted((named(name, row) for row in rows(device, name)), key=repr) for name in self.tables}
        conflicts: list[tuple[object, ...]] = [
            (
                *(one.table_name, named(one.table_name, one.row_pk), one.kind, one.conflict_id, sorted(one.columns)),
                *(named(one.table_name, image) for image in (images.base, images.local, images.remote)),
            )
            for one, images in engine.each_conflict()
        ]
        return stands, sorted(conflicts, key=repr)

    def finish(self) -> None:
        """Let all meet; then the files are sound, logs and tables agree, and a newcomer gets the same."""
        for device in self.devices:
            for table in sorted(device.disabled):
                self.enable(device, table)
        self.meet()
        for device in self.devices:
            self.look_into(device)
        self.ask_the_model(self.devices[0])
        if not self.is_toggled:
            newcomer = self._open(MOST_DEVICES, self.plan.enforcing[0])
            self.devices.append(newcomer)
            path = self.devices[0].engine.generate_bundle(None, self.folder / "all.bundle")
            if path is not None:
                newcomer.engine.import_bundle(path)
                self.check(newcomer, set())
                assert self.state(newcomer) == self.state(self.devices[0])
                self.look_into(newcomer)

    def look_into(self, device: Device) -> None:
        self.settle(device)
        engine = device.engine
        assert engine.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert not any(table.problem for table in engine.status().tables)
        assert engine.reconcile() == 0

    def ask_the_model(self, device: Device) -> None:
        engine, model = device.engine, Model()
        for op in engine.operations():
            context = self.contexts[op.device_id, op.seq]
            row = self.tables[op.table_name].named(op.row_pk)
            model.add(Write(op.device_id, op.seq, op.hlc, op.table_name, row, op.kind, op.new, op.base_op_id, context))
        assert not (lost := list(model.lost(device.seen))), lost
        if self.is_toggled:  # what was written while a table was disabled is logged when it is enabled again
            return
        assert not (misjudged := list(model.misjudged())), misjudged
        judged = dict(model.rows(device.seen, self.tables))
        self.compare(device, judged)
        self.compare_what_stands(device, judged)

    def compare(self, device: Device, judged: Mapping[RowName, Row]) -> None:
        """Find every head in its row or in a conflict, and each row as the model has it."""
        images: dict[bytes, list[Image]] = {}
        parked: set[RowName] = set()
        listed: set[bytes] = set()
        for one, versions in device.engine.each_conflict():
            images.setdefault(one.local_op_id, []).append(versions.local)
            images.setdefault(one.remote_op_id, []).append(versions.remote)
            if one.is_parked:
                parked.add((one.table_name, self.tables[one.table_name].named(one.row_pk)))
            else:
                listed.add(one.conflict_id)
        held: dict[RowName, Image] = {
            (name, table.named(row)): row for name, table in self.tables.items() for row in rows(device, name)
        }
        assert held.keys() <= judged.keys()
        assert listed == {clash.conflict_id for row in judged.values() for clash in row.conflicts}
        for name, row in judged.items():
            assert name in parked or same(row.image, held.get(name)), name
            for op_id, image in ((op_id, row.images[op_id]) for op_id in row.heads):
                equal = row.shown.op_id if same(image, row.image) else op_id  # one outcome, named once
                reachable = [held.get(name), *images.get(op_id, []), *images.get(equal, [])]
                assert any(same(image, one) for one in reachable), f"unreachable: {name}, {image}"

    def compare_what_stands(self, device: Device, judged: Mapping[RowName, Row]) -> None:
        """Compare which rows are parked, where the model knows all constraints."""
        tables = self.tables.values()
        if any(table.indexes or not all(link.is_to_key for link in table.links) for table in tables):
            return
        event("which rows stand, by the model")
        state = self.plan.schema.constraints.state(judged)
        for table in tables:
            assert {table.named(row) for row in rows(device, table.name)} == set(state.tables.get(table.name, {}))
        found = {(one.kind, one.local_op_id, one.remote_op_id) for one in device.engine.get_unresolved_conflicts()}
        assert found == {(kind, local, remote) for kind, _, _, local, remote in state.conflicts}


def rows(device: Device, table: str) -> list[dict[str, object]]:
    cursor = device.engine.connection.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def in_table(device: Device, table: Table, conflict: Conflict) -> Image:
    wanted = table.named(conflict.row_pk)
    return next((row for row in rows(device, table.name) if table.named(row) == wanted), None)


def content(device: Device) -> dict[str, list[object]]:
    """Return all that stands in the file."""
    connection = device.engine.connection
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    tables = {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in names}
    return {**tables, "schema": connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY 1").fetchall()}


def outcomes(done: object) -> object:
    assert isinstance(done, Resolutions)
    closed = sorted((one.conflict.conflict_id, one.outcome) for one in done.resolved)
    return closed, sorted(one.conflict.conflict_id for one in done.deferred)


def play(folder: Path, plan: Plan) -> None:
    with unchanging_schema():
        history = History(folder, plan)
        try:
            for place, action in enumerate(plan.actions):
                history.run(place, action)
            history.finish()
        finally:
            history.close()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans())
def test_what_is_decided_holds_everywhere_and_what_is_refused_changes_nothing(folder: Path, plan: Plan) -> None:
    play(folder, plan)


@settings(max_examples=max(1, EXAMPLES // 4), deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=plans(is_toggling=True))
def test_devices_agree_though_tables_were_out_of_sync_for_a_while(folder: Path, plan: Plan) -> None:
    play(folder, plan)
