"""Find where the application took the number of a row that was gone (SPEC.md, section 4.7).

Without AUTOINCREMENT, SQLite gives a new row the greatest number that stands in the table, plus one: after the last row
was deleted, its number again. The new row is another one, so the row that had the number before gets a name of ours.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlite_sync import births, catalog, log, reconciler, renumbering
from sqlite_sync.catalog import Entry
from sqlite_sync.database import Database
from sqlite_sync.numbering import GREATEST, Birth, Numbering
from sqlite_sync.operation import Kind
from sqlite_sync.tables import Table, commas, counts_up, quote

_GONE = (Kind.DELETE, Kind.RESOLVE_DELETE)


@dataclass(frozen=True, slots=True)
class Change:
    """An own operation by which a number came into the table or left it."""

    dot: int
    number: int
    is_there: bool


@dataclass(frozen=True, slots=True)
class Used:
    """Numbers that rows had before, and such as are kept free for rows that nobody has inserted."""

    by_rows: set[int]
    kept_free: set[int]


def reborn(changes: Iterable[Change], before: Mapping[int, bool], numbers: Used, other: int) -> Iterator[Change]:
    """Yield those inserts that took a used number as SQLite gives it: one more than the greatest in the table.

    And those that took one which was kept free. `before` says which of the changed numbers stood in the table at first,
    `other` is the greatest of all the others.
    """
    there = {number for number, is_there in before.items() if is_there}
    heap = [-number for number in there]
    heapq.heapify(heap)
    used, kept_free = set(numbers.by_rows), set(numbers.kept_free)
    for change in changes:
        if change.is_there and change.number not in there:
            while heap and -heap[0] not in there:
                heapq.heappop(heap)
            is_next = change.number == max(other, -heap[0] if heap else 0, 0) + 1
            if change.number in kept_free or (change.number in used and is_next):
                yield change
            kept_free.discard(change.number)
        if change.is_there:
            there.add(change.number)
            heapq.heappush(heap, -change.number)
        else:
            there.discard(change.number)
        used.add(change.number)


def is_needed(database: Database) -> bool:
    """Tell whether own operations have not been looked through; reads only."""
    return _named(database) < log.own_seq(database) and bool(catalog.mapped(database))


def look(database: Database, enabled: Sequence[Table] | None = None) -> bool:
    """Look through the own operations since the last time, in the caller's transaction.

    Tell whether a row got another number: tables were reconciled then, and may have registered columns. `enabled` are
    the enabled tables, where the caller has read them.
    """
    named = _named(database)
    if named == log.own_seq(database):
        return False
    tops = {number: births.top(database, number) for number in catalog.mapped(database)}
    every = catalog.enabled(database) if enabled is None else enabled
    tables = [table for table in every if table.number in tops]
    used = tops | {table.number: max(tops[table.number], _greatest_used(database, table)) for table in tables}
    suspect = {table.number: _suspect(table, tops[table.number]) for table in tables}
    referring = _referring_columns(database, tops)
    beyond = {
        number: " OR ".join(f"{column} > {used[numbered]}" for column, numbered in columns)
        for number, columns in referring.items()
    }
    is_renamed = False
    if _any(database, named, suspect, beyond):  # one pass, where there is nothing to find
        if _any(database, named, suspect):
            numberings = {table.number: births.load(database, table.number) for table in tables}
            found = [_look(database, table, named, numberings[table.number]) for table in tables]
            is_renamed = any(found)
        for number, columns in referring.items():
            _look_at_references(database, named, (number, beyond[number]), columns)
    for number, greatest in used.items():
        births.raise_top(database, number, greatest)
    database.execute("UPDATE main.sync_state SET named_seq = ?", (log.own_seq(database),))
    return is_renamed


def _any(database: Database, named: int, *tests: Mapping[int, str]) -> bool:
    """Tell whether any own operation since `named` passes one of the tests, each given by the number of its table."""
    by_table = {number: " OR ".join(one[number] for one in tests if number in one) for number in set().union(*tests)}
    passes = " OR ".join(f"table_no = {number} AND ({test})" for number, test in sorted(by_table.items()))
    return bool(passes) and bool(
        database.one(f"SELECT EXISTS (SELECT 1 FROM main.sync_operations WHERE op > {named} AND ({passes}))")
    )


def _suspect(table: Table, top: int) -> str:
    """Render the test that a row went, or took a number that is not beyond all others; else all numbers are new."""
    return f"{table.key[0].new} <= {top} AND kind = {Kind.INSERT:d} OR kind = {Kind.DELETE:d}"


def _greatest_used(database: Database, table: Table) -> int:
    [key] = table.key
    return births.greatest_used(database, f"SELECT {key.sql} AS number FROM {table.sql}")


def _referring_columns(database: Database, mapped: Container[int]) -> dict[int, list[tuple[str, int]]]:
    """Return the columns that refer to rows of mapped tables, and to which, by the number of their own table."""
    found = {
        entry.number: [
            (f"v{position}", numbered)
            for position, numbered in entry.numbers.items()
            if numbered in mapped and (numbered != entry.number or entry.columns[position] != entry.key[0])
        ]
        for entry in catalog.entries(database)
    }
    return {number: columns for number, columns in found.items() if columns}


def _look_at_references(
    database: Database, named: int, wanted: tuple[int, str], columns: Sequence[tuple[str, int]]
) -> None:
    """Note numbers that own operations refer to as used: also one that no row has is this device's own."""
    number, beyond = wanted
    greatest = commas(f"max(iif(typeof({v}) = 'integer' AND {v} < {GREATEST}, {v}, 0))" for v, _ in columns)
    found = database.execute(
        f"SELECT {greatest} FROM main.sync_operations WHERE op > {named} AND table_no = {number} AND ({beyond})"
    ).fetchone()
    for (_, numbered), used in zip(columns, found, strict=True):
        births.raise_top(database, numbered, used or 0)


def _named(database: Database) -> int:
    named: int = database.one("SELECT named_seq FROM main.sync_state")
    return named


def _look(database: Database, table: Table, named: int, numbering: Numbering) -> bool:
    [key] = table.key
    fresh = f"FROM main.sync_operations AS o WHERE o.op > {named} AND o.table_no = {table.number}"
    inserted = f"{fresh} AND o.kind = {Kind.INSERT:d}"
    least, greatest = database.execute(
        f"SELECT min(o.{key.new}), max(iif(o.{key.new} < {GREATEST}, o.{key.new}, 0)) {inserted}"
    ).fetchone()
    if least is None:
        return False
    births.raise_top(database, table.number, greatest)
    deleted = f"SELECT o.{key.new} {fresh} AND o.kind = {Kind.DELETE:d}"
    again = f"SELECT EXISTS (SELECT 1 {inserted} AND o.{key.new} IN ({deleted}))"
    found = _reborn(database, table, named, numbering) if least <= numbering.top or database.one(again) else []
    if found:
        _rename(database, table, found)
    return bool(found)


def _reborn(database: Database, table: Table, named: int, numbering: Numbering) -> list[Change]:
    """List the inserts since `named` that took the number of another row."""
    [key] = table.key
    rows = database.execute(
        f"SELECT op, {key.new}, kind FROM main.sync_operations WHERE op > {named} AND table_no = {table.number} "
        f"AND kind <> {Kind.UPDATE:d} ORDER BY op"
    ).fetchall()
    changes = [Change(dot, number, kind not in _GONE) for dot, number, kind in rows]
    first: dict[int, bool] = {}
    for change in changes:
        first.setdefault(change.number, change.is_there)
    before = {number: not is_there for number, is_there in first.items()}  # a delete says that it was there
    used = {number for number, is_there in first.items() if not is_there}
    doubtful = [number for number, is_there in first.items() if is_there and number <= numbering.top]
    past = _past(database, table, named, doubtful)
    before |= past
    used |= past.keys()
    kept_free = {number for number in doubtful if number not in past and numbering.is_in_a_run(number)}
    if counts_up(database, table.name):  # whoever inserts such a number says that it is that row
        used = set()
    return list(reborn(changes, before, Used(used, kept_free), _greatest_other(database, table, first)))


def _past(database: Database, table: Table, named: int, numbers: list[int]) -> dict[int, bool]:
    """Say of those of these numbers that were used up to the own operation `named` whether they stood in the table."""
    [key] = table.key
    database.execute("CREATE TEMP TABLE sync_doubtful (number INTEGER PRIMARY KEY)")
    database.executemany("INSERT INTO temp.sync_doubtful VALUES (?)", [(number,) for number in numbers])
    kinds = database.execute(
        f"SELECT o.{key.new}, o.kind FROM main.sync_operations AS o {log.AUTHOR} WHERE o.op <= {named} "
        f"AND o.table_no = {table.number} AND o.{key.new} IN (SELECT number FROM temp.sync_doubtful) "
        f"ORDER BY {log.TOTAL_ORDER}"
    ).fetchall()
    database.execute("DROP TABLE temp.sync_doubtful")
    found = {number: kind not in _GONE for number, kind in kinds}
    return found | dict.fromkeys(_parked(database, table).intersection(found), False)


def _greatest_other(database: Database, table: Table, changed: Iterable[int]) -> int:
    """Return the greatest number in a table that is none of these; 0 where there is none above."""
    [key] = table.key
    database.execute("CREATE TEMP TABLE sync_changed (number INTEGER PRIMARY KEY)")
    database.executemany("INSERT INTO temp.sync_changed VALUES (?)", [(number,) for number in changed])
    greatest = database.one(
        f"SELECT {key.sql} FROM {table.sql} WHERE {key.sql} NOT IN (SELECT number FROM temp.sync_changed) "
        f"ORDER BY {key.sql} DESC LIMIT 1"
    )
    database.execute("DROP TABLE temp.sync_changed")
    return max(greatest or 0, 0)


def _rename(database: Database, table: Table, found: list[Change]) -> None:
    """Give the rows that had these numbers before names of ours; the new rows are born here, under these."""
    before = births.load(database, table.number)
    parked = _parked(database, table)
    ours, top = before.least_of_ours, before.top
    moves: list[tuple[int, int, int]] = []
    named: dict[int, Birth] = {}
    for change in found:
        if change.number in parked:  # it will come back: among the numbers that a person may see
            parked.discard(change.number)
            fresh = top = top + 1
        else:
            fresh = ours = ours - 1
        moves.append((change.number, change.dot, fresh))
        named[fresh] = named.get(change.number) or before.birth(change.number) or (0, change.number)
        named[change.number] = (0, fresh)
    renumbering.renumber(database, table.number, moves)
    births.store(database, table.number, before, before.renamed((), named))
    renumbering.count_on(database, table)
    for entry in _referring(database, table, {change.number for change in found}):
        reconciler.reconcile(database, catalog.shape(database, entry))


def _parked(database: Database, table: Table) -> set[int]:
    rows = database.execute(
        f"SELECT k.k0 FROM main.sync_keys_{table.number} AS k JOIN main.sync_forks USING (fork) WHERE is_parked"
    )
    return {number for (number,) in rows.fetchall()}


def _referring(database: Database, table: Table, numbers: set[int]) -> list[Entry]:
    """List the tables with rows that refer to one of these numbers: to the new row now, whomever they meant before."""
    found: dict[int, Entry] = {}
    listed = ", ".join(map(str, numbers))
    for entry, column in renumbering.referring(database, table):
        select = f"SELECT EXISTS (SELECT 1 FROM main.{quote(entry.name)} WHERE {quote(column)} IN ({listed}))"
        if entry.number not in found and database.one(select):
            found[entry.number] = entry
    return list(found.values())
