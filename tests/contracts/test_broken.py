"""Each contract fails on a plug-in that breaks it, with the test that says what is wrong."""

from __future__ import annotations

import inspect
import itertools
import json

import pytest
import torch
from leyden import Accelerator, Callback, CheckpointIO, ClusterEnvironment, Logger, Precision, Profiler, Strategy
from leyden.testing import (
    AcceleratorContract,
    CallbackContract,
    CheckpointIOContract,
    EnvironmentContract,
    LoggerContract,
    PrecisionContract,
    ProfilerContract,
    StrategyContract,
)

KINDS = {
    AcceleratorContract: "accelerator",
    StrategyContract: "strategy",
    PrecisionContract: "precision",
    LoggerContract: "logger",
    CallbackContract: "callback",
    ProfilerContract: "profiler",
    EnvironmentContract: "environment",
    CheckpointIOContract: "checkpoint_io",
}


def failure(contract, plugin, test, root):
    """What a contract's test says of ``plugin``, a class; empty if it passes."""
    if contract is LoggerContract:
        members = {"logger": lambda self, root: plugin(root), "written": lambda self, logger: logger.written()}
    else:
        members = {KINDS[contract]: lambda self: plugin()}
    method = getattr(type("Author", (contract,), members)(), test)
    try:
        method(**{"tmp_path": root} if "tmp_path" in inspect.signature(method).parameters else {})
    except Exception as error:
        return str(error)
    return ""


# ---- accelerators ----


class Unnamed(Accelerator):
    name = ""


class Pretending(Accelerator):
    """Says that it is there, and counts no device."""

    @classmethod
    def device_count(cls):
        return 0

    def parse_devices(self, devices):
        return super().parse_devices(devices) if devices not in ("auto", 1) else [0]


class Indulgent(Accelerator):
    def parse_devices(self, devices):
        return [0]


class Bodiless(Accelerator):
    """Its device computes nothing."""

    def device(self, index):
        return torch.device("meta")


class OneShot(Accelerator):
    """Can be torn down once."""

    gone = False

    def teardown(self):
        if self.gone:
            raise RuntimeError("gone already")
        self.gone = True


class Unmeasured(Accelerator):
    def stats(self, device):
        return {"memory_bytes": None}


# ---- strategies ----


class Undecided(Strategy):
    @classmethod
    def priority(cls, accelerator, num_devices, num_nodes):
        return None


class Negating(Strategy):
    """Backward adds the gradients of the loss's negative."""

    def bind_backward(self, precision):
        return lambda loss: precision.backward(-loss)


class Losing(Strategy):
    """Lets go of the weights too."""

    def teardown(self, module):
        super().teardown(module)
        module.to("meta")


class Repeating(Strategy):
    """Runs each step twice."""

    def wrap_step(self, module, name):
        step = getattr(module, name)

        def twice(*args):
            step(*args)
            return step(*args)

        return twice


class Prefixing(Strategy):
    """Saves the module under names that are not its own."""

    def module_state(self, module):
        return {f"wrapped.{name}": tensor for name, tensor in super().module_state(module).items()}

    def load_module_state(self, module, state, strict=True):
        super().load_module_state(module, {name.removeprefix("wrapped."): tensor for name, tensor in state.items()}, strict)


class Forgetful(Strategy):
    """Loads nothing."""

    def load_module_state(self, module, state, strict=True):
        pass


class Impatient(Strategy):
    """Forgets the gradients of all but the last batch of a window."""

    def synchronize_gradients(self, module, enabled):
        module.zero_grad()


class Flat(Strategy):
    """Gathers without a dimension of ranks."""

    def all_gather(self, tensor):
        return tensor


class Leaking(Strategy):
    """Cannot be set up again before it was torn down twice."""

    open = 0

    def setup_environment(self):
        if self.open:
            raise RuntimeError("already open")
        self.open = 2

    def teardown(self, module):
        self.open -= 1


# ---- precisions ----


class Scaling(Precision):
    """Scales the loss and forgets to undo it."""

    def backward(self, loss, *args, **kwargs):
        super().backward(loss * 1024, *args, **kwargs)


class Silent(Precision):
    """Says that it did not step."""

    def step(self, optimizer, closure=None):
        super().step(optimizer, closure)
        return False


class Global(Precision):
    """Changes torch's default dtype for good."""

    def step(self, optimizer, closure=None):
        torch.set_default_dtype(torch.float64)
        return super().step(optimizer, closure)


class Amnesiac(Precision):
    """Has state and cannot take it back."""

    steps = 0

    def step(self, optimizer, closure=None):
        self.steps += 1
        return super().step(optimizer, closure)

    def state_dict(self):
        return {"steps": self.steps}


class Greedy(Precision):
    """Converts integers too."""

    def convert_module(self, module):
        for name, buffer in list(module.named_buffers()):
            setattr(module, name, buffer.float())


class Wedged(Precision):
    """A step that was prepared and not taken stops all later ones."""

    prepared = False

    def unscale(self, optimizer):
        if self.prepared:
            raise RuntimeError("unscaled already")
        self.prepared = True

    def step(self, optimizer, closure=None):
        self.prepared = False
        return super().step(optimizer, closure)


# ---- loggers ----


class JSONLogger(Logger):
    """A good logger of one file; the others break it."""

    name = "json"

    def __init__(self, root):
        self.path = root / "records.jsonl"
        self.records = []

    @property
    def log_dir(self):
        return str(self.path.parent)

    def log_metrics(self, metrics, step):
        self.records.append({**metrics, "step": step})

    def save(self):
        if self.records:
            with self.path.open("a") as file:
                file.writelines(json.dumps(record) + "\n" for record in self.records)
            self.records = []

    def finalize(self, status):
        self.save()

    def written(self):
        series = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            record = json.loads(line)
            for key in record.keys() - {"step"}:
                series.setdefault(key, []).append((record["step"], record[key]))
        return series


class Eager(JSONLogger):
    """Opens its file when it is built."""

    def __init__(self, root):
        super().__init__(root)
        self.path.touch()


class Dropping(JSONLogger):
    """Drops every second record."""

    def log_metrics(self, metrics, step):
        if step % 2:
            super().log_metrics(metrics, step)


class Overwriting(JSONLogger):
    """Each run of the Trainer writes over the one before."""

    def finalize(self, status):
        if self.records:
            self.path.unlink(missing_ok=True)
        super().finalize(status)


class Grabbing(JSONLogger):
    """Changes what it is given."""

    def log_metrics(self, metrics, step):
        metrics["step"] = step
        super().log_metrics(metrics, step)


class Literal(JSONLogger):
    """Takes hyperparameters of JSON's kinds only."""

    def log_hyperparams(self, params, metrics=None):
        json.dumps(params)


class Lazy(JSONLogger):
    """Writes only at a happy end."""

    def save(self):
        pass

    def finalize(self, status):
        if status == "success":
            super().save()


class Wandering(JSONLogger):
    """A new directory each time one asks."""

    def __init__(self, root):
        super().__init__(root)
        self.version = itertools.count()

    @property
    def log_dir(self):
        return f"{self.path.parent}/{next(self.version)}"


class Meddling(JSONLogger):
    """Cannot log infinities."""

    def log_metrics(self, metrics, step):
        json.dumps(dict(metrics), allow_nan=False)
        super().log_metrics(metrics, step)


# ---- callbacks ----


class Counting(Callback):
    """A good callback; the others break it."""

    def __init__(self):
        self.batches = 0

    def on_train_batch_end(self):
        self.batches += 1

    def state_dict(self):
        return {"batches": self.batches}

    def load_state_dict(self, state_dict):
        self.batches = state_dict["batches"]


class Deaf(Callback):
    """Answers nothing."""


class Trembling(Counting):
    """Moves the weights."""

    def on_train_batch_start(self, module):
        with torch.no_grad():
            module.layer.weight.add_(0.1)


class Forgetting(Counting):
    def load_state_dict(self, state_dict):
        pass


class Pickling(Counting):
    """Its state is an object."""

    def state_dict(self):
        return {"batches": self.batches, "self": type(self)}


class Numbered(Counting):
    """A key for each object."""

    @property
    def state_key(self):
        return f"Numbered-{id(self)}"


class SingleUse(Counting):
    """Cannot take part twice."""

    def on_fit_start(self):
        if self.batches:
            raise RuntimeError("used already")


# ---- profilers ----


class Swallowing(Profiler):
    """Loses what a function returns."""

    def wrap(self, function, action):
        def call(*args, **kwargs):
            function(*args, **kwargs)

        return call


class SwallowingSteps(Swallowing):
    """Loses the loss."""

    def wrap(self, function, action):
        return super().wrap(function, action) if action.endswith(".training_step") else function


class Speechless(Profiler):
    def summary(self):
        return None


class Vague(Profiler):
    """Its summary names no action."""

    def summary(self):
        return "it took some time"


# ---- environments ----


class Beyond(ClusterEnvironment):
    """A rank that its world does not have."""

    rank = 1


class Stringly(ClusterEnvironment):
    """Values as the variables hold them."""

    main_port = "29500"


class Fickle(ClusterEnvironment):
    """Another port each time."""

    ports = itertools.count(29500)

    @property
    def main_port(self):
        return next(self.ports)


class Unsure(ClusterEnvironment):
    @classmethod
    def detect(cls):
        return None


# ---- checkpoint IO ----


class Half(CheckpointIO):
    """Writes in place."""

    def save(self, checkpoint, path):
        with open(path, "wb") as file:  # noqa: PTH123  # the mistake that people make
            torch.save(checkpoint, file)


class Trusting(CheckpointIO):
    """Unpickles whatever there is."""

    def load(self, path, map_location="cpu"):
        return torch.load(path, weights_only=False)


class Littering(CheckpointIO):
    def save(self, checkpoint, path):
        super().save(checkpoint, path)
        super().save({"state_dict": {}}, f"{path}.backup")


class Strict(CheckpointIO):
    def remove(self, path):
        import os

        os.remove(path)  # noqa: PTH107  # the mistake that people make


class Torn(CheckpointIO):
    """Writes later, what there is then."""

    def save(self, checkpoint, path):
        self.later = lambda: CheckpointIO.save(self, checkpoint, path)

    def teardown(self):
        self.later()


class Neglectful(CheckpointIO):
    def after_save(self, function):
        pass


class SameSum(CheckpointIO):
    def checksum(self, path):
        return "42"


class Lossy(CheckpointIO):
    """Keeps the weights only."""

    def save(self, checkpoint, path):
        super().save({key: checkpoint[key] for key in ("state_dict", "epoch", "global_step")}, path)


BROKEN = [
    (AcceleratorContract, Unnamed, "test_says_who_it_is", "Unnamed.name is empty"),
    (
        AcceleratorContract,
        Pretending,
        "test_availability_agrees_with_the_count",
        "is_available() is True but device_count() is 0",
    ),
    (
        AcceleratorContract,
        Indulgent,
        "test_refuses_devices_that_do_not_exist",
        "Indulgent.parse_devices(0) returned [0]; expected ValueError",
    ),
    (AcceleratorContract, Bodiless, "test_every_device_holds_a_tensor", "Tensor.item() cannot be called on meta tensors"),
    (AcceleratorContract, OneShot, "test_teardown_can_be_called_again", "gone already"),
    (AcceleratorContract, OneShot, "test_serves_several_runs_and_survives_a_failed_one", "gone already"),
    (
        AcceleratorContract,
        Unmeasured,
        "test_stats_are_numbers_by_name",
        "stats()['memory_bytes'] is None, not a float",
    ),
    (StrategyContract, Undecided, "test_says_who_it_is", "priority() returned None, not an int"),
    (StrategyContract, Negating, "test_trains_as_the_plain_case_does", "after one epoch the weights are 0.297"),
    (
        StrategyContract,
        Losing,
        "test_the_module_is_on_the_device_in_a_run_and_on_the_cpu_after_it",
        "after the run the weights are on meta",
    ),
    (
        StrategyContract,
        Repeating,
        "test_each_batch_runs_the_users_step_once",
        "training_step ran for batches [0, 0, 1, 1, 2, 2, 3, 3], expected [0, 1, 2, 3]",
    ),
    (
        StrategyContract,
        Prefixing,
        "test_state_has_the_modules_own_names_and_loads_again",
        "module_state has the names ['wrapped.layer.bias', 'wrapped.layer.weight'], the module ['layer.bias', 'layer.weight']",
    ),
    (
        StrategyContract,
        Forgetful,
        "test_state_has_the_modules_own_names_and_loads_again",
        "load_module_state did not bring back what module_state gave",
    ),
    (
        StrategyContract,
        Forgetful,
        "test_a_checkpoint_resumes_to_the_run_that_would_have_been",
        "the resumed run ends 0.09",
    ),
    (
        StrategyContract,
        Impatient,
        "test_accumulates_gradients_as_the_plain_case_does",
        "with accumulated gradients the weights are ",
    ),
    (
        StrategyContract,
        Flat,
        "test_rank_and_communication_agree",
        "all_gather of shape (2,) returned shape (2,), expected (1, 2)",
    ),
    (StrategyContract, Leaking, "test_serves_several_runs_and_survives_a_failed_one", "already open"),
    (
        PrecisionContract,
        Scaling,
        "test_gradients_are_the_true_ones_before_a_step",
        "step 0: on_before_optimizer_step sees gradients 580.",
    ),
    (
        PrecisionContract,
        Silent,
        "test_trains_nearly_as_full_precision_does",
        "4 batches made 0 optimizer steps: step() must return True for each",
    ),
    (
        PrecisionContract,
        Global,
        "test_leaves_torch_as_it_was",
        "a run left torch's default dtype at torch.float64, it was torch.float32",
    ),
    (
        PrecisionContract,
        Amnesiac,
        "test_state_makes_a_round_trip",
        "state_dict() is {'steps': 0} after loading {'steps': 4}",
    ),
    (
        PrecisionContract,
        Greedy,
        "test_leaves_integers_and_booleans_alone",
        "convert_module made integers and booleans {'count': torch.float32, 'mask': torch.float32}",
    ),
    (PrecisionContract, Wedged, "test_serves_several_runs_and_survives_a_failed_one", "unscaled already"),
    (
        LoggerContract,
        Eager,
        "test_nothing_is_created_before_something_is_logged",
        "before anything was logged there are ['records.jsonl']",
    ),
    (
        LoggerContract,
        Dropping,
        "test_every_record_of_a_run_can_be_read_back",
        "train_loss was logged at steps [0, 1, 2, 3, 4, 5, 6, 7] but reads back at [1, 3, 5, 7]",
    ),
    (
        LoggerContract,
        Overwriting,
        "test_a_second_run_of_the_same_trainer_continues",
        "train_loss was logged at steps [0, 1, 2, 3] but reads back at []",
    ),
    (
        LoggerContract,
        Grabbing,
        "test_leaves_the_metrics_it_is_given_alone",
        "log_metrics changed the mapping it was given to {'a': 1.0, 'epoch': 0.0, 'step': 0}",
    ),
    (LoggerContract, Literal, "test_takes_hyperparameters_of_any_kind", "Object of type PosixPath is not JSON serializable"),
    (
        LoggerContract,
        Lazy,
        "test_a_failed_run_is_finalized_and_keeps_its_records",
        "train_loss was logged at steps [0] but reads back at []",
    ),
    (
        LoggerContract,
        Lazy,
        "test_what_was_saved_can_be_read_before_the_end",
        "a was logged at steps [0] but reads back at []",
    ),
    (LoggerContract, Wandering, "test_a_second_run_of_the_same_trainer_continues", "log_dir was "),
    (
        LoggerContract,
        Meddling,
        "test_takes_values_that_are_no_numbers",
        "Out of range float values are not JSON compliant",
    ),
    (CallbackContract, Deaf, "test_answers_a_hook", "Deaf answers no hook, so it would never be called"),
    (
        CallbackContract,
        Trembling,
        "test_training_goes_as_without_it",
        "with the callback the weights end 0.4",
    ),
    (
        CallbackContract,
        Forgetting,
        "test_a_checkpoint_brings_its_state_back",
        "state_dict() was {'batches': 4} when saved and is {'batches': 0} when resumed",
    ),
    (
        CallbackContract,
        Pickling,
        "test_a_checkpoint_brings_its_state_back",
        "a checkpoint holds tensors, numbers, strings, lists and dicts only, but callbacks['Pickling']['self'] is a ",
    ),
    (
        CallbackContract,
        Numbered,
        "test_state_key_tells_what_it_is_and_not_which_object",
        "two callbacks with equal options have the ",
    ),
    (CallbackContract, SingleUse, "test_serves_several_runs_and_survives_a_failed_one", "used already"),
    (
        ProfilerContract,
        Swallowing,
        "test_a_wrapped_function_does_what_it_did",
        "a wrapped function returned None, expected (1, 2)",
    ),
    (
        ProfilerContract,
        SwallowingSteps,
        "test_training_goes_as_without_it",
        "with the profiler the weights end ",
    ),
    (
        ProfilerContract,
        Speechless,
        "test_summary_is_text_before_and_after_a_run",
        "summary() returned None before anything was measured",
    ),
    (
        ProfilerContract,
        Vague,
        "test_summary_is_text_before_and_after_a_run",
        "summary() does not name TinyModule.training_step: it took some time",
    ),
    (EnvironmentContract, Beyond, "test_ranks_are_consistent", "rank 1 is not below 1"),
    (
        EnvironmentContract,
        Stringly,
        "test_the_meeting_point_is_a_host_and_a_port",
        "main_port is '29500', not an int from 0 to 65535",
    ),
    (EnvironmentContract, Fickle, "test_answers_stay_the_same", "main_port was ("),
    (
        EnvironmentContract,
        Unsure,
        "test_detect_and_creates_processes_externally_are_yes_or_no",
        "detect() returned None, not a bool",
    ),
    (
        CheckpointIOContract,
        Half,
        "test_a_failed_save_leaves_what_stood_there",
        "a save that failed half-way changed the files: there are ['a.ckpt']",
    ),
    (
        CheckpointIOContract,
        Trusting,
        "test_load_runs_nothing_that_a_file_names",
        "Trusting.load(<PosixPath>) returned ",
    ),
    (
        CheckpointIOContract,
        Littering,
        "test_save_writes_nothing_beside_the_checkpoint",
        "save left ['a.ckpt', 'a.ckpt.backup']",
    ),
    (CheckpointIOContract, Strict, "test_remove_deletes_and_forgives_what_is_gone", "[Errno 2] No such file or directory"),
    (
        CheckpointIOContract,
        Torn,
        "test_what_was_saved_may_change_right_afterwards",
        "what was saved changed after save had returned",
    ),
    (
        CheckpointIOContract,
        Neglectful,
        "test_what_is_to_happen_after_a_save_happens_when_the_file_is_there",
        "after_save's function was called 0 times",
    ),
    (CheckpointIOContract, SameSum, "test_a_checksum_is_another_one_for_another_file", "two files have one checksum, '42'"),
    (CheckpointIOContract, Lossy, "test_load_gives_what_save_took", "load gave "),
]


@pytest.mark.parametrize(
    ("contract", "plugin", "test", "says"),
    [pytest.param(*row, id=f"{row[1].__name__} {row[2].removeprefix('test_')}") for row in BROKEN],
)
def test_a_broken_plugin_fails_the_contract(contract, plugin, test, says, tmp_path):
    assert failure(contract, plugin, test, tmp_path).startswith(says)


@pytest.mark.parametrize("contract", KINDS, ids=lambda contract: contract.__name__)
def test_every_contract_has_been_seen_to_fail(contract):
    assert contract in {row[0] for row in BROKEN}


@pytest.mark.parametrize(("contract", "plugin"), [(LoggerContract, JSONLogger), (CallbackContract, Counting)])
def test_the_good_ones_that_the_broken_derive_from_pass(contract, plugin, tmp_path):
    for name in (name for name in dir(contract) if name.startswith("test_")):
        (tmp_path / name).mkdir()
        assert failure(contract, plugin, name, tmp_path / name) == ""
