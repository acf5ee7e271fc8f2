"""What a strategy is asked, and what it may answer (SPEC.md, section 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sqlite_sync.clock import hlc_time_ms
from sqlite_sync.codec import Value
from sqlite_sync.conflicts import Conflict
from sqlite_sync.errors import ConflictError

ROW_KINDS = frozenset({"insert/insert", "update/update", "update/delete"})


@dataclass(frozen=True, slots=True)
class Version:
    """One head of a row in conflict: its image (None: no row), who wrote it, and when by that device's clock."""

    op_id: bytes
    device_id: bytes
    hlc: int
    image: Mapping[str, Value] | None

    @property
    def time_ms(self) -> int:
        """When it was written, in Unix milliseconds."""
        return hlc_time_ms(self.hlc)


@dataclass(frozen=True, slots=True)
class Dispute:
    """A row in conflict as a strategy sees it, the same on every device that holds the same operations.

    `versions` are its heads: first the one that the table shows, then those with another image, live ones before
    deleted ones, later ones before earlier ones. `base` is what all of them started from. `references` are the columns
    that are declared to refer to another table.
    """

    conflicts: tuple[Conflict, ...]
    base: Mapping[str, Value] | None
    versions: tuple[Version, ...]
    columns: tuple[str, ...]
    key: tuple[str, ...]
    references: frozenset[str] = frozenset()

    @property
    def table_name(self) -> str:
        """The table of the row."""
        return self.conflicts[0].table_name

    @property
    def row_pk(self) -> Mapping[str, Value]:
        """The key of the row."""
        return self.conflicts[0].row_pk

    @property
    def local(self) -> Version:
        """The version that the table shows, on every device alike."""
        return self.versions[0]

    @property
    def remote(self) -> Version:
        """The other version; of several, the one that would be shown next."""
        return self.versions[1]


@dataclass(frozen=True, slots=True)
class Take:
    """The row becomes this version, whole."""

    version: Version


@dataclass(frozen=True, slots=True)
class Write:
    """The row becomes the local version (the remote one where that is no row) with these values laid over it."""

    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Delete:
    """The row is deleted."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A version that is to be kept under another key: its op id, and its image with that key."""

    op_id: bytes
    image: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class TakeBoth:
    """The row stays as the table shows it, and the copies are rows of their own."""

    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """The conflict stays open; `reason` is told to whoever asked."""

    reason: str


Decision = Take | Write | Delete | TakeBoth | Leave


@runtime_checkable
class Strategy(Protocol):
    """What decides conflicts. Its name stands in the log with every resolution.

    A strategy that depends on nothing but the dispute decides alike on every device.
    """

    @property
    def name(self) -> str:
        """What the log calls it."""

    def decide(self, dispute: Dispute) -> Decision:
        """Decide about one row."""


def require_strategy(given: object) -> None:
    """Refuse what is no strategy, before anybody is asked: a name, the class of one, or one that the log cannot name.

    Every device would refuse an operation with such a name.
    """
    if isinstance(given, type) or not isinstance(given, Strategy):
        msg = f"{given!r} is no strategy: give one, such as LastWriteWins(), or your own with a name and decide()"
        raise ConflictError(msg)
    name: object = given.name
    if not isinstance(name, str) or not name or not _is_unicode(name):
        msg = f"the name of the strategy {given!r} is {name!r}: the log needs a text that is not empty"
        raise ConflictError(msg)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Resolved:
    """A conflict that a strategy closed; `outcome` is local, remote, values, delete or both."""

    conflict: Conflict
    outcome: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """A conflict that stays open, and why."""

    conflict: Conflict
    reason: str


@dataclass(frozen=True, slots=True)
class Resolutions:
    """What became of the conflicts that a strategy was asked about."""

    resolved: tuple[Resolved, ...] = ()
    deferred: tuple[Deferred, ...] = ()
