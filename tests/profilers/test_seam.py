"""What core hands to a profiler, and what a run without one pays: nothing."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from typing import Any

import leyden
import pytest
import torch
from leyden import Callback, Profiler, hookimpl
from leyden.testing import TinyModule


class Counting(Profiler):
    """Counts the calls of each action."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def wrap(self, function: Any, action: str) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls[action] += 1
            return function(*args, **kwargs)

        return counted


class Clipped(TinyModule):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch


def steps_of(calls: Counter[str]) -> dict[str, int]:
    """The actions that are no plug-in's hook."""
    return {action: count for action, count in sorted(calls.items()) if not action.startswith("[Plugin]")}


def test_a_fit_hands_over_every_phase_as_often_as_it_happens(quiet):
    profiler = Counting()
    quiet(profiler, gradient_clip_val=1.0).fit(Clipped())
    assert steps_of(profiler.calls) == {
        "[Data]train.fetch": 5,  # four batches and the end
        "[Data]transfer": 8,
        "[Data]validation.fetch": 6,  # two batches and the end, in the sanity check too
        "[Log]log": 12,
        "[Log]read": 3,  # two log points and the end
        "[Log]record": 4,
        "[Loop]validation": 1,
        "[Module]Clipped.training_step": 4,
        "[Module]Clipped.validation_step": 4,
        "[Step]backward": 4,
        "[Step]clip": 4,
        "[Step]optimizer_step": 4,
        "[Step]schedulers": 4,
        "[Step]zero_grad": 4,
    }


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_the_other_stages_hand_over_their_batches_and_steps(quiet, stage):
    profiler = Counting()
    trainer = quiet(profiler)
    getattr(trainer, stage)(TinyModule(), **({} if stage == "predict" else {"verbose": False}))
    step = {"validate": "validation"}.get(stage, stage)
    calls = steps_of(profiler.calls)
    calls.pop("[Log]log", None)
    assert calls == {f"[Data]{step}.fetch": 3, f"[Module]TinyModule.{step}_step": 2}


def test_manual_optimization_hands_over_backward_and_step(quiet):
    class Manual(TinyModule):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    profiler = Counting()
    quiet(profiler).fit(Manual())
    assert (profiler.calls["[Step]backward"], profiler.calls["[Step]optimizer_step"]) == (4, 4)


def test_a_closure_s_backward_happens_inside_the_optimizer_s_step(quiet):
    inside: list[list[str]] = []
    stack: list[str] = []

    class Stacking(Profiler):
        def wrap(self, function: Any, action: str) -> Any:
            def stacked(*args: Any, **kwargs: Any) -> Any:
                stack.append(action)
                if action == "[Step]backward":
                    inside.append(list(stack))
                try:
                    return function(*args, **kwargs)
                finally:
                    stack.pop()

            return stacked

    class Closure(TinyModule):
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters(), max_iter=1)

    quiet(Stacking(), limit_train_batches=1).fit(Closure())
    assert inside == [["[Step]optimizer_step", "[Step]backward"]]


def test_callbacks_modules_and_plugins_are_named_with_their_hooks(quiet):
    class Mine(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            pass

    class Hooked(TinyModule):
        def on_train_epoch_end(self) -> None:
            pass

    class Observer:
        @hookimpl
        def on_fit_start(self) -> None:
            pass

    profiler = Counting()
    quiet(profiler, callbacks=[Mine()], plugins=[Observer()]).fit(Hooked())
    # A class's name says where it was defined, here inside this test.
    found = {action.replace(f"{self_name()}.<locals>.", ""): count for action, count in profiler.calls.items()}
    assert found["[Callback]Mine.on_train_batch_end"] == 4
    assert found["[Module]Hooked.on_train_epoch_end"] == 1
    assert found["[Plugin]Observer.on_fit_start"] == 1


def self_name() -> str:
    return test_callbacks_modules_and_plugins_are_named_with_their_hooks.__name__


def test_plugins_that_were_there_before_the_profiler_are_measured_too(quiet):
    profiler = Counting()
    quiet(profiler)
    assert profiler.calls["[Plugin]default_callbacks (leyden-callbacks).default_callbacks"] == 1


def test_without_a_profiler_nothing_stands_between_the_loop_and_the_functions_it_calls(quiet):
    seen: dict[str, Any] = {}

    class Looking(TinyModule):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            step = self.trainer.train_step
            seen["training_step"] = step.training_step == self.training_step
            seen["backward"] = step.backward is torch.Tensor.backward
            seen["step"] = step.step_optimizer == self.trainer.precision.step
            seen["clip"] = step.clip == self.configure_gradient_clipping
            seen["replaced"] = [
                name for obj in (step, self.trainer.metrics) for name in vars(obj) if name in ("zero_grad", "log")
            ]

    quiet(None).fit(Looking())
    assert seen == {"training_step": True, "backward": True, "step": True, "clip": True, "replaced": []}


def test_the_plain_profiler_gives_back_the_iterator_it_was_given():
    iterator = iter([1, 2])
    assert Profiler().wrap_iterator(iterator, "an action") is iterator


def test_a_wrapped_iterator_gives_everything_and_ends():
    profiler = Counting()
    assert list(profiler.wrap_iterator(iter([1, None, 2]), "an action")) == [1, None, 2]
    assert profiler.calls == {"an action": 4}


def test_the_plain_profiler_measures_no_block_either():
    block = leyden.Trainer(accelerator="cpu", logger=False).profiler.profile("my action")
    assert isinstance(block, AbstractContextManager)
    with block as entered:
        assert entered is None
