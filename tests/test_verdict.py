from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from model import Row, Write, same
from sqlite_sync.codec import Value
from sqlite_sync.operation import Kind, dot_number
from sqlite_sync.verdict import (
    UNTOLD,
    Image,
    MissingParentError,
    RowOperation,
    Verdict,
    after,
    before,
    changed_columns,
    conflict_kind,
    is_chain,
    judge,
    same_image,
    steps,
)
from strategies import ROW_COLUMNS, histories, values

KEY = (0,)
KINDS = {kind.word: kind for kind in Kind}


class History:
    """A history of one row as the verdict takes it."""

    def __init__(self, writes: Sequence[Write]) -> None:
        self.writes = writes
        self.row = Row(writes)
        ordinals = {device: number for number, device in enumerate(sorted({write.device for write in writes}))}
        self.dots = {write.op_id: dot_number(ordinals[write.device], write.seq) for write in writes}
        self.by_dot = {self.dots[write.op_id]: write for write in writes}
        self.operations = [self._operation(write) for write in writes]

    def _operation(self, write: Write) -> RowOperation:
        kind = KINDS[write.kind]
        new, old = dict(write.new), dict[str, object]()
        parent = self.row._parent(write)
        if parent is not None and kind == Kind.UPDATE:
            image = self.row.images[parent] or {}
            old = {name: image[name] for name in new}
        if kind == Kind.DELETE and parent is not None:
            new = dict(self.row.images[parent] or {})
        return RowOperation(
            dot=self.dots[write.op_id],
            kind=kind,
            base=None if write.base is None else self.dots[write.base],
            order=write.order,
            values=(values := tuple({"k": "k", **new}.get(name) for name in ROW_COLUMNS)),
            old=(olds := tuple(old.get(name) for name in ROW_COLUMNS)),
            changed=changed_columns(values, olds, KEY) if kind == Kind.UPDATE else (),
        )

    def knows(self, later: RowOperation, earlier: RowOperation) -> bool:
        return self.by_dot[earlier.dot].happened_before(self.by_dot[later.dot])

    def judge(self) -> Verdict:
        return judge(None, self.operations, self.knows)


def updated(image: Image, changes: dict[int, object]) -> RowOperation:
    """Make the update that changes these columns of a row."""
    assert image is not None
    new = tuple(changes.get(i, image[i] if i in KEY else None) for i in range(len(image)))
    old = tuple(image[i] if i in changes else None for i in range(len(image)))
    return update_of(new, old)


def update_of(new: Sequence[Value], old: Sequence[Value]) -> RowOperation:
    changed = changed_columns(tuple(new), tuple(old), KEY)
    return RowOperation(1, Kind.UPDATE, None, (1, b"", 1), tuple(new), tuple(old), changed)


images = st.tuples(values, values, values)


@given(histories())
def test_a_row_is_judged_as_the_specification_says(writes: list[Write]) -> None:
    history = History(writes)
    row, verdict = history.row, history.judge()
    assert verdict.shown.dot == history.dots[row.shown.op_id]
    assert {verdict.shown.dot, *(head.dot for head in verdict.others)} == {history.dots[op_id] for op_id in row.heads}
    for write in writes:
        image = verdict.images[history.dots[write.op_id]]
        assert same(None if image is None else dict(zip(ROW_COLUMNS, image, strict=True)), row.images[write.op_id])
    rivals = {
        history.by_dot[other.dot].op_id: conflict_kind(verdict.shown, other, verdict.images)
        for other in verdict.conflicting()
    }
    assert rivals == {clash.remote: clash.kind for clash in row.conflicts}


@given(histories())
def test_a_head_covers_what_the_specification_says(writes: list[Write]) -> None:
    history = History(writes)
    verdict = history.judge()
    covered = {
        history.dots[op_id]: {history.dots[one] for one in known} for op_id, known in history.row.covered.items()
    }
    assert {dot: set(known) for dot, known in verdict.covered.items()} == {
        head: covered[head] for head in verdict.covered
    }
    heads = [verdict.shown, *verdict.others]
    if len(heads) > 1:
        common = set.intersection(*(covered[head.dot] for head in heads))
        last = max(common, key=lambda dot: history.by_dot[dot].order, default=None)
        assert verdict.base_of(heads) == (None if last is None else verdict.images[last])


@given(histories())
def test_two_rivals_are_judged_as_the_fold_judges_them(writes: list[Write]) -> None:
    """The conflict of two plain operations, which nearly all are, is judged without going through `steps`."""
    history = History(writes)
    for place, one in enumerate(history.operations):
        base = history.row.images[history.by_dot[one.dot].op_id]
        image = None if base is None else tuple(base.get(name) for name in ROW_COLUMNS)
        for pair in combinations(history.operations[place:], 2):
            if any(history.knows(later, earlier) for earlier, later in (pair, pair[::-1])):
                continue
            try:
                verdict, found = judge(image, pair, history.knows), True
            except MissingParentError:
                found = False
            try:
                *_, last = steps(image, pair, history.knows)
            except MissingParentError:
                assert not found
                continue
            assert found
            assert (verdict.shown, *verdict.others) == last.heads[::-1]
            assert (verdict.images, verdict.base_of(last.heads)) == (last.images, image)
            assert set(map(frozenset, verdict.covered.values())) == {frozenset()}


@given(histories())
def test_what_all_later_authors_knew_can_be_folded_into_the_base_image(writes: list[Write]) -> None:
    history = History(writes)
    whole = history.judge()
    for place in range(1, len(writes)):
        past, rest = history.operations[:place], history.operations[place:]
        if not is_chain(past, history.knows) or any(op.base is not None for op in rest):
            break
        if not all(history.knows(op, past[-1]) for op in rest):
            continue
        verdict = judge(whole.images[past[-1].dot], rest, history.knows)
        assert verdict.shown == whole.shown
        assert sorted(verdict.others) == sorted(whole.others)
        assert verdict.images == {op.dot: whole.images[op.dot] for op in rest}


@given(histories())
def test_nothing_but_the_set_of_operations_matters(writes: list[Write]) -> None:
    """Other ordinals, as another device gives them, change no more than the dot numbers."""
    one, other = History(writes), History(writes)
    highest = max(op.dot for op in one.operations)
    assert highest > 0
    renumbered = {dot: dot - (7 << 40) for dot in one.by_dot}
    other.by_dot = {renumbered[dot]: write for dot, write in one.by_dot.items()}
    other.operations = [_renumber(op, renumbered) for op in one.operations]
    first, second = one.judge(), other.judge()
    assert renumbered[first.shown.dot] == second.shown.dot
    assert [renumbered[head.dot] for head in first.others] == [head.dot for head in second.others]
    assert {renumbered[dot]: image for dot, image in first.images.items()} == second.images


def _renumber(op: RowOperation, numbers: dict[int, int]) -> RowOperation:
    return op._replace(dot=numbers[op.dot], base=None if op.base is None else numbers[op.base])


@given(histories())
def test_a_known_prefix_is_judged_alike_whatever_comes_later(writes: list[Write]) -> None:
    """An operation's image never changes when more arrives."""
    history = History(writes)
    whole = history.judge()
    for place in range(1, len(writes) + 1):
        part = judge(None, history.operations[:place], history.knows)
        assert all(whole.images[dot] == image for dot, image in part.images.items())


@given(histories())
def test_the_total_order_extends_causality(writes: list[Write]) -> None:
    for place, write in enumerate(writes):
        assert not any(later.happened_before(write) for later in writes[place:])


@given(histories())
def test_in_a_chain_each_operation_was_written_on_the_one_before(writes: list[Write]) -> None:
    history = History(writes)
    assume(is_chain(history.operations, history.knows))
    image: Image = None
    for op in history.operations:
        image = after(image, op)
    verdict = history.judge()
    assert not verdict.others
    assert same_image(verdict.image, image)


@given(images, st.dictionaries(st.integers(1, 2), values))
@example((None, 1, 2.0), {1: 1.0})
@example((None, None, b"1"), {1: None, 2: "1"})
def test_undoing_an_update_gives_what_stood_there(image: Image, changes: dict[int, object]) -> None:
    op = updated(image, changes)
    written = after(image, op)
    assert same_image(before(written, op), image)
    assert written is not None
    assert all(same_image((written[i],), (value,)) for i, value in changes.items())


@given(images)
def test_undoing_a_delete_gives_what_stood_there_and_an_insert_does_not_say(image: Image) -> None:
    assert image is not None
    delete = RowOperation(dot=1, kind=Kind.DELETE, base=None, order=(1, b"", 1), values=image, old=(None,) * 3)
    insert = delete._replace(kind=Kind.INSERT)
    assert after(image, delete) is None
    assert before(None, delete) == image
    assert after(None, insert) == image
    assert before(image, insert) is UNTOLD
    assert before(UNTOLD, insert) is UNTOLD
    assert before(UNTOLD, delete) == image


def test_a_row_that_is_edited_in_an_open_conflict_for_years_is_judged() -> None:
    """Every edit has the one before as its base, and the other head stays open."""
    edits = [
        RowOperation(
            dot=place,
            kind=Kind.INSERT,
            base=place - 1 or None,
            order=(place, b"a", place),
            values=("k", place, 0),
            old=(),
        )
        for place in range(1, 1501)
    ]
    other = edits[0]._replace(dot=dot_number(1, 1), base=None, order=(2, b"b", 1), values=("k", 0, 0))
    operations = sorted([*edits, other], key=lambda op: op.order)
    verdict = judge(
        None, operations, lambda later, earlier: later.order[1] == earlier.order[1] and later.order > earlier.order
    )
    assert [verdict.shown, *verdict.others] == [edits[-1], other]
    assert verdict.covered[edits[-1].dot] == {op.dot for op in edits[:-1]}
    assert verdict.base_of([verdict.shown, other]) is None


def test_a_key_that_is_spelled_anew_is_a_change_and_one_that_is_not_is_none() -> None:
    respelled = update_of(("A", None, None), ("a", None, None))
    assert after(("a", 1, 2), respelled) == ("A", 1, 2)
    assert before(("A", 1, 2), respelled) == ("a", 1, 2)
    assert after(("a", 1, 2), update_of(("A", None, None), (None, None, None))) == ("a", 1, 2)


def test_an_update_of_no_row_is_refused_unless_the_history_is_whole() -> None:
    update = updated(("k", 1, 2), {1: 5})
    with pytest.raises(MissingParentError):
        after(None, update)
    with pytest.raises(MissingParentError):
        before(None, update)
    for kind in (Kind.RESOLVE, Kind.RESOLVE_DELETE):  # what stood there before, only the history tells
        with pytest.raises(MissingParentError):
            before(("k", 1, 2), update._replace(kind=kind))
    with pytest.raises(MissingParentError):
        judge(None, [update], lambda *_: True)
    assert judge(None, [update], lambda *_: True, is_whole=True).image is None


@given(images, images)
def test_images_are_the_same_iff_every_column_is_in_type_and_value(one: Image, other: Image) -> None:
    assert one is not None
    assert other is not None
    alike = all(type(a) is type(b) and a == b for a, b in zip(one, other, strict=True))
    assert same_image(one, other) == alike
    assert same_image(one, one)
    assert not same_image(one, None)
    assert same_image(None, None)
