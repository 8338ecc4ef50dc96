"""`--set NAME=VALUE`."""

from __future__ import annotations

from collections.abc import Sequence

from aopsam_ros.errors import OptionError
from aopsam_ros.options import parse


def parse_settings(words: Sequence[str]) -> dict[str, object]:
    """Read options as users write them.

    Raises:
        OptionError: A word has no "=", or the option is unknown or out of range.
    """
    pairs = [word.partition("=") for word in words]
    if any(not separator for _, separator, _ in pairs):
        raise OptionError("--set takes NAME=VALUE")
    return {name: parse(name, value) for name, _, value in pairs}
