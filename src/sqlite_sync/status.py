"""How sync stands in a file, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlite_sync import app_triggers, capture, catalog, conflicts, log, peers, schema
from sqlite_sync.app_triggers import AppTrigger
from sqlite_sync.database import Database
from sqlite_sync.errors import SchemaError


@dataclass(frozen=True, slots=True)
class TableStatus:
    """A synced table; `problem` says why it is not captured, None when it is.

    `numbers` names the columns whose integers are this file's own numbers of rows, and the tables of those rows.
    """

    name: str
    problem: str | None
    is_mapped: bool = False
    numbers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_capturing(self) -> bool:
        """Whether every change is captured."""
        return self.problem is None


@dataclass(frozen=True, slots=True)
class ConflictCount:
    """How many conflicts of one kind are open in one table."""

    table_name: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A peer that was heard of; `lacks` counts the operations that it has not acknowledged."""

    device_id: bytes
    lacks: int


@dataclass(frozen=True, slots=True)
class Status:
    """How sync stands in a file."""

    device_id: bytes
    path: Path
    operations: int
    own_operations: int
    open_conflicts: int
    held_operations: int
    tables: tuple[TableStatus, ...]
    peers: tuple[PeerStatus, ...]
    triggers: tuple[AppTrigger, ...]
    log_problem: str | None  # why the database no longer keeps the log append-only; None when it does
    conflicts: tuple[ConflictCount, ...] = ()


def read(database: Database) -> Status:
    """Read the status; changes nothing."""
    clock = log.clock(database)
    entries = catalog.entries(database)
    names = {entry.number: entry.name for entry in entries}
    tables = tuple(_table(database, one, names) for one in entries if one.is_enabled)
    return Status(
        device_id=database.device_id(),
        path=database.path,
        operations=sum(clock.values()),
        own_operations=clock[0],
        open_conflicts=conflicts.count(database),
        held_operations=database.one(
            "SELECT count(*) FROM main.sync_held AS h CROSS JOIN main.sync_operations AS o ON o.op BETWEEN "
            "h.low AND h.high AND o.table_no = h.table_no"
        ),
        tables=tables,
        peers=tuple(PeerStatus(peer, peers.lacks(database, peer)) for peer in peers.known(database)),
        conflicts=tuple(ConflictCount(*counted) for counted in conflicts.counts(database)),
        triggers=tuple(app_triggers.decide(database, [table.name for table in tables])),
        log_problem=log_problem(database),
    )


def log_problem(database: Database) -> str | None:
    """Say why the log is not protected; None when it is."""
    lost = schema.lost_laws(database)
    if not lost:
        return None
    return f"the log has lost its protection {', '.join(lost)} (another program dropped it, or wrote its own)"


def _table(database: Database, entry: catalog.Entry, names: Mapping[int, str]) -> TableStatus:
    numbers = {entry.columns[position]: names[number] for position, number in entry.numbers.items()}
    try:
        problem = capture.problem(database, catalog.shape(database, entry))
    except SchemaError as error:
        problem = str(error)
    return TableStatus(entry.name, problem, entry.is_mapped, numbers)
