"""Several optimizers in automatic optimization: the same bits as manual optimization and as a loop written by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from leyden import Module, Trainer
from leyden.testing import RandomData
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader

BATCHES, EPOCHS = 5, 2


class Two(Module):
    """Two layers, an optimizer and a scheduler for each; what a turn's loss is depends on whose turn it is."""

    frequencies = None

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 6), nn.Linear(6, 2)
        self.seen = []

    def configure_optimizers(self):
        found = [torch.optim.SGD(self.one.parameters(), lr=0.1, momentum=0.9), torch.optim.Adam(self.two.parameters(), lr=0.01)]
        schedulers = [
            {"scheduler": StepLR(found[0], 2, gamma=0.5), "interval": "step"},
            {"scheduler": StepLR(found[1], 1, gamma=0.5), "interval": "epoch"},
        ]
        entries = [{"optimizer": o, "lr_scheduler": s} for o, s in zip(found, schedulers, strict=True)]
        for entry, frequency in zip(entries, self.frequencies or (), strict=False):
            entry["frequency"] = frequency
        return entries

    def loss(self, batch, index=None):
        x, y = batch
        loss = F.cross_entropy(self.two(torch.tanh(self.one(x))), y)
        return -loss if index == 1 else loss  # the two pull against each other, as in a GAN


class Together(Two):
    def training_step(self, batch, batch_idx):
        return self.loss(batch)


class Turns(Two):
    def training_step(self, batch, batch_idx, optimizer_idx):
        self.seen.append((batch_idx, optimizer_idx))
        return self.loss(batch, optimizer_idx)


class Often(Turns):
    frequencies = (2, 1)


class Manual(Two):
    """Each of the others, in manual optimization; the window and the turns are the user's own."""

    def __init__(self, kind, accumulate):
        super().__init__()
        self.automatic_optimization = False
        self.kind, self.accumulate, self.windows = kind, accumulate, 0

    def training_step(self, batch, batch_idx):
        optimizers = self.optimizers()
        first, last = batch_idx % self.accumulate == 0, self.trainer.is_last_batch
        complete = last or (batch_idx + 1) % self.accumulate == 0
        for turn in turns_of(self.kind, self.windows):
            own = list(optimizers) if turn is None else [optimizers[turn]]
            if turn is not None:
                self.toggle_optimizer(optimizers[turn])
            if first:
                for optimizer in own:
                    optimizer.optimizer.zero_grad()
            self.manual_backward(self.loss(batch, turn))
            if complete:
                for optimizer in own:
                    optimizer.step()
                    index = optimizers.index(optimizer)
                    if index == 0:
                        self.lr_schedulers()[0].step()
            if turn is not None:
                self.untoggle_optimizer(optimizers[turn])
        self.windows += complete
        if last:
            self.lr_schedulers()[1].step()


def turns_of(kind, window):
    """Whose turns there are in the ``window``-th accumulation window; None is both at once."""
    if kind is Together:
        return [None]
    return [0, 1] if kind is Turns else [[0, 0, 1][window % 3]]


def data():
    return DataLoader(RandomData(4 * BATCHES), batch_size=4)


def by_hand(module, kind, accumulate=1, clip=None, precision=None):
    """The loop that every other way must equal."""
    scaler = torch.amp.GradScaler("cpu") if precision else None
    entries = module.configure_optimizers()
    optimizers = [entry["optimizer"] for entry in entries]
    schedulers = [entry["lr_scheduler"]["scheduler"] for entry in entries]
    groups = [list(module.one.parameters()), list(module.two.parameters())]
    windows, window = 0, 0
    for _ in range(EPOCHS):
        for batch_idx, batch in enumerate(data()):
            window += 1
            last = batch_idx + 1 == BATCHES
            for turn in turns_of(kind, windows):
                own = [0, 1] if turn is None else [turn]
                for index in (0, 1):
                    for parameter in groups[index]:
                        parameter.requires_grad_(index in own)
                if window == 1:
                    for index in own:
                        optimizers[index].zero_grad()
                with torch.autocast("cpu", torch.float16, enabled=precision is not None):
                    loss = module.loss(batch, turn)
                loss = loss * (1 / accumulate) if accumulate > 1 else loss
                (scaler.scale(loss) if scaler else loss).backward()
                if window == accumulate or last:
                    for index in own:
                        if scaler:
                            scaler.unscale_(optimizers[index])
                        for parameter in groups[index] if window < accumulate else ():
                            parameter.grad.mul_(accumulate / window)
                        if clip:
                            nn.utils.clip_grad_norm_(groups[index], clip)
                    for index in own:
                        if scaler:
                            scaler.step(optimizers[index])
                        else:
                            optimizers[index].step()
                        if index == 0:
                            schedulers[0].step()
            if window == accumulate or last:
                if scaler:
                    scaler.update()
                windows, window = windows + 1, 0
        if len(optimizers[1].state):
            schedulers[1].step()
    return module, optimizers


def fit(module, **options):
    trainer = Trainer(max_epochs=EPOCHS, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, **options)  # fmt: skip
    trainer.fit(module, data())
    return trainer


def assert_same(ours, trainer, theirs, optimizers):
    for (name, a), (_, b) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    rates = [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers]
    assert rates == [optimizer.param_groups[0]["lr"] for optimizer in optimizers]


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("kind", [Together, Turns, Often])
def test_automatic_optimization_gives_the_bits_of_the_loop_written_by_hand(kind, accumulate, clip):
    ours = kind()
    theirs, before = copy.deepcopy(ours), copy.deepcopy(ours.state_dict())
    trainer = fit(ours, accumulate_grad_batches=accumulate, gradient_clip_val=clip)
    assert_same(ours, trainer, *by_hand(theirs, kind, accumulate, clip))
    assert not any(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", [Together, Turns, Often])
def test_manual_optimization_gives_the_bits_of_the_same_loop(kind, accumulate, clip):
    ours, theirs = Manual(kind, accumulate), kind()
    theirs.load_state_dict(ours.state_dict())
    trainer = fit(ours, accumulate_grad_batches=accumulate, gradient_clip_val=clip)
    expected, optimizers = by_hand(theirs, kind, accumulate, clip)
    assert_same(ours, trainer, expected, optimizers)


@pytest.mark.parametrize("kind", [Together, Often])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_with_a_gradient_scaler_too(kind, accumulate):
    ours = kind()
    theirs = copy.deepcopy(ours)
    trainer = fit(ours, accumulate_grad_batches=accumulate, gradient_clip_val=0.05, precision="16-mixed")
    assert_same(ours, trainer, *by_hand(theirs, kind, accumulate, 0.05, "16-mixed"))


@pytest.mark.parametrize(
    ("kind", "accumulate", "steps", "each"),
    [
        (Together, 1, 10, [10, 10]),
        (Together, 2, 6, [6, 6]),
        (Turns, 1, 10, [10, 10]),
        (Turns, 2, 6, [6, 6]),
        (Often, 1, 10, [7, 3]),
        (Often, 2, 6, [4, 2]),
    ],
)
def test_global_step_counts_training_steps_and_each_optimizer_its_own(kind, accumulate, steps, each):
    trainer = fit(kind(), accumulate_grad_batches=accumulate)
    assert (trainer.global_step, trainer.progress.optimizer_steps) == (steps, each)
    manual = fit(Manual(kind, accumulate), accumulate_grad_batches=accumulate)
    assert (manual.global_step, manual.progress.optimizer_steps) == (steps, each)


def test_a_turn_lasts_for_whole_accumulation_windows_also_where_an_epoch_ends_with_a_short_one():
    module = Often()
    fit(module, accumulate_grad_batches=2)
    assert [index for _, index in module.seen] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


def test_a_turn_without_a_loss_moves_neither_its_optimizer_nor_its_scheduler_and_is_no_skipped_step():
    class Some(Turns):
        def training_step(self, batch, batch_idx, optimizer_idx):
            loss = super().training_step(batch, batch_idx, optimizer_idx)
            return loss if optimizer_idx else None

    module = Some()
    before = copy.deepcopy(module.one.state_dict())
    trainer = fit(module)
    assert all(torch.equal(value, before[name]) for name, value in module.one.state_dict().items())
    assert trainer.progress.optimizer_steps == [0, 10]
    assert (trainer.global_step, trainer.progress.skipped_steps) == (10, 0)
    assert [optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers] == [0.1, 0.01 / 4]


def test_a_batch_without_any_loss_uses_up_the_turn_and_is_no_skipped_step():
    class Some(Often):
        def training_step(self, batch, batch_idx, optimizer_idx):
            loss = super().training_step(batch, batch_idx, optimizer_idx)
            return loss if optimizer_idx else None

    module = Some()
    trainer = fit(module)
    assert [index for _, index in module.seen] == [0, 0, 1, 0, 0, 1, 0, 0, 1, 0]
    assert (trainer.global_step, trainer.progress.optimizer_steps, trainer.progress.skipped_steps) == (3, [0, 3], 0)


def test_a_step_that_the_scaler_skips_for_one_optimizer_moves_that_ones_scheduler_only_not_at_all():
    class Overflows(Turns):
        def loss(self, batch, index=None):
            loss = super().loss(batch, index)
            return loss * float("inf") if index == 0 else loss

    trainer = fit(Overflows(), precision="16-mixed")
    assert trainer.progress.optimizer_steps == [0, 10]
    assert (trainer.global_step, trainer.progress.skipped_steps) == (10, 0)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.1


def test_hooks_and_outputs_of_a_batch_with_turns():
    calls = []

    class Notes(Turns):
        def on_before_zero_grad(self, optimizer):
            calls.append(("zero_grad", type(optimizer).__name__))

        def on_before_optimizer_step(self, optimizer):
            calls.append(("step", type(optimizer).__name__))

        def on_train_batch_end(self, outputs, batch, batch_idx):
            calls.append([sorted(output) for output in outputs])

    Trainer(max_epochs=1, limit_train_batches=1, logger=False, enable_checkpointing=False).fit(Notes(), data())
    assert calls == [("zero_grad", "SGD"), ("step", "SGD"), ("zero_grad", "Adam"), ("step", "Adam"), [["loss"], ["loss"]]]


def test_an_optimizer_that_evaluates_the_loss_itself_has_a_turn_of_its_own():
    class Mixed(Turns):
        def configure_optimizers(self):
            return [torch.optim.LBFGS(self.one.parameters(), max_iter=3), torch.optim.SGD(self.two.parameters(), lr=0.1)]

        def loss(self, batch, index=None):
            return super().loss(batch)

    ours = Mixed()
    theirs = copy.deepcopy(ours)
    trainer = fit(ours)
    lbfgs, sgd = theirs.configure_optimizers()
    for _ in range(EPOCHS):
        for batch in data():

            def closure(batch=batch):
                lbfgs.zero_grad()
                loss = theirs.loss(batch)
                loss.backward()
                return loss

            lbfgs.step(closure)
            sgd.zero_grad()
            theirs.loss(batch).backward()
            sgd.step()
    for (name, a), (_, b) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert trainer.progress.optimizer_steps == [10, 10]


def test_an_optimizer_that_evaluates_the_loss_itself_cannot_step_together_with_another():
    class Mixed(Together):
        def configure_optimizers(self):
            return [torch.optim.LBFGS(self.one.parameters()), torch.optim.SGD(self.two.parameters(), lr=0.1)]

    with pytest.raises(ValueError) as caught:
        fit(Mixed())
    assert str(caught.value) == (
        "LBFGS among several optimizers evaluates the loss itself, so each needs a turn of its own: write "
        "Mixed.training_step(self, batch, batch_idx, optimizer_idx)"
    )


# ---- accumulation ----


class Linear(Module):
    """Its loss is linear in its weight, so its gradient is exact in any order of adding."""

    def __init__(self, weighted=False, manual=False):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.weighted, self.automatic_optimization = weighted, not manual

    def training_step(self, batch, batch_idx):
        loss = ((batch @ self.weight) + 0.5 * (self.weight**2).sum()).mean()
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            return None
        self.log("loss", loss, on_step=False, on_epoch=True)
        return {"loss": loss, "loss_weight": float(batch[0, 0])} if self.weighted else loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def samples(count):
    return torch.randint(1, 9, (count, 3), generator=torch.Generator().manual_seed(0)).double()


def chunks(sizes):
    return list(torch.split(samples(sum(sizes)), sizes))


@pytest.mark.parametrize(
    ("micro", "large"),
    [
        ([2, 2, 2, 2, 2, 2], [6, 6]),
        ([2, 2, 2, 2], [6, 2]),  # the last window is shorter
        ([2, 2, 2, 2, 1], [6, 3]),  # and has a smaller batch
        ([1, 2, 3, 3, 1, 5, 4], [6, 9, 4]),  # no two batches alike
    ],
)
def test_accumulated_batches_are_one_large_batch(micro, large):
    ours, theirs = Linear(), Linear()
    for module, sizes, count in ((ours, micro, 3), (theirs, large, 1)):
        trainer = Trainer(max_epochs=3, accumulate_grad_batches=count, logger=False, enable_checkpointing=False)
        trainer.fit(module, chunks(sizes))
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=1e-12)
    assert ours.weight.abs().min() > 0.1


def test_the_logged_loss_does_not_depend_on_accumulation():
    losses = []
    for count in (1, 3):
        module = Linear()
        module.configure_optimizers = lambda module=module: torch.optim.SGD(module.parameters(), lr=0.0)
        history = Trainer(max_epochs=1, accumulate_grad_batches=count, logger=False, enable_checkpointing=False).fit(
            module, chunks([1, 2, 3, 3])
        )
        losses.append(history["loss"])
    assert losses[0] == losses[1]


def test_a_loss_weight_takes_the_place_of_the_number_of_samples():
    """As for tokens: each micro-batch's mean counts by its weight."""
    batches = [torch.tensor([[weight, 1.0, 2.0]]).double() for weight in (1.0, 3.0, 4.0, 2.0, 5.0)]
    ours, theirs = Linear(weighted=True), Linear()
    Trainer(max_epochs=1, accumulate_grad_batches=3, logger=False, enable_checkpointing=False).fit(ours, batches)
    optimizer = theirs.configure_optimizers()
    for window in (batches[:3], batches[3:]):
        optimizer.zero_grad()
        weights = [batch[0, 0] for batch in window]
        sum(w * ((b @ theirs.weight) + 0.5 * (theirs.weight**2).sum()).mean() for w, b in zip(weights, window, strict=True)).div(
            sum(weights)
        ).backward()
        optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("micro", "large"), [([2, 2, 2, 2, 2, 2], [6, 6]), ([2, 2, 2, 2], [6, 2]), ([1, 2, 3, 3, 1, 2], [6, 6])])
def test_in_manual_optimization_accumulated_batches_are_one_large_batch(micro, large):
    ours, theirs = Linear(manual=True), Linear(manual=True)
    steps = []
    for module, sizes, count in ((ours, micro, 3), (theirs, large, 1)):
        trainer = Trainer(max_epochs=3, accumulate_grad_batches=count, logger=False, enable_checkpointing=False)
        trainer.fit(module, chunks(sizes))
        steps.append(trainer.global_step)
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=1e-12)
    assert steps == [6, 6]


@pytest.mark.parametrize("manual", [False, True])
def test_a_window_can_be_carried_over_the_end_of_an_epoch(manual):
    """Seven batches, three to a step: the last of one epoch and the first two of the next make one, and the rest of the last."""
    ours, theirs = Linear(manual=manual), Linear()
    micro = chunks([2] * 7)
    trainer = Trainer(max_epochs=2, accumulate_grad_batches=3, carry_accumulation=True, logger=False, enable_checkpointing=False)
    trainer.fit(ours, micro)
    whole = torch.cat([*micro, *micro])
    Trainer(max_epochs=1, logger=False, enable_checkpointing=False).fit(theirs, list(torch.split(whole, 6)))
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=1e-12)
    assert trainer.global_step == trainer.estimated_stepping_batches == 5
    trainer = Trainer(max_epochs=2, accumulate_grad_batches=3, carry_accumulation=True, logger=False, enable_checkpointing=False)
    assert trainer.plan(Linear(), micro).steps == 5


class Shares(Module):
    """Both optimizers have ``weight``; the second one's step comes after it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.other = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.gradients = []

    def training_step(self, batch, batch_idx):
        return (batch @ (self.weight + self.other)).mean()

    def on_before_optimizer_step(self):
        self.gradients.append(self.weight.grad.clone())

    def configure_optimizers(self):
        return [torch.optim.SGD([self.weight], lr=0.1), torch.optim.SGD([self.weight, self.other], lr=0.01)]


def test_a_parameter_of_two_optimizers_is_corrected_once():
    module = Shares()
    batches = chunks([1, 2])
    Trainer(max_epochs=1, accumulate_grad_batches=2, logger=False, enable_checkpointing=False).fit(module, batches)
    mean = torch.cat(batches).mean(dim=0)
    for gradient in module.gradients:
        torch.testing.assert_close(gradient, mean)
    torch.testing.assert_close(module.weight.detach(), -0.11 * mean)
    torch.testing.assert_close(module.other.detach(), -0.01 * mean)


def test_a_parameter_of_two_optimizers_is_clipped_with_the_first():
    module = Shares()
    [batch] = chunks([4])
    Trainer(max_epochs=1, gradient_clip_val=1.0, logger=False, enable_checkpointing=False, accelerator="cpu").fit(module, [batch])
    direction = batch.mean(dim=0) / batch.mean(dim=0).norm()
    torch.testing.assert_close(module.weight.detach(), -0.11 * direction, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(module.other.detach(), -0.01 * direction, rtol=1e-5, atol=1e-8)
