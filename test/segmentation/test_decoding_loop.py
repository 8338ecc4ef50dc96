"""The decoding loop: what is decoded when, and that the budget is kept; a clock for time."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aopsam_ros.engines.base import DecodedOnHost
from aopsam_ros.geometry import resized_geometry
from aopsam_ros.options import AsfOptions, MaskOptions, SegmenterOptions
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.prompts import PromptSet
from aopsam_ros.results import PromptState, Status
from aopsam_ros.segmentation.decoding_loop import DecodingLimits, decode_prompts
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.segmentation.time_budget import Stopwatch, TimeBudget, cost, spread_best
from support.scenes import coloured_scene
from support.tiny_bundle import mask_decoder, with_mask_input, write_tiny_bundle

GEOMETRY = resized_geometry(64, 64, 64)
LOW = 16


def make_clock():
    """A clock that a test moves."""
    return SimpleNamespace(now=100.0)


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
    spread=True,
    largest_batch=None,
    efficient_batch=1,
    clock=None,
    decoding=Decoder,
    num_protected=0,
    budget=None,
    mask=None,
    stopwatch=None,
    hysteresis=0.0,
    **asf,
):
    clock = clock or make_clock()
    stopwatch = stopwatch or Stopwatch(lambda: clock.now)
    decoder = decoding(clock, seconds)
    asf = {"filtering": "none", "batch_size": 2, **asf}
    confidence = np.linspace(1, 0.5, len(points), dtype=np.float32)
    points = np.array(points, float).reshape(-1, 2)
    decoded = decode_prompts(
        PromptSet(points, confidence, num_protected=num_protected),
        decoder,
        lambda: pytest.fail("no rule asked for features"),
        GEOMETRY,
        DecodingLimits(
            *(adaptive, spread, largest_batch, LOW, 1.0),
            efficient_batch=efficient_batch,
            hysteresis=hysteresis,
        ),
        SegmenterOptions(AsfOptions(**asf), mask or MaskOptions()),
        stopwatch,
        budget or TimeBudget(),
    )
    return decoded, decoder, stopwatch


POINTS = [[5, 5], [40, 5], [5, 40], [40, 40], [9, 9]]


def test_batches_are_taken_best_first():
    decoded, decoder, _ = run(POINTS)
    assert decoder.batches == [POINTS[:2], POINTS[2:4], POINTS[4:]]
    assert decoded.num_decoded == 5
    assert decoded.masks.prompt.tolist() == [0, 1, 2, 3, 4]
    assert set(decoded.states) == {PromptState.REJECTED}
    assert run(POINTS, batch_size=8, largest_batch=3)[1].batches == [POINTS[:3], POINTS[3:]]


def test_a_time_budget_spreads_the_best_prompts_over_the_image_but_for_protected_ones():
    surest_in_a_corner = [[1, 1], [3, 3], [5, 5], [20, 20], [60, 5], [5, 60], [60, 60]]
    batches = run(surest_in_a_corner, batch_size=4, time_budget_ms=60_000)[1].batches
    assert batches == [[[1, 1], [60, 5], [5, 60], [60, 60]], [[20, 20], [3, 3], [5, 5]]]
    words = {"batch_size": 4, "time_budget_ms": 60_000}
    protected = run(surest_in_a_corner, num_protected=3, **words)[1].batches
    assert protected == [[[1, 1], [3, 3], [5, 5], [20, 20]], [[60, 5], [5, 60], [60, 60]]]
    clusters = run(surest_in_a_corner, adaptive=False, **words)[1].batches
    assert clusters == batches
    assert run(POINTS, spread=False, **words)[1].batches == [POINTS[:4], POINTS[4:]]


@given(
    points=arrays(np.float64, st.tuples(st.integers(0, 40), st.just(2)), elements=st.floats(0, 99)),
    number=st.integers(0, 40),
)
def test_the_first_prompts_are_the_best_of_all_quarters_in_turn(points, number):
    height, width = 100, 50
    points = points * (0.5, 1.0)
    order = spread_best(points, height, width)
    assert sorted(order) == list(range(len(points)))
    quarter = (points[:, 0] >= width / 2) + 2 * (points[:, 1] >= height / 2)
    first = order[:number]
    for one in range(4):
        taken, there = (quarter[first] == one).sum(), (quarter == one).sum()
        for other in range(4):
            if taken < there:  # others with prompts left have had no turn more than one before it
                assert (quarter[first] == other).sum() <= taken + 1
        if taken:
            assert np.flatnonzero(quarter == one)[0] in first


def test_batches_grow_to_what_is_efficient_where_nothing_happens_between_them():
    def sizes(**options):
        return [len(batch) for batch in run(POINTS, efficient_batch=4, **options)[1].batches]

    assert sizes() == [4, 1]
    assert sizes(filtering="inside", adaptive=False) == [4, 1]  # a grid: the rule does not apply
    assert sizes(filtering="inside") == [2, 2]
    assert sizes(time_budget_ms=60_000) == [2, 2, 1]
    assert sizes(batch_size=5) == [5]
    assert sizes(largest_batch=3) == [3, 2]


def test_filtering_shortens_the_next_round_and_never_drops_protected_prompts():
    decoded, decoder, _ = run(POINTS, filtering="inside")
    assert decoder.batches == [POINTS[:2], POINTS[2:4]]
    assert decoded.states[4] == PromptState.ELIMINATED and decoded.num_decoded == 4
    points = [[5, 5], [9, 9], [3, 3]]
    decoded, decoder, _ = run(points, filtering="inside", batch_size=1, num_protected=2)
    assert decoder.batches == [[[5, 5]], [[9, 9]]]
    assert decoded.states[2] == PromptState.ELIMINATED


@pytest.mark.parametrize("least", [0.0, 0.6, 0.7, 0.75, 0.875, 0.876, 1.0])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_only_sure_masks_drop_prompts(least, batch_size):
    points = [[5, 5], [45, 45], [40, 40], [9, 9], [50, 50], [20, 60], [1, 40], [3, 3]]
    decoded, decoder, _ = run(
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
    assert (decoded.states == PromptState.ELIMINATED).sum() == dropped
    assert len(decoded.masks) == len(points) - dropped  # none is left out of the result


@pytest.mark.parametrize(
    ("hysteresis", "expected"), [(0.0, [True, True]), (0.1, [True, False] * 2 + [False])]
)
def test_hysteresis_adds_weak_masks_which_drop_no_prompts(hysteresis, expected):
    """The right half's masks have a predicted IoU of 0.7 and less."""
    mask = MaskOptions(predicted_iou_threshold=0.75)
    decoded, decoder, _ = run(
        [*POINTS, [41, 5]], filtering="inside", mask=mask, hysteresis=hysteresis
    )
    assert decoder.batches == [POINTS[:2], POINTS[2:4], [[41, 5]]]
    assert decoded.masks.strong.tolist() == expected


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("adaptive", [True, False])
def test_max_prompts_is_exact(most, adaptive):
    decoded, decoder, _ = run(POINTS, adaptive=adaptive, max_prompts=most)
    assert decoded.num_decoded == sum(map(len, decoder.batches)) == min(most, 5)
    assert (decoded.states == PromptState.UNUSED).sum() == max(0, 5 - most)
    assert decoded.status == Status.COMPLETE  # all that was asked for


@pytest.mark.parametrize(
    ("budget_ms", "batches"), [(0, 3), (1, 1), (29, 1), (31, 2), (39, 2), (41, 3), (1000, 3)]
)
def test_a_first_frame_leaves_a_rounds_time_for_its_end(budget_ms, batches):
    """10 ms a round, and as many for the end: the second round needs 30 ms, the third 40."""
    decoded, decoder, _ = run(POINTS, seconds=0.010, time_budget_ms=budget_ms)
    assert len(decoder.batches) == batches
    assert len(decoded.masks) == decoded.num_decoded
    assert decoded.status == (Status.COMPLETE if batches == 3 else Status.CUT)


def known_budget(first_batch, end):
    """Return what is known after frames that took so many seconds a unit of cost."""
    budget = TimeBudget()
    for times, seconds in ((budget.first_batch, first_batch), (budget.end, end)):
        for _ in range(2):
            times.add(1, seconds * cost(1))
    return budget


@pytest.mark.parametrize(
    ("budget_ms", "batches"),
    [(1, [2]), (27, [2]), (29, [2, 2]), (38, [2, 2]), (40, [2, 2, 1])],
)
def test_rounds_leave_the_time_that_the_frames_before_took(budget_ms, batches):
    """3 ms a unit of cost for the first batch, 1 for the end; this frame's batches take 10 ms each.

    The first comes in any case, the others are whole or none: the second one needs 10 ms and the
    end of four masks 8, the third 10 and 9.
    """
    budget = known_budget(0.003, 0.001)
    _, decoder, _ = run(POINTS, seconds=0.010, time_budget_ms=budget_ms, budget=budget)
    assert [len(batch) for batch in decoder.batches] == batches


@pytest.mark.parametrize(
    ("left_ms", "size"), [(-9, 8), (0, 8), (51, 8), (53, 9), (57, 10), (71, 13), (73, 14), (99, 14)]
)
def test_the_first_batch_is_as_large_as_fits_but_no_less_than_eight(left_ms, size):
    """4 ms a unit of cost: ten prompts cost 14 units, 56 ms."""
    assert known_budget(0.003, 0.001).first_size(14, left_ms / 1e3) == size
    assert known_budget(0.003, 0.001).first_size(3, left_ms / 1e3) == 3


def test_a_budget_spent_before_the_first_batch_decodes_it_and_says_so():
    clock = make_clock()
    stopwatch = Stopwatch(lambda: clock.now)
    clock.now += 1.0
    decoded, decoder, _ = run(POINTS, clock=clock, stopwatch=stopwatch, time_budget_ms=900)
    assert [len(batch) for batch in decoder.batches] == [2]
    assert decoded.status == Status.NO_TIME
    asf = {"time_budget_ms": 900, "batch_size": 5}  # a batch that is all there is
    decoded, _, _ = run(POINTS, clock=clock, stopwatch=stopwatch, **asf)
    assert decoded.status == Status.COMPLETE


@pytest.mark.parametrize(("slow", "sizes"), [(1, [16] * 8), (2, [8] * 7 + [16])])
def test_frames_that_warmed_the_machine_up_are_forgotten(slow, sizes):
    budget, many, asf = TimeBudget(), [[5, 5]] * 40, {"batch_size": 16, "time_budget_ms": 100}
    for _ in range(slow):
        run(many, seconds=2.0, budget=budget, **asf)
    frames = [run(many, seconds=0.005, budget=budget, **asf) for _ in range(8)]
    assert [len(decoder.batches[0]) for _, decoder, _ in frames] == sizes
    assert {decoded.num_decoded for decoded, _, _ in frames} == {40}


def test_hiccups_do_not_slow_a_stream_for_good():
    """Of a hundred calls two take eight times as long, and most frames are cut short."""
    random, budget, clock = np.random.default_rng(0), known_budget(0.001, 0.0001), make_clock()

    class Hiccups(Decoder):
        def __call__(self, coords, labels):
            slow = 8.0 if random.random() < 0.02 else 1.0
            self.seconds = slow * (0.001 + 0.001 * len(coords) + 0.006 * (not self.batches))
            return super().__call__(coords, labels)

    many = [[5, 5]] * 64
    asf = {"batch_size": 8, "time_budget_ms": 45, "budget": budget, "clock": clock}
    decoded = [run(many, decoding=Hiccups, **asf)[0].num_decoded for _ in range(1200)]
    assert np.mean(decoded[-300:]) > 0.9 * np.mean(decoded[:300]) > 20


def test_a_grid_is_not_filtered_but_ends_with_its_time():
    grid = {"adaptive": False, "filtering": "inside", "seconds": 0.010}
    assert run(POINTS, **grid)[0].num_decoded == 5
    assert len(run(POINTS, time_budget_ms=35, **grid)[1].batches) == 2


def test_rendering_masks_is_the_decoders_time():
    class Drawn(DecodedOnHost):
        def logits(self, prompts, masks):
            clock.now += 0.004
            return super().logits(prompts, masks)

    class Decoding(Decoder):
        def __call__(self, coords, labels):
            decoded = super().__call__(coords, labels)
            return Drawn(decoded.all_logits, decoded.predicted_iou)

    clock = make_clock()
    _, _, stopwatch = run(POINTS, seconds=0.010, clock=clock, decoding=Decoding)
    timings = stopwatch.timings_ms()
    assert timings["decoder"] == timings["total"] == pytest.approx(3 * 14)
    assert sum(timings.values()) == pytest.approx(2 * 3 * 14)


def test_stopwatch_counts_a_stage_that_fails():
    times = iter([0.0, 1.0, 1.5, 2.0])
    stopwatch = Stopwatch(lambda: next(times))
    with pytest.raises(RuntimeError), stopwatch.stage("encoder"):
        raise RuntimeError
    assert stopwatch.timings_ms()["encoder"] == pytest.approx(500)


def test_a_boxs_further_passes_begin_with_the_mask_before(tmp_path, watched):
    """Each pass adds the last mask's logits to those of the box, as the decoder is made."""
    models = {"mask_decoder": with_mask_input(mask_decoder())}
    bundle = write_tiny_bundle(tmp_path / "tiny", models)
    rgb, _ = coloured_scene()
    boxes = Boxes.from_rows([[10, 10, 30, 30]])
    with Segmenter.from_bundle(bundle, "boxes", "onnxruntime") as segmenter:
        frame = segmenter.encode(rgb)
        once = boxes.corners.reshape(1, 2, 2), np.array([[2, 3]])
        first, _ = segmenter.decode(frame, *once)
        second, _ = segmenter.decode(frame, *once, first[:, 1:2])  # of the highest predicted IoU
        np.testing.assert_allclose(second[0, 1], 2 * first[0, 1], rtol=1e-4, atol=1e-3)
        calls = watched(segmenter.engine, "decode")
        options = segmenter.options.updated({"boxes.refine": 2})
        assert len(segmenter.segment(rgb, options, boxes).masks) == 1
        seen = [mask_input for *_, mask_input in calls]
        assert [one is None for one in seen] == [True, False, False]
        np.testing.assert_allclose(seen[1][0, 0], first[0, 1], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(seen[2][0, 0], second[0, 1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("largest_batch", [None, 1])
def test_masks_are_decoded_again_from_their_own_boxes(
    tmp_path, monkeypatch, watched, largest_batch
):
    bundle = write_tiny_bundle(tmp_path / "tiny")
    rgb, _ = coloured_scene()
    with Segmenter.from_bundle(bundle, "grid8", "onnxruntime") as segmenter:
        once = segmenter.segment(rgb)
        if largest_batch:
            monkeypatch.setattr(segmenter.engine, "largest_batch", largest_batch)
        calls = watched(segmenter.engine, "decode")
        twice = segmenter.segment(rgb, segmenter.options.updated({"mask.refine": 1}))
        boxes = [(coords, rows) for _, coords, rows, _ in calls if rows.shape[1] == 2]
        assert all(np.array_equal(row, [2, 3]) for _, rows in boxes for row in rows)
        assert max(len(coords) for coords, _ in boxes) <= (largest_batch or 64)
        scale = segmenter.encode(rgb).geometry.scale
        found = {tuple(box) for part, _ in boxes for box in (part / scale).reshape(-1, 4).round()}
        # The tiny decoder's answer to a box is what its corner lies on: every box is a mask's.
        for mask in once.masks:
            x, y, w, h = mask.bbox
            assert min(np.abs(np.subtract(box, (x, y, x + w, y + h))).max() for box in found) <= 3
        assert twice.prompts_decoded == once.prompts_decoded
        assert {mask.prompt for mask in twice.masks} <= {mask.prompt for mask in once.masks}
