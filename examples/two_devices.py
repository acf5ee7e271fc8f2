"""A bookmark file on two devices: edited offline on both by buku, it meets again through files on a stick.

buku is a published bookmark manager that keeps its bookmarks in SQLite and has never heard of sync. Every edit below is
a run of its own command line. Give a folder to keep the files: python examples/two_devices.py FOLDER
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from sqlite_sync import Conflict, FolderResult, SyncEngine

BOOKMARKS = (
    ("https://sqlite.org/", "SQLite", "database"),
    ("https://www.python.org/", "Python", "language"),
    ("https://www.debian.org/", "Debian", "linux"),
    ("https://www.rfc-editor.org/", "RFC Editor", "standards"),
    ("https://home.unicode.org/", "Unicode", "standards,text"),
    ("https://www.gutenberg.org/", "Project Gutenberg", "books"),
)
EXPECTED = [
    ("https://eur-lex.europa.eu/", "EUR-Lex", ",law,", ""),
    ("https://home.unicode.org/", "Unicode", ",standards,text,", ""),
    ("https://sqlite.org/", "SQLite documentation", ",database,", "small, fast, reliable"),
    ("https://www.debian.org/", "Debian 13", ",linux,", ""),
    ("https://www.gutenberg.org/", "Project Gutenberg", ",books,", ""),
    ("https://www.nasa.gov/", "NASA", ",space,", ""),
    ("https://www.rfc-editor.org/", "RFC Editor", ",internet,standards,", ""),
]


def main(arguments: list[str]) -> None:
    """Play the story in the folder that was given, or in a temporary one."""
    if arguments:
        folder = Path(arguments[0])
        if folder.exists():
            sys.exit(f"{folder} exists already: name a folder that does not")
        folder.mkdir(parents=True)
        play(folder)
        print(f"\nThe files are in {folder}")
    else:
        with tempfile.TemporaryDirectory(prefix="two-devices-") as temporary:
            play(Path(temporary))


def play(folder: Path) -> None:
    """Tell the story; end the program with an error where anything is not as it should be."""
    laptop, phone, stick = folder / "laptop.db", folder / "phone.db", folder / "stick"

    step("On the laptop, buku makes a bookmark file.")
    for url, title, tags in BOOKMARKS:
        buku(laptop, "--offline", "--add", url, tags, "--title", title)
    show_bookmarks(laptop)

    step("It is copied to the phone, and sync is switched on for its table on both. buku stays as it is.")
    shutil.copyfile(laptop, phone)
    for device in (laptop, phone):
        with SyncEngine(device) as engine:
            engine.initialize()
            rows = engine.enable_sync_for_table("bookmarks")
            say(f"{device.stem}: device {engine.device_id.hex()}, {rows} bookmarks")

    step("Both are offline, and both are used.")
    say("(buku counts its bookmarks, so both give the next one the number 7. See SPEC.md, section 4.7.)")
    buku(laptop, "--offline", "--add", "https://www.nasa.gov/", "space", "--title", "NASA", aloud=True)
    buku(laptop, "--update", "3", "--title", "Debian 13", aloud=True)
    buku(laptop, "--update", "1", "--title", "SQLite documentation", aloud=True)
    buku(phone, "--update", "4", "--tag", "+", "internet", aloud=True)
    buku(phone, "--offline", "--add", "https://eur-lex.europa.eu/", "law", "--title", "EUR-Lex", aloud=True)
    buku(phone, "--update", "1", "--comment", "small, fast, reliable", aloud=True)

    step("The stick goes from the laptop to the phone, and back.")
    stick.mkdir()
    visit(laptop, stick)
    visit(phone, stick)
    visit(laptop, stick)
    buku(laptop, "--tacit", "--delete", "2", aloud=True)
    for device in (laptop, phone):
        visit(device, stick)
    require(content(laptop) == content(phone), "both devices hold the same bookmarks")
    require(len(content(laptop)) == len(EXPECTED), "seven bookmarks are left")

    step("One bookmark was edited on both. Nothing is lost, and nothing is merged unasked:")
    with SyncEngine(phone) as engine:
        engine.initialize()
        conflicts = engine.get_unresolved_conflicts()
        require(len(conflicts) == 1, "there is one conflict")
        show_conflict(engine, conflicts[0])

    step("Whoever owns the bookmarks decides, on the phone: both edits were meant.")
    with SyncEngine(phone) as engine:
        engine.initialize()
        engine.resolve(conflicts[0], {"metadata": "SQLite documentation", "desc": "small, fast, reliable"})
    say('engine.resolve(conflict, {"metadata": "SQLite documentation", "desc": "small, fast, reliable"})')
    visit(phone, stick)
    visit(laptop, stick)

    step("Are they the same now?")
    for device in (laptop, phone):
        with SyncEngine(device) as engine:
            engine.initialize()
            confirm(not engine.get_unresolved_conflicts(), f"{device.stem}: no conflict is open")
        confirm([row[:4] for row in content(device)] == EXPECTED, f"{device.stem}: every edit is there")
        confirm(is_sound(device), f"{device.stem}: SQLite finds the file in order")
    confirm(exact(laptop) == exact(phone), "the two tables are equal, value by value and type by type, but for numbers")
    for device in (laptop, phone):
        show_bookmarks(device)


def buku(database: Path, *arguments: str, aloud: bool = False) -> str:
    """Run buku's command line in a process of its own, away from the bookmarks of whoever runs this."""
    home = str(database.parent)
    places = dict.fromkeys(("HOME", "USERPROFILE", "APPDATA", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), home)
    command = [sys.executable, "-W", "ignore", "-m", "buku", "--nostdin", "--nc", "--np", "--db", str(database)]
    finished = subprocess.run(  # noqa: S603
        [*command, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **places, "PYTHONIOENCODING": "utf-8"},
        timeout=60,
        check=False,
    )
    if finished.returncode:
        sys.exit(f"buku {' '.join(arguments)} failed:\n{finished.stderr}")
    if aloud:
        words = [f'"{word}"' if " " in word else word for word in arguments if word not in ("--offline", "--tacit")]
        say(f"{database.stem:6} $ buku {' '.join(words)}")
    return finished.stdout


def visit(device: Path, stick: Path) -> FolderResult:
    """Open a device's file, meet the others on the stick, and say what happened."""
    with SyncEngine(device) as engine:
        engine.initialize()
        result = engine.sync_folder(stick)
    applied = sum(each.applied_count for each in result.imported)
    opened = sum(each.conflict_count for each in result.imported)
    news = [count(applied, "operation") + " taken in"] if applied else []
    news += [count(opened, "conflict") + " found"] if opened else []
    news += ["one file written"] if result.written else []
    say(f"{device.stem:6} sync_folder(stick): {', '.join(news) or 'nothing new'}")
    require(not (result.refused or result.waiting or result.ignored), "every file on the stick could be read")
    return result


def count(number: int, thing: str) -> str:
    """Say how many there are."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def show_conflict(engine: SyncEngine, conflict: Conflict) -> None:
    """Print the columns in which the three versions of a row differ."""
    images = engine.images(conflict)
    base, local, remote = images.base or {}, images.local or {}, images.remote or {}
    say(f"{conflict.kind} of bookmark {conflict.row_pk['id']}:")
    say(f"{'':10}{'base (before)':24}{'local (in the table)':24}{'remote (kept aside)':24}".rstrip())
    for column in base:
        if not base[column] == local[column] == remote[column]:
            say(f"{column:10}{base[column]!r:24}{local[column]!r:24}{remote[column]!r:24}".rstrip())
    require(edits(base, local) != edits(base, remote), "each version is one device's edit, whole")


def edits(base: Mapping[str, object], image: Mapping[str, object]) -> set[str]:
    """Name the columns that a version changed."""
    return {column for column in base if base[column] != image[column]}


def content(database: Path) -> list[tuple[object, ...]]:
    """Read the bookmarks as any program does, without the numbers, which are each device's own."""
    with closing(sqlite3.connect(database)) as connection:
        return sorted(row[1:] for row in connection.execute("SELECT * FROM bookmarks"))


def exact(database: Path) -> list[list[tuple[str, object]]]:
    """Read the bookmarks with the type of each value."""
    return [[(type(value).__name__, value) for value in row] for row in content(database)]


def is_sound(database: Path) -> bool:
    """Ask SQLite to check the file."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def show_bookmarks(database: Path) -> None:
    """Print what buku lists."""
    say(f"buku's list on the {database.stem}:")
    for line in buku(database, "--print", "--format", "5").splitlines():
        say(line)


def step(text: str) -> None:
    """Open a chapter of the story."""
    print(f"\n{text}")


def say(text: str) -> None:
    """Print a line of it."""
    print(f"   {text}")


def require(holds: object, what: str) -> None:
    """End the program with an error unless something is as it should be."""
    if not holds:
        sys.exit(f"NOT AS IT SHOULD BE, it is not so: {what}")


def confirm(holds: object, what: str) -> None:
    """Require something, and say that it is so."""
    require(holds, what)
    say(f"yes: {what}")


if __name__ == "__main__":
    main(sys.argv[1:])
