"""What tests run in a process of its own."""

import os

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.engine_cache import EngineCache
from support.gpu import Gpu


def hold_the_lock(folder, key, held, release):
    """Take a lock and die with it on a signal."""
    with EngineCache(folder).locked(key, lambda: None):
        held.set()
        release.wait(20)
        os._exit(1)


def start_on_a_gpu(folder, cache, go, builds):
    """Load a bundle on a signal, and report how many engines were built."""
    gpu = Gpu("10.3.0", cache)
    go.wait(60)
    gpu.start_and_stop(load_bundle(folder))
    builds.put(len(gpu.builds))
