"""After every step all ranks have the same parameters, to the bit, in every way of training."""

from __future__ import annotations

import leyden as ly
import pytest
import torch
from leyden.testing import run_ranks
from torch import nn


class Same(ly.Callback):
    """Compares the parameters of all ranks after every batch."""

    compared = 0

    def on_train_batch_end(self, trainer, module):
        flat = torch.cat([parameter.detach().double().reshape(-1) for parameter in module.parameters()])
        first, *others = trainer.strategy.all_gather(flat)
        for rank, other in enumerate(others, 1):
            assert torch.equal(first, other), f"rank {rank} has other parameters after step {trainer.global_step}"
        assert torch.isfinite(flat).all()
        self.compared += 1


class Net(ly.Module):
    """Something to train on data that differ from rank to rank, with dropout and batch norm."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.Linear(4, 1))

    def loss(self, batch):
        return (self.net(batch) ** 2).mean()

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.05)


class Manual(Net):
    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        self.clip_gradients(optimizer, 0.1)
        optimizer.step()


class ManualOverflows(Manual):
    def loss(self, batch):
        self.calls = getattr(self, "calls", 0) + 1
        return super().loss(batch) * (1e38 if self.global_rank == 1 and self.calls == 2 else 1.0)


class Overflows(Net):
    def training_step(self, batch, batch_idx):
        return self.loss(batch) * (1e38 if self.global_rank == 1 and batch_idx == 2 else 1.0)


class Skips(Net):
    def training_step(self, batch, batch_idx):
        return None if (self.global_rank, batch_idx) in ((1, 1), (0, 3)) else self.loss(batch)


class NotFinite(Net):
    def training_step(self, batch, batch_idx):
        return self.loss(batch) * (float("nan") if (self.global_rank, batch_idx) == (1, 2) else 1.0)


class BadGradient(Net):
    """Has a gradient that is not finite, of a loss that is, on one rank."""

    def training_step(self, batch, batch_idx):
        weight = self.net[0].weight
        if (self.global_rank, batch_idx) == (1, 2):
            return self.loss(batch) + torch.sqrt((weight * 0.0).sum())
        return self.loss(batch)


class Turns(Net):
    def training_step(self, batch, batch_idx, optimizer_idx):
        return self.loss(batch)

    def configure_optimizers(self):
        return [torch.optim.SGD(self.net[0].parameters(), 0.1), torch.optim.AdamW(self.net[3].parameters(), 0.1)]


class Together(Turns):
    def training_step(self, batch, batch_idx):
        return self.loss(batch)


class Closure(Net):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


class Clips(Net):
    def configure_gradient_clipping(self, optimizer, gradient_clip_val, gradient_clip_algorithm):
        self.clip_gradients(optimizer, 0.01)


class Unused(Net):
    """Ranks use different parts of it."""

    def __init__(self):
        super().__init__()
        self.others = nn.ModuleList([nn.Linear(3, 1), nn.Linear(3, 1)])

    def training_step(self, batch, batch_idx):
        return self.loss(batch) + self.others[self.global_rank](batch).mean()


MODES = {
    "plain": (Net, {}),
    "norm": (Net, {"gradient_clip_val": 0.05}),
    "value": (Net, {"gradient_clip_val": 0.05, "gradient_clip_algorithm": "value"}),
    "own clipping": (Clips, {}),
    "windows": (Net, {"accumulate_grad_batches": 4}),
    "windows carried": (Net, {"accumulate_grad_batches": 4, "carry_accumulation": True}),
    "half": (Overflows, {"precision": "16-mixed", "gradient_clip_val": 0.05}),
    "half in windows": (Overflows, {"precision": "16-mixed", "accumulate_grad_batches": 4}),
    "bf16": (Net, {"precision": "bf16-mixed"}),
    "all bf16": (Net, {"precision": "bf16-true"}),
    "double": (Net, {"precision": "64-true"}),
    "manual": (Manual, {}),
    "manual in half": (ManualOverflows, {"precision": "16-mixed"}),
    "skipping": (Skips, {}),
    "skipping in windows": (Skips, {"accumulate_grad_batches": 2}),
    "all skip": (Skips, {"strategy": {"ddp": {"skipped": "skip_all"}}}),
    "not finite": (NotFinite, {"nan_policy": "skip"}),
    "bad gradient": (BadGradient, {"nan_policy": "skip"}),
    "bad gradient in windows": (BadGradient, {"nan_policy": "skip", "accumulate_grad_batches": 3}),
    "turns": (Turns, {}),
    "together": (Together, {}),
    "closure": (Closure, {}),
    "unused": (Unused, {"strategy": "ddp_find_unused_parameters_true"}),
    "averaged weights": (Net, {"callbacks": [{"stochastic_weight_averaging": {"swa_lrs": 0.01, "swa_epoch_start": 1}}]}),
    "ema": (Net, {"callbacks": ["ema"]}),
    "pruned": (Net, {"callbacks": [{"pruning": {"pruning_fn": "l1_unstructured", "amount": 0.3}}]}),
}


@pytest.mark.parametrize("mode", MODES)
def test_all_ranks_have_the_same_parameters_after_every_step(ranked, mode):
    module, options = MODES[mode]

    def fit(environment):
        same = Same()
        given = {**options, "callbacks": [*options.get("callbacks", []), same], "max_epochs": 2}
        strategy = given.pop("strategy", "ddp")
        torch.manual_seed(environment.rank)
        data = [torch.randn(4 + environment.rank, 3) for _ in range(6)]
        trainer = ranked(environment, strategy=strategy, **given)
        trainer.fit(module(), data)
        return same.compared, trainer.global_step

    first, second = run_ranks(fit)
    assert first == second
    assert first[0] == 12
    assert first[1] > 0
