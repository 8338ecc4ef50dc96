"""The architectures that `aopsam export --architecture` knows; read without PyTorch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Where the code of a model comes from, and what adapts it.

    Attributes:
        adapter: module of this package.
        variant: which of the adapter's models.
        code: what brings the authors' code: what to install, or of what to have a checkout.
        needs_source: whether that is a checkout, which `--source` names.
        licence: of the published weights; see docs/models.md.
    """

    adapter: str
    variant: str
    code: str
    needs_source: bool = False
    licence: str = "Apache-2.0"


def _sam(variant: str) -> Architecture:
    return Architecture("sam", variant, "pip install segment-anything")


ARCHITECTURES: dict[str, Architecture] = {
    "sam_vit_b": _sam("vit_b"),
    "sam_vit_l": _sam("vit_l"),
    "sam_vit_h": _sam("vit_h"),
}
