"""Two to six devices on any schema: they write, exchange, resolve, change their schema, and lose what can be lost."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

from hypothesis import strategies as st

from verification import deeds, random_schema
from verification.fitting import Fitting, fit
from verification.fleet import Fleet
from verification.oracle import look, require_agreement
from verification.search import CounterexampleError, Search
from verification.shortest import shortest, signature

KINDS: tuple[deeds.Deed, ...] = (
    *[deeds.write] * 14,
    *[deeds.send] * 7,
    *[deeds.post] * 3,
    *[deeds.arrive] * 5,
    *[deeds.resolve] * 3,
    *[deeds.visit] * 2,
    deeds.decide,
    deeds.damage,
    deeds.interrupt,
    deeds.busy,
    deeds.attack,
    deeds.restart,
    deeds.set_clock,
    deeds.disable,
    *[deeds.enable] * 2,
    deeds.upgrade,
    deeds.uncaptured,
    deeds.reconcile,
    deeds.join,
    deeds.clone,
    deeds.fork,
)
STEPS = 48
ROUNDS = 3
ALL_DEVICES = 6


@dataclass(frozen=True)
class Step:
    """A step of a history: what happens, where, and the chance in it."""

    kind: int
    device: int
    chance: int

    @property
    def deed(self) -> deeds.Deed:
        """What happens."""
        return KINDS[self.kind % len(KINDS)]

    def __repr__(self) -> str:
        return f"{self.deed.__name__}({self.device}, {self.chance})"


@dataclass(frozen=True)
class Start:
    """How a history begins: the number of devices, which enforce foreign keys, and how many write before enabling."""

    devices: int = 2
    enforcing: int = 0
    early: int = 0


def steps(most: int = STEPS) -> st.SearchStrategy[list[Step]]:
    """Draw steps. Four bytes make one, or none, so that a failing history shrinks by leaving steps out."""

    def decode(drawn: bytes) -> list[Step]:
        quadruples = [drawn[place : place + 4] for place in range(0, len(drawn), 4)]
        return [Step(one - 1, two, three << 8 | four) for one, two, three, four in quadruples if one]

    return st.binary(min_size=4 * most, max_size=4 * most).map(decode)


Play = Callable[[Fitting, Start, Sequence[Step], Counter[str]], None]

starts = st.builds(Start, st.integers(2, 4), st.integers(0, 7), st.integers(0, 3))


@contextmanager
def told(fitting: Fitting, tried: Counter[str]) -> Iterator[Fleet]:
    """Give a fleet for one history; if it fails, the script that repeats it is added to the error."""
    with Fleet(fitting, tried) as fleet:
        try:
            yield fleet
        except Exception as error:
            error.add_note(fleet.transcript.render(f"{type(error).__name__}: {error}", len(fleet.devices)))
            raise


def play(fitting: Fitting, start: Start, history: Sequence[Step], tried: Counter[str]) -> None:
    """Let a history happen, check each step, let all meet in the end, and compare them."""
    tried["histories"] += 1
    with told(fitting, tried) as fleet:
        _play(fleet, start, history)


def _play(fleet: Fleet, start: Start, history: Sequence[Step]) -> None:
    for number in range(start.devices):
        fleet.add(is_enforcing=bool(start.enforcing >> number & 1))
    for step in history[: start.early]:  # before anything is captured
        device, chance = fleet.at(step.device), Random(step.chance)  # noqa: S311  # repeatable
        statements = deeds.Writer(fleet.fitting, device.content(), chance).script()
        deeds.run(fleet, device.engine.connection, statements)
        fleet.transcript.sql(device.number, statements, is_enforcing=device.is_enforcing)
    for device in fleet.devices:
        fleet.enable(device)
    for place, step in enumerate(history[start.early :]):
        fleet.ticks += 1
        fleet.tried["steps"] += 1
        fleet.transcript.say(f"step {place + 1}: {step!r}")
        step.deed(fleet, fleet.at(step.device), Random(step.chance))  # noqa: S311
    fleet.transcript.say("in the end all meet")
    meet(fleet)
    require_agreement(fleet)


def meet(fleet: Fleet) -> None:
    """Bring all devices to one schema, let everybody hear from everybody, then repeat late bundles."""
    for device in fleet.devices:
        for _ in fleet.subject.later:
            deeds.upgrade(fleet, device, Random(1))  # noqa: S311
        while device.disabled:
            deeds.enable(fleet, device, Random(0))  # noqa: S311
        look(fleet, device)
    for _ in range(ROUNDS):
        for source in fleet.devices:
            for target in fleet.devices:
                if parcel := fleet.post(source, target):
                    deeds.deliver(fleet, parcel, target)
    for place, parcel in enumerate(fleet.parcels[:: max(len(fleet.parcels) // 8, 1)]):
        deeds.deliver(fleet, parcel, fleet.at(place))


def on_random_schemas(search: Search, play: Play = play) -> None:
    """Play histories on schemas that are drawn, too."""

    def fitted(schema: bytes, folder: str) -> Fitting:
        return fit(random_schema.make(schema, Path(folder)))

    def claim(schema: bytes, start: Start, history: list[Step]) -> None:
        with tempfile.TemporaryDirectory(prefix="schema-") as folder:
            play(fitted(schema, folder), start, history, search.tried)

    try:
        search.run(claim, shrinks=False, schema=st.binary(min_size=2, max_size=2), start=starts, history=steps())
    except CounterexampleError as found:
        with tempfile.TemporaryDirectory(prefix="schema-") as folder:
            raise _shortened(fitted(found.inputs["schema"], folder), found, search, play) from found


def on_subject(fitting: Fitting, search: Search, play: Play = play) -> None:
    """Play histories on one schema."""

    def claim(start: Start, history: list[Step]) -> None:
        play(fitting, start, history, search.tried)

    try:
        search.run(claim, shrinks=False, start=starts, history=steps())
    except CounterexampleError as found:
        raise _shortened(fitting, found, search, play) from found


def _shortened(fitting: Fitting, found: CounterexampleError, search: Search, play: Play) -> CounterexampleError:
    """Leave out of a failing history what it does not need."""
    start, history = found.inputs["start"], found.inputs["history"]
    failure = found.cause

    def attempt(start: Start, history: list[Step]) -> BaseException | None:
        try:
            play(fitting, start, history, Counter())
        except Exception as error:  # noqa: BLE001  # whatever it is, it is compared with the first failure
            return error
        return None

    simpler = [replace(start, early=0), replace(start, enforcing=0), replace(start, devices=2)]
    if search.shrinks:
        history, failure = shortest(history, failure, partial(attempt, start))
        for candidate in [Start(), *simpler]:
            error = attempt(candidate, history)
            if error is not None and signature(error) == signature(failure):
                start, failure = candidate, error
                history, failure = shortest(history, failure, partial(attempt, start))
                break
    return CounterexampleError({**found.inputs, "start": start, "history": history}, failure)
