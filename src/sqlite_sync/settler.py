"""Keep the tables, the forks and the log in line with what was written locally (SPEC.md, sections 6.5 and 9.6)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlite_sync import applier, capture, catalog, forks, log, reconciler, reuse, schema, unseen
from sqlite_sync.applier import Todo
from sqlite_sync.database import Database
from sqlite_sync.errors import SchemaError
from sqlite_sync.tables import Table


def is_needed(database: Database) -> bool:
    """Tell whether `settle` has anything to do; reads only."""
    if schema.lost_laws(database) or reuse.is_needed(database) or _broken(database, catalog.enabled(database)):
        return True
    is_behind = database.one("SELECT settled_seq FROM main.sync_state") < log.own_seq(database)
    return is_behind and bool(database.one("SELECT EXISTS (SELECT 1 FROM main.sync_forks)"))


def settle(database: Database, *, is_changed: bool = False) -> list[Table]:
    """Mend capture where it is broken, then judge the forks that local writes touch; in the caller's transaction.

    Where tables changed, which `is_changed` says too, parked rows are tried again: a constraint may be gone. Return the
    enabled tables as they are then.
    """
    schema.enact(database)
    tables = _looked_through(database)
    broken = _broken(database, tables)
    for table in broken:
        reconciler.reconcile(database, table)
    if broken:
        for table in catalog.enabled(database):  # of the others too, writes may only have been listed
            reconciler.judge_forks(database, table.name)
        tables = _looked_through(database)
    _judge(database, tables, is_changed=is_changed or bool(broken))
    return tables


def settle_as_it_is(database: Database) -> None:
    """Judge the forks that local writes touch, in the caller's transaction; where capture is broken, only list these.

    It stays broken, so that the next `settle` finds what was not captured, and judges them.
    """
    try:
        is_intact = not _broken(database, catalog.enabled(database))
    except SchemaError:
        is_intact = False
    if is_intact:
        _judge(database, _looked_through(database), is_changed=False)
    else:
        _list(database, {entry.number for entry in catalog.entries(database)})


def _looked_through(database: Database) -> list[Table]:
    """Look for numbers that were taken again, and return the enabled tables as they are then."""
    tables = catalog.enabled(database)
    return catalog.enabled(database) if reuse.look(database, tables) else tables


def _judge(database: Database, enabled: Sequence[Table], *, is_changed: bool) -> None:
    settled = database.one("SELECT settled_seq FROM main.sync_state")
    unseen.repeat_deletes(database, settled)
    own = log.own_seq(database)
    is_due = is_changed and database.one("SELECT EXISTS (SELECT 1 FROM main.sync_forks WHERE is_parked)")
    if settled == own and not is_due:
        return
    forked = _forked(database)
    tables = [table for table in enabled if table.number in forked]
    if tables:
        applier.apply(database, tables, Todo(new=[(settled + 1, own)], only_forks=True), enabled)
    _list(database, forked - {table.number for table in tables})
    database.execute("UPDATE main.sync_state SET settled_seq = ?", (own,))


def _list(database: Database, numbers: set[int]) -> None:
    """List local writes with their forks, so that they are judged when the table is back."""
    wanted = numbers & _forked(database)
    for entry in catalog.entries(database) if wanted else ():
        if entry.number in wanted:
            forks.list_unsettled(database, entry)


def _forked(database: Database) -> set[int]:
    return {number for (number,) in database.execute("SELECT DISTINCT table_no FROM main.sync_forks")}


def _broken(database: Database, tables: Sequence[Table]) -> list[Table]:
    return [table for table in tables if capture.problem(database, table)]
