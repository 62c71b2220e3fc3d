"""Notices that the workers of a loader each give the same samples."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from leyden.data.fingerprint import fingerprint
from leyden.messages import warn

_IDS = ("__key__", "sample_id", "sample_ids", "id", "ids", "index", "idx")
_MOST = 1 << 16
"""Bytes of each tensor of a batch that are looked at."""

_looked_at: weakref.WeakSet[DataLoader[Any]] = weakref.WeakSet()


class DuplicateCheck:
    """Compares the first two batches of every worker, which come in turn; then it is done.

    A batch that is a dict with the ids of its samples is compared by those, any other by what it holds.
    """

    def __init__(self, workers: int, dataset: Any, where: str) -> None:
        self.workers = workers
        self.dataset = dataset
        self.where = where
        self.seen: list[int] = []

    def wants(self, batch: Any) -> bool:
        """Looks at a batch; False once it has seen enough."""
        try:
            self.seen.append(fingerprint(_named(batch), most=_MOST))
        except TypeError:
            return False
        if len(self.seen) < 2 * self.workers:
            return True
        first, second = self.seen[: self.workers], self.seen[self.workers :]
        # Data of which every batch is alike says nothing.
        if len(set(first)) == 1 == len(set(second)) and first[0] != second[0]:
            name = type(self.dataset).__name__
            warn(
                "LY030",
                f"the {self.workers} workers of {self.where} give the same samples, so each is read {self.workers} times an "
                f"epoch: {name} does not look at its worker; in {name}.__iter__, give worker "
                f"torch.utils.data.get_worker_info().id every num_workers-th sample, or pass num_workers=1",
            )
        return False


def duplicate_check(iterable: Any, where: str) -> DuplicateCheck | None:
    """The check of a loader that is read for the first time, if its workers could each give the same samples."""
    if not (isinstance(iterable, DataLoader) and isinstance(iterable.dataset, IterableDataset) and iterable.num_workers > 1):
        return None
    if iterable in _looked_at or not getattr(iterable, "in_order", True):
        return None
    _looked_at.add(iterable)
    return DuplicateCheck(iterable.num_workers, iterable.dataset, where)


def _named(batch: Any) -> Any:
    if isinstance(batch, Mapping):
        for key in _IDS:
            if key in batch:
                return batch[key]
    return batch
