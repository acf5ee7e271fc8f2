"""The progress of an import, on a terminal."""

from __future__ import annotations

from threading import Timer
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from sqlite_sync import Progress
from sqlite_sync.cli.values import clipped, printable

PATIENCE_S = 0.5  # a bar that flashes up is noise
NAME_WIDTH = 24
DOING = {"verify": "verifying", "append": "reading", "apply": "applying"}
NEXT = {"verify": "reading", "append": "applying", "apply": "finishing"}


class ProgressBar:
    """A bar on stderr that appears when an import takes long, and only on a terminal."""

    def __init__(self, name: str) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
        )
        self._name = clipped(printable(name), NAME_WIDTH)
        self._bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(self._name, total=None)
        self._patience = Timer(PATIENCE_S, self._bar.start)

    def __enter__(self) -> Self:
        self._patience.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._patience.cancel()
        self._patience.join()
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Take in how far the import is; after the last step of a stage, the next one is being waited for."""
        is_over = progress.done >= progress.total > 0
        doing = (NEXT if is_over else DOING).get(progress.stage, progress.stage)
        done, total = (0, None) if is_over or not progress.done else (progress.done, progress.total)
        self._bar.update(self._task, description=f"{doing} {self._name}", completed=done, total=total)
