"""Packages from the registry that are written for Lightning do under the port what they do under Lightning."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("clients_conftest", Path(__file__).with_name("conftest.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
_CONFTEST = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CONFTEST)
close = _CONFTEST.close


def falls(found):
    assert found["after"] < found["before"]


def chemistry(found):
    falls(found)
    assert found["reloaded"]
    assert found["shape"] == [6, 1]


def physics(found):
    assert found["after"] < 0.2 * found["before"]
    assert found["reloaded"]
    assert found["shape"] == [20, 1]


def tables(found):
    for model in found.values():
        assert model["tested"]["test_accuracy"] > 0.6
        assert model["reloaded"]
        assert model["shape"] == [40, 3]


def intermittent(found):
    for model in found.values():
        assert model["losses"][-1] < model["losses"][0]
        assert model["forecasts"] == 4


def hyperparameters(found):
    assert found["states"] == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]


def tracking(found):
    assert found["history"][3] < found["history"][0]
    assert found["same"]


def metrics(found):
    assert found["tested"]["val/BinaryAccuracy"] > 0.9
    assert found["reloaded"]


CLIENTS = {
    "chemistry": ("chemprop", chemistry),
    "hyperparameters": ("optuna_integration", hyperparameters),
    "intermittent": ("gluonts", intermittent),
    "metrics": ("torchmetrics", metrics),
    "physics": ("pina", physics),
    "tables": ("pytorch_tabular", tables),
    "tracking": ("mlflow", tracking),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_works_where_no_lightning_is_installed_and_where_one_is(name, outcome):
    needs, check = CLIENTS[name]
    alone = outcome(name, needs, "port")
    check(alone)
    close(outcome(name, needs, "beside"), alone)


# The others draw the order of their samples, or the samples themselves, from generators that leyden keeps apart from those of
# the model, so that a run can be resumed in the middle of an epoch.
@pytest.mark.parametrize("name", ["chemistry", "hyperparameters", "metrics", "physics", "tracking"])
def test_a_client_does_what_it_does_under_lightning_itself(name, outcome):
    needs, _ = CLIENTS[name]
    close(outcome(name, needs, "port"), outcome(name, needs, "lightning"))
