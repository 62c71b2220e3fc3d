"""The callback that saves checkpoints and keeps the best or the newest of them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from leyden import Callback, CheckpointIO, Terminated, hookimpl
from leyden.checkpoint.lock import DirectoryTaken
from leyden.checkpoint.manifest import Entry, Manifest
from leyden.messages import shown, warn
from torch import Tensor

from leyden_callbacks.arguments import check_bool, check_choice, check_int, check_key
from leyden_callbacks.checkpoint.filenames import DEFAULT_TEMPLATE, check_template, format_name, unused_name
from leyden_callbacks.checkpoint.folder import Folder, is_remote
from leyden_callbacks.checkpoint.restore import take_over
from leyden_callbacks.checkpoint.schedule import Duration, Schedule
from leyden_callbacks.checkpoint.shelf import NotListed, NotSaved, Shelf
from leyden_callbacks.checkpoint.top_k import TopK
from leyden_callbacks.monitor import Monitor, counters, warn_if_never
from leyden_callbacks.speech import say

if TYPE_CHECKING:
    from leyden import Module, Trainer

_EXCEPTION, _INTERRUPTED = "exception", "interrupted"


class ModelCheckpoint(Callback):
    """Saves checkpoints; keeps the ``save_top_k`` best by ``monitor``, or the newest one if nothing is monitored.

    A monitored checkpoint is saved only with a value that describes its own weights: one that is due between validations is
    saved after the next. A value that is not finite never replaces one that is.

    ``checkpoints.json`` in the folder lists what was saved there, so that a new process finds the best and the newest, also where
    the folder was moved; only files that it lists are ever deleted. While a run saves there no other one can: it is refused,
    or takes a folder of its own where ``dirpath`` was not given. When a signal ends the run, the state is saved first.

    Args:
        dirpath: where to; ``<trainer.log_dir>/checkpoints`` if not given. Local, or a URL that fsspec knows.
        filename: a template such as ``"{epoch:02d}-{val_loss:.2f}"``; ``"{epoch}-{step}"`` if not given.
        monitor: the key of a logged value; ``"epoch"``, ``"step"`` and ``"global_step"`` always exist.
        verbose: whether to say on standard error what was saved and why.
        save_last: True also keeps the newest state as ``last.ckpt``, saved whenever a checkpoint is due, and at the end of each
            epoch or after each validation as epochs are; ``"link"`` makes that a symbolic link wherever the newest state was
            just saved under another name.
        save_top_k: how many to keep; -1 keeps all, 0 none.
        save_on_exception: whether to save when training fails; in one process only, because a process that failed cannot save
            together with the others. Such a file is deleted when a newer state of the run is safe.
        save_weights_only: whether to leave out what only resuming needs.
        mode: ``"min"`` or ``"max"``, what is better.
        auto_insert_metric_name: whether ``{epoch}`` in a template becomes ``epoch=3`` rather than ``3``.
        every_n_train_steps: optimizer steps between checkpoints.
        train_time_interval: time between checkpoints: ``"30 min"``, ``"DD:HH:MM:SS"``, a timedelta or its arguments as a dict.
        every_n_epochs: epochs between checkpoints; 1 if none of the three is given.
        save_on_train_epoch_end: whether an epoch's checkpoint is saved at its end rather than after each validation; by default
            at the end, unless there are validations at other moments.
        enable_version_counter: whether a name that is taken gets ``-v1`` rather than being overwritten.
        on_save_error: ``"raise"`` ends the run when a checkpoint cannot be written, for want of space as a rule; ``"warn"`` says
            so, keeps what was there, trains on and saves again when the next one is due. ``failed_saves`` has what went wrong,
            and the end of the run says how often. With several processes it does not matter which one of them fails, as long as
            rank 0 alone writes; where each writes a part in the background, what fails on another ends the run.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range, or several contradict each other.
    """

    name = "checkpoint"
    role = "checkpointing"
    takes_state_in_evaluation = False

    CHECKPOINT_NAME_LAST = "last"
    """The template of the name of the newest state."""

    FILE_EXTENSION = ".ckpt"
    STARTING_VERSION = 1

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | str | None = None,
        save_top_k: int = 1,
        save_on_exception: bool = False,
        save_weights_only: bool = False,
        mode: str = "min",
        auto_insert_metric_name: bool = True,
        every_n_train_steps: int | None = None,
        train_time_interval: Duration | None = None,
        every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None,
        enable_version_counter: bool = True,
        on_save_error: str = "raise",
    ) -> None:
        owner = type(self).__name__
        for argument, path in (("dirpath", dirpath), ("filename", filename)):
            if path is not None and not isinstance(path, str | os.PathLike):
                raise TypeError(f"{owner}({argument}={path!r}): expected a str, got {shown(path)}")
        filename = None if filename is None else os.fspath(filename)
        check_template(owner, filename or DEFAULT_TEMPLATE)
        check_choice(owner, "save_last", save_last, (None, True, False, "link"))
        if save_last and filename == self.CHECKPOINT_NAME_LAST and not enable_version_counter:
            raise ValueError(
                f"{owner}(filename={filename!r}, save_last={save_last!r}, enable_version_counter=False): the newest state would "
                f"overwrite the best; pass another filename"
            )
        check_choice(owner, "mode", mode, ("min", "max"))
        check_choice(owner, "on_save_error", on_save_error, ("raise", "warn"))
        check_int(owner, "save_top_k", save_top_k, -1)
        if monitor is not None:
            check_key(owner, "monitor", monitor)
        elif save_top_k > 1:
            raise ValueError(
                f"{owner}(save_top_k={save_top_k}) keeps the best {save_top_k}, but of what? Pass monitor='val_loss' or the key "
                f"of another logged value; monitor='step' with mode='max' keeps the newest {save_top_k}"
            )
        if save_on_train_epoch_end is not None:
            check_bool(owner, "save_on_train_epoch_end", save_on_train_epoch_end)

        self._folder: Folder | None = Folder(os.fspath(dirpath)) if dirpath is not None else None
        self.filename = filename
        self.monitor = monitor
        self.verbose = verbose
        self.save_last = save_last
        self.save_top_k = save_top_k
        self.save_on_exception = save_on_exception
        self.save_weights_only = save_weights_only
        self.mode = mode
        self.auto_insert_metric_name = auto_insert_metric_name
        self.enable_version_counter = enable_version_counter
        self.on_save_error = on_save_error

        self.failed_saves: list[str] = []
        """What went wrong at each save of the last run that failed, with ``on_save_error="warn"``."""
        self.best_model_path = ""
        """The path of the best checkpoint, or of the newest if nothing is monitored; empty if there is none."""
        self.best_model_score: Tensor | None = None
        """What was monitored when it was saved, shape ``()``."""
        self.last_model_path = ""
        """The path of the newest state as ``save_last`` keeps it; empty if there is none."""
        self.current_score: Tensor | None = None
        """What was monitored when a checkpoint was last due, shape ``()``."""

        self._dirpath_given = dirpath is not None
        self._schedule = Schedule(owner, every_n_train_steps, every_n_epochs, train_time_interval, save_on_train_epoch_end)
        self._watched = Monitor(owner, monitor) if monitor is not None else None
        # Unmonitored checkpoints are scored by the order in which they were written.
        self._kept = TopK(save_top_k, mode if monitor is not None else "max")
        self._inherited: tuple[str, float] | None = None  # the best of the run this one resumed from, in another folder
        self._origin: Folder | None = None  # of the checkpoint that the run goes on from
        self._shelf: Shelf | None = None  # from setup to teardown of a fit
        self._run = ""  # the name of the last run in the folder's manifest
        self._listed: list[Entry] = []  # what the folder's manifest has of the run that is gone on with
        self._newest = ""  # the name of the file with the newest state
        self._spare: list[str] = []  # saved when a run ended early; a newer state makes them superfluous
        self._training = False
        self._written = ""  # the path of what this callback saved last
        self._in_flight: set[str] = set()  # those of what may still be written
        self._unsettled: list[str] = []  # saves of this rank that failed in the background and of which the others know nothing
        self._due = False  # a monitored checkpoint waits for a value
        self._top_k_step = -1  # the step of the newest state among the best
        self._last_step = -1  # the step of the newest state of save_last
        self._begun_step = -1  # the step that the run began or goes on with
        self._steps_before: tuple[int, int] | None = None  # the two steps as a checkpoint has them
        self._watched_before: dict[str, Any] | None = None  # likewise of the monitor

    # ---- what users read ----

    @property
    def dirpath(self) -> str | None:
        """The folder, absolute; None before the first run if it was not given."""
        return self._folder.path if self._folder else None

    @property
    def best_k_models(self) -> dict[str, Tensor]:
        """The scores of the kept checkpoints, shape ``()``, by path; without a monitor the order in which they were written."""
        return {self._path(name): torch.tensor(score) for name, score in self._kept.scores.items()}

    @property
    def kth_best_model_path(self) -> str:
        """The path of the worst kept checkpoint; empty if there is none."""
        return self._path(self._kept.worst) if self._kept.scores else ""

    @property
    def kth_value(self) -> Tensor | None:
        """The score of the worst kept checkpoint, shape ``()``; None if there is none."""
        return torch.tensor(self._kept.scores[self._kept.worst]) if self._kept.scores else None

    @property
    def every_n_epochs(self) -> int:
        """Epochs between checkpoints; 0 if it is not epochs that count."""
        return self._schedule.every_n_epochs

    def format_checkpoint_name(self, metrics: Mapping[str, Any], filename: str | None = None, ver: int | None = None) -> str:
        """The path that a checkpoint saved with such values would get.

        Args:
            metrics: numbers or tensors of one element by key.
            filename: the template; this callback's own if not given.
            ver: a version to append.
        """
        name = self._fill(filename or self.filename or DEFAULT_TEMPLATE, metrics)
        name = f"{name}-v{ver}" if ver is not None else name
        return self._path(name + self.FILE_EXTENSION) if self.dirpath else name + self.FILE_EXTENSION

    def to_yaml(self, filepath: str | os.PathLike[str] | None = None) -> None:
        """Writes the kept paths with their scores as YAML, to ``best_k_models.yaml`` beside them if no path is given."""
        path = Path(filepath) if filepath is not None else Path(self._path("best_k_models.yaml"))
        lines = [f"{json.dumps(path)}: {score.item()}\n" for path, score in self.best_k_models.items()]
        path.write_text("".join(lines), encoding="utf-8")

    def resolve_checkpoint(self, which: str) -> str | None:
        """The path of the ``"best"`` or the ``"last"`` checkpoint, if there is one.

        ``"last"`` is the newest state that was saved. In a new process the list in a given ``dirpath`` knows; without one, the
        newest is that of the ``last*.ckpt`` and ``exception*.ckpt`` there that was written last.
        """
        if which not in ("best", "last"):
            return None
        known = self.best_model_path if which == "best" else self._newest and self._path(self._newest)
        if known:
            return known
        if self._dirpath_given and self._folder and not is_remote(self._folder.path):
            manifest = Manifest.read(Path(self._folder.path), CheckpointIO().checksum)
            entry = manifest.best(self.monitor, self.mode) if which == "best" else next(iter(manifest.of_run()), None)
            if entry is not None:
                return os.path.normpath(self._path(entry.name))
        if which == "last" and self._dirpath_given and self._folder and not is_remote(self._folder.path):
            here = Path(self._folder.path)
            found = (here.glob(f"{prefix}*{self.FILE_EXTENSION}") for prefix in (self.CHECKPOINT_NAME_LAST, _EXCEPTION))
            return self._folder.newest(chain.from_iterable(found))
        return None

    # ---- state ----

    @property
    def state_key(self) -> str:
        """Tells apart callbacks that save at different moments or by different values."""
        schedule = self._schedule
        options = {
            "monitor": self.monitor,
            "mode": self.mode,
            "every_n_train_steps": schedule.every_n_train_steps,
            "every_n_epochs": schedule.every_n_epochs,
            "train_time_interval": schedule.interval,
        }
        return f"{type(self).__qualname__}{options!r}"

    def state_dict(self) -> dict[str, Any]:
        """The kept checkpoints with their scores; paths are relative to ``dirpath``, so that a run can be moved."""
        return {
            "monitor": self.monitor,
            "best_model_score": _number(self.best_model_score),
            "best_model_path": self._relative(self.best_model_path),
            "current_score": _number(self.current_score),
            "best_k_models": dict(self._kept.scores),
            "kth_best_model_path": self._kept.worst,
            "kth_value": self._kept.scores.get(self._kept.worst),
            "last_model_path": self._relative(self.last_model_path),
            "due": self._due,
            "top_k_step": self._top_k_step,
            "last_step": self._last_step,
            "watched": self._watched.state_dict() if self._watched else None,
            "run": self._shelf.run if self._shelf else self._run,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back the checkpoints that still exist in ``dirpath``; a best one elsewhere is remembered but never deleted."""
        if self._folder is None:
            raise RuntimeError(f"{type(self).__name__} takes back its state in a fit, or when it was given a dirpath")
        taken = take_over(state_dict, self._folder, self._origin)
        self._kept.scores = taken.scores
        self._inherited = taken.best_elsewhere
        self.last_model_path = self._path(taken.last) if taken.last else ""
        self._newest = taken.last
        if self._listed:
            self._take_over_listed(state_dict.get("run", ""))
        current = state_dict.get("current_score")
        self.current_score = torch.tensor(float(current)) if current is not None else None
        self._due = bool(state_dict.get("due", False))
        if "top_k_step" in state_dict:
            self._steps_before = int(state_dict["top_k_step"]), int(state_dict["last_step"])
        self._watched_before = state_dict.get("watched")
        self._update_best()

    def _take_over_listed(self, run: str) -> None:
        """The folder's list knows the run better than one of its checkpoints: what was saved after that is in it, too."""
        if self._shelf is not None:
            self._shelf.run = run
        by_kind: dict[str, list[Entry]] = {}
        for entry in self._listed:
            by_kind.setdefault(entry.kind, []).append(entry)
        for entry in by_kind.get("top_k", []):
            worst = math.nan if entry.score is None else entry.score
            self._kept.scores[entry.name] = worst if self._watched else float(entry.order)
        if by_kind.get("last"):
            self.last_model_path = self._path(by_kind["last"][-1].name)
        self._spare = [entry.name for entry in by_kind.get("stop", [])]
        self._newest = self._listed[-1].name

    # ---- the run ----

    def outline(self, trainer: Trainer) -> str | None:
        """When it saves, what it keeps and where."""
        if trainer.fast_dev_run:
            return "saves no checkpoints, for fast_dev_run is set"
        keeps = {-1: "all", 0: "none", 1: "the best" if self.monitor else "the newest"}.get(
            self.save_top_k, f"the best {self.save_top_k}"
        )
        by = f" by {self.monitor} ({self.mode})" if self.monitor and self.save_top_k > 0 else ""
        last = " and the newest as 'last'" if self.save_last else ""
        what = "the weights" if self.save_weights_only else "a checkpoint"
        when = str(self._schedule) + (", after validation" if self.monitor and not self._schedule.at_epoch_end else "")
        return f"saves {what} {when}, keeps {keeps}{by}{last}, in {self.dirpath}"

    def on_load_checkpoint(self, trainer: Trainer, module: Module, checkpoint: dict[str, Any]) -> None:
        """Remembers where the checkpoint lies, for the paths in it are relative, and what the folder has of its run."""
        path = getattr(trainer, "ckpt_path", None)
        state = checkpoint.get("callbacks", {}).get(self.state_key, {})
        if self._shelf is not None and state.get("run"):
            self._listed = trainer.strategy.broadcast(self._shelf.entries(self.state_key, state["run"]))
        if path:
            self._origin = Folder(os.fspath(path).rpartition("/")[0] if is_remote(path) else os.fspath(Path(path).parent))

    def setup(self, trainer: Trainer, module: Module, stage: str) -> None:
        """Finds the directory and refuses one that cannot be written."""
        if stage != "fit":
            return
        self._open_folder(trainer)
        self.failed_saves, self._unsettled, self._written = [], [], ""
        self._in_flight.clear()
        if self.on_save_error == "warn":
            trainer.checkpoint_io.on_failure += (self._failed_in_background,)
        # What an earlier run kept is that run's; one that goes on from a checkpoint gets its state after this.
        self._kept.scores.clear()
        self._inherited = None
        self._training = self._due = False
        self._origin = None
        self.best_model_path = self.last_model_path = ""
        self.best_model_score = self.current_score = None
        self._newest, self._spare, self._listed = "", [], []
        self._steps_before = self._watched_before = None

    def _open_folder(self, trainer: Trainer) -> None:
        """Finds a folder that can be written and that is no other run's, and keeps it for this one.

        Raises:
            DirectoryTaken: another run saves to the ``dirpath`` that was given.
            OSError: it cannot be written.
        """
        self._leave_folder()
        owner = type(self).__name__
        if self._dirpath_given and self._folder:
            candidates = iter([self._folder])
        else:
            names = chain(["checkpoints"], (f"checkpoints_{number}" for number in count(1)))
            candidates = (Folder(Folder(trainer.log_dir).of(name)) for name in names)
        if trainer.is_global_zero:
            for folder in candidates:
                try:
                    if not trainer.fast_dev_run:
                        folder.check_writable(owner)
                    self._folder, self._shelf = folder, Shelf.of(folder, trainer, self._keeps)
                    break
                except DirectoryTaken as error:
                    if self._dirpath_given:
                        raise DirectoryTaken(f"{owner}: {error}") from None
        path = trainer.strategy.broadcast(self._folder.path if self._folder else "")
        if not trainer.is_global_zero:
            self._folder = Folder(path)
            self._shelf = Shelf.of(self._folder, trainer, self._keeps)

    def _leave_folder(self) -> None:
        if self._shelf is not None:
            self._run = self._shelf.run
            self._shelf.close(self._keeps)
            self._shelf = None

    def teardown(self, trainer: Trainer, module: Module, stage: str) -> None:
        """The folder is anybody's again."""
        if self._unsettled:
            self._go_by(self._found_in_list())
        self._leave_folder()
        if stage == "fit" and self.on_save_error == "warn":
            io = trainer.checkpoint_io
            io.on_failure = tuple(goes_on for goes_on in io.on_failure if goes_on != self._failed_in_background)
            if self.failed_saves:
                times = "once" if len(self.failed_saves) == 1 else f"{len(self.failed_saves)} times"
                kept = (
                    f"the newest checkpoint is {self._path(self._newest)!r}" if self._newest else "there is no checkpoint of it"
                )
                warn("LYC03", f"in this run saving failed {times}, last with: {self.failed_saves[-1]}; {kept}")

    def validate_run(self, trainer: Trainer, module: Module) -> None:
        """Refuses a monitor that is a mistyped key of the validation."""
        if self._watched is not None and not trainer.fast_dev_run:
            self._watched.check_spelling(trainer)
        if self._schedule.at_epoch_end is False and not self._schedule.counts_batches:
            warn_if_never(trainer, f"{type(self).__name__}(save_on_train_epoch_end=False)", "saves")

    def on_train_start(self, trainer: Trainer, module: Module) -> None:
        """Nothing new is to be saved until a step is taken, but what a validation that goes on may still call for."""
        self._training = True
        self._schedule.start(trainer)
        if self._watched is not None:
            self._watched.start()
            self._watched.go_on(trainer, self._watched_before)
        self._begun_step = step = trainer.global_step
        self._top_k_step, self._last_step = self._steps_before or (step, step)
        if self._due:
            self._top_k_step = -1

    @hookimpl(trylast=True)
    def on_train_batch_end(self, trainer: Trainer, module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Saves every so many steps or minutes."""
        schedule = self._schedule
        if schedule.counts_batches and schedule.after_batch(trainer) and not trainer.fast_dev_run:
            self._due = True
            self._save(trainer)

    def on_validation_start(self, trainer: Trainer, module: Module) -> None:
        """Remembers the value before this validation, to know a new one."""
        if self._watched is not None and _is_training(trainer):
            self._watched.validation_started(trainer)

    @hookimpl(trylast=True)
    def on_validation_end(self, trainer: Trainer, module: Module) -> None:
        """Saves what has waited for this validation, or what is saved after each."""
        if not _is_training(trainer):
            return
        if self._watched is not None:
            self._watched.validation_ended(trainer)
            self._watched.require(trainer, epoch_over=False)
        waited = self._due
        if not self._schedule.waits_for_epoch_end(trainer, monitored=self._watched is not None):
            self._due |= self._schedule.after_epoch(trainer)
            self._save(trainer)
        elif waited:
            self._save(trainer)

    @hookimpl(trylast=True)
    def on_train_epoch_end(self, trainer: Trainer, module: Module) -> None:
        """Saves every so many epochs."""
        if trainer.fast_dev_run:
            return
        if self._watched is not None:
            self._watched.require(trainer, epoch_over=True)
        if self._schedule.waits_for_epoch_end(trainer, monitored=self._watched is not None):
            self._due |= self._schedule.after_epoch(trainer)
            self._save(trainer)

    @hookimpl(trylast=True)
    def on_train_end(self, trainer: Trainer, module: Module) -> None:
        """Has every rank know whether what is being written gets there."""
        if not trainer.fast_dev_run and trainer.world_size > 1:
            self._settle(trainer)

    def on_fit_end(self, trainer: Trainer, module: Module) -> None:
        """There is nothing left to save."""
        self._training = False

    def save_before_stop(self, trainer: Trainer) -> str | None:
        """Saves the whole state as it is, unless that is done already."""
        if not self._training or trainer.fast_dev_run or not trainer.global_step:
            return None
        self._settle(trainer)
        if not self._is_unsaved(trainer):
            return self._path(self._newest) if self._newest else None
        try:
            return self._save_spare(trainer, _INTERRUPTED, weights_only=False)
        except NotSaved as error:
            self._failed(error)
            return None

    def _is_unsaved(self, trainer: Trainer) -> bool:
        return trainer.global_step > max(self._top_k_step, self._last_step, self._begun_step)

    def on_exception(self, trainer: Trainer, module: Module, exception: BaseException) -> None:
        """Saves the state after the last step, if asked to."""
        if not (self.save_on_exception and self._training) or trainer.fast_dev_run:
            return
        if self._unsettled:
            self._go_by(self._found_in_list())
        if not self._is_unsaved(trainer):
            return
        if isinstance(exception, KeyboardInterrupt | Terminated):
            return  # between two steps the state was saved already; elsewhere it may be half of a step
        if trainer.strategy.world_size > 1:
            say(
                trainer,
                f"{type(self).__name__}(save_on_exception=True): not saved, for one process cannot save without the others",
            )
            return
        try:
            path = self._save_spare(trainer, _EXCEPTION, self.save_weights_only)
        except NotSaved as error:
            self._failed(error)
            return
        say(trainer, f"the state after step {trainer.global_step} was saved as {path}")

    def _save_spare(self, trainer: Trainer, prefix: str, weights_only: bool) -> str:
        """Saves the state beside those that are kept, until a newer one is safe."""
        name = self._name(trainer, f"{prefix}-{DEFAULT_TEMPLATE}", ours=())
        self._put(name, "stop", weights_only)
        older, self._spare = self._spare, [name]
        self._newest = name
        self._last_step = trainer.global_step
        try:
            self._commit(older)
        except NotListed as error:
            self._failed(error)
        return self._path(name)

    # ---- saving ----

    def _save(self, trainer: Trainer) -> None:
        self._settle(trainer)
        before = self.last_model_path
        try:
            self._save_due(trainer)
        except NotListed as error:
            self._failed(error)
        except NotSaved as error:
            last, self.last_model_path = self.last_model_path, before
            if error.overwritten and last == before == self._written:
                self.last_model_path = ""
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        """Notes a save that failed and that the run is not to end for."""
        self.failed_saves.append(str(error))
        warn("LYC03", f"{error}; training goes on, and the next checkpoint is tried when it is due")

    def _settle(self, trainer: Trainer) -> bool:
        """Waits for what is being written, and has every rank know what failed; every rank calls it at the same place.

        Returns:
            Whether something did, since the last time.
        """
        if self.on_save_error != "warn":
            return False
        trainer.checkpoint_io.wait()  # the next save would, too
        trainer.checkpoint_io.check()
        self._in_flight.clear()
        failed, listed = trainer.strategy.broadcast((self._unsettled, self._found_in_list() if self._unsettled else []))
        if not trainer.is_global_zero:
            self.failed_saves += failed
        if failed:
            self._go_by(listed)
        return bool(failed)

    def _failed_in_background(self, error: BaseException, path: str) -> bool:
        """Called on rank 0 for a save that failed after it seemed done; whether the run is to go on all the same."""
        listed = self._shelf.manifest if self._shelf is not None else None
        if not isinstance(error, OSError) or listed is None or path not in self._in_flight:
            return False
        self._unsettled.append(str(error))
        self._failed(error)
        return True

    def _found_in_list(self) -> list[Entry]:
        return self._shelved.entries(self.state_key, self._shelved.run)

    def _go_by(self, listed: list[Entry]) -> None:
        """Takes the folder's list for what is there; what was kept, replaced or called the newest since a save failed was not."""
        self._unsettled = []
        self._shelved.withdraw()
        self._kept.scores.clear()
        self.last_model_path = self._newest = ""
        self._listed = listed
        if listed:
            self._take_over_listed(self._shelved.run)
        self._update_best()
        self._top_k_step = self._last_step = -1

    def _save_due(self, trainer: Trainer) -> None:
        """Saves what is due; deletes only when everything new is safe."""
        unneeded: list[str] = []
        last = previous = ""
        if self.save_last:
            previous = self._relative(self.last_model_path)
            last = self._name(trainer, self.CHECKPOINT_NAME_LAST, ours=(previous,))
            # Set first, so that the file under the other name knows of it too.
            self.last_model_path = self._path(last)
            if previous and previous != last:
                unneeded.append(previous)
        saved = ""
        if self._due and self.save_top_k and self._top_k_step != trainer.global_step:
            saved = self._save_top_k(trainer, unneeded, last)
        elif not self.save_top_k:
            self._due = False
        if last and (saved or self._last_step != trainer.global_step):
            if saved and self._settle(trainer):
                return  # what was saved under the other name is not there after all
            try:
                self._save_last(trainer, last, saved)
            except NotSaved:
                if saved:
                    self._newest = saved
                    self._commit([name for name in unneeded if name != previous])
                raise
            self._newest = last
        elif saved:
            self._newest = saved
        else:
            return
        unneeded += self._spare
        self._spare = []
        self._commit(unneeded)

    def _save_top_k(self, trainer: Trainer, unneeded: list[str], last: str) -> str:
        """Saves the state if it is good enough, under another name than ``last``; returns its name, or nothing."""
        if self._watched is None:
            score = max(self._kept.scores.values(), default=0.0) + 1
        else:
            taken = self._watched.take(trainer)
            if taken is None:
                return ""  # stays due
            score = taken
            self.current_score = torch.tensor(score)
        self._due = False
        if not self._kept.admits(score):
            self._say(trainer, f"{self.monitor}={score:g} is not among the best {self.save_top_k}")
            return ""
        victim = self._kept.victim()
        name = self._name(trainer, self.filename or DEFAULT_TEMPLATE, ours=(victim,) if victim else (), taken=last)
        before, steps_before = dict(self._kept.scores), (self._top_k_step, self._last_step)
        self._kept.scores.pop(name, None)  # overwritten
        removed = self._kept.add(name, score)
        self._update_best()
        self._top_k_step = trainer.global_step  # before it is saved, so that its own state has it
        if last:
            self._last_step = trainer.global_step
        try:
            self._put(name, "top_k", self.save_weights_only, score if self._watched else None)
        except BaseException as error:
            if isinstance(error, NotSaved) and error.overwritten:
                before.pop(name, None)
            self._kept.scores, (self._top_k_step, self._last_step) = before, steps_before
            self._update_best()
            raise
        unneeded.extend(removed)
        reason = f"{self.monitor}={score:g}" if self._watched else f"epoch {trainer.current_epoch}, step {trainer.global_step}"
        self._say(trainer, f"{reason} was saved as {self._path(name)}")
        return name

    def _save_last(self, trainer: Trainer, name: str, newest: str) -> None:
        step_before, self._last_step = self._last_step, trainer.global_step
        try:
            if self.save_last == "link" and newest and trainer.strategy.broadcast(self._here.has_links):
                self._shelved.link(self._entry(name, "last"), newest, goes_on=self.on_save_error == "warn")
            else:
                self._put(name, "last", self.save_weights_only)
        except BaseException:
            self._last_step = step_before
            raise

    def _keeps(self) -> set[str]:
        return {*self._kept.scores, *self._spare, self._relative(self.last_model_path)}

    def _commit(self, unneeded: list[str]) -> None:
        self._shelved.commit(unneeded, self._elsewhere(), goes_on=self.on_save_error == "warn")

    def _put(self, name: str, kind: str, weights_only: bool, score: float | None = None) -> None:
        self._written = self._path(name)
        self._in_flight.add(self._written)
        self._shelved.save(self._entry(name, kind, score), weights_only, goes_on=self.on_save_error == "warn")

    def _entry(self, name: str, kind: str, score: float | None = None) -> Entry:
        return Entry(name, kind=kind, score=score, monitor=self.monitor, mode=self.mode, owner=self.state_key)

    def _elsewhere(self) -> Entry | None:
        """The best checkpoint for the list of this folder, if it is in another one."""
        if self._inherited is None or self.best_model_path != self._inherited[0] or is_remote(self._here.path):
            return None
        return self._entry(self._relative(self.best_model_path), "elsewhere", self._inherited[1])

    # ---- names ----

    def _name(self, trainer: Trainer, template: str, ours: tuple[str, ...], taken: str = "") -> str:
        """A file name for the state as it is; one of ``ours`` is overwritten, another file and what will be ``taken`` are not."""
        values: dict[str, Any] = counters(trainer)
        values.update(trainer.callback_metrics)
        stem = self._fill(template, values)
        if not self.enable_version_counter:
            return stem + self.FILE_EXTENSION

        def is_taken(candidate: str) -> bool:
            name = candidate + self.FILE_EXTENSION
            if name in ours or name == taken or not self._here.has(name):
                return name == taken
            return self._shelf is None or not self._shelf.is_own(name, trainer.global_step, self.state_key)

        # Rank 0 decides: another one may look when the file is there already.
        stem = trainer.strategy.broadcast(unused_name(stem, is_taken, first=self.STARTING_VERSION))
        return stem + self.FILE_EXTENSION

    def _fill(self, template: str, values: Mapping[str, Any]) -> str:
        return format_name(template, values, insert_names=self.auto_insert_metric_name)

    def _path(self, name: str) -> str:
        return self._here.of(name)

    def _relative(self, path: str) -> str:
        return self._folder.name(path) if self._folder else path

    @property
    def _shelved(self) -> Shelf:
        assert self._shelf is not None, "setup() opens it"
        return self._shelf

    @property
    def _here(self) -> Folder:
        assert self._folder is not None, "setup() finds the folder"
        return self._folder

    def _update_best(self) -> None:
        name = self._kept.best
        path, score = (self._path(name), self._kept.scores[name]) if name else ("", math.nan)
        if self._inherited and (not name or (self._watched and not self._kept.is_better(score, self._inherited[1]))):
            path, score = self._inherited
        self.best_model_path = path
        self.best_model_score = torch.tensor(score) if path and self._watched else None

    def _say(self, trainer: Trainer, text: str) -> None:
        if self.verbose:
            say(trainer, text)


def _is_training(trainer: Trainer) -> bool:
    return trainer.stage == "fit" and not trainer.sanity_checking and not trainer.fast_dev_run


def _number(value: Tensor | None) -> float | None:
    return None if value is None else float(value)
