"""The difference between what the log says and what a table holds, written into the log.

So nothing is lost that was written while capture was off: before a table was enabled again, after a migration rebuilt
it without its triggers, by a program that drops triggers.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlite_sync import app_triggers, applier, capture, catalog, conflicts, log, triggers
from sqlite_sync.applier import Todo
from sqlite_sync.codec import Row, Value
from sqlite_sync.database import Database, new_uuid
from sqlite_sync.errors import TableError
from sqlite_sync.log import Contexts
from sqlite_sync.operation import Kind, dot_number, ordinal_of, seq_of
from sqlite_sync.tables import Column, Table, changed, commas, fold, mark, same_native
from sqlite_sync.verdict import RowOperation

_BATCH_ROWS = 1000


def reconcile(database: Database, table: Table) -> int:
    """Log what a table holds beyond its log, and renew its triggers; return how many operations that took."""
    held_columns = catalog.absent(database, table.number)
    entry = catalog.register(database, table.name, [(column.name, column.key_place) for column in table.columns])
    table = catalog.shape(database, entry)
    require_keys(database, table)
    held = database.execute("SELECT low, high FROM main.sync_held WHERE table_no = ?", (table.number,)).fetchall()
    appeared = [(i, c) for i, c in enumerate(table.columns) if fold(c.name) in held_columns]
    if appeared:
        conflicts.rebase(database, table)
    replay(database, table, held)
    if appeared:
        _fill(database, table, appeared)
    catalog.note_columns(database, table)
    differences = _differences(database, table)
    if differences:
        author = _author(database, held, differences) if held else None
        _append(database, table, author)
        if author is not None and conflicts.has_forks(database, table):  # an author of its own is not settled later
            written = (dot_number(author, 1), dot_number(author, differences))
            applier.apply(database, [table], Todo(new=[written], only_forks=True))
    database.execute("DROP TABLE temp.sync_difference")
    database.execute(f"DROP TABLE temp.sync_replay_{table.number}")
    applier.apply_held(database, table)
    capture.install(database, table)
    return differences


def require_keys(database: Database, table: Table) -> None:
    """Refuse a table that already has NULL in a key."""
    nulls = " OR ".join(f"{column.sql} IS NULL" for column in table.key)
    if count := database.one(f"SELECT count(*) FROM {table.sql} WHERE {nulls}"):
        msg = (
            f"{table.name} has {count} row(s) with NULL in the primary key, which have no identity: "
            "give them a key first"
        )
        raise TableError(msg)


def replay(database: Database, table: Table, held: Sequence[tuple[int, int]] = ()) -> None:
    """Build temp.sync_replay_<n>: the table as its log says, without the held operations."""
    name = f"temp.sync_replay_{table.number}"
    keys = commas(f"k{i} {c.affinity} COLLATE {c.collation}" for i, c in enumerate(table.key))
    names = commas(f"k{i}" for i in range(len(table.key)))
    database.execute(
        f"CREATE TEMP TABLE sync_replay_{table.number} ({keys}, {_values(table)}, PRIMARY KEY ({names})) WITHOUT ROWID"
    )
    _feed(database, table, name, held)
    contexts = Contexts(database)
    for (fork,) in database.execute("SELECT fork FROM main.sync_forks WHERE table_no = ?", (table.number,)).fetchall():
        base, operations = conflicts.loaded(database, table, fork)
        image = conflicts.judged(base, operations, contexts, table).image
        _put(database, table, name, operations[0], image)


STEPS = """
CREATE TEMP VIEW sync_feed AS SELECT {nothing};
CREATE TEMP TRIGGER sync_feed_live INSTEAD OF INSERT ON sync_feed WHEN NEW.kind IN ({insert:d}, {resolve:d})
BEGIN INSERT OR REPLACE INTO {replay} VALUES ({key}, {image}); END;
CREATE TEMP TRIGGER sync_feed_update INSTEAD OF INSERT ON sync_feed WHEN NEW.kind = {update:d}
BEGIN UPDATE {replay} SET {assignments} WHERE {same}; END;
CREATE TEMP TRIGGER sync_feed_gone INSTEAD OF INSERT ON sync_feed WHEN NEW.kind IN ({delete:d}, {resolve_delete:d})
BEGIN DELETE FROM {replay} WHERE {same}; END;"""  # no row of the log goes through Python


def _feed(database: Database, table: Table, replay: str, held: Sequence[tuple[int, int]]) -> None:
    """Apply operation after operation; where concurrent ones make that wrong, the row is a fork and judged later."""
    columns = table.columns
    sides = ["kind", *(c.new for c in columns), *(c.old for c in columns)]
    database.script(
        STEPS.format(
            nothing=commas(f"NULL AS {side}" for side in sides),
            replay=replay.removeprefix("temp."),
            key=commas(f"NEW.{c.new}" for c in table.key),
            image=commas(f"NEW.{c.new}" for c in columns),
            assignments=commas(
                f"c{i} = CASE WHEN {changed(c, 'NEW.')} THEN NEW.{c.new} ELSE c{i} END" for i, c in enumerate(columns)
            ),
            same=" AND ".join(f"k{i} = NEW.{c.new}" for i, c in enumerate(table.key)),
            **{kind.name.lower(): kind for kind in Kind},
        )
    )
    skipped = "".join(f" AND o.op NOT BETWEEN {low} AND {high}" for low, high in held)
    values = commas(conflicts.logged_value(c) for c in columns)
    database.execute(
        f"INSERT INTO temp.sync_feed SELECT o.kind, {values}, {commas(f'o.{c.old}' for c in columns)} "
        f"FROM main.sync_operations AS o {log.AUTHOR} "
        f"WHERE o.table_no = {table.number}{skipped} ORDER BY {log.TOTAL_ORDER}"
    )
    database.execute("DROP VIEW temp.sync_feed")


def _put(database: Database, table: Table, name: str, op: RowOperation, image: Row | None) -> None:
    database.execute(f"DELETE FROM {name} WHERE {_key_is(table, op)}", _key(table, op))
    if image is not None:
        row = [*_key(table, op), *image]
        database.execute(f"INSERT INTO {name} VALUES ({commas(map(mark, row))})", row)


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
                f"UPDATE OR ABORT {table.sql} AS t SET {column.sql} = s.c{i} FROM temp.sync_replay_{table.number} AS s "
                f"WHERE {same} AND s.c{i} IS NOT NULL{is_unwritten}"
            )


def _differences(database: Database, table: Table) -> int:
    """Fill temp.sync_difference with the operations that lead from the replay to the table; return how many."""
    columns = [side for column in table.columns for side in (column.new, column.old)]
    database.execute(f"CREATE TEMP TABLE sync_difference (kind, {commas(columns)})")
    replayed = f"temp.sync_replay_{table.number} AS s"
    same = " AND ".join(f"t.{c.keyed} = s.k{i}" for i, c in enumerate(table.key))
    new, olds = commas(c.new for c in table.columns), commas(c.old for c in table.columns)
    values = commas(f"s.c{i}" for i in range(len(table.columns)))
    into = "INSERT INTO temp.sync_difference"
    database.execute(
        f"{into} (kind, {new}) SELECT {Kind.DELETE:d}, {values} FROM {replayed} WHERE NOT EXISTS "
        f"(SELECT 1 FROM {table.sql} AS t WHERE {same})"
    )
    differs = " OR ".join(_differs(i, c) for i, c in enumerate(table.columns))
    updated = [*(_updated(i, c) for i, c in enumerate(table.columns))]
    before = [f"CASE WHEN {_differs(i, c)} THEN s.c{i} END" for i, c in enumerate(table.columns)]
    database.execute(
        f"{into} (kind, {new}, {olds}) SELECT {Kind.UPDATE:d}, {commas(updated)}, {commas(before)} "
        f"FROM {replayed} CROSS JOIN {table.sql} AS t ON {same} "
        f"WHERE {differs}"
    )
    database.execute(
        f"{into} (kind, {new}) SELECT {Kind.INSERT:d}, {commas(f't.{c.sql}' for c in table.columns)} "
        f"FROM {table.sql} AS t "
        f"WHERE NOT EXISTS (SELECT 1 FROM {replayed} WHERE {same})"
    )
    count: int = database.one("SELECT count(*) FROM temp.sync_difference")
    return count


def _append(database: Database, table: Table, author: int | None) -> None:
    columns = commas(side for column in table.columns for side in (column.new, column.old))
    shown = triggers.outside(triggers.SHOWN).format(n=table.number, same_key=same_native("k", table, "x"))
    hlc = database.one(f"SELECT {triggers.outside(triggers.NEXT_HLC)}")
    op = "NULL" if author is None else f"x.rowid + {dot_number(author, 0)}"
    with database.open_log():
        database.execute(
            f"INSERT INTO main.sync_operations (op, table_no, kind, base, hlc, {columns}) "
            f"SELECT {op}, {table.number}, x.kind, {shown}, {hlc} + x.rowid - 1, {columns} FROM "
            "temp.sync_difference AS x ORDER BY x.rowid"
        )


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
    return f"(t.{column.sql} IS NOT s.c{i} COLLATE BINARY OR typeof(t.{column.sql}) <> typeof(s.c{i}))"


def _values(table: Table) -> str:
    return commas(f"c{i}" for i in range(len(table.columns)))


def _key(table: Table, op: RowOperation) -> list[Value]:
    return [op.values[table.columns.index(column)] for column in table.key]


def _key_is(table: Table, op: RowOperation) -> str:
    return " AND ".join(f"k{i} = {mark(value)}" for i, value in enumerate(_key(table, op)))
