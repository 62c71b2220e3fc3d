"""The loaders of each stage of a run, under the Trainer's limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from leyden.data.combined import CombinedLoader
from leyden.data.dealing import Deal, can_be_dealt
from leyden.data.loaders import INFINITE, Loader, evaluation_loaders, length_of, limited, several, source
from leyden.data.overfit import first_batches
from leyden.data.streams import Seeds, stream_of
from leyden.messages import notify
from leyden.module import Module
from leyden.seeding import seeds_everywhere

if TYPE_CHECKING:
    from leyden.trainer import Trainer


def load_train(trainer: Trainer) -> Loader:
    """Asks for the training loader of a run.

    Raises:
        ValueError: there is none, or it is empty.
    """
    assert trainer.module is not None
    given, where = source("train", trainer.given_train, trainer.datamodule, trainer.module)
    if given is None:
        _refuse_nothing(where)
        raise ValueError(
            f"there is nothing to train on: pass train_dataloaders or datamodule to fit(), or define "
            f"{type(trainer.module).__name__}.train_dataloader()"
        )
    trainer.train_dataloader = given
    if several(given) or isinstance(given, Mapping):
        given = CombinedLoader(given, "max_size_cycle")
    if trainer.overfit_batches:
        number = limited(given, trainer.overfit_batches, "overfit_batches", where).length
        given = first_batches(given, number, stream_of(given, "overfit", _seeds(trainer)))
    trainer.train_loader = limited(given, trainer.limit_train_batches, "limit_train_batches", where)
    _give_streams(trainer, "train", [trainer.train_loader])
    trainer.num_training_batches = _agreed_length(trainer, trainer.train_loader)
    return trainer.train_loader


def _agreed_length(trainer: Trainer, loader: Loader) -> int | float:
    """The batches that an epoch trains on, which is one number for all processes: they validate by it, and schedulers go by it.

    Raises:
        ValueError: a process has none, and does not join the others.
    """
    strategy, length = trainer.strategy, loader.length
    lengths: list[float] = [length]
    if strategy.world_size > 1 and trainer.running and not loader.is_dealt:
        told = strategy.all_gather(torch.tensor([length, float(loader.reliable)], dtype=torch.float64)).tolist()
        lengths = [number for number, _ in told]
        loader.even = len(set(lengths)) == 1 and all(certain for _, certain in told)
        longest = strategy.uneven in ("wrap", "join")
        length = max(lengths) if longest else min(lengths)
        length = length if length == INFINITE else int(length)
    if trainer.limit_train_batches and not (length if strategy.uneven == "join" else min(lengths)):
        empty = [rank for rank, number in enumerate(lengths) if not number]
        which = "" if len(empty) == len(lengths) else f" on rank {', '.join(map(str, empty))}"
        raise ValueError(f"{loader.where} is empty{which}: it has no batch to train on")
    return length


def load_validation(trainer: Trainer, module: Module) -> list[Loader]:
    """Asks for the validation loaders of a fit; empty if there are none.

    Raises:
        ValueError: one is empty.
    """
    if trainer.overfit_batches:
        given, where = (trainer.train_loader or load_train(trainer)).iterable, "train_dataloaders"
    else:
        given, where = source("val", trainer.given_val, trainer.datamodule, module)
    if given is None:
        return []
    trainer.val_dataloaders = given
    loaders = evaluation_loaders(_sequence(given), trainer.limit_val_batches, "limit_val_batches", where)
    _refuse_empty(trainer, loaders, trainer.limit_val_batches, where, "validate")
    _give_streams(trainer, "val", loaders)
    trainer.num_val_batches = [loader.length for loader in loaders]
    return loaders


def load_evaluation(trainer: Trainer, short: str, dataloaders: Any, module: Module) -> list[Loader]:
    """Asks for the loaders of validate, test or predict.

    Raises:
        ValueError: there are none, or one is empty.
    """
    given, where = source(short, dataloaders, trainer.datamodule, module)
    if dataloaders is not None:
        where = "dataloaders"
    if given is None:
        _refuse_nothing(where)
        raise ValueError(
            f"there is no data: pass dataloaders or datamodule to {trainer.stage}(), or define "
            f"{type(module).__name__}.{short}_dataloader()"
        )
    setattr(trainer, f"{short}_dataloaders", given)
    argument = f"limit_{short}_batches"
    loaders = evaluation_loaders(_sequence(given), getattr(trainer, argument), argument, where)
    _refuse_empty(trainer, loaders, getattr(trainer, argument), where, str(trainer.stage))
    _give_streams(trainer, short, loaders)
    return loaders


def _refuse_nothing(where: str) -> None:
    if where.endswith("()"):
        raise ValueError(f"{where} returned None; end it with `return loader`")


def _refuse_empty(trainer: Trainer, loaders: list[Loader], limit: float, where: str, stage: str) -> None:
    for index, loader in enumerate(loaders):
        # Of several processes one may have nothing, but not all of them.
        dealt = trainer.use_distributed_sampler and can_be_dealt(loader.iterable)
        if not loader.length and limit and (dealt or trainer.strategy.world_size == 1):
            which = f"{where}[{index if loader.name is None else repr(loader.name)}]" if len(loaders) > 1 else where
            raise ValueError(f"{which} is empty: it has no batch to {stage}")


def _seeds(trainer: Trainer) -> Seeds:
    return Seeds(trainer.seed, trainer.strategy.rank, seeds_everywhere())


def _give_streams(trainer: Trainer, short: str, loaders: list[Loader]) -> None:
    """Has each loader read by a stream, in place of those of the same purpose that the run had before."""
    for purpose in [purpose for purpose in trainer.streams if purpose.split("/")[0] == short]:
        trainer.streams.pop(purpose).end()
    for index, loader in enumerate(loaders):
        purpose = short if short == "train" else f"{short}/{index}"
        loader.stream = trainer.streams[purpose] = stream_of(loader.iterable, purpose, _seeds(trainer))
        if trainer.strategy.world_size > 1 and trainer.use_distributed_sampler:
            _deal_out(trainer, short, loader)


def _deal_out(trainer: Trainer, short: str, loader: Loader) -> None:
    """Has each process read its part of a loader, whose length is then the part's."""
    strategy, argument = trainer.strategy, f"limit_{short}_batches"
    remainder = "stop" if strategy.uneven == "stop" else "wrap"
    assert loader.stream is not None
    deal = Deal(strategy.rank, strategy.world_size, short == "train", remainder)
    dealt = loader.stream.deal_out(deal)
    if dealt is not None:
        limit: float = getattr(trainer, argument)
        if (
            short != "train"
            and isinstance(limit, float)
            and loader.whole != INFINITE
            and loader.whole == length_of(loader.iterable)
        ):
            # A fraction is one of all batches: the processes have different numbers of them, of which one's may be none.
            loader.whole, loader.length, loader.samples = dealt[0], deal.share(int(loader.length)), dealt[1]
            return
        part = limited(loader.iterable, limit, argument, loader.where, loader.name, dealt[0])
        loader.whole, loader.length, loader.samples = part.whole, part.length, dealt[1]
    elif not isinstance(loader.iterable, DataLoader | CombinedLoader):
        notify(
            "LY036",
            f"{loader.where}: each of the {strategy.world_size} processes reads every batch of a "
            f"{type(loader.iterable).__name__}; pass a torch DataLoader over a data set, whose samples are dealt out among them, "
            f"or give each process batches of its own and pass use_distributed_sampler=False",
        )


def end_workers(trainer: Trainer) -> None:
    """Ends the workers that the loaders of a run kept between its epochs."""
    for stream in trainer.streams.values():
        stream.end()


def _sequence(given: Any) -> Any:
    """The loaders of a sequential CombinedLoader: evaluation reads several one after the other anyway."""
    return given.iterables if isinstance(given, CombinedLoader) and given.mode == "sequential" else given
