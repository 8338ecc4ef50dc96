"""Ids stay with objects that move, cross, vanish and come back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.errors import OptionError
from aopsam_ros.masks import encode_full
from aopsam_ros.masks.overlap import SampleGrid, iou_table
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.options import OPTIONS
from aopsam_ros.results import InstanceMask
from aopsam_ros.streaming import tracker
from aopsam_ros.streaming.tracker import Tracker, TrackingOptions

HEIGHT, WIDTH = 240, 320
EYE = np.eye(8, dtype=np.float32)


def mask_of(pixels):
    box, counts = encode_full(pixels)
    return InstanceMask(0, box, int(pixels.sum()), 1.0, 1.0, (0, 0), 1.0, "", counts)


def disc(x, y, radius=20, size=(HEIGHT, WIDTH)):
    rows, columns = np.mgrid[: size[0], : size[1]]
    return mask_of((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


class Tracking(Tracker):
    """A tracker whose frames all have the same options."""

    def __init__(self, options=None):
        super().__init__()
        self.options = options

    def ids(self, masks, appearance, camera=(0.0, 0.0), size=(HEIGHT, WIDTH)):
        """The ids of the next frame's masks."""
        found = self.update(masks, appearance, *size, camera, self.options)
        return [mask.id for mask in found]


def test_moving_objects_keep_their_ids():
    tracking = Tracking()
    rng = np.random.default_rng(0)
    first = None
    for step in range(30):
        order = rng.permutation(3)
        masks = [disc(30 + 6 * step, 50), disc(260 - 5 * step, 120), disc(150, 40 + 5 * step)]
        found = tracking.ids([masks[i] for i in order], EYE[order])
        by_object = [found[list(order).index(i)] for i in range(3)]
        first = first or by_object
        assert by_object == first, step


def test_fast_objects_are_found_where_they_should_be():
    """Each step is wider than the object: only its speed tells where it is."""
    tracking = Tracking(TrackingOptions(min_similarity=1.0))
    appearance = np.stack([EYE[0]])
    seen = []
    for position in (20, 35, 56, 83, 116, 154, 194, 236, 280):
        seen += tracking.ids([disc(position, 100, 15)], appearance)
    assert seen == [1] * 9


def test_look_alikes_that_cross_are_kept_apart_by_their_motion():
    tracking = Tracking()
    appearance = np.stack([EYE[0], EYE[0]])
    for step in range(25):
        masks = [disc(40 + 10 * step, 80, 25), disc(280 - 10 * step, 130, 25)]
        assert tracking.ids(masks, appearance) == [1, 2]


def test_a_hidden_object_comes_back_with_its_id():
    tracking = Tracking(TrackingOptions(max_lost=5))
    appearance = EYE[:2]
    tracking.ids([disc(60, 60), disc(200, 100)], appearance)
    for _ in range(5):
        assert tracking.ids([disc(60, 60)], appearance[:1]) == [1]
    found = tracking.ids([disc(60, 60), disc(120, 180)], appearance)
    assert found == [1, 2]  # elsewhere now, but it looks the same


def test_an_object_is_forgotten_in_the_end():
    tracking = Tracking(TrackingOptions(max_lost=2))
    for masks in ([disc(60, 60)], [], [], []):
        tracking.ids(masks, EYE[: len(masks)])
    assert tracking.ids([disc(60, 60)], EYE[:1]) == [2]


@pytest.mark.parametrize(
    ("other", "size"),
    [(disc(160, 120, 60), (HEIGHT, WIDTH)), (disc(60, 60, 10, (120, 160)), (120, 160))],
)
def test_an_object_of_another_size_and_an_image_of_another_size_are_new(other, size):
    tracking = Tracking()
    tracking.ids([disc(60, 60, 10)], EYE[:1])
    assert tracking.ids([other], EYE[:1], size=size) == [2]


def test_ids_are_unique_in_a_frame_and_never_used_again():
    tracking = Tracking()
    first = tracking.ids([disc(40, 40), disc(45, 42)], EYE[[0, 0]])
    assert len(set(first)) == 2
    tracking.reset()
    assert tracking.ids([disc(40, 40)], EYE[:1]) == [3]


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(tracker, "MAX_TRACKS", 3)
    tracking = Tracking()
    masks = [disc(20 + 40 * i, 100, 10) for i in range(6)]
    frames = [tracking.ids(masks, EYE[:6]) for _ in range(3)]
    assert all(len(set(frame)) == 6 for frame in frames)
    assert len(set.intersection(*map(set, frames))) == 3  # the others are new in each frame


def test_all_masks_of_a_frame_are_remembered_even_with_each_prompt_s_three():
    assert 3 * OPTIONS["asf.max_prompts"].default <= tracker.MAX_TRACKS


def test_what_is_lost_gives_way_to_what_is_seen(monkeypatch):
    monkeypatch.setattr(tracker, "MAX_TRACKS", 3)
    tracking = Tracking(TrackingOptions(max_lost=1000))
    for place in range(6):  # each gone in the next frame
        tracking.ids([disc(20 + 40 * place, 60, 10)], EYE[[place]])
    frames = [tracking.ids([disc(60, 180, 10), disc(160, 180, 10)], EYE[6:]) for _ in range(3)]
    assert frames == [[7, 8]] * 3
    assert tracking.ids([disc(220, 60, 10)], EYE[[5]]) == [6]  # the one that was seen last


def test_ids_begin_again_after_the_highest(monkeypatch):
    monkeypatch.setattr(tracker, "HIGHEST_ID", 2)
    tracking = Tracking(TrackingOptions(max_lost=0))
    seen = []
    for x in (30, 90, 150):
        seen += tracking.ids([disc(x, 50, 8)], EYE[x // 60 : x // 60 + 1])
    assert seen == [1, 2, 1]


def test_what_enters_at_the_edge_is_not_what_left_there():
    """The object's expected place is far outside by now, or the camera has turned away from it."""
    for frames_without, camera in ((4, (0.0, 0.0)), (0, (-200.0, 0.0))):
        tracking = Tracking()
        for x in (60, 40, 20):
            assert tracking.ids([disc(x, 100, 8)], EYE[:1]) == [1]
        for _ in range(frames_without):
            assert tracking.ids([], EYE[:0]) == []
        assert tracking.ids([disc(0, 100, 4)], EYE[1:2], camera) == [2]


@pytest.mark.parametrize("values", [{"min_iou": 1.5}, {"min_similarity": -0.1}, {"max_lost": -1}])
def test_impossible_options(values):
    with pytest.raises(OptionError):
        TrackingOptions(**values)


@pytest.mark.parametrize("size", [(5, 1000), (1000, 5), (1, 1), (480, 640), (97, 96)])
def test_samples_lie_inside_the_image_and_evenly(size):
    grid = SampleGrid.over(*size)
    for places, side in zip((grid.y, grid.x), size, strict=True):
        assert places[0] >= 0 and places[-1] < side
        assert places[0] + places[-1] == pytest.approx(side - 1, abs=2)  # the same at both ends


@given(st.integers(0, 1000))
def test_sampled_iou_is_about_the_real_one(seed):
    rng = np.random.default_rng(seed)
    (x, y), (dx, dy) = rng.integers(60, 180, 2), rng.integers(-30, 30, 2)
    first, second = disc(x, y, 40), disc(x + dx, y + dy, 40)
    grid = SampleGrid.over(HEIGHT, WIDTH)
    a, b = decode_full(first, HEIGHT, WIDTH), decode_full(second, HEIGHT, WIDTH)
    real = (a & b).sum() / (a | b).sum()
    everywhere = [grid.shown((0, 0), HEIGHT, WIDTH)]
    found = iou_table([grid.sample(first)], [grid.sample(second)], everywhere)[0, 0]
    assert found == pytest.approx(real, abs=0.06)
    moved = grid.sample(first, (float(dx), float(dy)))
    assert iou_table([moved], [grid.sample(second)], everywhere)[0, 0] > 0.9


@given(st.integers(0, 1000))
def test_small_masks_are_not_lost_between_the_points(seed):
    x, y = np.random.default_rng(seed).integers(3, 200, 2)
    grid = SampleGrid.over(2400, 3200)
    assert grid.sample(disc(x, y, 1, (210, 210))).sum() == 1


def test_what_the_frame_before_did_not_show_does_not_count():
    """A wall that reaches beyond the image: the camera moves, and more of it comes into view."""
    wall = np.zeros((HEIGHT, WIDTH), bool)
    wall[100:] = True
    mask, grid = mask_of(wall), SampleGrid.over(HEIGHT, WIDTH)
    shift = (0.0, -60.0)
    now = np.zeros((HEIGHT, WIDTH), bool)
    now[40:] = True
    moved, shown = grid.sample(mask, shift), grid.shown(shift, HEIGHT, WIDTH)
    assert iou_table([grid.sample(mask_of(now))], [moved], [shown])[0, 0] == 1.0
    everywhere = np.ones_like(shown)
    assert iou_table([grid.sample(mask_of(now))], [moved], [everywhere])[0, 0] < 0.8


def test_the_cameras_motion_is_not_the_objects_own():
    """A camera that jerks to and fro: nothing overlaps, and every object is where it should be."""
    tracking = Tracking(TrackingOptions(min_similarity=1.0))
    appearance = EYE[[0, 0, 0]]
    place, before = 0, None
    for move in (0, 70, -50, 45, -60, 30, 55):
        place += move
        masks = [disc(90 + 50 * n + place, 60 + 50 * n, 12) for n in range(3)]
        found = tracking.ids(masks, appearance, (float(move), 0.0))
        assert found == (before or found)
        before = found


def test_an_object_keeps_its_id_beside_a_fitful_one_that_overlaps_it():
    """The whole and its part: while the part is not found, the whole must not take its track."""
    tracking = Tracking()
    whole, part = disc(150, 100, 40), disc(150, 100, 32)
    appearance = EYE[[0, 0]]
    assert tracking.ids([whole, part], appearance) == [1, 2]
    assert tracking.ids([whole], appearance[:1]) == [1]
    between = disc(150, 100, 36)
    assert tracking.ids([whole, between], appearance)[0] == 1
    assert tracking.ids([whole, part], appearance)[0] == 1
