"""More images than can be segmented, in short; how long it takes is for the benchmark to say."""

import pytest
from reliability.load import SIZE_4K, overload


@pytest.mark.parametrize(("size", "factor", "least"), [((480, 640), 10.0, 15), (SIZE_4K, 2.0, 7)])
def test_a_flood_is_answered_in_order_and_fills_no_memory(size, factor, least):
    outcome = overload(size, factor, 0.0, least)
    assert outcome.stale == 0
    assert outcome.counts["failed"] == 0
    frame_mb = size[0] * size[1] * 3 / 2**20
    # A frame that is worked on, one that waits, one that arrives, and room for allocators.
    assert outcome.growth_mb() < 6 * frame_mb + 30.0
