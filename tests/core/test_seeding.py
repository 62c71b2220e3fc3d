"""seed_everything, derived seeds, and code that draws without a trace."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from leyden import seed_everything
from leyden.seeding import derived_seed, isolated_random_state, random_state, set_random_state


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_the_same_seed_draws_the_same():
    assert seed_everything(5) == 5
    first = draw()
    seed_everything(5)
    assert draw() == first
    seed_everything(6)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_without_a_seed_the_variable_says_it_and_else_it_is_0():
    assert seed_everything() == 0
    os.environ["LEYDEN_SEED"] = "17"
    assert seed_everything() == 17


def test_processes_that_are_started_later_find_the_seed():
    seed_everything(8, workers=True)
    assert os.environ["LEYDEN_SEED"] == "8"


def test_nothing_is_printed(capsys):
    seed_everything(1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("seed", [-1, 2**32, "many", "1.5", 1.5, float("nan"), float("inf")])
def test_a_seed_is_a_whole_number_of_32_bits(seed):
    with pytest.raises(ValueError) as caught:
        seed_everything(seed)
    assert str(caught.value) == f"seed={seed!r}: expected a whole number from 0 to 4294967295"


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_ends_of_the_range_are_seeds(seed):
    assert seed_everything(seed) == seed


def test_a_variable_that_is_no_seed_is_an_error():
    os.environ["LEYDEN_SEED"] = "abc"
    with pytest.raises(ValueError) as caught:
        seed_everything()
    assert str(caught.value) == "seed='abc': expected a whole number from 0 to 4294967295"


def test_no_cudnn_flag_is_touched():
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    seed_everything(1)
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == before


def test_derived_seeds_differ_by_every_part_and_never_change():
    seeds = {derived_seed(seed, rank, epoch, "worker", worker) for seed in (0, 1) for rank in (0, 1) for epoch in range(3)
             for worker in range(3)}  # fmt: skip
    assert len(seeds) == 36
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(1, 23) != derived_seed(12, 3)
    assert derived_seed(1, "a") == 4207620368297011618


def test_what_is_drawn_in_isolation_leaves_no_trace():
    seed_everything(2)
    expected = draw()
    seed_everything(2)
    with isolated_random_state():
        draw()
    assert draw() == expected
    seed_everything(2)

    @isolated_random_state()
    def fails():
        draw()
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fails()
    assert draw() == expected


def test_a_state_can_be_put_back():
    state = random_state()
    first = draw()
    set_random_state(state)
    assert draw() == first
