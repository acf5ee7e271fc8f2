"""Where the rows of mapped tables were born, in the file and in SQL (SPEC.md, section 4.7).

All numbers in the log are this file's own. `sync_births_<n>` holds the runs of table n. A bundle speaks of births: here
are both translations, as SQL, so that no value travels through Python.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlite_sync.database import Database
from sqlite_sync.numbering import GREATEST, LEAST_OF_OURS, MOST_GAP, Birth, Numbering, Run, is_dense, runs_of

MOST_CASES = 24  # runs that stand in a statement as they are; more are looked up


def is_counted(value: str) -> str:
    """Render the test that a value names a birth: a number that a counter may have given, or one of ours."""
    return f"(typeof({value}) = 'integer' AND ({value} > 0 OR {value} <= {LEAST_OF_OURS}))"


def create(database: Database, number: int) -> None:
    """Make the table of a mapped table's runs."""
    database.execute(
        f"CREATE TABLE main.sync_births_{number} (low INTEGER PRIMARY KEY, high INTEGER NOT NULL, "
        "ordinal INTEGER NOT NULL, birth INTEGER NOT NULL, UNIQUE (ordinal, birth))"
    )


def load(database: Database, number: int) -> Numbering:
    """Read which births the numbers of a table stand for."""
    rows = database.execute(f"SELECT low, high, ordinal, birth FROM main.sync_births_{number}")
    return Numbering((Run(*row) for row in rows.fetchall()), top(database, number))


def top(database: Database, number: int) -> int:
    """Return the greatest number that a table ever used, as far as was noted."""
    greatest: int = database.one("SELECT top FROM main.sync_tables WHERE table_no = ?", (number,))
    return greatest


def store(database: Database, number: int, before: Numbering, after: Numbering) -> None:
    """Write what changed."""
    gone, new = set(before.runs).difference(after.runs), set(after.runs).difference(before.runs)
    name = f"main.sync_births_{number}"
    database.executemany(f"DELETE FROM {name} WHERE low = ?", [(run.low,) for run in gone])
    database.executemany(
        f"INSERT INTO {name} VALUES (?, ?, ?, ?)", [(run.low, run.high, run.ordinal, run.birth) for run in sorted(new)]
    )
    raise_top(database, number, after.top)


def raise_top(database: Database, number: int, top: int) -> None:
    """Note the greatest number that a table ever used."""
    database.execute("UPDATE main.sync_tables SET top = ? WHERE table_no = ? AND top < ?", (top, number, top))


def outward(value: str, number: int, numbering: Numbering) -> tuple[str, str]:
    """Render what a bundle says of a value that numbers a row: the number at its birth, and the ordinal."""
    own = f"WHEN {value} > 0 OR {value} <= {LEAST_OF_OURS} THEN 0"
    if len(numbering.runs) <= MOST_CASES:
        inside = [(f"{value} BETWEEN {run.low} AND {run.high}", run) for run in numbering.runs]
        moved = " ".join(f"WHEN {test} THEN {value} + {run.shift}" for test, run in inside if run.shift)
        born = " ".join(f"WHEN {test} THEN {run.ordinal}" for test, run in inside)
        shifted = f"CASE WHEN typeof({value}) <> 'integer' THEN {value} {moved} ELSE {value} END"
        return shifted if moved else value, f"CASE WHEN typeof({value}) <> 'integer' THEN NULL {born} {own} END"
    within = f"FROM main.sync_births_{number} AS m WHERE m.low <= {value} ORDER BY m.low DESC LIMIT 1"
    moved = f"(SELECT iif({value} <= m.high, {value} + m.birth - m.low, NULL) {within})"
    born = f"(SELECT iif({value} <= m.high, m.ordinal, NULL) {within})"
    return (
        f"CASE WHEN typeof({value}) = 'integer' THEN coalesce({moved}, {value}) ELSE {value} END",
        f"CASE WHEN typeof({value}) = 'integer' THEN coalesce({born}, CASE {own} END) END",
    )


def inward(value: str, birth: str, number: int, numbering: Numbering, ordinals: Mapping[int, int]) -> str:
    """Render the number that stands here for a value of a bundle; NULL where that birth has none yet.

    `ordinals` are those here, by those of the bundle.
    """
    cases = {there: _inward_cases(value, here, numbering) for there, here in ordinals.items()}
    if sum(map(len, cases.values())) <= MOST_CASES:
        known = " ".join(f"WHEN {there} THEN {_case(value, ordinals[there], each)}" for there, each in cases.items())
        return f"CASE WHEN {birth} IS NULL THEN {value} ELSE CASE {birth} {known} END END"
    here = f"(SELECT i.ordinal FROM temp.sync_incoming AS i WHERE i.bundle_ordinal = {birth})"
    found = (
        f"(SELECT iif({value} - m.birth <= m.high - m.low, {value} - m.birth + m.low, NULL) "
        f"FROM main.sync_births_{number} AS m WHERE m.ordinal = {here} AND m.birth <= {value} "
        "ORDER BY m.birth DESC LIMIT 1)"
    )
    own = f"iif({here} = 0, {value}, NULL)"
    return f"CASE WHEN {birth} IS NULL THEN {value} ELSE coalesce({found}, {own}) END"


def _case(value: str, ordinal: int, cases: list[str]) -> str:
    otherwise = value if ordinal == 0 else "NULL"
    return f"CASE {' '.join(cases)} ELSE {otherwise} END" if cases else otherwise


def _inward_cases(value: str, ordinal: int, numbering: Numbering) -> list[str]:
    return [
        f"WHEN {value} BETWEEN {run.birth} AND {run.last_birth} THEN {value} - {run.shift}"
        for run in numbering.runs
        if run.ordinal == ordinal
    ]


@dataclass(frozen=True, slots=True)
class Mentioned:
    """Where births stand in a bundle: the new operations `b` of one of its tables, and two of its columns."""

    source: str
    birth: str
    value: str


@dataclass(frozen=True, slots=True)
class Span:
    """What stands in two such columns: how many births and other values, of which devices, between which values."""

    births: int
    rows: int
    first_ordinal: int | None
    last_ordinal: int | None
    first: Any
    last: Any

    def run(self, numbering: Numbering, ordinals: Mapping[int, int]) -> Run | None:
        """Return the run in which all of them are; None where there is no such run, or there are other values."""
        if not self.births or self.births != self.rows or self.first_ordinal != self.last_ordinal:
            return None
        here = ordinals.get(self.first_ordinal or 0)
        runs = (run for run in numbering.runs if run.ordinal == here)
        return next((run for run in runs if run.birth <= self.first and self.last <= run.last_birth), None)


def spans(database: Database, mentioned: Sequence[Mentioned]) -> list[Span]:
    """Look over several pairs of columns of one source."""
    if not mentioned:
        return []
    wanted = ", ".join(
        f"count({one.birth}), min({one.birth}), max({one.birth}), min({one.value}), max({one.value})"
        for one in mentioned
    )
    rows, *found = database.execute(f"SELECT count(*), {wanted} FROM {mentioned[0].source}").fetchone()
    return [Span(found[i], rows, *found[i + 1 : i + 5]) for i in range(0, len(found), 5)]


def with_born(
    database: Database, numbering: Numbering, born: tuple[Mentioned, Span], ordinals: Mapping[int, int]
) -> Numbering:
    """Give rows that a bundle inserts their numbers."""
    mentioned, span = born
    birth, value = mentioned.birth, mentioned.value
    if not span.births or span.first_ordinal is None:
        return numbering
    ordinal = ordinals.get(span.first_ordinal, 0)
    is_behind = span.first > numbering.last_birth(ordinal) and is_dense(span.first, span.last, span.births)
    if span.births == span.rows and span.first_ordinal == span.last_ordinal and is_behind:
        return numbering.with_born([(ordinal, span.first, span.last)]) if ordinal else numbering
    rows = database.execute(f"SELECT {birth}, {value} FROM {mentioned.source} AND {birth} IS NOT NULL").fetchall()
    return numbering.with_each_born((ordinals.get(there, 0), number) for there, number in rows)


def with_others(
    database: Database, numbering: Numbering, mentioned: Mentioned, ordinals: Mapping[int, int]
) -> Numbering:
    """Give rows that a bundle names, and nobody inserted yet, numbers that no application uses."""
    birth, value = mentioned.birth, mentioned.value
    rows = database.execute(
        f"SELECT DISTINCT {birth}, {value} FROM {mentioned.source} AND {birth} IS NOT NULL"
    ).fetchall()
    return numbering.with_others(numbering.unknown((ordinals.get(there, 0), number) for there, number in rows))


def ordinals(database: Database, number: int) -> set[int]:
    """Return the devices, by ordinal, that bore rows of a table which are known here."""
    rows = database.execute(f"SELECT DISTINCT ordinal FROM main.sync_births_{number}")
    return {ordinal for (ordinal,) in rows.fetchall()}


def note_baseline(database: Database, number: int, ordinal: int, rows: str, others: Container[int]) -> None:
    """Let the rows of this file's baseline be born there; `rows` selects their numbers, `others` are born elsewhere."""
    before = load(database, number)
    numbers = [
        one
        for (one,) in database.execute(f"SELECT number FROM ({rows}) WHERE {is_counted('number')} ORDER BY number")
        if one not in others and before.birth(one) != (ordinal, one)
    ]
    after = before.renamed((one for one in numbers if before.is_in_a_run(one)), {})
    found = runs_of(((ordinal, one) for one in numbers), 1 if before.runs else MOST_GAP)
    runs = [Run(first, last, ordinal, first) for _, first, last in found]
    store(database, number, before, Numbering([*after.runs, *runs], after.top))


def keep(database: Database, number: int, ordinal: int, numbers: str) -> None:
    """Let numbers that stood for births of this device stand for those of its former id; `numbers` selects them."""
    before = load(database, number)
    named: dict[int, Birth] = {}
    for (one,) in database.execute(f"SELECT number FROM ({numbers}) WHERE {is_counted('number')}").fetchall():
        birth = before.birth(one)
        if birth is not None and birth[0] == 0:
            named[one] = (ordinal, birth[1])
    in_runs = [one for one in named if before.is_in_a_run(one)]
    own = sorted((ordinal, one) for one in named if not before.is_in_a_run(one))
    after = before.renamed(in_runs, {one: named[one] for one in in_runs})
    runs = [Run(first, last, ordinal, first) for _, first, last in runs_of(own)]
    store(database, number, before, Numbering([*after.runs, *runs], after.top))


def birth(database: Database, number: int, value: int) -> tuple[bytes | None, int]:
    """Return the birth that a number stands for: device id, number there; no device for one that stands for itself."""
    found = load(database, number).birth(value)
    if found is None:
        return None, value
    device_id: bytes = database.one("SELECT device_id FROM main.sync_devices WHERE ordinal = ?", (found[0],))
    return device_id, found[1]


def local(database: Database, number: int, device_id: bytes, value: int) -> int | None:
    """Return the number that stands here for a birth; None where it is not known."""
    ordinal = database.one("SELECT ordinal FROM main.sync_devices WHERE device_id = ?", (device_id,))
    return None if ordinal is None else load(database, number).number((ordinal, value))


def greatest_used(database: Database, rows: str) -> int:
    """Return the greatest number that moves the counter; `rows` selects them as `number`."""
    return database.one(f"SELECT max(number) FROM ({rows}) WHERE number < {GREATEST}") or 0
