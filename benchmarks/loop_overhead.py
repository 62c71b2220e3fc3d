"""What one training step costs under each library, as a ratio to the same step written by hand.

Every contestant trains the same small network on the same batches in this one process, each in a thread of its own of which
one runs at a time: they take turns of a few steps, so that a slow moment of the machine hits all of them. A figure is the time
between the starts of two ``training_step`` calls of one running fit, so that setting a fit up and ending it count for nobody,
divided by that of the hand-written loop's turn in the same cycle. Contestants that are not installed are left out and named.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import logging
import platform
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

WARM_UP = 100
"""Steps of each fit before its first turn."""

SETTLE = 6
"""Steps at the start of a turn that are not measured: the others have had the processor's caches."""


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Ready-made batches, so that reading one costs next to nothing."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.made = [(torch.randn(32, 64), torch.randint(10, (32,))) for _ in range(16)]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.made[index % 16]


class Clock:
    """Measures a contestant's turns, and hands over to the next one after each."""

    def __init__(self, turns: int, steps: int) -> None:
        self.turns = turns
        self.steps = steps
        self.count = 0
        self.start = 0.0
        self.thread_start = 0.0
        self.microseconds: list[float] = []
        """What a step took, for each turn."""
        self.thread_microseconds: list[float] = []
        """The processor time of a step, of the thread that trains alone: without what it waits for."""
        self.mine = threading.Semaphore(0)
        self.next: Clock = self

    def tick(self) -> None:
        """Called at the start of every step."""
        count, self.count = self.count - WARM_UP, self.count + 1
        if count < 0:
            return
        position = count % (SETTLE + self.steps)
        if position == SETTLE:
            self.start, self.thread_start = time.perf_counter(), time.thread_time()
        elif position == 0:
            if count:
                self.thread_microseconds.append((time.thread_time() - self.thread_start) / self.steps * 1e6)
                self.microseconds.append((time.perf_counter() - self.start) / self.steps * 1e6)
            self.next.mine.release()
            self.mine.acquire()

    def loader(self) -> DataLoader[Any]:
        return DataLoader(Batches(WARM_UP + self.turns * (SETTLE + self.steps) + 1), batch_size=None)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def make_module(base: Any, clock: Clock, *, logs: bool) -> Any:
    """The network as a module of leyden or of Lightning."""

    class Tiny(base):  # type: ignore[misc]  # whichever library's
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1e-3)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 10)] if logs else []

    def quiet_step(self: Any, batch: Any, batch_idx: int) -> Tensor:
        clock.tick()
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def logging_step(self: Any, batch: Any, batch_idx: int) -> Tensor:
        clock.tick()
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    Tiny.training_step = logging_step if logs else quiet_step
    return Tiny()


# ---- contestants: each trains once, ticking at the start of every step ----


def hand_written(clock: Clock) -> None:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    for x, y in clock.loader():
        clock.tick()
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def hand_written_without_zero_grad(clock: Clock) -> None:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    for x, y in clock.loader():
        clock.tick()
        loss = F.cross_entropy(net(x), y)
        for parameter in net.parameters():
            parameter.grad = None
        loss.backward()
        optimizer.step()


def leyden_quiet(clock: Clock) -> None:
    import leyden

    trainer = leyden.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(make_module(leyden.Module, clock, logs=False), clock.loader())


def leyden_everything(clock: Clock) -> None:
    import leyden

    with tempfile.TemporaryDirectory() as directory:
        trainer = leyden.Trainer(
            accelerator="cpu", max_epochs=1, default_root_dir=directory, logger=["tensorboard", "csv"],
            callbacks=["learning_rate_monitor", {"early_stopping": {"monitor": "loss"}}], enable_checkpointing=True,
            enable_progress_bar=True, enable_model_summary=True,
        )  # fmt: skip
        trainer.fit(make_module(leyden.Module, clock, logs=True), clock.loader())


def lightning_quiet(clock: Clock) -> None:
    import lightning.pytorch as pl

    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(make_module(pl.LightningModule, clock, logs=False), clock.loader())


def lightning_everything(clock: Clock) -> None:
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, TQDMProgressBar
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    with tempfile.TemporaryDirectory() as directory:
        # The bar is named because Lightning takes the one of rich where that is installed, which costs several times more.
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=1, default_root_dir=directory,
            logger=[TensorBoardLogger(directory), CSVLogger(directory)],
            callbacks=[LearningRateMonitor(), EarlyStopping("loss"), TQDMProgressBar()], enable_checkpointing=True,
            enable_model_summary=True,
        )  # fmt: skip
        trainer.fit(make_module(pl.LightningModule, clock, logs=True), clock.loader())


def accelerate(clock: Clock) -> None:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    net = network()
    net, optimizer, loader = accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=1e-3), clock.loader())
    for x, y in loader:
        clock.tick()
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
    accelerator.free_memory()


def ignite(clock: Clock) -> None:
    from ignite.engine import Engine

    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)

    def update(engine: Engine, batch: tuple[Tensor, Tensor]) -> Tensor:
        clock.tick()
        x, y = batch
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    Engine(update).run(clock.loader(), max_epochs=1)


REFERENCE = "hand-written loop"
CONTESTANTS: dict[str, tuple[Callable[[Clock], None], str]] = {
    REFERENCE: (hand_written, "torch"),
    "leyden, quiet": (leyden_quiet, "leyden-core"),
    "leyden, everything on": (leyden_everything, "leyden-callbacks"),
    "hand-written loop again": (hand_written, "torch"),
    "hand, no zero_grad()": (hand_written_without_zero_grad, "torch"),
    "ignite": (ignite, "pytorch-ignite"),
    "accelerate": (accelerate, "accelerate"),
    "Lightning, quiet": (lightning_quiet, "lightning"),
    "Lightning, everything on": (lightning_everything, "lightning"),
}


class Sink(io.TextIOBase):
    """A terminal that nobody looks at: bars draw as for a person, and the drawing goes nowhere."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)


def race(runs: dict[str, Callable[[Clock], None]], turns: int, steps: int) -> dict[str, list[float]]:
    """Microseconds of a step for each contestant and turn."""
    clocks = {name: Clock(turns, steps) for name in runs}
    in_order = list(clocks.values())
    for clock, following in zip(in_order, in_order[1:] + in_order[:1], strict=True):
        clock.next = following

    def run(name: str) -> None:
        clock = clocks[name]
        clock.mine.acquire()
        try:
            runs[name](clock)
        finally:
            clock.next.mine.release()

    threads = [threading.Thread(target=run, args=(name,), name=name) for name in runs]
    gc.collect()
    with redirect_stdout(Sink()), redirect_stderr(Sink()):
        for thread in threads:
            thread.start()
        in_order[0].mine.release()
        for thread in threads:
            thread.join()
    for name, clock in clocks.items():
        assert len(clock.microseconds) == turns, f"{name} ended after {len(clock.microseconds)} of {turns} turns"
    return {name: clock.microseconds for name, clock in clocks.items()}


def installed() -> tuple[dict[str, Callable[[Clock], None]], dict[str, str]]:
    """The contestants that can run, by name with their version; and those that cannot, with the reason."""
    found, missing = {}, {}
    for name, (run, distribution) in CONTESTANTS.items():
        try:
            version(distribution)
        except PackageNotFoundError:
            missing[name] = f"{distribution} is not installed"
        else:
            found[name] = run
    return found, missing


def quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def report(times: dict[str, list[float]], missing: dict[str, str], steps: int) -> dict[str, Any]:
    """Ratios to the hand-written loop of the same cycle, median and quartiles; and that of the fastest turns of both."""
    contestants = {}
    for name, values in times.items():
        low, middle, high = quartiles([value / hand for value, hand in zip(values, times[REFERENCE], strict=True)])
        contestants[name] = {
            "microseconds": round(statistics.median(values), 1),
            "ratio": round(middle, 3),
            "lower_quartile": round(low, 3),
            "upper_quartile": round(high, 3),
            "fastest": round(min(values) / min(times[REFERENCE]), 3),
        }
    names = {distribution for name, (_, distribution) in CONTESTANTS.items() if name in times}
    return {
        "turns": len(times[REFERENCE]),
        "steps": steps,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in sorted(names)},
        "contestants": contestants,
        "left_out": missing,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4, help="how often everybody fits (default 4)")
    parser.add_argument("--turns", type=int, default=60, help="turns of a contestant in a round (default 60)")
    parser.add_argument("--steps", type=int, default=40, help="measured steps of a turn (default 40)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    # Peers warn of few workers, log every start and advertise; to them, too, writing that would be a cost.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    found, missing = installed()
    times: dict[str, list[float]] = {name: [] for name in found}
    for name, run in found.items():  # imports and first-time work are over before the first round
        print(f"warming up: {name}", file=sys.stderr)
        race({name: run}, 1, 10)
    for index in range(arguments.rounds):
        print(f"round {index + 1} of {arguments.rounds}", end="\r", file=sys.stderr)
        order = list(found)
        order = order[index % len(order) :] + order[: index % len(order)]
        for name, values in race({name: found[name] for name in order}, arguments.turns, arguments.steps).items():
            times[name].extend(values)

    figures = report(times, missing, arguments.steps)
    if arguments.json:
        print(json.dumps(figures, indent=2))
        return
    print(f"{'':26}{'ratio':>8}{'quartiles':>16}{'fastest':>10}{'us a step':>11}   medians of {figures['turns']} turns")
    for name, row in figures["contestants"].items():
        spread = f"{row['lower_quartile']:.3f}-{row['upper_quartile']:.3f}"
        print(f"{name:26}{row['ratio']:8.3f}{spread:>16}{row['fastest']:10.3f}{row['microseconds']:11.1f}")
    for name, reason in missing.items():
        print(f"{name:26}left out: {reason}")
    print(", ".join(f"{name} {number}" for name, number in figures["versions"].items()))


if __name__ == "__main__":
    main()
