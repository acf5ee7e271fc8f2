"""The schema that the machine works on, read from a template: a database with that schema and perhaps some rows."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Hashable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

Collate = Callable[[str, str], int]


def quote(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Column:
    """A column that holds data; `collation` is that of comparisons with it."""

    name: str
    declared: str
    is_required: bool
    default: str | None
    collation: str = "BINARY"


@dataclass(frozen=True)
class Reference:
    """A declared foreign key."""

    columns: tuple[str, ...]
    parent: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table: what a row of it is, and which constraints of it the oracle can judge (`is_plain`)."""

    name: str
    sql: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    uniques: tuple[tuple[str, ...], ...] = ()
    references: tuple[Reference, ...] = ()
    is_plain: bool = True
    collations: Mapping[str, str] = field(default_factory=dict)  # of the key

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(column.name for column in self.columns)

    @property
    def payload(self) -> tuple[str, ...]:
        """The columns outside the key."""
        return tuple(name for name in self.names if name not in self.key)

    @property
    def has_number_key(self) -> bool:
        """Whether its key is SQLite's rowid."""
        declared = {column.name: column.declared for column in self.columns}
        return len(self.key) == 1 and declared[self.key[0]].upper() == "INTEGER" and not self.collations


@dataclass(frozen=True)
class Later:
    """A column that the application's next version has."""

    table: str
    column: str
    definition: str
    default: object = None


@dataclass(frozen=True)
class Subject:
    """A schema: a template to copy, its tables that can be synced, what the next version adds, and what stays out."""

    template: Path
    tables: tuple[Table, ...]
    later: tuple[Later, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    collations: Mapping[str, Collate] = field(default_factory=dict)  # stand-ins for what only the application has
    functions: frozenset[str] = frozenset()  # that return their first argument, for the same reason
    notes: tuple[str, ...] = ()

    def table(self, name: str) -> Table:
        """Return the table of this name."""
        return next(table for table in self.tables if table.name == name)

    def connect(self, path: str | Path) -> sqlite3.Connection:
        """Open a file as the application would."""
        connection = sqlite3.connect(path, timeout=0.0, isolation_level=None)
        for name, collate in self.collations.items():
            connection.create_collation(name, collate)
        for name in self.functions:
            connection.create_function(name, -1, first, deterministic=True)
        return connection

    @property
    def script(self) -> str:
        """The template as SQL, for the shell."""
        with closing(self.connect(self.template)) as connection:
            return dumped(connection)

    @property
    def is_judged(self) -> bool:
        """Whether the oracle can say which rows a constraint parks: it compares names and values, no expressions."""
        return all(table.is_plain for table in self.tables)


def first(*values: object) -> object:
    """Stand in for a function that only the application has."""
    return values[0] if values else None


def read(connection: sqlite3.Connection, name: str) -> Table:
    """Read a table's facts from the file."""
    [(sql, is_table)] = connection.execute("SELECT sql, type = 'table' FROM main.sqlite_schema WHERE name = ?", (name,))
    xinfo = connection.execute(f"PRAGMA main.table_xinfo({quote(name)})").fetchall()
    indexes = connection.execute(f"PRAGMA main.index_list({quote(name)})").fetchall()
    terms = {index[1]: _terms(connection, index[1]) for index in indexes}
    key = tuple(row[1] for row in sorted((row for row in xinfo if row[5]), key=lambda row: row[5]))
    key_terms = [terms[index[1]] for index in indexes if index[3] == "pk"]
    uniques = [index for index in indexes if index[2] and index[3] != "pk"]
    stored = {row[1] for row in xinfo if row[6] == 0}
    collations = _collations(connection, name, [row[1] for row in xinfo])
    references = _references(connection, name)
    is_plain = bool(is_table) and all(
        not index[4] and all(column in stored and how == collations[column] for column, how in terms[index[1]])
        for index in uniques
    )
    return Table(
        name=name,
        sql=sql,
        columns=tuple(
            Column(row[1], row[2], bool(row[3]) or bool(row[5]), row[4], collations[row[1]])
            for row in xinfo
            if row[6] == 0
        ),
        key=key,
        uniques=tuple(tuple(str(column) for column, _ in terms[index[1]]) for index in uniques if is_plain),
        references=references,
        is_plain=is_plain and all(_is_judged(connection, reference) for reference in references),
        collations=dict(key_terms[0]) if key_terms else {},
    )


def _terms(connection: sqlite3.Connection, index: str) -> list[tuple[str, str]]:
    rows = connection.execute(f"PRAGMA main.index_xinfo({quote(index)})")
    return [(row[2], str(row[4]).upper()) for row in rows if row[5]]


def _references(connection: sqlite3.Connection, name: str) -> tuple[Reference, ...]:
    found: dict[int, list[tuple[str, str, str | None]]] = {}
    for row in connection.execute(f"PRAGMA main.foreign_key_list({quote(name)})"):
        found.setdefault(row[0], []).append((row[3], row[2], row[4]))
    references = []
    for pairs in found.values():  # in the order of foreign_key_list
        parent = pairs[0][1]
        xinfo = connection.execute(f"PRAGMA main.table_info({quote(parent)})").fetchall()
        key = tuple(row[1] for row in sorted((row for row in xinfo if row[5]), key=lambda row: row[5]))
        targets = tuple(target for _, _, target in pairs if target is not None) or key
        references.append(Reference(tuple(column for column, _, _ in pairs), parent, targets))
    return tuple(references)


def _is_judged(connection: sqlite3.Connection, reference: Reference) -> bool:
    """Tell whether a reference names its parent by the key."""
    xinfo = connection.execute(f"PRAGMA main.table_info({quote(reference.parent)})").fetchall()
    key = {row[1].lower() for row in xinfo if row[5]}
    return bool(key) and key == {target.lower() for target in reference.targets}


def _collations(connection: sqlite3.Connection, table: str, columns: list[str]) -> dict[str, str]:
    """Find each column's own collation: SQLite gives it to an index that names none."""
    found = dict.fromkeys(columns, "BINARY")
    [(sql,)] = connection.execute("SELECT sql FROM main.sqlite_schema WHERE name = ?", (table,))
    for column in columns:
        name = re.escape(column)
        pattern = rf"""[(,]\s*["`\[]?{name}["`\]]?\s[^,()]*(\([^)]*\)[^,()]*)*COLLATE\s+["`\[]?(\w+)"""
        if match := re.search(pattern, sql, re.IGNORECASE):
            found[column] = match[2].upper()
    return found


def fold(value: object, collation: str, own: Mapping[str, Collate]) -> Hashable:
    """Make two values equal that a collation calls the same; numbers are compared as numbers."""
    if not isinstance(value, str):
        return ("blob", bytes(value)) if isinstance(value, bytes | bytearray) else value  # type: ignore[return-value]
    if collation == "NOCASE" or collation in {name.upper() for name in own}:
        return "text", value.encode("utf-8", "surrogateescape").lower()
    return "text", (value.rstrip(" ") if collation == "RTRIM" else value).encode("utf-8", "surrogateescape")


def dumped(connection: sqlite3.Connection) -> str:
    """Render a whole database as SQL."""
    return "\n".join(connection.iterdump())
