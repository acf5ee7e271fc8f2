"""Rows that refer to what does not stand (SPEC.md, section 4.6).

A child is parked with its parent. It is parked as well where its parent went without knowing of it, or it was written
without knowing that the parent went: for each head of the parent, one of the two. Whoever wrote one of the two in full
knowledge of the other has a database that does not enforce its foreign keys, and goes on so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlite_sync import log
from sqlite_sync.codec import Row
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


def find_returned(database: Database, reference: Reference) -> list[int]:
    """List the forks that refer to no row, and show since the new operations a head that is older than these."""
    child, ranges = reference.child, "SELECT 1 FROM temp.sync_new AS r WHERE {} BETWEEN r.low AND r.high"
    same = " AND ".join(f"t.{c.keyed} = k.k{i}" for i, c in enumerate(child.key))
    rows = database.execute(
        "SELECT f.fork FROM main.sync_forks AS f "
        f"JOIN main.sync_keys_{child.number} AS k ON k.fork = f.fork JOIN {child.sql} AS t ON {same} "
        f"WHERE f.table_no = {child.number} AND NOT f.is_parked AND NOT EXISTS ({ranges.format('f.shown')}) "
        f"AND EXISTS (SELECT 1 FROM main.sync_fork_operations AS o WHERE o.fork = f.fork "
        f"AND EXISTS ({ranges.format('o.op')})) AND {reference.is_orphan}"
    )
    return [fork for (fork,) in rows]


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

    def follow_returned(self, returned: Iterable[tuple[LiveRow, int | None]]) -> None:
        """Collect, of rows that stand by a head that is not new, those that lost a parent while they did not.

        Each comes with the operation that it hung on before, or None.
        """
        for row, local in returned:
            for reference in self._references:
                if reference.child.number == row.table.number and self._is_orphan(reference, row):
                    self._judge_returned(reference, row, local)
        self._go_on()

    def rows(self) -> Iterator[tuple[LiveRow, int]]:
        """Yield what was collected, each row with the first of its reasons."""
        for row, reasons in self._reasons.values():
            yield row, min(reasons)[2]

    def losses(self, row: LiveRow) -> list[int]:
        """List, for each row that a row refers to and that is gone, the operation that took it away."""
        return [
            heads[0]
            for reference in self._references
            if reference.parent and reference.child.number == row.table.number and self._is_orphan(reference, row)
            for key in self._lost_keys(reference, reference.parent, row, None)
            if (heads := self._rows.logged_heads(reference.parent, key))
        ]

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
        losses = self._rows.heads(parent, parent_key)
        if not losses:  # older than all that is new here, so the child's author knew it
            return
        head = self._rows.head(child, [image[child.columns.index(column)] for column in child.key])
        if head is None and len(losses) > 1:
            head = self._rows.named(child, image).head
        # A child older than the window was known to whoever deleted its parent.
        is_unforeseen = self._is_resolution(losses[0]) if head is None else self._is_unforeseen(head, losses)
        if is_unforeseen:
            self._collect(self._rows.named(child, image), reference, losses[0])

    def _judge_returned(self, reference: Reference, row: LiveRow, local: int | None) -> None:
        number = None if local is None else self._table_number(local)
        if reference.parent is None:
            if number == self._number(reference.parent_name) and local is not None:
                self._collect(row, reference, local)  # disabled since: what it knew of its rows still holds
            elif number == row.table.number or (local is None and row.head < 0):
                self._collect(row, reference, row.head)
            return
        rivals = [one for one in self._references if (one.child, one.parent) == (reference.child, reference.parent)]
        if number != reference.parent.number or len(rivals) > 1 or local == row.head:  # it may have hung on another
            local = None
        for key in self._lost_keys(reference, reference.parent, row, local):
            losses = self._rows.logged_heads(reference.parent, key)
            if losses and self._is_unforeseen(row.head, losses):
                self._collect(row, reference, losses[0])

    def _lost_keys(self, reference: Reference, parent: Table, row: LiveRow, local: int | None) -> list[Row]:
        """List the keys of the rows that had what a row refers to: of the one that `local` wrote, if it is given."""
        keys = commas(f"o.{column.new}" for column in parent.key)
        log_of_parent = f"FROM main.sync_operations AS o WHERE o.table_no = {parent.number}"
        targets = reference.parent_columns
        if local is not None and set(targets) != set(parent.key):
            return self._database.execute(f"SELECT {keys} {log_of_parent} AND o.op = ?", (local,)).fetchall()
        self._database.execute(f"CREATE TEMP TABLE sync_sought ({commas(reference.typed)})")
        values = commas(f"t.{quote(name)}" for name in reference.columns)
        itself = f"FROM {row.table.sql} AS t WHERE {_is_row(row)}"
        self._database.execute(f"INSERT INTO temp.sync_sought SELECT {values} {itself}", row.key)
        if set(targets) == set(parent.key):
            places = commas(f"+v{targets.index(column)}" for column in parent.key)
            found = self._database.execute(f"SELECT {places} FROM temp.sync_sought").fetchall()
        else:
            same = " AND ".join(f"s.v{i} = {_lost_value(column)}" for i, column in enumerate(targets))
            found = self._database.execute(
                f"SELECT DISTINCT {keys} FROM temp.sync_sought AS s CROSS JOIN "
                f"(SELECT * {log_of_parent}) AS o WHERE {same}"
            ).fetchall()
        self._database.execute("DROP TABLE temp.sync_sought")
        return found

    def _table_number(self, dot: int) -> int:
        number: int = self._database.one("SELECT table_no FROM main.sync_operations WHERE op = ?", (dot,))
        return number

    def _number(self, name: str) -> int | None:
        number: int | None = self._database.one(
            "SELECT table_no FROM main.sync_tables WHERE name = ? COLLATE NOCASE", (name,)
        )
        return number

    def _is_unforeseen(self, head: int, losses: Sequence[int]) -> bool:
        """Tell whether a child's head and some head of its parent were not written with one known to the other."""
        return any(
            not self._contexts.knows_dot(head, loss)
            and (not self._contexts.knows_dot(loss, head) or self._is_resolution(loss))
            for loss in losses
        )

    def _is_resolution(self, dot: int) -> bool:
        kind = self._database.one("SELECT kind FROM main.sync_operations WHERE op = ?", (dot,))
        return kind in (Kind.RESOLVE, Kind.RESOLVE_DELETE)

    def _is_orphan(self, reference: Reference, row: LiveRow) -> bool:
        select = f"SELECT 1 FROM {row.table.sql} AS t WHERE {_is_row(row)} AND {reference.is_orphan}"
        return bool(self._database.one(select, row.key))


def _is_row(row: LiveRow) -> str:
    return " AND ".join(f"t.{c.keyed} = {mark(value)}" for c, value in zip(row.table.key, row.key, strict=True))


def _image(reference: Reference) -> str:
    return commas(f"+t.{column.sql}" for column in reference.child.columns)
