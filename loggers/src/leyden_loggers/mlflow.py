"""Writes the numbers of a run to MLflow."""

from __future__ import annotations

import os
import re
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leyden.messages import notify, quoted, shown

from leyden_loggers.client import ClientLogger
from leyden_loggers.hparams_file import flattened, readable
from leyden_loggers.records import Record, as_float

if TYPE_CHECKING:
    from mlflow import MlflowClient

_OWN = ("experiment_name", "name", "version", "tracking_uri", "save_dir", "tags", "prefix")
_NOT_IN_KEYS = re.compile(r"[^\w./: -]", re.ASCII)
_LONGEST_PARAM, _LONGEST_KEY = 6000, 250
_METRICS_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100  # what a server takes in one request
_STATUS = {"success": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_WAY_OUT = "check tracking_uri"


class MLflowLogger(ClientLogger):
    """``"mlflow"``: a run of MLflow; needs ``pip install "leyden-loggers[mlflow]"``.

    The extra installs MLflow's client and what it needs for a local SQLite store, not its server.

    Args:
        experiment_name: the experiment of runs; made if there is none.
        name: the run's name; MLflow chooses one if None.
        version: the id of a run to continue; a new one if None.
        tracking_uri: a server or a store; if None what MLflow was told (``mlflow.set_tracking_uri``, ``MLFLOW_TRACKING_URI``),
            else the file ``mlflow.db`` in ``save_dir``.
        save_dir: for ``mlflow.db`` and artifacts beside it; the Trainer's ``default_root_dir`` if None.
        tags: of a new run.
        prefix: put before each key, as in ``prefix-loss``.

    Raises:
        ModuleNotFoundError: MLflow's client is not installed.
        TypeError: an argument has a wrong type.
    """

    registered = "mlflow"
    modules = ("mlflow",)
    client_options = ()

    def __init__(
        self,
        experiment_name: str = "leyden_logs",
        name: str | None = None,
        version: str | None = None,
        tracking_uri: str | None = None,
        save_dir: str | os.PathLike[str] | None = None,
        tags: Mapping[str, Any] | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__(experiment_name, save_dir, name, version, prefix, {}, _OWN)
        if tags is not None and not isinstance(tags, Mapping):
            raise TypeError(f"MLflowLogger(tags={quoted(tags)}): expected a dict or None, got {shown(tags)}")
        if tracking_uri is not None and not isinstance(tracking_uri, str):
            raise TypeError(
                f"MLflowLogger(tracking_uri={quoted(tracking_uri)}): expected a str or None, got {shown(tracking_uri)}"
            )
        self.experiment_name = experiment_name
        self.tracking_uri = tracking_uri
        self.tags = dict(tags or {})
        self._run_id = version
        self._client: MlflowClient | None = None
        self._ended = False
        self._params: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._last_time = 0

    @property
    def version(self) -> str | None:
        """The run's id; None before it is opened, if none was given."""
        return self._run_id

    # ---- the run ----

    def _opened(self) -> MlflowClient:
        if self._client is None:
            self._client = self._connected()
        if self._ended and self._run_id is not None:
            self._client.update_run(self._run_id, status="RUNNING")
            self._ended = False
        return self._client

    def _connected(self) -> MlflowClient:
        import mlflow

        uri = self.tracking_uri
        if uri is None and mlflow.is_tracking_uri_set():  # type: ignore[no-untyped-call]  # MLflow does not type it
            uri = mlflow.get_tracking_uri()
        artifacts = None
        if uri is None:
            place = Path(self._writable_save_dir()).absolute()
            uri, artifacts = f"sqlite:///{place / 'mlflow.db'}", (place / "mlartifacts").as_uri()
        if uri.startswith(("http://", "https://")):
            self._knock(uri, _WAY_OUT)
        try:
            client = mlflow.MlflowClient(uri)
            if self._run_id is not None:
                run = client.get_run(self._run_id)
                self._params, self._ended = dict(run.data.params), run.info.status != "RUNNING"
            else:
                experiment = client.get_experiment_by_name(self.experiment_name)
                known = experiment.experiment_id if experiment is not None else None
                known = known or client.create_experiment(self.experiment_name, artifact_location=artifacts)
                self._run_id = client.create_run(known, run_name=self._name, tags=self.tags).info.run_id
        except mlflow.MlflowException as error:
            raise self._refused(error, _WAY_OUT) from error
        return client

    # ---- records ----

    def _write(self, records: Sequence[Record]) -> None:
        from mlflow.entities import Metric

        client = self._opened()
        assert self._run_id is not None
        metrics = []
        for record in records:
            # The store keeps one of several equal values of a key with one step and one time.
            self._last_time = max(int(record.time * 1000), self._last_time + 1)
            metrics += [
                Metric(self._key(key), as_float(value), self._last_time, record.step) for key, value in record.values.items()
            ]
        for start in range(0, len(metrics), _METRICS_AT_ONCE):
            client.log_batch(self._run_id, metrics=metrics[start : start + _METRICS_AT_ONCE])

    def _key(self, key: str) -> str:
        if key not in self._keys:
            parts = [part for part in _NOT_IN_KEYS.sub("_", key).split("/") if part not in ("", ".", "..")]
            taken = free = "/".join(parts)[:_LONGEST_KEY].rstrip("/") or "_"
            others = set(self._keys.values())
            for number in count(2):
                if free not in others:
                    break
                free = f"{taken[: _LONGEST_KEY - 8]}_{number}"
            if free != key:
                notify("LYL05", f"MLflow has no such key as {quoted(key, room=300)}; it is logged as {quoted(free, room=300)}")
            self._keys[key] = free
        return self._keys[key]

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, metrics: Mapping[str, float] | None = None) -> None:
        """Logs the hyperparameters as the run's params, nested ones as in ``model/depth``; results at step 0.

        MLflow does not change the param of a run: one that has changed keeps its first value, and that is said.
        """
        if not self._writes:
            return
        from mlflow.entities import Param

        client = self._opened()
        assert self._run_id is not None
        texts = {self._key(key): str(value) for key, value in flattened(readable(params))}
        texts = {key: text if len(text) <= _LONGEST_PARAM else text[: _LONGEST_PARAM - 3] + "..." for key, text in texts.items()}
        for key, text in texts.items():
            if self._params.get(key, text) != text:
                notify("LYL06", f"MLflow keeps {key!r} of this run as {self._params[key]!r}; it is {text!r} now")
        fresh = [Param(key, text) for key, text in texts.items() if key not in self._params]
        for start in range(0, len(fresh), _PARAMS_AT_ONCE):
            client.log_batch(self._run_id, params=fresh[start : start + _PARAMS_AT_ONCE])
        self._params.update((param.key, param.value) for param in fresh)
        if metrics:
            self._write([Record(0, self.record(metrics, 0)[0], time.time())])

    def finalize(self, status: str) -> None:
        """Writes what is left and ends the run; a later run of this logger goes on in it."""
        try:
            self._write_waiting()
        finally:
            if self._client is not None and self._run_id is not None and not self._ended:
                self._client.set_terminated(self._run_id, _STATUS[status])
                self._ended = True
