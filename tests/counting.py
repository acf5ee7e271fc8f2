"""Count what is done, which is the same on a busy machine, where seconds are not.

Counted are SQLite's own instructions (`EXPLAIN` lists them) and the statements that are run, on every connection that is
opened, be it on a copy or a scratch file; and the functions of Python that are called.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any
from unittest import mock


@dataclass(slots=True)
class Count:
    """What was done between two looks."""

    steps: int = 0
    statements: int = 0
    calls: int = 0

    def step(self) -> None:
        """Count an instruction of SQLite."""
        self.steps += 1

    def statement(self, sql: str) -> None:
        """Count a statement; SQLite also tells of each trigger that it enters, as a comment."""
        self.statements += not sql.startswith("--")

    def call(self, _: FrameType, event: str, __: object) -> None:
        """Count a function of Python that is entered."""
        self.calls += event == "call"


@dataclass(slots=True)
class _Meter:
    """The connections that were opened while it watches, and the count that now goes on."""

    connections: list[sqlite3.Connection] = field(default_factory=list)
    count: Count | None = None

    def watch(self, connection: sqlite3.Connection) -> None:
        """Count what this connection does, if anything is counted now."""
        count = self.count
        connection.set_progress_handler(count and count.step, 1 if count else 0)
        connection.set_trace_callback(count and count.statement)


_METER = _Meter()


class _Watched(sqlite3.Connection):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _METER.connections.append(self)
        _METER.watch(self)

    def close(self) -> None:
        _METER.connections.remove(self)
        super().close()


@contextmanager
def watched() -> Iterator[None]:
    """Let every connection that is opened in this block be counted."""
    connect = sqlite3.connect

    def watching(*args: Any, **options: Any) -> sqlite3.Connection:
        return connect(*args, **{**options, "factory": _Watched})

    with mock.patch.object(sqlite3, "connect", watching):
        yield


def counted(action: Callable[[], object], *, calls: bool = False) -> Count:
    """Count what an action does, on all watched connections; the calls of Python only if asked, since that is slow."""
    _METER.count = count = Count()
    for connection in _METER.connections:
        _METER.watch(connection)
    before = sys.getprofile()
    try:
        if calls:
            for connection in _METER.connections:
                connection.set_progress_handler(None, 0)  # its calls would be counted as well
                connection.set_trace_callback(None)
            _METER.count = None
            sys.setprofile(count.call)
        action()
    finally:
        sys.setprofile(before)
        _METER.count = None
        for connection in _METER.connections:
            _METER.watch(connection)
    return count
