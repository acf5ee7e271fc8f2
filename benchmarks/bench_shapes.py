"""What capture costs by the shape of the table: columns, long values, keys, indexes, references."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import measure
from measure import Figure, Row, Scale, Timings, cpu

from sqlite_sync import SyncEngine

OWNERS = 1_000
OWNER = f"""
CREATE TABLE owners (id INTEGER PRIMARY KEY);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {OWNERS}) INSERT INTO owners SELECT i FROM n"""


class Shape(NamedTuple):
    """A table `items`, its rows, and how many of them: a share of what five short columns get."""

    name: str
    schema: str
    rows: Callable[[int], list[Row]]
    share: float = 1
    where: str = "id = ?"
    before: str = ""
    in_order: bool = False  # of the keys, or all over the table

    @property
    def keys(self) -> int:
        """How many columns its key has."""
        return self.where.count("?")


def _columns(count: int) -> Shape:
    names = ", ".join(f"{'amount' if n == 0 else f'c{n}'} {('INTEGER', 'TEXT')[n % 2]}" for n in range(count - 1))

    def rows(wanted: int) -> list[Row]:
        return [(i, *(f"text {i}" if n % 2 else i for n in range(count - 1))) for i in range(1, wanted + 1)]

    return Shape(f"{count} columns", f"CREATE TABLE items (id INTEGER PRIMARY KEY, {names})", rows, min(1, 10 / count))


def _long(count: int) -> list[Row]:
    return [(key, title, body * 135, amount, price) for key, title, body, amount, price in measure.integer_rows(count)]


def _pairs(count: int) -> list[Row]:
    return [(f"part {row[0] % 7}", *row) for row in measure.integer_rows(count)]


def _owned(count: int) -> list[Row]:
    rows = measure.integer_rows(count)
    return [(key, title, body, amount % OWNERS + 1, price) for key, title, body, amount, price in rows]


FIVE = measure.INTEGER.schema
SHAPES = (
    *map(_columns, (2, 5, 20, 100)),
    Shape("text of 10 kB", FIVE, _long, 0.1),
    Shape("integer key", FIVE, measure.integer_rows),
    Shape("integer key, one after the other", FIVE, measure.integer_rows, in_order=True),
    Shape("UUID key", measure.UUID_TEXT.schema, measure.uuid_rows),
    Shape(
        "composite key",
        f"CREATE TABLE items (part TEXT, id INTEGER, {measure.COLUMNS}, PRIMARY KEY (part, id))",
        *(_pairs, 1, "part = ? AND id = ?"),
    ),
    Shape("UNIQUE text", FIVE.replace("body TEXT", "body TEXT UNIQUE"), measure.integer_rows),
    Shape(
        "foreign key",
        FIVE.replace("amount INTEGER", "amount INTEGER REFERENCES owners"),
        *(_owned, 1, "id = ?", OWNER),
    ),
)


def figures(scale: Scale, folder: Path) -> Iterator[Figure]:
    """Measure capture on each shape."""
    for shape in SHAPES:
        rows = shape.rows(int(scale.rows * shape.share))
        rounds = [_statements(folder, shape, rows) for _ in range(scale.rounds)]
        for statement in ("insert", "update by key", "update of all rows", "delete by key"):
            names = (f"captured {statement}", f"plain {statement}")
            name = f"capture: {statement}, {shape.name}"
            yield measure.ratio(name, None, rounds, names, len(rows))._replace(
                series=f"shapes: {statement}", x=shape.name
            )


def _statements(folder: Path, shape: Shape, rows: list[Row]) -> Timings:
    plain, engine = measure.plain(folder / "plain.db", shape.schema), SyncEngine(measure.remove(folder / "captured.db"))
    measure.prepare(engine.connection, shape.schema)
    for connection in (plain, engine.connection):
        connection.executescript(shape.before)
        connection.execute("PRAGMA foreign_keys = ON")
    engine.initialize()
    engine.enable_sync_for_table("items", keys="natural")
    keys = [row[: shape.keys] for row in rows]
    if not shape.in_order:
        keys.sort(key=lambda key: sha256(repr(key).encode()).digest())
    marks = ", ".join("?" for _ in rows[0])
    timings = Timings()
    for statement, sql, values in (
        ("insert", f"INSERT INTO items VALUES ({marks})", rows),
        (
            "update by key",
            f"UPDATE items SET amount = ? WHERE {shape.where}",
            [(i % OWNERS + 1, *key) for i, key in enumerate(keys)],
        ),
        ("update of all rows", f"UPDATE items SET amount = {OWNERS} - amount % {OWNERS}", [()]),
        ("delete by key", f"DELETE FROM items WHERE {shape.where}", keys),
    ):
        for name, connection in (("plain", plain), ("captured", engine.connection)):
            timings[f"{name} {statement}"] = cpu(partial(measure.run_many, connection, sql, values))
    plain.close()
    engine.close()
    return timings
