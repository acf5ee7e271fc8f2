"""Close a conflict by one operation that every head stands before (SPEC.md, section 10)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Literal

from sqlite_sync import conflicts, log, parking, resolutions, settler
from sqlite_sync.codec import Value, same
from sqlite_sync.conflicts import Conflict, Images
from sqlite_sync.database import Database
from sqlite_sync.errors import ConflictError
from sqlite_sync.operation import Operation
from sqlite_sync.resolutions import Outcome
from sqlite_sync.tables import Table, commas, fold, mark

Choice = Literal["local", "remote"] | Mapping[str, Value] | None


def resolve(database: Database, conflict: Conflict, choice: Choice) -> Operation:
    """Write the chosen image as a resolution, and bring it into the table, in the caller's transaction."""
    settler.settle(database)
    table, fork, local, remote = conflicts.to_close(database, conflict)
    image = _chosen(database, table, conflict, conflicts.images(database, conflict), choice)
    before = parking.footing(database, table, [tuple(conflict.row_pk.values())])
    resolutions.append(database, table, Outcome(fork, local, remote if choice == "remote" else local, image))
    seq = log.own_seq(database)
    settler.settle(database)
    parking.require_footing(database, before)
    return log.one_operation(database, seq)


def _chosen(
    database: Database, table: Table, conflict: Conflict, images: Images, choice: Choice
) -> Mapping[str, Value] | None:
    match choice:
        case "local":
            return images.local
        case "remote":
            return images.remote
        case None:
            return None
        case Mapping():
            return given(database, table, conflict, images, choice)
    raise impossible(choice)


def impossible(choice: object) -> ConflictError:
    """Make the error for a choice that is none."""
    return ConflictError(
        f"cannot resolve by {choice!r}: say 'local', 'remote', None to delete the row, or give values by column name"
    )


def given(
    database: Database, table: Table, conflict: Conflict, images: Images, values: Mapping[str, Value]
) -> Mapping[str, Value]:
    """Lay given values over the local image, or over the remote one where the local is no row, or another row."""
    names = {fold(column.name): column for column in table.columns}
    is_parked = conflict.is_parked
    image = dict((None if is_parked else images.local) or images.remote or {})
    for name, value in values.items():
        column = names.get(fold(name)) if isinstance(name, str) else None
        if column is None:
            msg = (
                f"{table.name} has no column {name!r} to resolve with; it has "
                f"{', '.join(c.name for c in table.columns)}"
            )
            raise ConflictError(msg)
        if column.key_place and not same(value, image[column.name]):
            msg = (
                f"a resolution cannot change the key of {table.name} {dict(conflict.row_pk)}: resolve "
                f"first, then change {name} by SQL"
            )
            raise ConflictError(msg)
        require_storable(database, f"{column.name} of {table.name} {dict(conflict.row_pk)}", value)
        image[column.name] = value
    known = [one for one in (images.base, images.local, images.remote) if one is not None]
    is_stored = all(any(same(value, one[name]) for one in known) for name, value in image.items())
    return image if is_stored else _as_stored(database, table, image)


def require_storable(database: Database, what: str, value: Value) -> None:
    """Refuse a value of a type that SQLite does not know, or beyond its integers."""
    try:
        database.execute(f"SELECT {mark(value)}", (value,))
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError, OverflowError, UnicodeEncodeError) as error:
        msg = f"{what} cannot be {value!r}: give text, a number of at most 64 bits, bytes or None"
        raise ConflictError(msg) from error


def _as_stored(database: Database, table: Table, image: Mapping[str, Value]) -> Mapping[str, Value]:
    """Give values the type that their columns store: '7' in an INTEGER column is 7."""
    typed = commas(f"c{i} {column.affinity}" for i, column in enumerate(table.columns))
    values = [image[column.name] for column in table.columns]
    database.execute(f"CREATE TEMP TABLE sync_given ({typed})")
    database.execute(f"INSERT INTO temp.sync_given VALUES ({commas(map(mark, values))})", values)
    stored = database.execute(f"SELECT {commas(f'+c{i}' for i in range(len(values)))} FROM temp.sync_given").fetchone()
    database.execute("DROP TABLE temp.sync_given")
    return {column.name: value for column, value in zip(table.columns, stored, strict=True)}
