from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sqlite_sync import Operation
from sqlite_sync.operation import Kind, conflict_id, dot_number, op_id, ordinal_of, seq_of

MOST_ORDINALS, MOST_SEQS = 2**22, 2**40

device_ids = st.binary(min_size=16, max_size=16)
ordinals = st.integers(0, MOST_ORDINALS - 1)
seqs = st.integers(1, MOST_SEQS - 1)


@given(ordinals, seqs)
@example(0, 1)
@example(MOST_ORDINALS - 1, MOST_SEQS - 1)
@example(MOST_ORDINALS - 1, 1)
def test_a_dot_number_gives_back_ordinal_and_seq_and_fits_into_64_bits(ordinal: int, seq: int) -> None:
    dot = dot_number(ordinal, seq)
    assert (ordinal_of(dot), seq_of(dot)) == (ordinal, seq)
    assert -(2**63) <= dot < 2**63


@given(ordinals, seqs)
def test_own_dot_numbers_are_positive_and_those_of_others_negative(ordinal: int, seq: int) -> None:
    assert (dot_number(ordinal, seq) > 0) == (ordinal == 0)
    assert dot_number(0, seq) == seq


@given(ordinals, seqs, ordinals, seqs)
def test_a_later_operation_of_one_device_has_a_greater_number_and_devices_do_not_mix(
    ordinal: int, seq: int, other: int, other_seq: int
) -> None:
    dot, other_dot = dot_number(ordinal, seq), dot_number(other, other_seq)
    assert (dot < other_dot) == ((-ordinal, seq) < (-other, other_seq))
    low, high = dot_number(ordinal, 0) + 1, dot_number(ordinal, MOST_SEQS - 1)
    assert (low <= other_dot <= high) == (ordinal == other)


@given(device_ids, seqs)
def test_an_op_id_is_the_digest_of_the_dot(device_id: bytes, seq: int) -> None:
    assert op_id(device_id, seq) == sha256(device_id + seq.to_bytes(8, "big")).digest()[:16]


def test_an_op_id_stays_what_it_was_in_the_first_version() -> None:
    assert op_id(bytes(range(16)), 1).hex() == "112ac280cda01f4cd59e4150e2be4230"
    assert conflict_id(bytes(16), bytes([255]) * 16).hex() == "39d2d960f9846b297dd474937ef82ae4"


@given(device_ids, seqs, device_ids, seqs)
def test_a_conflict_has_one_id_from_either_side_and_is_itself_no_operation(
    device_id: bytes, seq: int, other_id: bytes, other_seq: int
) -> None:
    one, other = op_id(device_id, seq), op_id(other_id, other_seq)
    pair = conflict_id(one, other)
    assert pair == conflict_id(other, one)
    assert len(pair) == 16
    assert pair not in (one, other)


@pytest.mark.parametrize(
    ("number", "word"), [(0, "insert"), (1, "update"), (2, "delete"), (3, "resolve"), (4, "resolve-delete")]
)
def test_a_kind_has_a_number_in_the_format_and_a_word_for_people(number: int, word: str) -> None:
    assert Kind(number).word == word


def test_an_operation_says_when_it_was_written() -> None:
    operation = Operation(
        op_id=op_id(bytes(16), 1),
        device_id=bytes(16),
        seq=1,
        hlc=(1_700_000_000_000 << 16) + 5,
        table_name="t",
        kind=Kind.INSERT.word,
        row_pk={"id": 1},
        new={"id": 1},
        old={},
        base_op_id=None,
    )
    assert operation.time_ms == 1_700_000_000_000
