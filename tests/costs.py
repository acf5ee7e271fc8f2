"""What sync costs in counts, which are the same on a busy machine: `python tests/costs.py` records them anew.

Seconds are the matter of `benchmarks/`. Two amounts of the same work tell what one row more costs, apart from what
each call costs once.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from conftest import set_clock
from counting import counted, watched
from sqlite_sync import SyncEngine

RECORD = Path(__file__).with_name("files") / "costs.txt"
SMALL, LARGE = 400, 800
WIDTH = 62  # of a name in the record
PEER = bytes(range(16))

Costs = dict[str, "Cost"]
Row = tuple[object, ...]


class Cost(NamedTuple):
    """What something costs; None where it is not counted."""

    steps: float | None = None
    statements: float | None = None
    calls: float | None = None
    bytes: float | None = None

    def per(self, rows: int, less: Cost) -> Cost:
        """Return what one of so many rows more costs, compared with the same work on fewer of them."""
        pairs = zip(self, less, strict=True)
        return Cost(*(None if one is None or two is None else (one - two) / rows for one, two in pairs))


# --- tables -------------------------------------------------------------------------------------------------------


class Shape(NamedTuple):
    """A kind of table, with its rows."""

    schema: str
    key: Callable[[int], Row]
    values: Callable[[int], Row]
    where: str
    keys: str = "natural"
    before: str = ""
    references: Mapping[str, str] = {}


def _number(i: int) -> Row:
    return (i,)


def _text(i: int) -> Row:
    return (f"{i * 2654435761 % 2**32:08x}-0000-4000-8000-{i:012d}",)


def _pair(i: int) -> Row:
    return f"part {i % 7}", i


def _shape(
    columns: int, more: str = "", key: str = "id INTEGER PRIMARY KEY", of: Callable[[int], Row] = _number
) -> Shape:
    """Make a shape with so many numbers and texts in turn, beside the key."""
    names = ", ".join(f"c{n} {'TEXT' if n % 2 else 'INTEGER'}" for n in range(columns))
    return Shape(
        schema=f"CREATE TABLE t ({key}, {names}{more}",
        key=of,
        values=lambda i: tuple(f"text {i}" if n % 2 else i for n in range(columns)),
        where="a = ? AND b = ?" if of is _pair else "id = ?",
    )


PARENTS = f"""
CREATE TABLE p (id INTEGER PRIMARY KEY);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {2 * LARGE}) INSERT INTO p SELECT i FROM n"""

SHAPES: Mapping[str, Shape] = {
    "2 columns": _shape(1, ")"),
    "5 columns": _shape(4, ")"),
    "20 columns": _shape(19, ")"),
    "100 columns": _shape(99, ")"),
    "text key": _shape(4, ")", "id TEXT PRIMARY KEY", _text),
    "text key, without rowid": _shape(4, ") WITHOUT ROWID", "id TEXT PRIMARY KEY", _text),
    "composite key": _shape(3, ", PRIMARY KEY (a, b))", "a TEXT, b INTEGER", _pair),
    "UNIQUE number": _shape(4, ", UNIQUE (c2))"),
    "UNIQUE text": _shape(4, ", UNIQUE (c1))"),
    "foreign key": _shape(4, ", FOREIGN KEY (c2) REFERENCES p)")._replace(before=PARENTS),
    "mapped key": _shape(4, ")")._replace(keys="mapped"),
    "mapped references": _shape(4, ")")._replace(keys="mapped", references={"t.c0": "t", "t.c2": "t"}),
}


def _many(connection: sqlite3.Connection, sql: str, rows: list[Row]) -> None:
    connection.execute("BEGIN")
    connection.executemany(sql, rows)
    connection.execute("COMMIT")


def insert(connection: sqlite3.Connection, shape: Shape, ids: range) -> None:
    """Insert rows in one transaction."""
    marks = ", ".join("?" for _ in (*shape.key(1), *shape.values(1)))
    _many(connection, f"INSERT INTO t VALUES ({marks})", [(*shape.key(i), *shape.values(i)) for i in ids])


def update(connection: sqlite3.Connection, shape: Shape, ids: range, value: int = -1) -> None:
    """Change one column of rows in one transaction."""
    _many(connection, f"UPDATE t SET c0 = ? WHERE {shape.where}", [(value, *shape.key(i)) for i in ids])


def delete(connection: sqlite3.Connection, shape: Shape, ids: range) -> None:
    """Delete rows in one transaction."""
    _many(connection, f"DELETE FROM t WHERE {shape.where}", [shape.key(i) for i in ids])


VERBS = {"insert": insert, "update": update, "delete": delete}


@contextmanager
def device(folder: Path, name: str, shape: Shape) -> Iterator[SyncEngine]:
    """Give a device whose table is captured."""
    path = folder / f"{name}.db"
    path.unlink(missing_ok=True)
    with SyncEngine(path) as engine:
        _prepare(engine.connection, shape)
        engine.initialize()
        engine.enable_sync_for_table("t", keys=shape.keys, references=shape.references)
        yield engine


@contextmanager
def plain(folder: Path, shape: Shape) -> Iterator[sqlite3.Connection]:
    """Give a database without us."""
    path = folder / "plain.db"
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    _prepare(connection, shape)
    yield connection
    connection.close()


def _prepare(connection: sqlite3.Connection, shape: Shape) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    connection.executescript(shape.before)
    connection.execute(shape.schema)


# --- what is recorded ---------------------------------------------------------------------------------------------


def measured() -> Costs:
    """Count everything."""
    found = Costs()
    with watched():
        for costs in (_capture, _flows, _calls, _sizes):
            with tempfile.TemporaryDirectory() as folder:
                found |= dict(costs(Path(folder)))
    return found


def _capture(folder: Path) -> Iterator[tuple[str, Cost]]:
    """Count what capture adds to each statement, per row."""
    ids = range(1, LARGE + 1)
    for name, shape in SHAPES.items():
        with plain(folder, shape) as alone, device(folder, "captured", shape) as engine:
            for verb, act in VERBS.items():
                more, less = (Cost(counted(partial(act, one, shape, ids)).steps) for one in (engine.connection, alone))
                yield f"capture a row: {verb}, {name}", more.per(LARGE, less)


class Flow(NamedTuple):
    """Operations that one device writes for another: the table, and what is done before they are sent."""

    shape: str
    prepared: Callable[[SyncEngine, SyncEngine, Shape, range], None]


def _inserts(source: SyncEngine, _: SyncEngine, shape: Shape, ids: range) -> None:
    insert(source.connection, shape, ids)


def _updates(source: SyncEngine, target: SyncEngine, shape: Shape, ids: range) -> None:
    _inserts(source, target, shape, ids)
    carry(source, target)
    update(source.connection, shape, ids)


def _deletes(source: SyncEngine, target: SyncEngine, shape: Shape, ids: range) -> None:
    _inserts(source, target, shape, ids)
    carry(source, target)
    delete(source.connection, shape, ids)


def _conflicts(source: SyncEngine, target: SyncEngine, shape: Shape, ids: range) -> None:
    _updates(source, target, shape, ids)
    set_clock(target, 2**42)  # else chance decides which is the later one
    update(target.connection, shape, ids, -2)


FLOWS: Mapping[str, Flow] = {
    "insert": Flow("5 columns", _inserts),
    "update": Flow("5 columns", _updates),
    "delete": Flow("5 columns", _deletes),
    "insert, text key": Flow("text key", _inserts),
    "insert, 20 columns": Flow("20 columns", _inserts),
    "insert, UNIQUE text": Flow("UNIQUE text", _inserts),
    "insert, foreign key": Flow("foreign key", _inserts),
    "insert, mapped key": Flow("mapped key", _inserts),
    "insert, mapped key and two references": Flow("mapped references", _inserts),
    "update that is a conflict": Flow("5 columns", _conflicts),
}


def carry(source: SyncEngine, target: SyncEngine) -> None:
    """Bring to a device what it lacks, and tell its author."""
    for here, there in ((source, target), (target, source)):
        there.import_bundle(bundle(here, there))


def bundle(source: SyncEngine, target: SyncEngine) -> Path:
    """Write what a device lacks."""
    path = source.path.with_suffix(".bundle")
    source.generate_bundle(target.device_id, path, acknowledge=True)
    return path


def _flows(folder: Path) -> Iterator[tuple[str, Cost]]:
    """Count what one row more costs to write, to take in and to take in again."""
    for name, flow in FLOWS.items():
        small, large = (flow_costs(folder, flow, count) for count in (SMALL, LARGE))
        for verb, more in large.items():
            yield f"{verb} a row: {name}", more.per(LARGE - SMALL, small[verb])


def flow_costs(folder: Path, flow: Flow, rows: int, before: int = 0) -> Costs:
    """Count what so many rows cost, on two devices that share a history of others."""
    shape, found = SHAPES[flow.shape], list[Costs]()
    for calls in (False, True):
        with device(folder, "a", shape) as source, device(folder, "b", shape) as target:
            insert(source.connection, shape, range(1, before + 1))
            carry(source, target)
            flow.prepared(source, target, shape, range(before + 1, before + rows + 1))
            path = source.path.with_suffix(".bundle")
            actions = {
                "generate": partial(bundle, source, target),
                "import": partial(target.import_bundle, path),
                "import again": partial(target.import_bundle, path),
            }
            found.append({verb: cost(action, calls=calls) for verb, action in actions.items()})
    return joined(*found)


def cost(action: Callable[[], object], *, calls: bool) -> Cost:
    """Count what an action does: either the calls, or all else."""
    count = counted(action, calls=calls)
    return Cost(calls=count.calls) if calls else Cost(count.steps, count.statements)


def joined(first: Costs, second: Costs) -> Costs:
    """Lay two counts of the same actions over each other."""
    return {
        name: Cost(*(two if one is None else one for one, two in zip(found, second[name], strict=True)))
        for name, found in first.items()
    }


def _calls(folder: Path) -> Iterator[tuple[str, Cost]]:
    """Count what each call costs once, with next to nothing to do."""
    found = [_calls_once(folder, calls=calls) for calls in (False, True)]
    yield from joined(*found).items()


def _calls_once(folder: Path, *, calls: bool) -> Costs:
    shape, shared = SHAPES["5 columns"], folder / f"shared-{calls}"
    shared.mkdir()
    with device(folder, "a", shape) as source, device(folder, "b", shape) as target:
        insert(source.connection, shape, range(1, 11))
        carry(source, target)
        for engine in (source, target, source, target):
            engine.sync_folder(shared)
        insert(source.connection, shape, range(11, 12))
        path = source.path.with_suffix(".bundle")
        actions: dict[str, Callable[[], object]] = {
            "generate: 1 row": partial(bundle, source, target),
            "import: 1 row": partial(target.import_bundle, path),
            "import again: 1 row": partial(target.import_bundle, path),
            "generate: nothing": partial(target.generate_bundle, source.device_id, folder / "none.bundle"),
            "status": target.status,
            "initialize, again": target.initialize,
            "list conflicts: none": target.get_unresolved_conflicts,
            "reconcile: 11 rows": target.reconcile,
            "sync folder: 1 row to write": partial(source.sync_folder, shared),
            "sync folder: 1 row to take in": partial(target.sync_folder, shared),
            "sync folder: nothing": partial(target.sync_folder, shared),
        }
        return {name: cost(action, calls=calls) for name, action in actions.items()}


def _sizes(folder: Path) -> Iterator[tuple[str, Cost]]:
    """Count what an operation takes in the log, above what its row takes in the table, and in a bundle."""
    ids = range(1, 16 * LARGE + 1)
    for name in ("5 columns", "20 columns", "text key"):
        shape = SHAPES[name]
        with plain(folder, shape) as alone, device(folder, "a", shape) as source, device(folder, "b", shape) as target:
            for verb in ("insert", "update"):
                act = VERBS[verb]
                more, less = (_growth(one, partial(act, one, shape, ids)) for one in (source.connection, alone))
                yield f"log of a row: {verb}, {name}", Cost(bytes=(more - less) / len(ids))
                yield f"bundle of a row: {verb}, {name}", Cost(bytes=bundle(source, target).stat().st_size / len(ids))
                carry(source, target)


def _growth(connection: sqlite3.Connection, action: Callable[[], object]) -> int:
    before = _size(connection)
    action()
    return _size(connection) - before


def _size(connection: sqlite3.Connection) -> int:
    [(size,)] = connection.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
    return int(size)


# --- the record ---------------------------------------------------------------------------------------------------

HEAD = """\
# What sync costs, in counts, with SQLite {sqlite} and Python {python}. tests/test_cost.py fails when one has grown.
# Recorded by `python tests/costs.py`: run it again in the commit that makes something dearer, and say why there.
# steps: instructions of SQLite; statements: as we run them; calls: functions of Python; bytes: in the file.
#
"""


def versions() -> tuple[str, str]:
    """Name the SQLite and the Python whose counts these are; of one minor version they are the same."""
    return ".".join(map(str, sqlite3.sqlite_version_info[:2])), ".".join(map(str, sys.version_info[:2]))


def write(costs: Costs) -> None:
    """Record what was counted."""
    sqlite, python = versions()
    lines = [_line("", Cost._fields)]
    lines += [
        _line(name, ["" if one is None else f"{round(one, 2) + 0.0:g}" for one in cost]) for name, cost in costs.items()
    ]
    RECORD.write_text(HEAD.format(sqlite=sqlite, python=python) + "\n".join(lines) + "\n")


def _line(name: str, cells: Iterable[str]) -> str:
    return f"{name:<{WIDTH}}" + " |".join(f"{cell:>11}" for cell in cells)


def read() -> tuple[tuple[str, str], Costs]:
    """Return what was recorded, and with which SQLite and Python."""
    text = RECORD.read_text()
    found = re.search(r"SQLite (\S+) and Python (\S+)\. ", text)
    assert found, f"{RECORD} does not say with what it was recorded"
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return (found[1], found[2]), {line[:WIDTH].rstrip(): _cost(line[WIDTH:]) for line in lines[1:]}


def _cost(cells: str) -> Cost:
    return Cost(*(float(cell) if cell.strip() else None for cell in cells.split("|")))


if __name__ == "__main__":
    write(measured())
