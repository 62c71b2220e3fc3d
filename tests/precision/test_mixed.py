"""Training under autocast, with and without a gradient scaler, against the loop written by hand."""

from __future__ import annotations

import math

import pytest
import torch
from leyden import Callback, Trainer
from leyden.testing import RandomData, TinyModule
from leyden_precision import FP16MixedPrecision, MixedPrecision
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader


class Overflowing(TinyModule):
    """Gradients are infinite on the batches given, counted from 0 over all epochs."""

    def __init__(self, overflows=(), optimizer="SGD", **options):
        super().__init__()
        self.overflows = set(overflows)
        self.seen = 0
        self.make_optimizer = lambda: getattr(torch.optim, optimizer)(self.parameters(), **options)

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def loss(self, batch):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        if self.seen in self.overflows:
            loss = loss * float("inf")
        self.seen += 1
        return loss

    def configure_optimizers(self):
        return self.make_optimizer()


def built(*args, **options):
    torch.manual_seed(0)
    return Overflowing(*args, **options)


def trainer(root, precision, **options):
    return Trainer(
        accelerator="cpu", precision=precision, default_root_dir=root, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **{"max_epochs": 3, "limit_val_batches": 0, **options},
    )  # fmt: skip


def by_hand(module, dtype, *, scaled, epochs=3, clip=None):
    """The loop of torch's documentation; returns the scaler."""
    optimizer = module.configure_optimizers()
    scaler = torch.amp.GradScaler("cpu", enabled=scaled)
    for _ in range(epochs):
        for batch in DataLoader(RandomData(16), batch_size=4):
            with torch.autocast("cpu", dtype):
                loss = module.loss(batch)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            if clip:
                torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
            scaler.step(optimizer)
            scaler.update()
    return scaler


def assert_same_weights(one, other):
    for (name, found), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(found, expected), name


OPTIMIZERS = {
    "sgd": {"optimizer": "SGD", "lr": 0.1, "momentum": 0.9},
    "adamw": {"optimizer": "AdamW", "lr": 0.1},
    "fused adamw": {"optimizer": "AdamW", "lr": 0.1, "fused": True},
}


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
@pytest.mark.parametrize(("name", "dtype"), [("16-mixed", torch.float16), ("bf16-mixed", torch.bfloat16)])
def test_training_gives_the_bits_of_a_loop_written_by_hand(tmp_path, name, dtype, options, clip):
    ours, theirs = built(**options), built(**options)
    trainer(tmp_path, name, gradient_clip_val=clip).fit(ours)
    by_hand(theirs, dtype, scaled=name == "16-mixed", clip=clip)
    assert_same_weights(ours, theirs)


@pytest.mark.parametrize("options", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
def test_overflows_give_the_bits_and_the_scale_of_a_loop_written_by_hand(tmp_path, options):
    ours, theirs = built([0, 5, 6], **options), built([0, 5, 6], **options)
    run = trainer(tmp_path, "16-mixed")
    run.fit(ours)
    scaler = by_hand(theirs, torch.float16, scaled=True)
    assert_same_weights(ours, theirs)
    assert run.precision.state_dict() == scaler.state_dict()


def test_a_skipped_step_moves_neither_global_step_nor_scheduler(tmp_path):
    class Scheduled(Overflowing):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            self.scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
            return [optimizer], [{"scheduler": self.scheduler, "interval": "step"}]

    class Watch(Callback):
        seen = ()

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.seen += ((trainer.global_step, module.scheduler.last_epoch),)

    torch.manual_seed(0)
    module, watch = Scheduled([0, 2], lr=1.0), Watch()
    run = trainer(tmp_path, "16-mixed", max_epochs=1, callbacks=[watch])
    run.fit(module)
    assert watch.seen == ((0, 0), (1, 1), (1, 1), (2, 2))
    assert run.optimizers[0].param_groups[0]["lr"] == 0.25


def test_an_epoch_of_skipped_steps_does_not_move_a_scheduler_of_epochs(tmp_path):
    class Scheduled(Overflowing):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)]

    torch.manual_seed(0)
    run = trainer(tmp_path, "16-mixed", max_epochs=2)
    run.fit(Scheduled(range(4), lr=1.0))
    assert run.global_step == 4


def test_a_fused_optimizer_counts_every_step_as_taken(tmp_path):
    run = trainer(tmp_path, "16-mixed", max_epochs=1)
    run.fit(built([1], optimizer="AdamW", fused=True))
    assert run.global_step == 4


class Reads(TorchDispatchMode):
    """Counts values read from the device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("options", "reads"), [({}, 1), ({"fused": True}, 0)], ids=["sgd", "fused sgd"])
def test_a_step_reads_no_more_from_the_device_than_the_scaler_does(options, reads):
    module = built(lr=0.1, **options)
    optimizer = module.configure_optimizers()
    precision = FP16MixedPrecision()
    precision.check([optimizer], "cpu")
    batch = next(iter(DataLoader(RandomData(16), batch_size=4)))
    for _ in range(3):
        loss = precision.wrap_step(module.loss, "cpu")(batch)
        with Reads() as counted:
            optimizer.zero_grad()
            precision.backward(loss)
            precision.unscale(optimizer)
            assert precision.step(optimizer)
        assert counted.count == reads


def test_hooks_see_gradients_unscaled(tmp_path):
    class Watch(Callback):
        largest = 0.0

        def on_before_optimizer_step(self, trainer, module, optimizer):
            self.largest = max(self.largest, *[p.grad.abs().max().item() for p in module.parameters()])

    watch = Watch()
    trainer(tmp_path, "16-mixed", callbacks=[watch]).fit(built(lr=0.1))
    assert 0 < watch.largest < 10


def test_accumulated_gradients_are_unscaled_once(tmp_path):
    ours, theirs = built(lr=0.1), built(lr=0.1)
    trainer(tmp_path, "16-mixed", max_epochs=1, accumulate_grad_batches=2).fit(ours)
    optimizer, scaler = theirs.configure_optimizers(), torch.amp.GradScaler("cpu")
    for index, batch in enumerate(DataLoader(RandomData(16), batch_size=4)):
        with torch.autocast("cpu", torch.float16):
            loss = theirs.loss(batch)
        if index % 2 == 0:
            optimizer.zero_grad()
        scaler.scale(loss / 2).backward()
        if index % 2 == 1:
            scaler.step(optimizer)
            scaler.update()
    assert_same_weights(ours, theirs)


def test_the_scale_is_in_the_checkpoint_and_comes_back(tmp_path):
    straight, first, resumed = (built([1, 6], lr=0.1, momentum=0.9) for _ in range(3))
    trainer(tmp_path, "16-mixed", max_epochs=2).fit(straight)
    run = trainer(tmp_path, "16-mixed", max_epochs=1)
    run.fit(first)
    run.save_checkpoint(tmp_path / "first.ckpt")
    saved = torch.load(tmp_path / "first.ckpt", weights_only=True)["leyden"]["precision"]
    assert (saved["scale"], saved["_growth_tracker"]) == (32768.0, 2)
    resumed.seen = 4
    again = trainer(tmp_path, "16-mixed", max_epochs=2)
    again.fit(resumed, ckpt_path=tmp_path / "first.ckpt")
    assert again.precision.state_dict()["scale"] == 16384.0
    assert_same_weights(resumed, straight)


def test_two_optimizers_stepped_after_their_backwards_divide_by_the_same_scale(tmp_path):
    class Two(TinyModule):
        automatic_optimization = False

        def __init__(self):
            super().__init__()
            self.other = torch.nn.Linear(8, 2)

        def losses(self, batch, index):
            x, y = batch
            factor = float("inf") if index == 0 else 1.0
            return F.cross_entropy(self.layer(x), y) * factor, F.cross_entropy(self.other(x), y)

        def training_step(self, batch, batch_idx):
            optimizers = self.optimizers()
            for optimizer, loss in zip(optimizers, self.losses(batch, batch_idx), strict=True):
                optimizer.zero_grad()
                self.manual_backward(loss)
            for optimizer in optimizers:
                optimizer.step()

        def configure_optimizers(self):
            return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.layer, self.other)]

    torch.manual_seed(0)
    ours = Two()
    torch.manual_seed(0)
    theirs = Two()
    trainer(tmp_path, "16-mixed", max_epochs=1).fit(ours)
    optimizers, scaler = theirs.configure_optimizers(), torch.amp.GradScaler("cpu")
    for index, batch in enumerate(DataLoader(RandomData(16), batch_size=4)):
        with torch.autocast("cpu", torch.float16):
            losses = theirs.losses(batch, index)
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            scaler.scale(loss).backward()
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()
    assert_same_weights(ours, theirs)


class Clipping(TinyModule):
    """Clips in manual optimization, and leaves out the second step."""

    automatic_optimization = False
    clear = True
    set_to_none = True

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        if self.clear or batch_idx != 2:
            optimizer.zero_grad(set_to_none=self.set_to_none)
        self.manual_backward(super().training_step(batch, batch_idx))
        self.clip_gradients(optimizer, 100.0)
        if batch_idx != 1:
            optimizer.step()


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_that_were_unscaled_for_no_step_are_scaled_anew_by_the_next_backward(tmp_path, set_to_none):
    found = []
    start = Clipping().state_dict()
    for precision in ("16-mixed", "bf16-mixed"):
        module = Clipping()
        module.load_state_dict(start)
        module.set_to_none = set_to_none
        trainer(tmp_path, precision, max_epochs=1).fit(module)
        found.append(module.layer.weight)
    torch.testing.assert_close(*found, rtol=0.1, atol=0.02)


def test_gradients_that_a_backward_adds_to_unscaled_ones_are_an_error(tmp_path):
    module = Clipping()
    module.clear = False
    with pytest.raises(RuntimeError) as error:
        trainer(tmp_path, "16-mixed", max_epochs=1).fit(module)
    assert str(error.value) == (
        "precision='16-mixed': the gradients of SGD were unscaled, as by self.clip_gradients(), and then a backward added scaled "
        "ones to them; clip right before the step, or clear them with zero_grad() before the backward"
    )


def test_a_step_that_nan_policy_skips_costs_no_other(tmp_path):
    class Sometimes(TinyModule):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) * (math.nan if batch_idx == 1 else 1.0)

    run = trainer(tmp_path, "16-mixed", max_epochs=1, nan_policy="skip")
    run.fit(Sometimes())
    assert (run.global_step, run.progress.skipped_steps) == (3, 1)
    assert run.precision.scaler.get_scale() == 2.0**16


def test_backward_without_the_scaler_is_an_error(tmp_path):
    class Unscaled(TinyModule):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            x, y = batch
            F.cross_entropy(self(x), y).backward()
            self.optimizers().step()

    with pytest.raises(RuntimeError) as caught:
        trainer(tmp_path, "16-mixed").fit(Unscaled())
    assert str(caught.value) == (
        "precision='16-mixed': SGD is to be stepped, but there was no scaled backward since the start; call "
        "self.manual_backward(loss) in place of loss.backward(), once for each step"
    )


def test_an_optimizer_that_evaluates_the_loss_itself_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="LBFGS") as caught:
        trainer(tmp_path, "16-mixed").fit(built(optimizer="LBFGS"))
    assert str(caught.value) == (
        "precision='16-mixed': LBFGS evaluates the loss several times in one step, which a gradient scaler cannot follow; use "
        "precision='bf16-mixed' or '32-true' (optimizer 0)"
    )


def test_an_optimizer_of_another_package_trains_with_the_scaler(tmp_path):
    class Theirs(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    ours, expected = built([1], lr=0.1), built([1], lr=0.1)
    ours.make_optimizer = lambda: Theirs(ours.parameters(), lr=0.1)
    run = trainer(tmp_path, "16-mixed", max_epochs=1)
    run.fit(ours)
    by_hand(expected, torch.float16, scaled=True, epochs=1)
    assert_same_weights(ours, expected)
    assert run.global_step == 3


def test_a_batch_without_a_loss_is_no_step_for_an_optimizer_of_another_package(tmp_path):
    class Theirs(torch.optim.SGD):
        pass

    class Skipping(Overflowing):
        def training_step(self, batch, batch_idx):
            return None if batch_idx % 2 else super().training_step(batch, batch_idx)

    torch.manual_seed(0)
    ours = Skipping(lr=0.1)
    torch.manual_seed(0)
    expected = Skipping(lr=0.1)
    ours.make_optimizer = lambda: Theirs(ours.parameters(), lr=0.1)
    run = trainer(tmp_path, "16-mixed", max_epochs=1)
    run.fit(ours)
    trainer(tmp_path, "16-mixed", max_epochs=1).fit(expected)
    assert_same_weights(ours, expected)
    assert run.global_step == 2


def test_the_scale_goes_on_in_a_second_run(tmp_path):
    run = trainer(tmp_path, "16-mixed", max_epochs=1)
    run.fit(built([0], lr=0.1))
    run.fit(built(lr=0.1))
    assert run.precision.state_dict()["scale"] == 32768.0


def test_a_run_that_failed_in_the_middle_of_a_step_leaves_nothing_behind(tmp_path):
    class Watch(Callback):
        breaks = True

        def __init__(self):
            self.largest = []

        def on_before_optimizer_step(self, trainer, module, optimizer):
            self.largest.append(max(p.grad.abs().max().item() for p in module.parameters()))
            if self.breaks:
                raise KeyError("in the middle of a step")

    module, watch = built(lr=0.1), Watch()
    optimizer = module.configure_optimizers()
    module.make_optimizer = lambda: optimizer
    run = trainer(tmp_path, "16-mixed", max_epochs=1, callbacks=[watch])
    with pytest.raises(KeyError):
        run.fit(module)
    watch.breaks = False
    run.fit(module)
    assert len(watch.largest) == 5
    assert max(watch.largest) < 10


def test_an_overridden_optimizer_step_trains_with_the_scaler_and_a_scheduler(tmp_path):
    class Warm(Overflowing):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
            optimizer.step(closure=optimizer_closure)

        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return [optimizer], [torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)]

    torch.manual_seed(0)
    ours, expected = Warm([1], lr=0.1), built([1], lr=0.1)
    run = trainer(tmp_path, "16-mixed", max_epochs=2)
    run.fit(ours)
    by_hand(expected, torch.float16, scaled=True, epochs=2)
    assert_same_weights(ours, expected)
    assert run.global_step == 7


def test_frozen_parameters_train_nothing_and_fail_nothing(tmp_path):
    class Frozen(TinyModule):
        def __init__(self):
            super().__init__()
            self.other = torch.nn.Parameter(torch.ones(2))

        def configure_optimizers(self):
            return torch.optim.SGD([self.other], lr=0.1)

    module = Frozen()
    trainer(tmp_path, "16-mixed").fit(module)
    assert module.other.tolist() == [1.0, 1.0]


def test_steps_run_under_autocast_in_every_stage(tmp_path):
    class Watching(TinyModule):
        def __init__(self):
            super().__init__()
            self.seen = set()

        def forward(self, x):
            logits = super().forward(x)
            self.seen.add((self.trainer.stage, logits.dtype))
            return logits

    module, run = Watching(), trainer(tmp_path, "bf16-mixed", max_epochs=1)
    run.fit(module)
    run.validate(module, verbose=False)
    run.test(module, verbose=False)
    run.predict(module)
    assert module.seen == {(stage, torch.bfloat16) for stage in ("fit", "validate", "test", "predict")} - {
        ("validate", torch.bfloat16)  # limit_val_batches=0
    }


def test_a_format_that_autocast_does_not_know_is_refused(tmp_path):
    class Double(MixedPrecision):
        name = "64-mixed"
        dtype = torch.float64

    with pytest.raises(ValueError, match="autocast") as caught:
        trainer(tmp_path, Double()).fit(TinyModule())
    assert str(caught.value) == (
        "precision='64-mixed': torch.autocast cannot compute in torch.float64 on device type 'cpu' (In CPU autocast, but the "
        "target dtype is not supported. Disabling autocast.); use precision='32-true'"
    )


@pytest.mark.parametrize("policy", ["stop", "skip", "strict"])
def test_an_overflow_of_scaled_gradients_is_the_scalers_business_under_every_nan_policy(tmp_path, policy):
    class Steep(TinyModule):
        def training_step(self, batch, batch_idx):
            return (self(batch[0]) * 100.0).float().mean()  # times the first scale of 65536 it is more than float16 holds

    runs = []
    for chosen in ("off", policy):
        torch.manual_seed(0)
        run = trainer(tmp_path, "16-mixed", nan_policy=chosen)
        run.fit(Steep())
        runs.append((run.progress.skipped_steps, run.global_step, run.precision.state_dict()))
    assert runs[0] == runs[1]
    assert runs[0][0] > 0
    assert runs[0][1] > 0
