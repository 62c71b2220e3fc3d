"""Cluster environments: which one is chosen, what it says, and what is refused."""

from __future__ import annotations

import os
import signal
import stat

import leyden as ly
import pytest
from leyden.selection import choose_environment, number_of_processes
from leyden_strategies.environments.slurm import first_node

SCHEDULERS = ("TORCHELASTIC", "SLURM", "OMPI", "PMI", "MPI", "LSB", "JSM", "KUBERNETES", "MASTER", "LEYDEN_RUN")
NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK")

SETS = {
    "local": {
        "LEYDEN_RUN_DIR": "/nowhere", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
        "NODE_RANK": "1", "MASTER_ADDR": "head", "MASTER_PORT": "1234",
    },
    "torchelastic": {
        "TORCHELASTIC_RUN_ID": "7", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1",
        "MASTER_ADDR": "head", "MASTER_PORT": "1234",
    },
    "slurm": {
        "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_STEP_ID": "0",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_STEP_NODELIST": "head[1-2]", "SLURM_JOB_ID": "41234", "SLURM_NTASKS": "99",
    },
    "mpi": {
        "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "MASTER_ADDR": "head", "MASTER_PORT": "1234",
    },
    "lsf": {
        "LSB_JOBID": "41234", "LSB_HOSTS": "batch head head other", "JSM_NAMESPACE_RANK": "3", "JSM_NAMESPACE_SIZE": "4",
        "JSM_NAMESPACE_LOCAL_RANK": "1", "JSM_NAMESPACE_LOCAL_SIZE": "2",
    },
    "kubeflow": {
        "KUBERNETES_PORT": "tcp://10.0.0.1:443", "MASTER_ADDR": "head", "MASTER_PORT": "1234", "RANK": "3", "WORLD_SIZE": "4",
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in os.environ:
        if name.startswith(SCHEDULERS) or name in NUMBERS:
            monkeypatch.delenv(name)


def put(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", SETS)
def test_an_environment_is_found_by_its_variables_and_says_which_process_this_is(monkeypatch, name):
    put(monkeypatch, SETS[name])
    found = choose_environment("auto")
    assert found.name == name
    assert found.creates_processes_externally
    alone = name == "kubeflow"
    assert (found.world_size, found.rank) == (4, 3)
    assert (found.local_rank, found.local_world_size, found.node_rank) == ((0, 1, 3) if alone else (1, 2, 1))
    assert found.main_address == ("head1" if name == "slurm" else "head")
    assert found.main_port == (16234 if name in ("slurm", "lsf") else 1234)


@pytest.mark.parametrize("name", SETS)
def test_without_its_variables_an_environment_that_is_asked_for_is_refused(name):
    if name == "local":
        assert not choose_environment("local").creates_processes_externally
        return
    with pytest.raises(ValueError) as raised:
        choose_environment(name)
    marker = {"torchelastic": "TORCHELASTIC_RUN_ID", "slurm": "SLURM_PROCID", "mpi": "OMPI_COMM_WORLD_RANK", "lsf": "LSB_JOBID",
              "kubeflow": "KUBERNETES_PORT"}[name]  # fmt: skip
    assert str(raised.value).startswith(f"environment={name!r}: its variables are not set here; it needs {marker!r}")


INCONSISTENT = [
    ("torchelastic", {"RANK": "4"}, "RANK=4 does not go with WORLD_SIZE=4"),
    ("torchelastic", {"RANK": "-1"}, "RANK=-1 does not go with WORLD_SIZE=4"),
    ("torchelastic", {"LOCAL_RANK": "2"}, "LOCAL_RANK=2 does not go with LOCAL_WORLD_SIZE=2"),
    ("torchelastic", {"LOCAL_WORLD_SIZE": "8"}, "LOCAL_WORLD_SIZE=8 does not go with WORLD_SIZE=4"),
    ("torchelastic", {"RANK": "0"}, "LOCAL_RANK=1 does not go with RANK=0"),
    ("torchelastic", {"WORLD_SIZE": "many"}, "WORLD_SIZE='many' is no number"),
    ("torchelastic", {"WORLD_SIZE": None}, "TORCHELASTIC_RUN_ID is set but WORLD_SIZE is not"),
    ("slurm", {"SLURM_PROCID": "5"}, "SLURM_PROCID=5 does not go with SLURM_STEP_NUM_TASKS=4"),
    ("mpi", {"OMPI_COMM_WORLD_RANK": "4"}, "OMPI_COMM_WORLD_RANK=4 does not go with OMPI_COMM_WORLD_SIZE=4"),
]


@pytest.mark.parametrize(("name", "changed", "problem"), INCONSISTENT)
def test_inconsistent_variables_are_not_used_and_that_is_said(monkeypatch, capsys, name, changed, problem):
    put(monkeypatch, SETS[name])
    for variable, value in changed.items():
        monkeypatch.delenv(variable) if value is None else monkeypatch.setenv(variable, value)
    ly.messages.new_run(0)
    assert not choose_environment("auto").creates_processes_externally
    said = f"environment {name!r} is not used: {problem}; environment={name!r} makes this an error"
    assert capsys.readouterr().err == f"leyden: {said} [LY014]\n"
    with pytest.raises(ValueError) as raised:
        choose_environment(name)
    assert str(raised.value) == f"environment={name!r}: {problem}"


def test_torchrun_inside_of_a_job_goes_before_the_scheduler(monkeypatch):
    put(monkeypatch, {**SETS["slurm"], **SETS["torchelastic"]})
    assert choose_environment("auto").name == "torchelastic"
    assert choose_environment("slurm").name == "slurm"


def test_a_batch_script_and_an_interactive_shell_of_slurm_are_not_its_tasks(monkeypatch):
    put(monkeypatch, {name: value for name, value in SETS["slurm"].items() if name != "SLURM_STEP_ID"})
    assert choose_environment("auto").name == "local"
    put(monkeypatch, {**SETS["slurm"], "SLURM_JOB_NAME": "bash"})
    assert choose_environment("auto").name == "local"
    put(monkeypatch, {"SLURM_JOB_NAME": "train", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"})
    assert choose_environment("auto").name == "local"


def test_devices_and_nodes_are_those_of_the_processes_that_exist(monkeypatch):
    put(monkeypatch, SETS["torchelastic"])
    environment = choose_environment("auto")
    assert number_of_processes("auto", 1, environment) == (2, 2)
    assert number_of_processes(2, 2, environment) == (2, 2)
    trainer = ly.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert (trainer.strategy.name, trainer.world_size, trainer.strategy.rank, trainer.is_global_zero) == ("ddp", 4, 3, False)


def test_another_number_of_processes_than_asked_for_is_refused(monkeypatch):
    put(monkeypatch, SETS["torchelastic"])
    with pytest.raises(ValueError) as raised:
        ly.Trainer(accelerator="cpu", strategy="ddp", devices=3)
    assert str(raised.value) == (
        "environment 'torchelastic' has 4 processes, but devices=3 and num_nodes=1 need 3; start as many, or leave devices and "
        "num_nodes out"
    )


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("a", "a"), ("a,b", "a"), ("n[07-09,12],m1", "n07"), ("n[3]", "n3"), ("rack1-node[10-20]", "rack1-node10")],
)
def test_the_first_node_of_slurms_short_form(nodes, first):
    assert first_node(nodes) == first


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A stand-in that writes down how it is called, and fails if it is told to."""
    calls = tmp_path / "calls"
    script = tmp_path / "bin" / "scontrol"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n[ -z "$SCONTROL_FAILS" ] || {{ echo "no such job" >&2; exit 1; }}\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    return calls


ONE_TASK = {**SETS["slurm"], "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NODEID": "0",
            "SLURM_STEP_TASKS_PER_NODE": "1"}  # fmt: skip


def signalled(tmp_path, number, **options):
    """A fit in a task of SLURM to which a signal comes; the code of its exit."""

    class Signalled(ly.testing.TinyModule):
        def on_train_batch_start(self, batch, batch_idx):
            if self.global_step == 2:
                os.kill(os.getpid(), number)

    trainer = ly.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=3,
        callbacks=[{"checkpoint": {"dirpath": tmp_path / "saved"}}], **options,
    )  # fmt: skip
    with pytest.raises(SystemExit) as raised:
        trainer.fit(Signalled())
    return raised.value.code


def test_slurms_signal_saves_the_state_and_queues_the_job_again(monkeypatch, tmp_path, scontrol):
    put(monkeypatch, ONE_TASK)
    assert signalled(tmp_path, signal.SIGUSR1, environment="slurm") == 128 + signal.SIGUSR1
    assert scontrol.read_text() == "requeue 41234\n"
    assert len(list((tmp_path / "saved").glob("*.ckpt"))) == 1


def test_a_task_of_an_array_job_queues_itself_again(monkeypatch, tmp_path, scontrol):
    put(monkeypatch, {**ONE_TASK, "SLURM_ARRAY_JOB_ID": "41230", "SLURM_ARRAY_TASK_ID": "4"})
    signalled(tmp_path, signal.SIGUSR1, environment="slurm")
    assert scontrol.read_text() == "requeue 41230_4\n"


def test_nothing_is_queued_again_for_another_signal_or_if_that_is_off(monkeypatch, tmp_path, scontrol):
    put(monkeypatch, ONE_TASK)
    assert signalled(tmp_path / "term", signal.SIGTERM, environment="slurm") == 143
    signalled(tmp_path / "off", signal.SIGUSR1, environment={"slurm": {"auto_requeue": False}})
    assert not scontrol.exists()


def test_a_scheduler_that_refuses_to_queue_the_job_is_told_of_after_the_save(monkeypatch, tmp_path, scontrol):
    put(monkeypatch, {**ONE_TASK, "SCONTROL_FAILS": "1"})
    with pytest.raises(RuntimeError) as raised:
        signalled(tmp_path, signal.SIGUSR1, environment="slurm")
    assert str(raised.value) == (
        "the state is saved, but `scontrol requeue 41234` failed (exit code 1: no such job); queue the job again yourself"
    )
    assert len(list((tmp_path / "saved").glob("*.ckpt"))) == 1
