"""The bundle file: its layout, and the seal that is checked before SQLite parses a byte. It knows nothing of the log.

Layout (SPEC.md, section 7):

    SQLite database | 16 bytes magic | 8 bytes length of the database | 32 bytes SHA-256 of all that stands before

SQLite ignores bytes after its last page, so any tool opens the file. A reader works on a private copy of what it
verified: the file cannot change, nor a journal appear beside it, between the check and the use.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from io import BufferedIOBase
from pathlib import Path

from sqlite_sync.database import new_uuid, resource, sync_folder
from sqlite_sync.errors import BundleError
from sqlite_sync.operation import ORDINAL_SHIFT, Kind
from sqlite_sync.tables import commas

FORMAT = 1
APPLICATION_ID = 0x53594E43  # "SYNC"
_APPLICATION_ID_AT = 68  # in the header of a SQLite file
MAGIC = b"sqlite-sync 001\n"
SQLITE_MAGIC = b"SQLite format 3\x00"
_DIGEST_BYTES = 32
TRAILER_BYTES = len(MAGIC) + 8 + _DIGEST_BYTES
SUFFIX = ".bundle"
UNFINISHED = ".part"
_CHUNK_BYTES = 1 << 18  # stays in the processor's cache between reading, hashing and writing


@dataclass(frozen=True, slots=True)
class DeviceRange:
    """A device in a bundle: its operations are those with from_seq < seq <= to_seq."""

    ordinal: int
    device_id: bytes
    from_seq: int
    from_hlc: int
    to_seq: int
    to_hlc: int
    base_hlc: int


@dataclass(frozen=True, slots=True)
class TableDescription:
    """A table in a bundle: column names and places in the key, by position."""

    number: int
    name: str
    columns: tuple[tuple[str, int], ...]
    mapped: Mapping[int, int] = field(default_factory=dict)  # the table whose rows a column numbers, by position

    @property
    def is_mapped(self) -> bool:
        """Whether its rows are named by the device where they were born, and their number there."""
        return len(self.key) == 1 and self.mapped.get(self.key[0]) == self.number

    @property
    def key(self) -> tuple[int, ...]:
        """The positions of the key columns, in key order."""
        keys = [(place, position) for position, (_, place) in enumerate(self.columns) if place]
        return tuple(position for _, position in sorted(keys))


@dataclass(frozen=True, slots=True)
class Header:
    """What a bundle says of itself."""

    bundle_id: bytes
    source_device_id: bytes
    peer_device_id: bytes | None
    created_at_ms: int
    devices: tuple[DeviceRange, ...]
    tables: tuple[TableDescription, ...]
    digest: bytes = b""

    @property
    def total_operations(self) -> int:
        """How many operations it carries."""
        return sum(device.to_seq - device.from_seq for device in self.devices)


@dataclass(frozen=True, slots=True)
class Part:
    """One of the two tables that hold the operations on a described table: plain inserts, and all others.

    An insert needs no kind, no base and no old values, and most bundles are full of inserts.
    """

    name: str
    width: int
    is_inserts: bool = False
    mapped: Collection[int] = ()  # positions of columns that number rows

    @property
    def columns(self) -> list[str]:
        """Its columns, as the log calls them; behind them those that say where the numbered rows were born."""
        if self.is_inserts:
            return ["op", "hlc", *(f"v{i}" for i in range(self.width)), *(f"b{i}" for i in self.mapped)]
        values = [f"{side}{i}" for i in range(self.width) for side in "vo"]
        return ["op", "kind", "base", "hlc", *values, *(f"{side}{i}" for i in self.mapped for side in "ba")]

    @property
    def sql(self) -> str:
        """The statement that makes it."""
        _, *others = self.columns
        return f"CREATE TABLE {self.name} (op INTEGER PRIMARY KEY, {commas(others)})"

    def read(self, column: str) -> str:
        """Render one of the columns that the log has for an operation `b`."""
        if column in self.columns:
            return f"b.{column}"
        return f"{Kind.INSERT:d}" if column == "kind" else "NULL"


def range_of(part: Part, schema: str = "main") -> str:
    """Render the join of the devices `d` in a bundle with their operations `b` in one of its tables."""
    shift = f"(d.ordinal << {ORDINAL_SHIFT})"
    return (
        f"{schema}.devices AS d CROSS JOIN {schema}.{part.name} AS b "
        f"ON b.op > d.from_seq - {shift} AND b.op <= d.to_seq - {shift}"
    )


def parts(table: TableDescription) -> tuple[Part, Part]:
    """Return the two tables of operations of a described table."""
    width, mapped = len(table.columns), sorted(table.mapped)
    return (
        Part(f"inserts_{table.number}", width, is_inserts=True, mapped=mapped),
        Part(f"operations_{table.number}", width, mapped=mapped),
    )


def schema(tables: Iterable[TableDescription]) -> list[str]:
    """Render the schema of a bundle with these tables."""
    fixed = [sql for _, _, sql in fixed_schema() if sql is not None]
    return [*fixed, *(part.sql for table in tables for part in parts(table))]


@cache
def fixed_schema() -> tuple[tuple[str, str, str | None], ...]:
    """Return what stands in the schema of every bundle: type, name, text."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(resource("bundle.sql"))
        return tuple(connection.execute("SELECT type, name, sql FROM sqlite_schema"))
    finally:
        connection.close()


@contextmanager
def created(target: Path) -> Iterator[Path]:
    """Give the name of a new file in the target's folder; after the block, seal it and rename it onto the target.

    On any error the new file is removed, and what stood at the target stays.
    """
    if not target.parent.is_dir():
        msg = f"cannot write {target}: there is no folder {target.parent}"
        raise BundleError(msg)
    part = target.parent / f".{target.name}.{new_uuid().hex()}{UNFINISHED}"
    try:
        if target.exists() and not target.is_file():  # the rename would put a file in a device's place
            msg = f"cannot write {target}: what is there is no ordinary file; give the bundle another name"
            raise BundleError(msg)
        if _is_database(target):
            msg = f"cannot write {target}: a database that is no bundle is there; give the bundle another name"
            raise BundleError(msg)
        part.touch(exist_ok=False)
        yield part
        _seal(part)
        part.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        msg = f"cannot write {target}: {error.strerror or error}"
        raise BundleError(msg) from error
    finally:
        for leftover in (part, part.with_name(part.name + "-journal")):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def _is_database(path: Path) -> bool:
    """Tell whether a file is a SQLite database of somebody's, which may have no other copy."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        head = file.read(_APPLICATION_ID_AT + 4)
    return head.startswith(b"SQLite format 3\0") and head[_APPLICATION_ID_AT:] != APPLICATION_ID.to_bytes(4, "big")


def _seal(path: Path) -> None:
    """Append the trailer and bring the file to the disk."""
    length = path.stat().st_size
    head = MAGIC + length.to_bytes(8, "big")
    digest = sha256()
    with path.open("r+b") as file:
        for chunk in _chunks(file, length):
            digest.update(chunk)
        digest.update(head)
        file.write(head + digest.digest())
        file.flush()
        os.fsync(file.fileno())


def _chunks(file: BufferedIOBase, length: int) -> Iterator[memoryview]:
    """Yield the next `length` bytes of a file, in one buffer that each step fills anew."""
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    while length and (read := file.readinto(buffer[: min(length, _CHUNK_BYTES)])):
        yield buffer[:read]
        length -= read


def claimed_digest(path: Path) -> bytes:
    """Read the digest at the end of a file, if it is one; nothing is verified."""
    try:
        with path.open("rb") as file:
            file.seek(-_DIGEST_BYTES, os.SEEK_END)
            return file.read()
    except OSError:  # too short, or not readable: whoever verifies it will say so
        return b""


def copy_verified(path: Path, copy: Path | None) -> bytes:
    """Copy a bundle's database while its seal is checked, and return its digest; with None, only check.

    BundleError says what is wrong with it.
    """
    if not path.exists():
        msg = f"there is no file {path}"
        raise BundleError(msg)
    if not path.is_file():
        msg = f"{path} is not a file"
        raise BundleError(msg)
    with path.open("rb") as source, copy.open("wb") if copy else nullcontext() as target:
        size = os.fstat(source.fileno()).st_size
        if size == 0:
            msg = f"{path} is empty: the copy was interrupted; fetch it again"
            raise BundleError(msg)
        length = max(size - TRAILER_BYTES, 0)
        digest = sha256()
        start = b""
        for chunk in _chunks(source, length):
            start = start or bytes(chunk[: len(SQLITE_MAGIC)])
            digest.update(chunk)
            if target:
                target.write(chunk)
        trailer = source.read(TRAILER_BYTES + 1)
    head = MAGIC + length.to_bytes(8, "big")
    digest.update(head)
    if trailer == head + digest.digest() and start == SQLITE_MAGIC:
        return digest.digest()
    raise BundleError(_diagnosis(path, start, trailer, length))


def _diagnosis(path: Path, start: bytes, trailer: bytes, length: int) -> str:
    """Say what is wrong with a file that does not verify."""
    if not trailer.startswith(MAGIC):
        if trailer.startswith(MAGIC[:12]):
            return f"{path} is a bundle of another format: use a newer sqlite-sync-core to read it"
        if start == SQLITE_MAGIC:
            return (
                f"{path} is no whole bundle: it does not end as one does; it was cut, extended, or is "
                "some other SQLite file"
            )
        return f"{path} is not a bundle"
    if trailer[len(MAGIC) : len(MAGIC) + 8] != length.to_bytes(8, "big"):
        return f"{path} has another length than it had when it was written: fetch it again"
    return f"{path} is damaged (its SHA-256 does not match): fetch it again"
