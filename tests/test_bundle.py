"""The bundle file: damage is always seen, and a liar with a valid digest gets nowhere."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from sqlite_sync import BundleError, DatabaseError, SyncEngine, SyncError, inspect_bundle

MAGIC = b"sqlite-sync 001\n"
TRAILER_BYTES = 56
MAX_HLC = 2**62 - 1

SCHEMA = """
CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT NOT NULL, done INTEGER DEFAULT 0);
CREATE TABLE counts (id INTEGER PRIMARY KEY, n INT NOT NULL) STRICT;
"""
TABLES = ("todos", "counts")
Edit = str | Callable[[sqlite3.Connection], object]


def sealed(database: bytes) -> bytes:
    """Put the trailer of a bundle behind a database, as SPEC.md says."""
    head = MAGIC + len(database).to_bytes(8, "big")
    return database + head + sha256(database + head).digest()


def _plainly(connection: sqlite3.Connection) -> None:
    """Write a bundle in its other form: every operation in operations_<n>, and its HLC as it is."""
    for number, columns in connection.execute("SELECT table_no, count(*) FROM columns GROUP BY table_no").fetchall():
        values = ", ".join(f"v{i}" for i in range(columns))
        connection.execute(
            f"INSERT INTO operations_{number} (op, kind, hlc, {values}) SELECT op, 0, hlc, {values} FROM inserts_{number}"
        )
        connection.execute(f"DELETE FROM inserts_{number}")
        base = "(SELECT base_hlc FROM devices WHERE ordinal = -((op - 1) >> 40))"
        connection.execute(f"UPDATE operations_{number} SET hlc = hlc + {base}")
    connection.execute("UPDATE devices SET base_hlc = 0")


def forged(bundle: Path, edit: Edit, *, plainly: bool = True) -> Path:
    """Change what is in a bundle, and seal it again."""
    target = bundle.with_suffix(".forged")
    target.write_bytes(bundle.read_bytes()[:-TRAILER_BYTES])
    with closing(sqlite3.connect(target, isolation_level=None)) as connection:
        if plainly:
            _plainly(connection)
        if callable(edit):
            edit(connection)
        else:
            connection.executescript(edit)
    target.write_bytes(sealed(target.read_bytes()))
    return target


@dataclass(frozen=True)
class Ground:
    """A bundle for a device that has met its author before, that device's file, and a bundle of everything."""

    bundle: bytes
    target: bytes
    whole: bytes


def _opened(path: Path, *, schema: str | None = SCHEMA) -> SyncEngine:
    engine = SyncEngine(path)
    engine.initialize()
    if schema is not None:
        engine.connection.executescript(schema)
        for table in TABLES:
            engine.enable_sync_for_table(table, keys="natural")
    return engine


def _write(engine: SyncEngine, *statements: str) -> None:
    for statement in statements:
        engine.connection.execute(statement)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("ground")
    with (
        _opened(folder / "source.db") as source,
        _opened(folder / "other.db") as other,
        _opened(folder / "target.db") as target,
    ):

        def sent(one: SyncEngine, another: SyncEngine) -> None:
            path = one.generate_bundle(another.device_id, folder / "x.bundle", acknowledge=True)
            assert path is not None
            another.import_bundle(path)

        _write(target, "INSERT INTO todos VALUES ('t', 'target''s', 0)", "INSERT INTO counts VALUES (1, 1)")
        _write(other, "INSERT INTO todos VALUES ('o', 'other''s', 0)", "INSERT INTO counts VALUES (2, 2)")
        sent(target, source)
        sent(other, source)
        _write(source, "INSERT INTO todos VALUES ('s', 'source''s', 0)")
        sent(source, target)
        sent(target, source)
        _write(target, "INSERT INTO todos VALUES ('late', 'target''s', 0)", "UPDATE todos SET done = 7 WHERE id = 's'")
        _write(other, "INSERT INTO todos VALUES ('o2', 'other''s', 0)")
        sent(other, source)
        _write(
            source,
            "UPDATE todos SET title = 'changed' WHERE id = 's'",
            "INSERT INTO todos VALUES ('s2', 'two', 2)",
            "DELETE FROM todos WHERE id = 'o'",
            "INSERT INTO counts VALUES (3, 3)",
            "UPDATE counts SET n = 4 WHERE id = 2",
        )
        path = source.generate_bundle(target.device_id, folder / "honest.bundle")
        whole = source.generate_bundle(os.urandom(16), folder / "whole.bundle")
        assert path is not None
        assert whole is not None
    return Ground(path.read_bytes(), (folder / "target.db").read_bytes(), whole.read_bytes())


@pytest.fixture
def honest(ground: Ground, tmp_path: Path) -> Path:
    path = tmp_path / "honest.bundle"
    path.write_bytes(ground.bundle)
    return path


@pytest.fixture
def target(ground: Ground, tmp_path: Path) -> Iterator[SyncEngine]:
    path = tmp_path / "target.db"
    path.write_bytes(ground.target)
    with _opened(path, schema=None) as engine:
        yield engine


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of our own, to see what stays in it."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def content(engine: SyncEngine, table: str) -> list[tuple[object, ...]]:
    """Return a table's rows to the byte, whatever text is in them."""
    columns = [row[0] for row in engine.connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    exact = ", ".join(f'typeof("{column}"), CAST("{column}" AS BLOB)' for column in columns)
    return sorted(engine.connection.execute(f"SELECT {exact} FROM {table}").fetchall(), key=repr)


def goes_on(engine: SyncEngine) -> None:
    """Write on a device, and bring everything it holds to a new one, which then writes as well and brings that back."""
    assert engine.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    folder = engine.path.parent
    _write(engine, "INSERT INTO todos VALUES ('afterwards', 'fine', 0)", "UPDATE todos SET done = 9 WHERE id = 't'")
    with _opened(folder / "fresh.db") as fresh:
        path = engine.generate_bundle(fresh.device_id, folder / "onward.bundle")
        assert path is not None
        fresh.import_bundle(path)
        for table in TABLES:
            assert content(fresh, table) == content(engine, table)
        _write(fresh, "UPDATE todos SET title = 'from the fresh one' WHERE id = 'afterwards'")
        back = fresh.generate_bundle(engine.device_id, folder / "back.bundle")
        assert back is not None
        engine.import_bundle(back)
        assert content(fresh, "todos") == content(engine, "todos")


def refused(engine: SyncEngine, path: Path) -> None:
    """Try to import; expect that it is refused in words that name the file, and that nothing has changed."""
    before = engine.path.read_bytes()
    with pytest.raises(BundleError) as caught:
        engine.import_bundle(path)
    assert path.name in str(caught.value)
    assert engine.path.read_bytes() == before
    assert list(engine.path.parent.joinpath("scratch").iterdir()) == []


# --- damage -------------------------------------------------------------------------------------------------------


def _small(honest: Path) -> bytes:
    """The same bundle in small pages, so that every byte can be tried."""
    return forged(honest, "PRAGMA page_size = 512; VACUUM").read_bytes()


def test_the_untouched_bundle_is_taken_in_and_the_device_goes_on(honest: Path, target: SyncEngine) -> None:
    assert target.import_bundle(honest).applied_count > 0
    goes_on(target)


def test_the_forger_alone_changes_nothing(honest: Path, target: SyncEngine) -> None:
    assert target.import_bundle(forged(honest, "PRAGMA page_size = 512; VACUUM")).applied_count > 0
    goes_on(target)


@pytest.fixture
def one_folder(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let thousands of private copies share a folder; making and removing one takes longer than all the rest."""
    monkeypatch.setattr(tempfile, "TemporaryDirectory", lambda **_: nullcontext(str(scratch)))


@pytest.mark.usefixtures("one_folder")
def test_every_single_changed_byte_is_seen(honest: Path, target: SyncEngine, tmp_path: Path) -> None:
    whole, before, path = _small(honest), target.path.read_bytes(), tmp_path / "changed.bundle"
    path.write_bytes(whole)
    accepted = []
    with path.open("r+b") as file:
        for place, byte in enumerate(whole):
            os.pwrite(file.fileno(), bytes([byte ^ (1 << place % 8)]), place)
            try:
                target.import_bundle(path)
            except BundleError:
                pass
            else:
                accepted.append(place)
            os.pwrite(file.fileno(), bytes([byte]), place)
    assert accepted == []
    assert target.path.read_bytes() == before


@pytest.mark.usefixtures("one_folder")
def test_every_length_but_the_right_one_is_seen(honest: Path, target: SyncEngine, tmp_path: Path) -> None:
    whole, before, path = _small(honest), target.path.read_bytes(), tmp_path / "cut.bundle"
    path.write_bytes(whole)
    accepted = []
    for length in reversed(range(len(whole))):
        os.truncate(path, length)
        try:
            target.import_bundle(path)
        except BundleError:
            continue
        accepted.append(length)
    assert accepted == []
    assert target.path.read_bytes() == before


@pytest.mark.parametrize("stride", [1009])
def test_bytes_here_and_there_of_the_bundle_as_written_are_seen(honest: Path, target: SyncEngine, stride: int) -> None:
    whole = honest.read_bytes()
    for place in [*range(0, len(whole), stride), *range(len(whole) - TRAILER_BYTES, len(whole))]:
        honest.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(BundleError, match=r"honest\.bundle"):
            target.import_bundle(honest)


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole + b"\0",
        lambda whole: whole + whole,
        lambda whole: whole + whole[-TRAILER_BYTES:],
        lambda whole: b"\0" + whole,
        lambda whole: whole[:4096] + bytes(4096) + whole[4096:],
        lambda whole: whole[4096:],
        lambda whole: whole[:-TRAILER_BYTES],
        lambda whole: whole[-TRAILER_BYTES:],
        lambda _: sealed(b""),
        lambda _: sealed(b"SQLite format 3\0"),
        lambda _: sealed(b"SQLite format 3\0" + bytes(4080)),
        sealed,
        lambda whole: sealed(whole[:-TRAILER_BYTES][:-4096]),
        lambda whole: sealed(whole[:4096] + bytes(len(whole) - TRAILER_BYTES - 4096)),
    ],
)
def test_pieces_put_together_in_another_way_are_refused(
    honest: Path, target: SyncEngine, change: Callable[[bytes], bytes]
) -> None:
    honest.write_bytes(change(honest.read_bytes()))
    refused(target, honest)


# --- lies that break the format -----------------------------------------------------------------------------------

WRITABLE = "PRAGMA writable_schema = ON;"
LIES = {
    # how many operations there are
    "an operation is missing": "DELETE FROM operations_1 WHERE op = (SELECT max(op) FROM operations_1)",
    "an operation between others is missing": "DELETE FROM operations_1 WHERE op = (SELECT op FROM operations_1 WHERE op > 0 ORDER BY op LIMIT 1 OFFSET 1)",
    "an operation too many": "INSERT INTO operations_1 (op, kind, hlc, v0) VALUES (1000, 2, 99, 'x')",
    "the range is longer": "UPDATE devices SET to_seq = to_seq + 1 WHERE ordinal = 0",
    "the range is shorter": "UPDATE devices SET to_seq = to_seq - 1 WHERE ordinal = 0",
    "the range begins earlier": "UPDATE devices SET from_seq = 0, from_hlc = 0 WHERE from_seq > 0",
    "a gap": "UPDATE operations_1 SET op = op + 500 WHERE op = (SELECT max(op) FROM operations_1)",
    "a gap that a dot in two tables hides": """
        DELETE FROM operations_1 WHERE op = (SELECT max(op) FROM operations_1);
        INSERT INTO operations_2 (op, kind, hlc, v0, v1) SELECT min(op), 0, min(hlc), 77, 7 FROM operations_1 WHERE op > 0""",
    "a dot in two tables": """
        INSERT INTO operations_2 (op, kind, hlc, v0, v1) SELECT op, 0, hlc, 77, 7 FROM operations_1 WHERE op > 0 LIMIT 1""",
    "no operation at all": "DELETE FROM operations_1; DELETE FROM operations_2",
    "an operation of seq 0": "UPDATE operations_1 SET op = 0 WHERE op = (SELECT min(op) FROM operations_1 WHERE op > 0)",
    # who
    "a device id of 15 bytes": "UPDATE devices SET device_id = zeroblob(15) WHERE ordinal > 0",
    "a device id of text": "UPDATE devices SET device_id = 'abcdefghijklmnop' WHERE ordinal > 0",
    "a device twice": "UPDATE devices SET device_id = (SELECT device_id FROM devices WHERE ordinal = 0)",
    "another source": "UPDATE bundle SET source_device_id = zeroblob(16)",
    "a source of 3 bytes": "UPDATE bundle SET source_device_id = zeroblob(3); UPDATE devices SET device_id = zeroblob(3) WHERE ordinal = 0",
    "a bundle id of text": "UPDATE bundle SET bundle_id = 'abcdefghijklmnop'",
    "a peer of 3 bytes": "UPDATE bundle SET peer_device_id = zeroblob(3)",
    "no header": "DELETE FROM bundle",
    "two headers": "INSERT INTO bundle SELECT * FROM bundle",
    "a time that is a text": "UPDATE bundle SET created_at_ms = 'noon'",
    "no device": "DELETE FROM devices",
    "no source among the devices": "UPDATE devices SET ordinal = 77 WHERE ordinal = 0",
    "a negative ordinal": "INSERT INTO devices VALUES (-1, zeroblob(16), 0, 0, 0, 0, 0)",
    "an ordinal beyond all": "INSERT INTO devices VALUES (4194304, zeroblob(16), 0, 0, 0, 0, 0)",
    # ranges and clocks
    "a range that runs backwards": "UPDATE devices SET from_seq = to_seq + 1",
    "a negative range": "UPDATE devices SET from_seq = -1, to_seq = 0",
    "a range beyond all": "UPDATE devices SET to_seq = 1 << 40 WHERE ordinal = 0",
    "a range up to the last number": "UPDATE devices SET to_seq = (1 << 40) - 1 WHERE ordinal = 0",
    "a range that is a text": "UPDATE devices SET to_seq = 'many'",
    "a range that is a fraction": "UPDATE devices SET to_seq = to_seq + 0.5",
    "a clock that runs backwards": "UPDATE devices SET from_hlc = to_hlc + 1 WHERE from_seq > 0",
    "a clock beyond all": "UPDATE devices SET to_hlc = 1 << 62 WHERE ordinal = 0",
    "a clock of nothing": "INSERT INTO devices VALUES (50, randomblob(16), 0, 0, 0, 9, 0)",
    "a negative clock": "UPDATE devices SET from_hlc = -1",
    "a clock that is a text": "UPDATE devices SET to_hlc = 'noon'",
    "an hlc that is a text": "UPDATE operations_1 SET hlc = 'noon' WHERE op > 0",
    "no hlc": "UPDATE operations_1 SET hlc = NULL",
    "an hlc of 0": "UPDATE operations_1 SET hlc = 0",
    "a negative hlc": "UPDATE operations_1 SET hlc = -5",
    "an hlc beyond all": f"UPDATE operations_1 SET hlc = {MAX_HLC} + 1",
    "an hlc outside its device's clock": f"UPDATE operations_1 SET hlc = {MAX_HLC}",
    "a clock counted from another time": "UPDATE devices SET base_hlc = base_hlc + 1 WHERE to_seq > from_seq",
    "clocks counted from before all": "UPDATE devices SET base_hlc = -1",
    "clocks counted from after the last": "UPDATE devices SET base_hlc = to_hlc + 1",
    "clocks counted from a text": "UPDATE devices SET base_hlc = 'noon'",
    "a last clock that no operation has": f"UPDATE devices SET to_hlc = {MAX_HLC} WHERE ordinal = 0",
    # operations
    "an unknown kind": "UPDATE operations_1 SET kind = 5",
    "a negative kind": "UPDATE operations_1 SET kind = -1",
    "no kind": "UPDATE operations_1 SET kind = NULL",
    "a kind that is a text": "UPDATE operations_1 SET kind = 'insert'",
    "a kind that is a fraction": "UPDATE operations_1 SET kind = 1.0",
    "NULL in a key": "UPDATE operations_1 SET v0 = NULL WHERE op > 0",
    "NULL in a key of an update": "UPDATE operations_1 SET v0 = NULL WHERE kind = 1",
    "a base of an unknown device": f"UPDATE operations_1 SET base = {1 - (900 << 40)}",
    "a base that is a text": "UPDATE operations_1 SET base = 'this one'",
    "a base beyond what the source knows": "UPDATE operations_1 SET base = 1000000",
    "the least integer as a base": f"UPDATE operations_1 SET base = {-(2**63)}",
    "a strategy that is a number": "UPDATE operations_1 SET kind = 3, o0 = 5",
    "a strategy that is a blob": "UPDATE operations_1 SET kind = 4, o0 = x'41'",
    "a strategy without a name": "UPDATE operations_1 SET kind = 3, o0 = ''",
    "a strategy of 201 characters": "UPDATE operations_1 SET kind = 3, o0 = printf('%201s', 'x')",
    # contexts
    "a context of an unknown device": "INSERT INTO contexts VALUES (50, 0, 1, 1)",
    "a context towards an unknown device": "INSERT INTO contexts SELECT 0, 50, to_seq, 1 FROM devices WHERE ordinal = 0",
    "a context towards the device itself": "INSERT INTO contexts SELECT 0, 0, to_seq, 1 FROM devices WHERE ordinal = 0",
    "a context before all operations": "UPDATE contexts SET seq = 0",
    "a context of an operation that is not in it": "UPDATE contexts SET seq = seq + 1000",
    "a context from the future": "UPDATE contexts SET known_seq = known_seq + 1000",
    "a context that is a text": "UPDATE contexts SET known_seq = 'all'",
    "a context that shrinks": """
        INSERT INTO contexts SELECT c.ordinal, c.known_ordinal, d.to_seq, 1 FROM contexts AS c JOIN devices AS d USING (ordinal)
        WHERE c.known_seq > 1 AND c.seq < d.to_seq""",
    # tables
    "a table of ours": "UPDATE tables SET name = 'sync_operations' WHERE table_no = 1",
    "a table of ours in capitals": "UPDATE tables SET name = 'SYNC_State' WHERE table_no = 1",
    "a table of SQLite's": "UPDATE tables SET name = 'sqlite_schema' WHERE table_no = 1",
    "a table whose name is no text": "UPDATE tables SET name = x'41'",
    "a table named by a blob": "UPDATE tables SET name = x'746f646f73' WHERE table_no = 1",
    "a table named by no text": "UPDATE tables SET name = CAST(x'ff' AS TEXT) WHERE table_no = 1",
    "a table twice": "UPDATE tables SET name = 'TODOS'",
    "a table that is not described": "DELETE FROM columns WHERE table_no = 1",
    "columns of no table": "INSERT INTO columns VALUES (9, 0, 'id', 1, NULL)",
    "columns of a table without a number": "INSERT INTO columns VALUES ('nine', 0, 'id', 1, NULL)",
    "a table of number 0": "UPDATE tables SET table_no = 0 WHERE table_no = 1; UPDATE columns SET table_no = 0 WHERE table_no = 1",
    "a column whose name is no text": "UPDATE columns SET name = x'41' WHERE position = 1",
    "a column named by a blob": "UPDATE columns SET name = x'00' WHERE position = 1",
    "a column twice": "UPDATE columns SET name = 'ID' WHERE position = 1",
    "a gap in the columns": "UPDATE columns SET position = 70 WHERE position = 1",
    "a column at a text": "UPDATE columns SET position = 'first' WHERE position = 0",
    "no key": "UPDATE columns SET key_place = 0",
    "a key with a gap": "UPDATE columns SET key_place = 2 WHERE key_place = 1",
    "a key with two firsts": "UPDATE columns SET key_place = 1",
    "a negative place in the key": "UPDATE columns SET key_place = -1 WHERE position = 1",
    "a place in the key that is a text": "UPDATE columns SET key_place = 'last' WHERE position = 1",
    "one more column than there is": "INSERT INTO columns VALUES (1, 3, 'more', 0, NULL)",
    "5,000 columns": """
        WITH RECURSIVE n(i) AS (VALUES (3) UNION ALL SELECT i + 1 FROM n WHERE i < 4999)
        INSERT INTO columns SELECT 1, i, 'c' || i, 0, NULL FROM n""",
    # the file
    "another table": "CREATE TABLE more (x)",
    "a view": "CREATE VIEW more AS SELECT * FROM operations_1",
    "a trigger": "CREATE TRIGGER more AFTER INSERT ON bundle BEGIN SELECT 1; END",
    "an index": "CREATE INDEX more ON operations_1 (v0)",
    "statistics": "ANALYZE",
    "a virtual table": "CREATE VIRTUAL TABLE more USING fts5(x)",
    "a missing table": "DROP TABLE contexts",
    "a missing table of operations": "DROP TABLE operations_1",
    "a view in the place of a table": "DROP TABLE contexts; CREATE VIEW contexts AS SELECT 1 AS ordinal, 2 AS known_ordinal, 3 AS seq, 4 AS known_seq",
    "another column": "ALTER TABLE devices ADD COLUMN more",
    "a changed declaration": f"{WRITABLE} UPDATE sqlite_schema SET sql = replace(sql, 'kind', 'kind  ') WHERE name = 'operations_1'",
    "a generated column": f"{WRITABLE} UPDATE sqlite_schema SET sql = replace(sql, 'hlc', 'hlc AS (9)') WHERE name = 'operations_1'",
    "an object of no type": f"{WRITABLE} UPDATE sqlite_schema SET type = NULL WHERE name = 'operations_1'",
    "an object named by a number": f"{WRITABLE} UPDATE sqlite_schema SET type = 1, name = 2 WHERE name = 'operations_1'",
    "an object of an unknown type": f"{WRITABLE} UPDATE sqlite_schema SET type = 'thing' WHERE name = 'columns'",
    "two tables on one page": f"""{WRITABLE}
        UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'tables') WHERE name = 'operations_1'""",
    "a table on the page of the schema": f"{WRITABLE} UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'operations_1'",
    "a table on no page": f"{WRITABLE} UPDATE sqlite_schema SET rootpage = 4000 WHERE name = 'operations_1'",
    "another application": "PRAGMA application_id = 7",
    "format 0": "PRAGMA user_version = 0",
    "format 2": "PRAGMA user_version = 2",
    "a negative format": "PRAGMA user_version = -1",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_with_a_valid_digest_is_refused(lie: str, honest: Path, target: SyncEngine) -> None:
    refused(target, forged(honest, LIES[lie]))
    assert target.import_bundle(honest).applied_count > 0
    goes_on(target)


@pytest.mark.parametrize(
    "lie", ["an operation between others is missing", "a gap", "a device twice", "a context from the future"]
)
def test_a_lie_is_seen_before_anything_is_imported(lie: str, honest: Path) -> None:
    """`inspect_bundle` has no log to compare a bundle with, and still tells one that contradicts itself."""
    path = forged(honest, LIES[lie])
    with pytest.raises(BundleError):
        inspect_bundle(path)


IN_INSERTS = {
    "an insert is missing": "DELETE FROM inserts_1 WHERE op = (SELECT max(op) FROM inserts_1)",
    "an insert too many": "INSERT INTO inserts_1 (op, hlc, v0) VALUES (1000, 0, 'x')",
    "an insert outside the ranges": "UPDATE inserts_1 SET op = op + 500 WHERE op = (SELECT max(op) FROM inserts_1)",
    "a dot as an insert and as another operation": """
        UPDATE inserts_1 SET op = (SELECT min(op) FROM operations_1 WHERE op > 0) WHERE op = (SELECT max(op) FROM inserts_1)""",
    "an insert of seq 0": "UPDATE inserts_1 SET op = 0 WHERE op = (SELECT min(op) FROM inserts_1 WHERE op > 0)",
    "a clock that is a text": "UPDATE inserts_1 SET hlc = 'noon' WHERE op > 0",
    "a clock that is a fraction": "UPDATE inserts_1 SET hlc = hlc + 0.0",
    "no clock": "UPDATE inserts_1 SET hlc = NULL",
    "a clock before all": f"UPDATE inserts_1 SET hlc = {-(2**63)}",
    "a clock after all": f"UPDATE inserts_1 SET hlc = {2**63 - 1}",
    "clocks that run backwards": "UPDATE inserts_1 SET hlc = -1 WHERE op = (SELECT max(op) FROM inserts_1)",
    "NULL in a key": "UPDATE inserts_1 SET v0 = NULL WHERE op > 0",
    "a missing table": "DROP TABLE inserts_2",
    "another column": "ALTER TABLE inserts_1 ADD COLUMN kind",
    "another table": "CREATE TABLE inserts_9 (op INTEGER PRIMARY KEY, hlc, v0)",
    "a changed declaration": f"{WRITABLE} UPDATE sqlite_schema SET sql = replace(sql, 'hlc', 'hlc  ') WHERE name = 'inserts_1'",
}


@pytest.mark.parametrize("lie", IN_INSERTS)
def test_a_lie_among_the_inserts_is_refused(lie: str, honest: Path, target: SyncEngine) -> None:
    refused(target, forged(honest, IN_INSERTS[lie], plainly=False))
    assert target.import_bundle(honest).applied_count > 0
    goes_on(target)


def test_an_insert_among_the_other_operations_is_the_same(honest: Path, target: SyncEngine) -> None:
    other = forged(honest, "SELECT 1")
    assert list(inspect_bundle(other).rows()) == list(inspect_bundle(honest).rows())
    assert inspect_bundle(other).tables == inspect_bundle(honest).tables
    assert target.import_bundle(other, dry_run=True).changes == target.import_bundle(honest, dry_run=True).changes


def test_a_bundle_that_was_imported_is_skipped_only_while_it_is_whole(honest: Path, target: SyncEngine) -> None:
    first = target.import_bundle(honest)
    again = target.import_bundle(honest)
    assert again.skipped
    assert (again.bundle_id, again.source_device_id) == (first.bundle_id, first.source_device_id)
    assert (again.total_operations, again.applied_count) == (first.total_operations, 0)
    whole = honest.read_bytes()
    for place in (0, 5000, len(whole) - TRAILER_BYTES - 1, len(whole) - 1):
        honest.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(target, honest)
    honest.write_bytes(whole)
    assert target.import_bundle(forged(honest, "SELECT 1")).skipped  # another file, but the same bundle


def test_a_bundle_in_utf_16_is_refused(honest: Path, target: SyncEngine) -> None:
    def in_utf_16(connection: sqlite3.Connection) -> None:
        script = "".join(line for line in connection.iterdump() if "PRAGMA" not in line)
        other = honest.with_suffix(".utf16")
        with closing(sqlite3.connect(other, isolation_level=None)) as converted:
            converted.execute("PRAGMA encoding = 'UTF-16le'")
            converted.executescript(f"PRAGMA application_id = {0x53594E43}; PRAGMA user_version = 1; {script}")
        connection.close()
        honest.with_suffix(".forged").write_bytes(other.read_bytes())

    refused(target, forged(honest, in_utf_16))


def test_a_bundle_of_a_newer_format_is_refused_with_the_word_newer(honest: Path, target: SyncEngine) -> None:
    with pytest.raises(BundleError, match=r"forged.*newer"):
        target.import_bundle(forged(honest, "PRAGMA user_version = 2"))
    whole = honest.read_bytes()[:-TRAILER_BYTES]
    head = b"sqlite-sync 002\n" + len(whole).to_bytes(8, "big")
    honest.write_bytes(whole + head + sha256(whole + head).digest())
    with pytest.raises(BundleError, match=r"honest.*newer"):
        target.import_bundle(honest)


# --- lies within the format: refused or harmless ------------------------------------------------------------------

ODDITIES = {
    # times: whoever takes them in must be able to go on
    "the last of all clocks": f"UPDATE devices SET to_hlc = {MAX_HLC} WHERE ordinal = 0; UPDATE operations_1 SET hlc = {MAX_HLC} WHERE op > 0",
    "the last but one of all clocks": f"""
        UPDATE devices SET to_hlc = {MAX_HLC - 1} WHERE ordinal = 0; UPDATE operations_2 SET hlc = {MAX_HLC - 1} WHERE op > 0""",
    "one time for all": """
        UPDATE operations_1 SET hlc = (SELECT to_hlc FROM devices WHERE ordinal = 0) WHERE op > 0;
        UPDATE operations_2 SET hlc = (SELECT to_hlc FROM devices WHERE ordinal = 0) WHERE op > 0""",
    "times that run backwards": """
        UPDATE operations_1 SET hlc = (SELECT to_hlc FROM devices WHERE ordinal = 0) - op WHERE op > 0""",
    "a time of the header beyond the calendar": f"UPDATE bundle SET created_at_ms = {2**63 - 1}",
    "a time of the header before the calendar": f"UPDATE bundle SET created_at_ms = {-(2**63)}",
    # rows that cannot be
    "an update of a row that never was": "UPDATE operations_1 SET v0 = 'ghost' WHERE kind = 1",
    "a delete of a row that never was": "UPDATE operations_1 SET v0 = 'ghost' WHERE kind = 2",
    "an insert of a row that is": "UPDATE operations_1 SET v0 = 't' WHERE kind = 0",
    "an insert where an update was": "UPDATE operations_1 SET kind = 0",
    "updates only": "UPDATE operations_1 SET kind = 1",
    "deletes only": "UPDATE operations_1 SET kind = 2",
    "resolutions only": "UPDATE operations_1 SET kind = 3",
    "resolutions to nothing only": "UPDATE operations_1 SET kind = 4",
    "all on one row": "UPDATE operations_1 SET v0 = 's'",
    "an update from another key": "UPDATE operations_1 SET o0 = 'late' WHERE kind = 1",
    "an update from the same key": "UPDATE operations_1 SET o0 = v0 WHERE kind = 1",
    "old values of a row that never was": "UPDATE operations_1 SET o1 = 'never', o2 = 'never'",
    "new values without the old": "UPDATE operations_1 SET o1 = NULL, o2 = NULL",
    # values that do not fit the table
    "a text for a strict integer": "UPDATE operations_2 SET v1 = 'many' WHERE kind = 0",
    "a blob for a strict integer": "UPDATE operations_2 SET v1 = x'00'",
    "a fraction for a strict integer": "UPDATE operations_2 SET v1 = 1.5",
    "a text for a rowid": "UPDATE operations_2 SET v0 = 'one'",
    "a number in a text for a rowid": "UPDATE operations_2 SET v0 = '3' WHERE kind = 0",
    "a fraction for a rowid": "UPDATE operations_2 SET v0 = 1.5",
    "a blob for a rowid": "UPDATE operations_2 SET v0 = x'01'",
    "the greatest integer as a rowid": f"UPDATE operations_2 SET v0 = {2**63 - 1} WHERE kind = 0",
    "the least integer as a rowid": f"UPDATE operations_2 SET v0 = {-(2**63)} WHERE kind = 0",
    "NULL where it may not be": "UPDATE operations_1 SET v1 = NULL WHERE kind = 0",
    "a blob for a text key": "UPDATE operations_1 SET v0 = x'7332' WHERE kind = 0",
    "a number for a text key": "UPDATE operations_1 SET v0 = 2 WHERE kind = 0",
    "invalid UTF-8": "UPDATE operations_1 SET v1 = CAST(x'fffe41' AS TEXT) WHERE kind = 0",
    "invalid UTF-8 in a key": "UPDATE operations_1 SET v0 = CAST(x'fffe41' AS TEXT) WHERE kind = 0",
    "half a surrogate": "UPDATE operations_1 SET v1 = CAST(x'eda080' AS TEXT) WHERE kind = 0",
    "NUL in a text": "UPDATE operations_1 SET v1 = CAST(x'610062' AS TEXT), v0 = CAST(x'610062' AS TEXT) WHERE kind = 0",
    "a megabyte": "UPDATE operations_1 SET v1 = zeroblob(1000000) WHERE kind = 0",
    "infinity": "UPDATE operations_1 SET v2 = 9e999 WHERE kind = 0",
    # bases
    "a base of its own": "UPDATE operations_1 SET base = op",
    "a base on another row": "UPDATE operations_1 SET base = (SELECT max(op) FROM operations_2) WHERE op > 0",
    "a base of this device": """
        UPDATE operations_1 SET base = 1 - ((SELECT ordinal FROM devices WHERE device_id = (SELECT peer_device_id FROM bundle)) << 40)""",
    # names
    "a table that is not here": "UPDATE tables SET name = 'elsewhere' WHERE table_no = 1",
    "a table named like a join": "UPDATE tables SET name = 'todos; DROP TABLE todos; --' WHERE table_no = 1",
    "a table named by quotes": """UPDATE tables SET name = '"''[`' || char(10) WHERE table_no = 1""",
    "a table of another schema": "UPDATE tables SET name = 'main.todos' WHERE table_no = 1",
    "a column that is not here": "UPDATE columns SET name = 'elsewhere' WHERE table_no = 1 AND position = 1",
    "a column named like a statement": """UPDATE columns SET name = 'x"); DROP TABLE todos; --' WHERE table_no = 1 AND position = 2""",
    "a column named by quotes": """UPDATE columns SET name = '"''[`' || char(0) || '%s{0}' WHERE table_no = 1 AND position = 2""",
    "another key": "UPDATE columns SET key_place = 1 - key_place WHERE table_no = 1 AND position IN (0, 1)",
    "a wider key": "UPDATE columns SET key_place = 2 WHERE table_no = 1 AND position = 1; UPDATE operations_1 SET v1 = 'k'",
    "columns of an expression's length": """
        UPDATE columns SET name = replace(hex(zeroblob(50000)), '00', 'x') WHERE table_no = 1 AND position = 2""",
    # devices
    "1,000 devices more": """
        WITH RECURSIVE n(i) AS (VALUES (1000) UNION ALL SELECT i + 1 FROM n WHERE i < 1999)
        INSERT INTO devices SELECT i, randomblob(16), 0, 0, 0, 0, 0 FROM n""",
    "clocks counted from elsewhere": """
        UPDATE operations_1 SET hlc = hlc - 1 WHERE op > 0;
        UPDATE operations_2 SET hlc = hlc - 1 WHERE op > 0; UPDATE devices SET base_hlc = 1 WHERE ordinal = 0""",
    "the file in WAL mode": "PRAGMA journal_mode = WAL",
    "the file in large pages": "PRAGMA page_size = 65536; VACUUM",
    "the file with automatic vacuum": "PRAGMA auto_vacuum = FULL; VACUUM",
    "the file with empty pages": "CREATE TABLE filler (x); INSERT INTO filler VALUES (zeroblob(100000)); DROP TABLE filler",
}


@pytest.mark.parametrize("oddity", ODDITIES)
def test_what_is_odd_is_refused_or_harmless(oddity: str, honest: Path, target: SyncEngine, scratch: Path) -> None:
    before = target.path.read_bytes()
    try:
        target.import_bundle(forged(honest, ODDITIES[oddity]))
    except SyncError:
        assert target.path.read_bytes() == before
    assert list(scratch.iterdir()) == []
    assert {name for (name,) in target.connection.execute("SELECT name FROM sqlite_temp_schema")} == set()
    for conflict in target.get_unresolved_conflicts():
        target.images(conflict)
    assert len(list(target.operations())) == sum(target.get_vector_clock().values())
    assert target.status().tables[0].problem is None
    goes_on(target)


@pytest.mark.parametrize("oddity", ODDITIES)
def test_what_is_odd_and_held_is_refused_or_harmless_once_its_table_comes(
    oddity: str, ground: Ground, tmp_path: Path
) -> None:
    path = tmp_path / "whole.bundle"
    path.write_bytes(ground.whole)
    with (
        _opened(tmp_path / "later.db", schema=None) as later,
        _opened(tmp_path / "fresh.db", schema=None) as fresh,
    ):
        with suppress(SyncError):
            later.import_bundle(forged(path, ODDITIES[oddity]))
        later.connection.executescript(SCHEMA)
        for table in TABLES:
            before = later.path.read_bytes()
            try:
                later.enable_sync_for_table(table, keys="natural")
            except SyncError:
                assert later.path.read_bytes() == before
        assert later.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        _write(later, "INSERT OR REPLACE INTO todos VALUES ('afterwards', 'fine', 0)")
        onward = later.generate_bundle(fresh.device_id, tmp_path / "onward.bundle", acknowledge=True)
        assert onward is not None
        fresh.import_bundle(onward)
        assert fresh.get_vector_clock() == later.get_vector_clock()


def _wide(connection: sqlite3.Connection, prefix: str, columns: int) -> None:
    """Describe table 1 as one with many columns more, rightly."""
    connection.executemany(
        "INSERT INTO columns VALUES (1, ?, ?, 0, NULL)", [(i, f"{prefix}{i}") for i in range(3, columns)]
    )
    pairs = ", ".join(f"v{i}, o{i}" for i in range(columns))
    kept = "op, kind, base, hlc, v0, o0, v1, o1, v2, o2"
    connection.execute("ALTER TABLE operations_1 RENAME TO narrow")
    connection.execute(f"CREATE TABLE operations_1 (op INTEGER PRIMARY KEY, kind, base, hlc, {pairs})")
    connection.execute(f"INSERT INTO operations_1 ({kept}) SELECT {kept} FROM narrow")
    connection.execute("DROP TABLE narrow")
    connection.execute("DROP TABLE inserts_1")
    values = ", ".join(f"v{i}" for i in range(columns))
    connection.execute(f"CREATE TABLE inserts_1 (op INTEGER PRIMARY KEY, hlc, {values})")


def test_columns_that_are_not_here_are_kept_up_to_what_the_log_can_hold(honest: Path, target: SyncEngine) -> None:
    target.import_bundle(forged(honest, lambda connection: _wide(connection, "a", 300)))
    target.connection.execute("INSERT INTO todos VALUES ('between', 'x', 0)")
    before = target.path.read_bytes()
    refused_or_taken = forged(honest, lambda connection: _wide(connection, "b", 800))
    with suppress(SyncError):
        target.import_bundle(refused_or_taken)
        before = target.path.read_bytes()
    assert target.path.read_bytes() == before
    goes_on(target)


# --- where the file lies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside", ["-journal", "-wal", "-shm"])
def test_a_journal_beside_the_bundle_is_neither_read_nor_touched(honest: Path, target: SyncEngine, beside: str) -> None:
    journal = honest.with_name(honest.name + beside)
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(4096))
    whole = honest.read_bytes()
    assert target.import_bundle(honest).applied_count > 0
    assert honest.read_bytes() == whole
    assert journal.stat().st_size == 4104


def test_a_bundle_that_may_only_be_read_is_imported_and_nothing_is_written_beside_it(
    honest: Path, target: SyncEngine
) -> None:
    media = honest.parent / "media"
    media.mkdir()
    path = honest.rename(media / honest.name)
    path.chmod(0o444)
    media.chmod(0o555)
    before = path.stat().st_mtime_ns, media.stat().st_mtime_ns
    try:
        assert target.import_bundle(path).applied_count > 0
        assert list(media.iterdir()) == [path]
        assert (path.stat().st_mtime_ns, media.stat().st_mtime_ns) == before
    finally:
        media.chmod(0o755)


@pytest.mark.parametrize(
    "name",
    [
        "other name.txt",
        "no-suffix",
        "a?mode=ro&b#c%41.bundle",
        'it\'s "quoted".bundle',
        "Übergrößenträger 包.bundle",
        "file:x",
    ],
)
def test_a_renamed_bundle_is_the_same_bundle(honest: Path, target: SyncEngine, name: str) -> None:
    path = honest.rename(honest.with_name(name))
    assert target.import_bundle(path).applied_count > 0
    assert target.import_bundle(str(path)).skipped


@pytest.mark.parametrize(
    "name", ["a?mode=ro&b#c%41.bundle", 'it\'s "quoted".bundle', "Übergrößenträger 包.bundle", "file:x"]
)
def test_a_bundle_is_written_under_any_name(target: SyncEngine, tmp_path: Path, name: str) -> None:
    path = target.generate_bundle(os.urandom(16), tmp_path / name)
    assert path == tmp_path / name
    assert inspect_bundle(path).source_device_id == target.device_id


def test_a_link_to_a_bundle_is_followed(honest: Path, target: SyncEngine) -> None:
    link = honest.with_name("link.bundle")
    link.symlink_to(honest)
    assert target.import_bundle(link).applied_count > 0
    assert link.is_symlink()


def test_a_relative_path_is_taken_from_where_the_program_stands(
    honest: Path, target: SyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(honest.parent)
    assert target.import_bundle(honest.name).applied_count > 0
    assert target.generate_bundle(os.urandom(16), "mine.bundle") == Path("mine.bundle")
    assert honest.with_name("mine.bundle").exists()


# --- writing ------------------------------------------------------------------------------------------------------


def _deny_contexts(action: int, first: str | None, *_: str | None) -> int:
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_INSERT and first == "contexts" else sqlite3.SQLITE_OK


def test_when_writing_fails_the_old_file_stays_and_no_new_one_comes(target: SyncEngine, tmp_path: Path) -> None:
    path = tmp_path / "for-peer.bundle"
    path.write_bytes(b"an older bundle")
    names = {entry.name for entry in tmp_path.iterdir()}
    target.connection.set_authorizer(_deny_contexts)
    with pytest.raises(DatabaseError, match="authorizer"):
        target.generate_bundle(os.urandom(16), path)
    target.connection.set_authorizer(None)
    assert path.read_bytes() == b"an older bundle"
    assert {entry.name for entry in tmp_path.iterdir()} == names
    assert target.generate_bundle(os.urandom(16), path) == path
    assert inspect_bundle(path).total_operations > 0
    assert {entry.name for entry in tmp_path.iterdir()} == names


def test_no_other_database_is_replaced(target: SyncEngine, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE only_copy (x)")
    before = other.read_bytes()
    with pytest.raises(BundleError, match="a database that is no bundle is there"):
        target.generate_bundle(None, other)
    assert other.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if "other" in path.name) == ["other.db"]


def test_what_stood_at_the_target_is_replaced_as_a_whole(target: SyncEngine, tmp_path: Path) -> None:
    path = tmp_path / "for-peer.bundle"
    path.write_bytes(bytes(10_000_000))
    target.generate_bundle(os.urandom(16), path)
    assert inspect_bundle(path).total_operations == sum(target.get_vector_clock().values())


def test_any_tool_opens_a_bundle(honest: Path) -> None:
    with closing(sqlite3.connect(honest)) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert plain.execute("PRAGMA application_id").fetchone() == (0x53594E43,)
        assert plain.execute("PRAGMA user_version").fetchone() == (1,)
        (count,) = plain.execute("SELECT sum(to_seq - from_seq) FROM devices").fetchone()
        names = [f"{part}_{n}" for part in ("inserts", "operations") for n in (1, 2)]
        counted = sum(plain.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names)
        assert count == counted > 0
