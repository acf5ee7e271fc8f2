"""The oracle: SPEC.md, sections 3, 4 and 10, in plain Python. A set of writes goes in, the database comes out.

It shares no code with the package. It knows all writes of a row with their contexts, looks at every pair of them, and keeps
no state, so there is little to get wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

Image = Mapping[str, object] | None  # None: absent
RowName = tuple[str, Hashable]
PARKED = bytes(16)  # the base of a write whose author had no row in front of them, since it was parked


@dataclass(frozen=True)
class Write:
    """One operation; `row` names the row by its key as the key's collations see it, `context` is a vector clock."""

    device: bytes
    seq: int
    hlc: int
    table: str
    row: Hashable
    kind: str
    new: Mapping[str, object]
    base: bytes | None
    context: Mapping[bytes, int]

    @cached_property
    def op_id(self) -> bytes:
        return sha256(self.device + self.seq.to_bytes(8, "big")).digest()[:16]

    @property
    def order(self) -> tuple[int, bytes, int]:
        return self.hlc, self.device, self.seq

    @property
    def is_resolution(self) -> bool:
        return self.kind.startswith("resolve")

    def happened_before(self, other: Write) -> bool:
        if self.device == other.device:
            return self.seq < other.seq
        return self.seq <= other.context.get(self.device, 0)


@dataclass(frozen=True)
class Clash:
    """An open conflict."""

    conflict_id: bytes
    kind: str
    local: bytes
    remote: bytes


class Row:
    """What a set of writes makes of their row."""

    def __init__(self, writes: Iterable[Write]) -> None:
        self.writes = {write.op_id: write for write in sorted(writes, key=lambda write: write.order)}
        self.covered: dict[bytes, set[bytes]] = {}
        self.images: dict[bytes, Image] = {}
        for op_id, write in self.writes.items():  # the total order extends causality: bases and parents come first
            self.covered[op_id] = self._covered(write)
            self.images[op_id] = self._image(write)
        superseded = set().union(*self.covered.values())
        self.heads = {op_id: write for op_id, write in self.writes.items() if op_id not in superseded}
        self.shown = max(
            self.heads.values(), key=lambda head: (self.images[head.op_id] is not None, head.hlc, head.device)
        )
        self.image = self.images[self.shown.op_id]
        self.conflicts = {
            self._clash(other) for op_id, other in self.heads.items() if not same(self.images[op_id], self.image)
        }

    def _siblings(self, write: Write) -> list[bytes]:
        """Return the earlier writes of the same device on the same base."""
        others = self.writes.items()
        return [i for i, one in others if one.device == write.device and one.seq < write.seq and one.base == write.base]

    def _covered(self, write: Write) -> set[bytes]:
        if write.base is None:
            return {op_id for op_id, one in self.writes.items() if one.happened_before(write)}
        if write.base == PARKED:
            return set(self._siblings(write))
        return {write.base, *self.covered[write.base], *self._siblings(write)}

    def _parent(self, write: Write) -> bytes | None:
        if write.base is not None:
            default = None if write.base == PARKED else write.base
            return max(self._siblings(write), key=lambda op_id: self.writes[op_id].seq, default=default)
        known = [op_id for op_id, one in self.writes.items() if one.happened_before(write)]
        return max(known, key=lambda op_id: self.writes[op_id].order, default=None)

    def _image(self, write: Write) -> Image:
        if write.kind in ("insert", "resolve"):
            return write.new
        if write.kind in ("delete", "resolve-delete"):
            return None
        parent = self._parent(write)
        before = None if parent is None else self.images[parent]
        return None if before is None else {**before, **write.new}

    def _clash(self, other: Write) -> Clash:
        local, remote = self.shown, other
        low, high = sorted((local.op_id, remote.op_id))
        if local.kind == remote.kind == "insert":
            kind = "insert/insert"
        elif self.images[local.op_id] is None or self.images[remote.op_id] is None:
            kind = "update/delete"
        else:
            kind = "update/update"
        return Clash(sha256(b"conflict" + low + high).digest()[:16], kind, local.op_id, remote.op_id)


class Model:
    """The database that a set of writes makes; it only grows, and judges a row again when that has grown."""

    def __init__(self, writes: Iterable[Write] = ()) -> None:
        self.by_row: dict[RowName, dict[bytes, Write]] = defaultdict(dict)
        self._judged: dict[tuple[RowName, frozenset[bytes]], Row] = {}
        for write in writes:
            self.add(write)

    def add(self, write: Write) -> None:
        self.by_row[write.table, write.row][write.op_id] = write

    def row(self, name: RowName, clock: Mapping[bytes, int]) -> Row | None:
        """Judge a row as a device with this vector clock must; None where it knows no write of it."""
        return self.judge(
            name, [write for write in self.by_row[name].values() if write.seq <= clock.get(write.device, 0)]
        )

    def judge(self, name: RowName, writes: Iterable[Write]) -> Row | None:
        known = list(writes)
        key = name, frozenset(write.op_id for write in known)
        if known and key not in self._judged:
            self._judged[key] = Row(known)
        return self._judged.get(key)

    def rows(self, clock: Mapping[bytes, int], tables: Iterable[str]) -> Iterator[tuple[RowName, Row]]:
        wanted = set(tables)
        for name in list(self.by_row):
            if name[0] in wanted and (row := self.row(name, clock)):
                yield name, row

    def misjudged(self) -> Iterator[str]:
        """Check each write against what its author can have had in the row: the ground of promise 7, no lost update."""
        for name, written in self.by_row.items():
            for write in written.values():
                known = [one for one in written.values() if one.happened_before(write)]
                if write.is_resolution:
                    if write.base is not None:
                        yield f"a resolution has a base: {write}"
                    continue
                if write.base == PARKED:  # which rows are, `Constraints` says
                    continue
                before = [
                    one for one in known if write.base is None or (one.device, one.base) != (write.device, write.base)
                ]
                row = self.judge(name, before)
                if write.base is None and row and row.conflicts:
                    yield f"written over a conflict, without a base: {write}"
                if write.base is not None and not (row and row.conflicts and row.shown.op_id == write.base):
                    yield f"its base was not the shown head of a conflict: {write}"

    def lost(self, clock: Mapping[bytes, int]) -> Iterator[str]:
        """Name the writes that promise 7 does not account for: superseded by nobody who had them before their eyes."""
        for name in list(self.by_row):
            row = self.row(name, clock)
            for write in row.writes.values() if row else ():
                if row is not None and not (write.op_id in row.heads or self._is_superseded(name, row, write)):
                    yield f"lost: {write}"
            if row is not None:
                open_heads = {row.shown.op_id, *(clash.remote for clash in row.conflicts)}
                yield from (
                    f"a head that is not shown, not equal and in no conflict: {head}"
                    for op_id, head in row.heads.items()
                    if op_id not in open_heads and not same(row.images[op_id], row.image)
                )

    def _is_superseded(self, name: RowName, row: Row, write: Write) -> bool:
        """Tell whether some later author had this write, or a successor of it, in the row in front of them."""
        for later in row.writes.values():
            if not write.happened_before(later):
                continue
            if later.is_resolution:
                return True
            siblings = {
                one.op_id for one in row.writes.values() if (one.device, one.base) == (later.device, later.base)
            }
            of_base = row.covered.get(later.base or PARKED, set())
            if later.base is not None and write.op_id in {later.base, *of_base, *siblings}:
                return True
            seen = self.judge(name, [one for one in row.writes.values() if one.happened_before(later)])
            if later.base is None and seen is not None and not seen.conflicts:
                return True
        return False


@dataclass(frozen=True)
class Reference:
    """A foreign key to another table's key; `targets` are the columns of that key, one for one."""

    columns: tuple[str, ...]
    parent: str
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """What stands in the tables, by key, and the conflicts as (kind, table, key, local op, remote op)."""

    tables: dict[str, dict[Hashable, Image]]
    conflicts: set[tuple[str, str, Hashable, bytes, bytes]]


@dataclass(frozen=True)
class Constraints:
    """Which shown heads stand beside each other: SPEC.md, section 4.6."""

    uniques: Mapping[str, list[tuple[str, ...]]]
    references: Mapping[str, list[Reference]]

    def seen(self, table: str, column: str, value: object) -> Hashable:  # noqa: ARG002
        """Return a value as the column's collation compares it."""
        return value  # type: ignore[return-value]

    def parent(self, reference: Reference, image: Mapping[str, object]) -> RowName | None:
        """Name the row that a reference refers to; None where it refers to none."""
        value = image[reference.columns[0]]
        return None if value is None else (reference.parent, value)  # type: ignore[return-value]

    def state(self, rows: Mapping[RowName, Row]) -> State:
        conflicts = {
            (clash.kind, *name, clash.local, clash.remote) for name, row in rows.items() for clash in row.conflicts
        }
        stands: dict[RowName, Row] = {}
        parked: dict[RowName, tuple[str, bytes]] = {}
        live = [name for name in rows if rows[name].image is not None]
        for name in sorted(live, key=lambda name: rows[name].shown.order, reverse=True):
            in_the_way = [other for other in stands if self._clash(name, rows[name], other, stands[other])]
            if in_the_way:
                last = max(in_the_way, key=lambda other: rows[other].shown.order)
                parked[name] = ("unique", rows[last].shown.op_id)
            else:
                stands[name] = rows[name]
        while hanging := {name: why for name in stands if (why := self._hangs_on(name, rows, parked, stands))}:
            parked |= {name: ("foreign_key", why) for name, why in hanging.items()}
            stands = {name: row for name, row in stands.items() if name not in hanging}
        for name in parked:  # the first of all reasons, now that all are known
            if parked[name][0] == "foreign_key" and (why := self._hangs_on(name, rows, parked, stands)):
                parked[name] = ("foreign_key", why)
        tables: dict[str, dict[Hashable, Image]] = defaultdict(dict)
        for (table, key), row in stands.items():
            tables[table][key] = row.image
        found = {(kind, *name, local, rows[name].shown.op_id) for name, (kind, local) in parked.items()}
        return State(tables, conflicts | found)

    def _clash(self, name: RowName, row: Row, other: RowName, standing: Row) -> bool:
        if name[0] != other[0] or row.image is None or standing.image is None:
            return False
        one, two = row.image, standing.image
        pairs = [
            [(self.seen(name[0], column, one[column]), self.seen(name[0], column, two[column])) for column in columns]
            for columns in self.uniques.get(name[0], [])
        ]
        return any(all(x is not None and x == y for x, y in each) for each in pairs)

    def _hangs_on(
        self,
        name: RowName,
        rows: Mapping[RowName, Row],
        parked: Mapping[RowName, object],
        stands: Mapping[RowName, Row],
    ) -> bytes | None:
        """Return what the first reference of a row that does not stand is lost to."""
        row = rows[name]
        for reference in reversed(self.references.get(name[0], [])):  # SQLite numbers the last one declared 0
            parent = self.parent(reference, row.image or {})
            if parent is None or parent in stands or parent not in rows:
                continue
            heads = rows[parent].heads.values()
            if parent in parked or any(self._is_unforeseen(row.shown, head) for head in heads):
                return rows[parent].shown.op_id
        return None

    def _is_unforeseen(self, head: Write, loss: Write) -> bool:
        if loss.happened_before(head):
            return False
        return loss.is_resolution or not head.happened_before(loss)


def same(left: Image, right: Image) -> bool:
    """Compare two images in type and value; 0.0 and -0.0 are one value to SQL (SPEC.md, section 14)."""
    if left is None or right is None:
        return left is right
    return left.keys() == right.keys() and all(type(left[c]) is type(right[c]) and left[c] == right[c] for c in left)
