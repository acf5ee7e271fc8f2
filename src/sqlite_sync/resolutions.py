"""Write a resolution into the log: one operation that every head stands before (SPEC.md, section 10.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlite_sync import catalog, forks, triggers
from sqlite_sync.codec import Value
from sqlite_sync.database import Database
from sqlite_sync.errors import ConstraintError
from sqlite_sync.log import Contexts
from sqlite_sync.operation import Kind
from sqlite_sync.tables import Table, commas, mark
from sqlite_sync.verdict import judge


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a row in conflict is to become: the fork, the dots of its shown and of its chosen head, and the image.

    `strategy` is the name of what decided; None for a person.
    """

    fork: int
    local: int
    chosen: int
    image: Mapping[str, Value] | None
    strategy: str | None = None


def append(database: Database, table: Table, outcome: Outcome) -> None:
    """Write a resolution into the log."""
    image = outcome.image
    if image is None:
        kind, columns = Kind.RESOLVE_DELETE, [column.new for column in table.key]
        select = f"SELECT {commas(columns)} FROM main.sync_operations WHERE op = ?"
        values = list(database.execute(select, (outcome.local,)).fetchone())
    else:
        _require_values(table, image)
        held = _held(database, table, outcome.fork, outcome.chosen)
        kind, columns = Kind.RESOLVE, [*(column.new for column in table.columns), *held]
        values = [*(image[column.name] for column in table.columns), *held.values()]
    database.execute(
        f"INSERT INTO main.sync_operations (table_no, kind, hlc, o0, {commas(columns)}) "
        f"VALUES ({table.number}, {kind:d}, {triggers.outside(triggers.NEXT_HLC)}, ?, {commas(map(mark, values))})",
        [outcome.strategy, *values],
    )


def _require_values(table: Table, image: Mapping[str, Value]) -> None:
    """Refuse NULL in a column where it would stand for the default: in an image that is older than the column."""
    for column in table.columns:
        if column.fill and image[column.name] is None:
            key = {one.name: image[one.name] for one in table.key}
            msg = (
                f"{table.name} {key} cannot be so, since {column.name} cannot be NULL: give other values; "
                "nothing was changed"
            )
            raise ConstraintError(msg)


def _held(database: Database, table: Table, fork: int, head: int) -> dict[str, Value]:
    """Return what the chosen head has in columns that only other devices have, by log column: it is kept."""
    whole = catalog.whole(database, table)
    if len(whole.columns) == len(table.columns):
        return {}
    _, listed = forks.loaded(database, whole, fork)
    operations = forks.history(database, whole, listed[0])
    verdict = judge(None, operations, Contexts(database).knows, is_whole=True)
    image = verdict.images[head] or ()
    pairs = zip(whole.columns, image, strict=False)
    return {column.new: value for column, value in list(pairs)[len(table.columns) :]}
