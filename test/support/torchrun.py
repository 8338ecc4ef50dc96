"""Several processes of one training run, on this machine."""

import os
import subprocess
import sys


def torchrun(processes, words):
    """Run `aopsam` under torchrun on this machine's CPU; return its exit code and what it said."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += [f"--nproc-per-node={processes}", "-m", "aopsam_ros.cli", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=900)
    return ended.returncode, ended.stdout + ended.stderr
