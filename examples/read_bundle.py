"""Read a bundle with nothing but SQLite and SHA-256: SPEC.md, sections 3, 5 and 7, in short.

    python examples/read_bundle.py FILE

It verifies the trailer and prints every operation in the total order. A reader that takes them in must also refuse
whatever section 7 says.
"""

import hashlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

KINDS = ("insert", "update", "delete", "resolution", "resolution to a deleted row")

Operation = tuple[int, bytes, int, str, str, dict[str, object]]  # HLC, device id, seq, kind, table, values


def database(content: bytes) -> sqlite3.Connection:
    """Verify a bundle's trailer, and open the SQLite database before it, in memory."""
    body, trailer = content[:-56], content[-56:]
    is_whole = trailer[:16] == b"sqlite-sync 001\n" and int.from_bytes(trailer[16:24], "big") == len(body)
    if not is_whole or hashlib.sha256(content[:-32]).digest() != trailer[24:]:
        sys.exit("this is no bundle of format 1, or it is damaged")
    connection = sqlite3.connect(":memory:")
    connection.text_factory = lambda text: text.decode(errors="backslashreplace")
    connection.deserialize(body)
    return connection


def operations(db: sqlite3.Connection) -> Iterator[Operation]:
    """Yield every operation, one table after the other."""
    known = db.execute("SELECT ordinal, device_id, base_hlc FROM devices")
    devices = {ordinal: (device_id, base_hlc) for ordinal, device_id, base_hlc in known}
    for number, table in db.execute("SELECT table_no, name FROM tables").fetchall():
        described = "SELECT name, key_place, mapped FROM columns WHERE table_no = ? ORDER BY position"
        columns = db.execute(described, (number,)).fetchall()
        mapped = [i for i, (_, _, numbered) in enumerate(columns) if numbered is not None]
        for op, hlc, *values_and_births in db.execute(f"SELECT * FROM inserts_{number}"):
            news, born = values_and_births[: len(columns)], values_and_births[len(columns) :]
            _name(devices, news, dict(zip(mapped, born, strict=True)))
            values = {name: new for (name, _, _), new in zip(columns, news, strict=True)}
            yield *_author(devices, op, hlc), KINDS[0], table, values
        for op, kind, _base, hlc, *values_and_births in db.execute(f"SELECT * FROM operations_{number}"):
            pairs, born = values_and_births[: 2 * len(columns)], values_and_births[2 * len(columns) :]
            news, olds = pairs[::2], pairs[1::2]
            _name(devices, news, dict(zip(mapped, born[::2], strict=True)))
            _name(devices, olds, dict(zip(mapped, born[1::2], strict=True)))
            values = {
                name: new
                for (name, place, _), new, old in zip(columns, news, olds, strict=True)
                if kind != 1 or place or (type(new), new) != (type(old), old)  # of an update: the key, and what changed
            }
            yield *_author(devices, op, hlc), KINDS[kind], table, values


def _name(devices: dict[int, tuple[bytes, int]], values: list[object], born: dict[int, int | None]) -> None:
    """Write a number of a mapped table as its birth: the number, and the device that counted it."""
    for i, ordinal in born.items():
        if ordinal is not None:
            values[i] = f"{values[i]}@{devices[ordinal][0].hex()}"


def _author(devices: dict[int, tuple[bytes, int]], op: int, hlc: int) -> tuple[int, bytes, int]:
    ordinal = -((op - 1) >> 40)  # op is seq - ordinal * 2^40
    device_id, base_hlc = devices[ordinal]
    return base_hlc + hlc, device_id, op + (ordinal << 40)


if __name__ == "__main__":
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and the file
        sys.exit(__doc__)
    for clock, device, seq, kind, table, values in sorted(operations(database(Path(sys.argv[1]).read_bytes()))):
        print(f"{clock >> 16} ms  {device.hex()}:{seq}  {kind} in {table}: {values}")
