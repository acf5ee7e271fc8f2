"""The machine of `run_verification.py`: what it makes of a schema, what it finds, and what it says of a failure."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from sqlite_sync import contested
from sqlite_sync.operation import ordinal_of

ROOT = Path(__file__).parent.parent
Run = Callable[..., subprocess.CompletedProcess[str]]

SCHEMA = """
CREATE TABLE people (
    id TEXT PRIMARY KEY, name TEXT NOT NULL CHECK (length(name) BETWEEN 2 AND 20), mail TEXT COLLATE unicase UNIQUE,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done')));
CREATE TABLE orders (no TEXT PRIMARY KEY, person TEXT NOT NULL REFERENCES people, total CHECK (total >= 0));
CREATE TABLE nameless (a, b);
CREATE VIRTUAL TABLE words USING fts5 (name);
CREATE TABLE impossible (id TEXT PRIMARY KEY, x CHECK (x = 'a' AND x = 'b') NOT NULL);
CREATE TABLE slugs (slug);
CREATE TRIGGER slug AFTER UPDATE ON people BEGIN INSERT INTO slugs VALUES (slug(NEW.name)); END;
INSERT INTO people VALUES ('p', 'Ann', 'ann@example.org', 'open');
"""


@pytest.fixture(autouse=True)
def _reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "app.sql"
    path.write_text(SCHEMA)
    return path


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.create_collation("unicase", lambda one, other: (one > other) - (one < other))
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "run_verification.py"), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return script


def test_what_cannot_be_synced_is_named_with_the_reason(schema: Path, tmp_path: Path, run: Run) -> None:
    report = tmp_path / "report.json"
    done = run("--schema", schema, "--examples", "1", "--json", report)
    assert (done.returncode, done.stderr) == (0, "")
    [synced] = [line for line in done.stdout.splitlines() if line.startswith("synced: ")]
    assert set(synced.removeprefix("synced: ").split(", ")) == {"people", "orders", "impossible"}
    assert "not synced: nameless: nameless has no primary key" in done.stdout
    assert "not synced: words: words is a virtual table" in done.stdout
    assert "only rows that are there are written: impossible: CHECK constraint failed" in done.stdout
    assert "stand-in: collation unicase" in done.stdout
    assert "stand-in: function slug()" in done.stdout
    found = json.loads(report.read_text())
    assert found["ok"]
    assert found["promises"] == []
    assert found["machine"]["result"] == "PASS"
    assert found["schema"]["synced"] == synced.removeprefix("synced: ").split(", ")


def test_a_database_is_only_read(database: Path, run: Run) -> None:
    before, beside = database.read_bytes(), sorted(database.parent.iterdir())
    done = run("--database", database, "--examples", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert database.read_bytes() == before
    assert sorted(database.parent.iterdir()) == beside


@pytest.mark.parametrize(
    ("option", "content", "why"),
    [
        ("--schema", "CREATE TABLE (", "is not SQL that this SQLite"),
        ("--schema", "CREATE TABLE t (a)", "nothing in it can be synced. t: t has no primary key"),
        ("--database", "no database", "cannot be read: file is not a database"),
        ("--database", None, "no such file"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_wrong_usage(
    option: str, content: str | None, why: str, tmp_path: Path, run: Run
) -> None:
    path = tmp_path / "given"
    if content is not None:
        path.write_text(content)
    done = run(option, path)
    assert done.returncode == 2
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_minutes_go_from_seed_to_seed(run: Run, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run("--only", "3", "--examples", "1", "--minutes", "0.02", "--seed", "7", "--json", report)
    assert done.returncode == 0
    [finding] = json.loads(report.read_text())["promises"]
    assert finding["seeds"][:2] == [7, 8]
    assert finding["tried"]["histories"] == len(finding["seeds"])
    assert f"({len(finding['seeds'])} rounds)" in done.stdout


def test_values_fit_a_schema(schema: Path, tmp_path: Path) -> None:
    from verification import own_schema  # noqa: PLC0415
    from verification.fitting import fit  # noqa: PLC0415

    subject = own_schema.from_script(schema, tmp_path)
    fitting = fit(subject)
    assert len(fitting.rows["people"]) > 5
    assert {row.get("state", "open") for row in fitting.rows["people"]} == {"open", "done"}
    assert {row["id"] for row in fitting.rows["people"]} >= {"p"}
    assert list(fitting.complaints) == ["impossible"]


def test_a_fault_is_found_and_told_as_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: Path) -> None:
    from verification import machine, own_schema  # noqa: PLC0415
    from verification.fitting import fit  # noqa: PLC0415
    from verification.search import CounterexampleError, Search  # noqa: PLC0415

    judge = contested.judge

    def judge_selfishly(*arguments: object, **options: object) -> object:
        verdict = judge(*arguments, **options)  # type: ignore[arg-type]
        own = [head for head in verdict.others if ordinal_of(head.dot) == 0]
        return verdict if not own else _showing(verdict, own[-1])

    monkeypatch.setattr(contested, "judge", judge_selfishly)
    with pytest.raises(CounterexampleError) as found:
        machine.on_subject(fit(own_schema.from_script(schema, tmp_path)), Search(200, 0, shrinks=False))
    [script] = [note for note in found.value.cause.__notes__ if note.startswith("#!")]
    assert script.startswith("#!/bin/sh\n# What is broken: ")
    assert "sqlite-sync import" in script
    checked = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)  # noqa: S607
    assert (checked.returncode, checked.stderr) == (0, "")


def _showing(verdict: object, head: object) -> object:
    from dataclasses import replace  # noqa: PLC0415

    heads = [*verdict.others, verdict.shown]  # type: ignore[attr-defined]
    return replace(verdict, shown=head, others=tuple(one for one in heads if one is not head))  # type: ignore[type-var]


def test_the_shortest_list_that_fails_alike_is_found() -> None:
    from verification.shortest import shortest  # noqa: PLC0415

    def attempt(numbers: list[int]) -> BaseException | None:
        if {3, 17} <= set(numbers):
            return ValueError(f"both, of {len(numbers)}")
        return KeyError("another") if len(numbers) % 2 else None

    found, failure = shortest(range(40), ValueError("both, of 40"), attempt)
    assert found == [3, 17]
    assert str(failure) == "both, of 2"
