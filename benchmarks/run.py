"""Run the benchmarks and print one Markdown table: `python benchmarks/run.py [--quick | --record] [capture] [bundle] ...`.

With `--record`, what was measured goes to `benchmarks/record.json`, and from there, by `benchmarks/report.py`, to the
README and `docs/performance.md`. The exit code is 1 if a figure is not reached.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bench_bundle
import bench_capture
import bench_floor
import bench_flows
import bench_growth
import bench_import
import bench_peers
import bench_shapes
import bench_size
import measure
import record
import report
from measure import Figure, Scale

BENCHES: dict[str, Callable[[Scale, Path], Iterator[Figure]]] = {
    "capture": bench_capture.figures,
    "bundle": bench_bundle.figures,
    "import": bench_import.figures,
    "flows": bench_flows.figures,
    "floor": bench_floor.figures,
    "shapes": bench_shapes.figures,
    "size": bench_size.figures,
    "growth": bench_growth.figures,
    "peers": bench_peers.figures,
}


def main() -> int:
    """Measure, print, and tell whether every figure is reached."""
    parser = argparse.ArgumentParser(description="Measure what sync costs against the same work without it.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="less of everything: for a first look, not for the record")
    how.add_argument("--record", action="store_true", help="put it into the record, and into the documents")
    parser.add_argument("bench", nargs="*", choices=[*BENCHES, []], help="which benchmarks to run; all without a name")
    chosen = parser.parse_args()
    scale = measure.QUICK if chosen.quick else measure.FULL
    found = list[Figure]()
    start = time.monotonic()
    for name in chosen.bench or BENCHES:
        machine = _machine()
        figures = _run(name, scale)
        found += figures
        if chosen.record:
            record.keep(name, figures, machine)
    print(measure.table(found))
    missed = [figure.scenario for figure in found if figure.is_missed]
    print(
        f"\n{_machine()}, {time.monotonic() - start:.0f} s; {'a quick look; ' if chosen.quick else ''}"
        f"{len(missed)} of {sum(figure.reach is not None for figure in found)} figures not reached."
    )
    if chosen.record:
        report.write()
    return 1 if missed else 0


def _run(name: str, scale: Scale) -> list[Figure]:
    found = list[Figure]()
    with measure.workplace() as folder:
        for figure in BENCHES[name](scale, folder):
            print(f"{figure.scenario}: {measure.number(figure.measured)}{figure.unit}", file=sys.stderr, flush=True)
            found.append(figure)
    return found


def _machine() -> str:
    busy = f", load average {os.getloadavg()[0]:.0f}" if hasattr(os, "getloadavg") else ""
    return (
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.machine()}, "
        f"{os.cpu_count()} cores{busy}"
    )


if __name__ == "__main__":
    sys.exit(main())
