"""Offer hostile bundles with a valid digest to a device, each in a process of its own with little memory and time.

    hostile.py PLACE CASE [FIRST LAST]

CASE is `lies`, `pages`, `corpus`, or `noise` with the seeds FIRST .. LAST - 1. Prints what was found as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter

from faults.forger import HLC, SCHEMA, TODOS, TRAILER_BYTES, TREE, Forgery, Op, dot, sealed
from sqlite_sync import SyncEngine, SyncError

MEMORY_BYTES = 256 << 20  # beyond what the process has before
SECONDS = 60
Case = Callable[[Path], None]


def insert(device: int, seq: int, key: object, tag: object = None, **more: int) -> Op:
    return Op(device, seq, 0, [key, "title", 0, tag], **more)


def update(device: int, seq: int, n: int, **more: int | None) -> Op:
    return Op(device, seq, 1, ["k", f"title {n}"], [None, f"title {n - 1}"], **more)


def child(seq: int, key: str, parent: str | None, kind: int = 0, device: int = 0) -> Op:
    return Op(device, seq, kind, [key, parent], table=2)


def forged(*operations: Op, **more: object) -> Case:
    return lambda path: Forgery(operations, **more).write(path)


def named(name: str) -> Case:
    return forged(insert(0, 1, "k"), tables=((name, TODOS[1]), TREE))


def edited(sql: str) -> Case:
    return forged(insert(0, 1, "k"), insert(0, 2, "l"), insert(1, 1, "m"), child(2, "c", "k", device=1), edit=sql)


PART = 1 if os.environ.get("SQLITE_SYNC_LONG") else 4  # a short run offers a part of everything that is much
ENDLESS = (
    "CREATE VIEW {name} AS WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT {columns} FROM n; "
    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET type = 'table' WHERE name = '{name}'"
)
MANY = 400 // PART
LIES: dict[str, Case] = {
    # much of one thing
    "many devices": forged(insert(0, 1, "k"), more_devices=30_000 // PART),
    "many tables": forged(
        insert(0, 1, "k"), tables=[TODOS, TREE, *((f"t{i}", (("id", 1),)) for i in range(1500 // PART))]
    ),
    "many contexts": forged(
        *(insert(0, i, f"k{i}") for i in range(1, 20_000 // PART)),
        *(child(i, f"k{i}", None, device=1) for i in range(1, 20_000 // PART)),
        contexts=[(0, 1, i, i) for i in range(1, 20_000 // PART)],
    ),
    "many heads of one row": forged(*(insert(d, 1, "k", str(d)) for d in range(MANY))),
    "many operations on one row": forged(insert(0, 1, "k"), *(update(0, i, i) for i in range(2, 6_000 // PART))),
    "two histories of one row": forged(
        *(one for d in (0, 1) for one in (insert(d, 1, "k"), *(update(d, i, i) for i in range(2, 1_500 // PART))))
    ),
    "many rows want one value": forged(*(insert(0, i, f"k{i}", "same") for i in range(1, 1_000 // PART))),
    # depth: nothing may recurse as deep as a bundle says
    "a chain of bases": forged(
        insert(0, 1, "k"),
        insert(1, 1, "k"),
        *(update(i % 2, i // 2 + 1, i, base=dot((i - 1) % 2, (i - 1) // 2 + 1)) for i in range(2, 2_500 // PART)),
    ),
    "bases that go round in a circle": forged(
        insert(0, 1, "k"),
        insert(1, 1, "k"),
        *(update(0, i, i, base=dot(1, MANY - i + 1)) for i in range(2, MANY)),
        *(update(1, i, i, base=dot(0, i)) for i in range(2, MANY)),
    ),
    "a chain of orphans": forged(*(child(i, f"k{i}", f"k{i - 1}") for i in range(1, 10_000 // PART))),
    "parents that go round in a circle": forged(*(child(i, f"k{i}", f"k{i % 5_000 + 1}") for i in range(1, 5_001))),
    "a deep tree without its root": forged(
        *(child(i, f"k{i}", f"k{i - 1}") for i in range(1, 600 // PART)),
        child(1, "k0", None, device=1),
        child(2, "k0", None, kind=2, device=1),
    ),
    # names
    "a table named by invalid UTF-8": edited("UPDATE tables SET name = CAST(x'fffe' AS TEXT) WHERE name = 'todos'"),
    "a column named by invalid UTF-8": edited("UPDATE columns SET name = CAST(x'fffe' AS TEXT) WHERE name = 'done'"),
    "a table named by half a surrogate": edited(
        "UPDATE tables SET name = CAST(x'eda080' AS TEXT) WHERE name = 'todos'"
    ),
    "a column named by a surrogate": edited("UPDATE columns SET name = CAST(x'eda080' AS TEXT) WHERE name = 'done'"),
    "a table name of a megabyte": named("a" * 1_000_000),
    "a table named NUL": named("todos\0x"),
    "a table named by a comment": named("todos -- "),
    "a table named by a parameter": named("?1 :x @y $z {} %s"),
    "our table in capitals": named("SYNC_Operations"),
    "our table of a number": named("sync_keys_1"),
    "our table of images": named("sync_images_1"),
    "our view": named("sync_conflicts_todos"),
    "our view of the clock": named("Sync_Clock"),
    "a table of SQLite's": named("SQLite_schema"),
    "a temporary table of ours": named("sync_incoming"),
    "our schema": named("sync_bundle"),
    "the same table twice": forged(insert(0, 1, "k"), tables=(TODOS, ("TODOS", TODOS[1]))),
    "a table with only a key": forged(Op(0, 1, 0, ["k"]), tables=(("todos", (("id", 1),)), TREE)),
    "every column a key": forged(
        Op(0, 1, 0, ["a", "b"]), tables=(("tree", (("id", 1), ("parent", 2))), ("todos", TODOS[1]))
    ),
    "another key": forged(Op(0, 1, 0, ["a", "b", "c", "d"]), tables=(("todos", (("title", 1), ("id", 0))), TREE)),
    # numbers
    "the greatest op": edited(f"UPDATE operations_1 SET op = {2**63 - 1} WHERE op = 2"),
    "the least op": edited(f"UPDATE operations_1 SET op = {-(2**63)} WHERE op = 2"),
    "the greatest base": edited(f"UPDATE operations_1 SET base = {2**63 - 1}"),
    "the least base": edited(f"UPDATE operations_1 SET base = {-(2**63)}"),
    "the greatest context": edited(f"INSERT INTO contexts VALUES (0, 1, {2**63 - 1}, {2**63 - 1})"),
    "the greatest ordinal": edited(f"UPDATE devices SET ordinal = {2**63 - 1} WHERE ordinal = 1"),
    "the greatest table number": edited(f"UPDATE tables SET table_no = {2**63 - 1} WHERE table_no = 1"),
    "a negative table number": edited(
        "UPDATE tables SET table_no = -1 WHERE table_no = 1; UPDATE columns SET table_no = -1 WHERE table_no = 1"
    ),
    "the greatest place in a key": edited(f"UPDATE columns SET key_place = {2**63 - 1} WHERE key_place = 1"),
    "a key place that is a fraction": edited("UPDATE columns SET key_place = 1.0 WHERE key_place = 1"),
    "a position that is a fraction": edited("UPDATE columns SET position = position + 0.5"),
    "a kind that is a fraction": edited("UPDATE operations_1 SET kind = 0.5"),
    "a kind that is a text": edited("UPDATE operations_1 SET kind = '1'"),
    "a context from the future": forged(insert(0, 1, "k"), insert(1, 1, "l"), contexts=[(0, 1, 1, 2)]),
    "contexts that know each other": forged(
        insert(0, 1, "k"), insert(1, 1, "k"), contexts=[(0, 1, 1, 1), (1, 0, 1, 1)]
    ),
    "a context of itself": forged(insert(0, 1, "k"), insert(0, 2, "k"), contexts=[(0, 0, 2, 1)]),
    "clocks against causality": forged(
        insert(0, 1, "k", hlc=HLC + 900), insert(1, 1, "k", hlc=HLC), contexts=[(1, 0, 1, 1)]
    ),
    "all clocks equal": forged(*(insert(d, 1, "k", str(d), hlc=HLC) for d in range(20))),
    # values
    "a value of 30 MB": forged(Op(0, 1, 0, ["k", b"x" * (30_000_000 // PART), 0, None])),
    "a key of 10 MB": forged(Op(0, 1, 0, ["k" * (10_000_000 // PART), "t", 0, None])),
    "a key of NUL": forged(insert(0, 1, "\0"), insert(0, 2, "\0\0"), insert(0, 3, "")),
    "keys of every type": forged(*(insert(0, i, key) for i, key in enumerate([1, 1.5, b"", "", 2**63 - 1], start=1))),
    "an update of nothing": forged(insert(0, 1, "k"), Op(0, 2, 1, ["k"])),
    "an update before its insert": forged(update(0, 1, 1), insert(0, 2, "k")),
    "deletes only": forged(*(Op(0, i, 2, [f"k{i}"]) for i in range(1, 50))),
    "a resolution of nothing": forged(Op(0, 1, 3, ["k"]), Op(0, 2, 4, ["l"])),
    "a base on the row of another table": forged(child(1, "k", None), update(0, 2, 1, base=1)),
    "a parked base": forged(insert(0, 1, "k", "x"), insert(1, 1, "l", "x"), update(1, 2, 1, base=0)),
    # what a schema can hold
    "a view of the name of a table": edited("DROP TABLE operations_2; CREATE VIEW operations_2 AS SELECT 1 AS op"),
    **{
        f"a view of {name} that never ends": edited(f"DROP TABLE {name}; {ENDLESS.format(name=name, columns=columns)}")
        for name, columns in (
            ("bundle", "i AS bundle_id, i AS source_device_id, i AS peer_device_id, i AS created_at_ms"),
            (
                "devices",
                "i AS ordinal, i AS device_id, i AS from_seq, i AS from_hlc, i AS to_seq, i AS to_hlc, i AS base_hlc",
            ),
            ("tables", "i AS table_no, i AS name"),
            ("columns", "i AS table_no, 0 AS position, 'x' AS name, 1 AS key_place"),
        )
    },
    "a device of no number": edited(
        "DROP TABLE devices; CREATE TABLE devices (ordinal, device_id, from_seq, from_hlc, to_seq, to_hlc, base_hlc); INSERT INTO devices VALUES (NULL, 1, 1, 1, 1, 1, 1)"
    ),
    "a trigger": edited("CREATE TRIGGER t AFTER INSERT ON bundle BEGIN SELECT load_extension('x'); END"),
    "a virtual table": edited("CREATE VIRTUAL TABLE words USING fts5(x)"),
    "a generated column": edited("ALTER TABLE operations_1 ADD COLUMN g AS (abs(-9223372036854775808))"),
    "statistics": edited("ANALYZE"),
    "a check that fails": edited(
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'hlc', 'hlc CHECK (0)') "
        "WHERE name = 'inserts_1'"
    ),
}


def at(place: int, content: bytes) -> Callable[[bytearray], None]:
    def put(database: bytearray) -> None:
        database[place : place + len(content)] = content

    return put


def on_each_page(content: bytes, offset: int) -> Callable[[bytearray], None]:
    def put(database: bytearray) -> None:
        for start in range(4096, len(database), 4096):
            at(start + offset, content)(database)

    return put


def looped(database: bytearray) -> None:
    """Make every leaf an inner page whose children are itself."""
    for start in range(4096, len(database), 4096):
        if database[start] == 13:
            page = (start // 4096 + 1).to_bytes(4, "big")
            database[start : start + 16] = b"\x05\x00\x00\x00\x01\x0f\xf0\x00" + page + b"\x0f\xf0\x00\x00"
            database[start + 0xFF0 : start + 0xFF5] = page + b"\x01"


def cascaded(database: bytearray) -> None:
    """Make each leaf an inner page above the next."""
    for start in range(4096, len(database) - 4096, 4096):
        page = (start // 4096 + 2).to_bytes(4, "big")
        database[start : start + 12] = b"\x05\x00\x00\x00\x00\x00\x00\x00" + page


def claiming(length: bytes) -> Callable[[bytearray], None]:
    """Let the first cell of every leaf claim to be of a great length."""

    def claim(database: bytearray) -> None:
        for start in range(4096, len(database), 4096):
            if database[start] == 13:
                cell = start + int.from_bytes(database[start + 8 : start + 10], "big")
                if start < cell < start + 4096 - len(length):
                    database[cell : cell + len(length)] = length

    return claim


TWO_GB = b"\x87\xff\xff\xff\x7f"
PAGES: dict[str, Callable[[bytearray], None]] = {
    "2 GB of pages": at(28, (0x7FFFFFFF // 4096).to_bytes(4, "big")),
    "no pages": at(28, bytes(4)),
    "page size 3": at(16, b"\x00\x03"),
    "page size 512": at(16, b"\x02\x00"),
    "page size 65536": at(16, b"\x00\x01"),
    "255 bytes reserved": at(20, b"\xff"),
    "a writer of version 3": at(18, b"\x03"),
    "a reader of version 3": at(19, b"\x03"),
    "in WAL mode": at(18, b"\x02\x02"),
    "fractions of nothing": at(21, b"\x00\x00\x00"),
    "a free list of itself": at(32, b"\x00\x00\x00\x02\x7f\xff\xff\xff"),
    "a free list beyond the end": at(32, b"\x7f\xff\xff\xff\x00\x00\x00\x01"),
    "schema format 9": at(44, b"\x00\x00\x00\x09"),
    "encoding 4": at(56, b"\x00\x00\x00\x04"),
    "an automatic vacuum": at(52, b"\x00\x00\x00\x03"),
    "a cache of 2 GB": at(48, b"\x7f\xff\xff\xff"),
    "a schema of 65,535 cells": at(103, b"\xff\xff"),
    "a schema on an inner page": at(100, b"\x05"),
    "a schema on an index page": at(100, b"\x0a"),
    "leaves of 65,535 cells": on_each_page(b"\xff\xff", 3),
    "leaves that begin at 0": on_each_page(b"\x00\x00", 5),
    "free blocks in a circle": on_each_page(b"\x0f\x00", 1),
    "pages that are their own children": looped,
    "pages deeper and deeper": cascaded,
    "cells of 2 GB": claiming(TWO_GB),
    "cells of 2^63 bytes": claiming(b"\xff" * 9),
    "cells of no byte": claiming(b"\x00"),
    "cells whose header is 2 GB": claiming(b"\x10\x01" + TWO_GB),
    "cells whose values are 2 GB": claiming(b"\x20\x01\x07" + TWO_GB),
}


def honest(path: Path) -> bytearray:
    """Return the database of a bundle that would be taken in."""
    operations = [insert(0, i, f"k{i}", f"tag {i}") for i in range(1, 60)]
    operations += [update(1, 1, 1), child(2, "c", "c", device=1), Op(1, 3, 2, ["k5"]), Op(1, 4, 4, ["k6"], ["rule"])]
    Forgery(operations, contexts=[(1, 0, 1, 59)]).write(path)
    return bytearray(path.read_bytes()[:-TRAILER_BYTES])


def noise(seed: int) -> Callable[[bytearray], None]:
    """Change a few bytes where the structure is: headers of the file, of pages, of cells."""

    def disturb(database: bytearray) -> None:
        dice = Random(seed)  # noqa: S311
        for _ in range(dice.randint(1, 6)):
            page = dice.randrange(len(database) // 4096) * 4096
            head = page + (100 if page == 0 else 0)
            cells = int.from_bytes(database[head + 3 : head + 5], "big") or 1
            pointer = head + 8 + 2 * dice.randrange(min(cells, 2000))
            cell = page + int.from_bytes(database[pointer % len(database) :][:2].ljust(2, b"\0"), "big")
            start = dice.choice(
                [dice.randrange(100), head, head + dice.randrange(12), pointer, cell, cell + dice.randrange(20)]
            )
            for place in range(start, min(start + dice.choice([1, 1, 2, 4]), len(database))):
                database[place] = dice.choice(
                    [0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256), database[place] ^ (1 << dice.randrange(8))]
                )

    return disturb


def bent(bend: Callable[[bytearray], object]) -> Case:
    def write(path: Path) -> None:
        database = honest(path)
        bend(database)
        path.write_bytes(sealed(bytes(database)))

    return write


def reseal(database: bytes, path: Path) -> None:
    path.write_bytes(sealed(database))


class Court:
    """A device that hostile bundles are offered to."""

    def __init__(self, place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        (place / "tmp").mkdir(parents=True)
        tempfile.tempdir = str(place / "tmp")
        self._place = place
        self._template = place / "template.db"
        self._ready(self._template)
        self.tried: Counter[str] = Counter()
        self.found: list[str] = []

    def _ready(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        with SyncEngine(path) as engine:
            engine.initialize()
            engine.connection.executescript(SCHEMA)
            engine.connection.execute("INSERT INTO todos VALUES ('k', 'mine', 7, 'mine')")
            engine.connection.execute("INSERT INTO tree VALUES ('root', NULL), ('leaf', 'root')")
            for table in ("todos", "tree"):
                engine.enable_sync_for_table(table)
            engine.connection.execute("UPDATE todos SET done = 8")

    def offer(self, name: str, case: Case) -> None:
        case(self._place / "hostile.bundle")
        said = self._in_a_process()
        self.tried[said.split(":")[0]] += 1
        if said not in ("refused", "taken in"):
            self.found.append(f"{name}: {said}")

    def _in_a_process(self) -> str:
        ours, theirs = os.pipe()
        process = os.fork()
        if process == 0:
            self._judge(theirs)
        os.close(theirs)
        start, said = perf_counter(), b""
        while perf_counter() - start < SECONDS and select.select([ours], [], [], SECONDS)[0]:
            if not (more := os.read(ours, 65_536)):
                break
            said += more
        os.close(ours)
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if not said:
            return "too slow" if perf_counter() - start >= SECONDS else f"crashed: {status}"
        return said.decode()

    def _judge(self, pipe: int) -> None:
        said = "crashed"
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
            if pages:
                limit = pages * resource.getpagesize() + MEMORY_BYTES
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            said = self._verdict()
        except BaseException:  # noqa: BLE001 - whatever it is, it is a finding
            said = "broken: " + traceback.format_exc()[-700:]
        finally:
            os.write(pipe, said.encode())
            os._exit(0)

    def _verdict(self) -> str:
        path = Path(shutil.copy(self._template, self._place / "target.db"))
        before = path.read_bytes()
        with SyncEngine(path) as engine:
            engine.initialize()
            try:
                engine.import_bundle(self._place / "hostile.bundle")
            except SyncError:
                assert path.read_bytes() == before, "refused, but the database changed"
                assert list((self._place / "tmp").iterdir()) == [], "a private copy stays"
                return "refused"
            self._require_sound(engine)
        return "taken in"

    def _require_sound(self, engine: SyncEngine) -> None:
        """Use the database in every way, and hand all of it on."""
        assert engine.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for conflict in engine.get_unresolved_conflicts()[:20]:
            engine.images(conflict)
        assert [one for one in engine.doctor().findings if one.level == "error"] == []
        engine.connection.execute("INSERT INTO todos VALUES ('afterwards', 'fine', 0, NULL)")
        engine.connection.execute("UPDATE todos SET done = 9 WHERE id = 'k'")
        onward = engine.generate_bundle(None, self._place / "onward.bundle")
        assert onward is not None
        other = self._place / "other.db"
        shutil.copy(self._template, other)
        with SyncEngine(other) as peer:
            peer.initialize()
            peer.renew_device()
            peer.import_bundle(onward)
            same = "SELECT quote(id), quote(title), quote(done), quote(tag) FROM todos ORDER BY 1"
            assert peer.connection.execute(same).fetchall() == engine.connection.execute(same).fetchall()


def cases(kind: str, first: int, last: int) -> Iterator[tuple[str, Case]]:
    if kind == "lies":
        yield from LIES.items()
    elif kind == "pages":
        yield from ((name, bent(bend)) for name, bend in PAGES.items())
    elif kind == "corpus":
        kept = sorted((Path(__file__).parent / "corpus").iterdir())
        yield from ((path.name, partial(reseal, path.read_bytes())) for path in kept)
    else:
        yield from ((f"noise {seed}", bent(noise(seed))) for seed in range(first, last))


def main() -> None:
    place, kind, *seeds = sys.argv[1:]
    court = Court(Path(place))
    first, last = map(int, seeds or ("0", "0"))
    for name, case in cases(kind, first, last):
        start = perf_counter()
        court.offer(name, case)
        if os.environ.get("SQLITE_SYNC_LOUD"):
            print(f"{perf_counter() - start:6.2f} {name} {dict(court.tried)} {court.found[-1:]}", file=sys.stderr)
    print(json.dumps({"tried": court.tried, "found": court.found}))


if __name__ == "__main__":
    main()
