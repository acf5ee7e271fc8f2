"""The examples of SPEC.md, section 4.5, worked through on devices; and the reader in examples/, on a bundle of theirs."""

from __future__ import annotations

import runpy
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from conftest import MakeEngine, send
from sqlite_sync import Images, SyncEngine

READER = Path(__file__).parents[1] / "examples" / "read_bundle.py"

Seen = tuple[str, int] | None


class Devices:
    """Three devices with one row, each write in a millisecond of its own."""

    def __init__(self, make: MakeEngine) -> None:
        schema = "CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT, done INTEGER DEFAULT 0)"
        self.engines = {name: make(name, schema) for name in "abc"}

    def write(self, name: str, sql: str) -> None:
        self._tick()
        self.engines[name].connection.execute(sql)

    def resolve(self, name: str, values: Mapping[str, object]) -> None:
        self._tick()
        engine = self.engines[name]
        engine.resolve(engine.get_unresolved_conflicts()[0], values)  # type: ignore[arg-type]

    def meet(self, source: str, *targets: str) -> None:
        for target in targets:
            send(self.engines[source], self.engines[target])

    def everywhere(self) -> None:
        for _ in range(2):
            for source in "abc":
                self.meet(source, *("abc".replace(source, "")))

    def shown(self) -> Seen:
        """Return what every table shows."""
        found = {self._shown(engine) for engine in self.engines.values()}
        assert len(found) == 1
        return found.pop()

    def open(self) -> list[tuple[str, Images]]:
        """Return kind and versions of the open conflicts, the same on every device."""
        listed = [[(one.kind, images) for one, images in engine.each_conflict()] for engine in self.engines.values()]
        assert listed[0] == listed[1] == listed[2]
        return listed[0]

    @staticmethod
    def _shown(engine: SyncEngine) -> Seen:
        found: Seen = engine.connection.execute("SELECT title, done FROM todos").fetchone()
        return found

    @staticmethod
    def _tick() -> None:
        until = time.time_ns() // 1_000_000 + 1
        while time.time_ns() // 1_000_000 <= until:
            pass


def image(title: str, done: int) -> dict[str, object]:
    return {"id": "r", "title": title, "done": done}


@pytest.fixture
def devices(make: MakeEngine) -> Devices:
    found = Devices(make)
    found.write("a", "INSERT INTO todos VALUES ('r', 'a', 0)")
    found.meet("a", "b", "c")
    return found


@pytest.fixture
def two_heads(devices: Devices) -> Devices:
    devices.write("b", "UPDATE todos SET title = 'b'")
    devices.write("a", "UPDATE todos SET title = 'c'")
    return devices


def test_two_heads(two_heads: Devices) -> None:
    two_heads.everywhere()
    assert two_heads.shown() == ("c", 0)
    assert two_heads.open() == [("update/update", Images(image("a", 0), image("c", 0), image("b", 0)))]
    assert two_heads.engines["c"].get_unresolved_conflicts()[0].columns == ("title",)


def test_three_heads(two_heads: Devices) -> None:
    two_heads.write("c", "UPDATE todos SET done = 1")
    two_heads.everywhere()
    assert two_heads.shown() == ("a", 1)
    base, local = image("a", 0), image("a", 1)
    found = sorted((images.remote or {}).get("title") for _, images in two_heads.open())  # type: ignore[type-var]
    assert found == ["b", "c"]
    assert all((images.base, images.local) == (base, local) for _, images in two_heads.open())


@pytest.fixture
def edited(two_heads: Devices) -> Devices:
    two_heads.meet("b", "a")
    two_heads.write("a", "UPDATE todos SET done = 1")
    return two_heads


def test_an_edit_during_an_open_conflict(edited: Devices) -> None:
    edited.everywhere()
    assert edited.shown() == ("c", 1)
    assert edited.open() == [("update/update", Images(image("a", 0), image("c", 1), image("b", 0)))]


def test_a_resolution(edited: Devices) -> None:
    edited.meet("a", "b")
    edited.resolve("b", {"title": "c and b"})
    edited.everywhere()
    assert edited.shown() == ("c and b", 1)
    assert edited.open() == []


@pytest.mark.parametrize("is_alike", [True, False])
def test_concurrent_resolutions(two_heads: Devices, *, is_alike: bool) -> None:
    two_heads.meet("a", "b")
    two_heads.meet("b", "a")
    two_heads.resolve("a", {"title": "b"})
    two_heads.resolve("b", {"title": "b" if is_alike else "c"})
    two_heads.everywhere()
    if is_alike:
        assert (two_heads.shown(), two_heads.open()) == (("b", 0), [])
    else:
        assert two_heads.shown() == ("c", 0)
        assert two_heads.open() == [("update/update", Images(image("c", 0), image("c", 0), image("b", 0)))]


def test_delete_against_edit(devices: Devices) -> None:
    devices.write("a", "DELETE FROM todos")
    devices.write("b", "UPDATE todos SET title = 'b'")
    devices.everywhere()
    assert devices.shown() == ("b", 0)
    assert devices.open() == [("update/delete", Images(image("a", 0), image("b", 0), None))]


def test_delete_and_insert_again(devices: Devices) -> None:
    devices.write("a", "DELETE FROM todos")
    devices.write("b", "UPDATE todos SET title = 'b'")
    devices.write("a", "INSERT INTO todos VALUES ('r', 'new', 0)")
    devices.everywhere()
    assert devices.shown() == ("new", 0)
    assert devices.open() == [("update/update", Images(image("a", 0), image("new", 0), image("b", 0)))]


def test_equal_outcomes(devices: Devices) -> None:
    for name in "ab":
        devices.write(name, "UPDATE todos SET done = 1")
    devices.everywhere()
    assert (devices.shown(), devices.open()) == (("a", 1), [])


def test_the_reader_of_the_examples_reads_what_the_log_holds(devices: Devices, tmp_path: Path) -> None:
    """It is written from SPEC.md alone, so it fails where the format and SPEC.md go apart."""
    a = devices.engines["a"]
    a.connection.execute("CREATE TABLE odd (k BLOB PRIMARY KEY, n, t)")
    a.enable_sync_for_table("odd")
    a.connection.execute("INSERT INTO odd VALUES (x'00ff', 0.1, 'a' || char(0) || 'b'), (x'', -1, NULL)")
    a.connection.execute("UPDATE odd SET n = 9223372036854775807, t = NULL WHERE k = x'00ff'")
    a.connection.execute("DELETE FROM odd WHERE k = x''")
    devices.write("a", "UPDATE todos SET title = 'b'")
    devices.write("b", "UPDATE todos SET title = 'c'")
    devices.meet("b", "a")
    devices.resolve("a", {"title": "b and c"})
    bundle = a.generate_bundle(None, tmp_path / "all.bundle")
    assert bundle is not None
    reader = runpy.run_path(str(READER))
    found = sorted(reader["operations"](reader["database"](bundle.read_bytes())))
    expected = list(a.operations())
    assert [one[:3] for one in found] == [(one.hlc, one.device_id, one.seq) for one in expected]
    assert [one[4] for one in found] == [one.table_name for one in expected]
    for one, operation in zip(found, expected, strict=True):
        assert one[5].items() >= {**operation.row_pk, **operation.new}.items()
    printed = subprocess.run([sys.executable, READER, bundle], capture_output=True, encoding="utf-8", check=True)
    assert len(printed.stdout.splitlines()) == len(expected)
    bundle.write_bytes(bundle.read_bytes()[:-1])
    broken = subprocess.run([sys.executable, READER, bundle], capture_output=True, encoding="utf-8", check=False)
    assert (broken.returncode, broken.stdout) == (1, "")
    assert "damaged" in broken.stderr
