"""Writes bundles by hand, as SPEC.md, section 7 says, so that they can lie in ways that no edit of an honest one can."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from sqlite_sync import bundle

APPLICATION_ID = 0x53594E43
TRAILER_BYTES = 56
HLC = 1_700_000_000_000 << 16
TODOS = ("todos", (("id", 1), ("title", 0), ("done", 0), ("tag", 0)))
TREE = ("tree", (("id", 1), ("parent", 0)))
SCHEMA = """
CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT NOT NULL, done INTEGER DEFAULT 0, tag TEXT UNIQUE);
CREATE TABLE tree (id TEXT PRIMARY KEY, parent TEXT REFERENCES tree);
"""
Table = tuple[object, Sequence[tuple[object, int]]]


def sealed(database: bytes) -> bytes:
    """Put a trailer behind a database."""
    head = bundle.MAGIC + len(database).to_bytes(8, "big")
    return database + head + sha256(database + head).digest()


@dataclass(frozen=True)
class Op:
    """An operation: of which device, on which described table, and its values."""

    device: int
    seq: int
    kind: int
    v: Sequence[object]
    o: Sequence[object] = ()
    base: int | None = None
    table: int = 1
    hlc: int | None = None

    @property
    def op(self) -> int:
        return dot(self.device, self.seq)

    @property
    def time(self) -> int:
        return HLC + self.seq * 1000 + self.device if self.hlc is None else self.hlc


def dot(device: int, seq: int) -> int:
    return seq - (device << 40)


@dataclass
class Forgery:
    """What a bundle says."""

    operations: Iterable[Op] = ()
    tables: Sequence[Table] = (TODOS, TREE)
    contexts: Iterable[tuple[int, int, int, int]] = ()  # device, known device, from seq, known seq
    more_devices: int = 0
    edit: str = ""
    ids: dict[int, bytes] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {bundle.FORMAT}")
            connection.executescript(files("sqlite_sync").joinpath("bundle.sql").read_text())
            connection.execute("BEGIN")
            self._fill(connection)
            connection.execute("COMMIT")
            connection.executescript(self.edit)
        path.write_bytes(sealed(path.read_bytes()))

    def _fill(self, connection: sqlite3.Connection) -> None:
        operations = list(self.operations)
        last: dict[int, Op] = {}
        for one in operations:
            if one.device not in last or last[one.device].seq < one.seq:
                last[one.device] = one
        for number, (name, columns) in enumerate(self.tables, start=1):
            connection.execute("INSERT INTO tables VALUES (?, ?)", (number, name))
            connection.executemany(
                "INSERT INTO columns VALUES (?, ?, ?, ?, NULL)",
                [(number, position, column, place) for position, (column, place) in enumerate(columns)],
            )
            width = len(columns)
            plain = "".join(f", v{i}" for i in range(width))
            pairs = "".join(f", v{i}, o{i}" for i in range(width))
            connection.execute(f"CREATE TABLE inserts_{number} (op INTEGER PRIMARY KEY, hlc{plain})")
            connection.execute(f"CREATE TABLE operations_{number} (op INTEGER PRIMARY KEY, kind, base, hlc{pairs})")
            rows = [
                (one.op, one.kind, one.base, one.time, *(x for pair in _pairs(one, width) for x in pair))
                for one in operations
                if one.table == number
            ]
            marks = ", ".join("?" * (4 + 2 * width))
            connection.executemany(f"INSERT INTO operations_{number} VALUES ({marks})", rows)
        numbers = [0, *sorted(set(last) - {0}), *range(1000, 1000 + self.more_devices)]
        for number in numbers:
            device_id = self.ids.setdefault(number, os.urandom(16))
            end = last.get(number)
            to_seq, to_hlc = (end.seq, end.time) if end else (0, 0)
            connection.execute("INSERT INTO devices VALUES (?, ?, 0, 0, ?, ?, 0)", (number, device_id, to_seq, to_hlc))
        connection.executemany("INSERT INTO contexts VALUES (?, ?, ?, ?)", self.contexts)
        connection.execute("INSERT INTO bundle VALUES (?, ?, NULL, ?)", (os.urandom(16), self.ids[0], HLC >> 16))


def _pairs(one: Op, width: int) -> list[tuple[object, object]]:
    v, o = [*one.v, *[None] * width], [*one.o, *[None] * width]
    return list(zip(v[:width], o[:width], strict=True))
