"""Domains that nobody else uses: what runs in one is seen, and another one is taken."""

import socket

import pytest

from aopsam_ros.demo import domains


def test_a_domain_in_which_something_runs_is_in_use(robot):
    assert not domains.is_unused(robot.domain)


@pytest.mark.parametrize("offset", [10, 11])
def test_another_domain_is_taken(monkeypatch, offset):
    monkeypatch.setattr(domains, "LAST_DOMAIN", 2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 7400 + 250 * 1 + offset))
        assert {domains.unused_domain() for _ in range(8)} == {2}


def test_there_is_always_one(monkeypatch):
    monkeypatch.setattr(domains, "is_unused", lambda _: False)
    assert 1 <= domains.unused_domain() <= domains.LAST_DOMAIN
