"""The shipped model finds the objects that a person outlined, on photographs it never saw.

The bars stand in `annotations.json`: for each photograph, the least mean over its objects of the
best IoU that any of the model's masks reaches. They stand about 0.04 below what the shipped model
was measured at, so that a worse one is noticed; what it is bad at shows in them, too (the cat's
eyes and nose, the single bricks).
"""

import numpy as np
import pytest

from support import golden_masks

BARS = golden_masks.ANNOTATIONS["bars"]


@pytest.mark.parametrize("name", golden_masks.annotated_names())
def test_objects_are_found(name, segmentations):
    ious = golden_masks.hand_ious(name, segmentations[name])
    mean = float(np.mean(list(ious.values())))
    worst = ", ".join(f"{title} {ious[title]:.2f}" for title in sorted(ious, key=ious.get))
    assert mean >= BARS[name], f"mean best IoU {mean:.3f}, bar {BARS[name]}: {worst[:400]}"


def test_objects_are_found_on_average(segmentations):
    means = [
        np.mean(list(golden_masks.hand_ious(name, segmentations[name]).values()))
        for name in golden_masks.annotated_names()
    ]
    assert float(np.mean(means)) >= BARS["average"]
