"""Every hook of a run, in the order in which it fires, with who may answer it.

``python -m leyden.hookspecs`` prints the order; :func:`order` returns it as data, and the test suite compares it with what a
run really did.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pluggy

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from leyden.datamodule import DataModule
    from leyden.logger import Logger
    from leyden.module import Module
    from leyden.trainer import Trainer

__path__: list[str] = []  # without one, ``python -m`` warns that the package has imported this module already

hookspec = pluggy.HookspecMarker("leyden")
hookimpl = pluggy.HookimplMarker("leyden")


class Hooks:
    """The specifications. Everything on the bus may answer any of them, taking any subset of the arguments by name.

    Arguments go from general to particular. Methods of a module or a data module leave out ``trainer`` and ``module``.
    Nothing flows back through return values, save where a hook says so.
    """

    # ---- while the Trainer is built, before callbacks take part: only plug-ins can answer, the first hook only those of the
    # entry-point group ``leyden`` ----

    @hookspec
    def translate_arguments(self, arguments: dict[str, Any]) -> Mapping[str, Any] | None:
        """Offered the Trainer arguments that core does not know, before anything is chosen.

        An implementation removes the entries it understands from ``arguments`` and returns what should be passed instead.
        What nobody removes is an error.
        """

    @hookspec(firstresult=True)
    def default_logger(self, trainer: Trainer) -> Logger | None:
        """Returns the logger of a Trainer that was given none (``logger=None`` or ``True``); the first answer wins."""

    @hookspec
    def default_callbacks(self, trainer: Trainer) -> Iterable[Any] | None:
        """Returns callbacks to append to the user's; the Trainer's ``enable_*`` attributes say which are wanted."""

    # ---- while somebody is put on the bus or a run starts: only plug-ins of the group ``leyden`` can answer ----

    @hookspec
    def adapt_hooks(self, participant: Any, role: str) -> Mapping[str, Any] | None:
        """Asked before a callback, a module or a data module is put on the bus, for those written for another library.

        Returns functions to be bound in place of ``participant``'s methods, by hook; None in place of a function leaves the
        method of that name alone, whatever it looks like. ``role`` is ``"callback"``, ``"module"`` and so on.
        """

    @hookspec
    def adapt_methods(self, trainer: Trainer, owner: Module | DataModule) -> Mapping[str, Any] | None:
        """Asked at the start of a run, before anybody of it is on the bus.

        Returns functions that are attributes of the module or data module until the run is over, in place of its methods:
        ``training_step``, ``optimizer_step`` and so on.
        """

    # ---- start ----

    @hookspec
    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """First hook of a run: the data exists, the module is on the CPU, no optimizer exists yet.

        ``stage`` is ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``. The data module answers first, then callbacks,
        then the module.
        """

    @hookspec
    def on_load_checkpoint(self, trainer: Trainer, module: Module, checkpoint: dict[str, Any]) -> None:
        """A checkpoint was read. The module is called before its weights are loaded, everyone else after."""

    @hookspec
    def on_fit_start(self, trainer: Trainer, module: Module) -> None:
        """The module is on its device, optimizers exist; a checkpoint's weights are loaded, its counters not yet."""

    @hookspec
    def on_sanity_check_start(self, trainer: Trainer, module: Module) -> None:
        """A few validation batches are about to run, to find mistakes before training."""

    @hookspec
    def on_sanity_check_end(self, trainer: Trainer, module: Module) -> None:
        """The sanity check is over; random states, metrics and logs are as if it had not been."""

    # ---- training ----

    @hookspec
    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """All state is restored, training starts."""

    @hookspec
    def on_train_epoch_start(self, trainer: Trainer, module: Module) -> None:
        """An epoch starts; ``trainer.current_epoch`` is its number, from 0. Not fired again when resuming inside an epoch."""

    @hookspec
    def on_train_batch_start(self, trainer: Trainer, module: Module, batch: Any, batch_idx: int) -> int | None:
        """The batch is on its device. Returning -1 skips this batch and the rest of the epoch."""

    @hookspec
    def on_before_zero_grad(self, trainer: Trainer, module: Module, optimizer: Optimizer) -> None:
        """The forward pass is done; gradients of the previous step still stand and are about to be cleared."""

    @hookspec
    def on_before_backward(self, trainer: Trainer, module: Module, loss: Tensor) -> None:
        """``loss`` is what ``backward`` will be called on, divided by the accumulated batches."""

    @hookspec
    def on_after_backward(self, trainer: Trainer, module: Module) -> None:
        """Gradients of this batch are added; under 16-bit scaling they are still scaled."""

    @hookspec
    def on_before_optimizer_step(self, trainer: Trainer, module: Module, optimizer: Optimizer) -> None:
        """The gradients of a step are complete and unscaled, not yet clipped."""

    @hookspec
    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Optimizer, schedulers and ``trainer.global_step`` have all advanced.

        ``outputs`` is the mapping that ``training_step`` returned, its loss detached, or ``{"loss": loss}``; None if it
        skipped the batch.
        """

    # ---- validation, inside fit or alone ----

    @hookspec
    def on_validation_start(self, trainer: Trainer, module: Module) -> None:
        """The module is in eval mode and gradients are off."""

    @hookspec
    def on_validation_epoch_start(self, trainer: Trainer, module: Module) -> None:
        """The first validation batch is about to be read."""

    @hookspec
    def on_validation_batch_start(
        self, trainer: Trainer, module: Module, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """The batch is on its device."""

    @hookspec
    def on_validation_batch_end(
        self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """``outputs`` is what ``validation_step`` returned."""

    @hookspec
    def on_validation_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """All batches are done; ``trainer.callback_metrics`` holds this validation's values."""

    @hookspec
    def on_validation_end(self, trainer: Trainer, module: Module) -> None:
        """This validation's values were handed to the loggers; the module is still in eval mode."""

    # ---- end of training ----

    @hookspec
    def on_train_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """Callbacks, then the module; implementations marked ``trylast`` (those that monitor what was logged) after it."""

    @hookspec
    def on_save_checkpoint(self, trainer: Trainer, module: Module, checkpoint: dict[str, Any]) -> None:
        """``checkpoint`` is complete and about to be written; entries may be added or changed in place."""

    @hookspec
    def on_train_end(self, trainer: Trainer, module: Module) -> None:
        """The last epoch is over, every checkpoint of it is written."""

    @hookspec
    def on_fit_end(self, trainer: Trainer, module: Module) -> None:
        """The strategy has let go of the module."""

    # ---- test ----

    @hookspec
    def on_test_start(self, trainer: Trainer, module: Module) -> None:
        """The module is in eval mode and gradients are off."""

    @hookspec
    def on_test_epoch_start(self, trainer: Trainer, module: Module) -> None:
        """The first test batch is about to be read."""

    @hookspec
    def on_test_batch_start(self, trainer: Trainer, module: Module, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """The batch is on its device."""

    @hookspec
    def on_test_batch_end(
        self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """``outputs`` is what ``test_step`` returned."""

    @hookspec
    def on_test_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """All batches are done; ``trainer.callback_metrics`` holds this test's values."""

    @hookspec
    def on_test_end(self, trainer: Trainer, module: Module) -> None:
        """This test's values were handed to the loggers."""

    # ---- predict ----

    @hookspec
    def on_predict_start(self, trainer: Trainer, module: Module) -> None:
        """The module is in eval mode and gradients are off."""

    @hookspec
    def on_predict_epoch_start(self, trainer: Trainer, module: Module) -> None:
        """The first batch is about to be read."""

    @hookspec
    def on_predict_batch_start(
        self, trainer: Trainer, module: Module, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """The batch is on its device."""

    @hookspec
    def on_predict_batch_end(
        self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """``outputs`` is what ``predict_step`` returned."""

    @hookspec
    def on_predict_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """All batches are done."""

    @hookspec
    def on_predict_end(self, trainer: Trainer, module: Module) -> None:
        """Predictions are complete."""

    # ---- the end of every run ----

    @hookspec
    def on_exception(self, trainer: Trainer, module: Module, exception: BaseException) -> None:
        """Something raised, Ctrl-C included. Errors raised here become notes of ``exception`` and never replace it."""

    @hookspec
    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """The last hook of every run, also of a failed one, for everyone."""


@dataclass(frozen=True)
class Call:
    """One call in the order: ``who`` ("callbacks", "module", "monitors", ...) and the method's name."""

    who: str
    name: str
    note: str = ""


@dataclass(frozen=True)
class Block:
    """Calls that happen zero or more times, or once under a condition."""

    what: str
    body: tuple[Step, ...]
    repeats: bool = True


Step: TypeAlias = "Call | Block"


def _pair(name: str, note: str = "") -> tuple[Call, Call]:
    return Call("callbacks", name, note), Call("module", name, note)


_PREAMBLE: tuple[Step, ...] = (
    Call("module", "configure_callbacks"),
    Call("data", "prepare_data", "the data module's, then the module's"),
    Call("datamodule", "setup"),
    *_pair("setup"),
    Call("module", "configure_model"),
)

_LOGGERS: tuple[Step, ...] = (Call("loggers", "log_hyperparams"), Call("loggers", "log_graph"))

_RESTORE: tuple[Step, ...] = (
    Block(
        "if a checkpoint is loaded",
        (Call("module", "on_load_checkpoint"), Call("callbacks", "on_load_checkpoint"), Call("callbacks", "load_state_dict")),
        repeats=False,
    ),
)


def _evaluation(stage: str, *, mode_hooks: bool = True) -> tuple[Step, ...]:
    return (
        Call("module", f"on_{stage}_model_eval"),
        *_pair(f"on_{stage}_start"),
        *_pair(f"on_{stage}_epoch_start"),
        Block(
            "each batch",
            (
                Call("data", "on_before_batch_transfer"),
                Call("data", "transfer_batch_to_device"),
                Call("data", "on_after_batch_transfer"),
                *_pair(f"on_{stage}_batch_start"),
                Call("module", "predict_step" if stage == "predict" else f"{stage}_step"),
                *_pair(f"on_{stage}_batch_end"),
            ),
        ),
        *_pair(f"on_{stage}_epoch_end"),
        *(() if stage == "predict" else (Call("loggers", "log_metrics"),)),
        *_pair(f"on_{stage}_end"),
        Call("module", f"on_{stage}_model_train", "the modes found before are put back"),
    )


_SAVE: tuple[Step, ...] = (
    Block(
        "if a checkpoint is saved",
        (Call("callbacks", "state_dict"), Call("callbacks", "on_save_checkpoint"), Call("module", "on_save_checkpoint")),
    ),
)

_ORDER: dict[str, tuple[Step, ...]] = {
    "fit": (
        *_PREAMBLE,
        *_RESTORE,
        Call("module", "configure_optimizers"),
        *_pair("on_fit_start"),
        *_LOGGERS,
        Block(
            "sanity check",
            (
                *_pair("on_sanity_check_start"),
                Call("data", "val_dataloader"),
                *(step for step in _evaluation("validation") if step != Call("loggers", "log_metrics")),
                *_pair("on_sanity_check_end"),
            ),
            repeats=False,
        ),
        Call("data", "train_dataloader"),
        Call("data", "val_dataloader", "unless the sanity check asked for it"),
        *_pair("on_train_start"),
        Block(
            "if a run goes on from the middle of a batch's or an epoch's last hooks",
            (Call("loggers", "log_metrics", "what was still to be recorded then"),),
            repeats=False,
        ),
        Block(
            "each epoch",
            (
                *_pair("on_train_epoch_start"),
                Block(
                    "each batch",
                    (
                        Call("data", "on_before_batch_transfer"),
                        Call("data", "transfer_batch_to_device"),
                        Call("data", "on_after_batch_transfer"),
                        *_pair("on_train_batch_start", "-1 skips the rest of the epoch"),
                        Call("module", "optimizer_step", "on batches that step; encloses the calls down to the step"),
                        Call("module", "training_step"),
                        *_pair("on_before_zero_grad", "first batch of an accumulation window"),
                        Call("module", "optimizer_zero_grad", "first batch of an accumulation window"),
                        *_pair("on_before_backward"),
                        Call("module", "backward"),
                        *_pair("on_after_backward"),
                        *_pair("on_before_optimizer_step", "last batch of an accumulation window"),
                        Call("module", "configure_gradient_clipping", "last batch of an accumulation window"),
                        Call("module", "lr_scheduler_step", "interval step; on the last batch also epoch, save plateau"),
                        *_pair("on_train_batch_end"),
                        *_SAVE,
                        Call("loggers", "log_metrics", "every log_every_n_steps"),
                        Block(
                            "validation when due",
                            (
                                Call("module", "on_validation_model_zero_grad"),
                                *_evaluation("validation")[:-1],
                                *_SAVE,
                                _evaluation("validation")[-1],
                            ),
                            repeats=False,
                        ),
                        Call("module", "lr_scheduler_step", "interval step, plateau"),
                    ),
                ),
                *_pair("on_train_epoch_end"),
                Call("monitors", "on_train_epoch_end", "callbacks whose implementation is trylast"),
                *_SAVE,
                Call("module", "lr_scheduler_step", "interval epoch, plateau"),
                Call("loggers", "log_metrics", "epoch values"),
            ),
        ),
        *_pair("on_train_end"),
        *_pair("on_fit_end"),
        Call("datamodule", "teardown"),
        *_pair("teardown"),
        Call("loggers", "finalize"),
    ),
}
for _stage, _name in (("validate", "validation"), ("test", "test"), ("predict", "predict")):
    _ORDER[_stage] = (
        *_PREAMBLE,
        *_RESTORE,
        *(() if _stage == "predict" else _LOGGERS),
        Call("data", f"{'val' if _stage == 'validate' else _stage}_dataloader"),
        *_evaluation(_name),
        Call("datamodule", "teardown"),
        *_pair("teardown"),
        Call("loggers", "finalize"),
    )


def order(stage: str = "fit") -> tuple[Step, ...]:
    """The calls of one stage, first to last.

    Args:
        stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.

    Raises:
        LookupError: there is no such stage.
    """
    if stage not in _ORDER:
        raise LookupError(f"there is no stage {stage!r}; stages are {', '.join(_ORDER)}")
    return _ORDER[stage]


def describe(stage: str = "fit") -> Iterator[str]:
    """The order of one stage as indented lines of text."""

    def lines(steps: Iterable[Step], indent: str) -> Iterator[str]:
        for step in steps:
            if isinstance(step, Block):
                yield f"{indent}{step.what}:"
                yield from lines(step.body, indent + "    ")
            else:
                yield f"{indent}{step.who + '.' + step.name:<48}{step.note}".rstrip()

    yield f"{stage}:"
    yield from lines(order(stage), "    ")


if __name__ == "__main__":
    for _stage in _ORDER:
        print("\n".join(describe(_stage)), end="\n\n")
