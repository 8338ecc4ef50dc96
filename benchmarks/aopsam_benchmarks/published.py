"""MobileSAM as its authors published it: their package `mobile_sam`.

This project does not ship that package: a folder that holds it is named on the command line. What
runs it needs torch, numpy and Pillow and nothing of this project, so that it may have a Python of
its own. timm and torchvision, which the package imports, are stood in for where they are missing;
what is used of them is outside the network's layers.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import torch
from PIL import Image


def load_model(package: Path, weights: Path) -> Any:  # noqa: ANN401  (the package's type)
    """Return the published model, ready to run.

    Args:
        package: folder that holds `mobile_sam`, which can be imported from then on.
        weights: state dict.
    """
    sys.path.insert(0, str(package))
    stand_in_for_timm()
    stand_in_for_torchvision()
    from mobile_sam import sam_model_registry

    model = sam_model_registry["vit_t"]()
    model.load_state_dict(torch.load(weights, weights_only=True), strict=True)
    return model.eval()  # again: the encoder keeps copies of some weights from this call


def stand_in_for_timm() -> None:
    """Provide what the encoder's definition takes of timm."""
    if importlib.util.find_spec("timm") is not None:
        return

    class DropPath(torch.nn.Identity):
        def __init__(self, drop_prob: float | None = None) -> None:
            super().__init__()
            self.drop_prob = drop_prob

    layers = {
        "DropPath": DropPath,
        "to_2tuple": lambda value: value if isinstance(value, tuple) else (value, value),
        "trunc_normal_": torch.nn.init.trunc_normal_,
    }
    _install("timm.models.layers", layers)
    _install("timm.models.registry", {"register_model": lambda function: function})


def stand_in_for_torchvision() -> None:
    """Provide what the predictor and the generator take of torchvision."""
    if importlib.util.find_spec("torchvision") is not None:
        return

    def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
        return image.resize((size[1], size[0]), Image.Resampling.BILINEAR)

    boxes = {"batched_nms": batched_nms, "box_area": box_area}
    _install("torchvision.ops.boxes", boxes)
    _install(
        "torchvision.transforms.functional", {"resize": resize, "to_pil_image": Image.fromarray}
    )


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """Return the area of boxes (x1, y1, x2, y2) `[N, 4]`."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    idxs: torch.Tensor,  # noqa: ARG001  (all boxes are of one category here)
    iou_threshold: float,
) -> torch.Tensor:
    """Suppress greedily by the IoU of boxes `[N, 4]`; indices by descending score."""
    remaining, areas, kept = scores.argsort(descending=True), box_area(boxes), []
    while len(remaining):
        best, remaining = remaining[0], remaining[1:]
        kept.append(int(best))
        corner = torch.maximum(boxes[best, :2], boxes[remaining, :2])
        opposite = torch.minimum(boxes[best, 2:], boxes[remaining, 2:])
        both = (opposite - corner).clamp(min=0).prod(dim=1)
        union = areas[best] + areas[remaining] - both
        remaining = remaining[both <= iou_threshold * union]
    return torch.tensor(kept, dtype=torch.long)


def _install(name: str, content: dict[str, Any]) -> None:
    """Make a module importable, and the packages it lies in."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        path = ".".join(parts[:depth])
        module = sys.modules.setdefault(path, types.ModuleType(path))
        module.__path__ = []  # type: ignore[attr-defined]
    vars(sys.modules[name]).update(content)
