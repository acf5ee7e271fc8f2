"""What is broken in the fault tests: a database with an open conflict, a bundle for it, and every verb on them.

Clock, random numbers and ids are counters, so that a verb does the same each time and its outcome can be compared.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sqlite_sync import (
    LastWriteWins,
    PreferRemote,
    SyncEngine,
    bundle,
    database,
    devices,
    engine,
    exporter,
    folder,
    reconciler,
)

SCHEMA = """
CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT NOT NULL, done INTEGER DEFAULT 0, tag TEXT UNIQUE);
CREATE TABLE items (id INTEGER PRIMARY KEY, todo TEXT REFERENCES todos ON DELETE CASCADE, n);
CREATE TABLE more (id TEXT PRIMARY KEY, x);
CREATE TABLE seen (id TEXT, title TEXT);
CREATE TRIGGER note AFTER INSERT ON todos BEGIN INSERT INTO seen VALUES (NEW.id, NEW.title); END;
"""
COLOUR = "ALTER TABLE todos ADD COLUMN colour TEXT DEFAULT 'red'"
TABLES = ("todos", "items")
PEER = bytes(range(16))
NOON_MS = 1_700_000_000_000
Dump = dict[str, list[tuple[Any, ...]]]


@contextmanager
def counted(first: int = 1) -> Iterator[None]:
    """Let ids and times be counters, in this process."""
    ids = count(first)
    with pytest.MonkeyPatch.context() as patch:
        for room in (bundle, database, devices, exporter, folder, reconciler):
            patch.setattr(room, "new_uuid", lambda: NOON_MS.to_bytes(6, "big") + b"\x70" + next(ids).to_bytes(9, "big"))
        patch.setattr(engine, "_now_ms", lambda: NOON_MS)
        yield


def opened(path: Path, start_ms: int = NOON_MS, *, prepare: bool = True) -> SyncEngine:
    """Open a database whose clock goes on by a millisecond at each look."""
    device = SyncEngine(path)
    clock, dice = count(start_ms), count()
    device.connection.create_function("julianday", 1, lambda _: 2440587.5 + next(clock) / 86_400_000)
    device.connection.create_function("random", 0, lambda: next(dice))
    if prepare:
        device.initialize()
    return device


def write(device: SyncEngine, *statements: str) -> None:
    for statement in statements:
        device.connection.execute(statement)


def sent(source: SyncEngine, target: SyncEngine, path: Path) -> Path:
    written = source.generate_bundle(target.device_id, path, acknowledge=True)
    assert written is not None
    return written


def build(place: Path, journal: str, rows: int = 12) -> None:
    """Make `victim.db` with an open conflict, `broken.db` whose capture is broken, and `in.bundle` for both."""
    author, victim = opened(place / "author.db", NOON_MS), opened(place / "victim.db", NOON_MS + 500)
    for device in (author, victim):
        device.connection.execute(f"PRAGMA journal_mode = {journal}")
        device.connection.executescript(SCHEMA)
        for table in TABLES:
            device.enable_sync_for_table(table, keys="natural")
    for i in range(rows):
        write(author, f"INSERT INTO todos VALUES ('a{i:03}', '{'x' * 150}', 0, 'tag {i}')")
        write(author, f"INSERT INTO items VALUES ({i}, 'a{i:03}', {i})")
    victim.import_bundle(sent(author, victim, place / "in.bundle"))
    author.import_bundle(sent(victim, author, place / "in.bundle"))
    for device in (author, victim):
        write(device, f"UPDATE todos SET title = '{device.path.stem}' WHERE id < 'a003'")
    victim.import_bundle(sent(author, victim, place / "in.bundle"))
    author.import_bundle(sent(victim, author, place / "in.bundle"))
    write(author, f"UPDATE todos SET title = '{'y' * 150}', done = 1 WHERE id > 'a005'")
    write(author, "DELETE FROM todos WHERE id = 'a005'", "UPDATE items SET todo = 'a006' WHERE id = 7")
    for i in range(rows):
        write(author, f"INSERT INTO todos VALUES ('late{i}', '{'z' * 150}', 0, 'later {i}')")
    write(victim, "UPDATE todos SET done = 9 WHERE id = 'a005'", "INSERT INTO todos VALUES ('v', 'mine', 0, 'later 3')")
    write(victim, "UPDATE todos SET title = 'again' WHERE id = 'a001'", "INSERT INTO items VALUES (99, 'a005', 9)")
    write(victim, *(f"INSERT INTO more VALUES ('m{i}', zeroblob(100))" for i in range(rows)))
    sent(author, victim, place / "in.bundle")
    author.generate_bundle(None, place / "whole.bundle")
    victim.get_unresolved_conflicts()  # settles, in a transaction of its own
    for device in (author, victim):
        device.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        device.close()
    _break(shutil.copy(place / "victim.db", place / "broken.db"))
    with closing(sqlite3.connect(place / "plain.db")) as plain:
        plain.execute(f"PRAGMA journal_mode = {journal}")
        plain.executescript(SCHEMA)


def _break(path: str) -> None:
    """Write as a program does that switches triggers off."""
    with closing(sqlite3.connect(path, isolation_level=None)) as plain:
        plain.execute("DROP TRIGGER sync_update_1")
        plain.execute("UPDATE todos SET title = 'unseen', done = 5 WHERE id BETWEEN 'a006' AND 'a010'")
        plain.execute("UPDATE todos SET title = 'unseen' WHERE id = 'a001'")


def _capture(device: SyncEngine, _: Path) -> None:
    connection = device.connection
    if connection.execute("SELECT 1 FROM todos WHERE id = 'new'").fetchone():
        return  # it was done, and then something else failed
    connection.execute("BEGIN")
    try:
        for statement in (
            "INSERT INTO todos VALUES ('new', 'new', 0, 'tag new')",
            "UPDATE todos SET title = title || '!', done = 3 WHERE id BETWEEN 'a001' AND 'a008'",
            "INSERT OR REPLACE INTO todos VALUES ('other', 'in the way', 0, 'tag 7')",
            "UPDATE items SET id = id + 1000 WHERE id < 3",
            "DELETE FROM items WHERE id > 5",
        ):
            connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _generate(device: SyncEngine, place: Path) -> None:
    device.generate_bundle(PEER, place / "out.bundle")


def _resolve(device: SyncEngine, _: Path) -> None:
    device.resolve_all(PreferRemote())


def _capture_and_generate(device: SyncEngine, place: Path) -> None:
    _capture(device, place)
    _generate(device, place)


def _import_and_generate(device: SyncEngine, place: Path) -> None:
    device.import_bundle(place / "in.bundle")
    _generate(device, place)


def _visit(device: SyncEngine, place: Path) -> None:
    device.sync_folder(place / "shared")


def _disable(device: SyncEngine, _: Path) -> None:
    if device.is_sync_enabled("todos"):
        device.disable_sync_for_table("todos")


def _has_colour(device: SyncEngine) -> bool:
    return bool(device.connection.execute("SELECT 1 FROM pragma_table_info('todos') WHERE name = 'colour'").fetchone())


def _migrate(device: SyncEngine, _: Path) -> None:
    with device.migration():
        if not _has_colour(device):
            device.connection.execute(COLOUR)


def _migrate_in_vain(device: SyncEngine, _: Path) -> None:
    with suppress(ValueError), device.migration():
        raise ValueError


@dataclass(frozen=True)
class Verb:
    """Something that is done to a database; afterwards it can take in a bundle."""

    run: Callable[[SyncEngine, Path], object]
    on: str = "victim.db"
    bundle: str = "in.bundle"
    in_vain: Callable[[SyncEngine, Path], object] | None = None  # what it does when the application's part fails

    @property
    def is_prepared(self) -> bool:
        return self.on != "plain.db"

    def opened(self, path: Path) -> SyncEngine:
        return opened(path, NOON_MS + 100_000, prepare=self.is_prepared)


VERBS: dict[str, Verb] = {
    "initialize": Verb(lambda device, _: device.initialize(), "plain.db", "whole.bundle"),
    "capture": Verb(_capture),
    "generate": Verb(_generate),
    "capture and generate": Verb(_capture_and_generate),
    "import and generate": Verb(_import_and_generate),
    "import": Verb(lambda device, place: device.import_bundle(place / "in.bundle")),
    "import with a strategy": Verb(
        lambda device, place: device.import_bundle(place / "in.bundle", resolver=LastWriteWins())
    ),
    "import into broken capture": Verb(lambda device, place: device.import_bundle(place / "in.bundle"), "broken.db"),
    "resolve": Verb(_resolve),
    "reconcile": Verb(lambda device, _: device.reconcile(), "broken.db"),
    "enable": Verb(lambda device, _: device.enable_sync_for_table("more", keys="natural")),
    "disable": Verb(_disable),
    "renew": Verb(lambda device, _: device.renew_device()),
    "folder": Verb(_visit),
    "migrate": Verb(_migrate, in_vain=_migrate_in_vain),
    "uninstall": Verb(lambda device, _: device.uninstall(), bundle="whole.bundle"),
}
REQUIRED = ("capture", "generate", "import", "resolve", "reconcile")


def lay_out(template: Path, place: Path, verb: Verb) -> Path:
    """Put fresh files into a folder; return the database."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "tmp").mkdir(parents=True)
    for name in ("in.bundle", "whole.bundle"):
        shutil.copy(template / name, place)
    (place / "out.bundle").write_bytes((template / "in.bundle").read_bytes())  # an older bundle stands there
    with closing(sqlite3.connect(template / "author.db")) as plain:
        (author,) = plain.execute("SELECT device_id FROM sync_devices WHERE ordinal = 0").fetchone()
    (place / "shared" / author.hex()).mkdir(parents=True)
    shutil.copy(template / "in.bundle", place / "shared" / author.hex() / f"{'1' * 32}.bundle")
    return Path(shutil.copy(template / verb.on, place / "victim.db"))


def dump(path: Path) -> Dump:
    """Read everything in a database, ours and theirs, after it was found whole."""
    with closing(sqlite3.connect(path)) as plain:
        plain.text_factory = bytes
        assert plain.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)]
        assert plain.execute("PRAGMA foreign_key_check").fetchall() == []
        names = [name.decode() for (name,) in plain.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found = {name: plain.execute(f'SELECT * FROM "{name}" ORDER BY 1, 2').fetchall() for name in sorted(names)}
        found[""] = plain.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name").fetchall()
        return found


def _committed(path: Path, device: SyncEngine, run: Callable[[SyncEngine, Path], object]) -> list[Dump]:
    """Do something to a database; return each state that is committed on the way."""
    states = [dump(path)]

    def look(_: str) -> None:
        if not device.connection.in_transaction and (state := dump(path)) != states[-1]:
            states.append(state)

    device.connection.set_trace_callback(look)
    run(device, path.parent)
    device.close()
    return [*states, dump(path)]


def states_of(template: Path, place: Path, verb: Verb) -> list[Dump]:
    """Return every state that a verb may leave behind, the first and the last included."""
    states = []
    for run in (verb.in_vain, verb.run):
        if run is not None:
            with counted(1000):
                path = lay_out(template, place, verb)
                states += _committed(path, verb.opened(path), run)
    return states


def difference(state: Dump, states: list[Dump]) -> list[list[str]]:
    """Name the tables in which a state differs from each of the others."""
    return [sorted(t for t in state.keys() | one.keys() if state.get(t) != one.get(t)) for one in states]


def require_next_sync(device: SyncEngine, bundle: Path) -> None:
    """Take in a bundle, bring everything to a third device, and find the same there."""
    place = bundle.parent
    device.import_bundle(bundle)
    for table in TABLES:
        device.enable_sync_for_table(table, keys="natural")
    onward = device.generate_bundle(None, place / "onward.bundle")
    assert onward is not None
    (place / "third.db").unlink(missing_ok=True)
    with opened(place / "third.db") as third:
        third.connection.executescript(SCHEMA)
        if _has_colour(device):
            third.connection.execute(COLOUR)
        for table in TABLES:
            third.enable_sync_for_table(table, keys="natural")
        third.import_bundle(onward)
        for table in TABLES:
            same = f"SELECT * FROM {table} ORDER BY 1"
            assert third.connection.execute(same).fetchall() == device.connection.execute(same).fetchall()
        assert [one.conflict_id for one in third.get_unresolved_conflicts()] == [
            one.conflict_id for one in device.get_unresolved_conflicts()
        ]
        assert [finding for finding in device.doctor(deep=True).findings if finding.level == "error"] == []
