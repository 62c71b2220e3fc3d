"""Losses, gradients and parameters that are not finite: noticed, and never in the place of a finite checkpoint."""

from __future__ import annotations

import math

import pytest
import torch
from leyden import Callback, Module, NonFiniteError, Trainer
from leyden.testing import TinyModule

pytestmark = pytest.mark.usefixtures("core_alone")

ADVICE = (
    "a smaller learning rate, gradient_clip_val=... or other data may help, Trainer(detect_anomaly=True) finds the operation; "
    "nan_policy='skip' leaves such steps out, 'off' goes on"
)
BAD_PARAMETER = "the first parameter that is not finite: layer.weight (16 of 16 values)"


class Bad(TinyModule):
    """Its loss in batch 5 of all is not finite; what it logs is, at first."""

    def __init__(self, value=math.nan, manual=False, logs=True):
        super().__init__()
        self.value, self.automatic_optimization, self.logs = value, not manual, logs

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        if self.logs:
            self.log("train_loss", loss)
        if self.trainer.progress.total_batches == 5:
            loss = loss * self.value
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss


def trainer(policy, **options):
    return Trainer(**{"max_epochs": 3, "nan_policy": policy, "log_every_n_steps": 3, "limit_val_batches": 0, **options})


def refusal(trainer, module):
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(module)
    return str(caught.value)


def test_by_default_a_logged_value_that_is_not_finite_stops_the_run_if_a_parameter_is_not_either():
    run = trainer(None, limit_train_batches=4, log_every_n_steps=7)
    assert refusal(run, Bad()) == (
        f"the logged 'train_loss' is nan and training went wrong by step 7 (epoch 1, batch 3): {BAD_PARAMETER}; {ADVICE}"
    )


@pytest.mark.parametrize("manual", [False, True])
def test_by_default_parameters_are_looked_at_when_an_epoch_ends(manual):
    run = trainer(None, log_every_n_steps=0)
    assert refusal(run, Bad(manual=manual, logs=False)) == (
        f"training went wrong by step 8 (epoch 1, batch 4): {BAD_PARAMETER}; {ADVICE}"
    )


def test_a_metric_that_is_not_finite_while_parameters_are_stops_nothing():
    class Odd(TinyModule):
        def training_step(self, batch, batch_idx):
            self.log("odd", math.nan, on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

    run = trainer(None)
    history = run.fit(Odd())
    assert math.isnan(history["odd_step"][0])
    assert run.global_step == 12


@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize(("value", "shown"), [(math.nan, "nan"), (math.inf, "inf")])
def test_stop_names_the_step_and_the_batch_at_the_next_log_point(value, shown, manual):
    run = trainer("stop")
    assert refusal(run, Bad(value, manual=manual, logs=False)) == (
        f"the loss of step 5 is {shown} (epoch 1 batch 1); {BAD_PARAMETER}; {ADVICE}"
    )
    assert run.global_step == 6


@pytest.mark.parametrize("manual", [False, True])
def test_strict_stops_before_the_update(manual):
    module = Bad(manual=manual)
    run = trainer("strict")
    assert refusal(run, module) == (
        "the update after step 5 (epoch 1, batch 1) was not done: its loss is nan; the first gradient that is not finite: "
        f"layer.weight (16 of 16 values); {ADVICE}"
    )
    assert run.global_step == 5
    assert run.is_finite()


def test_strict_looks_at_gradients_of_a_finite_loss_too():
    class Root(Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(2))

        def training_step(self, batch, batch_idx):
            return torch.sqrt(self.weight.abs() * 0).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    with pytest.raises(NonFiniteError) as caught:
        Trainer(max_epochs=1, nan_policy="strict").fit(Root(), [torch.ones(1)])
    assert str(caught.value) == (
        "the update after step 0 (epoch 0, batch 0) was not done: its loss is 0.0; the first gradient that is not finite: "
        f"weight (2 of 2 values); {ADVICE}"
    )


@pytest.mark.parametrize("manual", [False, True])
def test_skip_leaves_the_update_out_and_counts_it(manual):
    module, run = Bad(manual=manual), trainer("skip")
    run.fit(module)
    assert (run.global_step, run.progress.skipped_steps, run.progress.optimizer_steps) == (11, 1, [11])
    assert run.is_finite()


@pytest.mark.parametrize("policy", ["stop", "skip", "strict", "off", None])
def test_no_policy_changes_a_bit_of_a_run_that_is_finite(policy):
    results = []
    for chosen in ("off", policy):
        torch.manual_seed(1)
        module = TinyModule()
        trainer(chosen, accumulate_grad_batches=2).fit(module)
        results.append(module.layer.weight.detach().clone())
    assert torch.equal(*results)


def test_off_goes_on():
    run = trainer("off")
    run.fit(Bad())
    assert run.global_step == 12
    assert not run.is_finite()


class Saves(Callback):
    """Saves after every batch, and after an exception."""

    def __init__(self, path):
        self.path, self.saved = path, []

    def on_train_batch_end(self, trainer):
        trainer.save_checkpoint(self.path)
        self.saved.append(trainer.global_step)

    def on_exception(self, trainer):
        trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("policy", [None, "stop"])
def test_parameters_that_are_not_finite_never_replace_a_finite_checkpoint(tmp_path, policy):
    path = str(tmp_path / "last.ckpt")
    saves = Saves(path)
    run = trainer(policy, log_every_n_steps=0, callbacks=[saves])
    with pytest.raises(NonFiniteError) as caught:
        run.fit(Bad())
    message = f"{path!r} is not written: training went wrong by step 6 (epoch 1, batch 2): {BAD_PARAMETER}; {ADVICE}"
    assert str(caught.value) == message
    assert caught.value.__notes__ == [f"afterwards, on_exception of Saves raised NonFiniteError: {message}"]
    assert saves.saved == [1, 2, 3, 4, 5]
    state = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.isfinite(value).all() for value in state.values())


def test_after_the_run_whoever_wants_to_look_at_it_may_save_it(tmp_path):
    run = trainer(None)
    with pytest.raises(NonFiniteError):
        run.fit(Bad())
    run.save_checkpoint(tmp_path / "post-mortem.ckpt")


def test_a_closure_is_looked_at_before_its_optimizer_goes_on():
    class Newton(Bad):
        def configure_optimizers(self):
            return torch.optim.LBFGS(self.parameters(), max_iter=2)

    message = refusal(trainer("strict"), Newton())
    assert message.startswith("the update after step 5 (epoch 1, batch 1) was not done: its loss is nan; the first gradient")
    with pytest.raises(ValueError) as caught:
        trainer("skip").fit(Newton())
    assert str(caught.value) == (
        "nan_policy='skip': LBFGS evaluates the loss itself and cannot take back what it did before; use nan_policy='strict' or "
        "'stop'"
    )


def test_frozen_parameters_and_buffers_may_be_infinite():
    """As masks of attention are."""

    class Masked(TinyModule):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.full((3,), -math.inf))
            self.frozen = torch.nn.Parameter(torch.full((3,), -math.inf), requires_grad=False)

    run = trainer(None)
    run.fit(Masked())
    assert run.global_step == 12


@pytest.mark.parametrize(("policy", "reads"), [("off", False), (None, False), ("stop", False), ("strict", True)])
def test_only_strict_and_skip_read_the_device_between_log_points(monkeypatch, policy, reads):
    module = TinyModule()
    run = trainer(policy, max_epochs=1, log_every_n_steps=0)
    seen = []
    real = torch.Tensor.__bool__
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: seen.append(run.progress.batch) or real(self))
    run.fit(module)
    assert any(batch < 4 for batch in seen) is reads


@pytest.mark.parametrize("policy", ["stop", "skip", "strict"])
def test_no_loss_is_kept_longer_than_it_must_be(policy):
    run = trainer(policy, log_every_n_steps=2)
    kept = []

    class Counts(Callback):
        def on_train_batch_start(self):
            kept.append(len(run.finite_watch.losses))

    run.callbacks.append(Counts())
    run.fit(TinyModule())
    assert max(kept) == (1 if policy == "stop" else 0)
