"""Where the time of a frame goes, and how many prompts a time budget has room for.

A batch of prompts, and the end of a frame, have a fixed cost besides that of each prompt or mask:
as much as two or three prompts of MobileSAM on a processor, seven of `nano`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

STAGES = ("preprocess", "encoder", "predictor", "sampling", "decoder", "filtering", "postprocess")
FEWEST_PROMPTS = 8  # of a frame, whatever the budget: fewer say nothing about it
FIXED_COST = 4  # of a batch or of the end of a frame, in prompts or masks
_FRAMES = 8  # that are remembered
_PARTS = 4, 2  # of the image, a side, that take turns: sixteenths within quarters


def spread_best(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.int64]:
    """Order prompts so that the first ones, however many, are good and all over the image.

    Its quarters take turns, each with the best prompt that it has left, and so do the quarters of
    these.

    Args:
        points: x and y in source pixels, best first, `[N, 2]`.
        height: of the image.
        width: likewise.

    Returns:
        indices of `points`, int64 `[N]`.
    """
    order = np.arange(len(points))
    for parts in _PARTS:
        cells = np.clip(points * parts / (width, height), 0, parts - 1).astype(np.int64)
        taken: Counter[int] = Counter()
        turns = []
        for part in (cells @ (1, parts))[order].tolist():
            turns.append(taken[part])
            taken[part] += 1
        order = order[np.argsort(turns, kind="stable")]
    return order


class Stopwatch:
    """Adds up the seconds spent in each stage since it was made."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._start = clock()
        self._seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the `with` block to a stage of `STAGES`."""
        began = self._clock()
        try:
            yield
        finally:
            self._seconds[name] += self._clock() - began

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return self._clock() - self._start

    def timings_ms(self) -> dict[str, float]:
        """Return milliseconds by stage, and the total since the start."""
        timings = {name: seconds * 1e3 for name, seconds in self._seconds.items()}
        timings["total"] = self.elapsed() * 1e3
        return timings


def cost(count: float) -> float:
    """Return the cost of so many prompts or masks, the fixed one included, in units of one."""
    return count + FIXED_COST


class RecentTimes:
    """Seconds per unit of cost in each of the last frames."""

    def __init__(self) -> None:
        self._seconds: tuple[float, ...] = ()  # replaced as a whole, as threads may share it

    def add(self, count: int, seconds: float) -> None:
        """Add a frame, of so many prompts or masks."""
        self._seconds = (*self._seconds, seconds / cost(count))[-_FRAMES:]

    @property
    def seconds(self) -> float:
        """Return what a unit of cost may take; 0 while fewer than two frames are known.

        The second longest of the last frames: a budget has to be kept, but one hiccup of the
        machine, or a first frame that warms it up, says nothing about the next.
        """
        return sorted(self._seconds)[-2] if len(self._seconds) > 1 else 0.0


@dataclass(frozen=True)
class TimeBudget:
    """Estimates from the last frames how many prompts the next one has time for.

    Threads may share it: whether one sees the other's last frame makes no difference of note.
    """

    # times of decoding a frame's first batch, by prompts
    first_batch: RecentTimes = field(default_factory=RecentTimes)
    # times of making instances of all masks after the last batch, by masks
    end: RecentTimes = field(default_factory=RecentTimes)

    def least(self) -> float:
        """Return the seconds that a frame takes for its fewest prompts and their masks."""
        return (self.first_batch.seconds + self.end.seconds) * cost(FEWEST_PROMPTS)

    def first_size(self, size: int, left: float) -> int:
        """Return how many of `size` prompts the first batch has time for, in `left` seconds.

        A few in any case: an empty answer helps nobody. All, while no earlier frames are known.
        """
        per_prompt = self.first_batch.seconds + self.end.seconds
        fitting = int(left / per_prompt) - FIXED_COST if per_prompt else size
        return min(size, max(FEWEST_PROMPTS, fitting))

    def has_time(
        self, size: int, left: float, last: tuple[int, float], masks: int, decoded: int
    ) -> bool:
        """Return whether `left` seconds suffice for another batch of `size` prompts and the end.

        `last` has prompts and seconds of the last batch: those of a frame take similar time. So
        many prompts were decoded and masks found.
        """
        before, seconds = last
        batch = seconds * max(1.0, cost(size) / cost(before))
        # All masks have to be made in time, those of the next batch as well.
        end = self.end.seconds * cost(masks * (1 + size / decoded)) or seconds
        return batch + end <= left
