"""Where the rows of mapped tables were born, and which number stands for each of them here (SPEC.md, section 4.7).

All numbers in the log are this file's own. `sync_births_<n>` says which birth a number of table n stands for; one that
is not there, and positive, is a row that was born here under this very number. A bundle speaks of births: here are the
translations, as SQL, so that no value travels through Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlite_sync.database import Database

LEAST_OF_OURS = -(1 << 62)  # from here down no application's counter comes: rows that stand in no table
GREATEST = 1 << 62  # numbers above do not move the counter: it would soon be at its end


@dataclass(frozen=True, slots=True)
class Translated:
    """A value on its way: `value` and `birth` as SQL, and the joins that they need."""

    value: str
    birth: str
    joins: str


def is_counted(value: str) -> str:
    """Render the test that a value names a birth: a number that a counter may have given, or one of ours."""
    return f"(typeof({value}) = 'integer' AND ({value} > 0 OR {value} <= {LEAST_OF_OURS}))"


def create(database: Database, number: int) -> None:
    """Make the map of a table."""
    database.execute(
        f"CREATE TABLE main.sync_births_{number} (number INTEGER PRIMARY KEY, ordinal INTEGER NOT NULL, "
        "birth INTEGER NOT NULL, UNIQUE (ordinal, birth))"
    )


def is_plain(database: Database, number: int) -> bool:
    """Tell whether all positive numbers of a table were born here, under themselves."""
    return not database.one(f"SELECT EXISTS (SELECT 1 FROM main.sync_births_{number})")


def outward(value: str, alias: str, number: int, *, is_plain: bool) -> Translated:
    """Render what a bundle says of a value that numbers a row of table `number`."""
    own = f"iif({is_counted(value)}, 0, NULL)"
    if is_plain:
        return Translated(value, own, "")
    join = f" LEFT JOIN main.sync_births_{number} AS {alias} ON {alias}.number = {value} AND typeof({value}) = 'integer'"
    return Translated(f"coalesce({alias}.birth, {value})", f"coalesce({alias}.ordinal, {own})", join)


def inward(value: str, birth: str, alias: str, number: int) -> Translated:
    """Render the number that stands here for a value of a bundle, once every birth in it has one.

    temp.sync_incoming translates ordinals.
    """
    joins = (
        f" LEFT JOIN temp.sync_incoming AS {alias}d ON {alias}d.bundle_ordinal = {birth}"
        f" LEFT JOIN main.sync_births_{number} AS {alias} ON {alias}.ordinal = {alias}d.ordinal"
        f" AND {alias}.birth = {value}"
    )
    return Translated(f"coalesce({alias}.number, {value})", "NULL", joins)


@dataclass(frozen=True, slots=True)
class Mentioned:
    """Where births stand in a bundle: a table of operations `b`, joined with the new ranges, and two of its columns."""

    source: str
    birth: str
    value: str

    @property
    def births(self) -> str:
        """Render them as (ordinal, birth); those of this device need no number."""
        return (
            f"SELECT i.ordinal, {self.value} AS birth FROM {self.source} CROSS JOIN temp.sync_incoming AS i "
            f"ON i.bundle_ordinal = {self.birth} WHERE i.ordinal <> 0"
        )


def number_born(database: Database, number: int, mentioned: Iterable[Mentioned]) -> None:
    """Give rows that a bundle inserts their numbers here: where they were born, if that is free; else the next one."""
    top: int = database.one("SELECT top FROM main.sync_tables WHERE table_no = ?", (number,))
    sources = list(mentioned)
    for one in sources:  # beyond all that was ever used here: the same number on both devices
        database.execute(
            f"INSERT INTO main.sync_births_{number} SELECT birth, ordinal, birth FROM ({one.births}) "
            f"WHERE birth > {top} AND birth < {GREATEST} ON CONFLICT DO NOTHING"
        )
    raise_top(database, number)
    if _list_unknown(database, number, sources):
        database.execute(
            f"INSERT INTO main.sync_births_{number} SELECT t.top + row_number() OVER (ORDER BY u.ordinal, u.birth), "
            "u.ordinal, u.birth FROM temp.sync_unknown AS u CROSS JOIN main.sync_tables AS t ON t.table_no = ?",
            (number,),
        )
        raise_top(database, number)
    database.execute("DROP TABLE temp.sync_unknown")


def number_others(database: Database, number: int, mentioned: Iterable[Mentioned]) -> None:
    """Give rows that a bundle names, and nobody has inserted yet, numbers that no application uses."""
    if _list_unknown(database, number, mentioned):
        least = least_of_ours(database, number)
        database.execute(
            f"INSERT INTO main.sync_births_{number} SELECT {least} - row_number() OVER (ORDER BY ordinal, birth), "
            "ordinal, birth FROM temp.sync_unknown"
        )
    database.execute("DROP TABLE temp.sync_unknown")


def _list_unknown(database: Database, number: int, mentioned: Iterable[Mentioned]) -> bool:
    database.execute("CREATE TEMP TABLE sync_unknown (ordinal, birth, PRIMARY KEY (ordinal, birth)) WITHOUT ROWID")
    for one in mentioned:
        database.execute(
            f"INSERT OR IGNORE INTO temp.sync_unknown SELECT f.ordinal, f.birth FROM ({one.births}) AS f WHERE NOT EXISTS "
            f"(SELECT 1 FROM main.sync_births_{number} AS m WHERE m.ordinal = f.ordinal AND m.birth = f.birth)"
        )
    return bool(database.one("SELECT EXISTS (SELECT 1 FROM temp.sync_unknown)"))


def raise_top(database: Database, number: int) -> None:
    """Note the greatest number that the map has."""
    database.execute(
        f"UPDATE main.sync_tables SET top = max(top, coalesce((SELECT max(number) FROM main.sync_births_{number} "
        f"WHERE number < {GREATEST}), 0)) WHERE table_no = ?",
        (number,),
    )


def least_of_ours(database: Database, number: int) -> int:
    """Return the last number that was given to a row that stands in no table."""
    least: int = database.one(f"SELECT min(number) FROM main.sync_births_{number}") or 0
    return min(least, LEAST_OF_OURS)


def ordinals(database: Database, number: int) -> set[int]:
    """Return the devices, by ordinal, that bore rows of a table which are known here."""
    rows = database.execute(
        f"SELECT ordinal FROM main.sync_devices AS d WHERE EXISTS (SELECT 1 FROM main.sync_births_{number} AS m "
        "WHERE m.ordinal = d.ordinal)"
    )
    return {ordinal for (ordinal,) in rows.fetchall()}


def rename(database: Database, number: int, named: Mapping[int, tuple[int, int]], gone: Iterable[int]) -> None:
    """Let numbers stand for other births: those of `gone` for none, those of `named` for (ordinal, number there)."""
    database.executemany(f"DELETE FROM main.sync_births_{number} WHERE number = ?", [(one,) for one in gone])
    database.executemany(
        f"INSERT INTO main.sync_births_{number} VALUES (?, ?, ?)", [(one, *birth) for one, birth in named.items()]
    )


def note_baseline(database: Database, number: int, ordinal: int, rows: str) -> None:
    """Let the rows of this file's baseline be born there; `rows` selects their numbers."""
    database.execute(
        f"INSERT INTO main.sync_births_{number} SELECT number, {ordinal}, number FROM ({rows}) WHERE "
        f"{is_counted('number')} ON CONFLICT DO NOTHING"
    )
    database.execute("UPDATE main.sync_tables SET baseline = ? WHERE table_no = ?", (ordinal, number))


def keep(database: Database, number: int, ordinal: int, numbers: str) -> None:
    """Let numbers that stood for births of this device stand for those of its former id; `numbers` selects them."""
    database.execute(
        f"UPDATE main.sync_births_{number} SET ordinal = {ordinal} WHERE ordinal = 0 AND number IN ({numbers})"
    )
    database.execute(
        f"INSERT INTO main.sync_births_{number} SELECT number, {ordinal}, number FROM ({numbers}) WHERE "
        f"{is_counted('number')} AND number NOT IN (SELECT number FROM main.sync_births_{number}) ON CONFLICT DO NOTHING"
    )


def births_of(database: Database, number: int) -> dict[int, tuple[int, int]]:
    """Return the map of a table: number to (ordinal, number where it was born)."""
    rows = database.execute(f"SELECT number, ordinal, birth FROM main.sync_births_{number}")
    return {number: (ordinal, birth) for number, ordinal, birth in rows.fetchall()}


def birth(database: Database, number: int, value: int) -> tuple[bytes | None, int]:
    """Return the birth that a number stands for: device id, number there; no device for one that stands for itself."""
    row = database.execute(
        f"SELECT d.device_id, m.birth FROM main.sync_births_{number} AS m JOIN main.sync_devices AS d USING (ordinal) "
        "WHERE m.number = ?",
        (value,),
    ).fetchone()
    if row is not None:
        return row[0], row[1]
    return (database.device_id(), value) if value > 0 or value <= LEAST_OF_OURS else (None, value)


def local(database: Database, number: int, device_id: bytes, value: int) -> int | None:
    """Return the number that stands here for a birth; None where it is not known."""
    found: int | None = database.one(
        f"SELECT m.number FROM main.sync_births_{number} AS m JOIN main.sync_devices AS d USING (ordinal) "
        "WHERE d.device_id = ? AND m.birth = ?",
        (device_id, value),
    )
    if found is None and device_id == database.device_id():
        taken = database.one(f"SELECT EXISTS (SELECT 1 FROM main.sync_births_{number} WHERE number = ?)", (value,))
        return None if taken else value
    return found
