"""Trainer(compile=...): compiled steps are one graph, log what eager ones log, and leave no trace in the module."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import leyden
import pytest
import torch
from leyden.testing import RandomData, TinyModule
from torch import Tensor
from torch._dynamo.utils import counters
from torch.nn import functional as F
from torch.utils.data import DataLoader

# torch adds one now and then.
OPTIONS = ", ".join(repr(name) for name in inspect.signature(torch.compile).parameters if name not in ("model", "disable"))
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing is compiled yet."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    counters.clear()


class Recording(leyden.Logger):
    name = "recording"

    def __init__(self) -> None:
        self.records: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: Any, step: int) -> None:
        self.records.append((step, dict(metrics)))


def fit(cls: type[TinyModule], compile: Any, **options: Any) -> tuple[TinyModule, list[tuple[int, dict[str, float]]]]:
    """Trains a new module of ``cls``; returns it, and what the logger got."""
    torch.manual_seed(0)
    module, logger = cls(), Recording()
    given = {**QUIET, "accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1, "logger": logger, **options}
    trainer = leyden.Trainer(compile=compile, **given)
    trainer.fit(module, DataLoader(RandomData(32), batch_size=4), DataLoader(RandomData(8), batch_size=4))
    return module, logger.records


def same(one: TinyModule, other: TinyModule) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


class Logging(TinyModule):
    """Logs in every way, and changes what it logged."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("loss", loss, prog_bar=True, on_epoch=True)
        self.log("half", loss / 2, on_step=False, on_epoch=True, reduce_fx=torch.max)
        self.log_dict({"constant": 3.0, "batch": len(x)})
        changed = loss.detach() * 1
        self.log("before", changed)
        changed *= 0
        return loss


class Bare(TinyModule):
    """The same module without a framework: no log."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)


class Breaking(TinyModule):
    """Has a graph break of its own, and logs on both sides of it."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        with torch.no_grad():
            self.log("mean", x.mean())
        torch._dynamo.graph_break()
        loss = F.cross_entropy(self(x), y)
        self.log("loss", loss)
        return loss


class BareBreaking(TinyModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        with torch.no_grad():
            self.mean = x.mean()
        torch._dynamo.graph_break()
        return F.cross_entropy(self(x), y)


def counts() -> dict[str, int]:
    """Graph breaks, and graphs: one more of these for each recompilation."""
    return {"breaks": sum(counters["graph_break"].values()), "graphs": counters["stats"]["unique_graphs"]}


def bare_loop(module: TinyModule, backend: str) -> dict[str, int]:
    """What compiling the training step of ``module`` by hand costs over two epochs with a short last batch."""
    torch._dynamo.reset()
    counters.clear()
    step = torch.compile(module.training_step, backend=backend)
    for _ in range(2):
        for batch_idx, batch in enumerate(DataLoader(RandomData(30), batch_size=4)):
            step(batch, batch_idx).backward()
    found = counts()
    torch._dynamo.reset()
    counters.clear()
    return found


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize(("cls", "bare"), [(Logging, Bare), (Breaking, BareBreaking)])
def test_a_step_has_as_many_graph_breaks_and_recompilations_as_the_bare_module_s(cls, bare, backend):
    expected = bare_loop(bare(), backend)
    module = cls()
    trainer = leyden.Trainer(**QUIET, accelerator="cpu", max_epochs=2, limit_val_batches=0, compile={"backend": backend})
    trainer.fit(module, DataLoader(RandomData(30), batch_size=4))
    assert counts() == expected
    assert expected["graphs"] > 1  # the short last batch is another shape


def test_a_later_run_of_another_trainer_and_module_compiles_nothing_anew():
    fit(Logging, {"backend": "eager"})
    counters.clear()
    fit(Logging, {"backend": "eager"})
    assert counts() == {"breaks": 0, "graphs": 0}


@pytest.mark.parametrize("cls", [TinyModule, Logging, Breaking])
def test_compiled_steps_train_and_log_what_eager_ones_do(cls):
    eager, plain_records = fit(cls, None)
    compiled, records = fit(cls, {"backend": "aot_eager", "fullgraph": cls is not Breaking})
    assert counters["stats"]["unique_graphs"] > 0
    assert same(eager, compiled)
    assert records == plain_records


def test_true_compiles_with_torch_s_defaults(monkeypatch):
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(torch, "compile", lambda step, **options: (given.append(options), step)[1])
    _, records = fit(TinyModule, True)
    assert given == [{}, {}]  # the training and the validation step
    assert records == fit(TinyModule, None)[1]


@pytest.mark.parametrize("compile", [None, False])
def test_none_and_false_hand_the_step_itself_to_the_loop(compile, monkeypatch):
    monkeypatch.delattr(torch, "compile")
    steps: list[Any] = []

    class Looking(TinyModule):
        def on_train_start(self) -> None:
            steps.append(self.trainer.train_step.training_step)

    module, _ = fit(Looking, compile)
    assert steps == [module.training_step]


def test_checkpoint_keys_are_those_of_the_module(tmp_path):
    module, _ = fit(TinyModule, {"backend": "eager"})
    module.trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert list(torch.load(tmp_path / "a.ckpt")["state_dict"]) == ["layer.weight", "layer.bias"]
    assert [name for name, _ in module.named_modules()] == ["", "layer"]


def test_every_stage_is_compiled():
    trainer = leyden.Trainer(**QUIET, accelerator="cpu", compile={"backend": "eager"})
    module = TinyModule()
    for run in (trainer.validate, trainer.test):
        counters.clear()
        run(module, verbose=False)
        assert counts() == {"breaks": 0, "graphs": 1}
    counters.clear()
    predictions = trainer.predict(module)
    assert counts() == {"breaks": 0, "graphs": 1}
    batches = list(module.predict_dataloader())
    assert all(torch.equal(found, module.predict_step(batch, 0)) for found, batch in zip(predictions, batches, strict=True))


def test_a_step_is_compiled_inside_the_precision(monkeypatch):
    eager, plain_records = fit(Logging, None, precision="bf16-mixed")
    compiled, records = fit(Logging, {"backend": "eager", "fullgraph": True}, precision="bf16-mixed")
    assert same(eager, compiled)
    assert records == plain_records


def test_what_a_failed_step_logged_is_forgotten():
    class Failing(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            torch._dynamo.graph_break()
            if self.fails:
                raise RuntimeError("no more")
            return loss

    trainer = leyden.Trainer(**QUIET, accelerator="cpu", max_epochs=1, compile={"backend": "eager"})
    module = Failing()
    module.fails = True
    with pytest.raises(RuntimeError, match="no more"):
        trainer.fit(module)
    assert "train_loss" not in trainer.callback_metrics
    module.fails = False
    trainer.fit(module)
    assert "train_loss" in trainer.callback_metrics


# torch says so to itself while it traces past a graph break, and hides it unless warnings are errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_manual_optimization_trains_and_logs_as_eagerly():
    class Manual(TinyModule):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            loss = F.cross_entropy(self(batch[0]), batch[1])
            self.log("before", loss, on_epoch=True)
            self.manual_backward(loss)
            optimizer.step()
            self.log("after", loss.detach() * 2, prog_bar=True)

    eager, plain_records = fit(Manual, None, limit_val_batches=0)
    compiled, records = fit(Manual, {"backend": "aot_eager"}, limit_val_batches=0)
    assert counters["stats"]["unique_graphs"] > 0
    assert same(eager, compiled)
    assert records == plain_records


def test_a_torchmetrics_metric_is_logged_from_a_compiled_step():
    torchmetrics = pytest.importorskip("torchmetrics")

    class Measured(TinyModule):
        def __init__(self) -> None:
            super().__init__()
            self.accuracy = torchmetrics.classification.BinaryAccuracy()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            self.accuracy(self(x).argmax(dim=1), y)
            self.log("accuracy", self.accuracy)

    eager, plain_records = fit(Measured, None)
    compiled, records = fit(Measured, {"backend": "eager"})
    assert same(eager, compiled)
    assert records == plain_records


@pytest.mark.parametrize(
    ("compile", "error", "message"),
    [
        ("yes", TypeError, "Trainer(compile='yes'): expected True, False or a dict of torch.compile's options, got str 'yes'"),
        ({"bakend": "eager"}, TypeError,
         "Trainer(compile={'bakend': 'eager'}): torch.compile has no option 'bakend'; did you mean 'backend'? Its options: "
         f"{OPTIONS}"),
        ({"colour": 1}, TypeError,
         f"Trainer(compile={{'colour': 1}}): torch.compile has no option 'colour'; its options: {OPTIONS}"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(compile, error, message):
    with pytest.raises(error) as caught:
        leyden.Trainer(**QUIET, compile=compile)
    assert str(caught.value) == message
