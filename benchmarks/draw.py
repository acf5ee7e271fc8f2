"""Draw the record as SVG; the same record gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update(
    {"svg.hashsalt": "sqlite-sync-core", "svg.fonttype": "path", "font.size": 9, "axes.axisbelow": True}
)

from matplotlib import pyplot as plt  # noqa: E402 - what draws has to be chosen before
from matplotlib.axes import Axes  # noqa: E402
from measure import Figure  # noqa: E402
from record import Run  # noqa: E402

GROWTH = {
    "history": ("growth by operations of history", "operations of history"),
    "devices": ("growth by devices", "devices known"),
    "conflicts": ("growth by open conflicts", "open conflicts"),
}
ROWS = {"columns": ("rows by columns", "columns"), "lengths": ("rows by bytes of a text", "bytes of each text")}
GREY = "#888888"


def draw(runs: Mapping[str, Run], folder: Path) -> None:
    """Draw every picture."""
    folder.mkdir(exist_ok=True)
    growth = runs["growth"].figures
    for name, (prefix, label) in GROWTH.items():
        _lines(folder / f"{name}.svg", _series(growth, prefix), (label, "CPU, ms"))
    for name, (prefix, label) in ROWS.items():
        _lines(folder / f"{name}.svg", _series(growth, prefix), (label, "times the plain statement"), log=True)
    shapes = _series(runs["shapes"].figures, "shapes")
    _bars(
        folder / "shapes.svg",
        {verb: shapes[verb] for verb in ("insert", "update by key", "delete by key")},
        "times the plain statement",
    )
    sizes = _series(runs["size"].figures, "bytes of an operation")
    _bars(folder / "sizes.svg", sizes, "bytes of an operation")
    peers = _series(runs["peers"].figures, "peers")
    times = {name: found for name, found in peers.items() if name.startswith("insert") and not name.endswith("bytes")}
    _bars(folder / "peers.svg", times, "times the plain statement, insert (logarithmic)", log=True)


def _series(figures: Iterable[Figure], prefix: str) -> dict[str, list[Figure]]:
    found: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.series.startswith(f"{prefix}: "):
            found.setdefault(figure.series.removeprefix(f"{prefix}: "), []).append(figure)
    return found


def _lines(path: Path, series: Mapping[str, list[Figure]], labels: tuple[str, str], *, log: bool = False) -> None:
    figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for name, points in series.items():
        axes.plot(
            [point.x for point in points], [point.measured for point in points], marker="o", markersize=3, label=name
        )
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.set_ylim(bottom=0)
    if log:
        axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _finish(path, figure, axes)


def _bars(path: Path, series: Mapping[str, list[Figure]], label: str, *, log: bool = False) -> None:
    names = list(dict.fromkeys(str(point.x) for points in series.values() for point in points))
    figure, axes = plt.subplots(figsize=(7, 0.9 + 0.17 * len(names) * (len(series) + 1)), layout="constrained")
    height = 0.8 / len(series)
    for i, (name, points) in enumerate(series.items()):
        places = [names.index(str(point.x)) + i * height for point in points]
        axes.barh(places, [point.measured for point in points], height, label=name)
    axes.set_yticks([i + 0.4 - height / 2 for i in range(len(names))], names)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    if log:
        axes.set_xscale("log")
    if "times" in label:
        axes.axvline(1, color=GREY, linewidth=0.8)
    _finish(path, figure, axes)


def _finish(path: Path, figure: plt.Figure, axes: Axes) -> None:
    axes.grid(visible=True, color="#dddddd", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)
