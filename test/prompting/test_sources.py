"""Prompt sources: SAM's grid, the predictor's points in source coordinates, wrong names."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.errors import InputError, OptionError
from aopsam_ros.geometry import resized_geometry
from aopsam_ros.options import AsfOptions, SegmenterOptions
from aopsam_ros.prompting.prompts import FrameInput
from aopsam_ros.prompting.sources import choose_source, make_source


@pytest.mark.parametrize("side", [1, 2, 16, 32])
def test_grid_is_sams(side):
    source = make_source(f"grid{side}")
    options = SegmenterOptions(AsfOptions(max_prompts=1))  # a grid is not cut
    prompts = source.propose(FrameInput(resized_geometry(480, 640, 512), options))
    assert source.name == f"grid{side}"
    assert prompts.points.shape == (side * side, 2)
    # As segment-anything's build_point_grid: linspace between half-cell offsets.
    axis = np.linspace(0.5 / side, 1 - 0.5 / side, side)
    x, y = np.tile(axis, (side, 1)), np.tile(axis[:, None], (1, side))
    expected = np.stack([x, y], -1).reshape(-1, 2) * [640, 480]
    np.testing.assert_allclose(prompts.points, expected)
    assert not source.adaptive and not source.needs_confidence_map


@pytest.mark.parametrize(
    "name", ["", "grid", "grid0", "grid65", "grid-1", "grid1.5", "gridx", "Predictor", "grid16 "]
)
def test_wrong_name_is_refused(name):
    with pytest.raises(OptionError, match="prompt source"):
        make_source(name)


@given(st.integers(1, 3000), st.integers(1, 3000), st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_peak_of_the_map_is_found_where_it_is_in_the_image(height, width, at):
    geometry = resized_geometry(height, width, 512)
    size = 128
    point = np.array([[at[0] * (width - 1), at[1] * (height - 1)]])
    rows, columns = geometry.valid_cells(size)
    x, y = np.rint(geometry.to_cells(point, size))[0].astype(int)
    confidence = np.zeros((size, size), np.float32)
    confidence[min(y, rows - 1), min(x, columns - 1)] = 0.9
    confidence[rows:], confidence[:, columns:] = 1.0, 1.0  # padding must not matter
    options = SegmenterOptions(AsfOptions(smoothing_sigma=0.0, confidence_threshold=0.5))
    prompts = make_source("predictor").propose(FrameInput(geometry, options, confidence))
    assert len(prompts.points) == 1
    cell = 4 / geometry.scale
    assert (np.abs(prompts.points - point) <= 1.5 * cell + 0.51).all()
    assert (prompts.points >= 0).all()
    assert (prompts.points <= [[width - 1, height - 1]]).all()
    assert prompts.confidence.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize(
    ("has_predictor", "can_cluster", "name"),
    [(True, False, "predictor"), (False, True, "clusters"), (False, False, "grid16")],
)
def test_auto_takes_the_best_that_works(monkeypatch, has_predictor, can_cluster, name):
    monkeypatch.setattr("aopsam_ros.prompting.clusters.installed", lambda: can_cluster)
    assert choose_source("auto", "some", has_predictor).name == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("predictor", "needs a confidence map"),
        ("clusters", "needs the features"),
        ("boxes", "needs boxes"),
    ],
)
def test_sources_say_what_they_lack(name, reason):
    frame = FrameInput(resized_geometry(9, 9, 512), SegmenterOptions())
    with pytest.raises((InputError, OptionError), match=reason):
        make_source(name).propose(frame)
