"""YAML of plain values: no objects, and no aliases.

A few hundred bytes of aliases can stand for more values than fit into memory.
"""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002  (yaml's own)
        return True


def load(text: str) -> Any:  # noqa: ANN401  (whatever the text says)
    """Read a document.

    Raises:
        yaml.YAMLError: if it is none, or has aliases.
        ValueError: if a number or a date is impossible.
        RecursionError: if it is nested too deeply.
    """
    return yaml.load(text, _Loader)


def dump(content: Any) -> str:  # noqa: ANN401  (plain values)
    """Write a document, names in the order of `content`; what comes twice is written twice."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=100)
