"""From the log into the user's tables (SPEC.md, section 9).

First a plan for each table, which decides; then everything is written at once: sets as they stand in the log, and the
final rows of those that were contested.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlite_sync import app_triggers, capture, catalog, contested, log, parking
from sqlite_sync.app_triggers import AppTrigger
from sqlite_sync.codec import Row
from sqlite_sync.contested import AbsentRowsError, Plan, Search
from sqlite_sync.database import Database
from sqlite_sync.log import Contexts
from sqlite_sync.operation import Kind
from sqlite_sync.parking import Outcome
from sqlite_sync.tables import Column, Table, changed, commas, fold, logged, same_key


@dataclass(frozen=True, slots=True)
class Todo:
    """Which operations are new, and which old ones may be concurrent with them, as ranges of dot numbers.

    With `only_forks`, the new ones are local writes: the table has them, and only rows that are forks are judged.
    """

    new: Sequence[tuple[int, int]]
    window: Sequence[tuple[int, int]] = ()
    only_forks: bool = False
    most_rows: int = 0  # how many changed rows to list in each plan


def apply(
    database: Database, tables: Sequence[Table], todo: Todo, enabled: Sequence[Table] | None = None
) -> list[Plan]:
    """Bring operations that stand in the log into these tables, inside the caller's transaction.

    `enabled` are all enabled tables, where the caller has read them.
    """
    every = catalog.enabled(database) if enabled is None else enabled
    log.fill_ranges(database, "sync_new", todo.new)
    log.fill_ranges(database, "sync_window", todo.window)
    database.execute("SAVEPOINT sync_apply")
    try:
        plans = _apply(database, tables, todo, every, is_thorough=False)
    except (sqlite3.IntegrityError, AbsentRowsError):
        database.execute("ROLLBACK TO sync_apply")
        plans = _apply(database, tables, todo, every, is_thorough=True)
    database.execute("RELEASE sync_apply")
    _drop_temporary(database, plans)
    return plans


def _apply(
    database: Database, tables: Sequence[Table], todo: Todo, every: Sequence[Table], *, is_thorough: bool
) -> list[Plan]:
    """Plan and write; the quick way takes inserts of one device for new rows, and other changes for those of rows.

    REPLACE can make the former untrue, a row that was inserted uncaptured the latter.
    """
    contexts = Contexts(database)
    search = Search(only_forks=todo.only_forks, is_thorough=is_thorough)
    plans = [contested.plan(database, table, contexts, search) for table in tables]
    if todo.most_rows:
        _list_rows(database, plans, todo.most_rows)
    busy = [one for one in plans if one.simple or one.final]
    refused: list[tuple[Table, Row]] = []
    if busy or any(one.has_contested for one in plans):  # forks decide which triggers capture needs
        with quiet(database, tables, [one.table for one in busy], every):
            refused = _write(database, busy, is_thorough=is_thorough)
    outcome = _park(database, plans, refused, every)
    if todo.most_rows and outcome:
        _correct_rows(plans, outcome, todo.most_rows)
    return plans


def _park(
    database: Database, plans: list[Plan], refused: Sequence[tuple[Table, Row]], every: Sequence[Table]
) -> Outcome | None:
    """Let constraints have their say; rows of any enabled table may have to go, or come back.

    Not of one whose capture is broken: its triggers must not be put back before it is reconciled, which tries again.
    """
    applied = {one.table.number for one in plans}
    enabled = [table for table in every if table.number in applied or capture.problem(database, table) is None]
    work = parking.survey(database, enabled, refused)
    if work is None:
        return None
    with quiet(database, enabled, enabled, every):
        outcome = parking.settle(database, work)
    known = {one.table.number: one for one in plans}
    for table in enabled:
        opened, overridden = outcome.opened.get(table.number, []), outcome.overridden.get(table.number, [])
        parked, returned = outcome.parked.get(table.number, 0), outcome.returned.get(table.number)
        if opened or overridden or parked or returned:
            one = known.get(table.number) or Plan(table)
            one.parked = parked
            one.opened.extend(opened)
            one.overridden.extend(overridden)
            plans.extend([] if table.number in known else [one])
    return outcome


@contextmanager
def quiet(
    database: Database, tables: Sequence[Table], written: Sequence[Table], enabled: Sequence[Table] | None = None
) -> Iterator[None]:
    """Capture nothing on these tables, and let those of the application's triggers rest that must not fire.

    `enabled` are all enabled tables, where the caller has read them.
    """
    quiet, reached = _silence(database, written, catalog.enabled(database) if enabled is None else enabled)
    with (
        capture.paused(database, tables),
        app_triggers.silenced(database, quiet),
        app_triggers.guarded(database, reached),
    ):
        yield


def _silence(
    database: Database, written: Sequence[Table], enabled: Sequence[Table]
) -> tuple[list[AppTrigger], list[str]]:
    """Return the application's triggers that must not fire, and the synced tables that those which fire write."""
    names = {table.name for table in written}
    decided = app_triggers.decide(database, [table.name for table in enabled]) if names else []
    ours = [trigger for trigger in decided if trigger.table_name in names]
    reached = {name for trigger in ours if trigger.fires for name in trigger.writes}
    return [trigger for trigger in ours if not trigger.fires], [t.name for t in enabled if fold(t.name) in reached]


def _list_rows(database: Database, plans: Sequence[Plan], most: int) -> None:
    """List the rows that the plans will change."""
    for one in plans:
        table = one.table
        words = {
            Kind.INSERT: "insert",
            Kind.UPDATE: "update",
            Kind.DELETE: "delete",
            "I": "insert",
            "U": "update",
            "D": "delete",
        }
        sources = [(kind, commas(f"o.{c.new}" for c in table.key), _simple(one, Kind(kind))) for kind in one.simple]
        final = [(action, _key_names(table), _final(table, action)) for action in one.final]
        for what, keys, source in [*sources, *final]:
            rows = database.execute(f"SELECT {keys} FROM {source} LIMIT {most - len(one.rows)}")
            one.rows += [(words[what], tuple(key)) for key in rows]


def _correct_rows(plans: Sequence[Plan], outcome: Outcome, most: int) -> None:
    """Let what the plans list be what becomes of the rows once constraints have had their say."""
    for one in plans:
        changes, is_whole = {key: change for change, key in one.rows}, len(one.rows) < most
        for key, was_parked in outcome.absent.get(one.table.number, ()):
            is_new = changes.pop(key, None) == "insert"
            if is_whole and not (is_new or was_parked):
                changes[key] = "delete"
        for key in outcome.returned.get(one.table.number, ()) if is_whole else ():
            changes.setdefault(key, "insert")
        one.rows = [(change, key) for key, change in changes.items()]


def apply_held(database: Database, table: Table) -> None:
    """Apply operations that came before the table did."""
    held = database.execute(
        "SELECT low, high FROM main.sync_held WHERE table_no = ? ORDER BY low", (table.number,)
    ).fetchall()
    if held:
        others = _without(log.ranges_after(log.clock(database), {}), held)
        apply(database, [table], Todo(new=held, window=others))
        database.execute("DELETE FROM main.sync_held WHERE table_no = ?", (table.number,))


def _without(ranges: list[tuple[int, int]], held: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Cut the held ranges out of others."""
    left = ranges
    for low, high in held:
        left = [
            part
            for first, last in left
            for part in ((first, min(last, low - 1)), (max(first, high + 1), last))
            if part[0] <= part[1]
        ]
    return sorted(set(left))


def _write(database: Database, plans: Sequence[Plan], *, is_thorough: bool) -> list[tuple[Table, Row]]:
    """Write all that can be written; return the rows that a constraint refused, with their images."""
    database.execute("SAVEPOINT sync_write")
    refused: list[tuple[Table, Row]] = []
    try:
        _write_in_place(database, plans)
    except sqlite3.IntegrityError:
        if not is_thorough:
            raise
        database.execute("ROLLBACK TO sync_write")
        refused = _write_anew(database, plans)
    database.execute("RELEASE sync_write")
    return refused


def _drop_temporary(database: Database, plans: Sequence[Plan]) -> None:
    """Remove what planning and writing left in the temporary schema."""
    for one in plans:
        for name in ("contested", "final", "anew"):
            database.execute(f"DROP TABLE IF EXISTS temp.sync_{name}_{one.table.number}")
    database.execute("DROP TABLE temp.sync_new")
    database.execute("DROP TABLE temp.sync_window")


def _write_in_place(database: Database, plans: Sequence[Plan]) -> None:
    """Delete, then update, then insert, so that a value is free before it is taken."""
    for write in (_delete, _update, _insert):
        for one in plans:
            app_triggers.write_to(database, one.table.name)
            write(database, one)


def _delete(database: Database, one: Plan) -> None:
    table = one.table
    if expected := one.simple.get(Kind.DELETE, 0):
        keys = commas(f"o.{c.new}" for c in table.key)
        cursor = database.execute(
            f"DELETE FROM {table.sql} WHERE {_in(table)} (SELECT {keys} FROM {_simple(one, Kind.DELETE)})"
        )
        _require_count(table, expected, cursor.rowcount)
    if one.final.get("D"):
        database.execute(
            f"DELETE FROM {table.sql} WHERE {_in(table)} (SELECT {_key_names(table)} FROM {_final(table, 'D')})"
        )


def _update(database: Database, one: Plan) -> None:
    table = one.table
    if expected := one.simple.get(Kind.UPDATE, 0):
        touched = _touched(database, one)
        assignments = commas(_assignment(c, is_always=is_always) for c, is_always in touched)
        read = dict.fromkeys([*table.key, *(column for column, _ in touched)])
        needed = commas(f"o.{c.new}, o.{c.old}" for c in read)
        cursor = database.execute(  # LIMIT: flattened into the update, the join would begin with the user's table
            f"UPDATE {table.or_abort}{table.sql} AS t SET {assignments} "
            f"FROM (SELECT {needed} FROM {_simple(one, Kind.UPDATE)} LIMIT -1) AS o "
            f"WHERE {same_key(table, 't.{c.keyed}', 'o.{c.new}')}"
        )
        _require_count(table, expected, cursor.rowcount)
    if one.final.get("U"):
        free = [(i, c) for i, c in enumerate(table.columns) if not (c.key_place and table.has_rowid_key)]
        assignments = commas(f"{c.sql} = f.c{i}" for i, c in free)  # not the rowid: SQLite would move the row
        same = " AND ".join(f"t.{c.keyed} = f.k{i}" for i, c in enumerate(table.key))
        database.execute(
            f"UPDATE {table.or_abort}{table.sql} AS t SET {assignments} FROM temp.sync_final_{table.number} AS f WHERE "
            f"f.action = 'U' AND {same}"
        )


def _insert(database: Database, one: Plan) -> None:
    table, names = one.table, commas(c.sql for c in one.table.columns)
    if one.simple.get(Kind.INSERT):
        values = commas(map(logged, table.columns))
        source = _simple(one, Kind.INSERT)
        database.execute(f"INSERT {table.or_abort}INTO {table.sql} ({names}) SELECT {values} FROM {source}")
    if one.final.get("I"):
        database.execute(
            f"INSERT {table.or_abort}INTO {table.sql} ({names}) "
            f"SELECT {contested.value_names(table)} FROM {_final(table, 'I')}"
        )


def _touched(database: Database, one: Plan) -> list[tuple[Column, bool]]:
    """List the columns that some update changes, and whether all of them do."""
    columns = one.table.columns
    counts = commas(f"count(*) FILTER (WHERE {changed(c, 'o.')})" for c in columns)
    # of the contested ones too: to leave them out takes longer than to assign a column more
    every = f"{log.in_ranges('sync_new')} WHERE o.table_no = {one.table.number} AND o.kind = {Kind.UPDATE:d}"
    total, *found = database.execute(f"SELECT count(*), {counts} FROM {every}").fetchone()
    return [(c, count == total) for c, count in zip(columns, found, strict=True) if count] or [(columns[0], False)]


def _assignment(column: Column, *, is_always: bool) -> str:
    image = f"o.{column.new}" if is_always else _image(column)
    return f"{column.sql} = {image}"


def _image(column: Column) -> str:
    """Render a column's value after an update `o` of the row `t`."""
    return f"CASE WHEN {changed(column, 'o.')} THEN o.{column.new} ELSE t.{column.sql} END"


def _write_anew(database: Database, plans: Sequence[Plan]) -> list[tuple[Table, Row]]:
    """Delete every affected row, then insert the final ones: two rows may so exchange a UNIQUE value."""
    for one in plans:
        _stage(database, one)
    for one in plans:
        n = one.table.number
        app_triggers.write_to(database, one.table.name)
        for source in (f"temp.sync_anew_{n}", _final(one.table, "D") if one.has_contested else None):
            if source:
                database.execute(
                    f"DELETE FROM {one.table.sql} WHERE {_in(one.table)} (SELECT {_key_names(one.table)} FROM {source})"
                )
        if one.simple.get(Kind.DELETE):
            keys = commas(f"o.{c.new}" for c in one.table.key)
            database.execute(
                f"DELETE FROM {one.table.sql} WHERE {_in(one.table)} (SELECT {keys} FROM {_simple(one, Kind.DELETE)})"
            )
    return [(one.table, image) for one in plans for image in _insert_staged(database, one.table)]


def _stage(database: Database, one: Plan) -> None:
    """Compute the final images of all rows that are inserted or updated."""
    table, n = one.table, one.table.number
    keys = commas(f"k{i} {c.affinity} COLLATE {c.collation}" for i, c in enumerate(table.key))
    database.execute(f"CREATE TEMP TABLE sync_anew_{n} ({keys}, {contested.value_names(table)})")
    into = f"INSERT INTO temp.sync_anew_{n} SELECT"
    key_values = commas(f"o.{c.new}" for c in table.key)
    if one.simple.get(Kind.INSERT):
        database.execute(f"{into} {key_values}, {commas(map(logged, table.columns))} FROM {_simple(one, Kind.INSERT)}")
    if one.simple.get(Kind.UPDATE):
        images = commas(map(_image, table.columns))
        same = same_key(table, "t.{c.keyed}", "o.{c.new}")
        database.execute(
            f"{into} {key_values}, {images} FROM {log.in_ranges('sync_new')} CROSS JOIN {table.sql} AS "
            f"t WHERE {_simple_where(one, Kind.UPDATE)} AND {same}"
        )
    if one.has_contested:
        database.execute(
            f"{into} {_key_names(table)}, {contested.value_names(table)} FROM temp.sync_final_{n} WHERE action <> 'D'"
        )


def _insert_staged(database: Database, table: Table) -> list[Row]:
    """Insert the final rows; return those that a constraint refused."""
    names, n = commas(c.sql for c in table.columns), table.number
    app_triggers.write_to(database, table.name)
    staged = f"SELECT {contested.value_names(table)} FROM temp.sync_anew_{n} AS s"
    insert = f"INSERT {table.or_abort}INTO {table.sql} ({names}) {staged}"
    try:
        database.execute(insert)
    except sqlite3.IntegrityError:
        return _insert_each(database, table, insert)
    return []


def _insert_each(database: Database, table: Table, insert: str) -> list[Row]:
    refused = []
    rowids = database.execute(f"SELECT rowid FROM temp.sync_anew_{table.number} ORDER BY rowid").fetchall()
    for (rowid,) in rowids:
        try:
            database.execute(f"{insert} WHERE s.rowid = ?", (rowid,))
        except sqlite3.IntegrityError:
            image = f"SELECT {contested.value_names(table)} FROM temp.sync_anew_{table.number} WHERE rowid = ?"
            refused.append(database.execute(image, (rowid,)).fetchone())
    return refused


def _require_count(table: Table, expected: int, found: int) -> None:
    if found != expected:
        raise AbsentRowsError(table, expected - found)


def _simple_where(one: Plan, kind: Kind) -> str:
    return f"o.table_no = {one.table.number} AND o.kind = {kind:d}{contested.uncontested(one)}"


def _simple(one: Plan, kind: Kind) -> str:
    return f"{log.in_ranges('sync_new')} WHERE {_simple_where(one, kind)}"


def _final(table: Table, action: str) -> str:
    return f"temp.sync_final_{table.number} WHERE action = '{action}'"


def _in(table: Table) -> str:
    return f"({commas(c.keyed for c in table.key)}) IN"


def _key_names(table: Table) -> str:
    return commas(f"k{i}" for i in range(len(table.key)))
