"""Name, version and lists of files agree wherever they are written down."""

import ast
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

EXTRAS = ("bench", "dev", "evaluate", "openvino", "ray", "record", "train")
DISTRIBUTIONS = ("jazzy", "kilted")  # as wheels
GROUPS = ["runtime", "colcon", "constraints", *EXTRAS]
GROUPS += [f"{ros}/{name}" for ros in DISTRIBUTIONS for name in ("ros", "build", "constraints")]
EXACT = re.compile(r"[\w.-]+==[\w.+]+(; python_version .*)?")


@pytest.fixture(scope="module")
def package(root):
    return ElementTree.parse(root / "package.xml").getroot()


def requirement_names(lines):
    return {m[0].lower() for line in lines if (m := re.match(r"[A-Za-z0-9][\w.-]*", line))}


def requirements(root, group):
    lines = (root / "requirements" / f"{group}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.fixture
def sources(root, tmp_path):
    """A copy of what setuptools reads, without the large bundles."""
    for name in ("setup.py", "MANIFEST.in", "package.xml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(root / name, tmp_path)
    for name in ("requirements", "aopsam_ros", "benchmarks", "photographs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / name, tmp_path / name, ignore=ignored)
    return tmp_path


def setuptools(folder, *words):
    command = [sys.executable, "setup.py", "-q", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.fixture
def pip_metadata(sources):
    """Let setuptools write the metadata, as pip would."""
    setuptools(sources, "egg_info")
    return metadata.PathDistribution(sources / "aopsam_ros.egg-info")


def test_the_benchmarks_find_their_photograph_in_what_is_built_from_an_sdist(sources, tmp_path):
    setuptools(sources, "sdist")
    (archive,) = (sources / "dist").iterdir()
    with tarfile.open(archive) as file:
        file.extractall(tmp_path / "unpacked")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    setuptools(unpacked, "build", "--build-lib", str(tmp_path / "built"))
    code = "from aopsam_benchmarks.part import benchmark_image as b; print(b(64, 48).shape)"
    env = {name: value for name, value in os.environ.items() if name != "AMENT_PREFIX_PATH"}
    env["PYTHONPATH"] = str(tmp_path / "built")
    found = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path / "built", env=env)
    assert found.strip() == b"(48, 64, 3)"


def test_pip_and_ros_installs_have_one_version(package, pip_metadata):
    assert pip_metadata.version == package.findtext("version")
    assert pip_metadata.metadata["Name"].replace("-", "_") == package.findtext("name")
    assert pip_metadata.metadata["License"] == package.findtext("license") == "Apache-2.0"


def test_the_installed_version_and_the_changelogs_are_those_of_package_xml(root, package):
    version = package.findtext("version")
    assert metadata.version("aopsam_ros") == version
    assert f"\n## {version}" in (root / "CHANGELOG.md").read_text()


def test_pip_install_needs_what_the_tested_environment_has(root, pip_metadata):
    needed = requirement_names(r for r in pip_metadata.requires if "extra ==" not in r)
    assert needed == requirement_names(requirements(root, "runtime"))
    for extra in EXTRAS:
        listed = [r for r in pip_metadata.requires if re.search(f"extra == .{extra}.", r)]
        assert requirement_names(listed) == requirement_names(requirements(root, extra))
    assert "torch==2.13.0" in requirements(root, "train")


@pytest.mark.parametrize("group", GROUPS)
def test_every_requirement_has_an_exact_version_that_its_oldest_python_can_install(root, group):
    """By what the versions that are installed here say; others cannot be asked."""
    lines = requirements(root, group)
    assert lines and [line for line in lines if not EXACT.fullmatch(line)] == []
    for requirement in map(Requirement, lines):
        if requirement.marker and not requirement.marker.evaluate({"python_version": "3.10"}):
            continue
        with contextlib.suppress(metadata.PackageNotFoundError):
            found = metadata.distribution(requirement.name)
            if found.version in requirement.specifier:
                pythons = SpecifierSet(found.metadata["Requires-Python"] or "")
                assert "3.10.0" in pythons, requirement


def test_make_knows_every_extra(root):
    known = re.search(r"^KNOWN := (.+)$", (root / "Makefile").read_text(), re.M)
    assert tuple(known[1].split()) == EXTRAS


@pytest.mark.parametrize("folder", [".", "interfaces/vision_msgs"])
def test_cmake_lists_every_message(root, folder):
    package = root / folder
    files = {f"{kind}/{f.name}" for kind in ("msg", "srv") for f in package.glob(f"{kind}/*")}
    text = (package / "CMakeLists.txt").read_text()
    assert set(re.findall(r'"(msg/\w+\.msg|srv/\w+\.srv)"', text)) == files


def imported_packages(file):
    nodes = list(ast.walk(ast.parse(file.read_text())))
    imports = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    imports += [n.module for n in nodes if isinstance(n, ast.ImportFrom) and not n.level]
    return {name.split(".")[0] for name in imports}


# What rosdep calls the modules that are not ROS packages of their own name.
ROSDEP_KEYS = {
    "tf2_ros": "tf2_ros_py",
    "cv2": "python3-opencv",
    "numpy": "python3-numpy",
    "onnxruntime": "python3-onnxruntime-pip",
    "scipy": "python3-scipy",
    "tqdm": "python3-tqdm",
    "yaml": "python3-yaml",
}
OPTIONAL = {
    *("aopsam_benchmarks", "foxglove_msgs", "matplotlib", "onnx", "onnxscript", "openvino"),
    *("optuna", "pooch", "pycocotools", "pynvml", "ray", "requests", "rosbags", "skimage"),
    *("sklearn", "supervision"),
    *("tensorrt", "torch", "webdataset"),
}


def test_every_imported_package_is_a_dependency(root, package):
    files = [file for folder in ("aopsam_ros", "launch") for file in (root / folder).rglob("*.py")]
    used = set().union(*map(imported_packages, files))
    used -= {*sys.stdlib_module_names, *OPTIONAL, "aopsam_ros"}
    declared = {d.text for tag in ("depend", "exec_depend") for d in package.findall(tag)}
    assert {ROSDEP_KEYS.get(name, name) for name in used} - declared == set()
    assert "rclpy" in used  # the walk found the node
