"""Schemas that Hypothesis draws, with the keys, references and constraints that a resolution can meet; what is done there."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter

from model import Constraints, Reference, RowName
from sqlite_sync import (
    Callback,
    Dispute,
    HigherVersionWins,
    KeepBoth,
    LastWriteWins,
    MergeFields,
    PreferLocal,
    PreferRemote,
    Strategy,
)
from sqlite_sync.strategies import Answer

LETTERS = ("'p'", "'q'", "'r'", "'s'")
VALUES = ("1", "1", "2", "2", "3", "NULL", "'a'", "'A'")
ACTIONS = ("", "CASCADE", "CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT")
MOST_DEVICES = 4

T = TypeVar("T")
Action = tuple[object, ...]


class Draw(Protocol):
    def __call__(self, strategy: st.SearchStrategy[T], /) -> T: ...


@dataclass(frozen=True)
class Column:
    """A column, and the SQL of the values that are written there."""

    name: str
    declaration: str
    values: tuple[str, ...]

    @property
    def kind(self) -> str:
        return self.declaration.split()[0]

    @property
    def is_folded(self) -> bool:
        return "NOCASE" in self.declaration


@dataclass(frozen=True)
class Link:
    """A foreign key, to the parent's key or to another UNIQUE column of it."""

    columns: tuple[str, ...]
    parent: str
    targets: tuple[str, ...]
    is_to_key: bool


@dataclass
class Table:
    name: str
    is_mapped: bool = False
    is_natural: bool = False  # an INTEGER PRIMARY KEY that means something
    options: str = ""
    columns: dict[str, Column] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    rules: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    uniques: list[tuple[str, ...]] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)  # partial ones and of expressions, which the model does not know

    @property
    def free(self) -> list[str]:
        return [name for name in self.columns if name not in self.key]

    @property
    def sql(self) -> str:
        columns = [f"{column.name} {column.declaration}" for column in self.columns.values()]
        table = f"CREATE TABLE {self.name} ({', '.join(columns + self.rules)}){self.options}"
        indexes = [
            f"CREATE UNIQUE INDEX {self.name}_{place} ON {self.name} {index}"
            for place, index in enumerate(self.indexes)
        ]
        return "".join(f"{statement};\n" for statement in [table, *indexes])

    def named(self, row: Mapping[str, object]) -> tuple[Hashable, ...]:
        """Name a row by its key as the key's collations see it."""
        return tuple(self.seen(column, row[column]) for column in self.key)

    def seen(self, column: str, value: object) -> Hashable:
        return value.lower() if self.columns[column].is_folded and isinstance(value, str) else value

    def add(self, column: Column) -> None:
        self.columns[column.name] = column
        if "UNIQUE" in column.declaration:
            self.uniques.append((column.name,))


@dataclass(frozen=True)
class Schema:
    tables: Mapping[str, Table]
    trigger: str

    @property
    def sql(self) -> str:
        return "".join(table.sql for table in self.tables.values()) + self.trigger

    @property
    def constraints(self) -> Constraints:
        links = {
            name: [Reference(link.columns, link.parent, link.targets) for link in table.links]
            for name, table in self.tables.items()
        }
        return Known({name: table.uniques for name, table in self.tables.items()}, links, self.tables)

    def __repr__(self) -> str:
        return f"Schema({self.sql!r})"

    def _repr_pretty_(self, printer: RepresentationPrinter, _: bool) -> None:
        printer.text(repr(self))


@dataclass(frozen=True)
class Known(Constraints):
    """The constraints of tables, as the model takes them."""

    tables: Mapping[str, Table]

    def seen(self, table: str, column: str, value: object) -> Hashable:
        return self.tables[table].seen(column, value)

    def parent(self, reference: Reference, image: Mapping[str, object]) -> RowName | None:
        values = [image[column] for column in reference.columns]
        if any(value is None for value in values):
            return None
        return reference.parent, self.tables[reference.parent].named(dict(zip(reference.targets, values, strict=True)))


def one_in(draw: Draw, number: int) -> bool:
    return draw(st.integers(1, number)) == number


def nth(table: str, column: str, place: int) -> str:
    return f"(SELECT {column} FROM {table} ORDER BY {column} LIMIT 1 OFFSET {place})"


# --- tables ------------------------------------------------------------------------------------------------------


def give_key(draw: Draw, table: Table, parents: list[Table]) -> None:
    """Give a table a key: of its own, or one that refers to a parent's."""
    kinds = ["text", "text", "nocase", "natural", "mapped", "mapped", "pair"] + ["child", "part of child"] * bool(
        parents
    )
    kind = draw(st.sampled_from(kinds))
    table.is_natural, table.is_mapped = kind == "natural", kind == "mapped"
    match kind:
        case "text":
            table.add(Column("id", "TEXT NOT NULL PRIMARY KEY", LETTERS))
        case "nocase":
            table.add(Column("id", "TEXT COLLATE NOCASE PRIMARY KEY", ("'p'", "'P'", "'q'", "'r'", "'R'")))
        case "natural":
            table.add(Column("id", "INTEGER PRIMARY KEY", ("1", "2", "3", "NULL")))
        case "mapped":
            counting = " AUTOINCREMENT" if one_in(draw, 3) else ""
            table.add(Column("id", f"INTEGER PRIMARY KEY{counting}", ("NULL",) * 6 + ("7", "0", "-1")))
        case "pair":
            table.add(Column("x", "TEXT NOT NULL", LETTERS[:2]))
            table.add(Column("y", "INT NOT NULL", ("1", "2")))
        case _:
            refer(draw, table, draw(st.sampled_from(parents)), "k", is_key=True)
    if kind == "part of child":
        table.add(Column("m", "TEXT NOT NULL", LETTERS[:2]))
    names = list(table.columns)
    table.key = tuple(names[::-1] if one_in(draw, 3) else names)
    if "PRIMARY KEY" not in table.columns[names[0]].declaration:
        table.rules.append(f"PRIMARY KEY ({', '.join(table.key)})")
    if kind in ("text", "pair") and one_in(draw, 3):
        table.options = " WITHOUT ROWID"


def refer(draw: Draw, table: Table, parent: Table, prefix: str, *, is_key: bool = False) -> None:
    """Add a foreign key and its columns; the values are those that the parent's columns get."""
    is_to_key = "code" not in parent.columns or not one_in(draw, 2)
    targets = parent.key if is_to_key else ("code",)
    some = " DEFAULT 1" if is_to_key and (parent.is_mapped or parent.is_natural) else " DEFAULT 'p'"
    default = draw(st.sampled_from(["", "", some]))
    for target in targets:
        column = parent.columns[target]
        declaration = column.kind + (" NOT NULL" if is_key else "") + default
        if not is_key and column.kind == "TEXT" and one_in(draw, 5):
            declaration += " COLLATE NOCASE"
        values = tuple(value for value in column.values if value != "NULL")
        if parent.is_mapped and is_to_key:
            values = tuple(nth(parent.name, target, place) for place in range(3))
        table.add(Column(f"{prefix}_{target}", declaration, values + ("NULL",) * (not is_key)))
    columns = tuple(f"{prefix}_{target}" for target in targets)
    on_delete, on_update = draw(st.sampled_from(ACTIONS)), draw(st.sampled_from(ACTIONS))
    table.rules.append(
        f"FOREIGN KEY ({', '.join(columns)}) REFERENCES {parent.name} ({', '.join(targets)})"
        + (f" ON DELETE {on_delete}" if on_delete else "")
        + (f" ON UPDATE {on_update}" if on_update else "")
        + draw(st.sampled_from(["", " DEFERRABLE INITIALLY DEFERRED"]))
    )
    table.links.append(Link(columns, parent.name, targets, is_to_key))


def give_columns(draw: Draw, table: Table) -> None:
    """Add columns of which others may be unique, wrong or missing."""
    if not one_in(draw, 4):
        kind = draw(st.sampled_from(["TEXT", "TEXT COLLATE NOCASE", "INT", "BLOB"]))
        table.add(Column("u", kind + draw(st.sampled_from([" UNIQUE", " UNIQUE", ""])), VALUES))
    kinds = ["BLOB", "INT", "TEXT", "BLOB NOT NULL DEFAULT 1", "BLOB CHECK (v IS NULL OR v <> 3)", "BLOB UNIQUE"]
    table.add(Column("v", draw(st.sampled_from(kinds)), VALUES))
    if one_in(draw, 2):
        kinds = ["INT DEFAULT 1", "INT CHECK (w < 3)", "BLOB NOT NULL DEFAULT 1"]
        table.add(Column("w", draw(st.sampled_from(kinds)), ("1", "1", "2", "3", "NULL")))
        partial = st.sampled_from(["(v) WHERE w = 1", "(v, w) WHERE w IS NOT NULL"])
        table.indexes += [draw(partial)] if one_in(draw, 3) else []
    table.indexes += ["(lower(v))"] if one_in(draw, 5) else []
    if one_in(draw, 3):
        collation = draw(st.sampled_from(["", "", " COLLATE NOCASE"]))
        table.add(Column("code", f"TEXT{collation} UNIQUE", (*LETTERS[:3], "NULL")))


TRIGGERS = (
    "AFTER UPDATE OF v ON {table} BEGIN UPDATE {table} SET v = 2 WHERE {is_new} AND v = 1; END",
    "AFTER INSERT ON {table} BEGIN UPDATE {table} SET v = 2 WHERE {is_new} AND v = 1; END",
    "AFTER INSERT ON {table} BEGIN UPDATE {other} SET v = 2; END",
    "AFTER DELETE ON {table} BEGIN DELETE FROM {other} WHERE v = OLD.v; END",
    "AFTER UPDATE ON {table} BEGIN UPDATE OR IGNORE {other} SET v = NEW.v WHERE v IS OLD.v; END",
    "BEFORE UPDATE ON {table} WHEN NEW.v = 2 AND OLD.v = 1 BEGIN SELECT RAISE(ABORT, 'no'); END",
    "AFTER INSERT ON {table} BEGIN INSERT OR IGNORE INTO cache VALUES (NEW.v); END",
)


@st.composite
def schemas(draw: Draw) -> Schema:
    tables = [Table(name) for name in ("ta", "tb", "tc", "td")[: draw(st.integers(1, 4))]]
    for place, table in enumerate(tables):
        give_key(draw, table, tables[:place])
        give_columns(draw, table)
    for place, table in enumerate(tables):
        for number in range(draw(st.sampled_from([0, 1, 1, 2] if place or len(tables) == 1 else [0, 0, 1]))):
            parents = tables if one_in(draw, 3) else tables[:place] or [table]
            refer(draw, table, draw(st.sampled_from(parents)), f"f{number}")
    trigger = ""
    if one_in(draw, 7):
        table, other = draw(st.sampled_from(tables)), draw(st.sampled_from(tables))
        is_new = " AND ".join(f"{column} = NEW.{column}" for column in table.key)
        body = draw(st.sampled_from(TRIGGERS)).format(table=table.name, other=other.name, is_new=is_new)
        trigger = f"CREATE TABLE cache (n UNIQUE);\nCREATE TRIGGER app {body};\n"
    return Schema({table.name: table for table in tables}, trigger)


# --- what is done ------------------------------------------------------------------------------------------------


def where(draw: Draw, table: Table) -> str:
    if table.is_mapped:
        return f"id = {nth(table.name, 'id', draw(st.integers(0, 2)))}"
    values = [[value for value in table.columns[name].values if value != "NULL"] for name in table.key]
    return " AND ".join(f"{name} = {draw(st.sampled_from(each))}" for name, each in zip(table.key, values, strict=True))


def assign(draw: Draw, table: Table, names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"{name} = {draw(st.sampled_from(table.columns[name].values))}" for name in names)


def insert(draw: Draw, table: Table, verb: str) -> str:
    names = [name for name in table.columns if name in table.key or not one_in(draw, 10)]
    values = [draw(st.sampled_from(table.columns[name].values)) for name in names]
    return f"{verb} INTO {table.name} ({', '.join(names)}) VALUES ({', '.join(values)})"


VERBS = {
    "INSERT": 5,
    "INSERT OR REPLACE": 1,
    "INSERT OR IGNORE": 1,
    "upsert": 1,
    "UPDATE": 6,
    "UPDATE OR REPLACE": 1,
    "UPDATE OR IGNORE": 1,
    "key": 1,
    "DELETE": 2,
}


@st.composite
def statements(draw: Draw, schema: Schema) -> str:
    table = draw(st.sampled_from(list(schema.tables.values())))
    verb = draw(st.sampled_from([verb for verb, often in VERBS.items() for _ in range(often)]))
    match verb:
        case "INSERT" | "INSERT OR REPLACE" | "INSERT OR IGNORE":
            return insert(draw, table, verb)
        case "upsert":
            return f"{insert(draw, table, 'INSERT')} ON CONFLICT DO UPDATE SET {assign(draw, table, ['v'])}"
        case "DELETE":
            return f"DELETE FROM {table.name} WHERE {where(draw, table)}"
        case "UPDATE OR IGNORE":
            return f"UPDATE OR IGNORE {table.name} SET {assign(draw, table, ['v'])}"
    if verb != "key":
        assigned = assign(draw, table, draw(st.lists(st.sampled_from(table.free), min_size=1, max_size=2, unique=True)))
    elif table.is_mapped:
        verb, assigned = "UPDATE", f"id = id + {draw(st.sampled_from([1, 5]))}"
    else:
        verb, assigned = "UPDATE OR REPLACE" if one_in(draw, 5) else "UPDATE", assign(draw, table, table.key)
    return f"{verb} {table.name} SET {assigned} WHERE {where(draw, table)}"


def give_two(_: Dispute) -> Answer:
    return {"v": 2}


def mix(dispute: Dispute) -> Answer:
    answers: list[Callable[[], Answer]] = [lambda: "local", lambda: "remote", lambda: {"v": 1}, lambda: None]
    return answers[dispute.local.op_id[0] % 4]()


strategies: st.SearchStrategy[Strategy] = st.sampled_from(
    [
        LastWriteWins(),
        PreferLocal(),
        PreferRemote(),
        KeepBoth(),
        KeepBoth(),
        HigherVersionWins("v"),
        Callback(give_two),
        Callback(mix),
        MergeFields(),
        MergeFields(LastWriteWins()),
        MergeFields(KeepBoth()),
        MergeFields(PreferRemote()),
        MergeFields(HigherVersionWins("v")),
        MergeFields(Callback(give_two)),
    ]
)


@dataclass(frozen=True)
class Plan:
    """A schema, who enforces its foreign keys, how the clocks go, and what happens."""

    schema: Schema
    enforcing: tuple[bool, ...]  # one for each device
    clocks: tuple[int, ...]  # by how many milliseconds the clock of the one that acts goes on, in turn
    actions: tuple[Action, ...]


def acts(schema: Schema, devices: int) -> st.SearchStrategy[list[Action]]:
    """Draw one action, or two edits that clash, the exchange that follows, and what is made of it."""
    one, which = st.integers(0, devices - 1), st.integers(0, 9)
    resolutions: list[st.SearchStrategy[Action]] = [
        *[st.tuples(st.just("resolve"), one, which, st.sampled_from(["local", "remote", "remote", None]))] * 2,
        st.tuples(st.just("values"), one, which, st.lists(which, min_size=4, max_size=4)),
        st.tuples(st.just("ask"), one, which, strategies),
        st.tuples(st.just("ask of all"), one, strategies),
        *[st.tuples(st.just("ask apart"), strategies)] * 2,
    ]
    others: list[st.SearchStrategy[Action]] = [
        *[st.tuples(st.just("write"), one, st.lists(statements(schema), min_size=1, max_size=4), st.booleans())] * 5,
        *[st.tuples(st.just("send"), one, one, st.none() | st.none() | st.none() | strategies)] * 4,
        st.tuples(st.just("pack"), one, one),
        st.tuples(st.just("deliver"), one, which),
        st.tuples(st.just("meet")),
    ]
    return st.one_of(
        *[st.one_of(*resolutions, *others).map(lambda action: [action])] * 3,
        clashes(schema, devices),
        st.tuples(clashes(schema, devices), st.one_of(*resolutions)).map(lambda drawn: [*drawn[0], drawn[1]]),
    )


@st.composite
def clashes(draw: Draw, schema: Schema, devices: int) -> list[Action]:
    """Let two devices write to one row, or one value into two rows, and meet."""
    table = draw(st.sampled_from(list(schema.tables.values())))
    pair = draw(st.permutations(range(devices)))[:2]
    row, column = where(draw, table), draw(st.sampled_from(table.free))
    is_one_value = one_in(draw, 3)
    value = assign(draw, table, [column])
    actions: list[Action] = []
    for device in pair:
        if actions and is_one_value:
            row = where(draw, table)
        elif actions:
            value = assign(draw, table, [draw(st.sampled_from(table.free))])
        update = f"UPDATE {table.name} SET {value} WHERE {row}"
        is_delete = bool(actions) and one_in(draw, 4)
        actions.append(("write", device, [f"DELETE FROM {table.name} WHERE {row}" if is_delete else update], False))
    return [*actions, ("send", *pair, None), ("send", *pair[::-1], None)]


@st.composite
def plans(draw: Draw, *, is_toggling: bool = False) -> Plan:
    schema = draw(schemas())
    devices = draw(st.integers(2, MOST_DEVICES))
    first = [insert(draw, table, "INSERT OR IGNORE") for table in schema.tables.values() for _ in range(4)]
    drawn_acts = acts(schema, devices)
    if is_toggling:
        toggled = st.tuples(st.just("toggle"), st.integers(0, devices - 1), st.sampled_from(list(schema.tables)))
        drawn_acts = st.one_of(*[drawn_acts] * 7, toggled.map(lambda action: [action]))
    drawn = draw(st.lists(drawn_acts, min_size=8, max_size=30))  # short histories seldom clash
    enforcing = draw(st.sampled_from([(True,) * 4, (True,) * 4, (False,) * 4, (True, False) * 2]))
    return Plan(
        schema,
        enforcing[:devices],
        tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=7))),
        (("write", 0, first, False), ("meet",), *[action for actions in drawn for action in actions]),
    )
