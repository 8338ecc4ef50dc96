"""Recordings as a robot makes them, written with the rosbags library."""

import numpy as np

IMAGE = "sensor_msgs/msg/Image"


def types():
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)


def header():
    kinds = types().types
    stamp = kinds["builtin_interfaces/msg/Time"](sec=0, nanosec=0)
    return kinds["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")


def image_message(pixels, encoding, padding=0):
    """Make a sensor_msgs/Image; `padding` bytes of 0xAA follow each row."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAA)
    return types().types[IMAGE](
        header=header(),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=padded.shape[1],
        data=padded.ravel(),
    )


def text_message(text):
    return types().types["std_msgs/msg/String"](data=text)


def write_bag(path, topics, storage="MCAP"):
    """Write `{topic: messages}` as a rosbag2 folder, the messages of all topics in turn."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    store = types()
    with Writer(path, version=9, storage_plugin=StoragePlugin[storage]) as writer:
        stamp = 0
        for topic, messages in topics.items():
            kind = messages[0].__msgtype__ if messages else IMAGE
            connection = writer.add_connection(topic, kind, typestore=store)
            for message in messages:
                stamp += 1_000_000
                writer.write(connection, stamp, store.serialize_cdr(message, kind))
    return path
