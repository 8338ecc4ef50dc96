"""The subcommands of `aopsam`: one module each, imported only when it is the one to run.

A module has `add_arguments(parser)` and `run(arguments) -> int`, which returns the exit code and
raises an `AopsamError` for what the user did wrong.
"""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """Where a subcommand lives, and its line in the help."""

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    "segment": Command("aopsam_ros.commands.segment", "find the masks of images"),
    "models": Command("aopsam_ros.commands.models", "list, fetch or verify models"),
    "evaluate": Command("aopsam_ros.commands.evaluate", "measure on labelled images"),
    "tune": Command("aopsam_ros.commands.tune", "search the options for your own images"),
    "train-segmenter": Command(
        "aopsam_ros.commands.train_segmenter", "train a small SAM-shaped model (needs torch)"
    ),
    "train-predictor": Command(
        "aopsam_ros.commands.train_predictor",
        "train a Prompt Predictor for it or for MobileSAM (needs torch)",
    ),
    "export": Command(
        "aopsam_ros.commands.export", "turn checkpoints into a model bundle (needs torch)"
    ),
    "build-engines": Command(
        "aopsam_ros.commands.build_engines", "build a bundle's TensorRT engines beforehand"
    ),
    "quantize": Command(
        "aopsam_ros.commands.quantize", "add an encoder in 8 bits, for a CPU, to a model bundle"
    ),
    "bench": Command("aopsam_ros.commands.bench", "measure times, floors, ROS and memory"),
    "demo": Command("aopsam_ros.commands.demo", "run the ROS node on photographs, leave a report"),
}
