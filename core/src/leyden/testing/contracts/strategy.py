"""What core relies on in a strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from leyden.accelerator import Accelerator
from leyden.strategy import Strategy
from leyden.testing.contracts.runs import (
    Breakdown,
    FailingModule,
    Probe,
    difference,
    introduced,
    plainly_trained,
    quiet,
    refusal,
    same,
    tiny,
    weights,
)
from leyden.trainer import Trainer


class StrategyContract:
    """Subclass it as ``class TestAcme(StrategyContract)`` and return a strategy from :meth:`strategy`.

    Runs take one device on one node, which every strategy can drive.
    """

    tolerance: float = 0.0
    """How far weights trained for one epoch may be from those of one process on one device, as an absolute difference."""

    def strategy(self) -> Strategy:
        """A new strategy."""
        raise NotImplementedError(f"{type(self).__name__}.strategy must return the strategy to test")

    def accelerator(self) -> Accelerator:
        """The accelerator to run on; the CPU if not overridden."""
        return Accelerator()

    def _trainer(self, root: Path, **options: Any) -> Trainer:
        return quiet(root, accelerator=self.accelerator(), strategy=self.strategy(), **options)

    def test_says_who_it_is(self) -> None:
        strategy = self.strategy()
        introduced(strategy, Strategy)
        rating = type(strategy).priority(self.accelerator(), 1, 1)
        assert type(rating) is int, f"priority() returned {rating!r}, not an int"
        assert rating >= 0, f"priority() returned {rating}, expected at least 0"

    def test_trains_as_the_plain_case_does(self, tmp_path: Path) -> None:
        module = tiny()
        self._trainer(tmp_path).fit(module)
        apart = difference(weights(module), weights(plainly_trained(tmp_path, accelerator=self.accelerator())))
        assert apart <= self.tolerance, f"after one epoch the weights are {apart} from those of one process on one device"

    def test_accumulates_gradients_as_the_plain_case_does(self, tmp_path: Path) -> None:
        options: dict[str, Any] = {"accumulate_grad_batches": 3}  # of 4 batches: the last window is shorter
        module = tiny()
        self._trainer(tmp_path, **options).fit(module)
        apart = difference(weights(module), weights(plainly_trained(tmp_path, accelerator=self.accelerator(), **options)))
        assert apart <= self.tolerance, f"with accumulated gradients the weights are {apart} from those of the plain case"

    def test_validates_tests_and_predicts_as_the_plain_case_does(self, tmp_path: Path) -> None:
        plain = quiet(tmp_path, accelerator=self.accelerator(), strategy=Strategy())
        trainer = self._trainer(tmp_path)
        for stage in ("validate", "test"):
            found, expected = getattr(trainer, stage)(tiny(), verbose=False), getattr(plain, stage)(tiny(), verbose=False)
            assert _close(found, expected), f"{stage} gave {found}, expected {expected}"
        found, expected = trainer.predict(tiny()), plain.predict(tiny())
        assert same(found, expected), f"predict gave {found}, expected {expected}"

    def test_the_module_is_on_the_device_in_a_run_and_on_the_cpu_after_it(self, tmp_path: Path) -> None:
        module = tiny()
        probe = Probe(lambda trainer, module: (trainer.strategy.device, {p.device for p in module.parameters()}))
        self._trainer(tmp_path, callbacks=[probe]).fit(module)
        device, found = probe.result
        assert found == {device}, f"strategy.device is {device} but the parameters are on {found}"
        assert module.layer.weight.device.type == "cpu", f"after the run the weights are on {module.layer.weight.device}"

    def test_rank_and_communication_agree(self, tmp_path: Path) -> None:
        probe = Probe(_communicate)
        self._trainer(tmp_path, callbacks=[probe]).fit(tiny())
        found = probe.result
        world_size = found["world_size"]
        assert 0 <= found["rank"] < world_size, f"rank {found['rank']} of {world_size}"
        assert 0 <= found["local_rank"] <= found["rank"], f"local_rank {found['local_rank']} of rank {found['rank']}"
        assert found["broadcast"] == {"from": 0}, f"broadcast returned {found['broadcast']!r}, expected rank 0's object"
        assert found["gathered"].shape == (world_size, 2), (
            f"all_gather of shape (2,) returned shape {tuple(found['gathered'].shape)}, expected {(world_size, 2)}"
        )
        assert found["gathered"][:, 0].tolist() == list(range(world_size)), f"all_gather is not by rank: {found['gathered']}"
        ranks = list(range(world_size))
        expected = {"sum": sum(ranks), "mean": sum(ranks) / world_size, "min": 0, "max": world_size - 1}
        for op, value in expected.items():
            assert found[op].tolist() == [value, 1.0 * (world_size if op == "sum" else 1)], f"all_reduce {op} gave {found[op]}"

    def test_each_batch_runs_the_users_step_once(self, tmp_path: Path) -> None:
        module = tiny()
        seen: list[int] = []
        original = module.training_step

        def counted(batch: Any, batch_idx: int) -> Any:
            seen.append(batch_idx)
            return original(batch, batch_idx)

        module.training_step = counted  # type: ignore[method-assign]  # a step that counts
        self._trainer(tmp_path).fit(module)
        assert seen == [0, 1, 2, 3], f"training_step ran for batches {seen}, expected [0, 1, 2, 3]"

    def test_state_has_the_modules_own_names_and_loads_again(self, tmp_path: Path) -> None:
        probe = Probe(_state_trip)
        self._trainer(tmp_path, callbacks=[probe]).fit(tiny())
        names, before, after, optimizer_before, optimizer_after = probe.result
        assert sorted(before) == sorted(names), f"module_state has the names {sorted(before)}, the module {sorted(names)}"
        assert same(after, before), "load_module_state did not bring back what module_state gave"
        assert same(optimizer_after, optimizer_before), "load_optimizer_state did not bring back what optimizer_state gave"

    def test_a_checkpoint_resumes_to_the_run_that_would_have_been(self, tmp_path: Path) -> None:
        straight = tiny()
        self._trainer(tmp_path, max_epochs=2).fit(straight)
        first = self._trainer(tmp_path)
        first.fit(tiny())
        first.save_checkpoint(tmp_path / "first.ckpt")
        resumed = tiny()
        self._trainer(tmp_path, max_epochs=2).fit(resumed, ckpt_path=tmp_path / "first.ckpt")
        apart = difference(weights(resumed), weights(straight))
        assert apart <= self.tolerance, f"the resumed run ends {apart} from the uninterrupted one"

    def test_serves_several_runs_and_survives_a_failed_one(self, tmp_path: Path) -> None:
        trainer = self._trainer(tmp_path)
        broken = tiny(FailingModule)
        refusal(Breakdown, trainer.fit, broken)
        assert broken.layer.weight.device.type == "cpu", "teardown was not run after a failure, or left the module on the device"
        module = tiny()
        trainer.fit(module)
        apart = difference(weights(module), weights(plainly_trained(tmp_path, accelerator=self.accelerator())))
        assert apart <= self.tolerance, f"a run after a failed one gives weights {apart} from those of a first run"

    def test_teardown_can_be_called_again(self, tmp_path: Path) -> None:
        module = tiny()
        trainer = self._trainer(tmp_path)
        trainer.fit(module)
        trainer.strategy.teardown(module)
        trainer.strategy.teardown(module)


def _close(found: list[dict[str, float]], expected: list[dict[str, float]]) -> bool:
    if [sorted(metrics) for metrics in found] != [sorted(metrics) for metrics in expected]:
        return False
    pairs = zip(found, expected, strict=True)
    return all(abs(ours[key] - plain[key]) <= 1e-5 for ours, plain in pairs for key in plain)


def _communicate(trainer: Trainer, module: Any) -> dict[str, Any]:
    strategy = trainer.strategy
    own = torch.tensor([float(strategy.rank), 1.0], device=strategy.device)
    found: dict[str, Any] = {op: strategy.all_reduce(own.clone(), op).cpu() for op in ("sum", "mean", "min", "max")}
    found["gathered"] = strategy.all_gather(own).cpu()
    found["broadcast"] = strategy.broadcast({"from": strategy.rank})
    strategy.barrier()
    return {**found, "rank": strategy.rank, "local_rank": strategy.local_rank, "world_size": strategy.world_size}


def _state_trip(trainer: Trainer, module: Any) -> tuple[Any, ...]:
    strategy, optimizer = trainer.strategy, trainer.optimizers[0]
    before = {name: tensor.detach().clone() for name, tensor in strategy.module_state(module).items()}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    strategy.load_module_state(module, before)
    after = {name: tensor.detach().clone() for name, tensor in strategy.module_state(module).items()}
    optimizer_before = strategy.optimizer_state(optimizer)
    optimizer.param_groups[0]["lr"] = 123.0
    strategy.load_optimizer_state(optimizer, optimizer_before)
    return list(module.state_dict()), before, after, optimizer_before, strategy.optimizer_state(optimizer)
