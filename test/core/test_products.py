"""Products in pieces are the products."""

import numpy as np
import pytest

from aopsam_ros.products import matmul


@pytest.mark.parametrize(
    ("m", "k", "n"), [(8, 128, 576), (64, 9, 1280), (1, 1, 1), (3, 0, 5), (0, 4, 7), (4, 7, 0)]
)
def test_pieces_make_the_whole(m, k, n):
    generator = np.random.default_rng(0)
    a = generator.normal(size=(m, k)).astype(np.float32)
    b = generator.normal(size=(k, n)).astype(np.float32)
    np.testing.assert_allclose(matmul(a, b), a.astype(float) @ b, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(matmul(a, b.T.copy().T), a.astype(float) @ b, rtol=1e-4, atol=1e-4)
