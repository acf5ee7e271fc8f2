"""Run the benchmarks and print one Markdown table: `python benchmarks/run.py [--quick] [capture] [bundle] [import]`.

The exit code is 1 if a figure is not reached.
"""

from __future__ import annotations

import argparse
import platform
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bench_bundle
import bench_capture
import bench_flows
import bench_growth
import bench_import
import bench_peers
import bench_shapes
import bench_size
import measure
from measure import Figure, Scale

BENCHES: dict[str, Callable[[Scale, Path], Iterator[Figure]]] = {
    "capture": bench_capture.figures,
    "bundle": bench_bundle.figures,
    "import": bench_import.figures,
    "flows": bench_flows.figures,
    "shapes": bench_shapes.figures,
    "size": bench_size.figures,
    "growth": bench_growth.figures,
    "peers": bench_peers.figures,
}


def main() -> int:
    """Measure, print, and tell whether every figure is reached."""
    parser = argparse.ArgumentParser(description="Measure what sync costs against the same work without it.")
    parser.add_argument("--quick", action="store_true", help="less of everything: for a first look, not for the record")
    parser.add_argument("bench", nargs="*", choices=[*BENCHES, []], help="which benchmarks to run; all without a name")
    chosen = parser.parse_args()
    scale = measure.QUICK if chosen.quick else measure.FULL
    start, found = time.monotonic(), list[Figure]()
    for name in chosen.bench or BENCHES:
        with measure.workplace() as folder:
            for figure in BENCHES[name](scale, folder):
                print(f"{figure.scenario}: {measure.number(figure.measured)}{figure.unit}", file=sys.stderr, flush=True)
                found.append(figure)
    print(measure.table(found))
    missed = [figure.scenario for figure in found if figure.is_missed]
    print(
        f"\nPython {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.machine()}, "
        f"{time.monotonic() - start:.0f} s; {'a quick look; ' if chosen.quick else ''}"
        f"{len(missed)} of {sum(figure.reach is not None for figure in found)} figures not reached."
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
