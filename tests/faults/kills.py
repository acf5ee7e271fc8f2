"""Do one thing again and again in a process of its own, and kill that at a random instant each time.

    kills.py PLACE TEMPLATE VERB KILLS SEED

Prints what was found as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from time import perf_counter, sleep

from faults.scene import VERBS, counted, difference, dump, lay_out, require_next_sync, states_of
from sqlite_sync import inspect_bundle


class Victims:
    """One verb, killed again and again."""

    def __init__(self, template: Path, place: Path, verb: str) -> None:
        self._template, self._place, self._verb = template, place, VERBS[verb]
        self._states = states_of(template, place, self._verb)
        self.tried: Counter[str] = Counter()
        self.found: list[str] = []
        with counted(1000), self._verb.opened(lay_out(template, place, self._verb)) as device:
            start = perf_counter()
            self._verb.run(device, place)
            self._seconds = perf_counter() - start

    def kill(self, moment: float) -> None:
        """Kill after this part of the time that the verb takes; then all must be whole, and go on."""
        with counted(1000):
            path = lay_out(self._template, self._place, self._verb)
            older = (self._place / "out.bundle").read_bytes()
            ready, is_ready = os.pipe()
            child = os.fork()
            if child == 0:
                self._die(path, is_ready)
            os.close(is_ready)
            os.read(ready, 1)
            os.close(ready)
            sleep(moment * self._seconds)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            state = dump(path)
            assert state in self._states, f"neither before nor after: {difference(state, self._states)}"
            if (self._place / "out.bundle").read_bytes() != older:
                inspect_bundle(self._place / "out.bundle")
            is_late = not os.WIFSIGNALED(status)
            where = "after the end" if is_late else "before" if state == self._states[0] else "on the way or after"
            self.tried[where] += 1
        with counted(2000), self._verb.opened(path) as device:
            self._verb.run(device, self._place)
            if sum(self.tried.values()) % 8 == 0:
                device.initialize()
                require_next_sync(device, self._place / self._verb.bundle)

    def _die(self, path: Path, is_ready: int) -> None:
        try:
            device = self._verb.opened(path)
            os.write(is_ready, b"!")
            self._verb.run(device, self._place)
        finally:
            os._exit(0)


def main() -> None:
    place, template, verb, kills, seed = sys.argv[1:]
    os.environ["SQLITE_TMPDIR"] = tempfile.tempdir = str(Path(place) / "tmp")
    victims = Victims(Path(template), Path(place), verb)
    dice = Random(int(seed))  # noqa: S311
    for _ in range(int(kills)):
        try:
            victims.kill(dice.uniform(0, 1.1))
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            victims.found.append(traceback.format_exc()[-900:])
    print(json.dumps({"tried": victims.tried, "found": victims.found}))


if __name__ == "__main__":
    main()
