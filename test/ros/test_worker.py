"""The mailbox for one item: the newest is worked on, the others are counted."""

import threading

from aopsam_ros.ros.worker import MOST_TASKS, NewestWorker

PATIENCE_S = 20.0


class Gate:
    """Work that waits until it is let through, and remembers what it was given."""

    def __init__(self):
        self.done, self.dropped, self.errors = [], 0, []
        self.begun, self.open = threading.Semaphore(0), threading.Semaphore(0)
        self.worker = NewestWorker(self.work, self.drop, self.errors.append, "test")

    def work(self, item, wait):
        self.begun.release()
        assert self.open.acquire(timeout=PATIENCE_S)
        self.done.append(item)

    def drop(self):
        self.dropped += 1


def test_newest_item_wins_and_drops_are_counted():
    gate = Gate()
    gate.worker.start()
    gate.worker.put(0)
    assert gate.begun.acquire(timeout=PATIENCE_S)
    for item in range(1, 6):
        gate.worker.put(item)
    gate.open.release(2)
    assert gate.begun.acquire(timeout=PATIENCE_S)
    gate.worker.stop()
    assert gate.done == [0, 5]
    assert gate.dropped == 4


def test_stop_waits_for_the_work_at_hand_and_lets_the_rest_go():
    gate = Gate()
    gate.worker.start()
    gate.worker.put("at hand")
    assert gate.begun.acquire(timeout=PATIENCE_S)
    gate.worker.put("waiting")
    threading.Timer(0.1, gate.open.release).start()
    gate.worker.stop()
    assert gate.done == ["at hand"]
    assert gate.dropped == 0


def test_only_a_running_worker_takes_items_and_it_can_run_again():
    gate = Gate()
    gate.open.release(10)
    gate.worker.put("before start")
    gate.worker.stop()
    for item in ("first", "second"):
        gate.worker.start()
        gate.worker.start()  # a second start changes nothing
        gate.worker.put(item)
        assert gate.begun.acquire(timeout=PATIENCE_S)
        gate.worker.stop()
        gate.worker.put("after stop")
    assert gate.done == ["first", "second"]
    assert not [thread for thread in threading.enumerate() if thread.name == "test"]


def test_tasks_and_items_have_turns_and_waiting_tasks_are_few():
    gate = Gate()
    done, ran = gate.done, threading.Semaphore(0)

    def task(number):
        done.append(f"task {number}")
        ran.release()

    assert not gate.worker.submit(lambda: task("too early"))
    gate.worker.start()
    gate.worker.put("first")
    assert gate.begun.acquire(timeout=PATIENCE_S)
    accepted = [gate.worker.submit(lambda number=n: task(number)) for n in range(MOST_TASKS + 2)]
    assert accepted == [True] * MOST_TASKS + [False] * 2
    gate.worker.put("second")
    gate.open.release(2)
    for _ in range(MOST_TASKS):
        assert ran.acquire(timeout=PATIENCE_S)
    gate.worker.stop()
    tasks = [f"task {number}" for number in range(MOST_TASKS)]
    assert done == ["first", tasks[0], "second", *tasks[1:]]


def test_tasks_that_wait_are_let_go_at_the_end():
    gate = Gate()
    gate.worker.start()
    gate.worker.put("at hand")
    assert gate.begun.acquire(timeout=PATIENCE_S)
    assert gate.worker.submit(lambda: gate.done.append("task"))
    threading.Timer(0.1, gate.open.release).start()
    gate.worker.stop()
    gate.worker.start()
    gate.worker.stop()
    assert gate.done == ["at hand"]


def test_an_exception_of_the_work_is_reported_and_the_thread_goes_on():
    gate = Gate()
    ran = threading.Semaphore(0)

    def no_memory():
        ran.release()
        raise MemoryError

    gate.worker.start()
    assert gate.worker.submit(no_memory)
    assert ran.acquire(timeout=PATIENCE_S)
    gate.worker.put("next")
    assert gate.begun.acquire(timeout=PATIENCE_S)
    assert gate.worker.busy_s > 0
    gate.open.release()
    gate.worker.stop()
    assert (gate.done, gate.errors) == (["next"], ["MemoryError"])
    assert gate.worker.busy_s == 0


class Pair:
    """Two threads, whose items begin together; the later one is done first."""

    def __init__(self, fails=()):
        self.done, self.errors, self.fails = [], [], fails
        self.together = threading.Barrier(2, timeout=PATIENCE_S)
        self.later, self.ended = threading.Event(), threading.Semaphore(0)
        self.worker = NewestWorker(self.work, lambda: None, self.errors.append, "pair", threads=2)

    def work(self, item, wait):
        try:
            self.together.wait()  # the other one has begun as well
            if item % 2:
                self.later.set()
            else:
                assert self.later.wait(PATIENCE_S)
            if item in self.fails:
                raise ValueError
            wait()
            self.done.append(item)
        finally:
            self.ended.release()

    def put_two(self, first):
        self.later.clear()
        self.worker.put(first)
        while self.together.n_waiting == 0:  # taken, so that the next does not replace it
            threading.Event().wait(0.001)
        self.worker.put(first + 1)
        for _ in range(2):
            assert self.ended.acquire(timeout=PATIENCE_S)


def test_items_are_worked_on_side_by_side_and_end_in_order():
    pair = Pair()
    pair.worker.start()
    for first in range(0, 20, 2):
        pair.put_two(first)
    pair.worker.stop()
    assert (pair.done, pair.errors) == (list(range(20)), [])
    assert not [thread for thread in threading.enumerate() if thread.name == "pair"]


def test_an_item_that_fails_does_not_hold_up_those_behind_it():
    pair = Pair(fails=(0, 3))
    pair.worker.start()
    for first in (0, 2, 4):
        pair.put_two(first)
    pair.worker.stop()
    assert (pair.done, pair.errors) == ([1, 2, 4, 5], ["ValueError", "ValueError"])
