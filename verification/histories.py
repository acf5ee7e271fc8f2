"""The promises about what devices hold after they wrote and exchanged bundles: 2 to 5, 7 and 8."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from hypothesis import strategies as st

from sqlite_sync import Conflict, GapError
from verification.compare import copied, difference, dump, exact_content, exact_image, plain, require_same_state
from verification.search import Search, require
from verification.steps import (
    KEYS,
    Arrive,
    Change,
    Dot,
    Image,
    Meet,
    Post,
    RowName,
    Send,
    Step,
    a_change,
    a_clock_change,
    a_misdelivery,
    a_post,
    a_resolution,
    a_send,
    an_arrival,
    histories,
)
from verification.witness import Witness, is_known, versions
from verification.world import Device, Parcel, World

first_rows = histories(a_change, most=3, least=0)

# --- 2 ------------------------------------------------------------------------------------------------------------


def causal_consistency(search: Search) -> None:
    """Deliver bundles anywhere, in any order, or never: no device knows or shows what follows an unknown operation."""

    def claim(history: list[Step]) -> None:
        with World(3, search.tried) as world:
            witness = Witness(world)
            world.play([Change(0, "put", 0, (1, 1)), Meet(0, 1)])  # bundles between them now start after this
            arrived: set[tuple[Path, int]] = set()
            for step in history:
                if not isinstance(step, Arrive):
                    world.step(step)
                elif world.parcels:
                    parcel = world.parcels[step.place % len(world.parcels)]
                    target = world.devices[parcel.target if step.instead is None else step.instead]
                    if target.number != parcel.source and (parcel.path, target.number) not in arrived:
                        arrived.add((parcel.path, target.number))
                        _deliver_anywhere(world, parcel, target)
                        _require_causes(world, witness, target)
            for device in world.devices:
                _require_causes(world, witness, device)
                _require_contexts(world, device)

    search.run(claim, history=histories(a_change, a_post, _two_meet, a_misdelivery, a_misdelivery, a_post, most=16))


def _two_meet(_: int, __: int, ___: int) -> Step:
    return Meet(0, 1)  # while the third is away


def _deliver_anywhere(world: World, parcel: Parcel, target: Device) -> None:
    is_gap = any(target.clock.get(device, 0) < low for device, low in parcel.starts.items())
    before = dump(target.path)
    try:
        world.deliver(parcel, target)
    except GapError:
        world.tried["gaps refused"] += 1
        require(is_gap, "a bundle was refused though nothing is missing before it")
        require(dump(target.path) == before, "a bundle was refused for a gap, but changed something")
    else:
        require(not is_gap, f"device {target.number} took in a bundle though operations before it are missing")


def _require_causes(world: World, witness: Witness, device: Device) -> None:
    known = {operation.op_id for operation in device.engine.operations()}
    require(known == {write.op_id for write in world.known(device)}, f"device {device.number} holds other operations")
    for write in world.known(device):
        lacking = [d for d, seq in write.context.items() if seq > device.clock.get(d, 0)]
        require(not lacking, f"device {device.number} has {write} before what its author had seen")
    for image in device.content().values():
        for value in image.values():
            if value in witness.written:
                dot = witness.written[value][2]
                require(is_known(dot, device.clock), f"device {device.number} shows {value!r} before it knows it")


def _require_contexts(world: World, device: Device) -> None:
    """Compare the contexts that the file keeps (SPEC.md, section 3) with what the authors had seen."""
    with plain(device.path) as connection:
        entries = connection.execute(
            "SELECT d.device_id, k.device_id, c.seq, c.known_seq FROM sync_contexts AS c "
            "JOIN sync_devices AS d USING (ordinal) JOIN sync_devices AS k ON c.known_ordinal = k.ordinal ORDER BY 3"
        ).fetchall()
    for write in world.known(device):
        kept = {known: most for author, known, seq, most in entries if author == write.device and seq <= write.seq}
        require(kept == write.context, f"device {device.number} keeps another context for {write}: {kept}")


# --- 3 ------------------------------------------------------------------------------------------------------------


def deterministic_order(search: Search) -> None:
    """Let operations reach devices in different orders, under clocks that jump: all list them alike, causes first."""

    def claim(history: list[Step]) -> None:
        with World(3, search.tried) as world:
            world.play(history)
            world.meet()
            everything = sorted(world.writes.values(), key=lambda write: (write.hlc, write.device, write.seq))
            for place, write in enumerate(everything):
                early = next((one for one in everything[:place] if write.happened_before(one)), None)
                require(early is None, f"{early} is listed before {write}, which its author had seen")
            for device in world.devices:
                expected = [write.op_id for write in everything if write.seq <= device.clock.get(write.device, 0)]
                found = [operation.op_id for operation in device.engine.operations()]
                require(found == expected, f"device {device.number} lists its operations in another order")

    search.run(claim, history=histories(a_change, a_change, a_send, a_clock_change, a_resolution, most=16))


# --- 4 ------------------------------------------------------------------------------------------------------------


def explicit_conflicts(search: Search) -> None:
    """Let devices write to the same rows: what no other superseded is in the table or in a conflict, whole."""

    def claim(first: list[Change], history: list[Step]) -> None:
        with World(3, search.tried, first) as world:
            world.play(history)
            for device in world.devices:
                conflicts, content = device.conflicts(), device.content()
                for name, row in world.model.rows(device.clock, KEYS):
                    outcomes = {exact_image(row.images[op_id]) for op_id in row.heads}
                    _require_outcomes(device, outcomes, conflicts.pop(name, []), content.pop(name, None), name)
                    search.tried["conflicts"] += len(outcomes) - 1
                require(not conflicts and not content, f"device {device.number} shows what nobody wrote")

    search.run(claim, first=first_rows, history=histories(a_change, a_change, a_send, a_post, an_arrival, a_resolution))


def _require_outcomes(
    device: Device, outcomes: Collection[object], found: Sequence[Conflict], shown: Image, name: RowName
) -> None:
    where = f"device {device.number}, {name}"
    require(exact_image(shown) in outcomes, f"{where}: the table shows {shown}, which nobody wrote so")
    recorded: set[object] = {exact_image(shown)}
    for conflict in found:
        images = device.engine.images(conflict)
        require(exact_image(images.local) == exact_image(shown), f"{where}: a conflict's local version is not shown")
        recorded.add(exact_image(images.remote))
    require(recorded == set(outcomes), f"{where}: recorded are {recorded}, but unsuperseded are {outcomes}")
    require(len({one.conflict_id for one in found}) == len(found), f"{where}: a conflict is listed twice")
    require(bool(found) == (len(outcomes) > 1), f"{where}: equal outcomes are listed as a conflict")


# --- 5 ------------------------------------------------------------------------------------------------------------


def idempotent_import(search: Search) -> None:
    """Import bundles that overlap in any order, again and again: the same as the last of each source, once."""

    def claim(history: list[Step], order: bytes, again: bytes) -> None:
        with World(3, search.tried) as world:
            world.play([Change(0, "put", 0, (1, 1)), *history])  # the third only sends: all it gets is in the post
            parcels = [*world.parcels, *filter(None, [_posted(world, source) for source in (0, 1)])]
            target = world.devices[2]
            target.engine.close()
            once = _copy(target, world.folder / "once.db")
            often = _copy(target, world.folder / "often.db")
            target.open()
            with once.engine, often.engine:
                for parcel in _last_of_each(parcels):
                    once.engine.import_bundle(parcel.path)
                arriving = [parcels[place % len(parcels)] for place in [*order, *range(len(parcels)), *again]]
                _import_all(search, often, arriving)
                require_same_state(once.engine, often.engine, "imported in pieces, and again")

    places = st.binary(max_size=4)
    search.run(
        claim, history=histories(a_change, a_change, _post_to_third, _send_between, most=14), order=places, again=places
    )


def _post_to_third(source: int, _: int, __: int) -> Step:
    return Post(source % 2, 2)


def _send_between(_: int, pair: int, __: int) -> Step:
    return Send(*[(0, 1), (1, 0), (2, 0), (2, 1)][pair % 4])


def _posted(world: World, source: int) -> Parcel | None:
    return world.post(world.devices[source], world.devices[2])


def _copy(device: Device, path: Path) -> Device:
    copied(device.path, path)
    return Device(device.number, path, device.now_ms).open()


def _last_of_each(parcels: Sequence[Parcel]) -> list[Parcel]:
    return list({parcel.source: parcel for parcel in parcels}.values())


def _import_all(search: Search, device: Device, parcels: Sequence[Parcel]) -> None:
    imported: set[Path] = set()
    for parcel in parcels:
        before = dump(device.path) if parcel.path in imported else {}
        result = device.engine.import_bundle(parcel.path)
        search.tried["imports"] += 1
        require(result.skipped == (parcel.path in imported), f"skipped is {result.skipped}")
        if result.skipped:
            search.tried["repeats"] += 1
            changed = difference(before, dump(device.path))
            require(not changed, f"the second import of a bundle changed {changed}")
        imported.add(parcel.path)


# --- 7 ------------------------------------------------------------------------------------------------------------


def no_lost_update(search: Search) -> None:
    """Follow every written cell and every delete: in the row, superseded by one who saw it there, or in a conflict."""

    def claim(history: list[Step]) -> None:
        with World(3, search.tried) as world:
            witness = Witness(world)
            world.play(history)
            for device in world.devices:
                _require_cells(world, witness, device)
                require(not (lost := next(world.model.lost(device.clock), None)), f"device {device.number}: {lost}")

    search.run(claim, history=histories(a_change, a_change, a_change, a_send, a_send, a_post, an_arrival, a_resolution))


def _require_cells(world: World, witness: Witness, device: Device) -> None:
    conflicts, content = device.conflicts(), device.content()
    open_images = {name: versions(device, found)[0] for name, found in conflicts.items()}

    def is_superseded(by: Sequence[Dot]) -> bool:
        return any(is_known(dot, device.clock) for dot in by)

    for value, (name, column, dot) in witness.written.items():
        if is_known(dot, device.clock) and not is_superseded(witness.superseded_by.get(value, ())):
            world.tried["cells followed"] += 1
            images = [content.get(name), *open_images.get(name, ())]
            found = any(image and image[column] == value for image in images)
            require(found, f"device {device.number} has {value!r} of {name} neither in its row nor in a conflict")
    for delete in witness.deletes:
        if is_known(delete.dot, device.clock) and not is_superseded(delete.superseded_by):
            world.tried["deletes followed"] += 1
            found = delete.row not in content or None in open_images.get(delete.row, ())
            require(found, f"device {device.number} shows {delete.row} again, and the delete is in no conflict")


# --- 8 ------------------------------------------------------------------------------------------------------------


def agreement(search: Search) -> None:
    """Let bundles travel late and in any order, then meet: all hold the same, and what the oracle says."""

    def claim(first: list[Change], history: list[Step]) -> None:
        with World(3, search.tried, first) as world:
            world.play(history)
            world.meet()
            hub, *others = world.devices
            for device in others:
                require_same_state(hub.engine, device.engine, f"on the devices 0 and {device.number}")
            _require_as_the_oracle_says(world, hub)

    search.run(
        claim,
        first=first_rows,
        history=histories(
            a_change, a_change, a_change, a_send, a_post, an_arrival, a_resolution, a_clock_change, most=16
        ),
    )


def _require_as_the_oracle_says(world: World, device: Device) -> None:
    rows = dict(world.model.rows(device.clock, KEYS))
    content = exact_content({name: row.image for name, row in rows.items()})
    require(exact_content(device.content()) == content, f"the content is no function of the operations: {content}")
    expected = {
        (clash.conflict_id, clash.kind, clash.local, clash.remote) for row in rows.values() for clash in row.conflicts
    }
    conflicts = [conflict for found in device.conflicts().values() for conflict in found]
    listed = {(one.conflict_id, one.kind, one.local_op_id, one.remote_op_id) for one in conflicts}
    require(listed == expected, f"the conflicts are no function of the operations: {listed}, {expected}")
