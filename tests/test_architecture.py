"""The house as a table: each room one purpose, imports point down only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sqlite_sync

HOUSE = Path(sqlite_sync.__file__).parent

FLOORS: tuple[tuple[str, ...], ...] = (  # from the ground up; a room may import from lower floors only
    ("errors", "clock", "codec", "findings", "numbering", "bookkeeping"),
    ("operation",),
    ("verdict",),
    ("database",),
    ("indexes", "peers", "schema"),
    ("tables", "births"),
    ("catalog", "bundle", "app_triggers", "triggers", "versions"),
    ("bundle_reader", "transcoder", "log", "capture"),
    ("mapping", "renumbering"),
    ("baselines", "forks", "exporter", "devices", "inspection", "references"),
    ("conflicts", "resolutions"),
    ("contested", "status", "live_rows", "decision", "explanation"),
    ("hanging",),
    ("parking", "unseen"),
    ("applier",),
    ("reconciler",),
    ("reuse", "pairing"),
    ("settler",),
    ("enroller", "resolver", "carrier", "anatomy", "audit", "appender"),
    ("arbiter", "unparking", "guesses", "adopter"),
    ("importer", "hazards"),
    ("folder", "doctor"),
    ("engine", "strategies"),
    ("__init__",),
    ("cli",),
)
PURE = {
    "errors",
    "numbering",
    "clock",
    "codec",
    "operation",
    "verdict",
    "hazards",
    "decision",
    "strategies",
    "bookkeeping",
}
IMPURE_MODULES = {"sqlite3", "os", "pathlib", "time", "random", "secrets", "uuid", "uuid_utils", "tempfile", "shutil"}


def _imports(path: Path) -> set[str]:
    """Return every imported module; of `from sqlite_sync import x`, the rooms x."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "sqlite_sync":
            rooms = {room for floor in FLOORS for room in floor}
            found |= {f"sqlite_sync.{alias.name}" if alias.name in rooms else "sqlite_sync" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def _rooms() -> dict[str, set[str]]:
    """Return what each room imports."""
    rooms = {path.stem: _imports(path) for path in HOUSE.glob("*.py")}
    rooms["cli"] = set().union(*(_imports(path) for path in (HOUSE / "cli").glob("*.py")))
    return rooms


def test_every_room_is_on_a_floor() -> None:
    assert sorted(_rooms()) == sorted(room for floor in FLOORS for room in floor)


@pytest.mark.parametrize("room", sorted({room for floor in FLOORS for room in floor} - {"cli", "__init__"}))
def test_imports_point_down_only(room: str) -> None:
    level = {name: i for i, floor in enumerate(FLOORS) for name in floor}
    imported = {name.removeprefix("sqlite_sync.") for name in _rooms()[room] if name.startswith("sqlite_sync.")}
    assert {name for name in imported if level[name] >= level[room]} == set()


@pytest.mark.parametrize("room", sorted(PURE))
def test_the_ground_is_pure(room: str) -> None:
    assert _rooms()[room] & IMPURE_MODULES == set()


def test_the_command_line_uses_public_names_only() -> None:
    inside = {name for name in _rooms()["cli"] if name.startswith("sqlite_sync.")}
    assert {name for name in inside if not name.startswith("sqlite_sync.cli")} == set()


def test_only_the_database_room_opens_the_users_file() -> None:
    connecting = {
        path.stem
        for path in HOUSE.glob("*.py")
        if any(
            isinstance(node, ast.Attribute) and node.attr == "connect" and getattr(node.value, "id", "") == "sqlite3"
            for node in ast.walk(ast.parse(path.read_text()))
        )
    }
    assert connecting == {
        "database",
        *("bundle", "bundle_reader", "transcoder", "app_triggers", "schema"),  # scratch or copies
    }


def test_everything_public_can_be_imported() -> None:
    assert all(hasattr(sqlite_sync, name) for name in sqlite_sync.__all__)
    assert sqlite_sync.__all__ == sorted(sqlite_sync.__all__)
