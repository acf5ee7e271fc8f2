"""Children that no foreign key could look at when their parent went (SPEC.md, sections 4.6 and 9.6).

A parked row, and a version that its table does not show, is in no table: SQLite neither refuses to delete its parent
nor deletes or changes it along. Whoever deletes the parent so knows the child, and had it not in front of them. A
resolution that repeats the delete says so, to every device: no child that was written without knowing a resolution
stands without its parent.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlite_sync import catalog, forks, hanging, log, references, resolutions
from sqlite_sync.codec import Row
from sqlite_sync.database import Database
from sqlite_sync.live_rows import LiveRows
from sqlite_sync.log import Contexts
from sqlite_sync.operation import Kind, dot_number, ordinal_of
from sqlite_sync.references import Reference
from sqlite_sync.resolutions import Outcome
from sqlite_sync.tables import Table, commas, mark, quote

STRATEGY = "unseen children"  # what the history says decided


def repeat_deletes(database: Database, settled: int) -> None:
    """Repeat, as resolutions, the own deletes after `settled` that unseen children would be orphans of.

    In the caller's transaction, and before the forks are judged: what is parked is what was parked at these deletes.
    """
    own = log.own_seq(database)
    if settled == own or not database.one("SELECT EXISTS (SELECT 1 FROM main.sync_conflicts)"):
        return
    every = references.read(database, catalog.enabled(database))
    log.fill_ranges(database, "sync_new", [(settled + 1, own)])
    log.fill_ranges(database, "sync_window", [])
    for place, reference in enumerate(every):
        if reference.parent is not None and hanging.find_lost(database, place, reference):
            for key in _parents_of_unseen(database, place, reference, reference.parent):
                _repeat(database, reference.parent, key, settled)
    hanging.drop_lost(database, every)
    database.execute("DROP TABLE temp.sync_new")
    database.execute("DROP TABLE temp.sync_window")


def _parents_of_unseen(database: Database, place: int, reference: Reference, parent: Table) -> Sequence[Row]:
    """List the rows that went, to which a version refers that no table shows, and no row.

    Where a row refers to it as well, foreign keys are not enforced: whoever deletes there knows what they do.
    """
    child = reference.child
    stored = {column.name: f"i.c{column.position}" for column in child.columns}
    if not set(reference.columns) <= stored.keys():  # a generated column: its value is stored nowhere
        return []
    keys = commas(f"+l.k{i}" for i in range(len(parent.key)))
    lost = f"FROM temp.sync_lost_{place} AS l"
    version = " AND ".join(f"l.v{i} = {stored[name]}" for i, name in enumerate(reference.columns))
    row = " AND ".join(f"l.v{i} = t.{quote(name)}" for i, name in enumerate(reference.columns))
    return database.execute(
        f"SELECT DISTINCT {keys} {lost} JOIN main.sync_images_{child.number} AS i ON {version} "
        f"WHERE i.version = 'remote' AND NOT EXISTS (SELECT 1 FROM {child.sql} AS t WHERE {row})"
    ).fetchall()


def _repeat(database: Database, parent: Table, key: Row, settled: int) -> None:
    """Write the resolution that repeats a delete, unless one has the last word on the row, or the row comes back."""
    same = " AND ".join(
        f"o.{c.new} = {mark(value)} COLLATE {c.collation}" for c, value in zip(parent.key, key, strict=True)
    )
    last, kind = database.execute(
        "SELECT o.op, o.kind FROM main.sync_operations AS o NOT INDEXED "
        f"WHERE o.op > ? AND o.table_no = {parent.number} AND {same} ORDER BY o.op DESC LIMIT 1",
        (settled, *key),
    ).fetchone()
    if kind == Kind.DELETE and not _has_live_version(database, parent, key):
        rows = LiveRows(database, Contexts(database))
        fork = rows.fork_of_absent(parent, key)
        rows.close()
        resolutions.append(database, parent, Outcome(fork, last, last, None, STRATEGY))


def _has_live_version(database: Database, table: Table, key: Row) -> bool:
    """Tell whether a row that is in no table is parked, or has another version that is a row."""
    fork = forks.fork_of(database, table, key)
    return fork is not None and bool(
        database.one(
            "SELECT EXISTS (SELECT 1 FROM main.sync_conflicts AS c "
            f"JOIN main.sync_images_{table.number} AS i ON i.conflict_id = c.conflict_id AND i.version = 'remote' "
            "WHERE c.fork = ?)",
            (fork,),
        )
    )


def repeated(database: Database, parent: Table, dot: int) -> int:
    """Return the delete that this operation repeats; the operation itself where it repeats none."""
    kind, strategy = database.execute("SELECT kind, o0 FROM main.sync_operations WHERE op = ?", (dot,)).fetchone()
    if kind != Kind.RESOLVE_DELETE or strategy != STRATEGY:
        return dot
    same = " AND ".join(f"o.{c.new} = r.{c.new} COLLATE {c.collation}" for c in parent.key)
    delete: int | None = database.one(
        "SELECT o.op FROM main.sync_operations AS r CROSS JOIN main.sync_operations AS o NOT INDEXED "
        f"ON o.op > ? AND o.op < r.op AND o.table_no = r.table_no AND o.kind = {Kind.DELETE:d} AND {same} "
        "WHERE r.op = ? ORDER BY o.op DESC LIMIT 1",
        (dot_number(ordinal_of(dot), 0), dot),
    )
    return dot if delete is None else delete
