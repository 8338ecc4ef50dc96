"""Domains that nobody else uses: what runs in one is seen, and another one is taken."""

import socket
import subprocess
import sys

import pytest

from aopsam_ros.demo import domains

# In a process of its own: DDS numbers the participants of a process, and only the first one's ports
# are looked at.
PARTICIPANT = """
import rclpy
from aopsam_ros.demo.domains import is_unused, unused_domain
domain = unused_domain()
rclpy.init(domain_id=domain)
node = rclpy.create_node("participant")
print(is_unused(domain))
"""


@pytest.mark.needs("rclpy")
def test_a_domain_with_a_participant_is_in_use():
    command = [sys.executable, "-c", PARTICIPANT]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("offset", [10, 11])
def test_another_domain_is_taken(monkeypatch, offset):
    monkeypatch.setattr(domains, "LAST_DOMAIN", 2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 7400 + 250 * 1 + offset))
        assert {domains.unused_domain() for _ in range(8)} == {2}
