"""What a parked row is shown with: the row in its way, or its parent, either of which may be parked itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from sqlite_sync import Conflict, Images, SyncEngine, Value


@dataclass(frozen=True)
class Surroundings:
    """The conflict of the shown row where that is parked itself, and a missing parent: its table and key."""

    parked: Conflict | None = None
    parent: tuple[str, Mapping[str, Value]] | None = None


ALONE = Surroundings()


class Parked:
    """The rows of a database that are parked at one moment, by the operations that they stand for."""

    def __init__(self, engine: SyncEngine) -> None:
        self._engine = engine
        self._by_op = {one.remote_op_id: one for one in engine.get_unresolved_conflicts() if one.is_parked}

    def around(self, conflict: Conflict, images: Images) -> Surroundings:
        """Say what a conflict is shown with."""
        found = self._by_op.get(conflict.local_op_id)
        if found is not None and found.conflict_id == conflict.conflict_id:
            return ALONE
        if conflict.kind != "foreign_key":
            return Surroundings(found)
        return Surroundings(found, _missing_parent(self._engine, conflict.table_name, images.remote or {}))


def made_room(conflict: Conflict, around: Surroundings) -> str:
    """Say what else became of the rows around when a parked row was let stand."""
    if conflict.kind == "unique" and around.parked is None:
        return ", and the row in its way is deleted"
    return ", and so is its parent" if conflict.kind == "foreign_key" else ""


def _missing_parent(engine: SyncEngine, table: str, row: Mapping[str, Value]) -> tuple[str, Mapping[str, Value]] | None:
    """Name the first row that a row refers to and that is in no table."""
    references: dict[int, dict[str, str]] = {}
    parents: dict[int, str] = {}
    for number, parent, column, to in engine.connection.execute(
        'SELECT f.id, f."table", f."from", coalesce(f."to", (SELECT k.name FROM pragma_table_info(f."table") AS k '
        "WHERE k.pk = f.seq + 1), '') FROM pragma_foreign_key_list(?) AS f ORDER BY f.id, f.seq",
        (table,),
    ).fetchall():
        parents[number] = parent
        references.setdefault(number, {})[to] = column
    names = {name.lower(): name for name in row}
    for number, columns in references.items():
        key = {to: row[names[column.lower()]] for to, column in columns.items() if column.lower() in names}
        if len(key) == len(columns) and None not in key.values() and _is_missing(engine, parents[number], key):
            return parents[number], key
    return None


def _is_missing(engine: SyncEngine, table: str, key: Mapping[str, Value]) -> bool:
    same = " AND ".join(f"{_quoted(name)} = ?" for name in key)
    try:
        found = engine.connection.execute(f"SELECT 1 FROM {_quoted(table)} WHERE {same}", list(key.values())).fetchone()
    except sqlite3.OperationalError:  # a reference to what is not there
        return False
    return found is None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
