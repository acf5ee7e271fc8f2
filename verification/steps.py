"""What can happen to devices: steps of a history, how they are drawn, and what they are in SQL."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

SCHEMA = """
CREATE TABLE notes (id TEXT PRIMARY KEY, title, body);
CREATE TABLE tags (note TEXT COLLATE NOCASE, tag, weight, PRIMARY KEY (note, tag)) WITHOUT ROWID;
"""
KEYS = {"notes": ("id",), "tags": ("note", "tag")}
PAYLOAD = {"notes": ("title", "body"), "tags": ("weight",)}
ROWS = [("notes", ("p",)), ("notes", ("q",)), ("tags", ("p", 1)), ("tags", ("P", 1.0))]  # the last two are one row

RowName = tuple[str, Hashable]
Dot = tuple[bytes, int]
Image = Mapping[str, object] | None


# --- what can happen ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A statement on one row: put (insert or replace it), set (update these columns), or drop (delete it)."""

    device: int
    verb: str
    row: int
    values: tuple[object, ...]
    columns: int = 3  # of a set: 1 the first column, 2 the second, 3 both


@dataclass(frozen=True)
class Send:
    """A bundle is written for a device, and arrives."""

    source: int
    target: int


@dataclass(frozen=True)
class Meet:
    """Two devices send each other what they lack, and so know what the other has."""

    one: int
    other: int


@dataclass(frozen=True)
class Post:
    """A bundle is written for a device, and is under way."""

    source: int
    target: int


@dataclass(frozen=True)
class Arrive:
    """A bundle that is under way arrives: at its addressee, or at `instead`."""

    place: int
    instead: int | None = None


@dataclass(frozen=True)
class Resolve:
    """An open conflict is resolved: `choice` is local, remote, or None to delete the row."""

    device: int
    place: int
    choice: str | None


@dataclass(frozen=True)
class SetClock:
    """A device's clock is set."""

    device: int
    now_ms: int


Step = Change | Send | Meet | Post | Arrive | Resolve | SetClock

Maker = Callable[[int, int, int], Step]

PAIRS = [(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)]
CLOCKS = [10**12, 10**12 + 1, 3 * 10**12, 1]
VALUES = [0, 1, 1.0, "1", b"1", None, "x", 0.1 + 0.2, 2**63 - 1]
VERBS = ["put", "put", "put", "set", "set", "drop"]


def a_change(who: int, where: int, what: int) -> Step:
    """Make a change."""
    verb, row = VERBS[where % len(VERBS)], where // len(VERBS) % len(ROWS)
    one, other = VALUES[what % len(VALUES)], VALUES[what // len(VALUES) % len(VALUES)]
    return Change(who % 3, verb, row, (one, other), who // 3 % 3 + 1)


def a_send(_: int, pair: int, __: int) -> Step:
    """Make an exchange in one direction."""
    return Send(*PAIRS[pair % len(PAIRS)])


def a_post(_: int, pair: int, __: int) -> Step:
    """Make a bundle that is under way."""
    return Post(*PAIRS[pair % len(PAIRS)])


def an_arrival(_: int, __: int, place: int) -> Step:
    """Make a bundle arrive at its addressee."""
    return Arrive(place % 6)


def a_misdelivery(who: int, _: int, place: int) -> Step:
    """Make a bundle arrive anywhere."""
    return Arrive(place % 6, who % 3)


def a_resolution(who: int, place: int, choice: int) -> Step:
    """Make a resolution."""
    return Resolve(who % 3, place % 4, [None, "local", "remote"][choice % 3])


def a_clock_change(who: int, _: int, now: int) -> Step:
    """Make a clock jump."""
    return SetClock(who % 3, CLOCKS[now % len(CLOCKS)])


def histories(*makers: Maker, most: int = 20, least: int | None = None) -> st.SearchStrategy[list[Any]]:
    """Draw a list of steps.

    Four bytes make a step, or none. Drawn as a list of steps, most examples would be mutations of others, and take as
    long as these.
    """

    def decode(drawn: bytes) -> list[Step]:
        quadruples = [drawn[place : place + 4] for place in range(0, len(drawn) - 3, 4)]
        return [makers[kind % len(makers)](*rest) for kind, *rest in quadruples if kind]

    return st.binary(min_size=4 * (most if least is None else least), max_size=4 * most).map(decode)


# --- in SQL -----------------------------------------------------------------------------------------------------------


def statement(change: Change) -> tuple[str, tuple[object, ...]]:
    """Render a change as SQL."""
    table, key = ROWS[change.row]
    where = " AND ".join(f"{column} = ?" for column in KEYS[table])
    payload = PAYLOAD[table]
    if change.verb == "drop":
        return f"DELETE FROM {table} WHERE {where}", key
    if change.verb == "put":
        marks = ", ".join("?" * (len(key) + len(payload)))
        return f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (*key, *change.values[: len(payload)])
    chosen = changed_columns(change)
    assignments = ", ".join(f"{payload[i]} = ?" for i in chosen)
    return f"UPDATE {table} SET {assignments} WHERE {where}", (*(change.values[i] for i in chosen), *key)


def changed_columns(change: Change) -> list[int]:
    """Return the places of the payload columns that a put or a set writes."""
    width = len(PAYLOAD[ROWS[change.row][0]])
    return [i for i in range(width) if change.verb == "put" or width == 1 or change.columns & (1 << i)]


def row_name(table: str, key: tuple[object, ...]) -> RowName:
    """Name a row by its key as the key's collations see it: 1 is 1.0 to Python as well, and `note` is NOCASE."""
    first, *rest = key
    return table, (first.lower() if table == "tags" and isinstance(first, str) else first, *rest)
