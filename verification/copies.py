"""Promise 12: a copied or restored file cannot corrupt its peers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from sqlite_sync import DeviceError
from verification.compare import copied, dump, exact_image, require_same_state
from verification.search import Search, fail, require
from verification.steps import (
    CLOCKS,
    ROWS,
    Change,
    Image,
    RowName,
    Send,
    Step,
    a_change,
    a_clock_change,
    a_resolution,
    a_send,
    histories,
    row_name,
    statement,
)
from verification.witness import versions
from verification.world import Device, World


def copied_files(search: Search) -> None:
    """Copy a database, let both go on and meet a peer: the second is refused, renewed, and then all agree."""

    def claim(shared: list[Step], since: Since, clocks: tuple[int, int], *, own_first: bool) -> None:
        with World(2, search.tried) as world:
            world.play([Change(0, "put", 0, (1, 2)), *shared, Send(0, 1), Send(1, 0)])
            search.tried["copies"] += 1
            trio = _copy_goes_on(world, clocks, since)
            found = trio.detect()
            if found:
                search.tried["forks detected"] += 1
                trio.remedy(*found, own_first=own_first)
            trio.require_agreement()

    few = histories(a_change, most=3, least=0)
    search.run(
        claim,
        examples=search.part(2),
        shared=histories(a_change, a_send, a_clock_change, a_resolution, most=8),
        since=st.builds(Since, few, few, few),
        clocks=st.tuples(st.sampled_from(CLOCKS), st.sampled_from(CLOCKS)),
        own_first=st.booleans(),
    )


@dataclass(frozen=True)
class Since:
    """What was written since there is a copy: on the original, on the copy, and on their peer."""

    original: Sequence[Change]
    copy: Sequence[Change]
    peer: Sequence[Change]


@dataclass
class Trio:
    """An original, its copy, and a peer that met the original last; and what both wrote since they are two."""

    folder: Path
    original: Device
    copy: Device
    peer: Device
    wrote: tuple[list[str], list[str]]
    images: list[tuple[RowName, Image]]

    def detect(self) -> tuple[Device, Path, Path] | None:
        """Let them meet: two histories under one id must be refused, one must not. Return who needs the remedy."""
        ours, theirs = self.wrote
        of_copy, of_peer = self._bundle(self.copy, self.peer), self._bundle(self.peer, self.copy)
        if ours == theirs[: len(ours)]:  # the peer takes the copy for the same device, which went on
            self.peer.engine.import_bundle(of_copy)
            if len(theirs) > len(ours):
                self._require_refused(self.original, of_copy, "the copy's bundle at the original")
                again = self._bundle(self.peer, self.original)
                self._require_refused(self.original, again, "what the copy wrote, at the original")
                return self.original, again, self._bundle(self.original, self.peer)
            return None
        if theirs != ours[: len(theirs)]:
            self._require_refused(self.peer, of_copy, "the copy's bundle at the peer")
            self._require_refused(self.original, of_copy, "the copy's bundle at the original")
        self._require_refused(self.copy, of_peer, "what the original wrote, at the copy")
        return self.copy, of_peer, of_copy

    def remedy(self, device: Device, refused: Path, own: Path, *, own_first: bool) -> None:
        """Renew the device that was refused; perhaps try first with the wrong one of the two bundles, its own.

        The bundle may start after the histories parted, and not show where they did; one of everything does.
        """
        former = device.engine.device_id
        everything = self.folder / "everything.bundle"
        self.peer.engine.generate_bundle(bytes(range(16)), everything)
        for bundle in [*([own] if own_first else []), refused, everything]:
            before = dump(device.path)
            try:
                device.engine.renew_device(bundle)
            except DeviceError:
                require(dump(device.path) == before, "renew_device refused a bundle, but changed something")
            else:
                require(device.engine.device_id != former, "renew_device kept the device id")
                return
        fail("there is no remedy: renew_device refuses every bundle")

    def require_agreement(self) -> None:
        """Let all meet: they agree, and what both wrote is in its row or in a conflict."""
        devices = [self.original, self.copy, self.peer]
        if self.original.engine.device_id == self.copy.engine.device_id:
            # the copy was restored in place of the original, which had written no more
            devices = [self.copy, self.peer]
        for source in [*devices, *devices]:
            for target in devices:
                if source is not target:
                    target.engine.import_bundle(self._bundle(source, target))
        for other in devices[1:]:
            require_same_state(devices[0].engine, other.engine, "after the remedy")
        conflicts, content = devices[0].conflicts(), devices[0].content()
        for name, image in self.images:
            kept = [content.get(name), *versions(devices[0], conflicts.get(name, ()))[0]]
            require(
                exact_image(image) in map(exact_image, kept), f"{image} of {name} is neither shown nor in a conflict"
            )

    def _bundle(self, source: Device, target: Device) -> Path:
        path = self.folder / f"{source.number}-{target.number}.bundle"
        peer = target.engine.device_id
        if peer == source.engine.device_id:
            peer = self.peer.engine.device_id
        source.engine.generate_bundle(peer, path, acknowledge=True)
        return path

    def _require_refused(self, device: Device, bundle: Path, what: str) -> None:
        before = dump(device.path)
        try:
            device.engine.import_bundle(bundle)
        except DeviceError:
            require(dump(device.path) == before, f"{what} was refused, but changed something")
        else:
            fail(f"{what} was taken in: two histories go on under one device id, unseen")


def _copy_goes_on(world: World, clocks: tuple[int, int], since: Since) -> Trio:
    original, peer = world.devices
    original.engine.close()
    copy = Device(2, copied(original.path, world.folder / "copy.db")).open()
    world.devices.append(copy)
    original.open()
    original.now_ms, copy.now_ms = clocks
    then = original.engine.get_vector_clock()
    images = _write(original, since.original) + _write(copy, since.copy)
    wrote = [list(map(repr, device.engine.operations(since=then))) for device in (original, copy)]
    _write(peer, since.peer)
    for pair in ((0, 1), (1, 0), (0, 1)):
        world.step(Send(*pair))
    return Trio(world.folder, original, copy, peer, (wrote[0], wrote[1]), images)


def _write(device: Device, changes: Sequence[Change]) -> list[tuple[RowName, Image]]:
    """Run these statements; return what they made of their rows."""
    touched = set()
    for change in changes:
        seq = device.engine.get_vector_clock().get(device.engine.device_id, 0)
        device.engine.connection.execute(*statement(change))
        if device.engine.get_vector_clock().get(device.engine.device_id, 0) > seq:
            touched.add(row_name(*ROWS[change.row]))
    device.conflicts()
    content = device.content()
    return [(name, content.get(name)) for name in sorted(touched)]
