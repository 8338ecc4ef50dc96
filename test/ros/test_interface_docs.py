"""docs/interface.md says what the node does."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def generator():
    path = ROOT / "docs" / "generate_interface.py"
    spec = importlib.util.spec_from_file_location("generate_interface", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_file_is_up_to_date():
    written = (ROOT / "docs" / "interface.md").read_text(encoding="utf-8")
    assert written == generator().generate(), "run python docs/generate_interface.py"


def test_a_live_node_has_these_topics(active):
    names = {name for name, _, _ in generator().published()}
    own = active.node.get_publisher_names_and_types_by_node("aopsam", "/")
    found = {topic.replace("/aopsam/", "~/") for topic, _ in own if topic.startswith("/aopsam/")}
    assert names == found - {"~/transition_event"}
