"""The launch files, where `launch` is installed: it comes with a ROS of its own, not as a wheel."""

import importlib.util
from pathlib import Path

import pytest

launch = pytest.importorskip("launch")
pytest.importorskip("launch_ros")

FOLDER = Path(__file__).parents[2] / "launch"
NAV2 = {"namespace", "use_sim_time", "params_file", "autostart", "log_level"}


def description_of(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def arguments_of(description):
    return {argument.name: argument for argument in description.get_launch_arguments()}


@pytest.mark.parametrize("name", ["cpu", "jetson"])
def test_arguments_are_as_nav2s_and_described(name):
    arguments = arguments_of(description_of(name))
    assert NAV2 | {"image_topic", "camera_info_topic", "engine", "model"} == set(arguments)
    assert all(argument.description for argument in arguments.values())


@pytest.mark.parametrize(
    ("engine", "model", "expected"),
    [("", "", {}), ("", "mine", {"model": "mine"}), ("a", "b", {"engine": "a", "model": "b"})],
)
def test_only_what_the_user_gives_goes_before_the_parameter_file(engine, model, expected):
    from aopsam_ros.ros.launching import overrides

    context = launch.LaunchContext()
    context.launch_configurations.update(engine=engine, model=model)
    assert overrides(context) == expected
