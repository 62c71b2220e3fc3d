"""What a Trainer says about itself, and what it says a fit will do compared with what the fit then does."""

from __future__ import annotations

import random
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from leyden import Callback, Strategy, Trainer
from leyden.testing import RandomData, TinyDataModule, TinyModule
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

# ---- plan ----


class Scheduled(TinyModule):
    """Notes the learning rate of each optimizer step and the steps at each validation."""

    def __init__(self, scheduler=None, optimizers=1, frequencies=None):
        super().__init__()
        self.scheduler, self.count, self.frequencies = scheduler, optimizers, frequencies
        self.rates, self.validations = [], []

    def configure_optimizers(self):
        groups = [[self.layer.weight], [self.layer.bias]] if self.count == 2 else [list(self.parameters())]
        entries = []
        for index, group in enumerate(groups):
            optimizer = torch.optim.SGD(group, lr=0.1, momentum=0.9, weight_decay=0.1)
            entry = {"optimizer": optimizer}
            if self.scheduler is not None:
                interval, frequency = self.scheduler
                scheduler = LambdaLR(optimizer, lambda count: 1 / (count + 1))
                entry["lr_scheduler"] = {"scheduler": scheduler, "interval": interval, "frequency": frequency}
            if self.frequencies:
                entry["frequency"] = self.frequencies[index]
            entries.append(entry)
        return entries

    def on_before_optimizer_step(self, optimizer):
        if optimizer is self.trainer.optimizers[-1] or self.frequencies:
            self.rates.append([other.param_groups[0]["lr"] for other in self.trainer.optimizers])

    def on_validation_start(self):
        if not self.trainer.sanity_checking:
            self.validations.append(self.global_step)


class InTurns(Scheduled):
    def training_step(self, batch, batch_idx, optimizer_idx):
        return super().training_step(batch, batch_idx)


@pytest.mark.usefixtures("core_alone")
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    batches=st.integers(1, 5),
    epochs=st.integers(1, 3),
    max_steps=st.sampled_from([-1, -1, 2, 5]),
    accumulate=st.integers(1, 3),
    interval=st.sampled_from([None, 1.0, 0.5, 1, "2 steps", "3 batches", "2 epochs"]),
    every=st.sampled_from([1, 2, None]),
    scheduler=st.sampled_from([None, ("step", 1), ("step", 2), ("epoch", 1), ("validation", 1), ("validation", 2)]),
    kind=st.sampled_from([(Scheduled, 1, None), (Scheduled, 2, None), (InTurns, 2, None), (InTurns, 2, (2, 1))]),
)
def test_a_plan_is_what_the_fit_then_does(batches, epochs, max_steps, accumulate, interval, every, scheduler, kind):
    make, count, frequencies = kind
    module = make(scheduler, count, frequencies)
    trainer = Trainer(
        max_epochs=epochs,
        max_steps=max_steps,
        accumulate_grad_batches=accumulate,
        val_check_interval=interval,
        check_val_every_n_epoch=every,
    )
    loader = DataLoader(RandomData(batches * 2), batch_size=2)
    plan = trainer.plan(module, loader)
    assert (module.rates, module.validations) == ([], [])
    trainer.fit(module, loader)
    assert plan.batches_per_epoch == trainer.num_training_batches
    assert plan.steps == plan.horizon == trainer.global_step
    assert plan.epochs == trainer.current_epoch + (trainer.progress.batch > 0)
    assert plan.validations == module.validations
    assert list(zip(*plan.learning_rates.values(), strict=True)) == [tuple(rates) for rates in module.rates]


class Tags(torch.optim.SGD):
    pass


Tags.__name__ = "<b>S&P</b>"


class Cells(HTMLParser):
    """The texts of a page by tag, and every tag it has."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.texts.append("")

    def handle_data(self, data):
        self.texts[-1] += data

    def of(self, *tags):
        return [text for tag, text in zip(self.tags, self.texts, strict=True) if tag in tags]


@pytest.mark.usefixtures("core_alone")
def test_a_notebook_shows_a_plan_as_the_table_that_print_shows():
    class Odd(TinyModule):
        def configure_optimizers(self):
            return Tags(self.parameters(), lr=0.1)

    plan = Trainer(max_epochs=1).plan(Odd())
    page = Cells(plan._repr_html_())
    assert set(page.tags) == {"table", "thead", "tbody", "tr", "th", "td"}
    assert re.split(r"\s{2,}|\n", str(plan).split("\n", 2)[2]) == page.of("td")
    assert "learning rate <b>S&P</b>" in page.of("td")


@pytest.mark.usefixtures("core_alone")
def test_the_repr_of_a_plan_is_one_line():
    plan = Trainer(max_epochs=2500).plan(TinyModule())
    assert repr(plan) == ("Plan(10,000 steps in 2,500 epochs of 4; 2500 validations and learning rates of 'SGD' in 10000 steps)")


@pytest.mark.usefixtures("core_alone")
def test_a_notebook_shows_an_explanation_in_lines_and_takes_nothing_in_it_for_a_tag(distribution):
    distribution(
        "acme-logger", {"leyden.loggers": {"acme": "acme_logger:Acme"}},
        "import leyden\nclass Acme(leyden.Logger):\n    def __init__(self, name=''):\n        pass\n",
    )  # fmt: skip
    text = Trainer(logger={"acme": {"name": "<img src=x onerror=alert(1)>"}}).explain()
    page = Cells(text._repr_html_())
    assert (page.tags, page.texts) == (["pre"], [str(text)])
    assert "<img" in text


def everything_of(module):
    state = {name: value.clone() for name, value in module.state_dict().items()}
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}
    return state, gradients, torch.get_rng_state(), random.getstate(), np.random.get_state()


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


class Draws(Scheduled):
    """Draws numbers wherever a plan asks for something."""

    def setup(self, stage):
        torch.rand(1), np.random.rand(), random.random()

    def train_dataloader(self):
        torch.rand(1)
        return DataLoader(RandomData(16), batch_size=4, shuffle=True)

    def training_step(self, batch, batch_idx):
        raise AssertionError("a plan trains nothing")

    def validation_step(self, batch, batch_idx):
        raise AssertionError("a plan validates nothing")


@pytest.mark.usefixtures("core_alone")
@pytest.mark.parametrize("gradients", [False, True])
def test_a_plan_changes_no_parameter_no_gradient_and_no_random_state(gradients):
    module = Draws(("step", 1))
    if gradients:
        module(torch.ones(1, 8)).sum().backward()
    before = everything_of(module)
    plan = Trainer(max_epochs=3).plan(module)
    assert plan.steps == 12
    assert equal(everything_of(module), before)


@pytest.mark.usefixtures("core_alone")
def test_a_plan_before_a_fit_does_not_change_the_fit():
    weights = []
    for plans in (False, True):
        torch.manual_seed(3)
        module = TinyModule()
        trainer = Trainer(max_epochs=2)
        loader = DataLoader(RandomData(16), batch_size=4, shuffle=True)
        if plans:
            trainer.plan(module, loader)
        trainer.fit(module, loader)
        weights.append(module.layer.weight)
    assert torch.equal(*weights)


@pytest.mark.usefixtures("core_alone")
def test_a_plan_leaves_the_module_to_its_trainer_and_reads_no_batch():
    class Unreadable(RandomData):
        def __getitem__(self, index):
            raise AssertionError("a plan reads no batch")

    module, trainer = TinyModule(), Trainer(max_epochs=1)
    trainer.plan(module, DataLoader(Unreadable()))
    with pytest.raises(RuntimeError, match="not attached"):
        module.trainer  # noqa: B018  # reading it is the test
    assert (trainer.num_training_batches, trainer.stage, trainer.running) == (0, None, False)


@pytest.mark.usefixtures("core_alone")
def test_a_plan_of_a_data_module_sets_it_up_first():
    class Late(TinyDataModule):
        def setup(self, stage):
            self.data = RandomData(12)

        def train_dataloader(self):
            return DataLoader(self.data, batch_size=4)

    assert Trainer(max_epochs=2).plan(TinyModule(), datamodule=Late()).steps == 6
    assert Trainer(max_epochs=2).plan(TinyModule(), Late()).steps == 6


class Stream:
    def __iter__(self):
        raise AssertionError("a plan reads no batch")


@pytest.mark.usefixtures("core_alone")
@pytest.mark.parametrize(
    ("options", "steps", "horizon", "validations"),
    [
        ({"max_epochs": 2}, float("inf"), 10, []),
        ({"max_epochs": -1, "max_steps": 5}, 5, 5, []),
        ({"max_steps": 5, "val_check_interval": 2}, 5, 5, [2, 4]),
        ({"max_steps": 5, "val_check_interval": 2, "check_val_every_n_epoch": None}, 5, 5, [2, 4]),
        ({"max_steps": 6, "val_check_interval": "3 steps", "accumulate_grad_batches": 2}, 6, 6, [3, 6]),
    ],
)
def test_a_plan_of_a_stream_goes_as_far_as_its_horizon(options, steps, horizon, validations):
    plan = Trainer(**options).plan(TinyModule(), Stream(), horizon=10)
    assert (plan.batches_per_epoch, plan.steps, plan.horizon) == (float("inf"), steps, horizon)
    assert plan.validations == validations


@pytest.mark.usefixtures("core_alone")
@pytest.mark.parametrize(
    ("options", "loader", "message"),
    [
        (
            {"val_check_interval": 0.5},
            Stream(),
            "val_check_interval=0.5 is a fraction, but the training loader does not say how many batches it has; "
            "pass a whole number of batches, or 1.0 for the end of each epoch",
        ),
        (
            {"val_check_interval": 9},
            None,
            "val_check_interval=9 is more than the 4 batches of an epoch; use at most 4, or check_val_every_n_epoch=None to "
            "count across epochs",
        ),
        ({}, [], "train_dataloaders is empty: it has no batch to train on"),
    ],
)
def test_a_plan_refuses_what_the_fit_would_refuse(options, loader, message):
    for run in ("plan", "fit"):
        with pytest.raises(ValueError) as caught:
            getattr(Trainer(max_epochs=1, **options), run)(TinyModule(), loader)
        assert str(caught.value) == message


@pytest.mark.usefixtures("core_alone")
def test_a_plan_leaves_out_schedulers_that_go_by_a_value():
    class Plateau(TinyModule):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return {"optimizer": optimizer, "lr_scheduler": ReduceLROnPlateau(optimizer), "monitor": "val_loss"}

    assert Trainer(max_epochs=2).plan(Plateau()).learning_rates == {"SGD": [0.1] * 8}


@pytest.mark.usefixtures("core_alone")
def test_a_plan_is_printed_as_a_table():
    class Cosine(TinyModule):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = CosineAnnealingLR(optimizer, self.trainer.estimated_stepping_batches)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    assert str(Trainer(max_epochs=2, val_check_interval=0.5).plan(Cosine())) == (
        "plan\n"
        "-------------------------  --------------\n"
        "batches per epoch                       4\n"
        "optimizer steps per epoch               4\n"
        "epochs                                  2\n"
        "optimizer steps                         8\n"
        "validations in 8 steps                  4\n"
        "learning rate SGD          0.1 to 0.00381"
    )


# ---- explain ----


class Mine(Callback):
    def on_train_start(self, trainer, module):
        pass


PARTS = ["accelerator", "devices", "strategy", "precision", "environment", "checkpoint_io", "profiler", "logger", "callback"]


def lines_of(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def test_explain_says_of_each_part_what_was_chosen_who_brought_it_and_why():
    trainer = Trainer(accelerator="cpu", precision="bf16-mixed", callbacks=[Mine()], logger="csv", max_epochs=1)
    text = trainer.explain()
    rows = [re.split(r"  +", line) for line in text.split("\n\n")[0].splitlines()]
    assert rows[:6] == [
        ["part", "chosen", "from", "why"],
        ["accelerator", "CPUAccelerator", "leyden-accelerators", "accelerator='cpu' was given"],
        ["devices", "cpu", "1 process(es)", "auto: what the accelerator has"],
        ["strategy", "Strategy", "leyden", "auto: there is one device"],
        ["precision", "BF16MixedPrecision", "leyden-precision", "precision='bf16-mixed' was given"],
        ["environment", "ClusterEnvironment", "leyden", "auto: no other detected itself"],
    ]
    assert ["logger", "CSVLogger", "leyden-loggers", "logger='csv' was given"] in rows
    assert [row[0] for row in rows[1:]] == sorted((row[0] for row in rows[1:]), key=PARTS.index)


def test_explain_tells_given_callbacks_from_defaults():
    rows = lines_of(Trainer(callbacks=[Mine()], logger=False).explain(), "callback ")
    assert any("Mine" in row and row.endswith("was given") for row in rows)
    assert [row for row in rows if row.endswith("a default")]


@pytest.mark.usefixtures("core_alone")
def test_explain_lists_who_is_on_the_bus_with_their_hooks_in_the_order_of_calls():
    class First(Callback):
        def on_train_end(self, trainer, module):
            pass

    text = Trainer(callbacks=[First(), Mine()], logger=False).explain()
    listed = text.split("on the bus, in the order of calls:\n")[1].splitlines()
    assert [line.split(": ")[1] for line in listed if "First" in line or "Mine" in line] == ["on_train_end", "on_train_start"]


@pytest.mark.usefixtures("core_alone")
def test_explain_of_a_trainer_alone_names_core_and_the_defaults():
    text = Trainer(logger=False, max_epochs=1).explain()
    assert lines_of(text, "precision")[0].split(maxsplit=3) == ["precision", "Precision", "leyden", "the default"]
    assert lines_of(text, "devices")[0].split(maxsplit=2)[:2] == ["devices", "cpu"]


def dtypes(text):
    return [line.strip() for line in text.split("dtypes:\n")[1].splitlines()]


def test_explain_shows_dtypes_of_storage_compute_gradients_optimizer_state_and_reduction_for_each_parameter_group():
    class Groups(TinyModule):
        def __init__(self):
            super().__init__()
            self.frozen = torch.nn.Parameter(torch.ones(1000), requires_grad=False)
            self.forgotten = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))

        def configure_optimizers(self):
            return torch.optim.Adam([{"params": [self.layer.weight]}, {"params": [self.layer.bias], "lr": 0.1}])

    trainer = Trainer(max_epochs=1, precision="bf16-mixed", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    module = Groups()
    assert dtypes(trainer.explain(module)) == [
        "parameter group       parameters  storage           compute   gradient          optimizer state  reduction",
        "all that are trained  21          float32, float64  bfloat16  float32, float64  none yet         none",
        "frozen                1,000       float32           bfloat16  none              none             none",
    ]
    trainer.fit(module)
    assert dtypes(trainer.explain()) == [
        "parameter group  parameters  storage  compute   gradient  optimizer state  reduction",
        "Adam, group 0    16          float32  bfloat16  float32   float32          none",
        "Adam, group 1    2           float32  bfloat16  float32   float32          none",
        "in no optimizer  3           float64  bfloat16  float64   none yet         none",
        "frozen           1,000       float32  bfloat16  none      none             none",
    ]


def test_explain_shows_what_a_precision_will_make_of_the_dtypes_and_what_a_strategy_reduces_in():
    class Halves(Strategy):
        def reduction_dtype(self, gradient):
            return torch.float16

    trainer = Trainer(precision="64-true", strategy=Halves(), logger=False)
    assert dtypes(trainer.explain(TinyModule()))[1].split() == [
        *["all", "that", "are", "trained", "18", "float64", "float64", "float64", "none", "yet", "float16"]
    ]


def test_explain_shows_each_of_several_optimizers():
    class Two(TinyModule):
        def configure_optimizers(self):
            return [torch.optim.SGD([self.layer.weight], lr=0.1), torch.optim.Adam([self.layer.bias])]

    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    module = Two()
    trainer.fit(module)
    assert [line.split("  ")[0] for line in dtypes(trainer.explain())[1:]] == ["SGD 0, group 0", "Adam 1, group 0"]
