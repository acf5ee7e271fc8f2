"""Which birth each number of a mapped table stands for (SPEC.md, section 4.7); pure.

Counters count, so births come in runs: a run says that the numbers low .. high here are a device's numbers from `birth`
on. A number in no run is a row that was born here, under this very number, if a counter may have given it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

LEAST_OF_OURS = -(1 << 62)  # from here down no application's counter comes: names for rows that stand in no table
GREATEST = 1 << 62  # numbers from here up do not move the counter: it would soon be at its end
MOST_GAP = 64  # unused numbers that a run may take along

Birth = tuple[int, int]  # ordinal of the device, number there


@dataclass(frozen=True, slots=True, order=True)
class Run:
    """The numbers low .. high here are those from `birth` on of the device `ordinal`."""

    low: int
    high: int
    ordinal: int
    birth: int

    @property
    def shift(self) -> int:
        """What to add to a number for its birth."""
        return self.birth - self.low

    @property
    def last_birth(self) -> int:
        """The birth of its last number."""
        return self.high + self.shift


class Numbering:
    """The runs of one table, and the greatest number that it ever used."""

    def __init__(self, runs: Iterable[Run], top: int) -> None:
        self.runs = sorted(runs)
        self.top = top
        self._lows = [run.low for run in self.runs]

    def birth(self, number: int) -> Birth | None:
        """Return the birth of a number; None where it stands for itself."""
        run = self._run(number)
        if run:
            return run.ordinal, number + run.shift
        return (0, number) if number > 0 or number <= LEAST_OF_OURS else None

    def number(self, birth: Birth) -> int | None:
        """Return the number of a birth; None where it has none yet."""
        ordinal, value = birth
        for run in self.runs:
            if run.ordinal == ordinal and run.birth <= value <= run.last_birth:
                return value - run.shift
        return value if ordinal == 0 and self._run(value) is None else None

    def is_in_a_run(self, number: int) -> bool:
        """Tell whether a number is, or was kept free for, a birth elsewhere."""
        return self._run(number) is not None

    def last_birth(self, ordinal: int) -> int:
        """Return the greatest birth of a device that has a number; 0 if there is none."""
        return max((run.last_birth for run in self.runs if run.ordinal == ordinal), default=0)

    def unknown(self, births: Iterable[Birth]) -> list[Birth]:
        """List, in order, the births that have no number; those of this device have theirs."""
        by_device: dict[int, list[Run]] = {}
        for run in sorted(self.runs, key=lambda run: run.birth):
            by_device.setdefault(run.ordinal, []).append(run)
        first = {ordinal: [run.birth for run in runs] for ordinal, runs in by_device.items()}

        def is_known(birth: Birth) -> bool:
            ordinal, value = birth
            place = bisect_right(first.get(ordinal, []), value)
            return bool(place) and value <= by_device[ordinal][place - 1].last_birth

        return sorted({birth for birth in births if birth[0] != 0 and not is_known(birth)})

    def with_each_born(self, births: Iterable[Birth]) -> Numbering:
        """Give births numbers; behind all that are known, a run may take a few unused ones along."""
        unknown = self.unknown(births)
        last = {ordinal: self.last_birth(ordinal) for ordinal, _ in unknown}
        behind = [birth for birth in unknown if birth[1] > last[birth[0]]]
        between = [birth for birth in unknown if birth[1] <= last[birth[0]]]
        return self.with_born([*runs_of(behind, MOST_GAP), *runs_of(between)])

    def with_born(self, runs: Iterable[tuple[int, int, int]]) -> Numbering:
        """Give runs of births, as (ordinal, first, last), numbers: the same where free; else behind all others."""
        found, top, later = list(self.runs), self.top, []
        for ordinal, first, last in sorted(runs):
            free = max(first, top + 1) if first > 0 and last < GREATEST else last + 1
            if first < free:
                later.append((ordinal, first, min(last, free - 1)))
            if free <= last:
                self._extend(found, Run(free, last, ordinal, free))
                top = last
        for ordinal, first, last in later:
            self._extend(found, Run(top + 1, top + 1 + last - first, ordinal, first))
            top += 1 + last - first
        return Numbering(found, top)

    def with_others(self, births: Iterable[Birth]) -> Numbering:
        """Give births that nobody inserted yet names of ours."""
        least = self.least_of_ours
        runs = [Run(least - i, least - i, *birth) for i, birth in enumerate(births, start=1)]
        return Numbering([*self.runs, *runs], self.top)

    @property
    def least_of_ours(self) -> int:
        """The last number that was given to a row that stands in no table."""
        return min([LEAST_OF_OURS, *(run.low for run in self.runs)])

    def renamed(self, gone: Iterable[int], named: Mapping[int, Birth]) -> Numbering:
        """Let some numbers stand for nothing, and then some for other births."""
        left = list(self.runs)
        for number in sorted({*gone, *named}):
            left = [part for run in left for part in _without(run, number)]
        for number, birth in sorted(named.items()):
            self._extend(left, Run(number, number, *birth))
        return Numbering(left, max([self.top, *(number for number in named if number < GREATEST)]))

    def _run(self, number: int) -> Run | None:
        place = bisect_right(self._lows, number)
        return self.runs[place - 1] if place and number <= self.runs[place - 1].high else None

    @staticmethod
    def _extend(runs: list[Run], new: Run) -> None:
        """Add a run; one that goes on where the last of this device ended becomes part of it."""
        for i, run in enumerate(runs):
            if run.ordinal == new.ordinal and run.shift == new.shift and run.high + 1 == new.low:
                runs[i] = replace(run, high=new.high)
                return
        runs.append(new)


def _without(run: Run, number: int) -> Iterator[Run]:
    if not run.low <= number <= run.high:
        yield run
        return
    if run.low < number:
        yield replace(run, high=number - 1)
    if number < run.high:
        yield Run(number + 1, run.high, run.ordinal, number + 1 + run.shift)


def runs_of(births: Iterable[Birth], gap: int = 1) -> list[tuple[int, int, int]]:
    """Gather births, in order, into runs (ordinal, first, last), in which one may be so far from the next."""
    found: list[list[int]] = []
    for ordinal, value in births:
        if found and found[-1][0] == ordinal and value <= found[-1][2] + gap and (value > 0) == (found[-1][1] > 0):
            found[-1][2] = value
        else:
            found.append([ordinal, value, value])
    return [(ordinal, first, last) for ordinal, first, last in found]


def is_dense(first: int, last: int, count: int) -> bool:
    """Tell whether so many births between two are one run."""
    return last - first < 2 * count + MOST_GAP
