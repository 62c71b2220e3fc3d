"""Processes that SLURM's srun started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from typing import ClassVar

from leyden_strategies.environments.variables import VariablesEnvironment


class SLURMEnvironment(VariablesEnvironment):
    """The tasks of a job step, by the variables that ``srun`` sets for each.

    A batch script and an interactive shell have variables of the job, but are not its tasks: only a step of several tasks is
    read, or any step when the environment is asked for by name.

    Args:
        auto_requeue: whether SIGUSR1 asks for the job to be queued again once its state is saved.
    """

    name = "slurm"
    priority = 40
    marker = "SLURM_PROCID"
    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rank": ("SLURM_PROCID",),
        "world_size": ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
        "local_rank": ("SLURM_LOCALID",),
        "node_rank": ("SLURM_NODEID",),
    }

    def __init__(self, auto_requeue: bool = True) -> None:
        super().__init__()
        self.auto_requeue = auto_requeue

    @classmethod
    def detect(cls) -> bool:
        """Whether this is one of several tasks that srun started."""
        step = os.environ.get("SLURM_STEP_ID", os.environ.get("SLURM_STEPID"))
        interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
        return super().detect() and step is not None and not interactive and cls._tasks() > 1

    @classmethod
    def _tasks(cls) -> int:
        return next((int(os.environ[name]) for name in cls.variables["world_size"] if name in os.environ), 1)

    @classmethod
    def is_marked(cls) -> bool:
        """Whether this is a task, not the script that starts them."""
        return super().is_marked() and ("SLURM_STEP_ID" in os.environ or "SLURM_STEPID" in os.environ)

    @property
    def requeue_signal(self) -> int | None:
        """SIGUSR1, which ``sbatch --signal=SIGUSR1@90`` has sent 90 seconds before the time is over."""
        return int(signal.SIGUSR1) if self.auto_requeue else None

    def requeue(self) -> None:
        """Has SLURM queue the job again: ``scontrol requeue`` with the number of the job, or of the task of an array job.

        Raises:
            RuntimeError: ``scontrol`` failed.
        """
        array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        job = f"{array}_{task}" if array and task else self.job()
        try:
            done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
            failed = f"exit code {done.returncode}: {done.stderr.strip()}" if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            failed = f"{type(error).__name__}: {error}"
        if failed:
            raise RuntimeError(
                f"the state is saved, but `scontrol requeue {job}` failed ({failed}); queue the job again yourself"
            )

    @property
    def local_world_size(self) -> int:
        """How many tasks this node has: ``SLURM_STEP_TASKS_PER_NODE``, such as ``2(x3),1``."""
        text = os.environ.get("SLURM_STEP_TASKS_PER_NODE", os.environ.get("SLURM_TASKS_PER_NODE", ""))
        counts = [int(count) for count, _, times in re.findall(r"(\d+)(\(x(\d+)\))?", text) for _ in range(int(times or "1"))]
        if counts:
            return counts[min(self._number("node_rank", 0), len(counts) - 1)]
        nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", os.environ.get("SLURM_NNODES", "1")))
        return max(self.world_size // nodes, 1)

    @property
    def main_address(self) -> str:
        """The first node of the list of nodes: ``host[7-9,12],other`` gives ``host7``."""
        given = os.environ.get("MASTER_ADDR")
        if given is not None:
            return given
        return first_node(os.environ.get("SLURM_STEP_NODELIST", os.environ.get("SLURM_NODELIST", "127.0.0.1")))

    def job(self) -> str:
        """The job's number."""
        return os.environ.get("SLURM_JOB_ID", "")


def first_node(nodes: str) -> str:
    """The first host of a list in SLURM's short form."""
    head = re.match(r"([^,\[]+)(?:\[(\d+)[^\]]*\])?", nodes)
    return f"{head[1]}{head[2] or ''}" if head else nodes
