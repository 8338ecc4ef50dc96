"""Edges from masks: where they are, how thin and how strong."""

import numpy as np
import pytest

from aopsam_ros.geometry import resized_geometry
from aopsam_ros.masks.edges import edge_options, find_edges
from aopsam_ros.options import SegmenterOptions


def disc(steep, side=64, radius=18.0):
    """Logits of a disc: the signed distance to its circle, so and so steep."""
    y, x = np.mgrid[:side, :side] + 0.5
    return ((radius - np.hypot(x - side / 2, y - side / 2)) * steep).astype(np.float32)


@pytest.mark.parametrize("size", [(128, 128), (256, 256), (1000, 1000)])
def test_an_edge_is_thin_and_on_the_outline_whatever_the_image_size(size):
    geometry = resized_geometry(*size, 128)
    edges = find_edges(disc(2.0)[None], np.ones(1, np.float32), geometry)
    assert edges.shape == size and 0 < edges.max() <= 1
    rows, columns = np.nonzero(edges > 0.1)
    cell = size[0] / 64
    distance = np.hypot(rows + 0.5 - size[0] / 2, columns + 0.5 - size[1] / 2)
    assert np.abs(distance - 18 * cell).max() < max(2.0, 0.25 * cell)
    angles = np.floor(np.arctan2(rows - size[0] / 2, columns - size[1] / 2) / 0.2)
    assert len(np.unique(angles)) >= 31  # closed: of 32 sectors at most one is empty
    outline = 2 * np.pi * 18 * cell
    assert len(rows) < 2.2 * outline * max(1.0, size[0] / 640)


def test_a_sharper_or_better_mask_has_a_stronger_edge():
    geometry = resized_geometry(128, 128, 128)

    def strength(steep, score):
        return find_edges(disc(steep)[None], np.array([score], np.float32), geometry).max()

    assert strength(2.0, 1.0) > 1.5 * strength(0.5, 1.0)
    assert strength(2.0, 1.0) == pytest.approx(2 * strength(2.0, 0.5), rel=1e-3)


def test_of_several_masks_the_strongest_edge_counts_and_none_is_no_error():
    geometry = resized_geometry(96, 128, 128)
    one, two = disc(2.0, radius=10), disc(2.0, radius=20)
    both = find_edges(np.stack((one, two)), np.ones(2, np.float32), geometry)
    alone = [find_edges(m[None], np.ones(1, np.float32), geometry) for m in (one, two)]
    np.testing.assert_array_equal(both > 0, (alone[0] > 0) | (alone[1] > 0))
    nothing = find_edges(np.zeros((0, 64, 64), np.float32), np.zeros(0, np.float32), geometry)
    assert nothing.shape == (96, 128) and not nothing.any()
    empty = find_edges(np.full((1, 64, 64), -9.0, np.float32), np.ones(1, np.float32), geometry)
    assert not empty.any()


def test_edges_of_an_image_take_more_prompts_and_poorer_masks_never_fewer():
    few = SegmenterOptions().updated({"asf.max_prompts": 20, "mask.score_threshold": 0.5})
    wanted = {"asf.max_prompts": 128, "mask.score_threshold": 0.1}
    found = edge_options(few).flat()
    assert {name: found[name] for name in wanted} == wanted
    grid = few.updated({"asf.max_prompts": 4096, "mask.score_threshold": 0.02})
    found = edge_options(grid).flat()
    assert (found["asf.max_prompts"], found["mask.score_threshold"]) == (4096, 0.02)
    cropped = few.updated({"grid.crop_layers": 2})
    assert edge_options(cropped) == edge_options(few)  # crops have no edges
