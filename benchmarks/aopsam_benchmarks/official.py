"""Times MobileSAM's own automatic mask generator, as its authors published it: `mobile_sam`.

This project does not ship that package: a folder that holds it is named on the command line. What
runs it needs torch, numpy and what the package imports (timm, torchvision), and nothing of this
project, so that it may have a Python of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch


def load_model(package: Path, weights: Path) -> Any:  # noqa: ANN401  (the package's type)
    """Return the published model, ready to run.

    Args:
        package: folder that holds `mobile_sam`, which can be imported from then on.
        weights: state dict.
    """
    sys.path.insert(0, str(package))
    from mobile_sam import sam_model_registry

    model = sam_model_registry["vit_t"]()
    model.load_state_dict(torch.load(weights, weights_only=True), strict=True)
    return model.eval()  # again: the encoder keeps copies of some weights from this call


def main() -> int:
    """Time `--runs` images; write seconds and masks to `--out`."""
    arguments = _arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    model = load_model(arguments.package, arguments.weights)
    from mobile_sam import SamAutomaticMaskGenerator

    generator = SamAutomaticMaskGenerator(
        model,
        points_per_side=arguments.grid,
        pred_iou_thresh=arguments.predicted_iou,
        stability_score_thresh=arguments.stability,
        box_nms_thresh=arguments.overlap,
    )
    rgb = np.load(arguments.image)
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
    for name in ("--package", "--weights", "--image", "--out"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--predicted-iou", "--stability", "--overlap"):
        parser.add_argument(name, type=float, required=True)
    parser.add_argument("--grid", type=int, default=32)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
