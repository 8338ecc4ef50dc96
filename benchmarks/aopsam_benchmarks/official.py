"""Times MobileSAM's own automatic mask generator, the `mobile_sam` package its authors published.

This project does not ship that package: `--package` names the folder that holds it. The script runs
by itself, in any Python with torch, numpy and Pillow, and imports nothing of this project. timm and
torchvision, which the package imports, are stood in for where they are missing; what is used of
them is outside the network's layers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image


def main() -> int:
    """Time `--runs` pictures; write seconds and masks to `--out`."""
    arguments = _arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    sys.path.insert(0, str(arguments.package))
    stand_in_for_timm()
    stand_in_for_torchvision()
    from mobile_sam import SamAutomaticMaskGenerator, sam_model_registry

    model = sam_model_registry["vit_t"]()
    model.load_state_dict(torch.load(arguments.weights, weights_only=True), strict=True)
    model.eval()  # again: the encoder keeps copies of some weights from this call
    generator = SamAutomaticMaskGenerator(
        model,
        points_per_side=arguments.grid,
        pred_iou_thresh=arguments.predicted_iou,
        stability_score_thresh=arguments.stability,
        box_nms_thresh=arguments.overlap,
    )
    rgb = np.load(arguments.picture)
    seconds, masks = [], []
    for _ in range(arguments.runs):
        began = time.perf_counter()
        masks = generator.generate(rgb)
        seconds.append(time.perf_counter() - began)
    found = sum(mask["area"] > 0 for mask in masks)  # it also returns masks without a pixel
    facts = {"seconds": seconds, "masks": found, "torch": torch.__version__}
    arguments.out.write_text(json.dumps(facts), encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="time the official automatic mask generator")
    for name in ("--package", "--weights", "--picture", "--out"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--predicted-iou", "--stability", "--overlap"):
        parser.add_argument(name, type=float, required=True)
    parser.add_argument("--grid", type=int, default=32)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    return parser.parse_args()


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


if __name__ == "__main__":
    sys.exit(main())
