"""One run, one directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from leyden import LeydenWarning
from leyden_loggers import CSVLogger, RunDirectory, TensorBoardLogger

FOUR_RUNS = """
import os, sys
from leyden_loggers import CSVLogger, TensorBoardLogger

reader, writer = os.pipe()
children = []
for number in range(4):
    child = os.fork()
    if not child:
        os.close(writer)
        os.read(reader, 1)  # returns for all of them when the parent closes its end
        logger = (CSVLogger, TensorBoardLogger)[number % 2](sys.argv[1])
        with open(f"{sys.argv[1]}/{number}.txt", "w") as file:
            file.write(logger.log_dir)
        os._exit(0)
    children.append(child)
os.close(writer)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to start four processes at one moment")
def test_four_processes_that_start_at_once_get_four_directories(tmp_path):
    subprocess.run([sys.executable, "-c", FOUR_RUNS, str(tmp_path)], check=True)
    expected = [str(tmp_path / f"leyden_logs/version_{number}") for number in range(4)]
    assert sorted(path.read_text() for path in tmp_path.glob("*.txt")) == expected
    assert sorted(str(path) for path in (tmp_path / "leyden_logs").iterdir()) == expected


def test_a_number_that_another_run_takes_in_between_is_passed_over(tmp_path, monkeypatch):
    make = os.mkdir

    def slower(path, *args, **kwargs):
        if str(path).endswith("version_0"):
            make(path)  # another process, just before
        return make(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", slower)
    assert RunDirectory(tmp_path).version == 1


def test_a_new_version_is_one_above_the_highest(tmp_path):
    for name in ("version_0", "version_7", "version_x", "other"):
        (tmp_path / name).mkdir()
    assert RunDirectory(tmp_path).version == 8


@pytest.mark.parametrize("logger", [CSVLogger, TensorBoardLogger])
def test_building_a_logger_and_asking_where_runs_are_kept_makes_nothing(logger, tmp_path):
    built = logger(tmp_path / "logs", name="digits")
    assert built.root_dir == str(tmp_path / "logs" / "digits")
    assert (built.save_dir, built.name) == (str(tmp_path / "logs"), "digits")
    built.save()
    built.finalize("success")
    assert list(tmp_path.iterdir()) == []


def test_asking_for_the_directory_takes_it(tmp_path):
    first, second = CSVLogger(tmp_path), CSVLogger(tmp_path)
    assert first.log_dir == str(tmp_path / "leyden_logs" / "version_0")
    assert (second.version, first.version) == (1, 0)
    assert Path(first.log_dir).is_dir()


@pytest.mark.parametrize(("version", "name"), [(3, "version_3"), ("final", "final"), ("sweep/a", "sweep/a")])
def test_a_version_is_a_number_or_a_name(version, name, tmp_path):
    logger = CSVLogger(tmp_path, version=version)
    assert logger.log_dir == str(tmp_path / "leyden_logs" / name)
    assert list(tmp_path.iterdir()) == []  # a version that was given needs no lock
    logger.log_metrics({"loss": 1.0}, 0)
    assert (tmp_path / "leyden_logs" / name / "metrics.csv").exists()


@pytest.mark.parametrize("name", ["", None])
def test_without_a_name_runs_lie_in_save_dir(name, tmp_path):
    assert CSVLogger(tmp_path, name=name).log_dir == str(tmp_path / "version_0")


def test_a_relative_save_dir_is_shown_as_given_and_survives_a_change_of_directory(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    logger = CSVLogger("logs", name="my_model", flush_every_n_records=1)
    logger.log_metrics({"loss": 1.0}, 0)
    monkeypatch.chdir("elsewhere")
    logger.log_metrics({"loss": 2.0}, 1)
    assert logger.log_dir == str(Path("logs/my_model/version_0"))
    assert (tmp_path / "logs/my_model/version_0/metrics.csv").read_text().count("\n") == 3
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("logger", [CSVLogger, TensorBoardLogger])
def test_a_place_that_cannot_be_written_to_is_refused_with_its_path(logger, tmp_path):
    (tmp_path / "taken").write_text("a file")
    place = tmp_path / "taken" / "leyden_logs"
    with pytest.raises(NotADirectoryError) as error:
        logger(tmp_path / "taken").log_hyperparams({"lr": 0.1})
    assert str(error.value) == (
        f"[Errno 20] the logger cannot write to {str(place)!r}: Not a directory; "
        f"pass a save_dir that can be written to, or logger=False"
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_refused_with_its_path(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=re.escape(repr(str(tmp_path / "leyden_logs")))):
        CSVLogger(tmp_path).log_metrics({"loss": 1.0}, 0)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"save_dir": 3}, TypeError, "CSVLogger(save_dir=3): expected a path or None, got int 3"),
        (
            {"save_dir": "s3://bucket"},
            ValueError,
            "CSVLogger(save_dir='s3://bucket'): expected a directory on a local file system, got a URL",
        ),
        ({"name": 3}, TypeError, "CSVLogger(name=3): expected a str or None, got int 3"),
        ({"version": 1.5}, TypeError, "CSVLogger(version=1.5): expected an int >= 0, a str or None, got float 1.5"),
        ({"version": True}, TypeError, "CSVLogger(version=True): expected an int >= 0, a str or None, got bool True"),
        ({"version": -1}, ValueError, "CSVLogger(version=-1): expected an int >= 0, a str that is not empty, or None"),
        ({"version": ""}, ValueError, "CSVLogger(version=''): expected an int >= 0, a str that is not empty, or None"),
        (
            {"version": "../other"},
            ValueError,
            "CSVLogger(version='../other'): expected a directory's name below save_dir; pass the rest as save_dir",
        ),
        (
            {"name": "/tmp/logs"},
            ValueError,
            "CSVLogger(name='/tmp/logs'): expected a directory's name below save_dir; pass the rest as save_dir",
        ),
        ({"save_dir": "a\0b"}, ValueError, r"CSVLogger(save_dir='a\x00b'): no path has the character '\x00'"),
        ({"prefix": None}, TypeError, "CSVLogger(prefix=None): expected a str, got NoneType None"),
        (
            {"flush_every_n_records": 0},
            ValueError,
            "CSVLogger(flush_every_n_records=0): expected an int >= 1 or None, got int 0",
        ),
    ],
)
def test_wrong_options_are_refused_at_once(options, kind, message):
    with pytest.raises(kind) as error:
        CSVLogger(**options)
    assert str(error.value) == message


def test_a_directory_that_is_deleted_is_made_again_with_its_hyperparameters(tmp_path):
    run = RunDirectory(tmp_path, "run")
    run.log_hyperparams({"lr": 0.1})
    (tmp_path / "run" / "hparams.yaml").unlink()
    (tmp_path / "run").rmdir()
    with pytest.warns(LeydenWarning) as warned:
        assert run.open() == (tmp_path / "run", 2)
    assert [str(warning.message) for warning in warned] == [
        f"the run's directory {str(tmp_path / 'run')!r} was deleted while the run wrote to it; it was made again and has only "
        f"what is logged from now on"
    ]
    assert (tmp_path / "run" / "hparams.yaml").read_text() == "lr: 0.1\n"


def test_hyperparameters_that_come_in_parts_are_kept_together(tmp_path):
    run = RunDirectory(tmp_path, 0)
    run.log_hyperparams({"lr": 0.1, "depth": 2})
    run.log_hyperparams({"lr": 0.2})
    assert (tmp_path / "version_0" / "hparams.yaml").read_text() == "lr: 0.2\ndepth: 2\n"
