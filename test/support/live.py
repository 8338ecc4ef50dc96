"""The driver of live tests: camera and user of the node `aopsam` in a process of its own."""

import fcntl
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from aopsam_ros.demo.processes import is_unused
from aopsam_ros.ros import publishers
from aopsam_ros.ros.publishers import DEPTH_TOPICS
from support.messages import stamp_of

FIRST_DOMAIN = 20  # those below are for demos
TIMEOUT_S = 120.0  # of one step; far beyond what it takes, for a busy machine
RETRY_S = 10.0  # of what may have been lost: it may also be that the machine is slow
TOPICS = {name: kind for name, (kind, _) in publishers.TOPICS.items() if name not in DEPTH_TOPICS}
# What `ros2 launch` does, which is in a package of its own.
RUN_LAUNCH_FILE = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
words = [word.split(":=") for word in sys.argv[2:]]
source = PythonLaunchDescriptionSource(sys.argv[1])
action = IncludeLaunchDescription(source, launch_arguments=words)
service = LaunchService()
service.include_launch_description(LaunchDescription([action]))
sys.exit(service.run())
"""
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


def free_domain():
    """A ROS domain that no other robot on this machine uses, and the open file that claims it."""
    domains = list(range(FIRST_DOMAIN, 101))
    random.SystemRandom().shuffle(domains)
    for domain in filter(is_unused, domains):  # demos and benchmarks claim nothing
        path = Path(tempfile.gettempdir()) / f"aopsam_test_domain_{os.getuid()}_{domain}"
        claim = path.open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process
            return domain, claim
        except BlockingIOError:
            claim.close()
    raise RuntimeError("every ROS domain is in use")


class Robot:
    """Camera and user of a node; starts and ends the node's process.

    Parameters are given as keywords, `asf__x` for `asf.x`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.log = folder / "node.log"
        self.domain, self._claim = free_domain()
        self.environment = {}  # of the node's process, beside this one's
        self.process = None
        self._stamp = 0
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=self.domain)
        self.node = rclpy.create_node("robot", context=self._context, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.images = None
        self.publish_images()
        self.infos = self.node.create_publisher(CameraInfo, "/camera_info", RELIABLE)
        self.received = {topic: [] for topic in TOPICS}
        self.diagnostics, self._diagnosed = [], []  # the latter: when they were published
        for topic, kind in TOPICS.items():
            self.listen(topic, kind)
        self.node.create_subscription(
            DiagnosticArray, "/diagnostics", self._on_diagnostics, RELIABLE
        )
        self._clients = {}
        self._original = {}  # parameters that were changed, as they had been

    def publish_images(self, kind=Image, topic="/image", qos=RELIABLE):
        """Publish images in another way than before."""
        if self.images is not None:
            self.node.destroy_publisher(self.images)
        self.images = self.node.create_publisher(kind, topic, qos)
        self._images_as_usual = (kind, topic, qos) == (Image, "/image", RELIABLE)

    def listen(self, topic, kind):
        """Subscribe to a result topic of the node; messages arrive in `received`."""
        callback = self.received.setdefault(topic, []).append
        return self.node.create_subscription(kind, f"/aopsam/{topic}", callback, RELIABLE)

    def _on_diagnostics(self, message, info):
        if not message.status[0].name.startswith("aopsam:"):
            return  # another camera's node
        self.diagnostics.append(message)
        self._diagnosed.append(info["source_timestamp"])

    def __enter__(self):
        return self

    def __exit__(self, *details):
        self.stop_node()
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()
        self._claim.close()

    # The process

    def start_node(self, *ros_arguments, wait=True, module="aopsam_ros.ros.main", **parameters):
        """Start the node, or another module, with these parameters."""
        arguments = [sys.executable, "-u", "-m", module, "--ros-args"]
        arguments += ros_arguments
        for name, value in parameters.items():
            text = str(value).lower() if isinstance(value, bool) else value
            arguments += ["-p", f"{name.replace('__', '.')}:={text}"]
        # The modules beside the tests, too; one thread, as tests run side by side.
        self._start(arguments, OMP_NUM_THREADS="1", PYTHONPATH=os.pathsep.join(sys.path))
        if wait:
            self.wait_until_known()

    def launch(self, file, *arguments):
        """Start what a launch file describes; the process is launch's own."""
        self._start([sys.executable, "-c", RUN_LAUNCH_FILE, str(file), *arguments])

    def _start(self, command, **environment):
        own = {"ROS_DOMAIN_ID": str(self.domain), "ROS_LOG_DIR": str(self.folder / "ros_log")}
        environment = {**os.environ, **own, **environment, **self.environment}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def children(self):
        """The processes that the process has started, and that are there."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return {int(child) for task in tasks for child in task.read_text().split()}

    def stop_node(self, sign=signal.SIGINT):
        """End the process; its exit code."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(sign)
        try:
            return process.wait(TIMEOUT_S)
        finally:
            process.kill()  # where it did not end by itself

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def logged(self, text):
        return text in self.log.read_text()

    # Waiting

    def spin(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def wait(self, condition, complaint, seconds=TIMEOUT_S):
        """Spin until the condition holds; its value."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            if self.process is not None and not self.is_running():
                code = self.process.returncode
                raise AssertionError(f"the node ended with {code}:\n{self.log.read_text()}")
            if time.monotonic() > end:
                raise AssertionError(f"{complaint}; the node's log:\n{self.log.read_text()}")
            self._executor.spin_once(timeout_sec=0.05)
        return value

    # Services

    def client(self, kind, name):
        """The client of a service of the node, once each side knows the other."""
        is_new = name not in self._clients
        if is_new:
            self._clients[name] = self.node.create_client(kind, f"/aopsam/{name}")
        client = self._clients[name]
        self.wait(client.service_is_ready, f"service {name} did not appear")
        if is_new and kind is not GetState:
            self.wait_until_known()
        return client

    def wait_until_known(self):
        """Wait until the node knows all clients: it learns of them in order, and answers the last.

        The middleware gives an answer up where the node has not heard of the client's side yet.
        """
        if "get_state" in self._clients:
            self.node.destroy_client(self._clients.pop("get_state"))
        self.state()

    def call(self, kind, name, request, retry_s=math.inf):
        """The response of a service; one that changes nothing may be called anew in between."""
        client = self.client(kind, name)
        futures, begin = [], time.monotonic()

        def answered():
            if not futures or time.monotonic() - begin >= retry_s * len(futures):
                futures.append(client.call_async(request))
            return next((future for future in futures if future.done()), None)

        return self.wait(answered, f"service {name} did not answer").result()

    def state(self):
        return self.call(GetState, "get_state", GetState.Request(), RETRY_S).current_state.id

    def change(self, transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(ChangeState, "change_state", request).success

    def configure(self):
        return self.change(Transition.TRANSITION_CONFIGURE)

    def activate(self):
        """Configure, unless the node is, and activate; wait until images reach the node."""
        if self.state() == State.PRIMARY_STATE_UNCONFIGURED:
            assert self.configure(), self.log.read_text()
        assert self.change(Transition.TRANSITION_ACTIVATE), self.log.read_text()
        self.wait_for_subscription()

    def clean_up(self):
        """Bring the node to the state unconfigured."""
        if self.state() == State.PRIMARY_STATE_ACTIVE:
            assert self.change(Transition.TRANSITION_DEACTIVATE)
        if self.state() == State.PRIMARY_STATE_INACTIVE:
            assert self.change(Transition.TRANSITION_CLEANUP)

    def configure_anew(self, **parameters):
        """Set parameters that are fixed while the node is configured, and activate it again."""
        self.clean_up()
        assert self.set(**parameters) == []
        self.activate()

    def restore(self):
        """Make the node active with the parameters that it was started with, on reliable images."""
        if not self._images_as_usual:
            self.publish_images()
        original, self._original = self._original, {}
        changed = {name: value for name, value in original.items() if self.get(name) != value}
        if self.state() != State.PRIMARY_STATE_ACTIVE or self.set(**changed):
            self.configure_anew(**changed)
        self._original = {}

    def wait_for_subscription(self):
        """Wait until the node is active, and its subscriptions and this side's match."""

        def matched():
            counts = [own.get_subscription_count() for own in (self.images, self.infos)]
            return all(counts) and self.node.count_publishers("/aopsam/masks")

        self.wait(matched, "the node did not subscribe")
        assert self.state() == State.PRIMARY_STATE_ACTIVE

    def set(self, **values):
        """Set parameters one by one; the reasons of refusals."""
        self._remember(values)
        request = SetParameters.Request(parameters=_parameters(values))
        results = self.call(SetParameters, "set_parameters", request).results
        return [result.reason for result in results if not result.successful]

    def set_atomically(self, **values):
        self._remember(values)
        request = SetParametersAtomically.Request(parameters=_parameters(values))
        return self.call(SetParametersAtomically, "set_parameters_atomically", request).result

    def _remember(self, names):
        for name in names:
            if name not in self._original:
                self._original[name] = self.get(name)

    def get(self, name):
        request = GetParameters.Request(names=[name.replace("__", ".")])
        value = self.call(GetParameters, "get_parameters", request, RETRY_S).values[0]
        return rclpy.parameter.parameter_value_to_python(value)

    # Images

    def forget(self):
        """Forget the results received so far."""
        for messages in self.received.values():
            messages.clear()

    def stamp(self, image):
        """Give an image a stamp of its own; the stamp."""
        self._stamp += 1
        image.header.stamp.sec, image.header.stamp.nanosec = 1_700_000_000, self._stamp
        return image.header.stamp

    def send(self, image):
        """Publish an image with a stamp of its own; the stamp."""
        stamp = self.stamp(image)
        self.images.publish(image)
        return stamp

    def answer(self, image, topic="masks"):
        """Publish until the answer with the image's own stamp arrives; it."""
        attempts = []

        def answered():
            if not attempts or time.monotonic() - attempts[-1][1] > RETRY_S:
                # Just after a subscription an image may be missed: send it again, newly stamped.
                attempts.append((self.send(image).nanosec, time.monotonic()))
            stamps = {stamp for stamp, _ in attempts}
            return [m for m in self.received[topic] if stamp_of(m) in stamps]

        return self.wait(answered, f"no {topic} for the image")[0]

    def with_stamp(self, topic, stamp):
        """The message of a topic for the image with these nanoseconds."""

        def found():
            return [message for message in self.received[topic] if stamp_of(message) == stamp]

        return self.wait(found, f"no {topic} for the image")[0]

    def health(self):
        """Level, text and values of the node's newest diagnostics."""
        self.wait(lambda: self.diagnostics, "no diagnostics")
        status = self.diagnostics[-1].status[0]
        return status.level, status.message, {pair.key: pair.value for pair in status.values}

    def next_health(self, reports=1):
        """The same of the next diagnostics to be published, or of so many after.

        Older ones may still wait to be received, behind a flood of results.
        """
        now = time.time_ns()
        self.wait(lambda: sum(then > now for then in self._diagnosed) >= reports, "no diagnostics")
        return self.health()

    def fresh_health(self):
        """Diagnostics that cover what the workers did until now: the next may be half made."""
        return self.next_health(2)

    def reported(self, level, text="", image=None):
        """Text and values of the first diagnostics from now on of this level and with this text.

        `image` is sent meanwhile: where none comes for 5 s, the node warns of that instead.
        """

        def found():
            if image is not None:
                self.send(image)
            current, summary, values = self.next_health()
            return current == level and text in summary and (summary, values)

        return self.wait(found, f"no diagnostics of level {level} with {text!r}")


def _parameters(values):
    return [
        Parameter(name.replace("__", "."), value=value).to_parameter_msg()
        for name, value in values.items()
    ]
