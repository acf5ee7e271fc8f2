"""The shortest history that still fails: steps are left out as long as the failure stays the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TypeVar

SECONDS = 20.0

Item = TypeVar("Item")
Fails = Callable[[list[Item]], BaseException | None]


def signature(error: BaseException) -> str:
    """Return what stays of a failure when devices, rows and values are others."""
    words = re.sub(r"[^ ]*\d[^ ]*|'[^']*'|b'.*|[{(\[].*", "", str(error).split("\n", 1)[0])
    return f"{type(error).__name__} {words[:60]}"


def shortest(
    items: Sequence[Item], first: BaseException, attempt: Fails[Item], seconds: float = SECONDS
) -> tuple[list[Item], BaseException]:
    """Leave out halves, quarters, and so on to single items; return the shortest that failed alike, and its failure."""
    wanted, until = signature(first), monotonic() + seconds
    best, failure, size = list(items), first, max(len(items) // 2, 1)
    while size and monotonic() < until:
        place, is_shorter = 0, False
        while place < len(best) and monotonic() < until:
            candidate = best[:place] + best[place + size :]
            error = attempt(candidate)
            if error is not None and signature(error) == wanted:
                best, failure, is_shorter = candidate, error, True
            else:
                place += size
        size = size if is_shorter and size == 1 else size // 2
    return best, failure
