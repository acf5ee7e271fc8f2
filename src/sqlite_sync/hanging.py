"""Rows that refer to what does not stand (SPEC.md, section 4.6).

A child is parked with its parent. It is parked as well where its parent went without knowing of it, or it was written
without knowing that the parent went. Whoever wrote one of the two in full knowledge of the other has a database that
does not enforce its foreign keys, and goes on so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlite_sync import log
from sqlite_sync.codec import Row, Value
from sqlite_sync.database import Database
from sqlite_sync.live_rows import LiveRow, LiveRows
from sqlite_sync.log import Contexts
from sqlite_sync.operation import Kind
from sqlite_sync.references import Reference
from sqlite_sync.tables import Column, Table, changed, commas, mark, quote, same_key
from sqlite_sync.verdict import Order


def find_lost(database: Database, place: int, reference: Reference) -> bool:
    """Find out whether a reference may have lost its parents to the new operations or to those of the window.

    The values that went stay in temp.sync_lost_<place>, beside the key of the row that had them.
    """
    if reference.parent is None:
        return bool(database.one(f"SELECT EXISTS (SELECT 1 FROM {_arrived(reference)} WHERE {reference.is_orphan})"))
    targets, keys = reference.parent_columns, reference.parent.key
    typed = reference.typed
    typed += [f"k{i} {c.affinity} COLLATE {c.collation}" for i, c in enumerate(keys)]
    database.execute(f"CREATE TEMP TABLE sync_lost_{place} ({commas(typed)})")
    values = commas([*map(_lost_value, targets), *(f"o.{c.new}" for c in keys)])
    moved = " OR ".join(changed(c, "o.") for c in targets if not c.key_place) or "0"
    for ranges in ("sync_new", "sync_window"):
        database.execute(
            f"INSERT INTO temp.sync_lost_{place} SELECT {values} FROM {log.in_ranges(ranges)} "
            f"WHERE o.table_no = {reference.parent.number} "
            f"AND (o.kind IN ({Kind.DELETE:d}, {Kind.RESOLVE_DELETE:d}) OR o.kind = {Kind.UPDATE:d} AND ({moved}))"
        )
    same = " AND ".join(f"p.{column.sql} = l.v{i}" for i, column in enumerate(targets))
    database.execute(
        f"DELETE FROM temp.sync_lost_{place} AS l WHERE EXISTS (SELECT 1 FROM {reference.parent.sql} AS p WHERE {same})"
    )
    return bool(database.one(f"SELECT EXISTS (SELECT 1 FROM temp.sync_lost_{place})"))


def drop_lost(database: Database, references: Sequence[Reference]) -> None:
    """Drop what `find_lost` left."""
    for place in range(len(references)):
        database.execute(f"DROP TABLE IF EXISTS temp.sync_lost_{place}")


def _lost_value(column: Column) -> str:
    """Render what an operation took from a column of its row; NULL where the operation does not say."""
    if column.key_place:
        return f"o.{column.new}"
    updated = f"WHEN o.kind = {Kind.UPDATE:d} AND {changed(column, 'o.')} THEN o.{column.old}"
    return f"CASE WHEN o.kind = {Kind.DELETE:d} THEN o.{column.new} {updated} END"


def _arrived(reference: Reference) -> str:
    """Render the rows `t` of a child that other devices' new operations wrote; a WHERE follows it."""
    child = reference.child
    same = same_key(child, "t.{c.keyed}", "o.{c.new}")
    fresh = f"{log.in_ranges('sync_new')} AND o.op < 0 AND o.table_no = {child.number}"
    return f"{fresh} CROSS JOIN {child.sql} AS t ON {same}"


class Hanging:
    """Collects the rows that hang on others; they stay in their tables until all of them are known."""

    def __init__(self, database: Database, rows: LiveRows, contexts: Contexts, references: Sequence[Reference]) -> None:
        self._database = database
        self._rows = rows
        self._contexts = contexts
        self._references = references
        self._reasons: dict[int, tuple[LiveRow, list[tuple[int, Order, int]]]] = {}
        self._ahead: list[LiveRow] = []

    def follow(self, gone: Iterable[LiveRow]) -> None:
        """Collect what hangs on rows that were taken out of their tables, or on parents that went lately."""
        self._collect_children(list(gone), is_there=False)
        for place, reference in enumerate(self._references):
            self._collect_lost(place, reference)
        self._go_on()

    def follow_again(self, before: Iterable[tuple[LiveRow, int]]) -> None:
        """Collect, of rows that hung on an operation before, those that still do."""
        for row, local in before:
            for reference in self._references:
                if reference.child.number == row.table.number and self._is_orphan(reference, row):
                    self._judge_again(reference, row, local)
        self._go_on()

    def rows(self) -> Iterator[tuple[LiveRow, int]]:
        """Yield what was collected, each row with the first of its reasons."""
        for row, reasons in self._reasons.values():
            yield row, min(reasons)[2]

    def _go_on(self) -> None:
        while self._ahead:
            ahead, self._ahead = self._ahead, []
            self._collect_children(ahead, is_there=True)

    def _collect(self, row: LiveRow, reference: Reference, local: int) -> None:
        if row.fork not in self._reasons:
            self._reasons[row.fork] = (row, [])
            self._ahead.append(row)
        self._reasons[row.fork][1].append((reference.place, self._rows.order(local), local))

    def _collect_children(self, parents: Sequence[LiveRow], *, is_there: bool) -> None:
        """Collect the children of rows; where these are out of their table, another one may have their value now."""
        for reference in self._references:
            of_table = [row for row in parents if reference.parent and row.table.number == reference.parent.number]
            if not of_table:
                continue
            self._list_gone(reference, of_table)
            same = " AND ".join(f"g.v{i} = t.{quote(name)}" for i, name in enumerate(reference.columns))
            orphan = "" if is_there else f" AND {reference.is_orphan}"
            child = reference.child
            found = self._database.execute(
                f"SELECT g.head, {_image(reference)} FROM temp.sync_gone AS g JOIN {child.sql} AS t ON {same}{orphan}"
            ).fetchall()
            self._database.execute("DROP TABLE temp.sync_gone")
            for head, *image in found:
                self._collect(self._rows.named(child, tuple(image)), reference, head)

    def _list_gone(self, reference: Reference, parents: Sequence[LiveRow]) -> None:
        """Make temp.sync_gone: the values by which parents are referred to, beside their heads."""
        columns = reference.parent_columns
        self._database.execute(f"CREATE TEMP TABLE sync_gone ({commas(reference.typed)}, head INTEGER)")
        places = [parents[0].table.columns.index(column) for column in columns]
        for row in parents:
            values = [*(row.image[place] for place in places), row.head]
            self._database.execute(f"INSERT INTO temp.sync_gone VALUES ({commas(map(mark, values))})", values)

    def _collect_lost(self, place: int, reference: Reference) -> None:
        child = reference.child
        if reference.parent is None:
            select = f"SELECT DISTINCT {_image(reference)} FROM {_arrived(reference)} WHERE {reference.is_orphan}"
            for image in self._database.execute(select).fetchall():
                row = self._rows.named(child, image)
                self._collect(row, reference, row.head)
            return
        keys = commas(f"l.k{i}" for i in range(len(reference.parent.key)))
        is_composite = len(reference.columns) > 1  # a part that its operation did not name matches anything
        same = " AND ".join(
            f"(l.v{i} IS NULL OR l.v{i} = t.{quote(name)})" if is_composite else f"l.v{i} = t.{quote(name)}"
            for i, name in enumerate(reference.columns)
        )
        width = len(child.columns)
        for found in self._database.execute(
            f"SELECT DISTINCT {_image(reference)}, {keys} FROM temp.sync_lost_{place} AS l JOIN {child.sql} AS t "
            f"ON {same} WHERE {reference.is_orphan}"
        ).fetchall():
            self._judge(reference, reference.parent, found[:width], found[width:])

    def _judge(self, reference: Reference, parent: Table, image: Row, parent_key: Row) -> None:
        """Collect an orphan unless it, or the loss of its parent, was written with the other one known."""
        child = reference.child
        head = self._rows.head(child, [image[child.columns.index(column)] for column in child.key])
        loss = self._rows.head(parent, parent_key)
        if loss is None:  # older than all that is new here, so the child's author knew it
            return
        is_older = head is None and self._is_resolution(
            loss
        )  # the child is older than the window: the resolver knew it
        if is_older or (head is not None and self._is_unforeseen(head, loss)):
            self._collect(self._rows.named(child, image), reference, loss)

    def _judge_again(self, reference: Reference, row: LiveRow, local: int) -> None:
        number = self._database.one("SELECT table_no FROM main.sync_operations WHERE op = ?", (local,))
        if reference.parent is None:
            if number == row.table.number:
                self._collect(row, reference, row.head)
            elif number == self._number(reference.parent_name):  # disabled since: what it knew of its rows still holds
                self._collect(row, reference, local)
        elif number == reference.parent.number:
            keys = commas(column.new for column in reference.parent.key)
            key: Sequence[Value] = self._database.execute(
                f"SELECT {keys} FROM main.sync_operations WHERE op = ?", (local,)
            ).fetchone()
            loss = self._rows.head(reference.parent, key) or local
            if self._is_unforeseen(row.head, loss):
                self._collect(row, reference, loss)

    def _number(self, name: str) -> int | None:
        number: int | None = self._database.one(
            "SELECT table_no FROM main.sync_tables WHERE name = ? COLLATE NOCASE", (name,)
        )
        return number

    def _is_unforeseen(self, head: int, loss: int) -> bool:
        if self._contexts.knows_dot(head, loss):
            return False
        if not self._contexts.knows_dot(loss, head):
            return True
        return self._is_resolution(loss)

    def _is_resolution(self, dot: int) -> bool:
        kind = self._database.one("SELECT kind FROM main.sync_operations WHERE op = ?", (dot,))
        return kind in (Kind.RESOLVE, Kind.RESOLVE_DELETE)

    def _is_orphan(self, reference: Reference, row: LiveRow) -> bool:
        same = " AND ".join(f"t.{c.keyed} = {mark(value)}" for c, value in zip(row.table.key, row.key, strict=True))
        select = f"SELECT 1 FROM {row.table.sql} AS t WHERE {same} AND {reference.is_orphan}"
        return bool(self._database.one(select, row.key))


def _image(reference: Reference) -> str:
    return commas(f"+t.{column.sql}" for column in reference.child.columns)
