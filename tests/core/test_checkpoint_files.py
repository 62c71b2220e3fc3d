"""Checkpoint files survive whatever happens while they are written, and say what is wrong with them when they are read."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from leyden import CheckpointIO, LeydenWarning, Trainer
from leyden.checkpoint import files
from leyden.checkpoint.checksum import DamagedCheckpoint
from leyden.checkpoint.files import remove_stale, temporary_for, write_file
from leyden.checkpoint.lock import DirectoryLock, DirectoryTaken
from leyden.checkpoint.manifest import Entry, Manifest
from leyden.testing import TinyModule

pytestmark = pytest.mark.usefixtures("core_alone")


def checkpoint(step, size=64):
    return {"state_dict": {"weight": torch.full((size,), float(step))}, "global_step": step}


def directory_of(root, steps=2):
    """A directory as runs leave it: checkpoints and their list."""
    checkpoint_io, manifest = CheckpointIO(), Manifest.read(root)
    for step in range(1, steps + 1):
        publish(checkpoint_io, manifest, step)
    return manifest


def publish(checkpoint_io, manifest, step, *, drop=()):
    """What a run does at each save: announce, write, list, delete."""
    entry = Entry(f"step={step}.ckpt", step=step, run="a")
    manifest.announce(entry)
    path = manifest.path(entry)
    checkpoint_io.save(checkpoint(step), path)
    entry.size, entry.checksum = path.stat().st_size, checkpoint_io.checksum(path)
    manifest.record([entry], drop, "a")
    for name in drop:
        checkpoint_io.remove(manifest.directory / name)


def newest(root):
    """The step that a new process would go on from: the newest file of the list that can be read."""
    checkpoint_io = CheckpointIO()
    manifest = Manifest.read(root, checkpoint_io.checksum)
    for entry in manifest.of_run():
        try:
            found = checkpoint_io.load(manifest.path(entry))
        except (OSError, ValueError):
            continue
        assert found["global_step"] == entry.step
        assert found["state_dict"]["weight"].tolist() == [float(entry.step)] * 64
        return entry.step
    return None


# ---- a file system that fails ----


class Faults:
    """Stands between ``os`` and the file system: counts what is asked of it and, at the n-th call, does something else.

    It also keeps account of what a power failure would leave: contents as of the last fsync of a file, names as of the
    last fsync of their directory.
    """

    CALLS = ("open", "write", "fsync", "replace", "unlink")

    def __init__(self, monkeypatch, root):
        self.root, self.count, self.at, self.act = root, 0, 0, None
        self.descriptors: dict[int, str] = {}
        self.contents: dict[int, bytes] = {}  # durable contents, by inode
        self.names = {path.name: path.stat().st_ino for path in root.iterdir()}  # durable names
        self.kept = [path.open("rb") for path in root.iterdir()]  # or else the numbers of deleted files are used again
        for path in root.iterdir():
            self.contents[path.stat().st_ino] = path.read_bytes()
        self.real = {name: getattr(os, name) for name in self.CALLS}
        for name in self.CALLS:
            monkeypatch.setattr(files.os, name, lambda *args, name=name, **options: self.call(name, *args, **options))

    def call(self, name, *args, **options):
        mine = str(args[0]).startswith(str(self.root)) or args[0] in self.descriptors
        if mine:
            self.count += 1
            if self.count == self.at:
                self.act(name, *args)
        result = self.real[name](*args, **options)
        if mine and name == "open":
            self.descriptors[result] = str(args[0])
        if mine and name == "fsync":
            path = Path(self.descriptors[args[0]])
            if path.is_dir():
                self.names = {entry.name: entry.stat().st_ino for entry in path.iterdir()}
            else:
                self.contents[path.stat().st_ino] = path.read_bytes()
                self.kept.append(path.open("rb"))
        return result

    def after_power_failure(self, target, *, later_names):
        """Writes what would be left to ``target``; a rename that was not made durable may have happened all the same."""
        target.mkdir()
        names = {path.name: path.stat().st_ino for path in self.root.iterdir()} if later_names else self.names
        for name, inode in names.items():
            (target / name).write_bytes(self.contents.get(inode, b""))


def attempts(monkeypatch, tmp_path, act):
    """Saves a second checkpoint, dropping the first, with ``act`` at the first, second, ... call, until it is not reached."""
    for at in range(1, 200):
        root = tmp_path / f"run{at}"
        root.mkdir()
        manifest = directory_of(root, steps=1)
        with monkeypatch.context() as patch:
            faults = Faults(patch, root)
            faults.at, faults.act = at, act
            try:
                yield root, manifest, faults
            finally:
                for file in faults.kept:
                    file.close()
            if faults.count < at:
                return
    raise AssertionError("a save makes that many calls?")


def test_killed_at_every_write_sync_and_rename_the_newest_whole_checkpoint_remains(monkeypatch, tmp_path):
    steps = []
    for root, manifest, faults in attempts(monkeypatch, tmp_path, lambda *_: os.kill(os.getpid(), signal.SIGKILL)):
        child = os.fork()
        if not child:
            publish(CheckpointIO(), manifest, 2, drop=["step=1.ckpt"])
            os._exit(0)
        _, status = os.waitpid(child, 0)
        steps.append(newest(root))
        assert steps[-1] is not None
        if os.WIFEXITED(status):
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        faults.count = faults.at  # it was the child that counted
        left = [path.name for path in root.iterdir() if path.name.endswith("leyden-tmp")]
        assert [path.name for path in remove_stale(root)] == left
    assert len(steps) > 12
    assert steps == sorted(steps), "the new one stands once its name does"
    assert set(steps) == {1, 2}


class PowerFailure(BaseException):
    """Nothing after it happens; clean-up, neither."""


@pytest.mark.parametrize("later_names", [False, True], ids=["names of the last sync", "every rename came through"])
def test_a_power_failure_at_every_write_sync_and_rename_leaves_a_loadable_checkpoint(monkeypatch, tmp_path, later_names):
    def fail(*_):
        raise PowerFailure

    steps = []
    for _, manifest, faults in attempts(monkeypatch, tmp_path, fail):
        left = tmp_path / f"left{faults.at}"
        faults.act = lambda *_, faults=faults, left=left: (
            faults.after_power_failure(left, later_names=later_names), fail()
        )  # fmt: skip
        try:
            publish(CheckpointIO(), manifest, 2, drop=["step=1.ckpt"])
        except PowerFailure:
            steps.append(newest(left))
            assert steps[-1] is not None, sorted(path.name for path in left.iterdir())
        else:
            break
    assert steps == sorted(steps)
    assert set(steps) == {1, 2}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
def test_an_error_at_every_call_is_raised_and_keeps_what_was_there(monkeypatch, tmp_path, code):
    def fail(name, *_):
        if name != "unlink":  # of what was left over: that is all one can try
            raise OSError(code, os.strerror(code))

    errors = []
    for root, manifest, faults in attempts(monkeypatch, tmp_path, fail):
        called = []
        faults.act = lambda name, *args, called=called: (called.append(name), fail(name, *args))
        try:
            publish(CheckpointIO(), manifest, 2, drop=["step=1.ckpt"])
        except OSError as error:
            errors.append((error.errno, str(root) in str(error), "what stood there before is kept" in str(error)))
        else:
            assert called in ([], ["unlink"]), "no failure is silent"
        assert newest(root) in (1, 2)
        assert not [path for path in root.iterdir() if path.name.endswith("leyden-tmp")]
    assert errors == [(code, True, True)] * len(errors)
    assert len(errors) > 10


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP], ids=errno.errorcode.get)
def test_a_file_system_that_cannot_sync_directories_is_no_error(monkeypatch, tmp_path, code):
    sync = os.fsync

    def fail(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    CheckpointIO().save(checkpoint(3), tmp_path / "step=3.ckpt")
    assert CheckpointIO().load(tmp_path / "step=3.ckpt")["global_step"] == 3


def test_an_error_of_space_says_what_is_needed_and_free(monkeypatch, tmp_path):
    before = directory_of(tmp_path)
    monkeypatch.setattr(files, "free_space", lambda directory: 1000)
    with pytest.raises(OSError) as caught:
        CheckpointIO().save(checkpoint(3, size=1 << 20), tmp_path / "step=3.ckpt")
    assert str(caught.value) == (
        f"[Errno 28] '{tmp_path}/step=3.ckpt' could not be written: No space left on device: 4,198,987 bytes are needed and "
        f"1,000 are free; what stood there before is kept; free some, keep fewer checkpoints (save_top_k, save_weights_only), "
        f"or save elsewhere (dirpath)"
    )
    assert newest(tmp_path) == before.entries[-1].step
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints.json", "step=1.ckpt", "step=2.ckpt"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(place)]
    if (
        sys.platform != "linux"
        or shutil.which("mount") is None
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting a small file system needs Linux and root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_what_does_not_fit_on_the_disk_is_refused_and_the_old_file_stays(small_disk):
    CheckpointIO().save(checkpoint(1), small_disk / "last.ckpt")
    with pytest.raises(OSError, match=r"No space left on device: [0-9,]+ bytes are needed and [0-9,]+ are free"):
        CheckpointIO().save(checkpoint(2, 1 << 19), small_disk / "last.ckpt")
    assert CheckpointIO().load(small_disk / "last.ckpt")["global_step"] == 1
    assert [path.name for path in small_disk.iterdir()] == ["last.ckpt"]


def test_a_disk_that_is_full_half_way_keeps_the_old_file_and_nothing_of_the_new_one(small_disk):
    CheckpointIO().save(checkpoint(1), small_disk / "last.ckpt")
    with pytest.raises(OSError, match=r"No space left on device: [0-9,]+ are free; what stood there"):
        write_file(small_disk / "last.ckpt", lambda file: torch.save(checkpoint(2, 1 << 19), file))  # whose size it was not told
    assert CheckpointIO().load(small_disk / "last.ckpt")["global_step"] == 1
    assert [path.name for path in small_disk.iterdir()] == ["last.ckpt"]


def test_a_full_directory_of_temporary_files_is_none_of_its_business(small_disk, tmp_path, monkeypatch):
    (small_disk / "full").write_bytes(bytes(1 << 20))
    monkeypatch.setenv("TMPDIR", str(small_disk))
    CheckpointIO().save(checkpoint(1), tmp_path / "last.ckpt")
    assert CheckpointIO().load(tmp_path / "last.ckpt")["global_step"] == 1


# ---- what a dead process leaves ----


def test_temporary_files_of_dead_writers_go_and_those_of_living_ones_stay(tmp_path):
    mine = temporary_for(tmp_path / "last.ckpt")
    dead = tmp_path / mine.name.replace(f".{os.getpid()}.", ".4194303.")
    reused = tmp_path / f"{mine.name.rsplit('.', 2)[0]}.1.leyden-tmp"  # this process's number, another's start
    elsewhere = tmp_path / ".last.ckpt.another-host.77.1.leyden-tmp"
    old = tmp_path / ".old.ckpt.another-host.77.1.leyden-tmp"
    users = tmp_path / ".notes.leyden-tmp"
    for path in (mine, dead, reused, elsewhere, old, users):
        path.touch()
    two_days_ago = time.time() - 2 * 86400
    os.utime(old, (two_days_ago, two_days_ago))
    assert set(remove_stale(tmp_path)) == {dead, reused, old}
    assert set(tmp_path.iterdir()) == {mine, elsewhere, users}


def test_a_directory_is_one_runs_until_it_ends(tmp_path):
    lock = DirectoryLock(tmp_path)
    with pytest.raises(DirectoryTaken) as caught:
        DirectoryLock(tmp_path)
    assert str(caught.value).startswith(f"{str(tmp_path)!r} is where another run of this process saves its checkpoints; ")
    lock.release()
    assert list(tmp_path.iterdir()) == []
    DirectoryLock(tmp_path).release()


def test_another_process_is_told_who_has_the_directory(tmp_path):
    lock = DirectoryLock(tmp_path)
    said, saying = os.pipe()
    child = os.fork()
    if not child:
        try:
            DirectoryLock(tmp_path)
        except DirectoryTaken as error:
            os.write(saying, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert f"is where process {os.getpid()} on " in os.read(said, 4096).decode()
    lock.release()
    os.close(said), os.close(saying)


def test_a_killed_run_holds_nothing(tmp_path):
    ready, telling = os.pipe()
    child = os.fork()
    if not child:
        DirectoryLock(tmp_path)
        os.write(telling, b"1")
        signal.pause()
    os.read(ready, 1)
    with pytest.raises(DirectoryTaken, match=f"process {child} on"):
        DirectoryLock(tmp_path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    DirectoryLock(tmp_path).release()
    os.close(ready), os.close(telling)


def test_where_the_file_system_has_no_locks_the_file_tells_the_dead_from_the_living(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.lockf", none)
    lock = DirectoryLock(tmp_path)
    owner = json.loads((tmp_path / ".leyden-lock").read_text())
    lock.release()
    (tmp_path / ".leyden-lock").write_text(json.dumps(owner))
    with pytest.raises(DirectoryTaken, match=f"process {os.getpid()} on"):
        DirectoryLock(tmp_path)
    for change in ({"pid": 4194303}, {"started": 1}):
        (tmp_path / ".leyden-lock").write_text(json.dumps({**owner, **change}))
        DirectoryLock(tmp_path).release()


# ---- what is read ----


def corrupt(path, where, bit=1):
    data = bytearray(path.read_bytes())
    data[where] ^= bit
    path.write_bytes(data)


def test_one_flipped_bit_in_a_weight_is_noticed_in_a_file_by_itself(tmp_path):
    path = tmp_path / "a.ckpt"
    CheckpointIO().save(checkpoint(1), path)
    corrupt(path, path.read_bytes().index(struct.pack("<f", 1.0) * 8) + 17)
    torch.load(path, weights_only=True)  # which does not notice
    with pytest.raises(DamagedCheckpoint) as caught:
        CheckpointIO().load(path)
    assert str(caught.value) == (
        f"{str(path)!r} is damaged: 'a.ckpt/data/0' in it is not what was written (its checksum differs)".replace(
            "a.ckpt/data/0", "archive/data/0"
        )
    )
    with pytest.raises(DamagedCheckpoint, match="its checksum differs"):
        CheckpointIO().verify(path)


def test_no_bit_of_a_file_can_flip_so_that_something_else_is_loaded(tmp_path):
    path = tmp_path / "a.ckpt"
    CheckpointIO().save(checkpoint(1, size=4), path)
    whole, noticed = path.read_bytes(), 0
    for where in range(0, len(whole), 7):
        corrupt(path, where, 1 << where % 8)
        try:
            found = CheckpointIO().load(path)
        except ValueError:
            noticed += 1
        else:  # a bit that means nothing: padding, dates
            assert found["global_step"] == 1
            assert found["state_dict"]["weight"].tolist() == [1.0] * 4
        path.write_bytes(whole)
    assert noticed > len(whole) / 7 / 4


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"some text", "text"),
        ("Gr\u00fc\u00dfe aus M\u00fcnchen".encode(), "text"),
        (b'{"a": 1}', "JSON"),
        (b"\x89PNG\r\n\x1a\n....", "a PNG image"),
        (b"<!DOCTYPE html><p>sign in", "an HTML page"),
        (bytes(2000), "zeros, as a machine that lost power may leave a file"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS: fetch the file itself with git lfs pull"),
        (b"\xff\xfe\xfa\x01\x02", "of no known kind"),
        (b"PK\x03\x04cut off", "cut off at byte 11: its end is missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_no_checkpoint_is_named_for_what_it_is(tmp_path, content, kind):
    path = tmp_path / "x.ckpt"
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpoint) as caught:
        CheckpointIO().load(path)
    assert str(caught.value) == f"{str(path)!r} is not a checkpoint: it is {kind}"


def test_an_archive_of_something_else_and_safetensors_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (tmp_path / "b.ckpt").write_bytes(struct.pack("<Q", len(header)) + header + bytes(400))
    with pytest.raises(DamagedCheckpoint, match="it is a zip archive of something else"):
        CheckpointIO().load(tmp_path / "a.ckpt")
    with pytest.raises(DamagedCheckpoint, match="it is a file of safetensors: weights alone"):
        CheckpointIO().load(tmp_path / "b.ckpt")


def test_a_file_that_was_cut_off_says_where_and_names_the_newest_whole_one(tmp_path):
    directory_of(tmp_path, steps=3)
    path = tmp_path / "step=3.ckpt"
    whole = path.read_bytes()
    path.write_bytes(whole[:700])
    corrupt(tmp_path / "step=2.ckpt", (tmp_path / "step=2.ckpt").read_bytes().index(struct.pack("<f", 2.0) * 8))
    with pytest.raises(DamagedCheckpoint) as caught:
        Trainer().test(TinyModule(), ckpt_path=path)
    assert str(caught.value) == (
        f"{str(path)!r} is not a checkpoint: it is cut off at byte 700 of {len(whole)}; the newest whole one there: "
        f"'{tmp_path}/step=1.ckpt' (step 1)"
    )


def test_torchs_older_formats_are_still_read(tmp_path):
    torch.save(checkpoint(1), tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert CheckpointIO().load(tmp_path / "old.ckpt")["global_step"] == 1


def test_a_whole_file_in_the_place_of_another_is_loaded_and_that_is_said(tmp_path):
    directory_of(tmp_path)
    torch.save({"state_dict": {}}, tmp_path / "step=2.ckpt")
    with pytest.warns(LeydenWarning, match="but not the one that the list of its directory says was saved there"):
        CheckpointIO().load(tmp_path / "step=2.ckpt")


def test_a_remote_save_that_fails_leaves_what_was_there_and_nothing_else():
    import fsspec

    checkpoint_io, memory = CheckpointIO(), fsspec.filesystem("memory")
    checkpoint_io.save(checkpoint(1), "memory://remote/a.ckpt")
    with pytest.raises(Exception, match="pickle"):
        checkpoint_io.save({**checkpoint(2), "no": (lambda: None)}, "memory://remote/a.ckpt")
    assert memory.ls("/remote", detail=False) == ["/remote/a.ckpt"]
    assert checkpoint_io.load("memory://remote/a.ckpt")["global_step"] == 1
    with memory.open("/remote/a.ckpt", "rb") as file:
        data = bytearray(file.read())
    data[data.index(struct.pack("<f", 1.0) * 8)] ^= 1
    memory.pipe_file("/remote/a.ckpt", bytes(data))
    with pytest.raises(DamagedCheckpoint, match="its checksum differs"):
        checkpoint_io.load("memory://remote/a.ckpt")
    with pytest.raises(FileNotFoundError) as caught:
        checkpoint_io.load("memory://remote/b.ckpt")
    assert str(caught.value) == "there is no checkpoint 'memory://remote/b.ckpt'"


# ---- the list ----


def test_a_file_that_is_whole_and_was_announced_is_taken_in_by_whoever_reads_the_list_next(tmp_path):
    manifest = directory_of(tmp_path, steps=1)
    manifest.announce(Entry("step=2.ckpt", step=2, run="a"))
    manifest.announce(Entry("step=3.ckpt", step=3, run="a"))
    CheckpointIO().save(checkpoint(2), tmp_path / "step=2.ckpt")
    (tmp_path / "step=3.ckpt").write_text("half")
    assert newest(tmp_path) == 2
    assert Manifest.read(tmp_path).settle(CheckpointIO().checksum) == []
    assert [entry.name for entry in Manifest.read(tmp_path).entries] == ["step=1.ckpt", "step=2.ckpt"]


def test_a_list_has_no_absolute_path_and_works_where_the_directory_was_moved_to(tmp_path):
    (tmp_path / "old").mkdir()
    directory_of(tmp_path / "old")
    assert str(tmp_path) not in (tmp_path / "old/checkpoints.json").read_text()
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert newest(tmp_path / "new") == 2


@pytest.mark.parametrize("name", ["../precious", "sub/../../precious", "/precious", "link/precious", "", ".", ".."])
def test_nothing_outside_the_directory_may_be_deleted_whatever_its_list_says(tmp_path, name):
    (tmp_path / "precious").touch()
    root = tmp_path / "run"
    (root / "sub").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path)
    name = str(tmp_path / "precious") if name == "/precious" else name
    manifest = Manifest(root, [Entry(name, run="a"), Entry("mine", run="a")], run="a")
    (root / "mine").touch()
    assert not manifest.may_delete(name, "a")
    assert manifest.may_delete("mine", "a")
    assert not manifest.may_delete("mine", "another run")
    assert not manifest.may_delete("unlisted", "a")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"checkpoints": [{"name": 3}]}', '{"checkpoints": 3}'])
def test_a_list_that_cannot_be_read_is_an_empty_one(tmp_path, content):
    (tmp_path / "checkpoints.json").write_text(content)
    assert Manifest.read(tmp_path).entries == []


def test_the_best_is_the_best_finite_score_in_its_mode():
    scores = [float("nan"), 0.5, 0.9, float("-inf"), 0.1]
    for mode, expected in (("min", 0.1), ("max", 0.9)):
        entries = [Entry(str(i), score=score, monitor="m", mode=mode, order=i) for i, score in enumerate(scores)]
        for entry in entries:
            Path(entry.name).touch()
        assert Manifest(Path(), entries).best("m", mode).score == expected
        assert Manifest(Path(), entries).best("other", mode) is None


def test_a_buffer_in_memory_is_read_as_a_file_is():
    buffer = io.BytesIO()
    torch.save(checkpoint(1), buffer)
    from leyden.checkpoint.checksum import checksum, first_damage

    assert first_damage(buffer) is None
    assert checksum(buffer).startswith("zip:")
