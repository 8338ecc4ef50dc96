"""The architectures that `aopsam export --architecture` knows; read without PyTorch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Where the code of a model comes from, and what adapts it."""

    adapter: str  # "module.function" of this package
    variant: str  # which of the adapter's models
    code: str  # what brings the authors' code: what to install, or a checkout of what
    needs_source: bool = False  # whether it is a checkout, which `--source` names
    licence: str = "Apache-2.0"  # of the published weights


def _sam(variant: str) -> Architecture:
    return Architecture("sam.sam", variant, "pip install segment-anything")


def _sam2(size: str) -> Architecture:
    return Architecture("sam2.sam2", f"configs/sam2.1/sam2.1_hiera_{size}.yaml", "pip install sam2")


def _checkout(repository: str, adapter: str, variant: str, licence: str = "") -> Architecture:
    code = f"a checkout of github.com/{repository}"
    return Architecture(adapter, variant, code, True, licence or "Apache-2.0")


def _efficient_tam(variant: str) -> Architecture:
    configuration = f"configs/efficienttam/efficienttam_{variant}.yaml"
    return _checkout("yformer/EfficientTAM", "sam2.efficient_tam", configuration)


ARCHITECTURES: dict[str, Architecture] = {
    "sam_vit_b": _sam("vit_b"),
    "sam_vit_l": _sam("vit_l"),
    "sam_vit_h": _sam("vit_h"),
    "sam2.1_hiera_tiny": _sam2("t"),
    "sam2.1_hiera_small": _sam2("s"),
    "sam2.1_hiera_base_plus": _sam2("b+"),
    "sam2.1_hiera_large": _sam2("l"),
    "efficient_sam_vitt": _checkout("yformer/EfficientSAM", "efficient_sam.efficient_sam", "vitt"),
    "efficient_sam_vits": _checkout("yformer/EfficientSAM", "efficient_sam.efficient_sam", "vits"),
    "edge_sam": _checkout(
        "chongzhou96/EdgeSAM", "sam.edge_sam", "m1", "S-Lab-1.0 (non-commercial)"
    ),
    "edgetam": _checkout("facebookresearch/EdgeTAM", "sam2.edge_tam", "edgetam.yaml"),
    "efficienttam_ti": _efficient_tam("ti"),
    "efficienttam_s": _efficient_tam("s"),
    "efficienttam_ti_512x512": _efficient_tam("ti_512x512"),
    "efficienttam_s_512x512": _efficient_tam("s_512x512"),
}
