"""What the library logs, in ROS's log: which engine was chosen and why, what is built."""

from __future__ import annotations

import logging
from typing import Any

LIBRARY = "aopsam_ros"


class LogBridge(logging.Handler):
    """Hands log records of the library to a ROS logger, from `open` to `close`."""

    def __init__(self, ros_logger: Any) -> None:  # noqa: ANN401  (rclpy's, which has no types)
        """Prepare to hand records to what a node's `get_logger` returns."""
        super().__init__(logging.INFO)
        self._ros_logger = ros_logger
        self._library = logging.getLogger(LIBRARY)

    def open(self) -> None:
        """Begin."""
        self._library.addHandler(self)
        self._library.setLevel(logging.INFO)
        self._library.propagate = False  # not on standard error as well

    def close(self) -> None:
        """End; harmless when repeated."""
        self._library.removeHandler(self)
        self._library.propagate = True
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record on."""
        message = record.getMessage()
        # One call a level: rclpy refuses another level from the same line.
        if record.levelno >= logging.ERROR:
            self._ros_logger.error(message)
        elif record.levelno >= logging.WARNING:
            self._ros_logger.warning(message)
        else:
            self._ros_logger.info(message)
