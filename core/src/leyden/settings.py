"""The Trainer's settings that are plain values."""

from __future__ import annotations

import os
from typing import Any

from leyden import arguments
from leyden.compile import check_options
from leyden.data.loaders import INFINITE
from leyden.intervals import Interval
from leyden.messages import quoted


class Settings:
    """Settings, under the names of the Trainer's arguments; ``fast_dev_run`` and ``barebones`` have changed the others."""

    def __init__(self, given: dict[str, Any]) -> None:
        """Takes the plain settings out of the Trainer's arguments, which must have been checked."""
        if given["barebones"]:
            for argument in ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"):
                if given[argument]:
                    raise ValueError(
                        f"Trainer(barebones=True) has none of that: {argument}={quoted(given[argument], argument)} "
                        f"cannot be given with it"
                    )
                given[argument] = False
            given["num_sanity_val_steps"] = given["num_sanity_val_steps"] or 0
        runs = int(given["fast_dev_run"])
        if runs:
            given.update(max_epochs=1, max_steps=runs, num_sanity_val_steps=0, val_check_interval=1.0, check_val_every_n_epoch=1)
            given.update({f"limit_{stage}_batches": runs for stage in ("train", "val", "test", "predict")})
            given.update(logger=False, enable_checkpointing=False)

        def setting(name: str, default: Any) -> Any:
            return default if given[name] is None else given[name]

        self.fast_dev_run: int = runs
        self.barebones: bool = given["barebones"]
        self.num_nodes: int = given["num_nodes"]
        self.max_steps: int = given["max_steps"]
        for low, high in (("min_epochs", "max_epochs"), ("min_steps", "max_steps")):
            if not runs and given[low] is not None and given[high] not in (None, -1) and given[low] > given[high]:
                raise ValueError(f"Trainer({low}={given[low]}, {high}={given[high]}): the minimum is above the maximum")
        self.max_epochs_given: int | None = given["max_epochs"]
        self.max_epochs: int = -1 if given["max_epochs"] is None else given["max_epochs"]
        self.min_epochs: int | None = given["min_epochs"]
        self.min_steps: int | None = given["min_steps"]
        self.max_time = None if given["max_time"] is None else arguments.duration(given["max_time"], "max_time")
        self.limit_train_batches: float = setting("limit_train_batches", 1.0)
        self.limit_val_batches: float = setting("limit_val_batches", 1.0)
        self.limit_test_batches: float = setting("limit_test_batches", 1.0)
        self.limit_predict_batches: float = setting("limit_predict_batches", 1.0)
        self.check_val_every_n_epoch: int | None = given["check_val_every_n_epoch"]
        self._take_validation_interval(setting("val_check_interval", 1.0))
        self.num_sanity_val_steps: float = INFINITE if given["num_sanity_val_steps"] == -1 else setting("num_sanity_val_steps", 2)
        self.log_every_n_steps: int = setting("log_every_n_steps", 50)
        self.enable_checkpointing: bool | None = given["enable_checkpointing"]
        self.enable_progress_bar: bool | None = given["enable_progress_bar"]
        self.enable_model_summary: bool | None = given["enable_model_summary"]
        self.accumulate_grad_batches: int = given["accumulate_grad_batches"]
        self.carry_accumulation: bool = given["carry_accumulation"]
        self.gradient_clip_val: float | None = given["gradient_clip_val"]
        self.gradient_clip_algorithm: str | None = given["gradient_clip_algorithm"]
        self.deterministic: bool | str | None = given["deterministic"]
        self.benchmark: bool | None = given["benchmark"]
        self.inference_mode: bool = given["inference_mode"]
        self.compile_options = check_options(given["compile"])
        self.detect_anomaly: bool = given["detect_anomaly"]
        self.reload_dataloaders_every_n_epochs: int = given["reload_dataloaders_every_n_epochs"]
        self.default_root_dir: str = os.fspath(given["default_root_dir"] or os.getcwd())  # noqa: PTH109  # a URL is no Path
        self.overfit_batches: float = given["overfit_batches"]
        self.nan_policy: str | None = given["nan_policy"]
        self.loader_key_template: str = given["loader_key_template"]
        self.grace_s: float | None = given["grace_s"]
        self.auto_resume: bool = given["auto_resume"]
        self.on_interrupt: str | None = given["on_interrupt"]
        self.use_distributed_sampler: bool = given["use_distributed_sampler"]
        self.sync_batchnorm: bool = given["sync_batchnorm"]
        self.enable_autolog_hparams: bool = given["enable_autolog_hparams"]

    def _take_validation_interval(self, given: Any) -> None:
        self.val_check_interval: float = 1.0
        self.val_check_seconds: float | None = None
        self.val_check_steps: int | None = None
        self.val_check_samples: int | None = None
        if isinstance(given, int | float):
            self.val_check_interval = given
        elif not isinstance(given, Interval):
            self.val_check_seconds = arguments.duration(given, "val_check_interval").total_seconds()
        elif given.unit == "second":
            self.val_check_seconds = given.count
        elif given.unit == "step":
            self.val_check_steps = int(given.count)
            self.check_val_every_n_epoch = None
        elif given.unit == "sample":
            self.val_check_samples = int(given.count)
            self.check_val_every_n_epoch = None
        elif given.unit == "batch":
            self.val_check_interval = int(given.count)
            self.check_val_every_n_epoch = None
        else:
            self.check_val_every_n_epoch = int(given.count)
