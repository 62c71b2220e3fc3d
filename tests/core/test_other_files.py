"""Checkpoints of other programs and of older versions: Lightning's, and leyden's own of format 1.

The files are in tests/data. Each holds a network of 2, 4 and 1 units after two training steps (one: three) of the run below,
which Lightning carried on to the weights in ``FINISHED``.
"""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from leyden import Callback, Module, Trainer, load_weights
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.usefixtures("core_alone")

DATA = Path(__file__).parent.parent / "data"
LIGHTNING = ["pytorch-lightning-1.9.5.ckpt", "lightning-2.6.6.ckpt"]
# What Lightning 1.9.5 and 2.6.6 had at the end of the run of two epochs, from its own log.
FINISHED = [[-0.28728750348091125, -0.15490470826625824, -0.1649239957332611, 0.4473368525505066]]


class Net(Module):
    def __init__(self, hidden=3, lr=0.01, name="b"):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.mse_loss(self.net(x), y)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


class FromNamespace(Net):
    def __init__(self, config):
        Module.__init__(self)
        self.save_hyperparameters(config)
        self.config = config
        self.net = nn.Sequential(nn.Linear(2, config.hidden), nn.Tanh(), nn.Linear(config.hidden, 1))


def data():
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4)


@pytest.mark.parametrize("file", LIGHTNING)
def test_a_module_is_built_from_lightnings_file(file):
    loaded = Net.load_from_checkpoint(DATA / file)
    assert dict(loaded.hparams) == {"hidden": 4, "lr": 0.01, "name": "a"}
    saved = torch.load(DATA / file, weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in loaded.state_dict().items())
    assert Net.load_from_checkpoint(DATA / file, lr=0.5).hparams.lr == 0.5


@pytest.mark.parametrize(
    ("file", "epoch", "batches"), [(LIGHTNING[0], 1, 2), (LIGHTNING[1], 1, 2), ("lightning-2.6.6-inside-an-epoch.ckpt", 1, 1)]
)
def test_training_goes_on_from_lightnings_file_to_what_lightning_had(file, epoch, batches):
    seen = []

    class Sees(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            seen.append((trainer.current_epoch, batch_idx, trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]))

    module = Net(hidden=4)
    trainer = Trainer(max_epochs=2, callbacks=[Sees()])
    trainer.fit(module, data(), ckpt_path=DATA / file)
    assert seen == [(epoch, 2 - batches + i, 4 - batches + i, 0.005) for i in range(batches)]
    assert (trainer.current_epoch, trainer.global_step) == (2, 4)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.0025
    torch.testing.assert_close(module.net[2].weight, torch.tensor(FINISHED), rtol=0, atol=1e-7)


@pytest.mark.parametrize("file", LIGHTNING)
def test_weights_and_the_optimizers_state_come_from_lightnings_file(file):
    part = nn.ModuleDict({"first": nn.Linear(2, 4), "last": nn.Linear(4, 3)})
    optimizer = torch.optim.Adam(part.parameters())
    load_weights(part, DATA / file, include="net.0", rename={"net.0": "first"}, optimizers=optimizer)
    saved = torch.load(DATA / file, weights_only=True)
    assert torch.equal(optimizer.state[part["first"].weight]["exp_avg"], saved["optimizer_states"][0]["state"][0]["exp_avg"])
    assert not optimizer.state[part["last"].weight]


def test_a_file_of_two_optimizers_counts_training_steps():
    checkpoint = torch.load(DATA / LIGHTNING[1], weights_only=True)
    checkpoint["global_step"] *= 2
    checkpoint["optimizer_states"] *= 2
    checkpoint["lr_schedulers"] = []
    torch.save(checkpoint, "two.ckpt")

    class Two(Net):
        def configure_optimizers(self):
            return [torch.optim.Adam(self.parameters()), torch.optim.Adam(self.parameters())]

    trainer = Trainer(max_epochs=1)
    trainer.fit(Two(hidden=4), data(), ckpt_path="two.ckpt")
    assert (trainer.current_epoch, trainer.global_step, trainer.progress.optimizer_steps) == (1, 2, [2, 2])


def test_an_older_file_of_leyden_still_loads():
    loaded = FromNamespace.load_from_checkpoint(DATA / "leyden-format-1.ckpt")
    assert loaded.config == Namespace(hidden=4, lr=0.01, name="a")
    torch.testing.assert_close(loaded.net[2].weight, torch.tensor(FINISHED), rtol=0, atol=1e-7)
    trainer = Trainer(max_epochs=2)
    trainer.fit(loaded, data(), ckpt_path=DATA / "leyden-format-1.ckpt")
    assert (trainer.current_epoch, trainer.global_step) == (2, 4)


def test_a_newer_format_is_refused():
    checkpoint = torch.load(DATA / "leyden-format-1.ckpt", weights_only=True)
    checkpoint["leyden"].update(format=99, version="9.1")
    torch.save(checkpoint, "new.ckpt")
    for way in (
        lambda: Trainer().fit(Net(), data(), ckpt_path="new.ckpt"),
        lambda: Net.load_from_checkpoint("new.ckpt"),
        lambda: load_weights(Net(), "new.ckpt"),
    ):
        with pytest.raises(
            ValueError, match=r"'new.ckpt' has format 99, written by leyden 9.1; this leyden reads formats up to \d: update it"
        ):
            way()


def test_our_weights_load_in_plain_torch_where_leyden_is_not_installed():
    Trainer(max_epochs=1).fit(module := Net(hidden=4), data())
    module.trainer.save_checkpoint("run.ckpt")
    code = (
        "import sys; sys.modules['leyden'] = None; import torch; from torch import nn\n"
        "net = nn.ModuleDict({'net': nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))})\n"
        "checkpoint = torch.load('run.ckpt', weights_only=True)\n"
        "print(net.load_state_dict(checkpoint['state_dict']))\n"
        "optimizer = torch.optim.Adam(net.parameters()); optimizer.load_state_dict(checkpoint['optimizer_states'][0])\n"
        "print(optimizer.state[net['net'][0].bias]['step'], checkpoint['hyper_parameters'])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "<All keys matched successfully>\ntensor(2.) {'hidden': 4, 'lr': 0.01, 'name': 'b'}\n"
