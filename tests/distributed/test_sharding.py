"""A strategy that shards parameters over processes: what the base class leaves room for, with torch's FSDP2 as the engine."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import leyden as ly
import pytest
import torch
import torch.distributed.checkpoint as dcp
from leyden.data.transfer import apply_to_tensors
from leyden.testing import run_ranks
from leyden_strategies import ProcessesStrategy
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

ROUNDING = 1e-5


class Shard:
    """Where a tensor lies in a sharded checkpoint."""

    def __init__(self, path: str, key: str) -> None:
        self.path, self.key = path, key

    def read_into(self, tensor: Any) -> None:
        dcp.load({self.key: tensor}, checkpoint_id=self.path)


class ShardedIO(ly.CheckpointIO):
    """A directory: each process writes its shards by ``torch.distributed.checkpoint``, rank 0 the rest as an ordinary file."""

    name = "sharded"

    def save(self, checkpoint, path):
        shards = {}

        def put_aside(value, key):
            if isinstance(value, DTensor):
                shards[key] = value
                return {"shard": key}
            if isinstance(value, dict):
                return {name: put_aside(item, f"{key}.{name}") for name, item in value.items()}
            return [put_aside(item, f"{key}.{i}") for i, item in enumerate(value)] if isinstance(value, list) else value

        rest = put_aside(checkpoint, "")
        dcp.save(shards, checkpoint_id=path)
        if torch.distributed.get_rank() == 0:
            super().save(rest, Path(path) / "rest.ckpt")

    def load(self, path, map_location="cpu"):
        def find(value):
            if isinstance(value, dict):
                return Shard(str(path), value["shard"]) if value.keys() == {"shard"} else {k: find(v) for k, v in value.items()}
            return [find(item) for item in value] if isinstance(value, list) else value

        return find(super().load(Path(path) / "rest.ckpt", map_location))

    def checksum(self, path):
        return super().checksum(Path(path) / "rest.ckpt")

    def verify(self, path):
        super().verify(Path(path) / "rest.ckpt")

    def remove(self, path):
        shutil.rmtree(path, ignore_errors=True)


class ShardedStrategy(ProcessesStrategy):
    """Each process has a part of every parameter, its gradient and its optimizer state.

    Args:
        meta: whether ``configure_model`` allocates nothing, for weights that come from a checkpoint.
        gathers: whether a checkpoint has whole tensors, written by rank 0, or the shards, written by everybody.
    """

    name = "toy_sharded"

    def __init__(self, meta: bool = False, gathers: bool = True) -> None:
        super().__init__()
        self.meta = meta
        self.gathers = gathers
        self.loads_after_setup = True

    def check_precision(self, precision):
        if "scaler" in vars(precision):
            raise ValueError(
                f"strategy={self.name!r} cannot train with precision={precision.name!r}: each process would find overflows in "
                f"its own shards only; use precision='bf16-mixed'"
            )

    def module_context(self):
        return torch.device("meta") if self.meta else nullcontext()

    def setup(self, module, precision):
        mesh = init_device_mesh("cpu", (self.world_size,))
        for layer in module.net:
            fully_shard(layer, mesh=mesh)
        fully_shard(module.net, mesh=mesh)
        if self.meta:
            module.to_empty(device=self.device)

    @property
    def writes_checkpoint(self):
        return self.rank == 0 or not self.gathers

    def module_state(self, module):
        return self._gathered(module.state_dict())

    def load_module_state(self, module, state, strict=True):
        own = module.state_dict()
        assert own.keys() == state.keys()
        for name, tensor in own.items():
            self._put(state[name], tensor)

    def optimizer_state(self, optimizer):
        return self._gathered(optimizer.state_dict())

    def load_optimizer_state(self, optimizer, state):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

        def shard(value, parameter):
            if isinstance(value, Shard) or (isinstance(value, torch.Tensor) and value.shape == parameter.shape):
                sharded = torch.zeros_like(parameter.detach())
                self._put(value, sharded)
                return sharded
            return value

        found = {
            index: {name: shard(value, parameters[index]) for name, value in values.items()}
            for index, values in state["state"].items()
        }
        optimizer.load_state_dict({**state, "state": found})

    def _gathered(self, state):
        if not self.gathers:
            return state
        return apply_to_tensors(state, lambda value: value.full_tensor() if isinstance(value, DTensor) else value)

    @torch.no_grad()
    def _put(self, value, into):
        if isinstance(value, Shard):
            value.read_into(into)
        else:
            into.copy_(distribute_tensor(value, into.device_mesh, into.placements))


class Wide(ly.Module):
    """Builds its layers late, as large modules do."""

    def __init__(self) -> None:
        super().__init__()
        self.net: Any = None

    def configure_model(self):
        if self.net is None:
            torch.manual_seed(3)
            self.net = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2))
            self.built_on = self.net[0].weight.device.type

    def training_step(self, batch, batch_idx):
        loss = (self.net(batch) ** 2).mean()
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


class Look(ly.Callback):
    """What a process has at the end of a training, when it can still talk to the others."""

    def on_train_end(self, trainer, module):
        self.local = sum(p.to_local().numel() for p in module.parameters())
        self.whole = {name: p.full_tensor().detach().tolist() for name, p in module.named_parameters()}


def batches(seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, generator=generator) for _ in range(6)]


DATA = [batches(0), batches(1)]
TOGETHER = [torch.cat(pair) for pair in zip(*DATA, strict=True)]


def train(ranked, environment, strategy=None, ckpt_path=None, callbacks=(), **options):
    look, module = Look(), Wide()
    strategy = strategy or ShardedStrategy()
    trainer = ranked(environment, strategy=strategy, callbacks=[*callbacks, look], gradient_clip_val=0.5, **options)
    trainer.fit(module, DATA[environment.rank], ckpt_path=ckpt_path)
    return look, module, trainer


def alone(root, epochs, ckpt_path=None):
    module = Wide()
    trainer = ly.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, default_root_dir=root, logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, gradient_clip_val=0.5,
    )  # fmt: skip
    trainer.fit(module, TOGETHER, ckpt_path=ckpt_path)
    return {name: p.detach().tolist() for name, p in module.named_parameters()}, trainer


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(values), atol=ROUNDING, rtol=0)


def test_shards_train_as_one_process_does(ranked, tmp_path):
    def run(environment):
        look, _, trainer = train(ranked, environment, max_epochs=2)
        return look.whole, look.local, trainer.callback_metrics["loss"].item()

    (first, local, loss), (second, other, _) = run_ranks(run)
    expected, plain = alone(tmp_path, 2)
    assert_close(first, expected)
    assert first == second
    assert local + other == sum(torch.tensor(values).numel() for values in expected.values())
    assert loss == pytest.approx(plain.callback_metrics["loss"].item(), abs=ROUNDING)


def test_a_gathered_checkpoint_is_an_ordinary_file_that_one_process_resumes(ranked, tmp_path):
    path = tmp_path / "gathered.ckpt"

    class Save(ly.Callback):
        def on_train_epoch_end(self, trainer):
            trainer.save_checkpoint(path)

    run_ranks(lambda environment: len(train(ranked, environment, callbacks=[Save()])))
    saved = torch.load(path, weights_only=True)
    assert saved["state_dict"]["net.0.weight"].shape == (8, 3)
    assert type(saved["optimizer_states"][0]["state"][0]["exp_avg"]) is torch.Tensor
    weights = Wide()
    weights.configure_model()
    weights.load_state_dict(saved["state_dict"])
    expected, _ = alone(tmp_path, 1)
    assert_close({name: p.tolist() for name, p in weights.named_parameters()}, expected)

    def resume(environment):
        return train(ranked, environment, ckpt_path=path, max_epochs=2)[0].whole

    straight = alone(tmp_path, 2)[0]
    assert_close(run_ranks(resume)[0], straight)
    assert_close(alone(tmp_path, 2, path)[0], straight)


def test_every_process_writes_its_part_of_a_sharded_checkpoint_and_reads_it_into_a_module_that_was_never_whole(ranked, tmp_path):
    straight = run_ranks(lambda environment: train(ranked, environment, max_epochs=2)[0].whole)[0]

    def first(environment):
        callbacks = [{"checkpoint": {"dirpath": str(tmp_path), "filename": "shards", "enable_version_counter": False}}]
        options = {"enable_checkpointing": True, "checkpoint_io": ShardedIO(), "callbacks": callbacks}
        train(ranked, environment, ShardedStrategy(gathers=False), **options)

    run_ranks(first)
    directory = tmp_path / "shards.ckpt"
    assert sorted(p.name for p in directory.iterdir()) == [".metadata", "__0_0.distcp", "__1_0.distcp", "rest.ckpt"]

    def resume(environment):
        strategy = ShardedStrategy(meta=True, gathers=False)
        look, module, _ = train(ranked, environment, strategy, directory, max_epochs=2, checkpoint_io=ShardedIO())
        return look.whole, module.built_on

    (whole, built_on), _ = run_ranks(resume)
    assert built_on == "meta"
    assert_close(whole, straight)


def test_a_precision_that_a_strategy_cannot_do_is_refused_when_the_trainer_is_built():
    options: dict[str, Any] = {"accelerator": "cpu", "devices": 2, "logger": False, "strategy": ShardedStrategy()}
    with pytest.raises(ValueError, match="precision") as caught:
        ly.Trainer(precision="16-mixed", **options)
    assert str(caught.value) == (
        "strategy='toy_sharded' cannot train with precision='16-mixed': each process would find overflows in its own shards "
        "only; use precision='bf16-mixed'"
    )
    assert ly.Trainer(precision="bf16-mixed", **options).precision.name == "bf16-mixed"
