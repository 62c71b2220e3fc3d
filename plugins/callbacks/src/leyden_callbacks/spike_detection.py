"""Notices losses that jump, and writes down which batches they were of."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback
from leyden.messages import shown
from torch import Tensor

from leyden_callbacks.arguments import check_bool, check_choice, check_int, check_number
from leyden_callbacks.log_points import LogPoints
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer


class TrainingSpikeError(RuntimeError):
    """The training loss jumped; ``batches`` says where."""

    def __init__(self, message: str, batches: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.batches = batches


class SpikeDetection(Callback):
    """Compares the loss of each batch with a running mean of those before.

    A loss is a spike if it is not finite, or worse than the mean by more than ``atol + rtol * |mean|``. Losses stay on the
    device and are read together at log points, so a spike is noticed then.

    Args:
        mode: ``"min"`` if a loss above the mean is worse, ``"max"`` for a reward.
        window: batches that the mean remembers, about.
        warmup: batches at the start, and after each epoch's, that only count in the mean.
        atol: what is not a spike yet, in units of the loss.
        rtol: likewise as a fraction of the mean.
        finite_only: whether a loss that is not finite is a spike.
        action: ``"raise"`` ends training with a :class:`TrainingSpikeError`, ``"stop"`` sets ``trainer.should_stop``,
            ``"warn"`` says it on standard error.
        exclude_batches_path: a JSON file that the spikes are added to, as ``[{"epoch": 0, "batch_idx": 17, "loss": 12.5}]``,
            so that a data loader can leave those batches out next time; ``<trainer.log_dir>/skip_batches.json`` if not given.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    name = "spike_detection"

    def __init__(
        self,
        mode: str = "min",
        window: int = 10,
        warmup: int = 1,
        atol: float = 0.0,
        rtol: float = 2.0,
        finite_only: bool = True,
        action: str = "raise",
        exclude_batches_path: str | os.PathLike[str] | None = None,
    ) -> None:
        owner = type(self).__name__
        check_choice(owner, "mode", mode, ("min", "max"))
        check_int(owner, "window", window, 1)
        check_int(owner, "warmup", warmup, 1)
        check_number(owner, "atol", atol, 0)
        check_number(owner, "rtol", rtol, 0)
        check_bool(owner, "finite_only", finite_only)
        check_choice(owner, "action", action, ("raise", "stop", "warn"))
        if exclude_batches_path is not None and not isinstance(exclude_batches_path, str | os.PathLike):
            raise TypeError(
                f"{owner}(exclude_batches_path={exclude_batches_path!r}): expected a path, got {shown(exclude_batches_path)}"
            )
        self.mode = mode
        self.window = window
        self.warmup = warmup
        self.atol = atol
        self.rtol = rtol
        self.finite_only = finite_only
        self.action = action
        self.exclude_batches_path = exclude_batches_path
        self._forget()

    def _forget(self) -> None:
        self.spikes: list[dict[str, Any]] = []
        """Every spike of the run: ``epoch``, ``batch_idx``, ``loss``."""
        self.mean = 0.0
        """The running mean of the losses."""
        self.seen = 0
        """How many losses are in it."""
        self._unread: list[tuple[int, int, Tensor]] = []
        self._reported = 0  # how many spikes were told
        self._log_points = LogPoints()
        self._batches = 0  # since losses were looked at; the same on every process, some of which may have no loss

    # ---- state ----

    def state_dict(self) -> dict[str, Any]:
        """The mean and the spikes so far."""
        self._read()
        return {"mean": self.mean, "seen": self.seen, "spikes": list(self.spikes), "reported": self._reported}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes them back."""
        self.mean, self.seen = float(state_dict["mean"]), int(state_dict["seen"])
        self.spikes = [dict(spike) for spike in state_dict["spikes"]]
        self._reported = state_dict.get("reported", len(self.spikes))

    # ---- the run ----

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """A fit starts anew; one that goes on from a checkpoint gets its state after this."""
        if stage == "fit":
            self._forget()

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Looks at log points from here on."""
        self._log_points.start(trainer)

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keeps the loss; looks at all of them at log points.

        Raises:
            ValueError: several optimizers took their turns, so that there is no one loss of a batch.
        """
        if isinstance(outputs, list):
            raise ValueError(
                f"{type(self).__name__} compares the loss of each batch with those before, but {type(module).__name__} has "
                f"{len(outputs)} losses a batch, one for each optimizer's turn; leave it out"
            )
        loss = outputs.get("loss") if isinstance(outputs, dict) else None
        if isinstance(loss, Tensor):
            self._unread.append((trainer.current_epoch, batch_idx, loss))
        self._batches += 1
        if self._log_points.is_reached(trainer) or self._batches >= (trainer.log_every_n_steps or 50):
            self._look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """Looks at the rest."""
        self._look(trainer)

    def _read(self) -> None:
        unread, self._unread = self._unread, []
        if not unread:
            return
        values = torch.stack([loss.reshape(()).float() for _, _, loss in unread]).tolist()  # one copy from the device
        for (epoch, batch_idx, _), value in zip(unread, values, strict=True):
            if self._is_spike(value):
                self.spikes.append({"epoch": epoch, "batch_idx": batch_idx, "loss": value})
            elif math.isfinite(value):
                self.seen += 1
                self.mean += (value - self.mean) / min(self.seen, self.window)

    def _is_spike(self, value: float) -> bool:
        if not math.isfinite(value):
            return self.finite_only
        if self.seen < self.warmup:
            return False
        worse = value - self.mean if self.mode == "min" else self.mean - value
        return worse > self.atol + self.rtol * abs(self.mean)

    def _look(self, trainer: Trainer) -> None:
        self._read()
        self._batches = 0
        found = self.spikes[self._reported :]
        self._reported = len(self.spikes)
        if trainer.world_size > 1:  # a batch of any process is a spike of the run
            anywhere = trainer.strategy.all_reduce(torch.tensor(float(bool(found)), device=trainer.strategy.device), "max")
            if not found and float(anywhere):
                found = [{"epoch": trainer.current_epoch, "batch_idx": -1, "loss": math.nan}]
        if not found:
            return
        if found[-1]["batch_idx"] >= 0:
            self._write(trainer, found)
        last = found[-1]
        where = f"batch {last['batch_idx']} of epoch {last['epoch']}" if last["batch_idx"] >= 0 else "a batch of another process"
        text = f"the loss of {where} was {last['loss']:g}; the mean before was {self.mean:g}"
        if self.action == "raise":
            raise TrainingSpikeError(f"{text}; {type(self).__name__}(action='warn') only says so", found)
        if self.action == "stop":
            trainer.should_stop = True
        say(trainer, text + ("; training stops" if self.action == "stop" else ""))

    def _write(self, trainer: Trainer, found: list[dict[str, Any]]) -> None:
        path = Path(self.exclude_batches_path or Path(trainer.log_dir) / "skip_batches.json")
        if trainer.world_size > 1:
            path = path.with_name(f"{path.stem}-rank{trainer.strategy.rank}{path.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        known: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
        # JSON knows no NaN and no infinity.
        new = [{**spike, "loss": spike["loss"] if math.isfinite(spike["loss"]) else str(spike["loss"])} for spike in found]
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps([*known, *new], indent=1) + "\n")
        temporary.replace(path)  # a run that dies here leaves the old list
