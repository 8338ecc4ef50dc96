"""Measures models one after another, each part in a process of its own, and joins it all."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
from collections import ChainMap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aopsam_benchmarks.floors import REPEATS, measure_rate
from aopsam_benchmarks.graphs import graph_rows
from aopsam_benchmarks.machine import describe_machine
from aopsam_benchmarks.part import benchmark_image, parse_size, summary
from aopsam_benchmarks.report import ratios
from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.commands.bench import PARTS
from aopsam_ros.errors import AopsamError, InputError

FORMAT = 2  # of the JSON; counted up when a name in it changes its meaning
NODE_MEASURES = ("frames", "workers", "plain", "default")
RANDOM = "mobile_sam_random"  # made here; the name is not looked for
MODELS = ("nano", RANDOM)
# Arguments that results repeat; the others have paths.
DESCRIBED = ("engine", "precision", "threads", "size", "parts", "quick")
MEMORY_PROMPTS = (1, 16, 64, 256)


class PartError(AopsamError):
    """A part could not be measured."""


def measure(settings: argparse.Namespace) -> dict[str, Any]:
    """Measure what the arguments of `aopsam bench` say, as far as it can be.

    What cannot is named with its reason under `left_out`.

    Raises:
        BundleError: if there is no model of a name.
    """
    names: dict[str, str] = {}  # of bundles, numbered where two have the same
    for model in settings.models or MODELS:
        name = base = model if model == RANDOM else load_bundle(model).name
        while name in names:
            name = f"{base}_{len(names) + 1}"
        names[name] = model
    settings.out.mkdir(parents=True, exist_ok=True)
    machine, left_out, models = describe_machine(), dict[str, str](), dict[str, Any]()
    for name, model in names.items():
        with _noting_failures(left_out, name):
            models[name] = _ModelParts(settings, name, model, left_out).measure()
    described = {name: getattr(settings, name) for name in DESCRIBED}
    described |= {"models": list(names), "peer": settings.peer is not None, "options": settings.set}
    return {
        "format": FORMAT,
        "machine": machine,
        "settings": described,
        "ratios": ratios(models),
        "models": models,
        "left_out": left_out,
    }


@contextlib.contextmanager
def _noting_failures(left_out: dict[str, str], what: str) -> Iterator[None]:
    """Write down what failed in the `with` block, and let the rest go on."""
    print(f"{what} …", file=sys.stderr, flush=True)
    try:
        yield
    except (AopsamError, OSError) as error:
        left_out[what] = str(error)
        print(f"{what}: left out: {error}", file=sys.stderr)


class _ModelParts:
    """Measures one model."""

    def __init__(
        self, settings: argparse.Namespace, name: str, model: str, left_out: dict[str, str]
    ) -> None:
        self.settings = settings
        self.left_out = left_out
        self.name = name
        self.work = settings.out / "parts" / name
        self.work.mkdir(parents=True, exist_ok=True)
        self.is_random = model == RANDOM
        self.model = model
        if self.is_random:
            if importlib.util.find_spec("torch") is None:
                raise PartError("needs PyTorch: make setup EXTRAS='bench train'")
            self._script("random_mobile_sam", "--out", self.work, "--size", settings.size)
            self.model = str(self.work / "bundle")

    def measure(self) -> dict[str, Any]:
        """Return what each part found, by its name."""
        found: dict[str, Any] = {}
        for part in PARTS:
            if part in self.settings.parts and self._applies(part):
                with _noting_failures(self.left_out, f"{self.name}, {part}"):
                    found[part] = getattr(self, f"_{part}")()
        return found

    def _applies(self, part: str) -> bool:
        if part == "peers":
            return bool(self.settings.peer_onnx)
        return part != "official" or (self.settings.peer is not None and self.is_random)

    def _graphs(self) -> dict[str, Any]:
        quick, settings = self.settings.quick, self.settings
        times, work = self._file("graphs_pyperf"), self._file("graphs_work")
        thoroughness = ["--debug-single-value"] if quick else ["-p", "3", "-n", "5", "-w", "1"]
        few = ["--only", "encoder", "decoder, 8 at once"] if quick else []
        arguments = ["--copy-env", "--quiet", "-o", times, "--work", work, *thoroughness, *few]
        self._script("graphs", *arguments, *self._common())
        found = json.loads(work.read_text(encoding="utf-8"))
        rate = measure_rate(settings.threads, 1 if quick else REPEATS)
        is_on_cpu = found["device"] == "cpu"
        rows = graph_rows(times, found["multiplications"], rate if is_on_cpu else None)
        return {"multiplications_per_s": rate, "rows": rows}

    def _frames(self) -> Any:  # noqa: ANN401  (as the script wrote it)
        arguments = ["--grid", 4, "--rounds", 1] if self.settings.quick else []
        return self._part("whole_frames", *arguments, *self._options())

    def _memory(self) -> dict[str, Any]:
        """Medians of three processes each."""
        budgets = (1, 16) if self.settings.quick else MEMORY_PROMPTS
        encoder, prompts = self._peak("--what", "encoder"), self._peak("--what", "prompts")
        return {
            "encoder_mb": encoder,
            "prompt_stage_mb": prompts - encoder,
            "pipeline": [
                {"prompts": n, "peak_mb": self._peak("--what", "pipeline", "--prompts", n)}
                for n in budgets
            ],
        }

    def _peak(self, *arguments: object) -> float:
        runs = 1 if self.settings.quick else 3
        options = self._options()
        peaks = [self._part("memory", *arguments, *options)["peak_mb"] for _ in range(runs)]
        return float(summary(peaks)["median"])

    def _growth(self) -> Any:  # noqa: ANN401
        few = ["--prompts", 1, 8, "--sizes", "320x240", "--cameras", 1]
        few += ["--runs", 1, "--seconds", 0.1]
        return self._part("growth", *(few if self.settings.quick else []), *self._options())

    def _node(self) -> Any:  # noqa: ANN401
        if importlib.util.find_spec("rclpy") is None:
            raise PartError("needs ROS 2")
        few = ["--sizes", "320x240", "--runs", 2, "--seconds", 0.1]
        options = [*(few if self.settings.quick else ["--runs", 10]), *self._options()]
        measures = [self._part("node", "--what", what, *options) for what in NODE_MEASURES]
        return [dict(ChainMap(*rows)) for rows in zip(*measures, strict=True)]

    def _peers(self) -> Any:  # noqa: ANN401
        few = ["--rounds", 1] if self.settings.quick else []
        files = [file.resolve() for file in self.settings.peer_onnx]
        return self._part("peers", *few, *self._options(), "--graphs", *files)

    def _official(self) -> dict[str, Any]:
        """Run the published generator with the grid's thresholds.

        Raises:
            InputError: if the package is not where the user says.
        """
        peer = self.settings.peer
        if not (peer / "mobile_sam" / "__init__.py").is_file():
            raise InputError(f"{peer}: holds no package mobile_sam")
        grid = load_bundle(self.model).options("grid").mask
        pixels, out = self.work / "image.npy", self._file("official")
        np.save(pixels, benchmark_image(*parse_size(self.settings.size)))
        words = ["--package", peer, "--weights", self.work / "weights.pt"]
        words += ["--out", out, "--image", pixels]
        words += ["--predicted-iou", grid.predicted_iou_threshold]
        words += ["--stability", grid.stability_threshold, "--overlap", grid.overlap_threshold]
        words += ["--grid", 4 if self.settings.quick else 32, "--threads", self.settings.threads]
        self._script("official", *words)
        facts = json.loads(out.read_text(encoding="utf-8"))
        milliseconds = [1e3 * seconds for seconds in facts.pop("seconds")]
        return {"frame_ms": summary(milliseconds), **facts}

    def _common(self) -> list[object]:
        """Return the arguments that every part takes."""
        names = ("engine", "precision", "threads", "size")
        pairs = [(f"--{name}", getattr(self.settings, name)) for name in names]
        return ["--model", self.model, *itertools.chain(*pairs)]

    def _options(self) -> list[str]:
        return ["--set", *self.settings.set]

    def _part(self, name: str, *arguments: object) -> Any:  # noqa: ANN401
        """Run a part that writes one JSON file; return its content."""
        out = self._file(name)
        self._script(name, *self._common(), "--out", out, *arguments)
        return json.loads(out.read_text(encoding="utf-8"))

    def _file(self, name: str) -> Path:
        """Return a file's path in the working folder; one of a former run is removed."""
        file = self.work / f"{name}.json"
        file.unlink(missing_ok=True)
        return file

    def _script(self, name: str, *arguments: object) -> None:
        self._process(name, [sys.executable, "-m", f"aopsam_benchmarks.{name}", *arguments])

    def _process(self, name: str, command: list[Any]) -> None:
        """Run a command; what it says goes to a log.

        Raises:
            PartError: it failed; with its last line.
        """
        log, began = self.work / f"{name}.log", time.monotonic()
        with log.open("w", encoding="utf-8") as file:
            words = [str(word) for word in command]
            # This package need not be installed.
            folders = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
            done = subprocess.run(words, stdout=file, stderr=file, env=environment, check=False)
        if done.returncode:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise PartError(f"{name}: {said[-1] if said else done.returncode} (its log: {log})")
        print(f"  {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
