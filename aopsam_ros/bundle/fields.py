"""Reading the fields of a bundle.yaml, each with its type and range."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from aopsam_ros.errors import BundleError

_REPR = reprlib.Repr()  # short, whatever a malformed file holds
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60


class Fields:
    """One mapping of a YAML file; every getter names the file and the field when it refuses."""

    def __init__(self, file: Path, content: object, where: str = "") -> None:
        """Wrap the mapping `content` found at `where` in `file`."""
        self.file = file
        self._where = where
        if not isinstance(content, dict):
            raise BundleError(f"{file}: {where or 'the content'} must be a mapping of names")
        self._content: dict[str, Any] = content

    def error(self, name: str, wanted: str, value: object) -> BundleError:
        """Return the error for a field that is not what is wanted."""
        field = f"{self._where}.{name}" if self._where else name
        shown = _REPR.repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return BundleError(f"{self.file}: {field} must be {wanted}, not {shown}")

    def any(self, name: str) -> Any:  # noqa: ANN401  (free text or mappings)
        """Return a field of any type; None where it is missing."""
        return self._content.get(name)

    def text(self, name: str) -> str:
        """Return a field that must be text and not empty; a number is read as text."""
        value = self._content.get(name)
        # A version such as 1.0 is a number to YAML.
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self.error(name, "text", value)
        return value

    def number(self, name: str, low: float, high: float, default: float) -> float:
        """Return a finite number in a closed range."""
        value = self._content.get(name, default)
        if not _is_number(value) or not low <= value <= high:
            raise self.error(name, f"a number from {low:g} to {high:g}", value)
        return float(value)

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """Return a whole number in a closed range."""
        value = self._content.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(name, f"a whole number from {low} to {high}", value)
        return value

    def integers(self, name: str, count: int, low: int, high: int) -> tuple[int, ...]:
        """Return a list of so many whole numbers in a closed range."""
        values = self._content.get(name)
        if (
            not isinstance(values, list)
            or len(values) != count
            or any(not isinstance(v, int) or isinstance(v, bool) for v in values)
            or any(not low <= v <= high for v in values)
        ):
            raise self.error(name, f"{count} whole numbers from {low} to {high}", values)
        return tuple(values)

    def triple(self, name: str, low: float) -> tuple[float, float, float]:
        """Return three finite numbers, one a channel, none below `low`."""
        values = self._content.get(name)
        if (
            not isinstance(values, list)
            or len(values) != 3
            or any(not _is_number(v) or not low <= v <= 1e4 for v in values)
        ):
            raise self.error(name, f"three numbers from {low:g} to 10000", values)
        return float(values[0]), float(values[1]), float(values[2])

    def names(self, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
        """Return a list of some known names, in their order; all where it is missing."""
        values = self._content.get(name, list(known))
        if not isinstance(values, list) or not values or any(v not in known for v in values):
            raise self.error(name, f"a list of {' and '.join(known)}", values)
        return tuple(value for value in known if value in values)

    def groups(self, name: str, known: tuple[str, ...]) -> dict[str, Mapping[str, object]]:
        """Return a mapping of known names to mappings; empty where it is missing."""
        value = self._content.get(name, {})
        if not isinstance(value, dict) or any(
            key not in known or not isinstance(group, dict) for key, group in value.items()
        ):
            raise self.error(name, f"a mapping with the groups {', '.join(known)}", value)
        return value


def _is_number(value: object) -> TypeGuard[float]:
    # A whole number too large for a float is out of every range anyway.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, int) or math.isfinite(value)
