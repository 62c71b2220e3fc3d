"""What the callbacks of a typical run cost a step, against a loop by hand that keeps the average of the weights itself."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from typing import Any

import leyden as ly
import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, BATCH, DECAY = 256, 32, 0.999

# A thread's own processor time does not depend on what else the machine does.
CLOCKS = {"cpu": time.thread_time, "wall": time.perf_counter}
clock = CLOCKS["cpu"]


class Timed(ly.Module):
    """Notes when each training step begins."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.begun: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.begun.append(clock())
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", F.cross_entropy(self.net(x), y))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))


def by_hand(batches: list[Any], average: bool) -> float:
    """Seconds a step of the plain loop, with or without the average."""
    torch.manual_seed(0)
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    parameters = list(net.parameters())
    kept = [parameter.detach().clone() for parameter in parameters]
    begun: list[float] = []
    for x, y in batches:
        begun.append(clock())
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if average:
            with torch.no_grad():
                torch._foreach_lerp_(kept, parameters, 1 - DECAY)
    return each(begun)


def with_leyden(batches: list[Any], callbacks: list[Any]) -> float:
    torch.manual_seed(0)
    module = Timed()
    with tempfile.TemporaryDirectory() as folder:
        trainer = ly.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger="csv" if callbacks else False,
            callbacks=callbacks,
            default_root_dir=folder,
            enable_checkpointing=None if callbacks else False,
            enable_progress_bar=None if callbacks else False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, batches, batches[:2] if callbacks else None)
    return each(module.begun)


def each(begun: list[float]) -> float:
    """Seconds a step, the first tenth left out."""
    first = len(begun) // 10
    return (begun[-1] - begun[first]) / (len(begun) - 1 - first)


def batteries() -> list[Any]:
    return [
        {"checkpoint": {"monitor": "val_loss"}},
        {"early_stopping": {"monitor": "val_loss"}},
        "learning_rate_monitor",
        "progress",
        "throughput",
        {"ema": {"decay": DECAY}},
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--json", action="store_true", help="print every ratio")
    parser.add_argument("--clock", choices=CLOCKS, default="cpu", help="processor time of the thread, or the time that passes")
    options = parser.parse_args()
    global clock
    clock = CLOCKS[options.clock]
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    batches = [
        (torch.randn(BATCH, WIDTH, generator=generator), torch.randint(0, 10, (BATCH,), generator=generator))
        for _ in range(options.steps)
    ]
    contestants = {
        "by hand, with the average": lambda: by_hand(batches, average=True),
        "by hand, without it": lambda: by_hand(batches, average=False),
        "leyden, quiet": lambda: with_leyden(batches, []),
        "leyden, the average alone": lambda: with_leyden(batches, [{"ema": {"decay": DECAY}}]),
        "leyden, all of them": lambda: with_leyden(batches, batteries()),
        "by hand, with the average, again": lambda: by_hand(batches, average=True),
    }
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  # the bar's lines are no figures; it lasts as long as the process
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for index in range(options.rounds + 1):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            found = contestants[name]()
            if index:  # the first round imports
                seconds[name].append(found)
    base = seconds[names[0]]
    ratios = {name: [a / b for a, b in zip(values, base, strict=True)] for name, values in seconds.items()}
    if options.json:
        print(json.dumps(ratios))
        return
    print("| | ratio | quartiles | microseconds a step |\n|---|---|---|---|")
    for name, values in ratios.items():
        low, middle, high = statistics.quantiles(values, n=4)
        micros = statistics.median(seconds[name]) * 1e6
        print(f"| {name} | {middle:.3f} | {low:.3f}-{high:.3f} | {micros:.0f} |")


if __name__ == "__main__":
    main()
