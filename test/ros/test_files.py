"""Files beside the code agree with the node: parameters, viewers, Fast DDS, docs/interface.md."""

import json
import re
import runpy
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml
from rclpy.node import Node
from visualization_msgs.msg import ImageMarker

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.demo.camera import IMAGE_TOPIC, INFO_TOPIC
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.confidence_map_sampling import PredictorSource
from aopsam_ros.ros.parameter_table import CHANGEABLE, TABLE
from aopsam_ros.ros.parameters import Parameters
from aopsam_ros.ros.publishers import DEPTH_TOPICS, TOPICS
from aopsam_ros.ros.resources import large_message_environment

ROOT = Path(__file__).parents[2]
CONFIGS = [ROOT / "config" / f"{name}.yaml" for name in ("cpu", "jetson")]  # of launch files
CHOICES = [ROOT / "config" / f"{name}.yaml" for name in ("fast", "everything")]  # to start with


def with_examples(text):
    """The file as it would be with every example put in force."""
    return re.sub(r"^    # ((?:asf|mask)\.\w+: )", r"    \1", text, flags=re.MULTILINE)


def is_possible(value, spec):
    if type(value) is not spec.value_type or (spec.choices and value not in spec.choices):
        return False
    return spec.minimum is None or spec.minimum <= value <= spec.maximum


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_parameter_files_hold_possible_values_of_parameters_that_exist(file):
    values = yaml.safe_load(with_examples(file.read_text()))["/**"]["ros__parameters"]
    assert set(values) <= set(TABLE)
    wrong = {name: v for name, v in values.items() if not is_possible(v, TABLE[name])}
    assert not wrong
    assert sum(name.startswith(("asf.", "mask.")) for name in values) >= 12
    own = {name: spec.default for name, spec in CHANGEABLE.items()}
    assert own.items() <= values.items()


def test_there_is_a_parameter_file_for_each_launch_file():
    launched = {file.name.split(".")[0] for file in (ROOT / "launch").glob("*.launch.py")}
    assert launched == {file.stem for file in CONFIGS}
    assert {*CONFIGS, *CHOICES} == set((ROOT / "config").glob("*.yaml"))


@pytest.fixture
def parameters_of(context):
    """Make a node's parameters from a parameter file; a function of the file."""
    nodes = []

    def start(file):
        words = ["--ros-args", "--params-file", str(file)]
        nodes.append(Node("aopsam", context=context, cli_args=words, enable_rosout=False))
        return nodes[-1], Parameters(nodes[-1], lambda: False)

    yield start
    for node in nodes:
        node.destroy_node()


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_parameter_files_of_launch_files_leave_the_options_to_the_bundle(parameters_of, file):
    node, parameters = parameters_of(file)
    parameters.follow(SegmenterOptions().updated({"asf.min_spacing": 2}))
    assert node.get_parameter("asf.min_spacing").value == 2
    chosen = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]
    assert parameters.startup().model == chosen["model"]


@pytest.mark.parametrize("file", CHOICES, ids=lambda file: file.name)
def test_the_node_takes_the_options_of_a_choice(parameters_of, file):
    chosen = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]
    node, parameters = parameters_of(file)
    parameters.follow(SegmenterOptions())
    assert len(chosen) >= 5
    assert {name: node.get_parameter(name).value for name in chosen} == chosen


@pytest.mark.parametrize("file", CHOICES, ids=lambda file: file.name)
def test_a_choice_says_beside_each_value_what_it_takes_the_place_of(file):
    said = re.findall(r"^    ([\w.]+): +\S+ +# ([\w.]+)", file.read_text(), re.MULTILINE)
    own = {name: spec.default for name, spec in TABLE.items()}
    own |= load_bundle("nano").options(PredictorSource.defaults_group, {}).flat()
    chosen = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]
    assert {name for name, _ in said} == set(chosen) - {"model"}
    assert {name: yaml.safe_load(value) for name, value in said} == {n: own[n] for n, _ in said}


def topics_of(display):
    topic = display.get("Topic")
    return [topic["Value"]] if isinstance(topic, dict) else []


def test_viewers_fit_what_the_launch_files_call_a_cameras_topics():
    assert [IMAGE_TOPIC, INFO_TOPIC] == ["/image", "/camera_info"]
    text = (ROOT / "aopsam_ros" / "ros" / "launching.py").read_text()
    for topic in (IMAGE_TOPIC, INFO_TOPIC):
        assert f'"{topic[1:]}_topic": ("{topic[1:]}",' in text


def test_the_rviz_configuration_shows_topics_of_the_node():
    manager = yaml.safe_load((ROOT / "rviz" / "aopsam.rviz").read_text())["Visualization Manager"]
    topics = {topic for display in manager["Displays"] for topic in topics_of(display)}
    assert {"/aopsam/overlay", "/aopsam/prompt_markers"} <= topics
    assert topics <= {f"/aopsam/{topic}" for topic in TOPICS} | {IMAGE_TOPIC}
    shown = {t for d in manager["Displays"] if d["Enabled"] for t in topics_of(d)}
    assert not shown & {f"/aopsam/{topic}" for topic in DEPTH_TOPICS}  # a robot may have no depth


def panels_of(layout):
    """Names of the panels in the order they are laid out."""
    if isinstance(layout, str):
        return [layout]
    return panels_of(layout["first"]) + panels_of(layout["second"])


def test_the_foxglove_layout_shows_topics_of_the_node():
    layout = json.loads((ROOT / "rviz" / "aopsam_foxglove.json").read_text())
    panels = layout["configById"]
    assert sorted(panels_of(layout["layout"])) == sorted(panels)
    topics = set(re.findall(r'"(/[a-z_/]+)"', json.dumps(layout)))
    known = {f"/aopsam/{topic}" for topic in TOPICS} | {IMAGE_TOPIC, INFO_TOPIC, "/diagnostics"}
    known.add("/aopsam/annotations")  # where foxglove_msgs is installed
    assert topics <= known
    annotated = panels["Image!masks"]["imageMode"]["annotations"]
    shown = [topic for topic, settings in annotated.items() if settings["visible"]]
    kinds = {TOPICS[topic.removeprefix("/aopsam/")][0] for topic in shown}
    assert kinds == {ImageMarker}  # of what Foxglove draws over an image, the one ROS has itself


@pytest.fixture
def generator():
    """The functions of what writes docs/interface.md."""
    return runpy.run_path(ROOT / "docs" / "generate_interface.py")


def test_the_file_is_up_to_date(generator):
    written = (ROOT / "docs" / "interface.md").read_text(encoding="utf-8")
    assert written == generator["generate"](), "run python docs/generate_interface.py"


def test_a_live_node_has_these_topics(generator, active):
    names = {name for name, _, _ in generator["published"]()}

    def found():
        own = active.node.get_publisher_names_and_types_by_node("aopsam", "/")
        return {topic.replace("/aopsam/", "~/") for topic, _ in own if topic.startswith("/aopsam/")}

    # It takes a while until all of a node is known to others.
    active.wait(lambda: names <= found(), f"not all of {names}")
    assert names == found() - {"~/transition_event", "~/annotations"}


VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
USER_SETTINGS = (VARIABLE, "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
IMAGE_OF_4K = 3840 * 2160 * 3


@pytest.fixture
def no_choice(monkeypatch):
    for name in (*USER_SETTINGS, "ROS_DISTRO"):
        monkeypatch.delenv(name, raising=False)


def test_the_shipped_settings_of_fast_dds_have_room_for_an_image_of_4k(no_choice):
    ((variable, file),) = large_message_environment().items()
    assert variable == VARIABLE
    (size,) = ElementTree.parse(Path(file)).iterfind(".//{*}segment_size")
    assert int(size.text) > IMAGE_OF_4K


@pytest.mark.parametrize(
    ("name", "value"), [*((name, "UDPv4") for name in USER_SETTINGS), ("ROS_DISTRO", "humble")]
)
def test_settings_of_the_user_count_and_humble_is_left_as_it_is(
    no_choice, monkeypatch, name, value
):
    monkeypatch.setenv(name, value)
    assert large_message_environment() == {}


def test_a_file_in_the_working_folder_counts(no_choice, monkeypatch, tmp_path):
    (tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml").touch()
    monkeypatch.chdir(tmp_path)
    assert large_message_environment() == {}
