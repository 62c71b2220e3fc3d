"""No logger writes a hyperparameter or shows an option that is a secret."""

from __future__ import annotations

import socket
from argparse import Namespace
from pathlib import Path

import pytest
from leyden import Trainer
from leyden.testing import TinyModule
from leyden_loggers import WebhookLogger
from leyden_loggers.hparams_file import to_yaml

SECRET = "hunter2"
QUIET = {
    "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
    "max_epochs": 1,
}  # fmt: skip


class Remote(TinyModule):
    def __init__(self, api_key, options, url):
        super().__init__()
        self.save_hyperparameters()


def remote():
    return Remote(SECRET, {"lr": 0.25, "auth": ("bob", SECRET), "more": Namespace(token=SECRET)}, f"https://bob:{SECRET}@h/x")


@pytest.mark.parametrize("name", ["csv", "jsonl", "tensorboard"])
def test_no_file_of_a_run_has_a_secret_of_the_hyperparameters(name):
    module = remote()
    Trainer(logger=name, **QUIET).fit(module)
    files = [path for path in Path("leyden_logs").rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    [written] = [path.read_text() for path in files if path.name == "hparams.yaml"]
    assert {'api_key: "***"', "  lr: 0.25", 'url: "https://***@h/***"'} <= set(written.splitlines())
    assert module.hparams.api_key == SECRET


def test_the_console_prints_no_secret_of_the_hyperparameters(capsys):
    Trainer(logger="console", **QUIET).fit(remote())
    said = capsys.readouterr().out
    assert "api_key ***  options/lr 0.25" in said
    assert SECRET not in said


def test_yaml_is_without_secrets():
    assert to_yaml({"password": 1234, "accounts": [{"token": "a"}], "pad_token": "<pad>"}) == (
        'password: "***"\naccounts:\n  - token: "***"\npad_token: "<pad>"\n'
    )


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("bob:hunter2@h/x?sig=hunter2", "one without 'https://' in front"),
        ("https://bob:hun/hunter2@h/x", "one without a host, or whose port is no number"),
        ("https://", "one without a host, or whose port is no number"),
        ("https://[hunter2", "one without a host, or whose port is no number"),
        ("https://h/hunter2 ", "one with characters that no address has; write them as in '%20'"),
        ("https://h/hunter2\n", "one with characters that no address has; write them as in '%20'"),
    ],
)
def test_an_address_that_is_none_is_refused_without_showing_it(url, problem):
    with pytest.raises(ValueError, match=r"\AWebhookLogger\(url=\.\.\.\): expected an address") as error:
        Trainer(logger={"webhook": {"url": url}})
    assert str(error.value).endswith(f", got {problem}")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Authorization": f"Bearer {SECRET}\n"}, "the value of 'Authorization' has a line break or another character that no "
         "header has"),
        ({"X Token": SECRET}, "'X Token' is no name of a header"),
        ({"Authorization": "Bearer \u2026"}, "the value of 'Authorization' has a line break or another character that no header "
         "has"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_sent_is_refused_without_showing_it(headers, message):
    with pytest.raises(ValueError) as error:
        WebhookLogger("https://example.org", headers=headers)
    assert str(error.value) == f"WebhookLogger(headers=...): {message}"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"csv": {"save_dir": f"s3://id:{SECRET}@bucket"}},
         "CSVLogger(save_dir='s3://***@bucket'): expected a directory on a local file system, got a URL"),
        ({"webhook": {"url": f"https://h/{SECRET}", "name": {"token": SECRET}}},
         "WebhookLogger(name={'token': '***'}): expected a str or None, got dict {'token': '***'}"),
    ],
)  # fmt: skip
def test_wrong_options_are_shown_without_secrets(choice, message):
    with pytest.raises((TypeError, ValueError)) as error:
        Trainer(logger=choice)
    assert str(error.value) == message


def test_a_server_of_mlflow_that_is_not_there_is_named_without_its_password(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    uri = f"http://bob:{SECRET}@127.0.0.1:{port}"
    with pytest.raises(ConnectionError) as error:
        Trainer(logger={"mlflow": {"tracking_uri": uri}}, default_root_dir=tmp_path, **QUIET).fit(TinyModule())
    assert f"no server answers at 'http://***@127.0.0.1:{port}': " in str(error.value)
    assert SECRET not in str(error.value)
