"""How long a run that is resumed takes to reach its position, as the position grows: indices are skipped, nothing is loaded."""

from __future__ import annotations

import argparse
import time

import torch
from leyden.data.streams import Seeds, stream_of
from torch.utils.data import DataLoader, Dataset, RandomSampler, WeightedRandomSampler

BATCH = 64


class Unread(Dataset[torch.Tensor]):
    """As many samples as are asked for; one that is loaded shows in the time."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.zeros(1)


class Own(RandomSampler):
    """A sampler that is not torch's own, whose every batch is drawn with generators seeded for it."""


def seconds(loader: DataLoader[torch.Tensor], done: int) -> float:
    """From the request for the batch after ``done`` batches to its arrival, the fastest of three."""
    taken = []
    for _ in range(3):
        stream = stream_of(loader, "train", Seeds(1))
        start = time.perf_counter()
        opened = stream.open(0, done)
        next(opened.iterator)
        taken.append(time.perf_counter() - start)
        stream.close()
    return min(taken)


def main() -> None:
    """Prints a line for each kind of sampler: the time by position, and per skipped index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=4_000_000)
    length = parser.parse_args().samples
    data = Unread(length)
    kinds = {
        "in order": DataLoader(data, batch_size=BATCH),
        "shuffled": DataLoader(data, batch_size=BATCH, shuffle=True),
        "weighted": DataLoader(data, batch_size=BATCH, sampler=WeightedRandomSampler(torch.ones(length), length)),
        "own sampler": DataLoader(data, batch_size=BATCH, sampler=Own(data)),
    }
    batches = length // BATCH
    positions = [0, batches // 4, batches // 2, batches - 2]
    print(f"{length:,} samples in batches of {BATCH}; seconds to the batch after so many, and microseconds per skipped index")
    print("sampler".ljust(14) + "".join(f"{position:>12,}" for position in positions) + f"{'us / index':>14}")
    for name, loader in kinds.items():
        times = [seconds(loader, position) for position in positions]
        each = (times[-1] - times[0]) / (positions[-1] * BATCH) * 1e6
        print(name.ljust(14) + "".join(f"{value:>12.3f}" for value in times) + f"{each:>14.3f}")


if __name__ == "__main__":
    main()
