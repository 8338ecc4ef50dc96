"""`aopsam models`: what is printed, and one clear line with exit code 2 for each fault."""

import dataclasses
import re

import pytest

from aopsam_ros.weights.known import KNOWN
from support.file_server import CONTENT


@pytest.fixture
def models(weights, aopsam, monkeypatch):
    monkeypatch.setattr("aopsam_ros.commands.models.available", lambda: [])  # bundles: test/bundle

    def run(*words):
        result = aopsam("models", *words)
        return result.code, result.out, result.err

    return run


def refused(result):
    """Return the one line of a command that failed, besides its progress."""
    code, out, err = result
    lines = [line for line in err.splitlines() if line and not line.startswith("small.pt:")]
    assert code == 2 and out == ""
    assert len(lines) == 1 and lines[0].startswith("aopsam: error: ")
    return lines[0]


def test_fetch_list_verify(models, cache, server):
    code, out, _ = models("list", "small")
    assert code == 0 and "not fetched: aopsam models fetch small" in out and not cache.exists()
    assert models("fetch", "small")[:2] == (0, f"{cache / 'small.pt'}  MIT  verified\n")
    code, out, _ = models("list", "small")
    assert code == 0 and str(cache / "small.pt") in out and "verified" not in out
    for words in (["verify"], ["verify", "small"]):
        code, out, _ = models(*words)
        assert code == 0 and out.startswith("small.pt  ") and out.endswith("  verified\n")
    assert server.requests == 1


def test_what_has_no_published_hash_is_not_called_verified(models, weights, cache, monkeypatch):
    unhashed = dataclasses.replace(weights, sha256="", git_blob="")
    monkeypatch.setitem(KNOWN, weights.name, unhashed)
    for words in (["fetch", "small"], ["verify", "small"]):
        code, out, _ = models(*words)
        assert code == 0 and out.endswith("  not verified: no hash is published\n")


def test_without_names_it_is_about_all(models):
    code, out, _ = models("list")
    assert code == 0 and all(f"aopsam models fetch {name}" in out for name in KNOWN)
    assert all(
        re.search(r"  (about [1-9][0-9]*|[0-9]+[.][0-9]) MB  ", line) for line in out.splitlines()
    )
    assert models("verify") == (0, "", "")  # nothing is there, and nobody asked for it


def test_verify_names_what_is_wrong(models, cache):
    assert "not there; run `aopsam models fetch small`" in refused(models("verify", "small"))
    models("fetch", "small")
    (cache / "small.pt").write_bytes(CONTENT[:-1])
    for words in (["verify"], ["verify", "small"]):
        assert "small.pt: truncated" in refused(models(*words))


def test_fetch_from_a_file(models, cache, at_hand, server):
    stored = f"{cache / 'small.pt'}  MIT  verified\n"
    assert models("fetch", "small", "--from", at_hand)[:2] == (0, stored)
    at_hand.write_bytes(CONTENT[::-1])
    assert f"{at_hand}: damaged" in refused(models("fetch", "small", "--from", at_hand))
    assert server.requests == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["fetch"], "say what to fetch: mobile_sam"),
        (["fetch", "nothing"], "unknown weights 'nothing'; known: mobile_sam"),
        (["fetch", "--from", "x"], "--from goes with `fetch` and one name"),
        (["fetch", "small", "mobile_sam", "--from", "x"], "--from goes with `fetch` and one name"),
        (["verify", "small", "--from", "x"], "--from goes with `fetch` and one name"),
        (["verify", "nothing"], "model bundle 'nothing' not found"),
    ],
)
def test_wrong_words_are_one_clear_line(models, words, reason):
    assert reason in refused(models(*words))
