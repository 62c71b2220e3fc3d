"""Processes that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

from leyden_strategies.environments.variables import VariablesEnvironment


class TorchElasticEnvironment(VariablesEnvironment):
    """``torchrun``, by the variables it sets for each process."""

    name = "torchelastic"
    priority = 50
    marker = "TORCHELASTIC_RUN_ID"
    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rank": ("RANK",),
        "world_size": ("WORLD_SIZE",),
        "local_rank": ("LOCAL_RANK",),
        "local_world_size": ("LOCAL_WORLD_SIZE",),
        "node_rank": ("GROUP_RANK",),
    }

    def job(self) -> str:
        """The id of the job, ``torchrun --rdzv-id``."""
        return os.environ.get("TORCHELASTIC_RUN_ID", "")

    @property
    def has_store(self) -> bool:
        """Whether torchrun's agent has a store, as it has unless told otherwise."""
        return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
