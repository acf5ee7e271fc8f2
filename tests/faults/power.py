"""Runs behind the shim: write down all that a verb does to the disk, and cut the power at one place after the other.

    power.py SHIM TEMPLATE PLACE VERB SYNCHRONOUS MOST SEED

A disk keeps what was synced. Of what was not, a cut keeps nothing, everything, or any part: each write wholly, in some
of its sectors, or not at all; of the changes in a folder, any first part. Prints what was found as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from faults.scene import PEER, VERBS, counted, difference, dump, lay_out, require_next_sync, states_of
from faults.shim import Shim
from sqlite_sync import BundleInfo, inspect_bundle

SECTOR_BYTES = 512
NEXT_SYNC_EVERY = 8


@dataclass(frozen=True)
class Act:
    """One thing that was done to the disk: W write, S sync, T truncate, U unlink, R rename, C create."""

    what: str
    path: str
    other: str
    offset: int
    content: bytes


def read_trace(path: Path, end: int = sys.maxsize) -> Iterator[Act]:
    with path.open("rb") as file:
        while file.tell() < end and (line := file.readline()):
            what, name, other, offset, length = line.decode().rstrip("\n").split("\t")
            yield Act(what, name, other, int(offset), file.read(int(length)))


@dataclass
class Inode:
    """A file's content: what is on the disk, and what was done since."""

    durable: bytes = b""
    pending: list[Act] = field(default_factory=list)

    def after(self, acts: list[Act], dice: Random | None = None) -> bytes:
        content = bytearray(self.durable)
        for act in acts:
            if act.what == "T":
                content = content[: act.offset] + bytes(max(0, act.offset - len(content)))
                continue
            for at in range(0, len(act.content), SECTOR_BYTES):
                if dice is None or dice.random() < 0.5:
                    piece, start = act.content[at : at + SECTOR_BYTES], act.offset + at
                    content += bytes(max(0, start - len(content)))
                    content[start : start + len(piece)] = piece
        return bytes(content)


class Disk:
    """What is on a disk at each moment of a trace, and what may be left of it."""

    def __init__(self, folder: Path) -> None:
        files = [path for path in folder.rglob("*") if path.is_file()]
        self._durable = {str(path): Inode(path.read_bytes()) for path in files}
        self._names = dict(self._durable)
        self._moves: dict[str, list[Act]] = {}
        self._made: dict[Act, Inode] = {}

    def do(self, act: Act) -> None:
        if act.what == "S":
            self._sync(act.path)
        elif act.what in "WT":
            self._names[act.path].pending.append(act)
        else:
            if act.what == "C":
                self._made[act] = Inode()
            self._moves.setdefault(str(Path(act.path).parent), []).append(act)
            self._move(self._names, act)

    def _sync(self, path: str) -> None:
        if path in self._names:
            inode = self._names[path]
            inode.durable, inode.pending = inode.after(inode.pending), []
        for act in self._moves.pop(path, []):
            self._move(self._durable, act)

    def _move(self, names: dict[str, Inode], act: Act) -> None:
        if act.what == "C":
            names[act.path] = self._made[act]
        elif act.what == "U":
            names.pop(act.path, None)
        elif act.path in names:
            names[act.other] = names.pop(act.path)

    def least(self) -> dict[str, bytes]:
        """Return what is there for certain."""
        return {name: inode.durable for name, inode in self._durable.items()}

    def most(self) -> dict[str, bytes]:
        """Return what is there if everything came through, as when a process is killed."""
        return {name: inode.after(inode.pending) for name, inode in self._names.items()}

    def some(self, dice: Random) -> dict[str, bytes]:
        """Return one of the many things that may be there."""
        names = dict(self._durable)
        for moves in self._moves.values():
            for act in moves[: dice.randint(0, len(moves))]:
                self._move(names, act)
        return {
            name: inode.after(
                [act for act in inode.pending if dice.random() < 0.5], dice if dice.random() < 0.5 else None
            )
            for name, inode in names.items()
        }


class PowerCut:
    """One verb, and the power cut at each place of its trace."""

    def __init__(self, shim: Shim, template: Path, place: Path, verb: str, synchronous: str) -> None:
        self._place, self._verb = place, VERBS[verb]
        self._states = states_of(template, place, self._verb)
        with counted(1000):
            device = self._verb.opened(lay_out(template, place, self._verb))
            device.connection.execute(f"PRAGMA synchronous = {synchronous}")
            self._disk = Disk(place)
            self._older = (place / "out.bundle").read_bytes()
            with (place.parent / "trace").open("wb", buffering=0) as trace:
                shim.trace(trace.fileno())
                self._verb.run(device, place)
                self._returned = trace.tell()
                device.close()
                shim.trace(-1)
        self._acts = list(read_trace(place.parent / "trace"))
        self._returned = len(list(read_trace(place.parent / "trace", self._returned)))
        self.tried: Counter[str] = Counter()
        self.found: list[str] = []

    def everywhere(self, most: int, dice: Random) -> None:
        stride = max(1, -(-len(self._acts) // most)) if most else 1
        for number, act in enumerate(self._acts):
            if number % stride == stride // 2 or number == self._returned:
                self._cut("nothing unsynced", number, self._disk.least())
                self._cut("everything", number, self._disk.most())
                self._cut("some", number, self._disk.some(dice))
            self._disk.do(act)
        self._cut("nothing unsynced", len(self._acts), self._disk.least())

    def _cut(self, what: str, number: int, files: dict[str, bytes]) -> None:
        self.tried[what] += 1
        try:
            self._require_whole(files)
        except Exception:  # noqa: BLE001 - whatever it is, it is a finding
            last = self._acts[number - 1] if number else None
            after = f"{last.what} {Path(last.path).name}" if last else "nothing"
            text = traceback.format_exc()[-900:]
            self.found.append(f"cut at {number} of {len(self._acts)}, after {after}, {what} kept: {text}")

    def _require_whole(self, files: dict[str, bytes]) -> None:
        shutil.rmtree(self._place)
        (self._place / "tmp").mkdir(parents=True)
        (self._place / "shared").mkdir()
        for name, content in files.items():
            if Path(name).parent.name != "tmp" and "sqlite-sync-" not in name:
                Path(name).parent.mkdir(exist_ok=True)
                Path(name).write_bytes(content)
        path = self._place / "victim.db"
        state = dump(path)
        assert state in self._states, f"neither before nor after: {difference(state, self._states)}"
        for bundle in [self._place / "out.bundle", *(self._place / "shared").rglob("*.bundle")]:
            if bundle.read_bytes() != self._older:
                self._require_held(path, inspect_bundle(bundle))
        with counted(2000), self._verb.opened(path) as device:
            self._verb.run(device, self._place)
            if sum(self.tried.values()) % NEXT_SYNC_EVERY == 0:
                device.initialize()
                require_next_sync(device, self._place / self._verb.bundle)

    def _require_held(self, path: Path, info: BundleInfo) -> None:
        """Require that the database still holds what a bundle that left it says that it holds."""
        with closing(sqlite3.connect(path)) as plain:
            clock = dict(plain.execute("SELECT device_id, seq FROM sync_clock"))
        assert info.peer_device_id in (PEER, None)
        forgotten = {device.hex(): seq for device, _, seq in info.devices if clock.get(device, 0) < seq}
        assert not forgotten, f"a bundle tells what its author forgot: {forgotten}"


def main() -> None:
    library, template, place, verb, synchronous, most, seed = sys.argv[1:]
    folder = Path(place)
    os.environ["SQLITE_TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
    power = PowerCut(Shim(library, folder), Path(template), folder, verb, synchronous)
    power.everywhere(int(most), Random(int(seed)))  # noqa: S311
    print(json.dumps({"tried": power.tried, "found": power.found}))


if __name__ == "__main__":
    main()
