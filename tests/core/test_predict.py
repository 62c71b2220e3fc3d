"""predict: what it returns, and in which mode it runs."""

from __future__ import annotations

import pytest
import torch
from leyden import Callback, Module, Trainer
from leyden.testing import RandomData, TinyModule
from torch.utils.data import DataLoader

pytestmark = pytest.mark.usefixtures("core_alone")


def test_predictions_come_in_the_order_of_the_batches():
    module = TinyModule()
    predictions = Trainer().predict(module, DataLoader(RandomData(10), batch_size=4))
    assert [len(batch) for batch in predictions] == [4, 4, 2]
    assert torch.equal(torch.cat(predictions), module(RandomData(10).x).argmax(dim=1))


def test_several_loaders_give_a_list_each():
    loaders = [DataLoader(RandomData(2)), DataLoader(RandomData(1))]

    class Named(TinyModule):
        def predict_step(self, batch, batch_idx, dataloader_idx):
            return batch_idx, dataloader_idx

    assert Trainer().predict(Named(), loaders) == [[(0, 0), (1, 0)], [(0, 1)]]


def test_without_a_predict_step_the_batch_goes_through_forward():
    class Doubles(Module):
        def forward(self, x):
            return 2 * x

    [prediction] = Trainer().predict(Doubles(), [torch.ones(2, 3)])
    assert torch.equal(prediction, torch.full((2, 3), 2.0))


def test_return_predictions_false_keeps_nothing():
    seen = []

    class Notes(Callback):
        def on_predict_batch_end(self, trainer, module, outputs, batch, batch_idx, dataloader_idx=0):
            seen.append(len(outputs))

    assert Trainer(callbacks=[Notes()]).predict(TinyModule(), return_predictions=False) is None
    assert seen == [4, 4]


def test_predictions_of_any_nesting_hold_no_graph():
    class Nests(TinyModule):
        def predict_step(self, batch, batch_idx):
            with torch.inference_mode(False), torch.enable_grad():
                logits = self(batch[0].clone())
            return {"logits": logits, "parts": [logits, ("name", 3)]}

    [first, _] = Trainer().predict(Nests())
    assert not first["logits"].requires_grad
    assert not first["parts"][0].requires_grad
    assert first["parts"][1] == ("name", 3)


def test_none_may_be_predicted():
    class Nothing(TinyModule):
        def predict_step(self, batch, batch_idx):
            return None

    assert Trainer().predict(Nothing()) == [None, None]


@pytest.mark.parametrize("inference_mode", [True, False])
def test_predict_runs_in_eval_mode_without_gradients(inference_mode):
    seen = []

    class Looks(TinyModule):
        def predict_step(self, batch, batch_idx):
            seen.append((self.trainer.predicting, self.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled()))

    module = Looks()
    Trainer(inference_mode=inference_mode, limit_predict_batches=1).predict(module)
    assert seen == [(True, False, False, inference_mode)]
    assert module.training


@pytest.mark.parametrize(("limit", "batches"), [(1, 1), (0.5, 1), (1.0, 2), (7, 2)])
def test_limit_predict_batches(limit, batches):
    trainer = Trainer(limit_predict_batches=limit)
    assert len(trainer.predict(TinyModule())) == trainer.num_predict_batches[0] == batches


def test_limit_predict_batches_0_predicts_nothing():
    assert Trainer(limit_predict_batches=0).predict(TinyModule()) == []


def test_fast_dev_run_predicts_its_few_batches():
    assert len(Trainer(fast_dev_run=1).predict(TinyModule())) == 1


def test_a_dict_of_loaders_gives_lists_in_its_order():
    class Named(TinyModule):
        def predict_step(self, batch, batch_idx, dataloader_idx):
            return batch.shape[0]

    assert Trainer().predict(Named(), {"a": [torch.zeros(1, 8)], "b": [torch.zeros(2, 8)]}) == [[1], [2]]


def test_the_module_of_the_last_fit_is_used_if_none_is_given():
    trainer = Trainer(max_epochs=1)
    module = TinyModule()
    trainer.fit(module)
    assert torch.equal(torch.cat(trainer.predict()), module(RandomData(8, seed=3).x).argmax(dim=1))


class Wide(TinyModule):
    """Predicts 400 bytes a batch of four, as a part of a larger tensor."""

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return {"wide": torch.zeros(4, 1000)[:, :25], "name": "x"}


def test_predictions_are_kept_up_to_a_number_of_bytes_and_no_more():
    results = Trainer().predict(Wide(), max_bytes=800)
    assert [part["wide"].untyped_storage().nbytes() for part in results] == [400, 400]
    with pytest.raises(ValueError) as caught:
        Trainer().predict(Wide(), max_bytes=799)
    assert str(caught.value) == (
        "the predictions up to batch 1 take 800 bytes, more than predict() keeps (max_bytes=799); pass return_predictions=False "
        "and write them as they come, in on_predict_batch_end, or a larger max_bytes"
    )
    assert Trainer().predict(Wide(), max_bytes=0, return_predictions=False) is None


def test_the_limit_counts_all_loaders():
    loaders = [TinyModule().predict_dataloader(), TinyModule().predict_dataloader()]
    with pytest.raises(ValueError, match=r"the predictions up to batch 0 of dataloaders\[1\] take 1,200 bytes, more than"):
        Trainer().predict(Wide(), loaders, max_bytes=1000)


@pytest.mark.parametrize("limit", [-1, "8 GB", True, float("nan")])
def test_a_limit_that_is_none(limit):
    with pytest.raises(ValueError) as caught:
        Trainer().predict(Wide(), max_bytes=limit)
    assert str(caught.value) == (f"predict(max_bytes={limit!r}): expected a number >= 0, got {type(limit).__name__} {limit!r}")
