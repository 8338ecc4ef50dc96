"""Tracking on a real photograph that moves as is known: how often does an object's id change?"""

import itertools

import cv2
import numpy as np
import pytest

from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.streaming import StreamTracker, TrackingOptions
from aopsam_ros.streaming.appearance import looks_of

FRAMES = 12
HEIGHT, WIDTH = 300, 450


@pytest.fixture(scope="module")
def frames(root):
    """Crops along a curve through a photograph: place, picture, masks and features of each."""
    rgb = cv2.imread(str(root / "photographs" / "coffee.jpg"))[..., ::-1]
    found = []
    with Segmenter.from_bundle("nano", engine="onnxruntime", threads=1) as segmenter:
        # Of masks that are nearly the same, nobody could tell which one is which in the next frame.
        options = segmenter.options.updated({"mask.overlap_threshold": 0.7})
        for step in range(FRAMES):
            x = 12 * step
            y = round(50 - 50 * np.cos(step))
            picture = np.ascontiguousarray(rgb[y : y + HEIGHT, x : x + WIDTH])
            encoded = segmenter.encode(picture)
            segmentation = segmenter.segment_frame(encoded, options)
            found.append(((x, y), picture, segmentation, segmenter.features(encoded)))
    return found


def tracked(frames, options=None):
    """The frames' places and masks, with ids."""
    tracker = StreamTracker()
    return [
        (
            place,
            tracker.update(picture, segmentation, features, stamp, options or TrackingOptions()),
        )
        for stamp, (place, picture, segmentation, features) in enumerate(frames)
    ]


def switches(first, second):
    """Objects that both frames show with about the same mask, and how many changed their id."""
    (x0, y0), before = first
    (x1, y1), after = second
    left, top = max(x0, x1), max(y0, y1)
    right, bottom = min(x0, x1) + WIDTH, min(y0, y1) + HEIGHT
    window = lambda x, y: (slice(top - y, bottom - y), slice(left - x, right - x))  # noqa: E731
    a = np.array([m.full(HEIGHT, WIDTH)[window(x0, y0)].ravel() for m in before.masks], np.float32)
    b = np.array([m.full(HEIGHT, WIDTH)[window(x1, y1)].ravel() for m in after.masks], np.float32)
    both = a @ b.T
    iou = both / np.maximum(a.sum(1)[:, None] + b.sum(1)[None] - both, 1.0)
    pairs = [
        (i, j) for i, j in enumerate(iou.argmax(1)) if iou[i, j] > 0.7 and iou[:, j].argmax() == i
    ]
    return len(pairs), sum(before.masks[i].id != after.masks[j].id for i, j in pairs)


def count(found):
    results = [switches(first, second) for first, second in itertools.pairwise(found)]
    return tuple(map(sum, zip(*results, strict=True)))


def test_ids_stay_with_objects_of_a_moving_photograph(frames):
    pairs, changed = count(tracked(frames))
    assert pairs > 100
    assert changed <= 0.08 * pairs, (changed, pairs)
    without = [(place, segmentation) for place, _, segmentation, _ in frames]
    assert count(without)[1] > 0.5 * pairs  # numbered anew in each frame


def test_ids_are_unique_in_a_frame_and_never_used_again(frames):
    seen = set()
    last = set()
    for _, segmentation in tracked(frames, TrackingOptions(max_lost=0)):
        ids = [mask.id for mask in segmentation.masks]
        assert len(set(ids)) == len(ids)
        assert not (set(ids) - last) & seen
        seen |= set(ids)
        last = set(ids)


def test_the_same_frame_again_has_the_same_ids_and_a_step_back_in_time_new_ones(frames):
    _, picture, segmentation, features = frames[0]
    tracker, options = StreamTracker(), TrackingOptions()
    first = tracker.update(picture, segmentation, features, 5, options)
    again = tracker.update(picture, segmentation, features, 6, options)
    assert [m.id for m in first.masks] == [m.id for m in again.masks]
    rewound = tracker.update(picture, segmentation, features, 3, options)
    assert not {m.id for m in rewound.masks} & {m.id for m in again.masks}


def test_looks_are_means_of_unit_length_over_the_mask(frames):
    _, _, segmentation, features = frames[0]
    looks = looks_of(segmentation.masks, features)
    assert looks.shape == (len(segmentation.masks), features.unit.shape[1])
    np.testing.assert_allclose(np.linalg.norm(looks, axis=1), 1, atol=1e-5)
    unit = features.unit.reshape(features.rows, features.columns, -1)
    for mask, found in list(zip(segmentation.masks, looks, strict=True))[:10]:
        full, inside = mask.full(HEIGHT, WIDTH), []
        for row in range(features.rows):
            for column in range(features.columns):
                cell = np.array([[column, row]])
                x, y = np.rint(features.geometry.cells_to_source(cell, features.size))[0].astype(
                    int
                )
                if full[y, x]:
                    inside.append(unit[row, column])
        if inside:
            mean = np.mean(inside, axis=0)
            np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-4)
    assert looks_of((), features).shape == (0, features.unit.shape[1])
