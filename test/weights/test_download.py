"""Fetching over HTTP: progress, resuming, and every way in which a server can fail."""

import pytest

from aopsam_ros.errors import WeightsError
from aopsam_ros.weights import download
from aopsam_ros.weights.fetching import fetch
from support.small_weights import CONTENT, INSTALLED, SHA256, names

SIZE = len(CONTENT)


def test_a_whole_download(weights, server, cache, capfd):
    assert fetch(weights) == cache / "small.pt"
    assert (cache / "small.pt").read_bytes() == CONTENT
    assert (cache / "small.pt.sha256").read_text() == f"{SHA256}  small.pt\n"
    assert names(cache) == INSTALLED
    assert server.ranges == [None]
    progress = capfd.readouterr().err
    assert "small.pt:" in progress and "100%" in progress


def test_what_is_there_is_not_fetched_again(weights, server, cache):
    fetch(weights)
    assert fetch(weights) == cache / "small.pt"
    assert server.ranges == [None]


def test_what_was_damaged_is_fetched_again(weights, server, cache):
    fetch(weights).write_bytes(CONTENT[::-1])
    assert fetch(weights).read_bytes() == CONTENT
    assert server.ranges == [None, None]


@pytest.mark.parametrize("have", [1, 65_536, SIZE - 1])
def test_it_goes_on_where_it_ended(weights, server, cache, partial, have, capfd):
    partial.write_bytes(CONTENT[:have])
    assert fetch(weights).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={have}-"]
    assert names(cache) == INSTALLED


def test_a_complete_partial_needs_no_server(weights, server, partial):
    partial.write_bytes(CONTENT)
    assert fetch(weights).read_bytes() == CONTENT
    assert server.ranges == []


def test_a_server_may_send_the_whole_file_again(weights, server, partial):
    server.honours_ranges = False
    partial.write_bytes(b"?" * 1000)
    assert fetch(weights).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


@pytest.mark.parametrize("content_range", ["", "nonsense", "bytes 0-9/10", "bytes 10000-2/3"])
def test_a_server_that_goes_on_elsewhere_is_asked_for_all(weights, server, partial, content_range):
    server.content_range = content_range
    partial.write_bytes(CONTENT[:1000])
    assert fetch(weights).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", None]


@pytest.mark.parametrize("size", [1000, SIZE + 5])
def test_a_partial_of_another_file_is_not_kept(weights, server, partial, size):
    partial.write_bytes(b"?" * size)
    assert fetch(weights).read_bytes() == CONTENT
    assert server.ranges[-1] is None


def test_broken_connections_are_taken_up_again(weights, server, cache):
    server.most = 30_000
    assert fetch(weights).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=30000-", "bytes=60000-"]
    assert names(cache) == INSTALLED


@pytest.mark.parametrize("end", ["close", "reset", "stall"])
def test_after_three_the_partial_is_kept_for_the_next_time(
    weights, server, cache, partial, monkeypatch, end
):
    monkeypatch.setattr(download, "TIMEOUT", 0.3 if end == "stall" else 30.0)
    server.most, server.end = 10_000, end
    with pytest.raises(WeightsError) as raised:
        fetch(weights)
    have = partial.stat().st_size
    assert f"interrupted after {have} of {SIZE} bytes (" in str(raised.value)
    assert "run the same command to go on" in str(raised.value)
    assert len(server.ranges) == 3
    # What a reset connection had in flight is lost; what arrived is right.
    assert have == 30_000 or end == "reset"
    assert partial.read_bytes() == CONTENT[:have]
    assert set(names(cache)) - {"small.pt.partial"} == {"small.pt.lock"}
    monkeypatch.setattr(download, "TIMEOUT", 30.0)
    server.most, server.end = SIZE, "close"
    assert fetch(weights).read_bytes() == CONTENT
    assert server.ranges[3] == (f"bytes={have}-" if have else None)


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"!", b""])
@pytest.mark.parametrize("have", [0, 1000])
def test_a_file_of_another_size_is_not_fetched(weights, server, cache, partial, content, have):
    partial.write_bytes(CONTENT[:have])
    server.content = content
    with pytest.raises(WeightsError) as raised:
        fetch(weights)
    assert f"it has {len(content)} bytes instead of {SIZE}" in str(raised.value)
    assert "--from FILE" in str(raised.value)
    assert not (cache / "small.pt").exists()
    assert not partial.exists() or partial.stat().st_size <= have


def test_other_content_of_the_same_size_is_refused(weights, server, cache):
    server.content = CONTENT[::-1]
    with pytest.raises(WeightsError, match=r"damaged, or not the published small\.pt"):
        fetch(weights)
    assert names(cache) == ["small.pt.lock"]
    assert server.ranges == [None]


def test_what_is_not_announced_is_fetched_as_far_as_it_is_known(weights, server):
    server.announces = False
    server.content = CONTENT + b"and more"
    assert fetch(weights).read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (503, "503 Service Una")])
def test_a_server_without_the_file(weights, server, cache, status, words):
    server.status = status
    with pytest.raises(WeightsError) as raised:
        fetch(weights)
    message = str(raised.value)
    assert message.startswith(f"{server.url}: the server answers {words}")
    assert "--from FILE" in message and str(cache / "small.pt") in message
    assert names(cache) == ["small.pt.lock"]


def test_offline_it_says_what_to_put_where(weights, server, cache, partial):
    partial.write_bytes(CONTENT[:1000])
    server.__exit__()
    with pytest.raises(WeightsError) as raised:
        fetch(weights)
    message = str(raised.value)
    assert message.startswith(f"{server.url}: cannot be reached (")
    assert "`aopsam models fetch small --from FILE`" in message and "HTTPS_PROXY" in message
    assert str(cache / "small.pt") in message and "\n" not in message
    assert partial.read_bytes() == CONTENT[:1000]


def test_offline_what_is_there_is_enough(weights, server, cache):
    fetch(weights)
    server.__exit__()
    assert fetch(weights) == cache / "small.pt"


def test_a_full_disk_is_one_clear_line(weights, partial):
    partial.symlink_to("/dev/full")
    with pytest.raises(WeightsError, match="No space left on device") as raised:
        fetch(weights)
    assert "XDG_CACHE_HOME" in str(raised.value) and "\n" not in str(raised.value)
