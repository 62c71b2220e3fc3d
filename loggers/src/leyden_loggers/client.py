"""What loggers have in common that hand the numbers of a run to another library's client."""

from __future__ import annotations

import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from leyden.masking import masked_text
from leyden.messages import did_you_mean, listed, quoted, shown

from leyden_loggers.records import NoExperiment, RecordLogger
from leyden_loggers.run_directory import refusing

_PATIENCE = 10  # seconds


class ClientLogger(RecordLogger):
    """Opens a run of a client on first use, and again where a run that was ended is logged to.

    Args:
        project: what the client calls a project or an experiment, which runs belong to.
        save_dir: where what belongs on this machine goes; the Trainer's ``default_root_dir`` if None.
        name: the run's name; the client chooses one if None.
        version: the id of a run, which is continued if there is one.
        prefix: put before each key, as in ``prefix-loss``.
        options: what the client itself takes.

    Raises:
        ModuleNotFoundError: the client is not installed.
        TypeError: an argument has a wrong type, or there is no such option.
    """

    registered: ClassVar[str]
    """The logger's name, which its extra has too."""

    modules: ClassVar[tuple[str, ...]]
    """What the extra installs and the logger imports."""

    client_options: ClassVar[tuple[str, ...]]
    """The options that the client takes; kept here because asking it would import it."""

    def __init__(
        self,
        project: str,
        save_dir: str | os.PathLike[str] | None,
        name: str | None,
        version: str | None,
        prefix: str,
        options: Mapping[str, Any],
        own: Sequence[str],
    ) -> None:
        super().__init__(prefix)
        who = type(self).__name__
        if save_dir is not None and not isinstance(save_dir, str | os.PathLike):
            raise TypeError(f"{who}(save_dir={quoted(save_dir)}): expected a path or None, got {shown(save_dir)}")
        if not isinstance(project, str) or not project:
            raise TypeError(f"{who}({own[0]}={quoted(project)}): expected a str that is not empty, got {shown(project)}")
        for argument, value in (("name", name), ("version", version)):
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{who}({argument}={quoted(value)}): expected a str or None, got {shown(value)}")
        for option in options:
            if option not in self.client_options:
                known = [*own, *self.client_options]
                hint = did_you_mean(option, known)
                raise TypeError(
                    f"logger {self.registered!r} has no option {option!r}{hint + ' Its' if hint else '; its'} options: "
                    f"{listed(known)}"
                )
        for module in self.modules:
            if find_spec(module) is None:
                raise ModuleNotFoundError(
                    f"logger {self.registered!r} needs {module}, which is not installed; run: "
                    f"pip install \"leyden-loggers[{self.registered}]\", or choose logger='jsonl'",
                    name=module,
                )
        self._project = project
        self._save_dir = save_dir
        self._name = name
        self._options = dict(options)

    @property
    def name(self) -> str:  # type: ignore[override]  # users know a logger's name as the run's, not the plug-in's
        """The run's name, or its project's if it was given none."""
        return self._name or self._project

    @property
    def save_dir(self) -> str:
        """Where files of this machine go: what was given, else the Trainer's ``default_root_dir``, else the working directory."""
        if self._save_dir is not None:
            return str(Path(self._save_dir).expanduser())
        return self._trainer.default_root_dir if self._trainer is not None else "."

    @property
    def experiment(self) -> Any:
        """The client's own object, opened on first use; on ranks other than 0 an object that ignores every call."""
        if not self._writes:
            return NoExperiment()
        self._write_waiting()
        return self._opened()

    def _opened(self) -> Any:
        """The client's object, opened now if it is not open.

        Raises:
            OSError: it cannot be; the message says why and what to do.
        """
        raise NotImplementedError

    def _open(self) -> None:
        self._opened()

    def _writable_save_dir(self) -> str:
        """Makes :attr:`save_dir`; clients go elsewhere in silence where they cannot write, or fail at the end."""
        place = Path(self.save_dir)
        with refusing(place):
            place.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
        return str(place)

    def _knock(self, uri: str, way_out: str) -> None:
        """Asks whether anybody is there: clients themselves try again for minutes, or go on without a server.

        Raises:
            ConnectionError: nobody answers.
        """
        try:
            parts = urlsplit(uri)
            bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))  # urllib takes a password for a port
            urllib.request.urlopen(bare, timeout=_PATIENCE).close()
        except urllib.error.HTTPError:
            return  # somebody is, whatever he says
        except HTTPException:
            return  # the same, in a way of his own
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            if "CERTIFICATE" not in str(reason):  # of certificates the client has its own opinion
                raise self._refused(ConnectionError(f"no server answers at {quoted(uri)}: {reason}"), way_out) from error

    def _refused(self, error: Exception, way_out: str) -> ConnectionError:
        reason = masked_text(str(error))
        return ConnectionError(f"logger {self.registered!r} cannot open a run: {reason}; {way_out}, or choose logger='jsonl'")
