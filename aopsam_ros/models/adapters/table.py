"""The architectures that `aopsam export --architecture` knows; read without PyTorch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Where the code of a model comes from, and what adapts it."""

    adapter: str  # module of this package
    variant: str  # which of the adapter's models
    code: str  # what brings the authors' code: what to install, or a checkout of what
    needs_source: bool = False  # whether it is a checkout, which `--source` names
    licence: str = "Apache-2.0"  # of the published weights


def _sam(variant: str) -> Architecture:
    return Architecture("sam", variant, "pip install segment-anything")


ARCHITECTURES: dict[str, Architecture] = {
    "sam_vit_b": _sam("vit_b"),
    "sam_vit_l": _sam("vit_l"),
    "sam_vit_h": _sam("vit_h"),
}
