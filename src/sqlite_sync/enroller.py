"""Take a table into sync, and out of it again (SPEC.md, sections 6.2 and 6.4)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from sqlite_sync import (
    applier,
    baselines,
    bookkeeping,
    capture,
    catalog,
    forks,
    mapping,
    pairing,
    reconciler,
    renumbering,
    reuse,
    schema,
    settler,
    tables,
    triggers,
    versions,
)
from sqlite_sync.database import Database
from sqlite_sync.errors import ConstraintError, SchemaError, TableError
from sqlite_sync.mapping import NO_WISH, Wish
from sqlite_sync.tables import Table, fold, is_ours


@dataclass(frozen=True, slots=True)
class Enrollment:
    """What `enable_sync_for_all_tables` did: how many rows came with each table, and why others were left out."""

    enabled: Mapping[str, int]
    refused: Mapping[str, str]


def enable(database: Database, name: str, wish: Wish = NO_WISH) -> int:
    """Capture a table from now on, in the caller's transaction; return how many rows it brought along."""
    before = {entry.number: entry.numbers for entry in catalog.entries(database)}
    brought = _enable(database, name, wish)
    for entry in catalog.entries(database):
        if before.get(entry.number, entry.numbers) != entry.numbers and catalog.exists(database, entry):
            baselines.rename(database, catalog.shape(database, entry))
    return brought


def _enable(database: Database, name: str, wish: Wish) -> int:
    found = tables.find(database, name)
    table = mapping.register_own(database, tables.read(database, found, 0, {}), wish)
    entry = catalog.entry(database, found)
    if entry is None or entry.is_enabled:
        return 0
    reuse.look(database)  # while what was written last is of no fork yet
    _require_not_renamed(database, table)
    reconciler.require_keys(database, table)
    is_known = catalog.was_enabled(database, table.number)
    mapping.map_children(database, table)
    for parent in catalog.entries(database):
        if parent.number in entry.numbers.values():
            renumbering.note_top(database, parent.number, parent.name)  # what it refers to may not be there
    catalog.set_enabled(database, table.number, is_enabled=True)  # its rows have parents and children from here on
    has_held = database.one("SELECT EXISTS (SELECT 1 FROM main.sync_held WHERE table_no = ?)", (table.number,))
    if is_known:
        if entry.is_mapped:
            renumbering.make_room(database, table, None)
        brought = reconciler.reconcile(database, table)
    else:
        _require_free_names(database, table)
        forks.create_keys(database, table)
        versions.create(database, table)
        catalog.note_columns(database, table)
        brought = baselines.take(database, table, pairing.find(database, entry, table, wish.same))
    applier.apply_held(database, table)
    if entry.is_mapped:
        renumbering.count_on(database, table)
    capture.install(database, table)
    if is_known:
        reconciler.judge_forks(database, table.name)
    if has_held and entry.is_mapped:
        _mend_references(database, table)
    return brought


def _mend_references(database: Database, table: Table) -> None:
    """Log which rows other tables refer to by number, where held rows gave way: those that stand in the table now."""
    settler.settle(database, is_changed=True)  # what the constraints say of own operations is known then
    for entry in {entry.number: entry for entry, _ in renumbering.referring(database, table)}.values():
        if entry.number != table.number:
            reconciler.reconcile(database, catalog.shape(database, entry))


def enable_all(database: Database, wish: Wish = NO_WISH) -> Enrollment:
    """Enable every table that can be and should be, parents before their children, in the caller's transaction.

    Tables that cannot be mapped are natural, whatever the wish.
    """
    synced = {fold(entry.name) for entry in catalog.entries(database) if entry.is_enabled}
    enabled, refused = {}, {}
    each = Wish(None if wish.keys == mapping.MAPPED else wish.keys, wish.references)
    for name in parents_first(parents(database, wish.references)):
        if fold(name) in synced:
            continue
        tool = bookkeeping.migration_tool(name, _column_names(database, name))
        if tool:
            refused[name] = f"{bookkeeping.reason(tool)}. Enable it by its name if that is what you want"
            continue
        database.execute("SAVEPOINT sync_enable")
        try:
            enabled[name] = enable(database, name, each)
        except (TableError, SchemaError, ConstraintError, sqlite3.OperationalError) as error:
            if isinstance(error, sqlite3.OperationalError) and not str(error).startswith("no such"):
                raise  # not a matter of this table, as a collation is that only the application has
            database.execute("ROLLBACK TO sync_enable")
            refused[name] = str(error)
        database.execute("RELEASE sync_enable")
    return Enrollment(enabled, refused)


def parents_first(parents: Mapping[str, set[str]]) -> list[str]:
    """Order tables so that each comes after those that it refers to, as far as they do not go round in a circle."""
    ordered: dict[str, None] = {}
    for name in sorted(parents):
        path = [(name, iter(sorted(parents[name])))] if name not in ordered else []
        entered = {name}
        while path:
            table, ahead = path[-1]
            parent = next((each for each in ahead if each not in entered and each not in ordered), None)
            if parent is None:
                path.pop()
                ordered[table] = None
            else:
                entered.add(parent)
                path.append((parent, iter(sorted(parents[parent]))))
    return list(ordered)


def _column_names(database: Database, name: str) -> list[str]:
    return [column for (column,) in database.execute("SELECT name FROM pragma_table_info(?, 'main')", (name,))]


def parents(database: Database, references: Mapping[str, str]) -> dict[str, set[str]]:
    """Name the application's tables, virtual ones too, and which of them each refers to.

    `references` adds those that the user names, each as "table.column" of one table and the name of another.
    """
    rows = database.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual') ORDER BY name"
    )
    names = {fold(name): name for (name,) in rows.fetchall() if not is_ours(name)}
    pairs = database.execute(
        "SELECT t.name, f.\"table\" FROM pragma_table_list AS t, pragma_foreign_key_list(t.name, 'main') AS f "
        "WHERE t.schema = 'main' AND t.type = 'table'"
    ).fetchall()
    found: dict[str, set[str]] = {name: set() for name in names.values()}
    for child, parent in pairs:
        if fold(child) in names and fold(parent) in names:
            found[names[fold(child)]].add(names[fold(parent)])
    for named, parent in references.items():
        child = named.rpartition(".")[0]
        missing = next((name for name in (child, parent) if fold(name) not in names), None)
        if missing is not None:
            msg = f"references names {named} and {parent}: there is no table {missing!r}; write TABLE.COLUMN and TABLE"
            raise TableError(msg)
        found[names[fold(child)]].add(names[fold(parent)])
    return found


def disable(database: Database, name: str) -> None:
    """Stop capturing a table, in the caller's transaction; its log stays."""
    entry = catalog.entry(database, name)
    if entry is None or not entry.is_enabled:
        msg = f"{name} is not synced in {database.path}"
        raise TableError(msg)
    settler.settle_as_it_is(database)
    capture.remove(database, entry.number)
    versions.drop_view(database, entry.name)
    catalog.set_enabled(database, entry.number, is_enabled=False)


def uninstall(database: Database) -> None:
    """Remove everything of ours from the file, in the caller's transaction; only the user's data stays."""
    for number in catalog.mapped(database):
        database.execute(f"DROP TABLE main.sync_births_{number}")
    for entry in catalog.entries(database):
        if not catalog.was_enabled(database, entry.number):
            continue
        capture.remove(database, entry.number)
        versions.drop_view(database, entry.name)
        for kind in ("keys", "notes", "images"):
            database.execute(f"DROP TABLE IF EXISTS main.sync_{kind}_{entry.number}")
    for law in schema.LAWS:
        database.execute(f"DROP TRIGGER IF EXISTS main.{law}")
    kinds = dict(database.execute("SELECT name, type FROM main.sqlite_schema").fetchall())
    for name in schema.our_names():
        if name in kinds:
            database.execute(f"DROP {kinds[name]} main.{name}")


def _require_not_renamed(database: Database, table: Table) -> None:
    """Refuse a table that carries the triggers of another: it is captured already, under the name it had."""
    rows = database.execute(
        "SELECT c.name FROM main.sync_tables AS c "
        "JOIN main.sqlite_schema AS s ON s.name = 'sync_insert_' || c.table_no "
        "WHERE s.tbl_name = ? COLLATE NOCASE AND c.table_no <> ?",
        (table.name, table.number),
    ).fetchall()
    if rows:
        msg = f"{table.name} was renamed from {rows[0][0]}, whose sync is still on: disable {rows[0][0]} first"
        raise TableError(msg)


def _require_free_names(database: Database, table: Table) -> None:
    needed = {f"sync_{kind}_{table.number}" for kind in ("keys", "notes", "images")}
    needed.add(versions.view_name(table.name).lower())
    needed |= {f"sync_{verb}_{table.number}" for verb in triggers.VERBS}
    taken = {name for (name,) in database.execute("SELECT lower(name) FROM main.sqlite_schema")} & needed
    if taken:
        msg = (
            f"{database.path} already has {', '.join(sorted(taken))}: sqlite_sync needs these names to "
            f"sync {table.name}"
        )
        raise SchemaError(msg)
