"""What a file is called: against git itself, and against values that other programs computed."""

import hashlib
import shutil
import subprocess

import pytest

from aopsam_ros.weights import identity
from aopsam_ros.weights.known import KNOWN
from support.small_weights import CONTENT, GIT_BLOB, SHA256


@pytest.mark.parametrize("chunk", [1, 1000, 1 << 20])
def test_names_are_those_of_git_and_sha256sum(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(identity, "CHUNK", chunk)
    (tmp_path / "file").write_bytes(CONTENT)
    found = identity.digests_of(tmp_path / "file")
    assert (found.size, found.git_blob, found.sha256) == (len(CONTENT), GIT_BLOB, SHA256)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("content", [b"", b"\0", b"blob 3\0abc", CONTENT[:70_001]])
def test_names_are_those_git_gives_here(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    words = ["git", "hash-object", "--no-filters", str(tmp_path / "file")]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    found = identity.digests_of(tmp_path / "file")
    assert found.git_blob == told
    assert found.sha256 == hashlib.sha256(content).hexdigest()


def test_the_empty_file_has_the_name_everybody_knows(tmp_path):
    (tmp_path / "file").touch()
    found = identity.digests_of(tmp_path / "file").git_blob
    assert found == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


@pytest.mark.parametrize("entry", KNOWN.values(), ids=KNOWN)
def test_the_table_is_whole(entry):
    assert KNOWN[entry.name] is entry
    assert entry.url.startswith("https://") and entry.url.endswith(f"/{entry.file}")
    assert "/" not in entry.file and entry.size > 0 and entry.licence
    assert len(bytes.fromhex(entry.git_blob)) == 20
