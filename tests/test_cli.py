"""The command line, from outside: what it prints, how it ends, and what it never does."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len

from conftest import tick
from sqlite_sync import Progress, RawText, SyncEngine, __version__
from sqlite_sync.cli import MISSING_EXTRA, main
from sqlite_sync.cli.commands import commands
from sqlite_sync.cli.progress import ProgressBar
from sqlite_sync.cli.values import excerpts, machine, parsed, printable, shown, typed
from sqlite_sync.cli.views import moment

SRC = Path(__file__).parents[1] / "src"
SCHEMA = """
CREATE TABLE notes (id TEXT PRIMARY KEY, title TEXT, body TEXT, done INTEGER DEFAULT 0, photo BLOB);
INSERT INTO notes (id, title, body) VALUES ('n1', 'Milk', 'Two bottles'), ('n2', 'Bread', NULL);
CREATE TABLE tags (name TEXT PRIMARY KEY, colour TEXT);
"""
OPEN_CONFLICTS = 3
TRAILER = 56  # bytes at the end of a bundle
COMMANDS = (
    *(
        "demo",
        "doctor",
        "init",
        "enable",
        "adopt",
        "sync",
        "status",
        "conflicts",
        "resolve",
        "bundle",
        "inspect",
        "import",
        "log",
        "explain",
    ),
    *("trigger", "disable", "reconcile", "migrate", "renew", "uninstall"),
)


def run(*arguments: object, code: int = 0, typed_in: str | None = None) -> Result:
    """Run a command and check how it ended."""
    result = CliRunner(env={"COLUMNS": "80"}).invoke(
        commands, [str(each) for each in arguments], input=typed_in, prog_name="sqlite-sync"
    )
    if result.exit_code != code:
        message = f"exit code {result.exit_code}:\n{result.output}\n{result.exception!r}"
        raise AssertionError(message) from result.exception
    return result


def run_json(*arguments: object, code: int = 0) -> dict[str, Any]:
    """Run a command with --json and read what it prints."""
    found: dict[str, Any] = json.loads(run(*arguments, "--json", code=code).stdout)
    return found


def sql(database: Path, script: str) -> None:
    """Write to a database as any other program does."""
    tick()
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(f"BEGIN; {script}; COMMIT")


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    """Read from a database as any other program does."""
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def device_id(database: Path) -> str:
    """Return a database's device id."""
    found: str = run_json("status", database)["device_id"]
    return found


def carry(source: Path, target: Path, *options: str) -> Result:
    """Carry a bundle from one database to another."""
    file = source.with_suffix(".bundle")
    run("bundle", source, "--peer", device_id(target), "-o", file)
    return run("import", target, file, *options)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Make a database that has never heard of us."""
    path = tmp_path / "plain.db"
    sql(path, SCHEMA)
    return path


@pytest.fixture
def pair(plain: Path) -> tuple[Path, Path]:
    """Make two copies of a database, each a device."""
    paths = plain.with_name("a.db"), plain.with_name("b.db")
    for path in paths:
        shutil.copyfile(plain, path)
        run("init", path)
        run("enable", path, "notes", "tags")
    return paths


@pytest.fixture
def torn(pair: tuple[Path, Path]) -> tuple[Path, Path]:
    """Make two devices of which the second has one open conflict; its own edit is the later one."""
    a, b = pair
    sql(a, "UPDATE notes SET title = 'Oat milk', done = 1 WHERE id = 'n1'")
    sql(b, "UPDATE notes SET title = 'Milk and eggs' WHERE id = 'n1'")
    carry(a, b)
    return a, b


# Prepare and look


def test_help_teaches_every_command() -> None:
    """The help names every command in reading order, the exit codes and three lines to begin with."""
    text = run("--help").stdout
    assert [line.split()[0] for line in text.split("Commands:\n")[1].split("\n\n")[0].splitlines()] == list(COMMANDS)
    assert "Exit codes:" in text
    assert "sqlite-sync sync notes.db ~/Dropbox/notes" in text
    assert "..." not in text.split("Commands:\n")[1].split("\n\n")[0]
    assert max(map(len, text.splitlines())) <= 80
    assert run("--version").stdout == f"sqlite-sync, version {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_has_an_example_and_fits_80_columns(name: str) -> None:
    """Each command's help shows a command to copy."""
    text = run(name, "--help").stdout
    assert f"  sqlite-sync {name}" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_documentation_names_every_command_and_every_option() -> None:
    """And nothing that is not there."""
    text = (SRC.parent / "docs" / "command-line.md").read_text(encoding="utf-8")
    table = text.split("## All commands")[1].split("## Exit codes")[0]
    assert [line.split("`")[1].split()[0] for line in table.splitlines() if line.startswith("| `")] == list(COMMANDS)
    offered = {option for command in commands.commands.values() for each in command.params for option in each.opts}
    known = {option for option in offered if option.startswith("--")} - {"--output"}
    assert set(re.findall(r"--[a-z][a-z-]+", text)) == known | {"--help"}


def test_init_prints_the_device_id_and_is_the_same_again(plain: Path) -> None:
    """The id is 32 hexadecimal digits, and does not change."""
    first = run("init", plain).stdout.strip()
    assert len(bytes.fromhex(first)) == 16
    assert run_json("init", plain) == {"path": str(plain), "device_id": first}


def test_no_command_makes_a_database_by_accident(tmp_path: Path) -> None:
    """A misspelt name is an error, and no file appears."""
    missing = tmp_path / "mistyped.db"
    other = tmp_path / "x"
    for arguments in (
        ("doctor", missing),
        ("init", missing),
        ("enable", missing, "notes"),
        ("disable", missing, "notes"),
        ("trigger", missing, "t", "rule"),
        ("status", missing),
        ("log", missing),
        ("bundle", missing, "--peer", "00" * 16, "-o", other),
        ("import", missing, other),
        ("conflicts", missing),
        ("resolve", missing, "00", "local"),
        ("sync", missing, tmp_path),
        ("reconcile", missing),
        ("renew", missing),
        ("uninstall", missing, "--yes"),
    ):
        assert f"{missing}: no such file" in run(*arguments, code=1).stderr
    assert list(tmp_path.iterdir()) == []


def test_init_makes_a_database_when_told_to(tmp_path: Path) -> None:
    """With --create, and only then."""
    path = tmp_path / "new.db"
    run("init", "--create", path)
    assert run_json("status", path)["tables"] == []
    assert "none yet: sqlite-sync enable" in run("status", path).stdout


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    """No traceback, and the file stays as it was."""
    path = tmp_path / "notes.txt"
    path.write_text("Not a database, however you look at it. " * 50)
    before = path.read_bytes()
    stderr = run("init", path, code=1).stderr
    assert stderr.count("\n") == 1
    assert path.read_bytes() == before


def test_a_database_that_is_not_initialized_says_what_to_do(plain: Path) -> None:
    """One line, with the remedy, from every command that needs it."""
    for arguments in (("status", plain), ("enable", plain, "notes"), ("log", plain), ("conflicts", plain)):
        stderr = run(*arguments, code=1).stderr
        assert stderr.count("\n") == 1
        assert "init" in stderr


def test_enable_says_how_many_rows_it_took_in(plain: Path) -> None:
    """Rows that are there already are the baseline."""
    run("init", plain)
    assert run("enable", plain, "notes").stdout == "notes: enabled, 2 rows taken in as the baseline\n"
    assert run_json("enable", plain, "tags") == {"baseline_rows": {"tags": 0}}


def test_enable_all_takes_what_can_be_synced_and_names_the_rest(plain: Path) -> None:
    """Parents before their children; again, there is nothing to do."""
    sql(
        plain,
        "CREATE TABLE a_child (id TEXT PRIMARY KEY, note REFERENCES notes, up REFERENCES b_child);"
        "CREATE TABLE b_child (id TEXT PRIMARY KEY, up REFERENCES a_child); INSERT INTO b_child VALUES ('x', NULL);"
        "CREATE TABLE keyless (a); CREATE VIEW seen AS SELECT * FROM notes;"
        "CREATE TABLE nulls (id TEXT PRIMARY KEY); INSERT INTO nulls VALUES (NULL)",
    )
    run("init", plain)
    lines = run("enable", plain, "--all").stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["b_child", "notes", "a_child", "tags", "keyless", "nulls"]
    assert lines[1] == "notes: enabled, 2 rows taken in as the baseline"
    assert "keyless: not enabled: keyless has no primary key" in lines[4]
    assert "nulls: not enabled: nulls has NULL in the primary key, which is no identity (rows: 1)" in lines[5]
    again = run_json("enable", plain, "--all")
    assert (again["baseline_rows"], list(again["refused"])) == ({}, ["keyless", "nulls"])
    assert {table["name"]: table["problem"] for table in run_json("status", plain)["tables"]} == dict.fromkeys(
        ("b_child", "notes", "a_child", "tags")
    )
    run("enable", plain, code=2)
    run("enable", plain, "tags", "--all", code=2)


def test_trigger_overrules_the_rule_and_goes_back_to_it(pair: tuple[Path, Path]) -> None:
    """The decision is shown, and stays."""
    a, _ = pair
    sql(
        a,
        "CREATE TABLE seen (id TEXT);"
        "CREATE TRIGGER mark AFTER UPDATE ON notes BEGIN INSERT INTO seen VALUES (NEW.id); END;",
    )
    assert "mark: does not fire on import (you said so" in run("trigger", a, "mark", "silent").stdout
    assert not run_json("status", a)["triggers"][0]["fires"]
    assert run_json("trigger", a, "mark", "rule")["triggers"][0]["reason"] == "it writes only what is not synced"
    assert "no trigger 'other'" in run("trigger", a, "other", "fires", code=1).stderr
    run("trigger", a, "mark", "perhaps", code=2)


def test_enable_of_a_table_that_is_not_there_is_an_error(plain: Path) -> None:
    """The message names the table."""
    run("init", plain)
    assert "recipes" in run("enable", plain, "recipes", code=1).stderr


def test_disable_ends_capture(pair: tuple[Path, Path]) -> None:
    """What is written afterwards is no operation."""
    a, _ = pair
    run("disable", a, "tags")
    sql(a, "INSERT INTO tags VALUES ('later', 'red')")
    assert run_json("status", a)["own_operations"] == 0


def test_status_shows_the_device_the_tables_and_the_conflicts(torn: tuple[Path, Path]) -> None:
    """The own id stands there whole: it is what others need for --peer."""
    _, b = torn
    text = run("status", b).stdout
    assert device_id(b) in text
    assert "notes" in text
    assert "1 open: sqlite-sync conflicts" in text


def test_status_for_machines_has_the_names_of_the_library(torn: tuple[Path, Path]) -> None:
    """The fields are those of `sqlite_sync.Status`."""
    a, b = torn
    found = run_json("status", b)
    assert found["open_conflicts"] == 1
    assert {table["name"] for table in found["tables"]} == {"notes", "tags"}
    assert device_id(a) in [peer["device_id"] for peer in found["peers"]]


# The log


def test_log_ends_with_the_newest_operation(pair: tuple[Path, Path]) -> None:
    """An update shows old and new, a key names the row."""
    a, _ = pair
    sql(a, "UPDATE notes SET title = 'Oat milk' WHERE id = 'n1'; DELETE FROM notes WHERE id = 'n2'")
    lines = run("log", a).stdout.splitlines()
    assert "title: Milk → Oat milk" in lines[-2]
    assert "delete" in lines[-1]
    assert "id=n2" in lines[-1]
    assert max(map(cell_len, lines)) <= 80


def test_log_is_limited_unless_all_of_it_is_asked_for(pair: tuple[Path, Path]) -> None:
    """The last ones are shown; --table leaves out the others."""
    a, _ = pair
    sql(a, "".join(f"INSERT INTO tags VALUES ('t{number}', 'red');" for number in range(30)))
    assert len(run("log", a, "--json").stdout.splitlines()) == 20
    assert len(run("log", a, "--limit", 0, "--json").stdout.splitlines()) == 32
    last = [json.loads(line) for line in run("log", a, "--limit", "2", "--json").stdout.splitlines()]
    assert [each["row_pk"]["name"] for each in last] == ["t28", "t29"]
    assert len(run("log", a, "--table", "notes", "--limit", 0, "--json").stdout.splitlines()) == 2


def test_log_of_one_table_finds_what_lies_deep_in_the_log(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever number of other operations came after it."""
    a, _ = pair
    sql(a, "DELETE FROM notes" + "".join(f"; INSERT INTO tags VALUES ('t{number}', 'red')" for number in range(50)))
    for reach in (0, 100, 10_000):
        monkeypatch.setattr("sqlite_sync.cli.database_commands.SHORT_REACH", reach)
        for limit, kinds in ((2, ["delete"] * 2), (3, ["insert", "delete", "delete"])):
            lines = run("log", a, "--table", "Notes", "--limit", limit, "--json").stdout.splitlines()
            assert [json.loads(line)["kind"] for line in lines] == kinds


def test_log_for_machines_has_blobs_as_base64_and_ids_as_hexadecimal(pair: tuple[Path, Path]) -> None:
    """Whole numbers stay whole."""
    a, _ = pair
    sql(a, "UPDATE notes SET photo = x'00ff', done = 9223372036854775807 WHERE id = 'n1'")
    operation = json.loads(run("log", a, "--limit", "1", "--json").stdout)
    assert operation["device_id"] == device_id(a)
    assert operation["kind"] == "update"
    assert operation["new"]["photo"] == {"base64": "AP8="}
    assert operation["new"]["done"] == 9223372036854775807
    assert operation["old"]["photo"] is None


# Bundles


def test_bundle_and_import_bring_the_edits_over(pair: tuple[Path, Path]) -> None:
    """The other device has the same table afterwards."""
    a, b = pair
    sql(a, "UPDATE notes SET title = 'Oat milk' WHERE id = 'n1'; INSERT INTO tags VALUES ('shop', 'red')")
    text = carry(a, b).stdout
    assert "notes: 1 row updated" in text
    assert "tags: 1 row inserted" in text
    assert "conflicts  none" in text
    assert rows(b, "SELECT title FROM notes WHERE id = 'n1'") == [("Oat milk",)]


def test_bundle_with_nothing_new_writes_no_file(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Unless an acknowledgement is asked for."""
    a, b = pair
    file, acknowledgement = tmp_path / "nothing.bundle", tmp_path / "acknowledgement.bundle"
    sql(a, "INSERT INTO tags VALUES ('shop', 'red')")
    carry(a, b)
    assert "nothing new" in run("bundle", b, "--peer", device_id(a), "-o", acknowledgement).stderr
    assert not acknowledgement.exists()
    run("bundle", b, "--peer", device_id(a), "-o", acknowledgement, "--acknowledge")
    run("import", a, acknowledgement)
    assert run_json("bundle", a, "--peer", device_id(b), "-o", file)["path"] is None
    assert not file.exists()


def test_bundle_takes_the_end_of_a_known_device_id(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A short form that names no known device is refused, and so is what is no hexadecimal number."""
    a, b = pair
    sql(a, "INSERT INTO tags VALUES ('shop', 'red')")
    carry(a, b)
    sql(b, "INSERT INTO tags VALUES ('home', 'blue')")
    run("bundle", b, "--peer", device_id(a)[-8:], "-o", tmp_path / "short.bundle")
    assert "no known device id ends" in run("bundle", b, "--peer", "0000000", "-o", tmp_path / "y", code=1).stderr
    assert "hexadecimal" in run("bundle", b, "--peer", "laptop", "-o", tmp_path / "y", code=2).stderr


def test_bundle_replaces_bundles_only(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Not a letter, not an empty file, and not the database itself."""
    a, b = pair
    sql(a, "INSERT INTO tags VALUES ('shop', 'red')")
    letter, empty, older = (tmp_path / name for name in ("letter.txt", "empty", "older.bundle"))
    letter.write_text("Dear Anna")
    empty.touch()
    for output in (letter, empty, a, tmp_path):
        before = output.read_bytes() if output.is_file() else b""
        assert "name a" in run("bundle", a, "--peer", device_id(b), "-o", output, code=1).stderr
        assert output.is_dir() or output.read_bytes() == before
    for _ in range(2):
        run("bundle", a, "--peer", device_id(b), "-o", older)


def test_inspect_shows_from_whom_what_ranges_and_which_rows(torn: tuple[Path, Path]) -> None:
    """No database is needed for it."""
    a, _ = torn
    text = run("inspect", a.with_suffix(".bundle")).stdout
    assert device_id(a)[-8:] in text
    assert "1 to 1" in text
    assert "id*, title, body, done, photo" in text
    assert "title: Milk → Oat milk" in text
    found = run_json("inspect", a.with_suffix(".bundle"))
    assert found["source_device_id"] == device_id(a)
    assert found["rows"][-1]["new"] == {"title": "Oat milk", "done": 1}
    assert len(run_json("inspect", a.with_suffix(".bundle"), "--limit", 1)["rows"]) == 1
    assert run_json("inspect", a.with_suffix(".bundle"), "--limit", 0)["rows"] == found["rows"]


def test_inspect_refuses_a_damaged_bundle(torn: tuple[Path, Path]) -> None:
    """One byte is enough."""
    file = torn[0].with_suffix(".bundle")
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    assert run("inspect", file, code=1).stderr.startswith("Error: ")


def test_import_again_changes_nothing(torn: tuple[Path, Path]) -> None:
    """It says so."""
    a, b = torn
    assert "was imported before" in run("import", b, a.with_suffix(".bundle")).stdout


def test_import_dry_run_changes_nothing(pair: tuple[Path, Path]) -> None:
    """It tells the rows and the conflicts that an import would bring."""
    a, b = pair
    sql(a, "UPDATE notes SET title = 'Oat milk' WHERE id = 'n1'; INSERT INTO tags VALUES ('shop', 'red')")
    sql(b, "UPDATE notes SET title = 'Milk and eggs' WHERE id = 'n1'")
    text = carry(a, b, "--dry-run").stdout
    assert "would insert tags name=shop" in text
    assert "would open conflict" in text
    assert "conflicts  none" not in text
    assert rows(b, "SELECT count(*) FROM tags") == [(0,)]
    found = run_json("import", b, a.with_suffix(".bundle"), "--dry-run")
    assert found["imported"][0]["dry_run"] is True
    assert found["open_conflicts"] == 0


def test_import_of_several_files_needs_no_order(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """One that continues another is imported after it; one that is refused does not stop the rest."""
    a, b = pair
    first, second, broken = (tmp_path / name for name in ("1.bundle", "2.bundle", "broken.bundle"))
    sql(a, "INSERT INTO tags VALUES ('one', 'red')")
    run("bundle", a, "--peer", device_id(b), "-o", first)
    other = tmp_path / "c.db"
    shutil.copyfile(b, other)  # it hears of the first bundle, says so, and is forgotten
    run("import", other, first)
    run("bundle", other, "--peer", device_id(a), "-o", tmp_path / "ack", "--acknowledge")
    run("import", a, tmp_path / "ack")
    sql(a, "INSERT INTO tags VALUES ('two', 'red')")
    run("bundle", a, "--peer", device_id(b), "-o", second)
    broken.write_bytes(b"nonsense")
    assert run("import", b, second, code=1).stderr.startswith("Error: ")
    found = run("import", b, second, broken, first, code=1)
    assert found.stderr.count("Error: ") == 1
    assert rows(b, "SELECT name FROM tags ORDER BY name") == [("one",), ("two",)]


def test_import_of_a_missing_file_is_one_line(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """It names the file."""
    stderr = run("import", pair[1], tmp_path / "lost.bundle", code=1).stderr
    assert "lost.bundle" in stderr
    assert stderr.count("\n") == 1


# Conflicts


def test_conflicts_stand_side_by_side_within_80_columns(torn: tuple[Path, Path]) -> None:
    """Base, local and remote of the columns that differ, and how to go on."""
    _, b = torn
    text = run("conflicts", b).stdout
    title = next(line for line in text.splitlines() if line.startswith("title"))
    assert [cell.strip() for cell in title.split("│")[1:]] == ["Milk", "Milk and eggs", "Oat milk"]
    assert "body" not in text
    assert "this device" in text
    assert "sqlite-sync resolve" in text


def test_long_and_wide_values_are_legible_within_80_columns(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long value is cut to where the versions begin to differ, wide letters and escapes break nothing."""
    a, b = pair
    monkeypatch.chdir(b.parent)
    same = "Mehl und Zucker, " * 40
    for path, word in ((a, "今日は牛乳を買う" * 9), (b, "\x1b[31mred\x1b[0m 👩‍🍳\nThe end.")):
        photo = "ab" * 500 + word.encode().hex()
        sql(path, f"UPDATE notes SET body = '{same}{word}', photo = x'{photo}' WHERE id = 'n1'")
    carry(a, b)
    text = run("conflicts", b.name).stdout
    assert max(map(cell_len, text.splitlines())) <= 80
    assert len(text.splitlines()) < 40
    assert "今日" in text
    assert "\\x1b[31mred" in text.replace(" ", "")
    assert "\x1b" not in text
    assert "bytes)" in text
    assert len(run("conflicts", b.name, "--full").stdout.splitlines()) > 60


def test_a_deleted_row_is_shown_as_no_row(pair: tuple[Path, Path]) -> None:
    """Update against delete: the live version is the local one."""
    a, b = pair
    sql(a, "DELETE FROM notes WHERE id = 'n1'")
    sql(b, "UPDATE notes SET title = 'Oat milk' WHERE id = 'n1'")
    carry(a, b)
    text = run("conflicts", b).stdout
    assert "update/delete" in text
    assert "(no row)" in text
    found = run_json("conflicts", b)["conflicts"][0]
    assert found["remote"] is None
    assert found["local"]["title"] == "Oat milk"


def test_conflicts_for_machines(torn: tuple[Path, Path]) -> None:
    """Each has the fields of `Conflict` and of `Images`."""
    _, b = torn
    found = run_json("conflicts", b)
    (conflict,) = found["conflicts"]
    assert found["open_conflicts"] == 1
    assert conflict["row_pk"] == {"id": "n1"}
    assert conflict["base"]["title"] == "Milk"
    assert conflict["local"]["title"] == "Milk and eggs"
    assert conflict["remote"] == {"id": "n1", "title": "Oat milk", "body": "Two bottles", "done": 1, "photo": None}
    assert run_json("conflicts", b, "--table", "tags")["conflicts"] == []


def test_exit_code_tells_of_open_conflicts_only_when_asked(torn: tuple[Path, Path], tmp_path: Path) -> None:
    """For conflicts, import and sync."""
    a, b = torn
    run("conflicts", b)
    run("conflicts", b, "--exit-code", code=OPEN_CONFLICTS)
    run("conflicts", a, "--exit-code")
    run("import", b, a.with_suffix(".bundle"), "--exit-code", code=OPEN_CONFLICTS)
    run("sync", b, tmp_path / ".", "--exit-code", code=OPEN_CONFLICTS)


@pytest.mark.parametrize(("choice", "title"), [("local", "Milk and eggs"), ("remote", "Oat milk"), ("delete", None)])
def test_resolve_closes_the_conflict_on_both_devices(torn: tuple[Path, Path], choice: str, title: str | None) -> None:
    """The first digits of the id are enough."""
    a, b = torn
    conflict = run_json("conflicts", b)["conflicts"][0]["conflict_id"]
    text = run("resolve", b, conflict[:6], choice).stdout
    assert "is closed" in text
    assert "conflicts  none" in text
    carry(b, a)
    for path in (a, b):
        run("conflicts", path, "--exit-code")
        assert rows(path, "SELECT title FROM notes WHERE id = 'n1'") == ([(title,)] if title else [])


def test_resolve_with_values_stores_what_the_column_would_store(torn: tuple[Path, Path]) -> None:
    """A number for a number column, text for a text column, NULL and BLOB as they are shown."""
    _, b = torn
    conflict = run_json("conflicts", b)["conflicts"][0]["conflict_id"]
    values = ("title=007", "BODY=a=b", "done=2", "photo=x'00ff'")
    found = run_json("resolve", b, conflict, *(part for value in values for part in ("--set", value)))
    assert found["operation"]["kind"] == "resolve"
    assert found["open_conflicts"] == 0
    assert rows(b, "SELECT title, body, done, photo FROM notes WHERE id = 'n1'") == [("007", "a=b", 2, b"\x00\xff")]


def test_resolve_says_what_is_wrong(torn: tuple[Path, Path]) -> None:
    """A wrong id or column is an error; no choice, or two, is wrong usage."""
    _, b = torn
    conflict = run_json("conflicts", b)["conflicts"][0]["conflict_id"]
    wrong = "f" if conflict[0] != "f" else "e"
    assert "no open conflict" in run("resolve", b, wrong, "local", code=1).stderr
    assert "it has id, title" in run("resolve", b, conflict, "--set", "titel=x", code=1).stderr
    run("resolve", b, conflict, code=2)
    run("resolve", b, conflict, "local", "--set", "title=x", code=2)
    run("resolve", b, conflict, "--set", "title", code=2)
    run("resolve", b, conflict, "mine", code=2)


def test_an_ambiguous_conflict_id_is_refused(pair: tuple[Path, Path]) -> None:
    """With 17 conflicts, two begin with the same digit."""
    a, b = pair
    for path in (a, b):
        sql(path, "".join(f"INSERT INTO tags VALUES ('t{number}', '{path.stem}');" for number in range(17)))
    carry(a, b)
    first_digits = [each["conflict_id"][0] for each in run_json("conflicts", b)["conflicts"]]
    twice = next(digit for digit in first_digits if first_digits.count(digit) > 1)
    assert "open conflicts begin with" in run("resolve", b, twice, "local", code=1).stderr


# Strategies, and being asked


@pytest.fixture
def mixed(pair: tuple[Path, Path]) -> tuple[Path, Path]:
    """Make two devices of which the second has a conflict that merges and one that does not."""
    a, b = pair
    for path, note, bread in ((a, "title = 'Oat milk'", "Rye"), (b, "done = 1", "Wheat")):
        sql(path, f"UPDATE notes SET {note} WHERE id = 'n1'; UPDATE notes SET title = '{bread}' WHERE id = 'n2'")
    return a, b


def test_conflicts_tell_which_side_changed_a_column(mixed: tuple[Path, Path]) -> None:
    a, b = mixed
    carry(a, b)
    text = run("conflicts", b).stdout
    assert text.count("local changed") == text.count("remote changed") == text.count("both changed") == 1
    assert run_json("conflicts", b)["conflicts"][0]["columns"] == ["title", "done"]


def test_a_strategy_resolves_what_it_can(mixed: tuple[Path, Path]) -> None:
    a, b = mixed
    carry(a, b)
    found = run_json("resolve", b, "--strategy", "merge-fields", "--table", "NOTES")
    assert [each["outcome"] for each in found["resolved"]] == ["values"]
    assert [each["reason"] for each in found["deferred"]] == ["several sides changed title"]
    assert found["open_conflicts"] == 1
    assert rows(b, "SELECT title, done FROM notes WHERE id = 'n1'") == [("Oat milk", 1)]
    text = run("resolve", b, "--strategy", "merge-fields:last-write-wins").stdout
    assert "1 conflict closed, 0 left open" in text
    assert rows(b, "SELECT title FROM notes WHERE id = 'n2'") == [("Wheat",)]
    log = run("log", b).stdout
    assert "by MergeFields; title: 'Oat milk'".replace("'", "") in log
    assert "by MergeFields(LastWriteWins)" in log
    carry(b, a)
    assert rows(a, "SELECT * FROM notes") == rows(b, "SELECT * FROM notes")


def test_one_conflict_may_be_given_to_a_strategy(mixed: tuple[Path, Path]) -> None:
    a, b = mixed
    carry(a, b)
    by_key = {each["row_pk"]["id"]: each["conflict_id"] for each in run_json("conflicts", b)["conflicts"]}
    assert run_json("resolve", b, by_key["n2"], "--strategy", "merge-fields") == {
        "operation": None,
        "open_conflicts": 2,
    }
    assert "stays open" in run("resolve", b, by_key["n2"], "--strategy", "merge-fields").stdout
    assert "as PreferRemote says" in run("resolve", b, by_key["n2"], "--strategy", "prefer-remote").stdout
    found = run_json("resolve", b, by_key["n1"], "--strategy", "keep-both")
    assert found["operation"]["strategy"] == "KeepBoth"
    assert rows(b, "SELECT count(*) FROM notes") == [(3,)]


def test_import_and_sync_resolve_what_they_open(mixed: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = mixed
    file = a.with_suffix(".bundle")
    run("bundle", a, "--peer", device_id(b), "-o", file)
    dry = run("import", b, file, "--dry-run", "--resolve", "merge-fields").stdout
    assert "would be closed" in dry
    text = run("import", b, file, "--resolve", "merge-fields").stdout
    assert "the versions are merged" in text
    assert "several sides changed title" in text
    assert "conflicts  1 open" in text
    (folder := tmp_path / "stick").mkdir()
    for path in (b, a, b):
        run("sync", path, folder, "--resolve", "last-write-wins")
    assert rows(a, "SELECT * FROM notes") == rows(b, "SELECT * FROM notes")


@pytest.mark.parametrize("name", ["newest", "higher-version-wins", "merge-fields:nope", "keep-both:x", ""])
def test_a_strategy_that_does_not_exist_is_wrong_usage(torn: tuple[Path, Path], name: str) -> None:
    _, b = torn
    assert "there is no strategy" in run("resolve", b, "--strategy", name, code=2).stderr


def test_options_of_resolve_that_do_not_go_together_are_wrong_usage(torn: tuple[Path, Path]) -> None:
    _, b = torn
    run("resolve", b, "--json", code=2)
    run("resolve", b, "--set", "title=x", code=2)
    run("resolve", b, "4e", "local", "--table", "notes", code=2)
    run("resolve", b, "4e", "local", "--strategy", "prefer-local", code=2)
    run("resolve", b, "--strategy", "prefer-local", "--table", "nope", code=1)


def test_resolve_asks_about_each_conflict(pair: tuple[Path, Path]) -> None:
    a, b = pair
    for path in (a, b):
        tags = "".join(f"INSERT INTO tags VALUES ('t{number}', '{path.stem}');" for number in range(6))
        sql(path, f"{tags} UPDATE notes SET title = '{path.stem}', body = '{path.stem}' WHERE id = 'n1'")
    carry(a, b)
    answers = "e\n'edited'\n\nl\nr\nx\nb\nd\ns\nq\n"
    result = run("resolve", b, typed_in=answers)
    assert result.stdout.count("Conflict ") == 7
    assert "5 conflicts closed, 2 left open" in result.stdout
    assert rows(b, "SELECT title, body FROM notes WHERE id = 'n1'") == [("edited", "b")]
    assert sorted(colour for (colour,) in rows(b, "SELECT colour FROM tags")) == ["a", "a", "b", "b", "b", "b"]
    assert len(run_json("conflicts", b)["conflicts"]) == 2


@pytest.mark.parametrize("answers", ["", "e\n"])
def test_the_end_of_the_input_ends_the_walk(torn: tuple[Path, Path], answers: str) -> None:
    _, b = torn
    assert "0 conflicts closed, 1 left open" in run("resolve", b, typed_in=answers).stdout


def test_an_answer_that_cannot_be_done_leaves_the_conflict_open(pair: tuple[Path, Path]) -> None:
    a, b = pair
    schema = "CREATE TABLE users (id INTEGER PRIMARY KEY, mail UNIQUE, x); CREATE TABLE odd (id REAL PRIMARY KEY, x)"
    for path in pair:
        sql(path, schema)
        run("enable", path, "users", "odd", "--keys", "natural")
        sql(path, f"INSERT INTO users VALUES (1, 'same', '{path.stem}'); INSERT INTO odd VALUES (0.5, '{path.stem}')")
    carry(a, b)
    result = run("resolve", b, typed_in="b\nb\n")
    assert "no other key can be given" in result.stderr
    assert "UNIQUE constraint failed: users.mail" in result.stderr
    assert "0 conflicts closed, 2 left open" in result.stdout


def test_status_counts_conflicts(torn: tuple[Path, Path]) -> None:
    _, b = torn
    assert "1 update/update in notes" in run("status", b).stdout


# A folder


def test_sync_twice_each_brings_two_devices_together(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """What is received, what is sent, which conflicts are open: three lines."""
    a, b = pair
    folder = tmp_path / "stick"
    folder.mkdir()
    sql(a, "UPDATE notes SET title = 'Oat milk' WHERE id = 'n1'")
    sql(b, "INSERT INTO tags VALUES ('shop', 'red')")
    lines = run("sync", a, folder).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["received", "sent", "conflicts"]
    assert "from" in run("sync", b, folder).stdout
    run("sync", a, folder)
    for query in ("SELECT * FROM notes ORDER BY id", "SELECT * FROM tags"):
        assert rows(a, query) == rows(b, query)
    found = run_json("sync", b, folder)
    assert found["open_conflicts"] == 0
    assert device_id(a) in found["members"]


def test_sync_with_a_folder_that_is_not_there_makes_none(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A stick that is not plugged in must not become a folder."""
    assert "no such folder" in run("sync", pair[0], tmp_path / "absent", code=1).stderr
    assert not (tmp_path / "absent").exists()


def test_sync_names_the_files_that_it_left(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Foreign, unfinished and damaged ones; a long list is cut."""
    a, b = pair
    folder = tmp_path / "stick"
    folder.mkdir()
    run("sync", a, folder)
    (bundle,) = (folder / device_id(a)).iterdir()
    bundle.with_suffix(".part").touch()
    bundle.write_bytes(b"damaged")
    for number in range(30):
        (folder / f"photo{number:02}.jpg").touch()
    found = run("sync", b, folder, code=1)
    text = found.stdout
    assert "1 bundle refused, for the reasons given; the rest is exchanged" in found.stderr
    assert "refused" in text
    assert "photo00.jpg" in text
    assert "photo29.jpg" not in text
    assert "--full shows them" in text
    assert "photo29.jpg" in run("sync", b, folder, "--full", code=1).stdout


def test_sync_tells_of_conflicts_and_overridden_rows(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """A local edit that is no longer shown is named."""
    a, b = pair
    sql(b, "UPDATE notes SET title = 'Milk and eggs' WHERE id = 'n1'")
    sql(a, "UPDATE notes SET title = 'Oat' WHERE id = 'n1'; UPDATE notes SET title = 'Oat milk' WHERE id = 'n1'")
    for path in (a, b):  # a's second edit is the last in the total order, even within one millisecond
        text = run("sync", path, tmp_path).stdout
    assert "opened conflict" in text
    assert "notes id=n1: now shows the other device's version" in text
    assert "1 open: sqlite-sync conflicts" in text


# Mend and remove


def test_reconcile_logs_what_was_not_captured(pair: tuple[Path, Path]) -> None:
    """A rebuilt table has lost its triggers; what was written then is found."""
    a, _ = pair
    sql(
        a,
        "CREATE TABLE fresh (name TEXT PRIMARY KEY, colour TEXT); INSERT INTO fresh VALUES ('shop', 'red');"
        "DROP TABLE tags; ALTER TABLE fresh RENAME TO tags;",
    )
    assert "1 operation written" in run("reconcile", a, "tags").stdout
    assert run_json("reconcile", a) == {"operations": 0}


def test_renew_gives_a_copied_database_a_new_id(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The old id stays with the original."""
    a, _ = pair
    copy = tmp_path / "copy.db"
    shutil.copyfile(a, copy)
    renewed = run("renew", copy).stdout.strip()
    assert renewed == device_id(copy)
    assert renewed != device_id(a)


def test_a_copy_that_went_on_is_refused_and_renewed(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The error names the command, and nothing that was written on the copy is lost."""
    a, b = pair
    sql(a, "INSERT INTO tags VALUES ('before', 'red')")
    copy = tmp_path / "copy.db"
    shutil.copyfile(a, copy)
    sql(a, "INSERT INTO tags VALUES ('original', 'red')")
    sql(copy, "INSERT INTO tags VALUES ('copied', 'red')")
    carry(a, b)
    refused = tmp_path / "refused.bundle"
    run("bundle", b, "--everything", "-o", refused)
    assert "sqlite-sync renew DB BUNDLE" in run("import", copy, refused, code=1).stderr
    assert run_json("renew", copy, refused)["device_id"] == device_id(copy)
    carry(copy, b)
    assert rows(b, "SELECT name FROM tags ORDER BY name") == [("before",), ("copied",), ("original",)]


def test_a_reference_that_is_not_declared_is_pointed_out_and_can_be_said_later(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    sql(
        path, "CREATE TABLE todos (id INTEGER PRIMARY KEY, x); CREATE TABLE notes (id INTEGER PRIMARY KEY, todo_id INT)"
    )
    run("init", path)
    said = run("enable", path, "--all").stderr
    assert "notes: todo_id looks, by its name, like a reference to todos that is not declared" in said
    assert "--reference notes.todo_id=todos" in said
    assert run("enable", path, "notes", "--reference", "notes.todo_id=todos").stderr == ""


def test_two_shops_are_put_together(tmp_path: Path) -> None:
    a, b = tmp_path / "a.db", tmp_path / "b.db"
    for path, first in ((a, "ada@x"), (b, "bob@x")):
        sql(path, "CREATE TABLE people (id INTEGER PRIMARY KEY, mail TEXT, name TEXT)")
        sql(path, f"INSERT INTO people (mail, name) VALUES ('{first}', '{path.stem}'), ('both@x', '{path.stem}')")
        run("init", path)
    run("enable", a, "people")
    run("bundle", a, "--everything", "-o", tmp_path / "x")
    run("import", b, tmp_path / "x")
    planned = run("adopt", b, "people=mail").stdout
    assert planned == (
        "people: 1 row in both (1 row with other values: conflicts), 1 only here, 1 only there\n"
        "nothing was changed: add --apply to do it\n"
    )
    assert rows(b, "SELECT count(*) FROM people") == [(2,)]
    done = json.loads(run("adopt", b, "people=mail", "--apply", "--json").stdout)
    assert done["applied"]
    assert done["tables"]["people"]["differing"] == 1
    assert rows(b, "SELECT mail FROM people ORDER BY id") == [("bob@x",), ("both@x",), ("ada@x",)]
    assert "is not TABLE=key" in run("adopt", b, "people", code=2).stderr


def test_doctor_says_before_init_what_each_table_is(plain: Path) -> None:
    """One line for each finding, with what to do, and how to go on; the file is not touched."""
    sql(plain, "CREATE TABLE keyless (a); CREATE TABLE codes (n INTEGER PRIMARY KEY, note_id TEXT)")
    before = plain.read_bytes()
    text = run("doctor", plain).stdout
    assert "not prepared for syncing; nothing was changed" in text
    assert "ok  can be synced: rows are known by id; 5 columns" in text
    assert "error  cannot be synced: no primary key" in text
    assert "→ give it one" in text
    assert "the key n is a number that each device gives" in text
    assert "note_id looks, by its name, like a reference to notes" in text
    assert "1 error, 2 notes" in text
    assert "3 tables not synced yet can be:" in text
    assert f"sqlite-sync init {plain}" in text
    assert max(map(cell_len, text.splitlines())) <= max(80, len(str(plain)) + 60)
    assert plain.read_bytes() == before


def test_doctor_for_machines_and_its_exit_code(pair: tuple[Path, Path]) -> None:
    """4 only where an error is, and only when asked."""
    a, _ = pair
    found = run_json("doctor", a, "--deep", "--exit-code")
    assert (found["level"], found["is_prepared"], found["is_deep"]) == ("ok", True, True)
    assert [table["name"] for table in found["tables"]] == ["notes", "tags"]
    assert {finding["code"] for finding in found["tables"][0]["findings"]} == {"table", "capture", "agreement"}
    assert "nothing to mind" in run("doctor", a).stdout
    sql(a, "DROP TRIGGER sync_insert_1; INSERT INTO notes (id) VALUES ('n3')")
    assert "sync_insert_1" in run("doctor", a).stdout
    found = run_json("doctor", a, "--deep", "--exit-code", code=4)
    assert {finding["code"] for finding in found["tables"][0]["findings"]} == {"table", "capture", "disagreement"}
    run("reconcile", a)
    run("doctor", a, "--deep", "--exit-code")


def test_status_tells_of_held_operations_broken_capture_and_triggers(pair: tuple[Path, Path]) -> None:
    """Each with what to do, or why."""
    a, b = pair
    sql(a, "INSERT INTO tags VALUES ('shop', 'red')")
    run("disable", b, "tags")
    carry(a, b)
    sql(
        b,
        "CREATE TABLE seen (id TEXT); DROP TRIGGER sync_delete_1;"
        "CREATE TRIGGER mark AFTER UPDATE ON notes BEGIN INSERT INTO seen VALUES (NEW.id); END;",
    )
    text = run("status", b, "--full").stdout
    assert "1 operation for tables or columns that are not enabled here" in text
    assert "mark on notes: fires on import" in text
    assert "reconcile" in text
    assert device_id(a) in text


def test_status_tells_of_a_log_that_is_not_protected_any_more(pair: tuple[Path, Path]) -> None:
    """And `reconcile` puts the protection back."""
    a, _ = pair
    sql(a, "DROP TRIGGER sync_operations_no_delete")
    assert "lost its protection sync_operations_no_delete" in run_json("status", a)["log_problem"]
    assert "reconcile" in run("status", a).stdout
    run("reconcile", a)
    assert run_json("status", a)["log_problem"] is None
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        sql(a, "DELETE FROM sync_operations")


def test_a_file_without_part_of_our_tables_is_named_as_such(pair: tuple[Path, Path]) -> None:
    """Whoever removed them; it was not the user's mistake that nothing was initialized."""
    a, b = pair
    sql(a, "DROP TABLE sync_contexts; DROP TABLE sync_keys_1")
    assert "has lost sync_contexts, sync_keys_1" in run("status", a, code=1).stderr
    sql(b, "DROP TABLE sync_state")
    assert "sync_state" in run("init", b, code=1).stderr


def test_a_misspelt_table_is_an_error_and_not_an_empty_answer(pair: tuple[Path, Path]) -> None:
    """For log and conflicts; upper and lower case are the same, as in SQL."""
    a, _ = pair
    for name in ("log", "conflicts"):
        assert "note; it has notes, tags" in run(name, a, "--table", "note", code=1).stderr
        run(name, a, "--table", "NOTES")


def test_uninstall_asks_and_leaves_only_the_users_tables(pair: tuple[Path, Path], plain: Path) -> None:
    """The answer no leaves everything."""
    a, _ = pair
    everything = "SELECT name FROM sqlite_master ORDER BY name"
    run("uninstall", a, code=1, typed_in="n\n")
    assert rows(a, everything) != rows(plain, everything)
    assert "Your tables stay" in run("uninstall", a, typed_in="y\n").stderr
    assert rows(a, everything) == rows(plain, everything)
    assert rows(a, "SELECT * FROM notes") == rows(plain, "SELECT * FROM notes")


def test_uninstall_refuses_while_rows_are_parked(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.db" for name in "ab"]
    for path in paths:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY, u UNIQUE)")
        run("init", path)
        run("enable", path, "t")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("INSERT INTO t VALUES (?, 1)", (path.stem,))
    run("bundle", paths[0], "--everything", "-o", tmp_path / "x.bundle")
    run("import", paths[1], tmp_path / "x.bundle")
    refusal = run("uninstall", paths[1], "--yes", code=1).stderr
    assert "parked rows" in refusal
    assert "t {'id': '" in refusal
    assert rows(paths[1], "SELECT count(*) FROM sync_conflicts") == [(1,)]
    assert "is removed" in run("uninstall", paths[1], "--yes", "--discard-parked").stdout


# Errors


def test_a_locked_database_is_one_clear_line(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback when another program holds the database."""
    a, _ = pair
    monkeypatch.setattr("sqlite_sync.cli.group.TIMEOUT_S", 0.01)
    with closing(sqlite3.connect(a, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        stderr = run("enable", a, "notes", code=1).stderr
    assert "locked" in stderr
    assert stderr.count("\n") == 1


def test_unforeseen_errors_of_sqlite_and_of_the_system_are_one_line(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the library lets through."""

    def fail(error: Exception) -> None:
        def status(_engine: SyncEngine) -> None:
            raise error

        monkeypatch.setattr(SyncEngine, "status", status)

    fail(sqlite3.OperationalError("disk I/O error"))
    assert run("status", pair[0], code=1).stderr == "Error: SQLite says: disk I/O error\n"
    fail(PermissionError(13, "Permission denied", "a.db"))
    assert run("status", pair[0], code=1).stderr == "Error: a.db: Permission denied\n"


def test_wrong_usage_exits_with_2() -> None:
    """As click does."""
    run("status", code=2)
    run("frobnicate", code=2)


def test_main_runs_the_command_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the installed script does."""
    monkeypatch.setattr(sys, "argv", ["sqlite-sync", "--version"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert __version__ in capsys.readouterr().out


def test_another_missing_module_is_not_taken_for_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback then tells more than a wrong remedy."""

    def fail(_name: str) -> None:
        raise ModuleNotFoundError(name="msgpack")

    monkeypatch.setattr("sqlite_sync.cli.importlib.import_module", fail)
    with pytest.raises(ModuleNotFoundError):
        main()


def test_a_reader_that_goes_away_is_no_error_message(pair: tuple[Path, Path]) -> None:
    """`sqlite-sync log notes.db | head -1`."""
    a, _ = pair
    sql(a, "".join(f"INSERT INTO tags VALUES ('t{number}', 'red');" for number in range(2000)))
    command = [sys.executable, "-m", "sqlite_sync.cli", "log", str(a), "--limit", "0"]
    settings = {**os.environ, "PYTHONPATH": str(SRC)}
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        reader.stdout.readline()
        reader.stdout.close()
        assert reader.stderr.read() == b""


def test_without_click_one_line_says_what_to_install(tmp_path: Path) -> None:
    """A real process in which click and rich cannot be imported."""
    block = "import sys; sys.modules.update(click=None, rich=None); from sqlite_sync.cli import main; main()"
    found = process("-c", block, cwd=tmp_path)
    assert (found.returncode, found.stdout, found.stderr) == (2, "", MISSING_EXTRA + "\n")


def test_the_package_itself_needs_neither_click_nor_rich() -> None:
    """Who imports the library does not load the command line."""
    found = process("-c", "import sys, sqlite_sync, sqlite_sync.cli; print({'click', 'rich'} & set(sys.modules))")
    assert found.stdout == "set()\n"


def test_a_real_process_prints_json_on_stdout_and_messages_on_stderr(torn: tuple[Path, Path], tmp_path: Path) -> None:
    """And its exit code is the command's."""
    _, b = torn
    found = process("-m", "sqlite_sync.cli", "conflicts", str(b), "--json", "--exit-code")
    assert found.returncode == OPEN_CONFLICTS
    assert len(json.loads(found.stdout)["conflicts"]) == 1
    assert found.stderr == ""
    missing = process("-m", "sqlite_sync.cli", "status", str(tmp_path / "no.db"))
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr.startswith("Error: ")
    assert "Traceback" not in missing.stderr


def test_a_terminal_without_unicode_gets_what_it_can_show(torn: tuple[Path, Path]) -> None:
    """A letter that it lacks must not end the program."""
    _, b = torn
    found = process("-m", "sqlite_sync.cli", "conflicts", str(b), PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert found.returncode == 0
    assert "Milk and eggs" in found.stdout
    assert process("-m", "sqlite_sync.cli", "log", str(b), PYTHONIOENCODING="ascii").returncode == 0


def test_colours_are_for_terminals_only(torn: tuple[Path, Path]) -> None:
    """Forced colours appear, NO_COLOR takes them away."""
    _, b = torn
    command = ("-m", "sqlite_sync.cli", "conflicts", str(b))
    assert "\x1b[" not in process(*command).stdout
    assert "\x1b[32m" in process(*command, FORCE_COLOR="1", TERM="xterm").stdout
    assert "\x1b[32m" not in process(*command, FORCE_COLOR="1", TERM="xterm", NO_COLOR="1").stdout


def process(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a user's shell would."""
    settings = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "NO_COLOR"}}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**settings, "PYTHONPATH": str(SRC), "PYTHONIOENCODING": "utf-8", **environment},
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


# The demo


def test_demo_ends_with_two_equal_databases_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One conflict, shown and resolved, within 80 columns."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = run("demo").stdout
    assert "Queen seen." in text
    assert "the same on both" in text
    assert "DIFFERENT" not in text
    assert "open conflicts: none" in text
    assert max(map(cell_len, text.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []


def test_demo_keeps_its_folder_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = run("demo", "--keep").stdout
    (folder,) = tmp_path.iterdir()
    assert str(folder) in text
    assert run_json("status", folder / "phone.db")["open_conflicts"] == 0


# Progress


class Clock:
    """A timer whose time has come at once."""

    def __init__(self, _seconds: float, act: Callable[[], None]) -> None:
        self.start = act

    def cancel(self) -> None:
        """Be too late."""

    def join(self) -> None:
        """Be over."""


@pytest.mark.parametrize("is_terminal", ["1", ""])
def test_a_bar_on_stderr_shows_a_long_import_to_a_terminal(
    is_terminal: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the file's name and what is being done; stdout is for results."""
    monkeypatch.setenv("FORCE_COLOR", is_terminal)
    monkeypatch.setattr("sqlite_sync.cli.progress.Timer", Clock)
    with ProgressBar("a.bundle") as bar:
        for stage, done in (("verify", 0), ("verify", 9), ("append", 4), ("apply", 9), ("tidy", 1)):
            bar(Progress(stage, done, 9))
    found = capsys.readouterr()
    assert ("tidy a.bundle" in found.err) == bool(is_terminal)
    assert found.out == ""


def test_no_bar_flashes_up_for_a_short_import(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even on a terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with ProgressBar("a.bundle") as bar:
        bar(Progress("verify", 9, 9))
    assert capsys.readouterr().err == ""


# Values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"),
        ("NULL", "'NULL'"),
        (1, "1"),
        (1.0, "1.0"),
        ("1", "'1'"),
        ("1e5", "'1e5'"),
        ("1 July", "1 July"),
        (b"\x00\xff", "x'00ff'"),
        ("x'00'", "'x''00'''"),
        ("", "''"),
        (" a ", "' a '"),
        ("it's", "it's"),
        ("'quoted'", "'''quoted'''"),
        (float("inf"), "Inf"),
        (-(2**63), "-9223372036854775808"),
        ("9" * 5000, "'" + "9" * 5000 + "'"),
        ("日本", "日本"),
    ],
)
def test_what_is_shown_is_what_may_be_typed(value: str | float | bytes | None, text: str) -> None:
    """Every value reads back with its type."""
    assert shown(value) == text
    assert parsed(text) == value
    assert type(parsed(text)) is type(value)


def test_what_a_terminal_would_obey_is_escaped() -> None:
    """Escape sequences and direction marks are shown, not done."""
    assert printable("a\x1b[2Jb\u202ec\n") == "a\\x1b[2Jb\\u202ec\\n"
    assert shown("a\nb\x07", keep="\n") == "a\nb\\x07"


@pytest.mark.parametrize(
    ("text", "declared", "value"),
    [
        ("5", "INTEGER", 5),
        ("5", "REAL", 5.0),
        ("5", "VARCHAR(10)", "5"),
        ("007", "TEXT", "007"),
        ("007", "", 7),
        ("1.50", 'a"b', 1.5),
        ("'5'", "BLOB", "5"),
        ("five", "INTEGER", "five"),
        ("NULL", "TEXT", None),
        ("'NULL'", "TEXT", "NULL"),
        ("x'41'", "TEXT", b"A"),
    ],
)
def test_a_typed_value_is_what_its_column_would_store(
    text: str, declared: str, value: str | float | bytes | None
) -> None:
    """SQLite's own affinity decides."""
    assert typed(text, declared) == value
    assert type(typed(text, declared)) is type(value)


def test_excerpts_show_where_texts_begin_to_differ() -> None:
    """Short ones stay whole."""
    assert excerpts(["", "a", "b"], ["a", "b"], 10) == ["", "a", "b"]
    versions = ["x" * 500 + "one" + "y" * 500, "x" * 500 + "two" + "y" * 500]
    base, one, two = excerpts(["z" * 100, *versions], versions, 40)
    assert base == "…" + "z" * 40
    assert "one" in one
    assert "two" in two
    assert max(map(len, (one, two))) == 42


def test_text_that_is_no_utf_8_is_shown_and_told_from_a_blob() -> None:
    """Its bytes are kept in both forms."""
    assert shown(RawText(b"caf\xe9")) == "'caf\\xe9'"
    assert machine({"a": RawText(b"caf\xe9")}) == {"a": {"text_base64": "Y2Fm6Q=="}}


def test_infinite_numbers_are_valid_json() -> None:
    """JSON itself has no word for them."""
    assert machine({"a": float("inf"), "b": -float("inf")}) == {"a": {"real": "Inf"}, "b": {"real": "-Inf"}}


def test_a_baseline_has_no_time() -> None:
    """Its HLC is 1, which is no moment."""
    assert moment(0) == "baseline"


@pytest.mark.parametrize("time_ms", [2**63 - 1, 253_402_400_000_000])
def test_a_time_that_no_calendar_has_is_shown_as_its_number(time_ms: int) -> None:
    """A forged bundle may say any."""
    assert moment(time_ms) == f"{time_ms} ms"


def test_inspect_shows_a_bundle_with_a_forged_time(torn: tuple[Path, Path]) -> None:
    """And does not crash on it."""
    file = torn[0].with_suffix(".bundle")
    whole = file.read_bytes()
    file.write_bytes(whole[:-TRAILER])
    sql(file, f"UPDATE bundle SET created_at_ms = {2**63 - 1}")
    database = file.read_bytes()
    sealed = database + whole[-TRAILER:-40] + len(database).to_bytes(8, "big")
    file.write_bytes(sealed + sha256(sealed).digest())
    assert f"{2**63 - 1} ms" in run("inspect", file).stdout


@pytest.fixture
def parked(tmp_path: Path) -> Path:
    """Make a database where ann is parked: bob, written later on another device, has her address."""
    a, b = tmp_path / "a.db", tmp_path / "b.db"
    for path in (a, b):
        sql(path, "CREATE TABLE users (id TEXT PRIMARY KEY, mail TEXT UNIQUE)")
        run("init", path)
        run("enable", path, "users")
    sql(a, "INSERT INTO users VALUES ('ann', 'same@example.org')")
    sql(b, "INSERT INTO users VALUES ('bob', 'same@example.org')")
    carry(b, a)
    return a


def test_the_walk_edits_the_parked_row_and_not_the_one_in_its_way(parked: Path) -> None:
    """It asks for every column, and the values that it offers are the parked row's."""
    result = run("resolve", parked, typed_in="l\ne\nann@example.org\n")
    assert "'l' is not one of" in result.stderr
    assert "mail [same@example.org]" in result.stderr
    assert "closed: users id=ann is as edited" in result.stdout
    assert rows(parked, "SELECT * FROM users ORDER BY id") == [("ann", "ann@example.org"), ("bob", "same@example.org")]


def test_an_edit_of_a_parked_row_that_changes_nothing_leaves_it_parked(parked: Path) -> None:
    result = run("resolve", parked, typed_in="e\n\n")
    assert "It stays open: nothing was edited." in result.stderr
    assert "0 conflicts closed, 1 left open" in result.stdout
    assert run_json("conflicts", parked)["open_conflicts"] == 1


def test_the_local_word_on_a_parked_row_says_that_it_deleted_it(parked: Path) -> None:
    assert "remote lets it stand" in run("conflicts", parked).stdout
    conflict = run_json("conflicts", parked)["conflicts"][0]["conflict_id"]
    assert "users id=ann is deleted" in run("resolve", parked, conflict, "local").stdout
    assert rows(parked, "SELECT id FROM users") == [("bob",)]


def test_an_import_that_parks_ones_own_row_says_so(tmp_path: Path) -> None:
    """It is shown by no table: `now shows the other device's version` would be wrong."""
    a, b = tmp_path / "a.db", tmp_path / "b.db"
    for path in (a, b):
        sql(path, "CREATE TABLE users (id TEXT PRIMARY KEY, mail TEXT UNIQUE)")
        run("init", path)
        run("enable", path, "users")
    sql(a, "INSERT INTO users VALUES ('ann', 'same@example.org')")
    sql(b, "INSERT INTO users VALUES ('bob', 'same@example.org')")
    run("bundle", b, "--everything", "-o", tmp_path / "b.bundle")
    assert "users id=ann: your version would be parked" in run("import", a, "--dry-run", tmp_path / "b.bundle").stdout
    assert "users id=ann: your version is parked, and in no table" in run("import", a, tmp_path / "b.bundle").stdout


def test_letting_a_parked_row_stand_says_what_went_for_it(parked: Path) -> None:
    conflict = run_json("conflicts", parked)["conflicts"][0]["conflict_id"]
    text = run("resolve", parked, conflict, "remote").stdout
    assert "users id=ann is in its table, and the row in its way is deleted" in text


def test_the_walk_lets_a_parked_row_stand(parked: Path) -> None:
    assert (
        "closed: users id=ann is in its table, and the row in its way is deleted"
        in run("resolve", parked, typed_in="r\n").stdout
    )


def test_a_choice_without_a_conflict_asks_for_it(parked: Path) -> None:
    assert "name the conflict first" in run("resolve", parked, "local", code=2).stderr


def test_a_row_that_a_check_parks_is_shown_alone(tmp_path: Path) -> None:
    a, b = tmp_path / "a.db", tmp_path / "b.db"
    for path, column in ((a, "n"), (b, "n CHECK (n < 5)")):
        sql(path, f"CREATE TABLE sizes (id TEXT PRIMARY KEY, {column})")
        run("init", path)
        run("enable", path, "sizes")
    sql(a, "INSERT INTO sizes VALUES ('large', 9)")
    carry(a, b)
    text = run("conflicts", b).stdout
    assert "a CHECK constraint of this table refuses it" in text
    assert "in its way" not in text


def test_a_parked_row_is_shown_beside_what_is_in_its_way(parked: Path) -> None:
    """The row, why it is in no table, and how to let it stand."""
    a = parked
    text = run("conflicts", a).stdout
    assert "unique in users" in text
    assert "another row, written later, has its UNIQUE value" in text
    assert text.count("same@example.org") == len(("in its way", "parked"))
    conflict = run_json("conflicts", a)["conflicts"][0]["conflict_id"]
    run("resolve", a, conflict, "--set", "mail=ann@example.org")
    assert rows(a, "SELECT id FROM users ORDER BY id") == [("ann",), ("bob",)]


@pytest.fixture
def cascaded(tmp_path: Path) -> Path:
    """Make a database where ann is parked, with what hangs on her; one of her orders had the number of another."""
    a, b = tmp_path / "a.db", tmp_path / "b.db"
    for path in (a, b):
        sql(
            path,
            "CREATE TABLE users (id TEXT PRIMARY KEY, mail TEXT UNIQUE);"
            "CREATE TABLE orders (id TEXT PRIMARY KEY, user TEXT REFERENCES users, no INTEGER UNIQUE);"
            "CREATE TABLE items (id TEXT PRIMARY KEY, nowhere REFERENCES missing, place TEXT, o REFERENCES orders);"
            "INSERT INTO users VALUES ('ann', NULL), ('cem', NULL); INSERT INTO orders VALUES ('kept', 'cem', NULL)",
        )
        run("init", path)
        run("enable", path, "users", "orders", "items")
    sql(a, "UPDATE users SET mail = 'same@example.org' WHERE id = 'ann'; INSERT INTO orders VALUES ('first', 'cem', 7)")
    sql(a, "DELETE FROM orders WHERE id = 'kept'")
    sql(b, "INSERT INTO users VALUES ('bob', 'same@example.org'); INSERT INTO orders VALUES ('second', 'ann', 7)")
    sql(b, "INSERT INTO items VALUES ('i', 1, 'here', 'second'), ('k', 1, 'there', 'kept')")
    carry(b, a)
    return a


def test_a_parked_row_is_shown_with_its_parent_by_name(cascaded: Path) -> None:
    """The parent has other columns, and is in no table: it is named, and where it is parked, so is its conflict."""
    found = {
        (one["table_name"], *one["row_pk"].values()): one["conflict_id"][:8]
        for one in run_json("conflicts", cascaded)["conflicts"]
    }
    text = " ".join(run("conflicts", cascaded).stdout.split())
    assert f"it refers to users id=ann, which is parked itself: conflict {found['users', 'ann']}" in text
    assert f"it refers to orders id=second, which is parked itself: conflict {found['orders', 'second']}" in text
    assert "it refers to orders id=kept, which is gone: " in text
    assert "its parent" not in text


def test_a_row_in_the_way_that_is_parked_itself_is_not_said_to_be_in_the_table(cascaded: Path) -> None:
    text = run("conflicts", cascaded, "--table", "orders").stdout
    [first] = [
        one["conflict_id"] for one in run_json("conflicts", cascaded)["conflicts"] if one["row_pk"] == {"id": "first"}
    ]
    [shown] = [part for part in text.split("Conflict ") if part.startswith(first[:8])]
    assert "parked: in no table" in shown
    assert "in the table now" not in shown
    assert "and is parked itself: conflict" in " ".join(shown.split())
    said = run("resolve", cascaded, first, "remote").stdout
    assert "orders id=first is in its table\n" in said  # nothing was in its way, so nothing was deleted
    assert rows(cascaded, "SELECT id FROM orders") == [("first",)]


def test_the_version_that_would_be_shown_is_not_said_to_be_in_the_table_while_it_is_parked(tmp_path: Path) -> None:
    a, b = tmp_path / "a.db", tmp_path / "b.db"
    for path in (a, b):
        sql(path, "CREATE TABLE users (id TEXT PRIMARY KEY, mail TEXT UNIQUE); INSERT INTO users VALUES ('ann', NULL)")
        run("init", path)
        run("enable", path, "users")
    sql(a, "UPDATE users SET mail = 'other' WHERE id = 'ann'")
    sql(b, "UPDATE users SET mail = 'same' WHERE id = 'ann'")
    sql(a, "INSERT INTO users VALUES ('bob', 'same')")
    carry(b, a)
    assert {one["kind"] for one in run_json("conflicts", a)["conflicts"]} == {"update/update", "unique"}
    [shown] = [part for part in run("conflicts", a).stdout.split("Conflict ") if "update/update" in part]
    assert "parked: in no table" in shown
    assert "in the table now" not in shown


def test_explain_tells_the_story_of_a_row(torn: tuple[Path, Path]) -> None:
    """Each operation with what it was written over, and how the row stands."""
    _, b = torn
    text = run("explain", b, "notes", "n1").stdout
    assert "opens conflict" in text
    assert "in its table; 1 open conflict (" in text
    found = run_json("explain", b, "notes", "n1")
    assert [event["operation"]["kind"] for event in found["events"]] == ["insert", "update", "update"]
    assert "give 1 value(s), not 2" in run("explain", b, "notes", "n1", "n2", code=1).stderr
    assert "is no table" in run("explain", b, "nothing", "n1", code=1).stderr


def test_explain_says_what_a_constraint_keeps_out(parked: Path) -> None:
    [conflict] = run_json("conflicts", parked)["conflicts"]
    name = conflict["conflict_id"][:8]
    assert f"has its UNIQUE value; 1 open conflict ({name})" in run("explain", parked, "users", "ann").stdout
    assert f"keeps out users id=ann: unique ({name})" in run("explain", parked, "users", "bob").stdout
    assert run_json("explain", parked, "users", "bob")["keeps_out"][0]["conflict_id"] == conflict["conflict_id"]
    run("resolve", parked, name, "remote")
    for key in ("ann", "bob"):
        assert "in a conflict of constraints" in run("explain", parked, "users", key).stdout


@pytest.mark.parametrize("declared", [True, False])
def test_tables_are_enabled_after_those_that_they_refer_to(tmp_path: Path, *, declared: bool) -> None:
    """Whatever order they are named in: a comment goes on being one on its todo."""
    reference = "REFERENCES todos" if declared else ""
    options = [] if declared else ["--reference", "comments.todo_id=todos"]
    a, b = tmp_path / "a.db", tmp_path / "b.db"
    for path in (a, b):
        sql(
            path,
            "CREATE TABLE todos (id INTEGER PRIMARY KEY, title);"
            f"CREATE TABLE comments (id INTEGER PRIMARY KEY, todo_id INTEGER {reference}, text)",
        )
        run("init", path)
        enabled = run_json("enable", path, "comments", "todos", *options)
        assert list(enabled["baseline_rows"]) == ["todos", "comments"]
        sql(path, f"INSERT INTO todos VALUES (1, '{path.stem}'); INSERT INTO comments VALUES (1, 1, '{path.stem}')")
    carry(a, b)
    assert rows(b, "SELECT title, text FROM comments JOIN todos ON todos.id = todo_id ORDER BY 1") == [
        ("a", "a"),
        ("b", "b"),
    ]
