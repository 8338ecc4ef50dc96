"""The C++ decoder, compiled and run: it agrees with the Python one, also on what is refused."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from aopsam_ros.errors import MaskFormatError
from aopsam_ros.masks import decode, decode_full, encode, to_label_map

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLE = ROOT / "examples" / "planner_cpp"
INCLUDE = ROOT / "include"
WARNINGS = ["-std=c++14", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
SANITIZERS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def compiled(folder, *arguments, source=HERE / "decode_masks.cpp"):
    """Compile the driver, or another source; returns the program."""
    compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    program = folder / "decode_masks"
    words = [compiler, *WARNINGS, f"-I{INCLUDE}", *arguments]
    subprocess.run([*words, str(source), "-o", str(program)], check=True)
    return program


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("cpp"), *SANITIZERS)


def mask(counts, x=0, y=0, width=3, height=2):
    roi = SimpleNamespace(x_offset=x, y_offset=y, width=width, height=height)
    return SimpleNamespace(id=7, roi=roi, counts=np.asarray(counts, np.uint32))


def answers(program, cases):
    """What the program says of masks, each with the image's height and width."""
    lines = []
    for item, height, width in cases:
        roi = item.roi
        numbers = [item.id, roi.x_offset, roi.y_offset, roi.width, roi.height, height, width]
        lines.append(" ".join(map(str, [*numbers, *item.counts.tolist()])))
    text = "\n".join(lines) + "\n"
    result = subprocess.run([program], input=text, capture_output=True, text=True, check=True)
    return [parsed(line) for line in result.stdout.splitlines()]


def parsed(line):
    if line.startswith("error: "):
        return None
    return [np.fromstring(part, int, sep=",") for part in (line + "   ").split(" ")[:3]]


def expected(item, height, width):
    """What Python says: the three arrays, or None where it refuses."""
    try:
        if (height, width) == (0, 0):  # the pixels of spans
            rows, columns = np.nonzero(decode(item))
            return [decode(item).ravel(), rows + item.roi.y_offset, columns + item.roi.x_offset]
        arrays = [decode(item), decode_full(item, height, width)]
        return [a.ravel() for a in [*arrays, to_label_map([item], height, width)]]
    except MaskFormatError:
        return None


def check_agreement(program, cases):
    found = answers(program, cases)
    assert len(found) == len(cases)
    for case, got in zip(cases, found, strict=True):
        wanted = expected(*case)
        assert (got is None) == (wanted is None), case
        for one, other in zip(got or [], wanted or [], strict=True):
            np.testing.assert_array_equal(one, other)


def random_cases(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        height, width = (int(v) for v in rng.integers(1, 12, 2))
        h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
        pixels = rng.random((h, w)) < rng.random()
        yield mask(encode(pixels), x, y, w, h), height, width


def test_same_pixels_as_in_python(program):
    check_agreement(program, list(random_cases(500)))


def test_damaged_masks_are_refused_as_in_python(program):
    rng = np.random.default_rng(1)
    cases = []
    for item, height, width in random_cases(500):
        counts = item.counts.astype(np.int64)
        counts[rng.integers(len(counts))] += rng.integers(-1, 3)
        item.counts = np.maximum(counts, 0).astype(np.uint32)
        item.roi.x_offset += int(rng.integers(0, 2))
        cases.append((item, height, width))
    check_agreement(program, cases)
    assert sum(expected(*case) is None for case in cases) > 100


LARGEST = 2**32 - 1


@pytest.mark.parametrize(
    "case",
    [
        (mask([6]), 2, 3),
        (mask([0, 6]), 2, 3),
        (mask([]), 2, 3),
        (mask([5]), 2, 3),
        (mask([7]), 2, 3),
        (mask([2, 0, 4]), 2, 3),
        (mask([], width=0, height=0), 2, 3),
        (mask([0], width=0, height=2), 2, 3),
        (mask([LARGEST, LARGEST]), 2, 3),
        (mask([1, 5], x=LARGEST), 2, 3),
        (mask([1, 5], y=1), 2, 3),
        (mask([LARGEST], width=LARGEST, height=LARGEST), LARGEST, LARGEST),
        (mask([6]), LARGEST, LARGEST),
        (mask([1, 5], x=LARGEST - 3, y=LARGEST - 2), 0, 0),
        (mask([1, 5], x=LARGEST - 2), 0, 0),
        (mask([1, 5], y=LARGEST - 1), 0, 0),
    ],
    ids=str,
)
def test_limits(program, case):
    check_agreement(program, [case])


@pytest.fixture
def messages():
    """What lets the compiler find the generated messages."""
    include = Path(sys.prefix) / "include"
    if not (include / "aopsam_ros" / "aopsam_ros" / "msg" / "mask_array.hpp").is_file():
        pytest.skip("the C++ messages are not installed here")
    return [f"-isystem{folder}" for folder in sorted(include.iterdir()) if folder.is_dir()]


def test_with_the_generated_messages(tmp_path, messages):
    program = compiled(tmp_path, "-DGENERATED_MESSAGES", *messages)
    check_agreement(program, list(random_cases(20)))


PROJECT = f"""
cmake_minimum_required(VERSION 3.20)
project(decode_masks CXX)
find_package(aopsam_ros REQUIRED)
add_executable(decode_masks {HERE / "decode_masks.cpp"})
target_link_libraries(decode_masks aopsam_ros::mask)
"""


@pytest.fixture
def cmake(tmp_path):
    """Builds a folder against the installed package; a function of it and of options."""
    prefix = Path(sys.prefix)
    if not (prefix / "share" / "aopsam_ros" / "cmake" / "export_maskExport.cmake").is_file():
        pytest.skip("the package is not installed here")

    def run(folder, *options):
        build = tmp_path / "build"
        prefixes = f"-DCMAKE_PREFIX_PATH={prefix}", f"-DPython3_EXECUTABLE={sys.executable}"
        for words in (["-S", folder, "-B", build, *prefixes, *options], ["--build", build]):
            done = subprocess.run(["cmake", *words], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
        return build

    return run


def test_cmake_finds_the_header_as_a_target(tmp_path, cmake):
    """As in the README: find_package and target_link_libraries are all a planner needs."""
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    check_agreement(cmake(tmp_path) / "decode_masks", list(random_cases(20)))


RCLCPP = f"""
add_library(rclcpp::rclcpp INTERFACE IMPORTED)
target_include_directories(rclcpp::rclcpp INTERFACE {HERE / "stand_in"})
"""


def test_the_example_planner_is_built_by_its_own_cmake_and_understands_masks(tmp_path, cmake):
    """No wheel has rclcpp: as much of it as the example uses stands in."""
    (tmp_path / "rclcppConfig.cmake").write_text(RCLCPP)
    build = cmake(EXAMPLE, f"-Drclcpp_DIR={tmp_path}", "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror")
    result = subprocess.run([build / "planner"], capture_output=True, text=True, check=True)
    listening, cut, seen, damaged = result.stdout.splitlines()
    assert listening == "listening on /aopsam/masks"
    assert cut == "the time budget was spent: masks may be missing"
    assert seen == "object 7: 2 pixels around (10, 20)"
    assert damaged.startswith("mask 8 skipped: a mask's counts do not fill its box of 4 pixels")


def test_a_workspace_builds_the_example():
    """As its first lines say; colcon looks for no package inside another one by itself."""
    words = ["list", "--names-only", "--base-paths", ROOT, ROOT / "examples"]
    found = subprocess.run(["colcon", *words], capture_output=True, text=True, check=True).stdout
    assert {"aopsam_ros", "planner_cpp"} <= set(found.split())
