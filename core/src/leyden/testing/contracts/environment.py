"""What core relies on in a cluster environment."""

from __future__ import annotations

from leyden.environment import ClusterEnvironment
from leyden.testing.contracts.runs import introduced


class EnvironmentContract:
    """Subclass it as ``class TestAcme(EnvironmentContract)`` and return an environment from :meth:`environment`.

    Set the variables of a launcher in a fixture of the subclass; without them, an environment describes one process.
    """

    def environment(self) -> ClusterEnvironment:
        """A new environment."""
        raise NotImplementedError(f"{type(self).__name__}.environment must return the environment to test")

    def test_says_who_it_is(self) -> None:
        environment = self.environment()
        introduced(environment, ClusterEnvironment)

    def test_detect_and_creates_processes_externally_are_yes_or_no(self) -> None:
        environment = self.environment()
        detected, external = environment.detect(), environment.creates_processes_externally
        assert isinstance(detected, bool), f"detect() returned {detected!r}, not a bool"
        assert isinstance(external, bool), f"creates_processes_externally is {external!r}, not a bool"

    def test_ranks_are_consistent(self) -> None:
        environment = self.environment()
        numbers = {name: getattr(environment, name) for name in ("world_size", "rank", "local_rank", "node_rank")}
        for name, number in numbers.items():
            assert type(number) is int, f"{name} is {number!r}, not an int"
        assert numbers["world_size"] >= 1, f"world_size is {numbers['world_size']}"
        assert 0 <= numbers["rank"] < numbers["world_size"], f"rank {numbers['rank']} is not below {numbers['world_size']}"
        assert 0 <= numbers["local_rank"] <= numbers["rank"], f"local_rank {numbers['local_rank']} of rank {numbers['rank']}"
        assert 0 <= numbers["node_rank"] <= numbers["rank"], f"node_rank {numbers['node_rank']} of rank {numbers['rank']}"

    def test_the_meeting_point_is_a_host_and_a_port(self) -> None:
        environment = self.environment()
        address, port = environment.main_address, environment.main_port
        assert isinstance(address, str), f"main_address is {address!r}, not a str"
        assert address, "main_address is empty"
        assert port in range(65536), f"main_port is {port!r}, not an int from 0 to 65535"

    def test_answers_stay_the_same(self) -> None:
        one, other = self.environment(), self.environment()
        for name in ("world_size", "rank", "local_rank", "node_rank", "main_address", "main_port"):
            found = getattr(one, name), getattr(one, name), getattr(other, name)
            assert len(set(found)) == 1, f"{name} was {found} when asked three times in one process"
