"""What does a checkpoint cost: saving and loading beside plain torch, and the wait of training for one in the background?

Contestants take turns in one process on one thread, starting with another one every round; ratios are medians of the rounds'.
Saving includes checksums, the flush to the disk and the rename; loading includes comparing with the checksums.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from leyden import CheckpointIO
from leyden_checkpoint import AsyncCheckpointIO


def state(megabytes: int) -> dict[str, object]:
    """What a run of that size saves: weights and the two moments of Adam, in tensors of at most 4 MB."""
    count = max(megabytes // 12, 1)
    weights = {f"layers.{index}.weight": torch.randn(1024, 1024) for index in range(count)}
    moments = {
        index: {"step": torch.tensor(5.0), "exp_avg": torch.randn(1024, 1024), "exp_avg_sq": torch.randn(1024, 1024)}
        for index in range(count)
    }
    groups = [{"lr": 1e-3, "betas": (0.9, 0.999), "params": list(range(count))}]
    return {"state_dict": weights, "optimizer_states": [{"state": moments, "param_groups": groups}], "global_step": 5}


def copied(value: object) -> object:
    """A copy in memory, as one would write it: what a save in the background cannot do without."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value


def interleaved(contestants: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; one round more at the start is not counted."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            seconds = contestants[name]()
            if number:
                times[name].append(seconds)
    return times


def timed(function: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> Callable[[], float]:
    def run() -> float:
        prepare()
        start = time.perf_counter()
        result = function()
        seconds = time.perf_counter() - start
        del result
        return seconds

    return run


class Synced:
    """Adds up the time that ``os.fsync`` takes."""

    def __init__(self) -> None:
        self.seconds, self._fsync = 0.0, os.fsync

    def __call__(self, descriptor: int) -> None:
        start = time.perf_counter()
        self._fsync(descriptor)
        self.seconds += time.perf_counter() - start


def in_new_memory(function: Callable[[], object]) -> Callable[[], float]:
    """Times ``function`` in a forked process: whoever resumes loads once, into memory that nothing had before."""

    def run() -> float:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            start = time.perf_counter()
            result = function()
            seconds = time.perf_counter() - start
            os.write(writing, repr(seconds).encode())
            del result
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as told:
            seconds = float(told.read())
        os.waitpid(child, 0)
        return seconds

    return run


def plain_save(checkpoint: object, path: Path) -> None:
    torch.save(checkpoint, path)


def plain_save_and_sync(checkpoint: object, path: Path) -> None:
    with path.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())


def report(title: str, times: dict[str, list[float]], base: str, megabytes: float) -> dict[str, object]:
    print(f"\n{title}")
    rows = {}
    for name, seconds in times.items():
        ratios = [mine / other for mine, other in zip(seconds, times[base], strict=True)]
        quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
        middle = statistics.median(seconds)
        rows[name] = {
            "ratio": statistics.median(ratios),
            "fastest": min(seconds) / min(times[base]),
            "milliseconds": middle * 1e3,
        }
        print(
            f"  {name:<44} {statistics.median(ratios):6.3f}  ({quartiles[0]:.3f}-{quartiles[2]:.3f})  fastest "
            f"{min(seconds) / min(times[base]):6.3f}  {middle * 1e3:8.1f} ms  {megabytes / 1e3 / middle:6.2f} GB/s"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--directory", type=Path, default=None, help="on the disk to measure; the system's temporary one if not given"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = state(arguments.megabytes)
    plain, sync, rounds = CheckpointIO(), Synced(), arguments.rounds
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory(dir=arguments.directory) as folder:
        here = Path(folder)
        paths = {name: here / name for name in ("torch", "synced", "leyden", "async", "one", "other")}

        def fresh(path: Path) -> Callable[[], None]:
            def prepare() -> None:
                path.unlink(missing_ok=True)
                os.sync()  # what others have left to write is not to be waited for here

            return prepare

        os.fsync = sync  # type: ignore[assignment]
        try:
            leyden_times: list[float] = []
            shares: list[float] = []

            def leyden_save() -> float:
                fresh(paths["leyden"])()
                before, start = sync.seconds, time.perf_counter()
                plain.save(checkpoint, paths["leyden"])
                seconds = time.perf_counter() - start
                shares.append((sync.seconds - before) / seconds)
                leyden_times.append(seconds)
                return seconds

            saves = interleaved(
                {
                    "torch.save": timed(lambda: plain_save(checkpoint, paths["torch"]), fresh(paths["torch"])),
                    "torch.save, then fsync": timed(
                        lambda: plain_save_and_sync(checkpoint, paths["synced"]), fresh(paths["synced"])
                    ),
                    "leyden: checksums, fsync, rename, fsync": leyden_save,
                    "torch.save again": timed(lambda: plain_save(checkpoint, paths["torch"]), fresh(paths["torch"])),
                },
                rounds,
            )
        finally:
            os.fsync = sync._fsync
        size = paths["leyden"].stat().st_size / 1e6
        results["save"] = report(f"saving {size:.0f} MB", saves, "torch.save", size)
        share = statistics.median(shares[1:])
        results["share of fsync"] = share
        print(f"  of which leyden waits in fsync: {share:.0%}")

        plain.save(checkpoint, paths["one"])
        plain_save(checkpoint, paths["other"])
        results["load"] = report(
            "loading in a new process, from the page cache",
            interleaved(
                {
                    "torch.load": in_new_memory(lambda: torch.load(paths["other"], weights_only=True)),
                    "leyden: compared with its checksums": in_new_memory(lambda: plain.load(paths["one"])),
                    "torch.load again": in_new_memory(lambda: torch.load(paths["other"], weights_only=True)),
                },
                rounds,
            ),
            "torch.load",
            size,
        )

        background = AsyncCheckpointIO()

        def stall() -> float:
            background.teardown()  # the one before is there, as it is where saves are far apart
            start = time.perf_counter()
            background.save(checkpoint, paths["async"])
            return time.perf_counter() - start

        results["stall"] = report(
            "the wait for a save in the background",
            interleaved(
                {
                    "a copy in new memory": timed(lambda: copied(checkpoint), background.teardown),
                    "leyden, checkpoint_io='async'": stall,
                    "a copy in new memory again": timed(lambda: copied(checkpoint), background.teardown),
                },
                rounds,
            ),
            "a copy in new memory",
            size,
        )
        background.teardown()
        assert threading.active_count() == 1
    if arguments.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
