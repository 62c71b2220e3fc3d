"""What log() keeps: the latest value of each key and its sum over the epoch, on the device."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from leyden.data.batch_size import UnknownBatchSize, batch_size_of
from leyden.messages import listed, shown
from leyden.metrics.over_processes import Part, combined
from leyden.metrics.values import largest, smallest, to_floats
from leyden.strategy import Strategy


@dataclass(frozen=True)
class Context:
    """A kind of moment of a run, as far as logging is concerned."""

    name: str
    on_step: bool
    """The default of ``on_step``; ``on_epoch``'s is the opposite."""

    per_batch: bool
    """Whether there is a batch, and so a step value."""


TRAIN_BATCH = Context("a training batch", on_step=True, per_batch=True)
TRAIN_EPOCH = Context("a training epoch", on_step=False, per_batch=False)
EVAL_BATCH = Context("an evaluation batch", on_step=False, per_batch=True)
EVAL_EPOCH = Context("an evaluation", on_step=False, per_batch=False)

REDUCTIONS = {"mean": "mean", "avg": "mean", "sum": "sum", "min": "min", "max": "max",
              torch.mean: "mean", torch.sum: "sum", torch.min: "min", torch.max: "max",
              sum: "sum", min: "min", max: "max"}  # fmt: skip
"""What ``reduce_fx`` may be, and what it means."""


_PENDING = 64
"""Values of a key that are kept before they are added up."""


class Entry:
    """One key in one kind of moment."""

    __slots__ = ("bar", "count", "dtype", "enable_graph", "key_epoch", "key_step", "local", "metric", "name", "on_epoch",
                 "on_step", "options", "pending", "raw_name", "reduction", "seen", "to_logger", "total", "value", "weight",
                 "weights")  # fmt: skip

    def __init__(self, name: str, options: tuple[Any, ...], on_step: bool, on_epoch: bool, reduction: str) -> None:
        self.name = self.raw_name = name
        self.options = options
        self.bar, logger, _, _, _, self.enable_graph, _, self.local = options
        self.to_logger = logger is not False
        self.on_step = on_step
        self.on_epoch = on_epoch
        self.reduction = reduction
        both = on_step and on_epoch
        self.key_step = f"{name}_step" if both else name
        self.key_epoch = f"{name}_epoch" if both else name
        self.value: Any = None
        self.dtype = torch.float32
        """What a value that is kept as a number was."""
        self.metric: Any = None
        """The torchmetrics object that was logged, if it was one."""
        self.seen = -1  # the log() count of the last value, to tell fresh values from those already recorded
        self.count = 0
        self.pending: list[Any] = []
        """Values that are not added to ``total`` yet, and below their weights."""
        self.weights: list[float] = []
        self.reset()

    def keys(self) -> set[str]:
        """What it is recorded as."""
        return {key for key, used in ((self.key_step, self.on_step), (self.key_epoch, self.on_epoch)) if used}

    def reset(self) -> None:
        """Forgets the epoch's value."""
        if self.metric is not None and self.count:
            self.metric.reset()
        self.total: Any = None
        self.weight: float = 0
        self.count = 0
        self.pending.clear()
        self.weights.clear()

    def gather(self) -> None:
        """Adds the pending values to the sum, by one stacking of those of one dtype and device."""
        if not self.pending:
            return
        groups: dict[Any, tuple[list[Any], list[float]]] = {}
        weighted = self.reduction == "mean"
        for value, weight in zip(self.pending, self.weights, strict=True):
            if weighted and isinstance(weight, int | float) and not weight:
                continue  # the mean of no samples is nan as a rule, which must not count
            key = (value.dtype, value.device) if isinstance(value, Tensor) else None
            values, weights = groups.setdefault(key, ([], []))
            values.append(value)
            weights.append(weight)
        for key, (values, weights) in groups.items():
            self._gather(values if key is None else torch.stack(values).detach(), weights)
        if weighted:
            self.weight += sum(self.weights)
            self.total = 0.0 if self.total is None else self.total  # where none of the batches had a sample
        self.pending.clear()
        self.weights.clear()

    def _gather(self, values: Any, weights: list[float]) -> None:
        reduction = self.reduction
        total: Any
        if isinstance(values, Tensor):
            # In float64 a sum over any number of batches and ranks is exact enough to be compared; MPS has none.
            values = values.to(torch.float64 if values.device.type != "mps" else torch.float32)
            if reduction == "mean":
                first = weights[0]
                same = all(weight == first for weight in weights)  # then no weight needs to go to the device
                values = values * first if same else values * torch.tensor(weights, dtype=values.dtype, device=values.device)
            total = {"min": torch.amin, "max": torch.amax}.get(reduction, torch.sum)(values)
        elif reduction == "mean":
            total = sum(value * weight for value, weight in zip(values, weights, strict=True))
        else:
            total = {"min": smallest, "max": largest}.get(reduction, sum)(values)
        if self.total is None:
            self.total = total
            return
        # Numbers and tensors, or tensors of several devices, under one key: the device of the newer tensor has the sum.
        before: Any = self.total
        if isinstance(before, Tensor) and isinstance(total, Tensor):
            before = before.to(total.device)
        elif isinstance(total, Tensor):
            before = torch.as_tensor(before, dtype=total.dtype, device=total.device)
        elif isinstance(before, Tensor):
            total = torch.as_tensor(total, dtype=before.dtype, device=before.device)
        if reduction in ("mean", "sum"):
            self.total = before + total
        elif isinstance(before, Tensor):
            self.total = (torch.minimum if reduction == "min" else torch.maximum)(before, total)
        else:
            both: list[Any] = [before, total]
            self.total = (smallest if reduction == "min" else largest)(both)

    def latest(self) -> Tensor:
        """The latest value, as a tensor."""
        if isinstance(self.value, Tensor):
            return self.value
        return torch.tensor(self.value, dtype=self.dtype if self.dtype.is_floating_point else torch.float32)

    def reduced(self) -> Any:
        """What the batches gathered so far make; nan for the mean of no samples."""
        if self.reduction != "mean":
            return self.total
        return self.total / self.weight if self.weight else float("nan")

    def so_far(self) -> Tensor:
        """The epoch's value as it stands, in this process."""
        if self.metric is not None:
            return _metric_value(self.name, self.metric, self.metric.compute()).clone()
        self.gather()
        value = self.reduced()
        return value.float().clone() if isinstance(value, Tensor) else torch.tensor(float(value))


class Metrics:
    """The values of a run.

    Everything stays on the device until a log point: :meth:`step_record` and :meth:`reduce_epoch` read all that is due in
    one copy a device. What is in the host's memory already is taken as a number at once, which waits for nothing.
    """

    defers = False
    """Whether values in the host's memory stay tensors until a log point too, as those on a device do; for tests."""

    def __init__(self, strategy: Strategy) -> None:
        self.logged_metrics: dict[str, float] = {}
        """The latest value of each key as the loggers got it."""

        self.progress_bar_metrics: dict[str, float] = {}
        """The values for the bar as last read from the device."""

        self.context: Context | None = None
        self.batch: Any = None
        """The batch of the running step: the loop sets it, and ``batch_size`` to None, for each batch."""
        self.batch_size: int | None = None

        self.seen: set[int] = set()
        """The loaders of the running evaluation of which this process had a batch."""

        self.module: nn.Module | None = None
        """The module of the run, whose torchmetrics objects other processes may have logged and this one not."""

        self._strategy = strategy
        self._tables: dict[tuple[Context, int], dict[str, Entry]] = {}
        self._entries: dict[str, Entry] = {}
        self._template = "{name}"
        self._known: set[str] = set()
        self._clock = 0
        self._recorded = 0
        self._latest: dict[str, Tensor] = {}
        self._shown = 0
        self._has_skipped = False

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """The latest value of each key, on its device, or on the CPU."""
        if self._clock != self._shown:
            # Most values are replaced before anybody looks, so they come here when somebody does.
            fresh = [e for table in self._tables.values() for e in table.values() if e.on_step and e.seen > self._shown]
            self._shown = self._clock
            for entry in sorted(fresh, key=lambda entry: entry.seen):
                self._latest[entry.name] = value = entry.latest()
                if entry.on_epoch:
                    self._latest[entry.key_step] = value
        return self._latest

    def enter(self, context: Context | None, dataloader_idx: int = 0, *, template: str = "{name}") -> None:
        """Says what kind of moment begins; None forbids logging.

        Args:
            context: the kind of moment.
            dataloader_idx: which of several loaders is read.
            template: what a key is made of, so that those of several loaders differ.
        """
        self.context = context
        self.batch = None
        self.batch_size = None
        if context is not None:
            self._entries = self._tables.setdefault((context, dataloader_idx), {})
            self._template = template

    def log(self, name: str, value: Any, options: tuple[Any, ...], batch_size: int | None) -> None:
        """Keeps a value; see :meth:`leyden.Module.log`.

        Args:
            name: the key.
            value: a number, a tensor of one element, or a torchmetrics object.
            options: ``prog_bar``, ``logger``, ``on_step``, ``on_epoch``, ``reduce_fx``, ``enable_graph``,
                ``add_dataloader_idx`` and ``rank_zero_only``, in this order.
            batch_size: the weight of the value in a mean; found from the batch if None.
        """
        entry = self._entries.get(name)
        if entry is None or self.context is None:
            entry = self._new_entry(name, options)
        elif entry.options != options:
            raise ValueError(_different_options(name, entry.options, options))
        if isinstance(value, Tensor):
            if value.ndim:
                value = _only_element(name, value)
            if value.is_cpu and not entry.enable_graph and not self.defers:
                entry.dtype = value.dtype
                value = value.tolist()  # no copy, no operation: a third of what detach().clone() costs
            elif not value.is_floating_point():
                value = value.float()
            elif not entry.enable_graph:
                value = value.detach().clone()  # the user may change it in place before it is read, as in `loss /= 2`
        elif not isinstance(value, int | float):
            if is_metric(value):
                self._log_metric(entry, value)
                return
            value = _number(name, value)
        self._clock = entry.seen = self._clock + 1
        entry.value = value
        if entry.on_epoch:
            weight = 1 if batch_size is None else batch_size
            if batch_size is None and self.batch is not None and entry.reduction == "mean":
                if self.batch_size is None:
                    self.batch_size = self._infer(name)
                weight = self.batch_size
            # At once only to lists, for adding tensors costs more than a step can hide.
            entry.pending.append(value)
            entry.weights.append(weight)
            entry.count = count = entry.count + 1
            if count % _PENDING == 0:
                entry.gather()
            if self.context is not None and not self.context.per_batch:
                # Whoever monitors the key in the hook that logged it finds it; processes are reduced over after the hook.
                self.callback_metrics[entry.name] = entry.so_far()

    def _log_metric(self, entry: Entry, metric: Any) -> None:
        """Notes a torchmetrics object: its last forward is the step's value, its ``compute()`` the epoch's."""
        if callable(getattr(metric, "items", None)):
            raise ValueError(
                f"self.log({entry.name!r}, ...): a {type(metric).__name__} has several values; use self.log_dict(collection)"
            )
        entry.local = True  # it reduces over processes itself
        entry.metric = metric
        entry.count += 1
        self._clock = entry.seen = self._clock + 1
        training = self.context in (TRAIN_BATCH, TRAIN_EPOCH)
        for (context, _), table in self._tables.items():
            if (context in (TRAIN_BATCH, TRAIN_EPOCH)) is not training:
                for other in table.values():
                    if other.metric is metric:
                        raise ValueError(
                            f"self.log({entry.name!r}, ...): the same {type(metric).__name__} object is logged as {other.name!r} "
                            f"in {context.name} too, so each would count the other's samples; make one for each stage"
                        )
        if entry.on_step:
            value = getattr(metric, "_forward_cache", None)
            if value is None:
                raise ValueError(
                    f"self.log({entry.name!r}, ..., on_step=True) needs the value of this batch: call the "
                    f"{type(metric).__name__} itself, as in self.metric(preds, target), not only its update(); "
                    f"or pass on_step=False, on_epoch=True"
                )
            entry.value = _metric_value(entry.name, metric, value).clone()
        if entry.on_epoch and self.context is not None and not self.context.per_batch:
            self.callback_metrics[entry.name] = entry.so_far()

    def count_batch(self) -> int:
        """The samples of the running batch, whose size is not known yet; one that does not show it counts as one sample."""
        try:
            self.batch_size = batch_size_of(self.batch)
        except UnknownBatchSize:
            return 1
        return self.batch_size

    def _infer(self, name: str) -> int:
        try:
            return batch_size_of(self.batch)
        except UnknownBatchSize as error:
            raise ValueError(
                f"self.log({name!r}, ..., on_epoch=True) needs the number of samples to weight this batch: {error}; "
                f"pass batch_size=..."
            ) from None

    def _new_entry(self, name: str, options: tuple[Any, ...]) -> Entry:
        _, _, on_step, on_epoch, reduce_fx, _, add_dataloader_idx, _ = options
        context = self.context
        if not isinstance(name, str):
            raise TypeError(f"self.log({name!r}, ...): the name must be a str, got {shown(name)}")
        if context is None:
            raise ValueError(
                f"self.log({name!r}, ...) cannot be used here: there is no step or epoch the value belongs to; "
                f"log from a training, validation or test hook between on_train_start and on_train_end"
            )
        if on_step is None:
            on_step = context.on_step
        if on_epoch is None:
            on_epoch = not context.on_step
        if on_step and not context.per_batch:
            raise ValueError(
                f"self.log({name!r}, ..., on_step=True): {context.name} has no step; leave on_step out, or log from a batch hook"
            )
        try:
            reduction = REDUCTIONS[reduce_fx]
        except (KeyError, TypeError):
            raise ValueError(
                f"self.log({name!r}, ..., reduce_fx={reduce_fx!r}): expected 'mean', 'sum', 'min' or 'max'"
            ) from None
        key = self._template.replace("{name}", name) if add_dataloader_idx else name
        entry = Entry(key, options, bool(on_step), bool(on_epoch), reduction)
        entry.raw_name = name
        self._refuse_clash(entry)
        self._entries[name] = entry
        self._known |= {key, entry.key_step, entry.key_epoch}
        return entry

    def _refuse_clash(self, entry: Entry) -> None:
        """Refuses a name whose key another name is recorded as too: whoever reads it would get one of the two."""
        own = entry.keys()
        for _, table in self._of([self.context] if self.context else []):
            for other in table.values():
                if other.raw_name != entry.raw_name and own & other.keys():
                    raise ValueError(
                        f"self.log({entry.raw_name!r}, ...) and self.log({other.raw_name!r}, ...) would both be recorded as "
                        f"{min(own & other.keys())!r}; give one of them another name"
                    )

    def known_keys(self) -> set[str]:
        """Every key logged so far, in the sanity check too, with its ``_step`` and ``_epoch`` forms."""
        return set(self._known)

    # ---- log points ----

    def step_record(self) -> dict[str, float]:
        """Reads what was logged for steps since the last such record, and everything the bar shows.

        Returns:
            The values for the loggers, by key.
        """
        fresh = [e for e in self._entries.values() if e.on_step and e.seen > self._recorded and (e.to_logger or e.bar)]
        self._recorded = self._clock
        several = self._strategy.world_size > 1
        if not fresh and not several:
            return {}
        numbers = to_floats([entry.value for entry in fresh])
        places = [(entry.key_step, entry.to_logger, entry.bar) for entry in fresh]
        if several:
            numbers, others = self._steps_over_processes(fresh, numbers)
            places += others
        record: dict[str, float] = {}
        for (key, to_logger, bar), number in zip(places, numbers, strict=True):
            if bar:
                self.progress_bar_metrics[key] = number
            if to_logger:
                record[key] = number
        self.logged_metrics.update(record)
        return record

    def reduce_epoch(self, context: Context) -> list[dict[str, float]]:
        """Reduces what was logged for the epoch in one kind of moment, over batches and processes; every process calls it.

        ``callback_metrics`` and ``progress_bar_metrics`` have the values afterwards.

        Returns:
            For each loader, and at least one, the values by key as floats read in one copy, for loggers or not.
        """
        tables = [table for _, table in sorted(self._of([context]), key=lambda item: item[0])]
        entries = [
            (index, entry) for index, table in enumerate(tables) for entry in table.values() if entry.on_epoch and entry.count
        ]
        if self._strategy.world_size > 1:
            reduced = self._over_processes(context, tables, entries)
        else:
            reduced = self._reduced([entry for _, entry in entries])
        results: list[dict[str, float]] = [{} for _ in tables] or [{}]
        for (index, entry), value, number in zip(entries, reduced, to_floats(reduced), strict=True):
            kept = value.float() if isinstance(value, Tensor) else torch.tensor(number)
            self.callback_metrics[entry.name] = kept
            if entry.on_step:
                self.callback_metrics[entry.key_epoch] = kept
            if entry.bar:
                self.progress_bar_metrics[entry.key_epoch] = number
            results[index][entry.key_epoch] = number
        return results

    def to_loggers(self, *contexts: Context) -> set[str]:
        """The epoch keys of some kinds of moment that loggers are meant to get."""
        return {entry.key_epoch for _, table in self._of(contexts) for entry in table.values() if entry.to_logger}

    def reset(self, *contexts: Context) -> None:
        """Forgets the epoch's values in some kinds of moment; the latest values stay in ``callback_metrics``."""
        for _, table in self._of(contexts):
            for entry in table.values():
                entry.reset()

    def forget(self) -> None:
        """Forgets the epoch's values of every kind, as where a run ends in the middle of an epoch."""
        self.reset(TRAIN_BATCH, TRAIN_EPOCH, EVAL_BATCH, EVAL_EPOCH)

    def _of(self, contexts: Iterable[Context]) -> Iterator[tuple[int, dict[str, Entry]]]:
        return ((index, table) for (context, index), table in list(self._tables.items()) if context in contexts)

    def _reduced(self, entries: list[Entry]) -> list[Any]:
        for entry in entries:
            entry.gather()
        return [entry.reduced() if entry.metric is None else entry.so_far() for entry in entries]

    def _over_processes(self, context: Context, tables: list[dict[str, Entry]], entries: list[tuple[int, Entry]]) -> list[Any]:
        """The values of ``entries`` over all processes, and of those that this one lacks because it had no batch.

        Raises:
            ValueError: the processes logged other keys, or in another order.
        """
        parts, indices = [], []
        for position, (index, entry) in enumerate(entries):
            if entry.local and entry.metric is None:
                continue  # rank 0's own
            entry.gather()
            metric = entry.metric is not None  # it reduces over processes itself; here only its key is compared
            total = 0.0 if metric else entry.total
            place = self._place(entry.metric) if metric else None
            recipe = (index, entry.raw_name, entry.name, entry.options, entry.on_step, entry.on_epoch, metric, place)
            parts.append(Part(entry.name, "sum" if metric else entry.reduction, total, entry.weight, recipe))
            indices.append(position)
        seen = self.seen if context is EVAL_BATCH else self._trained()
        values, missing = combined(self._strategy, parts, context.name, seen)
        found: list[Any] = [None] * len(entries)
        for position, value in zip(indices, values, strict=False):
            found[position] = value
        for part, value in zip(missing, values[len(parts) :], strict=True):
            index, raw_name, name, options, on_step, on_epoch, metric, place = part.recipe
            while len(tables) <= index:
                tables.append(self._tables.setdefault((context, len(tables)), {}))
            entry = Entry(name, options, on_step, on_epoch, part.reduction)
            entry.raw_name = raw_name
            if metric:
                entry.metric, entry.local, entry.count = self._without_batch(context, name, place), True, 1
            tables[index][raw_name] = entry
            self._known |= {name, entry.key_step, entry.key_epoch}
            entries.append((index, entry))
            found.append(value)
        # torchmetrics objects wait for those of the other processes one after the other, so in the same order everywhere.
        local = sorted((position for position, (_, entry) in enumerate(entries) if entry.local), key=lambda p: entries[p][1].name)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The ``compute`` method of metric", UserWarning)  # here it had no batch
            for position, value in zip(local, self._reduced([entries[position][1] for position in local]), strict=True):
                found[position] = value
        return found

    def _trained(self) -> set[int] | None:
        """No loader where this process may lack by right what others log in training: it has skipped a batch, or has no more."""
        # What was logged in a step that was not taken is in a later record, of another epoch.
        self._has_skipped |= self._strategy.skipped_batches > 0
        return set() if self._strategy.idle or self._has_skipped else None

    def _place(self, metric: Any) -> str | None:
        """Where in the module a torchmetrics object is; None if nowhere."""
        children = () if self.module is None else self.module.named_modules()
        return next((name for name, child in children if child is metric), None)

    def _without_batch(self, context: Context, name: str, place: str | None) -> Any:
        """The torchmetrics object that other processes have logged, and wait for in this one, which had no batch.

        Raises:
            ValueError: it is not known here, or has nothing to send that fits what the others send.
        """
        metric = None if place is None or self.module is None else self.module.get_submodule(place)
        lists = metric is not None and any(isinstance(getattr(metric, state), list) for state in getattr(metric, "_defaults", ()))
        if metric is not None and not lists:
            return metric
        why = "keeps lists, of which an empty one has no shape" if lists else "is no attribute of the module, by which to find it"
        raise ValueError(
            f"{context.name} had no batch on rank {self._strategy.rank}, and {name!r} is a torchmetrics object, which reduces "
            f"over processes itself and would wait for this one, but {why}; give every rank a batch, or log its value"
        )

    def _steps_over_processes(self, fresh: list[Entry], numbers: list[float]) -> tuple[list[float], list[tuple[str, bool, bool]]]:
        """The values of a log point over all processes: of means and the rest as ``reduce_fx`` says, weighted alike.

        Returns:
            Those of ``fresh``, and behind them those that this process lacks because it had no batch; and of the latter the key,
            and whether loggers and the bar get it.
        """
        shared = [position for position, entry in enumerate(fresh) if not entry.local]
        parts = [
            Part(entry.key_step, entry.reduction, numbers[position], 1.0, (0, entry.to_logger, entry.bar))
            for position, entry in enumerate(fresh)
            if not entry.local
        ]
        values, missing = combined(self._strategy, parts, "the steps up to a log point", self._trained())
        found = list(numbers)
        for position, value in zip(shared, values, strict=False):
            found[position] = value
        return found + values[len(parts) :], [(part.key, part.recipe[1], part.recipe[2]) for part in missing]

    # ---- state ----

    def tables(self) -> list[tuple[tuple[Context, int], dict[str, Entry]]]:
        """The entries of every kind of moment and loader, by name."""
        return list(self._tables.items())

    def is_due(self, entry: Entry) -> bool:
        """Whether the entry has a step value that no record has yet."""
        return entry.on_step and entry.seen > self._recorded

    def load(self, tables: dict[tuple[Context, int], dict[str, tuple[Entry, bool]]], known: Iterable[str]) -> None:
        """Takes back entries, each with whether its step value is due."""
        self._known.update(known)
        self._clock = self._recorded + 1
        for place, entries in tables.items():
            table = self._tables.setdefault(place, {})
            for name, (entry, due) in entries.items():
                entry.seen = self._clock if due else -1
                table[name] = entry

    @contextmanager
    def isolated(self) -> Iterator[None]:
        """Whatever is logged inside leaves no trace outside, save in :meth:`known_keys`."""
        kept = (self.callback_metrics, self.logged_metrics, self.progress_bar_metrics, self._tables, self._entries)
        self._latest, self.logged_metrics, self.progress_bar_metrics = {}, {}, {}
        self._tables, self._entries = {}, {}
        try:
            yield
        finally:
            self.forget()
            self._latest, self.logged_metrics, self.progress_bar_metrics, self._tables, self._entries = kept
            self._shown = self._clock


def is_metric(value: Any) -> bool:
    """Whether ``value`` is a torchmetrics object, or behaves like one."""
    return all(callable(getattr(value, method, None)) for method in ("update", "compute", "reset"))


def _only_element(name: str, value: Tensor) -> Tensor:
    if value.numel() != 1:
        raise ValueError(
            f"self.log({name!r}, ...): expected one number, got a tensor of shape {tuple(value.shape)}; "
            f"reduce it first, for instance with .mean()"
        )
    return value.reshape(())


def _metric_value(name: str, metric: Any, value: Any) -> Tensor:
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.detach().reshape(()).float()
    got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else shown(value)
    raise ValueError(f"self.log({name!r}, ...): {type(metric).__name__} gives {got}, not one number; log its parts by name")


def _number(name: str, value: Any) -> float:
    if isinstance(value, dict):
        raise ValueError(f"self.log({name!r}, ...): expected one number, got a dict; use self.log_dict(...) for several")
    try:
        import numpy as np

        if isinstance(value, np.generic | np.ndarray) and value.size == 1:
            return float(value.item())
    except (TypeError, ValueError):
        pass
    raise TypeError(f"self.log({name!r}, ...): expected a number or a tensor of one element, got {shown(value)}")


_OPTION_NAMES = ("prog_bar", "logger", "on_step", "on_epoch", "reduce_fx", "enable_graph", "add_dataloader_idx", "rank_zero_only")


def _different_options(name: str, before: tuple[Any, ...], now: tuple[Any, ...]) -> str:
    changed = [
        f"{option}={old!r} and {option}={new!r}"
        for option, old, new in zip(_OPTION_NAMES, before, now, strict=True)
        if old != new
    ]
    return f"self.log({name!r}, ...) was called with {listed(changed).replace(chr(39), '')}; one key has one set of options"
