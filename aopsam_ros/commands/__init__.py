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
    "segment": Command("aopsam_ros.commands.segment", "find the masks of pictures"),
    "models": Command("aopsam_ros.commands.models", "list the model bundles, or verify one"),
    "demo": Command("aopsam_ros.ros.demo", "run the ROS node on photographs, leave a report"),
}
