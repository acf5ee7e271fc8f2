"""Columns that look like references to another table's rows without being declared so.

First by name (`note_id` beside a table `notes`), then by values: all those of a sample are keys of one table. Small
numbers are keys of many tables by chance, so values alone count only where neighbours of the keys are no keys, as with
timestamps and UUIDs, or where the column's name ends in `id`. The sample is bounded, whatever the size of the tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from sqlite_sync.anatomy import Facts
from sqlite_sync.codec import Value
from sqlite_sync.database import Database
from sqlite_sync.tables import Column, Table, commas, fold

SAMPLE_ROWS = 500
SAMPLE_VALUES = 100
FEWEST_VALUES = 3  # that are no coincidence
MOST_PARENTS = 3


@dataclass(frozen=True, slots=True)
class Guess:
    """A column that looks like a reference to one of `parents`; `is_number` where their keys are numbers."""

    table: str
    column: str
    parents: tuple[str, ...]
    by_name: bool
    is_number: bool


@dataclass(frozen=True, slots=True)
class Parent:
    """A table whose key is one column; `is_dense`: numbers so close that any small number is likely to be one."""

    table: Table
    key: Column
    names: frozenset[str]
    is_dense: bool


def read(database: Database, everything: Sequence[Facts]) -> list[Guess]:
    """Guess the undeclared references between these tables."""
    shapes = [facts.table for facts in everything if facts.table is not None and len(facts.table.key) == 1]
    parents = [
        Parent(table, table.key[0], names_for(table.name, table.key[0].name), _is_dense(database, table))
        for table in shapes
    ]
    return [guess for facts in everything for guess in _of_table(database, facts, parents)]


def _of_table(database: Database, facts: Facts, parents: Sequence[Parent]) -> Iterator[Guess]:
    if facts.table is None:
        return
    declared = {fold(column) for reference in facts.references for column in reference.columns}
    own_key = {facts.key[0]} if len(facts.key) == 1 else set()
    columns = [c for c in facts.table.columns if fold(c.name) not in declared and c.name not in own_key]
    for column, values in zip(columns, _samples(database, facts.table, columns), strict=True):
        alike = [parent for parent in parents if _are_alike(column, parent.key)]
        named = _named(database, column, values, alike)
        fitting = [named] if named else _fitting(database, column, values, alike)
        if 0 < len(fitting) <= MOST_PARENTS:
            names = tuple(parent.table.name for parent in fitting)
            is_number = any(parent.key.affinity == "INTEGER" for parent in fitting)
            yield Guess(facts.name, column.name, names, named is not None, is_number)


def _named(database: Database, column: Column, values: list[Value], parents: Sequence[Parent]) -> Parent | None:
    for parent in parents:
        if fold(column.name) in parent.names and (
            not values or any(_holds(database, parent, value) for value in values)
        ):
            return parent
    return None


def _fitting(database: Database, column: Column, values: list[Value], parents: Sequence[Parent]) -> list[Parent]:
    """Find the tables that have every value as a key; one more than may be told is enough."""
    if len(values) < FEWEST_VALUES:
        return []
    is_id = fold(column.name).endswith("id")
    fitting = (
        parent
        for parent in parents
        if (is_id or not parent.is_dense) and all(_holds(database, parent, value) for value in values)
    )
    return [*islice(fitting, MOST_PARENTS + 1)]


def names_for(table: str, key: str) -> frozenset[str]:
    """Say what a column that refers to a table is likely to be called: note_id, noteid, note_uuid."""
    whole = fold(table)
    stems = {stem for word in (whole, whole.rpartition("_")[2]) for stem in _singular(word)}
    ends = {"id", fold(key)}
    return frozenset(f"{stem}{joint}{end}" for stem in stems if stem for joint in ("_", "") for end in ends)


def _singular(word: str) -> set[str]:
    stems = {word}
    if word.endswith("ies"):
        stems.add(word[:-3] + "y")
    if word.endswith("es"):
        stems.add(word[:-2])
    if word.endswith("s"):
        stems.add(word[:-1])
    return stems


def _are_alike(column: Column, key: Column) -> bool:
    return column.affinity == key.affinity or "BLOB" in (column.affinity, key.affinity)


def _samples(database: Database, table: Table, columns: Sequence[Column]) -> list[list[Value]]:
    """Read some of each column's values, none twice; NULL, fractions and empty text refer to nothing."""
    if not columns:
        return []
    bare = commas(f"+{column.sql}" for column in columns)  # no declared type: no converter of the user's steps in
    rows = database.execute(f"SELECT {bare} FROM {table.sql} LIMIT {SAMPLE_ROWS}").fetchall()
    by_column = zip(*rows, strict=True) if rows else ([] for _ in columns)
    return [[*filter(_can_refer, dict.fromkeys(values))][:SAMPLE_VALUES] for values in by_column]


def _can_refer(value: Value) -> bool:
    return isinstance(value, int | str | bytes) and value != ""


def _holds(database: Database, parent: Parent, value: Value) -> bool:
    try:
        return bool(database.one(f"SELECT 1 FROM {parent.table.sql} WHERE {parent.key.sql} = ?", (value,)))
    except sqlite3.OperationalError:  # a collation that only the application has
        return False


def _is_dense(database: Database, table: Table) -> bool:
    [key] = table.key
    rows = database.execute(f"SELECT +{key.sql} FROM {table.sql} ORDER BY {key.sql} LIMIT {SAMPLE_VALUES}").fetchall()
    numbers = [value for (value,) in rows if isinstance(value, int)]
    neighbours = sum(later - earlier == 1 for earlier, later in pairwise(numbers))
    return 2 * neighbours > len(rows)
