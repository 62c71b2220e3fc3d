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


pytestmark = pytest.mark.timeout(900)  # three scripts at most, each of which conftest.py gives 280 s


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
    for models in found.values():
        for model in models.values():
            assert model["tested"]["test_accuracy"] > 0.6
            assert model["reloaded"]
            assert model["shape"] == [40, 3]


def intermittent(found):
    for models in found.values():
        for model in models.values():
            assert model["losses"][-1] < model["losses"][0]
            assert model["forecasts"] == 4


def forecasting(found):
    for models in found.values():
        losses = models["transformer"]["losses"]
        assert losses[-1] < losses[0]
        assert models["transformer"]["reloaded"]


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
    "forecasting": ("pytorch_forecasting", forecasting),
    "hyperparameters": ("optuna_integration", hyperparameters),
    "intermittent": ("gluonts", intermittent),
    "metrics": ("torchmetrics", metrics),
    "physics": ("pina", physics),
    "tables": ("pytorch_tabular", tables),
    "tracking": ("mlflow", tracking),
}


def without_draws(found):
    """What does not depend on the numbers that a loader draws.

    leyden seeds them for each epoch and batch (docs/resume.md) and Lightning goes on with the process's generators, so a loader
    that shuffles, or a stream that draws its samples, gives other batches. Three scripts have such data under "drawn": there
    only the initial parameters are compared. Under "fixed" the same models are given the same batches, and all is compared.
    """
    if "drawn" not in found:
        return found
    return {"initial": {name: model["initial"] for name, model in found["drawn"].items()}, "fixed": found["fixed"]}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_works_where_no_lightning_is_installed_and_where_one_is(name, outcome):
    needs, check = CLIENTS[name]
    alone = outcome(name, needs, "port")
    check(alone)
    close(outcome(name, needs, "beside"), alone)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_does_what_it_does_under_lightning_itself(name, outcome):
    needs, _ = CLIENTS[name]
    close(without_draws(outcome(name, needs, "port")), without_draws(outcome(name, needs, "lightning")))
