"""One run of the demo: three processes, from the first start to the last result."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from aopsam_ros.demo.bag import Bag, record_topics, recording_into
from aopsam_ros.demo.interrupts import Check
from aopsam_ros.demo.photographs import Photograph
from aopsam_ros.demo.processes import (
    APPEARANCE_TIMEOUT_S,
    CONFIGURE_TIMEOUT_S,
    Child,
    DemoError,
)
from aopsam_ros.demo.recording import Recording

if TYPE_CHECKING:
    from rclpy.executors import SingleThreadedExecutor

NODE = "/aopsam"
IMAGE_TOPIC = "/camera/image_raw"
INFO_TOPIC = "/camera/camera_info"

_STRAGGLER_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Plan:
    """What to run, and where the results go."""

    out: Path
    photographs: list[Photograph]
    fps: float
    repeat: int
    model: str
    engine: str
    bag: Path | None = None  # MCAP file to record everything into

    @property
    def frames(self) -> int:
        """Number of frames that the camera is to publish."""
        return self.repeat * len(self.photographs)


def record(plan: Plan, check: Check) -> Recording:
    """Run node and camera to the end, and return what was recorded.

    `check` is called now and then, and raises when the demo is to end.

    Raises:
        DemoError: if the node or the camera fails, or no masks arrive.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from aopsam_ros.demo.collector import Collector
    from aopsam_ros.demo.lifecycle import LifecycleDriver

    recording = Recording()
    with contextlib.ExitStack() as stack:
        # Both before rclpy.init: processes are not to be forked beside the threads of DDS. The
        # camera waits until the node, once active, subscribes.
        node = stack.enter_context(_start_node(plan))
        camera = stack.enter_context(_start_camera(plan, recording))
        # No signal handlers of rclpy's: Ctrl-C has to unwind this stack first.
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        collector = Collector(NODE, recording)
        stack.callback(collector.destroy_node)
        complete = recording.is_complete
        if plan.bag is not None:
            bag = stack.enter_context(recording_into(plan.bag))
            record_topics(collector, bag, _topics())
            complete = functools.partial(_is_recorded, recording, bag)
        executor = SingleThreadedExecutor()
        executor.add_node(collector)
        stack.callback(executor.shutdown)
        driver = LifecycleDriver(collector, executor, NODE, node, check)
        print(f"configuring the node with model {plan.model} …", file=sys.stderr)
        driver.start()
        _watch(plan, recording, executor, node, camera, check, complete)
        driver.finish()
    if not recording.segmented():
        raise DemoError(f"no masks arrived for {recording.published()} images; log: {node.log}")
    return recording


def _topics() -> dict[str, type]:
    """Return what is recorded: the camera, everything the node makes of its images alone."""
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import CameraInfo, Image

    from aopsam_ros.ros.publishers import DEPTH_TOPICS, TOPICS

    kinds = {name: kind for name, (kind, _) in TOPICS.items() if name not in DEPTH_TOPICS}
    results = {f"{NODE}/{name}": kind for name, kind in kinds.items()}
    camera = {IMAGE_TOPIC: Image, INFO_TOPIC: CameraInfo}
    return {**camera, **results, "/diagnostics": DiagnosticArray}


def _is_recorded(recording: Recording, bag: Bag) -> bool:
    """Tell whether everything is in the bag that belongs to the newest masks."""
    # Of the masks that were heard, not of those in the bag, which may come later; and of the
    # overlays, as the node publishes those last.
    return recording.is_complete() and bag.counts[f"{NODE}/overlay"] >= len(recording.segmented())


def _start_node(plan: Plan) -> Child:
    arguments = ["--ros-args", "-r", f"__node:={NODE[1:]}", "-p", "autostart:=false"]
    arguments += ["-p", f"model:={plan.model}", "-p", f"engine:={plan.engine}"]
    arguments += ["-r", f"image:={IMAGE_TOPIC}", "-r", f"camera_info:={INFO_TOPIC}"]
    return Child("aopsam_ros.ros.node", arguments, os.environ, plan.out / "node.log")


def _start_camera(plan: Plan, recording: Recording) -> Child:
    arguments = [str(photograph.path.resolve()) for photograph in plan.photographs]
    arguments += ["--fps", str(plan.fps), "--repeat", str(plan.repeat)]
    arguments += ["--topic", IMAGE_TOPIC, "--info-topic", INFO_TOPIC]
    # The node, and who records: neither is to miss the first frame.
    arguments += ["--subscribers", "1" if plan.bag is None else "2"]
    arguments += ["--patience", str(APPEARANCE_TIMEOUT_S + CONFIGURE_TIMEOUT_S)]
    log = plan.out / "camera.log"
    module = "aopsam_ros.demo.publisher"
    return Child(module, arguments, os.environ, log, on_line=recording.note)


def _watch(
    plan: Plan,
    recording: Recording,
    executor: SingleThreadedExecutor,
    node: Child,
    camera: Child,
    check: Check,
    complete: Callable[[], bool],
) -> None:
    """Collect until the camera has ended and the last results are in, with a progress bar.

    `complete` tells whether they are.

    Raises:
        DemoError: if the node or the camera fails.
    """
    with tqdm(total=plan.frames, desc="segmenting", unit="frame", mininterval=0.3) as bar:
        while camera.returncode is None:
            check()
            _collect(executor, recording, node, bar)
        if camera.returncode != 0:
            raise camera.failure("the camera failed")
        camera.wait(_STRAGGLER_TIMEOUT_S)
        deadline = time.monotonic() + _STRAGGLER_TIMEOUT_S
        while not complete() and time.monotonic() < deadline:
            check()
            _collect(executor, recording, node, bar)


def _collect(
    executor: SingleThreadedExecutor, recording: Recording, node: Child, bar: tqdm
) -> None:
    executor.spin_once(timeout_sec=0.1)
    if node.returncode is not None:
        raise node.failure("the node ended early")
    bar.update(recording.published() - bar.n)
    bar.set_postfix(results=len(recording.segmented()), refresh=False)
