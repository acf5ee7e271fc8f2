"""What the README shows is run: its Python as it stands, its command line, and the program of its first command."""

from __future__ import annotations

import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sqlite_sync.cli.commands import commands

HOUSE = Path(__file__).parents[1]
README = (HOUSE / "README.md").read_text(encoding="utf-8")
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^]]+\]\(([^)#:]*)(?:#([^):]*))?\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _beside_an_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where an application has left notes.db, and a stick is plugged in."""
    monkeypatch.chdir(tmp_path)
    Path("stick").mkdir()
    with closing(sqlite3.connect("notes.db")) as connection:
        connection.execute("CREATE TABLE notes (id TEXT PRIMARY KEY, text TEXT)")


def test_the_python_of_the_readme_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    variables: dict[str, Any] = {}
    for block in PYTHON.findall(README):
        exec(compile(block, "README.md", "exec"), variables)  # noqa: S102
    counts, row, ids = capsys.readouterr().out.splitlines()
    assert counts == "0 1 0"
    assert row == "todos {'id': 'milk'}"
    assert re.fullmatch(r"[0-9a-f]{32} [0-9a-f]{32}", ids)
    engine_a, engine_b, conflict = variables["engine_a"], variables["engine_b"], variables["conflict"]
    with closing(engine_a), closing(engine_b):
        assert variables["images"].base is None
        assert {variables["images"].local["title"], variables["images"].remote["title"]} == {"Buy milk", "Buy oat milk"}
        assert engine_b.get_unresolved_conflicts() == []
        assert conflict.kind == "insert/insert"
    with closing(sqlite3.connect("my_database.db")) as connection:
        assert connection.execute("SELECT * FROM todos").fetchall() == [(1, "Buy milk", 0)]
        assert connection.execute("SELECT count(*) FROM sync_operations WHERE op > 0").fetchone() == (1,)
    assert [path.suffix for path in Path("stick").glob("*/*")] == [".bundle"]


def test_the_command_line_of_the_readme_runs_as_it_stands() -> None:
    [line] = re.findall(r"^    (sqlite-sync init .*)$", README, re.MULTILINE)
    for command in line.split(" && "):
        result = CliRunner().invoke(commands, shlex.split(command)[1:])
        assert result.exit_code == 0, result.output
    assert [path.suffix for path in Path("stick").glob("*/*")] == [".bundle"]


def test_the_program_of_the_first_command_tells_its_story_and_succeeds() -> None:
    [program] = re.findall(r"\.venv/bin/python (\S+\.py)$", README, re.MULTILINE)
    finished = subprocess.run(
        [sys.executable, str(HOUSE / program)], capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stderr == ""
    assert "base (before)" in finished.stdout
    assert "the two tables are equal, value by value" in finished.stdout


def test_both_commands_set_up_alike() -> None:
    lines = re.findall(r"^    (python3 -m venv .*) && [^&]+$", README, re.MULTILINE)
    assert len(lines) == 2
    assert len(set(lines)) == 1
    assert "-e '.[dev]'" in lines[0]


@pytest.mark.parametrize(
    "document",
    [
        *("README.md", "SPEC.md", "CHANGELOG.md", "docs/command-line.md", "docs/verification.md"),
        *("docs/rules-and-tests.md", "docs/worked-example.md", "docs/performance.md"),
    ],
)
def test_every_link_into_the_repository_leads_somewhere(document: str) -> None:
    path = HOUSE / document
    for target, section in LINK.findall(path.read_text(encoding="utf-8")):
        found = path.parent / target if target else path
        assert found.exists(), target
        if section:
            headings = HEADING.findall(found.read_text(encoding="utf-8"))
            assert section in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, section
