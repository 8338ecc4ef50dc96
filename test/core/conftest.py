"""What tests of the `aopsam segment` command share."""

from types import SimpleNamespace

import pytest


@pytest.fixture
def segment(aopsam, tiny_folder, tmp_path):
    """Run `aopsam segment` with the tiny bundle; return exit code, output folder and streams."""

    def run(*words):
        out = tmp_path / "out"
        result = aopsam("segment", *words, "--model", tiny_folder, "--out", out)
        return SimpleNamespace(code=result.code, out=out, stdout=result.out, err=result.err)

    return run
