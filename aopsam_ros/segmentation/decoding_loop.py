"""Decoding in rounds: a batch of prompts, its masks, fewer prompts left, the next batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.engines.base import Decoded
from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.selection import LowResMasks, concatenate, promising, select
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.features import FeatureMap
from aopsam_ros.prompting.filtering import RULES, Evidence, Rule, eliminated
from aopsam_ros.prompting.prompts import PromptSet
from aopsam_ros.results import PromptState
from aopsam_ros.segmentation.stopwatch import Stopwatch
from aopsam_ros.segmentation.time_budget import SHARED, Pace, portions

Decoder = Callable[[NDArray[np.float64], NDArray[np.float32]], Decoded]


@dataclass
class Rounds:
    """The state of one frame's rounds.

    After `run`, `states` int64 `[N]` holds a `PromptState` for each prompt (REJECTED for all that
    were decoded: which of them end in a kept mask is known only after suppression), and `masks()`
    what passed the filters.

    Args:
        decode: source coordinates `[n, K, 2]` and labels `[n, K]` to masks.
        features: makes the feature map, called only if the filtering rule needs it.
        prompts: of the frame, best first.
        geometry: of the frame.
        low_size: side M of the low-resolution square.
        stability_offset: in logits.
        options: of the frame.
        adaptive: whether `max_prompts` and ASF filtering apply.
        largest_batch: the most prompts the decoder takes at once; None: any number.
        stopwatch: of the frame; its start is the start of the time budget.
        pace: of the frames before, for the time budget; learns from this one.
    """

    decode: Decoder
    features: Callable[[], FeatureMap]
    prompts: PromptSet
    geometry: FrameGeometry
    low_size: int
    stability_offset: float
    options: SegmenterOptions
    adaptive: bool
    stopwatch: Stopwatch
    pace: Pace = field(default_factory=Pace)
    largest_batch: int | None = None
    decoder_calls: int = 0
    states: NDArray[np.int64] = field(init=False)
    _found: list[LowResMasks] = field(default_factory=list)
    _feature_map: FeatureMap | None = None
    _last_round: tuple[int, float] | None = None  # prompts and seconds

    def __post_init__(self) -> None:
        """Start with every prompt unused."""
        self.states = np.full(len(self.prompts), PromptState.UNUSED, np.int64)

    def run(self) -> None:
        """Decode, filter, repeat: until no prompt is left or the budget is spent."""
        remaining = np.arange(len(self.prompts))
        while len(remaining) and (size := self._next_size(len(remaining))):
            began = self.stopwatch.elapsed()
            batch, remaining = remaining[:size], remaining[size:]
            found = self._decode(batch)
            dropped = self._dropped(found, remaining)
            self.states[remaining[dropped]] = PromptState.ELIMINATED
            remaining = remaining[~dropped]
            seconds = self.stopwatch.elapsed() - began
            if self._last_round is None:
                self.pace.opening.learn(size, seconds)
            self._last_round = size, seconds

    @property
    def found(self) -> int:
        """Return the number of masks that passed the filters so far."""
        return sum(map(len, self._found))

    def masks(self) -> LowResMasks:
        """Return every mask that passed the filters, in the order they were decoded."""
        return concatenate(self._found, self.low_size)

    def _next_size(self, waiting: int) -> int:
        """Return how many of the waiting prompts to decode next; 0 when the budget is spent."""
        asf = self.options.asf
        size = min(asf.batch_size, self.largest_batch or asf.batch_size, waiting)
        if self.adaptive:
            size = min(size, asf.max_prompts - self.decoder_calls)
        return self._in_time(size) if asf.time_budget_ms else size

    def _in_time(self, size: int) -> int:
        """Return how many of `size` prompts to decode, given what the budget has left."""
        left = self.options.asf.time_budget_ms / 1e3 - self.stopwatch.elapsed()
        if left <= 0.0:
            return 0
        if self._last_round is None:
            return self._opening_size(size, left)
        # Rounds of a frame are alike. All masks have to be made in time, the next ones as well.
        before, seconds = self._last_round
        call = seconds * max(1.0, portions(size) / portions(before))
        masks = self.found * (1 + size / self.decoder_calls)
        end = self.pace.end.seconds * portions(masks) or seconds
        return size if call + end <= left else 0

    def _opening_size(self, size: int, left: float) -> int:
        """Return how many of `size` prompts the first round has time for; one in any case.

        An empty answer helps nobody. Nothing known of earlier frames, all are taken to fit.
        """
        apiece = self.pace.opening.seconds + self.pace.end.seconds
        return size if apiece == 0.0 else min(size, max(1, int(left / apiece) - SHARED))

    def _decode(self, batch: NDArray[np.int64]) -> LowResMasks:
        with self.stopwatch.stage("decoder"):
            decoded = self.decode(self.prompts.coords[batch], self.prompts.labels[batch])
            good = promising(decoded, self.options.mask)  # some engines draw masks only now
        self.decoder_calls += len(batch)
        self.states[batch] = PromptState.REJECTED
        with self.stopwatch.stage("postprocess"):
            valid = self.geometry.valid_cells(self.low_size)
            found = select(good, batch, valid, self.options.mask, self.stability_offset)
        if len(found):
            self._found.append(found)
        return found

    def _dropped(self, found: LowResMasks, remaining: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the remaining prompts the batch's masks make needless."""
        asf = self.options.asf
        rule = RULES.get(asf.filtering) if self.adaptive else None
        sure = np.flatnonzero(found.predicted_iou >= asf.elimination_iou)
        if rule is None or len(sure) == 0 or len(remaining) == 0:
            return np.zeros(len(remaining), np.bool_)
        with self.stopwatch.stage("filtering"):
            evidence = self._evidence(rule, found, sure, remaining)
            return eliminated(rule, evidence, asf) & (remaining >= self.prompts.certain)

    def _evidence(
        self,
        rule: Rule,
        found: LowResMasks,
        sure: NDArray[np.int64],
        remaining: NDArray[np.int64],
    ) -> Evidence:
        if rule.needs_features and self._feature_map is None:
            self._feature_map = self.features()
        return Evidence(
            features=self._feature_map,
            geometry=self.geometry,
            low_size=self.low_size,
            masks=found.binary(*self.geometry.valid_cells(self.low_size))[sure],
            predicted_iou=found.predicted_iou[sure],
            prompts=found.prompt[sure],
            points=self.prompts.anchors[found.prompt[sure]],
            remaining=self.prompts.anchors[remaining],
        )
