"""Files that store text as UTF-16: bundles stay in UTF-8, and what cannot be held there is refused (SPEC.md, section 7)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from conftest import exchange, rows, send
from sqlite_sync import BundleError, DatabaseError, RawText, SyncEngine, bundle_reader, transcoder

SCHEMA = """
CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT COLLATE NOCASE UNIQUE, done) WITHOUT ROWID;
CREATE TABLE notes (id INTEGER PRIMARY KEY, todo TEXT REFERENCES todos (id), body BLOB, long AS (length(body)))
"""
BEFORE = [("é", "z", 1), ("z", "😀", 0.5), ("\ue000", "a\0b", None), ("😀", "\ufeffx", b"\xff\xfe"), ("", "É", "")]
UTF_16 = ["UTF-16le", "UTF-16be"]
ENCODINGS = ["UTF-8", *UTF_16]


class Files:
    """Makes engines on files of any encoding."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def plain(self, name: str, encoding: str) -> Path:
        path = self._folder / f"{name}.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA encoding = '{encoding}'")
            connection.executescript(SCHEMA)
            connection.executemany("INSERT INTO todos VALUES (?, ?, ?)", BEFORE)
        return path

    def opened(self, path: Path) -> SyncEngine:
        engine = self._stack.enter_context(SyncEngine(path))
        engine.initialize()
        return engine

    def engine(self, name: str, encoding: str) -> SyncEngine:
        engine = self.opened(self.plain(name, encoding))
        engine.enable_sync_for_table("todos")
        engine.enable_sync_for_table("notes", keys="mapped")
        return engine

    def converted(self, engine: SyncEngine, encoding: str) -> Path:
        """Do what `.dump` does: the same database in another encoding."""
        path = engine.path.with_suffix(f".{encoding}.db")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA encoding = '{encoding}'")
            connection.executescript("".join(engine.connection.iterdump()))
        return path


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    with ExitStack() as stack:
        yield Files(tmp_path, stack)


def write(engine: SyncEngine, *statements: str) -> None:
    for statement in statements:
        engine.connection.execute(statement)


def raw_text(engine: SyncEngine, key: str, text: str) -> None:
    """Write a text that no connection would take, as it stands in the file."""
    write(engine, f"INSERT INTO todos VALUES ('{key}', CAST(x'{text}' AS TEXT), 1)")


def script(bundle: Path) -> list[str]:
    """Read all that a bundle holds but its id and its time, and how its file is made."""
    with bundle_reader.opened(bundle) as (copy, _), closing(sqlite3.connect(copy)) as connection:
        pragmas = ("page_size", "application_id", "user_version", "encoding", "auto_vacuum", "journal_mode")
        made = [f"{name} {connection.execute(f'PRAGMA {name}').fetchone()[0]}" for name in pragmas]
        return [*made, *(line for line in connection.iterdump() if 'INTO "bundle"' not in line)]


@pytest.mark.parametrize("here", ENCODINGS)
@pytest.mark.parametrize("there", UTF_16)
def test_files_of_any_encodings_sync(files: Files, here: str, there: str) -> None:
    a, b = files.engine("a", here), files.engine("b", there)
    write(
        a,
        "INSERT INTO notes (todo, body) VALUES ('é', x'00ff'), ('😀', 'ö')",
        "UPDATE todos SET title = 'Ü😀' WHERE id = 'z'",
        "UPDATE OR REPLACE todos SET title = 'É' WHERE id = 'é'",
    )
    write(b, "INSERT INTO notes (todo, body) VALUES ('z', 0.1)", "UPDATE todos SET done = 'ß' WHERE id = 'z'")
    exchange(a, b)

    assert rows(a) == rows(b)
    assert sorted(row[1:] for row in rows(a, "notes")) == sorted(row[1:] for row in rows(b, "notes"))
    assert list(a.operations("todos")) == list(b.operations("todos"))
    assert len(list(a.operations())) == len(BEFORE) + 3 + 4  # the rows that both had are the same operations
    conflict, *others = a.get_unresolved_conflicts()
    assert not others
    assert a.images(conflict) == b.images(b.get_unresolved_conflicts()[0])
    a.resolve(conflict, {"title": "ÄÖ"})
    exchange(a, b)
    assert rows(a) == rows(b)
    for engine, encoding in ((a, here), (b, there)):
        assert engine.get_unresolved_conflicts() == []
        assert engine.reconcile() == 0
        found = engine.doctor(deep=True)
        assert found.level != "error"
        assert {finding.code for finding in found.findings} == ({"encoding", "log"} if encoding != "UTF-8" else {"log"})
        assert engine.connection.execute("PRAGMA encoding").fetchone()[0] == encoding


@pytest.mark.parametrize("encoding", UTF_16)
def test_the_same_operations_give_the_same_bundle_whatever_the_encoding(files: Files, encoding: str) -> None:
    a = files.engine("a", "UTF-8")
    write(a, "INSERT INTO notes (todo, body) VALUES ('é', x'00ff'), ('😀', 'ö')", "UPDATE todos SET done = '\ufeff'")
    expected = a.generate_bundle(None, a.path.with_suffix(".bundle"))
    converted = files.opened(files.converted(a, encoding))
    assert converted.device_id == a.device_id

    found = converted.generate_bundle(None, a.path.with_suffix(".other"))
    assert expected is not None
    assert found is not None
    assert script(found) == script(expected)
    assert found.stat().st_size == expected.stat().st_size
    assert {path.suffix for path in a.path.parent.iterdir()} == {".db", ".bundle", ".other"}


@pytest.mark.parametrize("encoding", UTF_16)
@pytest.mark.parametrize("text", ["ff", "61fe", "eda080", "efbfbf", "61efbfbe"])
def test_a_text_that_utf_16_cannot_hold_is_refused(files: Files, encoding: str, text: str) -> None:
    a, b = files.engine("a", "UTF-8"), files.engine("b", encoding)
    raw_text(a, "raw", text)
    before = rows(b)
    with pytest.raises(BundleError, match=r"a\.bundle carries a text \(in 'todos': .*b\.db cannot hold.*convert it"):
        send(a, b)
    assert rows(b) == before
    assert list(b.operations()) == list(b.operations("todos"))
    assert b.get_vector_clock() != a.get_vector_clock()

    path = files.converted(b, "UTF-8")
    b.close()
    b = files.opened(path)
    send(a, b)
    assert a.connection.execute("SELECT hex(title) FROM todos WHERE id = 'raw'").fetchall() == [(text.upper(),)]
    assert b.connection.execute("SELECT hex(title) FROM todos WHERE id = 'raw'").fetchall() == [(text.upper(),)]


def test_a_folder_lists_such_a_bundle_as_refused(files: Files, tmp_path: Path) -> None:
    a, b = files.engine("a", "UTF-8"), files.engine("b", "UTF-16le")
    raw_text(a, "raw", "ff")
    (tmp_path / "folder").mkdir()
    a.sync_folder(tmp_path / "folder")
    result = b.sync_folder(tmp_path / "folder")
    assert ["UTF-16" in one.reason for one in result.refused] == [True]
    assert result.written is not None


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("00d8", "\ufffd"),
        ("610000d86200", "a\U00010062"),
        ("610000d8", "a\ufffd"),
        ("ffff", "\ufffd"),
        ("6100feff", "a\ufffd"),
        ("616200", "扡"),
    ],
)
def test_text_that_is_no_utf_16_is_what_sqlite_makes_of_it(files: Files, stored: str, read: str) -> None:
    a, b, c = files.engine("a", "UTF-16le"), files.engine("b", "UTF-8"), files.engine("c", "UTF-16be")
    raw_text(a, "raw", stored)
    exchange(a, b, c)
    for engine in (b, c):
        [(title,)] = engine.connection.execute("SELECT title FROM todos WHERE id = 'raw'")
        assert title.startswith(read)
    assert list(a.operations()) == list(b.operations())
    assert list(a.operations()) == list(c.operations())
    assert a.doctor(deep=True).level != "error"


def test_a_key_that_is_no_utf_16_cannot_be_put_in_order(files: Files) -> None:
    engine = files.opened(files.plain("a", "UTF-16le"))
    write(engine, "INSERT INTO todos VALUES (CAST(x'00d8' AS TEXT), 1, 1)")
    with pytest.raises(DatabaseError, match=r"key in .*a\.db.*no valid UTF-16"):
        engine.enable_sync_for_table("todos")
    assert engine.synced_tables() == ()


def test_a_raw_text_is_no_resolution_in_utf_16(files: Files) -> None:
    a, b = files.engine("a", "UTF-16le"), files.engine("b", "UTF-8")
    write(a, "UPDATE todos SET done = 'a' WHERE id = 'é'")
    write(b, "UPDATE todos SET done = 'b' WHERE id = 'é'")
    exchange(a, b)
    [conflict] = a.get_unresolved_conflicts()
    with pytest.raises(DatabaseError, match="UTF-16"):
        a.resolve(conflict, {"done": RawText(b"\xff")})
    assert a.get_unresolved_conflicts() == [conflict]
    b.resolve(conflict, {"done": RawText(b"\xff")})
    with pytest.raises(BundleError, match="UTF-16"):
        send(b, a)


def test_a_copied_file_in_utf_16_goes_on_under_a_new_id(files: Files, tmp_path: Path) -> None:
    a, b = files.engine("a", "UTF-16le"), files.engine("b", "UTF-8")
    write(a, "INSERT INTO todos VALUES ('one', 'eins', 1)")
    exchange(a, b)
    a.connection.execute("PRAGMA wal_checkpoint")
    copy = tmp_path / "copy.db"
    copy.write_bytes(a.path.read_bytes())
    write(a, "INSERT INTO todos VALUES ('two', 'zwei', 2)")
    send(a, b)
    c = files.opened(copy)
    write(c, "INSERT INTO todos VALUES ('three', 'drei', 3)")
    bundle = b.generate_bundle(None, tmp_path / "x.bundle")
    assert bundle is not None
    assert c.renew_device(bundle) != a.device_id
    exchange(a, b, c)
    assert rows(a) == rows(b) == rows(c)
    assert len(rows(a)) == len(BEFORE) + 3


@pytest.mark.parametrize("is_full", [True, False])
def test_a_bundle_that_cannot_be_converted_leaves_nothing_behind(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_full: bool
) -> None:
    a, b = files.engine("a", "UTF-16le"), files.engine("b", "UTF-8")
    bundle = b.generate_bundle(None, tmp_path / "x.bundle")
    assert bundle is not None

    def fail(*_: object) -> None:
        error = sqlite3.OperationalError("it fails")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL if is_full else sqlite3.SQLITE_IOERR
        raise error

    monkeypatch.setattr(transcoder, "_convert", fail)
    before, found = rows(a), set(tmp_path.iterdir())
    with pytest.raises(BundleError if is_full else DatabaseError, match="full" if is_full else "disk"):
        a.generate_bundle(None, tmp_path / "y.bundle")
    with pytest.raises(BundleError, match=r"x\.bundle.*TMPDIR"):
        a.import_bundle(bundle)
    assert rows(a) == before
    assert set(tmp_path.iterdir()) == found
    monkeypatch.undo()
    exchange(a, b)
    assert rows(a) == rows(b)
