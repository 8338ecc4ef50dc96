"""Lifecycle churn, in short: nothing is left over from a cycle."""

import pytest
from reliability.churn import churn


@pytest.mark.parametrize("beside", [False, True])
def test_cycles_leave_nothing_behind_and_do_not_stop_another_camera(beside):
    outcome = churn(12, beside=beside)
    assert outcome.answered >= 6
    assert (outcome.refused, outcome.tracebacks) == (0, 0)
    assert outcome.most_publishers == 1
    assert beside == bool(outcome.rear and outcome.rear.answered and not outcome.rear.wrong)
    settled = outcome.footprints[4:]
    # Engines and DDS make and end threads of their own; none may stay for each cycle.
    assert max(seen.threads for seen in settled) - settled[0].threads < 4
    assert max(seen.files for seen in settled) - settled[0].files < 4
    assert max(seen.resident_mb for seen in settled) - settled[0].resident_mb < 20.0
