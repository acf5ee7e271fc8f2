"""A search for a counterexample, and the count of what it tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NoReturn

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.strategies import SearchStrategy

SHRINK_SECONDS = 30.0


class BrokenError(Exception):
    """A promise does not hold."""


class CounterexampleError(Exception):
    """A claim failed: the shortest input that was found to break it, and how."""

    def __init__(self, inputs: Mapping[str, Any], cause: BaseException) -> None:
        super().__init__(inputs, cause)
        self.inputs = inputs
        self.cause = cause


def require(holds: object, what: str) -> None:
    """Raise where something that was promised does not hold."""
    if not holds:
        fail(what)


def fail(what: str) -> NoReturn:
    """Raise: a promise does not hold."""
    raise BrokenError(what)


@dataclass
class Search:
    """How hard to look for a counterexample of one promise, and what was tried."""

    examples: int
    seed: int
    shrinks: bool = True
    tried: Counter[str] = field(default_factory=Counter)

    def run(
        self,
        claim: Callable[..., None],
        *,
        examples: int | None = None,
        shrinks: bool | None = None,
        **drawn: SearchStrategy[Any],
    ) -> None:
        """Try a claim on many inputs; where it fails, raise the shortest input that breaks it.

        `shrinks` False leaves it to the caller to make the input shorter.
        """
        attempts = _Attempts(claim)
        search = settings(
            max_examples=max(examples or self.examples, 1),
            phases=[Phase.generate, Phase.shrink] if self.shrinks and shrinks is not False else [Phase.generate],
            suppress_health_check=list(HealthCheck),
            deadline=None,
            database=None,
            report_multiple_bugs=False,
        )

        def attempt(**inputs: object) -> None:
            attempts.attempt(inputs)

        try:
            seeded(self.seed)(search(given(**drawn)(attempt)))()
        except Exception as error:
            if attempts.last_failure is None:
                raise
            raise CounterexampleError(*attempts.last_failure) from error

    def part(self, of: int) -> int:
        """Return a share of the examples, for a claim of which each example tries a lot."""
        return max(self.examples // of, 1)

    def stride(self, enough: int) -> int:
        """Return the step at which to go through a list: 1 where there are `enough` examples, else greater."""
        return max(1, enough // self.examples)


@dataclass
class _Attempts:
    """Tries a claim; some time after the first failure it lets other inputs pass, so that shrinking comes to an end."""

    claim: Callable[..., None]
    last_failure: tuple[Mapping[str, Any], BaseException] | None = None
    _until: float = float("inf")
    _failed: set[str] = field(default_factory=set)

    def attempt(self, inputs: Mapping[str, object]) -> None:
        if monotonic() > self._until and repr(inputs) not in self._failed:
            return
        try:
            self.claim(**inputs)
        except Exception as error:
            self._until = min(self._until, monotonic() + SHRINK_SECONDS)
            self._failed.add(repr(inputs))
            self.last_failure = inputs, error
            raise
