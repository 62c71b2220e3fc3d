"""Events, as TensorBoard's own reader finds them."""

from __future__ import annotations

import inspect
import math
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from leyden import LeydenWarning
from leyden.testing import TinyModule
from leyden_loggers import TensorBoardLogger
from leyden_loggers.tensorboard import WRITER_OPTIONS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData


def names(directory):
    return sorted(path.name for path in Path(directory).iterdir())


def events(directory):
    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    accumulator.Reload()
    return accumulator


def scalars(directory):
    """The points of each key, by step: files of one second are read in the order of their numbers as words."""
    found = events(directory)
    return {tag: sorted((event.step, event.value) for event in found.Scalars(tag)) for tag in found.Tags()["scalars"]}


def hparams(directory):
    """The hyperparameters and the names of their results, as the HPARAMS page shows them."""
    found = events(directory)
    tags = found.summary_metadata
    start = HParamsPluginData.FromString(tags["_hparams_/session_start_info"].plugin_data.content).session_start_info
    experiment = HParamsPluginData.FromString(tags["_hparams_/experiment"].plugin_data.content).experiment
    values = {key: getattr(value, value.WhichOneof("kind")) for key, value in start.hparams.items()}
    return values, [info.name.tag for info in experiment.metric_infos]


def test_each_record_gives_each_key_a_point_at_its_step(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": 0.5, "epoch": 0}, 49)
    logger.log_metrics({"loss": 0.25, "epoch": 1}, 99)
    logger.finalize("success")
    assert scalars(logger.log_dir) == {"loss": [(49, 0.5), (99, 0.25)], "epoch": [(49, 0.0), (99, 1.0)]}


def test_nan_and_infinities_are_kept(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"nan": math.nan, "inf": math.inf, "minus": -math.inf, "too_large_for_32_bits": 1e300}, 0)
    logger.finalize("success")
    found = {tag: repr(value) for tag, [(_, value)] in scalars(logger.log_dir).items()}
    assert found == {"nan": "nan", "inf": "inf", "minus": "-inf", "too_large_for_32_bits": "inf"}


def test_a_record_is_one_event(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"a": 1.0, "b": 2.0}, 0)
    logger.finalize("success")
    [name] = names(logger.log_dir)
    found = events(logger.log_dir)
    assert name.startswith("events.out.tfevents.")
    assert found.Scalars("a")[0].wall_time == found.Scalars("b")[0].wall_time


def test_a_metric_named_step_is_the_step_and_the_prefix_stands_before_each_key(tmp_path):
    logger = TensorBoardLogger(tmp_path, prefix="a")
    logger.log_metrics({"loss": 1.0, "step": 7.0}, 3)
    logger.log_metrics({"step": 8.0}, 4)
    logger.finalize("success")
    assert scalars(logger.log_dir) == {"a-loss": [(7, 1.0)]}


def test_what_is_no_number_is_refused_with_its_key(tmp_path):
    with pytest.raises(TypeError) as error:
        TensorBoardLogger(tmp_path).log_metrics({"loss": "high"}, 0)
    assert str(error.value) == "log_metrics({'loss': ...}): expected a number or a tensor of one element, got str 'high'"


def test_a_later_run_of_the_logger_goes_on_in_the_same_directory(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.finalize("success")
    logger.log_metrics({"loss": 2.0}, 1)
    logger.finalize("success")
    assert scalars(logger.log_dir) == {"loss": [(0, 1.0), (1, 2.0)]}
    assert logger.version == 0


def test_the_writer_is_the_clients_own_and_writes_beside_the_records(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    logger = TensorBoardLogger(tmp_path)
    assert isinstance(logger.experiment, SummaryWriter)
    assert logger.experiment is logger.experiment
    logger.experiment.add_histogram(tag="weights", values=torch.arange(4.0), global_step=3)
    logger.log_metrics({"loss": 1.0}, 3)
    logger.finalize("success")
    assert events(logger.log_dir).Histograms("weights")[0].step == 3


def test_a_writer_that_the_user_closed_is_opened_again(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.experiment.close()
    logger.log_metrics({"loss": 2.0}, 1)
    logger.finalize("success")
    assert scalars(logger.log_dir) == {"loss": [(0, 1.0), (1, 2.0)]}


def test_save_lets_another_process_read_while_the_run_goes_on(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.save()
    assert scalars(logger.log_dir) == {"loss": [(0, 1.0)]}
    logger.finalize("success")


def test_sub_dir_holds_the_events_and_the_run_directory_the_hyperparameters(tmp_path):
    logger = TensorBoardLogger(tmp_path, sub_dir="events")
    logger.log_hyperparams({"lr": 0.1})
    logger.finalize("success")
    assert logger.log_dir == str(tmp_path / "leyden_logs/version_0/events")
    assert names(tmp_path / "leyden_logs/version_0") == ["events", "hparams.yaml"]
    assert list(scalars(logger.log_dir)) == ["hp_metric"]


# ---- hyperparameters ----


@pytest.mark.parametrize("make", [dict, lambda **params: Namespace(**params)])
def test_hyperparameters_are_listed_with_a_placeholder_for_their_result(make, tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams(make(lr=0.5, name="a", sizes=[1, 2], none=None, model={"depth": 2}))
    logger.finalize("success")
    expected = {"lr": 0.5, "name": "a", "sizes": "[1, 2]", "none": "None", "model/depth": 2.0}
    assert hparams(logger.log_dir) == (expected, ["hp_metric"])
    assert scalars(logger.log_dir) == {"hp_metric": [(0, -1.0)]}


@pytest.mark.parametrize("value", [False, None])
def test_the_placeholder_can_be_switched_off_before_and_after_construction(value, tmp_path):
    before, after = TensorBoardLogger(tmp_path, default_hp_metric=value), TensorBoardLogger(tmp_path)
    after._default_hp_metric = value
    for logger in (before, after):
        logger.log_hyperparams({"lr": 0.5})
        logger.finalize("success")
        assert hparams(logger.log_dir) == ({"lr": 0.5}, [])
        assert scalars(logger.log_dir) == {}


def test_results_given_with_hyperparameters_stand_in_for_the_placeholder(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"lr": 0.5}, {"acc": 0.75})
    logger.finalize("success")
    assert hparams(logger.log_dir) == ({"lr": 0.5}, ["acc"])
    assert scalars(logger.log_dir) == {"acc": [(0, 0.75)]}


def test_a_second_run_does_not_hide_a_result_behind_the_placeholder(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"lr": 0.5})
    logger.log_metrics({"hp_metric": 0.75}, 9)
    logger.finalize("success")
    logger.log_hyperparams({"lr": 0.5})
    logger.finalize("success")
    assert scalars(logger.log_dir) == {"hp_metric": [(0, -1.0), (9, 0.75)]}


def test_without_hyperparameters_there_is_no_event(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({})
    logger.finalize("success")
    assert names(logger.log_dir) == ["hparams.yaml"]


# ---- the graph ----


class Branchy(TinyModule):
    """Draws random numbers and decides by value, which a tracer warns of."""

    def __init__(self):
        super().__init__()
        self.frozen = torch.nn.Dropout()
        self.frozen.eval()

    def forward(self, x, *, scale=1.0):
        if x.sum() > 0:
            x = x + torch.rand_like(x)
        return self.layer(self.frozen(x)) * scale


@pytest.mark.parametrize("example", [torch.ones(2, 8), (torch.ones(2, 8),), {"x": torch.ones(2, 8), "scale": torch.tensor(2.0)}])
def test_the_graph_is_drawn_and_the_module_is_as_before(example, tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger._log_graph = True
    module = Branchy()
    module.example_input_array = example
    weights, state = {key: value.clone() for key, value in module.state_dict().items()}, torch.get_rng_state()
    logger.log_graph(module)
    logger.finalize("success")
    found = events(logger.log_dir)
    assert found.Tags()["graph"] is True
    assert any("Linear[layer]" in node.name for node in found.Graph().node)
    assert (module.training, module.layer.training, module.frozen.training) == (True, True, False)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[key]) for key, value in module.state_dict().items())


def test_no_graph_is_drawn_unless_asked_for(tmp_path):
    module = TinyModule()
    module.example_input_array = torch.ones(2, 8)
    TensorBoardLogger(tmp_path).log_graph(module)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_without_an_example_is_said_to_be_missing(tmp_path):
    with pytest.warns(LeydenWarning) as warned:
        TensorBoardLogger(tmp_path, log_graph=True).log_graph(TinyModule())
    assert [str(warning.message) for warning in warned] == [
        "log_graph=True draws nothing: TinyModule.example_input_array is None; set it to an input of TinyModule.forward"
    ]


def test_an_error_while_drawing_is_the_users_own_with_a_note(tmp_path):
    module = TinyModule()
    module.example_input_array = torch.ones(2, 3)
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied") as error:
        logger.log_graph(module)
    assert error.value.__notes__ == ["log_graph=True: TinyModule.forward could not be drawn; log_graph=False trains without"]
    logger.finalize("failed")


# ---- options ----


def test_the_writers_options_are_those_of_the_client():
    from torch.utils.tensorboard import SummaryWriter

    assert list(inspect.signature(SummaryWriter).parameters) == ["log_dir", "comment", *WRITER_OPTIONS]


def test_options_reach_the_client(tmp_path):
    logger = TensorBoardLogger(tmp_path, filename_suffix=".mine", max_queue=3)
    assert (logger.experiment.filename_suffix, logger.experiment.max_queue) == (".mine", 3)
    logger.finalize("success")
    [name] = names(logger.log_dir)
    assert name.endswith(".mine")


OPTIONS = (
    "'save_dir', 'name', 'version', 'log_graph', 'default_hp_metric', 'prefix', 'sub_dir', "
    "'purge_step', 'max_queue', 'flush_secs', 'filename_suffix'"
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_queu": 5}, f"logger 'tensorboard' has no option 'max_queu'; did you mean 'max_queue'? Its options: {OPTIONS}"),
        ({"zzz": 5}, f"logger 'tensorboard' has no option 'zzz'; its options: {OPTIONS}"),
        (
            {"log_dir": "a"},
            "logger 'tensorboard' has no option 'log_dir'; events go to <save_dir>/<name>/version_N/<sub_dir>, give these",
        ),
        ({"log_graph": "yes"}, "TensorBoardLogger(log_graph='yes'): expected a bool, got str 'yes'"),
        ({"default_hp_metric": 1}, "TensorBoardLogger(default_hp_metric=1): expected a bool or None, got int 1"),
        ({"sub_dir": 1}, "TensorBoardLogger(sub_dir=1): expected a path or None, got int 1"),
        (
            {"comment": "a"},
            "logger 'tensorboard' has no option 'comment': the client uses it where it chooses the directory itself; give the "
            "run another name or version, or its file a filename_suffix",
        ),
    ],
)
def test_wrong_options_are_refused_at_once(options, message):
    with pytest.raises(TypeError) as error:
        TensorBoardLogger(**options)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("max_queue", "x", "an int >= 1, got str 'x'"), ("max_queue", 0, "an int >= 1, got int 0"),
        ("flush_secs", "a", "a number above 0, got str 'a'"), ("flush_secs", -1, "a number above 0, got int -1"),
        ("filename_suffix", 3, "a str without '/', got int 3"), ("filename_suffix", "/x", "a str without '/', got str '/x'"),
        ("purge_step", "x", "an int or None, got str 'x'"), ("sub_dir", "../x", "a directory below that of the run"),
        ("sub_dir", "/x", "a directory below that of the run"),
    ],
)  # fmt: skip
def test_values_that_would_end_the_clients_thread_are_refused_at_once(option, value, expected):
    with pytest.raises(ValueError) as error:
        TensorBoardLogger(**{option: value})
    assert str(error.value) == f"TensorBoardLogger({option}={value!r}): expected {expected}"


def test_a_whole_number_that_is_too_large_for_a_float_is_infinite(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"large": 10**400, "small": -(10**400)}, 0)
    logger.finalize("success")
    found = {key: values[0][1] for key, values in scalars(logger.log_dir).items()}
    assert found == {"large": float("inf"), "small": float("-inf")}


def test_a_missing_client_is_said_when_the_logger_is_built(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ModuleNotFoundError) as error:
        TensorBoardLogger()
    assert str(error.value) == (
        "logger 'tensorboard' needs TensorBoard's client, which is not installed; run: pip install tensorboard, "
        "or choose logger='csv'"
    )


# ---- faults ----


def test_a_run_directory_deleted_while_training_is_made_again(tmp_path):
    logger = TensorBoardLogger(tmp_path, sub_dir="events")
    logger.log_metrics({"loss": 1.0}, 0)
    logger.save()
    shutil.rmtree(tmp_path / "leyden_logs")
    with pytest.warns(LeydenWarning, match="was deleted while the run wrote to it; it was made again"):
        assert logger.experiment is not None
    logger.log_metrics({"loss": 2.0}, 1)
    logger.log_metrics({"loss": 3.0}, 2)
    logger.finalize("success")
    assert scalars(logger.log_dir) == {"loss": [(1, 2.0), (2, 3.0)]}


KILLED = """
import os, signal, sys
from leyden_loggers import TensorBoardLogger

TensorBoardLogger.seconds_between_writes = 0.0  # every record at once
logger = TensorBoardLogger(sys.argv[1], version=0)
for step in range(57):
    logger.log_metrics({"loss": float(step)}, step)
if sys.argv[2] == "saved":
    logger.save()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("saved", "least"), [("saved", 57), ("", 57 - 12)])
def test_a_killed_process_loses_at_most_what_waits_in_the_clients_queue(saved, least, tmp_path):
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), saved])
    assert process.returncode == -signal.SIGKILL
    found = scalars(tmp_path / "leyden_logs/version_0")["loss"]
    assert found == [(step, float(step)) for step in range(len(found))]
    assert least <= len(found) <= 57


FULL_DISK = """
import resource, signal, sys, threading
from leyden_loggers import TensorBoardLogger

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
threading.excepthook = lambda arguments: None  # the client's thread prints its traceback
logger = TensorBoardLogger(sys.argv[1], version=0)
logger.log_metrics({"loss": 1.0}, 0)
logger.save()
resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))
try:
    logger.log_metrics({"loss": 2.0}, 1)
    logger.finalize("success")
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_what_the_clients_thread_could_not_write_is_an_error_with_the_path(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == (
        f"[Errno 27] the logger cannot write to {str(tmp_path / 'leyden_logs/version_0')!r}: File too large; "
        f"pass a save_dir that can be written to, or logger=False\n"
    )


def test_points_from_a_step_on_can_be_taken_back(tmp_path):
    first = TensorBoardLogger(tmp_path, version=0)
    for step in range(4):
        first.log_metrics({"loss": float(step)}, step)
    first.finalize("success")
    second = TensorBoardLogger(tmp_path, version=0)
    second.rewind(2)
    second.log_metrics({"loss": 9.0}, 2)
    second.finalize("success")
    assert scalars(second.log_dir) == {"loss": [(0, 0.0), (1, 1.0), (2, 9.0)]}
