"""Files come into the cache whole or not at all, stay what they are, and one process at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aopsam_ros.errors import InputError, WeightsError
from aopsam_ros.weights import fetching
from aopsam_ros.weights.fetching import fetch, resolve_checkpoint, take
from aopsam_ros.weights.identity import check_file
from aopsam_ros.weights.known import KNOWN
from support.small_weights import CONTENT, GIT_BLOB, INSTALLED, SHA256, names


def test_a_copy_at_hand_is_taken(weights, server, cache, at_hand):
    assert take(weights, at_hand) == cache / "small.pt"
    assert (cache / "small.pt").read_bytes() == CONTENT
    assert (cache / "small.pt.sha256").read_text() == f"{SHA256}  small.pt\n"
    assert names(cache) == INSTALLED
    assert at_hand.read_bytes() == CONTENT and server.ranges == []


def test_the_stored_file_can_be_the_copy(weights, cache, at_hand):
    stored = take(weights, at_hand)
    assert take(weights, stored) == stored
    assert stored.read_bytes() == CONTENT and names(cache) == INSTALLED


def test_a_copy_ends_an_interrupted_download(weights, cache, partial, at_hand):
    partial.write_bytes(CONTENT[:1000])
    take(weights, at_hand)
    assert names(cache) == INSTALLED


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (CONTENT[:-1], f"truncated: it has {len(CONTENT) - 1} bytes, small.pt has {len(CONTENT)}"),
        (b"", "truncated: it has 0 bytes"),
        (CONTENT + b"!", "another file: it has"),
        (CONTENT[:100] + b"!" + CONTENT[101:], "damaged, or not the published small.pt"),
    ],
)
def test_another_file_is_refused_and_nothing_changes(weights, cache, at_hand, content, reason):
    before = take(weights, at_hand)
    at_hand.write_bytes(content)
    with pytest.raises(WeightsError) as raised:
        take(weights, at_hand)
    assert str(raised.value).startswith(f"{at_hand}: {reason}")
    assert before.read_bytes() == CONTENT and names(cache) == INSTALLED


def test_a_file_of_another_size_is_not_copied(weights, at_hand, monkeypatch):
    at_hand.write_bytes(CONTENT * 2)
    monkeypatch.setattr(fetching, "_copy", lambda *_: pytest.fail("it was copied"))
    with pytest.raises(WeightsError, match="another file"):
        take(weights, at_hand)


def test_a_copy_that_grows_meanwhile_is_refused(weights, cache, at_hand, monkeypatch):
    def grown(file, folder):
        with at_hand.open("ab") as writer:
            writer.write(b"!")
        return copy(file, folder)

    copy = fetching._copy
    monkeypatch.setattr(fetching, "_copy", grown)
    with pytest.raises(WeightsError):
        take(weights, at_hand)
    assert not (cache / "small.pt").exists()


@pytest.mark.parametrize("kind", ["missing", "folder", "device"])
def test_what_is_no_file_is_refused(weights, tmp_path, kind):
    path = {"missing": tmp_path / "none", "folder": tmp_path, "device": Path("/dev/zero")}[kind]
    with pytest.raises(InputError, match=f"^{path}: no such file$"):
        take(weights, path)


def test_tampering_is_noticed(weights, at_hand):
    stored = take(weights, at_hand)
    found = check_file(weights, stored)
    assert (found.git_blob, found.sha256) == (GIT_BLOB, SHA256)
    stored.write_bytes(CONTENT[:500] + b"!" + CONTENT[501:])
    with pytest.raises(WeightsError, match="damaged"):
        check_file(weights, stored)
    stored.write_bytes(CONTENT[:500])
    with pytest.raises(WeightsError, match="truncated"):
        check_file(weights, stored)
    stored.unlink()
    with pytest.raises(WeightsError, match="not there; run `aopsam models fetch small`"):
        check_file(weights, stored)


@pytest.mark.parametrize("record", [b"", b"\xff\xfe\0", b"0" * 64 + b"  small.pt\n"])
def test_another_record_is_noticed_and_made_good(weights, server, cache, at_hand, record):
    stored = take(weights, at_hand)
    (cache / "small.pt.sha256").write_bytes(record)
    with pytest.raises(WeightsError, match=r"differs from the SHA-256 beside it"):
        check_file(weights, stored)
    fetch(weights)
    assert server.ranges == [None]
    assert (cache / "small.pt.sha256").read_text().split() == [SHA256, "small.pt"]


def test_a_stop_before_the_record_leaves_no_old_one(weights, cache, at_hand, monkeypatch):
    stored = take(weights, at_hand)
    (cache / "small.pt.sha256").write_bytes(b"0" * 64)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "_record", full_disk)
    with pytest.raises(WeightsError, match="No space left on device"):
        take(weights, at_hand)
    check_file(weights, stored)  # which an old record would contradict


def test_a_missing_record_is_made(weights, server, cache, at_hand):
    check_file(weights, take(weights, at_hand))
    (cache / "small.pt.sha256").unlink()
    fetch(weights)
    assert server.ranges == [] and (cache / "small.pt.sha256").exists()


def test_the_record_is_for_sha256sum(weights, cache, at_hand):
    take(weights, at_hand)
    words = ["sha256sum", "--check", "small.pt.sha256"]
    assert subprocess.run(words, cwd=cache, capture_output=True, check=False).returncode == 0


def test_a_name_means_the_fetched_file_and_a_path_itself(weights, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_checkpoint("other.pt") == Path("other.pt")
    with pytest.raises(WeightsError, match="run `aopsam models fetch small`"):
        resolve_checkpoint("small")
    fetch(weights)
    assert resolve_checkpoint("small") == cache / "small.pt"
    (tmp_path / "small").mkdir()  # as `export --out small` makes
    assert resolve_checkpoint("small") == cache / "small.pt"
    assert resolve_checkpoint("./small") == Path("small")
    (tmp_path / "small").rmdir()
    (tmp_path / "small").write_bytes(b"mine")
    assert resolve_checkpoint("small") == Path("small")


# Another process, whose table has the same file.
PROGRAM = """
import sys
from support.small_weights import small_weights
from aopsam_ros.cli import main
from aopsam_ros.weights.known import KNOWN
KNOWN["small"] = small_weights(sys.argv[1])
sys.exit(main(["models", "fetch", "small"]))
"""


def start(url):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_a_second_process_is_told_to_wait(weights, server, cache, at_hand):
    server.gate.clear()
    first = start(server.url)
    while not server.ranges:
        assert first.poll() is None, first.stderr.read()
    for store in (lambda: fetch(weights), lambda: take(weights, at_hand)):
        with pytest.raises(WeightsError, match="is being fetched by another process; wait"):
            store()
    code, _, err = finish(start(server.url))
    assert code == 2 and "is being fetched by another process" in err
    server.gate.set()
    assert finish(first)[0] == 0
    assert (cache / "small.pt").read_bytes() == CONTENT
    assert names(cache) == INSTALLED and server.ranges == [None]


def test_a_process_that_died_holds_no_lock(weights, server, cache):
    server.gate.clear()
    first = start(server.url)
    while not server.ranges:
        assert first.poll() is None, first.stderr.read()
    first.kill()
    finish(first)
    server.gate.set()
    assert fetch(weights).read_bytes() == CONTENT
    assert names(cache) == INSTALLED


def test_processes_at_once_leave_one_whole_file(server, cache):
    results = [finish(process) for process in [start(server.url) for _ in range(2)]]
    assert (cache / "small.pt").read_bytes() == CONTENT
    assert names(cache) == INSTALLED
    assert 0 in [code for code, _, _ in results]
    for code, out, err in results:
        assert (code == 0 and "verified" in out) or "being fetched by another process" in err


def test_the_table_itself_is_as_it_was():
    assert "small" not in KNOWN
