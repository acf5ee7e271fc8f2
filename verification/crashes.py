"""Promise 10: all of an import happens, or nothing."""

from __future__ import annotations

import gc
import multiprocessing
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

from hypothesis import strategies as st

from sqlite_sync import SyncEngine, SyncError
from verification.compare import copied, difference, dump
from verification.search import Search, require
from verification.steps import Change, Step, a_change, a_resolution, a_send, histories
from verification.world import World


def all_or_nothing(search: Search) -> None:
    """Break an import at each of its statements, at any instruction of SQLite, on a full disk, and by kill -9."""
    history = histories(a_change, a_change, a_send, a_resolution, most=12)
    errors = st.sampled_from([sqlite3.OperationalError, MemoryError, KeyboardInterrupt])

    def each_statement(history: list[Step], error: type[BaseException], is_lasting: bool) -> None:  # noqa: FBT001
        with _import_under_way(search, history) as case:
            for place in range(1, case.statements() + 1, search.stride(25)):
                search.tried["statements broken"] += 1
                case.require_all_or_nothing(Fault(place, error, is_lasting=is_lasting))

    def any_instruction(history: list[Step], places: bytes, rooms: bytes) -> None:
        with _import_under_way(search, history) as case:
            for place in places:
                search.tried["instructions interrupted"] += 1
                case.require_all_or_nothing(Fault(instructions=1 + place * 40))
            for pages in rooms:
                search.tried["full disks"] += 1
                case.require_all_or_nothing(Fault(free_pages=pages % 4))

    search.run(each_statement, examples=search.part(25), history=history, error=errors, is_lasting=st.booleans())
    instants = st.binary(min_size=4, max_size=4)
    search.run(any_instruction, examples=search.part(2), history=history, places=instants, rooms=instants)
    with _many_rows(search) as case:
        search.run(case.require_killed_well, examples=search.part(2), moment=st.floats(0, 2))


@dataclass(frozen=True)
class Fault:
    """What goes wrong: an error at a statement and perhaps ever after, an interrupt, or no room for more pages."""

    statement: int | None = None
    error: type[BaseException] = sqlite3.OperationalError
    is_lasting: bool = False
    instructions: int | None = None
    free_pages: int | None = None


class FaultyCursor(sqlite3.Cursor):
    """A cursor that counts its statements, and fails where it is told to."""

    def execute(self, sql: str, parameters: Sequence[object] = (), /) -> FaultyCursor:
        """Fail, or execute."""
        self._count()
        super().execute(sql, parameters)
        return self

    def executemany(self, sql: str, rows: Iterable[Sequence[object]], /) -> FaultyCursor:
        """Fail, or execute for all rows."""
        self._count()
        super().executemany(sql, rows)
        return self

    def _count(self) -> None:
        connection = self.connection
        if isinstance(connection, FaultyConnection):
            connection.count += 1
            fault = connection.fault
            if fault and fault.statement is not None:
                beyond = connection.count - fault.statement
                if beyond == 0 or (beyond > 0 and fault.is_lasting):
                    raise fault.error


class FaultyConnection(sqlite3.Connection):
    """A connection on which something goes wrong."""

    count = 0
    fault: Fault | None = None

    def cursor(self, factory: type[FaultyCursor] = FaultyCursor, /) -> FaultyCursor:
        """Give a cursor that counts."""
        return super().cursor(factory)

    def arm(self, fault: Fault | None) -> None:
        """Start counting from here, towards a fault."""
        self.count, self.fault = 0, fault
        if fault and fault.instructions is not None:
            countdown = iter([0] * fault.instructions + [1])
            self.set_progress_handler(lambda: next(countdown, 0), 1)
        if fault and fault.free_pages is not None:
            ((pages,),) = self.execute("PRAGMA page_count")
            self.execute(f"PRAGMA max_page_count = {pages + fault.free_pages}")


@dataclass
class Interrupted:
    """A database, a bundle for it, and what the database is before and after the import."""

    search: Search
    path: Path
    bundle: Path
    before: dict[str, list[Any]]
    after: dict[str, list[Any]]
    seconds: float

    @property
    def work(self) -> Path:
        """The copy on which imports are broken."""
        return self.path.with_suffix(".work")

    def statements(self) -> int:
        """Count the statements of one import."""
        with _faulty(copied(self.path, self.work)) as engine:
            connection: Any = engine.connection
            connection.arm(None)
            engine.import_bundle(self.bundle)
            count: int = connection.count
        copied(self.path, self.work)
        return count

    def require_all_or_nothing(self, fault: Fault) -> None:
        """Import with a fault; then the file is as before or as after, and when it is as before, it can go on."""
        with _faulty(self.work) as engine:
            connection: Any = engine.connection
            connection.arm(fault)
            with suppress(SyncError, sqlite3.Error, MemoryError, KeyboardInterrupt):
                engine.import_bundle(self.bundle)
            if not fault.is_lasting:
                require(not connection.in_transaction, f"a transaction was left open by {fault}")
                self._require_whole(fault)
        if fault.is_lasting:
            gc.collect()  # a process would end here; a cursor in a traceback keeps the lock of a closed connection
        if self._require_whole(fault):
            copied(self.path, self.work)

    def _require_whole(self, how: object) -> bool:
        """Tell whether the import has happened, where it has not happened by halves."""
        if self.work.read_bytes() == self.path.read_bytes() and not _journal(self.work).exists():
            return False
        found = dump(self.work)
        if found == self.before:
            return False
        halves = difference(self.before, found), difference(self.after, found)
        require(found == self.after, f"{how}: differs from before in {halves[0]}, and from after in {halves[1]}")
        return True

    def require_killed_well(self, moment: float) -> None:
        """Kill a process that imports, after this part of the time that it takes; then let another one import."""
        copied(self.path, self.work)
        ours, theirs = multiprocessing.Pipe()
        process = _PROCESSES.Process(target=_import_elsewhere, args=(self.work, self.bundle, theirs), daemon=True)
        process.start()
        theirs.close()
        require(ours.recv() == "ready", "the process that imports did not start")
        process.join(moment * self.seconds)
        process.kill()
        process.join()
        ours.close()
        is_done = self._require_whole(f"killed after {moment * self.seconds:.4f} s")
        self.search.tried["kills after the commit" if is_done else "kills before the commit"] += 1
        if not is_done:
            with SyncEngine(self.work) as engine:
                engine.initialize()
                engine.import_bundle(self.bundle)
            require(self._require_whole("imported after a kill"), "the import did nothing after a kill")


def _journal(path: Path) -> Path:
    return path.with_name(path.name + "-journal")


_PROCESSES: Any = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")


def _import_elsewhere(path: Path, bundle: Path, pipe: Connection) -> None:
    """Import in a process of its own, which will be killed."""
    engine = SyncEngine(path)
    engine.initialize()
    pipe.send("ready")
    engine.import_bundle(bundle)


@contextmanager
def _faulty(path: Path) -> Iterator[SyncEngine]:
    with SyncEngine(path, connect=lambda name: sqlite3.connect(name, factory=FaultyConnection)) as engine:
        engine.initialize()
        yield engine


@contextmanager
def _import_under_way(search: Search, history: Sequence[Step]) -> Iterator[Interrupted]:
    with World(2, search.tried) as world:
        world.play([Change(1, "put", 0, (1, 2)), *history, Change(0, "put", 0, (3, 4)), Change(0, "put", 2, (5, 6))])
        yield _interrupted(search, world)


@contextmanager
def _many_rows(search: Search) -> Iterator[Interrupted]:
    """Make an import that takes long enough to be killed in the middle: two devices wrote the same rows."""
    with World(2, search.tried) as world:
        for device in world.devices:
            device.engine.connection.execute("BEGIN")
            device.engine.connection.executemany(
                "INSERT INTO notes VALUES (?, ?, ?)",
                [(f"{i if i % 10 == 0 else (device.number, i)}", device.number, "x" * 50) for i in range(1500)],
            )
            device.engine.connection.execute("COMMIT")
        yield _interrupted(search, world)


def _interrupted(search: Search, world: World) -> Interrupted:
    source, target = world.devices
    bundle = world.folder / "interrupted.bundle"
    source.engine.generate_bundle(target.engine.device_id, bundle)
    target.engine.close()
    after = copied(target.path, world.folder / "after.db")
    with SyncEngine(after) as engine:
        engine.initialize()
        start = perf_counter()
        engine.import_bundle(bundle)
        seconds = perf_counter() - start
    case = Interrupted(search, target.path, bundle, dump(target.path), dump(after), seconds)
    copied(target.path, case.work)
    return case
