"""Requests that wait: the executor stays free, answers wake it, and nobody waits for ever."""

import threading
import time
from types import SimpleNamespace

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor

from aopsam_ros.ros import segment_service
from aopsam_ros.ros.segment_service import SegmentService
from aopsam_ros.srv import Segment

PATIENCE_S = 20.0


class Worker:
    """Keeps tasks until the test runs them."""

    def __init__(self):
        self.tasks, self.accepts = [], True

    def submit(self, task):
        self.tasks.append(task)
        return self.accepts


def answer(segmenter, request, newest):
    return Segment.Response(success=True, message=f"{len(request.points)} numbers")


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.setattr(segment_service, "answer", answer)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=17)
    node = rclpy.create_node("aopsam", context=context, enable_rosout=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    worker, settings, failures = Worker(), SimpleNamespace(timeout_ms=60_000), []
    service = SegmentService(node, lambda: settings.timeout_ms, failures.append)
    service.serve(worker, segmenter=None, newest=lambda: None)
    client = node.create_client(Segment, "/aopsam/segment")
    parts = SimpleNamespace(**locals())
    yield parts
    executor.shutdown()
    node.destroy_node()
    context.try_shutdown()


def until(parts, condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        parts.executor.spin_once(timeout_sec=0.05)


def asked(parts):
    """Send a request and wait until it waits for the model; its future."""
    before = len(parts.worker.tasks)
    until(parts, parts.client.service_is_ready)
    future = parts.client.call_async(Segment.Request(points=[1.0, 2.0]))
    until(parts, lambda: len(parts.worker.tasks) > before)
    return future


def test_an_answer_wakes_an_executor_that_waits_without_a_limit(parts):
    future = asked(parts)
    spins = []

    def spin():
        while not future.done():
            parts.executor.spin_once()
            spins.append(1)

    thread = threading.Thread(target=spin)
    thread.start()
    time.sleep(0.3)
    waited = len(spins)
    parts.worker.tasks[0]()  # as the worker's thread does
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert future.result().message == "2 numbers"
    assert waited < 5  # it slept while the request waited


def test_other_callbacks_run_while_a_request_waits(parts):
    ticks = []
    parts.node.create_timer(0.01, lambda: ticks.append(1))
    future = asked(parts)
    until(parts, lambda: len(ticks) > 5)
    assert not future.done()


def test_who_waits_too_long_is_refused_and_a_late_answer_is_dropped(parts):
    parts.settings.timeout_ms = 0
    late = asked(parts)
    parts.settings.timeout_ms = 60_000
    patient = asked(parts)
    parts.service.expire()
    until(parts, late.done)
    assert late.result().message == "timed out: the model was busy"
    assert not patient.done()
    for task in parts.worker.tasks:
        task()
    until(parts, patient.done)
    assert patient.result().success
    assert not late.result().success


def test_everybody_who_waits_is_refused_when_the_node_stops(parts):
    futures = [asked(parts) for _ in range(3)]
    parts.service.stop()
    until(parts, lambda: all(future.done() for future in futures))
    assert {future.result().message for future in futures} == {"the node is not active"}


def test_a_full_queue_refuses_at_once(parts):
    parts.worker.accepts = False
    future = asked(parts)
    until(parts, future.done)
    assert future.result().message == "too many requests wait already"


def test_an_unexpected_error_is_reported_and_answered(parts, monkeypatch):
    def fail(segmenter, request, newest):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(segment_service, "answer", fail)
    future = asked(parts)
    parts.worker.tasks[0]()
    until(parts, future.done)
    assert "out of memory" in future.result().message and not future.result().success
    assert "Traceback" in parts.failures[0]
