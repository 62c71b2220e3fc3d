"""Runs end: when one rank fails, all are gone soon, and the cause is what is said last."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import leyden as ly
import pytest
from leyden.testing import TinyModule
from leyden_strategies.launchers.board import file_of
from leyden_strategies.launchers.processes import RankError
from leyden_strategies.launchers.rank import Rank
from leyden_strategies.launchers.watch import descendants

from tests.distributed.conftest import QUIET
from tests.distributed.nodes import run_together

STALL = 5.0


class Breaks(TinyModule):
    """Rank 1 breaks at a place, in some way."""

    def __init__(self, how: str, place: str) -> None:
        super().__init__()
        self.how = how
        self.place = place

    def reach(self, place: str) -> None:
        if place != self.place or self.global_rank != 1:
            return
        if self.how == "raise":
            raise KeyError("broken by intention")
        if self.how == "exit":
            os._exit(3)
        if self.how == "leave":
            sys.exit(0)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "memory":
            raise MemoryError("no memory by intention")
        if self.how == "stall":
            time.sleep(1000)

    def setup(self, stage):
        self.reach("setup")

    def training_step(self, batch, batch_idx):
        if batch_idx == 1:
            self.reach("training")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        if not self.trainer.sanity_checking:
            self.reach("validation")
        return super().validation_step(batch, batch_idx)

    def on_save_checkpoint(self, checkpoint):
        self.reach("saving")

    def teardown(self, stage):
        self.reach("teardown")


class BreaksOnRankZero(Breaks):
    """Rank 0 breaks: it is the one that saves and that speaks."""

    def reach(self, place: str) -> None:
        if place == self.place and self.global_rank == 0:
            raise KeyError("broken by intention")


WHERE = {
    "setup": "while it was set up",
    "training": "at step 1, in training batch 1 of epoch 0",
    "validation": "at step 2, in validation batch 0",
    "saving": "at step 2, in saving",
    "teardown": "at step 2, in teardown",
}
HOW = {
    "exit": "left with exit code 3, without an exception,",
    "kill": "was killed by SIGKILL (out of memory?)",
    "leave": "left the others by SystemExit(0)",
    "stall": f"did not move for {STALL:g} s",
}
CASES = [
    *((how, place) for how in ("raise", "kill") for place in WHERE),
    ("exit", "training"),
    ("memory", "validation"),
    ("leave", "setup"),
    ("leave", "training"),
    ("stall", "training"),
    ("stall", "validation"),
    ("stall", "teardown"),
]


@pytest.fixture
def marked(tmp_path):
    """Has every process that is started from here on hold a file, by which it is told from those of other tests."""
    descriptor = os.open(tmp_path / "held", os.O_CREAT | os.O_RDWR)
    yield
    os.close(descriptor)


def is_rank_of(pid, directory):
    """Whether a process holds the file of this test: a fork has it from its parent."""
    try:
        files = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False  # it has just ended
    return str(directory / "held") in files


@pytest.mark.usefixtures("marked")
@pytest.mark.parametrize(("how", "place"), CASES)
def test_a_rank_that_breaks_ends_all_of_them_and_is_named(tmp_path, how, place):
    options = {**QUIET, "enable_checkpointing": None, "default_root_dir": tmp_path, "max_epochs": 1, "limit_train_batches": 2}
    timeout = STALL if how == "stall" else 60.0
    trainer = ly.Trainer(strategy={"ddp_fork": {"timeout": timeout}}, devices=2, **options)
    expected = {"raise": KeyError, "memory": MemoryError}.get(how, RankError)
    module = Breaks(how, place)
    with pytest.raises(expected) as raised:
        trainer.fit(module)
    assert not [pid for pid in descendants(os.getpid()) if is_rank_of(pid, tmp_path)]
    if expected is RankError:
        assert re.fullmatch(
            rf"rank 1 \(pid \d+\) {re.escape(HOW[how])} {re.escape(WHERE[place])}(; its stack is:\n.*\bin reach\b.*)?",
            str(raised.value),
            re.DOTALL,
        )
    else:
        cause = str(raised.value.__cause__)
        assert re.match(rf"rank 1 \(pid \d+\) failed {re.escape(WHERE[place])}\nTraceback", cause)
        assert cause.rstrip().endswith("by intention'" if how == "raise" else "by intention")


@pytest.mark.parametrize("callback", ["checkpoint", "on_exception_checkpoint"])
def test_a_rank_that_raises_saves_nothing_for_which_it_would_need_the_others(tmp_path, capfd, callback):
    saving = {"dirpath": tmp_path / "saved", **({"save_on_exception": True} if callback == "checkpoint" else {})}
    trainer = ly.Trainer(
        **{**QUIET, "enable_checkpointing": None},
        strategy="ddp_fork",
        devices=2,
        max_epochs=1,
        callbacks=[{callback: saving}],
        default_root_dir=tmp_path,
    )
    with pytest.raises(KeyError, match="broken by intention") as raised:
        trainer.fit(BreaksOnRankZero("raise", "training"))
    assert re.match(r"rank 0 \(pid \d+\) failed at step 1, in training batch 1 of epoch 0\n", str(raised.value.__cause__))
    assert "not saved, for one process cannot save without the others" in capfd.readouterr().err
    assert list(tmp_path.rglob("exception*.ckpt")) == []


@pytest.mark.parametrize("code", [0, 4, None])
def test_ranks_that_all_leave_by_sys_exit_do_so_where_fit_was_called(tmp_path, code):
    class Leaves(TinyModule):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            sys.exit(code)

    trainer = ly.Trainer(**{**QUIET, "default_root_dir": tmp_path}, strategy="ddp_fork", devices=2, max_epochs=1)
    with pytest.raises(SystemExit) as raised:
        trainer.fit(Leaves())
    assert raised.value.code == (code or 0)
    assert trainer.global_step == 1


def test_one_rank_that_leaves_with_a_code_of_its_own_is_named(tmp_path):
    class Leaves(TinyModule):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            if self.global_rank == 1:
                sys.exit(4)

    trainer = ly.Trainer(**{**QUIET, "default_root_dir": tmp_path}, strategy="ddp_fork", devices=2, max_epochs=1)
    with pytest.raises(RankError) as raised:
        trainer.fit(Leaves())
    assert re.fullmatch(
        r"rank 1 \(pid \d+\) left the others by SystemExit\(4\) at step 0, in training batch 0 of epoch 0", str(raised.value)
    )


@pytest.mark.usefixtures("marked")
def test_a_rank_is_told_by_the_file_it_holds(tmp_path):
    """What the test above looks for is found where it is."""
    other = os.fork()
    if not other:
        signal.pause()
    try:
        assert [pid for pid in descendants(os.getpid()) if is_rank_of(pid, tmp_path)] == [other]
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)


def test_the_newest_whole_checkpoint_is_named(tmp_path):
    class Killed(TinyModule):
        def training_step(self, batch, batch_idx):
            if self.global_step == 2 and self.global_rank == 1:
                deadline = time.monotonic() + 30
                while not file_of(Rank.current.directory, 0, "checkpoint").exists() and time.monotonic() < deadline:
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)
            return super().training_step(batch, batch_idx)

    checkpoint = {"checkpoint": {"dirpath": tmp_path / "saved", "every_n_train_steps": 2}}
    trainer = ly.Trainer(
        **{**QUIET, "enable_checkpointing": None}, strategy="ddp_fork", devices=2, max_epochs=2, callbacks=[checkpoint]
    )
    with pytest.raises(RankError) as raised:
        trainer.fit(Killed())
    assert re.fullmatch(
        r"rank 1 \(pid \d+\) was killed by SIGKILL \(out of memory\?\) at step 2, in training batch 0 of epoch 1",
        str(raised.value),
    )
    assert raised.value.__notes__ == [f"the newest checkpoint is {tmp_path / 'saved' / 'epoch=0-step=2.ckpt'}"]


SCRIPT = """
import sys
import torch._dynamo  # what DDP imports takes long on a busy machine, and would be timed
import leyden as ly
from tests.distributed.test_ends import Breaks

if __name__ == "__main__":
    strategy = {"ddp": {"timeout": 5.0 if sys.argv[1] == "stall" else 60.0}}
    for job in (1, 2) if sys.argv[1] == "jobs" else (1,):
        trainer = ly.Trainer(
            accelerator="cpu", strategy=strategy, devices=2, max_epochs=1, limit_train_batches=2,
            logger="csv" if sys.argv[1] == "jobs" else False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )
        trainer.fit(Breaks(sys.argv[1], "training"))
        print("after the fit\\n", end="")  # in one write, for both ranks print to the same pipe
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "train.py"
    path.write_text(textwrap.dedent(SCRIPT))
    return path


def run_script(script, *words, launcher=(sys.executable,)):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(script.parent)}
    [done] = run_together([[*launcher, script, *words]], 250, env=environment, cwd=script.parent)
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(script) not in running, "a process is left"
    assert list(script.parent.glob("leyden-*")) == [], "files of the run are left"
    return done


LAUNCHERS = {
    "ours": (sys.executable,),
    "torchrun": (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_an_exception_is_the_last_thing_on_the_screen(script, launcher):
    done = run_script(script, "raise", launcher=LAUNCHERS[launcher])
    assert done.code == 1
    _, said, last = done.err.rpartition("leyden: rank 1 ")
    assert said
    assert re.match(r"\(pid \d+\) failed at step 1, in training batch 1 of epoch 0:\nTraceback", last)
    assert last.rstrip().endswith("KeyError: 'broken by intention'")
    assert "after the fit" not in done.out
    if launcher == "ours":
        assert done.err.count("broken by intention') ") == 0
        assert done.err.count("KeyError: 'broken by intention'") == 1
        assert re.search(r"leyden: rank 0 \(pid \d+\) was stopped because of rank 1\n", done.err)


KILLED = r"was killed by SIGKILL \(out of memory\?\)"
UNKNOWN = r"ended without an exception \(killed by SIGKILL, out of memory\? or by os\._exit\)"


@pytest.mark.parametrize(
    ("launcher", "how", "code", "said"),
    [
        ("ours", "kill", 137, KILLED),
        # The system shows how a rank ended until torchrun has asked, ten times a second.
        ("torchrun", "kill", 1, f"({KILLED}|{UNKNOWN})"),
        ("torchrun", "exit", 1, rf"(left with exit code 3, without an exception,|{UNKNOWN})"),
    ],
)
def test_a_rank_that_is_gone_is_named_last(script, launcher, how, code, said):
    done = run_script(script, how, launcher=LAUNCHERS[launcher])
    assert done.code == code
    assert re.search(rf"leyden: rank 1 \(pid \d+\) {said} at step 1, in training batch 1 of epoch 0\n\Z", done.err)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_stall_shows_every_stack_and_last_that_of_the_rank_that_is_waited_for(script, launcher):
    done = run_script(script, "stall", launcher=LAUNCHERS[launcher])
    assert done.code == 1
    for rank in (0, 1):
        assert re.search(rf"---- rank {rank} \(pid \d+\), at step 1, in training batch 1 of epoch 0\n", done.err)
    last = done.err.rpartition("leyden: rank 1 ")[2]
    assert re.match(r"\(pid \d+\) did not move for 5 s at step 1, in training batch 1 of epoch 0; its stack is:\n", last)
    assert " in reach\n" in last


def test_runs_that_end_well_have_a_folder_each_and_the_scripts_own_exit_code(script):
    done = run_script(script, "jobs")
    assert done.code == 0, done.err
    assert done.out.replace("\n", "") == "after the fit" * 4  # two processes, whose line ends may come together
    assert done.out.count("\n") == 4
    assert sorted(path.name for path in script.parent.glob("*/version_*")) == ["version_0", "version_1"]
