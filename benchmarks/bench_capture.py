"""What capture costs: the same statements on a table with it and without it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import measure
from measure import Figure, Key, Row, Scale, Timings, cpu

REACH = {"bulk insert": 2.9, "update by key": 3.0, "delete by key": 3.0}
AUTOCOMMIT = 1.6
UNIQUE = 1.5
LOG_BYTES_PER_INSERT = 150
LOG_BYTES_PER_UPDATE = 50


def figures(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Measure everything about capture."""
    for key in measure.KEYS:
        rows = key.rows(scale.rows)
        rounds = [_bulk(folder, key, rows) for _ in range(scale.rounds)]
        for statement, reach in REACH.items():
            names = (f"captured {statement}", f"plain {statement}")
            yield measure.ratio(f"capture: {statement}, {key.name}", reach, rounds, names, scale.rows)
    rows = measure.INTEGER.rows(scale.autocommits)
    for synchronous in ("NORMAL", "FULL"):
        rounds = [_autocommit(folder, rows, synchronous) for _ in range(scale.rounds)]
        name = f"capture: autocommit insert, integer key, synchronous = {synchronous}"
        yield measure.ratio(name, AUTOCOMMIT, rounds, ("captured", "plain"), len(rows))
    for column in ("amount INTEGER", "body TEXT"):
        rounds = [_unique(folder, column, measure.INTEGER.rows(scale.rows)) for _ in range(scale.rounds)]
        name = f"bulk insert with {column} UNIQUE, against without"
        yield measure.ratio(f"capture: {name}", UNIQUE, rounds, ("unique", "captured"), scale.rows)
        yield measure.ratio(f"not captured: {name}", None, rounds, ("index", "plain"), scale.rows)
    yield from _log_bytes(folder, measure.INTEGER.rows(scale.rows))
    yield _beside_conflicts(scale, folder)


def _bulk(folder: Path, key: Key, rows: Sequence[Row]) -> Timings:
    """Run each statement without capture and with it, in turns."""
    plain, engine = measure.plain(folder / "plain.db", key.schema), measure.device(folder / "captured.db", key.schema)
    keys = measure.scattered(rows)
    timings = Timings()
    for statement, sql, values in (
        ("bulk insert", measure.INSERT, rows),
        ("update by key", measure.UPDATE, [(-i, key) for i, key in enumerate(keys)]),
        ("delete by key", measure.DELETE, [(key,) for key in keys]),
    ):
        for name, connection in (("plain", plain), ("captured", engine.connection)):
            timings[f"{name} {statement}"] = cpu(partial(measure.run_many, connection, sql, values))
    plain.close()
    engine.close()
    return timings


def _unique(folder: Path, column: str, rows: Sequence[Row]) -> Timings:
    """Insert into a table with a UNIQUE index and into one without it, with capture and without."""
    schema = measure.INTEGER.schema
    unique = schema.replace(column, f"{column} UNIQUE")
    timings = Timings()
    for name, definition in (("captured", schema), ("unique", unique)):
        engine = measure.device(folder / "captured.db", definition)
        timings[name] = cpu(partial(measure.run_many, engine.connection, measure.INSERT, rows))
        engine.close()
    for name, definition in (("plain", schema), ("index", unique)):
        plain = measure.plain(folder / "plain.db", definition)
        timings[name] = cpu(partial(measure.run_many, plain, measure.INSERT, rows))
        plain.close()
    return timings


def _autocommit(folder: Path, rows: Sequence[Row], synchronous: str) -> Timings:
    plain, engine = measure.plain(folder / "plain.db"), measure.device(folder / "captured.db")
    timings = Timings()
    for name, connection in (("plain", plain), ("captured", engine.connection)):
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        timings[name] = cpu(partial(_one_by_one, connection, rows))
    plain.close()
    engine.close()
    return timings


def _one_by_one(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    for row in rows:
        connection.execute(measure.INSERT, row)


def _log_bytes(folder: Path, rows: Sequence[Row]) -> Iterator[Figure]:
    """Compare how a captured database and a plain one grow."""
    plain, engine = measure.plain(folder / "plain.db"), measure.device(folder / "captured.db")
    empty, grown = [measure.size(plain), measure.size(engine.connection)], list[int]()
    changes = [(-1, row[0]) for row in rows]  # takes no more room in the row than what was there
    for sql, values in ((measure.INSERT, rows), (measure.UPDATE, changes)):
        for connection in (plain, engine.connection):
            measure.run_many(connection, sql, values)
            grown.append(measure.size(connection))
    user_row = (grown[0] - empty[0]) / len(rows)
    per_insert = (grown[1] - empty[1]) / len(rows) - user_row
    per_update = (grown[3] - grown[1] - (grown[2] - grown[0])) / len(rows)
    row = f"user row of {user_row:.0f} bytes"
    yield Figure("log growth per insert", LOG_BYTES_PER_INSERT, per_insert, " bytes", row)
    yield Figure("log growth per update of one column", LOG_BYTES_PER_UPDATE, per_update, " bytes", row)
    plain.close()
    engine.close()


def _beside_conflicts(scale: Scale, folder: Path) -> Figure:
    """Update rows of a table in which other rows are in conflict, and of one without conflicts."""
    conflicts = scale.conflicts // 10
    rows = measure.INTEGER.rows(scale.rows)
    source, calm, torn = (measure.device(folder / f"{name}.db") for name in ("source", "calm", "torn"))
    measure.run_many(source.connection, measure.INSERT, rows)
    measure.send(source, torn)
    measure.send(torn, source)
    measure.send(source, calm)
    for engine, amount in ((source, -1), (torn, -2)):
        measure.run_many(engine.connection, measure.UPDATE, [(amount, row[0]) for row in rows[:conflicts]])
    measure.send(source, torn)
    found = len(torn.get_unresolved_conflicts())
    keys = measure.scattered(rows[conflicts:])
    rounds = []
    for n in range(scale.rounds):
        changes = [(-10 - n, key) for key in keys]
        rounds.append(
            {
                name: cpu(partial(measure.run_many, engine.connection, measure.UPDATE, changes))
                for name, engine in (("calm", calm), ("torn", torn))
            }
        )
    for engine in (source, calm, torn):
        engine.close()
    name = f"capture: update by key beside {found:,} open conflicts, against none"
    return measure.ratio(name, None, rounds, ("torn", "calm"), len(keys))
