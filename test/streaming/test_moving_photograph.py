"""Tracking on a real photograph that moves as is known: how often does an object's id change?"""

import itertools

import cv2
import numpy as np
import pytest

from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.streaming.flicker import camera_flicker
from aopsam_ros.streaming.stream_segmenter import StreamSegmenter
from aopsam_ros.streaming.track import appearance_of
from aopsam_ros.streaming.tracker import TrackingOptions
from support import golden_masks

FRAMES = 12
HEIGHT, WIDTH = 300, 450


@pytest.fixture(scope="module")
def segmenter():
    with Segmenter.from_bundle(
        "nano", engine=EngineOptions(engine="onnxruntime", threads=1)
    ) as segmenter:
        # Of masks that are nearly the same, nobody could tell which one is which in the next frame.
        options = {**golden_masks.everything_options(), "mask.overlap_threshold": 0.6}
        segmenter.options = segmenter.options.updated(options)
        yield segmenter


@pytest.fixture(scope="module")
def frames(root):
    """Crops along a curve through a photograph: place and image of each."""
    rgb = cv2.imread(str(root / "photographs" / "coffee.jpg"))[..., ::-1]
    places = [(12 * step, round(50 - 50 * np.cos(step))) for step in range(FRAMES)]
    return [((x, y), np.ascontiguousarray(rgb[y:, x:][:HEIGHT, :WIDTH])) for x, y in places]


def switches(first, second):
    """Objects that both frames show with about the same mask, and how many changed their id."""
    (x0, y0), before = first
    (x1, y1), after = second
    left, top = max(x0, x1), max(y0, y1)
    right, bottom = min(x0, x1) + WIDTH, min(y0, y1) + HEIGHT

    def shown(masks, x, y):
        window = slice(top - y, bottom - y), slice(left - x, right - x)
        rows = [decode_full(mask, HEIGHT, WIDTH)[window].ravel() for mask in masks]
        return np.array(rows, np.float32)

    a, b = shown(before.masks, x0, y0), shown(after.masks, x1, y1)
    both = a @ b.T
    iou = both / np.maximum(a.sum(1)[:, None] + b.sum(1)[None] - both, 1.0)
    pairs = [
        (i, j) for i, j in enumerate(iou.argmax(1)) if iou[i, j] > 0.7 and iou[:, j].argmax() == i
    ]
    return len(pairs), sum(before.masks[i].id != after.masks[j].id for i, j in pairs)


def count(found):
    results = [switches(first, second) for first, second in itertools.pairwise(found)]
    return tuple(map(sum, zip(*results, strict=True)))


def test_ids_stay_with_objects_of_a_moving_photograph(segmenter, frames):
    stream = StreamSegmenter(segmenter)
    found = [
        (place, stream.segment(image, stamp, tracking=TrackingOptions()))
        for stamp, (place, image) in enumerate(frames)
    ]
    pairs, changed = count(found)
    assert pairs > 100
    assert changed <= 0.06 * pairs, (changed, pairs)
    without = [(place, segmenter.segment(image)) for place, image in frames[:4]]
    pairs, changed = count(without)
    assert changed > 0.5 * pairs  # numbered anew in each frame


def test_the_same_frame_again_has_the_same_ids_and_a_step_back_in_time_new_ones(segmenter, frames):
    _, image = frames[0]
    stream = StreamSegmenter(segmenter)
    first, again, rewound = (
        [mask.id for mask in stream.segment(image, stamp, tracking=TrackingOptions()).masks]
        for stamp in (5, 6, 3)
    )
    assert first == again
    assert not set(rewound) & set(again)


def flicker_of(segmenter, frames, options, hysteresis):
    stream = StreamSegmenter(segmenter)
    found = [
        (stream.segment(image, options=options, hysteresis=hysteresis), image)
        for _, image in frames
    ]
    return np.mean([camera_flicker(a, b, (i, j)) for (a, i), (b, j) in itertools.pairwise(found)])


def test_masks_flicker_less_with_hysteresis(segmenter, frames):
    """At a threshold that half of the masks are near to."""
    scores = [mask.score for mask in segmenter.segment(frames[0][1]).masks]
    options = segmenter.options.updated({"mask.score_threshold": float(np.median(scores))})
    without, with_it = (flicker_of(segmenter, frames, options, amount) for amount in (0.0, 0.15))
    assert with_it < 0.9 * without, (with_it, without)


@pytest.mark.parametrize("photograph", ["astronaut", "desk", "garage"])
@pytest.mark.parametrize(
    "options",
    [
        {"mask.predicted_iou_threshold": 0.7},
        {"mask.stability_threshold": 0.9},
        {"mask.predicted_iou_threshold": 0.8, "mask.combine": "merge"},
        {"mask.predicted_iou_threshold": 0.7, "mask.granularity": "objects"},
        {"mask.granularity": "parts", "mask.min_area": 5000},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_a_camera_that_stands_shows_the_same_masks_with_hysteresis(segmenter, photograph, options):
    own = segmenter.bundle.options(segmenter.source.defaults_group, segmenter.source.defaults)
    rgb, own = golden_masks.read_rgb(f"{photograph}.jpg"), own.updated(options)
    stream = StreamSegmenter(segmenter)
    plain, *others = (
        stream.segment(rgb, options=own, hysteresis=amount) for amount in (0.0, 0.1, 0.1)
    )
    for other in others:
        assert other.prompts == plain.prompts
        assert len(other.masks) == len(plain.masks)
        masks = golden_masks.full_masks(other), golden_masks.full_masks(plain)
        np.testing.assert_array_equal(*masks)


def test_appearance_is_the_mean_feature_in_the_mask_of_unit_length(segmenter, frames):
    _, image = frames[0]
    frame = segmenter.encode(image)
    segmentation, features = segmenter.segment_frame(frame), segmenter.features(frame)
    appearance = appearance_of(segmentation.masks, features)
    assert appearance.shape == (len(segmentation.masks), features.unit.shape[1])
    np.testing.assert_allclose(np.linalg.norm(appearance, axis=1), 1, atol=1e-5)
    unit = features.unit.reshape(features.rows, features.columns, -1)
    for mask, found in list(zip(segmentation.masks, appearance, strict=True))[:10]:
        full, inside = decode_full(mask, HEIGHT, WIDTH), []
        for row, column in np.ndindex(features.rows, features.columns):
            place = features.geometry.cells_to_source(np.array([column, row]), features.size)
            x, y = np.rint(place).astype(int)
            if full[y, x]:
                inside.append(unit[row, column])
        if inside:
            mean = np.mean(inside, axis=0)
            np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-4)
    assert appearance_of((), features).shape == (0, features.unit.shape[1])
