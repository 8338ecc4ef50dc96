"""The code's layout: small folders, short documents, one name for one type."""

import re
from collections import Counter

import pytest

MOST_FILES = 20
FOLDERS = ("aopsam_ros", "benchmarks", "examples", "launch", "scripts", "test")
PACKAGES = ("aopsam_ros", "benchmarks", "scripts")
# A class, or an alias of a type.
TYPE = re.compile(r"^(?:class (?=\w+[(:])|(?=\w*[a-z]\w* = [\w.]+\[))([A-Z]\w*)", re.M)


def test_no_folder_holds_more_files_than_one_looks_through(root):
    files = [f for folder in FOLDERS for f in (root / folder).rglob("*.*") if f.is_file()]
    count = Counter(str(f.parent.relative_to(root)) for f in files if f.suffix != ".pyc")
    assert {folder: n for folder, n in count.items() if n > MOST_FILES} == {}


@pytest.mark.parametrize(("document", "most"), [("README.md", 250), ("docs/performance.md", 150)])
def test_documents_that_are_read_first_are_short(root, document, most):
    assert len((root / document).read_text(encoding="utf-8").splitlines()) <= most


def test_a_name_stands_for_one_type(root):
    files = [file for package in PACKAGES for file in (root / package).rglob("*.py")]
    count = Counter(name for f in files for name in TYPE.findall(f.read_text(encoding="utf-8")))
    assert count["Segmentation"] == count["EngineKey"] == 1
    assert {name for name, n in count.items() if n > 1} == set()


@pytest.mark.parametrize(
    "term", ["prompt_predictor", "confidence_map", "sampling", "filtering", "elimination_map"]
)
def test_a_term_of_the_paper_is_found_by_file_name(root, term):
    assert any(term in file.stem for file in (root / "aopsam_ros").rglob("*.py"))
