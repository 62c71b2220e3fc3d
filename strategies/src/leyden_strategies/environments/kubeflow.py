"""Processes that Kubeflow's PyTorchJob started, one a pod."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

from leyden_strategies.environments.variables import VariablesEnvironment


class KubeflowEnvironment(VariablesEnvironment):
    """A pod of a PyTorchJob, by the variables that the operator sets."""

    name = "kubeflow"
    priority = 10
    marker = "KUBERNETES_PORT"
    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {"rank": ("RANK",), "world_size": ("WORLD_SIZE",)}

    @classmethod
    def is_marked(cls) -> bool:
        """Whether the operator has set an address and a rank; torchrun and leyden inside of the pod have a higher priority."""
        return super().is_marked() and {"MASTER_ADDR", "MASTER_PORT", "RANK"} <= set(os.environ)

    @property
    def local_rank(self) -> int:
        """Each pod has one process."""
        return 0

    @property
    def local_world_size(self) -> int:
        """Each pod has one process."""
        return 1

    @property
    def node_rank(self) -> int:
        """Each pod is a node."""
        return self.rank
