"""What a meeting costs beyond plain inserts: mapped keys, mixed work, a folder, status, enabling, reconcile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import measure
from measure import Figure, Row, Scale, Timings, cpu

from sqlite_sync import SyncEngine

MAPPED = 1.4
MIXED = 2.0
VISITORS = 10
OWNED = """
CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE items (id INTEGER PRIMARY KEY, owner INTEGER REFERENCES people, reviewer INTEGER REFERENCES people,
    title TEXT, body TEXT)"""


def figures(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Measure all of it."""
    yield from _mapped(scale, folder)
    rows = measure.INTEGER.rows(scale.rows)
    rounds = [_mixed(folder, rows) for _ in range(scale.rounds)]
    name = "bundle imported: inserts, updates and deletes mixed, against the plain statements"
    yield measure.ratio(name, MIXED, rounds, ("import", "plain"), 2 * len(rows))
    rounds = [_often(folder, rows) for _ in range(scale.rounds)]
    name = "bundle imported: each row inserted and updated once in it, against the plain statements"
    yield measure.ratio(name, None, rounds, ("import", "plain"), 2 * len(rows))
    rounds = [_visits(folder, scale.rows // 50) for _ in range(scale.rounds)]
    name = f"folder: {VISITORS} devices take in each other's rows, against plain inserts"
    yield measure.ratio(name, None, rounds, ("visits", "plain"), VISITORS * (VISITORS - 1) * (scale.rows // 50))
    idle = min(timings["idle"] for timings in rounds) / VISITORS
    yield Figure(f"folder: a visit of one of {VISITORS} devices with nothing new", None, idle * 1e3, " ms")
    yield from _enabled(scale, folder)


# --- mapped keys --------------------------------------------------------------------------------------------------


def _mapped(scale: Scale, folder: Path) -> Iterator[Figure]:
    rounds = [
        {**_owned(folder, scale.rows, "natural"), **_owned(folder, scale.rows, "mapped")} for _ in range(scale.rounds)
    ]
    for verb in ("written", "imported", "captured"):
        name = f"mapped key and two references {verb}, against natural keys"
        yield measure.ratio(name, MAPPED, rounds, (f"mapped {verb}", f"natural {verb}"), scale.rows)


def _owned(folder: Path, count: int, keys: str) -> Timings:
    """Carry rows with a key and two references to a device that has numbers of its own for the same tables."""
    start = 1 if keys == "mapped" else 1_000_001  # natural keys must not be the same ones on both
    source, target = (
        _with_people(folder / f"{keys}-a.db", keys, 1),
        _with_people(folder / f"{keys}-b.db", keys, start),
    )
    target.connection.execute("INSERT INTO items VALUES (?, ?, ?, 'its own', '')", (start, start, start))
    measure.send(source, target)
    rows = [(i, i % 100 + 1, i % 90 + 1, *row[1:3]) for i, row in enumerate(measure.integer_rows(count), 1)]
    timings = {
        f"{keys} captured": cpu(
            partial(measure.run_many, source.connection, "INSERT INTO items VALUES (?, ?, ?, ?, ?)", rows)
        ),
        f"{keys} written": cpu(partial(measure.write, source, target)),
        f"{keys} imported": cpu(partial(target.import_bundle, source.path.with_suffix(".bundle"))),
    }
    source.close()
    target.close()
    return timings


def _with_people(path: Path, keys: str, first: int) -> SyncEngine:
    engine = SyncEngine(measure.remove(path))
    measure.prepare(engine.connection, OWNED)
    engine.initialize()
    for table in ("people", "items"):
        engine.enable_sync_for_table(table, keys=keys)
    people = [(i, f"person {i}") for i in range(first, first + 100)]
    measure.run_many(engine.connection, "INSERT INTO people VALUES (?, ?)", people)
    return engine


# --- mixed work ---------------------------------------------------------------------------------------------------


def _mixed(folder: Path, rows: Sequence[Row]) -> Timings:
    """Import as many new rows as there are, updates of three rows in four of the others, and deletes of the rest."""
    plain = measure.plain(folder / "plain.db")
    source, target = (measure.device(folder / f"{name}.db") for name in ("source", "target"))
    for connection in (source.connection, plain):
        measure.run_many(connection, measure.INSERT, rows)
    measure.send(source, target)
    measure.send(target, source)
    measure.send(source, target)
    _edit(source.connection, rows)
    bundle = measure.write(source, target)
    timings = {
        "plain": cpu(partial(_edit, plain, rows)),
        "import": cpu(partial(target.import_bundle, bundle)),
    }
    for one in (plain, source, target):
        one.close()
    return timings


def _edit(connection: sqlite3.Connection, old: Sequence[Row]) -> None:
    keys, cut = measure.scattered(old), len(old) * 3 // 4
    fresh = [(row[0] + len(old), *row[1:]) for row in old]
    measure.run_many(connection, measure.INSERT, fresh)
    measure.run_many(connection, measure.UPDATE, [(-1, key) for key in keys[:cut]])
    measure.run_many(connection, measure.DELETE, [(key,) for key in keys[cut:]])


def _often(folder: Path, rows: Sequence[Row]) -> Timings:
    """Import what one device did to the same rows more than once."""
    plain = measure.plain(folder / "plain.db")
    source, target = (measure.device(folder / f"{name}.db") for name in ("source", "target"))
    changes = [(-1, key) for key in measure.scattered(rows)]
    timings = Timings()
    for connection in (source.connection, plain):
        start = cpu(partial(measure.run_many, connection, measure.INSERT, rows))
        timings["plain"] = start + cpu(partial(measure.run_many, connection, measure.UPDATE, changes))
    timings["import"] = cpu(partial(target.import_bundle, measure.write(source, target)))
    for one in (plain, source, target):
        one.close()
    return timings


# --- the folder ---------------------------------------------------------------------------------------------------


def _visits(folder: Path, count: int) -> Timings:
    """Let each device write rows, and all of them visit a folder until each has them all."""
    shared = folder / "shared"
    shared.mkdir(exist_ok=True)
    rows = measure.INTEGER.rows(count * VISITORS)
    engines = [measure.device(folder / f"visitor-{i}.db") for i in range(VISITORS)]
    for i, engine in enumerate(engines):
        measure.run_many(engine.connection, measure.INSERT, rows[i::VISITORS])
    plain = [measure.plain(folder / f"plain-{i}.db") for i in range(VISITORS)]
    timings = {"visits": cpu(partial(_visit, engines, shared, 2)), "plain": 0.0}
    for i, connection in enumerate(plain):
        others = [row for n, row in enumerate(rows) if n % VISITORS != i]
        timings["plain"] += cpu(partial(measure.run_many, connection, measure.INSERT, others))
    _visit(engines, shared, 2)
    timings["idle"] = cpu(partial(_visit, engines, shared, 1))
    for engine, connection in zip(engines, plain, strict=True):
        [(held,)] = engine.connection.execute("SELECT count(*) FROM items")
        if held != len(rows):
            msg = f"{engine.path.name} holds {held} rows instead of {len(rows)}"
            raise AssertionError(msg)
        engine.close()
        connection.close()
    for path in sorted(shared.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return timings


def _visit(engines: Sequence[SyncEngine], shared: Path, times: int) -> None:
    for _ in range(times):
        for engine in engines:
            engine.sync_folder(shared)


# --- a table that is there already --------------------------------------------------------------------------------


def _enabled(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Enable a table that has its rows, look at the status, reconcile what agrees, and what does not."""
    count = scale.long_history
    engine = SyncEngine(measure.remove(folder / "enabled.db"))
    measure.prepare(engine.connection, measure.INTEGER.schema)
    engine.connection.execute(measure.FILL, (1, count))
    engine.initialize()
    copied = "CREATE TABLE copy (id INTEGER PRIMARY KEY, title TEXT, body TEXT, amount INTEGER, price REAL)"
    engine.connection.execute(copied)
    plain = cpu(partial(engine.connection.execute, "INSERT INTO copy SELECT * FROM items"))
    engine.connection.execute("DROP TABLE copy")

    def figure(name: str, seconds: float) -> Figure:
        absolute = f"{measure.number(seconds * 1e6 / count)} against {measure.number(plain * 1e6 / count)} µs"
        return Figure(name, None, seconds / plain, " x", absolute)

    enabled = cpu(partial(engine.enable_sync_for_table, "items", keys="natural"))
    yield figure(f"a table of {count:,} rows enabled, against INSERT ... SELECT of all its rows", enabled)
    found = cpu(partial(engine.reconcile, "items"))
    yield figure(f"a table of {count:,} rows reconciled that agrees with its log, against the same", found)
    with engine.migration():
        engine.connection.execute("UPDATE items SET amount = -1 WHERE id % 10 = 0")
    yield Figure("status", None, cpu(engine.status) * 1e3, " ms", f"with {count:,} operations")
    engine.close()
