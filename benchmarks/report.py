"""Put the record into the documents: `python benchmarks/report.py` writes every table and picture anew.

A table stands between `<!-- measured: name -->` and `<!-- end -->`; whatever stood there is replaced.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import record
from measure import Figure, number
from record import Run

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "performance.md")
PICTURES = ROOT / "docs" / "performance"
BLOCK = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

Runs = Mapping[str, Run]


class Line(NamedTuple):
    """A line of the table of figures: what, which scenarios with an integer key and with a UUID key, and how."""

    what: str
    integer: tuple[str, ...]
    uuid: tuple[str, ...] = ()
    how: str = ""


def _keyed(what: str, scenarios: Iterable[str], how: str) -> Line:
    """Make a line whose scenarios are there for both kinds of keys: `*` stands for the kind."""
    parts = tuple(scenarios)
    return Line(what, *(tuple(one.replace("KEY", key) for one in parts) for key in ("integer key", "UUID key")), how)


VERBS = ("inserts", "updates", "deletes")
LINES = (
    _keyed("capture: bulk insert", ["capture: bulk insert, KEY"], "the same statement without capture"),
    _keyed("capture: update by key", ["capture: update by key, KEY"], "same; keys all over the table"),
    _keyed("capture: delete", ["capture: delete by key, KEY"], "same"),
    Line(
        "capture: autocommit insert (synchronous NORMAL / FULL)",
        tuple(f"capture: autocommit insert, integer key, synchronous = {one}" for one in ("NORMAL", "FULL")),
        how="same; a transaction for each row",
    ),
    Line(
        "capture: bulk insert with a UNIQUE column: number / text of 76 bytes",
        tuple(f"capture: bulk insert with {one} UNIQUE, against without" for one in ("amount INTEGER", "body TEXT")),
        how="captured without the index",
    ),
    _keyed("bundle written, inserts", ["bundle written: inserts, KEY, *"], "a plain bulk insert of the same rows"),
    _keyed(
        "bundle imported: inserts / updates / deletes",
        [f"bundle imported: {verb}, KEY, *" for verb in VERBS],
        "the plain statements",
    ),
    _keyed(
        "the same bundle again: inserts / updates / deletes",
        [f"the same bundle again: {verb}, KEY, *" for verb in VERBS],
        "its first import",
    ),
    Line("log growth per insert / update, bytes", ("log growth per insert", "log growth per update *"), how="pages"),
    Line("bundle bytes per insert", ("bundle bytes per insert",), how="size of the file"),
    Line("the same, compressed (zlib, level 6)", ("the same, compressed by zlib",), how="same"),
    Line(
        "1,000 operations after 1,000,000 others: bundle written / imported",
        ("bundle written: 1,000 operations after *", "bundle imported: 1,000 operations after *"),
        how="the same after 10,000",
    ),
    Line(
        "1,000 operations with 1,000 more devices in the clock: bundle written / imported",
        ("bundle written: 1,000 operations with *", "bundle imported: 1,000 operations with *"),
        how="the same with two devices",
    ),
    Line(
        "bytes per operation with 1,000 more devices: log / bundle",
        ("log bytes per operation with *", "bundle bytes per operation with *"),
        how="the same with two devices",
    ),
    Line(
        "memory while 1,000,000 operations are written / imported, MB",
        ("memory while *generated", "memory while *imported"),
        how="peak of a process of its own",
    ),
    Line(
        "100,000 updates imported with 10,000 conflicts",
        ("bundle imported: * updates with * conflicts, against none",),
        how="the same without conflicts",
    ),
    Line(
        "capture: update by key beside 1,000 open conflicts",
        ("capture: update by key beside * open conflicts, against none",),
        how="the same without conflicts",
    ),
    Line(
        "mapped key and two references: written / imported",
        ("mapped key and two references written*", "mapped key and two references imported*"),
        how="natural keys",
    ),
    Line(
        "bundle imported: inserts, updates and deletes mixed",
        ("bundle imported: inserts, updates and deletes mixed*",),
        how="the plain statements",
    ),
)


def figures_table(runs: Runs, *, with_how: bool) -> str:
    """Render every figure that has an aim; what is not reached is in bold."""
    head = ["", "aim", "integer key", "UUID key", *(["against"] if with_how else [])]
    rows = [_figures_row(runs, line, with_how=with_how) for line in LINES]
    return _markdown(head, rows)


def _figures_row(runs: Runs, line: Line, *, with_how: bool) -> list[str]:
    sides = [[record.find(dict(runs), pattern) for pattern in patterns] for patterns in (line.integer, line.uuid)]
    aims = ["" if one.reach is None else number_short(one.reach) for one in sides[0]]
    aim = aims[0] if len(set(aims)) == 1 else " / ".join(aims)
    cells = [" / ".join(_cell(one) for one in side) for side in sides]
    return [line.what, aim, *cells, *([line.how] if with_how else [])]


def _cell(figure: Figure) -> str:
    text = number_short(figure.measured)
    return f"**{text}**" if figure.is_missed else text


def number_short(value: float) -> str:
    """Render a number with two digits after the point where it is small, and without needless zeros."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}".rstrip("0").rstrip(".")  # noqa: PLR2004


def _markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


# --- the other tables ---------------------------------------------------------------------------------------------


def _all_figures(bench: str, *patterns: str) -> Callable[[Runs], str]:
    """Make a table of a benchmark's figures, or of those that are like one of the patterns."""

    def render(runs: Runs) -> str:
        chosen = [
            figure
            for figure in runs[bench].figures
            if not patterns or any(fnmatchcase(figure.scenario, pattern) for pattern in patterns)
        ]
        rows = [[one.scenario, f"{number(one.measured)}{one.unit}", one.absolute, one.spread] for one in chosen]
        return _markdown(["scenario", "measured", "absolute", "spread"], rows)

    return render


def _grid(bench: str, prefix: str) -> Callable[[Runs], str]:
    """Make a table of a benchmark's series: a column each, a row for each `x`."""

    def render(runs: Runs) -> str:
        found = [figure for figure in runs[bench].figures if figure.series.startswith(prefix)]
        series = list(dict.fromkeys(figure.series for figure in found))
        by_place = {(figure.series, figure.x): figure for figure in found}
        rows = []
        for x in dict.fromkeys(figure.x for figure in found):
            cells = [by_place.get((one, x)) for one in series]
            rows.append(
                [
                    f"{x:,}" if isinstance(x, int) else str(x),
                    *(number(c.measured) + c.unit if c else "-" for c in cells),
                ]
            )
        return _markdown(["", *(one.split(": ", 1)[1] for one in series)], rows)

    return render


def _machine(runs: Runs) -> str:
    where: dict[str, list[str]] = {}
    for name, run in runs.items():
        where.setdefault(f"{run.machine}, {run.day}", []).append(name)
    return "".join(f"- {', '.join(names)}: {machine}\n" for machine, names in where.items())


TABLES: Mapping[str, Callable[[Runs], str]] = {
    "figures": lambda runs: figures_table(runs, with_how=False),
    "aims": lambda runs: figures_table(runs, with_how=True),
    "machine": _machine,
    "flows": _all_figures("flows"),
    "floor": _all_figures("floor"),
    "shapes": _grid("shapes", "shapes: "),
    "sizes": _grid("size", "bytes of an operation: "),
    "packing": _all_figures("size", "bytes of an operation: insert, compressed*"),
    "history": _grid("growth", "growth by operations of history: "),
    "devices": _grid("growth", "growth by devices: "),
    "conflicts": _grid("growth", "growth by open conflicts: "),
    "columns": _grid("growth", "rows by columns: "),
    "lengths": _grid("growth", "rows by bytes of a text: "),
    "peers": _grid("peers", "peers: "),
    "peers_time": _all_figures("peers", "*: insert: *"),
}


def rendered(text: str, runs: Runs) -> str:
    """Return a document with its tables made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{_table(found[2], runs)}\n{found[3]}", text)


def _table(name: str, runs: Runs) -> str:
    try:
        return TABLES[name](runs)
    except KeyError as missing:
        return f"Not measured: the record has no {missing}.\n"


def write() -> None:
    """Write the tables into the documents, and draw the pictures."""
    runs = record.read()
    for path in DOCUMENTS:
        path.write_text(rendered(path.read_text(encoding="utf-8"), runs), encoding="utf-8")
    try:
        import draw  # noqa: PLC0415 - it needs what only the extra brings
    except ImportError as error:
        sys.exit(f"the tables are written, the pictures are not: {error}; pip install -e '.[bench]'")
    draw.draw(runs, PICTURES)


if __name__ == "__main__":
    write()
