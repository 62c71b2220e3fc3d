"""Splits a data set by what its samples are, and checks that two data sets share none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, cast

from torch.utils.data import DataLoader, Dataset, Subset

from leyden.data.fingerprint import fingerprint
from leyden.messages import listed, shown


def split(
    dataset: Dataset[Any], fractions: Mapping[str, float], *, seed: int = 0, ids: Iterable[Any] | None = None
) -> dict[str, Subset[Any]]:
    """Splits a data set of indexed samples into named parts, by nothing but a seed and the samples.

    Each sample's part follows from its id alone. So it stays where it is when others come or go or their order changes, on
    every machine; samples that are alike are never in two parts; and the sizes of the parts are as asked for only roughly, within
    some square root of the number of samples.

    Args:
        dataset: with ``len()`` and ``[index]``.
        fractions: how much of it each part gets, such as ``{"train": 0.8, "val": 0.1, "test": 0.1}``; together 1.
        seed: another seed is another split.
        ids: what each sample is called, in order: file names, keys, anything of plain data. Without, every sample is read once
            and goes by its content, which must then be the same each time: no random augmentation.

    Raises:
        TypeError: the data set has no length, or a sample or id is not of plain data.
        ValueError: the fractions are not above 0 and together 1, or there is not one id a sample.
    """
    if not isinstance(dataset, Sized):
        raise TypeError(f"split(): expected a data set with a length, got {shown(dataset)}")
    if not fractions or any(not fraction > 0 for fraction in fractions.values()) or abs(sum(fractions.values()) - 1) > 1e-6:
        raise ValueError(f"split({dict(fractions)!r}): expected fractions above 0 that are 1 together")
    parts: dict[str, list[int]] = {name: [] for name in fractions}
    names = _names(dataset, ids, "split()")
    for index, name in enumerate(names):
        parts[_part_at(fingerprint(name, seed=seed) / 2**64, fractions)].append(index)
    return {name: Subset(dataset, indices) for name, indices in parts.items()}


def refuse_overlap(
    one: Any, other: Any, *, ids: tuple[Iterable[Any], Iterable[Any]] | None = None, names: tuple[str, str] = ("train", "test")
) -> None:
    """Checks that two data sets, or the data sets of two loaders, have no sample in common.

    Args:
        one: a data set of indexed samples, or a DataLoader of one.
        other: another.
        ids: what the samples of each are called; without, every sample is read once and goes by its content.
        names: what to call the two in the message.

    Raises:
        ValueError: they share samples; the message has the first few.
        TypeError: a data set has no length, or a sample or id is not of plain data.
    """
    prints: list[dict[int, tuple[int, Any]]] = []
    for position, given in enumerate((one, other)):
        dataset = given.dataset if isinstance(given, DataLoader) else given
        if not isinstance(dataset, Sized):
            raise TypeError(f"refuse_overlap(): expected data sets with a length, got {shown(dataset)}")
        found = _names(dataset, ids[position] if ids is not None else None, "refuse_overlap()")
        prints.append({fingerprint(name): (index, name) for index, name in enumerate(found)})
    shared = [(index, prints[1][key][0], name) for key, (index, name) in prints[0].items() if key in prints[1]]
    if shared:
        which = (
            listed(str(name) for _, _, name in shared[:5])
            if ids is not None
            else ", ".join(f"{names[0]}[{a}] is {names[1]}[{b}]" for a, b, _ in shared[:5])
        )
        raise ValueError(
            f"{names[0]} and {names[1]} share {len(shared)} sample(s): {which}{', ...' if len(shared) > 5 else ''}; "
            f"leyden.split() makes parts that share none"
        )


def _part_at(place: float, fractions: Mapping[str, float]) -> str:
    """The part that lies at ``place``, from 0 to 1, where the parts lie one behind the other."""
    part = ""
    for part, fraction in fractions.items():  # noqa: B007  # the last one has what rounding leaves
        place -= fraction
        if place < 0:
            break
    return part


def _names(dataset: Sized, ids: Iterable[Any] | None, where: str) -> Iterator[Any]:
    if ids is None:
        samples = cast("Sequence[Any]", dataset)
        return (samples[index] for index in range(len(dataset)))
    names = list(ids)
    if len(names) != len(dataset):
        raise ValueError(f"{where}: {len(names)} ids for {len(dataset)} samples; give one for each")
    return iter(names)
