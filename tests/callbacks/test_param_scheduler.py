"""Options of optimizers along curves."""

from __future__ import annotations

import math

import pytest
import torch
from leyden import every
from leyden.testing import TinyModule
from leyden_callbacks import GradientAccumulationScheduler, LambdaCallback, ParamScheduler, StochasticWeightAveraging


class Adaptive(TinyModule):
    def configure_optimizers(self):
        groups = [{"params": [self.layer.weight], "lr": 0.1}, {"params": [self.layer.bias], "lr": 0.01}]
        return torch.optim.AdamW(groups, weight_decay=0.5)


@pytest.fixture
def watched(fit):
    """What an option was in each step of a run: ``watched("lr", callbacks, ...)``, a list for each step of a value a group."""

    def run(option, *callbacks, module=None, **settings):
        seen = []

        def note(trainer, module, optimizer):
            seen.append([group[option] for group in optimizer.param_groups])

        fit(*callbacks, LambdaCallback(on_before_optimizer_step=note), module=module, **settings)
        return seen

    return run


def rates(seen):
    return [round(values[0], 6) for values in seen]


def test_groups_keep_their_ratio(watched):
    seen = watched("lr", ParamScheduler(lr="linear"), module=Adaptive())
    assert seen == [pytest.approx([0.1 * share, 0.01 * share]) for share in (1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125)]


def test_a_warmup_comes_before_the_curve_as_in_the_schedules_of_transformers(watched):
    seen = watched("lr", {"param_scheduler": {"lr": "cosine", "warmup": "4 steps"}}, max_epochs=3)
    expected = [step / 4 if step < 4 else 0.5 * (1 + math.cos(math.pi * (step - 4) / 8)) for step in range(12)]
    assert [rate for (rate,) in seen] == pytest.approx([0.1 * value for value in expected])
    assert seen == watched("lr", ParamScheduler(lr="cosine", warmup=1 / 3), max_epochs=3)


def test_a_function_after_a_warmup_gets_how_far_the_rest_is(watched):
    seen = watched("lr", ParamScheduler(lr=lambda done: 1 - done, warmup="1 epoch"), max_epochs=2)
    assert rates(seen) == [0, 0.025, 0.05, 0.075, 0.1, 0.075, 0.05, 0.025]


def test_one_cycle_goes_up_and_down(watched):
    seen = rates(watched("lr", ParamScheduler(lr="one_cycle")))
    assert seen == [0.004, 0.052, 0.1, 0.093301, 0.075, 0.05, 0.025, 0.006699]


def test_the_last_quarter_of_flat_cosine(watched):
    assert rates(watched("lr", ParamScheduler(lr="flat_cosine"))) == [0.1] * 7 + [0.05]


@pytest.mark.parametrize(
    ("curve", "expected"),
    [("linear", [0.2, 0.15, 0.1, 0.1, 0.1, 0.05, 0, 0]), ("step", [0.2, 0.2, 0.1, 0.1, 0.1, 0.1, 0, 0])],
)
def test_points_are_joined_and_hold_at_the_end(watched, curve, expected):
    points = [(0, 2.0), ("2 steps", 1.0), ("1 epoch", 1.0), (0.75, 0.0)]
    assert rates(watched("lr", ParamScheduler(lr=points, curve=curve))) == expected


def test_a_function_of_the_epoch_sets_a_value_as_it_is(watched):
    scheduler = ParamScheduler(lr=lambda epoch: 0.5 ** int(epoch), unit="epoch", relative=False)
    assert rates(watched("lr", scheduler, max_epochs=3)) == [1] * 4 + [0.5] * 4 + [0.25] * 4


def test_a_function_of_the_epoch_gets_parts_of_it_too(watched):
    scheduler = ParamScheduler(lr=lambda epoch: epoch, unit="epoch", relative=False)
    assert rates(watched("lr", scheduler)) == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]


def test_before_the_first_moment_its_value_holds(watched):
    assert rates(watched("lr", ParamScheduler(lr=[("2 steps", 1.0), ("4 steps", 0.5)]), max_epochs=1)) == [0.1, 0.1, 0.1, 0.075]


def test_momentum_of_adam_is_its_first_beta_and_weight_decay_moves_too(watched):
    momentum = ParamScheduler(momentum=[(0, 0.95), (0.5, 0.85), (1, 0.95)], relative=False)
    decay = ParamScheduler(weight_decay=lambda step: 1 + step, unit="step")
    betas = watched("betas", momentum, module=Adaptive(), max_epochs=1)
    assert [pair for pair, _ in betas] == [pytest.approx((value, 0.999)) for value in (0.95, 0.9, 0.85, 0.9)]
    assert rates(watched("weight_decay", decay, momentum, module=Adaptive(), max_epochs=1)) == [0.5, 1, 1.5, 2]


@pytest.mark.parametrize("first", [True, False])
def test_a_run_whose_steps_change_is_as_long_as_it_is(watched, fit, tmp_path, first):
    def callbacks(*more):
        both = GradientAccumulationScheduler({0: 2, 1: 1}), ParamScheduler(lr="linear")
        return (*(both if first else reversed(both)), *more)

    save = LambdaCallback(on_train_batch_end=lambda trainer: trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt"))
    seen = rates(watched("lr", *callbacks(save), max_epochs=3))
    assert seen == [round(0.1 * (1 - step / 10), 6) for step in range(10)]
    resumed = fit(*callbacks(), max_epochs=3, ckpt_path=str(tmp_path / "4.ckpt"))
    assert resumed.optimizers[0].param_groups[0]["lr"] == 0
    scheduler = ParamScheduler(lr=lambda epoch: epoch, unit="epoch", relative=False)
    assert rates(watched("lr", GradientAccumulationScheduler({0: 2, 1: 1}), scheduler)) == [0, 0.5, 1, 1.25, 1.5, 1.75]


@pytest.mark.parametrize("interval", ["1 step", "3 steps"])
def test_a_resumed_run_has_the_values_of_the_whole_one_however_often_they_are_set(watched, tmp_path, interval):
    save = LambdaCallback(on_train_batch_end=lambda trainer: trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt"))
    whole = watched("lr", every(interval, ParamScheduler(lr="linear")), save)
    for step in range(1, 8):
        resumed = watched("lr", every(interval, ParamScheduler(lr="linear")), ckpt_path=str(tmp_path / f"{step}.ckpt"))
        assert resumed == whole[step:]


def test_accumulated_batches_are_one_step(watched):
    assert rates(watched("lr", ParamScheduler(lr="linear"), accumulate_grad_batches=2)) == [0.1, 0.075, 0.05, 0.025]


def test_a_limit_holds_values_in_between(watched):
    assert rates(watched("lr", every("1 epoch", ParamScheduler(lr="linear")))) == [0.1] * 4 + [0.05] * 4


def test_a_rate_on_the_device_stays_there(watched):
    class Captured(TinyModule):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=torch.tensor(0.1))

    module = Captured()
    watched("lr", ParamScheduler(lr="linear"), module=module, max_epochs=1)
    rate = module.trainer.optimizers[0].param_groups[0]["lr"]
    assert isinstance(rate, torch.Tensor)
    assert float(rate) == 0


def test_a_resumed_run_goes_on_along_the_curve(watched, tmp_path):
    def scheduler():
        return ParamScheduler(lr="one_cycle")

    def save(trainer):
        if trainer.global_step == 3:
            trainer.save_checkpoint(tmp_path / "saved.ckpt")

    whole = watched("lr", scheduler(), LambdaCallback(on_train_batch_end=save))
    resumed = watched("lr", scheduler(), ckpt_path=str(tmp_path / "saved.ckpt"))
    assert resumed == whole[3:]


def test_one_of_two_optimizers(fit):
    class Two(TinyModule):
        def configure_optimizers(self):
            return [torch.optim.SGD([self.layer.weight], lr=0.1), torch.optim.SGD([self.layer.bias], lr=0.2)]

    trainer = fit(ParamScheduler(lr="linear", optimizer_idx=1), module=Two())
    assert [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers] == [0.1, 0]


def test_the_outline_names_what_moves(fit, capsys):
    fit(ParamScheduler(lr="linear", weight_decay="linear"), enable_model_summary=True)
    assert "moves lr and weight_decay of the optimizers along a curve" in capsys.readouterr().err


class Endless(TinyModule):
    def train_dataloader(self):
        return (batch for batch in super().train_dataloader())


class Scheduled(TinyModule):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


@pytest.mark.parametrize(
    ("options", "settings", "message"),
    [
        ({"momentun": "linear"}, {},
         "ParamScheduler(momentun=...): no optimizer has it; did you mean 'momentum'? They have: "),
        ({"lr": "linear", "optimizer_idx": 1}, {}, "ParamScheduler(optimizer_idx=1): there are 1 optimizers"),
        ({"lr": "linear"}, {"module": Scheduled()},
         "ParamScheduler(lr=...) and the StepLR that configure_optimizers returned both set the learning rate; "
         "leave out one of them"),
        ({"lr": "linear"}, {"max_epochs": -1, "max_time": "1 s"},
         "ParamScheduler(lr) goes by the length of the run, which nobody knows; pass Trainer(max_steps=...), or give "
         "moments in steps"),
        ({"lr": float, "unit": "epoch"}, {"module": Endless()},
         "ParamScheduler(lr) counts epochs, but the training loader does not say how long one is; count steps"),
        ({"lr": "linear", "warmup": "8 steps"}, {},
         "ParamScheduler(lr) has a warm-up of 8 steps, but the whole run has 8"),
        ({"lr": [("6 steps", 1.0), (0.5, 0.0)]}, {},
         "ParamScheduler(lr=...): its moments are not in order, for in this run they come after 6, 4 steps"),
    ],
)  # fmt: skip
def test_curves_that_do_not_fit_the_run(fit, refusal, options, settings, message):
    assert refusal(ValueError, fit, ParamScheduler(**options), **settings).startswith(message)


def test_two_that_set_the_same(fit, refusal):
    def scheduler(index=None):
        return ParamScheduler(lr="linear", weight_decay="linear", optimizer_idx=index)

    class Two(TinyModule):
        def configure_optimizers(self):
            return [torch.optim.SGD([self.layer.weight], lr=0.1), torch.optim.SGD([self.layer.bias], lr=0.2)]

    message = "two ParamScheduler both set 'lr'; leave out one of them"
    assert refusal(ValueError, fit, scheduler(), scheduler()) == message
    assert refusal(ValueError, fit, scheduler(0), scheduler(), module=Two()) == message
    fit(scheduler(0), scheduler(1), ParamScheduler(momentum="linear"), module=Two())
    averaging = StochasticWeightAveraging(0.05, 0)
    assert refusal(ValueError, fit, averaging, scheduler()) == (
        "ParamScheduler(lr=...) and StochasticWeightAveraging both set the learning rate; leave out one of them"
    )


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({}, ValueError, "ParamScheduler() schedules nothing; pass curves by option, such as lr='cosine'"),
        ({"lr": "cosin"}, ValueError,
         "ParamScheduler(lr='cosin'): there is no such curve; did you mean 'cosine'? The curves: 'constant', 'linear', 'cosine', "
         "'flat_cosine', 'one_cycle'"),
        ({"lr": 0.1}, TypeError,
         "ParamScheduler(lr=0.1): expected the name of a curve, a list of moments and values such as [(0, 0.1), (0.3, 1.0), "
         "(1.0, 0.0)], or a function, got float 0.1"),
        ({"lr": [(0, "a")]}, TypeError,
         "ParamScheduler(lr=[(0, 'a')]): expected the name of a curve, a list of moments and values such as [(0, 0.1), "
         "(0.3, 1.0), (1.0, 0.0)], or a function, got list [(0, 'a')]"),
        ({"lr": [(2, 1.0)]}, ValueError,
         "ParamScheduler(lr=[(2, 1.0)]): expected moments as fractions of the run from 0 to 1, or with a unit such as "
         "'500 steps', got int 2"),
        ({"lr": [("2 min", 1.0)]}, ValueError,
         "ParamScheduler(lr=[('2 min', 1.0)]): it cannot be given in seconds, only in 'step', 'epoch', 'duration'"),
        ({"lr": "linear", "warmup": 500}, ValueError,
         "ParamScheduler(warmup=500): expected moments as fractions of the run from 0 to 1, or with a unit such as '500 steps', "
         "got int 500"),
        ({"lr": [(0, 1.0)], "warmup": 0.1}, ValueError,
         "ParamScheduler(warmup=0.1): it comes before a curve of lr that has a name or is a function; put other warm-ups into "
         "the curve, such as lr=[(0, 0.0), ('500 steps', 1.0), (1.0, 0.0)]"),
        ({"lr": float, "warmup": 0.1, "unit": "step"}, ValueError,
         "ParamScheduler(warmup=0.1, unit='step'): it needs a function of the duration"),
        ({"lr": "linear", "curve": "cos"}, ValueError,
         "ParamScheduler(curve='cos'): expected 'linear', 'cosine' or 'step'"),
    ],
)  # fmt: skip
def test_wrong_curves(options, kind, message, refusal):
    assert refusal(kind, ParamScheduler, **options).startswith(message)
