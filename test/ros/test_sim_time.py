"""Simulated time: stamps are taken from it, and nothing waits for it."""

from rosgraph_msgs.msg import Clock

from support.messages import image_of
from support.scenes import boxes_scene


def test_stamps_follow_the_simulation_even_where_its_time_stands_still(robot, tiny_bundle):
    robot.start_node(model=tiny_bundle, use_sim_time=True)
    clock = robot.node.create_publisher(Clock, "/clock", 1)
    robot.activate()
    message = Clock()
    message.clock.sec = 1234

    def in_simulated_time():
        clock.publish(message)
        return robot.diagnostics and robot.diagnostics[-1].header.stamp.sec == 1234

    robot.wait(in_simulated_time, "the node does not follow /clock")
    reports = len(robot.diagnostics)
    masks = robot.answer(image_of(boxes_scene()))
    assert len(masks.masks) == 2
    assert masks.header.stamp.sec == 1_700_000_000  # the image's own, whatever the clock says
    robot.wait(lambda: len(robot.diagnostics) >= reports + 2, "diagnostics wait for the clock")
    stamps = {report.header.stamp.sec for report in robot.diagnostics[reports:]}
    assert stamps == {1234}
    assert float(robot.fresh_health()[2]["latency_p50_ms"]) > 0
