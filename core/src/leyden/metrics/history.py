"""What a fit logged, kept in memory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from leyden.messages import alternatives, listed


@dataclass
class Record:
    """The values of one log point."""

    step: int
    """The index of the optimizer step, from 0."""

    epoch: int
    """The number of the epoch, from 0."""

    time: float
    """Seconds since 1970."""

    values: dict[str, float] = field(default_factory=dict)

    batch: int = 0
    """Batches of the epoch that were done."""

    samples: int | None = None
    """Samples of the batches done in all epochs; None where nobody counted them."""


class History:
    """Every record of a fit, whether or not there was a logger; what ``Trainer.fit`` returns. It can be pickled."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.seed: int | None = None
        """The seed of the last run; ``seed_everything(history.seed)`` and the same code repeat it, up to 2**32 - 1."""

    def add(self, step: int, epoch: int, values: Mapping[str, float], *, batch: int = 0, samples: int | None = None) -> None:
        """Appends one record."""
        self.records.append(Record(step, epoch, time.time(), dict(values), batch, samples))

    def keys(self) -> list[str]:
        """Every key that was logged, in the order of first appearance."""
        return list(dict.fromkeys(key for record in self.records for key in record.values))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        """The number of records."""
        return len(self.records)

    def __bool__(self) -> bool:
        return True  # a fit that logged nothing has a history too

    def __contains__(self, key: object) -> bool:
        return any(key in record.values for record in self.records)

    def __getitem__(self, key: str) -> list[float]:
        """The values of one key, in order.

        Raises:
            KeyError: it was never logged.
        """
        self._check(key)
        return [record.values[key] for record in self.records if key in record.values]

    def steps(self, key: str) -> list[int]:
        """The optimizer steps of the values of one key.

        Raises:
            KeyError: it was never logged.
        """
        self._check(key)
        return [record.step for record in self.records if key in record.values]

    def epochs(self, key: str) -> list[int]:
        """The epochs of the values of one key.

        Raises:
            KeyError: it was never logged.
        """
        self._check(key)
        return [record.epoch for record in self.records if key in record.values]

    def to_pandas(self) -> Any:
        """A DataFrame: a row for each record, the columns ``step``, ``epoch``, ``batch``, ``samples``, ``time`` and all keys.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError:
            raise ModuleNotFoundError("History.to_pandas() needs pandas; run: pip install pandas") from None
        own = ["step", "epoch", "batch", "samples", "time"]
        rows = [{**{name: getattr(record, name) for name in own}, **record.values} for record in self.records]
        return pd.DataFrame(rows, columns=[*own, *self.keys()])

    def plot(self, keys: Sequence[str] | None = None, ax: Any = None) -> Any:
        """Draws values over optimizer steps.

        Args:
            keys: which; all if not given.
            ax: the matplotlib axes to draw on; new ones if not given.

        Returns:
            The axes.

        Raises:
            KeyError: one of the keys was never logged.
            ModuleNotFoundError: matplotlib is not installed.
        """
        if ax is None:
            try:
                from matplotlib.figure import Figure
            except ModuleNotFoundError:
                raise ModuleNotFoundError("History.plot() needs matplotlib; run: pip install matplotlib") from None
            ax = Figure(layout="constrained").subplots()
        for key in keys if keys is not None else self.keys():
            ax.plot(self.steps(key), self[key], marker="." if len(self[key]) < 50 else None, label=key)
        ax.set_xlabel("optimizer step")
        if ax.get_legend_handles_labels()[0]:
            ax.legend()
        return ax

    def sparkline(self, keys: Sequence[str] | None = None, width: int = 40) -> str:
        """The curves as text, a line for each key: ``train_loss  █▆▄▃▂▂▁  0.693 to 0.181``.

        Args:
            keys: which; all if not given.
            width: characters of a curve at most; each is the mean of the values it stands for, ``·`` where one is not finite.

        Raises:
            KeyError: one of the keys was never logged.
            ValueError: the width is less than 1.
        """
        if width < 1:
            raise ValueError(f"History.sparkline(width={width!r}): expected at least 1")
        chosen = list(keys) if keys is not None else self.keys()
        column = max(map(len, chosen), default=0)
        rows = [(key, self[key]) for key in chosen]
        return "\n".join(f"{k:<{column}}  {_bars(v, width):<{width}}  {v[0]:.3g} to {v[-1]:.3g}" for k, v in rows)

    def _check(self, key: str) -> None:
        if key not in self:
            raise KeyError(f"{key!r} was not logged{alternatives(key, self.keys(), 'logged')}")

    def __repr__(self) -> str:
        return f"History({len(self.records)} records of {listed(self.keys())})"


_BARS = "▁▂▃▄▅▆▇█"


def _bars(values: list[float], width: int) -> str:
    width = min(width, len(values))
    edges = [index * len(values) // width for index in range(width + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, span = min(finite, default=0.0), max(finite, default=0.0) - min(finite, default=0.0)
    # Rounded, not cut: the middle of the range is the middle bar, and a curve without a range lies at the bottom.
    return "".join(
        "·" if not math.isfinite(mean) else _BARS[round((mean - low) / span * (len(_BARS) - 1)) if span else 0] for mean in means
    )
