"""Which rows of two files that both had rows before they met are the same, as the user says (SPEC.md, section 6.4).

A row that stands in a table being enabled is paired with a held one: then both have one birth. Each row at most once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlite_sync import births, reconciler
from sqlite_sync.catalog import Entry
from sqlite_sync.database import Database
from sqlite_sync.errors import TableError
from sqlite_sync.numbering import Birth
from sqlite_sync.tables import Table, commas, fold

KEY, DISTINCT = "key", "distinct"
Same = str | Sequence[str]


@dataclass(frozen=True, slots=True)
class Adoption:
    """How the rows of a table correspond to those that arrived, as `adopt` found them.

    `equal` are in both, alike; `differing` in both with other values, each an open conflict afterwards. `ambiguous`:
    rows here whose values several rows have, so that they are paired with none; they count as `only_here`.
    """

    equal: int
    differing: int
    only_here: int
    only_there: int
    ambiguous: int


def find(database: Database, entry: Entry, table: Table, same: Same | None) -> dict[int, Birth] | None:
    """Return the births of those rows of a mapped table, by number, that arrived already; None where nobody said."""
    if same is None or not entry.is_mapped:
        return None
    if same == DISTINCT:
        return {}
    numbering = births.load(database, table.number)
    with _paired(database, entry, table, same):
        pairs = database.execute("SELECT here, held FROM temp.sync_pairs").fetchall()
    return {here: birth for here, held in pairs if (birth := numbering.birth(held)) is not None}


def compare(database: Database, entry: Entry, table: Table, same: Same) -> Adoption:
    """Count how the rows of a table correspond to those that are held for it."""
    with _paired(database, entry, table, same) as ambiguous:
        here, there = (
            database.one(f"SELECT count(*) FROM {rows}") for rows in (table.sql, f"temp.sync_replay_{table.number}")
        )
        if entry.is_mapped:
            both = f"JOIN temp.sync_pairs AS p ON p.held = s.k0 JOIN {table.sql} AS t ON t.{table.key[0].sql} = p.here"
        else:
            same_key = " AND ".join(f"t.{c.keyed} = s.k{i}" for i, c in enumerate(table.key))
            both = f"JOIN {table.sql} AS t ON {same_key}"
        differs = " OR ".join(_differs(entry, table)) or "0"
        paired, differing = database.execute(
            f"SELECT count(*), coalesce(sum({differs}), 0) FROM temp.sync_replay_{table.number} AS s {both}"
        ).fetchone()
    return Adoption(paired - differing, differing, here - paired, there - paired, ambiguous)


def _differs(entry: Entry, table: Table) -> Iterator[str]:
    """Render, for each column outside the key, the test that a row and the held one have other values there."""
    for i, column in enumerate(table.columns):
        if column in table.key:
            continue
        value = f"s.c{i}"
        if entry.is_mapped and entry.numbers.get(column.position) == entry.number:  # a row of this very table
            value = f"coalesce((SELECT q.here FROM temp.sync_pairs AS q WHERE q.held = {value}), {value})"
        yield f"t.{column.sql} IS NOT {value} COLLATE BINARY OR typeof(t.{column.sql}) <> typeof({value})"


@contextmanager
def _paired(database: Database, entry: Entry, table: Table, same: Same) -> Iterator[int]:
    """Fill temp.sync_pairs, and temp.sync_replay_<n> with the held rows; yield how many rows are ambiguous."""
    columns = [] if same in (KEY, DISTINCT) else _columns(entry, table, same)
    reconciler.replay(database, table)
    database.execute("CREATE TEMP TABLE sync_pairs (held INTEGER PRIMARY KEY, here INTEGER UNIQUE)")
    ambiguous = 0
    if columns:
        ambiguous = _pair_by(database, table, columns)
    elif same == KEY and entry.is_mapped:
        _pair_by_key(database, table)
    yield ambiguous
    database.execute("DROP TABLE temp.sync_pairs")
    database.execute(f"DROP TABLE temp.sync_replay_{table.number}")


def _pair_by_key(database: Database, table: Table) -> None:
    """Give each held row the number that it has where it was born, if it alone has it; a row here may have it too."""
    numbering = births.load(database, table.number)
    held = [number for (number,) in database.execute(f"SELECT k0 FROM temp.sync_replay_{table.number}").fetchall()]
    born = [(number, birth[1]) for number in held if (birth := numbering.birth(number)) is not None]
    database.execute("CREATE TEMP TABLE sync_candidates (held INTEGER, here INTEGER)")
    database.executemany("INSERT INTO temp.sync_candidates VALUES (?, ?)", born)
    database.execute(
        "INSERT INTO temp.sync_pairs SELECT max(held), here FROM temp.sync_candidates GROUP BY here HAVING count(*) = 1"
    )
    database.execute("DROP TABLE temp.sync_candidates")


def _pair_by(database: Database, table: Table, columns: Sequence[int]) -> int:
    """Pair rows that alone have some values, none of them NULL; return how many others have values in common."""
    [key] = table.key
    sides = {
        "here": (table.sql, key.sql, [table.columns[i].sql for i in columns]),
        "there": (f"temp.sync_replay_{table.number}", "k0", [f"c{i}" for i in columns]),
    }
    for side, (rows, number, values) in sides.items():
        compared = [f"{v} COLLATE {table.columns[i].collation}" for i, v in zip(columns, values, strict=True)]
        named = ", ".join(f"{value} AS e{j}" for j, value in enumerate(values))
        present = " AND ".join(f"{value} IS NOT NULL" for value in values)
        database.execute(
            f"CREATE TEMP TABLE sync_{side} AS SELECT {named}, max({number}) AS number, count(*) AS rows FROM {rows} "
            f"WHERE {present} GROUP BY {', '.join(compared)}"
        )
    equal = " AND ".join(f"h.e{j} = t.e{j} COLLATE {table.columns[i].collation}" for j, i in enumerate(columns))
    both = f"temp.sync_here AS h JOIN temp.sync_there AS t ON {equal}"
    one_each = "h.rows = 1 AND t.rows = 1"
    database.execute(f"INSERT INTO temp.sync_pairs SELECT t.number, h.number FROM {both} WHERE {one_each}")
    ambiguous: int = database.one(f"SELECT coalesce(sum(h.rows), 0) FROM {both} WHERE NOT ({one_each})")
    for side in sides:
        database.execute(f"DROP TABLE temp.sync_{side}")
    return ambiguous


def _columns(entry: Entry, table: Table, same: Same) -> list[int]:
    """Return the places of the columns that the user named."""
    names = [fold(column.name) for column in table.columns]
    if isinstance(same, str) or not same:
        msg = f'{same!r} says nothing of {table.name}: give {KEY!r}, {DISTINCT!r}, or column names, as in ("title",)'
        raise TableError(msg)
    if not entry.is_mapped:
        msg = f"rows of {table.name} are the same where the key is the same, on every device: give {KEY!r}"
        raise TableError(msg)
    for name in same:
        if fold(name) not in names:
            msg = f"{table.name} has no column {name!r} that is synced: it has {commas(c.name for c in table.columns)}"
            raise TableError(msg)
    return [names.index(fold(name)) for name in same]
