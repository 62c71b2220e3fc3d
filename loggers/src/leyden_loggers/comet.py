"""Writes the numbers of a run to Comet."""

from __future__ import annotations

import inspect
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from leyden.messages import quoted, shown

from leyden_loggers.client import ClientLogger
from leyden_loggers.hparams_file import flattened, readable
from leyden_loggers.records import Record

_OWN = ("project_name", "name", "version", "workspace", "api_key", "offline", "save_dir", "prefix")

_WAY_OUT = "pass offline=True and send it later with: comet upload"


class CometLogger(ClientLogger):
    """``"comet"``: an experiment of Comet; needs ``pip install "leyden-loggers[comet]"``.

    Offline, each fit, validate or test leaves an archive in ``save_dir`` that ``comet upload`` sends; those of one experiment
    belong together. A killed offline run leaves no archive.

    Args:
        project_name: the project of experiments.
        name: the experiment's name; Comet chooses one if None.
        version: the key of an experiment to continue; a new one if None.
        workspace: the workspace; the user's own if None.
        api_key: the key of the account; Comet looks into its configuration and ``COMET_API_KEY`` if None.
        offline: whether to write archives in place of sending.
        save_dir: for archives; the Trainer's ``default_root_dir`` if None.
        prefix: put before each key, as in ``prefix-loss``.
        experiment_options: other arguments of ``comet_ml.Experiment``, such as ``log_code`` or ``auto_output_logging``;
            ``auto_param_logging`` and ``auto_metric_logging`` are off unless given, because the logger does that.

    Raises:
        ModuleNotFoundError: Comet's client is not installed.
        TypeError: an argument has a wrong type, or there is none of its name.
    """

    registered = "comet"
    modules = ("comet_ml",)
    seconds_between_writes = 0.0  # the client only puts a record on a queue
    client_options = (
        "log_code", "log_graph", "auto_param_logging", "auto_metric_logging", "parse_args", "auto_output_logging",
        "log_env_details", "log_git_metadata", "log_git_patch", "disabled", "log_env_gpu", "log_env_host", "display_summary",
        "log_env_cpu", "log_env_network", "log_env_disk", "display_summary_level", "auto_log_co2", "auto_metric_step_rate",
        "auto_histogram_tensorboard_logging", "auto_histogram_epoch_rate", "auto_histogram_weight_logging",
        "auto_histogram_gradient_logging", "auto_histogram_activation_logging", "distributed_node_identifier",
    )  # fmt: skip

    def __init__(
        self,
        project_name: str = "leyden_logs",
        name: str | None = None,
        version: str | None = None,
        workspace: str | None = None,
        api_key: str | None = None,
        offline: bool = False,
        save_dir: str | os.PathLike[str] | None = None,
        prefix: str = "",
        **experiment_options: Any,
    ) -> None:
        super().__init__(project_name, save_dir, name, version, prefix, experiment_options, _OWN)
        if not isinstance(offline, bool):
            raise TypeError(f"CometLogger(offline={quoted(offline)}): expected a bool, got {shown(offline)}")
        for argument, value in (("workspace", workspace), ("api_key", api_key)):
            if value is not None and not isinstance(value, str):
                raise TypeError(f"CometLogger({argument}=...): expected a str or None, got a {type(value).__name__}")
        self.project_name = project_name
        self.workspace = workspace
        self.offline = offline
        self._api_key = api_key
        self._key = version
        self._experiment: Any = None

    @property
    def version(self) -> str | None:
        """The experiment's key; None before it is opened, if none was given."""
        return self._key

    def _opened(self) -> Any:
        if self._experiment is None or self._experiment.ended:
            import comet_ml

            options = {"auto_param_logging": False, "auto_metric_logging": False, "workspace": self.workspace, **self._options}
            kind = ("Existing" if self._key else "") + ("Offline" if self.offline else "") + "Experiment"
            if self.offline:
                options["offline_directory"] = self._writable_save_dir()
            if self._api_key is not None or not self.offline:
                options["api_key"] = self._api_key
            if self._key:
                options["previous_experiment"] = self._key
            else:
                options["project_name"] = self.project_name
            factory = getattr(comet_ml, kind)
            taken = inspect.signature(factory).parameters
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
                # What is continued offline has settings of its own for some, and no argument for them.
                options = {option: value for option, value in options.items() if option in taken}
            config: Any = comet_ml.config
            # A key may name its server, which asking for it makes known.
            if not (self.offline or self._options.get("disabled")) and config.get_api_key(self._api_key, config.get_config()):
                self._knock(config.get_backend_address(), _WAY_OUT)
            try:
                opened = factory(**options)
            except (ValueError, comet_ml.exceptions.CometException) as error:
                raise self._refused(error, _WAY_OUT) from error
            if not self.offline and not getattr(
                opened, "alive", True
            ):  # it has said why, and would take everything and send nothing
                raise self._refused(ConnectionError("the server did not take it"), _WAY_OUT)
            self._experiment = opened
            if self._name is not None and self._key is None:
                self._experiment.set_name(self._name)
            self._key = self._experiment.get_key()
        return self._experiment

    def _write(self, records: Sequence[Record]) -> None:
        experiment = self._opened()
        for record in records:
            experiment.log_metrics(record.values, step=record.step, epoch=record.values.get("epoch"))

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, metrics: Mapping[str, float] | None = None) -> None:
        """Logs the hyperparameters as parameters, nested ones as in ``model/depth``; results without a step."""
        if not self._writes:
            return
        self._opened().log_parameters(dict(flattened(readable(params))))
        if metrics:
            self._opened().log_metrics(self.record(metrics, 0)[0])

    def finalize(self, status: str) -> None:
        """Writes what is left and ends the experiment; a later run of this logger goes on in it."""
        try:
            self._write_waiting()
        finally:
            if self._experiment is not None and not self._experiment.ended:
                if status != "success":
                    self._experiment.log_other("status", status)
                self._experiment.end()
