"""A ROS domain of one's own on this machine."""

from __future__ import annotations

import random
import socket

LAST_DOMAIN = 101  # above, ports are among those that Linux hands out to programs (ROS 2's docs)

# DDSI-RTPS's default ports: where the first participant of a domain on a machine listens.
_BASE, _PER_DOMAIN, _DISCOVERY, _DATA = 7400, 250, 10, 11


def unused_domain() -> int:
    """Return a domain, at random, in which nothing runs on this machine, as far as one can tell."""
    domains = random.SystemRandom().sample(range(1, LAST_DOMAIN + 1), LAST_DOMAIN)
    return next(filter(is_unused, domains), domains[0])


def is_unused(domain: int) -> bool:
    """Return whether no participant of the domain has its ports on this machine."""
    first = _BASE + _PER_DOMAIN * domain
    return all(_can_be_bound(first + offset) for offset in (_DISCOVERY, _DATA))


def _can_be_bound(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
