"""The face: one object that holds the connection, one short method for each verb."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self, overload

from sqlite_sync import (
    adopter,
    app_triggers,
    appender,
    arbiter,
    births,
    capture,
    catalog,
    conflicts,
    devices,
    doctor,
    enroller,
    explanation,
    exporter,
    folder,
    importer,
    log,
    mapping,
    parking,
    reconciler,
    resolver,
    reuse,
    schema,
    settler,
    status,
    unparking,
)
from sqlite_sync.clock import VectorClock
from sqlite_sync.conflicts import Conflict, Images
from sqlite_sync.database import Connect, Database
from sqlite_sync.decision import Resolutions, Strategy
from sqlite_sync.enroller import Enrollment
from sqlite_sync.errors import StateError, TableError
from sqlite_sync.explanation import Explanation, Key
from sqlite_sync.exporter import Order
from sqlite_sync.findings import Diagnosis
from sqlite_sync.folder import FolderResult
from sqlite_sync.importer import ImportResult, Progress, Request
from sqlite_sync.mapping import Wish
from sqlite_sync.operation import Operation
from sqlite_sync.pairing import Adoption
from sqlite_sync.resolver import Choice
from sqlite_sync.status import Status

AnyPath = str | os.PathLike[str]


class SyncEngine:
    """Sync for one SQLite file.

    `connection` is a standard `sqlite3.Connection` in autocommit mode. `connect` makes it instead, where the
    application needs collations or functions of its own; `timeout` is how many seconds to wait for a lock.
    """

    def __init__(self, path: AnyPath, *, connect: Connect | None = None, timeout: float = 5.0) -> None:
        self.path = Path(path)
        self._database = Database(self.path, connect, timeout)
        self._device_id: bytes | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SyncEngine({str(self.path)!r})"

    # --- the file -------------------------------------------------------------------------------------------------

    def initialize(self) -> bytes:
        """Prepare the file, once; return this device's id, always the same."""
        self._require_open()
        with self._database.guarded():
            schema.prepare(self._database)
            self._device_id = self._database.device_id()
        return self._device_id

    def close(self) -> None:
        """Close the connection; an open transaction of the user's is rolled back, as SQLite does."""
        if not self._is_closed:
            self._is_closed = True
            self._database.connection.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection to the file, for the application's own statements too."""
        self._require_open()
        self._database.let_go()
        return self._database.connection

    @property
    def device_id(self) -> bytes:
        """The 16 bytes that name this device."""
        self._require_open()
        if self._device_id is None:
            msg = f"{self.path} is not initialized: call initialize() first"
            raise StateError(msg)
        return self._device_id

    def uninstall(self, *, discard_parked: bool = False) -> None:
        """Remove everything of ours from the file. The history is gone then, and so is what no peer has yet.

        ConflictError where rows are parked, whose values stand in the log alone, unless these may be lost.
        """
        with self._changing():
            if not discard_parked:
                parking.require_none_parked(self._database)
            enroller.uninstall(self._database)
        self._device_id = None

    def renew_device(self, bundle: AnyPath | None = None) -> bytes:
        """Go on under a new device id, after this file was copied or restored; return the new id.

        With the bundle that was refused, own operations that its author does not share become the new device's. Without
        one, all stay the former device's: right for a copy that was not written to since.
        """
        with self._verb():
            source = nullcontext() if bundle is None else devices.opened(self._database, Path(bundle), appender.SCHEMA)
            with source as incoming, self._without_foreign_keys(), self._database.transaction():
                settler.settle_as_it_is(self._database)
                own = log.own_seq(self._database)
                shared = own if incoming is None else devices.agreed_seq(self._database, incoming)
                renewed = devices.renew(self._database, shared)
            self._device_id = renewed
            return renewed

    # --- tables ---------------------------------------------------------------------------------------------------

    def enable_sync_for_table(
        self, name: str, *, keys: str | None = None, references: Mapping[str, str] | None = None
    ) -> int:
        """Capture a table from now on; return how many existing rows it brought along.

        `keys` says how its rows are named on other devices. "mapped": by the device where they were born and their
        number there, so that two devices may both insert "the next row"; that is what a table with an INTEGER PRIMARY
        KEY is, if nothing else is said here or by a peer. "natural": by the key itself; that is what all others are,
        and right for numbers that mean something. `references` names the mapped tables, enabled before, to which
        columns refer without declaring it: {"comments.todo_id": "todos"}.
        """
        with self._changing():
            brought = enroller.enable(self._database, name, Wish(keys, references or {}))
            settler.settle(self._database, is_changed=True)
            return brought

    def enable_sync_for_all_tables(
        self, *, keys: str | None = None, references: Mapping[str, str] | None = None
    ) -> Enrollment:
        """Capture every table that can be synced, all in one transaction; say which cannot, and why.

        `keys` and `references` are those of `enable_sync_for_table`; "mapped" is for the tables that can be.
        """
        with self._changing():
            enrollment = enroller.enable_all(self._database, Wish(keys, references or {}))
            settler.settle(self._database, is_changed=True)
            return enrollment

    def adopt(
        self,
        same: Mapping[str, str | Sequence[str]],
        *,
        references: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> dict[str, Adoption]:
        """Enable mapped tables that had rows before this file met another, and say which rows are the same.

        Import the other file's bundle first; its operations are held. Then, by table: rows are the same where the
        "key" is the same, where columns have equal values, as ("title", "due"), or never ("distinct"). Those of each
        pair that differ are conflicts afterwards. A dry run counts, and changes nothing.
        """
        with (
            self._verb(),
            self._without_foreign_keys(),
            self._database.transaction(commit=not dry_run),
        ):
            adoptions = adopter.adopt(self._database, same, references or {})
            settler.settle(self._database, is_changed=True)
            return adoptions

    def birth_of(self, table: str, number: int) -> tuple[bytes | None, int]:
        """Return where a row of a mapped table was born: the device id, and the row's number there.

        That names the row to other devices. The device is None for a number that stands for itself: 0, or -1.
        """
        with self._verb():
            return births.birth(self._database, mapping.require_mapped(self._database, table), number)

    def number_of(self, table: str, device_id: bytes, number: int) -> int | None:
        """Return the number that a row of a mapped table has here, by its birth; None where it is not known."""
        with self._verb():
            return births.local(self._database, mapping.require_mapped(self._database, table), device_id, number)

    def disable_sync_for_table(self, name: str) -> None:
        """Stop capturing a table. Its log stays; enabling it again logs what changed meanwhile."""
        with self._changing():
            enroller.disable(self._database, name)

    def is_sync_enabled(self, name: str) -> bool:
        """Tell whether a table is captured."""
        with self._verb():
            entry = catalog.entry(self._database, name)
            return entry is not None and entry.is_enabled

    def synced_tables(self) -> tuple[str, ...]:
        """Name the tables that are captured."""
        with self._verb():
            return tuple(entry.name for entry in catalog.entries(self._database) if entry.is_enabled)

    def reconcile(self, name: str | None = None) -> int:
        """Log what one table, or each, holds beyond its log; return how many operations that took."""
        with self._changing():
            reuse.look(self._database)
            written = sum(
                reconciler.reconcile(self._database, catalog.shape(self._database, entry))
                for entry in reconciler.named(self._database, name)
            )
            settler.settle(self._database, is_changed=True)
            return written

    @contextmanager
    def migration(self) -> Iterator[None]:
        """Capture nothing inside this block, so that the application can drop columns; then log what it left behind.

        SQLite refuses `ALTER TABLE ... DROP COLUMN` while a trigger names the column. Nothing is lost when the block
        fails, or the process dies in it: the next verb finds the triggers gone, and does what the end here does.
        """
        with self._changing():
            for entry in catalog.entries(self._database):
                if entry.is_enabled:
                    capture.remove(self._database, entry.number)
        try:
            yield
        except BaseException:
            if not self._is_closed and not self.connection.in_transaction:
                self._mend()
            raise
        self._mend()

    def set_trigger_fires(self, trigger: str, fires: bool | None) -> None:  # noqa: FBT001
        """Decide whether a trigger of the application fires during import; None leaves it to the rule."""
        with self._changing():
            app_triggers.say(self._database, trigger, fires)

    # --- exchange -------------------------------------------------------------------------------------------------

    def generate_bundle(
        self, peer_device_id: bytes | None, output_path: AnyPath, *, acknowledge: bool = False
    ) -> Path | None:
        """Write what a peer lacks into a new file; None, and no file, where there is nothing to send.

        For the peer None: everything, for anyone. With `acknowledge`, write a bundle in any case: it tells the peer
        what is held here.
        """
        with self._verb():
            exporter.require_other_file(self.path, Path(output_path))
            peer = devices.require_peer_id(self._database, peer_device_id)
            self._settle()
            since = {} if peer is None else exporter.since_peer(self._database, peer)
            return exporter.write(self._database, Order(peer, since, acknowledge), Path(output_path), _now_ms())

    def import_bundle(
        self,
        path: AnyPath,
        *,
        resolver: Strategy | None = None,
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> ImportResult:
        """Take in a bundle: all of it, or nothing. A dry run reports what would happen.

        The strategy `resolver` is asked about the conflicts that this import opens, in the same transaction.
        """
        with self._verb():
            request = Request(dry_run, progress or _silent, _now_ms(), resolver)
            return importer.run(self._database, Path(path), request)

    def sync_folder(
        self,
        path: AnyPath,
        *,
        resolver: Strategy | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> FolderResult:
        """Meet the other devices of a shared folder: import what they wrote, write what they lack."""
        with self._verb():
            request = Request(dry_run=False, progress=progress or _silent, now_ms=_now_ms(), resolver=resolver)
            return folder.visit(self._database, Path(path), request, self._settle)

    # --- conflicts ------------------------------------------------------------------------------------------------

    def get_unresolved_conflicts(self, table: str | None = None) -> list[Conflict]:
        """List the open conflicts."""
        with self._verb():
            self._require_known(table)
            self._settle()
            return conflicts.listed(self._database, table)

    def images(self, conflict: Conflict) -> Images:
        """Return the three versions of a row in conflict: base, local, remote."""
        with self._verb():
            conflicts.require_conflict(conflict)
            self._settle()
            return conflicts.images(self._database, conflict)

    def each_conflict(self, table: str | None = None) -> Iterator[tuple[Conflict, Images]]:
        """Yield the open conflicts with the versions of their rows."""
        with self._verb():
            self._require_known(table)
            self._settle()
            pairs = conflicts.each_with_images(self._database, table)
        while True:
            with self._verb():
                pair = next(pairs, None)
            if pair is None:
                return
            yield pair

    @overload
    def resolve(self, conflict: Conflict, choice: Choice) -> Operation: ...

    @overload
    def resolve(self, conflict: Conflict, choice: Strategy) -> Operation | None: ...

    def resolve(self, conflict: Conflict, choice: Choice | Strategy) -> Operation | None:
        """Close a conflict everywhere: by "local", "remote", values (laid over the local row), or None (delete it).

        Of a row that a constraint parked (kinds unique, foreign_key, check, not_null, schema): "remote" lets it stand,
        and the row that has its UNIQUE value goes, or its parent comes back; "local" and None delete it; values are
        laid over it. ConstraintError where the choice would park another row.

        Or ask a strategy; None, and nothing is changed, where it leaves the conflict open.
        """
        with self._changing():
            conflicts.require_conflict(conflict)
            if not isinstance(choice, Strategy):
                close = unparking.resolve if conflict.is_parked else resolver.resolve
                return close(self._database, conflict, choice)
            return arbiter.resolve_one(self._database, choice, conflict)

    def resolve_all(self, strategy: Strategy, table: str | None = None) -> Resolutions:
        """Ask a strategy about every open conflict, or those of one table, in one transaction."""
        with self._changing():
            self._require_known(table)
            return arbiter.resolve_all(self._database, strategy, table)

    # --- looking --------------------------------------------------------------------------------------------------

    def get_vector_clock(self) -> VectorClock:
        """Return how many operations of each device are known here."""
        with self._verb():
            return log.vector_clock(self._database)

    def operations(self, table: str | None = None, since: Mapping[bytes, int] | None = None) -> Iterator[Operation]:
        """Yield operations in the total order: of one table, or of all; after a vector clock, or from the start."""
        with self._verb():
            self._require_known(table)
            low = log.by_ordinal(self._database, since or {})
        rows = log.operations(self._database, table, low)
        while True:
            with self._verb():
                operation = next(rows, None)
            if operation is None:
                return
            yield operation

    def explain(self, table: str, key: Key) -> Explanation:
        """Tell the story of a row: every operation on it, what each superseded, which conflicts it opened or closed.

        The key is a mapping, column name -> value, or the value itself where it is one column. This scans the log.
        """
        with self._verb():
            self._settle()
            return explanation.read(self._database, table, key)

    def doctor(self, *, deep: bool = False) -> Diagnosis:
        """Say what each table is, which hazards it has, and whether sync is intact; `deep` compares log and tables."""
        with self._verb():
            return doctor.read(self._database, deep=deep)

    def status(self) -> Status:
        """Say how sync stands."""
        with self._verb():
            return status.read(self._database)

    # --- around each verb -----------------------------------------------------------------------------------------

    def _settle(self) -> None:
        if settler.is_needed(self._database):
            with self._database.without_foreign_keys(), self._database.transaction():
                settler.settle(self._database)

    def _mend(self) -> None:
        with self._changing():
            settler.settle(self._database)

    def _require_known(self, table: str | None) -> None:
        if table is not None and catalog.entry(self._database, table) is None:
            known = ", ".join(entry.name for entry in catalog.entries(self._database)) or "none"
            msg = f"no such synced table in {self.path}: {table}; it has {known}"
            raise TableError(msg)

    def _require_open(self) -> None:
        if self._is_closed:
            msg = f"the engine for {self.path} is closed: make a new one"
            raise StateError(msg)

    @contextmanager
    def _verb(self) -> Iterator[None]:
        self._require_open()
        if self._device_id is None:
            msg = f"{self.path} is not initialized: call initialize() first"
            raise StateError(msg)
        with self._database.guarded():
            yield

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._verb(), self._without_foreign_keys(), self._database.transaction():
            yield

    @contextmanager
    def _without_foreign_keys(self) -> Iterator[None]:
        self._database.require_no_transaction()
        with self._database.without_foreign_keys():
            yield


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _silent(_: Progress) -> None:
    pass
