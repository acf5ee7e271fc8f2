"""A row as canonical bytes, exact for all five storage classes of SQLite.

Canonical bytes are what digests are made of (SPEC.md, section 3): one value has one encoding, on every device.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgpack


class RawText(bytes):
    """A TEXT value whose bytes are not valid UTF-8, which `str` cannot hold."""

    __slots__ = ()


Value = int | float | str | bytes | RawText | None
Row = tuple[Value, ...]

_UNHELD = re.compile("[\ud800-\udfff\ufffe\uffff]")  # SQLite writes U+FFFD for these into a file in UTF-16
_RAW_TEXT = 1  # the MessagePack ext type of RawText


def decode_text(stored: bytes) -> str | RawText:
    """Decode a TEXT value; a connection's `text_factory` that never fails."""
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return RawText(stored)


def decode_converted(stored: bytes) -> str:
    """Decode a TEXT value that SQLite converted from UTF-16, as it stands there once SQLite has written it again."""
    try:
        text = stored.decode()
    except UnicodeDecodeError:  # half a surrogate pair
        return _UNHELD.sub("\ufffd", stored.decode(errors="surrogatepass"))
    return _UNHELD.sub("\ufffd", text) if b"\xef\xbf" in stored else text  # with which U+FFFE and U+FFFF begin


def decode_held(stored: bytes) -> str:
    """Decode a TEXT value for a file in UTF-16; UnicodeError where SQLite would write another one there."""
    if b"\xef\xbf" in stored and (b"\xef\xbf\xbe" in stored or b"\xef\xbf\xbf" in stored):
        msg = f"{stored!r} contains U+FFFE or U+FFFF"
        raise UnicodeError(msg)
    return stored.decode()


def pack(values: Iterable[Value]) -> bytes:
    """Encode a row as canonical bytes."""
    return pack_tree([_outward(value) for value in values])


def unpack(packed: bytes) -> Row:
    """Decode what `pack` encoded."""
    values: list[Value] = msgpack.unpackb(packed, **_UNPACKING)
    return tuple(values)


def pack_image(image: Mapping[int, Value]) -> bytes:
    """Encode a row as column position -> value."""
    ordered = image if [*image] == sorted(image) else dict(sorted(image.items()))  # nearly always it is
    if RawText in map(type, image.values()):
        return pack_tree({position: _outward(value) for position, value in ordered.items()})
    return pack_tree(ordered)


def unpack_image(packed: bytes) -> dict[int, Value]:
    """Decode what `pack_image` encoded."""
    image: dict[int, Value] = msgpack.unpackb(packed, **_UNPACKING)
    return image


def same(left: Value, right: Value) -> bool:
    """Tell whether two values are equal in type and value, as 1 and 1.0 are not."""
    return type(left) is type(right) and left == right


def _outward(value: Value) -> Value | msgpack.ExtType:
    return msgpack.ExtType(_RAW_TEXT, bytes(value)) if isinstance(value, RawText) else value


def _inward(code: int, stored: bytes) -> RawText | msgpack.ExtType:
    return RawText(stored) if code == _RAW_TEXT else msgpack.ExtType(code, stored)


def pack_tree(tree: object) -> bytes:
    """Encode nested lists, maps and values."""
    packed: bytes = msgpack.packb(tree, use_bin_type=True)
    return packed


_UNPACKING = {"raw": False, "strict_map_key": False, "ext_hook": _inward}
