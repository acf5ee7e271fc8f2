"""The command `demo`: two copies of a database part, meet and agree, before the reader's eyes."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.text import Text

from sqlite_sync import ImportResult, SyncEngine, Value
from sqlite_sync.cli.views import View, count

TABLES = {"hives": "SELECT * FROM hives ORDER BY id", "inspections": "SELECT * FROM inspections ORDER BY id"}
SCHEMA = """
CREATE TABLE hives (id TEXT PRIMARY KEY, name TEXT NOT NULL, place TEXT, queen_year INTEGER);
CREATE TABLE inspections (
    id TEXT PRIMARY KEY, hive_id TEXT NOT NULL REFERENCES hives (id), day TEXT NOT NULL, weight_kg REAL, notes TEXT
);
INSERT INTO hives VALUES
    ('0c5e7d1a-3f0b-4a52-9a57-6f3b8a1d2e01', 'Linden', 'orchard', 2023),
    ('5b9f2c44-81de-4c0f-b6a3-0d7e9c5f4a02', 'Heather', 'south wall', 2024),
    ('a81b6e90-2d47-4f6e-8c19-53f0d2b7c603', 'Clover', 'orchard', 2022);
INSERT INTO inspections VALUES
    ('e3d0a6b7-94c2-4b18-a5f1-7c8e2d90b104', '0c5e7d1a-3f0b-4a52-9a57-6f3b8a1d2e01', '2025-05-03', 31.5, 'Strong.'),
    ('27f4c8d1-6ae5-47b0-9d3c-b1f05e6a8205', '5b9f2c44-81de-4c0f-b6a3-0d7e9c5f4a02', '2025-05-03', 24.0, 'Few eggs.');
"""
ON_THE_LAPTOP = """
UPDATE hives SET place = 'meadow' WHERE name = 'Clover';
UPDATE inspections SET notes = 'Few eggs, order a queen.'
 WHERE notes = 'Few eggs.';
"""
ON_THE_PHONE = """
INSERT INTO inspections
VALUES ('9b62e1f3-0c7d-4e85-b2a4-d4c3f7081306',
        'a81b6e90-2d47-4f6e-8c19-53f0d2b7c603',
        '2025-05-10', 28.2, 'Calm.');
UPDATE inspections SET notes = 'Queen seen.', weight_kg = 25.5
 WHERE notes = 'Few eggs.';
"""
RESOLVED: dict[str, Value] = {"weight_kg": 25.5, "notes": "Queen seen, few eggs."}


def run_demo(console: Console, *, keep: bool) -> None:
    """Play the demo in a temporary folder, which goes away afterwards unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="sqlite-sync-demo-"))
    try:
        Demo(console, folder).play()
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if keep:
        console.print(Text(f"\nThe folder is kept: {folder}"), soft_wrap=True)


class Demo:
    """Two devices, a laptop and a phone, that share no network."""

    def __init__(self, console: Console, folder: Path) -> None:
        self._console = console
        self._step = 0
        self._laptop = folder / "laptop.db"
        self._phone = folder / "phone.db"

    def play(self) -> None:
        """Play all steps."""
        self._make_copies()
        self._edit_offline()
        with SyncEngine(self._laptop) as laptop, SyncEngine(self._phone) as phone:
            laptop.initialize()
            phone.initialize()
            self._exchange(laptop, phone)
            self._show_conflict(phone)
            self._resolve(laptop, phone)
            self._compare(laptop, phone)

    def _make_copies(self) -> None:
        self._tell(
            "A beekeeper's database is on a laptop, and a copy of it on a phone.",
            "sqlite-sync init laptop.db",
            f"sqlite-sync enable laptop.db {' '.join(TABLES)}     # and likewise phone.db",
        )
        with closing(sqlite3.connect(self._laptop)) as connection:
            connection.executescript(SCHEMA)
        shutil.copyfile(self._laptop, self._phone)
        for name, path in (("laptop", self._laptop), ("phone ", self._phone)):
            with SyncEngine(path) as engine:
                device_id = engine.initialize()
                rows = sum(engine.enable_sync_for_table(table) for table in TABLES)
                self._answer(f"{name} is device {device_id.hex()}, {count(rows, 'row')}")

    def _edit_offline(self) -> None:
        self._tell("Both are offline. Any program writes to them; here it is plain sqlite3.")
        for name, path, script in (("laptop", self._laptop, ON_THE_LAPTOP), ("phone", self._phone, ON_THE_PHONE)):
            with closing(sqlite3.connect(path)) as connection:
                connection.executescript(script)
            self._answer(f"On the {name}:")
            self._print_all((f"     {line}" for line in script.strip().splitlines()), "dim")

    def _exchange(self, laptop: SyncEngine, phone: SyncEngine) -> None:
        self._tell(
            "They meet: each writes a bundle, one file, which the other imports.",
            "sqlite-sync bundle laptop.db --peer <phone> -o laptop.bundle",
            "sqlite-sync import phone.db laptop.bundle     # and likewise back",
        )
        self._answer(f"phone:  {_summary(_carry(laptop, phone))}")
        self._answer(f"laptop: {_summary(_carry(phone, laptop))}")

    def _show_conflict(self, phone: SyncEngine) -> None:
        self._tell(
            "One row was edited on both. Nothing is lost and nothing is merged unasked:",
            "sqlite-sync conflicts phone.db",
        )
        view = View(self._console, Path("phone.db"), phone.device_id)
        self._console.print()
        for conflict in phone.get_unresolved_conflicts():
            view.conflict(conflict, phone.images(conflict))

    def _resolve(self, laptop: SyncEngine, phone: SyncEngine) -> None:
        (conflict,) = phone.get_unresolved_conflicts()
        view = View(self._console)
        self._tell(
            "The beekeeper decides, on the phone: keep the weight, and write new notes.",
            f"sqlite-sync resolve phone.db {view.conflict_name(conflict)} \\",
            "    --set weight_kg=25.5 --set notes='Queen seen, few eggs.'",
        )
        phone.resolve(conflict, RESOLVED)
        self._answer("and the next bundle closes the conflict on the laptop, too:")
        self._answer(f"laptop: {_summary(_carry(phone, laptop))}")

    def _compare(self, laptop: SyncEngine, phone: SyncEngine) -> None:
        self._tell("Are they the same now?")
        for table, query in TABLES.items():
            here, there = (engine.connection.execute(query).fetchall() for engine in (laptop, phone))
            self._answer(f"{table}: {count(len(here), 'row')}, {'the same' if here == there else 'DIFFERENT'} on both")
        left = len(laptop.get_unresolved_conflicts()) + len(phone.get_unresolved_conflicts())
        self._answer(f"open conflicts: {left or 'none'}")

    def _tell(self, story: str, *command_lines: str) -> None:
        self._step += 1
        self._console.print(Text.assemble(f"{'' if self._step == 1 else chr(10)}{self._step}. ", (story, "bold")))
        self._print_all((f"   {' ' if line.startswith(' ') else '$'} {line}" for line in command_lines), "cyan")

    def _answer(self, line: str) -> None:
        self._print_all([f"   {line}"])

    def _print_all(self, lines: Iterable[str], style: str = "") -> None:
        for line in lines:
            self._console.print(Text(line, style))


def _carry(source: SyncEngine, target: SyncEngine) -> ImportResult:
    """Carry a bundle from one device to the other."""
    path = source.path.with_suffix(".bundle")
    source.generate_bundle(target.device_id, path)
    return target.import_bundle(path)


def _summary(result: ImportResult) -> str:
    changed = sum(change.inserted + change.updated + change.deleted for change in result.changes)
    news = result.total_operations - result.duplicate_count
    text = f"{count(news, 'new operation')}, {count(changed, 'row')} changed"
    return f"{text}, {count(result.conflict_count, 'conflict')} opened" if result.conflict_count else text
