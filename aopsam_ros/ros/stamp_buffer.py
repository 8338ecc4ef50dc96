"""Messages that belong together because their stamps say so."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from std_msgs.msg import Header

T = TypeVar("T")


@dataclass(frozen=True)
class PairingOptions:
    """What counts as a pair, and how long an image waits for its other half."""

    tolerance_ms: float = 10.0
    timeout_ms: int = 500


def nanoseconds(header: Header) -> int:
    """Return a stamp as one number."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def distance_ms(first: Header, second: Header) -> float:
    """Return how far apart two stamps are."""
    return abs(nanoseconds(first) - nanoseconds(second)) / 1e6


class StampBuffer(Generic[T]):
    """The newest few messages of a topic, to be found by stamp."""

    def __init__(self, most: int) -> None:
        """Keep at most so many; the oldest to arrive goes first."""
        self._kept: deque[tuple[Header, T]] = deque(maxlen=most)

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._kept)

    def put(self, header: Header, item: T) -> None:
        """Keep one more."""
        self._kept.append((header, item))

    def nearest(self, header: Header) -> tuple[float, T] | None:
        """Return the item whose stamp is nearest, and how far off it is, milliseconds."""
        if not self._kept:
            return None
        found, item = min(self._kept, key=lambda kept: distance_ms(kept[0], header))
        return distance_ms(found, header), item

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()
