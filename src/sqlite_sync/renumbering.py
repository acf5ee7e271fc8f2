"""Give rows other numbers in this file's log (SPEC.md, section 4.7).

A number is this file's own name for a row, not part of the operation. It changes where the application took the number
for another row, so that in the log each number stands for one row only. No row of a table is touched here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sqlite_sync import births, catalog, schema
from sqlite_sync.catalog import Entry
from sqlite_sync.codec import pack_image, unpack_image
from sqlite_sync.database import Database
from sqlite_sync.numbering import Numbering
from sqlite_sync.tables import Table, commas, counts_up, fold, literal, quote

NOTHING: Mapping[int, int] = {}
EVERY = 1 << 62  # beyond every dot number


def renumber(database: Database, number: int, moves: Iterable[tuple[int, int, int]]) -> None:
    """Rename rows of table `number`, given as (number, the own operation before which it is theirs, new number).

    Foreign operations are older than any own one that has not been sent. The map is the caller's.
    """
    database.execute("CREATE TEMP TABLE sync_moves (number, before, fresh, PRIMARY KEY (number, before)) WITHOUT ROWID")
    database.executemany("INSERT INTO temp.sync_moves VALUES (?, ?, ?)", moves)
    with schema.open_log(database):
        for entry in catalog.entries(database):
            positions = [position for position, numbered in entry.numbers.items() if numbered == number]
            if positions:
                _rename_in_log(database, entry, positions)
    for entry in catalog.entries(database):
        positions = [position for position, numbered in entry.numbers.items() if numbered == number]
        if positions and catalog.was_enabled(database, entry.number):
            _rename_in_forks(database, entry, positions)
    database.execute("DROP TABLE temp.sync_moves")


def _fresh(value: str, dot: str | None = None) -> str:
    """Render the new number of a value; of the row that had it first, where no operation is given."""
    before = f"AND {dot} < m.before " if dot else ""
    fresh = f"(SELECT m.fresh FROM temp.sync_moves AS m WHERE m.number = {value} {before}ORDER BY m.before LIMIT 1)"
    return f"iif(typeof({value}) = 'integer', coalesce({fresh}, {value}), {value})"


def _is_moved(value: str) -> str:
    return f"{value} IN (SELECT number FROM temp.sync_moves)"


def _rename_in_log(database: Database, entry: Entry, positions: list[int]) -> None:
    columns = [f"{side}{position}" for position in positions for side in "vo"]
    renamed = commas(f"{column} = {_fresh(column, 'op')}" for column in columns)
    is_moved = " OR ".join(map(_is_moved, columns))
    database.execute(f"UPDATE main.sync_operations SET {renamed} WHERE table_no = {entry.number} AND ({is_moved})")


def _rename_in_forks(database: Database, entry: Entry, positions: list[int]) -> None:
    """Rename rows where forks are kept: their keys, base images, and the images of open conflicts."""
    n = entry.number
    keys = [(f"k{place}", entry.columns.index(name)) for place, name in enumerate(entry.key)]
    images = [(f"sync_images_{n}", f"c{position}") for position in positions]
    for table, column in [*((f"sync_keys_{n}", k) for k, position in keys if position in positions), *images]:
        database.execute(f"UPDATE main.{table} SET {column} = {_fresh(column)} WHERE {_is_moved(column)}")
    fresh = dict(database.execute("SELECT number, fresh FROM temp.sync_moves ORDER BY before DESC").fetchall())
    found = database.execute(
        "SELECT fork, base FROM main.sync_forks WHERE table_no = ? AND base IS NOT NULL", (n,)
    ).fetchall()
    for fork, packed in found:
        image = unpack_image(packed)
        renamed = image | {i: fresh[image[i]] for i in positions if type(image.get(i)) is int and image[i] in fresh}
        if renamed != image:
            database.execute("UPDATE main.sync_forks SET base = ? WHERE fork = ?", (pack_image(renamed), fork))


def make_room(database: Database, table: Table, baseline: int | None, same: Mapping[int, int] = NOTHING) -> None:
    """Let held rows give way to the rows of a table that is being enabled, where both have one number.

    The held rows of this very baseline, and those that are the `same`, get the numbers of the rows that they are.
    """
    note_top(database, table.number, table.name)
    before = births.load(database, table.number)
    if not before.runs:
        return
    moves = dict(_moves(before, baseline, same, _unknown(database, table)))
    if moves:
        renumber(database, table.number, [(number, EVERY, fresh) for number, fresh in moves.items()])
        named = {fresh: birth for number, fresh in moves.items() if (birth := before.birth(number))}
        births.store(database, table.number, before, before.renamed(moves, named))


def _moves(
    before: Numbering, baseline: int | None, paired: Mapping[int, int], unknown: set[int]
) -> Iterator[tuple[int, int]]:
    """Yield (number, new number): to the rows that are here theirs, to others that stand in their way the next."""
    same = {**paired} | {
        number: number + run.shift
        for run in before.runs
        if run.ordinal == baseline and run.shift
        for number in range(run.low, run.high + 1)
    }
    yield from ((number, kept) for number, kept in same.items() if number != kept)
    fresh = max([before.top, *same.values()])
    for number in sorted((unknown | set(same.values())) - same.keys()):
        birth = before.birth(number)
        if birth is not None and before.is_in_a_run(number) and birth != (baseline, number):
            fresh += 1
            yield number, fresh


def _unknown(database: Database, table: Table) -> set[int]:
    """Return the numbers of the table's rows that are, in the log, those of held rows, or of none."""
    [key] = table.key
    held = "EXISTS (SELECT 1 FROM main.sync_held AS h WHERE h.table_no = o.table_no AND o.op BETWEEN h.low AND h.high)"
    known = (
        f"SELECT o.{key.new} FROM main.sync_operations AS o WHERE o.table_no = {table.number} "
        f"AND o.{key.new} IS NOT NULL AND NOT {held}"
    )
    rows = database.execute(f"SELECT {key.sql} FROM {table.sql} WHERE {key.sql} NOT IN ({known})").fetchall()
    return {number for (number,) in rows}


def count_on(database: Database, table: Table) -> None:
    """Let an AUTOINCREMENT go on behind the numbers of other devices' rows: also of those that never stood here."""
    if not counts_up(database, table.name):
        return
    greatest = database.one(f"SELECT max(high) FROM main.sync_births_{table.number} WHERE high > 0")
    database.execute("UPDATE main.sqlite_sequence SET seq = ?1 WHERE name = ?2 AND seq < ?1", (greatest, table.name))
    database.execute(
        "INSERT INTO main.sqlite_sequence (name, seq) SELECT ?2, ?1 WHERE ?1 IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM main.sqlite_sequence WHERE name = ?2)",
        (greatest, table.name),
    )


def note_top(database: Database, number: int, name: str) -> None:
    """Note the greatest number that a table used while it was not enabled, or that refers to one of its rows."""
    used = [
        f"SELECT {quote(column)} AS number FROM main.{quote(table)} WHERE typeof({quote(column)}) = 'integer'"
        for table, column in _columns_of(database, number)
    ]
    if database.one("SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_sequence')"):
        used.append(f"SELECT seq FROM main.sqlite_sequence WHERE name = {literal(name)}")
    if used:
        births.raise_top(database, number, births.greatest_used(database, " UNION ALL ".join(used)))


def _columns_of(database: Database, number: int) -> Iterator[tuple[str, str]]:
    """List the columns that exist here and hold numbers of a table's rows: its key, and what refers to it."""
    for entry in catalog.entries(database):
        names = database.execute("SELECT name FROM pragma_table_info(?, 'main')", (entry.name,)).fetchall()
        here = {fold(name) for (name,) in names}
        for position, numbered in entry.numbers.items():
            if numbered == number and fold(entry.columns[position]) in here:
                yield entry.name, entry.columns[position]


def referring(database: Database, table: Table) -> list[tuple[Entry, str]]:
    """List the columns, of this table and of others that exist, that refer to rows of a table by number."""
    return [
        (entry, entry.columns[position])
        for entry in catalog.entries(database)
        for position, numbered in entry.numbers.items()
        if numbered == table.number and entry.is_enabled and catalog.exists(database, entry)
        if entry.number != table.number or entry.columns[position] != entry.key[0]
    ]
