"""What SQLite itself takes for the least that sync can do: the floor under the figures.

To capture is to write a second row from a trigger; to write a bundle, to copy rows to another file; to import, to copy
them into a log and into the table. Each is done here with nothing else: no clock, no law, no check, no digest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import measure
from measure import Figure, Key, Row, Scale, Timings, cpu

LOG = "CREATE TABLE log (op INTEGER PRIMARY KEY, table_no, kind, base, hlc, v0, v1, v2, v3, v4, o1, o2, o3, o4);"
TRIGGERS = {
    "an empty trigger": "SELECT 1;",
    "a trigger that copies the row": "INSERT INTO log (table_no, v0, v1, v2, v3, v4) "
    "VALUES (1, NEW.id, NEW.title, NEW.body, NEW.amount, NEW.price);",
}
STEPS = {
    "the log copied to another file": "INSERT INTO bundle.log SELECT * FROM log",
    "the log copied from another file": "INSERT INTO log SELECT * FROM bundle.log",
    "the rows taken out of the log": "INSERT INTO items SELECT v0, v1, v2, v3, v4 FROM log",
}


def figures(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Measure the floor of capture, generate and import, against a plain bulk insert."""
    for key in measure.KEYS:
        rows = key.rows(scale.rows)
        rounds = [_round(folder, key, rows) for _ in range(scale.rounds)]
        for step in rounds[0]:
            if step != "plain":
                yield measure.ratio(f"floor: {step}, {key.name}", None, rounds, (step, "plain"), len(rows))


def _round(folder: Path, key: Key, rows: Sequence[Row]) -> Timings:
    timings = Timings()
    for name, body in {"plain": "", **TRIGGERS}.items():
        connection = measure.plain(folder / "floor.db", key.schema + ";" + LOG)
        if body:
            connection.execute(f"CREATE TRIGGER t AFTER INSERT ON items BEGIN {body} END")
        timings[name] = cpu(partial(measure.run_many, connection, measure.INSERT, rows))
        if name != "a trigger that copies the row":
            connection.close()
    connection.execute("DROP TRIGGER t")
    other = measure.remove(folder / "other.db")
    connection.execute("ATTACH ? AS bundle", (str(other),))
    connection.execute("PRAGMA bundle.synchronous = OFF")
    connection.execute(LOG.replace("TABLE log", "TABLE bundle.log"))
    for name, sql in STEPS.items():
        if "FROM bundle" in sql:
            connection.execute("DELETE FROM log")
            connection.execute("DELETE FROM items")
        timings[name] = cpu(partial(_at_once, connection, sql))
    connection.close()
    timings["a digest over the other file"] = cpu(lambda: sha256(other.read_bytes()).digest())
    return timings


def _at_once(connection: sqlite3.Connection, sql: str) -> None:
    connection.execute("BEGIN")
    connection.execute(sql)
    connection.execute("COMMIT")
