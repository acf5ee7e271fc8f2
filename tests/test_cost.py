"""Nothing grows dearer unseen: counts against a record, and straight lines, whatever else the machine does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import costs
from conftest import set_clock
from costs import FLOWS, SHAPES, Cost, bundle, carry, delete, device, flow_costs, insert, update
from counting import counted, watched
from sqlite_sync import SyncEngine

SLACK = 1.05
ELSEWHERE = 1.15  # another SQLite compiles a statement to another program, another Python enters other functions
STILL_NONE = 0.1


def grown(recorded: costs.Costs, found: costs.Costs, versions: tuple[bool, bool]) -> list[str]:
    """Say what is above its record; `versions` tells whether SQLite and Python are those of the record."""
    is_same = Cost(steps=versions[0], statements=True, calls=versions[1], bytes=versions[0])
    said = []
    for name, cost in found.items():
        for what, ceiling, now, same in zip(Cost._fields, recorded.get(name, Cost()), cost, is_same, strict=True):
            if now is not None and (ceiling is None or now > ceiling * (SLACK if same else ELSEWHERE) + STILL_NONE):
                said.append(f"{name}: {now:.2f} {what}, recorded {ceiling}")
    return said


def test_nothing_costs_more_than_recorded() -> None:
    versions, recorded = costs.read()
    found = costs.measured()
    sqlite, python = (then == now for then, now in zip(versions, costs.versions(), strict=True))
    assert grown(recorded, found, (sqlite, python)) == [], (
        f"grown beyond {costs.RECORD.name}; if what is gained is worth it, run `python tests/costs.py`, commit the record, "
        "and say why"
    )
    assert recorded.keys() == found.keys(), f"{costs.RECORD.name} lists other work: run `python tests/costs.py`"


@pytest.mark.parametrize(("now", "is_said"), [(100, False), (104.9, False), (105.2, True), (50, False), (200, True)])
def test_what_is_above_its_record_is_named(now: float, is_said: bool) -> None:
    said = grown({"import": Cost(steps=100)}, {"import": Cost(steps=now)}, (True, True))
    assert said == ([f"import: {now:.2f} steps, recorded 100"] if is_said else [])


def test_another_sqlite_has_more_slack() -> None:
    record, found = {"import": Cost(100, 100, 100)}, {"import": Cost(110, 100, 110)}
    assert grown(record, found, (False, False)) == []
    assert len(grown(record, found, (False, True))) == 1
    assert len(grown(record, found, (True, True))) == 2


def test_work_that_is_not_recorded_is_named() -> None:
    assert grown({}, {"import": Cost(steps=1)}, (True, True)) == ["import: 1.00 steps, recorded None"]


# --- straight lines -----------------------------------------------------------------------------------------------

FIVE = SHAPES["5 columns"]
FEW_PERCENT = 1.03


@pytest.fixture(autouse=True)
def _watching() -> Iterator[None]:
    with watched():
        yield


def steps(action: Callable[[], object]) -> int:
    return counted(action).steps


@pytest.mark.parametrize("flow", ["insert", "update", "delete", "insert, mapped key", "update that is a conflict"])
def test_a_long_history_costs_a_meeting_nothing(tmp_path: Path, flow: str) -> None:
    short, long = (flow_costs(tmp_path, FLOWS[flow], 100, before=history) for history in (1_000, 20_000))
    for verb, cost in long.items():
        assert cost.steps == pytest.approx(short[verb].steps, rel=0.03), verb
        assert cost.statements == pytest.approx(short[verb].statements, rel=0.03), verb
        assert cost.calls == pytest.approx(short[verb].calls, rel=0.03), verb


@pytest.mark.parametrize("flow", FLOWS)
def test_a_meeting_costs_by_its_operations(tmp_path: Path, flow: str) -> None:
    few, more, most = (flow_costs(tmp_path, FLOWS[flow], count) for count in (200, 400, 800))
    for verb in few:
        first, second = more[verb].per(200, few[verb]), most[verb].per(400, more[verb])
        assert second.steps <= first.steps * FEW_PERCENT + STILL_NONE, verb
        assert second.statements <= first.statements * FEW_PERCENT + STILL_NONE, verb
        assert second.calls <= first.calls * FEW_PERCENT + STILL_NONE, verb


@pytest.mark.parametrize("verb", ["status", "capture", "list", "generate", "import"])
def test_a_long_history_costs_a_call_nothing(tmp_path: Path, verb: str) -> None:
    assert _steps_after(tmp_path, verb, 20_000) <= _steps_after(tmp_path, verb, 1_000) * FEW_PERCENT


def _steps_after(folder: Path, verb: str, history: int) -> int:
    with device(folder, "a", FIVE) as source, device(folder, "b", FIVE) as target:
        insert(source.connection, FIVE, range(101, history + 101))
        carry(source, target)
        path = bundle(source, target)
        actions = {
            "status": target.status,
            "capture": partial(insert, target.connection, FIVE, range(1, 101)),
            "list": target.get_unresolved_conflicts,
            "generate": partial(target.generate_bundle, source.device_id, folder / "none"),
            "import": partial(target.import_bundle, path),
        }
        return steps(actions[verb])


def test_known_devices_cost_a_straight_line(tmp_path: Path) -> None:
    few, more, most = (_with_devices(tmp_path, count) for count in (20, 40, 80))
    for verb in few:
        assert (most[verb] - more[verb]) / 40 <= (more[verb] - few[verb]) / 20 * FEW_PERCENT + 1, verb


def _with_devices(folder: Path, devices: int) -> dict[str, int]:
    with device(folder, "a", FIVE) as source, device(folder, "b", FIVE) as target:
        for i in range(devices):
            insert(source.connection, FIVE, range(i + 1, i + 2))
            source.renew_device()
        carry(source, target)
        insert(source.connection, FIVE, range(1_001, 1_101))
        path = source.path.with_suffix(".bundle")
        captured = partial(update, source.connection, FIVE, range(1_001, 1_101))
        return {
            "generate": steps(partial(bundle, source, target)),
            "import": steps(partial(target.import_bundle, path)),
            "status": steps(target.status),
            "capture": steps(captured),
        }


def test_open_conflicts_cost_a_straight_line(tmp_path: Path) -> None:
    few, more, most = (_beside_conflicts(tmp_path, count) for count in (100, 200, 400))
    for verb in few:
        assert (most[verb] - more[verb]) / 200 <= (more[verb] - few[verb]) / 100 * FEW_PERCENT + 0.5, verb
    assert most["capture"] <= few["capture"] * FEW_PERCENT


def _beside_conflicts(folder: Path, conflicts: int) -> dict[str, int]:
    with device(folder, "a", FIVE) as source, device(folder, "b", FIVE) as target:
        insert(source.connection, FIVE, range(1, 1_001))
        carry(source, target)
        for engine, value in ((source, -1), (target, -2)):
            set_clock(engine, 2**42 - value)  # else chance decides which is the later one
            update(engine.connection, FIVE, range(1, conflicts + 1), value)
        carry(source, target)
        captured = partial(update, target.connection, FIVE, range(501, 601), -3)
        found = {"capture": steps(captured)}
        carry(target, source)
        delete(source.connection, FIVE, range(901, 1_001))
        path = source.path.with_suffix(".bundle")
        return found | {
            "generate": steps(partial(bundle, source, target)),
            "import": steps(partial(target.import_bundle, path)),
            "list": steps(target.get_unresolved_conflicts),
            "status": steps(target.status),
        }


def test_a_table_is_enabled_and_reconciled_in_a_straight_line(tmp_path: Path) -> None:
    few, more, most = (_enabled(tmp_path, rows) for rows in (500, 1_000, 2_000))
    for verb in few:
        assert (most[verb] - more[verb]) / 1_000 <= (more[verb] - few[verb]) / 500 * FEW_PERCENT, verb


def _enabled(folder: Path, rows: int) -> dict[str, int]:
    path = folder / f"{rows}.db"
    with SyncEngine(path) as engine:
        engine.connection.execute(FIVE.schema)
        insert(engine.connection, FIVE, range(1, rows + 1))
        engine.initialize()
        enabled = steps(partial(engine.enable_sync_for_table, "t"))
        return {"enable": enabled, "reconcile": steps(engine.reconcile)}
