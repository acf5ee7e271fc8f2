"""Try to break each promise of SPEC.md, section 2, and say what came of it. No test runner is needed.

    python run_verification.py                      # some 60 s
    python run_verification.py --minutes 10         # a long search, with new examples in each round
    python run_verification.py --database app.db    # on your own schema; the file is only read
    python run_verification.py --schema app.sql     # the same, from SQL
    python run_verification.py --only machine       # only the machine, on schemas that are drawn

Exit code 0: every promise that was checked holds. 1: one is broken, and the shortest example is printed. 2: wrong
usage. docs/verification.md explains each check.
"""

from __future__ import annotations

import argparse
import json
import os
import pprint
import re
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, perf_counter

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "src"), str(ROOT / "tests")) if path not in sys.path]

try:
    from hypothesis.configuration import set_hypothesis_home_dir
    from verification import copies, crashes, forgeries, histories, logs, machine, numbers, own_schema, transport
    from verification.fitting import Fitting, fit
    from verification.report import (
        HOLDS,
        HOLDS_PARTLY,
        IS_BROKEN,
        MACHINE,
        NOT_CHECKED,
        Finding,
        Promise,
        Report,
        lines,
    )
    from verification.search import BrokenError, CounterexampleError, Search
except ModuleNotFoundError as error:
    sys.exit(f"{error}: run_verification.py needs the development extras: pip install -e '.[dev]'")

Check = Callable[[Search], None]

CHECKS: dict[int, Check] = {
    1: logs.append_only,
    2: histories.causal_consistency,
    3: histories.deterministic_order,
    4: histories.explicit_conflicts,
    5: histories.idempotent_import,
    6: transport.self_contained,
    7: histories.no_lost_update,
    8: histories.agreement,
    9: logs.complete_capture,
    10: crashes.all_or_nothing,
    11: forgeries.nothing_foreign,
    12: copies.copied_files,
}


MACHINE_PART = 2  # of as many histories, where the promises are tried too: each of them takes the longest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks; return the exit code."""
    options = _options(arguments)
    promises = {promise.number: promise for promise in read_promises()}
    unknown = {number for number in options.only if number is not None} - promises.keys()
    if unknown:
        sys.stderr.write(f"there is no promise {min(unknown)}: SPEC.md has {', '.join(map(str, promises))}\n")
        return 2
    report = Report(options.examples, options.seed, exceptions=read_exceptions())
    with _work_folder() as folder:
        try:
            fitting = _fitted(options, folder)
        except own_schema.UnusableError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        if fitting:
            report.schema = _described(fitting, options)
        _tell(options, *_opening(report, options, promises))
        _search(report, options, promises, fitting)
    if options.json == "-":
        print(json.dumps(report.as_json(), indent=2))
    else:
        print("\n".join(report.summary()))
    if options.json not in (None, "-"):
        Path(options.json).write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    return int(report.is_broken)


def _search(
    report: Report, options: argparse.Namespace, promises: Mapping[int, Promise], fitting: Fitting | None
) -> None:
    """Run each check once; with `--minutes`, again and again from other seeds until the time is over."""
    until = monotonic() + 60 * options.minutes
    wanted: list[int | None] = [None] if fitting else options.only or [*promises, None]
    is_shared = not (fitting or options.only)
    seed = options.seed
    while True:
        for number in wanted:
            former = report.findings.get(number)
            if former is None or (former.result != IS_BROKEN and monotonic() < until):
                search = Search(options.examples, seed, options.shrink)
                if number is None and is_shared:
                    search.examples = search.part(MACHINE_PART)
                report.add(check_machine(fitting, search) if number is None else check(promises[number], search))
                if not options.minutes:
                    _tell(options, lines(report.findings[number]))
        if monotonic() >= until or all(report.findings[number].result == IS_BROKEN for number in wanted):
            break
        left = max(until - monotonic(), 0)
        sys.stderr.write(
            f"seed {seed}: {'something is broken' if report.is_broken else 'all hold'}, {left:.0f} s left\n"
        )
        seed += 1
    if options.minutes:
        _tell(options, *(lines(finding) for finding in report.findings.values()))


def check(promise: Promise, search: Search) -> Finding:
    """Try to break one promise."""
    if promise.number not in CHECKS:
        return Finding(promise.number, promise.name, promise.state, NOT_CHECKED, {}, 0.0)
    whole = HOLDS if promise.state == "kept" else HOLDS_PARTLY
    return _checked(
        Finding(promise.number, promise.name, promise.state, whole, {}, 0.0), CHECKS[promise.number], search
    )


def check_machine(fitting: Fitting | None, search: Search) -> Finding:
    """Try to break all promises at once, on schemas that are drawn or on the user's own."""
    name = f"{MACHINE}: {'your schema' if fitting else 'schemas that are drawn'}"

    def attack(search: Search) -> None:
        for play in (machine.play, numbers.play):
            if fitting:
                machine.on_subject(fitting, search, play)
            else:
                machine.on_random_schemas(search, play)

    return _checked(Finding(None, name, "", HOLDS, {}, 0.0), attack, search)


def _checked(finding: Finding, attack: Check, search: Search) -> Finding:
    start, problem, example = perf_counter(), None, None
    try:
        attack(search)
    except CounterexampleError as found:
        problem = _problem(found.cause)
        scripts = [note for note in getattr(found.cause, "__notes__", ()) if note.startswith("#!")]
        example = scripts[0] if scripts else pprint.pformat(dict(found.inputs), width=112, sort_dicts=False)
    except Exception as found:  # noqa: BLE001  # whatever stops a check, its promise is not known to hold
        problem = _problem(found)
    return Finding(
        number=finding.number,
        name=finding.name,
        state=finding.state,
        result=IS_BROKEN if problem else finding.result,
        tried=dict(search.tried),
        seconds=round(perf_counter() - start, 1),
        problem=problem,
        example=example,
        seeds=(search.seed,),
    )


def _problem(error: BaseException) -> str:
    if isinstance(error, BrokenError):
        return str(error)
    place = "".join(traceback.format_tb(error.__traceback__, limit=-3))
    return f"{type(error).__name__}: {error}\n{place}"


# --- the user's own schema ----------------------------------------------------------------------------------------


def _fitted(options: argparse.Namespace, folder: Path) -> Fitting | None:
    if options.schema:
        return fit(own_schema.from_script(options.schema, folder))
    if options.database:
        return fit(own_schema.from_database(options.database, folder))
    return None


def _described(fitting: Fitting, options: argparse.Namespace) -> dict[str, object]:
    return {
        "source": str(options.schema or options.database),
        "synced": [table.name for table in fitting.subject.tables],
        "not_synced": dict(fitting.subject.refused),
        "only_rows_that_are_there": dict(fitting.complaints),
        "stand_ins": list(fitting.subject.notes),
        "parked_rows_are_predicted": fitting.subject.is_judged,
    }


def _opening(report: Report, options: argparse.Namespace, promises: Mapping[int, Promise]) -> list[str]:
    how_long = f"{options.minutes:g} minutes" if options.minutes else f"{options.examples} examples each"
    if not report.schema:
        return [f"{len(promises)} promises (SPEC.md, section 2), and the machine: {how_long}, seed {options.seed}\n"]
    schema = report.schema
    found = [
        f"{schema['source']}: the machine works on copies, and only reads the file. {how_long}, seed {options.seed}"
    ]
    found += textwrap.wrap(f"synced: {', '.join(schema['synced'])}", 120, subsequent_indent="    ")  # type: ignore[arg-type]
    for what, title in [
        ("not_synced", "not synced"),
        ("only_rows_that_are_there", "only rows that are there are written"),
    ]:
        reasons: Mapping[str, str] = schema[what]  # type: ignore[assignment]
        found += [f"{title}: {name}: {reason}" for name, reason in reasons.items()]
    found += [f"stand-in: {note}" for note in schema["stand_ins"]]  # type: ignore[attr-defined]
    if not schema["parked_rows_are_predicted"]:
        found.append("which rows a constraint parks is compared between the devices, not with the oracle: it looks at")
        found.append("plain columns only, and a UNIQUE index or a foreign key here is none")
    return [*found, ""]


def _tell(options: argparse.Namespace, *said: str) -> None:
    if options.json != "-":
        print("\n".join(said), flush=True)


# --- SPEC.md ------------------------------------------------------------------------------------------------------


def read_promises() -> list[Promise]:
    """Read the promises, and how far they are kept, from the table in SPEC.md: what it says is what is reported."""
    table = _section(2)
    rows = re.findall(r"^\| (\d+) \| \*\*(.+?)\.\*\* .*? \| (.+?) \| .*? \|$", table, re.MULTILINE)
    return [Promise(int(number), name, _plain(state)) for number, name, state in rows]


def read_exceptions() -> list[str]:
    """Read what SPEC.md says is not promised."""
    return re.findall(r"^- \*\*(.+?)\.?\*\*", _section(14), re.MULTILINE)


def _section(number: int) -> str:
    text = (ROOT / "SPEC.md").read_text(encoding="utf-8")
    return re.split(r"^## ", text.split(f"\n## {number}. ", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def _plain(markdown: str) -> str:
    return re.sub(r"\[(.+?)\]\(.+?\)", r"section \1", markdown)


# --- the command line ---------------------------------------------------------------------------------------------


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Try to break each promise of SPEC.md, section 2.")
    parser.add_argument("--examples", type=_positive, default=50, metavar="N", help="how hard to try (default: 50)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="where the search starts (default: 0)")
    parser.add_argument(
        "--minutes", type=float, default=0.0, metavar="N", help="search for so long, in rounds from seed, seed + 1, ..."
    )
    parser.add_argument("--only", type=_numbers, default=[], metavar="N,N", help="these promises only, or `machine`")
    own = parser.add_mutually_exclusive_group()
    own.add_argument("--schema", type=Path, metavar="FILE", help="run the machine on the schema that this SQL makes")
    own.add_argument(
        "--database", type=Path, metavar="FILE", help="run the machine on this database's schema, on copies"
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write a JSON report; print it, and nothing else, without FILE",
    )
    parser.add_argument(
        "--no-shrink", dest="shrink", action="store_false", help="print the first example, not the shortest"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        msg = "at least 1"
        raise argparse.ArgumentTypeError(msg)
    return number


def _numbers(text: str) -> list[int | None]:
    parts = set(text.split(","))
    numbers: list[int | None] = [*sorted(int(part) for part in parts - {"machine"})]
    return [*numbers, None] if "machine" in parts else numbers


@contextmanager
def _work_folder() -> Iterator[Path]:
    """Keep all temporary files in one folder that goes in the end, in memory where the system offers that."""
    memory = Path(os.sep, "dev", "shm")
    parent = str(memory) if "TMPDIR" not in os.environ and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="verification-", dir=parent) as folder:
        former, tempfile.tempdir = tempfile.tempdir, folder
        set_hypothesis_home_dir(folder)
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = former
            set_hypothesis_home_dir(None)


if __name__ == "__main__":
    sys.exit(main())
