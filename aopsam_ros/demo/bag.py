"""`aopsam demo --record`: everything on the wire, as it was, in one MCAP file.

Foxglove and `ros2 bag` open it. The rosbags library writes it, which reads and writes ROS 2's
recordings without ROS.
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

SUFFIX = ".mcap"
# Packages whose messages rosbags does not know by itself.
_PACKAGES = ("vision_msgs", "aopsam_ros")
_DIAGNOSTICS = "/diagnostics"  # which a node sends that never starts, too


@contextlib.contextmanager
def recording_into(path: Path) -> Iterator[BagWriter]:
    """Open a recording that becomes `path` when it is complete, in place of what was there.

    What was recorded until an error is kept as well. Of a run that recorded diagnostics at most,
    nothing is: what was there stays.
    """
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".recording_") as folder:
        writer = Writer(Path(folder) / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        bag = BagWriter(writer, _typestore())
        try:
            with writer:
                yield bag
        finally:
            if any(n for topic, n in bag.counts.items() if topic != _DIAGNOSTICS):
                for file in (Path(folder) / "bag").glob(f"*{SUFFIX}"):
                    os.replace(file, path)


class BagWriter:
    """An open recording."""

    def __init__(self, writer: Any, types: Any) -> None:  # noqa: ANN401  (rosbags comes late)
        """Write with `writer`; `types` describes the messages."""
        self._writer = writer
        self._types = types
        self.counts: Counter[str] = Counter()  # messages by topic

    def record(self, node: Node, topics: Mapping[str, type]) -> None:
        """Let a node listen to topics (full name to type) and record what it hears."""
        qos = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
        for name, kind in topics.items():
            kind_name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
            connection = self._writer.add_connection(name, kind_name, typestore=self._types)
            write = functools.partial(self._write, connection)
            node.create_subscription(kind, name, write, qos, raw=True)

    def _write(self, connection: Any, data: bytes) -> None:  # noqa: ANN401
        self.counts[connection.topic] += 1
        self._writer.write(connection, time.time_ns(), data)


def _typestore() -> Any:  # noqa: ANN401
    """Return what rosbags knows of messages, and ours."""
    from ament_index_python.packages import get_package_share_directory
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    found: dict[str, Any] = {}
    for package in _PACKAGES:
        for file in sorted((Path(get_package_share_directory(package)) / "msg").glob("*.msg")):
            name = f"{package}/msg/{file.stem}"
            if name not in store.types:
                found |= get_types_from_msg(file.read_text(encoding="utf-8"), name)
    store.register(found)
    return store
