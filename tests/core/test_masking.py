"""No password, key or token is shown: neither what options, addresses and hyperparameters hold, nor what messages say of them."""

from __future__ import annotations

import warnings
from argparse import Namespace
from dataclasses import dataclass

import pytest
import torch
from leyden import Callback, Module, Trainer
from leyden.masking import is_secret, masked, masked_text
from leyden.messages import add_note, announce, new_run, notify, quoted, shown, warn
from leyden.testing import TinyModule

pytestmark = pytest.mark.usefixtures("core_alone")

SECRET = "hunter2"


@pytest.mark.parametrize(
    "name",
    [
        "key", "api_key", "apikey", "API_KEY", "WANDB_API_KEY", "apiKey", "api-key", "api_key_2", "aws_access_key_id",
        "aws_secret_access_key", "private_key", "AccountKey", "api_keys", "token", "hf_token", "access_token", "X-Auth-Token",
        "auth_tokens", "password", "db_password", "passwd", "PASSPHRASE", "smtp_pass", "pwd", "secret", "client_secret", "auth",
        "http_auth", "Authorization", "Cookie", "credentials", "connection_string", "jwt", "model.data.api_key",
    ],
)  # fmt: skip
def test_names_of_secrets(name):
    assert is_secret(name, SECRET)


@pytest.mark.parametrize(
    "name",
    [
        "monkey", "monitor_key", "text_key", "keys", "keyboard", "sort_key", "key_dim", "hotkey", "tokenizer", "pad_token",
        "eos_token", "mask_token", "special_tokens", "tokens", "token_dim", "author", "authors", "secretary", "passive",
        "compass", "forward_pass", "password_file", "token_path", "secret_name", "url", "name", "", "cross_attention", 3, None,
    ],
)  # fmt: skip
def test_names_of_other_things(name):
    assert not is_secret(name, SECRET)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("use_auth_token", True), ("api_key", None), ("api_key", ""), ("max_tokens", 512), ("pad_token_id", 0),
        ("token", "<mask>"), ("token", "[CLS]"), ("key", len), ("key", 3), ("token", torch.ones(2)),
    ],
)  # fmt: skip
def test_values_that_are_no_secrets(name, value):
    assert not is_secret(name, value)
    assert masked({name: value})[name] is value


def test_a_number_may_be_a_password_and_a_random_text_a_key():
    assert is_secret("password", 1234)
    assert is_secret("some_key", "0123456789abcdef0123456789abcdef")


def test_secrets_are_masked_at_any_depth_and_the_rest_is_as_it_was():
    module = torch.nn.Linear(1, 1)
    options = {"a": [{"api_key": SECRET, "lr": 0.1}], "headers": ({"Authorization": f"Bearer {SECRET}"},), "module": module}
    options["credentials"] = {"user": "bob", "value": SECRET}
    options["itself"] = options
    found = masked(options)
    assert (found["a"], found["headers"]) == ([{"api_key": "***", "lr": 0.1}], ({"Authorization": "***"},))
    assert (found["module"], found["credentials"]) == (module, "***")
    assert options["a"][0]["api_key"] == SECRET


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://bob:hunter2@h.org/x?sig=hunter2", "https://***@h.org/x?***"),
        ("bob:hunter2@h.org/x?sig=hunter2", "***@h.org/x?***"),
        ("bob:hun@hunter2@h.org", "***@h.org"),
        ("https://bob:p/hunter2@h.org:80/x", "https://***@h.org:80/x"),
        ("https://h.org/x#access_token=hunter2", "https://h.org/x#***"),
        ("s3://id:hunter2@bucket/a/b.ckpt", "s3://***@bucket/a/b.ckpt"),
        ("postgresql+psycopg2://u:hunter2@h:5432/db", "postgresql+psycopg2://***@h:5432/db"),
        ("https://hooks.slack.com/services/T0/hunter2", "https://hooks.slack.com/***"),
        ("https://discord.com/api/webhooks/1/hunter2", "https://discord.com/***"),
        ("https://api.telegram.org/bot1:hunter2/sendMessage", "https://api.telegram.org/***"),
        ("no server at 'https://u:hunter2@h.org/x?y=hunter2': refused", "no server at 'https://***@h.org/x?***': refused"),
        ("see (https://h.org/a?b=hunter2).", "see (https://h.org/a?***)."),
        ("Options(api_key='hunter2', lr=0.1, pad_token='[PAD]')", "Options(api_key='***', lr=0.1, pad_token='[PAD]')"),
        ("{'password': 'hun\\'ter2', 'lr': 1}", "{'password': '***', 'lr': 1}"),
        ("run --api-key=hunter2 --lr=1", "run --api-key=*** --lr=1"),
        ("Server=h;AccountKey=hunter2==;Port=1", "Server=h;AccountKey=***;Port=1"),
        ("Authorization: Bearer hunter2", "Authorization: ***"),
        ("'Bearer hunter2hunter2' was refused", "'Bearer ***' was refused"),
        ("incorrect: sk-hunter2hunter2hunter2", "incorrect: ***"),
    ],
)
def test_secrets_in_a_text(text, expected):
    assert masked_text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "runs/version_0", "https://example.org:8080/docs/a.html", "file:///tmp/x.db", "sqlite:////tmp/mlflow.db",
        "key='val_loss'", "pass ckpt_path=... or token=None", "did you mean 'gpu'? Installed: 'cpu'", "cuda:0",
        "strategy='ddp@acme-leyden'",
        "KeyError: 'loss'", "a basic training loop", "C:\\runs\\a", "token_type_ids: 3", "use_auth_token=True", "x?y#z",
    ],
)  # fmt: skip
def test_other_texts_stay_as_they_are(text):
    assert masked_text(text) == text


@dataclass
class Account:
    user: str
    password: str


@pytest.mark.parametrize(
    "value",
    [
        {"comet": {"api_key": SECRET}}, [{"a": ({"token": SECRET},)}], f"https://bob:{SECRET}@h/x?sig={SECRET}",
        Account("bob", SECRET), Namespace(api_key=SECRET), {"url": f"https://h.org/{SECRET}"},
        {"accounts": [Account("b", SECRET)]},
    ],
)  # fmt: skip
def test_what_messages_show_of_a_value_has_no_secret(value):
    assert SECRET not in quoted(value)
    assert SECRET not in shown(value)


@pytest.mark.parametrize(
    "option",
    [
        {"api_key": SECRET}, {"url": f"https://bob:{SECRET}@h/x?sig={SECRET}"},
        {"headers": {"Authorization": f"Bearer {SECRET}"}}, {"url": f"https://h.org/{SECRET}"},
        {"nested": [{"deeper": {"password": SECRET}}]},
    ],
)  # fmt: skip
def test_explain_shows_options_without_secrets(option, distribution):
    distribution(
        "acme-logger", {"leyden.loggers": {"acme": "acme_logger:Acme"}},
        "import leyden\nclass Acme(leyden.Logger):\n    def __init__(self, lr=0, **options):\n        pass\n",
    )  # fmt: skip
    text = Trainer(logger={"acme": {"lr": 0.25, **option}}).explain()
    assert SECRET not in text
    assert "logger={'acme': {'lr': 0.25, '" in text


@pytest.mark.parametrize(
    "arguments",
    [
        {"logger": {"name": "webhook", "url": f"https://bob:{SECRET}@h/x?sig={SECRET}"}},
        {"logger": {"comet": f"https://{SECRET}@h"}},
        {"logger": 3, "default_root_dir": {"password": SECRET}},
        {"callbacks": [{"a": {"api_key": SECRET}, "b": {}}]},
        {"strategy": {"ddp": [f"https://{SECRET}@h"]}},
        {"barebones": True, "logger": {"comet": {"api_key": SECRET}}},
        {"compile": {"api_key": SECRET}},
        {"max_time": f"https://bob:{SECRET}@h"},
        {"plugins": [f"https://{SECRET}@h"]},
    ],
)
def test_errors_of_the_trainer_have_no_secret(arguments):
    with pytest.raises((TypeError, ValueError, LookupError)) as error:
        Trainer(**arguments)
    assert SECRET not in str(error.value)


def test_an_address_of_a_checkpoint_is_shown_without_its_secrets(server, monkeypatch):
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    with pytest.raises(FileNotFoundError) as error:
        Trainer(max_epochs=1).fit(TinyModule(), ckpt_path=f"{server}/absent.ckpt?sig={SECRET}")
    assert SECRET not in str(error.value)
    assert "absent.ckpt?***" in str(error.value)


def test_what_is_said_unasked_has_no_secret(capsys):
    new_run(0)
    text = f"nobody is at https://bob:{SECRET}@h/x?sig={SECRET}"
    notify("LY019", text)
    announce(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn("LY003", text)
    error = ValueError()
    add_note(error, text)
    said = capsys.readouterr().err.splitlines()
    assert said == ["leyden: nobody is at https://***@h/x?*** [LY019]", "leyden: nobody is at https://***@h/x?***"]
    assert [str(caught[0].message), *error.__notes__] == ["nobody is at https://***@h/x?***"] * 2


def test_what_a_callback_that_is_left_out_says_is_shown_without_secrets(capsys):
    class Fails(Callback):
        def on_train_batch_end(self):
            raise ConnectionError(f"https://bob:{SECRET}@h refused")

    trainer = Trainer(max_epochs=1, callbacks=[Fails()], on_plugin_error="quarantine")
    trainer.fit(TinyModule())
    assert SECRET not in capsys.readouterr().err
    assert "https://***@h refused" in trainer.quarantine.failures[0].error


def test_hyperparameters_are_whole_in_a_checkpoint(tmp_path):
    class Remote(TinyModule):
        def __init__(self, api_key):
            super().__init__()
            self.save_hyperparameters()

    trainer = Trainer(max_epochs=1)
    trainer.fit(Remote(SECRET))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert Remote.load_from_checkpoint(tmp_path / "a.ckpt").hparams.api_key == SECRET


def test_a_module_that_is_no_module_is_shown_without_secrets():
    with pytest.raises(TypeError) as error:
        Trainer().fit(Account("bob", SECRET))
    assert SECRET not in str(error.value)
    assert issubclass(TinyModule, Module)
