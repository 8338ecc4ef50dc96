"""The shipped model still gives the masks that were stored with it.

Runs on another processor differ in the last bits, so that a mask at a threshold may come or go:
nearly all masks have to be there again at IoU 0.9, in both directions, over all photographs.
"""

from __future__ import annotations

import json

from aopsam_ros.results import Segmentation
from support import golden_masks, update_golden

SAME_MASK = 0.9
SHARE = 0.95


def test_stored_masks_belong_to_the_shipped_model() -> None:
    stored = json.loads(
        (golden_masks.STORED / update_golden.MODEL_FILE).read_text(encoding="utf-8")
    )
    assert stored == update_golden.model_identity(), (
        "the shipped model has changed: judge its overlays, then run support.update_golden"
    )


def test_every_photograph_has_stored_masks() -> None:
    for name in golden_masks.photograph_names():
        assert golden_masks.stored_masks(name), f"no mask is stored for {name}"


def test_stored_masks_are_found_again(segmentations: dict[str, Segmentation]) -> None:
    missing, total = _unmatched(segmentations, stored_first=True)
    assert total > 0
    assert len(missing) <= (1 - SHARE) * total, f"not found again ({total} stored): {missing}"


def test_no_new_masks_appear(segmentations: dict[str, Segmentation]) -> None:
    new, total = _unmatched(segmentations, stored_first=False)
    assert total > 0
    assert len(new) <= (1 - SHARE) * total, f"not stored ({total} found): {new}"


def _unmatched(segmentations: dict[str, Segmentation], stored_first: bool) -> tuple[list[str], int]:
    """Return the masks of one side that the other lacks, and how many the side has."""
    unmatched, total = [], 0
    for name, segmentation in segmentations.items():
        wanted = golden_masks.stored_masks(name)
        found = golden_masks.full_masks(segmentation)
        if not stored_first:
            wanted, found = found, wanted
        total += len(wanted)
        for index, value in enumerate(golden_masks.best_ious(wanted, found)):
            if value < SAME_MASK:
                unmatched.append(f"{name} mask {index}: {value:.2f}")
    return unmatched, total
