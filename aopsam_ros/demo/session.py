"""One run of the demo: node and planner in processes of their own, camera and collector here."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image
from tqdm import tqdm

from aopsam_ros.demo.bag import BagWriter, recording_into
from aopsam_ros.demo.camera import IMAGE_TOPIC, INFO_TOPIC, PhotographCamera
from aopsam_ros.demo.photographs import Lesson, Photograph
from aopsam_ros.demo.processes import Check, Child, DemoError
from aopsam_ros.demo.recording import Collector, Recording
from aopsam_ros.ros.publishers import DEPTH_TOPICS, TOPICS
from aopsam_ros.ros.resources import resource_folder

NODE = "/aopsam"
PLANNER = "teach.py"  # of the examples

_START_TIMEOUT_S = 210.0  # to appear and to load a model
_LESSON_TIMEOUT_S = 120.0  # from the first image to the first mask with the label
_LAST_RESULTS_TIMEOUT_S = 30.0


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
    lesson: Lesson | None = None  # what a planner teaches, before the second photograph


def record(plan: Plan, check: Check) -> Recording:
    """Run node and camera to the end, and return what was recorded.

    `check` is called now and then, and raises when the demo is to end.

    Raises:
        DemoError: if the node fails, or no masks arrive.
    """
    recording = Recording()

    def taught() -> bool:
        return plan.lesson is None or recording.has_label(plan.lesson.label)

    with contextlib.ExitStack() as stack:
        # Before rclpy.init: a process is not to be forked beside the threads of DDS.
        children = {"node": stack.enter_context(_start_node(plan))}
        if plan.lesson is not None:
            children["planner"] = stack.enter_context(_start_planner(plan, plan.lesson))
        # No signal handlers of rclpy's: Ctrl-C has to unwind this stack first.
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        collector = Collector(NODE, recording)
        stack.callback(collector.destroy_node)
        camera = PhotographCamera(plan.photographs, plan.repeat, recording.add, taught)
        stack.callback(camera.destroy_node)
        executor = SingleThreadedExecutor()
        stack.callback(executor.shutdown)
        executor.add_node(collector)
        executor.add_node(camera)
        bag = None
        if plan.bag is not None:
            bag = stack.enter_context(recording_into(plan.bag))
            bag.record(collector, _recorded_topics())
        _Run(children, executor, recording, check, taught).whole(plan, camera, bag)
    if not recording.segmented():
        log = children["node"].log
        raise DemoError(f"no masks arrived for {len(recording.frames)} images; log: {log}")
    return recording


def _start_node(plan: Plan) -> Child:
    arguments = ["-m", "aopsam_ros.ros.main", "--ros-args"]
    for new_name in (f"__node:={NODE[1:]}", f"image:={IMAGE_TOPIC}", f"camera_info:={INFO_TOPIC}"):
        arguments += ["-r", new_name]
    for parameter in ("autostart:=true", f"model:={plan.model}", f"engine:={plan.engine}"):
        arguments += ["-p", parameter]
    return Child(arguments, os.environ, plan.out / "node.log")


def _start_planner(plan: Plan, lesson: Lesson) -> Child:
    program = str(resource_folder("examples") / PLANNER)
    arguments = [program, lesson.label, str(lesson.x), str(lesson.y)]
    return Child(arguments, os.environ, plan.out / "planner.log")


def planner_texts(plan: Plan) -> dict[str, str]:
    """Return the planner's program and what it printed last, by title; nothing without one."""
    if plan.lesson is None:
        return {}
    program = (resource_folder("examples") / PLANNER).read_text(encoding="utf-8")
    printed = (plan.out / "planner.log").read_text(encoding="utf-8").splitlines()
    return {f"The planner: {PLANNER}": program, "What it printed": "\n".join(printed[-8:])}


def _recorded_topics() -> dict[str, type]:
    """Return what `--record` records: the camera, and all that its images alone lead to."""
    kinds = {name: kind for name, (kind, _) in TOPICS.items() if name not in DEPTH_TOPICS}
    results = {f"{NODE}/{name}": kind for name, kind in kinds.items()}
    camera = {IMAGE_TOPIC: Image, INFO_TOPIC: CameraInfo}
    return {**camera, **results, "/diagnostics": DiagnosticArray}


@dataclass(frozen=True)
class _Run:
    """The running programs, and how this process waits for them."""

    children: Mapping[str, Child]
    executor: SingleThreadedExecutor
    recording: Recording
    check: Check
    taught: Callable[[], bool]

    def whole(self, plan: Plan, camera: PhotographCamera, bag: BagWriter | None) -> None:
        """Wait for the node, stream all photographs, wait for the last results."""
        print(f"starting the node with model {plan.model} …", file=sys.stderr)
        # The node subscribes once it is active; neither it nor a recording misses the first frame.
        listeners = 1 if bag is None else 2
        if not self._spin_until(lambda: camera.subscribers >= listeners, _START_TIMEOUT_S):
            raise self.children["node"].failure(
                f"the node {NODE} was not active within {_START_TIMEOUT_S:.0f} s"
            )
        total = plan.repeat * len(plan.photographs)
        camera.start(plan.fps)
        with tqdm(total=total, desc="segmenting", unit="frame", mininterval=0.3) as bar:
            if not self._spin_until(self.taught, _LESSON_TIMEOUT_S, bar):
                raise self.children["planner"].failure("no mask got the label that was taught")
            self._spin_until(lambda: camera.done, float("inf"), bar)
            self._spin_until(lambda: self._has_all(bag), _LAST_RESULTS_TIMEOUT_S, bar)

    def _has_all(self, bag: BagWriter | None) -> bool:
        """Tell whether the newest frame's results are here, and in the bag."""
        # Overlays are published last. Not counted in the bag alone: its masks may come later.
        images = len(self.recording.segmented())
        recorded = bag is None or (
            bag.counts["/diagnostics"] > 0 and bag.counts[f"{NODE}/overlay"] >= images
        )
        return recorded and self.recording.is_complete()

    def _spin_until(
        self, done: Callable[[], bool], timeout_s: float, bar: tqdm | None = None
    ) -> bool:
        """Serve camera and collector until `done`; False when the time is over.

        Raises:
            DemoError: if the node ends, or cannot be configured or activated.
        """
        deadline = time.monotonic() + timeout_s
        while not done():
            self.check()
            self.executor.spin_once(timeout_sec=0.1)
            for name, child in self.children.items():
                if child.returncode is not None:
                    raise child.failure(f"the {name} ended with exit code {child.returncode}")
            if self.recording.has_error and not self.recording.frames:
                raise self.children["node"].failure(f"the node {NODE} refused to start")
            if bar is not None:
                bar.update(len(self.recording.frames) - bar.n)
                bar.set_postfix(results=len(self.recording.segmented()), refresh=False)
            if time.monotonic() > deadline:
                return False
        return True
