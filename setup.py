"""Installs aopsam_ros without ROS: `pip install .` gives the library and the `aopsam` command.

With ROS the package is built by colcon from CMakeLists.txt, which does not read this file. Both
take the metadata from package.xml.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

# Ranges: the oldest are those of ROS 2 Humble. requirements/runtime.txt holds the versions tested.
RUNTIME = [
    "numpy>=1.21",
    "scipy>=1.8",
    "opencv-python-headless>=4.5",
    "onnxruntime>=1.15",
    "pyyaml>=5.4",
    "tqdm>=4.57",
]
BENCHMARKS = "aopsam_benchmarks"
PHOTOGRAPHS = "aopsam_ros.photographs"  # one of them: what the benchmarks segment
BUNDLE_FILES = ["*.onnx", "*.yaml", "*.md"]
FIELDS = ("name", "version", "description", "license", "maintainer")


def metadata() -> dict[str, str]:
    """Read name, version, description, licence and author from package.xml."""
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    return {field: " ".join((package.findtext(field) or "").split()) for field in FIELDS}


def extra(name: str) -> list[str]:
    """Read a group of requirements/, so that its pins stand in one place."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def bundles() -> dict[str, str]:
    """Map the embedded model bundles into the package: bundles/nano is aopsam_ros.bundles.nano."""
    folders = sorted(file.parent for file in ROOT.glob("bundles/[!.]*/bundle.yaml"))
    return {f"aopsam_ros.bundles.{folder.name}": f"bundles/{folder.name}" for folder in folders}


setup(
    **metadata(),
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_files=["LICENSE"],
    packages=[
        *find_packages(include=["aopsam_ros", "aopsam_ros.*"]),
        *(BENCHMARKS, PHOTOGRAPHS, *bundles()),
    ],
    package_dir=bundles() | {BENCHMARKS: f"benchmarks/{BENCHMARKS}", PHOTOGRAPHS: "photographs"},
    package_data={"aopsam_ros": ["py.typed", "demo/page.html"], PHOTOGRAPHS: ["coffee.jpg"]}
    | dict.fromkeys(bundles(), BUNDLE_FILES),
    python_requires=">=3.10",
    install_requires=RUNTIME,
    extras_require={
        name: extra(name)
        for name in ("bench", "dev", "evaluate", "openvino", "ray", "record", "train")
    },
    entry_points={"console_scripts": ["aopsam = aopsam_ros.cli:main"]},
    zip_safe=False,
)
