"""Keep the tables, the forks and the log in line with what was written locally (SPEC.md, sections 6.5 and 9.6)."""

from __future__ import annotations

from sqlite_sync import applier, capture, catalog, log, reconciler
from sqlite_sync.applier import Todo
from sqlite_sync.database import Database
from sqlite_sync.tables import Table


def is_needed(database: Database) -> bool:
    """Tell whether `settle` has anything to do; reads only."""
    if database.lost_laws() or _broken(database):
        return True
    is_behind = database.one("SELECT settled_seq FROM main.sync_state") < log.own_seq(database)
    return is_behind and bool(database.one("SELECT EXISTS (SELECT 1 FROM main.sync_forks)"))


def settle(database: Database, *, is_changed: bool = False) -> None:
    """Mend capture where it is broken, then judge the forks that local writes touch; in the caller's transaction.

    Where tables changed, which `is_changed` says too, parked rows are tried again: a constraint may be gone.
    """
    database.enact()
    broken = _broken(database)
    for table in broken:
        reconciler.reconcile(database, table)
    settled, own = database.one("SELECT settled_seq FROM main.sync_state"), log.own_seq(database)
    is_due = (broken or is_changed) and database.one("SELECT EXISTS (SELECT 1 FROM main.sync_forks WHERE is_parked)")
    if settled == own and not is_due:
        return
    forked = {number for (number,) in database.execute("SELECT DISTINCT table_no FROM main.sync_forks")}
    tables = [table for table in catalog.enabled(database) if table.number in forked]
    if tables:
        applier.apply(database, tables, Todo(new=[(settled + 1, own)], only_forks=True))
    database.execute("UPDATE main.sync_state SET settled_seq = ?", (own,))


def _broken(database: Database) -> list[Table]:
    return [table for table in catalog.enabled(database) if capture.problem(database, table)]
