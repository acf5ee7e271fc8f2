"""The worked example is run: its Python as it stands, and every table compared with the one in the file.

A new version of a table is what the failure prints. Values that differ from run to run are shown by name: device ids as A
and B, bundle ids as bundle 1, 2, 3, digests as digest 1, 2, 3, the conflict's id as C, HLCs as h1, h2, ... in their order, times as ms.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import tick

DOCUMENT = Path(__file__).parents[1] / "docs" / "worked-example.md"
STEP = re.compile(r"^```python\n(.*?)^```|^`(\S+)` · `([^`]+)`\n\n((?:\|[^\n]*\n)*)", re.DOTALL | re.MULTILINE)
BIGGEST_TIME_MS = 10**14

Rows = list[tuple[object, ...]]


def read(path: str, table: str) -> tuple[list[str], Rows]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        cursor = connection.execute(f"SELECT * FROM {table}")
        return [column for column, *_ in cursor.description], cursor.fetchall()


def names_of_ids(variables: dict[str, Any]) -> dict[object, str]:
    names: dict[object, str] = {variables["a"].device_id: "A", variables["b"].device_id: "B"}
    for number in (1, 2, 3):
        [(bundle_id, *_)] = read(f"{number}.bundle", "bundle")[1]
        names[bundle_id] = f"bundle {number}"
        names[Path(f"{number}.bundle").read_bytes()[-32:]] = f"digest {number}"
    names[variables["conflict"].conflict_id] = "C"
    return names


def shown(value: object, ids: dict[object, str], hlcs: list[int]) -> str:
    match value:
        case None:
            return "NULL"
        case bytes():
            return ids.get(value, f"x'{value.hex()}'")
        case str():
            return f"'{value}'"
        case int() if value in hlcs:
            return f"h{hlcs.index(value) + 1}"
        case int() if 10**12 < value < BIGGEST_TIME_MS:
            return "ms"
    return "h2 - h1" if value == hlcs[1] - hlcs[0] else str(value)


def rendered(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def test_every_table_of_the_worked_example_is_what_the_code_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    variables: dict[str, Any] = {}
    found: list[tuple[str, list[str], Rows, str]] = []
    for code, path, table, lines in STEP.findall(DOCUMENT.read_text(encoding="utf-8")):
        if code:
            tick()
            exec(compile(code, str(DOCUMENT), "exec"), variables)  # noqa: S102
        else:
            found.append((f"{path}: {table}\n", *read(path, table), lines))
    ids = names_of_ids(variables)
    numbers = {value for _, _, rows, _ in found for row in rows for value in row if isinstance(value, int)}
    hlcs = sorted(number for number in numbers if number >= BIGGEST_TIME_MS)

    assert len(found) > 20
    for name, columns, rows, lines in found:
        made = rendered(columns, [[shown(value, ids, hlcs) for value in row] for row in rows])
        assert name + made == name + lines
    for name in "ab":
        variables[name].close()
