"""Values that fit a schema: from its rows, from the literals of its text, from its types; the database has the say."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Sequence
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


OF_TYPES: list[tuple[tuple[str, ...], list[object]]] = [  # the first that the declared type contains
    (("BOOL",), [0, 1]),
    (("DATE", "TIME"), DATES),
    (("INT",), INTEGERS),
    (("CHAR", "CLOB", "TEXT"), TEXTS),
    (("BLOB",), BLOBS),
    (("REAL", "FLOA", "DOUB"), REALS),
]
ANYTHING: list[object] = [*INTEGERS[:3], *REALS[2:4], *TEXTS[:4], BLOBS[2], "1"]


def of_type(declared: str) -> list[object]:
    """Return values for a declared type, by SQLite's rules for affinities, and by what people mean."""
    words = declared.upper()
    return next((values for parts, values in OF_TYPES if any(part in words for part in parts)), ANYTHING)


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
    """Keep rows that the table accepts, each alone; then such a row with every other value that a column accepts."""
    chance = Random(table.name)  # noqa: S311  # the same rows in every run
    rows, complaint = fitting.rows[table.name], ""
    for _ in range(ROWS_TRIED):
        if len(rows) >= ROWS_WANTED:
            break
        row = fitting.row(table, chance)
        refusal = _refusal(connection, table, row)
        complaint = refusal or complaint
        if refusal is None:
            rows.append(row)
    if not rows:
        fitting.complaints[table.name] = complaint
        return
    for name in table.payload:
        for value in fitting.pools[table.name, name]:
            varied = {**chance.choice(rows), name: value}
            for key in table.key:
                varied[key] = chance.choice(fitting.pools[table.name, key])
            if _refusal(connection, table, varied) is None:
                rows.append(varied)


def _refusal(connection: sqlite3.Connection, table: Table, row: Row) -> str | None:
    """Try to insert a row, and undo it; say why it was refused."""
    connection.execute("BEGIN")
    try:
        connection.execute(insert(table.name, row))
    except sqlite3.Error as error:
        return str(error)
    else:
        return None
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


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
            found = "NULL"
        case int():
            found = str(int(value))
        case float():
            found = repr(value).replace("inf", "9e999")
        case RawText():
            found = f"CAST(x'{bytes(value).hex()}' AS TEXT)"
        case bytes():
            found = f"x'{value.hex()}'"
        case str():
            quoted = value.replace("'", "''")
            found = f"CAST(x'{value.encode().hex()}' AS TEXT)" if "\x00" in value else f"'{quoted}'"
        case _:
            msg = f"no value of SQLite's: {value!r}"
            raise TypeError(msg)
    return found
