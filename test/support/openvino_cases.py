"""What the tests of OpenVINO share: how near its answers must be, and for which models."""

import numpy as np

# Relative to an output's largest value: another order of summation, over tens of layers.
CLOSE = 1e-5
NAMES = ["tiny", "nano", "mobile_sam"]


def assert_close(found, wanted):
    assert found.shape == wanted.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=CLOSE * max(1.0, np.abs(wanted).max()))
