"""Parameters: one table, ranges, what may change when, and one configuration at a time; QoS."""

import math
from types import SimpleNamespace

import pytest
from lifecycle_msgs.msg import Transition
from rcl_interfaces.srv import ListParameters
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from aopsam_ros.errors import BundleError, OptionError
from aopsam_ros.options import OPTIONS, SegmenterOptions
from aopsam_ros.prompting.sources import make_source
from aopsam_ros.ros.camera_subscription import CameraSubscription
from aopsam_ros.ros.parameter_table import FIXED, TABLE
from aopsam_ros.ros.parameters import Parameters
from aopsam_ros.ros.publishers import Publishers
from aopsam_ros.ros.subscriptions import Subscriptions
from support.live import RETRY_S
from support.messages import image_of
from support.scenes import boxes_scene

NO_MASK_INPUT = "a decoder that takes no mask as input"


class Owner:
    """A node with the parameters, configured or not."""

    def __init__(self, context, **given):
        self.segmenter = None  # not configured
        overrides = [Parameter(name.replace("__", "."), value=v) for name, v in given.items()]
        self.node = Node(
            "owner", context=context, parameter_overrides=overrides, enable_rosout=False
        )
        self.parameters = Parameters(self.node, lambda: self.segmenter)

    def set(self, **values):
        changes = [Parameter(name.replace("__", "."), value=v) for name, v in values.items()]
        return self.node.set_parameters_atomically(changes)

    def configure(self, source, accepts_mask_input=True):
        engine = SimpleNamespace(accepts_mask_input=accepts_mask_input)
        self.segmenter = SimpleNamespace(source=make_source(source), engine=engine)

    def get(self, name):
        return self.node.get_parameter(name).value


@pytest.fixture
def owner(context):
    owner = Owner(context)
    yield owner
    owner.node.destroy_node()


def test_every_parameter_is_described_with_its_range(owner):
    assert set(OPTIONS) <= set(TABLE)
    for name, spec in TABLE.items():
        assert owner.get(name) == spec.default
        check(name, owner.node.describe_parameter(name), spec)


def check(name, descriptor, spec):
    fixed = " (fixed while the node is configured)" if name in FIXED else ""
    assert descriptor.description == spec.description + fixed
    assert not descriptor.read_only
    ranges = {float: descriptor.floating_point_range, int: descriptor.integer_range}
    if spec.value_type in ranges:
        (bounds,) = ranges[spec.value_type]
        assert (bounds.from_value, bounds.to_value) == (spec.minimum, spec.maximum)
    for choice in spec.choices:
        assert choice in descriptor.additional_constraints


def test_a_change_makes_a_new_configuration_and_no_change_the_same(owner):
    before = owner.parameters.configuration()
    assert owner.parameters.configuration() is before
    assert owner.set(asf__confidence_threshold=0.3, overlay__legend=True).successful
    after = owner.parameters.configuration()
    assert before.options.asf.confidence_threshold == 0.2
    assert after.options.asf.confidence_threshold == 0.3
    assert after.overlay.legend
    assert after.markers == before.markers


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("asf.confidence_threshold", 1.5, "range"),
        ("asf.confidence_threshold", math.nan, "range"),
        ("asf.confidence_threshold", 1, "type"),
        ("asf.min_spacing", 0, "range"),
        ("asf.filtering", "guess", "asf.filtering must be one of paper"),
        ("markers.depth", -1.0, "range"),
        ("markers.depth", math.nan, "range"),
        ("overlay.prompts", "yes", "type"),
        ("mask.min_area", -1, "range"),
    ],
)
def test_impossible_values_are_refused_with_a_reason(owner, name, value, reason):
    before = owner.parameters.configuration()
    result = owner.node.set_parameters_atomically([Parameter(name, value=value)])
    assert not result.successful
    assert reason in result.reason
    assert owner.parameters.configuration() is before


def test_a_set_applies_as_a_whole_or_not_at_all(owner):
    result = owner.set(asf__confidence_threshold=0.4, asf__filtering="guess")
    assert not result.successful
    assert owner.get("asf.confidence_threshold") == 0.2
    assert owner.set(asf__confidence_threshold=0.4, asf__filtering="none").successful
    asf = owner.parameters.configuration().options.asf
    assert (asf.confidence_threshold, asf.filtering) == (0.4, "none")


def test_what_it_is_built_from_is_one_of_the_choices_before_as_well(context, owner):
    started = Owner(context, image_transport="theora")
    with pytest.raises(OptionError, match="image_transport 'theora' is not available"):
        started.parameters.startup()
    started.node.destroy_node()
    result = owner.set(image_transport="jpeg")
    assert result.reason == "image_transport must be one of raw, compressed, not 'jpeg'"
    assert owner.set(image_transport="compressed").successful
    assert "read when the process starts" in owner.set(executor="events").reason
    assert owner.set(executor="single").successful  # which it is


def test_what_the_node_was_built_from_is_fixed_while_configured(owner):
    owner.configure("predictor")
    for name, value in (("model", "other"), ("engine", "onnxruntime"), ("autostart", True)):
        result = owner.set(**{name: value})
        assert not result.successful
        assert f"{name} is fixed while the node is configured" in result.reason
    assert owner.set(model=owner.get("model")).successful  # loading the same file again is fine
    assert owner.set(asf__max_prompts=7).successful
    owner.segmenter = None
    assert owner.set(model="other").successful
    assert owner.parameters.startup().model == "other"


def test_what_the_source_does_not_use_is_known(owner):
    names = ["asf.min_spacing", "mask.min_area", "clusters.side", "model", "markers.size"]
    assert owner.parameters.without_effect(names) == ""  # not configured: nobody knows yet
    owner.configure("grid16")
    assert owner.parameters.without_effect(names) == (
        "asf.min_spacing has no effect with the prompt source 'grid16'; "
        "clusters.side has no effect with the prompt source 'grid16'"
    )
    owner.configure("predictor")
    assert owner.set(asf__filtering="paper").successful
    assert owner.parameters.without_effect(["asf.elimination_cosine"]) == (
        "asf.elimination_cosine has no effect with asf.filtering 'paper'"
    )
    for accepts in (True, False):
        owner.configure("boxes", accepts_mask_input=accepts)
        reason = owner.parameters.without_effect(["boxes.refine"])
        assert reason == ("" if accepts else f"boxes.refine has no effect with {NO_MASK_INPUT}")


@pytest.mark.parametrize(
    ("source", "names"), [("boxes", list(OPTIONS.keys() - {"boxes.refine"})), ("grid9", OPTIONS)]
)
def test_a_decoder_is_asked_about_mask_inputs_only_where_they_matter(owner, source, names):
    """Asked, an engine loads another graph."""
    owner.segmenter = SimpleNamespace(source=make_source(source), engine=None)
    assert NO_MASK_INPUT not in owner.parameters.without_effect(names)


def test_what_is_set_is_no_failure_where_the_bundle_was_replaced_meanwhile(owner):
    class Engine:
        @property
        def accepts_mask_input(self):
            raise BundleError("mask_decoder.onnx: damaged")

    owner.segmenter = SimpleNamespace(source=make_source("boxes"), engine=Engine())
    assert owner.parameters.without_effect(["boxes.refine"]) == "mask_decoder.onnx: damaged"


def test_what_somebody_has_set_is_told_from_what_the_bundle_says(context):
    owner = Owner(context, mask__min_area=50)
    owner.parameters.follow(bundle(asf__min_spacing=4))
    owner.set(asf__max_prompts=7)
    assert set(owner.parameters.chosen) == {"mask.min_area", "asf.max_prompts"}
    owner.node.destroy_node()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"asf__confidence_threshold": 7.0}, "range"),
        ({"asf__min_spacing": 6.0}, "type"),
        ({"asf__filtering": "guess"}, "one of"),
    ],
)
def test_impossible_initial_values_are_refused(context, given, reason):
    with pytest.raises((ParameterException, OptionError), match=reason):
        Owner(context, **given)


def test_a_misspelt_name_given_at_start_is_warned_of(context, capfd):
    given = {"asf__confidence_treshold": 0.2, "robot_radius": 0.3, "asf__min_spacing": 4}
    given |= {"mask__scor": 0.5, "masks": 3}
    Owner(context, **given).node.destroy_node()
    said = capfd.readouterr().err
    assert "no parameter asf.confidence_treshold, did you mean asf.confidence_threshold?" in said
    assert "no parameter mask.scor: it has no effect" in said
    assert said.count("no parameter") == 2


def bundle(**values):
    return SegmenterOptions().updated({n.replace("__", "."): v for n, v in values.items()})


def test_options_nobody_set_follow_the_bundle(owner):
    owner.parameters.follow(bundle(asf__confidence_threshold=0.15, mask__min_area=9))
    assert owner.get("asf.confidence_threshold") == 0.15
    assert owner.parameters.configuration().options.mask.min_area == 9
    owner.set(mask__min_area=100)
    owner.parameters.follow(bundle(asf__confidence_threshold=0.25, mask__min_area=8))
    assert owner.get("asf.confidence_threshold") == 0.25
    assert owner.get("mask.min_area") == 100


def test_a_value_given_at_start_stays_even_if_it_is_the_default(context):
    owner = Owner(context, asf__confidence_threshold=0.2, mask__min_area=50)
    owner.parameters.follow(bundle(asf__confidence_threshold=0.15, asf__min_spacing=4))
    assert owner.get("asf.confidence_threshold") == 0.2
    assert owner.get("mask.min_area") == 50
    assert owner.get("asf.min_spacing") == 4
    owner.node.destroy_node()


@pytest.mark.parametrize("rate", [5, 30])
def test_a_change_confirmed_before_an_image_is_in_its_message(active, rate):
    """Images go on at this rate: some are being segmented while the parameter changes."""
    image = image_of(boxes_scene())
    for least in (1_000_000, 0) * 5:
        for _ in range(3):
            active.send(image)
            active.spin(1 / rate)
        assert active.set(mask__min_area=least) == []
        masks = active.with_stamp("masks", active.send(image).nanosec).masks
        assert len(masks) == (0 if least else 2)


# Quality of service: what users override holds, everything else follows the publishers.

GOOD = image_of(boxes_scene())
IMAGE = "qos_overrides./image.subscription"
DIAGNOSTICS = "qos_overrides./diagnostics.publisher"
MASKS = "qos_overrides./aopsam/masks.publisher"
CAMERA_ONLY = SimpleNamespace(callbacks={"image": print}, wants=bool, last_image_s=math.inf)


def quality_of(topic, robot, find):
    """The node's own profile for a topic; whose an endpoint is may be known later than it is."""

    def own():
        return [info for info in find(topic) if info.node_name == "aopsam"]

    (found,) = robot.wait(own, f"nothing on {topic} is known to be the node's")
    return found.qos_profile


def test_overrides_of_subscriptions_and_results_hold(robot, tiny_folder):
    robot.start_node(
        *("-p", f"{IMAGE}.reliability:=best_effort"),
        *("-p", f"{MASKS}.durability:=transient_local"),
        *("-p", f"{DIAGNOSTICS}.depth:=3"),
        model=tiny_folder,
    )
    robot.activate()
    published = robot.node.get_publishers_info_by_topic
    images = quality_of("/image", robot, robot.node.get_subscriptions_info_by_topic)
    masks = quality_of("/aopsam/masks", robot, published)
    labels = quality_of("/aopsam/labels", robot, published)
    assert images.reliability == ReliabilityPolicy.BEST_EFFORT  # though the camera is reliable
    assert masks.durability.name == "TRANSIENT_LOCAL"
    assert labels.durability.name == "VOLATILE"
    assert len(robot.answer(GOOD).masks) == 2
    assert robot.get(f"{IMAGE}.reliability") == "best_effort"
    assert [robot.get(f"{topic}.depth") for topic in (IMAGE, DIAGNOSTICS)] == [1, 3]
    assert "read only" in robot.set(**{f"{IMAGE}.depth": 5})[0].replace("-", " ")


def test_all_parameters_may_be_set_to_what_they_are(active):
    """As `ros2 param dump` and `load` do, with read-only ones of rclpy and of QoS among them."""
    listed = active.call(ListParameters, "list_parameters", ListParameters.Request(), RETRY_S)
    names = listed.result.names
    assert {IMAGE + ".depth", "model", "use_sim_time"} <= set(names)
    assert active.set(**{name: active.get(name) for name in names}) == []
    assert "read only" in active.set(**{f"{IMAGE}.depth": 5})[0].replace("-", " ")


def test_without_overrides_the_subscription_follows_the_publishers(active):
    assert active.get(f"{IMAGE}.reliability") == "system_default"
    find = active.node.get_subscriptions_info_by_topic
    assert quality_of("/image", active, find).reliability == ReliabilityPolicy.RELIABLE
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    other = active.node.create_publisher(Image, "/image", best_effort)

    def followed():
        infos = [info for info in find("/image") if info.node_name == "aopsam"]
        return [i.qos_profile.reliability for i in infos] == [ReliabilityPolicy.BEST_EFFORT]

    active.wait(followed, "the subscription did not follow the best-effort publisher")
    active.node.destroy_publisher(other)
    assert active.change(Transition.TRANSITION_DEACTIVATE)
    active.activate()  # its parameters are declared already
    assert len(active.answer(GOOD).masks) == 2
    active.publish_images(qos=best_effort)  # and nobody else
    active.wait(active.images.get_subscription_count, "it cannot hear best effort")
    active.forget()
    assert len(active.answer(GOOD).masks) == 2


def test_subscribing_anew_is_tried_again_where_it_failed(context, monkeypatch):
    node = Node("aopsam", context=context, enable_rosout=False)
    offered = [ReliabilityPolicy.BEST_EFFORT]
    monkeypatch.setattr(CameraSubscription, "offered", lambda _: offered[-1])
    active = Subscriptions(node, "raw", CAMERA_ONLY)
    subscribe = node.create_subscription

    def fail(*args, **options):
        node.destroy_subscription(subscribe(*args, **options))
        raise MemoryError

    offered.append(ReliabilityPolicy.RELIABLE)
    with monkeypatch.context() as patch:
        patch.setattr(node, "create_subscription", fail)
        active.adapt()
    assert not list(node.subscriptions)
    active.adapt()
    (subscription,) = node.subscriptions
    assert subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    node.destroy_node()


@pytest.mark.parametrize(
    ("name", "value", "make"),
    [
        (f"{MASKS}.reliability", "perhaps", Publishers),
        (f"{IMAGE}.depth", "deep", lambda node: Subscriptions(node, "raw", CAMERA_ONLY)),
    ],
)
def test_an_impossible_override_is_one_clear_error(context, name, value, make):
    overrides = [Parameter(name, value=value)]
    node = LifecycleNode("aopsam", context=context, parameter_overrides=overrides)
    with pytest.raises(OptionError, match=r"/(aopsam/masks|image) cannot be used, by its qos_ov"):
        make(node)
    topics = [publisher.topic_name for publisher in node.publishers]
    assert not [topic for topic in topics if topic.startswith("/aopsam/prompts")]
    node.destroy_node()
