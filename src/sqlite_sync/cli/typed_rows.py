"""Values that people type for the columns of a row."""

from __future__ import annotations

from sqlite_sync import SyncEngine, Value
from sqlite_sync.cli.group import Failure
from sqlite_sync.cli.values import typed


def typed_values(engine: SyncEngine, table: str, texts: dict[str, str]) -> dict[str, Value]:
    """Read the values of --set, each as its column would store it."""
    rows = engine.connection.execute("SELECT name, type FROM pragma_table_xinfo(?)", (table,)).fetchall()
    columns = {name.lower(): (name, declared) for name, declared in rows}
    values: dict[str, Value] = {}
    for given, text in texts.items():
        if given.lower() not in columns:
            message = f"{table} has no column {given!r}; it has {', '.join(name for name, _ in rows)}"
            raise Failure(message)
        name, declared = columns[given.lower()]
        values[name] = typed(text, declared)
    return values
