"""A bundle and a file in UTF-16: SQLite attaches files of one encoding only, and a bundle is always in UTF-8.

So what is attached to such a file is a copy of the bundle in its encoding. Values travel as SQLite converts them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlite_sync.bundle import UNFINISHED
from sqlite_sync.codec import RawText, decode_converted, decode_held, decode_text
from sqlite_sync.database import UTF_8, Database
from sqlite_sync.errors import BundleError
from sqlite_sync.tables import commas

_KEPT = ("page_size", "application_id", "user_version")
_FAST = ("journal_mode = OFF", "synchronous = OFF", "auto_vacuum = NONE", "cache_size = 20")
Decode = Callable[[bytes], str | RawText]


@contextmanager
def reading(database: Database, path: Path, copy: Path, schema: str) -> Iterator[None]:
    """Attach the verified copy of a bundle; BundleError where the user's file cannot hold a text of it."""
    encoding = database.encoding
    if encoding == UTF_8:
        with database.attached(copy, schema):
            yield
        return
    converted = copy.with_name("converted.db")
    try:
        _convert(copy, converted, encoding, decode_held)
    except UnicodeError as error:
        msg = (
            f"{path} carries a text ({error}) that {database.path} cannot hold, for it stores text as UTF-16: convert "
            f"it to UTF-8 (sqlite3 {database.path.name} .dump | sqlite3 new.db), and go on with the new file"
        )
        raise BundleError(msg) from error
    except sqlite3.OperationalError as error:
        msg = f"cannot read {path}, of which a copy is made among the temporary files (TMPDIR says where): {error}"
        raise BundleError(msg) from error
    with database.attached(converted, schema):
        yield


@contextmanager
def writing(database: Database, part: Path, schema: str) -> Iterator[None]:
    """Attach a new file for a bundle; after the block, it stands at `part`, detached and in UTF-8."""
    if database.encoding == UTF_8:
        with database.attached(part, schema):
            yield
        return
    converted = part.with_name(f"{part.name.removesuffix(UNFINISHED)}-utf16{UNFINISHED}")
    try:
        with database.attached(converted, schema):  # an empty file takes over the encoding
            yield
        _convert(converted, part, UTF_8, decode_converted)
    finally:
        with suppress(OSError):
            converted.unlink(missing_ok=True)


def _convert(source: Path, target: Path, encoding: str, decode: Decode) -> None:
    """Copy a bundle's database into a new file of another encoding, row by row in the same order.

    UnicodeError, which names the table, where there is a text that `decode` refuses.
    """
    with (
        closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as given,
        closing(sqlite3.connect(target, isolation_level=None)) as made,
    ):
        made.execute(f"PRAGMA encoding = '{encoding}'")
        for pragma in (*_FAST, *(f"{name} = {given.execute(f'PRAGMA {name}').fetchone()[0]}" for name in _KEPT)):
            made.execute(f"PRAGMA {pragma}")
        made.execute("BEGIN")
        tables = given.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY rowid").fetchall()
        for name, sql in tables:
            made.execute(sql)
            given.text_factory = decode
            rows = given.execute(f"SELECT * FROM {name}")
            try:
                made.executemany(f"INSERT INTO {name} VALUES ({commas('?' * len(rows.description))})", rows)
            except UnicodeError as error:
                msg = f"in {_described(given, name)}: {error}"
                raise UnicodeError(msg) from error
        made.execute("COMMIT")


def _described(bundle: sqlite3.Connection, name: str) -> str:
    """Name the user's table on which one of the bundle's tables holds operations."""
    bundle.text_factory = bytes
    _, _, number = name.rpartition("_")
    row = bundle.execute("SELECT name FROM tables WHERE table_no = ?", (number,)).fetchone()
    return repr(decode_text(row[0])) if row else name
