"""Hyperparameters as YAML."""

from __future__ import annotations

import functools
import json
from argparse import Namespace
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from leyden_loggers.hparams_file import to_yaml


class Colour(Enum):
    RED = 1


class Level(int, Enum):
    HIGH = 3


def test_nested_values_are_written_in_block_style_in_their_order():
    params = {
        "lr": 0.1,
        "model": {"depth": 2, "sizes": (8, 16), "empty": {}, "none": None},
        "stages": [{"name": "a", "steps": [1, 2]}, [], [[1], 2]],
        "empty": [],
    }
    assert to_yaml(params) == (
        "lr: 0.1\n"
        "model:\n"
        "  depth: 2\n"
        "  sizes:\n"
        "    - 8\n"
        "    - 16\n"
        "  empty: {}\n"
        "  none: null\n"
        "stages:\n"
        "  - name: a\n"
        "    steps:\n"
        "      - 1\n"
        "      - 2\n"
        "  - []\n"
        "  - - - 1\n"
        "    - 2\n"
        "empty: []\n"
    )


def test_no_hyperparameters_are_an_empty_mapping():
    assert to_yaml({}) == "{}\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (-3, "-3"),
        (0.1, "0.1"),
        (1e-05, "1.0e-05"),
        (1.5e300, "1.5e+300"),
        (float("nan"), ".nan"),
        (float("-inf"), "-.inf"),
        (np.float32(0.5), "0.5"),
        (np.int64(7), "7"),
        (torch.tensor(2), "2"),
        (torch.tensor([0.5]), "0.5"),
        (torch.zeros(2, 3), '"Tensor of shape (2, 3)"'),
        (Colour.RED, "RED"),
        (Level.HIGH, "HIGH"),
        (Path("a/b"), "a/b"),
        (torch.float16, "torch.float16"),
        (torch.nn.ReLU, "torch.nn.modules.activation.ReLU"),
        (functools.reduce, "_functools.reduce"),
        (torch.nn.Linear(2, 1), '"Linear(in_features=2, out_features=1, bias=True)"'),
        (object(), "builtins.object"),
        (Namespace(lr=1), "\n  lr: 1"),
        ({"b", "a"}, "\n  - a\n  - b"),
    ],
)
def test_values_of_other_types_are_described(value, text):
    expected = f"x:{text}\n" if text.startswith("\n") else f"x: {text}\n"
    assert to_yaml({"x": value}) == expected


class Breaks:
    def __repr__(self):
        raise ValueError("no")


def test_a_value_that_cannot_be_described_does_not_end_a_run():
    itself = {"lr": 0.1}
    itself["itself"] = itself
    assert to_yaml({"x": Breaks()}) == f"x: {Breaks.__module__}.Breaks\n"
    assert to_yaml({"x": torch.empty(1, device="meta")}) == 'x: "Tensor of shape (1,)"\n'
    assert to_yaml(itself) == 'lr: 0.1\nitself: "..."\n'


@pytest.mark.parametrize("text", ["adam", "a/b.ckpt", "bf16-mixed", "train_x"])
def test_words_are_written_plain(text):
    assert to_yaml({"x": text}) == f"x: {text}\n"


@pytest.mark.parametrize(
    "text",
    ["", " a", "yes", "No", "null", "true", "1", "1e-3", "0x1", "2026-01-01", "a: b", "- a", "#a", "{a}", "[a]", "*a",
     "!!python/x", "~"],
)  # fmt: skip
def test_text_that_yaml_would_read_as_something_else_is_quoted(text):
    assert to_yaml({"x": text}) == f"x: {json.dumps(text)}\n"
    assert to_yaml({text: 1}) == f"{json.dumps(text)}: 1\n"


def test_characters_that_break_lines_are_escaped():
    assert to_yaml({"x": 'a\n"\\\té\u2028\x00🙂'}) == 'x: "a\\x0a\\"\\\\\\x09é\\u2028\\x00🙂"\n'


def test_yaml_readers_get_the_values_back():
    yaml = pytest.importorskip("yaml")
    params = {"lr": 1e-05, "word": "yes", "text": 'a\n"\\\té\u2028\x00🙂: -', "tree": {"list": [1, [2.5, None], {"k": True}]}}
    assert yaml.safe_load(to_yaml(params)) == params
