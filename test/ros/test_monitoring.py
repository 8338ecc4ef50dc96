"""What the node reports about itself: figures, health, memory, and warnings that are held back."""

import math
import mmap
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus

from aopsam_ros.engines.tensorrt import cuda
from aopsam_ros.errors import CudaError
from aopsam_ros.results import Prompt, PromptState, Segmentation, Status
from aopsam_ros.ros.monitoring import statistics as module
from aopsam_ros.ros.monitoring.diagnostics import NodeStatus, diagnostic_array, judge
from aopsam_ros.ros.monitoring.logs import MAX_KINDS, Throttle, kind_of
from aopsam_ros.ros.monitoring.memory import GpuMemory, resident_mb
from aopsam_ros.ros.monitoring.statistics import Report, Statistics
from support.drawn_masks import instance_of, rectangle
from support.stand_in.cuda import StandInDriver

FRAME = Segmentation(1, 1, (), (), 7, {}, None, "", "")
IMAGE = np.zeros((1, 1, 3), np.uint8)
ACTIVE = NodeStatus(active=True, model="nano", engine="onnxruntime", prompt_source="predictor")
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def test_counts_and_latency():
    statistics = Statistics()
    assert math.isnan(statistics.report().latency_p50_ms)
    for latency in range(1, 101):
        statistics.on_segmented(FRAME, latency / 1000, IMAGE)
    statistics.on_dropped()
    statistics.on_failed("no light")
    for _ in range(101):
        statistics.on_received()
    report = statistics.report(lost=11)
    assert report.total == Counter(received=101, lost=11, segmented=100, dropped=1, failed=1)
    assert report.lost_share == pytest.approx(11 / 112)
    assert report.latency_p50_ms == pytest.approx(50.5)
    assert report.latency_p95_ms == pytest.approx(95.05)
    assert (report.prompts_decoded, report.last_error) == (7, "no light")
    assert report.new == report.total and report.failing
    assert report.input_rate_hz > report.output_rate_hz > 0
    again = statistics.report()
    assert again.new == Counter() and again.failing
    statistics.on_segmented(FRAME, 0.1, IMAGE)
    recovered = statistics.report()
    assert (recovered.failing, recovered.last_error) == (False, "")
    statistics.reset()
    assert statistics.report().total == Counter()


def test_what_budgets_cut_is_that_of_the_newest_frame():
    statistics = Statistics()
    for decoded, states in ((1, "KEPT UNUSED"), (2, "KEPT REJECTED ELIMINATED UNUSED UNUSED")):
        prompts = tuple(Prompt(0, 0, 1, PromptState[state]) for state in states.split())
        frame = replace(FRAME, prompts=prompts, prompts_decoded=decoded, status=Status.NO_TIME)
        statistics.on_segmented(frame, 0.1, IMAGE)
    report = statistics.report()
    assert (report.prompts_wanted, report.prompts_unused, report.was_late) == (4, 2, True)


def test_rates_are_those_of_the_last_five_reports(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("aopsam_ros.ros.monitoring.statistics.time.monotonic", lambda: now[0])
    statistics, rates = Statistics(), []
    for second in range(12):
        now[0] += 1.0
        if second < 6 and second % 2 == 0:  # a frame every two seconds, then none
            statistics.on_segmented(FRAME, 2.0, IMAGE)
        if second < 6:
            statistics.on_received()
        report = statistics.report()
        rates.append((round(report.input_rate_hz, 2), round(report.output_rate_hz, 2)))
    assert rates[:6] == [(1, 1), (1, 0.5), (1, 0.67), (1, 0.5), (1, 0.6), (1, 0.4)]
    assert rates[10:] == [(0, 0), (0, 0)]


def test_flicker_is_the_share_of_masks_that_the_next_frame_lacks(watched):
    """In frames that a camera moved: three of four masks go with the image, one is gone."""
    size, shift = (240, 320), (24, 8)
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 256, (40, 50, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    places = [(40, 40), (40, 140), (140, 40), (140, 140)]

    def frame(dx, dy, count):
        masks = [
            instance_of(rectangle(y + dy, y + dy + 30, x + dx, x + dx + 40, size), number)
            for number, (y, x) in enumerate(places[:count], 1)
        ]
        image = scene[40 - dy : 280 - dy, 40 - dx : 360 - dx]
        return Segmentation(*size, tuple(masks), (), 0, {}, None, "", ""), image

    statistics, measured = Statistics(), watched(module, "camera_flicker")
    for segmentation, image in (frame(0, 0, 4), frame(*shift, 3)):
        assert math.isnan(statistics.report().mask_flicker)
        statistics.on_segmented(segmentation, 0.1, image)
        statistics.measure_flicker()
    assert len(measured) == 1  # by whoever segments: a report is for the executor's thread
    for _ in range(4):
        statistics.on_segmented(segmentation, 0.1, image)
        statistics.measure_flicker()
    assert len(measured) == 1
    assert statistics.report().mask_flicker == pytest.approx(0.25)


def report(error="", **figures):
    """A report with some frames of the last second segmented, failed and so on."""
    counted = ("segmented", "dropped", "failed", "not_located", "not_shown")
    new = {name: figures.pop(name) for name in counted if name in figures}
    return Report(new=Counter(new), reasons=dict.fromkeys(counted, error), **figures)


@pytest.mark.parametrize(
    ("report", "status", "level", "text"),
    [
        (report(), NodeStatus(), OK, "not active"),
        (report(segmented=5), ACTIVE, OK, "segmenting"),
        (report(dropped=99, segmented=5), ACTIVE, OK, "segmenting"),
        (report("empty", segmented=5, failed=1), ACTIVE, WARN, "some images failed: empty"),
        (report("empty", failed=2, failing=True), ACTIVE, ERROR, "cannot be segmented: empty"),
        # A slow camera: no further image has shown that it works again.
        (report("empty", failing=True), ACTIVE, ERROR, "cannot be segmented: empty"),
        (report("empty", failing=True), replace(ACTIVE, silent=True), WARN, "no images"),
        (report(), replace(ACTIVE, busy_s=12.3), ERROR, "the engine has not answered for 12 s"),
        (report(), replace(ACTIVE, busy_s=5.0), OK, "segmenting"),
        (report(), replace(ACTIVE, silent=True), WARN, "no images"),
        (report(lost_share=0.96), replace(ACTIVE, silent=True), WARN, "96% of the images are lost"),
        (report(lost_share=0.05), ACTIVE, OK, "segmenting"),
        (report("no depth", not_located=1), ACTIVE, WARN, "no boxes in space: no depth"),
        (report("no room", not_shown=1), ACTIVE, WARN, "shown in part only: no room"),
        (
            report(latency_p95_ms=120.4),
            replace(ACTIVE, max_latency_ms=120),
            WARN,
            "latency of 120 ms is above 120 ms",
        ),
        (report(latency_p95_ms=119), replace(ACTIVE, max_latency_ms=120), OK, "segmenting"),
        (
            report(output_rate_hz=9.5),
            replace(ACTIVE, min_rate_hz=10.0),
            WARN,
            "9.5 frames a second are below 10",
        ),
        (
            report(prompts_decoded=127, prompts_unused=129),
            ACTIVE,
            WARN,
            "budgets left 129 of 256 prompts undecoded",
        ),
        (report(prompts_decoded=128, prompts_unused=128), ACTIVE, OK, "segmenting"),
        (
            report(prompts_decoded=8, prompts_unused=248, was_late=True),
            ACTIVE,
            WARN,
            "the time budget ends before the first of 256 prompts: 8 are decoded all the same",
        ),
        (report(), NodeStatus(loading="building: 7 s"), WARN, "not ready: building"),
        (report(), NodeStatus(problem="no bundle"), ERROR, "no bundle"),
    ],
)
def test_health(report, status, level, text):
    found, summary = judge(report, status)
    assert found == level
    assert text in summary


def test_each_kind_of_failure_has_its_own_reason():
    statistics = Statistics()
    statistics.on_failed("no light")
    for what, reason in (("not_located", "no depth"), ("not_shown", "no room")):
        statistics.on_segmented(FRAME, 0.1, IMAGE)
        statistics.on_incomplete(what, reason)
    report = statistics.report()
    for what, text in (
        ("failed", "some images failed: no light"),
        ("not_located", "no boxes in space: no depth"),
        ("not_shown", "shown in part only: no room"),
    ):
        assert judge(replace(report, new=Counter({what: 1, "segmented": 1})), ACTIVE)[1] == text
    assert report.last_error == "no room"


def test_the_last_error_has_its_time():
    failed = Report(last_error="no light", last_error_s=1e9)
    for report, expected in ((failed, "2001-09-09T01:46:40+00:00: no light"), (Report(), "")):
        (status,) = diagnostic_array("robot/aopsam", Time(), report, ACTIVE).status
        assert {pair.key: pair.value for pair in status.values}["last_error"] == expected


def test_memory_of_the_process_is_what_the_system_says():
    before = resident_mb()
    with mmap.mmap(-1, 50_000_000) as block:  # from the system: not what was free in the heap
        np.frombuffer(block, np.uint8)[::512] = 1
        grown = resident_mb() - before
    assert 40 < grown < 80
    assert 10 < before < 100_000


def test_memory_of_the_gpu(monkeypatch):
    assert math.isnan(GpuMemory("cpu").used_mb())
    driver = StandInDriver()
    driver.memory[0] = np.zeros(3_000_000, np.uint8)
    monkeypatch.setattr(cuda, "load_driver", lambda: driver)
    gpu = GpuMemory("cuda")
    assert gpu.used_mb() == pytest.approx(3.0)
    gpu.close()
    assert math.isnan(gpu.used_mb())
    monkeypatch.setattr(cuda, "load_driver", Mock(side_effect=CudaError("no NVIDIA driver")))
    assert math.isnan(GpuMemory("cuda").used_mb())


# Buffers of a 720p image on its way in: the pages the kernel clears for images after the first.
PAGE_FAULTS = """
import resource, sys
from aopsam_ros.ros.monitoring.memory import keep_freed_memory
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
RETURNED_MB = """
from aopsam_ros.ros.monitoring.memory import keep_freed_memory, resident_mb, return_freed_memory
keep_freed_memory()
blocks = [bytearray(1_000_000) for _ in range(200)]
above = bytearray(1000)
before = resident_mb()
del blocks
return_freed_memory()
print(before - resident_mb())
"""


def printed(script, *arguments, **variables):
    return float(subprocess.check_output([sys.executable, "-c", script, *arguments], env=variables))


def test_freed_memory_is_kept_for_the_next_image():
    assert printed(PAGE_FAULTS, "as it is") > PAGES / 2
    assert printed(PAGE_FAULTS, "keep") < PAGES / 100


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_the_users_settings_of_malloc_have_priority(name):
    assert printed(PAGE_FAULTS, "keep", **{name: "1000000"}) > PAGES / 2


def test_kept_memory_can_be_returned():
    assert printed(RETURNED_MB) > 150


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("the image has 5 bytes of data", "the image has 6789 bytes of data"),
        ("encoding 'abc' is not supported", "encoding 'h264' is not supported"),
        ("box: -1.5e+09 x 3 at (nan, inf)", "box: 7 x -inf at (1, 2)"),
        ("Traceback:\n  line 3\nValueError: 3", "Traceback:\n  line 900\nValueError: 4\n"),
    ],
)
def test_numbers_and_quoted_input_make_no_other_kind_of_warning(first, second):
    assert kind_of(first) == kind_of(second) != kind_of("the image's step is 0 bytes")
    assert kind_of("") == ""


def test_each_kind_of_warning_passes_once_in_a_period(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("aopsam_ros.ros.monitoring.logs.time.monotonic", lambda: now[0])
    throttle = Throttle(5.0)
    assert throttle.passes("empty: 1") and throttle.passes("too large: 1")
    assert not throttle.passes("empty: 2")
    now[0] = 4.9
    assert not throttle.passes("too large: 2")
    now[0] = 5.0
    assert throttle.passes("empty: 3") and not throttle.passes("empty: 4")


def test_the_kind_that_passed_longest_ago_is_forgotten():
    throttle = Throttle(3600.0)
    kinds = ["x" * length for length in range(MAX_KINDS + 1)]
    assert all(throttle.passes(kind) for kind in kinds)
    assert not throttle.passes(kinds[-1])
    assert throttle.passes(kinds[0])
