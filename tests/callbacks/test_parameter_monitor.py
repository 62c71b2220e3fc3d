"""Norms and histograms of what a module is made of."""

from __future__ import annotations

import math

import pytest
import torch
from leyden.testing import TinyModule
from leyden_callbacks import LambdaCallback, ParameterMonitor
from tensorboard.backend.event_processing.event_accumulator import HISTOGRAMS, EventAccumulator
from torch import nn


class Deep(TinyModule):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 8), nn.ReLU())

    def forward(self, x):
        return self.layer(self.backbone(x))


def norm(tensors, power=2.0):
    return float(torch.linalg.vector_norm(torch.cat([tensor.flatten() for tensor in tensors]), power))


def test_norms_are_those_of_the_steps_of_log_points(fit):
    found = {"grad_norm": [], "weight_norm": [], "update_norm": []}

    def before(trainer, module):
        module.before = [p.detach().clone() for p in module.parameters()]
        if trainer.global_step in (1, 3):
            found["grad_norm"].append(norm([p.grad for p in module.parameters()]))
            found["weight_norm"].append(norm(module.before))

    def after(trainer, module):
        if trainer.global_step in (2, 4):
            changed = [p.detach() - old for p, old in zip(module.parameters(), module.before, strict=True)]
            found["update_norm"].append(norm(changed))

    note = LambdaCallback(on_before_optimizer_step=before, on_train_batch_end=after)
    monitor = {"parameter_monitor": {"weights": True, "updates": True}}
    trainer = fit(note, monitor, module=Deep(), max_epochs=1, log_every_n_steps=2, gradient_clip_val=1e-3)
    for key, values in found.items():
        assert trainer.history[key] == pytest.approx(values), key
        assert trainer.history.steps(key) == [1, 3]
    ratios = [update / weight for update, weight in zip(found["update_norm"], found["weight_norm"], strict=True)]
    assert trainer.history["update_ratio"] == pytest.approx(ratios, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"depth": 1}, ["layer", "backbone"]),
        ({"depth": 2}, ["layer.weight", "layer.bias", "backbone.0"]),
        ({"depth": -1, "layers": ["backbone*"]}, ["backbone.0.weight", "backbone.0.bias"]),
        ({"layers": ["backbone*"]}, []),
    ],
)
def test_parts_of_the_module_have_norms_of_their_own(fit, options, parts):
    history = fit(ParameterMonitor(**options), module=Deep(), max_epochs=1, log_every_n_steps=1).history
    assert [key for key in history if key.startswith("grad_norm")] == ["grad_norm", *(f"grad_norm/{part}" for part in parts)]


def test_the_norms_of_parts_make_that_of_all(fit):
    history = fit(ParameterMonitor(depth=-1), module=Deep(), max_epochs=1, log_every_n_steps=1).history
    parts = [history[key] for key in history if key.startswith("grad_norm/")]
    assert history["grad_norm"] == pytest.approx([math.hypot(*values) for values in zip(*parts, strict=True)])


def test_the_largest_magnitude(fit):
    module = Deep()
    largest = []
    note = LambdaCallback(
        on_before_optimizer_step=lambda: largest.append(norm([p.grad for p in module.parameters()], math.inf)),
    )
    history = fit(note, ParameterMonitor(norm_type=float("inf")), module=module, max_epochs=1, log_every_n_steps=1).history
    assert history["grad_norm"] == pytest.approx(largest)


@pytest.mark.parametrize("automatic", [True, False])
def test_each_optimizer_has_its_keys(fit, automatic):
    class Two(TinyModule):
        automatic_optimization = automatic

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            if not automatic:
                for optimizer in self.optimizers():
                    optimizer.zero_grad()
                self.manual_backward(loss)
                for optimizer in self.optimizers():
                    optimizer.step()
            return loss

        def configure_optimizers(self):
            return [torch.optim.SGD([self.layer.weight], lr=0.1), torch.optim.SGD([self.layer.bias], lr=0.1)]

    trainer = fit(ParameterMonitor(depth=-1, updates=True), module=Two(), max_epochs=1, log_every_n_steps=1)
    keys = [key for key in trainer.history if key.startswith("grad_norm")]
    assert keys == ["grad_norm", "grad_norm/layer.weight", "grad_norm-1", "grad_norm-1/layer.bias"]
    assert "update_ratio-1/layer.bias" in trainer.history


def test_a_layer_in_eval_mode_has_activations_too(fit):
    class Frozen(Deep):
        def on_train_batch_start(self, batch, batch_idx):
            self.backbone.eval()

    history = fit(ParameterMonitor(activations=True), module=Frozen(), max_epochs=1, log_every_n_steps=1).history
    assert len(history["activation_rms/backbone.0"]) == 4


def test_activations_are_those_of_the_last_batch_of_the_step(fit):
    module = Deep()
    outputs = []

    def follow(layer, inputs, output):
        if layer.training:
            outputs.append(output.detach())

    module.backbone[1].register_forward_hook(follow)
    monitor = ParameterMonitor(gradients=False, activations=True, layers=["backbone.1"])
    history = fit(monitor, module=module, max_epochs=1, log_every_n_steps=2, accumulate_grad_batches=2).history
    last = outputs[3]
    assert history["activation_rms/backbone.1"] == pytest.approx([float(last.square().mean().sqrt())])
    assert history["activation_zeros/backbone.1"] == [float((last == 0).float().mean())]
    assert not [key for key in history if "backbone.0" in key]


@pytest.mark.parametrize("fails", [True, False])
def test_no_hook_stays_on_a_layer(fit, refusal, fails):
    def on_after_backward():
        assert module.layer._forward_hooks
        if fails:
            raise KeyError("no")

    module = Deep()
    callbacks = ParameterMonitor(activations=True), LambdaCallback(on_after_backward=on_after_backward)
    if fails:
        refusal(KeyError, fit, *callbacks, module=module, log_every_n_steps=1)
    else:
        fit(*callbacks, module=module, log_every_n_steps=1)
    assert not any(layer._forward_hooks for layer in module.modules())


def test_histograms_go_to_tensorboard_at_the_end_of_each_epoch(fit):
    module = Deep()
    monitor = ParameterMonitor(histograms=True, layers=["layer.*"])
    trainer = fit(monitor, module=module, logger="tensorboard")
    events = EventAccumulator(trainer.log_dir, size_guidance={HISTOGRAMS: 0})
    events.Reload()
    tags = [f"{kind}/layer.{name}" for name in ("weight", "bias") for kind in ("weight", "gradient")]
    assert sorted(events.Tags()["histograms"]) == sorted(tags)
    written = events.Histograms("weight/layer.bias")
    assert [event.step for event in written] == [4, 8]
    assert written[-1].histogram_value.max == pytest.approx(module.layer.bias.max().item())


def test_what_is_not_finite_has_no_histogram(fit):
    class Broken(Deep):
        def on_train_epoch_end(self):
            self.backbone[0].bias.data[0] = math.nan

    trainer = fit(ParameterMonitor(histograms=True), module=Broken(), logger="tensorboard", nan_policy="off")
    events = EventAccumulator(trainer.log_dir, size_guidance={HISTOGRAMS: 0})
    events.Reload()
    assert [event.step for event in events.Histograms("weight/backbone.0.bias")] == [4]


def test_a_logger_without_histograms(fit, refusal):
    message = (
        "ParameterMonitor(histograms=True): no logger of this Trainer has an experiment with add_histogram; pass "
        "Trainer(logger='tensorboard')"
    )
    assert refusal(ValueError, fit, ParameterMonitor(histograms=True), logger="csv") == message
    fit(ParameterMonitor(histograms=True), fast_dev_run=True)


def test_compiled_steps_have_no_activations(fit, refusal):
    assert refusal(ValueError, fit, ParameterMonitor(activations=True), compile={"backend": "eager"}) == (
        "ParameterMonitor(activations=True) cannot look into compiled steps; leave it out, or Trainer(compile=...)"
    )


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"gradients": False}, ValueError,
         "ParameterMonitor(gradients=False) records nothing; switch something on: gradients, weights, updates, activations, "
         "histograms"),
        ({"weights": 1}, TypeError, "ParameterMonitor(weights=1): expected True or False, got int 1"),
        ({"depth": -2}, ValueError, "ParameterMonitor(depth=-2): expected an int of at least -1, got int -2"),
        ({"norm_type": "2"}, TypeError, "ParameterMonitor(norm_type='2'): expected a number of at least 0, got str '2'"),
        ({"layers": "a*"}, TypeError,
         "ParameterMonitor(layers='a*'): expected a list of patterns such as ['encoder.*'], got str 'a*'"),
    ],
)  # fmt: skip
def test_wrong_monitors(options, kind, message, refusal):
    assert refusal(kind, ParameterMonitor, **options) == message
