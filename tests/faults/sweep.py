"""Runs behind the shim: do one thing again and again, and let another request to the system fail each time.

    sweep.py SHIM TEMPLATE PLACE VERB MOST

At most MOST requests of each kind are tried, evenly spread; 0 tries every one (of allocations, 300). Prints what was found as JSON.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

from faults.scene import PEER, TABLES, VERBS, counted, difference, dump, lay_out, require_next_sync, states_of
from faults.shim import KINDS, Shim
from sqlite_sync import SyncEngine, SyncError, inspect_bundle

MODES = (("once", errno.EIO, False), ("from then on", errno.ENOSPC, True))
MOST_ALLOCATIONS = 300
NEXT_SYNC_EVERY = 8  # meeting a third device takes longer than all the rest


class Sweep:
    """One verb on one database, broken at one place after the other."""

    def __init__(self, shim: Shim, template: Path, place: Path, verb: str) -> None:
        self._shim, self._template, self._place = shim, template, place
        self._verb = VERBS[verb]
        self._takes_users_errors = verb in (
            "capture",
            "capture and generate",
            "migrate",
        )  # its statements are the application's own
        self._states = states_of(template, place, self._verb)
        self.tried: Counter[str] = Counter()
        self.found: list[str] = []

    def _laid_out(self) -> tuple[Path, SyncEngine]:
        path = lay_out(self._template, self._place, self._verb)
        return path, self._verb.opened(path)

    def count(self, kind: str) -> int:
        """Count the requests of a kind."""
        with counted(1000):
            _, device = self._laid_out()
            self._shim.arm(kind, 0, 0)
            self._verb.run(device, self._place)
            requests = self._shim.disarm()
            device.close()
            return requests

    def all_places(self, kind: str, most: int) -> None:
        requests = self.count(kind)
        most = most or (MOST_ALLOCATIONS if kind == "allocation" else requests)
        stride = max(1, -(-requests // max(1, most)))
        for turn, (mode, error, is_lasting) in enumerate(MODES):
            for place in range(1 + turn * stride // 2, requests + 1, stride):
                self.tried[kind] += 1
                how = f"{kind} {place} of {requests} fails {mode}"
                try:
                    self._one_place(kind, place, error, is_lasting=is_lasting)
                except Exception:  # noqa: BLE001 - whatever it is, it is a finding
                    self._shim.disarm()
                    self.found.append(f"{how}: {traceback.format_exc()[-900:]}")

    def _one_place(self, kind: str, place: int, error: int, *, is_lasting: bool) -> None:
        with counted(1000):
            path, device = self._laid_out()
            older = (self._place / "out.bundle").read_bytes()
            self._shim.arm(kind, place, error, is_lasting=is_lasting)
            try:
                self._verb.run(device, self._place)
            except SyncError:
                pass
            except sqlite3.Error:
                assert self._takes_users_errors
            except MemoryError:
                assert kind == "allocation"
            finally:
                self._shim.disarm()
            device = self._require_tidy(path, device, older, may_leave=kind in ("unlink", "open") or is_lasting)
            state = dump(path)
            assert state in self._states, f"neither before nor after: {difference(state, self._states)}"
            if state != self._states[-1]:
                self._verb.run(device, self._place)
                done = dump(path)
                assert [done[t] for t in TABLES] == [self._states[-1][t] for t in TABLES], "another outcome"
            if sum(self.tried.values()) % NEXT_SYNC_EVERY == 0:
                device.initialize()
                require_next_sync(device, self._place / self._verb.bundle)
            device.close()

    def _require_tidy(self, path: Path, device: SyncEngine, older: bytes, *, may_leave: bool) -> SyncEngine:
        """Look at what the fault left behind; return an engine whose connection is open."""
        connection, place = device.connection, self._place
        try:
            is_open = connection.in_transaction
        except sqlite3.ProgrammingError:  # closed, since there was no memory to roll back
            self.tried["connections closed"] += 1
            device = self._verb.opened(path)
            connection, is_open = device.connection, False
        if self._takes_users_errors and is_open:
            connection.rollback()  # the application's own transaction
        assert not connection.in_transaction, "a transaction is open"
        assert connection.execute("SELECT name FROM sqlite_temp_schema").fetchall() == []
        assert {name for _, name, _ in connection.execute("PRAGMA database_list")} <= {"main", "temp"}
        if not may_leave:
            assert list((place / "tmp").iterdir()) == [], "a private copy stays"
            assert [path.name for path in place.rglob("*.part*")] == [], "an unfinished bundle stays"
        bundle = place / "out.bundle"
        if bundle.read_bytes() != older:
            assert inspect_bundle(bundle).peer_device_id == PEER, "a half bundle"
        for written in (place / "shared").rglob("*.bundle"):
            inspect_bundle(written)
        return device


def main() -> None:
    library, template, place, verb, most = sys.argv[1:]
    folder = Path(place)
    os.environ["SQLITE_TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
    shim = Shim(library, folder)
    sweep = Sweep(shim, Path(template), folder, verb)
    for kind in KINDS:
        if kind != "allocation" or shim.sees_allocations:
            sweep.all_places(kind, int(most))
    print(json.dumps({"tried": sweep.tried, "found": sweep.found}))


if __name__ == "__main__":
    main()
