"""Activations that are computed twice in place of being kept."""

from __future__ import annotations

import copy

import pytest
import torch
from leyden.testing import TinyModule
from leyden_callbacks import EMA, ActivationCheckpointing, LambdaCallback
from torch import nn


class Deep(TinyModule):
    def __init__(self, norm=False):
        super().__init__()
        self.calls = []
        self.blocks = nn.ModuleList(Block(self.calls, norm) for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.layer(x)


class Block(nn.Module):
    def __init__(self, calls, norm):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.dropout = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.calls = calls

    def forward(self, x, scale=1.0):
        self.calls.append(torch.is_grad_enabled())
        return x + scale * self.norm(self.dropout(self.linear(x).tanh()))


def kept(fit, module, *callbacks):
    """The number of values that a training step keeps for backward."""
    sizes = []

    def pack(tensor):
        sizes.append(tensor.numel())
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    note = LambdaCallback(
        on_train_batch_start=lambda t, m, b, i: hooks.__enter__() and None,
        on_before_backward=lambda: hooks.__exit__(None, None, None),
    )
    fit(note, *callbacks, module=module, max_steps=1, limit_val_batches=0)
    return sum(sizes)


def test_gradients_and_weights_are_the_same_to_the_bit_and_less_is_kept(fit):
    plain = Deep()
    module, weighed = copy.deepcopy(plain), copy.deepcopy(plain)
    callback = ActivationCheckpointing(["blocks.*"])
    fit(module=plain)
    fit(callback, module=module)
    assert callback.checkpointed == ["blocks.0", "blocks.1", "blocks.2"]
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), module.parameters(), strict=True))
    assert sum(module.calls) == 2 * sum(plain.calls) > 0  # with gradients: in training only
    assert module.calls.count(False) == plain.calls.count(False) > 0
    assert kept(fit, weighed, {"activation_checkpointing": {"layers": ["blocks.*"]}}) < kept(fit, weighed) / 2


@pytest.mark.parametrize("fails", [True, False])
def test_the_layers_are_as_before_when_the_fit_is_over(fit, refusal, fails):
    def fail():
        raise KeyError("no")

    module = Deep()
    own = module.blocks[1].forward
    module.blocks[1].forward = lambda x: own(x)
    before = [dict(vars(layer)) for layer in module.modules()]
    callbacks = [ActivationCheckpointing(["blocks.*"])]
    if fails:
        refusal(KeyError, fit, *callbacks, LambdaCallback(on_after_backward=fail), module=module)
    else:
        fit(*callbacks, module=module)
    for layer, attributes in zip(module.modules(), before, strict=True):
        assert vars(layer).get("forward") is attributes.get("forward")
    fit(module=module)


def test_an_average_is_validated_beside_it_and_a_checkpoint_has_plain_weights(fit, tmp_path):
    module = Deep()
    trainer = fit(EMA(0.5, validate=True), ActivationCheckpointing(["blocks.[01]"]), module=module)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    Deep.load_from_checkpoint(tmp_path / "saved.ckpt")


def test_it_works_in_compiled_steps(fit):
    class Plain(TinyModule):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(8, 8), nn.Tanh())

        def forward(self, x):
            return self.layer(self.block(x))

    plain = Plain()
    module = copy.deepcopy(plain)
    fit(module=plain, max_epochs=1)
    fit(ActivationCheckpointing(["block"]), module=module, compile={"backend": "aot_eager"}, max_epochs=1)
    torch.testing.assert_close(dict(module.named_parameters()), dict(plain.named_parameters()))


def test_the_outline_says_of_how_many_layers(fit, capsys):
    fit(ActivationCheckpointing(["blocks.[01]"]), module=Deep(), enable_model_summary=True)
    assert "computes the activations of 2 layers again in backward" in capsys.readouterr().err


def test_layers_that_cannot_be(fit, refusal):
    assert refusal(ValueError, fit, ActivationCheckpointing(["block.*"]), module=Deep()).startswith(
        "ActivationCheckpointing(layers=...): no layer matches 'block.*'; did you mean 'blocks"
    )
    assert refusal(ValueError, fit, ActivationCheckpointing(["blocks"]), module=Deep(norm=True)) == (
        "ActivationCheckpointing(layers=...): 'blocks' has batch normalization, which would count each batch twice; choose "
        "layers without"
    )
    expected = "expected a list of patterns such as ['encoder.layers.*']"
    assert refusal(TypeError, ActivationCheckpointing, "blocks") == (
        f"ActivationCheckpointing(layers='blocks'): {expected}, got str 'blocks'"
    )
    assert refusal(ValueError, ActivationCheckpointing, []) == f"ActivationCheckpointing(layers=[]): {expected}, got list []"
