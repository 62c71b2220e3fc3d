"""Training parts of a module, pruning, and training on parts of a batch."""

from __future__ import annotations

import copy

import pytest
import torch
from leyden import Trainer
from leyden.testing import RandomData, TinyModule, run_ranks
from leyden_callbacks import (
    EMA,
    BackboneFinetuning,
    BaseFinetuning,
    LambdaCallback,
    ModelCheckpoint,
    ModelPruning,
    OOMMicrobatch,
    StochasticWeightAveraging,
)
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader


class Backbone(TinyModule):
    """A backbone with batch normalization below the layer; only what can be trained has an optimizer."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU())

    def forward(self, x):
        return self.layer(self.backbone(x))

    def configure_optimizers(self):
        return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=0.1)


def groups(trainer):
    return [[round(group["lr"], 9), len(group["params"])] for group in trainer.optimizers[0].param_groups]


# ---- backbone_finetuning ----


def test_the_backbone_is_trained_from_its_epoch_on(fit):
    seen = []
    module = Backbone()
    first = module.backbone[0].weight.detach().clone()
    note = LambdaCallback(
        on_train_epoch_end=lambda trainer: seen.append((groups(trainer), torch.equal(module.backbone[0].weight, first)))
    )
    fit(BackboneFinetuning(2), note, module=module, max_epochs=6)
    # The layer's two parameters and batch normalization's two; later the two of the backbone's own, from 0.01 up to 0.1.
    assert seen == [
        ([[0.1, 4]], True),
        ([[0.1, 4]], True),
        ([[0.1, 4], [0.01, 2]], False),
        ([[0.1, 4], [0.02, 2]], False),
        ([[0.1, 4], [0.04, 2]], False),
        ([[0.1, 4], [0.08, 2]], False),
    ]


def test_its_options(fit, capsys):
    options = {"unfreeze_backbone_at_epoch": 1, "backbone_initial_lr": 0.03, "lambda_func": lambda epoch: 3, "train_bn": False,
               "should_align": False, "verbose": True}  # fmt: skip
    seen = []
    fit({"backbone_finetuning": options}, LambdaCallback(on_train_epoch_end=lambda trainer: seen.append(groups(trainer))),
        module=Backbone(), max_epochs=4)  # fmt: skip
    assert seen[0] == [[0.1, 2]]
    assert [found[1][0] for found in seen[1:]] == [0.03, 0.09, 0.27]
    assert "leyden: epoch 2: the learning rate is 0.1, the backbone's 0.09\n" in capsys.readouterr().err


def test_aligned_rates_stop_at_the_modules(fit):
    seen = []
    fit(BackboneFinetuning(0, lambda epoch: 20), LambdaCallback(on_train_epoch_end=lambda trainer: seen.append(groups(trainer))),
        module=Backbone(), max_epochs=3)  # fmt: skip
    assert [found[1][0] for found in seen] == [0.01, 0.1, 0.1]


@pytest.mark.parametrize("train_bn", [True, False])
def test_a_resumed_run_has_the_groups_and_ends_with_the_same_bits(fit, tmp_path, train_bn):
    def save(trainer):
        if trainer.global_step == 14:  # inside of epoch 3
            trainer.save_checkpoint(tmp_path / "saved.ckpt")

    module = Backbone()
    start = copy.deepcopy(module)
    whole = fit(BackboneFinetuning(1, train_bn=train_bn), LambdaCallback(on_train_batch_end=save), module=module, max_epochs=6)
    resumed = fit(BackboneFinetuning(1, train_bn=train_bn), module=start, max_epochs=6, ckpt_path=str(tmp_path / "saved.ckpt"))
    assert groups(resumed) == groups(whole)
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), start.state_dict().values(), strict=True))


def test_a_resumed_run_has_frozen_what_was_frozen_whoever_trains_it(fit, tmp_path):
    class Once(BaseFinetuning):
        def freeze_before_training(self, module):
            self.freeze(module.backbone, train_bn=False)

        def finetune_function(self, module, epoch, optimizer):
            if epoch == 1:
                self.make_trainable(module.backbone[1])

    class Everything(Backbone):
        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.1)

    module = Everything()
    start = copy.deepcopy(module)
    fit(Once(), LambdaCallback(on_train_epoch_end=lambda trainer: trainer.save_checkpoint(tmp_path / "saved.ckpt")),
        module=module)  # fmt: skip
    fit(Once(), module=module, max_epochs=3, ckpt_path=str(tmp_path / "saved.ckpt"))
    fit(Once(), module=start, max_epochs=3)
    assert [p.requires_grad for p in module.backbone.parameters()] == [False, False, True, True]
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), start.state_dict().values(), strict=True))


def test_an_optimizer_that_has_the_backbone_already_trains_it_at_its_own_rate(fit, tmp_path):
    class Everything(Backbone):
        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.1)

    module = Everything()
    start = copy.deepcopy(module)
    save = LambdaCallback(on_train_epoch_end=lambda trainer: trainer.save_checkpoint(tmp_path / f"{trainer.current_epoch}.ckpt"))
    whole = fit(BackboneFinetuning(1, backbone_initial_lr=0.01), save, module=module, max_epochs=4)
    resumed = fit(BackboneFinetuning(1, backbone_initial_lr=0.01), module=start, max_epochs=4, ckpt_path=str(tmp_path / "2.ckpt"))
    assert groups(whole) == groups(resumed) == [[0.1, 4], [0.04, 2]]
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), start.state_dict().values(), strict=True))


def test_of_several_optimizers_the_first_trains_the_backbone(fit):
    class Two(Backbone):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.other = nn.Linear(8, 2)

        def training_step(self, batch, batch_idx):
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(nn.functional.cross_entropy(self(batch[0]) + self.other(batch[0]), batch[1]))
                optimizer.step()

        def configure_optimizers(self):
            return [torch.optim.SGD(self.layer.parameters(), lr=0.1), torch.optim.SGD(self.other.parameters(), lr=0.5)]

    trainer = fit(BackboneFinetuning(1, backbone_initial_lr=0.01, train_bn=False), module=Two(), max_epochs=4)
    assert [[group["lr"] for group in optimizer.param_groups] for optimizer in trainer.optimizers] == [[0.1, 0.04], [0.5]]


def test_schedulers_of_the_module_go_on_beside_it(fit):
    class Scheduled(Backbone):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]

    trainer = fit(BackboneFinetuning(1, lambda epoch: 1.0), module=Scheduled(), max_epochs=3)
    assert groups(trainer)[0] == [0.0125, 4]


def test_a_finetuning_of_ones_own(fit):
    class LastFirst(BaseFinetuning):
        def freeze_before_training(self, module):
            self.freeze([module.backbone, [module.layer]], train_bn=True)
            self.make_trainable(module.layer)

        def finetune_function(self, module, epoch, optimizer):
            if epoch == 1:
                self.unfreeze_and_add_param_group(module.backbone, optimizer, train_bn=False)

    trainer = fit(LastFirst(), module=Backbone())
    assert groups(trainer) == [[0.1, 4], [0.01, 2]]


def test_helpers_of_finetuning():
    module = Backbone()
    BaseFinetuning.freeze(module.backbone, train_bn=False)
    assert [len(list(BaseFinetuning.filter_params(module, train_bn=bn, requires_grad=grad)))
            for bn in (True, False) for grad in (True, False)] == [2, 4, 2, 2]  # fmt: skip
    assert not module.backbone[1].track_running_stats
    BaseFinetuning.make_trainable(module.backbone)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert module.backbone[1].track_running_stats
    assert [type(part).__name__ for part in BaseFinetuning.flatten_modules(module)] == ["Linear", "Linear", "BatchNorm1d", "ReLU"]


class Plain(TinyModule):
    """A backbone whose statistics do not depend on how a batch is dealt out."""

    batch_size = 4

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 8), nn.Tanh())

    def forward(self, x):
        return self.layer(self.backbone(x))

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)

    def train_dataloader(self):
        return DataLoader(super().train_dataloader().dataset, batch_size=self.batch_size)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_in_several_processes_the_backbone_is_that_of_one_with_the_batches_of_all(tmp_path, accumulate):
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    quiet |= {"enable_model_summary": False, "default_root_dir": tmp_path, "max_epochs": 4}
    quiet |= {"accumulate_grad_batches": accumulate}
    start = Plain().state_dict()

    def train(environment):
        module = Plain()
        module.load_state_dict(start)
        trainer = Trainer(environment=environment, devices=2, strategy="ddp", callbacks=[BackboneFinetuning(2)], **quiet)
        trainer.fit(module)
        return {name: value.tolist() for name, value in module.state_dict().items()}, groups(trainer)

    first, second = run_ranks(train)
    assert first == second
    whole = Plain()
    whole.load_state_dict(start)
    whole.batch_size = 8
    trainer = Trainer(callbacks=[BackboneFinetuning(2)], **quiet)
    trainer.fit(whole)
    assert not torch.equal(whole.backbone[0].weight, start["backbone.0.weight"])
    torch.testing.assert_close({name: torch.tensor(value) for name, value in first[0].items()}, dict(whole.state_dict()))
    assert first[1] == groups(trainer) == [[0.1, 2], [0.02, 2]]


def test_in_several_processes_a_resumed_backbone_is_that_of_the_whole_run(tmp_path):
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    quiet |= {"enable_model_summary": False, "default_root_dir": tmp_path, "max_epochs": 4, "devices": 2, "strategy": "ddp"}
    start = Plain().state_dict()

    def train(environment):
        def fit(*callbacks, ckpt_path=None):
            module = Plain()
            module.load_state_dict(start)
            trainer = Trainer(environment=environment, callbacks=[BackboneFinetuning(1), *callbacks], **quiet)
            trainer.fit(module, ckpt_path=ckpt_path)
            return {name: value.tolist() for name, value in module.state_dict().items()}

        path = str(tmp_path / "saved.ckpt")
        save = LambdaCallback(on_train_epoch_end=lambda trainer: trainer.current_epoch == 1 and trainer.save_checkpoint(path))
        return fit(save), fit(ckpt_path=path)

    (first, first_resumed), (second, second_resumed) = run_ranks(train)
    assert first == second == first_resumed == second_resumed


def test_a_module_without_a_backbone(fit, refusal):
    assert refusal(AttributeError, fit, BackboneFinetuning()) == (
        "BackboneFinetuning: TinyModule has no part 'backbone'; name the one to freeze with backbone=...; its parts: 'layer'"
    )
    assert fit(BackboneFinetuning(1, backbone="backbone"), module=Backbone()).global_step == 8


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"unfreeze_backbone_at_epoch": -1}, ValueError,
         "BackboneFinetuning(unfreeze_backbone_at_epoch=-1): expected an int of at least 0, got int -1"),
        ({"lambda_func": 2}, TypeError, "BackboneFinetuning(lambda_func=2): expected a function of the epoch, got int 2"),
        ({"train_bn": None}, TypeError, "BackboneFinetuning(train_bn=None): expected True or False, got NoneType None"),
    ],
)  # fmt: skip
def test_wrong_finetuning(options, kind, message, refusal):
    assert refusal(kind, BackboneFinetuning, **options) == message


# ---- pruning ----


def zeros(tensor):
    return int((tensor == 0).sum())


def test_a_part_of_the_weights_is_zero_after_each_epoch_and_stays_so(fit, capsys):
    seen = []
    pruning = ModelPruning(amount=0.5, verbose=2)
    note = LambdaCallback(on_train_batch_end=lambda trainer, module: seen.append(zeros(module.layer.weight)))
    trainer = fit(note, pruning, max_epochs=3)
    assert seen == [0] * 4 + [8] * 4 + [12] * 4  # of 16
    assert zeros(trainer.module.layer.weight) == 14
    assert pruning.sparsity == {"layer.weight": 14 / 16}
    assert list(dict(trainer.module.named_parameters())) == ["layer.bias", "layer.weight"]
    err = capsys.readouterr().err
    assert "leyden: 8 of 16 weights are pruned (50.0%)\nleyden:   layer.weight: 8 of 16\n" in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"amount": 3}, 3),
        ({"amount": lambda epoch: 0.25}, 4),
        ({"apply_pruning": False}, 0),
        ({"apply_pruning": lambda epoch: epoch == 1}, 0),
        ({"pruning_fn": "random_unstructured", "amount": 0.25}, 4),
        (
            {"pruning_fn": "ln_structured", "amount": 0.5, "pruning_dim": 0, "pruning_norm": 2, "use_global_unstructured": False},
            8,
        ),
        ({"pruning_fn": prune.RandomStructured, "amount": 1, "pruning_dim": 1, "use_global_unstructured": False}, 2),
        ({"parameter_names": ["bias"], "use_global_unstructured": False}, 0),
    ],
)
def test_ways_of_pruning(fit, options, expected):
    trainer = fit({"pruning": options}, max_epochs=1)
    assert zeros(trainer.module.layer.weight) == expected


def test_the_lottery_ticket_puts_back_what_is_left(fit):
    module = TinyModule()
    first = module.layer.weight.detach().clone()
    fit(ModelPruning(use_lottery_ticket_hypothesis=True), module=module, max_epochs=1)
    left = module.layer.weight != 0
    assert int(left.sum()) == 8
    assert torch.equal(module.layer.weight[left], first[left])


def test_checkpoints_are_plain_and_a_resumed_run_ends_with_the_same_bits(fit, tmp_path):
    def save(trainer):
        if trainer.global_step == 6:
            trainer.save_checkpoint(tmp_path / "saved.ckpt")

    module = TinyModule()
    start = copy.deepcopy(module)
    fit(ModelPruning(), LambdaCallback(on_train_batch_end=save), module=module, max_epochs=3)
    saved = torch.load(tmp_path / "saved.ckpt", weights_only=True)
    assert sorted(saved["state_dict"]) == ["layer.bias", "layer.weight"]
    assert zeros(saved["state_dict"]["layer.weight"]) == 8
    assert zeros(TinyModule.load_from_checkpoint(tmp_path / "saved.ckpt").layer.weight) == 8
    fit(ModelPruning(), module=start, max_epochs=3, ckpt_path=str(tmp_path / "saved.ckpt"))
    assert torch.equal(module.layer.weight, start.layer.weight)


def test_a_pruned_checkpoint_is_tested_by_a_trainer_that_has_pruned_nothing(fit, tmp_path):
    trainer = fit(ModelPruning())
    trainer.save_checkpoint(tmp_path / "pruned.ckpt")
    again = Trainer(callbacks=[ModelPruning()], logger=False, enable_progress_bar=False, enable_model_summary=False)
    again.test(TinyModule(), ckpt_path=tmp_path / "pruned.ckpt", verbose=False)
    assert (again.module.layer.weight == 0).float().mean() >= 0.5


def test_the_masks_are_in_a_checkpoint_of_a_failed_run(fit, tmp_path):
    class Failing(TinyModule):
        def training_step(self, batch, batch_idx):
            if self.global_step == 6:
                raise ValueError("one of the user's")
            return super().training_step(batch, batch_idx)

    pruning, checkpoint, module = ModelPruning(), ModelCheckpoint(tmp_path, save_on_exception=True), Failing()
    with pytest.raises(ValueError, match="one of the user's"):
        fit(pruning, checkpoint, module=module)
    assert set(module.state_dict()) == {"layer.weight", "layer.bias"}
    later = ModelPruning(apply_pruning=False)
    fit(later, ckpt_path=checkpoint.resolve_checkpoint("last"))
    assert later.sparsity == {"layer.weight": 0.5}


@pytest.mark.parametrize("average", [EMA(), StochasticWeightAveraging(0.1)])
def test_averages_of_pruned_weights_are_refused(fit, refusal, average):
    assert refusal(ValueError, fit, average, ModelPruning(), max_epochs=5) == (
        f"ModelPruning and {type(average).__name__}: an average of weights from before and after pruning has no zeros; leave out "
        f"one of them"
    )


def test_all_processes_prune_the_same_weights_at_random_too(tmp_path):
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    quiet |= {"enable_model_summary": False, "default_root_dir": tmp_path, "max_epochs": 2, "devices": 2, "strategy": "ddp"}
    start = Plain().state_dict()

    def train(environment):
        module = Plain()
        module.load_state_dict(start)
        pruning = ModelPruning("random_unstructured", amount=0.4)
        Trainer(environment=environment, callbacks=[pruning], **quiet).fit(module)
        return {name: value.tolist() for name, value in module.state_dict().items()}, pruning.sparsity

    first, second = run_ranks(train)
    assert first == second
    assert min(first[1].values()) > 0.3


def test_masks_of_other_parameters_are_refused(fit, refusal, tmp_path):
    checkpoint = ModelCheckpoint(tmp_path)
    fit(ModelPruning(), checkpoint, max_epochs=1)
    assert refusal(ValueError, fit, ModelPruning(parameter_names=["bias"]), ckpt_path=checkpoint.best_model_path) == (
        "ModelPruning: the checkpoint has masks of 'layer.weight', which is not among what is pruned here: 'layer.bias'; prune "
        "the same parameters"
    )


def test_masks_may_stay_and_another_fit_can_start(fit):
    trainer = fit(ModelPruning(make_pruning_permanent=False))
    assert prune.is_pruned(trainer.module)
    trainer = fit(ModelPruning())
    assert not prune.is_pruned(trainer.module)
    trainer.fit(trainer.module)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"pruning_fn": "l1_unstructred"}, ValueError,
         "ModelPruning(pruning_fn='l1_unstructred'): expected one of 'l1_unstructured', 'random_unstructured', 'ln_structured', "
         "'random_structured'; did you mean 'l1_unstructured'?"),
        ({"pruning_fn": 3}, TypeError, "ModelPruning(pruning_fn=3): expected a name or a class derived from "
                                       "torch.nn.utils.prune.BasePruningMethod, got int 3"),
        ({"pruning_fn": "ln_structured"}, ValueError,
         "ModelPruning: 'ln_structured' prunes whole rows of one parameter; pass use_global_unstructured=False"),
        ({"pruning_fn": "ln_structured", "use_global_unstructured": False}, ValueError,
         "ModelPruning(pruning_fn='ln_structured'): say along which dimension, with pruning_dim=..."),
        ({"pruning_fn": "ln_structured", "use_global_unstructured": False, "pruning_dim": 0}, ValueError,
         "ModelPruning(pruning_fn='ln_structured'): say which norm, with pruning_norm=..."),
        ({"amount": 1.5}, ValueError, "ModelPruning(amount=1.5): expected a fraction from 0 to 1, an int or a function"),
        ({"verbose": 3}, ValueError, "ModelPruning(verbose=3): expected 0, 1 or 2"),
    ],
)  # fmt: skip
def test_wrong_pruning(options, kind, message, refusal):
    assert refusal(kind, ModelPruning, **options) == message


def test_nothing_to_prune(fit, refusal):
    assert refusal(ValueError, fit, ModelPruning(parameter_names=["wieght"])) == (
        "ModelPruning: no part of TinyModule has a parameter named 'wieght'"
    )
    module = TinyModule()
    assert refusal(ValueError, fit, ModelPruning(parameters_to_prune=[(module.layer, "wieght")]), module=module) == (
        "ModelPruning: 'layer' has no parameter 'wieght'; did you mean 'weight'?"
    )
    assert refusal(ValueError, fit, ModelPruning(parameters_to_prune=[(nn.Linear(2, 2), "weight")])) == (
        "ModelPruning: parameters_to_prune has a Linear that is no part of TinyModule"
    )


# ---- oom_microbatch ----


class Greedy(TinyModule):
    """Asks for more memory than there is when it is given more than ``most`` samples."""

    def __init__(self, most, in_backward=False):
        super().__init__()
        self.most, self.in_backward, self.sizes = most, in_backward, []
        self.handle = None

    def train_dataloader(self):
        return DataLoader(super().train_dataloader().dataset, batch_size=8)

    def training_step(self, batch, batch_idx):
        self.sizes.append(len(batch[0]))
        if self.handle is not None:
            self.handle.remove()
        loss = super().training_step(batch, batch_idx)
        self.log("epoch_loss", loss, on_step=False, on_epoch=True)
        if len(batch[0]) > self.most:
            if self.in_backward:
                self.handle = self.layer.bias.register_hook(self.allocate)
            else:
                self.allocate()
        return loss

    def allocate(self, *_):
        return torch.empty(2**60)


def gradients():
    found = []
    return found, LambdaCallback(
        on_before_optimizer_step=lambda trainer, module: found.append(module.layer.weight.grad.detach().clone())
    )


@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_micro_batch_is_halved_until_it_fits_with_the_gradients_of_the_whole(fit, capsys, in_backward, accumulate):
    module = Greedy(2, in_backward)
    whole = Greedy(8)
    whole.load_state_dict(module.state_dict())
    (parts, note), (all_at_once, other) = gradients(), gradients()
    callback = OOMMicrobatch()
    trainer = fit(callback, note, module=module, max_epochs=2, accumulate_grad_batches=accumulate)
    reference = fit(other, module=whole, max_epochs=2, accumulate_grad_batches=accumulate)
    assert module.sizes == [8, 4, *[2] * 16]
    assert callback.microbatch_size == 2
    assert trainer.global_step == reference.global_step == 4 // accumulate
    torch.testing.assert_close(parts, all_at_once)
    torch.testing.assert_close(module.layer.weight, whole.layer.weight)
    for key in ("train_loss", "epoch_loss"):
        torch.testing.assert_close(trainer.history[key], reference.history[key])
    assert "leyden: out of memory with 8 samples at once in step 0; now it is 4\n" in capsys.readouterr().err


def test_what_parts_log_is_what_the_whole_batch_would_have_logged(fit):
    class Logging(TinyModule):
        def train_dataloader(self):
            return DataLoader(RandomData(22), batch_size=5)

        def training_step(self, batch, batch_idx):
            x, _ = batch
            self.log("number", len(x), reduce_fx="sum", on_step=True, on_epoch=True)
            self.log("largest", x.max(), reduce_fx="max", on_step=True, on_epoch=True)
            self.log("smallest", x.min(), reduce_fx=torch.min, on_step=False, on_epoch=True)
            self.log("mean", x.mean(), on_step=True, on_epoch=True)
            self.log("own", x.mean().double(), batch_size=len(x), on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

    module = Logging()
    whole = copy.deepcopy(module)
    parts = fit(OOMMicrobatch(2), module=module, log_every_n_steps=1).history
    reference = fit(module=whole, log_every_n_steps=1).history
    assert reference["number_epoch"] == [22, 22]
    for key in reference:
        torch.testing.assert_close(parts[key], reference[key])


def test_parts_that_do_not_divide_the_batch_count_by_their_samples(fit):
    module = Greedy(8)
    whole = copy.deepcopy(module)
    losses = []
    note = LambdaCallback(on_train_batch_end=lambda outputs: losses.append(outputs["loss"]))
    fit(OOMMicrobatch(3), note, module=module)
    assert module.sizes == [3, 3, 2] * 4
    parts, losses[:] = list(losses), []
    fit(note, module=whole)
    torch.testing.assert_close(losses, parts)
    torch.testing.assert_close(module.layer.weight, whole.layer.weight)


def test_a_failed_attempt_draws_no_random_numbers(fit):
    class Random(Greedy):
        drawn = ()

        def training_step(self, batch, batch_idx):
            self.drawn = (*self.drawn, float(torch.rand(())))
            return super().training_step(batch, batch_idx)

    module = Random(4)
    fit(OOMMicrobatch(), module=module, max_epochs=1)
    assert module.drawn[0] == module.drawn[1] != module.drawn[2]


def test_it_starts_with_the_size_of_a_checkpoint(fit, tmp_path):
    trainer = fit(OOMMicrobatch(), module=Greedy(2), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    module = Greedy(2)
    fit(OOMMicrobatch(), module=module, ckpt_path=str(tmp_path / "saved.ckpt"))
    assert module.sizes == [2] * 8


def test_what_cannot_be_made_smaller_leaves_fit(fit, refusal):
    message = refusal(RuntimeError, fit, OOMMicrobatch(min_size=4), module=Greedy(2))
    assert "can't allocate memory" in message
    assert "not enough" in refusal(RuntimeError, fit, OOMMicrobatch(), LambdaCallback(on_after_backward=fail_otherwise))


def fail_otherwise():
    raise RuntimeError("not enough patience")


def test_batches_of_any_kind_are_taken_apart():
    from leyden_callbacks.oom_microbatch import _slice

    tensor = torch.arange(4)
    batch = {"x": (tensor, [tensor]), "names": ["a", "b", "c", "d"], "scale": 2, "table": torch.zeros(3, 4)}
    part = _slice(batch, 1, 3, 4)
    assert part["x"][0].tolist() == part["x"][1][0].tolist() == [1, 2]
    assert (part["names"], part["scale"], part["table"].shape) == (["b", "c"], 2, (3, 4))


def test_runs_that_cannot_train_on_parts(fit, refusal):
    class Manual(TinyModule):
        automatic_optimization = False

    class Two(TinyModule):
        def configure_optimizers(self):
            return [super().configure_optimizers(), torch.optim.Adam(self.parameters())]

    class Closure(TinyModule):
        def configure_optimizers(self):
            return torch.optim.LBFGS(self.parameters())

    class Weighted(TinyModule):
        def training_step(self, batch, batch_idx):
            return {"loss": super().training_step(batch, batch_idx), "loss_weight": 3}

    assert refusal(ValueError, fit, OOMMicrobatch(), module=Manual()) == (
        "OOMMicrobatch needs automatic optimization: it runs backward on parts of a batch itself"
    )
    needs = "OOMMicrobatch needs one optimizer that is stepped without a closure; "
    assert refusal(ValueError, fit, OOMMicrobatch(), module=Two()) == needs + "Two has SGD, Adam"
    assert refusal(ValueError, fit, OOMMicrobatch(), module=Closure()) == needs + "Closure has LBFGS"
    assert refusal(ValueError, fit, OOMMicrobatch(2), module=Weighted()) == (
        "OOMMicrobatch cannot train on parts of a batch whose training_step returns a 'loss_weight'"
    )
    own = Trainer(callbacks=[OOMMicrobatch(2)], accelerator="cpu", logger=False, enable_progress_bar=False,
                  enable_model_summary=False, enable_checkpointing=False)  # fmt: skip

    def loop():
        module = TinyModule()
        for batch in own.batches(module):
            own.step(module.training_step(batch, 0))

    assert refusal(ValueError, loop) == "OOMMicrobatch: trainer.batches() leaves the forward pass to you; use fit()"
    assert refusal(ValueError, OOMMicrobatch, 0) == "OOMMicrobatch(microbatch_size=0): expected an int of at least 1, got int 0"
