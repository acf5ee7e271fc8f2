"""Promise 9: whatever SQL wrote a table, replaying the log gives exactly that table.

Hypothesis makes a schema and a run of statements. A plain file without sync runs the same statements and must come out
the same, statement by statement: sync is invisible to the application. Two devices take turns in running them, a third
gets everything at once in the end, and a replayer that knows nothing of SQLite reads the log. All five must agree.
"""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, example, given, note, settings
from hypothesis import strategies as st

from sqlite_sync import BundleError, Operation, RawText, SyncEngine

EXAMPLES = int(os.environ.get("SQLITE_SYNC_EXAMPLES", "200"))

TABLE_NAMES = [
    "t",
    "new",
    "old",
    "select",
    "my table",
    'quo"te',
    "ünï 表",
    "main",
    "k",
    "sync",
    "it's",
    "x]y",
    "excluded",
    "",
]
COLUMN_NAMES = [
    "a", "rowid", "oid", "_rowid_", "op", "hlc", "kind", "v0", "o0", "base", "new", "old", "key", 'quo"te', "sp ace", "Ünï",
    "order", "table_no", "k0", "fork", "it's", "f", "r", "c", "row", "", "\n",
]  # fmt: skip
KEY_TYPES = ["TEXT", "BLOB", "REAL", "", "NUMERIC", "INT", "VARCHAR(9)", "ANY", "INTEGER"]
PAYLOAD_TYPES = [
    "",
    "INTEGER",
    "TEXT",
    "REAL",
    "BLOB",
    "NUMERIC",
    "ANY",
    "DATETIME",
    "BOOLEAN",
    "DOUBLE PRECISION",
    "STRING",
]
STRICT_TYPES = ["INTEGER", "TEXT", "REAL", "BLOB", "ANY", "INT"]

Value = int | float | str | bytes | None


def text(name: str | bytes) -> str:
    """Return a name as text, also where texts are read as bytes."""
    return name.decode() if isinstance(name, bytes) else name


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Column:
    name: str
    declared: str
    collation: str
    constraint: str = ""
    is_generated: bool = False

    @property
    def sql(self) -> str:
        return quoted(self.name)

    @property
    def definition(self) -> str:
        return " ".join(filter(None, (self.sql, self.declared, self.collation, self.constraint)))


@dataclass(frozen=True)
class Table:
    name: str
    key: tuple[Column, ...]
    payload: tuple[Column, ...]
    options: str
    constraints: tuple[str, ...]
    indexes: tuple[str, ...]
    is_alias: bool

    @property
    def sql(self) -> str:
        return quoted(self.name)

    @property
    def columns(self) -> tuple[Column, ...]:
        return (*self.key, *(column for column in self.payload if not column.is_generated))

    @property
    def schema(self) -> str:
        if self.is_alias:
            columns = [f"{self.key[0].sql} INTEGER PRIMARY KEY", *(column.definition for column in self.payload)]
        else:
            columns = [column.definition for column in (*self.key, *self.payload)]
            columns.append(f"PRIMARY KEY ({', '.join(column.sql for column in self.key)})")
        return f"CREATE TABLE {self.sql} ({', '.join((*columns, *self.constraints))}) {self.options}"


# --- strategies ---------------------------------------------------------------------------------------------------

texts = st.one_of(
    st.sampled_from(
        ["", "a", "A", "a ", "b", "B", "1", "1.0", "1e3", " 1", "0x10", "é", "É", "a\0b", "a\0c", "\0", "😀", "x" * 300]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**63 - 1, -(2**63), 2**53 + 1, 2**53, 2**31, 1000]),
    st.sampled_from(
        [
            1.0,
            2.0,
            0.1 + 0.2,
            1e308,
            float("inf"),
            float("-inf"),
            5e-324,
            2.0**53,
            -(2.0**63),
            2.0**63,
            1000.0,
            0.5,
            float("nan"),
        ]
    ),
    st.floats().map(lambda real: real + 0.0),  # not -0.0, see SPEC.md section 14
    st.integers(-(2**63), 2**63 - 1),
)
blobs = st.one_of(st.sampled_from([b"", b"a", b"\x00", b"1", b"\xff"]), st.binary(max_size=5))
raw_texts = st.sampled_from([RawText(b"\xff"), RawText(b"a\xfe"), RawText(b"A\xfe"), RawText(b"\xc3")])
few = st.sampled_from([1, 2, 3, "a", "A", "b", 1.0])  # so that rows meet
by_type = {
    "INTEGER": st.one_of(st.integers(0, 4), st.integers(-(2**63), 2**63 - 1)),
    "INT": st.one_of(st.integers(0, 4), st.integers(-(2**63), 2**63 - 1)),
    "TEXT": st.one_of(st.sampled_from(["a", "A", "b", "a "]), texts, raw_texts),
    "REAL": st.one_of(st.integers(0, 4), numbers),
    "BLOB": blobs,
}
key_values = st.one_of(few, few, few, texts, numbers, blobs, raw_texts)
values = st.one_of(few, st.none(), texts, numbers, blobs, raw_texts)


@st.composite
def tables(draw: st.DrawFn, name: str, parent: Table | None) -> Table:
    names = draw(st.lists(st.sampled_from(COLUMN_NAMES), min_size=3, max_size=6, unique_by=str.lower))
    is_strict = draw(st.booleans())
    without_rowid = draw(st.booleans())
    collations = st.sampled_from(["", "", "COLLATE NOCASE", "COLLATE RTRIM"])
    is_alias = not without_rowid and draw(st.integers(0, 2)) == 0
    width = 1 if is_alias else draw(st.integers(1, 2))
    key_types = st.sampled_from(STRICT_TYPES if is_strict else KEY_TYPES)
    # Behind NOT NULL a key of NULL fails as the application expects; elsewhere sync refuses it.
    key = tuple(
        Column(one, "INTEGER", "")
        if is_alias
        else Column(one, draw(key_types), draw(collations), draw(st.sampled_from(["", "NOT NULL"])))
        for one in names[:width]
    )
    payload_types = st.sampled_from(STRICT_TYPES if is_strict else PAYLOAD_TYPES)
    rules = st.sampled_from(
        [
            "",
            "",
            "",
            "NOT NULL DEFAULT 1",
            "DEFAULT 'd'",
            "DEFAULT 7",
            "CHECK ({0} IS NULL OR {0} <> 2)",
            "DEFAULT (1 + 1)",
        ]
    )
    payload = [
        Column(one, draw(payload_types), draw(collations), draw(rules).format(quoted(one))) for one in names[width:]
    ]
    for kind in draw(st.lists(st.sampled_from(["STORED", "VIRTUAL"]), max_size=2, unique=True)):
        expression = f"GENERATED ALWAYS AS (typeof({payload[0].sql})) {kind}"
        payload.append(Column(f"g {kind}", "TEXT" if is_strict else "", "", expression, is_generated=True))
    constraints, indexes = [], []
    if draw(st.integers(0, 2)) == 0:
        constraints.append(
            f"UNIQUE ({payload[0].sql}){draw(st.sampled_from(['', '', ' ON CONFLICT REPLACE', ' ON CONFLICT IGNORE']))}"
        )
    if draw(st.integers(0, 2)) == 0:
        shape = draw(
            st.sampled_from(
                ["{0}, {1}", "{0} COLLATE NOCASE", "{0}) WHERE ({0} IS NOT 1", "typeof({0}), {0}", "{0} || 'x'"]
            )
        )
        on = f"{quoted(name)} ({shape.format(payload[0].sql, key[0].sql)})"
        indexes.append(f"CREATE UNIQUE INDEX {quoted('unique ' + name)} ON {on}")
    if parent is not None:
        child = ", ".join(column.sql for column in payload[: len(parent.key)])
        deleted, updated = (
            draw(st.sampled_from(["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"])) for _ in range(2)
        )
        deferred = draw(st.sampled_from(["", " DEFERRABLE INITIALLY DEFERRED"]))
        if len(payload) >= len(parent.key) and not any(column.is_generated for column in payload[: len(parent.key)]):
            constraints.append(
                f"FOREIGN KEY ({child}) REFERENCES {parent.sql} ON DELETE {deleted} ON UPDATE {updated}{deferred}"
            )
    options = ", ".join(
        option for option, wanted in (("STRICT", is_strict), ("WITHOUT ROWID", without_rowid)) if wanted
    )
    return Table(name, key, tuple(payload), options, tuple(constraints), tuple(indexes), is_alias)


@st.composite
def schemas(draw: st.DrawFn) -> tuple[Table, ...]:
    names = draw(st.lists(st.sampled_from(TABLE_NAMES), min_size=1, max_size=2, unique=True))
    made: list[Table] = []
    for name in names:
        made.append(draw(tables(name, draw(st.sampled_from([None, *made])))))
    return tuple(made)


@dataclass(frozen=True, repr=False)
class Step:
    """A statement with its parameters, or what the devices do: "sync" or "pass" the pen."""

    sql: str
    parameters: tuple[Value, ...] = ()
    makes_rowid: bool = False

    def __repr__(self) -> str:
        return f"{self.sql}  {self.parameters!r}"


CONTROL = ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "RELEASE s", "sync", "pass"]
KINDS = ["insert", "update", "rekey", "delete", "upsert", "copy", "shift", "from", "swap"]


class Statements:
    """Draws statements on the tables of one schema."""

    def __init__(self, schema: Sequence[Table]) -> None:
        self._tables = st.sampled_from(list(schema))
        self._parameters: list[Value] = []

    def steps(self) -> st.SearchStrategy[list[Step]]:
        writes = [self._step(kind) for kind in [*KINDS, *KINDS, "insert", "update"]]
        return st.lists(st.one_of(*writes, st.sampled_from(CONTROL).map(Step)), max_size=14)

    def inserts(self, table: Table) -> st.SearchStrategy[Step]:
        return self._step("insert", st.just(table))

    def _step(self, kind: str, on: st.SearchStrategy[Table] | None = None) -> st.SearchStrategy[Step]:
        @st.composite
        def step(draw: st.DrawFn) -> Step:
            table = draw(self._tables if on is None else on)
            self._parameters = []
            sql = getattr(self, f"_{kind}")(draw, table)
            return Step(sql, tuple(self._parameters), kind == "insert" and "WITHOUT ROWID" not in table.options)

        return step()

    def _value(self, draw: st.DrawFn, from_: st.SearchStrategy[Value]) -> str:
        value = draw(from_)
        if isinstance(value, RawText):
            self._parameters.append(bytes(value))
            return "CAST(? AS TEXT)"
        self._parameters.append(value)
        return "?"

    def _any(self, draw: st.DrawFn, table: Table, column: Column) -> str:
        is_key = column in table.key
        fitting = (
            by_type.get(column.declared, values) if "STRICT" in table.options else key_values if is_key else values
        )
        if draw(st.integers(0, 19)) == 0:
            return self._value(draw, st.one_of(values, st.none()))  # which may be refused
        if is_key and table.is_alias:
            return self._value(draw, st.integers(1, 4))
        return self._value(draw, fitting)

    def _or(self, draw: st.DrawFn) -> str:
        return draw(st.sampled_from(["", "", " OR IGNORE", " OR FAIL", " OR ROLLBACK", " OR REPLACE", " OR REPLACE"]))

    def _where(self, draw: st.DrawFn, table: Table) -> str:
        column = draw(st.sampled_from(table.columns))
        which = draw(st.integers(0, 3))
        if which == 0:
            return ""
        if which == 1:
            return f" WHERE {column.sql} IS NOT {self._any(draw, table, column)}"
        column = table.key[0] if which == 2 else column
        return f" WHERE {column.sql} {draw(st.sampled_from(['=', '<', '>=']))} {self._any(draw, table, column)}"

    def _returning(self, draw: st.DrawFn) -> str:
        return " RETURNING *" if draw(st.integers(0, 9)) == 0 else ""

    def _insert(self, draw: st.DrawFn, table: Table) -> str:
        columns = [*table.key, *(c for c in table.columns if c not in table.key and draw(st.integers(0, 3)))]
        how = self._or(draw)
        rows = [", ".join(self._any(draw, table, column) for column in columns) for _ in range(draw(st.integers(1, 3)))]
        return f"INSERT{how} INTO {table.sql} ({', '.join(c.sql for c in columns)}) VALUES ({'), ('.join(rows)}){self._returning(draw)}"

    def _set(self, draw: st.DrawFn, table: Table, columns: Iterable[Column]) -> str:
        return ", ".join(f"{column.sql} = {self._any(draw, table, column)}" for column in columns)

    def _update(self, draw: st.DrawFn, table: Table) -> str:
        payload = [column for column in table.columns if column not in table.key]
        chosen = draw(st.lists(st.sampled_from(payload), min_size=1, unique=True))
        return f"UPDATE{self._or(draw)} {table.sql} SET {self._set(draw, table, chosen)}{self._where(draw, table)}{self._returning(draw)}"

    def _rekey(self, draw: st.DrawFn, table: Table) -> str:
        column = draw(st.sampled_from(table.key))
        name = column.sql
        if table.is_alias:
            taken = {one.name.lower() for one in table.payload}
            name = draw(st.sampled_from([name, *({"rowid", "oid", "_rowid_"} - taken)]))
        how = self._or(draw)
        return f"UPDATE{how} {table.sql} SET {name} = {self._any(draw, table, column)}{self._where(draw, table)}"

    def _shift(self, draw: st.DrawFn, table: Table) -> str:
        name = draw(st.sampled_from(table.key)).sql
        change = draw(
            st.sampled_from(
                ["{} + 1", "{} - 1", "0 - {}", "upper({})", "lower({})", "{} || ' '", "{} || 'z'", "CAST({} AS REAL)"]
            )
        )
        return f"UPDATE{self._or(draw)} {table.sql} SET {name} = {change.format(name)}{self._where(draw, table)}"

    def _swap(self, draw: st.DrawFn, table: Table) -> str:
        column = draw(st.sampled_from(table.columns))
        one, other = (draw(st.sampled_from([1, 2, "a", "b", -1])) for _ in range(2))
        self._parameters += [one, other, other, one]
        return f"UPDATE{self._or(draw)} {table.sql} SET {column.sql} = CASE {column.sql} WHEN ? THEN ? WHEN ? THEN ? ELSE {column.sql} END"

    def _delete(self, draw: st.DrawFn, table: Table) -> str:
        return f"DELETE FROM {table.sql}{self._where(draw, table)}{self._returning(draw)}"

    def _upsert(self, draw: st.DrawFn, table: Table) -> str:
        columns = table.columns
        row = ", ".join(self._any(draw, table, column) for column in columns)
        payload = draw(st.sampled_from([column for column in columns if column not in table.key]))
        action = f"DO UPDATE SET {payload.sql} = excluded.{payload.sql}" if draw(st.integers(0, 4)) else "DO NOTHING"
        target = ", ".join(column.sql for column in table.key)
        return f"INSERT INTO {table.sql} ({', '.join(c.sql for c in columns)}) VALUES ({row}) ON CONFLICT ({target}) {action}"

    def _copy(self, draw: st.DrawFn, table: Table) -> str:
        first = table.key[0]
        made = [f"{first.sql} {draw(st.sampled_from(['+ 10', '|| 1', '+ 0.5']))}", *(c.sql for c in table.columns[1:])]
        names = ", ".join(column.sql for column in table.columns)
        how = self._or(draw)
        return f"WITH few AS (SELECT * FROM {table.sql} LIMIT 4) INSERT{how} INTO {table.sql} ({names}) SELECT {', '.join(made)} FROM few WHERE true"

    def _from(self, draw: st.DrawFn, table: Table) -> str:
        other = draw(self._tables)
        payload = draw(st.sampled_from([column for column in table.columns if column not in table.key]))
        source = draw(st.sampled_from(other.columns))
        picked = f"(SELECT {source.sql} AS picked FROM {other.sql} ORDER BY 1 LIMIT 1) AS one"
        return (
            f"UPDATE{self._or(draw)} {table.sql} SET {payload.sql} = one.picked FROM {picked}{self._where(draw, table)}"
        )


@dataclass(frozen=True)
class Case:
    schema: tuple[Table, ...]
    steps: tuple[Step, ...]
    is_recursive: bool
    is_enabled_late: bool
    encodings: tuple[str, str, str]  # of the three devices' files


UTF_16 = ["UTF-16le", "UTF-16be"]
encodings = st.one_of(
    st.just(("UTF-8", "UTF-8", "UTF-8")),
    st.sampled_from(UTF_16).map(lambda one: (one, one, one)),
    st.tuples(*3 * [st.sampled_from(["UTF-8", *UTF_16])]),
)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    schema = draw(schemas())
    is_recursive = draw(st.booleans())
    statements = Statements(schema)
    first = [draw(statements.inserts(table)) for table in schema]
    steps = draw(statements.steps())
    return Case(schema, (*first, *steps), is_recursive, draw(st.integers(0, 4)) == 0, draw(encodings))


# --- what is compared ---------------------------------------------------------------------------------------------


def exact(value: Value) -> tuple[str, object]:
    """Tell values apart to the bit, as SQLite stores them."""
    match value:
        case None:
            return ("null", "")
        case float():
            return ("real", value.hex())
        case int():
            return ("integer", value)
        case str():
            return ("text", value.encode())
        case RawText():
            return ("text", bytes(value))
        case _:
            return ("blob", value)


def content(connection: sqlite3.Connection, table: Table) -> list[tuple[tuple[str, object], ...]]:
    """Read the columns that hold data, bit by bit, without regard to order."""
    factory = connection.text_factory
    connection.text_factory = _text
    try:
        rows = connection.execute(f"SELECT {', '.join(c.sql for c in table.columns)} FROM main.{table.sql}").fetchall()
    finally:
        connection.text_factory = factory
    return sorted((tuple(map(exact, row)) for row in rows), key=repr)


def _text(stored: bytes) -> str | RawText:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return RawText(stored)


def is_held_in_utf_16(value: Value) -> bool:
    """Tell whether SQLite gives a value back as it was when it is written into a file in UTF-16."""
    return not isinstance(value, RawText) and not (isinstance(value, str) and ("\ufffe" in value or "\uffff" in value))


class UnheldError(Exception):
    """A bundle was refused, as it must be, since the other file cannot hold one of its texts."""


class ChanceError(Exception):
    """SQLite took another rowid in each of two files."""


class Replayer:
    """Replays operations on dictionaries; knows nothing of SQLite but when two keys are the same."""

    def __init__(self, schema: Iterable[Table]) -> None:
        self._tables = {table.name: table for table in schema}
        self.rows: dict[str, dict[tuple[object, ...], dict[str, Value]]] = {name: {} for name in self._tables}

    def replay(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            rows, key = self.rows[operation.table_name], self._identity(operation)
            match operation.kind:
                case "insert":
                    rows[key] = dict(operation.new)
                case "update":
                    assert operation.new.keys() == operation.old.keys()
                    assert operation.new, "an update that changes nothing is no operation"
                    before = {name: exact(rows[key][name]) for name in operation.old}
                    assert before == {name: exact(value) for name, value in operation.old.items()}
                    rows[key] |= operation.new
                case "delete":
                    gone = rows.pop(key)
                    assert {name: exact(value) for name, value in gone.items()} == {
                        name: exact(value) for name, value in operation.old.items()
                    }
                case kind:
                    pytest.fail(f"nobody wrote a {kind}")

    def content(self, table: Table) -> list[tuple[tuple[str, object], ...]]:
        rows = self.rows[table.name].values()
        return sorted((tuple(exact(row[column.name]) for column in table.columns) for row in rows), key=repr)

    def _identity(self, operation: Operation) -> tuple[object, ...]:
        table = self._tables[operation.table_name]
        return tuple(_identity(operation.row_pk[column.name], column.collation) for column in table.key)


def _identity(value: Value, collation: str) -> tuple[str, object]:
    kind, stored = exact(value)
    if kind in ("integer", "real"):
        return ("number", value)
    if kind == "text":
        assert isinstance(stored, bytes)
        if collation.endswith("NOCASE"):  # which stops at the first NUL, and then compares lengths
            head, nul, _ = stored.partition(b"\0")
            return (kind, (head.lower(), len(stored) if nul else 0))
        if collation.endswith("RTRIM"):
            return (kind, stored.rstrip(b" "))
    return (kind, stored)


# --- the run ------------------------------------------------------------------------------------------------------


def connect(path: str, encoding: str = "UTF-8") -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA encoding = '{encoding}'")
    connection.execute("PRAGMA synchronous = OFF")
    return connection


HEADER = re.compile(r"CREATE TRIGGER .*? ON \"(?:[^\"]|\"\")*\"", re.DOTALL)  # of one of our triggers, without its WHEN


class Run:
    def __init__(self, case: Case, folder: Path, stack: ExitStack) -> None:
        self._case = case
        self._folder = folder
        self._stack = stack
        self.plain = self._stack.enter_context(closing(connect(":memory:", case.encodings[0])))
        self._prepare(self.plain)
        self._is_late = case.is_enabled_late
        self.devices = [self._device(0, is_enabled=not self._is_late), self._device(1)]
        self._put_inert_triggers()

    def _set(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA recursive_triggers = {self._case.is_recursive:d}")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        self._set(connection)
        for table in self._case.schema:
            for statement in (table.schema, *table.indexes):
                connection.execute(statement)

    def _device(self, number: int, *, is_enabled: bool = True) -> SyncEngine:
        connected = partial(connect, encoding=self._case.encodings[number])
        engine = self._stack.enter_context(SyncEngine(self._folder / f"{number}.db", connect=connected))
        self._prepare(engine.connection)
        engine.initialize()
        for table in self._case.schema if is_enabled else ():
            engine.enable_sync_for_table(table.name, keys="natural")
        return engine

    def _put_inert_triggers(self) -> None:
        """Give the plain file triggers like ours that do nothing.

        The order in which UPDATE goes through a table is SQLite's own choice, which any trigger can change; with OR
        IGNORE and OR REPLACE it decides which rows are left. That they could fail lets SQLite undo a statement that does.
        """
        triggers = self.devices[0].connection.execute(
            "SELECT sql, tbl_name FROM sqlite_schema WHERE type = 'trigger' AND name GLOB 'sync_*' AND tbl_name NOT GLOB 'sync_*'"
        )
        for sql, table in [tuple(map(text, row)) for row in triggers.fetchall()]:
            event = next(one for one in ("INSERT", "DELETE", "UPDATE") if f" {one}" in sql.split(" ON ")[0])
            rows = {"INSERT": ("NEW",), "DELETE": ("OLD",), "UPDATE": ("OLD", "NEW")}[event]
            names = self.plain.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
            read = ", ".join(f"{row}.{quoted(text(name))}" for (name,) in names for row in rows)
            if names:
                self.plain.execute(f"{HEADER.match(sql)[0]} BEGIN SELECT {read}, RAISE(ABORT, '') WHERE 0; END")  # type: ignore[index]

    def step(self, step: Step) -> None:
        if step.sql in ("sync", "pass"):
            self.meet()
            if step.sql == "pass":
                self.devices.reverse()
                self._align_rowids()
            return
        writer = self.devices[0].connection
        outcome = _outcome(writer, step)
        note(f"{step} -> {outcome}")
        event(
            f"{step.sql.split()[0]}: {'fails' if isinstance(outcome, str) else 'changes rows' if outcome[0] else 'finds nothing'}"
        )
        if isinstance(outcome, str) and outcome.startswith("NULL in the primary key of"):
            return  # refused by sync, and without a trace
        expected = _outcome(self.plain, step)
        if isinstance(outcome, str) and isinstance(expected, str):
            outcome = expected  # where two rules are broken, a BEFORE trigger decides which is found first
        self._require_no_chance(step)
        assert outcome == expected
        assert writer.in_transaction == self.plain.in_transaction

    def _require_no_chance(self, step: Step) -> None:
        """End the history where SQLite took a rowid at random, as it does behind the largest one."""
        writer = self.devices[0].connection
        for table in self._case.schema if step.sql.startswith("INSERT") else ():
            largest = f"SELECT 1 FROM {table.sql} WHERE {table.key[0].sql} = {2**63 - 1}"
            is_full = table.is_alias and self.plain.execute(largest).fetchone()
            if is_full and content(writer, table) != content(self.plain, table):
                raise ChanceError

    def _align_rowids(self) -> None:
        """Go on with the writer's rowids: they are not synced, and decide in which order SQLite goes through a table."""
        writer = self.devices[0].connection
        for table in self._case.schema:
            assert content(writer, table) == content(self.plain, table)
        self.plain.close()  # a connection stays with the encoding that it began with
        self.plain = self._stack.enter_context(closing(sqlite3.connect(":memory:", isolation_level=None)))
        writer.backup(self.plain)
        self._set(self.plain)
        triggers = self.plain.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            self.plain.execute(f"DROP TRIGGER {text(name)}")
        self._put_inert_triggers()

    def meet(self) -> None:
        """Commit what is open, enable what is not, and sync."""
        one, other = self.devices
        for connection in (one.connection, self.plain):
            if connection.in_transaction and _outcome(connection, Step("COMMIT")) == "FOREIGN KEY constraint failed":
                connection.execute("ROLLBACK")
        if self._is_late:
            self._is_late = False
            for table in self._case.schema:
                self._delete_null_keys(table)
                assert one.enable_sync_for_table(table.name, keys="natural") == len(content(self.plain, table))
            self._put_inert_triggers()
        self.sync(one, other)

    def _delete_null_keys(self, table: Table) -> None:
        """Rows that have no key cannot be synced, and `enable_sync_for_table` says so."""
        has_null = " OR ".join(f"{column.sql} IS NULL" for column in table.key)
        for connection in (self.devices[0].connection, self.plain):
            _outcome(connection, Step(f"DELETE FROM {table.sql} WHERE {has_null}"))

    def sync(self, source: SyncEngine, target: SyncEngine) -> None:
        path = source.generate_bundle(target.device_id, self._folder / "x.bundle", acknowledge=True)
        assert path is not None
        if target.connection.execute("PRAGMA encoding").fetchone()[0] not in ("UTF-8", b"UTF-8"):
            self._refuse_unheld(source, target, path)
        result = target.import_bundle(path)
        assert result.conflict_count == 0
        assert result.applied_count + result.duplicate_count == result.total_operations

    def _refuse_unheld(self, source: SyncEngine, target: SyncEngine, path: Path) -> None:
        """Have a bundle with a text that the target cannot hold refused; leave with the target as it was."""
        sent = [value for one in source.operations() for value in (*one.new.values(), *one.old.values())]
        if not all(map(is_held_in_utf_16, sent)):
            before = [content(target.connection, table) for table in self._case.schema]
            with pytest.raises(BundleError, match="UTF-16"):
                target.import_bundle(path)
            assert [content(target.connection, table) for table in self._case.schema] == before
            raise UnheldError

    def check(self) -> None:
        self.meet()
        one, other = self.devices
        newcomer = self._device(2)
        self.sync(one, newcomer)
        log = list(one.operations())
        assert log == list(other.operations())
        assert log == list(newcomer.operations())
        replayer = Replayer(self._case.schema)
        replayer.replay(log)
        for table in self._case.schema:
            expected = content(self.plain, table)
            assert content(one.connection, table) == expected
            assert replayer.content(table) == expected
            assert content(other.connection, table) == expected
            assert content(newcomer.connection, table) == expected
        for engine in (one, other, newcomer):
            assert engine.get_unresolved_conflicts() == []
            assert engine.reconcile() == 0


def _outcome(connection: sqlite3.Connection, step: Step) -> str | tuple[object, ...]:
    """Run a statement; return all that the application can see of it."""
    connection.text_factory = bytes
    try:
        cursor = connection.execute(step.sql, step.parameters)
        found = cursor.fetchall()
    except sqlite3.Error as error:
        return str(error)
    rowid = cursor.lastrowid if step.makes_rowid and cursor.rowcount > 0 else None
    changes = connection.execute("SELECT changes()").fetchone() if cursor.rowcount >= 0 else None
    return cursor.rowcount, changes, rowid, found


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(cases())
@example(
    Case(
        (Table("t", (Column("a", "INTEGER", ""),), (Column("b", "", ""),), "", (), (), is_alias=True),),
        (Step("BEGIN"), Step("INSERT OR IGNORE INTO t VALUES (?, ?), (?, ?)", (2, 1, "a", 1), makes_rowid=True)),
        is_recursive=False,
        is_enabled_late=False,
        encodings=("UTF-8", "UTF-8", "UTF-8"),
    )
)
@example(
    Case(
        (Table("t", (Column("a", "INTEGER", ""),), (Column("b", "", ""),), "", (), (), is_alias=True),),
        (Step("INSERT INTO t (a) VALUES (?), (?)", (2**63 - 1, None), makes_rowid=True),),
        is_recursive=False,
        is_enabled_late=True,
        encodings=("UTF-8", "UTF-8", "UTF-8"),
    )
)
def test_the_log_replays_to_exactly_the_table_whatever_sql_wrote_it(case: Case) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        note("; ".join(sql for table in case.schema for sql in (table.schema, *table.indexes)))
        run = Run(case, Path(folder), stack)
        with suppress(UnheldError, ChanceError):
            for step in case.steps:
                run.step(step)
            run.check()
