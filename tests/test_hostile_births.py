"""Bundles with a valid digest that lie about where rows were born: refused, or harmless."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sqlite_sync import BundleError, SchemaError, SyncEngine
from test_bundle import forged

SCHEMA = (
    "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);"
    "CREATE TABLE letters (id INTEGER PRIMARY KEY, person_id INTEGER REFERENCES people, body TEXT);"
)
WRITTEN = (
    "INSERT INTO people (name) VALUES ('Ada'), ('Bob')",
    "INSERT INTO letters (person_id, body) VALUES (1, 'one'), (2, 'two'), (NULL, 'three')",
    "UPDATE letters SET person_id = 1 WHERE id = 2",
    "DELETE FROM letters WHERE id = 1",
)
ENDS = {"greatest": 2**63 - 1, "just counted": 2**62, "least": -(2**63), "of ours": -(2**62) - 7}

REFUSED = {
    "a counter's number without a birth": "UPDATE inserts_1 SET b0 = NULL",
    "a reference without a birth": "UPDATE inserts_2 SET b1 = NULL WHERE v1 IS NOT NULL",
    "a birth on a device that is not there": "UPDATE inserts_1 SET b0 = 99",
    "a birth on a device of text": "UPDATE inserts_1 SET b0 = '0'",
    "a birth on a device of minus one": "UPDATE inserts_1 SET b0 = -1",
    "a birth of NULL": "UPDATE inserts_2 SET b1 = 0 WHERE v1 IS NULL",
    "a birth of a text": "UPDATE inserts_2 SET v1 = 'Ada'",
    "a birth of a number that no counter gives": "UPDATE inserts_1 SET v0 = -5 WHERE v0 = 2",
    "an old value without a birth": "UPDATE operations_2 SET a1 = NULL WHERE o1 IS NOT NULL",
    "a column that numbers rows of no table": "UPDATE columns SET mapped = 9 WHERE table_no = 2 AND position = 1",
    "a table that is not mapped, and numbered": "UPDATE columns SET mapped = NULL WHERE table_no = 1 AND position = 0",
    "keys that number one another": "UPDATE columns SET mapped = 3 - table_no WHERE position = 0",
    "a text that numbers rows": "UPDATE columns SET mapped = 'people' WHERE table_no = 2 AND position = 1",
    "a reference to another table": "UPDATE columns SET mapped = 2 WHERE table_no = 2 AND position = 1",
    "a birth column less": "ALTER TABLE inserts_1 DROP COLUMN b0",
}
HARMLESS = {
    **{
        f"a row's number is the {name}": f"UPDATE inserts_1 SET v0 = {value} WHERE v0 = 2"
        for name, value in ENDS.items()
    },
    **{f"a reference is the {name}": f"UPDATE inserts_2 SET v1 = {value} WHERE v1 = 2" for name, value in ENDS.items()},
    "a row that was never inserted": "UPDATE inserts_2 SET v1 = 777 WHERE v1 = 2",
    "two rows of one birth": "UPDATE inserts_1 SET v0 = 2",
    "numbers far apart": "UPDATE inserts_1 SET v0 = v0 * 1099511627776",
    "a row born where the bundle goes": "UPDATE inserts_1 SET b0 = (SELECT ordinal FROM devices WHERE device_id = x'{own}')",
}


@pytest.fixture
def bundle(tmp_path: Path, target: SyncEngine) -> Path:
    with SyncEngine(tmp_path / "source.db") as source:
        prepare(source)
        path = target.generate_bundle(source.device_id, tmp_path / "first.bundle", acknowledge=True)
        assert path is not None
        source.import_bundle(path)
        for statement in WRITTEN:
            source.connection.execute(statement)
        path = source.generate_bundle(target.device_id, tmp_path / "honest.bundle")
        assert path is not None
        return path


@pytest.fixture
def target(tmp_path: Path) -> Iterator[SyncEngine]:
    with SyncEngine(tmp_path / "target.db") as engine:
        prepare(engine)
        engine.connection.execute("INSERT INTO people (name) VALUES ('own')")
        yield engine


def prepare(engine: SyncEngine) -> None:
    engine.initialize()
    engine.connection.executescript(SCHEMA)
    for table in ("people", "letters"):
        engine.enable_sync_for_table(table)


def goes_on(engine: SyncEngine, folder: Path) -> None:
    """Count on, take numbers again, and bring everything to a newcomer."""
    for _ in range(2):
        engine.connection.execute("INSERT INTO people (name) VALUES ('next')")
        engine.connection.execute("INSERT INTO letters (person_id, body) SELECT max(id), 'to next' FROM people")
        engine.connection.execute("DELETE FROM people WHERE id = (SELECT max(id) FROM people)")
    with SyncEngine(folder / "newcomer.db") as newcomer:
        prepare(newcomer)
        path = engine.generate_bundle(newcomer.device_id, folder / "onward.bundle")
        assert path is not None
        newcomer.import_bundle(path)
        for table in ("people", "letters"):
            count = f"SELECT count(*) FROM {table}"
            assert newcomer.connection.execute(count).fetchone() == engine.connection.execute(count).fetchone()
        assert newcomer.reconcile() == engine.reconcile() == 0
    assert engine.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert [one for one in engine.doctor(deep=True).findings if one.level == "error"] == []


@pytest.mark.parametrize("lie", REFUSED)
def test_a_lie_about_births_is_refused(lie: str, bundle: Path, target: SyncEngine, tmp_path: Path) -> None:
    clock = target.get_vector_clock()
    with pytest.raises((BundleError, SchemaError)):
        target.import_bundle(forged(bundle, REFUSED[lie], plainly=False))
    assert target.get_vector_clock() == clock
    target.import_bundle(bundle)
    goes_on(target, tmp_path)


@pytest.mark.parametrize("lie", HARMLESS)
def test_a_strange_birth_is_harmless(lie: str, bundle: Path, target: SyncEngine, tmp_path: Path) -> None:
    target.import_bundle(forged(bundle, HARMLESS[lie].replace("{own}", target.device_id.hex()), plainly=False))
    goes_on(target, tmp_path)
