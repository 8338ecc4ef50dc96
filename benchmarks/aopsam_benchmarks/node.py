"""The live node beside the bare pipeline: what ROS costs a frame, and frames a second.

The node runs in its own process; images and masks go through DDS. In turns, so that drift hits
both: an image is published and its masks are waited for, then this process segments the same image
without ROS. The difference is ROS's: two serialisations, the way there and back, conversion,
filling the message. Afterwards a node with nothing behind its topics answers the same images.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from aopsam_benchmarks.part import (
    benchmark_image,
    parse_size,
    part_parser,
    summary,
    write_json,
)
from aopsam_ros.commands.arguments import engine_options, parse_settings
from aopsam_ros.demo.processes import Check, Child, interrupts, unused_domain
from aopsam_ros.msg import MaskArray
from aopsam_ros.ros.messages.images import array_to_image
from aopsam_ros.ros.resources import large_message_environment
from aopsam_ros.segmentation.segmenter import Segmenter

SIZES = ("640x480", "1280x720", "1920x1080")
NODE = "/aopsam"
OURS, PLAIN = "aopsam_ros.ros.main", "aopsam_benchmarks.plain_node"
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
ANSWER_TIMEOUT_S = 120.0
REST_S = 0.05  # an engine's threads spin for a moment after their work, on the others' cores


def main() -> None:
    """Measure at each of `--sizes`; write a row for each.

    Each measure wants a process of its own: in one, a second participant's images took two to three
    times as long on their way.
    """
    measures = {"frames": _frames, "workers": _workers, "plain": _plain, "default": _plain}
    parser = part_parser("measure what ROS costs")
    parser.add_argument("--what", choices=measures, default="frames")
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--runs", type=int, default=20, help="frames of each size")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a stream, for its rate")
    arguments = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(unused_domain()))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if arguments.what != "default":  # as Fast DDS is by default
        os.environ.update(large_message_environment())
    measure = measures[arguments.what]
    write_json(arguments.out, list(measure(arguments)))


def _frames(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The node beside the bare pipeline, as it is configured."""
    with contextlib.ExitStack() as stack:
        segmenter = stack.enter_context(
            Segmenter.from_bundle(given.model, engine=engine_options(given))
        )
        segmenter.options = segmenter.options.updated(parse_settings(given.set))
        live = stack.enter_context(_live(OURS, _parameters(given)))
        for size in given.sizes:
            rgb = benchmark_image(*parse_size(size))
            row = _side_by_side(live, segmenter, rgb, given.runs)
            row["stream_fps"] = live.stream(_image(rgb), given.seconds)
            yield {"size": size, **row}


def _workers(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The node with as many workers as there are cores, a thread each."""
    workers = os.cpu_count() or 1
    # Of two values of a parameter the last one counts.
    parameters = [*_parameters(given), "-p", f"workers:={workers}", "-p", "threads:=1"]
    with _live(OURS, parameters) as live:
        for size in given.sizes:
            image = _image(benchmark_image(*parse_size(size)))
            rate = live.stream(image, given.seconds, ahead=workers)
            yield {"workers": workers, "workers_fps": rate}


def _plain(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A node with nothing behind its topics."""
    with _live(PLAIN, []) as live:
        for size in given.sizes:
            image = _image(benchmark_image(*parse_size(size)))
            live.answer(image)
            yield {f"{given.what}_ms": statistics.median(live.rested_ms(image, given.runs))}


def _side_by_side(
    live: LiveNode, segmenter: Segmenter, rgb: NDArray[np.uint8], runs: int
) -> dict[str, Any]:
    image = _image(rgb)
    live.answer(image)
    segmenter.segment(rgb)
    through_ros, bare = [], []
    for milliseconds in live.rested_ms(image, runs):
        through_ros.append(milliseconds)
        time.sleep(REST_S)
        bare.append(segmenter.segment(rgb).timings_ms["total"])
    pairs = zip(through_ros, bare, strict=True)
    return {
        "masks": live.masks,
        "live_ms": summary(through_ros),
        "bare_ms": summary(bare),
        "overhead_ms": statistics.median(a - b for a, b in pairs),
    }


def _image(rgb: NDArray[np.uint8]) -> Image:
    return array_to_image(rgb, "rgb8", Header(frame_id="camera"))


def _parameters(given: argparse.Namespace) -> list[str]:
    arguments = ["--ros-args", "-p", f"model:={given.model}", "-p", f"engine:={given.engine}"]
    arguments += ["-p", f"threads:={given.threads}", "-p", f"precision:={given.precision}"]
    arguments += ["-p", "autostart:=true"]
    for word in given.set:
        arguments += ["-p", word.replace("=", ":=", 1)]
    return arguments


@contextlib.contextmanager
def _live(module: str, arguments: list[str]) -> Iterator[LiveNode]:
    """Start, configure and activate a node; end it afterwards."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        log = Path(folder) / "node.log"
        # Before rclpy.init: processes are not to be forked beside the threads of DDS.
        check = stack.enter_context(interrupts())
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = stack.enter_context(Child(["-m", module, *arguments], environment, log))
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        live = LiveNode(process, check)
        stack.callback(live.close)
        live.start()
        yield live


class LiveNode:
    """A client of the node: publishes images, waits for masks.

    Attributes:
        masks: number of the newest frame's.
        arrived: when each frame's masks came, by its stamp, seconds of `perf_counter`.
    """

    def __init__(self, process: Child, check: Check) -> None:
        self.masks = 0
        self._process = process
        self._check = check
        self.arrived: dict[int, float] = {}
        self._stamp = 0
        self._asked = 0.0  # when an answer was last asked for at the start
        self._error = False  # of the node's newest diagnostics
        self._node = rclpy.create_node("aopsam_benchmark")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._images = self._node.create_publisher(Image, "/image", RELIABLE)
        self._node.create_subscription(MaskArray, f"{NODE}/masks", self._on_masks, RELIABLE)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def start(self) -> None:
        """Wait until the node is active, has its last subscription, and answers.

        It does not at once know who listens, nor that these images are reliable: what is published
        while it subscribes anew is lost.
        """
        self.wait(self._is_heard_reliably)
        self.wait(self._is_answered)

    def close(self) -> None:
        """End the client."""
        self._executor.shutdown()
        self._node.destroy_node()

    def answer(self, image: Image) -> float:
        """Publish an image; seconds until its masks are here."""
        stamp, began = self.publish(image)
        self.wait(lambda: stamp in self.arrived)
        return self.arrived[stamp] - began

    def rested_ms(self, image: Image, runs: int) -> Iterator[float]:
        """Wait for answers some times, each after a rest; milliseconds."""
        for _ in range(runs):
            time.sleep(REST_S)
            yield 1e3 * self.answer(image)

    def stream(self, image: Image, seconds: float, ahead: int = 1) -> float:
        """Publish a new image whenever masks arrive, so many ahead; masks a second."""
        self.answer(image)
        began, before = time.perf_counter(), len(self.arrived)
        for _ in range(ahead):
            self.publish(image)
            time.sleep(REST_S)  # until a worker has taken it: the newest only waits
        while True:
            more = len(self.arrived) + 1
            self.publish(image)
            self.wait(functools.partial(self._has, more))
            elapsed = time.perf_counter() - began
            if elapsed >= seconds:
                return (len(self.arrived) - before) / elapsed

    def _is_heard_reliably(self) -> bool:
        found = self._node.get_subscriptions_info_by_topic("/image")
        reliable = [info.qos_profile.reliability == RELIABLE.reliability for info in found]
        return any(reliable) and all(reliable) and self._images.get_subscription_count() > 0

    def _is_answered(self) -> bool:
        """Tell whether any masks are here; if not, publish a small image, once a second."""
        if not self.arrived and time.perf_counter() > self._asked + 1.0:
            _, self._asked = self.publish(_image(np.zeros((48, 64, 3), np.uint8)))
        return bool(self.arrived)

    def _has(self, count: int) -> bool:
        return len(self.arrived) >= count

    def publish(self, image: Image) -> tuple[int, float]:
        """Publish an image; its stamp, and when it was, on the clock of `arrived`."""
        self._stamp += 1
        image.header.stamp.sec, image.header.stamp.nanosec = 1, self._stamp
        began = time.perf_counter()
        self._images.publish(image)
        return self._stamp, began

    def _on_masks(self, message: MaskArray) -> None:
        self.arrived[message.header.stamp.nanosec] = time.perf_counter()
        self.masks = len(message.masks)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._error = any(status.level == DiagnosticStatus.ERROR for status in message.status)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Serve callbacks until the condition holds.

        Raises:
            DemoError: if the node ends, cannot work, or gives no answer in time.
        """
        end = time.perf_counter() + ANSWER_TIMEOUT_S
        while not condition():
            self._check()
            if self._process.returncode is not None:
                raise self._process.failure("the node ended")
            if self._error:
                raise self._process.failure(f"the node {NODE} cannot work")
            if time.perf_counter() > end:
                raise self._process.failure(f"no answer within {ANSWER_TIMEOUT_S:.0f} s")
            self._executor.spin_once(timeout_sec=0.1)


if __name__ == "__main__":
    main()
