"""Reads sets of environment variables that say which process this is, and finds what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

from leyden import ClusterEnvironment
from leyden.messages import listed


class VariablesEnvironment(ClusterEnvironment):
    """An environment that is a set of variables; a subclass names them.

    It is there if ``marker`` is set, and consistent if the numbers of processes agree with each other.
    """

    marker: ClassVar[str]
    """The variable that says that such an environment is there."""

    variables: ClassVar[Mapping[str, tuple[str, ...]]]
    """For each of ``rank``, ``world_size``, ``local_rank``, ``local_world_size`` and ``node_rank`` the variables that may have
    it, the first that is set counts; ``node_rank`` and ``local_world_size`` may be left out."""

    @classmethod
    def is_marked(cls) -> bool:
        """Whether the marker is set, so that the variables are meant to be read."""
        return cls.marker in os.environ

    @classmethod
    def detect(cls) -> bool:
        """Whether the variables are there and consistent."""
        return cls.is_marked() and not cls.problem()

    @classmethod
    def problem(cls) -> str:
        """What is wrong with the variables, if they are meant to be read; empty if nothing is."""
        if not cls.is_marked():
            return ""
        numbers: dict[str, int] = {}
        for what, names in cls.variables.items():
            name = next((name for name in names if name in os.environ), None)
            if name is None:
                if what not in ("local_world_size", "node_rank"):
                    return f"{cls.marker} is set but {' or '.join(names)} is not"
                continue
            try:
                numbers[what] = int(os.environ[name])
            except ValueError:
                return f"{name}={os.environ[name]!r} is no number"
        for low, high in (("rank", "world_size"), ("local_rank", "local_world_size"), ("local_world_size", "world_size")):
            limit = numbers.get(high)
            if low in numbers and limit is not None and not 0 <= numbers[low] < limit + (low == "local_world_size"):
                return f"{cls._shown(low)} does not go with {cls._shown(high)}"
        if numbers.get("local_rank", 0) > numbers["rank"]:
            return f"{cls._shown('local_rank')} does not go with {cls._shown('rank')}"
        return ""

    @classmethod
    def _shown(cls, what: str) -> str:
        name = next(name for name in cls.variables[what] if name in os.environ)
        return f"{name}={os.environ[name]}"

    def __init__(self) -> None:
        if not self.is_marked():
            wanted = [self.marker, *(names[0] for what, names in self.variables.items() if what in ("rank", "world_size"))]
            raise ValueError(
                f"environment={self.name!r}: its variables are not set here; it needs {listed(dict.fromkeys(wanted))}"
            )
        wrong = self.problem()
        if wrong:
            raise ValueError(f"environment={self.name!r}: {wrong}")

    def _number(self, what: str, default: int) -> int:
        return next((int(os.environ[name]) for name in self.variables.get(what, ()) if name in os.environ), default)

    def reason(self) -> str:
        """Why it was chosen."""
        return f"{self.marker} is set, {self._shown('rank')}, {self._shown('world_size')}"

    @property
    def creates_processes_externally(self) -> bool:
        """The other processes exist already."""
        return True

    @property
    def world_size(self) -> int:
        """How many processes take part."""
        return self._number("world_size", 1)

    @property
    def rank(self) -> int:
        """This process among all of them, from 0."""
        return self._number("rank", 0)

    @property
    def local_rank(self) -> int:
        """This process among those of its node, from 0."""
        return self._number("local_rank", 0)

    @property
    def local_world_size(self) -> int:
        """How many processes this node has."""
        return self._number("local_world_size", self.world_size)

    @property
    def node_rank(self) -> int:
        """This node among the nodes, from 0."""
        return self._number("node_rank", self.rank // max(self.local_world_size, 1))

    @property
    def main_address(self) -> str:
        """The host on which rank 0 listens: ``MASTER_ADDR``, or this machine."""
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        """The port on which rank 0 listens: ``MASTER_PORT``, or one that all processes of the job work out alike."""
        return int(os.environ.get("MASTER_PORT", self.port_of_job()))

    def port_of_job(self) -> int:
        """A port from 15000 to 24999 by the job's number, so that two jobs on one machine rarely meet."""
        digits = "".join(character for character in self.job() if character.isdigit())
        return 15000 + int(digits or "0") % 10000

    def job(self) -> str:
        """What tells this job from others; the same on all of its processes."""
        return ""
