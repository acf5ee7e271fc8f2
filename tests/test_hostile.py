"""Hostile bundles with a valid digest, each offered in a process of its own with little memory and little time.

They lie where `test_bundle.py` does not: in the pages of SQLite, in amounts and depths, in what only a whole bundle
can say. SQLITE_SYNC_LONG=1 offers thousands of damaged pages, and more of everything that is much.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faults import fuzz, shim
from faults.forger import TRAILER_BYTES, Forgery, Op
from sqlite_sync import SyncEngine

IS_LONG = bool(os.environ.get("SQLITE_SYNC_LONG"))
NOISES = 5_000 if IS_LONG else 40


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited as Linux does it")
@pytest.mark.parametrize("kind", ["lies", "pages", "corpus", "noise"])
def test_a_hostile_bundle_is_refused_or_harmless_with_little_memory_and_time(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, str(shim.HERE / "hostile.py"), str(tmp_path / "court"), kind, "0", str(NOISES)]
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(shim.SOURCE), str(shim.HERE.parent)])}
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    print(kind, result["tried"])
    assert result["found"] == []
    assert result["tried"]["refused"] > 0
    assert result["tried"]["taken in"] > 0


def test_the_seed_of_the_fuzzer_is_taken_in(tmp_path: Path) -> None:
    fuzz.seed(tmp_path / "seed")
    (tmp_path / "work").mkdir()
    assert fuzz.Target(tmp_path / "work").offer((tmp_path / "seed").read_bytes())


def test_a_bundle_that_is_forged_honestly_is_taken_in(tmp_path: Path) -> None:
    """Else all the others would be refused for one silly reason."""
    Forgery([Op(0, 1, 0, ["k", "title", 0, None])]).write(tmp_path / "x.bundle")
    with SyncEngine(tmp_path / "a.db") as engine:
        engine.initialize()
        assert engine.import_bundle(tmp_path / "x.bundle").held_count == 1


def test_an_encoding_that_sqlite_does_not_know_is_refused(tmp_path: Path) -> None:
    """SQLite takes it for UTF-8, and then does not attach the file."""
    path = tmp_path / "x.bundle"
    Forgery([Op(0, 1, 0, ["k", "title", 0, None])]).write(path)
    database = bytearray(path.read_bytes()[:-TRAILER_BYTES])
    database[56:60] = b"\0\0\0\4"
    path.write_bytes(fuzz.sealed(bytes(database)))
    with SyncEngine(tmp_path / "a.db") as engine:
        engine.initialize()
        with pytest.raises(Exception, match=r"x\.bundle is not a valid bundle: it is not in UTF-8"):
            engine.import_bundle(path)
