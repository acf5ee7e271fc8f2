"""Declared foreign keys of the enabled tables, as far as SQLite itself can enforce them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlite_sync.database import Database
from sqlite_sync.tables import Column, Table, fold, quote


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key: `columns` of `child` name a row of `parent` by `targets`.

    `parent` is None, and `parent_columns` are none, where the parent is not enabled. `collations` are those by which
    SQLite compares the targets with what refers to them.
    """

    place: int
    child: Table
    columns: tuple[str, ...]
    parent_name: str
    parent: Table | None
    targets: tuple[str, ...]
    parent_columns: tuple[Column, ...]
    collations: tuple[str, ...]

    @property
    def typed(self) -> list[str]:
        """Declare the columns v0, v1, ... that hold values of the targets."""
        pairs = zip(self.parent_columns, self.collations, strict=True)
        return [f"v{i} {column.affinity} COLLATE {quote(name)}" for i, (column, name) in enumerate(pairs)]

    @property
    def is_named(self) -> str:
        """Render the test that no column of the child `t` is NULL, so that it refers to a row at all."""
        return " AND ".join(f"t.{quote(name)} IS NOT NULL" for name in self.columns)

    @property
    def is_orphan(self) -> str:
        """Render the test that the child `t` refers to a row that is not there.

        `+`: the parent's affinity and collation decide, as they do in SQLite's own check.
        """
        pairs = zip(self.targets, self.columns, strict=True)
        same = " AND ".join(f"p.{quote(target)} = +t.{quote(name)}" for target, name in pairs)
        return f"{self.is_named} AND NOT EXISTS (SELECT 1 FROM main.{quote(self.parent_name)} AS p WHERE {same})"


def read(database: Database, tables: Sequence[Table]) -> list[Reference]:
    """Read the foreign keys of enabled tables, in the order in which SQLite numbers them."""
    enabled = {fold(table.name): table for table in tables}
    return [found for table in tables for found in _of(database, table, enabled)]


def _of(database: Database, child: Table, enabled: Mapping[str, Table]) -> list[Reference]:
    rows = database.execute(
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?, \'main\') ORDER BY id, seq', (child.name,)
    ).fetchall()
    every = (_reference(database, child, list(group), enabled) for _, group in groupby(rows, key=lambda row: row[0]))
    return [one for one in every if one is not None]


def _reference(
    database: Database, child: Table, parts: Sequence[tuple[int, str, str, str | None]], enabled: Mapping[str, Table]
) -> Reference | None:
    """Make the value of one foreign key; None where SQLite itself cannot enforce it, or a target is generated."""
    place, parent_name, _, first = parts[0]
    targets = _key(database, parent_name) if first is None else [str(target) for *_, target in parts]
    columns = tuple(column for _, _, column, _ in parts)
    known = {
        fold(name) for (name,) in database.execute("SELECT name FROM pragma_table_xinfo(?, 'main')", (parent_name,))
    }
    if len(targets) != len(columns) or not set(map(fold, targets)) <= known:
        return None
    parent = enabled.get(fold(parent_name))
    stored = {} if parent is None else {fold(column.name): column for column in parent.columns}
    if parent is not None and not set(map(fold, targets)) <= stored.keys():
        return None
    found = tuple(stored[fold(target)] for target in targets) if parent else ()
    collations = _collations(database, parent_name, targets) if parent else ()
    return Reference(place, child, columns, parent_name, parent, tuple(targets), found, collations)


def _collations(database: Database, parent: str, targets: Sequence[str]) -> tuple[str, ...]:
    """Read the collations of columns that are referred to: those of the UNIQUE index that SQLite asks for."""
    rows = database.execute(
        "SELECT l.name, x.name, x.coll FROM pragma_index_list(?, 'main') AS l, pragma_index_xinfo(l.name) AS x "
        'WHERE l."unique" AND NOT l.partial AND x.key ORDER BY l.seq, x.seqno',
        (parent,),
    ).fetchall()
    wanted = sorted(map(fold, targets))
    for _, group in groupby(rows, key=lambda row: row[0]):
        found = {fold(column or ""): collation for _, column, collation in group}
        if sorted(found) == wanted:
            return tuple(found[fold(target)] for target in targets)
    return ("BINARY",) * len(targets)  # the rowid's alias


def _key(database: Database, table: str) -> list[str]:
    rows = database.execute("SELECT name FROM pragma_table_info(?, 'main') WHERE pk > 0 ORDER BY pk", (table,))
    return [name for (name,) in rows]
