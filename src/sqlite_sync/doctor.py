"""What a file is, before anything is enabled; whether sync is intact, after. Changes nothing in either."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sqlite_sync import anatomy, app_triggers, audit, capture, catalog, conflicts, guesses, hazards, schema, status
from sqlite_sync.anatomy import Facts
from sqlite_sync.app_triggers import AppTrigger
from sqlite_sync.database import Database, read_only
from sqlite_sync.errors import DatabaseError, SchemaError
from sqlite_sync.findings import Diagnosis, Finding, TableDiagnosis
from sqlite_sync.hazards import Surroundings
from sqlite_sync.tables import commas, fold


def diagnose(file: str | Path | sqlite3.Connection, *, deep: bool = False) -> Diagnosis:
    """Say what a file's tables are, whether and how each can be synced, and what to mind; writes not a byte to it.

    Works on a file that was never initialized. A path is opened read-only. A connection of the application's, with the
    collations and functions that only it has, is used as it is. `deep` also checks the log, and each table against it.
    """
    if not isinstance(file, sqlite3.Connection):
        path = Path(file)
        if not path.is_file():
            msg = f"{path}: no such file"
            raise DatabaseError(msg)
        database = Database(path, read_only, 0.0)
        try:
            return _guarded(database, deep=deep)
        finally:
            database.connection.close()
    isolation, factory = file.isolation_level, file.row_factory
    [path_text] = [row[2] for row in file.execute("PRAGMA database_list").fetchall() if row[1] == "main"]
    database = Database(Path(path_text or ":memory:"), lambda _: file, 0.0)
    try:
        return _guarded(database, deep=deep)
    finally:
        file.isolation_level, file.row_factory = isolation, factory


def _guarded(database: Database, *, deep: bool) -> Diagnosis:
    with database.guarded():
        return read(database, deep=deep)


def read(database: Database, *, deep: bool) -> Diagnosis:
    """Diagnose an open file, in one state of it."""
    with database.snapshot():
        is_prepared = schema.is_prepared(database)
        lost = schema.lost_tables(database) if is_prepared else []
        everything = anatomy.read(database)
        entries = catalog.entries(database) if is_prepared and not lost else []
        around = _surroundings(database, everything, entries)
        kept = {fold(entry.name): entry for entry in entries}
        tables = tuple(_table(database, facts, around, kept.get(fold(facts.name)), deep=deep) for facts in everything)
        findings = _file(database, lost, entries, everything)
        if deep and is_prepared and not lost:
            findings += audit.log(database)
        return Diagnosis(database.path, is_prepared, deep, tuple(findings), tables)


def _surroundings(database: Database, everything: Sequence[Facts], entries: Iterable[catalog.Entry]) -> Surroundings:
    enabled = {fold(entry.name): entry for entry in entries if entry.is_enabled}
    possible = {fold(facts.name) for facts in everything if facts.table is not None}
    triggers = defaultdict[str, list[AppTrigger]](list)
    for trigger in app_triggers.decide(database, enabled):
        triggers[fold(trigger.table_name)].append(trigger)
    for trigger in app_triggers.decide(database, {*enabled, *possible}):  # as it would be with every table enabled
        if fold(trigger.table_name) not in enabled:
            triggers[fold(trigger.table_name)].append(trigger)
    guessed = defaultdict[str, list[guesses.Guess]](list)
    for guess in guesses.read(database, everything):
        guessed[fold(guess.table)].append(guess)
    return Surroundings(enabled, possible, triggers, guessed)


def _table(
    database: Database, facts: Facts, around: Surroundings, entry: catalog.Entry | None, *, deep: bool
) -> TableDiagnosis:
    findings = [*hazards.of_table(facts, around)]
    if entry is not None:
        findings += _kept(database, entry, deep=deep)
    return TableDiagnosis(
        name=facts.name,
        kind=facts.kind,
        key=facts.key,
        columns=len(facts.columns),
        is_enabled=entry is not None and entry.is_enabled,
        can_be_synced=facts.table is not None,
        findings=tuple(findings),
    )


def _kept(database: Database, entry: catalog.Entry, *, deep: bool) -> Iterator[Finding]:
    """Say whether an enabled table is captured, and what waits on it."""
    held = database.one(
        "SELECT count(*) FROM main.sync_held AS h CROSS JOIN main.sync_operations AS o "
        "ON o.op BETWEEN h.low AND h.high "
        "AND o.table_no = h.table_no WHERE h.table_no = ?",
        (entry.number,),
    )
    if held:
        remedy = None if entry.is_enabled else f"enable {entry.name}"
        yield Finding("warning", "held", f"{held:,} operations of other devices are held", remedy)
    if not entry.is_enabled:
        return
    try:
        shape = catalog.shape(database, entry)
    except SchemaError as error:
        yield Finding("error", "schema", str(error))
        return
    problem = capture.problem(database, shape)
    if problem:
        yield Finding("error", "capture", problem, f"reconcile {entry.name}; the next exchange does so too")
    else:
        yield Finding("ok", "capture", "capture is intact: each trigger as it must be, and before the application's")
    foreign = [name for name in entry.columns if fold(name) not in {fold(c.name) for c in shape.columns}]
    if foreign:
        message = f"only other devices, or older operations, have {commas(foreign)}: its values stay in the log"
        yield Finding("note", "columns", message, "they appear when this device's table gets the column")
    still_open = len(conflicts.listed(database, entry.name))
    if still_open:
        yield Finding("warning", "conflicts", f"open conflicts: {still_open:,}", "`sqlite-sync resolve` closes them")
    if deep:
        yield audit.table(database, entry, shape)


def _file(
    database: Database, lost: Sequence[str], entries: Sequence[catalog.Entry], everything: Sequence[Facts]
) -> list[Finding]:
    """Say what concerns the file as a whole."""
    found = []
    encoding = database.one("PRAGMA encoding")
    if encoding != "UTF-8":
        message = (
            f"stores text as {encoding}: a bundle with a text that this cannot hold (no valid UTF-8, U+FFFE, U+FFFF) "
            "is refused"
        )
        found.append(
            Finding("note", "encoding", message, "if you meet one, convert it to UTF-8: .dump into a new file")
        )
    if not schema.is_prepared(database):
        taken = schema.taken_names(database)
        if taken:
            message = f"already has {commas(taken)}, names that sqlite_sync needs"
            found.append(Finding("error", "names", message, "rename them in the application"))
        return found
    if lost:
        message = f"has lost {commas(lost)}, which sqlite_sync keeps there: another program removed it"
        return [*found, Finding("error", "lost-tables", message, "restore a backup, or begin anew with a copy")]
    problem = status.log_problem(database)
    if problem:
        found.append(Finding("error", "log-laws", problem, "reconcile puts it back; --deep looks what was changed"))
    here = {fold(facts.name) for facts in everything if facts.type == "table"}
    return found + [_absent(entry) for entry in entries if fold(entry.name) not in here]


def _absent(entry: catalog.Entry) -> Finding:
    if entry.is_enabled:
        message = f"the synced table {entry.name} is not there any more"
        return Finding("error", "absent", message, f"bring it back, or disable {entry.name}")
    message = f"other devices sync {entry.name}, which is not here: its operations are held"
    return Finding("note", "absent", message, f"create it as the application does, then enable {entry.name}")
