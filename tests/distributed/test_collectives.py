"""What is told between processes leaves nothing behind in a thread that would abort a process which ends."""

from __future__ import annotations

import leyden as ly
import torch
from leyden.testing import TinyModule, run_ranks


def in_a_fit(ranked, function):
    """What a function of the strategy gives on each of two ranks, called once in a fit."""

    class Asks(ly.Callback):
        def on_train_start(self, trainer):
            self.found = function(trainer.strategy)

    def train(environment):
        asks = Asks()
        ranked(environment, callbacks=[asks]).fit(TinyModule())
        return asks.found

    return run_ranks(train)


def test_when_a_reduction_returns_no_thread_holds_its_tensor(ranked):
    def ask(strategy):
        return max(strategy.all_reduce(torch.ones(2))._use_count() for _ in range(300))

    assert in_a_fit(ranked, ask) == [1, 1]


def test_objects_of_any_size_reach_all_ranks(ranked):
    def ask(strategy):
        own = {"rank": strategy.rank, "text": "x" * (10 + 5000 * strategy.rank), "none": None}
        nothing = strategy.broadcast(None if strategy.rank else ())
        return strategy.all_gather_object(own), strategy.broadcast(own, source=1), nothing

    first, second = in_a_fit(ranked, ask)
    assert first == second
    everybody, from_one, from_zero = first
    assert [(found["rank"], len(found["text"])) for found in everybody] == [(0, 10), (1, 5010)]
    assert from_one == everybody[1]
    assert from_zero == ()
