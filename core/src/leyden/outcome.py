"""What a run in other processes leaves in the process that started it."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import torch

from leyden.data.transfer import apply_to_tensors

if TYPE_CHECKING:
    from leyden.trainer import Trainer

_ATTRIBUTES = (
    "progress", "history", "loaded_checkpoint", "should_stop", "interrupted", "came_to_its_end", "max_epochs",
    "num_training_batches", "num_val_batches", "num_sanity_val_batches", "num_test_batches", "num_predict_batches",
)  # fmt: skip
_METRICS = ("callback_metrics", "logged_metrics", "progress_bar_metrics")


def dump_outcome(trainer: Trainer, result: Any) -> bytes:
    """What rank 0 has after a run: the result, the module's weights, counters, metrics and what callbacks keep.

    Of a callback every attribute that can be pickled is taken, and none that cannot, such as an open file.

    Args:
        trainer: the Trainer of rank 0, after the run.
        result: what the run returned.

    Raises:
        TypeError: the result cannot be pickled.
    """
    module = trainer.module
    outcome = {
        "module": {} if module is None else dict(module.state_dict()),
        "attributes": {name: getattr(trainer, name) for name in _ATTRIBUTES},
        "metrics": {name: dict(getattr(trainer.metrics, name)) for name in _METRICS},
        "callbacks": [
            {name: value for name, value in vars(callback).items() if _can_be_sent(trainer, value)}
            for callback in trainer.callbacks
        ],
    }
    try:
        return _dumped(trainer, apply_to_tensors({**outcome, "result": result}, _to_cpu))
    except Exception as error:
        raise TypeError(
            f"what a run returns goes to the process that started it and must be picklable: {type(error).__name__}: {error}; "
            f"return tensors and plain data from predict_step, or pass return_predictions=False"
        ) from error


def take_outcome(trainer: Trainer, data: bytes) -> Any:
    """Puts what :func:`dump_outcome` gave into the Trainer and the module of this process; returns the run's result.

    Args:
        trainer: the Trainer that started the run.
        data: written by a process of the same run; it is unpickled.
    """
    outcome = _Unpickler(data, trainer).load()
    module = trainer.module
    if module is not None and outcome["module"]:
        module.load_state_dict(outcome["module"])
    for name, value in outcome["attributes"].items():
        setattr(trainer, name, value)
    for name, values in outcome["metrics"].items():
        getattr(trainer.metrics, name).update(values)
    for callback, attributes in zip(trainer.callbacks, outcome["callbacks"], strict=True):
        vars(callback).update(attributes)
    return outcome["result"]


def _shared(trainer: Trainer) -> list[Any]:
    """The objects that both processes have and that stay themselves, in an order both agree on."""
    parts = (trainer.strategy, trainer.accelerator, trainer.precision, trainer.profiler, trainer.environment)
    return [trainer, trainer.module, trainer.datamodule, trainer.metrics, *parts, *trainer.callbacks, *trainer.loggers]


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, trainer: Trainer) -> None:
        super().__init__(file)
        self.numbers = {id(value): number for number, value in enumerate(_shared(trainer)) if value is not None}

    def persistent_id(self, obj: Any) -> Any:
        return self.numbers.get(id(obj))


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, trainer: Trainer) -> None:
        super().__init__(io.BytesIO(data))
        self.shared = _shared(trainer)

    def persistent_load(self, pid: Any) -> Any:
        return self.shared[pid]


def _dumped(trainer: Trainer, value: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, trainer).dump(value)
    return file.getvalue()


def _can_be_sent(trainer: Trainer, value: Any) -> bool:
    try:
        _dumped(trainer, value)
    except Exception:
        return False
    return True


def _to_cpu(value: Any) -> Any:
    return value.detach().to("cpu").clone() if isinstance(value, torch.Tensor) else value
