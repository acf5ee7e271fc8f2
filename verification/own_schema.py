"""The user's own schema, from his SQL or from his database, which is only read."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlite_sync import SyncEngine
from sqlite_sync.database import read_only
from verification.subject import Collate, Later, Subject, first, quote, read

ROWS = 15  # of each table, and the rows that these refer to
MOST_ROWS = 60
LATER = "added_by_verification"
_COLLATE = re.compile(r"""COLLATE\s+["`\[]?(\w+)""", re.IGNORECASE)
_NO_FUNCTION = re.compile(r"no such function: (\w+)")
_BUILT_IN = {"BINARY", "NOCASE", "RTRIM"}


class UnusableError(Exception):
    """A schema that cannot be used; the message says why."""


def _ignoring_case(one: str, other: str) -> int:
    return (one.lower() > other.lower()) - (one.lower() < other.lower())


@dataclass
class _Builder:
    """Builds a template; what only the application has gets a stand-in, which is named."""

    template: Path
    collations: dict[str, Collate] = field(default_factory=dict)
    functions: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def connect(self) -> sqlite3.Connection:
        return self.connect_to(self.template)

    def connect_to(self, path: Path) -> sqlite3.Connection:
        return Subject(path, (), collations=self.collations, functions=frozenset(self.functions)).connect(path)

    def note_collations(self, sql: str) -> None:
        for name in {found.upper(): found for found in _COLLATE.findall(sql)}.values():
            if name.upper() not in _BUILT_IN and name not in self.collations:
                self.collations[name] = _ignoring_case
                self.notes.append(f"collation {name}: only the application has it; one that ignores case stands in")

    def build(self, fill: Callable[[sqlite3.Connection], None]) -> None:
        """Fill the template, again from the start when a function turns out to be missing."""
        while True:
            self.template.unlink(missing_ok=True)
            try:
                with closing(self.connect()) as connection:
                    fill(connection)
                    _compile(connection)
            except sqlite3.Error as error:
                missing = _NO_FUNCTION.search(str(error))
                if missing is None or missing[1] in self.functions:
                    raise
                self.functions.add(missing[1])
                self.notes.append(
                    f"function {missing[1]}(): only the application has it; one that returns its first argument "
                    "stands in"
                )
            else:
                return


def _compile(connection: sqlite3.Connection) -> None:
    """Let SQLite compile what may fire or be checked in a write, so that a function which is missing shows now."""
    tables = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
    ).fetchall()
    for (name,) in tables:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({quote(name)})")]
        update = ", ".join(f"{quote(column)} = {quote(column)}" for column in columns)
        for verb in ("INSERT INTO {} DEFAULT VALUES", f"UPDATE {{}} SET {update}", "DELETE FROM {}"):
            try:
                connection.execute(f"EXPLAIN {verb.format(quote(name))}").fetchall()
            except sqlite3.OperationalError as error:
                if _NO_FUNCTION.search(str(error)):
                    raise


def from_script(path: Path, folder: Path) -> Subject:
    """Take the schema, and perhaps rows, from SQL."""
    try:
        sql = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read: {error}"
        raise UnusableError(msg) from error
    builder = _Builder(folder / "template.db")
    builder.note_collations(sql)
    try:
        builder.build(lambda connection: void(connection.executescript(sql)))
    except (sqlite3.Error, sqlite3.Warning) as error:
        msg = f"{path} is not SQL that this SQLite ({sqlite3.sqlite_version}) runs: {error}"
        raise UnusableError(msg) from error
    return _subject(path, builder)


def from_database(path: Path, folder: Path) -> Subject:
    """Take the schema and some rows from a database; it is opened read-only, and nothing is left beside it."""
    if not path.is_file():
        msg = f"{path}: no such file"
        raise UnusableError(msg)
    builder = _Builder(folder / "template.db")
    try:
        with closing(read_only(str(path))) as source:
            source.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
            [(sql,)] = source.execute("SELECT coalesce(group_concat(sql, ';'), '') FROM main.sqlite_schema")
            builder.note_collations(sql)
            for name, collate in builder.collations.items():
                source.create_collation(name, collate)
            builder.build(lambda connection: _copy(source, connection, builder))
    except sqlite3.Error as error:
        msg = f"{path} cannot be read: {error}"
        raise UnusableError(msg) from error
    return _subject(path, builder)


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, builder: _Builder) -> None:
    """Copy the schema, without what is ours, and some rows; triggers and views come last, so that none fires."""
    for name in builder.functions:
        source.create_function(name, -1, first, deterministic=True)
    [(is_prepared,)] = source.execute("SELECT count(*) FROM main.sqlite_schema WHERE name = 'sync_operations'")
    kinds = dict(source.execute("SELECT name, type FROM pragma_table_list WHERE schema = 'main'").fetchall())
    entries = source.execute(
        "SELECT type, name, sql FROM main.sqlite_schema WHERE sql IS NOT NULL "
        "ORDER BY type = 'view', type = 'trigger', type = 'index', rowid"
    ).fetchall()
    wanted = [
        (kind, name, sql)
        for kind, name, sql in entries
        if not name.lower().startswith("sqlite_")
        and not (is_prepared and name.lower().startswith("sync_"))
        and kinds.get(name) != "shadow"
    ]
    tables = [name for kind, name, _ in wanted if kind == "table" and kinds.get(name) == "table"]
    for kind, _, sql in wanted:
        if kind in ("table", "index"):
            target.execute(sql)
    for name, rows in _samples(source, tables).items():
        names = [row[1] for row in source.execute(f"PRAGMA table_xinfo({quote(name)})") if row[6] == 0]
        marks = ", ".join("?" * len(names))
        columns = ", ".join(map(quote, names))
        target.executemany(f"INSERT OR IGNORE INTO {quote(name)} ({columns}) VALUES ({marks})", rows)
    for kind, name, sql in wanted:
        if kinds.get(name) == "virtual":
            with suppress(sqlite3.Error):  # a full-text index of the copied rows
                target.execute(f"INSERT INTO {quote(name)} ({quote(name)}) VALUES ('rebuild')")
        if kind in ("view", "trigger"):
            target.execute(sql)


def _samples(source: sqlite3.Connection, tables: Iterable[str]) -> dict[str, list[tuple[object, ...]]]:
    """Read some rows of each table, and those that they refer to."""
    found: dict[str, dict[tuple[object, ...], None]] = {}
    names = {
        table: [row[1] for row in source.execute(f"PRAGMA table_xinfo({quote(table)})") if row[6] == 0]
        for table in tables
    }
    for table, columns in names.items():
        found[table] = dict.fromkeys(_rows(source, table, columns, f"LIMIT {ROWS}"))
    for _ in range(4):  # parents of parents
        for table, columns in names.items():
            images = [dict(zip(columns, row, strict=True)) for row in found[table]]
            for parent, pairs in _references(source, table):
                if parent in names and len(found[parent]) < MOST_ROWS:
                    for image in images:
                        found[parent] |= dict.fromkeys(_parents(source, parent, names[parent], pairs, image))
    return {table: list(rows) for table, rows in found.items()}


def _parents(
    source: sqlite3.Connection,
    parent: str,
    names: Iterable[str],
    pairs: Sequence[tuple[str, str]],
    image: Mapping[str, object],
) -> list[tuple[object, ...]]:
    """Read the row that a row refers to."""
    values = [image.get(column) for column, _ in pairs]
    if None in values:
        return []
    conditions = " AND ".join(f"{quote(target)} IS ?" for _, target in pairs)
    return _rows(source, parent, names, f"WHERE {conditions} LIMIT 1", values)


def _rows(
    source: sqlite3.Connection, table: str, names: Iterable[str], rest: str, values: Iterable[object] = ()
) -> list[tuple[object, ...]]:
    columns = ", ".join(map(quote, names))
    return source.execute(f"SELECT {columns} FROM {quote(table)} {rest}", tuple(values)).fetchall()


def _references(source: sqlite3.Connection, table: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    by_id: dict[int, list[tuple[str, str, str | None]]] = {}
    for row in source.execute(f"PRAGMA foreign_key_list({quote(table)})"):
        by_id.setdefault(row[0], []).append((row[2], row[3], row[4]))
    for pairs in by_id.values():
        parent = pairs[0][0]
        key = [row[1] for row in source.execute(f"PRAGMA table_info({quote(parent)})") if row[5]]
        targets = [target or "" for _, _, target in pairs]
        yield parent, list(zip([column for _, column, _ in pairs], targets if all(targets) else key, strict=False))


def _subject(path: Path, builder: _Builder) -> Subject:
    """Find out on a copy which tables can be synced."""
    trial = builder.template.with_name("trial.db")
    shutil.copyfile(builder.template, trial)
    with SyncEngine(trial, connect=lambda _: builder.connect_to(trial)) as engine:
        engine.initialize()
        enrolled = engine.enable_sync_for_all_tables(keys="natural")
        readable = engine.doctor()
        refused = dict(enrolled.refused) | {
            table.name: table.findings[0].message
            for table in readable.tables
            if not table.can_be_synced and table.findings and table.name not in enrolled.refused
        }
    if not enrolled.enabled:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items()) or "it has no tables"
        msg = f"{path}: nothing in it can be synced. {reasons}"
        raise UnusableError(msg)
    with closing(builder.connect()) as connection:
        tables = tuple(read(connection, name) for name in enrolled.enabled)
    return Subject(
        builder.template,
        tables,
        later=tuple(Later(table.name, LATER, "", None) for table in tables[:1]),
        refused=refused,
        collations=dict(builder.collations),
        functions=frozenset(builder.functions),
        notes=tuple(builder.notes),
    )


def void(_: object) -> None:
    """Forget a result."""
