"""What the benchmarks share: the table, the devices, CPU time, and the figures beside what they should reach.

A ratio compares CPU time (of this process, the kernel's share included) with that of the same work without us. Both are
done in the same round, one right after the other, so that a busy machine slows both alike. The ratio is that of the best
rounds; the spread is that of the single rounds.
"""

from __future__ import annotations

import gc
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from sqlite_sync import ImportResult, SyncEngine

Row = tuple[Any, ...]
Timings = dict[str, float]

INSERT = "INSERT INTO items VALUES (?, ?, ?, ?, ?)"
UPDATE = "UPDATE items SET amount = ? WHERE id = ?"
DELETE = "DELETE FROM items WHERE id = ?"
INSERT_ONE = "INSERT INTO items (title) VALUES ('one')"
FILL = """
WITH RECURSIVE n(id) AS (SELECT ?1 UNION ALL SELECT id + 1 FROM n WHERE id < ?2)
INSERT INTO items SELECT id, hex(randomblob(12)), hex(randomblob(38)), id * 37 % 100000, id * 0.37 FROM n"""

_WORDS = [
    "a",
    "all",
    "and",
    "apple",
    "at",
    "bag",
    "bean",
    "blue",
    "board",
    "book",
    "box",
    "bread",
    "bring",
    "buy",
    "by",
    "call",
    "car",
    "cat",
    "check",
    "clean",
    "coffee",
    "cold",
    "cook",
    "day",
    "desk",
    "do",
    "door",
    "draft",
    "eat",
    "end",
    "far",
    "file",
    "fix",
    "for",
    "from",
    "garden",
    "get",
    "go",
    "green",
    "hall",
    "home",
    "in",
    "is",
    "it",
    "key",
    "lamp",
    "last",
    "late",
    "list",
    "long",
    "look",
    "mail",
    "make",
    "map",
    "meet",
    "milk",
    "more",
    "new",
    "next",
    "no",
    "note",
    "of",
    "old",
    "on",
    "open",
    "or",
    "order",
    "out",
    "page",
    "paint",
    "paper",
    "pay",
    "phone",
    "plan",
    "plant",
    "post",
    "read",
    "red",
    "rent",
    "road",
    "room",
    "send",
    "shelf",
    "ship",
    "shop",
    "small",
    "sort",
    "stamp",
    "start",
    "stop",
    "table",
    "talk",
    "tea",
    "test",
    "that",
    "the",
    "then",
    "this",
    "ticket",
    "time",
    "to",
    "train",
    "tree",
    "turn",
    "up",
    "visit",
    "wait",
    "walk",
    "wash",
    "water",
    "week",
    "when",
    "with",
    "word",
    "work",
    "write",
    "year",
]


class Scale(NamedTuple):
    """How much to do."""

    rows: int
    autocommits: int
    rounds: int
    short_history: int
    long_history: int
    longest_history: int
    devices: int
    conflicts: int


FULL = Scale(
    rows=50_000,
    autocommits=4_000,
    rounds=5,
    short_history=10_000,
    long_history=1_000_000,
    longest_history=3_000_000,
    devices=1_000,
    conflicts=10_000,
)
QUICK = Scale(
    rows=20_000,
    autocommits=2_000,
    rounds=3,
    short_history=10_000,
    long_history=100_000,
    longest_history=100_000,
    devices=200,
    conflicts=1_000,
)


class Key(NamedTuple):
    """A kind of primary key: the table with it, and its rows."""

    name: str
    schema: str
    rows: Callable[[int], list[Row]]


class Figure(NamedTuple):
    """What was measured, beside what it should reach; None where nothing was set.

    A figure of a series is a point of a picture, at `x`.
    """

    scenario: str
    reach: float | None
    measured: float
    unit: str
    absolute: str = ""
    spread: str = ""
    series: str = ""
    x: float | str = ""

    @property
    def is_missed(self) -> bool:
        """Tell whether the figure is not reached."""
        return self.reach is not None and self.measured > self.reach

    def cells(self) -> tuple[str, ...]:
        """Return the cells of its line."""
        reach = "" if self.reach is None else f"<= {number(self.reach)}{self.unit}"
        verdict = "" if self.reach is None else "**not reached**" if self.is_missed else "reached"
        return self.scenario, reach, f"{number(self.measured)}{self.unit}", self.absolute, self.spread, verdict


def table(figures: Iterable[Figure]) -> str:
    """Render figures as a Markdown table."""
    head = ("scenario", "to reach", "measured", "absolute", "spread", "")
    lines = [head, tuple("---" for _ in head), *(figure.cells() for figure in figures)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def number(value: float) -> str:
    """Render a number with three digits that count, and no more."""
    decimals = next((digits for least, digits in ((100, 0), (10, 1), (0.1, 2)) if value >= least), 4)
    return f"{value:.{decimals}f}"


# --- the data -----------------------------------------------------------------------------------------------------


def integer_rows(count: int) -> list[Row]:
    """Make rows with integer keys; each takes 125 bytes of its table."""
    ids = range(1, count + 1)
    return [(i, _words(b"t%d" % i, 24), _words(b"b%d" % i, 76), i * 37 % 100_000, i * 0.37) for i in ids]


def uuid_rows(count: int) -> list[Row]:
    """Make the same rows with random UUIDs as keys, in text."""
    return [(str(UUID(bytes=_digest(row[0])[:16], version=4)), *row[1:]) for row in integer_rows(count)]


def scattered(rows: Iterable[Row]) -> list[Any]:
    """Return the keys of rows in an order that jumps about, always the same."""
    return sorted((row[0] for row in rows), key=_digest)


def _digest(value: object) -> bytes:
    return sha256(repr(value).encode()).digest()


def _words(seed: bytes, length: int) -> str:
    return " ".join(_WORDS[pick % len(_WORDS)] for pick in sha256(seed).digest()).ljust(length, ".")[:length]


COLUMNS = "title TEXT, body TEXT, amount INTEGER, price REAL"
INTEGER = Key("integer key", f"CREATE TABLE items (id INTEGER PRIMARY KEY, {COLUMNS})", integer_rows)
UUID_TEXT = Key("UUID key", f"CREATE TABLE items (id TEXT PRIMARY KEY, {COLUMNS})", uuid_rows)
KEYS = (INTEGER, UUID_TEXT)


# --- the devices --------------------------------------------------------------------------------------------------


@contextmanager
def workplace() -> Iterator[Path]:
    """Give a folder for files, and remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix="sqlite-sync-bench-") as folder:
        yield Path(folder)


def plain(path: Path, schema: str = INTEGER.schema) -> sqlite3.Connection:
    """Make a database without us."""
    connection = sqlite3.connect(remove(path), isolation_level=None)
    prepare(connection, schema)
    return connection


def device(path: Path, schema: str = INTEGER.schema) -> SyncEngine:
    """Make a database whose table is captured."""
    engine = SyncEngine(remove(path))
    prepare(engine.connection, schema)
    engine.initialize()
    engine.enable_sync_for_table("items", keys="natural")
    return engine


def remove(path: Path) -> Path:
    """Remove a database and what stands beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return path


def prepare(connection: sqlite3.Connection, schema: str) -> None:
    """Make a new database what all of these are: in WAL mode, with the table."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.executescript(schema)


def run_many(connection: sqlite3.Connection, sql: str, rows: Iterable[Row]) -> None:
    """Run a statement for all rows, in one transaction."""
    connection.execute("BEGIN")
    connection.executemany(sql, rows)
    connection.execute("COMMIT")


def size(connection: sqlite3.Connection) -> int:
    """Return how many bytes a database takes, before a checkpoint as well as after it."""
    [(pages, page_size)] = connection.execute("SELECT page_count, page_size FROM pragma_page_count, pragma_page_size")
    return int(pages * page_size)


def row_bytes(folder: Path, rows: Sequence[Row]) -> float:
    """Return how many bytes one of these rows takes in a database without us."""
    connection = plain(folder / "plain.db")
    empty = size(connection)
    run_many(connection, INSERT, rows)
    taken = size(connection) - empty
    connection.close()
    return taken / len(rows)


def write(source: SyncEngine, target: SyncEngine) -> Path:
    """Write what `target` lacks, be it nothing, into a bundle beside the source's file."""
    path = source.path.with_suffix(".bundle")
    source.generate_bundle(target.device_id, path, acknowledge=True)
    return path


def send(source: SyncEngine, target: SyncEngine) -> ImportResult:
    """Carry what `target` lacks to it."""
    return target.import_bundle(write(source, target))


class Pair(NamedTuple):
    """Two devices that exchange what is new, time and again."""

    source: SyncEngine
    target: SyncEngine

    def round(self, name: str, first: int) -> Timings:
        """Write 1,000 operations, carry them over, let the target acknowledge them; time the writing and the import."""
        self.edit(first)
        timings = {f"{name} written": cpu(partial(write, self.source, self.target))}
        timings[f"{name} imported"] = cpu(partial(self.target.import_bundle, self.source.path.with_suffix(".bundle")))
        send(self.target, self.source)
        return timings

    def edit(self, first: int) -> None:
        """Write 1,000 operations on the source: 600 inserts, 300 updates, 100 deletes."""
        rows = [(first + i, *row[1:]) for i, row in enumerate(integer_rows(600))]
        run_many(self.source.connection, INSERT, rows)
        run_many(self.source.connection, UPDATE, [(-1, row[0]) for row in rows[:300]])
        run_many(self.source.connection, DELETE, [(row[0],) for row in rows[500:]])

    def close(self) -> None:
        """Close both."""
        self.source.close()
        self.target.close()


def old_pair(folder: Path, name: str, history: int, devices: int = 0) -> Pair:
    """Give two devices that both hold a history, and know so many other devices; made once for each name."""
    paths = [folder / f"{name}-{side}.db" for side in ("source", "target")]
    if paths[0].exists():
        pair = Pair(*map(SyncEngine, paths))
        pair.source.initialize()
        pair.target.initialize()
        return pair
    pair = Pair(*map(device, paths))
    for _ in range(devices):  # each new id leaves the device that had the former one
        pair.source.connection.execute(INSERT_ONE)
        pair.source.renew_device()
    pair.source.connection.execute(FILL, (devices + 1, history))
    send(pair.source, pair.target)
    send(pair.target, pair.source)
    return pair


def compare_pairs(few: Pair, many: Pair, rounds: int) -> list[Timings]:
    """Let two pairs exchange 1,000 operations in turns; the first round fills caches and is not counted."""
    [(last,)] = many.source.connection.execute("SELECT max(id) FROM items")
    firsts = [last + 1 + 1_000 * i for i in range(rounds + 1)]
    return [{**few.round("few", first), **many.round("many", first)} for first in firsts][1:]


# --- the time -----------------------------------------------------------------------------------------------------


def cpu(action: Callable[[], object]) -> float:
    """Return the CPU seconds that an action takes."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        action()
        return time.process_time() - start
    finally:
        gc.enable()


def peak() -> float:
    """Return the most memory that this process ever held, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def ratio(scenario: str, reach: float | None, rounds: Sequence[Timings], names: tuple[str, str], count: int) -> Figure:
    """Compare two steps of the same rounds, the first against the second; each did its work `count` times."""
    ours, theirs = (min(timings[name] for timings in rounds) for name in names)
    single = sorted(timings[names[0]] / timings[names[1]] for timings in rounds)
    return Figure(
        scenario=scenario,
        reach=reach,
        measured=ours / theirs,
        unit=" x",
        absolute=f"{number(ours * 1e6 / count)} against {number(theirs * 1e6 / count)} µs",
        spread=f"{number(single[0])} to {number(single[-1])}",
    )
