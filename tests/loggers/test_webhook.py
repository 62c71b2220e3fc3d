"""Records posted to a real server."""

from __future__ import annotations

import http.server
import json
import socket
import threading

import pytest
from leyden import Trainer
from leyden.testing import LoggerContract, TinyModule
from leyden_loggers import WebhookLogger

QUIET = {
    "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
    "log_every_n_steps": 2, "max_epochs": 1,
}  # fmt: skip


@pytest.fixture
def server(monkeypatch):
    """A server that keeps the bodies it is sent, and answers ``server.status``."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Keeps(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.bodies.append(json.loads(body))
            self.server.headers.append(dict(self.headers))
            self.send_response(self.server.status)
            if self.server.location:
                self.send_header("Location", self.server.location)
            self.end_headers()

        def log_message(self, *args):
            pass

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keeps)
    served.bodies, served.headers, served.status, served.location = [], [], 200, None
    served.url = f"http://127.0.0.1:{served.server_address[1]}/secret"
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def test_a_run_says_how_it_starts_what_it_logs_and_how_it_ends(server):
    logger = {"webhook": {"url": server.url, "name": "tiny", "headers": {"X-Token": "abc"}}}
    history = Trainer(logger=logger, **QUIET).fit(TinyModule(lr=0.25))
    started, records, ended = server.bodies
    assert started == {"run": "tiny", "status": "started", "hyperparameters": {"lr": 0.25}, "records": []}
    assert (records["run"], records["status"]) == ("tiny", "running")
    assert [record["step"] for record in records["records"]] == [1, 3, 3]
    assert [record["train_loss"] for record in records["records"][:2]] == history["train_loss"]
    assert records["records"][2]["val_loss"] == history["val_loss"][0]
    assert ended == {"run": "tiny", "status": "success", "records": []}
    assert {headers["X-Token"] for headers in server.headers} == {"abc"}


def test_one_post_an_epoch_unless_the_interval_is_over(server):
    Trainer(logger=WebhookLogger(server.url), **{**QUIET, "max_epochs": 3}).fit(TinyModule())
    steps = [[record["step"] for record in body["records"]] for body in server.bodies]
    assert steps == [[], [1, 3, 3], [5, 7, 7], [9, 11, 11], []]
    server.bodies.clear()
    Trainer(logger=WebhookLogger(server.url, interval={"microseconds": 1}), **QUIET).fit(TinyModule())
    assert [[record["step"] for record in body["records"]] for body in server.bodies] == [[], [1], [3], [3], []]


def test_a_chat_gets_a_text_of_chosen_keys(server):
    logger = WebhookLogger(server.url, "tiny", keys=["val_l*"], text_key="content")
    history = Trainer(logger=logger, **QUIET).fit(TinyModule(lr=0.25))
    assert server.bodies == [
        {"content": "tiny  training starts  lr 0.25"},
        {"content": f"tiny  step 3  val_loss {history['val_loss'][0]:.4g}  epoch 0"},
        {"content": "tiny  the run is done"},
    ]


def test_hyperparameters_that_json_does_not_have(server):
    class Sized(TinyModule):
        def __init__(self, sizes):
            super().__init__()
            self.save_hyperparameters()

    Trainer(logger=WebhookLogger(server.url), **QUIET).fit(Sized({"largest": float("inf"), "all": [1, float("nan")]}))
    assert server.bodies[0]["hyperparameters"]["sizes"] == {"largest": "Infinity", "all": [1, "NaN"]}


@pytest.mark.parametrize(("error", "text"), [(KeyError, "the run failed"), (KeyboardInterrupt, "the run was interrupted")])
def test_a_run_that_ends_otherwise_says_so(server, error, text):
    class Fails(TinyModule):
        def on_train_epoch_end(self):
            raise error

    with pytest.raises(error):
        Trainer(logger=WebhookLogger(server.url, text_key="text"), **QUIET).fit(Fails())
    assert server.bodies[-1] == {"text": text}
    assert "train_loss" in server.bodies[-2]["text"]


def test_a_server_that_refuses_is_an_error_before_the_first_step(server):
    server.status = 403
    module = TinyModule()
    with pytest.raises(ConnectionError) as error:
        Trainer(logger=WebhookLogger(server.url), **QUIET).fit(module)
    assert str(error.value) == "logger 'webhook': 127.0.0.1 answered 403 Forbidden"
    assert module.trainer.global_step == 0


def test_a_server_that_is_not_there_is_named_without_its_secret(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match=r"^logger 'webhook': 127\.0\.0\.1: ") as error:
        Trainer(logger=WebhookLogger(server.url), **QUIET).fit(TinyModule())
    assert "secret" not in str(error.value)


def test_a_server_that_fails_later_does_not_end_the_run(server, capsys):
    class Breaks(TinyModule):
        def on_train_epoch_start(self):
            server.status = 500

    trainer = Trainer(logger=WebhookLogger(server.url), **{**QUIET, "max_epochs": 3})
    trainer.fit(Breaks())
    assert trainer.global_step == 12
    assert "127.0.0.1 answered 500 Internal Server Error" in capsys.readouterr().err


def test_a_name_and_a_password_in_the_address_are_sent_as_basic_authorization(server):
    address = server.url.replace("http://", "http://bob:p%40ss@")
    Trainer(logger=WebhookLogger(address), **QUIET).fit(TinyModule())
    assert {headers["Authorization"] for headers in server.headers} == {"Basic Ym9iOnBAc3M="}
    server.headers.clear()
    Trainer(logger=WebhookLogger(address, headers={"Authorization": "Bearer abc"}), **QUIET).fit(TinyModule())
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer abc"}


def test_a_server_that_has_moved_is_an_error_and_is_not_followed(server):
    server.status, server.location = 301, "https://bob:hunter2@example.org/hook?sig=hunter2"
    with pytest.raises(ConnectionError) as error:
        Trainer(logger=WebhookLogger(server.url), **QUIET).fit(TinyModule())
    assert str(error.value) == (
        "logger 'webhook': 127.0.0.1 answered 301 Moved Permanently; it has moved, perhaps to example.org: give its new address"
    )
    assert len(server.bodies) == 1


def test_a_server_that_speaks_no_http_is_an_error_of_the_connection(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"hunter2\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ConnectionError, match=r"\Alogger 'webhook': 127\.0\.0\.1: "):
            Trainer(logger=WebhookLogger(f"http://127.0.0.1:{listening.getsockname()[1]}/"), **QUIET).fit(TinyModule())
        thread.join()


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"url": "ftp://secret@example.org"}, ValueError,
         "WebhookLogger(url=...): expected an address such as 'https://example.org/hook', got one of ftp://"),
        ({"url": None}, ValueError,
         "WebhookLogger(url=...): expected an address such as 'https://example.org/hook', got NoneType None"),
        ({"name": 3}, TypeError, "WebhookLogger(name=3): expected a str or None, got int 3"),
        ({"text_key": 3}, TypeError, "WebhookLogger(text_key=3): expected a str or None, got int 3"),
        ({"keys": "val/*"}, TypeError,
         "WebhookLogger(keys='val/*'): expected a list of patterns such as ['val/*'], got str 'val/*'"),
        ({"interval": "3 steps"}, ValueError,
         "WebhookLogger(interval='3 steps'): it cannot be given in steps, only in 'second'"),
        ({"headers": {"a": 1}}, TypeError, "WebhookLogger(headers=...): expected a dict of str"),
        ({"timeout": 0}, ValueError,
         "WebhookLogger(timeout=0): expected a number of seconds above 0 and up to a day, got int 0"),
        ({"timeout": float("inf")}, ValueError,
         "WebhookLogger(timeout=inf): expected a number of seconds above 0 and up to a day, got float inf"),
        ({"keys": 3}, TypeError, "WebhookLogger(keys=3): expected a list of patterns such as ['val/*'], got int 3"),
        ({"headers": [("a", "b")]}, TypeError, "WebhookLogger(headers=...): expected a dict of str"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(options, kind, message):
    with pytest.raises(kind) as error:
        Trainer(logger={"webhook": {"url": "https://example.org", **options}}, **QUIET)
    assert str(error.value) == message


class TestWebhook(LoggerContract):
    @pytest.fixture(autouse=True)
    def _served(self, server):
        self.server = server

    def logger(self, root):
        return WebhookLogger(self.server.url)

    def written(self, logger):
        series = {}
        for body in self.server.bodies:
            for record in body["records"]:
                step = record.pop("step")
                for key, value in record.items():
                    series.setdefault(key, []).append((step, float(value)))
        return series
