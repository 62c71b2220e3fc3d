"""Splits by content, and the check that two data sets share no sample."""

from __future__ import annotations

import multiprocessing
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from leyden import refuse_overlap, split
from leyden.data.fingerprint import fingerprint
from leyden.testing import RandomData
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

FRACTIONS = {"train": 0.7, "val": 0.2, "test": 0.1}


def texts(part):
    return [str(part[index][0].tolist()) for index in range(len(part))]


def test_every_sample_is_in_one_part_and_sizes_are_roughly_as_asked():
    data = RandomData(2000)
    parts = split(data, FRACTIONS)
    assert list(parts) == ["train", "val", "test"]
    assert sorted(index for part in parts.values() for index in part.indices) == list(range(2000))
    assert [abs(len(parts[name]) - 2000 * fraction) < 90 for name, fraction in FRACTIONS.items()] == [True] * 3


def test_a_split_is_a_function_of_seed_and_content_alone():
    data = RandomData(300)
    before = split(data, FRACTIONS)
    torch.manual_seed(5)  # no random number is drawn
    assert {name: part.indices for name, part in split(data, FRACTIONS).items()} == {n: p.indices for n, p in before.items()}
    assert split(data, FRACTIONS, seed=1)["test"].indices != before["test"].indices


def test_a_sample_stays_in_its_part_when_others_come_or_go_or_change_places():
    data = RandomData(300)
    before = split(data, FRACTIONS)
    turned = split(Subset(data, range(299, -1, -1)), FRACTIONS)
    grown = split(ConcatDataset([RandomData(100, seed=9), data]), FRACTIONS)
    for name, part in before.items():
        assert set(texts(part)) == set(texts(turned[name]))
        assert set(texts(part)) <= set(texts(grown[name]))


def test_samples_that_are_alike_are_in_one_part():
    data = RandomData(100)
    parts = split(ConcatDataset([data, data]), FRACTIONS)
    refuse_overlap(parts["train"], parts["test"])
    refuse_overlap(DataLoader(parts["train"]), DataLoader(parts["val"], shuffle=True))


def test_ids_take_the_place_of_content_and_no_sample_is_read():
    class Files:
        def __len__(self):
            return 50

        def __getitem__(self, index):
            raise AssertionError("it was read")

    names = [f"image-{index}.png" for index in range(50)]
    parts = split(Files(), FRACTIONS, ids=names)
    assert sum(map(len, parts.values())) == 50
    assert {name: part.indices for name, part in parts.items()} == {
        name: part.indices for name, part in split(Files(), FRACTIONS, ids=list(names)).items()
    }
    chosen = [[names[index] for index in parts[name].indices] for name in ("train", "val")]
    refuse_overlap(parts["train"], parts["val"], ids=(chosen[0], chosen[1]))


@pytest.mark.parametrize(
    ("fractions", "shown"),
    [({}, "{}"), ({"a": 0.5}, "{'a': 0.5}"), ({"a": 1.5, "b": -0.5}, "{'a': 1.5, 'b': -0.5}"), ({"a": 0.0, "b": 1.0}, "")],
)
def test_fractions_that_are_none(fractions, shown):
    with pytest.raises(ValueError) as caught:
        split(RandomData(4), fractions)
    shown = shown or "{'a': 0.0, 'b': 1.0}"
    assert str(caught.value) == f"split({shown}): expected fractions above 0 that are 1 together"


def test_what_cannot_be_split_says_why():
    with pytest.raises(ValueError) as caught:
        split(RandomData(4), {"a": 1.0}, ids=["x"])
    assert str(caught.value) == "split(): 1 ids for 4 samples; give one for each"
    with pytest.raises(TypeError) as caught:
        split(3, {"a": 1.0})
    assert str(caught.value) == "split(): expected a data set with a length, got int 3"
    with pytest.raises(TypeError) as caught:
        split([object()], {"a": 1.0})
    assert str(caught.value) == "a object has no content that could be told from another's"


def test_an_overlap_is_refused_with_the_first_samples():
    data = RandomData(20)
    with pytest.raises(ValueError) as caught:
        refuse_overlap(Subset(data, range(12)), DataLoader(Subset(data, range(10, 20))))
    assert str(caught.value) == (
        "train and test share 2 sample(s): train[10] is test[0], train[11] is test[1]; leyden.split() makes parts that share none"
    )
    with pytest.raises(ValueError) as caught:
        refuse_overlap([1] * 7, [2] * 7, ids=("abcdefg", "gfedcba"), names=("one", "two"))
    assert str(caught.value) == (
        "one and two share 7 sample(s): 'a', 'b', 'c', 'd', 'e', ...; leyden.split() makes parts that share none"
    )
    with pytest.raises(TypeError) as caught:
        refuse_overlap(iter([]), [1])
    assert str(caught.value).startswith("refuse_overlap(): expected data sets with a length, got list_iterator <")


@dataclass
class Point:
    x: int


SAMPLES = [
    1, 1.0, True, None, "1", b"1", [1], [[1]], {"a": 1}, {"a": 2}, torch.ones(2), torch.ones(2, 1), torch.ones(2).half(),
    torch.ones(2, dtype=torch.bfloat16), torch.tensor(1), torch.zeros(0), np.array("text"), Point(1), Point(2), 2 + 1j,
    torch.ones(1, dtype=torch.complex64), torch.tensor([True]), torch.zeros(2), torch.zeros(2, dtype=torch.int32),
]  # fmt: skip


def prints(seed):
    return [fingerprint(sample, seed=seed) for sample in SAMPLES]


def test_content_is_told_apart():
    assert len(set(prints(0))) == len(SAMPLES)
    assert not set(prints(0)) & set(prints(1))
    assert fingerprint((1, 2)) == fingerprint([1, 2])
    assert fingerprint(OrderedDict(a=1)) == fingerprint({"a": 1})
    assert fingerprint(np.arange(3)) == fingerprint(torch.arange(3))
    assert fingerprint(torch.arange(6).reshape(2, 3).T) == fingerprint(torch.arange(6).reshape(2, 3).T.contiguous())
    assert fingerprint(torch.arange(9), most=16) == fingerprint(torch.tensor([0, 1, *[5] * 7]), most=16)


def test_content_is_the_same_in_every_process():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(prints, (3,)) == prints(3)


def test_a_data_set_of_tensors_can_be_split():
    parts = split(TensorDataset(torch.arange(50.0), torch.arange(50)), {"a": 0.5, "b": 0.5})
    assert len(parts["a"]) + len(parts["b"]) == 50
