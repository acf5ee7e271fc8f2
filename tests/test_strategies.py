"""Strategies: what each decides, and that devices which run the same one apart end alike."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conftest import MakeEngine, exchange, rows, send
from sqlite_sync import (
    Callback,
    Conflict,
    ConflictError,
    ConstraintError,
    Copy,
    Defer,
    Delete,
    Dispute,
    HigherVersionWins,
    KeepBoth,
    LastWriteWins,
    Leave,
    MergeFields,
    PreferLocal,
    PreferRemote,
    RawText,
    Resolutions,
    Strategy,
    SyncEngine,
    Take,
    TakeBoth,
    Value,
    Version,
    Write,
)
from sqlite_sync.strategies import new_key
from strategies import common_values, values

Image = Mapping[str, Value] | None
COLUMNS = ("id", "title", "rev")
BASE: Image = {"id": "k", "title": "base", "rev": 1}


def row(title: Value = "base", rev: Value = 1, key: Value = "k") -> dict[str, Value]:
    return {"id": key, "title": title, "rev": rev}


def dispute(*images: Image, base: Image = BASE, times: tuple[int, ...] = (), kind: str = "update/update") -> Dispute:
    """Make a dispute; the first image is the one shown, the times are the HLCs."""
    hlcs = times or tuple(range(100, 100 - len(images), -1))
    found = [
        Version(bytes([place]) * 16, bytes([place]) * 16, hlc, image)
        for place, (image, hlc) in enumerate(zip(images, hlcs, strict=True))
    ]
    local = found[0]
    conflicts = tuple(
        Conflict(
            *(bytes(16), "todos", {"id": "k"}, kind, local.op_id, other.op_id, local.device_id, other.device_id),
            *(local.time_ms, other.time_ms),
        )
        for other in found[1:]
    )
    return Dispute(conflicts, base, tuple(found), COLUMNS, ("id",))


def taken(strategy: Strategy, asked: Dispute) -> int | None:
    """Return which version a strategy takes; None for none."""
    decision = strategy.decide(asked)
    return asked.versions.index(decision.version) if isinstance(decision, Take) else None


EVERY: list[Strategy] = [
    LastWriteWins(),
    HigherVersionWins("rev"),
    MergeFields(),
    MergeFields(LastWriteWins()),
    MergeFields(KeepBoth()),
    PreferLocal(),
    PreferRemote(),
    KeepBoth(),
    Defer(),
    Callback(lambda asked: asked.remote.image, "the other"),
]


# --- each by itself ---------------------------------------------------------------------------------------------------


def test_the_last_write_wins_whether_it_is_shown_or_not() -> None:
    assert taken(LastWriteWins(), dispute(row("a"), row("b"), times=(5, 9))) == 1
    assert taken(LastWriteWins(), dispute(row("a"), row("b"), times=(9, 5))) == 0
    assert taken(LastWriteWins(), dispute(row("a"), None, times=(5, 9))) == 1
    assert taken(LastWriteWins(), dispute(row("a"), row("b"), row("c"), times=(5, 7, 9))) == 2


def test_at_one_time_the_greater_device_id_wrote_last() -> None:
    assert taken(LastWriteWins(), dispute(row("a"), row("b"), times=(5, 5))) == 1


@pytest.mark.parametrize(
    ("revisions", "winner"),
    [
        ((2, 3), 1),
        ((3, 2), 0),
        ((2.5, 2), 0),
        ((2**53, 2.0**53 - 1), 0),
        (("b", "a"), 0),
        ((b"a", b"b"), 1),
        ((1, 2, 3), 2),
        ((2, 2), None),
        ((2, 2.0), None),
        ((3, 3, 1), None),
        ((1, 1, 3), 2),
        ((None, 1), None),
        ((1, "1"), None),
        ((b"1", "1"), None),
        ((RawText(b"\xff"), "1"), None),
    ],
)
def test_the_higher_version_wins_where_there_is_one(revisions: tuple[Value, ...], winner: int | None) -> None:
    asked = dispute(*(row(f"t{place}", revision) for place, revision in enumerate(revisions)))
    assert taken(HigherVersionWins("rev"), asked) == winner


def test_a_deleted_row_has_no_version_and_a_missing_column_says_so() -> None:
    assert HigherVersionWins("rev").decide(dispute(row("a"), None)) == Leave("one version is no row")
    assert HigherVersionWins("REV").decide(dispute(row("a"), row("b", 2))) == HigherVersionWins("rev").decide(
        dispute(row("a"), row("b", 2))
    )
    assert HigherVersionWins("nope").decide(dispute(row("a"), row("b"))) == Leave("todos has no column 'nope'")


def test_columns_that_one_side_changed_are_merged() -> None:
    assert MergeFields().decide(dispute(row("mine"), row(rev=2))) == Write(row("mine", 2))
    assert MergeFields().decide(dispute(row("same"), row("same", 2))) == Write(row("same", 2))
    assert MergeFields().decide(dispute(row("mine"), row(rev=2), row("mine", 2))) == Write(row("mine", 2))


def test_a_change_of_type_is_a_change() -> None:
    assert MergeFields().decide(dispute(row("mine"), row(rev=1.0))) == Write(row("mine", 1.0))
    assert isinstance(MergeFields().decide(dispute(row(rev=True + 1), row(rev=2.0))), Leave)


def test_columns_that_both_changed_go_to_the_fallback_or_stay_open() -> None:
    asked = dispute(row("mine", 5), row("yours"), times=(5, 9))
    assert MergeFields().decide(asked) == Leave("several sides changed title")
    assert MergeFields(LastWriteWins()).decide(asked) == Write(row("yours", 5))
    assert MergeFields(PreferLocal()).decide(asked) == Write(row("mine", 5))
    assert MergeFields(Callback(lambda _: {"title": "both"})).decide(asked) == Write(row("both", 5))
    assert MergeFields(Callback(lambda _: Delete())).decide(asked) == Delete()
    assert isinstance(MergeFields(Defer()).decide(asked), Leave)
    assert isinstance(MergeFields(KeepBoth()).decide(asked), TakeBoth)


def test_without_a_base_or_with_a_deletion_the_whole_row_goes_to_the_fallback() -> None:
    born_twice, deleted = dispute(row("a"), row("b"), base=None), dispute(row("a"), None)
    assert isinstance(MergeFields().decide(born_twice), Leave)
    assert isinstance(MergeFields().decide(deleted), Leave)
    assert taken(MergeFields(PreferRemote()), born_twice) == 1
    assert taken(MergeFields(PreferRemote()), deleted) == 1


def test_a_key_is_spelled_as_the_local_version_spells_it() -> None:
    assert MergeFields().decide(dispute(row("a", key="K"), row(rev=2))) == Write(row("a", 2, key="K"))


def test_local_and_remote_are_preferred_as_they_stand() -> None:
    asked = dispute(row("a"), row("b"), None)
    assert (taken(PreferLocal(), asked), taken(PreferRemote(), asked)) == (0, 1)
    assert taken(PreferRemote(), dispute(row("a"), None)) == 1


def test_both_are_kept_under_a_key_that_the_kept_version_determines() -> None:
    asked = dispute(row("a"), row("b"), row("c"))
    decision = KeepBoth().decide(asked)
    assert isinstance(decision, TakeBoth)
    assert {copy.image["title"]: copy.op_id for copy in decision.copies} == {"b": b"\1" * 16, "c": b"\2" * 16}
    for copy in decision.copies:
        assert copy.image["id"] == new_key(copy.op_id, "k")
    alone = KeepBoth().decide(dispute(row("x"), row("b")))
    assert isinstance(alone, TakeBoth)
    assert alone.copies[0] in decision.copies


def test_one_outcome_of_two_others_is_kept_once_and_a_deletion_not_at_all() -> None:
    decision = KeepBoth().decide(dispute(row("a"), row("b"), row("b"), None))
    assert isinstance(decision, TakeBoth)
    assert len(decision.copies) == 1
    assert taken(KeepBoth(), dispute(row("a"), None)) == 0


@pytest.mark.parametrize("key", [1.5, None, RawText(b"\xff")])
def test_a_key_of_another_type_cannot_be_made_anew(key: Value) -> None:
    assert isinstance(KeepBoth().decide(dispute(row("a", key=key), row("b", key=key))), Leave)


def test_a_column_that_refers_to_another_table_is_not_changed() -> None:
    asked = dispute(row("a"), row("b"))
    composite = replace(asked, key=("id", "rev"), references=frozenset({"rev"}))
    decision = KeepBoth().decide(composite)
    assert isinstance(decision, TakeBoth)
    assert decision.copies[0].image["rev"] == 1
    assert decision.copies[0].image["id"] != "k"
    assert isinstance(KeepBoth().decide(replace(composite, references=frozenset({"id", "rev"}))), Leave)


@given(st.binary(min_size=16, max_size=16))
def test_new_keys_are_of_the_old_ones_type(op_id: bytes) -> None:
    text, number, blob = new_key(op_id, "k"), new_key(op_id, 7), new_key(op_id, b"k")
    assert isinstance(text, str)
    assert isinstance(blob, bytes)
    assert isinstance(number, int)
    assert uuid.UUID(text).version == uuid.UUID(bytes=blob).version == 8
    assert -(2**53) < number <= -(2**32)


def test_a_callback_may_answer_in_short() -> None:
    asked = dispute(row("a"), row("b"))
    answers = {"local": Take(asked.local), "remote": Take(asked.remote), None: Leave("Callback(f) left it open")}
    for answer, decision in answers.items():
        assert Callback(lambda _, answer=answer: answer, "f").decide(asked) == decision
    assert Callback(lambda _: {"title": "c"}).decide(asked) == Write({"title": "c"})
    with pytest.raises(ConflictError, match="answered 7"):
        Callback(lambda _: 7).decide(asked)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("wrong", ["last-write-wins", LastWriteWins, 7])
def test_what_is_no_strategy_is_refused_before_anything_is_done(
    torn: tuple[SyncEngine, SyncEngine], tmp_path: Path, wrong: object
) -> None:
    a, b = torn
    path = a.generate_bundle(b.device_id, tmp_path / "more.bundle", acknowledge=True)
    assert path is not None
    before = b.get_vector_clock()

    with pytest.raises(ConflictError, match="is no strategy: give one, such as LastWriteWins"):
        b.resolve_all(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConflictError, match="is no strategy"):
        b.import_bundle(path, resolver=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConflictError, match="is no strategy"):
        MergeFields(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConflictError, match="needs a function of one dispute"):
        Callback("remote")  # type: ignore[arg-type]
    assert b.get_vector_clock() == before


@pytest.mark.parametrize("name", ["", 7, None, b"bytes", "\ud800"])
def test_a_strategy_whose_name_no_device_would_take_is_refused(
    torn: tuple[SyncEngine, SyncEngine], tmp_path: Path, name: object
) -> None:
    class Nameless:
        def __init__(self) -> None:
            self.name = name

        def decide(self, asked: Dispute) -> Take:
            return Take(asked.local)

    a, b = torn
    (conflict, *_) = a.get_unresolved_conflicts()
    path = b.generate_bundle(a.device_id, tmp_path / "more.bundle", acknowledge=True)
    assert path is not None
    before = a.get_vector_clock()
    for run in (
        lambda: a.resolve(conflict, Nameless()),  # type: ignore[call-overload]
        lambda: a.resolve_all(Nameless()),  # type: ignore[arg-type]
        lambda: a.import_bundle(path, resolver=Nameless()),  # type: ignore[arg-type]
        lambda: MergeFields(Nameless()),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConflictError, match="the log needs a text that is not empty"):
            run()
    assert a.get_vector_clock() == before
    send(a, b)


@pytest.mark.parametrize(
    "answer",
    [
        7,
        [1],
        b"local",
        "Local",
        Take,
        Take(None),  # type: ignore[arg-type]
        Write(None),  # type: ignore[arg-type]
        {7: 1},
        {"title": object()},
        TakeBoth(None),  # type: ignore[arg-type]
        TakeBoth((1,)),  # type: ignore[arg-type]
        TakeBoth((Copy(bytes(16), {}),)),
    ],
)
def test_an_answer_that_is_none_is_refused_by_name(torn: tuple[SyncEngine, SyncEngine], answer: object) -> None:
    a, _ = torn
    (conflict, *_) = before = a.get_unresolved_conflicts()
    for run in (
        lambda: a.resolve(conflict, Callback(lambda _: answer)),  # type: ignore[arg-type, return-value]
        lambda: a.resolve_all(Callback(lambda _: answer)),  # type: ignore[arg-type, return-value]
    ):
        with pytest.raises(ConflictError, match=r"answered|todos"):
            run()
    assert a.get_unresolved_conflicts() == before


@pytest.mark.parametrize("image", [None, {}, {"id": "new"}, {"id": object(), "title": "t", "done": 0}])
def test_a_copy_that_is_no_row_is_refused(torn: tuple[SyncEngine, SyncEngine], image: object) -> None:
    a, _ = torn
    clock, before = a.get_vector_clock(), rows(a)
    with pytest.raises(ConflictError, match="todos"):
        a.resolve_all(Callback(lambda asked: TakeBoth((Copy(asked.remote.op_id, image),))))  # type: ignore[arg-type]
    assert (a.get_vector_clock(), rows(a)) == (clock, before)


def test_a_column_is_given_by_name() -> None:
    with pytest.raises(ConflictError, match="needs the name of a column, not None"):
        HigherVersionWins(None)  # type: ignore[arg-type]


def test_names_say_what_decided() -> None:
    assert [strategy.name for strategy in EVERY] == [
        "LastWriteWins",
        "HigherVersionWins(rev)",
        "MergeFields",
        "MergeFields(LastWriteWins)",
        "MergeFields(KeepBoth)",
        "PreferLocal",
        "PreferRemote",
        "KeepBoth",
        "Defer",
        "Callback(the other)",
    ]


@pytest.mark.parametrize("strategy", EVERY[:8], ids=lambda strategy: strategy.name)
def test_a_kind_that_is_not_about_one_row_is_left_open(strategy: Strategy) -> None:
    assert isinstance(strategy.decide(dispute(row("a"), row("b"), kind="unique")), Leave)


# --- properties -------------------------------------------------------------------------------------------------------

images = st.none() | st.builds(row, common_values, common_values | values)
lives = st.builds(row, common_values, common_values | values)
disputes = st.builds(
    lambda base, local, others, times: dispute(local, *others, base=base, times=tuple(times[: len(others) + 1])),
    images,
    lives,
    st.lists(images, min_size=1, max_size=3),
    st.lists(st.integers(1, 9), min_size=4, max_size=4),
)


def exactly(value: Value) -> tuple[type, Value]:
    """Tell values apart as SQL does: 1 from 1.0, but not 0.0 from -0.0 (SPEC.md, section 14)."""
    return type(value), value


@given(disputes, st.sampled_from(EVERY))
def test_a_decision_depends_on_nothing_but_the_dispute(asked: Dispute, strategy: Strategy) -> None:
    assert repr(strategy.decide(asked)) == repr(strategy.decide(replace(asked)))


@given(disputes, st.sampled_from(EVERY[:5]), st.randoms())
def test_the_order_of_the_versions_does_not_matter_to_those_that_look_at_values(
    asked: Dispute, strategy: Strategy, random: object
) -> None:
    shuffled = list(asked.versions[1:])
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other = replace(asked, versions=(asked.local, *shuffled))
    one, two = strategy.decide(asked), strategy.decide(other)
    assert type(one) is type(two)
    if isinstance(one, TakeBoth) and isinstance(two, TakeBoth):
        assert {repr(copy) for copy in one.copies} == {repr(copy) for copy in two.copies}
    elif isinstance(one, Write) and isinstance(two, Write):
        assert {name: exactly(value) for name, value in one.values.items()} == {
            name: exactly(value) for name, value in two.values.items()
        }
    elif not isinstance(one, Leave):
        assert repr(one) == repr(two)


@given(disputes)
@example(dispute(row(0, 0.0), row(0, -0.0), base=row(0, 0.0)))
def test_a_merge_takes_every_value_from_a_side_that_changed_it(asked: Dispute) -> None:
    decision = MergeFields().decide(asked)
    if isinstance(decision, Write):
        assert asked.base is not None
        for column, value in decision.values.items():
            sides = [exactly(version.image[column]) for version in asked.versions if version.image is not None]
            unchanged = exactly(asked.base[column])
            assert exactly(value) in ([side for side in sides if side != unchanged] or [unchanged])


@given(disputes)
@example(dispute(row(0, 0.0), row(0, -0.0), base=row(0, 1)))
def test_a_merge_of_two_swapped_sides_is_the_same(asked: Dispute) -> None:
    versions = asked.versions[:2]
    one = MergeFields().decide(replace(asked, versions=versions))
    other = MergeFields().decide(replace(asked, versions=versions[::-1]))
    assert type(one) is type(other)
    if isinstance(one, Write) and isinstance(other, Write):
        assert {name: exactly(value) for name, value in one.values.items()} == {
            name: exactly(value) for name, value in other.values.items()
        }


# --- on databases -----------------------------------------------------------------------------------------------------


def edit(engine: SyncEngine, sql: str, *parameters: object) -> None:
    engine.connection.execute(sql, parameters)


@pytest.fixture
def torn(pair: tuple[SyncEngine, SyncEngine]) -> tuple[SyncEngine, SyncEngine]:
    """Two devices with every kind of conflict, both knowing everything."""
    a, b = pair
    for key in ("merge", "clash", "gone", "kept"):
        edit(a, "INSERT INTO todos VALUES (?, 'base', 0)", key)
    exchange(a, b)
    edit(a, "UPDATE todos SET title = 'a' WHERE id = 'merge'")
    edit(b, "UPDATE todos SET done = 1 WHERE id = 'merge'")
    edit(a, "UPDATE todos SET title = 'a', done = 5 WHERE id = 'clash'")
    edit(b, "UPDATE todos SET title = 'b' WHERE id = 'clash'")
    edit(a, "DELETE FROM todos WHERE id = 'gone'")
    edit(b, "UPDATE todos SET title = 'b' WHERE id = 'gone'")
    edit(a, "UPDATE todos SET title = 'a' WHERE id = 'kept'")
    edit(b, "DELETE FROM todos WHERE id = 'kept'")
    edit(a, "INSERT INTO todos VALUES ('born', 'a', 2)")
    edit(b, "INSERT INTO todos VALUES ('born', 'b', 3)")
    for source, target in ((a, b), (b, a)):
        send(source, target)
    assert len(a.get_unresolved_conflicts()) == 5
    return a, b


ON_TODOS = [HigherVersionWins("done") if isinstance(each, HigherVersionWins) else each for each in EVERY]


@pytest.mark.parametrize("strategy", ON_TODOS, ids=lambda strategy: strategy.name)
def test_devices_that_run_a_strategy_apart_agree(torn: tuple[SyncEngine, SyncEngine], strategy: Strategy) -> None:
    a, b = torn
    one, other = a.resolve_all(strategy), b.resolve_all(strategy)

    assert [(each.conflict.conflict_id, each.outcome) for each in one.resolved] == [
        (each.conflict.conflict_id, each.outcome) for each in other.resolved
    ]
    assert len(one.resolved) + len(one.deferred) == 5
    exchange(a, b)
    assert rows(a) == rows(b)
    left = {each.conflict.conflict_id for each in one.deferred}
    assert {each.conflict_id for each in a.get_unresolved_conflicts()} == left
    assert {each.conflict_id for each in b.get_unresolved_conflicts()} == left
    attributed = {operation.strategy for operation in b.operations() if operation.kind.startswith("resolve")}
    assert attributed == ({strategy.name} if one.resolved else set())


def test_what_each_strategy_leaves_in_the_table(torn: tuple[SyncEngine, SyncEngine]) -> None:
    a, _ = torn
    merged = a.resolve_all(MergeFields())
    assert [(each.conflict.row_pk["id"], each.outcome) for each in merged.resolved] == [("merge", "values")]
    assert edit_one(a, "merge") == ("a", 1)
    assert {each.conflict.row_pk["id"]: each.reason for each in merged.deferred}["clash"] == (
        "several sides changed title"
    )
    a.resolve_all(MergeFields(PreferRemote()), table="todos")
    title, done = edit_one(a, "clash") or (None, None)
    assert (title in {"a", "b"}, done) == (True, 5)
    assert a.get_unresolved_conflicts() == []


def edit_one(engine: SyncEngine, key: str) -> tuple[object, ...] | None:
    found: tuple[object, ...] | None = engine.connection.execute(
        "SELECT title, done FROM todos WHERE id = ?", (key,)
    ).fetchone()
    return found


def test_an_import_may_be_given_a_strategy(pair: tuple[SyncEngine, SyncEngine], tmp_path: Path) -> None:
    a, b = pair
    for key in ("x", "y"):
        edit(a, "INSERT INTO todos VALUES (?, 'base', 0)", key)
    send(a, b)
    for key in ("x", "y"):
        edit(a, "UPDATE todos SET title = 'a' WHERE id = ?", key)
    edit(b, "UPDATE todos SET done = 1 WHERE id = 'x'")
    edit(b, "UPDATE todos SET title = 'b' WHERE id = 'y'")
    path = a.generate_bundle(b.device_id, tmp_path / "sent")
    assert path is not None

    dry = b.import_bundle(path, resolver=MergeFields(), dry_run=True)
    assert b.get_unresolved_conflicts() == []
    result = b.import_bundle(path, resolver=MergeFields())

    for one in (dry, result):
        assert one.conflict_count == len(one.conflicts) == 2
        assert [(each.conflict.row_pk, each.outcome) for each in one.resolved] == [({"id": "x"}, "values")]
        assert [(each.conflict.row_pk, each.reason) for each in one.deferred] == [
            ({"id": "y"}, "several sides changed title")
        ]
    assert edit_one(b, "x") == ("a", 1)
    assert [each.row_pk for each in b.get_unresolved_conflicts()] == [{"id": "y"}]
    send(b, a)
    assert edit_one(a, "x") == ("a", 1)


def test_an_import_with_a_strategy_leaves_earlier_conflicts_alone(torn: tuple[SyncEngine, SyncEngine]) -> None:
    a, b = torn
    edit(a, "INSERT INTO todos VALUES ('new', 'a', 0)")
    edit(b, "INSERT INTO todos VALUES ('new', 'b', 0)")
    path = a.generate_bundle(b.device_id, a.path.with_suffix(".late"))
    assert path is not None
    result = b.import_bundle(path, resolver=PreferLocal())
    assert [each.conflict.row_pk for each in result.resolved] == [{"id": "new"}]
    assert len(b.get_unresolved_conflicts()) == 5


def test_devices_that_import_with_one_strategy_meet_in_a_folder(make: MakeEngine, tmp_path: Path) -> None:
    engines = [make(name) for name in "abc"]
    folder = tmp_path / "stick"
    folder.mkdir()
    for engine in engines:
        edit(engine, "INSERT INTO todos VALUES ('one', ?, 0)", engine.path.name)
        edit(engine, "INSERT INTO todos VALUES (?, 'own', 0)", engine.path.name)
    for _ in range(4):
        for engine in engines:
            engine.sync_folder(folder, resolver=KeepBoth())
    assert rows(engines[0]) == rows(engines[1]) == rows(engines[2])
    assert all(engine.get_unresolved_conflicts() == [] for engine in engines)
    titles = [title for (title,) in engines[0].connection.execute("SELECT title FROM todos WHERE title <> 'own'")]
    assert set(titles) == {"a.db", "b.db", "c.db"}


def test_three_heads_are_one_dispute_and_one_resolution_covers_them(make: MakeEngine) -> None:
    engines = [make(name) for name in "abc"]
    edit(engines[0], "INSERT INTO todos VALUES ('k', 'base', 0)")
    exchange(*engines)
    edit(engines[0], "UPDATE todos SET title = 'a'")
    edit(engines[1], "UPDATE todos SET done = 1")
    edit(engines[2], "UPDATE todos SET title = 'a', done = 1")
    exchange(*engines)
    asked: list[Dispute] = []
    assert len(engines[0].get_unresolved_conflicts()) == 2
    conflict = engines[0].get_unresolved_conflicts()[1]
    operation = engines[0].resolve(conflict, Callback(lambda one: asked.append(one) or "local", "look"))
    assert operation is not None
    assert operation.strategy == "Callback(look)"
    assert [len(asked[0].versions), len(asked[0].conflicts)] == [3, 2]
    assert asked[0].base == {"id": "k", "title": "base", "done": 0}
    exchange(*engines)
    assert all(engine.get_unresolved_conflicts() == [] for engine in engines)


def test_the_base_is_what_both_sides_had_in_their_row(pair: tuple[SyncEngine, SyncEngine]) -> None:
    """A device that edits its row in an open conflict knows the other side's version, but never had it in its row."""
    a, b = pair
    edit(a, "INSERT INTO todos VALUES ('k', 'base', 0)")
    exchange(a, b)
    edit(b, "UPDATE todos SET title = 'b1'")
    edit(b, "UPDATE todos SET title = 'b2'")
    edit(a, "UPDATE todos SET done = 1")
    exchange(a, b)
    edit(a, "UPDATE todos SET done = done + 10")
    exchange(a, b)
    for engine in (a, b):
        (conflict,) = engine.get_unresolved_conflicts()
        assert engine.images(conflict).base == {"id": "k", "title": "base", "done": 0}


@pytest.mark.parametrize("is_replaced_first", [True, False])
@pytest.mark.parametrize("other", ["UPDATE todos SET title = 'other'", "REPLACE INTO todos VALUES ('k', 'other', 0)"])
def test_what_a_replace_rewrote_is_the_base(make: MakeEngine, other: str, *, is_replaced_first: bool) -> None:
    """An insert does not say whether it replaced a row: only the history does, on every device alike."""
    schema = "CREATE TABLE todos (id TEXT PRIMARY KEY, title, done)"
    a, b, c = (make(name, schema) for name in "abc")
    edit(a, "INSERT INTO todos VALUES ('k', 'base', 0)")
    exchange(a, b, c)
    replace_, update = (a, b) if is_replaced_first else (b, a)
    edit(replace_, "REPLACE INTO todos VALUES ('k', 'base', 1)")
    edit(update, other)
    exchange(a, b, c)
    assert [one.base for engine in (a, b, c) for _, one in engine.each_conflict()] == [
        {"id": "k", "title": "base", "done": 0}
    ] * 3

    for engine in (a, b, c):
        assert len(engine.resolve_all(MergeFields()).resolved) == 1
    exchange(a, b, c)
    for engine in (a, b, c):
        assert edit_one(engine, "k") == ("other", 1)
        assert engine.get_unresolved_conflicts() == []


def test_a_person_stands_in_the_log_without_a_strategy(torn: tuple[SyncEngine, SyncEngine]) -> None:
    a, b = torn
    operation = a.resolve(a.get_unresolved_conflicts()[0], "local")
    assert operation.strategy is None
    send(a, b)
    assert [each.strategy for each in b.operations() if each.op_id == operation.op_id] == [None]


def test_a_strategy_that_defers_changes_nothing(torn: tuple[SyncEngine, SyncEngine]) -> None:
    a, _ = torn
    clock, before = a.get_vector_clock(), a.get_unresolved_conflicts()
    assert a.resolve(before[0], Defer()) is None
    found = a.resolve_all(Defer())
    assert found.resolved == ()
    assert [each.conflict for each in found.deferred] == before
    assert (a.get_vector_clock(), a.get_unresolved_conflicts()) == (clock, before)


def test_a_strategy_that_raises_leaves_everything_as_it_was(torn: tuple[SyncEngine, SyncEngine]) -> None:
    a, _ = torn
    clock, before, table = a.get_vector_clock(), a.get_unresolved_conflicts(), rows(a)
    seen: list[Dispute] = []

    def decide(asked: Dispute) -> str:
        seen.append(asked)
        return "local" if len(seen) < 3 else "nonsense"

    with pytest.raises(ConflictError, match="nonsense"):
        a.resolve_all(Callback(decide))  # type: ignore[arg-type]
    with pytest.raises(ConflictError, match="no column 'nope'"):
        a.resolve_all(Callback(lambda _: {"nope": 1}))
    stranger = Version(bytes(16), bytes(16), 1, None)
    with pytest.raises(ConflictError, match="no decision about this row"):
        a.resolve_all(Callback(lambda _: Take(stranger)))
    assert (a.get_vector_clock(), a.get_unresolved_conflicts(), rows(a)) == (clock, before, table)


def test_values_of_a_callback_are_stored_as_their_columns_store_them(torn: tuple[SyncEngine, SyncEngine]) -> None:
    a, _ = torn
    a.resolve_all(Callback(lambda _: {"done": "7", "title": 8}))
    assert set(a.connection.execute("SELECT title, done FROM todos").fetchall()) == {("8", 7)}


def test_names_are_cut_before_they_reach_the_log(torn: tuple[SyncEngine, SyncEngine]) -> None:
    a, b = torn
    operation = a.resolve(a.get_unresolved_conflicts()[0], Callback(lambda _: "local", "x" * 500))
    assert operation is not None
    assert operation.strategy == ("Callback(" + "x" * 500)[:200]
    assert send(a, b) is not None


def test_the_strategy_arrives_where_the_columns_stand_in_another_order(make: MakeEngine) -> None:
    a = make("a")
    b = make("b", schema="CREATE TABLE todos (done INTEGER DEFAULT 0, title TEXT NOT NULL, id TEXT PRIMARY KEY)")
    edit(a, "INSERT INTO todos VALUES ('k', 'a', 0)")
    edit(b, "INSERT INTO todos (id, title) VALUES ('k', 'b')")
    exchange(a, b)
    b.resolve_all(PreferRemote())
    exchange(a, b)
    for engine in (a, b):
        (resolution,) = [one for one in engine.operations() if one.kind == "resolve"]
        assert resolution.strategy == "PreferRemote"
        assert resolution.old == {}


def test_a_device_with_columns_of_its_own_reads_the_strategy(make: MakeEngine) -> None:
    a = make("a")
    b = make(
        "b", schema="CREATE TABLE todos (note TEXT, id TEXT PRIMARY KEY, title TEXT NOT NULL, done INTEGER DEFAULT 0)"
    )
    edit(b, "INSERT INTO todos VALUES ('n', 'k', 'b', 0)")
    edit(a, "INSERT INTO todos VALUES ('k', 'a', 0)")
    exchange(a, b)
    a.resolve_all(LastWriteWins())
    exchange(a, b)
    assert [one.strategy for one in b.operations() if one.kind == "resolve"] == ["LastWriteWins"]
    assert b.get_unresolved_conflicts() == []


# --- keeping both -----------------------------------------------------------------------------------------------------

UNIQUE = "CREATE TABLE todos (id INTEGER PRIMARY KEY, title TEXT UNIQUE, done INTEGER DEFAULT 0)"


def test_integer_keys_that_were_given_twice_are_told_apart(make: MakeEngine) -> None:
    a, b = make("a", UNIQUE, keys="natural"), make("b", UNIQUE, keys="natural")
    for engine in (a, b):
        for place in range(3):
            edit(engine, "INSERT INTO todos (title) VALUES (?)", f"{engine.path.name} {place}")
    exchange(a, b)
    for engine in (a, b):
        assert len(engine.resolve_all(KeepBoth()).resolved) == 3
    exchange(a, b)
    assert rows(a) == rows(b)
    assert len(rows(a)) == 6
    assert a.get_unresolved_conflicts() == b.get_unresolved_conflicts() == []
    edit(a, "INSERT INTO todos (title) VALUES ('next')")
    assert a.connection.execute("SELECT max(id) FROM todos").fetchone() == (4,)


def test_what_a_constraint_forbids_stays_open_and_the_rest_is_resolved(make: MakeEngine) -> None:
    a, b = make("a", UNIQUE, keys="natural"), make("b", UNIQUE, keys="natural")
    for engine in (a, b):
        edit(engine, "INSERT INTO todos VALUES (1, 'same', ?)", engine.path.name)
        edit(engine, "INSERT INTO todos VALUES (2, ?, 0)", engine.path.name)
    exchange(a, b)
    for engine in (a, b):
        found = engine.resolve_all(KeepBoth())
        assert [each.conflict.row_pk for each in found.resolved] == [{"id": 2}]
        assert [each.conflict.row_pk for each in found.deferred] == [{"id": 1}]
        assert "UNIQUE" in found.deferred[0].reason
        (conflict,) = engine.get_unresolved_conflicts()
        with pytest.raises(ConstraintError, match="UNIQUE"):
            engine.resolve(conflict, KeepBoth())
        assert engine.get_unresolved_conflicts() == [conflict]
    exchange(a, b)
    assert rows(a) == rows(b)
    assert len(rows(a)) == 3


def test_triggers_that_write_synced_tables_do_not_fire_for_a_kept_row(make: MakeEngine) -> None:
    schema = (
        "CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT); CREATE TABLE audit (id INTEGER PRIMARY KEY, what);"
        "CREATE TABLE cache (what); "
        "CREATE TRIGGER audits AFTER INSERT ON todos BEGIN INSERT INTO audit (what) VALUES (NEW.title); END; "
        "CREATE TRIGGER caches AFTER INSERT ON todos BEGIN INSERT INTO cache VALUES (NEW.title); END;"
    )
    a, b = (make(name, schema, ("todos", "audit")) for name in "ab")
    for engine in (a, b):
        edit(engine, "INSERT INTO todos VALUES ('k', ?)", engine.path.name)
        edit(engine, "UPDATE audit SET id = ?", os.getpid() + (engine is a))
    exchange(a, b)
    a.resolve_all(KeepBoth(), "todos")
    assert len(rows(a)) == 2
    assert len(rows(a, "audit")) == 2
    assert a.connection.execute("SELECT count(*) FROM cache").fetchone() == (2,)
    assert a.reconcile() == 0
    assert all(table.is_capturing for table in a.status().tables)


ORDERS = (
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT); "
    "CREATE TABLE items (id INTEGER PRIMARY KEY, order_id INTEGER REFERENCES orders ON DELETE CASCADE, what TEXT);"
    "CREATE TABLE lines (order_id INTEGER REFERENCES orders(id), line INTEGER, what TEXT, PRIMARY KEY (order_id, line));"
    "CREATE TABLE tree (id TEXT PRIMARY KEY, parent TEXT REFERENCES tree, what TEXT);"
)
ITEMS_BY_CUSTOMER = "SELECT customer, what FROM orders JOIN items ON order_id = orders.id ORDER BY what"
LINES_BY_CUSTOMER = "SELECT customer, what FROM orders JOIN lines ON order_id = orders.id ORDER BY what"
TREE = "SELECT p.what, c.what FROM tree AS c JOIN tree AS p ON p.id = c.parent ORDER BY c.what"
SHOP = ("orders", "items", "lines", "tree")


def shops(make: MakeEngine, *, is_bob_first: bool = False) -> tuple[SyncEngine, SyncEngine]:
    """Make two devices that both have taken an order number 1, with items and lines of its own."""
    a, b = (make(name, ORDERS, SHOP, "natural") for name in "ab")
    customers = ((a, "Ada", 2), (b, "Bob", 3))
    for engine, name, count in reversed(customers) if is_bob_first else customers:
        edit(engine, "INSERT INTO orders (customer) VALUES (?)", name)
        for place in range(count):
            edit(engine, "INSERT INTO items (order_id, what) VALUES (1, ?)", f"{name} {place}")
            edit(engine, "INSERT INTO lines VALUES (1, ?, ?)", place, f"{name} {place}")
        edit(engine, "INSERT INTO tree VALUES ('top', NULL, ?)", name)
        edit(engine, "INSERT INTO tree VALUES ('under', 'top', ?)", f"{name} below")
        edit(engine, "INSERT INTO tree VALUES (?, 'top', ?)", name, f"{name} beside")
    return a, b


def assert_told_apart(engine: SyncEngine) -> None:
    everything = [("Ada", "Ada 0"), ("Ada", "Ada 1"), ("Bob", "Bob 0"), ("Bob", "Bob 1"), ("Bob", "Bob 2")]
    assert engine.connection.execute(ITEMS_BY_CUSTOMER).fetchall() == everything
    assert engine.connection.execute(LINES_BY_CUSTOMER).fetchall() == everything
    assert engine.connection.execute(TREE).fetchall() == [
        (name, f"{name} {where}") for name in ("Ada", "Bob") for where in ("below", "beside")
    ]
    assert engine.connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert engine.get_unresolved_conflicts() == []


@pytest.mark.parametrize("is_bob_first", [False, True])
def test_references_follow_the_version_that_they_meant(make: MakeEngine, *, is_bob_first: bool) -> None:
    a, b = shops(make, is_bob_first=is_bob_first)
    exchange(a, b)
    assert a.resolve_all(KeepBoth()).deferred == ()
    assert_told_apart(a)
    exchange(a, b)
    assert_told_apart(b)
    assert [rows(a, table) == rows(b, table) for table in SHOP] == [True] * 4


def test_references_carried_apart_agree(make: MakeEngine) -> None:
    a, b = shops(make)
    exchange(a, b)
    for engine in (a, b):
        engine.resolve_all(KeepBoth())
    exchange(a, b)
    assert_told_apart(a)
    assert_told_apart(b)
    assert [rows(a, table) == rows(b, table) for table in SHOP] == [True] * 4


def test_references_are_carried_by_an_import(make: MakeEngine, tmp_path: Path) -> None:
    a, b = shops(make)
    path = a.generate_bundle(b.device_id, tmp_path / "sent")
    assert path is not None
    assert b.import_bundle(path, resolver=KeepBoth()).deferred == ()
    assert_told_apart(b)
    send(b, a)
    assert_told_apart(a)


def test_a_conflict_whose_shown_row_is_carried_along_is_resolved_too(make: MakeEngine) -> None:
    """The order of one device is shown, and the item of the other."""
    a, b = (make(name, ORDERS, SHOP, "natural") for name in "ab")
    edit(b, "INSERT INTO orders (customer) VALUES ('Bob')")
    edit(a, "INSERT INTO orders (customer) VALUES ('Ada')")
    edit(a, "INSERT INTO items (order_id, what) VALUES (1, 'Ada 0')")
    edit(b, "INSERT INTO items (order_id, what) VALUES (1, 'Bob 0')")
    exchange(a, b)
    asked = a.get_unresolved_conflicts()
    for engine in (a, b):
        found = engine.resolve_all(KeepBoth())
        assert {each.conflict.conflict_id for each in found.resolved} == {each.conflict_id for each in asked}
    exchange(a, b)
    for engine in (a, b):
        assert engine.connection.execute(ITEMS_BY_CUSTOMER).fetchall() == [("Ada", "Ada 0"), ("Bob", "Bob 0")]
        assert engine.get_unresolved_conflicts() == []
    assert [rows(a, table) == rows(b, table) for table in SHOP] == [True] * 4


def test_a_reference_written_by_somebody_who_knew_both_stays(make: MakeEngine) -> None:
    a, b = shops(make)
    exchange(a, b)
    edit(b, "INSERT INTO items (order_id, what) VALUES (1, 'late')")
    shown = b.connection.execute("SELECT customer FROM orders").fetchone()
    b.resolve_all(KeepBoth(), "orders")
    query = "SELECT customer FROM orders JOIN items ON order_id = orders.id WHERE what = 'late'"
    assert b.connection.execute(query).fetchone() == shown


def test_a_decision_made_by_hand_may_keep_both_too(torn: tuple[SyncEngine, SyncEngine]) -> None:
    a, _ = torn
    kept: Callable[[Dispute], TakeBoth] = lambda one: TakeBoth(  # noqa: E731
        (Copy(one.remote.op_id, {"id": "mine", "title": "kept", "done": None}),)
    )
    (conflict,) = [each for each in a.get_unresolved_conflicts() if each.row_pk["id"] == "clash"]
    assert a.resolve(conflict, Callback(kept)) is not None
    assert edit_one(a, "mine") == ("kept", None)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("xy"), st.integers(0, 5)), min_size=2, max_size=14),
    st.sampled_from([each for each in ON_TODOS if not isinstance(each, Defer)]),
)
def test_three_devices_that_import_with_a_strategy_agree(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, str, int]], strategy: Strategy
) -> None:
    folder = tmp_path_factory.mktemp("devices")
    engines = [SyncEngine(folder / f"{name}.db") for name in "abc"]
    for engine in engines:
        engine.initialize()
        engine.connection.execute("CREATE TABLE todos (id TEXT PRIMARY KEY, title, done INTEGER)")
        engine.enable_sync_for_table("todos")
    for who, key, what in edits:
        engine = engines[who]
        match what:
            case 0:
                engine.connection.execute("DELETE FROM todos WHERE id = ?", (key,))
            case 1 | 2:
                engine.connection.execute("INSERT OR REPLACE INTO todos VALUES (?, ?, ?)", (key, what, who))
            case 3:
                engine.connection.execute("UPDATE todos SET title = ? WHERE id = ?", (who, key))
            case 4:
                engine.connection.execute("UPDATE todos SET done = done + 1 WHERE id = ?", (key,))
            case _:
                target = engines[(who + 1) % 3]
                path = engine.generate_bundle(target.device_id, folder / "sent")
                if path:
                    target.import_bundle(path, resolver=strategy)
    exchange(*engines)
    for engine in engines:
        engine.resolve_all(strategy)
    exchange(*engines)
    assert rows(engines[0]) == rows(engines[1]) == rows(engines[2])
    listed = [{one.conflict_id for one in engine.get_unresolved_conflicts()} for engine in engines]
    assert listed[0] == listed[1] == listed[2]
    for engine in engines:
        engine.close()


def test_nothing_to_resolve_is_an_empty_answer(pair: tuple[SyncEngine, SyncEngine]) -> None:
    assert pair[0].resolve_all(KeepBoth()) == Resolutions()
