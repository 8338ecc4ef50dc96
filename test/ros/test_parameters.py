"""Parameters: one table, ranges, what may change when, and one configuration at a time."""

import math

import pytest
import rclpy
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from aopsam_ros.errors import OptionError
from aopsam_ros.option_table import OPTIONS
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.ros.parameter_table import TABLE
from aopsam_ros.ros.parameters import Parameters


@pytest.fixture(scope="module")
def context():
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=13)
    yield context
    context.try_shutdown()


class Owner:
    """A node with the parameters, configured or not."""

    def __init__(self, context, **given):
        self.configured = False
        overrides = [Parameter(name.replace("__", "."), value=v) for name, v in given.items()]
        self.node = Node(
            "owner",
            context=context,
            parameter_overrides=overrides,
            enable_rosout=False,
            start_parameter_services=False,
        )
        self.parameters = Parameters(self.node, lambda: self.configured)

    def set(self, **values):
        changes = [Parameter(name.replace("__", "."), value=v) for name, v in values.items()]
        return self.node.set_parameters_atomically(changes)

    def get(self, name):
        return self.node.get_parameter(name).value


@pytest.fixture
def owner(context):
    owner = Owner(context)
    yield owner
    owner.node.destroy_node()


@pytest.mark.parametrize("name", TABLE)
def test_every_parameter_is_described_with_its_range(owner, name):
    spec, descriptor = TABLE[name], owner.node.describe_parameter(name)
    assert owner.get(name) == spec.default
    assert descriptor.description == spec.description != ""
    assert not descriptor.read_only
    if spec.value_type is float:
        bounds = descriptor.floating_point_range[0]
        assert (bounds.from_value, bounds.to_value) == (spec.minimum, spec.maximum)
    if spec.value_type is int:
        bounds = descriptor.integer_range[0]
        assert (bounds.from_value, bounds.to_value) == (spec.minimum, spec.maximum)
    for choice in spec.choices:
        assert choice in descriptor.additional_constraints


def test_options_of_the_core_are_all_there():
    assert set(OPTIONS) <= set(TABLE)


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


def test_what_the_node_was_built_from_is_fixed_while_configured(owner):
    owner.configured = True
    for name, value in (("model", "other"), ("engine", "onnxruntime"), ("threads", 2)):
        result = owner.set(**{name: value})
        assert not result.successful
        assert f"{name} is fixed while the node is configured" in result.reason
    assert owner.set(model=owner.get("model")).successful  # loading the same file again is fine
    assert owner.set(asf__max_prompts=7).successful
    assert owner.set(autostart=True).successful
    owner.configured = False
    assert owner.set(model="other").successful
    assert owner.parameters.startup().model == "other"


def test_a_transport_of_a_later_release_is_refused_with_a_reason(owner):
    assert owner.parameters.startup().engine == "auto"
    owner.set(image_transport="compressed")
    assert owner.parameters.startup().image_transport == "compressed"
    owner.set(image_transport="theora")
    reason = "image_transport 'theora' is not available: use raw or compressed"
    with pytest.raises(OptionError, match=reason):
        owner.parameters.startup()


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
