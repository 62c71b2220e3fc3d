"""Posts the numbers of a run to an address on the web: a chat, or a server of one's own."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from argparse import Namespace
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from leyden.intervals import seconds
from leyden.masking import masked_text
from leyden.messages import quoted, shown

from leyden_loggers.address import OPENER, check_headers, read_address
from leyden_loggers.hparams_file import readable
from leyden_loggers.json_lines_file import json_number
from leyden_loggers.patterns import Patterns
from leyden_loggers.records import Record, RecordLogger

_LONGEST = 24 * 60 * 60


class WebhookLogger(RecordLogger):
    """``"webhook"``: a POST with JSON when a run starts, at most every ``interval``, and when it ends, however it does.

    The body is ``{"run": name, "status": "started", "hyperparameters": {...}, "records": []}``, then with status ``"running"``
    and the records since the last, such as ``{"step": 49, "epoch": 0, "val_loss": 0.69, "time": 1767225600.0}``, and last with
    ``"success"``, ``"failed"`` or ``"interrupted"``. With ``text_key`` it is one text instead, as chats want it.

    Training waits for the answer, up to ``timeout`` seconds. A server that does not answer is an error before the first
    step, and what ``on_plugin_error`` says after it.

    Args:
        url: where to, ``http`` or ``https``; a name and a password in it are sent as HTTP's basic authorization. Messages show
            its host alone, for the rest often is a secret. A redirect is an error, for what was posted would not come with it.
        name: what the run is called there.
        keys: patterns such as ``"val/*"`` of the keys to post, in place of all; records without any are left out.
        text_key: the key of a text: ``"text"`` for Slack, Mattermost and Teams, ``"content"`` for Discord.
        interval: the time between two posts while the run goes on, such as ``"5 min"``.
        headers: headers of the request, such as ``{"Authorization": "Bearer ..."}``.
        timeout: seconds to wait for the server.
        prefix: put before each key.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: the address is none of ``http`` or ``https``, a header cannot be sent, or a time is none above 0.
    """

    def __init__(
        self,
        url: str,
        name: str | None = None,
        keys: Sequence[str] | None = None,
        text_key: str | None = None,
        interval: Any = "30 s",
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        prefix: str = "",
    ) -> None:
        super().__init__(prefix)
        owner = type(self).__name__
        self._url, self.host, authorization = read_address(url, f"{owner}(url=...)")
        for argument, value in (("name", name), ("text_key", text_key)):
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{owner}({argument}={quoted(value)}): expected a str or None, got {shown(value)}")
        check_headers(headers, f"{owner}(headers=...)")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= _LONGEST:
            raise ValueError(
                f"{owner}(timeout={quoted(timeout)}): expected a number of seconds above 0 and up to a day, got {shown(timeout)}"
            )
        self._patterns = Patterns(owner, keys)
        self._name = name
        self._text_key = text_key
        self._interval = seconds(interval, f"{owner}(interval={quoted(interval)})")
        self._headers = {"Content-Type": "application/json", **authorization, **(headers or {})}
        self._timeout = timeout
        self._hyperparameters: dict[str, Any] = {}
        self._began = False

    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, metrics: Mapping[str, float] | None = None) -> None:
        """Keeps the hyperparameters for what is posted when training starts."""
        found = readable(params)
        self._hyperparameters = json.loads(json.dumps(found), parse_constant=str)  # "NaN" in place of what JSON does not have

    def _open(self) -> None:
        self._last_write = time.monotonic()
        self._post("started", [], {"hyperparameters": self._hyperparameters} if self._hyperparameters else {})
        self._began = True

    def _due(self) -> bool:
        return time.monotonic() - self._last_write >= self._interval

    def _write(self, records: Sequence[Record]) -> None:
        wanted = [found for record in records if (found := self._plain(record))]
        if wanted:
            self._post("running", wanted, {})

    def finalize(self, status: str) -> None:
        """Posts what waits, and how the run ended; nothing if nothing was posted before."""
        super().finalize(status)
        if self._began:
            self._began = False
            self._post(status, [], {})

    def _plain(self, record: Record) -> dict[str, Any] | None:
        values = {key: json_number(value) for key, value in record.values.items() if key == "epoch" or self._patterns.match(key)}
        return {"step": record.step, **values, "time": record.time} if values.keys() - {"epoch"} else None

    def _post(self, status: str, records: list[dict[str, Any]], more: dict[str, Any]) -> None:
        run = {} if self._name is None else {"run": self._name}
        body: dict[str, Any] = {**run, "status": status, **more, "records": records}
        if self._text_key is not None:
            body = {self._text_key: _text(body)}
        request = urllib.request.Request(self._url, json.dumps(body, allow_nan=False).encode(), self._headers)
        try:
            OPENER.open(request, timeout=self._timeout).close()
        except urllib.error.HTTPError as error:
            error.close()
            elsewhere = urlsplit(error.headers.get("Location", "")).hostname if error.code in range(300, 400) else None
            moved = f"; it has moved, perhaps to {elsewhere}: give its new address" if elsewhere else ""
            raise ConnectionError(f"logger 'webhook': {self.host} answered {error.code} {error.reason}{moved}") from None
        except (OSError, HTTPException) as error:
            reason = masked_text(str(getattr(error, "reason", error))) or type(error).__name__
            raise ConnectionError(f"logger 'webhook': {self.host}: {reason}") from None


def _text(body: Mapping[str, Any]) -> str:
    """What is posted, for people to read: a line for each record, or one for another status."""
    run = [str(body["run"])] if "run" in body else []
    if body["records"]:
        return "\n".join("  ".join([*run, *_pairs(record)]) for record in body["records"])
    words = {"started": "training starts", "success": "the run is done", "failed": "the run failed"}
    hyperparameters = [f"{key} {value}" for key, value in body.get("hyperparameters", {}).items()]
    return "  ".join([*run, words.get(body["status"], f"the run was {body['status']}"), *hyperparameters])


def _pairs(record: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in record.items() if key != "time"
    ]
