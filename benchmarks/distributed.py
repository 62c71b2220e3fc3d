"""What a DDP step on two processes costs, as a ratio to a DDP loop written by hand, and how long ranks take to start.

In each of two forked ranks every contestant trains in a thread of its own, and they take turns of a few steps, the same turns
on both ranks, over one gloo group; so a slow moment of the machine hits all of them. A figure is the time between the starts
of two ``training_step`` calls, divided by that of the hand-written loop's turn in the same cycle. Most of that is waiting for
the other process, which differs from step to step; the last column is what a step costs the thread that trains in processor
time, more than by hand.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import leyden
import torch
import torch.distributed as dist
from leyden.testing import run_ranks
from loop_overhead import WARM_UP, Batches, Clock
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader


def network(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


class Module(leyden.Module):
    """The network; with everything on it logs its loss and steps a scheduler."""

    def __init__(self, clock: Clock, width: int, logs: bool) -> None:
        super().__init__()
        self.net = network(width)
        self.clock = clock
        self.logs = logs

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.clock.tick()
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        if self.logs:
            self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=1e-3)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 10)] if self.logs else []


def loader(clock: Clock) -> DataLoader[Any]:
    return DataLoader(Batches(WARM_UP + clock.turns * 100 + 200), batch_size=None)


def by_hand(clock: Clock, environment: Any, width: int) -> None:
    net = DistributedDataParallel(network(width), gradient_as_bucket_view=True)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    for x, y in loader(clock):
        clock.tick()
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def quiet(clock: Clock, environment: Any, width: int) -> None:
    trainer = leyden.Trainer(
        accelerator="cpu", strategy="ddp", devices=2, environment=environment, max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(Module(clock, width, logs=False), loader(clock))


def everything(clock: Clock, environment: Any, width: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        trainer = leyden.Trainer(
            accelerator="cpu", strategy="ddp", devices=2, environment=environment, max_epochs=1, default_root_dir=directory,
            logger=["tensorboard", "csv"], callbacks=["learning_rate_monitor", {"early_stopping": {"monitor": "loss"}}],
            use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(Module(clock, width, logs=True), loader(clock))


CONTESTANTS: dict[str, Callable[[Clock, Any, int], None]] = {
    "DDP by hand": by_hand,
    "DDP by hand, again": by_hand,
    "leyden, quiet": quiet,
    "leyden, everything on": everything,
}


def measure(environment: Any, turns: int, steps: int, width: int) -> dict[str, tuple[list[float], list[float]]]:
    """What each contestant's step takes on this rank, and of that in processor time, in microseconds, for each turn."""
    from torch.distributed import PrefixStore, TCPStore

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # bars, and who watches a rank that leaves in the middle of a fit
    store = TCPStore("127.0.0.1", environment.main_port, None, False)
    dist.init_process_group(
        "gloo", store=PrefixStore("benchmark", store), rank=environment.rank, world_size=environment.world_size
    )
    clocks = {name: Clock(turns, steps) for name in CONTESTANTS}
    ordered = list(clocks.values())
    for clock, following in zip(ordered, [*ordered[1:], ordered[0]], strict=True):
        clock.next = following
    done = threading.Event()

    def contest(name: str) -> None:
        clock = clocks[name]
        clock.mine.acquire()
        CONTESTANTS[name](clock, environment, width)

    # The warm-up of each runs alone, and in the same order on both ranks: a first turn is handed over like every other.
    threads = [threading.Thread(target=contest, args=(name,), daemon=True) for name in CONTESTANTS]
    for thread in threads:
        thread.start()
    ordered[0].mine.release()
    deadline = time.monotonic() + 500
    while any(len(clock.microseconds) < turns - 1 for clock in ordered) and time.monotonic() < deadline:
        done.wait(0.05)
    return {name: (clock.microseconds[: turns - 1], clock.thread_microseconds[: turns - 1]) for name, clock in clocks.items()}


STARTS = """
import sys, time, torch
import leyden
from leyden.testing import TinyModule

class First(TinyModule):
    def training_step(self, batch, batch_idx):
        if batch_idx == 0 and self.global_rank == 0:
            print("first", time.time(), flush=True)
        return super().training_step(batch, batch_idx)

if __name__ == "__main__":
    print("start", time.time(), flush=True)
    trainer = leyden.Trainer(
        accelerator="cpu", strategy=sys.argv[1], devices=2, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )
    trainer.fit(First())
"""


def start_up(strategy: str) -> float:
    """Seconds from ``Trainer(...)`` to rank 0's first ``training_step``."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(textwrap.dedent(STARTS))
        file.flush()
        done = subprocess.run([sys.executable, file.name, strategy], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    words = [line.split() for line in done.stdout.splitlines()]
    begun = min(float(time) for word, time in words if word == "start")
    return max(float(time) for word, time in words if word == "first") - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--steps", type=int, default=12, help="measured steps of a turn")
    parser.add_argument("--widths", type=int, nargs="*", default=[128, 1024], help="of the network's hidden layers")
    parser.add_argument("--starts", type=int, default=3, help="processes for each launcher; 0 leaves them out")
    arguments = parser.parse_args()
    for width in arguments.widths:
        measured = run_ranks(lambda e, w=width: measure(e, arguments.turns, arguments.steps, w), seconds=600)[0]
        reference, of_thread = measured["DDP by hand"]
        print(f"\nhidden layers of {width}: {statistics.median(reference):.0f} us a step by hand")
        print("| | ratio | middle half of the turns | us a step | more us of processor time |")
        for name, (times, own_thread) in measured.items():
            ratios = [own / other for own, other in zip(times, reference, strict=True)]
            more = statistics.median(own - other for own, other in zip(own_thread, of_thread, strict=True))
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(f"| {name} | {middle:.3f} | {low:.3f}-{high:.3f} | {statistics.median(times):.0f} | {more:+.0f} |")
    for strategy in ("ddp_fork", "ddp_spawn", "ddp") if arguments.starts else ():
        seconds = [start_up(strategy) for _ in range(arguments.starts)]
        print(f"| {strategy} | {statistics.median(seconds):.2f} s | {min(seconds):.2f} s |")


if __name__ == "__main__":
    main()
