"""Runs end: when one rank fails, all are gone soon, and the cause is what is said last."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import leyden as ly
import pytest
import torch
from leyden.testing import TinyModule
from leyden_strategies.launchers.board import file_of
from leyden_strategies.launchers.processes import RankError
from leyden_strategies.launchers.rank import Rank
from leyden_strategies.launchers.tree import descendants, is_running
from torch.utils.data import DataLoader, TensorDataset

from tests.distributed.conftest import QUIET
from tests.distributed.nodes import run_together

STALL = 5.0
DATA = TensorDataset(torch.randn(64, 8), torch.zeros(64, dtype=torch.long))


class OwnKindError(BaseException):
    """What ``except Exception`` passes by."""


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
        if self.how == "vanish":
            os._exit(0)
        if self.how == "own":
            raise OwnKindError("by intention")
        if self.how == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # as a full disk, for this process
            raise KeyError("broken by intention")
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
    "vanish": "left with exit code 0, without an exception,",
    "kill": "was killed by SIGKILL (out of memory?)",
    "leave": "left the others by SystemExit(0)",
    "stall": f"did not move for {STALL:g} s",
}
CASES = [
    *((how, place) for how in ("raise", "kill") for place in WHERE),
    ("exit", "training"),
    *(("vanish", place) for place in ("setup", "training", "teardown")),
    ("own", "training"),
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
    expected = {"raise": KeyError, "memory": MemoryError, "own": OwnKindError}.get(how, RankError)
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


def test_a_rank_that_has_no_room_to_say_how_it_failed_is_heard_all_the_same(tmp_path):
    trainer = ly.Trainer(**{**QUIET, "default_root_dir": tmp_path}, strategy="ddp_fork", devices=2, max_epochs=1)
    with pytest.raises(RankError) as raised:
        trainer.fit(Breaks("full", "training"))
    first, _, rest = str(raised.value).partition("\n")
    assert re.fullmatch(r"rank 1 \(pid \d+\) failed at step 1, in training batch 1 of epoch 0", first)
    assert rest.startswith("Traceback")
    assert rest.endswith("KeyError: 'broken by intention'")


def test_a_rank_whose_user_closed_its_streams_ends_well(tmp_path):
    class Closes(TinyModule):
        def on_fit_end(self):
            if self.global_rank == 1:
                sys.stdout.close()
                sys.stderr.close()

    trainer = ly.Trainer(**{**QUIET, "default_root_dir": tmp_path}, strategy="ddp_fork", devices=2, max_epochs=1)
    trainer.fit(Closes())
    assert trainer.global_step == 2


@pytest.mark.usefixtures("marked")
def test_workers_of_a_rank_that_was_killed_are_gone_with_it(tmp_path, monkeypatch):
    for module in (torch.utils.data._utils, torch.utils.data._utils.worker):  # how often they look for it themselves
        monkeypatch.setattr(module, "MP_STATUS_CHECK_INTERVAL", 600.0)

    class Killed(TinyModule):
        def on_train_batch_start(self, batch, batch_idx):
            if self.global_rank == 1:
                workers = [pid for pid in descendants(os.getpid()) if is_rank_of(pid, tmp_path)]
                (tmp_path / "workers").write_text(" ".join(map(str, workers)))
                os.kill(os.getpid(), signal.SIGKILL)

    trainer = ly.Trainer(**{**QUIET, "default_root_dir": tmp_path}, strategy="ddp_fork", devices=2, max_epochs=1)
    with pytest.raises(RankError, match="was killed by SIGKILL"):
        trainer.fit(Killed(), DataLoader(DATA, batch_size=4, num_workers=2))
    workers = [int(pid) for pid in (tmp_path / "workers").read_text().split()]
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in workers if is_running(pid)]


def test_what_runs_in_a_session_of_its_own_outlives_a_rank_that_was_killed(tmp_path):
    class Starts(TinyModule):
        def on_train_batch_start(self, batch, batch_idx):
            if self.global_rank == 1:
                started = [
                    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=own).pid
                    for own in (True, False)
                ]
                (tmp_path / "started").write_text(" ".join(map(str, started)))
                os.kill(os.getpid(), signal.SIGKILL)

    trainer = ly.Trainer(**{**QUIET, "default_root_dir": tmp_path}, strategy="ddp_fork", devices=2, max_epochs=1)
    with pytest.raises(RankError, match="was killed by SIGKILL"):
        trainer.fit(Starts())
    uploads, helps = (int(pid) for pid in (tmp_path / "started").read_text().split())
    assert is_running(uploads)
    os.kill(uploads, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while is_running(helps) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(helps)


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
import os
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
        try:
            trainer.fit(Breaks("raise" if sys.argv[1] == "caught" else sys.argv[1], "training"))
        except KeyError:
            if sys.argv[1] != "caught":
                raise
            os._exit(0)
        if sys.argv[1] == "lone" and trainer.is_global_zero:
            trainer.test(Breaks("lone", ""))
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
        ("ours", "vanish", 1, r"left with exit code 0, without an exception,"),
        ("torchrun", "vanish", 1, rf"(left with exit code 0, without an exception,|{UNKNOWN})"),
    ],
)
def test_a_rank_that_is_gone_is_named_last(script, launcher, how, code, said):
    done = run_script(script, how, launcher=LAUNCHERS[launcher])
    assert done.code == code
    assert re.search(rf"leyden: rank 1 \(pid \d+\) {said} at step 1, in training batch 1 of epoch 0\n\Z", done.err)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_run_that_one_rank_takes_no_part_in_says_so(script, launcher):
    done = run_script(script, "lone", launcher=LAUNCHERS[launcher])
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert re.match(r"leyden: rank 1 \(pid \d+\) ended, and rank 0 is in a run in which it waits for it: every rank has to", last)


def test_the_exception_that_one_ranks_script_caught_is_the_cause_of_what_the_others_failed_by(script):
    done = run_script(script, "caught")
    assert done.code == 1
    assert re.search(r"leyden: rank 0 \(pid \d+\) was stopped because of rank 1\nleyden: rank 1 \(pid \d+\) failed ", done.err)
    assert done.err.endswith("KeyError: 'broken by intention'\n")


@pytest.mark.parametrize("strategy", ["ddp", "ddp_fork"])
def test_nothing_is_left_when_whoever_watches_is_killed(tmp_path, strategy):
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(KILLED_PARENT))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, script, strategy], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        try:
            pids = [int(parent.stdout.readline()) for _ in range(2)]
            assert len(list(tmp_path.glob("leyden-*"))) == 1
        finally:
            parent.kill()
    pids += [pid for pid in map(int, (path.name for path in Path("/proc").glob("[0-9]*"))) if is_of(pid, script)]
    deadline = time.monotonic() + 30
    while (any(map(is_running, pids)) or list(tmp_path.glob("leyden-*"))) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in pids if is_running(pid)]
    assert list(tmp_path.glob("leyden-*")) == []


def is_of(pid, script):
    try:
        return os.fsencode(script) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


KILLED_PARENT = """
import os
import sys
import time
import leyden as ly
import torch
from leyden.testing import TinyModule
from torch.utils.data import DataLoader, TensorDataset

class Slow(TinyModule):
    def training_step(self, batch, batch_idx):
        if batch_idx == 1:
            print(f"{os.getpid()}\\n", end="", flush=True)
        time.sleep(0.1)
        return super().training_step(batch, batch_idx)

if __name__ == "__main__":
    trainer = ly.Trainer(
        accelerator="cpu", strategy=sys.argv[1], devices=2, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )
    data = TensorDataset(torch.randn(10_000, 8), torch.zeros(10_000, dtype=torch.long))
    trainer.fit(Slow(), DataLoader(data, batch_size=4, num_workers=1))
"""


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
