"""The cache of engines: what it finds is what was stored by its user, or nothing."""

import errno
import json
import multiprocessing
import os
import threading

import pytest

from aopsam_ros.engines import engine_cache
from aopsam_ros.engines.engine_cache import EngineCache
from support.gpu import hold_the_lock

KEY = {"graph": "encoder", "onnx": "ab", "tensorrt": "10.3.0"}
PLAN = bytes(range(256)) * 40


@pytest.fixture
def cache(tmp_path):
    cache = EngineCache(tmp_path / "engines")
    cache.store(KEY, PLAN)
    return cache


def file_of(cache, suffix):
    (file,) = cache.folder.glob(f"*.{suffix}")
    return file


def test_what_was_stored_is_found(cache):
    entry = cache.find(KEY)
    assert (entry.plan, entry.refusal) == (PLAN, "")
    assert sorted(f.suffix for f in cache.folder.iterdir()) == [".json", ".plan"]


def test_only_the_user_can_read_or_replace_it(cache):
    assert cache.folder.stat().st_mode & 0o077 == 0
    assert all(f.stat().st_mode & 0o077 == 0 for f in cache.folder.iterdir())


@pytest.mark.parametrize(
    "other",
    [
        {**KEY, "onnx": "ac"},
        {**KEY, "tensorrt": "10.13.0"},
        {**KEY, "precision": "fp16"},
        {"graph": "encoder"},
    ],
)
def test_any_other_fact_is_another_engine(cache, other):
    assert cache.find(other) is None
    assert cache.find(dict(reversed(KEY.items()))) is not None


def edit(cache, **changes):
    sidecar = file_of(cache, "json")
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), **changes}))


def plan_becomes_a_link(cache):
    plan = file_of(cache, "plan")
    plan.rename(cache.folder / "elsewhere")
    plan.symlink_to("elsewhere")


DAMAGE = {
    "truncated": lambda cache: file_of(cache, "plan").write_bytes(PLAN[:-1]),
    "altered": lambda cache: file_of(cache, "plan").write_bytes(b"x" + PLAN[1:]),
    "no plan": lambda cache: file_of(cache, "plan").unlink(),
    "link": plan_becomes_a_link,
    "plan writable for all": lambda cache: file_of(cache, "plan").chmod(0o666),
    "other release": lambda cache: edit(cache, format=99),
    "other key": lambda cache: edit(cache, key={**KEY, "gpu": "another"}),
    "other hash": lambda cache: edit(cache, sha256="0" * 64),
    "no JSON": lambda cache: file_of(cache, "json").write_bytes(b"\xff{"),
    "JSON of another kind": lambda cache: file_of(cache, "json").write_text("[1, 2]"),
    "folder writable for all": lambda cache: cache.folder.chmod(0o777),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_cannot_be_trusted_is_not_found(cache, damage, caplog):
    DAMAGE[damage](cache)
    assert cache.find(KEY) is None
    assert "cached engine ignored: " in caplog.text


def test_a_file_of_another_user_is_not_loaded(cache, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    # What root has put there, as in a container's image, may be used.
    assert (cache.find(KEY) is None) == (cache.folder.stat().st_uid != 0)


@pytest.mark.parametrize("function", ["fsync", "open"])
def test_a_full_disk_leaves_nothing_half_written(cache, monkeypatch, caplog, function):
    real = getattr(os, function)

    def full(*arguments, **options):
        if function == "fsync" or arguments[1] & os.O_CREAT:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **options)

    monkeypatch.setattr(os, function, full)
    cache.store(KEY, b"larger")
    monkeypatch.undo()
    assert "the next start builds it again: [Errno 28]" in caplog.text
    assert cache.find(KEY) is None
    assert not list(cache.folder.glob("*.partial"))


def test_a_folder_that_cannot_be_made_costs_nothing_but_time(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    cache = EngineCache(tmp_path / "file" / "engines")
    with cache.locked(KEY, pytest.fail):
        cache.store(KEY, PLAN)
    cache.refuse(KEY, "wrong")
    assert cache.find(KEY) is None
    assert "cannot be kept" in caplog.text


def test_a_refusal_is_remembered(cache):
    cache.refuse(KEY, "embedding holds values that are not finite")
    entry = cache.find(KEY)
    assert entry.plan is None and "not finite" in entry.refusal


def test_only_so_many_engines_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_cache, "MOST_ENGINES", 3)
    cache = EngineCache(tmp_path)
    keys = [{"number": str(number)} for number in range(5)]
    for age, key in enumerate(keys[:4]):
        known = set(tmp_path.glob("*.json"))
        cache.store(key, b"plan")
        os.utime(*set(tmp_path.glob("*.json")) - known, (age, age))
    assert cache.find(keys[0]) is None
    assert cache.find(keys[1]) is not None  # and is the newest by that
    cache.store(keys[4], b"plan")
    assert [cache.find(key) is not None for key in keys] == [False, True, False, True, True]
    assert len(list(tmp_path.glob("*.plan"))) == 3


def test_what_killed_builds_left_is_removed(cache):
    """That of the same engine at once, of others once nobody can be writing it any more."""
    own = file_of(cache, "plan").name
    for name in (f"{own}.71.partial", "cd.plan.72.partial"):
        (cache.folder / name).write_bytes(PLAN[:9])
    for name in ("ef.plan.73.partial", "ef.json.73.partial", "gh.plan"):
        (cache.folder / name).write_bytes(PLAN[:9])
        os.utime(cache.folder / name, (0, 0))
    os.utime(cache.folder / own, (0, 0))
    cache.store({**KEY, "onnx": "new"}, PLAN)
    names = {file.name for file in cache.folder.iterdir()}
    assert names >= {own, f"{own}.71.partial", "cd.plan.72.partial"} and len(names) == 6
    cache.store(KEY, PLAN)
    assert [f.name for f in cache.folder.glob("*.partial")] == ["cd.plan.72.partial"]
    assert cache.find(KEY).plan == PLAN


def test_a_file_system_without_locks_costs_nothing_but_time(cache, monkeypatch, caplog):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(engine_cache.fcntl, "flock", flock)
    with cache.locked(KEY, pytest.fail):
        cache.store(KEY, b"other")
    assert cache.find(KEY).plan == b"other"
    assert "engines may be built twice: [Errno 37]" in caplog.text


def test_an_engine_is_kept_where_others_cannot_be_removed(cache, monkeypatch, caplog):
    """Another process may remove them at the same time."""
    monkeypatch.setattr(cache, "_prune", lambda: os.stat(cache.folder / "gone"))
    cache.store(KEY, b"other")
    assert cache.find(KEY).plan == b"other" and not caplog.text


def test_a_lock_makes_others_wait(cache):
    waited, order = threading.Event(), []

    def other():
        with cache.locked(KEY, waited.set):
            order.append("other")

    thread = threading.Thread(target=other)
    with cache.locked(KEY, pytest.fail):
        thread.start()
        assert waited.wait(120)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_the_lock_of_a_process_that_died_is_gone(cache):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold_the_lock, args=(cache.folder, KEY, held, release))
    process.start()
    assert held.wait(120)
    with cache.locked(KEY, release.set):
        assert release.is_set()  # it was waited for
    process.join()
    assert process.exitcode == 1


def test_the_folder_is_the_users_cache_or_the_chosen_one(monkeypatch, tmp_path):
    monkeypatch.delenv("AOPSAM_ENGINE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EngineCache().folder == tmp_path / "aopsam_ros" / "engines"
    monkeypatch.setenv("AOPSAM_ENGINE_CACHE", str(tmp_path / "image"))
    assert EngineCache().folder == tmp_path / "image"
