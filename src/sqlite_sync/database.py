"""The user's file: its connection, transactions, and who this device is.

Everything goes through one connection, the user's: two SQLite libraries in one process break each other's POSIX locks,
and the application may have registered collations and functions there.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any
from weakref import WeakSet

import uuid_utils

from sqlite_sync.codec import RawText, decode_converted, decode_text
from sqlite_sync.errors import DatabaseError, SchemaError, StateError, SyncError

UTF_8 = "UTF-8"
BY_CODE_POINT = "sync_by_code_point"  # how BINARY compares texts in a file in UTF-8
OLDEST_SQLITE = (3, 37, 0)  # PRAGMA table_list
Connect = Callable[[str], sqlite3.Connection]

_REMEDIES = {
    sqlite3.SQLITE_BUSY: "is locked by another connection for longer than the timeout: close it, or try again later",
    sqlite3.SQLITE_LOCKED: "is in use by an unfinished statement of this connection: finish or close its cursors",
    sqlite3.SQLITE_READONLY: "cannot be written: check the permissions of the file and of its folder",
    sqlite3.SQLITE_READONLY_ROLLBACK: "was left in the middle of a transaction by a program that ended: open it once "
    "with the application, which undoes that",
    sqlite3.SQLITE_IOERR: "could not be read or written by the operating system: check the disk",
    sqlite3.SQLITE_CORRUPT: "is damaged: run PRAGMA integrity_check, and restore a backup",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full: free some room and try again",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: it must be no folder, and its folder must exist and be writable",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database",
    sqlite3.SQLITE_AUTH: "refused a statement: the connection's authorizer must let sqlite_sync work",
}


def read_only(path: str) -> sqlite3.Connection:
    """Open a file so that nothing is written to it, nor left beside it; a misspelt name makes no file."""
    real = Path(path).resolve()
    uri = f"{real.as_uri()}?mode=ro"
    beside = [real.with_name(real.name + suffix) for suffix in ("-wal", "-journal")]
    if not any(file.exists() for file in beside) and _is_wal(uri):
        uri += "&immutable=1"  # nobody has it open; SQLite would else leave an empty -wal and a -shm there
    return sqlite3.connect(uri, uri=True)


def _is_wal(uri: str) -> bool:
    """Tell whether a file is in WAL mode, which SQLite cannot open without locks."""
    probe = sqlite3.connect(f"{uri}&nolock=1", uri=True)
    try:
        probe.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_CANTOPEN
    except sqlite3.DatabaseError:  # no database at all: opening it says so
        return False
    finally:
        probe.close()
    return False


class Database:
    """One open file; every statement of this package that touches it runs here."""

    def __init__(self, path: Path, connect: Connect | None, timeout_s: float) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            oldest = ".".join(map(str, OLDEST_SQLITE))
            msg = f"SQLite {sqlite3.sqlite_version} is too old for sqlite_sync: use {oldest} or newer"
            raise DatabaseError(msg)
        self.path = path
        self._left: str | None = None
        self._cursors = WeakSet[sqlite3.Cursor]()
        self._is_converting = False  # texts are those of a file in UTF-16
        self.enforces_foreign_keys = False  # whether they are switched off for a verb, and come back after it
        try:
            self.connection = connect(str(path)) if connect else sqlite3.connect(path, timeout=timeout_s)
        except sqlite3.Error as error:
            raise _translated(error, path) or error from error
        if not hasattr(self.connection, "isolation_level"):
            msg = f"connect gave {self.connection!r} for {path}: it must return the sqlite3.Connection that it makes"
            raise StateError(msg)
        self.require_no_transaction()  # setting the isolation level would commit it
        self.connection.isolation_level = None  # autocommit: capture joins the user's own transactions

    def execute(self, sql: str, parameters: Iterable[Any] = ()) -> sqlite3.Cursor:
        """Run one statement; rows are plain tuples, whatever row factory the user has set."""
        parameters = tuple(parameters)
        if self._is_converting and RawText in map(type, parameters):
            msg = (
                f"{self.path} stores text as UTF-16, which cannot hold text that is no valid UTF-8: give another value"
            )
            raise DatabaseError(msg)
        return self._cursor().execute(sql, parameters)

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> sqlite3.Cursor:
        """Run one statement for every row."""
        return self._cursor().executemany(sql, rows)

    def script(self, sql: str) -> None:
        """Run several statements inside the transaction, which `executescript` would commit."""
        for statement in statements(sql):
            self.execute(statement)

    def create_trigger(self, sql: str) -> None:
        """Create a trigger in the file; a temporary table of the same name must not get it."""
        self.execute(in_schema(sql, "main"))

    def one(self, sql: str, parameters: Iterable[Any] = ()) -> Any:  # noqa: ANN401 - whatever the statement selects
        """Return the first column of the first row, or None."""
        row = self.execute(sql, parameters).fetchone()
        return None if row is None else row[0]

    def _cursor(self) -> sqlite3.Cursor:
        cursor = self.connection.cursor()
        cursor.row_factory = None
        self._cursors.add(cursor)
        return cursor

    @contextmanager
    def _closing_cursors(self) -> Iterator[None]:
        """When the block fails, close what it left unfinished, which an exception's traceback may hold for long.

        An unfinished statement keeps an attached file, and lets an interrupt hit the ROLLBACK too.
        """
        former, self._cursors = self._cursors, WeakSet()
        try:
            yield
        except BaseException:
            for cursor in list(self._cursors):
                cursor.close()
            raise
        finally:
            self._cursors = former

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Stand around each public verb: texts of any bytes, and SQLite's errors in words that help."""
        factory = self.connection.text_factory
        self.connection.text_factory = decode_text
        try:
            self._is_converting = self.encoding != UTF_8
            self.connection.text_factory = decode_converted if self._is_converting else decode_text
            with self._without_counts():
                yield
        except sqlite3.Error as error:
            raise _translated(error, self.path) or error from error
        except UnicodeDecodeError as error:  # of a collation
            msg = f"a key in {self.path} is a text that is no valid UTF-16 ({error}): give the row another key"
            raise DatabaseError(msg) from error
        finally:
            self.connection.text_factory = factory

    @contextmanager
    def _without_counts(self) -> Iterator[None]:
        """Switch off what makes each write return a row, and go on until somebody has fetched it."""
        counts = self.one("PRAGMA count_changes")  # None: this SQLite is built without it
        if counts:
            self.execute("PRAGMA count_changes = OFF")
        try:
            yield
        finally:
            if counts:
                with suppress(sqlite3.ProgrammingError):  # closed
                    self.execute("PRAGMA count_changes = ON")

    @property
    def encoding(self) -> str:
        """How the file stores text; a bundle is in UTF-8."""
        return str(self.one("PRAGMA encoding"))

    def collation_of_bytes(self) -> str:
        """Name the collation by which texts stand in the order of their UTF-8; in a file in UTF-16, BINARY is another.

        It is made on the connection where need be.
        """
        if not self._is_converting:
            return "BINARY"
        self.connection.create_collation(BY_CODE_POINT, lambda left, right: (left > right) - (left < right))
        return BY_CODE_POINT

    @contextmanager
    def transaction(self, *, commit: bool = True) -> Iterator[None]:
        """Hold the write lock; all of the block happens, or nothing. `commit=False` undoes it also when it succeeds."""
        self.require_no_transaction()
        self.execute("BEGIN IMMEDIATE")  # not DEFERRED: what is read here must still hold when it is written on
        try:
            with self._closing_cursors():
                yield
                self.execute("COMMIT" if commit else "ROLLBACK")
        finally:
            self._undo()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one state of the file, while others go on writing."""
        self.require_no_transaction()
        self.execute("BEGIN")
        try:
            yield
            self.execute("COMMIT")
        finally:
            self._undo()

    def put_right(self, sql: str) -> None:
        """Run a statement that must not be left out; a progress handler that goes on interrupting is taken away.

        SQLite does not say which it is, so it cannot be put back; the connection would else have to be closed.
        """
        try:
            self.execute(sql)
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
                raise
            self.connection.set_progress_handler(None, 0)
            if sql != "ROLLBACK" or self.connection.in_transaction:  # it may have taken effect
                self.execute(sql)

    def _undo(self) -> None:
        """Roll back what is open; where that needs memory that is not there, close the connection, which needs none.

        Whoever went on writing on it would else commit what is half done.
        """
        try:
            if self.connection.in_transaction:  # SQLite itself rolls back on some errors
                self.put_right("ROLLBACK")
        finally:
            if self.connection.in_transaction:
                self.connection.close()

    def bring_to_disk(self) -> None:
        """Sync what is committed: a power cut could undo it, though a bundle with it has left the machine.

        SQLite leaves that open in WAL mode with `synchronous = NORMAL`, and where it commits by removing a journal. The
        database file itself is not opened for it: closing it would drop the locks of this process.
        """
        name = self.one("SELECT file FROM pragma_database_list WHERE name = 'main'")
        try:
            with suppress(FileNotFoundError), Path(f"{name}-wal").open("r+b") as wal:
                os.fsync(wal.fileno())
        except OSError as error:
            msg = f"{self.path} cannot be brought to the disk: {error.strerror or error}; check the disk"
            raise DatabaseError(msg) from error
        sync_folder(Path(name).parent)

    @contextmanager
    def attached(self, path: Path, schema: str) -> Iterator[None]:
        """Attach a file of ours; SQLite allows it outside transactions only."""
        self.require_no_transaction()
        self.let_go()
        if self._left:
            msg = f"a statement on the connection to {self.path} is unfinished: fetch all its rows, or close its cursor"
            raise StateError(msg)
        try:
            self.execute(f"ATTACH ? AS {schema}", (str(path),))
            # else SQLite commits both files together, by a journal of journals beside the user's
            self.execute(f"PRAGMA {schema}.synchronous = OFF")
            yield
        finally:
            self._left = schema
            self.let_go()

    def let_go(self) -> None:
        """Detach what an unfinished SELECT of the user's held when we were done with it, if it has come to its end."""
        if self._left:
            with suppress(sqlite3.OperationalError, sqlite3.ProgrammingError):  # in use, or closed
                self.execute(f"DETACH {self._left}")
            with suppress(sqlite3.OperationalError, sqlite3.ProgrammingError):  # interrupted after it took effect
                attached = {row[1] for row in self.execute("PRAGMA database_list").fetchall()}
                self._left = self._left if self._left in attached else None

    @contextmanager
    def without_foreign_keys(self) -> Iterator[None]:
        """Switch foreign-key actions off; the pragma is a no-op inside a transaction, so stand around it."""
        was_on = self.one("PRAGMA foreign_keys")
        self.execute("PRAGMA foreign_keys = OFF")
        self.enforces_foreign_keys = bool(was_on)
        try:
            yield
        finally:
            self.enforces_foreign_keys = False
            self.put_right(f"PRAGMA foreign_keys = {was_on}")

    def require_no_transaction(self) -> None:
        """Refuse to work inside a transaction that the user has open."""
        if self.connection.in_transaction:
            msg = f"a transaction is open on the engine's connection to {self.path}: commit it or roll it back first"
            raise StateError(msg)

    def device_id(self) -> bytes:
        """Return the id of this device."""
        device_id: bytes = self.one("SELECT device_id FROM main.sync_devices WHERE ordinal = 0")
        return device_id


def sync_folder(folder: Path) -> None:
    """Bring to the disk which files a folder has, where the system can."""
    with suppress(OSError):  # not every system lets a folder be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def resource(name: str) -> str:
    """Read an SQL file of this package."""
    return files("sqlite_sync").joinpath(name).read_text(encoding="utf-8")


def statements(sql: str) -> Iterator[str]:
    """Split a script into its statements."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""


def in_schema(sql: str, schema: str) -> str:
    """Say in a trigger's text, as SQLite keeps it, in which schema to create it."""
    return sql.replace("CREATE TRIGGER ", f"CREATE TRIGGER {schema}.", 1)


def new_uuid() -> bytes:
    """Make a UUIDv7."""
    return uuid_utils.uuid7().bytes


def _translated(error: sqlite3.Error, path: Path) -> SyncError | None:
    if re.match(r"no such table: (main\.)?sync_", str(error)):
        return SchemaError(f"{path} is not prepared (any more): call initialize() ({error})")
    if taken := re.match(r"(?:table|view) \"?(sync_\w+)\"? already exists", str(error)):
        return SchemaError(f"the connection to {path} has a temporary {taken[1]}, a name that we need: rename it")
    if str(error) == "Cannot operate on a closed database.":
        return StateError(f"the connection to {path} is closed (for want of memory to roll back?): make a new engine")
    code = getattr(error, "sqlite_errorcode", None)
    remedy = _REMEDIES.get(code, _REMEDIES.get(code & 0xFF)) if code is not None else None
    return DatabaseError(f"{path} {remedy} ({error})") if remedy else None
