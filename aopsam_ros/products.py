"""Matrix products that leave the other cores alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# OpenBLAS stays in one thread up to 2^18 multiplications. Beyond, it wakes a second one and waits
# for it: a few microseconds of work then take a scheduler's time slice, tens of milliseconds, when
# an engine's threads spin on that core.
_ONE_THREAD = 200_000


def matmul(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply `[m, k]` by `[k, n]` in pieces of a few columns; m times k should be small."""
    rows, columns = len(a), b.shape[1]
    product = np.empty((rows, columns), np.float32)
    step = max(16, _ONE_THREAD // max(1, a.size))
    for left in range(0, columns, step):
        np.matmul(a, b[:, left : left + step], out=product[:, left : left + step])
    return product
