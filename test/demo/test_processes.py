"""Signals are raised where the demo asks for them; domains are those that nobody else uses."""

import signal
import socket
import subprocess
import sys

import pytest

from aopsam_ros.demo import processes
from aopsam_ros.demo.processes import interrupts

# In a process of its own: DDS numbers the participants of a process, and others may be here.
PARTICIPANT = """
import rclpy
from aopsam_ros.demo.processes import is_unused, unused_domain
domain = unused_domain()
rclpy.init(domain_id=domain)
node = rclpy.create_node("participant")
print(is_unused(domain))
"""


@pytest.mark.needs("rclpy")
def test_a_domain_with_a_participant_is_in_use():
    command = [sys.executable, "-c", PARTICIPANT]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("offset", [10, 11, 13, 28])
def test_another_domain_is_taken(monkeypatch, offset):
    monkeypatch.setattr(processes, "LAST_DOMAIN", 2)
    # Ports where no domain's first participant listens: other tests run beside this one.
    monkeypatch.setattr(processes, "_BASE", 20_000)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 20_000 + 250 * 1 + offset))
        assert {processes.unused_domain() for _ in range(8)} == {2}


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
