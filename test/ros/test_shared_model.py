"""Several cameras in one process: one engine, used in turn."""

import itertools
import queue
import threading
import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import EngineOptions, silent
from aopsam_ros.msg import MaskArray
from aopsam_ros.ros import worker
from aopsam_ros.ros.pipeline import Pipeline
from aopsam_ros.ros.shared_engines import FairTurns, SharedEngines
from aopsam_ros.ros.worker import NewestWorker
from support.live import TIMEOUT_S
from support.messages import image_of, stamp_of
from support.scenes import boxes_scene
from support.tiny_bundle import IMAGE, mask_decoder, prompts, write_tiny_bundle

CAMERAS = ("front", "rear")
HANGING = [{"module": "support.faulty_node", "hasty": True}]


def test_turns_are_taken_in_the_order_in_which_threads_asked():
    turns, order = FairTurns(), []

    def take(name):
        with turns:
            order.append(name)

    threads = []
    with turns:
        for name in range(5):
            threads.append(threading.Thread(target=take, args=[name]))
            threads[-1].start()
            while len(turns.waiting) <= name:
                time.sleep(0.001)
        turns.end()  # before the block's own end, which then ends nobody else's turn
        threads[-1].join(TIMEOUT_S)
    assert order == list(range(5))


def test_no_more_threads_than_the_limit_have_a_turn():
    turns, inside, most = FairTurns(), [], []
    turns.limit = 2
    both = threading.Barrier(2)

    def take():
        with turns:
            inside.append(1)
            both.wait(TIMEOUT_S)
            most.append(len(inside))
            both.wait(TIMEOUT_S)
            inside.pop()

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert most == [2] * 6


def test_a_wait_that_a_signal_ends_holds_nobody_up(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    turns = FairTurns()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Condition, "wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt), turns:
            pass
    assert not turns.waiting


def test_whoever_must_not_wait_for_ever_gives_up_and_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(worker, "PATIENCE_S", 0.05)
    turns = FairTurns()
    taken, free = threading.Event(), threading.Event()

    def hang():
        with turns:
            taken.set()
            free.wait(TIMEOUT_S)

    thread = threading.Thread(target=hang)
    thread.start()
    assert taken.wait(TIMEOUT_S)
    with pytest.raises(TimeoutError, match="does not finish"), turns.in_time():
        pass
    free.set()
    thread.join(TIMEOUT_S)
    for _ in range(2):  # it is free, and free again
        with turns.in_time():
            assert not turns.waiting


def test_others_pass_while_a_thread_with_a_turn_pauses():
    turns, passed = FairTurns(), threading.Event()

    def take():
        with turns:
            passed.set()

    thread = threading.Thread(target=take)
    with turns:
        thread.start()
        assert not passed.wait(0.05)
        with turns.paused():
            assert passed.wait(TIMEOUT_S)
        thread.join(TIMEOUT_S)
        passed.clear()
        thread = threading.Thread(target=take)
        thread.start()
        assert not passed.wait(0.05)  # the turn is its own again
    assert passed.wait(TIMEOUT_S)
    thread.join(TIMEOUT_S)


def test_an_image_waits_for_a_turn_where_the_task_before_it_lost_its_own(monkeypatch):
    turns, done, errors = FairTurns(), [], []
    taken, free = threading.Event(), threading.Event()

    def hang():
        with turns:
            taken.set()
            free.wait(TIMEOUT_S)

    hanging = threading.Thread(target=hang)

    def load():
        camera.put("image")
        with turns.paused():
            hanging.start()
            assert taken.wait(TIMEOUT_S)

    camera = NewestWorker(
        lambda item, wait: done.append((item, free.is_set())),
        *(lambda: None, errors.append),
        turns=turns,
    )
    camera.start()
    with monkeypatch.context() as patch:
        patch.setattr(worker, "PATIENCE_S", 0.05)
        assert camera.submit(load)
        while not errors:
            time.sleep(0.001)
    while not (turns.waiting or done):
        time.sleep(0.001)
    free.set()
    while not done:
        time.sleep(0.001)
    camera.stop()
    assert (done, errors) == ([("image", True)], ["TimeoutError"])


def test_who_waits_for_labels_gives_the_turn_to_who_makes_them(monkeypatch):
    monkeypatch.setattr(worker, "PATIENCE_S", 5.0)  # of each other, it would be
    turns, loading, asked = FairTurns(), threading.Event(), threading.Event()
    pipeline, made, had = Pipeline.__new__(Pipeline), [], []

    def open_labeller():
        with turns.paused():
            loading.set()
            assert asked.wait(TIMEOUT_S)
            time.sleep(0.05)  # until the other one has the turn, and wants the lock
        made.append(object())
        return made[-1]

    def teach(before, then):
        before.wait(TIMEOUT_S)
        with turns:
            then.set()
            had.append(pipeline.make_labeller())

    pipeline._turns, pipeline._open_labeller = turns, open_labeller
    pipeline.labeller, pipeline._labeller_lock = None, threading.Lock()
    go = threading.Event()
    go.set()
    threads = [threading.Thread(target=teach, args=args) for args in ((go, go), (loading, asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert had == 2 * made
    assert len(made) == 1
    with turns.in_time():  # both have ended theirs
        assert not pipeline._labeller_lock.locked()


def test_a_slow_camera_gets_its_turn_beside_one_that_floods():
    turns, at_work, go = FairTurns(), queue.Queue(), threading.Semaphore(0)

    def work(item, wait):
        at_work.put(item)
        go.acquire(timeout=TIMEOUT_S)

    front, rear = (NewestWorker(work, lambda: None, at_work.put, turns=turns) for _ in CAMERAS)
    try:
        for camera in (front, rear):
            camera.start()
        front.put("front")
        assert at_work.get(timeout=TIMEOUT_S) == "front"
        for number in range(10):
            front.put("front")
            rear.put(number)
            while not turns.waiting:
                time.sleep(0.001)
            for turn in (number, "front"):  # not the other one, which has something to do, too
                go.release()
                assert at_work.get(timeout=TIMEOUT_S) == turn
    finally:
        go.release(2)
        front.stop()
        rear.stop()


def test_an_engine_is_loaded_once_and_closed_by_the_last(tiny_folder):
    engines, bundle = SharedEngines(), load_bundle(tiny_folder)
    options = EngineOptions(engine="onnxruntime", threads=1)
    first = engines.create(bundle, options, silent)
    second = engines.create(load_bundle(tiny_folder), options, silent)
    other = engines.create(bundle, EngineOptions(engine="onnxruntime", threads=2), silent)
    assert first is second is not other
    closed = []
    first.engine.close = lambda: closed.append(first)
    first.close()
    assert not closed
    second.close()
    assert closed == [first]
    assert engines.create(bundle, options, silent) is not first


def test_a_model_that_replaces_another_in_its_folder_is_loaded_beside_it(tmp_path):
    engines, options = SharedEngines(), EngineOptions(engine="onnxruntime", threads=1)
    first = engines.create(load_bundle(write_tiny_bundle(tmp_path)), options, silent)
    decoder = mask_decoder(ious=(0.6, 0.7, 0.55))
    update = load_bundle(write_tiny_bundle(tmp_path, {"mask_decoder": decoder}))
    second = engines.create(update, options, silent)
    best = [e.decode(e.encode(IMAGE), *prompts(1)).predicted_iou.max() for e in (first, second)]
    assert best == pytest.approx([0.9, 0.7])


@pytest.fixture
def cameras(robot, tiny_folder, request):
    """Both cameras beside their nodes, active in one process; `param` are options of its start."""
    masks, senders, health = {}, {}, {}
    stamps = itertools.count(1)
    for name in CAMERAS:
        masks[name] = []
        robot.node.create_subscription(MaskArray, f"/{name}/aopsam/masks", masks[name].append, 50)
        senders[name] = robot.node.create_publisher(Image, f"/{name}/image", 5)

    def on_diagnostics(message):
        for status in message.status:
            health[status.name] = status.message

    robot.node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
    # Before the process starts: it then knows the client before it is called.
    robot.rear = robot.node.create_client(ChangeState, "/rear/aopsam/change_state")
    # A rule for the whole process, as launch gives it, must not put both into one namespace.
    arguments = ["-r", "__ns:=/elsewhere", "--", "--cameras", "front,rear", "--ros-args"]
    options = {"model": tiny_folder, "autostart": True, **getattr(request, "param", {})}
    robot.start_node(*arguments, wait=False, **options)
    robot.masks, robot.senders, robot.health, robot.stamps = masks, senders, health, stamps

    def answered():
        send(robot, *CAMERAS)
        robot.spin(0.2)
        return all(masks.values())

    robot.wait(answered, "no masks", 2 * TIMEOUT_S)
    return robot


def send(robot, *names):
    """Publish an image of each of these cameras; the nanoseconds of their stamp."""
    stamp = next(robot.stamps)
    for name in names:
        image = image_of(boxes_scene(), frame_id=name)
        image.header.stamp.nanosec = stamp
        robot.senders[name].publish(image)
    return stamp


def test_each_camera_has_masks_and_diagnostics_of_its_own(cameras):
    for name in CAMERAS:
        assert {message.header.frame_id for message in cameras.masks[name]} == {name}
        assert all(message.masks for message in cameras.masks[name])
    entries = [f"{name}/aopsam: segmentation" for name in CAMERAS]
    cameras.wait(lambda: set(entries) <= set(cameras.health), "no diagnostics")
    assert not cameras.children()
    log = cameras.log.read_text()
    assert log.count("configured: model") == 2
    assert log.count("]: engine ") == 1  # loaded once, and said by one of them
    assert all(log.count(f"[{name}.aopsam]: prompts from") == 1 for name in CAMERAS)


def change(cameras, transition):
    """Ask the rear camera's node for a transition; whether it succeeded."""
    cameras.wait(cameras.rear.service_is_ready, "no service")
    future = cameras.rear.call_async(ChangeState.Request(transition=Transition(id=transition)))
    cameras.wait(future.done, "no answer")
    return future.result().success


def test_one_camera_stops_and_starts_again_while_the_other_goes_on(cameras):
    def answer(*names):
        """Send images of both until one is answered by these nodes; which nodes answered any."""
        sent = set()

        def answered():
            sent.add(send(cameras, *CAMERAS))
            cameras.spin(0.2)
            found = {name for name in CAMERAS if sent & set(map(stamp_of, cameras.masks[name]))}
            return found >= set(names) and found

        return cameras.wait(answered, f"no masks of {names}")

    assert change(cameras, Transition.TRANSITION_DEACTIVATE)
    assert change(cameras, Transition.TRANSITION_CLEANUP)
    assert answer("front") == {"front"}
    assert change(cameras, Transition.TRANSITION_CONFIGURE)
    assert change(cameras, Transition.TRANSITION_ACTIVATE)
    assert answer(*CAMERAS) == set(CAMERAS)


def let_hang(cameras):
    """Have the engine hang for the front camera; what sets its node's parameter `fault`."""
    client = cameras.node.create_client(SetParameters, "/front/aopsam/set_parameters")
    cameras.wait(client.service_is_ready, "no service")

    def set_fault(value):
        fault = Parameter("fault", value=value).to_parameter_msg()
        future = client.call_async(SetParameters.Request(parameters=[fault]))
        cameras.wait(future.done, "no answer")
        assert future.result().results[0].successful

    def hangs():
        send(cameras, "front")
        cameras.spin(0.2)
        return "has not answered" in cameras.health.get("front/aopsam: segmentation", "")

    set_fault("Segmenter.encode:Hang")
    cameras.wait(hangs, "the engine does not hang")
    return set_fault


@pytest.mark.parametrize("cameras", HANGING, indirect=True)
def test_an_engine_that_hangs_keeps_no_other_camera_from_a_clean_end(cameras):
    markers = []
    cameras.node.create_subscription(
        MarkerArray, "/rear/aopsam/prompt_markers", lambda m: markers.append(m.markers), 10
    )

    def shown():
        send(cameras, *CAMERAS)
        cameras.spin(0.2)
        return markers

    cameras.wait(shown, "no markers")
    let_hang(cameras)
    markers.clear()
    assert cameras.stop_node() == 0
    cameras.wait(lambda: markers, "the other camera's markers stay")
    assert [marker.action for marker in markers[-1]] == [Marker.DELETEALL]
    log = cameras.log.read_text()
    assert "Traceback" not in log and log.count("does not finish what it is working on") == 1, log


@pytest.mark.parametrize("cameras", HANGING, indirect=True)
def test_an_engine_that_hangs_for_one_camera_holds_up_configuring_another_for_a_time(cameras):
    assert change(cameras, Transition.TRANSITION_DEACTIVATE)
    assert change(cameras, Transition.TRANSITION_CLEANUP)
    set_fault = let_hang(cameras)
    assert not change(cameras, Transition.TRANSITION_CONFIGURE)
    reason = "the engine does not finish what it is working on"
    cameras.wait(lambda: cameras.logged(reason), "the reason was not logged")
    set_fault("")
    cameras.wait(  # it is free a moment later
        lambda: change(cameras, Transition.TRANSITION_CONFIGURE), "never configured"
    )
    assert change(cameras, Transition.TRANSITION_ACTIVATE)


@pytest.mark.parametrize(
    ("names", "reason"), [("front,2nd-one", "2nd-one"), ("front,/front", "comes twice")]
)
def test_cameras_that_cannot_be_are_refused(robot, names, reason):
    robot.start_node("--", "--cameras", names, wait=False)
    assert robot.process.wait(TIMEOUT_S) == 1
    assert robot.logged(reason)
