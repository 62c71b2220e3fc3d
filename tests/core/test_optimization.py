"""What happens to the parameters in a fit, compared with loops written by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from leyden import Module, Trainer
from leyden.testing import RandomData, TinyModule
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

pytestmark = pytest.mark.usefixtures("core_alone")


class Net(Module):
    """Dropout makes one random number too many or too few show in the result."""

    def __init__(self, make_optimizer=None):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 2))
        self.make_optimizer = make_optimizer or (lambda parameters: torch.optim.SGD(parameters, lr=0.5, momentum=0.9))

    def loss(self, batch):
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def configure_optimizers(self):
        return self.make_optimizer(self.parameters())


def data(batches=5):
    return DataLoader(RandomData(4 * batches), batch_size=4)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.5, momentum=0.9)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


def trained(module, epochs=2, loader=None, **options):
    torch.manual_seed(7)
    Trainer(max_epochs=epochs, **options).fit(module, loader if loader is not None else data())
    return module


def by_hand(module, epochs=2, accumulate=1, clip=None, loader=None, optimizer=None):
    """The loop that the fit of a ``Net`` must equal."""
    torch.manual_seed(7)
    optimizer = optimizer or module.make_optimizer(module.parameters())
    batches = loader if loader is not None else data()
    module.train()
    for _ in range(epochs):
        window = 0
        for index, batch in enumerate(batches):
            loss = module.loss(batch)
            if window == 0:
                optimizer.zero_grad()
            window += 1
            (loss * (1 / accumulate) if accumulate > 1 else loss).backward()
            if window == accumulate or index + 1 == len(batches):
                for parameter in module.parameters() if window < accumulate else ():
                    parameter.grad.mul_(accumulate / window)
                if clip is not None:
                    clip(module.parameters())
                optimizer.step()
                window = 0
    return module


def assert_same(one, other):
    for (name, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def pair(**options):
    module = Net(**options)
    return module, copy.deepcopy(module)


# ---- automatic optimization ----


@pytest.mark.parametrize("make_optimizer", [sgd, adam], ids=["sgd", "adam"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_fit_equals_the_hand_written_loop_bit_for_bit(make_optimizer, accumulate):
    ours, theirs = pair(make_optimizer=make_optimizer)
    before = copy.deepcopy(ours)
    trained(ours, accumulate_grad_batches=accumulate)
    assert_same(ours, by_hand(theirs, accumulate=accumulate))
    assert not torch.equal(before.net[0].weight, ours.net[0].weight)


def test_a_short_last_window_has_the_gradient_of_its_mean_loss():
    class Linear(Net):
        def loss(self, batch):
            return batch[0] @ self.net[0].weight[0]

    module = Linear(lambda parameters: torch.optim.SGD(parameters, lr=1.0))
    before = module.net[0].weight[0].clone()
    batches = [(torch.full((8,), value), None) for value in (1.0, 3.0, 5.0, 11.0)]
    trained(module, epochs=1, loader=batches, accumulate_grad_batches=3)
    torch.testing.assert_close(before - module.net[0].weight[0], torch.full((8,), 3.0 + 11.0))


def test_accumulation_counts_one_step_a_window():
    trainer = Trainer(max_epochs=2, accumulate_grad_batches=3)
    trainer.fit(Net(), data(5))
    assert (trainer.global_step, trainer.progress.total_batches) == (4, 10)


@pytest.mark.parametrize(
    ("algorithm", "clip"),
    [
        (None, lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.05)),
        ("norm", lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.05)),
        ("value", lambda parameters: nn.utils.clip_grad_value_(parameters, 0.05)),
    ],
)
def test_clipping_equals_the_hand_written_loop(algorithm, clip):
    ours, theirs = pair()
    trained(ours, gradient_clip_val=0.05, gradient_clip_algorithm=algorithm, accumulate_grad_batches=2)
    assert_same(ours, by_hand(theirs, clip=clip, accumulate=2))


def test_gradients_are_clipped_after_on_before_optimizer_step_saw_them():
    seen = []

    class Seen(Net):
        def on_before_optimizer_step(self, optimizer):
            seen.append(torch.stack([p.grad.norm() for p in self.parameters()]).norm().item())

        def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
            if optimizer.param_groups[0]["params"][0].grad is not None:
                seen.append(torch.stack([p.grad.norm() for p in self.parameters()]).norm().item())
            optimizer.zero_grad()

    trained(Seen(), epochs=1, loader=data(2), gradient_clip_val=0.01)
    assert seen[0] > 0.02
    assert seen[1] == pytest.approx(0.01, rel=1e-3)


def test_configure_gradient_clipping_replaces_clipping_and_runs_without_a_value():
    given = []

    class Own(Net):
        def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
            given.append((gradient_clip_val, gradient_clip_algorithm))
            nn.utils.clip_grad_value_(self.parameters(), 0.01)

    ours, theirs = Own(), Net()
    theirs.load_state_dict(ours.state_dict())
    trained(ours)
    assert_same(ours, by_hand(theirs, clip=lambda parameters: nn.utils.clip_grad_value_(parameters, 0.01)))
    assert given == [(None, None)] * 10


def test_lbfgs_evaluates_the_loss_in_its_closure_as_by_hand():
    def lbfgs(parameters):
        return torch.optim.LBFGS(parameters, lr=0.5, max_iter=4)

    ours, theirs = pair(make_optimizer=lbfgs)
    torch.manual_seed(7)
    trainer = Trainer(max_epochs=2)
    trainer.fit(ours, data(3))

    torch.manual_seed(7)
    optimizer = lbfgs(theirs.parameters())
    for _ in range(2):
        for batch in data(3):

            def closure(batch=batch):
                loss = theirs.loss(batch)
                optimizer.zero_grad()
                loss.backward()
                return loss

            optimizer.step(closure)
    assert_same(ours, theirs)
    assert trainer.global_step == 6


def test_lbfgs_accumulates_the_batches_before_the_one_that_steps():
    class Linear(Net):
        def loss(self, batch):
            self.evaluated += 1
            return ((self.net[0].weight - batch[0]) ** 2).mean()

    module = Linear(lambda parameters: torch.optim.LBFGS(parameters, max_iter=1))
    module.evaluated = 0
    trainer = Trainer(max_epochs=1, accumulate_grad_batches=2)
    trainer.fit(module, [(torch.ones(1),), (torch.ones(1),), (torch.ones(1),)])
    assert (trainer.global_step, module.evaluated) == (2, 3)


def test_an_optimizer_of_a_third_party_is_given_a_closure():
    class TwiceSGD(torch.optim.SGD):
        def step(self, closure=None):
            with torch.enable_grad():
                closure()
                loss = closure()
            super().step()
            return loss

    module = Net(lambda parameters: TwiceSGD(parameters, lr=0.5))
    calls = []
    original = module.loss
    module.loss = lambda batch: calls.append(1) or original(batch)
    trained(module, epochs=1, loader=data(3))
    assert len(calls) == 6


# ---- overrides ----


def test_an_optimizer_step_that_passes_its_closure_on_changes_nothing():
    class Own(Net):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            self.calls.append((epoch, batch_idx, type(optimizer)))
            optimizer.step(closure=optimizer_closure)

    ours, theirs = Own(), Net()
    ours.calls = []
    theirs.load_state_dict(ours.state_dict())
    trained(ours, accumulate_grad_batches=2, gradient_clip_val=0.1)
    assert_same(ours, by_hand(theirs, accumulate=2, clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.1)))
    assert ours.calls == [(epoch, batch, torch.optim.SGD) for epoch in (0, 1) for batch in (1, 3, 4)]


def test_an_optimizer_step_that_warms_the_learning_rate_up_equals_the_hand_written_loop():
    class WarmUp(Net):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            optimizer.step(closure=optimizer_closure)
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * (self.trainer.global_step + 1)

    ours, theirs = WarmUp(), Net()
    theirs.load_state_dict(ours.state_dict())
    trained(ours, epochs=1)

    torch.manual_seed(7)
    optimizer = sgd(theirs.parameters())
    for step, batch in enumerate(data()):
        loss = theirs.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.1 * (step + 1)
    assert_same(ours, theirs)


def test_an_optimizer_step_may_only_call_its_closure_on_some_batches():
    class EverySecond(Net):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            if batch_idx % 2:
                optimizer.step(closure=optimizer_closure)
            else:
                optimizer_closure()

    ours, theirs = EverySecond(), Net()
    theirs.load_state_dict(ours.state_dict())
    torch.manual_seed(7)
    trainer = Trainer(max_epochs=1)
    trainer.fit(ours, data(4))

    torch.manual_seed(7)
    optimizer = sgd(theirs.parameters())
    for index, batch in enumerate(data(4)):
        loss = theirs.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        if index % 2:
            optimizer.step()
    assert_same(ours, theirs)
    assert trainer.global_step == 2


def test_the_step_of_an_optimizer_is_its_own_again_after_the_fit():
    class Own(Net):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            optimizer.step(closure=optimizer_closure)

    trainer = Trainer(max_epochs=1)
    trainer.fit(Own(), data(1))
    assert "step" not in vars(trainer.optimizers[0])


def test_an_optimizer_step_that_forgets_its_closure_is_an_error():
    class Forgets(Net):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            pass

    with pytest.raises(RuntimeError) as caught:
        trained(Forgets())
    assert str(caught.value) == (
        "Forgets.optimizer_step did not call its closure, so the batch was not trained on; "
        "call optimizer.step(closure=optimizer_closure), or optimizer_closure()"
    )


def test_a_backward_of_the_module_replaces_ours():
    class Doubled(Net):
        def backward(self, loss, *args, **kwargs):
            (2 * loss).backward(*args, **kwargs)

    ours, theirs = Doubled(), Net()
    theirs.load_state_dict(ours.state_dict())
    original = theirs.loss
    theirs.loss = lambda batch: 2 * original(batch)
    assert_same(trained(ours), by_hand(theirs))


def test_an_optimizer_zero_grad_of_the_module_replaces_ours():
    class Keeps(Net):
        def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
            self.calls.append((epoch, batch_idx))

    ours, theirs = Keeps(), Net()
    ours.calls = []
    theirs.load_state_dict(ours.state_dict())
    optimizer = sgd(theirs.parameters())
    optimizer.zero_grad = lambda: None
    trained(ours, epochs=1)
    assert_same(ours, by_hand(theirs, epochs=1, optimizer=optimizer))
    assert ours.calls == [(0, batch) for batch in range(5)]


def test_gradients_left_from_before_a_fit_are_not_used():
    ours, theirs = pair()
    ours.loss(next(iter(data()))).backward()
    assert_same(trained(ours), by_hand(theirs))


# ---- what training_step returns ----


def test_a_dict_with_the_loss_trains_and_is_the_hooks_output():
    outputs = []

    class Dict(Net):
        def training_step(self, batch, batch_idx):
            return {"loss": self.loss(batch), "index": batch_idx}

        def on_train_batch_end(self, outputs_, batch, batch_idx):
            outputs.append(outputs_)

    ours, theirs = Dict(), Net()
    theirs.load_state_dict(ours.state_dict())
    assert_same(trained(ours, epochs=1), by_hand(theirs, epochs=1))
    assert [output["index"] for output in outputs] == [0, 1, 2, 3, 4]
    assert not any(output["loss"].requires_grad for output in outputs)


def test_none_skips_the_batch():
    class Skips(Net):
        def training_step(self, batch, batch_idx):
            return self.loss(batch) if batch_idx % 2 else None

    ours, theirs = Skips(), Net()
    theirs.load_state_dict(ours.state_dict())
    batches = list(data(4))
    torch.manual_seed(7)
    trainer = Trainer(max_epochs=1)
    trainer.fit(ours, batches)
    assert_same(ours, by_hand(theirs, epochs=1, loader=batches[1::2]))
    assert trainer.global_step == 2


def test_none_in_a_window_leaves_the_mean_of_the_others():
    class Skips(Net):
        def training_step(self, batch, batch_idx):
            return self.loss(batch) if batch_idx else None

    ours, theirs = Skips(), Net()
    theirs.load_state_dict(ours.state_dict())
    batches = list(data(3))
    trained(ours, epochs=1, loader=batches, accumulate_grad_batches=3)
    assert_same(ours, by_hand(theirs, epochs=1, loader=batches[1:], accumulate=3))


def test_none_with_a_closure_skips_the_batch():
    class Skips(Net):
        def training_step(self, batch, batch_idx):
            return None

        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            optimizer.step(closure=optimizer_closure)

    ours, theirs = Skips(), Net()
    theirs.load_state_dict(ours.state_dict())
    trainer = Trainer(max_epochs=1)
    trainer.fit(ours, data(2))
    assert_same(ours, theirs)
    assert trainer.global_step == 0


# ---- manual optimization ----


class TwoOptimizers(Module):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.one, self.two = nn.Linear(8, 2), nn.Linear(8, 2)
        self.calls = []

    def configure_optimizers(self):
        return [torch.optim.SGD(self.one.parameters(), lr=0.1), torch.optim.Adam(self.two.parameters(), lr=0.01)]

    def losses(self, batch):
        x, y = batch
        return F.cross_entropy(self.one(x), y), F.cross_entropy(self.two(x) + self.one(x).detach(), y)

    def training_step(self, batch, batch_idx):
        for optimizer, loss in zip(self.optimizers(), self.losses(batch), strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def on_before_backward(self, loss):
        self.calls.append("before backward")

    def on_after_backward(self):
        self.calls.append("after backward")

    def on_before_optimizer_step(self, optimizer):
        self.calls.append(type(optimizer).__name__)


def test_manual_optimization_with_two_optimizers_equals_the_hand_written_loop():
    ours = TwoOptimizers()
    theirs = copy.deepcopy(ours)
    Trainer(max_epochs=2).fit(ours, data(3))
    optimizers = theirs.configure_optimizers()
    for batch in [*data(3), *data(3)]:
        for optimizer, loss in zip(optimizers, theirs.losses(batch), strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert_same(ours, theirs)


def test_manual_optimization_fires_the_hooks_of_each_backward_and_step():
    module = TwoOptimizers()
    trainer = Trainer(max_epochs=1)
    trainer.fit(module, data(1))
    assert module.calls == ["before backward", "after backward", "SGD", "before backward", "after backward", "Adam"]


def test_a_batch_of_manual_optimization_that_steps_nothing_counts_nothing():
    class EverySecond(TwoOptimizers):
        def training_step(self, batch, batch_idx):
            if batch_idx % 2:
                super().training_step(batch, batch_idx)

    trainer = Trainer(max_epochs=1)
    trainer.fit(EverySecond(), data(5))
    assert trainer.progress.total_batches == 5
    assert trainer.global_step == 2


def test_manual_optimization_clips_when_the_module_says_so():
    seen = []

    class Clips(TwoOptimizers):
        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()[0]
            self.manual_backward(100 * self.losses(batch)[0])
            self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
            seen.append(torch.stack([p.grad.norm() for p in self.one.parameters()]).norm().item())
            optimizer.step()

    Trainer(max_epochs=1).fit(Clips(), data(1))
    assert seen == [pytest.approx(0.5, rel=1e-3)]


def test_a_toggled_optimizer_has_only_its_own_parameters_require_gradients():
    seen = []

    class Toggles(TwoOptimizers):
        def training_step(self, batch, batch_idx):
            first = self.optimizers()[0]
            with self.toggled_optimizer(first):
                seen.append((self.one.weight.requires_grad, self.two.weight.requires_grad))
            seen.append((self.one.weight.requires_grad, self.two.weight.requires_grad))

    Trainer(max_epochs=1).fit(Toggles(), data(1))
    assert seen == [(True, False), (True, True)]


def test_a_manual_closure_evaluates_the_loss_inside_the_step():
    class Closure(Net):
        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()

            def closure():
                loss = self.loss(batch)
                optimizer.zero_grad()
                self.manual_backward(loss)
                return loss

            optimizer.step(closure=closure)

    ours, theirs = Closure(), Net()
    ours.automatic_optimization = False
    theirs.load_state_dict(ours.state_dict())
    assert_same(trained(ours), by_hand(theirs))


def test_manual_optimization_accumulates_the_mean_of_its_window():
    class Manual(Net):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            self.manual_backward(self.loss(batch))
            if batch_idx % 2 or batch_idx == 4:
                optimizer.step()
                optimizer.zero_grad()

    ours, theirs = Manual(), Net()
    theirs.load_state_dict(ours.state_dict())
    trained(ours, epochs=1, accumulate_grad_batches=2)
    expected = by_hand(theirs, epochs=1, accumulate=2)
    for a, b in zip(ours.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b)


# ---- several optimizers in automatic optimization ----


class Two(Module):
    """One optimizer for each of two layers."""

    def __init__(self, frequencies=None):
        super().__init__()
        self.one, self.two = nn.Linear(8, 2), nn.Linear(8, 2)
        self.frequencies = frequencies
        self.turns = []

    def configure_optimizers(self):
        found = [torch.optim.SGD(self.one.parameters(), lr=0.1), torch.optim.Adam(self.two.parameters(), lr=0.01)]
        if self.frequencies is None:
            return found
        return [{"optimizer": o, "frequency": f} for o, f in zip(found, self.frequencies, strict=True)]

    def loss(self, batch):
        x, y = batch
        return F.cross_entropy(self.one(x) + self.two(x), y)

    def training_step(self, batch, batch_idx):
        return self.loss(batch)


class Turns(Two):
    def training_step(self, batch, batch_idx, optimizer_idx):
        self.turns.append((batch_idx, optimizer_idx, self.one.weight.requires_grad, self.two.weight.requires_grad))
        return self.loss(batch)


def test_several_optimizers_step_together_on_one_loss():
    ours = Two()
    theirs = copy.deepcopy(ours)
    trainer = Trainer(max_epochs=1)
    trainer.fit(ours, data(3))
    optimizers = theirs.configure_optimizers()
    for batch in data(3):
        theirs.zero_grad()
        theirs.loss(batch).backward()
        for optimizer in optimizers:
            optimizer.step()
    assert_same(ours, theirs)


def test_a_training_step_with_optimizer_idx_gives_each_optimizer_its_turn():
    ours = Turns()
    theirs = copy.deepcopy(ours)
    Trainer(max_epochs=1).fit(ours, data(2))
    optimizers = theirs.configure_optimizers()
    for batch in data(2):
        for optimizer in optimizers:
            theirs.zero_grad()
            theirs.loss(batch).backward()
            optimizer.step()
    assert_same(ours, theirs)
    assert ours.turns == [(0, 0, True, False), (0, 1, False, True), (1, 0, True, False), (1, 1, False, True)]
    assert ours.one.weight.requires_grad
    assert ours.two.weight.requires_grad


def test_optimizers_with_frequencies_take_turns_by_batch():
    module = Turns(frequencies=[1, 2])
    trainer = Trainer(max_epochs=1)
    trainer.fit(module, data(5))
    assert [index for _, index, *_ in module.turns] == [0, 1, 1, 0, 1]
    assert trainer.global_step == 5


def test_frequencies_need_a_training_step_with_optimizer_idx():
    with pytest.raises(ValueError) as caught:
        Trainer(max_epochs=1).fit(Two(frequencies=[1, 2]), data(1))
    assert str(caught.value) == (
        "optimizers with a 'frequency' take turns, so write Two.training_step(self, batch, batch_idx, optimizer_idx)"
    )


def test_a_frequency_for_some_optimizers_only_is_an_error():
    with pytest.raises(ValueError) as caught:
        Trainer(max_epochs=1).fit(Turns(frequencies=[1, None]), data(1))
    assert str(caught.value) == (
        "Turns.configure_optimizers: 'frequency' is given for 1 of 2 optimizers; give it for all or none"
    )


# ---- accumulation by samples ----


class Pull(Module):
    """Its gradient is the mean of the samples."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        return self.weight * batch.mean()

    def on_before_optimizer_step(self, optimizer):
        self.seen.append(self.weight.grad.item())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_window_of_unequal_batches_has_the_gradient_of_the_mean_of_its_samples():
    module = Pull()
    batches = [torch.tensor([1.0]), torch.tensor([2.0, 3.0, 4.0]), torch.tensor([5.0, 6.0]), torch.tensor([7.0, 8.0, 9.0, 10.0])]
    trainer = Trainer(max_epochs=1, accumulate_grad_batches=3)
    trainer.fit(module, batches)
    assert module.seen == [pytest.approx(3.5), pytest.approx(8.5)]


def test_a_loss_weight_weights_a_batch_in_its_window():
    class Weighted(Pull):
        def training_step(self, batch, batch_idx):
            return {"loss": super().training_step(batch, batch_idx), "loss_weight": 1 + 2 * batch_idx}

    module = Weighted()
    Trainer(max_epochs=1, accumulate_grad_batches=2).fit(module, [torch.ones(1), torch.full((1,), 5.0)])
    assert module.seen == [pytest.approx((1 * 1 + 3 * 5) / 4)]


def test_a_batch_of_no_weight_counts_for_nothing_in_its_window():
    class Weighted(Pull):
        def training_step(self, batch, batch_idx):
            return {"loss": super().training_step(batch, batch_idx), "loss_weight": [0, 3, 0, 0][batch_idx]}

    module = Weighted()
    Trainer(max_epochs=1, accumulate_grad_batches=2).fit(
        module, [torch.ones(1), torch.full((1,), 5.0), torch.ones(1), torch.ones(1)]
    )
    assert module.seen == [pytest.approx(5.0), 0.0]


def test_in_manual_optimization_a_batch_without_samples_counts_for_nothing_in_its_window():
    class Manual(Pull):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward((self.weight * batch).sum() / max(len(batch), 1))
            optimizer.step()

    module = Manual()
    Trainer(max_epochs=1, accumulate_grad_batches=2).fit(
        module, [torch.ones(0), torch.full((1,), 5.0), torch.ones(0), torch.ones(0)]
    )
    assert module.seen == [pytest.approx(5.0), 0.0]


# ---- misuse ----


def test_manual_backward_in_automatic_optimization_is_an_error():
    class Mixed(Net):
        def training_step(self, batch, batch_idx):
            self.manual_backward(self.loss(batch))

    with pytest.raises(RuntimeError) as caught:
        trained(Mixed())
    assert str(caught.value) == (
        "manual_backward() needs manual optimization; set self.automatic_optimization = False in Mixed.__init__"
    )


# ---- what configure_optimizers returns ----


class Returns(Net):
    def __init__(self, build):
        super().__init__()
        self.build = build

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        return self.build(optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5))


@pytest.mark.parametrize(
    ("build", "schedulers"),
    [
        (lambda o, s: o, 0),
        (lambda o, s: [o], 0),
        (lambda o, s: (o,), 0),
        (lambda o, s: {"optimizer": o}, 0),
        (lambda o, s: {"optimizer": o, "lr_scheduler": s}, 1),
        (lambda o, s: {"optimizer": o, "lr_scheduler": [s]}, 1),
        (lambda o, s: {"optimizer": o, "lr_scheduler": {"scheduler": s, "interval": "epoch"}}, 1),
        (lambda o, s: ([o], [s]), 1),
        (lambda o, s: [[o], [s]], 1),
        (lambda o, s: ([o], [{"scheduler": s}]), 1),
        (lambda o, s: ([o], []), 0),
        (lambda o, s: [{"optimizer": o, "lr_scheduler": s}], 1),
    ],
)
def test_configure_optimizers_may_return(build, schedulers):
    trainer = Trainer(max_epochs=2)
    trainer.fit(Returns(build), data(1))
    assert len(trainer.optimizers) == 1
    assert len(trainer.lr_scheduler_configs) == schedulers
    assert trainer.optimizers[0].param_groups[0]["lr"] == (0.25 if schedulers else 1.0)


def test_none_trains_without_an_optimizer():
    module = Returns(lambda o, s: None)
    before = copy.deepcopy(module)
    trainer = Trainer(max_epochs=1)
    trainer.fit(module, data(2))
    assert_same(module, before)
    assert trainer.optimizers == []


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda o, s: "adam", TypeError, "expected an optimizer, got str 'adam'"),
        (lambda o, s: [o, None], TypeError, "expected an optimizer, got NoneType None"),
        (
            lambda o, s: {"optimiser": o},
            ValueError,
            "unknown key 'optimiser'; did you mean 'optimizer'? The keys: 'optimizer', 'lr_scheduler', 'monitor', 'frequency'",
        ),
        (
            lambda o, s: {"optimizer": o, "zzz": 1},
            ValueError,
            "unknown key 'zzz'; the keys: 'optimizer', 'lr_scheduler', 'monitor', 'frequency'",
        ),
        (lambda o, s: {"lr_scheduler": s}, ValueError, "the dict has no 'optimizer'; its keys are 'lr_scheduler'"),
        (lambda o, s: ([o], ["step"]), TypeError, "expected a scheduler, got str 'step'"),
        (
            lambda o, s: ([o], [{"scheduler": s, "intervall": "step"}]),
            ValueError,
            "unknown scheduler key 'intervall'; did you mean 'interval'? The keys: 'scheduler', 'interval', 'frequency', "
            "'monitor', 'strict', 'reduce_on_plateau', 'name'",
        ),
        (
            lambda o, s: ([o], [{"interval": "step"}]),
            ValueError,
            "the scheduler dict has no 'scheduler'; its keys are 'interval'",
        ),
        (
            lambda o, s: ([o], [{"scheduler": s, "interval": "steps"}]),
            ValueError,
            "interval='steps'; did you mean 'step'? The intervals: 'epoch', 'step', 'validation'",
        ),
        (
            lambda o, s: ([o], [{"scheduler": s, "interval": 3}]),
            ValueError,
            "interval=3; the intervals: 'epoch', 'step', 'validation'",
        ),
        (lambda o, s: ([o], [{"scheduler": s, "frequency": 0}]), ValueError, "frequency=0: expected an int of at least 1"),
        (
            lambda o, s: ([o], [torch.optim.lr_scheduler.ReduceLROnPlateau(o)]),
            ValueError,
            "ReduceLROnPlateau needs the key of a logged value; return "
            "{'optimizer': optimizer, 'lr_scheduler': {'scheduler': scheduler, 'monitor': 'val_loss'}}",
        ),
        (
            lambda o, s: ([torch.optim.SGD(o.param_groups[0]["params"], lr=1.0)], [s]),
            ValueError,
            "StepLR belongs to an optimizer that was not returned; return that too",
        ),
    ],
)
def test_configure_optimizers_may_not_return(build, error, message):
    with pytest.raises(error) as caught:
        Trainer(max_epochs=1).fit(Returns(build), data(1))
    assert str(caught.value) == f"Returns.configure_optimizers: {message}"


# ---- schedulers ----


class Scheduled(TinyModule):
    """Notes the learning rate that each step used."""

    def __init__(self, make_scheduler, **config):
        super().__init__(lr=1.0)
        self.make_scheduler, self.config, self.rates = make_scheduler, config, []

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.make_scheduler(optimizer), **self.config}}

    def on_before_optimizer_step(self, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])


def halving(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)


def rates(module, **options):
    Trainer(**{"max_epochs": 2, "limit_train_batches": 4, "limit_val_batches": 1, **options}).fit(module)
    return [round(-torch.tensor(rate).log2().item()) for rate in module.rates]  # how often it was halved


@pytest.mark.parametrize(
    ("config", "halvings"),
    [
        ({}, [0, 0, 0, 0, 1, 1, 1, 1]),
        ({"interval": "epoch"}, [0, 0, 0, 0, 1, 1, 1, 1]),
        ({"interval": "step"}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"interval": "step", "frequency": 3}, [0, 0, 0, 1, 1, 1, 2, 2]),
        ({"interval": "epoch", "frequency": 2}, [0, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_a_scheduler_steps_by(config, halvings):
    assert rates(Scheduled(halving, **config)) == halvings


def test_a_scheduler_by_epoch_steps_every_second_epoch():
    assert rates(Scheduled(halving, frequency=2), max_epochs=4, limit_train_batches=1) == [0, 0, 1, 1]


def test_a_scheduler_by_step_counts_steps_not_batches():
    assert rates(Scheduled(halving, interval="step"), accumulate_grad_batches=2) == [0, 1, 2, 3]


def test_a_scheduler_by_validation_steps_after_each_validation():
    assert rates(Scheduled(halving, interval="validation"), val_check_interval=2) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_scheduler_by_validation_with_a_frequency():
    module = Scheduled(halving, interval="validation", frequency=2)
    assert rates(module, val_check_interval=1, max_epochs=1) == [0, 0, 1, 1]


@pytest.mark.parametrize("interval", ["epoch", "step"])
def test_a_plateau_scheduler_is_stepped_with_the_value_it_monitors(interval):
    seen = []

    class Plateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
        def step(self, metrics, epoch=None):
            seen.append(float(metrics))
            super().step(metrics)

    class Logs(Scheduled):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", float(self.current_epoch))

        def training_step(self, batch, batch_idx):
            self.log("step", float(self.global_step))
            return super().training_step(batch, batch_idx)

    module = Logs(
        lambda optimizer: Plateau(optimizer, factor=0.5, patience=0),
        interval=interval,
        monitor="val_loss" if interval == "epoch" else "step",
    )
    found = rates(module)
    if interval == "epoch":
        assert seen == [0.0, 1.0]
        assert found == [0] * 8
    else:
        assert seen == [float(step) for step in range(8)]
        assert found == [0, 0, 1, 2, 3, 4, 5, 6]


def test_a_plateau_scheduler_by_epoch_sees_what_the_same_epoch_logged():
    seen = []

    class Logs(Scheduled):
        def on_train_epoch_end(self):
            self.log("own", float(self.current_epoch))

        def lr_scheduler_step(self, scheduler, metric):
            seen.append(float(metric))

    rates(Logs(lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o), monitor="own"), max_epochs=3, limit_train_batches=1)
    assert seen == [0.0, 1.0, 2.0]


def test_a_monitor_beside_the_scheduler_is_its_monitor():
    class Beside(Scheduled):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
            return {"optimizer": optimizer, "lr_scheduler": scheduler, "monitor": "val_loss"}

    trainer = Trainer(max_epochs=1)
    trainer.fit(Beside(None))
    assert trainer.lr_scheduler_configs[0].monitor == "val_loss"


@pytest.mark.parametrize("interval", ["epoch", "step", "validation"])
def test_a_monitor_of_a_scheduler_that_goes_by_no_value_need_not_be_logged(interval):
    module = Scheduled(lambda o: torch.optim.lr_scheduler.StepLR(o, 1, gamma=0.5), monitor="val_lozz", interval=interval)
    trainer = Trainer(max_epochs=1, limit_train_batches=1)
    trainer.fit(module)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.5 * module.lr


def test_a_monitor_that_was_not_logged_is_an_error():
    module = Scheduled(lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o), monitor="val_lozz")
    with pytest.raises(ValueError) as caught:
        rates(module)
    assert str(caught.value) == (
        "ReduceLROnPlateau monitors 'val_lozz', which was not logged; did you mean 'val_loss'? "
        "Logged: 'train_loss', 'val_loss', 'val_acc'"
    )


def test_a_scheduler_that_is_not_strict_waits_for_its_monitor():
    module = Scheduled(lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o), monitor="later", strict=False)
    assert rates(module) == [0] * 8


def test_lr_scheduler_step_of_the_module_replaces_ours():
    calls = []

    class Own(Scheduled):
        def lr_scheduler_step(self, scheduler, metric):
            calls.append((type(scheduler).__name__, metric))
            scheduler.step()

    assert rates(Own(halving, interval="step"), max_epochs=1) == [0, 1, 2, 3]
    assert calls == [("StepLR", None)] * 4


def test_manual_optimization_steps_its_schedulers_itself():
    class Manual(Scheduled):
        def __init__(self):
            super().__init__(halving, interval="step")
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            optimizer, scheduler = self.optimizers(), self.lr_schedulers()
            optimizer.zero_grad()
            self.manual_backward(self(batch[0]).mean())
            optimizer.step()
            if batch_idx == 1:
                scheduler.step()

    assert rates(Manual(), max_epochs=1) == [0, 0, 1, 1]


def test_an_optimizer_whose_zero_grad_somebody_replaced_clears_gradients_by_it():
    cleared = []

    class Replacing(TinyModule):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            original = optimizer.zero_grad

            def zero_grad(set_to_none=True):
                cleared.append(self.global_step)
                original(set_to_none)

            optimizer.zero_grad = zero_grad
            return optimizer

    Trainer(max_steps=3).fit(Replacing())
    assert cleared == [0, 1, 2]


def test_no_gradient_of_the_last_step_is_left_when_the_next_backward_begins():
    left = []

    class Watching(TinyModule):
        def on_before_backward(self, loss):
            left.append([parameter.grad for parameter in self.parameters() if parameter.grad is not None])

    Trainer(max_steps=3).fit(Watching())
    assert left == [[], [], []]
