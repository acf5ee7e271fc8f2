"""Properties of the pure ground: clocks, canonical bytes, identities."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sqlite_sync import RawText, VectorClock
from sqlite_sync.codec import pack, same, unpack
from sqlite_sync.operation import conflict_id, dot_number, op_id, ordinal_of, seq_of

device_ids = st.binary(min_size=16, max_size=16)
clocks = st.dictionaries(st.sampled_from([bytes([i]) * 16 for i in range(4)]), st.integers(0, 5)).map(VectorClock)
values = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.just(RawText(b"\xff"))
)


@given(clocks, clocks, clocks)
def test_merge_commutes_associates_and_covers_both(a: VectorClock, b: VectorClock, c: VectorClock) -> None:
    assert a.merge(b) == b.merge(a)
    assert a.merge(b).merge(c) == a.merge(b.merge(c))
    assert a.merge(b).covers(a)
    assert a.covers(a.meet(b))


@given(st.lists(values))
def test_what_is_packed_comes_back_with_its_types(row: list[object]) -> None:
    assert all(map(same, unpack(pack(row)), row))


@given(st.integers(0, 2**22 - 1), st.integers(1, 2**40 - 1))
def test_a_dot_number_holds_both_its_parts(ordinal: int, seq: int) -> None:
    dot = dot_number(ordinal, seq)
    assert (ordinal_of(dot), seq_of(dot)) == (ordinal, seq)
    assert (dot > 0) == (ordinal == 0)


@given(device_ids, st.integers(1, 2**40))
def test_ids_have_16_bytes_and_a_conflict_has_no_sides(device_id: bytes, seq: int) -> None:
    one, other = op_id(device_id, seq), op_id(device_id, seq + 1)
    assert len(one) == len(conflict_id(one, other)) == 16
    assert one != other
    assert conflict_id(one, other) == conflict_id(other, one)
