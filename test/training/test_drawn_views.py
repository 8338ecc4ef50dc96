"""What is drawn into a view has a label wherever it shows, and leaves all else as it was."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.data.labelled_images import LabelledImage
from aopsam_ros.training.views import drawn_things, drawn_tiles
from aopsam_ros.training.views.drawn_things import draw_things, random_shape
from aopsam_ros.training.views.drawn_tiles import draw_tiles
from support.scenes import draw_ellipses

SEEDS = st.integers(0, 10_000)
TEXTURE = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)


def grey_view(seed):
    """A grey view with labels on two layers, so that whatever is drawn shows."""
    _, labels = draw_ellipses(seed)
    rgb = np.full((*labels.shape, 3), 128, np.uint8)
    return LabelledImage("grey", rgb, np.stack([labels, (labels == 1) * np.uint16(60)]))


@given(SEEDS)
def test_drawn_things_cover_what_is_behind(seed):
    view, rng = grey_view(seed % 7), np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawn_things, "SHADOW_PROBABILITY", 0.0)
        drawn = draw_things(view, TEXTURE, rng)
    new = drawn.layers[0] > view.layers.max()
    assert not drawn.layers[1][new].any()
    assert np.array_equal(drawn.layers[:, ~new], view.layers[:, ~new])
    far = cv2.dilate(new.astype(np.uint8), np.ones((9, 9))) == 0  # from the soft outlines
    assert np.array_equal(drawn.rgb[far], view.rgb[far])
    assert np.unique(drawn.layers[0][new]).size <= drawn_things.MOST_DRAWN
    assert drawn.rgb.dtype == np.uint8 and drawn.layers.dtype == np.uint16


@pytest.mark.parametrize("draw", [draw_things, draw_tiles])
@given(SEEDS)
def test_drawn_things_have_no_class_and_no_label_of_another(draw, seed):
    """A crop keeps the names of what it left out, and label maps may use all 16 bits."""
    _, labels = draw_ellipses(seed % 7)
    labels[:9, :9] = 65535
    view = replace(
        grey_view(0), layers=labels[None], classes=dict.fromkeys([*range(1, 2000), 65534], "car")
    )
    drawn = draw(view, TEXTURE, np.random.default_rng(seed)).layers[0]
    new = np.setdiff1d(drawn, view.layers)
    assert not set(new.tolist()) & set(view.classes)
    # what was there before is covered, but nowhere else than it was
    assert ((drawn == labels) | (drawn == 0) | np.isin(drawn, new)).all()


def test_a_shadow_darkens_and_is_no_thing():
    darker = 0
    for seed in range(20):
        view = replace(grey_view(0), layers=np.zeros((1, 96, 128), np.uint16))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(drawn_things, "SHADOW_PROBABILITY", 1.0)
            drawn = draw_things(view, TEXTURE, np.random.default_rng(seed))
        outside = cv2.dilate((drawn.layers[0] > 0).astype(np.uint8), np.ones((9, 9))) == 0
        assert (drawn.rgb[outside] <= view.rgb[outside]).all()
        darker += (drawn.rgb[outside] < view.rgb[outside] - 10).any()
    assert darker > 10


def test_shapes_are_of_all_kinds_and_reach_everywhere():
    """Thin and compact ones, small and large, in every part of an image."""
    rng = np.random.default_rng(3)
    shapes = np.stack([random_shape((96, 128), rng) for _ in range(400)]) > 0
    assert shapes.any(0).mean() > 0.98
    areas = shapes.reshape(len(shapes), -1).mean(1)
    assert areas.min() < 0.005 and areas.max() > 0.1
    fills = []
    for shape in shapes[areas > 0.003]:
        points = cv2.findNonZero(shape.astype(np.uint8))
        sides = sorted(cv2.minAreaRect(points)[1])
        fills.append(sides[0] / max(1.0, sides[1]))
    assert np.mean(np.array(fills) < 0.25) > 0.15  # rods
    assert np.mean(np.array(fills) > 0.6) > 0.3


@given(SEEDS)
def test_tiles_are_apart_and_cover_what_is_behind(seed):
    view, rng = grey_view(seed % 7), np.random.default_rng(seed)
    drawn = draw_tiles(view, TEXTURE, rng)
    new = drawn.layers[0] > view.layers.max()
    kept = drawn.layers[0] == view.layers[0]
    gone = ~new & ~kept  # between the tiles
    assert not drawn.layers[0][gone].any() and not drawn.layers[1][new | gone].any()
    untouched = kept & (view.layers[0] > 0)
    assert np.array_equal(drawn.rgb[untouched], view.rgb[untouched])
    assert new.any()


def test_each_tile_is_one_piece_of_its_own_colour():
    rng = np.random.default_rng(5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawn_tiles, "PART_PROBABILITY", 0.0)
        drawn = draw_tiles(grey_view(0), np.full_like(TEXTURE, 9), rng)
    labels = [label for label in np.unique(drawn.layers[0]) if label]
    assert len(labels) > 8
    for label in labels:
        tile = (drawn.layers[0] == label).astype(np.uint8)
        assert cv2.connectedComponents(tile)[0] == 2
        inner = cv2.erode(np.pad(tile, 1), np.ones((7, 7)))[1:-1, 1:-1] > 0
        if inner.sum() > 9:
            assert drawn.rgb[inner].std(0).max() < 4
