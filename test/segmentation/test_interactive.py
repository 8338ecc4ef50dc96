"""One prompt of the user's own: what it means, what is refused, and its masks."""

import numpy as np
import pytest

from aopsam_ros.errors import InputError
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.segmentation.interactive import UserPrompt, segment_prompt
from support.scenes import coloured_scene, iou


def prompt(points=(), labels=None, box=None):
    points = np.array(points, np.float64).reshape(-1, 2)
    labels = np.ones(len(points), np.uint8) if labels is None else np.array(labels, np.uint8)
    return UserPrompt(points, labels, box)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_point_gives_the_object_it_lies_on(tiny, index):
    rgb, objects = coloured_scene()
    wanted, (x, y) = objects[index]
    (mask,) = segment_prompt(tiny, tiny.encode(rgb), prompt([(x + 6, y + 6)]))
    assert iou(decode_full(mask, *wanted.shape), wanted) > 0.85
    assert mask.id == 1
    assert mask.prompt == (x + 6, y + 6)
    assert mask.area == decode_full(mask, 90, 120).sum()
    assert mask.predicted_iou == pytest.approx(0.9)
    assert 0 <= mask.stability_score <= 1


def test_a_box_gives_what_its_corner_lies_on_and_is_cut_at_the_image(tiny):
    rgb, _ = coloured_scene()
    frame = tiny.encode(rgb)
    (whole,) = segment_prompt(tiny, frame, prompt(box=(-50.0, -9.0, 500.0, 300.0)))
    (same,) = segment_prompt(tiny, frame, prompt(box=(0.0, 0.0, 120.0, 90.0)))
    np.testing.assert_array_equal(whole.counts, same.counts)
    assert whole.prompt == (59.5, 44.5)


def test_all_masks_are_the_models_three_best_first(tiny):
    rgb, objects = coloured_scene()
    x, y = objects[0][1]
    frame = tiny.encode(rgb)
    masks = segment_prompt(tiny, frame, prompt([(x + 6, y + 6)]), all_masks=True)
    assert [mask.id for mask in masks] == [1, 2, 3]
    scores = [mask.predicted_iou for mask in masks]
    assert scores == sorted(scores, reverse=True)
    areas = {mask.area for mask in masks}
    assert len(areas) > 1  # three tolerances of the tiny model
    (best,) = segment_prompt(tiny, frame, prompt([(x + 6, y + 6)]))
    np.testing.assert_array_equal(best.counts, masks[0].counts)


def test_rows_are_points_and_then_corners():
    coords, labels = prompt([(1, 2), (3, 4)], [1, 0], (5.0, 6.0, 7.0, 8.0)).as_decoder_input()
    np.testing.assert_array_equal(coords, [[[1, 2], [3, 4], [5, 6], [7, 8]]])
    np.testing.assert_array_equal(labels, [[1, 0, 2, 3]])
    assert prompt([(1, 2), (3, 4)], [0, 1]).anchor == (3, 4)


@pytest.mark.parametrize(
    ("points", "labels", "box", "reason"),
    [
        ([], None, None, "needs a point on the object, or a box"),
        ([(1, 1)], [0], None, "needs a point on the object, or a box"),
        ([(1, 1)], [2], None, "a label is 1"),
        ([(1, 1)], [1, 1], None, r"points must be \[K, 2\]"),
        ([(np.nan, 1)], None, None, "not finite"),
        ([(1, 1)] * 65, None, None, "at most 64 points"),
        ([(120, 10)], None, None, "outside the image of 120x90"),
        ([(10, -0.5)], None, None, "outside the image of 120x90"),
        ([], None, (120.0, 0.0, 130.0, 10.0), "box lies outside"),
        ([], None, (10.0, 20.0, 10.0, 30.0), "box lies outside"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(tiny, points, labels, box, reason):
    rgb, _ = coloured_scene()
    with pytest.raises(InputError, match=reason) as caught:
        segment_prompt(tiny, tiny.encode(rgb), prompt(points, labels, box))
    assert "\n" not in str(caught.value)
