"""Try to break each promise of SPEC.md, section 2, and say what came of it. No test runner is needed.

    python run_verification.py                  # some 60 s
    python run_verification.py --examples 200   # a longer search
    python run_verification.py --only 7 --seed 3

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parent
sys.path[:0] = [path for path in (str(ROOT), str(ROOT / "src"), str(ROOT / "tests")) if path not in sys.path]

try:
    from hypothesis.configuration import set_hypothesis_home_dir
    from verification import copies, crashes, forgeries, histories, logs, transport
    from verification.search import BrokenError, CounterexampleError, Search
except ModuleNotFoundError as error:
    sys.exit(f"{error}: run_verification.py needs the development extras: pip install -e '.[dev]'")

CHECKS: dict[int, Callable[[Search], None]] = {
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

HOLDS = "PASS"
HOLDS_PARTLY = "PARTLY"  # all that is claimed holds, but SPEC.md claims less than the promise
IS_BROKEN = "FAIL"
NOT_CHECKED = "not yet checked"


@dataclass(frozen=True)
class Promise:
    """A line of the table in SPEC.md, section 2."""

    number: int
    name: str
    state: str


@dataclass(frozen=True)
class Finding:
    """What came of one check; `tried` counts what was done, `problem` and `example` say how a promise was broken."""

    number: int
    name: str
    state: str
    result: str
    tried: dict[str, int]
    seconds: float
    problem: str | None = None
    example: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks; return the exit code."""
    options = _options(arguments)
    promises = {promise.number: promise for promise in read_promises()}
    unknown = set(options.only) - promises.keys()
    if unknown:
        sys.stderr.write(f"there is no promise {min(unknown)}: SPEC.md has {', '.join(map(str, promises))}\n")
        return 2
    if not options.json:
        print(f"{len(promises)} promises (SPEC.md, section 2), {options.examples} examples each, seed {options.seed}\n")
    findings = []
    with _work_folder():
        for number in options.only or promises:
            findings.append(check(promises[number], Search(options.examples, options.seed, options.shrink)))
            if not options.json:
                print(_line(findings[-1]), flush=True)
    is_broken = any(finding.result == IS_BROKEN for finding in findings)
    if options.json:
        print(json.dumps(_report(findings, options), indent=2))
    else:
        print("\n".join(_summary(findings)))
    return int(is_broken)


def check(promise: Promise, search: Search) -> Finding:
    """Try to break one promise."""
    if promise.number not in CHECKS:
        return Finding(promise.number, promise.name, promise.state, NOT_CHECKED, {}, 0.0)
    start, problem, example = perf_counter(), None, None
    try:
        CHECKS[promise.number](search)
    except CounterexampleError as found:
        problem, example = _problem(found.cause), pprint.pformat(dict(found.inputs), width=112, sort_dicts=False)
    except Exception as found:  # noqa: BLE001  # whatever stops a check, its promise is not known to hold
        problem = _problem(found)
    whole = HOLDS if promise.state == "kept" else HOLDS_PARTLY
    result = IS_BROKEN if problem else whole
    seconds = round(perf_counter() - start, 1)
    return Finding(promise.number, promise.name, promise.state, result, dict(search.tried), seconds, problem, example)


def _problem(error: BaseException) -> str:
    if isinstance(error, BrokenError):
        return str(error)
    place = "".join(traceback.format_tb(error.__traceback__, limit=-3))
    return f"{type(error).__name__}: {error}\n{place}"


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


# --- output -------------------------------------------------------------------------------------------------------


def _line(finding: Finding) -> str:
    tried = ", ".join(f"{count:,} {what}" for what, count in finding.tried.items())
    head = f"{finding.number:>2}  {finding.name}"
    result = f"{finding.result}, {finding.state}" if finding.result == HOLDS_PARTLY else finding.result
    lines = [f"{head:<46} {finding.seconds:>6.1f} s  {result}", *_indented(tried, "    ")]
    if finding.problem:
        lines += _indented(finding.problem, "    broken: ")
    if finding.example:
        lines += ["    shortest example:", textwrap.indent(finding.example, "        ")]
    return "\n".join(lines)


def _indented(text: str, start: str) -> Iterable[str]:
    first, *rest = text.splitlines() or [""]
    yield from textwrap.wrap(first, 116, initial_indent=start, subsequent_indent="        ")
    yield from (f"        {line}" for line in rest)


def _summary(findings: Sequence[Finding]) -> list[str]:
    by_result = {
        result: [finding.number for finding in findings if finding.result == result]
        for result in (HOLDS, HOLDS_PARTLY, IS_BROKEN, NOT_CHECKED)
    }
    counted = "; ".join(f"{result}: {', '.join(map(str, numbers)) or 'none'}" for result, numbers in by_result.items())
    left_out = "Not promised, so not checked (SPEC.md, section 14): " + ", ".join(read_exceptions())
    return ["", counted, *textwrap.wrap(left_out, 120, break_on_hyphens=False)]


def _report(findings: Sequence[Finding], options: argparse.Namespace) -> dict[str, object]:
    return {
        "ok": not any(finding.result == IS_BROKEN for finding in findings),
        "examples": options.examples,
        "seed": options.seed,
        "promises": [asdict(finding) for finding in findings],
        "not_promised": read_exceptions(),
    }


# --- the command line ---------------------------------------------------------------------------------------------


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Try to break each promise of SPEC.md, section 2.")
    parser.add_argument("--examples", type=_positive, default=50, metavar="N", help="how hard to try (default: 50)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="where the search starts (default: 0)")
    parser.add_argument("--only", type=_numbers, default=[], metavar="N,N", help="check these promises only")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
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


def _numbers(text: str) -> list[int]:
    return sorted({int(part) for part in text.split(",")})


@contextmanager
def _work_folder() -> Iterator[None]:
    """Keep all temporary files in one folder that goes in the end, in memory where the system offers that."""
    memory = Path(os.sep, "dev", "shm")
    parent = str(memory) if "TMPDIR" not in os.environ and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="verification-", dir=parent) as folder:
        former, tempfile.tempdir = tempfile.tempdir, folder
        set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            tempfile.tempdir = former
            set_hypothesis_home_dir(None)


if __name__ == "__main__":
    sys.exit(main())
