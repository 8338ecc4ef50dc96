"""Stores the masks of the shipped model, for `test_against_stored_masks.py`.

To be run after the model or its options have been changed on purpose, and after looking at the
overlays of `aopsam demo`:

    PYTHONPATH=test python -m support.update_golden

For each shipped photograph it writes `test/golden/nano/<photograph>.json` with the size and, per
mask, the box `[x, y, width, height]`, the predicted IoU, and the run lengths inside the box: row by
row, background first, as little-endian uint32, deflated by zlib, in base64. `model.json` beside
them says which graphs they came from.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.segmenter import Segmenter
from support import golden_masks

MODEL_FILE = "model.json"
BUNDLE = golden_masks.HERE.parent.parent / "bundles" / "nano" / "bundle.yaml"


def model_identity() -> dict[str, str]:
    """Return the hashes of the shipped model's graphs by their names."""
    bundle = yaml.safe_load(BUNDLE.read_text(encoding="utf-8"))
    return {name: graph["sha256"] for name, graph in sorted(bundle["graphs"].items())}


def main() -> None:
    segmenter = Segmenter.from_bundle("nano", engine="onnxruntime")
    golden_masks.STORED.mkdir(exist_ok=True)
    for name in golden_masks.photograph_names():
        segmentation = segmenter.segment(golden_masks.read_rgb(name))
        packed = golden_masks.pack(segmentation)
        _write(golden_masks.STORED / f"{Path(name).stem}.json", packed)
        print(f"{name}: {len(packed['masks'])} masks{_quality(name, segmentation)}")
    _write(golden_masks.STORED / MODEL_FILE, model_identity())
    segmenter.close()


def _quality(name: str, segmentation: Segmentation) -> str:
    """Return how well the objects outlined by hand are found, as `annotations.json` sets bars."""
    if name not in golden_masks.annotated_names():
        return ""
    ious = golden_masks.hand_ious(name, segmentation)
    return f", mean best IoU {sum(ious.values()) / len(ious):.3f} of {len(ious)} outlined objects"


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
