"""Views keep image and labels together; prompts lie in their masks; surfaces avoid instances."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aopsam_ros.data.labelled_images import LabelledImage
from aopsam_ros.training import augmentation
from aopsam_ros.training.augmentation import AugmentationOptions, View, paste_objects, random_view
from aopsam_ros.training.extent_targets import extent_target, view_instances
from aopsam_ros.training.prompt_sampling import (
    corrective_click,
    innermost_pixel,
    loose_box,
    random_point,
)
from support.scenes import draw_ellipses

settings.register_profile("aopsam", deadline=None, derandomize=True, database=None)
settings.load_profile("aopsam")


def coded_image(seed):
    """An image whose colour is its label, so that any disagreement shows."""
    _, labels = draw_ellipses(seed)
    rgb = np.repeat((labels * 50).astype(np.uint8)[:, :, None], 3, axis=2)
    return LabelledImage("coded", rgb, labels[None])


@given(st.integers(0, 10_000), st.sampled_from([(48, 48), (64, 48), (160, 160)]))
def test_labels_follow_the_pixels(seed, canvas):
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentation, "recolour", lambda rgb, _: rgb)
        view = random_view(coded_image(seed % 7), canvas, 128, AugmentationOptions(), rng)
    height, width = view.rgb.shape[:2]
    assert height <= canvas[0] and width <= canvas[1]
    assert view.layers.shape == (1, height, width)
    flat = cv2.erode(view.layers[0], np.ones((5, 5))) == cv2.dilate(
        view.layers[0], np.ones((5, 5))
    )  # away from outlines, where resizing mixes colours
    shown = np.abs(view.rgb[:, :, 0].astype(int) - view.layers[0].astype(int) * 50)
    assert flat.any()
    assert np.mean(shown[flat] > 12) < 0.02


@given(st.integers(0, 10_000))
def test_pasted_objects_cover_what_is_behind(seed):
    rng = np.random.default_rng(seed)
    image, donor = coded_image(seed % 5), coded_image(seed % 5 + 1)
    donor_view = View(np.full_like(donor.rgb, 255), donor.layers)
    view = paste_objects(View(image.rgb, image.layers), donor_view, rng)
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
    above = View(np.full_like(donor.rgb, 255), donor.layers, {1: "first", 2: "second"})
    view = paste_objects(View(image.rgb, image.layers, names), above, rng)
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
    x, y = innermost_pixel(mask)
    outside = np.argwhere(~np.pad(mask, 1)) - 1
    inside = np.argwhere(mask)
    distances = np.sqrt(((inside[:, None] - outside[None]) ** 2).sum(-1)).min(1)
    reached = np.sqrt(((np.array([y, x]) - outside) ** 2).sum(-1)).min()
    assert mask[y, x]
    assert reached == pytest.approx(distances.max(), abs=0.05)


@given(st.integers(0, 10_000))
def test_prompts_belong_to_their_mask(seed):
    rng = np.random.default_rng(seed)
    _, labels = draw_ellipses(seed % 9)
    mask = labels == labels.max()
    x, y = random_point(mask, rng)
    assert mask[y, x]
    assert random_point(mask, rng, innermost=1.0) == innermost_pixel(mask)
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
    from aopsam_ros.training.regions import surface_layer

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
