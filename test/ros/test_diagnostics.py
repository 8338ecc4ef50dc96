"""Figures and verdicts of the diagnostics."""

import math

import pytest
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus

from aopsam_ros.ros.diagnostics import Condition, Report, Statistics, diagnostic_array, judge
from aopsam_ros.segmentation import Segmentation

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
    assert (report.new_segmented, report.new_failed) == (100, 1)
    assert report.input_rate_hz > report.output_rate_hz > 0
    again = statistics.report()
    assert (again.new_segmented, again.new_failed, again.input_rate_hz) == (0, 0, 0)
    statistics.reset()
    assert statistics.report().received == 0


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
            Report(new_failed=2, last_error="empty"),
            ACTIVE,
            DiagnosticStatus.ERROR,
            "cannot be segmented: empty",
        ),
        (Report(), Condition(active=True, silent=True), DiagnosticStatus.WARN, "no images"),
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
