"""What is printed, and the same for machines."""

from __future__ import annotations

import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

HOLDS = "PASS"
HOLDS_PARTLY = "PARTLY"  # all that is claimed holds, but SPEC.md claims less than the promise
IS_BROKEN = "FAIL"
NOT_CHECKED = "not yet checked"

MACHINE = "The machine"
_OF_PROMISE = re.compile(r"^(\d+) (.*)$")


@dataclass(frozen=True)
class Promise:
    """A line of the table in SPEC.md, section 2."""

    number: int
    name: str
    state: str


@dataclass(frozen=True)
class Finding:
    """What came of one check; `tried` counts what was done, `problem` and `example` say how a promise was broken.

    `number` is None for the machine, which checks them all at once. `seeds` are those that were searched from.
    """

    number: int | None
    name: str
    state: str
    result: str
    tried: dict[str, int]
    seconds: float
    problem: str | None = None
    example: str | None = None
    seeds: tuple[int, ...] = ()

    def joined(self, later: Finding) -> Finding:
        """Add what came of the same check in a later round."""
        tried = Counter(self.tried)
        tried.update(later.tried)
        seconds = round(self.seconds + later.seconds, 1)
        return replace(later, tried=dict(tried), seconds=seconds, seeds=(*self.seeds, *later.seeds))


@dataclass
class Report:
    """All that is reported of a run."""

    examples: int
    seed: int
    findings: dict[int | None, Finding] = field(default_factory=dict)
    exceptions: Sequence[str] = ()
    schema: Mapping[str, object] | None = None  # whose it is and what cannot be synced

    @property
    def is_broken(self) -> bool:
        """Whether a promise is broken."""
        return any(finding.result == IS_BROKEN for finding in self.findings.values())

    def add(self, finding: Finding) -> None:
        """Take in what came of a check."""
        former = self.findings.get(finding.number)
        self.findings[finding.number] = former.joined(finding) if former else finding

    def as_json(self) -> dict[str, object]:
        """Return the report for machines."""
        machine = self.findings.get(None)
        found: dict[str, object] = {
            "ok": not self.is_broken,
            "examples": self.examples,
            "seed": self.seed,
            "promises": [asdict(finding) for finding in self.findings.values() if finding.number is not None],
            "machine": asdict(machine) | {"by_promise": by_promise(machine.tried)} if machine else None,
            "not_promised": list(self.exceptions),
        }
        return found | ({"schema": self.schema} if self.schema else {})

    def summary(self) -> list[str]:
        """Say in the end what holds and what was left out."""
        by_result = {
            result: [
                finding.number or MACHINE.lower() for finding in self.findings.values() if finding.result == result
            ]
            for result in (HOLDS, HOLDS_PARTLY, IS_BROKEN, NOT_CHECKED)
        }
        counted = "; ".join(f"{result}: {', '.join(map(str, names)) or 'none'}" for result, names in by_result.items())
        left_out = "Not promised, so not checked (SPEC.md, section 14): " + ", ".join(self.exceptions)
        return ["", counted, *textwrap.wrap(left_out, 120, break_on_hyphens=False)]


def by_promise(tried: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Sort the machine's counts by promise; what belongs to none comes under 0."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for what, count in tried.items():
        match = _OF_PROMISE.match(what)
        number, name = (match[1], match[2]) if match else ("0", what)
        found[number][name] = count
    return {number: found[number] for number in sorted(found, key=int)}


def lines(finding: Finding) -> str:
    """Render what came of one check."""
    number = "" if finding.number is None else str(finding.number)
    result = f"{finding.result}, {finding.state}" if finding.result == HOLDS_PARTLY else finding.result
    rounds = f" ({len(finding.seeds)} rounds)" if len(finding.seeds) > 1 else ""
    head = f"{number:>2}  {finding.name}"
    found = [f"{head:<46} {finding.seconds:>6.1f} s  {result}{rounds}"]
    if finding.number is None:
        for promise, counts in by_promise(finding.tried).items():
            found += _indented(("" if promise == "0" else f"promise {promise}: ") + _counted(counts), "    ")
    else:
        found += _indented(_counted(finding.tried), "    ")
    if finding.problem:
        found += _indented(finding.problem, "    broken: ")
    if finding.example:
        found += [f"    found from seed {finding.seeds[-1]}"] if len(finding.seeds) > 1 else []
        found += ["    shortest example:"]
        found += [textwrap.indent(finding.example, "        " if finding.number is not None else "")]
    return "\n".join(found)


def _counted(tried: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in tried.items())


def _indented(text: str, start: str) -> Iterable[str]:
    first, *rest = text.splitlines() or [""]
    yield from textwrap.wrap(first, 116, initial_indent=start, subsequent_indent="        ")
    yield from (f"        {line}" for line in rest)
