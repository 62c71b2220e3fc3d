"""Writes the numbers of a run as TensorBoard events."""

from __future__ import annotations

import inspect
import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leyden import Precision
from leyden.messages import add_note, did_you_mean, listed, quoted, shown, warn

from leyden_loggers.graph import draw
from leyden_loggers.hparams_file import flattened, readable
from leyden_loggers.local import LocalLogger, leads_out
from leyden_loggers.records import NoExperiment, Record, as_float
from leyden_loggers.run_directory import refusing

if TYPE_CHECKING:
    from leyden import Module
    from torch.utils.tensorboard import SummaryWriter

WRITER_OPTIONS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "purge_step": ("an int or None", lambda value: value is None or _is_whole(value)),
    "max_queue": ("an int >= 1", lambda value: _is_whole(value) and value >= 1),
    "flush_secs": ("a number above 0", lambda value: _is_number(value) and value > 0),
    "filename_suffix": ("a str without '/'", lambda value: isinstance(value, str) and "/" not in value and "\0" not in value),
}
"""What ``SummaryWriter`` takes besides the directory, and which values: its own thread would end at others. Kept here because
asking it would import the client."""


class TensorBoardLogger(LocalLogger):
    """``"tensorboard"``: events that ``tensorboard --logdir <save_dir>/<name>`` shows, and ``hparams.yaml``.

    Values are stored in 32 bits, as TensorBoard does; NaN and infinities are kept. TensorBoard's own client writes behind the
    training loop: a killed process loses what waits in its queue, ten events by default, beside what came within a second of
    the last write (see :class:`~leyden_loggers.records.RecordLogger`).

    Args:
        save_dir: see :class:`LocalLogger`, as for ``name``, ``version`` and ``prefix``.
        name: the directory below ``save_dir``.
        version: the run.
        log_graph: whether to draw the module's graph from its ``example_input_array`` at the start of a fit.
        default_hp_metric: whether hyperparameters that come without results are given the result ``hp_metric`` = -1, so that
            TensorBoard lists the run; a later ``log("hp_metric", ...)`` gives it its value.
        prefix: put before each key.
        sub_dir: a directory below the run's for the events.
        summary_writer_options: arguments of ``torch.utils.tensorboard.SummaryWriter``: ``purge_step``, ``max_queue``,
            ``flush_secs``, ``filename_suffix``.

    Raises:
        ModuleNotFoundError: TensorBoard's client is not installed.
        TypeError: an argument does not exist or has a wrong type.
        ValueError: an argument has a wrong value.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str] | None = None,
        name: str | None = "leyden_logs",
        version: int | str | None = None,
        log_graph: bool = False,
        default_hp_metric: bool | None = True,
        prefix: str = "",
        sub_dir: str | os.PathLike[str] | None = None,
        **summary_writer_options: Any,
    ) -> None:
        super().__init__(save_dir, name, version, prefix)
        if sub_dir is not None and not isinstance(sub_dir, str | os.PathLike):
            raise TypeError(f"TensorBoardLogger(sub_dir={quoted(sub_dir)}): expected a path or None, got {shown(sub_dir)}")
        if sub_dir is not None and leads_out(sub_dir):
            raise ValueError(f"TensorBoardLogger(sub_dir={quoted(sub_dir)}): expected a directory below that of the run")
        for option, value in summary_writer_options.items():
            _check_option(option, value)
        if not isinstance(log_graph, bool):
            raise TypeError(f"TensorBoardLogger(log_graph={quoted(log_graph)}): expected a bool, got {shown(log_graph)}")
        if default_hp_metric is not None and not isinstance(default_hp_metric, bool):
            raise TypeError(
                f"TensorBoardLogger(default_hp_metric={quoted(default_hp_metric)}): expected a bool or None, "
                f"got {shown(default_hp_metric)}"
            )
        if find_spec("tensorboard") is None:
            raise ModuleNotFoundError(
                "logger 'tensorboard' needs TensorBoard's client, which is not installed; run: pip install tensorboard, "
                "or choose logger='csv'",
                name="tensorboard",
            )
        self.sub_dir = None if sub_dir is None else os.fspath(sub_dir)
        # Scripts switch these two after the Trainer was built, under these names.
        self._log_graph = log_graph
        self._default_hp_metric = default_hp_metric
        self._options = summary_writer_options
        self._purge_step: int | None = None
        self._has_placeholder = False
        self._writer: SummaryWriter | None = None
        self._opened = 0

    def _doubles(self, other: LocalLogger) -> bool:
        return isinstance(other, TensorBoardLogger) and (self.sub_dir, self.prefix) == (other.sub_dir, other.prefix)

    @property
    def log_dir(self) -> str | None:
        """The directory of the events: the run's, or ``sub_dir`` below it; see :attr:`LocalLogger.log_dir`."""
        directory = super().log_dir
        return str(Path(directory, self.sub_dir)) if directory and self.sub_dir else directory

    @property
    def experiment(self) -> Any:
        """The ``torch.utils.tensorboard.SummaryWriter``, opened on first use.

        On ranks other than 0 it is an object that ignores every call.
        """
        if not self._writes:
            return NoExperiment()
        self._write_waiting()
        return self._opened_writer()

    def _opened_writer(self) -> Any:
        directory, opened = self.run_directory.open()
        place = directory / (self.sub_dir or "")
        if self._writer is not None and (self._opened != opened or self._writer.file_writer is None):
            self._abandon(self._writer, place)
        if self._writer is None:
            self._writer, self._opened = self._open_writer(place), opened
        return self._writer

    def _open_writer(self, place: Path) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter

        options = dict(self._options)
        if self._purge_step is not None:
            options.setdefault("purge_step", self._purge_step)
            self._purge_step = None
        with refusing(place):
            return SummaryWriter(str(place), **options)

    def _abandon(self, writer: SummaryWriter, place: Path) -> None:
        """Lets go of a writer whose file is gone, or that the user closed."""
        self._writer = None
        with suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)  # what waits in its queue would end its thread with a traceback
            writer.close()

    # ---- records ----

    def _write(self, records: Sequence[Record]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]  # made at run time

        # One event a record: the client opens and closes its file for each event.
        self._add(
            (Summary(value=[Summary.Value(tag=key, simple_value=as_float(x)) for key, x in record.values.items()]), record)
            for record in records
            if record.values
        )

    def _add(self, summaries: Iterable[tuple[Any, Record]]) -> None:
        writer = self._opened_writer()
        place = Path(writer.get_logdir())
        with refusing(place):
            try:
                for summary, record in summaries:
                    writer.file_writer.add_summary(summary, record.step, record.time)
            except OSError:  # what went wrong in the client's thread, which has ended with it
                self._abandon(writer, place)
                raise

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, metrics: Mapping[str, Any] | None = None) -> None:
        """Writes ``hparams.yaml``, and the hyperparameters for TensorBoard's HPARAMS page.

        Args:
            params: nested values are flattened there, as in ``model/depth``; lists become strings.
            metrics: results that belong to them, logged at step 0; None stands for ``hp_metric`` unless ``default_hp_metric``
                is off. Without hyperparameters nothing is written for TensorBoard.

        Raises:
            OSError: the directory cannot be written to; the message has its path.
        """
        super().log_hyperparams(params)
        flat = dict(flattened(readable(params)))
        if not self._writes or (not flat and not metrics):
            return
        if metrics is None and self._default_hp_metric:
            metrics = {"hp_metric": -1.0}
            # Once: in a second fit, or one that continues a run, it would hide what was logged since.
            if not self._has_placeholder and not self._resumes:
                self.log_metrics(metrics, 0)
            self._has_placeholder = True
        elif metrics:
            self.log_metrics(metrics, 0)
        from torch.utils.tensorboard.summary import hparams

        results, _ = self.record(metrics or {}, 0)
        record = Record(0, results, time.time())
        self._add((summary, record) for summary in hparams(flat, results))  # type: ignore[no-untyped-call]  # torch does not type it

    # ---- the graph ----

    def log_graph(self, module: Module) -> None:
        """Draws ``module`` from its ``example_input_array``, if ``log_graph`` is on.

        The drawing runs ``forward`` in eval mode, in the run's precision; modes and random states are as before afterwards.

        Raises:
            RuntimeError: ``torch.jit.trace``, with which the client draws, cannot follow ``forward``.
        """
        if not self._log_graph or not self._writes:
            return
        example = module.example_input_array
        if example is None:
            name = type(module).__name__
            warn(
                "LYL04", f"log_graph=True draws nothing: {name}.example_input_array is None; set it to an input of {name}.forward"
            )
            return
        precision = self._trainer.precision if self._trainer is not None else Precision()
        try:
            draw(self.experiment, module, precision)
        except Exception as error:
            add_note(error, f"log_graph=True: {type(module).__name__}.forward could not be drawn; log_graph=False trains without")
            raise

    # ---- files ----

    def save(self) -> None:
        """Waits until the client has written what was logged.

        Raises:
            OSError: it could not be written; the message has the path.
        """
        self._write_waiting()
        if self._writer is not None:
            writer = self._opened_writer()
            with refusing(Path(writer.get_logdir())):
                writer.flush()

    def finalize(self, status: str) -> None:
        """Writes what is left and closes; a later run of this logger goes on in a new file of the same directory."""
        try:
            self.save()
        finally:
            writer, self._writer = self._writer, None
            with suppress(OSError):  # save() has raised it
                if writer is not None:
                    writer.close()

    def rewind(self, step: int, position: Mapping[str, Any] | None = None) -> None:
        """Has TensorBoard hide what this directory's events say from ``step`` on."""
        directory = self.run_directory.existing
        if directory is None or not any((directory / (self.sub_dir or "")).glob("events.out.tfevents.*")):
            return
        self.finalize("interrupted")
        self._purge_step = step  # told to the client when it opens its next file


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_option(option: str, value: Any) -> None:
    if option not in WRITER_OPTIONS:
        raise TypeError(_unknown_option(option))
    expected, accepts = WRITER_OPTIONS[option]
    if not accepts(value):
        raise ValueError(f"TensorBoardLogger({option}={quoted(value)}): expected {expected}, got {shown(value)}")


def _unknown_option(option: str) -> str:
    if option == "comment":
        return (
            "logger 'tensorboard' has no option 'comment': the client uses it where it chooses the directory itself; give the "
            "run another name or version, or its file a filename_suffix"
        )
    if option == "log_dir":
        return "logger 'tensorboard' has no option 'log_dir'; events go to <save_dir>/<name>/version_N/<sub_dir>, give these"
    own = [name for name in inspect.signature(TensorBoardLogger).parameters if name != "summary_writer_options"]
    known = [*own, *WRITER_OPTIONS]
    hint = did_you_mean(option, known)
    return f"logger 'tensorboard' has no option {option!r}{hint + ' Its' if hint else '; its'} options: {listed(known)}"
