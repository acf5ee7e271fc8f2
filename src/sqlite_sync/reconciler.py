"""The difference between what the log says and what a table holds, written into the log.

So nothing is lost that was written while capture was off: before a table was enabled again, after a migration rebuilt
it without its triggers, by a program that drops triggers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlite_sync import app_triggers, applier, capture, catalog, forks, log, mapping, schema, triggers
from sqlite_sync.applier import Todo
from sqlite_sync.catalog import Entry
from sqlite_sync.database import Database, new_uuid
from sqlite_sync.errors import TableError
from sqlite_sync.log import Contexts
from sqlite_sync.operation import Kind, dot_number, ordinal_of, seq_of
from sqlite_sync.tables import Column, Table, changed, commas, fold, logged, mark, same_native

# One operation, applied to the replay. In a trigger, so that no row travels through Python.
STEP = """\
CREATE TEMP TRIGGER sync_stepped_{n} INSTEAD OF INSERT ON sync_step_{n}
BEGIN
    INSERT OR REPLACE INTO sync_replay_{n} SELECT {image} WHERE NEW.kind IN ({live});
    DELETE FROM sync_replay_{n} WHERE NEW.kind IN ({absent}) AND {same_key};
    UPDATE sync_replay_{n} SET {assignments}, is_torn = is_torn OR {is_torn} WHERE NEW.kind = {update} AND {same_key};
END"""


def reconcile(database: Database, table: Table) -> int:
    """Log what a table holds beyond its log, and renew its triggers; return how many operations that took."""
    held_columns = catalog.absent(database, table.number)
    table = mapping.register_own(database, table)
    require_keys(database, table)
    held = database.execute("SELECT low, high FROM main.sync_held WHERE table_no = ?", (table.number,)).fetchall()
    appeared = [(i, c) for i, c in enumerate(table.columns) if fold(c.name) in held_columns]
    if appeared:
        forks.rebase(database, table)
    replay(database, table, held)
    if appeared:
        _fill(database, table, appeared)
    catalog.note_columns(database, table)
    forks.renew_images(database, table)
    differences = compare(database, table) + _mend_torn(database, table)
    if differences:
        author = _author(database, held, differences) if held else None
        _append(database, table, author)
        if author is not None and forks.has_forks(database, table):  # an author of its own is not settled later
            written = (dot_number(author, 1), dot_number(author, differences))
            applier.apply(database, [table], Todo(new=[written], only_forks=True))
    database.execute("DROP TABLE temp.sync_difference")
    database.execute(f"DROP TABLE temp.sync_replay_{table.number}")
    applier.apply_held(database, table)
    capture.install(database, table)
    return differences


def named(database: Database, name: str | None) -> list[Entry]:
    """List the enabled table of this name; for None, each that is here. TableError where there is no such table."""
    entries = [entry for entry in catalog.entries(database) if entry.is_enabled]
    if name is None:
        return [entry for entry in entries if catalog.exists(database, entry)]
    found = [entry for entry in entries if fold(entry.name) == fold(name)]
    if not found:
        msg = f"no such synced table in {database.path}: {name}; enable it first"
        raise TableError(msg)
    return found


def judge_forks(database: Database, name: str) -> None:
    """Judge all forks of a reconciled table: some of their operations may only have been listed so far."""
    entry = catalog.entry(database, name)
    table = catalog.shape(database, entry) if entry else None
    if table and forks.has_forks(database, table):
        applier.apply(database, [table], Todo(new=log.ranges_after(log.clock(database), {}), only_forks=True))


def require_keys(database: Database, table: Table) -> None:
    """Refuse a table that already has NULL in a key."""
    nulls = " OR ".join(f"{column.sql} IS NULL" for column in table.key)
    if count := database.one(f"SELECT count(*) FROM {table.sql} WHERE {nulls}"):
        msg = (
            f"{table.name} has NULL in the primary key, which is no identity (rows: {count:,}): "
            "give these rows a key first"
        )
        raise TableError(msg)


def replay(database: Database, table: Table, held: Sequence[tuple[int, int]] = ()) -> None:
    """Build temp.sync_replay_<n>: the table as its log says, without the held operations."""
    keys = commas(f"k{i} {c.affinity} COLLATE {c.collation}" for i, c in enumerate(table.key))
    names = commas(f"k{i}" for i in range(len(table.key)))
    columns = f"{keys}, {_value_columns(table)}, is_torn, PRIMARY KEY ({names})"
    database.execute(f"CREATE TEMP TABLE sync_replay_{table.number} ({columns}) WITHOUT ROWID")
    skipped = "".join(f" AND o.op NOT BETWEEN {low} AND {high}" for low, high in held)
    # Row by row, so that the replay grows at its end; inside a row by the total order.
    in_row_order = commas([*(f"o.{c.new} COLLATE {c.collation}" for c in table.key), log.TOTAL_ORDER])
    with _stepping(database, table) as step:
        database.execute(
            f"{step} FROM main.sync_operations AS o {log.AUTHOR} "
            f"WHERE o.table_no = {table.number}{skipped} ORDER BY {in_row_order}"
        )
        _judge_forks(database, table)
        if forks.has_forks(database, table):  # local writes since the last settling are judged by the next one
            database.execute(
                f"{step} FROM main.sync_operations AS o {log.AUTHOR} JOIN main.sync_keys_{table.number} AS k ON "
                f"{same_native('k', table, 'o')} WHERE o.op > (SELECT settled_seq FROM main.sync_state) AND "
                f"o.table_no = {table.number} ORDER BY o.op"
            )


@contextmanager
def _stepping(database: Database, table: Table) -> Iterator[str]:
    """Make a view that applies each operation inserted into it to the replay, and render such an insert."""
    n, width = table.number, range(len(table.columns))
    names = ["kind", *(side for c in table.columns for side in (c.new, c.old))]
    filled = "iif(o.kind = {update:d}, o.{new}, {logged})"  # only a whole image can be older than a column
    news = [
        filled.format(update=Kind.UPDATE, new=c.new, logged=logged(c)) if c.fill else f"o.{c.new}"
        for c in table.columns
    ]
    values = [side for new, c in zip(news, table.columns, strict=True) for side in (new, f"o.{c.old}")]
    key = [f"NEW.{c.new}" for c in table.key]
    database.execute(f"CREATE TEMP VIEW sync_step_{n} AS SELECT {commas(f'NULL AS {name}' for name in names)}")
    database.execute(
        STEP.format(
            n=n,
            image=commas([*key, *(f"NEW.{c.new}" for c in table.columns), "0"]),
            live=f"{Kind.INSERT:d}, {Kind.RESOLVE:d}",
            absent=f"{Kind.DELETE:d}, {Kind.RESOLVE_DELETE:d}",
            update=f"{Kind.UPDATE:d}",
            assignments=commas(
                f"c{i} = iif({changed(c, 'NEW.')}, NEW.{c.new}, c{i})"
                for i, c in zip(width, table.columns, strict=True)
            ),
            is_torn=" OR ".join(
                f"({changed(c, 'NEW.')} AND c{i} IS NOT NEW.{c.old})" for i, c in zip(width, table.columns, strict=True)
            ),
            same_key=" AND ".join(f"k{i} = {value}" for i, value in enumerate(key)),
        )
    )
    yield f"INSERT INTO temp.sync_step_{n} SELECT {commas(['o.kind', *values])}"
    database.execute(f"DROP VIEW temp.sync_step_{n}")


def _judge_forks(database: Database, table: Table) -> None:
    """Put the rows right on which concurrent operations make the last one of the total order the wrong one."""
    name, contexts = f"temp.sync_replay_{table.number}", Contexts(database)
    found = database.execute(
        "SELECT fork, is_parked FROM main.sync_forks WHERE table_no = ?", (table.number,)
    ).fetchall()
    for fork, is_parked in found:
        base, operations = forks.loaded(database, table, fork)
        image = None if is_parked else forks.judged(base, operations, contexts).image
        key = [operations[0].values[i] for i in map(table.columns.index, table.key)]
        same_key = " AND ".join(f"k{i} = {mark(value)}" for i, value in enumerate(key))
        database.execute(f"DELETE FROM {name} WHERE {same_key}", key)
        if image is not None:
            database.execute(f"INSERT INTO {name} VALUES ({commas(map(mark, (*key, *image)))}, 0)", (*key, *image))


def _fill(database: Database, table: Table, columns: Sequence[tuple[int, Column]]) -> None:
    """Give columns that appeared here what other devices wrote into them before, unless somebody here wrote already."""
    same = " AND ".join(f"t.{c.keyed} = s.k{i}" for i, c in enumerate(table.key))
    triggers_here = app_triggers.decide(database, [table.name])
    with capture.paused(database, [table]), app_triggers.silenced(database, triggers_here):
        for i, column in columns:
            _, *others = database.execute(f"SELECT DISTINCT {column.sql} FROM {table.sql} LIMIT 2").fetchall() or [()]
            is_unwritten = (
                f" AND t.{column.sql} IS {column.default or 'NULL'}" if others or column.default else ""
            )  # one value: a migration's
            database.execute(
                f"UPDATE {table.or_abort}{table.sql} AS t SET {column.sql} = s.c{i} "
                f"FROM temp.sync_replay_{table.number} AS s WHERE {same} AND s.c{i} IS NOT NULL{is_unwritten}"
            )


def compare(database: Database, table: Table) -> int:
    """Fill temp.sync_difference with the operations that lead from the replay to the table; return how many."""
    columns = [side for column in table.columns for side in (column.new, column.old)]
    database.execute(f"CREATE TEMP TABLE sync_difference (kind, {commas(columns)})")
    replayed = f"temp.sync_replay_{table.number} AS s"
    same = " AND ".join(f"t.{c.keyed} = s.k{i}" for i, c in enumerate(table.key))
    new, olds = commas(c.new for c in table.columns), commas(c.old for c in table.columns)
    into = "INSERT INTO temp.sync_difference"
    is_gone = f"t.{table.key[0].sql} IS NULL"
    differs = " OR ".join(_differs(i, c) for i, c in enumerate(table.columns))
    updated = [f"iif({is_gone}, s.c{i}, {_updated(i, c)})" for i, c in enumerate(table.columns)]
    before = [f"CASE WHEN {_differs(i, c)} AND NOT {is_gone} THEN s.c{i} END" for i, c in enumerate(table.columns)]
    database.execute(
        f"{into} (kind, {new}, {olds}) SELECT iif({is_gone}, {Kind.DELETE:d}, {Kind.UPDATE:d}), "
        f"{commas(updated)}, {commas(before)} FROM {replayed} LEFT JOIN {table.sql} AS t ON {same} "
        f"WHERE {is_gone} OR {differs} ORDER BY 1 DESC"  # deletes first
    )
    gone = f"SELECT count(*) FROM temp.sync_difference WHERE kind = {Kind.DELETE:d}"
    if database.one(
        f"SELECT (SELECT count(*) FROM {table.sql}) > (SELECT count(*) FROM {replayed}) - ({gone})"
    ):  # else each row of the table has met its own in the replay
        database.execute(
            f"{into} (kind, {new}) SELECT {Kind.INSERT:d}, {commas(f't.{c.sql}' for c in table.columns)} "
            f"FROM {table.sql} AS t "
            f"WHERE NOT EXISTS (SELECT 1 FROM {replayed} WHERE {same})"
        )
    count: int = database.one("SELECT count(*) FROM temp.sync_difference")
    return count


def _mend_torn(database: Database, table: Table) -> int:
    """Add to the differences the rows whose updates do not say what the log has before them; return how many.

    They are inserted as they stand: an earlier image of such a row is found in its whole history, and not by undoing
    updates that overwrote what nobody logged.
    """
    same = " AND ".join(f"t.{c.keyed} = s.k{i}" for i, c in enumerate(table.key))
    return database.execute(
        f"INSERT INTO temp.sync_difference (kind, {commas(c.new for c in table.columns)}) "
        f"SELECT {Kind.INSERT:d}, {commas(f't.{c.sql}' for c in table.columns)} "
        f"FROM temp.sync_replay_{table.number} AS s JOIN {table.sql} AS t ON {same} WHERE s.is_torn"
    ).rowcount


def _append(database: Database, table: Table, author: int | None) -> None:
    columns = commas(side for column in table.columns for side in (column.new, column.old))
    shown = triggers.outside(triggers.SHOWN).format(n=table.number, same_key=same_native("k", table, "x"))
    hlc = database.one(f"SELECT {triggers.outside(triggers.NEXT_HLC)}")
    op = "NULL" if author is None else f"x.rowid + {dot_number(author, 0)}"
    with schema.open_log(database):
        database.execute(
            f"INSERT INTO main.sync_operations (op, table_no, kind, base, hlc, {columns}) "
            f"SELECT {op}, {table.number}, x.kind, {shown}, {hlc} + x.rowid - 1, {columns} FROM "
            "temp.sync_difference AS x ORDER BY x.rowid"
        )
    if author is not None:  # this device knows these operations, which do not stand among its own
        last = database.one("SELECT seq FROM main.sync_devices WHERE ordinal = ?", (author,))
        log.raise_floor(database, log.hlc_at(database, author, last))


def _author(database: Database, held: Sequence[tuple[int, int]], count: int) -> int:
    """Make a device of its own, with the context of the moment before the held operations came; return its ordinal.

    This device knows the held operations, but who wrote the table did not: as operations of this device they would
    silently supersede them.
    """
    known = log.clock(database)
    ordinal = log.ordinal_for(database, new_uuid())
    for low, _ in held:
        device, seq = ordinal_of(low), seq_of(low)
        known[device] = min(known[device], seq - 1)
    database.executemany(
        "INSERT INTO main.sync_contexts VALUES (?, ?, 1, ?)",
        [(ordinal, device, seq) for device, seq in known.items() if seq],
    )
    database.execute("UPDATE main.sync_devices SET seq = ? WHERE ordinal = ?", (count, ordinal))
    log.note_context(database, {ordinal: count})
    return ordinal


def _updated(i: int, column: Column) -> str:
    value = f"t.{column.sql}"
    return value if column.key_place else f"CASE WHEN {_differs(i, column)} THEN {value} END"


def _differs(i: int, column: Column) -> str:
    test = f"t.{column.sql} IS NOT s.c{i} COLLATE BINARY"
    if column.has_one_type:  # in the replay too
        return test
    return f"({test} OR typeof(t.{column.sql}) <> typeof(s.c{i}))"


def _value_columns(table: Table) -> str:
    # The columns' own affinities, so that a default that fills a gap in the log becomes what it is in the table.
    return commas(f"c{i} {c.affinity}" for i, c in enumerate(table.columns))
