from __future__ import annotations

import math
import sqlite3
import struct
from contextlib import closing

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sqlite_sync import RawText, Value
from sqlite_sync.codec import Row, decode_text, pack, pack_image, pack_tree, same, unpack, unpack_image
from strategies import TRICKY_BLOBS, TRICKY_FLOATS, TRICKY_INTS, TRICKY_RAW_TEXTS, TRICKY_TEXTS, rows, values

TRICKY = [None, *TRICKY_INTS, *TRICKY_FLOATS, *TRICKY_TEXTS, *TRICKY_BLOBS, *TRICKY_RAW_TEXTS]


def to_the_bit(value: Value) -> tuple[type, Value]:
    """Tell values apart that differ in type or in any bit, as 0.0 and -0.0 do."""
    return type(value), struct.pack(">d", value) if isinstance(value, float) else value


@given(rows)
@example(tuple(TRICKY))
def test_what_is_packed_comes_back_to_the_bit(row: Row) -> None:
    assert list(map(to_the_bit, unpack(pack(row)))) == list(map(to_the_bit, row))


@given(values, values)
def test_two_values_have_the_same_bytes_iff_they_are_the_same_to_the_bit(one: Value, other: Value) -> None:
    assert (pack([one]) == pack([other])) == (to_the_bit(one) == to_the_bit(other))


def test_no_two_tricky_values_have_the_same_bytes() -> None:
    assert len({pack([value]) for value in TRICKY}) == len(TRICKY)


@given(rows, rows)
def test_rows_with_other_borders_have_other_bytes(one: Row, other: Row) -> None:
    assert (pack(one) == pack(other)) == (list(map(to_the_bit, one)) == list(map(to_the_bit, other)))


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, "c0"),
        (0, "00"),
        (127, "7f"),
        (128, "cc80"),
        (256, "cd0100"),
        (65536, "ce00010000"),
        (2**32, "cf0000000100000000"),
        (2**63 - 1, "cf7fffffffffffffff"),
        (-1, "ff"),
        (-32, "e0"),
        (-33, "d0df"),
        (-129, "d1ff7f"),
        (-32769, "d2ffff7fff"),
        (-(2**63), "d38000000000000000"),
        (1.0, "cb3ff0000000000000"),
        (-0.0, "cb8000000000000000"),
        (math.inf, "cb7ff0000000000000"),
        ("", "a0"),
        ("a\0b", "a3610062"),
        ("é", "a2c3a9"),
        ("x" * 32, "d920" + "78" * 32),
        (b"", "c400"),
        (b"\0\xff", "c40200ff"),
        (RawText(b"\xff"), "d401ff"),
        (RawText(b"\xff\0\xff"), "c70301ff00ff"),
    ],
)
def test_canonical_bytes_are_these(value: Value, encoded: str) -> None:
    assert pack([value]).hex() == "91" + encoded


@given(rows)
def test_canonical_bytes_are_messagepack_that_anybody_reads(row: Row) -> None:
    plain = [msgpack.ExtType(1, bytes(value)) if isinstance(value, RawText) else value for value in row]
    assert list(map(to_the_bit, msgpack.unpackb(pack(row)))) == list(map(to_the_bit, plain))


@given(st.dictionaries(st.integers(0, 900), values))
def test_an_image_comes_back_to_the_bit(image: dict[int, Value]) -> None:
    found = unpack_image(pack_image(image))
    assert {position: to_the_bit(value) for position, value in found.items()} == {
        position: to_the_bit(value) for position, value in image.items()
    }


@given(st.dictionaries(st.integers(0, 900), values))
def test_an_image_has_the_same_bytes_in_whatever_order_it_was_made(image: dict[int, Value]) -> None:
    assert pack_image(dict(reversed(image.items()))) == pack_image(image)


def test_a_number_that_sqlite_cannot_hold_is_no_value() -> None:
    with pytest.raises(OverflowError):
        pack_tree([2**64])


@given(values, values)
@example(1, 1.0)
@example("a", b"a")
@example(b"\xff", RawText(b"\xff"))
def test_same_is_equal_in_type_and_value(one: Value, other: Value) -> None:
    assert same(one, other) == same(other, one) == (type(one) is type(other) and one == other)
    assert same(one, one)


@given(values)
def test_same_agrees_with_what_sqlite_sees(value: Value) -> None:
    """Two values are the same iff SQL finds no difference between them and their types."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for other in TRICKY:
            marks = ["CAST(? AS TEXT)" if isinstance(one, RawText) else "?" for one in (value, other)]
            plain = [bytes(one) if isinstance(one, RawText) else one for one in (value, other)]
            (found,) = connection.execute(
                f"SELECT a IS b AND typeof(a) = typeof(b) FROM (SELECT {marks[0]} AS a, {marks[1]} AS b)", plain
            ).fetchone()
            assert same(value, other) == bool(found)


@given(st.binary(max_size=20))
def test_a_text_of_any_bytes_can_be_read(stored: bytes) -> None:
    found = decode_text(stored)
    assert (found if isinstance(found, RawText) else found.encode()) == stored
    assert isinstance(found, RawText) == (stored.decode(errors="replace").encode() != stored)
