"""Rows that stood in a table before it was enabled: operations of a device made of their content (SPEC.md, 6.4).

Copies of one file so have the same operations, and in a mapped table the same births.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from hashlib import sha256

from sqlite_sync import births, catalog, log, renumbering, schema
from sqlite_sync.catalog import Entry
from sqlite_sync.codec import pack, pack_tree
from sqlite_sync.database import Database
from sqlite_sync.errors import TableError
from sqlite_sync.numbering import Birth
from sqlite_sync.operation import BASELINE_VERSION, ID_BYTES, Kind, dot_number, is_baseline
from sqlite_sync.tables import Table, commas, quote

HLC = 1

Same = Mapping[int, Birth]  # rows of a mapped table, by number, that were born elsewhere, as the user says


def take(database: Database, table: Table, same: Same | None) -> int:
    """Log the rows that stand in a table as inserts of its baseline device; return their number.

    `same` is for mapped tables; None where the user did not say which rows arrived before: TableError, if some did.
    """
    by_bytes = database.collation_of_bytes()
    order = commas(f"{column.sql} COLLATE {by_bytes}" for column in table.key)
    count, device_id = _identity(database, table, f"{table.sql} ORDER BY {order}", same or {})
    if not count:
        return 0
    ordinal = log.ordinal_for(database, device_id)
    entry = catalog.entry(database, table.name)
    if entry is not None and entry.is_mapped:
        if same is None:
            _require_related(database, entry, ordinal)
        _number(database, table, ordinal, same or {})
    held = (dot_number(ordinal, 1), dot_number(ordinal, count))
    if log.clock(database).get(ordinal):  # a peer with a copy of the same file has sent it already
        database.execute(
            "DELETE FROM main.sync_held WHERE table_no = ? AND low = ? AND high = ?", (table.number, *held)
        )
        return count
    names = commas(column.sql for column in table.columns)
    with schema.open_log(database):
        database.execute(
            f"INSERT INTO main.sync_operations (op, table_no, kind, hlc, {commas(c.new for c in table.columns)}) "
            f"SELECT row_number() OVER (ORDER BY {order}) + ?, {table.number}, {Kind.INSERT:d}, {HLC}, {names} "
            f"FROM {table.sql} ORDER BY {order}",
            (dot_number(ordinal, 0),),
        )
    database.execute("UPDATE main.sync_devices SET seq = ? WHERE ordinal = ?", (count, ordinal))
    log.note_context(database, {ordinal: count})
    return count


def rename(database: Database, table: Table) -> None:
    """Give a table's baseline the id that it has where numbers in it stand for rows, as they do now.

    No other device knows it yet: a column that went to others as it is stays so.
    """
    for ordinal in _of_tables(database).get(table.number, ()):
        low, high = dot_number(ordinal, 1), dot_number(ordinal, log.clock(database)[ordinal])
        values = commas(f"{column.new} AS {column.sql}" for column in table.columns)
        logged = f"(SELECT {values} FROM main.sync_operations WHERE op BETWEEN {low} AND {high} ORDER BY op)"
        _, device_id = _identity(database, table, logged, {})
        database.execute("UPDATE main.sync_devices SET device_id = ? WHERE ordinal = ?", (device_id, ordinal))


def _identity(database: Database, table: Table, rows: str, same: Same) -> tuple[int, bytes]:
    """Return the number of a table's rows, which are an ordered source, and the id of the device that they make."""
    bare = commas(f"+{c.sql}" for c in table.columns)  # no declared type, so that no converter of the user's steps in
    digest, count = sha256(_head(table)), 0
    for row in database.execute(f"SELECT {bare} FROM {rows}"):
        digest.update(pack(row))
        count += 1
    if same:  # rows that are born elsewhere make other operations
        ids = log.device_ids(database)
        digest.update(pack_tree([[number, ids[ordinal], birth] for number, (ordinal, birth) in sorted(same.items())]))
    if named := _named_rows(database, table, rows):  # the same numbers, but of other rows, are other content
        digest.update(pack_tree(named))
    return count, _as_uuid(digest.digest())


def _named_rows(database: Database, table: Table, rows: str) -> list[list[object]]:
    """Say which rows of other tables a table's numbers stand for: [table, first and last number, device id, birth].

    Numbers whose births follow each other as they do are one entry, whatever lies between.
    """
    entry = catalog.entry(database, table.name)
    columns = defaultdict[int, list[str]](list)
    for column in table.columns:
        numbered = None if entry is None else entry.numbers.get(column.position)
        if numbered not in (None, table.number):
            columns[numbered].append(column.sql)
    ids, found = log.device_ids(database), list[list[object]]()
    for parent in catalog.entries(database):
        if parent.number in columns:
            runs = _runs(database, rows, parent, columns[parent.number])
            found += [[parent.name, first, last, ids[ordinal], birth] for first, last, ordinal, birth in runs]
    return sorted(found, key=lambda run: (run[0], run[1]))


def _runs(database: Database, rows: str, parent: Entry, columns: Collection[str]) -> list[list[int]]:
    """Return (first number, last number, ordinal, first birth) of the rows of a parent that columns refer to.

    A number that no other device gave, and that no row has, stands for nothing.
    """
    numbering, runs = births.load(database, parent.number), list[list[int]]()
    numbers = " UNION ".join(f"SELECT * FROM (SELECT {name} AS number FROM {rows})" for name in columns)
    there = "0"
    if catalog.exists(database, parent):
        there = f"EXISTS (SELECT 1 FROM main.{quote(parent.name)} AS p WHERE p.{quote(parent.key[0])} = number)"
    for number, is_there in database.execute(
        f"SELECT number, {there} FROM ({numbers}) WHERE typeof(number) = 'integer' ORDER BY number"
    ):
        birth = numbering.birth(number)
        if birth is None or not (birth[0] or is_there):
            continue
        if runs and (runs[-1][2], runs[-1][3] - runs[-1][0]) == (birth[0], birth[1] - number):
            runs[-1][1] = number
        else:
            runs.append([number, number, *birth])
    return runs


def _head(table: Table) -> bytes:
    """Encode what a baseline's digest starts with: the table's name, its columns, its key."""
    return pack_tree([table.name, [c.name for c in table.columns], [c.name for c in table.key]])


def _as_uuid(digest: bytes) -> bytes:
    """Make a device id of a digest: a UUID of version 8."""
    raw = bytearray(digest[:ID_BYTES])
    raw[6] = (raw[6] & 0x0F) | BASELINE_VERSION << 4
    raw[8] = (raw[8] & 0x3F) | 0x80
    return bytes(raw)


def _number(database: Database, table: Table, ordinal: int, same: Same) -> None:
    """Let the rows of a mapped table be born in its baseline, except those that were born elsewhere."""
    before = births.load(database, table.number)
    paired = {held: number for number, birth in same.items() if (held := before.number(birth)) is not None}
    renumbering.make_room(database, table, ordinal, paired)
    births.note_baseline(database, table.number, ordinal, f"SELECT {table.key[0].sql} AS number FROM {table.sql}", same)


def _of_tables(database: Database) -> dict[int, set[int]]:
    """Return the ordinals of the baselines whose operations are here, by table."""
    found = defaultdict[int, set[int]](set)
    for ordinal, device_id in log.device_ids(database).items():
        if ordinal and is_baseline(device_id):
            first = database.execute(
                "SELECT table_no FROM main.sync_operations WHERE op = ?", (dot_number(ordinal, 1),)
            ).fetchone()
            if first:
                found[first[0]].add(ordinal)
    return found


def _require_related(database: Database, entry: Entry, ordinal: int) -> None:
    """Refuse to take in rows beside those of another file, before the user has said which of them are the same."""
    known = _of_tables(database).get(entry.number, set())
    if known and ordinal not in known and not catalog.is_distinct(database, entry.number):
        name = entry.name
        msg = (
            f"{name} has rows of its own, and rows of another file have arrived for it: nobody has said which of them "
            f'are the same. Say it: adopt({{"{name}": "key"}}) if rows with the same number are, '
            f'adopt({{"{name}": ("column", ...)}}) if rows with equal values are, adopt({{"{name}": "distinct"}}) '
            f"if none are (sqlite-sync adopt DB {name}=... --apply)"
        )
        raise TableError(msg)


def rivals(database: Database) -> list[set[bytes]]:
    """List the baselines of each mapped table of which more than one is known, by their device ids."""
    mapped = catalog.mapped(database)
    known = [ordinals for table, ordinals in _of_tables(database).items() if table in mapped] if mapped else []
    ids = log.device_ids(database) if known else {}
    return [{ids[one] for one in ordinals} for ordinals in known if len(ordinals) > 1]


def unrelated(database: Database, arrived: Collection[int], known_there: Collection[int]) -> list[str]:
    """Name the mapped tables for which a bundle brings another file's baseline beside one that its author lacks."""
    known = _of_tables(database)
    return [
        entry.name
        for entry in catalog.entries(database)
        if entry.is_mapped and not catalog.is_distinct(database, entry.number)
        if known.get(entry.number, set()) & {*arrived} and known[entry.number] - {*known_there}
    ]
