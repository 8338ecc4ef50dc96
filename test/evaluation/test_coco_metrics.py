"""Average recall and precision by hand, and masks through COCO's run lengths."""

from functools import partial

import numpy as np
import pytest

coco = pytest.importorskip("pycocotools.mask")

from aopsam_ros.evaluation.coco_metrics import COCO_FIGURES, OBJECT, coco_figures, compress, expand  # noqa: E402
from aopsam_ros.evaluation.metrics import crop_of  # noqa: E402
from support.drawn_masks import rectangle  # noqa: E402

SIZE = 60, 80


box = partial(rectangle, size=SIZE)


def image(labelled, found, scores, size=SIZE):
    def of(masks, scores):
        texts = [compress(crop_of(mask), *size) for mask in masks]
        return [(OBJECT, text, score) for text, score in zip(texts, scores, strict=True)]

    labels = of(labelled, [1.0] * len(labelled))
    return {"size": list(size), "ground_truth": labels, "predicted": of(found, scores)}


A, B = box(0, 20, 0, 20), box(30, 50, 30, 62)


def test_one_exact_one_false_one_rough_mask():
    rough = box(30, 50, 30, 50)  # IoU 20 / 32 with B: a match at 0.50, 0.55 and 0.60
    false = box(0, 20, 60, 80)
    found = coco_figures([image([A, B], [A, false, rough], [0.9, 0.8, 0.7])])
    assert found["ar_1000"] == pytest.approx((3 * 1.0 + 7 * 0.5) / 10)
    # Of 101 recalls, 0 to 0.50 at precision 1; the others at 2 / 3, or at 0 where B is not met.
    low, high = (51 + 50 * 2 / 3) / 101, 51 / 101
    assert found["average_precision"] == pytest.approx((3 * low + 7 * high) / 10)


def test_recall_is_also_by_size():
    size = 200, 200
    small, medium, large = (
        box(0, 30, 0, 30, size=size),  # 900 pixels
        box(0, 50, 100, 150, size=size),  # 2500
        box(90, 190, 0, 100, size=size),  # 10,000
    )
    rough = box(0, 50, 100, 136, size=size)  # IoU 0.72: a match at 0.50 to 0.70
    recall = coco_figures([image([small, medium, large], [large, rough], [0.9, 0.8], size)])
    assert recall["ar_100"] == pytest.approx((0.0 + 0.5 + 1.0) / 3)
    by_size = [recall[f"ar_100_{name}"] for name in ("small", "medium", "large")]
    assert by_size == pytest.approx([0.0, 0.5, 1.0])
    assert coco_figures([image([small], [small], [0.9], size)])["ar_10_large"] is None


def test_only_the_masks_of_the_highest_scores_count():
    others = [box(i // 60 * 2, i // 60 * 2 + 1, i % 60, i % 60 + 2) for i in range(400)]
    scores = [0.9 - 0.001 * i for i in range(400)]
    for before, reached in ((9, (1, 1, 1)), (10, (0, 1, 1)), (99, (0, 1, 1)), (400, (0, 0, 1))):
        recall = coco_figures([image([B], [*others[:before], B], [*scores[:before], 0.1])])
        assert tuple(recall[f"ar_{most}"] for most in (10, 100, 1000)) == reached
    late = coco_figures([image([B], [*[A] * 1000, B], [0.9] * 1000 + [0.1])])
    assert late["ar_1000"] == 0  # the 1001st


def test_recall_is_over_all_masks_of_all_images_precision_over_all_scores():
    found = coco_figures([image([A, B], [A], [0.3]), image([A], [B], [0.8])])
    assert found["ar_1000"] == pytest.approx(1 / 3)
    # The false mask has the higher score: precision 1 / 2 up to recall 1 / 3, that is 34 of 101.
    assert found["average_precision"] == pytest.approx(34 * 0.5 / 101)


def test_nothing_found_is_zero_and_no_image_has_no_figures():
    found = coco_figures([image([A], [], [])])
    assert (found["ar_1000"], found["average_precision"]) == (0, 0)
    assert coco_figures([]) == dict.fromkeys(COCO_FIGURES)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (60, 80)])
@pytest.mark.parametrize("seed", range(3))
def test_masks_pass_through_run_lengths(size, seed):
    mask = np.random.default_rng(seed).random(size) < 0.5
    mask[0, -1] = True
    text = compress(crop_of(mask), *size)
    decoded = coco.decode({"size": list(size), "counts": text.encode()})
    np.testing.assert_array_equal(decoded.astype(bool), mask)
    assert expand(text, *size).box == crop_of(mask).box
