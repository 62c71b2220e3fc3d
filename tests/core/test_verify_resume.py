"""verify_resume on models that resume exactly and on those that do not, and real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from leyden import Trainer
from leyden.testing import RandomData, TinyModule
from torch.utils.data import DataLoader

pytestmark = [pytest.mark.usefixtures("core_alone"), pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]


class OwnGenerator(RandomData):
    """Draws from a generator of its own, which no checkpoint knows."""

    def __init__(self, length):
        super().__init__(length)
        self.generator = np.random.default_rng(0)

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + self.generator.random(), y


class Counts(TinyModule):
    """Has a counter that is part of no state."""

    count = 0

    def training_step(self, batch, batch_idx):
        self.count += 1
        return super().training_step(batch, batch_idx) * self.count


def test_a_model_that_resumes_exactly_is_said_to():
    module = TinyModule()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    report = Trainer(max_epochs=3).verify_resume(module, DataLoader(RandomData(16), batch_size=4, shuffle=True), at=3, steps=7)
    assert report
    assert not report.differences
    assert str(report).startswith("resuming is exact: a run killed after step 3 and resumed had the same samples, losses, ")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_samples_that_differ_are_named_first():
    report = Trainer(max_epochs=3).verify_resume(TinyModule(), DataLoader(OwnGenerator(16), batch_size=4), at=3)
    assert not report
    assert report.differences[0] == "the samples of batch 3 of epoch 0 differ"
    assert any(
        text.startswith("the tensor 'layer.weight' of the module differs at the end by up to ") for text in report.differences
    )


def test_a_loss_that_differs_is_named_with_its_values():
    report = Trainer(max_epochs=3).verify_resume(Counts(), DataLoader(RandomData(16), batch_size=4), at=3)
    assert report.differences[0].startswith("the loss of batch 3 of epoch 0 differs: ")
    assert "resuming after step 3 is not exact: the loss of batch 3" in str(report)


@pytest.mark.parametrize(("at", "steps"), [(0, 3), (3, 3), (3, 2)])
def test_the_step_of_the_kill_lies_within_the_steps(at, steps):
    with pytest.raises(ValueError, match=f"at={at}, steps={steps}: expected 1 <= at < steps"):
        Trainer().verify_resume(TinyModule(), at=at, steps=steps)


SCRIPT = """
    import os, random, signal, sys
    import numpy as np, torch
    import leyden as ly
    from torch.utils.data import DataLoader, Dataset

    class Noise(Dataset):
        def __len__(self):
            return 26
        def __getitem__(self, index):
            return torch.cat([torch.rand(2), torch.tensor([np.random.rand(), random.random(), index], dtype=torch.float32)])

    class Net(ly.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Dropout(0.3), torch.nn.Linear(4, 1))
        def training_step(self, batch, batch_idx):
            loss = self.net(batch).square().mean()
            place = self.global_step, self.trainer.current_epoch, batch_idx
            print(*place, batch.sum().item().hex(), loss.item().hex(), flush=True)
            self.log("loss", loss, on_epoch=True)
            return loss
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.net(batch).square().mean())
        def on_train_epoch_end(self):
            print({key: float(value).hex() for key, value in self.trainer.callback_metrics.items()}, flush=True)
        def configure_optimizers(self):
            optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
            return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.7), "interval": "step"}]

    class Saves(ly.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            total = trainer.progress.total_batches
            if total % 3 == 0:
                trainer.save_checkpoint("last.ckpt")
            if total == int(sys.argv[1]):
                os.kill(os.getpid(), signal.SIGKILL)

    data = DataLoader(Noise(), batch_size=4, shuffle=True, num_workers=int(sys.argv[2]))
    trainer = ly.Trainer(
        max_epochs=2, accumulate_grad_batches=2, val_check_interval=3, callbacks=[Saves()], num_sanity_val_steps=0
    )
    module = Net() if len(sys.argv) > 3 else (torch.manual_seed(1), Net())[1]
    trainer.fit(module, data, DataLoader(Noise(), batch_size=5), ckpt_path="last.ckpt" if len(sys.argv) > 3 else None)
    print({name: value.double().sum().item().hex() for name, value in module.state_dict().items()})
"""


def test_a_process_that_is_killed_and_started_again_does_what_one_does():
    kill, workers = 11, 2
    Path("train.py").write_text(textwrap.dedent(SCRIPT))

    def run(*words):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "train.py", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1200, check=False)

    whole = run(-1, workers).stdout.splitlines()
    killed = run(kill, workers)
    assert killed.returncode == -signal.SIGKILL
    resumed = run(-1, workers, "resume")
    assert resumed.returncode == 0, resumed.stderr
    lines = resumed.stdout.splitlines()
    assert len(lines) > 3
    # The last save was after batch 3 * n, the kill later: what was done between is done again, and is the same.
    assert whole[-len(lines) :] == lines
    saved = kill // 3 * 3
    before = killed.stdout.splitlines()
    assert [line for line in whole if line[0] != "{"][:saved] == [line for line in before if line[0] != "{"][:saved]
    assert len([line for line in lines if line[0] != "{"]) == 14 - saved


FORKS = """
import torch
from leyden import Trainer
from leyden.testing import TinyModule, run_ranks

big = torch.ones(2000, 2000)

class Big(TinyModule):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) + 0 * torch.softmax(big, 1).mean()

if __name__ == "__main__":
    torch.softmax(big, 1)  # starts OpenMP's threads
    print(bool(Trainer(max_epochs=1, logger=False, enable_checkpointing=False).verify_resume(Big(), at=1)))
    print(run_ranks(lambda environment: round(torch.softmax(big, 1).sum().item())))
"""


def test_forks_of_a_process_that_has_computed_with_several_threads_do_not_wait_for_these(tmp_path):
    (tmp_path / "forks.py").write_text(FORKS)
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    process = subprocess.Popen(
        [sys.executable, "forks.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # and its forks
    assert said.splitlines()[-2:] == ["True", "[2000, 2000]"]
