"""Comparing an engine's answers with a reference's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.bundle.loading import DECODER, ENCODER, PREDICTOR
from aopsam_ros.engines.verification import compare, sample_inputs
from aopsam_ros.errors import VerificationError
from support.tiny_bundle import SIZE


@pytest.fixture(scope="module")
def samples(bundle):
    return sample_inputs(bundle)


def array(*values):
    return np.array(values, np.float32)


def test_samples_have_the_graphs_names_and_shapes(samples):
    assert set(samples) == {ENCODER, PREDICTOR, DECODER}
    assert samples[ENCODER][0]["image"].shape == (1, 3, SIZE, SIZE)
    assert set(samples[PREDICTOR][0]) == {"image"}
    sizes = {batch["point_labels"].shape for batch in samples[DECODER]}
    assert {k for _, k in sizes} == {1, 2, 4} and len({n for n, _ in sizes}) == 3
    for batch in samples[DECODER]:
        assert batch["point_coords"].shape == (*batch["point_labels"].shape, 2)
        assert batch["point_coords"].min() >= 0 and batch["point_coords"].max() <= SIZE
    every = [value for graph in samples.values() for sample in graph for value in sample.values()]
    assert {value.dtype for value in every} == {np.dtype(np.float32)}
    assert all(value.flags.c_contiguous for value in every)


def test_samples_are_the_same_every_time(bundle, samples):
    np.testing.assert_equal(sample_inputs(bundle), samples)


@given(st.integers(0, 99), st.floats(-2.0, 2.0))
def test_cosine_and_difference_against_their_definitions(seed, mix):
    a, b = np.random.default_rng(seed).standard_normal((2, 3, 5)).astype(np.float32)
    b = (a + mix * b).astype(np.float32)
    (match,) = compare("engine", {"x": a}, {"x": b}, -1.0)
    wanted = np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b))
    assert match.cosine == pytest.approx(wanted, abs=1e-5)
    assert match.difference == pytest.approx(np.abs(a - b).max(), abs=1e-6)


@pytest.mark.parametrize(
    ("found", "wanted", "cosine"),
    [
        (array(0, 0), array(0, 0), 1.0),
        (array(0, 0), array(0, 1e-20), 0.0),
        (array(3e38, -3e38), array(3e38, -3e38), 1.0),
        (array(1, 2), array(-1, -2), -1.0),
        (array(), array(), 1.0),
    ],
)
def test_extreme_vectors(found, wanted, cosine):
    (match,) = compare("engine", {"x": found}, {"x": wanted}, -1.0)
    assert match.cosine == pytest.approx(cosine)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_on_both_sides(bad):
    for found, wanted in [(array(1, bad), array(1, 2)), (array(1, 2), array(1, bad))]:
        with pytest.raises(VerificationError, match="engine: x holds values that are not finite"):
            compare("engine", {"x": found}, {"x": wanted})


def test_the_threshold_is_where_it_is_said_to_be():
    wanted, angle = array(1, 0), 0.2
    found = array(np.cos(angle), np.sin(angle))
    compare("engine", {"x": found}, {"x": wanted}, np.cos(angle) - 1e-4)
    with pytest.raises(VerificationError, match=r"engine: x differs .* cosine is 0\.9801, less"):
        compare("engine", {"x": found}, {"x": wanted}, np.cos(angle) + 1e-4)
    with pytest.raises(VerificationError):
        compare("engine", {"x": found}, {"x": wanted})


@pytest.mark.parametrize(
    ("found", "reason"),
    [({}, "x is missing"), ({"x": array(1)}, r"x is of shape \[1\], the reference's is \[2\]")],
)
def test_outputs_that_cannot_be_compared_are_refused(found, reason):
    with pytest.raises(VerificationError, match=reason):
        compare("engine", found, {"x": array(1, 2)})
