"""Logical time as values: the vector clock, and the bounds of the hybrid logical clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

MAX_SEQ = 2**40 - 1
MAX_HLC = 2**62 - 1
_HLC_COUNTER_BITS = 16


class VectorClock(Mapping[bytes, int]):
    """Device id -> how many of its operations are known: all up to that seq."""

    __slots__ = ("_seqs",)

    def __init__(self, seqs: Mapping[bytes, int] | None = None) -> None:
        self._seqs = {device: seq for device, seq in (seqs or {}).items() if seq > 0}

    def __getitem__(self, device: bytes) -> int:
        return self._seqs[device]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._seqs)

    def __len__(self) -> int:
        return len(self._seqs)

    def __repr__(self) -> str:
        inside = ", ".join(f"{device.hex()}: {seq}" for device, seq in sorted(self._seqs.items()))
        return f"VectorClock({{{inside}}})"

    def __hash__(self) -> int:
        return hash(frozenset(self._seqs.items()))

    def covers(self, other: Mapping[bytes, int]) -> bool:
        """Tell whether everything that `other` knows is known here."""
        return all(self._seqs.get(device, 0) >= seq for device, seq in other.items())

    def merge(self, other: Mapping[bytes, int]) -> VectorClock:
        """Know what either knows."""
        devices = self._seqs.keys() | other.keys()
        return VectorClock({d: max(self._seqs.get(d, 0), other.get(d, 0)) for d in devices})

    def meet(self, other: Mapping[bytes, int]) -> VectorClock:
        """Know what both know."""
        return VectorClock({d: min(seq, other.get(d, 0)) for d, seq in self._seqs.items()})


def hlc_time_ms(hlc: int) -> int:
    """Return the wall-clock part of an HLC."""
    return hlc >> _HLC_COUNTER_BITS
