"""One captured change as a frozen value; its identity and its number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256

from sqlite_sync.clock import hlc_time_ms
from sqlite_sync.codec import Value

ORDINAL_SHIFT = 40
ID_BYTES = 16
BASELINE_VERSION = 8  # of the UUID that a baseline's device id is
PARKED_KINDS = ("unique", "foreign_key", "check", "not_null", "schema")  # of conflicts of rows that stand in no table
NO_OP_ID = bytes(ID_BYTES)  # the base of an operation on a row that was parked
MAX_STRATEGY_CHARACTERS = 200


class Kind(IntEnum):
    """What an operation does to its row; the numbers are the format's (SPEC.md, section 5)."""

    INSERT = 0
    UPDATE = 1
    DELETE = 2
    RESOLVE = 3
    RESOLVE_DELETE = 4

    @property
    def word(self) -> str:
        """The name for people: `resolve-delete`."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Operation:
    """One captured change of one row.

    `new` holds the values it wrote (all of them, or an update's changed columns), `old` the values it overwrote.
    `base_op_id` is the head on which it was written while its row was in conflict; all zero where the row was parked.
    `strategy` names what decided a resolution; None where a person did. In a bundle, the key of a row of a mapped table
    is its number at the device `born_on`; everywhere else, numbers are this file's own.
    """

    op_id: bytes
    device_id: bytes
    seq: int
    hlc: int
    table_name: str
    kind: str
    row_pk: Mapping[str, Value]
    new: Mapping[str, Value]
    old: Mapping[str, Value]
    base_op_id: bytes | None
    strategy: str | None = None
    born_on: bytes | None = None

    @property
    def time_ms(self) -> int:
        """When its author's clock said it was written, in Unix milliseconds."""
        return hlc_time_ms(self.hlc)


def dot_number(ordinal: int, seq: int) -> int:
    """Pack a dot into the integer that stands for it inside one file."""
    return seq - (ordinal << ORDINAL_SHIFT)


def ordinal_of(dot: int) -> int:
    """Return the device's ordinal of a dot number."""
    return -((dot - 1) >> ORDINAL_SHIFT)


def seq_of(dot: int) -> int:
    """Return the seq of a dot number."""
    return dot - (((dot - 1) >> ORDINAL_SHIFT) << ORDINAL_SHIFT)


def op_id(device_id: bytes, seq: int) -> bytes:
    """Derive an operation's id, the same on every device."""
    return sha256(device_id + seq.to_bytes(8, "big")).digest()[:ID_BYTES]


def parked_id(local: bytes, parked: bytes) -> bytes:
    """Derive the id of the record of a parked row from the op ids of what is in its way and of its own shown head."""
    return sha256(b"parked" + local + parked).digest()[:ID_BYTES]


def conflict_id(one: bytes, other: bytes) -> bytes:
    """Derive a conflict's id from its two op ids, in whichever order they come."""
    return sha256(b"conflict" + min(one, other) + max(one, other)).digest()[:ID_BYTES]


def is_baseline(device_id: bytes) -> bool:
    """Tell whether a device is the baseline of a table: the rows that stood there when it was enabled."""
    return device_id[6] >> 4 == BASELINE_VERSION
