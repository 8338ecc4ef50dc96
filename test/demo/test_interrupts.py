"""Signals are noted, and raised where the demo asks for them."""

import signal

import pytest

from aopsam_ros.demo.interrupts import interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_are_raised_at_every_check_and_handlers_are_restored(number):
    before = signal.getsignal(number)
    with interrupts() as check:
        check()
        signal.raise_signal(number)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                check()
    assert signal.getsignal(number) == before
