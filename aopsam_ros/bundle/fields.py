"""Reading the fields of a bundle.yaml, each with its type and range."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aopsam_ros.errors import BundleError

_SHOWN = 60  # characters of a wrong value
_REPR = reprlib.Repr()  # short, whatever a malformed file holds
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _SHOWN


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
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."
        return BundleError(f"{self.file}: {field} must be {wanted}, not {shown}")

    def any(self, name: str) -> Any:  # noqa: ANN401  (free text or mappings)
        """Return a field of any type; None where it is missing."""
        return self._content.get(name)

    def inner(self, name: str) -> Fields:
        """Return a field that must be a mapping."""
        where = f"{self._where}.{name}" if self._where else name
        return Fields(self.file, self._content.get(name), where)

    def choice(self, name: str, known: Sequence[str], default: str | None = None) -> str:
        """Return one of some known words."""
        wanted = " or ".join(known)
        return str(self._checked(name, wanted, lambda value: value in known, default))

    def text(self, name: str) -> str:
        """Return a field that must be text and not empty; a number is read as text."""
        value = self._content.get(name)
        if _is_number(value):  # a version such as 1.0 is a number to YAML
            value = str(value)
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self.error(name, "text", value)
        return value

    def number(self, name: str, low: float, high: float, default: float) -> float:
        """Return a finite number in a closed range."""
        wanted = f"a number from {low:g} to {high:g}"
        return float(self._checked(name, wanted, lambda v: _is_number(v, low, high), default))

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """Return a whole number in a closed range."""
        wanted = f"a whole number from {low} to {high}"
        return int(self._checked(name, wanted, lambda v: _is_whole(v, low, high), default))

    def integers(self, name: str, count: int, low: int, high: int) -> tuple[int, ...]:
        """Return a list of so many whole numbers in a closed range."""
        wanted = f"{count} whole numbers from {low} to {high}"
        return tuple(self._list(name, wanted, lambda v: _is_whole(v, low, high), count))

    def triple(self, name: str, low: float) -> tuple[float, float, float]:
        """Return three finite numbers, one a channel, none below `low`."""
        wanted = f"three numbers from {low:g} to 10000"
        red, green, blue = self._list(name, wanted, lambda v: _is_number(v, low, 1e4), 3)
        return float(red), float(green), float(blue)

    def names(self, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
        """Return a list of some known names, in their order; all where it is missing."""
        if name not in self._content:
            return known
        values = self._list(name, f"a list of {' and '.join(known)}", lambda v: v in known)
        return tuple(value for value in known if value in values)

    def groups(self, name: str, known: tuple[str, ...]) -> dict[str, Mapping[str, object]]:
        """Return a mapping of known names to mappings; empty where it is missing."""
        value = self._content.get(name, {})
        if not isinstance(value, dict) or any(
            key not in known or not isinstance(group, dict) for key, group in value.items()
        ):
            raise self.error(name, f"a mapping with the groups {', '.join(known)}", value)
        return value

    def _checked(
        self, name: str, wanted: str, accepts: Callable[[Any], bool], default: float | str | None
    ) -> Any:  # noqa: ANN401  (what it accepts)
        value = self._content.get(name, default)
        if not accepts(value):
            raise self.error(name, wanted, value)
        return value

    def _list(
        self, name: str, wanted: str, accepts: Callable[[Any], bool], count: int | None = None
    ) -> list[Any]:
        """Return a list, not empty and of so many values, each accepted."""
        values: Any = self._content.get(name)
        is_list = isinstance(values, list) and values and len(values) == (count or len(values))
        if not is_list or not all(map(accepts, values)):
            raise self.error(name, wanted, values)
        return values


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: object, low: float = -math.inf, high: float = math.inf) -> bool:
    """Return whether it is a finite number of a range; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return low <= value <= high and (isinstance(value, int) or math.isfinite(value))
