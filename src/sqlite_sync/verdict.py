"""What a set of operations means for its row: heads, images, the shown head (SPEC.md, section 4).

Everything here is a pure function of the operations, so devices that hold the same ones reach the same verdict. The
fold goes through the total order, which extends happened-before: whatever covers an operation comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from operator import is_not
from typing import NamedTuple

from sqlite_sync.codec import Row, Value, same
from sqlite_sync.operation import Kind, ordinal_of

Image = Row | None


class Told(tuple[Value, ...]):
    """An image that a delete says stood there: what its author had, who may lack a column, or a change's capture."""

    __slots__ = ()


UNTOLD = Told()  # what stood before an insert does not say: no row, or one that it replaced
Order = tuple[int, bytes, int]


class RowOperation(NamedTuple):  # made by the ten thousand, and four times as fast as a frozen dataclass
    """An operation as its row sees it: `values` and `old` in the order of the table's columns.

    `changed` are the columns that an update changed.
    """

    dot: int
    kind: Kind
    base: int | None
    order: Order
    values: Row
    old: Row
    changed: Sequence[int] = ()


Knows = Callable[[RowOperation, RowOperation], bool]
_NOTHING: frozenset[int] = frozenset()


class Verdict(NamedTuple):  # for the same reason
    """The state of one row: its shown head, whose image the table holds, and the others.

    `images` has the image after every operation, in the total order, and `base` is the one before them; `covered` has
    what each head covers, where there is more than one.
    """

    shown: RowOperation
    image: Image
    others: tuple[RowOperation, ...]
    images: dict[int, Image]
    base: Image
    covered: Mapping[int, frozenset[int]]

    def conflicting(self) -> list[RowOperation]:
        """List the heads whose image is not the shown one."""
        return [head for head in self.others if not same_image(self.images[head.dot], self.image)]

    def base_of(self, heads: Iterable[RowOperation]) -> Image:
        """Return the image that these heads, two or more, have in common: of the last operation that all cover."""
        covered = [self.covered[head.dot] for head in heads]
        if not all(covered):
            return self.base
        common = frozenset.intersection(*covered)
        last = next((dot for dot in reversed(self.images) if dot in common), None)
        return self.base if last is None else self.images[last]


@dataclass(frozen=True, slots=True)
class Step:
    """What one more operation makes of a row: the heads that it supersedes, and those there are now, shown last."""

    op: RowOperation
    superseded: tuple[RowOperation, ...]
    heads: tuple[RowOperation, ...]
    images: dict[int, Image]

    @property
    def shown(self) -> RowOperation:
        """The shown head."""
        return self.heads[-1]

    def conflicting(self) -> Iterator[RowOperation]:
        """Yield the heads whose image is not the shown one."""
        shown = self.images[self.shown.dot]
        return (head for head in self.heads[:-1] if not same_image(self.images[head.dot], shown))


class MissingParentError(Exception):
    """The base image is not sure to be the state before: what only a delete says, or an insert does not."""


def judge(base: Image, operations: Sequence[RowOperation], knows: Knows, *, is_whole: bool = False) -> Verdict:
    """Judge a row from its image before `operations`, which are in the total order and not empty.

    Where they are its whole history, an update without a row leaves it absent: a trigger of the application's that
    fired before ours changed the row and was logged before the insert that made it, whose values are the later ones.
    """
    if not is_whole and len(operations) == 2 and _are_rivals(operations[0], operations[1], knows):  # noqa: PLR2004 - the common conflict
        return _with_known_base(_judge_rivals(base, operations[0], operations[1]))
    if is_whole and type(base) is Told:
        base = tuple(base) or None
    operations = _with_real_bases(operations)
    *_, last = steps(base, operations, knows, is_whole=is_whole)
    covered = {head.dot: _covered(head, operations, knows) for head in last.heads} if len(last.heads) > 1 else {}
    return _with_known_base(
        Verdict(last.shown, last.images[last.shown.dot], last.heads[:-1], last.images, base, covered)
    )


def _with_known_base(verdict: Verdict) -> Verdict:
    """Refuse a verdict with a conflict whose base is the image before, where that is not known."""
    if verdict.base is UNTOLD:
        rivals = verdict.conflicting()
        if rivals and verdict.base_of([verdict.shown, *rivals]) is UNTOLD:
            raise MissingParentError
    return verdict


def _are_rivals(one: RowOperation, other: RowOperation, knows: Knows) -> bool:
    """Tell whether two operations have no base, and the later was written without the earlier one known."""
    return one.base is other.base is None and not knows(other, one)


def _judge_rivals(base: Image, first: RowOperation, last: RowOperation) -> Verdict:
    """Judge two operations that both changed the base, as the fold through `steps` would."""
    images = {first.dot: after(base, first), last.dot: after(base, last)}
    shown, other = (first, last) if images[last.dot] is None and images[first.dot] is not None else (last, first)
    return Verdict(shown, images[shown.dot], (other,), images, base, {first.dot: _NOTHING, last.dot: _NOTHING})


def steps(base: Image, operations: Sequence[RowOperation], knows: Knows, *, is_whole: bool = False) -> Iterator[Step]:
    """Yield what each operation makes of a row, as `judge` goes through them."""
    images: dict[int, Image] = {}
    heads: list[RowOperation] = []
    operations = _with_real_bases(operations)
    for place, op in enumerate(operations):
        parent = _parent(op, operations[:place], knows)
        before_op = base if parent is None else images[parent]
        is_stray = is_whole and before_op is None and op.kind == Kind.UPDATE
        images[op.dot] = None if is_stray else after(before_op, op)
        superseded = [head for head in heads if _supersedes(op, head, knows)]
        gone = {head.dot for head in superseded}
        heads = [*(head for head in heads if head.dot not in gone), op]
        heads.sort(key=lambda head: (images[head.dot] is not None, head.order))
        yield Step(op, tuple(superseded), tuple(heads), images)


def _with_real_bases(operations: Sequence[RowOperation]) -> list[RowOperation]:
    """Take away a base that is neither 0 nor an earlier operation of the row: no honest author writes one."""
    if all(op.base is None for op in operations):
        return list(operations)
    seen = {0}
    real = []
    for op in operations:
        real.append(op if op.base is None or op.base in seen else op._replace(base=None))
        seen.add(op.dot)
    return real


def is_chain(operations: Sequence[RowOperation], knows: Knows) -> bool:
    """Tell whether each operation was written with the one before it in the row."""
    for before, op in pairwise(operations):  # noqa: SIM110 - `all` of a generator takes longer than what it asks
        if op.base is not None or not knows(op, before):
            return False
    return True


def after(image: Image, op: RowOperation) -> Image:
    """Return the image after `op`, written on `image`."""
    match op.kind:
        case Kind.UPDATE if image is not None and type(image) is not Told:
            return _with(image, op.values, op.changed)
        case Kind.UPDATE:
            raise MissingParentError
        case Kind.INSERT | Kind.RESOLVE:
            return op.values
    return None


def before(image: Image, op: RowOperation) -> Image:
    """Return the image on which `op` was written; the inverse of `after`. A resolution does not say it."""
    match op.kind:
        case Kind.UPDATE if image:
            former = _with(image, op.old, op.changed)
            return Told(former) if type(image) is Told else former
        case Kind.INSERT:
            return UNTOLD
        case Kind.DELETE:
            return Told(op.values)
    raise MissingParentError


def _with(image: Row, values: Row, changed: Sequence[int]) -> Row:
    """Replace the columns of an image that an update changed."""
    found = list(image)
    for i in changed:
        found[i] = values[i]
    return tuple(found)


def changed_columns(values: Row, old: Row, key: Collection[int]) -> list[int]:
    """List the columns that an update changed; one of the key, which always has its value, where it says an old one."""
    unlike = compress(range(len(values)), map(is_not, values, old))  # most columns have NULL twice
    return [i for i in unlike if (old[i] is not None if i in key else not same(values[i], old[i]))]


def same_image(left: Image, right: Image) -> bool:
    """Tell whether two images are equal in every column, or both absent."""
    if left is None or right is None:
        return left is right
    return left == right and all(map(same, left, right))  # 1 == 1.0, but they are not the same


def conflict_kind(shown: RowOperation, other: RowOperation, images: dict[int, Image]) -> str:
    """Name the kind of a conflict."""
    if images[shown.dot] is None or images[other.dot] is None:
        return "update/delete"
    if shown.kind == other.kind == Kind.INSERT:
        return "insert/insert"
    return "update/update"


def _parent(op: RowOperation, earlier: Sequence[RowOperation], knows: Knows) -> int | None:
    """Find the operation whose image `op`'s author had in the row; None is the base image."""
    if op.base is None:
        return next((x.dot for x in reversed(earlier) if knows(op, x)), None)
    own = (x.dot for x in reversed(earlier) if _continues(op, x))
    named = (x.dot for x in earlier if x.dot == op.base)
    return next(own, None) or next(named, None)


def _covered(op: RowOperation, operations: Sequence[RowOperation], knows: Knows) -> frozenset[int]:
    """List what an operation covers (SPEC.md, section 4.1), from base to base."""
    by_dot = {x.dot: x for x in operations}
    siblings: dict[tuple[int, int], list[RowOperation]] = {}
    for x in operations:
        if x.base is not None:
            siblings.setdefault((ordinal_of(x.dot), x.base), []).append(x)
    found: set[int] = set()
    while op.base is not None:
        found |= {x.dot for x in siblings[ordinal_of(op.dot), op.base] if x.order < op.order}
        if not op.base:  # its author had no row in front of them
            return frozenset(found)
        op = by_dot[op.base]
        found.add(op.dot)
    return frozenset(found | {x.dot for x in operations if knows(op, x)})


def _supersedes(op: RowOperation, head: RowOperation, knows: Knows) -> bool:
    if op.base is None:
        return knows(op, head)
    return head.dot == op.base or _continues(op, head)


def _continues(op: RowOperation, earlier: RowOperation) -> bool:
    return op.base == earlier.base and ordinal_of(op.dot) == ordinal_of(earlier.dot)
