"""The detections on the wire are those of vision_msgs 4.1, whoever built the package."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS")

DOUBLE, HEADER = "double", "std_msgs/Header"
# Field names and types of vision_msgs 4.1, by message.
FIELDS = {
    "BoundingBox2D": {"center": "vision_msgs/Pose2D", "size_x": DOUBLE, "size_y": DOUBLE},
    "BoundingBox2DArray": {"header": HEADER, "boxes": "sequence<vision_msgs/BoundingBox2D>"},
    "BoundingBox3D": {"center": "geometry_msgs/Pose", "size": "geometry_msgs/Vector3"},
    "BoundingBox3DArray": {"header": HEADER, "boxes": "sequence<vision_msgs/BoundingBox3D>"},
    "Classification": {"header": HEADER, "results": "sequence<vision_msgs/ObjectHypothesis>"},
    "Detection2D": {
        "header": HEADER,
        "results": "sequence<vision_msgs/ObjectHypothesisWithPose>",
        "bbox": "vision_msgs/BoundingBox2D",
        "id": "string",
    },
    "Detection2DArray": {"header": HEADER, "detections": "sequence<vision_msgs/Detection2D>"},
    "Detection3D": {
        "header": HEADER,
        "results": "sequence<vision_msgs/ObjectHypothesisWithPose>",
        "bbox": "vision_msgs/BoundingBox3D",
        "id": "string",
    },
    "Detection3DArray": {"header": HEADER, "detections": "sequence<vision_msgs/Detection3D>"},
    "LabelInfo": {
        "header": HEADER,
        "class_map": "sequence<vision_msgs/VisionClass>",
        "threshold": "float",
    },
    "ObjectHypothesis": {"class_id": "string", "score": DOUBLE},
    "ObjectHypothesisWithPose": {
        "hypothesis": "vision_msgs/ObjectHypothesis",
        "pose": "geometry_msgs/PoseWithCovariance",
    },
    "Point2D": {"x": DOUBLE, "y": DOUBLE},
    "Pose2D": {"position": "vision_msgs/Point2D", "theta": DOUBLE},
    "VisionClass": {"class_id": "uint16", "class_name": "string"},
    "VisionInfo": {
        "header": HEADER,
        "method": "string",
        "database_location": "string",
        "database_version": "int32",
    },
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_in_order(name):
    from vision_msgs import msg

    fields = getattr(msg, name).get_fields_and_field_types()
    assert list(fields.items()) == list(FIELDS[name].items())


def test_no_message_is_missing_or_added(root):
    files = {file.stem for file in (root / "interfaces/vision_msgs/msg").glob("*.msg")}
    assert files == set(FIELDS)


def test_colcon_leaves_the_copy_alone(root):
    assert (root / "interfaces" / "COLCON_IGNORE").is_file()
