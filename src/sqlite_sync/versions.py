"""The versions of rows in open conflict as plain values, where any program can read them with SQL (SPEC.md, section 5).

`sync_images_<n>` holds a row for each version that is a row; the view `sync_conflicts_<table>` lays them side by side.
Both name nothing of the application's: a migration that renames or rebuilds its table does not stumble over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from sqlite_sync.codec import RawText, Row
from sqlite_sync.database import Database
from sqlite_sync.operation import ORDINAL_SHIFT
from sqlite_sync.tables import Column, Table, commas, fold, insert_rows, quote
from sqlite_sync.verdict import Image

VERSIONS = ("base", "local", "remote")
_MOST_VIEWED = 600  # columns: a view has three for each, and SQLite's limit is 2000

VIEW = """\
CREATE VIEW main.{view} AS
SELECT {columns}
FROM sync_conflicts AS c
JOIN sync_forks AS f ON f.fork = c.fork AND f.table_no = {n}
JOIN sync_operations AS lo ON lo.op = c.local_op
JOIN sync_operations AS ro ON ro.op = c.remote_op
JOIN sync_devices AS ld ON ld.ordinal = -((c.local_op - 1) >> {shift})
JOIN sync_devices AS rd ON rd.ordinal = -((c.remote_op - 1) >> {shift})
LEFT JOIN sync_images_{n} AS base ON base.conflict_id = c.conflict_id AND base.version = 'base'
LEFT JOIN sync_images_{n} AS local ON local.conflict_id = c.conflict_id AND local.version = 'local'
LEFT JOIN sync_images_{n} AS remote ON remote.conflict_id = c.conflict_id AND remote.version = 'remote'"""

_FIXED = (
    ("conflict_id", "lower(hex(c.conflict_id))"),
    ("kind", "c.kind"),
    ("local_device", "lower(hex(ld.device_id))"),
    ("local_time", "strftime('%Y-%m-%d %H:%M:%f', nullif(lo.hlc >> 16, 0) / 1000.0, 'unixepoch')"),
    ("remote_device", "lower(hex(rd.device_id))"),
    ("remote_time", "strftime('%Y-%m-%d %H:%M:%f', nullif(ro.hlc >> 16, 0) / 1000.0, 'unixepoch')"),
)


def create(database: Database, table: Table) -> None:
    """Make the table of images, empty, and its view; in place of those that were there."""
    drop_view(database, table.name)
    database.execute(f"DROP TABLE IF EXISTS main.sync_images_{table.number}")
    columns = commas(_stored(column) for column in table.columns)
    database.execute(
        f"CREATE TABLE main.sync_images_{table.number} (conflict_id BLOB, version TEXT, {columns}, "
        "PRIMARY KEY (conflict_id, version))"
    )
    create_view(database, table)


def create_view(database: Database, table: Table) -> None:
    """Make the view on the table of images; a very wide table has none."""
    drop_view(database, table.name)
    if len(table.columns) <= _MOST_VIEWED:
        columns = commas(f"{expression} AS {quote(name)}" for name, expression in _viewed(table))
        database.execute(
            VIEW.format(view=quote(view_name(table.name)), columns=columns, n=table.number, shift=ORDINAL_SHIFT)
        )


def drop_view(database: Database, table_name: str) -> None:
    """Take the view on a table's conflicts away, if it is there."""
    database.execute(f"DROP VIEW IF EXISTS main.{quote(view_name(table_name))}")


def view_name(table_name: str) -> str:
    """Name the view on a table's conflicts."""
    return f"sync_conflicts_{table_name}"


def put(database: Database, table: Table, found: Sequence[tuple[bytes, Sequence[Image]]]) -> None:
    """Store the base, local and remote image of conflicts."""
    into = f"main.sync_images_{table.number} (conflict_id, version, {commas(map(_stored, table.columns))})"
    every = [image for _, images in found for image in images if image is not None]
    has_raw_text = RawText in map(type, chain.from_iterable(every))
    whole, single = list[Row](), list[Row]()
    for conflict_id, (base, local, remote) in found:
        if has_raw_text or base is None or local is None or remote is None:
            named = zip(VERSIONS, (base, local, remote), strict=True)
            single += [(conflict_id, version, *image) for version, image in named if image is not None]
        else:
            whole.append((conflict_id, *base, *local, *remote))
    insert_rows(database, into, single)
    # FAIL: for ABORT, SQLite would note what each statement of several rows changes; all is undone anyhow
    database.executemany(f"INSERT OR FAIL INTO {into} VALUES {_all_versions(len(table.columns))}", whole)


def _all_versions(width: int) -> str:
    """Render the rows of all versions of a conflict, each of so many columns; its id is the first parameter."""
    firsts = range(2, 2 + len(VERSIONS) * width, width)
    images = (commas(f"?{number}" for number in range(first, first + width)) for first in firsts)
    return commas(f"(?1, '{version}', {image})" for version, image in zip(VERSIONS, images, strict=True))


def remove(database: Database, table: Table, conflict_ids: Iterable[bytes]) -> None:
    """Drop the images of conflicts that are closed, or whose versions have changed."""
    database.executemany(
        f"DELETE FROM main.sync_images_{table.number} WHERE conflict_id = ?", [(one,) for one in conflict_ids]
    )


def rename(database: Database, conflict_ids: Sequence[tuple[bytes, bytes]]) -> None:
    """Give images the new ids of their conflicts, as (new, old): the device ids they are made of have changed."""
    tables = database.execute(
        "SELECT t.table_no FROM main.sync_tables AS t "
        "JOIN main.sqlite_schema AS s ON s.name = 'sync_images_' || t.table_no"
    ).fetchall()
    for (number,) in tables:
        database.executemany(
            f"UPDATE main.sync_images_{number} SET conflict_id = ? WHERE conflict_id = ?", conflict_ids
        )


def read(database: Database, table: Table, conflict_id: bytes) -> dict[str, Row]:
    """Return the images of one conflict, by version; one that is no row is left out."""
    names = commas(f"+{_stored(column)}" for column in table.columns)
    rows = database.execute(
        f"SELECT version, {names} FROM main.sync_images_{table.number} WHERE conflict_id = ?", (conflict_id,)
    )
    return {version: tuple(image) for version, *image in rows}


def _stored(column: Column) -> str:
    return f"c{column.position}"


def _viewed(table: Table) -> list[tuple[str, str]]:
    """Return (name, expression) of the view's columns; where two would have one name, the later gets an underscore."""
    keys = [(c.name, f"coalesce({commas(f'{side}.{_stored(c)}' for side in VERSIONS[::-1])})") for c in table.key]
    sides = [(f"{side}_{c.name}", f"{side}.{_stored(c)}") for c in table.columns for side in VERSIONS]
    viewed: dict[str, tuple[str, str]] = {}
    for name, expression in (*keys, *_FIXED, *sides):
        free = name
        while fold(free) in viewed:
            free += "_"
        viewed[fold(free)] = (free, expression)
    return list(viewed.values())
