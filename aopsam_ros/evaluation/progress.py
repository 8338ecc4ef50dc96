"""A progress bar on the error stream, so that figures can be piped."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Sequence[Item], unit: str) -> Iterator[Item]:
    """Go through the items and show how far."""
    yield from tqdm(items, unit=unit, desc="evaluate", file=sys.stderr)
