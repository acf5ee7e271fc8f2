"""What the reports of the command line look like to people."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sqlite_sync import (
    BundleInfo,
    Conflict,
    FileNote,
    FolderResult,
    Images,
    ImportResult,
    Operation,
    Resolutions,
    Status,
    TableChange,
    TableStatus,
    Value,
)
from sqlite_sync.cli.side_by_side import ALERT, FAINT, GOOD, LABEL, PARKED, parked, side_by_side
from sqlite_sync.cli.surroundings import ALONE, Surroundings
from sqlite_sync.cli.values import (
    clipped,
    is_baseline,
    printable,
    short_conflict,
    short_device,
    shown,
)

CHANGE_WIDTH = 32  # characters of a value in the log, without --full
LINE_LIMIT = 20  # rows, conflicts or files in one list, without --full
OUTCOMES = {
    "local": "the local version stands",
    "remote": "the remote version stands",
    "values": "the versions are merged",
    "delete": "the row is deleted",
    "both": "both are kept",
}

Image = Mapping[str, Value]
Line = str | Text


@dataclass(frozen=True)
class View:
    """A terminal, the database in question, and whether ids and values are shown whole."""

    console: Console
    database: Path | None = None
    own_id: bytes | None = None
    full: bool = False

    # Words

    def device(self, device_id: bytes) -> str:
        """Name a device."""
        name = device_id.hex() if self.full else short_device(device_id)
        if device_id == self.own_id:
            return f"{name} (this device)"
        return f"{name} (baseline)" if is_baseline(device_id) else name

    def conflict_name(self, conflict: Conflict) -> str:
        """Name a conflict so that `resolve` understands it."""
        return conflict.conflict_id.hex() if self.full else short_conflict(conflict.conflict_id)

    def command(self, name: str, *rest: str) -> str:
        """Spell a command for this database, to be copied."""
        return " ".join(["sqlite-sync", name, shlex.quote(str(self.database)), *rest])

    # Parts

    def line(self, text: Line = "", style: str = "") -> None:
        """Print a line that is not broken, however long."""
        self.console.print(text if isinstance(text, Text) else Text(text, style), soft_wrap=True)

    def facts(self, facts: Iterable[tuple[str, Line]]) -> None:
        """Print labels and what they stand for, side by side."""
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style=LABEL, no_wrap=True)
        grid.add_column(overflow="fold")
        for label, what in facts:
            grid.add_row(label, what if isinstance(what, Text) else Text(what))
        self.console.print(grid)

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: int) -> None:
        """Print a table whose last columns are numbers."""
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=LABEL)
        for place, head in enumerate(heads):
            is_number = place >= len(heads) - numbers
            table.add_column(head, justify="right" if is_number else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(table)

    # Status

    def status(self, status: Status) -> None:
        """Show where a database stands."""
        own = status.own_operations
        self.line(printable(str(status.path)), LABEL)
        self.facts(
            [
                ("device", status.device_id.hex()),
                ("operations", f"{status.operations:,} known here, {own:,} of them written here"),
                *([("log", self._log_line(status.log_problem))] if status.log_problem else []),
                *_labelled("tables", self._table_lines(status)),
                *_labelled("conflicts", self._conflict_lines(status)),
                *([("held", _held(status.held_operations))] if status.held_operations else []),
                *_labelled("peers", self._peer_lines(status)),
                *_labelled("triggers", self._trigger_lines(status)),
            ]
        )

    def _table_lines(self, status: Status) -> list[Line]:
        if not status.tables:
            return [f"none yet: {self.command('enable', 'TABLE')}"]
        return [self._table_line(table) for table in status.tables]

    def _table_line(self, table: TableStatus) -> Line:
        if table.problem is None:
            return printable(table.name)
        remedy = self.command("reconcile", shlex.quote(table.name))
        return Text(printable(f"{table.name}: {table.problem}; to mend it: {remedy}"), ALERT)

    def _log_line(self, problem: str) -> Line:
        return Text(printable(f"{problem}; to mend it: {self.command('reconcile')}"), ALERT)

    def open_conflicts(self, number: int) -> Line:
        """Say how many conflicts are open, and how to see them."""
        return Text(f"{number:,} open: {self.command('conflicts')}", ALERT) if number else Text("none", GOOD)

    def _conflict_lines(self, status: Status) -> list[Line]:
        counted = [f"{each.count:,} {each.kind} in {printable(each.table_name)}" for each in status.conflicts]
        return [self.open_conflicts(status.open_conflicts), *self.capped(counted)]

    def _peer_lines(self, status: Status) -> list[Line]:
        if not status.peers:
            return ["none heard of yet"]
        return [f"{self.device(peer.device_id)}: {_lacks(peer.lacks)}" for peer in status.peers]

    def _trigger_lines(self, status: Status) -> list[Line]:
        return [
            printable(
                f"{trigger.name} on {trigger.table_name}: {'fires' if trigger.fires else 'does not fire'} on import"
                f" ({trigger.reason})"
            )
            for trigger in status.triggers
        ]

    # Operations

    def operation(self, operation: Operation) -> None:
        """Show an operation on two lines."""
        dot = f"{self._author(operation.device_id)}:{operation.seq}"
        head = Text.assemble(
            (f"{moment(operation.time_ms):<19}", FAINT),
            "  ",
            f"{dot:<13}  {operation.kind:<6}  ",
            (printable(operation.table_name), LABEL),
            f"  {self.key(operation.row_pk)}",
            f" of {self._author(operation.born_on)}" if operation.born_on else "",
        )
        self._fitted(head)
        by = f"by {printable(operation.strategy)}" if operation.strategy else ""
        if changes := "; ".join(filter(None, (by, self._changes(operation)))):
            self._fitted(Text(" " * 21 + changes))

    def _author(self, device_id: bytes) -> str:
        return device_id.hex() if self.full else short_device(device_id)

    def _fitted(self, text: Text) -> None:
        if self.full:
            self.line(text)
        else:
            self.console.print(text, no_wrap=True, overflow="ellipsis")

    def _changes(self, operation: Operation) -> str:
        if operation.kind == "update":
            pairs = operation.new.items()
            return ", ".join(
                f"{printable(n)}: {self._brief(operation.old.get(n))} → {self._brief(v)}" for n, v in pairs
            )
        if operation.kind in {"insert", "resolve"}:
            values = {name: value for name, value in operation.new.items() if name not in operation.row_pk}
            return ", ".join(f"{printable(name)}: {self._brief(value)}" for name, value in values.items())
        return ""

    def _brief(self, value: Value) -> str:
        return shown(value) if self.full else clipped(shown(value), CHANGE_WIDTH)

    def key(self, row_pk: Image) -> str:
        """Name a row by its key."""
        return ", ".join(f"{printable(name)}={self._brief_key(value)}" for name, value in row_pk.items())

    def _brief_key(self, value: Value) -> str:
        return shown(value) if self.full else clipped(shown(value), 40)

    # Bundles

    def bundle(self, info: BundleInfo, rows: Sequence[Operation]) -> None:
        """Show what is in a bundle."""
        peer = "anyone" if info.peer_device_id is None else self.device(info.peer_device_id)
        self.line(printable(str(info.path)), LABEL)
        self.facts(
            [
                ("bundle", f"{self._author(info.bundle_id)}, format {info.format_version}, {info.size_bytes:,} bytes"),
                ("from", f"device {self.device(info.source_device_id)}, {moment(info.created_at_ms)}"),
                ("for", peer if info.peer_device_id is None else f"device {peer}"),
                ("operations", f"{info.total_operations:,}" if info.total_operations else "none: an acknowledgement"),
            ]
        )
        self._bundle_devices(info)
        self._bundle_tables(info)
        self._bundle_rows(info, rows)

    def _bundle_devices(self, info: BundleInfo) -> None:
        self.line()
        rows = [
            (self.device(device), f"{low + 1:,} to {high:,}" if high > low else "none", f"{high:,}")
            for device, low, high in info.devices
        ]
        self.table(("device", "carries operations", "source holds"), rows, numbers=2)

    def _bundle_tables(self, info: BundleInfo) -> None:
        if not info.tables:
            return
        self.line()
        rows = []
        for table in info.tables:
            columns = ", ".join(f"{printable(name)}{'*' if name in table.key else ''}" for name in table.columns)
            counts = (table.inserts, table.updates, table.deletes, table.resolutions)
            rows.append((printable(table.name), columns, *(f"{number:,}" for number in counts)))
        self.table(("table", "columns (*: key)", "insert", "update", "delete", "resolve"), rows, numbers=4)

    def _bundle_rows(self, info: BundleInfo, rows: Sequence[Operation]) -> None:
        if not rows:
            return
        self.line()
        for operation in rows:
            self.operation(operation)
        if more := info.total_operations - len(rows):
            self.line(f"… and {count(more, 'more operation')}: --limit 0 shows all", FAINT)

    # Imports

    def imported(self, name: str, result: ImportResult) -> None:
        """Show what one import did, or would do."""
        source = self.device(result.source_device_id)
        self.line(
            Text.assemble((printable(name), LABEL), f": {count(result.total_operations, 'operation')} from {source}")
        )
        if result.skipped:
            self.line("  was imported before; nothing to do")
            return
        for line in self.import_lines(result):
            self.line(Text("  ").append(line))

    def import_lines(self, result: ImportResult) -> list[Line]:
        """Say in lines what an import changed."""
        lines: list[Line] = [_import_counts(result)]
        lines += [f"{printable(change.table_name)}: {_changes(result, change)}" for change in result.changes]
        rows = [f"would {row.change} {printable(row.table_name)} {self.key(row.row_pk)}" for row in result.rows]
        lines += self.capped(rows)
        lines += self._opened_conflicts(result)
        lines += [f"note: {printable(note)}" for note in result.notes]
        return lines

    def _opened_conflicts(self, result: ImportResult) -> list[Line]:
        verb = "would open" if result.dry_run else "opened"
        shows = f"{'would show' if result.dry_run else 'now shows'} the other device's version"
        goes = f"your version {'would be' if result.dry_run else 'is'} parked, and in no table"
        opened = [
            f"{verb} conflict {self.conflict_name(conflict)}: {conflict.kind} in {printable(conflict.table_name)}"
            f" {self.key(conflict.row_pk)}"
            for conflict in result.conflicts
        ]
        parked = {(one.table_name, *one.row_pk.values()) for one in result.conflicts if one.is_parked}
        overridden = [
            f"{printable(row.table_name)} {self.key(row.row_pk)}: "
            f"{goes if (row.table_name, *row.row_pk.values()) in parked else shows}"
            for row in result.overridden
        ]
        alerts = [Text(str(line), ALERT) for line in (*self.capped(opened), *self.capped(overridden))]
        return [*alerts, *self._decided(result)]

    def _decided(self, result: ImportResult | Resolutions) -> list[Line]:
        """Say in lines what a strategy decided."""
        would = "would be " if isinstance(result, ImportResult) and result.dry_run else ""
        closed = [
            Text(f"{would}closed {self._named(each.conflict)}: {OUTCOMES[each.outcome]}", GOOD)
            for each in result.resolved
        ]
        left = [f"{would}left open {self._named(each.conflict)}: {printable(each.reason)}" for each in result.deferred]
        return [*self.capped(closed), *self.capped(left)]

    def _named(self, conflict: Conflict) -> str:
        row = f"{printable(conflict.table_name)} {self.key(conflict.row_pk)}"
        return f"{self.conflict_name(conflict)} in {row}"

    def capped(self, lines: Sequence[Line]) -> list[Line]:
        """Leave out what is too much to read at once."""
        if self.full or len(lines) <= LINE_LIMIT:
            return list(lines)
        return [*lines[:LINE_LIMIT], f"… and {len(lines) - LINE_LIMIT:,} more: --full shows them"]

    def folder(self, result: FolderResult, open_conflicts: int) -> None:
        """Show what an exchange through a folder did."""
        others = [member for member in result.members if member != self.own_id]
        self.facts(
            [
                ("received", self._received(result)),
                ("sent", _sent(result, len(others))),
                ("conflicts", self.open_conflicts(open_conflicts)),
                *_labelled("details", self._folder_details(result)),
                *_labelled("waiting", self.capped(_file_notes(result.waiting))),
                *_labelled("refused", [Text(str(line), ALERT) for line in self.capped(_file_notes(result.refused))]),
                *_labelled("ignored", self.capped(_file_notes(result.ignored))),
            ]
        )

    def _received(self, result: FolderResult) -> str:
        taken = [each for each in result.imported if not each.skipped]
        news = sum(each.total_operations - each.duplicate_count for each in taken)
        if not news:
            return "nothing new"
        sources = ", ".join(self.device(each) for each in sorted({each.source_device_id for each in taken}))
        return f"{count(len(taken), 'bundle')}, {count(news, 'new operation')} from {sources}"

    def _folder_details(self, result: FolderResult) -> list[Line]:
        return [
            line
            for each in result.imported
            if each.changes or each.conflicts or each.overridden or each.notes
            for line in self.import_lines(each)[1:]
        ]

    # Conflicts

    def resolutions(self, found: Resolutions) -> None:
        """Show what a strategy decided."""
        for line in self._decided(found):
            self.line(line)
        self.line(f"{count(len(found.resolved), 'conflict')} closed, {len(found.deferred):,} left open")

    def conflict(self, conflict: Conflict, images: Images, around: Surroundings = ALONE) -> None:
        """Show the versions of a row side by side; of a parked one, what keeps it out."""
        self.console.print(
            Text.assemble(
                ("Conflict ", LABEL),
                (self.conflict_name(conflict), f"{LABEL} {ALERT}"),
                f"  {conflict.kind} in ",
                (printable(conflict.table_name), LABEL),
                f"\nrow {self.key(conflict.row_pk)}\n",
            )
        )
        authors = [
            f"{'this device' if device == self.own_id else self.device(device)}\n{moment(time_ms)}"
            for device, time_ms in (
                (conflict.local_device_id, conflict.local_time_ms),
                (conflict.remote_device_id, conflict.remote_time_ms),
            )
        ]
        if conflict.kind in PARKED:
            self.console.print(f"it is parked, kept in the log and in no table:\n{self._why(conflict, around)}\n")
            self.console.print(parked(images, authors, is_other_parked=around.parked is not None, full=self.full))
        else:
            self.console.print(side_by_side(images, authors, is_parked=around.parked is not None, full=self.full))

    def _why(self, conflict: Conflict, around: Surroundings) -> str:
        """Say what keeps a parked row out of its table."""
        itself = around.parked and f"parked itself: conflict {self.conflict_name(around.parked)}"
        if around.parent is None:
            return PARKED[conflict.kind] + (f", and is {itself}" if itself else "")
        table, key = around.parent
        gone = f"gone: {self.device(conflict.local_device_id)}, {moment(conflict.local_time_ms)}"
        return f"it refers to {printable(table)} {self.key(key)}, which is {itself or gone}"

    def conflicts_end(self, found: Iterable[Conflict]) -> None:
        """Say how to go on."""
        kinds = [conflict.kind for conflict in found]
        if not kinds:
            self.line("no open conflicts", GOOD)
            return
        self.line(f"{count(len(kinds), 'open conflict')}. To close one, choose the version that stands:")
        self.line(f"  {self.command('resolve', 'ID', 'local|remote|delete')}")
        if any(kind in PARKED for kind in kinds):
            self.line("Of a parked row, remote lets it stand, --set changes it, the others delete it.")
        self.line(f"To be asked about each: {self.command('resolve')}")


def moment(time_ms: int) -> str:
    """Write a time for people, in their time zone."""
    if time_ms <= 0:
        return "baseline"
    try:
        return f"{datetime.fromtimestamp(time_ms / 1000, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # a peer's clock, or its forger, may say anything
        return f"{time_ms} ms"


def count(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _labelled(label: str, lines: Sequence[Line]) -> list[tuple[str, Line]]:
    return [(label if place == 0 else "", line) for place, line in enumerate(lines)]


def _held(number: int) -> str:
    return f"{count(number, 'operation')} for tables or columns that are not enabled here"


def _lacks(number: int) -> str:
    return f"has not acknowledged {count(number, 'operation')}" if number else "has everything"


def _import_counts(result: ImportResult) -> str:
    new = result.total_operations - result.duplicate_count
    parts = [f"{new:,} new", f"{result.duplicate_count:,} known already"]
    if result.held_count:
        parts.append(f"{result.held_count:,} held")
    return ", ".join(parts)


def _changes(result: ImportResult, change: TableChange) -> str:
    numbers = {"insert": change.inserted, "update": change.updated, "delete": change.deleted, "park": change.parked}
    if result.dry_run:
        return "would " + (
            ", ".join(f"{verb} {count(number, 'row')}" for verb, number in numbers.items() if number) or "not change"
        )
    past = {"insert": "inserted", "update": "updated", "delete": "deleted", "park": "parked"}
    return (
        ", ".join(f"{count(number, 'row')} {past[verb]}" for verb, number in numbers.items() if number)
        or "no row changed"
    )


def _sent(result: FolderResult, others: int) -> str:
    if result.written is None:
        return "nothing new"
    return "1 bundle" if others else "1 bundle; no other device has used this folder yet"


def _file_notes(notes: Iterable[FileNote]) -> list[str]:
    """Say what was left where it is; most reasons name the file themselves."""
    return [
        printable(note.reason if note.path.name in note.reason else f"{note.path.name}: {note.reason}")
        for note in notes
    ]
