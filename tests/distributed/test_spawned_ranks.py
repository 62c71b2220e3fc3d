"""Ranks that are spawned have memory of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json
import leyden as ly
import torch
from torch.utils.data import DataLoader, TensorDataset


class Net(ly.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
        self.register_buffer("batches", torch.zeros(1))

    def training_step(self, batch, batch_idx):
        self.batches += 1
        return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


if __name__ == "__main__":
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, (x.sum(dim=1) > 0).long())
    found = {}
    for strategy, devices in (("ddp_spawn", 2), ("auto", 1)):
        torch.manual_seed(0)
        module = Net()
        ly.Trainer(
            accelerator="cpu", strategy=strategy, devices=devices, max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        ).fit(module, DataLoader(data, batch_size=8 // devices))
        found[strategy] = [*module.layer.bias.tolist(), module.batches.item()]
    print(json.dumps(found))
"""


def test_a_step_of_one_rank_leaves_the_parameters_of_another_alone(tmp_path):
    script = Path(tmp_path, "script.py")
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert max(abs(one - other) for one, other in zip(*found.values(), strict=True)) < 1e-6
    assert found["ddp_spawn"][-1] == 4
