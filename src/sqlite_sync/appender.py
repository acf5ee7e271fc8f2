"""From a bundle into the log: new operations, in this file's ordinals, positions and numbers (SPEC.md, section 9)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlite_sync import births, bundle, mapping, renumbering, schema
from sqlite_sync.births import Mentioned
from sqlite_sync.bundle import DeviceRange, Header, Part, TableDescription
from sqlite_sync.catalog import Entry
from sqlite_sync.database import Database
from sqlite_sync.numbering import Numbering, Run
from sqlite_sync.operation import ORDINAL_SHIFT, Kind, dot_number
from sqlite_sync.tables import Table, commas, fold, is_literal

SCHEMA = "sync_bundle"
_BIRTH_OF = {"v": "b", "o": "a"}


class InvalidError(Exception):
    """What only importing shows to be wrong with a bundle."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the bundle beside what is known of it here."""

    range: DeviceRange
    ordinal: int
    known: int

    @property
    def shift(self) -> int:
        """What to add to a dot number of the bundle for one of this file."""
        return (self.range.ordinal - self.ordinal) << ORDINAL_SHIFT

    @property
    def last_common(self) -> int:
        """The dot number, here, of its last operation that both sides know."""
        return dot_number(self.ordinal, min(self.known, self.range.to_seq))

    @property
    def new(self) -> tuple[int, int]:
        """The dot numbers of its new operations, here."""
        return dot_number(self.ordinal, self.known) + 1, dot_number(self.ordinal, self.range.to_seq)

    @property
    def sent(self) -> tuple[int, int]:
        """The same dot numbers in the bundle."""
        return dot_number(self.range.ordinal, self.known) + 1, dot_number(self.range.ordinal, self.range.to_seq)

    @property
    def new_count(self) -> int:
        """How many of its operations are new here."""
        return max(self.range.to_seq - self.known, 0)


def append(
    database: Database,
    header: Header,
    found: Sequence[Device],
    enabled: Iterable[Table],
    progress: Callable[[int], None],
) -> None:
    """Copy new operations and contexts into the log, in this file's numbers; tell how many operations are done."""
    database.execute(
        "CREATE TEMP TABLE sync_incoming "
        "(bundle_ordinal INTEGER PRIMARY KEY, ordinal, known, shift, low, high, base_hlc)"
    )
    database.executemany(
        "INSERT INTO temp.sync_incoming VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(d.range.ordinal, d.ordinal, d.known, d.shift, *d.sent, d.range.base_hlc) for d in found],
    )
    fresh = [device for device in found if device.new_count]
    total, done = sum(device.new_count for device in fresh), 0
    if total:
        ordinals = {device.range.ordinal: device.ordinal for device in found}
        numbers = _numbered(database, header, ordinals, {table.number: table for table in enabled})
        with schema.open_log(database):
            for table in header.tables:
                done += _append_table(database, table, numbers)
                progress(done)
            if done != total and any(table.mapped for table in header.tables):
                _number_others(database, header.tables, numbers)
                done += sum(_append_table(database, table, numbers, is_again=True) for table in header.tables)
    if done != total:
        msg = f"it has {done} new operations instead of {total}"
        raise InvalidError(msg)
    _require_ascending_clocks(database)
    database.execute(
        f"INSERT INTO main.sync_contexts SELECT d.ordinal, k.ordinal, c.seq, c.known_seq FROM {SCHEMA}.contexts AS c "
        "JOIN temp.sync_incoming AS d ON d.bundle_ordinal = c.ordinal JOIN temp.sync_incoming AS k ON "
        "k.bundle_ordinal = c.known_ordinal "
        "WHERE c.seq > d.known"
    )
    database.executemany(
        "UPDATE main.sync_devices SET seq = ? WHERE ordinal = ? AND ordinal <> 0",
        [(d.range.to_seq, d.ordinal) for d in fresh],
    )
    database.execute("DROP TABLE temp.sync_incoming")


@dataclass(frozen=True, slots=True)
class _Numbers:
    """How a bundle's numbers are written here: entries, numberings, and all ordinals, each by the bundle's own.

    `enabled` are the enabled tables, by their number here; `runs` those columns, by table of operations and position,
    whose births are all in one run.
    """

    entries: Mapping[int, Entry]
    numberings: dict[int, Numbering]
    ordinals: Mapping[int, int]
    enabled: Mapping[int, Table]
    runs: dict[tuple[str, int], Run | None] = field(default_factory=dict)

    def render(self, table: TableDescription, part: Part, side: str, position: int) -> tuple[str, str]:
        """Render a value of the bundle as it stands in the log, and, if need be, the test that it has a number here."""
        value, birth = f"b.{side}{position}", f"b.{_BIRTH_OF[side]}{position}"
        if position not in table.mapped:
            return value, ""
        run = self.runs.get((part.name, position)) if side == "v" else None
        if run:
            return f"{value} - {run.shift}" if run.shift else value, ""
        number = table.mapped[position]
        here = births.inward(value, birth, self.entries[number].number, self.numberings[number], self.ordinals)
        return here, f" AND ({birth} IS NULL OR {here} IS NOT NULL)"


def _numbered(
    database: Database, header: Header, ordinals: Mapping[int, int], enabled: Mapping[int, Table]
) -> _Numbers:
    """Register a bundle's tables, and give the rows that it inserts their numbers here."""
    entries = mapping.register(database, header)
    mapped = [table for table in header.tables if table.is_mapped]
    for entry in (entries[table.number] for table in mapped):
        if not entry.is_enabled:
            renumbering.note_top(database, entry.number, entry.name)
    numberings = {table.number: births.load(database, entries[table.number].number) for table in mapped}
    numbers = _Numbers(entries, numberings, ordinals, enabled)
    parts = [(table, part, _mentioned(table, part)) for table in header.tables for part in bundle.parts(table)]
    spans = [births.spans(database, list(mentioned.values())) for _, _, mentioned in parts]
    for (table, _, mentioned), found in zip(parts, spans, strict=True):
        for (position, one), span in zip(mentioned.items(), found, strict=True):
            if table.is_mapped and (position,) == table.key:
                after = births.with_born(database, numberings[table.number], (one, span), ordinals)
                births.store(database, entries[table.number].number, numberings[table.number], after)
                numberings[table.number] = after
    for (table, part, mentioned), found in zip(parts, spans, strict=True):
        if part.is_inserts:
            for position, span in zip(mentioned, found, strict=True):
                numbers.runs[part.name, position] = span.run(numberings[table.mapped[position]], ordinals)
    return numbers


def _mentioned(table: TableDescription, part: Part) -> dict[int, Mentioned]:
    """Return the columns of a part that number rows; of one that holds more than inserts, the key of inserts only."""
    if part.is_inserts:
        return {i: Mentioned(new_in(part), f"b.b{i}", f"b.v{i}") for i in table.mapped}
    inserts, [key, *_] = f"{new_in(part)} AND b.kind = {Kind.INSERT:d}", table.key
    return {key: Mentioned(inserts, f"b.b{key}", f"b.v{key}")} if table.is_mapped else {}


def _number_others(database: Database, described: Sequence[TableDescription], numbers: _Numbers) -> None:
    """Give the rows that it names, and nobody inserted, numbers too: whatever refers to them must go on to do so."""
    for table in described:
        for part in bundle.parts(table):
            for position, number in table.mapped.items():
                for side in "v" if part.is_inserts else "vo":
                    mentioned = Mentioned(new_in(part), f"b.{_BIRTH_OF[side]}{position}", f"b.{side}{position}")
                    before = numbers.numberings[number]
                    after = births.with_others(database, before, mentioned, numbers.ordinals)
                    births.store(database, numbers.entries[number].number, before, after)
                    numbers.numberings[number] = after


def new_in(part: Part) -> str:
    """Render the new operations `b` in one of the bundle's tables, and what is known of their devices `d`."""
    return f"temp.sync_incoming AS d CROSS JOIN {SCHEMA}.{part.name} AS b WHERE b.op BETWEEN d.low AND d.high"


def _append_table(database: Database, table: TableDescription, numbers: _Numbers, *, is_again: bool = False) -> int:
    """Append the new operations on a table; those that name a row without a number are left out, for the next time."""
    entry = numbers.entries[table.number]
    positions = {fold(name): position for position, name in enumerate(entry.columns)}
    places = [positions[fold(name)] for name, _ in table.columns]
    target = _Target(table, numbers, places, _defaults(numbers.enabled.get(entry.number), table))
    try:
        return sum(_append_part(database, part, target, is_again=is_again) for part in bundle.parts(table))
    except sqlite3.IntegrityError as error:
        msg = f"it has an operation twice ({error})"
        raise InvalidError(msg) from error


def _old(source: int, target: int, value: str) -> str:
    """Render o<target> of a bundle's o<source>; a resolution's o0 is no column's value and keeps its place."""
    if source == target or 0 not in (source, target):
        return value
    return f"iif(b.kind < {Kind.RESOLVE:d}, {value}, {'b.o0' if target == 0 else 'NULL'})"


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a table of the bundle goes: its column i to `places[i]`, and to others of this file their defaults."""

    table: TableDescription
    numbers: _Numbers
    places: Sequence[int]
    defaults: Sequence[tuple[int, str]]


def _append_part(database: Database, part: Part, target: _Target, *, is_again: bool) -> int:
    """Copy the new operations in one table of operations."""
    table, numbers = target.table, target.numbers
    columns = {
        "op": "b.op + d.shift",
        "table_no": str(numbers.entries[table.number].number),
        "kind": part.read("kind"),
        "base": "NULL" if part.is_inserts else _BASE,
        "hlc": "b.hlc + d.base_hlc",
    }
    known = ""
    for source, place in enumerate(target.places):
        columns[f"v{place}"], is_known = numbers.render(table, part, "v", source)
        known += is_known
        if not part.is_inserts:
            value, is_known = numbers.render(table, part, "o", source)
            columns[f"o{place}"] = _old(source, place, value)
            known += is_known
    if not part.is_inserts:
        columns.setdefault("o0", f"iif(b.kind < {Kind.RESOLVE:d}, NULL, b.o0)")
    for place, default in target.defaults:
        columns[f"v{place}"] = (
            f"CASE WHEN {part.read('kind')} IN ({Kind.INSERT:d}, {Kind.RESOLVE:d}) THEN {default} END"
        )
    return database.execute(
        f"INSERT {'OR IGNORE ' if is_again else ''}INTO main.sync_operations ({commas(columns)}) "
        f"SELECT {commas(columns.values())} FROM {new_in(part)}{known}"
    ).rowcount


_BASE = (
    "CASE WHEN b.base = 0 THEN 0 WHEN b.base IS NOT NULL THEN b.base + (SELECT m.shift FROM temp.sync_incoming AS m "
    f"WHERE m.bundle_ordinal = -((b.base - 1) >> {ORDINAL_SHIFT})) END"
)


def _require_ascending_clocks(database: Database) -> None:
    """Require that no new operation is before an earlier one of its device in the total order.

    Here and not when the bundle is verified: in the log each operation stands next to the one before it.
    """
    backwards = database.one(
        "SELECT 1 FROM temp.sync_incoming AS d CROSS JOIN main.sync_operations AS a NOT INDEXED "
        "ON a.op BETWEEN d.low + d.shift - 1 AND d.high + d.shift - 1 "
        "CROSS JOIN main.sync_operations AS b ON b.op = a.op + 1 WHERE d.low <= d.high AND b.hlc < a.hlc LIMIT 1"
    )
    if backwards:
        msg = "a clock runs backwards"
        raise InvalidError(msg)


def _defaults(here: Table | None, table: TableDescription) -> list[tuple[int, str]]:
    """Return (position, literal) of columns that only this device has, as ALTER TABLE ADD COLUMN fills them."""
    if here is None:
        return []
    sent = {fold(name) for name, _ in table.columns}
    missing = [column for column in here.columns if fold(column.name) not in sent]
    return [(column.position, column.default) for column in missing if column.default and is_literal(column.default)]
