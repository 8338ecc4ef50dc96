"""Labels of a stream's frames: they go with the masks through tracking, reuse and crops."""

from dataclasses import replace

import numpy as np
import pytest

from aopsam_ros.streaming.reuse import ReuseOptions
from aopsam_ros.streaming.stream_segmenter import StreamSegmenter
from aopsam_ros.streaming.tracker import TrackingOptions
from support.scenes import boxes_scene


class Names:
    """Names the largest mask, and notes what it was called with."""

    def __init__(self):
        self.calls = []

    def __call__(self, rgb, frame, segmentation):
        self.calls.append((rgb.shape, frame.geometry.width))
        first, *others = segmentation.masks
        named = replace(first, label="mug", label_score=0.9)
        return replace(segmentation, masks=(named, *others))


@pytest.mark.parametrize(
    "options",
    [{}, {"tracking": TrackingOptions()}, {"reuse": ReuseOptions()}, {"hysteresis": 0.1}],
    ids=["alone", "tracking", "reuse", "hysteresis"],
)
def test_every_frame_is_annotated_once_and_keeps_its_labels(tiny, options):
    names, stream, rgb = Names(), StreamSegmenter(tiny), boxes_scene()
    plain = StreamSegmenter(tiny)
    for stamp in (1, 2, 3):
        found = stream.segment(rgb, stamp, annotate=names, **options)
        expected = plain.segment(rgb, stamp, **options)
        assert [(mask.label, mask.label_score) for mask in found.masks] == [("mug", 0.9), ("", 0.0)]
        for mask, wanted in zip(found.masks, expected.masks, strict=True):
            assert mask.id == wanted.id
            np.testing.assert_array_equal(mask.counts, wanted.counts)
    assert names.calls == [(rgb.shape, 128)] * 3


def test_masks_of_crops_are_named_by_the_whole_image(tiny_grid):
    names, rgb = Names(), boxes_scene()
    options = tiny_grid.options.updated({"grid.crop_layers": 1})
    stream = StreamSegmenter(tiny_grid)
    found = stream.segment(rgb, options=options, annotate=names, edges=True)
    assert found.masks[0].label == "mug" and found.edge_map is None
    assert names.calls == [(rgb.shape, 128)]
