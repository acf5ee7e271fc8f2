"""Two to five devices write under constraints, exchange, forget, repeat and resolve; the model says what stands.

`SQLITE_SYNC_EXAMPLES=500 pytest tests/test_constraint_histories.py` runs longer than the suite does, and another seed
(`--hypothesis-seed=1`) runs other histories.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from conftest import send, unchanging_schema
from model import Constraints, Model, Reference, Write, same
from sqlite_sync import Conflict, ConflictError, ConstraintError, GapError, Operation, SyncEngine

SCHEMA = """
CREATE TABLE users (id TEXT PRIMARY KEY, mail UNIQUE, phone, boss REFERENCES users, UNIQUE (phone));
CREATE TABLE orders (id TEXT PRIMARY KEY, user NOT NULL REFERENCES users ON DELETE CASCADE, no CHECK (no < 3));
CREATE TABLE items (id TEXT PRIMARY KEY, "order" REFERENCES orders ON DELETE SET NULL, no UNIQUE);
"""
TABLES = ("users", "orders", "items")
CONSTRAINTS = Constraints(
    uniques={"users": [("mail",), ("phone",)], "items": [("no",)]},
    references={
        "users": [Reference(("boss",), "users")],
        "orders": [Reference(("user",), "users")],
        "items": [Reference(("order",), "orders")],
    },
)
ROWS = """
INSERT INTO users VALUES ('p', 1, 1, NULL), ('q', 2, 2, 'p');
INSERT INTO orders VALUES ('p', 'p', 1), ('q', 'q', 2);
INSERT INTO items VALUES ('p', 'p', 1), ('q', 'q', 2);
"""
EXAMPLES = int(os.environ.get("SQLITE_SYNC_EXAMPLES", "25"))
MOST_DEVICES = 5
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - nothing waits for a disk there, and the names in it are random

Statement = tuple[object, ...]  # SQL and its parameters
Action = tuple[object, ...]

keys = st.sampled_from("pqrs")
values = st.sampled_from([1, 1, 2, 2, 3, None])
bosses = keys | keys | st.none()
statements: st.SearchStrategy[Statement] = st.one_of(
    st.tuples(st.just("INSERT INTO users VALUES (?, ?, ?, ?)"), keys, values, values, bosses),
    st.tuples(st.just("INSERT OR REPLACE INTO users VALUES (?, ?, ?, ?)"), keys, values, values, bosses),
    st.tuples(st.just("UPDATE users SET mail = ? WHERE id = ?"), values, keys),
    st.tuples(st.just("UPDATE OR REPLACE users SET phone = ? WHERE id = ?"), values, keys),
    st.tuples(st.just("UPDATE users SET boss = ? WHERE id = ?"), bosses, keys),
    st.tuples(st.just("UPDATE users SET id = ? WHERE id = ?"), keys, keys),
    st.tuples(st.just("DELETE FROM users WHERE id = ?"), keys),
    st.tuples(st.just("INSERT INTO orders VALUES (?, ?, ?)"), keys, keys, values),
    st.tuples(st.just("UPDATE orders SET user = ? WHERE id = ?"), keys, keys),
    st.tuples(st.just("DELETE FROM orders WHERE id = ?"), keys),
    st.tuples(st.just("INSERT INTO items VALUES (?, ?, ?)"), keys, bosses, values),
    st.tuples(st.just('UPDATE items SET "order" = ? WHERE id = ?'), bosses, keys),
    st.tuples(st.just("UPDATE items SET no = ? WHERE id = ?"), values, keys),
    st.tuples(st.just("DELETE FROM items WHERE id = ?"), keys),
)
scripts = st.lists(statements, min_size=1, max_size=4)
devices = st.integers(0, MOST_DEVICES - 1)  # modulo how many there are
uniques = st.sampled_from([("users", "mail"), ("users", "phone"), ("items", "no"), ("items", "no")])
choices = st.sampled_from(["local", "remote", None])
actions: st.SearchStrategy[list[Action]] = st.lists(
    st.one_of(
        *[st.tuples(st.just("write"), devices, scripts)] * 5,
        *[st.tuples(st.just("quarrel"), devices, devices, uniques, values, keys, keys)] * 2,
        *[st.tuples(st.just("send"), devices, devices)] * 4,
        *[st.tuples(st.just("pack"), devices, devices)] * 2,
        *[st.tuples(st.just("deliver"), devices, st.integers(0, 9))] * 2,
        *[st.tuples(st.just("resolve"), devices, st.integers(0, 9), choices)] * 2,
        st.tuples(st.just("look"), devices),
        st.tuples(st.just("meet"), devices),
    ),
    min_size=20,  # short histories seldom clash
    max_size=50,
)


@dataclass
class Device:
    """A replica with a clock of its own, and what the test knows of it."""

    number: int
    engine: SyncEngine
    now_ms: list[int]
    is_enforcing: bool
    seen: dict[bytes, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Make the files that every history begins with."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as name:
        numbered = (UUID(int=0x01900000_0000_7000_8000_000000000000 + n) for n in count(1))
        with patch("uuid_utils.uuid7", side_effect=lambda: next(numbered)):
            for number in range(MOST_DEVICES):
                for has_rows in (False, True):
                    with SyncEngine(Path(name, f"{number}.{has_rows}")) as engine:
                        engine.initialize()
                        engine.connection.executescript(SCHEMA + ROWS * has_rows)
                        for table in TABLES:
                            engine.enable_sync_for_table(table)
            with unchanging_schema(), patch.object(tempfile, "tempdir", name):  # copies of bundles
                yield Path(name)


class History:
    """The devices, the bundles under way, and the model of all that was written."""

    def __init__(self, folder: Path, clocks: Sequence[int], *, has_rows: bool, is_enforcing: bool) -> None:
        self.folder = folder
        self.clocks = clocks
        self.model = Model()
        self.pool: list[tuple[Path, int]] = []
        prepared = [folder / f"{number}.{has_rows}" for number in range(len(clocks))]
        self.devices = [self._open(number, path, is_enforcing=is_enforcing) for number, path in enumerate(prepared)]
        self.add(self.devices[0].engine.operations(), {})  # the baseline, which all of them have in common
        for device in self.devices:
            device.seen = dict(device.engine.get_vector_clock())

    def _open(self, number: int, prepared: Path, *, is_enforcing: bool) -> Device:
        path = self.folder / f"{number}.db"
        shutil.copyfile(prepared, path)
        now_ms = [1_000_000]

        def connect(name: str) -> sqlite3.Connection:
            connection = sqlite3.connect(name)
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute(f"PRAGMA foreign_keys = {is_enforcing:d}")
            connection.create_function("julianday", 1, lambda _: 2440587.5 + now_ms[0] / 86400000.0)
            connection.create_function("random", 0, lambda: 0)
            return connection

        engine = SyncEngine(path, connect=connect)
        engine.initialize()
        return Device(number, engine, now_ms, is_enforcing)

    def close(self) -> None:
        for device in self.devices:
            device.engine.close()
        for path in (*self.folder.glob("*.db*"), *self.folder.glob("*.bundle")):
            path.unlink()

    def device(self, number: object) -> Device:
        return self.devices[int(str(number)) % len(self.devices)]

    def run(self, place: int, action: Action) -> None:
        device = self.device(action[1])
        device.now_ms[0] += self.clocks[place % len(self.clocks)]
        match action:
            case ("write", _, [*script]):
                for sql, *parameters in script:
                    with suppress(sqlite3.IntegrityError):
                        device.engine.connection.execute(sql, parameters)
                self.note(device)
            case ("meet", _):
                self.meet()
            case ("quarrel", _, peer, unique, value, *rows):
                self.quarrel([device, self.device(peer)], unique, value, rows)  # type: ignore[arg-type]
            case ("resolve", _, which, choice):
                self.resolve(device, int(str(which)), choice)
            case ("send", _, peer):
                self.send(device, self.device(peer))
            case ("pack", _, peer):
                self.pack(device, self.device(peer))
            case ("deliver", _, which) if self.pool:
                self.deliver(*self.pool[-1 - int(str(which)) % len(self.pool)], device)
            case ("look", _):
                self.check(device)

    def quarrel(self, pair: Sequence[Device], unique: tuple[str, str], value: object, rows: Sequence[object]) -> None:
        """Let two devices take one value for two rows."""
        table, column = unique
        for device, row in zip(pair, rows, strict=True):
            with suppress(sqlite3.IntegrityError):
                device.engine.connection.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (value, row))
            self.note(device)
        for source, target in (pair, pair[::-1]):
            self.send(source, target)

    def resolve(self, device: Device, which: int, choice: object) -> None:
        found = device.engine.get_unresolved_conflicts()
        if found:
            with suppress(ConflictError, ConstraintError):
                device.engine.resolve(found[which % len(found)], choice)  # type: ignore[call-overload]
        self.check(device)

    def send(self, source: Device, target: Device) -> None:
        if source is not target:
            send(source.engine, target.engine)
            self.note(source)
            self.check(target)

    def pack(self, source: Device, target: Device) -> None:
        """Write a bundle that may arrive late, again, elsewhere or never."""
        if source is not target:
            path = source.engine.generate_bundle(
                target.engine.device_id, self.folder / f"parcel{len(self.pool)}.bundle"
            )
            self.note(source)
            self.pool += [] if path is None else [(path, source.number)]

    def deliver(self, path: Path, source: int, target: Device) -> None:
        if target.number == source:
            return
        self.check(target)  # which settles
        before, rows = content(target), held(target)
        try:
            foretold = target.engine.import_bundle(path, dry_run=True).rows
            assert content(target) == before
            target.engine.import_bundle(path)
        except GapError:
            event("gap")
            assert content(target) == before
        else:
            assert {(row.table_name, row.row_pk["id"]): row.change for row in foretold} == changes(rows, held(target))
            self.check(target)

    def note(self, device: Device) -> None:
        """Tell the model what a device wrote since the last look; all of it before it imported anything."""
        own = device.engine.device_id
        others = {one: seq for one, seq in device.seen.items() if one != own}
        clock = dict(device.engine.get_vector_clock())
        if clock.get(own, 0) > device.seen.get(own, 0):
            self.add(device.engine.operations(since={**clock, own: device.seen.get(own, 0)}), others)
        device.seen = clock

    def add(self, operations: Iterable[Operation], context: Mapping[bytes, int]) -> None:
        for op in operations:
            key = op.row_pk["id"]
            self.model.add(
                Write(op.device_id, op.seq, op.hlc, op.table_name, key, op.kind, op.new, op.base_op_id, context)
            )

    def check(self, device: Device) -> None:
        """Compare a device with the model: tables, conflicts, and no constraint broken beyond what an author broke."""
        engine = device.engine
        self.note(device)
        found = {conflict_name(one) for one in engine.get_unresolved_conflicts()}
        self.note(device)
        state = CONSTRAINTS.state(dict(self.model.rows(device.seen, TABLES)))
        for table in TABLES:
            cursor = engine.connection.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in cursor.description]
            held = {row[0]: dict(zip(names, row, strict=True)) for row in cursor}
            assert held == state.tables.get(table, {}), table
        assert found == state.conflicts
        if device.is_enforcing:
            assert engine.connection.execute("PRAGMA foreign_key_check").fetchall() == []
        for kind, *_ in found:
            event(kind)

    def seek(self, device: Device) -> None:
        """Try to find an edit of this device that it cannot reach: in no row, in no conflict, superseded by nobody."""
        engine, own = device.engine, device.engine.device_id
        images: dict[bytes, list[object]] = {}
        for conflict, versions in engine.each_conflict():
            images.setdefault(conflict.local_op_id, []).append(versions.local)
            images.setdefault(conflict.remote_op_id, []).append(versions.remote)
        for (table, key), row in self.model.rows(device.seen, TABLES):
            held = in_table(engine, table, key)
            for op_id, head in row.heads.items():
                equal = row.shown.op_id if same(row.images[op_id], row.image) else op_id  # one outcome, named once
                reachable = [held, *images.get(op_id, []), *images.get(equal, [])]
                assert head.device != own or row.images[op_id] in reachable, f"unreachable: {head}"
        assert not (lost := list(self.model.lost(device.seen))), lost

    def meet(self) -> None:
        """Let everybody hear of everything."""
        first, *others = self.devices
        for device in others:
            send(device.engine, first.engine)
            self.note(device)
        self.check(first)
        for device in others:
            self.send(first, device)
        clock = self.devices[0].seen
        assert all(device.seen == clock for device in self.devices)
        assert not (lost := list(self.model.lost(clock))), lost


def in_table(engine: SyncEngine, table: str, key: object) -> dict[str, object] | None:
    cursor = engine.connection.execute(f"SELECT * FROM {table} WHERE id = ?", (key,))
    row = cursor.fetchone()
    return None if row is None else dict(zip([column[0] for column in cursor.description], row, strict=True))


def content(device: Device) -> list[object]:
    connection = device.engine.connection
    return [
        connection.execute(f"SELECT * FROM {table}").fetchall()
        for table in (*TABLES, "sync_operations", "sync_contexts", "sync_devices", "sync_forks", "sync_conflicts")
    ]


def held(device: Device) -> dict[tuple[str, object], object]:
    """Return every row by its name."""
    connection = device.engine.connection
    return {(table, row[0]): row for table in TABLES for row in connection.execute(f"SELECT * FROM {table}")}


def changes(before: dict[tuple[str, object], object], after: dict[tuple[str, object], object]) -> dict[object, str]:
    """Say what became of each row that is not as it was."""
    return {
        name: "insert" if name not in before else "delete" if name not in after else "update"
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    }


def conflict_name(one: Conflict) -> tuple[str, str, object, bytes, bytes]:
    return one.kind, one.table_name, one.row_pk["id"], one.local_op_id, one.remote_op_id


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    history=actions,
    clocks=st.lists(st.integers(0, 3), min_size=2, max_size=MOST_DEVICES),
    has_rows=st.booleans(),
    is_enforcing=st.booleans(),
)
@example(
    history=[
        ("write", 0, [("INSERT INTO users VALUES (?, ?, ?, ?)", "p", 1, None, None)]),
        ("write", 1, [("INSERT INTO users VALUES (?, ?, ?, ?)", "q", 1, None, None)]),
        ("write", 1, [("INSERT INTO orders VALUES (?, ?, ?)", "p", "q", 1)]),
        ("send", 0, 1),
        ("write", 2, [("INSERT INTO users VALUES (?, ?, ?, ?)", "q", 1, 2, None)]),
        ("send", 1, 2),
    ],
    clocks=[0, 1, 2],
    has_rows=False,
    is_enforcing=True,
)
@example(  # a parked row's parent, which has its value, is parked itself
    history=[
        ("quarrel", 1, 0, ("users", "phone"), 3, "p", "q"),
        ("write", 2, [("UPDATE users SET id = ? WHERE id = ?", "r", "p")]),
    ],
    clocks=[0, 0, 0],
    has_rows=True,
    is_enforcing=False,
)
@example(  # a parked row's parent comes back, and what it refers to was deleted with it
    history=[
        ("write", 4, [("DELETE FROM items WHERE id = ?", "p")]),
        ("send", 4, 0),
        ("quarrel", 2, 0, ("users", "mail"), 1, "p", "p"),
        ("quarrel", 1, 2, ("items", "no"), 1, "p", "q"),
        ("write", 0, [("DELETE FROM users WHERE id = ?", "q")]),
        ("meet", 2),
        ("resolve", 0, 0, "remote"),
    ],
    clocks=[3, 3, 2, 1, 3],
    has_rows=True,
    is_enforcing=True,
)
def test_what_stands_is_what_the_model_says(
    folder: Path, history: list[Action], clocks: list[int], *, has_rows: bool, is_enforcing: bool
) -> None:
    devices = History(folder, clocks, has_rows=has_rows, is_enforcing=is_enforcing)
    try:
        for place, action in enumerate(history):
            devices.run(place, action)
        devices.meet()
    finally:
        devices.close()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    history=actions,
    clocks=st.lists(st.integers(0, 3), min_size=2, max_size=MOST_DEVICES),
    has_rows=st.booleans(),
    is_enforcing=st.booleans(),
)
def test_no_import_makes_a_local_edit_unreachable(
    folder: Path, history: list[Action], clocks: list[int], *, has_rows: bool, is_enforcing: bool
) -> None:
    devices = History(folder, clocks, has_rows=has_rows, is_enforcing=is_enforcing)
    try:
        for place, action in enumerate(history):
            devices.run(place, action)
            if action[0] in ("send", "deliver", "quarrel"):
                for device in devices.devices:
                    devices.seek(device)
    finally:
        devices.close()
