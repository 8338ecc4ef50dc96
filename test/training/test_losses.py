"""Losses against hand-computed cases."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from aopsam_ros.training import losses  # noqa: E402
from aopsam_ros.training.losses import (  # noqa: E402
    choice_loss,
    confidence_loss,
    extent_iou,
    extent_loss,
    low_resolution_iou,
    mask_losses,
    segmenter_loss,
)


def test_undecided_mask():
    """At logit 0 every pixel has p = 0.5: focal is 0.25 ln 2, dice follows from the areas."""
    target = torch.zeros(1, 2, 2)
    target[0, 0, 0] = 1.0
    loss = mask_losses(torch.zeros(1, 1, 2, 2), target)
    dice = 1 - (2 * 0.5 + 1) / (4 * 0.5 + 1 + 1)
    assert loss.item() == pytest.approx(20 * 0.25 * math.log(2) + dice, abs=1e-5)


def test_perfect_and_opposite_masks():
    target = torch.zeros(1, 4, 4)
    target[0, :2] = 1.0
    logits = (target * 2 - 1)[:, None] * 30
    right, wrong = mask_losses(torch.cat([logits, -logits], 1), target)[0]
    assert right.item() == pytest.approx(0, abs=1e-4)
    assert wrong.item() > 100


def test_the_best_mask_is_trained_and_the_others_a_little():
    each = torch.tensor([[3.0, 1.0, 2.0], [4.0, 4.0, 1.0]])
    assert choice_loss(each).item() == pytest.approx(0.95 * 1.0 + 0.05 * (2.0 + 3.0) / 2)


def test_iou_by_hand():
    logits = torch.full((1, 2, 2, 3), -1.0)
    logits[0, 0, 0] = 1.0  # the top row: 3 pixels
    target = torch.zeros(1, 2, 3)
    target[0, :, 0] = 1.0  # the left column: 2 pixels, 1 shared
    assert low_resolution_iou(logits, target)[0].tolist() == pytest.approx([1 / 4, 0])


def test_predicted_iou_learns_the_actual_one():
    logits = torch.full((1, 3, 2, 2), -5.0)
    target = torch.ones(1, 2, 2)
    right, _ = segmenter_loss(logits, torch.zeros(1, 3), target)
    wrong, iou = segmenter_loss(logits, torch.ones(1, 3), target)
    assert (wrong - right).item() == pytest.approx(2.0)
    assert iou.tolist() == [[0, 0, 0]]


def test_a_peak_on_unlabelled_ground_costs_less():
    target, known = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    known[0, 0, 0] = True
    on_known, on_unknown = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    on_known[0, 0, 0, 0] = on_unknown[0, 0, 3, 3] = 1.0
    dear = confidence_loss(on_known, target, known).item()
    cheap = confidence_loss(on_unknown, target, known).item()
    assert 0 < cheap < dear
    assert confidence_loss(target[None], target, known).item() == 0


def test_iou_of_extents_by_hand():
    """Boxes around the same place: 4 x 4 and 2 x 6, of which 2 x 4 are common."""
    square = torch.tensor([2.0, 2.0, 2.0, 2.0]).reshape(1, 4, 1, 1)
    tall = torch.tensor([1.0, 3.0, 1.0, 3.0]).reshape(1, 4, 1, 1)
    assert extent_iou(square, tall).item() == pytest.approx(8 / (16 + 12 - 8))
    assert extent_iou(tall, tall).item() == pytest.approx(1.0)


def test_extents_cost_nothing_where_they_are_right_or_unknown():
    target = torch.full((1, 4, 1, 2), 0.1)
    found = torch.zeros(1, 4, 1, 2)  # logarithms of one unit
    found[..., 1] = 3.0
    known = torch.tensor([[[1.0, 0.0]]])
    assert extent_loss(found, target, known, unit=0.1).item() == pytest.approx(0, abs=1e-6)
    assert extent_loss(found, target, torch.ones(1, 1, 2), unit=0.1).item() > 0.5


def test_parts_of_a_batch_weigh_as_much_as_in_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    maps, goal = (torch.from_numpy(rng.random((2, 4, 8, 8))) for _ in range(2))
    known = torch.from_numpy(rng.random((2, 8, 8)) < 0.5)
    weight = torch.from_numpy(rng.random((2, 8, 8))) * torch.tensor([1.0, 9.0])[:, None, None]

    def confidence(part):
        return confidence_loss(maps[part, :1], goal[part, 0] ** 4, known[part])

    def extents(part):
        return extent_loss(maps[part], goal[part], weight[part], 1.0)

    for loss in (confidence, extents):
        whole = loss(slice(None))
        sums = []
        with monkeypatch.context() as patch:
            patch.setattr(losses, "average", lambda value, sums=sums: sums.append(value) or value)
            loss([0]), loss([1])
            mean = torch.stack(sums).mean()
            patch.setattr(losses, "average", lambda _, mean=mean: mean)
            halves = (loss([0]) + loss([1])) / 2
        assert halves.item() == pytest.approx(whole.item(), rel=1e-6)
