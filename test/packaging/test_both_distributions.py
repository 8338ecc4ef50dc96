"""What is used of rclpy exists on Humble and on Jazzy: compared with `rclpy_names.txt`."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    file
    for folder in ("aopsam_ros", "launch", "examples", "docs")
    for file in (ROOT / folder).rglob("*.py")
    if "rclpy" in file.read_text(encoding="utf-8")
)


def read_names():
    """Names of each section, with the arguments of those that have any."""
    sections = {}
    text = (Path(__file__).parent / "rclpy_names.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            name, _, arguments = line.partition("(")
            words = arguments.rstrip(")").split(", ") if "(" in line else None
            section[name] = words
    return sections["both"], sections["later than Humble"]


BOTH, LATER = read_names()
# Attributes by their last word: whose they are cannot be seen without running the code.
WORDS = {name.rpartition(".")[2] for name in BOTH}
LATER_WORDS = {name.rpartition(".")[2] for name in LATER} - WORDS


def arguments_of(word):
    """Arguments that anything of this name takes; None where any may be taken."""
    found = [words for name, words in BOTH.items() if name.rpartition(".")[2] == word]
    known = [words for words in found if words is not None]
    if not known or len(known) < len(found) or any("**" in words for words in known):
        return None
    return {word for words in known for word in words}


def is_choice(node):
    """Whether it imports a name from where the release has it."""
    handlers = node.handlers if isinstance(node, ast.Try) else []
    return [getattr(handler.type, "id", "") for handler in handlers] == ["ImportError"]


def faults(tree):
    """What in the code does not exist on both."""
    imported = {}
    either = {id(child) for node in ast.walk(tree) if is_choice(node) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name: "rclpy" for alias in node.names if alias.name == "rclpy"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rclpy":
            imported |= {alias.asname or alias.name: alias.name for alias in node.names}
            if id(node) in either:
                continue
            names = [(f"{node.module}.{alias.name}", alias.name) for alias in node.names]
            yield from (f"from {node.module} import {n}" for full, n in names if full not in BOTH)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield from _attribute_faults(node, imported)
        elif isinstance(node, ast.Call):
            yield from _argument_faults(node, imported)


def _attribute_faults(node, imported):
    if isinstance(node.value, ast.Name) and imported.get(node.value.id) == "rclpy":
        found = f"rclpy.{node.attr}"
        if found not in BOTH and not any(name.startswith(f"{found}.") for name in BOTH):
            yield found
    elif node.attr in LATER_WORDS:
        yield f".{node.attr}"


def _argument_faults(node, imported):
    if isinstance(node.func, ast.Name):
        word = imported.get(node.func.id)
    else:
        word = getattr(node.func, "attr", None)
    allowed = arguments_of(word) if word in WORDS else None
    for keyword in node.keywords:
        if allowed is not None and keyword.arg and keyword.arg not in allowed:
            yield f"{word}({keyword.arg}=)"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_what_both_have_is_used(file):
    assert not list(faults(ast.parse(file.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("from rclpy.event_handler import EventHandler", "from rclpy.event_handler"),
        ("from rclpy.qos import qos_profile_best_available", "best_available"),
        ("self.add_post_set_parameters_callback(f)", ".add_post_set_parameters_callback"),
        ("import rclpy\nrclpy.spin_forever()", "rclpy.spin_forever"),
        ("QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_AVAILABLE)", "BEST_AVAILABLE"),
        ("node.create_subscription(M, 't', f, 1, content_filter_options=c)", "content_filter"),
        ("node.create_timer(1.0, f, autostart=False)", "create_timer(autostart=)"),
    ],
)
def test_the_check_finds_what_only_later_releases_have(code, fault):
    assert any(fault in found for found in faults(ast.parse(code)))


@pytest.mark.needs("rclpy")
def test_the_list_is_of_the_rclpy_that_is_here():
    """Names for which the installed rclpy, a Jazzy, is not missing."""
    import rclpy.node

    methods = [name for name in BOTH if re.fullmatch(r"rclpy\.node\.Node\.\w+", name)]
    assert len(methods) > 50
    assert [name for name in methods if not hasattr(rclpy.node.Node, name.rpartition(".")[2])] == []
