"""SQL as applications write it: tables of many kinds, and statements on them, for promise 9."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from sqlite_sync import RawText


@dataclass(frozen=True)
class Table:
    """A table, its key, and its other columns that hold data."""

    sql: str
    name: str
    key: tuple[str, ...]
    payload: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that hold data: not those that are generated."""
        return (*self.key, *self.payload)

    def row_key(self, image: Mapping[str, object]) -> tuple[object, ...]:
        """Name a row by its key as SQLite compares it: 1 is 1.0, text is not bytes, and `source` is NOCASE."""
        return tuple(_key_part(image[name], is_nocase=name == "source") for name in self.key)


def _key_part(value: object, *, is_nocase: bool) -> object:
    if isinstance(value, str | RawText):
        stored = value.encode() if isinstance(value, str) else bytes(value)
        return "text", stored.lower() if is_nocase else stored
    return value


TABLES = (
    Table(
        "CREATE TABLE notes (id TEXT PRIMARY KEY, title TEXT, score REAL, anything, done INTEGER DEFAULT 0)",
        "notes", ("id",), ("title", "score", "anything", "done"),
    ),
    Table(
        'CREATE TABLE links (source TEXT COLLATE NOCASE, target, weight NUMERIC, "odd ""name" BLOB, '
        "shown AS (source || target), PRIMARY KEY (source, target)) WITHOUT ROWID",
        "links", ("source", "target"), ("weight", 'odd "name'),
    ),
    Table("CREATE TABLE counters (id INTEGER PRIMARY KEY, name, n INTEGER)", "counters", ("id",), ("name", "n")),
    Table(
        "CREATE TABLE members (id TEXT PRIMARY KEY, email UNIQUE, nick COLLATE NOCASE, UNIQUE (nick))",
        "members", ("id",), ("email", "nick"),
    ),
    Table(
        'CREATE TABLE "select" (id ANY PRIMARY KEY, '
        "member TEXT REFERENCES members (id) ON DELETE CASCADE ON UPDATE SET NULL) STRICT",
        "select", ("id",), ("member",),
    ),
)  # fmt: skip

KEYS = ["'a'", "'b'", "'A'", "1", "1.0", "2", "x'62'", "'é'"]
VALUES = [
    "NULL", "0", "1", "1.0", "2", "-1", "'1'", "'1.0'", "x'31'", "''", "x''", "'a'", "'A'", "'a '", "'b'", "'it''s'",
    "0.1 + 0.2", "5e-324", "1e308", "9e999", "-9e999", "9007199254740993", "9007199254740992.0", "9223372036854775807",
    "-9223372036854775808", "9223372036854775808", "CAST(x'610062' AS TEXT)", "CAST(x'61ff' AS TEXT)", "'é'", "'🜁'",
    "'e\u0301'", "x'00ff'", "zeroblob(3)", "'1e3'",
]  # fmt: skip
TEMPLATES = [
    "INSERT INTO notes (id, title, score, anything) VALUES ({key}, {one}, {other}, {one})",
    "INSERT INTO notes (id, done) VALUES ({key}, {one}), ({other}, {key})",
    "INSERT OR REPLACE INTO notes (id, anything) VALUES ({key}, {one})",
    "INSERT OR IGNORE INTO notes (id, score) VALUES ({key}, {one}), ({key}, {other})",
    "INSERT INTO notes (id, done) VALUES ({key}, {one}) ON CONFLICT DO UPDATE SET done = {other}, title = {one}",
    "UPDATE notes SET title = {one}, anything = {other} WHERE id = {key}",
    "UPDATE notes SET score = {one}, done = {other} WHERE id <> {key} RETURNING *",
    "UPDATE notes SET title = title, anything = anything",
    "UPDATE notes SET anything = few.n FROM (SELECT {one} AS n) AS few WHERE id = {key}",
    "UPDATE OR REPLACE notes SET id = {one} WHERE id = {key}",
    "UPDATE OR IGNORE notes SET id = upper(id), title = {one}",
    "DELETE FROM notes WHERE id = {key}",
    "DELETE FROM notes WHERE anything IS {one} RETURNING id",
    "WITH few AS (SELECT * FROM notes LIMIT 2) REPLACE INTO notes SELECT id || {key}, title, score, {one}, 1 FROM few",
    'INSERT INTO links (source, target, weight, "odd ""name") VALUES ({key}, {other}, {one}, {one})',
    "REPLACE INTO links (source, target, weight) VALUES ({key}, {other}, {one})",
    'UPDATE links SET weight = {one}, "odd ""name" = {other} WHERE source = {key}',
    "UPDATE OR REPLACE links SET target = {one} WHERE source = {key}",
    "UPDATE OR IGNORE links SET source = lower(source), target = {one}",
    "DELETE FROM links WHERE source = {key}",
    "DELETE FROM links",
    "INSERT INTO counters (name, n) VALUES ({one}, {other}), ({key}, 1)",
    "INSERT OR REPLACE INTO counters VALUES ({key}, {one}, {other})",
    "UPDATE counters SET n = n + 1, name = {one}",
    "UPDATE OR REPLACE counters SET id = id + 1",
    "UPDATE counters SET id = -id",
    "UPDATE counters SET rowid = {one} WHERE _rowid_ = {key}",
    "DELETE FROM counters WHERE id > {key}",
    "INSERT INTO members VALUES ({key}, {one}, {other})",
    "INSERT OR REPLACE INTO members VALUES ({key}, {one}, {other})",
    "UPDATE OR REPLACE members SET email = {one} WHERE id = {key}",
    "UPDATE OR REPLACE members SET id = {other}, nick = {one} WHERE id = {key}",
    "UPDATE members SET email = (SELECT max(email) FROM members) WHERE id = {key}",
    "UPDATE OR IGNORE members SET nick = {one}",
    "DELETE FROM members WHERE id = {key}",
    'INSERT OR REPLACE INTO "select" VALUES ({key}, {one}), ({other}, {key})',
    'UPDATE OR REPLACE "select" SET id = {one}, member = {key} WHERE id IS NOT {other}',
    'DELETE FROM "select" WHERE member = {key}',
]  # fmt: skip
CONTROL = [
    "BEGIN", "COMMIT", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "RELEASE s",
    "PRAGMA recursive_triggers = 1", "PRAGMA recursive_triggers = 0",
]  # fmt: skip


def scripts(most: int) -> st.SearchStrategy[list[str]]:
    """Draw statements; one may fail, by a constraint or for want of a transaction. Four bytes make one, or none."""

    def decode(drawn: bytes) -> list[str]:
        quadruples = [drawn[place : place + 4] for place in range(0, len(drawn), 4)]
        return [_statement(*quadruple) for quadruple in quadruples if quadruple[0]]

    return st.binary(min_size=4 * most, max_size=4 * most).map(decode)


def _statement(kind: int, key: int, one: int, other: int) -> str:
    template = [*TEMPLATES, *CONTROL][kind % (len(TEMPLATES) + len(CONTROL))]
    return template.format(
        key=KEYS[key % len(KEYS)],
        one=VALUES[one % len(VALUES)],
        other=[*KEYS, *VALUES][other % (len(KEYS) + len(VALUES))],
    )
