"""What the facts on a table mean for its sync: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlite_sync import bookkeeping
from sqlite_sync.anatomy import Facts, Reference
from sqlite_sync.app_triggers import AppTrigger
from sqlite_sync.catalog import Entry
from sqlite_sync.findings import Finding
from sqlite_sync.guesses import Guess
from sqlite_sync.indexes import UniqueIndex
from sqlite_sync.tables import MAX_COLUMNS, Table, commas, fold, is_ours

WIDE = 30  # columns: above, every operation on any table pays for this one
_NUMBERS = {"INTEGER", "REAL", "NUMERIC"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The other tables: which are enabled, which can be synced (all folded), and what was found out across tables."""

    enabled: Mapping[str, Entry]
    possible: Collection[str]
    triggers: Mapping[str, Sequence[AppTrigger]]  # by folded table
    guesses: Mapping[str, Sequence[Guess]]


def of_table(facts: Facts, around: Surroundings) -> Iterator[Finding]:
    """Say what a table is, and what to know before, or while, it is synced."""
    yield _what(facts, is_enabled=fold(facts.name) in around.enabled)
    yield from _needs(facts)
    yield from _bookkeeping(facts)
    if facts.type != "table":
        return
    if facts.table is not None:
        yield from _key(facts, facts.table, around.enabled.get(fold(facts.name)))
        yield from _uniques(facts.table)
    yield from _shape(facts)
    for reference in facts.references:
        yield from _reference(facts, reference, around)
    for guess in around.guesses.get(fold(facts.name), ()):
        yield from _guess(guess, around.enabled.get(fold(facts.name)))
    for trigger in around.triggers.get(fold(facts.name), ()):
        yield from _trigger(trigger)


def _what(facts: Facts, *, is_enabled: bool) -> Finding:
    if facts.type == "view":
        return Finding("note", "view", "a view has no rows of its own", "sync the tables that it reads")
    if facts.type == "virtual":
        return Finding("note", "virtual", "a virtual table cannot be synced", "sync the table that feeds it")
    if facts.type == "shadow":
        return Finding("note", "shadow", "it belongs to a virtual table, which maintains it")
    if facts.table is None:
        return _obstacle(facts)
    columns = f"{len(facts.columns)} column{'' if len(facts.columns) == 1 else 's'}"
    how = "is synced" if is_enabled else "can be synced"
    return Finding("ok", "table", f"{how}: rows are known by {commas(facts.key)}; {columns}")


def _obstacle(facts: Facts) -> Finding:
    if not facts.key and facts.columns and not is_ours(facts.name):
        remedy = "give it one; a rowid is none, since every device numbers its own"
        return Finding("error", "no-key", "cannot be synced: no primary key, so its rows have no identity", remedy)
    if is_ours(facts.name):
        return Finding(
            "error", "reserved-name", "cannot be synced: sqlite_sync keeps such names for itself", "rename it"
        )
    message, _, remedy = (facts.obstacle or "").rpartition(": ")
    return Finding("error", "cannot", f"cannot be synced: {message or remedy}", remedy if message else None)


def _bookkeeping(facts: Facts) -> Iterator[Finding]:
    tool = bookkeeping.migration_tool(facts.name, facts.columns)
    if tool:
        remedy = "leave it out, and run migrations that drop columns by `sqlite-sync migrate DB COMMAND`"
        yield Finding("warning", "migrations", bookkeeping.reason(tool), remedy)


def _needs(facts: Facts) -> Iterator[Finding]:
    if facts.unreadable:
        message = f"this connection cannot read it ({facts.unreadable})"
        yield Finding("warning", "unreadable", message, "open the file as the application does: connect=...")
    for need in facts.needs:
        what = f"the {need.what} {need.name}, which only the application has"
        if need.is_here:
            yield Finding("note", "application-only", f"uses {what} (and this connection)")
        else:
            yield Finding(
                "warning",
                "application-only",
                f"uses {what}: the application goes on as before, but what needs it fails on this connection",
                "sync from Python with SyncEngine(path, connect=...), which registers it; not from the command line",
            )


def _key(facts: Facts, table: Table, entry: Entry | None) -> Iterator[Finding]:
    referring = {fold(column) for reference in facts.references for column in reference.columns}
    [first, *more] = table.key
    if first.affinity == "INTEGER" and not more and fold(first.name) not in referring:
        yield _numbered(first.name, entry, can_be_mapped=table.has_rowid_key)
    for own in facts.own_collations:
        yield Finding(
            "note",
            "own-collation",
            f"the primary key compares {own.column} by {own.in_key}, the column itself by {own.in_column}: "
            "rows are told apart as the primary key does",
        )
    loose = [c for c in table.key if c.collation.upper() != "BINARY" and not table.has_rowid_key]
    if loose:
        names = commas(f"{c.name} ({c.collation})" for c in loose)
        yield Finding("note", "key-collation", f"keys that this collation takes for equal are one row: {names}")


def _numbered(column: str, entry: Entry | None, *, can_be_mapped: bool) -> Finding:
    """Say what it means that rows are numbered."""
    untranslated = "numbers inside texts, JSON and URLs do not"
    if entry is not None and entry.is_mapped:
        message = f"{column} is mapped: each device has numbers of its own, and references follow; {untranslated}"
        return Finding("note", "integer-key", message)
    if entry is None and can_be_mapped:
        message = (
            f"the key {column} is a number that each device gives out by itself: it will be mapped, so that both can "
            f"insert the next row, and declared references follow; {untranslated}"
        )
        return Finding("note", "integer-key", message, 'keys="natural" where the numbers mean something, as codes do')
    message = (
        f"the key {column} is a number: two devices that both insert the next row give one number to two rows, "
        "which is an insert/insert conflict"
    )
    remedy = "mapped keys" if can_be_mapped else "use UUIDs as keys"
    return Finding("warning", "integer-key", message, f"{remedy}, or insert on one device only")


def _uniques(table: Table) -> Iterator[Finding]:
    for index in table.uniques:
        yield Finding(
            "warning",
            "unique",
            f"UNIQUE {_words(index)}: two devices can each give one value to another row; the later one stands "
            "then, and the other is parked",
            "agree who gives out these values, or resolve such conflicts when an import opens them",
        )


def _words(index: UniqueIndex) -> str:
    terms = commas(term.column or term.sql for term in index.terms)
    return f"({terms})" + (f" WHERE {index.where}" if index.where else "")


def _shape(facts: Facts) -> Iterator[Finding]:
    if facts.checks:
        yield Finding(
            "note", "check", f"{facts.checks} CHECK: keep the same ones on every device, or rows will be parked"
        )
    if facts.generated:
        yield Finding("note", "generated", f"not captured, computed on each device: {commas(facts.generated)}")
    if WIDE < len(facts.columns) <= MAX_COLUMNS:
        yield Finding(
            "warning",
            "wide",
            f"{len(facts.columns)} columns: every operation on any table takes 2 bytes for each of them",
            "leave it out, or accept a larger log",
        )
    if fold(facts.name) in ("new", "old"):
        yield Finding(
            "warning",
            "name",
            f"in a trigger that updates this table, SQLite takes {facts.name.upper()}.x for its own column x",
            "rename it, or see to it that no trigger of the application updates it",
        )


def _reference(facts: Facts, reference: Reference, around: Surroundings) -> Iterator[Finding]:
    columns, parent = commas(reference.columns), fold(reference.parent)
    where = f"FOREIGN KEY ({columns}) to {reference.parent}"
    if not reference.has_parent:
        yield Finding("warning", "foreign-key", f"{where}, a table that is not there", "create it, or drop the key")
        return
    if parent not in around.possible:
        remedy = f"make {reference.parent} a table that can be synced, or fill it alike on every device"
        yield Finding("warning", "foreign-key", f"{where}, which cannot be synced: parents will be missing", remedy)
    elif fold(facts.name) in around.enabled and parent not in around.enabled:
        message = f"{where}, which is not enabled: rows that arrive without their parent are parked"
        yield Finding("warning", "foreign-key", message, f"enable {reference.parent} too")
    else:
        message = f"{where}: a row whose parent is deleted elsewhere at the same time is parked"
        others = [] if fold(facts.name) == parent else [facts.name]
        yield Finding("note", "foreign-key", message, f"sync {' and '.join([*others, reference.parent])}")
    for child, one, target, other in reference.affinities:
        if (one in _NUMBERS) != (other in _NUMBERS):
            yield Finding(
                "note",
                "foreign-key-type",
                f"{child} is {one}, {reference.parent}.{target} is {other}: SQLite converts the old value on its way "
                "into triggers; keys are captured right all the same, at the cost of a note for each delete",
                "give both columns one type",
            )
    if reference.orphans:
        yield Finding(
            "warning",
            "orphans",
            f"{where}: rows whose parent is not there: {reference.orphans:,}; on every device they will stand so",
            "PRAGMA foreign_key_check lists them: add the parent, or delete the row or the reference",
        )
    elif not reference.is_key:
        message = f"{where}, whose columns are no key there: SQLite refuses writes while foreign_keys is on"
        yield Finding("warning", "foreign-key-mismatch", message, "make the parent's columns PRIMARY KEY or UNIQUE")


def _guess(guess: Guess, entry: Entry | None) -> Iterator[Finding]:
    why = "by its name" if guess.by_name else "by its values"
    looks = f"{guess.column} looks, {why}, like a reference to {' or '.join(guess.parents)} that is not declared"
    if not guess.is_number:
        remedy = f"declare it (REFERENCES {guess.parents[0]}), or see to it that such rows keep their keys"
        yield Finding("note", "reference", f"{looks}: no import looks after it, and its row can be gone", remedy)
    elif entry is None or not entry.is_translated(guess.column):
        column, parent = f"{guess.table}.{guess.column}", guess.parents[0]
        yield Finding(
            "warning",
            "reference",
            f"{looks}: it is not translated, so on another device its number can mean another row",
            f'if it is one, enable {guess.table} with references={{"{column}": "{parent}"}} '
            f"(--reference {column}={parent})",
        )


def _trigger(trigger: AppTrigger) -> Iterator[Finding]:
    writes = commas(trigger.writes) or "nothing that could be seen"
    fires = "fires" if trigger.fires else "does not fire"
    message = f"trigger {trigger.name} writes {writes}: {fires} on import ({trigger.reason})"
    if trigger.is_undecided:
        yield Finding("warning", "trigger", message, f"decide: sqlite-sync trigger DB {trigger.name} fires|silent")
    else:
        yield Finding("note", "trigger", message)
    if fold(trigger.table_name) in trigger.writes:
        yield Finding(
            "note",
            "recursive-trigger",
            f"trigger {trigger.name} writes its own table: where recursive_triggers is on it fires again, so programs "
            "with another setting write other rows",
            "use one setting of recursive_triggers in all programs",
        )
