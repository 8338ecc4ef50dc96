"""What all tests share: which of them can run here, the repository's root, the hand-made bundle."""

import importlib.util
import random
import re
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import settings

from aopsam_ros.engines.base import EngineOptions
from support.tiny_bundle import edit, write_tiny_bundle

# The same examples every time, no time limit: a test must not fail because the machine is busy.
settings.register_profile("aopsam", deadline=None, derandomize=True, database=None)
settings.load_profile("aopsam")

TESTS = Path(__file__).parent
LONG = ("training", "reliability")  # folders whose files take longest
# What a whole file needs, at its top; `pytestmark` in a conftest.py speaks for the folder's files.
OF_A_FILE = r"^(?:\w+ = )?pytest\.(?:importorskip|mark\.needs)\((.+)\)"
OF_A_TEST = r"^ *(?:@|.*marks=)pytest\.mark\.needs\((.+)\)"


def missing(modules):
    """Return those modules whose top-level package is not installed."""
    return {name for name in modules if importlib.util.find_spec(name.partition(".")[0]) is None}


def missing_by(pattern, file):
    """Return what a test file or its folder asks for by a line of this pattern, and is missing."""
    sources = [source for source in (file, file.with_name("conftest.py")) if source.is_file()]
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    arguments = " ".join(re.findall(pattern, text, re.MULTILINE))
    return missing(re.findall(r'"([\w.]+)"', arguments))


def pytest_ignore_collect(collection_path):
    """Leave out a file that needs what is not installed."""
    is_test = collection_path.match("test_*.py")
    return True if is_test and missing_by(OF_A_FILE, collection_path) else None


def pytest_collection_modifyitems(config, items):
    """Leave out single tests marked `needs("module")` for the same reason; begin with long files.

    Of two processes one would wait for the other's last file otherwise.
    """
    left_out = [i for i in items if missing(n for m in i.iter_markers("needs") for n in m.args)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: item.path.parent.name not in LONG)


def pytest_report_header():
    """Say what is not collected, and why."""
    whole, single = defaultdict(list), set()
    for file in sorted(TESTS.rglob("test_*.py")):
        if absent := missing_by(OF_A_FILE, file):
            whole[" ".join(sorted(absent))].append(file.stem.removeprefix("test_"))
        else:
            single |= missing_by(OF_A_TEST, file)
    reasons = [f"without {name}: {', '.join(files)}" for name, files in whole.items()]
    if single:
        reasons.append(f"single tests without {', '.join(sorted(single))}")
    return f"not collected: {'; '.join(reasons)}" if reasons else None


@pytest.fixture(autouse=True)
def same_chance() -> None:
    """What a test draws does not depend on the tests that its process ran before."""
    random.seed(0)
    np.random.seed(0)  # what draws without a generator of its own
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder with package.xml."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """The folder of a bundle of a few kilobytes."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder):
    """A segmenter with that bundle."""
    from aopsam_ros.segmentation.segmenter import Segmenter

    with Segmenter.from_bundle(
        tiny_folder, engine=EngineOptions(engine="onnxruntime", threads=1)
    ) as segmenter:
        yield segmenter


@pytest.fixture(scope="session")
def tiny_grid(tiny_folder):
    """A segmenter with that bundle and another prompt source."""
    from aopsam_ros.segmentation.segmenter import Segmenter

    with Segmenter.from_bundle(
        tiny_folder, prompt_source="grid8", engine=EngineOptions(threads=1)
    ) as segmenter:
        yield segmenter


@pytest.fixture
def bare(tmp_path):
    """The folder of that bundle without a predictor, the test's own."""
    folder = write_tiny_bundle(tmp_path / "bare", confidence_map_size=None)
    edit(folder, lambda fields: fields["graphs"].pop("prompt_predictor"))
    return folder


@pytest.fixture
def watched(monkeypatch):
    """Watch a function of an object, which still does its work; a list of its calls' arguments."""

    def watch(owner, name):
        calls, work = [], getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *given, **named: calls.append(given) or work(*given, **named)
        )
        return calls

    return watch


@pytest.fixture
def robot(tmp_path):
    """A client with its own ROS domain, which can start the node; everything ends with the test."""
    from support.live import Robot

    with Robot(tmp_path) as client:
        yield client


@pytest.fixture
def aopsam(capfd):
    """Run `aopsam` in this process; its exit code, and what it said on stdout and stderr."""
    from aopsam_ros.cli import main

    def run(*words):
        code = main([str(word) for word in words])
        streams = capfd.readouterr()
        assert "Traceback" not in streams.err
        return SimpleNamespace(code=code, out=streams.out, err=streams.err)

    return run


@pytest.fixture
def refused(aopsam):
    """Run `aopsam` with words that it must refuse, at once or in time; its last line says why."""

    def run(*words, at_once=False):
        result = aopsam(*words)
        assert result.code == 2
        *progress, line = result.err.splitlines()
        assert line.startswith("aopsam: error: ") and not (at_once and progress)
        return line

    return run
