"""Build the shim, and start Python behind it."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SOURCE = HERE.parent.parent / "src"
KINDS = {"write": 1, "sync": 2, "open": 4, "truncate": 8, "unlink": 16, "rename": 32, "read": 64, "allocation": 128}


@cache
def build(folder: Path) -> Path:
    """Compile the shim; skip the test where that is impossible, and say why."""
    compiler = shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        pytest.skip("the shim needs Linux and a C compiler (cc)")
    library = folder / "shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "shim.c"), "-ldl"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.skip(f"the shim cannot be compiled here: {built.stderr[-300:]}")
    return library


def run(library: Path, script: str, *arguments: object) -> Any:
    """Run a script of this folder behind the shim; return what it prints as JSON."""
    paths = os.pathsep.join([str(SOURCE), str(HERE.parent)])
    done = subprocess.run(
        [sys.executable, str(HERE / script), str(library), *map(str, arguments)],
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


class Shim:
    """The shim that this process was started behind."""

    def __init__(self, library: str, root: Path) -> None:
        self._library = ctypes.CDLL(library)
        self._library.shim_root(os.fsencode(root))
        self._library.shim_arm.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]
        self._library.shim_disarm.restype = ctypes.c_long
        self._library.shim_library.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
        mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "libsqlite3" in line]
        if mapped:  # else SQLite is a part of the interpreter, and its allocations cannot be told apart
            low, high = mapped[0].split("-")[0], mapped[-1].split()[0].split("-")[1]
            self._library.shim_library(int(low, 16), int(high, 16))
        self.sees_allocations = bool(mapped)

    def arm(self, kind: str, place: int, error: int, *, is_lasting: bool = False) -> None:
        """Let the request number `place` of a kind fail (0: count only); a lasting fault stays, and tears a write."""
        self._library.shim_arm(KINDS[kind], place, error, is_lasting, is_lasting)

    def disarm(self) -> int:
        """Let everything succeed again; return how many requests there were."""
        return int(self._library.shim_disarm())

    def trace(self, descriptor: int) -> None:
        """Write down what reaches the disk; -1 stops."""
        self._library.shim_trace(descriptor)
