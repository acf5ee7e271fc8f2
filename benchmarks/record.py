"""What was measured, kept as JSON: the documents show this, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from measure import Figure

FILE = Path(__file__).with_name("record.json")


class Run(NamedTuple):
    """One benchmark's run: when, on what, and what it found."""

    day: str
    machine: str
    figures: list[Figure]


def keep(bench: str, figures: list[Figure], machine: str) -> None:
    """Put a benchmark's figures into the record, in place of its former ones."""
    runs = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    day = datetime.now(UTC).date().isoformat()
    runs[bench] = {"day": day, "machine": machine, "figures": [_sparse(figure) for figure in figures]}
    FILE.write_text(json.dumps(runs, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _sparse(figure: Figure) -> dict[str, object]:
    return {name: value for name, value in figure._asdict().items() if value not in ("", None)}


def read() -> dict[str, Run]:
    """Return the runs by benchmark."""
    runs = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        name: Run(run["day"], run["machine"], [Figure(**{"reach": None, **figure}) for figure in run["figures"]])
        for name, run in runs.items()
    }


def find(runs: dict[str, Run], pattern: str) -> Figure:
    """Return the one figure whose scenario is like this; KeyError where there is none."""
    for run in runs.values():
        for figure in run.figures:
            if fnmatchcase(figure.scenario, pattern):
                return figure
    msg = f"no figure {pattern!r} in {FILE.name}: run the benchmarks with --record"
    raise KeyError(msg)
