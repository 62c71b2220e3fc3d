"""The ranks agree at which step they stop, through the store and without a collective."""

from __future__ import annotations

from leyden_strategies.group import Store


class StopAgreement:
    """Finds one training batch after which every rank stops, once one of them was asked to.

    Nothing is communicated as long as nobody is asked. Then each rank says at every batch which training batch it may have
    begun when it goes on. The rank that first sees that all have spoken takes the highest of these; no rank can have begun a
    later one, because each looks for the others after it spoke and before it goes on.
    """

    def __init__(self, store: Store, run: int, rank: int, world_size: int) -> None:
        """Takes the place where ranks speak.

        Args:
            store: of the run's processes.
            run: tells runs of one process apart; the same on all ranks.
            rank: this process.
            world_size: how many there are.
        """
        self._store = store
        self._prefix = f"leyden/stop/{run}"
        self._rank = rank
        self._world_size = world_size
        self.signal: int | None = None
        """The signal for which the ranks stop; None while none came."""
        self.target: int | None = None
        """The number of training batches after which all stop, once that is agreed."""
        self._asked = False

    def poll(self) -> bool:
        """Whether a rank was asked to stop; a thread calls it."""
        if self.signal is None and self._store.check([f"{self._prefix}/signal"]):
            self.signal = int(self._store.get(f"{self._prefix}/signal"))
        return self.signal is not None

    def request(self, number: int) -> int:
        """Has all ranks stop; returns the first signal that came to any."""
        if not self._asked:
            self._asked = True
            self._store.compare_set(f"{self._prefix}/signal", "", str(number))
            self.signal = int(self._store.get(f"{self._prefix}/signal"))
        assert self.signal is not None
        return self.signal

    def reached(self, done: int, going_on_to: int) -> bool:
        """Whether this rank is to stop now.

        Args:
            done: training batches that this rank has completed.
            going_on_to: the last training batch that it may begin before it asks again, counted from 1; ``done`` inside of an
                evaluation.
        """
        if self.target is None:
            self._store.set(f"{self._prefix}/at/{self._rank}", str(going_on_to))
            keys = [f"{self._prefix}/at/{rank}" for rank in range(self._world_size)]
            if not self._store.check(keys):
                return False
            highest = max(int(self._store.get(key)) for key in keys)
            self._store.compare_set(f"{self._prefix}/target", "", str(highest))
            self.target = int(self._store.get(f"{self._prefix}/target"))
        return done >= self.target
