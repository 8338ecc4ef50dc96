"""Links between the documents, and the files that they name, exist."""

import re
from pathlib import Path

import pytest

LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
ANCHOR = re.compile(r'<a id="([^"]+)">')
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
CODE_PATH = re.compile(r"`([a-z_0-9/]+(?:\.py|/))`")
ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


def anchors(text):
    """Return what GitHub makes of the headings, and the anchors set by hand."""
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return {word.replace(" ", "-") for word in words} | set(ANCHOR.findall(text))


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.name)
def test_links_lead_somewhere(file):
    for target, anchor in LINK.findall(FENCE.sub("", file.read_text())):
        if target.startswith("http"):
            continue
        linked = (file.parent / target).resolve() if target else file
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked.read_text()), f"{target}#{anchor}"


def test_architecture_names_files_that_exist():
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = CODE_PATH.findall(text)
    homes = (ROOT / "aopsam_ros", ROOT, ROOT / "aopsam_ros" / "ros")
    assert named
    assert [path for path in named if not any((home / path).exists() for home in homes)] == []


def test_every_photograph_is_listed_with_its_author_and_a_free_licence():
    folder = ROOT / "photographs"
    rows = re.findall(r"^\| (\w+\.jpg) \|(.+)\|$", (folder / "README.md").read_text(), re.M)
    assert [name for name, _ in rows] == sorted(file.name for file in folder.glob("*.jpg"))
    for name, cells in rows:
        subject, author, licence, source = (cell.strip() for cell in cells.split("|"))
        assert subject and author and source, name
        assert re.match("public domain|CC0|Apache-2.0|permission", licence), name
