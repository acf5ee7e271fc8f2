"""What is compared: values to the bit, images, whole files."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from sqlite_sync import Operation, RawText, SyncEngine
from verification.search import require
from verification.steps import KEYS, PAYLOAD, Image, RowName

Connect = Callable[[Path], sqlite3.Connection]


def exact(value: object) -> tuple[str, object]:
    """Tell values apart by type and to the bit; only 0.0 and -0.0 are one value to SQL (SPEC.md, section 14)."""
    if isinstance(value, float):
        return "real", (value + 0.0).hex()
    if isinstance(value, RawText):
        return "text", bytes(value)
    return type(value).__name__, value.encode() if isinstance(value, str) else value


def exact_image(image: Image) -> tuple[tuple[str, tuple[str, object]], ...] | None:
    """Make an image comparable; None is absent."""
    return None if image is None else tuple((name, exact(value)) for name, value in sorted(image.items()))


def exact_content(content: Mapping[RowName, Image]) -> dict[RowName, object]:
    """Make content comparable; rows that are absent are left out."""
    return {name: exact_image(image) for name, image in content.items() if image is not None}


@contextmanager
def plain(path: Path, connect: Connect = sqlite3.connect) -> Iterator[sqlite3.Connection]:
    """Open a file as any program does, without this package."""
    with closing(connect(path)) as connection:
        connection.isolation_level = None
        connection.text_factory = bytes
        yield connection


def dump(path: Path, connect: Connect = sqlite3.connect) -> dict[str, list[Any]]:
    """Read a whole file, ours and theirs, except for the time at which a bundle was imported."""
    with plain(path, connect) as connection:
        require(connection.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)], f"{path.name} is damaged")
        names = [name.decode() for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found = {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in sorted(names)}
        found["sync_bundles"] = [row[:2] for row in found["sync_bundles"]]
        found[""] = connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()
        return found


def difference(before: Mapping[str, list[Any]], after: Mapping[str, list[Any]]) -> str | None:
    """Name the tables in which two dumps differ; None where they are equal."""
    names = [name or "the schema" for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    return ", ".join(sorted(names)) or None


def copied(source: Path, target: Path) -> Path:
    """Copy a database that nobody has open."""
    return Path(shutil.copyfile(source, target))


def require_same_state(one: SyncEngine, other: SyncEngine, when: str) -> None:
    """Compare what two devices hold that hold the same operations."""
    for what, left, right in zip(("log", "conflicts", "content"), _state(one), _state(other), strict=True):
        require(left == right, f"{when}, the {what} differs: {left} and {right}")


def _state(engine: SyncEngine) -> tuple[object, object, object]:
    conflicts = [repr(conflict) for conflict in engine.get_unresolved_conflicts()]
    with plain(engine.path) as program:
        content = [program.execute(f"SELECT {_typed(table)} FROM {table} ORDER BY 1, 3").fetchall() for table in KEYS]
    return sorted(repr(operation) for operation in engine.operations()), conflicts, content


def _typed(table: str) -> str:
    return ", ".join(f"{column}, typeof({column})" for column in (*KEYS[table], *PAYLOAD[table]))


def spelled(operation: Operation) -> list[tuple[str, str]]:
    """Spell an operation out, to the bit; the columns in no order."""
    parts = ((one.name, getattr(operation, one.name)) for one in fields(operation))
    return [(name, repr(sorted(part.items()) if isinstance(part, Mapping) else part)) for name, part in parts]
