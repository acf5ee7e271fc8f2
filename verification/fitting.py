"""Values that fit a schema: from its rows, from the literals of its text, from its types; the database has the say."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from sqlite_sync import RawText
from verification.subject import Column, Subject, Table, quote

SAMPLES = 30
ROWS_WANTED = 12
ROWS_TRIED = 400
KEYS = 5
_STRING = re.compile(r"'((?:[^']|'')*)'")
_NUMBER = re.compile(r"(?<![\w.'])-?\d+(?:\.\d+)?(?![\w.'])")

INTEGERS: list[object] = [0, 1, 2, 3, -1, 2**53 + 1]
REALS: list[object] = [0.0, 1.0, 0.1 + 0.2, -1e308, 2.5]
TEXTS: list[object] = ["a", "b", "A", "", "é", "it's", "10", "a "]
BLOBS: list[object] = [b"", b"a", b"\x00\xff"]
DATES: list[object] = ["2024-02-29", "2024-02-29 12:00:00", "1999-12-31 23:59:59", "2031-01-01T00:00:00Z"]

Row = dict[str, object]


def of_type(declared: str) -> list[object]:
    """Return values for a declared type, by SQLite's rules for affinities, and by what people mean."""
    words = declared.upper()
    if "BOOL" in words:
        return [0, 1]
    if "DATE" in words or "TIME" in words:
        return DATES
    if "INT" in words:
        return INTEGERS
    if any(word in words for word in ("CHAR", "CLOB", "TEXT")):
        return TEXTS
    if "BLOB" in words:
        return BLOBS
    if any(word in words for word in ("REAL", "FLOA", "DOUB")):
        return REALS
    return [*INTEGERS[:3], *REALS[2:4], *TEXTS[:4], BLOBS[2], "1"]


def literals(sql: str) -> list[object]:
    """Return the strings and numbers that stand in a table's text: what a CHECK allows is often named there."""
    strings = [text.replace("''", "'") for text in _STRING.findall(sql)]
    numbers = [float(text) if "." in text else int(text) for text in _NUMBER.findall(_STRING.sub("", sql))]
    near = [number + step for number in numbers if isinstance(number, int) for step in (0, 1, -1)]
    return [*strings, *near, *(number for number in numbers if isinstance(number, float))]


@dataclass
class Fitting:
    """What to write into each table: candidates by column, and rows that its constraints are known to accept."""

    subject: Subject
    pools: dict[tuple[str, str], list[object]] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    complaints: dict[str, str] = field(default_factory=dict)  # tables that accept no row that was made, and why

    def value(self, table: Table, column: Column, chance: Random) -> object:
        """Choose a value for a column, most often one that was accepted before."""
        known = [row[column.name] for row in self.rows.get(table.name, ()) if column.name in row]
        is_known = bool(known) and column.name not in table.key and often(chance)
        return chance.choice(known if is_known else self.pools[table.name, column.name])

    def row(self, table: Table, chance: Random, parents: Sequence[Sequence[Row]] = ()) -> Row:
        """Make a row, most often from one that fits and with a parent for each reference."""
        known = self.rows.get(table.name)
        base = dict(chance.choice(known)) if known and often(chance) else {}
        for column in table.columns:
            if column.name not in base or column.name in table.key or seldom(chance):
                base[column.name] = self.value(table, column, chance)
        for some in parents:
            if some and often(chance):
                base |= chance.choice(some)
        for column in table.columns:  # a default is left to the database now and then
            if column.default is not None and column.name not in table.key and seldom(chance):
                base.pop(column.name, None)
        return base


def often(chance: Random) -> bool:
    """Say yes three times in four."""
    return chance.randrange(4) > 0


def seldom(chance: Random) -> bool:
    """Say yes once in four."""
    return chance.randrange(4) == 0


def fit(subject: Subject) -> Fitting:
    """Find values for a schema, by trying them on a copy that is thrown away."""
    fitting = Fitting(subject)
    connection = subject.connect(":memory:")
    try:
        source = subject.connect(subject.template)
        source.backup(connection)
        source.close()
        for table in subject.tables:
            _collect(fitting, connection, table)
        for table in subject.tables:
            _link(fitting, table)
        for table in subject.tables:
            _probe(fitting, connection, table)
    finally:
        connection.close()
    return fitting


def _collect(fitting: Fitting, connection: sqlite3.Connection, table: Table) -> None:
    columns = ", ".join(map(quote, table.names))
    found = connection.execute(f"SELECT {columns} FROM {quote(table.name)} LIMIT {SAMPLES}").fetchall()
    fitting.rows[table.name] = [dict(zip(table.names, row, strict=True)) for row in found]
    said = literals(table.sql)
    for column in table.columns:
        samples = [row[column.name] for row in fitting.rows[table.name]]
        fitting_type = [value for value in said if isinstance(value, str) or not _is_text(column)]
        candidates = [*samples[:12], *of_type(column.declared), *fitting_type]
        if not column.is_required:
            candidates += [None, None]
        if column.name in table.key:
            candidates = _keys(table, samples, candidates)
        fitting.pools[table.name, column.name] = _distinct(candidates)


def _keys(table: Table, samples: Sequence[object], candidates: Sequence[object]) -> list[object]:
    """Choose few key values, so that devices write to the same rows: of rows that are there, and others like them."""
    there = _distinct(value for value in samples if value is not None)[:KEYS]
    alike = [made for value in there for made in like(value)]
    made = _distinct([*alike, *(value for value in candidates if value is not None and value not in there)])
    if table.has_number_key:
        made = [value for value in made if isinstance(value, int)]
    most = KEYS if len(table.key) == 1 else 3
    return [*there[:3], *made[: most - len(there[:3])]] or list(candidates)


def like(value: object) -> list[object]:
    """Make values that look like a value."""
    if isinstance(value, int | float):
        return [value + 1000]
    if isinstance(value, str) and value:
        return [value[:-1] + ("b" if value[-1] == "a" else "a")]
    if isinstance(value, bytes) and value:
        return [value[:-1] + bytes([value[-1] ^ 1])]
    return []


def _is_text(column: Column) -> bool:
    return of_type(column.declared) is TEXTS


def _distinct(values: Iterable[object]) -> list[object]:
    return list({(type(value), value): value for value in values}.values())


def _link(fitting: Fitting, table: Table) -> None:
    """Let a reference take the keys that its parent takes."""
    for reference in table.references:
        for column, target in zip(reference.columns, reference.targets, strict=False):
            pool = fitting.pools.get((reference.parent, target))
            if pool and column in table.names:
                own = fitting.pools[table.name, column]
                fitting.pools[table.name, column] = [*pool, *([None] if None in own else [])]


def _probe(fitting: Fitting, connection: sqlite3.Connection, table: Table) -> None:
    """Keep rows that the table accepts, one at a time."""
    chance = Random(table.name)  # noqa: S311  # the same rows in every run
    complaint = ""
    for _ in range(ROWS_TRIED):
        if len(fitting.rows[table.name]) >= ROWS_WANTED + SAMPLES // 2:
            break
        row = fitting.row(table, chance)
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        connection.execute("BEGIN")
        try:
            connection.execute(insert(table.name, row))
        except sqlite3.Error as error:
            complaint = str(error)
        else:
            fitting.rows[table.name].append(row)
    with suppress(sqlite3.Error):
        connection.execute("ROLLBACK")
    if not fitting.rows[table.name]:
        fitting.complaints[table.name] = complaint


def insert(table: str, row: Row, verb: str = "INSERT") -> str:
    """Render an insert."""
    if not row:
        return f"{verb} INTO {quote(table)} DEFAULT VALUES"
    names, values = ", ".join(map(quote, row)), ", ".join(map(literal, row.values()))
    return f"{verb} INTO {quote(table)} ({names}) VALUES ({values})"


def literal(value: object) -> str:
    """Render a value as SQL, exactly."""
    match value:
        case None:
            return "NULL"
        case bool() | int():
            return str(int(value))
        case float():
            return repr(value).replace("inf", "9e999")
        case RawText():
            return f"CAST(x'{bytes(value).hex()}' AS TEXT)"
        case bytes():
            return f"x'{value.hex()}'"
        case str() if "\x00" not in value:
            return "'" + value.replace("'", "''") + "'"
        case str():
            return f"CAST(x'{value.encode().hex()}' AS TEXT)"
    msg = f"no value of SQLite's: {value!r}"
    raise TypeError(msg)
