"""Each numbered rule of SPEC.md names the tests that hold it: `docs/rules-and-tests.md` is complete and true."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
SPEC = (HOUSE / "SPEC.md").read_text(encoding="utf-8")
TABLE = (HOUSE / "docs" / "rules-and-tests.md").read_text(encoding="utf-8")
HEADING = re.compile(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", re.MULTILINE)
ITEM = re.compile(r"^(\d+)\. ", re.MULTILINE)
FIRST, LAST = 3, 13  # what stands before is words and promises, after it what is not promised, and why


def rules() -> Iterator[str]:
    """Yield the numbered rules of SPEC.md; a section that has only subsections is none."""
    pieces = HEADING.split(SPEC)
    for number, text in zip(pieces[1::2], pieces[2::2], strict=True):
        if FIRST <= int(number.partition(".")[0]) <= LAST:
            items = ITEM.findall(text)
            is_only_a_title = "." not in number and f"\n### {number}.1 " in SPEC and not items
            yield from [] if is_only_a_title else [number]
            yield from (f"{number}, {item}" for item in items)


def rows() -> dict[str, list[str]]:
    return {
        rule: re.findall(r"`([^`]+)`", cell)
        for rule, cell in re.findall(r"^\| (\d[^|]*) \| (.*) \|$", TABLE, re.MULTILINE)
    }


@cache
def names(file: str) -> set[str]:
    """Return the tests of a file: functions, and the classes that state machines make."""
    found = set()
    for node in ast.parse((HOUSE / "tests" / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def test_every_rule_has_a_row_and_every_row_a_rule() -> None:
    assert sorted(rows()) == sorted(rules())


@pytest.mark.parametrize("rule", sorted(rows()))
def test_every_rule_names_a_test_that_is_there(rule: str) -> None:
    tests = rows()[rule]
    assert tests
    for test in tests:
        file, _, name = test.partition("::")
        assert name.lower().startswith("test")
        assert name in names(file), test


def test_every_promise_names_what_tests_it() -> None:
    promises = re.findall(r"^\| (\d+) \| \*\*.+? \| (.+?) \|$", SPEC, re.MULTILINE)
    assert [int(number) for number, _ in promises] == list(range(1, 13))
    said = [cell.rpartition("|")[2].strip() for _, cell in promises]
    for file in re.findall(r"`([\w.]+\.py)`", said[0]):
        assert (HOUSE / file).exists() or (HOUSE / "tests" / file).exists()
    assert set(said[1:]) == {"same"}
