"""The node on a machine with a GPU whose engines take seconds to build."""

import sys
import time

import aopsam_ros.engines.registry as engines
import aopsam_ros.engines.tensorrt.cuda as cuda
from aopsam_ros.ros.node import main
from support.stand_in_cuda import StandInDriver
from support.stand_in_tensorrt import make_module

BUILD_S = 1.2

driver = StandInDriver()
module = make_module("10.3.0", driver)
build = module.Builder.build_serialized_network


def build_slowly(builder, network, config):
    """Take the time that a real build would, in small."""
    time.sleep(BUILD_S)
    return build(builder, network, config)


module.Builder.build_serialized_network = build_slowly
sys.modules["tensorrt"] = module
cuda.load_driver = engines.load_driver = lambda: driver

if __name__ == "__main__":
    code = main()
    driver.assert_clean()
    sys.exit(code)
