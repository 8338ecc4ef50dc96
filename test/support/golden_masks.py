"""Golden masks: the outlines made by hand, the stored masks of the shipped model, and matching.

Stores the masks of the shipped model, too: to be run after the model or its options have been
changed on purpose, and after looking at the overlays of `aopsam demo`:

    PYTHONPATH=test python -m support.golden_masks

For each shipped photograph it writes `test/golden/nano/<photograph>.json` with the size and, per
mask, the box `[x, y, width, height]`, the predicted IoU, and the run lengths inside the box: row by
row, background first, as little-endian uint32, deflated by zlib, in base64. `model.json` beside
them says which graphs they came from.
"""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.options import OPTIONS
from aopsam_ros.results import InstanceMask, Segmentation
from aopsam_ros.segmentation.segmenter import Segmenter
from support.scenes import best_ious, full_masks

HERE = Path(__file__).resolve().parents[1] / "golden"
PHOTOGRAPHS = HERE.parent.parent / "photographs"
STORED = HERE / "nano"
MODEL_FILE = STORED / "model.json"
BUNDLE = PHOTOGRAPHS.parent / "bundles" / "nano" / "bundle.yaml"
ANNOTATIONS: dict[str, Any] = json.loads((HERE / "annotations.json").read_text(encoding="utf-8"))

# Encoders in 8 bits are taken on some processors only.
ENGINE = EngineOptions(engine="onnxruntime", precision="fp32")

Masks = NDArray[np.bool_]


def photograph_names() -> list[str]:
    """Return the file names of all shipped photographs."""
    return sorted(path.name for path in PHOTOGRAPHS.glob("*.jpg"))


def annotated_names() -> list[str]:
    """Return the file names of the photographs with outlines made by hand."""
    return sorted(ANNOTATIONS["photographs"])


def read_rgb(name: str) -> NDArray[np.uint8]:
    """Return a shipped photograph as uint8 `[H, W, 3]`, read without the package's own reader."""
    return np.ascontiguousarray(cv2.imread(str(PHOTOGRAPHS / name), cv2.IMREAD_COLOR)[..., ::-1])


def everything_options() -> dict[str, Any]:
    """Return the options of `config/everything.yaml`."""
    content = yaml.safe_load((BUNDLE.parents[2] / "config" / "everything.yaml").read_text())
    return {n: v for n, v in content["/**"]["ros__parameters"].items() if n in OPTIONS}


def hand_masks(name: str) -> dict[str, Masks]:
    """Return the masks made by hand by the object's name, each bool `[H, W]`."""
    entry = ANNOTATIONS["photographs"][name]
    masks = {}
    for item in entry["objects"]:
        canvas = np.zeros((entry["height"], entry["width"]), np.uint8)
        # Sixteenths of a pixel, as vertices lie between pixel centres, too.
        corners = np.rint(np.array(item["polygon"]) * 16).astype(np.int32)
        cv2.fillPoly(canvas, [corners], 1, shift=4)
        masks[item["name"]] = canvas.astype(bool)
    return masks


def hand_ious(name: str, segmentation: Segmentation) -> dict[str, float]:
    """Return for each object outlined by hand the best IoU of any of the model's masks."""
    wanted = hand_masks(name)
    ious = best_ious(list(wanted.values()), full_masks(segmentation))
    return dict(zip(wanted, ious, strict=True))


def stored_masks(name: str) -> list[Masks]:
    """Return the stored masks of a photograph, decoded without the package's own decoder."""
    entry = json.loads((STORED / f"{Path(name).stem}.json").read_text(encoding="utf-8"))
    masks = []
    for item in entry["masks"]:
        counts = np.frombuffer(zlib.decompress(base64.b64decode(item["counts"])), "<u4")
        x, y, width, height = item["bbox"]
        inside = np.repeat(np.arange(counts.size) % 2 == 1, counts).reshape(height, width)
        canvas = np.zeros((entry["height"], entry["width"]), bool)
        canvas[y : y + height, x : x + width] = inside
        masks.append(canvas)
    return masks


def model_identity() -> dict[str, str]:
    """Return the hashes of the shipped model's graphs by their names."""
    bundle = yaml.safe_load(BUNDLE.read_text(encoding="utf-8"))
    return {name: graph["sha256"] for name, graph in sorted(bundle["graphs"].items())}


def pack(segmentation: Segmentation) -> dict[str, Any]:
    """Return what a stored file keeps of a segmentation."""
    return {
        "width": segmentation.width,
        "height": segmentation.height,
        "masks": [_pack_mask(mask) for mask in segmentation.masks],
    }


def _pack_mask(mask: InstanceMask) -> dict[str, Any]:
    runs = np.ascontiguousarray(mask.counts, "<u4").tobytes()
    return {
        "bbox": [int(value) for value in mask.bbox],
        "predicted_iou": round(float(mask.predicted_iou), 3),
        "counts": base64.b64encode(zlib.compress(runs, 9)).decode("ascii"),
    }


def main() -> None:
    segmenter = Segmenter.from_bundle("nano", engine=ENGINE)
    STORED.mkdir(exist_ok=True)
    for name in photograph_names():
        segmentation = segmenter.segment(read_rgb(name))
        packed = pack(segmentation)
        _write(STORED / f"{Path(name).stem}.json", packed)
        print(f"{name}: {len(packed['masks'])} masks{_quality(name, segmentation)}")
    _write(MODEL_FILE, model_identity())
    segmenter.close()


def _quality(name: str, segmentation: Segmentation) -> str:
    """Return how well the objects outlined by hand are found, as `annotations.json` sets bars."""
    if name not in annotated_names():
        return ""
    ious = hand_ious(name, segmentation)
    return f", mean best IoU {sum(ious.values()) / len(ious):.3f} of {len(ious)} outlined objects"


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
