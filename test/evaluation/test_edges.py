"""Edges against people's: matching within the tolerance, ODS and OIS."""

import numpy as np
import pytest

from aopsam_ros.evaluation import edges as edges_module
from aopsam_ros.evaluation.edges import boundaries, edge_counts, edge_figures, f_measure

SIZE = (300, 400)  # a diagonal of 500: pixels up to 3.75 apart match


@pytest.fixture(autouse=True)
def two_thresholds(monkeypatch):
    monkeypatch.setattr(edges_module, "THRESHOLDS", np.array([0.2, 0.6]))


def line(row, strength=1.0):
    edges = np.zeros(SIZE, np.float32)
    edges[row, 50:150] = strength
    return edges


@pytest.mark.parametrize(("shift", "matched"), [(0, 100), (3, 100), (5, 0)])
def test_pixels_match_within_the_tolerance(shift, matched):
    counts = edge_counts(line(100 + shift), line(100)[None] > 0)
    assert counts.tolist() == [[100, matched, 100, matched]] * 2


def test_a_wanted_pixel_is_matched_once():
    doubled = np.maximum(line(99), line(101))
    counts = edge_counts(doubled, line(100)[None] > 0)
    assert counts[0].tolist() == [200, 100, 100, 100]


def test_any_annotator_makes_an_edge_right_and_all_want_theirs():
    people = np.array([line(100), line(100) + line(200), line(250)]) > 0
    counts = edge_counts(line(100) + line(150), people)
    assert counts[0].tolist() == [200, 100, 100 + 200 + 100, 200]
    precision, recall = 1 / 2, 1 / 2
    assert f_measure(counts)[0] == pytest.approx(2 * precision * recall / (precision + recall))


def test_ods_has_one_threshold_for_all_images_ois_one_for_each():
    noisy = np.maximum(line(100, 0.9), np.maximum(line(200, 0.4), line(250, 0.4)))
    weak = np.maximum(line(100, 0.4), line(200, 0.9))
    images = [
        edge_counts(noisy, line(100)[None] > 0),  # best from 0.6 on
        edge_counts(weak, (line(100) + line(200))[None] > 0),  # best from 0.2 on
    ]
    figures = edge_figures(images)
    assert figures["ois"] == 1.0
    assert figures["ods"] == pytest.approx(
        2 * 200 / (200 + 300)
    )  # at 0.6; at 0.2 2 * 300 / (500 + 300)
    assert figures["ods"] < 1


def test_nothing_found_or_wanted_is_zero():
    nothing = np.zeros(SIZE, np.float32)
    assert f_measure(edge_counts(nothing, line(9)[None] > 0)).tolist() == [0, 0]
    assert f_measure(edge_counts(line(9), nothing[None] > 0)).tolist() == [0, 0]


def test_boundaries_lie_between_regions():
    labels = np.zeros((6, 8), np.uint16)
    labels[:, 4:] = 3
    assert boundaries(labels).nonzero()[1].tolist() == [3] * 6
