"""The process of the executable `aopsam_node`: a node, or one for each camera of a robot."""

import argparse
import sys
from collections.abc import Sequence

import rclpy
from rclpy.exceptions import InvalidNamespaceException, ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from rclpy.validate_namespace import validate_namespace

from aopsam_ros.errors import AopsamError, OptionError, first_line
from aopsam_ros.ros.lifecycle import handle_signals, make_executor, shut_down, spin
from aopsam_ros.ros.monitoring.memory import keep_freed_memory
from aopsam_ros.ros.node import AopsamNode
from aopsam_ros.ros.shared_engines import SharedEngines


def _add_nodes(namespaces: Sequence[str], nodes: list[AopsamNode]) -> None:
    """Make the node of each camera, or the only one; they go into `nodes` one by one."""
    if not namespaces:
        nodes.append(AopsamNode())
    engines = SharedEngines()
    fulls = [f"/{namespace.strip('/')}" for namespace in namespaces]
    if len(set(fulls)) < len(fulls):
        raise OptionError(f"--cameras: a name comes twice in {','.join(namespaces)}")
    for full in fulls:
        validate_namespace(full)
        # A rule of the node's own goes before one for the process, as launch gives it.
        rule = ["--ros-args", "--remap", f"__ns:={full}"]
        nodes.append(AopsamNode(make_engine=engines.create, cli_args=rule))


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; 0 then, 1 when a parameter is impossible.

    `--cameras front,rear` runs a node for each camera, in a namespace of its name; those with the
    same model share its engine.
    """
    keep_freed_memory()
    parser = argparse.ArgumentParser("aopsam_node", description=__doc__.partition("\n")[0])
    parser.add_argument("--cameras", default="", help="namespaces of a node each: front,rear")
    try:
        own = parser.parse_args(remove_ros_args(sys.argv if args is None else args)[1:])
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # of rcl: arguments of ROS that cannot be, such as image:=2x
        get_logger("aopsam").fatal(f"ROS cannot start with these arguments: {first_line(error)}")
        return 1
    signalled: list[float] = []
    handle_signals(signalled, at_once=True)
    nodes: list[AopsamNode] = []
    try:
        _add_nodes([name for name in own.cameras.split(",") if name.strip()], nodes)
        executor = make_executor(nodes[0].parameters.executor)
        for node in nodes:
            executor.add_node(node)
        for node in nodes:
            node.start()
        spin(executor, nodes[0].on_callback_failed, signalled)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (AopsamError, ParameterException, InvalidNamespaceException) as error:
        is_float = "expecting type 'DOUBLE'" in str(error)
        get_logger("aopsam").fatal(f"{error}{'; write 1.0, not 1' * is_float}")
        return 1
    finally:
        shut_down(nodes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
