"""Kills, failing disks, full disks, no memory, power cuts: before or after, and the next sync completes.

SQLITE_SYNC_LONG=1 tries every request to the system, every verb and many more kills, and prints the counts (-s).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from conftest import MakeEngine
from faults import shim
from faults.scene import REQUIRED, SCHEMA, TABLES, VERBS, build, counted
from sqlite_sync import BundleError, DatabaseError, StateError, SyncEngine, bundle_reader

IS_LONG = bool(os.environ.get("SQLITE_SYNC_LONG"))
Template = Callable[[str], Path]

SWEEPS = [(journal, verb) for journal in ("DELETE", "WAL") for verb in VERBS]
CUTS = [
    (journal, synchronous, verb)
    for journal, synchronous in (("DELETE", "FULL"), ("WAL", "NORMAL"), ("WAL", "FULL"), ("TRUNCATE", "NORMAL"))
    for verb in VERBS
]
if not IS_LONG:
    SWEEPS = [*(("DELETE", verb) for verb in REQUIRED), ("WAL", "import")]
    CUTS = [("DELETE", "FULL", "import"), ("DELETE", "FULL", "folder"), ("WAL", "NORMAL", "capture and generate")]
MOST_PLACES = 0 if IS_LONG else 2
MOST_CUTS = 0 if IS_LONG else 4
KILLS = 100 if IS_LONG else 4


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder in memory, where the system has one: nothing here depends on the speed of a real disk."""
    shared = Path("/dev/shm")  # noqa: S108 - only its folders are used
    is_there = shared.is_dir() and os.access(shared, os.W_OK)
    with tempfile.TemporaryDirectory(prefix="faults-", dir=shared if is_there else None) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def template(memory: Path) -> Template:
    """Make a scene for each journal mode, once."""
    made: dict[str, Path] = {}

    def get(journal: str) -> Path:
        if journal not in made:
            made[journal] = memory / journal
            made[journal].mkdir()
            with counted():
                build(made[journal], journal)
        return made[journal]

    return get


@pytest.fixture(scope="session")
def library(memory: Path) -> Path:
    return shim.build(memory)


@pytest.fixture
def work(memory: Path) -> Iterator[Path]:
    """Where one case is broken."""
    yield memory / "work"
    shutil.rmtree(memory / "work", ignore_errors=True)


def _require_nothing_found(what: str, result: dict[str, object]) -> None:
    print(what, result["tried"])
    assert result["tried"]
    assert result["found"] == []


@pytest.mark.parametrize(("journal", "verb"), SWEEPS)
def test_whatever_fails_it_is_as_before_or_as_after_and_goes_on(
    journal: str, verb: str, template: Template, library: Path, work: Path
) -> None:
    result = shim.run(library, "sweep.py", template(journal), work, verb, MOST_PLACES)
    _require_nothing_found(f"requests failed, {journal}, {verb}:", result)


@pytest.mark.parametrize("cut", CUTS, ids="-".join)
def test_wherever_the_power_is_cut_it_is_as_before_or_as_after_and_no_bundle_knows_more(
    cut: tuple[str, str, str], template: Template, library: Path, work: Path
) -> None:
    journal, synchronous, verb = cut
    result = shim.run(library, "power.py", template(journal), work, verb, synchronous, MOST_CUTS, 0)
    _require_nothing_found(f"power cut, {journal}, {synchronous}, {verb}:", result)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills need fork")
@pytest.mark.parametrize("verb", VERBS if IS_LONG else REQUIRED)
def test_killed_at_any_moment_it_is_as_before_or_as_after_and_goes_on(
    verb: str, template: Template, work: Path
) -> None:
    journal = "WAL" if verb in ("import", "capture") else "DELETE"
    done = subprocess.run(
        [sys.executable, str(shim.HERE / "kills.py"), work, template(journal), verb, str(KILLS), "0"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(shim.SOURCE), str(shim.HERE.parent)])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _require_nothing_found(f"kills, {journal}, {verb}:", shim.json.loads(done.stdout))


# --- what was found on the way ------------------------------------------------------------------------------------


class NoMemoryToRollBack(sqlite3.Connection):
    """A connection on which memory runs out in a transaction, and does not come back."""

    def cursor(self, *_: object) -> sqlite3.Cursor:
        return super().cursor(Forgetful)


class Forgetful(sqlite3.Cursor):
    def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
        if sql in ("COMMIT", "ROLLBACK"):
            raise MemoryError
        return super().execute(sql, *parameters)


def test_where_there_is_no_memory_to_roll_back_the_connection_is_closed(make: MakeEngine) -> None:
    with make("a", tables=()) as engine:
        engine.connection.execute("INSERT INTO todos VALUES ('1', 'x', 0)")
    before = engine.path.read_bytes()
    connections: list[sqlite3.Connection] = []

    def connect(path: str) -> sqlite3.Connection:
        connections.append(sqlite3.connect(path, factory=NoMemoryToRollBack))
        return connections[0]

    with SyncEngine(engine.path, connect=connect) as poor:
        poor.initialize()
        with pytest.raises((MemoryError, StateError)):
            poor.enable_sync_for_table("todos")
        with pytest.raises(sqlite3.ProgrammingError):
            connections[0].execute("COMMIT")
        with pytest.raises(StateError, match=r"a\.db is closed.*new engine"):
            poor.status()
    assert engine.path.read_bytes() == before


def test_where_no_private_copy_can_be_made_the_error_says_so(
    make: MakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = make("a"), make("b")
    a.connection.execute("INSERT INTO todos VALUES ('1', 'x', 0)")
    path = a.generate_bundle(b.device_id, tmp_path / "x.bundle")
    assert path is not None
    monkeypatch.setattr(bundle_reader.tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(BundleError, match=r"x\.bundle.*private copy.*TMPDIR"):
        b.import_bundle(path)


def test_an_import_leaves_no_journal_of_journals(make: MakeEngine, tmp_path: Path) -> None:
    """SQLite would name the private copy in a file beside the user's, and sync that too."""
    a, b = make("a"), make("b")
    a.connection.execute("INSERT INTO todos VALUES ('1', 'x', 0)")
    path = a.generate_bundle(b.device_id, tmp_path / "x.bundle")
    assert path is not None
    seen: set[str] = set()
    b.import_bundle(path, progress=lambda _: seen.update(one.name for one in tmp_path.iterdir()))
    b.connection.create_function("look", 0, lambda: seen.update(one.name for one in tmp_path.iterdir()))
    with b._database.attached(path, "sync_bundle"):
        assert b.connection.execute("PRAGMA sync_bundle.synchronous").fetchone() == (0,)


def test_a_database_that_cannot_be_brought_to_the_disk_sends_no_bundle(
    make: MakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make("a")
    engine.connection.execute("PRAGMA journal_mode = WAL")
    engine.connection.execute("INSERT INTO todos VALUES ('1', 'x', 0)")
    synced: list[str] = []

    def fail(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}") if sys.platform == "linux" else "a.db-wal")
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DatabaseError, match=r"a\.db cannot be brought to the disk.*check the disk"):
        engine.generate_bundle(bytes(range(16)), tmp_path / "x.bundle")
    assert synced[0].endswith("a.db-wal")
    assert not list(tmp_path.glob("*bundle*"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_FSIZE gives no error elsewhere")
@pytest.mark.parametrize("verb", ["import", "generate"])
def test_a_file_that_may_not_grow_is_as_before(verb: str, template: Template, work: Path) -> None:
    """A quota, a FAT stick of 4 GB, a full disk: the system itself refuses, not SQLite."""
    script = f"""
import resource, signal, sys
from pathlib import Path
from faults.scene import VERBS, dump, lay_out
from sqlite_sync import SyncError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
place = Path(sys.argv[1])
refused = done = 0
for limit in range(4096, 300_000, {4096 if IS_LONG else 36_864}):
    path = lay_out(Path(sys.argv[2]), place, VERBS["{verb}"])
    with VERBS["{verb}"].opened(path) as device:
        before, older = dump(path), (place / "out.bundle").read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        is_refused = False
        try:
            VERBS["{verb}"].run(device, place)
        except SyncError:
            is_refused = True
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        refused += is_refused
        done += not is_refused
        assert not is_refused or (dump(path) == before and (place / "out.bundle").read_bytes() == older)
        VERBS["{verb}"].run(device, place)
        dump(path)
assert refused and done, (refused, done)
"""
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(shim.SOURCE), str(shim.HERE.parent)])}
    command = [sys.executable, "-c", script, str(work), str(template("DELETE"))]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_scene_has_what_it_is_meant_to_have(template: Template) -> None:
    with SyncEngine(template("DELETE") / "victim.db") as victim:
        victim.initialize()
        assert victim.synced_tables() == TABLES
        kinds = {one.kind for one in victim.get_unresolved_conflicts()}
        result = victim.import_bundle(template("DELETE") / "in.bundle", dry_run=True)
        assert kinds == {"update/update"}
        assert {one.kind for one in result.conflicts} >= {"update/delete", "unique"}
        assert sum(change.parked for change in result.changes) > 0
    with closing(sqlite3.connect(":memory:")) as plain:
        plain.executescript(SCHEMA)
