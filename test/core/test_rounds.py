"""Rounds: what is decoded when, and that the budget is kept; a clock in place of time."""

import numpy as np
import pytest

from aopsam_ros.options import AsfOptions, MaskOptions, SegmenterOptions
from aopsam_ros.pace import Pace
from aopsam_ros.preprocessing import resized_geometry
from aopsam_ros.prompting.prompts import point_prompts
from aopsam_ros.rounds import Rounds
from aopsam_ros.runtime.decoded import DecodedOnHost
from aopsam_ros.segmentation import PromptState
from aopsam_ros.stopwatch import STAGES, Stopwatch

GEOMETRY = resized_geometry(64, 64, 64)
LOW = 16


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Decoder:
    """A decoder whose masks cover the quarter of the image the prompt is in."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds, self.batches = clock, seconds, []

    def __call__(self, coords, labels):
        assert coords.shape[1:] == (1, 2) and labels.shape == coords.shape[:2]
        self.batches.append(coords[:, 0].tolist())
        self.clock.now += self.seconds
        logits = np.full((len(coords), 3, LOW, LOW), -5.0, np.float32)
        for row, (x, y) in enumerate(coords[:, 0].astype(int)):
            top, left = y // 32 * 8, x // 32 * 8
            logits[row, :, top : top + 8, left : left + 8] = 5.0
        # The further left, the surer: 0.9 at x = 0, 0.58 at 64.
        iou = np.float32(0.9) - coords[:, :, 0].astype(np.float32) / 200
        return DecodedOnHost(logits, np.repeat(iou, 3, axis=1))


def run(
    points,
    seconds=0.0,
    adaptive=True,
    largest_batch=None,
    clock=None,
    decoding=Decoder,
    certain=0,
    pace=None,
    mask=None,
    **asf,
):
    clock = clock or Clock()
    stopwatch = Stopwatch(clock)
    decoder = decoding(clock, seconds)
    asf = {"filtering": "none", "batch_size": 2, **asf}
    confidence = np.linspace(1, 0.5, len(points), dtype=np.float32)
    rounds = Rounds(
        decode=decoder,
        features=lambda: pytest.fail("no rule asked for features"),
        prompts=point_prompts(np.array(points, float).reshape(-1, 2), confidence, certain),
        geometry=GEOMETRY,
        low_size=LOW,
        stability_offset=1.0,
        options=SegmenterOptions(AsfOptions(**asf), mask or MaskOptions()),
        adaptive=adaptive,
        stopwatch=stopwatch,
        pace=pace or Pace(),
        largest_batch=largest_batch,
    )
    rounds.run()
    return rounds, decoder, stopwatch


POINTS = [[5, 5], [40, 5], [5, 40], [40, 40], [9, 9]]


def test_batches_are_taken_best_first():
    rounds, decoder, _ = run(POINTS)
    assert decoder.batches == [POINTS[:2], POINTS[2:4], POINTS[4:]]
    assert rounds.decoder_calls == 5
    assert rounds.masks().prompt.tolist() == [0, 1, 2, 3, 4]
    assert set(rounds.states) == {PromptState.REJECTED}


def test_filtering_shortens_the_next_round():
    rounds, decoder, _ = run(POINTS, filtering="inside")
    assert decoder.batches == [POINTS[:2], POINTS[2:4]]
    assert rounds.states[4] == PromptState.ELIMINATED
    assert rounds.decoder_calls == 4


def test_filtering_leaves_certain_prompts_alone():
    rounds, decoder, _ = run([[5, 5], [9, 9], [3, 3]], filtering="inside", batch_size=1, certain=2)
    assert decoder.batches == [[[5, 5]], [[9, 9]]]
    assert rounds.states[2] == PromptState.ELIMINATED


@pytest.mark.parametrize("least", [0.0, 0.6, 0.7, 0.75, 0.875, 0.876, 1.0])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_only_sure_masks_drop_prompts(least, batch_size):
    points = [[5, 5], [45, 45], [40, 40], [9, 9], [50, 50], [20, 60], [1, 40], [3, 3]]
    rounds, decoder, _ = run(
        points, filtering="inside", elimination_iou=least, batch_size=batch_size
    )
    waiting, batches = list(points), []
    while waiting:
        batch, waiting = waiting[:batch_size], waiting[batch_size:]
        batches.append(batch)
        # A mask is the quarter its prompt lies in.
        sure = {(x // 32, y // 32) for x, y in batch if np.float32(0.9) - x / 200 >= least}
        waiting = [(x, y) for x, y in waiting if (x // 32, y // 32) not in sure]
    assert decoder.batches == [[list(map(float, point)) for point in b] for b in batches]
    dropped = len(points) - sum(map(len, batches))
    assert (rounds.states == PromptState.ELIMINATED).sum() == dropped
    assert len(rounds.masks()) == len(points) - dropped  # none is left out of the result


def test_filtering_does_not_touch_a_grid():
    rounds, _, _ = run(POINTS, adaptive=False, filtering="inside", max_prompts=1)
    assert rounds.decoder_calls == 5


def test_a_round_is_never_larger_than_the_engine_takes():
    _, decoder, _ = run(POINTS, batch_size=8, largest_batch=3)
    assert decoder.batches == [POINTS[:3], POINTS[3:]]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6])
def test_max_prompts_is_exact(most):
    rounds, decoder, _ = run(POINTS, max_prompts=most)
    assert rounds.decoder_calls == sum(map(len, decoder.batches)) == min(most, 5)
    assert (rounds.states == PromptState.UNUSED).sum() == max(0, 5 - most)


@pytest.mark.parametrize(
    ("budget_ms", "batches"),
    [(0, 3), (1, 1), (39, 1), (41, 2), (49, 2), (51, 3), (1000, 3)],
)
def test_a_first_frame_expects_everything_to_be_as_slow_as_its_first_round(budget_ms, batches):
    """A round takes 10 ms, so a prompt is taken to need 5, and as many for finishing its mask.

    The second round of two begins at 10 ms and asks for 20, and 10 more for the masks there are;
    the third, of one, at 20 ms for 10, and 20 more.
    """
    rounds, decoder, _ = run(POINTS, seconds=0.010, time_budget_ms=budget_ms)
    assert len(decoder.batches) == batches
    assert len(rounds.masks()) == rounds.decoder_calls


def known_pace(opening=0.004, prompt=0.005, mask=0.001):
    pace = Pace()
    pace.opening.learn(1, opening)
    pace.prompt.learn(1, prompt)
    pace.mask.learn(1, mask)
    return pace


@pytest.mark.parametrize(
    ("budget_ms", "batches"),
    [
        (1, [1]),
        (10, [1]),
        (15, [1]),
        (17, [2]),
        (23, [2]),
        (25, [2, 2]),
        (29, [2, 2]),
        (31, [2, 2, 1]),
    ],
)
def test_rounds_leave_the_time_that_the_frames_before_took(budget_ms, batches):
    """They took 4 ms to begin, 5 a prompt, 1 to finish a mask; this one's rounds take 10 each.

    The first round is as large as fits, of one prompt at least. The others are whole or none.
    """
    _, decoder, _ = run(POINTS, seconds=0.010, time_budget_ms=budget_ms, pace=known_pace())
    assert [len(batch) for batch in decoder.batches] == batches


def test_prompts_without_masks_need_no_time_for_them():
    asf = {"seconds": 0.010, "time_budget_ms": 36}
    _, decoder, _ = run(POINTS, pace=known_pace(mask=0.020), **asf)
    assert [len(batch) for batch in decoder.batches] == [1]
    none = MaskOptions(predicted_iou_threshold=1.0)
    _, decoder, _ = run(POINTS, pace=known_pace(mask=0.020), mask=none, **asf)
    assert [len(batch) for batch in decoder.batches] == [1, 2, 2]


def test_every_frame_teaches_the_next_one():
    pace = Pace()
    run(POINTS, seconds=0.010, pace=pace)  # rounds of 2, 2 and 1
    assert pace.prompt.seconds == pytest.approx(0.020 / 3)
    assert pace.opening.seconds == 0.0  # 10 ms are less than two such prompts


def test_budget_also_ends_a_grid():
    _, decoder, _ = run(POINTS, seconds=0.010, adaptive=False, time_budget_ms=45)
    assert len(decoder.batches) == 2


def test_no_prompts_no_calls():
    rounds, decoder, _ = run([])
    assert decoder.batches == []
    assert len(rounds.masks()) == 0


def test_stopwatch_adds_up():
    _, _, stopwatch = run(POINTS, seconds=0.010)
    timings = stopwatch.timings_ms()
    assert timings["decoder"] == pytest.approx(30)
    assert timings["total"] == pytest.approx(30)
    assert set(timings) == {*STAGES, "total"}
    assert sum(timings[name] for name in STAGES) == pytest.approx(30)


def test_drawing_masks_is_the_decoders_time():
    class Drawn(DecodedOnHost):
        def logits(self, prompts, masks):
            clock.now += 0.004
            return super().logits(prompts, masks)

    class Decoding(Decoder):
        def __call__(self, coords, labels):
            decoded = super().__call__(coords, labels)
            return Drawn(decoded.all_logits, decoded.predicted_iou)

    clock = Clock()
    _, _, stopwatch = run(POINTS, seconds=0.010, clock=clock, decoding=Decoding)
    timings = stopwatch.timings_ms()
    assert timings["decoder"] == timings["total"] == pytest.approx(3 * 14)


def test_stopwatch_counts_a_stage_that_fails():
    clock = Clock()
    stopwatch = Stopwatch(clock)

    def fail_after_half_a_second():
        with stopwatch.stage("encoder"):
            clock.now += 0.5
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_half_a_second()
    assert stopwatch.timings_ms()["encoder"] == pytest.approx(500)
