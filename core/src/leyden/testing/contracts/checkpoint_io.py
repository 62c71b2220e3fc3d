"""What core relies on in a checkpoint IO."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch

from leyden.checkpoint_io import CheckpointIO
from leyden.testing.contracts.runs import difference, files, introduced, quiet, refusal, same, tiny, weights


class CheckpointIOContract:
    """Subclass it as ``class TestAcme(CheckpointIOContract)`` and return a checkpoint IO from :meth:`checkpoint_io`."""

    def checkpoint_io(self) -> CheckpointIO:
        """A new checkpoint IO."""
        raise NotImplementedError(f"{type(self).__name__}.checkpoint_io must return the checkpoint IO to test")

    def test_says_who_it_is(self) -> None:
        checkpoint_io = self.checkpoint_io()
        introduced(checkpoint_io, CheckpointIO)

    def test_load_gives_what_save_took(self, tmp_path: Path) -> None:
        checkpoint = _checkpoint(1.5)
        _save(self.checkpoint_io(), checkpoint, tmp_path / "a.ckpt")
        found = self.checkpoint_io().load(tmp_path / "a.ckpt")
        assert same(found, checkpoint), f"load gave {found}, saved was {checkpoint}"
        again = self.checkpoint_io().load(str(tmp_path / "a.ckpt"))
        assert same(again, checkpoint), "load of a path given as str differs from that of a Path"

    def test_save_makes_directories_and_takes_the_place_of_an_older_file(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "down" / "a.ckpt"
        checkpoint_io = self.checkpoint_io()
        _save(checkpoint_io, _checkpoint(1.0), str(path))
        _save(checkpoint_io, _checkpoint(2.0), str(path))
        value = checkpoint_io.load(path)["state_dict"]["weight"][0].item()
        assert value == 2.0, f"load gave the weight {value}, the last one saved was 2.0"

    def test_save_writes_nothing_beside_the_checkpoint(self, tmp_path: Path) -> None:
        _save(self.checkpoint_io(), _checkpoint(1.0), tmp_path / "a.ckpt")
        assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"], f"save left {sorted(files(tmp_path))}"

    def test_a_failed_save_leaves_what_stood_there(self, tmp_path: Path) -> None:
        checkpoint_io = self.checkpoint_io()
        _save(checkpoint_io, _checkpoint(1.0), tmp_path / "a.ckpt")
        before = files(tmp_path)
        refusal(Exception, _save, checkpoint_io, {**_checkpoint(2.0), "extra": threading.Lock()}, tmp_path / "a.ckpt")
        assert files(tmp_path) == before, f"a save that failed half-way changed the files: there are {sorted(files(tmp_path))}"

    def test_what_was_saved_may_change_right_afterwards(self, tmp_path: Path) -> None:
        checkpoint_io, checkpoint = self.checkpoint_io(), _checkpoint(1.5)
        checkpoint_io.save(checkpoint, tmp_path / "a.ckpt")
        checkpoint["state_dict"]["weight"].fill_(7.0)
        checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] = 7.0
        checkpoint["state_dict"].clear()
        checkpoint_io.teardown()
        found = self.checkpoint_io().load(tmp_path / "a.ckpt")
        assert same(found, _checkpoint(1.5)), f"what was saved changed after save had returned: load gave {found}"

    def test_what_is_to_happen_after_a_save_happens_when_the_file_is_there(self, tmp_path: Path) -> None:
        checkpoint_io, found = self.checkpoint_io(), list[bool]()
        checkpoint_io.save(_checkpoint(1.0), tmp_path / "a.ckpt")
        checkpoint_io.after_save(lambda: found.append((tmp_path / "a.ckpt").exists()))
        checkpoint_io.teardown()
        assert found == [True], f"after_save's function was called {len(found)} times, and the file was there: {found}"

    def test_a_checksum_is_another_one_for_another_file(self, tmp_path: Path) -> None:
        checkpoint_io = self.checkpoint_io()
        for name, value in (("a.ckpt", 1.0), ("b.ckpt", 2.0)):
            _save(checkpoint_io, _checkpoint(value), tmp_path / name)
        sums = [checkpoint_io.checksum(tmp_path / name) for name in ("a.ckpt", "a.ckpt", "b.ckpt")]
        assert sums[0] == sums[1], f"two checksums of one file are {sums[0]!r} and {sums[1]!r}"
        assert not sums[0] or sums[0] != sums[2], f"two files have one checksum, {sums[0]!r}"

    def test_load_says_what_is_missing_or_no_checkpoint(self, tmp_path: Path) -> None:
        refusal(FileNotFoundError, self.checkpoint_io().load, tmp_path / "nowhere.ckpt")
        (tmp_path / "text.ckpt").write_text("this is no checkpoint")
        refusal(ValueError, self.checkpoint_io().load, tmp_path / "text.ckpt")

    def test_load_runs_nothing_that_a_file_names(self, tmp_path: Path) -> None:
        torch.save({"state_dict": {}, "extra": _Payload(tmp_path / "pwned")}, tmp_path / "evil.ckpt")
        refusal(ValueError, self.checkpoint_io().load, tmp_path / "evil.ckpt")
        assert not (tmp_path / "pwned").exists(), "loading a file ran the code that it names"

    def test_remove_deletes_and_forgives_what_is_gone(self, tmp_path: Path) -> None:
        checkpoint_io = self.checkpoint_io()
        for name in ("a.ckpt", "b.ckpt"):
            _save(checkpoint_io, _checkpoint(1.0), tmp_path / name)
        checkpoint_io.remove(tmp_path / "a.ckpt")
        checkpoint_io.remove(str(tmp_path / "a.ckpt"))
        assert [path.name for path in tmp_path.iterdir()] == ["b.ckpt"], f"remove of a.ckpt left {sorted(files(tmp_path))}"

    def test_a_run_saves_and_resumes_through_it(self, tmp_path: Path) -> None:
        straight = tiny()
        quiet(tmp_path, max_epochs=2).fit(straight)
        first = quiet(tmp_path, checkpoint_io=self.checkpoint_io())
        first.fit(tiny())
        first.save_checkpoint(tmp_path / "first.ckpt")
        resumed = tiny()
        quiet(tmp_path, max_epochs=2, checkpoint_io=self.checkpoint_io()).fit(resumed, ckpt_path=tmp_path / "first.ckpt")
        apart = difference(weights(resumed), weights(straight))
        assert apart == 0, f"the resumed run ends {apart} from the uninterrupted one"


def _save(checkpoint_io: CheckpointIO, checkpoint: dict[str, Any], path: Path | str) -> None:
    """Saves and waits until the file is there."""
    checkpoint_io.save(checkpoint, path)
    checkpoint_io.teardown()


class _Payload:
    """Unpickles by creating a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _checkpoint(value: float) -> dict[str, Any]:
    return {
        "state_dict": {"weight": torch.full((3,), value), "half": torch.ones(2, dtype=torch.bfloat16), "count": torch.tensor(7)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}],
        "epoch": 1,
        "global_step": 4,
        "hyper_parameters": {"lr": 0.1, "name": "tiny", "sizes": [1, 2], "nothing": None, "flag": True},
    }
