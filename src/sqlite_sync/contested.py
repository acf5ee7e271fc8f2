"""Which rows new operations touch that somebody else touched too, and what becomes of them (SPEC.md, section 9).

The new operations stand in the log already, as the ranges in temp.sync_new; those that may be concurrent with them as
the ranges in temp.sync_window. Rows that one new operation alone touches need no look: they go into the table as
sets. The few others, the *contested* ones, are judged one by one in pure code; their final rows are left in
temp.sync_final_<n>.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from sqlite_sync import catalog, conflicts, forks, log
from sqlite_sync.codec import Row
from sqlite_sync.conflicts import Conflict
from sqlite_sync.database import Database
from sqlite_sync.errors import SchemaError
from sqlite_sync.forks import Fork
from sqlite_sync.log import Contexts
from sqlite_sync.operation import Kind, ordinal_of
from sqlite_sync.tables import Table, commas, insert_rows, same_key, same_native
from sqlite_sync.verdict import (
    Image,
    MissingParentError,
    RowOperation,
    Verdict,
    after,
    before,
    is_chain,
    judge,
    same_image,
)

_BATCH_ROWS = 100  # judged and written together: of a thousand, memory is slower than what is saved
_MOST_WAITING = 1000  # rows whose histories are read together: each time takes a pass over the whole log
_BASE = attrgetter("base")


class AbsentRowsError(SchemaError):
    """A table does not hold what its log says."""

    def __init__(self, table: Table, rows: int) -> None:
        super().__init__(
            f"{table.name} does not hold what its log says: {rows} of its rows are missing, so something "
            f"changed it uncaptured; run reconcile on {table.name} and import again"
        )


@dataclass(slots=True)
class Plan:
    """What is to be done to one table: rows per kind that go as sets, and final rows per action that were judged."""

    table: Table
    has_contested: bool = False
    simple: dict[int, int] = field(default_factory=dict)
    final: dict[str, int] = field(default_factory=dict)
    opened: list[tuple[bytes, int, int]] = field(default_factory=list)  # conflict, local, remote; parked rows' too
    conflicts: list[Conflict] = field(default_factory=list)  # between versions of a row, in the order of a listing
    overridden: list[Row] = field(default_factory=list)
    rows: list[tuple[str, Row]] = field(default_factory=list)
    parked: int = 0

    def count(self, kind: Kind, action: str) -> int:
        """Count the rows that this plan inserts, updates or deletes."""
        return self.simple.get(kind, 0) + self.final.get(action, 0)


@dataclass(frozen=True, slots=True)
class Search:
    """Which rows to look for: only forks; or, thoroughly, also inserts of what is there, and changes of what is not."""

    only_forks: bool = False
    is_thorough: bool = False


def plan(database: Database, table: Table, contexts: Contexts, search: Search) -> Plan:
    """Find out what the new operations mean for a table; writes forks and conflicts, not yet the table."""
    one = Plan(table)
    kinds = {} if search.only_forks else _kinds(database, table)
    one.has_contested = _find_contested(database, table, kinds, search)
    judged = _judge_contested(database, one, contexts) if one.has_contested else Counter[int]()
    one.simple = {kind: left for kind, count in kinds.items() if (left := count - judged[kind])}
    return one


def _kinds(database: Database, table: Table) -> dict[int, int]:
    source = f"{log.in_ranges('sync_new')} WHERE o.table_no = {table.number}"
    total, least, greatest = database.execute(f"SELECT count(*), min(o.kind), max(o.kind) FROM {source}").fetchone()
    if least == greatest:  # often, and cheaper than counting each kind
        return {Kind(least): total} if total else {}
    counts = commas(f"count(*) FILTER (WHERE o.kind = {kind:d})" for kind in Kind)  # cheaper than GROUP BY
    found = database.execute(f"SELECT {counts} FROM {source}").fetchone()
    return {kind: count for kind, count in zip(Kind, found, strict=True) if count}


def uncontested(one: Plan) -> str:
    """Render the condition that leaves contested rows out."""
    if not one.has_contested:
        return ""
    same = same_native("c", one.table, "o")
    return f" AND NOT EXISTS (SELECT 1 FROM temp.sync_contested_{one.table.number} AS c WHERE {same})"


def _find_contested(database: Database, table: Table, kinds: Mapping[int, int], search: Search) -> bool:
    """Fill the table of contested keys; tell whether there are any."""
    n, keys = table.number, table.key
    new = f"{log.in_ranges('sync_new')} WHERE o.table_no = {n}"
    collated = commas(f"o.{c.new} COLLATE {c.collation}" for c in keys)
    sources: list[str] = []
    is_mixed = search.is_thorough or bool(set(kinds) - {Kind.INSERT}) or _has_several_devices(database, n)
    if kinds and _touches(database, "sync_window", n):  # one sort finds those that are new twice, and those of both
        window = f"{log.in_ranges('sync_window')} WHERE o.table_no = {n}"
        named = commas(f"o.{c.new} COLLATE {c.collation} AS {c.new}" for c in keys)
        both = f"SELECT {named}, 1 AS is_new FROM {new} UNION ALL SELECT {named}, 0 FROM {window}"
        sources.append(f"SELECT {collated} FROM ({both}) AS o GROUP BY {collated} HAVING count(*) > 1 AND max(is_new)")
    elif kinds and is_mixed:
        sources.append(f"SELECT {collated} FROM {new} GROUP BY {collated} HAVING count(*) > 1")
    if kinds and is_mixed:
        sources.append(f"SELECT {collated} FROM {new} AND (o.kind >= {Kind.RESOLVE:d} OR o.base IS NOT NULL)")
    if kinds and search.is_thorough:
        there = f"SELECT 1 FROM {table.sql} AS t WHERE {same_key(table, 't.{c.keyed}', 'o.{c.new}')}"
        sources.append(f"SELECT {collated} FROM {new} AND (o.kind = {Kind.INSERT:d}) = EXISTS ({there})")
    if forks.has_forks(database, table):
        sources.append(
            f"SELECT {collated} FROM {log.in_ranges('sync_new')} CROSS JOIN main.sync_keys_{n} AS k "
            f"WHERE o.table_no = {n} AND {same_native('k', table, 'o')}"
        )
    names = commas(f"k{i}" for i in range(len(keys)))
    typed = commas(f"k{i} {c.affinity} COLLATE {c.collation}" for i, c in enumerate(keys))
    database.execute(f"CREATE TEMP TABLE sync_contested_{n} (row INTEGER PRIMARY KEY, {typed}, UNIQUE ({names}))")
    for source in sources:
        database.execute(f"INSERT OR IGNORE INTO temp.sync_contested_{n} ({names}) {source}")
    return bool(database.one(f"SELECT EXISTS (SELECT 1 FROM temp.sync_contested_{n})"))


def _has_several_devices(database: Database, number: int) -> bool:
    # NOT INDEXED, as in `log.in_ranges`: from 3.51 on SQLite makes a join of EXISTS, and would index the whole log
    rows = database.execute(
        f"SELECT r.low FROM temp.sync_new AS r WHERE EXISTS (SELECT 1 FROM main.sync_operations AS o "
        f"NOT INDEXED WHERE o.op BETWEEN r.low AND r.high AND o.table_no = {number}) LIMIT 2"
    )
    return len(rows.fetchall()) > 1


def _touches(database: Database, ranges: str, number: int) -> bool:
    return bool(database.one(f"SELECT EXISTS (SELECT 1 FROM {log.in_ranges(ranges)} WHERE o.table_no = {number})"))


class _Contested(NamedTuple):
    """A contested row: its number, what the table holds, its fork if it is one, and its operations in the total order.

    `old` are those of the window that are neither new nor listed with the fork, `new` the new ones that are not listed.
    """

    number: int
    current: Image
    fork: int | None
    base: Image
    operations: Sequence[RowOperation]
    old: Sequence[RowOperation]
    new: Sequence[RowOperation]


_Outcome = tuple[Image, Fork | None]  # the final image of a contested row, and its fork if it is one


def _judge_contested(database: Database, one: Plan, contexts: Contexts) -> Counter[int]:
    """Judge the contested rows of a table; return how many new operations of each kind they have."""
    kinds, opened = Counter[int](), list[tuple[Any, Conflict]]()
    [known] = [entry for entry in catalog.entries(database) if entry.number == one.table.number]
    final = _create_final(database, one.table)
    judge_of = _Judge(database, one.table, contexts)
    judged = judge_of.judged(_contested_rows(database, one.table, kinds))
    while some := list(islice(judged, _BATCH_ROWS)):
        written, forked = judge_of.outcomes(some, one)
        insert_rows(database, final, written)
        new = forks.store(database, one.table, forked)
        one.opened += [(conflict.conflict_id, conflict.local.dot, conflict.remote.dot) for conflict in new]
        opened += zip([conflict.order for conflict in new], conflicts.made(known, one.table, new), strict=True)
    one.conflicts = [conflict for _, conflict in sorted(opened, key=itemgetter(0))]
    return kinds


class _Judge:
    """Judges the contested rows of one table; what is the same for all of them is found out once."""

    def __init__(self, database: Database, table: Table, contexts: Contexts) -> None:
        self._database = database
        self._table = table
        self._knows = contexts.knows
        self._width = len(table.columns)
        self._whole = catalog.whole(database, table)
        self._read_whole = forks.operation_reader(self._whole)
        self._key_order = [table.columns.index(column) for column in table.key]

    def judged(self, rows: Iterable[_Contested]) -> Iterator[tuple[_Contested, _Outcome]]:
        """Yield contested rows, each with what becomes of it; those that take their whole history come in bulk."""
        waiting: list[_Contested] = []
        for row in rows:
            outcome = self._outcome(row)
            if outcome is not None:
                yield row, outcome
                continue
            waiting.append(row)
            if len(waiting) == _MOST_WAITING:
                yield from self._whole_outcomes(waiting)
                waiting.clear()
        yield from self._whole_outcomes(waiting)

    def outcomes(self, judged: Iterable[tuple[_Contested, _Outcome]], one: Plan) -> tuple[list[Row], list[Fork]]:
        """Return the final rows to be written, each behind its action and key, and the forks; the plan counts them."""
        written, forked = list[Row](), list[Fork]()
        absent = (None,) * self._width
        for row, (image, fork) in judged:
            is_other = not same_image(image, row.current)
            if fork:
                forked.append(fork)
                if is_other and _is_overriding(fork):
                    one.overridden.append(fork.key)
            if is_other:
                action = "D" if image is None else "I" if row.current is None else "U"
                one.final[action] = one.final.get(action, 0) + 1
                named = row.current or image or ()
                written.append((action, *[named[i] for i in self._key_order], *(image or absent)))
        return written, forked

    def _outcome(self, row: _Contested) -> _Outcome | None:
        """Return the final image of a contested row, and its fork if it is one; None where it takes the whole history.

        Columns that only other devices have stand behind the table's own, in no base image: then, too.
        """
        operations = row.operations
        if self._is_incomplete(row):
            return None  # what the base is, only the whole history tells
        try:
            if row.fork is None and is_chain(operations, self._knows):
                image = row.current
                for op in row.new:
                    image = after(image, op)
                return image, None
            if len(self._whole.columns) > self._width:
                return None  # so is what they held
            base = row.base if row.fork is not None else row.current
            for op in reversed(row.old):
                base = before(base, op)
            verdict = judge(base, operations, self._knows)
        except MissingParentError:  # or an insert replaced a live row, so its undoing did not give what stood there
            return None
        return self._with_fork(row, base, operations, verdict)

    def _whole_outcomes(self, rows: Sequence[_Contested]) -> Iterator[tuple[_Contested, _Outcome]]:
        """Yield contested rows with what becomes of them by their whole histories."""
        histories = self._histories([row.number for row in rows])
        for row in rows:
            operations = histories[row.number]
            self._require_logged(row, operations)
            verdict = judge(None, operations, self._knows, is_whole=True)
            yield row, self._with_fork(row, None, operations, verdict)

    def _with_fork(
        self, row: _Contested, base: Image, operations: Sequence[RowOperation], verdict: Verdict
    ) -> tuple[Image, Fork]:
        native = tuple([operations[0].values[i] for i in self._key_order])
        shown = None if verdict.image is None else verdict.image[: self._width]
        return shown, Fork(row.fork, native, base, operations, verdict)

    def _histories(self, numbers: Sequence[int]) -> dict[int, list[RowOperation]]:
        """Read all operations of contested rows, by row number, in one pass over the log.

        `+`: each operation is looked up among the rows by its key, else SQLite goes through these rows for each.
        """
        if not numbers:
            return {}
        n = self._table.number
        rows = self._database.execute(
            f"SELECT c.row, {forks.operation_columns(self._whole)} FROM main.sync_operations AS o "
            f"CROSS JOIN temp.sync_contested_{n} AS c ON {same_native('c', self._table, 'o')} {log.AUTHOR} "
            f"WHERE o.table_no = {n} AND +c.row IN ({commas(map(str, numbers))}) ORDER BY c.row, {log.TOTAL_ORDER}"
        )
        return {
            number: [self._read_whole(row[1:]) for row in group] for number, group in groupby(rows, key=itemgetter(0))
        }

    def _require_logged(self, row: _Contested, operations: Sequence[RowOperation]) -> None:
        """Refuse to go on from a row that the log says is there, and the table does not have."""
        new = {op.dot for op in row.new}
        former = [op for op in operations if op.dot not in new]
        if row.current is None and row.fork is None and former:
            verdict = judge(None, former, self._knows, is_whole=True)
            if verdict.image is not None:
                raise AbsentRowsError(self._table, 1)

    def _is_incomplete(self, row: _Contested) -> bool:
        """Tell whether a base is none of a row's operations; or is 0, so that a head may be older than all of them."""
        bases = set(map(_BASE, row.operations)) - {None}
        if 0 in bases and row.fork is None:
            return True
        bases.discard(0)
        return bool(bases) and not bases <= {op.dot for op in row.operations}


def _is_overriding(fork: Fork) -> bool:
    """Tell whether another device's version is shown over an edit of this one that stays in conflict."""
    return ordinal_of(fork.verdict.shown.dot) != 0 and any(ordinal_of(head.dot) == 0 for head in fork.others)


_LISTED, _NEW, _OLD = range(3)  # where an operation was found; what is listed with the fork is in the table already


def _contested_rows(database: Database, table: Table, kinds: Counter[int]) -> Iterator[_Contested]:
    """Read the contested rows, one after the other: cursors in the order of their row number; count new operations."""
    n = table.number
    current = _Merge(database.execute(
        f"SELECT c.row, {commas(f'+t.{c.sql}' for c in table.columns)} FROM temp.sync_contested_{n} AS "
        f"c CROSS JOIN {table.sql} AS t "
        f"WHERE {' AND '.join(f't.{c.keyed} = c.k{i}' for i, c in enumerate(table.key))} ORDER BY c.row"
    ))  # fmt: skip
    stored = database.execute(
        f"SELECT c.row, f.fork, f.base FROM temp.sync_contested_{n} AS c CROSS JOIN main.sync_keys_{n} "
        f"AS k JOIN main.sync_forks AS f USING (fork) WHERE {_same_native(table)}"
    )
    read = forks.operation_reader(table)
    known = {row: (fork, forks.unpack_base(table, base)) for row, fork, base in stored}
    for row, group in groupby(_contested_operations(database, table), key=itemgetter(-2)):
        operations: list[RowOperation] = []  # not list[...](): for each row, that takes as long as to judge it
        old: list[RowOperation] = []
        new: list[RowOperation] = []
        last = 0
        for found in group:
            dot, source = found[0], found[-1]
            if source == _NEW:
                kinds[found[1]] += 1
            if dot == last:  # found in an earlier source too
                continue
            last, op = dot, read(found)
            operations.append(op)
            if source != _LISTED:
                (new if source == _NEW else old).append(op)
        fork, base = known.get(row, (None, None))
        yield _Contested(row, current.at(row), fork, base, operations, old, new)


def _contested_operations(database: Database, table: Table) -> Iterator[tuple[Any, ...]]:
    """Yield (operation columns..., row, source) of contested rows, each row's in the total order."""
    n, columns = table.number, forks.operation_columns(table)
    same = same_native("c", table, "o")

    def of_ranges(ranges: str, source: int) -> str:
        return (
            f"SELECT {columns}, c.row, {source} AS source FROM {log.in_ranges(ranges)} AND o.table_no = {n} "
            f"CROSS JOIN temp.sync_contested_{n} AS c ON {same} {log.AUTHOR}"
        )

    of_forks = (
        f"SELECT {columns}, c.row, {_LISTED} AS source FROM temp.sync_contested_{n} AS c CROSS JOIN "
        f"main.sync_keys_{n} AS k ON {_same_native(table)} "
        "CROSS JOIN main.sync_fork_operations AS f ON f.fork = k.fork CROSS JOIN main.sync_operations "
        f"AS o ON o.op = f.op {log.AUTHOR}"
    )
    union = " UNION ALL ".join([of_ranges("sync_new", _NEW), of_ranges("sync_window", _OLD), of_forks])
    return database.execute(f"SELECT * FROM ({union}) ORDER BY row, hlc, device_id, op, source")


class _Merge:
    """A cursor in the order of its first column, read along with another."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def at(self, row: int) -> tuple[Any, ...] | None:
        """Return the rest of the line for `row`, or None; rows are asked for in ascending order."""
        while self._next is not None and self._next[0] < row:
            self._next = next(self._rows, None)
        return self._next[1:] if self._next is not None and self._next[0] == row else None


def _same_native(table: Table) -> str:
    return " AND ".join(f"k.k{i} = c.k{i}" for i in range(len(table.key)))


def _create_final(database: Database, table: Table) -> str:
    """Make the table of final rows; return its name."""
    name = f"temp.sync_final_{table.number}"
    keys = commas(f"k{i} {c.affinity} COLLATE {c.collation}" for i, c in enumerate(table.key))
    database.execute(f"CREATE TABLE {name} (action, {keys}, {value_names(table)})")
    return name


def value_names(table: Table) -> str:
    """Name the columns that hold an image in the temporary tables."""
    return commas(f"c{i}" for i in range(len(table.columns)))
