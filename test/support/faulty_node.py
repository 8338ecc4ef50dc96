"""The node, with parts that fail when its parameter `fault` says so.

`fault` is `<place>:<error>` or `<place>:<error>:<times>`, as `Publishers.destroy:MemoryError:1`.
An error of `Hang` waits instead, until the parameter is another one. Where the parameter `hasty`
is set, the node loses patience with a hanging engine sooner than it does with a real one.
"""

import builtins
import sys
import time

from aopsam_ros import errors
from aopsam_ros.ros import main, worker
from aopsam_ros.ros import node as node_module
from aopsam_ros.ros.monitoring import diagnostics
from aopsam_ros.ros.monitoring.statistics import Statistics
from aopsam_ros.ros.node import AopsamNode
from aopsam_ros.ros.pipeline import Pipeline
from aopsam_ros.ros.publishers import Publishers
from aopsam_ros.ros.services.segment_service import SegmentService
from aopsam_ros.ros.subscriptions import Subscriptions
from aopsam_ros.segmentation.segmenter import Segmenter

PLACES = {
    "Segmenter": (Segmenter, ("from_bundle", "segment", "encode", "close")),
    "Publishers": (Publishers, ("__init__", "publish", "publish_views", "clear")),
    "Subscriptions": (Subscriptions, ("__init__", "adapt", "destroy")),
    "Pipeline": (Pipeline, ("stop", "on_image", "put", "_fail")),
    "SegmentService": (SegmentService, ("stop",)),
    "NewestWorker": (worker.NewestWorker, ("start", "submit")),
    "Statistics": (Statistics, ("report",)),
    "AopsamNode": (AopsamNode, ("destroy_lifecycle_publisher",)),
    "module": (node_module, ("warm_up",)),
}


class FaultyNode(AopsamNode):
    """Declares the parameter and breaks the places."""

    def __init__(self, **options):
        super().__init__(**options)
        self.declare_parameter("fault", "")
        if self.declare_parameter("hasty", False).value:
            diagnostics.STALLED_S, worker.PATIENCE_S = 1.0, 0.5
        self.broken = 0
        for owner, (kind, names) in PLACES.items():
            for name in names:
                self._break(f"{owner}.{name}", kind, name)

    def _break(self, place, kind, name):
        original = getattr(kind, name)

        def breaking(*arguments, **options):
            self._fail_at(place)
            return original(*arguments, **options)

        setattr(kind, name, breaking)

    def _fault(self):
        return self.get_parameter("fault").value.split(":")

    def _fail_at(self, place):
        fault = self._fault()
        if fault[0] != place:
            self.broken = 0 if not fault[0] else self.broken
            return
        if fault[1] == "Hang":
            while self._fault() == fault:
                time.sleep(0.01)
            return
        times = int(fault[2]) if len(fault) > 2 else sys.maxsize
        if self.broken < times:
            self.broken += 1
            error = getattr(errors, fault[1], None) or getattr(builtins, fault[1])
            raise error("made up")


if __name__ == "__main__":
    main.AopsamNode = FaultyNode
    sys.exit(main.main())
