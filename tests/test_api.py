"""Every sequence of the public face, as users expect it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sqlite_sync import SyncEngine, inspect_bundle


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _todos(engine: SyncEngine) -> None:
    engine.connection.execute("CREATE TABLE todos(id INTEGER PRIMARY KEY, title TEXT NOT NULL, done INTEGER DEFAULT 0)")
    engine.enable_sync_for_table("todos")


def test_quick_start() -> None:
    engine = SyncEngine("my_database.db")
    engine.initialize()
    _todos(engine)
    engine.connection.execute("INSERT INTO todos (title) VALUES ('Buy milk')")
    engine.close()

    with SyncEngine("my_database.db") as again:
        again.initialize()
        assert again.connection.execute("SELECT * FROM todos").fetchall() == [(1, "Buy milk", 0)]
        (operation,) = again.operations()
        assert (operation.kind, operation.table_name, operation.row_pk) == ("insert", "todos", {"id": 1})
        assert again.get_vector_clock() == {again.device_id: 1}


def test_device_a_sends_and_device_b_receives(capsys: pytest.CaptureFixture[str]) -> None:
    engine_a, engine_b = SyncEngine("device_a.db"), SyncEngine("device_b.db")
    engine_a.initialize()
    engine_b.initialize()
    _todos(engine_a)
    _todos(engine_b)
    engine_a.connection.execute("INSERT INTO todos (title) VALUES ('Buy milk')")

    path = engine_a.generate_bundle(peer_device_id=engine_b.device_id, output_path="sync_bundle.db")
    result = engine_b.import_bundle("sync_bundle.db")

    assert path is not None
    assert Path(path).exists()
    print(result.applied_count, result.conflict_count, result.duplicate_count)
    assert capsys.readouterr().out == "1 0 0\n"
    assert engine_b.connection.execute("SELECT title FROM todos").fetchall() == [("Buy milk",)]
    assert engine_a.generate_bundle(os.urandom(16), "everything.db") is not None
    assert engine_b.generate_bundle(engine_a.device_id, "nothing.db") is None
    assert not Path("nothing.db").exists()
    engine_a.close()
    engine_b.close()


def test_conflicts_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with SyncEngine("device_a.db") as engine_a, SyncEngine("device_b.db") as engine:
        for each in (engine_a, engine):
            each.initialize()
            _todos(each)
        engine_a.connection.execute("INSERT INTO todos (title) VALUES ('milk')")
        engine_a.generate_bundle(engine.device_id, "sync_bundle.db")
        engine.import_bundle("sync_bundle.db")
        for each in (engine_a, engine):
            each.connection.execute("UPDATE todos SET title = ?", (each.path.name,))
        Path("sync_bundle.db").unlink()
        engine_a.generate_bundle(engine.device_id, "sync_bundle.db")
        engine.import_bundle("sync_bundle.db")

        for conflict in engine.get_unresolved_conflicts():
            print(conflict.table_name, conflict.row_pk, conflict.local_op_id.hex(), conflict.remote_op_id.hex())

        table, *_, local, remote = capsys.readouterr().out.split()
        assert table == "todos"
        assert len(local) == len(remote) == 32
        assert local != remote


def test_initialize_returns_the_same_id_any_number_of_times() -> None:
    with SyncEngine("my_database.db") as engine:
        first = engine.initialize()
        assert engine.initialize() == first == engine.device_id
        assert len(first) == 16
    with SyncEngine("my_database.db") as again:
        assert again.initialize() == first


def test_importing_the_very_same_bundle_again_is_skipped() -> None:
    with SyncEngine("device_a.db") as engine_a, SyncEngine("device_b.db") as engine_b:
        for each in (engine_a, engine_b):
            each.initialize()
            _todos(each)
        engine_a.connection.execute("INSERT INTO todos (title) VALUES ('x')")
        engine_a.generate_bundle(engine_b.device_id, "sync_bundle.db")
        first, second = engine_b.import_bundle("sync_bundle.db"), engine_b.import_bundle("sync_bundle.db")
        assert (first.applied_count, first.skipped) == (1, False)
        assert (second.applied_count, second.conflict_count, second.duplicate_count, second.skipped) == (0, 0, 0, True)
        assert second.bundle_id == first.bundle_id
        assert second.source_device_id == engine_a.device_id
        assert engine_b.is_sync_enabled("todos")


def test_what_a_peer_acknowledged_is_not_sent_again() -> None:
    with SyncEngine("device_a.db") as engine_a, SyncEngine("device_b.db") as engine_b:
        for each in (engine_a, engine_b):
            each.initialize()
            _todos(each)
        engine_a.connection.execute("INSERT INTO todos (title) VALUES ('x')")
        engine_a.generate_bundle(engine_b.device_id, "there.db")
        engine_b.import_bundle("there.db")
        assert engine_a.generate_bundle(engine_b.device_id, "again.db") is not None
        engine_b.generate_bundle(engine_a.device_id, "back.db", acknowledge=True)
        engine_a.import_bundle("back.db")
        assert engine_a.generate_bundle(engine_b.device_id, "nothing.db") is None
        engine_a.connection.execute("INSERT INTO todos (title) VALUES ('y')")
        engine_a.generate_bundle(engine_b.device_id, "new.db")
        assert inspect_bundle("new.db").total_operations == 1
