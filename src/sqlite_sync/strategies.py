"""Strategies: pure deciders of conflicts, asked for and never on by default (SPEC.md, section 10).

Each decides by the dispute alone, which is the same on every device that holds the same operations. So devices that run
the same strategy apart write the same rows, and equal outcomes are no conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar, Literal

from sqlite_sync.codec import RawText, Value, same
from sqlite_sync.decision import (
    ROW_KINDS,
    Copy,
    Decision,
    Delete,
    Dispute,
    Leave,
    Strategy,
    Take,
    TakeBoth,
    Version,
    Write,
    require_strategy,
)
from sqlite_sync.errors import ConflictError

_KEPT_BYTES = 16
_LEAST_KEPT, _MOST_KEPT = 2**32, 2**53  # exact as a double; no number that an application uses as a mark

Answer = Decision | Literal["local", "remote"] | Mapping[str, Value] | None


@dataclass(frozen=True, slots=True)
class LastWriteWins:
    """The version with the greatest HLC, then device id: by the clocks of the devices, deletions included."""

    name: ClassVar[str] = "LastWriteWins"

    def decide(self, dispute: Dispute) -> Decision:
        """Take the last version."""
        return _foreign(dispute) or Take(max(dispute.versions, key=lambda version: (version.hlc, version.device_id)))


@dataclass(frozen=True, slots=True)
class HigherVersionWins:
    """The version with the greatest value in one column, such as a revision number.

    Numbers are compared as numbers, texts by code point, blobs by byte; a tie, NULL, values of unlike types and a
    deleted row stay open.
    """

    column: str

    def __post_init__(self) -> None:
        """Refuse what names no column."""
        if not isinstance(self.column, str):
            msg = f"HigherVersionWins needs the name of a column, not {self.column!r}"
            raise ConflictError(msg)

    @property
    def name(self) -> str:
        """What the log calls it."""
        return f"HigherVersionWins({self.column})"

    def decide(self, dispute: Dispute) -> Decision:
        """Take the version with the greatest value."""
        if leave := _foreign(dispute):
            return leave
        column = next((one for one in dispute.columns if _fold(one) == _fold(self.column)), None)
        if column is None:
            return Leave(f"{dispute.table_name} has no column {self.column!r}")
        ranked: list[tuple[Value, Version]] = []
        for version in dispute.versions:
            if version.image is None:
                return Leave("one version is no row")
            ranked.append((version.image[column], version))
        return _greatest(column, ranked)


@dataclass(frozen=True, slots=True)
class MergeFields:
    """Each column as the one side has it that changed it against the base.

    Columns that several sides changed differently are taken from the version that `fallback` takes, or written as it
    says; what it decides otherwise holds for the whole row, and so does what it says where a version or the base is no
    row. Without a fallback such conflicts stay open. A key is spelled as the local version spells it.
    """

    fallback: Strategy | None = None

    def __post_init__(self) -> None:
        """Refuse a fallback that is no strategy."""
        if self.fallback is not None:
            require_strategy(self.fallback)

    @property
    def name(self) -> str:
        """What the log calls it."""
        return "MergeFields" if self.fallback is None else f"MergeFields({self.fallback.name})"

    def decide(self, dispute: Dispute) -> Decision:
        """Merge the versions column by column."""
        images = [version.image for version in dispute.versions]
        live = [image for image in images if image is not None]
        if leave := _foreign(dispute):
            return leave
        if dispute.base is None or len(live) < len(images):
            what = "there is no common base" if dispute.base is None else "one version is no row"
            return Leave(what) if self.fallback is None else self.fallback.decide(dispute)
        merged: dict[str, Value] = {}
        clashing: list[str] = []
        for column in dispute.columns:
            values = _changed(column, dispute.base, live)
            if column in dispute.key or len(values) > 1:
                merged[column] = live[0][column]
                clashing += [] if column in dispute.key else [column]
            else:
                merged[column] = values[0] if values else dispute.base[column]
        return self._with_fallback(dispute, merged, clashing) if clashing else Write(merged)

    def _with_fallback(self, dispute: Dispute, merged: Mapping[str, Value], clashing: list[str]) -> Decision:
        if self.fallback is None:
            return Leave(f"several sides changed {', '.join(clashing)}")
        match self.fallback.decide(dispute):
            case Take(Version(image=image)) if image is not None:
                return Write({**merged, **{column: image[column] for column in clashing}})
            case Write(values):
                return Write({**merged, **values})
            case other:
                return other


@dataclass(frozen=True, slots=True)
class PreferLocal:
    """The version that the table shows, on every device alike; it may have been written elsewhere."""

    name: ClassVar[str] = "PreferLocal"

    def decide(self, dispute: Dispute) -> Decision:
        """Take the local version."""
        return _foreign(dispute) or Take(dispute.local)


@dataclass(frozen=True, slots=True)
class PreferRemote:
    """The version that the table does not show; of several, the one that would be shown next."""

    name: ClassVar[str] = "PreferRemote"

    def decide(self, dispute: Dispute) -> Decision:
        """Take the remote version."""
        return _foreign(dispute) or Take(dispute.remote)


@dataclass(frozen=True, slots=True)
class KeepBoth:
    """The row as the table shows it, and every other live version as a row of its own under a new key.

    The new key is derived from the op id of the version that it keeps. Of a composite key, the last column that refers
    to no other table changes. A deletion loses against a live version.
    """

    name: ClassVar[str] = "KeepBoth"

    def decide(self, dispute: Dispute) -> Decision:
        """Keep every live version."""
        if leave := _foreign(dispute):
            return leave
        free = [column for column in dispute.key if column not in dispute.references]
        if not free:
            return Leave("every column of its key refers to another table, so no other key can be given")
        copies: list[Copy] = []
        for version in sorted(dispute.versions[1:], key=lambda version: (version.hlc, version.device_id)):
            if version.image is None or any(_same_but(free[-1], version.image, copy.image) for copy in copies):
                continue
            key = new_key(version.op_id, version.image[free[-1]])
            if key is None:
                return Leave(f"{free[-1]} is neither TEXT, BLOB nor INTEGER, so no other key can be given")
            copies.append(Copy(version.op_id, {**version.image, free[-1]: key}))
        return TakeBoth(tuple(copies)) if copies else Take(dispute.local)


@dataclass(frozen=True, slots=True)
class Defer:
    """No decision: every conflict stays open."""

    name: ClassVar[str] = "Defer"

    def decide(self, dispute: Dispute) -> Decision:
        """Leave the conflict open."""
        del dispute
        return Leave("left for somebody to decide")


@dataclass(frozen=True, slots=True)
class Callback:
    """Whatever a function says: a decision, "local", "remote", values by column name, or None to leave it open.

    Devices that run it apart agree only if the function looks at nothing but the dispute.
    """

    function: Callable[[Dispute], Answer]
    label: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be called."""
        if not callable(self.function):
            msg = f"Callback needs a function of one dispute, not {self.function!r}"
            raise ConflictError(msg)

    @property
    def name(self) -> str:
        """What the log calls it."""
        return f"Callback({self.label or getattr(self.function, '__name__', type(self.function).__name__)})"

    def decide(self, dispute: Dispute) -> Decision:
        """Ask the function."""
        answer = self.function(dispute)
        match answer:
            case None:
                return Leave(f"{self.name} left it open")
            case "local":
                return Take(dispute.local)
            case "remote":
                return Take(dispute.remote)
            case Take() | Write() | Delete() | TakeBoth() | Leave():
                return answer
            case Mapping():
                return Write(answer)
        msg = f"{self.name} answered {answer!r}: say 'local', 'remote', values by column name, None, or a decision"
        raise ConflictError(msg)


def new_key(op_id: bytes, key: Value) -> Value:
    """Derive the key under which a version is kept, of the type of its present key; None where there is none.

    Integers are negative: the greatest key, from which applications count on, stays what it was.
    """
    digest = bytearray(sha256(b"keep both" + op_id).digest()[:_KEPT_BYTES])
    digest[6] = digest[6] & 0x0F | 0x80  # a UUID of version 8
    digest[8] = digest[8] & 0x3F | 0x80
    if type(key) is str:
        digits = digest.hex()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    if type(key) is bytes:
        return bytes(digest)
    if type(key) is int:
        return -(_LEAST_KEPT + int.from_bytes(digest, "big") % (_MOST_KEPT - _LEAST_KEPT))
    return None


def _foreign(dispute: Dispute) -> Leave | None:
    """Refuse a conflict that is not between versions of one row."""
    strange = sorted({conflict.kind for conflict in dispute.conflicts} - ROW_KINDS)
    return Leave(f"a {strange[0]} conflict is not between versions of one row") if strange else None


def _greatest(column: str, ranked: list[tuple[Value, Version]]) -> Decision:
    kinds = {_kind(value) for value, _ in ranked}
    if len(kinds) > 1 or None in kinds:
        return Leave(f"the values of {column} cannot be compared")
    values = [value for value, _ in ranked]
    greatest = max(values)  # type: ignore[type-var] # all are numbers, all texts or all blobs
    winners = [version for value, version in ranked if value == greatest]
    return Take(winners[0]) if len(winners) == 1 else Leave(f"{column} is the same on several sides")


def _fold(name: str) -> bytes:
    return name.encode().lower()  # ASCII letters only, as SQLite compares names


def _kind(value: Value) -> type | None:
    if value is None or isinstance(value, RawText):
        return None
    return float if isinstance(value, int) else type(value)


def _changed(column: str, base: Mapping[str, Value], images: list[Mapping[str, Value]]) -> list[Value]:
    """List the different values that a column was changed to."""
    found: list[Value] = []
    for image in images:
        value = image[column]
        if not same(value, base[column]) and not any(same(value, other) for other in found):
            found.append(value)
    return found


def _same_but(column: str, one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
    return all(name == column or same(value, other[name]) for name, value in one.items())
