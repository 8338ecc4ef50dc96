"""Times every stage with pyperf, each in processes of its own; run by `run.py`."""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyperf

from aopsam_benchmarks.benchmark_frame import BenchmarkFrame
from aopsam_benchmarks.part import engine_of
from aopsam_benchmarks.pictures import parse_size, picture
from aopsam_benchmarks.stages import BATCHES, Stage, stages_of
from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.registry import create_engine

OWN = (
    "model",
    "engine",
    "precision",
    "threads",
    "size",
    "only",
    "batches",
)  # options that pyperf knows not


def main() -> int:
    """Time the stages that `--only` names, or all; write their work to `--work`."""
    runner = pyperf.Runner(
        program_args=("-m", "aopsam_benchmarks.time_stages"), add_cmdline_args=_hand_down
    )
    _add_arguments(runner.argparser)
    arguments = runner.parse_args()
    stages = _stages(arguments)
    for stage in stages:
        runner.bench_time_func(stage.name, _timed(stage))
    if not arguments.worker:
        _write_work(arguments.work, stages)
    return 0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="nano")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--batches", nargs="*", type=int, default=list(BATCHES))
    parser.add_argument("--work", type=Path)


def _hand_down(command: list[str], arguments: argparse.Namespace) -> None:
    """Give a process that pyperf starts the options of this one."""
    for name in OWN:
        value = getattr(arguments, name)
        if value not in ([], None):
            values = value if isinstance(value, list) else [value]
            command.extend([f"--{name}", *map(str, values)])


def _stages(arguments: argparse.Namespace) -> list[Stage]:
    bundle = load_bundle(arguments.model)
    runtime = create_engine(bundle, EngineOptions(**engine_of(arguments)))
    frame = BenchmarkFrame(bundle, runtime, picture(*parse_size(arguments.size)))
    stages = stages_of(frame, tuple(arguments.batches))
    return [stage for stage in stages if not arguments.only or stage.name in arguments.only]


def _timed(stage: Stage) -> Callable[[int], float]:
    """Return what pyperf calls for the seconds of so many runs."""

    @functools.lru_cache(maxsize=1)
    def prepare() -> None:
        stage.run()  # whatever comes before this stage is made now, and not timed

    def seconds(loops: int) -> float:
        prepare()
        began = time.perf_counter()
        for _ in range(loops):
            stage.run()
        return time.perf_counter() - began

    return seconds


def _write_work(file: Path | None, stages: list[Stage]) -> None:
    if file is None:
        return
    rows = {}
    for stage in stages:
        work = stage.work()
        rows[stage.name] = {"macs": work.macs, "bytes": work.moved, "amount": stage.amount()}
    file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
