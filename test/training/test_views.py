"""Views keep image and labels together; prompts and targets lie in their masks."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.data.labelled_images import LabelledImage, resize_layers
from aopsam_ros.training.predictor_targets import (
    extent_target,
    spread_points,
    view_instances,
    view_target,
)
from aopsam_ros.training.prompt_sampling import (
    corrective_click,
    innermost_pixel,
    loose_box,
    random_point,
)
from aopsam_ros.training.views import augmentation
from aopsam_ros.training.views.augmentation import paste_objects, random_view
from support.scenes import draw_ellipses

DEPTHS = st.sampled_from([0.5, 3.0, 6.0, 50.0])
POINTS = st.lists(st.tuples(st.integers(-3, 42), st.integers(-3, 32), DEPTHS), max_size=6)


def coded_image(seed):
    """An image whose colour is its label, so that any disagreement shows."""
    _, labels = draw_ellipses(seed)
    rgb = np.repeat((labels * 50).astype(np.uint8)[:, :, None], 3, axis=2)
    return LabelledImage("coded", rgb, labels[None])


@given(
    st.integers(0, 10_000),
    st.sampled_from([(48, 48), (64, 48), (160, 160)]),
    st.sampled_from([0.0, 1.0]),
)
def test_labels_follow_the_pixels(seed, canvas, turned):
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentation, "recolour", lambda rgb, _: rgb)
        patch.setattr(augmentation, "TURN_PROBABILITY", turned)
        patch.setattr(augmentation, "STRETCH_PROBABILITY", turned)
        view = random_view(coded_image(seed % 7), canvas, 128, rng)
    height, width = view.rgb.shape[:2]
    assert height <= canvas[0] and width <= canvas[1]
    assert view.layers.shape == (1, height, width)
    layer = np.pad(view.layers[0], 2, mode="constant" if turned else "edge")
    # away from outlines, where resizing mixes colours; they may lie just beyond the view's border
    flat = (cv2.erode(layer, np.ones((5, 5))) == cv2.dilate(layer, np.ones((5, 5))))[2:-2, 2:-2]
    assert flat.any()
    if turned:
        flat &= view.layers[0] > 0  # what is mirrored beyond the border has no label
    shown = np.abs(view.rgb[:, :, 0].astype(int) - view.layers[0].astype(int) * 50)
    assert np.count_nonzero(shown[flat] > 12) <= 0.02 * flat.sum()


@pytest.mark.parametrize("side", [96, 170, 384])
def test_labels_of_a_smaller_image_lie_where_its_pixels_do(side):
    """To a part of a pixel: of things as small as six, that is a quarter of their IoU."""
    things = np.zeros((1000, 1000), np.uint16)
    for x, y in np.random.default_rng(0).integers(0, 1000, (60, 2)).tolist():
        cv2.circle(things, (x, y), 30, 1, -1)
    labels = resize_layers(things[None], side, side)[0] > 0
    pixels = np.where(things > 0, 255, 0).astype(np.uint8)
    shown = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA) > 127
    assert np.count_nonzero(labels & shown) > 0.95 * np.count_nonzero(labels | shown)


@given(st.integers(0, 10_000))
def test_pasted_objects_cover_what_is_behind(seed):
    rng = np.random.default_rng(seed)
    image, donor = coded_image(seed % 5), coded_image(seed % 5 + 1)
    donor_view = replace(donor, rgb=np.full_like(donor.rgb, 255))
    view = paste_objects(image, donor_view, rng)
    new = view.layers[0] > image.layers.max()
    assert np.array_equal(view.layers[0][~new], image.layers[0][~new])
    assert np.array_equal(view.rgb[~new], image.rgb[~new])
    for label in np.unique(view.layers[0][new]):
        inner = cv2.erode((view.layers[0] == label).astype(np.uint8), np.ones((7, 7)))
        assert (view.rgb[inner > 0] > 240).all()


@given(st.integers(0, 10_000))
def test_pasted_objects_bring_their_class(seed):
    """The labels of what a crop left out are given again: no object may inherit their class."""
    rng = np.random.default_rng(seed)
    image, donor = coded_image(seed % 5), coded_image(seed % 5 + 1)
    names = dict.fromkeys(range(256), "below")
    above = replace(donor, rgb=np.full_like(donor.rgb, 255), classes={1: "first", 2: "second"})
    view = paste_objects(replace(image, classes=names), above, rng)
    for label in np.unique(view.layers):
        if 0 < label <= image.layers.max():
            assert view.classes[int(label)] == "below"
        elif label:
            assert view.classes[int(label)] in ("first", "second", "")


@given(st.integers(0, 10_000))
def test_innermost_pixel_is_the_farthest_from_the_outside(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((24, 30), bool)
    for _ in range(3):
        y, x, h, w = rng.integers(0, 20), rng.integers(0, 24), *rng.integers(1, 12, 2)
        mask[y : y + h, x : x + w] = True
    x, y, depth = innermost_pixel(mask)
    outside = np.argwhere(~np.pad(mask, 1)) - 1
    inside = np.argwhere(mask)
    distances = np.sqrt(((inside[:, None] - outside[None]) ** 2).sum(-1)).min(1)
    reached = np.sqrt(((np.array([y, x]) - outside) ** 2).sum(-1)).min()
    assert mask[y, x]
    assert reached == pytest.approx(distances.max(), abs=0.05)
    assert reached == pytest.approx(depth, abs=0.05)


@given(st.integers(0, 10_000))
def test_prompts_belong_to_their_mask(seed):
    rng = np.random.default_rng(seed)
    _, labels = draw_ellipses(seed % 9)
    mask = labels == labels.max()
    x, y = random_point(mask, rng)
    assert mask[y, x]
    assert random_point(mask, rng, innermost=1.0) == innermost_pixel(mask)[:2]
    rows, columns = np.nonzero(mask)
    (left, top), (right, bottom) = loose_box(mask, rng, 0.0)
    assert (left, top) == (columns.min(), rows.min())
    assert (right, bottom) == (columns.max() + 1, rows.max() + 1)
    (left, top), (right, bottom) = loose_box(mask, rng, 0.1)
    assert 0 <= left <= right <= 128 and 0 <= top <= bottom <= 96
    assert abs(left - columns.min()) <= 0.3 * np.ptp(columns) + 1


def test_a_click_goes_where_most_is_wrong():
    target = np.zeros((20, 20), bool)
    target[2:12, 2:12] = True
    mask = target.copy()
    mask[5:8, 5:8] = False  # a hole of three pixels
    x, y, label = corrective_click(mask, target, None)
    assert (x, y, label) == (6 * 4 + 1.5, 6 * 4 + 1.5, 1.0)
    mask[13:20, 13:20] = True  # too much, and deeper
    x, y, label = corrective_click(mask, target, None)
    assert (x, y, label) == (16 * 4 + 1.5, 16 * 4 + 1.5, 0.0)
    x, y, label = corrective_click(target, target, None)
    assert target[round(y) // 4, round(x) // 4] and label == 1.0


@given(st.integers(0, 1000))
def test_random_clicks_are_where_something_is_wrong(seed):
    rng = np.random.default_rng(seed)
    mask, target = rng.random((2, 12, 16)) > 0.6
    x, y, label = corrective_click(mask, target, rng)
    row, column = int(y) // 4, int(x) // 4
    assert mask[row, column] != target[row, column] and bool(label) == target[row, column]


def test_extents_reach_to_the_sides_of_the_smallest_instance():
    layers = np.zeros((2, 64, 64), np.uint16)
    layers[0, 8:56, 8:56] = 1  # with a smaller one in it, on another layer
    layers[1, 24:40, 16:48] = 2
    instances = view_instances(layers, 10)
    assert [i.label for i in instances] == [1, 2] and instances[1].box == (16, 24, 32, 16)
    extents, weights = extent_target(layers, instances, (64, 96), 128)
    assert extents.shape == (4, 8, 12) and not weights[:, 8:].any()
    inside = extents[:, 3, 2] * 128  # the cell around (20, 28)
    assert inside.tolist() == [20 - 16, 28 - 24, 48 - 20, 40 - 28]
    outside = extents[:, 1, 1] * 128  # of the larger one, around (12, 12)
    assert outside.tolist() == [4, 4, 44, 44]
    assert weights[0, 0] == 0 and weights[3, 2] > weights[1, 1] > 0


def test_an_instance_between_the_cells_has_a_place():
    layers = np.zeros((1, 32, 32), np.uint16)
    layers[0, 5:8, 5:8] = 1  # no cell's centre lies in it
    extents, weights = extent_target(layers, view_instances(layers, 4), (32, 32), 32)
    assert weights[0, 0] == 1 and (extents[:, 0, 0] > 0).all()


@pytest.mark.needs("skimage")
def test_surfaces_are_regions_of_one_colour_without_instances():
    from aopsam_ros.training.views.regions import surface_layer

    rng = np.random.default_rng(0)
    rgb = np.zeros((120, 160, 3), np.uint8)
    rgb[:60], rgb[60:] = (60, 90, 220), (40, 140, 50)
    rgb = np.clip(rgb + rng.normal(0, 3, rgb.shape), 0, 255).astype(np.uint8)
    labelled = np.zeros((120, 160), bool)
    labelled[40:80, 60:100] = True
    layer = surface_layer(rgb, labelled, 3, rng)
    assert set(np.unique(layer)) == {0, 1, 2}
    assert not layer[labelled].any()
    sky, ground = layer[5, 5], layer[115, 5]
    assert sky != ground
    assert np.mean(layer[:58][~labelled[:58]] == sky) > 0.97
    assert np.mean(layer[62:][~labelled[62:]] == ground) > 0.97
    assert len(np.unique(surface_layer(rgb, labelled, 1, rng))) == 2
    assert not surface_layer(rgb, np.ones_like(labelled), 3, rng).any()


def reference(points, size):
    """The same map, one pixel at a time: half a box, half a Gaussian; the larger value stays."""
    target = np.zeros(size)
    for x, y, depth in points:
        if not (0 <= x < size[1] and 0 <= y < size[0]):
            continue
        sigma = min(max(depth / 2, 1.0), 5.0)
        for row in range(size[0]):
            for column in range(size[1]):
                dx, dy = column - x, row - y
                if max(abs(dx), abs(dy)) <= int(3 * sigma):
                    value = 0.5 * np.exp(-(dx**2 + dy**2) / (2 * sigma**2))
                    value += 0.5 * (max(abs(dx), abs(dy)) <= int(sigma))
                    target[row, column] = max(target[row, column], value)
    return target


@given(POINTS)
def test_against_one_pixel_at_a_time(points):
    target = spread_points(np.array(points, np.float32).reshape(-1, 3), (30, 40))
    np.testing.assert_allclose(target, reference(points, (30, 40)), atol=1e-5)
    assert target.shape == (30, 40)


def test_one_point_an_instance_inside_it():
    _, labels = draw_ellipses(3)
    layers = np.stack([np.where(labels % 2, labels, 0), np.where(labels % 2, 0, labels)])
    target = view_target(layers, view_instances(layers, 1), labels.shape)
    pixels = (target.points[:, :2] + 0.5) * 4
    hit = sorted(int(labels[int(y), int(x)]) for x, y in pixels)
    assert hit == [int(label) for label in np.unique(labels) if label]
    depth = 4 * target.points[:, 2]
    assert (depth >= 1).all() and (depth < 50).all()
    assert len(view_instances(layers, labels.size)) == 0
