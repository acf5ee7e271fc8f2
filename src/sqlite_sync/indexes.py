"""The UNIQUE indexes of a user's table: what rows must not share.

SQLite names the columns of an index, but not its expressions, nor the condition of a partial one; these are cut out
of the index's own text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sqlite_sync.database import Database

_EXPRESSION = -2
_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|\w+|\s+|.""", re.DOTALL
)
_DIRECTION = re.compile(r"\s+(asc|desc)\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Term:
    """What a UNIQUE index looks at: a column, or (`column` is None) an expression."""

    column: str | None
    sql: str
    collation: str


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """A UNIQUE index or constraint beside the primary key; `where` is its condition if it is partial."""

    terms: tuple[Term, ...]
    where: str | None


def read(database: Database, table: str) -> tuple[UniqueIndex, ...]:
    """Read the UNIQUE indexes of a table, its primary key left out."""
    rows = database.execute(
        "SELECT name FROM pragma_index_list(?, 'main') WHERE \"unique\" AND origin <> 'pk' ORDER BY name", (table,)
    )
    return tuple(_read(database, name) for (name,) in rows.fetchall())


def _read(database: Database, name: str) -> UniqueIndex:
    rows = database.execute(
        "SELECT cid, name, coll FROM pragma_index_xinfo(?, 'main') WHERE key = 1", (name,)
    ).fetchall()
    text = database.one("SELECT sql FROM main.sqlite_schema WHERE type = 'index' AND name = ?", (name,))
    expressions, where = split(text) if text else ([], None)
    terms = [
        Term(None, f"({_DIRECTION.sub('', expressions[place])})", collation)
        if cid == _EXPRESSION
        else Term(column if cid >= 0 else "rowid", "", collation)
        for place, (cid, column, collation) in enumerate(rows)
    ]
    return UniqueIndex(tuple(terms), where)


def split(sql: str) -> tuple[list[str], str | None]:
    """Cut `CREATE INDEX ... ON table (term, term) WHERE condition` into its terms and its condition."""
    terms, depth, end = [""], 0, 0
    for part, stop in _located(sql):
        depth += {"(": 1, ")": -1}.get(part, 0)
        if depth == 0 and part == ")":
            end = stop
            break
        if depth == 1 and part == ",":
            terms.append("")
        elif depth > 1 or (depth == 1 and part != "("):
            terms[-1] += part
    condition = "".join(tokens(sql[end:])).strip()
    where = f"({condition[len('where') :].strip()})" if condition.lower().startswith("where") else None
    return [term.strip() for term in terms], where


def tokens(sql: str) -> list[str]:
    """Cut a statement into its tokens; a comment is a space."""
    return [part for part, _ in _located(sql)]


def _located(sql: str) -> Iterator[tuple[str, int]]:
    """Yield the tokens of a statement, without comments, each with where it ends."""
    for found in _TOKEN.finditer(sql):
        part = found.group()
        yield (" " if part.startswith(("--", "/*")) else part), found.end()
