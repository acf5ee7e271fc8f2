"""Which tables and columns the log knows, under which numbers (`sync_tables`, `sync_columns`).

A number is never used again for something else, so the log stays readable when a column goes. A table of the catalogue
need not exist here: operations that a peer sent for it are kept until it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlite_sync import tables
from sqlite_sync.database import Database
from sqlite_sync.errors import SchemaError, TableError
from sqlite_sync.tables import Column, Table, fold

_Column = tuple[str, int, int | None]  # name, place in the key, the table whose rows it numbers
_Told = tuple[tuple[str, ...], tuple[str, ...], tuple[int | None, ...]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A table of the catalogue: its column names by position, and its key column names in key order.

    `mapped` says by position which table's rows a column's integers number; None where they stand for themselves.
    """

    number: int
    name: str
    is_enabled: bool
    columns: tuple[str, ...]
    key: tuple[str, ...]
    mapped: tuple[int | None, ...] = ()

    @property
    def is_mapped(self) -> bool:
        """Whether its rows are named by the device where they were born, and their number there."""
        return len(self.key) == 1 and self.numbers.get(self.columns.index(self.key[0])) == self.number

    def is_translated(self, name: str) -> bool:
        """Tell whether a column numbers rows."""
        return any(fold(self.columns[position]) == fold(name) for position in self.numbers)

    @property
    def numbers(self) -> dict[int, int]:
        """The mapped columns: the table that each one numbers, by position."""
        return {position: number for position, number in enumerate(self.mapped) if number is not None}


def entries(database: Database) -> list[Entry]:
    """Return the whole catalogue."""
    found = database.execute("SELECT table_no, name, is_enabled FROM main.sync_tables ORDER BY table_no").fetchall()
    columns: dict[int, list[_Column]] = {}
    for number, *column in database.execute(
        "SELECT table_no, name, key_place, mapped FROM main.sync_columns ORDER BY table_no, position"
    ).fetchall():
        columns.setdefault(number, []).append((*column,))
    return [Entry(number, name, bool(enabled), *_told(columns.get(number, []))) for number, name, enabled in found]


def entry(database: Database, name: str) -> Entry | None:
    """Return the entry of one table, or None."""
    row = database.execute("SELECT table_no, name, is_enabled FROM main.sync_tables WHERE name = ?", (name,)).fetchone()
    return None if row is None else Entry(row[0], row[1], bool(row[2]), *_columns(database, row[0]))


def enabled(database: Database) -> list[Table]:
    """Return the shapes of all enabled tables that exist; SchemaError where one has changed its key."""
    rows = database.execute(
        "SELECT t.table_no FROM main.sqlite_schema AS s CROSS JOIN main.sync_tables AS t ON t.name = s.name "
        "WHERE s.type = 'table'"
    ).fetchall()
    here = {number for (number,) in rows}
    return [shape(database, one) for one in entries(database) if one.is_enabled and one.number in here]


def exists(database: Database, known: Entry) -> bool:
    """Tell whether the file has a catalogued table."""
    return bool(
        database.one("SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE", (known.name,))
    )


def shape(database: Database, known: Entry) -> Table:
    """Read the present shape of a catalogued table."""
    positions = {fold(column): position for position, column in enumerate(known.columns)}
    try:
        table = tables.read(database, tables.find(database, known.name), known.number, positions)
    except TableError as error:
        msg = f"synced table {known.name} is not as it was: {error}. Bring it back, or disable its sync"
        raise SchemaError(msg) from error
    key = [c.name for c in table.key]
    if [*map(fold, key)] != [*map(fold, known.key)]:
        msg = (
            f"synced table {known.name} is not as it was: its primary key is ({', '.join(key)}), and the log names its "
            f"rows by ({', '.join(known.key)}). Bring it back, or disable its sync; under another name it can be "
            "synced anew"
        )
        raise SchemaError(msg)
    return table


def whole(database: Database, table: Table) -> Table:
    """Widen a table's shape by the columns that only other devices have."""
    known = entry(database, table.name)
    here = {column.position for column in table.columns}
    held = [
        Column(name, position, 0, "BLOB", "BINARY", is_nullable=True, default=None)
        for position, name in enumerate(known.columns if known else ())
        if position not in here
    ]
    return replace(table, columns=(*table.columns, *held))


def register(database: Database, name: str, columns: Sequence[tuple[str, int]]) -> Entry:
    """Make sure that a table and its columns, given as (name, place in the key), have numbers."""
    known = entry(database, name)
    if known is None:
        database.execute(
            "INSERT INTO main.sync_tables (name, is_enabled, top, is_distinct) VALUES (?, 0, 0, 0)", (name,)
        )
        number: int = database.one("SELECT table_no FROM main.sync_tables WHERE name = ?", (name,))
        present: tuple[str, ...] = ()
    else:
        number, present = known.number, known.columns
        _require_same_key(name, _in_key_order(columns), known.key)
    taken = set(map(fold, present))
    fresh = [(column, place) for column, place in columns if fold(column) not in taken]
    if known is not None and not fresh:
        return known
    database.executemany(
        "INSERT INTO main.sync_columns (table_no, position, name, key_place, is_here) VALUES (?, ?, ?, ?, 0)",
        [(number, len(present) + i, column, place) for i, (column, place) in enumerate(fresh)],
    )
    _widen_log(database, len(present) + len(fresh))
    return Entry(
        number,
        name if known is None else known.name,
        known is not None and known.is_enabled,
        *_columns(database, number),
    )


def mapped(database: Database) -> list[int]:
    """Return the numbers of all mapped tables."""
    rows = database.execute("SELECT table_no FROM main.sync_columns WHERE key_place = 1 AND mapped = table_no")
    return [number for (number,) in rows.fetchall()]


def set_enabled(database: Database, number: int, *, is_enabled: bool) -> None:
    """Note whether a table is captured here."""
    database.execute("UPDATE main.sync_tables SET is_enabled = ? WHERE table_no = ?", (is_enabled, number))


def is_distinct(database: Database, number: int) -> bool:
    """Tell whether the user said that no row of this file's own is one of another file's own."""
    return bool(database.one("SELECT is_distinct FROM main.sync_tables WHERE table_no = ?", (number,)))


def set_distinct(database: Database, number: int) -> None:
    """Note that the user said so."""
    database.execute("UPDATE main.sync_tables SET is_distinct = 1 WHERE table_no = ?", (number,))


def absent(database: Database, number: int) -> set[str]:
    """Name the columns, folded, that only other devices have, as far as was noted."""
    rows = database.execute("SELECT name FROM main.sync_columns WHERE table_no = ? AND NOT is_here", (number,))
    return {fold(name) for (name,) in rows}


def was_enabled(database: Database, number: int) -> bool:
    """Tell whether a table is, or was, enabled: only then are there tables of ours for it."""
    return bool(
        database.one("SELECT EXISTS (SELECT 1 FROM main.sync_columns WHERE table_no = ? AND is_here)", (number,))
    )


def note_columns(database: Database, table: Table) -> None:
    """Note which columns of the catalogue a table has here."""
    here = {column.position for column in table.columns}
    database.executemany(
        "UPDATE main.sync_columns SET is_here = ? WHERE table_no = ? AND position = ?",
        [(position in here, table.number, position) for position in range(_width(database, table.number))],
    )


def _width(database: Database, number: int) -> int:
    width: int = database.one("SELECT count(*) FROM main.sync_columns WHERE table_no = ?", (number,))
    return width


def _columns(database: Database, number: int) -> _Told:
    rows = database.execute(
        "SELECT name, key_place, mapped FROM main.sync_columns WHERE table_no = ? ORDER BY position", (number,)
    ).fetchall()
    return _told(rows)


def _told(rows: Sequence[_Column]) -> _Told:
    """Return what an entry says of a table's columns: their names, the names of its key, and what they number."""
    key = _in_key_order((name, place) for name, place, _ in rows)
    return tuple(name for name, _, _ in rows), tuple(key), tuple(mapped for _, _, mapped in rows)


def set_mapped(database: Database, number: int, mapped: Mapping[str, int | None]) -> None:
    """Note which table's rows the integers of these columns number."""
    database.executemany(
        "UPDATE main.sync_columns SET mapped = ? WHERE table_no = ? AND name = ?",
        [(parent, number, name) for name, parent in mapped.items()],
    )


def _in_key_order(columns: Iterable[tuple[str, int]]) -> list[str]:
    return [name for name, place in sorted(columns, key=lambda c: c[1]) if place]


def _require_same_key(name: str, here: Sequence[str], known: Sequence[str]) -> None:
    if [*map(fold, here)] != [*map(fold, known)]:
        msg = (
            f"{name} has the primary key ({', '.join(here)}), the log knows it by "
            f"({', '.join(known)}): give it the same key on every device"
        )
        raise SchemaError(msg)


def _widen_log(database: Database, columns: int) -> None:
    wide = database.one("SELECT count(*) FROM pragma_table_info('sync_operations', 'main') WHERE name LIKE 'v%'")
    added = [f"{side}{position}" for position in range(wide, columns) for side in "vo"]
    if added and database.one("SELECT count(*) = 1 FROM (SELECT 1 FROM main.sync_operations LIMIT 2)"):
        _remake_empty_log(database, added)
    else:
        for column in added:  # SQLite changes no row for this, but reads the whole schema again
            database.execute(f"ALTER TABLE main.sync_operations ADD COLUMN {column}")


def _remake_empty_log(database: Database, added: Sequence[str]) -> None:
    """Make the log anew where it holds no operation yet: a thousand times ALTER TABLE takes seconds."""
    text = database.one("SELECT sql FROM main.sqlite_schema WHERE name = 'sync_operations'")
    row = database.execute("SELECT op, table_no, kind, hlc FROM main.sync_operations").fetchone()
    laws = database.execute(
        "SELECT sql FROM main.sqlite_schema WHERE type = 'trigger' AND tbl_name = 'sync_operations'"
    )
    found = laws.fetchall()  # none while an import appends
    database.execute("DROP TABLE main.sync_operations")
    database.execute(f"{text[: text.rindex(')')].rstrip()}, {tables.commas(added)})")
    database.execute("INSERT INTO main.sync_operations (op, table_no, kind, hlc) VALUES (?, ?, ?, ?)", row)
    for (law,) in found:
        database.create_trigger(law)
