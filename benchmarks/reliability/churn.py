"""Configure, activate, deactivate, clean up, again and again, with frames flowing.

Beside it a lifecycle node without anything behind its topics: what grows there is not this package.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from dataclasses import dataclass, field

import numpy as np
from lifecycle_msgs.msg import State, Transition

from support.live import Robot

from .session import GOOD, Footprint, RearCamera, footprint, robot_with_node, two_cameras

_CYCLE = (
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP,
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
)
FRAME_PERIOD_S = 0.02
NODE = "aopsam_ros.ros.main"
PLAIN_NODE = "aopsam_benchmarks.plain_node"


@dataclass
class ChurnOutcome:
    """Footprints of the node after each cycle, and what was not as it must be."""

    footprints: list[Footprint] = field(default_factory=list)
    answered: int = 0  # cycles in which masks came
    refused: int = 0  # transitions
    most_publishers: int = 0  # of ~/masks, at any time; none at the end
    tracebacks: int = 0
    rear: RearCamera | None = None  # beside it, where there is one

    def slope_kb(self) -> float:
        """Return the growth of the resident memory, KB a cycle, after the first half."""
        sizes = [seen.resident_mb for seen in self.footprints[len(self.footprints) // 2 :]]
        return 1024 * float(np.polyfit(range(len(sizes)), sizes, 1)[0])


def churn(cycles: int, module: str = NODE, beside: bool = False) -> ChurnOutcome:
    """Cycle the node of a module through its states, beside a second camera that goes on or alone.

    Every other cycle does not wait for a result: the transition comes while the node works.
    """
    outcome = ChurnOutcome()
    with contextlib.ExitStack() as stack:
        if beside:
            robot, outcome.rear = stack.enter_context(two_cameras(module=module))
        else:
            robot = stack.enter_context(robot_with_node(module=module))
        robot.node.create_timer(FRAME_PERIOD_S, lambda: robot.send(GOOD))
        for number in range(cycles):
            outcome.answered += _masks_come(robot, patient=number % 2 == 0)
            for transition in _CYCLE:
                outcome.refused += not robot.change(transition)
                count = robot.node.count_publishers("/aopsam/masks")
                outcome.most_publishers = max(outcome.most_publishers, count)
            outcome.footprints.append(footprint(robot.process.pid))
        _masks_come(robot, patient=True)
        _end(robot, outcome)
        if outcome.rear is not None:
            outcome.rear.wait()
    return outcome


def _masks_come(robot: Robot, patient: bool) -> bool:
    robot.forget()
    if patient:
        robot.wait(lambda: robot.received["masks"], "no masks although frames flow")
    return bool(robot.received["masks"])


def _end(robot: Robot, outcome: ChurnOutcome) -> None:
    for transition in _CYCLE[:2]:
        outcome.refused += not robot.change(transition)
    assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
    robot.wait(lambda: not robot.node.count_publishers("/aopsam/masks"), "a topic is left over")
    outcome.tracebacks = robot.log.read_text().count("Traceback")


def report(cycles: int, module: str, beside: bool) -> None:
    """Run and print the figures."""
    begin = time.monotonic()
    outcome = churn(cycles, module, beside)
    print(f"{module}: {cycles} cycles in {time.monotonic() - begin:.0f} s; "
          f"masks in {outcome.answered}")  # fmt: skip
    print(f"  refused transitions: {outcome.refused}; tracebacks: {outcome.tracebacks}")
    print(f"  publishers of masks: at most {outcome.most_publishers}, none left")
    for at in sorted({0, cycles // 4, cycles // 2, 3 * cycles // 4, cycles - 1}):
        seen = outcome.footprints[at]
        print(f"  cycle {at + 1:4}: {seen.resident_mb:.1f} MB, {seen.threads} threads, "
              f"{seen.files} files")  # fmt: skip
    print(f"  growth in the second half: {outcome.slope_kb():.2f} KB a cycle")
    if outcome.rear is not None:
        print(f"  {outcome.rear.line()}")


def main() -> None:
    """Run this package's node, the same beside a second camera, then the plain one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=500)
    cycles = parser.parse_args().cycles
    for module, beside in ((NODE, False), (NODE, True), (PLAIN_NODE, False)):
        report(cycles, module, beside)


if __name__ == "__main__":
    main()
