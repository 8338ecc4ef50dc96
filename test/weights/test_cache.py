"""The cache is a folder of the user's own; one that is not, or cannot be, is one clear line."""

import os
from pathlib import Path

import pytest

import aopsam_ros
from aopsam_ros.errors import FolderError, WeightsError
from aopsam_ros.weights.cache import cache_folder, cached_path
from aopsam_ros.weights.fetching import fetch, resolve_checkpoint, take
from support.small_weights import names


def test_the_cache_is_the_users(monkeypatch, tmp_path, weights):
    assert cached_path(weights) == tmp_path / "cache" / "aopsam_ros" / "weights" / "small.pt"
    for relative in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        assert cache_folder() == tmp_path / "home" / ".cache" / "aopsam_ros" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    fetch(weights)
    assert (tmp_path / "home" / ".cache" / "aopsam_ros" / "weights" / "small.pt").exists()
    for package in aopsam_ros.__path__:
        assert Path(package) not in cache_folder().parents
        assert not list(Path(package).rglob("small.pt*"))


def test_a_user_without_a_home_is_told_what_to_set(weights, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)  # no such user
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(WeightsError, match=r"XDG_CACHE_HOME can name another folder") as raised:
        fetch(weights)
    assert "small.pt cannot be stored under /nonexistent/" in str(raised.value)


def test_a_new_cache_is_private(weights, cache):
    fetch(weights)
    assert cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_cache_where_everyone_writes_is_refused(weights, server, cache, partial, above):
    folder = [cache, *cache.parents][above]
    folder.chmod(0o777)
    with pytest.raises(FolderError, match="every user can write there") as raised:
        fetch(weights)
    assert f"`chmod o-w {folder}`" in str(raised.value)
    assert names(cache) == [] and server.ranges == []
    folder.chmod(0o755)
    fetch(weights)
    folder.chmod(0o777)
    with pytest.raises(FolderError, match="every user can write there"):
        resolve_checkpoint("small")


def test_a_folder_such_as_tmp_may_be_above_it(weights, cache, partial):
    cache.parent.chmod(0o1777)
    assert fetch(weights).exists()


def test_somebody_elses_cache_is_refused(weights, cache, partial, monkeypatch):
    if os.getuid() == 0:
        os.chown(cache, 4_000_000, -1)  # root's own folders are everybody's
    other = cache.stat().st_uid + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(FolderError, match="belongs to another user"):
        fetch(weights)


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_cache_is_one_clear_line(weights, cache, partial):
    cache.chmod(0o500)
    with pytest.raises(WeightsError) as raised:
        fetch(weights)
    cache.chmod(0o700)
    assert "Permission denied" in str(raised.value) and "XDG_CACHE_HOME" in str(raised.value)


@pytest.mark.parametrize("call", ["mkdir", "open", "replace"])
def test_a_cache_that_cannot_be_written_is_one_clear_line(
    weights, at_hand, cache, monkeypatch, call
):
    # What a read-only folder or disk does, for root as well.
    real = getattr(Path, call)

    def refused(path, *words, **options):
        if cache in (path, *path.parents) or cache == path:
            raise PermissionError(30, "Read-only file system", str(path))
        return real(path, *words, **options)

    monkeypatch.setattr(Path, call, refused)
    for store in (lambda: fetch(weights), lambda: take(weights, at_hand)):
        with pytest.raises(WeightsError) as raised:
            store()
        message = str(raised.value)
        assert message.startswith(f"small.pt cannot be stored under {cache}: ")
        assert "Read-only file system" in message and "XDG_CACHE_HOME" in message
        assert "\n" not in message


def test_a_file_in_the_caches_place_is_one_clear_line(weights, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(WeightsError, match=r"small\.pt cannot be stored under"):
        fetch(weights)
