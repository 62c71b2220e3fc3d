"""Processes that LSF's jsrun started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from leyden_strategies.environments.variables import VariablesEnvironment


class LSFEnvironment(VariablesEnvironment):
    """The tasks of an LSF job, by the variables that ``jsrun`` sets for each."""

    name = "lsf"
    priority = 30
    marker = "LSB_JOBID"
    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rank": ("JSM_NAMESPACE_RANK",),
        "world_size": ("JSM_NAMESPACE_SIZE",),
        "local_rank": ("JSM_NAMESPACE_LOCAL_RANK",),
        "local_world_size": ("JSM_NAMESPACE_LOCAL_SIZE",),
    }

    @classmethod
    def is_marked(cls) -> bool:
        """Whether this is a task, not the script that starts them."""
        return super().is_marked() and "JSM_NAMESPACE_RANK" in os.environ

    @property
    def main_address(self) -> str:
        """The first host of the job that computes; LSF lists the one that only launches first."""
        if "MASTER_ADDR" in os.environ:
            return os.environ["MASTER_ADDR"]
        file = os.environ.get("LSB_DJOB_RANKFILE")
        if file and Path(file).exists():
            hosts = Path(file).read_text(encoding="utf-8").split()
        else:
            hosts = os.environ.get("LSB_HOSTS", "").split()
        return (hosts[1:] or hosts or ["127.0.0.1"])[0]

    def job(self) -> str:
        """The job's number."""
        return os.environ.get("LSB_JOBID", "")
