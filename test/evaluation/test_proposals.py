"""Average recall of proposals, in the order of ~/detections."""

from types import SimpleNamespace

import numpy as np
import pytest

from aopsam_ros.evaluation.tasks import evaluate_proposals
from aopsam_ros.masks.iou import crop_of
from support.drawn_masks import instance_of, rectangle

pytestmark = pytest.mark.needs("pycocotools")
SIZE = 40, 60
THING = rectangle(0, 20, 0, 20, SIZE)


def recall(score, stability):
    """Of one thing whose mask has these, beside ten wrong ones of 0.6 and 0.6."""
    from aopsam_ros.evaluation.coco_metrics import OBJECT, compress

    wrong = [
        instance_of(rectangle(22, 40, x, x + 5, SIZE), number, score=0.6, stability_score=0.6)
        for number, x in enumerate(range(0, 50, 5), start=2)
    ]
    right = instance_of(THING, 1, score=score, stability_score=stability)
    found = SimpleNamespace(height=SIZE[0], width=SIZE[1], masks=(*wrong, right))
    segmenter = SimpleNamespace(segment=lambda rgb, boxes: found)
    image = SimpleNamespace(
        rgb=np.zeros((*SIZE, 3), np.uint8),
        find_boxes=lambda boxes: None,
        run_lengths=[(OBJECT, compress(crop_of(THING), *SIZE), 1.0)],
    )
    return evaluate_proposals(segmenter, [image])


@pytest.mark.parametrize(("score", "stability", "best"), [(0.4, 0.9, 1), (0.7, 0.4, 0)])
def test_masks_are_ranked_by_the_mean_of_score_and_stability(score, stability, best):
    found = recall(score, stability)
    assert (found["ar_10"], found["ar_100"], found["ar_10_small"]) == (best, 1, best)
    assert "ar_10_large" not in found
