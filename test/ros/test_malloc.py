"""Memory that one image gives free is there for the next."""

import subprocess
import sys

import pytest

# Buffers of an image of 720p on its way in: the pages the kernel clears for images after the first.
FAULTS = """
import resource, sys
from aopsam_ros.ros.monitoring.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def work():
    for _ in range(5):
        blocks = [bytearray(2_800_000) for _ in range(4)]
        del blocks
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 5 * 4 * 2_800_000 // 4096


def faults(how, **variables):
    command = [sys.executable, "-c", FAULTS, how]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=True)
    return int(done.stdout)


def test_freed_memory_is_kept_for_the_next_image():
    assert faults("as it is") > PAGES / 2
    assert faults("keep") < PAGES / 100


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_what_the_user_has_set_up_counts(name):
    assert faults("keep", **{name: "1000000"}) > PAGES / 2


def test_what_is_kept_can_be_given_back():
    script = """
from aopsam_ros.ros.monitoring.malloc import give_back_freed_memory, keep_freed_memory
from aopsam_ros.ros.monitoring.memory import resident_mb
keep_freed_memory()
blocks = [bytearray(1_000_000) for _ in range(200)]
above = bytearray(1000)
before = resident_mb()
del blocks
give_back_freed_memory()
print(before - resident_mb())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) > 150
