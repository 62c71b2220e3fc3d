"""Runs that torchrun and ``leyden launch`` start: over several nodes, and again after a rank was killed."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import pytest

from tests.distributed.nodes import reserved_port, run_together

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
LEYDEN = [str(Path(sys.executable).with_name("leyden"))]

SCRIPT = """
import os
import signal
import sys
from pathlib import Path

import leyden as ly
import torch
from torch.utils.data import DataLoader, TensorDataset

directory, devices, nodes, kill_at = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


class Sees(ly.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(int(os.environ["RANK"]))  # ranks begin with other parameters, which DDP makes rank 0's
        self.net = torch.nn.Linear(1, 1)

    def on_train_start(self):
        self.began = self.trainer.progress.total_batches
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.file = (directory / f"seen-{self.trainer.world_size}-{attempt}-{self.global_rank}").open("w")

    def training_step(self, batch, batch_idx):
        done = self.trainer.progress.total_batches
        if done == self.began + kill_at and self.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        print(done, *map(int, batch[0].flatten().tolist()), file=self.file, flush=True)
        return (self.net(batch[0] / 60) ** 2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


ly.seed_everything(3)
module = Sees()
trainer = ly.Trainer(
    accelerator="cpu", strategy="ddp", devices=devices, num_nodes=nodes, max_epochs=1, logger=False, auto_resume=True,
    enable_progress_bar=False, enable_model_summary=False,
    callbacks=[{"checkpoint": {"dirpath": directory / "saved", "every_n_train_steps": 2, "save_top_k": 1}}],
)
numbers = TensorDataset(torch.arange(60.0).reshape(60, 1))
trainer.fit(module, DataLoader(numbers, batch_size=2, shuffle=True))
words = [str(trainer.global_step), *(parameter.item().hex() for parameter in module.parameters())]
(directory / f"end-{trainer.global_rank}").write_text(" ".join(words))
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(textwrap.dedent(SCRIPT))
    return path


def run(*commands, seconds=200):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC")}
    return run_together(commands, seconds, env={**clean, "OMP_NUM_THREADS": "1"})


def seen(directory, world_size, attempt=0):
    """For each rank the samples of each batch, by the number of batches before it."""
    files = [directory / f"seen-{world_size}-{attempt}-{rank}" for rank in range(world_size)]
    lines = [[[int(word) for word in line.split()] for line in file.read_text().splitlines()] for file in files]
    return [{line[0]: line[1:] for line in of_rank} for of_rank in lines]


def test_a_restart_goes_on_from_the_newest_checkpoint_and_so_does_another_number_of_ranks(script, tmp_path):
    # Killed twice: torchrun starts the ranks again once. Then one rank does the rest.
    torchrun = [*TORCHRUN, "--standalone", "--nproc-per-node"]
    [first] = run([*torchrun, 2, "--max-restarts", 1, script, tmp_path, 2, 1, 5], seconds=130)
    assert first.code == 1, first
    assert f"leyden: the newest checkpoint is {tmp_path / 'saved'}" in first.err
    [last] = run([*torchrun, 1, script, tmp_path, 1, 1, 99], seconds=130)
    assert last.code == 0, last

    two, two_again, one = seen(tmp_path, 2), seen(tmp_path, 2, 1), seen(tmp_path, 1)
    assert [min(rank) for rank in two] == [0, 0]
    assert [min(rank) for rank in two_again] == [4, 4]  # of 5 batches, for the checkpoint is that of step 4
    begun = min(one[0])
    assert begun == 8
    counted = [samples for rank in two for batch, samples in rank.items() if batch < 4]
    counted += [samples for rank in two_again for batch, samples in rank.items() if batch < begun]
    counted += list(one[0].values())
    assert sorted(sample for samples in counted for sample in samples) == list(range(60))


def test_leyden_launch_starts_all_ranks_again_and_they_go_on_from_the_newest_checkpoint(script, tmp_path):
    [launched] = run([*LEYDEN, "launch", "--devices", 2, "--max-restarts", 1, script, tmp_path, 2, 1, 9])
    assert launched.code == 0, launched
    assert f"leyden: the newest checkpoint is {tmp_path / 'saved' / 'epoch=0-step=8.ckpt'}\n" in launched.err
    assert "was killed by SIGKILL (out of memory?) at step 9, in training batch 9 of epoch 0\n" in launched.err
    ends = [(tmp_path / f"end-{rank}").read_text() for rank in (0, 1)]
    assert ends[0] == ends[1]
    assert ends[0].startswith("15 ")
    assert [min(rank) for rank in seen(tmp_path, 2)] == [8, 8]


def of_torchrun(node, port):
    return [*TORCHRUN, "--nnodes", 2, "--node-rank", node, "--nproc-per-node", 1, "--master-addr", "127.0.0.1",
            "--master-port", port]  # fmt: skip


def of_leyden(node, port):
    return [*LEYDEN, "launch", "--devices", 1, "--num-nodes", 2, "--node-rank", node, "--main-address", "127.0.0.1",
            "--main-port", port]  # fmt: skip


@pytest.mark.parametrize("command", [of_torchrun, of_leyden])
def test_two_nodes_train_together(script, tmp_path, command):
    with reserved_port() as port:
        nodes = run(*([*command(node, port), script, tmp_path, 1, 2, 99] for node in (0, 1)))
    assert [node.code for node in nodes] == [0, 0], nodes
    ends = [(tmp_path / f"end-{rank}").read_text() for rank in (0, 1)]
    assert ends[0] == ends[1]
    assert ends[0].startswith("15 ")
    both = [sample for rank in seen(tmp_path, 2) for samples in rank.values() for sample in samples]
    assert sorted(both) == list(range(60))
