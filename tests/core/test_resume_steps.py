"""Fits that go on from a checkpoint with every kind of step and scheduler, and checkpoints that are refused."""

from __future__ import annotations

import pytest
import torch
import torchmetrics
from leyden import Callback, Precision, Trainer
from leyden.testing import TinyModule
from torch.optim import lr_scheduler

from .test_resume import Net, assert_goes_on, train, val, whole_run

pytestmark = pytest.mark.usefixtures("core_alone")


class Scaled(Precision):
    """Scales losses on the CPU as 16-mixed does on a GPU, and skips the third step."""

    def __init__(self):
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        self.steps = 0

    def backward(self, loss):
        self.scaler.scale(loss * (float("inf") if self.steps == 2 else 1)).backward()

    def unscale(self, optimizer):
        self.scaler.unscale_(optimizer)

    def step(self, optimizer, closure=None):
        before = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        self.steps += 1
        return self.scaler.get_scale() >= before

    def state_dict(self):
        return {"scaler": self.scaler.state_dict(), "steps": self.steps}

    def load_state_dict(self, state):
        self.scaler.load_state_dict(state["scaler"])
        self.steps = state["steps"]


class Averages(Callback):
    """Keeps a moving average of the weights."""

    def __init__(self):
        self.average = {}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        for name, value in module.named_parameters():
            self.average[name] = self.average.get(name, value.detach()) * 0.9 + value.detach() * 0.1
        module.log("average", sum(value.sum() for value in self.average.values()), on_epoch=True)

    def state_dict(self):
        return {"average": dict(self.average)}

    def load_state_dict(self, state):
        self.average = dict(state["average"])


class Two(Net):
    """Two optimizers on one loss."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.net[0].parameters(), lr=0.05), torch.optim.Adam(self.net[3].parameters(), lr=0.01)


class Turns(Two):
    """Two optimizers that take turns, the first twice as often."""

    def training_step(self, batch, batch_idx, optimizer_idx):
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self):
        first, second = super().configure_optimizers()
        return {"optimizer": first, "frequency": 2}, {"optimizer": second, "frequency": 1}


class Manual(Two):
    """Steps one optimizer at each batch, and the other with the gradients of three."""

    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        often, seldom = self.optimizers()
        often.zero_grad()
        self.manual_backward(loss)
        often.step()
        if (self.trainer.progress.total_batches + 1) % 3 == 0:
            seldom.step()
            seldom.zero_grad()
        return loss


class Quasi(Net):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.01, max_iter=3)


class Measured(Net):
    """Accumulates torchmetrics, whose states are in no state_dict."""

    def __init__(self):
        super().__init__()
        self.error = torchmetrics.MeanMetric()
        self.collection = torchmetrics.MetricCollection(
            {"mae": torchmetrics.MeanAbsoluteError(), "max": torchmetrics.MaxMetric()}
        )
        self.val_error = torchmetrics.CatMetric()

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.error(loss.detach())
        self.collection["mae"].update(self.net(batch[0]).squeeze(1).detach(), batch[1].float())
        self.log("error", self.error, on_step=True, on_epoch=True)
        self.log("mae", self.collection["mae"], on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.val_error.update(batch[0].sum())

    def on_validation_epoch_end(self):
        self.log("val_sum", self.val_error.compute().sum())
        self.val_error.reset()


CASES = {
    "a gradient scaler": (Net, {"precision": Scaled, "accumulate_grad_batches": 2}),
    "averaged weights": (Net, {"extra": [Averages]}),
    "two optimizers": (Two, {"accumulate_grad_batches": 2}),
    "turns": (Turns, {"accumulate_grad_batches": 2}),
    "manual": (Manual, {}),
    "manual, accumulated": (Manual, {"accumulate_grad_batches": 2}),
    "closures": (Quasi, {"accumulate_grad_batches": 2}),
    "torchmetrics": (Measured, {"val_check_interval": 2}),
    "windows over an epoch's end": (Net, {"accumulate_grad_batches": 3, "carry_accumulation": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_goes_on_exactly_with_any_step(case):
    make_module, options = CASES[case]
    made = {key: value for key, value in options.items() if key != "precision"}

    def arguments():
        return {**made, "precision": options["precision"]()} if "precision" in options else made

    whole = whole_run(make_module, **arguments())
    for at in range(2, len(whole[1]) + 1, 3):
        assert_goes_on(at, whole, make_module=make_module, **arguments())


# ---- schedulers ----

SCHEDULERS = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, gamma=0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [1, 3, 7], gamma=0.5),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda count: 0.9),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda count: 1 / (count + 1)),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.3, 1),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 7),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 12, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 9),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=40),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, "max", factor=0.5, patience=0),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.8)], [3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.01, anneal_epochs=4),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")  # SequentialLR's own
@pytest.mark.parametrize("interval", ["step", "epoch", "validation"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_promise_9_learning_rates_go_on_wherever_a_run_was_saved(name, interval):
    class Scheduled(Net):
        scheduler = staticmethod(SCHEDULERS[name])

    Scheduled.interval = interval
    options = {"make_module": Scheduled, "val_check_interval": 2, "limit_train_batches": 3, "limit_val_batches": 1}
    whole = whole_run(**options)
    assert name == "ReduceLROnPlateau" or len({str(call[-1]) for call in whole[1]}) > 1
    for hook in ("on_train_batch_end", "on_validation_end", "on_train_epoch_end"):
        numbers = [number for number, call in enumerate(whole[1], 1) if call[0] == hook]
        assert_goes_on(numbers[0], whole, **options)


@pytest.mark.parametrize("interval", ["step", "epoch", "validation"])
def test_promise_9_learning_rates_go_on_after_an_exception(interval):
    class Fails(Net):
        scheduler = staticmethod(lambda o: lr_scheduler.StepLR(o, 2, gamma=0.5))
        fails = False

        def training_step(self, batch, batch_idx):
            if self.fails and self.trainer.progress.total_batches == 7:
                raise ValueError("the user's own")
            return super().training_step(batch, batch_idx)

    Fails.interval = interval

    class Saves(Callback):
        def on_exception(self, trainer, module, exception):
            trainer.save_checkpoint("resume.ckpt")

    _, calls, _, trainer = whole_run(Fails)
    failing = Fails()
    failing.load_state_dict(whole_run(Fails, max_epochs=0)[0].state_dict())
    failing.fails = True
    options = {"max_epochs": 2, "num_sanity_val_steps": 0}
    torch.manual_seed(5)
    with pytest.raises(ValueError, match="the user's own"):
        Trainer(callbacks=[Saves()], **options).fit(failing, train(), train())
    resumed = Trainer(**options)
    resumed.fit(Fails(), train(), train(), ckpt_path="resume.ckpt")
    rates = [call[-1] for call in calls][-1]
    assert resumed.optimizers[0].param_groups[0]["lr"] == rates[0]
    assert resumed.global_step == trainer.global_step


# ---- moments at which no checkpoint is taken ----


@pytest.mark.parametrize("hook", ["training_step", "on_before_optimizer_step", "on_after_backward", "validation_step"])
def test_a_checkpoint_inside_a_step_is_refused(hook):
    class Saves(TinyModule):
        pass

    def save(self, *args):
        self.trainer.save_checkpoint("weights.ckpt", weights_only=True)
        self.trainer.save_checkpoint("inside.ckpt")

    setattr(Saves, hook, save)
    with pytest.raises(RuntimeError) as caught:
        Trainer(max_epochs=1, num_sanity_val_steps=0).fit(Saves())
    assert str(caught.value) == (
        "a checkpoint was asked for inside a step, where optimizer, schedulers and counters do not stand at one moment; save in "
        "on_train_batch_end, on_validation_end or on_train_epoch_end, or with weights_only=True"
    )
    assert torch.load("weights.ckpt", weights_only=True)["global_step"] == (4 if hook == "validation_step" else 0)


# ---- other optimizers ----


def saved():
    trainer = Trainer(max_epochs=1)
    trainer.fit(TinyModule())
    trainer.save_checkpoint("run.ckpt")


def test_the_state_of_an_optimizer_follows_its_parameters_by_name():
    class Adam(TinyModule):
        turned = False

        def configure_optimizers(self):
            return torch.optim.Adam(reversed(list(self.parameters())) if self.turned else self.parameters())

    first, second = Adam(), Adam()
    second.turned = True
    trainer = Trainer(max_epochs=1)
    trainer.fit(first)
    trainer.save_checkpoint("run.ckpt")
    resumed = Trainer(max_epochs=1)
    resumed.fit(second, ckpt_path="run.ckpt")
    for one, other in ((first.layer.weight, second.layer.weight), (first.layer.bias, second.layer.bias)):
        moments = trainer.optimizers[0].state[one]["exp_avg"], resumed.optimizers[0].state[other]["exp_avg"]
        assert torch.equal(*moments)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda m: torch.optim.AdamW(m.parameters()), "optimizer 0 was of class SGD, now it is of class AdamW"),
        (
            lambda m: [torch.optim.SGD([m.layer.weight]), torch.optim.SGD([m.layer.bias])],
            "the checkpoint has 1 optimizer(s) ('SGD'), now there are 2 ('SGD', 'SGD')",
        ),
        (lambda m: torch.optim.SGD([m.layer.weight]), "the parameter groups of optimizer 0 had 2 parameters, now 1"),
        (
            lambda m: torch.optim.SGD([{"params": [m.layer.weight]}, {"params": [m.layer.bias]}]),
            "the parameter groups of optimizer 0 had 2 parameters, now 1, 1",
        ),
    ],
)
def test_resuming_with_other_optimizers_is_refused_with_what_differs(make, said):
    class Other(TinyModule):
        def configure_optimizers(self):
            return make(self)

    saved()
    with pytest.raises(ValueError) as caught:
        Trainer(max_epochs=2).fit(Other(), ckpt_path="run.ckpt")
    assert said in str(caught.value)
    assert str(caught.value).startswith("training cannot continue from this checkpoint, because configure_optimizers returned ")


def test_a_checkpoint_saved_after_a_fit_that_failed_in_a_validation_repeats_all_of_it(capsys):
    """What the validation had logged was let go of when the run ended: the rest alone would be another value."""

    class Fails(Net):
        fails = True

        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.log("index", float(batch_idx), batch_size=1)
            if batch_idx == 2 and self.fails and not self.trainer.sanity_checking:
                raise KeyError(batch_idx)

    trainer = Trainer(max_epochs=1, num_sanity_val_steps=0)
    with pytest.raises(KeyError):
        trainer.fit(Fails(), train(), val())
    trainer.save_checkpoint("late.ckpt")
    module = Fails()
    module.fails = False
    resumed = Trainer(max_epochs=1)
    resumed.fit(module, train(), val(), ckpt_path="late.ckpt")
    assert (resumed.callback_metrics["index"].item(), resumed.global_step) == (1.0, 5)
    assert "the checkpoint was saved after its fit had ended inside epoch 0, so random numbers, an" in capsys.readouterr().err
