"""Moves options of the optimizers, such as learning rate, momentum or weight decay, along curves of a run."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from leyden import Callback
from leyden.intervals import parse_interval
from leyden.limits import Limit
from leyden.messages import alternatives, shown
from torch import Tensor

from leyden_callbacks.arguments import check_bool, check_choice
from leyden_callbacks.gradient_accumulation_scheduler import GradientAccumulationScheduler

if TYPE_CHECKING:
    from leyden import Module, Trainer

SHAPES: dict[str, tuple[str, list[tuple[float, float]]]] = {
    "constant": ("linear", [(0.0, 1.0)]),
    "linear": ("linear", [(0.0, 1.0), (1.0, 0.0)]),
    "cosine": ("cosine", [(0.0, 1.0), (1.0, 0.0)]),
    "flat_cosine": ("cosine", [(0.0, 1.0), (0.75, 1.0), (1.0, 0.0)]),
    "one_cycle": ("cosine", [(0.0, 0.04), (0.25, 1.0), (1.0, 4e-7)]),
}
"""The curves that have a name: how points are joined, and points of a fraction of the run and a multiple of the first value."""

CURVES = ("linear", "cosine", "step")
_UNITS = ("step", "epoch", "duration")


class ParamScheduler(Callback):
    """Sets options of the optimizers' parameter groups before each step, as functions of how far the run is.

    ``ParamScheduler(lr="cosine", warmup="500 steps")`` takes the learning rate up to what ``configure_optimizers`` gave it and
    down to 0. A curve is

    * a name: ``"constant"``, ``"linear"`` and ``"cosine"`` (down to 0), ``"flat_cosine"`` (down in the last quarter),
      ``"one_cycle"`` (from a 25th up in the first quarter, then down);
    * a list of moments and values, such as ``[(0, 0.1), ("500 steps", 1.0), ("3 epochs", 0.5), (1.0, 0.0)]``, where a number is a
      fraction of the run;
    * or a function of how far the run is, in ``unit``.

    Values are multiples of what each parameter group began with, so that groups keep their ratios. ``momentum`` is the first of
    ``betas`` where an optimizer has those. A run that goes on from a checkpoint goes on along the curve. The length of a run in
    steps takes account of a :class:`~leyden_callbacks.GradientAccumulationScheduler`.

    Args:
        warmup: how long the learning rate rises from 0 before its curve begins, which then is so much shorter: a fraction of the
            run, or ``"500 steps"`` or ``"1 epoch"``. For curves by name, and functions of the duration.
        curve: how the points of lists are joined: ``"linear"``, ``"cosine"`` or ``"step"`` (each value holds until the next).
        relative: False takes values as they are.
        unit: what functions get: ``"duration"`` (0.0 to 1.0), ``"epoch"`` (epochs so far, 1.5 in the middle of the second) or
            ``"step"`` (steps so far).
        optimizer_idx: which optimizer; None is all.
        curves: by option, such as ``lr=...``, ``weight_decay=...``.

    Raises:
        TypeError: an argument or a curve has the wrong type.
        ValueError: there is no such curve, moment or unit.
    """

    name = "param_scheduler"

    def __init__(
        self,
        *,
        warmup: float | str | None = None,
        curve: str = "linear",
        relative: bool = True,
        unit: str = "duration",
        optimizer_idx: int | None = None,
        **curves: Any,
    ) -> None:
        owner = type(self).__name__
        check_choice(owner, "curve", curve, CURVES)
        check_bool(owner, "relative", relative)
        check_choice(owner, "unit", unit, _UNITS)
        if not curves:
            raise ValueError(f"{owner}() schedules nothing; pass curves by option, such as lr='cosine'")
        self.warmup = None if warmup is None else _moment(f"{owner}(warmup={warmup!r})", warmup)
        self.curves = {option: self._read(option, given, curve) for option, given in curves.items()}
        if warmup is not None:
            scheduled = curves.get("lr")
            if scheduled is None or (isinstance(scheduled, Sequence) and not isinstance(scheduled, str)):
                raise ValueError(
                    f"{owner}(warmup={warmup!r}): it comes before a curve of lr that has a name or is a function; put other "
                    f"warm-ups into the curve, such as lr=[(0, 0.0), ('500 steps', 1.0), (1.0, 0.0)]"
                )
            if callable(scheduled) and unit != "duration":
                raise ValueError(f"{owner}(warmup={warmup!r}, unit={unit!r}): it needs a function of the duration")
        self.relative = relative
        self.unit = unit
        self.optimizer_idx = optimizer_idx
        self._options = tuple(curves)
        self._values: dict[str, Callable[[int], float]] = {}
        self._last = -1
        self._goes_on = False

    def _read(self, option: str, given: Any, curve: str) -> Any:
        """A curve as a function or as ``(curve, points)``, each point a moment and a value."""
        label = f"{type(self).__name__}({option}={given!r})"
        if callable(given):
            return given
        if isinstance(given, str):
            if given not in SHAPES:
                raise ValueError(f"{label}: there is no such curve{alternatives(given, SHAPES, 'the curves')}")
            joined, points = SHAPES[given]
            return joined, [((at, "duration"), value) for at, value in points]
        pairs = isinstance(given, Sequence) and given and all(isinstance(p, Sequence) and len(p) == 2 for p in given)
        if not pairs or not all(_is_number(value) for _, value in given):
            raise TypeError(
                f"{label}: expected the name of a curve, a list of moments and values such as [(0, 0.1), (0.3, 1.0), "
                f"(1.0, 0.0)], or a function, got {shown(given)}"
            )
        return curve, [(_moment(label, at), float(value)) for at, value in given]

    @property
    def state_key(self) -> str:
        """The class with the options and the optimizer, for several of them make sense."""
        optimizer = "" if self.optimizer_idx is None else f" of optimizer {self.optimizer_idx}"
        return f"{type(self).__qualname__}({', '.join(self._options)}{optimizer})"

    # ---- state ----

    def state_dict(self) -> dict[str, Any]:
        """Which options it moves, whose values the optimizers keep."""
        return {"options": list(self._options)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Knows that the optimizers have them back."""
        self._goes_on = True

    # ---- the run ----

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """A fit starts anew; one that goes on from a checkpoint gets its state after this."""
        self._goes_on = False

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Works out how long the run is, and sets the values of the first step; a run that goes on has them, if it is limited.

        Raises:
            ValueError: no optimizer has such an option, somebody else sets it too, or the run has no length.
        """
        self._check_options(trainer)
        self._check_others(trainer)
        length = _Length(trainer, self.state_key)
        self._values = {option: self._bind(option, given, length) for option, given in self.curves.items()}
        self._last = -1
        if not (self._goes_on and self._is_limited(trainer)):
            self._set(trainer)

    def _is_limited(self, trainer: Trainer) -> bool:
        """Whether values are not set after each step but as ``every()`` and its like say."""
        limits = (participant.plugin for participant in trainer.bus.participants if isinstance(participant.plugin, Limit))
        return any(limit.name.startswith(f"{self.state_key} ") for limit in limits)

    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Sets the values of the coming step."""
        if trainer.global_step != self._last:
            self._set(trainer)

    def outline(self, trainer: Trainer) -> str | None:
        """Says which options it moves."""
        return f"moves {' and '.join(self._options)} of the optimizers along a curve"

    def _check_options(self, trainer: Trainer) -> None:
        groups = self._groups(trainer)
        known = {option for group in groups for option in group} | ({"momentum"} if any("betas" in g for g in groups) else set())
        for option in self._options:
            if option not in known or option == "params":
                own = {key for key in known if key not in ("params", "name") and not key.startswith("initial_")}
                known_ones = alternatives(option, own, "they have")
                raise ValueError(f"{type(self).__name__}({option}=...): no optimizer has it{known_ones}")
        if "lr" in self._options:
            for config in trainer.lr_scheduler_configs:
                if self.optimizer_idx in (None, config.optimizer_idx):
                    raise ValueError(
                        f"{type(self).__name__}(lr=...) and the {type(config.scheduler).__name__} that configure_optimizers "
                        f"returned both set the learning rate; leave out one of them"
                    )

    def _check_others(self, trainer: Trainer) -> None:
        from leyden_callbacks.stochastic_weight_averaging import StochasticWeightAveraging  # few runs have one

        for other in trainer.callbacks:
            shared = [option for option in self._options if isinstance(other, ParamScheduler) and option in other._options]
            apart = isinstance(other, ParamScheduler) and None not in (self.optimizer_idx, other.optimizer_idx)
            if other is not self and shared and not (apart and self.optimizer_idx != other.optimizer_idx):
                raise ValueError(f"two {type(self).__name__} both set {shared[0]!r}; leave out one of them")
            if isinstance(other, StochasticWeightAveraging) and "lr" in self._options:
                raise ValueError(
                    f"{type(self).__name__}(lr=...) and {type(other).__name__} both set the learning rate; leave out one of them"
                )

    def _groups(self, trainer: Trainer) -> list[dict[str, Any]]:
        if self.optimizer_idx is not None and self.optimizer_idx not in range(len(trainer.optimizers)):
            raise ValueError(
                f"{type(self).__name__}(optimizer_idx={self.optimizer_idx!r}): there are {len(trainer.optimizers)} optimizers"
            )
        chosen = trainer.optimizers if self.optimizer_idx is None else [trainer.optimizers[self.optimizer_idx]]
        return [group for optimizer in chosen for group in optimizer.param_groups]

    def _bind(self, option: str, given: Any, length: _Length) -> Callable[[int], float]:
        """The value of an option as a function of the optimizer steps that are done."""
        warm = length.steps(self.warmup) if self.warmup is not None and option == "lr" else 0.0
        value = self._function(given, length, warm) if callable(given) else self._line(option, given, length, warm)
        if not warm:
            return value
        top = value(math.ceil(warm))
        return lambda step: step / warm * top if step < warm else value(step)

    def _function(self, given: Callable[..., Any], length: _Length, warm: float) -> Callable[[int], float]:
        if self.unit == "duration":
            return lambda step: float(given(length.fraction(step, warm)))
        return lambda step: float(given(length.epochs(step) if self.unit == "epoch" else step))

    def _line(self, option: str, given: Any, length: _Length, warm: float) -> Callable[[int], float]:
        curve, points = given
        reached = [(warm + length.steps(at, less=warm), number) for at, number in points]
        places = [at for at, _ in reached]
        if places != sorted(places) and not length.is_trial:
            raise ValueError(
                f"{type(self).__name__}({option}=...): its moments are not in order, for in this run they come after "
                f"{', '.join(f'{at:g}' for at in places)} steps"
            )
        reached.sort(key=lambda point: point[0])
        return lambda step: _between(reached, curve, step)

    def _set(self, trainer: Trainer) -> None:
        self._last = step = trainer.global_step
        for option, value in self._values.items():
            number = value(step)
            for group in self._groups(trainer):
                if option in group or (option == "momentum" and "betas" in group):
                    # As torch's schedulers keep it: where a checkpoint has the group, it has what the group began with.
                    first = group.setdefault(f"initial_{option}", _read(group, option)) if self.relative else 1.0
                    _write(group, option, number * first)


class _Length:
    """How long a run is; asked for only where a curve needs to know."""

    def __init__(self, trainer: Trainer, owner: str) -> None:
        self._trainer = trainer
        self._owner = owner
        kind = GradientAccumulationScheduler
        self._accumulation = next((callback for callback in trainer.callbacks if isinstance(callback, kind)), None)
        self.is_trial = bool(trainer.fast_dev_run)
        """Whether the run is too short for curves to fit, which is no mistake."""

    def steps(self, moment: tuple[float, str], less: float = 0.0) -> float:
        """Optimizer steps until a moment; a fraction is one of the run without its first ``less`` steps."""
        count, unit = moment
        if unit == "step" or not count:
            return count
        if unit == "epoch":
            whole = int(count)
            return sum(map(self.epoch, range(whole))) + (count - whole) * self.epoch(whole)
        return count * self._after(less)

    def fraction(self, step: int, less: float) -> float:
        """How far the run without its first ``less`` steps is, from 0 to 1, by the steps done."""
        return min(max(step - less, 0.0) / self._after(less), 1.0)

    def epochs(self, step: int) -> float:
        """Epochs done, by the steps done."""
        if self._accumulation is None:
            whole, rest = divmod(step, self.epoch(0))
        else:
            whole, rest = 0, step
            while rest >= self.epoch(whole):
                rest -= self.epoch(whole)
                whole += 1
        return whole + rest / self.epoch(whole)

    def epoch(self, number: int) -> int:
        """Optimizer steps of an epoch, by its number from 0."""
        trainer = self._trainer
        steps = trainer.steps_of(trainer.num_training_batches, 1)
        if not math.isfinite(steps):
            raise ValueError(f"{self._owner} counts epochs, but the training loader does not say how long one is; count steps")
        if self._accumulation is None:
            return int(steps)
        return -(-int(trainer.num_training_batches) // (self._accumulation.batches_in(number) or 1))

    @cached_property
    def run(self) -> int:
        """Optimizer steps of the whole run."""
        trainer = self._trainer
        steps = trainer.estimated_stepping_batches
        if self._accumulation is not None and trainer.max_epochs != -1 and math.isfinite(trainer.num_training_batches):
            steps = sum(map(self.epoch, range(trainer.max_epochs)))
            steps = steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)
        if not math.isfinite(steps):
            raise ValueError(
                f"{self._owner} goes by the length of the run, which nobody knows; pass Trainer(max_steps=...), or give moments "
                f"in steps"
            )
        return int(steps)

    def _after(self, less: float) -> float:
        if less and less >= self.run and not self.is_trial:
            raise ValueError(f"{self._owner} has a warm-up of {less:g} steps, but the whole run has {self.run}")
        return max(self.run - less, 1)


def _moment(label: str, given: Any) -> tuple[float, str]:
    """A count and its unit: ``"step"``, ``"epoch"`` or ``"duration"``."""
    if isinstance(given, str):
        interval = parse_interval(given, "", _UNITS, label=label)
        return interval.count, interval.unit
    if not _is_number(given) or not 0 <= given <= 1:
        raise ValueError(
            f"{label}: expected moments as fractions of the run from 0 to 1, or with a unit such as '500 steps', got "
            f"{shown(given)}"
        )
    return float(given), "duration"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _between(points: list[tuple[float, float]], curve: str, step: int) -> float:
    """The value at a step of a curve through points, which holds its ends."""
    index = bisect.bisect_right([at for at, _ in points], step)
    if index == 0 or index == len(points) or curve == "step":
        return points[max(index - 1, 0)][1]
    (start, first), (end, last) = points[index - 1 : index + 1]
    done = (step - start) / (end - start)
    return first + (last - first) * (done if curve == "linear" else (1 - math.cos(math.pi * done)) / 2)


def _read(group: Mapping[str, Any], option: str) -> float:
    return float(group["betas"][0] if option == "momentum" and "betas" in group else group[option])


def _write(group: dict[str, Any], option: str, value: float) -> None:
    if option == "momentum" and "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    elif isinstance(group[option], Tensor):
        group[option].fill_(value)  # optimizers that are captured keep it on the device
    else:
        group[option] = value
