"""Who had what in the row in front of them when they wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlite_sync import Conflict
from verification.search import require
from verification.steps import PAYLOAD, ROWS, Change, Dot, Image, RowName, changed_columns, row_name
from verification.world import Device, World


@dataclass
class Delete:
    """A row that was deleted: by whom, and by which dots that was superseded."""

    row: RowName
    dot: Dot
    superseded_by: list[Dot] = field(default_factory=list)


class Witness:
    """Gives every cell that is written a value of its own, and notes what each author saw in the row."""

    def __init__(self, world: World) -> None:
        world.observer = self
        self.written: dict[object, tuple[RowName, str, Dot]] = {}
        self.superseded_by: dict[object, list[Dot]] = {}
        self.deletes: list[Delete] = []
        self._count = 0
        self._before: dict[bytes, int] = {}
        self._front: Image = None
        self._row: RowName = "", ()
        self._seen: set[object] = set()
        self._chosen: Image = None

    def before_change(self, device: Device, change: Change) -> Change:
        """Look at the row as its author sees it, and make the values unique."""
        self._count += 1
        self._before = dict(device.clock)
        self._front = device.content().get(row_name(*ROWS[change.row]))
        return replace(change, values=tuple(f"{self._count}.{place}" for place in range(2)))

    def after_change(self, device: Device, change: Change) -> None:
        """Note what the author wrote, and what they wrote it over."""
        dot = self._dot(device)
        if dot is None:
            return
        name = row_name(*ROWS[change.row])
        payload = PAYLOAD[name[0]]
        written = {} if change.verb == "drop" else {payload[i]: change.values[i] for i in changed_columns(change)}
        for column, value in written.items():
            self.written[value] = name, column, dot
        columns = written or payload
        self._supersede({value for column, value in (self._front or {}).items() if column in columns}, dot)
        if change.verb == "drop":
            self.deletes.append(Delete(name, dot))
        elif self._front is None:
            self._supersede_deletes(name, dot)

    def before_resolution(self, device: Device, conflict: Conflict, choice: str | None) -> None:
        """Look at all versions of the row as its author can."""
        self._before = dict(device.clock)
        images = device.engine.images(conflict)
        self._chosen = {"local": images.local, "remote": images.remote}.get(choice or "")
        self._row = row_name(conflict.table_name, tuple(conflict.row_pk.values()))
        self._seen = versions(device, device.conflicts()[self._row])[1]

    def after_resolution(self, device: Device) -> None:
        """Note that the resolution superseded all versions but the chosen one."""
        dot = self._dot(device)
        require(dot is not None, "a resolution is no operation")
        if dot is not None:
            self._supersede(self._seen - set((self._chosen or {}).values()), dot)
            self._supersede_deletes(self._row, dot)
            if self._chosen is None:
                self.deletes.append(Delete(self._row, dot))

    def _dot(self, device: Device) -> Dot | None:
        own = device.engine.device_id
        seq = device.clock.get(own, 0)
        return (own, seq) if seq > self._before.get(own, 0) else None

    def _supersede(self, values: set[object], dot: Dot) -> None:
        for value in values:
            self.superseded_by.setdefault(value, []).append(dot)

    def _supersede_deletes(self, name: RowName, dot: Dot) -> None:
        for delete in self.deletes:
            if delete.row == name and is_known(delete.dot, self._before):
                delete.superseded_by.append(dot)


def is_known(dot: Dot, clock: Mapping[bytes, int]) -> bool:
    """Tell whether a vector clock covers an operation."""
    device, seq = dot
    return seq <= clock.get(device, 0)


def versions(device: Device, conflicts: Sequence[Conflict]) -> tuple[list[Image], set[object]]:
    """Return the images of these conflicts, and all values in them."""
    images: list[Image] = []
    for conflict in conflicts:
        pair = device.engine.images(conflict)
        images += [pair.local, pair.remote]
    return images, {value for image in images if image for value in image.values()}
