"""A guard that cannot fail is worthless: each check of `run_verification.py` must find the library sabotaged."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest

from sqlite_sync import (
    Conflict,
    Images,
    Operation,
    appender,
    bundle,
    capture,
    conflicts,
    contested,
    database,
    devices,
    forks,
    importer,
    log,
    peers,
    schema,
)
from sqlite_sync.operation import ordinal_of
from sqlite_sync.triggers import Renderer
from sqlite_sync.verdict import Verdict

ROOT = Path(__file__).parent.parent
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def verification() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_verification", ROOT / "run_verification.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@dataclass
class Runner:
    """Runs the checks in this process, where the library can be sabotaged."""

    module: ModuleType
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> tuple[int, str]:
        code = self.module.main(arguments)
        return code, self.capsys.readouterr().out

    def results(self, *arguments: str) -> tuple[int, dict[int, str]]:
        code, printed = self(*arguments, "--json")
        return code, {promise["number"]: promise["result"] for promise in json.loads(printed)["promises"]}


@pytest.fixture
def run(verification: ModuleType, capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(verification, capsys)


# --- sabotage -----------------------------------------------------------------------------------------------------


def let_the_log_be_changed(patch: Patch) -> None:
    law = schema.LAWS["sync_operations_no_update"]
    patch.setitem(schema.LAWS, "sync_operations_no_update", law.replace("SELECT RAISE(ABORT", "SELECT max(1"))


def take_in_bundles_with_gaps(patch: Patch) -> None:
    compare, require_same_history = importer._compare, devices.require_same_history

    def compare_blindly(db: database.Database, path: Path, header: bundle.Header) -> object:
        for device in header.devices:
            ordinal = log.ordinal_for(db, device.device_id)
            known = (device.from_seq, ordinal)
            db.execute("UPDATE sync_devices SET seq = max(seq, ?) WHERE ordinal = ? AND ordinal <> 0", known)
        return compare(db, path, header)

    def require_what_is_there(
        db: database.Database, incoming: devices.Incoming, device: bundle.DeviceRange, known: int, hlc: int
    ) -> None:
        if hlc:
            require_same_history(db, incoming, device, known, hlc)

    patch.setattr(importer, "_compare", compare_blindly)
    patch.setattr(devices, "require_same_history", require_what_is_there)


def list_operations_by_arrival(patch: Patch) -> None:
    in_order = log.operations

    def by_arrival(db: database.Database, table: str | None, since: Mapping[int, int]) -> Iterator[Operation]:
        ordinals = {device: ordinal for ordinal, device in log.device_ids(db).items()}
        yield from sorted(in_order(db, table, since), key=lambda one: (ordinals[one.device_id], one.seq))

    patch.setattr(log, "operations", by_arrival)


def merge_what_is_in_conflict(patch: Patch) -> None:
    images = conflicts.images

    def merged(db: database.Database, conflict: Conflict) -> Images:
        found = images(db, conflict)
        if found.base is None or found.local is None or found.remote is None:
            return found
        changed = {name: value for name, value in found.remote.items() if value != found.base[name]}
        return replace(found, remote={**found.local, **changed})

    patch.setattr(conflicts, "images", merged)


def forget_which_bundles_were_imported(patch: Patch) -> None:
    patch.setattr(peers, "was_imported", lambda *_: False)
    patch.setattr(peers, "imported", lambda *_: None)


def keep_part_of_the_bundle_in_another_file(patch: Patch) -> None:
    seal = bundle._seal

    def seal_and_scatter(path: Path) -> None:
        seal(path)
        shutil.copy(path, path.parent / "the rest of the bundle")

    patch.setattr(bundle, "_seal", seal_and_scatter)


def forget_the_base_of_edits(patch: Patch) -> None:
    patch.setattr(capture, "Renderer", lambda table, _: Renderer(table, is_contested=False))


def show_the_own_version(patch: Patch) -> None:
    judge = contested.judge

    def judge_selfishly(*arguments: object, **options: object) -> Verdict:
        verdict: Verdict = judge(*arguments, **options)  # type: ignore[arg-type]
        heads = [*verdict.others, verdict.shown]
        own = [head for head in heads if ordinal_of(head.dot) == 0 and verdict.images[head.dot] is not None]
        shown = own[-1] if own else verdict.shown
        others = tuple(head for head in heads if head is not shown)
        return verdict._replace(shown=shown, image=verdict.images[shown.dot], others=others)

    patch.setattr(contested, "judge", judge_selfishly)
    patch.setattr(forks, "judge", judge_selfishly)


def miss_changes_of_keys(patch: Patch) -> None:
    render = Renderer.render

    def render_without_rekey(self: Renderer) -> dict[str, str]:
        return {name: sql for name, sql in render(self).items() if "rekey" not in name}

    patch.setattr(Renderer, "render", render_without_rekey)


def commit_halfway(patch: Patch) -> None:
    append = appender.append

    def append_and_commit(db: database.Database, *rest: object) -> None:
        append(db, *rest)  # type: ignore[arg-type]
        db.execute("COMMIT")
        db.execute("BEGIN IMMEDIATE")

    patch.setattr(appender, "append", append_and_commit)


def trust_the_digest(patch: Patch) -> None:
    def copy_all_but_the_trailer(path: Path, copy: Path | None) -> bytes:
        whole = path.read_bytes()
        if copy:
            copy.write_bytes(whole[: -bundle.TRAILER_BYTES])
        return whole[-32:]

    patch.setattr(bundle, "copy_verified", copy_all_but_the_trailer)


def overlook_copies(patch: Patch) -> None:
    for name in ("require_own_history", "require_same_history"):
        patch.setattr(devices, name, lambda *_: None)


SABOTAGE: list[tuple[int, Callable[[Patch], None]]] = [
    (1, let_the_log_be_changed),
    (2, take_in_bundles_with_gaps),
    (3, list_operations_by_arrival),
    (4, merge_what_is_in_conflict),
    (5, forget_which_bundles_were_imported),
    (6, keep_part_of_the_bundle_in_another_file),
    (7, forget_the_base_of_edits),
    (8, show_the_own_version),
    (9, miss_changes_of_keys),
    (10, commit_halfway),
    (11, trust_the_digest),
    (12, overlook_copies),
]


@pytest.mark.parametrize(("number", "sabotage"), SABOTAGE, ids=[sabotage.__name__ for _, sabotage in SABOTAGE])
def test_a_broken_promise_is_found_and_no_other(
    number: int, sabotage: Callable[[Patch], None], run: Runner, monkeypatch: Patch
) -> None:
    sabotage(monkeypatch)
    others = ",".join(str(other) for other, _ in SABOTAGE if other != number)

    assert run.results("--only", str(number), "--examples", "60", "--no-shrink") == (1, {number: "FAIL"})

    code, results = run.results("--only", others, "--examples", "2", "--no-shrink")
    assert {other for other, result in results.items() if result == "FAIL"} == set()
    assert code == 0


def test_every_promise_has_its_sabotage(verification: ModuleType) -> None:
    numbers = [promise.number for promise in verification.read_promises()]
    assert numbers == list(verification.CHECKS) == [number for number, _ in SABOTAGE]


# --- what is reported ---------------------------------------------------------------------------------------------


def test_all_promises_hold_and_so_says_the_machine(run: Runner) -> None:
    code, printed = run("--examples", "4", "--seed", "1", "--json")
    found = json.loads(printed)
    assert code == 0
    assert {promise["result"] for promise in found["promises"]} == {"PASS", "PARTLY"}
    assert (found["machine"]["result"], found["machine"]["tried"]["histories"]) == ("PASS", 2)


def test_the_shortest_example_is_printed(run: Runner, monkeypatch: Patch) -> None:
    let_the_log_be_changed(monkeypatch)
    code, printed = run("--only", "1", "--examples", "20")
    assert code == 1
    assert "FAIL" in printed
    assert "broken: the database did not refuse: UPDATE" in printed
    assert "shortest example:\n        {'history': []," in printed


def test_a_line_says_what_was_tried(run: Runner) -> None:
    code, printed = run("--only", "3", "--examples", "4")
    assert code == 0
    assert " 3  Deterministic order" in printed
    assert "4 histories" in printed
    assert "operations" in printed
    assert "PASS: 3; PARTLY: none; FAIL: none; not yet checked: none" in printed


def test_a_promise_without_a_check_is_never_passed(run: Runner, verification: ModuleType, monkeypatch: Patch) -> None:
    monkeypatch.delitem(verification.CHECKS, 7)
    assert run.results("--only", "7") == (0, {7: "not yet checked"})


def test_a_promise_that_is_kept_in_part_is_never_passed(
    run: Runner, verification: ModuleType, monkeypatch: Patch
) -> None:
    promises = [replace(promise, state="kept, except on Mondays") for promise in verification.read_promises()]
    monkeypatch.setattr(verification, "read_promises", lambda: promises)
    code, printed = run("--only", "3", "--examples", "1")
    assert code == 0
    assert "PARTLY, kept, except on Mondays" in printed
    assert "PASS: none; PARTLY: 3" in printed


def test_a_check_that_crashes_is_no_pass(run: Runner, verification: ModuleType, monkeypatch: Patch) -> None:
    monkeypatch.setitem(verification.CHECKS, 3, lambda _: 1 // 0)
    code, printed = run("--only", "3")
    assert code == 1
    assert "ZeroDivisionError" in printed


def test_what_is_not_promised_is_named(run: Runner, verification: ModuleType) -> None:
    _, printed = run("--only", "3", "--examples", "1")
    assert verification.read_exceptions()
    for exception in verification.read_exceptions():
        assert exception in " ".join(printed.split())


def test_it_runs_as_a_script_from_anywhere(tmp_path: Path) -> None:
    def script(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "run_verification.py"), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    held = script("--only", "1,3", "--examples", "1", "--seed", "5")
    assert (held.returncode, held.stderr) == (0, "")
    assert "seed 5" in held.stdout
    assert list(tmp_path.iterdir()) == []
    unknown = script("--only", "77")
    assert unknown.returncode == 2
    assert "there is no promise 77" in unknown.stderr
