"""The way of a frame is short: through few files, and few calls deep."""

import sys
import threading
import time
from pathlib import Path

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

import aopsam_ros
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.msg import MaskArray
from aopsam_ros.ros.node import AopsamNode
from aopsam_ros.ros.pipeline import Pipeline
from aopsam_ros.ros.publishers import Publishers
from support.messages import image_of
from support.scenes import coloured_scene

MOST_FILES = 20
MOST_CALLS = 10
PACKAGE = Path(aopsam_ros.__file__).parent
GENERATED = PACKAGE / "msg"  # by rosidl, of our messages
FRAMES = 3  # the first ones make what later ones reuse


def is_ours(code):
    file = Path(code.co_filename)
    return file.is_relative_to(PACKAGE) and not file.is_relative_to(GENERATED)


class Profile:
    """Files of the package from an image's callback to its masks, and the depth of the stack."""

    def __init__(self):
        self.files, self.stack, self.active = set(), [], False
        self.callback, self.receives = None, False  # its thread, and whether it is running
        self.first, self.last = Pipeline.put.__code__, Publishers.publish.__code__
        self.encode = OnnxRuntimeEngine.encode.__code__

    def __call__(self, frame, event, argument):
        code = frame.f_code
        if code is self.first and event in ("call", "return"):
            self.receives = event == "call"
            if self.receives:
                self.callback, self.active = threading.get_ident(), True
                self.files.clear()
        # Beside the callback, its thread has other things to do.
        if not self.active or (threading.get_ident() == self.callback and not self.receives):
            return
        if event == "call" and is_ours(code):
            self.files.add(str(Path(code.co_filename).relative_to(PACKAGE)))
        if event == "call" and code is self.encode:
            self.stack = self._calls_down_to_the_loop(frame)
        if event == "return" and code is self.last:
            self.active = False

    def _calls_down_to_the_loop(self, frame):
        calls = []
        while frame is not None:
            if is_ours(frame.f_code):
                calls.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
            frame = frame.f_back
        return calls[:-1]  # the last one is the worker's loop, which its thread begins with


@pytest.fixture
def profile():
    """Profiles all threads that start meanwhile, and this one."""
    profile = Profile()
    threading.setprofile(profile)
    sys.setprofile(profile)
    yield profile
    sys.setprofile(None)
    threading.setprofile(None)


@pytest.fixture
def camera(context):
    """A camera beside a node that is active, in this process."""
    given = [Parameter("model", value="nano"), Parameter("engine", value="onnxruntime")]
    node = AopsamNode(context=context, parameter_overrides=given)
    camera = rclpy.create_node("camera", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    executor.add_node(camera)
    node.trigger_configure()
    node.trigger_activate()
    yield camera, executor
    node.trigger_deactivate()
    executor.shutdown()
    node.destroy_node()
    camera.destroy_node()


def test_a_frame_goes_through_few_files_and_few_calls(profile, camera):
    camera, executor = camera
    received = []
    masks = camera.create_subscription(MaskArray, "/aopsam/masks", received.append, 5)
    images = camera.create_publisher(Image, "/image", 5)
    while images.get_subscription_count() == 0 or masks.get_publisher_count() == 0:
        executor.spin_once(timeout_sec=0.1)
    for number in range(1, FRAMES + 1):  # each when the one before is done: none is dropped
        while len(received) < number:
            # Again where it was lost: the node subscribes anew to match its publishers' QoS.
            images.publish(image_of(coloured_scene(480, 640)[0]))
            end = time.monotonic() + 5.0
            while len(received) < number and time.monotonic() < end:
                executor.spin_once(timeout_sec=1.0)
    assert received[-1].masks
    assert len(profile.files) <= MOST_FILES, " ".join(sorted(profile.files))
    assert 0 < len(profile.stack) <= MOST_CALLS, profile.stack
