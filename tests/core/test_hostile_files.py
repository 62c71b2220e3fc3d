"""Files that would run code, take all memory or touch other files: refused, whatever they come from."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch
from leyden import CheckpointIO, Trainer, load_weights
from leyden.testing import TinyModule

pytestmark = pytest.mark.usefixtures("core_alone")


class Attack:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return (Path.write_text, (Path("attacked"), "yes"))


class Shell:
    def __reduce__(self):
        return (os.system, ("touch attacked",))


def hostile(attack, legacy=False):
    checkpoint = {"state_dict": TinyModule().state_dict(), "hyper_parameters": {"lr": attack}, "epoch": 0, "global_step": 0}
    torch.save(checkpoint, "attack.ckpt", _use_new_zipfile_serialization=not legacy)


def ways(path):
    return [
        lambda: Trainer(max_epochs=1).fit(TinyModule(), ckpt_path=path),
        lambda: Trainer().test(TinyModule(), ckpt_path=path, verbose=False),
        lambda: TinyModule.load_from_checkpoint(path),
        lambda: load_weights(TinyModule(), path),
        lambda: CheckpointIO().load(path),
    ]


def refusals(path):
    messages = []
    for way in ways(path):
        with pytest.raises(ValueError) as caught:
            way()
        messages.append(str(caught.value))
    assert not Path("attacked").exists()
    return messages


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(("attack", "name"), [(Attack(), "getattr"), (Shell(), f"{os.name}.system")], ids=["path", "shell"])
def test_a_pickle_that_runs_code_is_refused_with_what_it_names(attack, name, legacy):
    hostile(attack, legacy)
    for message in refusals("attack.ckpt"):
        assert message.startswith("'attack.ckpt' is refused: it names ")
        assert name in message
        assert "and to read it would run or make these; leyden reads plain data only" in message
        assert "leyden ckpt convert attack.ckpt NEW_FILE --allow" in message


def test_a_plain_pickle_is_refused():
    Path("attack.ckpt").write_bytes(pickle.dumps({"state_dict": {}, "x": Shell()}))
    refusals("attack.ckpt")


def test_the_policy_is_the_same_in_memory():
    import fsspec

    hostile(Shell())
    with fsspec.open("memory://attack.ckpt", "wb") as remote:
        remote.write(Path("attack.ckpt").read_bytes())
    assert all("'memory://attack.ckpt' is refused: it names" in message for message in refusals("memory://attack.ckpt"))


def test_the_policy_is_the_same_on_the_web(server):
    hostile(Shell())
    assert all("is refused: it names" in message for message in refusals(f"{server}/attack.ckpt"))


# ---- memory ----


def rewritten(change, compressed=()):
    with zipfile.ZipFile("run.ckpt") as old, zipfile.ZipFile("odd.ckpt", "w") as new:
        for part in old.infolist():
            kind = zipfile.ZIP_DEFLATED if part.filename in compressed else zipfile.ZIP_STORED
            new.writestr(part.filename, change(part.filename, old.read(part)), compress_type=kind)


def claims(name, content):
    if not name.endswith("data.pkl"):
        return content
    changed = (
        content.replace(b"K\x04N", b"J\x00\x00\x00\x70N")
        .replace(b"K\x04t", b"J\x00\x00\x00\x70t")
        .replace(b"K\x04\x85", b"J\x00\x00\x00\x70\x85")
    )
    assert changed != content
    return changed


def allocated(function):
    """The most memory, in MiB, that a call took beyond what the process had."""

    def peak():
        found = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())
        assert found
        return int(found[1]) // 1024

    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("memory is read from /proc")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = peak()
    function()
    return peak() - before


def test_a_zip_bomb_is_refused_before_it_unpacks():
    torch.save({"state_dict": {"a": torch.zeros(10_000_000)}}, "run.ckpt")
    rewritten(lambda name, content: content, compressed=["run/data/0"])
    size = Path("odd.ckpt").stat().st_size
    assert size < 1_000_000
    for message in refusals("odd.ckpt"):
        assert message.startswith(
            f"'odd.ckpt' is refused: it would take more memory than its {size} bytes can fill: its records unpack to"
        )
    assert allocated(lambda: refusals("odd.ckpt")) < 20 < allocated(lambda: torch.load("odd.ckpt", weights_only=True))


def test_records_that_share_their_bytes_are_counted_each():
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, "run.ckpt")
    with zipfile.ZipFile("run.ckpt") as archive:
        big = archive.getinfo("run/data/0")
    with zipfile.ZipFile("run.ckpt", "a") as archive:
        for number in range(1, 50):  # more entries of the directory for the same place
            copy = zipfile.ZipInfo(f"run/data/{number}")
            copy.header_offset, copy.CRC, copy.compress_size, copy.file_size = big.header_offset, big.CRC, 4000, 4000
            archive.filelist.append(copy)
            archive.NameToInfo[copy.filename] = copy
        archive._didModify = True
    shutil.copy("run.ckpt", "odd.ckpt")
    assert all("its records unpack to" in message for message in refusals("odd.ckpt"))


def test_a_tensor_that_claims_more_than_its_record_has_is_refused():
    torch.save({"state_dict": {"a": torch.arange(4.0)}}, "run.ckpt")
    rewritten(claims)
    for message in refusals("odd.ckpt"):
        assert "a tensor claims 7516192768 bytes of a record that has 16" in message


def test_so_it_is_in_torchs_older_format():
    torch.save({"state_dict": {"a": torch.arange(4.0)}}, "run.ckpt", _use_new_zipfile_serialization=False)
    Path("odd.ckpt").write_bytes(claims("data.pkl", Path("run.ckpt").read_bytes()))
    assert all("its tensors claim 7516192768 bytes" in message for message in refusals("odd.ckpt"))


def test_a_call_for_a_large_object_is_refused():
    class Large:
        def __reduce__(self):
            return (bytearray, (10**13,))

    hostile(Large())
    assert all("it asks builtins.bytearray for 10000000000000 bytes or items" in message for message in refusals("attack.ckpt"))


def test_a_pickle_with_a_huge_memo_index_takes_no_memory():
    torch.save({"state_dict": {"a": torch.arange(4.0)}}, "run.ckpt")
    rewritten(lambda name, content: content[:3] + b"r\xff\xff\xff\x0f" + content[3:] if name.endswith("data.pkl") else content)
    tracemalloc.start()
    try:
        CheckpointIO().load("odd.ckpt")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_honest_files_of_both_formats_pass():
    tensors = {
        "expanded": torch.zeros(1).expand(1000, 1000),
        "half": torch.zeros(3, dtype=torch.bfloat16),
        "complex": torch.zeros(2, dtype=torch.complex128),
        "view": torch.arange(10)[3:5],
        "empty": torch.zeros(0, 5),
        "bool": torch.ones(3, dtype=torch.bool),
        "float8": torch.zeros(4, dtype=torch.float8_e4m3fn),
        "uint16": torch.zeros(4, dtype=torch.uint16),
        "sparse": torch.eye(3).to_sparse(),
        "number": torch.tensor(5),
    }
    torch.save({"state_dict": tensors, "big": 10**30}, "run.ckpt")
    assert CheckpointIO().load("run.ckpt")["state_dict"].keys() == tensors.keys()
    legacy = {key: value for key, value in tensors.items() if key not in ("float8", "uint16")}
    torch.save({"state_dict": legacy}, "legacy.ckpt", _use_new_zipfile_serialization=False)
    assert CheckpointIO().load("legacy.ckpt")["state_dict"].keys() == legacy.keys()


# ---- paths ----


def test_paths_in_a_file_are_data_and_nothing_is_deleted_or_written_for_them():
    Path("precious").write_text("mine")
    trainer = Trainer(max_epochs=1)
    trainer.fit(TinyModule())
    trainer.save_checkpoint("run.ckpt")
    checkpoint = torch.load("run.ckpt", weights_only=True)
    precious = str(Path("precious").resolve())
    checkpoint["callbacks"] = {
        "ModelCheckpoint": {
            "best_model_path": precious,
            "last_model_path": precious,
            "best_k_models": {precious: torch.tensor(0.0)},
        }
    }
    torch.save(checkpoint, "odd.ckpt")
    Trainer(max_epochs=2).fit(TinyModule(), ckpt_path="odd.ckpt")
    assert Path("precious").read_text() == "mine"
