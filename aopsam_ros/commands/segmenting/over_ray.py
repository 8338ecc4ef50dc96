"""A command's parts on the machines of a Ray cluster."""

from __future__ import annotations

import argparse
import copy
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from aopsam_ros.commands.arguments import require
from aopsam_ros.errors import EngineError, first_line

FAILED = 2
RETRIES = 3  # of a part whose worker died
Work = Callable[[argparse.Namespace], int]


def run_over_ray(work: Work, arguments: argparse.Namespace, parts: int) -> int:
    """Run a command once for each of its `--shard`s; a part whose worker died is done again.

    Every machine needs this package, and this folder under the same path. A part takes `--threads`
    CPUs, one by default, and a GPU where the cluster has some.

    Returns:
        0, or 2 if a part failed.

    Raises:
        EngineError: if Ray is not installed, or the cluster cannot be reached.
        AopsamError: if a part could not begin, such as for a missing model.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    require(("ray",), "--ray needs Ray", "`pip install ray`")
    import ray

    try:
        _meet(arguments.ray)
        ray.init(arguments.ray, include_dashboard=False if arguments.ray == "local" else None)
    except Exception as error:  # Ray's, of many kinds without a common base
        reason = first_line(error)
        raise EngineError(f"the Ray cluster {arguments.ray} cannot be reached: {reason}") from error
    try:
        threads = arguments.threads or 1
        part = ray.remote(_part).options(
            num_cpus=threads, num_gpus=min(1, ray.cluster_resources().get("GPU", 0)),
            max_retries=RETRIES,
        )  # fmt: skip
        pending = []
        for number in range(1, parts + 1):
            given = copy.copy(arguments)
            given.ray, given.shard, given.threads = None, f"{number}/{parts}", threads
            pending.append(part.remote(work, given, Path.cwd()))
        return max(_results(pending, parts))
    finally:
        ray.shutdown()


def _meet(address: str) -> None:
    """Raise OSError where nobody answers at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in address:
        socket.create_connection((host, int(port)), timeout=10).close()


def _results(pending: list, parts: int) -> list[int]:
    """Wait for all parts, each as it ends; return their exit codes."""
    import ray

    codes = [0]
    with tqdm(total=parts, unit="part", file=sys.stderr) as bar:
        while pending:
            (done,), pending = ray.wait(pending)
            try:
                codes.append(ray.get(done))
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                tqdm.write(f"aopsam: error: a part failed: {error}", file=sys.stderr)
                codes.append(FAILED)
            bar.update()
    return codes


def _part(work: Work, arguments: argparse.Namespace, folder: Path) -> int:
    os.chdir(folder)
    return work(arguments)
