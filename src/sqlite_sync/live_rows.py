"""Rows by their shown head: what two rows that cannot both stand are compared by (SPEC.md, section 4.6).

A row that takes part in such a comparison becomes a fork, so that its shown head is known from then on. Until then it
is its last operation, which stands among the new ones and those of the window, except where devices' schemas differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlite_sync import forks, log
from sqlite_sync.codec import Row, Value
from sqlite_sync.database import Database
from sqlite_sync.errors import SchemaError
from sqlite_sync.forks import Fork
from sqlite_sync.log import Contexts
from sqlite_sync.operation import Kind, ordinal_of, seq_of
from sqlite_sync.tables import Table, commas, mark
from sqlite_sync.verdict import Image, MissingParentError, Order, before, judge


@dataclass(frozen=True, slots=True)
class LiveRow:
    """A row with its shown head; `order` is that head's place in the total order."""

    table: Table
    key: Row
    image: Row
    fork: int
    head: int
    order: Order


class LiveRows:
    """Finds rows and their shown heads; `has_ranges` while temp.sync_new and temp.sync_window are there."""

    def __init__(self, database: Database, contexts: Contexts, *, has_ranges: bool = True) -> None:
        self._database = database
        self._contexts = contexts
        self._has_ranges = has_ranges
        self._devices = log.device_ids(database)
        self._listed: set[int] = set()

    def named(self, table: Table, image: Row) -> LiveRow:
        """Return the row that has this image."""
        key = tuple(image[table.columns.index(column)] for column in table.key)
        fork = forks.fork_of(self._database, table, key)
        if fork is None:
            fork = self._make_fork(table, key, image)
        return self._row(table, key, image, fork)

    def of_fork(self, table: Table, fork: int) -> LiveRow | None:
        """Return the row of a fork; None where its shown head is absent."""
        base, operations = forks.loaded(self._database, table, fork)
        image = forks.judged(base, operations, self._contexts).image
        key = tuple(operations[0].values[table.columns.index(column)] for column in table.key)
        return None if image is None else self._row(table, key, image, fork)

    def fork_of_absent(self, table: Table, key: Row) -> int:
        """Return the fork of a row that is not there; it becomes one with its last operation."""
        fork = forks.fork_of(self._database, table, key)
        return self._make_fork(table, key, None) if fork is None else fork

    def heads(self, table: Table, key: Sequence[Value]) -> list[int]:
        """Return the heads of a row, present or not, the shown one first; none where `head` returns None."""
        fork = forks.fork_of(self._database, table, key)
        if fork is None:
            recent = self._recent(table, key)
            return [] if recent is None else [recent]
        base, operations = forks.loaded(self._database, table, fork)
        verdict = forks.judged(base, operations, self._contexts)
        return [verdict.shown.dot, *(other.dot for other in verdict.others)]

    def logged_heads(self, table: Table, key: Row) -> list[int]:
        """Return the heads of a row that is not there, which becomes a fork; none where the log does not know it."""
        if forks.fork_of(self._database, table, key) is None:
            if self._last(table, key) is None:
                return []
            self._make_fork(table, key, None)
        return self.heads(table, key)

    def head(self, table: Table, key: Sequence[Value]) -> int | None:
        """Return the shown head of a row, present or not; None where it is no fork and was not touched lately."""
        fork = forks.fork_of(self._database, table, key)
        return self._recent(table, key) if fork is None else self._shown(fork)

    def order(self, dot: int) -> Order:
        """Return the place of an operation in the total order."""
        hlc = log.hlc_at(self._database, ordinal_of(dot), seq_of(dot))
        return hlc, self._devices[ordinal_of(dot)], seq_of(dot)

    def close(self) -> None:
        """Drop the temporary tables."""
        for number in self._listed:
            self._database.execute(f"DROP TABLE temp.sync_recent_{number}")
        self._listed.clear()

    def _row(self, table: Table, key: Row, image: Row, fork: int) -> LiveRow:
        head = self._shown(fork)
        return LiveRow(table, key, image, fork, head, self.order(head))

    def _shown(self, fork: int) -> int:
        shown: int = self._database.one("SELECT shown FROM main.sync_forks WHERE fork = ?", (fork,))
        return shown

    def _recent(self, table: Table, key: Sequence[Value]) -> int | None:
        """Find a row's last operation among the new ones and those of the window; they are listed once, on demand."""
        if not self._has_ranges:
            return None
        if table.number not in self._listed:
            self._list_recent(table)
        dot: int | None = self._database.one(
            f"SELECT op FROM temp.sync_recent_{table.number} WHERE {_key_is('k{i}', key)}", key
        )
        return dot

    def _list_recent(self, table: Table) -> None:
        n = table.number
        self._listed.add(n)
        names = commas(f"k{i}" for i in range(len(table.key)))
        typed = commas(f"k{i} {c.affinity} COLLATE {c.collation}" for i, c in enumerate(table.key))
        keys = commas(f"o.{c.new}" for c in table.key)
        self._database.execute(f"CREATE TEMP TABLE sync_recent_{n} ({typed}, op, PRIMARY KEY ({names})) WITHOUT ROWID")
        every = " UNION ALL ".join(
            f"SELECT o.op, o.hlc, {keys} FROM {log.in_ranges(ranges)} AND o.table_no = {n}"
            for ranges in ("sync_new", "sync_window")
        )
        listed = commas(f"o.{c.new}" for c in table.key)
        self._database.execute(  # the last of a row replaces those before it
            f"INSERT OR REPLACE INTO temp.sync_recent_{n} SELECT {listed}, o.op FROM ({every}) AS o {log.AUTHOR} "
            f"ORDER BY {log.TOTAL_ORDER}"
        )

    def _last(self, table: Table, key: Row) -> int | None:
        """Find a row's last operation; in the whole log, where it is not among the recent ones."""
        recent = self._recent(table, key)
        if recent is not None:
            return recent
        where = " AND ".join(
            f"o.{c.new} = {mark(value)} COLLATE {c.collation}" for c, value in zip(table.key, key, strict=True)
        )
        last: int | None = self._database.one(
            f"SELECT o.op FROM main.sync_operations AS o {log.AUTHOR} WHERE o.table_no = {table.number} AND {where} "
            "ORDER BY o.hlc DESC, d.device_id DESC, o.op DESC LIMIT 1",
            key,
        )
        return last

    def _make_fork(self, table: Table, key: Row, image: Image) -> int:
        """Make a fork of a row that is none: its last operation, and the image before it."""
        last = self._last(table, key)
        if last is None:
            msg = (
                f"{table.name} holds a row {key!r} that its log does not know, so something wrote it uncaptured; "
                f"run reconcile on {table.name} and try again"
            )
            raise SchemaError(msg)
        op = forks.read_operation(self._database, table, last)
        base, operations = None, [op]
        try:
            if op.kind not in (Kind.RESOLVE, Kind.RESOLVE_DELETE):
                base = before(image, op)
        except MissingParentError:
            operations = forks.history(self._database, table, op)
        verdict = judge(base, operations, self._contexts.knows, is_whole=True)
        native = tuple(op.values[table.columns.index(column)] for column in table.key)
        made = Fork(None, native, base, operations, verdict)
        forks.store(self._database, table, [made])
        return forks.fork_of(self._database, table, native) or 0


def _key_is(name: str, key: Sequence[Value]) -> str:
    return " AND ".join(f"{name.format(i=i)} = {mark(value)}" for i, value in enumerate(key))
