"""DDP's forward is shortened once it does the same in each step, and only where nothing asks for all of it."""

from __future__ import annotations

from typing import Any

import leyden as ly
import pytest
import torch
from leyden.testing import run_ranks
from torch import nn
from torch._dynamo.utils import counters
from torch.nn.parallel import DistributedDataParallel

STEPS = 9
SHORT, WHOLE = 2, STEPS


class Line(ly.Module):
    """A linear map, and a norm whose statistics are buffers."""

    def __init__(self, compiled: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
        if compiled:
            self.net = torch.compile(self.net, backend="eager")  # type: ignore[assignment]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return (self.net(batch) ** 2).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(ranked, environment, module=None, whole=False, **options):
    """How often DDP's own forward ran, and the weights that came of it."""
    calls = 0
    original = DistributedDataParallel.forward

    def counting(self, *args, **kwargs):
        nonlocal calls
        calls += 1
        if whole:
            self._has_rebuilt_buckets = False
        return original(self, *args, **kwargs)

    counters.clear()  # another test of this process may have compiled something
    torch.manual_seed(environment.rank)
    data = [torch.randn(4, 3) for _ in range(STEPS)]
    module = module or Line()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DistributedDataParallel, "forward", counting)
        ranked(environment, **options).fit(module, data)
    return calls, [parameter.tolist() for parameter in module.parameters()]


OPTIONS = {
    "nothing": ({}, SHORT),
    "accumulation": ({"accumulate_grad_batches": 3}, 8),  # two windows, and what is local of the third
    "unused parameters": ({"strategy": "ddp_find_unused_parameters_true"}, WHOLE),
    "a static graph": ({"strategy": {"ddp": {"static_graph": True}}}, WHOLE),
    "buffers": ({"strategy": {"ddp": {"broadcast_buffers": True}}}, WHOLE),
    "a profiler": ({"profiler": "simple"}, WHOLE),
    "several buckets": ({"strategy": {"ddp": {"bucket_cap_mb": 1}}}, SHORT),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_only_the_first_steps_take_all_of_ddps_forward_unless_an_option_needs_it(ranked, name):
    options, expected = OPTIONS[name]
    assert [calls for calls, _ in run_ranks(lambda environment: trained(ranked, environment, **options))] == [expected] * 2


def test_the_compiler_is_told_which_ddp_runs(ranked):
    assert [calls for calls, _ in run_ranks(lambda e: trained(ranked, e, Line(compiled=True)))] == [WHOLE] * 2


def test_ddps_own_reports_are_made(ranked, monkeypatch):
    monkeypatch.setenv("TORCH_DISTRIBUTED_DEBUG", "INFO")
    assert [calls for calls, _ in run_ranks(lambda environment: trained(ranked, environment))] == [WHOLE] * 2


def test_the_short_forward_trains_to_the_bits_as_the_whole_one(ranked):
    (_, short), (_, short_too) = run_ranks(lambda environment: trained(ranked, environment))
    (_, whole), _ = run_ranks(lambda environment: trained(ranked, environment, whole=True))
    assert short == short_too == whole


class SeesLosses(ly.Callback):
    """Keeps what made each loss that backward is run on."""

    def __init__(self) -> None:
        self.made_by: list[str] = []

    def on_before_backward(self, loss: torch.Tensor) -> None:
        assert loss.grad_fn is not None
        self.made_by.append(loss.grad_fn.name())


OWN, COUNTED = "MeanBackward0", "AddBackward0"
COUNTS = {
    "steps": ({}, [COUNTED] * SHORT + [OWN] * (STEPS - SHORT)),
    "accumulation": ({"accumulate_grad_batches": 3}, ["MulBackward0"] * STEPS),
    "clipping": ({"gradient_clip_val": 0.1}, [COUNTED] * SHORT + [OWN] * (STEPS - SHORT)),
    "a profiler, for which all of DDP's forward runs": ({"profiler": "simple"}, [COUNTED] * STEPS),
}


@pytest.mark.parametrize("name", COUNTS)
def test_backward_runs_on_the_loss_as_it_is_once_ddp_is_told_what_was_counted(ranked, name):
    options, expected = COUNTS[name]

    def made_by(environment):
        seen = SeesLosses()
        trained(ranked, environment, callbacks=[seen], **options)
        return seen.made_by

    assert run_ranks(made_by) == [expected] * 2
