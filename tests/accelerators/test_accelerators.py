"""The accelerators that leyden-accelerators registers."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from leyden import Trainer
from leyden_accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator


@pytest.fixture
def no_gpu(monkeypatch):
    """A machine without a GPU and a torch that is a CPU build, whatever this one is."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine with two CUDA devices, as far as counting goes."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_cuda_without_a_device_says_why_and_what_to_do(no_gpu):
    with pytest.raises(ValueError, match="was asked for") as caught:
        CUDAAccelerator().parse_devices("auto")
    assert str(caught.value) == (
        "accelerator='cuda' was asked for but there is no CUDA device here (torch is a CPU build); use accelerator='auto'"
    )


def test_cuda_with_hidden_devices_names_the_variable_that_hides_them(no_gpu, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ValueError, match="was asked for") as caught:
        CUDAAccelerator().parse_devices(1)
    assert str(caught.value) == (
        "accelerator='cuda' was asked for but there is no CUDA device here (torch is built for CUDA 12.6 but finds no device and "
        "CUDA_VISIBLE_DEVICES is ''); use accelerator='auto'"
    )


def test_mps_without_a_device_says_why_and_what_to_do(no_gpu):
    with pytest.raises(ValueError, match="was asked for") as caught:
        MPSAccelerator().parse_devices("auto")
    assert str(caught.value) == (
        "accelerator='mps' was asked for but there is no MPS device here (torch is built without MPS); use accelerator='auto'"
    )


def test_gpu_without_any_says_what_was_looked_for(no_gpu):
    with pytest.raises(ValueError, match="was asked for") as caught:
        Trainer(accelerator="gpu", logger=False)
    assert str(caught.value) == (
        "accelerator='gpu' was asked for but there is no CUDA device here (torch is a CPU build) and no MPS device (torch is "
        "built without MPS); use accelerator='auto'"
    )


def test_gpu_means_cuda_where_there_is_cuda(no_gpu, two_gpus):
    assert isinstance(Trainer(accelerator="gpu", devices=1, logger=False).accelerator, CUDAAccelerator)


def test_gpu_means_mps_where_there_is_only_mps(no_gpu, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert isinstance(Trainer(accelerator="gpu", devices=1, logger=False).accelerator, MPSAccelerator)


def test_auto_takes_the_available_accelerator_of_the_highest_priority(no_gpu, monkeypatch):
    assert isinstance(Trainer(accelerator="auto", logger=False).accelerator, CPUAccelerator)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert isinstance(Trainer(accelerator="auto", logger=False).accelerator, MPSAccelerator)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert isinstance(Trainer(accelerator="auto", logger=False).accelerator, CUDAAccelerator)


def test_more_cuda_devices_than_there_are_is_an_error(two_gpus):
    with pytest.raises(ValueError, match="devices=3") as caught:
        CUDAAccelerator().parse_devices(3)
    assert str(caught.value) == ("devices=3 but accelerator 'cuda' has 2 on this machine; pass devices=2 or another accelerator")


def test_cuda_devices_are_numbered(two_gpus):
    accelerator = CUDAAccelerator()
    assert [str(accelerator.device(index)) for index in accelerator.parse_devices(-1)] == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize(
    ("devices", "indices"),
    [
        (1, [0]), ("1", [0]), (2, [0, 1]), (-1, [0, 1]), ("-1", [0, 1]), ("auto", [0, 1]), ([1], [1]), ((0, 1), [0, 1]),
        ("0,1", [0, 1]), ("0, 1", [0, 1]), (" 1,0 ", [1, 0]), ("1,", [1]),
    ],
)  # fmt: skip
def test_devices_come_in_every_form(two_gpus, devices, indices):
    assert CUDAAccelerator().parse_devices(devices) == indices


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (0, "devices=0 is no device at all; pass a count of at least 1, or -1 for all"),
        ("0", "devices='0' is no device at all; pass a count of at least 1, or -1 for all"),
        ([], "devices=[] is no device at all; pass a count of at least 1, or -1 for all"),
        (-2, "devices=-2 is no device at all; pass a count of at least 1, or -1 for all"),
        ([0, 0], "devices=[0, 0] names a device twice"),
        ("0,0", "devices='0,0' names a device twice"),
        ([-1], "devices=[-1]: there is no device -1; accelerator 'cuda' has 0 to 1"),
        ("0,2", "devices='0,2': there is no device 2; accelerator 'cuda' has 0 to 1"),
        ([0.5], "devices=[0.5]: expected indices such as [0, 1], got float 0.5"),
        ([True], "devices=[True]: expected indices such as [0, 1], got bool True"),
        (["0"], "devices=['0']: expected indices such as [0, 1], got str '0'"),
        ("", "devices='': expected 'auto', a count such as 2, or indices such as '0,1'"),
        ("0-1", "devices='0-1': expected 'auto', a count such as 2, or indices such as '0,1'"),
        ("3", "devices='3' but accelerator 'cuda' has 2 on this machine; pass devices=2 or another accelerator"),
    ],
)
def test_devices_that_are_none_are_an_error(two_gpus, devices, message):
    with pytest.raises(ValueError, match="devices=") as caught:
        CUDAAccelerator().parse_devices(devices)
    assert str(caught.value) == message


def test_auto_is_one_gpu_in_a_notebook(two_gpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert CUDAAccelerator().parse_devices("auto") == [0]
    assert CUDAAccelerator().parse_devices(-1) == [0, 1]


@pytest.mark.parametrize("name", ["tpu", "xla"])
def test_a_device_that_a_plug_in_will_bring_names_it(name):
    with pytest.raises(LookupError) as caught:
        Trainer(accelerator=name, logger=False)
    assert str(caught.value) == (
        f"accelerator='{name}' will come with leyden-xla, which does not exist yet; installed: 'cpu', 'cuda', 'gpu', 'mps'. A "
        f"package of your own can bring it too: register a class under '{name}' in the entry-point group 'leyden.accelerators'"
    )


def test_cuda_setup_makes_the_device_current(monkeypatch):
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    CUDAAccelerator().setup(torch.device("cuda", 1))
    assert current == [torch.device("cuda", 1)]


def test_cuda_stats_are_the_allocators_and_the_drivers(monkeypatch):
    counted = {
        "allocated_bytes.all.current": 10, "allocated_bytes.all.peak": 20, "reserved_bytes.all.current": 30,
        "reserved_bytes.all.peak": 40, "num_alloc_retries": 5, "num_ooms": 6,
    }  # fmt: skip
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: counted)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70, 80))
    assert CUDAAccelerator().stats(torch.device("cuda", 0)) == {
        "memory_allocated_bytes": 10.0, "memory_allocated_peak_bytes": 20.0, "memory_reserved_bytes": 30.0,
        "memory_reserved_peak_bytes": 40.0, "memory_free_bytes": 70.0, "memory_total_bytes": 80.0,
        "allocation_retries_count": 5.0, "out_of_memory_count": 6.0,
    }  # fmt: skip


def test_the_peak_of_memory_is_never_below_what_is_in_use(monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=1))  # as late as the kernel may count it
    stats = CPUAccelerator().stats(torch.device("cpu"))
    assert stats["memory_peak_rss_bytes"] == stats.get("memory_rss_bytes", 1024)


def test_cpu_stats_grow_with_the_memory_in_use():
    accelerator, device = CPUAccelerator(), torch.device("cpu")
    before = accelerator.stats(device)
    ballast = torch.ones(16 * 2**20)  # 64 MiB
    after = accelerator.stats(device)
    assert after["memory_peak_rss_bytes"] >= after["memory_rss_bytes"] * 0.9
    assert after["memory_rss_bytes"] - before["memory_rss_bytes"] > 0.5 * ballast.nbytes


def test_importing_the_accelerators_touches_no_device():
    script = """
import torch

def touched(*args, **kwargs):
    raise AssertionError("an import asked for a device")

torch.cuda.device_count = torch.cuda.is_available = torch.cuda.init = torch.backends.mps.is_available = touched
import leyden_accelerators
"""
    subprocess.run([sys.executable, "-c", script], check=True)
