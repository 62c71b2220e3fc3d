"""Loggers of other libraries' clients, against the real clients, with no network."""

from __future__ import annotations

import gc
import inspect
import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from leyden import Trainer
from leyden.testing import LoggerContract, TinyModule
from leyden_loggers import CometLogger, MLflowLogger, WandbLogger
from leyden_loggers.records import Record

pytestmark = [
    # MLflow's store uses what SQLAlchemy 2.1 deprecates.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # connections and sockets of the clients
]

COMET = {"offline": True, "log_code": False, "log_env_details": False, "log_git_metadata": False, "log_git_patch": False,
         "parse_args": False, "auto_output_logging": False, "display_summary_level": 0}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def no_calls_home():
    """Switches off what clients send about themselves, and ends their processes afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_LOGGING_LEVEL": "WARNING",
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
            "COMET_LOGGING_CONSOLE": "CRITICAL",
        }.items():
            patch.setenv(variable, value)
        yield
        import wandb

        wandb.teardown()


def quiet(root, **arguments):
    return Trainer(**{
        "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
        "log_every_n_steps": 1, "max_epochs": 1, "default_root_dir": root, **arguments,
    })  # fmt: skip


# ---- reading back ----


def wandb_records(path):
    """The records of a file of W&B's: LevelDB's log format, after seven bytes of its own."""
    from wandb.proto import wandb_internal_pb2

    data, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        size, kind = struct.unpack("<HB", data[position + 4 : position + 7])
        parts += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def ended_records(path):
    """The records of a file once W&B's own process has written the last, which it does after ``finish()`` returned."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        records = list(wandb_records(path))
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        threading.Event().wait(0.02)
    raise AssertionError(f"{path} has no end, only {[record.WhichOneof('record_type') for record in records]}")


def wandb_rows(logger):
    logger.experiment.finish()
    for path in sorted(Path(logger.save_dir, "wandb").glob(f"*run-*-{logger.version}/*.wandb"), key=lambda p: p.stat().st_mtime):
        for record in ended_records(path):
            if record.WhichOneof("record_type") == "history":
                yield {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}


def comet_messages(logger):
    """What is in an experiment's archives, in the order in which they were written."""
    for path in sorted(Path(logger.save_dir).glob(f"{logger.version}*.zip"), key=lambda path: path.stat().st_mtime):
        with zipfile.ZipFile(path) as archive:
            for line in archive.read("messages.json").decode().splitlines():
                yield json.loads(line)


# ---- the contract ----


class TestWandb(LoggerContract):
    def logger(self, root):
        return WandbLogger(save_dir=root, mode="offline")

    def written(self, logger):
        series = {}
        for row in wandb_rows(logger):
            step = row["trainer/global_step"]
            for key in row.keys() - {"trainer/global_step", "_step", "_runtime", "_timestamp"}:
                series.setdefault(key, []).append((step, float(row[key])))
        return series


class TestMLflow(LoggerContract):
    @pytest.fixture(autouse=True)
    def _store(self, store):
        self.store = store

    def logger(self, root):
        if not list(root.iterdir()):
            uri = root.parent / f"{root.name}.db"  # outside of what the contract looks at
            shutil.copy(self.store, uri)
        return MLflowLogger(tracking_uri=f"sqlite:///{uri}")

    def written(self, logger):
        if logger.version is None:
            return {}
        client, series = logger.experiment, {}
        for key in client.get_run(logger.version).data.metrics:
            series[key] = [(metric.step, metric.value) for metric in client.get_metric_history(logger.version, key)]
        return series


class TestComet(LoggerContract):
    def logger(self, root):
        return CometLogger(save_dir=root, **COMET)

    def written(self, logger):
        logger.experiment.end()
        series = {}
        for message in comet_messages(logger):
            if message["type"] == "metric_msg" and "process" not in message["payload"]["metric"]["metricName"]:
                metric = message["payload"]["metric"]
                series.setdefault(metric["metricName"], []).append((metric["step"], float(metric["metricValue"])))
        return series


# ---- importing and missing clients ----


def test_importing_and_choosing_them_imports_no_client_and_reads_no_environment(tmp_path):
    program = """
import os, sys, leyden, leyden_loggers
asked = []
class Environment(dict):
    def __getitem__(self, key): asked.append(key); return super().__getitem__(key)
    def get(self, key, default=None): asked.append(key); return super().get(key, default)
    def __contains__(self, key): asked.append(key); return super().__contains__(key)
os.environ = Environment(os.environ)
trainer = leyden.Trainer(logger=["wandb", "mlflow", "comet", "console", "jsonl"], accelerator="cpu")
print([name for name in ("wandb", "mlflow", "comet_ml", "sqlalchemy") if name in sys.modules])
print([key for key in asked if key.startswith(("WANDB", "MLFLOW", "COMET"))])
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[]\n[]\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "module"), [("wandb", "wandb"), ("mlflow", "mlflow"), ("comet", "comet_ml")])
def test_a_client_that_is_not_installed_is_named_with_its_extra(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError) as error:
        Trainer(logger=name, accelerator="cpu")
    assert str(error.value) == (
        f'logger {name!r} needs {module}, which is not installed; run: pip install "leyden-loggers[{name}]", '
        f"or choose logger='jsonl'"
    )


def test_the_options_of_the_clients_are_those_that_the_loggers_know():
    import comet_ml
    import wandb

    own = {"project", "dir", "id", "name", "mode"}
    assert set(WandbLogger.client_options) == inspect.signature(wandb.init).parameters.keys() - own
    experiment = inspect.signature(comet_ml.Experiment.__init__).parameters.keys()
    assert set(CometLogger.client_options) <= experiment


# ---- bad input ----


@pytest.mark.parametrize(
    ("choice", "kind", "message"),
    [
        (
            {"mlflow": {"experiment": "a"}},
            TypeError,
            "logger 'mlflow' has no option 'experiment'; did you mean 'experiment_name'? Its options: 'experiment_name', "
            "'name', 'version', 'tracking_uri', 'save_dir', 'tags', 'prefix'",
        ),
        ({"wandb": {"mode": "off"}}, ValueError,
         "WandbLogger(mode='off'): expected 'online', 'offline', 'disabled', 'shared' or None"),
        ({"wandb": {"version": 3}}, TypeError, "WandbLogger(version=3): expected a str or None, got int 3"),
        ({"wandb": {"save_dir": 3}}, TypeError, "WandbLogger(save_dir=3): expected a path or None, got int 3"),
        ({"wandb": {"prefix": 3}}, TypeError, "WandbLogger(prefix=3): expected a str, got int 3"),
        ({"wandb": {"project": ""}}, TypeError, "WandbLogger(project=''): expected a str that is not empty, got str ''"),
        ({"comet": {"offline": "yes"}}, TypeError, "CometLogger(offline='yes'): expected a bool, got str 'yes'"),
        ({"comet": {"api_key": 3}}, TypeError, "CometLogger(api_key=...): expected a str or None, got a int"),
        ({"mlflow": {"tags": 3}}, TypeError, "MLflowLogger(tags=3): expected a dict or None, got int 3"),
        ({"mlflow": {"tracking_uri": 3}}, TypeError, "MLflowLogger(tracking_uri=3): expected a str or None, got int 3"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_when_the_trainer_is_built(choice, kind, message):
    with pytest.raises(kind) as error:
        Trainer(logger=choice, accelerator="cpu")
    assert str(error.value) == message


def test_an_option_that_wandb_does_not_have_is_refused_with_the_nearest():
    with pytest.raises(TypeError) as error:
        WandbLogger(tag=["a"])
    assert str(error.value).startswith(
        "logger 'wandb' has no option 'tag'; did you mean 'tags'? Its options: 'project', 'name', "
    )


class Untouched(TinyModule):
    def training_step(self, batch, batch_idx):
        raise AssertionError("trained")

    validation_step = training_step


@pytest.mark.parametrize("logger", [{"wandb": {"mode": "offline"}}, {"comet": COMET}, "mlflow"], ids=["wandb", "comet", "mlflow"])
def test_a_directory_that_cannot_be_written_to_is_refused_before_the_first_step(logger, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(FileExistsError) as error:
        quiet(tmp_path / "taken", logger=logger).fit(Untouched())
    assert str(error.value) == (
        f"[Errno 17] the logger cannot write to {str(tmp_path / 'taken')!r}: File exists; "
        f"pass a save_dir that can be written to, or logger=False"
    )


@pytest.fixture
def nobody():
    """An address at which nobody answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_a_server_of_mlflow_that_is_not_there_is_an_error_before_the_first_step(nobody, tmp_path):
    with pytest.raises(ConnectionError) as error:
        quiet(tmp_path, logger={"mlflow": {"tracking_uri": nobody}}).fit(Untouched())
    assert str(error.value) == (
        f"logger 'mlflow' cannot open a run: no server answers at {nobody!r}: [Errno 111] Connection refused; "
        f"check tracking_uri, or choose logger='jsonl'"
    )


def test_a_store_of_mlflow_that_is_not_there_is_an_error_before_the_first_step(tmp_path):
    with pytest.raises(ConnectionError) as error:
        quiet(tmp_path, logger={"mlflow": {"tracking_uri": "nonsense://x"}}).fit(Untouched())
    assert str(error.value).startswith("logger 'mlflow' cannot open a run: ")
    assert str(error.value).endswith("; check tracking_uri, or choose logger='jsonl'")


def test_a_server_of_wandb_that_is_not_there_is_an_error_before_the_first_step(nobody, tmp_path):
    import wandb

    settings = wandb.Settings(base_url=nobody, api_key="x" * 40)
    with pytest.raises(ConnectionError) as error:
        quiet(tmp_path, logger={"wandb": {"mode": "online", "settings": settings}}).fit(Untouched())
    assert str(error.value) == (
        f"logger 'wandb' cannot open a run: no server answers at {nobody!r}: [Errno 111] Connection refused; "
        f"pass mode='offline' and send it later with: wandb sync, or choose logger='jsonl'"
    )


def test_a_server_of_comet_that_is_not_there_is_an_error_before_the_first_step(nobody, tmp_path, monkeypatch):
    """Comet itself says so and goes on without."""
    monkeypatch.setenv("COMET_URL_OVERRIDE", nobody)
    with pytest.raises(ConnectionError) as error:
        quiet(tmp_path, logger={"comet": {"api_key": "x" * 25}}).fit(Untouched())
    assert str(error.value) == (
        f"logger 'comet' cannot open a run: no server answers at {nobody + '/'!r}: [Errno 111] Connection refused; "
        f"pass offline=True and send it later with: comet upload, or choose logger='jsonl'"
    )


def test_comet_without_a_key_is_an_error_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.delenv("COMET_API_KEY", raising=False)
    monkeypatch.setenv("COMET_CONFIG", str(tmp_path / "none"))
    with pytest.raises(ConnectionError) as error:
        quiet(tmp_path, logger="comet").fit(Untouched())
    assert str(error.value).startswith("logger 'comet' cannot open a run: ")
    assert str(error.value).endswith("; pass offline=True and send it later with: comet upload, or choose logger='jsonl'")


# ---- W&B ----


def test_wandb_draws_over_the_steps_of_the_run_which_never_go_backwards_for_wandb_itself(tmp_path):
    logger = WandbLogger(save_dir=tmp_path, mode="offline", name="tiny", tags=["a"])
    run = quiet(tmp_path, logger=logger)
    run.fit(TinyModule(lr=0.25))
    run.fit(TinyModule(lr=0.5))  # from step 0 again
    assert logger.experiment.config["lr"] == 0.5
    assert (logger.experiment.name, logger.experiment.tags, logger.experiment.id) == ("tiny", ("a",), logger.version)
    rows = list(wandb_rows(logger))
    assert [row["trainer/global_step"] for row in rows if "train_loss" in row] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert [row["_step"] for row in rows] == list(range(10))
    [path] = Path(tmp_path, "wandb").glob("offline-run-*/*.wandb")
    drawn = [record.metric for record in ended_records(path) if record.WhichOneof("record_type") == "metric"]
    assert ("*", "trainer/global_step") in [(metric.glob_name or metric.name, metric.step_metric) for metric in drawn]


def test_keys_that_wandb_keeps_for_itself_are_logged_under_others_and_that_is_said(tmp_path, capsys):
    logger = WandbLogger(save_dir=tmp_path, mode="offline")
    keys = ("_step", "_runtime", "_timestamp", "", "trainer/global_step")
    for step in range(2):
        logger.log_metrics({key: float(number) for number, key in enumerate(keys)}, step)
    [row, _] = wandb_rows(logger)
    found = {key: row[key] for key in row if key.startswith("metric/")}
    assert found == {"metric/step": 0, "metric/runtime": 1, "metric/timestamp": 2, "metric/unnamed": 3,
                     "metric/trainer/global_step": 4}  # fmt: skip
    assert row["trainer/global_step"] == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5
    assert said[0] == "leyden: W&B keeps '_step' for itself; the metric is logged as 'metric/step' [LYL08]"


def test_a_run_of_wandb_that_the_user_finished_is_opened_again_under_its_id(tmp_path):
    logger = WandbLogger(save_dir=tmp_path, mode="offline", version="mine0000")
    logger.log_metrics({"loss": 1.0}, 0)
    logger.experiment.finish()
    logger.log_metrics({"loss": 2.0}, 1)
    assert logger.experiment.id == "mine0000"
    assert [row["loss"] for row in wandb_rows(logger)] == [1.0, 2.0]


def test_a_run_of_wandb_whose_logger_is_gone_ends_when_the_next_one_opens_and_not_in_the_garbage_collector(tmp_path):
    from wandb.errors import UsageError

    logger = WandbLogger(save_dir=tmp_path, mode="offline")
    logger.itself, run = logger, logger.experiment
    del logger
    gc.collect()
    run.log({"loss": 1.0})  # nothing of W&B's was called, which may be in the middle of what must not be interrupted
    other = WandbLogger(save_dir=tmp_path, mode="offline")
    other.log_metrics({"loss": 2.0}, 0)
    with pytest.raises(UsageError, match="is finished"):
        run.log({"loss": 3.0})
    assert [row["loss"] for row in wandb_rows(other)] == [2.0]


def test_a_run_of_wandb_that_failed_is_ended_as_failed(tmp_path):
    class Failing(TinyModule):
        def training_step(self, batch, batch_idx):
            raise ZeroDivisionError

    logger = WandbLogger(save_dir=tmp_path, mode="offline")
    with pytest.raises(ZeroDivisionError):
        quiet(tmp_path, logger=logger).fit(Failing())
    [path] = Path(tmp_path, "wandb").glob("offline-run-*/*.wandb")
    [ended] = [record.exit for record in ended_records(path) if record.WhichOneof("record_type") == "exit"]
    assert ended.exit_code == 1


# ---- MLflow ----


def test_mlflow_has_params_status_and_experiment_and_a_run_can_be_continued(store, tmp_path, capsys):
    uri = f"sqlite:///{shutil.copy(store, tmp_path / 'mlflow.db')}"
    logger = MLflowLogger("digits", name="tiny", tracking_uri=uri, tags={"kind": "test"})
    quiet(tmp_path, logger=logger).fit(TinyModule(lr=0.25))
    run = logger.experiment.get_run(logger.version)
    assert (run.data.params, run.info.run_name, run.data.tags["kind"]) == ({"lr": "0.25"}, "tiny", "test")
    other = MLflowLogger(tracking_uri=uri, version=logger.version)
    quiet(tmp_path, logger=other).test(TinyModule(lr=0.5), verbose=False)
    again = other.experiment.get_run(logger.version)
    assert {"train_loss", "val_loss", "test_loss"} <= again.data.metrics.keys()
    assert again.data.params == {"lr": "0.25"}
    assert "leyden: MLflow keeps 'lr' of this run as '0.25'; it is '0.5' now [LYL06]\n" in capsys.readouterr().err
    assert logger.experiment.get_experiment(run.info.experiment_id).name == "digits"


SERVER = """
import os, socket, sys
import warnings
warnings.simplefilter("ignore")
os.environ["_MLFLOW_SERVER_FILE_STORE"] = os.environ["_MLFLOW_SERVER_REGISTRY_STORE"] = "sqlite:///" + sys.argv[1]
os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = sys.argv[1] + "-artifacts"
import uvicorn
from mlflow.server.fastapi_app import app
bound = socket.socket()
bound.bind(("127.0.0.1", 0))
bound.listen()
print(bound.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[bound])
"""


@pytest.fixture
def mlflow_server(store, tmp_path):
    """The address of MLflow's own tracking server, and its process."""
    for module in ("flask", "flask_cors", "graphene"):
        pytest.importorskip(module)
    database = shutil.copy(store, tmp_path / "server.db")
    with (tmp_path / "server.err").open("w") as err:
        process = subprocess.Popen([sys.executable, "-c", SERVER, str(database)], stdout=subprocess.PIPE, stderr=err, text=True)
    try:
        port = process.stdout.readline().strip()
        assert port, (tmp_path / "server.err").read_text()
        uri = f"http://127.0.0.1:{port}"
        urllib.request.urlopen(f"{uri}/health", timeout=120).close()
        yield uri, process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_server_of_mlflow_has_a_record_for_each_step_and_how_the_run_ended(mlflow_server, tmp_path):
    uri, _ = mlflow_server
    logger = MLflowLogger("digits", tracking_uri=uri)
    quiet(tmp_path, logger=logger, max_epochs=2).fit(TinyModule(lr=0.25))
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    run = client.get_run(logger.version)
    assert (run.info.status, run.data.params) == ("FINISHED", {"lr": "0.25"})
    assert client.get_experiment(run.info.experiment_id).name == "digits"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train_loss")] == list(range(8))
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "val_loss")] == [3, 7]


def test_clients_are_given_hyperparameters_without_secrets(store, tmp_path):
    class Remote(TinyModule):
        def __init__(self, api_key, lr):
            super().__init__()
            self.save_hyperparameters()

    shutil.copy(store, tmp_path / "mlflow.db")
    mlflow = MLflowLogger(save_dir=tmp_path)
    wandb = WandbLogger(save_dir=tmp_path, mode="offline")
    comet = CometLogger(save_dir=tmp_path, **COMET)
    trainer = quiet(tmp_path, logger=[mlflow, wandb, comet])
    trainer.fit(Remote("hunter2", 0.25))
    assert mlflow.experiment.get_run(mlflow.version).data.params == {"api_key": "***", "lr": "0.25"}
    assert (wandb.experiment.config["api_key"], wandb.experiment.config["lr"]) == ("***", 0.25)
    comet.experiment.end()
    messages = json.dumps(list(comet_messages(comet)))
    assert "api_key" in messages
    assert "hunter2" not in messages


def test_mlflow_is_told_how_a_run_ended(store, tmp_path):
    logger = MLflowLogger(tracking_uri=f"sqlite:///{shutil.copy(store, tmp_path / 'mlflow.db')}")
    found = []
    for status in ("success", "failed", "interrupted"):
        logger.log_metrics({"loss": 1.0}, 0)
        logger.save()
        found.append(logger._client.get_run(logger.version).info.status)
        logger.finalize(status)
        found.append(logger._client.get_run(logger.version).info.status)
    assert found == ["RUNNING", "FINISHED", "RUNNING", "FAILED", "RUNNING", "KILLED"]


def test_mlflow_is_given_keys_that_it_takes_and_that_is_said(store, tmp_path, capsys):
    logger = MLflowLogger(tracking_uri=f"sqlite:///{shutil.copy(store, tmp_path / 'mlflow.db')}")
    logger.log_metrics({"acc@5": 1.0, "val/acc": 0.5}, 0)
    assert logger.experiment.get_run(logger.version).data.metrics == {"acc_5": 1.0, "val/acc": 0.5}
    assert capsys.readouterr().err == "leyden: MLflow has no such key as 'acc@5'; it is logged as 'acc_5' [LYL05]\n"


def test_mlflow_takes_any_key_and_keeps_keys_that_it_takes_for_the_same_apart(store, tmp_path):
    logger = MLflowLogger(tracking_uri=f"sqlite:///{shutil.copy(store, tmp_path / 'mlflow.db')}")
    keys = ["/loss", "a//b", "a/./b", "../c", "d/", "", "l\u00f6ss", "l_ss", "x" * 400, "x" * 401, "e\nf"]
    logger.log_metrics({key: float(number) for number, key in enumerate(keys)}, 0)
    logger.log_metrics({key: float(number) for number, key in enumerate(keys)}, 1)
    metrics = logger.experiment.get_run(logger.version).data.metrics
    assert metrics == {
        "loss": 0.0, "a/b": 1.0, "a/b_2": 2.0, "c": 3.0, "d": 4.0, "_": 5.0, "l_ss": 6.0, "l_ss_2": 7.0, "x" * 250: 8.0,
        "x" * 242 + "_2": 9.0, "e_f": 10.0,
    }  # fmt: skip
    assert [point.step for point in logger.experiment.get_metric_history(logger.version, "a/b_2")] == [0, 1]


@pytest.mark.parametrize("kind", ["mlflow", "wandb", "comet"])
def test_a_run_is_ended_as_failed_also_where_its_last_records_cannot_be_written(kind, store, tmp_path, monkeypatch):
    if kind == "mlflow":
        logger = MLflowLogger(tracking_uri=f"sqlite:///{shutil.copy(store, tmp_path / 'mlflow.db')}")
    else:
        logger = WandbLogger(save_dir=tmp_path, mode="offline") if kind == "wandb" else CometLogger(save_dir=tmp_path, **COMET)
    experiment = logger.experiment

    def fails(records):
        raise ConnectionError("gone")

    monkeypatch.setattr(logger, "_write", fails)
    logger._waiting = [Record(0, {"loss": 1.0}, time.time())]
    with pytest.raises(ConnectionError, match="gone"):
        logger.finalize("failed")
    if kind == "mlflow":
        assert experiment.get_run(logger.version).info.status == "FAILED"
    else:
        assert logger._run is None if kind == "wandb" else experiment.ended


def test_mlflow_is_asked_once_for_records_that_come_fast(store, tmp_path, monkeypatch):
    logger = MLflowLogger(tracking_uri=f"sqlite:///{shutil.copy(store, tmp_path / 'mlflow.db')}")
    calls, log_batch = [], logger.experiment.log_batch
    monkeypatch.setattr(logger.experiment, "log_batch", lambda *args, **kwargs: calls.append(1) or log_batch(*args, **kwargs))
    logger._last_write = float("inf")  # as if a write had just been
    for step in range(100):
        logger.log_metrics({"loss": float(step), "epoch": 0}, step)
    assert calls == []
    logger.save()
    assert calls == [1]
    assert len(logger.experiment.get_metric_history(logger.version, "loss")) == 100


def test_mlflow_keeps_each_of_several_equal_values_of_one_step_and_time(store, tmp_path):
    logger = MLflowLogger(tracking_uri=f"sqlite:///{shutil.copy(store, tmp_path / 'mlflow.db')}")
    logger._write([Record(3, {"epoch": 0}, 5.0), Record(3, {"epoch": 0}, 5.0)])
    assert len(logger.experiment.get_metric_history(logger.version, "epoch")) == 2


# ---- Comet ----


def test_comet_has_parameters_and_name_and_a_later_run_belongs_to_the_same_experiment(tmp_path):
    logger = CometLogger(save_dir=tmp_path, name="tiny", **COMET)
    run = quiet(tmp_path, logger=logger)
    run.fit(TinyModule(lr=0.25))
    run.test(verbose=False)
    messages = list(comet_messages(logger))
    params = [message["payload"]["param"] for message in messages if message["type"] == "parameter_msg"]
    assert ("lr", "0.25") in [(param["paramName"], str(param["paramValue"])) for param in params]
    metrics = {message["payload"]["metric"]["metricName"] for message in messages if message["type"] == "metric_msg"}
    assert {"train_loss", "val_loss", "test_loss"} <= metrics
    assert len(list(tmp_path.glob(f"{logger.version}*.zip"))) == 2


# ---- ranks ----


@pytest.mark.parametrize("kind", [WandbLogger, MLflowLogger, CometLogger])
def test_on_another_rank_a_logger_takes_every_call_and_opens_no_run(kind, tmp_path):
    logger = kind(save_dir=tmp_path)
    logger.connect(SimpleNamespace(is_global_zero=False, loggers=[logger], default_root_dir=str(tmp_path)))
    assert logger.log_dir is None
    assert logger.experiment.anything("loss", 1.0) is None
    logger.log_metrics({"loss": 1.0}, 0)
    logger.log_hyperparams({"lr": 0.1}, {"acc": 0.5})
    logger.after_save_checkpoint("a.ckpt")
    logger.save()
    logger.finalize("success")
    assert list(tmp_path.iterdir()) == []
