from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings

from sqlite_sync import ImportResult, SyncEngine, tables
from sqlite_sync.database import Database
from sqlite_sync.triggers import Renderer

settings.register_profile("ci", derandomize=True)  # the same examples for the same code; search at random by hand
if os.environ.get("CI"):
    settings.load_profile("ci")

TODOS = "CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT NOT NULL, done INTEGER DEFAULT 0)"

MakeEngine = Callable[..., SyncEngine]


def send(source: SyncEngine, target: SyncEngine) -> ImportResult | None:
    """Carry what `target` lacks from `source` to it; None where there is nothing."""
    path = source.generate_bundle(target.device_id, source.path.with_suffix(".bundle"))
    return None if path is None else target.import_bundle(path)


@contextmanager
def unchanging_schema() -> Iterator[None]:
    """Read a table's shape, and render its triggers, once: no device ever changes its schema here."""
    read, render = tables.read, Renderer.render
    shapes: dict[tuple[object, ...], tables.Table] = {}
    texts: dict[tuple[int, bool], dict[str, str]] = {}

    def read_once(database: Database, name: str, number: int, positions: dict[str, int]) -> tables.Table:
        key = name, number, tuple(positions)
        if key not in shapes:
            shapes[key] = read(database, name, number, positions)
        return shapes[key]

    def render_once(renderer: Renderer) -> dict[str, str]:
        key = id(renderer.table), renderer.is_contested
        if not any(renderer.table is one for one in shapes.values()):
            return render(renderer)
        if key not in texts:
            texts[key] = render(renderer)
        return texts[key]

    with patch.object(tables, "read", read_once), patch.object(Renderer, "render", render_once):
        yield


def tick() -> None:
    """Let the clock go on, so that what is written next has a later HLC on whatever device."""
    before = time.time_ns()
    while time.time_ns() < before + 2_000_000:
        pass


class Turns:
    """Whoever writes after another device has a later clock, however fast the machine is."""

    def __init__(self) -> None:
        self._last: tuple[str, int] = ("", 0)

    def watch(self, engine: SyncEngine) -> None:
        """Wait, before a statement that writes, until the clock has gone on since another device wrote."""
        name = str(engine.path)

        def before(statement: str) -> None:
            if statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE", "REPLAC"):
                writer, written_ns = self._last
                while writer != name and time.time_ns() < written_ns + 2_000_000:
                    pass
                self._last = (name, time.time_ns())

        engine.connection.set_trace_callback(before)


def set_clock(engine: SyncEngine, now_ms: int) -> None:
    """Let an engine's connection believe that it is another time."""
    engine.connection.create_function("julianday", 1, lambda _: 2440587.5 + now_ms / 86_400_000)


def exchange(*engines: SyncEngine) -> None:
    """Let all meet all, until everybody holds everything."""
    for _ in range(2):
        for source in engines:
            for target in engines:
                if source is not target:
                    send(source, target)


def rows(engine: SyncEngine, table: str = "todos") -> list[tuple[object, ...]]:
    """Return a table's content, sorted, with the type of every value."""
    found = engine.connection.execute(f"SELECT * FROM {table}").fetchall()
    return sorted((tuple((type(value).__name__, value) for value in row) for row in found), key=repr)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeEngine]:
    """Make initialized engines, each on a file of its own with the given schema and enabled tables."""
    engines: list[SyncEngine] = []
    turns = Turns()

    def make_engine(
        name: str = "a", schema: str = TODOS, tables: tuple[str, ...] = ("todos",), keys: str | None = None
    ) -> SyncEngine:
        engine = SyncEngine(tmp_path / f"{name}.db")
        engines.append(engine)
        turns.watch(engine)
        engine.initialize()
        engine.connection.executescript(schema)
        for table in tables:
            engine.enable_sync_for_table(table, keys=keys)
        return engine

    yield make_engine
    for engine in engines:
        engine.close()


@pytest.fixture
def pair(make: MakeEngine) -> tuple[SyncEngine, SyncEngine]:
    return make("a"), make("b")
