"""Which row is which on every device, and when two devices' rows are the same: the one place that says it."""

from __future__ import annotations

import sqlite3
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager

from sqlite_sync import Operation, RawText
from verification.subject import Subject, fold, quote

Image = Mapping[str, object]
RowName = tuple[str, Hashable]


def row_name(subject: Subject, table: str, key: Mapping[str, object]) -> RowName:
    """Name a row by its key as the key's collations see it."""
    facts = subject.table(table)
    parts = [fold(key[name], facts.collations.get(name, "BINARY"), subject.collations) for name in facts.key]
    return table, tuple(parts)


def row_of(subject: Subject, operation: Operation) -> RowName:
    """Name the row of an operation."""
    return row_name(subject, operation.table_name, operation.row_pk)


def content(subject: Subject, connection: sqlite3.Connection, table: str) -> dict[RowName, Image]:
    """Read what a table shows: row name -> image."""
    present = {row[1] for row in connection.execute(f"PRAGMA main.table_info({quote(table)})")}
    wanted = [*subject.table(table).names, *(later.column for later in subject.later if later.table == table)]
    names = [name for name in dict.fromkeys(wanted) if name in present]
    with texts(connection):
        rows = connection.execute(f"SELECT {', '.join(map(quote, names))} FROM main.{quote(table)}").fetchall()
    images = [dict(zip(names, row, strict=True)) for row in rows]
    return {row_name(subject, table, image): image for image in images}


def is_same(left: Image | None, right: Image | None) -> bool:
    """Compare two images, typed and to the bit, in the columns that both have."""
    if left is None or right is None:
        return left is right
    return all(exact(left[name]) == exact(right[name]) for name in left.keys() & right.keys())


def exact(value: object) -> tuple[str, object]:
    """Tell values apart by type and to the bit; 0.0 and -0.0 are one value to SQL (SPEC.md, section 14)."""
    if isinstance(value, float):
        return "real", (value + 0.0).hex()
    if isinstance(value, RawText):
        return "text", bytes(value)
    return type(value).__name__, value.encode() if isinstance(value, str) else value


@contextmanager
def texts(connection: sqlite3.Connection) -> Iterator[None]:
    """Read text that is not valid UTF-8, too."""
    former, connection.text_factory = connection.text_factory, _decoded
    try:
        yield
    finally:
        connection.text_factory = former


def _decoded(stored: bytes) -> str | RawText:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return RawText(stored)
