"""Limits the hooks of a callback, a plug-in or a single method to every so many steps, or to moments or conditions of a run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from leyden.binding import Hook, HookError, Implementation, Participant
from leyden.data.batch_size import UnknownBatchSize, batch_size_of
from leyden.intervals import Interval, parse_interval
from leyden.messages import listed, quoted, shown

if TYPE_CHECKING:
    from leyden.module import Module
    from leyden.trainer import Trainer

T = TypeVar("T")

IN_BATCH = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
"""Limited hooks inside of a training batch."""

IN_VALIDATION = (
    "on_validation_start",
    "on_validation_epoch_start",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_validation_epoch_end",
    "on_validation_end",
)
"""Limited hooks of a validation inside fit; a validation is limited as a whole."""

LIMITED = ("on_train_epoch_start", *IN_BATCH, "on_train_batch_end", *IN_VALIDATION, "on_train_epoch_end")
"""All hooks that a limit holds back; every other one is always called."""

UNITS = ("step", "batch", "epoch", "sample", "second", "duration")

_MARK = "leyden_limit"
_EPSILON = 1e-9  # 0.3 / 0.1 is less than 3


@dataclass(frozen=True)
class Schedule:
    """When limited hooks are called."""

    text: str
    """How it was written, such as ``every='100 steps'``."""

    points: tuple[float, ...]
    """The moments of an ``at``; of an ``every`` the one interval."""

    unit: str
    """One of :data:`UNITS`."""

    repeats: bool
    """Whether it is an ``every``."""

    def passed(self, position: float) -> int:
        """How many of its moments lie at or before ``position``."""
        if self.repeats:
            return int(position / self.points[0] + _EPSILON)
        return sum(point <= position + _EPSILON for point in self.points)


@dataclass(frozen=True)
class Condition(Schedule):
    """Limited hooks are called whenever a function says so."""

    asks: Callable[[Any], object]
    """It is given the Trainer."""


def schedule(kind: str, given: object, label: str | None = None) -> Schedule:
    """Reads what ``every``, ``at`` or ``when`` was given.

    Args:
        kind: ``"every"``, ``"at"`` or ``"when"``.
        given: a text with a unit, or a number of optimizer steps; for ``"at"`` also a list of them; for ``"when"`` a function.
        label: how messages call it; ``every('100 steps')`` if not given.

    Raises:
        TypeError: it is none of these.
        ValueError: there is no such unit, or the number makes no sense.
    """
    items = list(given) if kind == "at" and isinstance(given, list | tuple) else [given]
    label = f"{kind}({quoted(given)})" if label is None else f"{label}={quoted(given)}"
    if kind == "when":
        if not callable(given) or isinstance(given, type):
            raise TypeError(f"{label}: expected a function of the trainer, got {shown(given)}")
        return Condition(f"when={getattr(given, '__qualname__', type(given).__qualname__)}", (), "condition", False, given)
    several = " or a list of them" if kind == "at" else ""
    if not items or any(isinstance(item, bool) or not isinstance(item, int | str) for item in items):
        raise TypeError(
            f"{label}: expected a number and a unit, such as '100 steps' or '0.5 duration', or a number of optimizer "
            f"steps{several}, got {shown(given)}"
        )
    moments = [_moment(item, label) for item in items]
    units = {moment.unit for moment in moments}
    if len(units) > 1:
        raise ValueError(f"{label}: its moments have different units, {listed(sorted(units))}; limit the callback to one of them")
    unit = units.pop()
    if unit == "duration" and any(moment.count > 1 for moment in moments):
        raise ValueError(f"{label}: a run ends at '1 duration'; expected at most that")
    points = tuple(sorted(moment.count for moment in moments))
    return Schedule(f"{kind}={given!r}", points, unit, kind == "every")


def _moment(item: Any, label: str) -> Interval:
    if isinstance(item, str):
        return parse_interval(item, "", UNITS, label=label)
    if item < 1:
        raise ValueError(f"{label}: expected a number of optimizer steps of at least 1")
    return Interval(item, "step")


@overload
def every(interval: str | int, callback: T) -> T: ...
@overload
def every(interval: str | int) -> Callable[[T], T]: ...
def every(interval: str | int, callback: Any = None) -> Any:
    """Limits hooks to every so many steps, batches, epochs, samples, seconds, or to fractions of a run.

    ``every("100 steps", callback)`` limits a callback, ``@every("100 steps")`` above a hook method limits that method, of a
    callback or of a module. A limited hook is called the first time it is due after another interval is complete; the running
    batch, epoch or step counts as complete. Hooks that are limited are :data:`leyden.limits.LIMITED`; all others, such as
    ``setup``, ``on_save_checkpoint`` or ``on_test_end``, are called as ever, and so are those of a validation outside fit.

    Args:
        interval: ``"100 steps"``, ``"10 batches"``, ``"2 epochs"``, ``"1e6 samples"``, ``"30 min"``, ``"0.1 duration"`` (a
            fraction of the run), or a number of optimizer steps.
        callback: the object to limit; it is returned.

    Returns:
        The callback, or without one a decorator.

    Raises:
        TypeError: the interval or the callback is of the wrong type.
        ValueError: there is no such unit, or the callback is limited already.
    """
    return _apply(schedule("every", interval), callback)


@overload
def at(moments: str | int | Sequence[str | int], callback: T) -> T: ...
@overload
def at(moments: str | int | Sequence[str | int]) -> Callable[[T], T]: ...
def at(moments: str | int | Sequence[str | int], callback: Any = None) -> Any:
    """Limits hooks to certain moments of a run: ``at("0.5 duration", callback)``, ``at(["1 epoch", "5 epochs"], callback)``.

    Each limited hook is called once for each moment, the first time it is due when that is reached. Otherwise as
    :func:`every`.

    Args:
        moments: one or several, of one unit.
        callback: the object to limit; it is returned.

    Returns:
        The callback, or without one a decorator.

    Raises:
        TypeError: a moment or the callback is of the wrong type.
        ValueError: there is no such unit, or the callback is limited already.
    """
    return _apply(schedule("at", moments), callback)


@overload
def when(condition: Callable[[Trainer], object], callback: T) -> T: ...
@overload
def when(condition: Callable[[Trainer], object]) -> Callable[[T], T]: ...
def when(condition: Callable[[Trainer], object], callback: Any = None) -> Any:
    """Limits hooks to when a function says so: ``when(lambda trainer: trainer.current_epoch > 2, callback)``.

    The function is asked each time that a limited hook is due, and gets the Trainer; a validation is let through as a whole
    or not at all. With several processes it must say the same in all of them. Otherwise as :func:`every`.

    Args:
        condition: a function of the Trainer.
        callback: the object to limit; it is returned.

    Returns:
        The callback, or without one a decorator.

    Raises:
        TypeError: the condition is no function, or the callback is of the wrong type.
        ValueError: the callback is limited already.
    """
    return _apply(schedule("when", condition), callback)


def _apply(limit: Schedule, target: Any) -> Any:
    if target is None:
        return lambda function: mark(function, limit)
    return mark(target, limit)


def mark(target: T, limit: Schedule) -> T:
    """Notes on a callback or a method that it is limited, and returns it.

    Raises:
        TypeError: nothing can be noted on it.
        ValueError: it is limited already.
    """
    if isinstance(target, str | dict | type):
        kind, _, given = limit.text.partition("=")
        hint = f"; write {{{target!r}: {{{kind!r}: {given}}}}}" if isinstance(target, str) else ""
        raise TypeError(f"{limit.text} limits an object or a hook method, got {shown(target)}{hint}")
    before = getattr(target, _MARK, None)
    name = getattr(target, "__qualname__", type(target).__qualname__)
    if before is not None:
        raise ValueError(f"{name} is limited to {before.text} already, so {limit.text} cannot be added")
    try:
        setattr(target, _MARK, limit)
    except AttributeError:
        raise TypeError(f"{limit.text}: {name} takes no attribute to note that on; derive it from leyden.Callback") from None
    return target


class Limit:
    """Follows a run and lets the limited hooks of one participant, or one of its methods, through when they are due.

    It is on the bus itself, before whom it limits. Times are those of this process: hooks in which processes communicate
    are limited by steps.
    """

    def __init__(self, schedule: Schedule, owner: str) -> None:
        self.schedule = schedule
        self.name = f"{owner} {schedule.text}"
        self._forget()

    def _forget(self) -> None:
        self.trainer: Any = None  # while training goes on
        self.state: dict[str, int] = {}
        self.seconds = 0.0
        self.samples = 0
        self._started = 0.0
        self._last: dict[str, float] = {}
        self._validates = True

    # ---- the run ----

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Every run starts anew."""
        self._forget()

    def on_load_checkpoint(self, trainer: Trainer, module: Module, checkpoint: dict[str, Any]) -> None:
        """Goes on from where the saved run was."""
        saved = checkpoint.get("leyden", {}).get("limits", {}).get(self.name)
        if saved is not None:
            self.state = {hook: int(passed) for hook, passed in saved["passed"].items()}
            self.seconds, self.samples = float(saved["seconds"]), int(saved["samples"])

    def on_save_checkpoint(self, trainer: Trainer, module: Module, checkpoint: dict[str, Any]) -> None:
        """Keeps which moments have passed."""
        if "optimizer_states" in checkpoint:
            state = {"passed": dict(self.state), "seconds": self._elapsed(), "samples": self.samples}
            checkpoint["leyden"].setdefault("limits", {})[self.name] = state

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Limits from here on.

        Raises:
            ValueError: it asks for fractions of a run without an end.
        """
        self.trainer, self._started = trainer, time.monotonic()
        if self.schedule.unit == "duration" and trainer.max_epochs == -1 and trainer.max_steps == -1 and trainer.max_time is None:
            raise ValueError(
                f"{self.name}: this run has no end to take a fraction of; pass max_epochs, max_steps or max_time to the Trainer"
            )
        begun = self.schedule.passed(self._position(ahead=0))
        self.state = {hook: self.state.get(hook, begun) for hook in (*LIMITED, "validation")}

    def on_validation_start(self, trainer: Trainer, module: Module) -> None:
        """Decides about this validation."""
        self._validates = self.trainer is None or self._due("validation", self._position(ahead=0))

    def on_train_end(self, trainer: Trainer, module: Module) -> None:
        """What comes now is not limited."""
        self._stop()

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Likewise for a run that failed."""
        self._stop()

    def _stop(self) -> None:
        self.seconds, self.trainer, self._validates = self._elapsed(), None, True

    # ---- where the run is ----

    def _elapsed(self) -> float:
        return self.seconds if self.trainer is None else self.seconds + time.monotonic() - self._started

    def _position(self, *, ahead: int) -> float:
        """How much is done, in the schedule's unit; ``ahead`` is 1 where the running batch counts as done, else 0."""
        unit, trainer = self.schedule.unit, self.trainer
        progress = trainer.progress
        if unit == "step":
            return float(progress.global_step + ahead)
        if unit == "batch":
            return float(progress.total_batches + ahead)
        if unit == "epoch":
            return self._epochs(ahead)
        if unit == "sample":
            return float(self.samples)
        if unit == "second":
            return self._elapsed()
        done = [0.0]
        if trainer.max_epochs > 0:
            done.append(self._epochs(ahead) / trainer.max_epochs)
        if trainer.max_steps > 0:
            done.append((progress.global_step + ahead) / trainer.max_steps)
        if trainer.max_time is not None:
            done.append(self._elapsed() / trainer.max_time.total_seconds())
        return max(done)

    def _epochs(self, ahead: int) -> float:
        progress, length = self.trainer.progress, self.trainer.num_training_batches
        if progress.epoch_ended:
            return float(progress.epoch + 1)
        inside = (progress.batch + ahead) / length if length and not math.isinf(length) else 0.0
        return float(progress.epoch + min(inside, 1.0))

    # ---- letting through ----

    def _due(self, hook: str, position: float) -> bool:
        passed = self.schedule.passed(position)
        if passed <= self.state[hook]:
            return False
        self.state[hook] = passed
        return True

    def lets_through(self, hook: str) -> bool:
        """Whether a limited hook that is about to be called is due."""
        if self.trainer is None:
            return True
        if hook in IN_VALIDATION:
            return self._validates
        if hook in IN_BATCH:
            position = self._position(ahead=1)
            # The hook of every optimizer, and of every batch of the step that is accumulated.
            if self._last.get(hook) == position or self._due(hook, position):
                self._last[hook] = position
                return True
            return False
        if hook == "on_train_epoch_start" and self.schedule.unit == "epoch":
            return self._due(hook, float(self.trainer.progress.epoch + 1))
        return self._due(hook, self._position(ahead=0))

    def around(self, call: Hook, hook: str, *, wrapper: bool) -> Hook:
        """The function that the bus calls in place of an implementation."""
        lets_through = self.lets_through

        if wrapper:

            def limited(*values: Any) -> Any:
                return (yield from call(*values)) if lets_through(hook) else (yield)

        else:

            def limited(*values: Any) -> Any:
                return call(*values) if lets_through(hook) else None

        return limited


class CountingLimit(Limit):
    """A limit by samples or by time, which takes note of each batch before anybody else."""

    def __init__(self, schedule: Schedule, owner: str) -> None:
        super().__init__(schedule, owner)
        self._now = 0.0

    def on_train_batch_start(self, trainer: Trainer, module: Module, batch: Any, batch_idx: int) -> None:
        """Adds the samples of the batch, and takes the time once for all hooks inside of it.

        Raises:
            ValueError: it counts samples and the batch does not show how many it has.
        """
        self._now = self._elapsed()
        if self.schedule.unit != "sample":
            return
        size = trainer.metrics.batch_size
        if size is None:
            try:
                size = batch_size_of(batch)
            except UnknownBatchSize as error:
                raise ValueError(f"{self.name}: the samples of batch {batch_idx} cannot be counted: {error}") from None
        self.samples += size * trainer.world_size

    def _position(self, *, ahead: int) -> float:
        return self._now if ahead and self.schedule.unit == "second" else super()._position(ahead=ahead)


class ConditionLimit(Limit):
    """A limit by what a function says."""

    def _position(self, *, ahead: int) -> float:
        return float(self.trainer.progress.global_step + ahead)

    def _due(self, hook: str, position: float) -> bool:
        assert isinstance(self.schedule, Condition)
        return bool(self.schedule.asks(self.trainer))


def limits_of(participant: Participant, found: list[Implementation], functions: dict[str, Any]) -> list[Limit]:
    """Puts limits around the implementations of a participant that has some.

    Args:
        participant: who is about to take part.
        found: its implementations, which are changed.
        functions: the function behind each hook, which a decorator may have marked.

    Returns:
        The limits, which take part too.

    Raises:
        HookError: something is limited that is called but once a run.
    """
    plugin = participant.plugin
    name = getattr(plugin, "state_key", None)
    owner = name if isinstance(name, str) else participant.name
    limits: list[Limit] = []
    for implementation in found:
        hook, marked = implementation.hook, getattr(functions.get(implementation.hook), _MARK, None)
        if marked is None:
            continue
        if hook not in LIMITED:
            raise HookError(f"{participant.name}.{hook} is limited to {marked.text}, but only these can be: {listed(LIMITED)}")
        limits.append(_limit(marked, f"{owner}.{hook}"))
        implementation.call = limits[-1].around(implementation.call, hook, wrapper=implementation.is_wrapper)
    whole = getattr(plugin, _MARK, None)
    if isinstance(whole, Schedule):
        held = [implementation for implementation in found if implementation.hook in LIMITED]
        if not held:
            answered = listed(implementation.hook for implementation in found)
            raise HookError(
                f"{participant.name} is limited to {whole.text}, but it answers {answered}; only these can be limited: "
                f"{listed(LIMITED)}"
            )
        limits.append(_limit(whole, owner))
        for implementation in held:
            implementation.call = limits[-1].around(implementation.call, implementation.hook, wrapper=implementation.is_wrapper)
    return limits


def _limit(schedule: Schedule, owner: str) -> Limit:
    if isinstance(schedule, Condition):
        return ConditionLimit(schedule, owner)
    return (CountingLimit if schedule.unit in ("sample", "second") else Limit)(schedule, owner)
