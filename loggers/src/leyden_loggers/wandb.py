"""Writes the numbers of a run to Weights & Biases."""

from __future__ import annotations

import os
import secrets
import string
import time
import weakref
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from leyden.messages import notify, quoted

from leyden_loggers.client import ClientLogger
from leyden_loggers.hparams_file import readable
from leyden_loggers.records import Record

_OWN = ("project", "name", "version", "save_dir", "mode", "prefix")
MODES = ("online", "offline", "disabled", "shared")
STEP = "trainer/global_step"
_RESERVED = frozenset(("", "_step", "_runtime", "_timestamp", "_wandb", STEP))

_left: list[tuple[int, Any]] = []
"""Runs whose logger is gone, each with the process that opened it, to be finished there when the next one is opened.

The garbage collector calls nothing of W&B's: it may run while W&B sets a context variable, and CPython 3.10 and 3.11 crash where
another one is set meanwhile (github.com/python/cpython/issues/148891).
"""

_WAY_OUT = "pass mode='offline' and send it later with: wandb sync"


class WandbLogger(ClientLogger):
    """``"wandb"``: a run of Weights & Biases; needs ``pip install "leyden-loggers[wandb]"``.

    The step of a record is logged as ``trainer/global_step``, over which every key is drawn; W&B's own step counts records,
    for it drops what is logged for an earlier step than the last. A run stays open after a fit that ended well, so that a
    test goes on in it; it ends with the process, by ``logger.experiment.finish()``, or, if its logger is gone by then, when
    another one opens a run. One that failed is ended as failed. W&B's client writes in a process of its own: a killed run loses
    what that had not written, about the last half second.

    Args:
        project: the project of runs.
        name: the run's name; W&B chooses one if None.
        version: the run's id, which W&B continues if it has it; a new one if None.
        save_dir: the directory in which W&B makes its ``wandb``; the Trainer's ``default_root_dir`` if None.
        mode: ``"online"``, ``"offline"`` (``wandb sync`` sends it later), ``"disabled"`` or ``"shared"``; None leaves it to W&B.
        prefix: put before each key, as in ``prefix-loss``.
        init_options: other arguments of ``wandb.init``, such as ``entity``, ``group``, ``tags``, ``notes``, ``settings``.

    Raises:
        ModuleNotFoundError: W&B's client is not installed.
        TypeError: an argument has a wrong type, or there is none of its name.
        ValueError: ``mode`` is none of these.
    """

    registered = "wandb"
    modules = ("wandb",)
    seconds_between_writes = 0.0  # the client hands each record to its own process, which costs little
    client_options = (
        "entity", "notes", "tags", "config", "config_exclude_keys", "config_include_keys", "allow_val_change", "group",
        "job_type", "force", "reinit", "resume", "resume_from", "fork_from", "save_code", "tensorboard", "sync_tensorboard",
        "monitor_gym", "settings", "anonymous",
    )  # fmt: skip

    def __init__(
        self,
        project: str = "leyden_logs",
        name: str | None = None,
        version: str | None = None,
        save_dir: str | os.PathLike[str] | None = None,
        mode: str | None = None,
        prefix: str = "",
        **init_options: Any,
    ) -> None:
        super().__init__(project, save_dir, name, version, prefix, init_options, _OWN)
        if mode is not None and mode not in MODES:
            raise ValueError(f"WandbLogger(mode={quoted(mode)}): expected 'online', 'offline', 'disabled', 'shared' or None")
        self.project = project
        self.mode = mode
        # W&B's own look; chosen here, so that it is known before the run is opened, and with no seeded random number.
        self._id = version or "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
        self._run: Any = None
        self._opened_at = 0

    @property
    def version(self) -> str:
        """The run's id."""
        return self._id

    def _opened(self) -> Any:
        if self._run is None:
            import wandb
            from wandb.errors import Error

            _finish_left()
            self._look_for_server()
            if int(time.time()) == self._opened_at:
                time.sleep(1 - time.time() % 1)  # W&B names an offline run's directory by id and second, and would write over it
            self._opened_at = int(time.time())
            arguments: dict[str, Any] = {"mode": self.mode, "resume": "allow", "reinit": "create_new", **self._options}
            try:
                self._run = wandb.init(
                    project=self.project, name=self._name, id=self._id, dir=self._writable_save_dir(), **arguments
                )
            except Error as error:
                raise self._refused(error, _WAY_OUT) from error
            self._run.define_metric(STEP)
            self._run.define_metric("*", step_metric=STEP, step_sync=True)
            # A script of many Trainers would otherwise have as many runs open at its end, where W&B ends what is open.
            weakref.finalize(self, _left.append, (os.getpid(), self._run)).atexit = False
        return self._run

    def _look_for_server(self) -> None:
        import wandb

        known = wandb.setup().settings  # what the environment and W&B's own files say
        given = self._options.get("settings") or {}
        own: dict[str, Any] = given if isinstance(given, dict) else given.model_dump(include=given.model_fields_set)
        mode = self.mode or own.get("mode") or known.mode
        if mode in ("online", "shared"):
            self._knock(own.get("base_url") or known.base_url, _WAY_OUT)

    def _write(self, records: Sequence[Record]) -> None:
        for record in records:
            values = {_key(key): value for key, value in record.values.items()}
            self._in_open_run(partial(_log, values={**values, STEP: record.step}))

    def _in_open_run(self, call: Callable[[Any], Any]) -> None:
        """Opens the run again if somebody has finished it; the client cannot be asked whether that is so."""
        from wandb.errors import UsageError

        try:
            call(self._opened())
        except UsageError:
            self._run = None
            call(self._opened())

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, metrics: Mapping[str, float] | None = None) -> None:
        """Puts the hyperparameters into the run's config, and results that belong to them into its summary."""
        if not self._writes:
            return
        self._in_open_run(lambda run: run.config.update(readable(params), allow_val_change=True))
        if metrics:
            self._opened().summary.update(self.record(metrics, 0)[0])

    def finalize(self, status: str) -> None:
        """Writes what is left; a run that did not end well is ended as failed."""
        try:
            self._write_waiting()
        finally:
            if status != "success" and self._run is not None:
                run, self._run = self._run, None
                run.finish(exit_code=1)


def _key(key: str) -> str:
    if key not in _RESERVED:
        return key
    taken = f"metric/{key.strip('_') or 'unnamed'}"
    notify("LYL08", f"W&B keeps {key!r} for itself; the metric is logged as {taken!r}")
    return taken


def _log(run: Any, values: Mapping[str, Any]) -> None:
    run.log(values)


def _finish_left() -> None:
    while _left:
        process, run = _left.pop()
        if process == os.getpid():  # a forked one has it by copy only
            with suppress(Exception):  # the user may have finished it
                run.finish()
