"""Processes that leyden itself started on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from leyden_strategies.environments.variables import VariablesEnvironment
from leyden_strategies.launchers.board import RUN_DIRECTORY


class LocalEnvironment(VariablesEnvironment):
    """One process started by the user, or the ranks that a launcher of leyden made of it."""

    name = "local"
    priority = 100  # whatever scheduler it was under which leyden started them
    marker = RUN_DIRECTORY
    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "rank": ("RANK",),
        "world_size": ("WORLD_SIZE",),
        "local_rank": ("LOCAL_RANK",),
        "local_world_size": ("LOCAL_WORLD_SIZE",),
        "node_rank": ("NODE_RANK",),
    }

    def __init__(self) -> None:
        if self.is_marked():
            super().__init__()

    def reason(self) -> str:
        """Why it was chosen."""
        return "by running the script again" if self.is_marked() else "nothing says otherwise"

    @property
    def creates_processes_externally(self) -> bool:
        """Whether a launcher of ours has started them."""
        return self.is_marked()

    def _number(self, what: str, default: int) -> int:
        return super()._number(what, default) if self.is_marked() else default
