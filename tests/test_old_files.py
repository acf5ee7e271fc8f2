"""Files of every released format: each later version opens them, takes them in, and goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from files import make
from sqlite_sync import SyncEngine, bundle, schema

FORMATS = sorted(path for path in make.FOLDER.glob("format-*") if path.is_dir())


@pytest.fixture(params=FORMATS, ids=lambda path: path.name)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The files of one format, to be written on."""
    return Path(shutil.copytree(request.param, tmp_path / request.param.name))


@pytest.fixture
def expected(old: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((old / "expected.json").read_text())
    return found


def test_the_present_format_has_its_files() -> None:
    """Run tests/files/make.py once when the format changes."""
    assert make.FOLDER / f"format-{max(schema.FORMAT, bundle.FORMAT)}" in FORMATS


def _goes_on(engine: SyncEngine, folder: Path) -> None:
    assert engine.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert [one for one in engine.doctor(deep=True).findings if one.level == "error"] == []
    engine.connection.execute("UPDATE todos SET done = done + 1")
    engine.connection.execute("INSERT INTO todos VALUES ('new', 'new', 0, NULL)")
    with make.opened(folder / "peer.db", make.HELD) as peer:
        make.send(engine, peer)
        assert make.state(peer)["rows"] == make.state(engine)["rows"]
        assert make.state(peer)["conflicts"] == make.state(engine)["conflicts"]
        peer.connection.execute("UPDATE todos SET title = 'from the peer' WHERE id = 'new'")
        make.send(peer, engine)
        assert make.state(peer)["rows"] == make.state(engine)["rows"]


def test_an_old_database_is_opened_and_goes_on(old: Path, expected: dict[str, Any]) -> None:
    with SyncEngine(old / "database.db") as engine:
        engine.initialize()
        assert make.state(engine) == expected["database"]
        _goes_on(engine, old)


def test_an_old_database_takes_in_an_old_bundle(old: Path, expected: dict[str, Any]) -> None:
    with SyncEngine(old / "database.db") as engine:
        engine.initialize()
        assert engine.import_bundle(old / "everything.bundle").applied_count > 0
        assert make.state(engine) == expected["database with bundle"]
        assert engine.import_bundle(old / "everything.bundle").skipped
        _goes_on(engine, old)


def test_an_old_bundle_is_taken_in_by_a_new_database(old: Path, expected: dict[str, Any]) -> None:
    with make.opened(old / "empty.db") as engine:
        engine.import_bundle(old / "everything.bundle")
        assert make.state(engine) == expected["empty with bundle"]
        _goes_on(engine, old)


def test_what_was_held_in_an_old_database_is_applied_when_its_table_comes(old: Path) -> None:
    with SyncEngine(old / "database.db") as engine:
        engine.initialize()
        engine.connection.execute(make.HELD)
        engine.enable_sync_for_table("later")
        assert engine.connection.execute("SELECT * FROM later").fetchall() == [("l", 1)]


def test_the_script_still_makes_them(tmp_path: Path) -> None:
    make.play(tmp_path)
    found = make.expectations(tmp_path)
    assert {kind for _, _, kind in found["database"]["conflicts"]} == {"unique", "update/update"}
    assert found["database with bundle"]["rows"] == found["empty with bundle"]["rows"]
