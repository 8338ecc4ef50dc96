"""Published files come into the user's cache whole or not at all, and stay what they are."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aopsam_ros.errors import FolderError, InputError, WeightsError
from aopsam_ros.weights.fetching import (
    cached_path,
    check_file,
    fetch,
    fetch_from_file,
    resolve_checkpoint,
)
from aopsam_ros.weights.known import KNOWN
from support.file_server import CONTENT

SIZE = len(CONTENT)
DAMAGED = CONTENT[:100] + b"!" + CONTENT[101:]
OTHERS = [CONTENT[:-1], CONTENT + b"!", b"", DAMAGED]


def files_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_file_is_downloaded_with_progress_once_unless_damaged(weights, server, cache, capfd):
    assert fetch(weights) == cache / "small.pt" == fetch(weights)
    assert (cache / "small.pt").read_bytes() == CONTENT and files_in(cache) == ["small.pt"]
    assert cache.stat().st_mode & 0o777 == 0o700 and server.requests == 1
    progress = capfd.readouterr().err
    assert "small.pt:" in progress and "100%" in progress
    (cache / "small.pt").write_bytes(DAMAGED)
    assert fetch(weights).read_bytes() == CONTENT and server.requests == 2
    server.__exit__()
    assert fetch(weights) == cache / "small.pt"  # offline, what is there is enough


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"most": 10_000}, "cannot be downloaded .*10000 bytes read"),  # interrupted
        *(({"content": other}, r"damaged, or not the published small\.pt") for other in OTHERS),
    ],
)
def test_a_download_that_is_not_the_file_leaves_nothing_and_starts_again(
    weights, server, cache, monkeypatch, fault, reason
):
    with monkeypatch.context() as patch:
        for name, value in fault.items():
            patch.setattr(server, name, value)
        with pytest.raises(WeightsError, match=reason):
            fetch(weights)
    assert files_in(cache) == []
    assert fetch(weights).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 503, None])  # None: no server
def test_without_the_server_it_says_what_to_put_where(weights, server, cache, status):
    server.status = status
    if status is None:
        server.__exit__()
    with pytest.raises(WeightsError) as raised:
        fetch(weights)
    message = str(raised.value)
    assert message.startswith(f"{server.url}: cannot be downloaded (")
    assert str(status or "Connection refused") in message
    assert "`aopsam models fetch small --from FILE`" in message and "HTTPS_PROXY" in message
    assert str(cache / "small.pt") in message and "\n" not in message


def test_a_copy_is_taken_without_pooch_and_a_download_says_what_to_install(
    weights, server, cache, at_hand, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(WeightsError, match="`pip install pooch`; without internet"):
        fetch(weights)
    stored = fetch_from_file(weights, at_hand)
    assert stored == cache / "small.pt" == fetch_from_file(weights, stored) == fetch(weights)
    assert stored.read_bytes() == CONTENT and files_in(cache) == ["small.pt"]
    assert at_hand.read_bytes() == CONTENT and server.requests == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (CONTENT[:-1], f"truncated: it has {SIZE - 1} bytes, small.pt has {SIZE}"),
        (CONTENT + b"!", "another file: it has"),
        (DAMAGED, "damaged, or not the published small.pt"),
    ],
)
def test_another_copy_is_refused_and_nothing_changes(weights, cache, at_hand, content, reason):
    before = fetch_from_file(weights, at_hand)
    at_hand.write_bytes(content)
    with pytest.raises(WeightsError) as raised:
        fetch_from_file(weights, at_hand)
    assert str(raised.value).startswith(f"{at_hand}: {reason}")
    assert before.read_bytes() == CONTENT and files_in(cache) == ["small.pt"]
    before.write_bytes(content)
    with pytest.raises(WeightsError, match=reason):
        check_file(weights, before)
    with pytest.raises(InputError, match="no such file"):
        fetch_from_file(weights, at_hand.with_name("none"))


def test_a_name_means_the_fetched_file_and_a_path_itself(weights, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_checkpoint("other.pt") == Path("other.pt")
    with pytest.raises(WeightsError, match="run `aopsam models fetch small`"):
        resolve_checkpoint("small")
    fetch(weights)
    (tmp_path / "small").mkdir()  # as `export --out small` makes
    assert resolve_checkpoint("small") == cache / "small.pt"
    assert resolve_checkpoint("./small") == Path("small")
    (tmp_path / "small").rmdir()
    (tmp_path / "small").write_bytes(b"mine")
    assert resolve_checkpoint("small") == Path("small")


# Another process, whose table has the same file.
PROGRAM = """
import sys
from support.file_server import small_weights
from aopsam_ros.weights.fetching import fetch
fetch(small_weights(sys.argv[1]))
"""


def test_processes_at_once_leave_one_whole_file(server, cache):
    server.gate.clear()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", PROGRAM, server.url]
    processes = [subprocess.Popen(command, env=environment) for _ in range(2)]
    while server.requests < 2:
        assert all(process.poll() is None for process in processes)
    server.gate.set()
    assert [process.wait(300) for process in processes] == [0, 0]
    assert (cache / "small.pt").read_bytes() == CONTENT and files_in(cache) == ["small.pt"]


@pytest.mark.parametrize("variable", ["", "relative/folder"])
def test_without_an_absolute_folder_the_cache_is_in_the_home(
    monkeypatch, tmp_path, weights, variable
):
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    home = tmp_path / "home"
    assert cached_path(weights) == home / ".cache" / "aopsam_ros" / "weights" / "small.pt"


@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_cache_where_everyone_writes_is_refused(weights, server, cache, above):
    cache.mkdir(parents=True, mode=0o700)
    folder = [cache, *cache.parents][above]
    folder.chmod(0o777)
    with pytest.raises(FolderError, match="every user can write there") as raised:
        fetch(weights)
    assert f"`chmod o-w {folder}`" in str(raised.value)
    assert files_in(cache) == [] and server.requests == 0
    folder.chmod(0o1777 if above else 0o755)  # a folder such as /tmp may be above it
    fetch(weights)
    folder.chmod(0o777)
    with pytest.raises(FolderError, match="every user can write there"):
        resolve_checkpoint("small")


def test_somebody_elses_cache_is_refused(weights, cache, monkeypatch):
    cache.mkdir(parents=True, mode=0o700)
    if os.getuid() == 0:
        os.chown(cache, 4_000_000, -1)  # root's own folders are everybody's
    other = cache.stat().st_uid + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(FolderError, match="belongs to another user"):
        fetch(weights)


def test_a_cache_that_cannot_be_written_is_one_clear_line(weights, at_hand, cache):
    cache.parents[1].write_text("")  # a file in the folder's place
    for store in (lambda: fetch(weights), lambda: fetch_from_file(weights, at_hand)):
        with pytest.raises(WeightsError) as raised:
            store()
        message = str(raised.value)
        assert message.startswith(f"small.pt cannot be stored under {cache}: ")
        assert "Not a directory" in message and "XDG_CACHE_HOME" in message
        assert "\n" not in message


def test_a_user_without_a_home_is_told_what_to_set(weights, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)  # no such user
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(WeightsError, match=r"small\.pt cannot be stored under /nonexistent/"):
        fetch(weights)


def test_where_no_sha256_is_published_gits_id_decides(weights, cache):
    known = dataclasses.replace(weights, size=0, sha256="")
    with pytest.raises(WeightsError, match="not the published"):
        fetch(dataclasses.replace(known, git_blob="0" * 40))
    assert not list(cache.iterdir())
    assert fetch(known).read_bytes() == CONTENT
    (cache / "small.pt").write_bytes(b"cut")
    assert fetch(known).read_bytes() == CONTENT


def test_the_licence_is_said_before_anything_is_fetched(weights, capsys):
    with pytest.raises(WeightsError):
        fetch(dataclasses.replace(weights, url="http://127.0.0.1:9/small.pt"))
    assert "small.pt: licence MIT, from http://" in capsys.readouterr().err


def test_published_files_have_a_hash_but_nanosams():
    unhashed = {name for name, each in KNOWN.items() if not (each.sha256 or each.git_blob)}
    assert unhashed == {"nanosam_encoder", "nanosam_decoder"}


def test_without_a_hash_a_web_page_in_the_files_place_is_refused(weights, server, cache):
    known = dataclasses.replace(weights, size=0, sha256="", git_blob="")
    server.content = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded"
    with pytest.raises(WeightsError, match=r"a web page, not small\.pt"):
        fetch(known)
    assert files_in(cache) == []
    server.content = CONTENT
    assert fetch(known).read_bytes() == CONTENT
