"""Which processes take part in a run, and who started them."""

from __future__ import annotations

from leyden.component import Component


class ClusterEnvironment(Component):
    """One process, started by the user; subclasses read what a launcher or scheduler says.

    Values are read when asked for, not at import.
    """

    group = "leyden.environments"
    kind = "environment"
    name = "local"

    @classmethod
    def detect(cls) -> bool:
        """Whether this process runs under such an environment, with a consistent set of variables."""
        return False

    @property
    def creates_processes_externally(self) -> bool:
        """Whether the other processes exist already, so that the strategy must not start them."""
        return False

    @property
    def world_size(self) -> int:
        """How many processes take part."""
        return 1

    @property
    def rank(self) -> int:
        """This process among all of them, from 0."""
        return 0

    @property
    def local_rank(self) -> int:
        """This process among those of its node, from 0."""
        return 0

    @property
    def node_rank(self) -> int:
        """This node among the nodes, from 0."""
        return 0

    @property
    def main_address(self) -> str:
        """The host on which rank 0 listens."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """The port on which rank 0 listens; 0 where nobody needs to."""
        return 0
