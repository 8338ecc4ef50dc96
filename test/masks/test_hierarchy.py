"""Parents and levels of masks that lie in one another."""

import numpy as np
import pytest

from aopsam_ros.masks.hierarchy import NO_PARENT, find_hierarchy
from support.drawn_masks import rectangle

WALL, WINDOW = rectangle(0, 20, 0, 12), rectangle(2, 10, 2, 10)
PANE, CAR = rectangle(3, 6, 3, 6), rectangle(12, 18, 13, 20)
TREE = find_hierarchy(np.stack([PANE, CAR, WALL, WINDOW]))


def test_parent_is_the_smallest_mask_around():
    assert TREE.parent.tolist() == [3, NO_PARENT, NO_PARENT, 2]
    assert TREE.level.tolist() == [2, 0, 0, 1]


@pytest.mark.parametrize(
    ("granularity", "chosen"), [("objects", [1, 2]), ("parts", [0, 1]), ("all", [0, 1, 2, 3])]
)
def test_granularity(granularity, chosen):
    assert TREE.of_granularity(granularity).tolist() == chosen


def test_no_part_holds_another_even_if_a_smaller_one_does_so_too():
    """The pane lies where wall and window overlap, and the window reaches out of the wall."""
    window = rectangle(2, 10, 2, 16)
    assert find_hierarchy(np.stack([WALL, window, PANE])).of_granularity("parts").tolist() == [2]


def test_nine_tenths_inside_are_enough_and_less_are_not():
    outer = rectangle(0, 20, 0, 10)
    assert find_hierarchy(np.stack([outer, rectangle(0, 1, 1, 11)])).parent[1] == 0  # 9 of 10
    assert find_hierarchy(np.stack([outer, rectangle(0, 1, 2, 12)])).parent[1] == NO_PARENT


def test_of_equal_masks_the_first_is_the_parent():
    tree = find_hierarchy(np.stack([WINDOW, WINDOW]))
    assert tree.parent.tolist() == [NO_PARENT, 0]


def test_no_masks():
    assert len(find_hierarchy(np.zeros((0, 4, 4), bool)).parent) == 0


def test_without_a_mask_its_parts_have_the_next_one_around():
    tree = TREE.take(np.array([2, 0, 1]))
    assert tree.parent.tolist() == [NO_PARENT, 0, NO_PARENT]
    assert tree.level.tolist() == [0, 1, 0]


def test_an_empty_mask_lies_in_nothing():
    assert find_hierarchy(np.stack([WALL, WALL & ~WALL])).parent.tolist() == [NO_PARENT] * 2


def test_a_random_pile_is_a_forest():
    rng = np.random.default_rng(0)
    drawn = rng.integers(1, 10, (40, 4)).tolist()
    masks = np.stack([rectangle(y, y + h, x, x + w) for y, x, h, w in drawn])
    tree = find_hierarchy(masks)
    area = masks.sum((1, 2))
    for child, parent in enumerate(tree.parent):
        if parent == NO_PARENT:
            assert tree.level[child] == 0
        else:
            assert area[parent] >= area[child] and tree.level[child] == tree.level[parent] + 1
            assert (masks[child] & masks[parent]).sum() >= 0.9 * area[child]
