"""The detections on the wire are those of vision_msgs 4.1, whoever built the package."""

import json
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS")

# Type hashes (REP 2011) of vision_msgs 4.1; they cover the names, types and order of
# the fields, and the messages inside, which are all others. Nodes whose hashes differ do not take
# each other's messages for the same type.
HASHES = {
    "BoundingBox2DArray": "2464e82838009386d371b523211c21c91d74d313fcdd6788223c531d621cf691",
    "BoundingBox3DArray": "a81938db9576b10c2eecd7c5a5da3eac496efd00221b25ed051dfbc81fb56da6",
    "Classification": "f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143",
    "Detection2DArray": "214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "Detection3DArray": "793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
    "LabelInfo": "3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
    "VisionInfo": "95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284",
}


@pytest.mark.parametrize("name", HASHES)
def test_type_hash(name):
    from ament_index_python.packages import get_package_share_directory

    file = Path(get_package_share_directory("vision_msgs")) / "msg" / f"{name}.json"
    if not file.is_file():
        pytest.skip("this ROS has no type hashes")
    hashes = json.loads(file.read_text())["type_hashes"]
    found = {entry["type_name"]: entry["hash_string"] for entry in hashes}
    assert found[f"vision_msgs/msg/{name}"] == f"RIHS01_{HASHES[name]}"
