"""The node's first start on a GPU: engines are built in sight, and used."""

from diagnostic_msgs.msg import DiagnosticStatus

from support.messages import image_of
from support.scenes import boxes_scene


def test_the_first_start_is_no_hang_and_the_second_is_fast(
    robot, tiny_folder, monkeypatch, tmp_path
):
    monkeypatch.setenv("AOPSAM_ENGINE_CACHE", str(tmp_path / "engines"))
    robot.start_node(module="support.node_on_a_gpu", model=tiny_folder)
    before = len(robot.diagnostics)
    robot.activate()
    seen = [report.status[0] for report in robot.diagnostics[before:]]
    building = [s for s in seen if "not ready: building the TensorRT engine of" in s.message]
    assert {s.level for s in building} == {DiagnosticStatus.WARN}
    # One at least for each of the three graphs: reports come once a second.
    assert len({s.message.split(":")[1] for s in building}) == 3
    assert robot.logged("this takes minutes, once")
    assert robot.logged("engine tensorrt on cuda (auto)")
    assert len(robot.answer(image_of(boxes_scene())).masks) == 2
    level, text, values = robot.fresh_health()
    assert (level, text) == (DiagnosticStatus.OK, "segmenting")
    assert (values["engine"], values["precision"]) == ("tensorrt", "fp16")

    robot.clean_up()
    robot.activate()
    assert len(robot.answer(image_of(boxes_scene())).masks) == 2
    assert robot.log.read_text().count("this takes minutes, once") == 3
    assert robot.stop_node() == 0
