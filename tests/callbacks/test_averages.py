"""Averages of the weights: exponential and over the last epochs."""

from __future__ import annotations

import copy
import itertools
import signal
import subprocess
import sys

import pytest
import torch
from leyden import Terminated, Trainer
from leyden.testing import TinyModule, run_ranks
from leyden_callbacks import EMA, BackboneFinetuning, LambdaCallback, ModelCheckpoint, StochasticWeightAveraging
from torch import nn
from torch.utils.data import DataLoader


def weights(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class ByHand:
    """The average that a loop written by hand would keep."""

    def __init__(self, decay, every=1):
        self.decay, self.every, self.average, self.step = decay, every, None, 0

    def on_train_start(self, module):
        self.average = weights(module)

    def on_train_batch_end(self, trainer, module):
        if trainer.global_step != self.step and trainer.global_step % self.every == 0:
            for name, value in weights(module).items():
                self.average[name] = torch.lerp(self.average[name], value, 1 - self.decay)
        self.step = trainer.global_step


class Shared(TinyModule):
    """Two layers that share a weight, batch normalization and dropout."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.2)

    def forward(self, x):
        return self.layer(self.drop(self.norm(self.second(self.first(x)))))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)


# ---- ema ----


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}])
def test_the_average_is_that_of_a_loop_by_hand(fit, settings):
    ema, hand = EMA(0.9), ByHand(0.9)
    fit(hand, ema, module=Shared(), **settings)
    assert same(ema.average, hand.average)


def test_updates_every_few_steps_and_from_a_step_on(fit):
    ema, hand, late = EMA(0.9, update_every_n_steps=3), ByHand(0.9, every=3), EMA(0.9, update_starting_at_step=8, keep=False)
    fit(hand, ema)
    assert same(ema.average, hand.average)
    trainer = fit(late)
    assert same(late.average, weights(trainer.module))


def test_it_works_with_compiled_steps(fit):
    plain, compiled = EMA(0.9), EMA(0.9)
    torch.manual_seed(3)
    fit(plain, module=TinyModule(), max_epochs=1)
    torch.manual_seed(3)
    trainer = fit(compiled, module=TinyModule(), max_epochs=1, compile={"backend": "aot_eager"})
    torch.testing.assert_close(compiled.average, plain.average)
    assert same(weights(trainer.module), compiled.average)


@pytest.mark.parametrize("validate", [True, False])
def test_validation_uses_what_was_asked_for_and_training_goes_on_with_the_weights(fit, validate):
    seen, after = [], []
    look = LambdaCallback(on_validation_batch_start=lambda trainer, module: seen.append(weights(module)))
    resume = LambdaCallback(on_train_batch_start=lambda trainer, module: after.append(weights(module)))
    ema, hand = EMA(0.5, validate=validate, keep=False), ByHand(0.5)
    averaged = fit(hand, ema, look, resume, module=Shared(), num_sanity_val_steps=0, max_epochs=1)
    assert same(seen[-1], hand.average if validate else weights(averaged.module))
    torch.manual_seed(0)
    first = Shared()
    second = copy.deepcopy(first)
    torch.manual_seed(0)
    fit(EMA(0.5, keep=False), module=first)
    torch.manual_seed(0)
    fit(module=second)
    assert same(weights(first), weights(second))


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_weights_in_16_bits_have_an_average_that_moves_with_them(fit, precision):
    def average(trainer, module):
        for name, value in weights(module).items():
            by_hand[name] = torch.lerp(by_hand[name], value.float(), 0.001) if trainer.global_step else value.float()

    by_hand = {}
    ema = EMA(0.999)
    look = LambdaCallback(on_train_start=average, on_train_batch_end=average)
    trainer = fit(look, ema, max_epochs=5, precision=precision)
    assert same(ema.average, by_hand)
    assert same(weights(trainer.module), {name: value.to(trainer.module.dtype) for name, value in by_hand.items()})


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-true"}])
@pytest.mark.parametrize("save", ["average", "weights"])
def test_a_resumed_run_ends_with_the_same_bits(fit, tmp_path, save, settings):
    def write(trainer, module, batch_idx):
        if trainer.current_epoch == 1 and batch_idx == 1:
            trainer.save_checkpoint(tmp_path / "saved.ckpt")

    module = TinyModule()
    start = copy.deepcopy(module)
    options = {"max_epochs": 3, **settings}
    whole, resumed = EMA(0.9, save=save), EMA(0.9, save=save)
    fit(whole, LambdaCallback(on_train_batch_end=write), module=module, **options)
    fit(resumed, module=start, ckpt_path=str(tmp_path / "saved.ckpt"), **options)
    assert same(resumed.average, whole.average)
    assert same(weights(module), weights(start))


class Validated(TinyModule):
    """Keeps what each batch of a validation found as the weights."""

    def __init__(self):
        super().__init__()
        self.found = {}

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.found[self.trainer.current_epoch, batch_idx] = weights(self)


@pytest.mark.usefixtures("plain_handlers")
@pytest.mark.parametrize("ends", ["signal", "exception"])
def test_a_validation_that_goes_on_from_a_checkpoint_uses_the_average_again(fit, tmp_path, ends):
    def end(trainer, module, batch_idx):
        if trainer.current_epoch == 1 and batch_idx == 0:
            if ends == "exception":
                raise ValueError("one of the user's")
            signal.raise_signal(signal.SIGTERM)

    whole, first, second = Validated(), Validated(), Validated()
    for module in (first, second):
        module.load_state_dict(whole.state_dict())
    checkpoint = ModelCheckpoint(tmp_path, save_on_exception=True)
    fit(EMA(0.5), module=whole, num_sanity_val_steps=0)
    with pytest.raises((Terminated, ValueError)):
        fit(EMA(0.5), checkpoint, LambdaCallback(on_validation_batch_end=end), module=first, num_sanity_val_steps=0)
    fit(EMA(0.5), module=second, ckpt_path=checkpoint.resolve_checkpoint("last"))
    assert same(second.found[1, 1], whole.found[1, 1])
    assert same(weights(second), weights(whole))


def test_an_average_of_another_module_is_refused_as_one_without_average_is(fit, refusal, tmp_path):
    class Less(TinyModule):
        strict_loading = False

    checkpoint = ModelCheckpoint(tmp_path)
    fit(EMA(), checkpoint, module=Shared(), max_epochs=1)
    path = checkpoint.best_model_path
    assert refusal(ValueError, fit, EMA(), module=Less(), ckpt_path=path) == refusal(
        ValueError, fit, module=Less(), ckpt_path=path
    )


KILLED = """
import os, signal, sys
import torch
from leyden import Callback, Trainer, seed_everything
from leyden.testing import TinyModule
from leyden_callbacks import EMA, ModelCheckpoint
from torch import nn

folder, ckpt_path, kill_at = sys.argv[1], sys.argv[2] or None, int(sys.argv[3])

class Kill(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

class Dropped(TinyModule):
    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.3)

    def forward(self, x):
        return self.layer(self.drop(self.norm(x)))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)

seed_everything(11, verbose=False)
module, ema = Dropped(), EMA(0.9)
seen = []

class First(Callback):
    def on_train_start(self, trainer, module):
        seen.append(trainer.global_step)

last = ModelCheckpoint(dirpath=folder + "/checkpoints", every_n_train_steps=3, save_last=True, save_top_k=1)
Trainer(default_root_dir=folder, accelerator="cpu", logger=False, max_epochs=4, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[ema, last, First(), Kill()]).fit(module, ckpt_path=ckpt_path)
torch.save([seen, ema.average, module.state_dict()], folder + "/end.pt")
"""


def test_a_killed_and_resumed_run_ends_with_the_same_bits(tmp_path):
    """Killed with SIGKILL at step 11, inside of epoch 2; the newest checkpoint is of step 9."""

    def run(name, ckpt_path, kill_at):
        (tmp_path / name).mkdir(exist_ok=True)
        return subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / name), ckpt_path, str(kill_at)])

    whole, killed = run("whole", "", -1), run("killed", "", 11)
    assert [whole.wait(), killed.wait()] == [0, -signal.SIGKILL]
    assert not (tmp_path / "killed/end.pt").exists()
    assert run("killed", "last", -1).wait() == 0
    (start, average, module), (resumed_at, resumed, other) = [
        torch.load(tmp_path / name / "end.pt", weights_only=True) for name in ("whole", "killed")
    ]
    assert (start, resumed_at) == ([0], [9])
    assert same(resumed, average)
    assert same(other, module)


def test_a_checkpoint_of_a_validation_has_both(fit, tmp_path):
    """It is taken while the average is in the module's place."""
    ema, hand = EMA(0.5), ByHand(0.5)
    states = []
    keep = LambdaCallback(on_validation_start=lambda trainer, module: states.append((weights(module), hand.average.copy())))
    best = ModelCheckpoint(dirpath=tmp_path, monitor="val_loss", save_top_k=1, every_n_epochs=1, save_on_train_epoch_end=False)
    module = Shared()
    fit(hand, keep, ema, best, module=module, max_epochs=1, num_sanity_val_steps=0)
    saved = torch.load(best.best_model_path, weights_only=True)
    [(own, average)] = states
    assert all(torch.equal(saved["state_dict"][name], value) for name, value in average.items())
    assert torch.equal(saved["state_dict"]["second.weight"], average["first.weight"])
    assert same(saved["callbacks"]["EMA"]["other"], own)


def test_testing_the_best_checkpoint_uses_the_average(fit, tmp_path):
    ema = EMA(0.5)
    trainer = fit(ema, ModelCheckpoint(dirpath=tmp_path), max_epochs=1)
    average = {name: value.clone() for name, value in ema.average.items()}
    module = TinyModule()
    trainer.test(module, ckpt_path="best", verbose=False)
    assert same(weights(module), average)


def test_a_checkpoint_of_weights_only_has_the_average(fit, tmp_path):
    ema = EMA(0.5)
    fit(ema, LambdaCallback(on_train_end=lambda trainer: trainer.save_checkpoint(tmp_path / "w.ckpt", weights_only=True)))
    saved = torch.load(tmp_path / "w.ckpt", weights_only=True)
    assert same({name: saved["state_dict"][name] for name in ema.average}, ema.average)
    assert "callbacks" not in saved


def test_the_module_keeps_the_average_or_the_weights(fit):
    kept, left = EMA(0.5), EMA(0.5, keep=False)
    assert same(weights(fit(kept).module), kept.average)
    trainer = fit(left)
    assert not same(weights(trainer.module), left.average)


def test_a_failure_leaves_the_weights_in_the_module(fit):
    before = []

    def fail(trainer, module):
        raise KeyError("no")

    note = LambdaCallback(on_train_batch_end=lambda trainer, module: before.append(weights(module)))
    module = Shared()
    with pytest.raises(KeyError):
        fit(EMA(0.5), note, LambdaCallback(on_validation_end=fail), module=module, num_sanity_val_steps=0)
    assert same(weights(module), before[-1])


def test_in_several_processes_the_average_is_the_same(tmp_path):
    """Which is that of one process with the batches of both."""
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    quiet |= {"enable_model_summary": False, "default_root_dir": tmp_path, "max_epochs": 2}

    start = TinyModule().state_dict()

    def train(environment):
        ema, module = EMA(0.5), TinyModule()
        module.load_state_dict(start)
        save = LambdaCallback(on_train_end=lambda trainer: trainer.save_checkpoint(tmp_path / "saved.ckpt"))
        Trainer(environment=environment, devices=2, strategy="ddp", callbacks=[ema, save], **quiet).fit(module)
        return {name: value.tolist() for name, value in ema.average.items()}

    first, second = run_ranks(train)
    assert first == second
    saved = torch.load(tmp_path / "saved.ckpt", weights_only=True)
    assert {name: saved["state_dict"][name].tolist() for name in first} == first

    class Both(TinyModule):
        def train_dataloader(self):
            dataset = super().train_dataloader().dataset
            return DataLoader(dataset, batch_sampler=[[*range(i, i + 8)] for i in range(0, 16, 8)])

    ema, module = EMA(0.5), Both()
    module.load_state_dict(start)
    Trainer(callbacks=[ema], **quiet).fit(module)
    torch.testing.assert_close({name: torch.tensor(value) for name, value in first.items()}, ema.average)


def test_a_second_fit_starts_anew(fit):
    ema = EMA(0.9)
    trainer = fit(ema, max_epochs=1)
    second, hand = TinyModule(), ByHand(0.9)
    trainer.callbacks.insert(0, hand)
    trainer.fit(second)
    assert same(ema.average, hand.average)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"decay": 1}, ValueError, "EMA(decay=1): expected a number below 1, at which the average would never change"),
        ({"decay": "high"}, TypeError, "EMA(decay='high'): expected a number of at least 0, got str 'high'"),
        ({"save": "averages"}, ValueError, "EMA(save='averages'): expected 'average' or 'weights'; did you mean 'average'?"),
        ({"update_every_n_steps": 0}, ValueError, "EMA(update_every_n_steps=0): expected an int of at least 1, got int 0"),
        ({"validate": "yes"}, TypeError, "EMA(validate='yes'): expected True or False, got str 'yes'"),
    ],
)
def test_wrong_averages(options, kind, message, refusal):
    assert refusal(kind, EMA, **options) == message


def test_two_averages(fit, refusal):
    assert refusal(ValueError, fit, EMA(), EMA(0.9)) == (
        "two callbacks of class EMA: validation can use one average; leave out the other"
    )


# ---- stochastic_weight_averaging ----


class Scheduled(TinyModule):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


class Epochs:
    """Notes the weights and the learning rate of each epoch."""

    def __init__(self):
        self.weights, self.rates = [], []

    def on_train_epoch_end(self, trainer, module):
        self.weights.append(weights(module))
        self.rates.append(round(trainer.optimizers[0].param_groups[0]["lr"], 9))


def test_the_module_ends_with_the_mean_of_the_last_epochs(fit, capsys):
    epochs = Epochs()
    trainer = fit(
        epochs, StochasticWeightAveraging(0.05, swa_epoch_start=2, annealing_epochs=2), module=Scheduled(), max_epochs=6
    )
    mean = {name: sum(values[name] for values in epochs.weights[2:]) / 4 for name in epochs.weights[0]}
    torch.testing.assert_close(weights(trainer.module), mean)
    assert "leyden: the module has the mean of its weights after 4 epoch(s)\n" in capsys.readouterr().err


def test_the_learning_rate_goes_to_the_given_one_and_stays(fit):
    epochs = Epochs()
    fit(epochs, StochasticWeightAveraging(0.05, swa_epoch_start=2, annealing_epochs=2), module=Scheduled(), max_epochs=6)
    # 0.1 and 0.05 by the scheduler; 0.025 to 0.05 in two epochs.
    assert epochs.rates == [0.05, 0.025, 0.025, 0.0375, 0.05, 0.05]
    linear = Epochs()
    swa = StochasticWeightAveraging([0.2], swa_epoch_start=0.0, annealing_epochs=4, annealing_strategy="linear")
    fit(linear, swa, max_epochs=5)
    assert linear.rates == [0.1, 0.125, 0.15, 0.175, 0.2]


def test_the_average_is_a_function_of_ones_own(fit):
    swa = StochasticWeightAveraging(0.05, swa_epoch_start=0, avg_fn=lambda average, new, number: new)
    epochs = Epochs()
    assert same(weights(fit(epochs, swa).module), epochs.weights[-1])


def test_statistics_of_batch_normalization_belong_to_the_average(fit):
    trainer = fit(StochasticWeightAveraging(0.05, swa_epoch_start=1, annealing_epochs=1), module=Shared())
    module = trainer.module
    found, number = module.norm.running_mean.clone(), int(module.norm.num_batches_tracked)
    batches = [module.second(module.first(x)).mean(0) for x, _ in module.train_dataloader()]
    torch.testing.assert_close(found, torch.stack(batches).mean(0))
    assert (number, module.norm.momentum, module.norm.training) == (4, 0.1, True)


@pytest.mark.parametrize("unfrozen", [1, 3])
def test_it_averages_what_finetuning_trains_whenever_that_begins(fit, tmp_path, unfrozen):
    class Backbone(TinyModule):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Linear(8, 8)

        def forward(self, x):
            return self.layer(self.backbone(x))

        def configure_optimizers(self):
            return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)

    def both():
        finetuning = BackboneFinetuning(unfrozen, backbone_initial_lr=0.01)
        return finetuning, StochasticWeightAveraging(0.05, swa_epoch_start=2, annealing_epochs=1)

    save = LambdaCallback(on_train_batch_end=lambda trainer: trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt"))
    module = Backbone()
    start = copy.deepcopy(module)
    trainer = fit(*both(), save, module=module, max_epochs=5)
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [0.05, 0.05]
    fit(*both(), module=start, max_epochs=5, ckpt_path=str(tmp_path / "14.ckpt"))
    assert same(weights(module), weights(start))


def test_statistics_of_layers_in_eval_mode_stay(fit):
    module = Shared()
    module.norm.eval()
    trainer = fit(StochasticWeightAveraging(0.05, swa_epoch_start=1), module=module)
    assert not trainer.module.norm.running_mean.any()


class WithoutIndex(Shared):
    def training_step(self, batch):
        return super().training_step(batch, 0)


class TakingTurns(Shared):
    def training_step(self, batch, batch_idx, optimizer_idx):
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self):
        parts = [self.layer.parameters(), [*self.first.parameters(), *self.norm.parameters()]]
        return [torch.optim.SGD(part, lr=0.1) for part in parts]


@pytest.mark.parametrize("module", [WithoutIndex(), TakingTurns()])
def test_statistics_are_taken_whatever_arguments_the_step_takes(fit, module):
    fit(StochasticWeightAveraging(0.05, swa_epoch_start=1), module=module)
    assert module.norm.num_batches_tracked == 4


def test_statistics_of_data_without_an_end_are_those_of_as_many_batches_as_an_epoch_had(fit):
    class Endless(Shared):
        def train_dataloader(self):
            return itertools.cycle([(torch.randn(4, 8), torch.zeros(4, dtype=torch.long))])

    trainer = fit(StochasticWeightAveraging(0.05, swa_epoch_start=0), module=Endless(), max_steps=3)
    assert trainer.module.norm.num_batches_tracked == 3


def test_weights_in_16_bits_are_averaged_in_32(fit):
    epochs = Epochs()
    trainer = fit(epochs, StochasticWeightAveraging(0.05, swa_epoch_start=0), precision="bf16-true", max_epochs=20)
    mean = {name: torch.stack([values[name].float() for values in epochs.weights]).mean(0) for name in epochs.weights[0]}
    close = {name: value.bfloat16().float() for name, value in mean.items()}
    torch.testing.assert_close(
        {name: value.float() for name, value in weights(trainer.module).items()}, close, rtol=2**-8, atol=0
    )


def test_a_resumed_run_ends_with_the_same_average(fit, tmp_path):
    def save(trainer):
        if trainer.global_step == 14:  # inside of epoch 3
            trainer.save_checkpoint(tmp_path / "saved.ckpt")

    options = {"swa_lrs": 0.05, "swa_epoch_start": 2, "annealing_epochs": 3}
    module = Scheduled()
    start = copy.deepcopy(module)
    fit(StochasticWeightAveraging(**options), LambdaCallback(on_train_batch_end=save), module=module, max_epochs=6)
    fit(StochasticWeightAveraging(**options), module=start, max_epochs=6, ckpt_path=str(tmp_path / "saved.ckpt"))
    assert same(weights(module), weights(start))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"swa_lrs": "0.1"}, TypeError,
         "StochasticWeightAveraging(swa_lrs='0.1'): expected a number of at least 0, got str '0.1'"),
        ({"swa_lrs": 0.1, "swa_epoch_start": 1.5}, ValueError,
         "StochasticWeightAveraging(swa_epoch_start=1.5): expected an int, or a fraction from 0 to 1"),
        ({"swa_lrs": 0.1, "annealing_strategy": "cosine"}, ValueError,
         "StochasticWeightAveraging(annealing_strategy='cosine'): expected 'cos' or 'linear'; did you mean 'cos'?"),
        ({"swa_lrs": 0.1, "avg_fn": 3}, TypeError, "StochasticWeightAveraging(avg_fn=3): expected a function, got int 3"),
    ],
)  # fmt: skip
def test_wrong_averages_of_epochs(options, kind, message, refusal):
    assert refusal(kind, StochasticWeightAveraging, **options) == message


def test_two_averages_that_stay_in_the_module_are_refused(fit, refusal):
    assert refusal(ValueError, fit, StochasticWeightAveraging(0.1, 0.5), EMA(), max_epochs=2) == (
        "StochasticWeightAveraging and EMA both leave their average in the module; pass EMA(keep=False), or leave out one"
    )
    average, ema = StochasticWeightAveraging(0.1, 0.5), EMA(keep=False)
    assert same(weights(fit(average, ema).module), average.average)


def test_runs_that_do_not_fit_the_average_of_epochs(fit, refusal):
    assert refusal(ValueError, fit, StochasticWeightAveraging(0.1, 2)) == (
        "StochasticWeightAveraging(swa_epoch_start=2): averaging would start in epoch 2, but the last of max_epochs=2 is 1"
    )
    assert refusal(ValueError, fit, StochasticWeightAveraging(0.1), max_epochs=-1, max_steps=3) == (
        "StochasticWeightAveraging needs to know the last epoch; pass max_epochs to the Trainer"
    )
    assert refusal(ValueError, fit, StochasticWeightAveraging([0.1, 0.2])) == (
        "StochasticWeightAveraging(swa_lrs=[0.1, 0.2]): 2 learning rate(s) for 1 parameter group(s)"
    )
    assert refusal(ValueError, fit, StochasticWeightAveraging(0.1, 0.5), BackboneFinetuning()) == (
        "StochasticWeightAveraging: BackboneFinetuning comes after it and would change the rates that it sets; put it before"
    )
    manual = Shared()
    manual.automatic_optimization = False
    assert refusal(ValueError, fit, StochasticWeightAveraging(0.1, 0.5), module=manual) == (
        "StochasticWeightAveraging: the statistics of Shared's batch normalization cannot be taken anew, for its training_step "
        "steps optimizers itself; average modules without it in manual optimization"
    )
