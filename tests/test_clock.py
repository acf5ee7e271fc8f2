from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sqlite_sync import VectorClock
from sqlite_sync.clock import MAX_HLC, hlc_time_ms
from strategies import clocks, device_ids

Seqs = dict[bytes, int]


@given(clocks, clocks)
def test_merge_commutes(one: Seqs, other: Seqs) -> None:
    assert VectorClock(one).merge(other) == VectorClock(other).merge(one)


@given(clocks, clocks, clocks)
def test_merge_associates(one: Seqs, other: Seqs, third: Seqs) -> None:
    a, b, c = map(VectorClock, (one, other, third))
    assert a.merge(b).merge(c) == a.merge(b.merge(c))


@given(clocks)
def test_merging_twice_is_merging_once(one: Seqs) -> None:
    clock = VectorClock(one)
    assert clock.merge(one) == clock == clock.meet(one)


@given(clocks, clocks, clocks)
def test_a_merge_is_the_least_clock_that_covers_both(one: Seqs, other: Seqs, third: Seqs) -> None:
    merged = VectorClock(one).merge(other)
    assert merged.covers(one)
    assert merged.covers(other)
    assert VectorClock(third).covers(merged) == (VectorClock(third).covers(one) and VectorClock(third).covers(other))


@given(clocks, clocks, clocks)
def test_a_meet_is_the_greatest_clock_that_both_cover(one: Seqs, other: Seqs, third: Seqs) -> None:
    met = VectorClock(one).meet(other)
    assert met == VectorClock(other).meet(one)
    assert VectorClock(one).covers(met)
    assert VectorClock(other).covers(met)
    assert met.covers(third) == (VectorClock(one).covers(third) and VectorClock(other).covers(third))


@given(clocks, clocks)
def test_covering_is_an_order(one: Seqs, other: Seqs) -> None:
    a, b = VectorClock(one), VectorClock(other)
    assert a.covers(a)
    assert (a.covers(b) and b.covers(a)) == (a == b)


@given(clocks, clocks, clocks)
def test_covering_is_transitive(one: Seqs, other: Seqs, third: Seqs) -> None:
    a = VectorClock(one)
    b = a.meet(other)
    assert a.covers(b.meet(third))


@given(clocks, device_ids)
def test_a_device_of_which_nothing_is_known_is_not_there(seqs: Seqs, device: bytes) -> None:
    clock = VectorClock({**seqs, device: 0})
    assert device not in clock
    assert len(clock) == sum(seq > 0 for other, seq in seqs.items() if other != device)
    assert clock.covers({device: 0})
    assert not clock.covers({device: 1})


@given(clocks)
def test_a_clock_is_a_mapping_and_a_value(seqs: Seqs) -> None:
    clock = VectorClock(seqs)
    known = {device: seq for device, seq in seqs.items() if seq}
    assert clock == known
    assert dict(clock) == known
    assert hash(clock) == hash(VectorClock(known))
    assert {clock, VectorClock(known)} == {clock}


def test_a_clock_names_its_devices_in_hexadecimal_and_in_order() -> None:
    clock = VectorClock({b"\xff" * 16: 2, b"\x01" * 16: 3})
    assert repr(clock) == f"VectorClock({{{'01' * 16}: 3, {'ff' * 16}: 2}})"


@given(st.integers(0, MAX_HLC >> 16), st.integers(0, 0xFFFF))
def test_an_hlc_gives_back_its_milliseconds(time_ms: int, counter: int) -> None:
    assert hlc_time_ms(time_ms << 16 | counter) == time_ms
