"""The order in which hooks, steps and loaders are called: Lightning 2.6.6's, and the one written down in ``leyden.hookspecs``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import leyden
import pytest
import torch
from leyden.hookspecs import Block, Hooks, Step, order
from leyden.testing import RandomData
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

EVENTS = [
    "setup", "teardown", "on_fit_start", "on_fit_end", "on_sanity_check_start", "on_sanity_check_end", "on_train_start",
    "on_train_end", "on_train_epoch_start", "on_train_epoch_end", "on_train_batch_start", "on_train_batch_end",
    "on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_save_checkpoint",
    "on_load_checkpoint",
    *(f"on_{stage}_{when}" for stage in ("validation", "test", "predict")
      for when in ("start", "end", "epoch_start", "epoch_end", "batch_start", "batch_end")),
]  # fmt: skip
MODULE_ONLY = [
    "configure_callbacks", "configure_model", "prepare_data", "on_before_batch_transfer", "transfer_batch_to_device",
    "on_after_batch_transfer", "on_validation_model_zero_grad", "configure_gradient_clipping", "optimizer_zero_grad",
    "lr_scheduler_step",
    *(f"on_{stage}_model_{mode}" for stage in ("validation", "test", "predict") for mode in ("eval", "train")),
]  # fmt: skip
LOADERS = [f"{name}_dataloader" for name in ("train", "val", "test", "predict")]


# What Lightning 2.6.6 was seen to call, by running it with the same recording parts as leyden below. Letters say who was
# called: C a callback, M the module, D the data module, L the logger; CM is the callback and then the module.

PREPARE = "M.configure_callbacks D.prepare_data M.prepare_data D.setup CM.setup M.configure_model"
LOAD = "M.on_load_checkpoint C.on_load_checkpoint C.load_state_dict"
FIT_START = "M.configure_optimizers CM.on_fit_start L.log_hyperparams L.log_graph"
FIT_END = "CM.on_train_end CM.on_fit_end D.teardown CM.teardown L.finalize"
TRANSFER = "M.on_before_batch_transfer M.transfer_batch_to_device M.on_after_batch_transfer"
VALIDATE_BATCH = f"{TRANSFER} CM.on_validation_batch_start M.validation_step CM.on_validation_batch_end"
VALIDATE = (
    f"M.on_validation_model_eval CM.on_validation_start CM.on_validation_epoch_start {VALIDATE_BATCH} CM.on_validation_epoch_end"
)
VALIDATED = "CM.on_validation_end M.on_validation_model_train"
SANITY_CHECK = f"C.on_sanity_check_start D.val_dataloader {VALIDATE} {VALIDATED} C.on_sanity_check_end"
SAVE = "C.state_dict D.state_dict CM.on_save_checkpoint L.after_save_checkpoint"
VALIDATION = f"M.on_validation_model_zero_grad {VALIDATE} L.log_metrics {VALIDATED}"
BACKWARD = "CM.on_before_backward M.backward CM.on_after_backward"
UPDATE = "CM.on_before_optimizer_step M.configure_gradient_clipping"
ZERO_GRAD = "CM.on_before_zero_grad M.optimizer_zero_grad"
BATCH = f"{TRANSFER} CM.on_train_batch_start M.training_step {ZERO_GRAD} {BACKWARD} {UPDATE}"
BATCH_END = "CM.on_train_batch_end L.log_metrics"
LAST_BATCH_END = f"M.lr_scheduler_step {BATCH_END}"
BATCHES = f"{BATCH} {BATCH_END} {BATCH} {BATCH_END} {BATCH} {LAST_BATCH_END}"
MANUAL_BATCH = f"{TRANSFER} CM.on_train_batch_start M.training_step {BACKWARD} CM.on_before_optimizer_step {BATCH_END}"
OVERRIDDEN = f"{TRANSFER} CM.on_train_batch_start M.optimizer_step M.training_step {ZERO_GRAD} {BACKWARD} {UPDATE}"
EPOCH_START = "CM.on_train_epoch_start"
EPOCH_END = f"CM.on_train_epoch_end {SAVE} L.log_metrics"
EPOCH = f"{EPOCH_START} {BATCHES} {VALIDATION} {EPOCH_END}"
TRAIN = f"{SANITY_CHECK} D.train_dataloader CM.on_train_start"
EVALUATION_START = f"{PREPARE} L.log_hyperparams L.log_graph"
EVALUATION_END = "D.teardown CM.teardown L.finalize"
TEST = (
    f"D.test_dataloader M.on_test_model_eval CM.on_test_start CM.on_test_epoch_start {TRANSFER} CM.on_test_batch_start "
    f"M.test_step CM.on_test_batch_end CM.on_test_epoch_end L.log_metrics CM.on_test_end M.on_test_model_train"
)

LIGHTNING = {
    "fit": f"{PREPARE} {FIT_START} {TRAIN} {EPOCH} {EPOCH} {FIT_END}",
    "fit, optimizer_step overridden": (
        f"{PREPARE} {FIT_START} {TRAIN} "
        f"{EPOCH_START} {OVERRIDDEN} {BATCH_END} {OVERRIDDEN} {BATCH_END} {OVERRIDDEN} {LAST_BATCH_END} {VALIDATION} {EPOCH_END} "
        f"{EPOCH_START} {OVERRIDDEN} {BATCH_END} {OVERRIDDEN} {BATCH_END} {OVERRIDDEN} {LAST_BATCH_END} {VALIDATION} {EPOCH_END} "
        f"{FIT_END}"
    ),
    "fit, accumulating 2": (
        f"{PREPARE} {FIT_START} {TRAIN} {EPOCH_START} "
        f"{TRANSFER} CM.on_train_batch_start M.training_step {ZERO_GRAD} {BACKWARD} CM.on_train_batch_end "
        f"{TRANSFER} CM.on_train_batch_start M.training_step {BACKWARD} {UPDATE} {BATCH_END} "
        f"{BATCH} {LAST_BATCH_END} {VALIDATION} {EPOCH_END} {FIT_END}"
    ),
    "fit, accumulating 2, optimizer_step overridden": (
        f"{PREPARE} {FIT_START} {TRAIN} {EPOCH_START} "
        f"{TRANSFER} CM.on_train_batch_start M.training_step {ZERO_GRAD} {BACKWARD} CM.on_train_batch_end "
        f"{TRANSFER} CM.on_train_batch_start M.optimizer_step M.training_step {BACKWARD} {UPDATE} {BATCH_END} "
        f"{OVERRIDDEN} {LAST_BATCH_END} {VALIDATION} {EPOCH_END} {FIT_END}"
    ),
    "fit, validating and saving inside the epoch": (
        f"{PREPARE} {FIT_START} {TRAIN} {EPOCH_START} {BATCH} {BATCH_END} {BATCH} "
        f"C.on_train_batch_end {SAVE} M.on_train_batch_end L.log_metrics {VALIDATION} "
        f"{BATCH} {LAST_BATCH_END} CM.on_train_epoch_end L.log_metrics {FIT_END}"
    ),
    "fit, saving after validation": (
        f"{PREPARE} {FIT_START} {TRAIN} {EPOCH_START} {BATCHES} M.on_validation_model_zero_grad {VALIDATE} L.log_metrics "
        f"C.on_validation_end {SAVE} M.on_validation_end M.on_validation_model_train "
        f"CM.on_train_epoch_end L.log_metrics {FIT_END}"
    ),
    "fit, optimizing by hand": (
        f"{PREPARE} {FIT_START} {TRAIN} {EPOCH_START} {MANUAL_BATCH} {MANUAL_BATCH} {MANUAL_BATCH} "
        f"{VALIDATION} {EPOCH_END} {FIT_END}"
    ),
    "fit, 2 steps": (
        f"{PREPARE} {FIT_START} {TRAIN} {EPOCH_START} {BATCH} {BATCH_END} {BATCH} {BATCH_END} {EPOCH_END} {FIT_END}"
    ),
    "fit, resuming between epochs": f"{PREPARE} {LOAD} {FIT_START} {TRAIN} {EPOCH} {FIT_END}",
    "fit, resuming inside an epoch": (
        f"{PREPARE} {LOAD} {FIT_START} D.train_dataloader D.val_dataloader CM.on_train_start "
        f"{BATCH} {LAST_BATCH_END} {VALIDATION} {EPOCH_END} {FIT_END}"
    ),
    "validate": f"{EVALUATION_START} D.val_dataloader {VALIDATE} L.log_metrics {VALIDATED} {EVALUATION_END}",
    "test": f"{EVALUATION_START} {TEST} {EVALUATION_END}",
    "test, weights loaded": f"{PREPARE} {LOAD} L.log_hyperparams L.log_graph {TEST} {EVALUATION_END}",
    "predict": (
        f"{EVALUATION_START} D.predict_dataloader M.on_predict_model_eval CM.on_predict_start CM.on_predict_epoch_start "
        f"{TRANSFER} CM.on_predict_batch_start M.predict_step CM.on_predict_batch_end "
        f"CM.on_predict_epoch_end CM.on_predict_end {EVALUATION_END}"
    ),
}

SCENARIOS: dict[str, dict[str, Any]] = {
    "fit": {},
    "fit, optimizer_step overridden": {"overrides_optimizer_step": True},
    "fit, accumulating 2": {"accumulate_grad_batches": 2, "max_epochs": 1},
    "fit, accumulating 2, optimizer_step overridden": {
        "accumulate_grad_batches": 2, "max_epochs": 1, "overrides_optimizer_step": True
    },
    "fit, validating and saving inside the epoch": {
        "val_check_interval": 2, "max_epochs": 1, "saving": {"every_n_train_steps": 2, "save_top_k": -1}
    },
    "fit, saving after validation": {"max_epochs": 1, "saving": {"save_on_train_epoch_end": False}},
    "fit, optimizing by hand": {"automatic": False, "max_epochs": 1},
    "fit, 2 steps": {"max_steps": 2, "max_epochs": -1},
    "fit, resuming between epochs": {"resumes": {}},
    "fit, resuming inside an epoch": {"resumes": {"every_n_train_steps": 2, "save_top_k": -1}, "max_epochs": 1},
    "validate": {},
    "test": {},
    "test, weights loaded": {"resumes": {}},
    "predict": {},
}  # fmt: skip


def spelled_out(text: str) -> list[str]:
    """One entry a call, as they are recorded."""
    return [f"{letter}.{name}" for who, name in (word.split(".") for word in text.split()) for letter in who]


class Recording:
    """Recording parts for a library with Lightning's API; ``letters`` of who was called and the method go to ``calls``."""

    def __init__(self, library: ModuleType, **options: Any) -> None:
        self.calls: list[str] = []
        self.library = library
        self.options = options

    def spy(self, who: str, name: str, base: type) -> Any:
        """A method that records itself, then does what the base class does."""
        original, calls = getattr(base, name), self.calls

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(f"{who}.{name}")
            return original(self, *args, **kwargs)

        return method

    def module(self, *, overrides_optimizer_step: bool, automatic: bool) -> Any:
        calls, base = self.calls, getattr(self.library, "Module", None) or self.library.LightningModule
        spied = [*EVENTS, *MODULE_ONLY, *(["optimizer_step"] if overrides_optimizer_step else [])]

        class Recorded(base):  # type: ignore[misc,valid-type]  # whichever library's
            locals().update({name: self.spy("M", name, base) for name in spied if hasattr(base, name)})

            def __init__(self, width: int = 2) -> None:
                super().__init__()
                self.save_hyperparameters()
                self.automatic_optimization = automatic
                self.layer = nn.Linear(8, width)

            def _step(self, name: str, batch: Any) -> Any:
                calls.append(f"M.{name}")
                return F.cross_entropy(self.layer(batch[0]), batch[1])

            def training_step(self, batch: Any, batch_idx: int) -> Any:
                loss = self._step("training_step", batch)
                self.log("train_loss", loss, on_step=True, on_epoch=True)
                if not automatic:
                    optimizer = self.optimizers()
                    optimizer.zero_grad()
                    self.manual_backward(loss)
                    optimizer.step()
                return loss

            def validation_step(self, batch: Any, batch_idx: int) -> None:
                self.log("val_loss", self._step("validation_step", batch))

            def test_step(self, batch: Any, batch_idx: int) -> None:
                self.log("test_loss", self._step("test_step", batch))

            def predict_step(self, batch: Any, batch_idx: int) -> Any:
                return self._step("predict_step", batch)

            def backward(self, loss: Any, *args: Any, **kwargs: Any) -> None:
                calls.append("M.backward")
                loss.backward()

            def configure_optimizers(self) -> Any:
                calls.append("M.configure_optimizers")
                optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
                return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

        return Recorded()

    def datamodule(self) -> Any:
        base = getattr(self.library, "DataModule", None) or self.library.LightningDataModule
        body: dict[str, Any] = {name: self.spy("D", name, base) for name in ("prepare_data", "setup", "teardown", "state_dict")}
        for name in LOADERS:

            def loader(_: Any, name: str = name) -> Any:
                self.calls.append(f"D.{name}")
                return DataLoader(RandomData(6 if name == "train_dataloader" else 2), batch_size=2)

            body[name] = loader
        return type("RecordedData", (base,), body)()

    def callback(self) -> Any:
        base = self.library.Callback
        body = {name: self.spy("C", name, base) for name in EVENTS if hasattr(base, name)}

        def state_dict(_: Any) -> dict[str, Any]:
            if self.calls[-1] != "C.state_dict":  # once to know whether there is any, once to save it
                self.calls.append("C.state_dict")
            return {"stateful": True}

        def load_state_dict(_: Any, state: dict[str, Any]) -> None:
            self.calls.append("C.load_state_dict")

        return type("RecordedCallback", (base,), {**body, "state_dict": state_dict, "load_state_dict": load_state_dict})()

    def logger(self) -> Any:
        base = getattr(self.library, "Logger", None) or self.library.loggers.logger.Logger
        names = ("log_hyperparams", "log_metrics", "log_graph", "after_save_checkpoint", "finalize")
        abstract = {"log_hyperparams", "log_metrics"}  # of the one library, and empty in the other
        body: dict[str, Any] = {name: self.spy("L", name, base) for name in names if name not in abstract}
        for name in abstract:
            body[name] = lambda _, *args, name=name, **kwargs: self.calls.append(f"L.{name}")
        return type("RecordedLogger", (base,), {**body, "name": "recorded", "version": 0, "experiment": None})()

    def run(self, stage: str, directory: Path, *, overrides_optimizer_step: bool = False, automatic: bool = True,
            checkpoint: Any = None, ckpt_path: Path | None = None, **options: Any) -> list[str]:  # fmt: skip
        """Every call of one stage."""
        trainer = self.library.Trainer(
            accelerator="cpu", devices=1, num_sanity_val_steps=1, log_every_n_steps=1, default_root_dir=directory,
            logger=self.logger(), callbacks=[self.callback(), *([checkpoint] if checkpoint else [])],
            enable_checkpointing=checkpoint is not None, enable_progress_bar=False, enable_model_summary=False,
            **{"max_epochs": 2, **options},
        )  # fmt: skip
        module = self.module(overrides_optimizer_step=overrides_optimizer_step, automatic=automatic)
        getattr(trainer, stage)(module, datamodule=self.datamodule(), ckpt_path=ckpt_path)
        return self.calls


def run(library: ModuleType, scenario: str, directory: Path) -> list[str]:
    """Every call of one scenario under one library."""
    options = {"saving": {}, "resumes": None, **SCENARIOS[scenario]}
    saving, resumes = options.pop("saving"), options.pop("resumes")

    def checkpoint(where: Path, choice: dict[str, Any]) -> Any:
        if library is leyden:
            return {"checkpoint": {"dirpath": str(where), **choice}}
        return library.callbacks.ModelCheckpoint(dirpath=where, **choice)

    if resumes is not None:
        first = directory / "first"
        Recording(library).run("fit", first, checkpoint=checkpoint(first, resumes), max_epochs=1)
        [options["ckpt_path"]] = first.glob("*.ckpt")
    second = directory / "second"
    return Recording(library).run(scenario.partition(",")[0], second, checkpoint=checkpoint(second, saving), **options)


def run_leyden(scenario: str, directory: Path) -> list[str]:
    """Every call of one scenario under leyden, without a question that is no event.

    When a run resumes, callbacks are asked for their states before training: two of one key are refused then, and not at
    the first save.
    """
    calls = run(leyden, scenario, directory)
    start = calls.index("C.on_train_start") if "C.on_train_start" in calls else 0
    return [call for index, call in enumerate(calls) if call != "C.state_dict" or index > start]


# ---- compared with Lightning ----

OURS_ONLY = {
    "M.on_sanity_check_start": "a module hears every hook that a callback hears",
    "M.on_sanity_check_end": "a module hears every hook that a callback hears",
    "M.on_predict_model_train": "every on_<stage>_model_eval has its counterpart",
}


def as_intended(scenario: str) -> list[str]:
    """Lightning's calls with the differences that leyden means to have."""
    text = LIGHTNING[scenario]
    # Checkpoints are taken when the module, too, has had the hook: what it changes there is in them.
    for name in ("on_train_batch_end", "on_validation_end"):
        text = text.replace(f"C.{name} {SAVE} M.{name}", f"CM.{name} {SAVE}")
    if scenario.startswith("predict"):
        # Nothing is logged when predicting, so nothing is opened for it.
        text = text.replace("L.log_hyperparams L.log_graph ", "")
    if scenario == "fit, resuming between epochs":
        # What is resumed has passed its sanity check before, wherever in the epoch it was stopped.
        text = text.replace(TRAIN, "D.train_dataloader D.val_dataloader CM.on_train_start")
    if "resuming" in scenario:
        # The checkpoint was taken in a last hook, before the record of the step or the epoch was written.
        text = text.replace("CM.on_train_start", "CM.on_train_start L.log_metrics")
    return spelled_out(text)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_calls_come_in_the_order_of_lightning(scenario: str, tmp_path: Path) -> None:
    calls = run_leyden(scenario, tmp_path)
    assert [call for call in calls if call not in OURS_ONLY] == as_intended(scenario)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.filterwarnings("ignore")  # of Lightning, on short runs
def test_lightning_itself_calls_in_the_order_written_down_here(scenario: str, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch", reason="compares with Lightning, which make bench installs")
    assert run(lightning, scenario, tmp_path) == spelled_out(LIGHTNING[scenario])


# ---- compared with leyden.hookspecs ----

LETTERS = {"callbacks": "C", "monitors": "C", "module": "M", "datamodule": "D", "data": "DM", "loggers": "L"}
NO_HOOKS = ("L.after_save_checkpoint", "D.state_dict")


def reached(steps: Iterable[Step], calls: Sequence[str], positions: set[int], *, partly: bool) -> set[int]:
    """How many of ``calls`` the steps can account for, from each of ``positions``.

    A block of calls may come as often as it says. A call with a note is one that may be left out, and with ``partly`` any is.
    """
    for step in steps:
        if isinstance(step, Block):
            found, new = set(positions), positions
            while new:
                new = reached(step.body, calls, new, partly=partly) - found
                found |= new
                if not step.repeats:
                    break
            positions = found
            continue
        skipped = positions if step.note or partly else set()
        taken: set[int] = set()
        for letter in LETTERS[step.who]:  # of the data module and the module, one or both
            taken |= {p + 1 for p in positions | taken if p < len(calls) and calls[p] == f"{letter}.{step.name}"}
        positions = taken | skipped
    return positions


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_calls_come_in_the_order_of_hookspecs(scenario: str, tmp_path: Path) -> None:
    calls = [call for call in run_leyden(scenario, tmp_path) if call not in NO_HOOKS]
    steps = order(scenario.partition(",")[0])
    partly = "accumulating" in scenario or "by hand" in scenario or "inside an epoch" in scenario
    ends = reached(steps, calls, {0}, partly=partly)
    furthest = max((n for n in range(len(calls) + 1) if n in reached(steps, calls[:n], {0}, partly=True)), default=0)
    assert len(calls) in ends, f"not as written down: {calls[furthest:][:3]} after {calls[:furthest][-3:]}"


def test_the_comparison_with_hookspecs_notices_two_calls_exchanged(tmp_path: Path) -> None:
    calls = [call for call in run_leyden("validate", tmp_path) if call not in NO_HOOKS]
    for index in range(len(calls) - 1):
        exchanged = [*calls[:index], calls[index + 1], calls[index], *calls[index + 2 :]]
        assert len(calls) not in reached(order("validate"), exchanged, {0}, partly=False)


def test_every_hook_of_a_run_has_its_place_in_the_order() -> None:
    def names(steps: Iterable[Step]) -> set[str]:
        return {name for step in steps for name in (names(step.body) if isinstance(step, Block) else [step.name])}

    placed = {name for stage in ("fit", "validate", "test", "predict") for name in names(order(stage))}
    hooks = {name for name, function in vars(Hooks).items() if hasattr(function, "leyden_spec")}
    construction = {"translate_arguments", "default_logger", "default_callbacks", "adapt_hooks", "adapt_methods"}
    assert hooks - placed == {*construction, "on_exception"}
