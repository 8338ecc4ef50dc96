"""A machine with a GPU: driver, TensorRT and engine cache.

As a program: the node on such a machine, whose engines take seconds to build.
"""

import hashlib
import os
import sys
import time

import pytest
import yaml

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import EngineOptions, silent
from aopsam_ros.engines.engine_cache import EngineCache
from aopsam_ros.engines.tensorrt.api import TensorRt
from aopsam_ros.engines.tensorrt.cuda import Device
from aopsam_ros.engines.tensorrt.engine import TensorRtEngine
from aopsam_ros.models.mixed_precision import write_mixed
from support.stand_in.cuda import StandInDriver
from support.stand_in.tensorrt import make_module

BUILD_S = 1.2


class Gpu:
    def __init__(self, version, folder, name=b"Orin"):
        self.driver = StandInDriver(name)
        self.module = make_module(version, self.driver)
        self.faults, self.builds = self.module.faults, self.module.faults.builds
        self.cache = EngineCache(folder)

    def start(self, bundle, precision="auto", on_progress=silent):
        """Load a bundle, as a node's start does."""
        options = EngineOptions(precision=precision)
        machine = {"trt": TensorRt(self.module), "gpu": Device(self.driver), "cache": self.cache}
        return TensorRtEngine(bundle, options, on_progress, **machine)

    def start_and_stop(self, bundle, **options):
        """Return how each graph computes."""
        runtime = self.start(bundle, **options)
        runtime.close()
        return {graph: precision.name for graph, precision in runtime.precisions.items()}

    def install(self, monkeypatch):
        """Let the package find this machine's TensorRT and driver by itself."""
        monkeypatch.setitem(sys.modules, "tensorrt", self.module)
        for module in ("tensorrt.cuda", "registry"):
            monkeypatch.setattr(f"aopsam_ros.engines.{module}.load_driver", lambda: self.driver)
        monkeypatch.setenv("AOPSAM_ENGINE_CACHE", str(self.cache.folder))


def add_mixed_graphs(folder, models=None):
    """Write mixed-precision graphs beside a bundle's, some of them replaced."""
    fields = yaml.safe_load((folder / "bundle.yaml").read_text())
    mixed = {}
    for name, entry in fields["graphs"].items():
        target = folder / f"{name}.mixed.onnx"
        if name in (models or {}):
            target.write_bytes(models[name].SerializeToString())
        else:
            write_mixed(folder / entry["file"], target)
        digest = hashlib.sha256(target.read_bytes()).hexdigest()
        mixed[name] = {"file": target.name, "sha256": digest}
    (folder / "bundle.yaml").write_text(yaml.safe_dump({**fields, "mixed_graphs": mixed}))
    return folder


# Run in processes of their own.


def hold_the_lock(folder, key, held, release):
    """Take a lock and die with it on a signal."""
    with EngineCache(folder).locked(key, lambda: None):
        held.set()
        release.wait(120)
        os._exit(1)


def start_on_a_gpu(folder, cache, go, builds):
    """Load a bundle on a signal, and report how many engines were built."""
    gpu = Gpu("10.3.0", cache)
    go.wait(120)
    gpu.start_and_stop(load_bundle(folder))
    builds.put(len(gpu.builds))


def run_node():
    """Run the node; each engine takes the time that a real build would, in small."""
    from aopsam_ros.ros.main import main

    gpu = Gpu("10.3.0", None)  # the cache is that of the environment
    build = gpu.module.Builder.build_serialized_network
    gpu.module.Builder.build_serialized_network = lambda *a: time.sleep(BUILD_S) or build(*a)
    gpu.install(pytest.MonkeyPatch())
    code = main()
    gpu.driver.assert_clean()
    return code


if __name__ == "__main__":
    sys.exit(run_node())
