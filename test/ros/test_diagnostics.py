"""Figures and verdicts of the diagnostics."""

import math
import mmap
from dataclasses import replace

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus

from aopsam_ros.engines.tensorrt import cuda
from aopsam_ros.errors import CudaError
from aopsam_ros.results import Segmentation
from aopsam_ros.ros.monitoring.diagnostics import Condition, diagnostic_array, judge
from aopsam_ros.ros.monitoring.memory import GpuMemory, resident_mb
from aopsam_ros.ros.monitoring.statistics import Report, Statistics
from support.stand_in_cuda import StandInDriver

FRAME = Segmentation(1, 1, (), (), 7, {}, None, "", "")
ACTIVE = Condition(active=True, model="nano", engine="onnxruntime", prompt_source="predictor")


def test_counts_and_latency():
    statistics = Statistics()
    assert math.isnan(statistics.report().latency_p50_ms)
    for latency in range(1, 101):
        statistics.on_received()
        statistics.on_segmented(FRAME, latency / 1000)
    statistics.on_received()
    statistics.on_dropped()
    statistics.on_failed("no light")
    report = statistics.report()
    assert (report.received, report.segmented, report.dropped, report.failed) == (101, 100, 1, 1)
    assert report.latency_p50_ms == pytest.approx(50.5)
    assert report.latency_p95_ms == pytest.approx(95.05)
    assert (report.decoder_calls, report.last_error) == (7, "no light")
    assert (report.new_segmented, report.new_failed, report.failing) == (100, 1, True)
    assert report.input_rate_hz > report.output_rate_hz > 0
    again = statistics.report()
    assert (again.new_segmented, again.new_failed) == (0, 0)
    assert again.failing
    statistics.on_segmented(FRAME, 0.1)
    assert not statistics.report().failing
    statistics.reset()
    assert statistics.report().received == 0


def test_rates_are_those_of_the_last_five_reports(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("aopsam_ros.ros.monitoring.statistics.time.monotonic", lambda: now[0])
    statistics, rates = Statistics(), []
    for second in range(12):
        now[0] += 1.0
        if second < 6 and second % 2 == 0:  # a frame every two seconds, then none
            statistics.on_segmented(FRAME, 2.0)
        if second < 6:
            statistics.on_received()
        report = statistics.report()
        rates.append((round(report.input_rate_hz, 2), round(report.output_rate_hz, 2)))
    assert rates[:6] == [(1, 1), (1, 0.5), (1, 0.67), (1, 0.5), (1, 0.6), (1, 0.4)]
    assert rates[10:] == [(0, 0), (0, 0)]


def test_latency_forgets_old_frames():
    statistics = Statistics()
    for latency in [9.0] * 500 + [0.01] * 100:
        statistics.on_segmented(FRAME, latency)
    assert statistics.report().latency_p95_ms == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("report", "condition", "level", "text"),
    [
        (Report(), Condition(), DiagnosticStatus.OK, "not active"),
        (Report(new_segmented=5), ACTIVE, DiagnosticStatus.OK, "segmenting"),
        (Report(dropped=99, new_segmented=5), ACTIVE, DiagnosticStatus.OK, "segmenting"),
        (
            Report(new_segmented=5, new_failed=1, last_error="empty"),
            ACTIVE,
            DiagnosticStatus.WARN,
            "some images failed: empty",
        ),
        (
            Report(failing=True, new_failed=2, last_error="empty"),
            ACTIVE,
            DiagnosticStatus.ERROR,
            "cannot be segmented: empty",
        ),
        (  # a slow camera: nothing is known to be right again
            Report(failing=True, last_error="empty"),
            ACTIVE,
            DiagnosticStatus.ERROR,
            "cannot be segmented: empty",
        ),
        (
            Report(failing=True, last_error="empty"),
            replace(ACTIVE, silent=True),
            DiagnosticStatus.WARN,
            "no images",
        ),
        (
            Report(),
            replace(ACTIVE, busy_s=12.3),
            DiagnosticStatus.ERROR,
            "the engine has not answered for 12 s",
        ),
        (Report(), replace(ACTIVE, busy_s=5.0), DiagnosticStatus.OK, "segmenting"),
        (Report(), Condition(active=True, silent=True), DiagnosticStatus.WARN, "no images"),
        (
            Report(new_segmented=5, new_not_located=1, last_error="no depth"),
            ACTIVE,
            DiagnosticStatus.WARN,
            "no boxes in space: no depth",
        ),
        (
            Report(new_segmented=5, new_not_shown=1, last_error="no room"),
            ACTIVE,
            DiagnosticStatus.WARN,
            "shown in part only: no room",
        ),
        (
            Report(new_segmented=5, latency_p95_ms=120.4),
            replace(ACTIVE, max_latency_ms=120),
            DiagnosticStatus.WARN,
            "latency of 120 ms is above 120 ms",
        ),
        (
            Report(new_segmented=5, latency_p95_ms=119),
            replace(ACTIVE, max_latency_ms=120),
            DiagnosticStatus.OK,
            "segmenting",
        ),
        (
            Report(new_segmented=5, output_rate_hz=9.5),
            replace(ACTIVE, min_rate_hz=10.0),
            DiagnosticStatus.WARN,
            "9.5 frames a second are below 10",
        ),
        (
            Report(),
            Condition(loading="building: 7 s"),
            DiagnosticStatus.WARN,
            "not ready: building",
        ),
        (Report(), Condition(problem="no bundle"), DiagnosticStatus.ERROR, "no bundle"),
    ],
)
def test_verdicts(report, condition, level, text):
    found, summary = judge(report, condition)
    assert found == level
    assert text in summary


def test_the_message_has_name_stamp_and_figures():
    message = diagnostic_array("robot/aopsam", Time(sec=5), Report(dropped=3), ACTIVE)
    assert message.header.stamp.sec == 5
    (status,) = message.status
    assert (status.name, status.hardware_id) == ("robot/aopsam: segmentation", "nano")
    values = {pair.key: pair.value for pair in status.values}
    assert values["frames_dropped"] == "3"
    assert values["engine"] == "onnxruntime"
    assert values["latency_p95_ms"] == "nan"
    assert values["memory_mb"] == values["gpu_memory_mb"] == "nan"


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
    monkeypatch.setattr(cuda, "load_driver", _no_driver)
    assert math.isnan(GpuMemory("cuda").used_mb())


def _no_driver():
    raise CudaError("no NVIDIA driver")
