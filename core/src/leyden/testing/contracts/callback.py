"""What core relies on in a callback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leyden.callback import Callback
from leyden.testing.contracts.runs import (
    Breakdown,
    FailingModule,
    difference,
    plainly_trained,
    quiet,
    refusal,
    same,
    stored,
    tiny,
    weights,
)
from leyden.trainer import Trainer


class CallbackContract:
    """Subclass it as ``class TestAcme(CallbackContract)`` and return a callback from :meth:`callback`.

    Runs train :class:`leyden.testing.TinyModule`, which logs ``train_loss``, ``val_loss`` and ``val_acc``.
    """

    only_watches: bool = True
    """Whether a run's weights are the same with the callback as without it."""

    def callback(self) -> Any:
        """A new callback, with the same options each time."""
        raise NotImplementedError(f"{type(self).__name__}.callback must return the callback to test")

    def options(self) -> dict[str, Any]:
        """Arguments of the Trainer that the callback needs, such as a logger."""
        return {}

    def _trainer(self, root: Path, callback: Any, **options: Any) -> Trainer:
        role = getattr(callback, "role", "")
        switches = (
            {f"enable_{role}": True} if role in ("checkpointing", "progress_bar", "model_summary") else {}
        )  # which a quiet Trainer has off
        return quiet(root, callbacks=[callback], **{**switches, **self.options(), **options})

    def test_answers_a_hook(self, tmp_path: Path) -> None:
        callback = self.callback()
        answered = self._trainer(tmp_path, callback).bus.implementations_of(callback)
        assert answered, f"{type(callback).__qualname__} answers no hook, so it would never be called"

    def test_takes_part_in_every_stage(self, tmp_path: Path) -> None:
        trainer = self._trainer(tmp_path, self.callback(), max_epochs=2, log_every_n_steps=1)
        module = tiny()
        trainer.fit(module)
        assert trainer.global_step == 8 or not self.only_watches, f"2 epochs of 4 batches made {trainer.global_step} steps"
        trainer.validate(module, verbose=False)
        trainer.test(module, verbose=False)
        trainer.predict(module)

    def test_training_goes_as_without_it(self, tmp_path: Path) -> None:
        if not self.only_watches:
            return
        module = tiny()
        self._trainer(tmp_path, self.callback()).fit(module)
        apart = difference(weights(module), weights(plainly_trained(tmp_path)))
        assert apart == 0, (
            f"with the callback the weights end {apart} from those without it; if they should, set only_watches = False"
        )

    def test_state_key_tells_what_it_is_and_not_which_object(self) -> None:
        one, other = self.callback(), self.callback()
        key = getattr(one, "state_key", None)
        assert key is None or isinstance(key, str), f"state_key is {key!r}, not a str"
        assert getattr(other, "state_key", None) == key, (
            f"two callbacks with equal options have the keys {key!r} and {other.state_key!r}"
        )

    def test_a_checkpoint_brings_its_state_back(self, tmp_path: Path) -> None:
        callback = self.callback()
        if not isinstance(callback, Callback):
            return  # only those have state
        first = self._trainer(tmp_path, callback)
        first.fit(tiny())
        first.save_checkpoint(tmp_path / "first.ckpt")
        state = stored(callback.state_dict())
        other = self.callback()
        self._trainer(tmp_path, other).fit(tiny(), ckpt_path=tmp_path / "first.ckpt")  # which has nothing left to train
        assert same(other.state_dict(), state), f"state_dict() was {state} when saved and is {other.state_dict()} when resumed"

    def test_serves_several_runs_and_survives_a_failed_one(self, tmp_path: Path) -> None:
        trainer = self._trainer(tmp_path, self.callback())
        refusal(Breakdown, trainer.fit, tiny(FailingModule))
        trainer.fit(tiny())
        trainer.fit(tiny())

    def test_takes_part_in_a_trial_run(self, tmp_path: Path) -> None:
        self._trainer(tmp_path, self.callback(), fast_dev_run=True).fit(tiny())
