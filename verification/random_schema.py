"""Schemas with constraints, as chance has them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

from verification.fitting import often, seldom
from verification.subject import Later, Subject, read

KEYS = [
    ("id", "id TEXT PRIMARY KEY"),
    ("id", "id TEXT PRIMARY KEY"),
    ("id", "id TEXT PRIMARY KEY COLLATE NOCASE"),
    ("id", "id INTEGER PRIMARY KEY"),
    ("id", "id BLOB PRIMARY KEY NOT NULL"),
    ("id", "id REAL PRIMARY KEY"),
    ("", "source TEXT, place INTEGER, PRIMARY KEY (source, place)"),
    ("", "source TEXT COLLATE NOCASE, place, PRIMARY KEY (place, source)"),
]
TYPES = ["TEXT", "INTEGER", "REAL", "BLOB", "NUMERIC", "TEXT COLLATE NOCASE"]
ACTIONS = [
    *("", "", " ON DELETE CASCADE", " ON DELETE SET NULL", " ON DELETE RESTRICT", " ON UPDATE CASCADE"),
    *(" ON DELETE CASCADE ON UPDATE CASCADE", " ON DELETE SET DEFAULT", " DEFERRABLE INITIALLY DEFERRED"),
]
ON_CONFLICT = ["", "", "", " ON CONFLICT REPLACE", " ON CONFLICT IGNORE", " ON CONFLICT FAIL", " ON CONFLICT ROLLBACK"]
CHECKS = ["{0} IS NULL OR {0} < 3", "{0} <> 'b'", "typeof({0}) <> 'blob'", "length({0}) < 3 OR {0} IS NULL"]
LATER = [("TEXT", None), ("INTEGER NOT NULL DEFAULT 7", 7), ("BLOB", None)]


@dataclass(frozen=True)
class Made:
    """A table that was made, as far as another can refer to it."""

    name: str
    key: str  # empty where it is composite
    key_type: str


def make(drawn: bytes, folder: Path) -> Subject:
    """Make a schema of one to three tables, and its template."""
    chance = Random(drawn)  # noqa: S311  # repeatable
    made: list[Made] = []
    statements: list[str] = []
    for number in range(chance.choice([1, 1, 2, 2, 3])):
        table, sql = _table(chance, f"t{number}", made)
        made.append(table)
        statements += sql
    template = folder / "template.db"
    with closing(sqlite3.connect(template)) as connection:
        connection.executescript(";\n".join(statements))
        tables = tuple(read(connection, table.name) for table in made)
    later = tuple(Later(table.name, "later", *chance.choice(LATER)) for table in made if not seldom(chance))
    return Subject(template, tables, later)


def _table(chance: Random, name: str, made: Sequence[Made]) -> tuple[Made, list[str]]:
    key, key_sql = chance.choice(KEYS)
    columns, rules, indexes = [], [], []
    is_strict = chance.randrange(6) == 0
    for number in range(chance.randint(1, 4)):
        column = f"c{number}"
        kind = chance.choice(TYPES)
        columns.append(f"{column} {kind.replace('NUMERIC', 'ANY') if is_strict else kind}{_rule(chance, column)}")
    if len(columns) > 1 and seldom(chance):
        rules.append(f"UNIQUE (c0, c1){chance.choice(ON_CONFLICT)}")
    if seldom(chance):
        indexes.append(f"CREATE {chance.choice(['', 'UNIQUE '])}INDEX {name}_index ON {name} (c0)")
    if seldom(chance):
        columns.append("shown TEXT AS (c0 || '!')")
    parents = [*made, *([Made(name, key, key_sql)] if key else [])]
    for number in range(chance.choice([0, 1, 1, 2])):
        candidates = [parent for parent in parents if parent.key]
        if candidates:
            parent = chance.choice(candidates)
            kind = parent.key_type.split()[1]
            target = chance.choice(["", f" ({parent.key})"])
            columns.append(f"r{number} {kind} REFERENCES {parent.name}{target}{chance.choice(ACTIONS)}")
    options = ["STRICT"] if is_strict else []
    if "INTEGER PRIMARY KEY" not in key_sql and seldom(chance):
        options.append("WITHOUT ROWID")
    key_columns, _, key_rule = key_sql.partition(", PRIMARY KEY")
    if is_strict:
        key_columns = key_columns.replace("place", "place ANY") if key_columns.endswith("place") else key_columns
    parts = [key_columns, *columns, *([f"PRIMARY KEY{key_rule}"] if key_rule else []), *rules]
    return Made(name, key, key_sql), [f"CREATE TABLE {name} ({', '.join(parts)}) {', '.join(options)}", *indexes]


def _rule(chance: Random, column: str) -> str:
    match chance.randrange(10):
        case 0 | 1:
            return f" UNIQUE{chance.choice(ON_CONFLICT)}"
        case 2:
            return f" CHECK ({chance.choice(CHECKS).format(column)})"
        case 3:
            return " NOT NULL DEFAULT 1" if often(chance) else " NOT NULL"
        case 4:
            return " DEFAULT 2"
        case _:
            return ""
