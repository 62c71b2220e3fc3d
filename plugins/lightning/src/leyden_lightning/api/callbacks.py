"""The callbacks whose arguments or methods Lightning has other names for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import leyden
import torch
from leyden.data.streams import IndexStream

from leyden_lightning.api.enums import WriteInterval
from leyden_lightning.api.exceptions import MisconfigurationException, lightnings_errors
from leyden_lightning.api.resolution import of_plugins
from leyden_lightning.api.stand_in import meta_of, stand_in
from leyden_lightning.legacy.notices import legacy

_GROUP = leyden.Callback.group


class _HasRole(type):
    """Whoever saves checkpoints is an instance."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or (
            cls.__name__ == "Checkpoint" and getattr(instance, "role", "") == "checkpointing"
        )


class Checkpoint(leyden.Callback, metaclass=_HasRole):
    """The base class of callbacks that save checkpoints; they come last among the callbacks."""

    role: ClassVar[str] = "checkpointing"


def _model_checkpoint(base: Any) -> Any:
    class ModelCheckpoint(base, metaclass=meta_of(base)):  # type: ignore[misc, metaclass]  # made when asked for
        def __init__(self, dirpath: Any = None, filename: Any = None, monitor: Any = None, *args: Any, **kwargs: Any) -> None:
            name = type(self).__name__
            with lightnings_errors():
                if "filepath" in kwargs:
                    dirpath, filename = _split_path(name, kwargs.pop("filepath"), dirpath, filename)
                if "period" in kwargs:
                    period = kwargs.pop("period")
                    legacy(f"{name}(period={period!r})", f"{name}(every_n_epochs={period!r})")
                    kwargs.setdefault("every_n_epochs", period)
                if "every_n_val_epochs" in kwargs:
                    every = kwargs.pop("every_n_val_epochs")
                    legacy(f"{name}(every_n_val_epochs={every!r})", f"{name}(every_n_epochs={every!r})")
                    kwargs.setdefault("every_n_epochs", every)
                prefix = kwargs.pop("prefix", "")
                if prefix:
                    legacy(f"{name}(prefix={prefix!r})", f"{name}(filename={prefix + '-{epoch}-{step}'!r})")
                    filename = f"{prefix}-{filename or '{epoch}-{step}'}"
                _read_mode(name, kwargs, monitor)
                if "save_last" in kwargs and kwargs["save_last"] is None:
                    kwargs.pop("save_last")
                super().__init__(dirpath, filename, monitor, *args, **kwargs)

    return ModelCheckpoint


def _split_path(name: str, filepath: Any, dirpath: Any, filename: Any) -> tuple[Any, Any]:
    if filepath is None:
        return dirpath, filename
    path = Path(filepath)
    parts = (str(path), None) if path.is_dir() or str(filepath).endswith("/") else (str(path.parent), path.name)
    legacy(f"{name}(filepath={str(filepath)!r})", f"{name}(dirpath={parts[0]!r}, filename={parts[1]!r})")
    return parts[0], parts[1] or filename


def _read_mode(name: str, kwargs: dict[str, Any], monitor: str | None) -> None:
    if kwargs.get("mode") == "auto":
        mode = "max" if "acc" in (monitor or "") or (monitor or "").startswith("fmeasure") else "min"
        legacy(f"{name}(mode='auto')", f"{name}(mode={mode!r})")
        kwargs["mode"] = mode


_ZERO_ONLY = 10
"""How many arguments after ``monitor`` it takes by position to give ``log_rank_zero_only`` too."""


def _early_stopping(base: Any) -> Any:
    class EarlyStopping(base, metaclass=meta_of(base)):  # type: ignore[misc, metaclass]  # made when asked for
        def __init__(self, monitor: str | None = None, *args: Any, **kwargs: Any) -> None:
            name = type(self).__name__
            with lightnings_errors():
                if monitor is None:
                    legacy(f"{name}() without monitor", f"{name}(monitor='val_loss')")
                    monitor = "val_loss"
                _read_mode(name, kwargs, monitor)
                if len(args) < _ZERO_ONLY:
                    kwargs.setdefault("log_rank_zero_only", False)  # Lightning's default: every rank says it
                super().__init__(monitor, *args, **kwargs)

        def _run_early_stopping_check(self, trainer: Any) -> None:
            # What the documentation calls to check at another moment.
            value = trainer.callback_metrics.get(self.monitor)
            if value is None or trainer.fast_dev_run:
                return
            reason, why = self._judge(float(value), trainer)
            if reason.name != "NOT_STOPPED":
                self.stopping_reason, self.stopping_reason_message = reason, why
                self.stopped_epoch, trainer.should_stop = trainer.current_epoch, True

    return EarlyStopping


def _prediction_writer(base: Any) -> Any:
    class BasePredictionWriter(base, metaclass=meta_of(base)):  # type: ignore[misc, metaclass]  # made when asked for
        """Lightning's two methods are given the indices of the samples too.

        They are None where nobody knows them before they are drawn: of a stream, of any other iterable, and of a sampler of
        one's own.
        """

        _sampled: Any = ()
        _indices: Any = ()

        @property
        def interval(self) -> WriteInterval:
            """When it writes."""
            return WriteInterval(self.write_interval)

        def write_on_batch_end(
            self,
            trainer: Any,
            pl_module: Any,
            prediction: Any,
            batch_indices: Any,
            batch: Any,
            batch_idx: int,
            dataloader_idx: int,
        ) -> None:
            raise NotImplementedError(f"{type(self).__name__} needs write_on_batch_end")

        def write_on_epoch_end(self, trainer: Any, pl_module: Any, predictions: Any, batch_indices: Any) -> None:
            raise NotImplementedError(f"{type(self).__name__} needs write_on_epoch_end")

        def on_predict_start(self, trainer: Any, module: Any) -> None:
            super().on_predict_start(trainer, module)
            self._sampled = [_sampled(loader.stream) for loader in trainer.predict_loop.loaders]
            self._indices = [[] for _ in self._sampled]

        def on_predict_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
        ) -> None:
            found = next(self._sampled[dataloader_idx], None)
            if "epoch" in self.write_interval:
                self._indices[dataloader_idx].append(found)
            write = self.write_on_batch_end
            self.__dict__["write_on_batch_end"] = lambda t, m, p, b, i, d: write(t, m, p, found, b, i, d)
            try:
                super().on_predict_batch_end(trainer, module, outputs, batch, batch_idx, dataloader_idx)
            finally:
                del self.__dict__["write_on_batch_end"]

        def on_predict_epoch_end(self, trainer: Any, module: Any) -> None:
            indices, self._indices, self._sampled = self._indices, (), ()
            write = self.write_on_epoch_end
            self.__dict__["write_on_epoch_end"] = lambda t, m, p: write(t, m, p, indices)
            try:
                super().on_predict_epoch_end(trainer, module)
            finally:
                del self.__dict__["write_on_epoch_end"]

    return BasePredictionWriter


def _sampled(stream: Any) -> Iterator[Any]:
    """The indices of each batch of a stream that this process reads; nothing where drawing them would change what is drawn."""
    if not isinstance(stream, IndexStream) or stream.streams or not stream.quiet:
        return iter(())
    return ([indices] if isinstance(indices, int) else list(indices) for indices in stream.plain_indices())


class _Counts:
    """What bars of one's own read of the run, and how they are switched off."""

    refresh_rate: int
    _trainer: Any = None
    _rate: int | None = None

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        """Remembers the run."""
        self._trainer = trainer

    @property
    def trainer(self) -> Any:
        """The run, from ``setup`` on."""
        return self._trainer

    @property
    def total_train_batches(self) -> float:
        """Training batches of an epoch."""
        batches: float = self._trainer.num_training_batches
        return batches

    @property
    def total_val_batches(self) -> float:
        """Batches of the running validation, of all loaders together."""
        trainer = self._trainer
        batches: float = sum(trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches)
        return batches

    @property
    def total_test_batches(self) -> float:
        """Batches of a test, of all loaders together."""
        batches: float = sum(self._trainer.num_test_batches)
        return batches

    @property
    def total_predict_batches(self) -> float:
        """Batches to predict, of all loaders together."""
        batches: float = sum(self._trainer.num_predict_batches)
        return batches

    def disable(self) -> None:
        """Shows nothing from the next bar on."""
        self._rate, self.refresh_rate = self.refresh_rate or self._rate, 0

    def enable(self) -> None:
        """Shows bars again."""
        self.refresh_rate = self.refresh_rate or self._rate or 1

    @property
    def is_enabled(self) -> bool:
        """Whether bars are shown."""
        return self.refresh_rate > 0

    @property
    def is_disabled(self) -> bool:
        """Whether none is."""
        return not self.is_enabled


def _progress(base: Any) -> Any:
    class ProgressBar(_Counts, base, metaclass=meta_of(base)):  # type: ignore[misc, metaclass]  # made when asked for
        """Draws nothing itself, as Lightning's; those that do derive from leyden's."""

        def __init__(self) -> None:
            base.__init__(self, 0)

    return ProgressBar


_BARS = {"Sanity check": "sanity", "Validation": "validation", "Test": "test", "Predict": "predict"}


def _tqdm(base: Any) -> Any:
    class TQDMProgressBar(_Counts, base, metaclass=meta_of(base)):  # type: ignore[misc, metaclass]  # made when asked for
        _drawn: Any = None

        def make_bar(self, description: str, total: int | None, done: int, *, nested: bool, leave: bool) -> Any:
            made = super().make_bar(description, total, done, nested=nested, leave=leave)
            self._drawn = getattr(made, "_bar", None)
            if self._drawn is not None:
                own = getattr(self, f"init_{_BARS.get(description, 'train')}_tqdm")()
                if own is not self._drawn:
                    made.abandon(erase=True)
                    made._bar = own
                self._drawn = None  # a bar cannot be pickled, and this callback may be
            return made

        def _init_tqdm(self) -> Any:
            """The bar of tqdm that is about to be drawn, for overrides to change or replace."""
            return self._drawn

        init_sanity_tqdm = init_train_tqdm = init_validation_tqdm = init_test_tqdm = init_predict_tqdm = _init_tqdm

        def __init__(self, refresh_rate: int = 1, process_position: int = 0, leave: bool = False) -> None:
            if process_position:
                raise MisconfigurationException(
                    f"TQDMProgressBar(process_position={process_position!r}): bars find their own place; leave it out"
                )
            base.__init__(self, refresh_rate, leave)

    return TQDMProgressBar


def _rich(base: Any) -> Any:
    class RichProgressBar(_Counts, base, metaclass=meta_of(base)):  # type: ignore[misc, metaclass]  # made when asked for
        def __init__(self, refresh_rate: int = 100, leave: bool = False, theme: Any = None, console_kwargs: Any = None) -> None:
            if theme is not None or console_kwargs:
                raise MisconfigurationException(
                    "RichProgressBar(theme=..., console_kwargs=...): leyden's bar has one look; leave them out"
                )
            base.__init__(self, refresh_rate, leave)

    return RichProgressBar


class _SummaryOfModule:
    """``ModelSummary(module)`` of Lightning's utilities: the table as text."""

    def __init__(self, module: torch.nn.Module, max_depth: int) -> None:
        self.module, self.max_depth = module, max_depth

    def __str__(self) -> str:
        return str(of_plugins(_GROUP, "summarize", "summarize")(self.module, self.max_depth))

    __repr__ = __str__

    @property
    def total_parameters(self) -> int:
        """Elements of all parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    @property
    def trainable_parameters(self) -> int:
        """Those that have gradients."""
        return sum(parameter.numel() for parameter in self.module.parameters() if parameter.requires_grad)


def _summary(base: Any) -> Any:
    class ModelSummary(base, metaclass=meta_of(base)):  # type: ignore[misc, metaclass]  # made when asked for
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            if args and isinstance(args[0], torch.nn.Module):  # the class of that name that is no callback
                mode = kwargs.get("mode")
                depth = {"top": 1, "full": -1}[mode] if mode in ("top", "full") else kwargs.get("max_depth", 1)
                return _SummaryOfModule(args[0], *args[1:2] or (depth,))
            return super().__new__(cls)

        def __init__(self, max_depth: int = 1, **summarize_kwargs: Any) -> None:
            super().__init__(max_depth, **summarize_kwargs)

    return ModelSummary


def _rich_summary(base: Any) -> Any:
    class RichModelSummary(base, metaclass=meta_of(base)):  # type: ignore[misc, metaclass]  # made when asked for
        def __init__(self, max_depth: int = 1, **summarize_kwargs: Any) -> None:
            if summarize_kwargs:
                raise MisconfigurationException(
                    f"RichModelSummary({', '.join(summarize_kwargs)}=...): leyden's summary has one look; leave them out"
                )
            super().__init__(max_depth)

    return RichModelSummary


def _ema(base: Any) -> Any:
    class EMAWeightAveraging(base, metaclass=meta_of(base)):  # type: ignore[misc, metaclass]  # made when asked for
        def __init__(
            self,
            device: Any = None,
            use_buffers: bool = True,
            decay: float = 0.999,
            update_every_n_steps: int = 1,
            update_starting_at_step: int | None = None,
            update_starting_at_epoch: int | None = None,
            **kwargs: Any,
        ) -> None:
            if kwargs or update_starting_at_epoch is not None:
                raise MisconfigurationException(
                    "EMAWeightAveraging: leyden's average begins at a step: write update_starting_at_step=..., and no further "
                    "options of torch's AveragedModel"
                )
            if device is not None and torch.device(device).type != "cpu" and not torch.cuda.is_available():
                raise MisconfigurationException(f"EMAWeightAveraging(device={device!r}): this machine has no such device")
            if not use_buffers:
                raise MisconfigurationException(
                    "EMAWeightAveraging(use_buffers=False): leyden's average leaves buffers as the module has them; leave it out"
                )
            super().__init__(decay, update_every_n_steps, update_starting_at_step or 0)

    return EMAWeightAveraging


def _swa(base: Any) -> Any:
    class StochasticWeightAveraging(base, metaclass=meta_of(base)):  # type: ignore[misc, metaclass]  # made when asked for
        def __init__(self, swa_lrs: Any, *args: Any, device: Any = "cpu", **kwargs: Any) -> None:
            # Where the average lies while it is made is nobody's business; Lightning's default is the CPU, to save memory.
            torch.device(device or "cpu")
            super().__init__(swa_lrs, *args, **kwargs)

        def setup(self, trainer: Any, module: Any, stage: str) -> None:
            # Lightning counts the epoch that it starts in from 1, one that a fraction makes included.
            given: Any = vars(self)["swa_epoch_start"]
            if trainer.max_epochs > 0:
                first = int(trainer.max_epochs * given) if isinstance(given, float) else given
                self.swa_epoch_start = max(first - 1, 0)
            try:
                super().setup(trainer, module, stage)
            finally:
                self.swa_epoch_start = given

    return StochasticWeightAveraging


def _pruning(base: Any) -> Any:
    class ModelPruning(base, metaclass=meta_of(base)):  # type: ignore[misc, metaclass]  # made when asked for
        def __init__(
            self,
            pruning_fn: Any,
            parameters_to_prune: Any = (),
            parameter_names: Any = None,
            use_global_unstructured: bool = True,
            amount: Any = 0.5,
            apply_pruning: Any = True,
            make_pruning_permanent: bool = True,
            use_lottery_ticket_hypothesis: Any = True,
            resample_parameters: bool = False,
            pruning_dim: int | None = None,
            pruning_norm: int | None = None,
            verbose: int = 0,
            prune_on_train_epoch_end: bool = True,
        ) -> None:
            if resample_parameters or not prune_on_train_epoch_end:
                raise MisconfigurationException(
                    "ModelPruning: leyden prunes at the end of an epoch and goes on from the weights it has; leave out "
                    "resample_parameters and prune_on_train_epoch_end"
                )
            super().__init__(
                pruning_fn,
                parameters_to_prune or None,
                parameter_names or ("weight",),
                use_global_unstructured,
                amount,
                apply_pruning,
                use_lottery_ticket_hypothesis,
                make_pruning_permanent,
                pruning_dim,
                pruning_norm,
                verbose,
            )

    return ModelPruning


_MAKERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "ModelCheckpoint": ("ModelCheckpoint", _model_checkpoint),
    "EarlyStopping": ("EarlyStopping", _early_stopping),
    "BasePredictionWriter": ("PredictionWriter", _prediction_writer),
    "ProgressBar": ("ProgressBar", _progress),
    "TQDMProgressBar": ("TQDMProgressBar", _tqdm),
    "RichProgressBar": ("RichProgressBar", _rich),
    "ModelSummary": ("ModelSummary", _summary),
    "RichModelSummary": ("ModelSummary", _rich_summary),
    "EMAWeightAveraging": ("EMA", _ema),
    "StochasticWeightAveraging": ("StochasticWeightAveraging", _swa),
    "ModelPruning": ("ModelPruning", _pruning),
}


def __getattr__(name: str) -> Any:
    if name not in _MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    wanted, make = _MAKERS[name]
    base = of_plugins(_GROUP, wanted, name)
    made = make(base)
    if made is not base:
        made = stand_in(made, __name__)
    setattr(sys.modules[__name__], name, made)
    return made
