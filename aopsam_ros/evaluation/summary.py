"""Figures of many photographs as one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aopsam_ros.evaluation.automatic import ImageResult


@dataclass(frozen=True)
class Row:
    """Means over photographs, each counting once; latencies as median and 95th percentile.

    `eliminated` is the share of all submitted prompts in 0-1. `average_recall` (AR@1000) and
    `average_precision` are COCO's over all photographs, None where they were not asked for. Boxes
    may have cost a detector's time, which is part of both latencies.
    """

    images: int
    one_to_one: float
    closest: float
    coverage_50: float
    coverage_75: float
    masks: float
    prompts: float
    kept: float
    decoder_calls: float
    eliminated: float
    prompt_ms: float
    prompt_ms_p95: float
    total_ms: float
    total_ms_p95: float
    average_recall: float | None = None
    average_precision: float | None = None


def summarize(
    results: Sequence[ImageResult],
    detector_ms: float = 0.0,
    coco: tuple[float, float] | None = None,
) -> Row:
    """Average the results of one photograph or more.

    Args:
        results: of photographs.
        detector_ms: what a detector of boxes took for each, on top of what was measured.
        coco: AR@1000 and AP over the same photographs.
    """

    def mean(field: str) -> float:
        return float(np.mean([getattr(result, field) for result in results]))

    prompt_ms = np.array([result.prompt_ms for result in results]) + detector_ms
    total_ms = np.array([result.total_ms for result in results]) + detector_ms
    submitted = sum(result.prompts for result in results)
    recall, precision = coco or (None, None)
    return Row(
        images=len(results),
        one_to_one=mean("one_to_one"),
        closest=mean("closest"),
        coverage_50=mean("coverage_50"),
        coverage_75=mean("coverage_75"),
        masks=mean("masks"),
        prompts=mean("prompts"),
        kept=mean("kept"),
        decoder_calls=mean("decoder_calls"),
        eliminated=sum(r.eliminated for r in results) / submitted if submitted else 0.0,
        prompt_ms=float(np.median(prompt_ms)),
        prompt_ms_p95=float(np.percentile(prompt_ms, 95)),
        total_ms=float(np.median(total_ms)),
        total_ms_p95=float(np.percentile(total_ms, 95)),
        average_recall=recall,
        average_precision=precision,
    )
