"""The user's tables: their shape, and names quoted for SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from sqlite_sync import indexes
from sqlite_sync.codec import RawText, Row, Value
from sqlite_sync.database import Database
from sqlite_sync.errors import TableError
from sqlite_sync.indexes import UniqueIndex

_LITERAL = re.compile(
    r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?0[xX][0-9a-fA-F]+|TRUE|FALSE|'([^']|'')*'|[xX]'[0-9a-fA-F]*'",
    re.ASCII | re.IGNORECASE,
)
_NAME = re.compile(r"""("(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])|([^\W\d][\w$]*)""")
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*.*?\*/""", re.DOTALL)
_COUNTED = re.compile(r"\bAUTOINCREMENT\b", re.IGNORECASE)  # a reserved word, so no name where it is not quoted
_CONFLICT_CLAUSE = re.compile(r"\bON\s+CONFLICT\b", re.IGNORECASE)
_KEY_COLLATION = re.compile(r"PRIMARY\s+KEY\s*\([^)]*COLLATE", re.IGNORECASE)  # without it, SQLite takes the column's
_NO_ACTION = ("NO ACTION", "RESTRICT")
_WORDS = {"NULL", "TRUE", "FALSE", "CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP"}
MAX_COLUMNS = (
    900  # two columns of the log for each, of 2000; a condition over all of them, in an expression depth of 1000
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a user's table; `position` is its place in the log, `key_place` that in the key, from 1."""

    name: str
    position: int
    key_place: int
    affinity: str
    collation: str
    is_nullable: bool
    default: str | None
    is_keyed_apart: bool = False  # the key's collation may be another than its own

    @property
    def fill(self) -> str | None:
        """The literal that stands in rows that are older than the column, where NULL cannot; else None."""
        return None if self.key_place else self.instead_of_null

    @property
    def instead_of_null(self) -> str | None:
        """The literal that REPLACE writes in the place of NULL, which cannot stand here; else None."""
        return None if self.default is None or self.is_nullable or not is_literal(self.default) else self.default

    @property
    def has_one_type(self) -> bool:
        """Whether equal numbers have one type: in INTEGER and NUMERIC, -2^63 and -2^63.0 are two."""
        return self.affinity in ("TEXT", "REAL")

    @property
    def sql(self) -> str:
        """The quoted name."""
        return quote(self.name)

    @property
    def keyed(self) -> str:
        """The quoted name for a comparison of keys: by the key's collation, which may be another than the column's."""
        return f"{self.sql} COLLATE {quote(self.collation)}" if self.is_keyed_apart else self.sql

    @property
    def new(self) -> str:
        """Its column in the log for the value written."""
        return f"v{self.position}"

    @property
    def old(self) -> str:
        """Its column in the log for the value overwritten."""
        return f"o{self.position}"


@dataclass(frozen=True, slots=True)
class Table:
    """A user's table as it stands in the file: columns that hold data, in the table's order."""

    number: int
    name: str
    columns: tuple[Column, ...]
    has_rowid_key: bool
    uniques: tuple[UniqueIndex, ...] = ()
    names: tuple[str, ...] = ()  # of all columns, the generated ones too
    has_mistyped_children: bool = False  # SQLite may hand its triggers the old key converted to their type
    follows_keys: bool = False  # a key that changes may change rows by ON UPDATE, the very row among them
    cascades_to_itself: bool = False  # a row that is deleted may delete others of this table by ON DELETE CASCADE
    has_conflict_clause: bool = False  # a constraint may say REPLACE or IGNORE

    @property
    def sql(self) -> str:
        """The quoted name."""
        return f"main.{quote(self.name)}"

    @property
    def or_abort(self) -> str:
        """Render what an INSERT or UPDATE of ours needs so that no constraint replaces or ignores a row.

        Nothing where no constraint says so: what stands here overrides the OR IGNORE inside triggers, too.
        """
        return "OR ABORT " if self.has_conflict_clause else ""

    @property
    def needs_notes(self) -> bool:
        """Whether its triggers note rows before they go."""
        return bool(self.uniques) or self.has_mistyped_children or self.cascades_to_itself

    @property
    def key(self) -> tuple[Column, ...]:
        """The columns of the primary key, in its order."""
        return tuple(sorted((c for c in self.columns if c.key_place), key=lambda c: c.key_place))

    @property
    def payload(self) -> tuple[Column, ...]:
        """The columns outside the key."""
        return tuple(c for c in self.columns if not c.key_place)

    @property
    def key_indexes(self) -> tuple[int, ...]:
        """Where the key's columns stand among `columns`."""
        return tuple(i for i, column in enumerate(self.columns) if column.key_place)

    @property
    def unique_columns(self) -> tuple[str, ...] | None:
        """The columns that its UNIQUE indexes look at; None where only SQLite knows (expressions, conditions)."""
        plain = {column.name for column in self.columns}
        terms = [term for index in self.uniques for term in index.terms]
        if any(index.where is not None for index in self.uniques) or any(term.column not in plain for term in terms):
            return None
        return tuple(sorted({term.column for term in terms if term.column is not None}))

    @property
    def width(self) -> int:
        """How many column positions the log needs."""
        return max(column.position for column in self.columns) + 1


def logged(column: Column, row: str = "o") -> str:
    """Render a column's value in an image in the log; one that is older than the column has NULL for it."""
    value = f"{row}.{column.new}"
    return value if column.fill is None else f"coalesce({value}, {_stored_fill(column)})"


def _stored_fill(column: Column) -> str:
    return f"CAST({column.fill} AS {column.affinity})" if column.affinity in ("TEXT", "REAL") else str(column.fill)


def counts_up(database: Database, name: str) -> bool:
    """Tell whether a table is AUTOINCREMENT: its counter never gives a number twice."""
    text: str = database.one("SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?", (name,))
    return bool(_COUNTED.search(_QUOTED.sub(" ", text)))


def quote(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def fold(name: str) -> str:
    """Lower an identifier as SQLite compares it: ASCII letters only."""
    return name.encode().lower().decode()


def is_literal(default: str) -> bool:
    """Tell whether a column's default is a constant."""
    return _LITERAL.fullmatch(default) is not None


def unnamed(default: str) -> str:
    """Write a default that is a name, `DEFAULT "text"` or `DEFAULT text`, as the string for which SQLite takes it."""
    found = _NAME.fullmatch(default)
    if not found or default.upper() in _WORDS:
        return default
    quoted, bare = found.groups()
    return literal(bare if quoted is None else quoted[1:-1].replace(quoted[0] * 2, quoted[0]))


def literal(text: str) -> str:
    """Quote a string."""
    return "'" + text.replace("'", "''") + "'"


def is_ours(name: str) -> bool:
    """Tell whether a name is one of this package's own, or SQLite's."""
    return name.lower().startswith(("sync_", "sqlite_"))


def commas(parts: Iterable[str]) -> str:
    """Join SQL fragments."""
    return ", ".join(parts)


def changed(column: Column, row: str = "") -> str:
    """Render the test whether an update in the log changed a column."""
    new, old = f"{row}{column.new}", f"{row}{column.old}"
    if column.key_place:
        return f"{old} IS NOT NULL"
    return f"({new} IS NOT {old} OR {new} IS NOT NULL AND typeof({new}) <> typeof({old}))"


def same_key(table: Table, left: str, right: str) -> str:
    """Render the comparison of two keys, each side given as a pattern such as `o.{c.new}`."""
    return " AND ".join(f"{left.format(c=c)} = {right.format(c=c)}" for c in table.key)


def is_there(database: Database, name: str) -> bool:
    """Tell whether the file has a table of this name."""
    sql = "SELECT 1 FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE"
    return database.one(sql, (name,)) is not None


def find(database: Database, name: str) -> str:
    """Return a table's name as the schema spells it; TableError where it cannot be captured."""
    row = database.execute("SELECT name, type FROM pragma_table_list(?) WHERE schema = 'main'", (name,)).fetchone()
    if row is None and not is_ours(name):  # it does not find sqlite_schema by this name
        known = [
            n
            for (n,) in database.execute(
                "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' ORDER BY name"
            )
            if not is_ours(n)
        ]
        msg = f"there is no table {name!r} in {database.path}; it has {', '.join(known) or 'none'}"
        raise TableError(msg)
    found, kind = row or (name, "table")
    if is_ours(found):
        owner = "SQLite" if found.lower().startswith("sqlite_") else "sqlite_sync"
        msg = f"{found} has a name that {owner} keeps for itself, and cannot be synced: rename it"
        raise TableError(msg)
    if kind != "table":
        why = {
            "view": "a view: sync the tables that it reads",
            "virtual": "a virtual table: sync the table that feeds it",
        }
        msg = f"{found} is {why.get(kind, f'a {kind} table: it belongs to a virtual table')}"
        raise TableError(msg)
    return str(found)


def read(database: Database, name: str, number: int, positions: dict[str, int]) -> Table:
    """Read a table's shape; `positions` gives the log position of each column, by folded name."""
    every = database.execute(
        "SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?, 'main')", (name,)
    ).fetchall()
    rows = [column for *column, hidden in every if not hidden]
    if not any(pk for *_, pk in rows):
        msg = f"{name} has no primary key, so its rows have no identity on other devices: give it one"
        raise TableError(msg)
    if len(rows) > MAX_COLUMNS:
        msg = f"{name} has {len(rows)} columns, at most {MAX_COLUMNS} can be synced: leave it out, or split it"
        raise TableError(msg)
    collations, has_key_index = _key_collations(database, name)
    text, is_strict = database.execute(
        "SELECT sql, (SELECT strict FROM pragma_table_list(t.name) WHERE schema = 'main') "
        "FROM main.sqlite_schema AS t WHERE type = 'table' AND name = ?",
        (name,),
    ).fetchone()
    is_keyed_apart = _KEY_COLLATION.search("".join(part for part, _ in indexes.tokens(text))) is not None
    keys = [(type_, pk) for _, type_, _, _, pk in rows if pk]
    has_rowid_key = len(keys) == 1 and keys[0][0].upper() == "INTEGER" and not has_key_index
    columns = tuple(
        Column(
            name=column,
            position=positions.get(fold(column), -1),
            key_place=pk,
            affinity="INTEGER"
            if pk and has_rowid_key
            else "BLOB"
            if is_strict and type_.upper() == "ANY"
            else affinity(type_),
            collation=collations.get(column, "BINARY"),
            is_nullable=not notnull and not (pk and has_rowid_key),
            default=None if default is None else unnamed(default),
            is_keyed_apart=bool(pk and is_keyed_apart),
        )
        for column, type_, notnull, default, pk in rows
    )
    children = database.execute(
        'SELECT c.type, f.seq, f."to", f.on_update, f.on_delete FROM main.sqlite_schema AS t, '
        "pragma_foreign_key_list(t.name, 'main') AS f, pragma_table_xinfo(t.name, 'main') AS c "
        "WHERE t.type = 'table' AND t.sql LIKE '%REFERENCES%' "
        'AND f."table" = ? COLLATE NOCASE AND c.name = f."from" COLLATE NOCASE',
        (name,),
    ).fetchall()
    return Table(
        number=number,
        name=name,
        columns=columns,
        has_rowid_key=has_rowid_key,
        uniques=indexes.read(database, name),
        names=tuple(column for column, *_ in every),
        has_mistyped_children=_has_mistyped([child[:3] for child in children], columns),
        follows_keys=any(on_update not in _NO_ACTION for *_, on_update, _ in children),
        cascades_to_itself=any(on_delete == "CASCADE" for *_, on_delete in children)
        and _cascades_to(database, name, name),
        has_conflict_clause=_CONFLICT_CLAUSE.search(_QUOTED.sub(" ", text)) is not None,
    )


def _has_mistyped(children: Iterable[tuple[str, int, str | None]], columns: Iterable[Column]) -> bool:
    """Tell whether a column of another affinity refers to one of this table."""
    key = sorted((column for column in columns if column.key_place), key=lambda column: column.key_place)
    here = {fold(column.name): column.affinity for column in columns}
    for type_, place, to in children:
        parent = here.get(fold(to)) if to else key[place].affinity if place < len(key) else None
        if parent and affinity(type_) not in ("BLOB", parent):
            return True
    return False


def _cascades_to(database: Database, parent: str, child: str) -> bool:
    """Tell whether ON DELETE CASCADE leads from one table to another, perhaps through more."""
    rows = database.execute(
        "SELECT t.name, f.\"table\" FROM main.sqlite_schema AS t, pragma_foreign_key_list(t.name, 'main') AS f "
        "WHERE t.type = 'table' AND t.sql LIKE '%REFERENCES%' AND f.on_delete = 'CASCADE'"
    )
    edges = [(fold(one), fold(other)) for one, other in rows.fetchall()]
    reached, ahead = set[str](), {fold(parent)}
    while ahead:
        ahead = {one for one, other in edges if other in ahead} - reached
        reached |= ahead
    return fold(child) in reached


def affinity(declared: str) -> str:
    """Name the affinity of a declared type, by the rules of SQLite's documentation (datatype3, section 3.1)."""
    upper = declared.upper()
    if "INT" in upper:
        return "INTEGER"
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not upper or "BLOB" in upper:
        return "BLOB"
    if any(word in upper for word in ("REAL", "FLOA", "DOUB")):
        return "REAL"
    return "NUMERIC"


def _key_collations(database: Database, name: str) -> tuple[dict[str, str], bool]:
    index = database.one("SELECT name FROM pragma_index_list(?, 'main') WHERE origin = 'pk'", (name,))
    if index is None:
        return {}, False
    rows = database.execute("SELECT name, coll FROM pragma_index_xinfo(?, 'main') WHERE key = 1", (index,))
    return dict(rows.fetchall()), True


def same_native(short: str, table: Table, row: str) -> str:
    """Render the comparison of a table of keys (k0, k1, ...) with a row that has the log's columns."""
    return " AND ".join(f"{short}.k{i} = {row}.{column.new}" for i, column in enumerate(table.key))


def mark(value: Value) -> str:
    """Render the parameter for a value; TEXT that is no UTF-8 travels as its bytes."""
    return "CAST(? AS TEXT)" if isinstance(value, RawText) else "?"


def insert_rows(database: Database, into: str, rows: Sequence[Row]) -> None:
    """Insert rows of one width."""
    if RawText in map(type, chain.from_iterable(rows)):
        for row in rows:
            database.execute(f"INSERT INTO {into} VALUES ({commas(map(mark, row))})", row)
    elif rows:
        database.executemany(f"INSERT INTO {into} VALUES ({commas('?' * len(rows[0]))})", rows)
