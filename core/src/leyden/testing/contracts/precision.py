"""What core relies on in a precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from leyden.accelerator import Accelerator
from leyden.callback import Callback
from leyden.precision import Precision
from leyden.testing.contracts.runs import (
    Breakdown,
    difference,
    introduced,
    plainly_trained,
    quiet,
    refusal,
    same,
    stored,
    tiny,
    weights,
)
from leyden.trainer import Trainer


class Gradients(Callback):
    """Keeps the gradients that each step sees, or breaks down in the middle of the second step."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.breaks = breaks
        self.seen: list[list[Tensor]] = []

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.seen.append([p.grad.double().cpu() for p in module.parameters() if p.grad is not None])
        if self.breaks and len(self.seen) == 2:
            raise Breakdown("the second step breaks down")


class PrecisionContract:
    """Subclass it as ``class TestAcme(PrecisionContract)`` and return a precision from :meth:`precision`."""

    tolerance: float = 0.02
    """How far weights trained for one epoch may be from those trained in full precision, as an absolute difference."""

    def precision(self) -> Precision:
        """A new precision."""
        raise NotImplementedError(f"{type(self).__name__}.precision must return the precision to test")

    def accelerator(self) -> Accelerator:
        """The accelerator to run on; the CPU if not overridden."""
        return Accelerator()

    def _trainer(self, root: Path, **options: Any) -> Trainer:
        return quiet(root, accelerator=self.accelerator(), precision=self.precision(), **options)

    def test_says_who_it_is(self) -> None:
        precision = self.precision()
        introduced(precision, Precision)

    def test_trains_nearly_as_full_precision_does(self, tmp_path: Path) -> None:
        module = tiny()
        trainer = self._trainer(tmp_path)
        trainer.fit(module)
        assert trainer.global_step == 4, f"4 batches made {trainer.global_step} optimizer steps: step() must return True for each"
        apart = difference(weights(module), weights(plainly_trained(tmp_path, accelerator=self.accelerator())))
        assert apart <= self.tolerance, f"after one epoch the weights are {apart} from those trained in full precision"
        moved = difference(weights(module), weights(tiny()))
        assert moved > 0, "after one epoch the weights are those of the start"

    def test_validates_tests_and_predicts(self, tmp_path: Path) -> None:
        plain = quiet(tmp_path, accelerator=self.accelerator())
        trainer = self._trainer(tmp_path)
        for stage, key in (("validate", "val_loss"), ("test", "test_loss")):
            found = getattr(trainer, stage)(tiny(), verbose=False)[0][key]
            expected = getattr(plain, stage)(tiny(), verbose=False)[0][key]
            assert abs(found - expected) <= self.tolerance, f"{stage} gave {key}={found}, full precision {expected}"
        classes = trainer.predict(tiny()) or []
        shapes = [tuple(batch.shape) for batch in classes]
        assert shapes == [(4,), (4,)], f"predict gave tensors of shapes {shapes}, expected [(4,), (4,)]"

    def test_gradients_are_the_true_ones_before_a_step(self, tmp_path: Path) -> None:
        found, expected = Gradients(), Gradients()
        self._trainer(tmp_path, callbacks=[found]).fit(tiny())
        quiet(tmp_path, accelerator=self.accelerator(), callbacks=[expected]).fit(tiny())
        for step, (ours, true) in enumerate(zip(found.seen, expected.seen, strict=True)):
            for one, other in zip(ours, true, strict=True):
                apart = (one - other).abs().max().item()
                assert apart <= self.tolerance, (
                    f"step {step}: on_before_optimizer_step sees gradients {apart} from the true ones; unscale() undoes scaling"
                )

    def test_leaves_torch_as_it_was(self, tmp_path: Path) -> None:
        device_type = self.accelerator().device(0).type
        # Set here, because a test before this one may have trained with the same precision.
        torch.set_default_dtype(torch.float32)
        try:
            self._trainer(tmp_path).fit(tiny())
            after = torch.get_default_dtype()
        finally:
            torch.set_default_dtype(torch.float32)
        assert after == torch.float32, f"a run left torch's default dtype at {after}, it was torch.float32"
        assert not torch.is_autocast_enabled(device_type), f"a run left autocast on for {device_type!r}"

    def test_leaves_integers_and_booleans_alone(self) -> None:
        module = torch.nn.Module()
        module.register_buffer("count", torch.tensor(16777217))
        module.register_buffer("mask", torch.tensor([True, False]))
        self.precision().convert_module(module)
        found = {name: buffer.dtype for name, buffer in module.named_buffers()}
        assert found == {"count": torch.int64, "mask": torch.bool}, f"convert_module made integers and booleans {found}"
        seen: list[Any] = []
        step = self.precision().wrap_step(lambda batch, batch_idx: seen.extend(batch), self.accelerator().device(0).type)
        step([torch.tensor(16777217), torch.tensor(True), "text"], 0)
        dtypes = [value.dtype if isinstance(value, Tensor) else type(value) for value in seen]
        assert dtypes == [torch.int64, torch.bool, str], f"a wrapped step got {dtypes}, expected [torch.int64, torch.bool, str]"

    def test_a_wrapped_step_passes_arguments_and_result_on(self) -> None:
        step = self.precision().wrap_step(lambda *args, **kwargs: (args, kwargs), self.accelerator().device(0).type)
        found = step([1], 2, dataloader_idx=3)
        assert found == (([1], 2), {"dataloader_idx": 3}), f"a wrapped step got and returned {found}"

    def test_state_makes_a_round_trip(self, tmp_path: Path) -> None:
        trainer = self._trainer(tmp_path)
        trainer.fit(tiny())
        state = trainer.precision.state_dict()
        other = self.precision()
        other.load_state_dict(stored(state))
        assert same(other.state_dict(), state), f"state_dict() is {other.state_dict()} after loading {state}"

    def test_a_checkpoint_resumes_to_the_run_that_would_have_been(self, tmp_path: Path) -> None:
        straight = tiny()
        self._trainer(tmp_path, max_epochs=2).fit(straight)
        first = self._trainer(tmp_path)
        first.fit(tiny())
        first.save_checkpoint(tmp_path / "first.ckpt")
        resumed = tiny()
        self._trainer(tmp_path, max_epochs=2).fit(resumed, ckpt_path=tmp_path / "first.ckpt")
        apart = difference(weights(resumed), weights(straight))
        assert apart == 0, f"the resumed run ends {apart} from the uninterrupted one"

    def test_serves_several_runs_and_survives_a_failed_one(self, tmp_path: Path) -> None:
        trainer = self._trainer(tmp_path, callbacks=[Gradients(breaks=True)])
        refusal(Breakdown, trainer.fit, tiny())
        module = tiny()
        trainer.fit(module)
        moved = difference(weights(module), weights(tiny()))
        assert moved > 0, "the run after a failed one did not train"
