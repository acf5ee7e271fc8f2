"""The documents show what was measured: their tables are those that the record gives."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

HOUSE = Path(__file__).parent.parent
BENCHMARKS = HOUSE / "benchmarks"


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("report")


@pytest.mark.parametrize("name", ["README.md", "docs/performance.md"])
def test_the_tables_are_those_of_the_record(report: ModuleType, name: str) -> None:
    text = (HOUSE / name).read_text(encoding="utf-8")
    assert report.rendered(text, sys.modules["record"].read()) == text, "run `python benchmarks/report.py`"


def test_every_picture_that_is_shown_is_there() -> None:
    text = (HOUSE / "docs" / "performance.md").read_text(encoding="utf-8")
    shown = {part.split(")")[0] for part in text.split("](performance/")[1:]}
    assert shown == {path.name for path in (HOUSE / "docs" / "performance").glob("*.svg")}
