"""`aopsam demo`: the real lifecycle node, fed with images over DDS, and a report of it.

The node runs in its own process. This one plays the camera, collects the node's results and writes
images, summary.json and index.html. `--scene teach` adds a planner, which teaches a thing.
"""

import argparse
import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from aopsam_ros.commands.arguments import make_folder, require
from aopsam_ros.demo.photographs import MUG, Photograph, mug_views, read_folder
from aopsam_ros.demo.processes import interrupts, unused_domain
from aopsam_ros.errors import InputError
from aopsam_ros.ros.resources import large_message_environment, resource_folder

_DEFAULT_REPEAT = 12
_SCENE_REPEAT = 4  # a view of a moving camera is there for less long
_SHOWN_VIEWS = 8  # of a scene, in its report
_LOCAL_DISCOVERY = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `aopsam demo` to its parser."""
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for the results")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--photos", type=Path, help="folder of photographs; default: the shipped")
    shown.add_argument(
        "--scene",
        choices=("teach",),
        help="a camera that moves around a mug; a planner teaches it by one click and finds it",
    )
    parser.add_argument("--fps", type=float, default=10.0, help="the camera's rate (default 10)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, help="length of the whole stream")
    length.add_argument(
        "--repeat", type=int, help=f"frames for each photograph (default {_DEFAULT_REPEAT})"
    )
    parser.add_argument("--model", default="nano", help="model bundle: a name or a folder")
    parser.add_argument("--engine", default="auto", help="engine that runs the model")
    parser.add_argument(
        "--domain-id",
        type=int,
        help="ROS domain, to look on with other tools; default: one that is not in use, here only",
    )
    parser.add_argument(
        "--record",
        type=Path,
        metavar="FILE.mcap",
        help="record the camera and all results, for Foxglove and ros2 bag (needs rosbags)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Run node and camera to the end, and write the report."""
    shipped, lesson = resource_folder("photographs"), MUG if arguments.scene else None
    photographs = mug_views(shipped) if lesson else read_folder(arguments.photos or shipped)
    fps = _positive("--fps", arguments.fps)
    repeat = _frames_each(arguments, len(photographs))
    network = _network(arguments.domain_id)
    if arguments.record is not None:
        _check_recording(arguments.record)
    make_folder(arguments.out)
    remedy = "run `make demo`, or build with colcon and source its setup file"
    require(("rclpy", "aopsam_ros.msg"), "the demo needs ROS 2 and the built package", remedy)
    from aopsam_ros.demo import report, session

    os.environ.update({**large_message_environment(), **network})
    report.remove_report(arguments.out)
    plan = session.Plan(
        arguments.out,
        photographs,
        fps,
        repeat,
        arguments.model,
        arguments.engine,
        arguments.record,
        lesson,
    )
    with interrupts() as check:
        recording = session.record(plan, check)
        shown = _evenly(photographs, recording.shown()) if lesson else photographs
        texts = session.planner_texts(plan)
        summary = report.write_report(plan.out, recording, shown, texts)
        check()
    latency = summary["latency_ms"]
    print(
        f"{summary['frames']} frames, {summary['masks']} masks, {summary['fps']:.1f} fps, "
        f"latency {latency['p50']:.0f} ms (95 %: {latency['p95']:.0f} ms), "
        f"{summary['dropped']} dropped: {plan.out / 'index.html'}"
    )


def _evenly(photographs: Sequence[Photograph], names: Collection[str]) -> list[Photograph]:
    """Return some of the photographs of these names, evenly spread."""
    found = [photograph for photograph in photographs if photograph.name in names]
    return found[:: max(1, round(len(found) / _SHOWN_VIEWS))]


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} has to be positive, not {value}")
    return value


def _frames_each(arguments: argparse.Namespace, photographs: int) -> int:
    """Return how often each photograph is published."""
    if arguments.seconds is not None:
        seconds = _positive("--seconds", arguments.seconds)
        frames = _positive("--seconds times --fps", seconds * arguments.fps)
        return max(1, round(frames / photographs))
    default = _SCENE_REPEAT if arguments.scene else _DEFAULT_REPEAT
    repeat = default if arguments.repeat is None else arguments.repeat
    return int(_positive("--repeat", repeat))


def _check_recording(path: Path) -> None:
    """Refuse what cannot be recorded into, before anything runs."""
    if path.suffix != ".mcap":
        raise InputError(f"--record writes a file of the suffix .mcap, not {path}")
    make_folder(path.parent)
    remedy = "`make setup EXTRAS=record` or `pip install .[record]`"
    require(("rosbags",), "--record needs rosbags", remedy)


def _network(domain_id: int | None) -> dict[str, str]:
    """Return the environment that keeps the demo and other ROS systems apart."""
    if domain_id is not None:
        if not 0 <= domain_id <= 232:
            raise InputError(f"--domain-id has to be 0 to 232, not {domain_id}")
        return {"ROS_DOMAIN_ID": str(domain_id)}
    humble = os.environ.get("ROS_DISTRO") == "humble"
    this_machine = {"ROS_LOCALHOST_ONLY": "1"} if humble else _LOCAL_DISCOVERY
    return {"ROS_DOMAIN_ID": str(unused_domain()), **this_machine}
