"""An interruption that somebody swallowed is raised again."""

import os
import signal

import pytest

from aopsam_ros.demo.interrupts import interrupts


class Swallower:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # the signal's handler runs here, and its exception is forgotten
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_swallowed_interrupt_is_raised_at_the_next_check():
    with interrupts() as check:
        check()
        swallower = Swallower()
        del swallower
        with pytest.raises(KeyboardInterrupt):
            check()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_interrupt_and_handlers_are_put_back(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interrupts():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before
