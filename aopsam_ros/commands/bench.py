"""`aopsam bench`: times of graphs and frames, other ways to masks, ROS, memory."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

from aopsam_ros.commands.arguments import (
    add_engine_arguments,
    add_settings_argument,
    engine_options,
    parse_settings,
    require,
)
from aopsam_ros.errors import AopsamError, InputError

INCOMPLETE = 2
NEEDED = ("pyperf", "psutil", "onnx")
PARTS = ("graphs", "frames", "memory", "growth", "node", "official", "peers")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--model",
        dest="models",
        action="append",
        help="bundle's name or folder, more than once for more (default: nano, and"
        " mobile_sam_random, which is MobileSAM with random weights, made where torch is there)",
    )
    add_engine_arguments(parser)
    parser.add_argument("--size", default="1280x720", help="of the image (%(default)s)")
    text = "set options, such as encoder.padding=least; graphs are measured without"
    add_settings_argument(parser, text)
    parser.add_argument(
        "--only", dest="parts", nargs="+", choices=PARTS, default=list(PARTS), help="parts"
    )
    parser.add_argument("--quick", action="store_true", help="see that all works; no figures")
    parser.add_argument(
        "--peer",
        type=Path,
        metavar="DIR",
        help="folder that holds MobileSAM's published package mobile_sam, to time it as well; what"
        " it imports must be installed",
    )
    parser.add_argument(
        "--peer-onnx",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="others' graphs, timed in turns with whole frames (the part peers), on a CPU",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/bench"), help="folder for the results (%(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, write results.json and report.txt, print the report.

    Returns:
        0, or 2 if a part had to be left out.
    """
    _require()
    from aopsam_benchmarks.part import parse_size
    from aopsam_benchmarks.report import as_text
    from aopsam_benchmarks.run import measure

    parse_size(arguments.size)
    parse_settings(arguments.set)
    engine_options(arguments)
    missing = [file for file in arguments.peer_onnx if not file.is_file()]
    if missing:
        raise InputError(f"{missing[0]}: no such file")
    results = measure(arguments)
    text = as_text(results)
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (arguments.out / "report.txt").write_text(text + "\n", encoding="utf-8")
    print(text)
    return INCOMPLETE if results["left_out"] else 0


def _require() -> None:
    """Make the benchmarks importable: installed beside this package, or in its source folder."""
    remedy = "`make setup EXTRAS=bench` or `pip install .[bench]`"
    require(NEEDED, f"benchmarks need {', '.join(NEEDED)}", remedy)
    if importlib.util.find_spec("aopsam_benchmarks") is None:
        source = Path(__file__).resolve().parents[2] / "benchmarks"
        if not source.is_dir():
            raise AopsamError("the benchmarks are not installed: run this in a source folder")
        sys.path.append(str(source))
