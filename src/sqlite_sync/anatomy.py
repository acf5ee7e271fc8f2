"""The application's tables and views as facts, for the doctor; reads only, and needs nothing of ours in the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from sqlite_sync import app_triggers, indexes, reconciler, schema, tables
from sqlite_sync.app_triggers import Scratch
from sqlite_sync.database import Database
from sqlite_sync.errors import TableError
from sqlite_sync.tables import Table, fold, is_ours, quote


@dataclass(frozen=True, slots=True)
class Reference:
    """A declared foreign key; `orphans` counts the rows whose parent is missing, None where that cannot be told.

    `is_key` says whether the parent's columns are a key, as they must be.
    """

    columns: tuple[str, ...]
    parent: str
    has_parent: bool
    affinities: tuple[tuple[str, str, str, str], ...]  # child column, its affinity, parent column, its affinity
    is_key: bool
    orphans: int | None


@dataclass(frozen=True, slots=True)
class OwnCollation:
    """A key column that the PRIMARY KEY compares otherwise than the column itself."""

    column: str
    in_key: str
    in_column: str


@dataclass(frozen=True, slots=True)
class Need:
    """A function, collation or module that only the application has; `is_here`: this connection has it too."""

    what: str
    name: str
    is_here: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What a table or view is; `table` is its shape where it can be synced, else `obstacle` says why it cannot."""

    name: str
    type: str  # as in PRAGMA table_list: table, view, virtual, shadow
    is_strict: bool
    is_without_rowid: bool
    columns: tuple[str, ...]
    generated: tuple[str, ...]
    key: tuple[str, ...]
    table: Table | None
    obstacle: str | None
    own_collations: tuple[OwnCollation, ...]
    checks: int
    references: tuple[Reference, ...]
    needs: tuple[Need, ...]
    unreadable: str | None  # why this connection cannot read it

    @property
    def kind(self) -> str:
        """What it is, for people."""
        words = {"view": "view", "virtual": "virtual table", "shadow": "shadow table of a virtual table"}
        features = [("STRICT", self.is_strict), ("WITHOUT ROWID", self.is_without_rowid)]
        return words.get(self.type) or " ".join([word for word, has in features if has] + ["table"])


def read(database: Database) -> list[Facts]:
    """Read the facts on every table and view of the application."""
    rows = database.execute(
        "SELECT name, type, wr, strict FROM pragma_table_list WHERE schema = 'main' ORDER BY name"
    ).fetchall()
    is_prepared = schema.is_prepared(database)
    wanted = [row for row in rows if not (is_ours(row[0]) if is_prepared else row[0].lower().startswith("sqlite_"))]
    scratch = _compiled(database)
    try:
        needs = _needs(database, scratch)
        return [_facts(database, scratch, row, needs) for row in wanted]
    finally:
        scratch.close()


def _facts(database: Database, scratch: Scratch, row: tuple[str, str, int, int], needs: Sequence[Need]) -> Facts:
    name, kind, is_without_rowid, is_strict = row
    unreadable = _unreadable(database, name)
    columns = "SELECT name, pk, hidden FROM pragma_table_xinfo(?, 'main')"
    xinfo = [] if unreadable else database.execute(columns, (name,)).fetchall()
    table, obstacle = _shape(database, name)
    is_table = kind == "table"
    words = set(_words(database, name))
    keys = sorted((pk, column) for column, pk, _ in xinfo if pk)
    return Facts(
        name=name,
        type=kind,
        is_strict=bool(is_strict),
        is_without_rowid=bool(is_without_rowid),
        columns=tuple(column for column, _, hidden in xinfo if not hidden),
        generated=tuple(column for column, _, hidden in xinfo if is_table and hidden in (2, 3)),
        key=tuple(column for _, column in keys),
        table=table,
        obstacle=obstacle,
        own_collations=_own_collations(scratch, table) if table else (),
        checks=_checks(database, name) if is_table else 0,
        references=_references(database, name) if is_table else (),
        needs=tuple(need for need in needs if need.name.lower() in words),
        unreadable=unreadable,
    )


def _unreadable(database: Database, name: str) -> str | None:
    try:
        database.execute(f"EXPLAIN SELECT * FROM main.{quote(name)}").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    return None


def _shape(database: Database, name: str) -> tuple[Table | None, str | None]:
    try:
        table = tables.read(database, tables.find(database, name), 0, {})
        reconciler.require_keys(database, table)
    except (TableError, sqlite3.OperationalError) as error:
        return None, str(error)
    lacking = [c.collation for c in table.key if not _has(database, "collation sequence", c.collation)]
    if lacking:
        return None, f"its key needs the collation {lacking[0]}: open the file as the application does, connect=..."
    return table, None


def _references(database: Database, name: str) -> tuple[Reference, ...]:
    rows = database.execute(
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?, \'main\') ORDER BY id DESC, seq', (name,)
    ).fetchall()
    child = _affinities(database, name)
    found = []
    for number in dict.fromkeys(row[0] for row in rows):  # the last one is the first in the table's text
        mine = [row for row in rows if row[0] == number]
        parent = _affinities(database, mine[0][1])
        key = [column for _, column in sorted((pk, column) for column, (_, pk) in parent.items() if pk)]
        targets = [target or (key[i] if i < len(key) else "") for i, (*_, target) in enumerate(mine)]
        pairs = [(source, target) for (_, _, source, _), target in zip(mine, targets, strict=True)]
        is_key = bool(parent) and _is_key(database, mine[0][1], targets)
        found.append(
            Reference(
                columns=tuple(source for source, _ in pairs),
                parent=mine[0][1],
                has_parent=bool(parent),
                affinities=tuple(
                    (source, child[fold(source)][0], target, parent[fold(target)][0])
                    for source, target in pairs
                    if fold(target) in parent
                ),
                is_key=is_key,
                orphans=_orphans(database, name, mine[0][1], pairs) if is_key else None,
            )
        )
    return tuple(found)


def _is_key(database: Database, parent: str, columns: Sequence[str]) -> bool:
    """Tell whether SQLite can look up a parent: its columns are the primary key, or a UNIQUE index on all rows."""
    wanted = sorted(map(fold, columns))
    key = database.execute("SELECT name FROM pragma_table_xinfo(?, 'main') WHERE pk", (parent,)).fetchall()
    if sorted(fold(name) for (name,) in key) == wanted:
        return True
    unique = "SELECT name FROM pragma_index_list(?, 'main') WHERE \"unique\" AND NOT partial"
    for (index,) in database.execute(unique, (parent,)).fetchall():
        terms = database.execute("SELECT coalesce(name, '') FROM pragma_index_info(?, 'main')", (index,)).fetchall()
        if sorted(fold(name) for (name,) in terms) == wanted:
            return True
    return False


def _orphans(database: Database, child: str, parent: str, pairs: Sequence[tuple[str, str]]) -> int | None:
    """Count the rows without their parent, as SQLite compares them: by the parent's affinity and collation."""
    given = " AND ".join(f"c.{quote(source)} IS NOT NULL" for source, _ in pairs)
    same = " AND ".join(f"p.{quote(target)} = +c.{quote(source)}" for source, target in pairs)
    try:
        count: int = database.one(
            f"SELECT count(*) FROM main.{quote(child)} AS c WHERE {given} AND NOT EXISTS "
            f"(SELECT 1 FROM main.{quote(parent)} AS p WHERE {same})"
        )
    except sqlite3.OperationalError:  # a collation that only the application has
        return None
    return count


def _affinities(database: Database, name: str) -> dict[str, tuple[str, int]]:
    """Return the columns of a table, folded: affinity, and place in the key."""
    rows = database.execute("SELECT name, type, pk FROM pragma_table_xinfo(?, 'main')", (name,)).fetchall()
    return {fold(column): (tables.affinity(declared), pk) for column, declared, pk in rows}


def _checks(database: Database, name: str) -> int:
    sql = database.one("SELECT sql FROM main.sqlite_schema WHERE type = 'table' AND name = ?", (name,))
    return sum(part.lower() == "check" for part, _ in indexes.tokens(sql or ""))


def _words(database: Database, name: str) -> list[str]:
    """List the words in all that is declared for a table: itself, its indexes and triggers."""
    rows = database.execute("SELECT sql FROM main.sqlite_schema WHERE tbl_name = ? AND sql IS NOT NULL", (name,))
    parts = [part for (sql,) in rows.fetchall() for part, _ in indexes.tokens(sql)]
    return [part.strip('"`[]').lower() for part in parts]


def _compiled(database: Database) -> Scratch:
    """Build the schema in memory and compile what writes each table there, so that nothing it needs stays hidden."""
    scratch = app_triggers.scratch_of(database)
    rows = database.execute(
        "SELECT sql FROM main.sqlite_schema WHERE type = 'trigger' AND name NOT LIKE 'sync\\_%' ESCAPE '\\'"
    )
    for (sql,) in rows.fetchall():
        app_triggers.attempt(scratch, sql)
    for (name,) in scratch.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')").fetchall():
        for sql in (f"SELECT * FROM {quote(name)}", *app_triggers.writing(scratch, name).values()):
            app_triggers.attempt(scratch, f"EXPLAIN {sql}")
    return scratch


def _needs(database: Database, scratch: Scratch) -> list[Need]:
    found = sorted((what, name.rstrip("()")) for what, name in scratch.stand_ins)
    return [Need(what.removesuffix(" sequence"), name, _has(database, what, name)) for what, name in found]


def _has(database: Database, what: str, name: str) -> bool:
    """Tell whether the application has registered something on this connection."""
    if what == "collation sequence":  # PRAGMA collation_list has those that are only named, too
        try:
            database.execute(f"SELECT 'a' < 'b' COLLATE {quote(name)}")
        except sqlite3.OperationalError:
            return False
        return True
    return any(row[0].lower() == name.lower() for row in database.execute(f"PRAGMA {what}_list"))


def _own_collations(scratch: Scratch, table: Table) -> tuple[OwnCollation, ...]:
    """Compare the collations of the key with those of its columns, which an index on a column takes over."""
    found = []
    for column in table.key:
        if not app_triggers.attempt(scratch, f"CREATE INDEX sync_probe ON {quote(table.name)} ({column.sql})"):
            continue
        [own] = [row[4] for row in scratch.execute("PRAGMA index_xinfo(sync_probe)") if row[5]]
        scratch.execute("DROP INDEX sync_probe")
        if own.upper() != column.collation.upper() and not table.has_rowid_key:
            found.append(OwnCollation(column.name, column.collation, own))
    return tuple(found)
