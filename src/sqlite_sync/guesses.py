"""Columns that look like references to another table's rows without being declared so.

First by name (`note_id` beside a table `notes`), then by values: all those of a sample are keys of one table. Small
numbers are keys of many tables by chance, so values alone count only where neighbours of the keys are no keys, as with
timestamps and UUIDs, or where the column's name ends in `id`. The sample is bounded, whatever the size of the tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


def read(database: Database, everything: Sequence[Facts]) -> list[Guess]:
    """Guess the undeclared references between these tables."""
    shapes = [facts.table for facts in everything if facts.table is not None]
    parents = [table for table in shapes if len(table.key) == 1]
    return [guess for facts in everything for guess in _of_table(database, facts, parents)]


def _of_table(database: Database, facts: Facts, parents: Sequence[Table]) -> Iterator[Guess]:
    if facts.table is None:
        return
    declared = {fold(column) for reference in facts.references for column in reference.columns}
    own_key = {facts.key[0]} if len(facts.key) == 1 else set()
    columns = [c for c in facts.table.columns if fold(c.name) not in declared and c.name not in own_key]
    for column, values in zip(columns, _samples(database, facts.table, columns), strict=True):
        guess = _by_name(database, facts.table, column, values, parents)
        guess = guess or _by_values(database, facts.table, column, values, parents)
        if guess:
            yield guess


def _by_name(
    database: Database, table: Table, column: Column, values: list[Value], parents: Sequence[Table]
) -> Guess | None:
    for parent in parents:
        if fold(column.name) not in names_for(parent.name, parent.key[0].name) or not _are_alike(column, parent.key[0]):
            continue
        if not values or any(_holds(database, parent, value) for value in values):
            return _guess(table, column, [parent], by_name=True)
    return None


def _by_values(
    database: Database, table: Table, column: Column, values: list[Value], parents: Sequence[Table]
) -> Guess | None:
    if len(values) < FEWEST_VALUES:
        return None
    fitting = [
        parent
        for parent in parents
        if _are_alike(column, parent.key[0]) and all(_holds(database, parent, value) for value in values)
    ]
    if not fold(column.name).endswith("id"):
        fitting = [parent for parent in fitting if not _is_dense(database, parent, values)]
    return _guess(table, column, fitting, by_name=False) if 0 < len(fitting) <= MOST_PARENTS else None


def _guess(table: Table, column: Column, parents: Sequence[Table], *, by_name: bool) -> Guess:
    is_number = any(parent.key[0].affinity == "INTEGER" for parent in parents)
    return Guess(table.name, column.name, tuple(parent.name for parent in parents), by_name, is_number)


def names_for(table: str, key: str) -> set[str]:
    """Say what a column that refers to a table is likely to be called: note_id, noteid, note_uuid."""
    whole = fold(table)
    stems = {stem for word in (whole, whole.rpartition("_")[2]) for stem in _singular(word)}
    ends = {"id", fold(key)}
    return {f"{stem}{joint}{end}" for stem in stems if stem for joint in ("_", "") for end in ends}


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


def _holds(database: Database, parent: Table, value: Value) -> bool:
    [key] = parent.key
    try:
        return bool(database.one(f"SELECT 1 FROM {parent.sql} WHERE {key.sql} = ?", (value,)))
    except sqlite3.OperationalError:  # a collation that only the application has
        return False


def _is_dense(database: Database, parent: Table, values: list[Value]) -> bool:
    """Tell whether the keys are numbers so close to each other that any small number is likely to be one."""
    numbers = [value for value in values if isinstance(value, int) and abs(value) < 2**62]
    close = sum(_holds(database, parent, n + 1) or _holds(database, parent, n - 1) for n in numbers)
    return 2 * close > len(values)
