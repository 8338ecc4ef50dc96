"""Views keep image and labels together; prompts lie in their masks; surfaces avoid instances."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aopsam_ros.data.datasets import LabelledImage
from aopsam_ros.training import augmentation
from aopsam_ros.training.augmentation import AugmentationOptions, View, paste_objects, random_view
from aopsam_ros.training.prompt_sampling import innermost_pixel, loose_box, random_point
from support.scenes import draw_ellipses

settings.register_profile("aopsam", deadline=None, derandomize=True, database=None)
settings.load_profile("aopsam")


def coded_image(seed):
    """An image whose colour is its label, so that any disagreement shows."""
    _, labels = draw_ellipses(seed)
    rgb = np.repeat((labels * 50).astype(np.uint8)[:, :, None], 3, axis=2)
    return LabelledImage("coded", rgb, labels[None])


@given(st.integers(0, 10_000), st.sampled_from([48, 64, 160]))
def test_labels_follow_the_pixels(seed, canvas):
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(augmentation, "recolour", lambda rgb, _: rgb)
        view = random_view(coded_image(seed % 7), canvas, 128, AugmentationOptions(), rng)
    height, width = view.rgb.shape[:2]
    assert max(height, width) <= canvas
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
    (left, top), (right, bottom) = loose_box(mask, rng)
    rows, columns = np.nonzero(mask)
    assert 0 <= left <= right <= 128 and 0 <= top <= bottom <= 96
    assert abs(left - columns.min()) <= 20 and abs(bottom - rows.max() - 1) <= 20


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
