"""The whole stream of hook calls, steps and schedulers of a fit, compared with a plain nested loop for many settings."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from leyden import Callback, Module, Trainer
from leyden.messages import LeydenWarning
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.usefixtures("core_alone")

INFINITE = float("inf")
WATCHED = [
    "setup", "on_fit_start", "on_sanity_check_start", "on_sanity_check_end", "on_train_start", "on_train_epoch_start",
    "on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step",
    "on_train_batch_end", "on_validation_start", "on_validation_epoch_start", "on_validation_batch_start",
    "on_validation_batch_end", "on_validation_epoch_end", "on_validation_end", "on_train_epoch_end", "on_train_end",
    "on_fit_end", "on_exception", "teardown",
]  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What one example runs with."""

    kind: str = "loader"
    """``loader``; ``stream`` (no length); ``lying`` (a list that says it has two more batches than it gives)."""
    batches: int = 4
    limit_train: int | float | None = None
    val_batches: tuple[int, ...] = (2,)
    limit_val: int | float | None = None
    interval: int | float | str | None = None
    every_n_epoch: int | None = 1
    accumulate: int = 1
    max_epochs: int = 2
    max_steps: int = -1
    optimizers: str = "one"
    """``none``, ``one``, ``together`` (two on one loss), ``turns`` (two, each at every batch), ``frequencies`` (1 and 2)."""
    nones: frozenset[int] = frozenset()
    """The numbers of the calls of ``training_step`` that return None."""
    schedulers: tuple[tuple[int, str, int], ...] = ()
    """(optimizer, interval, frequency) of each."""
    sanity: int = 0
    skip_at: int | None = None
    """The number of the batch, over all epochs, whose start hook answers -1."""
    stop_at: int | None = None
    """The number of the batch, over all epochs, whose end hook sets ``should_stop``."""
    min_steps: int | None = None


# ---- what a fit does ----


class Unsized:
    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


class Lying(list):
    def __len__(self):
        return super().__len__() + 2


def loaders(settings):
    batches = [torch.full((2,), float(index)) for index in range(settings.batches)]
    if settings.kind == "stream":
        train = Unsized(batches)
    elif settings.kind == "lying":
        train = Lying(batches)
    else:
        train = DataLoader(TensorDataset(torch.arange(2.0 * settings.batches)), batch_size=2)
    val = [DataLoader(TensorDataset(torch.zeros(count))) for count in settings.val_batches]
    return train, val[0] if len(val) == 1 else val


def recording(stream):
    """A callback that notes every hook with its place in the run."""

    def method(name):
        def hook(self, trainer, module, **others):
            index = others.get("batch_idx")
            if name == "on_before_optimizer_step" or name == "on_before_zero_grad":
                index = trainer.optimizers.index(others["optimizer"])
            stream.append((name, trainer.current_epoch, trainer.global_step, index))
            if name == "on_train_batch_start" and trainer.progress.total_batches == module.settings.skip_at:
                return -1
            if name == "on_train_batch_end" and trainer.progress.total_batches - 1 == module.settings.stop_at:
                trainer.should_stop = True
            return None

        signature = inspect.signature(getattr(Callback, name))

        def positional(self, *args):
            return hook(self, **dict(zip(list(signature.parameters)[1:], args, strict=False)))

        positional.__signature__ = signature
        return positional

    return type("Recording", (Callback,), {name: method(name) for name in WATCHED})()


class Watched(Module):
    """Has up to two optimizers and notes what happens to them."""

    def __init__(self, settings, stream):
        super().__init__()
        self.settings, self.stream, self.calls = settings, stream, 0
        self.weights = nn.ParameterList([nn.Parameter(torch.ones(())) for _ in range(2)])

    def note(self, name, index):
        self.stream.append((name, self.current_epoch, self.global_step, index))

    def loss(self, batch_idx, index):
        self.note("training_step", (batch_idx, index))
        self.calls += 1
        if self.calls - 1 in self.settings.nones:
            return None
        parameters = self.weights if index is None else [self.weights[index]]
        return sum(weight * batch_idx for weight in parameters)

    def training_step(self, batch, batch_idx):
        return self.loss(batch_idx, None)

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.note("validation_step", (batch_idx, dataloader_idx))

    def configure_optimizers(self):
        if self.settings.optimizers == "none":
            return None
        parameters = [[w] for w in self.weights] if self.settings.optimizers != "one" else [list(self.weights)]
        optimizers = [torch.optim.SGD(group, lr=0.01) for group in parameters]
        for index, optimizer in enumerate(optimizers):
            optimizer.register_step_post_hook(lambda *_, index=index: self.note("optimizer.step", index))
        entries = [{"optimizer": optimizer, "lr_scheduler": []} for optimizer in optimizers]
        for index, interval, frequency in self.settings.schedulers:
            scheduler = LambdaLR(optimizers[index], lambda count: 1 / (count + 1))
            entries[index]["lr_scheduler"].append({"scheduler": scheduler, "interval": interval, "frequency": frequency})
        if self.settings.optimizers == "frequencies":
            for entry, frequency in zip(entries, (1, 2), strict=True):
                entry["frequency"] = frequency
        return entries

    def lr_scheduler_step(self, scheduler, metric):
        configs = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        self.note("scheduler.step", configs.index(scheduler))
        super().lr_scheduler_step(scheduler, metric)


class TakesTurns(Watched):
    def training_step(self, batch, batch_idx, optimizer_idx):
        return self.loss(batch_idx, optimizer_idx)


def really(settings):
    """The stream of a fit, and the error that ended it, if any."""
    stream = []
    kind = TakesTurns if settings.optimizers in ("turns", "frequencies") else Watched
    trainer = Trainer(
        limit_train_batches=settings.limit_train,
        limit_val_batches=settings.limit_val,
        val_check_interval=settings.interval,
        check_val_every_n_epoch=settings.every_n_epoch,
        accumulate_grad_batches=settings.accumulate,
        max_epochs=settings.max_epochs,
        max_steps=settings.max_steps,
        min_steps=settings.min_steps,
        num_sanity_val_steps=settings.sanity,
        callbacks=[recording(stream)],
    )
    error = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeydenWarning)  # of the loader that lies and of epochs without a batch
        try:
            trainer.fit(kind(settings, stream), *loaders(settings))
        except ValueError as caught:
            error = str(caught)
    return stream, error


# ---- what a fit should do ----


@dataclass
class Run:
    """The counters of the model."""

    epoch: int = 0
    step: int = 0
    total: int = 0
    calls: int = 0
    validations: int = 0
    validated_at: int = 0
    windows: int = 0
    stop: bool = False
    steps: list[int] = field(default_factory=lambda: [0, 0])
    stream: list[tuple] = field(default_factory=list)

    def say(self, name, index=None):
        self.stream.append((name, self.epoch, self.step, index))


def as_it_should(s):  # one plain loop, so that it can be read from top to bottom
    run = Run()
    say = run.say
    count = {"none": 0, "one": 1}.get(s.optimizers, 2)
    turns = s.optimizers in ("turns", "frequencies")

    claimed = {"stream": INFINITE, "lying": s.batches + 2}.get(s.kind, s.batches)
    length = claimed
    if isinstance(s.limit_train, int):
        length = min(claimed, s.limit_train)
    elif isinstance(s.limit_train, float):
        length = int(claimed * s.limit_train)
    given = min(length, s.batches)  # batches an epoch really has
    val_lengths = list(s.val_batches)
    if isinstance(s.limit_val, int):
        val_lengths = [min(n, s.limit_val) for n in val_lengths]
    elif isinstance(s.limit_val, float):
        val_lengths = [int(n * s.limit_val) for n in val_lengths]
    validates = s.limit_val != 0

    def validate(limit=INFINITE):
        say("on_validation_start")
        say("on_validation_epoch_start")
        for loader, n in enumerate(val_lengths):
            for index in range(int(min(n, limit))):
                say("on_validation_batch_start", index)
                say("validation_step", (index, loader))
                say("on_validation_batch_end", index)
        say("on_validation_epoch_end")
        if limit == INFINITE:
            run.validated_at = run.step
            run.validations += 1
            schedule("validation", [run.validations * bool(run.steps[index]) for index in range(2)])
        say("on_validation_end")

    def schedule(interval, moments):
        for index, (owner, kind, frequency) in enumerate(s.schedulers):
            if kind == interval and moments[owner] and moments[owner] % frequency == 0:
                say("scheduler.step", index)

    def may_stop():
        if s.max_steps != -1 and run.step >= s.max_steps:
            return True
        return run.stop and run.step >= (s.min_steps or 0)

    def due(done, last):
        unit = s.interval.split()[1] if isinstance(s.interval, str) else None
        n = int(s.interval.split()[0]) if unit else s.interval
        every = {"epochs": n, "steps": None, "batches": None}.get(unit, s.every_n_epoch)
        if every is not None and (run.epoch + 1) % every:
            return False
        if run.stop and may_stop():
            return True
        if unit == "steps":
            return run.step % n == 0 and run.step != run.validated_at
        if unit == "epochs" or n is None or (isinstance(n, float) and n == 1.0):
            return last
        if isinstance(n, float):
            n = max(1, int(length * n))
        return (run.total if every is None else done) % n == 0

    def update(active, forwarded):
        """Steps what is due of the optimizers; returns which stepped."""
        for index in forwarded:
            say("on_before_optimizer_step", index)
        for index in forwarded:
            say("optimizer.step", index)
            run.steps[index] += 1

    say("setup")
    say("on_fit_start")
    if s.sanity and validates:
        say("on_sanity_check_start")
        validate(s.sanity)
        say("on_sanity_check_end")

    if s.kind != "stream" and s.batches == 0 and s.limit_train != 0:  # known to be empty before training
        say("on_exception")
        say("teardown")
        return run.stream
    say("on_train_start")
    while (s.max_epochs == -1 or run.epoch < s.max_epochs) and length and not may_stop():
        say("on_train_epoch_start")
        window, skipped, stopped, last = [0, 0], False, False, False
        done = 0
        while done < given:
            say("on_train_batch_start", done)
            if run.total == s.skip_at:
                skipped = True
                break
            last = done + 1 == (given if s.kind == "stream" else length)

            # forward, backward and step
            stepped, active = [], [run.windows % 3 > 0] if s.optimizers == "frequencies" else list(range(count))
            complete = last
            for turn in [int(index) for index in active] if turns else [None]:
                slot = turn or 0
                complete = last or window[slot] + 1 >= s.accumulate
                say("training_step", (done, turn))
                run.calls += 1
                if run.calls - 1 not in s.nones:
                    if not window[slot]:
                        for index in [turn] if turns else range(count):
                            say("on_before_zero_grad", index)
                    window[slot] += 1
                    say("on_before_backward")
                    say("on_after_backward")
                if complete and window[slot]:
                    stepping = [turn] if turns else list(range(count))
                    update(active, stepping)
                    stepped += stepping or [None]
                    window[slot] = 0
            run.windows += complete
            run.step += bool(stepped)
            schedule("step", [run.steps[index] * (index in stepped) for index in range(2)])
            if last:
                schedule("epoch", [(run.epoch + 1) * bool(run.steps[index]) for index in range(2)])
            done += 1
            run.total += 1
            say("on_train_batch_end", done - 1)
            run.stop |= run.total - 1 == s.stop_at

            if validates and due(done, last):
                validate()
            if may_stop():
                stopped = True
                break

        early = not last and not skipped and not stopped
        if early and not done:
            say("on_exception")
            say("teardown")
            return run.stream
        flushed = []  # an epoch that ended before its window was complete
        for slot in range(2 if turns else 1):
            if window[slot] and not (last or may_stop()):
                stepping = [slot] if turns else list(range(count))
                update(stepping, stepping)
                flushed += stepping or [None]
                run.windows += 1
        run.step += bool(flushed)
        schedule("step", [run.steps[index] * (index in flushed) for index in range(2)])
        if early:
            schedule("epoch", [(run.epoch + 1) * bool(run.steps[index]) for index in range(2)])
            if validates and due(done, True):
                validate()
        say("on_train_epoch_end")
        run.epoch += 1
    say("on_train_end")
    say("on_fit_end")
    say("teardown")
    return run.stream


# ---- the comparison ----


def refused(s):
    """Why a fit with these settings is refused before it starts, if it is."""
    claimed = {"stream": INFINITE, "lying": s.batches + 2}.get(s.kind, s.batches)
    length = claimed if s.limit_train is None else min(claimed, s.limit_train)
    if isinstance(s.limit_train, float):
        length = int(claimed * s.limit_train) if claimed != INFINITE else 0
        if not length:
            return True
    if s.kind == "lying" and not s.batches:
        return True
    if isinstance(s.limit_val, float) and any(int(n * s.limit_val) == 0 for n in s.val_batches):
        return True
    if isinstance(s.interval, float) and s.interval < 1 and length == INFINITE:
        return True
    if isinstance(s.interval, int) and s.every_n_epoch is not None and s.interval > length:
        return True
    return s.max_epochs == -1 and s.max_steps == -1


@st.composite
def examples(draw):
    optimizers = draw(st.sampled_from(["one", "one", "together", "turns", "frequencies", "none"]))
    count = {"none": 0, "one": 1}.get(optimizers, 2)
    scheduler = st.tuples(st.integers(0, max(count - 1, 0)), st.sampled_from(["step", "epoch", "validation"]), st.integers(1, 3))
    # Of one optimizer's schedulers each has its own count, so they must come grouped by optimizer, as the module returns them.
    schedulers = sorted(draw(st.lists(scheduler, max_size=2)), key=lambda item: item[0]) if count else []
    max_steps = draw(st.sampled_from([-1, -1, 1, 2, 3, 5, 7]))
    return Settings(
        kind=draw(st.sampled_from(["loader", "loader", "stream", "lying"])),
        batches=draw(st.sampled_from([0, 1, 2, 3, 4, 5, 5])),
        limit_train=draw(st.sampled_from([None, None, None, 0, 2, 3, 9, 0.5, 1.0])),
        val_batches=tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))),
        limit_val=draw(st.sampled_from([None, None, 0, 1, 0.5])),
        interval=draw(
            st.sampled_from([None, None, 1.0, 0.5, 0.3, 1, 2, 3, "2 steps", "3 steps", "2 batches", "3 batches", "2 epochs"])
        ),
        every_n_epoch=draw(st.sampled_from([1, 1, 2, None])),
        accumulate=draw(st.sampled_from([1, 1, 2, 3])),
        max_epochs=draw(st.sampled_from([0, 1, 2, 3] if max_steps == -1 else [1, 2, 3, -1])),
        max_steps=max_steps,
        optimizers=optimizers,
        nones=draw(st.frozensets(st.integers(0, 9), max_size=3)),
        schedulers=tuple(schedulers),
        sanity=draw(st.sampled_from([0, 0, 1, 2])),
        skip_at=draw(st.sampled_from([None, None, None, 1, 2, 4])),
        stop_at=draw(st.sampled_from([None, None, None, 1, 3, 5])),
        min_steps=draw(st.sampled_from([None, None, 1])),
    )


def compare(s):
    stream, error = really(s)
    expected = as_it_should(s)
    for number, (ours, theirs) in enumerate(zip(stream, expected, strict=False)):
        assert ours == theirs, f"call {number}, after {expected[max(0, number - 6) : number]}"
    assert stream[len(expected) :] == []
    assert expected[len(stream) :] == []
    return error


# Where an example never makes a step, an unlimited run would never end.
def ends(s):
    return s.max_epochs != -1 or (s.limit_train != 0 and s.skip_at is None)


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
@example(Settings(kind="stream", batches=0))
@example(Settings(limit_train=2, accumulate=2, skip_at=1))  # the batch that is skipped is the last
@example(Settings(kind="lying", batches=3, accumulate=2, schedulers=((0, "step", 1), (0, "epoch", 1), (0, "validation", 1))))
@example(Settings(batches=5, accumulate=2, optimizers="frequencies", max_epochs=3, schedulers=((0, "step", 1), (1, "step", 1))))
@example(Settings(interval="3 steps", accumulate=3, batches=5, max_epochs=3, stop_at=11, min_steps=1))
@given(examples().filter(lambda s: not refused(s) and ends(s)))
def test_a_fit_makes_exactly_the_calls_of_a_plain_nested_loop(s):
    compare(s)
