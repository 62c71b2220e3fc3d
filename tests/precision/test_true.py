"""Training with everything in one number format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from leyden import Trainer
from leyden.testing import RandomData, TinyModule
from torch.nn import functional as F
from torch.utils.data import DataLoader

FORMATS = {"64-true": torch.float64, "bf16-true": torch.bfloat16, "16-true": torch.float16}


def trainer(root, precision, **options):
    return Trainer(
        accelerator="cpu", precision=precision, default_root_dir=root, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **{"max_epochs": 2, **options},
    )  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), FORMATS.items())
def test_training_gives_the_bits_of_a_loop_written_by_hand(tmp_path, name, dtype):
    torch.manual_seed(0)
    ours = TinyModule()
    torch.manual_seed(0)
    theirs = TinyModule().to(dtype)
    trainer(tmp_path, name).fit(ours)
    optimizer = theirs.configure_optimizers()
    for _ in range(2):
        for x, y in DataLoader(RandomData(16), batch_size=4):
            loss = F.cross_entropy(theirs(x.to(dtype)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert ours.layer.weight.dtype == dtype
    assert torch.equal(ours.layer.weight, theirs.layer.weight)


@pytest.mark.parametrize(("name", "dtype"), FORMATS.items())
def test_only_floating_tensors_of_a_nested_batch_are_converted(tmp_path, name, dtype):
    class Point(NamedTuple):
        x: torch.Tensor
        count: torch.Tensor

    @dataclass
    class Sample:
        point: Point
        text: str

    seen = []

    class Watching(TinyModule):
        def predict_step(self, batch, batch_idx):
            seen.append(batch)

    batch = {"a": [torch.ones(1), (torch.tensor(True),)], "b": Sample(Point(torch.ones(1), torch.tensor(3)), "text")}
    trainer(tmp_path, name).predict(Watching(), [batch])
    (found,) = seen
    assert [found["a"][0].dtype, found["a"][1][0].dtype] == [dtype, torch.bool]
    assert isinstance(found["b"].point, Point)
    assert [found["b"].point.x.dtype, found["b"].point.count.dtype, found["b"].text] == [dtype, torch.int64, "text"]


def test_complex_parameters_keep_both_parts(tmp_path):
    class Complex(TinyModule):
        def __init__(self):
            super().__init__()
            self.phase = torch.nn.Parameter(torch.ones(1, dtype=torch.complex64) * 1j, requires_grad=False)

    module = Complex()
    trainer(tmp_path, "bf16-true").fit(module)
    assert module.phase.tolist() == [1j]


@pytest.mark.parametrize("name", FORMATS)
def test_the_default_dtype_stays_as_it_is_also_within_a_step(tmp_path, name):
    seen = set()

    class Watching(TinyModule):
        def training_step(self, batch, batch_idx):
            seen.add(torch.get_default_dtype())
            return super().training_step(batch, batch_idx)

    trainer(tmp_path, name).fit(Watching())
    assert seen == {torch.float32}


class Adam(TinyModule):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01, **self.options)


def test_an_eps_that_is_zero_in_16_bits_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="eps=") as caught:
        trainer(tmp_path, "16-true").fit(Adam())
    assert str(caught.value) == (
        "precision='16-true': eps=1e-08 of AdamW (optimizer 0) is 0 in 16 bits, so that its first step divides by zero; pass "
        "AdamW(..., eps=1e-4), or use precision='16-mixed'"
    )


def test_an_eps_given_as_a_tensor_is_refused_too(tmp_path):
    with pytest.raises(ValueError, match="eps=1e-08 of AdamW") as caught:
        trainer(tmp_path, "16-true").fit(Adam(eps=torch.tensor(1e-8, dtype=torch.float64)))
    assert str(caught.value) == (
        "precision='16-true': eps=1e-08 of AdamW (optimizer 0) is 0 in 16 bits, so that its first step divides by zero; pass "
        "AdamW(..., eps=1e-4), or use precision='16-mixed'"
    )


def test_the_eps_that_the_refusal_names_trains(tmp_path):
    module = Adam(eps=1e-4)
    trainer(tmp_path, "16-true", max_epochs=20).fit(module)
    assert module.layer.weight.isfinite().all()
    assert trainer(tmp_path, "16-true").test(module, verbose=False)[0]["test_acc"] >= 0.75


def test_bf16_takes_the_same_optimizer_as_it_is(tmp_path):
    module = Adam()
    trainer(tmp_path, "bf16-true").fit(module)
    assert module.layer.weight.isfinite().all()
