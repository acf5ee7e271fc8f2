"""Values and ids as text: for people, for machines, and back from what people type.

What people see is what they may type: text stands as it is where it can be told from a number, NULL and a BLOB, and in
single quotes where it cannot.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import re
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from sqlite_sync import Operation, RawText, Value

SHORT_ID = 8  # hexadecimal digits
MAX_DIGITS = 20  # of an integer that may fit into 64 bits, with its sign
BASELINE_VERSION = 8  # the UUID version of a baseline device
_INTEGER = re.compile(r"[+-]?\d+")
_REAL = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")
_INFINITY = re.compile(r"[+-]?Inf")
_BLOB = re.compile(r"[xX]'((?:[0-9a-fA-F]{2})*)'")
_TEXT = re.compile(r"'((?:[^']|'')*)'")
_JOINERS = "\u200c\u200d"  # not printable to Python, but part of words in Persian and of many emoji


def is_baseline(device_id: bytes) -> bool:
    """Tell whether this is the device that the rows of the first `enable` count as."""
    return uuid.UUID(bytes=device_id).version == BASELINE_VERSION


def short_device(device_id: bytes) -> str:
    """Name a device or a bundle by the end of its id: UUIDv7s of one day begin alike."""
    return device_id.hex()[-SHORT_ID:]


def short_conflict(conflict_id: bytes) -> str:
    """Name a conflict by the beginning of its id, which is a digest."""
    return conflict_id.hex()[:SHORT_ID]


def printable(text: str, keep: str = "") -> str:
    """Escape what a terminal would obey instead of print, so that a value cannot repaint the screen."""
    return "".join(
        sign if sign.isprintable() or sign in keep or sign in _JOINERS else sign.encode("unicode_escape").decode()
        for sign in text
    )


def shown(value: Value, keep: str = "") -> str:
    """Write a value for people, on one line unless `keep` has the line feed."""
    match value:
        case None:
            return "NULL"
        case str():
            plain = value != "" and value == value.strip() and parsed(value) == value
            return printable(value if plain else _quoted(value), keep)
        case RawText():  # TEXT that is not valid UTF-8
            return printable(_quoted(value.decode(errors="backslashreplace")), keep)
        case bytes():
            return f"x'{value.hex()}'"
        case float() if math.isinf(value):
            return "Inf" if value > 0 else "-Inf"
        case _:
            return repr(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def parsed(text: str) -> Value:
    """Read a value as people type it: NULL, a number, x'00ff', 'quoted text', and anything else as text."""
    if text == "NULL":
        return None
    if _INTEGER.fullmatch(text):
        fits = len(text) <= MAX_DIGITS and -(2**63) <= int(text) < 2**63
        return int(text) if fits else float(text)
    if _REAL.fullmatch(text) or _INFINITY.fullmatch(text):
        return float(text)
    if blob := _BLOB.fullmatch(text):
        return bytes.fromhex(blob[1])
    if quoted := _TEXT.fullmatch(text):
        return quoted[1].replace("''", "'")
    return text


def typed(text: str, declared_type: str) -> Value:
    """Read a value that is meant for a column of this type, as the column itself would store it."""
    value = parsed(text)
    if value is None or isinstance(value, bytes):
        return value
    stored = _stored(value, declared_type)
    # A text column that is given 007 means the text 007, not 7.
    return text if isinstance(stored, str) and not isinstance(value, str) else stored


def _stored(value: Value, declared_type: str) -> Value:
    """Let SQLite apply the type affinity of a column."""
    scratch = sqlite3.connect(":memory:")
    try:
        name = declared_type.replace('"', '""')
        scratch.execute(f'CREATE TABLE scratch (value "{name}")' if name else "CREATE TABLE scratch (value)")
        scratch.execute("INSERT INTO scratch (value) VALUES (?)", (value,))
        stored: Value = scratch.execute("SELECT value FROM scratch").fetchone()[0]
    finally:
        scratch.close()
    return stored


def clipped(text: str, width: int) -> str:
    """Cut a text to so many characters, and say that it was cut."""
    return text if len(text) <= width else text[: width - 1] + "…"


def excerpts(texts: Sequence[str], compared: Sequence[str], width: int) -> list[str]:
    """Cut those texts that are long to the part where the compared ones begin to differ."""
    start = max(0, _alike(compared) - width // 4)
    return [_window(text, min(start, len(text) - width), width) if len(text) > width else text for text in texts]


def _alike(texts: Sequence[str]) -> int:
    """Count the characters with which all texts begin."""
    pairs = enumerate(zip(*texts, strict=False))
    return next((place for place, signs in pairs if len(set(signs)) > 1), min(map(len, texts), default=0))


def _window(text: str, start: int, width: int) -> str:
    front = "…" if start else ""
    back = "…" if len(text) > start + width else ""
    return front + text[start : start + width] + back


def machine(thing: object) -> object:
    """Turn what the library returns into what JSON can say.

    Bytes that are an id become hexadecimal digits. Mappings with text keys are rows, and their values are the user's.
    """
    match thing:
        case bytes():
            return thing.hex()
        case Path():
            return str(thing)
        case Mapping():
            return {_name(key): _machine_value(value) for key, value in thing.items()}
        case _ if _field_names(thing):  # before tuples: a named one is an object
            return fields(thing)
        case list() | tuple():
            return [machine(item) for item in thing]
        case _:
            return thing


def fields(thing: object) -> dict[str, object]:
    """Turn a dataclass or a named tuple of the library into the fields of a JSON object."""
    names = _field_names(thing)
    if not names:
        raise TypeError(thing)
    return {name: machine(getattr(thing, name)) for name in names}


def _field_names(thing: object) -> tuple[str, ...]:
    if dataclasses.is_dataclass(thing):
        return tuple(field.name for field in dataclasses.fields(thing))
    return getattr(thing, "_fields", ()) if isinstance(thing, tuple) else ()


def operation_fields(operation: Operation) -> dict[str, object]:
    """Turn an operation into a JSON object that also says when it was written."""
    return {**fields(operation), "time_ms": operation.time_ms}


def _name(key: object) -> str:
    return key.hex() if isinstance(key, bytes) else str(key)


def _machine_value(value: object) -> object:
    match value:
        case bytes():
            form = "text_base64" if isinstance(value, RawText) else "base64"
            return {form: base64.b64encode(value).decode("ascii")}
        case float() if not math.isfinite(value):
            return {"real": shown(value)}
        case _:
            return value
