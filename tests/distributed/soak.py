"""Starts and ends runs of two ranks again and again: signals and kills at random instants, and what has to be true afterwards.

``make soak`` runs 200 cycles; a cycle that failed is run again by ``make soak ARGS="--only 17"``. In each, a run is started, left
alone or sent something after a random time, and then started again to its end. Whatever came: nothing is left of the first run,
neither a process nor a file of its own; its exit code says what came; there is one whole checkpoint once it has trained; both
together trained as a run that nobody disturbed, to the bit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import leyden as ly
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BATCHES = 45
"""Of an epoch, for each rank."""
EPOCHS = 2
SAVED_EVERY = 10
"""Steps."""
ACCUMULATED = 3
"""Batches of a step; of a window that is cut short after a checkpoint nothing is saved, and it is trained on again."""
WHAT = (None, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGKILL)
WHOM = ("launcher", "rank 0", "rank 1", "ranks", "everybody")
GONE_SECONDS = 120.0
"""When a run counts as hanging; on a machine that has nothing else to do it takes 5 at most."""


class Watched(ly.Module):
    """Draws random numbers in each step, and writes down each loss at once; ranks are not equally fast."""

    def __init__(self, directory: Path, attempt: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.directory = directory
        self.attempt = attempt

    def on_fit_start(self) -> None:
        self.file = (self.directory / f"losses-{self.attempt}-{self.global_rank}").open("a", encoding="utf-8")

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        time.sleep(0.001 * (1 + self.global_rank))
        loss = self.net(batch[0]).square().mean()
        self.file.write(f"{self.trainer.progress.total_batches} {float(loss.detach()).hex()}\n")
        self.file.flush()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        time.sleep(0.001)
        self.log("val", self.net(batch[0]).mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def loader(samples: int) -> DataLoader[Any]:
    numbers = torch.randn(samples, 3, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(numbers), batch_size=2, shuffle=samples > 100)


def job(directory: Path, attempt: int) -> None:
    """One run, which goes on from the newest checkpoint if there is one; ends this process with its exit code."""
    tempfile.tempdir = str(directory / "tmp")
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    said = os.open(directory / f"said-{attempt}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    ly.seed_everything(3)
    module = Watched(directory, attempt)
    saved = directory / "saved"
    trainer = ly.Trainer(
        accelerator="cpu", strategy="ddp_fork", devices=2, max_epochs=EPOCHS, accumulate_grad_batches=ACCUMULATED,
        default_root_dir=directory, auto_resume=True,
        callbacks=[{"checkpoint": {"dirpath": saved, "every_n_train_steps": SAVED_EVERY, "save_top_k": 1}}], logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    code = 0
    try:
        trainer.fit(module, loader(4 * BATCHES), loader(20))
        torch.save(module.state_dict(), directory / f"weights-{attempt}")
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        code = 1
    os._exit(code)


def processes_of(session: int) -> list[int]:
    """The processes of a session that run, whoever their parent is by now."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(entry.parent.name))
    return sorted(found)


class Run:
    """A run in a session of its own."""

    def __init__(self, directory: Path, attempt: int) -> None:
        self.began = time.monotonic()
        self.process = multiprocessing.get_context("fork").Process(target=self._main, args=(directory, attempt))
        self.process.start()
        assert self.process.pid is not None
        self.pid: int = self.process.pid

    @staticmethod
    def _main(directory: Path, attempt: int) -> None:
        os.setsid()
        try:
            job(directory, attempt)
        except KeyboardInterrupt:  # it came before the run
            os._exit(128 + signal.SIGINT)

    def send(self, number: int, whom: str) -> bool:
        """Returns whether anybody was there to get it."""
        ranks = [pid for pid in processes_of(self.pid) if pid != self.pid]
        receivers = {
            "launcher": [self.pid], "rank 0": ranks[:1], "rank 1": ranks[1:2], "ranks": ranks, "everybody": [self.pid, *ranks],
        }[whom]  # fmt: skip
        sent = False
        for pid in receivers:
            try:
                os.kill(pid, number)
                sent = True
            except ProcessLookupError:
                pass
        return sent

    def end(self) -> int | None:
        """Its exit code; None if it had to be killed."""
        self.process.join(GONE_SECONDS)
        code = self.process.exitcode
        for pid in processes_of(self.pid) if code is None else ():
            os.kill(pid, signal.SIGKILL)
        self.process.join()
        return code

    def left(self) -> list[int]:
        """The processes that are left of it once its first one has ended; a rank looks for that ten times in a second."""
        deadline = time.monotonic() + 30.0
        while processes_of(self.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        left = processes_of(self.pid)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return left


@dataclass
class Expected:
    """What a run that nobody disturbs does."""

    losses: list[list[str]] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    seconds: float = 0.0


def losses(directory: Path, attempt: int) -> list[list[str]]:
    """The lines that each rank wrote."""
    files = [directory / f"losses-{attempt}-{rank}" for rank in (0, 1)]
    return [file.read_text().splitlines() if file.exists() else [] for file in files]


def undisturbed(directory: Path) -> Expected:
    run = Run(directory, 0)
    code = run.end()
    if code != 0:
        raise SystemExit(f"a run that nobody disturbs ends with {code}:\n{(directory / 'said-0').read_text()}")
    return Expected(losses(directory, 0), torch.load(directory / "weights-0"), time.monotonic() - run.began)


def problems(directory: Path, expected: Expected, what: int | None, whom: str, instant: float) -> Iterator[str]:
    """Runs one cycle and yields what is wrong."""
    run = Run(directory, 1)
    time.sleep(instant)
    sent = what is not None and run.send(what, whom)
    code = run.end()
    if code is None:
        yield f"hangs for {GONE_SECONDS:g} s"
        return
    left = run.left()
    if left:
        yield f"left the processes {left}"
    by_default = sent and code == -what  # it came before the launcher had begun to listen, or after it had ended
    litter = [path.name for path in (directory / "tmp").iterdir()]
    if litter and not by_default:
        yield f"left the files {litter}"
    done = (directory / "weights-1").exists()
    allowed = {0} if not sent else {what + 128, -what} if what != signal.SIGKILL else {1, -signal.SIGKILL}
    if done:
        allowed.add(0)
    if code not in allowed:
        yield f"ended with {code}, not with one of {sorted(allowed)}"
    files = [path.name for path in (directory / "saved").glob("*")] if (directory / "saved").exists() else []
    whole = [name for name in files if name.endswith(".ckpt")]
    first = losses(directory, 1)
    trained = min(map(len, first))
    usual, stopped = [[name for name in whole if name.startswith("interrupted") is is_stop] for is_stop in (False, True)]
    # A new one is whole before the one that it replaces is deleted, in between which a rank may be killed.
    at_once = what == signal.SIGKILL or (what == signal.SIGINT and whom == "everybody")  # which is Ctrl-C twice, in a save too
    if len(usual) > 1 + at_once or len(stopped) > 1 or (stopped and what in (None, signal.SIGKILL)):
        yield f"has several checkpoints: {whole}"
    odd = [name for name in files if "tmp" in name or "part" in name]
    if odd and what != signal.SIGKILL and not by_default:
        yield f"left unfinished files: {odd}"

    again = Run(directory, 2)
    second_code = again.end()
    if second_code != 0:
        yield f"started again it ended with {second_code}: {(directory / 'said-2').read_text()[-2000:]}"
        return
    second = losses(directory, 2)
    begun = int(second[0][0].split()[0]) if second[0] else len(expected.losses[0])
    for rank in (0, 1):
        if first[rank] != expected.losses[rank][: len(first[rank])]:
            yield f"rank {rank} trained otherwise"
        if second[rank] != expected.losses[rank][begun:]:
            yield f"rank {rank} went on from batch {begun} otherwise"
    weights = torch.load(directory / "weights-2")
    if any(not torch.equal(weights[key], value) for key, value in expected.weights.items()):
        yield "its parameters differ"
    asked = sent and code == (what or 0) + 128 and not at_once
    if asked and trained and whole and not all(begun <= len(lines) < begun + ACCUMULATED for lines in first):
        yield f"its ranks trained {[len(lines) for lines in first]} batches, and what was saved is after {begun}"
    if asked and trained >= ACCUMULATED and not whole:
        yield f"its ranks trained {[len(lines) for lines in first]} batches, and nothing is saved"


def cycle(number: int, seed: int, expected: Expected, directory: Path) -> list[str]:
    """One cycle; what was wrong with it, each after what was done."""
    chance = random.Random(f"{seed}/{number}")
    what, whom = chance.choice(WHAT), chance.choice(WHOM)
    if what == signal.SIGKILL and whom in ("launcher", "everybody"):
        whom = "rank 1"  # nobody could say anything
    instant = chance.uniform(0.0, 1.1 * expected.seconds)
    name = "nothing" if what is None else signal.Signals(what).name
    (directory / "tmp").mkdir(parents=True)
    found = list(problems(directory, expected, what, whom, instant))
    return [f"cycle {number}, {name} to {whom} after {instant:.3f} s: {problem}" for problem in found]


def soak(cycles: list[int], seed: int, *, keep: bool = False) -> list[str]:
    """Runs the cycles and returns everything that was wrong."""
    import torch._dynamo  # noqa: F401  # what DDP imports, once here and not in each fork

    ly.Trainer(accelerator="cpu", strategy="ddp_fork", devices=2, logger=False)  # imports its parts, once too
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    wrong: list[str] = []
    try:
        (place / "expected" / "tmp").mkdir(parents=True)
        expected = undisturbed(place / "expected")
        print(f"a run takes {expected.seconds:.2f} s, seed {seed}", flush=True)
        for number in cycles:
            directory = place / str(number)
            found = cycle(number, seed, expected, directory)
            wrong += found
            for line in found:
                print(line, flush=True)
            if not (keep and found):
                shutil.rmtree(directory)
    finally:
        if not (keep and wrong):
            shutil.rmtree(place, ignore_errors=True)
        else:
            print(f"what was wrong is kept in {place}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="*", help="the numbers of the cycles to run")
    parser.add_argument("--keep", action="store_true", help="keep the files of cycles in which something was wrong")
    arguments = parser.parse_args()
    numbers = arguments.only or list(range(arguments.cycles))
    wrong = soak(numbers, arguments.seed, keep=arguments.keep)
    print(f"{len(numbers)} cycles, {len(wrong)} things wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
