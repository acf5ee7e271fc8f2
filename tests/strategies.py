"""What the properties draw from: values of all five storage classes, rows, vector clocks, and statements of SQL."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from model import Row, Write
from sqlite_sync import RawText

MAX_INT, MIN_INT = 2**63 - 1, -(2**63)

TRICKY_INTS = [
    0,
    1,
    -1,
    127,
    128,
    255,
    256,
    -32,
    -33,
    2**31,
    2**53,
    2**53 + 1,
    -(2**53) - 1,
    MAX_INT,
    MAX_INT - 1,
    MIN_INT,
]
TRICKY_FLOATS = [
    0.0,
    -0.0,
    1.0,
    0.1 + 0.2,
    5e-324,
    -5e-324,
    1e308,
    2.0**53,
    2.0**63,
    -(2.0**63),
    1e15,
    math.inf,
    -math.inf,
]
TRICKY_TEXTS = [
    "",
    "\0",
    "a\0b",
    "a\0c",
    "1",
    "1.0",
    "1e3",
    " 1",
    "a",
    "A",
    "a ",
    "é",
    "e\u0301",
    "ß",
    "İ",
    "\ufffd",
    "\uffff",
    "🜁",
    "'",
    '"',
]
TRICKY_BLOBS = [b"", b"\0", b"a", b"1", b"\xff", "é".encode(), "é".encode("utf-16-le")]
TRICKY_RAW_TEXTS = [RawText(b"\xff"), RawText(b"a\x80"), RawText(b"\xed\xa0\x80"), RawText(b"\0\xc3")]

ints = st.sampled_from(TRICKY_INTS) | st.integers(MIN_INT, MAX_INT)
floats = st.sampled_from(TRICKY_FLOATS) | st.floats(allow_nan=False)
texts = st.sampled_from(TRICKY_TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
blobs = st.sampled_from(TRICKY_BLOBS) | st.binary(max_size=20)
raw_texts = st.sampled_from(TRICKY_RAW_TEXTS)

values = st.none() | ints | floats | texts | blobs | raw_texts
rows = st.lists(values, max_size=8).map(tuple)

device_ids = st.integers(1, 5).map(lambda number: number.to_bytes(16, "big"))
clocks = st.dictionaries(device_ids, st.integers(0, 5))


@dataclass(frozen=True)
class Table:
    """A table of the convergence machine; `columns` are (name, type), `key` names its key columns."""

    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    options: str
    keys: tuple[tuple[object, ...], ...]

    @property
    def payload(self) -> list[str]:
        return [name for name, _ in self.columns if name not in self.key]

    def create(self, *, is_reversed: bool) -> str:
        """Render it; with the columns the other way round, since two devices need not declare them alike."""
        inside = [f"{quote(name)} {type_}" for name, type_ in self.columns]
        key = "" if "PRIMARY KEY" in "".join(inside) else f", PRIMARY KEY ({', '.join(map(quote, self.key))})"
        return f"CREATE TABLE {self.name} ({', '.join(inside[::-1] if is_reversed else inside)}{key}){self.options}"


NOTES = Table(
    "notes",
    (("id", "TEXT PRIMARY KEY"), ("title", "TEXT"), ("score", "REAL"), ("anything", ""), ("done", "INTEGER DEFAULT 0")),
    ("id",),
    "",
    (("a",), ("b",), ("",), ("é\0z",), (RawText(b"\xff"),)),
)
LINKS = Table(
    "links",
    (("source", "TEXT COLLATE NOCASE"), ("target", ""), ("weight", "NUMERIC"), ('odd "name"', "BLOB")),
    ("source", "target"),
    " WITHOUT ROWID",
    (("x", 1), ("X", 1), ("X", 1.0), ("x", "1"), ("y", b"1"), ("y", 2**53 + 1)),
)
COUNTERS = Table(
    "counters", (("id", "INTEGER PRIMARY KEY"), ("name", ""), ("n", "INTEGER")), ("id",), "", ((1,), (2,), (3,), (-7,))
)
TABLES = (NOTES, LINKS, COUNTERS)

# Few values, so that two devices often write the same; and now and then any.
common_values = st.sampled_from([0, 1, 1.0, "1", b"1", None])
cell_values = common_values | common_values | values


@dataclass(frozen=True)
class Statement:
    """One statement of SQL, with its parameters; it may fail by a constraint."""

    sql: str
    parameters: tuple[object, ...] = ()

    def bound(self) -> tuple[str, tuple[object, ...]]:
        """Return both as `sqlite3` takes them: TEXT that is no UTF-8 goes in as bytes and is cast."""
        pieces = self.sql.split("?")
        marks = ["CAST(? AS TEXT)" if isinstance(one, RawText) else "?" for one in self.parameters]
        plain = tuple(bytes(one) if isinstance(one, RawText) else one for one in self.parameters)
        return "".join(piece + mark for piece, mark in zip(pieces, [*marks, ""], strict=True)), plain


def keys(table: Table) -> st.SearchStrategy[tuple[object, ...]]:
    """Draw a key; mostly one of the first two, so that devices meet on a row."""
    return st.sampled_from([*table.keys[:2] * 3, *table.keys])


@st.composite
def statements(draw: st.DrawFn) -> Statement:
    """Draw any kind of statement that writes to one of the tables."""
    table = draw(st.sampled_from(TABLES))
    return draw(st.one_of(sweeps(table), *[keys(table).flatmap(lambda key: on_row(table, key))] * 5))


@st.composite
def on_row(draw: st.DrawFn, table: Table, key: tuple[object, ...]) -> Statement:
    """Draw a statement on one row, if it is there."""
    verb = draw(st.sampled_from([insert, insert, insert, update, update, update, delete, rekey]))
    return draw(verb(table, key))


@st.composite
def insert(draw: st.DrawFn, table: Table, key: tuple[object, ...]) -> Statement:
    names = [*table.key, *draw(st.lists(st.sampled_from(table.payload), unique=True))]
    parameters = (*key, *(draw(cell_values) for _ in names[len(table.key) :]))
    how = draw(st.sampled_from(["INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE", "REPLACE", "UPSERT"]))
    if how == "INSERT" and table is COUNTERS and draw(st.booleans()):
        names, parameters = names[1:] or ["n"], parameters[1:] or (5,)  # the next rowid
    columns, marks = ", ".join(map(quote, names)), ", ".join("?" * len(names))
    verb = "INSERT" if how == "UPSERT" else how
    sql = f"{verb} INTO {table.name} ({columns}) VALUES ({marks})"
    if how == "UPSERT":
        updates = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in names)
        sql += f" ON CONFLICT ({', '.join(map(quote, table.key))}) DO UPDATE SET {updates}"
    return Statement(sql, parameters)


@st.composite
def update(draw: st.DrawFn, table: Table, key: tuple[object, ...]) -> Statement:
    names = draw(st.lists(st.sampled_from(table.payload), unique=True, min_size=1))
    changes = ", ".join(f"{quote(name)} = ?" for name in names)
    return Statement(
        f"UPDATE {table.name} SET {changes} WHERE {_where(table)}", (*(draw(cell_values) for _ in names), *key)
    )


def delete(table: Table, key: tuple[object, ...]) -> st.SearchStrategy[Statement]:
    return st.just(Statement(f"DELETE FROM {table.name} WHERE {_where(table)}", key))


@st.composite
def rekey(draw: st.DrawFn, table: Table, key: tuple[object, ...]) -> Statement:
    """Change a key, or its spelling; on the way another row may be displaced."""
    how = draw(st.sampled_from(["UPDATE", "UPDATE OR REPLACE", "UPDATE OR IGNORE"]))
    changes = ", ".join(f"{quote(name)} = ?" for name in table.key)
    return Statement(f"{how} {table.name} SET {changes} WHERE {_where(table)}", (*draw(keys(table)), *key))


def sweeps(table: Table) -> st.SearchStrategy[Statement]:
    """Draw a statement that touches many rows."""
    first, last, key = quote(table.payload[0]), quote(table.payload[-1]), quote(table.key[0])
    shift = f"UPDATE OR IGNORE {table.name} SET {key} = upper({key})"
    if table is COUNTERS:
        shift = "UPDATE OR REPLACE counters SET id = id + 1"
    found = st.sampled_from([
        f"UPDATE {table.name} SET {first} = ?",
        f"UPDATE {table.name} SET {first} = ? WHERE {key} <> 'a'",
        f"UPDATE {table.name} SET {first} = {last}",
        f"UPDATE {table.name} SET {first} = {first}",
        shift,
        f"DELETE FROM {table.name}",
    ])  # fmt: skip
    return st.builds(lambda sql, value: Statement(sql, (value,) if "?" in sql else ()), found, cell_values)


Quarrel = tuple[list[Statement], list[Statement]]


def _scripts(table: Table, key: tuple[object, ...]) -> st.SearchStrategy[Quarrel]:
    script = st.lists(on_row(table, key), min_size=1, max_size=3)
    return st.tuples(script, script)


# What two devices do to one row.
quarrels = st.sampled_from(TABLES).flatmap(lambda table: keys(table).flatmap(lambda key: _scripts(table, key)))


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _where(table: Table) -> str:
    return " AND ".join(f"{quote(name)} = ?" for name in table.key)


# --- histories of one row, for the pure modules -----------------------------------------------------------------------

ROW_COLUMNS = ("k", "x", "y")


@dataclass
class _Author:
    """A device that writes to one row, and what it has in front of it: a model of capture and import."""

    device: bytes
    known: dict[bytes, Write]
    context: dict[bytes, int]
    hlc: int = 0
    seq: int = 0
    base: bytes | None = None
    image: Mapping[str, object] | None = None

    def settle(self) -> None:
        """Look at the row: its shown version, and whether that has a rival."""
        if self.known:
            row = Row(self.known.values())
            self.base = row.shown.op_id if row.conflicts else None
            self.image = row.image

    def write(self, kind: str, new: dict[str, object], step: int) -> None:
        self.seq += 1
        self.hlc = max(self.hlc, max((one.hlc for one in self.known.values()), default=0)) + step
        base = None if kind.startswith("resolve") else self.base
        write = Write(self.device, self.seq, self.hlc, "t", "k", kind, new, base, dict(self.context))
        self.known[write.op_id] = write
        self.image = None if kind.endswith("delete") else {**(self.image or {}), **new}
        if kind.startswith("resolve"):
            self.settle()

    def receive(self, other: _Author) -> None:
        other.settle()
        self.known |= other.known
        for device, seq in [*other.context.items(), (other.device, other.seq)]:
            if device != self.device:
                self.context[device] = max(self.context.get(device, 0), seq)
        self.settle()


@st.composite
def histories(draw: st.DrawFn) -> list[Write]:
    """Draw what two to four devices that exchange now and then write to one row."""
    authors = [_Author(bytes([number]) * 16, {}, {}) for number in range(1, draw(st.integers(2, 4)) + 1)]
    for author in authors:
        author.device = bytes([draw(st.integers(0, 255)), author.device[0]]) * 8  # ids in any order
    authors[0].write("insert", {"k": "k", "x": draw(common_values), "y": 0}, 1)
    places = st.integers(0, len(authors) - 1)
    for _ in range(draw(st.integers(1, 14))):
        author, other = authors[draw(places)], authors[draw(places)]
        if author is not other and draw(st.booleans()):
            author.receive(other)
            continue
        if draw(st.booleans()):
            author.settle()
        kinds = ["insert"] if author.image is None else ["update", "update", "update", "delete", "insert"]
        kind = draw(st.sampled_from(kinds if author.base is None else [*kinds, "resolve", "resolve-delete"]))
        names = ROW_COLUMNS[1:] if kind in ("insert", "resolve") else draw(_changed_columns) if kind == "update" else []
        new: dict[str, object] = {name: draw(common_values) for name in names}
        if kind in ("insert", "resolve"):
            new = {"k": "k", **new}
        author.write(kind, new, draw(st.sampled_from([1, 1, 1, 5, 1000])))
    everything = {op_id: write for author in authors for op_id, write in author.known.items()}
    return sorted(everything.values(), key=lambda write: write.order)


_changed_columns = st.lists(st.sampled_from(ROW_COLUMNS[1:]), unique=True, min_size=1)
