"""The table of stages: what was timed, beside the least it could have taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyperf

from aopsam_benchmarks.operations import Work
from aopsam_benchmarks.rates import Rates


@dataclass(frozen=True)
class StageRow:
    """One stage: milliseconds, how much they scatter, the floor, and what sets it."""

    stage: str
    amount: str
    ms: float
    scatter_ms: float
    floor_ms: float
    times_floor: float | None
    floor_by: str
    gflop: float
    mb: float


def stage_rows(times: Path, work: Mapping[str, Mapping[str, Any]], rates: Rates) -> list[StageRow]:
    """Join pyperf's file with the stages' work, in pyperf's order.

    Args:
        times: JSON of pyperf.
        work: `macs`, `bytes` and `amount` of each stage.
        rates: the machine's best.
    """
    suite = pyperf.BenchmarkSuite.load(str(times))
    return [_row(bench, work[bench.get_name()], rates) for bench in suite.get_benchmarks()]


def _row(bench: pyperf.Benchmark, facts: Mapping[str, Any], rates: Rates) -> StageRow:
    scatter = bench.median_abs_dev() if bench.get_nvalue() > 1 else 0.0
    return make_row(
        bench.get_name(),
        facts["amount"],
        (bench.median(), scatter),
        Work(facts["macs"], facts["bytes"]),
        rates,
    )


def make_row(
    stage: str, amount: str, seconds: tuple[float, float], work: Work, rates: Rates
) -> StageRow:
    """Compare a stage's median seconds (and their scatter) with its floor."""
    floor = rates.floor_s(work)
    return StageRow(
        stage=stage,
        amount=amount,
        ms=1e3 * seconds[0],
        scatter_ms=1e3 * seconds[1],
        floor_ms=1e3 * floor,
        times_floor=seconds[0] / floor if floor else None,
        floor_by="operations" if rates.computing_s(work) > rates.moving_s(work) else "bytes",
        gflop=2e-9 * work.macs,
        mb=1e-6 * work.moved,
    )
