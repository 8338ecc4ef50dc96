"""A small published file, a server that has it, and a cache of each test's own."""

import pytest

from aopsam_ros.weights.known import KNOWN
from support.file_server import CONTENT, FileServer, small_weights

pytestmark = pytest.mark.needs("pooch")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder for weights, not made yet; the user's own is out of reach, as proxies are."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "aopsam_ros" / "weights"


@pytest.fixture
def server():
    with FileServer() as server:
        yield server


@pytest.fixture
def weights(server, monkeypatch):
    """The entry of the file in the table."""
    weights = small_weights(server.url)
    monkeypatch.setitem(KNOWN, weights.name, weights)
    return weights


@pytest.fixture
def at_hand(tmp_path):
    """A copy of the file outside of the cache."""
    (tmp_path / "copy.pt").write_bytes(CONTENT)
    return tmp_path / "copy.pt"
