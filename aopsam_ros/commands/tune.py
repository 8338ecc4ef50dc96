"""`aopsam tune`: the options that suit a user's own scenes, as a parameter file for the node."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from aopsam_ros.commands.arguments import (
    INSTALL_EVALUATION,
    add_data_arguments,
    add_model_arguments,
    engine_options,
    make_folder,
    open_boxes,
    open_datasets,
    parse_settings,
    require,
)
from aopsam_ros.errors import OptionError
from aopsam_ros.images.files import write_bytes
from aopsam_ros.options import check
from aopsam_ros.prompting.sources import AUTO
from aopsam_ros.tuning.parameter_file import table, to_yaml
from aopsam_ros.tuning.score import METRICS, Budget
from aopsam_ros.tuning.tuner import Task, tune


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_data_arguments(parser)
    add_model_arguments(parser)
    parser.add_argument(
        "--prompts",
        default=AUTO,
        metavar="SOURCE",
        help="the prompt source whose options are searched (%(default)s)",
    )
    parser.add_argument(
        "--max-calls", type=float, metavar="N", help="prompts that may be decoded for a photograph"
    )
    parser.add_argument(
        "--time-ms", type=float, metavar="MS", help="most milliseconds for an image, here"
    )
    parser.add_argument(
        "--metric",
        choices=METRICS,
        default=METRICS[0],
        help="what to search for: panoptic quality, mIoU one-to-one, the paper's mIoU, or the mean"
        " of these two (%(default)s)",
    )
    parser.add_argument(
        "--trials", type=int, default=200, help="settings to try in all (%(default)s)"
    )
    parser.add_argument(
        "--held-out",
        type=float,
        default=0.25,
        metavar="SHARE",
        help="share of each data set that is not searched on, but checks the result (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the search (%(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for params.yaml and tuning.json; an interrupted search goes on there",
    )


def run(arguments: argparse.Namespace) -> None:
    """Search, print the result beside the model's own options, and write the files."""
    require(("optuna",), "tuning needs optuna", INSTALL_EVALUATION)
    task = _task(arguments)
    make_folder(task.out)
    tuned = tune(task)
    given = {name: check(name, value) for name, value in task.settings.items()}
    files = {
        "params.yaml": to_yaml(tuned, given, task.budget.describe()),
        "tuning.json": json.dumps(asdict(tuned), indent=1) + "\n",
    }
    for name, text in files.items():
        write_bytes(task.out / name, text.encode())
    print("\n".join([*table(tuned), str(task.out / "params.yaml")]))


def _task(arguments: argparse.Namespace) -> Task:
    if arguments.trials < 1:
        raise OptionError("--trials must be 1 or more")
    if not 0 <= arguments.held_out < 1:
        raise OptionError("--held-out must be at least 0 and below 1")
    if arguments.seed < 0:
        raise OptionError("--seed must be 0 or more")
    return Task(
        model=arguments.model,
        engine=engine_options(arguments),
        prompt_source=arguments.prompts,
        datasets=open_datasets(arguments),
        limit=arguments.limit,
        held_out=arguments.held_out,
        settings=parse_settings(arguments.set),
        boxes=open_boxes(arguments.boxes, [arguments.prompts]),
        budget=Budget(arguments.max_calls, arguments.time_ms),
        metric=arguments.metric,
        trials=arguments.trials,
        seed=arguments.seed,
        out=arguments.out,
    )
