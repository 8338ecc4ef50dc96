"""AR@1000 and AP by hand, and masks through COCO's run lengths."""

import numpy as np
import pytest

coco = pytest.importorskip("pycocotools.mask")

from aopsam_ros.evaluation.coco_metrics import (  # noqa: E402
    CocoImage,
    compress,
    found_masks,
    recall_and_precision,
)
from aopsam_ros.masks.rle import encode_full  # noqa: E402
from aopsam_ros.results import InstanceMask, Segmentation  # noqa: E402


def rectangle(top, bottom, left, right, size=(60, 80)):
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def image(truth, found, scores, size=(60, 80)):
    return CocoImage(*size, tuple(map(compress, truth)), tuple(map(compress, found)), tuple(scores))


A, B = rectangle(0, 20, 0, 20), rectangle(30, 50, 30, 62)


def test_one_exact_one_false_one_rough_mask():
    rough = rectangle(30, 50, 30, 50)  # IoU 20 / 32 with B: a match at 0.50, 0.55 and 0.60
    false = rectangle(0, 20, 60, 80)
    recall, precision = recall_and_precision([image([A, B], [A, false, rough], [0.9, 0.8, 0.7])])
    assert recall == pytest.approx((3 * 1.0 + 7 * 0.5) / 10)
    # Of 101 recalls, 0 to 0.50 at precision 1; the others at 2 / 3, or at 0 where B is not met.
    low, high = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert precision == pytest.approx((3 * low + 7 * high) / 10)


def test_nothing_found_is_zero():
    assert recall_and_precision([image([A], [], [])]) == (0.0, 0.0)


def test_a_thousand_masks_count_not_a_hundred():
    others = [rectangle(i // 60 * 2, i // 60 * 2 + 1, i % 60, i % 60 + 2) for i in range(400)]
    scores = [0.9 - 0.001 * i for i in range(400)]
    recall, _ = recall_and_precision([image([B], [*others, B], [*scores, 0.1])])
    assert recall == pytest.approx(1.0)
    late = [0.9] * 1000 + [0.1]
    recall, _ = recall_and_precision([image([B], [*[A] * 1000, B], late)])
    assert recall == 0.0  # the 1001st is not looked at


def test_recall_is_over_all_masks_of_all_images_precision_over_all_scores():
    images = [image([A, B], [A], [0.3]), image([A], [B], [0.8])]
    recall, precision = recall_and_precision(images)
    assert recall == pytest.approx(1 / 3)
    # The false mask has the higher score: precision 1 / 2 up to recall 1 / 3, that is 34 of 101.
    assert precision == pytest.approx(34 * 0.5 / 101)


def test_small_masks_count_like_large_ones():
    tiny = rectangle(3, 5, 3, 6)
    assert recall_and_precision([image([tiny], [tiny], [0.5])]) == (1.0, pytest.approx(1.0))


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (60, 80)])
def test_masks_pass_through_run_lengths(size):
    mask = np.random.default_rng(0).random(size) < 0.5
    mask[0, 0] = True
    box, counts = encode_full(mask)
    one = InstanceMask(1, box, int(mask.sum()), 0.75, 0.5, (0, 0), 0.4, "", counts)
    segmentation = Segmentation(*size, (one,), (), 0, {}, None, "m", "s")
    (text,), scores = found_masks(segmentation)
    decoded = coco.decode({"size": list(size), "counts": text.encode()})
    np.testing.assert_array_equal(decoded.astype(bool), mask)
    assert scores == (0.75,)
