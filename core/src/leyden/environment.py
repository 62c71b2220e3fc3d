"""Which processes take part in a run, and who started them."""

from __future__ import annotations

from typing import ClassVar

from leyden.component import Component


class ClusterEnvironment(Component):
    """One process, started by the user; subclasses read what a launcher or scheduler says.

    Values are read when asked for, not at import.
    """

    group = "leyden.environments"
    kind = "environment"
    name = "local"

    priority: ClassVar[int] = 0
    """Which of several environments that detect themselves is taken: torchrun may run inside of a scheduler's job."""

    @classmethod
    def detect(cls) -> bool:
        """Whether this process runs under such an environment, with a consistent set of variables."""
        return False

    @classmethod
    def problem(cls) -> str:
        """Why the environment is not used though its variables are there: what is inconsistent; empty if nothing is."""
        return ""

    def reason(self) -> str:
        """Why it was chosen, in a few words, for the user to see."""
        return "nothing says otherwise"

    @property
    def requeue_signal(self) -> int | None:
        """The signal by which a scheduler says that the job's time is over and that it is to be queued again; None if none."""
        return None

    def requeue(self) -> None:
        """Queues the job again; called on rank 0 when that signal came and the state is saved."""

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
    def local_world_size(self) -> int:
        """How many processes this node has."""
        return 1

    @property
    def node_rank(self) -> int:
        """This node among the nodes, from 0."""
        return 0

    @property
    def has_store(self) -> bool:
        """Whether a ``torch.distributed.TCPStore`` listens at that address already, so that rank 0 must not open one."""
        return False

    @property
    def main_address(self) -> str:
        """The host on which rank 0 listens."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """The port on which rank 0 listens; 0 where nobody needs to."""
        return 0
