"""Replicas in one process: what they compute is what one device computes on the whole batch."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import leyden as ly
import numpy as np
import pytest
import torch
import torchmetrics
from leyden.testing import RandomData, TinyModule
from leyden_strategies import DPStrategy, dp
from leyden_strategies.splitting import Splitter
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

ROUNDING = 1e-6
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "max_epochs": 2,
}


class Step(TinyModule):
    """A module whose training step is a function of it and the batch."""

    def __init__(self, step=None, optimizer=None):
        super().__init__()
        self.step = step or (lambda module, batch: F.cross_entropy(module(batch[0]), batch[1]))
        self.make = optimizer or (lambda module: torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9))

    def training_step(self, batch, batch_idx):
        return self.step(self, batch)

    def configure_optimizers(self):
        return self.make(self)


def trainer(devices=2, strategy="dp", **options):
    return ly.Trainer(**{**QUIET, "strategy": strategy if devices > 1 else "auto", "devices": devices, **options})


def loader(samples=16, batch_size=5, **options):
    return DataLoader(RandomData(samples), batch_size=batch_size, **options)  # 5, 5, 5 and 1


def fitted(devices, module=Step, data=None, strategy="dp", **options):
    torch.manual_seed(0)
    made = module()
    run = trainer(devices, strategy, **{"limit_val_batches": 0, **options})
    run.fit(made, data if data is not None else loader())
    return made, run


def apart(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs)


class Copies(DPStrategy):
    """Replicas that get copies of every parameter and buffer, as on other devices."""

    def replicate(self, tensor, device):
        return tensor.clone()


# ---- training ----


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("devices", [2, 3, 8])
def test_training_gives_the_weights_of_one_device(devices, accumulated):
    options = {"accumulate_grad_batches": accumulated}
    assert apart(fitted(devices, **options)[0], fitted(1, **options)[0]) < ROUNDING


def test_training_on_copies_of_the_parameters_gives_them_too():
    assert apart(fitted(2, strategy=Copies())[0], fitted(1)[0]) < ROUNDING


def test_one_device_gives_the_bits_of_the_plain_case():
    torch.manual_seed(0)
    one = Step()
    trainer(1, strategy=DPStrategy(), limit_val_batches=0).fit(one, loader())
    assert apart(one, fitted(1)[0]) == 0


def test_each_replica_has_its_part_of_the_batch_on_its_device(monkeypatch):
    class Numbered(ly.Accelerator):
        def device(self, index):
            return torch.device("cpu", index)  # another device by name, with the same memory

    moved, seen = [], []

    def step(module, batch):
        seen.append((str(module.device), len(batch[0])))
        return F.cross_entropy(module(batch[0]), batch[1])

    original = dp.move_to_device
    monkeypatch.setattr(
        dp, "move_to_device", lambda part, device: moved.append((str(device), len(part[0]))) or original(part, device)
    )
    made, run = fitted(2, lambda: Step(step), loader(5, 5), accelerator=Numbered(), max_epochs=1)
    assert seen == [("cpu:0", 3), ("cpu:1", 2)]
    assert moved == [("cpu:1", 2)]
    assert run.strategy.device == torch.device("cpu", 0)
    assert apart(made, fitted(1, lambda: Step(), loader(5, 5), max_epochs=1)[0]) < ROUNDING


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("16-mixed", 1e-3), ("bf16-mixed", 1e-2), ("64-true", 1e-12), ("bf16-true", 3e-2)]
)
def test_every_precision_trains_as_on_one_device(precision, tolerance):
    two, run = fitted(2, precision=precision)
    assert apart(two, fitted(1, precision=precision)[0]) < tolerance
    assert run.global_step == 8


def test_an_overflow_in_one_replica_skips_the_step():
    def step(module, batch):
        loss = F.cross_entropy(module(batch[0]), batch[1])
        return loss * float("inf") if (batch[0] == 1).all() else loss

    x = torch.randn(4, 8)
    overflow = torch.cat([x[:2], torch.ones(2, 8)])
    y = torch.tensor([0, 1, 0, 1])
    _, run = fitted(2, lambda: Step(step), [(x, y), (overflow, y)], precision="16-mixed", max_epochs=1)
    assert (run.global_step, run.progress.skipped_steps) == (1, 1)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipping_sees_the_gradients_of_the_whole_batch(algorithm):
    options = {"gradient_clip_val": 0.05, "gradient_clip_algorithm": algorithm}
    assert apart(fitted(2, **options)[0], fitted(1, **options)[0]) < ROUNDING


def test_an_optimizer_that_evaluates_the_loss_itself_trains_as_on_one_device():
    def module():
        return Step(optimizer=lambda module: torch.optim.LBFGS(module.parameters(), lr=0.1, max_iter=4))

    options = {"data": loader(16, 8), "max_epochs": 1}
    assert apart(fitted(2, module, **options)[0], fitted(1, module, **options)[0]) < 1e-4


def test_optimizers_that_take_turns_train_as_on_one_device():
    class Turns(TinyModule):
        def __init__(self):
            super().__init__()
            self.other = nn.Linear(8, 2)

        def training_step(self, batch, batch_idx, optimizer_idx):
            return F.cross_entropy((self.layer, self.other)[optimizer_idx](batch[0]), batch[1])

        def configure_optimizers(self):
            return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.layer, self.other)]

    assert apart(fitted(2, Turns)[0], fitted(1, Turns)[0]) < ROUNDING


def test_tied_weights_get_the_gradients_of_both_uses():
    class Tied(Step):
        def __init__(self):
            super().__init__()
            self.more = nn.Linear(8, 2)
            self.more.weight = self.layer.weight

        def forward(self, x):
            return self.layer(x) + self.more(x)

    assert apart(fitted(2, Tied, strategy=Copies())[0], fitted(1, Tied)[0]) < ROUNDING


def test_buffers_are_those_of_the_first_replica():
    class Normed(Step):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(8)

        def forward(self, x):
            return self.layer(self.norm(x))

    torch.manual_seed(0)
    expected = Normed()
    expected.train()
    batches = [batch[0] for batch in loader(12, 6)]
    for x in batches:
        expected.norm(x[:3])
    for strategy in ("dp", Copies()):
        module, _ = fitted(2, Normed, loader(12, 6), strategy, max_epochs=1)
        assert torch.equal(module.norm.running_mean, expected.norm.running_mean)
        assert module.norm.num_batches_tracked == 2


def test_dropout_differs_between_replicas():
    masks = []

    def step(module, batch):
        masks.append(F.dropout(torch.ones(64), 0.5))
        return F.cross_entropy(module(batch[0]), batch[1])

    fitted(2, lambda: Step(step), loader(4, 4), max_epochs=1)
    assert len(masks) == 2
    assert not torch.equal(*masks)


def test_other_devices_draw_numbers_that_follow_from_the_cpus(monkeypatch):
    generators = {index: torch.Generator() for index in (0, 1, 2)}
    monkeypatch.setattr(dp, "device_generators", lambda device: [torch.default_generator, generators[device.index]])
    devices = [torch.device("cuda", index) for index in (0, 1, 2, 0)]
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        dp.seed_devices(devices)
        states.append([torch.rand(3, generator=generators[index]).tolist() for index in (1, 2)])
    assert states[0] == states[1]
    assert states[0][0] != states[0][1]
    assert generators[0].initial_seed() == torch.Generator().initial_seed()


def test_a_run_resumed_in_an_epoch_ends_as_the_run_that_would_have_been(tmp_path):
    class Dropping(Step):
        def forward(self, x):
            return self.layer(F.dropout(x, 0.3, self.training))

    class Save(ly.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == 6:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")

    data = lambda: loader(shuffle=True)  # noqa: E731  # as short as that
    straight, _ = fitted(2, Dropping, data(), callbacks=[Save()])
    resumed = Dropping()
    run = trainer(2, limit_val_batches=0)
    run.fit(resumed, data(), ckpt_path=tmp_path / "middle.ckpt")
    assert apart(resumed, straight) == 0


# ---- what replicas return ----


def test_the_loss_is_the_mean_over_the_samples():
    class Watch(ly.Callback):
        seen: Any = None

        def on_train_batch_end(self, outputs):
            self.seen = outputs

    watch = Watch()
    step = lambda module, batch: {"loss": module(batch).mean() * 0 + batch.mean(), "ids": batch[:, 0]}  # noqa: E731  # likewise
    data = [torch.arange(3.0)[:, None].expand(3, 8)]  # 2 samples and 1
    fitted(2, lambda: Step(step), data, callbacks=[watch], max_epochs=1)
    assert watch.seen["loss"].item() == pytest.approx(1.0)
    assert watch.seen["ids"].tolist() == [0, 1, 2]


def test_loss_weights_weigh_the_replicas():
    def step(module, batch):
        count = (batch[1] > 0).sum().item() + 1
        return {"loss": (F.cross_entropy(module(batch[0]), batch[1], reduction="sum")) / count, "loss_weight": count}

    def whole(module, batch):
        counts = sum((part > 0).sum().item() + 1 for part in batch[1].chunk(2))
        return {"loss": F.cross_entropy(module(batch[0]), batch[1], reduction="sum") / counts, "loss_weight": counts}

    options = {"accumulate_grad_batches": 2, "data": loader(16, 4)}
    assert apart(fitted(2, lambda: Step(step), **options)[0], fitted(1, lambda: Step(whole), **options)[0]) < ROUNDING


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_replica_that_returns_no_loss_is_left_out(accumulated):
    def step(module, batch):
        return None if batch[1].tolist() == [9, 9] else F.cross_entropy(module(batch[0]), batch[1])

    x, y = torch.randn(6, 4, 8), torch.randint(2, (6, 4))
    skipping = y.clone()
    skipping[1::2, 2:] = 9
    data = list(zip(x, skipping, strict=True))
    without = [(a, b) if i % 2 == 0 else (a[:2], b[:2]) for i, (a, b) in enumerate(data)]
    options = {"accumulate_grad_batches": accumulated}
    two, _ = fitted(2, lambda: Step(step), data, **options)
    assert apart(two, fitted(1, Step, without, **options)[0]) < ROUNDING


def test_a_batch_that_every_replica_skips_is_no_step():
    _, run = fitted(2, lambda: Step(lambda module, batch: None), max_epochs=1)
    assert run.global_step == 0


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("a loss", "Step.training_step returned str 'a loss'"),
        ({"los": 1.0}, "Step.training_step returned a dict without 'loss'; its keys are 'los'"),
    ],
)
def test_what_is_no_loss_is_refused_as_on_one_device(returned, message):
    with pytest.raises(TypeError) as caught:
        fitted(2, lambda: Step(lambda module, batch: returned))
    assert str(caught.value).startswith(message)


def test_a_loss_for_each_sample_is_refused_as_on_one_device():
    step = lambda module, batch: F.cross_entropy(module(batch[0]), batch[1], reduction="none")  # noqa: E731  # likewise
    with pytest.raises(ValueError, match="shape") as caught:
        fitted(2, lambda: Step(step))
    assert str(caught.value) == (
        "Step.training_step returned a loss of shape (5,); expected one element: reduce it, for instance with .mean()"
    )


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclass
class Found:
    logits: Any
    name: str


def predicted(make, batch, devices=2):
    class Predicting(TinyModule):
        def predict_step(self, batch, batch_idx):
            return make(batch)

    (found,) = trainer(devices).predict(Predicting(), [batch])
    return found


ROWS = torch.arange(5.0)[:, None].expand(5, 8)  # 3 samples and 2


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x: x[:, 0], torch.arange(5.0)),
        (lambda x: x.mean(), torch.tensor(2.0)),
        (lambda x: x.mean().item(), 2.0),
        (lambda x: torch.tensor(len(x)), torch.tensor([3, 2])),
        (len, [3, 2]),
        (lambda x: "cls", "cls"),
        (lambda x: None, None),
        (lambda x: [str(int(row[0])) for row in x], ["0", "1", "2", "3", "4"]),
        (lambda x: [row[0] for row in x], list(torch.arange(5.0))),
        (lambda x: [x[:, 0], x[:, 1]], [torch.arange(5.0)] * 2),
        (lambda x: {"a": x[:, 0], "b": {"c": x.mean()}}, {"a": torch.arange(5.0), "b": {"c": torch.tensor(2.0)}}),
        (lambda x: Pair(x[:, 0], "same"), Pair(torch.arange(5.0), "same")),
        (lambda x: Found(x[:, 0], "same"), Found(torch.arange(5.0), "same")),
        (lambda x: x[:, 0].numpy(), np.arange(5.0)),
        (lambda x: None if len(x) == 2 else x.mean(), [torch.tensor(1.0), None]),
    ],
)
def test_outputs_are_joined_in_order(make, expected):
    found = predicted(make, ROWS)
    assert type(found) is type(expected)
    assert_same(found, expected)


def assert_same(found, expected):
    if isinstance(expected, Found):
        found, expected = vars(found), vars(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, torch.Tensor | np.ndarray):
        assert type(found) is type(expected)
        assert found.tolist() == expected.tolist()
    else:
        assert found == expected


def test_replicas_that_return_other_keys_are_an_error():
    with pytest.raises(ValueError, match="keys") as caught:
        predicted(lambda x: {"a": x} if len(x) == 3 else {"b": x}, ROWS)
    assert str(caught.value) == (
        "what Predicting.predict_step returned has the keys ['a'] on replica 0 and ['b'] on replica 1; return the same ones for "
        "every part of a batch"
    )


def test_tensors_that_do_not_fit_together_are_an_error():
    with pytest.raises(ValueError, match="shapes") as caught:
        predicted(lambda x: {"a": x[:, : len(x)]}, ROWS)
    assert str(caught.value).startswith(
        "what Predicting.predict_step returned['a'] has the shapes (3, 3), (2, 2) on the replicas, which torch.cat cannot join ("
    )


def test_a_function_can_join_the_outputs_of_a_step():
    class Ended(Step):
        def setup(self, stage):
            self.joined = []

    class Join(ly.Callback):
        def setup(self, trainer, module, stage):
            def join(parts):
                module.joined.append(len(parts))
                logits, y = (torch.cat([part[key] for part in parts]) for key in ("logits", "y"))
                return F.cross_entropy(logits, y)

            assert trainer.strategy.join_replicas("training_step", join)

    def module():
        return Ended(lambda module, batch: {"logits": module(batch[0]), "y": batch[1]})

    two, run = fitted(2, module, callbacks=[Join()], max_epochs=1)
    assert two.joined == [2, 2, 2, 1]
    assert apart(two, fitted(1, max_epochs=1)[0]) < ROUNDING
    assert not ly.Strategy().join_replicas("training_step", max)
    run.callbacks.clear()
    with pytest.raises(TypeError, match="without 'loss'"):  # the next run joins as it does itself
        run.fit(module(), loader())


# ---- what replicas log ----


def logged(devices, module, **options):
    made, run = fitted(devices, module, log_every_n_steps=1, **options)
    return [{"step": r.step, "epoch": r.epoch, **r.values} for r in run.history.records], run.callback_metrics, made


def assert_same_records(one, other):
    assert [list(record) for record in one] == [list(record) for record in other]
    for ours, theirs in zip(one, other, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


def test_values_are_those_of_one_device():
    def step(module, batch):
        x, y = batch
        logits = module(x)
        loss = F.cross_entropy(logits, y)
        module.log("loss", loss, on_step=True, on_epoch=True)
        module.log("count", float(len(y)), reduce_fx="sum", on_step=True, on_epoch=True)
        module.log("least", x.min(), reduce_fx="min", on_step=True, on_epoch=True)
        module.log("most", x.max().item(), reduce_fx="max", on_step=True, on_epoch=True)
        module.log_dict({"mean": x.mean().numpy(), "right": (logits.argmax(1) == y).float().mean()}, on_epoch=True)
        seen = x.mean()
        module.log("seen", seen)
        seen.add_(1)  # what was logged is a copy
        return loss

    ours, metrics, _ = logged(2, lambda: Step(step))
    theirs, expected, _ = logged(1, lambda: Step(step))
    assert_same_records(ours, theirs)
    assert metrics.keys() == expected.keys()
    for key, value in expected.items():
        assert metrics[key].item() == pytest.approx(value.item(), abs=1e-6), key


def test_evaluation_gives_the_values_of_one_device():
    data = loader(11, 5)
    found, expected = (trainer(devices).validate(copy.deepcopy(TINY), data, verbose=False) for devices in (3, 1))
    assert found[0] == pytest.approx(expected[0], abs=1e-6)
    found, expected = (trainer(devices).test(copy.deepcopy(TINY), data, verbose=False) for devices in (3, 1))
    assert found[0] == pytest.approx(expected[0], abs=1e-6)


TINY = TinyModule()


def test_predictions_come_in_order():
    data = loader(11, 5)
    found, expected = (trainer(devices).predict(copy.deepcopy(TINY), data) for devices in (3, 1))
    torch.testing.assert_close(found, expected)


def test_a_torchmetrics_object_counts_every_sample_once():
    class Measured(TinyModule):
        def __init__(self):
            super().__init__()
            self.accuracy = torchmetrics.Accuracy("multiclass", num_classes=2, average="micro")

        def training_step(self, batch, batch_idx):
            logits = self(batch[0])
            self.accuracy(logits, batch[1])
            self.log("accuracy", self.accuracy, on_step=True, on_epoch=True)
            return F.cross_entropy(logits, batch[1])

    assert_same_records(logged(2, Measured)[0], logged(1, Measured)[0])


def test_a_metric_with_its_state_in_buffers_counts_every_sample_once():
    class Count(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def update(self, x):
            self.count = self.count + len(x)

        def compute(self):
            return self.count

        def reset(self):
            self.count = torch.zeros(())

    class Measured(TinyModule):
        def __init__(self):
            super().__init__()
            self.count = Count()

        def training_step(self, batch, batch_idx):
            self.count.update(batch[0])
            self.log("count", self.count, on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

    records, _, _ = logged(2, Measured)
    assert [record["count"] for record in records if "count" in record] == [16, 16]


def test_a_key_that_one_replica_logs_has_its_value():
    def step(module, batch):
        if batch[0][0, 0] == 0:
            module.log("first", 7.0)
        return F.cross_entropy(module(batch[0]), batch[1])

    data = [(ROWS, torch.zeros(5, dtype=torch.long))]
    records, _, _ = logged(2, lambda: Step(step), data=data, max_epochs=1)
    assert records[0]["first"] == 7.0


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (lambda module: module.log("x", torch.ones(2)), "self.log('x', ...): expected one number, got a tensor of shape (2,)"),
        (lambda module: module.log("x", "1"), "self.log('x', ...): expected a number or a tensor of one element, got str '1'"),
        (lambda module: module.log("x", 1.0, reduce_fx="median"), "self.log('x', ..., reduce_fx='median'): expected 'mean'"),
        (lambda module: module.log("x", 1.0, reduce_fx=[]), "self.log('x', ..., reduce_fx=[]): expected 'mean'"),
    ],
)
def test_bad_values_are_refused_as_on_one_device(log, message):
    def step(module, batch):
        log(module)
        return F.cross_entropy(module(batch[0]), batch[1])

    with pytest.raises((TypeError, ValueError)) as caught:
        fitted(2, lambda: Step(step))
    assert str(caught.value).startswith(message)
    assert "log" not in vars(caught.value)


def test_logging_works_again_after_a_step_that_failed():
    def step(module, batch):
        raise KeyError("in a replica")

    torch.manual_seed(0)
    run = trainer(2, limit_val_batches=0)
    with pytest.raises(KeyError):
        run.fit(Step(step), loader())
    assert "log" not in vars(run.metrics)
    run.fit(TinyModule(), loader())
    assert "train_loss" in run.callback_metrics


# ---- batches ----


def parts_of(batch, devices=2, samples=None, strategy="dp"):
    """What each replica is given of a batch; ``samples`` has the loader say how many there are."""
    seen = []

    class Watching(TinyModule):
        def validation_step(self, batch, batch_idx):
            seen.append(batch)

    data = [batch] if samples is None else DataLoader(list(range(samples)), batch_size=samples, collate_fn=lambda _: batch)
    trainer(devices, strategy).validate(Watching(), data, verbose=False)
    return seen


def test_nested_batches_are_split_item_by_item():
    @dataclass
    class Sample:
        x: torch.Tensor
        task: str

    x = torch.arange(5)
    batch = {"pair": Pair(x, x[:, None]), "list": [x], "sample": Sample(x, "a"), "scale": torch.tensor(2.0), "task": "b", "n": 3}
    first, second = parts_of(batch)
    assert [part["pair"].a.tolist() for part in (first, second)] == [[0, 1, 2], [3, 4]]
    assert second["pair"].b.tolist() == [[3], [4]]
    assert [part["list"][0].tolist() for part in (first, second)] == [[0, 1, 2], [3, 4]]
    assert (second["sample"].x.tolist(), second["sample"].task) == ([3, 4], "a")
    assert (second["scale"].item(), second["task"], second["n"]) == (2.0, "b", 3)


def test_a_list_with_an_item_for_each_sample_is_cut():
    first, second = parts_of((torch.arange(3), ["a", "b", "c"]))
    assert (first[1], second[1]) == (["a", "b"], ["c"])


def test_images_of_different_sizes_are_cut_between_them():
    images = [torch.ones(3, 4 + index, 5) for index in range(4)]
    targets = tuple({"boxes": torch.ones(index + 1, 4)} for index in range(4))
    first, second = parts_of((images, targets), samples=4)
    assert [len(part) for part in first] == [2, 2]
    assert [image.shape[1] for image in second[0]] == [6, 7]
    assert second[1] == targets[2:]


def test_what_a_list_is_follows_from_the_batches_before():
    columns, rows = Splitter(), Splitter()
    columns.split({"x": [torch.ones(4, 1), torch.ones(4, 1)]}, 4, 2)
    assert [part["x"][1].shape for part, _ in columns.split({"x": [torch.ones(2, 1), torch.ones(2, 1)]}, 2, 2)] == [(1, 1)] * 2
    rows.split({"x": [torch.ones(3, 1)] * 4}, 4, 2)
    assert [len(part["x"]) for part, _ in rows.split({"x": [torch.ones(3, 1)] * 3}, 3, 2)] == [2, 1]


def test_a_pair_of_tensors_of_two_samples_is_a_pair():
    x, y = torch.arange(2)[:, None], torch.arange(2)
    first, second = parts_of((x, y), samples=2)
    assert [part[1].tolist() for part in (first, second)] == [[0], [1]]


@pytest.mark.parametrize(("samples", "sizes"), [(1, [1]), (2, [1, 1]), (5, [2, 2, 1]), (8, [2, 2, 2, 2]), (9, [3, 3, 3])])
def test_parts_are_those_of_torch_chunk(samples, sizes):
    assert [len(part) for part in parts_of(torch.ones(samples, 2), devices=4)] == sizes


def test_more_samples_than_the_loader_said_are_split_all_the_same():
    assert [len(part) for part in parts_of(torch.ones(8, 2), samples=4)] == [4, 4]


ADVICE = "pass strategy={'dp': {'split': function}} with a function of (batch, parts) that returns a list of batches"


class Graph:
    num_graphs = 4

    def to(self, *args, **kwargs):
        return self


@pytest.mark.parametrize(
    ("batch", "samples", "message"),
    [
        ({"x": torch.ones(4, 2), "w": torch.ones(3)}, 4, "batch['w'] has shape (3,), and the batch has 4 samples; "),
        ((torch.ones(4, 2), [torch.ones(4), torch.ones(3)]), 4, "batch[1][1] has shape (3,), and the batch has 4 samples; "),
        ({"x": torch.ones(4, 2), "w": torch.ones(3)}, None, "the tensors of the batch have different first dimensions: 3, 4; "),
        (
            {"x": [torch.ones(3, 8, 8)] * 3},
            3,
            "batch['x'] has 3 items with a first dimension of 3 for 3 samples, so each item could be of one sample or of all; ",
        ),
        ({"x": "text"}, None, "a batch of type dict holds no tensor that shows its size; "),
        (Graph(), None, "batch is a Graph, which holds tensors in a way of its own; "),
    ],
)
def test_a_batch_that_cannot_be_split_is_an_error(batch, samples, message):
    with pytest.raises(ValueError, match="cannot split") as caught:
        parts_of(batch, samples=samples)
    assert str(caught.value) == f"strategy='dp' cannot split the batch: {message}{ADVICE}"


def test_the_users_function_splits_batches():
    batch = {"x": torch.arange(4), "w": torch.ones(3)}
    strategy = {"dp": {"split": lambda batch, parts: [{**batch, "x": x} for x in batch["x"].chunk(parts)]}}
    first, second = parts_of(batch, samples=4, strategy=strategy)
    assert (first["x"].tolist(), second["x"].tolist(), len(second["w"])) == ([0, 1], [2, 3], 3)


def test_a_batch_that_the_users_function_leaves_whole_is_what_it_returned():
    (only,) = parts_of(torch.arange(4), strategy={"dp": {"split": lambda batch, parts: [batch[1:]]}})
    assert only.tolist() == [1, 2, 3]


@pytest.mark.parametrize(("split", "got"), [(lambda *_: [], "0 batches"), (lambda *_: [1] * 3, "3 batches"), (max, "a int")])
def test_a_function_that_does_not_split_is_an_error(split, got):
    strategy = {"dp": {"split": (lambda batch, parts: parts) if split is max else split}}
    with pytest.raises(ValueError, match="split returned") as caught:
        parts_of(torch.ones(4), strategy=strategy)
    assert str(caught.value) == f"strategy='dp': split returned {got}; expected a list of 1 to 2 batches, one for each replica"


# ---- what it cannot do ----


def test_manual_optimization_is_refused():
    class Manual(TinyModule):
        automatic_optimization = False

    with pytest.raises(ValueError, match="manual") as caught:
        fitted(2, Manual)
    assert str(caught.value) == (
        "strategy='dp' runs Manual.training_step once for each of 2 replicas, and in manual optimization each would step the "
        "optimizers; use automatic optimization, or strategy='ddp'"
    )


def test_compiled_steps_are_refused():
    with pytest.raises(ValueError, match="compile") as caught:
        fitted(2, compile=True)
    assert str(caught.value) == (
        "strategy='dp' splits and joins batches in Python, which Trainer(compile=...) cannot compile; compile a part of the "
        "module with torch.compile, or use strategy='ddp'"
    )


def test_batch_norm_over_replicas_is_refused():
    with pytest.raises(ValueError, match="sync_batchnorm") as caught:
        fitted(2, sync_batchnorm=True)
    assert str(caught.value) == (
        "sync_batchnorm=True: the replicas of strategy='dp' run one after another, so batch norm cannot see the batch of all; "
        "pass sync_batchnorm=False, or use strategy='ddp'"
    )


def test_a_loop_of_the_users_own_is_refused():
    with pytest.raises(ValueError, match="batches") as caught:
        next(iter(trainer(2).batches(TinyModule())))
    assert str(caught.value) == (
        "trainer.batches() leaves the forward pass to you, so strategy='dp' cannot run it on 2 replicas; use fit()"
    )


def test_several_nodes_are_refused():
    with pytest.raises(ValueError, match="num_nodes") as caught:
        trainer(2, num_nodes=2)
    assert str(caught.value) == (
        "strategy='dp' drives the devices of one process, but num_nodes=2; use strategy='ddp', which has a process for each "
        "device"
    )


def test_processes_that_somebody_started_are_refused(monkeypatch):
    for name, value in {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
        "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "x", "GROUP_RANK": "0", "TORCHELASTIC_RESTART_COUNT": "0",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="environment") as caught:
        trainer(2)
    assert str(caught.value) == (
        "strategy='dp' drives the devices of one process, but environment 'torchelastic' has 2 processes; use strategy='ddp', "
        "which has a process for each device"
    )


def test_a_split_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError) as caught:
        trainer(2, strategy={"dp": {"split": 2}})
    assert str(caught.value) == ("strategy='dp': split=2 must be a function of (batch, parts) that returns a list of batches")


def test_dp_is_never_chosen_by_itself():
    assert ly.Trainer(**QUIET, devices=2).strategy.name == "ddp"
