"""Reads batches one by one, and says where it happened when that fails or stalls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from types import TracebackType
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from leyden.data.duplicates import duplicate_check
from leyden.data.streams import Stream
from leyden.data.worker_places import dead_workers, describe_workers, named, sample_of, traced_workers
from leyden.messages import add_note, notify
from leyden.seeding import seed_generators

STALL_SECONDS = 60.0
"""How long a loader's workers may take for a batch before it is said."""

_END = object()

_died: list[str] = []
"""What is known of workers that had died when a reader was closed, for the error that torch raises of them anywhere."""


class Reader:
    """An iterator over the batches of one loader, on the device."""

    def __init__(
        self,
        stream: Stream,
        where: str,
        transfer: Callable[[Any, int], Any] | None,
        dataloader_idx: int = 0,
        epoch: object = 0,
        done: int = 0,
    ) -> None:
        """Starts reading.

        Args:
            stream: the batches.
            where: where they come from, for messages.
            transfer: brings a batch to the device; None where it is used as it comes.
            dataloader_idx: passed to ``transfer``.
            epoch: which epoch of the stream.
            done: batches to start after.
        """
        self.stream = stream
        self.where = where
        self.transfer: Callable[[Any, int], Any] | None
        self.dataloader_idx = dataloader_idx
        iterable = stream.iterable
        # Only for these can an end be told from a StopIteration that the data set raised by mistake.
        self.indexed = isinstance(iterable, DataLoader) and not isinstance(iterable.dataset, IterableDataset)
        self.persistent = isinstance(iterable, DataLoader) and iterable.persistent_workers
        self.loader = iterable
        try:
            with traced_workers(iterable):
                opened = stream.open(epoch, done)
        except Exception as error:
            add_note(error, f"while beginning to read {where}")
            raise
        self.iterator, self.workers = opened.iterator, opened.workers
        self.number = opened.passed
        """The index of the next batch."""
        self.watch = _Watch(self) if isinstance(iterable, DataLoader) and iterable.num_workers and not iterable.timeout else None
        self.duplicates = duplicate_check(iterable, where)
        self.transfer = None
        try:
            self._pass_over(done)
        except BaseException:
            self.close()
            raise
        self.seed = stream.transfer_seed(epoch) if transfer is not None and stream.seeds_batches else None
        """What the way to the device is seeded with for the first batch, if it may draw random numbers."""
        self.transfer = transfer

    def _pass_over(self, done: int) -> None:
        """Reads batches that have been done, where nothing better is possible."""
        if self.number < done:
            notify(
                "LY031",
                f"{self.where} cannot start in the middle of an epoch, so its first {done} batches are read and passed over; "
                f"a loader or data set with state_dict() and load_state_dict() need not be",
            )
        while self.number < done and self.read() is not _END:
            pass

    def read(self) -> Any:
        """The next batch, or :data:`_END`.

        Raises:
            RuntimeError: the data set, the collate function or the sampler raised StopIteration.
        """
        if self.watch is not None:
            self.watch.since = time.monotonic()
        try:
            batch = next(self.iterator)
        except StopIteration as stop:
            self.ended(stop)
            return _END
        except Exception as error:
            self.failed(error)
            raise
        finally:
            if self.watch is not None:
                self.watch.since = None
        self.number += 1
        if self.duplicates is not None and not self.duplicates.wants(batch):
            self.duplicates = None
        if self.transfer is None:
            return batch
        if self.seed is not None:
            seed_generators(self.seed + self.number)
        return self.transfer(batch, self.dataloader_idx)

    def ended(self, stop: StopIteration) -> None:
        """Refuses an end that is a mistake."""
        if self.indexed and not _is_an_end(stop):
            raise RuntimeError(
                f"StopIteration was raised while reading {self._place(stop)}; it would end the epoch without a word, so raise "
                f"another error in the data set or the collate function"
            ) from stop

    def failed(self, error: Exception) -> None:
        """Says in an error which batch it was.

        Raises:
            RuntimeError: in place of an error of the connection to a worker that has died.
        """
        add_note(error, f"while reading {self._place(error)}")
        lost = isinstance(error, ConnectionError | EOFError)
        dead = dead_workers(self.workers, self.number, wait=1.0 if lost else 0.0)
        if dead and lost:
            raise RuntimeError(f"{dead} of {self.where}") from error
        if dead:
            add_note(error, f"{dead} of {self.where}")

    def _place(self, error: Exception) -> str:
        """Which batch was read when an error came, and which of its samples as far as that is known."""
        sample = sample_of(error.__traceback__) or named(self.stream.samples_of(self.number))
        return f"{f'{sample} for ' if sample else ''}batch {self.number} of {self.where}"

    def close(self) -> None:
        """Stops watching, and ends the loader's workers unless they are to be used again."""
        if self.watch is not None:
            self.watch.stop()
            dead = dead_workers(self.workers, self.number)
            if dead:
                _died.append(f"{dead} of {self.where}")
        if not self.persistent:
            _end_workers(self.workers)
        self.stream.close()


def counted(reader: Reader, length: int | float) -> Generator[tuple[Any, bool], None, None]:
    """Pairs of a batch and whether it is the last of ``length``; nothing is read ahead."""
    first = reader.number
    iterator, number = reader.iterator, first
    plain = reader.watch is None and reader.transfer is None
    try:
        while number - first < length:
            if plain:  # Reader.read in place, which this saves for each batch
                try:
                    batch = next(iterator)
                except StopIteration as stop:
                    reader.number = number
                    reader.ended(stop)
                    return
                except Exception as error:
                    reader.number = number
                    reader.failed(error)
                    raise
            else:
                batch = reader.read()
                if batch is _END:
                    return
            number += 1
            yield batch, number - first == length
            del batch  # freed before the next one is read
    finally:
        reader.close()


def read_ahead(reader: Reader, length: int | float) -> Generator[tuple[Any, bool], None, None]:
    """As :func:`counted`, reading one batch ahead: for unknown lengths, and so that a copy to the device overlaps a step."""
    try:
        ready = reader.read() if length else _END
        index = 0
        while ready is not _END:
            index += 1
            if index < length:
                reader.stream.mark()
            versions, number = _versions(ready), reader.number - 1
            following = reader.read() if index < length else _END
            if versions != _versions(ready):
                raise ValueError(
                    f"batch {number} of {reader.where} was changed in place while the batch after it was read, which is done "
                    f"ahead; give each batch tensors of its own, for instance by .clone()"
                )
            yield ready, following is _END
            ready = following
    finally:
        reader.close()


def _versions(batch: Any) -> Any:
    """How often each tensor of a batch was changed in place."""
    if isinstance(batch, Tensor):
        return None if batch.is_inference() else batch._version
    if isinstance(batch, Mapping):
        return [_versions(value) for value in batch.values()]
    return [_versions(value) for value in batch] if isinstance(batch, list | tuple) else None


def _end_workers(iterator: Any) -> None:
    # torch ends them when the iterator is forgotten, which a traceback that somebody keeps puts off.
    end = getattr(iterator, "_shutdown_workers", None)
    if end is not None:
        end()


def _is_an_end(stop: StopIteration) -> bool:
    """Whether a DataLoader of indexed samples raised ``stop`` because its sampler ended, not while it fetched samples."""
    trace: TracebackType | None = stop.__traceback__
    while trace is not None:
        # Samples are fetched there; what a worker raised is raised again in the other.
        if trace.tb_frame.f_globals.get("__name__") in ("torch.utils.data._utils.fetch", "torch._utils"):
            return False
        trace = trace.tb_next
    return True


def explain_worker(error: BaseException) -> None:
    """Notes on the error of a worker that was killed what it may have been; torch raises it wherever the run just is."""
    died, said = list(dict.fromkeys(_died)), "\n".join([str(error), *getattr(error, "__notes__", [])])
    _died.clear()
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        for sentence in died:
            if sentence not in said:
                add_note(error, sentence)
        add_note(
            error,
            "if a worker was killed, memory is short, or shared memory is (docker: --shm-size); num_workers=0 shows errors of "
            "the data set where they happen",
        )


class _Watch:
    """A thread that says when the workers of a loader let the run wait."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.since: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leyden-stall-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        said = 0.0
        while not self._stopped.wait(min(1.0, STALL_SECONDS / 4)):
            since = self.since
            waited = time.monotonic() - since if since is not None else 0.0
            if waited < STALL_SECONDS:
                said = 0.0
            elif waited >= said + STALL_SECONDS:
                said = waited
                doing = describe_workers(self.reader.loader, self.reader.workers, self.reader.number)
                notify(
                    "LY009",
                    f"waiting {waited:.0f} s for batch {self.reader.number} of {self.reader.where}: {doing}; timeout=... on the "
                    f"DataLoader makes this an error",
                    every_rank=True,
                )
