"""Any number of devices over one shared folder; what does not belong there, gets lost or never comes."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from conftest import MakeEngine, exchange, rows, send, tick
from sqlite_sync import BundleError, DeviceError, FolderResult, StateError, SyncEngine, folder
from sqlite_sync.folder import FileNote


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


def add(engine: SyncEngine, *ids: str) -> None:
    for row_id in ids:
        engine.connection.execute(
            "INSERT INTO todos (id, title) VALUES (?, ?)", (row_id, f"{row_id} of {engine.path.stem}")
        )


def retitle(engine: SyncEngine, row_id: str, title: str) -> None:
    assert engine.connection.execute("UPDATE todos SET title = ? WHERE id = ?", (title, row_id)).rowcount == 1


def visit(stick: Path, *engines: SyncEngine) -> None:
    for engine in engines:
        engine.sync_folder(stick)


def own(stick: Path, engine: SyncEngine) -> Path:
    """Return the subfolder of a device."""
    return stick / engine.device_id.hex()


def files(stick: Path, engine: SyncEngine) -> list[Path]:
    return sorted(own(stick, engine).iterdir())


def everything(folder: Path) -> dict[str, bytes | None]:
    """Return all that lies in a folder, to the byte."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def reasons(notes: Iterable[FileNote]) -> dict[str, str]:
    return {note.path.name: note.reason for note in notes}


def is_quiet(result: FolderResult) -> bool:
    """Tell whether a visit did nothing and had nothing to say."""
    return not any((result.imported, result.written, result.removed, result.waiting, result.refused, result.ignored))


def agree(*engines: SyncEngine) -> bool:
    """Tell whether all hold the same operations, rows, and conflicts with the same three versions."""
    first, *others = [
        (
            engine.get_vector_clock(),
            rows(engine),
            [(conflict, engine.images(conflict)) for conflict in engine.get_unresolved_conflicts()],
            [operation.op_id for operation in engine.operations()],
        )
        for engine in engines
    ]
    return all(other == first for other in others)


@pytest.mark.parametrize("seed", range(2))
def test_five_devices_over_one_folder_end_with_the_same_database_and_conflicts(
    make: MakeEngine, stick: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311
    engines = [make(name) for name in "abcde"]
    for engine in engines:
        engine.connection.execute("PRAGMA synchronous = OFF")  # for 40 visits
    add(engines[0], "shared", "deleted")
    visit(stick, *engines, *engines)
    for turn in range(3):
        for engine in chance.sample(engines, 5):
            add(engine, f"{turn}-{engine.path.stem}")
            retitle(engine, "shared", f"{turn}, {engine.path.stem}")
            visit(stick, *chance.sample([engine], chance.randint(0, 1)))
    engines[1].connection.execute("DELETE FROM todos WHERE id = 'deleted'")
    retitle(engines[2], "deleted", "edited meanwhile")

    visit(stick, *chance.sample(engines, 5), *chance.sample(engines, 5))

    assert agree(*engines)
    assert len(rows(engines[0])) == 2 + 3 * 5
    assert {conflict.row_pk["id"] for conflict in engines[0].get_unresolved_conflicts()} == {"shared", "deleted"}
    while conflicts := engines[3].get_unresolved_conflicts():
        engines[3].resolve(conflicts[0], "remote")
    visit(stick, engines[3], *engines)
    assert agree(*engines)
    assert engines[0].get_unresolved_conflicts() == []


def test_three_devices_in_a_line_agree_though_the_ends_never_meet(make: MakeEngine) -> None:
    a, b, c = (make(name) for name in "abc")
    add(a, "shared", "from a")
    exchange(a, b)
    exchange(b, c)
    retitle(a, "shared", "the left end")
    retitle(c, "shared", "the right end")
    add(b, "from b")
    add(c, "from c")

    exchange(a, b)
    exchange(b, c)
    exchange(a, b)

    assert agree(a, b, c)
    (conflict,) = a.get_unresolved_conflicts()
    assert conflict.row_pk == {"id": "shared"}
    a.resolve(conflict, {"title": "the middle"})
    exchange(a, b)
    exchange(b, c)
    assert agree(a, b, c)
    assert c.get_unresolved_conflicts() == []


def test_two_devices_meet_by_two_visits_each(pair: tuple[SyncEngine, SyncEngine], stick: Path) -> None:
    a, b = pair
    add(a, "1")
    add(b, "2")

    alone = a.sync_folder(stick)
    met = b.sync_folder(stick)
    back = a.sync_folder(stick)

    assert alone.written is not None
    assert (alone.imported, alone.written.parent, alone.members) == ((), own(stick, a), (a.device_id,))
    assert [result.applied_count for result in met.imported] == [1]
    assert [result.applied_count for result in back.imported] == [1]
    assert met.members == back.members == tuple(sorted((a.device_id, b.device_id)))
    assert agree(a, b)


def test_nothing_new_writes_nothing(make: MakeEngine, stick: Path) -> None:
    engines = [make(name) for name in "abc"]
    for engine in engines:
        add(engine, engine.path.stem)
    visit(stick, *engines, *engines, *engines)
    before = everything(stick)

    results = [engine.sync_folder(stick) for engine in (*engines, *engines)]

    assert all(map(is_quiet, results))
    assert everything(stick) == before


def test_a_visit_without_anything_to_tell_says_once_that_one_is_there(make: MakeEngine, stick: Path) -> None:
    engine = make("a")
    assert engine.sync_folder(stick).written is not None
    assert is_quiet(engine.sync_folder(stick))
    add(engine, "1")
    assert engine.sync_folder(stick).written is not None
    assert is_quiet(engine.sync_folder(stick))


def test_what_nobody_has_yet_is_one_file(make: MakeEngine, stick: Path) -> None:
    a, b = make("a"), make("b")
    visit(stick, a, b)
    for turn in range(4):
        add(a, str(turn))
        a.sync_folder(stick)
    assert len(files(stick, a)) == 1
    visit(stick, b, a)
    assert agree(a, b)


def test_own_files_go_when_all_have_acknowledged_them(
    make: MakeEngine, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_MOST_SENT_AGAIN", 0)  # as with many operations: each visit writes the new ones only
    a, b, c = (make(name) for name in "abc")
    visit(stick, a, b, c)
    for turn in range(4):
        add(a, str(turn))
        a.sync_folder(stick)
    carrying = files(stick, a)
    assert len(carrying) >= 4

    b.sync_folder(stick)
    one_has_them = a.sync_folder(stick)
    c.sync_folder(stick)
    all_have_them = a.sync_folder(stick)

    assert set(one_has_them.removed).isdisjoint(carrying)
    assert {path.parent for path in all_have_them.removed} == {own(stick, a)}
    visit(stick, a, b, c, a, b, c)
    assert [len(files(stick, engine)) for engine in (a, b, c)] == [1, 1, 1]
    assert agree(a, b, c)


def test_nobody_touches_the_files_of_another_device(make: MakeEngine, stick: Path) -> None:
    a, b, c = (make(name) for name in "abc")
    add(a, "1")
    for engine in (a, b, c, a, b, c):
        before = {other: everything(own(stick, other)) for other in (a, b, c) if own(stick, other).exists()}
        add(engine, f"{engine.path.stem}{len(rows(engine))}")
        engine.sync_folder(stick)
        assert all(everything(own(stick, other)) == before[other] for other in before if other is not engine)


def test_what_is_unfinished_foreign_empty_or_damaged_is_left_alone_and_named(
    pair: tuple[SyncEngine, SyncEngine], stick: Path
) -> None:
    a, b = pair
    add(a, "1")
    good = a.sync_folder(stick).written
    assert good is not None
    whole = good.read_bytes()
    strange = {
        "half.bundle.part": whole[:1000],
        f".{'0' * 32}.bundle.part": b"",
        "notes.txt": b"not ours",
        "empty.bundle": b"",
        "cut.bundle": whole[:-1],
        "longer.bundle": whole + b"\0",
        "flipped.bundle": whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
        "text.bundle": b"a letter to my aunt",
    }
    for name, data in strange.items():
        (good.parent / name).write_bytes(data)
    (good.parent / "folder.bundle").mkdir()
    (stick / "holiday.jpg").write_bytes(b"\xff\xd8")
    (stick / "Documents").mkdir()
    (stick / good.parent.name.upper().replace("0", "F")).mkdir()
    before = everything(stick)

    result = b.sync_folder(stick)

    assert [each.applied_count for each in result.imported] == [1]
    assert {name: data for name, data in everything(stick).items() if name in before} == before
    ignored, refused = reasons(result.ignored), reasons(result.refused)
    assert {"half.bundle.part": "unfinished", "notes.txt": "not a bundle"}.items() <= ignored.items()
    assert {"holiday.jpg", "Documents", "folder.bundle", f".{'0' * 32}.bundle.part"} <= ignored.keys()
    assert refused.keys() == {"empty.bundle", "cut.bundle", "longer.bundle", "flipped.bundle", "text.bundle"}
    assert "is empty" in refused["empty.bundle"]
    assert "is damaged" in refused["flipped.bundle"]
    assert "is not a bundle" in refused["text.bundle"]
    assert result.members == tuple(sorted((a.device_id, b.device_id)))
    assert agree(a, b)


def test_a_bundle_in_the_subfolder_of_another_device_is_refused_and_named(make: MakeEngine, stick: Path) -> None:
    a, b, c = (make(name) for name in "abc")
    add(a, "1")
    a.sync_folder(stick)
    c.sync_folder(stick)
    moved = own(stick, c) / "moved.bundle"
    files(stick, a)[0].rename(moved)
    data = moved.read_bytes()

    result = b.sync_folder(stick)

    assert a.device_id.hex() in reasons(result.refused)["moved.bundle"]
    assert moved.read_bytes() == data
    assert rows(b) == []
    a.sync_folder(stick)  # finds that its file is gone, and writes it again
    b.sync_folder(stick)
    assert rows(b) == rows(a)


def test_a_newcomer_gets_everything_though_all_was_cleaned_up(make: MakeEngine, stick: Path) -> None:
    a, b = make("a"), make("b")
    for turn in range(3):
        for engine in (a, b):
            add(engine, f"{engine.path.stem}{turn}")
            engine.sync_folder(stick)
    visit(stick, a, b, a, b)
    assert len(files(stick, a)) + len(files(stick, b)) == 2

    newcomer = make("c")
    first = newcomer.sync_folder(stick)
    assert first.waiting
    assert not first.refused
    b.sync_folder(stick)  # sees that somebody lacks everything
    second = newcomer.sync_folder(stick)

    assert not second.waiting
    assert agree(a, b, newcomer)
    add(newcomer, "new")
    visit(stick, newcomer, a, b, newcomer, a, b, newcomer)
    assert agree(a, b, newcomer)
    assert [len(files(stick, engine)) for engine in (a, b, newcomer)] == [1, 1, 1]


def test_a_lost_file_is_written_again(
    pair: tuple[SyncEngine, SyncEngine], stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_MOST_SENT_AGAIN", 0)
    a, b = pair
    visit(stick, a, b)
    add(a, "1")
    lost = a.sync_folder(stick).written
    assert lost is not None
    add(a, "2")
    a.sync_folder(stick)
    lost.unlink()

    gap = b.sync_folder(stick)
    assert [note.path for note in gap.waiting] == [
        path for path in files(stick, a) if path in {n.path for n in gap.waiting}
    ]
    assert gap.waiting
    assert "missing" in gap.waiting[0].reason
    assert rows(b) == []
    again = a.sync_folder(stick)
    healed = b.sync_folder(stick)

    assert again.written is not None
    assert not healed.waiting
    assert agree(a, b)


def test_a_lost_folder_is_filled_again(pair: tuple[SyncEngine, SyncEngine], stick: Path) -> None:
    a, b = pair
    for engine in (a, b, a):
        add(engine, f"{engine.path.stem}{len(rows(engine))}")
        engine.sync_folder(stick)
    shutil.rmtree(stick)
    stick.mkdir()
    add(b, "while the stick was lost")

    visit(stick, a, b, a)

    assert agree(a, b)


def test_a_device_that_never_comes_back_holds_up_nobody(make: MakeEngine, stick: Path) -> None:
    a, b, gone = (make(name) for name in "abc")
    add(gone, "its only row")
    visit(stick, gone, a, b)
    for turn in range(3):
        for engine in (a, b):
            add(engine, f"{engine.path.stem}{turn}")
            engine.sync_folder(stick)
    a.sync_folder(stick)
    b.sync_folder(stick)
    a.sync_folder(stick)
    assert agree(a, b)
    assert ("str", "its only row") in {row[0] for row in rows(a)}
    assert all(map(is_quiet, (a.sync_folder(stick), b.sync_folder(stick))))
    assert len(files(stick, a)) > 1  # what it lacks lies there for it

    shutil.rmtree(own(stick, gone))  # somebody decides that it is gone for good
    visit(stick, a, b, a, b)

    assert [len(files(stick, engine)) for engine in (a, b)] == [1, 1]


def test_a_device_that_comes_back_late_finds_what_it_lacks(make: MakeEngine, stick: Path) -> None:
    a, b, late = (make(name) for name in "abc")
    visit(stick, late, a, b)
    add(late, "written while away")
    for turn in range(3):
        for engine in (a, b):
            add(engine, f"{engine.path.stem}{turn}")
            engine.sync_folder(stick)

    visit(stick, late, a, b)

    assert agree(a, b, late)


def test_bundles_and_the_folder_may_be_mixed(pair: tuple[SyncEngine, SyncEngine], stick: Path) -> None:
    a, b = pair
    add(a, "1")
    a.sync_folder(stick)
    send(a, b)
    met = b.sync_folder(stick)
    assert sum(result.applied_count for result in met.imported) == 0
    add(b, "2")
    b.sync_folder(stick)
    send(b, a)
    a.sync_folder(stick)
    b.sync_folder(stick)
    assert agree(a, b)
    assert is_quiet(a.sync_folder(stick))


def test_a_copied_database_is_found_at_the_folder(make: MakeEngine, stick: Path, tmp_path: Path) -> None:
    a, b = make("a"), make("b")
    add(a, "1")
    a.sync_folder(stick)
    b.sync_folder(stick)
    shutil.copyfile(a.path, tmp_path / "copy.db")
    add(a, "2")
    a.sync_folder(stick)
    before = everything(stick)

    with SyncEngine(tmp_path / "copy.db") as copy:
        copy.initialize()
        add(copy, "3")
        with pytest.raises(DeviceError, match="renew_device"):
            copy.sync_folder(stick)
        assert everything(stick) == before
        copy.renew_device(files(stick, a)[-1])
        for engine in (copy, b, a, copy, b):
            engine.sync_folder(stick)
        assert agree(a, b, copy)
        assert {row[0][1] for row in rows(b)} == {"1", "2", "3"}


def test_rows_that_cannot_stand_together_stop_nothing(make: MakeEngine, stick: Path) -> None:
    schema = "CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT NOT NULL UNIQUE)"
    a, b, c = (make(name, schema) for name in "abc")
    for engine, title in ((a, "the same"), (c, "another"), (b, "the same")):
        tick()
        engine.connection.execute("INSERT INTO todos VALUES (?, ?)", (engine.path.stem, title))
    visit(stick, a, c, b, a, c)

    assert agree(a, b, c)
    assert {row[0][1] for row in rows(b)} == {"b", "c"}
    assert [conflict.kind for conflict in a.get_unresolved_conflicts()] == ["unique"]
    b.connection.execute("UPDATE todos SET title = 'b gives way' WHERE id = 'b'")
    visit(stick, b, a, c)
    assert agree(a, b, c)
    assert {row[0][1] for row in rows(a)} == {"a", "b", "c"}


def test_a_missing_folder_is_an_error_that_says_what_to_do(make: MakeEngine, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="create it, or plug the stick in"):
        make("a").sync_folder(tmp_path / "stick")
    assert not (tmp_path / "stick").exists()


def test_a_file_in_place_of_the_folder_is_an_error(make: MakeEngine, tmp_path: Path) -> None:
    (tmp_path / "stick").write_bytes(b"")
    with pytest.raises(BundleError):
        make("a").sync_folder(tmp_path / "stick")


def test_a_file_in_place_of_the_own_subfolder_is_an_error(make: MakeEngine, stick: Path) -> None:
    engine = make("a")
    own(stick, engine).write_bytes(b"")
    with pytest.raises(BundleError, match=engine.device_id.hex()):
        engine.sync_folder(stick)
    assert own(stick, engine).read_bytes() == b""


def test_a_folder_that_cannot_be_written_is_an_error(
    make: MakeEngine, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    engine = make("a")
    add(engine, "1")
    with monkeypatch.context() as patched:
        patched.setattr(os, "mkdir", refuse)  # where the tests run as root, permissions stop nobody
        with pytest.raises(BundleError, match="Permission denied"):
            engine.sync_folder(stick)
    engine.sync_folder(stick)
    add(engine, "2")
    before = everything(stick)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "touch", refuse)
        with pytest.raises(BundleError, match="Permission denied"):
            engine.sync_folder(stick)
    assert everything(stick) == before
    assert engine.sync_folder(stick).written is not None


def test_a_file_that_cannot_be_removed_now_is_removed_another_time(
    pair: tuple[SyncEngine, SyncEngine], stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    a, b = pair
    add(a, "1")
    visit(stick, a, b)
    old = files(stick, a)
    add(a, "2")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)  # a network share on which somebody is just reading it
        result = a.sync_folder(stick)
    assert (result.removed, files(stick, a)) == ((), [*old, result.written])
    assert a.sync_folder(stick).removed == tuple(old)


def test_an_open_transaction_is_an_error_before_the_folder_is_touched(make: MakeEngine, stick: Path) -> None:
    engine = make("a")
    engine.connection.execute("BEGIN")
    with pytest.raises(StateError, match="transaction"):
        engine.sync_folder(stick)
    assert everything(stick) == {}
