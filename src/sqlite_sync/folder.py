"""Meet through a shared folder: a USB stick, a network share, a synchronised directory (SPEC.md, section 11).

Each device writes only into its own subfolder, so no two ever write the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlite_sync import baselines, bundle, bundle_reader, devices, exporter, importer, log, peers
from sqlite_sync.bundle import Header
from sqlite_sync.clock import VectorClock
from sqlite_sync.database import Database, new_uuid
from sqlite_sync.errors import BundleError, ConstraintError, DeviceError, GapError, SchemaError
from sqlite_sync.exporter import Order
from sqlite_sync.importer import ImportResult, Request
from sqlite_sync.operation import ID_BYTES

_MOST_SENT_AGAIN = 10_000  # operations


@dataclass(frozen=True, slots=True)
class FileNote:
    """A file of the folder, and why it was not imported."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class FolderResult:
    """What one visit of a folder did.

    `waiting` are bundles whose predecessors are not there yet, `refused` those that cannot be imported, `ignored`
    what is unfinished or foreign; all of these were left where they are.
    """

    imported: tuple[ImportResult, ...]
    written: Path | None
    removed: tuple[Path, ...]
    waiting: tuple[FileNote, ...]
    refused: tuple[FileNote, ...]
    ignored: tuple[FileNote, ...]
    members: tuple[bytes, ...]


@dataclass(slots=True)
class _Visit:
    """What is seen and done during one visit."""

    folder: Path
    own: bytes
    headers: dict[Path, Header] = field(default_factory=dict)
    imported: list[ImportResult] = field(default_factory=list)
    waiting: list[FileNote] = field(default_factory=list)
    refused: list[FileNote] = field(default_factory=list)
    ignored: list[FileNote] = field(default_factory=list)
    members: set[bytes] = field(default_factory=set)
    rivals: Sequence[set[bytes]] = ()


def visit(database: Database, folder: Path, request: Request, settle: Callable[[], None]) -> FolderResult:
    """Import what others wrote, write what some member lacks, remove what all have."""
    if not folder.is_dir():
        missing = f"there is no folder {folder}: create it, or plug the stick in"
        msg = f"{folder} is not a folder: name the one that the devices share" if folder.exists() else missing
        raise BundleError(msg)
    database.require_no_transaction()
    own = database.device_id()
    seen = _Visit(folder, own, members={own})
    _look(seen)
    _import_all(database, seen, request)
    settle()
    seen.rivals = baselines.rivals(database)
    written = _write(database, seen, request.now_ms)
    removed = _clean(database, seen, written)
    return FolderResult(
        tuple(seen.imported), written, tuple(removed), tuple(seen.waiting), tuple(seen.refused), tuple(seen.ignored),
        tuple(sorted(seen.members)),
    )  # fmt: skip


def _look(seen: _Visit) -> None:
    """Read the header of every bundle in the folder."""
    for entry in sorted(seen.folder.iterdir()):
        device_id = _device_id(entry)
        if device_id is None:
            seen.ignored.append(FileNote(entry, "not a device's subfolder"))
            continue
        seen.members.add(device_id)
        for path in sorted(entry.iterdir()):
            if path.name.endswith(bundle.UNFINISHED):
                seen.ignored.append(FileNote(path, "unfinished"))
            elif not path.name.endswith(bundle.SUFFIX) or not path.is_file():
                seen.ignored.append(FileNote(path, "not a bundle"))
            else:
                _look_into(seen, path, device_id)


def _look_into(seen: _Visit, path: Path, device_id: bytes) -> None:
    try:
        header = bundle_reader.read_header(path)
    except BundleError as error:
        seen.refused.append(FileNote(path, str(error)))
        return
    if header.source_device_id == device_id:
        seen.headers[path] = header
    else:
        seen.refused.append(
            FileNote(path, f"it was written by {header.source_device_id.hex()}, which may not write here")
        )


def _import_all(database: Database, seen: _Visit, request: Request) -> None:
    """Import in rounds, since a bundle may close the gap before another."""
    _require_own(database, seen)
    ahead = [
        path
        for path, header in sorted(seen.headers.items(), key=lambda one: one[1].bundle_id)
        if header.source_device_id != seen.own
    ]
    while ahead:
        gaps: list[FileNote] = []
        for path in ahead:
            if peers.was_imported(database, seen.headers[path].bundle_id):
                continue
            try:
                seen.imported.append(importer.run(database, path, request))
            except GapError as error:
                gaps.append(FileNote(path, str(error)))
            except (BundleError, ConstraintError, DeviceError, SchemaError) as error:
                seen.refused.append(FileNote(path, str(error)))
        if len(gaps) == len(ahead):
            seen.waiting.extend(gaps)
            return
        ahead = [note.path for note in gaps]


def _require_own(database: Database, seen: _Visit) -> None:
    """Look at the own subfolder for the hand of a copy of this file."""
    for path, header in seen.headers.items():
        if header.source_device_id == seen.own:
            with suppress(BundleError):  # it says that the bundle is our own, as it should be
                devices.require_peer(database, path, header)


def _write(database: Database, seen: _Visit, now_ms: int) -> Path | None:
    """Write what some member cannot reach; or an acknowledgement, where the folder does not yet say what is held."""
    clock = log.vector_clock(database)
    announced = VectorClock()
    for header in seen.headers.values():
        if header.source_device_id == seen.own:
            announced = announced.merge(_to(header))
    others = [_acknowledged(database, member) for member in seen.members - {seen.own}]
    others = others or [VectorClock()]  # alone in the folder: lay everything out for whoever comes first
    usable = [header for header in seen.headers.values() if not _is_unrelated(header, seen.rivals)]
    since = _least(clock, [_reach(known, usable) for known in others])
    if since == clock and announced == clock and any(h.source_device_id == seen.own for h in seen.headers.values()):
        return None
    if since != clock:
        since = _again(clock, since, others, [header for header in usable if header.source_device_id != seen.own])
    target = seen.folder / seen.own.hex() / f"{new_uuid().hex()}{bundle.SUFFIX}"
    try:
        target.parent.mkdir(exist_ok=True)
    except OSError as error:
        msg = f"cannot write {target.parent}: {error.strerror or error}; make the folder writable"
        raise BundleError(msg) from error
    order = Order(None, log.by_ordinal(database, since), acknowledge=True)
    written = exporter.write(database, order, target, now_ms)
    if written:
        seen.headers[written] = bundle_reader.read_header(written)
    return written


def _acknowledged(database: Database, member: bytes) -> VectorClock:
    ids = log.device_ids(database)
    return VectorClock({ids[ordinal]: seq for ordinal, seq in peers.holds(database, member).items()})


def _is_unrelated(header: Header, rivals: Sequence[set[bytes]]) -> bool:
    """Tell whether others refuse a bundle, which brings one of a table's baselines, and its author lacked another."""
    brought = {device.device_id for device in header.devices if device.from_seq == 0 < device.to_seq}
    reached = {device.device_id for device in header.devices if device.to_seq}
    return any(each & brought and each - reached for each in rivals)


def _again(clock: VectorClock, since: VectorClock, others: list[VectorClock], foreign: Sequence[Header]) -> VectorClock:
    """Start at what is acknowledged instead of at the own last bundle, if that is not too much.

    Somebody may be unable to take that bundle without what is written now: it clashed with a row of theirs.
    """
    earlier = _least(clock, [_reach(known, foreign) for known in others])
    return earlier if sum(since.values()) - sum(earlier.values()) <= _MOST_SENT_AGAIN else since


def _least(clock: VectorClock, others: list[VectorClock]) -> VectorClock:
    for known in others:
        clock = clock.meet(known)
    return clock


def _reach(known: VectorClock, headers: Iterable[Header]) -> VectorClock:
    """Compute what a member that holds `known` will hold once it has imported everything that it can of these."""
    ahead = list(headers)
    while usable := [header for header in ahead if known.covers(_from(header))]:
        for header in usable:
            known = known.merge(_to(header))
        ahead = [header for header in ahead if header not in usable]
    return known


def _clean(database: Database, seen: _Visit, written: Path | None) -> list[Path]:
    """Remove own bundles that all others acknowledged or the new one contains; the newest stays: it announces."""
    own = sorted(
        (path for path, header in seen.headers.items() if header.source_device_id == seen.own),
        key=lambda p: seen.headers[p].bundle_id,
    )
    newest = written or (own[-1] if own else None)
    acknowledged = [_acknowledged(database, member) for member in seen.members - {seen.own}]
    removed = []
    for path in own:
        header = seen.headers[path]
        carries = _carried(header)
        is_done = bool(acknowledged) and all(clock.covers(carries) for clock in acknowledged)
        is_replaced = written is not None and (
            _is_within(header, seen.headers[written]) or _is_unrelated(header, seen.rivals)
        )
        if path != newest and (is_done or not carries or is_replaced):
            with suppress(OSError):  # somebody is reading it just now: another time
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def _is_within(header: Header, newer: Header) -> bool:
    """Tell whether a newer bundle has all that this one has, for everyone who could take this one."""
    return VectorClock(_from(header)).covers(_from(newer)) and VectorClock(_to(newer)).covers(_to(header))


def _carried(header: Header) -> dict[bytes, int]:
    """Return up to where a bundle carries operations; empty for an acknowledgement."""
    return {device.device_id: device.to_seq for device in header.devices if device.to_seq > device.from_seq}


def _from(header: Header) -> Mapping[bytes, int]:
    return {device.device_id: device.from_seq for device in header.devices}


def _to(header: Header) -> Mapping[bytes, int]:
    return {device.device_id: device.to_seq for device in header.devices}


def _device_id(entry: Path) -> bytes | None:
    try:
        device_id = bytes.fromhex(entry.name)
    except ValueError:
        return None
    return device_id if len(device_id) == ID_BYTES and entry.name == device_id.hex() and entry.is_dir() else None
