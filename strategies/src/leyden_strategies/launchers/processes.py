"""Starts the ranks as children of this process, which waits for them and takes over what rank 0 made."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.process import BaseProcess
from multiprocessing.util import _run_finalizers as run_finalizers  # type: ignore[attr-defined]  # nothing public does it
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from leyden.messages import add_note
from leyden.outcome import dump_outcome, take_outcome
from torch import nn

from leyden_strategies.group import open_store
from leyden_strategies.launchers.board import file_of, remove
from leyden_strategies.launchers.rank import Rank
from leyden_strategies.launchers.report import FORWARDED, Failure, last_frames, newest_checkpoint, say_last, was_signalled
from leyden_strategies.launchers.watch import Watch, listening

if TYPE_CHECKING:
    from leyden_strategies.processes import ProcessesStrategy


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RankError(RuntimeError):
    """A rank ended the run: its number, where it was, and its own traceback."""


class ProcessesLauncher:
    """Forks or spawns a process for each device of this node; the code after the run goes on here, once."""

    in_place = False

    def __init__(self, method: str) -> None:
        """Takes how to start a process: ``"fork"``, ``"spawn"`` or ``"forkserver"``."""
        self.method = method

    def launch(self, strategy: ProcessesStrategy, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Runs the function in the ranks; returns what rank 0's returned, when what it trained is here too.

        Raises:
            RuntimeError: processes cannot be forked any more, or there are several nodes.
            TypeError: what a spawned process needs cannot be pickled.
            RankError: a rank died without an exception; an exception of a rank is raised as it is.
        """
        trainer = args[0]
        self._check(strategy, args)
        trainer.log_dir  # noqa: B018  # loggers settle on their directory here, so that it is known here too
        context: Any = multiprocessing.get_context(self.method)
        with listening() as received:
            code, result = self._run(context, strategy, function, args, received)
        if code or isinstance(result, _Left):
            return _leave(code)
        for number in received:
            if number in _ENDING:  # it came when the ranks were done, and is for this process
                os.kill(os.getpid(), number)
        return result

    def _run(
        self,
        context: Any,
        strategy: ProcessesStrategy,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        received: list[int],
    ) -> tuple[int, Any]:
        """Starts the ranks and waits for them; returns their exit code and what rank 0's function returned."""
        directory = Path(tempfile.mkdtemp(prefix="leyden-"))
        job: tuple[Any, ...] = (strategy, function, args, str(directory), os.getpid())
        target: Callable[..., None] = _run_rank
        if self.method != "fork":
            target, job = _run_sent_rank, (pickle.dumps(job),)
        ranks: dict[int, BaseProcess] = {}
        try:
            with forking() if self.method == "fork" else nullcontext(), _kept_for_the_ranks():
                for rank in range(len(strategy.device_indices)):
                    process = context.Process(target=target, args=(rank, *job), name=f"leyden-rank-{rank}")
                    process.start()
                    ranks[rank] = process
            del job  # it has all of the data that was given
            # The store lives here, so that it outlives every rank. It is opened when all are started: it has a thread, and a lock
            # of the C library that a thread holds during a fork is never let go of in the fork.
            _store = open_store(directory / "port")
            pids = {rank: process.pid or 0 for rank, process in ranks.items()}
            watch = Watch(directory, pids, lambda rank: ranks[rank].exitcode, strategy.stall_seconds, received)
            failure = watch.run()
            for process in ranks.values():
                process.join()
            if failure is not None and was_signalled(failure):
                say_last(failure, watch)
                return failure.code, None
            if failure is not None:
                raise self._error(failure, watch, directory)
            code = next((process.exitcode for process in ranks.values() if process.exitcode), 0)
            result = None
            if (directory / "outcome").exists():  # also of a run that was interrupted
                result = take_outcome(args[0], (directory / "outcome").read_bytes())
            elif not code:
                raise RankError("rank 0 left with exit code 0 before the run was over")
            return code, result
        finally:
            for process in ranks.values():
                if process.is_alive():
                    process.kill()
                    process.join()
            remove(directory)

    def _check(self, strategy: ProcessesStrategy, args: tuple[Any, ...]) -> None:
        if strategy.num_nodes > 1:
            raise RuntimeError(
                f"strategy={strategy.name!r} starts the processes of one node, and num_nodes={strategy.num_nodes}; "
                f"use strategy='ddp', torchrun or srun"
            )
        if self.method == "fork":
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch has no types here
                raise RuntimeError(
                    f"strategy={strategy.name!r} forks, which cannot work once CUDA was used in this process; restart it (a "
                    f"notebook: its kernel) and touch no CUDA device before fit(), not even by torch.zeros(1, device='cuda'); "
                    f"the run itself is then free to"
                )
            return
        if getattr(multiprocessing.current_process(), "_inheriting", False):  # where Python itself would say so at length
            raise RuntimeError(
                f"strategy={strategy.name!r} imports the script anew in each process, and this one would start the run again: "
                f"put what starts it below `if __name__ == '__main__':`, or use strategy='ddp' or 'ddp_fork'"
            )
        for value in (*args[1:], args[0]):  # the Trainer last, for it has the module too
            refuse_unpicklable(value, strategy.name, type(value).__name__)

    def _error(self, failure: Failure, watch: Watch, directory: Path) -> BaseException:
        """The exception to raise here: the rank's own, with the rank's traceback as its cause, or one that says how it died."""
        if watch.stacks:
            say_last(failure, watch)
        own = file_of(directory, failure.rank, "exception")
        trace = last_frames(failure.traceback) if watch.stacks else failure.traceback
        text = f"{failure.headline}\n{trace}".rstrip()
        newest = newest_checkpoint(directory)
        if failure.traceback and own.exists():
            try:
                error: BaseException = pickle.loads(own.read_bytes())  # what a rank, our own child, wrote for us
            except Exception:
                return _with_checkpoint(RankError(text), newest)
            error.__cause__ = RankError(text)
            add_note(error, failure.headline)
            return _with_checkpoint(error, newest)
        return _with_checkpoint(RankError(text), newest)


def _with_checkpoint(error: BaseException, path: str | None) -> BaseException:
    if path is not None:
        add_note(error, f"the newest checkpoint is {path}")
    return error


def _leave(code: int) -> Any:
    if code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(code)


class _Left:
    """Stands for what a run returned that the user's code left by ``sys.exit``."""


@contextmanager
def _kept_for_the_ranks() -> Iterator[None]:
    """Inside, processes are started that get no signal until they ask for it, when they can heed one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def forking() -> Iterator[None]:
    """Makes forks cheap: what each of them would do by itself is done here once."""
    import torch._dynamo  # noqa: F401  # building DDP imports these 800 modules, which takes 2 seconds

    sys.stdout.flush()
    sys.stderr.flush()
    gc.freeze()  # a collection in a fork would copy every page of what is here
    try:
        yield
    finally:
        gc.unfreeze()


def _run_rank(
    local_rank: int,
    strategy: ProcessesStrategy,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    directory: str,
    parent: int,
) -> None:
    """What a rank does, from its start to its end."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)  # a fork has its parent's, which forward signals to the ranks
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if strategy.launcher == "fork":
        torch.set_num_threads(1)  # it has none of its parent's OpenMP threads, and would wait for them for ever
    code = _watched(local_rank, strategy, function, args, Path(directory), parent)
    with suppress(Exception):
        run_finalizers(0)  # semaphores of the workers of loaders are removed; threads of queues that nobody reads are not joined
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the user's code may have closed it, or whoever read it has gone
            stream.flush()
    # Not the interpreter's way out: a fork would do again what its parent registered to be done at exit.
    os._exit(code)


def _watched(
    local_rank: int,
    strategy: ProcessesStrategy,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    place: Path,
    parent: int,
) -> int:
    """Runs the function as a rank; returns the exit code."""
    rank = Rank(place, local_rank, parent)
    strategy.become(local_rank, place / "port")
    code: int = 0
    result: Any = _Left()
    try:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            try:
                result = strategy.guard(function, *args)
            finally:
                signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # whatever comes now is too late for this rank
        except KeyboardInterrupt as left:
            rank.left(left, together=False)
            code = 128 + signal.SIGINT
        except SystemExit as left:
            rank.left(left, together=False)
            code = left.code if isinstance(left.code, int) else int(left.code is not None)
        if local_rank == 0:
            (place / "outcome.part").write_bytes(dump_outcome(args[0], result))
            (place / "outcome.part").replace(place / "outcome")
    except KeyboardInterrupt as left:  # a second one, while this rank was about to leave
        rank.left(left, together=False)
        code = 128 + signal.SIGINT
    except BaseException as error:
        rank.failed(error)
        _write_exception(place, local_rank, error)
        code = 1
    return code


def _run_sent_rank(local_rank: int, job: bytes) -> None:
    """As :func:`_run_rank`, of what was pickled.

    multiprocessing's own pickler, to which torch has added, would have the ranks share the memory of every tensor, so that each
    one's optimizer would step the parameters of all.
    """
    _run_rank(local_rank, *pickle.loads(job))


def _write_exception(place: Path, rank: int, error: BaseException) -> None:
    try:
        data = pickle.dumps(error)
        pickle.loads(data)  # many exceptions can be pickled and not be built again
    except Exception:
        return
    with suppress(OSError):
        file_of(place, rank, "exception").write_bytes(data)


def refuse_unpicklable(value: Any, strategy: str, name: str) -> None:
    """Names the attribute because of which a value cannot go to a spawned process.

    Raises:
        TypeError: there is one.
    """
    try:
        pickle.dumps(value)
    except Exception as error:
        path, reason = _culprit(value, name, error)
        raise TypeError(
            f"strategy={strategy!r} starts new processes, and {path} cannot be sent there: {type(reason).__name__}: {reason}; "
            f"make it in setup() or in configure_model(), which run in each process, or use strategy='ddp_fork'"
        ) from None


def _culprit(value: Any, path: str, error: Exception) -> tuple[str, Exception]:
    state = value.__getstate__() if hasattr(value, "__getstate__") else getattr(value, "__dict__", None)
    parts: dict[str, Any] = dict(state) if isinstance(state, dict) else {}
    if isinstance(value, nn.Module):
        for store in ("_modules", "_parameters", "_buffers"):
            parts.update(parts.pop(store, {}))
    elif isinstance(value, dict):
        parts = {f"[{key!r}]": item for key, item in value.items()}
    elif isinstance(value, list | tuple):
        parts = {f"[{index}]": item for index, item in enumerate(value)}
    for name, part in parts.items():
        if name == "_trainer":
            continue
        try:
            pickle.dumps(part)
        except Exception as inner:
            return _culprit(part, f"{path}{name}" if name.startswith("[") else f"{path}.{name}", inner)
    return path, error
