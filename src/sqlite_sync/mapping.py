"""Which columns number rows, and of which tables (SPEC.md, section 4.7).

A table is mapped if its rows are named by the device where they were born and their number there. Its key column
numbers its own rows; a column that refers to it, declared or by the user's word, numbers them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlite_sync import births, catalog, log, tables
from sqlite_sync.bundle import Header
from sqlite_sync.catalog import Entry
from sqlite_sync.database import Database
from sqlite_sync.errors import SchemaError, TableError
from sqlite_sync.operation import ORDINAL_SHIFT, is_baseline
from sqlite_sync.tables import Table, fold

MAPPED, NATURAL = "mapped", "natural"


def register(database: Database, header: Header) -> dict[int, Entry]:
    """Give a bundle's tables their places in the catalogue; return the entries by the bundle's table numbers.

    SchemaError where a column numbers rows of another table there than here.
    """
    known = {table.number: catalog.entry(database, table.name) for table in header.tables}
    entries = {table.number: catalog.register(database, table.name, table.columns) for table in header.tables}
    for table in header.tables:
        entry, before = entries[table.number], known[table.number]
        here = {} if before is None else dict(zip(map(fold, before.columns), before.mapped, strict=True))
        there = {
            name: entries[table.mapped[position]].number if position in table.mapped else None
            for position, (name, _) in enumerate(table.columns)
        }
        for name, number in there.items():
            if fold(name) in here and here[fold(name)] != number:
                raise _disagreement(database, entry, name, (here[fold(name)], number))
        fresh = {name: number for name, number in there.items() if fold(name) not in here}
        if fresh:
            catalog.set_mapped(database, entry.number, fresh)
            entries[table.number] = registered(database, table.name)
        if table.is_mapped and (before is None or not before.is_mapped):
            births.create(database, entry.number)
    return entries


def require_mapped(database: Database, name: str) -> int:
    """Return the number of a mapped table; TableError where there is none of this name."""
    entry = catalog.entry(database, name)
    if entry is None or not entry.is_mapped:
        msg = f"{name} is no mapped table in {database.path}: its keys are the same on every device"
        raise TableError(msg)
    return entry.number


def registered(database: Database, name: str) -> Entry:
    """Return the entry of a table that has its place in the catalogue."""
    found = catalog.entry(database, name)
    assert found is not None  # it was registered  # noqa: S101
    return found


def _disagreement(database: Database, entry: Entry, column: str, mapped: tuple[int | None, int | None]) -> SchemaError:
    names = {one.number: one.name for one in catalog.entries(database)}
    here, there = (
        "its numbers stand for themselves" if number is None else f"it numbers rows of {names[number]}"
        for number in mapped
    )
    return SchemaError(
        f"{entry.name}.{column} means one thing here and another on the device that wrote the bundle. Here {here}; "
        f"there {there}. Enable {entry.name} in the same way on both devices: the same keys=, the same references=, "
        "and tables that others refer to before those that refer to them"
    )


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user says of a table: its keys, mapped or natural, its references, and which rows are known already.

    No keys: as a peer says; else mapped, if the key is an INTEGER PRIMARY KEY. Rows that stand in the table and such
    that arrived are the `same` by their "key", by the values of these columns, or never ("distinct"); None: not said.
    """

    keys: str | None = None
    references: Mapping[str, str] = field(default_factory=dict)
    same: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Refuse other words."""
        if self.keys not in (None, MAPPED, NATURAL):
            msg = f"keys={self.keys!r} is neither {MAPPED!r} nor {NATURAL!r}"
            raise TableError(msg)
        given: object = self.references
        if not isinstance(given, Mapping) or not all(isinstance(name, str) for pair in given.items() for name in pair):
            msg = f"references={given!r} must say which column refers to which table: {{'comments.todo_id': 'todos'}}"
            raise TableError(msg)


NO_WISH = Wish()


def register_own(database: Database, table: Table, wish: Wish = NO_WISH) -> Table:
    """Give a table of this file and its columns their places in the catalogue; return its shape with these.

    What is known of a column is kept, from here or from a peer: there are operations that mean it so.
    """
    before = catalog.entry(database, table.name)
    entry = catalog.register(database, table.name, [(column.name, column.key_place) for column in table.columns])
    table = catalog.shape(database, entry)
    known = set() if before is None else set(map(fold, before.columns))
    _require_parents(database, table, wish.references)
    declared = _declared(database, table, wish)
    catalog.set_mapped(
        database, entry.number, {name: number for name, number in declared.items() if fold(name) not in known}
    )
    entry = registered(database, table.name)
    if before is not None:
        _require_keys(before, wish)
        _add_references(database, table, before, wish.references)
        entry = registered(database, table.name)
    if before is None and entry.is_mapped:
        births.create(database, entry.number)
    return table


def _require_parents(database: Database, table: Table, references: Mapping[str, str]) -> None:
    """Refuse references that would stay plain numbers: of a table that is not there, or to one not known yet."""
    for named, parent in references.items():
        owner = named.rpartition(".")[0] or table.name
        missing = [name for name in (owner, parent) if not tables.is_there(database, name)]
        if missing and catalog.entry(database, missing[0]) is None:
            msg = (
                f"references says that {named} refers to {parent}, but there is no table {missing[0]!r} in "
                f"{database.path}: write TABLE.COLUMN and TABLE"
            )
            raise TableError(msg)
        if fold(owner) == fold(table.name) and catalog.entry(database, parent) is None:
            msg = (
                f"references says that {named} refers to {parent}, which is not synced yet, so its numbers would not "
                f"be translated: enable {parent} before {table.name}"
            )
            raise TableError(msg)


def _require_keys(before: Entry, wish: Wish) -> None:
    """Refuse other keys than a table has already."""
    if wish.keys is not None and (wish.keys == MAPPED) != before.is_mapped:
        msg = (
            f"{before.name} has {MAPPED if before.is_mapped else NATURAL} keys, as its operations that are here say: "
            "they stay so on all devices. To begin anew with others: uninstall, initialize, and enable it again"
        )
        raise SchemaError(msg)


def _add_references(database: Database, table: Table, before: Entry, references: Mapping[str, str]) -> None:
    """Let known columns number rows from now on; SchemaError where their numbers went to others as they are."""
    here = dict(zip(map(fold, before.columns), before.mapped, strict=True))
    wished = {
        column: _numbered(database, *parent)
        for column, parent in _undeclared(table, references).items()
        if column in here
    }
    changed = {column: number for column, number in wished.items() if number != here[column]}
    if changed and _has_met(database, before.number):
        msg = (
            f"{before.name}.{next(iter(changed))} is a plain value in the operations that other devices have: it "
            "cannot become a reference any more. To begin anew: uninstall, initialize, and enable the tables again, "
            "on all devices"
        )
        raise SchemaError(msg)
    catalog.set_mapped(database, before.number, changed)


def _declared(database: Database, table: Table, wish: Wish) -> dict[str, int | None]:
    """Say which table's rows each column numbers, by name."""
    keys, references = wish.keys, wish.references
    if keys == MAPPED and not table.has_rowid_key:
        msg = f"the key of {table.name} is no INTEGER PRIMARY KEY, so nothing counts it: its keys are {NATURAL!r}"
        raise TableError(msg)
    parents = _references(database, table.name) | _undeclared(table, references)
    wanted: dict[str, int | None] = {column.name: None for column in table.columns}
    for column in table.columns:
        if fold(column.name) in parents:
            wanted[column.name] = _numbered(database, *parents[fold(column.name)])
    [first, *_] = table.key
    if table.has_rowid_key and keys != NATURAL and fold(first.name) not in parents:
        wanted[first.name] = table.number
        own = fold(table.name), fold(first.name)
        wanted |= {c.name: table.number for c in table.columns if parents.get(fold(c.name)) in (own, (own[0], None))}
    return wanted


def _references(database: Database, name: str) -> dict[str, tuple[str, str | None]]:
    """Return the declared references: folded column to (folded table, folded column or None for its key)."""
    rows = database.execute(
        'SELECT f."from", f."table", coalesce(f."to", (SELECT k.name FROM pragma_table_info(f."table", \'main\') AS k '
        "WHERE k.pk = f.seq + 1)) FROM pragma_foreign_key_list(?, 'main') AS f ORDER BY f.id, f.seq",
        (name,),
    ).fetchall()
    return {fold(column): (fold(parent), fold(to) if to else None) for column, parent, to in rows}


def _undeclared(table: Table, references: Mapping[str, str]) -> dict[str, tuple[str, str | None]]:
    columns = {fold(column.name) for column in table.columns}
    found: dict[str, tuple[str, str | None]] = {}
    for named, parent in references.items():
        owner, _, column = named.rpartition(".")
        if owner and fold(owner) != fold(table.name):
            continue
        if fold(column) not in columns:
            msg = f"references names {named}, but {table.name} has no column {column}"
            raise TableError(msg)
        found[fold(column)] = (fold(parent), None)
    return found


def _numbered(database: Database, parent: str, column: str | None) -> int | None:
    """Return the table whose rows a column of an enabled table numbers."""
    entry = catalog.entry(database, parent)
    if entry is None:
        return None
    names = [fold(name) for name in entry.columns]
    target = fold(entry.key[0]) if column is None else column
    return entry.numbers.get(names.index(target)) if target in names else None


def map_children(database: Database, table: Table) -> None:
    """Let columns of tables that are enabled already number the rows of a table that is being enabled, if it is mapped.

    TableError where such numbers went to other devices as they are.
    """
    if not registered(database, table.name).is_mapped:
        return
    own = fold(table.name), fold(table.key[0].name)
    for entry in catalog.entries(database):
        if entry.number == table.number or not catalog.exists(database, entry):
            continue
        declared = _references(database, entry.name)
        numbered = [
            name
            for name, mapped in zip(entry.columns, entry.mapped, strict=True)
            if mapped is None and declared.get(fold(name)) == own
        ]
        if numbered and _has_met(database, entry.number):
            msg = (
                f"{entry.name}.{numbered[0]} refers to {table.name}, and its numbers went to other devices as they "
                f"are: enable {table.name} with keys={NATURAL!r}"
            )
            raise TableError(msg)
        catalog.set_mapped(database, entry.number, dict.fromkeys(numbered, table.number))


def _has_met(database: Database, number: int) -> bool:
    """Tell whether other devices' operations on a table are here."""
    ordinals = [o for o, device in log.device_ids(database).items() if o and not is_baseline(device)]
    return any(
        database.one(
            f"SELECT EXISTS (SELECT 1 FROM main.sync_operations WHERE op > {-(ordinal << ORDINAL_SHIFT)} "
            f"AND op <= {-((ordinal - 1) << ORDINAL_SHIFT)} AND table_no = ?)",
            (number,),
        )
        for ordinal in ordinals
    )
